//! One layer on all rows of a pass, forward and backward (pre-norm):
//!
//!   n1 = norm(x)                     n2 = norm(x1)
//!   q, k, v = n1 W^T + b, turned     g, u = n2 W_gate^T, n2 W_up^T
//!   x1 = x + attention(q, k, v) W_o^T  y = x1 + (silu(g) u) W_down^T
//!
//! A matrix is unpacked once for all rows, and what goes into a product is computed on the way into the kernel's layout.
//! Weights are frozen, so backward makes the gradient of x alone (and of a low-rank adapter's factors). It begins with
//! x and computes everything but the last product again.

use rayon::prelude::*;

use super::attention::{self, Attention, Front, Gradients, Projected, Shape};
use super::config::Config;
use super::lora::Adapter;
use super::packed::Packed;
use super::rope::Turns;
use super::weights::{LayerWeights, Site};
use crate::buffers::{Pool, sized};
use crate::ops::matmul::Precision;
use crate::ops::reduce::add_bias;
use crate::ops::rms_norm::{rms_norm, rms_norm_backward};
use crate::ops::swiglu::{swiglu, swiglu_backward};
use crate::quant::Input;

/// Rows of a task of elementwise work.
const ROWS: usize = 32;

/// Everything that all layers of a pass read.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    pub(crate) config: &'a Config,
    pub(crate) precision: Precision,
    pub(crate) packed: &'a Packed,
    /// Position of every row `[t]`.
    pub(crate) positions: &'a [usize],
    pub(crate) turns: &'a Turns,
    pub(crate) adapter: Option<Adapter<'a>>,
    pub(crate) attention: &'a Pool<Attention>,
}

/// Buffers of a pass, used again by every layer.
#[derive(Debug)]
pub(crate) struct Work {
    input: Input,
    /// n1 or n2 `[t, h]`, for adapters alone.
    normed: Vec<f32>,
    /// `[t, heads width]`, turned and divided by sqrt(width).
    q: Vec<f32>,
    /// `[t, kv_heads width]`, turned.
    k: Vec<f32>,
    v: Vec<f32>,
    /// O `[t, heads width]`
    attended: Vec<f32>,
    /// `[t, f]`
    gate: Vec<f32>,
    up: Vec<f32>,
    /// silu(g) u, for adapters alone `[t, f]`.
    inner: Vec<f32>,
    /// Its gradient `[t, f]`.
    dinner: Vec<f32>,
    /// x1 `[t, h]`, in backward.
    middle: Vec<f32>,
    /// Gradients of what goes into products `[t, h]`, of O, q, k and v.
    dnormed: Vec<f32>,
    dattended: Vec<f32>,
    dq: Vec<f32>,
    dk: Vec<f32>,
    dv: Vec<f32>,
}

/// A layer of a pass.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub(crate) pass: Pass<'a>,
    pub(crate) index: usize,
    pub(crate) weights: &'a LayerWeights,
}

impl Work {
    pub(crate) fn new() -> Self {
        Work {
            input: Input::new(),
            normed: Vec::new(),
            q: Vec::new(),
            k: Vec::new(),
            v: Vec::new(),
            attended: Vec::new(),
            gate: Vec::new(),
            up: Vec::new(),
            inner: Vec::new(),
            dinner: Vec::new(),
            middle: Vec::new(),
            dnormed: Vec::new(),
            dattended: Vec::new(),
            dq: Vec::new(),
            dk: Vec::new(),
            dv: Vec::new(),
        }
    }

    /// Turned keys, and values, of the layer that was computed last, `[t, kv_heads width]`.
    pub(crate) fn keys_values(&self, len: usize) -> (&[f32], &[f32]) {
        (&self.k[..len], &self.v[..len])
    }
}

impl Layer<'_> {
    /// `x [t, h]` becomes the layer's output. `front` is what was computed before the pass.
    pub(crate) fn forward(self, front: Front<'_>, x: &mut [f32], w: &mut Work) {
        self.project(x, w);
        self.attend(front, w);
        self.add_attended(x, w);
        self.widen(x, w);
        let (t, f) = (self.rows(), self.pass.config.intermediate);
        let (gate, up) = (&w.gate[..t * f], &w.up[..t * f]);
        w.input.dense_from(t, f, self.pass.precision, |rows, out| {
            let at = rows.start * f..rows.end * f;
            swiglu(&gate[at.clone()], &up[at], out);
        });
        if self.pass.adapter.is_some() {
            swiglu_rows(gate, up, sized(&mut w.inner, t * f));
        }
        self.multiply(Site::Down, &w.input, &w.inner, x, true);
    }

    /// `dx [t, h]`, the gradient of the output, becomes that of the input `x [t, h]`; in the first layer without an
    /// adapter only the prompt's rows do. Gradients of an adapter are added to `grads`.
    pub(crate) fn backward(self, x: &[f32], dx: &mut [f32], w: &mut Work, mut grads: Option<&mut [f32]>) {
        let config = self.pass.config;
        let (t, h, f) = (self.rows(), config.hidden, config.intermediate);
        let precision = self.pass.precision;
        let mut middle = std::mem::take(&mut w.middle);
        let x1 = sized(&mut middle, t * h);
        x1.copy_from_slice(x);
        self.project(x, w);
        self.attend(Front::default(), w);
        self.add_attended(x1, w);
        self.widen(x1, w);

        w.input.dense(dx, t, h, precision);
        let (gate, up) = (&mut w.gate[..t * f], &mut w.up[..t * f]);
        if self.pass.adapter.is_some() {
            swiglu_rows(gate, up, sized(&mut w.inner, t * f));
        }
        let dinner = sized(&mut w.dinner, t * f);
        self.transposed(Site::Down, &w.input, &w.inner, dx, dinner, false, grads.as_deref_mut());
        swiglu_backward_rows(gate, up, dinner);

        let dn = sized(&mut w.dnormed, t * h);
        w.input.dense(gate, t, f, precision);
        self.transposed(Site::Gate, &w.input, &w.normed, gate, dn, false, grads.as_deref_mut());
        w.input.dense(up, t, f, precision);
        self.transposed(Site::Up, &w.input, &w.normed, up, dn, true, grads.as_deref_mut());
        norm_backward_rows(x1, &self.weights.feed_norm, config.norm_eps, dn, dx);

        self.attention_backward(dx, w, grads.as_deref_mut());
        self.project_backward(x, dx, w, grads);
        w.middle = middle;
    }

    /// From dx1 to the gradients of q, k and v as the products made them.
    fn attention_backward(self, dx: &[f32], w: &mut Work, grads: Option<&mut [f32]>) {
        let (t, h, shape) = (self.rows(), self.pass.config.hidden, self.shape());
        let (wide, narrow) = (t * shape.queries(), t * shape.keys());
        w.input.dense(dx, t, h, self.pass.precision);
        let dout = sized(&mut w.dattended, wide);
        self.transposed(Site::Output, &w.input, &w.attended, dx, dout, false, grads);
        let x = Projected { q: &w.q[..wide], k: &w.k[..narrow], v: &w.v[..narrow] };
        let mut d =
            Gradients { q: sized(&mut w.dq, wide), k: sized(&mut w.dk, narrow), v: sized(&mut w.dv, narrow) };
        let Pass { attention, precision, packed, .. } = self.pass;
        attention::backward(attention, precision, shape, packed, x, dout, &mut d);
        let scale = self.query_scale();
        self.each_row(d.q, shape.queries(), |position, row| self.pass.turns.turn_back(position, scale, row));
        self.each_row(d.k, shape.keys(), |position, row| self.pass.turns.turn_back(position, 1.0, row));
    }

    /// From the gradients of q, k and v to that of x, which is added to `dx`.
    fn project_backward(self, x: &[f32], dx: &mut [f32], w: &mut Work, mut grads: Option<&mut [f32]>) {
        let config = self.pass.config;
        let (h, shape) = (config.hidden, self.shape());
        // Nothing but the prompt learns below the first layer, unless an adapter learns in it.
        let only_prompt = self.index == 0 && self.pass.adapter.is_none();
        let t = if only_prompt { self.pass.packed.prompt() } else { self.rows() };
        let (x, dx) = (&x[..t * h], &mut dx[..t * h]);
        if self.pass.adapter.is_some() {
            norm_rows(x, &self.weights.attention_norm, config.norm_eps, sized(&mut w.normed, t * h));
        }
        let dn = sized(&mut w.dnormed, t * h);
        for (site, d, cols) in [
            (Site::Query, &w.dq, shape.queries()),
            (Site::Key, &w.dk, shape.keys()),
            (Site::Value, &w.dv, shape.keys()),
        ] {
            let d = &d[..t * cols];
            w.input.dense(d, t, cols, self.pass.precision);
            self.transposed(site, &w.input, &w.normed, d, dn, site != Site::Query, grads.as_deref_mut());
        }
        norm_backward_rows(x, &self.weights.attention_norm, config.norm_eps, dn, dx);
    }

    /// q, k and v of x, turned.
    fn project(self, x: &[f32], w: &mut Work) {
        let (t, shape) = (self.rows(), self.shape());
        self.norm_into(x, &self.weights.attention_norm, w);
        let q = sized(&mut w.q, t * shape.queries());
        self.multiply(Site::Query, &w.input, &w.normed, q, false);
        let scale = self.query_scale();
        let bias = &self.weights.linear(Site::Query).bias;
        self.each_row(q, shape.queries(), |position, row| {
            add_if_there(row, bias);
            self.pass.turns.turn(position, scale, row);
        });
        let k = sized(&mut w.k, t * shape.keys());
        self.multiply(Site::Key, &w.input, &w.normed, k, false);
        let bias = &self.weights.linear(Site::Key).bias;
        self.each_row(k, shape.keys(), |position, row| {
            add_if_there(row, bias);
            self.pass.turns.turn(position, 1.0, row);
        });
        let v = sized(&mut w.v, t * shape.keys());
        self.multiply(Site::Value, &w.input, &w.normed, v, false);
        let bias = &self.weights.linear(Site::Value).bias;
        if !bias.is_empty() {
            self.each_row(v, shape.keys(), |_, row| add_bias(row, bias));
        }
    }

    fn attend(self, front: Front<'_>, w: &mut Work) {
        let (t, shape) = (self.rows(), self.shape());
        let (wide, narrow) = (t * shape.queries(), t * shape.keys());
        let x = Projected { q: &w.q[..wide], k: &w.k[..narrow], v: &w.v[..narrow] };
        let Pass { attention, precision, packed, .. } = self.pass;
        let out = sized(&mut w.attended, wide);
        attention::forward(attention, precision, shape, packed, x, front, out);
    }

    /// x += O W_o^T
    fn add_attended(self, x: &mut [f32], w: &mut Work) {
        let (t, wide) = (self.rows(), self.shape().queries());
        let attended = &w.attended[..t * wide];
        w.input.dense(attended, t, wide, self.pass.precision);
        self.multiply(Site::Output, &w.input, attended, x, true);
    }

    /// g and u of x1.
    fn widen(self, x1: &[f32], w: &mut Work) {
        let (t, f) = (self.rows(), self.pass.config.intermediate);
        self.norm_into(x1, &self.weights.feed_norm, w);
        self.multiply(Site::Gate, &w.input, &w.normed, sized(&mut w.gate, t * f), false);
        self.multiply(Site::Up, &w.input, &w.normed, sized(&mut w.up, t * f), false);
    }

    /// norm(x) as input of products; for adapters in f32 too.
    fn norm_into(self, x: &[f32], weight: &[f32], w: &mut Work) {
        let Pass { config, precision, adapter, .. } = self.pass;
        let (t, h, eps) = (self.rows(), config.hidden, config.norm_eps);
        w.input.dense_from(t, h, precision, |rows, out| {
            rms_norm(&x[rows.start * h..rows.end * h], weight, eps, out);
        });
        if adapter.is_some() {
            norm_rows(x, weight, eps, sized(&mut w.normed, t * h));
        }
    }

    /// `y = x W^T`, or `+=`, with what an adapter adds; `input` is `x` made ready.
    fn multiply(self, site: Site, input: &Input, x: &[f32], y: &mut [f32], add: bool) {
        let weight = &self.weights.linear(site).weight;
        weight.multiply(input, y, add);
        if let Some(adapter) = self.pass.adapter {
            adapter.forward(self.index, site, &x[..input.rows() * weight.cols()], y);
        }
    }

    /// `dx = dy W`, or `+=`, with what an adapter adds, whose gradients are added to `grads`.
    #[allow(clippy::too_many_arguments)]
    fn transposed(
        self,
        site: Site,
        input: &Input,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        add: bool,
        grads: Option<&mut [f32]>,
    ) {
        let weight = &self.weights.linear(site).weight;
        weight.multiply_transposed(input, dx, add);
        if let (Some(adapter), Some(grads)) = (self.pass.adapter, grads) {
            adapter.backward(self.index, site, &x[..input.rows() * weight.cols()], dy, dx, grads);
        }
    }

    fn each_row(self, x: &mut [f32], cols: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
        x.par_chunks_mut(ROWS * cols).zip(self.pass.positions.par_chunks(ROWS)).for_each(|(x, positions)| {
            for (row, &position) in x.chunks_exact_mut(cols).zip(positions) {
                work(position, row);
            }
        });
    }

    fn rows(self) -> usize {
        self.pass.packed.rows()
    }

    fn shape(self) -> Shape {
        Shape::new(self.pass.config)
    }

    fn query_scale(self) -> f32 {
        1.0 / (self.pass.config.head_dim as f32).sqrt()
    }
}

fn add_if_there(row: &mut [f32], bias: &[f32]) {
    if !bias.is_empty() {
        add_bias(row, bias);
    }
}

/// y = norm(x), in parallel.
pub(crate) fn norm_rows(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32]) {
    let cols = ROWS * weight.len();
    y.par_chunks_mut(cols).zip(x.par_chunks(cols)).for_each(|(y, x)| rms_norm(x, weight, eps, y));
}

/// dx += the slope of norm(x) along dy, in parallel.
pub(crate) fn norm_backward_rows(x: &[f32], weight: &[f32], eps: f32, dy: &[f32], dx: &mut [f32]) {
    let cols = ROWS * weight.len();
    let rows = dx.par_chunks_mut(cols).zip(x.par_chunks(cols)).zip(dy.par_chunks(cols));
    rows.for_each(|((dx, x), dy)| rms_norm_backward(x, weight, eps, dy, dx));
}

/// Values of a task of elementwise work.
const VALUES: usize = 1 << 14;

fn swiglu_rows(gate: &[f32], up: &[f32], y: &mut [f32]) {
    let parts = y.par_chunks_mut(VALUES).zip(gate.par_chunks(VALUES)).zip(up.par_chunks(VALUES));
    parts.for_each(|((y, gate), up)| swiglu(gate, up, y));
}

fn swiglu_backward_rows(gate: &mut [f32], up: &mut [f32], dy: &[f32]) {
    let parts = gate.par_chunks_mut(VALUES).zip(up.par_chunks_mut(VALUES)).zip(dy.par_chunks(VALUES));
    parts.for_each(|((gate, up), dy)| swiglu_backward(gate, up, dy));
}
