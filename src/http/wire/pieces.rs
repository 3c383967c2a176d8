//! Bodies in several pieces, which are written one behind the other and never put together: a page
//! of large items would be copied once more, into memory that is asked for anew each time.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::http::StatusCode;
use bytes::Bytes;

use super::answer::respond;
use super::large::{Room, SMALL_BYTES_MAX};

/// A body in pieces.
pub(crate) struct Pieces(Vec<Bytes>);

impl From<Vec<u8>> for Pieces {
    fn from(bytes: Vec<u8>) -> Pieces {
        Bytes::from(bytes).into()
    }
}

impl From<Bytes> for Pieces {
    fn from(bytes: Bytes) -> Pieces {
        Pieces(vec![bytes])
    }
}

impl FromIterator<Bytes> for Pieces {
    fn from_iter<I: IntoIterator<Item = Bytes>>(pieces: I) -> Pieces {
        Pieces(pieces.into_iter().collect())
    }
}

/// The place for the room that a large body in pieces takes: its response has it as an extension.
#[derive(Clone, Default)]
pub(crate) struct RoomOfPieces(Arc<OnceLock<Room>>);

impl RoomOfPieces {
    /// Keeps the room until the body is written.
    pub(super) fn keep(&self, room: Room) {
        let _ = self.0.set(room);
    }
}

/// The rest of a body in pieces.
struct Rest {
    pieces: std::vec::IntoIter<Bytes>,
    bytes: u64,
    _room: RoomOfPieces,
}

impl MessageBody for Rest {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.bytes)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        let next = self.pieces.find(|piece| !piece.is_empty());
        self.bytes -= next.as_ref().map_or(0, |piece| piece.len() as u64);
        Poll::Ready(next.map(Ok))
    }
}

impl Pieces {
    /// Returns the body in one piece. Copies it if it has several.
    pub(crate) fn whole(self) -> Bytes {
        let Pieces(mut pieces) = self;
        match pieces.pop() {
            Some(only) if pieces.is_empty() => only,
            last => {
                pieces.extend(last);
                pieces.concat().into()
            }
        }
    }

    /// Answers 200 with this body. A small one is put together.
    pub(crate) fn response(self) -> HttpResponse {
        let Pieces(mut pieces) = self;
        let bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
        let mut answer = respond(StatusCode::OK);
        match pieces.pop() {
            Some(only) if pieces.is_empty() => answer.body(only),
            Some(last) if bytes > SMALL_BYTES_MAX => {
                pieces.push(last);
                let room = RoomOfPieces::default();
                let rest = Rest { pieces: pieces.into_iter(), bytes, _room: room.clone() };
                let mut answer = answer.body(rest);
                answer.extensions_mut().insert(room);
                answer
            }
            last => {
                pieces.extend(last);
                answer.body(Pieces(pieces).whole())
            }
        }
    }
}
