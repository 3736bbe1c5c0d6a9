//! How fast does a decoder make embeddings, and how fast does a prompt learn? Shape of SmolLM2-135M with random weights
//! and a prompt of 5 rows.
//!
//!     cargo bench -p xmc-nn --bench decoder -- [--threads N] [--repeats N] [--length N] [--texts N] [QUANTIZATION]
//!
//! A step is forward and backward of one batch. Times are medians and, in brackets, the best.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program for the terminal")]

use std::sync::Arc;
use std::time::Instant;

use xmc_nn::decoder::{Config, Decoder, Prompted, PromptedConfig, Quantization};
use xmc_nn::{Batch, Precision};

fn main() {
    let [mut threads, mut repeats, mut length, mut texts] = [1, 7, 32, 32];
    let mut quantization = Quantization::Q4_0;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().and_then(|n| n.parse().ok()).unwrap_or(1);
        match word.as_str() {
            "--threads" => threads = number(),
            "--repeats" => repeats = number(),
            "--length" => length = number(),
            "--texts" => texts = number(),
            _ => quantization = word.parse().unwrap_or(quantization), // cargo adds --bench
        }
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().unwrap();
    // The vocabulary is never multiplied with.
    let config = Config::llama(1000, 576, 30, [9, 3], 1536);
    let decoder = Arc::new(Decoder::random(config, 1, quantization, Precision::Bf16).unwrap());
    let mut prompt = vec![0.0; 5 * 576];
    decoder.embed(&[1, 2, 3, 4, 5], &mut prompt);
    let prompted = Prompted::new(decoder, PromptedConfig::default(), &prompt, 0).unwrap();
    let batch = Batch::new(
        (0..texts).map(|i| (0..length).map(|j| ((i * length + j) * 7919 % 1000) as u32).collect::<Vec<_>>()),
    );
    println!("{quantization}, {threads} threads, {texts} texts of {length} tokens");
    let tokens = texts * length;
    measure("encode", repeats, tokens, || _ = prompted.embed(&batch).unwrap());
    let mut grads = vec![0.0; prompted.layout().len()];
    measure("step", repeats, tokens, || {
        let (e, tape) = prompted.embed_train(&batch, None).unwrap();
        prompted.backward(&batch, tape, &e, &mut grads).unwrap();
    });
}

fn measure(what: &str, repeats: usize, tokens: usize, mut work: impl FnMut()) {
    work();
    let seconds: Vec<[f64; 2]> = (0..repeats)
        .map(|_| {
            let (clock, cpu) = (Instant::now(), cpu_seconds());
            work();
            [clock.elapsed().as_secs_f64(), cpu_seconds() - cpu]
        })
        .collect();
    let [[median, best], [median_cpu, best_cpu]] = [0, 1].map(|which| {
        let mut sorted: Vec<f64> = seconds.iter().map(|both| both[which]).collect();
        sorted.sort_by(f64::total_cmp);
        [sorted[repeats / 2], sorted[0]]
    });
    println!(
        "{what:8} {:.0} ms ({:.0}), CPU {:.0} ms ({:.0}), {:.0} tokens per CPU second",
        median * 1e3,
        best * 1e3,
        median_cpu * 1e3,
        best_cpu * 1e3,
        tokens as f64 / median_cpu
    );
}

/// Seconds that all threads of this process have computed.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
