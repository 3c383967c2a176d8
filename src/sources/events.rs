//! Events that are pulled from the source's list: first back 90 days, then its tail.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use rollcall_projections::{EventType, Millis, Seq};

use super::Source;
use super::bell::Woken;
use super::circle::Circle;
use super::client::{Breakage, ListEnd, SourceAnswer, SourceError, SourcePage, Tries, read_page};
use super::cursor::KeptCursor;
use crate::engine::{Engine, IngestError};
use crate::log::{Outcome, ReadError};
use crate::percent::encoded;
use crate::verify::Verified;
use crate::{json, time, verify};

const DAY_MS: Millis = 86_400_000;
/// How far back the source's list goes.
const RETENTION_MS: Millis = 90 * DAY_MS;
/// The longest window of time that may be asked for.
const WINDOW_MS: Millis = 30 * DAY_MS;
/// Windows overlap by this: a bound may be included or not.
const OVERLAP_MS: Millis = 1000;
/// How far before the newest pulled record pulling begins if its cursor is lost.
const REPEATED_MS: Millis = DAY_MS;
/// Events that are younger are left, so that their signed copy comes first.
const YOUNG_MS: u64 = 20_000;

/// The time until the source is asked again that does not take the key, or is another environment.
const REFUSED_REST: Duration = Duration::from_secs(300);
/// The pause while the queue of events is full.
const QUEUE_PAUSE: Duration = Duration::from_millis(50);

/// The types that are asked for.
const TYPES: [EventType; 10] = [
    EventType::DirectoryActivated,
    EventType::DirectoryDeleted,
    EventType::UserCreated,
    EventType::UserUpdated,
    EventType::UserDeleted,
    EventType::GroupCreated,
    EventType::GroupUpdated,
    EventType::GroupDeleted,
    EventType::MemberAdded,
    EventType::MemberRemoved,
];

/// The reason why a pull did not reach the end.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The source did not answer.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The log knows directories, and the source lists none of them.
    #[error(
        "the source lists none of the directories that the log knows, so it is another environment; \
         start the server with the key of the right one, or with another data folder"
    )]
    Mismatch,
    /// The source has no list of directories, by which its environment is known.
    #[error("the source has no list of directories (404 for `/directories`)")]
    NoDirectories,
    /// Another Rollcall takes the key for one that is bound to organizations.
    #[error(
        "the source refuses the key what concerns all organizations (403 for \
         `/rollcall/v1/policy`): give it a key with the scopes `read` and `audit` that is bound to \
         none"
    )]
    Bound,
    /// The log takes no events now.
    #[error("the log takes no events now: {0}")]
    Log(#[from] IngestError),
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl PullError {
    /// Returns a stable word for it.
    pub fn code(&self) -> &'static str {
        match self {
            PullError::Source(error) => error.code(),
            PullError::Mismatch => "source_mismatch",
            PullError::NoDirectories => "not_found",
            PullError::Bound => "forbidden",
            PullError::Log(_) | PullError::Read(_) => "log_unavailable",
        }
    }
}

/// The events that a pull takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// All from before the pull's start.
    All,
    /// All but those that are so young that their signed copy may still come.
    Settled,
}

/// The place in the list from which pulling goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Behind this event.
    After(String),
    /// From this moment on.
    From(Millis),
    /// At the first event in the list that is not before this moment. Another Rollcall lists events
    /// in the order in which it learnt of them, so that the first of a window may be behind others
    /// that are wanted.
    FirstSince(Millis),
}

/// The state of pulling, which one thread at a time holds.
#[derive(Default)]
pub(super) struct Progress {
    /// `None` until it is found.
    place: Option<Place>,
    /// True once the source is known to be of the log's environment.
    is_own: bool,
    /// Up to this record the source has sent none.
    unsent: Seq,
    /// True once another Rollcall is known to show all that it has.
    shows_all: bool,
}

/// Pulls at intervals, and when the bell rings, until the server stops.
pub(super) fn run(source: &Source, engine: &Weak<Engine>) {
    let mut was_caught_up = false;
    loop {
        let heard = source.bell.rings();
        let rest = match source.pull_to_end(engine, Take::Settled) {
            Ok(()) => {
                if !std::mem::replace(&mut was_caught_up, true) {
                    let counts = source.status.counts();
                    tracing::info!(
                        source = source.url(),
                        new = counts.new,
                        duplicates = counts.duplicates,
                        "pulled every event that the source has"
                    );
                }
                source.every
            }
            Err(PullError::Source(SourceError::Stopped)) => return,
            Err(
                PullError::Source(SourceError::Unauthorized)
                | PullError::Mismatch
                | PullError::Bound,
            ) => REFUSED_REST,
            Err(_) => source.every,
        };
        if source.bell.rest(rest, heard) == Woken::Stopped {
            return;
        }
    }
}

impl Source {
    /// Pulls until the source has no more events to take. Blocks; one pull at a time runs, and it
    /// retries until the server stops.
    ///
    /// # Errors
    /// [`PullError`]: a retry would not help now. Everything that was recorded stays.
    pub fn pull_to_end(&self, engine: &Weak<Engine>, take: Take) -> Result<(), PullError> {
        let mut progress = self.pulling.lock();
        let started_at = time::now_ms();
        let circle = Circle::default();
        let mut pull =
            Pull { source: self, engine, take, started_at, has_lost: false, circle, left: 0 };
        let pulled = pull.run(&mut progress);
        match &pulled {
            Ok(()) => self.status.set_caught_up(started_at, pull.left),
            Err(PullError::Source(SourceError::Stopped)) => {}
            Err(error) => self.note(error),
        }
        pulled
    }

    /// Keeps the reason why a pull ended early, and logs it once.
    fn note(&self, error: &PullError) {
        if self.status.note_fault(error.code(), error.to_string()) {
            tracing::error!(
                source = self.url(),
                code = error.code(),
                "events are not pulled: {error}"
            );
        }
    }
}

/// One pull.
struct Pull<'a> {
    source: &'a Source,
    engine: &'a Weak<Engine>,
    take: Take,
    started_at: Millis,
    /// True once this pull has lost its cursor.
    has_lost: bool,
    /// The cursors of this pull.
    circle: Circle,
    /// The events that are left to their webhooks.
    left: u64,
}

/// The part of a page that is taken.
#[derive(Default)]
struct Taken {
    events: Vec<Verified>,
    /// The id of the last of them that has a usable one.
    last: Option<String>,
    /// True if nothing behind them is wanted.
    is_end: bool,
    /// The number of those behind them that are left to their webhooks.
    left: u64,
}

impl Pull<'_> {
    fn run(&mut self, progress: &mut Progress) -> Result<(), PullError> {
        if progress.place.is_none() {
            self.find_place(progress)?;
        }
        loop {
            if !progress.is_own {
                progress.is_own = self.is_own_environment(progress)?;
            }
            if self.take_page(progress)? {
                return Ok(());
            }
        }
    }

    /// Takes the next page. Returns true at the end.
    fn take_page(&mut self, progress: &mut Progress) -> Result<bool, PullError> {
        let place = progress.place.clone().unwrap_or(Place::From(self.retained()));
        if let Place::After(cursor) = &place
            && self.circle.closes(cursor)
        {
            return Err(SourceError::Unavailable(Breakage::Circle).into());
        }
        let page = match self.ask(&place) {
            Err(error) if self.loses(&place, &error) => {
                // The key may be of another environment now.
                progress.place = Some(self.lost_place()?);
                progress.is_own = false;
                self.circle = Circle::default();
                return Ok(false);
            }
            page => page?,
        };
        if page.is_rollcall && !progress.shows_all {
            if !self.source.client.shows_all(Tries::AtMost(1)) {
                return Err(PullError::Bound);
            }
            progress.shows_all = true;
        }
        if let (Place::From(from), true) = (&place, page.is_rollcall) {
            progress.place = Some(Place::FirstSince(*from));
            return Ok(false);
        }
        let Taken { events, last, is_end, left } = self.choose(&page, &place);
        self.record(events)?;
        self.left = left;
        let is_placeless = last.is_none();
        if let Some(id) = last {
            self.keep(&id)?;
            progress.place = Some(Place::After(id));
            progress.is_own = true;
        }
        if is_end {
            return Ok(true);
        }
        if is_placeless {
            return Ok(self.pass_placeless(progress, &place, page.after));
        }
        // The end of a window is not the end of the list.
        Ok(matches!(place, Place::After(_)) && page.after.is_none())
    }

    /// Moves past a page in which no item has a usable id, or that is empty: to where the page leads
    /// itself. If it leads nowhere, the next pull asks for it again, and what it has is a duplicate
    /// then. Returns true at the end.
    fn pass_placeless(
        &self,
        progress: &mut Progress,
        place: &Place,
        after: Option<String>,
    ) -> bool {
        let (next, is_end) = match (place, after) {
            (_, Some(after)) => (Place::After(after), false),
            (Place::After(_), None) => return true,
            (Place::From(from), None) if self.window_end(*from) < self.started_at => {
                (Place::From(self.window_end(*from) - OVERLAP_MS), false)
            }
            // Later pulls need not go back so far.
            (Place::From(_) | Place::FirstSince(_), None) => {
                (Place::From(self.started_at - REPEATED_MS), true)
            }
        };
        progress.place = Some(next);
        is_end
    }

    fn engine(&self) -> Result<Arc<Engine>, PullError> {
        self.engine.upgrade().ok_or(PullError::Source(SourceError::Stopped))
    }

    /// Returns the moment up to which the source's list goes back.
    fn retained(&self) -> Millis {
        self.started_at - RETENTION_MS
    }

    fn window_end(&self, from: Millis) -> Millis {
        (from + WINDOW_MS).min(self.started_at)
    }

    /// Finds the place by the cursor that was kept, by the newest pulled record, or goes back as far
    /// as the list does.
    fn find_place(&self, progress: &mut Progress) -> Result<(), PullError> {
        let engine = self.engine()?;
        let log = hex::encode(engine.log_id());
        if let Some(kept) = self.source.cursor.read(&log, engine.head(), self.source.url()) {
            let KeptCursor { cursor, key, .. } = kept;
            self.source.status.set_cursor(Some(cursor.clone()));
            let is_own = key == self.key();
            progress.place = Some(Place::After(cursor));
            progress.is_own = is_own;
            return Ok(());
        }
        progress.place = Some(self.place_without_cursor()?);
        Ok(())
    }

    /// Returns the place a day before the newest pulled record, or as far back as the list goes.
    fn place_without_cursor(&self) -> Result<Place, PullError> {
        let newest = self.engine()?.newest_pulled(self.source.url(), self.retained())?;
        let from = newest.map(|newest| (newest - REPEATED_MS).max(self.retained()));
        Ok(Place::From(from.unwrap_or(self.retained())))
    }

    /// Returns true if the source no longer knows the cursor. In one pull that happens once.
    fn loses(&mut self, place: &Place, error: &PullError) -> bool {
        let is_refusal = matches!(
            error,
            PullError::Source(SourceError::NotFound | SourceError::Refused(400 | 410 | 422))
        );
        let loses = is_refusal && matches!(place, Place::After(_)) && !self.has_lost;
        self.has_lost |= loses;
        loses
    }

    /// Returns the place without a cursor.
    fn lost_place(&self) -> Result<Place, PullError> {
        tracing::warn!(
            source = self.source.url(),
            "the source does not know the last event that was taken: it is pulled again from a day \
             before the newest pulled event on"
        );
        self.source.cursor.remove();
        self.source.status.set_cursor(None);
        self.place_without_cursor()
    }

    /// Asks for the page at a place.
    fn ask(&self, place: &Place) -> Result<SourcePage, PullError> {
        let mut path = format!("/events?events={}&limit=100", types());
        match place {
            Place::After(id) => path.push_str(&format!("&after={}", encoded(id))),
            Place::From(from) => path.push_str(&format!(
                "&range_start={}&range_end={}",
                time::format(*from),
                time::format(self.window_end(*from))
            )),
            Place::FirstSince(from) => {
                path.push_str(&format!("&range_start={}", time::format(*from)));
            }
        }
        let read = |answer: &SourceAnswer| read_page(answer).filter(|page| goes_on(page, place));
        Ok(self.source.client.ask(&path, Tries::Endless, read)?)
    }

    /// Chooses the events of a page that are taken: the list's order is kept. A window leaves out
    /// events by their dates, which may differ from the list's order: only its first event is a
    /// place in the list. An item without a usable id is taken and is not a place.
    fn choose(&self, page: &SourcePage, place: &Place) -> Taken {
        let now = time::now_ms();
        let leaves_young = self.take == Take::Settled && self.source.signs_webhooks;
        let origin = self.source.client.origin();
        let mut taken = Taken::default();
        for (at, item) in page.items.iter().enumerate() {
            if taken.last.is_some() && !matches!(place, Place::After(_)) {
                break;
            }
            let created_at = created_at(item);
            if leaves_young && created_at.is_some_and(|at| is_young(at, now)) {
                taken.is_end = true;
                taken.left = page.items.len().saturating_sub(at) as u64;
                break;
            }
            let is_newer = created_at.is_some_and(|at| at >= self.started_at);
            taken.is_end |= self.take == Take::All && is_newer;
            taken.last = id(item).or(taken.last);
            taken.events.push(Verified::pulled(origin, page.asked_at, item.clone()));
        }
        taken
    }

    /// Records events. Returns once all are durable and folded.
    fn record(&self, events: Vec<Verified>) -> Result<(), PullError> {
        if events.is_empty() {
            return Ok(());
        }
        let engine = self.engine()?;
        let mut waiting = Vec::new();
        for event in events {
            waiting.push((self.submit(&engine, &event)?, event.event_id().is_some()));
        }
        let (mut new, mut duplicates, mut differing) = (0, 0, 0);
        let mut failed = None;
        for (outcome, is_event) in waiting {
            match outcome.blocking_recv().unwrap_or(Err(IngestError::Unavailable)) {
                Ok(Outcome::New(seq)) => {
                    new += 1;
                    if !is_event {
                        self.tell_of_unusable(seq);
                    }
                }
                Ok(Outcome::Conflict { duplicate: false, .. }) => new += 1,
                Ok(Outcome::Duplicate { differs, .. }) => {
                    duplicates += 1;
                    differing += u64::from(differs);
                }
                Ok(Outcome::Conflict { duplicate: true, .. }) => duplicates += 1,
                Err(error) => failed = Some(error),
            }
        }
        self.source.status.add_pulled(new, duplicates, differing);
        failed.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Logs that the source listed something that is no event.
    fn tell_of_unusable(&self, seq: Seq) {
        tracing::warn!(
            source = self.source.url(),
            seq,
            "the source lists something among its events that is not an event: it is kept, listed \
             in the quarantine, and has no effect"
        );
    }

    /// Queues an event, and waits while the queue is full.
    fn submit(&self, engine: &Engine, event: &Verified) -> Result<Submitted, PullError> {
        loop {
            match engine.submit(event.clone()) {
                Err(IngestError::QueueFull) => {}
                submitted => return Ok(submitted?),
            }
            if self.source.bell.sleep(QUEUE_PAUSE) == Woken::Stopped {
                return Err(SourceError::Stopped.into());
            }
        }
    }

    /// Returns the fingerprint of the key.
    fn key(&self) -> String {
        hex::encode(self.source.client.origin().key_id())
    }

    /// Keeps the cursor.
    fn keep(&self, id: &str) -> Result<(), PullError> {
        let engine = self.engine()?;
        let kept = KeptCursor {
            log: hex::encode(engine.log_id()),
            head: engine.head(),
            url: self.source.url().to_owned(),
            key: self.key(),
            cursor: id.to_owned(),
        };
        if let Err(error) = self.source.cursor.write(&kept) {
            tracing::warn!(%error, "the cursor of the source cannot be kept");
        }
        self.source.status.set_cursor(Some(id.to_owned()));
        Ok(())
    }

    /// Returns true if the source lists a directory of which the log has an event by webhook or
    /// pulled, and false if the log has no such event. Directories that were only observed or
    /// imported may be of any environment, and are not looked for.
    ///
    /// # Errors
    /// [`PullError::Mismatch`], if it lists none of those.
    fn is_own_environment(&self, progress: &mut Progress) -> Result<bool, PullError> {
        let engine = self.engine()?;
        let head = engine.head();
        if !engine.has_sent(progress.unsent)? {
            progress.unsent = head;
            return Ok(false);
        }
        if engine.newest_sent(&|_| true)?.is_none() {
            return Ok(false);
        }
        drop(engine);
        let listed = self.listed_directories()?;
        let known = self.engine()?.newest_sent(&|id| listed.contains(id))?;
        if known.is_some() { Ok(true) } else { self.lists_our_event() }
    }

    /// Returns the ids of the directories that the source lists.
    fn listed_directories(&self) -> Result<HashSet<String>, PullError> {
        let mut listed = HashSet::new();
        let end = self.source.client.pages("/directories?limit=100", Tries::Endless, &mut |page| {
            listed.extend(page.items.iter().filter_map(id));
            Ok::<_, PullError>(())
        });
        match end {
            Ok(ListEnd::Ended) => Ok(listed),
            Ok(ListEnd::Unknown) | Err(PullError::Source(SourceError::NotFound)) => {
                Err(PullError::NoDirectories)
            }
            Err(error) => Err(error),
        }
    }

    /// Returns true if the source's list has the newest event of the log that is of a directory
    /// there: the last directory may have been deleted since. Returns false if there is no such
    /// event.
    ///
    /// # Errors
    /// [`PullError::Mismatch`], if the list lacks it.
    fn lists_our_event(&self) -> Result<bool, PullError> {
        let Some(sent) = self.engine()?.newest_sent(&|_| true)? else { return Ok(false) };
        // A bound may be included or not.
        let range = [sent.occurred_at - 1, sent.occurred_at + 1].map(time::format);
        let path = format!(
            "/events?events={}&limit=100&range_start={}&range_end={}",
            types(),
            range[0],
            range[1]
        );
        match self.source.client.page(&path, Tries::Endless) {
            Ok(page) if page.items.iter().any(|item| id(item).as_ref() == Some(&sent.id)) => {
                Ok(true)
            }
            // The moment may be too long ago for the list.
            Ok(_) | Err(SourceError::NotFound | SourceError::Refused(_)) => {
                Err(PullError::Mismatch)
            }
            Err(error) => Err(error.into()),
        }
    }
}

type Submitted = tokio::sync::oneshot::Receiver<Result<Outcome, IngestError>>;

/// Returns true unless a page leads back to its place.
fn goes_on(page: &SourcePage, place: &Place) -> bool {
    let leads_back = match place {
        Place::After(cursor) => {
            page.after.as_ref() == Some(cursor)
                || page.items.iter().rev().find_map(id).as_ref() == Some(cursor)
        }
        Place::From(_) | Place::FirstSince(_) => false,
    };
    !leads_back
}

/// Returns the names of the types that are asked for.
fn types() -> String {
    let names: Vec<&str> = TYPES.iter().map(|known| known.name()).collect();
    names.join(",")
}

/// Returns true if the signed copy of an event may still come. An event dated ahead by more than
/// clocks differ is not waited for.
fn is_young(created_at: Millis, now: Millis) -> bool {
    now.saturating_sub(created_at).unsigned_abs() < YOUNG_MS
}

/// Returns the usable id of an item, which is a place in its list.
fn id(item: &Bytes) -> Option<String> {
    let [id] = json::present_fields(std::str::from_utf8(item).ok()?, ["id"])?;
    let id = verify::id(id).filter(|id| !id.contains(char::is_control))?;
    Some(id.into_owned())
}

fn created_at(item: &Bytes) -> Option<Millis> {
    let [created_at] = json::present_fields(std::str::from_utf8(item).ok()?, ["created_at"])?;
    time::parse(&json::string(created_at)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(ids: &[&str], after: Option<&str>) -> SourcePage {
        let items = ids.iter().map(|id| format!(r#"{{"id":"{id}"}}"#).into()).collect();
        SourcePage { asked_at: 0, items, after: after.map(str::to_owned), is_rollcall: false }
    }

    #[test]
    fn a_page_that_leads_back_to_its_cursor_is_not_taken() {
        let after = Place::After("b".into());
        for (ids, next, goes) in [
            (&["c"][..], Some("c"), true),
            (&[], None, true),
            (&[], Some("c"), true),
            (&["a", "b"], Some("b"), false),
            (&["b"], None, false),
            (&[], Some("b"), false),
            // An item without a usable id is not a place.
            (&["c", ""], None, true),
            (&["b", ""], Some("c"), false),
            (&[""], Some("b"), false),
            (&[""], None, true),
        ] {
            assert_eq!(goes_on(&page(ids, next), &after), goes, "{ids:?} {next:?}");
        }
        assert!(goes_on(&page(&["b"], None), &Place::From(0)));
    }

    #[test]
    fn an_event_is_young_for_20_seconds_and_one_dated_far_ahead_never() {
        for (created_at, young) in
            [(0, true), (-19_999, true), (-20_000, false), (19_000, true), (60_000, false)]
        {
            assert_eq!(is_young(1_000_000 + created_at, 1_000_000), young, "{created_at}");
        }
    }
}
