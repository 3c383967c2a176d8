//! The OpenAPI document, written from the declarations by which requests are judged.

use serde_json::{Map, Value, json};

use super::answer::{CHALLENGE, Code};
use super::api::{
    Cost, Gives, Logged, Operation, Order, Parameter, Reads, TEXT_BYTES_MAX, Takes, Word,
};
use super::state::WEBHOOK_PATH;
use crate::verify::FieldCode;
use actix_web::http::StatusCode;

/// The description of the whole API.
const ABOUT: &str = "The read API of WorkOS Directory Sync, over a log of every event received, \
    and Rollcall's own calls. Calls that read state take `as_of` and `known_at`; the headers \
    `Rollcall-As-Of` and `Rollcall-Known-At` of an answer, sent back, repeat it for ever. Calls \
    that need a key refuse a parameter that is not listed, with 422. Every path that answers GET \
    answers HEAD as well, without the body.";

/// The shapes that several calls share.
const SHARED: &str = include_str!("shared.schema.json");

/// Writes the whole document, in OpenAPI 3.1 (<https://spec.openapis.org/oas/v3.1.1>).
pub(crate) fn describe(operations: &[&Operation]) -> Value {
    let schemas = schemas(operations);
    let mut paths = Map::new();
    for operation in operations {
        let path = paths.entry(operation.path).or_insert_with(|| path(operation));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.name().to_lowercase(), call(operation, &schemas));
        }
    }
    paths.insert(WEBHOOK_PATH.into(), webhook(&schemas));
    let api_key = json!({
        "type": "http", "scheme": "bearer", "description": "One of the server's API keys.",
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

/// Collects the shapes of all calls.
fn schemas(operations: &[&Operation]) -> Value {
    let mut schemas = Map::new();
    for shapes in operations.iter().map(|operation| operation.shapes).chain([SHARED]) {
        schemas.extend(serde_json::from_str::<Map<String, Value>>(shapes).unwrap_or_default());
    }
    schemas.into()
}

/// Describes a path, without its calls.
fn path(operation: &Operation) -> Value {
    let (name, about, example) = if operation.path.contains("{id}") {
        ("id", "Its id, percent-encoded", "directory_01K424MH00XFE6WM17PR9ASN2Y")
    } else if operation.path.contains("{seq}") {
        (
            "seq",
            "The record's number, or its event's id, percent-encoded. Digits alone are a number; \
            anything after `id:` is an id",
            "7",
        )
    } else {
        return json!({});
    };
    let segment = json!({
        "name": name, "in": "path", "required": true, "description": about,
        "schema": { "type": "string", "minLength": 1 }, "example": example,
    });
    json!({ "parameters": [segment] })
}

fn call(operation: &Operation, schemas: &Value) -> Value {
    let mut call = Map::new();
    call.insert("operationId".into(), operation.name.into());
    call.insert("summary".into(), operation.about.into());
    call.insert("parameters".into(), operation.all_parameters().map(describe_parameter).collect());
    if !operation.is_keyed() {
        call.insert("security".into(), json!([]));
    }
    if let Some(name) = operation.takes {
        let content = content_of(reference(name), example_of(name, schemas));
        call.insert("requestBody".into(), json!({ "required": true, "content": content }));
    }
    call.insert("responses".into(), responses(operation, schemas));
    call.into()
}

fn describe_parameter(parameter: &Parameter) -> Value {
    let Parameter { name, about, takes, example, required } = *parameter;
    let mut described = Map::new();
    described.insert("name".into(), name.into());
    described.insert("in".into(), "query".into());
    described.insert("description".into(), about.into());
    described.insert("schema".into(), schema(takes));
    described.insert("example".into(), typed(takes, example));
    if required {
        described.insert("required".into(), true.into());
    }
    if matches!(takes, Takes::Texts { .. }) {
        described.insert("style".into(), "form".into());
        described.insert("explode".into(), false.into());
    }
    described.into()
}

/// Describes the values that a parameter takes.
fn schema(takes: Takes) -> Value {
    let text = json!({ "type": "string", "minLength": 1, "maxLength": TEXT_BYTES_MAX });
    match takes {
        Takes::Text => text,
        Takes::Words(words) => json!({ "type": "string", "enum": words }),
        Takes::Order(_) => json!({ "type": "string", "enum": Order::WORDS }),
        Takes::Number { min, max, default } => {
            json!({ "type": "integer", "minimum": min, "maximum": max, "default": default })
        }
        Takes::Seq => json!({ "type": "integer", "minimum": 1, "maximum": u32::MAX }),
        Takes::Moment => json!({ "type": "string", "format": "date-time" }),
        Takes::Texts { max } => {
            json!({ "type": "array", "items": text, "minItems": 1, "maxItems": max })
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
        Takes::Text | Takes::Words(_) | Takes::Order(_) | Takes::Moment => example.into(),
    }
}

/// Returns the errors of a call: those of every call of its kind, and its own.
fn problems(operation: &Operation) -> Vec<Code> {
    let follows = |code: &Code| match code {
        Code::Unauthorized | Code::ValidationFailed | Code::Internal | Code::NotReady => {
            operation.is_keyed()
        }
        Code::AsOfInFuture | Code::KnownAtOutOfRange | Code::LogUnavailable => {
            operation.reads == Reads::AtCut
        }
        Code::TooMuchWork | Code::TooManyRequests | Code::Stopping => operation.cost == Cost::High,
        Code::AccessLogUnavailable => operation.logged != Logged::Never,
        Code::BodyTimeout | Code::BodyTooLarge | Code::QueueFull => operation.takes.is_some(),
        Code::MethodNotAllowed => true,
        _ => false,
    };
    Code::ALL
        .iter()
        .copied()
        .filter(|code| follows(code) || operation.problems.contains(code))
        .collect()
}

fn responses(operation: &Operation, schemas: &Value) -> Value {
    let status = match operation.gives {
        Gives::Accepted | Gives::Begun(_) => "202",
        Gives::One(_) | Gives::List(_) | Gives::Text { .. } | Gives::Document => "200",
    };
    let mut answer = Map::new();
    answer.insert("description".into(), operation.about.into());
    answer.insert("content".into(), content(operation, schemas));
    // The word that WorkOS answers with has no headers of Rollcall's own.
    if !matches!(operation.gives, Gives::Accepted) {
        answer.insert("headers".into(), headers(operation));
    }
    with_problems(status, answer.into(), &problems(operation), operation.is_own())
}

fn headers(operation: &Operation) -> Value {
    let mut headers = Map::new();
    headers.insert("X-Request-ID".into(), header("Names this request."));
    for (name, parameter) in operation.pins() {
        let about = format!("Sent back as `{parameter}`, repeats the answer.");
        headers.insert((*name).into(), header(&about));
    }
    headers.into()
}

/// Describes the body of the answer that succeeds.
fn content(operation: &Operation, schemas: &Value) -> Value {
    let (media_type, schema, example) = match operation.gives {
        Gives::One(name) | Gives::Begun(name) => {
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

/// Describes the answer that succeeds, and those of the errors, by status. `is_own` says whose words
/// the mistakes in parameters are in.
fn with_problems(status: &str, answer: Value, problems: &[Code], is_own: bool) -> Value {
    let mut responses = Map::new();
    responses.insert(status.into(), answer);
    for code in problems {
        let status = code.status();
        let response = responses.entry(status.as_str()).or_insert_with(|| problem_response(status));
        if let Some(examples) = response
            .pointer_mut("/content/application~1json/examples")
            .and_then(Value::as_object_mut)
        {
            examples.insert(code.name().into(), json!({ "value": example(*code, is_own) }));
        }
    }
    responses.into()
}

/// Describes the errors of a status, without examples.
fn problem_response(status: StatusCode) -> Value {
    let mut headers = Map::new();
    if status == StatusCode::UNAUTHORIZED {
        let challenge = json!({
            "description": "The scheme of the key.",
            "schema": { "type": "string", "const": CHALLENGE },
        });
        headers.insert("WWW-Authenticate".into(), challenge);
    }
    json!({
        "description": status.canonical_reason().unwrap_or_default(),
        "headers": headers,
        "content": {
            "application/json": { "schema": reference("Problem"), "examples": {} },
        },
    })
}

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
    let answer =
        json!({ "description": "The event is durable and in the views.", "content": content });
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
            "responses": with_problems("200", answer, &problems, true),
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

fn header(about: &str) -> Value {
    json!({ "description": about, "schema": { "type": "string" } })
}
