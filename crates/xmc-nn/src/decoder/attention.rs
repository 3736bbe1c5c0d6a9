//! How do tokens look back? Per sequence and head, with what stands in front of the sequence (the prompt) first:
//!
//!   S = Q K^T,   P = softmax(S) over what a row sees,   O = P V
//!   dV = P^T dO,   dP = dO V^T,   dS = P (dP - row sums of P dP),   dQ = dS K,   dK = dS^T Q
//!
//! Q comes turned and divided by sqrt(head width), K turned. Several query heads share a head of keys and values, whose
//! gradients sum over them. Rows are taken in blocks, so that P stays in the cache however long a sequence is.

use std::ops::Range;

use rayon::prelude::*;

use super::config::Config;
use super::packed::{Packed, Sequence};
use crate::buffers::{Pool, sized};
use crate::ops::matmul::{Lhs, Precision, Rhs, View, product};
use crate::ops::reduce::axpy;
use crate::ops::softmax::{softmax_rows_backward, softmax_rows_causal};

/// Query rows of a block.
const ROWS: usize = 128;

/// Heads and their width.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    heads: usize,
    kv_heads: usize,
    width: usize,
}

/// Queries `[t, heads width]`, keys and values `[t, kv_heads width]`, or their gradients.
#[derive(Clone, Copy)]
pub(crate) struct Projected<'a> {
    pub(crate) q: &'a [f32],
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
}

/// Where gradients go, shaped as [`Projected`].
pub(crate) struct Gradients<'a> {
    pub(crate) q: &'a mut [f32],
    pub(crate) k: &'a mut [f32],
    pub(crate) v: &'a mut [f32],
}

/// Keys and values in front of a sequence `[n, kv_heads width]`.
#[derive(Clone, Copy, Default)]
pub(crate) struct Front<'a> {
    pub(crate) k: &'a [f32],
    pub(crate) v: &'a [f32],
}

/// Buffers of one thread.
#[derive(Debug)]
pub(crate) struct Attention {
    lhs: Lhs,
    /// A right operand that is used once.
    rhs: Rhs,
    /// K^T and V for forward; K^T, K and V^T for backward.
    keys_t: Rhs,
    keys: Rhs,
    values: Rhs,
    /// Keys or values of one head with those in front `[n + s, width]`, then their gradients.
    gathered: Vec<f32>,
    dkeys: Vec<f32>,
    dvalues: Vec<f32>,
    /// P and dS of a block `[ROWS, n + s]`.
    probabilities: Vec<f32>,
    scores: Vec<f32>,
    /// Gradients of the keys and values in front `[n, kv_heads width]`, summed over a task.
    dfront: [Vec<f32>; 2],
}

impl Shape {
    pub(crate) fn new(config: &Config) -> Self {
        Shape { heads: config.heads, kv_heads: config.kv_heads, width: config.head_dim }
    }

    /// Columns of queries.
    pub(crate) fn queries(self) -> usize {
        self.heads * self.width
    }

    /// Columns of keys, and of values.
    pub(crate) fn keys(self) -> usize {
        self.kv_heads * self.width
    }

    /// Heads of queries that share head `kv` of keys and values.
    fn sharing(self, kv: usize) -> Range<usize> {
        let group = self.heads / self.kv_heads;
        kv * group..(kv + 1) * group
    }
}

/// O `[t, heads width]` of all rows of a pass. `front` is what was computed before the pass and is in front of all.
pub(crate) fn forward(
    pool: &Pool<Attention>,
    precision: Precision,
    shape: Shape,
    packed: &Packed,
    x: Projected<'_>,
    front: Front<'_>,
    out: &mut [f32],
) {
    let mut rest = out;
    let mut tasks = Vec::new();
    for group in packed.groups() {
        for i in group.sequences {
            let sequence = packed.sequence(i);
            let (rows, after) = std::mem::take(&mut rest).split_at_mut(sequence.rows.len() * shape.queries());
            tasks.push((sequence, rows));
            rest = after;
        }
    }
    tasks.into_par_iter().for_each(|(sequence, out)| {
        let mut buffers = pool.take(|| Attention::new(precision));
        let (x, front) = of_sequence(shape, packed, &sequence, x, front);
        buffers.forward(shape, x, front, sequence.reader, out);
        pool.give(buffers);
    });
}

/// Gradients of queries, keys and values of all rows of a pass, given `dout [t, heads width]`: those of the prompt's rows
/// with what all texts add to them.
pub(crate) fn backward(
    pool: &Pool<Attention>,
    precision: Precision,
    shape: Shape,
    packed: &Packed,
    x: Projected<'_>,
    dout: &[f32],
    d: &mut Gradients<'_>,
) {
    let (wide, narrow) = (shape.queries(), shape.keys());
    let (mut dq, mut dk, mut dv) = (&mut *d.q, &mut *d.k, &mut *d.v);
    let mut tasks = Vec::new();
    for group in packed.groups() {
        let (q, k, v);
        (q, dq) = std::mem::take(&mut dq).split_at_mut(group.len() * wide);
        (k, dk) = std::mem::take(&mut dk).split_at_mut(group.len() * narrow);
        (v, dv) = std::mem::take(&mut dv).split_at_mut(group.len() * narrow);
        tasks.push((group, Gradients { q, k, v }));
    }
    let in_front: Vec<[Vec<f32>; 2]> = tasks
        .into_par_iter()
        .with_max_len(1)
        .map(|(group, d)| {
            let mut buffers = pool.take(|| Attention::new(precision));
            buffers.dfront.iter_mut().for_each(|sums| {
                sums.clear();
                sums.resize(packed.prompt() * narrow, 0.0);
            });
            for i in group.sequences {
                let sequence = packed.sequence(i);
                let (x, front) = of_sequence(shape, packed, &sequence, x, Front::default());
                let Range { start, end } = sequence.rows;
                let at = start - group.tokens.start..end - group.tokens.start;
                let mut d = Gradients {
                    q: &mut d.q[at.start * wide..at.end * wide],
                    k: &mut d.k[at.start * narrow..at.end * narrow],
                    v: &mut d.v[at.start * narrow..at.end * narrow],
                };
                let dout = &dout[start * wide..end * wide];
                buffers.backward(shape, x, front, sequence.reader, dout, &mut d);
            }
            let sums = buffers.dfront.clone();
            pool.give(buffers);
            sums
        })
        .collect();
    for [dk, dv] in &in_front {
        axpy(1.0, dk, &mut d.k[..dk.len()]);
        axpy(1.0, dv, &mut d.v[..dv.len()]);
    }
}

/// The rows of a sequence and what is in front of them.
fn of_sequence<'a>(
    shape: Shape,
    packed: &Packed,
    sequence: &Sequence,
    x: Projected<'a>,
    before: Front<'a>,
) -> (Projected<'a>, Front<'a>) {
    let Range { start, end } = sequence.rows;
    let (wide, narrow) = (shape.queries(), shape.keys());
    let rows = Projected {
        q: &x.q[start * wide..end * wide],
        k: &x.k[start * narrow..end * narrow],
        v: &x.v[start * narrow..end * narrow],
    };
    let prompt = packed.prompt() * narrow;
    let front = match (sequence.behind, prompt) {
        (true, 1..) => Front { k: &x.k[..prompt], v: &x.v[..prompt] },
        _ => before,
    };
    (rows, front)
}

/// One block of query rows of a head.
#[derive(Clone, Copy)]
struct Block {
    /// Rows.
    len: usize,
    /// First element of the head in `[s, heads width]`.
    at: usize,
    /// Columns of that matrix.
    stride: usize,
    /// Width of a head.
    width: usize,
    /// What the first row sees.
    visible: usize,
    /// Whether the last row does not see itself.
    reader: bool,
}

impl Block {
    fn of<'a>(&self, x: &'a [f32]) -> View<'a> {
        View::strided(&x[self.at..], self.len, self.width, self.stride)
    }
}

/// Blocks of a head of a sequence with `rows` rows and `front` keys in front.
fn blocks(shape: Shape, head: usize, rows: usize, front: usize, reader: bool) -> impl Iterator<Item = Block> {
    (0..rows).step_by(ROWS).map(move |start| {
        let len = ROWS.min(rows - start);
        Block {
            len,
            at: start * shape.queries() + head * shape.width,
            stride: shape.queries(),
            width: shape.width,
            visible: front + start + 1,
            reader: reader && start + len == rows,
        }
    })
}

impl Attention {
    pub(crate) fn new(precision: Precision) -> Self {
        let rhs = || Rhs::new(precision);
        Attention {
            lhs: Lhs::new(precision),
            rhs: rhs(),
            keys_t: rhs(),
            keys: rhs(),
            values: rhs(),
            gathered: Vec::new(),
            dkeys: Vec::new(),
            dvalues: Vec::new(),
            probabilities: Vec::new(),
            scores: Vec::new(),
            dfront: [Vec::new(), Vec::new()],
        }
    }

    fn forward(&mut self, shape: Shape, x: Projected<'_>, front: Front<'_>, reader: bool, out: &mut [f32]) {
        let rows = x.q.len() / shape.queries();
        let n = front.k.len() / shape.keys();
        for kv in 0..shape.kv_heads {
            let keys = gather(shape, kv, front.k, x.k, &mut self.gathered);
            self.keys_t.fill(keys.t());
            let values = gather(shape, kv, front.v, x.v, &mut self.gathered);
            self.values.fill(values);
            for head in shape.sharing(kv) {
                for block in blocks(shape, head, rows, n, reader) {
                    self.attend(block, x.q);
                    let cols = self.keys_t.cols();
                    self.lhs.fill(View::new(&self.probabilities, block.len, cols));
                    product(&self.lhs, &self.values, 0..block.len, &mut out[block.at..], block.stride, false);
                }
            }
        }
    }

    fn backward(
        &mut self,
        shape: Shape,
        x: Projected<'_>,
        front: Front<'_>,
        reader: bool,
        dout: &[f32],
        d: &mut Gradients<'_>,
    ) {
        let rows = x.q.len() / shape.queries();
        let n = front.k.len() / shape.keys();
        for kv in 0..shape.kv_heads {
            let keys = gather(shape, kv, front.k, x.k, &mut self.gathered);
            self.keys_t.fill(keys.t());
            self.keys.fill(keys);
            let values = gather(shape, kv, front.v, x.v, &mut self.gathered);
            self.values.fill(values.t());
            sized(&mut self.dkeys, (n + rows) * shape.width).fill(0.0);
            sized(&mut self.dvalues, (n + rows) * shape.width).fill(0.0);
            for head in shape.sharing(kv) {
                for block in blocks(shape, head, rows, n, reader) {
                    self.attend(block, x.q);
                    self.block_backward(block, x.q, dout, d.q);
                }
            }
            let [dfront_k, dfront_v] = &mut self.dfront;
            scatter(shape, kv, &self.dkeys[..(n + rows) * shape.width], dfront_k, d.k, n);
            scatter(shape, kv, &self.dvalues[..(n + rows) * shape.width], dfront_v, d.v, n);
        }
    }

    /// Gradients of a block whose P was just computed.
    fn block_backward(&mut self, block: Block, q: &[f32], dout: &[f32], dq: &mut [f32]) {
        let (len, cols, width) = (block.len, self.keys_t.cols(), block.width);
        self.lhs.fill(View::new(&self.probabilities, len, cols).t());
        self.rhs.fill(block.of(dout));
        product(&self.lhs, &self.rhs, 0..cols, &mut self.dvalues, width, true);

        self.lhs.fill(block.of(dout));
        let scores = sized(&mut self.scores, len * cols);
        product(&self.lhs, &self.values, 0..len, scores, cols, false);
        softmax_rows_backward(&self.probabilities[..len * cols], scores, cols);

        self.lhs.fill(View::new(scores, len, cols));
        product(&self.lhs, &self.keys, 0..len, &mut dq[block.at..], block.stride, false);
        self.lhs.fill(View::new(&self.scores, len, cols).t());
        self.rhs.fill(block.of(q));
        product(&self.lhs, &self.rhs, 0..cols, &mut self.dkeys, width, true);
    }

    /// P of a block.
    fn attend(&mut self, block: Block, q: &[f32]) {
        let cols = self.keys_t.cols();
        let scores = sized(&mut self.probabilities, block.len * cols);
        self.lhs.fill(block.of(q));
        product(&self.lhs, &self.keys_t, 0..block.len, scores, cols, false);
        let (most, last) = scores.split_at_mut((block.len - usize::from(block.reader)) * cols);
        softmax_rows_causal(most, cols, block.visible);
        // What its last but one row sees, if it has one: everything but itself.
        softmax_rows_causal(last, cols, cols - 1);
    }
}

/// Rows of one head of keys or values `[n + s, width]`, those in front first.
fn gather<'a>(shape: Shape, kv: usize, front: &[f32], x: &[f32], out: &'a mut Vec<f32>) -> View<'a> {
    out.clear();
    let head = kv * shape.width..(kv + 1) * shape.width;
    for row in front.chunks_exact(shape.keys()).chain(x.chunks_exact(shape.keys())) {
        out.extend_from_slice(&row[head.clone()]);
    }
    View::new(out, out.len() / shape.width, shape.width)
}

/// Gradients of one head of keys or values to where they belong: the first `n` rows are added to `front`.
fn scatter(shape: Shape, kv: usize, d: &[f32], front: &mut [f32], dx: &mut [f32], n: usize) {
    let head = kv * shape.width..(kv + 1) * shape.width;
    let (first, own) = d.split_at(n * shape.width);
    for (d, row) in first.chunks_exact(shape.width).zip(front.chunks_exact_mut(shape.keys())) {
        axpy(1.0, d, &mut row[head.clone()]);
    }
    for (d, row) in own.chunks_exact(shape.width).zip(dx.chunks_exact_mut(shape.keys())) {
        row[head.clone()].copy_from_slice(d);
    }
}
