//! How is a packed matrix multiplied with many tokens? Strip by strip of outputs, unpacked by the thread that uses it.
//!
//! A task unpacks a strip once and multiplies it with chunks of tokens that fit into the second cache beside it. Every
//! element is summed in the same order however lines are cut into strips and tokens into chunks.

use std::cell::RefCell;
use std::ops::Range;

use rayon::prelude::*;

use super::QuantMatrix;
#[cfg(target_arch = "x86_64")]
use super::tiles;
use crate::buffers::sized;
use crate::ops::matmul::{Lhs, Rhs, View, product_at};

/// Most lines of a strip, and most bytes as the kernel has it: half a second cache holds it with a chunk of tokens.
const STRIP: usize = 256;
const STRIP_BYTES: usize = 384 * 1024;

/// Bytes of a chunk of tokens.
const CHUNK_BYTES: usize = 512 * 1024;

/// What a thread unpacks into.
struct Strip {
    rhs: Rhs,
    values: Vec<f32>,
}

/// `y = x W^T`: strips of rows of W.
pub(super) fn multiply(w: &QuantMatrix, x: &Lhs, y: &mut [f32], add: bool) {
    grid(x, w.rows, y, add, |rows, strip| {
        #[cfg(target_arch = "x86_64")]
        if tiles::can(w, x.kernel()) {
            // SAFETY: asked; `grid` gives rows that are there.
            unsafe { tiles::unpack::<true>(w, rows, 0..w.cols, &mut strip.rhs) };
            return;
        }
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
        #[cfg(target_arch = "x86_64")]
        if tiles::can(w, dy.kernel()) {
            // SAFETY: asked; strips are multiples of 32 because the columns are.
            unsafe { tiles::unpack::<false>(w, 0..w.rows, cols, &mut strip.rhs) };
            return;
        }
        let values = sized(&mut strip.values, w.rows * cols.len());
        for (i, out) in values.chunks_exact_mut(cols.len()).enumerate() {
            w.part(i, cols.clone(), out);
        }
        strip.rhs.fill(View::new(values, w.rows, cols.len()));
    });
}

/// The result, of which every task writes other elements.
pub(super) struct Shared(pub(super) *mut f32);

// SAFETY: tasks write disjoint elements, see `grid`.
unsafe impl Sync for Shared {}

/// `c = a b` for a b with `lines` columns, of which `fill` unpacks any strip.
fn grid(a: &Lhs, lines: usize, c: &mut [f32], add: bool, fill: impl Fn(Range<usize>, &mut Strip) + Sync) {
    thread_local! {
        static STRIPS: RefCell<Option<Strip>> = const { RefCell::new(None) };
    }
    assert_eq!(c.len(), a.rows() * lines);
    if c.is_empty() {
        return;
    }
    let depth_bytes = a.depth() * a.kernel().value_bytes();
    let most = (STRIP_BYTES / depth_bytes.max(1)).min(STRIP);
    // Several strips for each thread, all of about the same size.
    let threads = rayon::current_num_threads();
    let strips = lines.div_ceil(most.max(32)).max(2 * threads).next_multiple_of(threads);
    let width = lines.div_ceil(strips).next_multiple_of(32);
    let chunk = (CHUNK_BYTES / depth_bytes.max(1) / 64).max(1) * 64;
    let c = &Shared(c.as_mut_ptr());
    (0..lines.div_ceil(width)).into_par_iter().for_each(|strip| {
        let range = strip * width..lines.min((strip + 1) * width);
        STRIPS.with_borrow_mut(|kept| {
            let kept = match kept {
                Some(kept) if kept.rhs.kernel() == a.kernel() => kept,
                _ => kept.insert(Strip { rhs: Rhs::with(a.kernel()), values: Vec::new() }),
            };
            fill(range.clone(), kept);
            for begin in (0..a.rows()).step_by(chunk) {
                let rows = begin..a.rows().min(begin + chunk);
                // SAFETY: rows and columns lie inside C, and no other task has the same columns.
                unsafe {
                    let corner = c.0.add(begin * lines + range.start);
                    product_at(a, &kept.rhs, rows, corner, lines, add);
                }
            }
        });
    });
}
