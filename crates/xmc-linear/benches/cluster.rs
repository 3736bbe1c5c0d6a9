//! How fast do labels get their features and their tree? 30,000 rows of 30 words, 3 of 20,000 labels each, Zipf-like.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::Rng;
use rand_pcg::Pcg32;
use xmc_data::{Csr, CsrBuilder};
use xmc_linear::Features;
use xmc_linear::cluster::{ClusterConfig, Method, build_tree};
use xmc_linear::label_features::pifa;

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

fn cluster(c: &mut Criterion) {
    let mut random = Pcg32::new(7, 1);
    let mut x = matrix(&mut random, FEATURES, 30);
    x.normalize_rows();
    let (x, y) = (Features::from(x), matrix(&mut random, LABELS, 3));
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

criterion_group!(benches, cluster);
criterion_main!(benches);
