//! In which order are labels taken, so that any number of them from the first on is a good sample?
//!
//! Buckets are filled like vessels with water: in round 0 each gives its first label, in round 1 its second if it has one,
//! and so on, in every round in a random order of the buckets. The first T labels then hold min(|b|, c) of every bucket b
//! for the largest c with which that is no more than T, and one more of r = T - sum of min(|b|, c) random buckets among
//! the larger ones.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::random::{Draws, Purpose};

/// Labels in the order of taking.
pub(crate) struct Order {
    /// Labels.
    pub(crate) labels: Vec<u32>,
    /// Labels of each round: the buckets with more than so many labels.
    pub(crate) rounds: Vec<usize>,
    /// Number of buckets that hold anything.
    pub(crate) buckets: usize,
}

impl Order {
    /// Fills buckets: label `labels[i]` lies in `bucket_of[i]`, and earlier ones of a bucket come first.
    pub(crate) fn fill(labels: &[u32], bucket_of: &[u32], seed: u64, epoch: u64) -> Order {
        let mut sizes: HashMap<u32, u32> = HashMap::new();
        let mut rounds: Vec<usize> = Vec::new();
        let key = Draws::new(seed, Purpose::Buckets, epoch).next();
        let mut placed: Vec<(u32, u64, u32)> = Vec::with_capacity(labels.len());
        for (&label, &bucket) in labels.iter().zip(bucket_of) {
            let size = sizes.entry(bucket).or_default();
            match rounds.get_mut(*size as usize) {
                Some(count) => *count += 1,
                None => rounds.push(1),
            }
            // Another random order of the buckets in every round.
            let place = Draws::new(key, Purpose::Buckets, u64::from(*size) << 32 | u64::from(bucket)).next();
            placed.push((*size, place, label));
            *size += 1;
        }
        placed.par_sort_unstable();
        let labels = placed.into_iter().map(|(_, _, label)| label).collect();
        Order { labels, rounds, buckets: sizes.len() }
    }

    /// c and r of the first `count` labels.
    pub(crate) fn quota(&self, count: usize) -> (usize, usize) {
        let mut rest = count;
        for (c, &round) in self.rounds.iter().enumerate() {
            if rest < round {
                return (c, rest);
            }
            rest -= round;
        }
        (self.rounds.len(), 0)
    }

    /// Labels of the first `rounds` rounds.
    pub(crate) fn in_rounds(&self, rounds: usize) -> usize {
        self.rounds.iter().take(rounds).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Labels of buckets of these sizes, mixed up, and their buckets.
    fn buckets(sizes: &[usize]) -> (Vec<u32>, Vec<u32>) {
        let mut all: Vec<u32> =
            sizes.iter().zip(0..).flat_map(|(&size, bucket)| vec![bucket; size]).collect();
        Draws::new(9, Purpose::Order, 0).shuffle(&mut all);
        ((0..all.len() as u32).collect(), all)
    }

    /// Labels that the first `count` of the order take of every bucket.
    fn taken(order: &Order, bucket_of: &[u32], count: usize, buckets: usize) -> Vec<usize> {
        let mut taken = vec![0; buckets];
        order.labels[..count].iter().for_each(|&l| taken[bucket_of[l as usize] as usize] += 1);
        taken
    }

    #[test]
    fn the_worked_example_is_filled_as_by_hand() {
        let sizes = [9, 1, 1, 4, 2, 7, 1, 3];
        let (labels, bucket_of) = buckets(&sizes);
        let order = Order::fill(&labels, &bucket_of, 1, 0);
        assert_eq!(order.buckets, 8);
        assert_eq!(order.quota(7), (0, 7));
        assert_eq!(order.quota(14), (2, 1));
        assert_eq!(order.quota(28), (9, 0));
        assert_eq!(order.in_rounds(2), 13);
        let of_seven = taken(&order, &bucket_of, 7, 8);
        assert_eq!((of_seven.iter().sum::<usize>(), of_seven.iter().max()), (7, Some(&1)));
        let of_fourteen = taken(&order, &bucket_of, 14, 8);
        let more: Vec<usize> = of_fourteen.iter().zip(sizes).map(|(&n, size)| n - size.min(2)).collect();
        assert_eq!(more.iter().sum::<usize>(), 1);
        let other = Order::fill(&labels, &bucket_of, 2, 0);
        assert_ne!(order.labels, other.labels);
        assert_ne!(order.labels, Order::fill(&labels, &bucket_of, 1, 1).labels);
    }

    proptest! {
        #[test]
        fn any_beginning_is_filled_evenly(
            sizes in proptest::collection::vec(1usize..12, 1..20),
            share in 0.0..1.0f64,
            seed in 0u64..5,
        ) {
            let (labels, bucket_of) = buckets(&sizes);
            let count = (share * labels.len() as f64).ceil() as usize;
            let order = Order::fill(&labels, &bucket_of, seed, 0);
            let (c, r) = order.quota(count);
            let taken = taken(&order, &bucket_of, count, sizes.len());
            prop_assert_eq!(taken.iter().sum::<usize>(), count);
            // The definition: c is the largest level that the count reaches.
            let level = |c: usize| sizes.iter().map(|&size| size.min(c)).sum::<usize>();
            prop_assert!(level(c) <= count && (level(c + 1) > count || level(c) == labels.len()));
            prop_assert_eq!(r, count - level(c));
            for (&n, &size) in taken.iter().zip(&sizes) {
                prop_assert!(n == size.min(c) || n == c + 1 && size > c);
            }
        }
    }
}
