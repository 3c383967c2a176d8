//! Moments: whole milliseconds since 1970-01-01T00:00:00Z, and the one place that reads the clocks.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, SecondsFormat};
use rollcall_projections::Millis;
use rustix::time::ClockId;

/// Reads the clock of this machine.
#[allow(clippy::disallowed_methods, reason = "this is the one place")]
pub fn now_ms() -> Millis {
    chrono::Utc::now().timestamp_millis()
}

/// Reads the time since this machine was booted, in milliseconds. It goes on while the machine
/// sleeps, and setting the clock does not change it.
fn since_boot_ms() -> Millis {
    let time = rustix::time::clock_gettime(ClockId::Boottime);
    time.tv_sec.saturating_mul(1000).saturating_add(time.tv_nsec / 1_000_000)
}

/// Reads the time since some moment before this process started, in microseconds. It stops while
/// the machine sleeps: it is only for the service manager, which compares it with its own.
pub fn monotonic_us() -> i64 {
    let time = rustix::time::clock_gettime(ClockId::Monotonic);
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000)
}

/// The clock has jumped if it was set by more than this since it was first read.
const CLOCK_JUMP_MS: Millis = 5 * 60_000;

type ReadClock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// A clock, held against another that cannot be set.
#[derive(Clone)]
pub struct Clock {
    now: ReadClock,
    steady: ReadClock,
    /// The difference of the two when this was made.
    difference_ms: Millis,
}

/// The clock was set by too much for what it says to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jumped {
    /// How far it was set ahead since it was first read; negative if it was set back.
    pub offset_ms: Millis,
}

impl Clock {
    /// The clock of this machine, held against the time since it was booted.
    pub fn of_this_machine() -> Clock {
        Clock::against(now_ms, since_boot_ms)
    }

    /// Holds one clock against another.
    pub fn against(
        now: impl Fn() -> Millis + Send + Sync + 'static,
        steady: impl Fn() -> Millis + Send + Sync + 'static,
    ) -> Clock {
        let difference_ms = now().saturating_sub(steady());
        Clock { now: Arc::new(now), steady: Arc::new(steady), difference_ms }
    }

    /// Reads the clock, whatever it says.
    pub fn now_ms(&self) -> Millis {
        (self.now)()
    }

    /// Returns by how much the clock was set ahead since it was first read; negative if it was set
    /// back. Corrections of its speed change both clocks and do not count.
    pub fn offset_ms(&self) -> Millis {
        self.now_ms().saturating_sub((self.steady)()).saturating_sub(self.difference_ms)
    }

    /// Reads the clock, if it has not jumped.
    ///
    /// # Errors
    /// [`Jumped`].
    pub fn believable_ms(&self) -> Result<Millis, Jumped> {
        let now = self.now_ms();
        let offset_ms = now.saturating_sub((self.steady)()).saturating_sub(self.difference_ms);
        if offset_ms.saturating_abs() > CLOCK_JUMP_MS { Err(Jumped { offset_ms }) } else { Ok(now) }
    }
}

/// A clock that is never set.
impl<F: Fn() -> Millis + Clone + Send + Sync + 'static> From<F> for Clock {
    fn from(now: F) -> Clock {
        Clock { steady: Arc::new(now.clone()), now: Arc::new(now), difference_ms: 0 }
    }
}

/// Reads a moment as senders write it: RFC 3339
/// (<https://www.rfc-editor.org/rfc/rfc3339#section-5.6>), and also without a zone (UTC), with a
/// space for `T`, and with `+0000` for `+00:00`. Digits finer than a millisecond are cut off.
/// `None` for anything else, second 60 included.
pub fn parse(text: &str) -> Option<Millis> {
    // An offset may lead out of the years that have a written form.
    read(text).filter(|moment| YEARS.contains(moment))
}

/// Reads a moment as [`parse`] does. One that an offset leads out of the years 0000 to 9999 becomes
/// the first or last moment of them, so that the pattern of moments says exactly which texts are read.
pub fn parse_bound(text: &str) -> Option<Millis> {
    read(text).map(|moment| moment.clamp(YEARS.start, YEARS.end - 1))
}

/// Reads a date of HTTP, such as `Sun, 06 Nov 1994 08:49:37 GMT`
/// (<https://www.rfc-editor.org/rfc/rfc9110#section-5.6.7>).
pub fn parse_http_date(text: &str) -> Option<Millis> {
    DateTime::parse_from_rfc2822(text).ok().map(|moment| moment.timestamp_millis())
}

/// Writes the regular expression (ECMA-262) of the texts that [`parse_bound`] reads. A zone's sign
/// is one of some characters, and alternatives can be put before the moment.
macro_rules! pattern {
    ($before:literal, $sign:literal) => {
        concat!(
            "^(?:",
            $before,
            // Each month's days, and the leap days.
            "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])",
            "|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))",
            "|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])",
            "|(?:[02468][048]|[13579][26])00)-02-29)",
            "[Tt ](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]+)?",
            "(?:[Zz]|",
            $sign,
            "(?:[01][0-9]|2[0-3]):?[0-5][0-9])?",
            ")$"
        )
    };
}
pub(crate) use pattern;

/// The moments that a body's field takes, as a regular expression.
pub(crate) const PATTERN: &str = pattern!("", "[+-]");

fn read(text: &str) -> Option<Millis> {
    let bytes = text.as_bytes();
    let (year, month, day) =
        (number(bytes.get(..4)?)?, number(bytes.get(5..7)?)?, number(bytes.get(8..10)?)?);
    let (hour, minute, second) =
        (number(bytes.get(11..13)?)?, number(bytes.get(14..16)?)?, number(bytes.get(17..19)?)?);
    let marks = [bytes.get(4)?, bytes.get(7)?, bytes.get(13)?, bytes.get(16)?];
    if marks != [&b'-', &b'-', &b':', &b':'] || !matches!(bytes.get(10)?, b'T' | b't' | b' ') {
        return None;
    }
    let rest = bytes.get(19..)?;
    let (millis, zone) = match rest.split_first() {
        Some((b'.', rest)) => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if digits == 0 {
                return None;
            }
            let digit = |at: usize| {
                if at < digits { rest.get(at).map_or(0, |byte| u32::from(byte - b'0')) } else { 0 }
            };
            (digit(0) * 100 + digit(1) * 10 + digit(2), rest.get(digits..)?)
        }
        _ => (0, rest),
    };
    let moment = NaiveDate::from_ymd_opt(year as i32, month, day)?
        .and_hms_milli_opt(hour, minute, second, millis)?;
    Some(moment.and_utc().timestamp_millis() - offset_ms(zone)?)
}

/// The years 0000 to 9999.
const YEARS: std::ops::Range<Millis> = -62_167_219_200_000..253_402_300_800_000;

/// Returns the zone's offset from UTC in milliseconds.
fn offset_ms(zone: &[u8]) -> Option<Millis> {
    let (sign, hours, minutes) = match zone {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] | [sign @ (b'+' | b'-'), h1, h2, m1, m2] => {
            (*sign, number(&[*h1, *h2])?, number(&[*m1, *m2])?)
        }
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let distance = Millis::from(hours * 60 + minutes) * 60_000;
    Some(if sign == b'+' { distance } else { -distance })
}

fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + u32::from(byte - b'0'))
    })
}

/// Writes a moment as `2026-01-15T12:00:00.000Z`.
pub fn format(moment: Millis) -> String {
    let moment = DateTime::from_timestamp_millis(moment).unwrap_or_default();
    moment.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_has_jumped_once_it_was_set_by_more_than_five_minutes() {
        let set_by = Arc::new(std::sync::atomic::AtomicI64::new(0));
        let read = set_by.clone();
        let now = move || 1_000_000 + read.load(std::sync::atomic::Ordering::SeqCst);
        let clock = Clock::against(now, || 4000);
        for (set_ms, has_jumped) in [
            (0, false),
            (300_000, false),
            (300_001, true),
            (-300_000, false),
            (-300_001, true),
            (12, false),
        ] {
            set_by.store(set_ms, std::sync::atomic::Ordering::SeqCst);
            assert_eq!(clock.offset_ms(), set_ms);
            let read = clock.believable_ms();
            let expected =
                if has_jumped { Err(Jumped { offset_ms: set_ms }) } else { Ok(1_000_000 + set_ms) };
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn times_are_read_as_senders_write_them() {
        let table = [
            ("2026-01-15T12:00:00.000Z", Some("2026-01-15T12:00:00.000Z")),
            ("2026-01-15t12:00:00z", Some("2026-01-15T12:00:00.000Z")),
            ("2023-04-28 20:05:31.093", Some("2023-04-28T20:05:31.093Z")),
            ("2021-06-25T19:07:33.155+0000", Some("2021-06-25T19:07:33.155Z")),
            ("2021-06-25T19:07:33.1559999-02:30", Some("2021-06-25T21:37:33.155Z")),
            ("2021-06-25T19:07:33.1+23:59", Some("2021-06-24T19:08:33.100Z")),
            ("1969-12-31T23:59:59.9999Z", Some("1969-12-31T23:59:59.999Z")),
            ("0000-02-29T00:00:00Z", Some("0000-02-29T00:00:00.000Z")),
            ("2024-02-29T23:59:59", Some("2024-02-29T23:59:59.000Z")),
            ("2023-02-29T00:00:00Z", None),
            ("2026-01-15T12:00:60Z", None),
            ("2026-01-15T24:00:00Z", None),
            ("9999-12-31T23:59:59.999Z", Some("9999-12-31T23:59:59.999Z")),
            ("9999-12-31T23:59:59.999-00:01", None),
            ("0000-01-01T00:00:00+00:01", None),
            ("2026-01-15", None),
            ("2026-01-15T12:00Z", None),
            ("2026-01-15T12:00:00.Z", None),
            ("2026-01-15T12:00:00,5Z", None),
            ("2026-01-15T12:00:00+01", None),
            ("2026-01-15T12:00:00+24:00", None),
            (" 2026-01-15T12:00:00Z", None),
            ("2026-01-15T12:00:00Z ", None),
            ("2026-01-15  12:00:00Z", None),
            ("+026-01-15T12:00:00Z", None),
            ("2026-01-15T12:00:0٠Z", None),
            ("1700000000000", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse(text).map(format).as_deref(), expected, "{text}");
        }
    }
}
