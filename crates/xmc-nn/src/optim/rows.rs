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
//!
//! Rows may all have the same number of columns ([`RowAdamW::new`]) or each its own ([`RowAdamW::ragged`]).

use rayon::prelude::*;

use super::lazy::Lazy;
use super::step::{AdamWConfig, Step, apply, settle};
use crate::error::{Error, Result};

/// Rows of one task.
const BLOCK: usize = 64;

/// AdamW for rows of which each step touches few.
#[derive(Clone, Debug)]
pub struct RowAdamW {
    config: AdamWConfig,
    shape: Shape,
    moments: Moments,
    lazy: Lazy,
}

/// Where rows lie in the run of their parameters.
#[derive(Clone, Debug)]
enum Shape {
    /// `cols` parameters each; the first `decaying` of them decay, those behind them are biases.
    Even { rows: usize, cols: usize, decaying: usize },
    /// Row r is `indptr[r]..indptr[r + 1]`, and all of it decays.
    Ragged(Vec<usize>),
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

impl Shape {
    fn rows(&self) -> usize {
        match self {
            Shape::Even { rows, .. } => *rows,
            Shape::Ragged(indptr) => indptr.len() - 1,
        }
    }

    /// Where a row begins; of the number of rows, where the last one ends.
    fn start(&self, row: usize) -> usize {
        match self {
            Shape::Even { cols, .. } => row * cols,
            Shape::Ragged(indptr) => indptr[row],
        }
    }

    fn len(&self, row: usize) -> usize {
        self.start(row + 1) - self.start(row)
    }

    /// How many parameters of a row decay.
    fn decaying(&self, row: usize) -> usize {
        match self {
            Shape::Even { decaying, .. } => *decaying,
            Shape::Ragged(_) => self.len(row),
        }
    }
}

impl RowAdamW {
    /// An optimiser of a matrix [rows, cols] that has not moved yet.
    pub fn new(rows: usize, cols: usize, config: AdamWConfig) -> Self {
        RowAdamW::with_shape(Shape::Even { rows, cols, decaying: cols }, config)
    }

    /// An optimiser of rows of which row r is `params[indptr[r]..indptr[r + 1]]`, that has not moved yet.
    pub fn ragged(indptr: Vec<usize>, config: AdamWConfig) -> Result<Self> {
        if indptr.first() != Some(&0) || !indptr.is_sorted() {
            return Err(Error::Shape("offsets of rows must begin with 0 and rise".into()));
        }
        Ok(RowAdamW::with_shape(Shape::Ragged(indptr), config))
    }

    fn with_shape(shape: Shape, config: AdamWConfig) -> Self {
        let zeros = vec![0.0; shape.start(shape.rows())];
        let moments = Moments { m: zeros.clone(), v: zeros, settled: vec![0; shape.rows()] };
        RowAdamW { config, shape, moments, lazy: Lazy::new(config) }
    }

    /// The same, for rows of one length whose columns from `decaying` on are biases and do not decay.
    pub fn with_decaying(mut self, decaying: usize) -> Self {
        if let Shape::Even { cols, decaying: found, .. } = &mut self.shape {
            *found = decaying.min(*cols);
        }
        self
    }

    /// Moves the rows `touched` (rising) of `params` by their `grads` (one row behind the other) times `grad_scale`;
    /// `grads` are zero afterwards. A step without touched rows counts as a step.
    pub fn step(
        &mut self,
        params: &mut [f32],
        touched: &[u32],
        grads: &mut [f32],
        lr: f32,
        grad_scale: f32,
    ) -> Result<()> {
        self.check(params, touched, grads)?;
        let left = self.lazy.advance(lr)?;
        let t = self.steps();
        let step = Step::new(&self.config, t, lr, grad_scale);
        let (shape, waiting) = (&self.shape, self.lazy.waiting(t - 1));
        self.moments.tasks(params, shape, touched, grads).into_par_iter().for_each(|task| {
            let (start, mut grads) = (shape.start(task.first), task.grads);
            for &row in task.touched {
                let (at, row) = (row as usize - task.first, row as usize);
                let keep = waiting.left(task.settled[at]);
                let (decaying, range) =
                    (shape.decaying(row), shape.start(row) - start..shape.start(row + 1) - start);
                let weights;
                (weights, grads) = grads.split_at_mut(range.len());
                let (weights, biases) = weights.split_at_mut(decaying);
                let (p, p_biases) = task.p[range.clone()].split_at_mut(decaying);
                let (m, m_biases) = task.m[range.clone()].split_at_mut(decaying);
                let (v, v_biases) = task.v[range].split_at_mut(decaying);
                let mut step = step;
                step.keep = [keep[0] * left, keep[1], keep[2]];
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
        let (shape, t) = (&self.shape, self.lazy.steps());
        let waiting = self.lazy.waiting(t);
        let all: Vec<u32> = (0..shape.rows() as u32).collect();
        self.moments.tasks(params, shape, &all, &mut []).into_par_iter().for_each(|task| {
            let start = shape.start(task.first);
            for (&row, settled) in task.touched.iter().zip(task.settled) {
                if *settled < t {
                    let [keep, keep_m, keep_v] = waiting.left(*settled);
                    let row = row as usize;
                    let range = shape.start(row) - start..shape.start(row + 1) - start;
                    let (weights, biases) = task.p[range.clone()].split_at_mut(shape.decaying(row));
                    let (m, m_biases) = task.m[range.clone()].split_at_mut(shape.decaying(row));
                    let (v, v_biases) = task.v[range].split_at_mut(shape.decaying(row));
                    settle([keep, keep_m, keep_v], weights, m, v);
                    settle([1.0, keep_m, keep_v], biases, m_biases, v_biases);
                    *settled = t;
                }
            }
        });
        Ok(())
    }

    /// Number of steps taken.
    pub fn steps(&self) -> u32 {
        self.lazy.steps()
    }

    /// Everything that it remembers, by name.
    pub fn state(&self) -> Vec<(&'static str, &[f32])> {
        vec![
            ("m", &self.moments.m),
            ("v", &self.moments.v),
            ("settled", bytemuck::cast_slice(&self.moments.settled)),
            ("log_decay", self.lazy.state()),
        ]
    }

    /// Puts back what [`RowAdamW::state`] gave: `take` hands out the runs by name.
    pub fn restore(&mut self, mut take: impl FnMut(&str) -> Option<Vec<f32>>) -> Result<()> {
        let m = super::stored(&mut take, "m", self.moments.m.len())?;
        let v = super::stored(&mut take, "v", self.moments.v.len())?;
        let settled = super::stored(&mut take, "settled", self.moments.settled.len())?;
        let settled: Vec<u32> = settled.into_iter().map(f32::to_bits).collect();
        let halves = super::stored(&mut take, "log_decay", None)?;
        self.lazy = self.lazy.restored(&halves, settled.iter().copied())?;
        self.moments = Moments { m, v, settled };
        Ok(())
    }

    fn check(&self, params: &[f32], touched: &[u32], grads: &[f32]) -> Result<()> {
        let rows = self.shape.rows();
        let rising = touched.is_sorted_by(|a, b| a < b);
        if touched.last().is_some_and(|&row| !rising || row as usize >= rows) {
            return Err(Error::Shape(format!("touched rows must rise and lie below {rows}")));
        }
        let all = self.shape.start(rows);
        let expected: usize = touched.iter().map(|&row| self.shape.len(row as usize)).sum();
        if params.len() != all || grads.len() != expected {
            let (p, g, n) = (params.len(), grads.len(), touched.len());
            return Err(Error::Shape(format!(
                "{p} parameters and {g} gradients of {n} rows; expected {all} and {expected}"
            )));
        }
        Ok(())
    }
}

impl Moments {
    /// Cuts everything at the touched rows, [`BLOCK`] of them for each task; `grads` may be empty.
    fn tasks<'a>(
        &'a mut self,
        params: &'a mut [f32],
        shape: &Shape,
        touched: &'a [u32],
        mut grads: &'a mut [f32],
    ) -> Vec<Task<'a>> {
        let (mut p, mut m, mut v, mut settled) =
            (params, self.m.as_mut_slice(), self.v.as_mut_slice(), self.settled.as_mut_slice());
        let mut done = 0;
        let mut tasks = Vec::with_capacity(touched.len().div_ceil(BLOCK));
        for touched in touched.chunks(BLOCK) {
            let (first, end) = (touched[0] as usize, touched[touched.len() - 1] as usize + 1);
            let (skip, len) = (shape.start(first) - shape.start(done), shape.start(end) - shape.start(first));
            let own: usize = touched.iter().map(|&row| shape.len(row as usize)).sum();
            let (task_p, task_m, task_v, task_settled, task_grads);
            (task_p, p) = cut(p, skip, len);
            (task_m, m) = cut(m, skip, len);
            (task_v, v) = cut(v, skip, len);
            (task_settled, settled) = cut(settled, first - done, end - first);
            (task_grads, grads) = cut(grads, 0, own.min(grads.len()));
            tasks.push(Task {
                first,
                p: task_p,
                m: task_m,
                v: task_v,
                settled: task_settled,
                touched,
                grads: task_grads,
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
    fn ragged_rows_move_as_rows_of_their_own() {
        let indptr = vec![0, 3, 3, 8, 10, 300];
        let mut ragged = RowAdamW::ragged(indptr.clone(), CONFIG).unwrap();
        let mut rows: Vec<RowAdamW> =
            indptr.windows(2).map(|ends| RowAdamW::new(1, ends[1] - ends[0], CONFIG)).collect();
        let (mut params, mut want) = (wave(300, 1), wave(300, 1));
        for (s, touched) in [vec![0, 2], vec![], vec![1, 2, 4], vec![0, 4]].into_iter().enumerate() {
            let own = |row: u32| indptr[row as usize]..indptr[row as usize + 1];
            let mut grads: Vec<f32> =
                touched.iter().flat_map(|&row| wave(300, s as u32)[own(row)].to_vec()).collect();
            ragged.step(&mut params, &touched, &mut grads, 0.1, 0.5).unwrap();
            for (row, optimiser) in (0..).zip(&mut rows) {
                let touched = &[0][..usize::from(touched.contains(&row))];
                let mut grads = wave(300, s as u32)[own(row)].to_vec();
                grads.truncate(grads.len() * touched.len());
                optimiser.step(&mut want[own(row)], touched, &mut grads, 0.1, 0.5).unwrap();
            }
            assert_eq!(params, want, "step {s}");
        }
        ragged.settle(&mut params).unwrap();
        for (ends, optimiser) in indptr.windows(2).zip(&mut rows) {
            optimiser.settle(&mut want[ends[0]..ends[1]]).unwrap();
        }
        assert_eq!(params, want);
        for wrong in [vec![], vec![1, 2], vec![0, 5, 4]] {
            assert!(RowAdamW::ragged(wrong, CONFIG).is_err());
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
