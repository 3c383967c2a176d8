//! The list of events: each record with its type, organization and directory, in order of seq.

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use crate::ground::order::{Cut, Millis, Seq, Seq32, seq32};
use crate::ground::page::Page;
use crate::ground::symbols::{NO_SYM, Sym, Symbols};
use crate::state::intake::Intake;

/// The number of records whose times are kept together as bounds.
const BLOCK: usize = 1024;

/// One record of the list.
#[derive(Clone, Copy)]
pub(crate) struct EventLine {
    /// Its type; [`NO_SYM`] for a record that is not listed.
    pub(crate) event_type: Sym,
    pub(crate) organization: Sym,
    pub(crate) directory: Sym,
}

const NOT_LISTED: EventLine =
    EventLine { event_type: NO_SYM, organization: NO_SYM, directory: NO_SYM };

/// Every record by seq, with an index of each type and each organization.
///
/// An event's organization is fixed when it is folded, by what was known then: an event never
/// enters a list before one that was already shown.
#[derive(Default)]
pub(crate) struct Events {
    pub(crate) event_types: Symbols,
    /// Record `n` is at `n - 1`.
    lines: Vec<EventLine>,
    occurred: Vec<Millis>,
    /// The earliest and the latest time of each block.
    bounds: Vec<(Millis, Millis)>,
    by_event_type: Vec<Vec<Seq32>>,
    by_organization: HashMap<Sym, Vec<Seq32>, FxBuildHasher>,
    directories: HashMap<Sym, Intake, FxBuildHasher>,
    /// By directory and organization, from the events that tell of this organization alone.
    directories_of_one: HashMap<(Sym, Sym), Intake, FxBuildHasher>,
    /// The further organizations of the events that tell of things of several.
    others: HashMap<Seq32, SmallVec<[Sym; 2]>, FxBuildHasher>,
}

/// The organizations whose events are listed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EventSight<'a> {
    /// The one that the filter names.
    pub(crate) organization: Option<Sym>,
    /// Those that the caller sees; `None` if all are.
    pub(crate) own: Option<&'a [Sym]>,
}

/// A filter of events; all parts that are given must fit.
#[derive(Clone, Copy, Debug)]
pub struct EventFilter<'a> {
    /// With one of these types.
    pub event_types: &'a [String],
    /// Belonging to this organization.
    pub organization: Option<&'a str>,
    /// Not before this moment, in `occurred_at`.
    pub from: Option<Millis>,
    /// Not after this moment, in `occurred_at`.
    pub until: Option<Millis>,
}

/// The place in the list of events at which to begin.
#[derive(Clone, Copy, Debug)]
pub enum Start {
    /// After this record; 0 for the first.
    After(Seq),
    /// Directly before this record.
    Before(Seq),
}

/// An event as listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// The record.
    pub seq: Seq,
    /// When it happened at the source.
    pub occurred_at: Millis,
}

impl<'a> EventSight<'a> {
    /// Returns the organizations to which the list is narrowed; `None` if it is not.
    fn organizations(&'a self) -> Option<&'a [Sym]> {
        self.organization.as_ref().map(core::slice::from_ref).or(self.own)
    }
}

impl Events {
    /// Adds the next record, which is not listed.
    pub(crate) fn skip(&mut self, occurred_at: Millis) {
        self.push(NOT_LISTED, occurred_at);
    }

    /// Adds the next record, and lists it.
    pub(crate) fn list(
        &mut self,
        event_type: &str,
        organization: Sym,
        directory: Sym,
        occurred_at: Millis,
    ) {
        let number = self.event_types.intern(event_type);
        self.push(EventLine { event_type: number, organization, directory }, occurred_at);
        let seq = seq32(self.lines.len() as Seq);
        if self.by_event_type.len() <= number as usize {
            self.by_event_type.push(Vec::new());
        }
        if let Some(seqs) = self.by_event_type.get_mut(number as usize) {
            seqs.push(seq);
        }
        if organization != NO_SYM {
            self.by_organization.entry(organization).or_default().push(seq);
        }
    }

    /// Counts the newest record among the events of its directory, and among those that tell of its
    /// organization alone. Comes after [`Events::note_others`].
    pub(crate) fn count_intake(
        &mut self,
        event_type: &str,
        occurred_at: Millis,
        recorded_at: Millis,
    ) {
        let seq = self.lines.len() as Seq;
        let Some((EventLine { organization, directory, .. }, _)) = self.get(seq) else { return };
        if directory == NO_SYM {
            return;
        }
        let note = |intake: &mut Intake| intake.note(event_type, occurred_at, recorded_at);
        note(self.directories.entry(directory).or_default());
        if organization != NO_SYM && self.others(seq).is_empty() {
            note(self.directories_of_one.entry((directory, organization)).or_default());
        }
    }

    /// Notes that the newest record also tells of things of other organizations.
    pub(crate) fn note_others(&mut self, others: SmallVec<[Sym; 2]>) {
        if !others.is_empty() {
            self.others.insert(seq32(self.lines.len() as Seq), others);
        }
    }

    /// Returns the further organizations of whose things a record tells.
    pub(crate) fn others(&self, seq: Seq) -> &[Sym] {
        self.others.get(&seq32(seq)).map_or(&[], |others| others)
    }

    /// Tells if a record is an event of one of some organizations and tells of no other's things.
    pub(crate) fn is_of(&self, seq: Seq, own: &[Sym]) -> bool {
        let line = self.get(seq);
        line.is_some_and(|(line, _)| own.contains(&line.organization))
            && self.others(seq).iter().all(|other| own.contains(other))
    }

    fn push(&mut self, line: EventLine, occurred_at: Millis) {
        if self.lines.len().is_multiple_of(BLOCK) {
            self.bounds.push((Millis::MAX, Millis::MIN));
        }
        if let Some((earliest, latest)) = self.bounds.last_mut() {
            *earliest = occurred_at.min(*earliest);
            *latest = occurred_at.max(*latest);
        }
        self.lines.push(line);
        self.occurred.push(occurred_at);
    }

    /// Iterates over the types of the events up to a record.
    pub(crate) fn types_recorded(&self, known_at: Seq) -> impl Iterator<Item = &str> {
        let known = (0..).zip(&self.by_event_type).filter(move |(_, seqs): &(Sym, &Vec<Seq32>)| {
            seqs.first().is_some_and(|first| Seq::from(*first) <= known_at)
        });
        known.map(|(event_type, _)| self.event_types.text(event_type))
    }

    /// Returns the newest wanted record of a directory at a cut. Costs a pass back over the records
    /// of others.
    pub(crate) fn last_of_directory(
        &self,
        directory: Sym,
        cut: Cut,
        wanted: impl Fn(Seq) -> bool,
    ) -> Option<Seq> {
        let known = self.lines.len().min(usize::try_from(cut.known_at).unwrap_or(usize::MAX));
        let is_seen = |at: usize| {
            let of_directory = self.lines.get(at).is_some_and(|line| line.directory == directory);
            of_directory
                && self.occurred.get(at).is_some_and(|occurred| *occurred <= cut.as_of)
                && wanted(at as Seq + 1)
        };
        let found = (0..known).rev().find(|at| directory != NO_SYM && is_seen(*at));
        found.map(|at| at as Seq + 1)
    }

    pub(crate) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Returns a record's entry in the list, if it is listed, and its time.
    pub(crate) fn get(&self, seq: Seq) -> Option<(EventLine, Millis)> {
        let at = (seq as usize).checked_sub(1)?;
        let line = self.lines.get(at).filter(|line| line.event_type != NO_SYM)?;
        Some((*line, *self.occurred.get(at)?))
    }

    pub(crate) fn intake(&self, directory: Sym) -> Option<&Intake> {
        self.directories.get(&directory)
    }

    /// Returns the counts of a directory's events that tell of one organization alone.
    pub(crate) fn intake_of_one(&self, directory: Sym, organization: Sym) -> Option<&Intake> {
        self.directories_of_one.get(&(directory, organization))
    }

    /// Returns a page of events, in ascending order of seq. `sight` has the symbol of the filter's
    /// organization.
    ///
    /// Costs the page, plus the events of the rarest index that the filter refuses; blocks outside
    /// its times are skipped.
    pub(crate) fn page(
        &self,
        filter: &EventFilter<'_>,
        sight: EventSight<'_>,
        cut: Cut,
        start: Start,
        limit: usize,
    ) -> Page<EventRow> {
        let query = self.query(filter, sight, cut);
        match start {
            Start::After(seq) => query.page_after(seq32(seq), limit),
            Start::Before(seq) => query.page_before(seq32(seq), limit),
        }
    }

    fn query<'a>(
        &'a self,
        filter: &EventFilter<'_>,
        sight: EventSight<'a>,
        cut: Cut,
    ) -> EventQuery<'a> {
        let mut event_types: Vec<Sym> =
            filter.event_types.iter().filter_map(|name| self.event_types.find(name)).collect();
        event_types.sort_unstable();
        event_types.dedup();
        EventQuery {
            lists: self.rarest_lists(&event_types, sight),
            events: self,
            event_types,
            sight,
            from: filter.from.unwrap_or(Millis::MIN),
            until: filter.until.unwrap_or(Millis::MAX).min(cut.as_of),
            known_at: cut.known_at32(),
        }
    }

    /// Returns the seqs of the types, or those of the organizations if they are fewer.
    fn rarest_lists(&self, event_types: &[Sym], sight: EventSight<'_>) -> Vec<&[Seq32]> {
        let of_types: Vec<&[Seq32]> = event_types
            .iter()
            .filter_map(|event_type| self.by_event_type.get(*event_type as usize))
            .map(Vec::as_slice)
            .collect();
        let Some(organizations) = sight.organizations() else { return of_types };
        let lists = organizations.iter().filter_map(|one| self.by_organization.get(one));
        let own: Vec<&[Seq32]> = lists.map(Vec::as_slice).collect();
        let count = |lists: &[&[Seq32]]| -> usize { lists.iter().map(|list| list.len()).sum() };
        if count(&own) < count(&of_types) { own } else { of_types }
    }
}

/// An [`EventFilter`] at a cut, with its names resolved.
struct EventQuery<'a> {
    events: &'a Events,
    /// In ascending order.
    event_types: Vec<Sym>,
    sight: EventSight<'a>,
    from: Millis,
    until: Millis,
    known_at: Seq32,
    /// The lists of seqs to walk over.
    lists: Vec<&'a [Seq32]>,
}

impl EventQuery<'_> {
    fn page_after(&self, start: Seq32, limit: usize) -> Page<EventRow> {
        let mut found = self.after(start);
        let items = found.by_ref().take(limit).collect();
        Page { items, more_before: false, more_after: found.next().is_some() }
    }

    fn page_before(&self, start: Seq32, limit: usize) -> Page<EventRow> {
        let bound = start.min(self.known_at.saturating_add(1));
        let mut found = EventWalk::before(self, bound).filter_map(|seq| self.accept(seq));
        let mut items: Vec<EventRow> = found.by_ref().take(limit).collect();
        let more_before = found.next().is_some();
        items.reverse();
        let last = items.last().map(|last| seq32(last.seq));
        let more_after = last.is_some_and(|last| self.after(last).next().is_some());
        Page { items, more_before, more_after }
    }

    fn after(&self, start: Seq32) -> impl Iterator<Item = EventRow> {
        EventWalk::after(self, start).filter_map(|seq| self.accept(seq))
    }

    /// Returns an event's row if it fits.
    fn accept(&self, seq: Seq32) -> Option<EventRow> {
        let (line, occurred_at) = self.events.get(Seq::from(seq))?;
        let fits = self.event_types.binary_search(&line.event_type).is_ok()
            && self.sight.organization.is_none_or(|organization| line.organization == organization)
            && self.sight.own.is_none_or(|own| self.events.is_of(Seq::from(seq), own))
            && (self.from..=self.until).contains(&occurred_at);
        fits.then_some(EventRow { seq: Seq::from(seq), occurred_at })
    }

    /// Tells if a block holds anything within the filter's times.
    fn overlaps(&self, block: usize) -> bool {
        let bounds = self.events.bounds.get(block);
        bounds.is_some_and(|(earliest, latest)| *earliest <= self.until && *latest >= self.from)
    }
}

/// Several ascending lists of seqs as one, from either end, skipping the blocks outside the
/// filter's times.
struct EventWalk<'a> {
    query: &'a EventQuery<'a>,
    lists: Vec<&'a [Seq32]>,
    backward: bool,
}

fn block_of(seq: Seq32) -> usize {
    (seq as usize).saturating_sub(1) / BLOCK
}

impl<'a> EventWalk<'a> {
    /// Walks over the known seqs after `start`, ascending.
    fn after(query: &'a EventQuery<'a>, start: Seq32) -> EventWalk<'a> {
        let part = |list: &&'a [Seq32]| {
            let first = list.partition_point(|seq| *seq <= start);
            let end = list.partition_point(|seq| *seq <= query.known_at);
            list.get(first..end).unwrap_or_default()
        };
        EventWalk { query, lists: query.lists.iter().map(part).collect(), backward: false }
    }

    /// Walks over the seqs before `bound`, descending.
    fn before(query: &'a EventQuery<'a>, bound: Seq32) -> EventWalk<'a> {
        let part = |list: &&'a [Seq32]| {
            list.get(..list.partition_point(|seq| *seq < bound)).unwrap_or_default()
        };
        EventWalk { query, lists: query.lists.iter().map(part).collect(), backward: true }
    }

    /// Skips a whole block and all that was walked before it.
    fn leave_block(&mut self, block: usize) {
        for list in &mut self.lists {
            let (first, end) = (block * BLOCK, (block + 1) * BLOCK);
            *list = if self.backward {
                list.get(..list.partition_point(|seq| *seq as usize <= first)).unwrap_or_default()
            } else {
                list.get(list.partition_point(|seq| *seq as usize <= end)..).unwrap_or_default()
            };
        }
    }
}

impl Iterator for EventWalk<'_> {
    type Item = Seq32;

    fn next(&mut self) -> Option<Seq32> {
        loop {
            let next = if self.backward {
                self.lists.iter().filter_map(|list| list.last()).max().copied()?
            } else {
                self.lists.iter().filter_map(|list| list.first()).min().copied()?
            };
            let block = block_of(next);
            if !self.query.overlaps(block) {
                self.leave_block(block);
                continue;
            }
            for list in &mut self.lists {
                match (self.backward, *list) {
                    (true, [rest @ .., last]) if *last == next => *list = rest,
                    (false, [first, rest @ ..]) if *first == next => *list = rest,
                    _ => {}
                }
            }
            return Some(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a log of `types` in turn, each `step` ms after the one before, the first
    /// organization every third time.
    fn events(event_types: &[&str], count: usize, step: Millis) -> Events {
        let mut events = Events::default();
        for at in 0..count {
            let occurred_at = at as Millis * step;
            match event_types.get(at % event_types.len()) {
                Some(event_type) if *event_type != "-" => {
                    events.list(event_type, if at % 3 == 0 { 7 } else { 8 }, 0, occurred_at)
                }
                _ => events.skip(occurred_at),
            }
        }
        events
    }

    #[test]
    fn a_page_equals_a_scan_from_either_end() {
        let event_types = ["a", "b", "-", "c", "a"];
        let events = events(&event_types, 5000, 10);
        type Wanted<'a> = (&'a [&'a str], Option<Sym>, Option<Millis>, Option<Millis>);
        let filters: [Wanted<'_>; 6] = [
            (&["a"], None, None, None),
            (&["c", "b", "c", "never"], None, None, None),
            (&["a", "b", "c"], Some(7), None, None),
            (&["b"], Some(9), None, None),
            (&["a", "c"], None, Some(22_000), Some(23_000)),
            (&["a"], Some(8), Some(49_000), None),
        ];
        for (wanted, organization, from, until) in filters {
            let names: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            let filter = EventFilter { event_types: &names, organization: None, from, until };
            for (as_of, known_at) in
                [(Millis::MAX, 5000), (22_345, 4000), (30_000, 2500), (0, 5000), (Millis::MAX, 0)]
            {
                let cut = Cut { as_of, known_at };
                let sight = EventSight { organization, own: None };
                let all: Vec<Seq> = (1..=5000u64)
                    .filter(|seq| {
                        let at = *seq as usize - 1;
                        let occurred_at = at as Millis * 10;
                        wanted.contains(&event_types[at % 5])
                            && organization.is_none_or(|organization| {
                                organization == if at.is_multiple_of(3) { 7 } else { 8 }
                            })
                            && occurred_at <= as_of
                            && *seq <= known_at
                            && from.is_none_or(|from| occurred_at >= from)
                            && until.is_none_or(|until| occurred_at <= until)
                    })
                    .collect();
                for start in [0, 1, 999, 1024, 1025, 2200, 4999, 5000] {
                    let seqs = |page: &Page<EventRow>| {
                        page.items.iter().map(|row| row.seq).collect::<Vec<_>>()
                    };
                    let behind: Vec<Seq> = all.iter().copied().filter(|seq| *seq > start).collect();
                    let page = events.page(&filter, sight, cut, Start::After(start), 10);
                    assert_eq!(
                        (seqs(&page), page.more_after),
                        (behind.iter().copied().take(10).collect(), behind.len() > 10)
                    );
                    let ahead: Vec<Seq> = all.iter().copied().filter(|seq| *seq < start).collect();
                    let page = events.page(&filter, sight, cut, Start::Before(start), 10);
                    let last_ten = ahead[ahead.len().saturating_sub(10)..].to_vec();
                    let follows =
                        last_ten.last().is_some_and(|last| all.iter().any(|seq| seq > last));
                    assert_eq!(
                        (seqs(&page), page.more_before, page.more_after),
                        (last_ten, ahead.len() > 10, follows)
                    );
                }
            }
        }
    }
}
