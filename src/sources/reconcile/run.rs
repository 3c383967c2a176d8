//! One reconciliation, step by step: events, lists, events, the guard, a second look, the record.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Weak;

use rollcall_projections::{Cut, DirectoryRow, HeldDirectory, Millis};
use serde_json::json;

use super::again::{SINGLY_MAX, SecondLook};
use super::compare::Served;
use super::earlier::earlier_ends;
use super::ending::{Answered, Ending};
use super::guard::{Ended, Ends, Guard, Tally, run_excess};
use super::listing::{Listed, Lister, Lists, Look, TheirDirectory, engine_of};
use super::ours::Ours;
use super::plan::{
    Candidates, DirectoryEnd, DirectoryPlan, Doubted, Planner, SortedLists, plan_of_gone,
};
use super::progress::{DifferentKind, DirectoryState, Progress, RunProgress, RunState, Step};
use super::record::{DirectoryNow, Outcome, Recorder};
use super::shown::{Moved, Shown};
use super::sort::{Sorted, Texts};
use super::trouble::Trouble;
use crate::documents::Shape;
use crate::engine::Engine;
use crate::sources::{PullError, Source, SourceError, Take};
use crate::time;

/// The reason why a directory that is not listed may be there all the same.
const DIRECTORIES_UNCLEAN: &str = "the list of directories has an object without a usable id";

/// The reason why a directory is undecided that only its own look shows.
const DIRECTORY_NOT_LISTED: &str = "the list of directories lacks it, and it answers by itself";

/// The same in a run of one directory, whose list is not asked for.
const DIRECTORY_NOT_FOUND_AT_FIRST: &str = "the source knew no such directory, and then showed it";

/// What a run compares, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Only this directory.
    pub directory: Option<String>,
    /// Nothing is recorded.
    pub dry: bool,
    /// The guard.
    pub guard: Guard,
}

/// A reconciliation that is under way.
pub(super) struct Running<'a> {
    pub(super) source: &'a Source,
    pub(super) engine: &'a Weak<Engine>,
    pub(super) progress: &'a Progress,
    pub(super) folder: &'a Path,
    pub(super) id: &'a str,
    pub(super) scope: &'a Scope,
    pub(super) started_at: Millis,
}

/// A directory in a run.
struct Work {
    their: Option<TheirDirectory>,
    our: Option<DirectoryRow>,
    /// True if a record ever named it.
    was_named: bool,
    listed: Listed,
    end: DirectoryEnd,
    plan: DirectoryPlan,
    /// The second look; `None` if there is no difference.
    now: Option<Now>,
}

/// A directory as the source shows it when it is asked again.
struct Now {
    their: Option<TheirDirectory>,
    asked_at: Millis,
}

/// The directories of a run by id, and those that are not compared.
struct Directories {
    works: BTreeMap<String, Work>,
    deleted_here: Vec<TheirDirectory>,
    /// Those that the source has, as far as it is known by now.
    shown: Shown,
}

/// The answers to the second look.
pub(super) struct Answers {
    pub(super) groups: Sorted,
    pub(super) users: Sorted,
    pub(super) members: Sorted,
}

impl Running<'_> {
    /// Compares everything, and returns the state in which the run ends.
    pub(super) fn run(&self) -> Result<RunState, Trouble> {
        self.pull()?;
        let before = {
            let engine = engine_of(self.engine)?;
            Ours::now(&engine).cut
        };
        let mut lists = Lists::new(self.folder)?;
        let mut directories = self.list(&mut lists)?;
        self.pull()?;
        self.progress.begin(Step::Comparing);
        let Lists { groups, users, members, mut texts, moved } = lists;
        let lists =
            SortedLists { groups: groups.sort()?, users: users.sort()?, members: members.sort()? };
        self.progress.set_listed(&lists);
        let engine = engine_of(self.engine)?;
        let cut = Ours::now(&engine).cut;
        let candidates = self.plan(&engine, cut, &lists, &moved, &mut directories.works)?;
        let earlier = earlier_ends(&engine, self.started_at)?;
        let mut held = self.held(&engine, &directories.works, earlier.all);
        drop(engine);
        self.progress.begin(Step::LookingAgain);
        let answers = self.look([before, cut], &candidates, &mut directories, &held, &mut texts)?;
        if directories.works.values().any(|work| work.plan.doubted != Doubted::default())
            || directories.works.values().any(|work| work.now.is_some())
        {
            self.pull()?;
        }
        self.progress.begin(Step::Recording);
        let engine = engine_of(self.engine)?;
        // The second look may show other ends than the lists: they are judged as well.
        let ending = Ending::new(&engine, &directories.shown, &mut texts);
        let answered = ending.count(&candidates, &answers)?;
        for (id, work) in &mut directories.works {
            work.judge_again(answered.get(id).copied().unwrap_or_default(), &engine);
        }
        held.extend(self.held(&engine, &directories.works, earlier.all));
        let mut outcome =
            self.record(&engine, &directories, &candidates, &answers, &held, &mut texts)?;
        outcome.ended = outcome.ended.plus(earlier.untold);
        self.complete(&engine, &directories.works, outcome)
    }

    /// Pulls events to the end.
    fn pull(&self) -> Result<(), Trouble> {
        self.progress.begin(Step::Pulling);
        self.source.pull_to_end(self.engine, Take::All).map_err(|error| match error {
            PullError::Source(SourceError::NotFound) => {
                Trouble::Run("the source has no Events API".into())
            }
            error => Trouble::Run(format!("events could not be pulled: {error}")),
        })
    }

    fn lister<'a>(&'a self, shown: &'a Shown) -> Lister<'a> {
        let (source, engine) = (self.source.client(), self.engine);
        Lister { source, engine, progress: self.progress, shown }
    }

    /// Lists everything that the source has.
    fn list(&self, lists: &mut Lists<'_>) -> Result<Directories, Trouble> {
        self.progress.begin(Step::Listing);
        let only = self.scope.directory.as_deref();
        let whole = |error| match error {
            Trouble::Directory(cause) | Trouble::Run(cause) => Trouble::Run(cause),
        };
        let (theirs, clean) = self.lister(&Shown::default()).directories(only).map_err(whole)?;
        let mut directories = self.begin(theirs, clean)?;
        let lister = self.lister(&directories.shown);
        for (id, work) in &mut directories.works {
            let Some(their) = &work.their else { continue };
            self.progress.set(id, DirectoryState::Listing);
            self.progress.count_directory();
            match lister.list(their, lists) {
                Ok(listed) => {
                    work.listed = listed;
                    self.progress.set(id, DirectoryState::Listed);
                }
                Err(Trouble::Directory(error)) => self.progress.fail(id, error),
                Err(error) => return Err(error),
            }
        }
        Ok(directories)
    }

    /// Finds the directories that either side has.
    fn begin(&self, theirs: Vec<TheirDirectory>, clean: bool) -> Result<Directories, Trouble> {
        let engine = engine_of(self.engine)?;
        let ours = Ours::now(&engine);
        let held = engine.views().held_directories(ours.cut);
        let shown = self.shown(&held, &theirs);
        let held: BTreeMap<String, HeldDirectory> = held
            .into_iter()
            .filter(|held| self.scope.directory.as_ref().is_none_or(|only| *only == held.id))
            .map(|held| (held.id.clone(), held))
            .collect();
        let mut theirs: BTreeMap<String, TheirDirectory> =
            theirs.into_iter().map(|their| (their.id.clone(), their)).collect();
        let mut directories =
            Directories { works: BTreeMap::new(), deleted_here: Vec::new(), shown };
        let ids: BTreeSet<String> = theirs.keys().chain(held.keys()).cloned().collect();
        if let (Some(only), true) = (&self.scope.directory, ids.is_empty()) {
            return Err(Trouble::Run(format!("neither the log nor the source has `{only}`")));
        }
        if !clean {
            self.progress.doubt_whole(DIRECTORIES_UNCLEAN.into());
        }
        for id in ids {
            let (their, our) = (theirs.remove(&id), held.get(&id));
            if our.is_some_and(|our| our.deleted_here) {
                if let Some(their) = their {
                    self.progress.set(&id, DirectoryState::NotCompared);
                    directories.deleted_here.push(their);
                }
                continue;
            }
            let was_named = our.is_some();
            let our = our.and_then(|our| our.row.clone());
            if their.is_none() && our.is_none() {
                continue;
            }
            // An absence needs a clean list.
            if their.is_none() && !clean {
                self.progress.doubt(&id, DIRECTORIES_UNCLEAN.into());
                self.progress.set_undecided(&id);
                continue;
            }
            self.progress.set(&id, DirectoryState::Waiting);
            directories.works.insert(id, Work::new(their, our, was_named));
        }
        Ok(directories)
    }

    /// Returns the directories that the source has. If only one is compared, the others are taken to
    /// be as the log has them.
    fn shown(&self, held: &[HeldDirectory], theirs: &[TheirDirectory]) -> Shown {
        let only = self.scope.directory.as_deref();
        let others = held.iter().filter(|held| only.is_some_and(|only| held.id != only));
        let others = others.filter_map(|held| Some((held.id.clone(), held.row.as_ref()?.active)));
        let theirs = theirs.iter().map(|their| (their.id.clone(), their.is_active()));
        Shown(others.chain(theirs).collect())
    }

    /// Compares both sides for the first time.
    fn plan(
        &self,
        engine: &Engine,
        cut: Cut,
        lists: &SortedLists,
        moved: &Moved,
        works: &mut BTreeMap<String, Work>,
    ) -> Result<Candidates, Trouble> {
        let ours = Ours { engine, cut };
        let mut planner = Planner::new(ours, lists, moved, self.folder)?;
        for (id, work) in works {
            if self.progress.has_failed(id) {
                continue;
            }
            // Events may have come since.
            work.our = ours.row(id);
            let our = work.our.as_ref().map(|row| ours.directory(row)).transpose()?;
            let their = work.their.as_ref().map(|their| Served::their_directory(&their.object));
            work.end = match (&our, &their) {
                (Some(_), None) => DirectoryEnd::Gone,
                (Some(our), Some(their)) if our.active && !their.active => DirectoryEnd::Inactive,
                _ => DirectoryEnd::Stays,
            };
            work.plan = match their {
                Some(_) => planner.plan(id, &work.listed, work.end)?,
                None => plan_of_gone(ours, moved, id)?,
            };
            work.was_named |= work.our.is_some();
            work.now = work.doubt(our.as_ref(), their.as_ref());
        }
        Ok(planner.finish()?)
    }

    /// Returns the directories in which nothing ends in this run.
    fn held(
        &self,
        engine: &Engine,
        works: &BTreeMap<String, Work>,
        earlier: Ended,
    ) -> HashSet<String> {
        let guard = self.scope.guard;
        let compared = || works.iter().filter(|(id, _)| !self.progress.has_failed(id));
        let mut directories = Tally::default();
        for (_, work) in compared().filter(|(_, work)| work.our.is_some()) {
            directories.count(work.end != DirectoryEnd::Stays);
        }
        // The run is judged by all that the log holds, also in directories that are not compared.
        let mut left_out = Ends::default();
        let views = engine.views();
        let living = views.living();
        for held in views.held_directories(Cut::LATEST) {
            let is_compared = works.contains_key(&held.id) && !self.progress.has_failed(&held.id);
            if held.row.is_some() && !is_compared {
                directories.count(false);
                let [users, _] = views.living_in(&living, &held.id);
                left_out.users.there += users.active;
            }
        }
        drop(views);
        let ends = compared().map(|(_, work)| work.plan.ends).chain([left_out]);
        let all = run_excess(directories, ends, earlier, guard);
        let excess = |work: &Work| work.plan.ends.excess(guard).or_else(|| all.clone());
        let held = compared().filter_map(|(id, work)| {
            self.progress.note_excess(id, excess(work)?);
            Some(id.clone())
        });
        held.collect()
    }

    /// Asks again about what differs. The first cut is that before the lists, the other that with
    /// which they were compared.
    fn look(
        &self,
        [before, cut]: [Cut; 2],
        candidates: &Candidates,
        directories: &mut Directories,
        held: &HashSet<String>,
        texts: &mut Texts,
    ) -> Result<Answers, Trouble> {
        self.look_at_directories(directories, held)?;
        let Directories { works, shown, .. } = directories;
        let (homes, plans) = (homes(works), plans(works));
        let lister = self.lister(shown);
        let look = SecondLook {
            lister: &lister,
            before,
            cut,
            folder: self.folder,
            homes: &homes,
            plans: &plans,
            held,
        };
        Ok(Answers {
            groups: look.ask(DifferentKind::Group, &candidates.groups, texts)?,
            users: look.ask(DifferentKind::User, &candidates.users, texts)?,
            members: look.ask(DifferentKind::Membership, &candidates.members, texts)?,
        })
    }

    fn look_at_directories(
        &self,
        directories: &mut Directories,
        held: &HashSet<String>,
    ) -> Result<(), Trouble> {
        let Directories { works, shown, .. } = directories;
        let nothing = Shown::default();
        let lister = self.lister(&nothing);
        let doubted = works.values().filter(|work| work.is_doubted()).count();
        let again = if doubted > SINGLY_MAX {
            let (again, _) = lister.directories(None)?;
            again.into_iter().map(|their| (their.id.clone(), their)).collect()
        } else {
            BTreeMap::new()
        };
        for (id, work) in works.iter_mut().filter(|(_, work)| work.is_doubted()) {
            if self.progress.has_failed(id) {
                continue;
            }
            if let Some(their) = again.get(id) {
                let asked_at = their.asked_at;
                work.now = Some(Now { their: Some(their.clone()), asked_at });
                continue;
            }
            if doubted > SINGLY_MAX && held.contains(id) {
                continue;
            }
            match lister.look(Shape::Directory, id) {
                Ok(Look::Present { object, asked_at }) => {
                    let their = TheirDirectory { id: id.clone(), object, asked_at };
                    work.now = Some(Now { their: Some(their), asked_at });
                }
                Ok(Look::Absent { asked_at }) => {
                    work.now = Some(Now { their: None, asked_at });
                }
                Ok(Look::Undecided(error)) => self.progress.fail(id, error.to_string()),
                Err(Trouble::Directory(error)) => self.progress.fail(id, error),
                Err(error) => return Err(error),
            }
        }
        for (id, work) in works.iter() {
            match &work.now {
                Some(Now { their: Some(their), .. }) => {
                    shown.0.insert(id.clone(), their.is_active());
                }
                Some(Now { their: None, .. }) => drop(shown.0.remove(id)),
                None => {}
            }
        }
        Ok(())
    }

    /// Records what differs even now.
    fn record(
        &self,
        engine: &Engine,
        directories: &Directories,
        candidates: &Candidates,
        answers: &Answers,
        held: &HashSet<String>,
        texts: &mut Texts,
    ) -> Result<Outcome, Trouble> {
        use rollcall_projections::HeldKind::{Group, User};
        let Directories { works, deleted_here, shown } = directories;
        let homes = homes(works);
        let mut recorder = Recorder::new(self, engine, held, &homes, shown);
        for (id, _) in works.iter().filter(|(_, work)| !work.is_clean()) {
            recorder.note_undecided(id);
        }
        for (kind, candidates, answers) in [
            (DifferentKind::Group, &candidates.groups, &answers.groups),
            (DifferentKind::User, &candidates.users, &answers.users),
            (DifferentKind::Membership, &candidates.members, &answers.members),
        ] {
            recorder.find_undecided(kind, candidates, answers)?;
        }
        for their in deleted_here {
            recorder.deleted_here(their)?;
        }
        for (id, work) in works {
            let Some(now) = work.now.as_ref().filter(|_| !self.progress.has_failed(id)) else {
                continue;
            };
            recorder.directory(&DirectoryNow {
                id,
                was_listed: work.their.is_some(),
                their: now.their.as_ref(),
                asked_at: now.asked_at,
                active_users: work.plan.ends.users.ending,
            })?;
        }
        recorder.flush()?;
        recorder.things(Group, &candidates.groups, &answers.groups, texts)?;
        recorder.things(User, &candidates.users, &answers.users, texts)?;
        recorder.members(&candidates.members, &answers.members)?;
        Ok(recorder.outcome)
    }

    /// Ends the run with its record, if a directory was compared cleanly.
    fn complete(
        &self,
        engine: &Engine,
        works: &BTreeMap<String, Work>,
        outcome: Outcome,
    ) -> Result<RunState, Trouble> {
        let mut clean = Vec::new();
        for (id, work) in works.iter().filter(|(id, _)| !self.progress.has_failed(id)) {
            let is_clean = work.is_clean() && !outcome.undecided.contains(id);
            if work.is_unlisted() {
                let reason = match self.scope.directory {
                    None => DIRECTORY_NOT_LISTED,
                    Some(_) => DIRECTORY_NOT_FOUND_AT_FIRST,
                };
                self.progress.doubt(id, reason.into());
            }
            if is_clean {
                self.progress.set(id, DirectoryState::Clean);
            } else {
                self.progress.set_undecided(id);
            }
            clean.extend(is_clean.then_some(id.as_str()));
        }
        let failed = self.progress.unsettled();
        let now = self.progress.now();
        self.source.status().add_held(now.held);
        let is_whole = failed.is_empty() && now.error.is_none();
        let state = match (is_whole, now.open().next()) {
            (false, _) => RunState::Failed,
            (true, None) => RunState::Completed,
            (true, Some(_)) => RunState::Held,
        };
        if !clean.is_empty() && !self.scope.dry {
            self.write_record(engine, state, &clean, &failed, &outcome)?;
        }
        Ok(state)
    }

    fn write_record(
        &self,
        engine: &Engine,
        state: RunState,
        clean: &[&str],
        failed: &BTreeMap<String, String>,
        outcome: &Outcome,
    ) -> Result<(), Trouble> {
        let finished_at = time::now_ms();
        // Where something was held, it is not sure that the log agrees with the source.
        let agrees = |id: &&&str| !outcome.with_held.contains(**id);
        let failed: Vec<_> =
            failed.iter().map(|(id, error)| json!({ "id": id, "error": error })).collect();
        let Ended { users, directories } = outcome.ended;
        let progress = self.progress.now();
        let open = progress.open_by_directory().into_iter();
        let open: Vec<_> = open.map(|(id, held)| json!({ "id": id, "held": held })).collect();
        let RunProgress { compared, recorded, held, .. } = progress;
        let data = json!({
            "object": "reconciliation",
            "state": state,
            "finished_at": time::format(finished_at),
            "duration_ms": finished_at - self.started_at,
            "source": self.source.url(),
            "directory_id": self.scope.directory,
            "guard": self.scope.guard.to_string(),
            "compared": compared,
            "clean_directories": clean.iter().filter(agrees).collect::<Vec<_>>(),
            "failed_directories": failed,
            "differences": self.progress.difference_count(),
            "recorded": recorded,
            "held": held,
            "held_directories": open,
            "ended": { "directories": directories, "users": users },
        });
        let origin = self.source.client().origin();
        engine.end_reconciliation(origin, self.id, self.started_at, data)?;
        Ok(())
    }
}

impl Work {
    fn new(their: Option<TheirDirectory>, our: Option<DirectoryRow>, was_named: bool) -> Work {
        Work {
            their,
            our,
            was_named,
            listed: Listed::default(),
            end: DirectoryEnd::Stays,
            plan: DirectoryPlan::default(),
            now: None,
        }
    }

    /// Returns what is known of a directory that differs, before it is asked for again.
    fn doubt(&self, our: Option<&Served>, their: Option<&Served>) -> Option<Now> {
        let differs = match (our, their) {
            (Some(our), Some(their)) => !their.differing(our).is_empty(),
            (None, None) => false,
            _ => true,
        };
        let asked_at = self.their.as_ref().map_or(Millis::MIN, |their| their.asked_at);
        differs.then(|| Now { their: self.their.clone(), asked_at })
    }

    /// Takes the answers of the second look as its end, and as the ends of what is in it.
    fn judge_again(&mut self, answered: Answered, engine: &Engine) {
        if let Some(now) = &self.now {
            let is_active = self
                .our
                .as_ref()
                .is_some_and(|row| Ours::now(engine).directory(row).is_ok_and(|our| our.active));
            self.end = match &now.their {
                // What was listed is not absent in this run.
                None if self.their.is_some() => DirectoryEnd::Stays,
                None => DirectoryEnd::Gone,
                Some(their) if is_active && !their.is_active() => DirectoryEnd::Inactive,
                Some(_) => DirectoryEnd::Stays,
            };
        }
        let Answered { ending, moved } = answered;
        let Ends { users, groups, memberships } = &mut self.plan.ends;
        let is_gone = self.end == DirectoryEnd::Gone;
        users.end_again(self.end != DirectoryEnd::Stays, ending.users, moved.users);
        groups.end_again(is_gone, ending.groups, moved.groups);
        memberships.end_again(is_gone, ending.memberships, moved.memberships);
    }

    /// Tells if the source has it, although it did not list it: nothing in it was listed either.
    fn is_unlisted(&self) -> bool {
        self.their.is_none() && self.now.as_ref().is_some_and(|now| now.their.is_some())
    }

    /// Tells if everything in it was listed without doubt. One that is gone has no lists.
    fn is_clean(&self) -> bool {
        match self.their {
            Some(_) => self.listed.is_clean(),
            None => !self.is_unlisted(),
        }
    }

    /// Tells if it is asked for again: what no record ever named is asked for once.
    fn is_doubted(&self) -> bool {
        self.now.is_some() && self.was_named
    }
}

impl Listed {
    /// Tells if everything of a directory was listed without doubt.
    fn is_clean(&self) -> bool {
        self.groups_clean && self.users_clean && self.undecided_groups.is_empty()
    }
}

fn homes(works: &BTreeMap<String, Work>) -> BTreeMap<String, String> {
    let theirs = works.iter().filter_map(|(id, work)| Some((id, work.their.as_ref()?)));
    theirs.map(|(id, their)| (id.clone(), their.organization())).collect()
}

fn plans(works: &BTreeMap<String, Work>) -> BTreeMap<String, DirectoryPlan> {
    works.iter().map(|(id, work)| (id.clone(), work.plan)).collect()
}
