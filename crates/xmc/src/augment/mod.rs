//! SKIM: which labels does a training matrix miss? A generator reads what is known of an item and writes texts as users
//! would; each text is replaced by its nearest real ones, and these pairs are added to the matrix.
//!
//! ```text
//! items, metadata   prompt        prompts
//! generate          an answer for every prompt, kept for ever in a cache
//! parse             answers to synthetic texts           Synthetic
//! embed, map        their nearest targets                Neighbours
//! build             the augmented matrix, and where each new pair comes from
//! validate          whether that helped
//! ```
//!
//! Source: Prakash et al., On the Necessity of World Knowledge for Mitigating Missing Labels in Extreme Classification,
//! KDD 2025.

pub mod agreement;
mod asking;
mod blocks;
pub mod build;
pub mod cache;
pub mod calibrate;
pub mod caps;
pub mod chat;
pub mod config;
mod dataset;
pub mod embed;
pub mod extractive;
pub mod files;
pub mod finetune;
pub mod hashed_words;
pub mod http;
pub mod invariants;
pub mod items;
mod keys;
pub mod language_model;
pub mod leaks;
pub mod map;
pub mod mapping;
mod mutual;
pub mod parse;
pub mod pipeline;
pub mod provenance;
pub mod questions;
pub mod recovery;
mod replay;
pub mod simulate;
pub mod statistics;
pub mod sweep;
pub mod teach;
pub mod template;
#[cfg(test)]
mod tests;
pub mod theory;
pub mod validate;

use serde::{Deserialize, Serialize};
use xmc_data::Strings;

use crate::error::Result;
pub use asking::Estimate;

/// Which side of the matrix synthetic texts are written for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Sources are labels, and their texts look like rows: targets are the training rows.
    #[default]
    Label,
    /// Sources are training rows, and their texts look like labels: targets are the labels.
    Instance,
}

/// Synthetic texts of all sources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Synthetic {
    /// All texts, source by source.
    pub texts: Strings,
    /// Texts `starts[i]..starts[i + 1]` belong to source i: one number more than there are sources.
    pub starts: Vec<u64>,
    /// For each text the part of the answer it stood in: 0 immediate, 1 above that (a category of a category).
    pub levels: Vec<u8>,
}

impl Synthetic {
    /// How many sources there are, with texts or without.
    pub fn sources(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Which texts source `i` has; none if there is no such source.
    pub fn of(&self, i: usize) -> std::ops::Range<usize> {
        match self.starts.get(i..i + 2) {
            Some(&[from, to]) => from as usize..to as usize,
            _ => 0..0,
        }
    }
}

/// The nearest targets of synthetic texts, the nearest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Neighbours {
    /// How many each text has.
    pub k: usize,
    /// Targets `[texts, k]`; -1 where there are fewer than `k`.
    pub ids: Vec<i32>,
    /// Their cosines `[texts, k]`.
    pub cosines: Vec<f32>,
}

/// What texts are written for.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Its name, or the number of its row.
    pub id: String,
    /// Its number among the sources.
    pub source: u32,
    /// Its own text.
    pub text: String,
    /// What else is known of it.
    pub meta: Option<Meta>,
}

/// What is known of an item, and too noisy to be an input: a line of the metadata file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Title of its page.
    pub title: Option<String>,
    /// Text of its page.
    pub body: Option<String>,
    /// Where the page is.
    pub url: Option<String>,
    /// Its own text, where that of the data shall not serve.
    pub text: Option<String>,
    /// Known counterparts: texts of rows for a label, names of labels for a row.
    pub known: Vec<String>,
}

/// A question to a generator.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Hash of all that the answer depends on: of two prompts with one key one is asked.
    pub key: String,
    /// Number of the item among the sources.
    pub source: u32,
    /// What a language model reads.
    pub text: String,
    /// What a generator without a language model reads.
    pub item: Item,
    /// For draws: the same for the same key, whatever else is asked.
    pub seed: u64,
}

/// What a generator wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The key of the prompt.
    pub key: String,
    /// Number of the item among the sources.
    pub source: u32,
    /// The answer as it came.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Tokens read; 0 if the generator has none.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub new_tokens: u64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finish {
    /// It is complete.
    Stop,
    /// It was as long as allowed: its last line may be half a line.
    Length,
    /// There is none; its text says why.
    Failed,
}

/// What writes synthetic texts.
pub trait Generate {
    /// Answers `prompts` in any order; `done` hears each answer once.
    ///
    /// # Errors
    /// If no further prompt can be answered, or `done` fails. An item that fails alone is an answer with
    /// [`Finish::Failed`].
    fn generate(
        &mut self,
        prompts: &mut dyn Iterator<Item = Prompt>,
        done: &mut dyn FnMut(Answer) -> Result<()>,
    ) -> Result<()>;
}
