//! Neither measures nor answers of a trained model depend on how many labels are asked for.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;

use tempfile::TempDir;
use xmc::config;
use xmc::evaluation::{EvaluateOptions, evaluate};
use xmc::events::Silent;
use xmc::methods::TrainOptions;
use xmc::methods::xr_linear::{self, XrLinearConfig};
use xmc::model::{Model, PredictOptions, Predictor};
use xmc_data::dataset::{Dataset, Part};
use xmc_data::formats::npz;
use xmc_data::{Csr, CsrBuilder, LabelSet};

const LABELS: usize = 150;
const ROWS: usize = 600;

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

fn train(out: &Path, sets: &[&str]) -> Dataset {
    try_to_train(out, sets).unwrap()
}

fn try_to_train(out: &Path, sets: &[&str]) -> xmc::Result<Dataset> {
    let data = Dataset::new(Path::new("made"), LabelSet::numbered(LABELS), part(), None).unwrap();
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    let config = config::load::<XrLinearConfig>(None, &sets).unwrap();
    let options = TrainOptions { seed: 1, ..TrainOptions::new(out) };
    xr_linear::train(&data, &config, &options, &Silent)?;
    Ok(data)
}

#[test]
fn what_does_not_fit_the_tree_or_the_data_is_refused_before_the_run_begins() {
    let dir = TempDir::new().unwrap();
    let (out, path) = (dir.path().join("model"), dir.path().join("negatives.npz"));
    npz::write(&path, &Csr::empty(ROWS, LABELS - 1)).unwrap();
    let file = format!("files.negatives={}", path.display());
    for (sets, expected) in [
        (&["ranker.threshold=[0.1,0.1,0.1]"][..], "for each of the 2 levels"),
        (
            &["ranker.negatives=tfn+usn", &file],
            "149 columns; `files.negatives` needs 150, one for each label",
        ),
    ] {
        let message = try_to_train(&out, sets).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(!dir.path().join("model.run").exists());
    }
    // How deep an unbalanced tree is, is known when it is there: here 2 levels.
    train(&out, &["cluster.method=unbalanced", "ranker.threshold=[0.1,0.1]"]);
}

#[test]
fn filtered_labels_do_not_use_up_the_predictions() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("model");
    let data = train(&out, &[]);
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
    let options = EvaluateOptions::at(&[1]);
    let report = evaluate(&model, &data, &asked, &options).unwrap();
    let precision = report.values.iter().find(|(name, _)| *name == "P@1").map(|(_, value)| value);
    assert_eq!(precision, Some(100.0));
}

#[test]
fn fewer_labels_of_an_ensemble_are_the_first_of_more() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("model");
    train(&out, &["trees=3", "cluster.max_leaf_size=8"]);
    let model = Model::open(&out).unwrap();
    let all = model.predict_features(&features(), &PredictOptions::top(50)).unwrap();
    for k in [1, 5, 30] {
        let few = model.predict_features(&features(), &PredictOptions::top(k)).unwrap();
        for i in 0..ROWS {
            assert_eq!(few.row(i), &all.row(i)[..k], "row {i}, k = {k}");
        }
    }
}

/// The parts of a model that were learned from labels with these values, by turns.
fn learned(dir: &TempDir, values: [f32; 2], sets: &[&str]) -> Vec<u8> {
    let mut y = labels();
    y.values_mut().iter_mut().enumerate().for_each(|(i, value)| *value = values[i % 2]);
    let train = Part { y, ..part() };
    let data = Dataset::new(Path::new("made"), LabelSet::numbered(LABELS), train, None).unwrap();
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    let config = config::load::<XrLinearConfig>(None, &sets).unwrap();
    let out = dir.path().join("soft");
    xr_linear::train(&data, &config, &TrainOptions { seed: 1, ..TrainOptions::new(&out) }, &Silent).unwrap();
    std::fs::read(out.join("ranker.0")).unwrap()
}

/// S-25 for rankers: values are costs, or nothing.
#[test]
fn values_of_labels_are_costs_of_positives_unless_they_are_ignored() {
    let dir = TempDir::new().unwrap();
    let ones = learned(&dir, [1.0, 1.0], &[]);
    assert_eq!(learned(&dir, [0.8, 1.0], &["value=ignore"]), ones);
    assert_eq!(learned(&dir, [1.0, 1.0], &["value=weight"]), ones);
    assert_ne!(learned(&dir, [0.8, 1.0], &["value=weight"]), ones);
    // Half of everything is half the cost of every positive at the labels; with one level there is nothing else.
    let flat = ["cluster.max_leaf_size=200", "label_features.kind=pifa"];
    let half = learned(&dir, [0.5, 0.5], &flat);
    assert_eq!(half, learned(&dir, [1.0, 1.0], &[&flat[..], &["ranker.cost_positive=0.5"]].concat()));
}
