//! How is a training going? Means of loss and speed in which older steps fade, for people.

use std::fmt;

/// Loss and speed of the last steps, for people.
#[derive(Default)]
pub(super) struct Speed {
    loss: Recent,
    tokens: Recent,
    seconds: Recent,
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
    /// Adds a step: its loss, how many tokens it read, and how long it took.
    pub(super) fn push(&mut self, loss: f64, tokens: u64, seconds: f64) {
        self.loss.push(loss);
        self.tokens.push(tokens as f64);
        self.seconds.push(seconds);
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let speed = self.tokens.mean() / self.seconds.mean().max(1e-9);
        write!(f, "loss {:.4}   {speed:.0} tokens/s", self.loss.mean())
    }
}
