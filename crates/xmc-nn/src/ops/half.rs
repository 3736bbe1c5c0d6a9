//! How do weights take two bytes instead of four? As bf16, the upper half of an f32.
//!
//! Kernels widen in registers: one shift, no table, no rounding. On the way back a value is rounded by chance: up
//! with the probability that makes the mean right (Gupta et al., "Deep Learning with Limited Numerical Precision", ICML
//! 2015). Rounding to the nearest would lose every change below 1/512 of a weight, and those are most of them.

use bytemuck::Pod;

use super::reduce::{axpy, axpy_bf16, axpy4, axpy4_bf16, dot, dot_bf16, dot4, dot4_bf16};
use super::simd::LANES;

/// A number of a vector as it is stored.
pub trait Element: Pod + Send + Sync {
    /// As f32.
    fn widen(self) -> f32;

    /// `value`, rounded up if the lower 16 bits of `chance` say so.
    fn narrow(value: f32, chance: u32) -> Self;

    /// [`dot`] of x and a stored vector.
    fn dot(x: &[f32], y: &[Self]) -> f32;

    /// [`dot4`] of x and four stored vectors.
    fn dot4(x: &[f32], y: &[&[Self]; 4]) -> [f32; 4];

    /// [`axpy`] with a stored x.
    fn axpy(a: f32, x: &[Self], y: &mut [f32]);

    /// [`axpy4`] with four stored x.
    fn axpy4(a: &[f32; 4], x: &[&[Self]; 4], y: &mut [f32]);
}

impl Element for f32 {
    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    #[inline(always)]
    fn narrow(value: f32, _chance: u32) -> f32 {
        value
    }

    fn dot(x: &[f32], y: &[f32]) -> f32 {
        dot(x, y)
    }

    fn dot4(x: &[f32], y: &[&[f32]; 4]) -> [f32; 4] {
        dot4(x, y)
    }

    fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
        axpy(a, x, y);
    }

    fn axpy4(a: &[f32; 4], x: &[&[f32]; 4], y: &mut [f32]) {
        axpy4(a, x, y);
    }
}

/// The bits of a bf16.
impl Element for u16 {
    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }

    #[inline(always)]
    fn narrow(value: f32, chance: u32) -> u16 {
        // Never past infinity: it has no lower bits to carry into, nor has the NaN that arithmetic makes.
        (value.to_bits().wrapping_add(chance & 0xffff) >> 16) as u16
    }

    fn dot(x: &[f32], y: &[u16]) -> f32 {
        dot_bf16(x, y)
    }

    fn dot4(x: &[f32], y: &[&[u16]; 4]) -> [f32; 4] {
        dot4_bf16(x, y)
    }

    fn axpy(a: f32, x: &[u16], y: &mut [f32]) {
        axpy_bf16(a, x, y);
    }

    fn axpy4(a: &[f32; 4], x: &[&[u16]; 4], y: &mut [f32]) {
        axpy4_bf16(a, x, y);
    }
}

/// 32 random bits for each column of a row, a function of what the row's key is made of.
pub(crate) struct Chance([u32; LANES]);

impl Chance {
    /// The bits of row `row` in `step` of a run with `seed`.
    #[inline(always)]
    pub(crate) fn new(seed: u64, step: u32, row: u32) -> Self {
        let key = mix(seed ^ mix(u64::from(step) << 32 | u64::from(row)));
        let (low, high) = (key as u32, (key >> 32) as u32 | 1);
        let mut lanes = [0; LANES];
        for (lane, state) in (0u32..).zip(&mut lanes) {
            let mut x = low ^ lane.wrapping_mul(0x9e37_79b9).wrapping_add(high);
            x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
            x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
            *state = x ^ (x >> 16) | 1;
        }
        Chance(lanes)
    }

    /// Of the next [`LANES`] columns (Marsaglia, "Xorshift RNGs", 2003).
    #[inline(always)]
    pub(crate) fn next(&mut self) -> [u32; LANES] {
        for x in &mut self.0 {
            *x ^= *x << 13;
            *x ^= *x >> 17;
            *x ^= *x << 5;
        }
        self.0
    }
}

/// Scatters all bits over all bits (the end of SplitMix64).
#[inline(always)]
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_by_chance_is_right_in_the_mean_and_never_further_than_the_next_number() {
        for value in [1.001f32, -0.373, 3e-5, 1e-40, 0.0, 2.0, -127.9] {
            let (below, above) = (value.to_bits() >> 16, (value.to_bits() >> 16) + 1);
            let mut sum = 0.0;
            for chance in 0..=0xffff {
                let found = u16::narrow(value, chance | 0xabcd_0000);
                assert!(u32::from(found) == below || u32::from(found) == above, "{value}");
                sum += f64::from(found.widen());
            }
            let step = f64::from(f32::from_bits(above << 16)) - f64::from(f32::from_bits(below << 16));
            assert!((sum / 65536.0 - f64::from(value)).abs() <= 1e-6 * step.abs(), "{value}");
        }
        for value in [f32::INFINITY, f32::NEG_INFINITY] {
            assert_eq!(u16::narrow(value, 0xffff).widen(), value);
        }
        for nan in [f32::NAN, -f32::NAN, 0.0 * f32::INFINITY] {
            assert!(u16::narrow(nan, 0xffff).widen().is_nan());
        }
    }

    #[test]
    fn chance_is_even_and_of_its_own_for_every_step_row_and_column() {
        let rows = 4000u32;
        let mut counts = [0u32; 16];
        let mut last = [0u32; LANES];
        let mut same = 0;
        for row in 0..rows {
            let mut chance = Chance::new(7, row % 5, row / 5);
            for _ in 0..3 {
                let now = chance.next();
                for x in now {
                    counts[(x & 0xffff) as usize >> 12] += 1;
                }
                same += now.iter().zip(&last).filter(|(a, b)| *a & 0xffff == *b & 0xffff).count();
                last = now;
            }
        }
        let mean = f64::from(rows) * 3.0 * LANES as f64 / 16.0;
        for count in counts {
            assert!((f64::from(count) - mean).abs() < 5.0 * mean.sqrt(), "{counts:?}");
        }
        assert!(same < 30, "{same}");
        assert_ne!(Chance::new(1, 2, 3).next(), Chance::new(2, 2, 3).next());
    }
}
