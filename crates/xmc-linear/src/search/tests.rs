//! Search against an exhaustive walk over all labels, on models trained from random data.

use proptest::prelude::*;
use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};
use xmc_data::topk::by_score;
use xmc_data::{Csr, CsrBuilder, Dense};

use super::*;
use crate::negatives::NegativeSampling;
use crate::ranker::{PerLevel, RankerConfig, TrainInput, train};
use crate::store::{Packing, Precision};
use crate::tree::Tree;

const ROWS: usize = 150;
const FEATURES: usize = 60;
const LABELS: usize = 23;

/// Rows whose features hint at their labels, with a dense block of three columns.
fn data(seed: u64) -> (Features, Csr) {
    let mut rng = Pcg32::seed_from_u64(seed);
    let (mut x, mut y) = (CsrBuilder::new(), CsrBuilder::new());
    let mut dense = Vec::new();
    for _ in 0..ROWS {
        let labels: Vec<u32> = (0..=rng.next_u32() % 3).map(|_| rng.next_u32() % LABELS as u32).collect();
        let noise: Vec<u32> = (0..3).map(|_| rng.next_u32() % FEATURES as u32).collect();
        let hints = labels.iter().flat_map(|&l| [(2 * l, 0.5), (2 * l + 1, 0.25)]);
        x.push(hints.chain(noise.into_iter().map(|f| (f, 0.2))));
        dense.extend((0..3).map(|j| (labels[0] % (j + 2)) as f32 * 0.3));
        y.push(labels.into_iter().map(|l| (l, 1.0)));
    }
    let dense = Dense::new(ROWS, 3, dense).unwrap();
    // Summed duplicates in y are still positives.
    (Features::new(x.finish(FEATURES).unwrap(), Some(dense)).unwrap(), y.finish(LABELS).unwrap())
}

/// Three levels: 2, 5 and 22 nodes; label 7 is in no leaf.
fn tree() -> Tree {
    let labels: Vec<u32> = (0..LABELS as u32).rev().filter(|&l| l != 7).collect();
    Tree::new(vec![vec![0, 2], vec![0, 3, 5], vec![0, 4, 9, 9, 16, 22]], labels, LABELS).unwrap()
}

fn model(config: &RankerConfig, seed: u64) -> TreeModel {
    let (x, y) = data(seed);
    let input = TrainInput { x: &x, y: &y, relevance: None, negatives: None };
    train(input, tree(), config, seed, &|_, _| {}).unwrap()
}

fn with(post_processor: &str, weights: Precision) -> RankerConfig {
    let post_processor = PerLevel::All(post_processor.parse().unwrap());
    RankerConfig { post_processor, weights, threshold: PerLevel::All(0.01), ..RankerConfig::default() }
}

/// Weight of one feature (bias last) for one node, looked up in the packed form entry by entry.
fn weight(model: &TreeModel, t: usize, node: usize, feature: usize) -> f32 {
    let parent = model.tree.parents(t + 1)[node] as usize;
    let mut product = MarginScratch::default();
    let margin = |product: &mut MarginScratch, sparse: &[u32], dense: &[f32]| {
        let query = Query { sparse: Row { indices: sparse, values: &[1.0][..sparse.len()] }, dense };
        product.margins(model.view(t), parent, query)[node - model.tree.children(t, parent).start]
    };
    let bias = margin(&mut product, &[], &[]);
    if feature < FEATURES {
        margin(&mut product, &[feature as u32], &[]) - bias
    } else if feature < FEATURES + 3 {
        let mut dense = [0.0; 3];
        dense[feature - FEATURES] = 1.0;
        margin(&mut product, &[], &dense) - bias
    } else {
        bias
    }
}

/// Scores of all labels in the tree by walking every node.
fn exhaustive(model: &TreeModel, query: Query) -> Vec<(u32, f32)> {
    let mut product = MarginScratch::default();
    let mut scores = vec![model.levels[0].post_processor.root()];
    for (t, level) in model.levels.iter().enumerate() {
        let mut next = Vec::new();
        for (node, &parent) in scores.iter().enumerate() {
            let margins = product.margins(model.view(t), node, query);
            let p = level.post_processor;
            next.extend(margins.iter().map(|&m| p.combine(parent, p.transform(m))));
        }
        scores = next;
    }
    let mut all: Vec<(u32, f32)> = model.tree.labels().iter().copied().zip(scores).collect();
    all.sort_by(by_score);
    all
}

#[test]
fn a_wide_beam_and_exact_search_equal_the_exhaustive_walk() {
    for name in ["l3-hinge", "sigmoid", "log-sigmoid", "log-l2-hinge", "noop"] {
        for precision in [Precision::F16, Precision::F32] {
            let model = model(&with(name, precision), 1);
            let (x, _) = data(2);
            let mut searcher = Searcher::new(&model);
            for i in 0..ROWS {
                let query = Query::of(&x, i);
                let all = exhaustive(&model, query);
                for k in [1, 4, 30] {
                    let options =
                        SearchOptions { beam_size: Some(100), top_k: Some(k), ..SearchOptions::default() };
                    let expected = &all[..k.min(all.len())];
                    assert_eq!(searcher.beam(query, &options), expected, "{name}, k {k}, row {i}");
                    if name != "noop" {
                        assert_eq!(searcher.exact(query, &options).unwrap(), expected);
                    }
                }
            }
        }
    }
}

#[test]
fn a_narrow_beam_equals_a_beam_without_pruning() {
    let model = model(&with("l3-hinge", Precision::F32), 3);
    let (x, _) = data(4);
    let mut searcher = Searcher::new(&model);
    let mut product = MarginScratch::default();
    let p = model.levels[0].post_processor;
    for i in 0..ROWS {
        let query = Query::of(&x, i);
        let mut nodes = vec![(0u32, 1.0f32)];
        for t in 0..3 {
            let mut next = Vec::new();
            for &(node, parent) in &nodes {
                let children = model.tree.children(t, node as usize);
                let margins = product.margins(model.view(t), node as usize, query);
                next.extend(children.zip(margins).map(|(c, &m)| {
                    let id = if t == 2 { model.tree.labels()[c] } else { c as u32 };
                    (id, p.combine(parent, p.transform(m)))
                }));
            }
            next.sort_by(by_score);
            next.truncate(if t == 2 { 5 } else { 2 });
            nodes = next;
        }
        let options = SearchOptions { beam_size: Some(2), top_k: Some(5), ..SearchOptions::default() };
        assert_eq!(searcher.beam(query, &options), nodes);
    }
}

#[test]
fn given_labels_score_as_in_the_exhaustive_walk() {
    let model = model(&with("sigmoid", Precision::F16), 5);
    let (x, _) = data(6);
    let mut searcher = Searcher::new(&model);
    let mut scores = Vec::new();
    for i in 0..ROWS {
        let query = Query::of(&x, i);
        let all = exhaustive(&model, query);
        let wanted = [3, 19, 7, 3, 999, 0];
        searcher.score_labels(query, &wanted, &SearchOptions::default(), &mut scores);
        for (&l, &score) in wanted.iter().zip(&scores) {
            let expected = all.iter().find(|e| e.0 == l).map_or(f32::NEG_INFINITY, |e| e.1);
            assert_eq!(score, expected);
        }
    }
}

#[test]
fn an_explanation_adds_up_to_what_the_search_computes() {
    for (name, precision) in
        [("sigmoid", Precision::F32), ("l3-hinge", Precision::F16), ("noop", Precision::U8)]
    {
        let model = model(&with(name, precision), 14);
        let (x, _) = data(15);
        let mut searcher = Searcher::new(&model);
        let (mut product, mut scores) = (MarginScratch::default(), Vec::new());
        let options = SearchOptions::default();
        for (i, label) in (0..ROWS).zip((0..LABELS as u32).cycle()) {
            let query = Query::of(&x, i);
            searcher.score_labels(query, &[label], &options, &mut scores);
            let Some(explanation) = searcher.explain(query, label, &options) else {
                assert_eq!((label, scores[0]), (7, f32::NEG_INFINITY));
                continue;
            };
            assert_eq!(explanation.steps.len(), 3);
            let mut above = 0;
            for (t, step) in explanation.steps.iter().enumerate() {
                let children = model.tree.children(t, above);
                let margins = product.margins(model.view(t), above, query);
                assert_eq!((step.level, step.margin), (t + 1, margins[step.node as usize - children.start]));
                let sum = step.bias + step.dense + step.terms.iter().map(|t| t.1).sum::<f32>();
                assert!((sum - step.margin).abs() < 1e-5, "{step:?}");
                // Every share by itself, from a row that has nothing else.
                let none = Row { indices: &[], values: &[] };
                let of = |product: &mut MarginScratch, sparse: Row, dense: &[f32]| {
                    product.margins(model.view(t), above, Query { sparse, dense })
                        [step.node as usize - children.start]
                };
                assert_eq!(step.bias, of(&mut product, none, &[]));
                let dense = of(&mut product, none, query.dense) - step.bias;
                assert!((step.dense - dense).abs() < 1e-5);
                for (&feature, &value) in query.sparse.indices.iter().zip(query.sparse.values) {
                    let share =
                        of(&mut product, Row { indices: &[feature], values: &[value] }, &[]) - step.bias;
                    let told = step.terms.iter().find(|t| t.0 == feature).map_or(0.0, |t| t.1);
                    assert!((share - told).abs() < 1e-5);
                }
                assert!(step.terms.is_sorted_by(|a, b| a.1.abs() >= b.1.abs()));
                assert!(step.terms.iter().all(|t| t.1 != 0.0));
                above = step.node as usize;
            }
            assert_eq!(model.tree.labels()[above], label);
            assert_eq!(explanation.steps[2].score, scores[0]);
        }
        assert!(searcher.explain(Query::of(&x, 0), 999, &options).is_none());
    }
}

#[test]
fn example_labels_are_those_below_a_node_by_their_bias() {
    let model = model(&with("l3-hinge", Precision::F16), 16);
    let bias = &model.levels[2].bias;
    for (t, node) in [(0, 0), (1, 1), (2, 0), (2, 2), (2, 4), (3, 20)] {
        let mut below: Vec<usize> = vec![node];
        for t in t..3 {
            below = below.into_iter().flat_map(|node| model.tree.children(t, node)).collect();
        }
        let mut expected: Vec<(u32, f32)> =
            below.into_iter().map(|at| (model.tree.labels()[at], bias[at])).collect();
        expected.sort_by(by_score);
        let labels: Vec<u32> = expected.iter().map(|e| e.0).collect();
        assert_eq!(model.example_labels(t, node, 100), labels);
        assert_eq!(model.example_labels(t, node, 2), labels[..labels.len().min(2)]);
    }
    assert!(model.example_labels(2, 5, 9).is_empty() && model.example_labels(4, 0, 9).is_empty());
}

#[test]
fn a_product_below_a_logarithm_is_searched_without_shortcuts() {
    let chain = ["log-l3-hinge", "log-l3-hinge", "l3-hinge"].map(|p| p.parse().unwrap());
    let config =
        RankerConfig { post_processor: PerLevel::Each(chain.to_vec()), ..with("noop", Precision::F32) };
    let model = model(&config, 12);
    let (x, _) = data(13);
    let mut searcher = Searcher::new(&model);
    for i in 0..ROWS {
        let query = Query::of(&x, i);
        let options = SearchOptions { beam_size: Some(100), top_k: Some(4), ..SearchOptions::default() };
        assert_eq!(searcher.beam(query, &options), &exhaustive(&model, query)[..4]);
        assert!(searcher.exact(query, &options).is_err());
    }
}

#[test]
fn exact_search_refuses_scores_that_may_rise() {
    let model = model(&with("noop", Precision::F16), 1);
    let (x, _) = data(1);
    let mut searcher = Searcher::new(&model);
    let message = searcher.exact(Query::of(&x, 0), &SearchOptions::default()).unwrap_err().to_string();
    assert!(message.starts_with("`post_processor` = noop, noop, noop: expected a sigmoid or hinge"));
}

#[test]
fn both_packings_and_both_precisions_hold_the_same_weights() {
    let exact = model(&with("l3-hinge", Precision::F32), 7);
    let half = model(&with("l3-hinge", Precision::F16), 7);
    assert_eq!(exact.levels[2].packing(), Packing::Narrow);
    for t in 0..3 {
        for node in 0..exact.tree.width(t + 1) {
            for f in 0..FEATURES + 4 {
                let (a, b) = (weight(&exact, t, node, f), weight(&half, t, node, f));
                assert!((a - b).abs() <= a.abs() * 2e-3 + 1e-6, "level {t} node {node} feature {f}: {a} {b}");
            }
        }
    }
}

#[test]
fn the_model_learns_what_the_features_hint_at() {
    let model = model(&with("l3-hinge", Precision::F16), 8);
    let (x, y) = data(9);
    let mut searcher = Searcher::new(&model);
    let right = (0..ROWS).filter(|&i| {
        let best = searcher.beam(Query::of(&x, i), &SearchOptions::default()).first().map_or(0, |b| b.0);
        y.row(i).get(best) > 0.0
    });
    assert!(right.count() > ROWS * 8 / 10);
}

#[test]
fn negatives_from_the_model_and_relevance_train_and_differ() {
    let base = with("l3-hinge", Precision::F32);
    let sampling = |name: &str| PerLevel::All(NegativeSampling::try_from(name.to_owned()).unwrap());
    let tfn = model(&base, 10);
    let man = model(&RankerConfig { negatives: sampling("tfn+man"), beam_size: 2, ..base.clone() }, 10);
    let bytes = |m: &TreeModel| m.levels.iter().map(crate::store::Level::nnz).collect::<Vec<_>>();
    // The first level has one parent and all rows either way.
    assert_eq!(bytes(&tfn)[0], bytes(&man)[0]);
    assert_ne!(bytes(&tfn)[2], bytes(&man)[2]);
}

#[test]
fn a_positive_of_relevance_zero_hardly_trains_and_moves_no_other_cost() {
    // Ten rows of label 0, each with a feature of its own; three of them do not matter.
    let (mut x, mut y) = (CsrBuilder::new(), CsrBuilder::new());
    for i in 0..20u32 {
        x.push([(i, 1.0)]);
        y.push([(u32::from(i >= 10), 1.0)]);
    }
    let (x, y) = (Features::from(x.finish(20).unwrap()), y.finish(2).unwrap());
    let mut relevance = y.clone();
    relevance.values_mut()[..3].fill(0.0);
    let input = TrainInput { x: &x, y: &y, relevance: Some(&relevance), negatives: None };
    let config =
        RankerConfig { relevance: crate::ranker::RelevanceMode::Induce, ..with("l3-hinge", Precision::F32) };
    let model = train(input, Tree::flat(2), &config, 0, &|_, _| {}).unwrap();
    let weights: Vec<f32> = {
        let mut product = MarginScratch::default();
        (0..20).map(|i| product.margins(model.view(0), 0, Query::of(&x, i))[0]).collect()
    };
    assert!(weights[3..10].iter().all(|w| *w > weights[0] + 0.3 && *w > weights[10] + 0.3), "{weights:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn training_gives_the_same_bits_at_any_thread_count(seed in 0u64..1000) {
        let config = with("l3-hinge", Precision::F32);
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| model(&config, seed)).save(file.path()).unwrap();
            std::fs::read(file.path()).unwrap()
        };
        let one = bytes(1);
        prop_assert_eq!(&one, &bytes(2));
        prop_assert_eq!(&one, &bytes(5));
        // What was written reads back as the same model.
        let opened = TreeModel::open(file.path()).unwrap();
        opened.save(file.path()).unwrap();
        prop_assert_eq!(&one, &std::fs::read(file.path()).unwrap());
    }
}
