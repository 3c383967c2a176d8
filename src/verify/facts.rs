//! Facts: the statements of a body, in the form that the log stores and in the form that the fold
//! takes.

use std::borrow::Cow;

use rollcall_projections::{
    CLOCK_AHEAD_MS, Change, Deactivation, DirectoryChange, Entry, EventType, Fact, Field,
    Fingerprint, GroupData, InactiveUsers, Mapping, MembershipData, Millis, OWN_PREFIX, Provenance,
    Reason, RecordStatus, ScimId, ScimKeys, ScimKind, ScimRequestData, Seq, TokenData, UserData,
};

use super::Source;
use super::mapping::parse_recorded_mapping;

/// The facts that the fold needs from a body. The log caches them with the body, under
/// [`FACTS_VERSION`](super::FACTS_VERSION).
#[derive(Debug, PartialEq, Eq, bincode::Encode, bincode::BorrowDecode)]
pub struct Facts<'a> {
    /// The time at the source; `None` if neither body nor signature has one.
    pub occurred_at: Option<Millis>,
    /// The source's `data.updated_at`.
    pub updated_at: Option<Millis>,
    /// When the source was asked, of an observation.
    pub observed_at: Option<Millis>,
    /// The directories that the body's `previous_attributes` name.
    pub former_directories: Vec<Cow<'a, str>>,
    /// The organizations that the body's `previous_attributes` name.
    pub former_organizations: Vec<Cow<'a, str>>,
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
    ObservedMembership {
        present: bool,
        directory: Cow<'a, str>,
        user: Cow<'a, str>,
        group: Cow<'a, str>,
    },
    Reconciled {
        started_at: Millis,
        clean: Vec<Cow<'a, str>>,
    },
    Link {
        user: Cow<'a, str>,
        directory: Cow<'a, str>,
        app_user: Option<Cow<'a, str>>,
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
    HostedDirectory {
        id: Cow<'a, str>,
        organization: Option<Cow<'a, str>>,
        deactivation: u8,
    },
    DirectoryToken {
        directory: Cow<'a, str>,
        id: Cow<'a, str>,
        created: Option<StoredToken<'a>>,
    },
    ScimRequest(Box<StoredRequest<'a>>),
    ScimMembers {
        directory: Cow<'a, str>,
        group: u128,
        added: Vec<u128>,
        removed: Vec<u128>,
    },
}

/// [`TokenData`], in a form that can be stored.
#[derive(Debug, PartialEq, Eq, bincode::Encode, bincode::BorrowDecode)]
#[allow(missing_docs, reason = "the fields are those of TokenData")]
pub struct StoredToken<'a> {
    pub suffix: Cow<'a, str>,
    pub sha256: [u8; 32],
    pub expires_at: Option<Millis>,
}

/// [`ScimRequestData`], in a form that can be stored.
#[derive(Debug, PartialEq, Eq, bincode::Encode, bincode::BorrowDecode)]
#[allow(missing_docs, reason = "the fields are those of ScimRequestData")]
pub struct StoredRequest<'a> {
    pub directory: Cow<'a, str>,
    pub organization: Option<Cow<'a, str>>,
    pub kind: u8,
    pub id: u128,
    pub object: Option<Cow<'a, str>>,
    pub active: bool,
    pub keys: Option<StoredKeys>,
}

/// [`ScimKeys`], in a form that can be stored.
#[derive(Debug, PartialEq, Eq, bincode::Encode, bincode::Decode)]
#[allow(missing_docs, reason = "the fields are those of ScimKeys")]
pub struct StoredKeys {
    pub user_name: Option<[u8; 16]>,
    pub display_name: Option<[u8; 16]>,
    pub external_id: Option<[u8; 16]>,
    pub emails: Vec<[u8; 16]>,
}

/// The reason why a body cannot be used, in the codes in which [`Statement::Unusable`] is stored.
/// They never change their meaning.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    bincode::Encode,
    bincode::Decode,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Unusable {
    reason: u8,
    field: u8,
}

impl Unusable {
    /// Returns the reason.
    pub fn reason(self) -> Reason {
        decode_reason(self.reason, self.field)
    }
}

/// The reasons in the order of their stored codes, as functions of the field.
const REASONS: [fn(Field) -> Reason; 6] = [
    |_| Reason::NotAnEvent,
    |_| Reason::ReservedType,
    |_| Reason::UnknownType,
    Reason::MissingField,
    Reason::KindMismatch,
    |_| Reason::TooDeep,
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
    pub compared_name: Option<Cow<'a, str>>,
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
    bincode::config::standard().with_limit::<{ 16 << 20 }>()
}

impl<'a> Facts<'a> {
    /// Encodes the stored form.
    pub fn encode(&self) -> Vec<u8> {
        // Encoding into a vector fails only at the limit, which a body of 12,000,000 bytes cannot reach.
        bincode::encode_to_vec(self, encoding()).unwrap_or_default()
    }

    /// Decodes the stored form; `None` if `bytes` are not one.
    pub fn decode(bytes: &'a [u8]) -> Option<Facts<'a>> {
        let (facts, read) = bincode::borrow_decode_from_slice(bytes, encoding()).ok()?;
        (read == bytes.len()).then_some(facts)
    }

    /// Returns why the body cannot be used, if it cannot.
    pub fn unusable(&self) -> Option<Unusable> {
        match self.statement {
            Statement::Unusable { reason, field } => Some(Unusable { reason, field }),
            _ => None,
        }
    }

    /// Makes the fold's entry for a record with these facts, which were read when it was recorded.
    /// `names` are its event id and its type.
    pub fn entry<'e>(
        &'e self,
        seq: Seq,
        recorded_at: Millis,
        source: Source,
        names: [Option<&'e str>; 2],
        status: RecordStatus,
    ) -> Entry<'e> {
        let [event_id, event_type] = names;
        let stated = self.occurred_at.unwrap_or(recorded_at);
        let (occurred_at, claimed_at) = bounded(stated, recorded_at, event_type);
        Entry {
            seq,
            recorded_at,
            occurred_at,
            claimed_at,
            updated_at: self.updated_at,
            observed_at: self.observed_at,
            event_id: event_id.unwrap_or(""),
            event_type: event_type.unwrap_or(""),
            status,
            former_directories: &self.former_directories,
            former_organizations: &self.former_organizations,
            unusable_at_first: self.unusable().map(Unusable::reason),
            provenance: provenance(source, event_type),
            fact: self.statement.fact(),
        }
    }
}

/// Returns how a record came. What a source answers when it is asked is Rollcall's own record, and
/// the source's statement.
fn provenance(source: Source, event_type: Option<&str>) -> Provenance {
    match source {
        Source::Workos => Provenance::Source,
        Source::Scim => Provenance::Scim,
        Source::Rollcall => match event_type.and_then(EventType::parse) {
            Some(known) if known.is_observation() => Provenance::Source,
            _ => Provenance::Operator,
        },
    }
}

/// Bounds a stated time by the recording. Returns the time at which the event occurs, and the
/// stated one if it is too far ahead to count.
///
/// Rollcall dates an operator's acts itself: the deletion of a directory 1 ms after the last event
/// of it, which is no later than the bound. An older version may have dated it after an event that
/// was further ahead; that event is bounded now, and so is the deletion.
fn bounded(
    stated: Millis,
    recorded_at: Millis,
    event_type: Option<&str>,
) -> (Millis, Option<Millis>) {
    let latest = recorded_at.saturating_add(CLOCK_AHEAD_MS);
    if event_type.is_some_and(|name| name.starts_with(OWN_PREFIX)) {
        (stated.min(latest.saturating_add(1)), None)
    } else if stated > latest {
        (recorded_at, Some(stated))
    } else {
        (stated, None)
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
            Statement::ObservedMembership { present, directory, user, group } => {
                Fact::ObservedMembership { present: *present, directory, user, group }
            }
            Statement::Reconciled { started_at, clean } => {
                Fact::Reconciled { started_at: *started_at, clean }
            }
            Statement::Link { user, directory, app_user } => {
                Fact::Link { user, directory, app_user: app_user.as_deref() }
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
            Statement::HostedDirectory { id, organization, deactivation } => {
                let deactivation = Deactivation::ALL.get(usize::from(*deactivation)).copied();
                Fact::HostedDirectory {
                    id,
                    organization: organization.as_deref(),
                    deactivation: deactivation.unwrap_or_default(),
                }
            }
            Statement::DirectoryToken { directory, id, created } => Fact::DirectoryToken {
                directory,
                id,
                created: created.as_ref().map(StoredToken::data),
            },
            Statement::ScimRequest(request) => Fact::ScimRequest(request.data()),
            Statement::ScimMembers { directory, group, added, removed } => {
                Fact::ScimMembers { directory, group: ScimId(*group), added, removed }
            }
            Statement::Unusable { reason, field } => Fact::Unusable(decode_reason(*reason, *field)),
        }
    }
}

impl StoredToken<'_> {
    fn data(&self) -> TokenData<'_> {
        let StoredToken { suffix, sha256, expires_at } = self;
        TokenData { suffix, sha256: *sha256, expires_at: *expires_at }
    }
}

impl StoredRequest<'_> {
    fn data(&self) -> ScimRequestData<'_> {
        ScimRequestData {
            directory: &self.directory,
            organization: self.organization.as_deref(),
            kind: ScimKind::ALL.get(usize::from(self.kind)).copied().unwrap_or(ScimKind::User),
            id: ScimId(self.id),
            object: self.object.as_deref(),
            active: self.active,
            keys: self.keys.as_ref().map(StoredKeys::data),
        }
    }
}

impl StoredKeys {
    fn data(&self) -> ScimKeys<'_> {
        ScimKeys {
            user_name: self.user_name.map(Fingerprint),
            display_name: self.display_name.map(Fingerprint),
            external_id: self.external_id.map(Fingerprint),
            emails: &self.emails,
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
    parse_recorded_mapping(&serde_json::from_str(text).ok()?)
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
            compared_name: self.compared_name.as_deref(),
            directory: self.directory.as_deref(),
            organization: self.organization.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns when an event occurs that states 1000 s and is recorded at `recorded_at`, and what
    /// it claims in vain.
    fn occurs(event_type: &str, recorded_at: Millis) -> (Millis, Option<Millis>) {
        let statement = Statement::Unrelated { organization: None };
        let facts = Facts {
            occurred_at: Some(1_000_000),
            updated_at: None,
            observed_at: None,
            former_directories: Vec::new(),
            former_organizations: Vec::new(),
            statement,
        };
        let names = [None, Some(event_type)];
        let entry = facts.entry(1, recorded_at, Source::Workos, names, RecordStatus::Counts);
        (entry.occurred_at, entry.claimed_at)
    }

    #[test]
    fn a_source_dates_an_event_at_most_three_minutes_ahead() {
        assert_eq!(occurs("dsync.user.created", 2_000_000), (1_000_000, None));
        assert_eq!(occurs("dsync.user.created", 820_000), (1_000_000, None));
        assert_eq!(occurs("dsync.user.created", 819_999), (819_999, Some(1_000_000)));
        assert_eq!(occurs("x.y", 0), (0, Some(1_000_000)));
        assert_eq!(occurs("x.y", i64::MIN), (i64::MIN, Some(1_000_000)));
    }

    #[test]
    fn an_operators_act_occurs_when_it_says_but_just_after_what_a_source_may_date() {
        assert_eq!(occurs("rollcall.directory.deleted", 819_999), (1_000_000, None));
        assert_eq!(occurs("rollcall.directory.deleted", 819_998), (999_999, None));
    }
}
