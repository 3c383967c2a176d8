//! Facts: the statements of a body, in the form that the log stores and in the form that the fold
//! takes.

use std::borrow::Cow;

use rollcall_projections::{
    Change, DirectoryChange, Entry, Fact, Field, Fingerprint, GroupData, InactiveUsers, Mapping,
    MembershipData, Millis, Reason, RecordStatus, Seq, UserData,
};

use super::parse_mapping;

/// The facts that the fold needs from a body. The log caches them with the body, under
/// [`FACTS_VERSION`](super::FACTS_VERSION).
#[derive(Debug, PartialEq, Eq, bincode::Encode, bincode::BorrowDecode)]
pub struct Facts<'a> {
    /// The time at the source; `None` if neither body nor signature has one.
    pub occurred_at: Option<Millis>,
    /// The source's `data.updated_at`.
    pub updated_at: Option<Millis>,
    /// The statement about a directory, user, group or membership.
    pub statement: Statement<'a>,
}

/// [`Fact`], in a form that can be stored.
#[derive(Debug, PartialEq, Eq, bincode::Encode, bincode::BorrowDecode)]
#[allow(missing_docs, reason = "the fields are those of Fact")]
pub enum Statement<'a> {
    Directory {
        change: u8,
        id: Cow<'a, str>,
        organization: Option<Cow<'a, str>>,
        name: Cow<'a, str>,
        domain: Option<Cow<'a, str>>,
    },
    User {
        deleted: bool,
        user: StoredUser<'a>,
    },
    Group {
        deleted: bool,
        group: StoredGroup<'a>,
    },
    Membership {
        added: bool,
        directory: Cow<'a, str>,
        organization: Option<Cow<'a, str>>,
        user: StoredUser<'a>,
        group: StoredGroup<'a>,
    },
    Unrelated {
        organization: Option<Cow<'a, str>>,
    },
    Unusable {
        reason: u8,
        field: u8,
    },
    Policy {
        inactive_users: u8,
        effective_from: Millis,
    },
    Mapping {
        mapping: Cow<'a, str>,
        effective_from: Millis,
    },
}

/// The reasons in the order of their stored codes, as functions of the field.
const REASONS: [fn(Field) -> Reason; 5] = [
    |_| Reason::NotAnEvent,
    |_| Reason::ReservedType,
    |_| Reason::UnknownType,
    Reason::MissingField,
    Reason::KindMismatch,
];

impl From<Reason> for Statement<'_> {
    fn from(reason: Reason) -> Self {
        let field = match reason {
            Reason::MissingField(field) | Reason::KindMismatch(field) => field,
            _ => Field::Data,
        };
        let reason = REASONS.iter().position(|make| make(field) == reason);
        let field = Field::ALL.iter().position(|other| *other == field);
        Statement::Unusable { reason: reason.unwrap_or(0) as u8, field: field.unwrap_or(0) as u8 }
    }
}

/// [`UserData`], in a form that can be stored.
#[derive(Debug, PartialEq, Eq, bincode::Encode, bincode::BorrowDecode)]
#[allow(missing_docs, reason = "the fields are those of UserData")]
pub struct StoredUser<'a> {
    pub id: Cow<'a, str>,
    pub directory: Option<Cow<'a, str>>,
    pub organization: Option<Cow<'a, str>>,
    pub active: bool,
    pub roles: Cow<'a, str>,
    pub email: Option<[u8; 16]>,
    pub idp_id: Option<[u8; 16]>,
}

/// [`GroupData`], in a form that can be stored.
#[derive(Debug, PartialEq, Eq, bincode::Encode, bincode::BorrowDecode)]
#[allow(missing_docs, reason = "the fields are those of GroupData")]
pub struct StoredGroup<'a> {
    pub id: Cow<'a, str>,
    pub name: Cow<'a, str>,
    pub directory: Option<Cow<'a, str>>,
    pub organization: Option<Cow<'a, str>>,
}

/// Returns the change with a stored code; an activation for an unknown code.
fn directory_change(code: u8) -> DirectoryChange {
    match code {
        1 => DirectoryChange::Deactivated,
        2 => DirectoryChange::Deleted,
        _ => DirectoryChange::Activated,
    }
}

/// Returns the code under which a change is stored.
pub(super) fn directory_code(change: DirectoryChange) -> u8 {
    match change {
        DirectoryChange::Activated => 0,
        DirectoryChange::Deactivated => 1,
        DirectoryChange::Deleted => 2,
    }
}

fn encoding() -> impl bincode::config::Config {
    bincode::config::standard().with_limit::<{ 4 << 20 }>()
}

impl<'a> Facts<'a> {
    /// Encodes the stored form.
    pub fn encode(&self) -> Vec<u8> {
        // Encoding into a vector fails only at the limit, which a body of 1 MiB cannot reach.
        bincode::encode_to_vec(self, encoding()).unwrap_or_default()
    }

    /// Decodes the stored form; `None` if `bytes` are not one.
    pub fn decode(bytes: &'a [u8]) -> Option<Facts<'a>> {
        let (facts, read) = bincode::borrow_decode_from_slice(bytes, encoding()).ok()?;
        (read == bytes.len()).then_some(facts)
    }

    /// Makes the fold's entry for a record with these facts.
    pub fn entry<'e>(
        &'e self,
        seq: Seq,
        recorded_at: Millis,
        event_id: Option<&'e str>,
        event_type: Option<&'e str>,
        status: RecordStatus,
    ) -> Entry<'e> {
        Entry {
            seq,
            recorded_at,
            occurred_at: self.occurred_at.unwrap_or(recorded_at),
            updated_at: self.updated_at,
            event_id: event_id.unwrap_or(""),
            event_type: event_type.unwrap_or(""),
            status,
            fact: self.statement.fact(),
        }
    }
}

impl Statement<'_> {
    /// Returns the statement in the fold's form.
    fn fact(&self) -> Fact<'_> {
        match self {
            Statement::Directory { change, id, organization, name, domain } => Fact::Directory {
                change: directory_change(*change),
                id,
                organization: organization.as_deref(),
                name,
                domain: domain.as_deref(),
            },
            Statement::User { deleted, user } => Fact::User(change(*deleted), user.data()),
            Statement::Group { deleted, group } => Fact::Group(change(*deleted), group.data()),
            Statement::Membership { added, directory, organization, user, group } => {
                Fact::Membership(MembershipData {
                    added: *added,
                    directory,
                    organization: organization.as_deref(),
                    user: user.data(),
                    group: group.data(),
                })
            }
            Statement::Unrelated { organization } => {
                Fact::Unrelated { organization: organization.as_deref() }
            }
            Statement::Policy { inactive_users, effective_from } => Fact::Policy {
                inactive_users: treatment(*inactive_users),
                effective_from: *effective_from,
            },
            Statement::Mapping { mapping, effective_from } => match read_mapping(mapping) {
                Some(mapping) => Fact::Mapping { mapping, effective_from: *effective_from },
                None => Fact::Unusable(Reason::UnknownType),
            },
            Statement::Unusable { reason, field } => Fact::Unusable(decode_reason(*reason, *field)),
        }
    }
}

fn change(deleted: bool) -> Change {
    if deleted { Change::Deleted } else { Change::Set }
}

/// Returns the treatment of inactive users with a stored code; the default for an unknown code.
fn treatment(code: u8) -> InactiveUsers {
    InactiveUsers::ALL.get(usize::from(code)).copied().unwrap_or_default()
}

fn read_mapping(text: &str) -> Option<Mapping> {
    parse_mapping(&serde_json::from_str(text).ok()?).ok()
}

/// Returns the reason with a stored code, and the field that it names.
fn decode_reason(reason: u8, field: u8) -> Reason {
    let field = Field::ALL.get(usize::from(field)).copied().unwrap_or(Field::Data);
    REASONS.get(usize::from(reason)).map_or(Reason::NotAnEvent, |make| make(field))
}

impl StoredUser<'_> {
    fn data(&self) -> UserData<'_> {
        UserData {
            id: &self.id,
            directory: self.directory.as_deref(),
            organization: self.organization.as_deref(),
            active: self.active,
            roles: &self.roles,
            email: self.email.map(Fingerprint),
            idp_id: self.idp_id.map(Fingerprint),
        }
    }
}

impl StoredGroup<'_> {
    fn data(&self) -> GroupData<'_> {
        GroupData {
            id: &self.id,
            name: &self.name,
            directory: self.directory.as_deref(),
            organization: self.organization.as_deref(),
        }
    }
}
