//! What comes out of the loop, and how is it kept? The encoder in Hugging Face layout, the one-vs-all head if there is
//! one, the curves; and from these an embedding of every label.

use std::path::{Path, PathBuf};

use xmc_nn::hf::Tokenizer;
use xmc_nn::tower::Tower;
use xmc_nn::{Device, Tensor, checkpoint};

use super::config::{DexmlConfig, Head};
use super::inputs::TokenSets;
use super::learner::Learner;
use super::model::{ENCODER, LABEL_EMBEDDINGS, tower_config};
use super::scoring::embed_all;
use crate::error::{Error, Result};
use crate::index::LabelEmbeddings;
use crate::model::finish::take;
use crate::run::{Artifact, create};

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
        let encoder = dir.join(ENCODER);
        create(&encoder)?;
        tower.save(&encoder)?;
        // The number of tokens does not matter: its files are copied.
        Tokenizer::open(tokenizer, tower.max_positions())?.save(&encoder)?;
        if let Some(head) = head {
            let shape = serde_json::json!({ "cols": head.cols() });
            checkpoint::save(&dir.join(HEAD), &[("head", head.host())], &shape)?;
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
                let path = dir.join(HEAD);
                let saved = checkpoint::load(&path)?;
                let cols = saved.meta["cols"].as_u64().unwrap_or(0) as usize;
                let values = saved.tensors.into_iter().next().map(|(_, values)| values).unwrap_or_default();
                Tensor::from_host(values.len().checked_div(cols).unwrap_or(0), cols, values, device)?
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
