//! Where do the weights of a decoder come from? A GGUF file, or a folder of Hugging Face.
//!
//! [`Source::open`] reads the configuration and checks that every tensor is there in its shape and in a format that is
//! read; weights stay in the mapped files until a matrix is asked for.

mod metadata;
mod names;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use safetensors::tensor::Dtype;
use serde_json::Value;
use xmc_data::Buffer;
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::Config;
use crate::error::{Error, Result};
use crate::gguf;
use crate::hf::weights::{Stored, Weights};
use crate::hf::{Tokenizer, read_json};
use crate::quant::{Format, QuantMatrix};

/// Bytes that are hashed by one task.
const HASHED_AT_ONCE: usize = 16 << 20;

/// A decoder's file or folder, opened and checked, not yet read.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    config: Config,
    kind: Kind,
    tokenizer: Vec<(&'static str, Vec<u8>)>,
}

#[derive(Debug)]
enum Kind {
    Gguf(gguf::File),
    Folder(Weights),
}

impl Source {
    /// Opens a `.gguf` file, or a folder with `config.json` and safetensors.
    ///
    /// # Errors
    /// If it is neither, a family or format that is not read, or a tensor is missing, of another shape, or of no use.
    pub fn open(path: &Path) -> Result<Self> {
        let source = if path.is_dir() { Self::open_folder(path)? } else { Self::open_gguf(path)? };
        source.check()?;
        Ok(source)
    }

    fn open_gguf(path: &Path) -> Result<Self> {
        let file = gguf::File::open(path)?;
        let mut config = metadata::config(&file)?;
        // A decoder without a tokenizer can still be computed with.
        let has_tokenizer = file.has("tokenizer.ggml.tokens");
        let tokenizer = if has_tokenizer { gguf::tokenizer_files(&file)? } else { Vec::new() };
        config.add_bos = adds_bos(&tokenizer);
        Ok(Source { path: path.to_owned(), config, kind: Kind::Gguf(file), tokenizer })
    }

    fn open_folder(path: &Path) -> Result<Self> {
        let mut config = Config::open(&path.join("config.json"))?;
        let generation = path.join("generation_config.json");
        if generation.is_file() {
            config.add_ends(&read_json(&generation)?).map_err(|problem| Error::file(&generation, problem))?;
        }
        let tokenizer = Tokenizer::read_files(path)?;
        config.add_bos = adds_bos(&tokenizer);
        let weights = Weights::open(path)?;
        Ok(Source { path: path.to_owned(), config, kind: Kind::Folder(weights), tokenizer })
    }

    /// The file or folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sizes and choices.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// W `[rows, cols]` as it is stored, mapped, by its name in Hugging Face:
    /// `model.layers.0.self_attn.q_proj.weight`.
    pub fn matrix(&self, name: &str, rows: usize, cols: usize) -> Result<QuantMatrix> {
        match &self.kind {
            Kind::Gguf(file) => {
                file.matrix(&names::gguf_name(name).ok_or_else(|| self.lacks(name))?, rows, cols)
            }
            Kind::Folder(weights) => {
                let stored = stored(weights, name).ok_or_else(|| self.lacks(name))?;
                let format = checked(&stored, name, [rows, cols])?;
                let (start, end) = stored.bytes;
                let blocks = Buffer::mapped(stored.map, start, end - start, stored.path)?;
                QuantMatrix::from_blocks(format, rows, cols, blocks)
                    .map_err(|e| Error::file(stored.path, format!("tensor `{name}`: {e}")))
            }
        }
    }

    /// A vector of `len` numbers, such as a norm's weights; none if the decoder has none of this name.
    pub fn vector(&self, name: &str, len: usize) -> Result<Option<Vec<f32>>> {
        if !self.has(name)? {
            return Ok(None);
        }
        let mut values = vec![0.0; len];
        self.matrix(name, 1, len)?.row(0, &mut values);
        Ok(Some(values))
    }

    /// The decoder's tokenizer, for at most `max_len` tokens a text.
    ///
    /// An empty text becomes BOS, or else EOS, or else padding. What [`Tokenizer::save`] writes into a folder is read
    /// by [`Tokenizer::open`], also if it came out of a GGUF file.
    pub fn tokenizer(&self, max_len: usize) -> Result<Tokenizer> {
        if self.tokenizer.is_empty() && !self.path.is_dir() {
            return Err(Error::file(&self.path, "has no tokenizer (key `tokenizer.ggml.tokens` is missing)"));
        }
        let tokenizer = Tokenizer::from_files(&self.path, self.tokenizer.clone(), max_len)?;
        let (ids, rows) = (tokenizer.vocabulary(), self.config.vocab);
        if ids > rows {
            return Err(Error::file(
                &self.path,
                format!(
                    "the tokenizer has {ids} ids, the embeddings {rows} rows: they do not belong together"
                ),
            ));
        }
        Ok(tokenizer)
    }

    /// The template of a chat, as the model's makers wrote it (Jinja).
    pub fn chat_template(&self) -> Option<String> {
        let config = settings(&self.tokenizer, "tokenizer_config.json")?;
        config.get("chat_template")?.as_str().map(str::to_owned)
    }

    /// The text of a token that `tokenizer_config.json` names, such as `bos_token`.
    pub fn special(&self, name: &str) -> Option<String> {
        let config = settings(&self.tokenizer, "tokenizer_config.json")?;
        let token = config.get(name)?;
        Some(token.as_str().or_else(|| token.get("content")?.as_str())?.to_owned())
    }

    /// A hash of the files of weights, byte by byte: the same wherever they lie, another for every other quantisation.
    ///
    /// It tells models apart; it is no protection against someone who wants two to look the same.
    pub fn fingerprint(&self) -> Result<String> {
        let files: Vec<&[u8]> = match &self.kind {
            Kind::Gguf(file) => vec![file.bytes()],
            Kind::Folder(weights) => weights.maps().collect(),
        };
        let mut all = Xxh3::new();
        for file in files {
            let parts: Vec<u128> = file.par_chunks(HASHED_AT_ONCE).map(xxh3_128).collect();
            all.update(&(file.len() as u64).to_le_bytes());
            for part in parts {
                all.update(&part.to_le_bytes());
            }
        }
        Ok(format!("{:032x}", all.digest128()))
    }

    /// Refuses what lacks a tensor or has one that would be ignored or cannot be read; looks at no weight.
    fn check(&self) -> Result<()> {
        let names: Vec<&str> = match &self.kind {
            Kind::Gguf(file) => file.tensors().collect(),
            Kind::Folder(weights) => weights.names().collect(),
        };
        if let Some(name) = names.iter().find(|name| names::is_foreign(name)) {
            return Err(Error::file(
                &self.path,
                format!(
                    "tensor `{name}` has no place in LLaMA, Mistral or Qwen2: this is another family of models"
                ),
            ));
        }
        for (name, shape) in names::needed(&self.config) {
            if !self.has(&name)? {
                return Err(self.lacks(&name));
            }
            self.check_one(&name, shape)?;
        }
        Ok(())
    }

    fn check_one(&self, name: &str, [rows, cols]: [usize; 2]) -> Result<()> {
        match &self.kind {
            Kind::Gguf(file) => {
                let gguf = names::gguf_name(name).unwrap_or_default();
                let Some((shape, format)) = file.tensor(&gguf)? else { return Err(self.lacks(name)) };
                let fits = shape == [rows, cols] || (rows == 1 && shape == [cols]);
                if !fits || format.bytes(rows, cols).is_none() {
                    return Err(Error::file(
                        &self.path,
                        format!(
                            "tensor `{gguf}` has shape {shape:?} ({format}), the metadata asks for [{rows}, {cols}]"
                        ),
                    ));
                }
            }
            Kind::Folder(weights) => {
                let stored = stored(weights, name).ok_or_else(|| self.lacks(name))?;
                checked(&stored, name, [rows, cols])?;
            }
        }
        Ok(())
    }

    fn has(&self, name: &str) -> Result<bool> {
        Ok(match &self.kind {
            Kind::Gguf(file) => match names::gguf_name(name) {
                Some(name) => file.tensor(&name)?.is_some(),
                None => false,
            },
            Kind::Folder(weights) => stored(weights, name).is_some(),
        })
    }

    fn lacks(&self, name: &str) -> Error {
        let gguf = matches!(self.kind, Kind::Gguf(_)).then(|| names::gguf_name(name)).flatten();
        let name = gguf.as_deref().unwrap_or(name);
        let hint =
            if name == "lm_head.weight" { "; is `tie_word_embeddings` missing in config.json?" } else { "" };
        Error::file(&self.path, format!("has no tensor `{name}`{hint}"))
    }
}

/// A tensor by its full name, or as a model without a head is saved.
fn stored<'a>(weights: &'a Weights, name: &str) -> Option<Stored<'a>> {
    weights.stored(name).or_else(|| weights.stored(name.strip_prefix("model.")?))
}

/// The format of a tensor that has the shape; vectors are matrices of one row.
fn checked(stored: &Stored<'_>, name: &str, [rows, cols]: [usize; 2]) -> Result<Format> {
    let problem = |problem: String| Err(Error::file(stored.path, format!("tensor `{name}` {problem}")));
    let shape = stored.shape;
    if shape != [rows, cols] && !(rows == 1 && shape == [cols]) {
        return problem(format!("has shape {shape:?}, expected [{rows}, {cols}]"));
    }
    match stored.dtype {
        Dtype::F32 => Ok(Format::F32),
        Dtype::F16 => Ok(Format::F16),
        Dtype::BF16 => Ok(Format::Bf16),
        other => problem(format!("is {other}, expected F32, F16 or BF16")),
    }
}

/// The content of one of the tokenizer's files, if it is there and is JSON.
fn settings(files: &[(&'static str, Vec<u8>)], name: &str) -> Option<Value> {
    let (_, bytes) = files.iter().find(|(found, _)| *found == name)?;
    serde_json::from_slice(bytes).ok()
}

/// Whether the tokenizer begins texts with a special token.
fn adds_bos(files: &[(&'static str, Vec<u8>)]) -> bool {
    #[derive(serde::Deserialize)]
    struct Frame {
        post_processor: Option<Value>,
    }
    let bytes = files.iter().find(|(name, _)| *name == "tokenizer.json").map(|(_, bytes)| bytes);
    let frame = bytes.and_then(|bytes| serde_json::from_slice::<Frame>(bytes).ok()?.post_processor);
    frame.is_some_and(|processor| begins_with_special(&processor))
}

/// Looks at a template, or at every processor of a sequence.
fn begins_with_special(processor: &Value) -> bool {
    let template = processor.get("single").and_then(|parts| parts.get(0)?.get("SpecialToken"));
    let sequence = processor.get("processors").and_then(Value::as_array);
    template.is_some() || sequence.is_some_and(|processors| processors.iter().any(begins_with_special))
}
