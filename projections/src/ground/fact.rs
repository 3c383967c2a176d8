//! The input of the fold: one [`Entry`] for each record, with the [`Fact`] that its body states.

use std::borrow::Cow;

use crate::ground::mapping::Mapping;
use crate::ground::order::{Millis, Seq, canonical_uuid, uuid_digits};
use crate::ground::pack::{pack_fields, pack_variants};
use crate::ground::quarantine::Reason;

/// One record, reduced to what the views need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Position in the log.
    pub seq: Seq,
    /// When the log took it.
    pub recorded_at: Millis,
    /// When it happened at the source, or `recorded_at` if the source dates it too far ahead.
    pub occurred_at: Millis,
    /// The time that the source states, if it is too far ahead of the recording to count.
    pub claimed_at: Option<Millis>,
    /// The source's `data.updated_at`, a tie-breaker; membership events have none.
    pub updated_at: Option<Millis>,
    /// When the source was asked, of an observation.
    pub observed_at: Option<Millis>,
    /// The source's id; empty where the body has no usable one.
    pub event_id: &'a str,
    /// The event's type; empty where the body has none.
    pub event_type: &'a str,
    /// True if the record counts.
    pub status: RecordStatus,
    /// The directories that its `previous_attributes` name.
    pub former_directories: &'a [Cow<'a, str>],
    /// The organizations that its `previous_attributes` name.
    pub former_organizations: &'a [Cow<'a, str>],
    /// Why it could not be used when it was recorded, if it could not. If it can be used now, it has
    /// its full effect, and is neither listed as an event nor in the feed of changes.
    pub unusable_at_first: Option<Reason>,
    /// The way in which it came into the log.
    pub provenance: Provenance,
    /// The body's statement.
    pub fact: Fact<'a>,
}

/// The way in which a record came into the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provenance {
    /// A source sent it, or answered so when it was asked.
    Source,
    /// It is the act of an operator.
    Operator,
    /// An identity provider pushed it into a directory of its own.
    Scim,
}

/// True if a record counts in the views.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordStatus {
    /// The first content under its event id.
    Counts,
    /// Another content under an id that is taken: kept, listed, without effect.
    Conflict {
        /// The record that counts.
        first: Seq,
    },
    /// The same event as an earlier record, without which the log was when this one came: kept,
    /// listed, without effect.
    Repeat {
        /// The earlier record.
        of: Seq,
    },
}

/// An event's statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<'a> {
    /// A directory was connected, deactivated or deleted.
    Directory {
        /// The change.
        change: DirectoryChange,
        /// The directory.
        id: &'a str,
        /// Its organization, if the event carries one.
        organization: Option<&'a str>,
        /// Its name; empty if the event carries none.
        name: &'a str,
        /// Its first domain.
        domain: Option<&'a str>,
    },
    /// A user was created, updated or deleted.
    User(Change, UserData<'a>),
    /// A group was created, updated or deleted.
    Group(Change, GroupData<'a>),
    /// A user was added to a group or removed from it.
    Membership(MembershipData<'a>),
    /// The source said that a user is in a group, or is not, and nothing else about the two.
    ObservedMembership {
        /// True if the user is in the group.
        present: bool,
        /// The group's directory.
        directory: &'a str,
        /// The user.
        user: &'a str,
        /// The group.
        group: &'a str,
    },
    /// A comparison with the source ended.
    Reconciled {
        /// When it began.
        started_at: Millis,
        /// The directories that it compared completely and without doubt.
        clean: &'a [Cow<'a, str>],
    },
    /// A user of a directory is linked to one of the application, or to none.
    Link {
        /// The user of the directory.
        user: &'a str,
        /// The directory that the user was in when it was recorded.
        directory: &'a str,
        /// The user of the application; `None` if the link is removed.
        app_user: Option<&'a str>,
    },
    /// An operator created a directory that identity providers push into.
    HostedDirectory {
        /// The directory.
        id: &'a str,
        /// Its organization.
        organization: Option<&'a str>,
        /// The treatment of users whom the identity provider makes inactive.
        deactivation: Deactivation,
    },
    /// An operator created or revoked a token of such a directory.
    DirectoryToken {
        /// The directory.
        directory: &'a str,
        /// The token.
        id: &'a str,
        /// The data of a token that is created; `None` if it is revoked.
        created: Option<TokenData<'a>>,
    },
    /// An identity provider created, changed or deleted a user or group.
    ScimRequest(ScimRequestData<'a>),
    /// An identity provider changed the members of a group.
    ScimMembers {
        /// The group's directory.
        directory: &'a str,
        /// The group.
        group: ScimId,
        /// The users and groups that came.
        added: &'a [u128],
        /// The users and groups that left.
        removed: &'a [u128],
    },
    /// Kept and counted; no view of state changes.
    Unrelated {
        /// The organization that the event carries.
        organization: Option<&'a str>,
    },
    /// Kept and listed in the quarantine.
    Unusable(Reason),
    /// The policy for users, from some moment on.
    Policy {
        /// The treatment of users whose state is not active.
        inactive_users: InactiveUsers,
        /// From when on, in `occurred_at`.
        effective_from: Millis,
    },
    /// The mapping from groups and attributes to roles, from some moment on.
    Mapping {
        /// The rules.
        mapping: Mapping,
        /// From when on, in `occurred_at`.
        effective_from: Millis,
    },
}

/// The treatment of users whose state is not active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InactiveUsers {
    /// They stay, with their memberships.
    #[default]
    Retain,
    /// They read as deleted, and their memberships as ended, while they are inactive.
    Delete,
}

impl InactiveUsers {
    /// Every treatment, in a fixed order: its position is its stored code.
    pub const ALL: [InactiveUsers; 2] = [InactiveUsers::Retain, InactiveUsers::Delete];

    /// Returns its word in a policy.
    pub fn word(self) -> &'static str {
        match self {
            InactiveUsers::Retain => "retain",
            InactiveUsers::Delete => "delete",
        }
    }
}

/// The treatment of users whom an identity provider makes inactive, decided for each directory when
/// it is created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Deactivation {
    /// The directory user is deleted; an active user later is a new one.
    #[default]
    Delete,
    /// The directory user stays, and is inactive.
    Update,
}

impl Deactivation {
    /// Every treatment, in a fixed order: its position is its stored code.
    pub const ALL: [Deactivation; 2] = [Deactivation::Delete, Deactivation::Update];

    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            Deactivation::Delete => "delete",
            Deactivation::Update => "update",
        }
    }
}

/// The id that SCIM knows a user or group by: a UUID of Rollcall's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScimId(pub u128);

impl ScimId {
    /// Reads an id in the one spelling in which it is shown: 32 hexadecimal digits in lower case, in
    /// five parts with hyphens between. `None` for every other text.
    pub fn parse(text: &str) -> Option<ScimId> {
        canonical_uuid(text).map(|bits| ScimId(u128::from_be_bytes(bits)))
    }
}

impl core::fmt::Display for ScimId {
    fn fmt(&self, out: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        uuid_digits(self.0.to_be_bytes()).try_for_each(|digit| write!(out, "{}", char::from(digit)))
    }
}

/// The kinds of thing that SCIM knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScimKind {
    /// Users.
    User,
    /// Groups.
    Group,
}

impl ScimKind {
    /// Every kind, in a fixed order: its position is its stored code.
    pub const ALL: [ScimKind; 2] = [ScimKind::User, ScimKind::Group];

    /// Returns its name in SCIM.
    pub fn name(self) -> &'static str {
        match self {
            ScimKind::User => "User",
            ScimKind::Group => "Group",
        }
    }
}

/// The part of a directory's token that the views keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenData<'a> {
    /// Its last characters.
    pub suffix: &'a str,
    /// SHA-256 of the whole token.
    pub sha256: [u8; 32],
    /// The moment from which on it is no longer taken.
    pub expires_at: Option<Millis>,
}

/// The part of a SCIM resource that the views keep, as it is after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScimRequestData<'a> {
    /// The directory.
    pub directory: &'a str,
    /// Its organization.
    pub organization: Option<&'a str>,
    /// The kind of the resource.
    pub kind: ScimKind,
    /// The resource.
    pub id: ScimId,
    /// The living directory user or directory group that it is, if it is one.
    pub object: Option<&'a str>,
    /// False for a user who is inactive.
    pub active: bool,
    /// The fingerprints by which it is found; `None` if the request deleted it.
    pub keys: Option<ScimKeys<'a>>,
}

/// The fingerprints by which a SCIM resource is found. Each field names the text that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScimKeys<'a> {
    /// The `userName` of a user in lower case.
    pub user_name: Option<Fingerprint>,
    /// The `displayName` in lower case.
    pub display_name: Option<Fingerprint>,
    /// The `externalId` as it is.
    pub external_id: Option<Fingerprint>,
    /// Each value of `emails` in lower case.
    pub emails: &'a [[u8; 16]],
}

/// The change of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirectoryChange {
    /// It exists and is active.
    Activated,
    /// It is inactive.
    Deactivated,
    /// It is gone, and all in it.
    Deleted,
}

/// The change of a user or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Created or updated: the snapshot counts from here on.
    Set,
    /// Deleted.
    Deleted,
}

/// A fingerprint of a text that the views filter by but do not keep: the first 16 bytes of its
/// SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 16]);

/// The part of a user's snapshot that the views keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserData<'a> {
    /// The user.
    pub id: &'a str,
    /// Its directory; a deletion and a stand-in may lack it.
    pub directory: Option<&'a str>,
    /// The organization that the snapshot itself carries.
    pub organization: Option<&'a str>,
    /// True if its state is active.
    pub active: bool,
    /// The slugs of the roles that the source gives, each between two of the character U+001F;
    /// empty if none.
    pub roles: &'a str,
    /// Fingerprint of the email as it is compared.
    pub email: Option<Fingerprint>,
    /// Fingerprint of the id at the identity provider.
    pub idp_id: Option<Fingerprint>,
}

/// The part of a group's snapshot that the views keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupData<'a> {
    /// The group.
    pub id: &'a str,
    /// Its name; empty if the snapshot carries none.
    pub name: &'a str,
    /// Its name as rules compare it, if that is another text than `name`.
    pub compared_name: Option<&'a str>,
    /// Its directory; a deletion and a stand-in may lack it.
    pub directory: Option<&'a str>,
    /// The organization that the snapshot itself carries.
    pub organization: Option<&'a str>,
}

/// A membership event with its two snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MembershipData<'a> {
    /// Added, or removed.
    pub added: bool,
    /// The event's directory.
    pub directory: &'a str,
    /// The organization that the event itself carries for its directory.
    pub organization: Option<&'a str>,
    /// The user's end.
    pub user: UserData<'a>,
    /// The group's end.
    pub group: GroupData<'a>,
}

pack_fields!(Fingerprint(bytes));
pack_fields!(ScimId(bits));
pack_variants!(InactiveUsers { Retain = 0, Delete = 1 });
pack_variants!(DirectoryChange { Activated = 0, Deactivated = 1, Deleted = 2 });
pack_variants!(ScimKind { User = 0, Group = 1 });
pack_variants!(Deactivation { Delete = 0, Update = 1 });
