//! What does a prompt begin with, and how is it kept? `[n, h]` numbers, in a checked file that any tool can read.

use std::path::Path;

use serde_json::json;
use xmc_nn::checkpoint;
use xmc_nn::decoder::{Decoder, LoraConfig, Pooling, Prompted, PromptedConfig, Source};

use super::config::{DecoderPooling, PromptInit, QuestConfig};
use crate::error::{Error, Result};
use crate::methods::checkpoints::write;
use crate::random::{Draws, Purpose};

/// Files of a model, and the names of the numbers in them.
pub(super) const PROMPT: &str = "prompt.safetensors";
pub(super) const LORA: &str = "lora.safetensors";
const PROMPT_NAME: &str = "prompt";
const LORA_NAME: &str = "lora";

/// Rows of the token embeddings that are read to know their mean, spread over the vocabulary.
const SAMPLE: usize = 4096;

/// What stands around the decoder.
pub(super) fn around(config: &QuestConfig) -> PromptedConfig {
    let pooling = match config.pooling {
        DecoderPooling::Last => Pooling::Last,
        DecoderPooling::Eos => Pooling::Eos,
        DecoderPooling::Mean => Pooling::Mean,
        DecoderPooling::PadLast => Pooling::PadLast,
    };
    let lora = LoraConfig { rank: config.lora_rank, alpha: config.lora_alpha, dropout: config.lora_dropout };
    PromptedConfig { pooling, normalize: true, lora: (config.lora_rank > 0).then_some(lora) }
}

/// The first rows `[n, h]` of a training.
pub(super) fn first(decoder: &Decoder, source: &Source, config: &QuestConfig, seed: u64) -> Result<Vec<f32>> {
    let (n, h) = (config.prompt_tokens, decoder.config().hidden);
    let rows_of = |ids: &[u32]| {
        let mut rows = vec![0.0; ids.len() * h];
        decoder.embed(ids, &mut rows);
        rows
    };
    match config.prompt_init {
        PromptInit::FirstTokens => {
            let vocabulary = decoder.config().vocab as u32;
            Ok(rows_of(&(1..=n as u32).map(|id| id % vocabulary.max(1)).collect::<Vec<_>>()))
        }
        PromptInit::Text => {
            let text = config.prompt_text.as_deref().unwrap_or_default();
            let ids = source.tokenizer(decoder.config().positions)?.encode_words(text)?;
            if ids.is_empty() {
                let expected = "a text of which the decoder's tokenizer leaves something";
                return Err(xmc_data::Error::config("prompt_text", text, expected).into());
            }
            Ok(rows_of(&ids.iter().copied().cycle().take(n).collect::<Vec<_>>()))
        }
        PromptInit::MeanNoise => Ok(mean_and_noise(decoder, n, seed)),
        PromptInit::File => {
            let path = config.prompt_file.as_deref().unwrap_or(Path::new(""));
            let rows = load(path, PROMPT_NAME)?;
            if rows.len() != n * h {
                let problem = format!(
                    "a prompt of {} values, but prompt_tokens = {n} of this decoder are {n} x {h}",
                    rows.len()
                );
                return Err(Error::file(path, problem));
            }
            Ok(rows)
        }
    }
}

/// Rows that are normal around the mean of the token embeddings, each value as far as that of tokens.
fn mean_and_noise(decoder: &Decoder, n: usize, seed: u64) -> Vec<f32> {
    let (vocabulary, h) = (decoder.config().vocab, decoder.config().hidden);
    let step = vocabulary.div_ceil(SAMPLE).max(1);
    let ids: Vec<u32> = (0..vocabulary).step_by(step).map(|id| id as u32).collect();
    let mut rows = vec![0.0; ids.len() * h];
    decoder.embed(&ids, &mut rows);
    let moments: Vec<(f32, f32)> = (0..h)
        .map(|column| {
            let values = || rows.iter().skip(column).step_by(h).map(|&v| f64::from(v));
            let mean = values().sum::<f64>() / ids.len() as f64;
            let square = values().map(|v| (v - mean).powi(2)).sum::<f64>() / ids.len() as f64;
            (mean as f32, square.sqrt() as f32)
        })
        .collect();
    let mut draws = Draws::new(seed, Purpose::Head, 0);
    (0..n)
        .flat_map(|_| moments.iter().map(|&(mean, d)| mean + d * draws.normal()).collect::<Vec<_>>())
        .collect()
}

/// Writes prompt and adapters of `prompted`, trained for `epochs` on the decoder with this fingerprint, into the folder
/// `dir`.
pub(super) fn save(prompted: &Prompted, epochs: usize, fingerprint: &str, dir: &Path) -> Result<()> {
    let (n, h) = (prompted.prompt_tokens(), prompted.dim());
    let (prompt, adapters) = prompted.params().split_at(n * h);
    let meta = json!({ "rows": n, "columns": h, "epochs": epochs, "decoder": fingerprint });
    write(&dir.join(PROMPT), &[(PROMPT_NAME.to_owned(), prompt)], &meta)?;
    if adapters.is_empty() {
        return Ok(());
    }
    write(&dir.join(LORA), &[(LORA_NAME.to_owned(), adapters)], &json!({ "decoder": fingerprint }))
}

/// Epochs that the prompt in the folder `dir` has learned for; those behind the best one do not count.
pub(super) fn epochs(dir: &Path) -> Result<usize> {
    let path = dir.join(PROMPT);
    let epochs = checkpoint::load(&path)?.meta["epochs"].as_u64();
    epochs
        .map(|n| n as usize)
        .ok_or_else(|| Error::file(&path, "does not say for how many epochs it learned"))
}

/// Prompt and adapters in the folder `dir`, one after the other as the parameters are.
pub(super) fn parameters(dir: &Path, config: &QuestConfig) -> Result<Vec<f32>> {
    let mut params = load(&dir.join(PROMPT), PROMPT_NAME)?;
    if config.lora_rank > 0 {
        params.extend(load(&dir.join(LORA), LORA_NAME)?);
    }
    Ok(params)
}

fn load(path: &Path, name: &str) -> Result<Vec<f32>> {
    let mut saved = checkpoint::load(path)?;
    saved.take(name).ok_or_else(|| Error::file(path, format!("no `{name}` in it: not of a model of quest")))
}
