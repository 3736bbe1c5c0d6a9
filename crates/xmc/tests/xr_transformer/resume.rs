//! Neither interruptions nor threads change a bit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use xmc::events::{Events, Silent, StageReport};
use xmc::methods::TrainOptions;

use crate::toy::Messages;
use crate::world::{World, options};

/// Dies when a stage begins, and remembers which ones were loaded.
#[derive(Default)]
struct Mortal {
    death: &'static str,
    loaded: Mutex<Vec<String>>,
}

impl Events for Mortal {
    fn stage_started(&self, name: &str) {
        assert!(name != self.death, "power cut");
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

/// Trains once without and once with deaths at the beginning of all stages but the first, and compares.
fn dies_everywhere(sets: &[&str], stages: &[&'static str]) {
    let world = World::new();
    world.train("whole", sets, &options(), &Silent).unwrap();
    for (i, &death) in stages.iter().enumerate().skip(1) {
        let life = Mortal { death, ..Mortal::default() };
        let options = if i == 1 { options() } else { resumed() };
        assert!(catch_unwind(AssertUnwindSafe(|| world.train("cut", sets, &options, &life))).is_err());
        assert_eq!(life.loaded.into_inner().unwrap(), stages[..i - 1], "{death}");
    }
    let life = Mortal::default();
    world.train("cut", sets, &resumed(), &life).unwrap();
    assert_eq!(life.loaded.into_inner().unwrap(), stages[..stages.len() - 1]);
    assert!(world.files("whole") == world.files("cut"));
    assert!(!world.out("cut.run").exists());
}

#[test]
fn an_interrupted_training_without_learning_ends_with_the_same_bits() {
    let stages = ["vectorizer", "tokens", "encoder", "embedding", "tree.0", "tree.1", "ranker.0", "ranker.1"];
    dies_everywhere(&["do_fine_tune=false", "trees=2"], &stages);
}

#[test]
fn an_interrupted_training_ends_with_the_same_bits() {
    let stages = [
        "vectorizer",
        "preliminary",
        "tokens",
        "level.1",
        "match.1",
        "level.2",
        "match.2",
        "level.3",
        "embedding",
        "tree.0",
        "ranker.0",
    ];
    dies_everywhere(&["training.negatives=tfn+man", "training.epochs=1"], &stages);
}

#[test]
fn the_same_encoder_elsewhere_continues_and_another_pooling_does_not() {
    let world = World::new();
    let cut = |sets: &[&str], death, options: &TrainOptions| {
        let (life, heard) = (Mortal { death, ..Mortal::default() }, Messages::default());
        let both = Both(&life, &heard);
        let _ = catch_unwind(AssertUnwindSafe(|| world.train("cut", sets, options, &both)));
        (life.loaded.into_inner().unwrap().len(), heard.contain("changed"))
    };
    assert_eq!(cut(&["do_fine_tune=false"], "tree.0", &options()), (0, false));
    let other = format!("encoder={}/../encoder", world.encoder.display());
    let sets = ["do_fine_tune=false", "training.checkpoint_minutes=7", &other];
    assert_eq!(cut(&sets, "tree.0", &resumed()), (4, false));
    assert_eq!(cut(&["do_fine_tune=false", "pooling=cls"], "tree.0", &resumed()), (0, true));
    assert_eq!(cut(&["do_fine_tune=false", "max_len=9"], "tree.0", &resumed()), (0, true));
}

/// Dies with the one, and tells the other.
struct Both<'a>(&'a Mortal, &'a Messages);

impl Events for Both<'_> {
    fn stage_started(&self, name: &str) {
        self.0.stage_started(name);
    }

    fn stage_finished(&self, report: &StageReport) {
        self.0.stage_finished(report);
    }

    fn message(&self, text: &str) {
        self.1.message(text);
    }
}

#[test]
fn what_is_ahead_is_said_only_while_it_is_ahead() {
    let world = World::new();
    for (kind, ahead) in
        [("do_fine_tune=false", "tokens to embed: about"), ("training.epochs=1", "steps of 32 rows")]
    {
        for (options, says) in [(options(), true), (resumed(), false)] {
            let (life, heard) = (Mortal { death: "tree.0", ..Mortal::default() }, Messages::default());
            let both = Both(&life, &heard);
            assert!(catch_unwind(AssertUnwindSafe(|| world.train("cut", &[kind], &options, &both))).is_err());
            assert_eq!((heard.contain(ahead), heard.contain("of memory")), (says, says), "{kind}");
        }
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let world = World::new();
    for kind in [&["do_fine_tune=false", "trees=2"][..], &["training.dropout=true", "training.epochs=1"]] {
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| world.train(&threads.to_string(), kind, &options(), &Silent)).unwrap();
        }
        assert!(world.files("1") == world.files("3"), "{kind:?}");
    }
}
