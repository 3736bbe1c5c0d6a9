//! How does a step learn from more texts than fit through the encoder at once?
//!
//! The loss needs the embeddings of all texts and labels of a step, but not what the encoder remembers of each.
//! Gradient caching (Gao, Zhang, Han, Callan: "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup",
//! 2021) makes them in micro-batches and forgets the rest; once the loss has said how it changes with every embedding,
//! each micro-batch passes again, now remembered, and its parameter gradients are added up. Dropout is a function of
//! (seed, step, micro-batch), so the second pass drops what the first dropped: the gradient is exact.
//!
//! Remembering is cheap as long as a step is small, so micro-batches keep their tape until a budget is spent, and only
//! those beyond it pass twice.

use xmc_nn::decoder::{Prompted, PromptedTape};
use xmc_nn::dropout::DropoutKey;
use xmc_nn::tokens::{self, Tokens};
use xmc_nn::tower::{self, Tower};
use xmc_nn::{Batch, Device, Tensor};

use crate::error::Result;

/// What embeds texts and can go back.
pub(super) trait Learning {
    /// What going back needs of a forward pass.
    type Tape;
    /// Size d of an embedding.
    fn dim(&self) -> usize;
    /// Where it computes.
    fn device(&self) -> Device;
    /// Embeddings `[b, d]`, and what going back needs. The same key drops the same.
    fn embed_train(&self, batch: &Batch, dropout: Option<DropoutKey>) -> Result<(Tensor, Self::Tape)>;
    /// Adds to `grads` what `de [b, d]`, the gradient of the embeddings, makes of the parameters.
    fn backward(&self, batch: &Batch, tape: Self::Tape, de: &Tensor, grads: &mut [f32]) -> Result<()>;
}

impl Learning for &Tower {
    type Tape = tower::Tape;

    fn dim(&self) -> usize {
        Tower::dim(self)
    }

    fn device(&self) -> Device {
        Tower::device(self)
    }

    fn embed_train(&self, batch: &Batch, dropout: Option<DropoutKey>) -> Result<(Tensor, Self::Tape)> {
        Ok(Tower::embed_train(self, batch, dropout)?)
    }

    fn backward(&self, batch: &Batch, tape: Self::Tape, de: &Tensor, grads: &mut [f32]) -> Result<()> {
        Ok(Tower::backward(self, batch, tape, de, grads)?)
    }
}

impl Learning for &Prompted {
    type Tape = PromptedTape;

    fn dim(&self) -> usize {
        Prompted::dim(self)
    }

    fn device(&self) -> Device {
        Prompted::device(self)
    }

    fn embed_train(&self, batch: &Batch, dropout: Option<DropoutKey>) -> Result<(Tensor, Self::Tape)> {
        Ok(Prompted::embed_train(self, batch, dropout)?)
    }

    fn backward(&self, batch: &Batch, tape: Self::Tape, de: &Tensor, grads: &mut [f32]) -> Result<()> {
        Ok(Prompted::backward(self, batch, tape, de, grads)?)
    }
}

/// Texts that pass through the encoder together.
struct MicroBatch<T> {
    batch: Batch,
    /// Their places among the rows of the embeddings.
    places: Vec<usize>,
    key: Option<DropoutKey>,
    /// What the encoder remembers, unless it is to pass again.
    tape: Option<T>,
}

/// Embeddings of a step, and what is needed to go back through the encoder.
pub(super) struct Cached<T> {
    /// `[b, d]`
    pub(super) values: Tensor,
    parts: Vec<MicroBatch<T>>,
}

/// Passes texts of one step through the encoder.
pub(super) struct GradientCache<E> {
    encoder: E,
    /// Tokens of a micro-batch.
    budget: usize,
    /// Tokens that may still be remembered.
    tape_tokens: usize,
    /// None while nothing drops; the part counts micro-batches.
    dropout: Option<DropoutKey>,
}

impl<E: Learning> GradientCache<E> {
    /// For one step. `dropout` is the key of its first micro-batch.
    pub(super) fn new(encoder: E, budget: usize, tape_tokens: usize, dropout: Option<DropoutKey>) -> Self {
        GradientCache { encoder, budget, tape_tokens, dropout }
    }

    /// Embeds the texts `ids` (rising) of `texts`.
    pub(super) fn forward(&mut self, texts: &Tokens, ids: &[u32]) -> Result<Cached<E::Tape>> {
        let mut values = Tensor::zeros(ids.len(), self.encoder.dim(), self.encoder.device());
        let mut parts = Vec::new();
        for group in tokens::by_budget(texts, ids, self.budget) {
            let batch = texts.batch(&group);
            let places: Vec<usize> = group.iter().filter_map(|id| ids.binary_search(id).ok()).collect();
            let key = self.dropout;
            self.dropout = key.map(|key| DropoutKey { part: key.part + 1, ..key });
            let (embedded, tape) = self.encoder.embed_train(&batch, key)?;
            // What does not fit is forgotten here.
            let tape = (batch.tokens() <= self.tape_tokens).then_some(tape);
            self.tape_tokens -= if tape.is_some() { batch.tokens() } else { 0 };
            scatter(&embedded, &places, &mut values);
            parts.push(MicroBatch { batch, places, key, tape });
        }
        Ok(Cached { values, parts })
    }

    /// Adds to `grads` what d loss / d embeddings `[b, d]` makes of the parameters.
    pub(super) fn backward(
        &self,
        cached: Cached<E::Tape>,
        d_values: &Tensor,
        grads: &mut [f32],
    ) -> Result<()> {
        for MicroBatch { batch, places, key, tape } in cached.parts {
            let tape = match tape {
                Some(tape) => tape,
                None => self.encoder.embed_train(&batch, key)?.1,
            };
            self.encoder.backward(&batch, tape, &gather(d_values, &places), grads)?;
        }
        Ok(())
    }
}

/// Row i of `from` to row `places[i]` of `to`.
fn scatter(from: &Tensor, places: &[usize], to: &mut Tensor) {
    let d = from.cols();
    let to = to.host_mut();
    for (row, &place) in from.host().chunks_exact(d).zip(places) {
        to[place * d..(place + 1) * d].copy_from_slice(row);
    }
}

fn gather(from: &Tensor, places: &[usize]) -> Tensor {
    let d = from.cols();
    let mut to = Tensor::zeros(places.len(), d, from.device());
    for (row, &place) in to.host_mut().chunks_exact_mut(d).zip(places) {
        row.copy_from_slice(&from.host()[place * d..(place + 1) * d]);
    }
    to
}

#[cfg(test)]
mod tests {
    use xmc_nn::loss::{Criterion, LossOptions, Targets, loss};
    use xmc_nn::transformer::Config;
    use xmc_nn::{Device, Pooling, Precision, TowerConfig};

    use super::*;

    fn tower() -> Tower {
        let shape = TowerConfig { pooling: Pooling::Mean, projection: Some(6), normalize: true };
        let transformer = Config::bert(40, 16, 2, 2, 32);
        Tower::random(transformer, shape, 3, Device::Cpu, Precision::F32).unwrap()
    }

    /// Texts of 3 to 7 tokens.
    fn texts(n: u32, first: u32) -> Tokens {
        Tokens::new(
            (0..n).map(|i| (0..3 + i % 5).map(|t| (first + i * 7 + t * 3) % 40).collect::<Vec<u32>>()),
        )
    }

    /// Gradients of a step with 6 texts and 9 labels.
    fn gradients(budget: usize, tape_tokens: usize, dropout: Option<DropoutKey>) -> (f64, Vec<f32>) {
        let (tower, texts, labels) = (tower(), texts(6, 0), texts(9, 11));
        let targets = Targets::from_rows((0..6).map(|i| [(i, 1.0), ((i + 4) % 9, 1.0)]), false);
        let ids = |n: u32| (0..n).collect::<Vec<_>>();
        let mut cache = GradientCache::new(&tower, budget, tape_tokens, dropout);
        let x = cache.forward(&texts, &ids(6)).unwrap();
        let y = cache.forward(&labels, &ids(9)).unwrap();
        let options = LossOptions::new(Criterion::DecoupledSoftmax, 1.0);
        let result = loss(&x.values, &y.values, None, &targets, &options).unwrap();
        let mut grads = vec![0.0; tower.layout().len()];
        cache.backward(x, &result.dx, &mut grads).unwrap();
        cache.backward(y, &result.dy, &mut grads).unwrap();
        (result.loss, grads)
    }

    #[test]
    fn the_gradient_does_not_depend_on_the_size_of_micro_batches() {
        let (loss, whole) = gradients(1000, 1000, None);
        assert!(whole.iter().any(|&g| g.abs() > 0.01));
        for (budget, tape_tokens) in [(1, 0), (1, 1000), (15, 0), (15, 40), (1000, 0)] {
            let (other, parts) = gradients(budget, tape_tokens, None);
            assert!((loss - other).abs() < 1e-6);
            for (a, b) in whole.iter().zip(&parts) {
                assert!((a - b).abs() < 1e-6, "budget {budget}: {a} {b}");
            }
        }
    }

    #[test]
    fn a_second_pass_drops_what_the_first_dropped() {
        let key = |seed| Some(DropoutKey { seed, step: 4, part: 0 });
        for budget in [1, 15, 1000] {
            let remembered = gradients(budget, 1000, key(1));
            assert_eq!(remembered, gradients(budget, 0, key(1)));
            assert_eq!(remembered, gradients(budget, 30, key(1)));
            assert_ne!(remembered, gradients(budget, 0, key(2)));
            assert_ne!(remembered, gradients(budget, 0, None));
        }
    }
}
