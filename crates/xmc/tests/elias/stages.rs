//! What stages make, alone and together.

use xmc::data::formats::npz;
use xmc::data::metrics::{EvaluateConfig, evaluate, label_counts};
use xmc::events::Silent;
use xmc::methods::Method;
use xmc::model::{Model, PredictOptions, Predictor};

use crate::toy::{self, Messages};
use crate::world::{World, options};

#[test]
fn all_stages_end_in_a_model_that_knows_its_rows() {
    let (world, heard) = (World::new(), Messages::default());
    let summary = world.train("model", &[], &options(), &heard).unwrap();
    let names: Vec<&str> = summary.stages.iter().map(|stage| stage.name.as_str()).collect();
    let expected =
        ["vectorizer", "cluster", "tokens", "warmup", "recluster", "stage1", "adjacency", "stage2"];
    assert_eq!(names[..8], expected);
    assert!(summary.metrics.unwrap().values.get("P@1").unwrap() > 50.0);
    assert!(!heard.contain("no edge leads"));
}

#[test]
fn clusters_and_edges_can_be_all_that_is_wanted() {
    let (world, heard) = (World::new(), Messages::default());
    world.train("clusters", &["stages=[\"cluster\"]"], &options(), &heard).unwrap();
    let clusters = npz::read(&world.out("clusters/clusters.npz")).unwrap();
    assert_eq!((clusters.rows(), clusters.cols(), clusters.nnz()), (8, toy::LABELS, toy::LABELS));
    let file = format!("files.clusters={}", world.out("clusters/clusters.npz").display());
    let sets = [file.as_str(), "stages=[\"stage1\",\"adjacency\"]", "train_encoder=false"];
    world.train("edges", &sets, &options(), &heard).unwrap();
    let edges = npz::read(&world.out("edges/adjacency.npz")).unwrap();
    assert_eq!(edges.rows(), 8);
    let found: std::collections::BTreeSet<u32> = edges.indices().iter().copied().collect();
    assert_eq!(found.len(), toy::LABELS);
    let message = world.train("none", &["stages=[\"stage2\"]"], &options(), &heard).unwrap_err().to_string();
    assert!(message.contains("adjacency before stage2"), "{message}");
}

#[test]
fn a_model_goes_on_from_the_stages_of_another_with_a_ranker_on_top() {
    let (world, heard) = (World::new(), Messages::default());
    let first = ["stages=[\"cluster\",\"stage1\"]", "validation_rows=8", "label_embeddings=f32"];
    world.train("first", &first, &options(), &heard).unwrap();
    let first = format!("encoder={}", world.out("first").display());
    let sets = [
        first.as_str(),
        "stages=[\"adjacency\",\"stage2\",\"ranker\"]",
        "validation_rows=8",
        "ranker.calibrate=true",
        "ranker.top_k=4",
    ];
    let summary = world.train("second", &sets, &options(), &heard).unwrap();
    assert!(summary.stages.iter().all(|stage| stage.name != "cluster" && stage.name != "stage1"));
    assert!(summary.metrics.unwrap().values.get("P@1").unwrap() > 50.0);
    let model = Model::open(&world.out("second")).unwrap();
    let Method::Elias(model) = model.method() else { panic!("another method") };
    assert!(model.has_ranker());
}

#[test]
fn heads_without_an_index_score_all_labels() {
    let world = World::new();
    for head in ["one-vs-all", "batch"] {
        let head = format!("head={head}");
        assert!(world.measured("model", &[&head, "stages=[\"stage1\"]"], "P@1") > 50.0, "{head}");
    }
}

/// R@10 on the rows that were learned, in percent, of a search that keeps `beam` clusters.
fn recall(world: &World, name: &str, beam: usize) -> f64 {
    let model = Model::open(&world.out(name)).unwrap();
    let options = PredictOptions { beam_size: Some(beam), ..PredictOptions::top(10) };
    let (texts, y) = (world.data.train.texts.as_ref().unwrap(), &world.data.train.y);
    let found = model.predict(texts, &options).unwrap();
    let config = EvaluateConfig { ks: vec![10], resamples: 0, ..EvaluateConfig::default() };
    let report = evaluate(&found, y, &label_counts(y), y.rows(), &[], &config).unwrap();
    report.values.get("R@10").unwrap()
}

#[test]
fn edges_that_learn_find_labels_that_one_cluster_each_does_not() {
    // Both labels of a row hold many other rows: clusters that do not overlap part them.
    let world = World::new();
    let first = ["stages=[\"cluster\",\"warmup\",\"recluster\",\"stage1\"]", "label_embeddings=f32"];
    world.train("first", &first, &options(), &Silent).unwrap();
    let begun = format!("encoder={}", world.out("first").display());
    let second = [begun.as_str(), "stages=[\"adjacency\",\"stage2\"]"];
    world.train("second", &second, &options(), &Silent).unwrap();
    for beam in [1, 2, 3] {
        let (first, second) = (recall(&world, "first", beam), recall(&world, "second", beam));
        println!("beam {beam}: stage 1 {first:.2}, stage 2 {second:.2}");
        assert!(second >= first, "beam {beam}: stage 1 {first:.2}, stage 2 {second:.2}");
    }
    let (first, second) = (recall(&world, "first", 1), recall(&world, "second", 1));
    assert!(second > first + 10.0, "stage 1 {first:.2}, stage 2 {second:.2}");
}
