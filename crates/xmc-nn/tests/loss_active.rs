//! Is the loss over active labels the loss, and are its gradients its slopes? Against the formulas, one label after the
//! other in f64, and against PyTorch (scripts/golden/active_loss.py).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use serde::Deserialize;
use xmc_nn::loss::{Active, ActiveCriterion, ActiveOutput, active_loss};
use xmc_nn::{Device, Tensor};

const CRITERIA: [ActiveCriterion; 3] =
    [ActiveCriterion::SquaredHinge, ActiveCriterion::Hinge, ActiveCriterion::CrossEntropy];

/// A step with numbers that look like chance.
#[derive(Clone, Debug)]
struct Problem {
    h: usize,
    x: Vec<f32>,
    weights: Vec<f32>,
    indptr: Vec<usize>,
    ids: Vec<u32>,
    targets: Vec<f32>,
    criterion: ActiveCriterion,
    weighted: bool,
    rows_of_step: usize,
}

/// A number in -1..1 for each place.
fn chance(seed: u64, place: usize) -> f32 {
    let mut x = (seed << 32 ^ place as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    for _ in 0..2 {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x ^= x >> 27;
    }
    (x >> 40) as f32 / (1 << 23) as f32 - 1.0
}

impl Problem {
    /// `active(row, label)` says which labels are active.
    fn new(b: usize, l: usize, h: usize, seed: u64, active: impl Fn(usize, usize) -> bool) -> Self {
        let (mut indptr, mut ids) = (vec![0], Vec::new());
        for row in 0..b {
            ids.extend((0..l).filter(|&label| active(row, label)).map(|label| label as u32));
            indptr.push(ids.len());
        }
        let target =
            |i| if chance(seed + 1, i) > 0.4 { (4.0 * chance(seed + 2, i).abs()).ceil() } else { 0.0 };
        Problem {
            h,
            x: (0..b * h).map(|i| chance(seed + 3, i)).collect(),
            weights: (0..l * (h + 1)).map(|i| chance(seed + 4, i)).collect(),
            indptr,
            targets: (0..ids.len()).map(target).collect(),
            ids,
            criterion: ActiveCriterion::SquaredHinge,
            weighted: false,
            rows_of_step: b,
        }
    }

    fn active(&self) -> Active<'_> {
        Active { indptr: &self.indptr, ids: &self.ids, targets: &self.targets }
    }

    fn run(&self) -> xmc_nn::Result<ActiveOutput> {
        let rows = self.x.len() / self.h;
        let x = Tensor::from_host(rows, self.h, self.x.clone(), Device::Cpu)?;
        active_loss(&x, &self.weights, &self.active(), self.criterion, self.weighted, self.rows_of_step)
    }

    /// The loss, d loss / d x and d loss / d weights `[l, h + 1]`, straight from the definition.
    fn twin(&self) -> (f64, Vec<f64>, Vec<f64>) {
        let (mut loss, mut dx, mut dw) = (0.0, vec![0.0; self.x.len()], vec![0.0; self.weights.len()]);
        for (row, ends) in self.indptr.windows(2).enumerate() {
            let share = 1.0 / (self.rows_of_step as f64 * (ends[1] - ends[0]) as f64);
            for at in ends[0]..ends[1] {
                let place = self.ids[at] as usize * (self.h + 1);
                let x = |j: usize| if j < self.h { f64::from(self.x[row * self.h + j]) } else { 1.0 };
                let w = |j: usize| f64::from(self.weights[place + j]);
                let target = f64::from(self.targets[at]);
                let s = if target > 0.0 { 1.0 } else { -1.0 };
                let c = share * if self.weighted && target > 0.0 { target } else { 1.0 };
                let z = s * (0..=self.h).map(|j| x(j) * w(j)).sum::<f64>();
                let (f, slope) = match self.criterion {
                    ActiveCriterion::SquaredHinge => ((1.0 - z).max(0.0).powi(2), -2.0 * (1.0 - z).max(0.0)),
                    ActiveCriterion::Hinge => ((1.0 - z).max(0.0), if z < 1.0 { -1.0 } else { 0.0 }),
                    ActiveCriterion::CrossEntropy => {
                        ((-z).max(0.0) + (-z.abs()).exp().ln_1p(), -1.0 / (1.0 + z.exp()))
                    }
                };
                loss += c * f;
                for j in 0..=self.h {
                    dw[place + j] += c * slope * s * x(j);
                    if j < self.h {
                        dx[row * self.h + j] += c * slope * s * w(j);
                    }
                }
            }
        }
        (loss, dx, dw)
    }

    /// Every criterion, weighted and not.
    fn variants(&self) -> impl Iterator<Item = Problem> {
        let all = CRITERIA.into_iter().flat_map(|criterion| [(criterion, false), (criterion, true)]);
        all.map(|(criterion, weighted)| Problem { criterion, weighted, ..self.clone() })
    }
}

fn close(what: &str, found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst = found.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - b).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance && found.iter().all(|v| v.is_finite()), "{what}: off by {worst}");
}

/// Gradients of all weights, zero where no label is touched.
fn spread(output: &ActiveOutput, weights: usize, h: usize) -> Vec<f32> {
    let mut dw = vec![0.0; weights];
    for (&id, row) in output.touched.iter().zip(output.dw.chunks_exact(h + 1)) {
        dw[id as usize * (h + 1)..][..=h].copy_from_slice(row);
    }
    dw
}

/// All rows active, few, groups of siblings, none for some rows.
fn problems() -> Vec<Problem> {
    let mut problems = vec![
        Problem::new(3, 5, 7, 1, |_, _| true),
        Problem::new(19, 40, 33, 2, |_, _| true),
        Problem::new(11, 300, 64, 3, |row, label| chance(9, row * 1000 + label) > 0.8),
        Problem::new(26, 200, 50, 4, |row, label| chance(8, row * 20 + label / 16) > 0.5 && row % 5 != 0),
        Problem::new(4, 9, 1, 5, |row, label| row == 2 && label == 7),
        Problem::new(3, 4, 2, 6, |_, _| false),
    ];
    problems[2].rows_of_step = 50;
    problems
}

#[test]
fn loss_and_gradients_are_those_of_the_formulas() {
    for (i, problem) in problems().iter().flat_map(Problem::variants).enumerate() {
        let (output, (loss, dx, dw)) = (problem.run().unwrap(), problem.twin());
        let what = format!("{i}: {:?} weighted {}", problem.criterion, problem.weighted);
        assert!((output.loss - loss).abs() <= 1e-6 * loss.max(1e-3), "{what}: {} {loss}", output.loss);
        close(&what, output.dx.host(), &dx, 2e-6);
        close(&what, &spread(&output, problem.weights.len(), problem.h), &dw, 2e-6);
        let mut touched = problem.ids.clone();
        touched.sort_unstable();
        touched.dedup();
        assert_eq!(output.touched, touched, "{what}");
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for problem in Problem::new(3, 6, 4, 7, |row, label| (row + label) % 3 > 0).variants() {
        let output = problem.run().unwrap();
        let dw = spread(&output, problem.weights.len(), problem.h);
        let slope = |change: &dyn Fn(&mut Problem, f32)| {
            let [more, less] = [1e-2, -1e-2].map(|step| {
                let mut other = problem.clone();
                change(&mut other, step);
                other.run().unwrap().loss
            });
            ((more - less) / 2e-2) as f32
        };
        for (i, &found) in output.dx.host().iter().enumerate() {
            let expected = slope(&|other, step| other.x[i] += step);
            assert!((found - expected).abs() < 2e-3, "{:?} x {i}: {found} {expected}", problem.criterion);
        }
        for (i, &found) in dw.iter().enumerate() {
            let expected = slope(&|other, step| other.weights[i] += step);
            assert!((found - expected).abs() < 2e-3, "{:?} w {i}: {found} {expected}", problem.criterion);
        }
    }
}

#[test]
fn bits_do_not_depend_on_the_number_of_threads() {
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let (one, three) = (pool(1), pool(3));
    for problem in problems().iter().flat_map(Problem::variants) {
        let (one, three) = (one.install(|| problem.run().unwrap()), three.install(|| problem.run().unwrap()));
        assert_eq!(one.loss.to_bits(), three.loss.to_bits());
        assert_eq!(one, three);
    }
}

#[test]
fn parts_of_a_step_add_up_to_the_step() {
    let whole = Problem::new(20, 50, 16, 8, |row, label| (row * 7 + label * 3) % 5 < 2);
    let output = whole.run().unwrap();
    let mut loss = 0.0;
    let mut dx = Vec::new();
    let mut dw = vec![0.0; whole.weights.len()];
    for rows in [0..13, 13..20] {
        let (from, to) = (whole.indptr[rows.start], whole.indptr[rows.end]);
        let part = Problem {
            x: whole.x[rows.start * 16..rows.end * 16].to_vec(),
            indptr: whole.indptr[rows.start..=rows.end].iter().map(|end| end - from).collect(),
            ids: whole.ids[from..to].to_vec(),
            targets: whole.targets[from..to].to_vec(),
            ..whole.clone()
        };
        let part = part.run().unwrap();
        loss += part.loss;
        dx.extend_from_slice(part.dx.host());
        let found = spread(&part, whole.weights.len(), 16);
        dw.iter_mut().zip(found).for_each(|(sum, v)| *sum += f64::from(v));
    }
    assert!((loss - output.loss).abs() < 1e-6);
    assert_eq!(dx, output.dx.host());
    close("weights", &spread(&output, whole.weights.len(), 16), &dw, 1e-6);
}

#[test]
fn margins_far_out_stay_finite_and_what_is_not_a_number_shows() {
    for mut problem in Problem::new(2, 4, 3, 9, |_, _| true).variants() {
        problem.weights.iter_mut().for_each(|w| *w *= 1e4);
        let (output, (loss, dx, _)) = (problem.run().unwrap(), problem.twin());
        let largest = dx.iter().fold(1.0, |a: f64, b| a.max(b.abs()));
        assert!((output.loss / loss - 1.0).abs() < 1e-5, "{} {loss}", output.loss);
        close("dx", output.dx.host(), &dx, 1e-5 * largest);
        problem.x[4] = f32::NAN;
        assert!(problem.run().unwrap().loss.is_nan(), "{:?}", problem.criterion);
    }
}

#[test]
fn what_does_not_fit_is_an_error() {
    let good = Problem::new(3, 5, 4, 1, |_, label| label > 1);
    assert!(good.run().is_ok());
    let wrong = |change: &dyn Fn(&mut Problem), expected: &str| {
        let mut problem = good.clone();
        change(&mut problem);
        let message = problem.run().unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    };
    wrong(&|p| p.ids[2] = 5, "labels of text 0 must rise and lie below 5");
    wrong(&|p| p.ids[4] = 2, "labels of text 1 must rise");
    wrong(&|p| p.targets[3] = f32::NAN, "target NaN");
    wrong(&|p| p.targets[3] = -1.0, "target -1");
    wrong(&|p| p.targets.truncate(8), "9 active labels with 8 targets");
    wrong(&|p| p.indptr.truncate(3), "3 offsets for 3 texts");
    wrong(&|p| p.indptr[3] = 10, "rising from 0 to 9");
    wrong(&|p| p.indptr[1] = 7, "rising from 0 to 9");
    wrong(&|p| p.indptr[0] = 1, "rising from 0 to 9");
    wrong(&|p| p.weights.truncate(24), "24 weights against texts [3, 4]");
    wrong(&|p| p.rows_of_step = 2, "a step of 2 texts with 3");
    // No labels and no texts are no error.
    let none = Problem::new(2, 0, 4, 1, |_, _| true).run().unwrap();
    assert_eq!((none.loss, none.touched.len(), none.dx.host()), (0.0, 0, &[0.0; 8][..]));
    let mut none = Problem::new(0, 3, 4, 1, |_, _| true);
    none.rows_of_step = 1;
    assert_eq!(none.run().unwrap().loss, 0.0);
}

#[derive(Deserialize)]
struct Golden {
    hidden: usize,
    x: Vec<f32>,
    weights: Vec<f32>,
    indptr: Vec<usize>,
    ids: Vec<u32>,
    targets: Vec<f32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    criterion: String,
    weighted: bool,
    loss: f64,
    dx: Vec<f64>,
    dw: Vec<f64>,
}

#[test]
fn loss_and_gradients_are_those_of_pytorch() {
    let golden: Golden = serde_json::from_str(include_str!("golden/active_loss.json")).unwrap();
    assert_eq!(golden.cases.len(), 6);
    for case in &golden.cases {
        let criterion = match case.criterion.as_str() {
            "squared-hinge" => ActiveCriterion::SquaredHinge,
            "hinge" => ActiveCriterion::Hinge,
            "cross-entropy" => ActiveCriterion::CrossEntropy,
            other => panic!("{other}"),
        };
        let problem = Problem {
            h: golden.hidden,
            x: golden.x.clone(),
            weights: golden.weights.clone(),
            indptr: golden.indptr.clone(),
            ids: golden.ids.clone(),
            targets: golden.targets.clone(),
            criterion,
            weighted: case.weighted,
            rows_of_step: golden.indptr.len() - 1,
        };
        let output = problem.run().unwrap();
        assert!((output.loss - case.loss).abs() < 1e-6, "{} {}", output.loss, case.loss);
        close(&case.criterion, output.dx.host(), &case.dx, 1e-6);
        close(&case.criterion, &spread(&output, golden.weights.len(), golden.hidden), &case.dw, 1e-6);
    }
}
