//! Files of comma-separated values with a line of headers: users of the application, and links.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::super::Failure;
use super::super::table::harmless;

/// The largest file, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The byte order mark with which spreadsheets begin a file.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The longest id, in bytes.
const ID_BYTES_MAX: usize = 255;

/// A column by its header.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) name: &'static str,
    /// Another header that means the same; the same one if there is none.
    pub(super) alias: &'static str,
    pub(super) form: Form,
}

/// The form of a column's cells, as the server takes them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An id of the application's own.
    OwnId,
    /// An id of a source.
    Id,
    /// Any text, also an empty one.
    Text,
}

impl Form {
    /// Returns the reason why a cell does not have the form; `None` if it has.
    fn fault(self, cell: &str) -> Option<&'static str> {
        let is_own = self == Form::OwnId;
        match () {
            () if self == Form::Text => None,
            () if cell.is_empty() => Some("is empty"),
            () if cell.len() > ID_BYTES_MAX => Some("has more than 255 bytes"),
            () if is_own && cell.chars().any(char::is_control) => Some("has a control character"),
            () if is_own && cell.trim() != cell => Some("has white space around it: remove it"),
            () => None,
        }
    }
}

/// The id of a user of the application.
pub(super) const USER_ID: Header =
    Header { name: "user_id", alias: "app_user_id", form: Form::OwnId };

/// A row, and the line on which it is.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) cells: [String; 2],
}

/// Reads two columns of a file, or of standard input for `-`. Other columns are ignored, and so are
/// empty lines. Cells are taken as they are, with the white space around them.
///
/// # Errors
/// The caller's, if the file cannot be read, lacks a column, has no row, or has a cell of another
/// form than its column.
pub(super) fn read(path: &Path, headers: [Header; 2]) -> Result<Vec<Line>, Failure> {
    let bytes = bytes_of(path).map_err(|error| {
        Failure::Caller(format!("cannot read {}: {error}", harmless(&name_of(path))))
    })?;
    parse(&bytes, headers).map_err(|error| fault(path, &error))
}

/// Returns what is wrong with a file as a failure that names it.
pub(super) fn fault(path: &Path, error: &str) -> Failure {
    Failure::Caller(format!("{}: {}", harmless(&name_of(path)), harmless(error)))
}

fn name_of(path: &Path) -> String {
    if path == Path::new("-") {
        "standard input".to_owned()
    } else {
        format!("`{}`", path.display())
    }
}

fn bytes_of(path: &Path) -> io::Result<Vec<u8>> {
    let input: Box<dyn Read> =
        if path == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(path)?) };
    let mut bytes = Vec::new();
    input.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::other("it is larger than 256 MiB: split it"));
    }
    Ok(bytes)
}

fn parse(bytes: &[u8], headers: [Header; 2]) -> Result<Vec<Line>, String> {
    // The reader numbers a line that follows a carriage return like the one before it.
    let bytes: Vec<u8> = without_returns(bytes.strip_prefix(MARK).unwrap_or(bytes));
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let first = reader.headers().map_err(|error| said(&error))?.clone();
    let columns = headers.map(|header| place_of(&first, header));
    let [Some(left), Some(right)] = columns else {
        let names = headers.map(|header| format!("`{}`", header.name)).join(" and ");
        return Err(format!("its first line must have the columns {names}"));
    };
    let mut lines = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| said(&error))?;
        let number = record.position().map_or(0, csv::Position::line);
        let cell = |column: usize| record.get(column).unwrap_or("").to_owned();
        let cells = [cell(left), cell(right)];
        let faults = headers.iter().zip(&cells);
        let mut faults =
            faults.filter_map(|(header, cell)| Some((header, header.form.fault(cell)?)));
        if let Some((header, fault)) = faults.next() {
            return Err(format!("line {number}: `{}` {fault}", header.name));
        }
        lines.push(Line { number, cells });
    }
    if lines.is_empty() { Err("it has no row".into()) } else { Ok(lines) }
}

/// Returns a text whose lines end in a line feed only.
fn without_returns(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        if *byte != b'\r' || bytes.get(at + 1) != Some(&b'\n') {
            kept.push(*byte);
        }
    }
    kept
}

/// Returns the place of a column, whose header may be written in capitals.
fn place_of(first: &csv::StringRecord, header: Header) -> Option<usize> {
    let is = |cell: &str, name: &str| cell.trim().eq_ignore_ascii_case(name);
    let place = |name: &str| first.iter().position(|cell| is(cell, name));
    place(header.name).or_else(|| place(header.alias))
}

/// Says what is wrong with a row, without its text.
fn said(error: &csv::Error) -> String {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        csv::ErrorKind::Utf8 { .. } => format!("line {line}: it is not UTF-8"),
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("line {line}: it has {len} cells, and the first line has {expected_len}")
        }
        _ => format!("line {line}: it cannot be read as comma-separated values"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMAIL: Header = Header { name: "email", alias: "email", form: Form::Text };

    fn read(text: &str) -> Result<Vec<(u64, [String; 2])>, String> {
        let lines = parse(text.as_bytes(), [USER_ID, EMAIL])?;
        Ok(lines.into_iter().map(|line| (line.number, line.cells)).collect())
    }

    #[test]
    fn columns_are_found_by_their_headers() {
        let expected = Ok(vec![(2, ["7".to_owned(), "ana@x.example".to_owned()])]);
        for text in [
            "user_id,email\n7,ana@x.example\n",
            "\u{feff}user_id,email\r\n7,ana@x.example\r\n\r\n",
            "name,Email , app_user_id\n\"A, B\",ana@x.example,7",
            "user_id,email\n\"7\",\"ana@x.example\"",
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn cells_are_taken_as_they_are() {
        let text = "user_id,email\n7, ana@x.example \n8,\n\"9\",\"\t\"\n";
        let cells = [(2, ["7", " ana@x.example "]), (3, ["8", ""]), (4, ["9", "\t"])];
        assert_eq!(
            read(text),
            Ok(cells.map(|(line, cells)| (line, cells.map(str::to_owned))).into())
        );
        let user = Header { name: "user", alias: "user", form: Form::Id };
        let lines = parse(b"user_id,user\n7, \x07u \n", [USER_ID, user]).unwrap();
        assert_eq!(lines[0].cells, ["7", " \u{7}u "]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, error) in [
            ("", "its first line must have the columns `user_id` and `email`"),
            ("id,email\n7,a", "its first line must have the columns `user_id` and `email`"),
            ("user_id,email\n", "it has no row"),
            ("user_id,email\n7,a\n,b\n", "line 3: `user_id` is empty"),
            (
                "user_id,email\n7,a\n8 ,b\n",
                "line 3: `user_id` has white space around it: remove it",
            ),
            ("user_id,email\n\"7\n8\",b\n", "line 2: `user_id` has a control character"),
            (
                format!("user_id,email\n{},b\n", "x".repeat(256)).as_str(),
                "line 2: `user_id` has more than 255 bytes",
            ),
            ("user_id,email\n7\n", "line 2: it has 1 cells, and the first line has 2"),
        ] {
            assert_eq!(read(text), Err(error.to_owned()), "{text}");
        }
        let latin = parse(b"user_id,email\n7,\xe9\n", [USER_ID, EMAIL]).map(|lines| lines.len());
        assert_eq!(latin, Err("line 2: it is not UTF-8".into()));
    }
}
