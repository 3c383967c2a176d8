//! Observations: when the source was asked, and the reconciliations that compared directories.

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::ground::order::{Cut, Millis, Place, Seq, Seq32, seq32};
use crate::ground::pack::pack_fields;
use crate::ground::symbols::Sym;

/// A reconciliation that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// When it began.
    pub(crate) started_at: Millis,
    /// When it ended.
    pub(crate) occurred_at: Millis,
    /// Its record.
    pub(crate) seq: Seq32,
}

impl Run {
    fn is_seen(self, cut: Cut) -> bool {
        self.occurred_at <= cut.as_of && Seq::from(self.seq) <= cut.known_at
    }
}

/// When the source was asked for each observation, and the reconciliations that ended.
#[derive(Default)]
pub(crate) struct Observations {
    /// The observations that occurred at another moment than that of the question, with the moment
    /// of the question; in order of seq.
    asked: Vec<(Seq32, Millis)>,
    /// All reconciliations, in order of seq.
    runs: Vec<Run>,
    /// By directory: the numbers of the runs that compared it without a doubt, by their start.
    clean: HashMap<Sym, Vec<u32>, FxBuildHasher>,
}

impl Observations {
    /// Notes when the source was asked for the observation at a place. Seqs come in ascending order.
    pub(crate) fn note(&mut self, place: Place, asked_at: Millis) {
        if place.occurred_at != asked_at {
            self.asked.push((place.seq, asked_at));
        }
    }

    /// Returns the moment at which the record at a place saw its thing: of an observation that of
    /// the question, of any other event when it occurred. O(log n).
    pub(crate) fn seen_at(&self, place: Place) -> Millis {
        match self.asked.binary_search_by_key(&place.seq, |(seq, _)| *seq) {
            Ok(at) => self.asked.get(at).map_or(place.occurred_at, |(_, asked_at)| *asked_at),
            Err(_) => place.occurred_at,
        }
    }

    /// Notes a reconciliation, with the directories that it compared without a doubt.
    pub(crate) fn note_run(&mut self, run: Run, clean: impl IntoIterator<Item = Sym>) {
        let number = self.runs.len() as u32;
        self.runs.push(run);
        let runs = &self.runs;
        let started_at = |number: &u32| runs.get(*number as usize).map(|run| run.started_at);
        for directory in clean {
            let of_directory = self.clean.entry(directory).or_default();
            let at = of_directory.partition_point(|other| started_at(other) <= started_at(&number));
            of_directory.insert(at, number);
        }
    }

    /// Iterates over the runs that a cut sees, that compared a directory without a doubt, and that
    /// began after one moment and before another; the latest first.
    pub(crate) fn runs_between(
        &self,
        directory: Sym,
        after: Millis,
        before: Millis,
        cut: Cut,
    ) -> impl Iterator<Item = Run> + '_ {
        let of_directory = self.clean.get(&directory).map_or(&[][..], |runs| runs);
        let runs = of_directory.iter().rev().filter_map(|number| self.runs.get(*number as usize));
        runs.skip_while(move |run| run.started_at >= before)
            .take_while(move |run| run.started_at > after)
            .filter(move |run| run.is_seen(cut))
            .copied()
    }

    /// Returns the moment of the question for an observation, if it is another than that at which
    /// it occurred.
    pub(crate) fn asked_at(&self, seq: Seq) -> Option<Millis> {
        let at = self.asked.binary_search_by_key(&seq32(seq), |(seq, _)| *seq).ok()?;
        self.asked.get(at).map(|(_, asked_at)| *asked_at)
    }

    /// Returns the reconciliation that a record states.
    pub(crate) fn run_of(&self, seq: Seq) -> Option<Run> {
        let at = self.runs.binary_search_by_key(&seq32(seq), |run| run.seq).ok()?;
        self.runs.get(at).copied()
    }

    /// Iterates over the runs that compared a directory without a doubt, by their start.
    pub(crate) fn clean_runs(&self, directory: Sym) -> impl Iterator<Item = Run> + '_ {
        let of_directory = self.clean.get(&directory).map_or(&[][..], |runs| runs);
        of_directory.iter().filter_map(|number| self.runs.get(*number as usize)).copied()
    }
}

pack_fields!(Observations { asked, runs, clean });
pack_fields!(Run { started_at, occurred_at, seq });

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::order::NO_UPDATED_AT;

    fn place(seq: Seq32, occurred_at: Millis) -> Place {
        Place { occurred_at, updated_at: NO_UPDATED_AT, seq, closing: false }
    }

    #[test]
    fn an_observation_saw_its_thing_when_the_source_was_asked() {
        let mut observations = Observations::default();
        for (seq, occurred_at, asked_at) in [(3, 20, 100), (5, 100, 100), (9, 7, 101)] {
            observations.note(place(seq, occurred_at), asked_at);
        }
        let seen = [(1, 20), (3, 20), (5, 100), (9, 7), (10, 7)];
        let seen = seen.map(|(seq, occurred_at)| observations.seen_at(place(seq, occurred_at)));
        assert_eq!(seen, [20, 100, 100, 101, 7]);
        assert_eq!(observations.asked.len(), 2);
    }

    #[test]
    fn runs_are_found_by_their_start_within_both_cuts() {
        let mut observations = Observations::default();
        let runs = [(10, 14, 1), (20, 24, 2), (15, 26, 3), (40, 44, 4)];
        for (started_at, occurred_at, seq) in runs {
            observations.note_run(Run { started_at, occurred_at, seq }, [7]);
        }
        observations.note_run(Run { started_at: 30, occurred_at: 31, seq: 5 }, [8]);
        let found = |after, before, cut| -> Vec<Millis> {
            let runs = observations.runs_between(7, after, before, cut);
            runs.map(|run| run.started_at).collect()
        };
        assert_eq!(found(0, 100, Cut::LATEST), [40, 20, 15, 10]);
        assert_eq!(found(10, 40, Cut::LATEST), [20, 15]);
        assert_eq!(found(0, 100, Cut { known_at: 2, ..Cut::LATEST }), [20, 10]);
        assert_eq!(found(0, 100, Cut { as_of: 25, ..Cut::LATEST }), [20, 10]);
    }
}
