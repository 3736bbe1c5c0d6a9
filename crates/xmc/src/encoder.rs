//! How does a text become an embedding?
//!
//! A tokenizer cuts it; a tower computes, or a decoder behind a prompt.

use std::path::Path;

use serde::{Deserialize, Serialize};
use xmc_data::Strings;
use xmc_nn::decoder::Prompted;
use xmc_nn::hf::Tokenizer;
use xmc_nn::tokens::Tokens;
use xmc_nn::tower::{Pooling, Tower, TowerConfig};
use xmc_nn::transformer::Config;
use xmc_nn::{Batch, Device, Precision, Tensor};

use crate::error::{Error, Result};
use crate::methods::quest::template::{TEXT, begin, begin_all, framed};
use crate::run::create;

/// Tokens that go through the tower together: enough work for all threads, and activations that stay small.
const BUDGET: usize = 16_384;

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PoolingKind {
    /// Their mean.
    #[default]
    Mean,
    /// The vector of the first token.
    Cls,
    /// The vector of the first token behind the layer that BERT trains with it.
    Pooler,
}

impl From<PoolingKind> for Pooling {
    fn from(kind: PoolingKind) -> Self {
        match kind {
            PoolingKind::Mean => Pooling::Mean,
            PoolingKind::Cls => Pooling::Cls,
            PoolingKind::Pooler => Pooling::Pooler,
        }
    }
}

/// Precision of the products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// bf16 where the processor has instructions for it, else f32.
    #[default]
    Auto,
    /// 32 bits.
    F32,
    /// Operands of 16 bits, sums of 32.
    Bf16,
}

impl PrecisionChoice {
    /// The precision that is meant on this processor.
    pub fn resolve(self) -> Precision {
        match self {
            PrecisionChoice::F32 => Precision::F32,
            PrecisionChoice::Bf16 => Precision::Bf16,
            PrecisionChoice::Auto => best_precision(),
        }
    }
}

/// What computes embeddings, and the tokenizer that belongs to it.
#[derive(Debug)]
pub struct Encoder {
    body: Body,
    tokenizer: Tokenizer,
    /// What is read of a text: words around `{text}`.
    frame: String,
}

/// What computes.
#[derive(Debug)]
enum Body {
    Tower(Box<Tower>),
    Prompted(Box<Prompted>),
}

impl Encoder {
    /// Opens a folder of Hugging Face: `config.json`, `model.safetensors` and the files of the tokenizer. Texts are cut
    /// to `max_len` tokens, or to as many as the encoder can read.
    ///
    /// Errors: besides files that are missing or damaged, a pooler or a projection that is asked for and not there.
    pub fn open(
        dir: &Path,
        config: TowerConfig,
        max_len: usize,
        device: Device,
        precision: Precision,
    ) -> Result<Self> {
        require_folder(dir)?;
        let tower = Tower::open(dir, config, device, precision)?;
        require_trained(dir, &tower)?;
        let tokenizer = Tokenizer::open(dir, max_len.min(tower.max_positions()))?;
        check_vocabulary(dir, &tokenizer, tower.transformer_config())?;
        Ok(Encoder { body: Body::Tower(Box::new(tower)), tokenizer, frame: TEXT.to_owned() })
    }

    /// A decoder behind a prompt, which reads texts within `frame`.
    ///
    /// # Errors
    /// If the frame leaves no token to texts.
    pub(crate) fn prompted(prompted: Prompted, tokenizer: Tokenizer, frame: &str) -> Result<Self> {
        let tokenizer = framed(tokenizer, frame, TEXT)?;
        Ok(Encoder { body: Body::Prompted(Box::new(prompted)), tokenizer, frame: frame.to_owned() })
    }

    /// The same encoder for texts cut elsewhere.
    pub fn with_max_len(self, max_len: usize) -> Result<Self> {
        let max_len = max_len.min(self.max_positions());
        Ok(Encoder { tokenizer: self.tokenizer.with_max_len(max_len)?, ..self })
    }

    /// What computes, if it is an encoder of Hugging Face.
    pub fn tower(&self) -> Option<&Tower> {
        match &self.body {
            Body::Tower(tower) => Some(tower),
            Body::Prompted(_) => None,
        }
    }

    /// What computes, if it is a decoder behind a prompt.
    pub fn decoder(&self) -> Option<&Prompted> {
        match &self.body {
            Body::Tower(_) => None,
            Body::Prompted(prompted) => Some(prompted),
        }
    }

    /// Size d of an embedding.
    pub fn dim(&self) -> usize {
        match &self.body {
            Body::Tower(tower) => tower.dim(),
            Body::Prompted(prompted) => prompted.dim(),
        }
    }

    /// Most tokens of a text that can be read.
    pub fn max_positions(&self) -> usize {
        match &self.body {
            Body::Tower(tower) => tower.max_positions(),
            Body::Prompted(prompted) => prompted.max_positions(),
        }
    }

    /// Tokens of a text that are read, special ones included.
    pub fn max_len(&self) -> usize {
        self.tokenizer.max_len()
    }

    /// Embeddings `[n, d]` of all texts; `progress` hears how many tokens of how many are done.
    pub fn embed(&self, texts: &Strings, progress: &dyn Fn(u64, u64)) -> Result<Tensor> {
        self.embed_tokens(&self.tokenizer.encode(&begin_all(&self.frame, TEXT, texts))?, progress)
    }

    /// The same for texts that are token ids already.
    pub fn embed_tokens(&self, tokens: &Tokens, progress: &dyn Fn(u64, u64)) -> Result<Tensor> {
        let rows: Vec<u32> = (0..tokens.len() as u32).collect();
        Ok(match &self.body {
            Body::Tower(tower) => tower.embed_rows(tokens, &rows, BUDGET, progress)?,
            Body::Prompted(prompted) => prompted.embed_rows(tokens, &rows, Prompted::PASS, progress)?,
        })
    }

    /// The embedding `[1, d]` of one text.
    pub fn embed_one(&self, text: &str) -> Result<Tensor> {
        let batch = Batch::new([self.tokenizer.encode_one(&begin(&self.frame, TEXT, text))?]);
        Ok(match &self.body {
            Body::Tower(tower) => tower.embed(&batch)?,
            Body::Prompted(prompted) => prompted.embed(&batch)?,
        })
    }
}

/// Writes a folder in the layout of Hugging Face: the tower, and the tokenizer of the folder `tokenizer`.
pub(crate) fn save_folder(tower: &Tower, tokenizer: &Path, dir: &Path) -> Result<()> {
    create(dir)?;
    tower.save(dir)?;
    // The number of tokens does not matter: its files are copied.
    Ok(Tokenizer::open(tokenizer, tower.max_positions())?.save(dir)?)
}

/// Refuses an encoder without a layer that is asked for: who does not train it would get noise.
pub(crate) fn require_trained(dir: &Path, tower: &Tower) -> Result<()> {
    let problem = match tower.fresh() {
        [] => return Ok(()),
        [name, ..] if is_pooler(name) => "has no pooler; choose mean or cls, or train it",
        _ => "has no projection: the files of two encoders are mixed",
    };
    Err(Error::file(dir, problem))
}

/// What to say before a training in which the pooler begins as noise.
pub(crate) fn fresh_pooler(dir: &Path, tower: &Tower) -> Option<String> {
    let note = || format!("{} has no pooler: it begins with random weights and is trained", dir.display());
    tower.fresh().iter().any(|name| is_pooler(name)).then(note)
}

fn is_pooler(parameter: &str) -> bool {
    parameter.starts_with("pooler.")
}

/// Refuses a tokenizer with ids that the encoder has no vectors for.
pub(crate) fn check_vocabulary(dir: &Path, tokenizer: &Tokenizer, config: &Config) -> Result<()> {
    let (ids, known) = (tokenizer.vocabulary(), config.vocab);
    if ids <= known {
        return Ok(());
    }
    Err(Error::file(
        dir,
        format!("the tokenizer has {ids} tokens, the encoder knows {known}: files of two encoders are mixed"),
    ))
}

/// A missing folder is the commonest mistake, and often the name of a hub was meant.
pub(crate) fn require_folder(dir: &Path) -> Result<()> {
    let problem = match (dir.is_dir(), dir.exists()) {
        (true, _) if dir.join("config.json").is_file() => return Ok(()),
        (true, _) => "no config.json in it",
        (false, true) => "not a folder",
        (false, false) => "no such folder",
    };
    let expected = "expected a folder with config.json, model.safetensors and tokenizer.json";
    Err(Error::file(dir, format!("{problem}; {expected}")))
}

/// How sentence-transformers pools in the folder of an encoder, if its `1_Pooling/config.json` is there.
pub fn stored_pooling(dir: &Path) -> Result<Option<Pooling>> {
    let path = dir.join("1_Pooling").join("config.json");
    if !path.is_file() {
        return Ok(None);
    }
    let text = std::fs::read(&path).map_err(Error::io(&path))?;
    let json: serde_json::Value =
        serde_json::from_slice(&text).map_err(|e| Error::file(&path, format!("not JSON: {e}")))?;
    let flags = json.as_object().into_iter().flatten();
    let flags =
        flags.filter(|(key, value)| key.starts_with("pooling_mode_") && value.as_bool() == Some(true));
    let mut modes: Vec<&str> = flags.map(|(key, _)| key.as_str()).collect();
    modes.extend(json["pooling_mode"].as_str());
    match *modes {
        ["pooling_mode_mean_tokens" | "mean"] => Ok(Some(Pooling::Mean)),
        ["pooling_mode_cls_token" | "cls"] => Ok(Some(Pooling::Cls)),
        ["pooler"] => Ok(Some(Pooling::Pooler)),
        _ => Err(Error::file(
            &path,
            format!(
                "pools by `{}`; only mean, cls and pooler are known: choose one with --pooling",
                modes.join("`, `")
            ),
        )),
    }
}

/// The precision in which this processor computes fastest without harm: bf16 where it has instructions for that.
pub fn best_precision() -> Precision {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512bf16") {
        return Precision::Bf16;
    }
    Precision::F32
}
