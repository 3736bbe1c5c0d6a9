//! What does training take from a model of ELIAS that it begins with? Clusters, edges and classifiers, as if a phase had
//! just left them; the encoder is found like any other.
//!
//! A model keeps `log s_cl` of its edges and not their logits. As a softmax does not change when all logits of a cluster
//! do by the same number, these are logits; edges at a score of 1 all begin alike.

use std::path::Path;

use xmc_data::{LabelSet, Strings};

use super::config::{EliasConfig, Head};
use super::edges::Edges;
use super::graph::Graph;
use super::model::{CLUSTERS, EDGES};
use super::stages::{graph, save_classifiers, save_clusters, save_graph};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::index::LabelEmbeddings;
use crate::methods::dexml::LABEL_EMBEDDINGS;
use crate::model::manifest::{self, Manifest};
use crate::model::{LABELS, settings};
use crate::run::Artifact;

/// Parts of a model with an index.
pub(super) enum Earlier {
    /// Just opened.
    Now(Box<Parts>),
    /// Written by an earlier run.
    Written,
}

/// Whether `encoder` is a model of ELIAS with an index for these `labels`. Tells of one for others.
pub(super) fn is_at(encoder: Option<&Path>, labels: &LabelSet, events: &dyn Events) -> Result<bool> {
    let Some(dir) = encoder.filter(|dir| dir.join(manifest::NAME).is_file()) else { return Ok(false) };
    let manifest = Manifest::open(dir)?;
    if manifest.method != EliasConfig::METHOD {
        return Ok(false);
    }
    let config: EliasConfig = settings(dir, &manifest)?;
    if config.head != Head::Index {
        return Ok(false);
    }
    let same = Strings::open(&dir.join(LABELS))?.iter().eq(labels.iter());
    if !same {
        let dir = dir.display();
        events.message(&format!("{dir}: a model of elias with other labels: only its encoder goes on"));
    }
    Ok(same)
}

/// What a model has beside its encoder.
pub(super) struct Parts {
    clusters: LabelEmbeddings,
    edges: Edges,
    labels: LabelEmbeddings,
    beta: f32,
}

impl Earlier {
    /// Opens those of the model in the folder `dir`.
    pub(super) fn open(dir: &Path, beta: f32) -> Result<Self> {
        let part = |name: &str| LabelEmbeddings::open(&dir.join(name));
        let edges = Edges::open(&dir.join(EDGES))?;
        Ok(Earlier::Now(Box::new(Parts {
            clusters: part(CLUSTERS)?,
            edges,
            labels: part(LABEL_EMBEDDINGS)?,
            beta,
        })))
    }
}

impl Artifact for Earlier {
    fn save(&self, dir: &Path) -> Result<()> {
        let Earlier::Now(parts) = self else { return Ok(()) };
        let Parts { clusters, edges, labels, beta } = parts.as_ref();
        let weights: Vec<f32> = (0..clusters.rows()).flat_map(|c| clusters.row(c).into_owned()).collect();
        save_clusters(dir, clusters.dim(), &weights)?;
        save_graph(dir, &edges_of(edges, *beta)?)?;
        save_classifiers(dir, labels.rows(), labels.dim(), |label, row| {
            row.copy_from_slice(&labels.row(label as usize));
        })
    }

    fn load(dir: &Path) -> Result<Self> {
        // The classifiers are written last.
        graph(dir, 1.0).map(|_| Earlier::Written).map_err(|e| Error::file(dir, e.to_string()))
    }
}

/// The edges of a model as edges that learn, or fixed ones if all of them have the score 1.
fn edges_of(edges: &Edges, beta: f32) -> Result<Graph> {
    let (mut indptr, mut ids, mut logits) = (vec![0], Vec::new(), Vec::new());
    for cluster in 0..edges.clusters() {
        let (labels, values) = edges.of(cluster);
        ids.extend_from_slice(labels);
        logits.extend_from_slice(values);
        indptr.push(ids.len());
    }
    let learned = logits.iter().any(|&value| value != 0.0);
    Graph::from_parts(edges.num_labels(), indptr, ids, learned.then_some((logits, beta)))
}
