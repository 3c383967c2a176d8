//! `/rollcall/v1/log/…`: records, proofs and signed checkpoints for auditors, and the key.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName};
use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rollcall_projections::Sight;
use serde_json::{Value, json};

use crate::engine::{Engine, KeyChange};
use crate::http::wire::answer::{ANSWER_WITHIN, Code, Problem, respond};
use crate::http::wire::api::{
    Access, AnswerHeader, Bound, Gives, Logged, Operation, Parameter, Takes,
};
use crate::http::wire::body::Body;
use crate::http::wire::question::{Question, id_in_path};
use crate::http::wire::state::State;
use crate::http::wire::threads::blocking;
use crate::keys::Scope;
use crate::time;
use crate::verify::FieldCode;

const SHAPES: &str = include_str!("proofs.schema.json");

const CHECKPOINT_SIZE: Parameter = Parameter::new(
    "size",
    Takes::Seq,
    "12",
    "The checkpoint's size in records; without it all that are durable",
);
const RECORD: Parameter = Parameter::new("seq", Takes::Seq, "7", "The record").required();
const TREE_SIZE: Parameter = Parameter::new(
    "size",
    Takes::Seq,
    "12",
    "The tree's size in records; without it all that are durable",
);
const FROM_SIZE: Parameter =
    Parameter::new("from", Takes::Seq, "7", "The older checkpoint's size").required();
const TO_SIZE: Parameter = Parameter::new(
    "to",
    Takes::Seq,
    "12",
    "The newer checkpoint's size; without it that of all that are durable",
);

const CHECKPOINT_SIZE_SENT: AnswerHeader = AnswerHeader {
    name: "Rollcall-Checkpoint-Size",
    about: "The checkpoint's size in records.",
    pattern: "^[0-9]+$",
};

/// `GET /rollcall/v1/log/checkpoint`
pub(crate) const CHECKPOINT: Operation = Operation {
    path: "/rollcall/v1/log/checkpoint",
    name: "getCheckpoint",
    about: "The log's size and tree hash as a signed note, in the form of C2SP's tlog-checkpoint. \
        `Rollcall-Checkpoint-Size` has the size.",
    parameters: &[CHECKPOINT_SIZE],
    access: Access::keyed(Scope::Audit, Bound::All),
    gives: Gives::Text { media_type: "text/plain; charset=utf-8", example: NOTE },
    answer_headers: &[CHECKPOINT_SIZE_SENT],
    problems: &[Code::NotFound],
    ..Operation::GET
};

const NOTE: &str = "rollcall/30313233-3435-3637-3839-616263646566\n7\n\
    Nn12soTOgruvDeUYI/zkBJMWkp18Iz3DFEsV0iw1nsE=\n\n\
    — rollcall/30313233-3435-3637-3839-616263646566 \
    JbEAmsc977Ohj1b4cHvvhFwlx5osdlmcPP0PZcaasnNSfQ7NzQcINF8VdsbfcO8moPq6GQBCkB0We6fFC7HzTcYYZAw=\n";

/// `GET /rollcall/v1/log/entries/{seq}`
pub(crate) const ENTRY: Operation = Operation {
    path: "/rollcall/v1/log/entries/{seq}",
    name: "getLogEntry",
    about: "One record in its exact bytes, by its number or its event's id. Digits alone are a \
        number; anything after `id:` is an id, also `id:123` or `id:id:x`.",
    access: Access::keyed(Scope::Audit, Bound::Own),
    logged: Logged::Always,
    gives: Gives::One("LogEntry"),
    shapes: SHAPES,
    problems: &[Code::EntityNotFound, Code::RecordLost],
    ..Operation::GET
};

/// Precedes an event's id that could be read as something else.
const ID_PREFIX: &str = "id:";

/// `GET /rollcall/v1/log/proof/inclusion`
pub(crate) const INCLUSION: Operation = Operation {
    path: "/rollcall/v1/log/proof/inclusion",
    name: "proveInclusion",
    about: "The hashes that lead from a record's leaf to the tree hash of a checkpoint.",
    parameters: &[RECORD, TREE_SIZE],
    access: Access::keyed(Scope::Audit, Bound::All),
    gives: Gives::One("InclusionProof"),
    shapes: SHAPES,
    problems: &[Code::EntityNotFound],
    ..Operation::GET
};

/// `GET /rollcall/v1/log/proof/consistency`
pub(crate) const CONSISTENCY: Operation = Operation {
    path: "/rollcall/v1/log/proof/consistency",
    name: "proveConsistency",
    about: "The hashes that show that a checkpoint continues an older one.",
    parameters: &[FROM_SIZE, TO_SIZE],
    access: Access::keyed(Scope::Audit, Bound::All),
    gives: Gives::One("ConsistencyProof"),
    shapes: SHAPES,
    ..Operation::GET
};

/// `GET /rollcall/v1/log/key`
pub(crate) const KEY: Operation = Operation {
    path: "/rollcall/v1/log/key",
    name: "getCheckpointKey",
    about: "The public key that signs checkpoints, and those that did before it.",
    access: Access::keyed(Scope::Audit, Bound::All),
    gives: Gives::One("CheckpointKey"),
    shapes: SHAPES,
    problems: &[Code::NotFound],
    ..Operation::GET
};

/// `POST /rollcall/v1/log/key`
pub(crate) const CHANGE_KEY: Operation = Operation {
    path: "/rollcall/v1/log/key",
    name: "changeCheckpointKey",
    about: "Makes a new key for checkpoints and records the change. `handover` is the checkpoint \
        that ends with that record, signed by both keys.",
    access: Access::keyed(Scope::Operate, Bound::Refused),
    takes: Some("CheckpointKeyChange"),
    gives: Gives::One("CheckpointKey"),
    shapes: SHAPES,
    problems: &[Code::NotFound, Code::BodyTooLarge, Code::QueueFull, Code::LogUnavailable],
    ..Operation::POST
};

/// Answers [`CHECKPOINT`].
pub(crate) async fn checkpoint(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &CHECKPOINT)?;
    let head = question.engine.head();
    let size = question.take_seq("size").unwrap_or(head);
    question.need_recorded("size", size, head);
    let engine = question.finish()?;
    let note = blocking(move || engine.checkpoint(size)).await??;
    let mut response = respond(StatusCode::OK);
    response.insert_header((CONTENT_TYPE, "text/plain; charset=utf-8"));
    response.insert_header((HeaderName::from_static("rollcall-checkpoint-size"), size.to_string()));
    Ok(response.body(note.ok_or(Code::NotFound)?))
}

/// Answers [`ENTRY`].
pub(crate) async fn entry(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &ENTRY)?;
    let sight = question.sight();
    let engine = question.finish()?;
    let name = id_in_path(&request).ok_or(Code::NotFound)?;
    let entry = blocking(move || read(&engine, &sight, &name)).await??;
    Ok(respond(StatusCode::OK).json(entry))
}

/// Reads a record that is seen. Blocks while it reads the log.
fn read(engine: &Engine, sight: &Sight, name: &str) -> Result<Value, Problem> {
    let absent = || Problem::entity_not_found("Record", name);
    let seq = match name.strip_prefix(ID_PREFIX) {
        Some(event_id) => engine.find_event(sight, event_id)?,
        None if name.bytes().all(|byte| byte.is_ascii_digit()) => name.parse().ok(),
        None => engine.find_event(sight, name)?,
    };
    let seq = seq.filter(|seq| (1..=engine.head()).contains(seq));
    let seq = seq.filter(|seq| engine.views().seen_by(sight).sees_event(*seq));
    let seq = seq.ok_or_else(absent)?;
    let record = engine.record(seq)?;
    Ok(json!({
        "object": "log_entry",
        "seq": record.seq,
        "proof": record.proof.word(),
        "receipt": BASE64_STANDARD.encode(record.receipt()),
        "salt": BASE64_STANDARD.encode(record.salt),
        "body": BASE64_STANDARD.encode(&record.body),
        "leaf": BASE64_STANDARD.encode(record.leaf()),
    }))
}

/// Answers [`INCLUSION`].
pub(crate) async fn inclusion(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &INCLUSION)?;
    let head = question.engine.head();
    let seq = question.take_seq("seq").unwrap_or(1);
    let size = question.take_seq("size").unwrap_or(head);
    question.need_recorded("size", size, head);
    if (size + 1..=head).contains(&seq) {
        let message = format!("it is not among the first {size} records");
        question.error("seq", FieldCode::OutOfRange, message);
    }
    let engine = question.finish()?;
    if seq > head {
        return Err(Problem::entity_not_found("Record", &seq.to_string()));
    }
    let hashes = blocking(move || engine.inclusion(seq, size)).await??;
    Ok(respond(StatusCode::OK).json(json!({
        "object": "inclusion_proof",
        "seq": seq,
        "size": size,
        "hashes": encoded(&hashes),
    })))
}

/// Answers [`CONSISTENCY`].
pub(crate) async fn consistency(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &CONSISTENCY)?;
    let head = question.engine.head();
    let from = question.take_seq("from").unwrap_or(1);
    let to = question.take_seq("to").unwrap_or(head);
    question.need_recorded("to", to, head);
    question.need_recorded("from", from, head);
    if from <= head && from > to {
        question.error("from", FieldCode::OutOfRange, "it is beyond `to`");
    }
    let engine = question.finish()?;
    let hashes = blocking(move || engine.consistency(from, to)).await??;
    Ok(respond(StatusCode::OK).json(json!({
        "object": "consistency_proof",
        "from": from,
        "to": to,
        "hashes": encoded(&hashes),
    })))
}

fn encoded(hashes: &[[u8; 32]]) -> Vec<String> {
    hashes.iter().map(|hash| BASE64_STANDARD.encode(hash)).collect()
}

/// Answers [`KEY`].
pub(crate) async fn key(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let engine = Question::of(&request, &state, &KEY)?.finish()?;
    let key = blocking(move || describe(&engine, None)).await??;
    Ok(respond(StatusCode::OK).json(key))
}

/// Answers [`CHANGE_KEY`].
pub(crate) async fn change_key(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let question = Question::of(&request, &state, &CHANGE_KEY)?;
    let operator = question.operator.clone();
    let engine = question.finish()?;
    let mut body = Body::of(payload, &state.operator_bodies).await?;
    let note = body.take_note();
    body.finish()?;
    // The thread finishes even if the caller has left or the time is over.
    let changed = blocking(move || {
        let handover = engine.change_checkpoint_key(operator, note)?;
        describe(&engine, Some(handover))
    });
    let changed =
        tokio::time::timeout(ANSWER_WITHIN, changed).await.map_err(|_| Code::LogUnavailable)?;
    Ok(respond(StatusCode::OK).json(changed.map_err(|_| Code::Internal)??))
}

/// Describes the key and those before it. Blocks while it reads the log.
fn describe(engine: &Engine, handover: Option<String>) -> Result<Value, Problem> {
    let notary = engine.notary().ok_or(Code::NotFound)?;
    let changes = engine.key_changes()?;
    let former = |change: &KeyChange| {
        json!({
            "key": change.from,
            "seq": change.seq,
            "changed_at": time::format(change.recorded_at),
            "changed_by": change.by,
            "note": change.note,
        })
    };
    Ok(json!({
        "object": "checkpoint_key",
        "origin": notary.origin(),
        "key": notary.verifier().to_string(),
        "seq": changes.last().map(|change| change.seq),
        "former": changes.iter().map(former).collect::<Vec<Value>>(),
        "handover": handover,
    }))
}
