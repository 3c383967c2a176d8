//! The newest record that was pulled, from which pulling goes on if its cursor is lost.

use std::cell::Cell;

use rollcall_projections::{Cut, Millis, Seq, Sight};

use super::Engine;
use crate::json;
use crate::log::{ReadError, Record};
use crate::verify::{Proof, extract_from};

/// The number of records that are read at once.
const STEP: u64 = 1024;
const STEP_BYTES_MAX: usize = 8 << 20;

/// An event that the source sent.
pub struct SentEvent {
    /// Its id.
    pub id: String,
    /// When it occurred.
    pub occurred_at: Millis,
}

impl Engine {
    /// Returns true if a record after `after` was sent by the source: by webhook, or pulled. Blocks
    /// while it reads them.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn has_sent(&self, after: Seq) -> Result<bool, ReadError> {
        let sent = self.newest_of(after, Millis::MIN, &|record| was_sent(record).then_some(()))?;
        Ok(sent.is_some())
    }

    /// Returns the newest event, by webhook or pulled, of a directory which is there and fits.
    /// Blocks while it reads the log, the whole if it has none.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn newest_sent(&self, fits: &dyn Fn(&str) -> bool) -> Result<Option<SentEvent>, ReadError> {
        self.newest_of(0, Millis::MIN, &|record| self.sent(record, fits))
    }

    /// Reads a record as an event that the source sent about a directory which is there and fits.
    fn sent(&self, record: &Record, fits: &dyn Fn(&str) -> bool) -> Option<SentEvent> {
        if !was_sent(record) {
            return None;
        }
        let facts = extract_from(&record.proof, &record.body).facts;
        let occurred_at = facts.occurred_at?;
        let text = std::str::from_utf8(&record.body).ok()?;
        let [id, event, data] = json::present_fields(text, ["id", "event", "data"])?;
        let [own, home] = json::present_fields_of(data, ["id", "directory_id"])?;
        let is_directory = json::string(event)?.starts_with("dsync.activated");
        let directory = json::string(if is_directory { own } else { home })?;
        if !fits(&directory) {
            return None;
        }
        let views = self.views();
        let is_there = views.seen_by(&Sight::All).directory(&directory, Cut::LATEST).is_some();
        is_there.then_some(SentEvent { id: json::string(id)?.into_owned(), occurred_at })
    }

    /// Returns the moment of the newest record that was pulled from `url`: when it occurred or was
    /// pulled, whichever is earlier. Another Rollcall may have listed it before older ones. Looks no
    /// further back than to records from `since` on. Blocks while it reads the log.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn newest_pulled(&self, url: &str, since: Millis) -> Result<Option<Millis>, ReadError> {
        let newest = Cell::new(None);
        self.newest_of(0, since, &|record| {
            if let Proof::Pulled { url: from, pulled_at, .. } = &record.proof
                && **from == *url
            {
                let occurred_at = extract_from(&record.proof, &record.body).facts.occurred_at;
                let moment = occurred_at.unwrap_or(*pulled_at).min(*pulled_at);
                newest.set(newest.get().max(Some(moment)));
            }
            // None of those that were recorded before this one is newer.
            (newest.get() >= Some(record.recorded_at)).then_some(())
        })?;
        Ok(newest.get())
    }

    /// Returns what `read` makes of the newest record from which it makes anything. Looks no further
    /// back than to the record after `after`, and to records from `since` on.
    fn newest_of<T>(
        &self,
        after: Seq,
        since: Millis,
        read: &dyn Fn(&Record) -> Option<T>,
    ) -> Result<Option<T>, ReadError> {
        let mut end = self.log.head();
        while end > after {
            let start = end.saturating_sub(STEP).max(after);
            let (newest, first_recorded_at) = self.newest_within(start, end, read)?;
            if newest.is_some() || first_recorded_at < since {
                return Ok(newest);
            }
            end = start;
        }
        Ok(None)
    }

    /// Looks through the records after `start` up to `end`. Returns as well when the first of them
    /// was recorded.
    fn newest_within<T>(
        &self,
        start: Seq,
        end: Seq,
        read: &dyn Fn(&Record) -> Option<T>,
    ) -> Result<(Option<T>, Millis), ReadError> {
        let (mut newest, mut first_recorded_at, mut at) = (None, None, start);
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let records = self.log.read(at, left, STEP_BYTES_MAX)?;
            let Some(last) = records.last() else { break };
            at = last.seq;
            first_recorded_at =
                first_recorded_at.or(records.first().map(|first| first.recorded_at));
            newest = records.iter().rev().find_map(read).or(newest);
        }
        Ok((newest, first_recorded_at.unwrap_or(Millis::MIN)))
    }
}

/// Tells if a record was sent by the source, so that it is of the source's environment. One that was
/// imported or observed may be of any.
fn was_sent(record: &Record) -> bool {
    matches!(record.proof, Proof::Webhook { .. } | Proof::Pulled { .. })
}
