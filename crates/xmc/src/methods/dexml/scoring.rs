//! What are the embeddings of rows and labels now? For validation, mining and the finished model: nothing is dropped
//! and nothing remembered.

use xmc_nn::Tensor;
use xmc_nn::tokens::Tokens;
use xmc_nn::tower::Tower;

use super::inputs::TokenSets;
use crate::error::Result;
use crate::index::{Dtype, LabelEmbeddings};
use crate::methods::classifier::{Classifier, with_one};

/// Embeds with parameters as they are.
pub(super) struct Scorer<'a> {
    /// The encoder.
    pub(super) tower: &'a Tower,
    /// Texts and label names.
    pub(super) tokens: &'a TokenSets,
    /// The one-vs-all head, if labels have weights of their own.
    pub(super) classifier: Option<&'a Classifier>,
    /// Tokens that pass through the encoder at a time.
    pub(super) budget: usize,
}

impl Scorer<'_> {
    /// Embeddings of the training rows `ids` (rising); with a one-vs-all head a 1 stands behind each, for the bias.
    pub(super) fn rows(&self, ids: &[u32]) -> Result<Tensor> {
        let x = self.tower.embed_rows(&self.tokens.rows, ids, self.budget, &|_, _| ())?;
        Ok(if self.classifier.is_some() { with_one(&x)? } else { x })
    }

    /// Embeddings `[L, d]` of all labels.
    pub(super) fn labels(&self) -> Result<Tensor> {
        match self.classifier {
            Some(classifier) => classifier.to_tensor(self.tower.device()),
            None => embed_all(self.tower, &self.tokens.labels, self.budget),
        }
    }

    /// The same, ready to be searched.
    pub(super) fn label_embeddings(&self) -> Result<LabelEmbeddings> {
        let labels = self.labels()?;
        LabelEmbeddings::from_values(labels.cols(), labels.host(), Dtype::F32)
    }
}

/// Embeddings of all of `texts`.
pub(super) fn embed_all(tower: &Tower, texts: &Tokens, budget: usize) -> Result<Tensor> {
    let ids: Vec<u32> = (0..texts.len() as u32).collect();
    Ok(tower.embed_rows(texts, &ids, budget, &|_, _| ())?)
}
