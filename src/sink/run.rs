//! The thread that keeps the tables. It never keeps an event from being recorded: while the
//! database is away, the records wait in the log.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::Sink;
use super::database::{Database, SinkFault};
use super::follow::{move_position, position_at, step, taken, uuid};
use super::rebuild::{Rebuilding, Replaced, fill};
use super::schema::{Found, Position, drop_leftovers, prepare, read_position};
use super::shape::{Altered, altered, refuse_dependents};
use super::status::SinkState;
use crate::engine::{Engine, ViewsOrigin};

/// The pause after a try that failed, and the longest: it doubles with each further one.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// How often tables that were refused are looked at again.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// The longest wait for a record until the connection is looked at.
const WAIT: Duration = Duration::from_millis(200);

pub(super) struct Keeper {
    sink: Arc<Sink>,
    engine: Weak<Engine>,
    /// True if no row is left from a snapshot that was different: all were computed again since.
    is_mended: bool,
    /// False while the position has no basis, because the rows may be those of a snapshot that is
    /// not compared yet.
    has_basis: bool,
}

impl Keeper {
    pub(super) fn new(sink: Arc<Sink>, engine: Weak<Engine>) -> Keeper {
        Keeper { sink, engine, is_mended: false, has_basis: true }
    }

    /// Keeps the tables until the server stops.
    pub(super) async fn run(mut self) {
        let (mut pause, mut said) = (PAUSE, String::new());
        while self.engine.upgrade().is_some() {
            let before = self.sink.status.applied();
            let Err(fault) = self.session().await else { return };
            if self.sink.status.applied() > before {
                (pause, said) = (PAUSE, String::new());
            }
            let rest = match fault {
                SinkFault::Passing(message) | SinkFault::Refusing(message) => {
                    // The same reason is said once.
                    if message != said {
                        tracing::warn!(reason = message, "the PostgreSQL sink tries again");
                    }
                    said.clone_from(&message);
                    self.sink.status.failed(SinkState::Retrying, message);
                    pause
                }
                SinkFault::Lasting(message) => {
                    if message != said {
                        tracing::error!(reason = message, "the PostgreSQL sink changes nothing");
                    }
                    said.clone_from(&message);
                    self.sink.status.failed(SinkState::Refused, message);
                    REFUSED_PAUSE
                }
            };
            pause = (pause * 2).min(PAUSE_MAX);
            let _ = tokio::time::timeout(rest, self.sink.wakes.notified()).await;
        }
    }

    /// Keeps the tables over one connection.
    async fn session(&mut self) -> Result<(), SinkFault> {
        let opened = self.open().await;
        if let Some(message) = opened.as_ref().err().and_then(SinkFault::refusal) {
            self.sink.status.end_rebuild(Some(message.to_owned()));
        }
        let (mut database, found) = opened?;
        if self.sink.status.wants_rebuild() {
            self.rebuild(&mut database, true).await?;
        } else {
            self.resume(&mut database, found).await?;
        }
        loop {
            let origin = taken(&self.engine)?.views_origin();
            let is_invented = origin == ViewsOrigin::Rebuilt && !self.is_mended;
            if is_invented || self.sink.status.wants_rebuild() {
                self.rebuild(&mut database, is_invented).await?;
            }
            self.follow(&mut database).await?;
            self.note_basis(&mut database).await?;
            if !self.wait(&database).await? {
                return Ok(());
            }
        }
    }

    /// Connects, and looks at the tables.
    async fn open(&self) -> Result<(Database, Found), SinkFault> {
        let database = Database::connect(&self.sink.url).await?;
        let found = prepare(&database, &self.sink.schema).await?;
        drop_leftovers(&database, &self.sink.schema).await?;
        Ok((database, found))
    }

    /// Takes the tables up where they are, or fills them.
    async fn resume(&mut self, database: &mut Database, found: Found) -> Result<(), SinkFault> {
        let schema = self.sink.schema.clone();
        // The first fill makes the tables.
        let is_wrong = |table: &&Altered| found.position.is_some() || !table.is_missing;
        let wrong: Vec<&str> =
            found.altered.iter().filter(is_wrong).map(|altered| altered.table.name).collect();
        if !wrong.is_empty() {
            return Err(SinkFault::Lasting(format!(
                "in the schema `{schema}` these tables are missing or were altered: {}; `rollcall \
                 sink rebuild` makes them again",
                wrong.join(", ")
            )));
        }
        let Some(position) = found.position else {
            self.sink.status.enter(SinkState::Filling);
            let origin = taken(&self.engine)?.views_origin();
            let is_proven = origin != ViewsOrigin::Unproven;
            let seq = fill(database, &schema, &self.engine, is_proven).await?;
            self.computed(origin);
            tracing::info!(schema, seq, "filled the tables in PostgreSQL");
            self.reached(seq)?;
            return Ok(());
        };
        self.sink.status.found(position.seq);
        self.judge(&position)?;
        let basis = taken(&self.engine)?.basis(position.seq)?;
        if position.basis.as_deref() != Some(&basis[..]) {
            tracing::warn!(
                schema,
                seq = position.seq,
                "the tables in PostgreSQL are rebuilt: their rows are by another version of the \
                 fold, or of records that are lost by now, or of a \
                 snapshot that was not compared with the log"
            );
            return self.rebuild(database, true).await;
        }
        self.has_basis = true;
        tracing::info!(schema, seq = position.seq, "keeping the tables in PostgreSQL");
        Ok(())
    }

    /// Refuses tables that hold the answers of another log.
    fn judge(&self, position: &Position) -> Result<(), SinkFault> {
        let engine = taken(&self.engine)?;
        let (schema, own) = (&self.sink.schema, engine.log_id());
        let end = "`rollcall sink rebuild` replaces them by those of this log";
        if position.log_id != own {
            let (theirs, own) = (uuid(position.log_id), uuid(own));
            return Err(SinkFault::Lasting(format!(
                "the tables in the schema `{schema}` are those of the log {theirs}, and this log \
                 is {own}: {end}"
            )));
        }
        let (seq, head) = (position.seq, engine.folded_head());
        if seq > head {
            return Err(SinkFault::Lasting(format!(
                "the tables in the schema `{schema}` are at record {seq}, and the log ends with \
                 {head}: {end}"
            )));
        }
        if engine.root(seq)?[..] != position.digest[..] {
            return Err(SinkFault::Lasting(format!(
                "the tables in the schema `{schema}` are of a log that had other records up to \
                 {seq}: {end}"
            )));
        }
        Ok(())
    }

    fn reached(&self, seq: u64) -> Result<(), SinkFault> {
        let head = taken(&self.engine)?.folded_head();
        self.sink.status.reached(seq, head);
        self.sink.status.enter(SinkState::Following);
        Ok(())
    }

    /// Notes that all rows were computed by views of an origin.
    fn computed(&mut self, origin: ViewsOrigin) {
        self.is_mended = origin == ViewsOrigin::Rebuilt;
        self.has_basis = origin != ViewsOrigin::Unproven;
    }

    /// Returns true if the rows, and those that the views give now, are what the log folds to.
    fn is_proven(&self) -> Result<bool, SinkFault> {
        Ok(match taken(&self.engine)?.views_origin() {
            ViewsOrigin::Log => true,
            ViewsOrigin::Unproven => false,
            ViewsOrigin::Rebuilt => self.is_mended,
        })
    }

    /// Writes the basis, once the snapshot that the rows come from is what the log folds to.
    async fn note_basis(&mut self, database: &mut Database) -> Result<(), SinkFault> {
        if self.has_basis || !self.is_proven()? {
            return Ok(());
        }
        let Some(seq) = self.sink.status.position() else { return Ok(()) };
        let position = position_at(&*taken(&self.engine)?, seq, true)?;
        move_position(database, &self.sink.schema, seq, &position).await?;
        self.has_basis = true;
        Ok(())
    }

    /// Moves the tables to the head.
    async fn follow(&mut self, database: &mut Database) -> Result<(), SinkFault> {
        loop {
            let Some(from) = self.sink.status.position() else { return Ok(()) };
            let is_proven = self.is_proven()?;
            let to = step(database, &self.sink.schema, &self.engine, from, is_proven).await?;
            self.reached(to)?;
            if to == from {
                return Ok(());
            }
            self.has_basis = is_proven;
        }
    }

    /// Waits for a record, or a request for a rebuild. Returns false once the server stops.
    async fn wait(&mut self, database: &Database) -> Result<bool, SinkFault> {
        let engine = taken(&self.engine)?;
        if engine.is_shutting_down() {
            return Ok(false);
        }
        if database.is_closed() {
            return Err(SinkFault::Passing("PostgreSQL has closed the connection".into()));
        }
        let seq = self.sink.status.position().unwrap_or(0);
        tokio::select! {
            () = engine.wait_until_folded(seq, WAIT) => {}
            () = self.sink.wakes.notified() => {}
        }
        Ok(true)
    }

    /// Computes all rows again. Until they are exchanged the tables are kept at the head, unless
    /// `alone` is set because their rows are not those of this log.
    async fn rebuild(&mut self, database: &mut Database, alone: bool) -> Result<(), SinkFault> {
        self.sink.status.enter(SinkState::Rebuilding);
        match self.exchange(database, alone).await {
            Ok(seq) => {
                self.reached(seq)?;
                tracing::info!(schema = self.sink.schema, seq, "rebuilt the tables in PostgreSQL");
                self.sink.status.end_rebuild(None);
                Ok(())
            }
            // A connection that broke is made again, and the rebuild begins anew.
            Err(fault) if !database.is_alive().await => Err(fault),
            Err(fault) => {
                let message = fault.message();
                self.sink.status.end_rebuild(Some(message.clone()));
                Err(SinkFault::Refusing(message))
            }
        }
    }

    async fn exchange(&mut self, database: &mut Database, alone: bool) -> Result<u64, SinkFault> {
        let schema = self.sink.schema.clone();
        let own = taken(&self.engine)?.log_id();
        let is_asked = self.sink.status.wants_rebuild();
        // Tables that were altered are not written to until they are mended.
        let altered = altered(database, &schema).await?;
        refuse_dependents(database, &schema, &altered).await?;
        let alone = alone || !altered.is_empty();
        let origin = taken(&self.engine)?.views_origin();
        let is_proven = origin != ViewsOrigin::Unproven;
        let mut rebuilding = Rebuilding::begin(database, &schema, &self.engine, is_proven).await?;
        while rebuilding.go_on(database).await? {
            if !alone {
                self.follow(database).await?;
                self.sink.status.enter(SinkState::Rebuilding);
            }
        }
        // The position of another log says nothing about this one.
        let position = if alone { None } else { read_position(database, &schema).await? };
        let position = position.filter(|position| position.log_id == own);
        let position = position.map(|position| position.seq);
        let replaced = Replaced { position, log_id: (!is_asked).then_some(own) };
        let seq = rebuilding.finish(database, &schema, &self.engine, &replaced).await?;
        self.computed(origin);
        Ok(seq)
    }
}
