//! `rollcall policy`

use clap::{Args, ValueEnum};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::client::{Answer, Client, text_field};
use super::confirm::ConfirmArgs;
use super::moment::moment;
use super::read::listing::{Moment, Output, ask, refused};
use super::read::print::one_line;
use super::read::source::SourceArgs;
use super::{Failure, print, table};

/// Show or set the treatment of inactive users.
///
/// A policy in force from a past moment changes the answers about the time since then. With a
/// --known-at before it was set, answers do not change.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall policy
  rollcall policy --inactive-users delete --yes --effective-from 2026-01-01 \\
      --note \"requested by the auditors\"")]
pub(super) struct PolicyArgs {
    /// Set it: `retain` keeps an inactive user listed with all memberships, `delete` treats the
    /// user as deleted while inactive
    #[arg(long, value_name = "HOW", conflicts_with_all = ["data", "as_of", "known_at"])]
    inactive_users: Option<Treatment>,
    /// In force from this moment, such as 2026-03-01 or 30d; without it, from now
    #[arg(
        long,
        value_name = "T",
        value_parser = moment,
        requires = "inactive_users",
        conflicts_with_all = ["data", "as_of", "known_at"]
    )]
    effective_from: Option<String>,
    /// A reason for the record
    #[arg(
        long,
        value_name = "TEXT",
        requires = "inactive_users",
        conflicts_with_all = ["data", "as_of", "known_at"]
    )]
    note: Option<String>,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    moment: Moment,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: SourceArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Treatment {
    Retain,
    Delete,
}

impl Treatment {
    fn name(self) -> &'static str {
        match self {
            Treatment::Retain => "retain",
            Treatment::Delete => "delete",
        }
    }
}

const PATH: &str = "/rollcall/v1/policy";

impl PolicyArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let PolicyArgs { inactive_users, effective_from, note, confirm, .. } = self;
        let PolicyArgs { moment, output, source, .. } = self;
        if let Some(treatment) = inactive_users {
            confirm.confirm(&question(treatment, effective_from.as_deref()), "nothing was set")?;
        }
        source.ask(move |client| {
            let answer = match inactive_users {
                None => ask(client, &moment.query().at(PATH), "")?,
                Some(treatment) => {
                    let body = json!({
                        "inactive_users": treatment.name(),
                        "effective_from": effective_from,
                        "note": note,
                    });
                    set(client, &body)?
                }
            };
            if output.json {
                return print(&format!("{}\n", one_line(answer.json::<&RawValue>()?.get())));
            }
            print(&page(&answer.json()?))
        })
    }
}

/// Returns the question before the policy is set.
fn question(treatment: Treatment, effective_from: Option<&str>) -> String {
    let from = effective_from.unwrap_or("now on");
    format!("Set the policy `--inactive-users {}`, in force from {from}?", treatment.name())
}

fn set(client: &Client, body: &Value) -> Result<Answer, Failure> {
    let answer = client.put(PATH, body, None)?;
    if answer.status == 200 { Ok(answer) } else { Err(refused(&answer, client, "")) }
}

fn page(policy: &Value) -> String {
    let number = |name: &str| policy.get(name).and_then(Value::as_u64).unwrap_or(0);
    let text = |name| text_field(policy, name).to_owned();
    let set = || format!("{} by {}, record {}", text("set_at"), text("set_by"), number("seq"));
    let mut rows = vec![("inactive users", text("inactive_users"))];
    match number("version") {
        0 => rows.push(("version", "0, none was set".into())),
        version => rows.extend([
            ("version", version.to_string()),
            ("in force from", text("effective_from")),
            ("set", set()),
            ("note", text("note")),
        ]),
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| vec![name.to_owned(), value])
        .collect();
    let columns = [table::Column::whole(""), table::Column::new("")];
    table::draw_within(None, &columns, false, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_names_the_policy_and_its_beginning() {
        assert_eq!(
            question(Treatment::Delete, Some("2026-01-01T00:00:00.000Z")),
            "Set the policy `--inactive-users delete`, in force from 2026-01-01T00:00:00.000Z?"
        );
        assert_eq!(
            question(Treatment::Retain, None),
            "Set the policy `--inactive-users retain`, in force from now on?"
        );
    }

    #[test]
    fn the_page_shows_the_policy_and_its_origin() {
        let set = json!({
            "version": 1, "inactive_users": "delete", "seq": 7,
            "effective_from": "2026-01-01T00:00:00.000Z",
            "set_at": "2026-01-02T00:00:00.000Z", "set_by": "key_1", "note": "so",
        });
        let expected = "\
inactive users  delete
version         1
in force from   2026-01-01T00:00:00.000Z
set             2026-01-02T00:00:00.000Z by key_1, record 7
note            so
";
        assert_eq!(page(&set), expected);
        let none = json!({"version": 0, "inactive_users": "retain"});
        assert_eq!(page(&none), "inactive users  retain\nversion         0, none was set\n");
    }
}
