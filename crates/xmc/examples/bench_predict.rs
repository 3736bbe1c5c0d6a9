//! How fast does a model answer within one process, as in a service? Prints one JSON line.
//!
//! ```text
//! bench_predict MODEL --input X.npz --output scores.npz [--top-k 10] [--beam 10] [--threads 1] [--rows 2000] [--warm-up 50]
//! ```
//!
//! Whole matrix: median of five passes. Single rows: one session, wall and CPU time of every call.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use rustix::time::{ClockId, clock_gettime};
use xmc::memory;
use xmc::model::{Model, PredictOptions, Predictor};
use xmc_data::Csr;
use xmc_data::formats::npz;

/// Passes over the whole matrix.
const PASSES: usize = 5;

#[derive(Parser)]
struct Args {
    model: PathBuf,
    /// Features, as the model was trained on.
    #[arg(long)]
    input: PathBuf,
    /// Scores of the last pass.
    #[arg(long)]
    output: PathBuf,
    #[arg(long, default_value_t = 10)]
    top_k: usize,
    #[arg(long, default_value_t = 10)]
    beam: usize,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Single calls to time.
    #[arg(long, default_value_t = 2000)]
    rows: usize,
    /// Single calls before that.
    #[arg(long, default_value_t = 50)]
    warm_up: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global()?;
    let x = npz::read(&args.input)?;
    let start = Instant::now();
    let model = Model::open(&args.model)?;
    let load_s = start.elapsed().as_secs_f64();
    let options = PredictOptions { top_k: args.top_k, beam_size: Some(args.beam), exact: false };

    let mut passes = Vec::new();
    for _ in 0..PASSES {
        let (wall, cpu) = (Instant::now(), seconds(ClockId::ProcessCPUTime));
        let scores = model.predict_features(&x, &options)?;
        passes.push((wall.elapsed().as_secs_f64(), seconds(ClockId::ProcessCPUTime) - cpu));
        if passes.len() == PASSES {
            npz::write(&args.output, &scores.to_csr(model.labels().len())?)?;
        }
    }
    let peak_rss_mb = memory::peak() as f64 / 1e6;
    let calls = single_calls(&model, &x, options, &args)?;
    let n = x.rows() as f64;
    let report = serde_json::json!({
        "load_s": load_s,
        "docs_per_wall_s": n / quantile(passes.iter().map(|pass| pass.0), 0.5)?,
        "docs_per_cpu_s": n / quantile(passes.iter().map(|pass| pass.1), 0.5)?,
        "wall_p50_ms": 1e3 * quantile(calls.iter().map(|call| call.0), 0.5)?,
        "wall_p99_ms": 1e3 * quantile(calls.iter().map(|call| call.0), 0.99)?,
        "cpu_p50_ms": 1e3 * quantile(calls.iter().map(|call| call.1), 0.5)?,
        "cpu_p99_ms": 1e3 * quantile(calls.iter().map(|call| call.1), 0.99)?,
        "peak_rss_mb": peak_rss_mb,
    });
    // The one line of data of this program.
    #[allow(clippy::print_stdout)]
    {
        println!("{report}");
    }
    Ok(())
}

/// Wall and CPU seconds of every call with one row.
fn single_calls(model: &Model, x: &Csr, options: PredictOptions, args: &Args) -> Result<Vec<(f64, f64)>> {
    let mut session = model.session(options);
    let mut calls = Vec::with_capacity(args.rows);
    for call in 0..args.warm_up + args.rows {
        let row = x.row(call % x.rows().max(1));
        let (wall, cpu) = (Instant::now(), seconds(ClockId::ThreadCPUTime));
        session.features(row)?;
        if call >= args.warm_up {
            calls.push((wall.elapsed().as_secs_f64(), seconds(ClockId::ThreadCPUTime) - cpu));
        }
    }
    Ok(calls)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// The value that a share `q` of all lies below.
fn quantile(values: impl Iterator<Item = f64>, q: f64) -> Result<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(((values.len() as f64 - 1.0) * q).round() as usize).copied().context("nothing was timed")
}
