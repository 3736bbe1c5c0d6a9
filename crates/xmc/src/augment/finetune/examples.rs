//! What does the decoder learn from? Prompts with the answers to give, as token ids.
//!
//! ```text
//! {"prompt": "…", "completion": "…"}      one a line; further keys are ignored
//! prompt | completion | end of text       only what stands behind the prompt counts
//! ```
//!
//! Prompt and completion are cut into tokens apart from each other, as they are when a prompt is continued.

use std::path::Path;

use rayon::prelude::*;
use serde::Deserialize;
use xmc_data::formats::source::open_lines;
use xmc_nn::Batch;
use xmc_nn::Tokens;
use xmc_nn::decoder::Source;

use crate::error::{Error, Result};

/// Token ids of examples.
pub(super) struct Examples {
    tokens: Tokens,
    /// Tokens of each prompt.
    prompts: Vec<usize>,
    /// Examples whose answer was cut.
    pub(super) cut: usize,
    /// Examples whose prompt left no room for an answer.
    pub(super) skipped: usize,
}

/// What a line holds.
#[derive(Deserialize)]
struct Record {
    prompt: String,
    completion: String,
}

impl Examples {
    /// Reads `path` with the tokenizer of `source`; an example gets at most `max_len` tokens.
    pub(super) fn read(path: &Path, source: &Source, max_len: usize) -> Result<Self> {
        let max_len = max_len.min(source.config().positions);
        let records = records(path)?;
        // As a generator reads prompts: words of chats in them are words.
        let tokenizer = source.tokenizer(source.config().positions)?.plain();
        let Some(&end) = source.config().eos.first() else {
            let problem = "names no token that ends texts, so it could not learn where an answer ends";
            return Err(Error::file(source.path(), problem));
        };
        let cut_into = |record: &Record| -> Result<(Vec<u32>, usize)> {
            let mut ids = tokenizer.encode_one(&record.prompt)?;
            let prompt = ids.len();
            ids.extend(tokenizer.encode_words(&record.completion)?);
            ids.push(end);
            Ok((ids, prompt))
        };
        let all: Vec<(Vec<u32>, usize)> = records.par_iter().map(cut_into).collect::<Result<_>>()?;
        let read = all.len();
        let kept: Vec<(Vec<u32>, usize)> = all.into_iter().filter(|(_, prompt)| *prompt < max_len).collect();
        let cut = kept.iter().filter(|(ids, _)| ids.len() > max_len).count();
        let tokens = Tokens::new(kept.iter().map(|(ids, _)| &ids[..ids.len().min(max_len)]));
        let prompts: Vec<usize> = kept.iter().map(|(_, prompt)| *prompt).collect();
        if prompts.is_empty() {
            let problem =
                format!("no example whose prompt has fewer than {max_len} tokens, of {read}: raise max_len");
            return Err(Error::file(path, problem));
        }
        Ok(Examples { tokens, cut, skipped: read - prompts.len(), prompts })
    }

    pub(super) fn len(&self) -> usize {
        self.prompts.len()
    }

    pub(super) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Tokens of `rows` that count.
    pub(super) fn counted(&self, rows: &[u32]) -> usize {
        rows.iter().map(|&row| self.tokens.row_len(row as usize) - self.prompts[row as usize]).sum()
    }

    /// Examples side by side, and where in each the answer begins.
    pub(super) fn batch(&self, rows: &[u32]) -> (Batch, Vec<usize>) {
        (self.tokens.batch(rows), rows.iter().map(|&row| self.prompts[row as usize]).collect())
    }
}

fn records(path: &Path) -> Result<Vec<Record>> {
    let (mut lines, mut records) = (open_lines(path)?, Vec::new());
    while lines.advance()? {
        if lines.line().trim().is_empty() {
            continue;
        }
        let record: Record = serde_json::from_str(lines.line()).map_err(|_| {
            lines
                .error(lines.line(), "an object with the texts `prompt` and `completion`, as teach writes it")
        })?;
        if record.completion.trim().is_empty() {
            return Err(lines.error(lines.line(), "a `completion` that is not empty").into());
        }
        records.push(record);
    }
    if records.is_empty() {
        return Err(Error::file(path, "has no examples: expected lines with `prompt` and `completion`"));
    }
    Ok(records)
}
