//! `rollcall generate`

mod company;
mod delivery;
mod dice;
mod words;

use std::io::{BufWriter, Write};

use clap::Args;
use rollcall_projections::Millis;

use self::company::{Company, DAY_MS, Plan};
use self::delivery::{Delivery, Merged};
use self::dice::Dice;
use super::{Failure, unwritten};
use crate::time;

/// 2016 to 2089: with ten years of life after them, still moments that an id can hold.
const FROM_MS: std::ops::Range<Millis> = 1_451_606_400_000..3_786_912_000_000;

/// The stream of chance that decides about delivery; a company's is its number.
const DELIVERY: u64 = u64::MAX;

/// Make the history of companies that never were: webhook bodies, one a line, in order of delivery.
///
/// Each directory is connected within a day of `--from`, sends its people, its groups and their
/// memberships, and lives for `--days`: hires, moves, leavers, some of whom come back, changes of
/// names and attributes, groups that come, go and are renamed, and now and then a department that
/// is regrouped within a second. In every third directory, beginning with the second, leavers turn
/// inactive; in the others they are deleted.
///
/// The same arguments always give the same bytes: the clock is not read. A history that reaches
/// into the future is taken by a server, but it refuses an `as_of` that lies ahead of its clock.
/// Memory: some 300 bytes a person, and the bodies that are late at the time.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0, also if the reader stops reading; 1 for a mistake in the arguments.

Example, to a server on this machine:
  export ROLLCALL_WEBHOOK_SECRET=whsec_…
  rollcall generate --people 10000 | rollcall send")]
pub(super) struct Generate {
    /// How many people the initial syncs bring, all directories together
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    people: u64,
    /// How many directories, each a company and an organization of its own; the first is the
    /// largest
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    directories: u64,
    /// Another seed, another history
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Days of life after the initial sync
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u64).range(0..=3650))]
    days: u64,
    /// When the first directory is connected: RFC 3339, from 2016 to 2089
    #[arg(long, value_name = "TIME", default_value = "2026-01-05T08:00:00.000Z", value_parser = from)]
    from: Millis,
    /// Which part of the events is delivered late, a minute to almost three days after it happened
    #[arg(long, value_name = "FRACTION", allow_negative_numbers = true, default_value = "0.05", value_parser = fraction)]
    late: f64,
    /// Which part of the events is delivered twice
    #[arg(long, value_name = "FRACTION", allow_negative_numbers = true, default_value = "0.02", value_parser = fraction)]
    duplicates: f64,
}

fn from(text: &str) -> Result<Millis, String> {
    let from = time::parse(text).ok_or("it must be a time like 2026-01-05T08:00:00.000Z")?;
    if FROM_MS.contains(&from) {
        Ok(from)
    } else {
        Err("it must be in the years 2016 to 2089".into())
    }
}

fn fraction(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|fraction| (0.0..=1.0).contains(fraction))
        .ok_or_else(|| "it must be a number from 0 to 1".into())
}

impl Generate {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.people < self.directories {
            return Err(Failure::Caller(format!(
                "{} people cannot fill {} directories",
                self.people, self.directories
            )));
        }
        let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
        let written =
            self.history().try_for_each(|body| writeln!(out, "{body}")).and_then(|()| out.flush());
        written.map_err(|error| unwritten(&error))
    }

    /// Bodies in order of delivery, each made when it is asked for.
    fn history(&self) -> impl Iterator<Item = String> {
        let mut dice = Dice::new(self.seed, DELIVERY);
        let names = dice.below(words::COMPANIES.len() as u64 * words::TRADES.len() as u64);
        let companies = (0..).zip(sizes(self.people, self.directories)).map(|(number, people)| {
            let start = if number == 0 {
                self.from
            } else {
                self.from + dice.below(DAY_MS.unsigned_abs()) as Millis
            };
            let plan = Plan {
                people,
                days: self.days,
                start,
                name: company_name(names + 7 * number, number),
                secure: number % 3 != 1,
            };
            Company::new(plan, Dice::new(self.seed, number))
        });
        let companies = companies.collect();
        Delivery::new(Merged::new(companies), dice, self.late, self.duplicates)
    }
}

/// How many people each company has: at least one, the second half as many more as the first, the
/// third a third, and so on.
fn sizes(people: u64, directories: u64) -> Vec<u64> {
    let weight = |number: u64| u128::from(u64::MAX) / u128::from(number + 1);
    let total: u128 = (0..directories).map(weight).sum();
    let spare = people.saturating_sub(directories);
    let mut sizes: Vec<u64> = (0..directories)
        .map(|number| 1 + (u128::from(spare) * weight(number) / total) as u64)
        .collect();
    let placed: u64 = sizes.iter().sum();
    sizes.iter_mut().take(1).for_each(|first| *first += people.saturating_sub(placed));
    sizes
}

/// The words go through all their pairs before one returns, with a number.
fn company_name(pair: u64, number: u64) -> String {
    let (companies, trades) = (words::COMPANIES.len(), words::TRADES.len());
    let pair = pair as usize % (companies * trades);
    let word = |list: &[&'static str], at: usize| list.get(at).copied().unwrap_or_default();
    let name = format!(
        "{} {}",
        word(&words::COMPANIES, pair % companies),
        word(&words::TRADES, pair / companies)
    );
    let round = number as usize / (companies * trades) + 1;
    if round > 1 { format!("{name} {round}") } else { name }
}

#[cfg(test)]
mod tests;
