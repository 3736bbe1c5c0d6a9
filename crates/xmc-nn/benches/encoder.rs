//! How fast does an encoder compute and learn? Shape of MiniLM-L6 with fresh weights, 32 texts of 128 tokens.
//!
//!     cargo bench -p xmc-nn --bench encoder -- [--threads N] [f32|bf16] [--repeats N] [--length N] [--texts N]
//!
//! A step is forward with dropout 0.1, backward, AdamW and laying out the new weights. Times are medians and, in
//! brackets, the best; memory is the peak of the whole process.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for the terminal")]

use std::time::Instant;

use xmc_nn::optim::{AdamW, AdamWConfig};
use xmc_nn::transformer::Config;
use xmc_nn::{Batch, Device, DropoutKey, Precision, Tower, TowerConfig};

struct Options {
    threads: usize,
    repeats: usize,
    length: usize,
    texts: usize,
    precision: Precision,
}

fn options() -> Options {
    let mut options = Options { threads: 1, repeats: 7, length: 128, texts: 32, precision: Precision::Bf16 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse().ok()).unwrap_or(1);
        match word.as_str() {
            "--threads" => options.threads = number(),
            "--repeats" => options.repeats = number(),
            "--length" => options.length = number(),
            "--texts" => options.texts = number(),
            "f32" => options.precision = Precision::F32,
            "bf16" => options.precision = Precision::Bf16,
            _ => {} // cargo adds --bench
        }
    }
    options
}

fn main() {
    let options = options();
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global().unwrap();
    let config = Config::bert(30522, 384, 6, 12, 1536);
    let mut tower = Tower::random(config, TowerConfig::default(), 1, Device::Cpu, options.precision).unwrap();
    let batch = Batch::new((0..options.texts).map(|i| {
        (0..options.length).map(|j| ((i * options.length + j) * 7919 % 30000) as u32).collect::<Vec<_>>()
    }));
    let Options { threads, texts, length, .. } = options;
    println!("{:?}, {threads} threads, {texts} texts of {length} tokens", options.precision);
    measure("forward", options.repeats, || _ = tower.embed(&batch).unwrap());

    let mut grads = vec![0.0; tower.layout().len()];
    let mut optimizer = AdamW::new(tower.layout(), AdamWConfig::default());
    let mut parts = [const { Vec::new() }; 4];
    let mut step = 0;
    measure("step", options.repeats, || {
        step += 1;
        let mut clock = Instant::now();
        let mut lap = |part: usize| {
            parts[part].push(clock.elapsed().as_secs_f64() * 1000.0);
            clock = Instant::now();
        };
        let key = DropoutKey { seed: 1, step, part: 0 };
        let (e, tape) = tower.embed_train(&batch, Some(key)).unwrap();
        lap(0);
        tower.backward(&batch, tape, &e, &mut grads).unwrap();
        lap(1);
        optimizer.step(tower.params_mut(), &mut grads, 1e-5, 1.0).unwrap();
        lap(2);
        tower.refresh();
        lap(3);
    });
    for (what, times) in ["forward", "backward", "adamw", "refresh"].into_iter().zip(parts) {
        report(&format!("  {what}"), times);
    }
    println!("peak memory {} MB", peak_memory());
}

fn measure(what: &str, repeats: usize, mut work: impl FnMut()) {
    work();
    let times = (0..repeats)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    report(what, times);
}

/// Median and best.
fn report(what: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    println!("{what}: {:.1} ms ({:.1})", times[times.len() / 2], times[0]);
}

/// VmHWM of Linux; 0 elsewhere.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1000
}
