//! The directories that the source shows, and what becomes of a user or group that it shows in
//! another than before: a move alone ends nothing.

use std::collections::{BTreeMap, HashMap};

use rollcall_projections::{Fingerprint, HeldKind};

use super::progress::DifferentKind;
use super::record::directory_of;
use crate::hashes::fingerprint;

/// The directories that the source has, each with true if it is active.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown(pub(super) BTreeMap<String, bool>);

impl Shown {
    /// Tells if a user or group that the log holds in the directory `home` goes on by what the
    /// source shows: `listed_in` is where it was found, `active` what it says of a user. One that
    /// moves goes on in a directory that the source has, a user in one that is active.
    pub(super) fn goes_on(&self, kind: HeldKind, home: &str, found: &Found<'_>) -> bool {
        let target = found.directory();
        let is_active = self.0.get(&target);
        match kind {
            HeldKind::Group => target == home || is_active.is_some(),
            HeldKind::User => found.active && (target == home || is_active == Some(&true)),
        }
    }
}

/// A user or group as the source shows it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    /// The directory whose list shows it, or for which it was asked for by its id.
    pub(super) listed_in: &'a str,
    /// The object.
    pub(super) object: &'a str,
    /// True if it says that a user is active.
    pub(super) active: bool,
}

impl Found<'_> {
    /// Returns the directory that the object names, or else the one in which it was found.
    pub(super) fn directory(&self) -> String {
        directory_of(self.object, self.listed_in)
    }
}

/// The users and groups that the source lists in another directory than that in which the log holds
/// them, each with true if it goes on there.
#[derive(Debug, Default)]
pub(super) struct Moved(HashMap<Fingerprint, bool>);

impl Moved {
    /// Notes one. The later of two places counts.
    pub(super) fn note(&mut self, kind: HeldKind, id: &str, goes_on: bool) {
        self.0.insert(key(kind, id), goes_on);
    }

    /// Tells if a user or group goes on in another directory.
    pub(super) fn goes_on(&self, kind: HeldKind, id: &str) -> bool {
        self.0.get(&key(kind, id)).copied().unwrap_or(false)
    }
}

/// Returns a key of a user, group or directory.
pub(super) fn key(kind: impl Into<DifferentKind>, id: &str) -> Fingerprint {
    let kind: DifferentKind = kind.into();
    fingerprint(&format!("{kind:?} {id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_move_ends_something_only_where_it_leads_to_what_has_ended_or_is_inactive() {
        let shown = Shown([("on".to_owned(), true), ("off".to_owned(), false)].into());
        for (kind, home, object, active, goes_on) in [
            // It stays: what becomes of its directory is judged apart.
            (HeldKind::User, "on", r#"{"directory_id":"on"}"#, true, true),
            (HeldKind::User, "off", r#"{"directory_id":"off"}"#, true, true),
            (HeldKind::User, "on", r#"{"directory_id":"on"}"#, false, false),
            (HeldKind::User, "elsewhere", r#"{"directory_id":"on"}"#, true, true),
            (HeldKind::User, "elsewhere", r#"{"directory_id":"on"}"#, false, false),
            (HeldKind::User, "on", r#"{"directory_id":"off"}"#, true, false),
            (HeldKind::User, "on", r#"{"directory_id":"gone"}"#, true, false),
            // Without a directory of its own it is where it was listed.
            (HeldKind::User, "off", "{}", true, true),
            (HeldKind::User, "on", r#"{"directory_id":7}"#, true, true),
            (HeldKind::Group, "elsewhere", r#"{"directory_id":"off"}"#, false, true),
            (HeldKind::Group, "on", r#"{"directory_id":"gone"}"#, false, false),
        ] {
            let found = Found { listed_in: "on", object, active };
            assert_eq!(shown.goes_on(kind, home, &found), goes_on, "{kind:?} {home} {object}");
        }
    }

    #[test]
    fn a_user_and_a_group_of_one_id_are_two_things() {
        let mut moved = Moved::default();
        moved.note(HeldKind::User, "x", true);
        assert!(moved.goes_on(HeldKind::User, "x") && !moved.goes_on(HeldKind::Group, "x"));
        moved.note(HeldKind::User, "x", false);
        assert!(!moved.goes_on(HeldKind::User, "x"));
    }
}
