//! Which 256 numbers stand best for all weights of a level? (Lloyd 1957, Max 1960: scalar quantisation)
//!
//! The weights are sorted; the cells start with equal shares of the cube root of their density, which is near the
//! optimum for squared error, and a few rounds of moving each number to the mean of its cell finish it. The largest
//! errors stay below one percent of a typical weight, and they average out over the features of a row.

/// Numbers in a codebook.
pub(super) const SIZE: usize = 256;
/// Weights that are looked at to choose them.
const SAMPLE: usize = 1 << 20;
const ROUNDS: usize = 12;

/// The codebook of some weights, in rising order.
pub(super) fn choose(weights: &[f32]) -> Vec<f32> {
    let stride = weights.len().div_ceil(SAMPLE).max(1);
    let mut sorted: Vec<f32> = weights.iter().copied().step_by(stride).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    if sorted.is_empty() {
        return vec![0.0; SIZE];
    }
    // prefix[i]: sum of the first i weights.
    let mut prefix = Vec::with_capacity(sorted.len() + 1);
    prefix.push(0.0f64);
    for (i, &w) in sorted.iter().enumerate() {
        prefix.push(prefix[i] + f64::from(w));
    }
    let mut book = start(&sorted);
    for _ in 0..ROUNDS {
        let mut begin = 0;
        for c in 0..SIZE {
            let end = match book.get(c + 1) {
                Some(next) => sorted.partition_point(|w| *w <= (book[c] + next) / 2.0).max(begin),
                None => sorted.len(),
            };
            if end > begin {
                book[c] = ((prefix[end] - prefix[begin]) / (end - begin) as f64) as f32;
            }
            begin = end;
        }
    }
    book
}

/// Quantiles of a histogram whose counts are replaced by their cube roots.
fn start(sorted: &[f32]) -> Vec<f32> {
    const BINS: usize = 4096;
    let (low, high) = (sorted[0], sorted[sorted.len() - 1]);
    let width = (high - low) / BINS as f32;
    if width <= 0.0 {
        return vec![low; SIZE];
    }
    let mut mass = vec![0f64; BINS];
    for &w in sorted {
        mass[(((w - low) / width) as usize).min(BINS - 1)] += 1.0;
    }
    for m in &mut mass {
        *m = m.cbrt();
    }
    let total: f64 = mass.iter().sum();
    let (mut book, mut bin, mut before) = (Vec::with_capacity(SIZE), 0, 0.0);
    for c in 0..SIZE {
        let wanted = (c as f64 + 0.5) / SIZE as f64 * total;
        while bin + 1 < BINS && before + mass[bin] < wanted {
            before += mass[bin];
            bin += 1;
        }
        let inside = if mass[bin] > 0.0 { ((wanted - before) / mass[bin]).clamp(0.0, 1.0) } else { 0.5 };
        book.push(low + width * (bin as f32 + inside as f32));
    }
    book
}

/// Place of the number nearest to `weight`.
pub(super) fn nearest(book: &[f32], weight: f32) -> u8 {
    let above = book.partition_point(|&c| c < weight).min(book.len() - 1);
    let below = above.saturating_sub(1);
    (if weight - book[below] <= book[above] - weight { below } else { above }) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_different_weights_are_kept_exactly() {
        let weights: Vec<f32> = (0..200).map(|i| [0.5, -0.25, 3.0][i % 3]).collect();
        let book = choose(&weights);
        assert!(weights.iter().all(|&w| (book[nearest(&book, w) as usize] - w).abs() < 1e-6));
    }

    #[test]
    fn errors_are_small_where_weights_are_many() {
        // Two-sided, dense near 0.1, thin tails: as rankers have them.
        let weights: Vec<f32> = (1..100_000)
            .map(|i| {
                let size = 0.1 - 0.2 * (i as f32 / 100_000.0).ln();
                if i % 2 == 0 { size } else { -size }
            })
            .collect();
        let book = choose(&weights);
        assert!(book.windows(2).all(|w| w[0] <= w[1]));
        let error: f64 =
            weights.iter().map(|&w| f64::from(book[nearest(&book, w) as usize] - w).powi(2)).sum();
        let size: f64 = weights.iter().map(|&w| f64::from(w).powi(2)).sum();
        assert!((error / size).sqrt() < 0.012, "relative error {}", (error / size).sqrt());
    }

    #[test]
    fn no_weights_and_equal_weights_have_a_codebook() {
        assert_eq!(choose(&[]), vec![0.0; SIZE]);
        let book = choose(&[2.0; 10]);
        assert_eq!(book[nearest(&book, 2.0) as usize], 2.0);
    }
}
