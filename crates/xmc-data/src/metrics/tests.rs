//! Equality with the specification's vectors, with other people's code, and with a slow twin.

use std::collections::HashSet;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::csr::CsrBuilder;

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<Vec<u32>> {
    serde_json::from_value(value.clone()).unwrap()
}

fn counts(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|n| n.as_f64().unwrap() as u32).collect()
}

fn truth(rows: &[Vec<u32>], num_labels: usize) -> Csr {
    let mut y = CsrBuilder::new();
    for row in rows {
        y.push(row.iter().map(|&label| (label, 1.0)));
    }
    y.finish(num_labels).unwrap()
}

fn ranked(rows: &[Vec<u32>]) -> TopK {
    let mut top = TopK::new();
    for row in rows {
        let row: Vec<(u32, f32)> = row.iter().enumerate().map(|(j, &l)| (l, -(j as f32))).collect();
        top.push_ranked(&row);
    }
    top
}

fn quick(ks: &[usize]) -> EvaluateConfig {
    EvaluateConfig { ks: ks.to_vec(), resamples: 0, ..EvaluateConfig::default() }
}

fn assert_metrics(report: &Report, expected: &Value, tolerance: f64) {
    for (name, value) in expected.as_object().unwrap() {
        let (ours, theirs) = (report.values.get(name).unwrap(), value.as_f64().unwrap());
        assert!((ours - theirs).abs() <= tolerance, "{name}: {ours}, expected {theirs}");
    }
}

#[test]
fn metrics_equal_the_vectors_of_the_specification_with_and_without_filter() {
    let case = golden("metrics.json");
    let y = truth(&ids(&case["test_labels"]), case["num_labels"].as_u64().unwrap() as usize);
    let predictions = ranked(&ids(&case["pred_inds"]));
    let (train, n) = (counts(&case["train_freq"]), case["num_train"].as_u64().unwrap() as usize);
    let pairs: Vec<(u32, u32)> = serde_json::from_value(case["filter_pairs"].clone()).unwrap();
    let plain = evaluate(&predictions, &y, &train, n, &[], &quick(&[1, 3, 5])).unwrap();
    assert_metrics(&plain, &case["metrics"], 1e-9);
    let filtered = evaluate(&predictions, &y, &train, n, &pairs, &quick(&[5, 1, 3])).unwrap();
    assert_metrics(&filtered, &case["metrics_filtered"], 1e-9);
}

#[test]
fn propensities_equal_the_vectors_of_the_specification() {
    let case = golden("propensity.json");
    let n = case["num_train"].as_u64().unwrap() as usize;
    for family in case["cases"].as_array().unwrap() {
        let propensity = Propensity::for_dataset(family["dataset"].as_str().unwrap());
        assert_eq!(
            (propensity.a, propensity.b),
            (family["A"].as_f64().unwrap(), family["B"].as_f64().unwrap())
        );
        let expected = family["inv"].as_array().unwrap().iter().map(|v| v.as_f64().unwrap());
        for (ours, theirs) in propensity.inverse(&counts(&case["freq"]), n).into_iter().zip(expected) {
            assert!((ours - theirs).abs() <= 1e-12, "{ours}, expected {theirs}");
        }
    }
}

/// The unbiased test of LF-ORCAS-800K: with 88 rows P@1 moves in steps of 1.14 points, and 65.91 are 58 hits.
#[test]
fn fifty_eight_hits_of_eighty_eight_rows_are_the_published_precision() {
    let y = truth(&vec![vec![0, 2]; 88], 4);
    let predicted: Vec<Vec<u32>> =
        (0..88).map(|i| if i < 58 { vec![0, 1, 2] } else { vec![1, 3, 2] }).collect();
    let report = evaluate(&ranked(&predicted), &y, &[88, 0, 88, 0], 88, &[], &quick(&[1, 3])).unwrap();
    assert!((report.values.get("P@1").unwrap() - 65.91).abs() < 5e-3);
    // One of two relevant labels among the first three for 30 rows, both for 58.
    assert!((report.values.get("R@3").unwrap() - 100.0 * (58.0 + 15.0) / 88.0).abs() < 1e-9);
}

fn assert_agrees_with(name: &str, tolerance: f64) {
    let case = golden(name);
    let y = truth(&ids(&case["truth"]), case["num_labels"].as_u64().unwrap() as usize);
    let ks: Vec<usize> = serde_json::from_value(case["ks"].clone()).unwrap();
    let n = case["num_train"].as_u64().unwrap() as usize;
    let report =
        evaluate(&ranked(&ids(&case["predicted"])), &y, &counts(&case["train_counts"]), n, &[], &quick(&ks))
            .unwrap();
    assert_metrics(&report, &case["metrics"], tolerance);
}

#[test]
fn metrics_equal_those_of_napkinxc() {
    assert_agrees_with("metrics_napkinxc.json", 1e-9);
}

#[test]
fn metrics_equal_those_of_pyxclib_within_its_32_bits() {
    assert_agrees_with("metrics_pyxclib.json", 1e-5);
}

/// P, nDCG, PSP, recall, MRR, macro F1 and coverage at k, each straight from its definition.
fn twin(
    predicted: &[Vec<u32>],
    truth: &[Vec<u32>],
    w: &[f64],
    filter: &[(u32, u32)],
    k: usize,
) -> Vec<(&'static str, f64)> {
    let filter: HashSet<_> = filter.iter().copied().collect();
    let keep = |i: usize, row: &[u32]| -> Vec<u32> {
        row.iter().copied().filter(|&l| !filter.contains(&(i as u32, l))).collect()
    };
    let d = |j: usize| 1.0 / ((j + 2) as f64).log2();
    let (mut rows, mut p, mut r, mut ndcg, mut mrr, mut gained, mut best) =
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    let (mut hits, mut all) = (vec![0.0; w.len()], vec![0.0; w.len()]);
    let mut present = HashSet::new();
    for (i, (predicted, truth)) in predicted.iter().zip(truth).enumerate() {
        let (predicted, y) = (keep(i, predicted), keep(i, truth));
        if y.is_empty() {
            continue;
        }
        rows += 1.0;
        let top = &predicted[..k.min(predicted.len())];
        let hit: Vec<usize> =
            (0..top.len()).filter(|&j| y.contains(&top[j]) && !top[..j].contains(&top[j])).collect();
        p += hit.len() as f64 / k as f64;
        r += hit.len() as f64 / y.len() as f64;
        ndcg += hit.iter().map(|&j| d(j)).sum::<f64>() / (0..k.min(y.len())).map(d).sum::<f64>();
        mrr += hit.first().map_or(0.0, |&j| 1.0 / (j + 1) as f64);
        gained += hit.iter().map(|&j| w[top[j] as usize]).sum::<f64>();
        let mut weights: Vec<f64> = y.iter().map(|&l| w[l as usize]).collect();
        weights.sort_by(|a, b| b.total_cmp(a));
        best += weights.iter().take(k).sum::<f64>();
        for &j in &hit {
            hits[top[j] as usize] += 1.0;
        }
        top.iter().chain(&y).for_each(|&l| all[l as usize] += 1.0);
        present.extend(y);
    }
    let f1: f64 = hits.iter().zip(&all).map(|(h, a)| if *a > 0.0 { 2.0 * h / a } else { 0.0 }).sum();
    let found = hits.iter().filter(|&&h| h > 0.0).count() as f64;
    let micro = 2.0 * hits.iter().sum::<f64>() / all.iter().sum::<f64>();
    vec![
        ("P", p / rows),
        ("R", r / rows),
        ("nDCG", ndcg / rows),
        ("MRR", mrr / rows),
        ("PSP", gained / best),
        ("macroF1", f1 / w.len() as f64),
        ("microF1", micro),
        ("coverage", found / present.len() as f64),
    ]
}

const L: usize = 12;

/// Rows of true labels (at least one somewhere), predictions with repeats, training counts, filter pairs.
type Case = (Vec<Vec<u32>>, Vec<Vec<u32>>, Vec<u32>, Vec<(u32, u32)>);

fn case() -> impl Strategy<Value = Case> {
    (2..30usize).prop_flat_map(|n| {
        let sets = vec(proptest::collection::btree_set(0..L as u32, 0..6), n);
        let truth = sets.prop_map(|rows| {
            let mut rows: Vec<Vec<u32>> = rows.into_iter().map(|row| row.into_iter().collect()).collect();
            rows[0] = vec![3];
            rows
        });
        (truth, vec(vec(0..L as u32, 0..9), n), vec(0u32..40, L), vec((1..n as u32, 0..L as u32), 0..20))
    })
}

proptest! {
    #[test]
    fn metrics_equal_their_definitions((truth_rows, predicted, train, filter) in case()) {
        let ks = [1, 2, 4, 7, 20];
        let y = truth(&truth_rows, L);
        let report = evaluate(&ranked(&predicted), &y, &train, 100, &filter, &quick(&ks)).unwrap();
        let w = Propensity::default().inverse(&train, 100);
        for k in ks {
            for (name, expected) in twin(&predicted, &truth_rows, &w, &filter, k) {
                let ours = report.values.get(&format!("{name}@{k}")).unwrap();
                prop_assert!((ours - 100.0 * expected).abs() < 1e-9, "{name}@{k}: {ours} {expected}");
            }
        }
    }

    #[test]
    fn values_and_intervals_keep_their_bounds((truth_rows, predicted, train, filter) in case()) {
        let y = truth(&truth_rows, L);
        let config = EvaluateConfig { ks: vec![1, 2, 5], resamples: 40, ..EvaluateConfig::default() };
        let report = evaluate(&ranked(&predicted), &y, &train, 100, &filter, &config).unwrap();
        for (name, value) in report.values.iter() {
            prop_assert!((0.0..=100.0 + 1e-9).contains(&value), "{name} = {value}");
        }
        for (name, [low, high]) in report.confidence.iter() {
            prop_assert!(0.0 <= low && low <= high && high <= 100.0 + 1e-9, "{name}: {low} {high}");
        }
        let at = |name| report.values.get(name).unwrap();
        prop_assert!((at("P@1") - at("nDCG@1")).abs() < 1e-9);
        prop_assert!(at("R@1") <= at("R@2") && at("R@2") <= at("R@5"));
        prop_assert!(at("coverage@1") <= at("coverage@2") && at("MRR@1") <= at("MRR@5"));
        prop_assert_eq!(report.rows + report.rows_without_labels, truth_rows.len() as u64);
    }

    #[test]
    fn the_order_of_rows_does_not_matter((mut truth_rows, mut predicted, train, _) in case()) {
        let report = |truth_rows: &[Vec<u32>], predicted: &[Vec<u32>]| {
            evaluate(&ranked(predicted), &truth(truth_rows, L), &train, 50, &[], &quick(&[1, 3])).unwrap()
        };
        let before = report(&truth_rows, &predicted);
        truth_rows.reverse();
        predicted.reverse();
        for ((name, a), (_, b)) in before.values.iter().zip(report(&truth_rows, &predicted).values.iter()) {
            prop_assert!((a - b).abs() < 1e-9, "{name}: {a} {b}");
        }
    }

    #[test]
    fn bands_add_up_to_the_whole((truth_rows, predicted, train, _) in case()) {
        let y = truth(&truth_rows, L);
        let report = evaluate(&ranked(&predicted), &y, &train, 50, &[], &quick(&[1, 3])).unwrap();
        let bands = [&report.bands.head, &report.bands.torso, &report.bands.tail];
        prop_assert_eq!(bands.iter().map(|b| b.labels).sum::<u64>(), L as u64);
        prop_assert_eq!(bands.iter().map(|b| b.positives).sum::<u64>(), y.nnz() as u64);
        let sum: f64 = bands.iter().map(|b| b.values.get("P@3").unwrap()).sum();
        prop_assert!((sum - report.values.get("P@3").unwrap()).abs() < 1e-9);
    }
}

#[test]
fn threads_do_not_change_a_bit() {
    let n = 3 * GROUPS as u32 + 17;
    let label = |i: u32, j: u32| (i.wrapping_mul(2_654_435_761).wrapping_add(j * 40_503) >> 7) % 500;
    let rows: Vec<Vec<u32>> = (0..n).map(|i| (0..5).map(|j| label(i, j)).collect()).collect();
    let predicted: Vec<Vec<u32>> = (0..n).map(|i| (2..9).map(|j| label(i, j)).collect()).collect();
    let (y, top) = (truth(&rows, 500), ranked(&predicted));
    let config = EvaluateConfig { resamples: 50, ..EvaluateConfig::default() };
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| evaluate(&top, &y, &vec![3; 500], 1000, &[], &config)).unwrap()
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn rows_whose_labels_the_filter_takes_are_skipped_and_counted() {
    let y = truth(&[vec![0], vec![], vec![1]], 3);
    let report =
        evaluate(&ranked(&[vec![0], vec![1], vec![2]]), &y, &[1, 1, 1], 3, &[(2, 1)], &quick(&[1])).unwrap();
    assert_eq!((report.rows, report.rows_without_labels), (1, 2));
    assert_eq!(report.values.get("P@1"), Some(100.0));
}

#[test]
fn a_stored_zero_is_not_a_label() {
    let y = Csr::new(1, 2, vec![0, 2], vec![0, 1], vec![0.0, 1.0]).unwrap();
    let report = evaluate(&ranked(&[vec![0, 1]]), &y, &[1, 1], 2, &[], &quick(&[1, 2])).unwrap();
    assert_eq!(report.values.get("P@1"), Some(0.0));
    assert_eq!(report.values.get("R@2"), Some(100.0));
}

#[test]
fn the_report_is_one_flat_object_with_the_keys_of_the_command_line() {
    let config = EvaluateConfig { resamples: 10, ..EvaluateConfig::default() };
    let mut report = evaluate(&ranked(&[vec![0]]), &truth(&[vec![0]], 2), &[2, 1], 3, &[], &config).unwrap();
    let json = serde_json::to_value(&report).unwrap();
    for key in ["P@1", "P@3", "P@5", "nDCG@5", "PSP@5", "PSnDCG@5", "R@10", "R@100", "MRR@10", "macroF1@5"] {
        assert!(json[key].is_f64(), "{key}");
    }
    assert_eq!(json["R@1"], 100.0);
    assert_eq!(json["confidence"]["P@1"], serde_json::json!([100.0, 100.0]));
    assert_eq!(json["bands"]["tail"]["labels"], 1);
    assert_eq!(json["propensity"], serde_json::json!({"a": 0.55, "b": 1.5}));
    assert_eq!((&json["rows"], &json["labels"]), (&1.into(), &2.into()));
    assert!(json.get("seconds").is_none());
    report.seconds = Some(0.5);
    assert_eq!(serde_json::to_value(&report).unwrap()["seconds"], 0.5);
}

#[test]
fn parts_that_do_not_fit_are_named() {
    let y = truth(&[vec![0], vec![1]], 3);
    let why = |top: &TopK, train: &[u32], config: &EvaluateConfig| {
        evaluate(top, &y, train, 3, &[], config).unwrap_err().to_string()
    };
    let (fine, counts) = (ranked(&[vec![0], vec![1]]), [1, 1, 1]);
    assert!(why(&ranked(&[vec![0]]), &counts, &quick(&[1])).starts_with("1 rows of predictions for 2 rows"));
    assert!(why(&fine, &[1, 1], &quick(&[1])).starts_with("training counts of 2 labels for 3 labels"));
    let outside = ranked(&[vec![0], vec![9]]);
    assert!(why(&outside, &counts, &quick(&[1])).starts_with("row 1 of the predictions names label 9"));
    assert!(why(&fine, &counts, &quick(&[1, 0])).starts_with("`ks` = [1, 0]"));
    assert!(
        why(&fine, &counts, &EvaluateConfig { confidence: 1.0, ..quick(&[1]) })
            .starts_with("`confidence` = 1")
    );
    let none = truth(&[vec![], vec![]], 3);
    let message = evaluate(&fine, &none, &counts, 3, &[], &quick(&[1])).unwrap_err().to_string();
    assert_eq!(message, "none of the 2 rows has a label: there is nothing to measure");
}
