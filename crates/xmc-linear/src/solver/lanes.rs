//! Sixteen labels side by side: rows, weights, convergence, refilling.

use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};

use super::{Child, Column, SolverParams};
use crate::subproblem::SubProblem;

/// Labels trained at a time: one AVX-512 register, two of AVX2.
pub const LANES: usize = 16;

/// How many rows ahead memory is asked for.
const AHEAD: usize = 3;

/// One number for every lane.
pub(super) type Lanes = [f32; LANES];

/// What a lane does after a pass.
pub(super) enum Verdict {
    /// Another pass over the rows that are still active.
    Continue,
    /// Converged on the active rows only: look at all rows again.
    Unshrink,
    /// Converged.
    Done,
}

/// The part of coordinate descent that depends on the loss.
pub(super) trait Dual {
    /// State for `rows` rows, all lanes empty.
    fn new(rows: usize, params: &SolverParams) -> Self;
    /// Puts a child into a lane.
    fn load(&mut self, lane: usize, child: &Child);
    /// Contribution of row `i` to the lane's weights before the first pass.
    fn initial_step(&self, i: usize, lane: usize) -> f32;
    /// Whether `initial_step` is other than zero.
    const WARM: bool;
    /// Minimises over the dual variables of row `i`, given the margins w.x_i + beta b and `q` = |x_i|^2 + beta^2.
    /// Returns the multiples of x_i to add to the weights, and which of the `active` lanes stay active.
    fn visit(&mut self, i: usize, margins: &Lanes, q: f32, active: u16) -> (Lanes, u16);
    /// Asks for the state of row `i` before it is needed.
    fn prefetch(&self, i: usize);
    /// Ends a pass for one lane.
    fn end_pass(&mut self, lane: usize) -> Verdict;
}

/// Trains all children with the widest instructions of this processor.
pub(super) fn solve<D: Dual>(
    sub: &SubProblem,
    children: &[Child],
    params: &SolverParams,
    seed: u64,
) -> Vec<Column> {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
        {
            // SAFETY: the processor has the features that the function was compiled for.
            return unsafe { solve_avx512::<D>(sub, children, params, seed) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { solve_avx2::<D>(sub, children, params, seed) };
        }
    }
    Block::<D>::new(sub, children, params, seed).run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn solve_avx512<D: Dual>(
    sub: &SubProblem,
    children: &[Child],
    params: &SolverParams,
    seed: u64,
) -> Vec<Column> {
    Block::<D>::new(sub, children, params, seed).run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn solve_avx2<D: Dual>(
    sub: &SubProblem,
    children: &[Child],
    params: &SolverParams,
    seed: u64,
) -> Vec<Column> {
    Block::<D>::new(sub, children, params, seed).run()
}

/// The lanes at work on one parent.
struct Block<'a, D> {
    sub: &'a SubProblem<'a>,
    children: &'a [Child],
    params: &'a SolverParams,
    dual: D,
    /// `[local features][lane]`, sparse then dense.
    weights: Vec<Lanes>,
    bias: Lanes,
    /// Per row: the lanes for which it is not shrunk away.
    active: Vec<u16>,
    /// Child in each lane and the passes it has had.
    lanes: [Option<(usize, u32)>; LANES],
    /// Children still to come, the last first.
    waiting: Vec<usize>,
    rng: Pcg32,
    columns: Vec<Column>,
}

impl<'a, D: Dual> Block<'a, D> {
    fn new(sub: &'a SubProblem<'a>, children: &'a [Child], params: &'a SolverParams, seed: u64) -> Self {
        // Frequent labels need the most passes: start them first, so that the lanes end together.
        let mut waiting: Vec<usize> = (0..children.len()).collect();
        waiting.sort_by_key(|&c| children[c].positives.len());
        Block {
            sub,
            children,
            params,
            dual: D::new(sub.rows(), params),
            weights: vec![[0.0; LANES]; sub.features()],
            bias: [0.0; LANES],
            active: vec![0; sub.rows()],
            lanes: [None; LANES],
            waiting,
            rng: Pcg32::seed_from_u64(seed),
            columns: vec![Column::default(); children.len()],
        }
    }

    #[inline(always)]
    fn run(mut self) -> Vec<Column> {
        for lane in 0..LANES {
            self.refill(lane);
        }
        let mut order = Vec::with_capacity(self.sub.rows());
        while self.lanes.iter().any(Option::is_some) {
            self.pass(&mut order);
            for lane in 0..LANES {
                self.end_pass(lane);
            }
        }
        self.columns
    }

    /// One visit to every row that is active for any lane, in random order.
    #[inline(always)]
    fn pass(&mut self, order: &mut Vec<u32>) {
        order.clear();
        order.extend((0..self.active.len() as u32).filter(|&i| self.active[i as usize] != 0));
        for at in (1..order.len()).rev() {
            let other = (u64::from(self.rng.next_u32()) * (at as u64 + 1)) >> 32;
            order.swap(at, other as usize);
        }
        let beta = self.params.bias;
        let first_dense = self.sub.sparse_features();
        // The last row's step, which the dense weights have still to take.
        let mut owed: Option<(usize, Lanes)> = None;
        for (at, &i) in order.iter().enumerate() {
            let i = i as usize;
            // Rows come in random order, which only we know.
            if let Some(&soon) = order.get(at + AHEAD) {
                self.sub.prefetch(soon as usize);
                self.dual.prefetch(soon as usize);
            }
            let mut sums = sparse_dot(self.sub, i, &self.weights);
            let (dense, row) = (&mut self.weights[first_dense..], self.sub.dense_row(i));
            match owed.take() {
                Some((before, step)) => add_and_dot(dense, self.sub.dense_row(before), &step, row, &mut sums),
                None => dense_dot(dense, row, &mut sums),
            }
            let mut margins = total(&sums);
            for l in 0..LANES {
                margins[l] += beta * self.bias[l];
            }
            let q = self.sub.norm2(i) + beta * beta;
            let (step, active) = self.dual.visit(i, &margins, q, self.active[i]);
            self.active[i] = active;
            if step != [0.0; LANES] {
                sparse_add(self.sub, i, &step, &mut self.weights);
                owed = Some((i, step));
                for l in 0..LANES {
                    self.bias[l] += beta * step[l];
                }
            }
        }
        if let Some((before, step)) = owed {
            dense_add(&mut self.weights[first_dense..], self.sub.dense_row(before), &step);
        }
    }

    fn end_pass(&mut self, lane: usize) {
        let Some((child, passes)) = self.lanes[lane] else { return };
        let verdict = self.dual.end_pass(lane);
        self.lanes[lane] = Some((child, passes + 1));
        if matches!(verdict, Verdict::Done) || passes + 1 >= self.params.max_iterations {
            self.columns[child] = self.column(lane);
            self.refill(lane);
        } else if matches!(verdict, Verdict::Unshrink) {
            self.activate(lane, child);
        }
    }

    /// Marks the rows that train `child` as active in its lane.
    fn activate(&mut self, lane: usize, child: usize) {
        let bit = 1u16 << lane;
        for active in &mut self.active[..self.sub.matched()] {
            *active |= bit;
        }
        // The rows behind are there for siblings' sake; of these only its own positives count.
        for &i in self.children[child].positives.iter().rev() {
            if (i as usize) < self.sub.matched() {
                break;
            }
            self.active[i as usize] |= bit;
        }
    }

    /// Clears a lane and puts the next child in, if there is one.
    fn refill(&mut self, lane: usize) {
        for active in &mut self.active {
            *active &= !(1u16 << lane);
        }
        self.lanes[lane] = None;
        let Some(child) = self.waiting.pop() else { return };
        for w in &mut self.weights {
            w[lane] = 0.0;
        }
        self.bias[lane] = 0.0;
        self.dual.load(lane, &self.children[child]);
        self.activate(lane, child);
        self.lanes[lane] = Some((child, 0));
        if D::WARM {
            let first_dense = self.sub.sparse_features();
            for i in 0..self.sub.rows() {
                if self.active[i] & (1 << lane) != 0 {
                    let mut step = [0.0; LANES];
                    step[lane] = self.dual.initial_step(i, lane);
                    sparse_add(self.sub, i, &step, &mut self.weights);
                    dense_add(&mut self.weights[first_dense..], self.sub.dense_row(i), &step);
                    self.bias[lane] += self.params.bias * step[lane];
                }
            }
        }
    }

    /// The weights of a lane that are worth keeping.
    fn column(&self, lane: usize) -> Column {
        let threshold = self.params.threshold;
        let keep = |v: f32| v != 0.0 && v.abs() >= threshold;
        let mut weights: Vec<(u32, f32)> = (self.weights.iter().enumerate())
            .map(|(f, w)| (f as u32, w[lane]))
            .filter(|&(_, v)| keep(v))
            .collect();
        let mut bias = if keep(self.bias[lane]) { self.bias[lane] } else { 0.0 };
        let most = self.params.max_nonzeros;
        if most > 0 && weights.len() + usize::from(bias != 0.0) > most {
            // The bias takes part in the contest, as the last feature.
            weights.push((u32::MAX, bias));
            weights
                .select_nth_unstable_by(most - 1, |a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
            weights.truncate(most);
            weights.sort_unstable_by_key(|&(f, _)| f);
            bias = weights.pop_if(|&mut (f, _)| f == u32::MAX).map_or(0.0, |(_, v)| v);
        }
        Column { weights, bias }
    }
}

/// Partial sums of a margin: an addition waits for the one before it, four chains keep the units busy.
type Sums = [Lanes; CHAINS];
const CHAINS: usize = 4;

/// `sum += x * w` in every lane.
#[inline(always)]
fn add_product(sum: &mut Lanes, x: f32, w: &Lanes) {
    for l in 0..LANES {
        sum[l] += x * w[l];
    }
}

/// Sparse part of the margins of row `i`.
#[inline(always)]
fn sparse_dot(sub: &SubProblem, i: usize, weights: &[Lanes]) -> Sums {
    let mut sums = [[0.0; LANES]; CHAINS];
    let (features, values) = sub.row(i);
    let mut at = 0;
    while at + CHAINS <= features.len() {
        for s in 0..CHAINS {
            // SAFETY: `SubProblem` numbers its features below `features()`, the length of `weights`.
            let w = unsafe { weights.get_unchecked(features[at + s] as usize) };
            add_product(&mut sums[s], values[at + s], w);
        }
        at += CHAINS;
    }
    for (&f, &x) in features[at..].iter().zip(&values[at..]) {
        // SAFETY: as above.
        let w = unsafe { weights.get_unchecked(f as usize) };
        add_product(&mut sums[0], x, w);
    }
    sums
}

/// Adds the dense part of a row's margins.
#[inline(always)]
fn dense_dot(weights: &[Lanes], row: &[f32], sums: &mut Sums) {
    let (groups, rest) = weights.as_chunks::<CHAINS>();
    let (row, row_rest) = row.as_chunks::<CHAINS>();
    for (w, x) in groups.iter().zip(row) {
        for s in 0..CHAINS {
            add_product(&mut sums[s], x[s], &w[s]);
        }
    }
    for (s, (w, &x)) in rest.iter().zip(row_rest).enumerate() {
        add_product(&mut sums[s], x, w);
    }
}

/// Adds `step[lane]` times a row to the dense weights.
#[inline(always)]
fn dense_add(weights: &mut [Lanes], row: &[f32], step: &Lanes) {
    for (w, &x) in weights.iter_mut().zip(row) {
        add_product(w, x, step);
    }
}

/// `dense_add` of the row `before` and `dense_dot` of the row after it, in one walk: every weight is read once instead of
/// twice. Weights of 768 features in sixteen lanes fill the first-level cache.
#[inline(always)]
fn add_and_dot(weights: &mut [Lanes], before: &[f32], step: &Lanes, row: &[f32], sums: &mut Sums) {
    let (groups, rest) = weights.as_chunks_mut::<CHAINS>();
    let ((before, before_rest), (row, row_rest)) = (before.as_chunks::<CHAINS>(), row.as_chunks::<CHAINS>());
    for ((w, old), new) in groups.iter_mut().zip(before).zip(row) {
        for s in 0..CHAINS {
            add_product(&mut w[s], old[s], step);
            add_product(&mut sums[s], new[s], &w[s]);
        }
    }
    for (s, ((w, &old), &new)) in rest.iter_mut().zip(before_rest).zip(row_rest).enumerate() {
        add_product(w, old, step);
        add_product(&mut sums[s], new, w);
    }
}

/// The margins from their partial sums.
#[inline(always)]
fn total(sums: &Sums) -> Lanes {
    let mut total = [0.0; LANES];
    for l in 0..LANES {
        total[l] = (sums[0][l] + sums[1][l]) + (sums[2][l] + sums[3][l]);
    }
    total
}

/// Adds `step[lane]` times the sparse part of row `i` to the weights.
#[inline(always)]
fn sparse_add(sub: &SubProblem, i: usize, step: &Lanes, weights: &mut [Lanes]) {
    let (features, values) = sub.row(i);
    for (&f, &x) in features.iter().zip(values) {
        // SAFETY: as in `sparse_dot`.
        let w = unsafe { weights.get_unchecked_mut(f as usize) };
        add_product(w, x, step);
    }
}
