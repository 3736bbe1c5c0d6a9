//! How the results of the stages are kept in the run directory.

use std::fs;
use std::io::Write;
use std::path::Path;

use xmc_data::Csr;
use xmc_data::formats::atomic::write_atomically;
use xmc_data::text::Vectorizer;
use xmc_linear::Tree;
use xmc_linear::store::TreeModel;

use crate::error::{Error, Result};
use crate::run::Artifact;

/// Names of the files of one vectorizer and one ranker, in a stage and in a model.
pub(crate) const VECTORIZER: &str = "vectorizer";
pub(super) const RANKER: &str = "ranker";

/// A fitted vectorizer. The features of the training texts are not kept: making them again is faster than reading.
pub(super) struct Fitted {
    pub(super) vectorizer: Vectorizer,
    /// `[n, d]`, if they were just made.
    pub(super) x: Option<Csr>,
}

impl Artifact for Fitted {
    fn save(&self, dir: &Path) -> Result<()> {
        Ok(self.vectorizer.save(&dir.join(VECTORIZER))?)
    }

    fn load(dir: &Path) -> Result<Self> {
        Ok(Fitted { vectorizer: Vectorizer::open(&dir.join(VECTORIZER))?, x: None })
    }
}

impl Artifact for Tree {
    fn save(&self, dir: &Path) -> Result<()> {
        let offsets: Vec<&[u32]> = (0..self.depth()).map(|t| self.offsets(t)).collect();
        let parts = (offsets, self.labels(), self.num_labels());
        let json = serde_json::to_vec(&parts).map_err(|e| Error::Mismatch(e.to_string()))?;
        let path = dir.join("tree.json");
        Ok(write_atomically(&path, |file| file.write_all(&json).map_err(xmc_data::Error::io(&path)))?)
    }

    fn load(dir: &Path) -> Result<Self> {
        let path = dir.join("tree.json");
        let json = fs::read(&path).map_err(Error::io(&path))?;
        let (offsets, labels, num_labels) =
            serde_json::from_slice(&json).map_err(|e| Error::file(&path, e.to_string()))?;
        Ok(Tree::new(offsets, labels, num_labels)?)
    }
}

impl Artifact for TreeModel {
    fn save(&self, dir: &Path) -> Result<()> {
        Ok(TreeModel::save(self, &dir.join(RANKER))?)
    }

    fn load(dir: &Path) -> Result<Self> {
        Ok(TreeModel::open(&dir.join(RANKER))?)
    }
}
