//! When is a request tried again? After a wait that doubles with each try, shortened by chance so that many do not come back
//! at once; longer if the server says so.

use std::time::{Duration, SystemTime};

use crate::random::{Draws, Purpose};

/// No wait of ours is longer; a server may ask for more.
const LONGEST: Duration = Duration::from_mins(1);
/// No server is believed beyond this.
const LONGEST_ASKED: Duration = Duration::from_hours(1);

/// Waits between the tries of one request.
pub(super) struct Backoff {
    wait: Duration,
    draws: Draws,
}

impl Backoff {
    pub(super) fn new(first: Duration, seed: u64) -> Self {
        Backoff { wait: first, draws: Draws::new(seed, Purpose::Retry, 0) }
    }

    /// The next wait, at least as long as a server asked for.
    pub(super) fn next(&mut self, asked: Option<Duration>) -> Duration {
        let own = self.wait.min(LONGEST).mul_f32(0.5 + 0.5 * self.draws.unit());
        self.wait = self.wait.saturating_mul(2);
        own.max(asked.unwrap_or_default().min(LONGEST_ASKED))
    }
}

/// What a header `Retry-After` asks for: seconds, or a date.
pub(super) fn asked(header: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = header.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(header.trim()).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_are_shortened_by_chance() {
        let mut backoff = Backoff::new(Duration::from_secs(1), 7);
        for longest in [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] {
            let wait = backoff.next(None).as_secs_f64();
            assert!(wait >= longest / 2.0 && wait <= longest, "{wait} of {longest}");
        }
        assert_eq!(backoff.next(Some(Duration::from_secs(90))), Duration::from_secs(90));
        assert_eq!(backoff.next(Some(Duration::from_hours(25))), LONGEST_ASKED);
    }

    #[test]
    fn a_server_asks_by_seconds_or_by_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        assert_eq!(asked(" 17 ", now), Some(Duration::from_secs(17)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:50:07 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:40:07 GMT", now), Some(Duration::ZERO));
        assert_eq!(asked("soon", now), None);
    }
}
