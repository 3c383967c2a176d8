//! Carries commands out: decides, has the writer append the records, and shows the outcome.

use rollcall_projections::Millis;
use tokio::sync::oneshot;

use super::plan::{Asked, Decision, Plan, ScimMethod, decide};
use super::resource::{Held, Known};
use super::turns::ScimTurn;
use super::unfinished::{Rest, Unfinished};
use super::{ScimCaller, ScimError, ScimShowing, ScimShown, not_found};
use crate::engine::writer::Job;
use crate::engine::{Engine, IngestError};
use crate::log::{BATCH_BYTES_MAX, BATCH_EVENTS_MAX, ReadError};
use crate::scim::{Kind, redact};
use crate::verify::{ScimCredential, Verified, own_id};

/// The tries to decide a command while the directory changes otherwise: only operators do that.
const TRIES: usize = 3;

/// A condition on the version of a resource.
pub(super) type ExpectedVersion = Box<dyn Fn(&str) -> bool + Send>;

/// A command of an identity provider.
pub struct ScimCommand {
    /// The one who sends it.
    pub caller: ScimCaller,
    /// The kind of command.
    pub method: ScimMethod,
    /// The kind of resource.
    pub kind: Kind,
    /// The resource; `None` for one that is created.
    pub id: Option<String>,
    /// The body as it was sent. Passwords in it are replaced before anything else sees it.
    pub body: bytes::Bytes,
    /// The name that the client gives itself.
    pub user_agent: String,
    /// The versions of the resource for which the command is meant, if it says so.
    pub expected: Option<ExpectedVersion>,
}

/// The outcome of an accepted command.
#[derive(Debug)]
pub enum ScimDone {
    /// The resource is new.
    Created(ScimShown),
    /// The resource is there as the command says.
    Shown(ScimShown),
    /// The resource is gone.
    Deleted,
}

/// Records in the queue of the writer, which are appended as one batch if they still may.
pub(in crate::engine) struct QueuedRecords {
    events: Vec<Verified>,
    admission: Option<Admission>,
    reply: oneshot::Sender<Result<bool, IngestError>>,
}

/// The conditions that must still hold when the first records of a command are appended.
#[derive(Clone)]
struct Admission {
    directory: String,
    credential: ScimCredential,
    occurred_at: Millis,
}

impl Engine {
    /// Appends records of SCIM; runs on the writer's thread.
    pub(in crate::engine) fn append_scim(&self, queued: QueuedRecords) {
        let QueuedRecords { events, admission, reply } = queued;
        let mut is_admitted = true;
        let appended = self.record_now(|now| {
            is_admitted = admission.is_none_or(|admission| admission.holds(self, now));
            if is_admitted { events } else { Vec::new() }
        });
        let _ = reply.send(appended.map(|_| is_admitted));
    }

    /// Has the writer append a batch, and blocks until it is durable and folded. Returns false if
    /// it was not admitted.
    fn append_batch(
        &self,
        events: Vec<Verified>,
        admission: Option<Admission>,
    ) -> Result<bool, ScimError> {
        if self.refuses_events() {
            return Err(ScimError::Unavailable);
        }
        let (reply, answer) = oneshot::channel();
        let queued = QueuedRecords { events, admission, reply };
        let sent = self.enqueue_when_free(Job::Scim(Box::new(queued)));
        sent.map_err(|_| ScimError::Unavailable)?;
        let done = answer.blocking_recv().map_err(|_| ScimError::Unavailable)?;
        done.map_err(|_| ScimError::Unavailable)
    }

    /// Has the writer append a change batch by batch. Returns false if its first batch was not
    /// admitted.
    fn append_all(
        &self,
        unfinished: &mut Unfinished,
        mut admission: Option<Admission>,
    ) -> Result<bool, ScimError> {
        while let Some(batch) = unfinished.next_batch(self)? {
            if !self.append_batch(batch, admission.take())? {
                return Ok(false);
            }
            unfinished.batch_is_appended();
        }
        Ok(true)
    }
}

impl Admission {
    /// Tells if the directory and the token are still there, and nothing in the directory occurred
    /// since.
    fn holds(&self, engine: &Engine, now: Millis) -> bool {
        let Admission { directory, credential, occurred_at } = self;
        let views = engine.views();
        let scim = views.scim();
        let is_live = scim.live_token(directory, credential.sha256(), now).is_some();
        let last_at = scim.directory(directory).map_or(Millis::MAX, |one| one.last_at);
        is_live && last_at < *occurred_at
    }
}

impl ScimTurn {
    /// Carries a command out. Blocks until it is durable and folded.
    ///
    /// # Errors
    /// [`ScimError`]. Nothing was done then, but for [`ScimError::Unavailable`], after which it may
    /// be done, or be finished later.
    pub fn carry_out(
        mut self,
        command: ScimCommand,
        showing: &ScimShowing,
    ) -> Result<ScimDone, ScimError> {
        self.finish()?;
        let body = match command.method {
            ScimMethod::Delete => None,
            _ => Some(redact(&command.body)?),
        };
        let engine = self.engine.clone();
        let now = engine.now().map_err(|_| ScimError::Unavailable)?;
        let new_id = || own_id("", now).map_err(|_| ScimError::Unavailable);
        let mut asked = Asked {
            directory: self.directory.clone(),
            token: command.caller.token.clone(),
            method: command.method,
            kind: command.kind,
            id: command.id.map_or_else(new_id, Ok)?,
            body,
            user_agent: command.user_agent,
            is_whole: !showing.projection.names_attributes(),
            request_id: own_id("op_", now).map_err(|_| ScimError::Unavailable)?,
            occurred_at: now,
        };
        let credential = command.caller.credential;
        let expected = command.expected.as_deref();
        for _ in 0..TRIES {
            asked.occurred_at = engine.scim_moment(&self.directory)?;
            let known = Known::now(&engine);
            let expected = expected.map(|expected| expected as &dyn Fn(&str) -> bool);
            match decide(known, &asked, expected)? {
                Decision::Unchanged(held) => {
                    engine.count_scim_unchanged(&self.directory);
                    return Ok(self.shown(&asked, &held, showing));
                }
                Decision::Change(plan) => {
                    if self.record(*plan, &asked, credential)? {
                        return self.done(&asked, showing);
                    }
                }
            }
        }
        Err(ScimError::Unauthorized)
    }

    fn done(&self, asked: &Asked, showing: &ScimShowing) -> Result<ScimDone, ScimError> {
        if asked.method == ScimMethod::Delete {
            return Ok(ScimDone::Deleted);
        }
        let known = Known::now(&self.engine);
        let held = known.held(&self.directory, asked.kind, &asked.id)?;
        let held = held.ok_or_else(|| not_found(asked.kind))?;
        Ok(self.shown(asked, &held, showing))
    }

    fn shown(&self, asked: &Asked, held: &Held, showing: &ScimShowing) -> ScimDone {
        match asked.method {
            ScimMethod::Create => ScimDone::Created(self.engine.show(held, showing)),
            ScimMethod::Patch => ScimDone::Shown(self.engine.shown_after_patch(held, showing)),
            ScimMethod::Replace | ScimMethod::Delete => {
                ScimDone::Shown(self.engine.show(held, showing))
            }
        }
    }

    /// Records a change. Returns false if the directory has changed meanwhile: it is to be decided
    /// anew then.
    fn record(
        &mut self,
        plan: Plan,
        asked: &Asked,
        credential: ScimCredential,
    ) -> Result<bool, ScimError> {
        let admission = Admission {
            directory: self.directory.clone(),
            credential,
            occurred_at: asked.occurred_at,
        };
        let Plan { records, mut following } = plan;
        let mut batch = Batch::new(credential);
        records.iter().for_each(|record| batch.push(record));
        if batch.len() + following.len() <= BATCH_EVENTS_MAX {
            while following.len() > 0 && batch.fits() {
                let events = following.take(&self.engine, BATCH_EVENTS_MAX)?;
                events.iter().for_each(|event| batch.push(event));
            }
            if batch.fits() {
                return self.engine.append_batch(batch.events, Some(admission));
            }
        }
        let request_id = asked.request_id.clone();
        let unfinished = Unfinished::begin(request_id, credential, batch.events, following);
        self.roll(unfinished, Some(admission))
    }

    /// Appends what is too large for one batch, batch by batch. What cannot be appended is kept for
    /// the next turn.
    fn roll(
        &mut self,
        mut unfinished: Unfinished,
        admission: Option<Admission>,
    ) -> Result<bool, ScimError> {
        let rolled = self.engine.append_all(&mut unfinished, admission);
        if rolled.is_err() {
            self.left(Rest::Batches(Box::new(unfinished)));
        }
        rolled
    }

    /// Keeps what a change left to be appended for the next turn.
    pub(super) fn left(&mut self, rest: Rest) {
        *self.rest = Some(rest);
    }

    /// Finishes what an earlier change of the directory could not, or a stop broke off: see
    /// [`super::unfinished`].
    ///
    /// # Errors
    /// [`ScimError::Unavailable`] while it cannot be finished.
    pub(super) fn finish(&mut self) -> Result<(), ScimError> {
        let Some(rest) = self.rest.take() else { return Ok(()) };
        let unfinished = match rest {
            Rest::Batches(unfinished) => match unfinished.is_in_log(&self.engine) {
                // Nothing of it was appended, and the sender knows that it may not be.
                Ok(false) => return Ok(()),
                Ok(true) => *unfinished,
                Err(error) => return Err(self.unreadable(Rest::Batches(unfinished), &error)),
            },
            Rest::OfRequest(seq) => match self.engine.broken_off(&self.directory, seq) {
                Ok(None) => return Ok(()),
                Ok(Some(unfinished)) => unfinished,
                Err(error) => return Err(self.unreadable(rest, &error)),
            },
        };
        self.roll(unfinished, None).map(drop)
    }

    /// Keeps what cannot be finished because the log could not be read.
    fn unreadable(&mut self, rest: Rest, error: &ReadError) -> ScimError {
        tracing::error!(directory = self.directory, %error, "a change could not be finished");
        self.left(rest);
        ScimError::Unavailable
    }
}

impl Engine {
    /// Returns the moment at which a change of a directory occurs: now, but after all that occurred
    /// in it.
    fn scim_moment(&self, directory: &str) -> Result<Millis, ScimError> {
        let now = self.now().map_err(|_| ScimError::Unavailable)?;
        let views = self.views();
        let last_at = views.scim().directory(directory).map_or(Millis::MIN, |one| one.last_at);
        Ok(now.max(last_at.saturating_add(1)))
    }
}

/// Events that are to be appended together.
pub(super) struct Batch {
    pub(super) events: Vec<Verified>,
    credential: ScimCredential,
    bytes: usize,
}

impl Batch {
    pub(super) fn new(credential: ScimCredential) -> Batch {
        Batch { events: Vec::new(), credential, bytes: 0 }
    }

    pub(super) fn push(&mut self, body: &str) {
        self.bytes += body.len();
        self.events.push(Verified::scim(&self.credential, body.to_owned().into()));
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }

    /// Tells if the log takes them at once.
    pub(super) fn fits(&self) -> bool {
        self.len() <= BATCH_EVENTS_MAX && (self.bytes <= BATCH_BYTES_MAX || self.len() == 1)
    }
}
