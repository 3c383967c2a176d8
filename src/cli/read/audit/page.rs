//! A timeline as a person reads it.

use anstyle::{AnsiColor, Style};

use super::super::super::table::{self, Column, harmless};
use super::super::print::human;
use super::ending::{Ending, Record};
use super::timeline::{Cause, Field, Group, Step, What};
use super::{Timeline, Verdict};

/// The fields that say who somebody is, which come first where a whole user is described.
const FIRST: [&str; 7] =
    ["state", "email", "name", "first_name", "last_name", "job_title", "username"];

/// Fields that the head shows, that say a thing twice, or that mean something to programs only.
const LEFT_OUT: [&str; 4] = ["directory_id", "organization_id", "idp_id", "emails"];

/// What was overtaken by less is not marked, in milliseconds.
const OVERTAKEN_MS_MIN: i64 = 1000;

/// A line, and how it is painted.
struct Line {
    text: String,
    style: Style,
}

/// The whole page of one user. What is longer than a line of `width` places is cut, but for the
/// head and for what proves it.
pub(super) fn page(timeline: &Timeline, width: Option<u16>, coloured: bool) -> String {
    let mut lines = head(timeline);
    lines.push(Line { text: String::new(), style: Style::new() });
    let lengths = Lengths::of(&timeline.steps);
    for step in &timeline.steps {
        tell(step, &lengths, width, &mut lines);
    }
    let rows: Vec<Vec<String>> = lines.iter().map(|line| vec![line.text.clone()]).collect();
    let mut out = verdict(timeline, coloured);
    // One column has no gaps: a line of the table is one of ours.
    let drawn = table::draw_within(width, &[Column::new("")], false, &rows);
    for (line, Line { style, .. }) in drawn.lines().zip(&lines) {
        out.push_str(&painted(line, *style, coloured));
    }
    for (at, Record { seq, part }) in timeline.records().iter().enumerate() {
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

/// Who it is, and the answer: never cut.
fn verdict(timeline: &Timeline, coloured: bool) -> String {
    let who = &timeline.who;
    let called: Vec<&str> = [&who.name, &who.email, &who.id]
        .into_iter()
        .map(String::as_str)
        .filter(|text| !text.is_empty())
        .take(2)
        .collect();
    let (green, red) = (AnsiColor::Green.on_default().bold(), AnsiColor::Red.on_default().bold());
    let (style, sentence) = match &timeline.verdict {
        Verdict::Never => (red, "has never had access".to_owned()),
        Verdict::Has { since, cause, .. } => {
            (green, format!("has access since {}, {}", utc(since), told(cause)))
        }
        Verdict::Lost { at, reason, cause } => {
            let why = timeline
                .ending
                .as_ref()
                .map_or_else(|| reason.clone(), |ending| format!("{} ({reason})", ending.why));
            (red, format!("lost access on {}: {why}, {}", utc(at), told(cause)))
        }
    };
    let mut out = painted(&harmless(&called.join(", ")), Style::new().bold(), coloured);
    out.push_str(&painted(&harmless(&sentence), style, coloured));
    if let Verdict::Has { before: Some((lost, reason)), .. } = &timeline.verdict {
        let sentence = format!("had lost it on {}: {reason}", utc(lost));
        out.push_str(&painted(&harmless(&sentence), AnsiColor::Yellow.on_default(), coloured));
    }
    if let Some(ending) = &timeline.ending {
        out.push_str(&painted(&harmless(&with_it(ending)), red, coloured));
    }
    out.push('\n');
    out
}

/// What was held the millisecond before access ended.
fn with_it(Ending { roles, groups, .. }: &Ending) -> String {
    let groups: Vec<&str> = groups.iter().map(called).collect();
    let listed = |one: &str, many: &str, names: &[&str]| match names {
        [] => format!("no {one}"),
        [name] => format!("{one} {name}"),
        names => format!("{many} {}", names.join(", ")),
    };
    let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
    format!("with it: {}; {}", listed("role", "roles", &roles), listed("group", "groups", &groups))
}

fn head(timeline: &Timeline) -> Vec<Line> {
    let who = &timeline.who;
    let named = |id: &str, name: &str| {
        if name.is_empty() { id.to_owned() } else { format!("{id}, {name}") }
    };
    let asked = format!("as of {}, known at record {}", timeline.as_of, timeline.known_at);
    let rows = [
        ("user", who.id.clone()),
        ("email", who.email.clone()),
        ("directory", named(&who.directory, &who.directory_name)),
        ("organization", who.organization.clone()),
        ("asked", asked),
    ];
    let told = rows.into_iter().filter(|(_, value)| !value.is_empty());
    told.map(|(name, value)| Line { text: format!("{name:<14}{value}"), style: Style::new() })
        .collect()
}

/// By which event, and when it was learnt of.
fn told(cause: &Cause) -> String {
    format!(
        "by {}, learnt {} on {} (record {})",
        cause.event_id,
        delay(cause.delay_ms()),
        utc(&cause.recorded_at),
        cause.seq
    )
}

/// How long after it happened an event was learnt of, or how long after the moment for which it was
/// made a setting was.
fn learnt(step: &Step) -> String {
    format!("{} {}", if step.is_for_the_past() { "set" } else { "learnt" }, delay(step.delay_ms()))
}

fn delay(delay_ms: i64) -> String {
    match delay_ms {
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

/// How wide the columns of the events are.
struct Lengths {
    event: usize,
    seq: usize,
    learnt: usize,
}

impl Lengths {
    fn of(steps: &[Step]) -> Lengths {
        let longest = |length: &dyn Fn(&Step) -> usize| steps.iter().map(length).max().unwrap_or(0);
        Lengths {
            event: longest(&|step| step.cause.event.len()),
            seq: longest(&|step| step.cause.seq.to_string().len()),
            learnt: longest(&|step| learnt(step).len()),
        }
    }
}

/// An event, and below it, a line each, what it brought about.
fn tell(
    step: &Step,
    &Lengths { event, seq, learnt: length }: &Lengths,
    width: Option<u16>,
    lines: &mut Vec<Line>,
) {
    let bold = Style::new().bold();
    let cause = &step.cause;
    let (first, learnt) = (
        format!("{}  {:<event$}  record {:>seq$}", step.at, cause.event, cause.seq),
        format!("{:<length$}", learnt(step)),
    );
    let one = format!("{first}  {learnt}  {}", cause.event_id);
    if width.is_none_or(|width| one.chars().count() <= usize::from(width)) {
        lines.push(Line { text: one, style: bold });
    } else {
        lines.push(Line { text: first, style: bold });
        lines.push(Line {
            text: format!("  {}  {}", cause.event_id, learnt.trim_end()),
            style: bold,
        });
    }
    // Of what came together the order says nothing.
    if let Some(overtaken_ms @ OVERTAKEN_MS_MIN..) = step.overtaken_ms {
        let text = format!(
            "  ! learnt {} after something that happened later, on {}",
            human(overtaken_ms),
            utc(&cause.recorded_at)
        );
        lines.push(Line { text, style: AnsiColor::Yellow.on_default() });
    }
    if step.is_for_the_past() {
        let text = format!("  ! it was done on {}, for this moment", utc(&cause.occurred_at));
        lines.push(Line { text, style: AnsiColor::Yellow.on_default() });
    }
    step.whats.iter().for_each(|what| describe(what, lines));
}

fn describe(what: &What, lines: &mut Vec<Line>) {
    let (green, red) = (AnsiColor::Green.on_default(), AnsiColor::Red.on_default());
    let mut line =
        |style: Style, text: String| lines.push(Line { text: format!("  {text}"), style });
    match what {
        What::Version { change, changed, missed } => {
            for Field { name, values: [known, said] } in missed {
                let text = format!(
                    "! an update was missed before it: {name} was {} here, and {} at the source",
                    value(known),
                    value(said)
                );
                line(AnsiColor::Yellow.on_default(), text);
            }
            match change.as_str() {
                "deleted" => line(red, "- deleted".into()),
                "snapshot" => {
                    let text = format!(
                        "~ known from this event only, as long as none of the user's own had come: {}",
                        whole(changed)
                    );
                    line(AnsiColor::Yellow.on_default(), text);
                }
                "created" => line(Style::new(), format!("~ created: {}", whole(changed))),
                _ if changed.is_empty() => line(Style::new(), "~ updated, nothing changed".into()),
                _ => {
                    // The list of emails says once more what the one that is shown says.
                    let shown = changed.iter().any(|field| field.name == "email");
                    let told = changed.iter().filter(|field| !(shown && field.name == "emails"));
                    told.for_each(|field| line(Style::new(), format!("~ {}", change_of(field))));
                }
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

/// A user that is described as a whole: first what says who it is, and of the provider's own copy
/// only that it is there.
fn whole(changed: &[Field]) -> String {
    let place = |name: &str| FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len());
    let told = |field: &&Field| {
        !LEFT_OUT.contains(&field.name.as_str()) && !field.name.starts_with("raw_attributes")
    };
    let mut fields: Vec<&Field> = changed.iter().filter(told).collect();
    fields.sort_by_key(|field| place(&field.name));
    let fields: Vec<String> = fields
        .into_iter()
        .map(|Field { name, values: [_, to] }| format!("{name} {}", value(to)))
        .collect();
    if fields.is_empty() { "nothing else is said".into() } else { fields.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::person::Person;
    use super::super::timeline::Lists;
    use super::*;

    fn cause(seq: u64, event: &str, occurred_at: &str, recorded_at: &str) -> Cause {
        Cause {
            event_id: format!("event_{seq}"),
            event: event.into(),
            occurred_at: occurred_at.into(),
            recorded_at: recorded_at.into(),
            seq,
        }
    }

    fn field(name: &str, from: &str, to: &str) -> Field {
        Field { name: name.into(), values: [from.into(), to.into()] }
    }

    /// Created on 1 March; a group left on the 2nd, learnt last; a mapping of the 5th set for the
    /// 3rd; deleted on the 4th by a clock that is ahead.
    fn timeline() -> Timeline {
        let step = |at: &str, cause: Cause, overtaken_ms: Option<i64>, whats: Vec<What>| Step {
            at: at.into(),
            cause,
            overtaken_ms,
            whats,
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
        let missed = vec![field("job_title", "\"Clerk\"", "null")];
        let version = |change: &str, changed, missed| What::Version {
            change: change.into(),
            changed,
            missed,
        };
        let sales = Group { id: "g1".into(), name: String::new() };
        let end = cause(12, "dsync.user.deleted", &fourth, "2026-03-04T08:59:58.500Z");
        Timeline {
            who: Person {
                id: "u1".into(),
                name: "Zoë".into(),
                email: "zoe@foo.example".into(),
                directory: "d1".into(),
                ..Person::default()
            },
            verdict: Verdict::Lost {
                at: fourth.clone(),
                reason: "user_deleted".into(),
                cause: end.clone(),
            },
            ending: Some(Ending {
                roles: vec!["admin".into(), "member".into()],
                groups: vec![Group { id: "g2".into(), name: "Field\u{1b} Service".into() }],
                why: "the user was deleted".into(),
                records: vec![
                    Record { seq: 12, part: "by which access ended".into() },
                    Record { seq: 7, part: "of the directory".into() },
                ],
            }),
            steps: vec![
                step(
                    &first,
                    cause(2, "dsync.user.created", &first, "2026-03-01T09:00:00.420Z"),
                    Some(999),
                    vec![
                        version("created", created, Vec::new()),
                        What::AccessBegan,
                        What::RoleGained("member".into()),
                    ],
                ),
                step(
                    &second,
                    cause(13, "dsync.group.user_removed", &second, &fifth),
                    Some(86_401_500),
                    vec![version("updated", changed, missed), What::Left(sales)],
                ),
                step(
                    &third,
                    cause(14, "rollcall.mapping.set", &fifth, &fifth),
                    None,
                    vec![What::RoleLost("member".into())],
                ),
                step(
                    &fourth,
                    end,
                    None,
                    vec![
                        version("deleted", Vec::new(), Vec::new()),
                        What::AccessEnded("user_deleted".into()),
                    ],
                ),
            ],
            lists: Lists {
                history: Vec::new(),
                access: Vec::new(),
                groups: Vec::new(),
                roles: Vec::new(),
            },
            as_of: "latest".into(),
            known_at: "14".into(),
        }
    }

    #[test]
    fn a_page_tells_who_the_answer_and_each_event_with_what_it_brought_about() {
        let expected = r#"Zoë, zoe@foo.example
lost access on 2026-03-04 09:00:00.000 UTC: the user was deleted (user_deleted), by event_12, learnt 1 s before its own time on 2026-03-04 08:59:58.500 UTC (record 12)
with it: roles admin, member; group Field\u{1b} Service

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
    fn a_page_is_cut_to_the_terminal_but_for_the_answer_and_the_ids() {
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
    fn what_begins_is_green_what_ends_red_and_what_is_odd_yellow() {
        let painted = page(&timeline(), None, true);
        for line in [
            "\u{1b}[1m\u{1b}[32m  + access begins\u{1b}[0m\n",
            "\u{1b}[31m  - leaves g1\u{1b}[0m\n",
            "\u{1b}[33m  ! it was done on 2026-03-05 09:00:00.000 UTC, for this moment\u{1b}[0m\n",
            "\u{1b}[1m\u{1b}[31mlost access on ",
        ] {
            assert!(painted.contains(line), "{line:?}: {painted:?}");
        }
        // Colours are all that differs, and no escape of a sender is among them.
        let plain: String = painted
            .split('\u{1b}')
            .enumerate()
            .map(|(at, part)| if at == 0 { part } else { part.split_once('m').unwrap().1 })
            .collect();
        assert_eq!(plain, page(&timeline(), None, false));
    }
}
