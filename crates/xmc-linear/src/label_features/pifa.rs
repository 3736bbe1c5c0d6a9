//! Positive instance feature aggregation: a label looks like the sum of its training rows.
//!
//! `z_l = u_l / |u_l|`, `u_l = sum over rows i with label l of (y_il / |y_i|) x_i`; a row that carries many labels
//! says less about each. Labels without rows keep a zero row. XR-Linear (PECOS), section 3.1; the weight `1 / |y_i|`
//! is in the program, not in the paper.
//!
//! x `[n, d]`, y `[n, L]`, z `[L, d]`. Cost: the sum over all (row, label) pairs of the row's length. A task keeps
//! one dense accumulator and a two-level bitmap of the features it met, so that rows come out sorted without sorting.

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use xmc_data::{Csr, Dense, Result, Row};

use crate::features::Features;

/// Labels a task works on.
const LABELS_PER_TASK: usize = 128;

/// Label rows from training rows `x [n, d]` and labels `y [n, L]`; a dense block of `x` is summed alike and the norm
/// is that of both parts together.
pub fn pifa(x: &Features, y: &Csr) -> Result<Features> {
    let share: Vec<f32> =
        y.iter().map(|row| row.norm()).map(|n| if n > 0.0 { 1.0 / n } else { 0.0 }).collect();
    weighted(x, y, &share)
}

/// The same where every row says as much about each of its labels, however many they are: `u_l` is the sum of `y_il x_i`.
/// (spec: ELIAS, 2.3)
pub fn centroids(x: &Features, y: &Csr) -> Result<Features> {
    weighted(x, y, &vec![1.0; y.rows()])
}

/// Normalised sums of `y_il share_i x_i`.
fn weighted(x: &Features, y: &Csr, share: &[f32]) -> Result<Features> {
    if x.rows() != y.rows() {
        let (a, b) = (x.rows(), y.rows());
        return Err(xmc_data::Error::Shape(format!("{a} rows of features and {b} rows of labels")));
    }
    let rows_of = y.transpose();
    let tasks = y.cols().div_ceil(LABELS_PER_TASK);
    let parts: Vec<Part> = (0..tasks)
        .into_par_iter()
        .map_init(
            || SparseSum::new(x.sparse().cols()),
            |sum, task| {
                let start = task * LABELS_PER_TASK;
                let mut part = Part::default();
                for label in start..(start + LABELS_PER_TASK).min(y.cols()) {
                    part.push(x, rows_of.row(label), share, sum);
                }
                part
            },
        )
        .collect();
    assemble(parts, y.cols(), x)
}

/// Puts the parts of consecutive labels together, releasing each as it is copied.
fn assemble(parts: Vec<Part>, num_labels: usize, x: &Features) -> Result<Features> {
    let stored = parts.iter().map(|p| p.indices.len()).sum();
    let mut indptr = Vec::with_capacity(num_labels + 1);
    indptr.push(0);
    let (mut indices, mut values) = (Vec::with_capacity(stored), Vec::with_capacity(stored));
    let mut dense = Vec::with_capacity(num_labels * x.dense_cols());
    for part in parts {
        let base = indices.len() as u64;
        indptr.extend(part.ends.iter().map(|&end| base + end as u64));
        indices.extend_from_slice(&part.indices);
        values.extend_from_slice(&part.values);
        dense.extend_from_slice(&part.dense);
    }
    let sparse = Csr::new(num_labels, x.sparse().cols(), indptr, indices, values)?;
    let dense = x.dense().map(|d| Dense::new(num_labels, d.cols(), dense)).transpose()?;
    Features::new(sparse, dense)
}

/// Finished rows of neighbouring labels.
#[derive(Default)]
struct Part {
    /// End of each row in the two arrays below.
    ends: Vec<usize>,
    indices: Vec<u32>,
    values: Vec<f32>,
    dense: Vec<f32>,
}

impl Part {
    /// Appends the row of one label; `rows` are its training rows and their `y`.
    fn push(&mut self, x: &Features, rows: Row<'_>, share: &[f32], sum: &mut SparseSum) {
        let (start, dense_start) = (self.indices.len(), self.dense.len());
        let weighted = || rows.iter().map(|(i, y)| (i as usize, y * share[i as usize]));
        if rows.len() == 1 {
            for (i, weight) in weighted() {
                let row = x.sparse().row(i);
                self.indices.extend_from_slice(row.indices);
                self.values.extend(row.values.iter().map(|v| weight * v));
            }
        } else {
            for (i, weight) in weighted() {
                sum.add(x.sparse().row(i), weight);
            }
            sum.drain(&mut self.indices, &mut self.values);
        }
        self.dense.resize(dense_start + x.dense_cols(), 0.0);
        for (i, weight) in weighted() {
            for (total, v) in self.dense[dense_start..].iter_mut().zip(x.dense_row(i)) {
                *total += weight * v;
            }
        }
        normalize(&mut self.values[start..], &mut self.dense[dense_start..]);
        self.ends.push(self.indices.len());
    }
}

/// Divides both parts by their common norm, unless it is 0.
fn normalize(sparse: &mut [f32], dense: &mut [f32]) {
    let squares = |part: &[f32]| part.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
    let norm = (squares(sparse) + squares(dense)).sqrt();
    if norm > 0.0 {
        let inverse = (1.0 / norm) as f32;
        sparse.iter_mut().chain(dense).for_each(|v| *v *= inverse);
    }
}

/// A sum of sparse rows: dense values, and a bitmap (with a bitmap over its words) of where they are.
struct SparseSum {
    values: Vec<f32>,
    words: Vec<u64>,
    pages: Vec<u64>,
}

impl SparseSum {
    fn new(cols: usize) -> Self {
        let words = cols.div_ceil(64);
        SparseSum { values: vec![0.0; cols], words: vec![0; words], pages: vec![0; words.div_ceil(64)] }
    }

    fn add(&mut self, row: Row<'_>, weight: f32) {
        for (c, v) in row.iter() {
            let c = c as usize;
            let (word, bit) = (c / 64, 1 << (c % 64));
            if self.words[word] & bit == 0 {
                self.words[word] |= bit;
                self.pages[word / 64] |= 1 << (word % 64);
            }
            self.values[c] += weight * v;
        }
    }

    /// Appends the sum in rising column order and goes back to zero.
    fn drain(&mut self, indices: &mut Vec<u32>, values: &mut Vec<f32>) {
        for (p, page) in self.pages.iter_mut().enumerate() {
            while *page != 0 {
                let w = p * 64 + page.trailing_zeros() as usize;
                *page &= *page - 1;
                let mut word = std::mem::take(&mut self.words[w]);
                while word != 0 {
                    let c = w * 64 + word.trailing_zeros() as usize;
                    word &= word - 1;
                    indices.push(c as u32);
                    values.push(std::mem::take(&mut self.values[c]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use xmc_data::CsrBuilder;

    use super::*;

    fn matrix(cols: usize, rows: Vec<Vec<(u32, f32)>>) -> Csr {
        let mut b = CsrBuilder::new();
        for row in rows {
            b.push(row);
        }
        b.finish(cols).unwrap()
    }

    /// The formula over dense arrays in f64.
    fn by_definition(x: &Features, y: &Csr, label: usize) -> Vec<f64> {
        let mut sum = vec![0.0; x.cols()];
        for i in 0..x.rows() {
            let norm = y.row(i).iter().map(|(_, v)| f64::from(v).powi(2)).sum::<f64>().sqrt();
            let weight = f64::from(y.row(i).get(label as u32)) / norm.max(1e-30);
            for (c, v) in x.sparse().row(i).iter() {
                sum[c as usize] += weight * f64::from(v);
            }
            for (c, &v) in x.dense_row(i).iter().enumerate() {
                sum[x.sparse().cols() + c] += weight * f64::from(v);
            }
        }
        let norm = sum.iter().map(|v| v * v).sum::<f64>().sqrt();
        sum.iter().map(|v| if norm > 0.0 { v / norm } else { 0.0 }).collect()
    }

    proptest! {
        #[test]
        fn equals_the_formula_on_dense_arrays(
            x in vec(vec((0u32..200, 0.1f32..2.0), 0..9), 12),
            dense in vec(-1.0f32..1.0, 24),
            y in vec(vec((0u32..300, 0.5f32..2.0), 0..5), 12),
        ) {
            let dense = Dense::new(12, 2, dense).unwrap();
            let x = Features::new(matrix(200, x), Some(dense)).unwrap();
            let y = matrix(300, y);
            let z = pifa(&x, &y).unwrap();
            for label in 0..300 {
                let expected = by_definition(&x, &y, label);
                for c in 0..200 {
                    prop_assert!((f64::from(z.sparse().row(label).get(c)) - expected[c as usize]).abs() < 1e-5);
                }
                for c in 0..2 {
                    prop_assert!((f64::from(z.dense_row(label)[c]) - expected[200 + c]).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn a_label_without_rows_stays_empty() {
        let x = matrix(3, vec![vec![(1, 2.0)], vec![]]).into();
        let z = pifa(&x, &matrix(3, vec![vec![(2, 1.0)], vec![(1, 1.0)]])).unwrap();
        assert_eq!(z.sparse(), &matrix(3, vec![vec![], vec![], vec![(1, 1.0)]]));
    }

    #[test]
    fn row_counts_must_agree() {
        let error = pifa(&Csr::empty(2, 3).into(), &Csr::empty(3, 1)).unwrap_err().to_string();
        assert!(error.contains("2 rows of features and 3 rows of labels"));
    }
}
