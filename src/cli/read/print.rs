//! What goes to standard output.

use std::borrow::Cow;
use std::io::{self, IsTerminal};

use serde_json::value::RawValue;

use crate::json;

/// An object of JSON as it came, on one line: only where a sender's own line breaks passed through
/// is a break made a space.
pub(in super::super) fn one_line(json: &str) -> Cow<'_, str> {
    // Inside a string a line break is always escaped, so that these are between tokens.
    if json.contains(['\n', '\r']) {
        Cow::Owned(json.replace(['\n', '\r'], " "))
    } else {
        Cow::Borrowed(json)
    }
}

/// How wide a table may be: the terminal's width, else what COLUMNS says, else any.
pub(in super::super) fn width() -> Option<u16> {
    let stdout = io::stdout();
    let terminal =
        if stdout.is_terminal() { terminal_size::terminal_size_of(&stdout) } else { None };
    let terminal = terminal.map(|(width, _)| width.0).filter(|width| *width > 0);
    let told = || std::env::var("COLUMNS").ok()?.parse::<u16>().ok().filter(|width| *width > 0);
    terminal.or_else(told)
}

/// Whether what goes to `out` may have colours: a terminal that has them, whose owner does not mind
/// (<https://no-color.org>).
pub(in super::super) fn coloured(out: &impl IsTerminal) -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    out.is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}

/// The texts of an object; empty where there is none. What else the object holds is not looked at:
/// it passes through from senders, and may be a number that no machine has or a text that is no
/// Unicode.
pub(in super::super) fn texts<const N: usize>(object: &RawValue, names: [&str; N]) -> [String; N] {
    let found = json::fields(object.get(), names).unwrap_or([None; N]);
    found.map(|value| match json::string(value) {
        Some(text) => text.into_owned(),
        // A text that is no Unicode is shown as it is written.
        None => value
            .map(RawValue::get)
            .filter(|text| text.starts_with('"'))
            .unwrap_or_default()
            .to_owned(),
    })
}

/// The objects of the array under `name`.
pub(in super::super) fn items<'a>(object: &'a RawValue, name: &str) -> Vec<&'a RawValue> {
    json::fields(object.get(), [name]).and_then(|[value]| json::array(value)).unwrap_or_default()
}

/// A count with its noun.
pub(in super::super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A duration in its two largest units; a negative one, of clocks that differ, is none.
pub(super) fn human(duration_ms: i64) -> String {
    let ms = duration_ms.max(0);
    let (s, min, h) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{s} s"),
        60_000..3_600_000 => format!("{min} min {} s", s % 60),
        3_600_000..86_400_000 => format!("{h} h {} min", min % 60),
        _ => format!("{} d {} h", h / 24, h % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_read_whatever_else_the_object_holds() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let object = format!(
            r#"{{"a":"x\u00e9","b":null,"c":1e400,"d":"\ud800","e":{deep},"f":[{{"a":"y"}},{{}}]}}"#
        );
        let object = RawValue::from_string(object).unwrap();
        assert_eq!(texts(&object, ["a", "b", "c", "d", "none"]), ["xé", "", "", r#""\ud800""#, ""]);
        assert_eq!(
            items(&object, "f").into_iter().map(|item| texts(item, ["a"])).collect::<Vec<_>>(),
            [["y"], [""]]
        );
        assert!(items(&object, "a").is_empty() && items(&object, "none").is_empty());
    }

    #[test]
    fn a_senders_line_breaks_stay_no_line_breaks() {
        assert_eq!(one_line(r#"{"a":"b\n"}"#), r#"{"a":"b\n"}"#);
        assert_eq!(one_line("{\"a\":{\r\n \"b\":1}}"), "{\"a\":{   \"b\":1}}");
    }

    #[test]
    fn a_duration_is_told_in_its_two_largest_units() {
        for (ms, told) in [
            (-5, "0 ms"),
            (999, "999 ms"),
            (1000, "1 s"),
            (59_999, "59 s"),
            (60_000, "1 min 0 s"),
            (11_520_000, "3 h 12 min"),
            (86_399_999, "23 h 59 min"),
            (86_400_000, "1 d 0 h"),
            (8_640_000_000, "100 d 0 h"),
        ] {
            assert_eq!(human(ms), told);
        }
    }
}
