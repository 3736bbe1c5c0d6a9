//! The solver against slow, obvious solutions of the same problem.

use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};
use xmc_data::{CsrBuilder, Dense};

use super::*;
use crate::features::Features;
use crate::subproblem::Renumbering;

fn uniform(rng: &mut Pcg32) -> f32 {
    rng.next_u32() as f32 / u32::MAX as f32
}

/// Random sparse rows with a dense block of two columns, and random labels.
fn problem(rows: usize, cols: usize, labels: usize, seed: u64) -> (Features, Vec<Child>) {
    let mut rng = Pcg32::seed_from_u64(seed);
    let mut sparse = CsrBuilder::new();
    for _ in 0..rows {
        let row: Vec<(u32, f32)> =
            (0..6).map(|_| (rng.next_u32() % cols as u32, uniform(&mut rng) * 0.5)).collect();
        sparse.push(row);
    }
    let dense: Vec<f32> = (0..rows * 2).map(|_| uniform(&mut rng) - 0.5).collect();
    let x = Features::new(sparse.finish(cols).unwrap(), Some(Dense::new(rows, 2, dense).unwrap())).unwrap();
    let children = (0..labels)
        .map(|l| Child {
            positives: (0..rows as u32).filter(|_| uniform(&mut rng) < 0.1 + 0.02 * l as f32).collect(),
            relevance: Vec::new(),
        })
        .collect();
    (x, children)
}

/// A block of dense features.
fn block(rows: usize, width: usize, seed: u64) -> Dense {
    let mut rng = Pcg32::seed_from_u64(seed);
    Dense::new(rows, width, (0..rows * width).map(|_| uniform(&mut rng) - 0.5).collect::<Vec<_>>()).unwrap()
}

fn params(loss: Loss, epsilon: f32) -> SolverParams {
    SolverParams {
        loss,
        cost_positive: 1.0,
        cost_negative: 1.0,
        bias: 1.0,
        epsilon,
        max_iterations: 2000,
        threshold: 0.0,
        max_nonzeros: 0,
    }
}

fn all_rows<'a>(x: &'a Features, rows: &'a [u32], matched: usize) -> SubProblem<'a> {
    SubProblem::new(x, rows, matched, &mut Renumbering::new(x.sparse().cols()))
}

/// Weights in global feature order, bias last.
fn global_weights(x: &Features, sub: &SubProblem, column: &Column) -> Vec<f64> {
    let mut w = vec![0.0; x.cols() + 1];
    for &(f, v) in &column.weights {
        let f = f as usize;
        let at = if f < sub.sparse_features() {
            sub.global()[f] as usize
        } else {
            x.sparse().cols() + f - sub.sparse_features()
        };
        w[at] = f64::from(v);
    }
    w[x.cols()] = f64::from(column.bias);
    w
}

/// (objective, gradient) of the primal problem in double precision.
fn primal(x: &Features, child: &Child, p: &SolverParams, rows: usize, w: &[f64]) -> (f64, Vec<f64>) {
    let mut gradient = w.to_vec();
    let mut objective = 0.5 * w.iter().map(|v| v * v).sum::<f64>();
    let beta = f64::from(p.bias);
    for i in 0..x.rows() {
        let at = child.positives.binary_search(&(i as u32)).ok();
        if i >= rows && at.is_none() {
            continue;
        }
        let relevance = at.and_then(|at| child.relevance.get(at)).map_or(1.0, |&r| f64::from(r));
        let (y, c) = match at {
            Some(_) => (1.0, f64::from(p.cost_positive) * relevance),
            None => (-1.0, f64::from(p.cost_negative)),
        };
        let mut row: Vec<(usize, f64)> =
            x.sparse().row(i).iter().map(|(f, v)| (f as usize, f64::from(v))).collect();
        row.extend(x.dense_row(i).iter().enumerate().map(|(f, &v)| (x.sparse().cols() + f, f64::from(v))));
        row.push((x.cols(), beta));
        let margin = y * row.iter().map(|&(f, v)| w[f] * v).sum::<f64>();
        let (loss, slope) = match p.loss {
            Loss::SquaredHinge => ((1.0 - margin).max(0.0).powi(2), -2.0 * (1.0 - margin).max(0.0)),
            Loss::Hinge => ((1.0 - margin).max(0.0), if margin < 1.0 { -1.0 } else { 0.0 }),
            Loss::Logistic => ((-margin).exp().ln_1p(), -1.0 / (1.0 + margin.exp())),
        };
        objective += c * loss;
        for &(f, v) in &row {
            gradient[f] += c * slope * y * v;
        }
    }
    (objective, gradient)
}

#[test]
fn smooth_losses_reach_a_zero_gradient() {
    let (x, children) = problem(120, 40, 37, 1);
    let rows: Vec<u32> = (0..x.rows() as u32).collect();
    let sub = all_rows(&x, &rows, 120);
    for loss in [Loss::SquaredHinge, Loss::Logistic] {
        let p = params(loss, 1e-4);
        for (child, column) in children.iter().zip(solve(&sub, &children, &p, 0)) {
            let w = global_weights(&x, &sub, &column);
            let (_, gradient) = primal(&x, child, &p, 120, &w);
            let size = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
            assert!(size < 4e-3, "{loss:?}: gradient {size}");
        }
    }
}

#[test]
fn hinge_reaches_the_optimum_of_subgradient_descent() {
    let (x, children) = problem(60, 20, 18, 2);
    let rows: Vec<u32> = (0..x.rows() as u32).collect();
    let sub = all_rows(&x, &rows, 60);
    let p = params(Loss::Hinge, 1e-4);
    for (child, column) in children.iter().zip(solve(&sub, &children, &p, 0)) {
        let ours = primal(&x, child, &p, 60, &global_weights(&x, &sub, &column)).0;
        let (mut w, mut best) = (vec![0.0; x.cols() + 1], f64::INFINITY);
        for t in 0..4000 {
            let (objective, gradient) = primal(&x, child, &p, 60, &w);
            best = best.min(objective);
            w.iter_mut().zip(&gradient).for_each(|(w, g)| *w -= g / (t as f64 + 10.0));
        }
        assert!(ours < best * 1.001, "{ours} against {best}");
    }
}

#[test]
fn rows_behind_the_matched_ones_train_only_their_own_label() {
    let (x, mut children) = problem(100, 30, 20, 3);
    let rows: Vec<u32> = (0..x.rows() as u32).collect();
    let sub = all_rows(&x, &rows, 70);
    children[4].relevance = children[4].positives.iter().map(|&i| 0.25 + (i % 3) as f32).collect();
    for loss in [Loss::SquaredHinge, Loss::Logistic] {
        let p = SolverParams { cost_positive: 2.0, cost_negative: 0.5, ..params(loss, 1e-4) };
        for (child, column) in children.iter().zip(solve(&sub, &children, &p, 0)) {
            let (_, gradient) = primal(&x, child, &p, 70, &global_weights(&x, &sub, &column));
            assert!(gradient.iter().map(|g| g * g).sum::<f64>().sqrt() < 4e-3);
        }
    }
}

#[test]
fn a_label_learns_the_same_alone_as_among_others() {
    let (x, children) = problem(80, 30, 50, 4);
    let rows: Vec<u32> = (0..x.rows() as u32).collect();
    let sub = all_rows(&x, &rows, 80);
    let p = params(Loss::SquaredHinge, 1e-5);
    let together = solve(&sub, &children, &p, 0);
    for (child, column) in children.iter().zip(&together) {
        let alone = &solve(&sub, std::slice::from_ref(child), &p, 0)[0];
        let (a, b) = (global_weights(&x, &sub, alone), global_weights(&x, &sub, column));
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-3));
    }
}

#[test]
fn a_cap_keeps_the_largest_weights_and_a_threshold_drops_the_small() {
    let (x, children) = problem(80, 30, 5, 5);
    let rows: Vec<u32> = (0..x.rows() as u32).collect();
    let sub = all_rows(&x, &rows, 80);
    let p = params(Loss::SquaredHinge, 0.1);
    let full = solve(&sub, &children, &p, 0);
    let capped = solve(&sub, &children, &SolverParams { max_nonzeros: 4, ..p }, 0);
    let cut = solve(&sub, &children, &SolverParams { threshold: 0.2, ..p }, 0);
    for ((full, capped), cut) in full.iter().zip(&capped).zip(&cut) {
        let size = |c: &Column| c.weights.len() + usize::from(c.bias != 0.0);
        assert_eq!(size(capped), 4);
        let mut sizes: Vec<f32> = full.weights.iter().map(|w| w.1.abs()).chain([full.bias.abs()]).collect();
        sizes.sort_by(|a, b| b.total_cmp(a));
        assert!(capped.weights.iter().all(|w| w.1.abs() >= sizes[3]));
        assert_eq!(size(cut), sizes.iter().filter(|&&s| s >= 0.2).count());
    }
}

/// Weights and biases of all children as one number.
fn fingerprint(columns: &[Column]) -> u64 {
    let mut bytes = Vec::new();
    for column in columns {
        for &(f, w) in &column.weights {
            bytes.extend(f.to_le_bytes());
            bytes.extend(w.to_bits().to_le_bytes());
        }
        bytes.extend(column.bias.to_bits().to_le_bytes());
    }
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

#[test]
fn the_same_problem_gives_the_same_bits_in_every_version() {
    let (x, children) = problem(200, 50, 40, 6);
    let wide = Features::new(x.sparse().clone(), Some(block(200, 39, 7))).unwrap();
    let rows: Vec<u32> = (0..200).rev().collect();
    let bits = |x: &Features, loss| {
        let sub = SubProblem::new(x, &rows, 150, &mut Renumbering::new(50));
        fingerprint(&solve(&sub, &children, &params(loss, 0.01), 9))
    };
    let sparse = Features::from(x.sparse().clone());
    let found = [&sparse, &x, &wide].map(|x| [Loss::SquaredHinge, Loss::Hinge].map(|loss| bits(x, loss)));
    let known = [
        [1_199_298_001_368_929_713, 604_938_665_856_399_473],
        [8_367_604_935_531_642_097, 3_276_281_912_000_930_413],
        [3_237_580_086_545_159_784, 2_824_809_136_530_097_504],
    ];
    assert_eq!(found, known);
}
