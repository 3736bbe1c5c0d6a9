//! The work of `bench/encoder/torch_step.py` by this crate: a training step, a forward pass or an embedding of texts,
//! with the same weights and the same batches. Prints the same JSON object.
//!
//! ```text
//! --encoder DIR  [--mode train|forward|embed] [--texts FILE] [--precision f32|bf16] [--threads N] [--batch N]
//! [--max-len N] [--steps N]
//! ```

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for the terminal")]

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use xmc_data::Strings;
use xmc_nn::hf::Tokenizer;
use xmc_nn::loss::{Criterion, LossOptions, Targets, loss};
use xmc_nn::optim::{AdamW, AdamWConfig};
use xmc_nn::tokens::by_budget;
use xmc_nn::{Batch, Device, DropoutKey, Precision, Tensor, Tower, TowerConfig};

/// The value after `--name`.
fn argument<T: FromStr>(name: &str) -> Option<T> {
    let mut words = std::env::args().skip_while(|word| word.strip_prefix("--") != Some(name));
    words.nth(1)?.parse().ok()
}

/// Tokens of a batch of an embedding.
const BUDGET: usize = 8192;

fn main() {
    let threads = argument("threads").unwrap_or(1);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    let encoder: PathBuf = argument("encoder").unwrap();
    let mode = argument("mode").unwrap_or_else(|| "train".to_owned());
    let bf16 = argument::<String>("precision").as_deref() == Some("bf16");
    let precision = if bf16 { Precision::Bf16 } else { Precision::F32 };
    let texts = argument::<PathBuf>("texts");
    let steps = argument("steps").unwrap_or(if texts.is_some() { 10 } else { 7 });
    let (size, max_len) = (argument("batch").unwrap_or(32), argument("max-len").unwrap_or(128));
    let mut tower = Tower::open(&encoder, TowerConfig::default(), Device::Cpu, precision).unwrap();
    let batches = match &texts {
        Some(file) => {
            batches(file, &Tokenizer::open(&encoder, max_len).unwrap(), size, steps, mode == "embed")
        }
        None => vec![random(size, max_len); steps],
    };

    let mut grads = vec![0.0; if mode == "train" { tower.layout().len() } else { 0 }];
    let mut optimizer = (mode == "train").then(|| AdamW::new(tower.layout(), AdamWConfig::default()));
    let mut seconds = Vec::new();
    // The first two only warm up.
    for (i, batch) in batches.iter().take(1).cycle().take(2).chain(&batches).enumerate() {
        let start = Instant::now();
        match &mut optimizer {
            Some(optimizer) => train(&mut tower, optimizer, &mut grads, batch, i as u64),
            None => _ = tower.embed(batch).unwrap(),
        }
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.drain(..2);
    let (total, tokens) = (seconds.iter().sum::<f64>(), batches.iter().map(Batch::tokens).sum::<usize>());
    seconds.sort_by(f64::total_cmp);
    let middle = match mode.as_str() {
        "embed" => total,
        _ if texts.is_none() => seconds[seconds.len() / 2],
        _ => total / seconds.len() as f64,
    };
    println!(
        "{{\"ms\": {}, \"seconds\": {total}, \"tokens_per_second\": {}, \"peak_rss_mb\": {}}}",
        middle * 1e3,
        tokens as f64 / total,
        peak_mb()
    );
}

/// The first half of the batch against the second, as the other program does.
fn train(tower: &mut Tower, optimizer: &mut AdamW, grads: &mut [f32], batch: &Batch, step: u64) {
    let (embeddings, tape) = tower.embed_train(batch, Some(DropoutKey { seed: 0, step, part: 0 })).unwrap();
    let (half, d) = (batch.len() / 2, embeddings.cols());
    let part = |range: std::ops::Range<usize>| {
        Tensor::from_host(half, d, embeddings.host()[range.start * d..range.end * d].to_vec(), Device::Cpu)
            .unwrap()
    };
    let (x, y) = (part(0..half), part(half..2 * half));
    let targets = Targets::from_rows((0..half).map(|i| [(i as u32, 1.0)]), false);
    let found = loss(&x, &y, None, &targets, &LossOptions::new(Criterion::Softmax, 0.05)).unwrap();
    let mut gradient = [found.dx.host(), found.dy.host()].concat();
    gradient.resize(batch.len() * d, 0.0);
    let gradient = Tensor::from_host(batch.len(), d, gradient, Device::Cpu).unwrap();
    tower.backward(batch, tape, &gradient, grads).unwrap();
    optimizer.step(tower.params_mut(), grads, 1e-5, 1.0).unwrap();
    tower.refresh();
}

fn random(size: usize, length: usize) -> Batch {
    Batch::new(
        (0..size).map(|i| {
            (0..length).map(|j| ((i * length + j) * 7919 % 29_000 + 1000) as u32).collect::<Vec<_>>()
        }),
    )
}

/// Every so many texts for steps of training; all texts, neighbours of about one length, for embeddings.
fn batches(file: &PathBuf, tokenizer: &Tokenizer, size: usize, steps: usize, all: bool) -> Vec<Batch> {
    let texts = std::fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = texts.lines().collect();
    if all {
        let tokens = tokenizer.encode(&Strings::new(&lines)).unwrap();
        let rows: Vec<u32> = (0..tokens.len() as u32).collect();
        return by_budget(&tokens, &rows, BUDGET).iter().map(|rows| tokens.batch(rows)).collect();
    }
    let stride = (lines.len() / (size * steps)).max(1);
    let chosen = lines.into_iter().step_by(stride).take(size * steps);
    let tokens = tokenizer.encode(&Strings::new(chosen)).unwrap();
    let rows: Vec<u32> = (0..tokens.len() as u32).collect();
    rows.chunks(size).map(|rows| tokens.batch(rows)).collect()
}

/// VmHWM of Linux in MiB.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
