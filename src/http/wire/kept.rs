//! Answers about users and groups that are kept whole, and sent again without working them out.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse};
use rollcall_projections::{Cut, Sight};

use super::answer::{Problem, pinned_with_roles};
use super::pieces::Pieces;
use crate::engine::{AnswerKey, Engine, KeptAnswer};

/// A question whose answer may be kept. The caller has been identified and judged: what is kept
/// depends on the words of the request, on what the caller sees, and on the cut, and on nothing else.
pub(crate) struct Keepable {
    engine: Arc<Engine>,
    key: AnswerKey,
    cut: Cut,
}

impl Keepable {
    /// Begins a question, before it is worked out.
    pub(crate) fn of(
        request: &HttpRequest,
        engine: &Arc<Engine>,
        sight: &Sight,
        cut: Cut,
    ) -> Keepable {
        let uri = request.uri();
        let words = uri.path_and_query().map_or_else(|| uri.path(), |words| words.as_str());
        Keepable { engine: engine.clone(), key: engine.answer_key(words, sight, cut), cut }
    }

    /// Answers with what is kept, if there is anything.
    pub(crate) fn kept(&self) -> Option<HttpResponse> {
        let KeptAnswer { body, mapping_version } = self.engine.kept_answer(&self.key)?;
        let body = Ok(Pieces::from(body));
        Some(pinned_with_roles(self.cut, mapping_version, body))
    }

    /// Answers with a body or an error, and keeps a body that is asked for again.
    pub(crate) fn answer(
        self,
        mapping_version: usize,
        body: Result<impl Into<Pieces>, Problem>,
    ) -> HttpResponse {
        let body = body.map(|body| body.into().whole());
        if let Ok(body) = &body {
            self.engine.keep_answer(self.key, mapping_version, body);
        }
        pinned_with_roles(self.cut, mapping_version, body.map(Pieces::from))
    }
}
