//! The list of events: each record with its type, organization and directory, in order of seq.

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use crate::ground::memory;
use crate::ground::moments::{BLOCK, Moments};
use crate::ground::order::{Cut, Millis, Seq, Seq32, seq32};
use crate::ground::pack::{Pack, Packer, Unpacker, pack_fields};
use crate::ground::page::Page;
use crate::ground::seqs::{Seqs, SeqsPart};
use crate::ground::symbols::{NO_SYM, Sym, Symbols};
use crate::ground::table::Table;
use crate::state::intake::Intake;

/// The most events and lists that one step of a walk looks at; few in tests, so that their walks
/// take several steps.
const LOOKED_AT_MAX: usize = if cfg!(test) { 50 } else { 8192 };

/// The blocks that are skipped for the cost of a look at one event.
const BLOCKS_A_LOOK: usize = 16;

/// The most blocks that are looked through for the records between two moments.
const BLOCKS_BETWEEN: usize = 64;

/// The most records that one step of a search for a directory's newest record looks at.
const SEARCHED_MAX: usize = if cfg!(test) { 50 } else { 1 << 16 };

/// One record of the list.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
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
    /// The lines that differ, each once: far fewer than records.
    lines: Vec<EventLine>,
    line_numbers: HashMap<EventLine, u32, FxBuildHasher>,
    /// The number of each record's line. Record `n` is at `n - 1`.
    line_of: Table<u32>,
    occurred: Moments,
    by_event_type: Vec<Seqs>,
    by_organization: HashMap<Sym, Seqs, FxBuildHasher>,
    directories: HashMap<Sym, Intake, FxBuildHasher>,
    /// The newest record of each directory.
    newest: HashMap<Sym, Seq32, FxBuildHasher>,
    /// By directory: the blocks of [`BLOCK`] records that have a record of it, in order.
    blocks: HashMap<Sym, Vec<u32>, FxBuildHasher>,
    /// By directory and organization, from the events that tell of this organization alone.
    directories_of_one: HashMap<(Sym, Sym), Intake, FxBuildHasher>,
    /// The further organizations of the events that tell of things of several.
    others: HashMap<Seq32, SmallVec<[Sym; 2]>, FxBuildHasher>,
}

/// A step of a search for the newest record of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastOfDirectory {
    /// The search has ended, with a record or without.
    Found(Option<Seq>),
    /// It goes on before this record.
    Before(Seq),
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

/// A part of a walk over the list of events, for which the views are locked once.
#[derive(Debug)]
pub struct EventsStep {
    /// The events found, in the order of the walk.
    pub items: Vec<EventRow>,
    /// The place at which to continue, if there may be more.
    pub next: Option<Start>,
}

/// Cuts a page out of the list of events, in ascending order of seq. `step` is given a place and
/// the number of events wanted. A lock that a step takes is released after it.
///
/// Costs the page, plus the events of the rarest index that the filter refuses; blocks outside its
/// times are skipped.
pub fn events_in_steps(
    start: Start,
    limit: usize,
    mut step: impl FnMut(Start, usize) -> EventsStep,
) -> Page<EventRow> {
    let mut find = |mut start: Start, limit: usize| {
        let mut items = Vec::new();
        loop {
            let found = step(start, limit - items.len());
            items.extend(found.items);
            match found.next {
                Some(next) if items.len() < limit => start = next,
                _ => return items,
            }
        }
    };
    // One more than wanted shows if there are more.
    let mut items = find(start, limit.saturating_add(1));
    let more = items.len() > limit;
    items.truncate(limit);
    if let Start::After(_) = start {
        return Page { items, more_before: false, more_after: more };
    }
    items.reverse();
    let last = items.last().map(|row: &EventRow| Start::After(row.seq));
    let more_after = last.is_some_and(|last| !find(last, 1).is_empty());
    Page { items, more_before: more, more_after }
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

/// Notes that the record at a position, from 0, is of a directory.
fn note_block(blocks: &mut HashMap<Sym, Vec<u32>, FxBuildHasher>, directory: Sym, at: usize) {
    if directory == NO_SYM {
        return;
    }
    let of_directory = blocks.entry(directory).or_default();
    let block = (at / BLOCK) as u32;
    if of_directory.last() != Some(&block) {
        of_directory.push(block);
    }
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

    /// Adds the next record, and lists it. Returns its line.
    pub(crate) fn list(
        &mut self,
        event_type: &str,
        organization: Sym,
        directory: Sym,
        occurred_at: Millis,
    ) -> EventLine {
        let line = self.note(event_type, organization, directory, occurred_at);
        let seq = seq32(self.len() as Seq);
        if let Some(seqs) = self.by_event_type.get_mut(line.event_type as usize) {
            seqs.push(seq);
        }
        if organization != NO_SYM {
            self.by_organization.entry(organization).or_default().push(seq);
        }
        line
    }

    /// Adds the next record, an event that no walk finds. Returns its line.
    pub(crate) fn note(
        &mut self,
        event_type: &str,
        organization: Sym,
        directory: Sym,
        occurred_at: Millis,
    ) -> EventLine {
        let event_type = self.event_types.intern(event_type);
        if self.by_event_type.len() <= event_type as usize {
            self.by_event_type.push(Seqs::default());
        }
        let line = EventLine { event_type, organization, directory };
        self.push(line, occurred_at);
        if directory != NO_SYM {
            self.newest.insert(directory, seq32(self.len() as Seq));
        }
        line
    }

    /// Counts the newest record among the events of its directory, and among those that tell of its
    /// organization alone. Comes after [`Events::note_others`].
    pub(crate) fn count_intake(
        &mut self,
        event_type: &str,
        occurred_at: Millis,
        recorded_at: Millis,
    ) {
        let seq = self.len() as Seq;
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
            self.others.insert(seq32(self.len() as Seq), others);
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
        let next = self.lines.len() as u32;
        let number = *self.line_numbers.entry(line).or_insert(next);
        if number == next {
            self.lines.push(line);
        }
        note_block(&mut self.blocks, line.directory, self.line_of.len());
        self.line_of.push(number);
        self.occurred.push(occurred_at);
    }

    fn line(&self, at: usize) -> Option<&EventLine> {
        self.lines.get(*self.line_of.get(at)? as usize)
    }

    /// Returns about the bytes of memory that the lines, their times and the lists of seqs take,
    /// and all others.
    pub(crate) fn heap_bytes(&self) -> [usize; 4] {
        let lists = self.by_event_type.iter().chain(self.by_organization.values());
        [
            self.line_of.heap_bytes()
                + memory::of_vec(&self.lines)
                + self.line_numbers.allocation_size(),
            self.occurred.heap_bytes(),
            lists.map(Seqs::heap_bytes).sum(),
            self.others.allocation_size()
                + self.blocks.allocation_size()
                + self.blocks.values().map(memory::of_vec).sum::<usize>()
                + self.directories.allocation_size()
                + self.newest.allocation_size()
                + self.directories_of_one.allocation_size(),
        ]
    }

    /// Iterates over the types of the events up to a record.
    pub(crate) fn types_recorded(&self, known_at: Seq) -> impl Iterator<Item = &str> {
        let known = (0..).zip(&self.by_event_type).filter(move |(_, seqs): &(Sym, &Seqs)| {
            seqs.get(0).is_some_and(|first| Seq::from(first) <= known_at)
        });
        known.map(|(event_type, _)| self.event_types.text(event_type))
    }

    /// Looks for the newest wanted record of a directory at a cut, back from record `before`; from
    /// the newest without one. Looks at no more records than one step may.
    pub(crate) fn last_of_directory(
        &self,
        directory: Sym,
        cut: Cut,
        before: Option<Seq>,
        wanted: impl Fn(Seq) -> bool,
    ) -> LastOfDirectory {
        let end = before.map_or(cut.known_at, |before| cut.known_at.min(before.saturating_sub(1)));
        let end = self.len().min(usize::try_from(end).unwrap_or(usize::MAX));
        let Some(newest) = self.newest.get(&directory).map(|newest| *newest as usize) else {
            return LastOfDirectory::Found(None);
        };
        // Behind the newest there is none.
        let end = end.min(newest);
        let is_seen = |at: usize| {
            let of_directory = self.line(at).is_some_and(|line| line.directory == directory);
            of_directory
                && self.occurred.get(at).is_some_and(|occurred| occurred <= cut.as_of)
                && wanted(at as Seq + 1)
        };
        let blocks = self.blocks.get(&directory).map_or(&[][..], |blocks| blocks);
        let until = blocks.partition_point(|block| (*block as usize) * BLOCK < end);
        let mut searched = 0;
        for block in blocks.iter().take(until).rev().map(|block| *block as usize) {
            let first = block * BLOCK;
            if searched >= SEARCHED_MAX {
                // All from the block behind this one on were searched.
                return LastOfDirectory::Before((first + BLOCK) as Seq + 1);
            }
            searched += 1;
            if self.occurred.overlaps(block, Millis::MIN, cut.as_of) {
                searched += BLOCK;
                let found = (first..end.min(first + BLOCK)).rev().find(|at| is_seen(*at));
                if let Some(at) = found {
                    return LastOfDirectory::Found(Some(at as Seq + 1));
                }
            }
        }
        LastOfDirectory::Found(None)
    }

    /// Returns the records up to one that happened after a moment and up to another, in order of
    /// seq. `None` if they are more than `limit`, or in more than some dozens of blocks, which
    /// would take long to look through.
    pub(crate) fn happened_between(
        &self,
        after: Millis,
        until: Millis,
        known_at: Seq,
        limit: usize,
    ) -> Option<Vec<Seq>> {
        let first = after.checked_add(1)?;
        let end = self.len().min(usize::try_from(known_at).unwrap_or(usize::MAX));
        let (mut found, mut next) = (Vec::new(), 0);
        for _ in 0..BLOCKS_BETWEEN {
            let block = self.occurred.nearest_overlapping(next, false, first, until);
            let Some(block) = block.filter(|block| block * BLOCK < end) else { return Some(found) };
            let happened = |at: &usize| {
                self.occurred.get(*at).is_some_and(|moment| (first..=until).contains(&moment))
            };
            let of_block = (block * BLOCK..end.min((block + 1) * BLOCK)).filter(happened);
            found.extend(of_block.map(|at| at as Seq + 1));
            if found.len() > limit {
                return None;
            }
            next = block + 1;
        }
        None
    }

    pub(crate) fn len(&self) -> usize {
        self.line_of.len()
    }

    /// Returns a record's entry in the list, if it is listed, and its time.
    pub(crate) fn get(&self, seq: Seq) -> Option<(EventLine, Millis)> {
        let at = (seq as usize).checked_sub(1)?;
        let line = self.line(at).filter(|line| line.event_type != NO_SYM)?;
        Some((*line, self.occurred.get(at)?))
    }

    pub(crate) fn intake(&self, directory: Sym) -> Option<&Intake> {
        self.directories.get(&directory)
    }

    /// Returns the counts of a directory's events that tell of one organization alone.
    pub(crate) fn intake_of_one(&self, directory: Sym, organization: Sym) -> Option<&Intake> {
        self.directories_of_one.get(&(directory, organization))
    }

    /// Returns the next events of a walk from `start`. `sight` has the symbol of the filter's
    /// organization.
    pub(crate) fn step(
        &self,
        filter: &EventFilter<'_>,
        sight: EventSight<'_>,
        cut: Cut,
        start: Start,
        limit: usize,
    ) -> EventsStep {
        self.query(filter, sight, cut).step(start, limit)
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
    fn rarest_lists(&self, event_types: &[Sym], sight: EventSight<'_>) -> Vec<&Seqs> {
        let of_types: Vec<&Seqs> = event_types
            .iter()
            .filter_map(|event_type| self.by_event_type.get(*event_type as usize))
            .collect();
        let Some(organizations) = sight.organizations() else { return of_types };
        let lists = organizations.iter().filter_map(|one| self.by_organization.get(one));
        let own: Vec<&Seqs> = lists.collect();
        let count = |lists: &[&Seqs]| -> usize { lists.iter().map(|list| list.len()).sum() };
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
    lists: Vec<&'a Seqs>,
}

impl EventQuery<'_> {
    fn step(&self, start: Start, limit: usize) -> EventsStep {
        let mut walk = EventWalk::from(self, start);
        let mut items = Vec::new();
        for seq in walk.by_ref() {
            items.extend(self.accept(seq));
            if items.len() >= limit {
                break;
            }
        }
        let next = (items.len() >= limit || walk.has_looked_enough()).then(|| walk.place());
        EventsStep { items, next }
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

    /// Returns the nearest block from one on, or back from it, that holds anything within the
    /// filter's times.
    fn nearest_block(&self, block: usize, backward: bool) -> Option<usize> {
        self.events.occurred.nearest_overlapping(block, backward, self.from, self.until)
    }
}

/// Several ascending lists of seqs as one, from either end, skipping the blocks outside the
/// filter's times. It ends after it has looked at enough for one step.
struct EventWalk<'a> {
    query: &'a EventQuery<'a>,
    lists: Vec<SeqsPart<'a>>,
    backward: bool,
    /// The seq up to which, or down to which, everything was looked at.
    last: Seq32,
    looked_at: usize,
}

fn block_of(seq: Seq32) -> usize {
    (seq as usize).saturating_sub(1) / BLOCK
}

impl<'a> EventWalk<'a> {
    /// Walks over the known seqs after a place, ascending, or before it, descending.
    fn from(query: &'a EventQuery<'a>, start: Start) -> EventWalk<'a> {
        let (backward, last) = match start {
            Start::After(seq) => (false, seq32(seq)),
            Start::Before(seq) => (true, seq32(seq).min(query.known_at.saturating_add(1))),
        };
        let part = |list: &&'a Seqs| {
            let known = list.up_to(query.known_at);
            list.part(match backward {
                true => 0..known.min(list.up_to(last.saturating_sub(1))),
                false => list.up_to(last)..known,
            })
        };
        let lists = query.lists.iter().map(part).collect();
        EventWalk { query, lists, backward, last, looked_at: 0 }
    }

    fn has_looked_enough(&self) -> bool {
        self.looked_at >= LOOKED_AT_MAX
    }

    /// Returns the place at which to continue.
    fn place(&self) -> Start {
        let last = Seq::from(self.last);
        if self.backward { Start::Before(last) } else { Start::After(last) }
    }

    /// Skips a block and all others up to the nearest that is wanted, or to the end of the walk.
    fn leave_blocks(&mut self, block: usize, nearest: Option<usize>) {
        let last = match (self.backward, nearest) {
            (false, Some(nearest)) => nearest.saturating_sub(1),
            (true, Some(nearest)) => nearest + 1,
            (false, None) => {
                let head = seq32(self.query.events.len() as Seq);
                block_of(self.query.known_at.min(head)).max(block)
            }
            (true, None) => 0,
        };
        let (first, end) = (last * BLOCK, (last + 1) * BLOCK);
        self.looked_at += self.lists.len() + last.abs_diff(block) / BLOCKS_A_LOOK;
        self.last = seq32(if self.backward { first + 1 } else { end } as Seq);
        for list in &mut self.lists {
            match self.backward {
                true => list.cut_after(seq32(first as Seq)),
                false => list.skip_up_to(seq32(end as Seq)),
            }
        }
    }
}

impl Iterator for EventWalk<'_> {
    type Item = Seq32;

    fn next(&mut self) -> Option<Seq32> {
        while !self.has_looked_enough() {
            let next = if self.backward {
                self.lists.iter().filter_map(SeqsPart::last).max()?
            } else {
                self.lists.iter().filter_map(SeqsPart::first).min()?
            };
            let block = block_of(next);
            let nearest = self.query.nearest_block(block, self.backward);
            if nearest != Some(block) {
                self.leave_blocks(block, nearest);
                continue;
            }
            for list in &mut self.lists {
                list.leave(next, self.backward);
            }
            self.looked_at += 1;
            self.last = next;
            return Some(next);
        }
        None
    }
}

pack_fields!(EventLine { event_type, organization, directory });

impl Pack for Events {
    fn pack(&self, to: &mut Packer<'_>) {
        let Events {
            event_types,
            lines,
            // Made anew from the lines.
            line_numbers: _,
            line_of,
            occurred,
            by_event_type,
            by_organization,
            directories,
            newest,
            directories_of_one,
            others,
            // Made anew from the lines.
            blocks: _,
        } = self;
        event_types.pack(to);
        lines.pack(to);
        line_of.pack(to);
        occurred.pack(to);
        by_event_type.pack(to);
        by_organization.pack(to);
        directories.pack(to);
        newest.pack(to);
        directories_of_one.pack(to);
        others.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let event_types = Pack::unpack(from)?;
        let lines: Vec<EventLine> = Pack::unpack(from)?;
        let line_of: Table<u32> = Pack::unpack(from)?;
        let mut blocks = HashMap::default();
        // Lines repeat: the last block of each spares most look-ups.
        let mut last_blocks = vec![usize::MAX; lines.len()];
        for (at, number) in line_of.iter().enumerate() {
            let (Some(line), Some(last)) =
                (lines.get(*number as usize), last_blocks.get_mut(*number as usize))
            else {
                return None;
            };
            if core::mem::replace(last, at / BLOCK) != at / BLOCK {
                note_block(&mut blocks, line.directory, at);
            }
        }
        Some(Events {
            event_types,
            line_numbers: lines.iter().copied().zip(0..).collect(),
            lines,
            line_of,
            blocks,
            occurred: Pack::unpack(from)?,
            by_event_type: Pack::unpack(from)?,
            by_organization: Pack::unpack(from)?,
            directories: Pack::unpack(from)?,
            newest: Pack::unpack(from)?,
            directories_of_one: Pack::unpack(from)?,
            others: Pack::unpack(from)?,
        })
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
                    events.list(event_type, if at % 3 == 0 { 7 } else { 8 }, 0, occurred_at);
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
                let page_from = |start| {
                    let step = |start, limit| events.step(&filter, sight, cut, start, limit);
                    events_in_steps(start, 10, step)
                };
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
                    let page = page_from(Start::After(start));
                    assert_eq!(
                        (seqs(&page), page.more_after),
                        (behind.iter().copied().take(10).collect(), behind.len() > 10)
                    );
                    let ahead: Vec<Seq> = all.iter().copied().filter(|seq| *seq < start).collect();
                    let page = page_from(Start::Before(start));
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

    #[test]
    fn an_event_that_is_noted_has_its_line_and_no_walk_finds_it() {
        let mut events = Events::default();
        events.note("a", 7, 3, 10);
        events.list("b", 7, 3, 20);
        events.list("a", 7, 3, 30);
        let names = ["a".to_owned(), "b".to_owned()];
        for organization in [None, Some(7)] {
            let filter =
                EventFilter { event_types: &names, organization: None, from: None, until: None };
            let sight = EventSight { organization, own: None };
            let step = events.step(&filter, sight, Cut::LATEST, Start::After(0), 9);
            let found: Vec<Seq> = step.items.iter().map(|row| row.seq).collect();
            assert_eq!(found, [2, 3]);
        }
        let (line, occurred_at) = events.get(1).unwrap();
        assert_eq!((events.event_types.text(line.event_type), occurred_at), ("a", 10));
        assert!(events.is_of(1, &[7]));
    }

    #[test]
    fn the_newest_record_of_a_directory_is_found_in_steps() {
        let mut events = events(&["a"], 500, 10);
        events.list("a", 7, 3, 42);
        for at in 0..500 {
            events.list("a", 7, 4, 6000 + at);
        }
        let search = |events: &Events, directory, cut: Cut, wanted: Seq| {
            let mut before = None;
            for steps in 1.. {
                match events.last_of_directory(directory, cut, before, |seq| seq <= wanted) {
                    LastOfDirectory::Found(found) => return (found, steps),
                    LastOfDirectory::Before(seq) => before = Some(seq),
                }
            }
            unreachable!("a search ends")
        };
        let cut = |as_of, known_at| Cut { as_of, known_at };
        // The newest of all is at hand, and nothing is behind it. An older one is looked for.
        assert_eq!(search(&events, 3, cut(Millis::MAX, 1001), 2000), (Some(501), 1));
        assert_eq!(search(&events, 4, cut(6009, 1001), 2000), (Some(511), 1));
        assert_eq!(search(&events, 3, cut(41, 1001), 2000).0, None);
        assert_eq!(search(&events, 3, cut(42, 501), 2000), (Some(501), 1));
        assert_eq!(search(&events, 3, cut(42, 500), 2000).0, None);
        assert_eq!(search(&events, 4, cut(Millis::MAX, 1001), 700).0, Some(700));
        assert_eq!(search(&events, 4, cut(6009, 1001), 2000).0, Some(511));
        assert_eq!(search(&events, 5, cut(Millis::MAX, 1001), 2000).0, None);
        assert_eq!(search(&events, NO_SYM, cut(Millis::MAX, 1001), 2000), (None, 1));
        // Five more blocks of one directory: each is a step, unless all of it is too late, or the
        // other directory is looked for, which none of them has.
        for at in 0..5000 {
            events.list("a", 7, 4, 9000 + at);
        }
        assert_eq!(search(&events, 4, cut(Millis::MAX, 6001), 700), (Some(700), 6));
        assert_eq!(search(&events, 4, cut(6009, 6001), 9999), (Some(511), 1));
        assert_eq!(search(&events, 3, cut(Millis::MAX, 6001), 9999), (Some(501), 1));
        assert_eq!(search(&events, 4, cut(Millis::MAX, 3000), 9999), (Some(3000), 1));
    }
}
