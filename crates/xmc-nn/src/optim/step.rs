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
pub(super) struct Step {
    /// What is left of parameter, m and v before the gradient comes.
    pub(super) keep: [f32; 3],
    /// Factor of the gradient.
    pub(super) grad_scale: f32,
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
    pub(super) fn new(config: &AdamWConfig, t: u32, lr: f32, grad_scale: f32) -> Self {
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
}

crate::simd! {
    /// One step for parameters p, gradients g (zero afterwards), m and v, in one pass over memory.
    ///
    /// Multiplication and addition are never fused, so that every processor computes the same bits.
    pub(super) fn apply(step: Step, p: &mut [f32], g: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        let [keep_p, keep_m, keep_v] = step.keep;
        for (((p, g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let grad = *g * step.grad_scale;
            *g = 0.0;
            let mean = *m * keep_m;
            let mean = mean + (grad - mean) * step.new_m;
            let square = *v * keep_v * step.beta2 + grad * grad * step.new_v;
            *m = mean;
            *v = square;
            *p = *p * keep_p - step.size * (mean / (square.sqrt() * step.correct_v + step.eps));
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
