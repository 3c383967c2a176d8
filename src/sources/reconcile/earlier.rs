//! The ends that reconciliations of the last days recorded, read from the log.

use rollcall_projections::{Cut, EventFilter, EventType, Millis, Seq, Sight, Start};
use serde_json::value::RawValue;

use super::guard::{Earlier, WINDOW_DAYS};
use crate::engine::Engine;
use crate::json::{fields, fields_of, present, string};
use crate::log::ReadError;
use crate::time;

/// The records that are read at once.
const AT_ONCE: usize = 64;

const DAY_MS: Millis = 86_400_000;

/// Counts the ends that reconciliations recorded within the window before `now`. A run that was cut
/// off has no record of its end: its observations are counted themselves.
pub(super) fn earlier_ends(engine: &Engine, now: Millis) -> Result<Earlier, ReadError> {
    let since = now - WINDOW_DAYS * DAY_MS;
    let mut earlier = Earlier::default();
    let mut last = 0;
    each(engine, &[EventType::ReconciliationCompleted], 0, since, &mut |seq, body| {
        last = seq;
        let (users, directories) = ended_of(body);
        earlier.users += users;
        earlier.directories += directories;
    })?;
    let types = [EventType::UserObserved, EventType::DirectoryObserved];
    each(engine, &types, last, since, &mut |_, body| {
        let [event, data] = fields(body, ["event", "data"]).unwrap_or_default();
        let [there] = fields_of(data, ["present"]).unwrap_or_default();
        if there.is_some_and(|there| there.get() == "false") {
            let is_user =
                string(event).is_some_and(|event| event == EventType::UserObserved.name());
            let count = if is_user { &mut earlier.users } else { &mut earlier.directories };
            *count += 1;
        }
    })?;
    Ok(earlier)
}

/// Returns when the last run over all directories began, if one was recorded since a moment.
pub(super) fn last_whole_run(engine: &Engine, since: Millis) -> Result<Option<Millis>, ReadError> {
    let mut last = None;
    each(engine, &[EventType::ReconciliationCompleted], 0, since, &mut |_, body| {
        let [data] = fields(body, ["data"]).unwrap_or_default();
        let [started_at, only] =
            fields_of(data, ["started_at", "directory_id"]).unwrap_or_default();
        if present(only).is_none() {
            last = string(started_at).and_then(|text| time::parse(&text)).or(last);
        }
    })?;
    Ok(last)
}

/// Reads how many users and directories the record of a run says that it ended.
fn ended_of(body: &str) -> (u64, u64) {
    let [data] = fields(body, ["data"]).unwrap_or_default();
    let [ended] = fields_of(data, ["ended"]).unwrap_or_default();
    let counts = fields_of(ended, ["users", "directories"]).unwrap_or_default();
    let number = |value: Option<&RawValue>| value.and_then(|value| value.get().parse().ok());
    let [users, directories] = counts.map(|count| number(count).unwrap_or(0));
    (users, directories)
}

/// Reads the events of some types after a record that occurred since a moment.
fn each(
    engine: &Engine,
    types: &[EventType],
    after: Seq,
    since: Millis,
    read: &mut dyn FnMut(Seq, &str),
) -> Result<(), ReadError> {
    let event_types: Vec<String> = types.iter().map(|known| known.name().to_owned()).collect();
    let filter = EventFilter {
        event_types: &event_types,
        organization: None,
        from: Some(since),
        until: None,
    };
    let mut start = Some(Start::After(after));
    while let Some(place) = start {
        let views = engine.views();
        let step = views.seen_by(&Sight::All).events_step(&filter, Cut::LATEST, place, AT_ONCE);
        drop(views);
        let seqs: Vec<Seq> = step.items.iter().map(|row| row.seq).collect();
        for (seq, body) in seqs.iter().zip(engine.load_bodies(&seqs)?) {
            read(*seq, std::str::from_utf8(&body).unwrap_or_default());
        }
        start = step.next;
    }
    Ok(())
}
