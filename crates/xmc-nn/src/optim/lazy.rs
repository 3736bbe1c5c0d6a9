//! What waits for a row that the last steps did not touch?
//!
//! With s steps since, of learning rates lr_1 … lr_s:
//!
//! ```text
//! m *= beta1^s      v *= beta2^s                     exactly what s gradients of zero do
//! p *= (1 - lr_1 weight_decay) … (1 - lr_s weight_decay)     the decay of those steps, each with its own rate
//! ```

use super::step::AdamWConfig;
use crate::error::{Error, Result};

/// Steps whose factors are computed once instead of once for each row.
const RECENT: u32 = 1024;

/// The decay of all steps so far.
#[derive(Clone, Debug)]
pub(crate) struct Lazy {
    config: AdamWConfig,
    /// Logarithm of the decay of the first t steps together, at t, [steps + 1].
    log_decay: Vec<f64>,
}

/// What is left of p, m and v at one step, by the step up to which a row is settled.
pub(crate) struct Waiting<'a> {
    lazy: &'a Lazy,
    to: u32,
    /// Of the last steps, the latest first.
    recent: Vec<[f32; 3]>,
}

impl Lazy {
    pub(crate) fn new(config: AdamWConfig) -> Self {
        Lazy { config, log_decay: vec![0.0] }
    }

    /// Number of steps taken.
    pub(crate) fn steps(&self) -> u32 {
        (self.log_decay.len() - 1) as u32
    }

    /// Counts a step; what its decay leaves of a parameter.
    pub(crate) fn advance(&mut self, lr: f32) -> Result<f32> {
        let left = 1.0 - f64::from(lr) * self.config.weight_decay;
        if left.is_nan() || left <= 0.0 {
            return Err(Error::Shape(format!("learning rate {lr} times weight decay must stay below 1")));
        }
        self.log_decay.push(self.log_decay.last().copied().unwrap_or(0.0) + left.ln());
        Ok(left as f32)
    }

    /// What waits at step `to`.
    pub(crate) fn waiting(&self, to: u32) -> Waiting<'_> {
        let recent = (0..RECENT.min(to + 1)).map(|s| self.left(to - s, to)).collect();
        Waiting { lazy: self, to, recent }
    }

    /// What is left of p, m and v of a row that is settled up to step `from` at step `to`; 1 if nothing waits.
    fn left(&self, from: u32, to: u32) -> [f32; 3] {
        if from >= to {
            return [1.0; 3];
        }
        let s = f64::from(to - from);
        let decay = (self.log_decay[to as usize] - self.log_decay[from as usize]).exp();
        [decay, self.config.beta1.powf(s), self.config.beta2.powf(s)].map(|factor| factor as f32)
    }

    /// As floats, to be stored.
    pub(crate) fn state(&self) -> &[f32] {
        bytemuck::cast_slice(&self.log_decay)
    }

    /// What [`Lazy::state`] gave, with rows that are settled up to `settled`.
    pub(crate) fn restored(&self, halves: &[f32], settled: impl IntoIterator<Item = u32>) -> Result<Self> {
        let steps = halves.len() / 2;
        if steps == 0 || halves.len() % 2 == 1 || settled.into_iter().any(|t| t as usize >= steps) {
            return Err(Error::Shape("the stored `log_decay` does not fit the stored `settled`".into()));
        }
        let log_decay = halves.as_chunks::<2>().0.iter().map(|&half| bytemuck::cast(half)).collect();
        Ok(Lazy { config: self.config, log_decay })
    }
}

impl Waiting<'_> {
    /// What is left of p, m and v of a row that is settled up to step `from`.
    #[inline]
    pub(crate) fn left(&self, from: u32) -> [f32; 3] {
        let recent = self.recent.get(self.to.saturating_sub(from) as usize);
        recent.copied().unwrap_or_else(|| self.lazy.left(from, self.to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_the_product_of_the_steps_near_and_far() {
        let config = AdamWConfig { beta1: 0.99, beta2: 0.999, eps: 1e-8, weight_decay: 0.1 };
        let mut lazy = Lazy::new(config);
        for step in 0..2000 {
            lazy.advance(0.001 + 1e-6 * step as f32).unwrap();
        }
        let waiting = lazy.waiting(1999);
        for from in [1999u32, 1998, 976, 975, 0] {
            let steps = f64::from(1999 - from);
            let decay: f64 = (from..1999).map(|s| 1.0 - 0.1 * (0.001 + 1e-6 * f64::from(s))).product();
            let found = waiting.left(from).map(f64::from);
            for (found, want) in found.iter().zip([decay, 0.99f64.powf(steps), 0.999f64.powf(steps)]) {
                assert!((found - want).abs() < 1e-6, "{from}: {found} {want}");
            }
        }
        assert_eq!(waiting.left(2000), [1.0; 3]);
    }
}
