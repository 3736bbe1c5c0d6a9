//! Products whose blocks of rows threads share. Every element is the same at any number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::layout::{self, Side, Source};
use super::{Lhs, Precision, Rhs, View, product};
use crate::buffers::{Pool, sized};

/// Rows of a block that one task computes.
const ROWS: usize = 64;

/// `c = a b`, or `+=` with `add`: a `[m, k]`, c `[m, n]`, `b [k, n]` laid out.
pub fn multiply(a: &[f32], b: &Rhs, c: &mut [f32], add: bool) {
    let (k, n) = (b.depth(), b.cols());
    if k == 0 || n == 0 {
        return;
    }
    c.par_chunks_mut(ROWS * n).zip(a.par_chunks(ROWS * k)).for_each(|(c, a)| {
        let rows = a.len() / k;
        let mut lhs = Lhs::with(b.kernel);
        lhs.fill(View::new(a, rows, k));
        product(&lhs, b, 0..rows, c, n, add);
    });
}

/// `c += aᵀ x`, the gradient of weights: a `[b, m]`, x `[b, n]`, and c `[m, stride]`, whose columns from n on stay.
pub fn add_transposed(
    (a, m): (&[f32], usize),
    (x, n): (&[f32], usize),
    c: &mut [f32],
    stride: usize,
    precision: Precision,
) {
    if m == 0 || n == 0 {
        return;
    }
    let b = x.len() / n;
    let (mut lhs, mut rhs) = (Lhs::new(precision), Rhs::new(precision));
    lhs.fill(View::new(a, b, m).t());
    rhs.fill(View::new(x, b, n));
    c.par_chunks_mut(ROWS * stride).enumerate().for_each(|(i, block)| {
        let rows = i * ROWS..i * ROWS + block.len() / stride;
        product(&lhs, &rhs, rows, block, stride, true);
    });
}

impl Lhs {
    /// Lays out `[m, k]` by all threads: `write` is given the numbers of some rows and room for them.
    pub(crate) fn fill_rows(&mut self, m: usize, k: usize, write: impl Fn(Range<usize>, &mut [f32]) + Sync) {
        static BUFFERS: Pool<Vec<f32>> = Pool::new();
        (self.m, self.k) = (m, k);
        let kernel = self.kernel;
        // Blocks are whole panels and tiles, so they lie one after the other.
        let block = layout::len(kernel, Side::Left, ROWS, k);
        let out = layout::room(kernel, Side::Left, m, k, &mut self.data);
        out.par_chunks_mut(block.max(1)).enumerate().for_each(|(i, out)| {
            let rows = i * ROWS..m.min((i + 1) * ROWS);
            let mut buffer = BUFFERS.take(Vec::new);
            let values = sized(&mut buffer, rows.len() * k);
            write(rows.clone(), values);
            let source = Source::lhs(View::new(values, rows.len(), k));
            // SAFETY: who made this operand has seen that the processor has the instructions.
            unsafe { layout::lay_out(kernel, source, Side::Left, out) };
            BUFFERS.give(buffer);
        });
    }

    /// Lays out `a [m, k]`, rows one after the other, by all threads.
    pub(crate) fn fill_shared(&mut self, a: &[f32], m: usize, k: usize) {
        (self.m, self.k) = (m, k);
        let kernel = self.kernel;
        let block = layout::len(kernel, Side::Left, ROWS, k);
        let out = layout::room(kernel, Side::Left, m, k, &mut self.data);
        let rows = a.par_chunks((ROWS * k).max(1));
        out.par_chunks_mut(block.max(1)).zip(rows).for_each(|(out, a)| {
            let source = Source::lhs(View::new(a, a.len() / k, k));
            // SAFETY: as above.
            unsafe { layout::lay_out(kernel, source, Side::Left, out) };
        });
    }
}
