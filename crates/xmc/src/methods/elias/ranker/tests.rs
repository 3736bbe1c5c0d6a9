//! Rankers against the recorded ones, scores against their formula, files against damage.

use serde::Deserialize;
use xmc_data::{CsrBuilder, Dense};

use super::*;

fn sparse(rows: &[Vec<f32>]) -> Csr {
    let mut m = CsrBuilder::new();
    for row in rows {
        m.push((0..).zip(row.iter().copied()).filter(|&(_, v)| v != 0.0));
    }
    m.finish(rows[0].len()).unwrap()
}

#[derive(Deserialize)]
#[allow(non_snake_case, reason = "names of the file")]
struct Golden {
    X: Vec<Vec<f32>>,
    Y: Vec<Vec<f32>>,
    M: Vec<Vec<f32>>,
    W_pecos_f32: Vec<Vec<f32>>,
    W_exact: Vec<Vec<f32>>,
    scores: Vec<Vec<f32>>,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../../tests/golden/elias_sparse_ranker.json")).unwrap()
}

fn learn(golden: &Golden, split: usize, config: &RankerConfig) -> Ranker {
    // The first columns as words, the others as an embedding.
    let parts = |from: usize, to: usize| golden.X.iter().map(|x| x[from..to].to_vec()).collect::<Vec<_>>();
    let (n, d) = (golden.X.len(), golden.X[0].len());
    let dense = (split < d).then(|| Dense::new(n, d - split, parts(split, d).concat()).unwrap());
    let x = Features::new(sparse(&parts(0, split)), dense).unwrap();
    let (y, found) = (sparse(&golden.Y), sparse(&golden.M));
    Ranker::train(Examples { x: &x, y: &y, found: &found }, config, 0, &|_, _| {}).unwrap()
}

#[test]
fn weights_are_the_recorded_ones_with_words_and_embeddings() {
    let golden = golden();
    let exact =
        RankerConfig { epsilon: 1e-5, max_iterations: 10_000, threshold: 0.0, ..RankerConfig::default() };
    for split in [golden.X[0].len(), 3] {
        let ranker = learn(&golden, split, &exact);
        for (f, expected) in golden.W_exact.iter().enumerate() {
            for (l, w) in expected.iter().enumerate() {
                let found = ranker.weights.row(l).get(f as u32);
                assert!((found - w).abs() < 1e-4, "label {l} feature {f}: {found} {w}");
            }
        }
    }
    // With the usual settings small weights are dropped.
    let usual = learn(&golden, 3, &RankerConfig::default());
    assert!(usual.weights.values().iter().all(|w| w.abs() >= 0.1));
}

#[test]
fn scores_are_the_recorded_ones() {
    let golden = golden();
    let (features, labels) = (golden.W_pecos_f32.len(), golden.Y[0].len());
    let by_label: Vec<Vec<f32>> =
        (0..labels).map(|l| (0..features).map(|f| golden.W_pecos_f32[f][l]).collect()).collect();
    let ranker = Ranker { weights: sparse(&by_label), calibration: None };
    let mut scorer = ranker.scorer();
    for (i, x) in golden.X.iter().enumerate() {
        scorer.x[..features - 1].copy_from_slice(x);
        scorer.x[features - 1] = 1.0;
        for l in (0..labels).filter(|&l| golden.M[i][l] != 0.0) {
            let found = scorer.ranked(l as u32, golden.M[i][l]);
            assert!((found - golden.scores[i][l]).abs() < 1e-5, "row {i} label {l}");
        }
    }
}

#[test]
fn margins_become_the_recorded_factors() {
    #[derive(Deserialize)]
    struct Factors {
        margin: Vec<f32>,
        base_score: Vec<f32>,
        ranker_score: Vec<f32>,
    }
    let golden: Factors =
        serde_json::from_str(include_str!("../../../../tests/golden/elias_ranker.json")).unwrap();
    let weights: Vec<Vec<f32>> = golden.margin.iter().map(|&margin| vec![margin]).collect();
    let ranker = Ranker { weights: sparse(&weights), calibration: None };
    let mut found: Vec<(u32, f32)> = (0..).zip(golden.base_score.iter().copied()).collect();
    let nothing = Csr::empty(1, 0);
    ranker.scorer().rescore(Query::from(nothing.row(0)), &mut found);
    assert!(found.is_sorted_by(|a, b| a.1 >= b.1));
    for (label, score) in found {
        assert!((score - golden.ranker_score[label as usize]).abs() < 1e-6, "label {label}");
    }
}

#[test]
fn parts_of_a_text_count_by_their_direction_and_leave_nothing_behind() {
    let weights = sparse(&[vec![0.5, -1.0, 0.25, 2.0, 0.1], vec![0.0, 1.0, 0.0, -1.0, 0.3]]);
    let ranker = Ranker { weights, calibration: None };
    let (words, dense) = (sparse(&[vec![3.0, 4.0]]), [0.6, 0.8]);
    let margins = [0.5 * 0.6 - 0.8 + 0.25 * 0.6 + 2.0 * 0.8 + 0.1, 0.8 - 0.8 + 0.3];
    let mut scorer = ranker.scorer();
    let mut score = |text: Query<'_>| {
        let mut found = vec![(0, 0.5), (1, 0.5), (7, 0.25)];
        scorer.rescore(text, &mut found);
        found.sort_unstable_by_key(|&(label, _)| label);
        found.into_iter().map(|(_, score)| score).collect::<Vec<_>>()
    };
    let twice = dense.map(|v| 2.0 * v);
    // The ranker knows two words; a label that it does not know keeps its score.
    let unknown = Csr::new(1, 9, vec![0, 3], vec![0, 1, 8], vec![3.0, 4.0, 0.0]).unwrap();
    for _ in 0..2 {
        for words in [words.row(0), unknown.row(0)] {
            let scores = score(Query { sparse: words, dense: &twice });
            for (score, margin) in scores.iter().zip(margins) {
                assert!((score - 0.5 * (-(1f32 - margin).max(0.0).powi(3)).exp()).abs() < 1e-6);
            }
            assert_eq!(scores[2], 0.25);
        }
    }
}

#[test]
fn a_calibrated_ranker_comes_back_from_its_files_and_damage_is_refused() {
    let golden = golden();
    let (d, labels) = (golden.X[0].len(), golden.Y[0].len());
    let x = Features::from(sparse(&golden.X));
    let (y, found) = (sparse(&golden.Y), sparse(&golden.M));
    let examples = Examples { x: &x, y: &y, found: &found };
    let plain = learn(&golden, d, &RankerConfig::default());
    let ranker = plain.clone().calibrated(examples, &y);
    let rescored = |ranker: &Ranker, i: usize| {
        let mut row: Vec<(u32, f32)> = found.row(i).iter().collect();
        ranker.scorer().rescore(Query::of(&x, i), &mut row);
        row
    };
    let dir = tempfile::tempdir().unwrap();
    Artifact::save(&ranker, dir.path()).unwrap();
    let opened = Ranker::open(dir.path(), true).unwrap();
    let uncalibrated = Ranker::open(dir.path(), false).unwrap();
    let mut moved = false;
    for i in 0..x.rows() {
        assert_eq!(rescored(&opened, i), rescored(&ranker, i));
        assert_eq!(rescored(&uncalibrated, i), rescored(&plain, i));
        moved |= rescored(&ranker, i) != rescored(&plain, i);
    }
    assert!(moved && opened.num_labels() == labels && opened.num_features() == d);
    let path = dir.path().join(CALIBRATION);
    checkpoint::save(&path, &[(FREQUENCIES, &[1.0])], &serde_json::Value::Null).unwrap();
    let message = Ranker::open(dir.path(), true).unwrap_err().to_string();
    assert!(message.contains(&format!("no frequencies of {labels} labels")), "{message}");
}
