//! A trained DEXML: an encoder, one vector for every label, and how a text meets them.
//!
//! ```text
//! score_l(text) = encoder(text) . y_l          dual encoder: y_l embeds the name of the label
//! score_l(text) = [encoder(text), 1] . y_l     one-vs-all: weights of the label, its bias last
//! ```
//!
//! The temperature of training is left out: it changes no order. The search is exact, over all labels; there is no
//! beam.

use std::path::Path;

use xmc_data::{Row, Strings, TopK};
use xmc_nn::tower::TowerConfig;
use xmc_nn::{Device, Precision, Tensor};

use super::config::{DexmlConfig, Head};
use crate::config::Settings;
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::index::{Filter, LabelEmbeddings, search};
use crate::methods::classifier::with_one;
use crate::model::{PredictOptions, reads_no_features};

/// Folder of the encoder and file of the label vectors, in a model.
pub(crate) const ENCODER: &str = "encoder";
pub(crate) const LABEL_EMBEDDINGS: &str = "label_embeddings";

/// Texts whose embeddings are held at a time.
const ROWS_AT_ONCE: usize = 16_384;

/// Everything needed to answer.
#[derive(Debug)]
pub struct Dexml {
    encoder: Encoder,
    labels: LabelEmbeddings,
    head: Head,
}

impl Dexml {
    /// Puts trained parts together.
    pub fn new(encoder: Encoder, labels: LabelEmbeddings, head: Head) -> Result<Self> {
        let expected = encoder.dim() + usize::from(head == Head::Classifier);
        if labels.dim() != expected {
            let found = labels.dim();
            return Err(Error::Mismatch(format!(
                "label vectors of {found} values, but the encoder needs {expected}: mixed from two models?"
            )));
        }
        Ok(Dexml { encoder, labels, head })
    }

    /// Opens the folder of an encoder and a file of label vectors that belongs to it.
    pub(crate) fn open(
        encoder: &Path,
        labels: &Path,
        config: &DexmlConfig,
        device: Device,
        precision: Precision,
    ) -> Result<Self> {
        let encoder = Encoder::open(encoder, tower_config(config), config.max_len, device, precision)?;
        Dexml::new(encoder, LabelEmbeddings::open(labels)?, config.head)
    }

    /// What embeds texts.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// What embeds texts, without the labels.
    pub fn into_encoder(self) -> Encoder {
        self.encoder
    }

    /// Vectors of the labels, `[L, d]` or with biases `[L, d + 1]`.
    pub fn label_embeddings(&self) -> &LabelEmbeddings {
        &self.labels
    }

    /// What a label is scored with.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Number of labels L.
    pub fn num_labels(&self) -> usize {
        self.labels.rows()
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
            let queries = self.queries(self.encoder.embed(&texts.select(&rows), &|_, _| {})?)?;
            all.append(&search(&queries, &self.labels, options.top_k, &filter.from_row(first))?);
        }
        Ok(all)
    }

    /// Answers single texts one after the other, in this thread as far as that goes.
    pub fn session(&self, options: PredictOptions) -> Session<'_> {
        Session { model: self, options, found: Vec::new() }
    }

    /// Embeddings `[n, d]` as rows of label vectors see them.
    fn queries(&self, x: Tensor) -> Result<Tensor> {
        match self.head {
            Head::LabelText => Ok(x),
            Head::Classifier => with_one(&x),
        }
    }
}

/// What is behind the transformer, by the settings of a training.
pub(crate) fn tower_config(config: &DexmlConfig) -> TowerConfig {
    TowerConfig { pooling: config.pooling.into(), projection: config.projection, normalize: config.normalize }
}

/// An exact search is what this model does anyway; a beam would be silently ignored.
fn refuse_beam(options: &PredictOptions) -> Result<()> {
    match options.beam_size {
        None => Ok(()),
        Some(_) => Err(Error::Mismatch(
            "a model of dexml has no tree to search with a beam: its search is exact; leave --beam out"
                .to_owned(),
        )),
    }
}

/// Answers text after text.
pub struct Session<'m> {
    model: &'m Dexml,
    options: PredictOptions,
    found: Vec<(u32, f32)>,
}

impl Session<'_> {
    /// The best labels of a text, best first.
    pub fn text(&mut self, text: &str) -> Result<&[(u32, f32)]> {
        refuse_beam(&self.options)?;
        let query = self.model.queries(self.model.encoder.embed_one(text)?)?;
        let found = search(&query, &self.model.labels, self.options.top_k, &Filter::none())?;
        self.found.clear();
        self.found.extend_from_slice(found.row(0));
        Ok(&self.found)
    }

    /// Always an error.
    pub fn features(&mut self, _: Row<'_>) -> Result<&[(u32, f32)]> {
        Err(reads_no_features(DexmlConfig::METHOD))
    }
}
