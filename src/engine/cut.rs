//! Cuts: the bounds of a question in both clocks, fixed for ever.

use rollcall_projections::{Cut, Millis, Seq};
use tokio::sync::oneshot;

use super::writer::Job;
use super::{CutError, Engine};

/// `known_at` as a question gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KnownAt {
    /// Up to this record.
    Seq(Seq),
    /// Up to this moment.
    Time(Millis),
}

impl Engine {
    /// Turns the bounds of a question into a cut that is fixed for ever.
    ///
    /// A `known_at` given as a time waits until every record stamped by then is folded; all later
    /// records get later stamps.
    ///
    /// # Errors
    /// [`CutError`]: a cut ahead of what is known, or one that could not be repeated.
    pub async fn cut(
        &self,
        as_of: Option<Millis>,
        known_at: Option<KnownAt>,
    ) -> Result<Cut, CutError> {
        if as_of.is_some_and(|as_of| as_of > self.present()) {
            return Err(CutError::AsOfInFuture);
        }
        let known_at = match known_at {
            None => self.folded_head(),
            Some(KnownAt::Seq(seq)) if seq <= self.folded_head() => seq,
            Some(KnownAt::Time(moment)) if moment <= self.present() => self.settle(moment).await?,
            Some(_) => return Err(CutError::KnownAtOutOfRange),
        };
        Ok(Cut { as_of: as_of.unwrap_or(Millis::MAX), known_at })
    }

    /// Returns the latest moment that a question may name. If the clock was set back, that is what
    /// it said when the last question or record came, so that their answers repeat.
    fn present(&self) -> Millis {
        let stamped = self.stamps.lock().not_before.saturating_sub(1);
        self.clock.now_ms().max(stamped).max(self.views.read().recorded_at())
    }

    /// Makes sure that no record gets a stamp up to `moment` from now on, not even after a restart
    /// with the clock set back.
    async fn promise(&self, moment: Millis) -> Result<(), CutError> {
        if moment < self.views.read().recorded_at() || moment <= self.stamps.lock().answered {
            return Ok(());
        }
        // What a clock that has jumped ahead calls the present must not bind every later record.
        if self.clock.believable_ms().is_err() {
            return Err(CutError::Unsettled);
        }
        let (reply, kept) = oneshot::channel();
        self.enqueue(Job::Answer(moment, reply)).map_err(|_| CutError::Unsettled)?;
        if kept.await == Ok(true) { Ok(()) } else { Err(CutError::Unsettled) }
    }

    /// Waits until every record stamped by `moment` is folded, and returns the newest of them.
    async fn settle(&self, moment: Millis) -> Result<Seq, CutError> {
        self.promise(moment).await?;
        let mut folded = self.folded.subscribe();
        loop {
            folded.borrow_and_update();
            let waits = {
                let mut stamps = self.stamps.lock();
                if stamps.unknown.is_some_and(|stamp| stamp <= moment) {
                    return Err(CutError::Unsettled);
                }
                stamps.not_before = stamps.not_before.max(moment.saturating_add(1));
                stamps.in_flight.front().is_some_and(|stamp| *stamp <= moment)
            };
            if !waits || folded.changed().await.is_err() {
                return Ok(self.views.read().known_at(moment));
            }
        }
    }
}
