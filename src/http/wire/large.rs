//! Large answers that are being written. Together they have a limit in bytes, so that slow readers
//! cannot fill the memory. They are handed to the connection in slices.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;

use super::connections::{Answering, place_of};
use super::pieces::RoomOfPieces;
use super::state::State;

/// The most bytes of all large answers that are being written.
const BYTES_MAX: usize = 256 << 20;

/// The part of them for connections that have sent no key: others must not be kept out by them.
const UNPROVEN_BYTES_MAX: usize = BYTES_MAX / 8;

/// The most bytes of an answer that is not large.
pub(super) const SMALL_BYTES_MAX: u64 = 64 << 10;

/// The bytes that are handed to the connection at once.
const SLICE_BYTES: usize = 32 << 10;

/// The bytes of large answers that are being written.
#[derive(Default)]
pub(crate) struct LargeAnswers(Arc<AtomicUsize>);

/// The bytes of one large answer, which count until this is dropped.
pub(super) struct Room {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl LargeAnswers {
    /// Makes room for an answer; `None` while there is none.
    fn room(&self, bytes: usize, bytes_max: usize) -> Option<Room> {
        let before = self.0.fetch_add(bytes, Ordering::Relaxed);
        let room = Room { bytes, all: self.0.clone() };
        (before + bytes <= bytes_max).then_some(room)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The body of a large answer.
struct Slices {
    rest: Bytes,
    _room: Room,
}

impl MessageBody for Slices {
    type Error = std::convert::Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.len() as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let length = self.rest.len().min(SLICE_BYTES);
        Poll::Ready((length > 0).then(|| Ok(self.rest.split_to(length))))
    }
}

/// A body that is written for a while, during which its request counts as being answered.
struct Kept {
    body: BoxBody,
    _answering: Answering,
}

impl MessageBody for Kept {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

/// Counts the bytes of an answer if it is large, until it is written.
///
/// If all large answers would have too many bytes, `refusal` takes the place of this one.
pub(crate) fn bounded(
    response: ServiceResponse,
    refusal: impl FnOnce(&HttpRequest) -> HttpResponse,
) -> ServiceResponse {
    let BodySize::Sized(size) = response.response().body().size() else { return response };
    let state = response.request().app_data::<web::Data<State>>().cloned();
    let Some(state) = state.filter(|_| size > SMALL_BYTES_MAX) else { return response };
    let is_proven = place_of(response.request()).is_none_or(|place| place.is_proven());
    let bytes_max = if is_proven { BYTES_MAX } else { UNPROVEN_BYTES_MAX };
    let room = || state.large_answers.room(size as usize, bytes_max);
    let refused = |request: HttpRequest| {
        state.turns.count_refused();
        let refusal = refusal(&request);
        ServiceResponse::new(request, refusal)
    };
    let (request, mut answer) = response.into_parts();
    let pieces = answer.extensions_mut().remove::<RoomOfPieces>();
    if let Some(pieces) = pieces {
        return match room() {
            Some(room) => {
                pieces.keep(room);
                ServiceResponse::new(request, answer)
            }
            None => refused(request),
        };
    }
    let (answer, body) = answer.into_parts();
    let bytes = match body.try_into_bytes() {
        Ok(bytes) => bytes,
        // It is counted already.
        Err(body) => return ServiceResponse::new(request, answer.set_body(body)),
    };
    match room() {
        Some(room) => {
            let slices = Slices { rest: bytes, _room: room };
            ServiceResponse::new(request, answer.set_body(BoxBody::new(slices)))
        }
        None => refused(request),
    }
}

/// Lets a request count as being answered for as long as its answer is written.
pub(crate) fn kept(response: ServiceResponse, answering: Answering) -> ServiceResponse {
    let is_small = match response.response().body().size() {
        BodySize::None => true,
        BodySize::Sized(size) => size <= SMALL_BYTES_MAX,
        BodySize::Stream => false,
    };
    // A connection that is given to another protocol is not written to any more.
    if is_small || response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    response.map_body(|_, body| BoxBody::new(Kept { body, _answering: answering }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::wire::connections::Connections;
    use crate::http::{Settings, state, too_many_large_answers};
    use crate::keys::ApiKeys;
    use crate::verify::Keyring;
    use actix_web::test::TestRequest;
    use serde_json::{Value, json};

    #[test]
    fn an_answer_without_room_is_refused_in_the_shape_of_its_path() {
        let settings = Settings::new(Keyring::new(["s"], 0), ApiKeys::unrestricted(["sk_test"]));
        let split = settings.split();
        let connections = Connections::with_places(1);
        let state = state(split.keys, split.addresses, Arc::default(), connections);
        let _all = state.large_answers.room(BYTES_MAX, BYTES_MAX).unwrap();
        let refused = |path: &str| -> Value {
            let request = TestRequest::with_uri(path).app_data(state.clone()).to_srv_request();
            let answer = HttpResponse::Ok().body("x".repeat(100_000));
            let answer = bounded(request.into_response(answer), too_many_large_answers);
            assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS, "{path}");
            assert_eq!(answer.headers().get("retry-after").unwrap(), "1", "{path}");
            let bytes = answer.into_body().try_into_bytes().ok().unwrap();
            serde_json::from_slice(&bytes).unwrap()
        };
        let of_scim = refused("/scim/v2/directory_1/Users");
        let schemas = json!(["urn:ietf:params:scim:api:messages:2.0:Error"]);
        assert_eq!((&of_scim["schemas"], &of_scim["status"]), (&schemas, &json!("429")));
        assert!(of_scim["detail"].is_string() && of_scim["code"].is_null(), "{of_scim}");
        assert_eq!(refused("/directories")["code"], "too_many_requests");
        assert_eq!(state.turns.refused(), 2);
    }

    #[test]
    fn answers_have_room_up_to_the_limit_and_again_once_others_are_written() {
        let all = LargeAnswers::default();
        let first = all.room(60, 100);
        assert!(first.is_some() && all.room(41, 100).is_none());
        assert!(all.room(40, 100).is_some(), "one that is refused takes no room");
        let second = all.room(40, 100);
        assert!(second.is_some() && all.room(1, 100).is_none());
        drop(first);
        assert!(all.room(60, 100).is_some());
    }
}
