//! How long does it take to find the nearest targets of very many synthetic texts, and in how much memory?
//!
//! `cargo bench -p xmc --bench map -- --texts 1000000 --targets 1000000 --dim 64 --search cells --threads 2`
//!
//! Rows are of length 1 around random centres, `--spread` away from them; with 0 centres they are random. One run a
//! process, so that the peak of the memory is that of the run. Files go into a temporary folder, or into `--dir`.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement that cannot go on fails")]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Parser;
use rayon::prelude::*;
use xmc::augment::map::{MapConfig, Search, map};
use xmc::events::Silent;
use xmc::index::{Dtype, LabelEmbeddings};
use xmc::memory;

#[derive(Parser)]
struct Arguments {
    #[arg(long, default_value_t = 100_000)]
    texts: usize,
    #[arg(long, default_value_t = 100_000)]
    targets: usize,
    #[arg(long, default_value_t = 64)]
    dim: usize,
    #[arg(long, default_value_t = 10)]
    k: usize,
    /// auto, exact or cells.
    #[arg(long, default_value = "auto")]
    search: String,
    /// Share of the neighbours that cells must find.
    #[arg(long, default_value_t = 0.95)]
    recall: f64,
    /// How embeddings are stored.
    #[arg(long, default_value_t = Dtype::F32)]
    dtype: Dtype,
    #[arg(long, default_value_t = 5000)]
    centres: u64,
    #[arg(long, default_value_t = 0.7)]
    spread: f64,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Arguments::parse();
    rayon::ThreadPoolBuilder::new().num_threads(args.threads).build_global().unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let dir = args.dir.clone().unwrap_or_else(|| temporary.path().to_owned());
    let queries = rows(&args, args.texts, 1, &dir.join("queries.bin"));
    let targets = rows(&args, args.targets, 2, &dir.join("targets.bin"));
    let search = match args.search.as_str() {
        "exact" => Search::Exact,
        "cells" => Search::Cells,
        _ => Search::Auto,
    };
    let config = MapConfig { k: args.k, search, recall: args.recall, seed: 1 };
    let of: Vec<u32> = (0..args.texts as u32).collect();
    let before = memory::peak();
    let start = Instant::now();
    let mapped = map(&queries, &of, &targets, &config, &dir.join("map.ongoing"), &Silent).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let (found, report) = mapped.keep(|_| Ok(())).unwrap();
    let gflops = 2.0 * args.texts as f64 * args.targets as f64 * args.dim as f64 / 1e9;
    println!(
        "{} texts x {} targets, d {}, {}, {} threads: {:?}, {} of {} cells, recall {:.4} on {} queries",
        args.texts,
        args.targets,
        args.dim,
        args.dtype,
        args.threads,
        report.search,
        report.probes,
        report.cells,
        report.recall,
        report.checked
    );
    println!("{} queries were found by an earlier process", report.resumed);
    println!(
        "{seconds:.1} s, {:.1} us a text, {:.1} GFLOP/s of brute force",
        seconds / args.texts as f64 * 1e6,
        gflops / seconds
    );
    println!("peak memory {} before, {} after", memory::show(before), memory::show(memory::peak()));
    println!("mean cosine of the first neighbour {:.4}", first(&found.cosines, args.k));
    println!(
        "ids {:016x}, cosines {:016x}",
        hash(found.ids.iter()),
        hash(found.cosines.iter().map(|c| c.to_bits()))
    );
}

fn first(cosines: &[f32], k: usize) -> f64 {
    let sum: f64 = cosines.iter().step_by(k).map(|&c| f64::from(c)).sum();
    sum / (cosines.len() / k) as f64
}

/// Says whether two runs found the same bits.
fn hash<T: Hash>(values: impl Iterator<Item = T>) -> u64 {
    let mut hasher = DefaultHasher::new();
    values.for_each(|value| value.hash(&mut hasher));
    hasher.finish()
}

/// Writes rows in pieces, so that they are never in memory together.
fn rows(args: &Arguments, count: usize, seed: u64, path: &Path) -> LabelEmbeddings {
    const PIECE: usize = 65_536;
    LabelEmbeddings::write(path, count, args.dim, args.dtype, |file| {
        for start in (0..count).step_by(PIECE) {
            let end = count.min(start + PIECE);
            let values: Vec<f32> =
                (start..end).into_par_iter().flat_map_iter(|i| row(args, seed, i as u64)).collect();
            file.push(&values)?;
        }
        Ok(())
    })
    .unwrap();
    LabelEmbeddings::open(path).unwrap()
}

fn row(args: &Arguments, seed: u64, i: u64) -> Vec<f32> {
    let mut own = Random(seed << 40 | i);
    let centre = own.next() % args.centres.max(1);
    let mut centre = Random(1 << 60 | centre);
    let mut row: Vec<f64> = (0..args.dim)
        .map(|_| if args.centres == 0 { own.normal() } else { centre.normal() + args.spread * own.normal() })
        .collect();
    let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
    for v in &mut row {
        *v /= length;
    }
    row.into_iter().map(|v| v as f32).collect()
}

/// Splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }
}
