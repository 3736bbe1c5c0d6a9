//! How far could the numbers be off by the choice of test rows?
//!
//! The percentile bootstrap (Efron 1979): draw as many rows as there are, with replacement, compute the metric, and
//! again; the middle 95 % of the results are the interval. Ratios are resampled as ratios: numerator and denominator
//! from the same draw. Each resample has a random stream of its own, so the result is the same at any number of
//! threads. O(resamples x groups x metrics).

use rand::Rng;
use rand_pcg::Pcg32;
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::quantile::quantile;
use super::ranking::Ratio;

/// Interval in percent of each cell of `groups` `[groups][cells]`; empty without groups or resamples.
pub(super) fn intervals(
    groups: &[Vec<Ratio>],
    resamples: usize,
    confidence: f64,
    seed: u64,
) -> Vec<[f64; 2]> {
    let num_cells = groups.first().map_or(0, Vec::len);
    if resamples == 0 {
        return Vec::new();
    }
    let values: Vec<Vec<f64>> = (0..resamples as u64)
        .into_par_iter()
        .map(|number| resample(groups, num_cells, seed, number))
        .collect();
    (0..num_cells)
        .map(|cell| {
            let mut of_cell: Vec<f64> = values.iter().map(|v| v[cell]).collect();
            of_cell.sort_unstable_by(f64::total_cmp);
            let low = (1.0 - confidence) / 2.0;
            [quantile(&of_cell, low), quantile(&of_cell, 1.0 - low)]
        })
        .collect()
}

/// The metrics of one draw of as many groups as there are.
fn resample(groups: &[Vec<Ratio>], num_cells: usize, seed: u64, number: u64) -> Vec<f64> {
    let mut random = Pcg32::new(seed, number);
    let mut sums = vec![Ratio::default(); num_cells];
    for _ in 0..groups.len() {
        // Multiply and shift: no drawn number is rejected, and the bias is below groups / 2^32.
        let drawn = (u64::from(random.next_u32()) * groups.len() as u64) >> 32;
        for (sum, cell) in sums.iter_mut().zip(&groups[drawn as usize]) {
            sum.add(cell.gained, cell.possible);
        }
    }
    sums.into_iter().map(Ratio::percent).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_of_a_coin_is_that_of_the_binomial() {
        // 400 fair coins: standard error 2.5 points, 95 % interval 50 ± 4.9.
        let coins: Vec<Vec<Ratio>> =
            (0..400).map(|i| vec![Ratio { gained: f64::from(i % 2), possible: 1.0 }]).collect();
        let [low, high] = intervals(&coins, 2000, 0.95, 7)[0];
        assert!((low - 45.1).abs() < 0.5, "{low}");
        assert!((high - 54.9).abs() < 0.5, "{high}");
    }

    #[test]
    fn a_wider_promise_needs_a_wider_interval() {
        let rows: Vec<Vec<Ratio>> =
            (0..50).map(|i| vec![Ratio { gained: f64::from(i), possible: 49.0 }]).collect();
        let narrow = intervals(&rows, 500, 0.5, 1)[0];
        let wide = intervals(&rows, 500, 0.99, 1)[0];
        assert!(wide[0] < narrow[0] && narrow[1] < wide[1]);
    }
}
