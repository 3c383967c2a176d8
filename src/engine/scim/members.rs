//! The difference that a request makes to a group's members, at the cost of what it names.

use std::collections::HashMap;

use rollcall_projections::{Scim, ScimId, ScimKind, ScimResource};

use super::ScimError;
use super::resource::{Held, Known, MEMBERS_STEP, RelatedTo, id_in_any_case, kind_of};
use crate::log::ReadError;
use crate::scim::{Filter, Kind, Member, MemberChange, MemberOf, Refusal};

/// The difference of a group's members between before and after a request.
#[derive(Debug, Default)]
pub(super) struct MembersChanged {
    /// Those that came, in the order in which the request names them.
    pub(super) added: Vec<Came>,
    /// Those that left.
    pub(super) removed: Vec<Left>,
}

/// A member that came.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) member: Member,
    /// Its living directory user, if it is a user that has one.
    pub(super) object: Option<String>,
}

/// A member that left.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) id: ScimId,
    /// Its living directory user, if it is a user that has one.
    pub(super) object: Option<String>,
}

impl MembersChanged {
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }

    /// Returns the number of events that follow.
    pub(super) fn events(&self) -> usize {
        let came = self.added.iter().filter(|came| came.object.is_some()).count();
        came + self.removed.iter().filter(|left| left.object.is_some()).count()
    }
}

/// The members of a group while the changes of a request apply one after the other.
struct Roster<'a> {
    known: Known<'a>,
    directory: &'a str,
    /// The group before; `None` for one that is created.
    group: Option<&'a Held>,
    /// True once all that were there before have left.
    is_cleared: bool,
    /// The users and groups that the request names, and that are there.
    named: HashMap<ScimId, Named>,
    /// The same, in the order in which it names them.
    order: Vec<ScimId>,
}

/// A user or group that a request names.
struct Named {
    kind: Kind,
    /// The member that it is now, if it is one.
    now: Option<Member>,
    was_there: bool,
    /// True once the request has removed it, also if it has added it again.
    is_removed: bool,
    object: Option<String>,
}

impl Named {
    fn remove(&mut self) {
        self.now = None;
        self.is_removed = true;
    }

    /// Returns true for a member of before that the request leaves as it is.
    fn is_kept(&self) -> bool {
        self.was_there && !self.is_removed
    }
}

/// Returns what some changes make of the members of a group.
///
/// # Errors
/// `noTarget` if a filter finds no member to replace; if the log cannot be read.
pub(super) fn changed(
    known: Known<'_>,
    directory: &str,
    group: Option<&Held>,
    changes: Vec<MemberChange>,
) -> Result<MembersChanged, ScimError> {
    let mut roster = Roster {
        known,
        directory,
        group,
        is_cleared: false,
        named: HashMap::new(),
        order: Vec::new(),
    };
    for change in changes {
        roster.apply(change)?;
    }
    Ok(roster.difference())
}

/// Returns the living directory user of a resource, if it is a user that has one.
fn directory_user(scim: &Scim, resource: &ScimResource) -> Option<String> {
    let object = scim.object_of(resource).filter(|_| resource.kind == ScimKind::User);
    object.map(str::to_owned)
}

impl Roster<'_> {
    fn apply(&mut self, change: MemberChange) -> Result<(), ScimError> {
        match change {
            MemberChange::Add(members) => self.add(members),
            MemberChange::Remove(ids) => {
                let ids: Vec<ScimId> = ids.iter().filter_map(|id| id_in_any_case(id)).collect();
                self.remove(&ids);
            }
            MemberChange::Clear => self.clear(),
            MemberChange::Replace(members) => {
                self.clear();
                self.add(members);
            }
            MemberChange::RemoveWhere(filter) => {
                let found = self.found_by(&filter)?;
                self.remove(&found);
            }
            MemberChange::ReplaceWhere(filter, others) => {
                let found = self.found_by(&filter)?;
                if found.is_empty() {
                    let detail = "the filter of a path finds no member to replace";
                    return Err(Refusal::bad("noTarget", detail).into());
                }
                if let Some(others) = others {
                    self.remove(&found);
                    self.add(others);
                }
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.is_cleared = true;
        self.named.values_mut().for_each(Named::remove);
    }

    fn add(&mut self, members: Vec<Member>) {
        let mut members = members.into_iter();
        loop {
            let step: Vec<Member> = members.by_ref().take(MEMBERS_STEP).collect();
            if step.is_empty() {
                return;
            }
            let ids: Vec<Option<ScimId>> =
                step.iter().map(|one| ScimId::parse(&one.value)).collect();
            self.look_up(ids.iter().copied().flatten());
            for (id, member) in ids.into_iter().zip(step) {
                let Some(named) = id.and_then(|id| self.named.get_mut(&id)) else { continue };
                named.now.get_or_insert(member);
            }
        }
    }

    fn remove(&mut self, ids: &[ScimId]) {
        for step in ids.chunks(MEMBERS_STEP) {
            self.look_up(step.iter().copied());
            for id in step {
                if let Some(named) = self.named.get_mut(id) {
                    named.remove();
                }
            }
        }
    }

    /// Returns the ids of the members that a filter finds: by a look-up if it names them, else it
    /// looks at every member.
    fn found_by(&mut self, filter: &Filter) -> Result<Vec<ScimId>, ReadError> {
        if let Some(ids) = filter.values() {
            let mut found: Vec<ScimId> = ids.iter().filter_map(|id| id_in_any_case(id)).collect();
            self.look_up(found.iter().copied());
            found.retain(|id| self.named.get(id).is_some_and(|one| one.now.is_some()));
            return Ok(found);
        }
        let mut found = Vec::new();
        if let Some(group) = self.group.filter(|_| !self.is_cleared) {
            found = RelatedTo { known: self.known, id: group.id }.members_found_by(filter)?;
            found.retain(|id| self.named.get(id).is_none_or(Named::is_kept));
        }
        let named = self.order.iter().filter_map(|id| Some((id, self.named.get(id)?)));
        // What the request has changed counts as it is now.
        found.extend(named.filter(|(_, named)| !named.is_kept()).filter_map(|(id, named)| {
            let now = named.now.as_ref()?;
            let (text, display) = (id.to_string(), now.display.clone());
            let shown = MemberOf { id: text, kind: named.kind, display };
            filter.matches_member(&shown).then_some(*id)
        }));
        Ok(found)
    }

    /// Looks up those that are not looked up yet. What is not there is passed over.
    fn look_up(&mut self, ids: impl Iterator<Item = ScimId>) {
        let unknown: Vec<ScimId> = ids.filter(|id| !self.named.contains_key(id)).collect();
        let (directory, group) = (self.directory, self.group.map(|group| group.id));
        let is_cleared = self.is_cleared;
        let found = self.known.ask(|views| {
            let scim = views.scim();
            let group = group.and_then(|id| scim.resource_by_id(id));
            let look = |id: ScimId| {
                let found = scim.resource_by_id(id).filter(|one| !one.deleted)?;
                let is_own = scim.directory_of(found) == directory;
                let was_there = group.is_some_and(|group| scim.is_member(group, found));
                let object = directory_user(scim, found);
                let kept = Member { value: id.to_string(), kind: None, display: None };
                let now = (was_there && !is_cleared).then_some(kept);
                let (kind, is_removed) = (kind_of(found.kind), is_cleared);
                is_own.then_some((id, Named { kind, now, was_there, is_removed, object }))
            };
            unknown.into_iter().filter_map(look).collect::<Vec<_>>()
        });
        for (id, named) in found {
            if self.named.insert(id, named).is_none() {
                self.order.push(id);
            }
        }
    }

    fn difference(mut self) -> MembersChanged {
        let mut changed = MembersChanged::default();
        if self.is_cleared {
            self.leave_unnamed(&mut changed);
        }
        for id in std::mem::take(&mut self.order) {
            let Some(Named { now, was_there, object, .. }) = self.named.remove(&id) else {
                continue;
            };
            match (now, was_there) {
                (Some(member), false) => changed.added.push(Came { member, object }),
                (None, true) => changed.removed.push(Left { id, object }),
                (Some(_), true) | (None, false) => {}
            }
        }
        changed
    }

    /// Lets those leave that were there before all had to leave, and that nothing names.
    fn leave_unnamed(&self, changed: &mut MembersChanged) {
        let Some(group) = self.group else { return };
        let mut after: Option<ScimId> = None;
        loop {
            let step: Vec<Left> = self.known.ask(|views| {
                let scim = views.scim();
                let Some(group) = scim.resource_by_id(group.id) else { return Vec::new() };
                let after = after.and_then(|id| scim.resource_by_id(id));
                let members = scim.members(group, after).take(MEMBERS_STEP);
                let left = |member: rollcall_projections::ScimMember<'_>| {
                    let object = directory_user(scim, member.resource);
                    Left { id: member.resource.id, object }
                };
                members.map(left).collect()
            });
            let is_last = step.len() < MEMBERS_STEP;
            after = step.last().map(|left| left.id);
            changed
                .removed
                .extend(step.into_iter().filter(|left| !self.named.contains_key(&left.id)));
            if is_last {
                return;
            }
        }
    }
}
