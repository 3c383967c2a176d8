//! The users who lose their access by the answers of the second look, each counted in the directory
//! in which the log has it.

use std::collections::{BTreeMap, HashSet};

use rollcall_projections::{Fingerprint, HeldKind};

use super::again::Answer;
use super::listing::ids_of;
use super::ours::Ours;
use super::plan::{Candidate, Merge};
use super::record::{answer_to, own_directory};
use super::sort::{Sorted, Texts};
use super::trouble::Trouble;
use crate::engine::Engine;
use crate::hashes::fingerprint;

/// The answers about users.
pub(super) struct Leaving<'a> {
    pub(super) engine: &'a Engine,
    pub(super) answers: &'a Sorted,
    pub(super) texts: &'a mut Texts,
}

impl Leaving<'_> {
    /// Counts the active users of each directory who are gone, inactive, or in another directory.
    pub(super) fn count(mut self, candidates: &Sorted) -> Result<BTreeMap<String, u64>, Trouble> {
        let mut leaving: BTreeMap<String, u64> = BTreeMap::new();
        let mut counted: HashSet<Fingerprint> = HashSet::new();
        let mut answers = Merge::new(self.answers)?;
        let ours = Ours::now(self.engine);
        for entry in candidates.entries()? {
            let entry = entry?;
            let [listed_in, id] = ids_of(&entry.key)?;
            let Some(answer) = answer_to(&entry, &mut answers)? else { continue };
            let holding = self.engine.views().holding(HeldKind::User, id, ours.cut);
            let Some(holding) = holding.filter(|holding| holding.active) else { continue };
            let missing = Candidate::decode(&entry.value)? == Candidate::MissingThere;
            if self.leaves(&holding.directory, listed_in, answer, missing)?
                && counted.insert(fingerprint(id))
            {
                *leaving.entry(holding.directory).or_default() += 1;
            }
        }
        Ok(leaving)
    }

    fn leaves(
        &mut self,
        home: &str,
        listed_in: &str,
        answer: Answer,
        missing: bool,
    ) -> Result<bool, Trouble> {
        Ok(match answer {
            Answer::Undecided => false,
            Answer::Absent { .. } => missing && home == listed_in,
            Answer::Present(seen) => match seen.text {
                Some(_) if !seen.active => true,
                Some(text) => {
                    let own = own_directory(&self.texts.read(text)?);
                    own.as_deref().unwrap_or(listed_in) != home
                }
                None => false,
            },
        })
    }
}
