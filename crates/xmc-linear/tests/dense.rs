//! Do label features, clustering, training and search treat a dense block as they treat sparse features?
//!
//! The twin of rows `[sparse | dense]` is the same rows with every number of the block as a sparse entry: another path
//! through all of the code to the same mathematics.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use rand::Rng;
use rand_pcg::Pcg32;
use rand_pcg::rand_core::SeedableRng;
use xmc_data::{Csr, CsrBuilder, Dense};
use xmc_linear::cluster::{ClusterConfig, Method, build_tree};
use xmc_linear::label_features::pifa;
use xmc_linear::negatives::NegativeSampling;
use xmc_linear::ranker::{PerLevel, TrainInput, train};
use xmc_linear::search::SearchOptions;
use xmc_linear::store::Precision;
use xmc_linear::{Features, PostProcessor, Query, RankerConfig, Searcher, Tree, TreeModel};

const ROWS: usize = 240;
const SPARSE: usize = 50;
const DENSE: usize = 43;
const LABELS: usize = 60;

/// Rows whose sparse features and embedding both hint at their labels.
fn data(seed: u64) -> (Features, Csr) {
    let mut random = Pcg32::seed_from_u64(seed);
    let mut uniform = || random.next_u32() as f32 / u32::MAX as f32;
    let (mut x, mut y, mut block) = (CsrBuilder::new(), CsrBuilder::new(), Vec::new());
    for i in 0..ROWS {
        let labels = [i % LABELS, (uniform() * LABELS as f32) as usize % LABELS];
        let words = labels.map(|l| (l % SPARSE) as u32);
        x.push(words.into_iter().map(|w| (w, 0.3 + 0.4 * uniform())).collect::<Vec<_>>());
        let hint = |f: usize| if f == labels[0] % DENSE { 0.6 } else { 0.0 };
        block.extend((0..DENSE).map(|f| (uniform() - 0.5) * 0.3 + hint(f)));
        y.push(labels.map(|l| (l as u32, 1.0)));
    }
    let block = Dense::new(ROWS, DENSE, block).unwrap();
    (Features::new(x.finish(SPARSE).unwrap(), Some(block)).unwrap(), y.finish(LABELS).unwrap())
}

/// The twin.
fn all_sparse(x: &Features) -> Features {
    let mut rows = CsrBuilder::new();
    for (i, row) in x.sparse().iter().enumerate() {
        let block = x.dense_row(i).iter().enumerate();
        rows.push(row.iter().chain(block.map(|(f, &v)| ((SPARSE + f) as u32, v))).collect::<Vec<_>>());
    }
    rows.finish(SPARSE + DENSE).unwrap().into()
}

fn tree_of(x: &Features, y: &Csr, method: Method) -> Tree {
    let config = ClusterConfig { method, branching: 4, max_leaf_size: 5, ..ClusterConfig::default() };
    build_tree(&pifa(x, y).unwrap(), &config, 3).unwrap()
}

#[test]
fn trees_are_those_of_the_sparse_twin() {
    for seed in 0..3 {
        let (x, y) = data(seed);
        for method in [Method::Balanced, Method::Unbalanced] {
            assert_eq!(tree_of(&x, &y, method), tree_of(&all_sparse(&x), &y, method));
        }
    }
}

#[test]
fn scores_are_those_of_the_sparse_twin() {
    let (x, y) = data(5);
    let twin = all_sparse(&x);
    let tree = tree_of(&x, &y, Method::Balanced);
    let config = RankerConfig {
        epsilon: 1e-4,
        max_iterations: 3000,
        threshold: PerLevel::All(0.0),
        post_processor: PerLevel::All(PostProcessor::Noop),
        weights: Precision::F32,
        ..RankerConfig::default()
    };
    let learn = |x: &Features| -> TreeModel {
        let input = TrainInput { x, y: &y, relevance: None, negatives: None };
        train(input, tree.clone(), &config, 7, &|_, _| {}).unwrap()
    };
    let (ours, theirs) = (learn(&x), learn(&twin));
    assert_eq!((ours.features(), theirs.features()), ((SPARSE, DENSE), (SPARSE + DENSE, 0)));
    let (mut a, mut b) = (Searcher::new(&ours), Searcher::new(&theirs));
    let all: Vec<u32> = (0..LABELS as u32).collect();
    let (mut scores, mut twins) = (Vec::new(), Vec::new());
    for i in 0..ROWS {
        let options = SearchOptions::default();
        a.score_labels(Query::of(&x, i), &all, &options, &mut scores);
        b.score_labels(Query::of(&twin, i), &all, &options, &mut twins);
        let far = scores.iter().zip(&twins).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(far < 5e-3, "row {i}: {far}");
        assert!(scores.iter().any(|&s| s > 0.0) && scores.iter().any(|&s| s < -0.5));
    }
}

#[test]
fn the_whole_path_gives_the_same_bits_at_one_and_three_threads() {
    let (x, y) = data(8);
    let file = tempfile::NamedTempFile::new().unwrap();
    let negatives = PerLevel::All(NegativeSampling::try_from("tfn+man".to_owned()).unwrap());
    let config = RankerConfig { negatives, beam_size: 3, ..RankerConfig::default() };
    let bytes = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let model = pool.install(|| {
            let input = TrainInput { x: &x, y: &y, relevance: None, negatives: None };
            train(input, tree_of(&x, &y, Method::Balanced), &config, 1, &|_, _| {}).unwrap()
        });
        model.save(file.path()).unwrap();
        std::fs::read(file.path()).unwrap()
    };
    assert_eq!(bytes(1), bytes(3));
}
