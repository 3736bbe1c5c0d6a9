//! How does training end? With a model folder, or with clusters or edges alone as a matrix.

use std::path::Path;

use super::clusters::CLUSTERS as CLUSTERS_ALONE;
use super::config::{EliasConfig, Head};
use super::edges::Edges;
use super::model::{CLUSTERS, EDGES};
use super::search::LearnedIndex;
use super::stages;
use crate::error::{Error, Result};
use crate::index::{Dtype, LabelEmbeddings};
use crate::methods::Summary;
use crate::methods::dexml::LABEL_EMBEDDINGS;
use crate::model::finish::take;
use crate::model::publish::{is_empty, replace};
use crate::run::{Artifact, Run};

/// Rows that are read at a time.
const ROWS_AT_ONCE: usize = 4096;

/// Clusters, edges and classifiers as a model keeps them, made from the training in a folder.
pub(super) struct Parts<'a> {
    /// None once they are files.
    pub(super) of: Option<(&'a Path, &'a EliasConfig)>,
}

impl Artifact for Parts<'_> {
    fn save(&self, dir: &Path) -> Result<()> {
        let Some((trained, config)) = self.of else { return Ok(()) };
        let labels = stages::classifiers(trained)?;
        let dtype = config.label_embeddings;
        let path = dir.join(LABEL_EMBEDDINGS);
        LabelEmbeddings::write(&path, labels.rows(), labels.dim(), dtype, |writer| {
            let mut rows = Vec::new();
            for first in (0..labels.rows()).step_by(ROWS_AT_ONCE) {
                rows.clear();
                for i in first..labels.rows().min(first + ROWS_AT_ONCE) {
                    rows.extend_from_slice(&labels.row(i));
                }
                writer.push(&rows)?;
            }
            Ok(())
        })?;
        if config.head != Head::Index {
            return Ok(());
        }
        let (cols, clusters) = stages::clusters(trained)?;
        write_clusters(&dir.join(CLUSTERS), cols, &clusters, LearnedIndex::clusters_dtype(dtype))?;
        let graph = stages::graph(trained, config.index.beta)?;
        let (mut values, mut of_cluster) = (Vec::with_capacity(graph.ids().len()), Vec::new());
        for cluster in 0..graph.clusters() as u32 {
            graph.log_values(cluster, &mut of_cluster);
            values.extend_from_slice(&of_cluster);
        }
        Edges::new(graph.labels(), graph.indptr(), graph.ids(), &values)?.save(&dir.join(EDGES))
    }

    fn load(dir: &Path) -> Result<Self> {
        let needed = dir.join(LABEL_EMBEDDINGS);
        if needed.is_file() { Ok(Parts { of: None }) } else { Err(Error::file(&needed, "missing")) }
    }
}

fn write_clusters(path: &Path, cols: usize, weights: &[f32], dtype: Dtype) -> Result<()> {
    LabelEmbeddings::write(path, weights.len() / cols.max(1), cols, dtype, |writer| writer.push(weights))
}

/// Refuses a target that exists and holds anything but the matrix `name`.
pub(super) fn refuse_foreign(out: &Path, name: &str) -> Result<()> {
    let alone = || -> Result<bool> {
        let mut files = std::fs::read_dir(out).map_err(Error::io(out))?;
        Ok(files.all(|file| file.is_ok_and(|file| file.file_name() == name)))
    };
    if std::fs::symlink_metadata(out).is_err() || is_empty(out)? || (out.is_dir() && alone()?) {
        return Ok(());
    }
    let problem =
        format!("exists and holds more than {name}, so it is not overwritten: choose another --out");
    Err(Error::file(out, problem))
}

/// Publishes the matrix `name` of the stage `stage` alone, and ends the run.
pub(super) fn matrix(run: Run, stage: &str, name: &str, out: &Path) -> Result<Summary> {
    let dir = run.scratch("published")?;
    take(&run.stage_dir(stage).join(name), &dir.join(name))?;
    let path = dir.join(name);
    let model_bytes = path.metadata().map_err(Error::io(&path))?.len();
    refuse_foreign(out, name)?;
    replace(&dir, out, &run.stage_dir("old"))?;
    let alone = Some(if name == CLUSTERS_ALONE { "clusters" } else { "edges" });
    Ok(Summary { stages: run.succeed()?, model_bytes, metrics: None, alone })
}
