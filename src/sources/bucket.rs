//! The pace of all requests to the source: one token bucket, and the pauses that the source asks
//! for.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The requests that may follow each other at once.
const BURST: u32 = 4;

/// A token bucket over time. A waiting request has its token already.
pub(super) struct Bucket {
    /// The time in which one token is refilled.
    step: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The moment at which the bucket is full again, if no more is taken.
    full_at: Option<Instant>,
    /// No request is sent before this moment.
    paused_until: Option<Instant>,
}

impl Bucket {
    /// Makes a full one that is refilled at `rate` a second. A rate of 0 counts as 1.
    pub(super) fn new(rate: u32) -> Bucket {
        Bucket { step: Duration::from_secs(1) / rate.max(1), state: Mutex::default() }
    }

    /// Takes one token, and returns the time to wait for it.
    pub(super) fn take(&self, now: Instant) -> Duration {
        self.take_within(now, Duration::MAX).unwrap_or_default()
    }

    /// Takes one token, unless the wait for it is longer than `longest`.
    pub(super) fn take_within(&self, now: Instant, longest: Duration) -> Option<Duration> {
        let mut state = self.state.lock();
        let full_at = state.full_at.map_or(now, |full_at| full_at.max(now));
        let wait = (full_at - now).saturating_sub(self.step * (BURST - 1));
        if wait > longest {
            return None;
        }
        state.full_at = Some(full_at + self.step);
        Some(wait)
    }

    /// Sends no request before `until`.
    pub(super) fn pause(&self, until: Instant) {
        let mut state = self.state.lock();
        state.paused_until = state.paused_until.max(Some(until));
    }

    /// Returns the time for which no request may be sent; `None` if one may be.
    pub(super) fn pause_left(&self, now: Instant) -> Option<Duration> {
        let until = self.state.lock().paused_until?;
        Some(until.saturating_duration_since(now)).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_requests_may_follow_at_once_and_then_as_many_a_second_as_the_rate() {
        let (bucket, start) = (Bucket::new(4), Instant::now());
        let wait_ms = |at_ms: u64| bucket.take(start + Duration::from_millis(at_ms)).as_millis();
        assert_eq!([0, 0, 0, 0, 0, 0].map(wait_ms), [0, 0, 0, 0, 250, 500]);
        // The waiting ones have taken their tokens: the next is refilled at 750.
        assert_eq!([700, 5_000].map(wait_ms), [50, 0]);
        assert_eq!([5_000, 5_000, 5_000, 5_000].map(wait_ms), [0, 0, 0, 250]);
    }

    #[test]
    fn a_token_that_is_not_waited_for_is_not_taken() {
        let (bucket, start) = (Bucket::new(1), Instant::now());
        let second = Duration::from_secs(1);
        let waits: Vec<Option<u64>> =
            (0..7).map(|_| bucket.take_within(start, second).map(|wait| wait.as_secs())).collect();
        assert_eq!(waits, [Some(0), Some(0), Some(0), Some(0), Some(1), None, None]);
        assert_eq!(bucket.take(start), 2 * second);
    }

    #[test]
    fn a_pause_holds_until_its_end_and_a_shorter_one_does_not_end_it() {
        let (bucket, start) = (Bucket::new(4), Instant::now());
        assert_eq!(bucket.pause_left(start), None);
        bucket.pause(start + Duration::from_secs(9));
        bucket.pause(start + Duration::from_secs(2));
        assert_eq!(bucket.pause_left(start), Some(Duration::from_secs(9)));
        assert_eq!(bucket.pause_left(start + Duration::from_secs(9)), None);
    }
}
