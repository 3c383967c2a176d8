//! Moments as arguments of a command.

use std::borrow::Cow;

use rollcall_projections::Millis;

use crate::time;

/// Parses a time in RFC 3339, a date (its first millisecond in UTC) or an age such as `30d`, `12h`
/// or `90m`, and returns the moment in RFC 3339.
///
/// # Errors
/// A sentence about the forms that are allowed.
pub(super) fn moment(text: &str) -> Result<String, String> {
    let moment = time::parse(&of_date(text)).or_else(|| time::now_ms().checked_sub(ago_ms(text)?));
    // An age may lead to a year that RFC 3339 cannot write.
    let written = moment.map(time::format).filter(|written| time::parse(written) == moment);
    written.ok_or_else(|| {
        "it must be an RFC 3339 time, such as 2026-03-02T09:00:00Z, a date, such as 2026-03-02, \
         or how long ago it was, such as 30d, 12h or 90m"
            .into()
    })
}

/// Returns the first millisecond in UTC of a date, and any other text unchanged.
pub(super) fn of_date(text: &str) -> Cow<'_, str> {
    let parts: Vec<&str> = text.split('-').collect();
    let is_date = parts.iter().map(|part| part.len()).eq([4, 2, 2])
        && parts.iter().all(|part| is_digits(part));
    if is_date { Cow::Owned(format!("{text}T00:00:00.000Z")) } else { Cow::Borrowed(text) }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Parses what [`moment`] parses, and `latest`.
///
/// # Errors
/// A sentence about the forms that are allowed.
pub(super) fn moment_or_latest(text: &str) -> Result<String, String> {
    if text == "latest" {
        Ok(text.to_owned())
    } else {
        moment(text).map_err(|error| format!("{error}; or `latest`"))
    }
}

/// Returns the milliseconds of an age in days, hours, minutes or seconds.
fn ago_ms(text: &str) -> Option<Millis> {
    let (digits, unit_ms) = match text.split_at_checked(text.len().checked_sub(1)?)? {
        (digits, "d") => (digits, 86_400_000),
        (digits, "h") => (digits, 3_600_000),
        (digits, "m") => (digits, 60_000),
        (digits, "s") => (digits, 1000),
        _ => return None,
    };
    // A sign would parse as well.
    let number = if is_digits(digits) { digits.parse::<Millis>().ok()? } else { return None };
    number.checked_mul(unit_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_and_a_unit() {
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
    fn only_a_date_gets_a_time() {
        assert_eq!(of_date("2026-03-02"), "2026-03-02T00:00:00.000Z");
        for other in ["", "29", "latest", "2026-03-02T09:00:00Z", "2026-03-0é", "20260302"] {
            assert_eq!(of_date(other), other);
        }
    }

    #[test]
    fn a_moment_is_written_in_full() {
        assert_eq!(moment("2026-03-02T10:00:00+01:00").as_deref(), Ok("2026-03-02T09:00:00.000Z"));
        let before = time::now_ms();
        let then = time::parse(&moment("2h").unwrap()).unwrap();
        assert!((before..=time::now_ms()).contains(&(then + 7_200_000)));
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
