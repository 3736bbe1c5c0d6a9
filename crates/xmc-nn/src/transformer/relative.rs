//! How does MPNet see distance? By a bias on attention scores, one for every bucket of distances and head.
//!
//! Token i looking at token j takes bucket(j - i). Half of the buckets are for j > i. Of each half, the first half
//! are the distances 0, 1, 2, …; the rest grow in logarithmic steps up to 128 and beyond. All layers share the table.

use std::ops::Range;

/// Distances beyond share the last bucket.
const MAX_DISTANCE: usize = 128;

/// Bucket of the distance from `i` to `j`.
pub(crate) fn bucket(i: usize, j: usize, buckets: usize) -> usize {
    let half = buckets / 2;
    let exact = half / 2;
    let distance = i.abs_diff(j);
    let side = if j > i { half } else { 0 };
    if distance < exact {
        return side + distance;
    }
    // In f32 and in this order, as published: it decides which way distances at the border of two buckets go.
    let exact = exact.max(1);
    let ratio = (distance as f32 / exact as f32).ln() / ((MAX_DISTANCE as f64 / exact as f64).ln() as f32);
    side + (exact + (ratio * (half - exact) as f32) as usize).min(half - 1)
}

/// Biases spread out by distance: those of a row of scores are a slice.
#[derive(Debug, Default)]
pub(crate) struct DistanceBias {
    /// Longest sequence.
    reach: usize,
    /// `[heads, 2 reach - 1]`: entry `reach - 1 + j - i` is for i looking at j.
    spread: Vec<f32>,
}

impl DistanceBias {
    /// Spreads the parameters `table [buckets, heads]` for sequences of up to `reach` tokens.
    pub(crate) fn fill(&mut self, table: &[f32], heads: usize, reach: usize) {
        let buckets = table.len() / heads;
        self.reach = reach;
        self.spread.clear();
        for head in 0..heads {
            let entries =
                (0..Self::width(reach)).map(|at| table[Self::bucket_at(reach, at, buckets) * heads + head]);
            self.spread.extend(entries);
        }
    }

    /// Entries of a head.
    pub(crate) fn width(reach: usize) -> usize {
        2 * reach - 1
    }

    fn bucket_at(reach: usize, at: usize, buckets: usize) -> usize {
        if at < reach { bucket(reach - 1 - at, 0, buckets) } else { bucket(0, at + 1 - reach, buckets) }
    }

    /// Entries of `head` that row `i` of a sequence of `len` tokens takes.
    pub(crate) fn row(reach: usize, head: usize, i: usize, len: usize) -> Range<usize> {
        let start = head * Self::width(reach) + reach - 1 - i;
        start..start + len
    }

    /// Adds the biases of `head` to scores `[len, len]`.
    pub(crate) fn add(&self, head: usize, scores: &mut [f32], len: usize) {
        for (i, row) in scores.chunks_exact_mut(len).enumerate() {
            for (score, bias) in row.iter_mut().zip(&self.spread[Self::row(self.reach, head, i, len)]) {
                *score += bias;
            }
        }
    }

    /// Adds gradients of scores `[len, len]` to `spread`, the gradients of the biases by distance.
    pub(crate) fn add_gradient(reach: usize, head: usize, dscores: &[f32], len: usize, spread: &mut [f32]) {
        for (i, row) in dscores.chunks_exact(len).enumerate() {
            for (sum, d) in spread[Self::row(reach, head, i, len)].iter_mut().zip(row) {
                *sum += d;
            }
        }
    }

    /// Adds gradients by distance to those of the table `[buckets, heads]`.
    pub(crate) fn gather(reach: usize, spread: &[f32], heads: usize, table: &mut [f32]) {
        let buckets = table.len() / heads;
        for (head, entries) in spread.chunks_exact(Self::width(reach)).enumerate() {
            for (at, d) in entries.iter().enumerate() {
                table[Self::bucket_at(reach, at, buckets) * heads + head] += d;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_distances_have_their_own_bucket_and_far_ones_share() {
        assert_eq!(
            [0, 1, 7, 8, 11, 12, 16, 127, 128, 500].map(|i| bucket(i, 0, 32)),
            [0, 1, 7, 8, 8, 9, 10, 15, 15, 15]
        );
        assert_eq!([1, 7, 8, 500].map(|j| bucket(0, j, 32)), [17, 23, 24, 31]);
    }

    #[test]
    fn buckets_are_those_of_transformers() {
        let bytes = include_bytes!("../../tests/golden/encoders/mpnet.safetensors");
        let golden = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let buckets = golden.tensor("buckets").unwrap().data().as_chunks::<4>().0;
        assert_eq!(buckets.len(), 601);
        for (at, expected) in buckets.iter().enumerate() {
            // Entry `at` is the distance j - i = at - 300.
            assert_eq!(bucket(300, at, 32), u32::from_le_bytes(*expected) as usize, "{at}");
        }
    }

    #[test]
    fn rows_take_the_bias_of_their_distances() {
        let table: Vec<f32> = (0..64).map(|i| i as f32).collect();
        let mut bias = DistanceBias::default();
        bias.fill(&table, 2, 20);
        let (head, len) = (1, 13);
        let mut scores = vec![0.0; len * len];
        bias.add(head, &mut scores, len);
        for (at, &score) in scores.iter().enumerate() {
            assert_eq!(score, table[bucket(at / len, at % len, 32) * 2 + head]);
        }
        // Backward is the transpose of forward: <1, add(table)> = <gather(1), table>.
        let mut spread = vec![0.0; 2 * DistanceBias::width(20)];
        DistanceBias::add_gradient(20, head, &vec![1.0; len * len], len, &mut spread);
        let mut gradient = vec![0.0; 64];
        DistanceBias::gather(20, &spread, 2, &mut gradient);
        let dot: f32 = gradient.iter().zip(&table).map(|(g, t)| g * t).sum();
        assert_eq!(dot, scores.iter().sum::<f32>());
    }
}
