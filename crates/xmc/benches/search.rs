//! How long does exact search take? A batch of queries, and one query at a time.
//!
//! `cargo bench -p xmc --bench search -- --queries 2449 --labels 113595 --dim 384 --k 100 --dtype bf16 --threads 2`
//!
//! Data are normalised Gaussian rows, or `--data QUERIES.npy LABELS.npy`. `bench/encoder/torch_search.py` takes the same
//! options for PyTorch and faiss.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use rayon::prelude::*;
use xmc::data::TopK;
use xmc::data::formats::npy;
use xmc::index::{Dtype, Filter, LabelEmbeddings, search, search_in};
use xmc::nn::{Device, Precision, Tensor};

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 2449)]
    queries: usize,
    #[arg(long, default_value_t = 113_595)]
    labels: usize,
    #[arg(long, default_value_t = 384)]
    dim: usize,
    #[arg(long, default_value_t = 100)]
    k: usize,
    /// How labels are stored.
    #[arg(long, default_value_t = Dtype::F32)]
    dtype: Dtype,
    /// Products of the first pass, f32 or bf16; without it the processor decides.
    #[arg(long)]
    products: Option<String>,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[arg(long, default_value_t = 5)]
    repeat: usize,
    /// Embeddings of queries and labels.
    #[arg(long, num_args = 2)]
    data: Vec<PathBuf>,
    /// Queries whose answers are compared with f64 brute force over the labels as given.
    #[arg(long, default_value_t = 0)]
    check: usize,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Arguments::parse();
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global().unwrap();
    let (queries, values) = data(&args);
    let dim = queries.cols();
    let labels = LabelEmbeddings::from_values(dim, &values, args.dtype).unwrap();
    let (b, l) = (queries.rows(), labels.rows());
    println!(
        "top {} of {b} queries over {l} labels, d {dim}, {}, {} threads",
        args.k, args.dtype, args.threads
    );
    println!("label matrix {:.1} MB", labels.bytes() as f64 / 1e6);
    let find = |queries: &Tensor| match args.products.as_deref() {
        None => search(queries, &labels, args.k, &Filter::none()),
        Some("bf16") => search_in(Precision::Bf16, queries, &labels, args.k, &Filter::none()),
        Some(_) => search_in(Precision::F32, queries, &labels, args.k, &Filter::none()),
    };
    let mut seconds: Vec<f64> = (0..args.repeat).map(|_| timed(|| find(&queries).unwrap())).collect();
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let flops = 2.0 * (b * l * dim) as f64;
    println!("batch: median {median:.4} s, best {:.4} s, {:.1} GFLOP/s", seconds[0], flops / median / 1e9);
    let mut single: Vec<f64> = (0..100.min(b))
        .map(|i| {
            let row = queries.host()[i * dim..(i + 1) * dim].to_vec();
            let query = Tensor::from_host(1, dim, row, Device::Cpu).unwrap();
            timed(|| find(&query).unwrap())
        })
        .collect();
    single.sort_by(f64::total_cmp);
    println!("single query: p50 {:.3} ms, best {:.3} ms", single[single.len() / 2] * 1e3, single[0] * 1e3);
    if args.check > 0 {
        let top = find(&queries).unwrap();
        println!("recall against f64 brute force: {:.6}", recall(&top, &queries, &values, &args));
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    black_box(work());
    start.elapsed().as_secs_f64()
}

fn data(args: &Arguments) -> (Tensor, Vec<f32>) {
    if let [queries, labels] = &args.data[..] {
        let (queries, labels) = (npy::read_dense(queries).unwrap(), npy::read_dense(labels).unwrap());
        let values = queries.values().to_vec();
        let queries = Tensor::from_host(queries.rows(), queries.cols(), values, Device::Cpu).unwrap();
        return (queries, labels.values().to_vec());
    }
    let queries = gaussian(args.queries, args.dim, 1);
    let queries = Tensor::from_host(args.queries, args.dim, queries, Device::Cpu).unwrap();
    (queries, gaussian(args.labels, args.dim, 2))
}

/// Normalised rows of Gaussian numbers, by a counter.
fn gaussian(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
    let mut values = vec![0f32; rows * dim];
    values.par_chunks_mut(dim).enumerate().for_each(|(i, row)| {
        let mut state = (seed << 40 | i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut uniform = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        };
        for v in row.iter_mut() {
            let radius = (-2.0 * uniform().ln()).sqrt();
            *v = (radius * (std::f64::consts::TAU * uniform()).cos()) as f32;
        }
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        for v in row {
            *v /= norm;
        }
    });
    values
}

/// Share of the true best k that was found, for the first queries.
fn recall(top: &TopK, queries: &Tensor, labels: &[f32], args: &Arguments) -> f64 {
    let dim = queries.cols();
    let rows: Vec<usize> = (0..args.check.min(queries.rows())).collect();
    let share = |&i: &usize| {
        let query = &queries.host()[i * dim..(i + 1) * dim];
        let dot = |y: &[f32]| query.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum::<f64>();
        let mut scores: Vec<(u32, f64)> =
            labels.chunks_exact(dim).map(dot).enumerate().map(|(j, s)| (j as u32, s)).collect();
        scores.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        scores.truncate(args.k);
        let found = scores.iter().filter(|(j, _)| top.row(i).iter().any(|e| e.0 == *j)).count();
        found as f64 / scores.len().max(1) as f64
    };
    let shares: Vec<f64> = rows.par_iter().map(share).collect();
    shares.iter().sum::<f64>() / shares.len() as f64
}
