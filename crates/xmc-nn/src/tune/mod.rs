//! How does a decoder learn to continue texts as others would? Its weights stay frozen in few bits; an adapter of low rank
//! beside them learns, from the tokens behind each prompt alone:
//!
//!   loss = - sum over counted tokens t of ln softmax(W x_(t-1))[t],   x the hidden states, W the output matrix
//!
//! [`Tuned`] is the decoder with its adapter. Sequences are packed side by side without padding; logits exist for some rows
//! at a time (`loss`), so memory beside the pass does not grow with the vocabulary. [`Tuned::export`] adds the adapter to
//! the weights and writes a decoder like any other.
//!
//! ```
//! use std::sync::Arc;
//! use xmc_nn::decoder::{Config, Decoder, LoraConfig, Quantization};
//! use xmc_nn::tune::Tuned;
//! use xmc_nn::{Batch, Precision};
//! let config = Config::llama(100, 32, 2, [4, 2], 64);
//! let decoder = Arc::new(Decoder::random(config, 7, Quantization::Q8_0, Precision::F32)?);
//! let tuned = Tuned::new(decoder, LoraConfig { rank: 4, alpha: 8.0, dropout: 0.0 }, 1)?;
//! let batch = Batch::new([vec![1, 5, 9, 2], vec![1, 7, 2]]);
//! let mut grads = vec![0.0; tuned.layout().len()];
//! // The prompts are [1, 5] and [1]; what counts is 9, 2 and 7, 2.
//! let loss = tuned.learn(&batch, &[2, 1], None, 0.25, &mut grads)?;
//! assert_eq!(loss.tokens, 4);
//! assert_eq!(loss, tuned.loss(&batch, &[2, 1])?);
//! # Ok::<(), xmc_nn::Error>(())
//! ```

mod export;
mod loss;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use export::Export;

use crate::batch::Batch;
use crate::decoder::lora::{Adapter, Lora};
use crate::decoder::packed::Packed;
use crate::decoder::{Decoder, LoraConfig};
use crate::dropout::DropoutKey;
use crate::error::Result;
use crate::generate::followers;
use crate::params::Layout;

/// A frozen decoder with an adapter that learns to continue texts.
#[derive(Debug)]
pub struct Tuned {
    decoder: Arc<Decoder>,
    lora: Lora,
    layout: Layout,
    params: Vec<f32>,
}

/// How surprised a decoder is by texts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Loss {
    /// Sum over counted tokens of -ln p.
    pub sum: f64,
    /// Counted tokens.
    pub tokens: usize,
}

impl Loss {
    /// Loss of a token; 0 if none counts.
    pub fn mean(self) -> f64 {
        if self.tokens == 0 { 0.0 } else { self.sum / self.tokens as f64 }
    }

    /// Of both together.
    pub fn and(self, other: Loss) -> Loss {
        Loss { sum: self.sum + other.sum, tokens: self.tokens + other.tokens }
    }
}

impl Tuned {
    /// Puts a fresh adapter beside `decoder`, a function of `seed`, that changes nothing yet.
    ///
    /// # Errors
    /// If the adapter has no size.
    pub fn new(decoder: Arc<Decoder>, config: LoraConfig, seed: u64) -> Result<Self> {
        config.check()?;
        let mut layout = Layout::default();
        let mut lora = Lora::new(decoder.config(), config, &mut layout, decoder.precision());
        let mut params = vec![0.0; layout.len()];
        lora.draw(seed, &mut params);
        lora.refresh(&params);
        Ok(Tuned { decoder, lora, layout, params })
    }

    /// What is frozen.
    pub fn decoder(&self) -> &Arc<Decoder> {
        &self.decoder
    }

    /// Names and places of the adapter's parameters.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The adapter's parameters.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// The adapter's parameters, to be changed; call [`Tuned::refresh`] afterwards.
    pub fn params_mut(&mut self) -> &mut [f32] {
        &mut self.params
    }

    /// Takes other parameters, in the order of the layout.
    ///
    /// # Errors
    /// If their number is another.
    pub fn set_params(&mut self, params: &[f32]) -> Result<()> {
        self.layout.check(params)?;
        self.params.copy_from_slice(params);
        self.refresh();
        Ok(())
    }

    /// Makes what follows from the parameters again, after they have changed.
    pub fn refresh(&mut self) {
        self.lora.refresh(&self.params);
    }

    /// The loss over the tokens of every sequence from number `from` on, without dropout. A first token never counts.
    ///
    /// # Errors
    /// If the batch cannot be computed or `from` has another length.
    pub fn loss(&self, batch: &Batch, from: &[usize]) -> Result<Loss> {
        let places = followers(batch, from)?;
        self.decoder.check(batch, 0)?;
        let packed = Packed::new(batch, 0, 0);
        let hidden = self.decoder.run(&packed, None, Some(self.adapter(None)), &mut |_, _, _| ());
        Ok(loss::cross_entropy(&self.decoder, &hidden, &places, None))
    }

    /// The same, and `scale` times the gradient of its sum is added to `grads`. With a key, training's dropout: the same
    /// key drops the same.
    ///
    /// # Errors
    /// As [`Tuned::loss`], or if `grads` has another length.
    pub fn learn(
        &self,
        batch: &Batch,
        from: &[usize],
        dropout: Option<DropoutKey>,
        scale: f32,
        grads: &mut [f32],
    ) -> Result<Loss> {
        self.layout.check(grads)?;
        let places = followers(batch, from)?;
        self.decoder.check(batch, 0)?;
        let adapter = Some(self.adapter(dropout));
        let (hidden, tape) = self.decoder.forward(Packed::new(batch, 0, 0), &[], adapter);
        let mut dhidden = vec![0.0; hidden.len()];
        let gradient = loss::Gradient { scale, dhidden: &mut dhidden };
        let loss = loss::cross_entropy(&self.decoder, &hidden, &places, Some(gradient));
        self.decoder.backward(tape, &dhidden, adapter, &mut [], Some(grads));
        Ok(loss)
    }

    fn adapter(&self, dropout: Option<DropoutKey>) -> Adapter<'_> {
        Adapter { lora: &self.lora, dropout }
    }
}
