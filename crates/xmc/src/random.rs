//! Where does chance come from? Every draw is a function of the run's seed, what it is for, where in the run it falls
//! (an epoch, a step) and how many were drawn before. So nothing has to be remembered to continue a run.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// What is drawn; draws for different purposes do not depend on each other.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// Rows that validate.
    Split,
    /// The order of rows in an epoch.
    Order,
    /// Random labels of a pool.
    Pool,
    /// Mined labels of a step.
    Mined,
    /// First weights of a head.
    Head,
    /// The seed of a level of a tree.
    Level,
    /// Negatives of a row in a step.
    Active,
    /// First weights of the clusters of an index.
    Clusters,
    /// First weights of the edges of a cluster.
    Edges,
    /// Directions that label features are projected on.
    Directions,
    /// Hash functions of words.
    Words,
    /// Which labels of a bucket are sampled first.
    Within,
    /// Which buckets give one label more.
    Buckets,
    /// Positives of a row that are kept.
    Positives,
    /// First centroids of the cells of an index.
    Cells,
    /// Pairs that a simulated bias leaves.
    Exposure,
    /// Pairs that are hidden to be found again.
    Hidden,
    /// Queries whose answers are compared with exact ones.
    Checked,
    /// Waits before a request is tried again.
    Retry,
}

/// A sequence of draws.
pub(crate) struct Draws {
    seed: u64,
    counters: [u64; 3],
}

impl Draws {
    /// The sequence for `purpose` at `place`.
    pub(crate) fn new(seed: u64, purpose: Purpose, place: u64) -> Self {
        Draws { seed, counters: [purpose as u64, place, 0] }
    }

    /// Any 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.counters[2] += 1;
        xxh3_64_with_seed(bytemuck::cast_slice(&self.counters), self.seed)
    }

    /// A whole number below `n`, all alike; 0 if `n` is 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// A number from 0 to less than 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// A number from -1 to 1.
    pub(crate) fn symmetric(&mut self) -> f32 {
        ((self.next() >> 40) as f32 / (1u64 << 23) as f32) - 1.0
    }

    /// A standard normal number, by Box and Muller.
    pub(crate) fn normal(&mut self) -> f32 {
        let (u, v) = (1.0 - self.unit(), self.unit());
        (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * v).cos()
    }

    /// Puts `items` into random order.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i as u64 + 1) as usize);
        }
    }

    /// `count` different numbers below `n`, rising; all of them if there are no more.
    ///
    /// Floyd's algorithm: the j-th of the last `count` numbers enters, or a random one up to it.
    pub(crate) fn distinct(&mut self, count: usize, n: usize) -> Vec<u32> {
        let mut chosen = std::collections::BTreeSet::new();
        for j in n.saturating_sub(count)..n {
            let candidate = self.below(j as u64 + 1) as u32;
            if !chosen.insert(candidate) {
                chosen.insert(j as u32);
            }
        }
        chosen.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_repeatable_and_differ_by_purpose_and_place() {
        let draw = |seed, purpose, place| {
            let mut draws = Draws::new(seed, purpose, place);
            (0..4).map(|_| draws.below(1 << 40)).collect::<Vec<_>>()
        };
        let first = draw(1, Purpose::Order, 0);
        assert_eq!(first, draw(1, Purpose::Order, 0));
        for other in [draw(2, Purpose::Order, 0), draw(1, Purpose::Pool, 0), draw(1, Purpose::Order, 1)] {
            assert!(first.iter().zip(&other).all(|(a, b)| a != b));
        }
    }

    #[test]
    fn distinct_numbers_are_rising_and_equally_likely() {
        let mut counts = [0; 7];
        for place in 0..7000 {
            let drawn = Draws::new(3, Purpose::Pool, place).distinct(3, 7);
            assert_eq!(drawn.len(), 3);
            assert!(drawn.is_sorted_by(|a, b| a < b));
            for l in drawn {
                counts[l as usize] += 1;
            }
        }
        assert!(counts.iter().all(|&count| (2850..3150).contains(&count)), "{counts:?}");
        assert_eq!(Draws::new(3, Purpose::Pool, 0).distinct(9, 4), [0, 1, 2, 3]);
    }

    #[test]
    fn normal_numbers_have_mean_0_and_deviation_1() {
        let mut draws = Draws::new(1, Purpose::Head, 0);
        let drawn: Vec<f64> = (0..20_000).map(|_| f64::from(draws.normal())).collect();
        let moment = |power: i32| drawn.iter().map(|x| x.powi(power)).sum::<f64>() / drawn.len() as f64;
        assert!(moment(1).abs() < 0.03 && (moment(2) - 1.0).abs() < 0.04, "{} {}", moment(1), moment(2));
        assert!(moment(3).abs() < 0.1 && (moment(4) - 3.0).abs() < 0.2, "{} {}", moment(3), moment(4));
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..50).collect();
        Draws::new(1, Purpose::Order, 2).shuffle(&mut items);
        assert_ne!(items, (0..50).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..50).collect::<Vec<_>>());
    }
}
