//! Keeping the tables at the head: each batch of records is one transaction, with the position.

use std::sync::{Arc, Weak};

use rollcall_projections::{Seq, TouchedRows, Touches};
use tokio::sync::mpsc;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::database::{Database, SinkFault};
use super::rows::{RowSet, row_sets};
use super::schema::Position;
use super::tables::quoted;
use crate::engine::Engine;
use crate::log::{LogId, ReadError};

/// The most records that one transaction covers.
const RECORDS_MAX: usize = 4096;

/// The number of things whose rows are compared under one lock of the views.
const THINGS: usize = 48;

/// The number of things whose rows go to the database in one statement for each table.
const THINGS_TOGETHER: usize = 960;

/// The bytes of rows after which they go to the database.
const BYTES_TOGETHER: usize = 8 << 20;

/// Takes the engine for a moment. It is not kept while the database works, so that a stop can close
/// the log.
///
/// # Errors
/// If the server stops.
pub(super) fn taken(engine: &Weak<Engine>) -> Result<Arc<Engine>, SinkFault> {
    engine.upgrade().ok_or_else(|| SinkFault::Passing("the server stops".into()))
}

/// Returns the position that tables have at a record; without a basis unless `is_proven` is set.
/// Blocks while it reads the log.
pub(super) fn position_at(
    engine: &Engine,
    seq: Seq,
    is_proven: bool,
) -> Result<Position, ReadError> {
    let digest = engine.root(seq)?.to_vec();
    let basis = is_proven.then(|| engine.basis(seq)).transpose()?.map(Vec::from);
    Ok(Position { log_id: engine.log_id(), seq, digest, basis })
}

/// Returns what the records after `after` may change, and the last of them. They are at most
/// [`RECORDS_MAX`], and none is behind the head. Blocks while it reads the log.
pub(super) fn touched_after(engine: &Engine, after: Seq) -> Result<(Touches, Seq), ReadError> {
    let head = engine.folded_head();
    let last = head.min(after.saturating_add(RECORDS_MAX as Seq));
    let (mut touches, mut read) = (Touches::default(), after);
    while read < last {
        let next = engine.log().entries(read, (last - read) as usize, &mut |entry| {
            if entry.seq <= last {
                touches.note(entry);
            }
        })?;
        // A log that gives nothing more ends here.
        if next <= read {
            return Ok((touches, read));
        }
        read = next.min(last);
    }
    Ok((touches, last))
}

/// Rows in the making, which are written from the views and the log.
pub(super) struct Comparison {
    pub(super) engine: Weak<Engine>,
    pub(super) rows: TouchedRows,
    /// The record at which the tables are; `None` if they are empty.
    pub(super) before: Option<Seq>,
    pub(super) now: Seq,
}

impl Comparison {
    /// Returns the next rows that differ: some for each table. Empty at the end.
    pub(super) async fn next(&mut self) -> Result<Vec<RowSet>, SinkFault> {
        let mut sets: Vec<RowSet> = Vec::new();
        let (mut things, mut bytes) = (0, 0);
        while !self.rows.is_empty() && things < THINGS_TOGETHER && bytes < BYTES_TOGETHER {
            let engine = taken(&self.engine)?;
            let some = self.rows.take(THINGS);
            things += some.len();
            let changes = engine.views().table_changes(&some, self.before, self.now);
            for set in row_sets(&engine, changes)? {
                bytes += set.bytes();
                match sets.iter_mut().find(|other| other.table.name == set.table.name) {
                    Some(other) => other.append(set),
                    None => sets.push(set),
                }
            }
            drop(engine);
            // The connection is served by the same thread.
            tokio::task::yield_now().await;
        }
        Ok(sets)
    }

    pub(super) fn is_done(&self) -> bool {
        self.rows.is_empty()
    }

    /// Gives all rows that differ to `write`, some for each table at once. The next ones are
    /// computed while it waits for the database.
    pub(super) async fn write(
        mut self,
        mut write: impl AsyncFnMut(Vec<RowSet>) -> Result<(), SinkFault>,
    ) -> Result<(), SinkFault> {
        let (sender, mut receiver) = mpsc::channel(1);
        let computing = async move {
            while !self.is_done() {
                // Without a receiver the writing has failed, which ends this too.
                let _ = sender.send(self.next().await?).await;
            }
            Ok(())
        };
        let writing = async {
            while let Some(sets) = receiver.recv().await {
                write(sets).await?;
            }
            Ok(())
        };
        tokio::try_join!(computing, writing).map(drop)
    }
}

/// Brings tables from one record to a later one, inside the transaction of the caller.
pub(super) async fn apply(
    database: &mut Database,
    schema: &str,
    comparison: Comparison,
) -> Result<(), SinkFault> {
    let apply = async |sets: Vec<RowSet>| {
        for set in sets {
            database.apply(schema, &set).await?;
        }
        Ok(())
    };
    comparison.write(apply).await
}

/// Moves the tables from a position on by some records, in one transaction. Returns the record
/// that they have reached.
///
/// # Errors
/// If the position is another one by now: then nothing is changed.
pub(super) async fn step(
    database: &mut Database,
    schema: &str,
    engine: &Weak<Engine>,
    from: Seq,
    is_proven: bool,
) -> Result<Seq, SinkFault> {
    let (rows, position) = {
        let engine = taken(engine)?;
        let (touches, last) = touched_after(&engine, from)?;
        let rows = engine.views().touched_rows(&touches);
        (rows, position_at(&engine, last, is_proven)?)
    };
    let now = position.seq;
    if now <= from {
        return Ok(from);
    }
    database.run("BEGIN").await?;
    let moved = async {
        move_position(database, schema, from, &position).await?;
        let comparison = Comparison { engine: engine.clone(), rows, before: Some(from), now };
        apply(database, schema, comparison).await
    };
    let moved = moved.await;
    database.end_transaction(moved).await?;
    Ok(now)
}

/// Moves the position, if it is still that of `from`. The row is locked to the end of the
/// transaction, so that two servers take turns.
pub(super) async fn move_position(
    database: &mut Database,
    schema: &str,
    from: Seq,
    to: &Position,
) -> Result<(), SinkFault> {
    let statement = format!(
        "UPDATE {}.position SET seq = $1, digest = $2, basis = $3 \
         WHERE log_id = $4::text::uuid AND seq = $5",
        quoted(schema)
    );
    let (log_id, seq, from) = (uuid(to.log_id), to.seq as i64, from as i64);
    let values: [&(dyn ToSql + Sync); 5] = [&seq, &to.digest, &to.basis, &log_id, &from];
    let moved = database.execute(statement, &values).await?;
    if moved == 1 {
        return Ok(());
    }
    Err(SinkFault::Passing(
        "the position in the tables was moved by another: it is read again".into(),
    ))
}

/// Returns the text of a log's id.
pub(super) fn uuid(log_id: LogId) -> String {
    Uuid::from_bytes(log_id).to_string()
}

/// Sets the position, whatever it was.
pub(super) async fn set_position(
    database: &mut Database,
    schema: &str,
    to: &Position,
) -> Result<(), SinkFault> {
    database.run(&format!("DELETE FROM {}.position", quoted(schema))).await?;
    let statement = format!(
        "INSERT INTO {}.position (log_id, seq, digest, basis) VALUES ($1::text::uuid, $2, $3, $4)",
        quoted(schema)
    );
    let (log_id, seq) = (uuid(to.log_id), to.seq as i64);
    database.execute(statement, &[&log_id, &seq, &to.digest, &to.basis]).await.map(drop)
}
