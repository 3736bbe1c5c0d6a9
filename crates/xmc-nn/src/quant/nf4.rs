//! What is NF4? Sixteen levels at which the normal distribution is cut into equal shares, one scale per 64 weights.
//!
//! Weight i of the matrix, counted row after row, is `a[i / 64] LEVELS[code[i]]`. The scales a are the largest
//! magnitudes of their blocks. With double quantisation `a[b] = offset + s[b / 256] dynamic[c[b]]`: offset is the mean
//! of all a, s the largest magnitude of 256 differences, and `dynamic` 256 numbers dense near zero (Dettmers, "8-bit
//! approximations for parallelism in deep learning", 2016), those of bitsandbytes.
//!
//! Bytes: codes, two in a byte; then a, f32; or c, then s and at last the offset, f32.

use std::ops::Range;
use std::sync::OnceLock;

use super::decode::single_at;

/// Weights that share a scale.
pub(super) const BLOCK: usize = 64;

/// Scales that share a scale of scales.
pub(super) const OUTER: usize = 256;

/// The levels, rising.
#[rustfmt::skip]
pub(super) const LEVELS: [f32; 16] = [
    -1.0, -0.696_192_8, -0.525_073_05, -0.394_917_5, -0.284_441_38, -0.184_773_43, -0.091_050_036, 0.0,
    0.079_580_3, 0.160_930_2, 0.246_112_3, 0.337_915_24, 0.440_709_83, 0.562_617, 0.722_956_84, 1.0,
];

/// Where codes and scales lie in the bytes of `weights` weights.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) weights: usize,
    double: bool,
}

impl Places {
    pub(super) fn new(weights: usize, double: bool) -> Self {
        Places { weights, double }
    }

    fn blocks(self) -> usize {
        self.weights.div_ceil(BLOCK)
    }

    fn codes(self) -> usize {
        self.weights.div_ceil(2)
    }

    /// The scale of block `block`.
    #[inline(always)]
    pub(super) fn scale(self, bytes: &[u8], block: usize) -> f32 {
        let begin = self.codes();
        if !self.double {
            return single_at(bytes, begin + 4 * block);
        }
        let outer = begin + self.blocks();
        let offset = single_at(bytes, bytes.len() - 4);
        let code = dynamic()[usize::from(bytes[begin + block])];
        code * single_at(bytes, outer + 4 * (block / OUTER)) + offset
    }

    /// The first block whose scale is not finite, and that scale.
    pub(super) fn not_finite(self, bytes: &[u8]) -> Option<(usize, f32)> {
        (0..self.blocks()).map(|b| (b, self.scale(bytes, b))).find(|(_, a)| !a.is_finite())
    }

    /// Weights `range` of the matrix.
    pub(super) fn decode(self, bytes: &[u8], range: Range<usize>, out: &mut [f32]) {
        let mut at = range.start;
        let mut out = &mut out[..range.len()];
        while !out.is_empty() {
            let scale = self.scale(bytes, at / BLOCK);
            let len = out.len().min(BLOCK - at % BLOCK);
            let (now, rest) = std::mem::take(&mut out).split_at_mut(len);
            if at.is_multiple_of(2) && len.is_multiple_of(2) {
                for (pair, byte) in now.as_chunks_mut::<2>().0.iter_mut().zip(&bytes[at / 2..]) {
                    *pair = [byte >> 4, byte & 15].map(|code| scale * LEVELS[usize::from(code)]);
                }
            } else {
                for (i, v) in (at..).zip(now) {
                    let code = bytes[i / 2] >> (4 - i % 2 * 4) & 15;
                    *v = scale * LEVELS[usize::from(code)];
                }
            }
            (out, at) = (rest, at + len);
        }
    }
}

/// The bytes of `weights`, all finite.
pub(super) fn encode(weights: &[f32], double: bool) -> Vec<u8> {
    let scales: Vec<f32> =
        weights.chunks(BLOCK).map(|block| block.iter().fold(0.0, |a: f32, w| a.max(w.abs()))).collect();
    let code = |i: usize| {
        let scale = scales[i / BLOCK];
        if scale == 0.0 { 7 } else { nearest(&LEVELS, weights[i] / scale) as u8 }
    };
    let mut bytes: Vec<u8> = (0..weights.len() / 2).map(|i| code(2 * i) << 4 | code(2 * i + 1)).collect();
    if weights.len() % 2 == 1 {
        bytes.push(code(weights.len() - 1) << 4 | 7);
    }
    if double {
        encode_scales(&scales, &mut bytes);
    } else {
        bytes.extend(scales.iter().flat_map(|a| a.to_le_bytes()));
    }
    bytes
}

/// Codes of scales, their scales, and the offset.
fn encode_scales(scales: &[f32], bytes: &mut Vec<u8>) {
    let sum: f64 = scales.iter().map(|&a| f64::from(a)).sum();
    let offset = (sum / scales.len().max(1) as f64) as f32;
    let rest: Vec<f32> = scales.iter().map(|a| a - offset).collect();
    let outer: Vec<f32> =
        rest.chunks(OUTER).map(|block| block.iter().fold(0.0, |s: f32, a| s.max(a.abs()))).collect();
    for (block, &s) in rest.chunks(OUTER).zip(&outer) {
        bytes.extend(block.iter().map(|a| nearest(dynamic(), if s == 0.0 { 0.0 } else { a / s }) as u8));
    }
    bytes.extend(outer.iter().chain([&offset]).flat_map(|s| s.to_le_bytes()));
}

/// The index of the nearest of rising levels; of two, the lower.
fn nearest(levels: &[f32], x: f32) -> usize {
    let above = levels.partition_point(|&level| level < x).min(levels.len() - 1);
    let below = above.saturating_sub(1);
    if levels[above] - x < x - levels[below] || x < levels[0] { above } else { below }
}

/// Levels of scales: for e from 0 to 6 the middles of 2^e equal parts of \[0.1, 1\] times 10^(e - 6), with both signs;
/// 0 and 1. Rising.
pub(super) fn dynamic() -> &'static [f32; 256] {
    static LEVELS: OnceLock<[f32; 256]> = OnceLock::new();
    LEVELS.get_or_init(|| {
        let mut levels = [0.0; 256];
        let mut next = 1;
        for e in 0..7 {
            let parts = 1 << e;
            let bound = |i: usize| (0.1 + 0.9 * i as f64 / parts as f64) as f32;
            for i in 0..parts {
                let middle = f64::from(f32::midpoint(bound(i), bound(i + 1)));
                let level = (10f64.powi(e - 6) * middle) as f32;
                levels[next] = level;
                levels[next + 1] = -level;
                next += 2;
            }
        }
        levels[next] = 1.0;
        levels.sort_by(f32::total_cmp);
        levels
    })
}
