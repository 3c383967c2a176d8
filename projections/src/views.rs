//! The views: all that the fold keeps over one log.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

use crate::ground::holders::HolderIndex;
use crate::ground::order::{EventIds, Millis, Seq, Seq32};
use crate::ground::pack::{Pack, Packer, Unpacker};
use crate::ground::quarantine::Quarantined;
use crate::ground::recorded::Recorded;
use crate::ground::symbols::{Sym, Symbols};
use crate::state::directories::Directories;
use crate::state::entities::{Entities, Entity, EntityKind};
use crate::state::events::Events;
use crate::state::links::Links;
use crate::state::living::Living;
use crate::state::loss_index::LossIndex;
use crate::state::memberships::Memberships;
use crate::state::observations::Observations;
use crate::state::policies::Policies;
use crate::state::roles::Roles;
use crate::state::scim::Scim;
use crate::state::turning_records::TurningRecords;

/// All views over one log.
#[derive(Default)]
pub struct Views {
    pub(crate) head: Seq,
    pub(crate) recorded: Recorded,
    pub(crate) ids: EventIds,
    /// Organizations, and the names and domains of directories.
    pub(crate) texts: Symbols,
    pub(crate) emails: HolderIndex,
    pub(crate) idp_ids: HolderIndex,
    pub(crate) directories: Directories,
    pub(crate) users: Entities,
    pub(crate) groups: Entities,
    pub(crate) memberships: Memberships,
    /// Pairs of an organization and a directory in which anything ever carried it.
    pub(crate) organizations: BTreeSet<(Sym, Sym)>,
    /// The first record that names each organization.
    pub(crate) organizations_named: HashMap<Sym, Seq32, FxBuildHasher>,
    pub(crate) quarantine: Vec<Quarantined>,
    /// The records that could not be used when they were recorded, and can now.
    pub(crate) resolved: Vec<Quarantined>,
    pub(crate) events: Events,
    pub(crate) links: Links,
    pub(crate) policies: Policies,
    pub(crate) roles: Roles,
    pub(crate) loss_index: LossIndex,
    pub(crate) living: Living,
    pub(crate) observations: Observations,
    pub(crate) turning: TurningRecords,
    pub(crate) scim: Scim,
}

impl Views {
    /// Returns views over nothing.
    pub fn new() -> Views {
        Views::default()
    }

    /// Returns the last record folded; 0 before the first.
    pub fn head(&self) -> Seq {
        self.head
    }

    /// Returns the last record that was recorded at or before `moment`; 0 if there is none. O(log
    /// n).
    pub fn known_at(&self, moment: Millis) -> Seq {
        self.recorded.known_at(moment)
    }

    /// Returns the records after another, up to a last one, that may change access or roles, as
    /// far as was known with them.
    pub fn turning_between(&self, after: Seq, last: Seq) -> impl Iterator<Item = Seq> {
        let first = self.turning.next_after(after);
        let turning = core::iter::successors(first, |seq| self.turning.next_after(*seq));
        turning.take_while(move |seq| *seq <= last)
    }

    /// Returns the state of SCIM, by everything that is folded.
    pub fn scim(&self) -> &Scim {
        &self.scim
    }

    /// Returns everything listed, in order of seq.
    pub fn quarantine(&self) -> &[Quarantined] {
        &self.quarantine
    }

    pub(crate) fn entity(&self, kind: EntityKind, sym: Sym) -> Option<&Entity> {
        self.entities(kind).get(sym)
    }

    /// Returns the number of a user's or group's id, if it was ever heard of.
    pub(crate) fn find(&self, kind: EntityKind, id: &str) -> Option<Sym> {
        self.entities(kind).find(id)
    }

    pub(crate) fn entities(&self, kind: EntityKind) -> &Entities {
        match kind {
            EntityKind::User => &self.users,
            EntityKind::Group => &self.groups,
        }
    }

    /// Returns the moment at which the last record was recorded.
    pub fn recorded_at(&self) -> Millis {
        self.recorded.last().unwrap_or(Millis::MIN)
    }

    /// Iterates over record `first` and all after it, each with the moment of its recording.
    pub(crate) fn recorded_from(&self, first: Seq) -> impl Iterator<Item = (Millis, Seq)> {
        self.recorded.from(first)
    }
}

/// The version of the rules by which entries change the views, and by which bodies become entries.
/// It is raised whenever the same log gives other views: a test over all fixtures asks for it.
pub const FOLD_VERSION: u32 = 1;

/// The version of the packed form of views. It is raised whenever the same views give other bytes;
/// the same test asks for it. Builds with debug assertions, which note the turns of users earlier,
/// have one of their own.
pub const VIEWS_LAYOUT: u32 = 2 | (cfg!(debug_assertions) as u32) << 31;

impl Views {
    /// Writes the views: `write` gets their bytes, about a mebibyte at a time. Views of the same
    /// records have the same bytes, whether they were folded at once, in parts, or read from
    /// bytes. Mappings that are only about to be set are left out.
    ///
    /// Costs about a copy of all memory that the views take.
    pub fn pack(&self, write: &mut dyn FnMut(&[u8])) {
        let mut packer = Packer::new(write);
        let to = &mut packer;
        let Views {
            head,
            recorded,
            ids,
            texts,
            emails,
            idp_ids,
            directories,
            users,
            groups,
            memberships,
            organizations,
            organizations_named,
            quarantine,
            resolved,
            events,
            links,
            policies,
            roles,
            loss_index,
            living,
            observations,
            turning,
            scim,
        } = self;
        head.pack(to);
        recorded.pack(to);
        ids.pack(to);
        texts.pack(to);
        emails.pack(to);
        idp_ids.pack(to);
        directories.pack(to);
        users.pack(to);
        groups.pack(to);
        memberships.pack(to);
        organizations.pack(to);
        organizations_named.pack(to);
        quarantine.pack(to);
        resolved.pack(to);
        events.pack(to);
        links.pack(to);
        policies.pack(to);
        roles.pack(users, to);
        loss_index.pack(to);
        living.pack(to);
        observations.pack(to);
        turning.pack(to);
        scim.pack(to);
        packer.finish();
    }

    /// Reads views that [`Views::pack`] wrote with the same [`VIEWS_LAYOUT`]. `read` adds the next
    /// bytes to those that it is given, and returns false if there are none. Returns `None` if the
    /// bytes are not views; whether they are the right ones is the caller's part to check.
    ///
    /// Needs no more memory than the views and one piece.
    pub fn unpack(read: &mut dyn FnMut(&mut Vec<u8>) -> bool) -> Option<Views> {
        let mut unpacker = Unpacker::new(read);
        let from = &mut unpacker;
        let mut views = Views {
            head: Pack::unpack(from)?,
            recorded: Pack::unpack(from)?,
            ids: Pack::unpack(from)?,
            texts: Pack::unpack(from)?,
            emails: Pack::unpack(from)?,
            idp_ids: Pack::unpack(from)?,
            directories: Pack::unpack(from)?,
            users: Pack::unpack(from)?,
            groups: Pack::unpack(from)?,
            memberships: Pack::unpack(from)?,
            organizations: Pack::unpack(from)?,
            organizations_named: Pack::unpack(from)?,
            quarantine: Pack::unpack(from)?,
            resolved: Pack::unpack(from)?,
            events: Pack::unpack(from)?,
            links: Pack::unpack(from)?,
            policies: Pack::unpack(from)?,
            roles: Roles::unpack(from)?,
            loss_index: Pack::unpack(from)?,
            living: Pack::unpack(from)?,
            observations: Pack::unpack(from)?,
            turning: Pack::unpack(from)?,
            scim: Pack::unpack(from)?,
        };
        views.roles.note_names_of_all(&views.groups);
        unpacker.is_at_end().then_some(views)
    }
}
