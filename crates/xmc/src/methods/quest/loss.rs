//! What does a step minimise? Every pair of a text and one of its labels against the other labels of the step. (spec:
//! QUEST, 2.6)
//!
//! ```text
//! s_ij = x_i . y_j / tau                            x, y of length 1
//! loss = mean over pairs (i, p) of  ln( e^s_ip + sum_j e^s_ij ) - s_ip
//! ```
//!
//! where j runs over the labels of the step, each once, that text i does not have, and over labels of a bank: embeddings
//! of earlier days, which get no gradient. As the authors' program has it, j runs over the other pairs instead: a label
//! comes as often as it has pairs, and one that is right for the text is taken for wrong. The symmetric loss is the mean
//! of this and the same with texts and labels exchanged.

use xmc_data::Csr;
use xmc_nn::loss::{Criterion, LossOptions, Targets, loss};
use xmc_nn::{Precision, Tensor};

use crate::error::Result;

/// Embeddings that are not learned.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    /// Labels, rising; none of those of the step.
    pub(super) ids: Vec<u32>,
    /// Their embeddings `[k, d]`, one after the other.
    pub(super) values: Vec<f32>,
}

/// What a step compares.
pub(super) struct Compared<'a> {
    /// Pairs (row, label).
    pub(super) pairs: &'a [(u32, u32)],
    /// Their rows, each once, rising.
    pub(super) rows: &'a [u32],
    /// Their labels and further ones, each once, rising.
    pub(super) labels: &'a [u32],
    /// More labels.
    pub(super) drawn: &'a Drawn,
    /// All right labels of all rows.
    pub(super) known: &'a Csr,
}

/// How it is compared.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contrast {
    /// Temperature.
    pub(super) tau: f32,
    /// Whether labels look for their texts too.
    pub(super) symmetric: bool,
    /// Whether other right labels are left out.
    pub(super) mask: bool,
    /// Of the products.
    pub(super) precision: Precision,
}

/// A loss and its gradients.
#[derive(Debug)]
pub(super) struct Contrasted {
    pub(super) loss: f64,
    /// d loss / d x `[rows, d]`.
    pub(super) dx: Tensor,
    /// d loss / d y `[labels, d]`.
    pub(super) dy: Tensor,
}

impl Contrast {
    /// The loss of texts `x [rows, d]` and labels `y [labels, d]`.
    pub(super) fn of(self, x: &Tensor, y: &Tensor, compared: &Compared<'_>) -> Result<Contrasted> {
        let Compared { pairs, rows, labels, drawn, known } = *compared;
        let place = |ids: &[u32], id: u32| ids.binary_search(&id).unwrap_or_default();
        let texts: Vec<usize> = pairs.iter().map(|&(row, _)| place(rows, row)).collect();
        let names: Vec<usize> = pairs.iter().map(|&(_, label)| place(labels, label)).collect();
        let (mut dx, mut dy) =
            (Tensor::zeros(x.rows(), x.cols(), x.device()), Tensor::zeros(y.rows(), y.cols(), y.device()));
        let share = if self.symmetric { 0.5 } else { 1.0 };

        let right =
            |pair: usize, label: u32| known.row(pairs[pair].0 as usize).indices.binary_search(&label).is_ok();
        let columns = labels.iter().chain(&drawn.ids);
        let others = |pair: usize| {
            columns.clone().enumerate().filter(move |&(_, &l)| right(pair, l)).map(|(at, _)| at)
        };
        let mut value = share
            * self.one_way((x, &texts), (y, &names), &drawn.values, others, share, (&mut dx, &mut dy))?;
        if self.symmetric {
            let has =
                |pair: usize, row: u32| known.row(row as usize).indices.binary_search(&pairs[pair].1).is_ok();
            let others =
                |pair: usize| rows.iter().enumerate().filter(move |&(_, &r)| has(pair, r)).map(|(at, _)| at);
            value +=
                share * self.one_way((y, &names), (x, &texts), &[], others, share, (&mut dy, &mut dx))?;
        }
        Ok(Contrasted { loss: value, dx, dy })
    }

    /// Every pair as a query `x[of_x]` that is to find `y[of_y]`; `also_right` gives the rows of y that are no negatives
    /// for a pair. Adds gradients, times `share`, to `dx` and `dy`.
    fn one_way<I: Iterator<Item = usize>>(
        self,
        (x, of_x): (&Tensor, &[usize]),
        (y, of_y): (&Tensor, &[usize]),
        drawn: &[f32],
        also_right: impl Fn(usize) -> I,
        share: f64,
        (dx, dy): (&mut Tensor, &mut Tensor),
    ) -> Result<f64> {
        let queries = gather(x, of_x)?;
        let pairs = of_x.len();
        let options =
            |criterion| LossOptions { precision: self.precision, ..LossOptions::new(criterion, self.tau) };
        let output = if self.mask {
            let all = [y.host(), drawn].concat();
            let columns = Tensor::from_host(all.len() / y.cols().max(1), y.cols(), all, y.device())?;
            let rows = (0..pairs).map(|i| also_right(i).chain([of_y[i]]).map(|at| (at as u32, 1.0)));
            let mut targets = Targets::from_rows(rows, false);
            targets.keep(|pair, target| target.label as usize == of_y[pair]);
            let output = loss(&queries, &columns, None, &targets, &options(Criterion::DecoupledSoftmax))?;
            // Those drawn are beyond the rows of y.
            add_rows(&output.dy, 0..y.rows(), share, dy);
            output
        } else {
            let targets = Targets::from_rows((0..pairs).map(|i| [(i as u32, 1.0)]), false);
            let output = loss(&queries, &gather(y, of_y)?, None, &targets, &options(Criterion::Softmax))?;
            add_rows(&output.dy, of_y.iter().copied(), share, dy);
            output
        };
        add_rows(&output.dx, of_x.iter().copied(), share, dx);
        Ok(output.loss)
    }
}

/// The rows `at` of `from`.
fn gather(from: &Tensor, at: &[usize]) -> Result<Tensor> {
    let d = from.cols();
    let values = at.iter().flat_map(|&i| &from.host()[i * d..(i + 1) * d]).copied().collect();
    Ok(Tensor::from_host(at.len(), d, values, from.device())?)
}

/// Adds row i of `from`, times `share`, to row `to_rows[i]` of `to`.
fn add_rows(from: &Tensor, to_rows: impl IntoIterator<Item = usize>, share: f64, to: &mut Tensor) {
    let (d, share) = (from.cols(), share as f32);
    let to = to.host_mut();
    for (values, row) in from.host().chunks_exact(d.max(1)).zip(to_rows) {
        for (sum, value) in to[row * d..(row + 1) * d].iter_mut().zip(values) {
            *sum += share * value;
        }
    }
}

#[cfg(test)]
mod tests {
    use xmc_data::CsrBuilder;
    use xmc_nn::Device;

    use super::*;

    fn unit(rows: &[[f32; 2]]) -> Tensor {
        let values = rows.iter().flat_map(|row| {
            let norm = row.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-8);
            row.map(|v| v / norm)
        });
        Tensor::from_host(rows.len(), 2, values.collect(), Device::Cpu).unwrap()
    }

    fn known(rows: &[&[u32]], labels: usize) -> Csr {
        let mut y = CsrBuilder::new();
        for row in rows {
            y.push(row.iter().map(|&l| (l, 1.0)));
        }
        y.finish(labels).unwrap()
    }

    const HOW: Contrast = Contrast { tau: 0.05, symmetric: false, mask: true, precision: Precision::F32 };
    const NONE: Drawn = Drawn { ids: Vec::new(), values: Vec::new() };

    fn value(how: Contrast, x: &Tensor, y: &Tensor, pairs: &[(u32, u32)], known: &Csr) -> f64 {
        contrasted(how, x, y, pairs, known, &NONE).loss
    }

    fn contrasted(
        how: Contrast,
        x: &Tensor,
        y: &Tensor,
        pairs: &[(u32, u32)],
        known: &Csr,
        drawn: &Drawn,
    ) -> Contrasted {
        let once = |mut ids: Vec<u32>| {
            ids.sort_unstable();
            ids.dedup();
            ids
        };
        let rows = once(pairs.iter().map(|p| p.0).collect());
        let labels = once(pairs.iter().map(|p| p.1).collect());
        how.of(x, y, &Compared { pairs, rows: &rows, labels: &labels, drawn, known }).unwrap()
    }

    #[test]
    fn values_are_those_of_the_specification() {
        let x = unit(&[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]);
        let y = unit(&[[2.0, 0.5], [0.1, 1.0], [1.0, 0.8]]);
        let (pairs, known) = ([(0, 0), (1, 1), (2, 2)], known(&[&[0], &[1], &[2]], 3));
        for mask in [true, false] {
            let how = Contrast { mask, ..HOW };
            assert!((value(how, &x, &y, &pairs, &known) - 0.032_613_7).abs() < 1e-6);
            let both = value(Contrast { symmetric: true, ..how }, &x, &y, &pairs, &known);
            assert!((both - 0.037_389_7).abs() < 1e-6, "{both}");
        }
        // One pair after the other, against all labels.
        for (i, expected) in [0.022_444_4, 0.000_607_2, 0.074_789_5].into_iter().enumerate() {
            let drawn = Drawn {
                ids: (0..3).filter(|&l| l != i as u32).collect(),
                values: (0..3)
                    .filter(|&l| l != i)
                    .flat_map(|l| y.host()[2 * l..2 * l + 2].to_vec())
                    .collect(),
            };
            let (x, y) = (gather(&x, &[i]).unwrap(), gather(&y, &[i]).unwrap());
            let one = contrasted(HOW, &x, &y, &[(i as u32, i as u32)], &known, &drawn);
            assert!((one.loss - expected).abs() < 1e-6, "{i}: {}", one.loss);
        }
    }

    #[test]
    fn one_pair_costs_nothing_and_equal_vectors_cost_the_logarithm_of_their_number() {
        let same = unit(&[[1.0, 1.0]; 5]);
        let alone = gather(&same, &[0]).unwrap();
        let known = known(&[&[0], &[1], &[2], &[3], &[4]], 5);
        let pairs: Vec<(u32, u32)> = (0..5).map(|i| (i, i)).collect();
        for mask in [true, false] {
            let how = Contrast { mask, ..HOW };
            assert!(value(how, &alone, &alone, &pairs[..1], &known).abs() < 1e-9);
            assert!((value(how, &same, &same, &pairs, &known) - 5f64.ln()).abs() < 1e-6);
        }
    }

    #[test]
    fn right_labels_are_masked() {
        // Both texts have both labels; label 1 comes twice.
        let x = unit(&[[1.0, 0.2], [0.3, 1.0], [0.9, 0.5]]);
        let y = unit(&[[1.0, 0.5], [0.4, 1.0]]);
        let known = known(&[&[0, 1], &[1], &[1]], 2);
        let pairs = [(0, 0), (1, 1), (2, 1)];
        let (masked, plain) = (
            value(HOW, &x, &y, &pairs, &known),
            value(Contrast { mask: false, ..HOW }, &x, &y, &pairs, &known),
        );
        assert!(masked < plain, "{masked} {plain}");
        // Text 0 has no negative left.
        assert_eq!(value(HOW, &gather(&x, &[0]).unwrap(), &y, &[(0, 0), (0, 1)], &known), 0.0);
    }

    #[test]
    fn gradients_are_differences_of_the_loss() {
        let x = unit(&[[1.0, 0.2], [0.3, 1.0], [0.9, -0.5]]);
        let y = unit(&[[1.0, 0.5], [0.4, 1.0], [-0.2, 0.7]]);
        let known = known(&[&[0, 1], &[1, 2], &[0]], 5);
        let pairs = [(0, 0), (0, 1), (1, 1), (1, 2), (2, 0)];
        let drawn = Drawn { ids: vec![3], values: vec![0.6, 0.8] };
        for (symmetric, mask) in [(false, false), (true, false), (false, true), (true, true)] {
            let how = Contrast { tau: 0.5, symmetric, mask, ..HOW };
            let none = Drawn { ids: Vec::new(), values: Vec::new() };
            let drawn = if mask { &drawn } else { &none };
            let found = contrasted(how, &x, &y, &pairs, &known, drawn);
            let moved = |from: &Tensor, at: usize, by: f32| {
                let mut values = from.host().to_vec();
                values[at] += by;
                Tensor::from_host(from.rows(), from.cols(), values, Device::Cpu).unwrap()
            };
            for at in 0..6 {
                let of_x = |by| contrasted(how, &moved(&x, at, by), &y, &pairs, &known, drawn).loss;
                let of_y = |by| contrasted(how, &x, &moved(&y, at, by), &pairs, &known, drawn).loss;
                let slopes = [of_x(1e-3) - of_x(-1e-3), of_y(1e-3) - of_y(-1e-3)].map(|change| change / 2e-3);
                for (slope, gradient) in slopes.into_iter().zip([found.dx.host()[at], found.dy.host()[at]]) {
                    assert!(
                        (slope - f64::from(gradient)).abs() < 1e-3,
                        "{symmetric} {mask}: {slope} {gradient}"
                    );
                }
            }
        }
    }
}
