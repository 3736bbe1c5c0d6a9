//! From planted labels to an index: classifiers, clusters by 2-means, and edges by [visits](crate::visits).
//!
//! Nothing is trained. Classifiers are the vectors of labels and clusters are centroids, each with a gain that makes
//! scores as peaked as training does. `elias plant` writes all of it as files, which the other programs here and PyTorch
//! read.

use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;

use anyhow::{Context, Result};
use clap::Args;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use xmc::data::formats::{npy, npz};
use xmc::data::{Csr, Dense};
use xmc::linear::cluster::{ClusterConfig, build_tree};
use xmc::linear::features::Features;
use xmc::methods::elias::Graph;

use crate::planted::{POSITIVES, Planted};
use crate::visits::edges;

/// Labels whose rows are made at a time.
const BLOCK: usize = 65_536;
/// A margin is so many times the cosine of query and label, and the bias: 0 for the labels of a query, whose cosine is
/// 0.47, and the log-odds of any label elsewhere.
pub(crate) const LABEL_GAIN: f32 = 25.0;

/// What is planted, and the settings under which both sides take a step.
#[derive(Args, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// Labels, L.
    #[arg(long, default_value_t = 131_072)]
    pub(crate) labels: usize,
    /// Width of the embeddings, d.
    #[arg(long, default_value_t = 384)]
    pub(crate) dim: usize,
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Queries to train with.
    #[arg(long, default_value_t = 4096)]
    pub(crate) queries: usize,
    /// Queries to search for.
    #[arg(long, default_value_t = 500)]
    pub(crate) searches: usize,
    /// Labels of a cluster; C = 2^ceil(log2(L / max_leaf_size)).
    #[arg(long, default_value_t = 100)]
    pub(crate) max_leaf_size: usize,
    /// Edges of a cluster at most.
    #[arg(long, default_value_t = 1000)]
    pub(crate) kappa: usize,
    #[arg(long, default_value_t = 20)]
    pub(crate) beam: usize,
    /// Labels that are scored, K.
    #[arg(long, default_value_t = 2000)]
    pub(crate) shortlist: usize,
    #[arg(long, default_value_t = 10.0)]
    pub(crate) alpha: f32,
    #[arg(long, default_value_t = 150.0)]
    pub(crate) beta: f32,
    #[arg(long, default_value_t = 0.05)]
    pub(crate) loss_lambda: f32,
    #[arg(long, default_value_t = 3e-4)]
    pub(crate) cluster_lr: f32,
    /// Of classifiers and edges.
    #[arg(long, default_value_t = 5e-3)]
    pub(crate) label_lr: f32,
    #[arg(long, default_value_t = 0.01)]
    pub(crate) weight_decay: f32,
    /// A logit of a cluster is so many times the cosine of query and centroid.
    #[arg(long, default_value_t = 40.0)]
    pub(crate) cluster_gain: f32,
    /// A logit of an edge is so many times the cosine of label and centroid.
    #[arg(long, default_value_t = 60.0)]
    pub(crate) edge_gain: f32,
    /// Of every classifier.
    #[arg(long, default_value_t = -12.0, allow_negative_numbers = true)]
    pub(crate) bias: f32,
}

impl Settings {
    pub(crate) fn planted(&self) -> Planted {
        Planted::new(self.labels, self.dim, self.seed)
    }

    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("settings.json");
        let text = fs::read_to_string(&path).with_context(|| format!("{} is not there", path.display()))?;
        Ok(serde_json::from_str(&text)?)
    }
}

/// Makes the folder `out`.
pub(crate) fn write(settings: &Settings, out: &Path) -> Result<()> {
    let planted = settings.planted();
    fs::create_dir_all(out)?;
    let rows = Dense::new(settings.labels, settings.dim, planted.label_rows(0..settings.labels))?;
    let clusters = centroids(&rows, settings.max_leaf_size)?;
    let edges = edges(settings, &planted, &rows, &clusters)?;
    npz::write(&out.join("graph.npz"), &edges)?;
    write_rows(&out.join("labels.npy"), settings.dim, rows.values(), LABEL_GAIN)?;
    let with_bias: Vec<f32> = clusters
        .chunks(settings.dim)
        .flat_map(|row| row.iter().map(|v| v * settings.cluster_gain).chain([0.0]))
        .collect();
    write_rows(&out.join("clusters.npy"), settings.dim + 1, &with_bias, 1.0)?;
    write_rows(&out.join("x.npy"), settings.dim, &planted.queries(0..settings.queries), 1.0)?;
    let searches = settings.queries..settings.queries + settings.searches;
    write_rows(&out.join("q.npy"), settings.dim, &planted.queries(searches), 1.0)?;
    npz::write(&out.join("y.npz"), &positives(&planted, 0..settings.queries)?)?;
    fs::write(out.join("settings.json"), serde_json::to_string_pretty(settings)?)?;
    Ok(())
}

/// The right labels of queries `[n, L]`.
pub(crate) fn positives(planted: &Planted, queries: std::ops::Range<usize>) -> Result<Csr> {
    let (n, labels) = (queries.len(), planted.labels());
    let indptr: Vec<u64> = (0..=n).map(|i| (i * POSITIVES) as u64).collect();
    let ids: Vec<u32> = queries.flat_map(|query| planted.positives(query)).collect();
    let values = vec![1.0; ids.len()];
    Ok(Csr::new(n, labels, indptr, ids, values)?)
}

/// The planted edges.
pub(crate) fn graph(folder: &Path, settings: &Settings) -> Result<Graph> {
    let edges = npz::read(&folder.join("graph.npz"))?;
    let indptr = edges.indptr().iter().map(|&at| at as usize).collect();
    let logits = (edges.values().to_vec(), settings.beta);
    Ok(Graph::from_parts(settings.labels, indptr, edges.indices().to_vec(), Some(logits))?)
}

/// Means of groups of labels `[C, d]`, of length one.
fn centroids(rows: &Dense, max_leaf_size: usize) -> Result<Vec<f32>> {
    let config = ClusterConfig { max_leaf_size, ..ClusterConfig::default() };
    let features = Features::new(Csr::empty(rows.rows(), 0), Some(rows.clone()))?;
    let tree = build_tree(&features, &config, 0)?;
    let level = tree.depth() - 1;
    let mut clusters = vec![0.0; tree.width(level) * rows.cols()];
    clusters.par_chunks_mut(rows.cols()).enumerate().for_each(|(c, centroid)| {
        for &label in &tree.labels()[tree.leaves(level, c)] {
            centroid.iter_mut().zip(rows.row(label as usize)).for_each(|(sum, v)| *sum += v);
        }
        let norm = centroid.iter().map(|v| v * v).sum::<f32>().sqrt();
        for v in centroid.iter_mut() {
            *v /= norm;
        }
    });
    Ok(clusters)
}

/// Writes rows of `cols` values, each times `factor`.
fn write_rows(path: &Path, cols: usize, values: &[f32], factor: f32) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    let mut rows = npy::RowWriter::new(&mut file, cols)?;
    for block in values.chunks(BLOCK * cols) {
        rows.push(&block.iter().map(|v| v * factor).collect::<Vec<f32>>())?;
    }
    rows.finish()?;
    Ok(())
}
