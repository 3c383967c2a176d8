//! `rollcall log-key`

use clap::{Args, Subcommand};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::auditor::keys_of;
use super::client::{Answer, text_field};
use super::confirm::ConfirmArgs;
use super::read::listing::{Output, ask, refused};
use super::read::print::one_line;
use super::read::source::{ServerArgs, SourceArgs};
use super::{Failure, print, table};

pub(super) const PATH: &str = "/rollcall/v1/log/key";

/// Show or change the key that signs checkpoints.
#[derive(Args)]
pub(super) struct LogKeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Subcommand)]
enum KeyCommand {
    Show(ShowKey),
    Rotate(RotateKey),
}

/// Show the public key and the former ones, for those who check proofs.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall log-key show
  rollcall log-key show --vkey > log.pub")]
struct ShowKey {
    /// Print only the public keys, one a line, the current one first: a file for --key of `check`
    /// and `verify`
    #[arg(long, conflicts_with = "json", help_heading = "Output")]
    vkey: bool,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: SourceArgs,
}

/// Make a new key and record the change.
///
/// Prints the keys on standard error. Prints the checkpoint that ends with the change, signed by
/// both keys, on standard output: give it to auditors who trust the old key.
#[derive(Args)]
#[command(after_help = "\
Example:
  rollcall log-key rotate --yes --note \"every year\" > handover.checkpoint")]
struct RotateKey {
    /// A reason for the record
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    confirm: ConfirmArgs,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    server: ServerArgs,
}

impl LogKeyArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            KeyCommand::Show(ShowKey { vkey, output, source }) => source.ask(move |client| {
                let answer = ask(client, PATH, "")?;
                if output.json {
                    return print_json(&answer);
                }
                let key: Value = answer.json()?;
                print(&if vkey { vkeys(&key) } else { page(&key) })
            }),
            KeyCommand::Rotate(RotateKey { note, confirm, output, server }) => {
                confirm.confirm("Change the log's key?", "no key was changed")?;
                let client = server.client()?;
                let answer = client.post(PATH, Some(&json!({ "note": note })))?;
                if answer.status != 200 {
                    return Err(refused(&answer, &client, ""));
                }
                if output.json {
                    return print_json(&answer);
                }
                let changed: Value = answer.json()?;
                eprint!("{}", page(&changed));
                print(text_field(&changed, "handover"))
            }
        }
    }
}

fn print_json(answer: &Answer) -> Result<(), Failure> {
    print(&format!("{}\n", one_line(answer.json::<&RawValue>()?.get())))
}

fn page(key: &Value) -> String {
    let since = key
        .get("seq")
        .and_then(Value::as_u64)
        .map_or("the first".to_owned(), |seq| format!("since record {seq}"));
    let mut rows = vec![vec![text_field(key, "key").into(), since, String::new(), String::new()]];
    let former = key.get("former").and_then(Value::as_array).into_iter().flatten();
    rows.extend(former.rev().map(former_row));
    let columns = [
        table::Column::whole("key"),
        table::Column::whole("signs"),
        table::Column::whole("changed by"),
        table::Column::new("note"),
    ];
    table::draw_within(None, &columns, true, &rows)
}

fn former_row(key: &Value) -> Vec<String> {
    let seq = key.get("seq").and_then(Value::as_u64).unwrap_or(0);
    vec![
        text_field(key, "key").into(),
        format!("until record {seq}, {}", text_field(key, "changed_at")),
        text_field(key, "changed_by").into(),
        text_field(key, "note").into(),
    ]
}

/// Returns the public keys of this log alone, one a line, the current one first.
fn vkeys(key: &Value) -> String {
    let origin = text_field(key, "origin");
    let own = keys_of(key).into_iter().rev().filter(|key| key.name() == origin);
    own.map(|key| format!("{key}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_the_current_key_and_the_former_ones() {
        let key = json!({"key": "a+2+B", "seq": 9, "former": [
            {"key": "a+0+X", "seq": 5, "changed_at": "2026-01-01T00:00:00.000Z",
             "changed_by": "key_1", "note": null},
            {"key": "a+1+Y", "seq": 9, "changed_at": "2026-02-01T00:00:00.000Z",
             "changed_by": "key_2", "note": "lost"},
        ]});
        let expected = "\
key    signs                                     changed by  note
a+2+B  since record 9                                        
a+1+Y  until record 9, 2026-02-01T00:00:00.000Z  key_2       lost
a+0+X  until record 5, 2026-01-01T00:00:00.000Z  key_1       
";
        let trimmed =
            |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(trimmed(&page(&key)), trimmed(expected));
        assert!(
            page(&json!({"key": "a+2+B", "seq": null, "former": []})).contains("a+2+B  the first")
        );
    }

    #[test]
    fn bare_keys_are_those_of_this_log_with_the_current_one_first() {
        // The keys in Go's documentation and in docs/proofs.md.
        let other = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let own = "rollcall/30313233-3435-3637-3839-616263646566+25b1009a\
                   +AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c";
        let origin = "rollcall/30313233-3435-3637-3839-616263646566";
        let former = json!([{"key": other}, {"key": "lost"}, {"key": own}]);
        let key = json!({"origin": origin, "key": own, "former": former});
        assert_eq!(vkeys(&key), format!("{own}\n{own}\n"));
        let key = json!({"origin": "PeterNeumann", "key": other, "former": [{"key": own}]});
        assert_eq!(vkeys(&key), format!("{other}\n"));
    }
}
