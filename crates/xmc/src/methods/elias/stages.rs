//! What does a training leave for those that follow, and where in its folder does it lie?
//!
//! ```text
//! encoder/               the encoder in the layout of Hugging Face; absent if it did not learn
//! clusters.safetensors   W_C, b_C [C, d + 1]; with an index only
//! graph.safetensors      edges from clusters to labels; with an index only
//! classifiers            w_l, b_l [L, d + 1], f32, as label embeddings that are mapped
//! ```

use std::path::{Path, PathBuf};

use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;
use serde_json::json;
use xmc_nn::checkpoint;
use xmc_nn::tower::Tower;

use super::graph::Graph;
use super::head::HeadState;
use crate::encoder::save_folder;
use crate::error::{Error, Result};
use crate::index::{Dtype, LabelEmbeddings};
use crate::methods::classifier::{load_weights, save_weights};
use crate::methods::dexml::ENCODER;
use crate::run::Artifact;

/// Names of files.
const CLUSTERS: &str = "clusters.safetensors";
const GRAPH: &str = "graph.safetensors";
const CLASSIFIERS: &str = "classifiers";

/// Classifiers that wait to be written.
const ROWS_AT_ONCE: usize = 4096;

/// A training that has come to its end.
pub(super) enum Trained {
    /// Just now.
    Now {
        /// The encoder, if it learned, and where its tokenizer lies.
        encoder: Option<(Box<Tower>, PathBuf)>,
        /// Clusters, edges, classifiers.
        head: Box<HeadState>,
    },
    /// In an earlier run; its files are enough.
    Earlier,
}

impl Artifact for Trained {
    fn save(&self, dir: &Path) -> Result<()> {
        let Trained::Now { encoder, head } = self else { return Ok(()) };
        if let Some((tower, tokenizer)) = encoder {
            save_folder(tower, tokenizer, &dir.join(ENCODER))?;
        }
        head.save(dir)
    }

    fn load(dir: &Path) -> Result<Self> {
        let needed = dir.join(CLASSIFIERS);
        if needed.is_file() { Ok(Trained::Earlier) } else { Err(Error::file(&needed, "missing")) }
    }
}

/// The encoder that a training left in the folder `dir`, if it learned there.
pub(super) fn encoder(dir: &Path) -> Option<PathBuf> {
    let encoder = dir.join(ENCODER);
    encoder.is_dir().then_some(encoder)
}

/// The classifiers `[L, d + 1]` that a training left in the folder `dir`, the bias last.
pub(super) fn classifiers(dir: &Path) -> Result<LabelEmbeddings> {
    LabelEmbeddings::open(&dir.join(CLASSIFIERS))
}

/// Writes the classifiers of `labels` labels: `read(label, row [cols])` writes weights and bias of one.
pub(super) fn save_classifiers(
    dir: &Path,
    labels: usize,
    cols: usize,
    read: impl Fn(u32, &mut [f32]) + Sync,
) -> Result<()> {
    LabelEmbeddings::write(&dir.join(CLASSIFIERS), labels, cols, Dtype::F32, |writer| {
        let mut rows = vec![0.0; ROWS_AT_ONCE.min(labels) * cols];
        for first in (0..labels).step_by(ROWS_AT_ONCE) {
            let rows = &mut rows[..ROWS_AT_ONCE.min(labels - first) * cols];
            rows.par_chunks_exact_mut(cols).enumerate().for_each(|(i, row)| read((first + i) as u32, row));
            writer.push(rows)?;
        }
        Ok(())
    })
}

/// Writes the clusters `[C, cols]`, the bias last.
pub(super) fn save_clusters(dir: &Path, cols: usize, weights: &[f32]) -> Result<()> {
    save_weights(&dir.join(CLUSTERS), cols, weights)
}

/// The clusters `[C, d + 1]` that a training left in the folder `dir`, and d + 1; the bias is last.
pub(super) fn clusters(dir: &Path) -> Result<(usize, Vec<f32>)> {
    load_weights(&dir.join(CLUSTERS))
}

/// Writes the edges.
pub(super) fn save_graph(dir: &Path, graph: &Graph) -> Result<()> {
    let indptr: Vec<u64> = graph.indptr().iter().map(|&at| at as u64).collect();
    // Other numbers are kept as the floats with the same bits.
    let mut runs =
        vec![("indptr", bytemuck::cast_slice(&indptr)), ("ids", bytemuck::cast_slice(graph.ids()))];
    runs.extend(graph.logits().map(|logits| ("logits", logits)));
    Ok(checkpoint::save(&dir.join(GRAPH), &runs, &json!({ "labels": graph.labels() }))?)
}

/// The edges that a training left in the folder `dir`; those that learned, with the gain `beta`.
pub(super) fn graph(dir: &Path, beta: f32) -> Result<Graph> {
    let path = dir.join(GRAPH);
    let mut saved = checkpoint::load(&path)?;
    let indptr = saved.take("indptr").unwrap_or_default();
    let indptr =
        indptr.as_chunks::<2>().0.iter().map(|&half| bytemuck::cast::<_, u64>(half) as usize).collect();
    let ids = saved.take("ids").unwrap_or_default().into_iter().map(f32::to_bits).collect();
    let labels = saved.meta["labels"].as_u64().unwrap_or(0) as usize;
    let logits = saved.take("logits").map(|logits| (logits, beta));
    Graph::from_parts(labels, indptr, ids, logits).map_err(|e| Error::file(&path, e.to_string()))
}

#[cfg(test)]
mod tests {
    use xmc_data::Csr;

    use super::*;

    #[test]
    fn edges_are_read_as_they_were_written_and_damage_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let edges = Csr::new(3, 5, vec![0, 2, 2, 4], vec![1, 4, 0, 1], vec![1.0; 4]).unwrap();
        let fixed = Graph::fixed(&[1, 0, 2, 2, 1], 3).unwrap();
        for graph in [fixed, Graph::learned(&edges, 3.0, 7).unwrap()] {
            save_graph(dir.path(), &graph).unwrap();
            let read = super::graph(dir.path(), 3.0).unwrap();
            assert_eq!(
                (read.indptr(), read.ids(), read.logits()),
                (graph.indptr(), graph.ids(), graph.logits())
            );
            assert_eq!(read.labels(), 5);
            let mut values = [Vec::new(), Vec::new()];
            for (graph, values) in [&graph, &read].into_iter().zip(&mut values) {
                graph.log_values(2, values);
            }
            assert_eq!(values[0], values[1]);
        }
        let runs: [(&str, &[f32]); 2] = [("indptr", &[0.0, 0.0, 1.0, 0.0]), ("ids", &[0.0])];
        checkpoint::save(&dir.path().join(GRAPH), &runs, &json!({ "labels": 1 })).unwrap();
        let error = super::graph(dir.path(), 3.0).unwrap_err().to_string();
        assert!(error.contains("graph.safetensors"), "{error}");
    }
}
