//! How fast do embeddings beside sparse features train and search? Random unit rows on one thread.
//!
//! `solver`: sixteen labels on 2,000 rows, ten passes; per visit of a row (a margin and an update of sixteen lanes).
//! `product`: a row times a parent with 100 children, in f16; per child.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use rand::Rng;
use rand_pcg::Pcg32;
use xmc_data::{Csr, CsrBuilder, Dense};
use xmc_linear::search::MarginScratch;
use xmc_linear::store::Precision;
use xmc_linear::{Features, LevelConfig, LevelInput, LevelModel, Query, Result};

const ROWS: usize = 2000;
const PASSES: u32 = 10;

/// Rows with `width` dense features, and for each some of `labels` labels.
fn data(width: usize, labels: u32) -> Result<(Features, Csr)> {
    let mut random = Pcg32::new(7, 1);
    let (mut block, mut y) = (Vec::with_capacity(ROWS * width), CsrBuilder::new());
    let scale = (3.0 / width as f32).sqrt();
    for _ in 0..ROWS {
        block.extend((0..width).map(|_| (random.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0) * scale));
        y.push(
            (0..labels).filter(|_| random.next_u32().is_multiple_of(4)).map(|l| (l, 1.0)).collect::<Vec<_>>(),
        );
    }
    let x = Features::new(Csr::empty(ROWS, 0), Some(Dense::new(ROWS, width, block)?))?;
    Ok((x, y.finish(labels as usize)?))
}

fn solver(c: &mut Criterion) {
    let mut group = c.benchmark_group("solver");
    group.sample_size(20);
    group.throughput(Throughput::Elements(ROWS as u64 * u64::from(PASSES)));
    for width in [384, 768] {
        let Ok((x, y)) = data(width, 16) else { return };
        let input = LevelInput { x: &x, targets: &y, matching: None, relevance: None, offsets: &[0, 16] };
        // No label is ever solved, and hardly a row leaves.
        let config = LevelConfig { epsilon: 1e-9, max_iterations: PASSES, ..LevelConfig::default() };
        group.bench_function(BenchmarkId::from_parameter(width), |b| {
            b.iter(|| LevelModel::train(black_box(&input), &config, 0, &|_, _| {}));
        });
    }
    group.finish();
}

fn product(c: &mut Criterion) {
    let mut group = c.benchmark_group("product");
    group.throughput(Throughput::Elements(100));
    for width in [384, 768] {
        let Ok((x, y)) = data(width, 100) else { return };
        let input = LevelInput { x: &x, targets: &y, matching: None, relevance: None, offsets: &[0, 100] };
        let config = LevelConfig { max_iterations: 1, precision: Precision::F16, ..LevelConfig::default() };
        let Ok(model) = LevelModel::train(&input, &config, 0, &|_, _| {}) else { return };
        let mut scratch = MarginScratch::default();
        let mut rows = (0..ROWS).cycle();
        group.bench_function(BenchmarkId::from_parameter(width), |b| {
            b.iter(|| model.margins(&mut scratch, Query::of(&x, rows.next().unwrap_or(0)), 0).len());
        });
    }
    group.finish();
}

criterion_group!(benches, solver, product);
criterion_main!(benches);
