//! Comma-separated values, for spreadsheets.

use std::borrow::Cow;
use std::io::{self, StdoutLock};

use super::super::{Failure, unwritten};

/// A table on standard output, quoted where need be (<https://www.rfc-editor.org/rfc/rfc4180>, but
/// that a line ends in a line feed only).
///
/// Cells hold what a company's directory said, and a spreadsheet calculates a cell that begins like
/// a formula. Such a one gets an apostrophe in front, unless it is a number
/// (<https://owasp.org/www-community/attacks/CSV_Injection>).
pub(super) struct Values(csv::Writer<StdoutLock<'static>>);

impl Values {
    /// A table under the names of its columns.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(super) fn begin(names: &[&str]) -> Result<Values, Failure> {
        let mut values = Values(csv::Writer::from_writer(io::stdout().lock()));
        values.row(names)?;
        Ok(values)
    }

    /// Adds a row, which has as many values as there are columns.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(super) fn row(
        &mut self,
        cells: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> Result<(), Failure> {
        let written = cells
            .into_iter()
            .try_for_each(|cell| self.0.write_field(harmless(cell.as_ref()).as_ref()));
        // Without fields the record ends; it is then that a row of another length is noticed.
        written.and_then(|()| self.0.write_record(None::<&[u8]>)).map_err(|error| {
            match error.into_kind() {
                csv::ErrorKind::Io(error) => unwritten(&error),
                _ => Failure::Ours("a row has more or fewer values than there are columns".into()),
            }
        })
    }

    /// Sees that all of it left.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub(super) fn end(mut self) -> Result<(), Failure> {
        self.0.flush().map_err(|error| unwritten(&error))
    }
}

/// With which characters a cell begins that a spreadsheet may calculate, or may cut down to one
/// that it does.
const FORMULA: &[u8] = b"=+-@\t\r\n";

/// A cell as it is written: an apostrophe before what a spreadsheet would calculate.
fn harmless(cell: &[u8]) -> Cow<'_, [u8]> {
    match cell.first() {
        Some(first) if FORMULA.contains(first) && !is_number(cell) => {
            Cow::Owned([b"'", cell].concat())
        }
        _ => Cow::Borrowed(cell),
    }
}

/// Whether a cell is a decimal number: digits, at most one sign, point and exponent, and nothing
/// else.
fn is_number(cell: &[u8]) -> bool {
    let plain = cell.iter().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte));
    plain && std::str::from_utf8(cell).is_ok_and(|cell| cell.parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_would_calculate_gets_an_apostrophe_and_a_number_none() {
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
