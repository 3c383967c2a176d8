//! What was recorded lately: counts over a few windows, by directory and type, and how late it came.

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::names::Name;
use crate::order::{Cut, Millis, Seq};
use crate::views::{Kind, Views};

/// How many windows are counted.
pub const WINDOWS: usize = 4;

/// How far each window reaches back, in milliseconds: a minute, an hour, a day, 30 days.
pub const WINDOWS_MS: [Millis; WINDOWS] = [60_000, 3_600_000, 86_400_000, 30 * 86_400_000];

/// The longest window whose delays are kept: a day.
const DELAYS_WINDOW: usize = 2;

/// A count for each window.
pub type Counts = [u64; WINDOWS];

/// What was recorded in each window, by our own clock.
pub struct Traffic {
    now: Millis,
    /// The next record to look at.
    next: Seq,
    totals: Counts,
    /// When it was recorded, and how long after it had happened.
    delays: Vec<(Millis, Millis)>,
    by_directory: HashMap<Name, HashMap<Name, Counts, FxBuildHasher>, FxBuildHasher>,
}

/// How long after they had happened events were recorded, in milliseconds; negative where the source's clock is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// Half of them came within this time.
    pub p50: Millis,
    /// 99 of 100 came within this time.
    pub p99: Millis,
    /// The latest.
    pub max: Millis,
}

/// How many are in a directory, as far as they were counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Alive and active; groups always are.
    pub active: u64,
    /// Alive and inactive.
    pub inactive: u64,
    /// The id to go on after, if there is more to count.
    pub next: Option<String>,
}

impl Traffic {
    /// Every record so far; those of events in the list of events and all others.
    pub fn totals(&self) -> Counts {
        self.totals
    }

    /// The delays in the last hour (1) or day (2); `None` where nothing came.
    pub fn delays(&self, window: usize) -> Option<Delays> {
        let reach = WINDOWS_MS.get(window.min(DELAYS_WINDOW))?;
        let mut delays: Vec<Millis> =
            self.delays.iter().filter(|(recorded_at, _)| self.now - recorded_at < *reach).map(|(_, delay)| *delay).collect();
        delays.sort_unstable();
        // The smallest delay that so many of a hundred do not exceed.
        let at = |hundredths: usize| delays.get((delays.len() * hundredths).div_ceil(100).checked_sub(1)?).copied();
        Some(Delays { p50: at(50)?, p99: at(99)?, max: at(100)? })
    }
}

impl Views {
    /// Counts of nothing yet, of what was recorded before `now`.
    pub fn traffic(&self, now: Millis) -> Traffic {
        let reach = WINDOWS_MS.iter().copied().max().unwrap_or(0);
        let next = self.known_at(now.saturating_sub(reach)) + 1;
        Traffic { now, next, totals: [0; WINDOWS], delays: Vec::new(), by_directory: HashMap::default() }
    }

    /// Counts the next records up to `known_at`, at most `limit`; says whether there are more. So a long count holds nobody up.
    pub fn count_traffic(&self, traffic: &mut Traffic, known_at: Seq, limit: usize) -> bool {
        let end = known_at.min(self.head()).min(traffic.next.saturating_add(limit as Seq).saturating_sub(1));
        for (recorded_at, seq) in self.recorded_from(traffic.next).take_while(|(_, seq)| *seq <= end) {
            let age = traffic.now - recorded_at;
            let add = |counts: &mut Counts| {
                for (count, _) in counts.iter_mut().zip(WINDOWS_MS).filter(|(_, reach)| age < *reach) {
                    *count += 1;
                }
            };
            add(&mut traffic.totals);
            let Some((line, occurred_at)) = self.events.get(seq) else { continue };
            add(traffic.by_directory.entry(line.directory).or_default().entry(line.kind).or_default());
            if WINDOWS_MS.get(DELAYS_WINDOW).is_some_and(|reach| age < *reach) {
                traffic.delays.push((recorded_at, recorded_at.saturating_sub(occurred_at)));
            }
        }
        traffic.next = traffic.next.max(end + 1);
        end < known_at
    }

    /// What came in for a directory, by type, in order of their names.
    pub fn traffic_of(&self, traffic: &Traffic, directory: &str) -> Vec<(String, Counts)> {
        let counts = self.directories.names.find(directory).and_then(|name| traffic.by_directory.get(&name));
        let mut kinds: Vec<(String, Counts)> =
            counts.into_iter().flatten().map(|(kind, counts)| (self.events.kinds.text(*kind).to_owned(), *counts)).collect();
        kinds.sort();
        kinds
    }

    /// Counts the users of a directory whose ids follow `after`, looking at no more than `limit` candidates.
    pub fn count_users(&self, directory: &str, cut: Cut, after: Option<&str>, limit: usize) -> Counted {
        self.count(Kind::User, directory, cut, after, limit)
    }

    /// Counts the groups of a directory whose ids follow `after`, looking at no more than `limit` candidates.
    pub fn count_groups(&self, directory: &str, cut: Cut, after: Option<&str>, limit: usize) -> Counted {
        self.count(Kind::Group, directory, cut, after, limit)
    }
}
