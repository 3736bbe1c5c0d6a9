//! What does a training leave for those that follow, and where in its folder does it lie?
//!
//! ```text
//! encoder/               the encoder in the layout of Hugging Face; absent if it did not learn
//! clusters.safetensors   W_C, b_C [C, d + 1]; with an index only
//! graph.safetensors      edges from clusters to labels; with an index only
//! classifiers            w_l, b_l [L, d + 1], f32, as label embeddings that are mapped
//! ```

use std::path::{Path, PathBuf};

use xmc_nn::tower::Tower;

use super::head::HeadState;
use crate::encoder::save_folder;
use crate::error::{Error, Result};
use crate::index::LabelEmbeddings;
use crate::methods::dexml::ENCODER;
use crate::run::Artifact;

/// Name of the classifiers.
const CLASSIFIERS: &str = "classifiers";

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

/// Where the classifiers of the folder `dir` lie.
pub(super) fn classifiers_path(dir: &Path) -> PathBuf {
    dir.join(CLASSIFIERS)
}
