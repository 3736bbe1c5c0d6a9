//! How are labels scored that something else has chosen? A query is prepared once; then any rows can be asked for.
//!
//! The coarse score of an int8 matrix is that of its codes, and off by at most [`Query::error`] (see
//! [`bound`](super::bound)); of all others it is the exact score. Exact scores have the bits that
//! [`search`](super::search()) gives them.

use xmc_nn::Precision;

use super::bound::Bound;
use super::embeddings::{LabelEmbeddings, Values};
use super::kernels;
use super::quantize;
use crate::error::{Error, Result};

/// A query and its codes; its buffers are used again by the next one.
#[derive(Debug, Default)]
pub(crate) struct Query {
    values: Vec<f32>,
    codes: Vec<i16>,
    scale: f32,
    bound: Option<Bound>,
    sums: Vec<i32>,
}

impl Query {
    /// Takes `x`, with a 1 behind it for the bias, as the query for rows of `labels`.
    pub(crate) fn set_with_one(&mut self, x: &[f32], labels: &LabelEmbeddings) -> Result<()> {
        self.values.clear();
        self.values.extend_from_slice(x);
        self.values.push(1.0);
        if self.values.len() != labels.dim() {
            let (found, expected) = (x.len(), labels.dim() - 1);
            return Err(Error::Mismatch(format!(
                "an embedding of {found} values, the model expects {expected}"
            )));
        }
        if !quantize::representable(&self.values) {
            let largest = quantize::LARGEST;
            return Err(Error::Mismatch(format!(
                "an embedding has values that are not numbers, or are beyond {largest:e}"
            )));
        }
        self.codes.clear();
        self.bound = matches!(labels.values, Values::Int8 { .. }).then(|| {
            let (bound, scale) = Bound::coded(&self.values, &mut self.codes);
            self.scale = scale;
            bound
        });
        Ok(())
    }

    /// How far the coarse score of a label of this norm and residual is off at most.
    fn error(&self, norm: f32, residual: f32) -> f32 {
        self.bound.map_or(0.0, |bound| bound.error(norm, residual))
    }
}

impl LabelEmbeddings {
    /// Coarse scores of all rows, and how far any of them is off at most.
    pub(crate) fn coarse(&self, query: &mut Query, scores: &mut Vec<f32>) -> f32 {
        scores.resize(self.rows(), 0.0);
        let Values::Int8 { codes, scales, .. } = &self.values else {
            self.scores(&query.values, 0, scores);
            return 0.0;
        };
        query.sums.resize(self.rows(), 0);
        kernels::dots_codes(&query.codes, codes, &mut query.sums);
        kernels::scaled(&query.sums, scales, query.scale, scores);
        let (norm, residual) = self.largest(&(0..self.rows()));
        query.error(norm, residual)
    }

    /// How far a score is off at most that is made by products in `precision`.
    pub(crate) fn product_error(&self, query: &Query, precision: Precision) -> f32 {
        let bound = Bound::of_products(&query.values, precision, self.dtype());
        let (norm, residual) = self.largest(&(0..self.rows()));
        bound.error(norm, residual)
    }

    /// Coarse scores of `chosen` rows, and for each how far it is off at most.
    pub(crate) fn coarse_of(
        &self,
        query: &mut Query,
        chosen: &[u32],
        scores: &mut Vec<f32>,
        errors: &mut Vec<f32>,
    ) {
        let Values::Int8 { codes, scales, .. } = &self.values else {
            self.exact_of(query, chosen, scores);
            errors.clear();
            errors.resize(chosen.len(), 0.0);
            return;
        };
        query.sums.resize(chosen.len(), 0);
        let sums = &mut query.sums[..chosen.len()];
        kernels::dots_codes_at(&query.codes, codes, chosen, sums);
        scores.clear();
        scores.extend(
            chosen.iter().zip(&*sums).map(|(&i, &sum)| sum as f32 * (query.scale * scales[i as usize])),
        );
        errors.clear();
        errors
            .extend(chosen.iter().map(|&i| query.error(self.norms[i as usize], self.residuals[i as usize])));
    }

    /// Exact scores of `chosen` rows, in their order.
    pub(crate) fn exact_of(&self, query: &Query, chosen: &[u32], scores: &mut Vec<f32>) {
        scores.clear();
        scores.resize(chosen.len(), 0.0);
        self.scores_at(&query.values, chosen, scores);
    }
}

#[cfg(test)]
mod tests {
    use xmc_nn::{Device, Tensor};

    use super::*;
    use crate::index::{Dtype, Filter, search};

    #[test]
    fn chosen_rows_have_the_scores_of_a_search_and_coarse_ones_are_near() {
        let (rows, dim) = (301, 38);
        let value = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 500.0 - 1.0;
        let y: Vec<f32> = (0..rows * dim).map(value).collect();
        let x: Vec<f32> = (0..dim - 1).map(|i| value(i * 31 + 5) * 3.0).collect();
        let with_one = Tensor::from_host(1, dim, [&x[..], &[1.0]].concat(), Device::Cpu).unwrap();
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::Int8] {
            let labels = LabelEmbeddings::from_values(dim, &y, dtype).unwrap();
            let found = search(&with_one, &labels, rows, &Filter::none()).unwrap();
            let chosen: Vec<u32> = found.row(0).iter().step_by(3).map(|&(id, _)| id).collect();
            let exact: Vec<f32> = found.row(0).iter().step_by(3).map(|&(_, score)| score).collect();
            let (mut query, mut scores, mut errors) = (Query::default(), Vec::new(), Vec::new());
            query.set_with_one(&x, &labels).unwrap();
            labels.exact_of(&query, &chosen, &mut scores);
            assert_eq!(scores, exact);
            labels.coarse_of(&mut query, &chosen, &mut scores, &mut errors);
            let largest = labels.largest(&(0..rows));
            for ((score, exact), error) in scores.iter().zip(&exact).zip(&errors) {
                assert!((score - exact).abs() <= *error, "{dtype}");
                assert!(*error <= query.error(largest.0, largest.1));
            }
            let mut all = Vec::new();
            let error = labels.coarse(&mut query, &mut all);
            for (&id, score) in chosen.iter().zip(&scores) {
                assert!((all[id as usize] - score).abs() <= 1e-6, "{dtype}");
            }
            assert_eq!(error == 0.0, dtype != Dtype::Int8);
        }
        let labels = LabelEmbeddings::from_values(dim, &y, Dtype::F32).unwrap();
        assert!(Query::default().set_with_one(&x[1..], &labels).is_err());
        assert!(Query::default().set_with_one(&[f32::NAN; 37], &labels).is_err());
    }
}
