//! The canonical dump of each view: every timeline in full, in words, so that two folds can be
//! compared byte for byte.

use core::fmt::{self, Write};

use crate::ground::order::{Cut, IdBuffer, NO_UPDATED_AT, Place, Seq, seq32};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::ground::timeline::Placed;
use crate::state::entities::{Entities, EntityVersion};
use crate::views::Views;

/// One of the views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Directories.
    Directories,
    /// Users.
    Users,
    /// Groups.
    Groups,
    /// Memberships.
    Memberships,
    /// The records that the fold could not use.
    Quarantine,
    /// The list of events.
    Events,
    /// Policies.
    Policies,
    /// Role mappings.
    Mappings,
    /// Links to the application's own users.
    Links,
    /// The records of SCIM.
    Scim,
}

impl View {
    /// Every view, in a fixed order.
    pub const ALL: [View; 10] = [
        View::Directories,
        View::Users,
        View::Groups,
        View::Memberships,
        View::Quarantine,
        View::Events,
        View::Policies,
        View::Mappings,
        View::Links,
        View::Scim,
    ];

    /// Returns the view's name.
    pub fn name(self) -> &'static str {
        match self {
            View::Directories => "directories",
            View::Users => "users",
            View::Groups => "groups",
            View::Memberships => "memberships",
            View::Quarantine => "quarantine",
            View::Events => "events",
            View::Policies => "policies",
            View::Mappings => "role_mappings",
            View::Links => "links",
            View::Scim => "scim",
        }
    }
}

/// True if anything of an item was known, so that it was written.
type Shown = Result<bool, fmt::Error>;

impl Views {
    /// Returns the number of items of a view, whenever they were seen.
    pub fn size(&self, view: View) -> usize {
        match view {
            View::Directories => self.directories.len(),
            View::Users => self.users.len(),
            View::Groups => self.groups.len(),
            View::Memberships => self.memberships.len(),
            View::Quarantine => self.quarantine.len(),
            View::Events => self.events.len(),
            View::Policies => self.policies.iter().count(),
            View::Mappings => self.mapping_versions(),
            View::Links => self.links.len(),
            View::Scim => self.scim.records().len(),
        }
    }

    /// Writes at most `count` items of a view from number `first` on, with what is known of them by
    /// record `known_at`.
    ///
    /// Items are in order of first appearance in the log, and what is folded after `known_at` does
    /// not show. A large view can therefore be dumped in parts while the fold goes on, and the
    /// parts together are those of one moment.
    ///
    /// Returns how many items it wrote.
    pub fn dump(
        &self,
        view: View,
        known_at: Seq,
        first: usize,
        count: usize,
        out: &mut dyn Write,
    ) -> Result<usize, fmt::Error> {
        let mut written = 0;
        for number in first..self.size(view).min(first.saturating_add(count)) {
            let shown = match view {
                View::Directories => self.dump_directory(number, known_at, out)?,
                View::Users => self.dump_entity(&self.users, "user", number, known_at, out)?,
                View::Groups => self.dump_entity(&self.groups, "group", number, known_at, out)?,
                View::Memberships => self.dump_membership(number, known_at, out)?,
                View::Quarantine => self.dump_quarantined(number, known_at, out)?,
                View::Events => self.dump_event(number, known_at, out)?,
                View::Policies => self.dump_policy(number, known_at, out)?,
                View::Mappings => self.dump_mapping(number, known_at, out)?,
                View::Links => self.dump_link(number, known_at, out)?,
                View::Scim => self.dump_scim(number, known_at, out)?,
            };
            written += usize::from(shown);
        }
        Ok(written)
    }

    fn dump_directory(&self, number: usize, known_at: Seq, out: &mut dyn Write) -> Shown {
        let cut = Cut { known_at, ..Cut::LATEST };
        let Some(directory) = self.directories.get(number as Sym) else { return Ok(false) };
        let Some(named) = directory.named().at(cut) else { return Ok(false) };
        writeln!(out, "directory {:?}", self.directories.id(number as Sym))?;
        for version in directory.events().iter().filter(|v| known(v.place, known_at)) {
            write!(out, "  {:?} ", version.change)?;
            self.dump_place(version.place, out)?;
            let [organization, name, domain] =
                [version.organization, version.name, version.domain].map(|text| self.shown(text));
            writeln!(out, " organization={organization:?} name={name:?} domain={domain:?}")?;
        }
        write!(out, "  named ")?;
        self.dump_place(*named, out)?;
        writeln!(out)?;
        if let Some(named) = directory.named_with().at(cut) {
            write!(out, "  named_with ")?;
            self.dump_place(named.place, out)?;
            writeln!(out, " organization={:?}", self.shown(named.organization))?;
        }
        let runs = self.observations.clean_runs(number as Sym);
        for run in runs.filter(|run| Seq::from(run.seq) <= known_at) {
            writeln!(out, "  compared {}@{}", run.started_at, run.seq)?;
        }
        Ok(true)
    }

    fn dump_scim(&self, number: usize, known_at: Seq, out: &mut dyn Write) -> Shown {
        let record = self.scim.records().get(number);
        let Some(record) = record.filter(|record| Seq::from(record.seq) <= known_at) else {
            return Ok(false);
        };
        writeln!(out, "scim {} {:016x}", record.seq, record.hash)?;
        Ok(true)
    }

    fn dump_entity(
        &self,
        entities: &Entities,
        kind: &str,
        number: usize,
        known_at: Seq,
        out: &mut dyn Write,
    ) -> Shown {
        let Some(entity) = entities.get(number as Sym) else { return Ok(false) };
        let seen = entity.first_seen(Cut { known_at, ..Cut::LATEST });
        let Some(seen) = seen.and_then(|seen| entity.place_of(seen.occurred_at, seen.seq)) else {
            return Ok(false);
        };
        write!(out, "{kind} {:?} seen ", entities.id(number as Sym))?;
        self.dump_place(seen, out)?;
        writeln!(out)?;
        for version in entity.explicit().iter().filter(|v| known(v.place, known_at)) {
            self.dump_version(if version.deleted { "deleted" } else { "version" }, version, out)?;
        }
        for version in entity.stand_ins().iter().filter(|v| known(v.place, known_at)) {
            self.dump_version("stand_in", version, out)?;
        }
        Ok(true)
    }

    fn dump_version(
        &self,
        word: &str,
        version: &EntityVersion,
        out: &mut dyn Write,
    ) -> fmt::Result {
        write!(out, "  {word} ")?;
        self.dump_place(version.place, out)?;
        let directory =
            (version.directory != NO_SYM).then(|| self.directories.id(version.directory));
        write!(out, " part={:?} own_directory={}", version.part, !version.directory_from_event)?;
        write!(
            out,
            " directory={directory:?} organization={:?} active={}",
            self.shown(version.organization),
            version.active
        )?;
        write!(out, " label={:?}", self.shown(version.label))?;
        for (name, fingerprint) in [
            ("email", self.emails.get(version.email)),
            ("idp_id", self.idp_ids.get(version.idp_id)),
        ] {
            write!(out, " {name}=")?;
            for byte in fingerprint.iter().flat_map(|fingerprint| fingerprint.0) {
                write!(out, "{byte:02x}")?;
            }
        }
        writeln!(out)
    }

    fn dump_membership(&self, number: usize, known_at: Seq, out: &mut dyn Write) -> Shown {
        let Some(pair) = self.memberships.get(number as u32) else { return Ok(false) };
        if pair.grants().latest(Cut { known_at, ..Cut::LATEST }).is_none() {
            return Ok(false);
        }
        writeln!(
            out,
            "membership {:?} {:?}",
            self.groups.id(pair.group),
            self.users.id(pair.user)
        )?;
        for grant in pair.grants().iter().filter(|grant| known(grant.place(), known_at)) {
            write!(out, "  {} ", if grant.added() { "added" } else { "removed" })?;
            self.dump_place(grant.place(), out)?;
            writeln!(out, " directory={:?}", self.directories.id(grant.directory()))?;
        }
        Ok(true)
    }

    fn dump_quarantined(&self, number: usize, known_at: Seq, out: &mut dyn Write) -> Shown {
        match self.quarantine.get(number) {
            Some(listed) if listed.seq <= known_at => {
                writeln!(out, "listed {} {:?}", listed.seq, listed.reason).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    fn dump_event(&self, number: usize, known_at: Seq, out: &mut dyn Write) -> Shown {
        let seq = number as Seq + 1;
        let Some((line, occurred_at)) = self.events.get(seq).filter(|_| seq <= known_at) else {
            return Ok(false);
        };
        let directory = (line.directory != NO_SYM).then(|| self.directories.id(line.directory));
        let (event_type, organization) =
            (self.events.event_types.text(line.event_type), self.shown(line.organization));
        write!(out, "event {seq} {event_type:?} {occurred_at}")?;
        write!(out, " organization={organization:?} directory={directory:?}")?;
        if let Some(asked_at) = self.observations.asked_at(seq) {
            write!(out, " asked_at={asked_at}")?;
        }
        if let Some(run) = self.observations.run_of(seq) {
            write!(out, " started_at={}", run.started_at)?;
        }
        if self.resolved.binary_search_by_key(&seq, |resolved| resolved.seq).is_ok() {
            write!(out, " unlisted")?;
        }
        writeln!(out)?;
        Ok(true)
    }

    fn dump_policy(&self, number: usize, known_at: Seq, out: &mut dyn Write) -> Shown {
        match self.policies.iter().nth(number) {
            Some(policy) if policy.seq <= known_at => writeln!(out, "{policy:?}").map(|()| true),
            _ => Ok(false),
        }
    }

    fn dump_mapping(&self, number: usize, known_at: Seq, out: &mut dyn Write) -> Shown {
        match self.mapping_of_version(number + 1) {
            Some(mapping) if mapping.seq <= known_at => writeln!(out, "{mapping:?}").map(|()| true),
            _ => Ok(false),
        }
    }

    fn dump_link(&self, number: usize, known_at: Seq, out: &mut dyn Write) -> Shown {
        let known_at = seq32(known_at);
        let Some(link) = self.links.get(number).filter(|link| link.seq <= known_at) else {
            return Ok(false);
        };
        let [app_user, user, directory] =
            [link.app_user, link.user, link.directory].map(|id| self.links.id(id));
        write!(out, "link {} {} {app_user:?} {user:?} {directory:?}", link.seq, link.set_at)?;
        writeln!(out, " ended={:?}", link.ended_by(known_at)).map(|()| true)
    }

    fn dump_place(&self, place: Place, out: &mut dyn Write) -> fmt::Result {
        let Place { occurred_at, updated_at, seq, closing } = place;
        write!(out, "{occurred_at}/{}/", u8::from(closing))?;
        if updated_at != NO_UPDATED_AT {
            write!(out, "{updated_at}")?;
        }
        write!(out, "/{:?}@{seq}", self.ids.text(seq, &mut IdBuffer::default()))
    }

    fn shown(&self, text: Sym) -> Option<&str> {
        (text != NO_SYM).then(|| self.texts.text(text))
    }
}

fn known(place: Place, known_at: Seq) -> bool {
    place.seq <= seq32(known_at)
}
