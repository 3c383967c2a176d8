//! The decision on a command: what its records are, and the events that follow. A pure function of
//! the command, the log and the views.

use std::sync::Arc;

use rollcall_projections::{Cut, Fingerprint, Millis, ScimIndex, Seq, Views};

use super::members::{self, MembersChanged};
use super::records::{MembersRecords, RequestRecord};
use super::resource::{Held, Known, MEMBERS_STEP, described_by, is_too_large_to_show, snapshot_of};
use super::{ScimError, not_found};
use crate::hashes::fingerprint;
use crate::scim::{
    self, Consequence, Deactivation, Document, Draft, EventMaker, GroupAfter, Keys, Kind, Redacted,
    Refusal, Snapshot, UserAfter, Written,
};

/// The most records that one command may become.
pub(super) const RECORDS_MAX: usize = 131_072;

/// The kinds of command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScimMethod {
    /// POST.
    Create,
    /// PUT.
    Replace,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

impl ScimMethod {
    /// Returns the method of HTTP.
    pub fn name(self) -> &'static str {
        match self {
            ScimMethod::Create => "POST",
            ScimMethod::Replace => "PUT",
            ScimMethod::Patch => "PATCH",
            ScimMethod::Delete => "DELETE",
        }
    }

    /// Reads the name of a method.
    pub(super) fn parse(name: &str) -> Option<ScimMethod> {
        let all = [ScimMethod::Create, ScimMethod::Replace, ScimMethod::Patch, ScimMethod::Delete];
        all.into_iter().find(|method| method.name() == name)
    }
}

/// A command, with all that its records need.
pub(super) struct Asked {
    pub(super) directory: String,
    pub(super) token: String,
    pub(super) method: ScimMethod,
    pub(super) kind: Kind,
    /// The id of the resource; that of the new one if it is created.
    pub(super) id: String,
    pub(super) body: Option<Redacted>,
    pub(super) user_agent: String,
    /// True unless the answer is to have some attributes only.
    pub(super) is_whole: bool,
    /// The id of its record.
    pub(super) request_id: String,
    pub(super) occurred_at: Millis,
}

/// The decision on a command.
pub(super) enum Decision {
    /// The resource stays as it is.
    Unchanged(Held),
    /// There is something to record.
    Change(Box<Plan>),
}

/// The records of a change.
pub(super) struct Plan {
    /// The bodies of the request and of the changes of members, in order.
    pub(super) records: Vec<String>,
    /// The events that follow.
    pub(super) following: Following,
}

/// The events that follow from a change, in order. Those of members are made when they are needed:
/// they may be many.
pub(super) struct Following {
    pub(super) directory: String,
    organization: String,
    deactivation: Deactivation,
    request_id: String,
    occurred_at: Millis,
    made: u32,
    /// Those of the resource itself that are not taken yet.
    first: std::vec::IntoIter<Consequence>,
    /// The group after the change.
    group: Option<Snapshot>,
    /// The records with the last snapshots of those who left, and then of those who came.
    left: std::vec::IntoIter<Seq>,
    came: std::vec::IntoIter<Seq>,
}

/// A directory as a decision needs it.
struct Directory {
    organization: String,
    deactivation: Deactivation,
}

/// The resource after a command, and the events that follow.
struct After {
    document: Option<Arc<Document>>,
    active: bool,
    written: Written,
    /// The number of events that were made.
    made: u32,
    changed: MembersChanged,
}

/// Decides a command over what is known.
///
/// # Errors
/// [`ScimError::Refused`]; nothing is to be recorded then.
pub(super) fn decide(
    known: Known<'_>,
    asked: &Asked,
    expected: Option<&dyn Fn(&str) -> bool>,
) -> Result<Decision, ScimError> {
    let directory =
        known.ask(|views| directory_of(views, &asked.directory)).ok_or(ScimError::Unauthorized)?;
    let before = match asked.method {
        ScimMethod::Create => None,
        _ => Some(
            known
                .held(&asked.directory, asked.kind, &asked.id)?
                .ok_or_else(|| not_found(asked.kind))?,
        ),
    };
    if let (Some(before), Some(expected)) = (&before, expected)
        && !expected(&before.version())
    {
        return Err(Refusal::new(412, "the resource has another version").into());
    }
    let Some(draft) = draft(asked, before.as_ref())? else {
        return delete(known, asked, &directory, before.as_ref());
    };
    must_be_unique(known, asked, &draft.document, before.as_ref())?;
    let active = draft.active.or(before.as_ref().map(|before| before.active)).unwrap_or(true);
    let changed = members::changed(known, &asked.directory, before.as_ref(), draft.members)?;
    if let Some(before) = &before
        && *before.document == draft.document
        && before.active == active
        && changed.is_empty()
    {
        return Ok(Decision::Unchanged(before.clone()));
    }
    let (document, before) = (Arc::new(draft.document), before.as_ref());
    let mut maker = maker(asked, &directory);
    let written = match asked.kind {
        Kind::User => write_user(known, &mut maker, asked, before, &document, active)?,
        Kind::Group => write_group(known, &mut maker, asked, before, &document)?,
    };
    let made = maker.made;
    let after = After { document: Some(document), active, written, made, changed };
    plan(known, asked, &directory, before, after)
}

fn directory_of(views: &Views, id: &str) -> Option<Directory> {
    let found = views.scim().directory(id).filter(|one| one.is_there())?;
    let deactivation = match found.deactivation {
        rollcall_projections::Deactivation::Delete => Deactivation::Delete,
        rollcall_projections::Deactivation::Update => Deactivation::Update,
    };
    let organization = views.organization(id, Cut::LATEST).to_owned();
    Some(Directory { organization, deactivation })
}

/// Makes what a command says of the resource; `None` for a deletion.
fn draft(asked: &Asked, before: Option<&Held>) -> Result<Option<Draft>, Refusal> {
    let body = asked.body.as_ref().map_or("", |body| &body.body);
    let draft = match (asked.method, before) {
        (ScimMethod::Create, _) => scim::create(asked.kind, body)?,
        (ScimMethod::Replace, Some(before)) => scim::replace(asked.kind, &before.document, body)?,
        (ScimMethod::Patch, Some(before)) => scim::patch(asked.kind, &before.document, body)?,
        (ScimMethod::Delete, _) | (_, None) => return Ok(None),
    };
    Ok(Some(draft))
}

/// Refuses a name that another resource of the kind has.
fn must_be_unique(
    known: Known<'_>,
    asked: &Asked,
    document: &Document,
    before: Option<&Held>,
) -> Result<(), Refusal> {
    let Keys { user_name, display_name, .. } = document.keys();
    let (index, name, what) = match asked.kind {
        Kind::User => (ScimIndex::UserName, user_name, "userName"),
        Kind::Group => (ScimIndex::GroupDisplayName, display_name, "displayName"),
    };
    let Some(name) = name else { return Ok(()) };
    let key: Fingerprint = fingerprint(&name);
    let own = before.map(|before| before.id);
    let is_taken = known.ask(|views| {
        views.scim().find(&asked.directory, index, key).any(|other| Some(other.id) != own)
    });
    match is_taken {
        true => Err(Refusal::uniqueness(format!("another resource has this {what}"))),
        false => Ok(()),
    }
}

fn maker<'a>(asked: &'a Asked, directory: &'a Directory) -> EventMaker<'a> {
    EventMaker {
        request_id: &asked.request_id,
        occurred_at: asked.occurred_at,
        directory_id: &asked.directory,
        organization_id: &directory.organization,
        deactivation: directory.deactivation,
        made: 0,
    }
}

/// Returns the last snapshot of the directory user or group that a resource is.
fn snapshot(
    known: Known<'_>,
    asked: &Asked,
    held: Option<&Held>,
) -> Result<Option<Snapshot>, ScimError> {
    let object = held.and_then(|held| held.object.as_deref());
    let Some(object) = object else { return Ok(None) };
    Ok(known.snapshot(&asked.directory, asked.kind, object)?)
}

fn write_user(
    known: Known<'_>,
    maker: &mut EventMaker<'_>,
    asked: &Asked,
    before: Option<&Held>,
    document: &Document,
    active: bool,
) -> Result<Written, ScimError> {
    let snapshot = snapshot(known, asked, before)?;
    // Its memberships begin anew with a new directory user.
    let groups = match (before, &snapshot) {
        (Some(before), None) if active => snapshots_of_groups(known, asked, before)?,
        _ => Vec::new(),
    };
    let manager = match document.manager() {
        Some(id) => known.held(&asked.directory, Kind::User, id)?,
        None => None,
    };
    let manager = manager.as_ref().map(|manager| &*manager.document);
    let after = UserAfter { scim_id: &asked.id, document, active, manager };
    Ok(maker.user_written(snapshot.as_ref(), after, &groups))
}

fn snapshots_of_groups(
    known: Known<'_>,
    asked: &Asked,
    user: &Held,
) -> Result<Vec<Snapshot>, ScimError> {
    let seqs: Vec<Seq> = known.ask(|views| {
        let scim = views.scim();
        let Some(user) = scim.resource_by_id(user.id) else { return Vec::new() };
        let groups = scim.groups_of(user).filter_map(|group| scim.object_of(group));
        groups
            .filter_map(|group| described_by(views, &asked.directory, Kind::Group, group))
            .collect()
    });
    let bodies = known.bodies(&seqs)?;
    Ok(bodies.iter().filter_map(snapshot_of).collect())
}

fn write_group(
    known: Known<'_>,
    maker: &mut EventMaker<'_>,
    asked: &Asked,
    before: Option<&Held>,
    document: &Document,
) -> Result<Written, ScimError> {
    let snapshot = snapshot(known, asked, before)?;
    Ok(maker.group_written(snapshot.as_ref(), GroupAfter { document }))
}

fn delete(
    known: Known<'_>,
    asked: &Asked,
    directory: &Directory,
    before: Option<&Held>,
) -> Result<Decision, ScimError> {
    let mut maker = maker(asked, directory);
    let snapshot = snapshot(known, asked, before)?;
    let event = match asked.kind {
        Kind::User => maker.user_deleted(snapshot.as_ref()),
        Kind::Group => snapshot.as_ref().map(|snapshot| maker.group_deleted(snapshot)),
    };
    let made = maker.made;
    let written = Written { snapshot: None, events: Vec::from_iter(event) };
    let active = before.is_some_and(|before| before.active);
    let changed = MembersChanged::default();
    plan(known, asked, directory, before, After { document: None, active, written, made, changed })
}

/// Writes the records of a change.
fn plan(
    known: Known<'_>,
    asked: &Asked,
    directory: &Directory,
    before: Option<&Held>,
    after: After,
) -> Result<Decision, ScimError> {
    let After { document, active, written, made, changed } = after;
    let Written { snapshot, events } = written;
    let object = snapshot.as_ref().and_then(Snapshot::id);
    let request = RequestRecord {
        id: &asked.request_id,
        occurred_at: asked.occurred_at,
        directory: &asked.directory,
        organization: &directory.organization,
        token: &asked.token,
        method: asked.method.name(),
        path: &path(asked),
        user_agent: super::turns::kept_user_agent(&asked.user_agent),
        status: status(asked, before, &changed),
        body: asked.body.as_ref(),
        kind: asked.kind,
        resource: &asked.id,
        object: object.as_deref(),
        active,
        created_at: before.map_or(asked.occurred_at, |before| before.created_at),
        document: document.as_deref(),
    };
    let members = MembersRecords {
        request_id: &asked.request_id,
        occurred_at: asked.occurred_at,
        directory: &asked.directory,
        organization: &directory.organization,
        group: &asked.id,
    };
    let mut records = vec![request.body()];
    records.extend(members.bodies(&changed.added, &changed.removed));
    if records.len() + events.len() + changed.events() > RECORDS_MAX {
        let detail =
            format!("the change would be more than {RECORDS_MAX} records: send it in parts");
        return Err(Refusal::too_large(detail).into());
    }
    let left = changed.removed.into_iter().filter_map(|left| left.object);
    let came = changed.added.into_iter().filter_map(|came| came.object);
    let following = Following {
        left: described(known, &asked.directory, left).into_iter(),
        came: described(known, &asked.directory, came).into_iter(),
        directory: asked.directory.clone(),
        organization: directory.organization.clone(),
        deactivation: directory.deactivation,
        request_id: asked.request_id.clone(),
        occurred_at: asked.occurred_at,
        made,
        first: events.into_iter(),
        group: snapshot,
    };
    Ok(Decision::Change(Box::new(Plan { records, following })))
}

/// Returns the records that describe directory users, in the same order.
fn described(known: Known<'_>, directory: &str, users: impl Iterator<Item = String>) -> Vec<Seq> {
    let users: Vec<String> = users.collect();
    let describe = |users: &[String]| {
        known.ask(|views| {
            let one = |user: &String| described_by(views, directory, Kind::User, user);
            users.iter().filter_map(one).collect::<Vec<Seq>>()
        })
    };
    users.chunks(MEMBERS_STEP).flat_map(describe).collect()
}

fn path(asked: &Asked) -> String {
    match asked.method {
        ScimMethod::Create => format!("/{}", asked.kind.route()),
        _ => format!("/{}/{}", asked.kind.route(), asked.id),
    }
}

/// Returns the status of the answer to an accepted command.
fn status(asked: &Asked, before: Option<&Held>, changed: &MembersChanged) -> u16 {
    let members = before.map_or(0, |group| group.member_count);
    let members = (members + changed.added.len()).saturating_sub(changed.removed.len());
    match asked.method {
        ScimMethod::Create => 201,
        ScimMethod::Patch if asked.is_whole && is_too_large_to_show(members) => 204,
        ScimMethod::Replace | ScimMethod::Patch => 200,
        ScimMethod::Delete => 204,
    }
}

impl Following {
    /// Returns the number of events that are not taken yet.
    pub(super) fn len(&self) -> usize {
        self.first.len() + self.left.len() + self.came.len()
    }

    /// Takes the next events, at most `max`, and reads from the log what they show.
    ///
    /// # Errors
    /// If the log cannot be read; nothing is taken then.
    pub(super) fn take(
        &mut self,
        engine: &crate::engine::Engine,
        max: usize,
    ) -> Result<Vec<String>, ScimError> {
        if self.first.len() > 0 {
            return Ok(self.first.by_ref().take(max).map(|event| event.body).collect());
        }
        let is_leaving = self.left.len() > 0;
        let from = if is_leaving { &self.left } else { &self.came };
        let seqs: Vec<Seq> = from.as_slice().iter().take(max).copied().collect();
        let mut sorted = seqs.clone();
        sorted.sort_unstable();
        sorted.dedup();
        let bodies = engine.log.bodies(&sorted)?;
        let from = if is_leaving { &mut self.left } else { &mut self.came };
        from.by_ref().take(seqs.len()).for_each(drop);
        let Some(group) = self.group.clone() else { return Ok(Vec::new()) };
        let mut maker = EventMaker {
            request_id: &self.request_id,
            occurred_at: self.occurred_at,
            directory_id: &self.directory,
            organization_id: &self.organization,
            deactivation: self.deactivation,
            made: self.made,
        };
        let mut events = Vec::with_capacity(seqs.len());
        for seq in seqs {
            let at = sorted.binary_search(&seq).ok();
            let body = at.and_then(|at| bodies.get(at));
            let Some(user) = body.and_then(snapshot_of) else { continue };
            let event = match is_leaving {
                true => maker.member_left(&user, &group),
                false => maker.member_came(&user, &group),
            };
            events.push(event.body);
        }
        self.made = maker.made;
        Ok(events)
    }
}

/// Returns the index of a kind's names, and others, for a filter.
pub(super) fn index_of(key: scim::ProbeKey, kind: Kind) -> Option<ScimIndex> {
    match (key, kind) {
        (scim::ProbeKey::UserName, Kind::User) => Some(ScimIndex::UserName),
        (scim::ProbeKey::ExternalId, Kind::User) => Some(ScimIndex::UserExternalId),
        (scim::ProbeKey::ExternalId, Kind::Group) => Some(ScimIndex::GroupExternalId),
        (scim::ProbeKey::DisplayName, Kind::User) => Some(ScimIndex::UserDisplayName),
        (scim::ProbeKey::DisplayName, Kind::Group) => Some(ScimIndex::GroupDisplayName),
        (scim::ProbeKey::Email, Kind::User) => Some(ScimIndex::Email),
        _ => None,
    }
}
