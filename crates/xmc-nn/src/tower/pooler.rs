//! The layer that BERT trains on the first token: h = dropout(tanh(W x + b)), with x the state of that token.
//!
//! Backward needs x and tanh: dx = Wᵀ (dropout(dh) (1 - tanh²)). Encoders that were published without it begin with
//! a fresh one.

use super::linear::Linear;
use crate::dropout::{Dropout, DropoutKey, Site};
use crate::ops::exp::tanh;
use crate::ops::matmul::Precision;
use crate::params::Layout;
use crate::transformer::Config;

#[derive(Debug)]
pub(super) struct Pooler {
    linear: Linear,
    hidden: usize,
    /// Share that training drops.
    dropout: f32,
}

/// States of the first tokens and what tanh made of the layer's output, both `[b, h]`.
#[derive(Debug)]
pub(super) struct PoolerTape {
    input: Vec<f32>,
    tanh: Vec<f32>,
}

impl Pooler {
    /// Appends `pooler.dense.weight [h, h]` and `pooler.dense.bias [h]` to `layout`.
    pub(super) fn new(config: &Config, layout: &mut Layout, precision: Precision) -> Self {
        let (hidden, dropout) = (config.hidden, config.dropout.feed_forward);
        Pooler { linear: Linear::new("pooler.dense", hidden, hidden, layout, precision), hidden, dropout }
    }

    /// Lays out the weights again.
    pub(super) fn refresh(&mut self, params: &[f32]) {
        self.linear.refresh(params);
    }

    /// Pooled vectors `[b, h]` of the states `input [b, h]`.
    pub(super) fn forward(
        &self,
        params: &[f32],
        input: Vec<f32>,
        key: Option<DropoutKey>,
    ) -> (Vec<f32>, PoolerTape) {
        let mut pooled = self.linear.forward(params, &input);
        tanh(&mut pooled);
        let tape = PoolerTape { input, tanh: pooled.clone() };
        self.drop(key, &mut pooled);
        (pooled, tape)
    }

    /// Gradient of the states from that of the pooled vectors, `dh [b, h]`; adds those of the layer to `grads`.
    pub(super) fn backward(
        &self,
        params: &[f32],
        tape: &PoolerTape,
        mut dh: Vec<f32>,
        key: Option<DropoutKey>,
        grads: &mut [f32],
    ) -> Vec<f32> {
        self.drop(key, &mut dh);
        for (d, t) in dh.iter_mut().zip(&tape.tanh) {
            *d *= 1.0 - t * t;
        }
        self.linear.backward(params, &tape.input, &dh, grads)
    }

    fn drop(&self, key: Option<DropoutKey>, rows: &mut [f32]) {
        if let Some(dropout) = Dropout::new(key, 0, Site::Pooler, self.dropout) {
            dropout.apply(0, rows, self.hidden);
        }
    }
}
