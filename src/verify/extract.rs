//! Extraction: reads from a body the event's id, type and time, and the facts that the fold needs.

use std::borrow::Cow;

use super::comparison::{email_fingerprint, normalized};
use super::facts::{Facts, Statement, StoredGroup, StoredToken, StoredUser, directory_code};
use super::{Proof, scim};
use crate::hashes::fingerprint;
use crate::json::{self, Index, Value};
use crate::time;
use rollcall_projections::{
    Deactivation, DirectoryChange, EventSubject, EventType, Field, InactiveUsers, Millis,
    OWN_PREFIX, Reason, SYNC_PREFIX, TOKEN_PREFIX, own_event_type,
};

/// The field with the values that an update replaced.
const REPLACED: &str = "previous_attributes";

/// The prefixes of the ids that Rollcall gives: of acts, observations and reconciliations.
const OWN_IDS: [&str; 3] = ["op_", "obs_", "run_"];

/// The longest valid id, in bytes.
const ID_BYTES_MAX: usize = 255;

/// The most levels of objects and arrays in a usable body. Deeper ones are refused by many readers,
/// with everything that is on the same page.
const LEVELS_MAX: usize = json::INDEXED_LEVELS_MAX;

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

/// A body that is text, walked once if it is a usual one.
struct Text<'a> {
    text: &'a str,
    index: Option<Index<'a>>,
}

impl<'a> Text<'a> {
    fn of(body: &'a [u8]) -> Option<Text<'a>> {
        let text = std::str::from_utf8(body).ok()?;
        Some(Text { text, index: Index::of(text) })
    }

    /// Returns the fields of an event that the engine reads, `null` as absent.
    fn envelope(&self) -> Option<[Option<Value<'_, 'a>>; 5]> {
        let indexed = self.index.as_ref().and_then(Index::object);
        let object = indexed.unwrap_or_else(|| Value::unindexed(self.text));
        object.present_fields(["id", "event", "data", "created_at", "context"])
    }

    /// Returns true if more than [`LEVELS_MAX`] objects and arrays are within each other.
    fn is_too_deep(&self) -> bool {
        self.index.is_none() && json::is_deeper(self.text.as_bytes(), LEVELS_MAX)
    }

    /// Returns false if no key can be [`REPLACED`], where finding that out is cheaper than looking
    /// for the fields.
    fn may_name_replaced(&self) -> bool {
        // Otherwise it is not there, and no escape may write it.
        let is_there =
            |piece: &str| memchr::memmem::find(self.text.as_bytes(), piece.as_bytes()).is_some();
        self.index.is_some() || is_there(REPLACED) || is_there("\\u")
    }
}

/// Picks the fields `names` out of an object, `null` as absent; `None` if it is absent or not one.
fn fields<'i, 'a, const N: usize>(
    value: Option<Value<'i, 'a>>,
    names: [&str; N],
) -> Option<[Option<Value<'i, 'a>>; N]> {
    value?.present_fields(names)
}

/// Reads a body that Rollcall wrote itself: of an operator's act, of an observation, or of what an
/// identity provider pushed.
fn extract_own<'a>(proof: &Proof, body: &'a [u8]) -> Extracted<'a> {
    let text = Text::of(body);
    let envelope = text.as_ref().and_then(Text::envelope);
    let [event_id, event, data, created_at, _] = envelope.unwrap_or_default();
    let event_type = event.and_then(Value::string);
    let known = event_type.as_deref().and_then(EventType::parse);
    let (statement, updated_at) = known
        .filter(|known| may_state(proof, *known))
        .and_then(|known| own_statement(known, data))
        .unwrap_or((Reason::UnknownType.into(), None));
    let observed_at = known
        .filter(|known| known.is_observation())
        .and_then(|_| fields(data, ["observed_at"]))
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
        event_id: event_id.and_then(Value::string),
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
fn own_statement<'a>(
    event_type: EventType,
    data: Option<Value<'_, 'a>>,
) -> Option<(Statement<'a>, Option<Millis>)> {
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
fn observed<'a>(
    event_type: EventType,
    data: Option<Value<'_, 'a>>,
) -> Option<(Statement<'a>, Option<Millis>)> {
    let names = ["id", "directory_id", "user_id", "group_id", "present", "object"];
    let [own_id, directory_id, user_id, group_id, present, object] = fields(data, names)?;
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
fn observed_change(object: Option<Value<'_, '_>>) -> DirectoryChange {
    let state = fields(object, ["state"]).and_then(|[state]| state.and_then(Value::string));
    match state.as_deref() {
        Some("unlinked" | "inactive" | "deleting") => DirectoryChange::Deactivated,
        _ => DirectoryChange::Activated,
    }
}

fn observed_user<'a>(
    present: bool,
    id: Cow<'a, str>,
    directory: Option<Cow<'a, str>>,
    object: Option<Value<'_, 'a>>,
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
    object: Option<Value<'_, 'a>>,
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

fn reconciled<'a>(data: Option<Value<'_, 'a>>) -> Option<Statement<'a>> {
    let [started_at, clean] = fields(data, ["started_at", "clean_directories"])?;
    let clean = clean?.elements()?.into_iter().filter_map(|one| id(Some(one))).collect();
    Some(Statement::Reconciled { started_at: moment(started_at)?, clean })
}

fn hosted_directory<'a>(data: Option<Value<'_, 'a>>) -> Option<Statement<'a>> {
    let names = ["directory_id", "organization_id", "deactivation"];
    let [directory, organization, word] = fields(data, names)?;
    let word = word?.string()?;
    let code = Deactivation::ALL.iter().position(|treatment| treatment.word() == word)?;
    Some(Statement::HostedDirectory {
        id: id(directory)?,
        organization: filled(organization),
        deactivation: code as u8,
    })
}

fn directory_token<'a>(data: Option<Value<'_, 'a>>, created: bool) -> Option<Statement<'a>> {
    let names = ["id", "directory_id", "token_suffix", "expires_at", "sha256"];
    let [own_id, directory, suffix, expires_at, sha256] = fields(data, names)?;
    let token = || {
        let mut digest = [0; 32];
        hex::decode_to_slice(&*sha256?.string()?, &mut digest).ok()?;
        Some(StoredToken {
            suffix: suffix.and_then(Value::string).unwrap_or_default(),
            sha256: digest,
            expires_at: moment(expires_at),
        })
    };
    let created = if created { Some(token()?) } else { None };
    Some(Statement::DirectoryToken { directory: id(directory)?, id: id(own_id)?, created })
}

fn link<'a>(data: Option<Value<'_, 'a>>, set: bool) -> Option<Statement<'a>> {
    let names = ["directory_user_id", "directory_id", "app_user_id"];
    let [user, directory, app_user] = fields(data, names)?;
    let app_user = if set { Some(filled(app_user)?) } else { None };
    Some(Statement::Link { user: id(user)?, directory: id(directory)?, app_user })
}

fn mapping<'a>(data: Option<Value<'_, 'a>>) -> Option<Statement<'a>> {
    let [mapping, effective_from] = fields(data, ["mapping", "effective_from"])?;
    Some(Statement::Mapping {
        mapping: mapping?.get().into(),
        effective_from: moment(effective_from)?,
    })
}

fn policy<'a>(data: Option<Value<'_, 'a>>) -> Option<Statement<'a>> {
    let [word, effective_from] = fields(data, ["inactive_users", "effective_from"])?;
    let word = word?.string()?;
    let code = InactiveUsers::ALL.iter().position(|treatment| treatment.word() == word)?;
    Some(Statement::Policy { inactive_users: code as u8, effective_from: moment(effective_from)? })
}

fn operator_deletion<'a>(data: Option<Value<'_, 'a>>) -> Option<Statement<'a>> {
    let [id] = fields(data, ["id"])?;
    Some(directory_gone(id?.string()?))
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
    let text = Text::of(body);
    let read = text.as_ref().and_then(|text| read(text, signed_at));
    read.unwrap_or_else(|| not_an_event(None, signed_at))
}

/// Reads a body that is text; `None` if it is not a JSON object.
fn read<'a>(text: &Text<'a>, signed_at: Option<Millis>) -> Option<Extracted<'a>> {
    let [id, event, data, created_at, context] = text.envelope()?;
    let event_type = event.and_then(Value::string).filter(|event| !event.is_empty());
    let event_id = id.and_then(Value::name).filter(|id| is_event_id(id));
    let (Some(event_id), Some(event)) = (event_id, &event_type) else {
        return Some(not_an_event(event_type, signed_at));
    };
    let (statement, updated_at) =
        if text.is_too_deep() { (Reason::TooDeep.into(), None) } else { statement(event, data) };
    let closing = is_closing(&statement);
    let occurred_at = moment(created_at)
        .or_else(|| ulid_ms(&event_id))
        .or(updated_at.filter(|_| !closing))
        .or(signed_at);
    let [former_directories, former_organizations] = match &statement {
        Statement::Unusable { .. } => [Vec::new(), Vec::new()],
        _ if !text.may_name_replaced() => [Vec::new(), Vec::new()],
        _ => former(context, data),
    };
    let facts = Facts {
        occurred_at,
        updated_at,
        observed_at: None,
        former_directories,
        former_organizations,
        statement,
    };
    Some(Extracted { event_id: Some(event_id), event_type, facts })
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

/// Reads the directories and the organizations in every `previous_attributes` that the list of
/// events shows: those of the data, of the context, and of the two snapshots of a membership.
fn former<'a>(
    context: Option<Value<'_, 'a>>,
    data: Option<Value<'_, 'a>>,
) -> [Vec<Cow<'a, str>>; 2] {
    let [own, user, group] = fields(data, [REPLACED, "user", "group"]).unwrap_or_default();
    let of = |value| fields(value, [REPLACED]).and_then(|[previous]| previous);
    let of_context = of(context);
    let (mut directories, mut organizations) = (Vec::new(), Vec::new());
    for previous in [own, of_context, of(user), of(group)].into_iter().flatten() {
        let names = ["directory_id", "organization_id"];
        let [directory, organization] = previous.present_fields(names).unwrap_or_default();
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

fn moment(value: Option<Value<'_, '_>>) -> Option<Millis> {
    time::parse(&value?.string()?)
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

fn statement<'a>(event: &str, data: Option<Value<'_, 'a>>) -> (Statement<'a>, Option<Millis>) {
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
fn stated_by<'a>(event_type: EventType, data: Option<Value<'_, 'a>>) -> Stated<'a> {
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
fn unrelated<'a>(data: Option<Value<'_, 'a>>) -> (Statement<'a>, Option<Millis>) {
    let [organization_id, updated_at] =
        fields(data, ["organization_id", "updated_at"]).unwrap_or_default();
    let statement = Statement::Unrelated { organization: filled(organization_id) };
    (statement, moment(updated_at))
}

/// A statement and `data.updated_at`, or the reason for the quarantine.
type Stated<'a> = Result<(Statement<'a>, Option<Millis>), Reason>;

/// Returns the value as an id: a string of 1 to 255 bytes without an unpaired surrogate.
pub(crate) fn id<'i, 'a: 'i>(value: Option<impl Into<Value<'i, 'a>>>) -> Option<Cow<'a, str>> {
    value?.into().name().filter(|id| (1..=ID_BYTES_MAX).contains(&id.len()))
}

/// Returns the value if it is a string that is not empty and has no unpaired surrogate.
pub(crate) fn filled<'i, 'a: 'i>(value: Option<impl Into<Value<'i, 'a>>>) -> Option<Cow<'a, str>> {
    value?.into().name().filter(|text| !text.is_empty())
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
    fn check(self, id: &str, object: Option<Value<'_, '_>>, field: Field) -> Result<(), Reason> {
        match is_of_another_kind(self.object(), id, object) {
            true => Err(Reason::KindMismatch(field)),
            false => Ok(()),
        }
    }
}

/// Returns true if the prefix of an id, or the value of `object`, marks another kind than `word`,
/// which is this kind's own value of `object`.
pub(crate) fn is_of_another_kind<'i, 'a: 'i>(
    word: &str,
    id: &str,
    object: Option<impl Into<Value<'i, 'a>>>,
) -> bool {
    let foreign = [("directory_user", "directory_user_"), ("directory_group", "directory_group_")]
        .into_iter()
        .any(|(other, prefix)| other != word && id.starts_with(prefix));
    foreign || object.and_then(|object| object.into().string()).is_some_and(|object| object != word)
}

fn directory<'a>(data: Option<Value<'_, 'a>>, change: DirectoryChange) -> Stated<'a> {
    let names = ["id", "object", "organization_id", "name", "domain", "domains", "updated_at"];
    let Some([id_value, object, organization_id, name, domain, domains, updated_at]) =
        fields(data, names)
    else {
        return Err(Reason::MissingField(Field::Data));
    };
    let id = id(id_value).ok_or(Reason::MissingField(Field::DataId))?;
    EntityKind::Directory.check(&id, object, Field::DataId)?;
    let statement = Statement::Directory {
        change: directory_code(change),
        id,
        organization: filled(organization_id),
        name: name.and_then(Value::string).unwrap_or_default(),
        domain: first_domain(domain, domains),
    };
    Ok((statement, moment(updated_at)))
}

/// Returns a directory's domain: `domain`, else the first of `domains`.
pub(crate) fn first_domain<'i, 'a: 'i>(
    domain: Option<impl Into<Value<'i, 'a>>>,
    domains: Option<impl Into<Value<'i, 'a>>>,
) -> Option<Cow<'a, str>> {
    filled(domain).or_else(|| {
        domains?.into().elements()?.into_iter().find_map(|element| {
            let [domain] = element.present_fields(["domain"])?;
            filled(domain)
        })
    })
}

/// The user or group of an event, read but not yet checked.
struct End<'i, 'a, T> {
    data: T,
    object: Option<Value<'i, 'a>>,
    updated_at: Option<Millis>,
}

fn user<'i, 'a>(
    data: Option<Value<'i, 'a>>,
    whole: Field,
    id_field: Field,
) -> Result<End<'i, 'a, StoredUser<'a>>, Reason> {
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
    ) = fields(data, names)
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

fn group<'i, 'a>(
    data: Option<Value<'i, 'a>>,
    whole: Field,
    id_field: Field,
) -> Result<End<'i, 'a, StoredGroup<'a>>, Reason> {
    let names = ["id", "name", "object", "directory_id", "organization_id", "updated_at"];
    let Some([id_value, name, object, directory_id, organization_id, updated_at]) =
        fields(data, names)
    else {
        return Err(Reason::MissingField(whole));
    };
    let name = name.and_then(Value::string).unwrap_or_default();
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

fn user_event<'a>(data: Option<Value<'_, 'a>>, deleted: bool) -> Stated<'a> {
    let End { data: user, object, updated_at } = user(data, Field::Data, Field::DataId)?;
    check_subject(deleted, user.directory.as_deref(), EntityKind::User, &user.id, object)?;
    Ok((Statement::User { deleted, user }, updated_at))
}

fn group_event<'a>(data: Option<Value<'_, 'a>>, deleted: bool) -> Stated<'a> {
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
    object: Option<Value<'_, '_>>,
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

fn membership<'a>(data: Option<Value<'_, 'a>>, added: bool) -> Stated<'a> {
    let names = ["user", "group", "directory_id", "organization_id"];
    let Some([user_value, group_value, directory_id, organization_id]) = fields(data, names) else {
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
fn slugs(role: Option<Value<'_, '_>>, roles: Option<Value<'_, '_>>) -> String {
    let mut out = String::new();
    for role in role.into_iter().chain(roles.and_then(Value::elements).unwrap_or_default()) {
        let Some(slug) = role.present_fields(["slug"]).and_then(|[slug]| slug?.string()) else {
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
pub(crate) fn is_active<'i, 'a: 'i>(state: Option<impl Into<Value<'i, 'a>>>) -> bool {
    state.is_none_or(|state| state.into().string().is_some_and(|state| state == "active"))
}

/// Returns the email that a user shows: `email` unless it is absent, else the primary of `emails`,
/// else the first.
pub(crate) fn shown_email<'i, 'a: 'i>(
    email: Option<impl Into<Value<'i, 'a>>>,
    emails: Option<impl Into<Value<'i, 'a>>>,
) -> Option<Cow<'a, str>> {
    if let Some(email) = email.and_then(|email| email.into().present()) {
        return email.string();
    }
    // An array with other elements than objects is not a list of addresses.
    let addresses: Vec<_> = emails?
        .into()
        .elements()?
        .into_iter()
        .map(|element| element.present_fields(["primary", "value"]))
        .collect::<Option<_>>()?;
    let primary = addresses
        .iter()
        .find(|[primary, _]| primary.is_some_and(|primary| primary.get() == "true"));
    let [_, value] = *primary.or(addresses.first())?;
    value.and_then(Value::string)
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::json::random::{change, one_of, value};

    const TYPES: [&str; 12] = [
        "dsync.activated",
        "dsync.deactivated",
        "dsync.deleted",
        "dsync.user.created",
        "dsync.user.deleted",
        "dsync.group.updated",
        "dsync.group.deleted",
        "dsync.group.user_added",
        "dsync.group.user_removed",
        "dsync.token.created",
        "user.created",
        "dsync.user.renamed",
    ];

    /// Writes an event with random data.
    fn event(random: &mut StdRng) -> String {
        let mut text = |levels: usize| value(random, levels);
        let (user, group, context) = (text(3), text(3), text(2));
        let own = text(3);
        let own = own.trim().strip_prefix('{').and_then(|own| own.strip_suffix('}'));
        let own = own.filter(|own| !own.trim().is_empty());
        let own = own.map(|own| format!(",{own}")).unwrap_or_default();
        let (user_id, directory) = (text(0), text(0));
        let event_type = one_of(random, &TYPES);
        let subject = |more: &str| {
            format!("{{\"id\":{user_id},\"directory_id\":{directory},\"emails\":{more}}}")
        };
        let [user, group] = match random.random_range(0..3) {
            0 => [user, group],
            1 => [subject("[]"), format!("{{\"id\":\"g\",\"name\":{user_id},\"roles\":{group}}}")],
            _ => [subject(&group), "{\"id\":\"g\",\"previous_attributes\":{}}".to_owned()],
        };
        let data = format!(
            "{{\"id\":{user_id},\"directory_id\":{directory},\"emails\":[{user}],\"user\":{user},\
             \"roles\":[{{\"slug\":{user_id}}}],\"group\":{group}{own}}}"
        );
        let created_at = value(random, 0);
        format!(
            "{{\"id\":\"e\",\"event\":\"{event_type}\",\"data\":{data},\"context\":{context},\
             \"created_at\":{created_at}}}"
        )
    }

    /// Returns all that is read of a body.
    fn all_of(read: Option<Extracted<'_>>) -> Option<(Option<String>, Option<String>, Vec<u8>)> {
        let Extracted { event_id, event_type, facts } = read?;
        Some((event_id.map(Into::into), event_type.map(Into::into), facts.encode()))
    }

    #[test]
    fn a_body_says_the_same_whether_it_is_indexed_or_not() {
        let mut random = StdRng::seed_from_u64(7);
        let (mut used, mut unused) = (0, 0);
        for case in 0..20_000 {
            let mut body = event(&mut random);
            if case % 4 == 0 {
                change(&mut random, &mut body);
            }
            let signed_at = Some(1_768_478_400_000);
            let indexed = Text::of(body.as_bytes()).unwrap();
            let walked = Text { text: &body, index: None };
            let expected = all_of(read(&walked, signed_at));
            assert_eq!(all_of(read(&indexed, signed_at)), expected, "{body}");
            assert_eq!(indexed.index.is_some(), expected.is_some(), "{body}");
            let is_used = read(&walked, signed_at)
                .is_some_and(|read| !matches!(read.facts.statement, Statement::Unusable { .. }));
            if is_used { used += 1 } else { unused += 1 }
        }
        assert!(used > 1000 && unused > 1000, "{used} {unused}");
    }

    #[test]
    fn a_body_of_many_levels_or_values_is_read_as_one_of_few() {
        let body = |note: &str| {
            format!(
                r#"{{"id":"e","event":"dsync.user.created","data":{{"id":"u","directory_id":"d",
                "previous_attributes":{{"directory_id":"f"}},"note":{note}}}}}"#
            )
        };
        let note = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let small = body("[]");
        let expected = all_of(Some(extract(small.as_bytes(), None)));
        // The body and its data are levels too.
        let levels = note(LEVELS_MAX - 2);
        let values = format!("[{}0]", "0,".repeat(5000));
        for (note, is_indexed) in [(levels, true), (values, false)] {
            let body = body(&note);
            assert_eq!(Text::of(body.as_bytes()).unwrap().index.is_some(), is_indexed);
            assert_eq!(all_of(Some(extract(body.as_bytes(), None))), expected);
        }
        let deeper = body(&note(LEVELS_MAX - 1));
        let extracted = extract(deeper.as_bytes(), None);
        assert_eq!(extracted.facts.statement, Reason::TooDeep.into());
        let mut broken = small.into_bytes();
        broken.push(0xff);
        assert_eq!(extract(&broken, None).facts.statement, Reason::NotAnEvent.into());
    }

    #[test]
    fn only_names_of_a_bounded_length_are_normalized() {
        let spelled = |letters: usize| "e\u{301}".repeat(letters);
        assert_eq!(other_spelling(&spelled(2)).as_deref(), Some("\u{e9}\u{e9}"));
        assert!(other_spelling(&spelled(NORMALIZED_BYTES_MAX / 3)).is_some());
        assert_eq!(other_spelling(&spelled(NORMALIZED_BYTES_MAX / 3 + 1)), None);
    }
}
