//! Extraction: reads from a body the event's id, type and time, and the facts that the fold needs.

use std::borrow::Cow;

use rollcall_projections::{
    Change, DirectoryChange, Entry, EventType, Fact, Field, Fingerprint, GroupData, InactiveUsers,
    MembershipData, Millis, Reason, RecordStatus, Seq, UserData,
};
use serde_json::value::RawValue;

use super::{Proof, parse_mapping};
use crate::hashes::fingerprint;
use crate::{json, time};

/// The longest valid id, in bytes.
const ID_BYTES_MAX: usize = 255;

/// The times that are believed in a ULID: the years 2015 to 2099.
const ULID_MS: std::ops::Range<u64> = 1_420_070_400_000..4_102_444_800_000;

/// The result of reading a body.
pub struct Extracted<'a> {
    /// The source's id: 1 to 255 bytes without control characters, not beginning with `op_`.
    /// `None`: the body is not an event.
    pub event_id: Option<Cow<'a, str>>,
    /// The event's type, if the body has one.
    pub event_type: Option<Cow<'a, str>>,
    /// The facts that it states.
    pub facts: Facts<'a>,
}

/// The facts that the fold needs from a body. The log caches them with the body, under
/// [`FACTS_VERSION`].
#[derive(Debug, PartialEq, Eq, bincode::Encode, bincode::BorrowDecode)]
pub struct Facts<'a> {
    /// The time at the source; `None` if neither body nor signature has one.
    pub occurred_at: Option<Millis>,
    /// The source's `data.updated_at`.
    pub updated_at: Option<Millis>,
    /// The statement about a directory, user, group or membership.
    pub statement: Statement<'a>,
}

/// The version of stored facts. Raise it whenever the result of [`extract`] for some body changes,
/// or its encoding: older blocks are then extracted again.
pub const FACTS_VERSION: u16 = 3;

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
        let code = |position: Option<usize>| position.unwrap_or(0) as u8;
        Statement::Unusable {
            reason: code(REASONS.iter().position(|make| make(field) == reason)),
            field: code(Field::ALL.iter().position(|other| *other == field)),
        }
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
fn directory_code(change: DirectoryChange) -> u8 {
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
            fact: self.fact(),
        }
    }

    fn fact(&self) -> Fact<'_> {
        let change = |deleted: bool| if deleted { Change::Deleted } else { Change::Set };
        match &self.statement {
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
                inactive_users: InactiveUsers::ALL
                    .get(usize::from(*inactive_users))
                    .copied()
                    .unwrap_or_default(),
                effective_from: *effective_from,
            },
            Statement::Mapping { mapping, effective_from } => {
                let mapping = serde_json::from_str(mapping)
                    .ok()
                    .and_then(|mapping| parse_mapping(&mapping).ok());
                match mapping {
                    Some(mapping) => Fact::Mapping { mapping, effective_from: *effective_from },
                    None => Fact::Unusable(Reason::UnknownType),
                }
            }
            Statement::Unusable { reason, field } => {
                let field = Field::ALL.get(usize::from(*field)).copied().unwrap_or(Field::Data);
                Fact::Unusable(
                    REASONS
                        .get(usize::from(*reason))
                        .map_or(Reason::NotAnEvent, |make| make(field)),
                )
            }
        }
    }
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

/// Reads a body according to its proof.
pub fn extract_from<'a>(proof: &Proof, body: &'a [u8]) -> Extracted<'a> {
    match proof {
        Proof::Webhook { t, .. } => extract(body, Some(*t)),
        Proof::Operator { .. } => extract_act(body),
    }
}

/// Reads the body of an operator's act, which Rollcall wrote itself.
fn extract_act(body: &[u8]) -> Extracted<'_> {
    let envelope = std::str::from_utf8(body)
        .ok()
        .and_then(|text| json::present_fields(text, ["id", "event", "data", "created_at"]));
    let [event_id, event, data, created_at] = envelope.unwrap_or_default();
    let event_type = json::string(event);
    let occurred_at = moment(created_at);
    let names = ["id", "inactive_users", "mapping", "effective_from"];
    let [id, inactive_users, mapping, effective_from] =
        json::present_fields_of(data, names).unwrap_or_default();
    let statement = match event_type.as_deref().and_then(EventType::parse) {
        Some(EventType::MappingSet) => {
            mapping.zip(moment(effective_from)).map(|(mapping, effective_from)| {
                Statement::Mapping { mapping: mapping.get().into(), effective_from }
            })
        }
        Some(EventType::PolicySet) => policy(inactive_users, effective_from),
        Some(EventType::OperatorDirectoryDeleted) => {
            json::string(id).map(|id| Statement::Directory {
                change: directory_code(DirectoryChange::Deleted),
                id,
                organization: None,
                name: Cow::Borrowed(""),
                domain: None,
            })
        }
        // The key of the log concerns no directory.
        Some(EventType::CheckpointKeyChanged) => Some(Statement::Unrelated { organization: None }),
        Some(
            EventType::DirectoryActivated
            | EventType::DirectoryDeactivated
            | EventType::DirectoryDeleted
            | EventType::UserCreated
            | EventType::UserUpdated
            | EventType::UserDeleted
            | EventType::GroupCreated
            | EventType::GroupUpdated
            | EventType::GroupDeleted
            | EventType::MemberAdded
            | EventType::MemberRemoved
            | EventType::TokenCreated
            | EventType::TokenRevoked,
        )
        | None => None,
    };
    let statement = statement.unwrap_or_else(|| Reason::UnknownType.into());
    Extracted {
        facts: Facts { occurred_at, updated_at: None, statement },
        event_id: json::string(event_id),
        event_type,
    }
}

fn policy<'a>(
    inactive_users: Option<&RawValue>,
    effective_from: Option<&RawValue>,
) -> Option<Statement<'a>> {
    let word = json::string(inactive_users)?;
    let inactive_users =
        InactiveUsers::ALL.iter().position(|treatment| treatment.word() == word)? as u8;
    Some(Statement::Policy { inactive_users, effective_from: moment(effective_from)? })
}

/// Reads a body; `signed_at` is the time of its signature, if it has one. Never fails: the
/// statement of an unusable body is the reason.
pub fn extract(body: &[u8], signed_at: Option<Millis>) -> Extracted<'_> {
    let not_an_event = |event_type| Extracted {
        event_id: None,
        event_type,
        facts: Facts {
            occurred_at: signed_at,
            updated_at: None,
            statement: Reason::NotAnEvent.into(),
        },
    };
    let envelope = std::str::from_utf8(body)
        .ok()
        .and_then(|text| json::present_fields(text, ["id", "event", "data", "created_at"]));
    let Some([id, event, data, created_at]) = envelope else { return not_an_event(None) };
    let event_type = json::string(event).filter(|event| !event.is_empty());
    let (Some(event_id), Some(event)) =
        (json::string(id).filter(|id| is_event_id(id)), &event_type)
    else {
        return not_an_event(event_type);
    };
    let (statement, updated_at) = statement(event, data);
    let closing = matches!(
        &statement,
        Statement::Directory { change: 1.., .. }
            | Statement::User { deleted: true, .. }
            | Statement::Group { deleted: true, .. }
    );
    let occurred_at = moment(created_at)
        .or_else(|| ulid_ms(&event_id))
        .or(updated_at.filter(|_| !closing))
        .or(signed_at);
    Extracted {
        facts: Facts { occurred_at, updated_at, statement },
        event_id: Some(event_id),
        event_type,
    }
}

/// Returns true if two bodies under one event id are duplicates: equal bytes, or equal `event`,
/// `data` and `created_at` as JSON values.
pub fn identical(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    let parts =
        |body| json::fields(std::str::from_utf8(body).ok()?, ["event", "data", "created_at"]);
    let (Some(a), Some(b)) = (parts(a), parts(b)) else { return false };
    a.into_iter().zip(b).all(|(a, b)| json::equal(a, b))
}

fn is_event_id(id: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&id.len())
        && !id.chars().any(char::is_control)
        && !id.starts_with("op_")
}

fn moment(value: Option<&RawValue>) -> Option<Millis> {
    time::parse(&json::string(value)?)
}

/// Returns the time in an id that ends in a ULID (<https://github.com/ulid/spec>): 48 bits of
/// milliseconds in its first ten digits.
fn ulid_ms(event_id: &str) -> Option<Millis> {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let ulid = event_id.rsplit('_').next()?.as_bytes();
    let mut time = 0u64;
    for (at, byte) in ulid.iter().enumerate() {
        let digit = DIGITS.iter().position(|digit| *digit == byte.to_ascii_uppercase())?;
        if at < 10 {
            time = time << 5 | digit as u64;
        }
    }
    let whole = ulid.len() == 26 && ulid.first().is_some_and(|first| *first <= b'7');
    Millis::try_from(time).ok().filter(|_| whole && ULID_MS.contains(&time))
}

fn statement<'a>(event: &str, data: Option<&'a RawValue>) -> (Statement<'a>, Option<Millis>) {
    let stated = match EventType::parse(event) {
        Some(known) => stated_by(known, data),
        None if event.starts_with("rollcall.") => Err(Reason::ReservedType),
        None if event.starts_with("dsync.token.") || !event.starts_with("dsync.") => {
            Ok(unrelated(data))
        }
        None => Err(Reason::UnknownType),
    };
    stated.unwrap_or_else(|reason| (reason.into(), None))
}

/// Reads the data of an event that the source sent.
fn stated_by(event_type: EventType, data: Option<&RawValue>) -> Stated<'_> {
    match event_type {
        EventType::DirectoryActivated => directory(data, DirectoryChange::Activated),
        EventType::DirectoryDeactivated => directory(data, DirectoryChange::Deactivated),
        EventType::DirectoryDeleted => directory(data, DirectoryChange::Deleted),
        EventType::UserCreated | EventType::UserUpdated => user_event(data, false),
        EventType::UserDeleted => user_event(data, true),
        EventType::GroupCreated | EventType::GroupUpdated => group_event(data, false),
        EventType::GroupDeleted => group_event(data, true),
        EventType::MemberAdded => membership(data, true),
        EventType::MemberRemoved => membership(data, false),
        EventType::TokenCreated | EventType::TokenRevoked => Ok(unrelated(data)),
        EventType::MappingSet
        | EventType::PolicySet
        | EventType::OperatorDirectoryDeleted
        | EventType::CheckpointKeyChanged => Err(Reason::ReservedType),
    }
}

/// Reads the data of an event that is kept and counted only.
fn unrelated(data: Option<&RawValue>) -> (Statement<'_>, Option<Millis>) {
    let [organization_id, updated_at] =
        json::present_fields_of(data, ["organization_id", "updated_at"]).unwrap_or_default();
    let statement = Statement::Unrelated { organization: organization(organization_id) };
    (statement, moment(updated_at))
}

/// A statement and `data.updated_at`, or the reason for the quarantine.
type Stated<'a> = Result<(Statement<'a>, Option<Millis>), Reason>;

/// Returns the value as an id: a string of 1 to 255 bytes.
fn id<'a>(value: Option<&'a RawValue>) -> Option<Cow<'a, str>> {
    json::string(value).filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()))
}

fn organization<'a>(value: Option<&'a RawValue>) -> Option<Cow<'a, str>> {
    json::string(value).filter(|organization| !organization.is_empty())
}

/// The three kinds of thing that have ids; the prefix of an id and `object` mark them.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Directory,
    User,
    Group,
}

impl Kind {
    fn object(self) -> &'static str {
        match self {
            Kind::Directory => "directory",
            Kind::User => "directory_user",
            Kind::Group => "directory_group",
        }
    }

    /// Refuses an id whose prefix marks another kind, and an `object` that names one.
    fn check(self, id: &str, object: Option<&RawValue>, field: Field) -> Result<(), Reason> {
        let foreign = [(Kind::User, "directory_user_"), (Kind::Group, "directory_group_")]
            .into_iter()
            .any(|(kind, prefix)| kind != self && id.starts_with(prefix));
        let misnamed = json::string(object).is_some_and(|object| object != self.object());
        if foreign || misnamed { Err(Reason::KindMismatch(field)) } else { Ok(()) }
    }
}

fn directory(data: Option<&RawValue>, change: DirectoryChange) -> Stated<'_> {
    let names = ["id", "object", "organization_id", "name", "domain", "domains", "updated_at"];
    let Some([id_value, object, organization_id, name, domain, domains, updated_at]) =
        json::present_fields_of(data, names)
    else {
        return Err(Reason::MissingField(Field::Data));
    };
    let id = id(id_value).ok_or(Reason::MissingField(Field::DataId))?;
    Kind::Directory.check(&id, object, Field::DataId)?;
    let statement = Statement::Directory {
        change: directory_code(change),
        id,
        organization: organization(organization_id),
        name: json::string(name).unwrap_or_default(),
        domain: first_domain(domain, domains),
    };
    Ok((statement, moment(updated_at)))
}

/// Returns a directory's domain: `domain`, else the first of `domains`.
pub(crate) fn first_domain<'a>(
    domain: Option<&'a RawValue>,
    domains: Option<&'a RawValue>,
) -> Option<Cow<'a, str>> {
    let named = |value| json::string(value).filter(|domain| !domain.is_empty());
    named(domain).or_else(|| {
        json::array(domains)?.into_iter().find_map(|element| {
            let [domain] = json::present_fields(element.get(), ["domain"])?;
            named(domain)
        })
    })
}

/// The user or group of an event, read but not yet checked.
struct End<'a, T> {
    data: T,
    object: Option<&'a RawValue>,
    updated_at: Option<Millis>,
}

fn user<'a>(
    data: Option<&'a RawValue>,
    whole: Field,
    id_field: Field,
) -> Result<End<'a, StoredUser<'a>>, Reason> {
    let names = [
        "id",
        "object",
        "directory_id",
        "organization_id",
        "state",
        "email",
        "emails",
        "idp_id",
        "role",
        "roles",
        "updated_at",
    ];
    let Some(
        [
            id_value,
            object,
            directory_id,
            organization_id,
            state,
            email,
            emails,
            idp_id,
            role,
            roles,
            updated_at,
        ],
    ) = json::present_fields_of(data, names)
    else {
        return Err(Reason::MissingField(whole));
    };
    let data = StoredUser {
        id: id(id_value).ok_or(Reason::MissingField(id_field))?,
        directory: id(directory_id),
        organization: organization(organization_id),
        active: is_active(state),
        roles: slugs(role, roles).into(),
        email: shown_email(email, emails).map(|email| email_fingerprint(&email).0),
        idp_id: json::string(idp_id).filter(|id| !id.is_empty()).map(|id| fingerprint(&id).0),
    };
    Ok(End { data, object, updated_at: moment(updated_at) })
}

fn group<'a>(
    data: Option<&'a RawValue>,
    whole: Field,
    id_field: Field,
) -> Result<End<'a, StoredGroup<'a>>, Reason> {
    let names = ["id", "name", "object", "directory_id", "organization_id", "updated_at"];
    let Some([id_value, name, object, directory_id, organization_id, updated_at]) =
        json::present_fields_of(data, names)
    else {
        return Err(Reason::MissingField(whole));
    };
    let data = StoredGroup {
        id: id(id_value).ok_or(Reason::MissingField(id_field))?,
        name: json::string(name).unwrap_or_default(),
        directory: id(directory_id),
        organization: organization(organization_id),
    };
    Ok(End { data, object, updated_at: moment(updated_at) })
}

fn user_event<'a>(data: Option<&'a RawValue>, deleted: bool) -> Stated<'a> {
    let End { data: user, object, updated_at } = user(data, Field::Data, Field::DataId)?;
    check_subject(deleted, user.directory.as_deref(), Kind::User, &user.id, object)?;
    Ok((Statement::User { deleted, user }, updated_at))
}

fn group_event<'a>(data: Option<&'a RawValue>, deleted: bool) -> Stated<'a> {
    let End { data: group, object, updated_at } = group(data, Field::Data, Field::DataId)?;
    check_subject(deleted, group.directory.as_deref(), Kind::Group, &group.id, object)?;
    Ok((Statement::Group { deleted, group }, updated_at))
}

/// Checks a user or group: unless deleted it needs a directory, and neither id may be of another
/// kind.
fn check_subject(
    deleted: bool,
    directory: Option<&str>,
    kind: Kind,
    id: &str,
    object: Option<&RawValue>,
) -> Result<(), Reason> {
    if directory.is_none() && !deleted {
        return Err(Reason::MissingField(Field::DataDirectoryId));
    }
    kind.check(id, object, Field::DataId)?;
    directory
        .map_or(Ok(()), |directory| Kind::Directory.check(directory, None, Field::DataDirectoryId))
}

fn membership<'a>(data: Option<&'a RawValue>, added: bool) -> Stated<'a> {
    let names = ["user", "group", "directory_id", "organization_id"];
    let Some([user_value, group_value, directory_id, organization_id]) =
        json::present_fields_of(data, names)
    else {
        return Err(Reason::MissingField(Field::Data));
    };
    let End { data: user, object: user_object, .. } =
        user(user_value, Field::DataUser, Field::DataUserId)?;
    let End { data: group, object: group_object, .. } =
        group(group_value, Field::DataGroup, Field::DataGroupId)?;
    let own = id(directory_id);
    let directory =
        own.clone().or_else(|| group.directory.clone()).or_else(|| user.directory.clone());
    let directory = directory.ok_or(Reason::MissingField(Field::DataDirectoryId))?;
    Kind::User.check(&user.id, user_object, Field::DataUserId)?;
    Kind::Group.check(&group.id, group_object, Field::DataGroupId)?;
    let directories = [
        (own.as_deref(), Field::DataDirectoryId),
        (group.directory.as_deref(), Field::DataGroupDirectoryId),
        (user.directory.as_deref(), Field::DataUserDirectoryId),
    ];
    for (directory, field) in directories {
        directory.map_or(Ok(()), |directory| Kind::Directory.check(directory, None, field))?;
    }
    Ok((
        Statement::Membership {
            added,
            directory,
            organization: organization(organization_id),
            user,
            group,
        },
        None,
    ))
}

/// Returns the roles of a snapshot in the form of [`UserData`].
fn slugs(role: Option<&RawValue>, roles: Option<&RawValue>) -> String {
    let mut out = String::new();
    for role in role.into_iter().chain(json::array(roles).unwrap_or_default()) {
        let Some(slug) =
            json::present_fields(role.get(), ["slug"]).and_then(|[slug]| json::string(slug))
        else {
            continue;
        };
        if out.is_empty() {
            out.push('\u{1f}');
        }
        out.push_str(&slug);
        out.push('\u{1f}');
    }
    out
}

/// Returns true for the `state` of an active user: `active`, or absent.
pub(crate) fn is_active(state: Option<&RawValue>) -> bool {
    json::present(state).is_none() || json::string(state).is_some_and(|state| state == "active")
}

/// Returns the email that a user shows: `email` unless it is absent, else the primary of `emails`,
/// else the first.
pub(crate) fn shown_email<'a>(
    email: Option<&'a RawValue>,
    emails: Option<&'a RawValue>,
) -> Option<Cow<'a, str>> {
    if json::present(email).is_some() {
        return json::string(email);
    }
    // An array with other elements than objects is not a list of addresses.
    let addresses: Vec<_> = json::array(emails)?
        .into_iter()
        .map(|element| json::present_fields(element.get(), ["primary", "value"]))
        .collect::<Option<_>>()?;
    let primary = addresses
        .iter()
        .find(|[primary, _]| primary.is_some_and(|primary| primary.get() == "true"));
    let [_, value] = *primary.or(addresses.first())?;
    json::string(value)
}

/// Returns the fingerprint under which the views index an email; upper and lower case are the same.
pub fn email_fingerprint(email: &str) -> Fingerprint {
    fingerprint(&email.to_lowercase())
}
