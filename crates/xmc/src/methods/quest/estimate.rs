//! What will a training cost? Operations, bytes and hours, from the sizes of the decoder and of the data alone.
//!
//! ```text
//! operations of a token    2 for each weight of the layers (forward); 6 while training: forward, once more inside a
//!                          layer when its turn to go back comes, and the gradient of its input; 8 beyond `tape_tokens`
//! memory                   texts, weights at their bits, embeddings of tokens in 16, inputs of all layers for the tokens
//!                          of a tape, the buffers of one layer, embeddings of all labels
//! hours                    operations at the speed of a product of matrices, measured now: a lower bound
//! ```
//!
//! Attention and everything between the products are left out: a few percent for short texts.

use std::path::Path;
use std::time::Instant;

use serde::Serialize;
use xmc_data::dataset::Dataset;
use xmc_nn::Precision;
use xmc_nn::decoder::{Config, Quantization};
use xmc_nn::quant::{Format, Input, QuantMatrix};

use super::config::{Bits, QuestConfig};
use crate::error::Result;
use crate::methods::dexml::TokenSets;
use crate::methods::xr_linear::estimate::{FEWER_ROWS, Part, TEXTS, compare, texts};
use crate::sampling::{HashFeatures, Sampler};

/// Counts of a training.
#[derive(Clone, Debug, Serialize)]
pub struct Work {
    /// Weights of the layers, without embeddings and head.
    pub weights: f64,
    /// Numbers that learn.
    pub parameters: f64,
    /// Steps of all epochs.
    pub steps: f64,
    /// Tokens of a step, prompt aside.
    pub tokens_of_a_step: f64,
    /// Tokens that are only embedded: labels and validation rows once an epoch, rows to find hard negatives, and labels
    /// at the end.
    pub tokens_embedded: f64,
    /// Operations of a token in training, and in embedding.
    operations_per_token: [f64; 2],
}

/// What a training costs.
#[derive(Clone, Debug, Serialize)]
pub struct Costs {
    /// Its counts.
    pub work: Work,
    /// Operations of all of it.
    pub operations: f64,
    /// Memory by part, in bytes.
    pub memory: Vec<(&'static str, u64)>,
    /// Operations in a second of this machine.
    pub speed: f64,
    /// Hours at that speed.
    pub hours: f64,
    #[serde(skip)]
    parts: Vec<Part>,
}

impl Costs {
    /// Bytes of memory together.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).fold(0, u64::saturating_add)
    }

    /// An error if that is more than allowed; it names the largest part.
    pub fn check(&self, max_memory: Option<u64>) -> Result<()> {
        compare(&self.parts, max_memory)
    }
}

/// Tokens of texts and labels, as they are or as they are guessed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    rows: f64,
    row: f64,
    labels: f64,
    label: f64,
}

/// Bytes of a token of written language, about.
const BYTES_PER_TOKEN: f64 = 4.0;

impl Lengths {
    fn of_tokens(tokens: &TokenSets) -> Self {
        let mean = |t: &xmc_nn::Tokens| t.total() as f64 / t.len().max(1) as f64;
        Lengths {
            rows: tokens.rows.len() as f64,
            row: mean(&tokens.rows),
            labels: tokens.labels.len() as f64,
            label: mean(&tokens.labels),
        }
    }

    /// From the bytes of the texts.
    fn guess(data: &Dataset, config: &QuestConfig) -> Self {
        let mean = |texts: &xmc_data::Strings, frame: &str, most: usize| {
            let tokens = texts
                .iter()
                .map(|text| ((text.len() + frame.len()) as f64 / BYTES_PER_TOKEN).min(most as f64));
            tokens.sum::<f64>() / texts.len().max(1) as f64
        };
        Lengths {
            rows: data.train.rows() as f64,
            row: data
                .train
                .texts
                .as_ref()
                .map_or(0.0, |texts| mean(texts, &config.text_template, config.max_len)),
            labels: data.labels.len() as f64,
            label: mean(data.labels.names(), &config.label_template, config.label_max_len),
        }
    }
}

impl Work {
    /// Of `batches` steps an epoch.
    pub(super) fn of(decoder: &Config, config: &QuestConfig, tokens: &TokenSets, batches: usize) -> Self {
        Self::new(decoder, config, Lengths::of_tokens(tokens), batches as f64)
    }

    /// From the sizes of the data alone.
    fn guess(data: &Dataset, decoder: &Config, config: &QuestConfig) -> Self {
        let ratio = if config.sampling.takes_all_labels() { 1.0 } else { f64::from(config.sampling.ratio) };
        let pairs = data.train.y.nnz() as f64 * ratio * f64::from(1.0 - config.validation);
        let batches = (pairs / config.batch_size as f64).ceil();
        Self::new(decoder, config, Lengths::guess(data, config), batches)
    }

    fn new(decoder: &Config, config: &QuestConfig, lengths: Lengths, batches: f64) -> Self {
        let (h, width) = (decoder.hidden as f64, decoder.head_dim as f64);
        let (q, kv) = (decoder.heads as f64 * width, decoder.kv_heads as f64 * width);
        let layers = decoder.layers as f64;
        let f = decoder.intermediate as f64;
        let weights = layers * (2.0 * h * q + 2.0 * h * kv + 3.0 * h * f);
        let rank = config.lora_rank as f64;
        let adapters = rank * layers * (2.0 * (h + q) + 2.0 * (h + kv) + 3.0 * (h + f));
        let pairs = config.batch_size as f64;
        let step = pairs * (lengths.row + lengths.label);
        let epochs = config.epochs as f64;
        let validating = (lengths.rows * f64::from(config.validation)).min(config.validation_rows as f64);
        let validations = if validating > 0.0 { epochs + 1.0 } else { 0.0 };
        // Embeddings of labels serve the validation and the negatives of the next epoch.
        let mined = if config.hard_negatives > 0 { epochs - 1.0 } else { 0.0 };
        let banks = if config.negatives > 0 { epochs } else { mined };
        let labels = lengths.labels * lengths.label * (validations.max(banks) + 1.0);
        let rows = (validations * validating + mined * (lengths.rows - validating)) * lengths.row;
        let twice = (step - config.tape_tokens as f64).max(0.0) / step.max(1.0);
        Work {
            weights,
            parameters: config.prompt_tokens as f64 * h + adapters,
            steps: batches * epochs,
            tokens_of_a_step: step,
            tokens_embedded: labels + rows,
            operations_per_token: [(6.0 + 2.0 * twice) * weights, 2.0 * weights],
        }
    }

    /// Operations of all of it.
    pub(super) fn operations(&self) -> f64 {
        let [training, embedding] = self.operations_per_token;
        self.steps * self.tokens_of_a_step * training + self.tokens_embedded * embedding
    }
}

/// What training on `data` with the decoder `decoder`, whose file has so many bytes, would cost.
pub fn costs(
    data: &Dataset,
    decoder: &Config,
    file_bytes: Option<u64>,
    config: &QuestConfig,
) -> Result<Costs> {
    let work = Work::guess(data, decoder, config);
    let parts = memory(data, decoder, file_bytes, config, &work);
    let (operations, speed) = (work.operations(), speed(config.precision.resolve())?);
    let hours = operations / speed / 3600.0;
    let memory = parts.iter().map(|part| (part.name, part.bytes)).collect();
    Ok(Costs { work, operations, memory, speed, hours, parts })
}

/// Refuses to train with `decoder` at `path` if that would not fit.
pub(super) fn check(
    data: &Dataset,
    decoder: &Config,
    path: &Path,
    config: &QuestConfig,
    max_memory: Option<u64>,
) -> Result<()> {
    if max_memory.is_none() {
        return Ok(());
    }
    // What is no folder is a GGUF file.
    let file_bytes = if path.is_file() { path.metadata().ok().map(|file| file.len()) } else { None };
    let work = Work::guess(data, decoder, config);
    compare(&memory(data, decoder, file_bytes, config, &work), max_memory)
}

/// What is held at once while training.
fn memory(
    data: &Dataset,
    decoder: &Config,
    file_bytes: Option<u64>,
    config: &QuestConfig,
    work: &Work,
) -> Vec<Part> {
    let (h, labels) = (decoder.hidden as f64, data.labels.len() as f64);
    let (tape, pass) = (config.tape_tokens as f64, config.tokens_per_batch as f64);
    let taped = work.tokens_of_a_step.min(tape + pass);
    let layer = taped.min(pass) * (6.0 * h + 3.0 * decoder.intermediate as f64);
    let table = (decoder.vocab * decoder.hidden) as f64;
    let stored = file_bytes.map(|bytes| 8.0 * bytes as f64 / (work.weights + table));
    let part = |name, bytes: f64, advice| Part { name, bytes: bytes as u64, advice };
    let smaller = "choose fewer bits (quantization), or a smaller decoder";
    let mut parts = vec![
        part("weights of the layers", work.weights * bits(config.quantization, stored) / 8.0, smaller),
        part("embeddings of tokens", table * stored.unwrap_or(16.0) / 8.0, "take a smaller decoder"),
        part("inputs of the layers", 4.0 * taped * h * (decoder.layers + 1) as f64, "lower tape_tokens"),
        part("one layer at work", 4.0 * layer, "lower tokens_per_batch"),
        part("embeddings of labels", 4.0 * labels * h, "take a smaller decoder"),
        part("prompt, adapters, optimiser", 16.0 * work.parameters, "lower lora_rank"),
        part(TEXTS, texts(data) as f64, FEWER_ROWS),
    ];
    if config.sampling.resample && samples_by_decoder(config) {
        parts.push(part("features of labels", 4.0 * labels * h, "set sampling.resample = false"));
    }
    parts
}

/// Whether labels are told apart by vectors as wide as the decoder.
fn samples_by_decoder(config: &QuestConfig) -> bool {
    let sampling = &config.sampling;
    !sampling.takes_all_labels()
        && matches!(sampling.sampler, Sampler::Simhash | Sampler::Race)
        && matches!(sampling.features, HashFeatures::Auto | HashFeatures::Tokemb | HashFeatures::Llm)
}

/// Bits of a weight; those of a file are `stored` on average.
fn bits(quantization: Bits, stored: Option<f64>) -> f64 {
    match quantization.0 {
        Quantization::Nf4 { double: true } => 4.0 + 8.0 / 64.0 + 32.0 / (64.0 * 256.0),
        Quantization::Nf4 { double: false } | Quantization::Q4_0 => 4.5,
        Quantization::Q8_0 => 8.5,
        // A folder of Hugging Face has 16 bits.
        Quantization::Stored => stored.unwrap_or(16.0),
        Quantization::Bf16 => 16.0,
        Quantization::F32 => 32.0,
    }
}

/// Operations in a second of a product as large as those of a step.
fn speed(precision: Precision) -> Result<f64> {
    const TOKENS: usize = 512;
    const WIDTH: usize = 1024;
    let values: Vec<f32> = (0..WIDTH * WIDTH).map(|i| (i % 251) as f32 / 251.0 - 0.5).collect();
    let weights = QuantMatrix::quantize(&values, WIDTH, WIDTH, Format::Q8_0)?;
    let mut input = Input::new();
    input.dense(&values[..TOKENS * WIDTH], TOKENS, WIDTH, precision);
    let mut y = vec![0.0; TOKENS * WIDTH];
    let mut once = || {
        let start = Instant::now();
        weights.multiply(&input, &mut y, false);
        start.elapsed().as_secs_f64()
    };
    let fastest = (0..4).map(|_| once()).fold(f64::INFINITY, f64::min);
    Ok(2.0 * (TOKENS * WIDTH * WIDTH) as f64 / fastest.max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_embedded_is_counted_for_every_use() {
        let lengths = Lengths { rows: 1000.0, row: 10.0, labels: 50.0, label: 4.0 };
        let embedded = |validation: f32, negatives: usize, hard_negatives: usize| {
            let config =
                QuestConfig { epochs: 3, validation, negatives, hard_negatives, ..QuestConfig::default() };
            Work::new(&Config::llama(100, 32, 2, [4, 2], 64), &config, lengths, 7.0).tokens_embedded
        };
        assert_eq!(embedded(0.0, 0, 0), 200.0);
        assert_eq!(embedded(0.5, 0, 0), 5.0 * 200.0 + 4.0 * 500.0 * 10.0);
        assert_eq!(embedded(0.0, 8, 0), 4.0 * 200.0);
        // From the second epoch on.
        assert_eq!(embedded(0.0, 0, 8), 3.0 * 200.0 + 2.0 * 10_000.0);
        assert_eq!(embedded(0.5, 8, 8), 5.0 * 200.0 + 4.0 * 5000.0 + 2.0 * 5000.0);
    }
}
