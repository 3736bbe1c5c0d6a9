//! How does a whole model take a step? One loop over the run of its parameters, in blocks that threads share.

use rayon::prelude::*;

use super::BLOCK;
use super::step::{AdamWConfig, Step, apply};
use crate::error::{Error, Result};
use crate::params::Layout;

/// AdamW as in PyTorch, with one learning rate for all; matrices decay, vectors (biases, norms) do not.
///
/// ```
/// use xmc_nn::Layout;
/// use xmc_nn::optim::{AdamW, AdamWConfig};
/// let mut layout = Layout::default();
/// layout.push("dense.bias", &[2]);
/// let mut optimiser = AdamW::new(&layout, AdamWConfig::default());
/// let (mut params, mut grads) = (vec![1.0, 1.0], vec![5.0, -0.1]);
/// optimiser.step(&mut params, &mut grads, 0.25, 1.0)?;
/// // The first step is the learning rate times the sign of the gradient.
/// assert_eq!((params, grads), (vec![0.75, 1.25], vec![0.0, 0.0]));
/// # Ok::<(), xmc_nn::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AdamW {
    config: AdamWConfig,
    /// Stretches of the run that decay or do not: (first float after it, whether it decays).
    stretches: Vec<(usize, bool)>,
    m: Vec<f32>,
    v: Vec<f32>,
    /// Steps taken; an array, to be viewed as floats.
    steps: [u32; 1],
}

impl AdamW {
    /// An optimiser that has not moved yet.
    pub fn new(layout: &Layout, config: AdamWConfig) -> Self {
        let mut stretches: Vec<(usize, bool)> = Vec::new();
        for param in layout.params() {
            match stretches.last_mut() {
                Some((end, decay)) if *decay == param.decay => *end = param.range.end,
                _ => stretches.push((param.range.end, param.decay)),
            }
        }
        let zeros = vec![0.0; layout.len()];
        AdamW { config, stretches, m: zeros.clone(), v: zeros, steps: [0] }
    }

    /// Moves `params` by `grads * grad_scale` with learning rate `lr`; `grads` are zero afterwards.
    pub fn step(&mut self, params: &mut [f32], grads: &mut [f32], lr: f32, grad_scale: f32) -> Result<()> {
        if params.len() != self.m.len() || grads.len() != self.m.len() {
            let (p, g, n) = (params.len(), grads.len(), self.m.len());
            return Err(Error::Shape(format!("{p} parameters and {g} gradients for an optimiser of {n}")));
        }
        self.steps[0] += 1;
        let plain = Step::new(&self.config, self.steps[0], lr, grad_scale);
        let mut decayed = plain;
        decayed.keep[0] = (1.0 - f64::from(lr) * self.config.weight_decay) as f32;
        let stretches = &self.stretches;
        let blocks = params.par_chunks_mut(BLOCK).zip(grads.par_chunks_mut(BLOCK));
        let moments = self.m.par_chunks_mut(BLOCK).zip(self.v.par_chunks_mut(BLOCK));
        blocks.zip(moments).enumerate().for_each(|(i, ((p, g), (m, v)))| {
            let first = i * BLOCK;
            let mut done = 0;
            for &(end, decay) in &stretches[stretches.partition_point(|&(end, _)| end <= first)..] {
                let until = p.len().min(end - first);
                let step = if decay { decayed } else { plain };
                let part = done..until;
                apply(step, &mut p[part.clone()], &mut g[part.clone()], &mut m[part.clone()], &mut v[part]);
                done = until;
                if done == p.len() {
                    break;
                }
            }
        });
        Ok(())
    }

    /// Number of steps taken.
    pub fn steps(&self) -> u32 {
        self.steps[0]
    }

    /// Everything that it remembers, by name.
    pub fn state(&self) -> Vec<(&'static str, &[f32])> {
        vec![("m", &self.m), ("v", &self.v), ("steps", bytemuck::cast_slice(&self.steps))]
    }

    /// Puts back what [`AdamW::state`] gave: `take` hands out the runs by name.
    pub fn restore(&mut self, mut take: impl FnMut(&str) -> Option<Vec<f32>>) -> Result<()> {
        let m = super::stored(&mut take, "m", self.m.len())?;
        let v = super::stored(&mut take, "v", self.v.len())?;
        let steps = super::stored(&mut take, "steps", 1)?;
        (self.m, self.v, self.steps) = (m, v, [steps[0].to_bits()]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::optim::{LearningRate, Schedule};

    #[derive(Deserialize)]
    struct Golden {
        total_steps: u64,
        warmup_frac: f64,
        base_lr: f64,
        weight_decay: f64,
        w0: Vec<f32>,
        b0: Vec<f32>,
        grads: Vec<Values>,
        trace: Vec<Values>,
    }

    #[derive(Deserialize)]
    struct Values {
        w: Vec<f32>,
        b: Vec<f32>,
    }

    #[test]
    fn steps_are_those_of_pytorch() {
        let golden: Golden =
            serde_json::from_str(include_str!("../../tests/golden/optim_adamw_linear.json")).unwrap();
        let mut layout = Layout::default();
        layout.push("w", &[5, 1]);
        layout.push("b", &[2]);
        let config = AdamWConfig { weight_decay: golden.weight_decay, ..Default::default() };
        let rate =
            LearningRate::new(Schedule::Linear, golden.base_lr, golden.warmup_frac, golden.total_steps);
        let mut optimiser = AdamW::new(&layout, config);
        let mut params = [golden.w0, golden.b0].concat();
        for (s, (grads, want)) in golden.grads.iter().zip(&golden.trace).enumerate() {
            let mut grads: Vec<f32> = [&grads.w[..], &grads.b].concat().iter().map(|g| g * 4.0).collect();
            optimiser.step(&mut params, &mut grads, rate.lr_at(s as u64), 0.25).unwrap();
            for (p, want) in params.iter().zip(want.w.iter().chain(&want.b)) {
                assert!((p - want).abs() < 3e-7, "step {s}: {p} {want}");
            }
            assert!(grads.iter().all(|&g| g == 0.0));
        }
    }

    /// Several stretches, none at the border of a block; (layout, parameters).
    fn large() -> (Layout, Vec<f32>) {
        let mut layout = Layout::default();
        for (name, shape) in
            [("a", &[300, 70][..]), ("b", &[70]), ("c", &[5000]), ("d", &[999, 77]), ("e", &[3])]
        {
            layout.push(name, shape);
        }
        let params = (0..layout.len()).map(|i| (i as f32 * 0.37).sin()).collect();
        (layout, params)
    }

    fn grads(layout: &Layout, s: u32) -> Vec<f32> {
        (0..layout.len()).map(|i| (i as f32 * 0.11 + s as f32).cos() * 0.1).collect()
    }

    #[test]
    fn a_large_model_moves_as_the_formula_says_at_any_number_of_threads() {
        let (layout, start) = large();
        let config = AdamWConfig { weight_decay: 0.3, ..Default::default() };
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let (mut optimiser, mut params) = (AdamW::new(&layout, config), start.clone());
                for s in 0..3 {
                    optimiser.step(&mut params, &mut grads(&layout, s), 1e-2, 0.5).unwrap();
                }
                params
            })
        };
        let params = run(1);
        assert_eq!(params, run(3));
        let all: Vec<Vec<f32>> = (0..3).map(|s| grads(&layout, s)).collect();
        for i in (0..layout.len()).step_by(7) {
            let param = layout.params().iter().find(|param| param.range.contains(&i)).unwrap();
            let (mut p, mut m, mut v) = (f64::from(start[i]), 0.0, 0.0);
            for (grads, t) in all.iter().zip(1..) {
                let g = f64::from(grads[i]) * 0.5;
                p *= if param.decay { 1.0 - 1e-2 * 0.3 } else { 1.0 };
                (m, v) = (0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g);
                p -= 1e-2 * (m / (1.0 - 0.9f64.powi(t))) / ((v / (1.0 - 0.999f64.powi(t))).sqrt() + 1e-8);
            }
            assert!((f64::from(params[i]) - p).abs() < 2e-6, "{}[{i}]: {} {p}", param.name, params[i]);
        }
    }

    #[test]
    fn a_restored_optimiser_goes_on_to_the_bit() {
        let (layout, mut params) = large();
        let mut optimiser = AdamW::new(&layout, AdamWConfig::default());
        optimiser.step(&mut params, &mut grads(&layout, 0), 1e-3, 1.0).unwrap();
        let mut other = AdamW::new(&layout, AdamWConfig::default());
        let state = optimiser.state();
        let find = |name: &str| state.iter().find(|(n, _)| *n == name).map(|(_, values)| values.to_vec());
        other.restore(find).unwrap();
        let mut same = params.clone();
        optimiser.step(&mut params, &mut grads(&layout, 1), 1e-3, 1.0).unwrap();
        other.step(&mut same, &mut grads(&layout, 1), 1e-3, 1.0).unwrap();
        assert_eq!((params, other.steps()), (same, 2));
    }

    #[test]
    fn a_state_of_another_model_is_refused() {
        let (layout, mut params) = large();
        let mut optimiser = AdamW::new(&layout, AdamWConfig::default());
        let message = optimiser.restore(|_| None).unwrap_err().to_string();
        assert_eq!(message, "the stored state has no `m`");
        let message = optimiser.restore(|_| Some(vec![0.0; 3])).unwrap_err().to_string();
        assert!(message.contains("`m` has 3 numbers, this model needs 102996"), "{message}");
        assert!(optimiser.step(&mut params, &mut [0.0], 1.0, 1.0).is_err());
    }
}
