//! Neither interruptions nor threads change a bit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use xmc::events::{Events, Silent, StageReport};
use xmc::methods::TrainOptions;

use crate::world::{World, options};

/// Dies in a stage, at its beginning or after some steps, and remembers which stages were loaded.
#[derive(Default)]
struct Mortal {
    /// The stage, and the step; 0 is its beginning.
    death: (&'static str, u64),
    stage: Mutex<String>,
    loaded: Mutex<Vec<String>>,
    /// Steps after the first one of the stage of death, in this life.
    first: AtomicU64,
}

impl Mortal {
    fn new(stage: &'static str, step: u64) -> Self {
        Mortal { death: (stage, step), first: AtomicU64::new(u64::MAX), ..Mortal::default() }
    }

    fn dies_in_time(&self, step: u64) -> bool {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) == self.death.0 && step >= self.death.1
    }
}

impl Events for Mortal {
    fn stage_started(&self, name: &str) {
        name.clone_into(&mut self.stage.lock().unwrap());
        assert!(self.death.1 > 0 || !self.dies_in_time(0), "power cut");
    }

    fn progress(&self, done: u64, _total: u64) {
        if *self.stage.lock().unwrap() == self.death.0 {
            self.first.fetch_min(done, Ordering::Relaxed);
        }
        assert!(!self.dies_in_time(done), "power cut");
    }

    fn stage_finished(&self, report: &StageReport) {
        if report.resumed {
            self.loaded.lock().unwrap().push(report.name.clone());
        }
    }
}

fn resumed() -> TrainOptions {
    TrainOptions { resume: true, ..options() }
}

/// Trains once without and once with `deaths`, and compares; `stages` are all that there are.
fn dies(sets: &[&str], stages: &[&str], deaths: &[(&'static str, u64)]) {
    let world = World::new();
    let whole = world.train("whole", sets, &options(), &Silent).unwrap();
    let names: Vec<&str> = whole.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, stages);
    let place = |stage: &str| stages.iter().position(|&name| name == stage).unwrap();
    let mut reached = (stages[0], 0);
    for (i, &(stage, step)) in deaths.iter().enumerate() {
        let life = Mortal::new(stage, step);
        let options = if i == 0 { options() } else { resumed() };
        let died = catch_unwind(AssertUnwindSafe(|| world.train("cut", sets, &options, &life))).is_err();
        assert!(died, "{stage}, step {step}");
        assert_eq!(life.loaded.into_inner().unwrap(), stages[..place(reached.0)], "{stage}, step {step}");
        if step > 0 {
            // A step follows the last checkpoint.
            let before = if reached.0 == stage { reached.1 } else { 0 };
            assert_eq!(life.first.into_inner(), before + 1, "{stage}, step {step}");
        }
        reached = (stage, step);
    }
    let life = Mortal::default();
    world.train("cut", sets, &resumed(), &life).unwrap();
    assert_eq!(life.loaded.into_inner().unwrap(), stages[..place(reached.0)]);
    assert!(world.files("whole") == world.files("cut"));
    assert!(!world.out("cut.run").exists());
}

const STAGES: [&str; 10] = [
    "vectorizer",
    "cluster",
    "tokens",
    "warmup",
    "recluster",
    "stage1",
    "adjacency",
    "stage2",
    "parts",
    "ranker",
];

const ALL: &str =
    "stages=[\"cluster\",\"warmup\",\"recluster\",\"stage1\",\"adjacency\",\"stage2\",\"ranker\"]";

/// Every kind of chance, averages, and checkpoints after every step.
const RICH: [&str; 9] = [
    ALL,
    "training.dropout=true",
    "training.embedding_dropout=0.2",
    "training.checkpoint_minutes=0.0",
    "stage2.swa_start=1",
    "stage2.swa_every=7",
    "validation_rows=16",
    "ranker.calibrate=true",
    "label_embeddings=int8",
];

#[test]
fn a_training_interrupted_before_every_stage_ends_with_the_same_bits() {
    let deaths: Vec<_> = STAGES[1..].iter().map(|&stage| (stage, 0)).collect();
    dies(&RICH, &STAGES, &deaths);
}

#[test]
fn a_training_interrupted_within_its_phases_ends_with_the_same_bits() {
    // 144 rows learn: 9 steps an epoch.
    let deaths = [
        ("warmup", 1),
        ("warmup", 11),
        ("warmup", 18),
        ("stage1", 5),
        ("stage1", 9),
        ("stage2", 8),
        ("stage2", 17),
        ("stage2", 40),
        ("stage2", 53),
    ];
    dies(&RICH, &STAGES, &deaths);
}

#[test]
fn classifiers_in_a_file_and_in_half_the_memory_go_on_with_the_same_bits() {
    let stored = ["classifier.weights=bf16", "classifier.moments=row", "classifier.mapped=true"];
    let sets = [&RICH[..], &stored].concat();
    dies(&sets, &STAGES, &[("warmup", 7), ("stage1", 3), ("stage1", 30), ("stage2", 20), ("ranker", 0)]);
}

#[test]
fn an_encoder_that_stays_as_it_is_and_heads_without_an_index_go_on_with_the_same_bits() {
    let frozen = [
        "train_encoder=false",
        "training.checkpoint_minutes=0.0",
        "stages=[\"cluster\",\"stage1\",\"adjacency\",\"stage2\"]",
    ];
    let stages = ["vectorizer", "cluster", "tokens", "embedding", "stage1", "adjacency", "stage2", "parts"];
    dies(&frozen, &stages, &[("embedding", 0), ("stage1", 0), ("stage1", 4), ("stage2", 31), ("parts", 0)]);
    for head in ["head=one-vs-all", "head=batch"] {
        let sets = [head, "stages=[\"stage1\"]", "training.checkpoint_minutes=0.0"];
        dies(&sets, &["tokens", "stage1", "parts"], &[("stage1", 0), ("stage1", 22), ("parts", 0)]);
    }
}

#[test]
fn a_checkpoint_that_is_not_due_is_not_needed() {
    let sets = ["stages=[\"cluster\",\"stage1\"]", "training.checkpoint_minutes=9.0"];
    let world = World::new();
    world.train("whole", &sets, &options(), &Silent).unwrap();
    for (life, options) in [(Mortal::new("stage1", 20), options()), (Mortal::new("stage1", 30), resumed())] {
        assert!(catch_unwind(AssertUnwindSafe(|| world.train("cut", &sets, &options, &life))).is_err());
        assert_eq!(life.first.into_inner(), 1);
    }
    world.train("cut", &sets, &resumed(), &Silent).unwrap();
    assert!(world.files("whole") == world.files("cut"));
}

#[test]
fn threads_do_not_change_a_bit() {
    let world = World::new();
    for kind in [&RICH[..], &["head=batch", "stages=[\"stage1\"]"]] {
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| world.train(&threads.to_string(), kind, &options(), &Silent)).unwrap();
        }
        assert!(world.files("1") == world.files("2"), "{kind:?}");
    }
}

#[test]
fn a_run_that_began_with_another_model_is_not_gone_on_with() {
    let world = World::new();
    // The same encoder; other clusters and classifiers.
    for (name, epochs) in [("a", "stage1.epochs=1"), ("b", "stage1.epochs=2")] {
        let sets = ["stages=[\"cluster\",\"stage1\"]", "train_encoder=false", epochs];
        world.train(name, &sets, &options(), &Silent).unwrap();
    }
    let begin = |name: &str, life: &Mortal, options: &TrainOptions| {
        let encoder = format!("encoder={}", world.out(name).display());
        let sets = [encoder.as_str(), "stages=[\"adjacency\",\"stage2\"]", "train_encoder=false"];
        catch_unwind(AssertUnwindSafe(|| world.train("cut", &sets, options, life))).is_ok()
    };
    assert!(!begin("a", &Mortal::new("stage2", 0), &options()));
    let life = Mortal::new("stage2", 0);
    assert!(!begin("a", &life, &resumed()));
    assert!(life.loaded.into_inner().unwrap().contains(&"begin".to_owned()));
    let life = Mortal::default();
    assert!(begin("b", &life, &resumed()));
    assert_eq!(life.loaded.into_inner().unwrap(), Vec::<String>::new());
}
