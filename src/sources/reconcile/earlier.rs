//! The ends that reconciliations of the last days recorded, read from the log.

use std::collections::BTreeSet;

use rollcall_projections::{
    Cut, EventFilter, EventRow, EventType, HeldKind, Millis, Seq, Sight, Start,
};
use serde_json::value::RawValue;

use super::guard::{Ended, WINDOW_DAYS};
use super::ours::Ours;
use super::trouble::Trouble;
use crate::engine::Engine;
use crate::json::{fields, fields_of, string};
use crate::time;

/// The records that are read at once.
const AT_ONCE: usize = 64;

const DAY_MS: Millis = 86_400_000;

/// The ends that reconciliations recorded within the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EarlierEnds {
    /// All of them.
    pub(super) all: Ended,
    /// Those of runs that were cut off, so that no record tells of them yet.
    pub(super) untold: Ended,
}

/// Counts the ends that reconciliations recorded within the window before `now`. The record of a run
/// tells its own, and those of runs before it that were cut off. What was observed since the last
/// record is looked at itself.
pub(super) fn earlier_ends(engine: &Engine, now: Millis) -> Result<EarlierEnds, Trouble> {
    let since = now - WINDOW_DAYS * DAY_MS;
    let mut told = Ended::default();
    let mut last = 0;
    let completed = &[EventType::ReconciliationCompleted];
    each_step(engine, completed, 0, Millis::MIN, &mut |rows| {
        last = rows.last().map_or(last, |row| row.seq);
        let recent = rows.iter().filter(|row| row.occurred_at >= since);
        let seqs: Vec<Seq> = recent.map(|row| row.seq).collect();
        for body in engine.load_bodies(&seqs)? {
            told = told.plus(ended_of(std::str::from_utf8(&body).unwrap_or_default()));
        }
        Ok(())
    })?;
    let mut untold = Ended::default();
    let types = [EventType::UserObserved, EventType::DirectoryObserved];
    each(engine, &types, last, Millis::MIN, &mut |row, body| {
        untold = untold.plus(ended_by(engine, row.seq, body, since)?);
        Ok(())
    })?;
    Ok(EarlierEnds { all: told.plus(untold), untold })
}

/// Counts the active users, and the directory, that end by the observation which is record `seq`.
/// One that was made before `since` ends none.
fn ended_by(engine: &Engine, seq: Seq, body: &str, since: Millis) -> Result<Ended, Trouble> {
    let [event, data] = fields(body, ["event", "data"]).unwrap_or_default();
    let [id, observed_at] = fields_of(data, ["id", "observed_at"]).unwrap_or_default();
    let observed_at = string(observed_at).and_then(|text| time::parse(&text));
    let Some(id) = string(id).filter(|_| observed_at >= Some(since)) else {
        return Ok(Ended::default());
    };
    let [before, after] =
        [seq - 1, seq].map(|known_at| Ours { engine, cut: Cut { known_at, ..Cut::LATEST } });
    let is_user = string(event).is_some_and(|event| event == EventType::UserObserved.name());
    if is_user {
        return Ok(Ended { users: u64::from(ends_user(before, after, &id)), directories: 0 });
    }
    let [was, is] = [before, after].map(|ours| ours.row(&id));
    let ends = match (was, is) {
        (Some(_), None) => true,
        (Some(was), Some(is)) => was.active && !is.active,
        (None, _) => false,
    };
    if !ends {
        return Ok(Ended::default());
    }
    let mut users = 0;
    for user in before.walk_rows(HeldKind::User, &id) {
        users += u64::from(user?.active);
    }
    Ok(Ended { users, directories: 1 })
}

/// Tells if an active user ended between two cuts: it is gone, inactive, or in another directory,
/// which is not active.
fn ends_user(before: Ours<'_>, after: Ours<'_>, id: &str) -> bool {
    let [was, is] = [before, after].map(|ours| ours.holding(HeldKind::User, id));
    was.filter(|was| was.active).is_some_and(|was| {
        let goes_on = is.is_some_and(|is| {
            let directory = || after.row(&is.directory);
            is.active
                && (is.directory == was.directory || directory().is_some_and(|row| row.active))
        });
        !goes_on
    })
}

/// Returns when the last run over all directories began, if one was recorded since a moment and
/// completed. If it held something, or could not compare a directory, there is none; nor if that is
/// so of the newest run of one directory since then.
pub(super) fn last_completed_run(
    engine: &Engine,
    since: Millis,
) -> Result<Option<Millis>, Trouble> {
    let mut last = None;
    // The directories whose newest run of their own left something open.
    let mut open: BTreeSet<String> = BTreeSet::new();
    each(engine, &[EventType::ReconciliationCompleted], 0, since, &mut |_, body| {
        let [data] = fields(body, ["data"]).unwrap_or_default();
        let names = ["started_at", "directory_id", "state", "held", "failed_directories"];
        let [started_at, only, state, held, failed] = fields_of(data, names).unwrap_or_default();
        // A record of an older version has no state.
        let has_completed = match string(state) {
            Some(state) => state == "completed",
            None => [(held, "0"), (failed, "[]")]
                .iter()
                .all(|(value, none)| value.is_none_or(|value| value.get() == *none)),
        };
        match string(only) {
            None => {
                let started_at = string(started_at).and_then(|text| time::parse(&text));
                last = started_at.filter(|_| has_completed);
                open.clear();
            }
            Some(only) if has_completed => {
                open.remove(&*only);
            }
            Some(only) => {
                open.insert(only.into_owned());
            }
        }
        Ok(())
    })?;
    Ok(last.filter(|_| open.is_empty()))
}

/// Reads how many users and directories the record of a run says that it ended.
fn ended_of(body: &str) -> Ended {
    let [data] = fields(body, ["data"]).unwrap_or_default();
    let [ended] = fields_of(data, ["ended"]).unwrap_or_default();
    let counts = fields_of(ended, ["users", "directories"]).unwrap_or_default();
    let number = |value: Option<&RawValue>| value.and_then(|value| value.get().parse().ok());
    let [users, directories] = counts.map(|count| number(count).unwrap_or(0));
    Ended { users, directories }
}

/// Reads the events of some types after a record that occurred since a moment.
fn each(
    engine: &Engine,
    types: &[EventType],
    after: Seq,
    since: Millis,
    read: &mut dyn FnMut(&EventRow, &str) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    each_step(engine, types, after, since, &mut |rows| {
        let seqs: Vec<Seq> = rows.iter().map(|row| row.seq).collect();
        for (row, body) in rows.iter().zip(engine.load_bodies(&seqs)?) {
            read(row, std::str::from_utf8(&body).unwrap_or_default())?;
        }
        Ok(())
    })
}

/// Walks over the same in ascending order, some at a time, without reading their bodies.
fn each_step(
    engine: &Engine,
    types: &[EventType],
    after: Seq,
    since: Millis,
    take: &mut dyn FnMut(&[EventRow]) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
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
        take(&step.items)?;
        start = step.next;
    }
    Ok(())
}
