//! `rollcall audit`

mod csv;
mod ending;
mod freshness;
mod page;
mod profile;
mod same_person;
mod timeline;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::client::Client;
use super::super::{Failure, print};
use super::listing::{Collected, List, Moment, Output, Query, path_of};
use super::names::{Kind, never_seen};
use super::objects::{EventCause, NamedGroup, nested};
use super::print::{coloured, one_line, texts, width};
use super::source::SourceArgs;
use ending::{EndOfAccess, ProofRecord};
use freshness::Freshness;
use profile::{EmailHolders, UserProfile};
use same_person::OtherIds;
use timeline::{ApiAccess, Step, UserLists};

/// The path below which the API lists what it knows of one user.
const USERS_PATH: &str = "/rollcall/v1/users";

/// Print a user's timeline: when, why and by which event access began and ended.
///
/// Each record is named, so that it can be proven. Below each event are its effects: changed fields
/// of the user, access begun and ended, groups joined and left, roles gained and lost. A line with
/// `!` warns: an event was learned a second or more after a later one, an update never came, or a
/// setting was made for the past. A version that was taken from a membership event, because no
/// event of the user had arrived yet, is marked. If several users had an email over time, each has
/// a timeline, and the first line says how many of them still have access, or had it at --as-of.
///
/// Above the timeline are the newest records about the user and its directory, and the newest
/// records about them that could not be used: they tell why a user still has access. A record that
/// names no id of a user counts by any email that the user ever had.
///
/// A user who was deleted and provisioned anew has another id. If the two have the same id at the
/// identity provider, the page of each names the other.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall audit ana@example.com
  rollcall audit directory_user_… --as-of 2026-03-20T17:29:59.999Z --known-at 29
  rollcall audit directory_user_… --data ./rollcall-data --csv > ana.csv")]
pub(in super::super) struct AuditArgs {
    /// The user's id, or an email in upper or lower case
    #[arg(value_name = "USER|EMAIL", value_parser = NonEmptyStringValueParser::new())]
    user: String,
    /// Print comma-separated values with a header line, for spreadsheets; values of fields in JSON
    ///
    /// A value that a spreadsheet would calculate, since it begins with =, +, -, @ or a tab, gets
    /// an apostrophe in front, unless it is a number.
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    csv: bool,
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: SourceArgs,
}

/// All that is shown of one user.
struct UserTimeline {
    profile: UserProfile,
    other_ids: OtherIds,
    verdict: Verdict,
    /// The end of access, if it ended.
    ending: Option<EndOfAccess>,
    freshness: Freshness,
    steps: Vec<Step>,
    /// The first record about the user, if all happened after the moment that is asked about.
    first_later: Option<EventCause>,
    lists: UserLists,
    as_of: String,
    known_at: String,
}

/// The answer to the question whether a user has access.
enum Verdict {
    Never,
    Has {
        since: String,
        cause: EventCause,
        /// The end of the period before, if there was one.
        before: Option<LostAccess>,
    },
    Lost(LostAccess),
}

/// The end of a period of access.
struct LostAccess {
    at: String,
    /// The reason, in the API's word for it.
    reason: String,
    cause: EventCause,
    /// The last time at which the source showed the user, if the end was observed.
    last_seen: Option<String>,
}

impl Verdict {
    fn of(periods: &[ApiAccess]) -> Verdict {
        match periods {
            [] => Verdict::Never,
            [before @ .., ApiAccess { from, until: None, start, .. }] => Verdict::Has {
                since: from.clone(),
                cause: start.clone(),
                before: before.last().and_then(LostAccess::of),
            },
            [.., last] => LostAccess::of(last).map_or(Verdict::Never, Verdict::Lost),
        }
    }

    /// Returns the event that decides; `None` if there is none.
    fn cause(&self) -> Option<&EventCause> {
        match self {
            Verdict::Never => None,
            Verdict::Has { cause, .. } | Verdict::Lost(LostAccess { cause, .. }) => Some(cause),
        }
    }

    fn lost(&self) -> Option<&LostAccess> {
        match self {
            Verdict::Lost(lost) => Some(lost),
            Verdict::Never | Verdict::Has { .. } => None,
        }
    }

    fn since(&self) -> Option<&str> {
        match self {
            Verdict::Has { since, .. } => Some(since),
            Verdict::Never | Verdict::Lost(_) => None,
        }
    }
}

impl LostAccess {
    fn of(period: &ApiAccess) -> Option<LostAccess> {
        let ApiAccess { until, reason, end, not_before, .. } = period;
        Some(LostAccess {
            at: until.clone()?,
            reason: reason.clone()?,
            cause: end.clone()?,
            last_seen: not_before.clone(),
        })
    }
}

impl AuditArgs {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let AuditArgs { user, csv, moment, output, source } = self;
        source.ask(move |client| {
            let moment = moment.query();
            let by_email = is_email(client, &user, &moment)?;
            let timelines = find_timelines(client, &user, by_email, &moment)?;
            if csv {
                csv::print_all(&timelines)
            } else if output.json {
                if by_email {
                    print(&format!("{}\n", Accounts::of(&timelines).json(&user)))?;
                }
                timelines.iter().try_for_each(|timeline| print(&timeline.lines()?))
            } else {
                print_pages(&timelines)
            }
        })
    }
}

/// Returns true unless it is the id of a user: those may hold an `@` as well.
fn is_email(client: &Client, user: &str, moment: &Query) -> Result<bool, Failure> {
    Ok(user.contains('@') && profile::first_record(client, user, moment)?.is_none())
}

/// The number of users who had an email, and of those who have access.
struct Accounts {
    all: usize,
    with_access: usize,
    is_past: bool,
}

impl Accounts {
    fn of(timelines: &[UserTimeline]) -> Accounts {
        let with_access = timelines.iter().filter(|timeline| timeline.verdict.since().is_some());
        let is_past = timelines.iter().any(UserTimeline::is_past);
        Accounts { all: timelines.len(), with_access: with_access.count(), is_past }
    }

    /// Returns the first line of several pages.
    fn sentence(&self) -> String {
        let Accounts { all, with_access, is_past } = self;
        if *is_past {
            return format!("{with_access} of {all} accounts had access then");
        }
        let have = if *with_access == 1 { "has" } else { "have" };
        format!("{with_access} of {all} accounts still {have} access")
    }

    fn json(&self, email: &str) -> Value {
        json!({
            "kind": "accounts",
            "email": email,
            "accounts": self.all,
            "with_access": self.with_access,
        })
    }
}

/// Asks for the timeline of a user, or of all users who ever had an email, by their first step.
fn find_timelines(
    client: &Client,
    user: &str,
    by_email: bool,
    moment: &Query,
) -> Result<Vec<UserTimeline>, Failure> {
    if !by_email {
        return Ok(vec![UserTimeline::find(client, user, moment)?]);
    }
    let EmailHolders { ids, moment } = EmailHolders::find(client, user, moment)?;
    let mut timelines = ids
        .iter()
        .map(|id| UserTimeline::find(client, id, &moment))
        .collect::<Result<Vec<_>, _>>()?;
    timelines.sort_by_key(|timeline| timeline.steps.first().map(|step| step.at.clone()));
    Ok(timelines)
}

fn print_pages(timelines: &[UserTimeline]) -> Result<(), Failure> {
    let (width, coloured) = (width(), coloured(&std::io::stdout()));
    if timelines.len() > 1 {
        print(&page::first_line(&Accounts::of(timelines).sentence(), coloured))?;
    }
    for (at, timeline) in timelines.iter().enumerate() {
        let gap = if at > 0 { "\n" } else { "" };
        print(&format!("{gap}{}", page::page(timeline, width, coloured)))?;
    }
    Ok(())
}

impl UserTimeline {
    /// Returns true if the question is about a past moment.
    fn is_past(&self) -> bool {
        self.as_of != "latest"
    }

    /// Asks for all that is known of a user at a moment. The first answer fixes the moment of the
    /// others.
    ///
    /// # Errors
    /// The caller's, for a user that is in no record.
    fn find(client: &Client, id: &str, moment: &Query) -> Result<UserTimeline, Failure> {
        let history = match collect(client, id, "history", moment) {
            Err(Failure::Caller(message)) => {
                let then = profile::unknown_then(client, id, moment)?;
                let failure = match then {
                    Some(then) => Some(then),
                    None => never_seen(client, Kind::User, id, moment)?,
                };
                return Err(failure.unwrap_or(Failure::Caller(message)));
            }
            history => history?,
        };
        let moment = history.listed.moment();
        let lists = UserLists {
            history: history.objects,
            access: collect(client, id, "access", &moment)?.objects,
            groups: collect(client, id, "groups", &moment)?.objects,
            roles: collect(client, id, "roles", &moment)?.objects,
        };
        let (steps, verdict) = (lists.steps()?, Verdict::of(&lists.access_periods()?));
        let profile = UserProfile::find(client, id, &moment, &steps)?;
        let other_ids = OtherIds::of(&lists.access)?;
        let ending = match verdict.lost() {
            Some(lost) => Some(EndOfAccess::find(client, id, &moment, &steps, lost)?),
            None => None,
        };
        let freshness = Freshness::find(client, &profile, &moment)?;
        let first_later =
            if steps.is_empty() { profile::first_record(client, id, &moment)? } else { None };
        let value = |name: &str| moment.value(name).unwrap_or_default().to_owned();
        let (as_of, known_at) = (value("as_of"), value("known_at"));
        Ok(UserTimeline {
            profile,
            other_ids,
            verdict,
            ending,
            freshness,
            steps,
            first_later,
            lists,
            as_of,
            known_at,
        })
    }

    /// Returns the records that prove the answer, the deciding one first.
    fn records(&self) -> Vec<ProofRecord> {
        match (&self.verdict, &self.ending) {
            (Verdict::Has { cause, .. }, _) => {
                vec![ProofRecord::of(cause, "by which access began")]
            }
            (_, Some(ending)) => ending.records.clone(),
            _ => Vec::new(),
        }
    }

    /// Returns the form for programs: a line about the user, then each object that the server sent,
    /// with its kind, by its beginning.
    fn lines(&self) -> Result<String, Failure> {
        let mut objects: Vec<(&str, &RawValue)> = [
            ("version", &self.lists.history),
            ("access", &self.lists.access),
            ("membership", &self.lists.groups),
            ("role", &self.lists.roles),
        ]
        .into_iter()
        .flat_map(|(kind, objects)| objects.iter().map(move |object| (kind, &**object)))
        .collect();
        objects.sort_by_cached_key(|(_, object)| beginning(object));
        let mut out = format!("{}\n", self.head());
        for (kind, object) in objects {
            let object = one_line(object.get());
            let rest =
                object.trim_start().strip_prefix('{').ok_or_else(Failure::unexpected_answer)?;
            out.push_str(&format!("{{\"kind\":\"{kind}\",{rest}\n"));
        }
        Ok(out)
    }

    fn head(&self) -> Value {
        let UserTimeline { profile, verdict, ending, freshness, as_of, known_at, .. } = self;
        let (lost, cause) = (verdict.lost(), verdict.cause());
        let group = |group: &NamedGroup| json!({ "id": group.id, "name": group.name });
        let groups =
            ending.as_ref().map(|ending| ending.groups.iter().map(group).collect::<Vec<_>>());
        let records: Vec<u64> = self.records().iter().map(|record| record.seq).collect();
        let mut head = json!({
            "kind": "user",
            "user_id": profile.id,
            "email": non_empty(&profile.email),
            "name": non_empty(&profile.name),
            "directory_id": non_empty(&profile.directory),
            "organization_id": non_empty(&profile.organization),
            "has_access": verdict.since().is_some(),
            "since": verdict.since(),
            "lost_at": lost.map(|lost| &lost.at),
            "reason": lost.map(|lost| &lost.reason),
            "event_id": cause.map(|cause| &cause.event_id),
            "seq": cause.map(|cause| cause.seq),
            "roles": ending.as_ref().map(|ending| &ending.roles),
            "groups": groups,
            "records": records,
            "last_heard": freshness.last_heard(),
            "quarantine": freshness.entries(),
            "as_of": as_of,
            "known_at": known_at.parse::<u64>().ok(),
        });
        if let Some(head) = head.as_object_mut() {
            let fields = self.other_ids.fields();
            head.extend(fields.map(|(name, value)| (name.to_owned(), value)));
        }
        if let (Some(url), Some(head)) = (&freshness.all_quarantined, head.as_object_mut()) {
            head.insert("quarantine_truncated".into(), true.into());
            head.insert("quarantine_url".into(), url.as_str().into());
        }
        head
    }
}

/// Asks for one list about a user.
fn collect(client: &Client, id: &str, what: &str, moment: &Query) -> Result<Collected, Failure> {
    let path = format!("{}/{what}", path_of(USERS_PATH, id));
    List::all(path, moment.clone()).collect(client)
}

fn non_empty(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// Returns the beginning of a period, or the moment of an event.
fn beginning(object: &RawValue) -> String {
    let [from] = texts(object, ["from"]);
    if !from.is_empty() {
        return from;
    }
    nested(object, "cause").map(|cause| texts(cause, ["occurred_at"]).concat()).unwrap_or_default()
}
