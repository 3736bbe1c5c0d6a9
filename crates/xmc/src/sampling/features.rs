//! What does a label look like when it is hashed? A vector of length 1, sparse or dense.

use std::path::Path;

use xmc_data::formats::npy;
use xmc_data::text::{AnalyzerKind, Kind, Vectorizer, VectorizerConfig};
use xmc_data::{Csr, Dense, Strings};

use super::volume::membership;
use crate::error::{Error, Result};

/// Columns of words, and of characters.
const COLUMNS: u32 = 1 << 17;

/// Vectors of all labels `[L, d]`, each of length 1 or 0.
#[derive(Clone, Debug)]
pub enum LabelFeatures {
    /// Words and characters.
    Sparse(Csr),
    /// Embeddings.
    Dense(Dense),
}

impl LabelFeatures {
    /// Words and runs of 3 to 5 characters of `names`, hashed to 2^18 columns, weighed by their rarity.
    pub fn tfidf(names: &Strings) -> Result<Self> {
        let hashing = VectorizerConfig { kind: Kind::Hashing, n_features: COLUMNS, ..Default::default() };
        let characters =
            VectorizerConfig { analyzer: AnalyzerKind::CharWb, ngram_range: [3, 5], ..hashing.clone() };
        let (_, mut x) = Vectorizer::fit(&[hashing, characters], names)?;
        weigh_by_rarity(&mut x);
        x.normalize_rows();
        Ok(LabelFeatures::Sparse(x))
    }

    /// Single words and pairs of words of `names`, as sets: what minhash compares.
    pub fn words(names: &Strings) -> Result<Self> {
        let words = VectorizerConfig {
            kind: Kind::Hashing,
            n_features: i32::MAX as u32,
            ngram_range: [1, 2],
            ..Default::default()
        };
        Ok(LabelFeatures::Sparse(Vectorizer::fit(&[words], names)?.1))
    }

    /// The rows of a `.npy` file, one for each of `num_labels` labels.
    pub fn file(path: &Path, num_labels: usize) -> Result<Self> {
        let rows = npy::read_dense(path)?;
        if rows.rows() != num_labels {
            let found = rows.rows();
            return Err(Error::file(
                path,
                format!("{found} rows, but {num_labels} labels: one row for each"),
            ));
        }
        Self::dense(rows.rows(), rows.cols(), rows.values().to_vec())
    }

    /// Embeddings `[L, d]`, row after row; scaled here.
    pub fn dense(num_labels: usize, d: usize, mut values: Vec<f32>) -> Result<Self> {
        for row in values.chunks_exact_mut(d.max(1)) {
            let norm = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
            if norm > 0.0 {
                for v in row {
                    *v = (f64::from(*v) / norm) as f32;
                }
            }
        }
        Ok(LabelFeatures::Dense(Dense::new(num_labels, d, values)?))
    }

    /// Number of labels L.
    pub fn rows(&self) -> usize {
        match self {
            LabelFeatures::Sparse(x) => x.rows(),
            LabelFeatures::Dense(x) => x.rows(),
        }
    }

    /// Number of features d.
    pub fn cols(&self) -> usize {
        match self {
            LabelFeatures::Sparse(x) => x.cols(),
            LabelFeatures::Dense(x) => x.cols(),
        }
    }

    /// Calls `sink(column, value)` for what label `l` has.
    #[inline]
    pub(super) fn each(&self, l: usize, mut sink: impl FnMut(usize, f32)) {
        match self {
            LabelFeatures::Sparse(x) => x.row(l).iter().for_each(|(c, v)| sink(c as usize, v)),
            LabelFeatures::Dense(x) => x.row(l).iter().enumerate().for_each(|(c, &v)| sink(c, v)),
        }
    }

    /// Which columns any label has `[d]`.
    pub(super) fn columns_in_use(&self) -> Vec<bool> {
        match self {
            LabelFeatures::Sparse(x) => membership(x.indices(), x.cols()),
            LabelFeatures::Dense(x) => vec![true; x.cols()],
        }
    }

    /// Mean of all labels `[d]`.
    pub(super) fn mean(&self) -> Vec<f64> {
        let mut mean = vec![0f64; self.cols()];
        for l in 0..self.rows() {
            self.each(l, |c, v| mean[c] += f64::from(v));
        }
        let n = self.rows().max(1) as f64;
        for sum in &mut mean {
            *sum /= n;
        }
        mean
    }
}

/// Multiplies a column that `df` of n rows have by ln((n + 1) / (df + 1)) + 1.
fn weigh_by_rarity(x: &mut Csr) {
    let mut df = vec![0u32; x.cols()];
    for &c in x.indices() {
        df[c as usize] += 1;
    }
    let n = x.rows() as f64 + 1.0;
    let idf: Vec<f32> = df.iter().map(|&df| ((n / (f64::from(df) + 1.0)).ln() + 1.0) as f32).collect();
    let columns = x.indices().to_vec();
    for (value, &c) in x.values_mut().iter_mut().zip(&columns) {
        *value *= idf[c as usize];
    }
}
