//! The state of one reconciliation, which others may look at while it runs.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use parking_lot::Mutex;
use rollcall_projections::{HeldKind, Millis, Seq};
use serde::{Deserialize, Serialize};

use super::details::Details;
use super::guard::WINDOW_DAYS;
use super::plan::SortedLists;
use super::sort::Appended;

/// The differences of a run that are kept in memory; further ones are in a file.
pub const DIFFERENCES_KEPT: usize = 1000;

/// The state of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It has not ended.
    Running,
    /// Everything was compared, and nothing was held but what an operator deleted here.
    Completed,
    /// Everything was compared, and other differences were held.
    Held,
    /// Some directory, or all, could not be compared, or not without doubt.
    Failed,
}

/// The part of a run that is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Events are pulled to the end.
    Pulling,
    /// The source lists what it has.
    Listing,
    /// Both sides are compared.
    Comparing,
    /// The source is asked again about what differs.
    LookingAgain,
    /// Differences are recorded.
    Recording,
    /// It has ended.
    Ended,
}

/// The state of a directory in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DirectoryState {
    /// It is not listed yet.
    Waiting,
    /// It is being listed.
    Listing,
    /// It is listed and not compared yet.
    Listed,
    /// It was compared completely and without doubt.
    Clean,
    /// It was compared; some answer was undecided.
    Undecided,
    /// It could not be compared.
    Failed,
    /// It is not compared: an operator deleted it.
    NotCompared,
}

/// A directory in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDirectory {
    /// Its state.
    pub state: DirectoryState,
    /// The reason why it failed, or why it is undecided.
    pub error: Option<String>,
}

/// The things that the source listed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Directories.
    pub directories: u64,
    /// Groups.
    pub groups: u64,
    /// Users.
    pub users: u64,
    /// Memberships.
    pub memberships: u64,
}

/// The kind of a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferentKind {
    /// A directory.
    Directory,
    /// A group.
    Group,
    /// A user.
    User,
    /// A membership.
    Membership,
}

/// The way in which the two sides differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HowDifferent {
    /// The source has it, the log does not.
    MissingHere,
    /// The log has it, the source does not.
    MissingThere,
    /// Both have it, with other fields.
    Differs,
}

/// The reason why a difference was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldReason {
    /// Too much would end at once.
    Guard,
    /// Something newer is known of it.
    NewerEvent,
    /// The object of the source is older than the version that is known.
    SourceOlder,
    /// An operator deleted the directory here.
    DeletedHere,
    /// A membership of a user who is not known.
    UnknownUser,
}

/// What a run found of a directory in which it held differences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldPlace<'a> {
    /// What the guard found to be too much there, if that is known.
    pub excess: Option<&'a str>,
    /// True if some answer leaves the directory undecided, so that no absence in it is recorded.
    pub undecided: bool,
}

impl HeldReason {
    /// Tells if an operator wanted it so: then nothing is left to do, and the run has completed.
    pub fn is_intended(self) -> bool {
        self == HeldReason::DeletedHere
    }

    /// Returns the reason in words, and what to do about it in this directory.
    pub fn advice(self, directory: &str, place: HeldPlace<'_>) -> String {
        let off = format!("`rollcall reconcile --directory {directory} --guard off` records it");
        match self {
            HeldReason::Guard => {
                let excess = place.excess.map(|excess| format!(" ({excess})")).unwrap_or_default();
                let next = if place.undecided {
                    "the directory is undecided, and nothing that the source lacks ends until the \
                     doubt is gone"
                        .to_owned()
                } else {
                    format!(
                        "look at the source, and if it is right, {off}; what is let through counts \
                         for {WINDOW_DAYS} days, in which further ends may be held: look at them \
                         likewise, and let them through"
                    )
                };
                format!("more would end than the guard allows{excess}: {next}")
            }
            HeldReason::NewerEvent => {
                "something newer is known of it: the next reconciliation decides".into()
            }
            HeldReason::SourceOlder => format!(
                "the source shows an older version than is known, so it lags: the next \
                 reconciliation decides; if it stays so and the source is right, {off}"
            ),
            HeldReason::DeletedHere => "an operator deleted the directory here: it is compared \
                 again once it is connected anew at the source"
                .into(),
            HeldReason::UnknownUser => "a membership of a user who is not known, or whose \
                 directory failed: the next reconciliation decides"
                .into(),
        }
    }
}

/// A difference between the source and the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundDifference {
    /// The kind of the thing.
    pub kind: DifferentKind,
    /// Its id; none for a membership.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The user of a membership.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// The group of a membership.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    /// Its directory.
    pub directory_id: String,
    /// The way in which the sides differ.
    pub difference: HowDifferent,
    /// The fields that differ.
    pub fields: Vec<String>,
    /// The record of the observation.
    pub recorded: Option<Seq>,
    /// The reason why there is none.
    pub held: Option<HeldReason>,
    /// The personal part.
    #[serde(default)]
    pub details: Details,
}

/// What may change while a run goes on.
#[derive(Clone, Debug)]
pub struct RunProgress {
    /// The state of the whole.
    pub state: RunState,
    /// The step that is under way.
    pub step: Step,
    /// When it ended.
    pub finished_at: Option<Millis>,
    /// Its directories.
    pub directories: BTreeMap<String, RunDirectory>,
    /// The things that the source listed.
    pub compared: Compared,
    /// The differences that were recorded.
    pub recorded: u64,
    /// The differences that were held.
    pub held: u64,
    /// The same by directory and reason.
    pub held_in: BTreeMap<(String, HeldReason), u64>,
    /// What the guard found to be too much, by directory, also where nothing was held for it.
    pub excess: BTreeMap<String, String>,
    /// The reason why the whole run failed, or why something of no known directory is undecided.
    pub error: Option<String>,
    /// True if it ended before everything was compared.
    pub broke_off: bool,
}

/// The progress and the differences of a run.
pub struct Progress {
    now: Mutex<RunProgress>,
    differences: Mutex<Differences>,
}

/// Differences: the first in memory, the rest in a file.
#[derive(Default)]
struct Differences {
    first: Vec<String>,
    rest: Option<Rest>,
    count: usize,
}

/// Differences in two files: their texts, and the place of each.
struct Rest {
    texts: Appended,
    places: Appended,
}

impl RunProgress {
    /// Returns what the guard found to be too much in a directory in which it held something.
    pub fn excess_in(&self, directory: &str) -> Option<&str> {
        let is_held = self.held_in.contains_key(&(directory.to_owned(), HeldReason::Guard));
        self.excess.get(directory).filter(|_| is_held).map(String::as_str)
    }

    /// Returns what was found of a directory in which something was held.
    pub fn held_place(&self, directory: &str) -> HeldPlace<'_> {
        let found = self.directories.get(directory);
        let undecided = found.is_some_and(|found| found.state == DirectoryState::Undecided);
        HeldPlace { excess: self.excess_in(directory), undecided }
    }

    /// Returns the number of the differences that are held, by directory and reason, except those
    /// that an operator wanted so.
    pub(super) fn open(&self) -> impl Iterator<Item = (&str, HeldReason, u64)> {
        let held = self.held_in.iter();
        held.filter(|((_, reason), _)| !reason.is_intended())
            .map(|((directory, reason), held)| (directory.as_str(), *reason, *held))
    }

    /// Returns the number of the same in each directory.
    pub(super) fn open_by_directory(&self) -> BTreeMap<&str, u64> {
        let mut open = BTreeMap::new();
        for (directory, _, held) in self.open() {
            *open.entry(directory).or_default() += held;
        }
        open
    }
}

impl Default for Progress {
    fn default() -> Progress {
        Progress {
            now: Mutex::new(RunProgress {
                state: RunState::Running,
                step: Step::Pulling,
                finished_at: None,
                directories: BTreeMap::new(),
                compared: Compared::default(),
                recorded: 0,
                held: 0,
                held_in: BTreeMap::new(),
                excess: BTreeMap::new(),
                error: None,
                broke_off: false,
            }),
            differences: Mutex::default(),
        }
    }
}

impl Progress {
    /// Returns a copy of the progress.
    pub fn now(&self) -> RunProgress {
        self.now.lock().clone()
    }

    /// Returns the state.
    pub fn state(&self) -> RunState {
        self.now.lock().state
    }

    pub(super) fn begin(&self, step: Step) {
        self.now.lock().step = step;
    }

    pub(super) fn count(&self, kind: HeldKind) {
        let mut now = self.now.lock();
        match kind {
            HeldKind::Group => now.compared.groups += 1,
            HeldKind::User => now.compared.users += 1,
        }
    }

    pub(super) fn count_membership(&self) {
        self.now.lock().compared.memberships += 1;
    }

    /// Sets the numbers of listed things, each of which counts once, also where it was listed twice.
    pub(super) fn set_listed(&self, lists: &SortedLists) {
        let mut now = self.now.lock();
        now.compared.groups = lists.groups.count;
        now.compared.users = lists.users.count;
        now.compared.memberships = lists.members.count;
    }

    pub(super) fn count_directory(&self) {
        self.now.lock().compared.directories += 1;
    }

    /// Sets the state of a directory. Only one that is clean loses the reason to doubt it.
    pub(super) fn set(&self, directory: &str, state: DirectoryState) {
        let mut now = self.now.lock();
        let error = now.directories.remove(directory).and_then(|known| known.error);
        let error = error.filter(|_| state != DirectoryState::Clean);
        now.directories.insert(directory.to_owned(), RunDirectory { state, error });
    }

    pub(super) fn fail(&self, directory: &str, error: String) {
        tracing::warn!(directory, error, "the directory could not be compared with the source");
        let failed = RunDirectory { state: DirectoryState::Failed, error: Some(error) };
        self.now.lock().directories.insert(directory.to_owned(), failed);
    }

    /// Keeps the first reason why a directory is undecided.
    pub(super) fn doubt(&self, directory: &str, reason: String) {
        let mut now = self.now.lock();
        let unknown = RunDirectory { state: DirectoryState::Waiting, error: None };
        let known = now.directories.entry(directory.to_owned()).or_insert(unknown);
        known.error.get_or_insert(reason);
    }

    /// Keeps the reason why something is not compared of which not even the directory is known.
    pub(super) fn doubt_whole(&self, reason: String) {
        tracing::warn!(reason, "the source could not be compared without doubt");
        self.now.lock().error = Some(reason);
    }

    /// Ends a directory that some answer leaves undecided.
    pub(super) fn set_undecided(&self, directory: &str) {
        self.doubt(directory, "an answer of the source decides nothing".into());
        self.set(directory, DirectoryState::Undecided);
        let now = self.now.lock();
        let known = now.directories.get(directory);
        let error = known.and_then(|known| known.error.as_deref()).unwrap_or_default();
        tracing::warn!(directory, error, "the directory could not be compared without doubt");
    }

    /// Returns true if a directory has failed.
    pub(super) fn has_failed(&self, directory: &str) -> bool {
        let now = self.now.lock();
        let found = now.directories.get(directory);
        found.is_some_and(|directory| directory.state == DirectoryState::Failed)
    }

    /// Returns the directories that have failed or are undecided, each with its reason.
    pub(super) fn unsettled(&self) -> BTreeMap<String, String> {
        let now = self.now.lock();
        let is_unsettled =
            |state| matches!(state, DirectoryState::Failed | DirectoryState::Undecided);
        let unsettled = now.directories.iter().filter(|(_, known)| is_unsettled(known.state));
        let reason = |known: &RunDirectory| known.error.clone().unwrap_or_default();
        unsettled.map(|(id, known)| (id.clone(), reason(known))).collect()
    }

    /// Keeps what the guard found to be too much in a directory.
    pub(super) fn note_excess(&self, directory: &str, excess: String) {
        self.now.lock().excess.insert(directory.to_owned(), excess);
    }

    pub(super) fn end(&self, state: RunState, finished_at: Millis, error: Option<String>) {
        let mut now = self.now.lock();
        now.state = state;
        now.step = Step::Ended;
        now.finished_at = Some(finished_at);
        now.broke_off = error.is_some();
        now.error = error.or(now.error.take());
    }

    /// Adds a difference, which is decided.
    pub(super) fn add(&self, difference: &FoundDifference, folder: &Path) -> io::Result<()> {
        let mut now = self.now.lock();
        now.recorded += u64::from(difference.recorded.is_some());
        if let Some(reason) = difference.held {
            now.held += 1;
            *now.held_in.entry((difference.directory_id.clone(), reason)).or_default() += 1;
        }
        drop(now);
        let text = serde_json::to_string(difference).map_err(io::Error::other)?;
        self.differences.lock().add(text, folder)
    }

    /// Returns the number of the differences.
    pub fn difference_count(&self) -> usize {
        self.differences.lock().count
    }

    /// Returns some differences as JSON, in the order in which they were found, and the number of
    /// all.
    ///
    /// # Errors
    /// If their file cannot be read.
    pub fn differences(&self, first: usize, limit: usize) -> io::Result<(Vec<String>, usize)> {
        let differences = self.differences.lock();
        let until = first.saturating_add(limit).min(differences.count);
        let some = (first..until).map(|at| differences.get(at)).collect::<io::Result<_>>()?;
        Ok((some, differences.count))
    }
}

impl Differences {
    fn add(&mut self, text: String, folder: &Path) -> io::Result<()> {
        if self.first.len() < DIFFERENCES_KEPT {
            self.first.push(text);
        } else {
            match &mut self.rest {
                Some(rest) => rest.add(&text)?,
                None => self.rest.insert(Rest::new(folder)?).add(&text)?,
            }
        }
        self.count += 1;
        Ok(())
    }

    fn get(&self, at: usize) -> io::Result<String> {
        match (self.first.get(at), &self.rest) {
            (Some(text), _) => Ok(text.clone()),
            (None, Some(rest)) => rest.get(at - self.first.len()),
            (None, None) => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// The bytes of a place: where a text ends.
const PLACE_BYTES: u64 = 8;

impl Rest {
    fn new(folder: &Path) -> io::Result<Rest> {
        Ok(Rest { texts: Appended::new(folder)?, places: Appended::new(folder)? })
    }

    fn add(&mut self, text: &str) -> io::Result<()> {
        self.texts.add(text.as_bytes())?;
        self.places.add(&self.texts.len().to_le_bytes())
    }

    fn end_of(&self, at: usize) -> io::Result<u64> {
        let mut place = [0; PLACE_BYTES as usize];
        self.places.read_exact(&mut place, at as u64 * PLACE_BYTES)?;
        Ok(u64::from_le_bytes(place))
    }

    fn get(&self, at: usize) -> io::Result<String> {
        let begin = at.checked_sub(1).map_or(Ok(0), |before| self.end_of(before))?;
        let mut text = vec![0; self.end_of(at)?.saturating_sub(begin) as usize];
        self.texts.read_exact(&mut text, begin)?;
        String::from_utf8(text).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sort::BUFFER_BYTES;
    use super::*;

    fn difference(id: usize) -> FoundDifference {
        FoundDifference {
            kind: DifferentKind::User,
            id: Some(format!("directory_user_{id}")),
            user_id: None,
            group_id: None,
            directory_id: "directory_1".into(),
            difference: HowDifferent::MissingHere,
            fields: Vec::new(),
            recorded: Some(id as u64),
            held: None,
            details: Details::default(),
        }
    }

    #[test]
    fn differences_are_paged_in_their_order_whether_in_memory_or_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let progress = Progress::default();
        // More than waits in memory, so that the files are read too.
        let count = DIFFERENCES_KEPT + 2 * BUFFER_BYTES / 150;
        for id in 0..count {
            progress.add(&difference(id), folder.path()).unwrap();
        }
        for (first, limit) in [(0, 3), (DIFFERENCES_KEPT - 2, count), (count - 2, 10), (count, 5)] {
            let (some, all) = progress.differences(first, limit).unwrap();
            assert_eq!(all, count);
            let expected: Vec<String> = (first..count.min(first + limit))
                .map(|id| serde_json::to_string(&difference(id)).unwrap())
                .collect();
            assert_eq!(some, expected, "{limit} from {first}");
        }
        assert_eq!(progress.now().recorded, count as u64);
    }
}
