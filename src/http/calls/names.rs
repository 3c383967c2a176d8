//! `GET /rollcall/v1/names`: the things that a text names.

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{
    NameQuestion, NameSearch, Named, NamedBy, NamedKind, NamesFound, Namesake, Sight,
};
use serde_json::{Value, json};

use crate::engine::{Engine, WorkError};
use crate::http::wire::answer::{Code, Problem, pinned};
use crate::http::wire::api::{
    Access, Bound, Cost, Gives, IN_DIRECTORY, Logged, OF_ORGANIZATION, Operation, Parameter, Reads,
    Switch, Takes, Word, words,
};
use crate::http::wire::entity::must_be_named;
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::http::wire::turns::{Turn, in_turn};
use crate::keys::Scope;
use crate::verify::{FieldCode, compared_name, email_fingerprint};

/// The number of candidates that are compared under one lock.
const STEP: usize = 4096;

words! {
    /// The kinds of things that have ids or names.
    Kind {
        User = "user",
        Group = "group",
        Directory = "directory",
        Organization = "organization",
        Role = "role",
        EventType = "event_type",
    }
}

const KIND: Parameter =
    Parameter::new("kind", Takes::Words(Kind::WORDS), "group", "Things of this kind");
const TEXT: Parameter = Parameter::text(
    "text",
    "Platform",
    "The id of any of them, the email of a user, or the name of a group, a directory, a role or a \
    type of events",
);

const EVER: Parameter = Parameter::new(
    "ever",
    Takes::Words(Switch::WORDS),
    "true",
    "`true`: what had the name at another time counts as well as what has it at `as_of`, for \
    questions about the past",
);

/// The message about a directory or an organization of what belongs to none.
const BELONGS_TO_NONE: &str = "things of this kind belong to none";

/// `GET /rollcall/v1/names`
pub(crate) const NAMES: Operation = Operation {
    path: "/rollcall/v1/names",
    name: "findByName",
    about: "The things with an id, an email or a name. Those that have the name at `as_of` win over \
        those that had it at another time; `known_at` alone decides what was ever seen. If there \
        are none, things of nearly that name. With `directory` or `organization_id`, what ever \
        belonged to it; kinds that belong to none are refused. Roles of mappings are of no \
        organization: a key that is bound to some is refused.",
    parameters: &[KIND.required(), TEXT.required(), IN_DIRECTORY, OF_ORGANIZATION, EVER],
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Read, Bound::Own),
    logged: Logged::Always,
    cost: Cost::High,
    gives: Gives::One("NamesFound"),
    shapes: include_str!("names.schema.json"),
    problems: &[Code::EntityNotFound],
    ..Operation::GET
};

/// Answers [`NAMES`].
pub(crate) async fn names(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &NAMES)?;
    let kind = question.take_word::<Kind>("kind");
    let text = question.take("text").unwrap_or_default();
    let (directory, organization) = (question.take("directory"), question.take("organization_id"));
    let ever = question.take_word::<Switch>("ever") == Some(Switch::On);
    let kind = kind.unwrap_or(Kind::Group);
    kind.judge_scope(&mut question, directory.is_some(), organization.is_some());
    let sight = question.sight();
    if kind == Kind::Role && sight != Sight::All {
        return Err(Problem::bound_to_organizations());
    }
    let (engine, cut) = question.cut().await?;
    let scopes = [
        directory.as_deref().map(Named::Directory),
        organization.as_deref().map(Named::Organization),
    ];
    if let Err(problem) = must_be_named(&engine, &sight, cut, scopes) {
        return Ok(pinned(cut, Err::<Vec<u8>, _>(problem)));
    }
    let asking = engine.clone();
    let found = in_turn(&state.turns, &engine, &NAMES, move |turn| {
        let question = NameQuestion {
            kind: kind.named(),
            text: &text,
            compared: &compared_name(&text),
            compare: compared_name,
            email: text.contains('@').then(|| email_fingerprint(&text)),
            directory: directory.as_deref(),
            organization: organization.as_deref(),
            cut,
            ever,
        };
        let found = find(&asking, &sight, &question, turn)?;
        Ok(describe(kind, &found).to_string().into_bytes())
    });
    Ok(pinned(cut, found.await?))
}

impl Kind {
    fn named(self) -> NamedKind {
        match self {
            Kind::User => NamedKind::User,
            Kind::Group => NamedKind::Group,
            Kind::Directory => NamedKind::Directory,
            Kind::Organization => NamedKind::Organization,
            Kind::Role => NamedKind::Role,
            Kind::EventType => NamedKind::EventType,
        }
    }

    /// Refuses a directory or an organization for a kind that belongs to none.
    fn judge_scope(self, question: &mut Question, directory: bool, organization: bool) {
        if directory && !self.has_directory() {
            question.error("directory", FieldCode::Exclusive, BELONGS_TO_NONE);
        }
        if organization && !self.has_organization() {
            question.error("organization_id", FieldCode::Exclusive, BELONGS_TO_NONE);
        }
    }

    fn has_directory(self) -> bool {
        matches!(self, Kind::User | Kind::Group)
    }

    fn has_organization(self) -> bool {
        self.has_directory() || self == Kind::Directory
    }

    fn word(self) -> &'static str {
        let of_kind = Kind::WORDS.iter().zip(Kind::ALL).find(|(_, kind)| **kind == self);
        of_kind.map_or("", |(word, _)| word)
    }
}

/// Searches, and releases the lock on the views between the steps.
///
/// # Errors
/// 422 if it takes too long.
fn find(
    engine: &Engine,
    sight: &Sight,
    question: &NameQuestion<'_>,
    turn: &Turn,
) -> Result<NamesFound, Problem> {
    if let Some(found) = engine.views().seen_by(sight).named_at_once(question) {
        return Ok(found);
    }
    let mut search = NameSearch::default();
    while engine.views().seen_by(sight).search_names(question, &mut search, STEP) {
        if !turn.goes_on() {
            return Err(turn.problem(WorkError::Halted));
        }
    }
    Ok(engine.views().seen_by(sight).names_found(question, &search))
}

fn describe(kind: Kind, found: &NamesFound) -> Value {
    let by = found.by.map(|by| match by {
        NamedBy::Id => "id",
        NamedBy::Name => "name",
        NamedBy::Email => "email",
    });
    let items = |items: &[Namesake]| items.iter().map(describe_namesake).collect::<Vec<Value>>();
    json!({
        "object": "names_found",
        "kind": kind.word(),
        "named_by": by,
        "total": found.total,
        "data": items(&found.matches),
        "near": items(&found.near),
    })
}

fn describe_namesake(item: &Namesake) -> Value {
    let text = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    json!({
        "id": item.id,
        "name": text(&item.name),
        "directory_id": text(&item.directory),
        "organization_id": text(&item.organization),
        "app_user_id": item.app_user,
    })
}
