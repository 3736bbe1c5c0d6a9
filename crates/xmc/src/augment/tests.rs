//! The matrix that is built, against the worked example, an obvious twin and rules that always hold.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use xmc_data::dataset::{Dataset, Part};
use xmc_data::formats::npz;
use xmc_data::{Csr, CsrBuilder, LabelSet, Strings};

use super::build::{BuildConfig, Built, build};
use super::calibrate::calibrate;
use super::files::{AUGMENTED, PROVENANCE, read_starts};
use super::leaks::{Guard, Leaks, TestRows};
use super::mapping::{Mapping, sigma};
use super::provenance::{self, Why, explain};
use super::sweep::sweep;
use super::{Direction, Neighbours, Synthetic};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/augment").join(name)
}

/// Starts, neighbours and matrix of the worked example, as numpy and scipy wrote them.
fn example() -> (Synthetic, Neighbours, Csr) {
    let neighbours = Neighbours::read(&golden(""), 10).unwrap();
    (Synthetic::read(&golden("")).unwrap(), neighbours, npz::read(&golden("trn_X_Y.npz")).unwrap())
}

fn three() -> BuildConfig {
    BuildConfig { k: 3, ..BuildConfig::default() }
}

fn built(config: &BuildConfig) -> Built {
    let (synthetic, neighbours, y) = example();
    let mapping = Mapping::new(Direction::Label, &synthetic.starts, &neighbours, 6).unwrap();
    build(&mapping, &y, config, &Guard::default()).unwrap()
}

#[test]
fn a_cosine_is_rescaled_to_0_to_1() {
    assert_eq!([-1.0, 0.0, 0.6, 1.0].map(sigma), [0.0, 0.5, 0.8, 1.0]);
}

#[test]
fn the_worked_example_gives_the_bits_that_scipy_gives() {
    let found = built(&three());
    assert_eq!(found.y, npz::read(&golden("trn_X_Y_skim.npz")).unwrap());
    let report = &found.report;
    assert_eq!((report.original, report.suggested, report.confirmed, report.new), (5, 5, 3, 2));
    assert_eq!((report.rows_gained, report.labels_gained), (2, 2));
    let entries: Vec<_> =
        (0..6).flat_map(|i| found.y.row(i).iter().map(move |(l, v)| (i, l, v)).collect::<Vec<_>>()).collect();
    let expected =
        [(0, 0, 1.0), (1, 0, 1.0), (2, 1, 1.0), (3, 0, 0.805), (3, 2, 1.0), (4, 2, 1.0), (5, 2, 0.975)];
    assert_eq!(entries.len(), expected.len());
    for (&(i, l, v), (j, m, w)) in entries.iter().zip(expected) {
        assert!((i, l) == (j, m) && (v - w).abs() < 1e-6, "row {i}, label {l}: {v}, expected {w}");
    }
}

#[test]
fn sources_may_be_rows() {
    let (synthetic, neighbours, y) = example();
    let mapping = Mapping::new(Direction::Instance, &synthetic.starts, &neighbours, 6).unwrap();
    let found = build(&mapping, &y.transpose(), &three(), &Guard::default()).unwrap();
    assert_eq!(found.y, built(&three()).y.transpose());
    let turned: Vec<_> = found.pairs.iter().map(|p| (p.label, p.row, p.text, p.cosine)).collect();
    let mut expected: Vec<_> =
        built(&three()).pairs.iter().map(|p| (p.row, p.label, p.text, p.cosine)).collect();
    expected.sort_by_key(|p| (p.1, p.0));
    assert_eq!(turned, expected);
}

#[test]
fn sources_without_texts_and_the_last_source_are_as_good_as_others() {
    let (_, neighbours, y) = example();
    for starts in [[0u64, 0, 0, 5], [0, 5, 5, 5], [0, 0, 5, 5]] {
        let mapping = Mapping::new(Direction::Label, &starts, &neighbours, 6).unwrap();
        let found = build(&mapping, &y, &three(), &Guard::default()).unwrap();
        let source = starts.windows(2).position(|w| w[0] < w[1]).unwrap() as u32;
        assert!(!found.pairs.is_empty() && found.pairs.iter().all(|pair| pair.label == source));
    }
    let none = Neighbours { k: 3, ..Neighbours::default() };
    let mapping = Mapping::new(Direction::Label, &[0, 0, 0, 0], &none, 6).unwrap();
    assert_eq!(build(&mapping, &y, &three(), &Guard::default()).unwrap().y, y);
}

/// A random case: starts, neighbours of `[texts, k]` among `targets`, and a matrix `[targets, sources]` of ones.
fn cases() -> impl Strategy<Value = (Vec<u64>, Neighbours, Csr, BuildConfig)> {
    (proptest::collection::vec(0u64..4, 1..6), 1usize..5, 1u32..8, any::<u64>(), 0usize..6, 0u8..8).prop_map(
        |(counts, width, targets, seed, k, tau)| {
            let mut starts = vec![0];
            for count in &counts {
                starts.push(starts.last().unwrap() + count);
            }
            let mut draws = crate::random::Draws::new(seed, crate::random::Purpose::Checked, 0);
            let (mut ids, mut cosines) = (Vec::new(), Vec::new());
            for _ in 0..*starts.last().unwrap() {
                // Coarse, so that cosines are equal and at the threshold now and then.
                let mut row: Vec<f32> = (0..width).map(|_| draws.below(11) as f32 / 5.0 - 1.0).collect();
                row.sort_by(|a, b| b.total_cmp(a));
                cosines.extend(row);
                ids.extend((0..width).map(|_| draws.below(u64::from(targets) + 1) as i32 - 1));
            }
            let mut y = CsrBuilder::new();
            for _ in 0..targets {
                let labels: Vec<u32> = (0..counts.len() as u32).filter(|_| draws.below(3) == 0).collect();
                y.push(labels.into_iter().map(|l| (l, [1.0, 1.0, 0.5, 2.0][draws.below(4) as usize])));
            }
            let y = y.finish(counts.len()).unwrap();
            let config = BuildConfig { k, tau: 0.4 + f32::from(tau) / 10.0, ..BuildConfig::default() };
            (starts, Neighbours { k: width, ids, cosines }, y, config)
        },
    )
}

/// The rule word by word, with a dictionary.
fn twin(starts: &[u64], near: &Neighbours, y: &Csr, config: &BuildConfig) -> BTreeMap<(u32, u32), f32> {
    let mut all = BTreeMap::new();
    for (source, range) in starts.windows(2).enumerate() {
        for text in range[0] as usize..range[1] as usize {
            for place in 0..near.k.min(config.k) {
                let (id, cosine) = (near.ids[text * near.k + place], near.cosines[text * near.k + place]);
                let value = cosine * 0.5 + 0.5;
                if id >= 0 && value >= config.tau {
                    let old: &mut f32 = all.entry((id as u32, source as u32)).or_default();
                    *old = old.max(value);
                }
            }
        }
    }
    for (row, known) in y.iter().enumerate() {
        for (label, value) in known.iter() {
            *all.entry((row as u32, label)).or_default() += value;
        }
    }
    for value in all.values_mut() {
        *value = value.clamp(0.0, 1.0);
    }
    all.retain(|_, value| *value > 0.0);
    all
}

fn entries(y: &Csr) -> BTreeMap<(u32, u32), f32> {
    y.iter().zip(0u32..).flat_map(|(row, i)| row.iter().map(move |(l, v)| ((i, l), v))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_matrix_is_that_of_the_rule_and_keeps_what_was_there((starts, near, y, config) in cases()) {
        let mapping = Mapping::new(Direction::Label, &starts, &near, y.rows()).unwrap();
        let found = build(&mapping, &y, &config, &Guard::default()).unwrap();
        let now = entries(&found.y);
        prop_assert_eq!(&now, &twin(&starts, &near, &y, &config));
        if config.k == 0 || config.tau > 1.0 {
            prop_assert!(found.pairs.is_empty());
        }
        for (place, value) in entries(&y) {
            prop_assert!(now[&place] >= value.min(1.0) && now[&place] <= 1.0);
        }
        // Each new pair has one source, whose best text gives its value.
        prop_assert_eq!(found.pairs.len(), found.y.nnz() - y.nnz());
        for pair in &found.pairs {
            let at = pair.text as usize * near.k + pair.rank as usize - 1;
            prop_assert!((starts[pair.label as usize]..starts[pair.label as usize + 1]).contains(&u64::from(pair.text)));
            prop_assert_eq!((near.ids[at], near.cosines[at]), (pair.row.cast_signed(), pair.cosine));
            prop_assert_eq!(now[&(pair.row, pair.label)], sigma(pair.cosine));
        }
        // A higher threshold or fewer neighbours never add a pair.
        for less in [
            BuildConfig { tau: config.tau + 0.1, ..config.clone() },
            BuildConfig { k: config.k.saturating_sub(1), ..config.clone() },
        ] {
            let less = build(&mapping, &y, &less, &Guard::default()).unwrap();
            prop_assert!(entries(&less.y).keys().all(|place| now.contains_key(place)));
        }
    }

    #[test]
    fn caps_leave_the_best_pairs((starts, near, y, config) in cases(), label in 1usize..3, row in 1usize..3, budget in 1usize..9) {
        let mapping = Mapping::new(Direction::Label, &starts, &near, y.rows()).unwrap();
        let all = build(&mapping, &y, &config, &Guard::default()).unwrap();
        let capped = BuildConfig { max_per_label: label, max_per_row: row, budget, ..config };
        let found = build(&mapping, &y, &capped, &Guard::default()).unwrap();
        let dropped = found.report.dropped;
        prop_assert_eq!(found.pairs.len() + dropped.label + dropped.row + dropped.budget, all.pairs.len());
        prop_assert!(found.pairs.len() <= budget && found.pairs.iter().all(|pair| all.pairs.contains(pair)));
        for pair in &all.pairs {
            let best = |same: &dyn Fn(&provenance::Pair) -> bool| {
                let rivals: Vec<_> = found.pairs.iter().filter(|other| same(other)).collect();
                (rivals.len(), rivals.iter().all(|other| other.cosine >= pair.cosine))
            };
            let of_label = best(&|other| other.label == pair.label);
            let of_row = best(&|other| other.row == pair.row);
            prop_assert!(of_label.0 <= label && of_row.0 <= row);
            // What was dropped had to give way to something at least as good.
            if !found.pairs.contains(pair) {
                let full = [(of_label, label), (of_row, row), (best(&|_| true), budget)];
                prop_assert!(full.iter().any(|&((count, better), most)| count == most && better));
            }
        }
    }
}

#[test]
fn a_text_must_be_near_the_target_too_if_asked() {
    let near = Neighbours { k: 1, ids: vec![0, 0, 0, 1], cosines: vec![0.9, 0.9, 0.8, 0.7] };
    let mapping = Mapping::new(Direction::Label, &[0, 1, 2, 3, 4], &near, 2).unwrap();
    let labels = |mutual: usize| -> Vec<u32> {
        let config = BuildConfig { mutual, ..BuildConfig::default() };
        let found = build(&mapping, &Csr::empty(2, 4), &config, &Guard::default()).unwrap();
        found.pairs.iter().map(|pair| pair.label).collect()
    };
    assert_eq!((labels(0), labels(1), labels(2)), (vec![0, 1, 2, 3], vec![0, 1, 3], vec![0, 1, 2, 3]));
}

#[test]
fn a_pair_is_explained_by_the_texts_that_found_it() {
    let (synthetic, neighbours, y) = example();
    let mapping = Mapping::new(Direction::Label, &synthetic.starts, &neighbours, 6).unwrap();
    let config = BuildConfig { budget: 1, ..three() };
    let found = build(&mapping, &y, &config, &Guard::default()).unwrap();
    let why = |config: &BuildConfig, row, label| {
        explain(&mapping, &synthetic.texts, [&y, &found.y], config, row, label).unwrap()
    };
    let new = why(&config, 5, 2);
    assert_eq!((new.why, new.original, new.augmented), (Why::New, 0.0, 0.975));
    let told: Vec<_> = new.witnesses.iter().map(|w| (w.synthetic.as_str(), w.rank)).collect();
    assert_eq!(told, [("fourth", 1), ("third", 2)]);
    let pair = found.pairs.iter().find(|pair| (pair.row, pair.label) == (5, 2)).unwrap();
    assert_eq!((pair.text, pair.rank, pair.value), (new.witnesses[0].text, 1, new.witnesses[0].value));
    for (config, row, label, expected) in [
        (&config, 0, 0, Why::Confirmed),
        (&config, 2, 1, Why::Original),
        (&config, 3, 0, Why::LeftOut),
        (&config, 2, 0, Why::BelowTau),
        (&BuildConfig { k: 2, ..three() }, 2, 0, Why::BeyondK),
        (&config, 0, 1, Why::NoTexts),
        (&config, 5, 0, Why::NotNear),
    ] {
        assert_eq!(why(config, row, label).why, expected, "row {row}, label {label}");
    }
    let none = explain(&mapping, &synthetic.texts, [&y, &found.y], &config, 6, 0).unwrap_err().to_string();
    assert!(none.contains("there are 6 rows and 3 labels"), "{none}");
}

#[test]
fn a_run_and_a_dataset_hold_what_was_built() {
    let dir = tempfile::tempdir().unwrap();
    let (synthetic, _, y) = example();
    let found = built(&three());
    found.write(dir.path(), &synthetic.texts, "of these".to_owned()).unwrap();
    assert_eq!(npz::read(&dir.path().join(AUGMENTED)).unwrap(), found.y);
    let lines = std::fs::read_to_string(dir.path().join(PROVENANCE)).unwrap();
    assert!(lines.contains("\"row\":3,\"label\":0,\"text\":1,\"rank\":2,\"cosine\":0.61"), "{lines}");
    assert!(lines.contains("\"synthetic\":\"second\""), "{lines}");
    let pairs: Vec<provenance::Pair> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(pairs, found.pairs);

    let texts = Strings::new((0..6).map(|i| format!("row {i}")));
    let train = Part { texts: Some(texts), features: None, y, filter: Vec::new() };
    let data = Dataset::new(dir.path(), LabelSet::new(["a", "b", "c"]), train, None).unwrap();
    let out = dir.path().join("augmented");
    found.save_dataset(&data, &out).unwrap();
    let back = Dataset::open(&out).unwrap();
    assert_eq!((&back.train.y, &back.train.texts, &back.labels), (&found.y, &data.train.texts, &data.labels));
    let message = found.save_dataset(&data, &out).unwrap_err().to_string();
    assert!(message.contains("not empty"), "{message}");
}

#[test]
fn rows_of_the_test_gain_nothing_if_left_out() {
    let (synthetic, neighbours, y) = example();
    let mapping = Mapping::new(Direction::Label, &synthetic.starts, &neighbours, 6).unwrap();
    let train = Strings::new((0..6).map(|i| format!("row {i}")));
    let test = Strings::new(["something", "Row 5", "SECOND"]);
    let leaks = Leaks::find(Direction::Label, &train, &test, &synthetic);
    assert!(leaks.guard(TestRows::Refuse).unwrap_err().to_string().contains("training row 5"));
    let guard = leaks.guard(TestRows::Exclude).unwrap();
    // Row 5 is a test row; the pair (3, 0) came from the text `second`.
    assert_eq!(build(&mapping, &y, &three(), &guard).unwrap().y, y);
}

#[test]
fn a_sweep_has_an_optimum_inside_where_noise_lies_between_right_and_wrong() {
    // Right pairs at cosines .5 to .9, wrong ones at .1 to .65, each label with one text and two neighbours.
    let labels = 100u32;
    let (mut ids, mut cosines, mut truth) = (Vec::new(), Vec::new(), CsrBuilder::new());
    for l in 0..labels {
        truth.push([(l, 1.0)]);
        ids.extend([l, (l + 7) % labels].map(u32::cast_signed));
        cosines.extend([0.5 + 0.4 * l as f32 / 100.0, 0.1 + 0.55 * (99 - l) as f32 / 100.0]);
    }
    let truth = truth.finish(100).unwrap();
    let near = Neighbours { k: 2, ids, cosines };
    let starts: Vec<u64> = (0..=100).collect();
    let mapping = Mapping::new(Direction::Label, &starts, &near, 100).unwrap();
    let taus = [0.5, 0.6, 0.75, 0.8, 0.9];
    let y = Csr::empty(100, 100);
    let points =
        sweep(&mapping, &y, &BuildConfig::default(), (&[1, 2], &taus), Some(&truth), &Guard::default())
            .unwrap();
    assert_eq!(points.len(), 10);
    let f1: Vec<f64> = points[5..].iter().map(|point| point.truth.unwrap().f1).collect();
    assert!(f1[2] > f1[0] && f1[2] > f1[4], "{f1:?}");
    let new: Vec<usize> = points.iter().map(|point| point.report.new).collect();
    assert!(new[..5].is_sorted_by(|a, b| a >= b) && new[5..].is_sorted_by(|a, b| a >= b), "{new:?}");
    let message = sweep(&mapping, &y, &BuildConfig::default(), (&[3], &taus), None, &Guard::default());
    assert!(message.unwrap_err().to_string().contains("only 2 neighbours are stored"));

    // The known pairs say the same without being told which are right.
    let calibrated = calibrate(&mapping, &truth, 2, 0.5, 7).unwrap();
    assert!((0.7..0.85).contains(&calibrated.tau), "{}", calibrated.tau);
    assert_eq!(calibrated.reachable, calibrated.hidden);
    let whole = calibrate(&mapping, &truth, 2, 1.0, 7).unwrap();
    assert_eq!((whole.hidden, whole.thresholds[0].found, whole.thresholds[0].unknown), (100, 100, 100));
    let message = calibrate(&mapping, &y, 2, 0.5, 7).unwrap_err().to_string();
    assert!(message.contains("no threshold can be told"), "{message}");
}

#[test]
fn what_has_no_meaning_is_refused() {
    let (synthetic, neighbours, y) = example();
    let mapping = Mapping::new(Direction::Label, &synthetic.starts, &neighbours, 6).unwrap();
    for tau in [0.0, -1.0, f32::NAN] {
        let config = BuildConfig { tau, ..three() };
        let message = build(&mapping, &y, &config, &Guard::default()).unwrap_err().to_string();
        assert!(message.contains("`tau`"), "{message}");
    }
    let message = build(&mapping, &y.transpose(), &three(), &Guard::default()).unwrap_err().to_string();
    assert!(message.contains("does not fit"), "{message}");
    assert_eq!(read_starts(&golden("start_indices.npy")).unwrap(), [0, 2, 2, 5]);
}
