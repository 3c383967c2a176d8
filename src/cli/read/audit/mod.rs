//! `rollcall audit`

mod ending;
mod page;
mod person;
mod timeline;
mod values;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use percent_encoding::utf8_percent_encode;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::client::Client;
use super::super::{Failure, print};
use super::listing::{ENCODED, Kind, List, Moment, Output, Query};
use super::print::{coloured, one_line, texts, width};
use super::source::Source;
use ending::{Ending, Record};
use person::Person;
use timeline::{Access, Cause, Lists, Step};

/// When, why and by which event somebody had and lost access: all that happened to a user, in
/// order, with the proof's record.
///
/// Below each event stands what it brought about: what changed of the user, access begun and ended,
/// groups joined and left, roles gained and lost. A line with `!` says what is odd: an event learnt
/// after something that happened later (by a second or more), an update that never came, a setting
/// made for the past. Snapshots that stand in for a user's own events are named. An email may have
/// been that of several users over time: each is told.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall audit ana@example.com
  rollcall audit directory_user_… --as-of 2026-03-20T17:29:59.999Z --known-at 29
  rollcall audit directory_user_… --data ./rollcall-data --csv > ana.csv")]
pub(in super::super) struct Audit {
    /// The user, by id or by email, whatever the case
    #[arg(value_name = "USER|EMAIL", value_parser = NonEmptyStringValueParser::new())]
    user: String,
    /// Comma-separated values under a line of names, for spreadsheets; values of fields in JSON.
    ///
    /// A value that a spreadsheet would calculate, since it begins with =, +, -, @ or a tab, has an
    /// apostrophe before it; numbers have none.
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    csv: bool,
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: Source,
}

/// Lists about one user.
const OF_USER: Kind = Kind {
    path: "/rollcall/v1/users",
    nouns: ["user", "users"],
    scope: "",
    columns: &[],
    row: |_| Vec::new(),
};

/// All that is told of one user.
struct Timeline {
    who: Person,
    verdict: Verdict,
    /// What was lost with access, where it was.
    ending: Option<Ending>,
    steps: Vec<Step>,
    lists: Lists,
    as_of: String,
    known_at: String,
}

/// Whether a user has access, and because of what.
enum Verdict {
    Never,
    Has {
        since: String,
        cause: Cause,
        /// When it had been lost before, and why.
        before: Option<(String, String)>,
    },
    Lost {
        at: String,
        reason: String,
        cause: Cause,
    },
}

impl Verdict {
    fn of(periods: &[Access]) -> Verdict {
        let ended = |period: &Access| Some((period.until.clone()?, period.reason.clone()?));
        match periods {
            [] => Verdict::Never,
            [before @ .., Access { from, until: None, start, .. }] => Verdict::Has {
                since: from.clone(),
                cause: start.clone(),
                before: before.last().and_then(ended),
            },
            [.., last @ Access { end, .. }] => match (ended(last), end) {
                (Some((at, reason)), Some(cause)) => {
                    Verdict::Lost { at, reason, cause: cause.clone() }
                }
                _ => Verdict::Never,
            },
        }
    }

    /// The event that decides; `None` where there is none.
    fn cause(&self) -> Option<&Cause> {
        match self {
            Verdict::Never => None,
            Verdict::Has { cause, .. } | Verdict::Lost { cause, .. } => Some(cause),
        }
    }
}

impl Audit {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let Audit { user, csv, moment, output, source } = self;
        source.ask(move |client| {
            let moment = moment.query();
            let mut timelines = Vec::new();
            if user.contains('@') {
                let (ids, moment) = person::with_email(client, &user, &moment)?;
                for id in ids {
                    timelines.push(Timeline::of(client, &id, &moment)?);
                }
                let begin =
                    |timeline: &Timeline| timeline.steps.first().map(|step| step.at.clone());
                timelines.sort_by_key(begin);
            } else {
                timelines.push(Timeline::of(client, &user, &moment)?);
            }
            if csv {
                return values::print_all(&timelines);
            }
            let (width, coloured) = (width(), coloured(&std::io::stdout()));
            for (at, timeline) in timelines.iter().enumerate() {
                if output.json {
                    print(&timeline.lines()?)?;
                } else {
                    let gap = if at > 0 { "\n" } else { "" };
                    print(&format!("{gap}{}", page::page(timeline, width, coloured)))?;
                }
            }
            Ok(())
        })
    }
}

impl Timeline {
    /// Asks for all that is known of a user at a moment; all answers are of the moment of the
    /// first.
    ///
    /// # Errors
    /// The caller's, for a user that nobody ever spoke of.
    fn of(client: &Client, id: &str, moment: &Query) -> Result<Timeline, Failure> {
        let list = |what: &str, moment: &Query| {
            let path = format!("{}/{}/{what}", OF_USER.path, utf8_percent_encode(id, ENCODED));
            List { kind: &OF_USER, filters: Query::default(), first: moment.clone(), limit: None }
                .collect(client, &path)
        };
        let (history, moment) = match list("history", moment) {
            Err(Failure::Caller(told)) => {
                return Err(
                    person::unknown_then(client, id, moment)?.unwrap_or(Failure::Caller(told))
                );
            }
            listed => listed?,
        };
        let of_then = |what: &str| list(what, &moment).map(|(objects, _)| objects);
        let lists = Lists {
            history,
            access: of_then("access")?,
            groups: of_then("groups")?,
            roles: of_then("roles")?,
        };
        let (steps, periods) = (lists.steps()?, lists.periods()?);
        let who = Person::find(client, id, &moment, &steps)?;
        let verdict = Verdict::of(&periods);
        let ending = match &verdict {
            Verdict::Lost { at, reason, cause } => {
                Some(Ending::find(client, id, &moment, &steps, (at, reason, cause))?)
            }
            _ => None,
        };
        let told = |name: &str| moment.value(name).unwrap_or_default().to_owned();
        Ok(Timeline {
            who,
            verdict,
            ending,
            steps,
            lists,
            as_of: told("as_of"),
            known_at: told("known_at"),
        })
    }

    /// The records on which the answer rests, the deciding one first.
    fn records(&self) -> Vec<Record> {
        match (&self.verdict, &self.ending) {
            (Verdict::Has { cause, .. }, _) => vec![Record::of(cause, "by which access began")],
            (_, Some(ending)) => ending
                .records
                .iter()
                .map(|Record { seq, part }| Record { seq: *seq, part: part.clone() })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// For programs: who it is, then every object that the server sent, each with its kind, by when
    /// it began.
    fn lines(&self) -> Result<String, Failure> {
        let Timeline { who, verdict, ending, lists, as_of, known_at, .. } = self;
        let (since, lost_at, reason) = match verdict {
            Verdict::Never => (None, None, None),
            Verdict::Has { since, .. } => (Some(since), None, None),
            Verdict::Lost { at, reason, .. } => (None, Some(at), Some(reason)),
        };
        let group = |group: &timeline::Group| json!({ "id": group.id, "name": group.name });
        let groups =
            ending.as_ref().map(|ending| ending.groups.iter().map(group).collect::<Vec<_>>());
        let records: Vec<u64> = self.records().iter().map(|record| record.seq).collect();
        let head = json!({
            "kind": "user", "user_id": who.id, "email": some(&who.email), "name": some(&who.name), "directory_id": some(&who.directory),
            "organization_id": some(&who.organization), "has_access": since.is_some(), "since": since, "lost_at": lost_at, "reason": reason,
            "event_id": verdict.cause().map(|cause| &cause.event_id), "seq": verdict.cause().map(|cause| cause.seq),
            "roles": ending.as_ref().map(|ending| &ending.roles), "groups": groups, "records": records,
            "as_of": as_of, "known_at": known_at.parse::<u64>().ok(),
        });
        let kinds = [
            ("version", &lists.history),
            ("access", &lists.access),
            ("membership", &lists.groups),
            ("role", &lists.roles),
        ];
        let objects = kinds
            .into_iter()
            .flat_map(|(kind, objects)| objects.iter().map(move |object| (kind, object)));
        let mut objects: Vec<(&str, &Box<RawValue>)> = objects.collect();
        objects.sort_by_cached_key(|(_, object)| begins(object));
        let mut out = format!("{head}\n");
        for (kind, object) in objects {
            let object = one_line(object.get());
            let rest = object
                .trim_start()
                .strip_prefix('{')
                .ok_or_else(|| Failure::Ours("the answer is not one that Rollcall gives".into()))?;
            out.push_str(&format!("{{\"kind\":\"{kind}\",{rest}\n"));
        }
        Ok(out)
    }
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// When a period began, or an event happened.
fn begins(object: &RawValue) -> String {
    let [from] = texts(object, ["from"]);
    let cause = || {
        serde_json::from_str::<Value>(object.get())
            .ok()?
            .pointer("/cause/occurred_at")?
            .as_str()
            .map(str::to_owned)
    };
    if from.is_empty() { cause().unwrap_or_default() } else { from }
}
