//! Commands: create, replace, patch, delete.

use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header::IF_MATCH;
use actix_web::http::{Method, StatusCode};
use actix_web::web;
use tokio::time::timeout;

use super::answer::Reply;
use super::reads::{Versions, of_shown};
use super::{BODY_BYTES_MAX, Call, user_agent};
use crate::engine::{Engine, ScimCommand, ScimDone, ScimMethod, ScimShowing};
use crate::http::wire::answer::Code;
use crate::http::wire::body::{BodyInFlight, must_be_plain};
use crate::http::wire::threads::changing;
use crate::scim::Kind;

/// The time that a change may take: the patience of a common provider.
const WITHIN: Duration = Duration::from_secs(60);

impl Call<'_> {
    /// Reads a body.
    pub(super) async fn body(
        &self,
        payload: web::Payload,
        bytes_max: usize,
    ) -> Result<BodyInFlight, Reply> {
        self.must_be_json()?;
        let read = timeout(WITHIN, self.state.scim_bodies.read(payload, bytes_max)).await;
        Ok(read.map_err(|_| Code::BodyTimeout)??)
    }

    pub(super) async fn create(self, kind: Kind, payload: web::Payload) -> Result<Reply, Reply> {
        self.write(ScimMethod::Create, kind, None, payload).await
    }

    /// Replaces, patches or deletes a resource.
    pub(super) async fn change(
        self,
        kind: Kind,
        id: String,
        payload: web::Payload,
    ) -> Result<Reply, Reply> {
        let method = match *self.request.method() {
            Method::PUT => ScimMethod::Replace,
            Method::PATCH => ScimMethod::Patch,
            _ => ScimMethod::Delete,
        };
        self.write(method, kind, Some(id), payload).await
    }

    async fn write(
        self,
        method: ScimMethod,
        kind: Kind,
        id: Option<String>,
        payload: web::Payload,
    ) -> Result<Reply, Reply> {
        let mut body = match method {
            ScimMethod::Delete => {
                must_be_plain(self.request)?;
                None
            }
            _ => Some(self.body(payload, BODY_BYTES_MAX).await?),
        };
        let showing = self.showing(&self.query())?;
        let expected = Versions::of(self.request.headers(), IF_MATCH);
        let command = ScimCommand {
            caller: self.caller.clone(),
            method,
            kind,
            id,
            body: body.as_mut().map(BodyInFlight::take).unwrap_or_default(),
            user_agent: user_agent(self.request).unwrap_or_default(),
            expected: expected.map(|expected| {
                let holds: Box<dyn Fn(&str) -> bool + Send> =
                    Box::new(move |version| expected.hold(version));
                holds
            }),
        };
        let done = carried_out(self.engine.clone(), command, showing, body);
        let done = timeout(WITHIN, done).await.map_err(|_| Code::LogUnavailable)??;
        Ok(match done {
            ScimDone::Created(shown) => of_shown(StatusCode::CREATED, shown),
            ScimDone::Shown(shown) => of_shown(StatusCode::OK, shown),
            ScimDone::Deleted => Reply::empty(StatusCode::NO_CONTENT),
        })
    }
}

/// Carries a command out, once it is its turn in its directory. It goes on if the sender leaves.
async fn carried_out(
    engine: Arc<Engine>,
    command: ScimCommand,
    showing: ScimShowing,
    body: Option<BodyInFlight>,
) -> Result<ScimDone, Reply> {
    let work = async move {
        let turn = engine.scim_turn(&command.caller.directory).await?;
        let done = changing(move || {
            let done = turn.carry_out(command, &showing);
            drop(body);
            done
        });
        Ok::<ScimDone, Reply>(done.await??)
    };
    let done = actix_web::rt::spawn(work).await;
    done.map_err(|_| Reply::from(Code::Internal))?
}
