//! The configuration: `rollcall.toml`, and `rollcall config`, which checks and shows it.

mod document;
mod endpoints;
mod example;
mod given;
mod judge;
mod keys;
mod probe;
mod settings;
mod show;
mod suggest;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

pub(super) use document::Mistakes;
pub(super) use given::{Flags, Given};
pub(super) use judge::{Config, Purpose, Reloadable, WholeKey};
pub(super) use settings::{
    ACCESS_KEY_ID, ENDPOINT_URL, REGION, SECRET_ACCESS_KEY, SESSION_TOKEN, WEBHOOK_SECRETS,
    duration,
};
pub(super) use suggest::closest;

use super::{Failure, print};

/// Check and show the configuration of `rollcall serve`.
///
/// Options go before variables, and variables before the file. `config` takes the options of
/// `serve`, so that it sees the same.
#[derive(Args)]
pub(super) struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    Check(CheckArgs),
    Show(ShowArgs),
    Example(ExampleArgs),
}

/// Find every mistake in the configuration.
///
/// Exits with 0 if `serve` would take it, and with 1 and every mistake otherwise. With --probe it
/// also tries what can be tried.
#[derive(Args)]
#[command(after_help = "\
--probe records nothing and makes no file. Its webhook has a true signature and a time of 1970: a
server that knows the secret refuses it with `timestamp_outside_tolerance`, and only if its bytes
came through unchanged. The refusal is counted in `rollcall status`. To an endpoint it connects,
and sends nothing.

Example:
  rollcall config check --config /etc/rollcall.toml --probe")]
struct CheckArgs {
    /// Also try addresses, folders, the source of --pull, the PostgreSQL
    /// database, places of checkpoints, the archive, the addresses of
    /// [[endpoints]], and a webhook through --public-url
    #[arg(long)]
    probe: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Show every value and where it comes from, without secrets.
#[derive(Args)]
struct ShowArgs {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Print a configuration with every setting, commented.
#[derive(Args)]
#[command(after_help = "\
Example:
  rollcall config example > rollcall.toml")]
struct ExampleArgs {}

impl ConfigArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            ConfigCommand::Check(check) => check.run(),
            ConfigCommand::Show(show) => show.run(),
            ConfigCommand::Example(ExampleArgs {}) => print(&example::text()),
        }
    }
}

impl ShowArgs {
    fn run(self) -> Result<(), Failure> {
        let mut mistakes = Mistakes::default();
        let given = self.flags.gather(&mut mistakes);
        mistakes.extend(&given.endpoint_mistakes);
        print(&show::text(&given, &mistakes, self.json))?;
        if mistakes.is_empty() { Ok(()) } else { Err(Failure::Caller(mistakes.to_string())) }
    }
}

impl CheckArgs {
    fn run(self) -> Result<(), Failure> {
        let config = match self.flags.read(Purpose::Start) {
            Ok(config) => config,
            Err(mistakes) => return self.refuse(&mistakes),
        };
        let probed = if self.probe { probe::all(&config) } else { Vec::new() };
        let wrong = probed.iter().filter(|item| item.is_wrong()).count();
        if self.json {
            let checks: Vec<_> = probed.iter().map(probe::Item::json).collect();
            print(&format!("{}\n", found(&[], &config.warnings, &checks)))?;
        } else {
            print(&format!("{}\n", good(&config)))?;
            let warnings = config.warnings.iter().map(|warning| format!("warning    {warning}\n"));
            print(&warnings.collect::<String>())?;
            print(&probed.iter().map(probe::Item::text).collect::<String>())?;
        }
        if wrong == 0 {
            return Ok(());
        }
        Err(Failure::Caller(format!("{wrong} of {} checks found something wrong", probed.len())))
    }

    fn refuse(&self, mistakes: &Mistakes) -> Result<(), Failure> {
        if self.json {
            print(&format!("{}\n", found(mistakes.sentences(), &[], &[])))?;
        }
        Err(Failure::Caller(mistakes.to_string()))
    }
}

fn found(mistakes: &[String], warnings: &[String], checks: &[Value]) -> Value {
    json!({ "mistakes": mistakes, "warnings": warnings, "checks": checks })
}

/// Says what is good.
fn good(config: &Config) -> String {
    let file = match &config.given.file {
        Some(file) => format!("`{}`, the environment and the options", file.display()),
        None => "the environment and the options".into(),
    };
    let Reloadable { webhook_secrets, api_keys, .. } = &config.reloadable;
    let endpoints = match config.endpoints.len() {
        0 => String::new(),
        count => format!(", {}", counted(count, "endpoint")),
    };
    format!(
        "the configuration is good: {file}; {} and {}{endpoints}",
        counted(webhook_secrets.len(), "webhook secret"),
        counted(api_keys.len(), "API key")
    )
}

fn counted(count: usize, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {what}{end}")
}
