//! Products of one row and a centroid.

use xmc_data::Row;

/// Running sums of a sparse product; compact rows are filled up to a multiple of this.
pub(super) const LANES: usize = 4;

/// Sum of `values[j] * dense[indices[j]]` for a row of any length.
pub(super) fn gather(row: Row<'_>, dense: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let (ids, values) = (row.indices.chunks_exact(LANES), row.values.chunks_exact(LANES));
    let tail = ids.remainder().iter().zip(values.remainder());
    let rest: f32 = tail.map(|(&f, &v)| v * dense[f as usize]).sum();
    for (ids, values) in ids.zip(values) {
        for lane in 0..LANES {
            sums[lane] += values[lane] * dense[ids[lane] as usize];
        }
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3]) + rest
}

/// The same for a row of whole [`LANES`], without looking at bounds.
///
/// # Safety
/// Every id of `indices` is below `dense.len()`.
pub(super) unsafe fn gather_lanes(indices: &[u32], values: &[f32], dense: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    for (ids, values) in indices.as_chunks::<LANES>().0.iter().zip(values.as_chunks::<LANES>().0) {
        for lane in 0..LANES {
            // SAFETY: the caller's promise.
            sums[lane] += values[lane] * unsafe { dense.get_unchecked(ids[lane] as usize) };
        }
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3])
}

/// `<a, b>` in sixteen running sums.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let (a, a_rest) = a.as_chunks::<16>();
    let (b, b_rest) = b.as_chunks::<16>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}
