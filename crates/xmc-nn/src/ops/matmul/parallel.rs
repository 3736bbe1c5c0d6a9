//! Products whose blocks of rows threads share. Every element is the same at any number of threads.

use rayon::prelude::*;

use super::{Lhs, Precision, Rhs, View, product};

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
