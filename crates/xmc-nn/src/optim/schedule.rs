//! How large is the learning rate of each step?
//!
//! It rises in a straight line over the warm-up, `base * s / warmup` (the first step, s = 0, has rate 0), and then
//! stays or falls to 0, or to a part of `base`, at step `total`.

use serde::{Deserialize, Serialize};

/// What happens after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// It stays.
    Constant,
    /// It falls in a straight line.
    #[default]
    Linear,
    /// It falls as half a cosine wave, slowly at both ends.
    Cosine,
}

/// The learning rate as a function of the step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRate {
    schedule: Schedule,
    base: f64,
    warmup: u64,
    total: u64,
    floor: f64,
}

impl LearningRate {
    /// Rises to `base` over the fraction `warmup` of `total` steps (rounded down).
    pub fn new(schedule: Schedule, base: f64, warmup: f64, total: u64) -> Self {
        Self::with_warmup_steps(schedule, base, (warmup * total as f64) as u64, total)
    }

    /// Rises to `base` over the first `warmup_steps` of `total` steps; if there are no more than these, it rises only.
    pub fn with_warmup_steps(schedule: Schedule, base: f64, warmup_steps: u64, total: u64) -> Self {
        LearningRate { schedule, base, warmup: warmup_steps, total, floor: 0.0 }
    }

    /// The same, falling to the part `floor` of its base instead of to 0.
    pub fn with_floor(self, floor: f64) -> Self {
        LearningRate { floor, ..self }
    }

    /// The rate of step `s`, from 0.
    pub fn lr_at(&self, s: u64) -> f32 {
        (self.base * self.factor(s)) as f32
    }

    fn factor(&self, s: u64) -> f64 {
        if s < self.warmup {
            return s as f64 / self.warmup as f64;
        }
        let rest = self.total.saturating_sub(self.warmup).max(1) as f64;
        let done = ((s - self.warmup) as f64 / rest).min(1.0);
        let left = match self.schedule {
            Schedule::Constant => 1.0,
            Schedule::Linear => 1.0 - done,
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
        };
        self.floor + (1.0 - self.floor) * left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linear_schedule_is_that_of_the_golden_file() {
        let golden: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/golden/optim_adamw_linear.json")).unwrap();
        let rate = LearningRate::new(Schedule::Linear, 1.0, 0.1, 20);
        for (s, want) in golden["lr_factors"].as_array().unwrap().iter().enumerate() {
            assert!((f64::from(rate.lr_at(s as u64)) - want.as_f64().unwrap()).abs() < 1e-7, "step {s}");
        }
        assert_eq!(rate.lr_at(1000), 0.0);
    }

    #[test]
    fn the_others_rise_alike_and_stay_or_fall_as_a_cosine() {
        let [flat, cosine] =
            [Schedule::Constant, Schedule::Cosine].map(|schedule| LearningRate::new(schedule, 2.0, 0.25, 8));
        let rates = |rate: LearningRate| (0..10).map(|s| rate.lr_at(s)).collect::<Vec<_>>();
        assert_eq!(rates(flat), [0.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]);
        let found = rates(cosine);
        assert_eq!((found[2], found[8], found[9]), (2.0, 0.0, 0.0));
        assert!((found[5] - 1.0).abs() < 1e-6 && found[3] > 1.8);
        let counted = LearningRate::with_warmup_steps(Schedule::Cosine, 2.0, 2, 8);
        assert_eq!(counted, cosine);
        let floored = rates(cosine.with_floor(0.1));
        assert_eq!((floored[1], floored[2], floored[8], floored[9]), (1.0, 2.0, 0.2, 0.2));
        assert!((floored[5] - 1.1).abs() < 1e-6);
        let short = LearningRate::with_warmup_steps(Schedule::Linear, 2.0, 8, 4);
        assert_eq!(rates(short)[..4], [0.0, 0.25, 0.5, 0.75]);
        // No warm-up: the first step has the full rate.
        assert_eq!(LearningRate::new(Schedule::Linear, 2.0, 0.0, 4).lr_at(0), 2.0);
        assert_eq!(serde_json::to_string(&Schedule::Cosine).unwrap(), "\"cosine\"");
    }
}
