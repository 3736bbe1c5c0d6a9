//! What did it cost? Time of the processor, of all threads, and time on the wall.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// A moment, on both clocks.
pub(crate) struct Clock {
    wall: Instant,
    cpu: f64,
}

/// What passed since a moment, in seconds.
#[derive(Clone, Copy, Default)]
pub(crate) struct Passed {
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Clock { wall: Instant::now(), cpu: cpu() }
    }

    pub(crate) fn passed(&self) -> Passed {
        Passed { cpu: cpu() - self.cpu, wall: self.wall.elapsed().as_secs_f64() }
    }
}

fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Both medians.
pub(crate) fn median(passed: &[Passed]) -> Passed {
    quantile(passed, 0.5)
}

/// What a share of both is not above.
pub(crate) fn quantile(passed: &[Passed], share: f64) -> Passed {
    let quantile = |of: fn(&Passed) -> f64| {
        let mut values: Vec<f64> = passed.iter().map(of).collect();
        values.sort_unstable_by(f64::total_cmp);
        values.get((values.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN)
    };
    Passed { cpu: quantile(|p| p.cpu), wall: quantile(|p| p.wall) }
}
