//! How does a matrix of a million rows take a step in which only a thousand have a gradient?
//!
//! Only those rows are visited. What a dense AdamW would have done to a row in the s steps since it was last touched is
//! done when it is touched again, before its new gradient:
//!
//! ```text
//! m *= beta1^s      v *= beta2^s                     exactly what s gradients of zero do
//! p *= (1 - lr_1 weight_decay) … (1 - lr_s weight_decay)     the decay of those steps, each with its own rate
//! ```
//!
//! So m, v and decay are those of dense AdamW, up to rounding; bias correction uses the number of all steps, as there.
//! One thing differs: dense AdamW goes on moving a row for a while after its last gradient, by what is left in m, and
//! this one does not. (A row touched every few steps loses the moves between; a row touched at every step loses
//! none and equals dense AdamW to the bit.) Between two touches a row shows its weights before the decay that waits;
//! call [`RowAdamW::settle`] before you store or compare all of them.

use rayon::prelude::*;

use super::step::{AdamWConfig, Step, apply, settle};
use crate::error::{Error, Result};

/// Rows of one task.
const BLOCK: usize = 64;

/// AdamW for a matrix [rows, cols] of which each step touches few rows.
#[derive(Clone, Debug)]
pub struct RowAdamW {
    config: AdamWConfig,
    cols: usize,
    /// The first columns, which decay; those behind them are biases.
    decaying: usize,
    moments: Moments,
    /// Logarithm of the decay of the first t steps together, at t, [steps + 1].
    log_decay: Vec<f64>,
}

/// What is kept for each row.
#[derive(Clone, Debug)]
struct Moments {
    m: Vec<f32>,
    v: Vec<f32>,
    /// The step up to which each row is settled, [rows].
    settled: Vec<u32>,
}

/// Rows of one task: params, m, v and settled of a stretch of the matrix, and the touched rows with their gradients.
struct Task<'a> {
    first: usize,
    p: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    settled: &'a mut [u32],
    touched: &'a [u32],
    grads: &'a mut [f32],
}

impl RowAdamW {
    /// An optimiser of a matrix [rows, cols] that has not moved yet.
    pub fn new(rows: usize, cols: usize, config: AdamWConfig) -> Self {
        let zeros = vec![0.0; rows * cols];
        let moments = Moments { m: zeros.clone(), v: zeros, settled: vec![0; rows] };
        RowAdamW { config, cols, decaying: cols, moments, log_decay: vec![0.0] }
    }

    /// The same, for rows whose columns from `decaying` on are biases and do not decay.
    pub fn with_decaying(self, decaying: usize) -> Self {
        RowAdamW { decaying: decaying.min(self.cols), ..self }
    }

    /// Moves the rows `touched` (rising) of `params [rows, cols]` by `grads [touched, cols] * grad_scale`; `grads` are
    /// zero afterwards. A step without touched rows counts as a step.
    pub fn step(
        &mut self,
        params: &mut [f32],
        touched: &[u32],
        grads: &mut [f32],
        lr: f32,
        grad_scale: f32,
    ) -> Result<()> {
        self.check(params, touched, grads)?;
        let left = 1.0 - f64::from(lr) * self.config.weight_decay;
        if left <= 0.0 {
            return Err(Error::Shape(format!("learning rate {lr} times weight decay must stay below 1")));
        }
        self.log_decay.push(self.log_decay.last().copied().unwrap_or(0.0) + left.ln());
        let t = self.steps();
        let step = Step::new(&self.config, t, lr, grad_scale);
        let (cols, decaying) = (self.cols, self.decaying);
        let (config, log_decay) = (self.config, self.log_decay.as_slice());
        self.moments.tasks(params, cols, touched, grads).into_par_iter().for_each(|task| {
            for (&row, grads) in task.touched.iter().zip(task.grads.chunks_exact_mut(cols)) {
                let at = row as usize - task.first;
                let keep = waiting(&config, log_decay, task.settled[at], t - 1);
                let row = at * cols..(at + 1) * cols;
                let (weights, biases) = grads.split_at_mut(decaying);
                let (p, p_biases) = task.p[row.clone()].split_at_mut(decaying);
                let (m, m_biases) = task.m[row.clone()].split_at_mut(decaying);
                let (v, v_biases) = task.v[row].split_at_mut(decaying);
                let mut step = step;
                step.keep = [keep[0] * left as f32, keep[1], keep[2]];
                apply(step, p, weights, m, v);
                step.keep[0] = 1.0;
                apply(step, p_biases, biases, m_biases, v_biases);
                task.settled[at] = t;
            }
        });
        Ok(())
    }

    /// Applies the decay that waits to all rows.
    pub fn settle(&mut self, params: &mut [f32]) -> Result<()> {
        self.check(params, &[], &[])?;
        let t = self.steps();
        let (cols, decaying) = (self.cols, self.decaying);
        let (config, log_decay) = (self.config, self.log_decay.as_slice());
        let rows = params.par_chunks_mut(cols).zip(self.moments.m.par_chunks_mut(cols));
        rows.zip(self.moments.v.par_chunks_mut(cols)).zip(&mut self.moments.settled).for_each(
            |(((p, m), v), settled)| {
                if *settled < t {
                    let [keep, keep_m, keep_v] = waiting(&config, log_decay, *settled, t);
                    let (weights, biases) = p.split_at_mut(decaying);
                    let (m, m_biases) = m.split_at_mut(decaying);
                    let (v, v_biases) = v.split_at_mut(decaying);
                    settle([keep, keep_m, keep_v], weights, m, v);
                    settle([1.0, keep_m, keep_v], biases, m_biases, v_biases);
                    *settled = t;
                }
            },
        );
        Ok(())
    }

    /// Number of steps taken.
    pub fn steps(&self) -> u32 {
        (self.log_decay.len() - 1) as u32
    }

    /// Everything that it remembers, by name.
    pub fn state(&self) -> Vec<(&'static str, &[f32])> {
        vec![
            ("m", &self.moments.m),
            ("v", &self.moments.v),
            ("settled", bytemuck::cast_slice(&self.moments.settled)),
            ("log_decay", bytemuck::cast_slice(&self.log_decay)),
        ]
    }

    /// Puts back what [`RowAdamW::state`] gave: `take` hands out the runs by name.
    pub fn restore(&mut self, mut take: impl FnMut(&str) -> Option<Vec<f32>>) -> Result<()> {
        let m = super::stored(&mut take, "m", self.moments.m.len())?;
        let v = super::stored(&mut take, "v", self.moments.v.len())?;
        let settled = super::stored(&mut take, "settled", self.moments.settled.len())?;
        let settled: Vec<u32> = settled.into_iter().map(f32::to_bits).collect();
        let halves = super::stored(&mut take, "log_decay", None)?;
        if halves.is_empty()
            || halves.len() % 2 == 1
            || settled.iter().any(|&t| t as usize >= halves.len() / 2)
        {
            return Err(Error::Shape("the stored `log_decay` does not fit the stored `settled`".into()));
        }
        let log_decay = halves.as_chunks::<2>().0.iter().map(|&half| bytemuck::cast(half)).collect();
        (self.moments, self.log_decay) = (Moments { m, v, settled }, log_decay);
        Ok(())
    }

    fn check(&self, params: &[f32], touched: &[u32], grads: &[f32]) -> Result<()> {
        let (rows, cols) = (self.moments.settled.len(), self.cols);
        if params.len() != rows * cols || grads.len() != touched.len() * cols {
            let (p, g, n) = (params.len(), grads.len(), touched.len());
            return Err(Error::Shape(format!(
                "{p} parameters and {g} gradients of {n} rows for a matrix [{rows}, {cols}]"
            )));
        }
        let rising = touched.is_sorted_by(|a, b| a < b);
        match touched.last().filter(|&&row| !rising || row as usize >= rows) {
            Some(_) => Err(Error::Shape(format!("touched rows must rise and lie below {rows}"))),
            None => Ok(()),
        }
    }
}

impl Moments {
    /// Cuts everything at the touched rows, [`BLOCK`] of them for each task.
    fn tasks<'a>(
        &'a mut self,
        params: &'a mut [f32],
        cols: usize,
        touched: &'a [u32],
        grads: &'a mut [f32],
    ) -> Vec<Task<'a>> {
        let (mut p, mut m, mut v, mut settled) =
            (params, self.m.as_mut_slice(), self.v.as_mut_slice(), self.settled.as_mut_slice());
        let mut done = 0;
        let mut tasks = Vec::with_capacity(touched.len().div_ceil(BLOCK));
        for (touched, grads) in touched.chunks(BLOCK).zip(grads.chunks_mut(BLOCK * cols.max(1))) {
            let (first, end) = (touched[0] as usize, touched[touched.len() - 1] as usize + 1);
            let (skip, len) = (first - done, end - first);
            let (task_p, task_m, task_v, task_settled);
            (task_p, p) = cut(p, skip * cols, len * cols);
            (task_m, m) = cut(m, skip * cols, len * cols);
            (task_v, v) = cut(v, skip * cols, len * cols);
            (task_settled, settled) = cut(settled, skip, len);
            tasks.push(Task {
                first,
                p: task_p,
                m: task_m,
                v: task_v,
                settled: task_settled,
                touched,
                grads,
            });
            done = end;
        }
        tasks
    }
}

/// The `len` values after the first `skip` ones, and the rest.
fn cut<T>(values: &mut [T], skip: usize, len: usize) -> (&mut [T], &mut [T]) {
    values[skip..].split_at_mut(len)
}

/// What is left of p, m and v of a row that is settled up to step `from` at step `to`; 1 if nothing waits.
fn waiting(config: &AdamWConfig, log_decay: &[f64], from: u32, to: u32) -> [f32; 3] {
    if from >= to {
        return [1.0; 3];
    }
    let s = f64::from(to - from);
    let decay = (log_decay[to as usize] - log_decay[from as usize]).exp();
    [decay, config.beta1.powf(s), config.beta2.powf(s)].map(|factor| factor as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::AdamW;
    use crate::params::Layout;

    const CONFIG: AdamWConfig = AdamWConfig { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.4 };

    fn wave(n: usize, s: u32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.7 + s as f32 * 1.3).sin()).collect()
    }

    #[test]
    fn with_every_row_touched_it_is_dense_adamw_to_the_bit() {
        let (rows, cols) = (150, 5);
        let mut layout = Layout::default();
        layout.push("labels", &[rows, cols]);
        let (mut dense, mut sparse) = (AdamW::new(&layout, CONFIG), RowAdamW::new(rows, cols, CONFIG));
        let (mut p, mut q) = (wave(rows * cols, 99), wave(rows * cols, 99));
        let all: Vec<u32> = (0..rows as u32).collect();
        for s in 0..4 {
            let lr = 0.01 * (s + 1) as f32;
            dense.step(&mut p, &mut wave(rows * cols, s), lr, 0.5).unwrap();
            sparse.step(&mut q, &all, &mut wave(rows * cols, s), lr, 0.5).unwrap();
        }
        assert_eq!(p, q);
        assert_eq!(dense.state()[..2], sparse.state()[..2]);
    }

    /// The documented rule, one row and one step after the other, in f64; returns (p, m, v).
    fn twin(p: f32, touches: &[Option<f32>], lr: impl Fn(usize) -> f32) -> (f64, f64, f64) {
        let (mut p, mut m, mut v) = (f64::from(p), 0.0, 0.0);
        for ((s, g), t) in touches.iter().enumerate().zip(1..) {
            let lr = f64::from(lr(s));
            p *= 1.0 - lr * CONFIG.weight_decay;
            let grad = f64::from(g.unwrap_or(0.0));
            m = CONFIG.beta1 * m + (1.0 - CONFIG.beta1) * grad;
            v = CONFIG.beta2 * v + (1.0 - CONFIG.beta2) * grad * grad;
            if g.is_some() {
                let (mean, square) = (m / (1.0 - CONFIG.beta1.powi(t)), v / (1.0 - CONFIG.beta2.powi(t)));
                p -= lr * mean / (square.sqrt() + CONFIG.eps);
            }
        }
        (p, m, v)
    }

    #[test]
    fn rows_catch_up_with_decay_and_moments_when_touched_or_settled() {
        let (rows, cols, steps) = (300usize, 3usize, 9u32);
        let lr = |s: usize| 0.02 + 0.01 * s as f32;
        let is_touched = |row: u32, s: u32| (row * 7 + s * 5) % 11 < 2;
        let mut optimiser = RowAdamW::new(rows, cols, CONFIG);
        let start = wave(rows * cols, 50);
        let mut params = start.clone();
        for s in 0..steps {
            let touched: Vec<u32> = (0..rows as u32).filter(|&row| is_touched(row, s)).collect();
            let all = wave(rows * cols, s);
            let mut grads: Vec<f32> =
                touched.iter().flat_map(|&r| all[r as usize * cols..][..cols].to_vec()).collect();
            let before = params.clone();
            optimiser.step(&mut params, &touched, &mut grads, lr(s as usize), 1.0).unwrap();
            assert!(grads.iter().all(|&g| g == 0.0));
            for row in (0..rows).filter(|&row| !is_touched(row as u32, s)) {
                assert_eq!(params[row * cols..][..cols], before[row * cols..][..cols], "row {row} step {s}");
            }
        }
        optimiser.settle(&mut params).unwrap();
        for i in 0..rows * cols {
            let touches: Vec<Option<f32>> = (0..steps)
                .map(|s| is_touched((i / cols) as u32, s).then(|| wave(rows * cols, s)[i]))
                .collect();
            let (p, m, v) = twin(start[i], &touches, lr);
            let found = [params[i], optimiser.moments.m[i], optimiser.moments.v[i]].map(f64::from);
            for (found, want) in found.iter().zip([p, m, v]) {
                assert!((found - want).abs() < 2e-6, "{i}: {found} {want}");
            }
        }
    }

    #[test]
    fn biases_behind_the_weights_of_a_row_move_as_without_decay() {
        let plain = AdamWConfig { weight_decay: 0.0, ..CONFIG };
        let mut decayed = RowAdamW::new(6, 3, CONFIG);
        let mut split = RowAdamW::new(6, 3, CONFIG).with_decaying(2);
        let mut bare = RowAdamW::new(6, 3, plain);
        let mut params = [wave(18, 7), wave(18, 7), wave(18, 7)];
        for (s, touched) in [[0, 2], [1, 2], [2, 5], [0, 1]].iter().enumerate() {
            for (optimiser, params) in [&mut decayed, &mut split, &mut bare].into_iter().zip(&mut params) {
                optimiser.step(params, touched, &mut wave(6, s as u32), 0.1, 1.0).unwrap();
            }
        }
        for (optimiser, params) in [&mut decayed, &mut split, &mut bare].into_iter().zip(&mut params) {
            optimiser.settle(params).unwrap();
        }
        let [decayed, split, bare] = params;
        for (i, value) in split.iter().enumerate() {
            assert_eq!(*value, if i % 3 == 2 { bare[i] } else { decayed[i] }, "{i}");
        }
    }

    #[test]
    fn a_restored_optimiser_goes_on_to_the_bit() {
        let (mut optimiser, mut params) = (RowAdamW::new(4, 2, CONFIG), wave(8, 1));
        optimiser.step(&mut params, &[1, 3], &mut wave(4, 2), 0.1, 1.0).unwrap();
        optimiser.step(&mut params, &[0], &mut wave(2, 3), 0.1, 1.0).unwrap();
        let state = optimiser.state();
        let find = |name: &str| state.iter().find(|(n, _)| *n == name).map(|(_, values)| values.to_vec());
        let mut other = RowAdamW::new(4, 2, CONFIG);
        other.restore(find).unwrap();
        let mut same = params.clone();
        optimiser.step(&mut params, &[1, 2], &mut wave(4, 4), 0.2, 1.0).unwrap();
        other.step(&mut same, &[1, 2], &mut wave(4, 4), 0.2, 1.0).unwrap();
        assert_eq!(params, same);
        assert_eq!((optimiser.state(), 3), (other.state(), other.steps()));
    }

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        let (mut optimiser, mut params) = (RowAdamW::new(3, 2, CONFIG), vec![0.0; 6]);
        for touched in [&[1, 1][..], &[2, 0], &[0, 3]] {
            let error =
                optimiser.step(&mut params, touched, &mut [0.0; 4], 0.1, 1.0).unwrap_err().to_string();
            assert_eq!(error, "touched rows must rise and lie below 3");
        }
        assert!(optimiser.step(&mut params, &[0], &mut [0.0; 3], 0.1, 1.0).is_err());
        assert!(optimiser.step(&mut params, &[0], &mut [0.0; 2], 3.0, 1.0).is_err());
        assert_eq!(optimiser.steps(), 0);
        optimiser.step(&mut params, &[], &mut [], 0.1, 1.0).unwrap();
        assert_eq!(optimiser.steps(), 1);
    }
}
