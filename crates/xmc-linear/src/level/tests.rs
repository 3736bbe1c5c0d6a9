//! One level against the tree it could be part of, and against the objective it should minimise.

use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};
use xmc_data::Dense;

use super::*;
use crate::ranker::{TrainInput, train};
use crate::targets;
use crate::tree::Tree;

const ROWS: usize = 90;
const CHILDREN: usize = 21;
/// Parent 2 has no children.
const OFFSETS: [u32; 5] = [0, 9, 17, 17, 21];

fn uniform(rng: &mut Pcg32) -> f32 {
    rng.next_u32() as f32 / u32::MAX as f32
}

/// Rows of `sparse` and `dense` features that hint at the row's one or two positives.
fn data(sparse: usize, dense: usize, seed: u64) -> (Features, Csr) {
    let mut rng = Pcg32::seed_from_u64(seed);
    let (mut x, mut y, mut block) = (CsrBuilder::new(), CsrBuilder::new(), Vec::new());
    for _ in 0..ROWS {
        let positives: Vec<u32> =
            (0..=rng.next_u32() % 2).map(|_| rng.next_u32() % CHILDREN as u32).collect();
        let words = positives.iter().map(|&p| (p % sparse.max(1) as u32, 0.5));
        x.push(words.filter(|_| sparse > 0).collect::<Vec<_>>());
        let hint = positives[0] as usize;
        block.extend((0..dense).map(|f| uniform(&mut rng) - 0.5 + if f == hint { 1.0 } else { 0.0 }));
        y.push(positives.into_iter().map(|p| (p, 1.0)));
    }
    let block = (dense > 0).then(|| Dense::new(ROWS, dense, block).unwrap());
    (Features::new(x.finish(sparse).unwrap(), block).unwrap(), y.finish(CHILDREN).unwrap())
}

/// Two parents of three for most rows; every seventh row has none, and no row has the last parent.
fn shortlist() -> Csr {
    let mut rows = CsrBuilder::new();
    for i in 0..ROWS as u32 {
        let scores = [(0, 0.9), (i % 3, 0.0)];
        rows.push(scores.into_iter().filter(|_| i % 7 != 3));
    }
    rows.finish(4).unwrap()
}

fn learn(input: &LevelInput, config: &LevelConfig) -> LevelModel {
    LevelModel::train(input, config, 5, &|_, _| {}).unwrap()
}

fn tight() -> LevelConfig {
    LevelConfig { epsilon: 1e-4, max_iterations: 2000, threshold: 0.0, ..LevelConfig::default() }
}

#[test]
fn the_first_level_of_a_tree_learns_the_same_bits_alone() {
    let (x, y) = data(12, 5, 1);
    let input = LevelInput { x: &x, targets: &y, matching: None, relevance: None, offsets: &[0, 21] };
    for precision in [Precision::F32, Precision::F16, Precision::U8] {
        let config = LevelConfig { precision, ..LevelConfig::default() };
        let alone = learn(&input, &config);
        let all = TrainInput { x: &x, y: &y, relevance: None, negatives: None };
        let tree = train(all, Tree::flat(CHILDREN), &config.ranker(), 5, &|_, _| {}).unwrap();
        let (mut a, mut b) = (MarginScratch::default(), MarginScratch::default());
        for i in 0..ROWS {
            let margins = alone.margins(&mut a, Query::of(&x, i), 0);
            assert_eq!(margins, b.margins(tree.view(0), 0, Query::of(&x, i)));
            assert!(margins.iter().any(|&m| m != 0.0));
        }
    }
}

#[test]
fn teacher_forcing_alone_is_the_second_level_of_a_tree() {
    let (x, y) = data(12, 5, 2);
    let tree = Tree::new(vec![vec![0, 4], OFFSETS.to_vec()], (0..21).rev().collect(), CHILDREN).unwrap();
    let levels = targets::levels(&y, &tree, None).unwrap();
    let input = LevelInput {
        x: &x,
        targets: &levels[2],
        matching: Some(&levels[1]),
        relevance: None,
        offsets: &OFFSETS,
    };
    let alone = learn(&input, &tight());
    let all = TrainInput { x: &x, y: &y, relevance: None, negatives: None };
    let model = train(all, tree, &tight().ranker(), 5, &|_, _| {}).unwrap();
    let (mut a, mut b) = (MarginScratch::default(), MarginScratch::default());
    for (i, parent) in (0..ROWS).flat_map(|i| [(i, 0), (i, 1), (i, 2), (i, 3)]) {
        let ours = alone.margins(&mut a, Query::of(&x, i), parent);
        // The order of rows differs by level, so the bits do too.
        let tree = b.margins(model.view(1), parent, Query::of(&x, i));
        assert_eq!(ours.len(), tree.len());
        assert!(ours.iter().zip(tree).all(|(a, b)| (a - b).abs() < 2e-3), "{ours:?} {tree:?}");
    }
}

/// Slope of the squared-hinge objective of `node` at the learned margins: |w - 2 sum_i c_i y_i (1 - y_i m_i)+ x_i|,
/// over the rows of its parent and its positives.
fn slope(input: &LevelInput, config: &LevelConfig, weights: &[f32], parent: usize, node: usize) -> f64 {
    let width = input.x.dense_cols() + 1;
    let w: Vec<f64> = weights[node * width..(node + 1) * width].iter().map(|&v| f64::from(v)).collect();
    let mut gradient = w.clone();
    for i in 0..ROWS {
        let at = input.targets.row(i).iter().position(|(c, v)| c as usize == node && v != 0.0);
        let matched = input.matching.is_none_or(|m| m.row(i).indices.contains(&(parent as u32)));
        if at.is_none() && !matched {
            continue;
        }
        let relevance = match (at, input.relevance) {
            (Some(at), Some(r)) => f64::from(r.row(i).values[at]),
            _ => 1.0,
        };
        let (y, cost) = match at {
            Some(_) => (1.0, f64::from(config.cost_positive) * relevance),
            None => (-1.0, f64::from(config.cost_negative)),
        };
        let row: Vec<f64> = input.x.dense_row(i).iter().map(|&v| f64::from(v)).chain([1.0]).collect();
        let margin: f64 = w.iter().zip(&row).map(|(w, x)| w * x).sum();
        let pull = 2.0 * cost * y * (1.0 - y * margin).max(0.0);
        gradient.iter_mut().zip(&row).for_each(|(g, x)| *g -= pull * x);
    }
    gradient.iter().map(|g| g * g).sum::<f64>().sqrt()
}

#[test]
fn dense_rows_with_a_shortlist_and_relevance_reach_a_zero_gradient() {
    let (x, y) = data(0, 24, 3);
    let matching = shortlist();
    let mut relevance = y.clone();
    relevance.values_mut().iter_mut().enumerate().for_each(|(i, r)| *r = 0.5 + (i % 3) as f32);
    let config = LevelConfig { cost_positive: 4.0, cost_negative: 0.5, ..tight() };
    for relevance in [None, Some(&relevance)] {
        let input =
            LevelInput { x: &x, targets: &y, matching: Some(&matching), relevance, offsets: &OFFSETS };
        let model = learn(&input, &config);
        let weights = model.dense_weights();
        for (parent, w) in OFFSETS.windows(2).enumerate() {
            for node in w[0]..w[1] {
                let size = slope(&input, &config, &weights, parent, node as usize);
                assert!(size < 1e-2, "node {node}: {size}");
            }
        }
    }
}

#[test]
fn dense_weights_and_the_constant_give_the_margins() {
    let (x, y) = data(0, 24, 4);
    let matching = shortlist();
    let input =
        LevelInput { x: &x, targets: &y, matching: Some(&matching), relevance: None, offsets: &OFFSETS };
    for precision in [Precision::F32, Precision::F16, Precision::U8] {
        let model = learn(&input, &LevelConfig { bias: 0.5, precision, ..LevelConfig::default() });
        let weights = model.dense_weights();
        assert_eq!(weights.len(), CHILDREN * 25);
        let mut scratch = MarginScratch::default();
        for i in 0..ROWS {
            let row: Vec<f32> = x.dense_row(i).iter().copied().chain([1.0]).collect();
            for (parent, w) in OFFSETS.windows(2).enumerate() {
                let margins = model.margins(&mut scratch, Query::of(&x, i), parent);
                for (node, margin) in (w[0]..w[1]).zip(margins) {
                    let weights = &weights[node as usize * 25..][..25];
                    let product: f32 = weights.iter().zip(&row).map(|(w, x)| w * x).sum();
                    assert!((product - margin).abs() < 1e-5, "{product} {margin}");
                }
            }
            assert!(model.margins(&mut scratch, Query::of(&x, i), 4).is_empty());
        }
    }
}

#[test]
fn zeros_among_the_targets_are_no_positives() {
    let (x, y) = data(12, 5, 6);
    let (mut with, mut relevance) = (CsrBuilder::new(), CsrBuilder::new());
    for (i, row) in y.iter().enumerate() {
        let extra = (i % CHILDREN) as u32;
        let zero = (row.get(extra) == 0.0).then_some(extra);
        with.push(row.iter().chain(zero.map(|e| (e, 0.0))));
        relevance.push(row.iter().map(|(c, _)| (c, 2.0)).chain(zero.map(|e| (e, 9.0))));
    }
    let (with, relevance) = (with.finish(CHILDREN).unwrap(), relevance.finish(CHILDREN).unwrap());
    let input =
        LevelInput { x: &x, targets: &with, matching: None, relevance: Some(&relevance), offsets: &[0, 21] };
    let mut twos = y.clone();
    twos.values_mut().fill(2.0);
    let clean = LevelInput { targets: &y, relevance: Some(&twos), ..input };
    let (a, b) = (learn(&input, &tight()), learn(&clean, &tight()));
    assert_eq!(a.dense_weights(), b.dense_weights());
}

#[test]
fn threads_do_not_change_a_bit_and_progress_ends_at_the_children() {
    let (x, y) = data(12, 40, 7);
    let matching = shortlist();
    let input =
        LevelInput { x: &x, targets: &y, matching: Some(&matching), relevance: None, offsets: &OFFSETS };
    let bits = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let most = AtomicU64::new(0);
        let seen = |done, total| {
            assert_eq!(total, 21);
            most.fetch_max(done, Ordering::Relaxed);
        };
        let model = pool.install(|| LevelModel::train(&input, &LevelConfig::default(), 1, &seen).unwrap());
        assert_eq!(most.into_inner(), 21);
        model.dense_weights().iter().map(|w| w.to_bits()).collect::<Vec<_>>()
    };
    assert_eq!(bits(1), bits(3));
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let (x, y) = data(12, 5, 8);
    let matching = shortlist();
    let good =
        LevelInput { x: &x, targets: &y, matching: Some(&matching), relevance: None, offsets: &OFFSETS };
    let message = |input: LevelInput, config: LevelConfig| {
        LevelModel::train(&input, &config, 0, &|_, _| {}).unwrap_err().to_string()
    };
    let cases = [
        (LevelInput { offsets: &[], ..good }, "offsets: expected to rise from 0 to 21"),
        (LevelInput { offsets: &[0, 30, 21], ..good }, "offsets: expected to rise from 0 to 21"),
        (LevelInput { matching: None, ..good }, "matching: expected one for 4 parents"),
        (LevelInput { matching: Some(&y), ..good }, "matching: 90 rows and 21 parents, expected 90 and 4"),
        (LevelInput { relevance: Some(&matching), ..good }, "relevance: its entries must be"),
    ];
    for (input, expected) in cases {
        let found = message(input, LevelConfig::default());
        assert!(found.contains(expected), "{found}");
    }
    let config = LevelConfig { cost_positive: 0.0, ..LevelConfig::default() };
    assert!(message(good, config).contains("cost_positive"));
    // One more child than a chunk can number.
    let wide = Csr::empty(ROWS, 65_536);
    let input = LevelInput { x: &x, targets: &wide, matching: None, relevance: None, offsets: &[0, 65_536] };
    assert!(message(input, LevelConfig::default()).contains("65536 children, at most 65535 are supported"));
}

#[test]
fn nodes_on_their_own_are_parents_of_one_child() {
    let (x, y) = data(12, 5, 6);
    let offsets: Vec<u32> = (0..=CHILDREN as u32).collect();
    let mut rows = CsrBuilder::new();
    for i in 0..ROWS as u32 {
        let shown: std::collections::BTreeSet<u32> =
            (0..4).map(|j| (i * 7 + j * 5) % CHILDREN as u32).collect();
        rows.push(shown.into_iter().map(|node| (node, 0.5)));
    }
    let rows = rows.finish(CHILDREN).unwrap();
    let input = LevelInput { x: &x, targets: &y, matching: Some(&rows), relevance: None, offsets: &offsets };
    let config = LevelConfig { bias: 0.5, threshold: 0.05, ..LevelConfig::default() };
    let level = learn(&input, &config);
    let nodes = node_weights(&input, &config, 5, &|_, _| {}).unwrap();
    let mut scratch = MarginScratch::default();
    for i in 0..ROWS {
        let query = Query::of(&x, i);
        let dense = (12..).zip(query.dense.iter().copied());
        let features: Vec<(u32, f32)> = query.sparse.iter().chain(dense).chain([(17, 1.0)]).collect();
        for node in 0..CHILDREN {
            let margin: f32 = features.iter().map(|&(f, v)| v * nodes.row(node).get(f)).sum();
            assert!((margin - level.margins(&mut scratch, query, node)[0]).abs() < 1e-5);
        }
    }
    let wrong = LevelInput { offsets: &[0, 2, 21], matching: None, ..input };
    assert!(node_weights(&wrong, &config, 5, &|_, _| {}).is_err());
}
