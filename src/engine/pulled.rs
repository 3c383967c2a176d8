//! The newest record that was pulled, from which pulling goes on if its cursor is lost.

use rollcall_projections::{Millis, Seq};

use super::Engine;
use crate::log::ReadError;
use crate::verify::{Proof, extract_from};

/// The number of records that are read at once.
const STEP: u64 = 1024;
const STEP_BYTES_MAX: usize = 8 << 20;

impl Engine {
    /// Returns the moment of the newest record that was pulled from `url`: when it occurred or was
    /// pulled, whichever is earlier. Looks no further back than to records from `since` on. Blocks
    /// while it reads the log.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn newest_pulled(&self, url: &str, since: Millis) -> Result<Option<Millis>, ReadError> {
        let mut end = self.log.head();
        while end > 0 {
            let start = end.saturating_sub(STEP);
            let (newest, oldest_recorded_at) = self.newest_pulled_in(url, start, end)?;
            if newest.is_some() || oldest_recorded_at < since {
                return Ok(newest);
            }
            end = start;
        }
        Ok(None)
    }

    /// Looks through the records after `start` up to `end`. Returns as well when the first of them
    /// was recorded.
    fn newest_pulled_in(
        &self,
        url: &str,
        start: Seq,
        end: Seq,
    ) -> Result<(Option<Millis>, Millis), ReadError> {
        let (mut newest, mut first_recorded_at, mut at) = (None, None, start);
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let records = self.log.read(at, left, STEP_BYTES_MAX)?;
            let Some(last) = records.last() else { break };
            at = last.seq;
            for record in &records {
                first_recorded_at.get_or_insert(record.recorded_at);
                let Proof::Pulled { url: from, pulled_at, .. } = &record.proof else { continue };
                if **from == *url {
                    let occurred_at = extract_from(&record.proof, &record.body).facts.occurred_at;
                    newest = Some(occurred_at.unwrap_or(*pulled_at).min(*pulled_at));
                }
            }
        }
        Ok((newest, first_recorded_at.unwrap_or(Millis::MIN)))
    }
}
