//! A timeline as a page for people.

use anstyle::{AnsiColor, Style};
use rollcall_projections::EventType;

use super::super::super::table::{self, Column, harmless};
use super::super::objects::{ChangedField, EventCause, NamedGroup};
use super::super::print::{human, value};
use super::ending::{EndOfAccess, ProofRecord};
use super::freshness::{Freshness, QuarantineEntry};
use super::same_person::{OtherIds, Predecessor, Successor};
use super::timeline::{MissedField, Step, UserChange};
use super::{LostAccess, UserTimeline, Verdict};

/// The fields that come first where a whole user is described.
const FIRST_FIELDS: [&str; 7] =
    ["state", "email", "name", "first_name", "last_name", "job_title", "username"];

/// Fields that the page shows elsewhere, or that only programs need.
const HIDDEN_FIELDS: [&str; 4] = ["directory_id", "organization_id", "idp_id", "emails"];

/// The most records in the quarantine that a page shows: the newest.
const QUARANTINE_SHOWN: usize = 10;

/// The least delay after a later event that is marked. Within less, events came together and their
/// order means nothing.
const OVERTAKEN_MS_MIN: i64 = 1000;

const PLAIN: Style = Style::new();
const BOLD: Style = Style::new().bold();
const GREEN: Style = AnsiColor::Green.on_default();
const RED: Style = AnsiColor::Red.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();

/// A line and its style.
struct StyledLine {
    text: String,
    style: Style,
}

impl StyledLine {
    fn new(style: Style, text: impl Into<String>) -> StyledLine {
        StyledLine { text: text.into(), style }
    }
}

/// Returns the page of one user. Lines are cut to `width`, except for the answer at the top and the
/// proofs at the bottom.
pub(super) fn page(timeline: &UserTimeline, width: Option<u16>, coloured: bool) -> String {
    let mut lines = head(timeline);
    lines.push(StyledLine::new(PLAIN, ""));
    let widths = StepWidths::of(&timeline.steps);
    for step in &timeline.steps {
        push_step(step, &widths, width, &mut lines);
    }
    let mut out = answer(timeline, coloured);
    let rows: Vec<Vec<String>> = lines.iter().map(|line| vec![line.text.clone()]).collect();
    // A table of one column draws each of our lines as one line.
    let drawn = table::draw_within(width, &[Column::new("")], false, &rows);
    for (line, StyledLine { style, .. }) in drawn.lines().zip(&lines) {
        out.push_str(&painted(line, *style, coloured));
    }
    for (at, ProofRecord { seq, part }) in timeline.records().iter().enumerate() {
        let gap = if at == 0 { "\n" } else { "" };
        out.push_str(&format!("{gap}proof of record {seq}, {part}: rollcall prove {seq}\n"));
    }
    out
}

fn painted(line: &str, style: Style, coloured: bool) -> String {
    if coloured && !line.is_empty() {
        format!("{style}{line}{style:#}\n")
    } else {
        format!("{line}\n")
    }
}

/// Returns the line above several pages, and an empty one.
pub(super) fn first_line(text: &str, coloured: bool) -> String {
    format!("{}\n", painted(text, BOLD, coloured))
}

/// Returns the user's name and the answer, which are never cut.
fn answer(timeline: &UserTimeline, coloured: bool) -> String {
    let profile = &timeline.profile;
    let known: Vec<&str> = [&profile.name, &profile.email, &profile.id]
        .into_iter()
        .map(String::as_str)
        .filter(|text| !text.is_empty())
        .take(2)
        .collect();
    let mut lines = vec![StyledLine::new(BOLD, known.join(", "))];
    push_verdict(timeline, &mut lines);
    push_same_person(&timeline.other_ids, &mut lines);
    push_freshness(timeline, &mut lines);
    lines.push(StyledLine::new(PLAIN, ""));
    lines.iter().map(|line| painted(&harmless(&line.text), line.style, coloured)).collect()
}

fn push_verdict(timeline: &UserTimeline, lines: &mut Vec<StyledLine>) {
    let mut push = |style: Style, text: String| lines.push(StyledLine::new(style, text));
    match (&timeline.verdict, &timeline.ending) {
        (Verdict::Never, _) => {
            let text = if timeline.is_past() {
                "had never had access by then"
            } else {
                "has never had access"
            };
            push(RED.bold(), text.into());
            if let Some(EventCause { seq, occurred_at, .. }) = &timeline.first_later {
                let at = utc(occurred_at);
                push(
                    PLAIN,
                    format!("the first record about it is {seq}, of what happened on {at}"),
                );
            }
        }
        (Verdict::Has { since, cause, before }, _) => {
            let has = if timeline.is_past() { "had access then," } else { "has access" };
            let text = format!("{has} since {}, {}", utc(since), by_event(cause));
            push(GREEN.bold(), text);
            if let Some(before) = before {
                push(YELLOW, format!("{}: {}", had_lost_when(before), before.reason));
            }
        }
        (Verdict::Lost(lost), ending) => {
            let LostAccess { reason, cause, .. } = lost;
            let why = match ending {
                Some(ending) => format!("{} ({reason})", ending.why),
                None => reason.clone(),
            };
            push(RED.bold(), format!("{}: {why}, {}", lost_when(lost), by_event(cause)));
            if let Some(ending) = ending {
                push(RED.bold(), lost_with_access(ending));
            }
        }
    }
}

/// Adds the ids under which the same person was there before, and is there after.
fn push_same_person(other_ids: &OtherIds, lines: &mut Vec<StyledLine>) {
    if let Some(Successor { user_id, since }) = &other_ids.succeeded_by {
        let text = format!(
            "! the same person, by the id at the identity provider, is {user_id} since {}; to see \
             it: rollcall audit {user_id}",
            utc(since)
        );
        lines.push(StyledLine::new(YELLOW, text));
    }
    if let Some(Predecessor { user_id, until }) = &other_ids.preceded_by {
        let text = format!(
            "the same person, by the id at the identity provider, was {user_id} until {}",
            utc(until)
        );
        lines.push(StyledLine::new(PLAIN, text));
    }
}

/// Returns the moment of an end of access in words. One that was observed lies between two moments.
fn lost_when(lost: &LostAccess) -> String {
    let LostAccess { at, cause, last_seen, .. } = lost;
    match last_seen {
        Some(last_seen) => format!("gone by {}; last seen {}", utc(at), utc(last_seen)),
        None if is_observed(cause) => format!("gone by {}", utc(at)),
        None => format!("lost access on {}", utc(at)),
    }
}

/// Returns the moment of an end of access that is over again, in words.
fn had_lost_when(lost: &LostAccess) -> String {
    match (lost_when(lost), is_observed(&lost.cause)) {
        (when, true) => format!("was {when}"),
        (_, false) => format!("had lost it on {}", utc(&lost.at)),
    }
}

/// Tells if a cause is what the source said when it was asked.
fn is_observed(cause: &EventCause) -> bool {
    cause.event_type().is_some_and(EventType::is_observation)
}

/// Adds the newest records, and those in the quarantine: they tell why a user still has access.
fn push_freshness(timeline: &UserTimeline, lines: &mut Vec<StyledLine>) {
    let Freshness { user, directory, quarantine, all_quarantined } = &timeline.freshness;
    if timeline.verdict.since().is_some() {
        let text = if timeline.is_past() {
            "had it then, since no record had ended it"
        } else {
            "still has it, since no record has ended it"
        };
        lines.push(StyledLine::new(PLAIN, text));
    }
    for (whom, newest) in [("user", user), ("directory", directory)] {
        let Some(newest) = newest else { continue };
        let EventCause { event, occurred_at, recorded_at, seq, .. } = newest;
        let text = format!(
            "last heard of the {whom} by record {seq}, {event}, of {}, learnt on {}",
            utc(occurred_at),
            utc(recorded_at)
        );
        lines.push(StyledLine::new(PLAIN, text));
    }
    if quarantine.is_empty() {
        let text = "in the quarantine: nothing about the user or the directory itself";
        lines.push(StyledLine::new(PLAIN, text));
    }
    lines.extend(quarantine.iter().take(QUARANTINE_SHOWN).map(quarantined_line));
    let left = quarantine.len().saturating_sub(QUARANTINE_SHOWN);
    if left > 0 {
        let text = match all_quarantined {
            Some(url) => {
                format!("! in the quarantine: more than {left} older ones, which GET {url} lists")
            }
            None => format!("! in the quarantine: {left} older ones, which --json lists"),
        };
        lines.push(StyledLine::new(YELLOW, text));
    }
}

fn quarantined_line(entry: &QuarantineEntry) -> StyledLine {
    let QuarantineEntry { seq, event, reason, detail, recorded_at, .. } = entry;
    let event = event.as_ref().map(|event| format!("{event}, ")).unwrap_or_default();
    let text = format!(
        "! in the quarantine: record {seq}, {event}learnt on {}: {reason}, {detail}; \
         to see it: rollcall prove {seq}",
        utc(recorded_at)
    );
    StyledLine::new(YELLOW, text)
}

/// Returns the line about the roles and groups one millisecond before access ended.
fn lost_with_access(EndOfAccess { roles, groups, .. }: &EndOfAccess) -> String {
    let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    let groups: Vec<&str> = groups.iter().map(NamedGroup::label).collect();
    format!("with it: {}; {}", listed("role", "roles", &roles), listed("group", "groups", &groups))
}

fn listed(one: &str, many: &str, names: &[&str]) -> String {
    match names {
        [] => format!("no {one}"),
        [name] => format!("{one} {name}"),
        names => format!("{many} {}", names.join(", ")),
    }
}

fn head(timeline: &UserTimeline) -> Vec<StyledLine> {
    let UserTimeline { profile, as_of, known_at, .. } = timeline;
    let directory = match profile.directory_name.as_str() {
        "" => profile.directory.clone(),
        name => format!("{}, {name}", profile.directory),
    };
    let rows = [
        ("user", profile.id.clone()),
        ("email", profile.email.clone()),
        ("directory", directory),
        ("organization", profile.organization.clone()),
        ("app user", timeline.other_ids.app_user_id.clone().unwrap_or_default()),
        ("asked", format!("as of {as_of}, known at record {known_at}")),
    ];
    rows.into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| StyledLine::new(PLAIN, format!("{name:<14}{value}")))
        .collect()
}

/// Returns the event and the time of its record, as the end of a sentence.
fn by_event(cause: &EventCause) -> String {
    format!(
        "by {}, learnt {} on {} (record {})",
        cause.event_id,
        delay(cause.delay_ms()),
        utc(&cause.recorded_at),
        cause.seq
    )
}

/// Returns the delay from the moment of a step to its record, in words. For a mapping that is set
/// for the past the word is `set`.
fn learnt(step: &Step) -> String {
    format!("{} {}", if step.is_for_the_past() { "set" } else { "learnt" }, delay(step.delay_ms()))
}

fn delay(delay_ms: i64) -> String {
    match delay_ms {
        delay_ms @ ..0 => format!("{} before its own time", human(delay_ms.saturating_neg())),
        delay_ms => format!("{} later", human(delay_ms)),
    }
}

/// Returns `2026-03-20T17:30:00.000Z` as `2026-03-20 17:30:00.000 UTC`.
fn utc(moment: &str) -> String {
    match moment.strip_suffix('Z').and_then(|moment| moment.split_once('T')) {
        Some((day, time)) => format!("{day} {time} UTC"),
        None => moment.to_owned(),
    }
}

/// The widths of three columns in the first lines of the steps.
struct StepWidths {
    event: usize,
    seq: usize,
    learnt: usize,
}

impl StepWidths {
    fn of(steps: &[Step]) -> StepWidths {
        let widest = |width: fn(&Step) -> usize| steps.iter().map(width).max().unwrap_or(0);
        StepWidths {
            event: widest(|step| step.cause.event.len()),
            seq: widest(|step| step.cause.seq.to_string().len()),
            learnt: widest(|step| learnt(step).len()),
        }
    }
}

/// Adds an event, and below it a line for each of its changes.
fn push_step(step: &Step, widths: &StepWidths, width: Option<u16>, lines: &mut Vec<StyledLine>) {
    push_event(step, widths, width, lines);
    let cause = &step.cause;
    if let Some(overtaken_ms @ OVERTAKEN_MS_MIN..) = step.overtaken_ms {
        let text = format!(
            "  ! learnt {} after something that happened later, on {}",
            human(overtaken_ms),
            utc(&cause.recorded_at)
        );
        lines.push(StyledLine::new(YELLOW, text));
    }
    if step.is_for_the_past() {
        let text = format!("  ! it was done on {}, for this moment", utc(&cause.occurred_at));
        lines.push(StyledLine::new(YELLOW, text));
    }
    if let Some(came) = step.proof.as_deref().and_then(came) {
        lines.push(StyledLine::new(PLAIN, format!("  {came}")));
    }
    let observed = is_observed(cause);
    let changes = step.changes.iter().flat_map(|change| change_lines(change, observed));
    lines.extend(changes.map(|line| StyledLine { text: format!("  {}", line.text), ..line }));
}

/// Adds the first line of a step, or two if one would be too wide.
fn push_event(step: &Step, widths: &StepWidths, width: Option<u16>, lines: &mut Vec<StyledLine>) {
    let &StepWidths { event, seq, learnt: learnt_width } = widths;
    let EventCause { event: event_type, event_id, seq: record, .. } = &step.cause;
    let learnt = learnt(step);
    let first = format!("{}  {event_type:<event$}  record {record:>seq$}", step.at);
    let one = format!("{first}  {learnt:<learnt_width$}  {event_id}");
    if width.is_none_or(|width| one.chars().count() <= usize::from(width)) {
        lines.push(StyledLine::new(BOLD, one));
    } else {
        lines.push(StyledLine::new(BOLD, first));
        lines.push(StyledLine::new(BOLD, format!("  {event_id}  {learnt}")));
    }
}

/// Says how a record came that the source did not deliver and sign itself. The type of an
/// observation and of an operator's record tells it already.
fn came(proof: &str) -> Option<&'static str> {
    match proof {
        "pulled" => Some("it was pulled from the source's events, without a signature"),
        "imported" => Some("it was imported by an operator, without a signature"),
        "scim" => Some("the identity provider pushed it over SCIM"),
        _ => None,
    }
}

fn change_lines(change: &UserChange, observed: bool) -> Vec<StyledLine> {
    let line = match change {
        UserChange::Version { change, changed, missed } => {
            let missed = missed.iter().map(|field| StyledLine::new(YELLOW, missed_line(field)));
            let change = if observed { observed_change(change, changed) } else { change };
            return missed.chain(version_lines(change, changed)).collect();
        }
        UserChange::AccessBegan => StyledLine::new(GREEN.bold(), "+ access begins"),
        UserChange::AccessEnded { reason, last_seen } => {
            let seen = last_seen.as_ref().map(|at| format!("; last seen {}", utc(at)));
            let text = format!("- access ends: {reason}{}", seen.unwrap_or_default());
            StyledLine::new(RED.bold(), text)
        }
        UserChange::Joined(group) => StyledLine::new(GREEN, format!("+ joins {}", group.label())),
        UserChange::Left(group) => StyledLine::new(RED, format!("- leaves {}", group.label())),
        UserChange::RoleGained(role) => StyledLine::new(GREEN, format!("+ gains the role {role}")),
        UserChange::RoleLost(role) => StyledLine::new(RED, format!("- loses the role {role}")),
    };
    vec![line]
}

fn missed_line(MissedField { name, known, said }: &MissedField) -> String {
    format!(
        "! an update was missed before it: {name} was {} here, and {} at the source",
        value(known),
        value(said)
    )
}

/// Returns the word for a version that was observed: `absent`, `found` if nothing was known before
/// it, else that of any other version.
fn observed_change<'a>(change: &'a str, changed: &[ChangedField]) -> &'a str {
    match change {
        "deleted" => "absent",
        "updated" if !changed.is_empty() && changed.iter().all(|field| field.from == "null") => {
            "found"
        }
        change => change,
    }
}

fn version_lines(change: &str, changed: &[ChangedField]) -> Vec<StyledLine> {
    match change {
        "deleted" => vec![StyledLine::new(RED, "- deleted")],
        "absent" => vec![StyledLine::new(RED, "- not at the source when it was asked")],
        "found" => {
            vec![StyledLine::new(PLAIN, format!("~ found at the source: {}", whole_user(changed)))]
        }
        "snapshot" => {
            let text = format!(
                "~ known from this event only, as long as none of the user's own had come: {}",
                whole_user(changed)
            );
            vec![StyledLine::new(YELLOW, text)]
        }
        "created" => {
            vec![StyledLine::new(PLAIN, format!("~ created: {}", whole_user(changed)))]
        }
        _ if changed.is_empty() => vec![StyledLine::new(PLAIN, "~ updated, nothing changed")],
        _ => {
            // The list of emails repeats the one that is shown.
            let has_email = changed.iter().any(|field| field.name == "email");
            changed
                .iter()
                .filter(|field| !(has_email && field.name == "emails"))
                .map(|field| StyledLine::new(PLAIN, changed_line(field)))
                .collect()
        }
    }
}

fn changed_line(ChangedField { name, from, to }: &ChangedField) -> String {
    format!("~ {name}: {} -> {}", value(from), value(to))
}

/// Describes a user by all fields, the most telling first. The provider's own copy of the fields is
/// left out.
fn whole_user(changed: &[ChangedField]) -> String {
    let mut fields: Vec<&ChangedField> = changed.iter().filter(|field| is_shown(field)).collect();
    fields.sort_by_key(|field| {
        FIRST_FIELDS.iter().position(|first| *first == field.name).unwrap_or(FIRST_FIELDS.len())
    });
    let fields: Vec<String> = fields
        .into_iter()
        .map(|ChangedField { name, to, .. }| format!("{name} {}", value(to)))
        .collect();
    if fields.is_empty() { "nothing else is said".into() } else { fields.join(", ") }
}

fn is_shown(ChangedField { name, .. }: &ChangedField) -> bool {
    !HIDDEN_FIELDS.contains(&name.as_str()) && !name.starts_with("raw_attributes")
}

#[cfg(test)]
mod tests {
    use super::super::profile::UserProfile;
    use super::super::timeline::UserLists;
    use super::*;

    fn cause(seq: u64, event: &str, occurred_at: &str, recorded_at: &str) -> EventCause {
        EventCause {
            event_id: format!("event_{seq}"),
            event: event.into(),
            occurred_at: occurred_at.into(),
            recorded_at: recorded_at.into(),
            seq,
        }
    }

    fn field(name: &str, from: &str, to: &str) -> ChangedField {
        ChangedField { name: name.into(), from: from.into(), to: to.into() }
    }

    /// Created on 1 March; a group left on the 2nd, learnt last; a mapping of the 5th set for the
    /// 3rd; deleted on the 4th by a clock that is ahead.
    fn timeline() -> UserTimeline {
        let step =
            |at: &str, cause: EventCause, overtaken_ms: Option<i64>, changes: Vec<UserChange>| {
                Step { at: at.into(), cause, overtaken_ms, proof: None, changes }
            };
        let [first, second, third, fourth, fifth] =
            [1, 2, 3, 4, 5].map(|day| format!("2026-03-0{day}T09:00:00.000Z"));
        let created = vec![
            field("custom_attributes.level", "null", "3"),
            field("email", "null", "\"zoe@foo.example\""),
            field("idp_id", "null", "\"00u1\""),
            field("raw_attributes.a", "null", "1"),
            field("state", "null", "\"active\""),
        ];
        let changed = vec![
            field("job_title", "null", r#""\u001b[2J\n山田""#),
            field("name", "\"Zoë\"", "\"\""),
        ];
        let missed = vec![MissedField {
            name: "job_title".into(),
            known: "\"Clerk\"".into(),
            said: "null".into(),
        }];
        let version = |change: &str, changed, missed| UserChange::Version {
            change: change.into(),
            changed,
            missed,
        };
        let sales = NamedGroup { id: "g1".into(), name: String::new() };
        let end = cause(12, "dsync.user.deleted", &fourth, "2026-03-04T08:59:58.500Z");
        UserTimeline {
            profile: UserProfile {
                id: "u1".into(),
                name: "Zoë".into(),
                email: "zoe@foo.example".into(),
                directory: "d1".into(),
                ..UserProfile::default()
            },
            other_ids: OtherIds::default(),
            verdict: Verdict::Lost(LostAccess {
                at: fourth.clone(),
                reason: "user_deleted".into(),
                cause: end.clone(),
                last_seen: None,
            }),
            ending: Some(EndOfAccess {
                roles: vec!["admin".into(), "member".into()],
                groups: vec![NamedGroup { id: "g2".into(), name: "Field\u{1b} Service".into() }],
                why: "the user was deleted".into(),
                records: vec![
                    ProofRecord { seq: 12, part: "by which access ended".into() },
                    ProofRecord { seq: 7, part: "of the directory".into() },
                ],
            }),
            freshness: Freshness {
                user: Some(cause(14, "rollcall.mapping.set", &fifth, &fifth)),
                directory: None,
                quarantine: vec![QuarantineEntry {
                    seq: 9,
                    event_id: None,
                    event: Some("dsync.\u{1b}".into()),
                    reason: "unknown_type".into(),
                    detail: "this version does not know the event's type".into(),
                    recorded_at: second.clone(),
                }],
                all_quarantined: None,
            },
            steps: vec![
                step(
                    &first,
                    cause(2, "dsync.user.created", &first, "2026-03-01T09:00:00.420Z"),
                    Some(999),
                    vec![
                        version("created", created, Vec::new()),
                        UserChange::AccessBegan,
                        UserChange::RoleGained("member".into()),
                    ],
                ),
                step(
                    &second,
                    cause(13, "dsync.group.user_removed", &second, &fifth),
                    Some(86_401_500),
                    vec![version("updated", changed, missed), UserChange::Left(sales)],
                ),
                step(
                    &third,
                    cause(14, "rollcall.mapping.set", &fifth, &fifth),
                    None,
                    vec![UserChange::RoleLost("member".into())],
                ),
                step(
                    &fourth,
                    end,
                    None,
                    vec![
                        version("deleted", Vec::new(), Vec::new()),
                        UserChange::AccessEnded { reason: "user_deleted".into(), last_seen: None },
                    ],
                ),
            ],
            first_later: None,
            lists: UserLists::default(),
            as_of: "latest".into(),
            known_at: "14".into(),
        }
    }

    #[test]
    fn a_page_has_the_user_the_answer_and_each_event_with_its_changes() {
        let expected = r#"Zoë, zoe@foo.example
lost access on 2026-03-04 09:00:00.000 UTC: the user was deleted (user_deleted), by event_12, learnt 1 s before its own time on 2026-03-04 08:59:58.500 UTC (record 12)
with it: roles admin, member; group Field\u{1b} Service
last heard of the user by record 14, rollcall.mapping.set, of 2026-03-05 09:00:00.000 UTC, learnt on 2026-03-05 09:00:00.000 UTC
! in the quarantine: record 9, dsync.\u{1b}, learnt on 2026-03-02 09:00:00.000 UTC: unknown_type, this version does not know the event's type; to see it: rollcall prove 9

user          u1
email         zoe@foo.example
directory     d1
asked         as of latest, known at record 14

2026-03-01T09:00:00.000Z  dsync.user.created        record  2  learnt 420 ms later             event_2
  ~ created: state active, email zoe@foo.example, custom_attributes.level 3
  + access begins
  + gains the role member
2026-03-02T09:00:00.000Z  dsync.group.user_removed  record 13  learnt 3 d 0 h later            event_13
  ! learnt 1 d 0 h after something that happened later, on 2026-03-05 09:00:00.000 UTC
  ! an update was missed before it: job_title was Clerk here, and nothing at the source
  ~ job_title: nothing -> \u{1b}[2J\n山田
  ~ name: Zoë -> ""
  - leaves g1
2026-03-03T09:00:00.000Z  rollcall.mapping.set      record 14  set 2 d 0 h later               event_14
  ! it was done on 2026-03-05 09:00:00.000 UTC, for this moment
  - loses the role member
2026-03-04T09:00:00.000Z  dsync.user.deleted        record 12  learnt 1 s before its own time  event_12
  - deleted
  - access ends: user_deleted

proof of record 12, by which access ended: rollcall prove 12
proof of record 7, of the directory: rollcall prove 7
"#;
        assert_eq!(page(&timeline(), None, false), expected);
    }

    #[test]
    fn an_end_that_was_observed_lies_between_two_moments() {
        let mut timeline = timeline();
        let Verdict::Lost(lost) = &mut timeline.verdict else { unreachable!() };
        assert_eq!(had_lost_when(lost), "had lost it on 2026-03-04 09:00:00.000 UTC");
        lost.cause.event = "rollcall.user.observed".into();
        assert_eq!(lost_when(lost), "gone by 2026-03-04 09:00:00.000 UTC");
        lost.last_seen = Some("2026-03-03T09:00:00.000Z".into());
        let expected = "gone by 2026-03-04 09:00:00.000 UTC; last seen 2026-03-03 09:00:00.000 UTC";
        assert_eq!(lost_when(lost), expected);
        assert_eq!(had_lost_when(lost), format!("was {expected}"));
        let field = |from: &str| ChangedField {
            name: "email".into(),
            from: from.into(),
            to: "\"a@x\"".into(),
        };
        let change = |change: &str, from: &str| UserChange::Version {
            change: change.into(),
            changed: vec![field(from)],
            missed: Vec::new(),
        };
        let ended = UserChange::AccessEnded {
            reason: "user_absent".into(),
            last_seen: lost.last_seen.clone(),
        };
        for (change, line) in [
            (change("deleted", "null"), "- not at the source when it was asked"),
            (change("updated", "null"), "~ found at the source: email a@x"),
            (change("updated", "\"b@x\""), "~ email: b@x -> a@x"),
            (ended, "- access ends: user_absent; last seen 2026-03-03 09:00:00.000 UTC"),
        ] {
            let lines: Vec<String> =
                change_lines(&change, true).into_iter().map(|line| line.text).collect();
            assert_eq!(lines, [line]);
        }
    }

    #[test]
    fn a_page_is_cut_to_the_terminal_except_for_the_answer_and_the_ids() {
        let cut = page(&timeline(), Some(72), false);
        let (answer, steps) = cut.split_once("\n\n").unwrap();
        assert!(
            answer.contains("(record 12)\nwith it: roles admin, member; group Field"),
            "{answer}"
        );
        let (steps, proofs) = steps.rsplit_once("\n\n").unwrap();
        assert!(
            steps.lines().all(|line| line.chars().count() <= 72)
                && proofs.ends_with(": rollcall prove 7\n"),
            "{steps}"
        );
        let wanted = "
2026-03-02T09:00:00.000Z  dsync.group.user_removed  record 13
  event_13  learnt 3 d 0 h later
  ! learnt 1 d 0 h after something that happened later, on 2026-03-05 0…
";
        assert!(steps.contains(wanted), "{steps}");
    }

    #[test]
    fn begins_are_green_ends_red_and_warnings_yellow() {
        let painted = page(&timeline(), None, true);
        for line in [
            "\u{1b}[1m\u{1b}[32m  + access begins\u{1b}[0m\n",
            "\u{1b}[31m  - leaves g1\u{1b}[0m\n",
            "\u{1b}[33m  ! it was done on 2026-03-05 09:00:00.000 UTC, for this moment\u{1b}[0m\n",
            "\u{1b}[1m\u{1b}[31mlost access on ",
        ] {
            assert!(painted.contains(line), "{line:?}: {painted:?}");
        }
        // Nothing but the colours differs, and no escape sequence comes from a sender.
        let plain: String = painted
            .split('\u{1b}')
            .enumerate()
            .map(|(at, part)| if at == 0 { part } else { part.split_once('m').unwrap().1 })
            .collect();
        assert_eq!(plain, page(&timeline(), None, false));
    }

    #[test]
    fn the_other_ids_of_the_same_person_are_named() {
        let mut timeline = timeline();
        let [until, since] = [1, 5].map(|day| format!("2026-03-0{day}T09:00:00.000Z"));
        timeline.other_ids = OtherIds {
            app_user_id: Some("1842".into()),
            succeeded_by: Some(Successor { user_id: "u2".into(), since }),
            preceded_by: Some(Predecessor { user_id: "u0".into(), until }),
        };
        let page = page(&timeline, None, false);
        for line in [
            "! the same person, by the id at the identity provider, is u2 since 2026-03-05 \
             09:00:00.000 UTC; to see it: rollcall audit u2\n",
            "the same person, by the id at the identity provider, was u0 until 2026-03-01 \
             09:00:00.000 UTC\n",
            "app user      1842\n",
        ] {
            assert!(page.contains(line), "{line} is missing from: {page}");
        }
    }
}
