//! Printing objects of the API: one line each, or cells of a table.

use std::borrow::Cow;
use std::io::{self, IsTerminal};

use serde_json::value::RawValue;

use super::super::secrets::set;
use super::super::table::has_effect;
use super::super::{Failure, print};
use crate::json;

/// Returns the object on one line that has no effect on a terminal. White space that a sender wrote
/// between tokens becomes spaces. Characters that control a terminal, or reorder or hide others,
/// are written as escapes of JSON, which mean the same.
pub(in super::super) fn one_line(json: &str) -> Cow<'_, str> {
    if !json.contains(has_effect) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            // Inside a string these are always escaped, so they are between tokens.
            '\n' | '\r' | '\t' => out.push(' '),
            c if has_effect(c) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    out.push_str(&format!("\\u{unit:04x}"));
                }
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Prints an object as one line.
///
/// # Errors
/// If standard output cannot be written.
pub(in super::super) fn print_object(json: &str) -> Result<(), Failure> {
    print(&format!("{}\n", one_line(json)))
}

/// Returns the width to which tables are cut: the terminal's, else that in COLUMNS, else `None`.
pub(in super::super) fn width() -> Option<u16> {
    let stdout = io::stdout();
    let terminal =
        if stdout.is_terminal() { terminal_size::terminal_size_of(&stdout) } else { None };
    let terminal = terminal.map(|(width, _)| width.0).filter(|width| *width > 0);
    terminal.or_else(columns_variable)
}

fn columns_variable() -> Option<u16> {
    std::env::var("COLUMNS").ok()?.parse().ok().filter(|width| *width > 0)
}

/// Returns true if `out` may have colours: it is a terminal that shows them, and the user did not
/// switch them off (<https://no-color.org>).
pub(in super::super) fn coloured(out: &impl IsTerminal) -> bool {
    out.is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}

/// Returns the texts under these names, empty where there is none.
///
/// The rest of the object is not parsed: it comes from senders, and may hold a number that does not
/// fit any type or a string that is not Unicode.
pub(in super::super) fn texts<const N: usize>(object: &RawValue, names: [&str; N]) -> [String; N] {
    json::fields(object.get(), names).unwrap_or([None; N]).map(text)
}

fn text(value: Option<&RawValue>) -> String {
    if let Some(text) = json::string(value) {
        return text.into_owned();
    }
    // A string that is not Unicode is shown as it is written.
    let written = value.map(RawValue::get).filter(|text| text.starts_with('"'));
    written.unwrap_or_default().to_owned()
}

/// Returns the objects of the array under `name`.
pub(in super::super) fn items<'a>(object: &'a RawValue, name: &str) -> Vec<&'a RawValue> {
    json::fields(object.get(), [name]).and_then(|[value]| json::array(value)).unwrap_or_default()
}

/// Returns true if the server left out a part of the array under `name`.
pub(super) fn is_truncated(object: &RawValue, name: &str) -> bool {
    field(object, &format!("{name}_truncated")) == Some("true")
}

/// Returns the number of objects in the array under `name`: `1000 of 1500` if it was cut.
pub(super) fn count_of(object: &RawValue, name: &str, shown: usize) -> String {
    match field(object, &format!("{name}_total")) {
        Some(total) if is_truncated(object, name) => format!("{shown} of {total}"),
        _ => shown.to_string(),
    }
}

/// Returns a field as it is written.
fn field<'a>(object: &'a RawValue, name: &str) -> Option<&'a str> {
    let [value] = json::fields(object.get(), [name])?;
    value.map(RawValue::get)
}

/// Returns a count with its noun.
pub(in super::super) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Returns a value of JSON without quotes, and `nothing` for null.
pub(in super::super) fn value(json: &str) -> String {
    match serde_json::from_str::<Option<String>>(json) {
        Ok(Some(text)) if !text.is_empty() => text,
        Ok(None) => "nothing".into(),
        _ => json.to_owned(),
    }
}

/// Returns a duration in its two largest units. A negative one, from clocks that differ, counts as
/// zero.
pub(in super::super) fn human(duration_ms: i64) -> String {
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
    fn a_count_says_whether_the_server_left_something_out() {
        for (object, expected) in [
            (r#"{"members":[1,2]}"#, "2"),
            (r#"{"members":[1,2],"members_truncated":true,"members_total":5}"#, "2 of 5"),
            (r#"{"members":[1,2],"members_truncated":false,"members_total":5}"#, "2"),
        ] {
            let object: &RawValue = serde_json::from_str(object).unwrap();
            assert_eq!(count_of(object, "members", 2), expected, "{object}");
        }
    }

    #[test]
    fn texts_are_read_from_an_object_with_unreadable_values() {
        let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
        let object = format!(
            r#"{{"a":"x\u00e9","b":null,"c":1e400,"d":"\ud800","e":{deep},"f":[{{"a":"y"}},{{}}]}}"#
        );
        let object = RawValue::from_string(object).unwrap();
        assert_eq!(texts(&object, ["a", "b", "c", "d", "none"]), ["xé", "", "", "\u{fffd}", ""]);
        assert_eq!(
            items(&object, "f").into_iter().map(|item| texts(item, ["a"])).collect::<Vec<_>>(),
            [["y"], [""]]
        );
        assert!(items(&object, "a").is_empty() && items(&object, "none").is_empty());
    }

    #[test]
    fn what_has_an_effect_on_a_terminal_is_escaped() {
        let json = "{\"a\":\"x\u{9b}2J\u{7f}\u{202e}\u{e0041}\u{e9}\",\t\"b\":1}";
        let line = one_line(json);
        assert_eq!(line, "{\"a\":\"x\\u009b2J\\u007f\\u202e\\udb40\\udc41\u{e9}\", \"b\":1}");
        let parsed = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(parsed(&line), parsed(json));
    }

    #[test]
    fn line_breaks_between_tokens_become_spaces() {
        assert_eq!(one_line(r#"{"a":"b\n"}"#), r#"{"a":"b\n"}"#);
        assert_eq!(one_line("{\"a\":{\r\n \"b\":1}}"), "{\"a\":{   \"b\":1}}");
    }

    #[test]
    fn a_duration_has_its_two_largest_units() {
        for (ms, expected) in [
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
            assert_eq!(human(ms), expected);
        }
    }
}
