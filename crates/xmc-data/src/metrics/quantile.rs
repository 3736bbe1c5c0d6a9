//! Where does a share of sorted values end?

/// Quantile `q` in 0..=1 of sorted values, by linear interpolation between order statistics as numpy does; 0 for no
/// values.
pub(crate) fn quantile<T: Copy + Into<f64>>(sorted: &[T], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = q * last as f64;
    let (low, high): (f64, f64) =
        (sorted[at.floor() as usize].into(), sorted[(at.ceil() as usize).min(last)].into());
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_the_order_statistics() {
        let sorted = [0u32, 1, 4];
        assert_eq!([0.0, 0.25, 0.75, 1.0].map(|q| quantile(&sorted, q)), [0.0, 0.5, 2.5, 4.0]);
        assert_eq!(quantile(&[7.0], 0.3), 7.0);
        assert_eq!(quantile::<f64>(&[], 0.5), 0.0);
    }
}
