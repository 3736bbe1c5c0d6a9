//! One layer on one chunk, forward and backward (post-norm):
//!
//!   q, k, v = x W_qkv^T + b            u = x1 W_up^T + b
//!   z1 = x + drop(attention W_o^T + b)  z = x1 + drop(gelu(u) W_down^T + b)
//!   x1 = norm(z1)                      output = norm(z)
//!
//! The tape keeps attention's output, z1, z and the statistics of both norms; backward computes the rest again, which
//! takes two of the four products of the forward pass.

use std::ops::Range;

use super::attention::Attention;
use super::chunks::Chunk;
use super::gradients::{LayerGradients, Operands};
use super::pass::Pass;
use super::places::Affine;
use super::weights::{LayerWeights, strips};
use crate::buffers::sized;
use crate::dropout::{Dropout, Site};
use crate::ops::gelu::{gelu, gelu_backward};
use crate::ops::matmul::{Lhs, Precision, View, product};
use crate::ops::norm::{layer_norm, layer_norm_backward};
use crate::ops::reduce::{add_bias, column_sums, scale};

/// Rows that go through several passes while they are in the first cache.
const ROWS: usize = 8;

/// What backward needs of the forward pass of a layer on a chunk.
#[derive(Debug, Default)]
pub(crate) struct LayerTape {
    /// Attention's output `[t, h]`, before W_o.
    pub(crate) attended: Vec<f32>,
    /// Before attention's norm `[t, h]`.
    pub(crate) z1: Vec<f32>,
    pub(crate) stats1: Vec<[f32; 2]>,
    /// Before the layer's norm `[t, h]`.
    pub(crate) z: Vec<f32>,
    pub(crate) stats: Vec<[f32; 2]>,
}

/// Buffers of one thread.
#[derive(Debug)]
pub(crate) struct Scratch {
    /// A left operand that is used once.
    lhs: Lhs,
    /// Those of all strips: x1 and, in backward, the gradient that goes into the feed-forward part.
    lhs_x1: Lhs,
    lhs_branch: Lhs,
    attention: Attention,
    /// The stream `[t, h]`: input of a layer, then its output.
    pub(crate) x: Vec<f32>,
    /// `[t, 3 h]`
    qkv: Vec<f32>,
    dqkv: Vec<f32>,
    /// Before and behind gelu, of one strip.
    u: Vec<f32>,
    inner: Vec<f32>,
    /// `[t, h]`
    narrow: Vec<f32>,
    branch: Vec<f32>,
    pub(crate) stats: Vec<[f32; 2]>,
    /// Of passes that keep nothing.
    pub(crate) tape: LayerTape,
}

impl Scratch {
    pub(crate) fn new(precision: Precision) -> Self {
        Scratch {
            lhs: Lhs::new(precision),
            lhs_x1: Lhs::new(precision),
            lhs_branch: Lhs::new(precision),
            attention: Attention::new(precision),
            x: Vec::new(),
            qkv: Vec::new(),
            dqkv: Vec::new(),
            u: Vec::new(),
            inner: Vec::new(),
            narrow: Vec::new(),
            branch: Vec::new(),
            stats: Vec::new(),
            tape: LayerTape::default(),
        }
    }
}

/// One layer of a pass, on one chunk.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub(crate) pass: &'a Pass<'a>,
    pub(crate) index: usize,
    pub(crate) chunk: &'a Chunk,
}

impl Layer<'_> {
    /// `s.x` becomes the layer's output.
    pub(crate) fn forward(self, tape: &mut LayerTape, s: &mut Scratch) {
        let (pass, at) = (self.pass, &self.pass.places.layers[self.index]);
        let (weights, t, h) = (&pass.weights[self.index], self.chunk.len(), pass.config.hidden);
        let Scratch { lhs, lhs_x1, attention, x, qkv, u, inner, .. } = s;
        let (x, qkv) = (&mut x[..t * h], sized(qkv, 3 * t * h));
        let [attended, z1, z] = [&mut tape.attended, &mut tape.z1, &mut tape.z].map(|v| sized(v, t * h));

        lhs.fill(View::new(x, t, h));
        self.project(lhs, qkv);
        attention.forward(self, qkv, attended);
        lhs.fill(View::new(attended, t, h));
        product(lhs, &weights.out, 0..t, z1, h, false);
        self.join(Site::Attention, &at.out, x, z1);
        pass.norm(&at.attention_norm, z1, x, &mut tape.stats1);

        lhs_x1.fill(View::new(x, t, h));
        for (i, strip) in strips(pass.config.intermediate).enumerate() {
            let width = strip.len();
            let [u, inner] = [&mut *u, &mut *inner].map(|v| sized(v, t * width));
            product(lhs_x1, &weights.up[i], 0..t, u, width, false);
            self.activate(strip, u, inner);
            lhs.fill(View::new(inner, t, width));
            product(lhs, &weights.down[i], 0..t, z, h, i > 0);
        }
        self.join(Site::FeedForward, &at.down, x, z);
        pass.norm(&at.norm, z, x, &mut tape.stats);
    }

    /// From the layer's input `s.x` and `dy`, the gradient of its output, makes `dy` that of its input; leaves the
    /// operands of weight gradients and the sums of small ones. `transposed` are the weights for dx = dy W.
    pub(crate) fn backward(
        self,
        tape: &LayerTape,
        transposed: &LayerWeights,
        dy: &mut [f32],
        gradients: &mut LayerGradients,
        operands: &mut Operands,
        s: &mut Scratch,
    ) {
        self.feed_forward_backward(tape, transposed, dy, gradients, operands, s);
        self.attention_backward(tape, transposed, dy, gradients, operands, s);
    }

    /// `dy` becomes the gradient of x1.
    fn feed_forward_backward(
        self,
        tape: &LayerTape,
        transposed: &LayerWeights,
        dy: &mut [f32],
        gradients: &mut LayerGradients,
        operands: &mut Operands,
        s: &mut Scratch,
    ) {
        let (pass, at) = (self.pass, &self.pass.places.layers[self.index]);
        let (weights, t, h) = (&pass.weights[self.index], self.chunk.len(), pass.config.hidden);
        let Scratch { lhs, lhs_x1, lhs_branch, u, inner, narrow, branch, stats, .. } = s;
        let [x1, branch] = [narrow, branch].map(|v| sized(v, t * h));
        pass.norm(&at.attention_norm, &tape.z1[..t * h], x1, stats);
        lhs_x1.fill(View::new(x1, t, h));
        operands.x1.fill(View::new(x1, t, h));

        let weight = &pass.params[at.norm.weight.clone()];
        let [dweight, dbias] = &mut gradients.norm;
        layer_norm_backward(&tape.z[..t * h], weight, &tape.stats, dy, dweight, dbias);
        self.leave(Site::FeedForward, dy, branch, &mut gradients.down_bias);
        lhs_branch.fill(View::new(branch, t, h));
        operands.ddown.fill(View::new(branch, t, h).t());

        for (i, strip) in strips(pass.config.intermediate).enumerate() {
            let width = strip.len();
            let [u, inner] = [&mut *u, &mut *inner].map(|v| sized(v, t * width));
            product(lhs_x1, &weights.up[i], 0..t, u, width, false);
            self.activate(strip.clone(), u, inner);
            operands.inner[i].fill(View::new(inner, t, width));
            product(lhs_branch, &transposed.down[i], 0..t, inner, width, false);
            for (u, du) in u.chunks(ROWS * width).zip(inner.chunks_mut(ROWS * width)) {
                gelu_backward(u, du);
                column_sums(du, &mut gradients.up_bias[strip.clone()]);
            }
            operands.dup[i].fill(View::new(inner, t, width).t());
            lhs.fill(View::new(inner, t, width));
            product(lhs, &transposed.up[i], 0..t, dy, h, true);
        }
    }

    /// `dy`, the gradient of x1, becomes that of the layer's input.
    fn attention_backward(
        self,
        tape: &LayerTape,
        transposed: &LayerWeights,
        dy: &mut [f32],
        gradients: &mut LayerGradients,
        operands: &mut Operands,
        s: &mut Scratch,
    ) {
        let (pass, at) = (self.pass, &self.pass.places.layers[self.index]);
        let (t, h) = (self.chunk.len(), pass.config.hidden);
        let Scratch { lhs, attention, x, qkv, dqkv, narrow, branch, .. } = s;
        let [dattended, branch] = [narrow, branch].map(|v| sized(v, t * h));
        let [qkv, dqkv] = [qkv, dqkv].map(|v| sized(v, 3 * t * h));
        let weight = &pass.params[at.attention_norm.weight.clone()];
        let [dweight, dbias] = &mut gradients.attention_norm;
        layer_norm_backward(&tape.z1[..t * h], weight, &tape.stats1, dy, dweight, dbias);
        self.leave(Site::Attention, dy, branch, &mut gradients.out_bias);
        operands.attended.fill(View::new(&tape.attended[..t * h], t, h));
        operands.dout.fill(View::new(branch, t, h).t());
        lhs.fill(View::new(branch, t, h));
        product(lhs, &transposed.out, 0..t, dattended, h, false);

        lhs.fill(View::new(&x[..t * h], t, h));
        operands.x.fill(View::new(&x[..t * h], t, h));
        self.project(lhs, qkv);
        attention.backward(self, qkv, dattended, dqkv, &mut gradients.relative);
        for row in dqkv.chunks_exact_mut(3 * h) {
            scale(&mut row[..h], pass.config.query_scale());
            column_sums(row, &mut gradients.qkv_bias);
        }
        operands.dqkv.fill(View::new(dqkv, t, 3 * h).t());
        lhs.fill(View::new(dqkv, t, 3 * h));
        product(lhs, &transposed.qkv, 0..t, dy, h, true);
    }

    /// Queries, divided by sqrt(head width), keys and values of the rows of `x`.
    fn project(self, x: &Lhs, qkv: &mut [f32]) {
        let (config, at) = (self.pass.config, &self.pass.places.layers[self.index].qkv);
        let weights = &self.pass.weights[self.index].qkv;
        product(x, weights, 0..x.rows(), qkv, 3 * config.hidden, false);
        for row in qkv.chunks_exact_mut(3 * config.hidden) {
            add_bias(row, &self.pass.params[at.bias.clone()]);
            scale(&mut row[..config.hidden], config.query_scale());
        }
    }

    /// u += bias, y = gelu(u), for a strip of columns.
    fn activate(self, strip: Range<usize>, u: &mut [f32], y: &mut [f32]) {
        let bias = &self.pass.params[self.pass.places.layers[self.index].up.bias.clone()][strip];
        for (u, y) in u.chunks_mut(ROWS * bias.len()).zip(y.chunks_mut(ROWS * bias.len())) {
            add_bias(u, bias);
            gelu(u, y);
        }
    }

    /// z = drop(z + bias) + x
    fn join(self, site: Site, at: &Affine, x: &[f32], z: &mut [f32]) {
        let bias = &self.pass.params[at.bias.clone()];
        join_rows(z, bias, self.dropout(site), self.chunk.tokens.start, x);
    }

    /// branch = drop(dz), the gradient that goes into the branch; adds that of its bias.
    fn leave(self, site: Site, dz: &[f32], branch: &mut [f32], dbias: &mut [f32]) {
        leave_rows(dz, self.dropout(site), self.chunk.tokens.start, branch, dbias);
    }

    fn dropout(self, site: Site) -> Option<Dropout> {
        let rates = &self.pass.config.dropout;
        let rate = if matches!(site, Site::Attention) { rates.attention } else { rates.feed_forward };
        Dropout::new(self.pass.dropout, self.index, site, rate)
    }
}

impl Pass<'_> {
    /// y = norm(z)
    pub(crate) fn norm(&self, at: &Affine, z: &[f32], y: &mut [f32], stats: &mut Vec<[f32; 2]>) {
        let (weight, bias) = (&self.params[at.weight.clone()], &self.params[at.bias.clone()]);
        layer_norm(z, weight, bias, self.config.norm_eps, y, stats);
    }
}

crate::simd! {
    /// Rows of z = drop(z + bias) + x, in one pass; the first row belongs to token `first`.
    fn join_rows(z: &mut [f32], bias: &[f32], dropout: Option<Dropout>, first: usize, x: &[f32]) {
        let h = bias.len();
        for ((token, z), x) in (first..).zip(z.chunks_exact_mut(h)).zip(x.chunks_exact(h)) {
            for (z, b) in z.iter_mut().zip(bias) {
                *z += b;
            }
            if let Some(dropout) = dropout {
                dropout.apply_row(token, z);
            }
            for (z, x) in z.iter_mut().zip(x) {
                *z += x;
            }
        }
    }

    /// Rows of branch = drop(dz), dbias += branch, in one pass.
    fn leave_rows(dz: &[f32], dropout: Option<Dropout>, first: usize, branch: &mut [f32], dbias: &mut [f32]) {
        let h = dbias.len();
        for ((token, dz), branch) in (first..).zip(dz.chunks_exact(h)).zip(branch.chunks_exact_mut(h)) {
            branch.copy_from_slice(dz);
            if let Some(dropout) = dropout {
                dropout.apply_row(token, branch);
            }
            for (sum, b) in dbias.iter_mut().zip(branch.iter()) {
                *sum += b;
            }
        }
    }
}
