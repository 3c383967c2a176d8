//! Publishes checkpoints to folders and URLs of auditors at intervals while the server runs.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rollcall_projections::Seq;
use ureq::tls::RootCerts;

use crate::engine::Engine;
use crate::log::{History, ReadError};
use crate::notary::{Checkpoint, Note, NoteError, PublishError, PublishTarget, Verifier, origin};
use crate::trust::authorities;

/// Tries in one period for a receiver that fails.
const TRIES_MAX: u32 = 4;
/// The pause after the first try. It doubles with each further one.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest that a stop waits for the last try at all places.
const FINISH_WITHIN: Duration = Duration::from_secs(8);
const FINISH_PAUSE: Duration = Duration::from_millis(5);

/// The places to publish to, and the interval.
#[derive(Clone)]
pub(super) struct Publish {
    places: Vec<PublishTarget>,
    every: Duration,
    /// The authorities that are trusted over https.
    authorities: RootCerts,
}

/// A place to publish to, with the authorities that it trusts over https.
struct Place {
    target: PublishTarget,
    authorities: RootCerts,
}

/// The threads that publish, one for each place: a slow place delays neither another place nor
/// ingest.
pub(super) struct Publishers {
    stop: Vec<Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

/// The reason why nothing was published.
#[derive(Debug, thiserror::Error)]
enum PublishFailure {
    #[error(transparent)]
    PublishTarget(#[from] PublishError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the checkpoint published there last is not believed: {0}")]
    Foreign(NoteError),
    #[error(
        "the checkpoint of {published} records published there last is not of this log's history: \
         the log was changed, or is an older copy of itself; keep that checkpoint as evidence"
    )]
    Diverged { published: Seq },
    #[error(
        "the checkpoint of {size} records that both keys signed when the key changed is not of \
         this log's history: the log was changed; keep DATA/checkpoint-key.handovers as evidence"
    )]
    Handover { size: Seq },
}

impl Publish {
    /// Returns settings that publish nothing.
    pub(super) fn nowhere() -> Publish {
        Publish { places: Vec::new(), every: Duration::MAX, authorities: RootCerts::WebPki }
    }

    /// Reads the targets, and the authorities for https, so that a mistake shows at the start and
    /// not an hour later.
    ///
    /// # Errors
    /// A sentence, if there are no authorities.
    pub(super) fn to(places: &[String], every: Duration) -> Result<Publish, String> {
        let places: Vec<_> = places.iter().map(|place| PublishTarget::parse(place)).collect();
        let authorities = if places.iter().any(PublishTarget::is_https) {
            authorities(None).map_err(|error| format!("--publish-checkpoints: {error}"))?
        } else {
            RootCerts::WebPki
        };
        Ok(Publish { places, every, authorities })
    }

    /// Returns a sentence's end about a folder without a log, if a checkpoint was published into
    /// one of the places. URLs cannot be read back.
    pub(super) fn of_a_log(&self) -> Option<String> {
        let last = self.places.iter().find_map(|place| place.last().ok().flatten());
        last.map(|(path, note)| {
            let size = note.claims().size;
            format!(
                "has no log yet, and the checkpoint `{}` is of one with {size} records",
                path.display()
            )
        })
    }

    /// Returns true if a checkpoint of this log claims records that it lacks, or others. Its
    /// signature is not looked at.
    pub(super) fn contradicts(&self, log: &dyn History) -> bool {
        let origin = origin(log.identity().log_id);
        let mut notes = self.places.iter().filter_map(|place| place.last().ok().flatten());
        notes.any(|(_, note)| {
            let claims = note.claims();
            claims.origin == origin && is_diverged(claims, log.head(), |size| log.root(size))
        })
    }

    /// Compares the log with the checkpoint that each folder got last. One that none of `keys` has
    /// signed, and a folder that cannot be read, are left to the threads that publish.
    ///
    /// # Errors
    /// The end of a sentence that begins with the data folder, if it lacks records that were
    /// published, or has others.
    pub(super) fn judge_start(&self, log: &dyn History, keys: &[Verifier]) -> Result<(), String> {
        for place in &self.places {
            let Ok(Some((path, note))) = place.last() else { continue };
            let Ok(published) = note.open(keys) else { continue };
            if is_diverged(published, log.head(), |size| log.root(size)) {
                return Err(format!(
                    "has {} records, and the checkpoint `{}` of {} is not of this log's history: it \
                     is an older copy, or was changed; keep that checkpoint as evidence",
                    log.head(),
                    path.display(),
                    published.size
                ));
            }
        }
        Ok(())
    }

    /// Publishes at once, then after each interval, and once more at [`Publishers::finish`].
    pub(super) fn start(self, engine: &Arc<Engine>) -> Publishers {
        let (mut stop, mut threads) = (Vec::new(), Vec::new());
        for target in self.places {
            let place = Place { target, authorities: self.authorities.clone() };
            let (stopper, stopped) = mpsc::channel();
            let engine = Arc::downgrade(engine);
            stop.push(stopper);
            threads.push(thread::spawn(move || publish_to(&engine, &place, self.every, &stopped)));
        }
        Publishers { stop, threads }
    }
}

/// Returns what is wrong with a place: folders must exist, and URLs have a host.
pub(super) fn unusable(place: &PublishTarget) -> Option<&'static str> {
    match place {
        PublishTarget::Folder(folder) if !folder.is_dir() => Some("is not a folder"),
        PublishTarget::Url(url) if !has_host(url) => Some("is not a URL"),
        _ => None,
    }
}

fn has_host(url: &str) -> bool {
    url.parse::<ureq::http::Uri>().is_ok_and(|url| url.host().is_some_and(|host| !host.is_empty()))
}

impl Publishers {
    /// Publishes what is new, in one try, and ends the threads. One that hangs, in a folder whose
    /// disk does not answer, is left behind.
    pub(super) fn finish(self) {
        drop(self.stop);
        let begun = Instant::now();
        for thread in self.threads {
            while !thread.is_finished() && begun.elapsed() < FINISH_WITHIN {
                thread::sleep(FINISH_PAUSE);
            }
            if thread.is_finished() {
                let _ = thread.join();
            } else {
                tracing::error!("a place of checkpoints does not answer; the stop does not wait");
            }
        }
    }
}

/// Publishes at intervals. It holds the engine only while it reads the log: a place that hangs must
/// not keep the data folder locked.
fn publish_to(engine: &Weak<Engine>, place: &Place, every: Duration, stopped: &Receiver<()>) {
    // The size that this process published last. A URL cannot be read back.
    let mut last = 0;
    loop {
        let stops = publish_patiently(engine, place, &mut last, stopped);
        if stops || stopped.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
            publish_once(engine, place, &mut last, "; this was the last try");
            return;
        }
    }
}

/// Publishes, with retries. Returns whether the stop came meanwhile.
fn publish_patiently(
    engine: &Weak<Engine>,
    place: &Place,
    last: &mut Seq,
    stopped: &Receiver<()>,
) -> bool {
    let mut pause = PAUSE;
    for left in (0..TRIES_MAX).rev() {
        let after = if left > 0 { "; retrying" } else { "; retrying after the interval" };
        if publish_once(engine, place, last, after) {
            return false;
        }
        if left > 0 && stopped.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            return true;
        }
        pause *= 2;
    }
    false
}

/// Publishes in one try. Returns whether a retry is pointless: the checkpoint is published, there
/// was nothing new, or what is there contradicts the log.
fn publish_once(engine: &Weak<Engine>, place: &Place, last: &mut Seq, after: &str) -> bool {
    match publish(engine, place, last) {
        Ok(Some(size)) => tracing::info!(place = %place.target, size, "published a checkpoint"),
        Ok(None) => {}
        Err(
            error @ (PublishFailure::Foreign(_)
            | PublishFailure::Diverged { .. }
            | PublishFailure::Handover { .. }
            | PublishFailure::PublishTarget(PublishError::Foreign { .. })),
        ) => {
            tracing::error!(place = %place.target, %error, "no checkpoint is published");
        }
        Err(error) => {
            tracing::error!(place = %place.target, "a checkpoint could not be published: {error}{after}");
            return false;
        }
    }
    true
}

/// Publishes a checkpoint of the head if the log has grown since the last one. Returns its size.
fn publish(
    engine: &Weak<Engine>,
    place: &Place,
    last: &mut Seq,
) -> Result<Option<Seq>, PublishFailure> {
    let found = place.target.last()?;
    let Some(engine) = engine.upgrade() else { return Ok(None) };
    let head = engine.head();
    if let Some((_, note)) = found {
        let published = trusted(&engine, &note)?;
        if is_diverged(&published, head, |size| engine.root(size)) {
            return Err(PublishFailure::Diverged { published: published.size });
        }
        *last = published.size;
    }
    if head == *last {
        engine.note_checkpointed();
        return Ok(None);
    }
    let notes = notes_to_publish(&engine, *last, head)?;
    drop(engine);
    let mut published = None;
    for (size, note) in notes {
        place.target.put(size, &note, &place.authorities)?;
        *last = size;
        published = Some(size);
    }
    Ok(published)
}

/// Returns true if a log of `head` records does not begin with those of a checkpoint. Where its root
/// cannot be read, that is left open.
fn is_diverged(
    published: &Checkpoint,
    head: Seq,
    root: impl Fn(Seq) -> Result<[u8; 32], ReadError>,
) -> bool {
    published.size > head || root(published.size).is_ok_and(|root| root != published.root)
}

/// Returns the notes behind `last`, each with its size: those that both keys signed when the key
/// changed, and that of the head. An auditor with an old key learns the new one from them: they go
/// first, and none may be left out.
fn notes_to_publish(
    engine: &Engine,
    last: Seq,
    head: Seq,
) -> Result<Vec<(Seq, String)>, PublishFailure> {
    let handovers = engine.notary().map(|notary| notary.handovers(last, head)).unwrap_or_default();
    let mut notes = Vec::new();
    for (size, note) in handovers {
        let signed = Note::parse(note.as_bytes()).map_err(PublishFailure::Foreign)?;
        if engine.root(size)? != signed.claims().root {
            return Err(PublishFailure::Handover { size });
        }
        notes.push((size, note));
    }
    if notes.last().is_none_or(|(size, _)| *size != head) {
        notes.extend(engine.checkpoint(head)?.map(|note| (head, note)));
    }
    Ok(notes)
}

/// Returns the checkpoint of a note that a present or former key of this log has signed.
fn trusted(engine: &Engine, note: &Note) -> Result<Checkpoint, PublishFailure> {
    let former =
        engine.key_changes()?.into_iter().filter_map(|change| Verifier::parse(&change.from).ok());
    let keys: Vec<Verifier> =
        former.chain(engine.notary().map(|notary| notary.verifier())).collect();
    note.open(&keys).cloned().map_err(PublishFailure::Foreign)
}
