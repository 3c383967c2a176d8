//! The connections of a server. While more are open than there are places for, those of least use
//! are closed, so that a new connection waits for none that asks for nothing.
//!
//! A few more connections are accepted than there are places, since the newest must be in to be
//! compared with the others. One that is being answered is left alone, unless its reader has
//! stopped reading.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::refusals::Due;

/// The time for which a connection that has come, or has been answered, is left alone.
const QUIET_MIN: Duration = Duration::from_millis(250);

/// The time in which the body of a webhook should arrive.
const BODY_MIN: Duration = Duration::from_secs(1);

/// The time for which a reader that does not read is left alone while places are lacking.
const UNREAD_MIN: Duration = Duration::from_secs(5);

/// The time after which a reader that does not read is cut off in any case.
const UNREAD_MAX: Duration = Duration::from_secs(30);

/// The fewest bytes that such a reader must take in that time.
const READ_BYTES_MIN: usize = 64 << 10;

/// The age from which on a connection is closed after its answer while places are lacking.
const AGE_MAX: Duration = Duration::from_secs(5);

/// The pause between two looks at the connections while places are lacking.
const PAUSE: Duration = Duration::from_millis(25);

/// The connections of one server.
pub(crate) struct Connections {
    /// The number of places.
    places: usize,
    began: Instant,
    open: Mutex<Open>,
    /// The number of those that are open.
    count: AtomicUsize,
    /// True while a task closes some.
    is_closing_some: AtomicBool,
    warned: Mutex<Due>,
    closed: AtomicU64,
}

#[derive(Default)]
struct Open {
    last_id: u64,
    all: BTreeMap<u64, Arc<Place>>,
}

/// What a connection does.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Doing {
    /// It sends the head of a request, or nothing.
    Nothing,
    /// It is being answered.
    Answered,
    /// It sends a body that is not proven yet.
    SendsBody,
}

/// What a connection was used for so far. Those that were used for less are closed first.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Use {
    Nothing,
    /// Something was answered.
    Answers,
    /// It has sent a key or a signature that is right.
    Proven,
}

/// The order in which connections are closed, the first ones first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Unused,
    Unproven,
    SendsBody,
    Idle,
    Unread,
}

/// How a connection compares with others that may be closed.
struct Standing {
    rank: Rank,
    /// Since when it is of so little use.
    since_ms: u64,
    /// False while it is left alone for a moment.
    is_due: bool,
}

/// The place of one connection.
pub(crate) struct Place {
    id: u64,
    connections: Arc<Connections>,
    /// Moments are in milliseconds since the server began.
    opened_ms: u64,
    doing: AtomicU8,
    /// Since when it does that.
    since_ms: AtomicU64,
    /// Since when its reader takes nothing; 0 if it does.
    unread_since_ms: AtomicU64,
    used: AtomicU8,
    /// Set once it is to be closed.
    is_closing: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Connections {
    /// Makes room for some connections.
    pub(crate) fn with_places(places: usize) -> Arc<Connections> {
        Arc::new(Connections {
            places,
            began: Instant::now(),
            open: Mutex::default(),
            count: AtomicUsize::new(0),
            is_closing_some: AtomicBool::new(false),
            warned: Mutex::default(),
            closed: AtomicU64::new(0),
        })
    }

    /// Returns the number of places.
    pub(crate) fn places(&self) -> usize {
        self.places
    }

    /// Returns the number of open connections.
    pub(crate) fn open(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns the number of connections that were closed since the start because places were
    /// lacking.
    pub(crate) fn closed(&self) -> u64 {
        self.closed.load(Ordering::Relaxed)
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lacks_places(&self) -> bool {
        self.open() > self.places
    }

    /// Gives a place to a connection. Where there is none left, others are closed soon.
    pub(crate) fn enter<S>(self: &Arc<Connections>, stream: S) -> Connection<S> {
        let now_ms = self.now_ms();
        let mut open = self.open.lock();
        open.last_id += 1;
        let place = Arc::new(Place {
            id: open.last_id,
            connections: self.clone(),
            opened_ms: now_ms,
            doing: AtomicU8::new(Doing::Nothing as u8),
            since_ms: AtomicU64::new(now_ms),
            unread_since_ms: AtomicU64::new(0),
            used: AtomicU8::new(Use::Nothing as u8),
            is_closing: AtomicBool::new(false),
            waker: Mutex::default(),
        });
        open.all.insert(place.id, place.clone());
        self.count.store(open.all.len(), Ordering::Relaxed);
        drop(open);
        if self.lacks_places() && !self.is_closing_some.swap(true, Ordering::AcqRel) {
            let closing = ClosingSome(self.clone());
            actix_web::rt::spawn(async move { closing.run().await });
        }
        Connection { stream, place, has_read: false, unread: None, taken: 0 }
    }

    fn leave(&self, id: u64) {
        let mut open = self.open.lock();
        open.all.remove(&id);
        self.count.store(open.all.len(), Ordering::Relaxed);
    }

    /// Closes as many connections as are too many, those of least use and the longest first.
    /// Returns false once there are no more than places.
    fn close_some(&self) -> bool {
        let now_ms = self.now_ms();
        let open = self.open.lock();
        if open.all.len() <= self.places {
            return false;
        }
        let closing = open.all.values().filter(|place| place.is_closing()).count();
        let too_many = open.all.len().saturating_sub(closing + self.places);
        let known = open.all.values().filter_map(|place| Some((place.standing(now_ms)?, place)));
        let (mut due, early): (Vec<_>, Vec<_>) = known.partition(|(standing, _)| standing.is_due);
        // Those of less use that are left alone for a moment go before any of more use.
        let early = early.iter().filter(|(standing, _)| standing.rank < Rank::SendsBody).count();
        due.sort_unstable_by_key(|(standing, _)| (standing.rank, standing.since_ms));
        let mut closed = 0;
        for (standing, place) in due {
            let spared = if standing.rank < Rank::SendsBody { 0 } else { early };
            if closed >= too_many.saturating_sub(spared) {
                break;
            }
            place.close();
            closed += 1;
        }
        drop(open);
        self.note(closed as u64);
        true
    }

    /// Counts connections that were closed, and says so once a minute.
    fn note(&self, closed: u64) {
        if closed == 0 {
            return;
        }
        let closed = self.closed.fetch_add(closed, Ordering::Relaxed) + closed;
        if self.warned.lock().count(Instant::now()).is_some() {
            tracing::warn!(
                places = self.places,
                closed,
                "there are more connections than places: those that ask for nothing are closed"
            );
        }
    }
}

/// The task that closes connections while places are lacking.
struct ClosingSome(Arc<Connections>);

impl ClosingSome {
    async fn run(&self) {
        while self.0.close_some() {
            sleep(PAUSE).await;
        }
    }
}

impl Drop for ClosingSome {
    fn drop(&mut self) {
        self.0.is_closing_some.store(false, Ordering::Release);
    }
}

impl Place {
    fn does(&self, doing: Doing) -> bool {
        self.doing.load(Ordering::Relaxed) == doing as u8
    }

    fn begin(&self, doing: Doing) {
        self.since_ms.store(self.connections.now_ms(), Ordering::Relaxed);
        self.doing.store(doing as u8, Ordering::Relaxed);
    }

    /// Notes that a request is being answered, until the returned value is dropped.
    pub(crate) fn answering(self: &Arc<Place>) -> Answering {
        self.begin(Doing::Answered);
        Answering(self.clone())
    }

    /// Notes that a request had a key or a signature that is right.
    pub(crate) fn prove(&self) {
        self.used.store(Use::Proven as u8, Ordering::Relaxed);
    }

    /// Returns true if a request had a key or a signature that is right.
    pub(crate) fn is_proven(&self) -> bool {
        self.used.load(Ordering::Relaxed) == Use::Proven as u8
    }

    /// Returns true if the connection should be closed after the answer that is being made.
    pub(crate) fn ends_after_answer(&self) -> bool {
        let is_old = || has_passed(self.opened_ms, self.connections.now_ms(), AGE_MAX);
        self.is_closing() || (self.connections.lacks_places() && is_old())
    }

    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// Returns how it compares with others that may be closed; `None` if it is being answered, or is
    /// closed already.
    fn standing(&self, now_ms: u64) -> Option<Standing> {
        let unread_since_ms = self.unread_since_ms.load(Ordering::Relaxed);
        let since_ms = self.since_ms.load(Ordering::Relaxed);
        if self.is_closing() {
            return None;
        }
        let (rank, since_ms, left_alone) = if unread_since_ms > 0 {
            (Rank::Unread, unread_since_ms, UNREAD_MIN)
        } else if self.does(Doing::SendsBody) {
            (Rank::SendsBody, since_ms, BODY_MIN)
        } else if self.does(Doing::Nothing) {
            (self.rank_by_use(), since_ms, QUIET_MIN)
        } else {
            return None;
        };
        let is_due = has_passed(since_ms, now_ms, left_alone);
        Some(Standing { rank, since_ms, is_due })
    }

    /// Returns the rank of a connection that sends nothing but the head of a request.
    fn rank_by_use(&self) -> Rank {
        match self.used.load(Ordering::Relaxed) {
            used if used == Use::Proven as u8 => Rank::Idle,
            used if used == Use::Answers as u8 => Rank::Unproven,
            _ => Rank::Unused,
        }
    }

    /// Returns true if its reader has not read for a while.
    fn is_unread(&self) -> bool {
        let since_ms = self.unread_since_ms.load(Ordering::Relaxed);
        since_ms > 0 && has_passed(since_ms, self.connections.now_ms(), UNREAD_MIN)
    }

    fn close(&self) {
        self.is_closing.store(true, Ordering::Release);
        if let Some(waker) = self.waker.lock().take() {
            waker.wake();
        }
    }

    /// Has the task of a context woken when the connection is to be closed.
    fn wake_at_close(&self, context: &Context<'_>) {
        let mut waker = self.waker.lock();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }
}

fn has_passed(since_ms: u64, now_ms: u64, time: Duration) -> bool {
    u128::from(now_ms.saturating_sub(since_ms)) >= time.as_millis()
}

/// A request that is being answered.
pub(crate) struct Answering(Arc<Place>);

impl Drop for Answering {
    fn drop(&mut self) {
        let (unused, answers) = (Use::Nothing as u8, Use::Answers as u8);
        let order = Ordering::Relaxed;
        let _ = self.0.used.compare_exchange(unused, answers, order, order);
        self.0.begin(Doing::Nothing);
    }
}

/// Returns the place of a request's connection. A request of a test has none.
pub(crate) fn place_of(request: &HttpRequest) -> Option<&Arc<Place>> {
    request.conn_data::<Arc<Place>>()
}

/// The arrival of a body that is not proven yet. Its connection may be closed meanwhile.
pub(crate) struct UnprovenBody<'a>(Option<&'a Arc<Place>>);

impl UnprovenBody<'_> {
    pub(crate) fn of(request: &HttpRequest) -> UnprovenBody<'_> {
        let place = place_of(request);
        place.iter().for_each(|place| place.begin(Doing::SendsBody));
        UnprovenBody(place)
    }
}

impl Drop for UnprovenBody<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|place| place.begin(Doing::Answered));
    }
}

/// A stream that has a place.
pub(crate) struct Connection<S> {
    stream: S,
    place: Arc<Place>,
    /// True if something was read since reading last had to wait.
    has_read: bool,
    /// The time that a reader has which does not read.
    unread: Option<Pin<Box<Sleep>>>,
    /// The bytes that it has taken in this time.
    taken: usize,
}

impl<S> Connection<S> {
    pub(crate) fn place(&self) -> &Arc<Place> {
        &self.place
    }

    fn has_taken(&mut self, bytes: usize, is_all: bool) {
        self.taken += bytes;
        if self.unread.is_some() && (is_all || self.taken >= READ_BYTES_MIN) {
            self.unread = None;
            self.place.unread_since_ms.store(0, Ordering::Relaxed);
        }
    }

    /// Waits for a reader that does not read, for a limited time.
    fn wait_for_reader(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (place, taken) = (&self.place, &mut self.taken);
        let time = self.unread.get_or_insert_with(|| {
            *taken = 0;
            place.unread_since_ms.store(place.connections.now_ms().max(1), Ordering::Relaxed);
            Box::pin(sleep(UNREAD_MAX))
        });
        place.wake_at_close(context);
        let is_over = time.as_mut().poll(context).is_ready();
        if is_over || (place.is_closing() && place.is_unread()) {
            return Poll::Ready(Err(ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.place.connections.leave(self.place.id);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.has_read = true;
            return read;
        }
        self.place.wake_at_close(context);
        // What was read may be a request, which is answered first: its head is looked at once this
        // returns.
        let has_read = std::mem::take(&mut self.has_read);
        if self.place.is_closing() && !self.place.does(Doing::Answered) {
            if !has_read {
                return Poll::Ready(Ok(()));
            }
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Pending => self.wait_for_reader(context),
            Poll::Ready(Ok(written)) => {
                self.has_taken(written, written == bytes.len());
                Poll::Ready(Ok(written))
            }
            failed => failed,
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
