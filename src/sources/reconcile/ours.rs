//! The side of the log: what it holds at one cut, as it would be served.

use rollcall_projections::{Cut, DirectoryRow, HeldKind, Holding, Millis, Seq, SnapshotRef};

use super::compare::Served;
use super::trouble::Trouble;
use crate::documents::{DocumentKey, Shape, read_snapshot, snapshot};
use crate::engine::Engine;
use crate::log::ReadError;

/// The candidates that are walked over under one lock.
const STEP: usize = 1024;

/// The bodies that are in memory at once.
const BODIES: usize = 64;

/// The log at one cut.
#[derive(Clone, Copy)]
pub(super) struct Ours<'e> {
    pub(super) engine: &'e Engine,
    pub(super) cut: Cut,
}

/// A user or group that the log holds.
pub(super) struct OurThing {
    pub(super) holding: Holding,
    pub(super) served: Served,
}

impl<'e> Ours<'e> {
    /// Returns the log up to its newest record.
    pub(super) fn now(engine: &'e Engine) -> Ours<'e> {
        let known_at = engine.views().head();
        Ours { engine, cut: Cut { as_of: Millis::MAX, known_at } }
    }

    /// Returns a user or group, if the log holds it.
    pub(super) fn holding(self, kind: HeldKind, id: &str) -> Option<Holding> {
        self.engine.views().holding(kind, id, self.cut)
    }

    /// Returns the row of a directory that exists.
    pub(super) fn row(self, id: &str) -> Option<DirectoryRow> {
        self.engine.views().held_directory(id, self.cut).and_then(|held| held.row)
    }

    /// Returns what a user or group is served as, if the log holds it.
    pub(super) fn thing(self, kind: HeldKind, id: &str) -> Result<Option<OurThing>, ReadError> {
        let found = self.holding(kind, id);
        let mut things = self.served(kind, found.into_iter().collect())?;
        Ok(things.pop())
    }

    /// Reads the documents of users or groups; keeps their order.
    fn served(self, kind: HeldKind, holdings: Vec<Holding>) -> Result<Vec<OurThing>, ReadError> {
        let mut order: Vec<usize> = (0..holdings.len()).collect();
        order.sort_by_key(|at| holdings.get(*at).map(|holding| holding.row.seq));
        let mut served: Vec<Served> = vec![Served::default(); holdings.len()];
        for some in order.chunks(BODIES) {
            let wanted: Vec<&Holding> = some.iter().filter_map(|at| holdings.get(*at)).collect();
            let seqs: Vec<Seq> = wanted.iter().map(|holding| holding.row.seq).collect();
            for ((at, holding), body) in
                some.iter().zip(wanted).zip(self.engine.load_bodies(&seqs)?)
            {
                let document = read_snapshot(shape_of(kind), snapshot(&body, holding.row.part));
                if let Some(slot) = served.get_mut(*at) {
                    let served = Served::ours(&document, &holding.row, holding.updated_at);
                    *slot = served.in_directory(&holding.directory);
                }
            }
        }
        let both = holdings.into_iter().zip(served);
        Ok(both.map(|(holding, served)| OurThing { holding, served }).collect())
    }

    /// Returns what a directory is served as.
    pub(super) fn directory(self, row: &DirectoryRow) -> Result<Served, ReadError> {
        let Some(SnapshotRef { seq, part }) = row.version else {
            return Ok(Served::our_directory(None, row));
        };
        let key = DocumentKey { seq, part, shape: Shape::Directory };
        let documents = self.engine.load_documents(&[key])?;
        Ok(Served::our_directory(documents.first(), row))
    }

    /// Walks over the users or groups of a directory, in order of id.
    pub(super) fn walk(self, kind: HeldKind, directory: &str) -> OurWalk<'e, OurThing> {
        let directory = directory.to_owned();
        OurWalk::new(move |after| {
            let step = self.engine.views().holdings(kind, &directory, self.cut, after, STEP);
            Ok((self.served(kind, step.items)?, step.next))
        })
    }

    /// Walks over the same without reading their documents.
    pub(super) fn walk_rows(self, kind: HeldKind, directory: &str) -> OurWalk<'e, Holding> {
        let directory = directory.to_owned();
        OurWalk::new(move |after| {
            let step = self.engine.views().holdings(kind, &directory, self.cut, after, STEP);
            Ok((step.items, step.next))
        })
    }

    /// Walks over the members of a group, in order of id.
    pub(super) fn members(self, group: &str) -> OurWalk<'e, String> {
        let group = group.to_owned();
        OurWalk::new(move |after| {
            let step = self.engine.views().held_members(&group, self.cut, after, STEP);
            Ok((step.items, step.next))
        })
    }
}

/// Returns the shape of a kind.
pub(super) fn shape_of(kind: HeldKind) -> Shape {
    match kind {
        HeldKind::Group => Shape::Group,
        HeldKind::User => Shape::User,
    }
}

/// Some items, and the id after which to continue.
type Step<T> = (Vec<T>, Option<String>);

/// Reads the items behind an id.
type ReadStep<'e, T> = Box<dyn FnMut(Option<&str>) -> Result<Step<T>, ReadError> + 'e>;

/// A walk in short locks.
pub(super) struct OurWalk<'e, T> {
    read: ReadStep<'e, T>,
    items: std::vec::IntoIter<T>,
    after: Option<String>,
    ended: bool,
}

impl<'e, T> OurWalk<'e, T> {
    fn new(read: impl FnMut(Option<&str>) -> Result<Step<T>, ReadError> + 'e) -> OurWalk<'e, T> {
        OurWalk { read: Box::new(read), items: Vec::new().into_iter(), after: None, ended: false }
    }
}

impl<T> Iterator for OurWalk<'_, T> {
    type Item = Result<T, Trouble>;

    fn next(&mut self) -> Option<Result<T, Trouble>> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(Ok(item));
            }
            if self.ended {
                return None;
            }
            match (self.read)(self.after.as_deref()) {
                Ok((items, next)) => {
                    self.items = items.into_iter();
                    self.ended = next.is_none();
                    self.after = next;
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error.into()));
                }
            }
        }
    }
}
