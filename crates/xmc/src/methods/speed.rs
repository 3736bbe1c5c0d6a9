//! How is a training going, and how long will it take? Means of loss and speed in which older steps fade, and numbers
//! for people.

use std::fmt;
use std::time::Instant;

use xmc_nn::tokens::{Tokens, by_budget};
use xmc_nn::tower::Tower;

use crate::error::Result;

/// Tokens of the micro-batch that is timed at most.
const TIMED: usize = 2048;

/// Loss and speed of the last steps, for people.
#[derive(Default)]
pub(crate) struct Speed {
    loss: Recent,
    tokens: Recent,
    seconds: Recent,
    /// Whether rows are counted and not tokens.
    rows: bool,
}

/// A mean in which older values fade.
#[derive(Default)]
struct Recent {
    sum: f64,
    weight: f64,
}

impl Recent {
    fn push(&mut self, value: f64) {
        const FADING: f64 = 0.95;
        (self.sum, self.weight) = (FADING * self.sum + value, FADING * self.weight + 1.0);
    }

    fn mean(&self) -> f64 {
        self.sum / self.weight.max(1.0)
    }
}

impl Speed {
    /// Counts rows, for texts that are embedded already, if `rows` says so, and else tokens.
    pub(crate) fn in_rows(rows: bool) -> Self {
        Speed { rows, ..Speed::default() }
    }

    /// Adds a step: its loss, how many tokens (or rows) it read, and how long it took.
    pub(crate) fn push(&mut self, loss: f64, tokens: u64, seconds: f64) {
        self.loss.push(loss);
        self.tokens.push(tokens as f64);
        self.seconds.push(seconds);
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let speed = self.tokens.mean() / self.seconds.mean().max(1e-9);
        let unit = if self.rows { "rows" } else { "tokens" };
        write!(f, "loss {:.4}   {speed:.0} {unit}/s", self.loss.mean())
    }
}

/// Times forward and backward on some of the texts `rows`, in micro-batches of `budget` tokens.
pub(crate) fn seconds_per_token(tower: &Tower, tokens: &Tokens, rows: &[u32], budget: usize) -> Result<f64> {
    let groups = by_budget(tokens, rows, budget.min(TIMED));
    // The middle one has texts of usual length.
    let Some(group) = groups.get(groups.len() / 2) else { return Ok(0.0) };
    let batch = tokens.batch(group);
    let mut grads = vec![0.0; tower.layout().len()];
    let mut once = || -> Result<f64> {
        let start = Instant::now();
        let (embeddings, tape) = tower.embed_train(&batch, None)?;
        tower.backward(&batch, tape, &embeddings, &mut grads)?;
        Ok(start.elapsed().as_secs_f64())
    };
    // The first one reads memory and starts threads that later ones find ready.
    once()?;
    Ok(once()? / batch.tokens().max(1) as f64)
}

/// `830 thousand` or `2.4 million`.
pub(crate) fn count(number: f64) -> String {
    match number {
        ..1e3 => format!("{number:.0}"),
        ..1e6 => format!("{:.0} thousand", number / 1e3),
        _ => format!("{:.1} million", number / 1e6),
    }
}

/// `4000` to `1 h 7 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0 => format!("{seconds:.0} s"),
        1..60 => format!("{minutes} min"),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_durations_are_said_in_words() {
        assert_eq!([80.0, 41_300.0, 2.44e6].map(count), ["80", "41 thousand", "2.4 million"]);
        assert_eq!([12.0, 95.0, 4000.0].map(duration), ["12 s", "2 min", "1 h 7 min"]);
    }
}
