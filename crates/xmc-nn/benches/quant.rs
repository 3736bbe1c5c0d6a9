//! How fast are products with packed weights? Beside the dense product, and beside plain reading of memory.
//!
//! Prints GFLOP/s of `multiply` and `multiply_transposed` for many tokens, beside `ops::matmul::multiply` with weights
//! that are laid out already; and for few tokens GB/s of packed weights, over as many matrices as a decoder of 135
//! million weights has, beside the sum of so many bytes. `RAYON_NUM_THREADS` sets the threads; the words
//! `few`, `many` and `--quick` leave things away.

#![allow(clippy::print_stdout)] // A bench prints.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;
use xmc_nn::ops::matmul::{Rhs, View, multiply};
use xmc_nn::quant::{Format, Input, QuantMatrix};
use xmc_nn::{Precision, Result};

const FORMATS: [Format; 9] = [
    Format::F32,
    Format::Bf16,
    Format::Q8_0,
    Format::Q4_0,
    Format::Q4_1,
    Format::Q4K,
    Format::Q6K,
    Format::Nf4 { double: false },
    Format::Nf4 { double: true },
];

fn main() -> Result<()> {
    println!("{} threads", rayon::current_num_threads());
    let quick = std::env::args().any(|arg| arg == "--quick");
    let only = |name: &str| !std::env::args().any(|arg| ["few", "many"].contains(&&*arg) && arg != name);
    for (rows, cols) in [(1536, 576), (576, 1536), (576, 576)].into_iter().filter(|_| only("many")) {
        for t in [64, 512, 2048] {
            many([rows, cols], t, Precision::Bf16, quick)?;
        }
    }
    if !only("few") {
        return Ok(());
    }
    if !quick && only("many") {
        many([1536, 576], 512, Precision::F32, false)?;
    }
    let formats: &[Format] = if quick { &FORMATS[2..5] } else { &FORMATS[1..] };
    for &format in formats {
        few(format, [1536, 576], 60)?;
    }
    few(Format::Q4_1, [1536, 576], 1)?;
    few(Format::Q8_0, [49152, 576], 1)?;
    Ok(())
}

/// Best seconds of one call, over a fifth of a second.
fn best(mut call: impl FnMut()) -> f64 {
    let (begin, mut best) = (Instant::now(), f64::INFINITY);
    while begin.elapsed().as_secs_f64() < 0.2 {
        let start = Instant::now();
        call();
        best = best.min(start.elapsed().as_secs_f64());
    }
    best
}

/// Uniform numbers from a counter.
fn numbers(n: usize, mut state: u64) -> Vec<f32> {
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| next()).collect()
}

/// Any weights; formats that are only read get blocks of ones.
fn matrix(format: Format, [rows, cols]: [usize; 2]) -> Result<QuantMatrix> {
    if let Format::Q4K | Format::Q6K = format {
        let bytes = vec![0x11; format.bytes(rows, cols).unwrap_or(0)];
        return QuantMatrix::from_blocks(format, rows, cols, bytes.into());
    }
    QuantMatrix::quantize(&numbers(rows * cols, 7), rows, cols, format)
}

fn many([rows, cols]: [usize; 2], t: usize, precision: Precision, quick: bool) -> Result<()> {
    let (x, dy) = (numbers(t * cols, 1), numbers(t * rows, 2));
    let (mut y, mut dx) = (vec![0.0; t * rows], vec![0.0; t * cols]);
    let rate = |seconds: f64| (2 * t * rows * cols) as f64 / seconds / 1e9;
    let weights = numbers(rows * cols, 7);
    let mut rhs = Rhs::new(precision);
    rhs.fill(View::new(&weights, rows, cols).t());
    let forward = best(|| multiply(black_box(&x), &rhs, &mut y, false));
    rhs.fill(View::new(&weights, rows, cols));
    let backward = best(|| multiply(black_box(&dy), &rhs, &mut dx, false));
    let name = format!("{rows} x {cols}, t {t} {precision:?}");
    println!("{name:>28} {:>10} y {:>6.0}  dx {:>6.0} GFLOP/s", "laid out", rate(forward), rate(backward));
    let formats: &[Format] = if quick { &[Format::Q4_1] } else { &FORMATS };
    for &format in formats.iter().filter(|format| format.bytes(rows, cols).is_some()) {
        let w = matrix(format, [rows, cols])?;
        let mut input = Input::new();
        let forward = best(|| {
            input.dense(black_box(&x), t, cols, precision);
            w.multiply(&input, &mut y, false);
        });
        let backward = best(|| {
            input.dense(black_box(&dy), t, rows, precision);
            w.multiply_transposed(&input, &mut dx, false);
        });
        println!("{name:>28} {:>10} y {:>6.0}  dx {:>6.0}", short(format), rate(forward), rate(backward));
    }
    Ok(())
}

fn short(format: Format) -> String {
    if let Format::Nf4 { double: true } = format { "NF4 double".into() } else { format.to_string() }
}

/// `count` matrices one after the other, for 1 and 8 tokens.
fn few(format: Format, [rows, cols]: [usize; 2], count: usize) -> Result<()> {
    if format.bytes(rows, cols).is_none() {
        return Ok(());
    }
    let one = matrix(format, [rows, cols])?;
    let all: Vec<QuantMatrix> = (0..count).map(|_| one.clone()).collect();
    let bytes = count * one.bytes();
    let plain: Vec<u64> = vec![1; bytes / 8];
    let read = best(|| {
        black_box(
            plain
                .par_chunks(1 << 16)
                .map(|part| part.iter().fold(0, |a: u64, b| a ^ b))
                .reduce(|| 0, |a, b| a ^ b),
        );
    });
    print!(
        "{:>10} {:>5.1} MB: read {:>5.1} GB/s",
        short(format),
        bytes as f64 / 1e6,
        bytes as f64 / read / 1e9
    );
    for t in [1, 4, 8] {
        let x = numbers(t * cols, 3);
        let mut y = vec![0.0; t * rows];
        let mut input = Input::new();
        // The best time of each matrix, for whole rounds are rarely left alone.
        let (begin, mut times) = (Instant::now(), vec![f64::INFINITY; count]);
        while begin.elapsed().as_secs_f64() < 0.3 {
            input.bytes(black_box(&x), t, cols);
            for (w, time) in all.iter().zip(&mut times) {
                let start = Instant::now();
                w.multiply(&input, &mut y, false);
                *time = time.min(start.elapsed().as_secs_f64());
            }
        }
        let seconds: f64 = times.iter().sum();
        print!(
            "  t {t}: {:>5.1} GB/s {:>5.0} GFLOP/s",
            bytes as f64 / seconds / 1e9,
            (2 * t * count * rows * cols) as f64 / seconds / 1e9
        );
    }
    println!();
    Ok(())
}
