//! A timeline as a person reads it.

use anstyle::{AnsiColor, Style};

use super::super::super::table::{self, Column, harmless};
use super::super::print::human;
use super::timeline::{Cause, Field, Group, Step, What};
use super::{Timeline, Verdict};

/// The fields that say who somebody is, which come first where a whole user is described.
const FIRST: [&str; 7] = ["state", "email", "name", "first_name", "last_name", "job_title", "username"];

/// Fields that the head shows, that say a thing twice, or that mean something to programs only.
const LEFT_OUT: [&str; 4] = ["directory_id", "organization_id", "idp_id", "emails"];

/// A line, and how it is painted.
struct Line {
    text: String,
    style: Style,
}

/// The whole page of one user. What is longer than a line of `width` places is cut, but for the head and for what proves it.
pub(super) fn page(timeline: &Timeline, width: Option<u16>, coloured: bool) -> String {
    let mut lines = head(timeline);
    lines.push(Line { text: String::new(), style: Style::new() });
    for step in &timeline.steps {
        tell(step, &timeline.steps, width, &mut lines);
    }
    let rows: Vec<Vec<String>> = lines.iter().map(|line| vec![line.text.clone()]).collect();
    let mut out = verdict(timeline, coloured);
    // One column has no gaps: a line of the table is one of ours.
    let drawn = table::draw_within(width, &[Column::new("")], false, &rows);
    for (line, Line { style, .. }) in drawn.lines().zip(&lines) {
        out.push_str(&painted(line, *style, coloured));
    }
    if let Some(cause) = timeline.verdict.cause() {
        out.push_str(&format!("\nproof of record {0}, which decides: rollcall prove {0}\n", cause.seq));
    }
    out
}

fn painted(line: &str, style: Style, coloured: bool) -> String {
    if coloured && !line.is_empty() { format!("{style}{line}{style:#}\n") } else { format!("{line}\n") }
}

/// Who it is, and the answer: never cut.
fn verdict(timeline: &Timeline, coloured: bool) -> String {
    let who = &timeline.who;
    let called: Vec<&str> =
        [&who.name, &who.email, &who.id].into_iter().map(String::as_str).filter(|text| !text.is_empty()).take(2).collect();
    let (green, red) = (AnsiColor::Green.on_default().bold(), AnsiColor::Red.on_default().bold());
    let (style, sentence) = match &timeline.verdict {
        Verdict::Never => (red, "has never had access".to_owned()),
        Verdict::Has { since, cause, .. } => (green, format!("has access since {}, {}", utc(since), told(cause))),
        Verdict::Lost { at, reason, cause } => (red, format!("lost access on {}: {reason}, {}", utc(at), told(cause))),
    };
    let mut out = painted(&harmless(&called.join(", ")), Style::new().bold(), coloured);
    out.push_str(&painted(&harmless(&sentence), style, coloured));
    if let Verdict::Has { before: Some((lost, reason)), .. } = &timeline.verdict {
        let sentence = format!("had lost it on {}: {reason}", utc(lost));
        out.push_str(&painted(&harmless(&sentence), AnsiColor::Yellow.on_default(), coloured));
    }
    out.push('\n');
    out
}

fn head(timeline: &Timeline) -> Vec<Line> {
    let who = &timeline.who;
    let named = |id: &str, name: &str| if name.is_empty() { id.to_owned() } else { format!("{id}, {name}") };
    let asked = format!("as of {}, known at record {}", timeline.as_of, timeline.known_at);
    let rows = [
        ("user", who.id.clone()),
        ("email", who.email.clone()),
        ("directory", named(&who.directory, &who.directory_name)),
        ("organization", who.organization.clone()),
        ("asked", asked),
    ];
    let told = rows.into_iter().filter(|(_, value)| !value.is_empty());
    told.map(|(name, value)| Line { text: format!("{name:<14}{value}"), style: Style::new() }).collect()
}

/// By which event, and when it was learnt of.
fn told(cause: &Cause) -> String {
    format!("by {}, learnt {} on {} (record {})", cause.event_id, delay(cause), utc(&cause.recorded_at), cause.seq)
}

/// How long after it happened an event was learnt of.
fn delay(cause: &Cause) -> String {
    match cause.delay_ms() {
        delay_ms @ ..0 => format!("{} before its own time", human(delay_ms.saturating_neg())),
        delay_ms => format!("{} later", human(delay_ms)),
    }
}

/// `2026-03-20T17:30:00.000Z` in a sentence.
fn utc(moment: &str) -> String {
    match moment.strip_suffix('Z').and_then(|moment| moment.split_once('T')) {
        Some((day, time)) => format!("{day} {time} UTC"),
        None => moment.to_owned(),
    }
}

/// An event, and below it, a line each, what it brought about.
fn tell(step: &Step, all: &[Step], width: Option<u16>, lines: &mut Vec<Line>) {
    let bold = Style::new().bold();
    let cause = &step.cause;
    let (event, seq) = (longest(all, |step| step.cause.event.len()), longest(all, |step| step.cause.seq.to_string().len()));
    let learnt = longest(all, |step| delay(&step.cause).len());
    let (first, learnt) =
        (format!("{}  {:<event$}  record {:>seq$}", step.at, cause.event, cause.seq), format!("learnt {:<learnt$}", delay(cause)));
    let one = format!("{first}  {learnt}  {}", cause.event_id);
    if width.is_none_or(|width| one.chars().count() <= usize::from(width)) {
        lines.push(Line { text: one, style: bold });
    } else {
        lines.push(Line { text: first, style: bold });
        lines.push(Line { text: format!("  {}  {}", cause.event_id, learnt.trim_end()), style: bold });
    }
    if step.late {
        let text = format!("  ! it came late, on {}: what follows it here had been learnt before", utc(&cause.recorded_at));
        lines.push(Line { text, style: AnsiColor::Yellow.on_default() });
    }
    if step.at != cause.occurred_at {
        let text = format!("  ! it was done on {}, for this moment", utc(&cause.occurred_at));
        lines.push(Line { text, style: AnsiColor::Yellow.on_default() });
    }
    step.whats.iter().for_each(|what| describe(what, lines));
}

fn longest(steps: &[Step], length: impl Fn(&Step) -> usize) -> usize {
    steps.iter().map(length).max().unwrap_or(0)
}

fn describe(what: &What, lines: &mut Vec<Line>) {
    let (green, red) = (AnsiColor::Green.on_default(), AnsiColor::Red.on_default());
    let mut line = |style: Style, text: String| lines.push(Line { text: format!("  {text}"), style });
    match what {
        What::Version { change, changed, missed } => {
            for Field { name, values: [known, said] } in missed {
                let text = format!("! an update was missed before it: {name} was {} here, and {} at the source", value(known), value(said));
                line(AnsiColor::Yellow.on_default(), text);
            }
            match change.as_str() {
                "deleted" => line(red, "- deleted".into()),
                "snapshot" => {
                    let text = format!("~ known from this event only, as long as none of the user's own had come: {}", whole(changed));
                    line(AnsiColor::Yellow.on_default(), text);
                }
                "created" => line(Style::new(), format!("~ created: {}", whole(changed))),
                _ if changed.is_empty() => line(Style::new(), "~ updated, nothing changed".into()),
                _ => changed.iter().for_each(|field| line(Style::new(), format!("~ {}", change_of(field)))),
            }
        }
        What::AccessBegan => line(green.bold(), "+ access begins".into()),
        What::AccessEnded(reason) => line(red.bold(), format!("- access ends: {reason}")),
        What::Joined(group) => line(green, format!("+ joins {}", called(group))),
        What::Left(group) => line(red, format!("- leaves {}", called(group))),
        What::RoleGained(role) => line(green, format!("+ gains the role {role}")),
        What::RoleLost(role) => line(red, format!("- loses the role {role}")),
    }
}

fn called(group: &Group) -> &str {
    if group.name.is_empty() { &group.id } else { &group.name }
}

fn change_of(Field { name, values: [from, to] }: &Field) -> String {
    format!("{name}: {} -> {}", value(from), value(to))
}

/// A value for people: a text without its quotes, and a word for nothing.
fn value(json: &str) -> String {
    match serde_json::from_str::<Option<String>>(json) {
        Ok(Some(text)) if !text.is_empty() => text,
        Ok(None) => "nothing".into(),
        _ => json.to_owned(),
    }
}

/// A user that is described as a whole: first what says who it is, and of the provider's own copy only that it is there.
fn whole(changed: &[Field]) -> String {
    let place = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
    let told = |field: &&Field| !LEFT_OUT.contains(&field.name.as_str()) && !field.name.starts_with("raw_attributes");
    let mut fields: Vec<&Field> = changed.iter().filter(told).collect();
    fields.sort_by_key(|field| place(&field.name));
    let fields: Vec<String> = fields.into_iter().map(|Field { name, values: [_, to] }| format!("{name} {}", value(to))).collect();
    if fields.is_empty() { "nothing else is said".into() } else { fields.join(", ") }
}
