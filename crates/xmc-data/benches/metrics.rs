//! How fast are predictions judged and merged? 20,000 rows of 100 predictions over 50,000 labels.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rand::Rng;
use rand_pcg::Pcg32;
use xmc_data::metrics::{EvaluateConfig, evaluate, label_counts};
use xmc_data::topk::ensemble::{EnsembleRule, merge};
use xmc_data::{Csr, CsrBuilder, TopK};

const ROWS: usize = 20_000;
const LABELS: u32 = 50_000;
const DEPTH: usize = 100;

/// Labels of a Zipf-like frequency.
fn label(random: &mut Pcg32) -> u32 {
    let share = f64::from(random.next_u32()) / f64::from(u32::MAX);
    (f64::from(LABELS).powf(share) as u32).min(LABELS - 1)
}

fn truth(random: &mut Pcg32) -> Csr {
    let mut y = CsrBuilder::new();
    for _ in 0..ROWS {
        let mut row: Vec<u32> = (0..5).map(|_| label(random)).collect();
        row.sort_unstable();
        row.dedup();
        y.push(row.into_iter().map(|l| (l, 1.0)));
    }
    y.finish(LABELS as usize).unwrap_or_else(|_| Csr::empty(ROWS, LABELS as usize))
}

fn predictions(random: &mut Pcg32) -> TopK {
    let mut top = TopK::new();
    for _ in 0..ROWS {
        let mut row: Vec<(u32, f32)> =
            (0..DEPTH).map(|_| (label(random), random.next_u32() as f32 / u32::MAX as f32)).collect();
        top.push(&mut row);
    }
    top
}

fn judging(c: &mut Criterion) {
    let mut random = Pcg32::new(1, 1);
    let (y, top) = (truth(&mut random), predictions(&mut random));
    let counts = label_counts(&y);
    let mut group = c.benchmark_group("metrics");
    group.sample_size(10).throughput(Throughput::Elements(ROWS as u64));
    for (name, resamples) in [("evaluate", 0), ("evaluate with intervals", 1000)] {
        let config = EvaluateConfig { resamples, ..EvaluateConfig::default() };
        group.bench_function(name, |b| {
            b.iter(|| evaluate(black_box(&top), &y, &counts, ROWS, &[], &config));
        });
    }
    group.finish();
}

fn merging(c: &mut Criterion) {
    let mut random = Pcg32::new(2, 1);
    let models = [predictions(&mut random), predictions(&mut random), predictions(&mut random)];
    let mut group = c.benchmark_group("ensemble");
    group.sample_size(10).throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("average of three", |b| {
        b.iter(|| merge(black_box(&models), EnsembleRule::Average, DEPTH));
    });
    group.finish();
}

criterion_group!(benches, judging, merging);
criterion_main!(benches);
