//! What does training take from a model of ELIAS that it begins with? Clusters, edges and classifiers, as if a phase had
//! just left them; the encoder is found like any other.
//!
//! A model keeps `log s_cl` of its edges and not their logits. As a softmax does not change when all logits of a cluster
//! do by the same number, these are logits, but for edges whose score was held at 1: they share alike what the softmax of
//! the others leaves, so every score is what it was.

use std::path::Path;

use xmc_data::{LabelSet, Strings};

use super::config::{EliasConfig, Head, Stage};
use super::edges::Edges;
use super::graph::Graph;
use super::model::{CLUSTERS, EDGES};
use super::stages::{classifiers, clusters, graph, save_classifiers, save_clusters, save_graph};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::fingerprint::Fingerprint;
use crate::index::LabelEmbeddings;
use crate::methods::dexml::LABEL_EMBEDDINGS;
use crate::model::manifest::{self, Manifest};
use crate::model::{LABELS, settings};
use crate::run::Artifact;

/// A model of ELIAS with an index, in the setting `encoder` of a training with an index.
#[derive(Debug)]
pub(super) struct Model<'a> {
    pub(super) dir: &'a Path,
    /// Whether its labels are those of the data.
    pub(super) same_labels: bool,
    /// Whether stages or files make all that it has beside its encoder.
    replaced: bool,
    /// Gain of its edges.
    beta: f32,
}

impl<'a> Model<'a> {
    /// The one that `config` names, if it does; `labels` are those of the data.
    pub(super) fn find(config: &'a EliasConfig, labels: &LabelSet) -> Result<Option<Self>> {
        let dir = config.encoder.as_deref().filter(|dir| dir.join(manifest::NAME).is_file());
        let Some(dir) = dir.filter(|_| config.head == Head::Index) else { return Ok(None) };
        let manifest = Manifest::open(dir)?;
        if manifest.method != EliasConfig::METHOD {
            return Ok(None);
        }
        let its: EliasConfig = settings(dir, &manifest)?;
        if its.head != Head::Index {
            return Ok(None);
        }
        Ok(Some(Model {
            dir,
            same_labels: Strings::open(&dir.join(LABELS))?.iter().eq(labels.iter()),
            // Its weights belong to its clusters; classifiers alone do not go on without them.
            replaced: config.does(Stage::Cluster)
                || config.files.clusters.is_some()
                || config.stages.first() == Some(&Stage::Recluster),
            beta: its.index.beta,
        }))
    }

    /// Whether training begins with its clusters and classifiers.
    pub(super) fn goes_on(&self) -> bool {
        self.same_labels && !self.replaced
    }

    /// Number of its clusters, and whether its edges learned.
    pub(super) fn edges(&self) -> Result<(usize, bool)> {
        let edges = Edges::open(&self.dir.join(EDGES))?;
        Ok((edges.clusters(), learned(&edges)))
    }

    /// Adds what it has beside its encoder to what must not change between runs.
    pub(super) fn mark(&self, print: &mut Fingerprint) -> Result<()> {
        [CLUSTERS, EDGES, LABEL_EMBEDDINGS].iter().try_for_each(|name| print.file(&self.dir.join(name)))?;
        print.value(&self.beta)
    }

    /// Opens what it has beside its encoder.
    pub(super) fn open(&self) -> Result<Earlier> {
        let part = |name: &str| LabelEmbeddings::open(&self.dir.join(name));
        let (clusters, labels) = (part(CLUSTERS)?, part(LABEL_EMBEDDINGS)?);
        let path = self.dir.join(EDGES);
        let edges = Edges::open(&path)?;
        let (found, expected) = ((edges.clusters(), edges.num_labels()), (clusters.rows(), labels.rows()));
        if found != expected {
            let problem = format!(
                "edges [clusters, labels] {found:?}, but clusters and classifiers are {expected:?}: mixed from two models?"
            );
            return Err(Error::file(&path, problem));
        }
        let edges = edges_of(&edges, self.beta).map_err(|e| Error::file(&path, e.to_string()))?;
        Ok(Earlier::Now(Box::new(Parts { clusters, edges, labels })))
    }
}

/// Parts of a model with an index.
pub(super) enum Earlier {
    /// Just opened.
    Now(Box<Parts>),
    /// Written by an earlier run.
    Written,
}

/// What a model has beside its encoder.
pub(super) struct Parts {
    clusters: LabelEmbeddings,
    edges: Graph,
    labels: LabelEmbeddings,
}

impl Artifact for Earlier {
    fn save(&self, dir: &Path) -> Result<()> {
        let Earlier::Now(parts) = self else { return Ok(()) };
        let Parts { clusters, edges, labels } = parts.as_ref();
        let weights: Vec<f32> = (0..clusters.rows()).flat_map(|c| clusters.row(c).into_owned()).collect();
        save_clusters(dir, clusters.dim(), &weights)?;
        save_graph(dir, edges)?;
        save_classifiers(dir, labels.rows(), labels.dim(), |label, row| {
            row.copy_from_slice(&labels.row(label as usize));
        })
    }

    fn load(dir: &Path) -> Result<Self> {
        graph(dir, 1.0)?;
        clusters(dir)?;
        classifiers(dir)?;
        Ok(Earlier::Written)
    }
}

/// Whether edges are those of stage 2: fixed ones are one for each label, with the score 1.
fn learned(edges: &Edges) -> bool {
    edges.len() != edges.num_labels()
        || (0..edges.clusters()).any(|cluster| edges.of(cluster).1.iter().any(|&value| value != 0.0))
}

/// The edges of a model, whose gain was `beta`, for training.
fn edges_of(edges: &Edges, beta: f32) -> Result<Graph> {
    let (mut indptr, mut ids, mut logits) = (vec![0], Vec::new(), Vec::new());
    let mut rising = Vec::new();
    for cluster in 0..edges.clusters() {
        let (labels, values) = edges.of(cluster);
        let held = held_logit(values, beta);
        rising.clear();
        rising.extend(labels.iter().zip(values).map(|(&l, &v)| (l, if v < 0.0 { v } else { held })));
        // They stand by falling score there.
        rising.sort_unstable_by_key(|&(label, _)| label);
        ids.extend(rising.iter().map(|&(label, _)| label));
        logits.extend(rising.iter().map(|&(_, logit)| logit));
        indptr.push(ids.len());
    }
    Graph::from_parts(edges.num_labels(), indptr, ids, learned(edges).then_some((logits, beta)))
}

/// The logit of the edges of a cluster with `values` log s_cl that are held at 0: ln beta + a - lse of each, if what the
/// others leave of the softmax is shared alike.
fn held_logit(values: &[f32], beta: f32) -> f32 {
    let held = values.iter().filter(|&&value| value >= 0.0).count();
    let others: f64 = values.iter().filter(|&&value| value < 0.0).map(|&value| f64::from(value).exp()).sum();
    ((f64::from(beta) - others) / held.max(1) as f64).max(1.0).ln() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_of_a_model_rise_by_label_and_keep_their_scores() {
        // Three edges share a gain of 1.5, the best of which is held at 1; two of one cluster both are.
        let csr = xmc_data::Csr::new(3, 6, vec![0, 3, 5, 6], vec![0, 2, 5, 1, 3, 4], vec![1.0; 6]).unwrap();
        let logits = vec![0.3, 3.0, 0.7, 0.1, 0.2, 0.0];
        let graph = Graph::learned(&csr, 1.5, 0).unwrap();
        let (indptr, ids) = (graph.indptr().to_vec(), graph.ids().to_vec());
        for beta in [1.5, 4.0] {
            let first =
                Graph::from_parts(6, indptr.clone(), ids.clone(), Some((logits.clone(), beta))).unwrap();
            let scores = |graph: &Graph| {
                let (mut all, mut of_cluster) = (Vec::new(), Vec::new());
                for cluster in 0..3 {
                    graph.log_values(cluster, &mut of_cluster);
                    all.extend_from_slice(&of_cluster);
                }
                all
            };
            let edges = Edges::new(6, &indptr, &ids, &scores(&first)).unwrap();
            let again = edges_of(&edges, beta).unwrap();
            assert_eq!((again.indptr(), again.ids()), (first.indptr(), first.ids()));
            for (a, b) in scores(&again).iter().zip(scores(&first)) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
            assert!(learned(&edges) && again.logits().is_some());
        }
        let fixed = Graph::fixed(&[1, 0, 1, 0], 2).unwrap();
        let edges = Edges::new(4, fixed.indptr(), fixed.ids(), &[0.0; 4]).unwrap();
        assert!(edges_of(&edges, 2.0).unwrap().logits().is_none());
    }

    #[test]
    fn what_a_model_left_is_only_there_with_all_of_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let save = || {
            save_clusters(dir.path(), 3, &[0.0; 6]).unwrap();
            save_graph(dir.path(), &Graph::fixed(&[1, 0], 2).unwrap()).unwrap();
            save_classifiers(dir.path(), 2, 3, |_, row| row.fill(0.0)).unwrap();
        };
        for name in ["clusters.safetensors", "graph.safetensors", "classifiers"] {
            save();
            assert!(Earlier::load(dir.path()).is_ok());
            std::fs::remove_file(dir.path().join(name)).unwrap();
            let error = Earlier::load(dir.path()).err().unwrap().to_string();
            assert!(error.contains(name), "{error}");
        }
    }
}
