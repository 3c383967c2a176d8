//! Events in files and in requests to import them, one a line.

use serde_json::value::RawValue;

use crate::json;

/// Returns the reason why a value is not an event; `None` if it is one.
pub fn not_an_event(value: &RawValue) -> Option<String> {
    let Some(fields) = json::fields(value.get(), ["id", "event"]) else {
        return Some("it is not an event: it is not a JSON object".into());
    };
    let is_filled = |field| json::string(field).is_some_and(|text| !text.is_empty());
    let names = ["id", "event"].into_iter().zip(fields);
    let missing = names.into_iter().find(|(_, field)| !is_filled(*field))?;
    Some(format!("it is not an event: it has no `{}`", missing.0))
}

/// Returns the reason why a line is not an event; `None` if it is one.
pub fn fault_of_line(line: &[u8]) -> Option<String> {
    let Ok(text) = std::str::from_utf8(line) else {
        return Some("it is not UTF-8 text".into());
    };
    match serde_json::from_str::<&RawValue>(text) {
        Ok(value) => not_an_event(value),
        Err(_) => Some("it is not JSON: send one event a line".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_event_if_it_is_an_object_with_an_id_and_a_type() {
        for (line, fault) in [
            (&br#"{"id":"a","event":"x"}"#[..], None),
            (br#" {"id":"op_1","event":"rollcall.x","data":7} "#, None),
            (b"", Some("not JSON")),
            (b"\xff", Some("not UTF-8")),
            (br#"{"id":"a","event":"x"} {}"#, Some("not JSON")),
            (br#"[{"id":"a","event":"x"}]"#, Some("not a JSON object")),
            (br#"{"id":7,"event":"x"}"#, Some("has no `id`")),
            (br#"{"id":"a","event":""}"#, Some("has no `event`")),
        ] {
            let found = fault_of_line(line);
            let fits = match (&found, fault) {
                (Some(found), Some(fault)) => found.contains(fault),
                (found, fault) => found.is_none() && fault.is_none(),
            };
            assert!(fits, "{}: {found:?}", String::from_utf8_lossy(line));
        }
    }
}
