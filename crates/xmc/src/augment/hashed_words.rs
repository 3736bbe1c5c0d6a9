//! How does a text become an embedding without an encoder?
//!
//! Every word and every run of 3 to 5 characters has a direction of its own, signs drawn from its hash; a text is the sum
//! of them, scaled to length 1. Cosines of two texts are then about those of their bags of words, within 1/sqrt(d), and
//! texts of the same words in any order have cosine 1. Nothing is learned and nothing is stored.
//!
//! *Useful for* tests, and for texts that share words with what they should find. *Not for* meaning: a synonym is another
//! direction. O(d) additions a word.

use rayon::prelude::*;
use xmc_data::Strings;
use xmc_data::csr::Row;
use xmc_data::text::{AnalyzerKind, Kind, Vectorizer, VectorizerConfig};
use xmc_nn::{Device, Tensor};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::error::{Error, Result};

/// Columns that words and runs of characters are hashed to first.
const COLUMNS: u32 = 1 << 24;

/// Signs in a hash.
const SIGNS: usize = 64;

/// Embeds texts by their words.
pub struct HashedWords {
    vectorizer: Vectorizer,
    dim: usize,
}

impl HashedWords {
    /// Embeddings of `dim` values, a multiple of 64.
    pub fn new(dim: usize) -> Result<Self> {
        if dim == 0 || !dim.is_multiple_of(SIGNS) || dim > 1 << 16 {
            return Err(Error::Mismatch(format!(
                "embeddings of {dim} values: hashed words need a multiple of 64, at most 65536"
            )));
        }
        let words = VectorizerConfig { kind: Kind::Hashing, n_features: COLUMNS, ..Default::default() };
        let characters =
            VectorizerConfig { analyzer: AnalyzerKind::CharWb, ngram_range: [3, 5], ..words.clone() };
        // Hashing learns nothing of the texts that it is fitted to, but wants one.
        let (vectorizer, _) = Vectorizer::fit(&[words, characters], &Strings::new(["text"]))?;
        Ok(HashedWords { vectorizer, dim })
    }

    /// Values d of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Embeddings `[n, d]`, each of length 1, or 0 for a text without words.
    pub fn embed(&self, texts: &Strings) -> Result<Tensor> {
        let x = self.vectorizer.transform(texts);
        let mut values = vec![0f32; x.rows() * self.dim];
        values.par_chunks_mut(self.dim).enumerate().for_each(|(i, sum)| add(x.row(i), sum));
        Ok(Tensor::from_host(x.rows(), self.dim, values, Device::Cpu)?)
    }
}

/// Adds the direction of each column, as often as `row` says.
fn add(row: Row<'_>, sum: &mut [f32]) {
    for (column, value) in row.iter() {
        for (part, place) in sum.chunks_exact_mut(SIGNS).zip(0u64..) {
            let signs = xxh3_64_with_seed(&column.to_le_bytes(), place);
            for (bit, v) in part.iter_mut().enumerate() {
                *v += if signs >> bit & 1 == 1 { value } else { -value };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &[f32], b: &[f32]) -> f64 {
        let dot = |x: &[f32], y: &[f32]| -> f64 {
            x.iter().zip(y).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
        };
        dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
    }

    #[test]
    fn cosines_say_how_many_words_are_shared() {
        let words = HashedWords::new(512).unwrap();
        let texts = ["the tidal harbour", "Harbour Tidal THE", "the tidal lake", "quick brown fox", ""];
        let e = words.embed(&Strings::new(texts)).unwrap();
        let row = |i: usize| &e.host()[i * 512..(i + 1) * 512];
        assert!((cosine(row(0), row(1)) - 1.0).abs() < 1e-5, "order and case do not count");
        let (some, none) = (cosine(row(0), row(2)), cosine(row(0), row(3)));
        assert!(some > 0.4 && some < 0.9 && none.abs() < 0.2, "{some} {none}");
        assert!(row(4).iter().all(|&v| v == 0.0));
    }

    #[test]
    fn a_width_that_cannot_be_is_refused() {
        assert!(HashedWords::new(100).err().unwrap().to_string().contains("multiple of 64"));
    }
}
