//! The limit on the requests of one key: as many in a minute as it says, at once or spread, and
//! refilled evenly.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The time for which a limit is stated, as WorkOS states its own.
const WINDOW: Duration = Duration::from_secs(60);

/// The requests that a key may still make.
#[derive(Debug)]
pub(super) struct Bucket {
    limit: u32,
    /// The moment at which it is full again, if no more is taken. Each request puts it off by the
    /// time in which one is refilled.
    full_at: Mutex<Option<Instant>>,
}

/// The state of a key's limit after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The requests in a minute.
    pub limit: u32,
    /// How many more may be made now.
    pub remaining: u32,
    /// The time until as many as the limit may be made again.
    pub full_in: Duration,
    /// The time until the next one may be made, if this one may not.
    pub refused_for: Option<Duration>,
}

impl Bucket {
    /// Makes a full one. A limit of 0 counts as 1.
    pub(super) fn new(limit: u32) -> Bucket {
        Bucket { limit: limit.max(1), full_at: Mutex::new(None) }
    }

    /// Takes one request, unless none is left.
    pub(super) fn take(&self, now: Instant) -> Allowance {
        let step = WINDOW / self.limit;
        let capacity = step * self.limit;
        let mut full_at = self.full_at.lock();
        let owed = full_at.map_or(Duration::ZERO, |full_at| full_at.saturating_duration_since(now));
        let refused_for = (owed + step).checked_sub(capacity).filter(|wait| !wait.is_zero());
        let owed = if refused_for.is_some() { owed } else { owed + step };
        *full_at = Some(now + owed);
        let left = capacity.saturating_sub(owed).as_nanos() / step.as_nanos().max(1);
        let remaining = u32::try_from(left).unwrap_or(self.limit);
        Allowance { limit: self.limit, remaining, full_in: owed, refused_for }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at each of the seconds, and returns how many remain, or the wait in milliseconds.
    fn taken(limit: u32, seconds: &[u64]) -> Vec<Result<u32, u128>> {
        let (bucket, start) = (Bucket::new(limit), Instant::now());
        let take = |second: &u64| {
            let allowance = bucket.take(start + Duration::from_secs(*second));
            assert_eq!(allowance.limit, limit.max(1));
            match allowance.refused_for {
                None => Ok(allowance.remaining),
                Some(wait) => Err(wait.as_millis()),
            }
        };
        seconds.iter().map(take).collect()
    }

    #[test]
    fn as_many_as_the_limit_may_come_at_once_and_one_more_for_each_part_of_a_minute() {
        // One in 20 seconds.
        assert_eq!(
            taken(3, &[0, 0, 0, 0, 10, 20, 20, 80, 80]),
            [Ok(2), Ok(1), Ok(0), Err(20_000), Err(10_000), Ok(0), Err(20_000), Ok(2), Ok(1)]
        );
        assert_eq!(taken(1, &[0, 59, 60]), [Ok(0), Err(1_000), Ok(0)]);
        assert_eq!(taken(0, &[0, 0]), [Ok(0), Err(60_000)]);
    }

    #[test]
    fn in_any_minute_at_most_twice_the_limit_comes_through_and_on_average_the_limit() {
        let (bucket, start) = (Bucket::new(600), Instant::now());
        let passed = |from_ms: u64, to_ms: u64| {
            let moments = (from_ms..to_ms).map(|ms| start + Duration::from_millis(ms));
            moments.filter(|now| bucket.take(*now).refused_for.is_none()).count()
        };
        assert_eq!(passed(0, 60_000), 600 + 599, "full at the start");
        assert_eq!(passed(60_000, 120_000), 600);
    }

    #[test]
    fn the_largest_limit_does_not_overflow() {
        let bucket = Bucket::new(u32::MAX);
        let allowance = bucket.take(Instant::now());
        assert_eq!((allowance.limit, allowance.refused_for), (u32::MAX, None));
        assert!(allowance.remaining >= u32::MAX - 2);
    }
}
