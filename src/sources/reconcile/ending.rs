//! What ends by the answers of the second look, each thing counted in the directory in which the
//! log has it.

use std::collections::{BTreeMap, HashSet};

use rollcall_projections::{Fingerprint, HeldKind};

use super::again::Answer;
use super::listing::ids_of;
use super::ours::Ours;
use super::plan::{Candidate, Candidates};
use super::record::each_answer;
use super::run::Answers;
use super::shown::{Found, Shown, key};
use super::sort::{Entry, Sorted, Texts};
use super::trouble::Trouble;
use crate::engine::Engine;

/// Numbers of things: active users, groups, memberships.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) users: u64,
    pub(super) groups: u64,
    pub(super) memberships: u64,
}

/// What the second look says of a directory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Answered {
    /// The things that end.
    pub(super) ending: Numbers,
    /// Those that go on in another directory, so that they do not end with this one.
    pub(super) moved: Numbers,
}

/// Counts what ends.
pub(super) struct Ending<'a> {
    engine: &'a Engine,
    shown: &'a Shown,
    texts: &'a mut Texts,
    /// The users and groups that were counted: a thing that moves is in two lists.
    counted: HashSet<Fingerprint>,
    answered: BTreeMap<String, Answered>,
}

impl<'a> Ending<'a> {
    /// Begins with none.
    pub(super) fn new(engine: &'a Engine, shown: &'a Shown, texts: &'a mut Texts) -> Ending<'a> {
        Ending { engine, shown, texts, counted: HashSet::new(), answered: BTreeMap::new() }
    }

    /// Counts what ends in each directory, and what leaves it and goes on.
    pub(super) fn count(
        mut self,
        candidates: &Candidates,
        answers: &Answers,
    ) -> Result<BTreeMap<String, Answered>, Trouble> {
        self.things(HeldKind::Group, &candidates.groups, &answers.groups)?;
        self.things(HeldKind::User, &candidates.users, &answers.users)?;
        self.members(&candidates.members, &answers.members)?;
        Ok(self.answered)
    }

    fn things(
        &mut self,
        kind: HeldKind,
        candidates: &Sorted,
        answers: &Sorted,
    ) -> Result<(), Trouble> {
        each_answer(candidates, answers, &mut |entry, answer| match answer {
            Some(answer) => self.thing(kind, entry, answer),
            None => Ok(()),
        })
    }

    fn thing(&mut self, kind: HeldKind, entry: &Entry, answer: Answer) -> Result<(), Trouble> {
        let [listed_in, id] = ids_of(&entry.key)?;
        let ours = Ours::now(self.engine);
        let holding = ours.holding(kind, id);
        let is_counted = |active| kind == HeldKind::Group || active;
        let Some(holding) = holding.filter(|holding| is_counted(holding.active)) else {
            return Ok(());
        };
        let home = holding.directory;
        let (ends, moves) = match answer {
            Answer::Undecided => return Ok(()),
            // What the list shows and its own look denies is not judged.
            Answer::Absent { .. } => {
                let was_missing = Candidate::decode(&entry.value)? == Candidate::MissingThere;
                (was_missing && home == listed_in, false)
            }
            Answer::Present(seen) => {
                let Some(text) = seen.text else { return Ok(()) };
                let object = self.texts.read(text)?;
                let found = Found { listed_in, object: &object, active: seen.active };
                let goes_on = self.shown.goes_on(kind, &home, &found);
                (!goes_on, goes_on && found.directory() != home)
            }
        };
        if (!ends && !moves) || !self.counted.insert(key(kind, id)) {
            return Ok(());
        }
        let members = match kind {
            HeldKind::Group => ours.members(id).try_fold(0, |sum, next| next.map(|_| sum + 1))?,
            HeldKind::User => 0,
        };
        let answered = self.answered.entry(home).or_default();
        let numbers = if ends { &mut answered.ending } else { &mut answered.moved };
        match kind {
            HeldKind::User => numbers.users += 1,
            HeldKind::Group => numbers.groups += 1,
        }
        // Its memberships end, or move, with a group.
        numbers.memberships += members;
        Ok(())
    }

    fn members(&mut self, candidates: &Sorted, answers: &Sorted) -> Result<(), Trouble> {
        let ours = Ours::now(self.engine);
        each_answer(candidates, answers, &mut |entry, answer| {
            let [directory, group, user] = ids_of(&entry.key)?;
            if matches!(answer, Some(Answer::Absent { .. }))
                && self.engine.views().holds_membership(user, group, ours.cut)
            {
                let answered = self.answered.entry(directory.to_owned()).or_default();
                answered.ending.memberships += 1;
            }
            Ok(())
        })
    }
}
