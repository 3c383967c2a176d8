//! Extraction: reads from a body the event's id, type and time, and the facts that the fold needs.

use std::borrow::Cow;

use rollcall_projections::{
    Deactivation, DirectoryChange, EventSubject, EventType, Field, InactiveUsers, Millis,
    OWN_PREFIX, Reason, SYNC_PREFIX, TOKEN_PREFIX, own_event_type,
};
use serde_json::value::RawValue;

use super::comparison::{email_fingerprint, normalized};
use super::facts::{Facts, Statement, StoredGroup, StoredToken, StoredUser, directory_code};
use super::{Proof, scim};
use crate::hashes::fingerprint;
use crate::{json, time};

/// The field with the values that an update replaced.
const REPLACED: &str = "previous_attributes";

/// The prefixes of the ids that Rollcall gives: of acts, observations and reconciliations.
const OWN_IDS: [&str; 3] = ["op_", "obs_", "run_"];

/// The longest valid id, in bytes.
const ID_BYTES_MAX: usize = 255;

/// The most levels of objects and arrays in a usable body. Deeper ones are refused by many readers,
/// with everything that is on the same page.
const LEVELS_MAX: usize = 128;

/// The times that are believed in a ULID: the years 2015 to 2099.
const ULID_MS: std::ops::Range<u64> = 1_420_070_400_000..4_102_444_800_000;

/// The version of stored facts. Raise it whenever the result of [`extract`] for some body changes,
/// or its encoding: older blocks are then extracted again. Raise [`FACTS_SINCE`] to the same number
/// then.
pub const FACTS_VERSION: u16 = 9;

/// The first version whose facts, record for record, are those of [`FACTS_VERSION`] in the same
/// encoding. Version 8 only put first verdicts in front of them, and version 9 added statements of
/// records that earlier versions cannot have written.
pub const FACTS_SINCE: u16 = 7;

/// The result of reading a body.
pub struct Extracted<'a> {
    /// The source's id: 1 to 255 bytes without control characters, not beginning with `op_`,
    /// `obs_` or `run_`.
    /// `None`: the body is not an event.
    pub event_id: Option<Cow<'a, str>>,
    /// The event's type, if the body has one.
    pub event_type: Option<Cow<'a, str>>,
    /// The facts that it states.
    pub facts: Facts<'a>,
}

/// Reads a body according to its proof.
pub fn extract_from<'a>(proof: &Proof, body: &'a [u8]) -> Extracted<'a> {
    match proof {
        Proof::Webhook { t, .. } => extract(body, Some(*t)),
        Proof::Pulled { .. } | Proof::Imported { .. } => extract(body, None),
        Proof::Operator { .. } | Proof::Observed { .. } | Proof::Scim { .. } => {
            extract_own(proof, body)
        }
    }
}

/// The fields of an event that the engine reads, `null` as absent.
fn envelope(body: &[u8]) -> Option<[Option<&RawValue>; 5]> {
    let text = std::str::from_utf8(body).ok()?;
    json::present_fields(text, ["id", "event", "data", "created_at", "context"])
}

/// Reads a body that Rollcall wrote itself: of an operator's act, of an observation, or of what an
/// identity provider pushed.
fn extract_own<'a>(proof: &Proof, body: &'a [u8]) -> Extracted<'a> {
    let [event_id, event, data, created_at, _] = envelope(body).unwrap_or_default();
    let event_type = json::string(event);
    let known = event_type.as_deref().and_then(EventType::parse);
    let (statement, updated_at) = known
        .filter(|known| may_state(proof, *known))
        .and_then(|known| own_statement(known, data))
        .unwrap_or((Reason::UnknownType.into(), None));
    let observed_at = known
        .filter(|known| known.is_observation())
        .and_then(|_| json::present_fields_of(data, ["observed_at"]))
        .and_then(|[observed_at]| moment(observed_at));
    Extracted {
        facts: Facts {
            occurred_at: moment(created_at),
            updated_at,
            observed_at,
            former_directories: Vec::new(),
            former_organizations: Vec::new(),
            statement,
        },
        event_id: json::string(event_id),
        event_type,
    }
}

/// Returns true if a record with this proof may be of a type.
fn may_state(proof: &Proof, event_type: EventType) -> bool {
    let of_scim = matches!(proof, Proof::Scim { .. });
    match event_type.is_own() {
        true => of_scim == event_type.is_scim(),
        // Those of a directory that Rollcall hosts.
        false => of_scim || matches!(proof, Proof::Operator { .. }),
    }
}

/// Reads the data of a record that Rollcall wrote; `None` if it is not one. With it comes the
/// `updated_at` of the object that was observed.
fn own_statement(
    event_type: EventType,
    data: Option<&RawValue>,
) -> Option<(Statement<'_>, Option<Millis>)> {
    let act = match event_type {
        EventType::MappingSet => mapping(data),
        EventType::PolicySet => policy(data),
        EventType::OperatorDirectoryDeleted => operator_deletion(data),
        // The key of the log concerns no directory.
        EventType::CheckpointKeyChanged => Some(Statement::Unrelated { organization: None }),
        EventType::LinkSet => link(data, true),
        EventType::LinkRemoved => link(data, false),
        EventType::ReconciliationCompleted => reconciled(data),
        EventType::OperatorDirectoryCreated => hosted_directory(data),
        EventType::OperatorTokenCreated => directory_token(data, true),
        EventType::OperatorTokenRevoked => directory_token(data, false),
        EventType::ScimRequested => scim::request(data),
        EventType::ScimMembersChanged => scim::members(data),
        EventType::DirectoryObserved
        | EventType::UserObserved
        | EventType::GroupObserved
        | EventType::MembershipObserved => return observed(event_type, data),
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
        | EventType::TokenRevoked => {
            return Some(
                stated_by(event_type, data).unwrap_or_else(|reason| (reason.into(), None)),
            );
        }
    };
    act.map(|statement| (statement, None))
}

/// Reads the answer of the source about one thing.
fn observed(
    event_type: EventType,
    data: Option<&RawValue>,
) -> Option<(Statement<'_>, Option<Millis>)> {
    let names = ["id", "directory_id", "user_id", "group_id", "present", "object"];
    let [own_id, directory_id, user_id, group_id, present, object] =
        json::present_fields_of(data, names)?;
    let present = present?.get() == "true";
    let stated = match event_type.subject() {
        EventSubject::Directory if present => directory(object, observed_change(object)),
        EventSubject::Directory => Ok((directory_gone(id(own_id)?), None)),
        EventSubject::User => observed_user(present, id(own_id)?, id(directory_id), object),
        EventSubject::Group => observed_group(present, id(own_id)?, id(directory_id), object),
        _ => Ok((
            Statement::ObservedMembership {
                present,
                directory: id(directory_id)?,
                user: id(user_id)?,
                group: id(group_id)?,
            },
            None,
        )),
    };
    Some(stated.unwrap_or_else(|reason| (reason.into(), None)))
}

/// Returns the change that the state of an observed directory means.
fn observed_change(object: Option<&RawValue>) -> DirectoryChange {
    let state = json::present_fields_of(object, ["state"]).and_then(|[state]| json::string(state));
    match state.as_deref() {
        Some("unlinked" | "inactive" | "deleting") => DirectoryChange::Deactivated,
        _ => DirectoryChange::Activated,
    }
}

fn observed_user<'a>(
    present: bool,
    id: Cow<'a, str>,
    directory: Option<Cow<'a, str>>,
    object: Option<&'a RawValue>,
) -> Stated<'a> {
    if present {
        let End { data: mut user, updated_at, .. } = user(object, Field::Data, Field::DataId)?;
        user.directory = directory;
        return Ok((Statement::User { deleted: false, user }, updated_at));
    }
    let user = StoredUser {
        id,
        directory,
        organization: None,
        active: true,
        roles: Cow::Borrowed(""),
        email: None,
        idp_id: None,
    };
    Ok((Statement::User { deleted: true, user }, None))
}

fn observed_group<'a>(
    present: bool,
    id: Cow<'a, str>,
    directory: Option<Cow<'a, str>>,
    object: Option<&'a RawValue>,
) -> Stated<'a> {
    if present {
        let End { data: mut group, updated_at, .. } = group(object, Field::Data, Field::DataId)?;
        group.directory = directory;
        return Ok((Statement::Group { deleted: false, group }, updated_at));
    }
    let name = Cow::Borrowed("");
    let group = StoredGroup { id, name, compared_name: None, directory, organization: None };
    Ok((Statement::Group { deleted: true, group }, None))
}

fn reconciled(data: Option<&RawValue>) -> Option<Statement<'_>> {
    let [started_at, clean] = json::present_fields_of(data, ["started_at", "clean_directories"])?;
    let clean = json::array(clean)?.into_iter().filter_map(|one| id(Some(one))).collect();
    Some(Statement::Reconciled { started_at: moment(started_at)?, clean })
}

fn hosted_directory(data: Option<&RawValue>) -> Option<Statement<'_>> {
    let names = ["directory_id", "organization_id", "deactivation"];
    let [directory, organization, word] = json::present_fields_of(data, names)?;
    let word = json::string(word)?;
    let code = Deactivation::ALL.iter().position(|treatment| treatment.word() == word)?;
    Some(Statement::HostedDirectory {
        id: id(directory)?,
        organization: filled(organization),
        deactivation: code as u8,
    })
}

fn directory_token(data: Option<&RawValue>, created: bool) -> Option<Statement<'_>> {
    let names = ["id", "directory_id", "token_suffix", "expires_at", "sha256"];
    let [own_id, directory, suffix, expires_at, sha256] = json::present_fields_of(data, names)?;
    let token = || {
        let mut digest = [0; 32];
        hex::decode_to_slice(&*json::string(sha256)?, &mut digest).ok()?;
        Some(StoredToken {
            suffix: json::string(suffix).unwrap_or_default(),
            sha256: digest,
            expires_at: moment(expires_at),
        })
    };
    let created = if created { Some(token()?) } else { None };
    Some(Statement::DirectoryToken { directory: id(directory)?, id: id(own_id)?, created })
}

fn link(data: Option<&RawValue>, set: bool) -> Option<Statement<'_>> {
    let names = ["directory_user_id", "directory_id", "app_user_id"];
    let [user, directory, app_user] = json::present_fields_of(data, names)?;
    let app_user = if set { Some(filled(app_user)?) } else { None };
    Some(Statement::Link { user: id(user)?, directory: id(directory)?, app_user })
}

fn mapping(data: Option<&RawValue>) -> Option<Statement<'_>> {
    let [mapping, effective_from] = json::present_fields_of(data, ["mapping", "effective_from"])?;
    Some(Statement::Mapping {
        mapping: mapping?.get().into(),
        effective_from: moment(effective_from)?,
    })
}

fn policy(data: Option<&RawValue>) -> Option<Statement<'_>> {
    let [word, effective_from] =
        json::present_fields_of(data, ["inactive_users", "effective_from"])?;
    let word = json::string(word)?;
    let code = InactiveUsers::ALL.iter().position(|treatment| treatment.word() == word)?;
    Some(Statement::Policy { inactive_users: code as u8, effective_from: moment(effective_from)? })
}

fn operator_deletion(data: Option<&RawValue>) -> Option<Statement<'_>> {
    let [id] = json::present_fields_of(data, ["id"])?;
    Some(directory_gone(json::string(id)?))
}

fn directory_gone(id: Cow<'_, str>) -> Statement<'_> {
    Statement::Directory {
        change: directory_code(DirectoryChange::Deleted),
        id,
        organization: None,
        name: Cow::Borrowed(""),
        domain: None,
    }
}

/// Reads a body; `signed_at` is the time of its signature, if it has one. Never fails: the
/// statement of an unusable body is the reason.
pub fn extract(body: &[u8], signed_at: Option<Millis>) -> Extracted<'_> {
    let Some([id, event, data, created_at, context]) = envelope(body) else {
        return not_an_event(None, signed_at);
    };
    let event_type = json::string(event).filter(|event| !event.is_empty());
    let (Some(event_id), Some(event)) = (json::name(id).filter(|id| is_event_id(id)), &event_type)
    else {
        return not_an_event(event_type, signed_at);
    };
    let (statement, updated_at) = if json::is_deeper(body, LEVELS_MAX) {
        (Reason::TooDeep.into(), None)
    } else {
        statement(event, data)
    };
    let closing = is_closing(&statement);
    let occurred_at = moment(created_at)
        .or_else(|| ulid_ms(&event_id))
        .or(updated_at.filter(|_| !closing))
        .or(signed_at);
    let [former_directories, former_organizations] = match &statement {
        Statement::Unusable { .. } => [Vec::new(), Vec::new()],
        _ if !may_name_replaced(body) => [Vec::new(), Vec::new()],
        _ => former(context, data),
    };
    Extracted {
        facts: Facts {
            occurred_at,
            updated_at,
            observed_at: None,
            former_directories,
            former_organizations,
            statement,
        },
        event_id: Some(event_id),
        event_type,
    }
}

fn not_an_event(event_type: Option<Cow<'_, str>>, signed_at: Option<Millis>) -> Extracted<'_> {
    let statement = Reason::NotAnEvent.into();
    Extracted {
        event_id: None,
        event_type,
        facts: Facts {
            occurred_at: signed_at,
            updated_at: None,
            observed_at: None,
            former_directories: Vec::new(),
            former_organizations: Vec::new(),
            statement,
        },
    }
}

/// Returns false if no key of a body can be [`REPLACED`]: it is not there, and no escape may write it.
fn may_name_replaced(body: &[u8]) -> bool {
    memchr::memmem::find(body, REPLACED.as_bytes()).is_some()
        || memchr::memmem::find(body, b"\\u").is_some()
}

/// Reads the directories and the organizations in every `previous_attributes` that the list of
/// events shows: those of the data, of the context, and of the two snapshots of a membership.
fn former<'a>(context: Option<&'a RawValue>, data: Option<&'a RawValue>) -> [Vec<Cow<'a, str>>; 2] {
    let [own, user, group] =
        json::present_fields_of(data, [REPLACED, "user", "group"]).unwrap_or_default();
    let of = |value| json::present_fields_of(value, [REPLACED]).and_then(|[previous]| previous);
    let of_context = of(context);
    let (mut directories, mut organizations) = (Vec::new(), Vec::new());
    for previous in [own, of_context, of(user), of(group)].into_iter().flatten() {
        let names = ["directory_id", "organization_id"];
        let [directory, organization] =
            json::present_fields(previous.get(), names).unwrap_or_default();
        directories.extend(id(directory));
        organizations.extend(filled(organization));
    }
    [directories, organizations]
}

/// Returns true if the statement ends a directory, a user or a group: its `updated_at` is then that
/// of the last change, long before the end. Membership events have no `updated_at`.
fn is_closing(statement: &Statement<'_>) -> bool {
    matches!(
        statement,
        Statement::Directory { change: 1.., .. }
            | Statement::User { deleted: true, .. }
            | Statement::Group { deleted: true, .. }
    )
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
        && !OWN_IDS.iter().any(|prefix| id.starts_with(prefix))
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
        None if event.starts_with(OWN_PREFIX) => Err(Reason::ReservedType),
        None if event.starts_with(TOKEN_PREFIX) || !event.starts_with(SYNC_PREFIX) => {
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
        own_event_type!() => Err(Reason::ReservedType),
    }
}

/// Reads the data of an event that is kept and counted only.
fn unrelated(data: Option<&RawValue>) -> (Statement<'_>, Option<Millis>) {
    let [organization_id, updated_at] =
        json::present_fields_of(data, ["organization_id", "updated_at"]).unwrap_or_default();
    let statement = Statement::Unrelated { organization: filled(organization_id) };
    (statement, moment(updated_at))
}

/// A statement and `data.updated_at`, or the reason for the quarantine.
type Stated<'a> = Result<(Statement<'a>, Option<Millis>), Reason>;

/// Returns the value as an id: a string of 1 to 255 bytes without an unpaired surrogate.
pub(crate) fn id<'a>(value: Option<&'a RawValue>) -> Option<Cow<'a, str>> {
    json::name(value).filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()))
}

/// Returns the value if it is a string that is not empty and has no unpaired surrogate.
pub(crate) fn filled(value: Option<&RawValue>) -> Option<Cow<'_, str>> {
    json::name(value).filter(|text| !text.is_empty())
}

/// The three kinds of thing that have ids; the prefix of an id and `object` mark them.
#[derive(Clone, Copy, PartialEq)]
enum EntityKind {
    Directory,
    User,
    Group,
}

impl EntityKind {
    fn object(self) -> &'static str {
        match self {
            EntityKind::Directory => "directory",
            EntityKind::User => "directory_user",
            EntityKind::Group => "directory_group",
        }
    }

    /// Refuses an id whose prefix marks another kind, and an `object` that names one.
    fn check(self, id: &str, object: Option<&RawValue>, field: Field) -> Result<(), Reason> {
        match is_of_another_kind(self.object(), id, object) {
            true => Err(Reason::KindMismatch(field)),
            false => Ok(()),
        }
    }
}

/// Returns true if the prefix of an id, or the value of `object`, marks another kind than `word`,
/// which is this kind's own value of `object`.
pub(crate) fn is_of_another_kind(word: &str, id: &str, object: Option<&RawValue>) -> bool {
    let foreign = [("directory_user", "directory_user_"), ("directory_group", "directory_group_")]
        .into_iter()
        .any(|(other, prefix)| other != word && id.starts_with(prefix));
    foreign || json::string(object).is_some_and(|object| object != word)
}

fn directory(data: Option<&RawValue>, change: DirectoryChange) -> Stated<'_> {
    let names = ["id", "object", "organization_id", "name", "domain", "domains", "updated_at"];
    let Some([id_value, object, organization_id, name, domain, domains, updated_at]) =
        json::present_fields_of(data, names)
    else {
        return Err(Reason::MissingField(Field::Data));
    };
    let id = id(id_value).ok_or(Reason::MissingField(Field::DataId))?;
    EntityKind::Directory.check(&id, object, Field::DataId)?;
    let statement = Statement::Directory {
        change: directory_code(change),
        id,
        organization: filled(organization_id),
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
    filled(domain).or_else(|| {
        json::array(domains)?.into_iter().find_map(|element| {
            let [domain] = json::present_fields(element.get(), ["domain"])?;
            filled(domain)
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
        organization: filled(organization_id),
        active: is_active(state),
        roles: slugs(role, roles).into(),
        email: shown_email(email, emails).map(|email| email_fingerprint(&email).0),
        idp_id: filled(idp_id).map(|id| fingerprint(&id).0),
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
    let name = json::string(name).unwrap_or_default();
    let data = StoredGroup {
        id: id(id_value).ok_or(Reason::MissingField(id_field))?,
        compared_name: other_spelling(&name),
        name,
        directory: id(directory_id),
        organization: filled(organization_id),
    };
    Ok(End { data, object, updated_at: moment(updated_at) })
}

/// The longest name of a group that is normalized, in bytes.
const NORMALIZED_BYTES_MAX: usize = 4096;

/// Returns the name of a group as rules compare it, if that is another text. A name over
/// [`NORMALIZED_BYTES_MAX`] is compared as it was sent: facts must stay smaller than a stored block.
fn other_spelling<'a>(name: &str) -> Option<Cow<'a, str>> {
    if name.len() > NORMALIZED_BYTES_MAX {
        return None;
    }
    match normalized(name) {
        Cow::Borrowed(_) => None,
        Cow::Owned(normalized) => Some(Cow::Owned(normalized)),
    }
}

fn user_event<'a>(data: Option<&'a RawValue>, deleted: bool) -> Stated<'a> {
    let End { data: user, object, updated_at } = user(data, Field::Data, Field::DataId)?;
    check_subject(deleted, user.directory.as_deref(), EntityKind::User, &user.id, object)?;
    Ok((Statement::User { deleted, user }, updated_at))
}

fn group_event<'a>(data: Option<&'a RawValue>, deleted: bool) -> Stated<'a> {
    let End { data: group, object, updated_at } = group(data, Field::Data, Field::DataId)?;
    check_subject(deleted, group.directory.as_deref(), EntityKind::Group, &group.id, object)?;
    Ok((Statement::Group { deleted, group }, updated_at))
}

/// Checks a user or group: unless deleted it needs a directory, and neither id may be of another
/// kind.
fn check_subject(
    deleted: bool,
    directory: Option<&str>,
    kind: EntityKind,
    id: &str,
    object: Option<&RawValue>,
) -> Result<(), Reason> {
    if directory.is_none() && !deleted {
        return Err(Reason::MissingField(Field::DataDirectoryId));
    }
    kind.check(id, object, Field::DataId)?;
    check_directory(directory, Field::DataDirectoryId)
}

/// Refuses a directory id that is marked as another kind.
fn check_directory(directory: Option<&str>, field: Field) -> Result<(), Reason> {
    directory.map_or(Ok(()), |directory| EntityKind::Directory.check(directory, None, field))
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
    EntityKind::User.check(&user.id, user_object, Field::DataUserId)?;
    EntityKind::Group.check(&group.id, group_object, Field::DataGroupId)?;
    check_directory(own.as_deref(), Field::DataDirectoryId)?;
    check_directory(group.directory.as_deref(), Field::DataGroupDirectoryId)?;
    check_directory(user.directory.as_deref(), Field::DataUserDirectoryId)?;
    let organization = filled(organization_id);
    Ok((Statement::Membership { added, directory, organization, user, group }, None))
}

/// Returns the roles of a snapshot in the form of `UserData::roles`.
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
    state.is_none() || json::string(state).is_some_and(|state| state == "active")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_a_bounded_length_are_normalized() {
        let spelled = |letters: usize| "e\u{301}".repeat(letters);
        assert_eq!(other_spelling(&spelled(2)).as_deref(), Some("\u{e9}\u{e9}"));
        assert!(other_spelling(&spelled(NORMALIZED_BYTES_MAX / 3)).is_some());
        assert_eq!(other_spelling(&spelled(NORMALIZED_BYTES_MAX / 3 + 1)), None);
    }
}
