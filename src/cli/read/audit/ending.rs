//! The end of a user's access: what the user lost with it, and the records that prove it.

use rollcall_projections::{EventEffect, EventSubject, EventType};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::super::Failure;
use super::super::super::client::Client;
use super::super::listing::{List, Query};
use super::super::objects::{EventCause, NamedGroup, nested, parse};
use super::super::print::texts;
use super::LostAccess;
use super::profile::{directory_name, find_object, millisecond_before};
use super::timeline::{Step, UserChange};

/// The end of a user's access.
#[derive(Debug, Default)]
pub(super) struct EndOfAccess {
    /// The roles one millisecond before the end, the highest first.
    pub(super) roles: Vec<String>,
    /// The groups one millisecond before the end, by id.
    pub(super) groups: Vec<NamedGroup>,
    /// The reason, in words that follow "lost access:".
    pub(super) why: String,
    /// The records that prove it, the deciding one first.
    pub(super) records: Vec<ProofRecord>,
}

/// A record that proves a part of the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProofRecord {
    pub(super) seq: u64,
    /// The part that it proves, in words that follow "record 7,".
    pub(super) part: String,
}

impl ProofRecord {
    /// Returns the record of an event.
    pub(super) fn of(cause: &EventCause, part: &str) -> ProofRecord {
        ProofRecord { seq: cause.seq, part: part.into() }
    }
}

/// The roles and groups that a user lost with access.
#[derive(Default, Deserialize)]
struct ApiLoss {
    roles: Vec<String>,
    groups: Vec<NamedGroup>,
}

/// The reason for an end in words, and the record that it rests on besides the deciding one.
struct Explanation {
    why: String,
    record: Option<ProofRecord>,
}

impl From<&str> for Explanation {
    fn from(why: &str) -> Explanation {
        Explanation { why: why.to_owned(), record: None }
    }
}

impl EndOfAccess {
    /// Asks what a user lost with access. If the user was moved into a directory that was out of
    /// use, this asks about that directory as well.
    ///
    /// # Errors
    /// If the server does not answer.
    pub(super) fn find(
        client: &Client,
        user: &str,
        moment: &Query,
        steps: &[Step],
        lost: &LostAccess,
    ) -> Result<EndOfAccess, Failure> {
        let ApiLoss { roles, groups } = find_loss(client, user, moment, &lost.at)?;
        let Explanation { why, record } = explain(client, moment, steps, lost)?;
        let deciding = ProofRecord::of(&lost.cause, "by which access ended");
        let records = [deciding].into_iter().chain(record).collect();
        Ok(EndOfAccess { roles, groups, why, records })
    }
}

fn find_loss(client: &Client, user: &str, moment: &Query, at: &str) -> Result<ApiLoss, Failure> {
    let filters =
        Query::default().with("user", Some(user)).with("since", Some(at)).with("until", Some(at));
    let list = List {
        filters,
        limit: Some(1),
        ..List::all("/rollcall/v1/deprovisionings", moment.clone())
    };
    let losses = list.collect(client)?.objects;
    losses.first().map_or_else(|| Ok(ApiLoss::default()), |loss| parse(loss))
}

fn explain(
    client: &Client,
    moment: &Query,
    steps: &[Step],
    lost: &LostAccess,
) -> Result<Explanation, Failure> {
    Ok(match lost.reason.as_str() {
        "user_deleted" => "the user was deleted".into(),
        "user_inactive" => "the user became inactive".into(),
        "user_absent" => "the source no longer knew the user".into(),
        "directory_deactivated" | "directory_deleted" | "directory_absent"
            if is_about_user(&lost.cause) =>
        {
            explain_by_disuse(client, moment, steps, lost)?
        }
        "directory_deactivated" => explain_by_directory("deactivated", steps, lost),
        "directory_deleted" => explain_by_directory("deleted", steps, lost),
        "directory_absent" => explain_by_directory(ABSENT, steps, lost),
        other => other.into(),
    })
}

/// Explains an end by an event of the user, who then was in a directory that was out of use.
fn explain_by_disuse(
    client: &Client,
    moment: &Query,
    steps: &[Step],
    lost: &LostAccess,
) -> Result<Explanation, Failure> {
    let Residence { directory, moved } = Residence::find(steps, lost);
    let Disuse { name, how, seq } = Disuse::find(client, &directory, &lost.at, moment)?;
    let by = seq.map_or(String::new(), |seq| format!(" by record {seq}"));
    let why = if moved {
        format!("moved into {name}, which was {how}{by}")
    } else {
        format!("its directory {name} was {how}{by}")
    };
    let part = format!("by which that directory had been {how}");
    Ok(Explanation { why, record: seq.map(|seq| ProofRecord { seq, part }) })
}

/// Explains an end by an event of the directory. The other record is the last one that says that
/// the user is in it.
fn explain_by_directory(how: &str, steps: &[Step], lost: &LostAccess) -> Explanation {
    let last = steps.iter().rev().find(|step| {
        step.at <= lost.at && step.cause.seq != lost.cause.seq && describes_user(step)
    });
    let part = "the last one before to say that the user is in that directory";
    Explanation {
        why: format!("its directory was {how}"),
        record: last.map(|step| ProofRecord::of(&step.cause, part)),
    }
}

/// Returns true for an event of a user or a group, and false for one of a directory.
fn is_about_user(cause: &EventCause) -> bool {
    match cause.event_type().map(EventType::subject) {
        Some(EventSubject::User | EventSubject::Group | EventSubject::Membership) => true,
        Some(
            EventSubject::Directory
            | EventSubject::Token
            | EventSubject::Mapping
            | EventSubject::Policy
            | EventSubject::CheckpointKey
            | EventSubject::Link
            | EventSubject::Reconciliation
            | EventSubject::ScimResource,
        )
        | None => false,
    }
}

fn describes_user(step: &Step) -> bool {
    step.changes
        .iter()
        .any(|change| matches!(change, UserChange::Version { change, .. } if change != "deleted"))
}

/// The directory that a user was in when access ended.
#[derive(Default)]
struct Residence {
    /// The directory's id; empty if no event named one.
    directory: String,
    /// The event that ended access moved the user there.
    moved: bool,
}

impl Residence {
    fn find(steps: &[Step], lost: &LostAccess) -> Residence {
        let mut residence = Residence::default();
        for step in steps.iter().filter(|step| step.at <= lost.at) {
            for change in &step.changes {
                let UserChange::Version { changed, .. } = change else { continue };
                for field in changed.iter().filter(|field| field.name == "directory_id") {
                    residence = Residence {
                        directory: serde_json::from_str(&field.to).unwrap_or_default(),
                        moved: step.cause.seq == lost.cause.seq && field.from != "null",
                    };
                }
            }
        }
        residence
    }
}

/// The words for a directory that the source no longer knew when it was asked.
const ABSENT: &str = "no longer at the source";

/// Returns the participle for what an observation says of a directory; `None` if it is in use.
fn observed_disuse(event: &RawValue) -> Option<&'static str> {
    let data = nested(event, "data")?;
    if nested(data, "present").is_none_or(|present| present.get() != "true") {
        return Some(ABSENT);
    }
    let [state] = texts(nested(data, "object")?, ["state"]);
    ["unlinked", "inactive", "deleting"].contains(&state.as_str()).then_some("deactivated")
}

/// Returns the participle for what an event of this type does to a directory; `None` if the
/// directory stays in use.
fn disuse(event_type: EventType) -> Option<&'static str> {
    if event_type.subject() != EventSubject::Directory {
        return None;
    }
    match event_type.effect() {
        EventEffect::Suspends => Some("deactivated"),
        EventEffect::Ends => Some("deleted"),
        EventEffect::Begins | EventEffect::Changes | EventEffect::Observes | EventEffect::None => {
            None
        }
    }
}

/// A directory that is out of use, and the event that did it.
struct Disuse {
    /// The directory's name, or the id of one without a name.
    name: String,
    /// `deleted`, `deactivated`, or `out of use` where no event says which.
    how: &'static str,
    /// The event's record; `None` if there is no such event.
    seq: Option<u64>,
}

/// An event that put a directory out of use.
struct DisuseEvent {
    id: String,
    how: &'static str,
    happened_at: String,
}

impl Disuse {
    /// Asks about a directory that was out of use at `at`.
    fn find(client: &Client, directory: &str, at: &str, moment: &Query) -> Result<Disuse, Failure> {
        let known_at = moment.value("known_at").map(str::to_owned);
        let then = Query::moment(Some(at.to_owned()), known_at.clone());
        let Some(event) = DisuseEvent::last(client, directory, then)? else {
            return Ok(Disuse { name: directory.to_owned(), how: "out of use", seq: None });
        };
        let before = Query::moment(millisecond_before(&event.happened_at), known_at);
        let name = directory_name(client, directory, &before)?;
        Ok(Disuse {
            name: if name.is_empty() { directory.to_owned() } else { name },
            how: event.how,
            seq: record_of(client, &event.id)?,
        })
    }
}

impl DisuseEvent {
    /// Asks for the last such event of a directory.
    fn last(
        client: &Client,
        directory: &str,
        moment: Query,
    ) -> Result<Option<DisuseEvent>, Failure> {
        let types: Vec<&str> = EventType::ALL
            .iter()
            .filter(|event_type| {
                disuse(**event_type).is_some() || **event_type == EventType::DirectoryObserved
            })
            .map(|event_type| event_type.name())
            .collect();
        let filters = Query::default().with("events", Some(types.join(",")));
        let events = List { filters, ..List::all("/events", moment) }.collect(client)?.objects;
        let of_directory = events.iter().filter(|event| {
            nested(event, "data").is_some_and(|data| texts(data, ["id"]) == [directory])
        });
        let last = of_directory
            .filter_map(|event| DisuseEvent::read(event))
            .max_by(|one, other| one.happened_at.cmp(&other.happened_at));
        Ok(last)
    }

    /// Reads an event of a directory; `None` if it is an observation of one that is in use.
    fn read(event: &RawValue) -> Option<DisuseEvent> {
        let [id, event_type, happened_at] = texts(event, ["id", "event", "created_at"]);
        let how = match EventType::parse(&event_type) {
            Some(EventType::DirectoryObserved) => observed_disuse(event)?,
            known => known.and_then(disuse).unwrap_or("out of use"),
        };
        Some(DisuseEvent { id, how, happened_at })
    }
}

/// Asks for the seq of an event's record. Returns `None` for an event whose id is a number, since
/// the call would take it for a seq.
fn record_of(client: &Client, event: &str) -> Result<Option<u64>, Failure> {
    #[derive(Deserialize)]
    struct LogEntry {
        seq: u64,
    }
    if event.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let entry = find_object(client, "/rollcall/v1/log/entries", event, &Query::default())?;
    entry.map(|entry| parse::<LogEntry>(&entry).map(|entry| entry.seq)).transpose()
}
