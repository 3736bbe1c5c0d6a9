//! How long does a search take, and how much of what brute force finds does it find?
//!
//! Both see the same classifiers in the same storage. Recall is measured twice, against both answers of
//! [`truth`](crate::truth) over f32 classifiers. What is timed alone is one query a call on one thread; batches use all
//! threads that were asked for.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use serde_json::json;
use xmc::data::TopK;
use xmc::data::formats::npy;
use xmc::index::{self, Dtype, Filter, LabelEmbeddings};
use xmc::memory;
use xmc::methods::elias::{Edges, LearnedIndex, Reach, Searcher, search_all};
use xmc::nn::{Device, Tensor};

use crate::clock::{Clock, Passed, median, quantile};
use crate::plant::{Settings, graph};
use crate::truth::{Truth, brute_force, recall};

#[derive(Args)]
pub(crate) struct How {
    /// How classifiers are stored, one after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [Dtype::F32, Dtype::Bf16, Dtype::Int8])]
    dtypes: Vec<Dtype>,
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 5, 10, 20, 50])]
    beams: Vec<usize>,
    /// Labels that are scored, K; as planted if not given.
    #[arg(long)]
    shortlist: Option<usize>,
    #[arg(long, default_value_t = 10)]
    top: usize,
    /// Passes over the queries; the median counts.
    #[arg(long, default_value_t = 3)]
    passes: usize,
    /// Queries that brute force answers one at a time.
    #[arg(long, default_value_t = 50)]
    alone: usize,
    /// No batches: for profiles of single queries.
    #[arg(long)]
    no_batch: bool,
}

/// The queries `[n, d]`, and with a 1 for the bias `[n, d + 1]`.
struct Queries {
    x: Tensor,
    with_one: Tensor,
}

/// What a way to search answers, and what it takes.
struct Measured {
    found: TopK,
    batch: Vec<Passed>,
    alone: Vec<Passed>,
}

/// Prints a line of JSON for the index, then for each storage one for brute force and one for each beam.
pub(crate) fn measure(folder: &Path, how: &How) -> Result<()> {
    let settings = Settings::read(folder)?;
    let queries = queries(folder)?;
    let rows = classifiers(folder, &settings)?;
    let learned = |dtype| learned(folder, &settings, dtype);
    let truth = {
        let index = learned(Dtype::F32)?;
        let truth = brute_force(queries.x.host(), &rows, &index, settings.alpha, how.top);
        println!("{}", truth.describe(&index));
        truth
    };
    for &dtype in &how.dtypes {
        let labels = LabelEmbeddings::from_values(settings.dim + 1, &rows, dtype)?;
        line("exact", dtype, None, &exact(how, &queries, &labels)?, &truth);
        let index = learned(dtype)?;
        for &beam in &how.beams {
            let shortlist = how.shortlist.unwrap_or(settings.shortlist);
            let reach = Reach { beam, edges: usize::MAX, shortlist, top_k: how.top };
            line("elias", dtype, Some(beam), &searched(how, &queries, &labels, &index, reach)?, &truth);
        }
    }
    Ok(())
}

fn line(what: &str, dtype: Dtype, beam: Option<usize>, measured: &Measured, truth: &Truth) {
    let Measured { found, batch, alone } = measured;
    let ids: Vec<Vec<u32>> =
        (0..found.rows()).map(|i| found.row(i).iter().map(|&(label, _)| label).collect()).collect();
    let (single, late) = (median(alone), quantile(alone, 0.95));
    println!(
        "{}",
        json!({"what": what, "dtype": dtype.name(), "beam": beam,
               "recall": recall(&ids, &truth.by_margin), "recall_of_paths": recall(&ids, &truth.by_path),
               "batch_cpu_us": 1e6 * median(batch).cpu / ids.len() as f64,
               "single_cpu_us": 1e6 * single.cpu, "single_p95_us": 1e6 * late.cpu,
               "single_wall_us": 1e6 * single.wall, "peak_rss_mb": memory::peak() as f64 / 1_048_576.0})
    );
}

/// Brute force over the classifiers.
fn exact(how: &How, queries: &Queries, labels: &LabelEmbeddings) -> Result<Measured> {
    let with_one = &queries.with_one;
    let (mut batch, mut alone, mut found) = (Vec::new(), Vec::new(), TopK::new());
    for _ in 0..if how.no_batch { 1 } else { how.passes } {
        let clock = Clock::start();
        found = index::search(with_one, labels, how.top, &Filter::none())?;
        batch.push(clock.passed());
    }
    for row in with_one.host().chunks(with_one.cols()).take(how.alone) {
        let query = Tensor::from_host(1, with_one.cols(), row.to_vec(), Device::Cpu)?;
        let clock = Clock::start();
        index::search(&query, labels, how.top, &Filter::none())?;
        alone.push(clock.passed());
    }
    Ok(Measured { found, batch, alone })
}

fn searched(
    how: &How,
    queries: &Queries,
    labels: &LabelEmbeddings,
    index: &LearnedIndex,
    reach: Reach,
) -> Result<Measured> {
    let x = &queries.x;
    let (mut batch, mut alone, mut found) = (Vec::new(), Vec::new(), TopK::new());
    for _ in 0..if how.no_batch { 1 } else { how.passes } {
        let clock = Clock::start();
        found = search_all(index, labels, reach, x)?;
        batch.push(clock.passed());
    }
    let mut searcher = Searcher::new(index, labels, reach);
    for pass in 0..how.passes {
        for row in x.host().chunks(x.cols()) {
            let clock = Clock::start();
            searcher.search(row)?;
            // The first pass warms caches and buffers.
            alone.extend((pass > 0 || how.passes == 1).then(|| clock.passed()));
        }
    }
    Ok(Measured { found, batch, alone })
}

fn queries(folder: &Path) -> Result<Queries> {
    let rows = npy::read_dense(&folder.join("q.npy"))?;
    let (n, dim) = (rows.rows(), rows.cols());
    let with_one = rows.values().chunks(dim).flat_map(|row| row.iter().copied().chain([1.0])).collect();
    Ok(Queries {
        x: Tensor::from_host(n, dim, rows.values().to_vec(), Device::Cpu)?,
        with_one: Tensor::from_host(n, dim + 1, with_one, Device::Cpu)?,
    })
}

/// Weights and biases of all labels `[L, d + 1]`.
fn classifiers(folder: &Path, settings: &Settings) -> Result<Vec<f32>> {
    let rows = npy::read_dense(&folder.join("labels.npy"))?;
    let mut values = Vec::with_capacity(rows.rows() * (rows.cols() + 1));
    for row in rows.values().chunks(rows.cols()) {
        values.extend_from_slice(row);
        values.push(settings.bias);
    }
    Ok(values)
}

/// The planted index as a finished model would have it.
fn learned(folder: &Path, settings: &Settings, dtype: Dtype) -> Result<LearnedIndex> {
    let clusters = npy::read_dense(&folder.join("clusters.npy"))?;
    let clusters = LabelEmbeddings::from_values(
        clusters.cols(),
        clusters.values(),
        LearnedIndex::clusters_dtype(dtype),
    )?;
    let graph = graph(folder, settings)?;
    let (mut values, mut of_cluster) = (Vec::with_capacity(graph.ids().len()), Vec::new());
    for cluster in 0..graph.clusters() as u32 {
        graph.log_values(cluster, &mut of_cluster);
        values.extend_from_slice(&of_cluster);
    }
    let edges = Edges::new(settings.labels, graph.indptr(), graph.ids(), &values)?;
    Ok(LearnedIndex::new(clusters, edges, settings.alpha)?)
}
