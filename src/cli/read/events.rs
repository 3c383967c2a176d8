//! `rollcall events`

use std::collections::VecDeque;
use std::time::Duration;

use clap::Args;
use rollcall_projections::{EventSubject, EventType, Millis};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::client::Client;
use super::super::config::duration;
use super::super::moment::moment_ms;
use super::super::print;
use super::super::table::{self, Column};
use super::following::Backoff;
use super::listing::{ListPage, Moment, Output, PAGE, Query, Resource, ask};
use super::names::{Kind, Names, find_id};
use super::objects::{joined, nested, person_name};
use super::print::{counted, print_object, texts, width};
use super::source::SourceArgs;
use crate::time;

/// The number of last events that come first with --follow.
const LAST: u64 = 10;

const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// List events in the order in which they were recorded, and with --follow new ones as they come.
///
/// Without --type: every event about directories, users, groups and memberships. --from and --to
/// are compared with the time at which an event happened.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall events --type dsync.user.deleted --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z
  rollcall events --after event_… --json
  rollcall events --follow")]
pub(in super::super) struct EventsArgs {
    /// Only events of this type; repeat it, or separate types with commas
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
    /// Only events of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Only events that happened then or later, such as 2026-03-01, 2026-03-01T10:00Z or 30d
    #[arg(long, value_name = "T", value_parser = bound, conflicts_with = "after")]
    from: Option<Bound>,
    /// Only events that happened then or earlier
    #[arg(long, value_name = "T", value_parser = bound, conflicts_with_all = ["after", "follow"])]
    to: Option<Bound>,
    /// Only events recorded after this one
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Print at most N; with --follow, print the last N first [default with --follow: 10]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print new events as they come, until Ctrl-C: after the last ones, or after all that --after
    /// or --from select
    #[arg(long, conflicts_with_all = ["as_of", "known_at"])]
    follow: bool,
    /// With --follow: how often to ask for new events
    #[arg(
        long,
        value_name = "TIME",
        default_value = "1s",
        value_parser = interval,
        requires = "follow"
    )]
    interval: Duration,
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: SourceArgs,
}

/// A moment in RFC 3339, and its milliseconds.
#[derive(Clone)]
struct Bound {
    text: String,
    at: Millis,
}

fn bound(text: &str) -> Result<Bound, String> {
    let at = moment_ms(text)?;
    Ok(Bound { text: time::format(at), at })
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < INTERVAL_MIN {
        Err(format!("it must be at least {} ms", INTERVAL_MIN.as_millis()))
    } else {
        Ok(interval)
    }
}

/// Columns of a fixed width, so that events that come later align with those before: a time with
/// milliseconds and its zone, the longest type of an event, and an id as WorkOS makes them.
const FOLLOWED_COLUMNS: [Column; 4] = [
    Column::whole("occurred").at_least(24),
    Column::whole("event").at_least(24),
    Column::key("id").at_least(32),
    Column::new("subject"),
];

const EVENTS: Resource = Resource {
    path: "/events",
    nouns: ["event", "events"],
    scope: "--type",
    columns: &[
        Column::whole("occurred"),
        Column::whole("event"),
        Column::key("id"),
        Column::new("subject"),
    ],
    row,
};

fn row(event: &RawValue) -> Vec<String> {
    let mut row: Vec<String> = texts(event, ["created_at", "event", "id"]).into();
    row.push(subject(event));
    row
}

/// What the record of a reconciliation says of it.
#[derive(Deserialize)]
struct ApiCompleted {
    /// Records of earlier versions have none.
    state: Option<String>,
    directory_id: Option<String>,
    clean_directories: Vec<IgnoredAny>,
    failed_directories: Vec<IgnoredAny>,
    differences: u64,
    recorded: u64,
    held: u64,
}

impl ApiCompleted {
    /// Returns the directories that were compared, and what came of it.
    fn label(&self) -> String {
        let scope = self.directory_id.as_deref().unwrap_or("all directories");
        let state = self.state.as_ref().map(|state| format!(", {state}")).unwrap_or_default();
        format!(
            "{scope}{state}: {} clean, {} failed; {}, {} recorded, {} held",
            self.clean_directories.len(),
            self.failed_directories.len(),
            counted(self.differences, "difference", "differences"),
            self.recorded,
            self.held
        )
    }
}

/// Returns the id and the email or name of the event's subject, or of the user and the group; of a
/// reconciliation what came of it.
fn subject(event: &RawValue) -> String {
    let Some(data) = nested(event, "data") else { return String::new() };
    if let Ok(completed) = serde_json::from_str::<ApiCompleted>(data.get()) {
        return completed.label();
    }
    match (nested(data, "user"), nested(data, "group")) {
        (Some(user), Some(group)) => format!("{}, {}", label(user), label(group)),
        _ => label(data),
    }
}

fn label(object: &RawValue) -> String {
    let [id, email] = texts(object, ["id", "email"]);
    let name = if email.is_empty() { person_name(object) } else { email };
    joined([id, name])
}

/// Returns the types that are listed unless --type names some, separated by commas.
fn default_types() -> String {
    let types = EventType::ALL.iter().filter(|event_type| is_listed(**event_type));
    types.map(|event_type| event_type.name()).collect::<Vec<_>>().join(",")
}

fn is_listed(event_type: EventType) -> bool {
    match event_type.subject() {
        EventSubject::Directory
        | EventSubject::User
        | EventSubject::Group
        | EventSubject::Membership => !event_type.is_operator_act() && !event_type.is_observation(),
        EventSubject::Token
        | EventSubject::Mapping
        | EventSubject::Policy
        | EventSubject::CheckpointKey
        | EventSubject::Link
        | EventSubject::Reconciliation
        | EventSubject::ScimResource => false,
    }
}

/// The first and the last millisecond in which an event may have happened.
///
/// The server applies them to the first page only, since it does not take them with a cursor.
#[derive(Clone, Copy, Default)]
struct Between {
    from: Option<Millis>,
    to: Option<Millis>,
}

impl Between {
    fn contains(self, event: &RawValue) -> bool {
        let Between { from, to } = self;
        if from.is_none() && to.is_none() {
            return true;
        }
        let [created_at] = texts(event, ["created_at"]);
        time::parse(&created_at)
            .is_some_and(|at| from.is_none_or(|from| at >= from) && to.is_none_or(|to| at <= to))
    }
}

impl EventsArgs {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        if self.follow { self.run_following() } else { self.run_once() }
    }

    fn wanted(&self) -> Wanted {
        let organization = self.organization.clone();
        Wanted { types: self.types.clone(), names: Names { organization, ..Names::default() } }
    }

    /// Returns the parameters of the two bounds in time.
    fn bounds(&self) -> Query {
        let text = |bound: &Option<Bound>| bound.as_ref().map(|bound| bound.text.clone());
        Query::default().with("range_start", text(&self.from)).with("range_end", text(&self.to))
    }

    fn between(&self) -> Between {
        let at = |bound: &Option<Bound>| bound.as_ref().map(|bound| bound.at);
        Between { from: at(&self.from), to: at(&self.to) }
    }

    fn run_once(self) -> Result<(), Failure> {
        let (wanted, bounds, between) = (self.wanted(), self.bounds(), self.between());
        let EventsArgs { to, after, limit, mut moment, output, source, .. } = self;
        // A cursor can be combined with a moment, though not with bounds: so the pages after the
        // first end at the last bound as well.
        if let Some(to) = to.filter(|to| moment.as_of.is_none() && to.at <= time::now_ms()) {
            moment.as_of = Some(to.text);
        }
        let moment = moment.query();
        let first = moment.clone().and(&bounds).with("after", after);
        source.ask(move |client| {
            let filters = wanted.filters(client, &moment)?;
            let list = EVENTS.list(filters, first, limit);
            EVENTS.print_kept(&list, client, &output, |event| between.contains(event))
        })
    }

    fn run_following(self) -> Result<(), Failure> {
        let begins = self.after.is_some() || self.from.is_some();
        if self.limit.is_some() && begins {
            return Err(Failure::Caller(
                "with --follow, --limit says how many of the last events come first: \
                 leave it out, or --after and --from"
                    .into(),
            ));
        }
        let (wanted, bounds, between) = (self.wanted(), self.bounds(), self.between());
        let EventsArgs { after, limit, interval, output, source, .. } = self;
        let client = source.server("a folder whose server is stopped gets no new events")?;
        let filters = wanted.filters(&client, &Query::default())?;
        let follower = Follower { client, filters, bounds, between, json: output.json };
        let first = if begins {
            follower.page(after.as_deref())?
        } else {
            follower.tail(limit.unwrap_or(LAST))?
        };
        follower.follow(first, after, Backoff::new(interval))
    }
}

/// The events that are wanted, by type and by what takes an id.
struct Wanted {
    types: Vec<String>,
    names: Names,
}

impl Wanted {
    /// Returns the filters of the list.
    ///
    /// # Errors
    /// The caller's, for a type or an organization that was never seen.
    fn filters(self, client: &Client, moment: &Query) -> Result<Query, Failure> {
        let Wanted { types, names } = self;
        // The types that this program knows exist, and need not be asked for.
        let asked = types.iter().map(|name| name.trim());
        for name in asked.filter(|name| EventType::parse(name).is_none()) {
            find_id(client, Kind::EventType, name, &Names::default(), moment)?;
        }
        let types = if types.is_empty() { default_types() } else { types.join(",") };
        let filters = Query::default().with("events", Some(types));
        Ok(filters.and(&names.resolve(client, moment)?.query()))
    }
}

/// Prints events as they come.
struct Follower {
    client: Client,
    filters: Query,
    /// The bounds that are sent as long as there is no cursor.
    bounds: Query,
    between: Between,
    json: bool,
}

/// A page of events, and the place after it.
#[derive(Default)]
struct EventPage {
    events: VecDeque<ReceivedEvent>,
    /// The id of the last event of the page, whether it is printed or not.
    cursor: Option<String>,
    /// More events follow at once.
    more: bool,
}

/// An event as it came.
struct ReceivedEvent {
    id: String,
    json: Box<RawValue>,
}

impl Follower {
    /// Prints the first page, and then events that come after it, or else after `cursor`, until the
    /// reader closes standard output. While the server does not answer, it is asked again.
    ///
    /// # Errors
    /// If the server refuses.
    fn follow(
        &self,
        first: EventPage,
        cursor: Option<String>,
        mut backoff: Backoff,
    ) -> Result<(), Failure> {
        if !self.json {
            print(&table::draw_within(width(), &FOLLOWED_COLUMNS, true, &[]))?;
        }
        self.print(&first.events)?;
        let (mut cursor, mut more) = (first.cursor.or(cursor), first.more);
        loop {
            if !more {
                backoff.wait()?;
            }
            match self.page(cursor.as_deref()) {
                Ok(page) => {
                    backoff.answered();
                    self.print(&page.events)?;
                    (cursor, more) = (page.cursor.or(cursor), page.more);
                }
                Err(Failure::Ours(message)) => {
                    backoff.failed(&message);
                    more = false;
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Reads the page after a cursor, or the first page.
    fn page(&self, cursor: Option<&str>) -> Result<EventPage, Failure> {
        let place = match cursor {
            Some(_) => Query::default().with("after", cursor),
            None => self.bounds.clone(),
        };
        self.read(&place, PAGE)
    }

    fn read(&self, place: &Query, limit: u64) -> Result<EventPage, Failure> {
        let question = self.filters.clone().and(place).with("limit", Some(limit.to_string()));
        let answer = ask(&self.client, &question.at(EVENTS.path), EVENTS.scope)?;
        let list: ListPage = answer.json()?;
        let mut page = EventPage { more: list.next().is_some(), ..EventPage::default() };
        for event in &list.data {
            let [id] = texts(event, ["id"]);
            page.cursor = Some(id.clone());
            if self.between.contains(event) {
                page.events.push_back(ReceivedEvent { id, json: (*event).to_owned() });
            }
        }
        Ok(page)
    }

    /// Reads the last `count` events. Their cursor is that of the last event, which is read even
    /// for a count of 0.
    fn tail(&self, count: u64) -> Result<EventPage, Failure> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let mut tail = self.read_before("latest", count.max(1))?;
        while let Some(first) = tail.events.front().filter(|_| tail.events.len() < count) {
            let before = self.read_before(&first.id, count - tail.events.len())?;
            if before.events.is_empty() {
                break;
            }
            before.events.into_iter().rev().for_each(|event| tail.events.push_front(event));
        }
        let surplus = tail.events.len().saturating_sub(count);
        tail.events.drain(..surplus);
        tail.more = false;
        Ok(tail)
    }

    /// Reads a page of at most `count` events before a place.
    fn read_before(&self, place: &str, count: usize) -> Result<EventPage, Failure> {
        let limit = u64::try_from(count).unwrap_or(u64::MAX).min(PAGE);
        self.read(&Query::default().with("before", Some(place)), limit)
    }

    fn print(&self, events: &VecDeque<ReceivedEvent>) -> Result<(), Failure> {
        if self.json {
            return events.iter().try_for_each(|event| print_object(event.json.get()));
        }
        if events.is_empty() {
            return Ok(());
        }
        let rows: Vec<Vec<String>> = events.iter().map(|event| row(&event.json)).collect();
        print(&table::draw_within(width(), &FOLLOWED_COLUMNS, false, &rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_subject_is_an_id_and_an_email_or_name() {
        for (data, expected) in [
            (json!({"id": "u", "email": "a@x", "first_name": "Ana"}), "u a@x"),
            (json!({"id": "u", "email": null, "first_name": "Ana", "last_name": "Li"}), "u Ana Li"),
            (json!({"id": "d", "name": "Halden"}), "d Halden"),
            (
                json!({
                    "directory_id": "d",
                    "user": {"id": "u", "email": "a@x"},
                    "group": {"id": "g", "name": "Sales"},
                }),
                "u a@x, g Sales",
            ),
            (json!({"other": 1}), ""),
            (
                json!({"directory_id": null, "clean_directories": ["d", "e"],
                    "failed_directories": [{"id": "f", "error": "no"}], "differences": 4,
                    "recorded": 1, "held": 3}),
                "all directories: 2 clean, 1 failed; 4 differences, 1 recorded, 3 held",
            ),
            (
                json!({"directory_id": "d", "clean_directories": ["d"], "failed_directories": [],
                    "differences": 0, "recorded": 0, "held": 0, "state": "completed"}),
                "d, completed: 1 clean, 0 failed; 0 differences, 0 recorded, 0 held",
            ),
        ] {
            let event = RawValue::from_string(json!({"data": data}).to_string()).unwrap();
            assert_eq!(subject(&event), expected);
        }
        assert_eq!(subject(&RawValue::from_string("{}".into()).unwrap()), "");
    }

    #[test]
    fn both_bounds_are_included() {
        let event = |at: &str| {
            RawValue::from_string(format!(r#"{{"id":"e","created_at":"{at}"}}"#)).unwrap()
        };
        let second = |text: &str| Some(bound(text).unwrap().at);
        let (from, to) = (second("2026-01-01T00:00:01Z"), second("2026-01-01T01:00:02+01:00"));
        let between = Between { from, to };
        for (at, expected) in
            [("00.999", false), ("01.000", true), ("02.000", true), ("02.001", false)]
        {
            let event = event(&format!("2026-01-01T00:00:{at}Z"));
            assert_eq!(between.contains(&event), expected, "{at}");
        }
        assert!(Between::default().contains(&event("no time")));
        assert!(!Between { from, to: None }.contains(&event("no time")));
    }

    #[test]
    fn tokens_and_operators_are_not_listed_by_default() {
        assert_eq!(
            default_types(),
            "dsync.activated,dsync.deactivated,dsync.deleted,dsync.user.created,\
             dsync.user.updated,dsync.user.deleted,dsync.group.created,dsync.group.updated,\
             dsync.group.deleted,dsync.group.user_added,dsync.group.user_removed"
        );
    }
}
