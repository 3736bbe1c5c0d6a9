//! Products of one row and a centroid, or 32 of them.

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

/// Centroids that are multiplied at once.
pub(super) const WIDE: usize = 32;

/// One number for each of them.
pub(super) type Wide = [f32; WIDE];

/// Adds the products of a row and 32 centroids `[d]` to `scores`, with the widest instructions of this processor.
pub(super) fn add_scaled(row: Row<'_>, centroids: &[Wide], scores: &mut Wide) {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the features that the function was compiled for.
            return unsafe { add_scaled_avx512(row, centroids, scores) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: as above.
            return unsafe { add_scaled_avx2(row, centroids, scores) };
        }
    }
    add_scaled_portable(row, centroids, scores);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn add_scaled_avx512(row: Row<'_>, centroids: &[Wide], scores: &mut Wide) {
    add_scaled_portable(row, centroids, scores);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn add_scaled_avx2(row: Row<'_>, centroids: &[Wide], scores: &mut Wide) {
    add_scaled_portable(row, centroids, scores);
}

/// Products and sums are rounded one by one, so all three versions give the same bits.
#[inline(always)]
#[allow(clippy::inline_always)] // Compiled anew inside each of the versions above.
fn add_scaled_portable(row: Row<'_>, centroids: &[Wide], scores: &mut Wide) {
    let mut sums = *scores;
    for (&f, &v) in row.indices.iter().zip(row.values) {
        for (sum, c) in sums.iter_mut().zip(&centroids[f as usize]) {
            *sum += v * c;
        }
    }
    *scores = sums;
}
