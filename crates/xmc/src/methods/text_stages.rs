//! How are token ids, an encoder that does not learn, and embeddings kept in the run directory?

use std::path::Path;

use xmc_data::formats::npy::{read_dense, write_dense};
use xmc_data::{Dense, Strings};
use xmc_nn::hf::Tokenizer;
use xmc_nn::tokens::Tokens;
use xmc_nn::tower::Tower;
use xmc_nn::transformer::Config;
use xmc_nn::{Device, Precision};

use super::dexml::ENCODER;
use super::start::Start;
use crate::encoder::{Encoder, check_vocabulary, require_trained, save_folder};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::run::Artifact;

/// Names of files in the stages.
const ROWS: &str = "rows";
const EMBEDDING: &str = "embedding.npy";

impl Artifact for Tokens {
    fn save(&self, dir: &Path) -> Result<()> {
        Ok(Tokens::save(self, &dir.join(ROWS))?)
    }

    fn load(dir: &Path) -> Result<Self> {
        Ok(Tokens::open(&dir.join(ROWS))?)
    }
}

/// Token ids of `texts`, by the tokenizer of the encoder that training begins with.
pub(super) fn tokens(start: &Start, texts: &Strings, max_len: usize) -> Result<Tokens> {
    let transformer = Config::open(&start.dir.join("config.json"))?;
    let tokenizer = Tokenizer::open(&start.dir, max_len.min(transformer.max_positions()))?;
    check_vocabulary(&start.dir, &tokenizer, &transformer)?;
    Ok(tokenizer.encode(texts)?)
}

/// An encoder that does not learn, as a folder of its own: whatever happens to the one it came from.
pub(super) enum Unchanged<'a> {
    /// Just opened.
    Now(Box<Tower>, &'a Path),
    /// In an earlier run; its files are enough.
    Earlier,
}

impl<'a> Unchanged<'a> {
    pub(super) fn open(start: &'a Start, device: Device) -> Result<Self> {
        // The precision does not matter: nothing is computed.
        let tower = Tower::open(&start.dir, start.tower, device, Precision::F32)?;
        require_trained(&start.dir, &tower)?;
        Ok(Unchanged::Now(Box::new(tower), &start.dir))
    }
}

impl Artifact for Unchanged<'_> {
    fn save(&self, dir: &Path) -> Result<()> {
        let Unchanged::Now(tower, start) = self else { return Ok(()) };
        save_folder(tower, start, &dir.join(ENCODER))
    }

    fn load(dir: &Path) -> Result<Self> {
        let needed = dir.join(ENCODER).join("model.safetensors");
        if needed.is_file() { Ok(Unchanged::Earlier) } else { Err(Error::file(&needed, "missing")) }
    }
}

/// Embeddings of the training rows `[n, h]`, each of length 1.
pub(super) struct Embedding(pub(super) Dense);

impl Embedding {
    /// Embeds the texts of `tokens`.
    pub(super) fn of(tokens: &Tokens, encoder: &Encoder, events: &dyn Events) -> Result<Self> {
        let x = encoder.embed_tokens(tokens, &|done, total| events.progress(done, total))?;
        let (rows, cols) = (x.rows(), x.cols());
        Ok(Embedding(Dense::new(rows, cols, x.into_host())?))
    }
}

impl Artifact for Embedding {
    fn save(&self, dir: &Path) -> Result<()> {
        Ok(write_dense(&dir.join(EMBEDDING), &self.0)?)
    }

    fn load(dir: &Path) -> Result<Self> {
        Ok(Embedding(read_dense(&dir.join(EMBEDDING))?))
    }
}
