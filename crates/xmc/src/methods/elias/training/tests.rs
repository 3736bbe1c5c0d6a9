use std::path::PathBuf;
use std::sync::Mutex;

use super::*;
use crate::encoder::PrecisionChoice;
use crate::events::Silent;
use crate::methods::elias::config::{ClassifierConfig, FirstBias, Head, IndexConfig, Moments, Stored};
use crate::methods::elias::stages;
use crate::methods::xr_transformer::toy::{LABELS, World};
use crate::run::Artifact;

/// A small world, and everything that a phase over it needs.
struct Case {
    world: World,
    config: EliasConfig,
    phase: Phase,
    stage: Stage,
    head: Head,
    of_label: Vec<u32>,
    edges: Csr,
    embeddings: Option<Dense>,
    validation: Vec<u32>,
}

/// Remembers what it is told.
#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Events for Heard {
    fn message(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

const HEADS: [(Head, Stage); 4] = [
    (Head::Index, Stage::Stage1),
    (Head::Index, Stage::Stage2),
    (Head::OneVsAll, Stage::Stage1),
    (Head::Batch, Stage::Stage1),
];

impl Case {
    fn new((head, stage): (Head, Stage)) -> Self {
        let mut config = EliasConfig { precision: PrecisionChoice::F32, head, ..EliasConfig::default() };
        let index = IndexConfig { alpha: 3.0, beta: 6.0, beam: 2, shortlist: 12, ..IndexConfig::default() };
        config.index = index;
        let training = &mut config.training;
        (training.batch_size, training.dropout, training.embedding_dropout) = (16, false, 0.1);
        let phase = Phase {
            epochs: 3.0,
            lr: 0.003,
            cluster_lr: 0.03,
            label_lr: 0.03,
            swa_start: 1,
            swa_every: 4,
            ..Phase::default()
        };
        let mut edges = xmc_data::CsrBuilder::new();
        for cluster in 0..6u32 {
            // Four of its own, and some of others.
            edges.push((0..LABELS).filter(|l| l % 6 == cluster || l % 5 == cluster).map(|l| (l, 1.0)));
        }
        Case {
            world: World::new(),
            config,
            phase,
            stage,
            head,
            of_label: (0..LABELS).map(|label| label % 6).collect(),
            edges: edges.finish(LABELS as usize).unwrap(),
            embeddings: None,
            validation: Vec::new(),
        }
    }

    fn task<'a>(&'a self, events: &'a dyn Events) -> PhaseTask<'a> {
        let World { tokens, start, y, .. } = &self.world;
        let texts = match &self.embeddings {
            Some(x) => Texts::Embeddings(x),
            None => Texts::Tokens { tokens, dir: &start.dir, tower: start.tower },
        };
        let edges = match (self.head, self.stage) {
            (Head::Index, Stage::Stage2) => Some(Edges::Learned(&self.edges)),
            (Head::Index, _) => Some(Edges::Fixed { of_label: &self.of_label, clusters: 6 }),
            _ => None,
        };
        PhaseTask {
            config: &self.config,
            phase: &self.phase,
            stage: self.stage,
            texts,
            y,
            validation: &self.validation,
            first: First { edges, earlier: None },
            seed: 3,
            device: Device::Cpu,
            events,
        }
    }

    fn folder(&self, name: &str) -> PathBuf {
        let dir = self.world.dir.path().join(name);
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// Trains to the end, and leaves the state there.
    fn learn(&self, name: &str) -> (Vec<f64>, Vec<(String, Vec<f32>)>) {
        let mut training = Training::begin(self.task(&Silent), &self.folder(name)).unwrap();
        let losses = run(&mut training, u64::MAX);
        (losses, state(&training))
    }

    /// Embeddings as the encoder makes them before it learns.
    fn embed(&mut self) {
        let World { tokens, start, .. } = &self.world;
        let tower = Tower::open(&start.dir, start.tower, Device::Cpu, xmc_nn::Precision::F32).unwrap();
        let all: Vec<u32> = (0..tokens.len() as u32).collect();
        let x = tower.embed_rows(tokens, &all, 10_000, &|_, _| ()).unwrap();
        self.embeddings = Some(Dense::new(x.rows(), x.cols(), x.into_host()).unwrap());
    }
}

/// Steps up to `until`, and their losses.
fn run(training: &mut Training<'_>, until: u64) -> Vec<f64> {
    let mut losses = Vec::new();
    while training.progress.step < training.steps.min(until) {
        losses.push(training.step().unwrap().loss);
    }
    losses
}

fn state(training: &Training<'_>) -> Vec<(String, Vec<f32>)> {
    training.learner.state().into_iter().map(|(name, values)| (name, values.to_vec())).collect()
}

fn bits(state: &[(String, Vec<f32>)]) -> Vec<(&str, Vec<u32>)> {
    state.iter().map(|(name, v)| (name.as_str(), v.iter().map(|v| v.to_bits()).collect())).collect()
}

/// Names of parameters in a state.
const PARAMETERS: [&str; 6] =
    ["tower", "head", "head.clusters", "head.edges", "head.labels.weights", "head.labels.biases"];

/// The largest difference between parameters (not what optimisers remember).
fn distance(a: &[(String, Vec<f32>)], b: &[(String, Vec<f32>)]) -> f32 {
    let parameters = |(name, _): &&(String, Vec<f32>)| PARAMETERS.contains(&name.as_str());
    let pairs = a.iter().filter(parameters).flat_map(|(name, a)| {
        let (_, b) = b.iter().find(|(other, _)| other == name).unwrap();
        a.iter().zip(b)
    });
    pairs.fold(0.0, |most: f32, (a, b)| most.max((a - b).abs()))
}

/// Asserts that a training killed after each of `kills` steps ends as one that was not; returns how it ends.
fn goes_on(case: &Case, kills: &[u64]) -> Vec<(String, Vec<f32>)> {
    let (_, whole) = case.learn("whole");
    for &kill in kills {
        let dir = case.folder(&format!("killed-{kill}"));
        let mut training = Training::begin(case.task(&Silent), &dir).unwrap();
        run(&mut training, kill);
        training.checkpoint().unwrap();
        // What is not in the checkpoint is lost.
        training.step().unwrap();
        drop(training);
        let mut training = Training::begin(case.task(&Silent), &dir).unwrap();
        assert_eq!(training.progress.step, kill);
        run(&mut training, u64::MAX);
        assert!(bits(&state(&training)) == bits(&whole), "{:?} killed after {kill}", case.head);
    }
    whole
}

#[test]
fn a_killed_training_goes_on_to_the_same_bits() {
    for head in HEADS {
        // Within the first epoch, at its end, right after, and before the last step: 6 steps make an epoch.
        goes_on(&Case::new(head), &[1, 6, 7, 17]);
    }
}

#[test]
fn so_does_one_whose_classifiers_take_half_the_memory_or_lie_in_a_file() {
    let with = |weights, moments, mapped| {
        let mut case = Case::new((Head::Index, Stage::Stage2));
        case.config.classifier = ClassifierConfig { weights, moments, mapped, ..case.config.classifier };
        goes_on(&case, &[4, 13])
    };
    let memory = with(Stored::F32, Moments::Element, false);
    assert!(bits(&memory) == bits(&with(Stored::F32, Moments::Element, true)));
    let half = with(Stored::Bf16, Moments::Row, true);
    let len = |state: &[(String, Vec<f32>)]| {
        state.iter().find(|(name, _)| name == "head.labels.weights").map(|(_, values)| values.len())
    };
    assert_eq!(len(&memory), len(&half).map(|n| 2 * n));
}

#[test]
fn threads_change_no_bit() {
    for head in HEADS {
        let case = Case::new(head);
        let with = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| case.learn(&format!("threads-{threads}")))
        };
        let (one, two) = (with(1), with(2));
        assert!(bits(&one.1) == bits(&two.1) && one.0 == two.0, "{head:?}");
    }
}

#[test]
fn the_loss_falls_and_labels_are_found() {
    for head in HEADS {
        let mut case = Case::new(head);
        (case.phase.epochs, case.phase.swa_start) = (40.0, 0);
        let mut training = Training::begin(case.task(&Silent), &case.folder("x")).unwrap();
        let losses = run(&mut training, u64::MAX);
        let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
        let (first, last) = (mean(&losses[..10]), mean(&losses[losses.len() - 10..]));
        assert!(last < 0.6 * first, "{head:?}: {first} {last}");
        let (y, all) = (&case.world.y, (0..case.world.y.rows() as u32).collect::<Vec<_>>());
        let found = training.learner.best(&all, 1).unwrap();
        let labelled = all.iter().filter(|&&i| !y.row(i as usize).is_empty()).count();
        let right = all.iter().filter(|&&i| {
            found.row(i as usize).first().is_some_and(|(label, _)| y.row(i as usize).get(*label) > 0.0)
        });
        let right = right.count();
        assert!(right * 10 >= labelled * 7, "{head:?}: {right} of {labelled}");
    }
}

#[test]
fn micro_batches_change_nothing_beyond_rounding() {
    for head in HEADS {
        let mut case = Case::new(head);
        (case.phase.epochs, case.config.training.adam_epsilon) = (1.0, 1e-3);
        case.phase.swa_start = 0;
        let mut with = |budget: usize| {
            case.config.training.tokens_per_batch = budget;
            case.learn(&format!("budget-{budget}"))
        };
        let whole = with(10_000);
        for budget in [1, 20] {
            let parts = with(budget);
            assert!(whole.0.iter().zip(&parts.0).all(|(a, b)| (a - b).abs() < 1e-4), "{head:?}");
            let distance = distance(&whole.1, &parts.1);
            assert!(distance < 5e-4, "{head:?}, budget {budget}: {distance}");
        }
    }
}

#[test]
fn embeddings_that_stay_are_an_encoder_that_does_not_move() {
    for head in HEADS {
        let mut case = Case::new(head);
        (case.phase.epochs, case.phase.lr, case.config.training.adam_epsilon) = (1.0, 0.0, 1e-3);
        let (losses, tower) = case.learn("tower");
        case.embed();
        let (others, fixed) = case.learn("fixed");
        assert!(losses.iter().zip(&others).all(|(a, b)| (a - b).abs() < 1e-4), "{head:?}");
        let distance = distance(&fixed, &tower);
        assert!(distance < 5e-4, "{head:?}: {distance}");
    }
}

#[test]
fn the_average_is_the_mean_of_the_parameters_it_was_shown() {
    HEADS.into_iter().for_each(average_is_the_mean);
}

fn average_is_the_mean(head: (Head, Stage)) {
    let mut case = Case::new(head);
    // Without decay no row owes any, and what the state shows is what there is.
    (case.phase.swa_every, case.config.training.weight_decay) = (5, 0.0);
    let mut training = Training::begin(case.task(&Silent), &case.folder("x")).unwrap();
    let mut shown: Vec<Vec<(String, Vec<f32>)>> = Vec::new();
    while training.progress.step < training.steps {
        training.step().unwrap();
        // The end of the first epoch, every fifth step after it, and the end.
        if [6, 10, 15, 18].contains(&training.progress.step) {
            shown.push(state(&training));
        }
    }
    assert_eq!((shown.len(), training.learner.averaged()), (4, 4));
    training.learner.use_average().unwrap();
    let parameters = state(&training);
    // All but edges, which stay as they are.
    let averaged = |name: &&str| PARAMETERS.contains(name) && *name != "head.edges";
    for (name, found) in parameters.iter().filter(|(name, _)| averaged(&name.as_str())) {
        for (i, found) in found.iter().enumerate() {
            let value = |state: &Vec<(String, Vec<f32>)>| {
                f64::from(state.iter().find(|(other, _)| other == name).unwrap().1[i])
            };
            let want = shown.iter().map(value).sum::<f64>() / shown.len() as f64;
            assert!((f64::from(*found) - want).abs() < 1e-5, "{name} {i}: {found} {want}");
        }
    }
}

#[test]
fn rows_that_validate_do_not_train_and_are_measured_after_each_epoch() {
    for head in HEADS {
        let mut case = Case::new(head);
        case.validation = (0..case.world.y.rows() as u32).step_by(4).collect();
        let heard = Heard::default();
        let dir = case.folder("x");
        let mut training = Training::begin(case.task(&heard), &dir).unwrap();
        assert_eq!((training.rows.len(), training.steps), (72, 15));
        let mut met = Vec::new();
        for _ in 0..5 {
            met.extend(training.batch());
            training.step().unwrap();
        }
        met.sort_unstable();
        assert_eq!(met, training.rows);
        drop(training);
        fit(&case.task(&heard), &dir).unwrap();
        let heard = heard.0.into_inner().unwrap();
        for place in ["epoch 1: loss", "epoch 2: loss", "epoch 3: loss", "mean of 4 sets of parameters: loss"]
        {
            let line = heard.iter().find(|line| line.starts_with(&format!("{}, {place}", name(head.1))));
            let line = line.unwrap_or_else(|| panic!("{place} of {heard:?}"));
            assert!(line.contains("P@1 ") && line.contains("R@10 "), "{line}");
        }
    }
}

#[test]
fn what_a_phase_leaves_is_read_back_and_can_go_on() {
    for head in HEADS {
        let case = Case::new(head);
        let (unfinished, dir) = (case.folder("unfinished"), case.folder("done"));
        assert!(Trained::load(&dir).is_err());
        fit(&case.task(&Silent), &unfinished).unwrap().save(&dir).unwrap();
        assert!(matches!(Trained::load(&dir).unwrap(), Trained::Earlier));
        let encoder = stages::encoder(&dir).unwrap();
        assert!(encoder.join("model.safetensors").is_file() && encoder.join("tokenizer.json").is_file());
        let classifiers = stages::classifiers(&dir).unwrap();
        assert_eq!((classifiers.rows(), classifiers.dim()), (LABELS as usize, 25));

        let task = PhaseTask {
            first: First { earlier: Some(&dir), ..case.task(&Silent).first },
            ..case.task(&Silent)
        };
        let next = Training::begin(task, &case.folder("next")).unwrap();
        let first = state(&next);
        assert_eq!(
            weights(&first),
            (0..LABELS as usize).flat_map(|l| classifiers.row(l).to_vec()).collect::<Vec<_>>()
        );
        let run = |wanted: &str| first.iter().find(|(name, _)| name == wanted).map(|(_, values)| values);
        match run("head.clusters") {
            Some(found) => {
                assert_eq!(
                    (25, found),
                    (stages::clusters(&dir).unwrap().0, &stages::clusters(&dir).unwrap().1)
                );
                let graph = stages::graph(&dir, 6.0).unwrap();
                assert_eq!(graph.logits().is_some(), case.stage == Stage::Stage2);
            }
            None => assert!(stages::clusters(&dir).is_err() && stages::graph(&dir, 6.0).is_err()),
        }
    }
}

/// Classifiers `[L, d + 1]` of a state.
fn weights(state: &[(String, Vec<f32>)]) -> Vec<f32> {
    let get =
        |wanted: &str| state.iter().find(|(name, _)| name == wanted).map(|(_, values)| values.as_slice());
    match (get("head"), get("head.labels.weights"), get("head.labels.biases")) {
        (_, Some(weights), Some(biases)) => {
            let rows = weights.chunks_exact(weights.len() / biases.len()).zip(biases);
            rows.flat_map(|(row, bias)| row.iter().chain([bias])).copied().collect()
        }
        (head, ..) => head.unwrap().to_vec(),
    }
}

#[test]
fn a_training_that_leaves_the_ground_says_what_to_lower() {
    for head in HEADS {
        let mut case = Case::new(head);
        (case.phase.lr, case.config.training.weight_decay) = (1e30, 0.0);
        let error = fit(&case.task(&Silent), &case.folder("x")).err().unwrap().to_string();
        let phase = name(head.1);
        let expected = [format!("{phase}.lr (now 1000"), format!("{phase}, step ")];
        assert!(expected.iter().all(|part| error.contains(part)), "{error}");
    }
}

#[test]
fn all_rows_set_aside_leave_none_to_train_with() {
    let mut case = Case::new(HEADS[0]);
    case.validation = (0..case.world.y.rows() as u32).collect();
    let error = fit(&case.task(&Silent), &case.folder("x")).err().unwrap().to_string();
    assert!(error.contains("set a smaller validation_rows"), "{error}");
}

#[test]
fn labels_that_are_never_compared_begin_below_the_others() {
    for (head, bias) in [Head::Batch, Head::Index]
        .into_iter()
        .flat_map(|h| [FirstBias::Zero, FirstBias::Prior].map(|b| (h, b)))
    {
        let mut case = Case::new((head, Stage::Stage1));
        case.config.classifier.bias = bias;
        let y = &case.world.y;
        let rows_with =
            |label: u32| (0..y.rows() as u32).filter(move |&i| y.row(i as usize).get(label) > 0.0);
        // No row of label 5 trains, and no cluster leads to label 3.
        case.validation = rows_with(5).collect();
        let rows = y.rows() - case.validation.len();
        let lost = if head == Head::Batch { 5 } else { 3 };
        let own = rows_with(lost).filter(|row| !case.validation.contains(row)).count();
        case.of_label[3] = u32::MAX;
        let training = Training::begin(case.task(&Silent), &case.folder("x")).unwrap();
        let found = weights(&state(&training))[lost as usize * 25 + 24];
        let q = (own as f64 + 0.5) / (rows as f64 + 1.0);
        assert!(
            (f64::from(found) - (q / (1.0 - q)).ln()).abs() < 1e-5,
            "{head:?} {bias:?}: {found}, {own} of {rows}"
        );
    }
}
