//! The events that `rollcall send` and `rollcall import` read: one a line, or lists of them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Failure;
use super::table::harmless;
use crate::json;
use crate::verify::not_an_event;

/// The longest line, and the longest list that is written over several lines, in bytes.
const LINE_BYTES_MAX: u64 = 256 << 20;

/// The byte order mark with which some editors and spreadsheets begin a file.
const MARK: &[u8] = b"\xef\xbb\xbf";

const CUT_OFF: &str = "the JSON ends too early: the line is cut off, or the event is written over \
                       several lines; write one event a line, for example with `jq -c .`";

/// Ends the reading of events early.
pub(super) enum Stop {
    /// No further events are wanted.
    Enough,
    /// The input has something else at this line.
    Wrong { line: u64, reason: String },
    /// The input cannot be read.
    Unreadable(io::Error),
}

impl Stop {
    /// Returns the reason as a failure; `None` if the reading was stopped on purpose. `name` is that
    /// of the input.
    pub(super) fn failure(self, name: &str) -> Option<Failure> {
        let message = match self {
            Stop::Enough => return None,
            Stop::Wrong { line, reason } => format!("{name}: line {line}: {reason}"),
            Stop::Unreadable(error) => format!("cannot read {name}: {error}"),
        };
        Some(Failure::Caller(harmless(&message)))
    }
}

/// The source of events, and its length in bytes if it is known.
pub(super) struct Input {
    /// As errors name it.
    pub(super) name: String,
    pub(super) reader: Box<dyn BufRead + Send>,
    pub(super) bytes: Option<u64>,
}

impl Input {
    /// Opens the file, or else standard input. A file is checked whole, so that nothing is sent
    /// of one that has an error, or an event over a number of bytes. A pipe can be read only once,
    /// so that it is not.
    ///
    /// # Errors
    /// The caller's, if the file cannot be read, or has something that is not such an event.
    pub(super) fn open(file: Option<&Path>, event_bytes_max: usize) -> Result<Input, Failure> {
        let Some(path) = file else {
            let reader = Box::new(BufReader::new(io::stdin()));
            return Ok(Input { name: "standard input".into(), reader, bytes: None });
        };
        let name = format!("`{}`", path.display());
        let unreadable = |error| Failure::Caller(harmless(&format!("cannot read {name}: {error}")));
        let mut file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Ok(Input { name, reader: Box::new(BufReader::new(file)), bytes: None });
        }
        let read = each_event(BufReader::new(&file), event_bytes_max, |_| true);
        if let Some(failure) = read.err().and_then(|stop| stop.failure(&name)) {
            return Err(failure.with("nothing was sent"));
        }
        file.rewind().map_err(unreadable)?;
        Ok(Input { name, reader: Box::new(BufReader::new(file)), bytes: Some(metadata.len()) })
    }
}

/// Passes each event to `each`, until it returns false.
///
/// A line is an event, a list of events, or a page of `/events`. A list or page may also be written
/// over several lines. Empty lines and byte order marks are skipped.
///
/// # Errors
/// [`Stop`], at the first line that is something else, or that has an event over `event_bytes_max`
/// bytes. All events before it were passed on.
pub(super) fn each_event(
    mut input: impl BufRead,
    event_bytes_max: usize,
    mut each: impl FnMut(&[u8]) -> bool,
) -> Result<(), Stop> {
    let (mut line, mut number) = (Vec::new(), 0);
    while read_line(&mut input, &mut line, number + 1)? {
        number += 1;
        let text = trimmed(&line, number)?;
        if text.is_empty() {
            continue;
        }
        if is_incomplete(text) {
            let list = read_list(&mut input, text, number)?;
            each_of_list(&list, number, event_bytes_max, &mut each)?;
            number += line_breaks(list.get());
            read_line(&mut input, &mut line, number)?;
            if !trimmed(&line, number)?.is_empty() {
                return Err(wrong(number, "text follows the end of a list; begin a new line"));
            }
        } else {
            each_of_line(text, number, event_bytes_max, &mut each)?;
        }
    }
    Ok(())
}

/// Reads one line with its end; false if there is none.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>, number: u64) -> Result<bool, Stop> {
    line.clear();
    let read = input.take(LINE_BYTES_MAX).read_until(b'\n', line).map_err(Stop::Unreadable)?;
    bounded(line, number)?;
    Ok(read > 0)
}

/// Reads the value that the line `number` begins with `begun`, and no byte behind it.
fn read_list(input: &mut impl BufRead, begun: &str, number: u64) -> Result<Box<RawValue>, Stop> {
    let source = begun.as_bytes().chain(&b"\n"[..]).chain(input.take(LINE_BYTES_MAX));
    let mut deserializer = serde_json::Deserializer::from_reader(source);
    Box::<RawValue>::deserialize(&mut deserializer)
        .ok()
        .filter(|value| elements(value).is_some())
        .ok_or_else(|| wrong(number, CUT_OFF))
}

fn bounded(text: &[u8], line: u64) -> Result<(), Stop> {
    if (text.len() as u64) < LINE_BYTES_MAX {
        return Ok(());
    }
    Err(wrong(line, format!("it is longer than {} MiB; split the file", LINE_BYTES_MAX >> 20)))
}

/// Returns the text without a byte order mark, its line break, and white space around it.
fn trimmed(line: &[u8], number: u64) -> Result<&str, Stop> {
    let line = line.strip_prefix(MARK).unwrap_or(line);
    let text = std::str::from_utf8(line)
        .map_err(|_| wrong(number, "it is not UTF-8 text; write the file as UTF-8"))?;
    Ok(text.trim_matches([' ', '\t', '\r', '\n']))
}

/// Returns true if the text is the beginning of a JSON value that goes on.
fn is_incomplete(text: &str) -> bool {
    serde_json::from_str::<&RawValue>(text).is_err_and(|error| error.is_eof())
}

fn each_of_line(
    text: &str,
    line: u64,
    event_bytes_max: usize,
    each: &mut impl FnMut(&[u8]) -> bool,
) -> Result<(), Stop> {
    let value: &RawValue = serde_json::from_str(text).map_err(|error| {
        wrong(line, if error.is_eof() { CUT_OFF } else { "it is not JSON; write one event a line" })
    })?;
    each_of_value(value, |_| line, event_bytes_max, each)
}

/// Passes on the events of a list that is written over several lines, the first of them `line`.
fn each_of_list(
    list: &RawValue,
    line: u64,
    event_bytes_max: usize,
    each: &mut impl FnMut(&[u8]) -> bool,
) -> Result<(), Stop> {
    let text = list.get();
    let line_of = |part: &RawValue| {
        let offset = (part.get().as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        line + text.get(..offset).map_or(0, line_breaks)
    };
    each_of_value(list, line_of, event_bytes_max, each)
}

fn line_breaks(text: &str) -> u64 {
    text.bytes().filter(|byte| *byte == b'\n').count() as u64
}

/// Passes on the events of a value. `line_of` counts the lines before an event, so that only an
/// error asks for it.
fn each_of_value(
    value: &RawValue,
    line_of: impl Fn(&RawValue) -> u64,
    event_bytes_max: usize,
    each: &mut impl FnMut(&[u8]) -> bool,
) -> Result<(), Stop> {
    let events = elements(value).unwrap_or_else(|| vec![value]);
    // A list is checked whole, so that the events before an error are not sent without the rest.
    for event in &events {
        if let Some(reason) = not_an_event(event) {
            return Err(wrong(line_of(event), reason));
        }
    }
    for event in events {
        let text = event.get().as_bytes();
        let bytes = text.len();
        if bytes > event_bytes_max {
            let reason =
                format!("the event has {bytes} bytes, and at most {event_bytes_max} are taken");
            return Err(wrong(line_of(event), reason));
        }
        if !each(text) {
            return Err(Stop::Enough);
        }
    }
    Ok(())
}

/// Returns the elements of a list, or of a page of the API; `None` for any other value.
fn elements(value: &RawValue) -> Option<Vec<&RawValue>> {
    if let Some(elements) = json::array(Some(value)) {
        return Some(elements);
    }
    let [object, data] = json::fields(value.get(), ["object", "data"])?;
    if json::string(object)? == "list" { json::array(data) } else { None }
}

fn wrong(line: u64, reason: impl Into<String>) -> Stop {
    Stop::Wrong { line, reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = r#"{"id":"a","event":"x","data":{"n":1.10}}"#;
    const B: &str = r#"{"id":"b","event":"x"}"#;

    /// Returns the events of a text, and the message with which it ends.
    fn read(text: &[u8]) -> (Vec<String>, String) {
        read_up_to(text, usize::MAX)
    }

    /// Returns the same for events up to a number of bytes.
    fn read_up_to(text: &[u8], event_bytes_max: usize) -> (Vec<String>, String) {
        let mut events = Vec::new();
        let end = each_event(text, event_bytes_max, |event| {
            events.push(String::from_utf8(event.to_owned()).unwrap());
            true
        });
        let message = match end.err().and_then(|stop| stop.failure("input")) {
            Some(Failure::Caller(message)) => message,
            _ => String::new(),
        };
        (events, message)
    }

    #[test]
    fn each_form_of_a_list_gives_the_bytes_of_its_events() {
        for text in [
            format!("{A}\n{B}"),
            format!("{A}\n\n  {B} \n\n"),
            format!("{A}\r\n{B}\r\n"),
            format!("\u{feff}{A}\r\n\u{feff}{B}"),
            format!("[{A},{B}]"),
            format!("[{A}]\n[]\n[{B}]\n"),
            format!("\u{feff}[\n  {A},\n  {B}\n]\n"),
            format!("[{A},\n{B}]"),
            format!("[\n{A}\n]\n{B}\n"),
            format!("[\n{A}\n]\r\n[\n{B}\n]"),
            format!(r#"{{"object":"list","data":[{A},{B}],"list_metadata":{{"after":null}}}}"#),
            format!(
                "{{\"object\":\"list\",\"data\":[{A}]}}\n{{\"data\":[{B}],\"object\":\"list\"}}\n"
            ),
            format!("{{\n\"data\": [\n{A},\n{B}\n],\n\"object\": \"list\"\n}}\n"),
        ] {
            assert_eq!(read(text.as_bytes()), (vec![A.into(), B.into()], String::new()), "{text}");
        }
        for empty in ["", "\n\r\n", "\u{feff}", "[]", "{\"object\":\"list\",\"data\":[]}"] {
            assert_eq!(read(empty.as_bytes()), (Vec::new(), String::new()), "{empty:?}");
        }
    }

    #[test]
    fn an_event_of_a_list_is_sent_as_it_is_written() {
        let (events, _) = read(b"[\n{\n \"id\": \"a\",\r\n \"event\": \"x\"}\n]");
        assert_eq!(events, ["{\n \"id\": \"a\",\r\n \"event\": \"x\"}"]);
    }

    #[test]
    fn anything_else_is_refused_with_its_line() {
        for (text, sent, line, reason) in [
            (format!("{A}\n{}", &B[..9]), 1, 2, "ends too early"),
            (A[..20].to_owned(), 0, 1, "ends too early"),
            (format!("{A}\n\nhello\n{B}"), 1, 3, "not JSON"),
            (format!("{A} {B}"), 0, 1, "not JSON"),
            ("{\n  \"id\": \"a\",\n  \"event\": \"x\"\n}\n".into(), 0, 1, "jq -c"),
            (format!("\n{A}\n{{\n\"id\":\"b\"}}"), 1, 3, "ends too early"),
            (format!("[\n{A},\n{B}"), 0, 1, "ends too early"),
            (format!("[\n{A}\n] {B}"), 1, 3, "follows the end"),
            (format!("[\n{A}\n]\n{{\n"), 1, 4, "ends too early"),
            (format!("[\n{A},\n7\n]"), 0, 3, "not a JSON object"),
            (format!("{B}\n[{A},{{\"id\":\"c\"}}]"), 1, 2, "has no `event`"),
            (r#"{"event":"x"}"#.into(), 0, 1, "has no `id`"),
            (r#"{"id":"","event":"x"}"#.into(), 0, 1, "has no `id`"),
            (r#"{"id":7,"event":"x"}"#.into(), 0, 1, "has no `id`"),
            (r#"{"id":"a","event":null}"#.into(), 0, 1, "has no `event`"),
            (r#"{"object":"list","data":{}}"#.into(), 0, 1, "has no `id`"),
            (r#"{"data":[]}"#.into(), 0, 1, "has no `id`"),
            (format!("{B}\n\"x\""), 1, 2, "not a JSON object"),
            ("null".into(), 0, 1, "not a JSON object"),
        ] {
            let (events, message) = read(text.as_bytes());
            assert_eq!(events.len(), sent, "{text}: {message}");
            assert!(message.starts_with(&format!("input: line {line}: ")), "{text}: {message}");
            assert!(message.contains(reason), "{text}: {message}");
        }
        // Windows PowerShell writes UTF-16.
        assert!(read(b"\xff\xfe{\0}\0").1.starts_with("input: line 1: it is not UTF-8"));
    }

    #[test]
    fn each_event_is_found_at_its_line() {
        let (fitting, bytes_max) = ([A, A, B, B], A.len());
        let text = |[first, second, third, last]: [&str; 4]| {
            format!("\n{first}\n[{second},\n{third}\n]\n{last}")
        };
        let all = (fitting.map(str::to_owned).to_vec(), String::new());
        assert_eq!(read_up_to(text(fitting).as_bytes(), bytes_max), all);
        let large = A.replace("1.10", "1.100");
        for (at, line) in [2, 3, 4, 6].into_iter().enumerate() {
            let mut events = fitting;
            events[at] = &large;
            let (read, message) = read_up_to(text(events).as_bytes(), bytes_max);
            assert_eq!(read, fitting[..at]);
            let bytes = bytes_max + 1;
            let reason = format!("the event has {bytes} bytes, and at most {bytes_max} are taken");
            assert_eq!(message, format!("input: line {line}: {reason}"));
        }
    }

    #[test]
    fn reading_ends_when_no_more_is_wanted() {
        let mut count = 0;
        let end = each_event(format!("{A}\n{B}\nno event").as_bytes(), usize::MAX, |_| {
            count += 1;
            count < 2
        });
        assert!(matches!(end, Err(Stop::Enough)) && count == 2);
    }
}
