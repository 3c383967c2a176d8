//! The difference that a request makes to a group's members, at the cost of what it names.

use std::collections::HashMap;

use rollcall_projections::{Scim, ScimId, ScimKind, ScimResource};

use super::resource::{Held, Known, MEMBERS_STEP, RelatedTo};
use crate::scim::{Filter, Kind, Member, MemberChange, Related};

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
    /// The member that it is now, if it is one.
    now: Option<Member>,
    was_there: bool,
    object: Option<String>,
}

/// Returns what some changes make of the members of a group.
pub(super) fn changed(
    known: Known<'_>,
    directory: &str,
    group: Option<&Held>,
    changes: Vec<MemberChange>,
) -> MembersChanged {
    let mut roster = Roster {
        known,
        directory,
        group,
        is_cleared: false,
        named: HashMap::new(),
        order: Vec::new(),
    };
    for change in changes {
        roster.apply(change);
    }
    roster.difference()
}

/// Returns the living directory user of a resource, if it is a user that has one.
fn directory_user(scim: &Scim, resource: &ScimResource) -> Option<String> {
    let object = scim.object_of(resource).filter(|_| resource.kind == ScimKind::User);
    object.map(str::to_owned)
}

impl Roster<'_> {
    fn apply(&mut self, change: MemberChange) {
        match change {
            MemberChange::Add(members) => self.add(members),
            MemberChange::Remove(ids) => self.remove(&ids),
            MemberChange::Clear => self.clear(),
            MemberChange::Replace(members) => {
                self.clear();
                self.add(members);
            }
            MemberChange::RemoveWhere(filter) => self.remove_where(&filter),
        }
    }

    fn clear(&mut self) {
        self.is_cleared = true;
        self.named.values_mut().for_each(|named| named.now = None);
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

    fn remove(&mut self, ids: &[String]) {
        for step in ids.chunks(MEMBERS_STEP) {
            let ids: Vec<ScimId> = step.iter().filter_map(|id| ScimId::parse(id)).collect();
            self.look_up(ids.iter().copied());
            for id in ids {
                if let Some(named) = self.named.get_mut(&id) {
                    named.now = None;
                }
            }
        }
    }

    /// Removes those that a filter finds. It looks at every member.
    fn remove_where(&mut self, filter: &Filter) {
        let mut found = Vec::new();
        if let Some(group) = self.group.filter(|_| !self.is_cleared) {
            let related = RelatedTo { engine: self.known.engine, id: group.id };
            let members = related.members().into_iter();
            found.extend(members.filter(|one| filter.matches_member(one)).map(|one| one.id));
        }
        let named = self.named.iter().filter_map(|(id, named)| Some((id, named.now.as_ref()?)));
        found.extend(named.filter_map(|(id, member)| {
            let shown = crate::scim::MemberOf {
                id: id.to_string(),
                kind: member.kind.unwrap_or(Kind::User),
                display: member.display.clone(),
            };
            filter.matches_member(&shown).then_some(shown.id)
        }));
        self.remove(&found);
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
                is_own.then_some((id, Named { now, was_there, object }))
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
            let Some(Named { now, was_there, object }) = self.named.remove(&id) else { continue };
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
