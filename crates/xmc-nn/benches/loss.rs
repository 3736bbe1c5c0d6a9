//! How fast is a loss over all labels, and what does it keep in memory?
//!
//! ```text
//! cargo bench -p xmc-nn --bench loss -- [--criterion decoupled|softmax|topk|bce] [--texts 256] [--labels 131072]
//!     [--dim 384] [--precision f32|bf16] [--threads N] [--block B] [--repeat 5]
//! ```
//! Prints one line of JSON: median and smallest milliseconds, GFLOP/s over the products that were made, passes,
//! peak resident memory.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for the command line")]

use std::time::Instant;

use xmc_nn::loss::{Criterion, K, LossOptions, LossOutput, Targets, loss_into};
use xmc_nn::{Device, Precision, Tensor};

/// The value after `--name`, or `default`.
fn argument<T: std::str::FromStr>(name: &str, default: T) -> T {
    let wanted = format!("--{name}");
    let value = std::env::args().skip_while(|a| *a != wanted).nth(1);
    value.and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// Pseudo-random rows of length 1.
fn unit_rows(rows: usize, d: usize, seed: u64) -> Tensor {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    let mut values: Vec<f32> = (0..rows * d).map(|_| next()).collect();
    for row in values.chunks_mut(d) {
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        for v in row {
            *v /= norm;
        }
    }
    Tensor::from_host(rows, d, values, Device::Cpu).unwrap()
}

/// Peak resident memory in MB, where the system says.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kb = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
    kb.unwrap_or(f64::NAN) / 1024.0
}

fn main() {
    let (b, l, d) = (argument("texts", 256), argument("labels", 131_072), argument("dim", 384));
    let criterion = match argument("criterion", "decoupled".to_owned()).as_str() {
        "softmax" => Criterion::Softmax,
        "topk" => Criterion::SoftTopK { k: K::Fixed(5), alpha: 2.0 },
        "bce" => Criterion::Bce,
        _ => Criterion::DecoupledSoftmax,
    };
    let defaults = LossOptions::new(criterion, 0.05);
    let precision =
        if argument("precision", "f32".to_owned()) == "bf16" { Precision::Bf16 } else { Precision::F32 };
    let options = LossOptions { precision, block: argument("block", defaults.block), ..defaults };
    let threads = argument("threads", 0);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();

    let (x, y) = (unit_rows(b, d, 1), unit_rows(l, d, 2));
    let positive = |i: usize, p: usize| (((i * 5 + p) * 7919 % l) as u32, 1.0);
    let targets = Targets::from_rows((0..b).map(|i| (0..5).map(move |p| positive(i, p))), false);
    let step = |dy| pool.install(|| loss_into(&x, &y, None, &targets, &options, dy).unwrap());
    let mut seconds = Vec::new();
    let mut last: Option<LossOutput> = None;
    for _ in 0..argument("repeat", 5) {
        // As in training: the memory of dY serves again. Only the first step takes it fresh.
        let dy = last.take().map_or_else(|| Tensor::zeros(l, d, Device::Cpu), |result| result.dy);
        let start = Instant::now();
        last = Some(step(dy));
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let result = last.unwrap();
    // Every pass makes the scores; the last one also dX and dY.
    let flops = 2.0 * (b * l * d) as f64 * (result.passes + 2) as f64;
    let (median, least) = (seconds[seconds.len() / 2], seconds[0]);
    println!(
        "{{\"criterion\": \"{criterion:?}\", \"precision\": \"{precision:?}\", \"threads\": {}, \"block\": {}, \
         \"ms\": {:.1}, \"min_ms\": {:.1}, \"gflops\": {:.0}, \"passes\": {}, \"loss\": {:.6}, \"peak_rss_mb\": {:.0}}}",
        pool.current_num_threads(),
        options.block,
        median * 1e3,
        least * 1e3,
        flops / least / 1e9,
        result.passes,
        result.loss,
        peak_mb()
    );
}
