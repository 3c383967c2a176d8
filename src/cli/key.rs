//! `rollcall key`

use std::collections::BTreeSet;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Failure, print};
use crate::keys::{KeyEntry, NewKey, Scope};
use crate::time;

/// Make API keys.
#[derive(Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Subcommand)]
enum KeyCommand {
    New(NewArgs),
}

/// Make a key, and print it with its entry for the configuration.
///
/// The key is shown only now, and kept nowhere. The entry holds its SHA-256, which does not reveal
/// it. Put the entry into the server's configuration file, and have the server read that again.
#[derive(Args)]
#[command(after_help = "\
Scopes, none of which implies another:
  read     the present: directories, users, groups, roles, changes, counts
  audit    the past: any `as_of`, events, histories, comparisons, proofs
  operate  mapping, policy, rebuilds, and every other act
  ingest   import

Examples:
  rollcall key new --name login --scopes read
  rollcall key new --name auditor --scopes read,audit --expires 90d
  rollcall key new --name acme --scopes read --organization org_01K33SRHPWWZ1Q313AXTSCGDJ0")]
struct NewArgs {
    /// The key's unique name in the log and in records: 1 to 64 letters, digits and `-_.`,
    /// beginning with a letter or digit
    #[arg(long)]
    name: String,
    /// What it may do: ingest, read, audit, operate; commas separate several
    #[arg(
        long,
        required = true,
        value_delimiter = ',',
        value_parser = PossibleValuesParser::new(Scope::ALL.map(Scope::word)),
        hide_possible_values = true,
        value_name = "SCOPES"
    )]
    scopes: Vec<String>,
    /// Show it only what is of this organization; commas separate several
    #[arg(long = "organization", value_name = "ID", value_delimiter = ',')]
    organizations: Vec<String>,
    /// Refuse it this long from now: a number and s, m, h or d, such as 90d [default: never]
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    expires: Option<i64>,
    /// Let it make at most this many requests in a minute [default: any number]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate_limit: Option<u32>,
    /// Print `{key, entry}` as JSON; the entry is TOML
    #[arg(long)]
    json: bool,
}

impl KeyArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        match self.command {
            KeyCommand::New(new) => new.run(),
        }
    }
}

impl NewArgs {
    fn run(self) -> Result<(), Failure> {
        let json = self.json;
        let key = NewKey::make().map_err(Failure::ours)?;
        let entry = self.entry(&key);
        entry.read().map_err(|fault| Failure::Caller(format!("the key's {fault}")))?;
        let (text, entry) = (key.text, entry.to_toml());
        if json {
            return print(&format!("{}\n", json!({ "key": text, "entry": entry })));
        }
        print(&format!(
            "The key, which is shown only now:\n\n{text}\n\nIts entry for the configuration \
            file:\n\n{entry}"
        ))
    }

    fn entry(self, key: &NewKey) -> KeyEntry {
        // In the order of the scopes, each once.
        let given: BTreeSet<Scope> =
            self.scopes.iter().filter_map(|word| Scope::of_word(word)).collect();
        let expires_at = self.expires.map(|lifetime_ms| {
            let now_s = time::now_ms().div_euclid(1000);
            time::format((now_s * 1000).saturating_add(lifetime_ms))
        });
        KeyEntry {
            name: self.name,
            sha256: hex::encode(key.sha256),
            scopes: given.into_iter().map(|scope| scope.word().to_owned()).collect(),
            organizations: Some(self.organizations).filter(|ids| !ids.is_empty()),
            expires_at,
            rate_limit: self.rate_limit,
        }
    }
}

/// The longest lifetime, in days: a hundred years.
const DAYS_MAX: i64 = 36_525;

/// Reads a number and a unit, such as `90d`, as milliseconds.
pub(super) fn lifetime(text: &str) -> Result<i64, String> {
    const FORM: &str = "it must be a number and one of the units s, m, h and d, like 90d";
    let unit_ms = match text.chars().last() {
        Some('s') => 1000,
        Some('m') => 60 * 1000,
        Some('h') => 60 * 60 * 1000,
        Some('d') => DAY_MS,
        _ => return Err(FORM.into()),
    };
    let number = text.get(..text.len() - 1).unwrap_or_default();
    if !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(FORM.into());
    }
    let ms = number.parse::<i64>().ok().and_then(|number| number.checked_mul(unit_ms));
    ms.filter(|ms| (1..=DAYS_MAX * DAY_MS).contains(ms))
        .ok_or_else(|| format!("it must be more than nothing and at most {DAYS_MAX}d"))
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_number_and_a_unit() {
        for (text, seconds) in [("1s", 1), ("5m", 300), ("2h", 7200), ("90d", 7_776_000)] {
            assert_eq!(lifetime(text), Ok(seconds * 1000), "{text}");
        }
        for text in ["", "d", "90", "0d", "-1d", "1ms", "1w", "1.5d", "+1d", "99999d", "1é"] {
            assert!(lifetime(text).is_err(), "{text}");
        }
    }
}
