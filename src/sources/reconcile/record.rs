//! The end of a reconciliation: what differs even now is decided, and recorded unless it is held.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use rollcall_projections::{Fingerprint, HeldKind, Millis, Seq};

use super::again::Answer;
use super::compare::{Home, Served};
use super::details::Details;
use super::guard::{Ended, Guard};
use super::listing::{Seen, TheirDirectory, ids_of};
use super::ours::{Ours, shape_of};
use super::plan::{Candidate, Merge};
use super::progress::{DifferentKind, FoundDifference, HeldReason, HowDifferent, Progress};
use super::run::Running;
use super::shown::{Found, Shown, key};
use super::sort::{Entry, Sorted, Texts};
use super::trouble::Trouble;
use crate::engine::{AwaitedOutcomes, Discovery, Engine, ObservationOutcome};
use crate::hashes::fingerprint;
use crate::log::BATCH_EVENTS_MAX;
use crate::verify::{Observation, Observed, Origin};

/// The observations that are recorded together: one commit of the log.
const BATCH: usize = BATCH_EVENTS_MAX;

/// Records the differences of a run.
pub(super) struct Recorder<'a> {
    engine: &'a Engine,
    origin: &'a Origin,
    progress: &'a Progress,
    folder: &'a Path,
    run: &'a str,
    dry: bool,
    guard: Guard,
    /// The directories in which nothing ends in this run.
    held: &'a HashSet<String>,
    /// The organization of each directory that was listed.
    homes: &'a BTreeMap<String, String>,
    shown: &'a Shown,
    pub(super) outcome: Outcome,
    batch: Vec<Decided>,
    /// The batch that is being recorded while the next is made.
    recording: Option<Recording>,
    /// Of a dry run: the users and groups that it would have begun or ended.
    begun: HashSet<Fingerprint>,
    /// The users and groups that the source has in another directory.
    moved: HashSet<Fingerprint>,
    /// The users whose own look decides nothing.
    undecided_users: HashSet<Fingerprint>,
    ended: HashSet<Fingerprint>,
    /// The directories that ended or became inactive, whose active users are counted with them.
    emptied: HashSet<String>,
}

/// What a run has done.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// The directories of which some answer was undecided.
    pub(super) undecided: HashSet<String>,
    /// The directories in which some difference was held.
    pub(super) with_held: HashSet<String>,
    /// What ended, the users of ended directories included.
    pub(super) ended: Ended,
}

/// A difference, and what is recorded of it.
struct Decided {
    difference: FoundDifference,
    /// Taken by the writer.
    discovery: Option<Discovery>,
    /// False if it is held.
    is_observed: bool,
    ended: Ended,
}

/// Decisions whose records are being written.
struct Recording {
    batch: Vec<Decided>,
    outcomes: AwaitedOutcomes,
}

/// An answer of the source, and when it was asked for.
struct Told {
    observed: Observed,
    asked_at: Millis,
    /// The record that described the thing when it was compared.
    compared_with: Option<Seq>,
}

/// A directory as both sides have it now.
pub(super) struct DirectoryNow<'a> {
    pub(super) id: &'a str,
    /// True if the list of directories showed it.
    pub(super) was_listed: bool,
    /// The source's; `None` if it has none.
    pub(super) their: Option<&'a TheirDirectory>,
    /// Just before the request was sent that showed it, or its absence.
    pub(super) asked_at: Millis,
    /// The active users that would end with it.
    pub(super) active_users: u64,
}

impl<'a> Recorder<'a> {
    /// Begins to record the differences of a run.
    pub(super) fn new(
        running: &'a Running<'_>,
        engine: &'a Engine,
        held: &'a HashSet<String>,
        homes: &'a BTreeMap<String, String>,
        shown: &'a Shown,
    ) -> Recorder<'a> {
        Recorder {
            engine,
            origin: running.source.client().origin(),
            progress: running.progress,
            folder: running.folder,
            run: running.id,
            dry: running.scope.dry,
            guard: running.scope.guard,
            held,
            homes,
            shown,
            outcome: Outcome::default(),
            batch: Vec::new(),
            recording: None,
            begun: HashSet::new(),
            moved: HashSet::new(),
            undecided_users: HashSet::new(),
            ended: HashSet::new(),
            emptied: HashSet::new(),
        }
    }

    /// Notes a directory that is not compared because an operator deleted it here.
    pub(super) fn deleted_here(&mut self, their: &TheirDirectory) -> Result<(), Trouble> {
        let (kind, id) = (DifferentKind::Directory, their.id.as_str());
        let difference = found(kind, id, &[id], HowDifferent::MissingHere, Vec::new());
        let details = Details::of(None, Some(&Served::their_directory(&their.object)), &[]);
        let difference = FoundDifference { details, ..difference };
        self.decide(difference, Some(HeldReason::DeletedHere), None, Ended::default())
    }

    /// Compares a directory as it is now.
    pub(super) fn directory(&mut self, now: &DirectoryNow<'_>) -> Result<(), Trouble> {
        let ours = Ours::now(self.engine);
        let row = ours.row(now.id);
        let our = row.as_ref().map(|row| ours.directory(row)).transpose()?;
        let their = now.their.map(|their| Served::their_directory(&their.object));
        let (how, fields) = match (&our, &their) {
            (None, None) => return Ok(()),
            (None, Some(_)) => (HowDifferent::MissingHere, Vec::new()),
            (Some(_), None) => (HowDifferent::MissingThere, Vec::new()),
            (Some(our), Some(their)) => (HowDifferent::Differs, their.differing(our)),
        };
        if how == HowDifferent::Differs && fields.is_empty() {
            return Ok(());
        }
        let details = Details::of(our.as_ref(), their.as_ref(), &fields);
        let was_active = our.is_some_and(|our| our.active);
        let ends = how == HowDifferent::MissingThere
            || (was_active && their.as_ref().is_some_and(|their| !their.active));
        let known_at = self.engine.views().directory_updated_at(now.id, ours.cut);
        let held = if ends && self.is_guarded(now.id) {
            Some(HeldReason::Guard)
        } else if now.was_listed && how == HowDifferent::MissingThere {
            Some(HeldReason::NewerEvent)
        } else {
            self.held_as_older(their.and_then(|their| their.updated_at), known_at)
        };
        let difference = found(DifferentKind::Directory, now.id, &[now.id], how, fields);
        let difference = FoundDifference { details, ..difference };
        let object = now.their.map(|their| their.object.clone());
        let observed = Observed::Directory { id: now.id.to_owned(), object };
        let ended =
            Ended { users: if ends { now.active_users } else { 0 }, directories: u64::from(ends) };
        let compared_with = row.and_then(|row| row.version).map(|version| version.seq);
        let told = Told { observed, asked_at: now.asked_at, compared_with };
        self.decide(difference, held, Some(told), ended)
    }

    fn is_guarded(&self, directory: &str) -> bool {
        self.held.contains(directory)
    }

    /// Compares the candidates of one kind as they are now.
    pub(super) fn things(
        &mut self,
        kind: HeldKind,
        candidates: &Sorted,
        answers: &Sorted,
        texts: &mut Texts,
    ) -> Result<(), Trouble> {
        each_answer(candidates, answers, &mut |entry, answer| {
            let [directory, id] = ids_of(&entry.key)?;
            if self.progress.has_failed(directory) || self.is_over(directory) {
                return Ok(());
            }
            match answer {
                None => {}
                Some(Answer::Undecided) => self.note_undecided(directory),
                Some(Answer::Absent { asked_at }) => {
                    let was_listed = Candidate::decode(&entry.value)? != Candidate::MissingThere;
                    self.absent(kind, directory, id, asked_at, was_listed)?;
                }
                Some(Answer::Present(seen)) => self.present(kind, directory, id, seen, texts)?,
            }
            Ok(())
        })?;
        self.flush()
    }

    /// Tells if a directory ended in this run, so that nothing in it is observed again.
    fn is_over(&self, directory: &str) -> bool {
        self.ended.contains(&key(DifferentKind::Directory, directory))
    }

    /// Notes the directories of undecided answers, in which no absence is recorded, and the users
    /// about whom they are.
    pub(super) fn find_undecided(
        &mut self,
        kind: DifferentKind,
        candidates: &Sorted,
        answers: &Sorted,
    ) -> Result<(), Trouble> {
        each_answer(candidates, answers, &mut |entry, answer| {
            if answer != Some(Answer::Undecided) {
                return Ok(());
            }
            let text = std::str::from_utf8(&entry.key).unwrap_or_default();
            let (directory, id) = text.split_once('\0').unwrap_or_default();
            self.note_undecided(directory);
            if kind == DifferentKind::User {
                self.undecided_users.insert(fingerprint(id));
            }
            Ok(())
        })
    }

    /// Tells if an absence in a directory is no difference: the directory is undecided. What the
    /// guard holds is shown all the same.
    fn is_doubtful_absence(&self, directory: &str) -> bool {
        self.outcome.undecided.contains(directory) && !self.is_guarded(directory)
    }

    pub(super) fn note_undecided(&mut self, directory: &str) {
        self.outcome.undecided.insert(directory.to_owned());
    }

    fn absent(
        &mut self,
        kind: HeldKind,
        directory: &str,
        id: &str,
        asked_at: Millis,
        was_listed: bool,
    ) -> Result<(), Trouble> {
        let holding = Ours::now(self.engine).holding(kind, id);
        let Some(holding) = holding.filter(|holding| holding.directory == directory) else {
            return Ok(());
        };
        if self.is_doubtful_absence(directory) {
            return Ok(());
        }
        let guarded = self.is_guarded(directory).then_some(HeldReason::Guard);
        // What the list shows and the thing itself denies is not judged in this run.
        let held = guarded.or(was_listed.then_some(HeldReason::NewerEvent));
        let how = HowDifferent::MissingThere;
        let difference = found(kind.into(), directory, &[id], how, Vec::new());
        let (id, directory) = (id.to_owned(), directory.to_owned());
        let observed = match kind {
            HeldKind::User => Observed::User { id, directory, object: None },
            HeldKind::Group => Observed::Group { id, directory, object: None },
        };
        let is_counted = kind == HeldKind::User && !self.emptied.contains(&holding.directory);
        let users = u64::from(is_counted && holding.active);
        let told = Told { observed, asked_at, compared_with: Some(holding.row.seq) };
        self.decide(difference, held, Some(told), Ended { users, directories: 0 })
    }

    fn present(
        &mut self,
        kind: HeldKind,
        directory: &str,
        id: &str,
        seen: Seen,
        texts: &mut Texts,
    ) -> Result<(), Trouble> {
        let Some(text) = seen.text else { return Ok(()) };
        let object = texts.read(text)?;
        let organization = self.homes.get(directory).map_or("", String::as_str);
        let home = Home { directory, organization };
        let their = Served::theirs(shape_of(kind), &object, home);
        let ours = Ours::now(self.engine);
        let our = ours.thing(kind, id)?;
        let (how, fields) = match &our {
            None => (HowDifferent::MissingHere, Vec::new()),
            Some(our) => (HowDifferent::Differs, their.differing(&our.served)),
        };
        if how == HowDifferent::Differs && fields.is_empty() {
            return Ok(());
        }
        let details = Details::of(our.as_ref().map(|our| &our.served), Some(&their), &fields);
        let moves = fields.iter().any(|field| field == "directory_id");
        // A thing that moved is in what both directories differ in, and is one difference.
        if moves && !self.moved.insert(key(kind, id)) {
            return Ok(());
        }
        let ends = our.as_ref().is_some_and(|our| {
            let found = Found { listed_in: directory, object: &object, active: their.active };
            let is_counted = kind == HeldKind::Group || our.holding.active;
            is_counted && !self.shown.goes_on(kind, &our.holding.directory, &found)
        });
        let home_here = our.as_ref().map_or(directory, |our| our.holding.directory.as_str());
        let known_at = self.engine.views().last_updated_at(kind, id, ours.cut);
        let held = if ends && self.is_guarded(home_here) {
            Some(HeldReason::Guard)
        } else {
            self.held_as_older(their.updated_at, known_at)
        };
        let difference = found(kind.into(), directory, &[id], how, fields);
        let difference = FoundDifference { details, ..difference };
        let observed = observed(kind, id, directory, &object);
        let compared_with = our.as_ref().map(|our| our.holding.row.seq);
        let told = Told { observed, asked_at: seen.asked_at, compared_with };
        let is_counted = kind == HeldKind::User && !self.emptied.contains(home_here);
        let users = u64::from(ends && is_counted);
        self.decide(difference, held, Some(told), Ended { users, directories: 0 })
    }

    /// Tells if an object is held because its version is before that of the log.
    fn held_as_older(&self, their: Option<Millis>, our: Option<Millis>) -> Option<HeldReason> {
        let is_older = their.zip(our).is_some_and(|(their, our)| their < our);
        (is_older && self.guard != Guard::Off).then_some(HeldReason::SourceOlder)
    }

    /// Compares the memberships as they are now.
    pub(super) fn members(&mut self, candidates: &Sorted, answers: &Sorted) -> Result<(), Trouble> {
        let mut ours = Ours::now(self.engine);
        each_answer(candidates, answers, &mut |entry, answer| {
            let [directory, group, user] = ids_of(&entry.key)?;
            if self.progress.has_failed(directory) || self.is_over(directory) {
                return Ok(());
            }
            if self.batch.is_empty() {
                ours = Ours::now(self.engine);
            }
            let holds = self.engine.views().holds_membership(user, group, ours.cut);
            match answer {
                Some(Answer::Undecided) => self.note_undecided(directory),
                Some(Answer::Absent { asked_at }) if holds => {
                    self.membership_ended(directory, group, user, asked_at)?;
                }
                Some(Answer::Present(seen)) if !holds => {
                    self.membership_begun(ours, directory, group, user, seen.asked_at)?;
                }
                _ => {}
            }
            Ok(())
        })?;
        self.flush()
    }

    fn membership_ended(
        &mut self,
        directory: &str,
        group: &str,
        user: &str,
        asked_at: Millis,
    ) -> Result<(), Trouble> {
        let ends = [(DifferentKind::User, user), (DifferentKind::Group, group)];
        if ends.iter().any(|(kind, id)| self.ended.contains(&key(*kind, id)))
            || self.ended_with_directory(user)
            || self.is_doubtful_absence(directory)
        {
            return Ok(());
        }
        let is_undecided = self.undecided_users.contains(&fingerprint(user));
        let held = self.is_guarded(directory).then_some(HeldReason::Guard);
        let held = held.or(is_undecided.then_some(HeldReason::NewerEvent));
        self.membership(directory, group, user, HowDifferent::MissingThere, held, asked_at)
    }

    /// Tells if a user ended in this run with its directory, and was not found in another. Of a run
    /// that is not dry the log tells it.
    fn ended_with_directory(&self, user: &str) -> bool {
        let held = Ours::now(self.engine).holding(HeldKind::User, user);
        held.is_some_and(|held| self.is_over(&held.directory))
            && !self.moved.contains(&key(DifferentKind::User, user))
    }

    fn membership_begun(
        &mut self,
        ours: Ours<'_>,
        directory: &str,
        group: &str,
        user: &str,
        asked_at: Millis,
    ) -> Result<(), Trouble> {
        let home = ours.holding(HeldKind::User, user);
        let is_known = match home {
            Some(user) => !self.progress.has_failed(&user.directory),
            None => self.begun.contains(&key(DifferentKind::User, user)),
        };
        let held = (!is_known).then(|| {
            let directory = self.engine.views().held_directory(directory, ours.cut);
            match directory.is_some_and(|directory| directory.deleted_here) {
                true => HeldReason::DeletedHere,
                false => HeldReason::UnknownUser,
            }
        });
        self.membership(directory, group, user, HowDifferent::MissingHere, held, asked_at)
    }

    fn membership(
        &mut self,
        directory: &str,
        group: &str,
        user: &str,
        how: HowDifferent,
        held: Option<HeldReason>,
        asked_at: Millis,
    ) -> Result<(), Trouble> {
        let kind = DifferentKind::Membership;
        let difference = found(kind, directory, &[group, user], how, Vec::new());
        let observed = Observed::Membership {
            user: user.to_owned(),
            group: group.to_owned(),
            directory: directory.to_owned(),
            present: how == HowDifferent::MissingHere,
        };
        let told = Told { observed, asked_at, compared_with: None };
        self.decide(difference, held, Some(told), Ended::default())
    }

    /// Keeps a difference, and what is recorded of it unless it is held.
    fn decide(
        &mut self,
        difference: FoundDifference,
        held: Option<HeldReason>,
        observed: Option<Told>,
        ended: Ended,
    ) -> Result<(), Trouble> {
        let difference = FoundDifference { held, ..difference };
        let discovery = observed.filter(|_| held.is_none()).map(|finding| {
            let Told { observed, asked_at, compared_with } = finding;
            let run = self.run.to_owned();
            let observation = Observation { observed, observed_at: asked_at, run };
            Discovery { observation, compared_with }
        });
        if held.is_none() {
            self.note_effect(&difference);
        }
        let is_observed = discovery.is_some();
        self.batch.push(Decided { difference, discovery, is_observed, ended });
        if self.batch.len() >= BATCH { self.begin_to_record() } else { Ok(()) }
    }

    /// Notes what begins or ends, for what depends on it.
    fn note_effect(&mut self, difference: &FoundDifference) {
        let FoundDifference { kind, id: Some(id), .. } = difference else { return };
        match difference.difference {
            HowDifferent::MissingThere => self.ended.insert(key(*kind, id)),
            HowDifferent::MissingHere if self.dry => self.begun.insert(key(*kind, id)),
            _ => false,
        };
    }

    /// Records what waits, and waits until it is recorded.
    pub(super) fn flush(&mut self) -> Result<(), Trouble> {
        self.begin_to_record()?;
        self.end_recording()
    }

    /// Gives the batch to the writer, and takes what it did with the one before.
    fn begin_to_record(&mut self) -> Result<(), Trouble> {
        let mut batch = std::mem::take(&mut self.batch);
        let discoveries = batch.iter_mut().filter_map(|decided| decided.discovery.take());
        let discoveries: Vec<Discovery> = discoveries.filter(|_| !self.dry).collect();
        let outcomes = self.engine.begin_to_observe(self.origin, discoveries)?;
        self.end_recording()?;
        self.recording = Some(Recording { batch, outcomes });
        Ok(())
    }

    fn end_recording(&mut self) -> Result<(), Trouble> {
        let Some(Recording { batch, outcomes }) = self.recording.take() else { return Ok(()) };
        let mut outcomes = outcomes.wait()?.into_iter();
        for mut decided in batch {
            if decided.is_observed && !self.dry {
                let Some(outcome) = outcomes.next() else { continue };
                if !self.take(outcome, &mut decided.difference) {
                    continue;
                }
            }
            self.keep(&decided)?;
        }
        Ok(())
    }

    /// Takes the decision of the writer. Returns false if there is no difference any more.
    fn take(&mut self, outcome: ObservationOutcome, difference: &mut FoundDifference) -> bool {
        match outcome {
            ObservationOutcome::Recorded(seq) => difference.recorded = Some(seq),
            ObservationOutcome::NewerEvent => difference.held = Some(HeldReason::NewerEvent),
            ObservationOutcome::DeletedHere => difference.held = Some(HeldReason::DeletedHere),
            ObservationOutcome::UnknownUser => difference.held = Some(HeldReason::UnknownUser),
            ObservationOutcome::Unchanged => return false,
            ObservationOutcome::Unusable => {
                let directory = &difference.directory_id;
                let thing = difference.id.as_deref().unwrap_or_default();
                self.progress.doubt(directory, format!("the object of {thing} cannot be recorded"));
                self.note_undecided(directory);
                return false;
            }
        }
        true
    }

    fn keep(&mut self, Decided { difference, ended, .. }: &Decided) -> Result<(), Trouble> {
        let outcome = &mut self.outcome;
        if difference.held.is_some() {
            outcome.with_held.insert(difference.directory_id.clone());
        }
        if difference.recorded.is_some() {
            outcome.ended = outcome.ended.plus(*ended);
        }
        Ok(self.progress.add(difference, self.folder)?)
    }
}

/// Returns the directory that an object names, if it is usable.
pub(super) fn own_directory(object: &str) -> Option<String> {
    let [own] = crate::json::fields(object, ["directory_id"])?;
    crate::verify::id(own).map(String::from)
}

/// Returns the directory that an object names, or else the one in which it was found.
pub(super) fn directory_of(object: &str, listed_in: &str) -> String {
    own_directory(object).unwrap_or_else(|| listed_in.to_owned())
}

fn observed(kind: HeldKind, id: &str, directory: &str, object: &str) -> Observed {
    let (id, directory) = (id.to_owned(), directory_of(object, directory));
    let object = Some(object.to_owned());
    match kind {
        HeldKind::User => Observed::User { id, directory, object },
        HeldKind::Group => Observed::Group { id, directory, object },
    }
}

/// Takes a candidate and its answer.
type TakesAnswer<'a> = dyn FnMut(&Entry, Option<Answer>) -> Result<(), Trouble> + 'a;

/// Passes each candidate with its answer; `None` if there is none.
pub(super) fn each_answer(
    candidates: &Sorted,
    answers: &Sorted,
    take: &mut TakesAnswer<'_>,
) -> Result<(), Trouble> {
    let mut answers = Merge::new(answers)?;
    for entry in candidates.entries()? {
        let entry = entry?;
        let answer = answer_to(&entry, &mut answers)?;
        take(&entry, answer)?;
    }
    Ok(())
}

/// Returns the answer to a candidate; `None` if there is none.
fn answer_to(entry: &Entry, answers: &mut Merge) -> Result<Option<Answer>, Trouble> {
    if let Candidate::New(seen) = Candidate::decode(&entry.value)? {
        return Ok(Some(Answer::Present(seen)));
    }
    answers.before(&entry.key, &mut |_| Ok(()))?;
    let found = answers.at(&entry.key)?;
    Ok(found.map(|found| Answer::decode(&found.value)).transpose()?)
}

/// Describes a difference; `ids` are that of the thing, or those of a group and a user.
fn found(
    kind: DifferentKind,
    directory: &str,
    ids: &[&str],
    difference: HowDifferent,
    fields: Vec<String>,
) -> FoundDifference {
    let (id, group_id, user_id) = match ids {
        [group, user] => (None, Some((*group).to_owned()), Some((*user).to_owned())),
        _ => (ids.first().map(|id| (*id).to_owned()), None, None),
    };
    FoundDifference {
        kind,
        id,
        user_id,
        group_id,
        directory_id: directory.to_owned(),
        difference,
        fields,
        recorded: None,
        held: None,
        details: Details::default(),
    }
}
