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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Stem; 18] = [
        Stem::Arabic,
        Stem::Danish,
        Stem::Dutch,
        Stem::English,
        Stem::Finnish,
        Stem::French,
        Stem::German,
        Stem::Greek,
        Stem::Hungarian,
        Stem::Italian,
        Stem::Norwegian,
        Stem::Portuguese,
        Stem::Romanian,
        Stem::Russian,
        Stem::Spanish,
        Stem::Swedish,
        Stem::Tamil,
        Stem::Turkish,
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_word_makes_a_stemmer_panic(
            word in "(\\PC|[a-zäéßøğış'yqu]|[а-яё]|[α-ωάς]|[ء-ي\u{64b}-\u{652}]|[அ-ஹா-்]|ungen|keit|lar){1,12}",
        ) {
            for language in ALL {
                language.stemmer().unwrap().stem(&word);
            }
        }
    }

    #[test]
    fn a_known_word_has_the_same_stem_again_and_another_language_starts_afresh() {
        let (english, german) = (Stem::English.stemmer().unwrap(), Stem::German.stemmer().unwrap());
        let mut stems = Stems::default();
        for _ in 0..2 {
            assert_eq!(stems.of(Stem::English, &english, "rivers"), "river");
            assert_eq!(stems.of(Stem::English, &english, "bücher"), "bücher");
        }
        assert_eq!(stems.of(Stem::German, &german, "bücher"), "buch");
    }

    #[test]
    fn the_memory_of_stems_is_bounded() {
        let english = Stem::English.stemmer().unwrap();
        let mut stems = Stems::default();
        for i in 0..REMEMBERED + 10 {
            assert_eq!(stems.of(Stem::English, &english, &format!("{i}")), format!("{i}"));
        }
        assert_eq!(stems.ends.len(), 10);
    }
}
