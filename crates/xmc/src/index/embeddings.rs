//! The label matrix `[l, d]`, in memory or mapped.

use std::borrow::Cow;
use std::ops::Range;

use xmc_data::Buffer;

use super::kernels;
use super::quantize::{self, Dtype, from_bf16, to_bf16, up};
use crate::error::{Error, Result};

/// Embeddings of all labels, in the order of their ids.
#[derive(Clone, Debug)]
pub struct LabelEmbeddings {
    pub(super) dim: usize,
    pub(super) values: Values,
    /// `[l]` norms of the labels, rounded up.
    pub(super) norms: Buffer<f32>,
    /// `[l]` norms of what the coarse form lacks, rounded up: bf16 beside f32, codes beside int8, nothing beside bf16.
    pub(super) residuals: Buffer<f32>,
}

/// The rows, one after the other.
#[derive(Clone, Debug)]
pub(super) enum Values {
    F32(Buffer<f32>),
    Bf16(Buffer<u16>),
    Int8 { codes: Buffer<i8>, scales: Buffer<f32>, exact: Buffer<u16> },
}

/// Some rows in the form in which they are stored.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    pub(super) floats: Vec<f32>,
    pub(super) halves: Vec<u16>,
    pub(super) codes: Vec<i8>,
    pub(super) scales: Vec<f32>,
    pub(super) norms: Vec<f32>,
    pub(super) residuals: Vec<f32>,
}

impl Encoded {
    /// Adds rows of `dim` values; `first` is the label of the first one, for messages.
    pub(super) fn push(&mut self, dim: usize, values: &[f32], dtype: Dtype, first: usize) -> Result<()> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(Error::Mismatch(format!("{} values are not whole rows of {dim}", values.len())));
        }
        for (i, row) in values.chunks_exact(dim).enumerate() {
            if !quantize::representable(row) {
                return Err(Error::Mismatch(format!(
                    "label {}: its embedding has values that are not numbers, or are beyond {:e}",
                    first + i,
                    quantize::LARGEST
                )));
            }
            self.push_row(row, dtype);
        }
        Ok(())
    }

    fn push_row(&mut self, row: &[f32], dtype: Dtype) {
        let halves = row.iter().map(|&v| to_bf16(v));
        if dtype == Dtype::F32 {
            self.floats.extend_from_slice(row);
            self.norms.push(up(quantize::norm(row.iter().copied())));
            self.residuals.push(up(quantize::distance(row, halves.map(|h| from_bf16(h).into()))));
            return;
        }
        let exact: Vec<f32> = halves.clone().map(from_bf16).collect();
        self.halves.extend(halves);
        self.norms.push(up(quantize::norm(exact.iter().copied())));
        if dtype == Dtype::Bf16 {
            self.residuals.push(0.0);
            return;
        }
        let start = self.codes.len();
        let scale = quantize::codes(&exact, &mut self.codes);
        let coarse = self.codes[start..].iter().map(|&c| f64::from(c) * f64::from(scale));
        self.scales.push(scale);
        self.residuals.push(up(quantize::distance(&exact, coarse)));
    }
}

impl LabelEmbeddings {
    /// Takes rows of `dim` values into memory.
    pub fn from_values(dim: usize, values: &[f32], dtype: Dtype) -> Result<Self> {
        let mut rows = Encoded::default();
        rows.push(dim, values, dtype, 0)?;
        let values = match dtype {
            Dtype::F32 => Values::F32(rows.floats.into()),
            Dtype::Bf16 => Values::Bf16(rows.halves.into()),
            Dtype::Int8 => Values::Int8 {
                codes: rows.codes.into(),
                scales: rows.scales.into(),
                exact: rows.halves.into(),
            },
        };
        Ok(LabelEmbeddings { dim, values, norms: rows.norms.into(), residuals: rows.residuals.into() })
    }

    /// Number of labels l.
    pub fn rows(&self) -> usize {
        self.norms.len()
    }

    /// Dimensions d of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How they are stored.
    pub fn dtype(&self) -> Dtype {
        match self.values {
            Values::F32(_) => Dtype::F32,
            Values::Bf16(_) => Dtype::Bf16,
            Values::Int8 { .. } => Dtype::Int8,
        }
    }

    /// Bytes of all arrays.
    pub fn bytes(&self) -> u64 {
        let bytes = match &self.values {
            Values::F32(v) => 4 * v.len(),
            Values::Bf16(v) => 2 * v.len(),
            Values::Int8 { codes, scales, exact } => codes.len() + 4 * scales.len() + 2 * exact.len(),
        };
        (bytes + 4 * (self.norms.len() + self.residuals.len())) as u64
    }

    /// The embedding of label `i`, `[d]`, as scores are computed from it.
    ///
    /// # Panics
    /// If `i >= rows()`.
    pub fn row(&self, i: usize) -> Cow<'_, [f32]> {
        let range = i * self.dim..(i + 1) * self.dim;
        match &self.values {
            Values::F32(v) => Cow::Borrowed(&v[range]),
            Values::Bf16(v) | Values::Int8 { exact: v, .. } => {
                Cow::Owned(v[range].iter().map(|&h| from_bf16(h)).collect())
            }
        }
    }

    /// Largest norm and residual of some labels.
    pub(super) fn largest(&self, range: &Range<usize>) -> (f32, f32) {
        let largest = |values: &[f32]| values[range.clone()].iter().fold(0f32, |max, v| max.max(*v));
        (largest(&self.norms), largest(&self.residuals))
    }

    /// Exact scores of `query` with the labels from `start`, as many as `scores` has room for.
    pub(super) fn scores(&self, query: &[f32], start: usize, scores: &mut [f32]) {
        let range = start * self.dim..(start + scores.len()) * self.dim;
        match &self.values {
            Values::F32(v) => kernels::dots(query, &v[range], scores),
            Values::Bf16(v) | Values::Int8 { exact: v, .. } => kernels::dots_bf16(query, &v[range], scores),
        }
    }

    /// Exact scores of some labels, in their order.
    pub(super) fn scores_of(&self, query: &[f32], chosen: &[u32]) -> Vec<f32> {
        let mut scores = vec![0.0; chosen.len()];
        self.scores_at(query, chosen, &mut scores);
        scores
    }

    /// The same into `scores`, one for each label.
    pub(super) fn scores_at(&self, query: &[f32], chosen: &[u32], scores: &mut [f32]) {
        match &self.values {
            Values::F32(v) => kernels::dots_at(query, v, chosen, scores),
            Values::Bf16(v) | Values::Int8 { exact: v, .. } => {
                kernels::dots_bf16_at(query, v, chosen, scores);
            }
        }
    }
}
