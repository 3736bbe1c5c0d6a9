//! How long does a search take, and how much of what brute force finds does it find?
//!
//! Both see the same classifiers. What brute force over f32 weights answers is the truth; recall is the share of its
//! `top` labels. One thread at a time does what is timed alone; batches use all threads that were asked for.

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

use crate::clock::{Clock, median};
use crate::plant::{Settings, graph};

#[derive(Args)]
pub(crate) struct How {
    /// How classifiers are stored.
    #[arg(long, default_value_t = Dtype::Bf16)]
    dtype: Dtype,
    #[arg(long, value_delimiter = ',', default_values_t = [1, 2, 5, 10, 20, 40])]
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
}

/// Prints one line of JSON for brute force, and one for each beam.
pub(crate) fn measure(folder: &Path, how: &How) -> Result<()> {
    let settings = Settings::read(folder)?;
    let queries = npy::read_dense(&folder.join("q.npy"))?;
    let (n, dim) = (queries.rows(), queries.cols());
    let x = Tensor::from_host(n, dim, queries.values().to_vec(), Device::Cpu)?;
    let with_one: Vec<f32> =
        queries.values().chunks(dim).flat_map(|row| row.iter().copied().chain([1.0])).collect();
    let with_one = Tensor::from_host(n, dim + 1, with_one, Device::Cpu)?;
    let truth =
        index::search(&with_one, &classifiers(folder, &settings, Dtype::F32)?, how.top, &Filter::none())?;
    let labels = classifiers(folder, &settings, how.dtype)?;

    let (mut batch, mut alone, mut found) = (Vec::new(), Vec::new(), TopK::new());
    for _ in 0..how.passes {
        let clock = Clock::start();
        found = index::search(&with_one, &labels, how.top, &Filter::none())?;
        batch.push(clock.passed());
    }
    for row in with_one.host().chunks(dim + 1).take(how.alone) {
        let query = Tensor::from_host(1, dim + 1, row.to_vec(), Device::Cpu)?;
        let clock = Clock::start();
        index::search(&query, &labels, how.top, &Filter::none())?;
        alone.push(clock.passed());
    }
    let line = |what: &str, beam: Option<usize>, recall: f64, batch: f64, cpu: f64, wall: f64| {
        let peak = memory::peak() as f64 / 1_048_576.0;
        println!(
            "{}",
            json!({"what": what, "dtype": how.dtype.name(), "beam": beam, "labels": settings.labels, "recall": recall,
                   "batch_cpu_us": 1e6 * batch, "single_cpu_us": 1e6 * cpu, "single_wall_us": 1e6 * wall,
                   "peak_rss_mb": peak})
        );
    };
    let per_query = |passed: &[_]| median(passed).cpu / n as f64;
    let single = median(&alone);
    line("exact", None, recall(&found, &truth), per_query(&batch), single.cpu, single.wall);

    let learned = learned(folder, &settings, how.dtype)?;
    for &beam in &how.beams {
        let shortlist = how.shortlist.unwrap_or(settings.shortlist);
        let reach = Reach { beam, edges: usize::MAX, shortlist, top_k: how.top };
        let (mut batch, mut alone, mut found) = (Vec::new(), Vec::new(), TopK::new());
        for _ in 0..how.passes {
            let clock = Clock::start();
            found = search_all(&learned, &labels, reach, &x)?;
            batch.push(clock.passed());
        }
        let mut searcher = Searcher::new(&learned, &labels, reach);
        for pass in 0..how.passes {
            for row in x.host().chunks(dim) {
                let clock = Clock::start();
                searcher.search(row)?;
                // The first pass warms caches and buffers.
                alone.extend((pass > 0 || how.passes == 1).then(|| clock.passed()));
            }
        }
        let single = median(&alone);
        line("elias", Some(beam), recall(&found, &truth), per_query(&batch), single.cpu, single.wall);
    }
    Ok(())
}

/// Share of the true labels that were found.
fn recall(found: &TopK, truth: &TopK) -> f64 {
    let hits = |i| truth.row(i).iter().filter(|t| found.row(i).iter().any(|f| f.0 == t.0)).count();
    let all: usize = (0..truth.rows()).map(|i| truth.row(i).len()).sum();
    (0..truth.rows()).map(hits).sum::<usize>() as f64 / all as f64
}

/// Weights and biases of all labels `[L, d + 1]`.
fn classifiers(folder: &Path, settings: &Settings, dtype: Dtype) -> Result<LabelEmbeddings> {
    let rows = npy::read_dense(&folder.join("labels.npy"))?;
    let mut values = Vec::with_capacity(rows.rows() * (rows.cols() + 1));
    for row in rows.values().chunks(rows.cols()) {
        values.extend_from_slice(row);
        values.push(settings.bias);
    }
    Ok(LabelEmbeddings::from_values(rows.cols() + 1, &values, dtype)?)
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
