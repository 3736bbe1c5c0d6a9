//! How does a decoder compute? LLaMA and Qwen2 with frozen weights in few bits, forward, and backward to what stands in
//! front of the texts.
//!
//! | module | answers |
//! |---|---|
//! | [`config`] | which decoder is it? |
//! | `source` | where do its weights come from? |
//! | `weights` | what does it hold? |
//! | `packed` | which token stands where and sees what? |
//! | `layer`, `attention`, `rope` | the formulas, forward and backward, for all rows of a pass |
//! | `prefix` | how is a prompt computed once for all texts? |
//! | `tape` | how do gradients come back to the prompt? |
//! | `lora` | how can a frozen decoder change a little? |
//! | `prompted` | texts to embeddings with a learned prompt |
//!
//! A pass goes through the decoder layer by layer with all of its rows, so that a weight is unpacked once per pass. Every
//! row's sums have one order: what comes out for a text does not depend on the texts beside it, nor on threads.
//!
//! ```
//! use xmc_nn::decoder::{Config, Decoder, Quantization, RopeLayout};
//! use xmc_nn::{Batch, Precision};
//! let config = Config::llama(100, 32, 2, [4, 2], 64);
//! let decoder = Decoder::random(config, 7, Quantization::Q8_0, Precision::F32)?;
//! let hidden = decoder.hidden(&Batch::new([vec![1, 5, 9], vec![1, 7]]), None)?; // [5, 32]
//! let logits = decoder.logits(&hidden[2 * 32..3 * 32])?; // what comes behind 1, 5, 9?
//! assert_eq!((hidden.len(), logits.len()), (5 * 32, 100));
//! # Ok::<(), xmc_nn::Error>(())
//! ```

pub(crate) mod attention;
pub mod config;
pub(crate) mod layer;
pub(crate) mod lora;
pub(crate) mod packed;
mod prefix;
mod prompted;
pub(crate) mod rope;
mod source;
mod tape;
#[cfg(test)]
mod tests;
pub(crate) mod weights;

use std::sync::Arc;

use rayon::prelude::*;

pub use config::{Config, RopeLayout, RopeScaling};
pub use lora::LoraConfig;
pub use prefix::Prefix;
pub use prompted::{Pooling, Prompted, PromptedConfig, PromptedTape};
pub use source::Source;
pub use weights::Quantization;

use crate::batch::Batch;
use crate::buffers::Pool;
use crate::error::{Error, Result};
use crate::ops::matmul::Precision;
use crate::quant::{Input, QuantMatrix};
use attention::{Attention, Front};
use layer::{Layer, Pass, Work, norm_rows};
use lora::Adapter;
use packed::Packed;
use rope::{Rope, Turns};
use weights::Weights;

/// Hears the number of a layer and its turned keys and values `[t, kv_heads width]`.
pub(crate) type KeepKeys<'a> = dyn FnMut(usize, &[f32], &[f32]) + Send + 'a;

/// Hears the number of a layer and what goes into it `[t, h]`.
pub(crate) type KeepInput<'a> = dyn FnMut(usize, &[f32]) + Send + 'a;

/// A frozen decoder.
#[derive(Debug)]
pub struct Decoder {
    config: Config,
    precision: Precision,
    weights: Weights,
    rope: Rope,
    attention: Pool<Attention>,
    work: Pool<Work>,
    tapes: Pool<Vec<Vec<f32>>>,
}

impl Decoder {
    /// Reads all weights of a source, or maps them; matrices of layers are held as `quantization` says.
    ///
    /// # Errors
    /// If a weight is missing, damaged, of another shape, or cannot be held so.
    pub fn open(source: &Source, quantization: Quantization, precision: Precision) -> Result<Self> {
        let matrix = |name: &str, [rows, cols]: [usize; 2]| source.matrix(name, rows, cols);
        let vector = |name: &str, len: usize| {
            source.vector(name, len)?.ok_or_else(|| {
                Error::file(source.path(), format!("has no tensor `{name}`; the file is incomplete"))
            })
        };
        let weights = Weights::collect(source.config(), quantization, &matrix, &vector)?;
        Ok(Self::with(source.config().clone(), weights, precision))
    }

    /// A decoder with random weights, a function of `seed`, scaled so that signals neither vanish nor explode.
    ///
    /// # Errors
    /// If the sizes make no decoder, or matrices cannot be held so.
    pub fn random(
        config: Config,
        seed: u64,
        quantization: Quantization,
        precision: Precision,
    ) -> Result<Self> {
        config.check().map_err(Error::Shape)?;
        let weights = Weights::random(&config, seed, quantization)?;
        Ok(Self::with(config, weights, precision))
    }

    pub(crate) fn with(config: Config, weights: Weights, precision: Precision) -> Self {
        Decoder {
            rope: Rope::new(&config),
            config,
            precision,
            weights,
            attention: Pool::new(),
            work: Pool::new(),
            tapes: Pool::new(),
        }
    }

    /// Sizes and choices.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How products are computed.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Bytes of all weights, in memory or mapped.
    pub fn bytes(&self) -> usize {
        self.weights.bytes()
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The output matrix `[vocab, h]`.
    pub(crate) fn head(&self) -> &QuantMatrix {
        self.weights.head.as_ref().unwrap_or(&self.weights.embeddings)
    }

    /// Input vectors of tokens, `out [tokens, h]`.
    ///
    /// # Panics
    /// If an id is not in the vocabulary or `out` has another length.
    pub fn embed(&self, ids: &[u32], out: &mut [f32]) {
        let h = self.config.hidden;
        assert_eq!(out.len(), ids.len() * h);
        out.par_chunks_mut(h)
            .zip(ids)
            .with_min_len(64)
            .for_each(|(row, &id)| self.weights.embeddings.row(id as usize, row));
    }

    /// Hidden states `[t, h]` of all tokens, behind the last norm. Texts stand behind `prefix`.
    ///
    /// # Errors
    /// If the batch cannot be computed: a text without tokens, too long, or with ids that are not in the vocabulary.
    pub fn hidden(&self, batch: &Batch, prefix: Option<&Prefix>) -> Result<Vec<f32>> {
        let before = prefix.map_or(0, Prefix::len);
        self.check(batch, before)?;
        Ok(self.run(&Packed::new(batch, 0, before), prefix, None, &mut |_, _, _| ()))
    }

    /// Logits `[t, vocab]` of what follows hidden states `[t, h]`.
    ///
    /// # Errors
    /// If they are not whole rows.
    pub fn logits(&self, hidden: &[f32]) -> Result<Vec<f32>> {
        let (h, vocab) = (self.config.hidden, self.config.vocab);
        if !hidden.len().is_multiple_of(h) {
            let found = hidden.len();
            return Err(Error::Shape(format!("{found} values of hidden states; expected a multiple of {h}")));
        }
        let t = hidden.len() / h;
        let mut input = Input::new();
        input.dense(hidden, t, h, self.precision);
        let mut logits = vec![0.0; t * vocab];
        self.head().multiply(&input, &mut logits, false);
        Ok(logits)
    }

    /// Refuses batches that cannot be computed behind `before` positions.
    pub(crate) fn check(&self, batch: &Batch, before: usize) -> Result<()> {
        let Config { positions, vocab, .. } = self.config;
        for (i, ends) in batch.cu_seqlens().windows(2).enumerate() {
            let ids = &batch.ids()[ends[0]..ends[1]];
            if ids.is_empty() {
                return Err(Error::Shape(format!("sequence {i} of the batch has no tokens")));
            }
            if before + ids.len() > positions {
                let found = ids.len();
                return Err(Error::Shape(format!(
                    "sequence {i} of the batch has {found} tokens behind {before} positions; \
                     the decoder takes up to {positions} in all, truncate to that"
                )));
            }
            if let Some(id) = ids.iter().find(|&&id| id as usize >= vocab) {
                return Err(Error::Shape(format!(
                    "sequence {i} of the batch has token id {id}; the decoder's vocabulary has {vocab}: \
                     is this its tokenizer?"
                )));
            }
        }
        Ok(())
    }

    /// Number of rows of a prompt `[n, h]`.
    pub(crate) fn prompt_len(&self, rows: &[f32]) -> Result<usize> {
        let Config { hidden: h, positions, .. } = self.config;
        let n = rows.len() / h;
        if !rows.len().is_multiple_of(h) || n > positions {
            return Err(Error::Shape(format!(
                "a prompt of {} values; expected a multiple of {h}, up to {positions} positions",
                rows.len()
            )));
        }
        Ok(n)
    }

    /// Hidden states of all text rows `[t, h]`.
    pub(crate) fn run(
        &self,
        packed: &Packed,
        prefix: Option<&Prefix>,
        adapter: Option<Adapter<'_>>,
        keep: &mut KeepKeys<'_>,
    ) -> Vec<f32> {
        let mut x = vec![0.0; packed.rows() * self.config.hidden];
        self.embed(packed.text_ids(), &mut x);
        self.layers(packed, &mut x, prefix, adapter, &mut |_, _| (), keep);
        self.finish(&x)
    }

    /// All layers: `x [rows, h]` becomes the stream behind the last one.
    pub(crate) fn layers(
        &self,
        packed: &Packed,
        x: &mut [f32],
        prefix: Option<&Prefix>,
        adapter: Option<Adapter<'_>>,
        before: &mut KeepInput<'_>,
        keep: &mut KeepKeys<'_>,
    ) {
        let positions = packed.positions();
        let turns = self.turns(&positions);
        let pass = self.pass(packed, &positions, &turns, adapter);
        // As one task: hundreds of parallel regions that begin outside the pool would each wake a thread and wait for it.
        rayon::scope(|_| {
            let mut work = self.take_work();
            let len = packed.rows() * self.config.kv_heads * self.config.head_dim;
            for (index, weights) in self.weights.layers.iter().enumerate() {
                before(index, x);
                let layer = Layer { pass, index, weights };
                layer.forward(front(prefix, index), x, &mut work);
                let (keys, values) = work.keys_values(len);
                keep(index, keys, values);
            }
            self.give_work(work);
        });
    }

    /// hidden = norm(x)
    pub(crate) fn finish(&self, x: &[f32]) -> Vec<f32> {
        let mut hidden = vec![0.0; x.len()];
        norm_rows(x, &self.weights.norm, self.config.norm_eps, &mut hidden);
        hidden
    }

    pub(crate) fn pass<'a>(
        &'a self,
        packed: &'a Packed,
        positions: &'a [usize],
        turns: &'a Turns,
        adapter: Option<Adapter<'a>>,
    ) -> Pass<'a> {
        let Decoder { config, precision, attention, .. } = self;
        Pass { config, precision: *precision, packed, positions, turns, adapter, attention }
    }

    /// Turns of all these positions.
    pub(crate) fn turns(&self, positions: &[usize]) -> Arc<Turns> {
        self.rope.turns(positions.iter().max().map_or(0, |last| last + 1))
    }

    pub(crate) fn take_work(&self) -> Work {
        self.work.take(Work::new)
    }

    pub(crate) fn give_work(&self, work: Work) {
        self.work.give(work);
    }
}

/// What a prefix puts in front of a layer.
fn front(prefix: Option<&Prefix>, layer: usize) -> Front<'_> {
    prefix.map_or_else(Front::default, |prefix| Front { k: prefix.keys(layer), v: prefix.values(layer) })
}
