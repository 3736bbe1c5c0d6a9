//! How are counts spread: percentiles and bins?

use serde::Serialize;

use crate::metrics::quantile::quantile;

/// Percentiles (interpolated as numpy does) and mean of some counts; all 0 where there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest count.
    pub min: f64,
    /// A tenth of the counts lies below.
    pub p10: f64,
    /// First quartile.
    pub p25: f64,
    /// Half of the counts lie below.
    pub median: f64,
    /// Third quartile.
    pub p75: f64,
    /// Nine tenths of the counts lie below.
    pub p90: f64,
    /// 99 % of the counts lie below.
    pub p99: f64,
    /// Largest count.
    pub max: f64,
    /// Arithmetic mean.
    pub mean: f64,
}

impl Spread {
    /// Of some counts, in any order.
    pub fn of(mut counts: Vec<u32>) -> Self {
        if counts.is_empty() {
            return Spread::default();
        }
        counts.sort_unstable();
        let at = |q| quantile(&counts, q);
        let sum: u64 = counts.iter().map(|&n| u64::from(n)).sum();
        Spread {
            min: at(0.0),
            p10: at(0.1),
            p25: at(0.25),
            median: at(0.5),
            p75: at(0.75),
            p90: at(0.9),
            p99: at(0.99),
            max: at(1.0),
            mean: sum as f64 / counts.len() as f64,
        }
    }
}

/// Counts from `from` up to and including `to`, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// Smallest count of the bin.
    pub from: u32,
    /// Largest count of the bin.
    pub to: u32,
    /// Number of counts within.
    pub rows: u64,
}

/// Bins that double in width: 0, 1, 2–3, 4–7, …, up to the one of the largest count.
pub(super) fn doubling_bins(counts: &[u32]) -> Vec<Bin> {
    let mut bins: Vec<Bin> = Vec::new();
    for &count in counts {
        let number = (u32::BITS - count.leading_zeros()) as usize;
        while bins.len() <= number {
            let from = if bins.is_empty() { 0 } else { 1u32 << (bins.len() - 1) };
            bins.push(Bin { from, to: from | from.saturating_sub(1), rows: 0 });
        }
        bins[number].rows += 1;
    }
    bins
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_of_a_ladder_are_its_steps() {
        let spread = Spread::of((0..=100).rev().collect());
        assert_eq!(
            (spread.min, spread.p10, spread.median, spread.p99, spread.max),
            (0.0, 10.0, 50.0, 99.0, 100.0)
        );
        assert_eq!(spread.mean, 50.0);
        assert_eq!(Spread::of(vec![]), Spread::default());
    }

    #[test]
    fn bins_double_and_hold_every_count() {
        let bins = doubling_bins(&[0, 1, 2, 3, 3, 9]);
        let shown: Vec<_> = bins.iter().map(|b| (b.from, b.to, b.rows)).collect();
        assert_eq!(shown, [(0, 0, 1), (1, 1, 1), (2, 3, 3), (4, 7, 0), (8, 15, 1)]);
        assert_eq!(doubling_bins(&[u32::MAX]).last().map(|b| b.to), Some(u32::MAX));
    }

    proptest! {
        #[test]
        fn each_count_lies_within_a_bin(counts in vec(any::<u32>(), 1..50)) {
            let bins = doubling_bins(&counts);
            for bin in &bins {
                let within = counts.iter().filter(|&&n| bin.from <= n && n <= bin.to).count();
                prop_assert_eq!(within as u64, bin.rows);
            }
            prop_assert_eq!(bins.iter().map(|b| b.rows).sum::<u64>(), counts.len() as u64);
        }

        #[test]
        fn percentiles_rise(counts in vec(0u32..1000, 0..60)) {
            let s = Spread::of(counts);
            prop_assert!([s.min, s.p10, s.p25, s.median, s.p75, s.p90, s.p99, s.max].is_sorted());
            prop_assert!(s.min <= s.mean && s.mean <= s.max);
        }
    }
}
