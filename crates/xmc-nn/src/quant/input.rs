//! How are activations made ready? Once for all matrices that read them.

use std::ops::Range;

use super::format::CHUNK;
use crate::ops::matmul::{Kernel, Lhs, Precision};

/// Activations x `[t, cols]`, ready for products with [`super::QuantMatrix`]. Memory is reused from call to call.
#[derive(Debug)]
pub struct Input {
    rows: usize,
    cols: usize,
    is_bytes: bool,
    lhs: Lhs,
    bytes: Bytes,
}

/// What an input is ready for.
pub(super) enum Kind<'a> {
    Dense(&'a Lhs),
    Bytes(&'a Bytes),
}

/// Scales are laid out, and codes padded with zeros, to multiples of so many blocks: a register of AVX-512.
pub(super) const GROUP: usize = 16;

/// Blocks whose first halves lie together, and then their second halves: nibbles come in this order too.
pub(super) const QUAD: usize = 4;

/// Codes that one load takes: aligned, so that it takes no second one.
#[derive(Clone, Copy, Debug, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(64))]
struct Register([i8; 64]);

/// Rows as int8, every 32 values with a scale of their own, and as they were.
#[derive(Debug, Default)]
pub(super) struct Bytes {
    pub(super) rows: usize,
    pub(super) cols: usize,
    codes: Vec<Register>,
    /// `[rows, blocks]`: value = scale code.
    pub(super) scales: Vec<f32>,
    /// `[rows, blocks]`: scale times the sum of the codes.
    pub(super) sums: Vec<f32>,
    /// `[rows, cols]`
    pub(super) values: Vec<f32>,
}

impl Default for Input {
    fn default() -> Self {
        Self::new()
    }
}

impl Input {
    /// Without rows.
    pub fn new() -> Self {
        Input { rows: 0, cols: 0, is_bytes: false, lhs: Lhs::new(Precision::Bf16), bytes: Bytes::default() }
    }

    /// Makes `x [t, cols]` ready as a factor of the product kernels.
    ///
    /// # Panics
    /// If `x` has another length.
    pub fn dense(&mut self, x: &[f32], t: usize, cols: usize, precision: Precision) {
        assert_eq!(x.len(), t * cols);
        (self.rows, self.cols, self.is_bytes) = (t, cols, false);
        if self.lhs.kernel() != Kernel::best(precision) {
            self.lhs = Lhs::new(precision);
        }
        self.lhs.fill_shared(x, t, cols);
    }

    /// The same for rows that are computed on the way: `write` is given the numbers of some rows and room for them.
    /// Threads share the rows.
    pub fn dense_from(
        &mut self,
        t: usize,
        cols: usize,
        precision: Precision,
        write: impl Fn(Range<usize>, &mut [f32]) + Sync,
    ) {
        (self.rows, self.cols, self.is_bytes) = (t, cols, false);
        if self.lhs.kernel() != Kernel::best(precision) {
            self.lhs = Lhs::new(precision);
        }
        self.lhs.fill_rows(t, cols, write);
    }

    /// Makes `x [t, cols]` ready as int8.
    ///
    /// # Panics
    /// If `x` has another length.
    pub fn bytes(&mut self, x: &[f32], t: usize, cols: usize) {
        assert_eq!(x.len(), t * cols);
        (self.rows, self.cols, self.is_bytes) = (t, cols, true);
        self.bytes.fill(x, t, cols);
    }

    /// Number of tokens t.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a token.
    pub fn cols(&self) -> usize {
        self.cols
    }

    pub(super) fn kind(&self) -> Kind<'_> {
        if self.is_bytes { Kind::Bytes(&self.bytes) } else { Kind::Dense(&self.lhs) }
    }
}

impl Bytes {
    fn fill(&mut self, x: &[f32], rows: usize, cols: usize) {
        (self.rows, self.cols) = (rows, cols);
        let blocks = self.blocks();
        self.values.clear();
        self.values.extend_from_slice(x);
        self.codes.resize(rows * blocks * CHUNK / 64, Register([0; 64]));
        let all = bytemuck::cast_slice_mut::<Register, i8>(&mut self.codes);
        self.scales.resize(rows * blocks, 0.0);
        self.sums.resize(rows * blocks, 0.0);
        for (i, x) in x.chunks_exact(cols.max(1)).enumerate() {
            let (codes, scales) = (&mut all[i * blocks * CHUNK..], &mut self.scales[i * blocks..]);
            quantize(x, &mut codes[..blocks * CHUNK], &mut scales[..blocks], &mut self.sums[i * blocks..]);
        }
    }

    /// `[rows, blocks / 4, 2, 4, 16]`: codes of the first halves of four blocks, then of their second halves.
    pub(super) fn codes(&self) -> &[i8] {
        bytemuck::cast_slice(&self.codes)
    }

    /// Blocks of a row, with padding.
    pub(super) fn blocks(&self) -> usize {
        self.cols.div_ceil(CHUNK).next_multiple_of(GROUP)
    }
}

/// Adding it rounds a number of a byte to an integer, which then lies in the lowest bits (1.5 * 2^23).
const ROUND: f32 = 12_582_912.0;

crate::simd! {
    fn quantize(x: &[f32], codes: &mut [i8], scales: &mut [f32], sums: &mut [f32]) {
        for b in 0..scales.len() {
            let codes = &mut codes[b / QUAD * QUAD * CHUNK + b % QUAD * 16..];
            let mut block = [0.0; CHUNK];
            let rest = x.get(b * CHUNK..).unwrap_or_default();
            let len = rest.len().min(CHUNK);
            block[..len].copy_from_slice(&rest[..len]);
            // Magnitudes as integers: NaN is the largest, so that it is not lost.
            let mut largest = 0;
            for v in block {
                largest = largest.max(v.to_bits() & 0x7fff_ffff);
            }
            let scale = f32::from_bits(largest) / 127.0;
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
            let mut sum = 0;
            for (half, block) in block.as_chunks::<16>().0.iter().enumerate() {
                for (code, v) in codes[half * QUAD * 16..][..16].iter_mut().zip(block) {
                    // The lowest bits of the sum are the nearest integer: no cast that must look for NaN.
                    *code = (v * inverse + ROUND).to_bits() as i8;
                    sum += i32::from(*code);
                }
            }
            scales[b] = scale;
            sums[b] = scale * sum as f32;
        }
    }
}
