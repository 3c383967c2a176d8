//! The amount of work of the random and repeated tests.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Returns how many times the usual work a run does: `ROLLCALL_TEST_SCALE`, or 1.
pub fn scale() -> u64 {
    std::env::var("ROLLCALL_TEST_SCALE").map_or(1, |text| text.parse().unwrap())
}

/// Returns the numbers of the histories of a run: `usual` times the scale, from
/// `ROLLCALL_MODEL_FIRST` on.
pub fn histories(usual: u64) -> Range<u64> {
    let first = std::env::var("ROLLCALL_MODEL_FIRST").map_or(0, |text| text.parse().unwrap());
    first..first + usual * scale()
}

/// Checks each number on one of `threads` threads.
pub fn check_each(numbers: Range<u64>, threads: usize, check: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(numbers.start);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= numbers.end {
                        break;
                    }
                    check(number);
                }
            });
        }
    });
}
