//! Training of ELIAS from end to end, on toy data and a tiny encoder that begins with nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

#[path = "../toy/mod.rs"]
mod toy;

use tempfile::TempDir;
use xmc::config;
use xmc::events::Events;
use xmc::methods::elias::{self, EliasConfig};
use xmc::methods::{Summary, TrainOptions};

use toy::{Messages, data, encoder};

fn train(dir: &TempDir, name: &str, sets: &[&str], events: &dyn Events) -> xmc::Result<Summary> {
    let encoder = format!("encoder={}", encoder(dir.path()).display());
    let quick = [
        encoder.as_str(),
        "max_len=16",
        "precision=f32",
        "vectorizer.min_df=1",
        "cluster.max_leaf_size=3",
        "index.beam=3",
        "index.kappa=8",
        "training.batch_size=16",
        "training.embedding_dropout=0.0",
        "training.dropout=false",
        "warmup.epochs=2",
        "stage1.epochs=6",
        "stage2.epochs=6",
        "stage1.lr=0.003",
        "stage2.lr=0.003",
    ];
    let sets: Vec<String> = quick.iter().chain(sets).map(|&set| set.to_owned()).collect();
    let config = config::load::<EliasConfig>(None, &sets)?;
    let options = TrainOptions { seed: 3, ..TrainOptions::new(dir.path().join(name)) };
    elias::train(&data(), &config, &options, events)
}

#[test]
fn all_stages_end_in_a_model_that_knows_its_rows() {
    let (dir, heard) = (TempDir::new().unwrap(), Messages::default());
    let summary = train(&dir, "model", &[], &heard).unwrap();
    let names: Vec<&str> = summary.stages.iter().map(|stage| stage.name.as_str()).collect();
    let expected =
        ["vectorizer", "cluster", "tokens", "warmup", "recluster", "stage1", "adjacency", "stage2"];
    assert_eq!(names[..8], expected);
    assert!(summary.metrics.unwrap().values.get("P@1").unwrap() > 50.0);
    assert!(!heard.contain("no edge leads"));
}

#[test]
fn clusters_and_edges_can_be_all_that_is_wanted() {
    let (dir, heard) = (TempDir::new().unwrap(), Messages::default());
    train(&dir, "clusters", &["stages=[\"cluster\"]"], &heard).unwrap();
    let clusters = xmc::data::formats::npz::read(&dir.path().join("clusters/clusters.npz")).unwrap();
    assert_eq!((clusters.rows(), clusters.cols(), clusters.nnz()), (8, toy::LABELS, toy::LABELS));
    let file = format!("files.clusters={}", dir.path().join("clusters/clusters.npz").display());
    let sets = [file.as_str(), "stages=[\"stage1\",\"adjacency\"]", "train_encoder=false"];
    train(&dir, "edges", &sets, &heard).unwrap();
    let edges = xmc::data::formats::npz::read(&dir.path().join("edges/adjacency.npz")).unwrap();
    assert_eq!(edges.rows(), 8);
    let found: std::collections::BTreeSet<u32> = edges.indices().iter().copied().collect();
    assert_eq!(found.len(), toy::LABELS);
    let message = train(&dir, "none", &["stages=[\"stage2\"]"], &heard).unwrap_err().to_string();
    assert!(message.contains("adjacency before stage2"), "{message}");
}

#[test]
fn a_model_goes_on_from_the_stages_of_another_with_a_ranker_on_top() {
    let (dir, heard) = (TempDir::new().unwrap(), Messages::default());
    let first = ["stages=[\"cluster\",\"stage1\"]", "validation_rows=8", "label_embeddings=f32"];
    train(&dir, "first", &first, &heard).unwrap();
    let first = format!("encoder={}", dir.path().join("first").display());
    let sets = [
        first.as_str(),
        "stages=[\"adjacency\",\"stage2\",\"ranker\"]",
        "validation_rows=8",
        "ranker.calibrate=true",
        "ranker.top_k=4",
    ];
    let summary = train(&dir, "second", &sets, &heard).unwrap();
    assert!(summary.stages.iter().all(|stage| stage.name != "cluster" && stage.name != "stage1"));
    assert!(summary.metrics.unwrap().values.get("P@1").unwrap() > 50.0);
    let model = xmc::model::Model::open(&dir.path().join("second")).unwrap();
    let xmc::methods::Method::Elias(model) = model.method() else { panic!("another method") };
    assert!(model.has_ranker());
}

#[test]
fn heads_without_an_index_score_all_labels() {
    for head in ["one-vs-all", "batch"] {
        let (dir, heard) = (TempDir::new().unwrap(), Messages::default());
        let head = format!("head={head}");
        let summary = train(&dir, "model", &[&head, "stages=[\"stage1\"]"], &heard).unwrap();
        assert!(summary.metrics.unwrap().values.get("P@1").unwrap() > 50.0, "{head}");
    }
}
