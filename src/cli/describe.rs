//! The description of the commands in other forms: completions for shells, manual pages, and the
//! list of commands in groups.

use std::any::TypeId;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Failure, print};

/// The commands of `rollcall --help`, in groups.
const GROUPS: [(&str, &[&str]); 8] = [
    (
        "Run a server",
        &["serve", "config", "key", "demo", "status", "health", "pull", "reconcile", "rebuild"],
    ),
    ("Read the directory", &["users", "groups", "directories", "roles", "diff"]),
    ("Audit", &["audit", "deprovisioned", "events", "changes", "quarantine"]),
    ("Set rules", &["mapping", "policy", "link"]),
    ("Exchange with other systems", &["directory", "scim", "deliveries", "sink"]),
    ("Prove and verify", &["prove", "check", "verify", "log-key"]),
    ("Recover", &["backup", "salvage", "restore"]),
    ("Try it, and set it up", &["send", "import", "generate", "completions", "man", "help"]),
];

/// Returns the description of all commands, with the commands of the help in groups.
pub(super) fn described() -> Command {
    let mut command = Cli::command();
    command.build();
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}Options:\n{{options}}{{after-help}}",
        grouped(&command)
    );
    Cli::command().help_template(template)
}

/// Returns the names of the variables that stand for options whose values are text.
pub(super) fn variables() -> Vec<String> {
    let command = Cli::command();
    let options = command.get_subcommands().flat_map(Command::get_arguments);
    let texts =
        options.filter(|option| option.get_value_parser().type_id() != TypeId::of::<PathBuf>());
    texts.filter_map(|option| Some(option.get_env()?.to_string_lossy().into_owned())).collect()
}

/// Returns the name and the first sentence of each command, in groups.
fn grouped(command: &Command) -> String {
    let mut text = String::new();
    for (group, names) in GROUPS {
        let _ = writeln!(text, "{group}:");
        for name in names {
            let about = command.find_subcommand(name).and_then(Command::get_about);
            let _ = writeln!(text, "  {name:<14} {}", about.cloned().unwrap_or_default());
        }
        text.push('\n');
    }
    text
}

/// Print completions for a shell.
#[derive(Args)]
#[command(after_help = "\
Example:
  rollcall completions bash > ~/.local/share/bash-completion/completions/rollcall")]
pub(super) struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut described(), "rollcall", &mut text);
        print(&String::from_utf8_lossy(&text))
    }
}

/// Write the manual pages, one a command.
#[derive(Args)]
#[command(after_help = "\
Example:
  rollcall man --out ~/.local/share/man/man1")]
pub(super) struct ManArgs {
    /// The folder to write to; it is made if it is missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

impl ManArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let failed = |error: io::Error| {
            Failure::Caller(format!("cannot write to `{}`: {error}", self.out.display()))
        };
        std::fs::create_dir_all(&self.out).map_err(failed)?;
        clap_mangen::generate_to(Cli::command(), &self.out).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_in_one_group() {
        let mut command = Cli::command();
        command.build();
        let mut named: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| *names).copied().collect();
        let mut all: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        named.sort_unstable();
        all.sort_unstable();
        assert_eq!(named, all);
    }

    #[test]
    fn the_list_of_commands_fits_a_terminal() {
        let mut command = Cli::command();
        command.build();
        for line in grouped(&command).lines() {
            assert!(line.chars().count() <= 110, "{line}");
        }
    }
}
