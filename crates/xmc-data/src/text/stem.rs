//! How does a word become its stem, and what does that cost the second time?
//!
//! Snowball stemmers of 18 languages. Stemming costs about as much as all other work on a word, so each scratch
//! remembers the stems it has seen: a known word costs one look-up and no allocation.

use rust_stemmers::{Algorithm, Stemmer};
use serde::{Deserialize, Serialize};

use super::intern::Interner;

/// Words remembered before the memory is emptied: more than the working vocabulary of most text, about 5 MB.
const REMEMBERED: usize = 1 << 16;

/// Language of a Snowball stemmer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each variant is the language it names")]
pub enum Stem {
    /// Words stay as they are.
    None,
    Arabic,
    Danish,
    Dutch,
    English,
    Finnish,
    French,
    German,
    Greek,
    Hungarian,
    Italian,
    Norwegian,
    Portuguese,
    Romanian,
    Russian,
    Spanish,
    Swedish,
    Tamil,
    Turkish,
}

impl Stem {
    /// As it is written in a configuration.
    pub fn name(self) -> String {
        format!("{self:?}").to_lowercase()
    }

    /// The stemmer of the language.
    pub(super) fn stemmer(self) -> Option<Stemmer> {
        let algorithm = match self {
            Stem::None => return None,
            Stem::Arabic => Algorithm::Arabic,
            Stem::Danish => Algorithm::Danish,
            Stem::Dutch => Algorithm::Dutch,
            Stem::English => Algorithm::English,
            Stem::Finnish => Algorithm::Finnish,
            Stem::French => Algorithm::French,
            Stem::German => Algorithm::German,
            Stem::Greek => Algorithm::Greek,
            Stem::Hungarian => Algorithm::Hungarian,
            Stem::Italian => Algorithm::Italian,
            Stem::Norwegian => Algorithm::Norwegian,
            Stem::Portuguese => Algorithm::Portuguese,
            Stem::Romanian => Algorithm::Romanian,
            Stem::Russian => Algorithm::Russian,
            Stem::Spanish => Algorithm::Spanish,
            Stem::Swedish => Algorithm::Swedish,
            Stem::Tamil => Algorithm::Tamil,
            Stem::Turkish => Algorithm::Turkish,
        };
        Some(Stemmer::create(algorithm))
    }
}

/// Words seen so far and their stems.
#[derive(Debug)]
pub(super) struct Stems {
    language: Stem,
    words: Interner,
    /// Stem of each word, one after another, and where each ends.
    text: String,
    ends: Vec<usize>,
}

impl Default for Stems {
    fn default() -> Self {
        Stems { language: Stem::None, words: Interner::default(), text: String::new(), ends: Vec::new() }
    }
}

impl Stems {
    /// The stem of `word` in `language`, remembered or made now.
    pub(super) fn of(&mut self, language: Stem, stemmer: &Stemmer, word: &str) -> &str {
        if self.ends.len() >= REMEMBERED || self.language != language {
            self.language = language;
            self.words.clear();
            self.text.clear();
            self.ends.clear();
        }
        let id = self.words.intern(word.as_bytes()) as usize;
        if id == self.ends.len() {
            self.text.push_str(&stemmer.stem(word));
            self.ends.push(self.text.len());
        }
        let start = if id == 0 { 0 } else { self.ends[id - 1] };
        &self.text[start..self.ends[id]]
    }
}
