//! Which labels of a row does a step train on, and how much does each count?
//!
//! ```text
//! value    positives = all                      a sample of n
//! sample   each with a chance of its value      n drawn in proportion to their values
//! weight   all, each counts its value           n drawn alike, each counts its value
//! target   all, its value is its probability    n drawn alike, its value is its probability
//! ignore   all                                  n drawn alike
//! ```
//!
//! A positive that takes no part is no negative of its row either, but for binary cross-entropy, which knows only right
//! and wrong: there chance makes of a value v what target says, on average.

use xmc_data::Csr;
use xmc_nn::loss::{Draw, Targets};

use super::config::DexmlConfig;
use crate::error::Result;
use crate::methods::SoftValue;

/// The positives of `rows` of `y`, the labels as the settings read them.
pub(super) fn draw(config: &DexmlConfig, y: &Csr, rows: &[u32], seed: u64, step: u64) -> Result<Targets> {
    let counts = matches!(config.value, SoftValue::Weight | SoftValue::Target);
    let mut targets = Targets::from_csr(y, rows, counts);
    let by_value = config.value == SoftValue::Sample;
    match config.kept_positives() {
        Some(n) => {
            let draw = if by_value { Draw::ByRelevance } else { Draw::Alike };
            targets.sample(n, draw, seed, step, rows)?;
        }
        None if by_value => targets.thin(seed, step, rows)?,
        None => {}
    }
    Ok(targets)
}

/// The chance that a row with labels of these `values` trains on the one of `value` in a step: exact for a sample of one
/// and for equal values.
pub(super) fn chance(config: &DexmlConfig, value: f32, values: &[f32]) -> f32 {
    let by_value = config.value == SoftValue::Sample;
    let share = match config.kept_positives() {
        None if by_value => value,
        None => 1.0,
        Some(n) if by_value => n as f32 * value / values.iter().sum::<f32>().max(f32::MIN_POSITIVE),
        Some(n) => n as f32 / values.len().max(1) as f32,
    };
    share.clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::super::config::{CriterionKind, Positives};
    use super::*;
    use crate::methods::soft;

    fn config(value: SoftValue, positives: Positives) -> DexmlConfig {
        DexmlConfig { positives, value, ..DexmlConfig::default() }
    }

    /// How often each label of a row (1, 0.8) is trained on, of 20,000 steps.
    fn counts(value: SoftValue, positives: Positives) -> [f64; 2] {
        let y = Csr::new(1, 2, vec![0, 2], vec![0, 1], vec![1.0, 0.8]).unwrap();
        let config = config(value, positives);
        let mut counts = [0.0; 2];
        for step in 0..20_000 {
            let targets = draw(&config, &soft::read(&y, value), &[0], 5, step).unwrap();
            for positive in targets.row(0).iter().filter(|positive| positive.kept) {
                counts[positive.label as usize] += 1.0;
            }
        }
        counts
    }

    /// S-25: a row (1, 0.8) is drawn 5 to 4.
    #[test]
    fn values_are_chances_only_if_the_settings_say_so() {
        let three_sigma = |p: f64| 3.0 * (2e4 * p * (1.0 - p)).sqrt();
        let near = |found: f64, p: f64| assert!((found - 2e4 * p).abs() <= three_sigma(p), "{found} {p}");
        let [sure, soft] = counts(SoftValue::Sample, Positives::All);
        near(sure, 1.0);
        near(soft, 0.8);
        let [sure, soft] = counts(SoftValue::Sample, Positives::Sample);
        near(sure, 5.0 / 9.0);
        near(soft, 4.0 / 9.0);
        for value in [SoftValue::Weight, SoftValue::Ignore] {
            let [sure, soft] = counts(value, Positives::Sample);
            near(sure, 0.5);
            near(soft, 0.5);
            assert_eq!(counts(value, Positives::All), [2e4; 2]);
        }
    }

    #[test]
    fn chances_are_those_of_the_draws() {
        let values = [1.0, 0.8];
        for (value, positives, expected) in [
            (SoftValue::Sample, Positives::All, [1.0, 0.8]),
            (SoftValue::Sample, Positives::Sample, [1.0 / 1.8, 0.8 / 1.8]),
            (SoftValue::Weight, Positives::All, [1.0, 1.0]),
            (SoftValue::Ignore, Positives::Sample, [0.5, 0.5]),
        ] {
            let config = config(value, positives);
            assert_eq!(values.map(|v| chance(&config, v, &values)), expected);
        }
    }

    /// The gradient of a positive grows with its weight, and the target of binary cross-entropy with its value.
    #[test]
    fn weights_and_targets_scale_gradients() {
        use xmc_nn::loss::{Criterion, LossOptions, loss};
        use xmc_nn::{Device, Tensor};
        let x = Tensor::from_host(1, 1, vec![1.0], Device::Cpu).unwrap();
        let labels = Tensor::from_host(3, 1, vec![0.3, -0.2, 0.1], Device::Cpu).unwrap();
        let gradient = |criterion: CriterionKind, value: SoftValue, v: f32| {
            let y = Csr::new(1, 3, vec![0, 1], vec![0], vec![v]).unwrap();
            let config = DexmlConfig { criterion, ..config(value, Positives::All) };
            let targets = draw(&config, &soft::read(&y, value), &[0], 1, 1).unwrap();
            let kind = match criterion {
                CriterionKind::Bce => Criterion::Bce,
                _ => Criterion::DecoupledSoftmax,
            };
            loss(&x, &labels, None, &targets, &LossOptions::new(kind, 1.0)).unwrap().dy.host().to_vec()
        };
        let whole = gradient(CriterionKind::DecoupledSoftmax, SoftValue::Weight, 1.0);
        let half = gradient(CriterionKind::DecoupledSoftmax, SoftValue::Weight, 0.5);
        assert!(whole.iter().zip(&half).all(|(w, h)| (w / 2.0 - h).abs() < 1e-7), "{whole:?} {half:?}");
        let ignored = gradient(CriterionKind::DecoupledSoftmax, SoftValue::Ignore, 0.5);
        assert_eq!(ignored, whole);
        // (sigmoid(0.3) - 0.8) / 3, and of a label that is wrong (sigmoid(-0.2) - 0) / 3.
        let target = gradient(CriterionKind::Bce, SoftValue::Target, 0.8);
        let expected = [(0.574_442_5 - 0.8) / 3.0, 0.450_166 / 3.0];
        assert!(target.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{target:?}");
    }
}
