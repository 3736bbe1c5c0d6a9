//! May another request go out? Rates say when, caps whether at all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::HttpConfig;
use super::request::Reply;
use crate::error::{Error, Result};

/// A bucket that fills at a steady rate, and is full after a tenth of a minute: bursts stay small.
struct Bucket {
    a_second: f64,
    most: f64,
    level: f64,
    at: Instant,
}

impl Bucket {
    fn new(a_minute: f64) -> Self {
        let most = (a_minute / 10.0).max(1.0);
        Bucket { a_second: a_minute / 60.0, most, level: most, at: Instant::now() }
    }

    /// Takes `n`, and says how long that is too early. More than the bucket holds makes those behind wait.
    fn take(&mut self, n: f64, now: Instant) -> Duration {
        self.level = (self.level + now.duration_since(self.at).as_secs_f64() * self.a_second).min(self.most);
        self.at = now;
        self.level -= n;
        Duration::from_secs_f64((-self.level / self.a_second).max(0.0))
    }
}

/// What the requests of all threads share.
pub(super) struct Limits {
    state: Mutex<State>,
    start: Instant,
    most_time: Duration,
}

struct State {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    /// Nobody asks before.
    paused: Instant,
    spent_tokens: u64,
    cost: f64,
}

impl Limits {
    pub(super) fn new(config: &HttpConfig) -> Self {
        let now = Instant::now();
        let state = State {
            requests: config.requests_per_minute.map(|n| Bucket::new(f64::from(n))),
            tokens: config.tokens_per_minute.map(|n| Bucket::new(n as f64)),
            paused: now,
            spent_tokens: 0,
            cost: 0.0,
        };
        Limits { state: Mutex::new(state), start: now, most_time: config.max_time.unwrap_or(Duration::MAX) }
    }

    /// Waits until a request of about `tokens` may go out.
    pub(super) fn wait(&self, tokens: u64, stop: &AtomicBool) {
        let wait = self.with(|state| {
            let now = Instant::now();
            let requests = state.requests.as_mut().map_or(Duration::ZERO, |bucket| bucket.take(1.0, now));
            let tokens =
                state.tokens.as_mut().map_or(Duration::ZERO, |bucket| bucket.take(tokens as f64, now));
            requests.max(tokens).max(state.paused.saturating_duration_since(now))
        });
        self.sleep(wait, stop);
        // A pause that began meanwhile.
        while !stop.load(Ordering::Relaxed) {
            let left = self.with(|state| state.paused.saturating_duration_since(Instant::now()));
            if left.is_zero() || self.left().is_zero() {
                return;
            }
            self.sleep(left, stop);
        }
    }

    /// Sleeps for `wait`, until there is no reason to go on, or until the time is over.
    pub(super) fn sleep(&self, wait: Duration, stop: &AtomicBool) {
        const LOOK: Duration = Duration::from_millis(50);
        let end = Instant::now() + wait.min(self.left());
        while !stop.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    fn left(&self) -> Duration {
        self.most_time.saturating_sub(self.start.elapsed())
    }

    /// The server asked all to wait.
    pub(super) fn pause(&self, wait: Duration) {
        self.with(|state| state.paused = state.paused.max(Instant::now() + wait));
    }

    /// A request of about `guess` tokens was answered.
    pub(super) fn spent(&self, guess: u64, reply: &Reply, config: &HttpConfig) {
        // A server that does not count is believed to have used what was allowed.
        let (read, written) = match (reply.prompt_tokens, reply.new_tokens) {
            (0, 0) => (0, guess),
            counted => counted,
        };
        self.with(|state| {
            state.spent_tokens += read + written;
            state.cost += (read as f64 * config.prompt_price + written as f64 * config.answer_price) / 1e6;
            if let Some(bucket) = &mut state.tokens {
                bucket.level = (bucket.level + guess as f64 - (read + written) as f64).min(bucket.most);
            }
        });
    }

    /// An error if no further request may go out.
    pub(super) fn check(&self, config: &HttpConfig) -> Result<()> {
        let (tokens, cost) = self.with(|state| (state.spent_tokens, state.cost));
        let over = if config.max_tokens.is_some_and(|most| tokens >= most) {
            format!("{tokens} tokens are used, max_tokens allows {}", config.max_tokens.unwrap_or(0))
        } else if config.max_cost.is_some_and(|most| cost >= most) {
            format!("the answers cost {cost:.2}, max_cost allows {:.2}", config.max_cost.unwrap_or(0.0))
        } else if self.left().is_zero() {
            format!("{:.0} seconds are over, as max_hours allows", self.start.elapsed().as_secs_f64())
        } else {
            return Ok(());
        };
        Err(Error::Mismatch(format!(
            "{over}; all answers are kept: the same command with a higher limit goes on"
        )))
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_its_rate_through() {
        let mut bucket = Bucket::new(600.0);
        let start = bucket.at;
        let waits: Vec<f64> = (0..62).map(|_| bucket.take(1.0, start).as_secs_f64()).collect();
        // Sixty at once, then ten a second.
        assert_eq!(waits[59], 0.0);
        assert!((waits[60] - 0.1).abs() < 1e-9 && (waits[61] - 0.2).abs() < 1e-9, "{waits:?}");
        assert_eq!(bucket.take(1.0, start + Duration::from_secs(2)), Duration::ZERO);
    }

    #[test]
    fn caps_say_what_ran_out() {
        let reply = |read, written| Reply {
            text: String::new(),
            finish: super::super::Finish::Stop,
            prompt_tokens: read,
            new_tokens: written,
        };
        let config = HttpConfig {
            prompt_price: 2.0,
            answer_price: 10.0,
            max_tokens: Some(1_500_000),
            max_cost: Some(4.0),
            ..HttpConfig::default()
        };
        let limits = Limits::new(&config);
        limits.spent(0, &reply(500_000, 100_000), &config);
        assert!(limits.check(&config).is_ok());
        limits.spent(0, &reply(500_000, 100_000), &config);
        let problem = limits.check(&config).unwrap_err().to_string();
        assert!(problem.contains("cost 4.00, max_cost allows 4.00"), "{problem}");
        limits.spent(0, &reply(300_000, 0), &config);
        let problem = limits.check(&config).unwrap_err().to_string();
        assert!(problem.contains("1500000 tokens"), "{problem}");
        let config = HttpConfig { max_time: Some(Duration::ZERO), ..HttpConfig::default() };
        assert!(Limits::new(&config).check(&config).unwrap_err().to_string().contains("max_hours"));
    }
}
