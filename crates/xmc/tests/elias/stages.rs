//! What stages make, alone and together.

use xmc::data::formats::npz;
use xmc::data::metrics::{EvaluateConfig, evaluate, label_counts};
use xmc::events::Silent;
use xmc::methods::Method;
use xmc::methods::elias::Edges;
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

/// Labels and values of all edges of a model.
fn edges(world: &World, name: &str) -> Vec<Vec<(u32, f32)>> {
    let edges = Edges::open(&world.out(name).join("edges")).unwrap();
    let of = |c: usize| {
        let (labels, values) = edges.of(c);
        let mut edges: Vec<_> = labels.iter().copied().zip(values.iter().copied()).collect();
        edges.sort_unstable_by_key(|&(label, _)| label);
        edges
    };
    (0..edges.clusters()).map(of).collect()
}

#[test]
fn stage_2_goes_on_with_the_edges_of_a_model_that_it_trained() {
    let world = World::new();
    // A gain that holds some of the scores at 1.
    let settings = ["index.beta=7.0", "label_embeddings=f32", "train_encoder=false"];
    let first = [&settings[..], &["stages=[\"cluster\",\"stage1\",\"adjacency\",\"stage2\"]"]].concat();
    world.train("first", &first, &options(), &Silent).unwrap();
    let begun = format!("encoder={}", world.out("first").display());
    let next = |name: &str, sets: &[&str]| -> Vec<String> {
        let sets = [&settings[..], &[begun.as_str()], sets].concat();
        let stages = world.train(name, &sets, &options(), &Silent).unwrap().stages;
        stages.into_iter().map(|stage| stage.name).collect()
    };
    let still = ["stages=[\"stage2\"]", "stage2.epochs=1", "stage2.label_lr=1e-9"];
    assert_eq!(next("second", &still), ["tokens", "embedding", "begin", "stage2", "parts"]);
    next("ranked", &["stages=[\"ranker\"]", "ranker.top_k=4"]);
    let (first, held) = (edges(&world, "first"), |e: &(u32, f32)| e.1 == 0.0);
    assert!(first.iter().flatten().any(held) && !first.iter().flatten().all(held));
    for name in ["second", "ranked"] {
        let found = edges(&world, name);
        for (found, first) in found.iter().zip(&first) {
            let labels = |edges: &[(u32, f32)]| edges.iter().map(|e| e.0).collect::<Vec<_>>();
            assert_eq!(labels(found), labels(first), "{name}");
            found
                .iter()
                .zip(first)
                .for_each(|(a, b)| assert!((a.1 - b.1).abs() < 1e-4, "{name}: {a:?} {b:?}"));
        }
    }
    // What is not used is not read.
    for sets in [&["head=one-vs-all", "stages=[\"stage1\"]"][..], &["stages=[\"cluster\",\"stage1\"]"]] {
        let stages = next("other", sets);
        assert!(!stages.contains(&"begin".to_owned()), "{sets:?}: {stages:?}");
    }
}

#[test]
fn neither_clusters_nor_edges_learn_from_rows_that_are_set_aside() {
    let mut world = World::new();
    let sets =
        ["stages=[\"cluster\",\"stage1\",\"adjacency\"]", "validation_rows=159", "train_encoder=false"];
    world.train("edges", &sets, &options(), &Silent).unwrap();
    let edges = npz::read(&world.out("edges/adjacency.npz")).unwrap();
    let mut visited: Vec<u32> =
        edges.indices().iter().zip(edges.values()).filter(|(_, v)| **v > 1e-30).map(|(l, _)| *l).collect();
    visited.sort_unstable();
    visited.dedup();
    // One row is left, and a row has two labels or one.
    assert!((1..=2).contains(&visited.len()), "{visited:?}");
    let cluster = |world: &World, name: &str| {
        world.train(name, &["stages=[\"cluster\"]", "validation_rows=159"], &options(), &Silent).unwrap();
        npz::read(&world.out(name).join("clusters.npz")).unwrap()
    };
    let all = cluster(&world, "all");
    let y = &world.data.train.y;
    let has = |row: usize| visited.iter().all(|&label| y.row(row).get(label) > 0.0);
    let few = y.filter(|row, _, _| has(row));
    assert!(few.nnz() < y.nnz() / 10);
    world.data.train.y = few;
    assert_eq!(cluster(&world, "few"), all);
}

#[test]
fn a_calibration_on_rows_that_the_model_may_know_is_told() {
    let world = World::new();
    let first =
        ["stages=[\"cluster\",\"stage1\"]", "stage1.epochs=1", "train_encoder=false", "validation_rows=8"];
    world.train("first", &first, &options(), &Silent).unwrap();
    let begun = format!("encoder={}", world.out("first").display());
    for (rows, told) in [("validation_rows=8", false), ("validation_rows=9", true)] {
        let sets = [&begun, "stages=[\"ranker\"]", "ranker.calibrate=true", "ranker.top_k=4", rows];
        let heard = Messages::default();
        world.train("second", &sets, &options(), &heard).unwrap();
        assert_eq!(
            heard.contain("may have learned from the 9 rows that calibrate the ranker"),
            told,
            "{rows}"
        );
    }
}
