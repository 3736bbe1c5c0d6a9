//! Which encoder does training begin with, and what stands behind its transformer?
//!
//! The setting `encoder` names a folder of Hugging Face, or a model of this program that has one. Pooling is what the
//! settings say, else what the model was trained with, else what the folder says, else the mean.

use std::path::{Path, PathBuf};

use xmc_data::Strings;
use xmc_data::dataset::Dataset;
use xmc_nn::tower::{Pooling, TowerConfig};

use super::dexml::{DexmlConfig, ENCODER, tower_config};
use super::elias::EliasConfig;
use super::xr_transformer::XrTransformerConfig;
use crate::config::Settings;
use crate::encoder::{PoolingKind, require_folder};
use crate::error::{Error, Result};
use crate::model::encoder_folder::stored_tower;
use crate::model::manifest::{self, Manifest};
use crate::model::settings;

/// The encoder before training.
#[derive(Clone, Debug)]
pub(super) struct Start {
    /// Folder in the layout of Hugging Face, with the files of the tokenizer.
    pub(super) dir: PathBuf,
    /// What stands behind the transformer; embeddings keep their length while the encoder learns.
    pub(super) tower: TowerConfig,
}

impl Start {
    /// Finds the encoder that the settings `encoder` and `pooling` name.
    pub(super) fn find(encoder: Option<&Path>, pooling: Option<PoolingKind>) -> Result<Self> {
        let named = encoder.ok_or_else(unset)?;
        let pooling = pooling.map(Into::into);
        let (dir, stored) = if named.join(manifest::NAME).is_file() {
            of_model(named, pooling)?
        } else {
            require_folder(named)?;
            (named.to_owned(), stored_tower(named, pooling)?)
        };
        Ok(Start { dir, tower: TowerConfig { normalize: false, ..stored } })
    }

    /// The same for embeddings that stand beside sparse features: they have length 1.
    pub(super) fn normalized(&self) -> TowerConfig {
        TowerConfig { normalize: true, ..self.tower }
    }
}

/// The encoder of the model in the folder `dir`.
fn of_model(dir: &Path, pooling: Option<Pooling>) -> Result<(PathBuf, TowerConfig)> {
    let manifest = Manifest::open(dir)?;
    let encoder = dir.join(ENCODER);
    let tower = match manifest.method.as_str() {
        DexmlConfig::METHOD => {
            let stored = tower_config(&settings(dir, &manifest)?);
            TowerConfig { pooling: pooling.unwrap_or(stored.pooling), ..stored }
        }
        XrTransformerConfig::METHOD | EliasConfig::METHOD => stored_tower(&encoder, pooling)?,
        other => return Err(Error::file(dir, format!("a model of {other} has no encoder to begin with"))),
    };
    require_folder(&encoder)?;
    Ok((encoder, tower))
}

fn unset() -> Error {
    let expected = "the folder of an encoder (config.json, model.safetensors, tokenizer.json), or a model of dexml, \
                    xr-transformer or elias";
    xmc_data::Error::config("encoder", "nothing", expected).into()
}

/// Texts of the training rows; an error that names the method if there are none.
pub(super) fn texts<'d>(data: &'d Dataset, method: &str) -> Result<&'d Strings> {
    let missing = || {
        Error::file(&data.path, format!("no texts for the training rows: {method} reads texts, not features"))
    };
    data.train.texts.as_ref().ok_or_else(missing)
}
