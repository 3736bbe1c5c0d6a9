//! What training promises beyond a model of its data: it measures what it can, and answers do not depend on how many
//! are asked for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::sync::Mutex;

use tempfile::TempDir;
use xmc::config;
use xmc::evaluation::{EvaluateOptions, evaluate};
use xmc::events::Events;
use xmc::methods::xr_linear::{self, Summary, TrainOptions, XrLinearConfig};
use xmc::model::{Model, PredictOptions, Predictor};
use xmc_data::dataset::{Dataset, Part};
use xmc_data::{Csr, CsrBuilder, LabelSet, Strings};

const LABELS: usize = 150;
const ROWS: usize = 600;

#[derive(Default)]
struct Messages(Mutex<Vec<String>>);

impl Events for Messages {
    fn message(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }
}

/// Row i has feature f and label f = i mod L, and a second of each.
fn features() -> Csr {
    let mut x = CsrBuilder::new();
    for i in 0..ROWS {
        x.push([((i % LABELS) as u32, 1.0), ((i * 7 % LABELS) as u32, 0.5)]);
    }
    x.finish(LABELS).unwrap()
}

fn labels() -> Csr {
    let mut y = CsrBuilder::new();
    for i in 0..ROWS {
        y.push([((i % LABELS) as u32, 1.0)]);
    }
    y.finish(LABELS).unwrap()
}

fn part() -> Part {
    Part { texts: None, features: Some(features()), y: labels(), filter: Vec::new() }
}

fn train(out: &Path, test: Option<Part>, sets: &[&str], events: &Messages) -> (Dataset, Summary) {
    let data = Dataset::new(Path::new("made"), LabelSet::numbered(LABELS), part(), test).unwrap();
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    let config = config::load::<XrLinearConfig>(None, &sets).unwrap();
    let options =
        TrainOptions { out: out.to_owned(), seed: 1, resume: false, max_memory: None, evaluate: true };
    let summary = xr_linear::train(&data, &config, &options, events).unwrap();
    (data, summary)
}

#[test]
fn a_model_that_cannot_be_measured_is_published_all_the_same() {
    let dir = TempDir::new().unwrap();
    let mut none = CsrBuilder::new();
    (0..ROWS).for_each(|_| none.push([]));
    let unlabelled = Part { y: none.finish(LABELS).unwrap(), ..part() };
    let texts = Strings::new((0..ROWS).map(|i| i.to_string()));
    let only_texts = Part { texts: Some(texts), features: None, ..part() };
    for (name, test, reason) in [("a", unlabelled, "has a label"), ("b", only_texts, "no features")] {
        let (out, messages) = (dir.path().join(name), Messages::default());
        let (_, summary) = train(&out, Some(test), &[], &messages);
        assert!(summary.metrics.is_none());
        let messages = messages.0.lock().unwrap();
        assert!(messages.iter().any(|m| m.contains("not measured") && m.contains(reason)), "{messages:?}");
        assert_eq!(Model::open(&out).unwrap().labels().len(), LABELS);
    }
}

#[test]
fn filtered_labels_do_not_use_up_the_predictions() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("model");
    let (data, _) = train(&out, None, &[], &Messages::default());
    let model = Model::open(&out).unwrap();
    // The best three labels of every row are filtered; the fourth is the truth.
    let found = model.predict_features(&features(), &PredictOptions::top(4)).unwrap();
    let mut y = CsrBuilder::new();
    let mut filter = Vec::new();
    for i in 0..ROWS {
        let row = found.row(i);
        filter.extend(row[..3].iter().map(|&(label, _)| (i as u32, label)));
        y.push([(row[3].0, 1.0)]);
    }
    let asked = Part { y: y.finish(LABELS).unwrap(), filter, ..part() };
    let options = EvaluateOptions { cuts: vec![1], resamples: 0, beam_size: None, exact: false };
    let report = evaluate(&model, &data, &asked, &options).unwrap();
    let precision = report.values.iter().find(|(name, _)| *name == "P@1").map(|(_, value)| value);
    assert_eq!(precision, Some(100.0));
}

#[test]
fn fewer_labels_of_an_ensemble_are_the_first_of_more() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("model");
    train(&out, None, &["trees=3", "cluster.max_leaf_size=8"], &Messages::default());
    let model = Model::open(&out).unwrap();
    let all = model.predict_features(&features(), &PredictOptions::top(50)).unwrap();
    for k in [1, 5, 30] {
        let few = model.predict_features(&features(), &PredictOptions::top(k)).unwrap();
        for i in 0..ROWS {
            assert_eq!(few.row(i), &all.row(i)[..k], "row {i}, k = {k}");
        }
    }
}
