//! How do the tokens of a sequence look at each other? Per sequence and head:
//!
//!   S = Q K^T (+ distance bias),   P = softmax(S),   O = drop(P) V
//!   dV = drop(P)^T dO,   G = drop(P) (dO V^T),   dS = G - P (row sums of G),   dQ = dS K,   dK = dS^T Q
//!
//! (G is a product of elements: that of drop(P) holds the mask already.) Q comes divided by sqrt(head width). P `[s, s]` lives for one head at a time and is computed again in backward.

use super::layer::Layer;
use super::relative::DistanceBias;
use crate::dropout::{Dropout, Site};
use crate::ops::matmul::{Lhs, Precision, Rhs, View, product};
use crate::ops::simd::{LANES, fma, total};
use crate::ops::softmax::softmax_rows;

/// Buffers of one thread.
#[derive(Debug)]
pub(crate) struct Attention {
    lhs: Lhs,
    rhs: Rhs,
    /// P `[s, s]`
    probabilities: Vec<f32>,
    /// drop(P) `[s, s]`
    dropped: Vec<f32>,
    /// drop(P)'s gradient, then dS `[s, s]`
    scores: Vec<f32>,
}

/// One head of one sequence: where its blocks `[s, head width]` lie.
#[derive(Clone, Copy)]
struct Head {
    index: usize,
    /// Tokens s.
    len: usize,
    width: usize,
    /// First token, counted in the batch.
    token: usize,
    /// First element in a matrix `[t, h]`.
    at: usize,
    /// First element in a matrix `[t, 3 h]`.
    at_qkv: usize,
    hidden: usize,
}

impl Head {
    /// Block of a matrix `[t, h]`.
    fn of<'a>(&self, x: &'a [f32]) -> View<'a> {
        View::strided(&x[self.at..], self.len, self.width, self.hidden)
    }

    /// Queries (0), keys (1) or values (2).
    fn part<'a>(&self, qkv: &'a [f32], part: usize) -> View<'a> {
        View::strided(&qkv[self.at_qkv + part * self.hidden..], self.len, self.width, 3 * self.hidden)
    }
}

impl Attention {
    pub(crate) fn new(precision: Precision) -> Self {
        Attention {
            lhs: Lhs::new(precision),
            rhs: Rhs::new(precision),
            probabilities: Vec::new(),
            dropped: Vec::new(),
            scores: Vec::new(),
        }
    }

    /// O `[t, h]` of all sequences of a chunk from `qkv [t, 3 h]`.
    pub(crate) fn forward(&mut self, layer: Layer<'_>, qkv: &[f32], out: &mut [f32]) {
        for head in heads(layer) {
            let dropout = self.probabilities(layer, head, qkv);
            if let Some(dropout) = dropout {
                dropout.apply(head.token, &mut self.probabilities, head.len);
            }
            self.lhs.fill(View::new(&self.probabilities, head.len, head.len));
            self.rhs.fill(head.part(qkv, 2));
            product(&self.lhs, &self.rhs, 0..head.len, &mut out[head.at..], head.hidden, false);
        }
    }

    /// From dO `[t, h]` the gradients of queries, keys and values `dqkv [t, 3 h]`; those of the distance bias are
    /// added to `dbias`. `qkv` are the same as in forward.
    pub(crate) fn backward(
        &mut self,
        layer: Layer<'_>,
        qkv: &[f32],
        dout: &[f32],
        dqkv: &mut [f32],
        dbias: &mut [f32],
    ) {
        for head in heads(layer) {
            let (len, stride) = (head.len, 3 * head.hidden);
            let [at_q, at_k, at_v] = [0, 1, 2].map(|part| head.at_qkv + part * head.hidden);
            let dropout = self.probabilities(layer, head, qkv);
            self.dropped.clone_from(&self.probabilities);
            if let Some(dropout) = dropout {
                dropout.apply(head.token, &mut self.dropped, len);
            }
            self.scores.resize(len * len, 0.0);
            self.lhs.fill(View::new(&self.dropped, len, len).t());
            self.rhs.fill(head.of(dout));
            product(&self.lhs, &self.rhs, 0..len, &mut dqkv[at_v..], stride, false);

            self.lhs.fill(head.of(dout));
            self.rhs.fill(head.part(qkv, 2).t());
            product(&self.lhs, &self.rhs, 0..len, &mut self.scores, len, false);
            scores_backward(&self.probabilities, &self.dropped, &mut self.scores, len);
            if layer.pass.relative.is_some() {
                let reach = layer.pass.config.max_positions();
                DistanceBias::add_gradient(reach, head.index, &self.scores, len, dbias);
            }

            self.lhs.fill(View::new(&self.scores, len, len));
            self.rhs.fill(head.part(qkv, 1));
            product(&self.lhs, &self.rhs, 0..len, &mut dqkv[at_q..], stride, false);
            self.lhs.fill(View::new(&self.scores, len, len).t());
            self.rhs.fill(head.part(qkv, 0));
            product(&self.lhs, &self.rhs, 0..len, &mut dqkv[at_k..], stride, false);
        }
    }

    /// P before dropping; returns the masks that belong to it.
    fn probabilities(&mut self, layer: Layer<'_>, head: Head, qkv: &[f32]) -> Option<Dropout> {
        self.probabilities.resize(head.len * head.len, 0.0);
        self.lhs.fill(head.part(qkv, 0));
        self.rhs.fill(head.part(qkv, 1).t());
        product(&self.lhs, &self.rhs, 0..head.len, &mut self.probabilities, head.len, false);
        if let Some(bias) = layer.pass.relative {
            bias.add(head.index, &mut self.probabilities, head.len);
        }
        softmax_rows(&mut self.probabilities, head.len);
        let site = Site::Probabilities { head: head.index };
        Dropout::new(layer.pass.dropout, layer.index, site, layer.pass.config.dropout.probabilities)
    }
}

crate::simd! {
    /// `d [s, s]`, the gradient of drop(P), becomes dS.
    fn scores_backward(probabilities: &[f32], dropped: &[f32], d: &mut [f32], cols: usize) {
        let rows = probabilities.chunks_exact(cols).zip(dropped.chunks_exact(cols));
        for ((p, kept), d) in rows.zip(d.chunks_exact_mut(cols)) {
            let mut sums = [0f32; LANES];
            let (blocks, rest) = d.as_chunks_mut::<LANES>();
            let (kept_blocks, kept_rest) = kept.as_chunks::<LANES>();
            for (d, kept) in blocks.iter_mut().zip(kept_blocks) {
                for lane in 0..LANES {
                    d[lane] *= kept[lane];
                    sums[lane] += d[lane];
                }
            }
            for (lane, (d, kept)) in rest.iter_mut().zip(kept_rest).enumerate() {
                *d *= kept;
                sums[lane] += *d;
            }
            let sum = total::<FUSED>(&sums);
            for (d, &p) in d.iter_mut().zip(p) {
                *d = fma::<FUSED>(-p, sum, *d);
            }
        }
    }
}

/// All heads of all sequences of a chunk.
fn heads(layer: Layer<'_>) -> impl Iterator<Item = Head> + '_ {
    let Layer { pass, chunk, .. } = layer;
    let (hidden, width) = (pass.config.hidden, pass.config.head_dim());
    chunk.rows(pass.batch).flat_map(move |rows| {
        (0..pass.config.heads).map(move |index| Head {
            index,
            len: rows.len(),
            width,
            token: chunk.tokens.start + rows.start,
            at: rows.start * hidden + index * width,
            at_qkv: rows.start * 3 * hidden + index * width,
            hidden,
        })
    })
}
