//! Filling empty tables, and computing all rows again while the tables serve.

use std::sync::Weak;

use rollcall_projections::{Seq, TouchedRows};

use super::database::{Database, SinkFault};
use super::follow::{Comparison, apply, position_at, set_position, taken, touched_after};
use super::rows::RowSet;
use super::schema::{create_staging, drop_made, drop_unfinished, grants_of, misshapen};
use super::tables::{TABLES, Table, quoted};
use crate::engine::Engine;

/// The bytes of rows of one table that are copied at once.
const COPY_BYTES: usize = 4 << 20;

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
    refuse_rows(database, schema).await?;
    let mut comparison = everything(engine)?;
    let position = position_at(&*taken(engine)?, comparison.now, is_proven)?;
    set_position(database, schema, &position).await?;
    let mut copies = Copies::new();
    while !comparison.is_done() {
        comparison.next().await?.iter().for_each(|set| copies.add(set));
        copies.send(database, schema, false).await?;
    }
    copies.send(database, schema, true).await?;
    analyze(database, schema).await?;
    Ok(position.seq)
}

/// Refuses tables that have rows, though no position says of which log.
async fn refuse_rows(database: &Database, schema: &str) -> Result<(), SinkFault> {
    let quoted = quoted(schema);
    let names = TABLES.iter().map(|table| table.name).chain(["position"]);
    // Another server that fills the same tables has its turn first.
    database.run(&format!("LOCK TABLE {quoted}.position IN EXCLUSIVE MODE")).await?;
    for name in names {
        let question = format!("SELECT 1 FROM {quoted}.{name} LIMIT 1");
        if !database.query(&question, &[]).await?.is_empty() {
            return Err(SinkFault::Lasting(format!(
                "the table `{schema}.{name}` has rows, and no position says of which log: \
                 `rollcall sink rebuild` replaces them"
            )));
        }
    }
    Ok(())
}

async fn analyze(database: &Database, schema: &str) -> Result<(), SinkFault> {
    let quoted = quoted(schema);
    let tables: Vec<String> =
        TABLES.iter().map(|table| format!("{quoted}.{}", table.name)).collect();
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
        position: Option<Seq>,
    ) -> Result<Seq, SinkFault> {
        analyze(database, &self.staging).await?;
        self.catch_up(database, engine, position.unwrap_or(0)).await?;
        let statements = self.exchange(database, schema).await?;
        let to = position_at(&*taken(engine)?, self.seq, self.is_proven)?;
        database.run("BEGIN").await?;
        let exchanged = async {
            database.run_whole(&statements).await?;
            set_position(database, schema, &to).await
        };
        match exchanged.await {
            Ok(()) => database.run("COMMIT").await?,
            Err(fault) => {
                let _ = database.run("ROLLBACK").await;
                self.abandon(database).await;
                return Err(fault);
            }
        }
        self.abandon(database).await;
        analyze(database, schema).await?;
        Ok(to.seq)
    }

    /// Removes the schema of the new rows. What cannot be removed now is at the next rebuild.
    async fn abandon(&self, database: &Database) {
        if let Err(fault) = drop_made(database, &self.staging).await {
            let (schema, reason) = (&self.staging, fault.message());
            tracing::warn!(schema, reason, "the schema of a rebuild stays until the next one");
        }
    }

    /// Returns the statements of the exchange. A table that is as the sink made it stays, and only
    /// its rows change: whatever depends on it goes on, and readers are not kept waiting. One that
    /// is missing or has other columns is replaced.
    async fn exchange(&self, database: &Database, schema: &str) -> Result<String, SinkFault> {
        let misshapen = misshapen(database, schema).await?;
        let mut statements = String::from(
            "SET LOCAL enable_seqscan = on; SET LOCAL enable_hashjoin = on; \
             SET LOCAL enable_mergejoin = on; ",
        );
        statements
            .push_str(&format!("LOCK TABLE {}.position IN EXCLUSIVE MODE;\n", quoted(schema)));
        for table in TABLES {
            if misshapen.iter().any(|other| other.name == table.name) {
                statements.push_str(&self.replacement(database, schema, table).await?);
            } else {
                statements.push_str(&table.exchange(schema, &self.staging).join(";\n"));
                statements.push_str(";\n");
            }
            statements.push_str(&table.create_indexes(schema));
        }
        Ok(statements)
    }

    /// Returns the statements that put the new table into the place of one, with its rights.
    async fn replacement(
        &self,
        database: &Database,
        schema: &str,
        table: &Table,
    ) -> Result<String, SinkFault> {
        let grants = grants_of(database, schema, table).await?;
        let (old, new, name) = (quoted(schema), quoted(&self.staging), table.name);
        Ok(format!(
            "DROP TABLE IF EXISTS {old}.{name} RESTRICT;\nALTER TABLE {new}.{name} SET SCHEMA \
             {old};\n{grants}"
        ))
    }
}

fn behind() -> SinkFault {
    SinkFault::Passing("records come faster than a rebuild can follow: it begins again".into())
}
