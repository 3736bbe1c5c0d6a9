//! How fast is every step of XR-Linear? 30,000 rows of 30 words, 3 of 20,000 labels each, Zipf-like.
//!
//! `cluster`: label features and trees, per stored feature. `rankers`: all levels of the balanced tree, per label.
//! `search`: one row at a time by beam, exactly, and for 100 given labels. `open`: mapping a written model.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::Rng;
use rand_pcg::Pcg32;
use xmc_data::{Csr, CsrBuilder};
use xmc_linear::cluster::{ClusterConfig, Method, build_tree};
use xmc_linear::label_features::pifa;
use xmc_linear::ranker::{TrainInput, train};
use xmc_linear::search::SearchOptions;
use xmc_linear::{Features, Query, RankerConfig, Result, Searcher, TreeModel};

const ROWS: usize = 30_000;
const FEATURES: u32 = 50_000;
const LABELS: u32 = 20_000;

/// An id below `n`, the small ones most often.
fn zipf(random: &mut Pcg32, n: u32) -> u32 {
    let share = f64::from(random.next_u32()) / f64::from(u32::MAX);
    (f64::from(n).powf(share) as u32).min(n - 1)
}

/// Rows of up to `length` ids below `cols`; the words of a row gather around its first label.
fn matrix(random: &mut Pcg32, cols: u32, length: usize) -> Csr {
    let mut rows = CsrBuilder::new();
    for i in 0..ROWS {
        let shift = i as u32 * 7;
        let mut ids: Vec<u32> = (0..length)
            .map(|j| if j % 2 == 0 { zipf(random, cols) } else { (shift + zipf(random, cols)) % cols })
            .collect();
        ids.sort_unstable();
        ids.dedup();
        rows.push(ids.into_iter().map(|c| (c, 1.0)));
    }
    rows.finish(cols as usize).unwrap_or_else(|_| Csr::empty(ROWS, cols as usize))
}

/// Rows and their labels.
fn data() -> (Features, Csr) {
    let mut random = Pcg32::new(7, 1);
    let mut x = matrix(&mut random, FEATURES, 30);
    x.normalize_rows();
    (Features::from(x), matrix(&mut random, LABELS, 3))
}

fn cluster(c: &mut Criterion) {
    let (x, y) = data();
    let Ok(z) = pifa(&x, &y) else { return };
    let mut group = c.benchmark_group("cluster");
    group.sample_size(10);
    group.throughput(Throughput::Elements(y.iter().map(|row| row.len() as u64 * 30).sum()));
    group.bench_function("pifa", |b| b.iter(|| pifa(black_box(&x), &y)));
    group.throughput(Throughput::Elements(z.sparse().nnz() as u64));
    for method in [Method::Balanced, Method::Unbalanced] {
        let config = ClusterConfig { method, ..ClusterConfig::default() };
        group.bench_function(format!("{method:?}"), |b| b.iter(|| build_tree(black_box(&z), &config, 0)));
    }
    group.finish();
}

fn rankers_and_search(c: &mut Criterion) {
    let (x, y) = data();
    let input = TrainInput { x: &x, y: &y, relevance: None, negatives: None };
    let learn = || -> Result<TreeModel> {
        let tree = build_tree(&pifa(&x, &y)?, &ClusterConfig::default(), 0)?;
        train(input, tree, &RankerConfig::default(), 0, &|_, _| {})
    };
    let Ok(model) = learn() else { return };

    let mut group = c.benchmark_group("rankers");
    group.sample_size(10);
    group.throughput(Throughput::Elements(u64::from(LABELS)));
    group.bench_function("train", |b| {
        b.iter(|| train(input, model.tree().clone(), &RankerConfig::default(), 0, &|_, _| {}));
    });
    group.finish();

    let mut group = c.benchmark_group("search");
    group.throughput(Throughput::Elements(1));
    let mut searcher = Searcher::new(&model);
    let mut rows = (0..ROWS).cycle();
    let mut next = || Query::of(&x, rows.next().unwrap_or(0));
    let options = SearchOptions { top_k: Some(10), ..SearchOptions::default() };
    group.bench_function("beam", |b| b.iter(|| searcher.beam(next(), &options).len()));
    group.bench_function("exact", |b| b.iter(|| searcher.exact(next(), &options).map(<[_]>::len)));
    let given: Vec<u32> = (0..100).map(|l| l * 199).collect();
    let mut scores = Vec::new();
    group.bench_function("given", |b| {
        b.iter(|| searcher.score_labels(next(), &given, &options, &mut scores));
    });
    group.finish();

    let Ok(file) = tempfile::NamedTempFile::new() else { return };
    if model.save(file.path()).is_ok() {
        c.bench_function("open", |b| b.iter(|| TreeModel::open(black_box(file.path()))));
    }
}

criterion_group!(benches, cluster, rankers_and_search);
criterion_main!(benches);
