//! Does a step get slower with the number of labels, if beam and K stay? Up to ten million labels, without files.
//!
//! Clusters are the places of [`Planted`] in pieces of equal size, edges lead to the `kappa` labels around the middle of
//! such a piece: no 2-means over ten million rows, and still most labels have several clusters. Classifiers begin at 0,
//! as in a training. Rows of steps are planted queries, made outside the clock.

use std::ops::Range;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use rayon::prelude::*;
use serde_json::json;
use xmc::memory;
use xmc::methods::elias::Graph;

use crate::clock::{Clock, median};
use crate::plant::{Settings, positives};
use crate::planted::{Planted, hash};
use crate::step::{Stepper, Table, rows_of, tensor};

/// Labels of which a centroid is the mean.
const SAMPLE: usize = 8;
/// Logits of the edges of a cluster fall from the middle to both ends by so much, and vary by one.
const FALL: f32 = 3.0;

#[derive(Args)]
pub(crate) struct How {
    /// Clusters; by the formula if not given.
    #[arg(long)]
    clusters: Option<usize>,
    #[arg(long, default_value = "bf16/row")]
    table: Table,
    #[arg(long, default_value_t = 256)]
    batch: usize,
    #[arg(long, default_value_t = 300)]
    steps: usize,
    #[arg(long, default_value_t = 20)]
    warm_up: usize,
    /// Keep classifiers and their moments in a file of this folder instead of memory.
    #[arg(long)]
    mapped: Option<PathBuf>,
}

/// Prints one line of JSON.
pub(crate) fn measure(settings: &Settings, how: &How) -> Result<()> {
    let planted = settings.planted();
    let formula = (settings.labels as f64 / settings.max_leaf_size as f64).log2().ceil().max(0.0);
    let clusters = how.clusters.unwrap_or(1 << formula as u32);
    let graph = windows(settings, &planted, clusters)?;
    let edges = graph.ids().len();
    let weights = centroids(settings, &planted, clusters);
    let mut stepper =
        Stepper::new(settings, how.table, how.mapped.clone(), (&weights, graph), |_, row| row.fill(0.0))?;
    drop(weights);

    let (mut passed, mut losses, mut touched) = (Vec::new(), Vec::new(), 0);
    for step in 0..how.warm_up + how.steps {
        let rows = rows_of(step, how.batch);
        let (x, y) = (tensor(planted.queries(rows.clone()), settings.dim)?, positives(&planted, rows)?);
        let clock = Clock::start();
        losses.push(stepper.step(&x, &y)?.losses[0]);
        passed.extend((step >= how.warm_up).then(|| clock.passed()));
        touched = stepper.met(&x)?;
    }
    let peak = memory::peak() as f64 / 1_048_576.0;
    let x = tensor(planted.queries(rows_of(how.warm_up + how.steps, how.batch)), settings.dim)?;
    let clock = Clock::start();
    stepper.search(&x)?;
    let search = clock.passed().cpu / how.batch as f64;
    let middle = median(&passed);
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let few = losses.len().div_ceil(10);
    println!(
        "{}",
        json!({"labels": settings.labels, "dim": settings.dim, "clusters": clusters, "edges": edges,
               "table": how.table.to_string(), "steps": how.steps, "cpu_s": middle.cpu, "wall_s": middle.wall,
               "touched": touched, "search_us": 1e6 * search, "first_loss": mean(&losses[..few]),
               "last_loss": mean(&losses[losses.len() - few..]), "peak_rss_mb": peak})
    );
    Ok(())
}

/// Places of the labels that the edges of cluster `c` lead to.
fn window(c: usize, clusters: usize, labels: usize, kappa: usize) -> Range<usize> {
    let width = kappa.min(labels);
    let middle = (2 * c + 1) * labels / (2 * clusters);
    let start = middle.saturating_sub(width / 2).min(labels - width);
    start..start + width
}

fn windows(settings: &Settings, planted: &Planted, clusters: usize) -> Result<Graph> {
    // A cluster has room for all its own labels.
    let kappa = settings.kappa.max(settings.labels.div_ceil(clusters)).min(settings.labels);
    let mut ids = vec![0; clusters * kappa];
    let mut logits = vec![0.0; clusters * kappa];
    ids.par_chunks_mut(kappa).zip(logits.par_chunks_mut(kappa)).enumerate().for_each(|(c, (ids, logits))| {
        let places = window(c, clusters, settings.labels, kappa);
        let mut edges: Vec<(u32, f32)> = places
            .enumerate()
            .map(|(i, place)| {
                let away = (2.0 * i as f32 / kappa as f32 - 1.0).abs();
                let chance = hash(settings.seed, 3, (c * kappa + i) as u64) >> 40;
                (planted.label_at(place), chance as f32 / (1u64 << 24) as f32 - FALL * away)
            })
            .collect();
        edges.sort_unstable_by_key(|edge| edge.0);
        for (i, (label, logit)) in edges.into_iter().enumerate() {
            (ids[i], logits[i]) = (label, logit);
        }
    });
    let indptr = (0..=clusters).map(|c| c * kappa).collect();
    Ok(Graph::from_parts(settings.labels, indptr, ids, Some((logits, settings.beta)))?)
}

/// Weights and biases of the clusters `[C, d + 1]`: means of some of their labels.
fn centroids(settings: &Settings, planted: &Planted, clusters: usize) -> Vec<f32> {
    let dim = settings.dim;
    let mut weights = vec![0.0; clusters * (dim + 1)];
    weights.par_chunks_mut(dim + 1).enumerate().for_each(|(c, row)| {
        let (start, end) = (c * settings.labels / clusters, (c + 1) * settings.labels / clusters);
        let mut label = vec![0.0; dim];
        for i in 0..SAMPLE {
            planted.label(planted.label_at(start + (end - start) * i / SAMPLE), &mut label);
            row.iter_mut().zip(&label).for_each(|(sum, v)| *sum += v);
        }
        let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt();
        for v in row {
            *v *= settings.cluster_gain / norm;
        }
    });
    weights
}
