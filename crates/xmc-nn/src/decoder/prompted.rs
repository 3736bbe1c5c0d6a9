//! How does a frozen decoder make embeddings of texts, and how does it learn from their gradients? What stands in front of
//! every text is learned ("soft prompt", Lester et al., 2021), and an adapter if asked for; nothing else.
//!
//!   sequence = prompt [n, h], text        e = hidden states, pooled, divided by their length
//!
//! ```
//! use std::sync::Arc;
//! use xmc_nn::decoder::{Config, Decoder, Prompted, PromptedConfig, Quantization};
//! use xmc_nn::{Batch, Precision};
//! let config = Config::llama(100, 32, 2, [4, 2], 64);
//! let decoder = Arc::new(Decoder::random(config, 7, Quantization::Q8_0, Precision::F32)?);
//! let mut prompt = vec![0.0; 3 * 32];
//! decoder.embed(&[1, 2, 3], &mut prompt);
//! let prompted = Prompted::new(decoder, PromptedConfig::default(), &prompt, 0)?;
//! let batch = Batch::new([vec![5, 9], vec![7]]);
//! let (e, tape) = prompted.embed_train(&batch, None)?; // [2, 32]
//! let mut grads = vec![0.0; prompted.layout().len()]; // 96
//! prompted.backward(&batch, tape, &e, &mut grads)?; // of the loss |e|^2 / 2, which is constant
//! assert!(grads.iter().all(|g| g.abs() < 1e-4));
//! # Ok::<(), xmc_nn::Error>(())
//! ```

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::lora::{Adapter, Lora};
use super::packed::Packed;
use super::tape::Tape;
use super::{Decoder, LoraConfig, Prefix};
use crate::batch::Batch;
use crate::device::Device;
use crate::dropout::DropoutKey;
use crate::error::{Error, Result};
use crate::params::Layout;
use crate::pool::{self, normalize, normalize_backward};
use crate::tensor::Tensor;
use crate::tokens::Tokens;
use crate::tower::rows::embed_rows;

/// Which hidden states of a text count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The last token.
    #[default]
    Last,
    /// A token that ends texts, put behind each.
    Eos,
    /// The mean of all tokens, without the prompt.
    Mean,
    /// The last position of a batch padded to one length, as QUEST's program has it: a text shorter than the longest
    /// of its batch is read at a padding token there, which sees the text and not itself. Embeddings then depend on
    /// the texts beside them; for comparisons alone.
    PadLast,
}

/// What is around the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptedConfig {
    /// Which hidden states count.
    pub pooling: Pooling,
    /// Whether embeddings have length 1.
    pub normalize: bool,
    /// A low-rank adapter that learns with the prompt.
    pub lora: Option<LoraConfig>,
}

impl Default for PromptedConfig {
    fn default() -> Self {
        PromptedConfig { pooling: Pooling::Last, normalize: true, lora: None }
    }
}

/// A frozen decoder behind a prompt that learns: an encoder of texts.
#[derive(Debug)]
pub struct Prompted {
    decoder: Arc<Decoder>,
    config: PromptedConfig,
    layout: Layout,
    params: Vec<f32>,
    /// Place of the prompt `[n, h]`.
    prompt: Range<usize>,
    lora: Option<Lora>,
    /// The prompt's keys and values; computed when first needed.
    prefix: OnceLock<Prefix>,
}

/// What [`Prompted::backward`] needs of a forward pass.
#[derive(Debug)]
pub struct PromptedTape {
    tape: Tape,
    /// `[b, h]`
    embeddings: Vec<f32>,
    /// What each was divided by.
    lengths: Vec<f32>,
    dropout: Option<DropoutKey>,
}

impl Prompted {
    /// Tokens that should pass at a time: enough that weights are seldom unpacked, few enough that what lies between two
    /// products stays in the second cache. Embeddings of SmolLM2-135M, tokens per CPU second: 256 tokens 2,510, 512 and
    /// 1,024 about 2,650, 2,048 2,040, 4,096 1,680.
    pub const PASS: usize = 1024;

    /// Puts `prompt [n, h]` in front of a decoder; n may be 0. A fresh adapter is a function of `seed`.
    ///
    /// # Errors
    /// If the prompt is not whole rows, the decoder has no token that ends texts and pooling needs one, or the adapter
    /// has no size.
    pub fn new(decoder: Arc<Decoder>, config: PromptedConfig, prompt: &[f32], seed: u64) -> Result<Self> {
        let n = decoder.prompt_len(prompt)?;
        if config.pooling == Pooling::Eos && decoder.config().eos.is_empty() {
            return Err(Error::Shape(
                "pooling `eos`: the decoder names no token that ends texts; choose `last` or `mean`"
                    .to_owned(),
            ));
        }
        if let Some(lora) = config.lora {
            lora.check()?;
        }
        let mut layout = Layout::default();
        let place = layout.push("prompt", &[n, decoder.config().hidden]);
        let lora =
            config.lora.map(|lora| Lora::new(decoder.config(), lora, &mut layout, decoder.precision()));
        let mut params = vec![0.0; layout.len()];
        params[place.clone()].copy_from_slice(prompt);
        if let Some(lora) = &lora {
            lora.draw(seed, &mut params);
        }
        let mut prompted =
            Prompted { decoder, config, layout, params, prompt: place, lora, prefix: OnceLock::new() };
        prompted.refresh();
        Ok(prompted)
    }

    /// What it stands in front of.
    pub fn decoder(&self) -> &Arc<Decoder> {
        &self.decoder
    }

    /// What is around the decoder.
    pub fn config(&self) -> PromptedConfig {
        self.config
    }

    /// Number of rows n of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt.len() / self.dim()
    }

    /// Width of an embedding.
    pub fn dim(&self) -> usize {
        self.decoder.config().hidden
    }

    /// Most tokens of a text.
    pub fn max_positions(&self) -> usize {
        let own = self.prompt_tokens() + usize::from(self.config.pooling == Pooling::Eos);
        self.decoder.config().positions.saturating_sub(own)
    }

    /// Where it computes.
    pub fn device(&self) -> Device {
        Device::Cpu
    }

    /// Names and places of all parameters: `prompt`, then those of the adapter.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// All parameters.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// All parameters, to be changed; call [`Prompted::refresh`] afterwards.
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
        self.prefix = OnceLock::new();
        if let Some(lora) = &mut self.lora {
            lora.refresh(&self.params);
        }
    }

    /// Embeddings `[b, h]`, without dropout.
    ///
    /// # Errors
    /// If a text has no tokens, too many, or ids that are not in the vocabulary.
    pub fn embed(&self, batch: &Batch) -> Result<Tensor> {
        let batch = &*self.ended(batch);
        let prefix = self.prefix()?;
        self.decoder.check(batch, prefix.len())?;
        let packed = self.packed(batch, 0, prefix.len());
        let hidden = self.decoder.run(&packed, Some(prefix), self.adapter(None), &mut |_, _, _| ());
        let (embeddings, _) = self.pool(&packed, &hidden);
        Tensor::from_host(batch.len(), self.dim(), embeddings, self.device())
    }

    /// Embeddings `[b, h]` and what backward needs. With a key, training's dropout: the same key drops the same.
    ///
    /// # Errors
    /// As [`Prompted::embed`].
    pub fn embed_train(&self, batch: &Batch, dropout: Option<DropoutKey>) -> Result<(Tensor, PromptedTape)> {
        let batch = &*self.ended(batch);
        let n = self.prompt_tokens();
        self.decoder.check(batch, n)?;
        let packed = self.packed(batch, n, 0);
        let prompt = &self.params[self.prompt.clone()];
        let (hidden, tape) = self.decoder.forward(packed, prompt, self.adapter(dropout));
        let (embeddings, lengths) = self.pool(&tape.packed, &hidden);
        let found = Tensor::from_host(batch.len(), self.dim(), embeddings.clone(), self.device())?;
        Ok((found, PromptedTape { tape, embeddings, lengths, dropout }))
    }

    /// Adds the gradients of all parameters to `grads`, given `de [b, h]`, the gradient of the embeddings.
    ///
    /// Parameters must be those of the forward pass.
    ///
    /// # Errors
    /// If shapes do not fit.
    pub fn backward(&self, batch: &Batch, tape: PromptedTape, de: &Tensor, grads: &mut [f32]) -> Result<()> {
        self.layout.check(grads)?;
        let (b, h) = (batch.len(), self.dim());
        if (de.rows(), de.cols()) != (b, h) || tape.embeddings.len() != b * h {
            return Err(Error::Shape(format!(
                "gradients [{}, {}] for {} embeddings of a batch of {b} texts, each [{h}]",
                de.rows(),
                de.cols(),
                tape.embeddings.len() / h,
            )));
        }
        let PromptedTape { tape, embeddings, lengths, dropout } = tape;
        let mut dhidden = vec![0.0; tape.packed.text_ids().len() * h];
        let texts = tape.packed.texts().zip(de.host().chunks_exact(h));
        for ((rows, de), (e, &length)) in texts.zip(embeddings.chunks_exact(h).zip(&lengths)) {
            let mut dh = de.to_vec();
            if self.config.normalize {
                normalize_backward(e, length, &mut dh);
            }
            let dx = &mut dhidden[rows.start * h..rows.end * h];
            match self.config.pooling {
                Pooling::Mean => pool::Pooling::Mean.backward(&dh, dx),
                _ => dx[(rows.len() - 1) * h..].copy_from_slice(&dh),
            }
        }
        let adapter = self.adapter(dropout);
        let mut dprompt = vec![0.0; self.prompt.len()];
        let adapter_grads = adapter.is_some().then_some(&mut *grads);
        self.decoder.backward(tape, &dhidden, adapter, &mut dprompt, adapter_grads);
        for (sum, d) in grads[self.prompt.clone()].iter_mut().zip(&dprompt) {
            *sum += d;
        }
        Ok(())
    }

    /// Embeddings `[rows, h]` of the texts `rows` (rising) of `tokens`, without dropout; at most `budget` tokens pass
    /// at a time (a longer text alone). `progress` hears how many tokens of how many are done.
    ///
    /// # Errors
    /// If rows do not rise or are not there, and as [`Prompted::embed`].
    pub fn embed_rows(
        &self,
        tokens: &Tokens,
        rows: &[u32],
        budget: usize,
        progress: &dyn Fn(u64, u64),
    ) -> Result<Tensor> {
        embed_rows(tokens, rows, budget, (self.dim(), self.device()), progress, &|batch| self.embed(batch))
    }

    fn prefix(&self) -> Result<&Prefix> {
        if let Some(prefix) = self.prefix.get() {
            return Ok(prefix);
        }
        let prefix = self.decoder.prefix_with(&self.params[self.prompt.clone()], self.adapter(None))?;
        Ok(self.prefix.get_or_init(|| prefix))
    }

    fn adapter(&self, dropout: Option<DropoutKey>) -> Option<Adapter<'_>> {
        self.lora.as_ref().map(|lora| Adapter { lora, dropout })
    }

    /// Texts with the token that ends them, if pooling reads there.
    fn ended<'a>(&self, batch: &'a Batch) -> std::borrow::Cow<'a, Batch> {
        let eos = self.decoder.config().eos.first().filter(|_| self.config.pooling == Pooling::Eos);
        let Some(&eos) = eos else { return std::borrow::Cow::Borrowed(batch) };
        let mut ended = Batch::default();
        for ends in batch.cu_seqlens().windows(2) {
            ended.push_ids(batch.ids()[ends[0]..ends[1]].iter().copied().chain([eos]));
        }
        std::borrow::Cow::Owned(ended)
    }

    fn packed(&self, batch: &Batch, prompt: usize, before: usize) -> Packed {
        match self.config.pooling {
            Pooling::PadLast => {
                Packed::with_readers(batch, prompt, before, self.decoder.config().pad.unwrap_or(0))
            }
            _ => Packed::new(batch, prompt, before),
        }
    }

    /// Embeddings `[b, h]` from hidden states `[t, h]`, and what each was divided by.
    fn pool(&self, packed: &Packed, hidden: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let h = self.dim();
        let (mut embeddings, mut lengths) = (Vec::new(), Vec::new());
        for rows in packed.texts() {
            let start = embeddings.len();
            match self.config.pooling {
                Pooling::Mean => {
                    embeddings.resize(start + h, 0.0);
                    let x = &hidden[rows.start * h..rows.end * h];
                    pool::Pooling::Mean.forward(x, &mut embeddings[start..]);
                }
                _ => embeddings.extend_from_slice(&hidden[(rows.end - 1) * h..rows.end * h]),
            }
            let e = &mut embeddings[start..];
            lengths.push(if self.config.normalize { normalize(e) } else { 1.0 });
        }
        (embeddings, lengths)
    }
}
