//! Which label of a bucket is nearest to its middle?
//!
//! u_l = (v_l - mean) / n_l with n_l = |v_l - mean|, and the middle of a bucket points to S = sum of its u_l. Labels are
//! ranked by u_l · S. The mean of sparse features is dense, but nothing dense is made of it for a label: with
//! A = sum of v_l / n_l and k = sum of 1 / n_l over the bucket,
//!
//! u_l · S = (v_l · A - mean · A - k v_l · mean + k |mean|^2) / n_l.

use rayon::prelude::*;

use super::features::LabelFeatures;

/// Labels by bucket, within a bucket the nearest to its middle first, and among equals as they came; with their buckets.
pub(super) fn ordered(
    features: &LabelFeatures,
    mean: &[f64],
    labels: &[u32],
    bucket_of: &[u32],
) -> (Vec<u32>, Vec<u32>) {
    let mut members: Vec<(u32, u32)> = bucket_of.iter().copied().zip(labels.iter().copied()).collect();
    // Stable: labels of a bucket stay as they came.
    members.par_sort_by_key(|&(bucket, _)| bucket);
    let zero = mean.iter().map(|m| m * m).sum::<f64>();
    members.par_chunk_by_mut(|a, b| a.0 == b.0).for_each_init(
        || vec![0f64; mean.len()],
        |sums, bucket| {
            let lengths: Vec<Lengths> =
                bucket.iter().map(|&(_, l)| Lengths::of(features, mean, zero, l)).collect();
            let closeness = closeness(features, zero, bucket, &lengths, sums);
            let mut ranked: Vec<(f64, (u32, u32))> =
                closeness.into_iter().zip(bucket.iter().copied()).collect();
            ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
            for (member, (_, ranked)) in bucket.iter_mut().zip(ranked) {
                *member = ranked;
            }
        },
    );
    members.into_iter().map(|(bucket, label)| (label, bucket)).unzip()
}

/// Of one label.
struct Lengths {
    /// v · mean.
    along: f64,
    /// 1 / |v - mean|; 0 if v is the mean.
    inverse: f64,
}

impl Lengths {
    fn of(features: &LabelFeatures, mean: &[f64], zero: f64, l: u32) -> Self {
        let (mut own, mut along) = (0f64, 0f64);
        features.each(l as usize, |c, v| {
            own += f64::from(v) * f64::from(v);
            along += f64::from(v) * mean[c];
        });
        let squared = own - 2.0 * along + zero;
        Lengths { along, inverse: if squared > 1e-12 { 1.0 / squared.sqrt() } else { 0.0 } }
    }
}

/// u_l · S of every label of a bucket; `sums` `[d]` is 0 before and after.
fn closeness(
    features: &LabelFeatures,
    zero: f64,
    bucket: &[(u32, u32)],
    lengths: &[Lengths],
    sums: &mut [f64],
) -> Vec<f64> {
    if bucket.len() == 1 {
        return vec![0.0];
    }
    let k: f64 = lengths.iter().map(|length| length.inverse).sum();
    let mut along = 0f64;
    for (&(_, l), length) in bucket.iter().zip(lengths) {
        features.each(l as usize, |c, v| sums[c] += f64::from(v) * length.inverse);
        along += length.along * length.inverse;
    }
    let close = |(&(_, l), length): (&(u32, u32), &Lengths)| {
        let mut product = 0f64;
        features.each(l as usize, |c, v| product += f64::from(v) * sums[c]);
        (product - along - k * length.along + k * zero) * length.inverse
    };
    let closeness = bucket.iter().zip(lengths).map(close).collect();
    for &(_, l) in bucket {
        features.each(l as usize, |c, _| sums[c] = 0.0);
    }
    closeness
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Draws, Purpose};

    #[test]
    fn labels_are_ranked_as_their_vectors_written_out_say() {
        let (labels, d) = (60usize, 7usize);
        let mut draws = Draws::new(1, Purpose::Order, 0);
        let values = (0..labels * d).map(|_| draws.normal() + 0.5).collect();
        let dense = LabelFeatures::dense(labels, d, values).unwrap();
        let mean = dense.mean();
        let unit: Vec<Vec<f64>> = (0..labels)
            .map(|l| {
                let mut row = vec![0f64; d];
                dense.each(l, |c, v| row[c] = f64::from(v) - mean[c]);
                let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
                row.into_iter().map(|v| v / norm).collect()
            })
            .collect();
        let ids: Vec<u32> = (0..labels as u32).rev().collect();
        let bucket_of: Vec<u32> = ids.iter().map(|&l| l % 4).collect();
        let (ranked, buckets) = ordered(&dense, &mean, &ids, &bucket_of);
        for bucket in 0..4 {
            let middle: Vec<f64> = (0..d)
                .map(|c| unit.iter().enumerate().filter(|(l, _)| l % 4 == bucket).map(|(_, u)| u[c]).sum())
                .collect();
            let close = |l: u32| unit[l as usize].iter().zip(&middle).map(|(a, b)| a * b).sum::<f64>();
            let mut expected: Vec<u32> = (0..labels as u32).filter(|&l| l as usize % 4 == bucket).collect();
            expected.sort_by(|&a, &b| close(b).total_cmp(&close(a)));
            let found: Vec<u32> = ranked
                .iter()
                .zip(&buckets)
                .filter(|&(_, &b)| b as usize == bucket)
                .map(|(&l, _)| l)
                .collect();
            assert_eq!(found, expected);
        }
    }
}
