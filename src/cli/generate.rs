//! `rollcall generate`

use std::io::{BufWriter, Write};

use clap::Args;
use rollcall_generator::HistoryPlan;
use rollcall_projections::Millis;

use super::moment::moment_ms;
use super::{Failure, unwritten};

/// Generate the history of invented companies: webhook bodies, one a line, in order of delivery.
///
/// Each directory is connected within a day of `--from`, sends its users, groups and memberships,
/// and lives for `--days`: people are hired, move, leave, and sometimes come back; names and
/// attributes change; groups come, go and are renamed; now and then a department is reorganised
/// within a second. In every third directory, beginning with the second, leavers become inactive;
/// in the others they are deleted.
///
/// The same arguments always give the same bytes, unless `--from` is an age: the clock is not read
/// otherwise. A server takes a history that reaches into the future, but refuses an `as_of` that
/// lies ahead of its clock. Uses about 300 bytes of memory per person, plus the delayed events.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0, also if the reader stops reading; 1 for a mistake in the arguments.

Example, to a server on this machine:
  export ROLLCALL_WEBHOOK_SECRET=whsec_…
  rollcall generate --people 10000 | rollcall send")]
pub(super) struct GenerateArgs {
    /// Number of people in the initial syncs, all directories together
    #[arg(
        long,
        default_value_t = 100,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000)
    )]
    people: u64,
    /// Number of directories, each a company and an organization of its own; the first is the
    /// largest
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    directories: u64,
    /// Another seed gives another history
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Days of life after the initial sync
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(0..=3650))]
    days: u64,
    /// The moment at which the first directory is connected, from 2016 to 2089: a date, a time or
    /// an age, such as 1y
    #[arg(
        long,
        value_name = "TIME",
        default_value = "2026-01-05T08:00:00.000Z",
        value_parser = from
    )]
    from: Millis,
    /// Fraction of the events that is delivered late, a minute to almost three days after it
    /// happened
    #[arg(
        long,
        value_name = "FRACTION",
        allow_negative_numbers = true,
        default_value = "0.05",
        value_parser = fraction
    )]
    late: f64,
    /// Fraction of the events that is delivered twice
    #[arg(
        long,
        value_name = "FRACTION",
        allow_negative_numbers = true,
        default_value = "0.02",
        value_parser = fraction
    )]
    duplicates: f64,
}

fn from(text: &str) -> Result<Millis, String> {
    let from = moment_ms(text)?;
    if HistoryPlan::STARTS.contains(&from) {
        Ok(from)
    } else {
        Err(format!("`{text}` is not in the years 2016 to 2089"))
    }
}

fn fraction(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|fraction| (0.0..=1.0).contains(fraction))
        .ok_or_else(|| "it must be a number from 0 to 1".into())
}

impl GenerateArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        let GenerateArgs { people, directories, seed, days, from, late, duplicates } = self;
        if people < directories {
            return Err(Failure::Caller(format!(
                "{people} people cannot fill {directories} directories"
            )));
        }
        let plan = HistoryPlan { people, directories, seed, days, start: from, late, duplicates };
        let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
        let written =
            plan.bodies().try_for_each(|body| writeln!(out, "{body}")).and_then(|()| out.flush());
        written.map_err(|error| unwritten(&error))
    }
}
