//! Sight: the part of the views that a caller sees, and the views through it.
//!
//! Questions are asked through [`Seen`], which only [`Views::seen_by`] makes: no question can be
//! asked without saying who asks. A sight hides things and changes no facts: what is shown says the
//! same to everyone, except that the things in it that are not seen are left out.

use core::ops::Deref;

use smallvec::SmallVec;

use crate::ground::event_type::OWN_PREFIX;
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::state::entities::{EntityKind, EntityVersion};
use crate::state::events::EventLine;
use crate::views::Views;

/// The organizations whose things a caller sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sight {
    /// Those of all, and what belongs to none.
    #[default]
    All,
    /// Those of these and nothing else.
    Of(Vec<String>),
}

impl Sight {
    /// Tells if things of an organization are seen; empty for one that is not known.
    pub fn sees(&self, organization: &str) -> bool {
        match self {
            Sight::All => true,
            Sight::Of(own) => own.iter().any(|id| !id.is_empty() && id == organization),
        }
    }
}

/// The views as a caller sees them.
///
/// An id that is not seen resolves like one that no event ever named. What needs no sight is asked
/// of the [`Views`] behind it.
pub struct Seen<'v> {
    pub(crate) views: &'v Views,
    /// The symbols of the organizations that are seen; `None` if all are.
    own: Option<SmallVec<[Sym; 4]>>,
}

impl Deref for Seen<'_> {
    type Target = Views;

    fn deref(&self) -> &Views {
        self.views
    }
}

impl Views {
    /// Returns the views as a caller sees them. Costs a look-up for each organization of the sight.
    pub fn seen_by(&self, sight: &Sight) -> Seen<'_> {
        let own = match sight {
            Sight::All => None,
            Sight::Of(own) => {
                let named = own.iter().filter(|id| !id.is_empty());
                Some(named.filter_map(|id| self.texts.find(id)).collect())
            }
        };
        Seen { views: self, own }
    }
}

impl<'v> Seen<'v> {
    /// Returns the organizations that are seen; `None` if all are.
    pub(crate) fn own(&self) -> Option<&[Sym]> {
        self.own.as_deref()
    }

    /// Tells if an organization is seen. One that is not known is seen by those who see all.
    pub(crate) fn owns(&self, organization: Sym) -> bool {
        self.own.as_ref().is_none_or(|own| own.contains(&organization))
    }

    /// Tells if a directory is seen: by its organization at the cut, which is that of the question,
    /// also where the question looks at an earlier moment.
    pub(crate) fn sees(&self, directory: Sym, cut: Cut) -> bool {
        let Some(own) = &self.own else { return true };
        own.contains(&self.organization_of(directory, cut))
    }

    /// Resolves the id of a directory.
    pub(crate) fn directory_sym(&self, id: &str, cut: Cut) -> Option<Sym> {
        self.directories.find(id).filter(|directory| self.sees(*directory, cut))
    }

    /// Resolves the id of an organization.
    pub(crate) fn organization_sym(&self, id: &str) -> Option<Sym> {
        self.texts.find(id).filter(|organization| self.owns(*organization))
    }

    /// Resolves the id of a user or group that was heard of, whether or not it is alive. It is seen
    /// by its directory at the cut, and before its first version by the last one that is known.
    pub(crate) fn entity_sym(&self, kind: EntityKind, id: &str, cut: Cut) -> Option<Sym> {
        self.find(kind, id).filter(|sym| self.sees_entity(kind, *sym, cut))
    }

    /// Tells if a user or group is seen, as [`Seen::entity_sym`] says.
    pub(crate) fn sees_entity(&self, kind: EntityKind, sym: Sym, cut: Cut) -> bool {
        if self.own.is_none() {
            return true;
        }
        let at_last = || self.home(kind, sym, Cut { as_of: Millis::MAX, ..cut });
        let home = self.home(kind, sym, cut).or_else(at_last);
        home.is_some_and(|home| self.sees(home, cut))
    }

    /// Resolves the id of a user or group that any known event names, whenever it happened.
    pub(crate) fn known_sym(&self, kind: EntityKind, id: &str, cut: Cut) -> Option<Sym> {
        self.entity_sym(kind, id, cut).filter(|sym| self.is_known(kind, *sym, cut))
    }

    /// Returns the version of a user or group at the cut, if it is alive and seen.
    pub(crate) fn visible(
        &self,
        kind: EntityKind,
        sym: Sym,
        cut: Cut,
    ) -> Option<&'v EntityVersion> {
        let version = self.views.alive(kind, sym, cut)?;
        self.sees(version.directory, cut).then_some(version)
    }

    /// Tells if a user or group, which had a version at a moment, was then in a directory that is
    /// seen.
    pub(crate) fn saw(&self, kind: EntityKind, sym: Sym, moment: Millis, cut: Cut) -> bool {
        self.own.is_none()
            || self
                .home(kind, sym, Cut { as_of: moment, ..cut })
                .is_some_and(|home| self.sees(home, cut))
    }

    /// Tells if an event is seen: by the organization that was fixed when it was recorded. One that
    /// tells of things of several is seen only by those who see all of these.
    pub fn sees_event(&self, seq: Seq) -> bool {
        self.own().is_none_or(|own| self.events.is_of(seq, own))
    }

    /// Tells if the id of an event may be shown where something that is seen names it: if the event
    /// is seen, or is an operator's act for all, such as a policy.
    pub(crate) fn may_name(&self, seq: Seq) -> bool {
        self.sees_event(seq) || self.is_act_for_all(seq)
    }

    fn is_act_for_all(&self, seq: Seq) -> bool {
        self.events.get(seq).is_some_and(|(line, _)| {
            let EventLine { event_type, organization, directory } = line;
            let is_act = self.events.event_types.text(event_type).starts_with(OWN_PREFIX);
            is_act && organization == NO_SYM && directory == NO_SYM
        })
    }

    /// Returns the organization that a version shows at `then`; in the place of one that is not
    /// seen that of its directory at the cut of the question.
    pub(crate) fn shown_or_own(&self, version: &EntityVersion, then: Cut, cut: Cut) -> Sym {
        let shown = self.shown_organization(version, then);
        if self.owns(shown) { shown } else { self.organization_of(version.directory, cut) }
    }
}
