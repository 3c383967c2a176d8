//! Moments as people give them to a command.

use std::borrow::Cow;

use rollcall_projections::Millis;

use crate::time;

/// A moment in RFC 3339, a date, which is its first millisecond in UTC, or how long ago it was:
/// `30d`, `12h`, `90m`. Gives it in RFC 3339.
///
/// # Errors
/// What it must be.
pub(super) fn moment(text: &str) -> Result<String, String> {
    let moment = time::parse(&of_date(text)).or_else(|| time::now_ms().checked_sub(ago_ms(text)?));
    // What is too long ago to be written is no moment either.
    let told = moment.map(time::format).filter(|told| time::parse(told) == moment);
    told.ok_or_else(|| {
        "it must be an RFC 3339 time, such as 2026-03-02T09:00:00Z, a date, such as 2026-03-02, or how long ago it was, such as 30d, 12h or 90m".into()
    })
}

/// The first millisecond of a date in UTC; whatever else it is, as it came.
pub(super) fn of_date(text: &str) -> Cow<'_, str> {
    let digits = |text: &str, count: usize| {
        text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    match text.split('-').collect::<Vec<_>>().as_slice() {
        &[year, month, day] if digits(year, 4) && digits(month, 2) && digits(day, 2) => {
            Cow::Owned(format!("{text}T00:00:00.000Z"))
        }
        _ => Cow::Borrowed(text),
    }
}

/// As [`moment`], or `latest`.
///
/// # Errors
/// What it must be.
pub(super) fn moment_or_latest(text: &str) -> Result<String, String> {
    if text == "latest" {
        Ok(text.to_owned())
    } else {
        moment(text).map_err(|error| format!("{error}; or `latest`"))
    }
}

/// How many milliseconds a number of days, hours, minutes or seconds is.
fn ago_ms(text: &str) -> Option<Millis> {
    let (digits, unit_ms) = match text.split_at_checked(text.len().checked_sub(1)?)? {
        (digits, "d") => (digits, 86_400_000),
        (digits, "h") => (digits, 3_600_000),
        (digits, "m") => (digits, 60_000),
        (digits, "s") => (digits, 1000),
        _ => return None,
    };
    let number: Millis =
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()?;
    number.checked_mul(unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_ago_is_a_number_and_a_unit() {
        for (text, expected) in [
            ("30d", Some(2_592_000_000)),
            ("12h", Some(43_200_000)),
            ("90m", Some(5_400_000)),
            ("0s", Some(0)),
            ("007s", Some(7000)),
            ("d", None),
            ("", None),
            ("30", None),
            ("-1d", None),
            ("+1d", None),
            ("1 d", None),
            ("1w", None),
            ("1é", None),
            ("99999999999999999999d", None),
            ("9223372036854775807d", None),
        ] {
            assert_eq!(ago_ms(text), expected, "{text}");
        }
    }

    #[test]
    fn only_a_date_is_made_a_moment() {
        assert_eq!(of_date("2026-03-02"), "2026-03-02T00:00:00.000Z");
        for other in ["", "29", "latest", "2026-03-02T09:00:00Z", "2026-03-0é", "20260302"] {
            assert_eq!(of_date(other), other);
        }
    }

    #[test]
    fn a_moment_is_sent_in_full() {
        assert_eq!(moment("2026-03-02T10:00:00+01:00").as_deref(), Ok("2026-03-02T09:00:00.000Z"));
        let before = time::now_ms();
        let told = time::parse(&moment("2h").unwrap()).unwrap();
        assert!((before..=time::now_ms()).contains(&(told + 7_200_000)));
        assert_eq!(moment_or_latest("latest").as_deref(), Ok("latest"));
        assert_eq!(moment("2026-03-02").as_deref(), Ok("2026-03-02T00:00:00.000Z"));
        assert_eq!(moment_or_latest("2024-02-29").as_deref(), Ok("2024-02-29T00:00:00.000Z"));
        for wrong in [
            "latest",
            "2026-02-29",
            "2026-3-2",
            "2026-03",
            "02-03-2026",
            "2026-03-02Z",
            "--",
            "yesterday",
            "999999999d",
        ] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
