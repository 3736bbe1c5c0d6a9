//! Operations on whole matrices.

use super::Csr;
use crate::error::{Error, Result};

impl Csr {
    /// `[rows, cols]` to `[cols, rows]` by counting, O(nnz + cols).
    pub fn transpose(&self) -> Csr {
        let mut indptr = vec![0u64; self.cols() + 1];
        for &c in self.indices() {
            indptr[c as usize + 1] += 1;
        }
        for c in 0..self.cols() {
            indptr[c + 1] += indptr[c];
        }
        let mut next = indptr.clone();
        let mut indices = vec![0u32; self.nnz()];
        let mut values = vec![0f32; self.nnz()];
        for (i, row) in self.iter().enumerate() {
            for (c, v) in row.iter() {
                let at = next[c as usize] as usize;
                next[c as usize] += 1;
                indices[at] = i as u32;
                values[at] = v;
            }
        }
        Csr::from_checked(self.cols(), self.rows(), indptr, indices, values)
    }

    /// Divides each row by its Euclidean norm; zero rows stay zero.
    pub fn normalize_rows(&mut self) {
        let indptr = self.indptr().to_vec();
        let values = self.values_mut();
        for w in indptr.windows(2) {
            let row = &mut values[w[0] as usize..w[1] as usize];
            let norm = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
            if norm > 0.0 {
                let inverse = (1.0 / norm) as f32;
                for v in row {
                    *v *= inverse;
                }
            }
        }
    }

    /// The given rows in the given order.
    ///
    /// # Panics
    /// If a row does not exist.
    pub fn select_rows(&self, rows: &[u32]) -> Csr {
        let mut indptr = Vec::with_capacity(rows.len() + 1);
        indptr.push(0);
        let (mut indices, mut values) = (Vec::new(), Vec::new());
        for &r in rows {
            let row = self.row(r as usize);
            indices.extend_from_slice(row.indices);
            values.extend_from_slice(row.values);
            indptr.push(indices.len() as u64);
        }
        Csr::from_checked(rows.len(), self.cols(), indptr, indices, values)
    }

    /// `[self | other]`: columns of `other` to the right of these.
    pub fn hstack(&self, other: &Csr) -> Result<Csr> {
        if self.rows() != other.rows() {
            let (a, b) = (self.rows(), other.rows());
            return Err(Error::Shape(format!("matrices of {a} and {b} rows cannot stand side by side")));
        }
        let mut indptr = Vec::with_capacity(self.rows() + 1);
        indptr.push(0);
        let (mut indices, mut values) =
            (Vec::with_capacity(self.nnz() + other.nnz()), Vec::with_capacity(self.nnz() + other.nnz()));
        for (a, b) in self.iter().zip(other.iter()) {
            indices.extend_from_slice(a.indices);
            indices.extend(b.indices.iter().map(|&c| c + self.cols() as u32));
            values.extend_from_slice(a.values);
            values.extend_from_slice(b.values);
            indptr.push(indices.len() as u64);
        }
        Csr::new(self.rows(), self.cols() + other.cols(), indptr, indices, values)
    }

    /// Without the entries for which `keep(row, column, value)` is false.
    pub fn filter(&self, mut keep: impl FnMut(usize, u32, f32) -> bool) -> Csr {
        let mut indptr = Vec::with_capacity(self.rows() + 1);
        indptr.push(0);
        let (mut indices, mut values) = (Vec::new(), Vec::new());
        for (i, row) in self.iter().enumerate() {
            for (c, v) in row.iter().filter(|&(c, v)| keep(i, c, v)) {
                indices.push(c);
                values.push(v);
            }
            indptr.push(indices.len() as u64);
        }
        Csr::from_checked(self.rows(), self.cols(), indptr, indices, values)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::CsrBuilder;
    use super::*;

    fn dense(m: &Csr) -> Vec<Vec<f32>> {
        m.iter().map(|r| (0..m.cols() as u32).map(|c| r.get(c)).collect()).collect()
    }

    fn matrix(rows: usize, cols: usize) -> impl Strategy<Value = Csr> {
        // Small integers, so that sums are exact in f32 in any order.
        vec(vec((0..cols as u32, -4i8..5), 0..6), rows).prop_map(move |rows| {
            let mut b = CsrBuilder::new();
            for r in rows {
                b.push(r.into_iter().map(|(c, v)| (c, f32::from(v))));
            }
            b.finish(cols).unwrap()
        })
    }

    proptest! {
        #[test]
        fn transposing_twice_gives_the_same_matrix(m in matrix(7, 9)) {
            prop_assert_eq!(m.transpose().transpose(), m);
        }

        #[test]
        fn side_by_side_keeps_both_halves(a in matrix(4, 3), b in matrix(4, 5)) {
            let s = dense(&a.hstack(&b).unwrap());
            for i in 0..4 {
                prop_assert_eq!(&s[i][..3], &dense(&a)[i][..]);
                prop_assert_eq!(&s[i][3..], &dense(&b)[i][..]);
            }
        }
    }

    #[test]
    fn normalised_rows_have_norm_one_and_zero_rows_stay() {
        let mut m = Csr::new(2, 3, vec![0, 2, 2], vec![0, 2], vec![3.0, 4.0]).unwrap();
        m.normalize_rows();
        assert_eq!(m.values(), [0.6, 0.8]);
    }

    #[test]
    fn broken_arrays_are_refused_with_the_row() {
        let why = |indptr: Vec<u64>, indices: Vec<u32>, values: Vec<f32>| {
            Csr::new(2, 3, indptr, indices, values).unwrap_err().to_string()
        };
        assert!(why(vec![0, 1], vec![0], vec![1.0]).contains("3 numbers"));
        assert!(why(vec![0, 2, 2], vec![1, 1], vec![1.0, 1.0]).contains("row 0: column 1 follows 1"));
        assert!(why(vec![0, 0, 1], vec![3], vec![1.0]).contains("row 1: column 3 is outside the 3 columns"));
        assert!(why(vec![0, 0, 1], vec![2], vec![f32::NAN]).contains("row 1: value NaN"));
        assert!(why(vec![0, 2, 1], vec![2], vec![1.0]).contains("row 1"));
        assert!(why(vec![0, 1, 2], vec![2], vec![1.0]).contains("end at 2"));
    }
}
