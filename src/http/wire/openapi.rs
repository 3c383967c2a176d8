//! The OpenAPI document, written from the declarations by which requests are judged.

use serde_json::{Map, Value, json};

use super::answer::{CHALLENGE, Code, RETRY_AFTER_S};
use super::api::{
    AS_OF_PATTERN, AnswerHeader, Bound, Cost, DIRECTORY_ID, GROUP_ID, Gives, Logged,
    MOMENT_PATTERN, NotWith, Operation, Order, Parameter, Reads, TEXT_CHARS_MAX, Takes, USER_ID,
    Word,
};
use super::state::WEBHOOK_PATH;
use crate::keys::Scope;
use crate::time;
use crate::verify::{ATTRIBUTE_PATH_PATTERN, FieldCode};
use actix_web::http::StatusCode;

/// The description of the whole API.
const ABOUT: &str = "The read API of WorkOS Directory Sync, over a log of every event received, \
    and Rollcall's own calls. Calls that read state take `as_of` and `known_at`; the headers \
    `Rollcall-As-Of` and `Rollcall-Known-At` of an answer, sent back, repeat it for ever. Calls \
    that need a key refuse a parameter that is not listed, with 422. Every path that answers GET \
    answers HEAD as well, without the body. Every other path answers 404 with the code \
    `not_found`. Answers to a key with a limit have the headers `X-RateLimit-Limit`, \
    `X-RateLimit-Remaining` and `X-RateLimit-Reset`. What OpenAPI has no words for is in \
    extensions: `x-not-with` names the parameters with which a parameter cannot be combined, \
    `x-needs-one-of` those of which a call needs at least one, `x-required-scopes` the scopes that \
    a key needs.";

/// The shapes that several calls share.
const SHARED: &str = include_str!("shared.schema.json");

/// Writes the whole document, in OpenAPI 3.1 (<https://spec.openapis.org/oas/v3.1.1>).
pub(crate) fn describe(operations: &[&Operation]) -> Value {
    let schemas = schemas(operations);
    let mut paths = Map::new();
    for operation in operations {
        let methods = allowed(operations, operation.path);
        let path = paths.entry(operation.path).or_insert_with(|| path(operation));
        if let Some(path) = path.as_object_mut() {
            path.insert(
                operation.method.name().to_lowercase(),
                call(operation, &methods, &schemas),
            );
        }
    }
    paths.insert(WEBHOOK_PATH.into(), webhook(&schemas));
    let api_key = json!({
        "type": "http", "scheme": "bearer", "description": "One of the server's API keys. \
            `x-required-scopes` of a call names the scopes that the key needs.",
    });
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Rollcall",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Who was in which group, now or at any past moment.",
            "description": ABOUT,
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "apiKey": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "apiKey": api_key },
            "schemas": schemas,
        },
    })
}

/// Returns the methods of a path, as `Allow` has them.
fn allowed(operations: &[&Operation], path: &str) -> String {
    let of_path = operations.iter().filter(|operation| operation.path == path);
    of_path.map(|operation| operation.method.allowed()).collect::<Vec<_>>().join(", ")
}

/// Collects the shapes of all calls.
fn schemas(operations: &[&Operation]) -> Value {
    let mut schemas = Map::new();
    for shapes in operations.iter().map(|operation| operation.shapes).chain([SHARED]) {
        schemas.extend(serde_json::from_str::<Map<String, Value>>(shapes).unwrap_or_default());
    }
    schemas.insert("Moment".into(), moment(time::PATTERN));
    schemas.insert("QueryMoment".into(), moment(MOMENT_PATTERN));
    let path = json!({ "type": "string", "pattern": ATTRIBUTE_PATH_PATTERN });
    schemas.insert("AttributePath".into(), path);
    schemas.into()
}

/// Describes moments: those of the format, and others that are taken as well. Together they are all
/// that match the pattern.
fn moment(pattern: &str) -> Value {
    let rfc_3339 = json!({
        "type": "string", "maxLength": TEXT_CHARS_MAX, "format": "date-time", "pattern": pattern,
    });
    let others = json!({
        "type": "string",
        "description": "Without a zone it is in UTC; `T` may be a space, and `+00:00` may lack its \
            colon.",
        "maxLength": TEXT_CHARS_MAX,
        "pattern": pattern,
    });
    json!({ "description": "An RFC 3339 time.", "anyOf": [rfc_3339, others] })
}

/// The description of an id in a path.
const ID: &str = "Its id, percent-encoded";

/// Describes a path, without its calls.
fn path(operation: &Operation) -> Value {
    let names = operation.path.split('/').filter_map(|part| part.strip_prefix('{'));
    let segments: Vec<Value> =
        names.map(|name| segment(operation.path, name.trim_end_matches('}'))).collect();
    if segments.is_empty() { json!({}) } else { json!({ "parameters": segments }) }
}

/// Describes the part of a path that has a name.
fn segment(path: &str, name: &str) -> Value {
    let (about, example) = match name {
        "seq" => (
            "The record's number, or its event's id, percent-encoded. Digits alone are a number; \
            anything after `id:` is an id",
            "7",
        ),
        "token_id" => (ID, "directory_token_01K424MH00XFE6WM17PR9ASN2Z"),
        _ if path.contains("users/{id}") => (ID, USER_ID),
        _ if path.contains("groups/{id}") => (ID, GROUP_ID),
        _ if path.contains("endpoints/{id}") => ("Its name", "app"),
        _ => (ID, DIRECTORY_ID),
    };
    json!({
        "name": name, "in": "path", "required": true, "description": about,
        "schema": { "type": "string", "minLength": 1 }, "example": example,
    })
}

fn call(operation: &Operation, allowed: &str, schemas: &Value) -> Value {
    let mut call = Map::new();
    call.insert("operationId".into(), operation.name.into());
    call.insert("summary".into(), operation.about.into());
    let queried =
        operation.all_parameters().map(|parameter| describe_parameter(parameter, "query"));
    let headers = operation.headers.iter().map(|header| describe_parameter(header, "header"));
    call.insert("parameters".into(), queried.chain(headers).collect());
    if !operation.needs_one_of.is_empty() {
        call.insert("x-needs-one-of".into(), json!(operation.needs_one_of));
    }
    match operation.scope() {
        None => drop(call.insert("security".into(), json!([]))),
        Some(scope) => {
            call.insert("description".into(), rights(operation, scope).into());
            let scopes: Vec<&str> = operation.scopes().map(Scope::word).collect();
            call.insert("x-required-scopes".into(), json!(scopes));
        }
    }
    if let Some(name) = operation.takes {
        let described = json!({ "schema": reference(name), "example": example_of(name, schemas) });
        let content = json!({ operation.takes_as: described });
        call.insert(
            "requestBody".into(),
            json!({ "required": operation.needs_body, "content": content }),
        );
    }
    call.insert("responses".into(), responses(operation, allowed, schemas));
    call.into()
}

/// Describes the rights that a key needs for a call.
fn rights(operation: &Operation, scope: Scope) -> String {
    let mut rights = format!("Needs a key with the scope `{}`", scope.word());
    if let Some(also) = operation.needs_also {
        rights.push_str(&format!(" and the scope `{}`", also.word()));
    }
    if operation.reads == Reads::AtCut && scope != Scope::Audit {
        rights.push_str(
            ", and with `audit` as well if `as_of` is a time or `known_at` is more than an hour old",
        );
    }
    rights.push_str(match operation.bound() {
        Bound::Own => ". A key that is bound to organizations sees what is of them.",
        Bound::All => ". A key that is bound to organizations gets the same.",
        Bound::Refused => ". A key that is bound to organizations is refused.",
    });
    rights
}

fn describe_parameter(parameter: &Parameter, place: &str) -> Value {
    let Parameter { name, about, takes, example, required, deprecated, not_with } = *parameter;
    let mut described = Map::new();
    described.insert("name".into(), name.into());
    described.insert("in".into(), place.into());
    described.insert("description".into(), about.into());
    described.insert("schema".into(), schema(takes));
    described.insert("example".into(), typed(takes, example));
    if required {
        described.insert("required".into(), true.into());
    }
    if deprecated {
        described.insert("deprecated".into(), true.into());
    }
    if let Some(NotWith { names, .. }) = not_with {
        described.insert("x-not-with".into(), json!(names));
    }
    if matches!(takes, Takes::Texts { .. }) {
        described.insert("style".into(), "form".into());
        described.insert("explode".into(), false.into());
    }
    described.into()
}

/// Describes the values that a parameter takes.
pub(super) fn schema(takes: Takes) -> Value {
    let text = json!({ "type": "string", "minLength": 1, "maxLength": TEXT_CHARS_MAX });
    match takes {
        Takes::Text => text,
        Takes::Form(pattern) => json!({ "type": "string", "pattern": pattern }),
        Takes::WordOrForm(word, pattern) => json!({
            "oneOf": [
                { "type": "string", "const": word },
                { "type": "string", "pattern": pattern },
            ],
        }),
        Takes::Cursor(parts) => json!({
            "type": "string",
            "maxLength": TEXT_CHARS_MAX,
            "pattern": format!("^{}$", parts.join(r"\.")),
        }),
        Takes::Words(words) => json!({ "type": "string", "enum": words }),
        Takes::Order(_) => json!({ "type": "string", "enum": Order::WORDS }),
        Takes::Number { min, max, default } => {
            json!({ "type": "integer", "minimum": min, "maximum": max, "default": default })
        }
        Takes::Seq => json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX }),
        Takes::Moment => reference("QueryMoment"),
        Takes::AsOf => {
            json!({ "oneOf": [{ "type": "string", "const": "latest" }, reference("QueryMoment")] })
        }
        Takes::KnownAt => {
            json!({ "oneOf": [{ "type": "integer", "minimum": 0 }, reference("QueryMoment")] })
        }
        Takes::Texts { max } => {
            // Commas separate texts, and blank ones are passed over.
            let pattern = r"^[^,]*[^,\s][^,]*$";
            let item = json!({ "type": "string", "maxLength": TEXT_CHARS_MAX, "pattern": pattern });
            json!({ "type": "array", "items": item, "minItems": 1, "maxItems": max })
        }
    }
}

/// Converts an example to the type that a parameter takes.
fn typed(takes: Takes, example: &str) -> Value {
    match takes {
        Takes::Number { .. } | Takes::Seq => {
            example.parse::<u64>().map_or(Value::Null, Value::from)
        }
        Takes::Texts { .. } => example.split(',').collect(),
        // An example of `known_at` is a number or a time.
        Takes::KnownAt => example.parse::<u64>().map_or(example.into(), Value::from),
        Takes::Text
        | Takes::Form(_)
        | Takes::WordOrForm(..)
        | Takes::Cursor(_)
        | Takes::Words(_)
        | Takes::Order(_)
        | Takes::Moment
        | Takes::AsOf => example.into(),
    }
}

/// Returns the errors of a call: those of every call of its kind, and its own.
fn problems(operation: &Operation) -> Vec<Code> {
    let follows = |code: &Code| match code {
        Code::Unauthorized
        | Code::Forbidden
        | Code::RateLimited
        | Code::ValidationFailed
        | Code::Internal
        | Code::NotReady => operation.is_keyed(),
        Code::AsOfInFuture | Code::KnownAtOutOfRange | Code::LogUnavailable => {
            operation.reads == Reads::AtCut
        }
        Code::TooMuchWork => operation.cost == Cost::High,
        // Any answer may be large.
        Code::TooManyRequests => operation.is_keyed() || matches!(operation.gives, Gives::Document),
        Code::Stopping => operation.cost != Cost::Low,
        Code::AccessLogUnavailable => operation.logged != Logged::Never,
        Code::MethodNotAllowed => true,
        Code::NotFound => operation.path.contains('{'),
        Code::BodyTimeout | Code::BodyTooLarge | Code::QueueFull => operation.takes.is_some(),
        _ => false,
    };
    Code::ALL
        .iter()
        .copied()
        .filter(|code| follows(code) || operation.problems.contains(code))
        .collect()
}

fn responses(operation: &Operation, allowed: &str, schemas: &Value) -> Value {
    let status = match operation.gives {
        Gives::Accepted | Gives::Begun(_) => "202",
        Gives::Created(_) => "201",
        Gives::Nothing => "204",
        Gives::One(_)
        | Gives::List(_)
        | Gives::OneOrLines { .. }
        | Gives::Text { .. }
        | Gives::File { .. }
        | Gives::Document => "200",
    };
    let mut answer = Map::new();
    answer.insert("description".into(), operation.about.into());
    if !matches!(operation.gives, Gives::Nothing) {
        answer.insert("content".into(), content(operation, schemas));
    }
    answer.insert("headers".into(), headers(operation));
    let words = Words { is_own: operation.is_own(), allowed };
    with_problems(status, answer.into(), &problems(operation), words)
}

/// The words of a call's errors.
#[derive(Clone, Copy)]
struct Words<'a> {
    /// True if they are Rollcall's own, and not those of WorkOS.
    is_own: bool,
    /// The methods of its path.
    allowed: &'a str,
}

fn headers(operation: &Operation) -> Value {
    let mut headers = Map::new();
    headers.insert("X-Request-ID".into(), request_id());
    for (name, parameter) in operation.pins() {
        let about = format!("Sent back as `{parameter}`, repeats the answer.");
        // The moment of an answer is in the form of its fields; a record is a number.
        let pattern = if name.ends_with("Known-At") { "^[0-9]+$" } else { AS_OF_PATTERN };
        headers.insert((*name).into(), header(&about, pattern));
    }
    for AnswerHeader { name, about, pattern } in operation.answer_headers {
        headers.insert((*name).into(), header(about, pattern));
    }
    headers.into()
}

fn request_id() -> Value {
    header("Names this request.", "^req_[0-9a-f]{16}$")
}

/// Describes the body of the answer that succeeds.
fn content(operation: &Operation, schemas: &Value) -> Value {
    let (media_type, schema, example) = match operation.gives {
        Gives::OneOrLines { one, lines } => {
            let line = format!("{}\n", example_of(lines, schemas));
            return json!({
                "application/json": { "schema": reference(one), "example": example_of(one, schemas) },
                "application/x-ndjson": { "schema": { "type": "string" }, "example": line },
            });
        }
        Gives::One(name) | Gives::Begun(name) | Gives::Created(name) => {
            ("application/json", reference(name), example_of(name, schemas))
        }
        Gives::List(name) => {
            let data = json!({ "type": "array", "items": reference(name) });
            let page = json!({
                "object": "list",
                "data": [example_of(name, schemas)],
                "list_metadata": { "before": null, "after": null },
            });
            let narrowed = json!({ "properties": { "data": data } });
            ("application/json", json!({ "allOf": [reference("List"), narrowed] }), page)
        }
        Gives::Text { media_type, example } => {
            (media_type, json!({ "type": "string" }), example.into())
        }
        Gives::File { media_type } => return json!({ media_type: {} }),
        Gives::Nothing => return json!({}),
        Gives::Document => {
            ("application/json", json!({ "type": "object" }), json!({ "openapi": "3.1.1" }))
        }
        Gives::Accepted => ("text/plain", json!({ "type": "string" }), "Accepted".into()),
    };
    json!({ media_type: { "schema": schema, "example": example } })
}

/// Returns the example of a shape.
fn example_of(name: &str, schemas: &Value) -> Value {
    schemas.get(name).and_then(|schema| schema.get("example")).cloned().unwrap_or_default()
}

/// Describes the answer that succeeds, and those of the errors, by status.
fn with_problems(status: &str, answer: Value, problems: &[Code], words: Words<'_>) -> Value {
    let mut responses = Map::new();
    responses.insert(status.into(), answer);
    for code in problems {
        let status = code.status();
        let response =
            responses.entry(status.as_str()).or_insert_with(|| problem_response(status, words));
        if let Some(examples) = response
            .pointer_mut("/content/application~1json/examples")
            .and_then(Value::as_object_mut)
        {
            let example = example(*code, words.is_own);
            examples.insert(code.name().into(), json!({ "value": example }));
        }
        if let Some(codes) = response
            .pointer_mut("/content/application~1json/schema/allOf/1/properties/code/enum")
            .and_then(Value::as_array_mut)
        {
            codes.push(code.name().into());
        }
    }
    responses.into()
}

/// Describes the errors of a status, without their codes and examples.
fn problem_response(status: StatusCode, words: Words<'_>) -> Value {
    let mut headers = Map::new();
    headers.insert("X-Request-ID".into(), request_id());
    let more = match status {
        StatusCode::UNAUTHORIZED => {
            Some(("WWW-Authenticate", "The scheme of the key.", CHALLENGE.to_owned()))
        }
        StatusCode::METHOD_NOT_ALLOWED => {
            Some(("Allow", "The methods that the path answers.", words.allowed.to_owned()))
        }
        StatusCode::SERVICE_UNAVAILABLE => Some((
            "Retry-After",
            "The seconds after which to try again.",
            RETRY_AFTER_S.to_string(),
        )),
        _ => None,
    };
    if let Some((name, about, value)) = more {
        let value = json!({ "type": "string", "const": value });
        headers.insert(
            name.into(),
            json!({ "description": about, "required": true, "schema": value }),
        );
    }
    let mistake = if words.is_own { "Mistake" } else { "WorkosMistake" };
    let narrowed = json!({
        "properties": {
            "code": { "enum": [] },
            "errors": { "items": reference(mistake) },
        },
    });
    if status == StatusCode::TOO_MANY_REQUESTS {
        for (name, about) in LIMIT_HEADERS {
            headers.insert(name.into(), header(about, "^[0-9]+$"));
        }
    }
    json!({
        "description": status.canonical_reason().unwrap_or_default(),
        "headers": headers,
        "content": {
            "application/json": {
                "schema": { "allOf": [reference("Problem"), narrowed] },
                "examples": {},
            },
        },
    })
}

/// The headers of a key's limit. Every answer to a key with a limit has them but the first.
const LIMIT_HEADERS: [(&str, &str); 4] = [
    ("Retry-After", "The seconds until a retry may succeed."),
    ("X-RateLimit-Limit", "The requests in a minute that the key may make."),
    ("X-RateLimit-Remaining", "How many more it may make now."),
    ("X-RateLimit-Reset", "The Unix time, in seconds, at which it may make all of them again."),
];

/// Returns an example of a mistake in a parameter or field.
fn mistake(field: &str, code: FieldCode, message: &str, is_own: bool) -> Value {
    if is_own {
        json!({ "field": field, "code": code.name(), "message": message })
    } else {
        json!({ "field": field, "code": message })
    }
}

/// Returns an example of an error.
fn example(code: Code, is_own: bool) -> Value {
    let mistake = |field: &str, code: FieldCode, message: &str| {
        Some(("errors", json!([mistake(field, code, message, is_own)])))
    };
    let mut example = json!({ "message": code.message(), "code": code.name() });
    let more = match code {
        Code::EntityNotFound => Some(("entity_id", json!("directory_1"))),
        Code::ValidationFailed => {
            mistake("limit", FieldCode::OutOfRange, "it must be a whole number from 1 to 100")
        }
        Code::AsOfInFuture => {
            mistake("as_of", FieldCode::OutOfRange, "`as_of` is later than this server's clock")
        }
        Code::KnownAtOutOfRange => mistake(
            "known_at",
            FieldCode::OutOfRange,
            "`known_at` is above the last record, or in the future",
        ),
        Code::MappingInvalid => {
            mistake("mapping.rules[0].roles", FieldCode::Required, "it must name a role")
        }
        Code::CursorInvalid => {
            mistake("after", FieldCode::Invalid, "this is not a cursor of this list")
        }
        _ => None,
    };
    if let (Some((key, value)), Some(example)) = (more, example.as_object_mut()) {
        example.insert(key.into(), value);
    }
    example
}

fn webhook(schemas: &Value) -> Value {
    let problems: Vec<Code> = Code::ALL
        .iter()
        .copied()
        .filter(|code| {
            Code::SIGNATURES.contains(code)
                || matches!(
                    code,
                    Code::MethodNotAllowed
                        | Code::BodyTimeout
                        | Code::BodyTooLarge
                        | Code::UnsupportedEncoding
                        | Code::QueueFull
                        | Code::LogUnavailable
                        | Code::NotReady
                )
        })
        .collect();
    let example = example_of("Receipt", schemas);
    let content = content_of(reference("Receipt"), example);
    let answer = json!({
        "description": "The event is durable and in the views.",
        "headers": { "X-Request-ID": request_id() },
        "content": content,
    });
    let words = Words { is_own: true, allowed: "POST" };
    json!({
        "post": {
            "operationId": "receiveWebhook",
            "summary": "Takes a webhook that WorkOS signed. The path is a setting.",
            "security": [],
            "parameters": [{
                "name": "WorkOS-Signature", "in": "header", "required": true,
                "description": WEBHOOK_SIGNATURE,
                "schema": { "type": "string" },
                "example": WEBHOOK_SIGNATURE_EXAMPLE,
            }],
            "requestBody": {
                "required": true,
                "description": "At most 4 MiB, unless `--body-bytes-max` says otherwise; kept byte for byte.",
                "content": content_of(json!({ "type": "object" }), example_of("Event", schemas)),
            },
            "responses": with_problems("200", answer, &problems, words),
        },
    })
}

const WEBHOOK_SIGNATURE: &str =
    "`t=<milliseconds>, v1=<hex>`: HMAC-SHA256 over `t.body`, keyed with the webhook's secret";

const WEBHOOK_SIGNATURE_EXAMPLE: &str =
    "t=1700000000000, v1=c1b5a1170e44015ffcd5cc0a22f6c8ddb10690f6c810af585ad412fa499ed5e9";

/// Describes a JSON body.
fn content_of(schema: Value, example: Value) -> Value {
    json!({ "application/json": { "schema": schema, "example": example } })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn header(about: &str, pattern: &str) -> Value {
    let schema = json!({ "type": "string", "pattern": pattern });
    json!({ "description": about, "required": true, "schema": schema })
}
