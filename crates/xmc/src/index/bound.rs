//! Why does a coarse first pass lose no label?
//!
//! The first pass multiplies coarse forms x~ of the query and y~ of the label: rounded to bf16, or codes times a scale.
//! With r = |x - x~|, rho = |y - y~| and X = |x| + r, which bounds |x~|:
//!
//! ```text
//! x.y - x~.y~ = (x - x~).y + x~.(y - y~)
//! |x.y - x~.y~| <= r |y| + X rho                                     (Cauchy-Schwarz)
//! rounding of m products and sums in f32, in any order:  <= m u X (|y| + rho),  u = 2^-24, once here, once in the exact score
//! e(x, y) = (r + c X) |y| + (1 + c) X rho + t,   c = 2 (m + 32) u,   t for factors and products that underflow
//! ```
//! m is 2 d, more than is needed, so that the rounding of e itself is covered; products in f32 may be sums of six
//! products of bf16 parts, without what is below 2^-24 of a factor, so there m is 6 d. r and rho are measured, not estimated: for embeddings in bf16 rho is 0, for f32 about 0.0017 |y|, a third of the worst
//! case. Each label of approximate score a has its exact score s in `[a - e, a + e]`. The k-th largest `a - e` seen so
//! far is a floor that the k-th best exact score cannot be below, so a label with `a + e` below the floor is not among
//! the best k. All others are kept and ranked by exact score: the answer is that of brute force, ties included.

use xmc_nn::Precision;

use super::quantize::{Dtype, distance, from_bf16, norm, query_codes, to_bf16, up};

/// The error as the query sees it: `e = per_norm * |y| + per_residual * rho + tiny`.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    per_norm: f32,
    per_residual: f32,
    tiny: f32,
}

impl Bound {
    /// For a query whose coarse form is `residual` away, and `sums` products for each of `d` dimensions.
    fn new(query: &[f32], residual: f64, sums: usize) -> Self {
        let (d, norm) = (query.len(), norm(query.iter().copied()));
        let c = (sums * d + 32) as f64 * f64::from(f32::EPSILON);
        let flushed = 4.0 * d as f64 * f64::from(f32::MIN_POSITIVE);
        let (residual, x) = (residual + flushed, norm + residual + flushed);
        Bound {
            per_norm: up(residual + c * x),
            per_residual: up(x * (1.0 + c)),
            // A flushed value of the label meets |x~|.
            tiny: up(flushed * (1.0 + x)),
        }
    }

    /// For products of labels in `dtype` in `precision`.
    pub(super) fn of_products(query: &[f32], precision: Precision, dtype: Dtype) -> Self {
        match (precision, dtype) {
            (Precision::F32, _) => Bound::exact(query),
            (Precision::Bf16, Dtype::F32) => Bound::rounded(query),
            (Precision::Bf16, Dtype::Bf16 | Dtype::Int8) => Bound::rounded(query).of_exact_labels(),
        }
    }

    /// For factors as exact as f32, on both sides.
    fn exact(query: &[f32]) -> Self {
        Bound::new(query, 0.0, 6).of_exact_labels()
    }

    /// For a query rounded to bf16.
    fn rounded(query: &[f32]) -> Self {
        let coarse = query.iter().map(|&v| f64::from(from_bf16(to_bf16(v))));
        Bound::new(query, distance(query, coarse), 2)
    }

    /// For a query in codes, which are appended to `codes`; returns their scale too.
    pub(super) fn coded(query: &[f32], codes: &mut Vec<i16>) -> (Self, f32) {
        // |sum| <= d * most * 127 must fit i32.
        let d = i32::try_from(query.len()).unwrap_or(i32::MAX).max(1);
        let most = (i32::MAX / 127 / d).clamp(1, 2047) as i16;
        let start = codes.len();
        let scale = query_codes(query, most, codes);
        let coarse = codes[start..].iter().map(|&c| f64::from(c) * f64::from(scale));
        (Bound::new(query, distance(query, coarse), 2), scale)
    }

    /// The same if labels are multiplied in their exact form.
    fn of_exact_labels(self) -> Self {
        Bound { per_residual: 0.0, ..self }
    }

    /// Largest distance of approximate and exact score for labels of at most this norm and residual.
    pub(super) fn error(&self, norm: f32, residual: f32) -> f32 {
        (self.per_norm * norm + self.per_residual * residual) * (1.0 + 8.0 * f32::EPSILON) + self.tiny
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::index::LabelEmbeddings;

    fn exact(x: &[f32], y: impl Iterator<Item = f64>) -> f64 {
        x.iter().zip(y).map(|(&x, y)| f64::from(x) * y).sum()
    }

    fn row() -> impl Strategy<Value = Vec<f32>> {
        let value = prop_oneof![-1.0f32..1.0, -1e4f32..1e4, -1e-30f32..1e-30, Just(1.003_906_2), Just(0.0)];
        vec(value, 33)
    }

    proptest! {
        #[test]
        fn no_product_of_coarse_forms_is_farther_off_than_the_bound(x in row(), y in row()) {
            let half = |v: &f32| from_bf16(to_bf16(*v));
            let rounded: Vec<f32> = x.iter().map(half).collect();
            let mut codes = Vec::new();
            let (coded, scale) = Bound::coded(&x, &mut codes);
            let coded_x: Vec<f32> = codes.iter().map(|&c| f32::from(c) * scale).collect();
            for dtype in [Dtype::F32, Dtype::Bf16, Dtype::Int8] {
                let labels = LabelEmbeddings::from_values(33, &y, dtype).unwrap();
                let truth = exact(&x, labels.row(0).iter().map(|&v| v.into()));
                let coarse: Vec<f64> = match &labels.values {
                    crate::index::embeddings::Values::Int8 { codes, scales, .. } => {
                        codes.iter().map(|&c| f64::from(c) * f64::from(scales[0])).collect()
                    }
                    _ => y.iter().map(|v| half(v).into()).collect(),
                };
                let (norm, residual) = (labels.norms[0], labels.residuals[0]);
                for (bound, x) in [(Bound::rounded(&x), &rounded), (coded, &coded_x)] {
                    let error = (exact(x, coarse.iter().copied()) - truth).abs();
                    prop_assert!(error <= f64::from(bound.error(norm, residual)), "{dtype} {error:e}");
                }
            }
        }
    }
}
