//! Moments as arguments of a command.

use chrono::{DateTime, Days, Months, NaiveTime, Utc};
use rollcall_projections::Millis;

use crate::time;

/// The forms that an argument may have, for the help of each option that takes a moment.
pub(super) const FORMS: &str = "\
Moments are dates (their first millisecond, UTC), times in RFC 3339 (also without seconds), ages \
in seconds, minutes, hours, days, weeks or years, `today` and `yesterday`; for example \
`2026-03-01`, `2026-03-01T10:00Z`, `90m`, `12h`, `30d`, `6w` or `1y`.";

/// Parses a moment and returns it in RFC 3339.
///
/// # Errors
/// A sentence with the text and examples of the forms that are allowed.
pub(super) fn moment(text: &str) -> Result<String, String> {
    moment_ms(text).map(time::format)
}

/// Parses a moment: a date, a time in RFC 3339, an age, `today` or `yesterday`.
///
/// # Errors
/// A sentence with the text and examples of the forms that are allowed.
pub(super) fn moment_ms(text: &str) -> Result<Millis, String> {
    at(text, time::now_ms()).ok_or_else(|| refusal(text, ""))
}

/// Parses a moment, or `latest`, as `--as-of` takes them. Returns the moment in RFC 3339.
///
/// # Errors
/// A sentence with the text and examples of the forms that are allowed.
pub(super) fn moment_or_latest(text: &str) -> Result<String, String> {
    if text == "latest" {
        return Ok(text.to_owned());
    }
    moment(text).map_err(|_| refusal(text, ", or `latest`"))
}

/// Parses a record's number, or a moment, as `--known-at` takes them. Returns the number as it is
/// written, or the moment in RFC 3339.
///
/// # Errors
/// A sentence with the text and examples of the forms that are allowed.
pub(super) fn seq_or_moment(text: &str) -> Result<String, String> {
    if is_number(text) {
        return Ok(text.to_owned());
    }
    moment(text).map_err(|_| refusal(text, ", or the number of a record"))
}

fn refusal(text: &str, or: &str) -> String {
    format!(
        "`{text}` is not a moment; give a date, a time or an age, for example `2026-03-01`, \
         `2026-03-01T10:00Z`, `30d`, `6w`, `1y` or `yesterday`{or}"
    )
}

/// Returns the moment of which the text speaks at `now`; `None` if it has none of the forms, or
/// if RFC 3339 cannot write the moment.
fn at(text: &str, now: Millis) -> Option<Millis> {
    let day = |ago| {
        let day = DateTime::<Utc>::from_timestamp_millis(now)?.checked_sub_days(Days::new(ago))?;
        Some(day.date_naive().and_time(NaiveTime::MIN).and_utc().timestamp_millis())
    };
    let moment = match text {
        "today" => day(0)?,
        "yesterday" => day(1)?,
        _ => written(text).or_else(|| ago(text, now))?,
    };
    // An age may lead to a year that RFC 3339 cannot write.
    (time::parse(&time::format(moment)) == Some(moment)).then_some(moment)
}

/// Parses a date, or a time with or without its seconds.
fn written(text: &str) -> Option<Millis> {
    let filled = match text.split_at_checked("2026-03-01T10:00".len()) {
        None => format!("{text}T00:00:00Z"),
        Some((minute, zone)) if !zone.starts_with(':') => format!("{minute}:00{zone}"),
        Some(_) => text.to_owned(),
    };
    time::parse(&filled)
}

/// Returns the moment that was an age before `now`. A year is one of the calendar.
fn ago(text: &str, now: Millis) -> Option<Millis> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    // A sign would parse as well.
    let number: u32 = if is_number(digits) { digits.parse().ok()? } else { return None };
    let unit_ms = match unit {
        "y" => {
            let months = Months::new(number.checked_mul(12)?);
            let then = DateTime::<Utc>::from_timestamp_millis(now)?.checked_sub_months(months)?;
            return Some(then.timestamp_millis());
        }
        "w" => 604_800_000,
        "d" => 86_400_000,
        "h" => 3_600_000,
        "m" => 60_000,
        "s" => 1000,
        _ => return None,
    };
    now.checked_sub(Millis::from(number).checked_mul(unit_ms)?)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_moment_is_read() {
        let now = time::parse("2024-02-29T12:30:00.250Z").unwrap();
        for (text, expected) in [
            ("2026-03-01", Some("2026-03-01T00:00:00.000Z")),
            ("2024-02-29", Some("2024-02-29T00:00:00.000Z")),
            ("2026-03-01T10:00Z", Some("2026-03-01T10:00:00.000Z")),
            ("2026-03-01T10:00", Some("2026-03-01T10:00:00.000Z")),
            ("2026-03-01 10:00", Some("2026-03-01T10:00:00.000Z")),
            ("2026-03-01T10:00+01:00", Some("2026-03-01T09:00:00.000Z")),
            ("2026-03-01T10:00:01Z", Some("2026-03-01T10:00:01.000Z")),
            ("2026-03-02T10:00:00.0019+01:00", Some("2026-03-02T09:00:00.001Z")),
            ("0s", Some("2024-02-29T12:30:00.250Z")),
            ("007s", Some("2024-02-29T12:29:53.250Z")),
            ("90m", Some("2024-02-29T11:00:00.250Z")),
            ("12h", Some("2024-02-29T00:30:00.250Z")),
            ("30d", Some("2024-01-30T12:30:00.250Z")),
            ("6w", Some("2024-01-18T12:30:00.250Z")),
            ("1y", Some("2023-02-28T12:30:00.250Z")),
            ("4y", Some("2020-02-29T12:30:00.250Z")),
            ("today", Some("2024-02-29T00:00:00.000Z")),
            ("yesterday", Some("2024-02-28T00:00:00.000Z")),
        ] {
            assert_eq!(at(text, now).map(time::format).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn any_other_text_is_no_moment() {
        let now = time::parse("2024-02-29T12:30:00.250Z").unwrap();
        for wrong in [
            "",
            "d",
            "30",
            "-1d",
            "+1d",
            "1 d",
            " 30d",
            "1M",
            "1é",
            "d30",
            "é",
            "latest",
            "monday",
            "2026-02-29",
            "2026-3-2",
            "2026-03",
            "02-03-2026",
            "2026-03-02Z",
            "2026-03-0é",
            "--",
            "20260302",
            "2026-03-01T10",
            "2026-03-01T24:00Z",
            "2026-03-01T10:00Zz",
            "2026-03-01T10:00:",
            "2026-03-01T10:00+1",
            "2025y",
            "999999999d",
            "4294967295w",
            "99999999999999999999d",
            "Yesterday",
        ] {
            assert_eq!(at(wrong, now), None, "{wrong}");
        }
    }

    #[test]
    fn a_refusal_has_the_text_and_examples() {
        for refused in [moment("soon"), moment_or_latest("soon"), seq_or_moment("soon")] {
            let message = refused.unwrap_err();
            for part in ["`soon`", "for example", "`30d`"] {
                assert!(message.contains(part), "{message}");
            }
        }
    }

    #[test]
    fn latest_and_a_record_are_moments_only_where_they_may_be() {
        assert_eq!(moment_or_latest("latest").as_deref(), Ok("latest"));
        assert_eq!(moment_or_latest("2024-02-29").as_deref(), Ok("2024-02-29T00:00:00.000Z"));
        assert_eq!(seq_or_moment("2026").as_deref(), Ok("2026"));
        assert_eq!(seq_or_moment("2026-03-01").as_deref(), Ok("2026-03-01T00:00:00.000Z"));
        assert!(moment("latest").is_err() && seq_or_moment("latest").is_err());
        assert!(moment("29").is_err() && moment_or_latest("29").is_err());
        let before = time::now_ms();
        let then = moment_ms("2h").unwrap();
        assert!((before..=time::now_ms()).contains(&(then + 7_200_000)));
    }
}
