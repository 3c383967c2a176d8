//! `rollcall events`

use std::collections::VecDeque;
use std::time::Duration;

use clap::Args;
use rollcall_projections::Millis;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::client::Client;
use super::super::moment::of_date;
use super::super::print;
use super::super::serve::duration;
use super::super::table::{self, Column};
use super::listing::{Kind, List, Moment, Output, PAGE, Page, Query, ask};
use super::print::{one_line, texts, width};
use super::source::Source;
use super::users::name;
use crate::{json, time};

/// What is listed unless types are named: all of directory sync but the tokens.
const TYPES: [&str; 11] = [
    "dsync.activated",
    "dsync.deactivated",
    "dsync.deleted",
    "dsync.user.created",
    "dsync.user.updated",
    "dsync.user.deleted",
    "dsync.group.created",
    "dsync.group.updated",
    "dsync.group.deleted",
    "dsync.group.user_added",
    "dsync.group.user_removed",
];

/// How many of the last events come first when following.
const LAST: u64 = 10;

/// How often to ask, and the longest pause while the server does not answer.
const INTERVAL_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Events in the order in which they were recorded; with --follow also those to come.
///
/// Without --type: every event about directories, users, groups and memberships. --from and --to go
/// by the time at which it happened.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall events --type dsync.user.deleted --from 2026-03-01T00:00:00Z --to 2026-04-01T00:00:00Z
  rollcall events --after event_… --json
  rollcall events --follow")]
pub(in super::super) struct Events {
    /// Of this type; several times, or several with commas between
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    types: Vec<String>,
    /// Of this organization
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Happened then or later: an RFC 3339 time, or a date, which is its first millisecond in UTC
    #[arg(long, value_name = "T", value_parser = moment, conflicts_with = "after")]
    from: Option<Bound>,
    /// Happened then or earlier, in the same ways
    #[arg(long, value_name = "T", value_parser = moment, conflicts_with_all = ["after", "follow"])]
    to: Option<Bound>,
    /// Recorded after this event
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// At most so many; with --follow, so many of the last ones first [default with --follow: 10]
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Go on with new events as they come, until Ctrl-C: after the last ones, or after all that
    /// --after or --from ask for
    #[arg(long, conflicts_with_all = ["as_of", "known_at"])]
    follow: bool,
    /// With --follow: how often to ask for new ones
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval, requires = "follow")]
    interval: Duration,
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: Source,
}

/// A time as it was given, and what it means.
#[derive(Clone)]
struct Bound {
    text: String,
    at: Millis,
}

fn moment(text: &str) -> Result<Bound, String> {
    let text = of_date(text);
    let at = time::parse(&text)
        .ok_or("it must be an RFC 3339 time, such as 2026-03-02T09:00:00Z, or a date")?;
    Ok(Bound { text: text.into_owned(), at })
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval < INTERVAL_MIN {
        Err(format!("it must be at least {} ms", INTERVAL_MIN.as_millis()))
    } else {
        Ok(interval)
    }
}

/// A time with milliseconds and its zone; the longest type; an id of today.
const COLUMNS: [Column; 4] = [
    Column::whole("occurred").at_least(24),
    Column::whole("event").at_least(24),
    Column::whole("id").at_least(32),
    Column::new("subject"),
];

const KIND: Kind = Kind {
    path: "/events",
    nouns: ["event", "events"],
    scope: "--type",
    columns: &[
        Column::whole("occurred"),
        Column::whole("event"),
        Column::whole("id"),
        Column::new("subject"),
    ],
    row,
};

fn row(event: &RawValue) -> Vec<String> {
    let mut row: Vec<String> = texts(event, ["created_at", "event", "id"]).into();
    row.push(subject(event));
    row
}

/// Whom or what an event is about: the id, and by what people call it.
fn subject(event: &RawValue) -> String {
    let called = |thing: &RawValue| {
        let [id, email] = texts(thing, ["id", "email"]);
        let by = if email.is_empty() { name(thing) } else { email };
        [id, by].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    };
    let Some([Some(data)]) = json::fields(event.get(), ["data"]) else { return String::new() };
    match json::fields(data.get(), ["user", "group"]) {
        Some([Some(user), Some(group)]) => format!("{}, {}", called(user), called(group)),
        _ => called(data),
    }
}

/// Whether an event happened within the bounds. Only the first page of a list is cut by the server:
/// a cursor and bounds do not go together.
fn within(event: &RawValue, from: Option<Millis>, to: Option<Millis>) -> bool {
    if from.is_none() && to.is_none() {
        return true;
    }
    let [created_at] = texts(event, ["created_at"]);
    time::parse(&created_at)
        .is_some_and(|at| from.is_none_or(|from| at >= from) && to.is_none_or(|to| at <= to))
}

impl Events {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let types = if self.types.is_empty() { TYPES.join(",") } else { self.types.join(",") };
        let filters =
            Query::default().with("events", Some(types)).with("organization_id", self.organization);
        let (from, to) = (self.from.as_ref().map(|from| from.at), self.to.as_ref().map(|to| to.at));
        let until = self.to.as_ref().map(|to| (to.at, to.text.clone()));
        let bounds = Query::default()
            .with("range_start", self.from.map(|from| from.text))
            .with("range_end", self.to.map(|to| to.text));
        let begins = self.after.is_some() || from.is_some();
        if self.follow {
            if self.limit.is_some() && begins {
                let told = "with --follow, --limit says how many of the last events come first: leave it out, or --after and --from";
                return Err(Failure::Caller(told.into()));
            }
            let client =
                self.source.server("a folder whose server is stopped gets no new events")?;
            let follower = Follower {
                client,
                filters,
                bounds,
                from,
                interval: self.interval,
                json: self.output.json,
            };
            return follower.follow(self.after, (!begins).then_some(self.limit.unwrap_or(LAST)));
        }
        let mut moment = self.moment;
        // A cursor and bounds do not go together, but a cursor and a moment do: the pages behind
        // the first end where the bounds do.
        if let (None, Some((at, text))) = (&moment.as_of, until)
            && at <= time::now_ms()
        {
            moment.as_of = Some(text);
        }
        let first = moment.query().and(&bounds).with("after", self.after);
        let (output, limit) = (self.output, self.limit);
        self.source.ask(move |client| {
            List { kind: &KIND, filters, first, limit }
                .print(client, &output, |event| within(event, from, to))
        })
    }
}

/// Prints events as they come.
struct Follower {
    client: Client,
    filters: Query,
    /// Cuts what is asked for as long as there is no cursor.
    bounds: Query,
    from: Option<Millis>,
    interval: Duration,
    json: bool,
}

/// Events that are to be printed, and how far the list has been read.
#[derive(Default)]
struct Found {
    events: VecDeque<Event>,
    /// The last event that was seen, printed or not.
    cursor: Option<String>,
    more: bool,
}

/// An event as it came.
struct Event {
    id: String,
    json: Box<RawValue>,
}

impl Follower {
    /// Prints from behind `cursor`, or with `last` that many of the last events and then from
    /// there, until nobody reads any more.
    ///
    /// # Errors
    /// If the first answer cannot be had, or a later one is a refusal. A server that is away is
    /// waited for.
    fn follow(&self, cursor: Option<String>, last: Option<u64>) -> Result<(), Failure> {
        let begun = match last {
            Some(count) => self.tail(usize::try_from(count).unwrap_or(usize::MAX))?,
            None => self.page(cursor.as_deref())?,
        };
        let mut cursor = begun.cursor.or(cursor);
        let mut more = begun.more;
        if !self.json {
            print(&table::draw_within(width(), &COLUMNS, true, &[]))?;
        }
        self.print(&begun.events)?;
        let (mut pause, mut away) = (self.interval, false);
        loop {
            if !more {
                wait(pause)?;
            }
            match self.page(cursor.as_deref()) {
                Ok(found) => {
                    if away {
                        eprintln!("rollcall: the server answers again");
                    }
                    (pause, away) = (self.interval, false);
                    self.print(&found.events)?;
                    (cursor, more) = (found.cursor.or(cursor), found.more);
                }
                Err(Failure::Ours(message)) => {
                    if !away {
                        eprintln!("rollcall: {message}; trying again until it answers");
                    }
                    (pause, away, more) =
                        ((pause * 2).min(PAUSE_MAX.max(self.interval)), true, false);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// One page of events behind a cursor, or the first of all.
    fn page(&self, cursor: Option<&str>) -> Result<Found, Failure> {
        let place = if cursor.is_some() {
            Query::default().with("after", cursor)
        } else {
            self.bounds.clone()
        };
        self.found(&place, PAGE)
    }

    fn found(&self, place: &Query, limit: u64) -> Result<Found, Failure> {
        let question = self.filters.clone().and(place).with("limit", Some(limit.to_string()));
        let answer = ask(&self.client, &question.at(KIND.path), KIND.scope)?;
        let page: Page = answer.json()?;
        let mut found = Found { more: page.next().is_some(), ..Found::default() };
        for event in &page.data {
            let [id] = texts(event, ["id"]);
            found.cursor = Some(id.clone());
            if within(event, self.from, None) {
                found.events.push_back(Event { id, json: (*event).to_owned() });
            }
        }
        Ok(found)
    }

    /// The last `count` events, and the place to go on from: that of the last one, which
    /// `before=latest` asks for.
    fn tail(&self, count: usize) -> Result<Found, Failure> {
        let mut last = self.found(
            &Query::default().with("before", Some("latest")),
            PAGE.min(u64::try_from(count.max(1)).unwrap_or(PAGE)),
        )?;
        while let Some(first) = last.events.front().filter(|_| last.events.len() < count) {
            let wanting = u64::try_from(count - last.events.len()).unwrap_or(PAGE);
            let before =
                self.found(&Query::default().with("before", Some(&first.id)), wanting.min(PAGE))?;
            if before.events.is_empty() {
                break;
            }
            before.events.into_iter().rev().for_each(|event| last.events.push_front(event));
        }
        let surplus = last.events.len().saturating_sub(count);
        last.events.drain(..surplus);
        last.more = false;
        Ok(last)
    }

    fn print(&self, events: &VecDeque<Event>) -> Result<(), Failure> {
        if self.json {
            return events
                .iter()
                .try_for_each(|event| print(&format!("{}\n", one_line(event.json.get()))));
        }
        if events.is_empty() {
            return Ok(());
        }
        let rows: Vec<Vec<String>> = events.iter().map(|event| row(&event.json)).collect();
        print(&table::draw_within(width(), &COLUMNS, false, &rows))
    }
}

/// Waits so long, or until whoever reads standard output leaves, which a write would tell only with
/// the next event.
pub(super) fn wait(pause: Duration) -> Result<(), Failure> {
    let stdout = std::io::stdout();
    let mut watched = [PollFd::new(&stdout, PollFlags::empty())];
    let pause = Timespec::try_from(pause).map_err(Failure::ours)?;
    // A signal that is no end cuts the pause short, which does no harm.
    let _ = poll(&mut watched, Some(&pause));
    let left = watched.iter().any(|stdout| {
        stdout.revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL)
    });
    if left { Err(Failure::Unread) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_subject_is_an_id_and_what_people_call_it() {
        for (data, expected) in [
            (json!({"id": "u", "email": "a@x", "first_name": "Ana"}), "u a@x"),
            (json!({"id": "u", "email": null, "first_name": "Ana", "last_name": "Li"}), "u Ana Li"),
            (json!({"id": "d", "name": "Halden"}), "d Halden"),
            (
                json!({"directory_id": "d", "user": {"id": "u", "email": "a@x"}, "group": {"id": "g", "name": "Sales"}}),
                "u a@x, g Sales",
            ),
            (json!({"other": 1}), ""),
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
        let second = |text: &str| Some(moment(text).unwrap().at);
        let (from, to) = (second("2026-01-01T00:00:01Z"), second("2026-01-01T01:00:02+01:00"));
        for (at, expected) in
            [("00.999", false), ("01.000", true), ("02.000", true), ("02.001", false)]
        {
            assert_eq!(
                within(&event(&format!("2026-01-01T00:00:{at}Z")), from, to),
                expected,
                "{at}"
            );
        }
        assert!(within(&event("no time"), None, None));
        assert!(!within(&event("no time"), from, None));
    }
}
