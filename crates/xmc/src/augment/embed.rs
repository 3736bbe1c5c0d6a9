//! How do synthetic texts and targets become embeddings, each distinct text once?
//!
//! By an encoder: the folder of one, or a model that has one, or without any by [`HashedWords`]. All rows have length 1, so
//! inner products are cosines. A file of embeddings lies beside a record of what it was made of; where both fit, nothing
//! is computed again. Work is kept in blocks, so that a process that dies loses one block at most.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xmc_data::Strings;
use xmc_nn::pool::normalize;
use xmc_nn::{Device, Precision};
use xxhash_rust::xxh3::Xxh3;

use super::blocks::Blocks;
use super::hashed_words::HashedWords;
use crate::encoder::Encoder;
use crate::error::{Error, Result};
use crate::events::Events;
use crate::fingerprint::Fingerprint;
use crate::index::{Dtype, LabelEmbeddings};
use crate::model::encoder_folder::{stored_max_len, stored_tower};
use crate::model::{Model, OpenOptions};
use crate::run::{remove, write_json};

/// Texts of a block.
const BLOCK: usize = 8192;

/// Tokens of a text that are read where neither settings nor the encoder say so: queries are short.
const USUAL_LEN: usize = 32;

/// What makes embeddings, and how it is called in records.
pub struct Embedder {
    id: String,
    body: Body,
}

enum Body {
    Encoder(Box<Encoder>),
    Words(HashedWords),
}

impl Embedder {
    /// No encoder: words and runs of characters, in `dim` values.
    pub fn words(dim: usize) -> Result<Self> {
        Ok(Embedder { id: format!("words {dim}"), body: Body::Words(HashedWords::new(dim)?) })
    }

    /// The encoder in the folder `dir`, which holds one of Hugging Face or a model; texts are cut to `max_len` tokens, or as
    /// the folder says.
    pub fn open(dir: &Path, max_len: Option<usize>, device: Device, precision: Precision) -> Result<Self> {
        let mut print = Fingerprint::new();
        let encoder = if Model::is_at(dir) {
            print.file(&dir.join("model.json"))?;
            let options = OpenOptions { device, precision, ..OpenOptions::default() };
            let encoder = Model::open_with(dir, &options)?.into_encoder()?;
            match max_len {
                Some(max_len) => encoder.with_max_len(max_len)?,
                None => encoder,
            }
        } else {
            let tower = stored_tower(dir, None)?;
            let max_len = match max_len {
                Some(max_len) => max_len,
                None => stored_max_len(dir)?.unwrap_or(USUAL_LEN),
            };
            let encoder = Encoder::open(dir, tower, max_len, device, precision)?;
            print.encoder(dir)?;
            print.value(&tower)?;
            encoder
        };
        let name = dir.file_name().map_or_else(|| "encoder".into(), |name| name.to_string_lossy());
        let id = format!("{name} {} {} tokens", print.finish(), encoder.max_len());
        Ok(Embedder { id, body: Body::Encoder(Box::new(encoder)) })
    }

    /// Says which encoder it is, by its content and not by where it lies.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Values d of an embedding.
    pub fn dim(&self) -> usize {
        match &self.body {
            Body::Encoder(encoder) => encoder.dim(),
            Body::Words(words) => words.dim(),
        }
    }

    /// Embeddings `[n, d]` row after row, each of length 1, or 0 where a text says nothing.
    pub fn embed(&self, texts: &Strings) -> Result<Vec<f32>> {
        let rows = match &self.body {
            Body::Encoder(encoder) => encoder.embed(texts, &|_, _| {})?,
            Body::Words(words) => words.embed(texts)?,
        };
        let mut values = rows.into_host();
        for row in values.chunks_exact_mut(self.dim().max(1)) {
            if row.iter().any(|&v| v != 0.0) {
                normalize(row);
            }
        }
        Ok(values)
    }

    /// The same as a matrix to search in.
    pub fn matrix(&self, texts: &Strings, dtype: Dtype) -> Result<LabelEmbeddings> {
        LabelEmbeddings::from_values(self.dim(), &self.embed(texts)?, dtype)
    }
}

/// Texts without repetitions, in the order in which they come first.
#[derive(Debug)]
pub struct Distinct {
    /// Each text once.
    pub texts: Strings,
    /// `[n]` which of them each row is.
    pub of: Vec<u32>,
}

impl Distinct {
    /// The distinct ones of `texts`.
    pub fn new(texts: &Strings) -> Self {
        let mut known: HashMap<&str, u32> = HashMap::new();
        let mut distinct = Strings::default();
        let mut of = Vec::with_capacity(texts.len());
        for text in texts.iter() {
            let next = known.len() as u32;
            let id = *known.entry(text).or_insert(next);
            if id == next && distinct.len() == next as usize {
                distinct.push(text);
            }
            of.push(id);
        }
        distinct.shrink_to_fit();
        Distinct { texts: distinct, of }
    }
}

/// What a file of embeddings was made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// [`Embedder::id`]
    pub encoder: String,
    /// Hash of the texts.
    pub texts: String,
    /// Number of texts.
    pub rows: usize,
    /// Values of an embedding.
    pub dim: usize,
    /// How they are stored.
    pub dtype: String,
}

/// Writes embeddings of `texts` to `path`, and what they were made of beside it; returns them and whether anything had to
/// be computed.
pub fn embed_file(
    embedder: &Embedder,
    texts: &Strings,
    dtype: Dtype,
    path: &Path,
    events: &dyn Events,
) -> Result<(LabelEmbeddings, bool)> {
    let hash = hash(texts);
    let record = Record {
        encoder: embedder.id().to_owned(),
        texts: format!("{hash:016x}"),
        rows: texts.len(),
        dim: embedder.dim(),
        dtype: dtype.name().to_owned(),
    };
    let beside = path.with_extension("json");
    let known = fs::read(&beside).ok().and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
    if known.as_ref() == Some(&record)
        && let Ok(done) = LabelEmbeddings::open(path)
    {
        return Ok((done, false));
    }
    let mut blocks = Blocks::open(&path.with_extension("ongoing"), identity(&record)?)?;
    compute(embedder, texts, &mut blocks, events)?;
    // The old record must not stand beside new embeddings, whenever the process ends.
    remove(&beside)?;
    LabelEmbeddings::write(path, texts.len(), embedder.dim(), dtype, |rows| {
        let mut payload = Vec::new();
        for i in 0..blocks.len() {
            blocks.read(i, &mut payload)?;
            rows.push(&floats(&payload))?;
        }
        Ok(())
    })?;
    write_json(&beside, &record)?;
    blocks.remove()?;
    Ok((LabelEmbeddings::open(path)?, true))
}

/// Embeds the texts behind those of the blocks that are there.
fn compute(embedder: &Embedder, texts: &Strings, blocks: &mut Blocks, events: &dyn Events) -> Result<()> {
    let total = texts.len() as u64;
    for start in (blocks.len() * BLOCK..texts.len()).step_by(BLOCK) {
        events.progress(start as u64, total);
        let rows: Vec<u32> = (start..texts.len().min(start + BLOCK)).map(|i| i as u32).collect();
        let values = embedder.embed(&texts.select(&rows))?;
        blocks.push(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())?;
    }
    events.progress(total, total);
    Ok(())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

pub(super) fn hash(texts: &Strings) -> u64 {
    let mut hash = Xxh3::new();
    for text in texts.iter() {
        hash.update(&(text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    }
    hash.digest()
}

/// Blocks are f32 whatever the file will be, so its type takes no part.
fn identity(record: &Record) -> Result<u64> {
    let record = Record { dtype: String::new(), ..record.clone() };
    let json = serde_json::to_vec(&record).map_err(|e| Error::Mismatch(e.to_string()))?;
    Ok(xxhash_rust::xxh3::xxh3_64(&json))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Silent;

    fn texts(n: usize) -> Strings {
        Strings::new((0..n).map(|i| format!("w{} w{} word", i % 7, i % 31)))
    }

    #[test]
    fn repeated_texts_are_one_text() {
        let distinct = Distinct::new(&Strings::new(["b", "a", "b", "", "a", ""]));
        assert_eq!(distinct.texts, Strings::new(["b", "a", ""]));
        assert_eq!(distinct.of, [0, 1, 0, 2, 1, 2]);
    }

    #[test]
    fn a_finished_file_is_not_made_again_and_other_texts_or_encoders_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("targets.bin");
        let words = Embedder::words(64).unwrap();
        let run = |embedder: &Embedder, n: usize, dtype| {
            embed_file(embedder, &texts(n), dtype, &path, &Silent).unwrap().1
        };
        assert!(run(&words, 50, Dtype::F32));
        assert!(!run(&words, 50, Dtype::F32));
        assert!(run(&words, 51, Dtype::F32));
        assert!(run(&Embedder::words(128).unwrap(), 51, Dtype::F32));
        assert!(run(&words, 51, Dtype::Bf16) && !run(&words, 51, Dtype::Bf16));
        assert!(!dir.path().join("targets.ongoing").exists());
    }

    #[test]
    fn an_interrupted_run_goes_on_to_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let (whole, part) = (dir.path().join("a.bin"), dir.path().join("b.bin"));
        let (words, texts) = (Embedder::words(64).unwrap(), texts(BLOCK * 2 + 10));
        embed_file(&words, &texts, Dtype::F32, &whole, &Silent).unwrap();
        let record: Record = serde_json::from_slice(&fs::read(dir.path().join("a.json")).unwrap()).unwrap();
        let mut blocks = Blocks::open(&dir.path().join("b.ongoing"), identity(&record).unwrap()).unwrap();
        let first: Vec<u32> = (0..BLOCK as u32).collect();
        let values = words.embed(&texts.select(&first)).unwrap();
        blocks.push(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>()).unwrap();
        drop(blocks);
        embed_file(&words, &texts, Dtype::F32, &part, &Silent).unwrap();
        assert_eq!(fs::read(&whole).unwrap(), fs::read(&part).unwrap());
    }

    #[test]
    fn embeddings_have_length_1_and_do_not_depend_on_what_else_is_embedded() {
        let words = Embedder::words(64).unwrap();
        let all = words.embed(&Strings::new(["a tide", "", "a harbour", "a tide"])).unwrap();
        let lengths: Vec<f32> =
            all.chunks_exact(64).map(|row| row.iter().map(|v| v * v).sum::<f32>()).collect();
        assert!((lengths[0] - 1.0).abs() < 1e-5 && lengths[1] == 0.0, "{lengths:?}");
        assert_eq!(all[..64], all[192..]);
        assert_eq!(words.embed(&Strings::new(["a harbour"])).unwrap(), all[128..192]);
    }
}
