//! The second look: the source is asked again about what differs, since a change under way is no
//! drift.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;

use rollcall_projections::{Cut, HeldKind, Millis};

use super::compare::{Home, Served};
use super::listing::{Lister, Look, Seen, ids_of, key_of};
use super::ours::{Ours, shape_of};
use super::plan::{Candidate, DirectoryPlan, Merge};
use super::progress::DifferentKind;
use super::record::directory_of;
use super::shown::Found;
use super::sort::{Entry, Sorted, Spool, Texts, Unsorted};
use super::trouble::Trouble;
use crate::time;

/// The number of things of a kind in a directory, or of directories, that are asked for one by one.
pub(super) const SINGLY_MAX: usize = 100;

/// The answer to the second look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is there. Without a text it is as the log has it.
    Present(Seen),
    /// It is not there.
    Absent {
        /// Just before the request was sent that showed it.
        asked_at: Millis,
    },
    /// The answer decides nothing.
    Undecided,
}

impl Answer {
    fn encode(self) -> Vec<u8> {
        match self {
            Answer::Present(seen) => [vec![1], seen.encode()].concat(),
            Answer::Absent { asked_at } => [&[0][..], &asked_at.to_le_bytes()].concat(),
            Answer::Undecided => vec![2],
        }
    }

    /// Reads one that was written here.
    pub(super) fn decode(bytes: &[u8]) -> io::Result<Answer> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let (code, rest) = bytes.split_first().ok_or_else(invalid)?;
        Ok(match *code {
            0 => {
                let asked_at = rest.first_chunk::<8>().ok_or_else(invalid)?;
                Answer::Absent { asked_at: Millis::from_le_bytes(*asked_at) }
            }
            1 => Answer::Present(Seen::decode(rest).ok_or_else(invalid)?),
            _ => Answer::Undecided,
        })
    }
}

/// Asks the source again.
pub(super) struct SecondLook<'a> {
    pub(super) lister: &'a Lister<'a>,
    /// The log before the source was listed.
    pub(super) before: Cut,
    /// The log with which the lists were compared.
    pub(super) cut: Cut,
    pub(super) folder: &'a Path,
    /// The organization of each directory.
    pub(super) homes: &'a BTreeMap<String, String>,
    pub(super) plans: &'a BTreeMap<String, DirectoryPlan>,
    /// The directories in which nothing ends in this run, whatever the answers are.
    pub(super) held: &'a HashSet<String>,
}

impl SecondLook<'_> {
    /// Asks about the candidates of one kind, directory by directory. A directory that fails is
    /// noted and left out.
    pub(super) fn ask(
        &self,
        kind: DifferentKind,
        candidates: &Sorted,
        texts: &mut Texts,
    ) -> Result<Sorted, Trouble> {
        let mut merge = Merge::new(candidates)?;
        let mut answers = Spool::new(self.folder)?;
        while let Some(directory) = merge.directory() {
            let asked = if self.lister.progress.has_failed(&directory) {
                Ok(())
            } else {
                self.ask_in(kind, &directory, &mut merge, texts, &mut answers)
            };
            match asked {
                Err(Trouble::Directory(error)) => self.lister.progress.fail(&directory, error),
                asked => asked?,
            }
            merge.of(&directory, &mut |_| Ok(()))?;
        }
        Ok(answers.finish()?)
    }

    fn ask_in(
        &self,
        kind: DifferentKind,
        directory: &str,
        merge: &mut Merge,
        texts: &mut Texts,
        answers: &mut Spool,
    ) -> Result<(), Trouble> {
        let doubted = self.plans.get(directory).map(|plan| plan.doubted).unwrap_or_default();
        match kind {
            DifferentKind::Group if doubted.groups > SINGLY_MAX => {
                self.list_again(HeldKind::Group, directory, merge, texts, answers)
            }
            DifferentKind::User if doubted.users > SINGLY_MAX => {
                self.list_again(HeldKind::User, directory, merge, texts, answers)
            }
            DifferentKind::Group => self.singly(HeldKind::Group, directory, merge, texts, answers),
            DifferentKind::User => self.singly(HeldKind::User, directory, merge, texts, answers),
            DifferentKind::Membership => self.members(directory, merge, answers),
            DifferentKind::Directory => Ok(()),
        }
    }

    fn singly(
        &self,
        kind: HeldKind,
        directory: &str,
        merge: &mut Merge,
        texts: &mut Texts,
        answers: &mut Spool,
    ) -> Result<(), Trouble> {
        merge.of(directory, &mut |entry| {
            if is_doubted(entry)? {
                let answer = self.one(kind, directory, entry, texts)?;
                answers.add(&entry.key, &answer.encode())?;
            }
            Ok(())
        })
    }

    fn one(
        &self,
        kind: HeldKind,
        directory: &str,
        entry: &Entry,
        texts: &mut Texts,
    ) -> Result<Answer, Trouble> {
        let [_, id] = ids_of(&entry.key)?;
        Ok(match self.lister.look(shape_of(kind), id)? {
            Look::Absent { asked_at } => Answer::Absent { asked_at },
            Look::Undecided(error) => {
                let what = match kind {
                    HeldKind::Group => "group",
                    HeldKind::User => "user",
                };
                self.lister.progress.doubt(directory, format!("{what} {id}: {error}"));
                Answer::Undecided
            }
            Look::Present { object, .. }
                if directory_of(&object, directory) == directory
                    && self.is_unlisted_group(kind, directory, entry)? =>
            {
                Answer::Undecided
            }
            Look::Present { object, asked_at } => {
                Answer::Present(self.seen(kind, directory, &object, asked_at, texts)?)
            }
        })
    }

    /// Tells if the list of groups lacks a group that answers by itself and that the log had before
    /// listing began: its users were never listed, so nothing can be said of them. Notes the doubt
    /// if so. A group that has come since is told by its events.
    fn is_unlisted_group(
        &self,
        kind: HeldKind,
        directory: &str,
        entry: &Entry,
    ) -> Result<bool, Trouble> {
        if kind != HeldKind::Group || Candidate::decode(&entry.value)? != Candidate::MissingThere {
            return Ok(false);
        }
        let [_, id] = ids_of(&entry.key)?;
        let engine = self.lister.engine()?;
        let known = Ours { engine: &engine, cut: self.before }.holding(kind, id);
        let is_unlisted = known.is_some_and(|known| known.directory == directory);
        if is_unlisted {
            let reason =
                format!("the list of its groups lacks group {id}, which answers by itself");
            self.lister.progress.doubt(directory, reason);
        }
        Ok(is_unlisted)
    }

    fn seen(
        &self,
        kind: HeldKind,
        directory: &str,
        object: &str,
        asked_at: Millis,
        texts: &mut Texts,
    ) -> Result<Seen, Trouble> {
        let text = Some(texts.add(object)?);
        Ok(Seen { text, ..self.seen_in(kind, directory, object, asked_at) })
    }

    /// Reads an object of the source, whose text is not kept.
    fn seen_in(&self, kind: HeldKind, directory: &str, object: &str, asked_at: Millis) -> Seen {
        let served = self.served(kind, directory, object);
        let (digest, active) = (served.digest(), served.active);
        let found = Found { listed_in: directory, object, active };
        let goes_on = self.lister.shown.goes_on(kind, directory, &found);
        Seen { digest, active, goes_on, asked_at, text: None }
    }

    fn served(&self, kind: HeldKind, directory: &str, object: &str) -> Served {
        let organization = self.homes.get(directory).map_or("", String::as_str);
        Served::theirs(shape_of(kind), object, Home { directory, organization })
    }

    /// Lists the things of a directory again. An absence is asked for by its id all the same, unless
    /// nothing ends in this run.
    fn list_again(
        &self,
        kind: HeldKind,
        directory: &str,
        merge: &mut Merge,
        texts: &mut Texts,
        answers: &mut Spool,
    ) -> Result<(), Trouble> {
        let began_at = time::now_ms();
        let mut list = Unsorted::new(self.folder);
        let clean = self.lister.list_kind(kind, directory, &mut |id, object, asked_at| {
            let seen = self.seen_in(kind, directory, object, asked_at);
            let engine = self.lister.engine()?;
            let ours = Ours { engine: &engine, cut: self.cut }.thing(kind, id)?;
            let is_same = ours.is_some_and(|ours| ours.served.digest() == seen.digest);
            let text = (!is_same).then(|| texts.add(object)).transpose()?;
            let seen = Seen { text, ..seen };
            Ok(list.add(key_of(&[directory, id]), seen.encode())?)
        })?;
        let mut list = Merge::new(&list.sort()?)?;
        let is_held = self.held.contains(directory);
        merge.of(directory, &mut |entry| {
            list.before(&entry.key, &mut |_| Ok(()))?;
            let found = list.at(&entry.key)?.and_then(|found| Seen::decode(&found.value));
            if !is_doubted(entry)? {
                return Ok(());
            }
            let answer = match found {
                Some(_) if self.is_unlisted_group(kind, directory, entry)? => Answer::Undecided,
                Some(seen) => Answer::Present(seen),
                None if !clean => Answer::Undecided,
                None if is_held => Answer::Absent { asked_at: began_at },
                None => self.one(kind, directory, entry, texts)?,
            };
            Ok(answers.add(&entry.key, &answer.encode())?)
        })
    }

    /// Lists the users again of each group whose memberships are doubted.
    fn members(
        &self,
        directory: &str,
        merge: &mut Merge,
        answers: &mut Spool,
    ) -> Result<(), Trouble> {
        let mut listed: Option<ListedAgain> = None;
        merge.of(directory, &mut |entry| {
            if !is_doubted(entry)? {
                return Ok(());
            }
            let [_, group, _] = ids_of(&entry.key)?;
            if listed.as_ref().is_none_or(|listed| listed.group != group) {
                listed = Some(self.list_group(directory, group)?);
            }
            let Some(listed) = &mut listed else { return Ok(()) };
            listed.list.before(&entry.key, &mut |_| Ok(()))?;
            let answer = match listed.list.at(&entry.key)? {
                Some(found) => Answer::Present(Seen::of_member(&found)?),
                None if listed.clean => Answer::Absent { asked_at: listed.began_at },
                None => Answer::Undecided,
            };
            Ok(answers.add(&entry.key, &answer.encode())?)
        })
    }

    fn list_group(&self, directory: &str, group: &str) -> Result<ListedAgain, Trouble> {
        let began_at = time::now_ms();
        let mut list = Unsorted::new(self.folder);
        let clean = self.lister.list_members(directory, group, &mut |user, asked_at| {
            let key = key_of(&[directory, group, user]);
            Ok(list.add(key, asked_at.to_le_bytes().to_vec())?)
        })?;
        let list = Merge::new(&list.sort()?)?;
        Ok(ListedAgain { group: group.to_owned(), began_at, clean, list })
    }
}

/// The users of a group, listed again.
struct ListedAgain {
    group: String,
    began_at: Millis,
    clean: bool,
    list: Merge,
}

fn is_doubted(entry: &Entry) -> io::Result<bool> {
    Ok(!matches!(Candidate::decode(&entry.value)?, Candidate::New(_)))
}
