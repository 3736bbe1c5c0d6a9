//! How is a packed matrix multiplied with few tokens? In integers, as it is packed.
//!
//! A block of 32 weights is d q + m with codes q, a block of activations s p: their product is
//! `d s sum q p + m s sum p`. The sums of four products each are kept apart, in eight lanes per block, and the blocks
//! with even and odd numbers too: so the order of all additions is that of two registers of eight, whatever the
//! processor has.

use rayon::prelude::*;

use super::QuantMatrix;
use super::decode::half_at;
use super::format::{CHUNK, Format};
use super::input::{Bytes, GROUP};
use crate::buffers::{Pool, sized};
use crate::ops::reduce::dot;
use crate::ops::simd::fma;

/// Outputs of a task.
const STRIP: usize = 64;

/// Buffers for rows and results.
static BUFFERS: Pool<[Vec<f32>; 2]> = Pool::new();

pub(super) fn multiply(w: &QuantMatrix, x: &Bytes, y: &mut [f32], add: bool) {
    let mut all = BUFFERS.take(Default::default);
    let columns = sized(&mut all[1], x.rows * w.rows);
    // Columns first, so that a task writes what lies together.
    columns.par_chunks_mut(STRIP * x.rows.max(1)).enumerate().for_each(|(strip, out)| {
        let mut buffers = BUFFERS.take(Default::default);
        for (i, out) in (strip * STRIP..).zip(out.chunks_exact_mut(x.rows.max(1))) {
            output(w, i, x, out, &mut buffers[0]);
        }
        BUFFERS.give(buffers);
    });
    for (i, out) in columns.chunks_exact(x.rows.max(1)).enumerate() {
        for (t, &value) in out.iter().enumerate() {
            let y = &mut y[t * w.rows + i];
            *y = if add { *y + value } else { value };
        }
    }
    BUFFERS.give(all);
}

/// Output `i` of all tokens.
fn output(w: &QuantMatrix, i: usize, x: &Bytes, out: &mut [f32], buffer: &mut Vec<f32>) {
    match w.format {
        Format::Q8_0 | Format::Q4_0 | Format::Q4_1 => {
            let blocks = x.blocks();
            for (t, out) in out.iter_mut().enumerate() {
                let codes = &x.codes[t * blocks * CHUNK..][..blocks * CHUNK];
                let (scales, sums) = (&x.scales[t * blocks..][..blocks], &x.sums[t * blocks..][..blocks]);
                *out = integers(w.format, w.row_bytes(i), codes, scales, sums);
            }
        }
        _ => {
            let row = sized(buffer, w.cols);
            w.row(i, row);
            for (out, values) in out.iter_mut().zip(x.values.chunks_exact(w.cols.max(1))) {
                *out = dot(values, row);
            }
        }
    }
}

crate::simd! {
    fn integers(format: Format, row: &[u8], codes: &[i8], scales: &[f32], sums: &[f32]) -> f32 {
        let mut lanes = [[0.0f32; 8]; 2];
        let mut offsets = [0.0f32; GROUP];
        let size = format.block().map_or(1, |(_, bytes)| bytes);
        for (b, (block, p)) in row.chunks_exact(size).zip(codes.as_chunks::<CHUNK>().0).enumerate() {
            let (q, d, m) = unpack(format, block);
            for (lane, (q, p)) in lanes[b % 2].iter_mut().zip(q.as_chunks::<4>().0.iter().zip(p.as_chunks::<4>().0)) {
                let sum: i32 = q.iter().zip(p).map(|(&q, &p)| i32::from(q) * i32::from(p)).sum();
                *lane = fma::<FUSED>(d * scales[b], sum as f32, *lane);
            }
            offsets[b % GROUP] = fma::<FUSED>(m, sums[b], offsets[b % GROUP]);
        }
        let mut total = 0.0;
        for (i, offset) in offsets.iter().enumerate() {
            total += lanes[i / 8][i % 8] + offset;
        }
        total
    }
}

/// Codes without sign, their scale and what is added.
#[inline(always)]
fn unpack(format: Format, block: &[u8]) -> ([u8; CHUNK], f32, f32) {
    let mut q = [0; CHUNK];
    let d = half_at(block, 0);
    let (head, m) = match format {
        Format::Q8_0 => (2, -128.0 * d),
        Format::Q4_0 => (2, -8.0 * d),
        _ => (4, half_at(block, 2)),
    };
    if format == Format::Q8_0 {
        for (q, code) in q.iter_mut().zip(&block[head..]) {
            *q = code ^ 128;
        }
    } else {
        for (i, code) in block[head..][..16].iter().enumerate() {
            q[i] = code & 15;
            q[i + 16] = code >> 4;
        }
    }
    (q, d, m)
}
