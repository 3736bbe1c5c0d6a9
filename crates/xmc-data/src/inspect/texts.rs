//! How long are the texts, and which are empty or repeated?
//!
//! Repeats are found by 128-bit hashes: 16 bytes a text, and a wrong answer less likely than a failing disk.
//! O(bytes + n log n), parallel.

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_128;

use super::spread::{Bin, Spread, doubling_bins};
use crate::strings::Strings;

/// The texts of one side of the split.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TextReport {
    /// Texts without a character that is not a space.
    pub empty: u64,
    /// Texts equal to that of an earlier row; empty ones not counted.
    pub duplicates: u64,
    /// Characters of a text.
    pub characters: Spread,
    /// Characters of a text, in bins.
    pub character_bins: Vec<Bin>,
    /// Words (runs without white space) of a text.
    pub words: Spread,
    /// Words of a text, in bins.
    pub word_bins: Vec<Bin>,
    /// Bytes of the texts in memory.
    pub bytes: u64,
}

/// Sorted hashes of the texts that are not empty, for finding repeats.
#[derive(Debug)]
pub(super) struct TextHashes(Vec<u128>);

impl TextHashes {
    /// Of texts in any order.
    pub(super) fn new<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut hashes: Vec<u128> =
            texts.filter(|text| !text.trim().is_empty()).map(|text| xxh3_128(text.as_bytes())).collect();
        hashes.sort_unstable();
        TextHashes(hashes)
    }

    /// Texts that repeat an earlier one.
    pub(super) fn duplicates(&self) -> u64 {
        self.0.array_windows().filter(|[a, b]| a == b).count() as u64
    }

    /// Texts of `self` that `other` holds too.
    pub(super) fn also_in(&self, other: &TextHashes) -> u64 {
        self.0.iter().filter(|hash| other.0.binary_search(hash).is_ok()).count() as u64
    }
}

/// Describes the texts of one side; `hashes` are theirs.
pub(super) fn inspect_texts(texts: &Strings, hashes: &TextHashes) -> TextReport {
    let (characters, words): (Vec<u32>, Vec<u32>) = (0..texts.len())
        .into_par_iter()
        .map(|i| {
            let text = texts.get(i);
            (text.chars().count() as u32, text.split_whitespace().count() as u32)
        })
        .unzip();
    TextReport {
        empty: words.iter().filter(|&&n| n == 0).count() as u64,
        duplicates: hashes.duplicates(),
        character_bins: doubling_bins(&characters),
        characters: Spread::of(characters),
        word_bins: doubling_bins(&words),
        words: Spread::of(words),
        bytes: texts.bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(texts: &[&str]) -> TextReport {
        inspect_texts(&Strings::new(texts), &TextHashes::new(texts.iter().copied()))
    }

    #[test]
    fn lengths_are_counted_in_characters_and_words() {
        let r = report(&["Köln am Rhein", "a"]);
        assert_eq!((r.characters.max, r.words.max, r.words.min), (13.0, 3.0, 1.0));
        assert_eq!(r.word_bins.iter().map(|b| b.rows).collect::<Vec<_>>(), [0, 1, 1]);
    }

    #[test]
    fn empty_texts_are_not_duplicates_of_each_other() {
        let r = report(&["", " \t", "sea", "sea", "sea", ""]);
        assert_eq!((r.empty, r.duplicates), (3, 2));
    }

    #[test]
    fn repeats_across_two_sides_count_each_row() {
        let (train, test) = (["a", "b", ""], ["b", "b", "c", ""]);
        let hashes = |texts: &[&'static str]| TextHashes::new(texts.iter().copied());
        assert_eq!(hashes(&test).also_in(&hashes(&train)), 2);
    }
}
