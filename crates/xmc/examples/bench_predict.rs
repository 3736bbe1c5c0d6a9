//! How fast does a model answer within one process, as in a service? Prints one JSON line.
//!
//! ```text
//! bench_predict MODEL --input X.npz|texts.txt --output scores.npz [--top-k 10] [--beam 10] [--threads 1] [--rows 2000]
//!     [--warm-up 50] [--passes 5] [--precision auto|f32|bf16]
//! ```
//!
//! All rows: median of some passes. Single rows: one session, wall and CPU time of every call. Rows of a text file, one a
//! line, are texts: what is timed then includes all that the model makes of them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use rustix::time::{ClockId, clock_gettime};
use xmc::encoder::PrecisionChoice;
use xmc::memory;
use xmc::model::{Model, OpenOptions, PredictOptions, Predictor, Session};
use xmc_data::formats::{lines, npz};
use xmc_data::{Csr, Strings, TopK};

#[derive(Parser)]
struct Args {
    model: PathBuf,
    /// Features, as the model was trained on, if the name ends in `.npz`; else texts.
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
    /// Passes over all rows.
    #[arg(long, default_value_t = 5)]
    passes: usize,
    /// Precision of the products of an encoder.
    #[arg(long, default_value = "auto", value_parser = precision)]
    precision: PrecisionChoice,
}

fn precision(word: &str) -> Result<PrecisionChoice> {
    Ok(serde_json::from_value(word.into())?)
}

/// What is asked.
enum Rows {
    Features(Csr),
    Texts(Strings),
}

impl Rows {
    fn read(path: &Path) -> Result<Self> {
        Ok(match path.extension() {
            Some(end) if end == "npz" => Rows::Features(npz::read(path)?),
            _ => Rows::Texts(lines::read(path)?),
        })
    }

    fn len(&self) -> usize {
        match self {
            Rows::Features(x) => x.rows(),
            Rows::Texts(texts) => texts.len(),
        }
    }

    fn predict(&self, model: &Model, options: &PredictOptions) -> Result<TopK> {
        Ok(match self {
            Rows::Features(x) => model.predict_features(x, options)?,
            Rows::Texts(texts) => model.predict(texts, options)?,
        })
    }

    fn ask(&self, session: &mut Session<'_>, row: usize) -> Result<()> {
        match self {
            Rows::Features(x) => _ = session.features(x.row(row))?,
            Rows::Texts(texts) => _ = session.text(texts.get(row))?,
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let args = Args::parse();
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global()?;
    let rows = Rows::read(&args.input)?;
    let start = Instant::now();
    let how = OpenOptions { precision: args.precision.resolve(), ..OpenOptions::default() };
    let model = Model::open_with(&args.model, &how)?;
    let load_s = start.elapsed().as_secs_f64();
    let options = PredictOptions { beam_size: Some(args.beam), ..PredictOptions::top(args.top_k) };

    let mut passes = Vec::new();
    for _ in 0..args.passes {
        let (wall, cpu) = (Instant::now(), seconds(ClockId::ProcessCPUTime));
        let scores = rows.predict(&model, &options)?;
        passes.push((wall.elapsed().as_secs_f64(), seconds(ClockId::ProcessCPUTime) - cpu));
        if passes.len() == args.passes {
            npz::write(&args.output, &scores.to_csr(model.labels().len())?)?;
        }
    }
    let peak_rss_mb = memory::peak() as f64 / 1e6;
    let calls = single_calls(&model, &rows, options, &args)?;
    let n = rows.len() as f64;
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

/// Wall and CPU seconds of every call with one row. CPU time is that of all threads: an encoder works in those of rayon.
fn single_calls(model: &Model, rows: &Rows, options: PredictOptions, args: &Args) -> Result<Vec<(f64, f64)>> {
    let mut session = model.session(options);
    let mut calls = Vec::with_capacity(args.rows);
    for call in 0..args.warm_up + args.rows {
        let (wall, cpu) = (Instant::now(), seconds(ClockId::ProcessCPUTime));
        rows.ask(&mut session, call % rows.len().max(1))?;
        if call >= args.warm_up {
            calls.push((wall.elapsed().as_secs_f64(), seconds(ClockId::ProcessCPUTime) - cpu));
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
