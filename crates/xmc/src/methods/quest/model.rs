//! A trained QUEST: a frozen decoder behind its prompt, one vector for every label, and how a text meets them.
//!
//! ```text
//! score_l(text) = cosine of decoder(prompt, text) and y_l,  y_l = decoder(prompt, name of l)
//! ```
//!
//! The search is exact, over all labels, seen in training or not.

use std::path::Path;

use xmc_data::{Row, Strings, TopK};
use xmc_nn::decoder::Prompted;
use xmc_nn::hf::Tokenizer;

use super::base::{Base, read};
use super::config::QuestConfig;
use super::prompt::{around, parameters};
use super::sampled::Sampled;
use super::template::{LABEL, begin_all, framed};
use super::trained::LABEL_EMBEDDINGS;
use crate::config::Settings;
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::index::{Filter, LabelEmbeddings, search};
use crate::model::{OpenOptions, PredictOptions, reads_no_features};
use crate::run::Artifact;

/// Folder of the tokenizer in a model.
pub(super) const TOKENIZER: &str = "tokenizer";

/// Texts whose embeddings are held at a time.
const ROWS_AT_ONCE: usize = 16_384;

/// Everything needed to answer.
#[derive(Debug)]
pub struct Quest {
    encoder: Encoder,
    labels: LabelEmbeddings,
    sampled: Sampled,
    base: Base,
    /// What the decoder reads of a label, and how much.
    label_template: String,
    label_max_len: usize,
}

impl Quest {
    /// Opens a model folder whose files are checked already, or the folder in which one is put together.
    pub(crate) fn open(dir: &Path, config: &QuestConfig, options: &OpenOptions) -> Result<Self> {
        let base = Base::load(dir)?;
        let source = base.find(dir, options.decoder.as_deref())?;
        let decoder = read(&source, config.quantization, options.precision)?;
        let (params, h) = (parameters(dir, config)?, decoder.config().hidden);
        let prompt = params.get(..config.prompt_tokens * h).ok_or_else(|| mixed(dir))?;
        let mut prompted = Prompted::new(decoder, around(config), prompt, 0)?;
        prompted.set_params(&params)?;
        let tokenizer = Tokenizer::open(&dir.join(TOKENIZER), config.max_len.min(prompted.max_positions()))?;
        let labels = LabelEmbeddings::open(&dir.join(LABEL_EMBEDDINGS))?;
        if labels.dim() != h {
            return Err(mixed(dir));
        }
        Ok(Quest {
            encoder: Encoder::prompted(prompted, tokenizer, &config.text_template)?,
            labels,
            sampled: Sampled::load(dir)?,
            base,
            label_template: config.label_template.clone(),
            label_max_len: config.label_max_len,
        })
    }

    /// What embeds texts.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// What embeds texts, without the labels.
    pub fn into_encoder(self) -> Encoder {
        self.encoder
    }

    /// Vectors of the labels `[L, d]`.
    pub fn label_embeddings(&self) -> &LabelEmbeddings {
        &self.labels
    }

    /// The labels that were learned from.
    pub fn sampled(&self) -> &Sampled {
        &self.sampled
    }

    /// The decoder that it was trained with.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// Number of labels L.
    pub fn num_labels(&self) -> usize {
        self.labels.rows()
    }

    /// Embeddings `[n, d]` of the names of labels.
    pub(crate) fn embed_labels(
        &self,
        dir: &Path,
        names: &Strings,
        progress: &dyn Fn(u64, u64),
    ) -> Result<xmc_nn::Tensor> {
        let max_len = self.label_max_len.min(self.encoder.max_positions());
        let tokenizer = Tokenizer::open(&dir.join(TOKENIZER), max_len)?;
        let tokenizer = framed(tokenizer, &self.label_template, LABEL)?;
        let tokens = tokenizer.encode(&begin_all(&self.label_template, LABEL, names))?;
        self.encoder.embed_tokens(&tokens, progress)
    }

    /// The best labels of every text, without the pairs that `filter` excludes.
    pub fn predict_texts(
        &self,
        texts: &Strings,
        options: &PredictOptions,
        filter: Filter<'_>,
    ) -> Result<TopK> {
        refuse_beam(options)?;
        let mut all = TopK::new();
        for first in (0..texts.len()).step_by(ROWS_AT_ONCE) {
            let rows: Vec<u32> = (first..texts.len().min(first + ROWS_AT_ONCE)).map(|i| i as u32).collect();
            let queries = self.encoder.embed(&texts.select(&rows), &|_, _| {})?;
            all.append(&search(&queries, &self.labels, options.top_k, &filter.from_row(first))?);
        }
        Ok(all)
    }

    /// Answers single texts one after the other.
    pub fn session(&self, options: PredictOptions) -> Session<'_> {
        Session { model: self, options, found: Vec::new() }
    }
}

fn mixed(dir: &Path) -> Error {
    Error::file(
        dir,
        "prompt, decoder and label embeddings do not fit together: files of two models are mixed",
    )
}

/// An exact search is what this model does anyway; a beam would be silently ignored.
fn refuse_beam(options: &PredictOptions) -> Result<()> {
    match options.beam_size {
        None => Ok(()),
        Some(_) => Err(Error::Mismatch(
            "a model of quest has no tree to search with a beam: its search is exact; leave --beam out"
                .to_owned(),
        )),
    }
}

/// Answers text after text.
pub struct Session<'m> {
    model: &'m Quest,
    options: PredictOptions,
    found: Vec<(u32, f32)>,
}

impl Session<'_> {
    /// The best labels of a text, best first.
    pub fn text(&mut self, text: &str) -> Result<&[(u32, f32)]> {
        refuse_beam(&self.options)?;
        let query = self.model.encoder.embed_one(text)?;
        let found = search(&query, &self.model.labels, self.options.top_k, &Filter::none())?;
        self.found.clear();
        self.found.extend_from_slice(found.row(0));
        Ok(&self.found)
    }

    /// Always an error.
    pub fn features(&mut self, _: Row<'_>) -> Result<&[(u32, f32)]> {
        Err(reads_no_features(QuestConfig::METHOD))
    }
}
