//! y = x Wᵀ + b: a layer of the head, for a batch of vectors.

use std::ops::Range;

use crate::ops::matmul::{Precision, Rhs, View, add_transposed, multiply};
use crate::ops::reduce::{add_bias, column_sums};
use crate::params::Layout;

/// Weight `[out, in]` and bias `[out]`.
#[derive(Debug)]
pub(super) struct Linear {
    weight: Range<usize>,
    bias: Range<usize>,
    input: usize,
    output: usize,
    precision: Precision,
    /// W^T, laid out.
    forward: Rhs,
}

impl Linear {
    /// Appends `NAME.weight` and `NAME.bias` to `layout`.
    pub(super) fn new(
        name: &str,
        input: usize,
        output: usize,
        layout: &mut Layout,
        precision: Precision,
    ) -> Self {
        Linear {
            weight: layout.push(format!("{name}.weight"), &[output, input]),
            bias: layout.push(format!("{name}.bias"), &[output]),
            input,
            output,
            precision,
            forward: Rhs::new(precision),
        }
    }

    /// Lays out the weights again.
    pub(super) fn refresh(&mut self, params: &[f32]) {
        self.forward.fill(self.view(params).t());
    }

    /// y `[b, out]` of `x [b, in]`.
    pub(super) fn forward(&self, params: &[f32], x: &[f32]) -> Vec<f32> {
        let mut y = vec![0.0; x.len() / self.input * self.output];
        multiply(x, &self.forward, &mut y, false);
        add_bias(&mut y, &params[self.bias.clone()]);
        y
    }

    /// dx `[b, in]` from `dy [b, out]`; adds the gradients of weight and bias to `grads`.
    pub(super) fn backward(&self, params: &[f32], x: &[f32], dy: &[f32], grads: &mut [f32]) -> Vec<f32> {
        column_sums(dy, &mut grads[self.bias.clone()]);
        let weight = &mut grads[self.weight.clone()];
        add_transposed((dy, self.output), (x, self.input), weight, self.input, self.precision);

        let mut transposed = Rhs::new(self.precision);
        transposed.fill(self.view(params));
        let mut dx = vec![0.0; x.len()];
        multiply(dy, &transposed, &mut dx, false);
        dx
    }

    fn view<'a>(&self, params: &'a [f32]) -> View<'a> {
        View::new(&params[self.weight.clone()], self.output, self.input)
    }
}
