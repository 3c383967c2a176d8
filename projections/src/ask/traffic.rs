//! Traffic: counts of the latest records over a few windows, by directory and type, and their
//! delays.

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::symbols::Sym;
use crate::ground::walks::walk;
use crate::sight::Seen;
use crate::state::entities::EntityKind;
use crate::views::Views;

/// The number of windows.
pub const WINDOWS: usize = 4;

/// The length of each window in milliseconds: a minute, an hour, a day, 30 days.
pub const WINDOWS_MS: [Millis; WINDOWS] = [60_000, 3_600_000, 86_400_000, 30 * 86_400_000];

/// The longest window whose delays are kept: a day.
const DELAYS_WINDOW: usize = 2;

/// An event that is recorded later than this after it happened was backfilled: a source gives up a
/// delivery after three days.
pub const DELIVERY_MS_MAX: Millis = 3 * 86_400_000;

/// A count for each window.
pub type Counts = [u64; WINDOWS];

/// Counts of the records in each window, by Rollcall's own clock.
pub struct Traffic {
    now: Millis,
    /// The next record to look at.
    next: Seq,
    totals: Counts,
    /// For each event of the last day that was not backfilled: when it was recorded, and how long
    /// after it happened.
    delays: Vec<(Millis, Millis)>,
    backfilled: Counts,
    by_directory: HashMap<Sym, HashMap<Sym, Counts, FxBuildHasher>, FxBuildHasher>,
}

/// The delays between events and their recording, in milliseconds; negative if the source's clock
/// is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// Half of them came within this time.
    pub p50: Millis,
    /// 99 of 100 came within this time.
    pub p99: Millis,
    /// The latest.
    pub max: Millis,
}

/// The users or groups in a directory, as far as they were counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Alive and active; groups always are.
    pub active: u64,
    /// Alive and inactive.
    pub inactive: u64,
    /// The id after which to continue, if there is more to count.
    pub next: Option<String>,
}

impl Counted {
    /// Counts to the end: `step` counts what follows an id, or from the beginning. If it takes the
    /// lock on the views itself, that is free between the steps.
    pub fn whole(step: impl Fn(Option<&str>) -> Counted) -> Counted {
        let mut total = Counted::default();
        loop {
            let counted = step(total.next.as_deref());
            total = Counted {
                active: total.active + counted.active,
                inactive: total.inactive + counted.inactive,
                next: counted.next,
            };
            if total.next.is_none() {
                return total;
            }
        }
    }
}

impl Traffic {
    /// Returns the counts of all records, listed as events or not.
    pub fn totals(&self) -> Counts {
        self.totals
    }

    /// Returns the counts of events whose delay is not that of a delivery: they are left out of the
    /// delays. Observations are in neither: nothing delivered them.
    pub fn backfilled(&self) -> Counts {
        self.backfilled
    }

    /// Returns the delays in the last hour (1) or day (2); `None` if no event came.
    pub fn delays(&self, window: usize) -> Option<Delays> {
        let reach = WINDOWS_MS.get(window.min(DELAYS_WINDOW))?;
        let mut delays: Vec<Millis> = self
            .delays
            .iter()
            .filter(|(recorded_at, _)| self.now - recorded_at < *reach)
            .map(|(_, delay)| *delay)
            .collect();
        delays.sort_unstable();
        // The smallest delay that this many of a hundred do not exceed.
        let at = |hundredths: usize| {
            delays.get((delays.len() * hundredths).div_ceil(100).checked_sub(1)?).copied()
        };
        Some(Delays { p50: at(50)?, p99: at(99)?, max: at(100)? })
    }
}

impl Views {
    /// Returns empty counts of the windows that end at `now`.
    pub fn traffic(&self, now: Millis) -> Traffic {
        let reach = WINDOWS_MS.iter().copied().max().unwrap_or(0);
        let next = self.known_at(now.saturating_sub(reach)) + 1;
        Traffic {
            now,
            next,
            totals: [0; WINDOWS],
            delays: Vec::new(),
            backfilled: [0; WINDOWS],
            by_directory: HashMap::default(),
        }
    }

    /// Returns the counts of a directory, by type, in order of the types' names.
    pub fn traffic_of(&self, traffic: &Traffic, directory: &str) -> Vec<(String, Counts)> {
        let counts =
            self.directories.find(directory).and_then(|sym| traffic.by_directory.get(&sym));
        let mut event_types: Vec<(String, Counts)> = counts
            .into_iter()
            .flatten()
            .map(|(kind, counts)| (self.events.event_types.text(*kind).to_owned(), *counts))
            .collect();
        event_types.sort();
        event_types
    }

    /// Counts the entities that are alive in a directory, in order of id.
    pub(crate) fn count(
        &self,
        kind: EntityKind,
        directory: &str,
        cut: Cut,
        after: Option<&str>,
        limit: usize,
    ) -> Counted {
        let mut counted = Counted::default();
        let Some(directory) = self.directories.find(directory) else { return counted };
        let entities = self.entities(kind);
        let Some(roster) = entities.roster(directory) else { return counted };
        for (looked_at, sym) in
            walk(roster, cut, after, false, |item| entities.id(item)).enumerate()
        {
            match self.alive(kind, sym, cut).filter(|version| version.directory == directory) {
                Some(version) if version.active => counted.active += 1,
                Some(_) => counted.inactive += 1,
                None => {}
            }
            if looked_at + 1 >= limit {
                counted.next = Some(entities.id(sym).to_owned());
                break;
            }
        }
        counted
    }

    /// Counts the users of a directory whose ids follow `after`, looking at no more than `limit`
    /// candidates.
    pub fn count_users(
        &self,
        directory: &str,
        cut: Cut,
        after: Option<&str>,
        limit: usize,
    ) -> Counted {
        self.count(EntityKind::User, directory, cut, after, limit)
    }

    /// Counts the groups of a directory whose ids follow `after`, looking at no more than `limit`
    /// candidates.
    pub fn count_groups(
        &self,
        directory: &str,
        cut: Cut,
        after: Option<&str>,
        limit: usize,
    ) -> Counted {
        self.count(EntityKind::Group, directory, cut, after, limit)
    }
}

impl Seen<'_> {
    /// Counts the next records up to `known_at`, at most `limit`; true if there are more. Those
    /// that are not seen do not count. A long count is made in such steps, so that it blocks no
    /// other work.
    pub fn count_traffic(&self, traffic: &mut Traffic, known_at: Seq, limit: usize) -> bool {
        let end = known_at
            .min(self.head())
            .min(traffic.next.saturating_add(limit as Seq).saturating_sub(1));
        for (recorded_at, seq) in
            self.recorded_from(traffic.next).take_while(|(_, seq)| *seq <= end)
        {
            if !self.sees_event(seq) {
                continue;
            }
            let age = traffic.now - recorded_at;
            let add = |counts: &mut Counts| {
                for (count, _) in
                    counts.iter_mut().zip(WINDOWS_MS).filter(|(_, reach)| age < *reach)
                {
                    *count += 1;
                }
            };
            add(&mut traffic.totals);
            let Some((line, occurred_at)) = self.events.get(seq) else { continue };
            add(traffic
                .by_directory
                .entry(line.directory)
                .or_default()
                .entry(line.event_type)
                .or_default());
            if self.is_observation(seq) {
                continue;
            }
            let delay = recorded_at.saturating_sub(occurred_at);
            if delay > DELIVERY_MS_MAX {
                add(&mut traffic.backfilled);
            } else if WINDOWS_MS.get(DELAYS_WINDOW).is_some_and(|reach| age < *reach) {
                traffic.delays.push((recorded_at, delay));
            }
        }
        traffic.next = traffic.next.max(end + 1);
        end < known_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::fact::{Change, Entry, Fact, RecordStatus, UserData};
    use crate::ground::quarantine::Reason;
    use crate::sight::Sight;

    const NOW: Millis = 1_800_000_000_000;

    /// Folds a record of a user in directory `d`, or an unusable one, that was recorded `age`
    /// milliseconds ago and happened `delay` milliseconds earlier.
    fn record(views: &mut Views, kind: Option<(&str, &str, bool)>, age: Millis, delay: Millis) {
        let seq = views.head() + 1;
        let recorded_at = NOW - age;
        let data = |id, active| UserData {
            id,
            directory: Some("d"),
            organization: None,
            active,
            roles: "",
            email: None,
            idp_id: None,
        };
        let fact = match kind {
            Some((_, id, active)) => Fact::User(Change::Set, data(id, active)),
            None => Fact::Unusable(Reason::NotAnEvent),
        };
        let event_id = format!("event_{seq}");
        views.apply(&Entry {
            seq,
            recorded_at,
            occurred_at: recorded_at - delay,
            claimed_at: None,
            updated_at: None,
            observed_at: None,
            event_id: &event_id,
            event_type: kind.map_or("", |(kind, ..)| kind),
            status: RecordStatus::Counts,
            former_directories: &[],
            former_organizations: &[],
            unusable_at_first: None,
            fact,
        });
    }

    #[test]
    fn each_window_counts_what_was_recorded_in_it_in_steps_of_any_size() {
        let mut views = Views::new();
        record(&mut views, Some(("dsync.user.created", "u1", true)), 40 * 86_400_000, 0);
        record(&mut views, Some(("dsync.user.created", "u2", true)), 30 * 86_400_000 - 1, 5);
        record(&mut views, Some(("dsync.user.updated", "u2", false)), 86_400_000, 7);
        record(&mut views, None, 86_400_000 - 1, 9);
        record(&mut views, Some(("dsync.user.updated", "u1", true)), 3_600_000 - 1, 100);
        record(&mut views, Some(("dsync.user.updated", "u1", true)), 60_000, -20);
        record(&mut views, Some(("dsync.user.created", "u3", true)), 59_999, 60);
        for step in [1, 2, 100] {
            let mut traffic = views.traffic(NOW);
            while views.seen_by(&Sight::All).count_traffic(&mut traffic, views.head(), step) {}
            assert_eq!(
                traffic.totals(),
                [1, 3, 4, 6],
                "the first is older than 30 days, the unusable one counts"
            );
            let event_types = [
                ("dsync.user.created".to_owned(), [1, 1, 1, 2]),
                ("dsync.user.updated".to_owned(), [0, 2, 2, 3]),
            ];
            assert_eq!(views.traffic_of(&traffic, "d"), event_types);
            assert_eq!(views.traffic_of(&traffic, "never"), []);
            assert_eq!(traffic.delays(1), Some(Delays { p50: 60, p99: 100, max: 100 }));
            assert_eq!(traffic.delays(2), traffic.delays(1));
        }
        let mut until_four = views.traffic(NOW);
        while views.seen_by(&Sight::All).count_traffic(&mut until_four, 4, 1) {}
        assert_eq!((until_four.totals(), until_four.delays(1)), ([0, 0, 1, 3], None));
    }

    #[test]
    fn a_backfill_is_counted_and_delays_nothing() {
        let mut views = Views::new();
        let updated = Some(("dsync.user.updated", "u1", true));
        for delay in [DELIVERY_MS_MAX + 1, 454 * 86_400_000, 60, DELIVERY_MS_MAX] {
            record(&mut views, updated, 3_599_999, delay);
        }
        let mut traffic = views.traffic(NOW);
        while views.seen_by(&Sight::All).count_traffic(&mut traffic, views.head(), 100) {}
        let delays = Delays { p50: 60, p99: DELIVERY_MS_MAX, max: DELIVERY_MS_MAX };
        assert_eq!((traffic.delays(1), traffic.backfilled()), (Some(delays), [0, 2, 2, 2]));
    }

    #[test]
    fn users_are_counted_in_steps_as_of_the_cut() {
        let mut views = Views::new();
        for (id, active) in [("u3", true), ("u1", true), ("u2", false), ("u3", false)] {
            record(&mut views, Some(("dsync.user.updated", id, active)), 0, 0);
        }
        let counted = |known_at, limit| {
            let cut = Cut { known_at, ..Cut::LATEST };
            let total = Counted::whole(|after| views.count_users("d", cut, after, limit));
            (total.active, total.inactive)
        };
        for limit in [1, 2, 100] {
            assert_eq!(
                (counted(4, limit), counted(3, limit), counted(1, limit), counted(0, limit)),
                ((1, 2), (2, 1), (1, 0), (0, 0))
            );
        }
        assert_eq!(views.count_users("never", Cut::LATEST, None, 1), Counted::default());
        assert_eq!(views.count_groups("d", Cut::LATEST, None, 1), Counted::default());
    }
}
