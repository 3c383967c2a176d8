//! Traffic: counts of the latest records over a few windows, by directory and type, and their
//! delays.

use std::collections::BTreeMap;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::ground::event_type::EventType;
use crate::ground::fact::InactiveUsers;
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::quarantine::{Quarantined, Reason};
use crate::ground::symbols::Sym;
use crate::ground::walks::walk;
use crate::sight::Seen;
use crate::state::entities::EntityKind;
use crate::state::living::{Living, LivingCounts};
use crate::views::Views;

/// The number of windows.
pub const WINDOWS: usize = 4;

/// The length of each window in milliseconds: a minute, an hour, a day, 30 days.
pub const WINDOWS_MS: [Millis; WINDOWS] = [60_000, 3_600_000, 86_400_000, 30 * 86_400_000];

/// The longest window whose delays are kept: a day. The other one is the hour before it.
const DELAYS_WINDOW: usize = 2;

/// An event that is recorded later than this after it happened was backfilled: a source gives up a
/// delivery after three days.
pub const DELIVERY_MS_MAX: Millis = 3 * 86_400_000;

/// A count for each window.
pub type Counts = [u64; WINDOWS];

/// Counts of the records in each window, by Rollcall's own clock, and of the quarantine.
///
/// The windows move with the clock: what leaves one is taken off, so that a count that goes on
/// costs what came and what left since.
pub struct Traffic {
    now: Millis,
    /// The next record to look at.
    next: Seq,
    /// By window: the first record in it.
    first: [Seq; WINDOWS],
    totals: Counts,
    /// The delays between events and their recording, in the last hour and in the last day, without
    /// those that were backfilled.
    delays: [DelayCounts; 2],
    backfilled: Counts,
    by_directory: HashMap<Sym, HashMap<Sym, Counts, FxBuildHasher>, FxBuildHasher>,
    /// The number of the next entry of the quarantine to look at.
    next_listed: usize,
    /// The number of the first entry of the last day.
    first_of_day: usize,
    listed: ReasonCounts,
    listed_of_day: ReasonCounts,
}

/// A number of delays, from which the one at a rank is found without sorting.
#[derive(Default)]
struct DelayCounts {
    /// Each delay, then the same in coarser and coarser steps.
    levels: [BTreeMap<Millis, u64>; LEVELS],
    total: u64,
}

/// The number of levels, and the digits by which each is coarser than the one before.
const LEVELS: usize = 3;
const LEVEL_BITS: u32 = 9;

impl DelayCounts {
    fn add(&mut self, delay: Millis) {
        self.total += 1;
        for (level, bits) in self.levels.iter_mut().zip(level_bits()) {
            *level.entry(delay >> bits).or_default() += 1;
        }
    }

    fn remove(&mut self, delay: Millis) {
        self.total = self.total.saturating_sub(1);
        for (level, bits) in self.levels.iter_mut().zip(level_bits()) {
            let step = delay >> bits;
            let Some(count) = level.get_mut(&step) else { continue };
            *count -= 1;
            if *count == 0 {
                level.remove(&step);
            }
        }
    }

    /// Returns the delay at a rank, from 1 for the smallest, in ascending order.
    fn at_rank(&self, mut rank: u64) -> Option<Millis> {
        let (mut low, mut high) = (Millis::MIN, Millis::MAX);
        let mut found = None;
        for (level, bits) in self.levels.iter().zip(level_bits()).rev() {
            let (step, before) = nth(level, low >> bits, high >> bits, rank)?;
            rank -= before;
            low = step << bits;
            high = low | ((1 << bits) - 1);
            found = Some(low);
        }
        found
    }
}

fn level_bits() -> impl DoubleEndedIterator<Item = u32> + ExactSizeIterator {
    (0..LEVELS as u32).map(|level| level * LEVEL_BITS)
}

/// Returns the step in which the count reaches a rank, and the count before it.
fn nth(
    level: &BTreeMap<Millis, u64>,
    low: Millis,
    high: Millis,
    rank: u64,
) -> Option<(Millis, u64)> {
    let mut before = 0;
    for (step, count) in level.range(low..=high) {
        if before + count >= rank {
            return Some((*step, before));
        }
        before += count;
    }
    None
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
    /// delays. What Rollcall writes itself is in neither: nothing delivered it.
    pub fn backfilled(&self) -> Counts {
        self.backfilled
    }

    /// Returns the delays in the last hour (1) or day (2); `None` if no event came.
    pub fn delays(&self, window: usize) -> Option<Delays> {
        let delays = self.delays.get(window.clamp(1, DELAYS_WINDOW) - 1)?;
        // The smallest delay that this many of a hundred do not exceed.
        let at = |hundredths: u64| delays.at_rank((delays.total * hundredths).div_ceil(100));
        if delays.total == 0 {
            return None;
        }
        Some(Delays { p50: at(50)?, p99: at(99)?, max: at(100)? })
    }

    /// Returns the counts of the quarantine, by the place of the reason in [`Reason::CODES`].
    pub fn quarantine(&self) -> ReasonCounts {
        self.listed
    }

    /// Returns the same of the last day.
    pub fn quarantine_of_day(&self) -> ReasonCounts {
        self.listed_of_day
    }

    fn count_listed(&mut self, entry: &Quarantined, number: usize) {
        add_reason(&mut self.listed, entry.reason, 1);
        if number >= self.first_of_day {
            add_reason(&mut self.listed_of_day, entry.reason, 1);
        }
    }
}

/// Counts by the place of the reason in [`Reason::CODES`].
pub type ReasonCounts = [u64; Reason::CODES.len()];

fn add_reason(counts: &mut ReasonCounts, reason: Reason, change: i64) {
    let of_reason = counts.iter_mut().zip(Reason::CODES).filter(|(_, code)| *code == reason.code());
    of_reason.for_each(|(count, _)| *count = count.saturating_add_signed(change));
}

impl Views {
    /// Returns empty counts of the windows that end at `now`.
    pub fn traffic(&self, now: Millis) -> Traffic {
        let first = self.first_in_windows(now);
        let first_of_day = self.first_listed_of_day(now);
        Traffic {
            now,
            next: first.iter().copied().min().unwrap_or(1),
            first,
            totals: [0; WINDOWS],
            delays: Default::default(),
            backfilled: [0; WINDOWS],
            by_directory: HashMap::default(),
            next_listed: 0,
            first_of_day,
            listed: ReasonCounts::default(),
            listed_of_day: ReasonCounts::default(),
        }
    }

    /// Returns the first record of each window that ends at `now`, also if it is still to come.
    fn first_in_windows(&self, now: Millis) -> [Seq; WINDOWS] {
        WINDOWS_MS.map(|reach| self.known_at(now.saturating_sub(reach)) + 1)
    }

    /// Returns the number of the first entry of the quarantine in the day that ends at `now`.
    fn first_listed_of_day(&self, now: Millis) -> usize {
        let day = WINDOWS_MS.get(DELAYS_WINDOW).copied().unwrap_or(0);
        let before = self.known_at(now.saturating_sub(day));
        self.quarantine.partition_point(|entry| entry.seq <= before)
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

    /// Returns the counts of what exists in each directory by all that is known. Costs a copy of
    /// them.
    pub fn living(&self) -> Living {
        self.living.clone()
    }

    /// Returns the users and the groups of a directory by counts that were taken before, as they
    /// are shown under the policy in force now.
    pub fn living_in(&self, living: &Living, directory: &str) -> [Counted; 2] {
        let directory = self.directories.find(directory);
        let counts = directory.map_or_else(LivingCounts::default, |sym| living.of(sym));
        let policy = self.policies.in_force(Cut::LATEST);
        let hides = policy.is_some_and(|policy| policy.inactive_users == InactiveUsers::Delete);
        let inactive = if hides { 0 } else { counts.inactive_users };
        let counted = |active, inactive| Counted { active, inactive, next: None };
        [counted(counts.active_users, inactive), counted(counts.groups, 0)]
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
    /// Counts the next records up to `known_at`, at most `limit`, and as many entries of the
    /// quarantine; true if there are more. Those that are not seen do not count. A long count is
    /// made in such steps, so that it blocks no other work.
    pub fn count_traffic(&self, traffic: &mut Traffic, known_at: Seq, limit: usize) -> bool {
        let end = known_at
            .min(self.head())
            .min(traffic.next.saturating_add(limit as Seq).saturating_sub(1));
        for (recorded_at, seq) in
            self.recorded_from(traffic.next).take_while(|(_, seq)| *seq <= end)
        {
            let within = traffic.first.map(|first| seq >= first);
            self.change_traffic(traffic, (recorded_at, seq), within, 1);
        }
        traffic.next = traffic.next.max(end + 1);
        let listed = self.quarantine.get(traffic.next_listed..).unwrap_or_default();
        let known = listed.iter().take_while(|entry| entry.seq <= known_at);
        let mut counted = 0;
        for entry in known.take(limit) {
            if self.sees_event(entry.seq) {
                traffic.count_listed(entry, traffic.next_listed + counted);
            }
            counted += 1;
        }
        traffic.next_listed += counted;
        end < known_at.min(self.head()) || counted == limit
    }

    /// Moves the windows on, so that they end at `now`; takes at most `limit` records off each.
    /// True if there is more to take off. If the clock was set back, the count begins anew.
    pub fn move_traffic(&self, traffic: &mut Traffic, now: Millis, limit: usize) -> bool {
        if now < traffic.now {
            *traffic = self.traffic(now);
            return false;
        }
        traffic.now = now;
        let mut is_left = false;
        for (window, first) in self.first_in_windows(now).into_iter().enumerate() {
            let begun = traffic.first.get(window).copied().unwrap_or(first);
            let end = first.min(traffic.next).min(begun.saturating_add(limit as Seq));
            let mut within = [false; WINDOWS];
            within.iter_mut().skip(window).take(1).for_each(|one| *one = true);
            for record in self.recorded_from(begun).take_while(|(_, seq)| *seq < end) {
                self.change_traffic(traffic, record, within, -1);
            }
            let reached = end.max(begun);
            is_left |= reached < first.min(traffic.next);
            let reached = if reached >= traffic.next { first.max(reached) } else { reached };
            traffic.first.iter_mut().skip(window).take(1).for_each(|first| *first = reached);
        }
        // What is in no window is passed over.
        let first = traffic.first.iter().copied().min().unwrap_or(traffic.next);
        traffic.next = traffic.next.max(first);
        self.move_listed(traffic, now);
        is_left
    }

    /// Takes the entries of the quarantine off that are older than a day.
    fn move_listed(&self, traffic: &mut Traffic, now: Millis) {
        let first = self.first_listed_of_day(now).max(traffic.first_of_day);
        let left = traffic.first_of_day..first.min(traffic.next_listed);
        for entry in self.quarantine.get(left).unwrap_or_default() {
            if self.sees_event(entry.seq) {
                add_reason(&mut traffic.listed_of_day, entry.reason, -1);
            }
        }
        traffic.first_of_day = first;
    }

    /// Adds a record to some windows, or takes it off if `change` is -1.
    fn change_traffic(
        &self,
        traffic: &mut Traffic,
        (recorded_at, seq): (Millis, Seq),
        within: [bool; WINDOWS],
        change: i64,
    ) {
        if !self.sees_event(seq) {
            return;
        }
        let add = |counts: &mut Counts| {
            for (count, _) in counts.iter_mut().zip(within).filter(|(_, within)| *within) {
                *count = count.saturating_add_signed(change);
            }
        };
        add(&mut traffic.totals);
        let Some((line, occurred_at)) = self.events.get(seq) else { return };
        let of_directory = traffic.by_directory.entry(line.directory).or_default();
        let of_type = of_directory.entry(line.event_type).or_default();
        add(of_type);
        if *of_type == [0; WINDOWS] {
            of_directory.remove(&line.event_type);
        }
        if self.known_type(seq).is_some_and(EventType::is_own) {
            return;
        }
        let delay = recorded_at.saturating_sub(occurred_at);
        if delay > DELIVERY_MS_MAX {
            add(&mut traffic.backfilled);
            return;
        }
        let windows = within.into_iter().skip(1);
        for (delays, _) in traffic.delays.iter_mut().zip(windows).filter(|(_, within)| *within) {
            if change > 0 { delays.add(delay) } else { delays.remove(delay) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::fact::{Change, Entry, Fact, Provenance, RecordStatus, UserData};
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
            provenance: Provenance::Source,
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
    fn what_rollcall_writes_itself_has_no_delay() {
        let mut views = Views::new();
        for event_type in ["rollcall.user.observed", "rollcall.link.set", "dsync.user.updated"] {
            record(&mut views, Some((event_type, "u1", true)), 60, 7);
        }
        let mut traffic = views.traffic(NOW);
        while views.seen_by(&Sight::All).count_traffic(&mut traffic, views.head(), 100) {}
        assert_eq!(traffic.delays(1), Some(Delays { p50: 7, p99: 7, max: 7 }));
        assert_eq!((traffic.delays[0].total, traffic.totals()[0]), (1, 3));
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
