//! What does one step of AdamW do to one parameter?
//!
//! With gradient g, step t (from 1), learning rate lr, as in PyTorch (Loshchilov and Hutter 2019, algorithm 2):
//!
//! ```text
//! p -= lr weight_decay p                                  only where decay applies
//! m += (1 - beta1) (g - m)
//! v  = beta2 v + (1 - beta2) g^2
//! p -= lr / (1 - beta1^t) * m / (sqrt(v / (1 - beta2^t)) + eps)
//! ```

/// Settings of [`AdamW`](super::AdamW) and [`RowAdamW`](super::RowAdamW); the learning rate comes with each step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// How long the running mean of gradients remembers.
    pub beta1: f64,
    /// How long the running mean of squares remembers.
    pub beta2: f64,
    /// Keeps the division from zero.
    pub eps: f64,
    /// Part of a matrix that is taken off each step, times the learning rate.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        AdamWConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01 }
    }
}

/// The factors of one step; the same for many parameters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    /// What is left of parameter, m and v before the gradient comes.
    pub(crate) keep: [f32; 3],
    /// Factor of the gradient.
    grad_scale: f32,
    /// 1 - beta1.
    new_m: f32,
    beta2: f32,
    /// 1 - beta2.
    new_v: f32,
    /// 1 / sqrt(1 - beta2^t).
    correct_v: f32,
    eps: f32,
    /// lr / (1 - beta1^t).
    size: f32,
}

impl Step {
    /// Factors of step `t` (from 1), without decay.
    pub(crate) fn new(config: &AdamWConfig, t: u32, lr: f32, grad_scale: f32) -> Self {
        let rest = |beta: f64| 1.0 - beta.powf(f64::from(t));
        Step {
            keep: [1.0; 3],
            grad_scale,
            new_m: (1.0 - config.beta1) as f32,
            beta2: config.beta2 as f32,
            new_v: (1.0 - config.beta2) as f32,
            correct_v: (1.0 / rest(config.beta2).sqrt()) as f32,
            eps: config.eps as f32,
            size: (f64::from(lr) / rest(config.beta1)) as f32,
        }
    }

    /// lr / (1 - beta1^t).
    #[inline(always)]
    pub(crate) fn size(&self) -> f32 {
        self.size
    }

    /// The next m.
    #[inline(always)]
    pub(crate) fn mean(&self, grad: f32, m: f32) -> f32 {
        let mean = m * self.keep[1];
        mean + (grad - mean) * self.new_m
    }

    /// The next v.
    #[inline(always)]
    pub(crate) fn square(&self, grad_square: f32, v: f32) -> f32 {
        v * self.keep[2] * self.beta2 + grad_square * self.new_v
    }

    /// sqrt(v / (1 - beta2^t)) + eps.
    #[inline(always)]
    pub(crate) fn denominator(&self, v: f32) -> f32 {
        v.sqrt() * self.correct_v + self.eps
    }

    /// The next p, of a gradient that is not scaled yet.
    #[inline(always)]
    pub(crate) fn moved(&self, p: f32, grad: f32, m: &mut f32, v: &mut f32) -> f32 {
        let grad = grad * self.grad_scale;
        *m = self.mean(grad, *m);
        *v = self.square(grad * grad, *v);
        p * self.keep[0] - self.size * (*m / self.denominator(*v))
    }
}

crate::simd! {
    /// One step for parameters p, gradients g (zero afterwards), m and v, in one pass over memory.
    ///
    /// Multiplication and addition are never fused, so that every processor computes the same bits.
    pub(crate) fn apply(step: Step, p: &mut [f32], g: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            *p = step.moved(*p, *g, m, v);
            *g = 0.0;
        }
    }

    /// The waiting part of a step alone: what is left of p, m and v.
    pub(super) fn settle(keep: [f32; 3], p: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        for ((p, m), v) in p.iter_mut().zip(m).zip(v) {
            *p *= keep[0];
            *m *= keep[1];
            *v *= keep[2];
        }
    }
}
