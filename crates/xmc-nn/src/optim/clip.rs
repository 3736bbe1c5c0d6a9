//! How long is a gradient, and what if it is too long?

use rayon::prelude::*;

use super::BLOCK;
use crate::ops::reduce::sum_squares;

/// Euclidean length of all gradients together; blocks are summed in their order. Not finite if a gradient is not.
pub fn global_norm(grads: &[f32]) -> f64 {
    let blocks: Vec<f64> = grads.par_chunks(BLOCK).map(sum_squares).collect();
    blocks.iter().sum::<f64>().sqrt()
}

/// The factor that shortens a gradient of length `norm` to `longest`; 1 for one that is short enough.
pub fn clip_scale(norm: f64, longest: f64) -> f32 {
    if norm > longest { (longest / norm) as f32 } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_is_that_of_one_long_sum_at_any_number_of_threads() {
        let grads: Vec<f32> = (0..200_001).map(|i| ((i * 7919) % 1013) as f32 / 500.0 - 1.0).collect();
        let want = grads.iter().map(|&g| f64::from(g) * f64::from(g)).sum::<f64>().sqrt();
        let norm = |threads| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap()
                .install(|| global_norm(&grads))
        };
        assert!((norm(1) - want).abs() < 1e-9 * want);
        assert_eq!(norm(1).to_bits(), norm(3).to_bits());
        assert_eq!(global_norm(&[]), 0.0);
        assert!(global_norm(&[1.0, f32::NAN]).is_nan());
    }

    #[test]
    fn only_long_gradients_are_shortened() {
        assert_eq!(clip_scale(4.0, 1.0), 0.25);
        assert_eq!(clip_scale(0.5, 1.0), 1.0);
        assert_eq!(clip_scale(0.0, 0.0), 1.0);
    }
}
