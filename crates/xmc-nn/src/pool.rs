//! How does a text become one vector? Its tokens are pooled, and the vector is given length 1.
//!
//!   mean: h = sum of x[token] / tokens        cls: h = x[first token]        pooler: as cls, then tanh(W h + b)
//!   e = h / max(|h|, 1e-12),   dh = (de - e (e . de)) / |h|
//!
//! ```
//! use xmc_nn::pool::{Pooling, normalize};
//! let mut h = [0.0; 2];
//! Pooling::Mean.forward(&[1.0, 6.0, 5.0, 2.0], &mut h); // two tokens, two columns
//! assert_eq!(h, [3.0, 4.0]);
//! assert_eq!(normalize(&mut h), 5.0);
//! assert_eq!(h, [0.6, 0.8]);
//! ```

use serde::{Deserialize, Serialize};

use crate::ops::reduce::{axpy, column_sums, dot, scale, sum_squares};

/// Vectors shorter than this are divided by it.
const SHORTEST: f32 = 1e-12;

/// Which hidden states of a text count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pooling {
    /// The mean of all tokens.
    #[default]
    Mean,
    /// The first token, `[CLS]` or `<s>`.
    Cls,
    /// The first token, then the layer with parameters that was trained with it: tanh(W h + b), as BERT's pooler.
    Pooler,
}

impl Pooling {
    /// `h [cols]` from the hidden states `x [tokens, cols]` of one sequence; the layer of [`Pooling::Pooler`] comes later.
    pub fn forward(self, x: &[f32], h: &mut [f32]) {
        match self {
            Pooling::Mean => {
                h.fill(0.0);
                column_sums(x, h);
                scale(h, h.len() as f32 / x.len() as f32);
            }
            Pooling::Cls | Pooling::Pooler => h.copy_from_slice(&x[..h.len()]),
        }
    }

    /// Gradient `dx [tokens, cols]` from `dh [cols]`.
    pub fn backward(self, dh: &[f32], dx: &mut [f32]) {
        dx.fill(0.0);
        match self {
            Pooling::Mean => {
                let share = dh.len() as f32 / dx.len() as f32;
                for row in dx.chunks_exact_mut(dh.len()) {
                    axpy(share, dh, row);
                }
            }
            Pooling::Cls | Pooling::Pooler => dx[..dh.len()].copy_from_slice(dh),
        }
    }
}

/// h becomes e; returns the length that h was divided by.
pub fn normalize(h: &mut [f32]) -> f32 {
    let length = (sum_squares(h).sqrt() as f32).max(SHORTEST);
    for value in h {
        *value /= length;
    }
    length
}

/// `de` becomes dh, given `e` and what [`normalize`] returned.
pub fn normalize_backward(e: &[f32], length: f32, de: &mut [f32]) {
    if length > SHORTEST {
        axpy(-dot(e, de), e, de);
    }
    for value in de {
        *value /= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floats(json: &serde_json::Value) -> Vec<f32> {
        json.as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
    }

    #[test]
    fn pooling_and_norm_agree_with_the_vectors_of_the_specification() {
        let json: serde_json::Value =
            serde_json::from_str(include_str!("../tests/golden/encoders/pool_norm.json")).unwrap();
        for text in 0..2 {
            let tokens =
                json["mask"][text].as_array().unwrap().iter().filter(|m| m.as_u64() == Some(1)).count();
            let hidden: Vec<f32> =
                (0..tokens).flat_map(|token| floats(&json["hidden"][text][token])).collect();
            for (pooling, name) in [(Pooling::Cls, "cls"), (Pooling::Mean, "mean")] {
                let mut h = vec![0.0; 3];
                pooling.forward(&hidden, &mut h);
                let expected = floats(&json[name][text]);
                assert!(h.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{h:?} {expected:?}");
                normalize(&mut h);
                let expected = floats(&json[format!("{name}_l2")][text]);
                assert!(h.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{h:?} {expected:?}");
            }
        }
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let x: Vec<f32> = (0..12).map(|i| ((i * 7 % 5) as f32 - 1.7) * 0.3).collect();
        let target = [0.3, -0.7, 0.5];
        for pooling in [Pooling::Mean, Pooling::Cls] {
            let value = |x: &[f32]| {
                let mut h = vec![0.0; 3];
                pooling.forward(x, &mut h);
                normalize(&mut h);
                h.iter().zip(&target).map(|(a, b)| f64::from(a * b)).sum::<f64>()
            };
            let mut h = vec![0.0; 3];
            pooling.forward(&x, &mut h);
            let length = normalize(&mut h);
            let mut dh = target.to_vec();
            normalize_backward(&h, length, &mut dh);
            let mut dx = vec![f32::NAN; 12];
            pooling.backward(&dh, &mut dx);
            for i in 0..12 {
                let [mut more, mut less] = [x.clone(), x.clone()];
                more[i] += 1e-2;
                less[i] -= 1e-2;
                let slope = ((value(&more) - value(&less)) / 2e-2) as f32;
                assert!((slope - dx[i]).abs() < 1e-3, "{slope} {}", dx[i]);
            }
        }
    }

    #[test]
    fn a_zero_vector_stays_zero_and_its_gradient_is_finite() {
        let mut h = [0.0; 4];
        let length = normalize(&mut h);
        assert_eq!(h, [0.0; 4]);
        let mut de = [1e-9; 4];
        normalize_backward(&h, length, &mut de);
        assert!(de.iter().all(|v| v.is_finite()));
    }
}
