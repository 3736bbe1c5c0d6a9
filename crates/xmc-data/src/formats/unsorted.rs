//! How do rows in any order, with repeated columns, become a [`Csr`]?

use crate::csr::Csr;
use crate::error::{Error, Result};

/// Takes the three arrays with the ids of each row in any order; entries of the same column are added up in the order
/// given. Sorted input is neither copied nor moved.
pub(crate) fn csr_from_unsorted(
    rows: usize,
    cols: usize,
    mut indptr: Vec<u64>,
    mut indices: Vec<u32>,
    mut values: Vec<f32>,
) -> Result<Csr> {
    let entries = indices.len();
    if indptr.len() == rows.wrapping_add(1)
        && indptr.is_sorted()
        && indptr.first() == Some(&0)
        && indptr.last() == Some(&(entries as u64))
        && values.len() == entries
    {
        let kept = sort_rows(&mut indptr, &mut indices, &mut values)?;
        indices.truncate(kept);
        values.truncate(kept);
    }
    // Arrays that do not fit together are left as they are for this to describe.
    Csr::new(rows, cols, indptr, indices, values)
}

/// Sorts each row and adds up repeated ids, moving everything to the front; returns the number of entries kept.
fn sort_rows(indptr: &mut [u64], indices: &mut [u32], values: &mut [f32]) -> Result<usize> {
    let mut scratch: Vec<(u32, f32)> = Vec::new();
    let (mut start, mut kept) = (0usize, 0usize);
    for row in 1..indptr.len() {
        let end = indptr[row] as usize;
        if kept == start && indices[start..end].array_windows().all(|[a, b]| a < b) {
            kept = end;
        } else {
            scratch.clear();
            scratch.extend(indices[start..end].iter().copied().zip(values[start..end].iter().copied()));
            // Stable, so that a sum has one value.
            scratch.sort_by_key(|&(c, _)| c);
            let first = kept;
            for &(c, v) in &scratch {
                if kept > first && indices[kept - 1] == c {
                    values[kept - 1] += v;
                } else {
                    (indices[kept], values[kept]) = (c, v);
                    kept += 1;
                }
            }
            if let Some(v) = values[first..kept].iter().find(|v| !v.is_finite()) {
                return Err(Error::Shape(format!("row {}: value {v} is not a finite number", row - 1)));
            }
        }
        start = end;
        indptr[row] = kept as u64;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::csr::CsrBuilder;

    proptest! {
        #[test]
        fn unsorted_rows_equal_those_of_the_builder(rows in vec(vec((0u32..9, -4i8..5), 0..7), 0..6)) {
            let mut builder = CsrBuilder::new();
            let (mut indptr, mut indices, mut values) = (vec![0], Vec::new(), Vec::new());
            for row in &rows {
                builder.push(row.iter().map(|&(c, v)| (c, f32::from(v))));
                indices.extend(row.iter().map(|e| e.0));
                values.extend(row.iter().map(|e| f32::from(e.1)));
                indptr.push(indices.len() as u64);
            }
            let m = csr_from_unsorted(rows.len(), 9, indptr, indices, values).unwrap();
            prop_assert_eq!(m, builder.finish(9).unwrap());
        }
    }

    #[test]
    fn arrays_that_do_not_fit_together_are_described() {
        let why =
            |indptr: Vec<u64>| csr_from_unsorted(2, 3, indptr, vec![1], vec![1.0]).unwrap_err().to_string();
        assert!(why(vec![0, 1]).contains("3 numbers"));
        assert!(why(vec![0, 2, 2]).contains("end at 2"));
        assert!(why(vec![0, 1, 0]).contains("end at 0"));
        let most = csr_from_unsorted(usize::MAX, 3, Vec::new(), Vec::new(), Vec::new());
        assert!(most.unwrap_err().to_string().contains("row offsets"));
    }
}
