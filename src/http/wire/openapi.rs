//! The OpenAPI document, written from the declarations by which requests are judged.

use serde_json::{Map, Value, json as object};

use super::answer::Code;
use super::api::{Gives, Operation, Parameter, Takes};
use super::state::WEBHOOK_PATH;

/// The shapes of answers, each with an example.
const SCHEMAS: &str = include_str!("schemas.json");

/// The whole document, by OpenAPI 3.1 (<https://spec.openapis.org/oas/v3.1.1>).
pub(crate) fn describe(operations: &[&Operation]) -> Value {
    let schemas: Value = serde_json::from_str(SCHEMAS).unwrap_or_default();
    let mut paths = Map::new();
    for operation in operations {
        let path = paths.entry(operation.path).or_insert_with(|| path(operation));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.name().to_lowercase(), call(operation, &schemas));
        }
    }
    paths.insert(WEBHOOK_PATH.into(), webhook(&schemas));
    object!({
        "openapi": "3.1.1",
        "info": {
            "title": "Rollcall",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Who was in which group, now or at any past moment.",
            "description": "The read API of WorkOS Directory Sync, over a log of every event received, and Rollcall's own calls beside it. \
                Whatever reads state takes `as_of` and `known_at`, and says in the headers `Rollcall-As-Of` and `Rollcall-Known-At` how to \
                repeat the answer for ever. Of calls that need a key, a parameter that is not listed is refused with 422.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "security": [{ "apiKey": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "apiKey": { "type": "http", "scheme": "bearer", "description": "One of the server's API keys." } },
            "schemas": schemas,
        },
    })
}

/// A path without its calls.
fn path(operation: &Operation) -> Value {
    let (name, about, example) = if operation.path.contains("{id}") {
        ("id", "Its id, percent-encoded", "directory_01K424MH00XFE6WM17PR9ASN2Y")
    } else if operation.path.contains("{seq}") {
        (
            "seq",
            "The record's number, or its event's id, percent-encoded. Digits alone are a number; after `id:` whatever follows is an id",
            "7",
        )
    } else {
        return object!({});
    };
    let segment = object!({
        "name": name, "in": "path", "required": true, "description": about,
        "schema": { "type": "string", "minLength": 1 }, "example": example,
    });
    object!({ "parameters": [segment] })
}

fn call(operation: &Operation, schemas: &Value) -> Value {
    let mut call = Map::new();
    call.insert("operationId".into(), operation.name.into());
    call.insert("summary".into(), operation.about.into());
    call.insert("parameters".into(), operation.all_parameters().map(describe_parameter).collect());
    if !operation.keyed {
        call.insert("security".into(), object!([]));
    }
    if let Some(name) = operation.takes {
        let content = object!({ "application/json": { "schema": reference(name), "example": schemas.pointer(&format!("/{name}/example")) } });
        call.insert("requestBody".into(), object!({ "required": true, "content": content }));
    }
    call.insert("responses".into(), responses(operation, schemas));
    call.into()
}

fn describe_parameter(parameter: &Parameter) -> Value {
    let Parameter { name, about, takes, example } = *parameter;
    let text = object!({ "type": "string", "minLength": 1, "maxLength": 1024 });
    let (schema, example) = match takes {
        Takes::Text | Takes::NeededText => (text, example.into()),
        Takes::Words(words) => (object!({ "type": "string", "enum": words }), example.into()),
        Takes::Number { default, max } | Takes::Count { default, max } => {
            let minimum = if matches!(takes, Takes::Count { .. }) { 0 } else { 1 };
            let schema = object!({ "type": "integer", "minimum": minimum, "maximum": max, "default": default });
            (schema, example.parse::<u64>().map_or(Value::Null, Value::from))
        }
        Takes::Seq { .. } => {
            let schema = object!({ "type": "integer", "minimum": 1, "maximum": u32::MAX });
            (schema, example.parse::<u64>().map_or(Value::Null, Value::from))
        }
        Takes::Moment => (object!({ "type": "string", "format": "date-time" }), example.into()),
        Takes::Texts => {
            let schema = object!({ "type": "array", "items": text, "minItems": 1, "maxItems": 64 });
            (schema, example.split(',').collect::<Value>())
        }
    };
    let mut described = object!({ "name": name, "in": "query", "description": about, "schema": schema, "example": example });
    let needed = matches!(takes, Takes::Texts | Takes::NeededText | Takes::Seq { needed: true });
    if let (true, Some(described)) = (needed, described.as_object_mut()) {
        described.insert("required".into(), true.into());
    }
    if let (Takes::Texts, Some(described)) = (takes, described.as_object_mut()) {
        described.insert("style".into(), "form".into());
        described.insert("explode".into(), false.into());
    }
    described
}

/// The errors that a call can answer with: those of every call of its kind, and its own.
fn problems(operation: &Operation) -> Vec<Code> {
    let follows = |code: &Code| match code {
        Code::Unauthorized | Code::ValidationFailed | Code::Internal => operation.keyed,
        Code::NotReady => operation.keyed,
        Code::AsOfInFuture | Code::KnownAtOutOfRange | Code::LogUnavailable => operation.cut,
        Code::MethodNotAllowed => true,
        _ => false,
    };
    Code::ALL
        .into_iter()
        .filter(|code| follows(code) || operation.problems.contains(code))
        .collect()
}

fn responses(operation: &Operation, schemas: &Value) -> Value {
    let (schema, example) = match operation.gives {
        Gives::One(name) | Gives::Begun(name) => {
            (reference(name), schemas.pointer(&format!("/{name}/example")).cloned())
        }
        Gives::List(name) => {
            let list = object!({ "allOf": [reference("List"), { "properties": { "data": { "type": "array", "items": reference(name) } } }] });
            let item = schemas.pointer(&format!("/{name}/example")).cloned();
            let list_metadata = object!({ "before": null, "after": null });
            (list, item.map(|item| object!({ "object": "list", "data": [item], "list_metadata": list_metadata })))
        }
        Gives::Text(kind, example) => {
            let content = object!({ kind: { "schema": { "type": "string" }, "example": example } });
            let headers = object!({ "X-Request-ID": header("Names this request.") });
            let answer =
                object!({ "description": operation.about, "headers": headers, "content": content });
            return with_problems("200", answer, &problems(operation));
        }
        Gives::Document => (object!({ "type": "object" }), Some(object!({ "openapi": "3.1.1" }))),
        Gives::Accepted => {
            let content = object!({ "text/plain": { "schema": { "type": "string" }, "example": "Accepted" } });
            return with_problems(
                "202",
                object!({ "description": operation.about, "content": content }),
                &problems(operation),
            );
        }
    };
    let mut headers = object!({ "X-Request-ID": header("Names this request.") });
    if let Some(headers) = headers.as_object_mut() {
        let pins = operation.pins().iter();
        headers.extend(pins.map(|(name, parameter)| {
            ((*name).into(), header(&format!("Sent back as `{parameter}`, repeats the answer.")))
        }));
    }
    let content = object!({ "application/json": { "schema": schema, "example": example } });
    let answer =
        object!({ "description": operation.about, "headers": headers, "content": content });
    let status = if matches!(operation.gives, Gives::Begun(_)) { "202" } else { "200" };
    with_problems(status, answer, &problems(operation))
}

/// The answer that succeeds, and those of the errors, by status.
fn with_problems(status: &str, answer: Value, problems: &[Code]) -> Value {
    let mut responses = Map::new();
    responses.insert(status.into(), answer);
    for code in problems {
        let status = code.status();
        let response = responses.entry(status.as_str()).or_insert_with(|| {
            object!({
                "description": status.canonical_reason().unwrap_or_default(),
                "content": { "application/json": { "schema": reference("Problem"), "examples": {} } },
            })
        });
        if let Some(examples) = response
            .pointer_mut("/content/application~1json/examples")
            .and_then(Value::as_object_mut)
        {
            examples.insert(code.name().into(), object!({ "value": example(*code) }));
        }
    }
    responses.into()
}

fn example(code: Code) -> Value {
    let mut example = object!({ "message": code.message(), "code": code.name() });
    let more = match code {
        Code::EntityNotFound => Some(("entity_id", object!("directory_1"))),
        Code::ValidationFailed => Some((
            "errors",
            object!([{ "field": "limit", "code": "it must be a whole number from 1 to 100" }]),
        )),
        Code::AsOfInFuture => Some((
            "errors",
            object!([{ "field": "as_of", "code": "`as_of` is later than this server's clock" }]),
        )),
        Code::KnownAtOutOfRange => Some((
            "errors",
            object!([{ "field": "known_at", "code": "`known_at` is above the last record, or in the future" }]),
        )),
        Code::MappingInvalid => Some((
            "errors",
            object!([{ "field": "mapping.rules[0].roles", "code": "it must name a role" }]),
        )),
        Code::CursorInvalid => Some((
            "errors",
            object!([{ "field": "after", "code": "this is not a cursor of this list" }]),
        )),
        _ => None,
    };
    if let (Some((key, value)), Some(example)) = (more, example.as_object_mut()) {
        example.insert(key.into(), value);
    }
    example
}

fn webhook(schemas: &Value) -> Value {
    let problems: Vec<Code> = Code::ALL
        .into_iter()
        .filter(|code| {
            Code::SIGNATURES.contains(code)
                || matches!(
                    code,
                    Code::MethodNotAllowed
                        | Code::BodyTooLarge
                        | Code::UnsupportedEncoding
                        | Code::QueueFull
                        | Code::LogUnavailable
                        | Code::NotReady
                )
        })
        .collect();
    let example = schemas.pointer("/Receipt/example");
    let content =
        object!({ "application/json": { "schema": reference("Receipt"), "example": example } });
    let answer = object!({ "description": "The event is durable, and what it says can be asked.", "content": content });
    object!({
        "post": {
            "operationId": "receiveWebhook",
            "summary": "Takes a webhook that WorkOS signed. The path is a setting; this is the one without it.",
            "security": [],
            "parameters": [{
                "name": "WorkOS-Signature", "in": "header", "required": true,
                "description": "`t=<milliseconds>, v1=<hex>`: HMAC-SHA256 over `t.body`, keyed with the webhook's secret",
                "schema": { "type": "string" },
                "example": "t=1700000000000, v1=c1b5a1170e44015ffcd5cc0a22f6c8ddb10690f6c810af585ad412fa499ed5e9",
            }],
            "requestBody": {
                "required": true,
                "description": "At most 1 MiB, kept byte for byte.",
                "content": { "application/json": { "schema": { "type": "object" }, "example": schemas.pointer("/Event/example") } },
            },
            "responses": with_problems("200", answer, &problems),
        },
    })
}

fn reference(schema: &str) -> Value {
    object!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn header(about: &str) -> Value {
    object!({ "description": about, "schema": { "type": "string" } })
}
