//! One layer on one chunk, forward and backward (post-norm):
//!
//!   q, k, v = x W_qkv^T + b            u = x1 W_up^T + b
//!   z1 = x + drop(attention W_o^T + b)  z = x1 + drop(gelu(u) W_down^T + b)
//!   x1 = norm(z1)                      output = norm(z)
//!
//! The tape keeps attention's output, z1, z and the statistics of both norms; backward computes the rest again, which
//! takes two of the four products of the forward pass.

use super::attention::Attention;
use super::chunks::Chunk;
use super::gradients::{LayerGradients, Operands};
use super::pass::{Pass, sized};
use super::places::Affine;
use super::weights::LayerWeights;
use crate::dropout::{Dropout, Site};
use crate::ops::gelu::{gelu, gelu_backward};
use crate::ops::matmul::{Lhs, Precision, Rhs, View, product};
use crate::ops::norm::{layer_norm, layer_norm_backward};
use crate::ops::reduce::{add_bias, column_sums, scale};

/// Rows that go through several passes while they are in the first cache.
const ROWS: usize = 4;

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
    lhs: Lhs,
    attention: Attention,
    /// The stream `[t, h]`: input of a layer, then its output.
    pub(crate) x: Vec<f32>,
    /// `[t, 3 h]`
    qkv: Vec<f32>,
    dqkv: Vec<f32>,
    /// `[t, f]`
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

    /// c = a B, or c += a B, for `a [t, k]`.
    fn multiply(&mut self, a: &[f32], t: usize, b: &Rhs, c: &mut [f32], add: bool) {
        self.lhs.fill(View::new(a, t, a.len() / t));
        product(&self.lhs, b, 0..t, c, c.len() / t, add);
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
        let [attended, z1, z] = [&mut tape.attended, &mut tape.z1, &mut tape.z].map(|v| sized(v, t * h));
        let mut x = std::mem::take(&mut s.x);
        let mut qkv = std::mem::take(&mut s.qkv);
        let mut inner = std::mem::take(&mut s.inner);

        self.project(t, &x[..t * h], sized(&mut qkv, 3 * t * h), s);
        s.attention.forward(self, &qkv, attended);
        s.multiply(attended, t, &weights.out, z1, false);
        self.join(Site::Attention, &at.out, &x[..t * h], z1);
        self.norm(&at.attention_norm, z1, &mut x[..t * h], &mut tape.stats1);

        let inner_len = t * pass.config.intermediate;
        s.multiply(&x[..t * h], t, &weights.up, sized(&mut inner, inner_len), false);
        let mut activated = std::mem::take(&mut s.u);
        self.activate(&mut inner[..inner_len], sized(&mut activated, inner_len));
        s.multiply(&activated[..inner_len], t, &weights.down, z, false);
        self.join(Site::FeedForward, &at.down, &x[..t * h], z);
        self.norm(&at.norm, z, &mut x[..t * h], &mut tape.stats);
        (s.x, s.qkv, s.inner, s.u) = (x, qkv, inner, activated);
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
        let (t, h, f) = (self.chunk.len(), pass.config.hidden, pass.config.intermediate);
        let [mut x1, mut u, mut inner, mut branch] =
            [&mut s.narrow, &mut s.u, &mut s.inner, &mut s.branch].map(std::mem::take);
        self.norm(&at.attention_norm, &tape.z1[..t * h], sized(&mut x1, t * h), &mut s.stats);
        s.multiply(&x1[..t * h], t, &pass.weights[self.index].up, sized(&mut u, t * f), false);
        self.activate(&mut u[..t * f], sized(&mut inner, t * f));
        operands.down.inputs.fill(View::new(&inner[..t * f], t, f));
        operands.up.inputs.fill(View::new(&x1[..t * h], t, h));

        let weight = &pass.params[at.norm.weight.clone()];
        let [dweight, dbias] = &mut gradients.norm;
        layer_norm_backward(&tape.z[..t * h], weight, &tape.stats, dy, dweight, dbias);
        self.leave(Site::FeedForward, dy, sized(&mut branch, t * h), &mut gradients.down_bias);
        operands.down.outputs.fill(View::new(&branch[..t * h], t, h).t());

        s.multiply(&branch[..t * h], t, &transposed.down, &mut inner[..t * f], false);
        for (u, du) in u[..t * f].chunks(ROWS * f).zip(inner[..t * f].chunks_mut(ROWS * f)) {
            gelu_backward(u, du);
            column_sums(du, &mut gradients.up_bias);
        }
        operands.up.outputs.fill(View::new(&inner[..t * f], t, f).t());
        s.multiply(&inner[..t * f], t, &transposed.up, dy, true);
        (s.narrow, s.u, s.inner, s.branch) = (x1, u, inner, branch);
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
        let [mut dattended, mut qkv, mut dqkv, mut branch, x] =
            [&mut s.narrow, &mut s.qkv, &mut s.dqkv, &mut s.branch, &mut s.x].map(std::mem::take);
        let weight = &pass.params[at.attention_norm.weight.clone()];
        let [dweight, dbias] = &mut gradients.attention_norm;
        layer_norm_backward(&tape.z1[..t * h], weight, &tape.stats1, dy, dweight, dbias);
        self.leave(Site::Attention, dy, sized(&mut branch, t * h), &mut gradients.out_bias);
        operands.out.inputs.fill(View::new(&tape.attended[..t * h], t, h));
        operands.out.outputs.fill(View::new(&branch[..t * h], t, h).t());
        s.multiply(&branch[..t * h], t, &transposed.out, sized(&mut dattended, t * h), false);

        self.project(t, &x[..t * h], sized(&mut qkv, 3 * t * h), s);
        let dqkv_used = sized(&mut dqkv, 3 * t * h);
        let relative = &mut gradients.relative;
        s.attention.backward(self, &qkv, &dattended, dqkv_used, relative);
        for row in dqkv_used.chunks_exact_mut(3 * h) {
            scale(&mut row[..h], pass.config.query_scale());
            column_sums(row, &mut gradients.qkv_bias);
        }
        operands.qkv.inputs.fill(View::new(&x[..t * h], t, h));
        operands.qkv.outputs.fill(View::new(dqkv_used, t, 3 * h).t());
        s.multiply(dqkv_used, t, &transposed.qkv, dy, true);
        (s.narrow, s.qkv, s.dqkv, s.branch, s.x) = (dattended, qkv, dqkv, branch, x);
    }

    /// Queries, divided by sqrt(head width), keys and values.
    fn project(self, t: usize, x: &[f32], qkv: &mut [f32], s: &mut Scratch) {
        let config = self.pass.config;
        let at = &self.pass.places.layers[self.index].qkv;
        s.multiply(x, t, &self.pass.weights[self.index].qkv, qkv, false);
        for row in qkv.chunks_exact_mut(3 * config.hidden) {
            add_bias(row, &self.pass.params[at.bias.clone()]);
            scale(&mut row[..config.hidden], config.query_scale());
        }
    }

    /// u += bias, y = gelu(u)
    fn activate(self, u: &mut [f32], y: &mut [f32]) {
        let bias = &self.pass.params[self.pass.places.layers[self.index].up.bias.clone()];
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

    fn norm(self, at: &Affine, z: &[f32], y: &mut [f32], stats: &mut Vec<[f32; 2]>) {
        self.pass.norm(at, z, y, stats);
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
