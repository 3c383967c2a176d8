//! `/rollcall/v1/endpoints`: the receivers of webhooks, and what operators do to them.

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::Seq;
use serde_json::json;

use crate::delivery::{CommandError, Endpoint};
use crate::engine::Engine;
use crate::http::wire::answer::{Code, Cursors, FieldError, Problem, list_in_pieces, respond};
use crate::http::wire::api::{Access, Bound, Gives, Operation};
use crate::http::wire::body::Body;
use crate::http::wire::describe::describe_endpoint;
use crate::http::wire::question::{Question, id_within_path};
use crate::http::wire::state::State;
use crate::http::wire::threads::blocking;
use crate::keys::{Operator, Scope};
use crate::verify::FieldCode;

const SHAPES: &str = include_str!("endpoints.schema.json");

/// `GET /rollcall/v1/endpoints`
pub(crate) const LIST: Operation = Operation {
    path: "/rollcall/v1/endpoints",
    name: "listEndpoints",
    about: "The receivers of webhooks, in the order of the configuration: how far each is, and what \
        fails.",
    access: Access::keyed(Scope::Operate, Bound::Refused),
    gives: Gives::List("Endpoint"),
    shapes: SHAPES,
    ..Operation::GET
};

/// `POST /rollcall/v1/endpoints/{id}/retry`
pub(crate) const RETRY: Operation = Operation {
    path: "/rollcall/v1/endpoints/{id}/retry",
    name: "retryEndpoint",
    about: "Sends at once what waits to be sent again. Ends the pause of an endpoint that has \
        answered with 410.",
    problems: &[Code::NotFound, Code::PositionMismatch, Code::LogUnavailable],
    ..COMMAND
};

/// `POST /rollcall/v1/endpoints/{id}/skip`
pub(crate) const SKIP: Operation = Operation {
    path: "/rollcall/v1/endpoints/{id}/skip",
    name: "skipTo",
    about: "Moves the position of an endpoint to a record, unless it is further: what is owed up to \
        there is not sent.",
    takes: Some("EndpointSkip"),
    problems: &[Code::BodyTooLarge, Code::NotFound, Code::LogUnavailable],
    ..COMMAND
};

/// `POST /rollcall/v1/endpoints/{id}/replay`
pub(crate) const REPLAY: Operation = Operation {
    path: "/rollcall/v1/endpoints/{id}/replay",
    name: "replayFrom",
    about: "Sends everything again from a record on.",
    takes: Some("EndpointReplay"),
    problems: &[Code::BodyTooLarge, Code::NotFound, Code::LogUnavailable],
    ..COMMAND
};

/// `POST /rollcall/v1/endpoints/{id}/test`
pub(crate) const TEST: Operation = Operation {
    path: "/rollcall/v1/endpoints/{id}/test",
    name: "testEndpoint",
    about: "Sends one webhook of the type `rollcall.test`, which is not in the log, and says what \
        the endpoint answered. Waits for at most 10 seconds.",
    gives: Gives::One("EndpointTest"),
    problems: &[Code::NotFound],
    ..COMMAND
};

const COMMAND: Operation = Operation {
    access: Access::keyed(Scope::Operate, Bound::Refused),
    gives: Gives::One("Endpoint"),
    shapes: SHAPES,
    ..Operation::POST
};

/// Answers [`LIST`].
pub(crate) async fn list(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let engine = Question::of(&request, &state, &LIST)?.finish()?;
    let reports = state.deliveries.reports(engine.folded_head());
    let items: Vec<Vec<u8>> =
        reports.iter().map(|report| describe_endpoint(report).to_string().into_bytes()).collect();
    Ok(list_in_pieces(items, Cursors::default()).response())
}

/// Answers [`RETRY`].
pub(crate) async fn retry(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let asked = Asked::of(&request, &state, &RETRY)?;
    asked.act("seq", Endpoint::retry).await
}

/// Answers [`SKIP`].
pub(crate) async fn skip(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let asked = Asked::of(&request, &state, &SKIP)?;
    asked.act_at("seq", payload, &state, Endpoint::skip).await
}

/// Answers [`REPLAY`].
pub(crate) async fn replay(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let asked = Asked::of(&request, &state, &REPLAY)?;
    asked.act_at("from", payload, &state, Endpoint::replay).await
}

/// Answers [`TEST`].
pub(crate) async fn test(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let Asked { endpoint, .. } = Asked::of(&request, &state, &TEST)?;
    let error = blocking(move || endpoint.test().err()).await?;
    Ok(respond(StatusCode::OK).json(json!({
        "object": "endpoint_test",
        "delivered": error.is_none(),
        "error": error,
    })))
}

/// A command for an endpoint.
struct Asked {
    engine: Arc<Engine>,
    endpoint: Arc<Endpoint>,
    operator: Operator,
    command: &'static str,
}

impl Asked {
    fn of(
        request: &HttpRequest,
        state: &web::Data<State>,
        operation: &'static Operation,
    ) -> Result<Asked, Problem> {
        let question = Question::of(request, state, operation)?;
        let operator = question.operator.clone();
        let engine = question.finish()?;
        let name = id_within_path(request).ok_or(Code::NotFound)?;
        let endpoint = state.deliveries.named(&name).ok_or(Code::NotFound)?;
        Ok(Asked { engine, endpoint, operator, command: operation.name })
    }

    /// Does what is asked at the record that a field of the body names.
    async fn act_at(
        self,
        field: &'static str,
        payload: web::Payload,
        state: &State,
        act: fn(&Endpoint, Seq) -> Result<(), CommandError>,
    ) -> Result<HttpResponse, Problem> {
        let mut body = Body::of(payload, &state.operator_bodies).await?;
        let seq = body.take_seq(field);
        body.finish()?;
        self.act(field, move |endpoint| act(endpoint, seq.unwrap_or_default())).await
    }

    /// Does what is asked, and describes the endpoint after it. `field` is what names a record.
    async fn act(
        self,
        field: &'static str,
        act: impl FnOnce(&Endpoint) -> Result<(), CommandError> + Send + 'static,
    ) -> Result<HttpResponse, Problem> {
        let Asked { engine, endpoint, operator, command } = self;
        let done = blocking(move || {
            act(&endpoint)?;
            Ok(endpoint.report(engine.folded_head()))
        });
        let report = done.await?.map_err(|error| refused(field, error))?;
        let by = operator.key().name();
        tracing::info!(endpoint = report.name, command, by, "a command for an endpoint");
        Ok(respond(StatusCode::OK).json(describe_endpoint(&report)))
    }
}

fn refused(field: &str, error: CommandError) -> Problem {
    match error {
        CommandError::BeyondHead(_) => {
            let says = error.to_string();
            Problem::validation(vec![FieldError::new(field, FieldCode::OutOfRange, says)])
        }
        CommandError::Mismatch(_) => Code::PositionMismatch.into(),
        CommandError::Io(_) | CommandError::Log => {
            tracing::error!(%error, "a command for an endpoint failed");
            Code::LogUnavailable.into()
        }
    }
}
