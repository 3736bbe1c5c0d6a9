//! Models of libpecos against what libpecos predicts with them (made by `scripts/golden/pecos_model.py`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde::Deserialize;
use xmc_data::formats::npz;
use xmc_data::{Csr, CsrBuilder};
use xmc_linear::search::{SearchOptions, Searcher};
use xmc_linear::{PostProcessor, TreeModel, pecos};

const MODELS: [&str; 10] = [
    "default",
    "sigmoid_deep",
    "noop",
    "no_bias",
    "half_bias_log",
    "one_level",
    "scattered",
    "scattered_mmap",
    "pruned",
    "pruned_mmap",
];

type Ranked = Vec<(u32, f32)>;

#[derive(Deserialize)]
struct Expected {
    stored_settings: Vec<Ranked>,
    top: Vec<Top>,
    selected: Vec<Ranked>,
}

#[derive(Deserialize)]
struct Top {
    beam: usize,
    k: usize,
    rows: Vec<Ranked>,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/pecos").join(name)
}

fn load(name: &str) -> (TreeModel, Csr, Expected) {
    let text = fs::read(golden(&format!("{}.json", name.trim_end_matches("_mmap")))).unwrap();
    let rows = npz::read(&golden("X.npz")).unwrap();
    (pecos::open(&golden(name)).unwrap(), rows, serde_json::from_slice(&text).unwrap())
}

fn close(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-5 * b.abs().max(1.0)
}

/// Same scores at every rank and the same labels, where no other label has the same score.
fn assert_same(got: &[(u32, f32)], expected: &Ranked, scores: &[f32], context: &str) {
    assert_eq!(got.len(), expected.len(), "{context}");
    for (rank, (g, e)) in got.iter().zip(expected).enumerate() {
        assert!(close(g.1, e.1), "{context}, rank {rank}: score {} for {}", g.1, e.1);
        let tied = (scores[g.0 as usize] - scores[e.0 as usize]).abs() <= 1e-6;
        assert!(g.0 == e.0 || tied, "{context}, rank {rank}: label {} for {}", g.0, e.0);
    }
}

#[test]
fn a_beam_finds_the_labels_that_libpecos_finds() {
    for name in MODELS {
        let (model, x, expected) = load(name);
        let labels: Vec<u32> = (0..model.tree().num_labels() as u32).collect();
        let mut searcher = Searcher::new(&model);
        let mut scores = Vec::new();
        for (i, row) in x.iter().enumerate() {
            searcher.score_labels(row.into(), &labels, &SearchOptions::default(), &mut scores);
            let stored = searcher.beam(row.into(), &SearchOptions::default());
            assert_same(stored, &expected.stored_settings[i], &scores, &format!("{name}, row {i}"));
            for top in &expected.top {
                let options = SearchOptions {
                    beam_size: Some(top.beam),
                    top_k: Some(top.k),
                    ..SearchOptions::default()
                };
                let context = format!("{name}, row {i}, beam {}, k {}", top.beam, top.k);
                assert_same(searcher.beam(row.into(), &options), &top.rows[i], &scores, &context);
            }
        }
    }
}

#[test]
fn given_labels_score_as_in_libpecos() {
    for name in MODELS {
        let (model, x, expected) = load(name);
        let mut searcher = Searcher::new(&model);
        let mut scores = Vec::new();
        let mut compared = 0;
        for (row, pairs) in x.iter().zip(&expected.selected) {
            let labels: Vec<u32> = pairs.iter().map(|p| p.0).collect();
            searcher.score_labels(row.into(), &labels, &SearchOptions::default(), &mut scores);
            for (&score, pair) in scores.iter().zip(pairs) {
                assert!(close(score, pair.1), "{name}, label {}: {score} for {}", pair.0, pair.1);
                compared += 1;
            }
        }
        assert!(compared > 5);
    }
}

#[test]
fn both_forms_of_a_model_are_the_same_model() {
    for name in ["scattered", "pruned"] {
        let (npz, x, _) = load(name);
        let (mmap, _, _) = load(&format!("{name}_mmap"));
        assert_eq!(npz.tree(), mmap.tree());
        let (mut a, mut b) = (Searcher::new(&npz), Searcher::new(&mmap));
        for row in x.iter() {
            let options = SearchOptions { top_k: Some(100), ..SearchOptions::default() };
            assert_eq!(a.beam(row.into(), &options), b.beam(row.into(), &options));
        }
    }
}

#[test]
fn pruned_labels_stay_in_the_label_space_but_in_no_leaf() {
    for name in ["pruned", "pruned_mmap"] {
        let (model, _, _) = load(name);
        let (leaves, labels) = (model.tree().labels(), model.tree().num_labels());
        assert!(leaves.len() < labels && leaves.iter().all(|l| l % 3 != 0 && *l > 30));
        assert_eq!(labels, load("default").0.tree().num_labels());
    }
}

#[test]
fn the_ranker_folder_alone_opens_too() {
    assert!(pecos::is_pecos_model(&golden("default")));
    assert!(pecos::is_pecos_model(&golden("default/ranker")));
    assert!(!pecos::is_pecos_model(&golden("default/ranker/0.model")));
    assert_eq!(pecos::open(&golden("default/ranker")).unwrap().tree(), load("default").0.tree());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Damages a copy of a model; the message of opening it must name the file and the problem.
fn assert_named(name: &str, damage: impl Fn(&Path), file: &str, problem: &str) {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden(name), folder.path());
    damage(&folder.path().join("ranker"));
    let message = pecos::open(folder.path()).unwrap_err().to_string();
    assert!(message.contains(file) && message.contains(problem), "{message}");
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from));
    fs::write(file, text.replace(from, to)).unwrap();
}

fn put(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap();
}

#[test]
fn damaged_settings_are_named() {
    assert_named("default", |r| fs::remove_file(r.join("param.json")).unwrap(), "", "not an XR-Linear model");
    assert_named(
        "default",
        |r| fs::remove_dir_all(r.join("2.model")).unwrap(),
        "ranker",
        "no folder 2.model",
    );
    let change = |from: &'static str, to: &'static str, problem: &str| {
        let file = "1.model/param.json";
        assert_named("default", |r| replace(&r.join(file), from, to), file, problem);
    };
    change("{", "", "not as libpecos writes it");
    change("l3-hinge", "l3-hing", "`post_processor` = l3-hing: expected noop");
    change("\"only_topk\": 10", "\"only_topk\": 0", "only_topk is 0");
    change("\"bias\": 1.0", "\"bias\": \"1\"", "not as libpecos writes it");
}

#[test]
fn matrices_that_do_not_fit_are_named() {
    let w = "1.model/W.npz";
    assert_named("default", |r| fs::remove_file(r.join(w)).unwrap(), w, "No such file");
    let other = |r: &Path, file: &str| put(&r.join("2.model").join(file), &r.join("1.model").join(file));
    assert_named("default", |r| other(r, "C.npz"), "1.model/C.npz", "rows, but W.npz has 16 columns");
    let both = |r: &Path| ["C.npz", "W.npz"].iter().for_each(|file| other(r, file));
    assert_named("default", both, "1.model", "hang below 16 others, but the level above has 4");
    let narrow = golden("no_bias/ranker/1.model/W.npz");
    assert_named(
        "default",
        |r| put(&narrow, &r.join(w)),
        "1.model",
        "99 features, but the first level has 100",
    );
    let cut = |r: &Path| {
        let file = r.join("1.model/W.mmap_store");
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    };
    assert_named("pruned_mmap", cut, "1.model/W.mmap_store", "truncated or damaged: its last bytes");
}

#[test]
fn no_damaged_byte_of_a_store_makes_opening_or_searching_panic() {
    let folder = tempfile::tempdir().unwrap();
    copy(&golden("pruned_mmap"), folder.path());
    let x = npz::read(&golden("X.npz")).unwrap();
    for file in ["W.mmap_store", "perm.mmap_store"] {
        let path = folder.path().join("ranker/2.model").join(file);
        let sound = fs::read(&path).unwrap();
        for at in (0..sound.len()).step_by(7) {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x81;
            fs::write(&path, &bytes).unwrap();
            if let Ok(model) = pecos::open(folder.path()) {
                Searcher::new(&model).beam(x.row(0).into(), &SearchOptions::default());
            }
        }
        fs::write(&path, &sound).unwrap();
    }
}

const FEATURES: usize = 6;
const QUERY: [f32; FEATURES] = [0.5, 0.0, -1.0, 0.25, 0.0, 2.0];

/// A level as a plain table.
#[derive(Clone, Debug)]
struct Level {
    /// Parent of every node; pruned nodes have none.
    parents: Vec<Option<u32>>,
    /// `[nodes][features + 1]`, the bias last.
    weights: Vec<Vec<f32>>,
    bias: f32,
    post_processor: &'static str,
}

fn level(nodes: usize, above: usize) -> impl Strategy<Value = Level> {
    let parent = prop_oneof![9 => (0..above as u32).prop_map(Some), 1 => Just(None)];
    let weight = prop_oneof![Just(0.0f32), -2.0f32..2.0];
    let weights = prop::collection::vec(prop::collection::vec(weight, FEATURES + 1), nodes);
    let bias = prop_oneof![Just(-1.0f32), Just(0.5), Just(1.0)];
    let name = prop_oneof![Just("l3-hinge"), Just("sigmoid"), Just("noop")];
    (prop::collection::vec(parent, nodes), weights, bias, name)
        .prop_map(|(parents, weights, bias, post_processor)| Level { parents, weights, bias, post_processor })
}

/// Writes the level as libpecos does.
fn write(level: &Level, above: usize, folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let (mut w, mut c) = (CsrBuilder::new(), CsrBuilder::new());
    let rows = if level.bias > 0.0 { FEATURES + 1 } else { FEATURES };
    for (weights, parent) in level.weights.iter().zip(&level.parents) {
        w.push(weights.iter().take(rows).enumerate().filter(|e| *e.1 != 0.0).map(|(f, &v)| (f as u32, v)));
        c.push(parent.iter().map(|&p| (p, 1.0)));
    }
    npz::write(&folder.join("W.npz"), &w.finish(rows).unwrap().transpose()).unwrap();
    npz::write(&folder.join("C.npz"), &c.finish(above).unwrap()).unwrap();
    let (bias, name) = (level.bias, level.post_processor);
    let json = format!(
        r#"{{"model": "MLModel", "bias": {bias}, "pred_kwargs": {{"only_topk": 5, "post_processor": "{name}"}}}}"#
    );
    fs::write(folder.join("param.json"), json).unwrap();
}

/// Scores of all nodes of a level; nothing for nodes that were pruned, or whose parent was.
fn scores(level: &Level, above: &[Option<f32>]) -> Vec<Option<f32>> {
    let p: PostProcessor = level.post_processor.parse().unwrap();
    let node = |(parent, weights): (&Option<u32>, &Vec<f32>)| {
        let parent = above[(*parent)? as usize]?;
        let margin: f32 = QUERY.iter().zip(weights).map(|(x, w)| x * w).sum();
        Some(p.combine(parent, p.transform(margin + level.bias.max(0.0) * weights[FEATURES])))
    };
    level.parents.iter().zip(&level.weights).map(node).collect()
}

#[test]
fn sides_without_entries_and_nodes_with_two_parents_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let ranker = folder.path().join("ranker");
    let flat = |parents: Vec<u32>| Level {
        weights: vec![vec![1.0; FEATURES + 1]; parents.len()],
        parents: parents.into_iter().map(Some).collect(),
        bias: 1.0,
        post_processor: "l3-hinge",
    };
    write(&flat(vec![0, 0]), 1, &ranker.join("0.model"));
    write(&flat(vec![0, 1, 1]), 2, &ranker.join("1.model"));
    fs::write(ranker.join("param.json"), r#"{"model": "HierarchicalMLModel", "depth": 2}"#).unwrap();
    assert!(pecos::open(folder.path()).is_ok());
    for (cols, second, problem) in [
        (2, vec![(0, 1.0), (1, 1.0)], "node 1 hangs below two others"),
        (u32::MAX as usize, vec![(1, 1.0)], "a side of 4294967295 for 3 entries"),
    ] {
        let mut c = CsrBuilder::new();
        for row in [vec![(0, 1.0)], second, vec![(1, 1.0)]] {
            c.push(row);
        }
        npz::write(&ranker.join("1.model/C.npz"), &c.finish(cols).unwrap()).unwrap();
        let message = pecos::open(folder.path()).unwrap_err().to_string();
        assert!(message.contains("1.model") && message.contains(problem), "{message}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_numbering_of_nodes_gives_the_scores_of_the_formula(
        a in level(3, 1), b in level(7, 3), c in level(15, 7),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let ranker = folder.path().join("ranker");
        let (mut expected, mut above) = (vec![Some(1.0)], 1);
        for (t, level) in [a, b, c].iter().enumerate() {
            write(level, above, &ranker.join(format!("{t}.model")));
            expected = scores(level, &expected);
            above = level.parents.len();
        }
        fs::write(ranker.join("param.json"), r#"{"model": "HierarchicalMLModel", "depth": 3}"#).unwrap();
        let model = pecos::open(folder.path()).unwrap();
        prop_assert_eq!(model.tree().num_labels(), 15);
        let features: Vec<(u32, f32)> = (0..).zip(QUERY).filter(|e| e.1 != 0.0).collect();
        let mut x = CsrBuilder::new();
        x.push(features);
        let x = x.finish(FEATURES).unwrap();
        let labels: Vec<u32> = (0..15).collect();
        let mut got = Vec::new();
        Searcher::new(&model).score_labels(x.row(0).into(), &labels, &SearchOptions::default(), &mut got);
        for (&g, e) in got.iter().zip(&expected) {
            prop_assert!(close(g, e.unwrap_or(f32::NEG_INFINITY)) || g == e.unwrap_or(f32::NEG_INFINITY));
        }
    }
}
