//! How is a packed matrix multiplied with many tokens? Strip by strip of outputs, unpacked by the thread that uses it.
//!
//! A task is a strip and a chunk of tokens: the chunk stays in the second cache while strips pass by, and a strip is
//! unpacked once for as many tokens as that allows.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::QuantMatrix;
use crate::buffers::sized;
use crate::ops::matmul::{Lhs, Rhs, View, product_at};

/// Lines of a strip: whole blocks of every kernel.
const STRIP: usize = 64;

/// Tokens of a task.
const TOKENS: usize = 1024;

/// What a thread unpacks into.
struct Strip {
    rhs: Rhs,
    values: Vec<f32>,
}

/// `y = x W^T`: strips of rows of W.
pub(super) fn multiply(w: &QuantMatrix, x: &Lhs, y: &mut [f32], add: bool) {
    grid(x, w.rows, y, add, |rows, strip| {
        let values = sized(&mut strip.values, rows.len() * w.cols);
        for (i, out) in rows.clone().zip(values.chunks_exact_mut(w.cols.max(1))) {
            w.row(i, out);
        }
        strip.rhs.fill(View::new(values, rows.len(), w.cols).t());
    });
}

/// `dx = dy W`: strips of columns of W.
pub(super) fn multiply_transposed(w: &QuantMatrix, dy: &Lhs, dx: &mut [f32], add: bool) {
    grid(dy, w.cols, dx, add, |cols, strip| {
        let values = sized(&mut strip.values, w.rows * cols.len());
        for (i, out) in values.chunks_exact_mut(cols.len()).enumerate() {
            w.part(i, cols.clone(), out);
        }
        strip.rhs.fill(View::new(values, w.rows, cols.len()));
    });
}

/// The result, of which every task writes other elements.
struct Shared(*mut f32);

// SAFETY: tasks write disjoint elements, see `grid`.
unsafe impl Sync for Shared {}

/// `c = a b` for a b with `lines` columns, of which `fill` unpacks any strip.
fn grid(a: &Lhs, lines: usize, c: &mut [f32], add: bool, fill: impl Fn(Range<usize>, &mut Strip) + Sync) {
    thread_local! {
        static STRIPS: RefCell<Option<Strip>> = const { RefCell::new(None) };
    }
    assert_eq!(c.len(), a.rows() * lines);
    let strips = lines.div_ceil(STRIP);
    let c = &Shared(c.as_mut_ptr());
    (0..strips * a.rows().div_ceil(TOKENS)).into_par_iter().for_each(|task| {
        let (chunk, strip) = (task / strips * TOKENS, task % strips * STRIP);
        let range = strip..lines.min(strip + STRIP);
        let rows = chunk..a.rows().min(chunk + TOKENS);
        STRIPS.with_borrow_mut(|kept| {
            let kept = match kept {
                Some(kept) if kept.rhs.kernel() == a.kernel() => kept,
                _ => kept.insert(Strip { rhs: Rhs::with(a.kernel()), values: Vec::new() }),
            };
            fill(range.clone(), kept);
            // SAFETY: rows and columns of the task lie inside C, and no other task has the same ones.
            unsafe {
                let corner = c.0.add(rows.start * lines + range.start);
                product_at(a, &kept.rhs, rows, corner, lines, add);
            }
        });
    });
}
