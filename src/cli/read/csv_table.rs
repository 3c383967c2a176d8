//! Comma-separated values, for spreadsheets.

use std::borrow::Cow;
use std::io::{self, StdoutLock};

use super::super::table::{harmless as shown, has_effect};
use super::super::{Failure, unwritten};

/// Writes a table to standard output as in <https://www.rfc-editor.org/rfc/rfc4180>, except that
/// lines end in a line feed only.
///
/// Cells hold text from a company's directory, and a spreadsheet would calculate a cell that begins
/// like a formula. Such a cell gets an apostrophe in front, unless it is a number
/// (<https://owasp.org/www-community/attacks/CSV_Injection>). Control characters, line breaks among
/// them, are written as escapes: the table may be shown on a terminal.
pub(in super::super) struct CsvTable(csv::Writer<StdoutLock<'static>>);

impl CsvTable {
    /// Begins a table with the names of its columns.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(in super::super) fn begin(names: &[&str]) -> Result<CsvTable, Failure> {
        let mut table = CsvTable(csv::Writer::from_writer(io::stdout().lock()));
        table.row(names)?;
        Ok(table)
    }

    /// Adds a row, which must have one value for each column.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(in super::super) fn row(
        &mut self,
        cells: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<(), Failure> {
        let written = cells
            .into_iter()
            .try_for_each(|cell| self.0.write_field(escaped(&harmless(cell.as_ref())).as_ref()));
        // An empty record ends the row; only then does the writer compare its length.
        written.and_then(|()| self.0.write_record(None::<&[u8]>)).map_err(unwritten_row)
    }

    /// Adds a row whose cells another command reads again: they are written exactly as they are,
    /// but for control characters.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(in super::super) fn exact_row(
        &mut self,
        cells: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<(), Failure> {
        let written = cells
            .into_iter()
            .try_for_each(|cell| self.0.write_field(escaped(cell.as_ref()).as_ref()));
        written.and_then(|()| self.0.write_record(None::<&[u8]>)).map_err(unwritten_row)
    }

    /// Flushes the table.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(in super::super) fn end(mut self) -> Result<(), Failure> {
        self.0.flush().map_err(|error| unwritten(&error))
    }
}

fn unwritten_row(error: csv::Error) -> Failure {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => unwritten(&error),
        _ => Failure::Ours("a row does not have one value for each column".into()),
    }
}

/// Returns the cell without characters that control a terminal: they are written as escapes.
fn escaped(cell: &[u8]) -> Cow<'_, [u8]> {
    match std::str::from_utf8(cell) {
        Ok(text) if text.contains(has_effect) => Cow::Owned(shown(text).into()),
        _ => Cow::Borrowed(cell),
    }
}

/// The first characters of cells that a spreadsheet may calculate, as they are or after it trimmed
/// them.
const FORMULA: &[u8] = b"=+-@\t\r\n";

/// Returns the cell, with an apostrophe in front if a spreadsheet would calculate it.
fn harmless(cell: &[u8]) -> Cow<'_, [u8]> {
    match cell.first() {
        Some(first) if FORMULA.contains(first) && !is_number(cell) => {
            Cow::Owned([b"'", cell].concat())
        }
        _ => Cow::Borrowed(cell),
    }
}

/// Returns true for a decimal number. `inf` and `nan`, which parse as well, are not numbers here.
fn is_number(cell: &[u8]) -> bool {
    let plain = cell.iter().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte));
    plain && std::str::from_utf8(cell).is_ok_and(|cell| cell.parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_behind_the_apostrophe() {
        let cell = |cell: &str| {
            String::from_utf8(escaped(&harmless(cell.as_bytes())).into_owned()).unwrap()
        };
        assert_eq!(cell("a\u{1b}[2J\n\u{9b}\u{e9}"), r"a\u{1b}[2J\n\u{9b}é");
        assert_eq!(cell("\t=1"), r"'\t=1");
    }

    #[test]
    fn a_formula_gets_an_apostrophe_and_a_number_does_not() {
        for cell in [
            "=1+1",
            "=cmd|calc@x.example",
            "+49 30 1",
            "-2+3",
            "@SUM(A1)",
            "\t=1",
            "\r=1",
            "\n=1",
            "-",
            "+",
            "-inf",
            "-1e",
            "--1",
            "=",
            "-é",
        ] {
            assert_eq!(
                harmless(cell.as_bytes()).as_ref(),
                format!("'{cell}").as_bytes(),
                "{cell:?}"
            );
        }
        for cell in [
            "",
            "-1",
            "+1",
            "-1.5",
            "-1e-3",
            "0",
            "420",
            "ana@example.com",
            "a=b",
            "'=1",
            "\"=1\"",
            "[-1]",
            "2026-03-01T00:00:00.000Z",
            "ä",
        ] {
            assert_eq!(harmless(cell.as_bytes()).as_ref(), cell.as_bytes(), "{cell:?}");
        }
    }
}
