//! The `dsync.*` events that follow an accepted change: a pure function of the request's record
//! and of what was before.

use rollcall_projections::Millis;

use super::document::Document;

/// What becomes of a directory user whose SCIM user is inactive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Deactivation {
    /// It is deleted; when the user is active again, another one is made.
    #[default]
    Delete,
    /// It is updated.
    Update,
}

impl Deactivation {
    /// Returns the name: `delete` or `update`.
    pub fn name(self) -> &'static str {
        match self {
            Deactivation::Delete => "delete",
            Deactivation::Update => "update",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Deactivation> {
        [Deactivation::Delete, Deactivation::Update].into_iter().find(|mode| mode.name() == name)
    }
}

/// An event of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consequence {
    /// Its type, such as `dsync.user.created`.
    pub event_type: &'static str,
    /// Its id.
    pub id: String,
    /// Its body as JSON.
    pub body: String,
}

/// A directory user or group as an event shows it: a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot(String);

impl Snapshot {
    /// Returns the snapshot in the `data` of a created or updated event of its own.
    pub fn of_data(data: &str) -> Option<Snapshot> {
        crate::json::without(data, "previous_attributes").map(Snapshot)
    }

    /// Returns the JSON.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// Returns the id of the directory user or group.
    pub fn id(&self) -> Option<String> {
        let [id] = crate::json::fields(&self.0, ["id"])?;
        crate::json::string(id).map(Into::into)
    }
}

/// A SCIM user after a request.
#[derive(Clone, Copy, Debug)]
pub struct UserAfter<'a> {
    /// Its SCIM id.
    pub scim_id: &'a str,
    /// What is stored of it.
    pub document: &'a Document,
    /// If it is active.
    pub active: bool,
    /// The document of the user whose SCIM id is the value of `manager`, if there is one.
    pub manager: Option<&'a Document>,
}

/// A SCIM group after a request.
#[derive(Clone, Copy, Debug)]
pub struct GroupAfter<'a> {
    /// What is stored of it.
    pub document: &'a Document,
}

/// What a change makes of a directory user or group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Its last snapshot; `None` if there is no living directory user.
    pub snapshot: Option<Snapshot>,
    /// The events, in order.
    pub events: Vec<Consequence>,
}

/// Makes the events of one request, in order. Their ids are a pure function of the request.
#[derive(Clone, Debug)]
pub struct EventMaker<'a> {
    /// The id of the request's record, `op_…`.
    pub request_id: &'a str,
    /// When the request occurred, in milliseconds.
    pub occurred_at: Millis,
    /// The directory.
    pub directory_id: &'a str,
    /// The directory's organization.
    pub organization_id: &'a str,
    /// What becomes of inactive users.
    pub deactivation: Deactivation,
    /// The number of events made so far.
    pub made: u32,
}

impl EventMaker<'_> {
    /// Makes the events of a user that was created or changed.
    ///
    /// `before` is the last snapshot of its living directory user, if it has one; `groups` are the
    /// snapshots of the groups that it is in, which count only if it becomes active again.
    pub fn user_written(
        &mut self,
        before: Option<&Snapshot>,
        after: UserAfter<'_>,
        groups: &[Snapshot],
    ) -> Written {
        let _ = (before, after, groups);
        Written::default()
    }

    /// Makes the event of a user that was deleted, if it has a living directory user.
    pub fn user_deleted(&mut self, before: Option<&Snapshot>) -> Option<Consequence> {
        let _ = before;
        None
    }

    /// Makes the event of a group that was created or changed, without its members.
    pub fn group_written(&mut self, before: Option<&Snapshot>, after: GroupAfter<'_>) -> Written {
        let _ = (before, after);
        Written::default()
    }

    /// Makes the event of a group that was deleted.
    pub fn group_deleted(&mut self, before: &Snapshot) -> Consequence {
        self.membership("dsync.group.deleted", before, before)
    }

    /// Makes the event of a directory user who left a group.
    pub fn member_left(&mut self, user: &Snapshot, group: &Snapshot) -> Consequence {
        self.membership("dsync.group.user_removed", user, group)
    }

    /// Makes the event of a directory user who came into a group.
    pub fn member_came(&mut self, user: &Snapshot, group: &Snapshot) -> Consequence {
        self.membership("dsync.group.user_added", user, group)
    }

    fn membership(
        &mut self,
        event_type: &'static str,
        user: &Snapshot,
        group: &Snapshot,
    ) -> Consequence {
        let _ = (user, group);
        Consequence { event_type, id: String::new(), body: String::new() }
    }
}
