//! What somebody lost with access, and on which records the end rests.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::super::Failure;
use super::super::super::client::Client;
use super::super::listing::{Kind, List, Query};
use super::super::print::texts;
use super::person::named;
use super::timeline::{Cause, Field, Group, Step, What, read};
use crate::time;

/// Types of events that put a directory out of use.
const OUT_OF_USE: &str = "dsync.deactivated,dsync.deleted,rollcall.directory.deleted";

const LOSSES: Kind = Kind {
    path: "/rollcall/v1/deprovisionings",
    nouns: ["loss", "losses"],
    scope: "",
    columns: &[],
    row: |_| Vec::new(),
};

const EVENTS: Kind = Kind {
    path: "/events",
    nouns: ["event", "events"],
    scope: "",
    columns: &[],
    row: |_| Vec::new(),
};

/// The end of somebody's access.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// The roles held the millisecond before, the highest first.
    pub(super) roles: Vec<String>,
    /// The groups it was in the millisecond before, by id.
    pub(super) groups: Vec<Group>,
    /// Why, in words that follow "lost access:".
    pub(super) why: String,
    /// The records on which it rests, the deciding one first.
    pub(super) records: Vec<Record>,
}

/// A record, and its part in the end: words that follow "record 7,".
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) seq: u64,
    pub(super) part: String,
}

impl Record {
    /// The record of an event that decides by itself.
    pub(super) fn of(cause: &Cause, part: &str) -> Record {
        Record { seq: cause.seq, part: part.into() }
    }
}

#[derive(Deserialize)]
struct Loss {
    roles: Vec<String>,
    groups: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    id: String,
    name: String,
}

/// A directory that is out of use, and the event that made it so.
struct OutOfUse {
    name: String,
    /// `deleted` or `deactivated`.
    how: &'static str,
    /// The record; `None` where no event tells.
    seq: Option<u64>,
}

impl Ending {
    /// What is known of the end of a user's access at `at` for a `reason` of the API. Two more
    /// questions where the reason is a directory's and the event the user's own, as after a move.
    ///
    /// # Errors
    /// If the server does not answer.
    pub(super) fn find(
        client: &Client,
        user: &str,
        moment: &Query,
        steps: &[Step],
        end: (&str, &str, &Cause),
    ) -> Result<Ending, Failure> {
        let (at, reason, cause) = end;
        let filters = Query::default()
            .with("user", Some(user))
            .with("since", Some(at))
            .with("until", Some(at));
        let (losses, _) = List { kind: &LOSSES, filters, first: moment.clone(), limit: Some(1) }
            .collect(client, LOSSES.path)?;
        let Loss { roles, groups } = losses
            .first()
            .map_or(Ok(Loss { roles: Vec::new(), groups: Vec::new() }), |loss| read(loss))?;
        let groups = groups.into_iter().map(|Named { id, name }| Group { id, name }).collect();
        let mut records = vec![Record::of(cause, "by which access ended")];
        let why = match reason {
            "user_deleted" => "the user was deleted".to_owned(),
            "user_inactive" => "the user became inactive".to_owned(),
            "directory_deactivated" | "directory_deleted" if of_user(cause) => {
                let (directory, moved) = directory(steps, at, cause);
                let out = OutOfUse::find(client, &directory, at, moment)?;
                let by = out.seq.map_or(String::new(), |seq| format!(" by record {seq}"));
                records.extend(out.seq.map(|seq| Record {
                    seq,
                    part: format!("by which that directory had been {}", out.how),
                }));
                match moved {
                    true => format!("moved into {}, which was {}{by}", out.name, out.how),
                    false => format!("its directory {} was {}{by}", out.name, out.how),
                }
            }
            "directory_deactivated" | "directory_deleted" => {
                let before = steps.iter().rev().find(|step| {
                    step.at.as_str() <= at && step.cause.seq != cause.seq && tells(step)
                });
                records.extend(before.map(|step| {
                    Record::of(
                        &step.cause,
                        "the last to say before that the user is in that directory",
                    )
                }));
                let how = if reason == "directory_deleted" { "deleted" } else { "deactivated" };
                format!("its directory was {how}")
            }
            other => other.to_owned(),
        };
        Ok(Ending { roles, groups, why, records })
    }
}

/// Whether an event speaks of a user, and not of a directory.
fn of_user(cause: &Cause) -> bool {
    ["dsync.user.", "dsync.group."].iter().any(|kind| cause.event.starts_with(kind))
}

fn tells(step: &Step) -> bool {
    step.whats
        .iter()
        .any(|what| matches!(what, What::Version { change, .. } if change != "deleted"))
}

/// The directory that a user was said to be in at `at`, and whether the deciding event moved it
/// there. Empty where nothing was said.
fn directory(steps: &[Step], at: &str, cause: &Cause) -> (String, bool) {
    let (mut directory, mut moved) = (String::new(), false);
    for step in steps.iter().filter(|step| step.at.as_str() <= at) {
        for what in &step.whats {
            let What::Version { changed, .. } = what else { continue };
            for Field { values: [from, to], .. } in
                changed.iter().filter(|field| field.name == "directory_id")
            {
                directory = serde_json::from_str(to).unwrap_or_default();
                moved = step.cause.seq == cause.seq && from != "null";
            }
        }
    }
    (directory, moved)
}

impl OutOfUse {
    /// A directory that was out of use at `at`.
    fn find(
        client: &Client,
        directory: &str,
        at: &str,
        moment: &Query,
    ) -> Result<OutOfUse, Failure> {
        let known_at = moment.value("known_at").map(str::to_owned);
        let then = Query::default().with("as_of", Some(at)).with("known_at", known_at.clone());
        let filters = Query::default().with("events", Some(OUT_OF_USE));
        let (events, _) = List { kind: &EVENTS, filters, first: then, limit: None }
            .collect(client, EVENTS.path)?;
        let mut last: Option<[String; 3]> = None;
        for event in &events {
            let [id, kind, happened_at] = texts(event, ["id", "event", "created_at"]);
            let of = crate::json::fields(event.get(), ["data"])
                .and_then(|[data]| Some(texts(data?, ["id"]).concat()));
            if of.as_deref() == Some(directory)
                && last.as_ref().is_none_or(|[_, _, before]| *before <= happened_at)
            {
                last = Some([id, kind, happened_at]);
            }
        }
        let Some([id, kind, happened_at]) = last else {
            return Ok(OutOfUse { name: directory.to_owned(), how: "out of use", seq: None });
        };
        let before = time::parse(&happened_at)
            .and_then(|happened_at| happened_at.checked_sub(1))
            .map(time::format);
        let named = named(
            client,
            directory,
            &Query::default().with("as_of", before).with("known_at", known_at),
        )?;
        let name = if named.is_empty() { directory.to_owned() } else { named };
        let how = if kind == "dsync.deactivated" { "deactivated" } else { "deleted" };
        Ok(OutOfUse { name, how, seq: record_of(client, &id)? })
    }
}

/// The number of an event's record; `None` of an event whose id could be taken for another record's
/// number.
fn record_of(client: &Client, event: &str) -> Result<Option<u64>, Failure> {
    if event.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    #[derive(Deserialize)]
    struct Entry {
        seq: u64,
    }
    let entry = super::person::one(client, "/rollcall/v1/log/entries", event, &Query::default())?;
    entry.map(|entry: Box<RawValue>| read::<Entry>(&entry).map(|entry| entry.seq)).transpose()
}
