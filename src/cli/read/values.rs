//! Comma-separated values, for spreadsheets.

use std::io::{self, StdoutLock};

use super::super::{Failure, unwritten};

/// A table on standard output, quoted where need be (<https://www.rfc-editor.org/rfc/rfc4180>, but that a line ends in a line feed only).
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
    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<(), Failure> {
        self.0.write_record(cells).map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(error) => unwritten(&error),
            _ => Failure::Ours("a row has more or fewer values than there are columns".into()),
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
