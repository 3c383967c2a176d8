//! The tally: what records cause, counted behind the fold on a thread of its own, so that neither
//! a webhook nor a question pays for it.
//!
//! It begins with the records of the last hour, so that a restart does not hide a mass
//! deprovisioning. What is counted since the start leaves them out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rollcall_projections::{
    AccessChange, Counted, Cut, DELIVERY_MS_MAX, DirectoryFilter, Effect, Entry, EventSubject,
    EventType, Fingerprint, ListStep, Millis, Reason, Seq, Sight, TouchedUsers, View,
};

use super::Engine;
use crate::hashes::fingerprint;
use crate::log::ReadError;

/// The pause between two looks at the log. A scrape sees what is this old.
const PAUSE: Duration = Duration::from_millis(250);

/// The number of records that are read from the log at once.
const RECORDS: usize = 256;

/// The work and the items that are looked at under one lock.
const STEP: usize = 2048;

/// The time in which losses of access are taken together, in milliseconds.
const TOGETHER_MS: Millis = 3_600_000;

/// The latest that a loss is recorded after it happened, to count as one of now, in milliseconds.
/// After an outage events come up to a day late; what is older is history that was fetched.
const LATE_MS_MAX: Millis = 24 * 3_600_000;

/// A mass deprovisioning has more losses than this, and more than a tenth of the directory.
const MASS_USERS: usize = 10;
const MASS_SHARE: u64 = 10;

/// The most directories that are named. The names of more would fill the memory of those who
/// collect them.
pub(super) const DIRECTORIES_MAX: usize = 500;

/// The state of a directory whose users have access.
const LINKED: &str = "linked";

/// The states of a directory.
pub(super) const DIRECTORY_STATES: [&str; 5] =
    [LINKED, "unlinked", "validating", "invalid_credentials", "deleting"];

/// What is counted so far.
#[derive(Default)]
pub(super) struct Tally {
    /// In the order of [`Reason::CODES`].
    pub(super) quarantine: [u64; Reason::CODES.len()],
    /// Those that are named in order of id, then the others that lost many users, in no order.
    pub(super) directories: Vec<DirectoryTally>,
    /// The number of directories that are there and not named.
    pub(super) directories_left_out: u64,
}

/// A directory in the tally.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DirectoryTally {
    pub(super) id: String,
    /// `None` once it is deleted, and if it is left out.
    pub(super) state: Option<&'static str>,
    pub(super) is_mass_deprovisioned: bool,
}

/// The directories that are named, chosen while all are looked at in order of id.
#[derive(Default)]
struct Choice {
    linked: Vec<DirectoryTally>,
    others: Vec<DirectoryTally>,
    total: usize,
}

/// The directories that are named, in order of id, and how many are left out.
#[derive(Default)]
struct NamedDirectories {
    rows: Vec<DirectoryTally>,
    left_out: u64,
}

impl Choice {
    fn add(&mut self, directory: DirectoryTally) {
        let is_linked = directory.state == Some(LINKED);
        let list = if is_linked { &mut self.linked } else { &mut self.others };
        if list.len() < DIRECTORIES_MAX {
            list.push(directory);
        }
        self.total += 1;
    }

    /// Those that are not linked come first: they must not be overlooked.
    fn finish(self) -> NamedDirectories {
        let Choice { linked, others: mut rows, total } = self;
        rows.extend(linked);
        rows.truncate(DIRECTORIES_MAX);
        rows.sort_by(|one, other| one.id.cmp(&other.id));
        let left_out = (total - rows.len()) as u64;
        NamedDirectories { rows, left_out }
    }
}

/// The thread that counts.
pub struct Tallying {
    thread: JoinHandle<()>,
    is_stopped: Arc<AtomicBool>,
}

impl Tallying {
    /// Ends the thread, and waits for it.
    pub fn finish(self) {
        self.is_stopped.store(true, Ordering::SeqCst);
        self.thread.thread().unpark();
        let _ = self.thread.join();
    }
}

impl Engine {
    /// Begins to count what records cause.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn begin_tally(self: &Arc<Self>) -> std::io::Result<Tallying> {
        let is_stopped: Arc<AtomicBool> = Arc::default();
        let (engine, stopped) = (self.clone(), is_stopped.clone());
        let thread = thread::Builder::new().name("tally".into()).spawn(move || {
            let mut follower = Follower::new(&engine, &stopped);
            let mut has_failed = false;
            while !follower.is_stopped() {
                match follower.follow() {
                    Ok(()) => has_failed = false,
                    Err(error) if !has_failed => {
                        has_failed = true;
                        tracing::error!(%error, "the metrics of what records cause stand still");
                    }
                    Err(_) => {}
                }
                // The first question after a start finds the traffic of a month counted.
                engine.count_traffic_on();
                thread::park_timeout(PAUSE);
            }
        })?;
        Ok(Tallying { thread, is_stopped })
    }
}

/// The users of a directory who lost access lately and have not got it back.
#[derive(Default)]
struct Losses {
    /// Each with the moment at which the loss was recorded.
    users: HashMap<Fingerprint, Millis>,
    is_mass: bool,
}

/// The parts of an entry that are counted.
struct CountedParts {
    seq: Seq,
    recorded_at: Millis,
    /// The users whose access it may change, if it may change any.
    touched: Option<TouchedUsers>,
    /// The time from the event to its record, if it was delivered.
    delay_ms: Option<Millis>,
    /// True if it happened at most [`LATE_MS_MAX`] before it was recorded.
    is_of_now: bool,
    is_of_directory: bool,
}

impl CountedParts {
    fn of(entry: &Entry<'_>) -> CountedParts {
        let known = EventType::parse(entry.event_type);
        let subject = known.map(EventType::subject);
        let changes_access = matches!(
            subject,
            Some(EventSubject::Directory | EventSubject::User | EventSubject::Membership)
        );
        let is_own = known.is_some_and(EventType::is_own);
        let delay_ms = entry.recorded_at.saturating_sub(entry.occurred_at);
        CountedParts {
            seq: entry.seq,
            recorded_at: entry.recorded_at,
            touched: changes_access.then(|| TouchedUsers::by(entry)),
            delay_ms: Some(delay_ms).filter(|delay| !is_own && *delay <= DELIVERY_MS_MAX),
            is_of_now: delay_ms <= LATE_MS_MAX,
            is_of_directory: subject == Some(EventSubject::Directory),
        }
    }
}

/// The place in the log up to which is counted, and what is remembered on the way.
struct Follower<'e> {
    engine: &'e Engine,
    is_stopped: &'e AtomicBool,
    seq: Seq,
    /// The newest record at the start.
    started_at: Seq,
    quarantined: usize,
    /// The directories that were ever named, when they were last read.
    directories: usize,
    /// True if a record changed a directory since they were last read.
    has_old_rows: bool,
    named: NamedDirectories,
    losses: HashMap<String, Losses>,
    /// True if the last look did not fail: what it found is shown.
    has_shown: bool,
}

impl<'e> Follower<'e> {
    fn new(engine: &'e Engine, is_stopped: &'e AtomicBool) -> Follower<'e> {
        let views = engine.views();
        let (seq, started_at) = (views.known_at(engine.clock.now_ms() - TOGETHER_MS), views.head());
        drop(views);
        Follower {
            engine,
            is_stopped,
            seq,
            started_at,
            quarantined: 0,
            directories: 0,
            has_old_rows: false,
            named: NamedDirectories::default(),
            losses: HashMap::new(),
            has_shown: false,
        }
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::SeqCst) || self.engine.is_shutting_down()
    }

    /// Counts what is new, and shows it.
    fn follow(&mut self) -> Result<(), ReadError> {
        let head = self.engine.folded_head();
        // Only losses change without a record: they become old.
        if self.has_shown && self.seq >= head && !self.has_old_losses() {
            return Ok(());
        }
        // A look that fails is repeated.
        self.has_shown = false;
        while self.seq < head && !self.is_stopped() {
            let mut records = Vec::new();
            self.engine.log.entries(self.seq, RECORDS, &mut |entry| {
                if entry.seq <= head {
                    records.push(CountedParts::of(entry));
                }
            })?;
            let Some(last) = records.last().map(|last| last.seq) else { break };
            for record in records {
                self.has_old_rows |= record.is_of_directory;
                self.count(record);
            }
            self.seq = last;
        }
        let named = self.engine.views().size(View::Directories);
        if self.has_old_rows || named != self.directories {
            self.named = self.engine.named_directories()?;
            self.directories = named;
            self.has_old_rows = false;
        }
        self.judge_losses();
        self.show();
        self.has_shown = true;
        Ok(())
    }

    fn count(&mut self, record: CountedParts) {
        let is_new = record.seq > self.started_at;
        if let Some(delay_ms) = record.delay_ms.filter(|_| is_new) {
            self.engine.metrics.count_delay(delay_ms);
        }
        let Some(touched) = &record.touched else { return };
        let mut after: Option<String> = None;
        while !self.is_stopped() {
            let changes = {
                let views = self.engine.views();
                views.seen_by(&Sight::All).access_changes(touched, after.as_deref(), STEP)
            };
            for change in changes.found {
                self.note(change, &record, is_new);
            }
            after = changes.next;
            if after.is_none() {
                return;
            }
        }
    }

    /// Notes a user who lost access, or has it again.
    fn note(&mut self, change: AccessChange, record: &CountedParts, is_new: bool) {
        let user = fingerprint(&change.user);
        match change.became {
            Effect::AccessEnded(loss) => {
                if is_new {
                    self.engine.metrics.count_loss(loss);
                }
                if record.is_of_now {
                    let losses = self.losses.entry(change.directory).or_default();
                    losses.users.insert(user, record.recorded_at);
                }
            }
            Effect::AccessGranted | Effect::AccessRestored => {
                for losses in self.losses.values_mut() {
                    losses.users.remove(&user);
                }
            }
            Effect::RoleGained(_) | Effect::RoleLost(_) | Effect::HistoryChanged => {}
        }
    }

    /// Returns true if a loss has become an hour old.
    fn has_old_losses(&self) -> bool {
        let since = self.engine.clock.now_ms() - TOGETHER_MS;
        let mut losses = self.losses.values().flat_map(|losses| losses.users.values());
        losses.any(|recorded_at| *recorded_at <= since)
    }

    /// Forgets the losses that are an hour old, and compares the others with what is left of each
    /// directory.
    fn judge_losses(&mut self) {
        let since = self.engine.clock.now_ms() - TOGETHER_MS;
        for (directory, losses) in &mut self.losses {
            losses.users.retain(|_, recorded_at| *recorded_at > since);
            losses.is_mass = is_mass(losses.users.len(), || self.engine.active_users(directory));
        }
        self.losses.retain(|_, losses| !losses.users.is_empty());
    }

    fn show(&mut self) {
        let is_mass = |id: &str| self.losses.get(id).is_some_and(|losses| losses.is_mass);
        let mut directories = self.named.rows.clone();
        for row in &mut directories {
            row.is_mass_deprovisioned = is_mass(&row.id);
        }
        let is_listed = |id: &str| self.named.rows.iter().any(|row| row.id == id);
        let mass = self.losses.iter().filter(|(_, losses)| losses.is_mass);
        let others = mass.filter(|(id, _)| !is_listed(id)).take(DIRECTORIES_MAX);
        directories.extend(others.map(|(id, _)| DirectoryTally {
            id: id.clone(),
            state: None,
            is_mass_deprovisioned: true,
        }));
        let mut counts = [0; Reason::CODES.len()];
        loop {
            let views = self.engine.views();
            let seen = views.seen_by(&Sight::All);
            let next = seen.count_quarantine(self.quarantined, Seq::MAX, STEP, &mut counts);
            self.quarantined = next.unwrap_or_else(|| views.quarantine().len());
            if next.is_none() {
                break;
            }
        }
        let mut tally = self.engine.tally.lock();
        tally.directories = directories;
        tally.directories_left_out = self.named.left_out;
        for (total, count) in tally.quarantine.iter_mut().zip(counts) {
            *total += count;
        }
    }
}

/// Tells if so many losses are a mass deprovisioning of a directory that has so many users left.
/// Counts those only if it matters.
fn is_mass(lost: usize, left: impl FnOnce() -> u64) -> bool {
    let lost_of = |left: u64| lost as u64 * MASS_SHARE > lost as u64 + left;
    lost > MASS_USERS && lost_of(left())
}

impl Engine {
    /// Returns the directories with a mass deprovisioning: its losses were recorded within the last
    /// hour, at most a day after they happened. The tally is a moment behind the log; without one
    /// there are none.
    pub fn mass_deprovisionings(&self) -> Vec<String> {
        let tally = self.tally.lock();
        let mass = tally.directories.iter().filter(|directory| directory.is_mass_deprovisioned);
        mass.map(|directory| directory.id.clone()).collect()
    }

    /// Returns the directories to be named, with their states, in order of id: those that are not
    /// linked are named before the others. Looks at every directory, in short locks, and blocks
    /// while it reads the documents of those that were observed.
    fn named_directories(&self) -> Result<NamedDirectories, ReadError> {
        let (mut choice, mut start) = (Choice::default(), None::<String>);
        while !self.is_shutting_down() {
            let wanted = ListStep { start: start.as_deref(), descending: false, limit: 256 };
            let (filter, cut) = (DirectoryFilter::default(), Cut::LATEST);
            let step = self.views().seen_by(&Sight::All).directories_step(&filter, cut, wanted);
            let states = self.directory_states(&step.items)?;
            for (row, state) in step.items.into_iter().zip(states) {
                choice.add(DirectoryTally {
                    id: row.id,
                    state: DIRECTORY_STATES.into_iter().find(|known| *known == state),
                    is_mass_deprovisioned: false,
                });
            }
            start = step.next;
            if start.is_none() {
                break;
            }
        }
        Ok(choice.finish())
    }

    /// Counts the users of a directory who are active, in short locks.
    fn active_users(&self, directory: &str) -> u64 {
        let step =
            |after: Option<&str>| self.views().count_users(directory, Cut::LATEST, after, STEP);
        Counted::whole(step).active
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mass_deprovisioning_has_more_than_ten_users_and_a_tenth_of_the_directory() {
        for (lost, left, expected) in [
            (10, 0, false),
            (11, 0, true),
            (11, 98, true),
            // 11 of 110 are a tenth, and not more.
            (11, 99, false),
            (12, 99, true),
            (1_000, 9_000, false),
            (1_001, 8_999, true),
        ] {
            assert_eq!(is_mass(lost, || left), expected, "{lost} of {}", lost as u64 + left);
        }
    }

    #[test]
    fn directories_that_are_not_linked_are_named_before_the_others() {
        let mut choice = Choice::default();
        let unlinked = [DIRECTORIES_MAX, DIRECTORIES_MAX + 2];
        for number in 0..DIRECTORIES_MAX + 3 {
            let state = Some(if unlinked.contains(&number) { "unlinked" } else { LINKED });
            let id = format!("directory_{number:04}");
            choice.add(DirectoryTally { id, state, is_mass_deprovisioned: false });
        }
        let NamedDirectories { rows, left_out } = choice.finish();
        assert_eq!((rows.len(), left_out), (DIRECTORIES_MAX, 3));
        let expected = (0..DIRECTORIES_MAX - 2).chain(unlinked);
        let expected: Vec<String> =
            expected.map(|number| format!("directory_{number:04}")).collect();
        let named: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(named, expected);
    }
}
