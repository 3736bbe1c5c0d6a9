//! A trained XR-Transformer: an encoder, and rankers that see a text's sparse features and its embedding side by side.
//!
//! ```text
//! text ─► vectorizer ─► sparse [d] ─┐
//!      └► encoder ────► dense [h] ──┴► label trees of XR-Linear ─► labels
//! ```
//!
//! The search is that of XR-Linear. A prediction costs one forward pass, which is nearly all of it.

use std::path::Path;

use xmc_data::text::Vectorizer;
use xmc_data::{Row, Strings, TopK};
use xmc_nn::tower::TowerConfig;

use super::config::XrTransformerConfig;
use crate::config::Settings;
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::methods::dexml::ENCODER;
use crate::methods::xr_linear::{self, XrLinear};
use crate::model::encoder_folder::stored_tower;
use crate::model::{OpenOptions, PredictOptions, reads_no_features};

/// Texts whose embeddings are held at a time.
const ROWS_AT_ONCE: usize = 4096;

/// Everything needed to answer.
pub struct XrTransformer {
    encoder: Encoder,
    linear: XrLinear,
}

impl XrTransformer {
    /// Puts trained parts together: the rankers know as many dense features as an embedding has values.
    pub fn new(encoder: Encoder, linear: XrLinear) -> Result<Self> {
        let made = linear.vectorizer().map_or(0, Vectorizer::num_features);
        let (sparse, dense) = (linear.num_features(), linear.num_dense());
        if (sparse, dense) != (made, encoder.dim()) {
            return Err(Error::Mismatch(format!(
                "the rankers know {sparse} sparse features and embeddings of {dense} values, but a text has {made} and \
                 {}: mixed from two models?",
                encoder.dim()
            )));
        }
        Ok(XrTransformer { encoder, linear })
    }

    /// Opens the parts of a model folder whose files are checked already.
    pub(crate) fn open(
        dir: &Path,
        config: &XrTransformerConfig,
        vectorizer: bool,
        options: &OpenOptions,
    ) -> Result<Self> {
        let folder = dir.join(ENCODER);
        let tower = TowerConfig { normalize: true, ..stored_tower(&folder, None)? };
        let encoder = Encoder::open(&folder, tower, config.max_len, options.device, options.precision)?;
        let linear = XrLinear::open(dir, &config.linear(), vectorizer, encoder.dim())?;
        XrTransformer::new(encoder, linear)
    }

    /// What embeds texts; embeddings have length 1.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// What embeds texts, without the trees.
    pub fn into_encoder(self) -> Encoder {
        self.encoder
    }

    /// Vectorizer, and trees with their rankers.
    pub fn linear(&self) -> &XrLinear {
        &self.linear
    }

    /// Number of labels L.
    pub fn num_labels(&self) -> usize {
        self.linear.num_labels()
    }

    /// The best labels of every text.
    pub fn predict_texts(&self, texts: &Strings, options: &PredictOptions) -> Result<TopK> {
        let mut all = TopK::new();
        for first in (0..texts.len()).step_by(ROWS_AT_ONCE) {
            let rows: Vec<u32> = (first..texts.len().min(first + ROWS_AT_ONCE)).map(|i| i as u32).collect();
            let block = texts.select(&rows);
            let dense = self.encoder.embed(&block, &|_, _| {})?;
            all.append(&self.linear.predict_beside(&block, &dense, options)?);
        }
        Ok(all)
    }

    /// The best labels of a text whose embedding `dense [h]` is known, best first.
    pub fn predict_beside(
        &self,
        text: &str,
        dense: &[f32],
        options: PredictOptions,
    ) -> Result<Vec<(u32, f32)>> {
        Ok(self.linear.session(options).text_beside(text, dense)?.to_vec())
    }

    /// Answers single texts one after the other, in this thread.
    pub fn session(&self, options: PredictOptions) -> Session<'_> {
        Session { encoder: &self.encoder, linear: self.linear.session(options) }
    }
}

/// Answers text after text.
pub struct Session<'m> {
    encoder: &'m Encoder,
    linear: xr_linear::Session<'m>,
}

impl Session<'_> {
    /// The best labels of a text, best first.
    pub fn text(&mut self, text: &str) -> Result<&[(u32, f32)]> {
        let dense = self.encoder.embed_one(text)?;
        self.linear.text_beside(text, dense.host())
    }

    /// Always an error.
    pub fn features(&mut self, _: Row<'_>) -> Result<&[(u32, f32)]> {
        Err(reads_no_features(XrTransformerConfig::METHOD))
    }
}
