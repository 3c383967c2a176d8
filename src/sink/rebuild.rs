//! Filling empty tables, and computing all rows again while the tables serve.

use std::sync::Weak;

use rollcall_projections::{Seq, TouchedRows};

use super::database::{Database, SinkFault};
use super::follow::{Comparison, apply, position_at, set_position, taken, touched_after};
use super::rows::RowSet;
use super::schema::{
    create_staging, drop_made, drop_unfinished, lock_rebuilds, read_position, unlock_rebuilds,
};
use super::shape::{Altered, altered, refuse_dependents};
use super::tables::{POSITION, TABLES};
use crate::engine::Engine;
use crate::log::LogId;

/// The bytes of rows of one table that are copied at once.
const COPY_BYTES: usize = 1 << 20;

/// The records that the new rows may lack when the exchange begins.
const LAG_MAX: Seq = 1000;

/// The most rounds in which the new rows come closer to the head.
const ROUNDS_MAX: usize = 20;

/// Rows in the text form of COPY, by table.
struct Copies {
    rows: [Vec<u8>; TABLES.len()],
}

impl Copies {
    fn new() -> Copies {
        Copies { rows: Default::default() }
    }

    fn add(&mut self, set: &RowSet) {
        for (table, rows) in TABLES.iter().zip(&mut self.rows) {
            if table.name == set.table.name {
                set.push_copy(rows);
            }
        }
    }

    /// Copies the rows of tables that have many, or all that are left if `all` is set.
    async fn send(
        &mut self,
        database: &Database,
        schema: &str,
        all: bool,
    ) -> Result<(), SinkFault> {
        let least = if all { 1 } else { COPY_BYTES };
        for (table, rows) in TABLES.iter().zip(&mut self.rows) {
            if rows.len() >= least {
                database.copy(schema, table, std::mem::take(rows)).await?;
            }
        }
        Ok(())
    }
}

/// Returns every row as it is known at the head, compared with empty tables.
fn everything(engine: &Weak<Engine>) -> Result<Comparison, SinkFault> {
    let held = taken(engine)?;
    let now = held.folded_head();
    let rows: TouchedRows = held.views().all_rows();
    Ok(Comparison { engine: engine.clone(), rows, before: None, now })
}

/// Fills empty tables in one transaction, so that a reader sees all rows or none. Returns the
/// record at which they are.
pub(super) async fn fill(
    database: &mut Database,
    schema: &str,
    engine: &Weak<Engine>,
    is_proven: bool,
) -> Result<Seq, SinkFault> {
    database.run("BEGIN").await?;
    let filled = fill_within(database, schema, engine, is_proven).await;
    database.end_transaction(filled).await
}

async fn fill_within(
    database: &mut Database,
    schema: &str,
    engine: &Weak<Engine>,
    is_proven: bool,
) -> Result<Seq, SinkFault> {
    // Another server that fills the same tables has its turn first.
    database.run(&format!("LOCK TABLE {} IN EXCLUSIVE MODE", POSITION.place(schema))).await?;
    let altered = altered(database, schema).await?;
    refuse_rows(database, schema, &altered).await?;
    let create: String = altered.iter().map(|table| table.prepare(schema)).collect();
    database.run(&create).await?;
    let comparison = everything(engine)?;
    let position = position_at(&*taken(engine)?, comparison.now, is_proven)?;
    set_position(database, schema, &position).await?;
    let mut copies = Copies::new();
    let to_copy: &Database = database;
    let copy = async |sets: Vec<RowSet>| {
        sets.iter().for_each(|set| copies.add(set));
        copies.send(to_copy, schema, false).await
    };
    comparison.write(copy).await?;
    copies.send(database, schema, true).await?;
    let keys = altered.iter().map(|table| table.complete(schema));
    let indexes = TABLES.iter().map(|table| table.create_indexes(schema));
    database.run_whole(&keys.chain(indexes).collect::<String>()).await?;
    analyze(database, schema).await?;
    Ok(position.seq)
}

/// Refuses tables that have rows, though no position says of which log.
async fn refuse_rows(
    database: &Database,
    schema: &str,
    altered: &[Altered],
) -> Result<(), SinkFault> {
    let is_missing =
        |name: &str| altered.iter().any(|other| other.is_missing && other.table.name == name);
    for table in TABLES.iter().chain([&&POSITION]).filter(|table| !is_missing(table.name)) {
        let question = format!("SELECT 1 FROM {} LIMIT 1", table.place(schema));
        if !database.query(&question, &[]).await?.is_empty() {
            let name = table.name;
            return Err(SinkFault::Lasting(format!(
                "the table `{schema}.{name}` has rows, and no position says of which log: \
                 `rollcall sink rebuild` replaces them"
            )));
        }
    }
    Ok(())
}

async fn analyze(database: &Database, schema: &str) -> Result<(), SinkFault> {
    let tables: Vec<String> = TABLES.iter().map(|table| table.place(schema)).collect();
    database.run_whole(&format!("ANALYZE {}", tables.join(", "))).await
}

/// The new rows, in a schema of their own.
pub(super) struct Rebuilding {
    /// The schema.
    staging: String,
    comparison: Comparison,
    copies: Copies,
    /// The record at which the new rows are.
    seq: Seq,
    /// True if all of them are of views that are what the log folds to.
    is_proven: bool,
}

impl Rebuilding {
    /// Begins, after what is left of rebuilds that did not end is removed.
    pub(super) async fn begin(
        database: &Database,
        schema: &str,
        engine: &Weak<Engine>,
        is_proven: bool,
    ) -> Result<Rebuilding, SinkFault> {
        lock_rebuilds(database, schema).await?;
        drop_unfinished(database, schema).await?;
        let staging = create_staging(database, schema).await?;
        let comparison = everything(engine)?;
        let seq = comparison.now;
        Ok(Rebuilding { staging, comparison, copies: Copies::new(), seq, is_proven })
    }

    /// Adds some rows. Returns false once all are there.
    pub(super) async fn go_on(&mut self, database: &Database) -> Result<bool, SinkFault> {
        let sets = self.comparison.next().await?;
        sets.iter().for_each(|set| self.copies.add(set));
        let is_done = self.comparison.is_done();
        self.copies.send(database, &self.staging, is_done).await?;
        Ok(!is_done)
    }

    /// Brings the new rows close to the head, and at least to `position`.
    async fn catch_up(
        &mut self,
        database: &mut Database,
        engine: &Weak<Engine>,
        position: Seq,
    ) -> Result<(), SinkFault> {
        for _ in 0..ROUNDS_MAX {
            let (rows, last) = {
                let engine = taken(engine)?;
                if self.seq >= position && engine.folded_head() <= self.seq + LAG_MAX {
                    return Ok(());
                }
                let (touches, last) = touched_after(&engine, self.seq)?;
                (engine.views().touched_rows(&touches), last)
            };
            let comparison =
                Comparison { engine: engine.clone(), rows, before: Some(self.seq), now: last };
            apply(database, &self.staging, comparison).await?;
            self.seq = last;
        }
        if self.seq >= position { Ok(()) } else { Err(behind()) }
    }

    /// Exchanges the rows in one transaction, and removes the schema of the new ones. Returns the
    /// record at which the tables are.
    pub(super) async fn finish(
        mut self,
        database: &mut Database,
        schema: &str,
        engine: &Weak<Engine>,
        replaced: &Replaced,
    ) -> Result<Seq, SinkFault> {
        let keys: String =
            TABLES.iter().map(|table| table.create_key(&self.staging, false)).collect();
        database.run_whole(&keys).await?;
        analyze(database, &self.staging).await?;
        self.catch_up(database, engine, replaced.position.unwrap_or(0)).await?;
        let to = position_at(&*taken(engine)?, self.seq, self.is_proven)?;
        let mends = altered(database, schema).await?;
        database.run("BEGIN").await?;
        let exchanged = async {
            refuse_dependents(database, schema, &mends).await?;
            database.run_whole(&self.exchange(schema, &mends)).await?;
            replaced.judge(database, schema).await?;
            set_position(database, schema, &to).await?;
            database.run_whole(&completion(schema, &mends)).await
        };
        let exchanged = exchanged.await;
        let exchanged = database.end_transaction(exchanged).await;
        self.abandon(database, schema).await;
        exchanged?;
        analyze(database, schema).await?;
        Ok(to.seq)
    }

    /// Removes the schema of the new rows. If that fails, the next rebuild removes it.
    async fn abandon(&self, database: &Database, schema: &str) {
        let removed = drop_made(database, &self.staging).await;
        // A lock that stays ends with the connection.
        let _ = unlock_rebuilds(database, schema).await;
        if let Err(fault) = removed {
            let (schema, reason) = (&self.staging, fault.message());
            tracing::warn!(schema, reason, "the schema of a rebuild stays until the next one");
        }
    }

    /// Returns the statements of the exchange. Only rows change in a table that is as the sink made
    /// it: whatever depends on it goes on, and readers are not kept waiting. One that was altered
    /// is mended in place, and one that is missing is made.
    fn exchange(&self, schema: &str, mends: &[Altered]) -> String {
        let mut statements = format!(
            "SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; \
             SET LOCAL enable_mergejoin = on;\nLOCK TABLE {} IN EXCLUSIVE MODE;\n",
            POSITION.place(schema)
        );
        mends.iter().for_each(|table| statements.push_str(&table.prepare(schema)));
        for table in TABLES {
            statements.push_str(&table.exchange(schema, &self.staging).join(";\n"));
            statements.push_str(";\n");
        }
        statements
    }
}

/// Returns the statements that end the exchange.
fn completion(schema: &str, mends: &[Altered]) -> String {
    let mut statements = String::new();
    if !mends.is_empty() {
        // A table with checks that wait for the commit cannot be altered.
        statements.push_str("SET CONSTRAINTS ALL IMMEDIATE;\n");
    }
    mends.iter().for_each(|table| statements.push_str(&table.complete(schema)));
    TABLES.iter().for_each(|table| statements.push_str(&table.create_indexes(schema)));
    statements
}

/// The rows that a rebuild replaces.
pub(super) struct Replaced {
    /// The record at which they are, if they are kept at the head meanwhile.
    pub(super) position: Option<Seq>,
    /// The log that they must be of; `None` if an operator has asked for the rebuild.
    pub(super) log_id: Option<LogId>,
}

impl Replaced {
    /// Refuses rows of another log that came meanwhile. The position is locked.
    async fn judge(&self, database: &Database, schema: &str) -> Result<(), SinkFault> {
        let Some(own) = self.log_id else { return Ok(()) };
        match read_position(database, schema).await? {
            Some(position) if position.log_id != own => Err(SinkFault::Passing(
                "the tables were replaced by another server: they are read again".into(),
            )),
            _ => Ok(()),
        }
    }
}

fn behind() -> SinkFault {
    SinkFault::Passing("records come faster than a rebuild can follow: it begins again".into())
}
