//! How does a text become token ids?
//!
//! As `tokenizer.json` says, by the library that wrote it; or, where there is only a `vocab.txt`, as BERT does
//! (`word_piece`). Texts are cut to `max_len` tokens, special tokens included, and never padded.

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use tokenizers::{
    ModelWrapper, NormalizerWrapper, PostProcessor, PreTokenizerWrapper, TruncationDirection,
    TruncationParams,
};
use xmc_data::Strings;
use xmc_data::formats::atomic::write_atomically;
use xxhash_rust::xxh3::Xxh3;

use super::word_piece;
use crate::error::{Error, Result};
use crate::tokens::{Builder, Tokens};

const FILE: &str = "tokenizer.json";

/// Everything that describes a tokenizer in a folder of Hugging Face.
const FILES: [&str; 9] = [
    FILE,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
];

/// Texts of one task, and tasks whose results are held before they are joined.
const CHUNK: usize = 64;
const CHUNKS_AT_ONCE: usize = 1024;

/// Bytes of text looked at first, for each token that is wanted. English has about five letters a token.
const BYTES_PER_TOKEN: usize = 10;

/// Turns texts into ids.
#[derive(Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The file that says how; for messages.
    path: PathBuf,
    max_len: usize,
    /// Whether the ids of a text that ends at a space are the first ids of every longer text.
    prefix_free: bool,
    /// What a text without tokens becomes, where no special tokens are added.
    empty: Option<u32>,
    /// What stands behind every text, however short it is cut.
    tail: Vec<u32>,
    /// The files as they were when opened, for [`Tokenizer::save`] and the key.
    files: Vec<(&'static str, Vec<u8>)>,
}

impl Tokenizer {
    /// Opens the tokenizer of a model folder, for at most `max_len` tokens a text, special ones included.
    pub fn open(dir: &Path, max_len: usize) -> Result<Self> {
        Self::from_files(dir, Self::read_files(dir)?, max_len)
    }

    /// The files of a folder that describe its tokenizer.
    pub(crate) fn read_files(dir: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let mut files = Vec::new();
        for name in FILES {
            let path = dir.join(name);
            if path.is_file() {
                files.push((name, std::fs::read(&path).map_err(Error::io(&path))?));
            }
        }
        Ok(files)
    }

    /// Takes files of a folder, or of a file that holds as much, for at most `max_len` tokens a text.
    pub(crate) fn from_files(
        place: &Path,
        files: Vec<(&'static str, Vec<u8>)>,
        max_len: usize,
    ) -> Result<Self> {
        let content = |name: &str| files.iter().find(|(n, _)| *n == name).map(|(_, bytes)| bytes.as_slice());
        let (path, inner) = if let Some(bytes) = content(FILE) {
            let path = if place.is_dir() { place.join(FILE) } else { place.to_owned() };
            let inner = tokenizers::Tokenizer::from_bytes(bytes)
                .map_err(|e| Error::file(&path, format!("not a tokenizer that can be read: {e}")))?;
            (path, inner)
        } else if let Some(vocabulary) = content("vocab.txt") {
            (place.join("vocab.txt"), word_piece::build(place, vocabulary, content("tokenizer_config.json"))?)
        } else {
            return Err(no_tokenizer(place));
        };
        let empty = content("tokenizer_config.json").and_then(|config| stand_in(&inner, config));
        let prefix_free = prefix_free(&inner);
        Tokenizer { inner, path, max_len, prefix_free, empty, tail: Vec::new(), files }.truncating()
    }

    /// The same tokenizer for at most `max_len` tokens a text.
    pub fn with_max_len(self, max_len: usize) -> Result<Self> {
        Tokenizer { max_len, ..self }.truncating()
    }

    /// The same tokenizer with `words` behind every text: what does not fit into the largest number of tokens is cut
    /// from the text, never from them.
    pub fn ending_with(self, words: &str) -> Result<Self> {
        let tail = self.encode_words(words)?;
        Tokenizer { tail, ..self }.truncating()
    }

    /// Sets truncation, and checks that every text will have a token.
    fn truncating(mut self) -> Result<Self> {
        let special = self.inner.get_post_processor().map_or(0, |p| p.added_tokens(false));
        let own = special + self.tail.len();
        let max_len = self.max_len;
        if max_len <= own {
            let among = if self.tail.is_empty() { "special tokens" } else { "tokens of its own" };
            return Err(Error::file(
                &self.path,
                format!("max_len {max_len} leaves no room for text: every text has {own} {among}"),
            ));
        }
        // The side that is cut is part of the tokenizer, the length is not.
        let direction = self.inner.get_truncation().map_or(TruncationDirection::Right, |t| t.direction);
        self.prefix_free &= direction == TruncationDirection::Right;
        let max_length = max_len - self.tail.len();
        let truncation = TruncationParams { max_length, direction, ..Default::default() };
        self.inner.with_padding(None);
        self.inner.with_truncation(Some(truncation)).map_err(|e| Error::file(&self.path, e.to_string()))?;
        if self.ids("")?.is_empty() {
            return Err(Error::file(
                &self.path,
                "adds no special tokens and names none (bos_token, eos_token or pad_token in tokenizer_config.json), \
                 so an empty text would have no token at all",
            ));
        }
        Ok(self)
    }

    /// Largest number of tokens of a text.
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    /// Number of ids; every id is below it.
    pub fn vocabulary(&self) -> usize {
        self.inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// Ids of one text, with special tokens.
    pub fn encode_one(&self, text: &str) -> Result<Vec<u32>> {
        if let Some(start) = self.start_of(text) {
            let ids = self.ids(start)?;
            if ids.len() == self.max_len {
                return Ok(ids);
            }
        }
        self.ids(text)
    }

    /// Ids of the words of a text alone, without special tokens, and none for an empty text.
    pub fn encode_words(&self, text: &str) -> Result<Vec<u32>> {
        self.cut(text, false)
    }

    /// The same tokenizer, to which the names of special tokens are words like all others: for texts of strangers.
    pub fn plain(mut self) -> Self {
        self.inner.set_encode_special_tokens(true);
        self
    }

    /// Whether a text names a special token.
    pub fn names_special(&self, text: &str) -> bool {
        self.inner
            .get_added_tokens_decoder()
            .values()
            .any(|token| token.special && !token.content.is_empty() && text.contains(&token.content))
    }

    /// A hash of the files that say how texts are cut.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::new();
        for (name, bytes) in &self.files {
            hash.update(name.as_bytes());
            hash.update(&(bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        }
        hash.digest()
    }

    /// The text of ids, without special tokens.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner.decode(ids, true).map_err(|e| Error::file(&self.path, format!("cannot decode: {e}")))
    }

    /// Ids of all texts, in parallel.
    pub fn encode(&self, texts: &Strings) -> Result<Tokens> {
        let mut all = Builder::default();
        for first in (0..texts.len()).step_by(CHUNK * CHUNKS_AT_ONCE) {
            let last = texts.len().min(first + CHUNK * CHUNKS_AT_ONCE);
            let chunks: Vec<usize> = (first..last).step_by(CHUNK).collect();
            let done: Vec<Builder> = chunks
                .into_par_iter()
                .map(|start| {
                    let mut rows = Builder::default();
                    for i in start..last.min(start + CHUNK) {
                        rows.push(&self.encode_one(texts.get(i))?);
                    }
                    Ok(rows)
                })
                .collect::<Result<_>>()?;
            for rows in &done {
                all.append(rows);
            }
        }
        Ok(all.finish())
    }

    /// Writes the tokenizer's files into a folder that exists, as they were when it was opened.
    pub fn save(&self, dir: &Path) -> Result<()> {
        for (name, bytes) in &self.files {
            let path = dir.join(name);
            write_atomically(&path, |file| {
                std::io::Write::write_all(file, bytes).map_err(xmc_data::Error::io(&path))
            })?;
        }
        Ok(())
    }

    fn ids(&self, text: &str) -> Result<Vec<u32>> {
        let mut ids = self.cut(text, true)?;
        if ids.is_empty() {
            ids.extend(self.empty);
        }
        ids.extend_from_slice(&self.tail);
        Ok(ids)
    }

    fn cut(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        match self.inner.encode_fast(text, special) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(e) => {
                let shown: String = text.chars().take(60).collect();
                Err(Error::file(&self.path, format!("cannot cut the text `{shown}`: {e}")))
            }
        }
    }

    /// The part of a long text that very likely holds all tokens that are kept: cutting a whole book to take its first
    /// page costs a book.
    fn start_of<'t>(&self, text: &'t str) -> Option<&'t str> {
        let wanted = self.max_len.saturating_mul(BYTES_PER_TOKEN);
        let start = text.as_bytes().get(..wanted).filter(|_| self.prefix_free)?;
        // Before an ASCII space a character ends, so this never cuts one.
        let end = start.iter().rposition(|&byte| byte == b' ')?;
        text.get(..end)
    }
}

/// True for BERT's way: words end at spaces and know nothing of each other.
fn prefix_free(inner: &tokenizers::Tokenizer) -> bool {
    let normalizer = matches!(inner.get_normalizer(), None | Some(NormalizerWrapper::BertNormalizer(_)));
    let words = matches!(inner.get_pre_tokenizer(), Some(PreTokenizerWrapper::BertPreTokenizer(_)));
    let pieces = matches!(inner.get_model(), ModelWrapper::WordPiece(_));
    let added = inner.get_added_tokens_decoder();
    normalizer && words && pieces && added.values().all(|token| !token.content.contains(char::is_whitespace))
}

/// The token that stands for a text without any: BOS, or else EOS, or else padding, as `tokenizer_config.json` names
/// them.
fn stand_in(inner: &tokenizers::Tokenizer, config: &[u8]) -> Option<u32> {
    let config: serde_json::Value = serde_json::from_slice(config).ok()?;
    let named = |key: &str| word_piece::special(&config, key).and_then(|token| inner.token_to_id(token));
    ["bos", "eos", "pad"].into_iter().find_map(named)
}

fn no_tokenizer(dir: &Path) -> Error {
    Error::file(
        dir,
        "no tokenizer.json (nor vocab.txt of a BERT model) in this folder; make one, in the folder: \
         python -c \"from transformers import AutoTokenizer; AutoTokenizer.from_pretrained('.').save_pretrained('.')\"",
    )
}
