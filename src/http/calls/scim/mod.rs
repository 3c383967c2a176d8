//! `/scim/v2/{directory}/…`: identity providers push users and groups into a directory that is
//! hosted here (RFC 7643, RFC 7644). Every answer has the shapes of SCIM, errors too.

mod answer;
mod describe;
mod query;
mod reads;
mod routes;
mod writes;

use std::sync::Arc;

use actix_web::http::Method;
use actix_web::http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use actix_web::{HttpRequest, HttpResponse, web};

use crate::engine::{Engine, LastScimRequest, ScimCaller, ScimShowing};
use crate::http::wire::answer::{Code, Problem};
use crate::http::wire::body::must_be_plain;
use crate::http::wire::connections::place_of;
use crate::http::wire::state::State;
use crate::scim::Refusal;
use crate::time;
use answer::{JSON, Reply, SCIM_JSON, essence, media_type, unauthorized};
pub(crate) use describe::add_to;
pub(crate) use routes::is_scim;
use routes::{Address, Route};

/// The route of identity providers' requests, in metrics and warnings.
pub(crate) const ROUTE: &str = "/scim/v2/{directory}";

/// The most bytes of a body: its record, and the proof of that in Base64, stay under 16 MiB.
const BODY_BYTES_MAX: usize = 12_000_000;

/// Answers every request whose path begins with `/scim`.
pub(crate) async fn serve(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<State>,
) -> HttpResponse {
    let media_type = media_type(request.headers());
    let Some(engine) = state.engine.get() else {
        // Not 401: a provider would drop its token.
        return Reply::from(Code::NotReady).into_response(media_type);
    };
    let address = Address::of(request.path());
    let caller = caller(&request, engine, address.directory.as_deref());
    let Some(caller) = caller else {
        state.refusals.refuse_key(ROUTE);
        return unauthorized().into_response(media_type);
    };
    place_of(&request).iter().for_each(|place| place.prove());
    let directory = caller.directory.clone();
    let call = Call { request: &request, state: &state, engine, caller };
    let is_question = call.is_read() || matches!(address.route, Some(Route::Search(_)));
    let reply = call.answer(address.route, payload).await.unwrap_or_else(|refused| refused);
    let noted = LastScimRequest {
        at: time::now_ms(),
        method: method_name(request.method()),
        status: reply.status().as_u16(),
        user_agent: user_agent(&request),
    };
    engine.count_scim(&directory, noted, is_question);
    reply.into_response(media_type)
}

/// Refuses a request outside of this module, in the shape of SCIM.
pub(crate) fn refused(request: &HttpRequest, problem: &Problem) -> HttpResponse {
    let refusal = Refusal::new(problem.code().status().as_u16(), problem.message());
    Reply::refused(&refusal).into_response(media_type(request.headers()))
}

/// Returns the holder of the token in a request, if it opens the directory.
fn caller(request: &HttpRequest, engine: &Engine, directory: Option<&str>) -> Option<ScimCaller> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, token) = header.and_then(|value| value.trim().split_once(' '))?;
    let is_bearer = scheme.eq_ignore_ascii_case("bearer");
    let token = Some(token.trim()).filter(|_| is_bearer)?;
    engine.scim_caller(directory?, token)
}

/// Returns the name that a client gives itself.
fn user_agent(request: &HttpRequest) -> Option<String> {
    let header = request.headers().get(USER_AGENT)?;
    Some(String::from_utf8_lossy(header.as_bytes()).into_owned())
}

/// Returns the name of a method in a bounded set of words.
fn method_name(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
    known.into_iter().find(|name| *name == method.as_str()).unwrap_or("OTHER")
}

/// A request whose token is known.
struct Call<'r> {
    request: &'r HttpRequest,
    state: &'r State,
    engine: &'r Arc<Engine>,
    caller: ScimCaller,
}

impl Call<'_> {
    async fn answer(self, route: Option<Route>, payload: web::Payload) -> Result<Reply, Reply> {
        let route = route.ok_or_else(|| Refusal::new(404, "there is no such path"))?;
        match route {
            Route::Unsupported => Err(Refusal::new(501, "this server does not support it").into()),
            _ if !route.allows(self.request.method()) => Err(Reply::not_allowed(route.allowed())),
            Route::Config | Route::ResourceTypes(_) | Route::Schemas(_) => self.discover(&route),
            Route::Collection(kind) if self.is_post() => self.create(kind, payload).await,
            Route::Collection(kind) => self.list(Some(kind)).await,
            Route::Search(kind) => self.search(kind, payload).await,
            Route::Item(kind, id) if self.is_read() => self.item(kind, id).await,
            Route::Item(kind, id) => self.change(kind, id, payload).await,
        }
    }

    fn is_post(&self) -> bool {
        *self.request.method() == Method::POST
    }

    fn is_read(&self) -> bool {
        [Method::GET, Method::HEAD].contains(self.request.method())
    }

    /// Returns the address of the directory, as its locations begin.
    fn base(&self) -> String {
        self.state.scim_url(self.request, &self.caller.directory)
    }

    /// Refuses a body that is not taken as it is, or is not JSON.
    fn must_be_json(&self) -> Result<(), Reply> {
        must_be_plain(self.request)?;
        let content_type = self.request.headers().get(CONTENT_TYPE);
        let Some(content_type) = content_type else { return Ok(()) };
        let content_type = essence(&String::from_utf8_lossy(content_type.as_bytes()));
        match [SCIM_JSON, JSON, ""].contains(&content_type.as_str()) {
            true => Ok(()),
            false => Err(Refusal::new(415, "send the body as application/scim+json").into()),
        }
    }

    fn showing(&self, query: &query::Query) -> Result<ScimShowing, Refusal> {
        Ok(ScimShowing { base: self.base(), projection: query.projection()? })
    }
}
