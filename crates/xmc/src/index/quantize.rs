//! How is an embedding stored in fewer bytes, and how far off is it then?
//!
//! ```text
//! bf16   upper 16 bits of an f32, rounded to nearest even       2 bytes a value
//! int8   codes c in -127..=127 with y ~ scale * c, scale = max |y| / 127 of its row   1 byte a value
//! ```
//! Beside every label stand its norm and its residual, the norm of what its coarse form lacks. Both are rounded up:
//! they bound errors (see [`bound`](super::bound)).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How label embeddings are stored.
///
/// | | bytes a value | scores |
/// |---|---|---|
/// | `f32` | 4 | of the embeddings as given |
/// | `bf16` | 2 | of the embeddings rounded to bf16 |
/// | `int8` | 1 + 2 | those of `bf16`: codes to search in, and a bf16 copy of which only the few rows of candidates are read |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floats.
    F32,
    /// Floats with 8 bits of mantissa.
    Bf16,
    /// 8-bit codes with a scale for each label, and a bf16 copy for the final ranking.
    Int8,
}

impl Dtype {
    /// Its name in settings.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
            Dtype::Int8 => "int8",
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Dtype {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        [Dtype::F32, Dtype::Bf16, Dtype::Int8]
            .into_iter()
            .find(|dtype| dtype.name() == name)
            .ok_or_else(|| Error::Mismatch(format!("`{name}`: expected `f32`, `bf16` or `int8`")))
    }
}

/// Largest norm of an embedding: products of two stay far below the largest f32.
pub const LARGEST: f32 = 1e18;

/// Whether all values are numbers and the norm is at most [`LARGEST`].
pub fn representable(row: &[f32]) -> bool {
    // NaN compares false.
    norm(row.iter().copied()) <= f64::from(LARGEST)
}

pub(super) fn to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

pub(super) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// Codes of one row into `codes`; returns the scale.
pub(super) fn codes(row: &[f32], codes: &mut Vec<i8>) -> f32 {
    let scale = row.iter().fold(0f32, |max, v| max.max(v.abs())) / 127.0;
    let inverse = if scale > 0.0 { 1.0 / f64::from(scale) } else { 0.0 };
    codes.extend(row.iter().map(|&v| (f64::from(v) * inverse).round().clamp(-127.0, 127.0) as i8));
    scale
}

/// Codes in `-most..=most` of a query; returns the scale.
pub(super) fn query_codes(row: &[f32], most: i16, codes: &mut Vec<i16>) -> f32 {
    let most = f32::from(most);
    let scale = row.iter().fold(0f32, |max, v| max.max(v.abs())) / most;
    let inverse = if scale > 0.0 { 1.0 / f64::from(scale) } else { 0.0 };
    let most = f64::from(most);
    codes.extend(row.iter().map(|&v| (f64::from(v) * inverse).round().clamp(-most, most) as i16));
    scale
}

/// `|row|`, with f64 sums.
pub(super) fn norm(row: impl Iterator<Item = f32>) -> f64 {
    row.map(|v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}

/// `|row - coarse|`, with f64 sums.
pub(super) fn distance(row: &[f32], coarse: impl Iterator<Item = f64>) -> f64 {
    row.iter().zip(coarse).map(|(&v, c)| (f64::from(v) - c).powi(2)).sum::<f64>().sqrt()
}

/// An f32 that is surely not below `value`, whose own sum has been rounded too.
pub(super) fn up(value: f64) -> f32 {
    ((value * (1.0 + 1e-6)) as f32).next_up()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_rounds_to_nearest_even() {
        // Neighbours are 1/128 apart; halfway between two, the even one is taken.
        for (value, expected) in [(2.0, 2.0), (2.5, 2.0), (2.6, 3.0), (3.5, 4.0), (4.5, 4.0)] {
            let (value, expected) = (1.0 + value / 128.0, 1.0 + expected / 128.0);
            assert_eq!(from_bf16(to_bf16(value)), expected);
        }
    }

    #[test]
    fn codes_times_scale_are_near_the_row() {
        let row = [1.0, -0.5, 0.3, 0.0];
        let mut out = Vec::new();
        let scale = codes(&row, &mut out);
        assert_eq!(out, [127, -64, 38, 0]);
        assert_eq!(scale, 1.0 / 127.0);
        assert_eq!((codes(&[0.0], &mut out), out.last()), (0.0, Some(&0)));
    }

    #[test]
    fn dtypes_are_chosen_by_name() {
        for dtype in [Dtype::F32, Dtype::Bf16, Dtype::Int8] {
            assert_eq!(dtype.to_string().parse::<Dtype>().unwrap(), dtype);
        }
        assert!("f16".parse::<Dtype>().unwrap_err().to_string().contains("expected `f32`"));
    }
}
