//! Generated histories: companies, and the events of their directories in order of delivery.

use std::ops::Range;

use rollcall_projections::Millis;

use crate::company::{Company, CompanyPlan, DAY_MS};
use crate::delivery::{Deliveries, Merged};
use crate::dice::Dice;
use crate::words;

/// The stream of random numbers for the deliveries. The stream of a company is its number.
const DELIVERY: u64 = u64::MAX;

/// A history to generate. The same plan always gives the same bytes.
///
/// Each directory is a company and an organization of its own. It is connected within a day of
/// `start`, sends its users, groups and memberships, and then lives for `days`.
#[derive(Clone, Debug)]
pub struct HistoryPlan {
    /// The number of people in the initial syncs of all directories, at least one for each.
    pub people: u64,
    /// The number of directories. The first is the largest.
    pub directories: u64,
    /// Another seed gives another history.
    pub seed: u64,
    /// The days of life after the initial sync.
    pub days: u64,
    /// The moment at which the first directory is connected, one of [`HistoryPlan::STARTS`].
    pub start: Millis,
    /// The fraction of the events that is delivered late.
    pub late: f64,
    /// The fraction of the events that is delivered twice.
    pub duplicates: f64,
}

impl HistoryPlan {
    /// 2016 to 2089: ids can hold every moment up to ten years later.
    pub const STARTS: Range<Millis> = 1_451_606_400_000..3_786_912_000_000;

    /// Returns the bodies in order of delivery. Each is made when it is asked for.
    pub fn bodies(self) -> impl Iterator<Item = String> {
        let mut dice = Dice::new(self.seed, DELIVERY);
        let names = dice.below(words::COMPANIES.len() as u64 * words::TRADES.len() as u64);
        let companies = (0..).zip(sizes(self.people, self.directories)).map(|(number, people)| {
            let start = if number == 0 {
                self.start
            } else {
                self.start + dice.below(DAY_MS.unsigned_abs()) as Millis
            };
            let plan = CompanyPlan {
                people,
                days: self.days,
                start,
                name: company_name(names + 7 * number, number),
                secure: number % 3 != 1,
            };
            Company::new(plan, Dice::new(self.seed, number))
        });
        let companies = companies.collect();
        Deliveries::new(Merged::new(companies), dice, self.late, self.duplicates)
    }
}

/// Returns the number of people in each company: one each, and the rest in proportion to 1, 1/2,
/// 1/3, and so on.
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

/// Returns the name of a company. All pairs of words are used before one is used again, with a
/// number.
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
