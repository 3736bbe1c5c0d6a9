//! How is a packed matrix multiplied with few tokens? In integers, as it is packed.
//!
//! A block of 32 weights is d q + m with codes q, a block of activations s p: their product is
//! `d s sum q p + m s sum p`. Every fourth block has four lanes of its own, each for a quarter of both halves of the
//! block; what is added has a lane for every sixteenth block. So the order of all additions is that of registers of
//! sixteen, whatever the processor has.

use std::ops::Range;

use rayon::prelude::*;

use super::QuantMatrix;
use super::decode::half_at;
use super::dense::Shared;
use super::format::{CHUNK, Format};
use super::input::{Bytes, GROUP, QUAD};
#[cfg(target_arch = "x86_64")]
use super::vnni;
use crate::buffers::{Pool, sized};
use crate::ops::reduce::dot;
use crate::ops::simd::fma;

/// Bytes of weights that one task reads: waking a thread costs as long as reading about half of them.
const TASK: usize = 64 * 1024;

/// Outputs of a task are multiples of this: no two tasks write to the same line of the cache.
const OUTPUTS: usize = 16;

/// `y = x W^T` by all threads.
pub(super) fn multiply(w: &QuantMatrix, x: &Bytes, y: &mut [f32], add: bool) {
    let row = (w.bytes() / w.rows.max(1)).max(1);
    let strip = (TASK / row).next_multiple_of(OUTPUTS).max(OUTPUTS);
    assert_eq!(y.len(), x.rows * w.rows);
    let y = &Shared(y.as_mut_ptr());
    (0..w.rows.div_ceil(strip)).into_par_iter().for_each(|task| {
        let outputs = task * strip..w.rows.min((task + 1) * strip);
        // SAFETY: y is [t, rows], and no other task has these outputs.
        unsafe { part(w, x, outputs.clone(), y.0.add(outputs.start), w.rows, add) };
    });
}

/// The products with some rows of W by one thread: that of token t and the i-th of them at `y + t stride + i`.
///
/// # Safety
/// So much of y is there, and nobody else uses these elements meanwhile.
pub(super) unsafe fn part(
    w: &QuantMatrix,
    x: &Bytes,
    outputs: Range<usize>,
    y: *mut f32,
    stride: usize,
    add: bool,
) {
    static BUFFERS: Pool<Vec<f32>> = Pool::new();
    assert!(outputs.end <= w.rows && x.cols == w.cols);
    // SAFETY: the caller's promise, for every token and output once.
    let write = |t: usize, i: usize, value: f32| unsafe {
        let y = y.add(t * stride + i);
        *y = if add { *y + value } else { value };
    };
    match w.format {
        #[cfg(target_arch = "x86_64")]
        Format::Q8_0 if vnni::there() => packed::<{ vnni::Q8_0 }>(w, x, outputs, write),
        #[cfg(target_arch = "x86_64")]
        Format::Q4_0 if vnni::there() => packed::<{ vnni::Q4_0 }>(w, x, outputs, write),
        #[cfg(target_arch = "x86_64")]
        Format::Q4_1 if vnni::there() => packed::<{ vnni::Q4_1 }>(w, x, outputs, write),
        Format::Q8_0 | Format::Q4_0 | Format::Q4_1 => {
            for (i, output) in outputs.enumerate() {
                for t in 0..x.rows {
                    write(t, i, integers(w.format, w.row_bytes(output), x, t));
                }
            }
        }
        _ => {
            let mut buffer = BUFFERS.take(Vec::new);
            let row = sized(&mut buffer, w.cols);
            for (i, output) in outputs.enumerate() {
                w.row(output, row);
                for t in 0..x.rows {
                    write(t, i, dot(&x.values[t * w.cols..][..w.cols], row));
                }
            }
            BUFFERS.give(buffer);
        }
    }
}

/// Eight tokens at once with each row, then four, two and one with more of them.
#[cfg(target_arch = "x86_64")]
fn packed<const FORMAT: u8>(
    w: &QuantMatrix,
    x: &Bytes,
    outputs: Range<usize>,
    write: impl Fn(usize, usize, f32),
) {
    let row = w.bytes() / w.rows.max(1);
    let begin = outputs.start;
    macro_rules! rows {
        ($r:literal, $t:literal, $outputs:expr, $first:expr) => {
            for i in $outputs.step_by($r) {
                let rows = &w.blocks[(begin + i) * row..][..$r * row];
                // SAFETY: `part` has asked whether the instructions are there.
                let sums = unsafe { vnni::rows::<FORMAT, $r, $t>(rows, x, $first) };
                for (r, sums) in sums.into_iter().enumerate() {
                    for (t, sum) in sums.into_iter().enumerate() {
                        write($first + t, i + r, sum);
                    }
                }
            }
        };
    }
    macro_rules! tokens {
        ($r:literal, $t:literal, $first:expr) => {
            let whole = outputs.len() / $r * $r;
            rows!($r, $t, 0..whole, $first);
            rows!(1, $t, whole..outputs.len(), $first);
        };
    }
    let mut first = 0;
    while first < x.rows {
        match x.rows - first {
            8.. => {
                rows!(1, 8, 0..outputs.len(), first);
                first += 8;
            }
            4.. => {
                tokens!(2, 4, first);
                first += 4;
            }
            2.. => {
                tokens!(4, 2, first);
                first += 2;
            }
            _ => {
                tokens!(8, 1, first);
                first += 1;
            }
        }
    }
}

crate::simd! {
    /// The product of a row of W and token `t`.
    pub(super) fn integers(format: Format, row: &[u8], x: &Bytes, t: usize) -> f32 {
        let blocks = x.blocks();
        let codes = &x.codes()[t * blocks * CHUNK..][..blocks * CHUNK];
        let (scales, sums) = (&x.scales[t * blocks..][..blocks], &x.sums[t * blocks..][..blocks]);
        let mut lanes = [[0.0f32; 4]; QUAD];
        let mut offsets = [0.0f32; GROUP];
        let size = format.block().map_or(1, |(_, bytes)| bytes);
        for (b, block) in row.chunks_exact(size).enumerate() {
            let p = &codes[b / QUAD * QUAD * CHUNK + b % QUAD * 16..][..QUAD * 16 + 16];
            let (q, d, m) = unpack(format, block);
            let scale = d * scales[b];
            for j in 0..4 {
                let mut sum = 0;
                for i in 4 * j..4 * j + 4 {
                    sum += i32::from(q[i]) * i32::from(p[i]);
                    sum += i32::from(q[i + 16]) * i32::from(p[i + QUAD * 16]);
                }
                lanes[b % QUAD][j] = fma::<FUSED>(scale, sum as f32, lanes[b % QUAD][j]);
            }
            offsets[b % GROUP] = fma::<FUSED>(m, sums[b], offsets[b % GROUP]);
        }
        for (i, offset) in offsets.iter_mut().enumerate() {
            *offset += lanes[i / 4][i % 4];
        }
        folded(offsets)
    }
}

/// The sum of lanes: halves onto halves.
#[inline(always)]
pub(super) fn folded(mut lanes: [f32; GROUP]) -> f32 {
    let mut half = GROUP / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Codes without sign, their scale and what is added.
#[inline(always)]
fn unpack(format: Format, block: &[u8]) -> ([u8; CHUNK], f32, f32) {
    let mut q = [0; CHUNK];
    let d = half_at(block, 0);
    if format == Format::Q8_0 {
        for (q, code) in q.iter_mut().zip(&block[2..]) {
            *q = code ^ 128;
        }
        return (q, d, -128.0 * d);
    }
    let (head, m) = if format == Format::Q4_0 { (2, -8.0 * d) } else { (4, half_at(block, 2)) };
    for (i, code) in block[head..][..16].iter().enumerate() {
        q[i] = code & 15;
        q[i + 16] = code >> 4;
    }
    (q, d, m)
}
