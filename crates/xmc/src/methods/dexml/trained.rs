//! What comes out of the loop, and how is it kept? The encoder in Hugging Face layout, the one-vs-all head if there is
//! one, the curves; and from these an embedding of every label.

use std::path::{Path, PathBuf};

use xmc_nn::tower::Tower;
use xmc_nn::{Device, Tensor};

use super::config::{DexmlConfig, Head};
use super::inputs::TokenSets;
use super::learner::Learner;
use super::model::{ENCODER, LABEL_EMBEDDINGS, tower_config};
use super::scoring::embed_all;
use crate::encoder::save_folder;
use crate::error::{Error, Result};
use crate::index::LabelEmbeddings;
use crate::methods::classifier::{load_weights, save_weights};
use crate::model::finish::take;
use crate::run::Artifact;

/// Names in the stage; that of the curves also in the model.
pub(super) const CURVES: &str = "curves.jsonl";
const HEAD: &str = "head.safetensors";

/// The tower of an encoder as the settings want it.
pub(super) fn open_tower(encoder: &Path, config: &DexmlConfig, device: Device) -> Result<Tower> {
    Ok(Tower::open(encoder, tower_config(config), device, config.precision.resolve())?)
}

/// A finished training.
pub(super) enum Trained {
    /// Just now.
    Now {
        /// The encoder.
        tower: Box<Tower>,
        /// Weights and biases of the head `[L, d + 1]`, if there is one.
        head: Option<Tensor>,
        /// Where the tokenizer lies.
        tokenizer: PathBuf,
        /// Where the curves lie.
        curves: PathBuf,
    },
    /// In an earlier run; its files are enough.
    Earlier,
}

impl Trained {
    /// What `learner` has become.
    pub(super) fn new(learner: Learner<'_>, encoder: &Path, curves: PathBuf) -> Result<Self> {
        let (tower, head) = learner.into_parts()?;
        Ok(Trained::Now { tower: Box::new(tower), head, tokenizer: encoder.to_owned(), curves })
    }
}

impl Artifact for Trained {
    fn save(&self, dir: &Path) -> Result<()> {
        let Trained::Now { tower, head, tokenizer, curves } = self else { return Ok(()) };
        save_folder(tower, tokenizer, &dir.join(ENCODER))?;
        if let Some(head) = head {
            save_weights(&dir.join(HEAD), head.cols(), head.host())?;
        }
        take(curves, &dir.join(CURVES))
    }

    fn load(dir: &Path) -> Result<Self> {
        let needed = dir.join(ENCODER).join("model.safetensors");
        if needed.is_file() { Ok(Trained::Earlier) } else { Err(Error::file(&needed, "missing")) }
    }
}

/// Vectors of all labels.
pub(super) struct Vectors(pub(super) LabelEmbeddings);

impl Vectors {
    /// Those of a training in the folder `dir`.
    pub(super) fn of(dir: &Path, tokens: &TokenSets, config: &DexmlConfig, device: Device) -> Result<Self> {
        let vectors = match config.head {
            Head::LabelText => {
                let tower = open_tower(&dir.join(ENCODER), config, device)?;
                embed_all(&tower, &tokens.labels, config.tokens_per_batch)?
            }
            Head::Classifier => {
                let (cols, values) = load_weights(&dir.join(HEAD))?;
                Tensor::from_host(values.len() / cols, cols, values, device)?
            }
        };
        let (cols, values) = (vectors.cols(), vectors.host());
        Ok(Vectors(LabelEmbeddings::from_values(cols, values, config.label_embeddings)?))
    }
}

impl Artifact for Vectors {
    fn save(&self, dir: &Path) -> Result<()> {
        self.0.save(&dir.join(LABEL_EMBEDDINGS))
    }

    fn load(dir: &Path) -> Result<Self> {
        Ok(Vectors(LabelEmbeddings::open(&dir.join(LABEL_EMBEDDINGS))?))
    }
}
