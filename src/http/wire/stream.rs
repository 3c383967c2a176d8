//! Bodies that are written while they are sent.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

/// The bytes of one part of a body.
const PART_BYTES: usize = 64 << 10;

/// The parts of a body that wait for a slow reader.
const PARTS_WAITING: usize = 4;

/// A body that is written while it is sent. An error breaks it off, since an ordinary end would
/// look complete.
pub(crate) struct Streamed(pub(crate) mpsc::Receiver<io::Result<Bytes>>);

impl MessageBody for Streamed {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Bytes>>> {
        self.get_mut().0.poll_recv(context)
    }
}

/// The writing end of a body. It waits for a reader that is slow.
pub(crate) struct BodyWriter {
    parts: mpsc::Sender<io::Result<Bytes>>,
    part: BytesMut,
}

impl BodyWriter {
    /// Makes both ends.
    pub(crate) fn new() -> (BodyWriter, Streamed) {
        let (parts, waiting) = mpsc::channel(PARTS_WAITING);
        (BodyWriter { parts, part: BytesMut::new() }, Streamed(waiting))
    }

    /// Breaks the body off.
    pub(crate) fn break_off(self) {
        let _ = self.parts.blocking_send(Err(io::ErrorKind::Other.into()));
    }

    fn send(&mut self) -> io::Result<()> {
        let part = self.part.split().freeze();
        let sent = part.is_empty() || self.parts.blocking_send(Ok(part)).is_ok();
        if sent { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.part.extend_from_slice(bytes);
        if self.part.len() >= PART_BYTES {
            self.send()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}
