//! The schema: made at the first start, changed by versions, and never another's.

use uuid::Uuid;

use super::database::{Database, SinkFault};
use super::shape::{Altered, altered};
use super::tables::{
    MARK, POSITION, TABLES, VERSION, position_mark, quoted, staging_mark, version_in,
};
use crate::log::LogId;
use rollcall_projections::Seq;

/// The state of the tables, as the database says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) log_id: LogId,
    pub(super) seq: Seq,
    /// The tree hash over the records up to `seq`.
    pub(super) digest: Vec<u8>,
    /// What the rows depend on besides the records; `None` if it is not known, or the rows
    /// are those of a snapshot that is not compared with the log yet.
    pub(super) basis: Option<Vec<u8>>,
}

/// The tables as they were found.
pub(super) struct Found {
    /// `None` before the first fill, and if the table `position` was altered.
    pub(super) position: Option<Position>,
    /// The tables that are missing or have other columns or keys than the sink's.
    pub(super) altered: Vec<Altered>,
}

/// Steps from one version of the tables to the next: the first leads from version 1 to 2.
const MIGRATIONS: [fn(&str) -> String; (VERSION - 1) as usize] = [add_basis];

fn add_basis(schema: &str) -> String {
    format!("ALTER TABLE {}.position ADD COLUMN IF NOT EXISTS basis bytea;\n", quoted(schema))
}

/// Makes the schema and `position`, and brings tables of an older version up to date. The other
/// tables are made by the first fill.
///
/// # Errors
/// A lasting one, if something there is not the sink's, or is a newer version's.
pub(super) async fn prepare(database: &Database, schema: &str) -> Result<Found, SinkFault> {
    let made = "SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = $1";
    if database.query(made, &[&schema]).await?.is_empty() {
        database.run_together(&create_schema(schema, MARK)).await?;
    }
    let tables = comments(database, schema).await?;
    let position = tables.iter().find(|(name, _)| name == "position");
    for (name, comment) in &tables {
        let is_ours = match name.as_str() {
            "position" => version_in(comment).is_some(),
            _ => comment == MARK,
        };
        if !is_ours {
            return Err(SinkFault::Lasting(format!(
                "the schema `{schema}` has a table `{name}` that the sink has not made: name \
                 another schema with `postgres.schema`, or drop the table"
            )));
        }
    }
    match position.and_then(|(_, comment)| version_in(comment)) {
        None => {
            let create = POSITION.create(schema) + &POSITION.create_key(schema, false);
            database.run_together(&create).await?;
        }
        Some(version) if version > VERSION => {
            return Err(SinkFault::Lasting(format!(
                "the tables in the schema `{schema}` are of version {version}, which a newer \
                 Rollcall has made, and this one knows {VERSION}: upgrade, or name another schema"
            )));
        }
        Some(version) => migrate(database, schema, version).await?,
    }
    let altered = altered(database, schema).await?;
    let is_readable = altered.iter().all(|other| other.table.name != POSITION.name);
    let position = if is_readable { read_position(database, schema).await? } else { None };
    Ok(Found { position, altered })
}

/// Returns the statements that make a schema of the sink.
fn create_schema(schema: &str, mark: &str) -> String {
    let quoted = quoted(schema);
    format!("CREATE SCHEMA {quoted};\nCOMMENT ON SCHEMA {quoted} IS '{mark}';\n")
}

/// Returns the tables in a schema that have names of the sink's, with their comments.
async fn comments(database: &Database, schema: &str) -> Result<Vec<(String, String)>, SinkFault> {
    let names: Vec<&str> = TABLES.iter().chain([&&POSITION]).map(|table| table.name).collect();
    let question = "SELECT c.relname::text, \
        coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), '') \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = $1 AND c.relname = ANY ($2) ORDER BY 1";
    let rows = database.query(question, &[&schema, &names]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

async fn migrate(database: &Database, schema: &str, version: u32) -> Result<(), SinkFault> {
    let steps = MIGRATIONS.iter().skip(version.saturating_sub(1) as usize);
    let statements: String = steps.map(|step| step(schema)).collect();
    if statements.is_empty() {
        return Ok(());
    }
    let (schema, mark) = (quoted(schema), position_mark());
    let noted = format!("COMMENT ON TABLE {schema}.position IS '{mark}'");
    database.run_together(&(statements + &noted)).await
}

/// Reads the position. `None` before the first fill.
pub(super) async fn read_position(
    database: &Database,
    schema: &str,
) -> Result<Option<Position>, SinkFault> {
    let question =
        format!("SELECT log_id::text, seq, digest, basis FROM {}.position", quoted(schema));
    let rows = database.query(&question, &[]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let log_id: String = row.try_get(0)?;
    Ok(Some(Position {
        log_id: Uuid::parse_str(&log_id).map_or([0; 16], Uuid::into_bytes),
        seq: row.try_get::<_, i64>(1)?.unsigned_abs(),
        digest: row.try_get(2)?,
        basis: row.try_get(3)?,
    }))
}

/// Waits until no other server rebuilds the tables in a schema, so that none drops what another
/// one makes. Ends with the connection, or with [`unlock_rebuilds`].
pub(super) async fn lock_rebuilds(database: &Database, schema: &str) -> Result<(), SinkFault> {
    database.query(&rebuild_lock("pg_advisory_lock"), &[&schema]).await.map(drop)
}

/// Drops what is left of rebuilds that did not end, unless another server rebuilds now.
pub(super) async fn drop_leftovers(database: &Database, schema: &str) -> Result<(), SinkFault> {
    let rows = database.query(&rebuild_lock("pg_try_advisory_lock"), &[&schema]).await?;
    let locked: Option<String> = rows.first().map(|row| row.try_get(0)).transpose()?;
    if locked.as_deref() == Some("true") {
        drop_unfinished(database, schema).await?;
        unlock_rebuilds(database, schema).await?;
    }
    Ok(())
}

/// Lets other servers rebuild.
pub(super) async fn unlock_rebuilds(database: &Database, schema: &str) -> Result<(), SinkFault> {
    database.query(&rebuild_lock("pg_advisory_unlock"), &[&schema]).await.map(drop)
}

/// Returns the call of a function of locks, for the lock of rebuilds. Its first number is that of
/// the sink: the letters `Roll`.
fn rebuild_lock(function: &str) -> String {
    format!(
        "SELECT pg_catalog.{function}(1383033964, n.oid::integer)::text \
         FROM pg_catalog.pg_namespace n WHERE n.nspname = $1"
    )
}

/// Drops the schemas of rebuilds that did not end. Only what the sink made is dropped; a schema in
/// which something else is, or on which something else depends, stays.
pub(super) async fn drop_unfinished(database: &Database, schema: &str) -> Result<(), SinkFault> {
    let question = "SELECT n.nspname::text FROM pg_catalog.pg_namespace n \
        WHERE pg_catalog.obj_description(n.oid, 'pg_namespace') = $1 \
        AND pg_catalog.starts_with(n.nspname::text, $2) ORDER BY 1";
    let (mark, prefix) = (staging_mark(schema), format!("{schema}_rebuild"));
    for row in database.query(question, &[&mark, &prefix]).await? {
        let name: String = row.try_get(0)?;
        if let Err(fault) = drop_made(database, &name).await {
            let reason = fault.message();
            tracing::warn!(schema = name, reason, "a schema of a rebuild that ended stays");
        }
    }
    Ok(())
}

/// Drops a schema that the sink made, with the tables that it made there, and nothing else.
pub(super) async fn drop_made(database: &Database, schema: &str) -> Result<(), SinkFault> {
    let tables = comments(database, schema).await?;
    let own = tables.iter().filter(|(_, comment)| comment == MARK);
    let quoted = quoted(schema);
    let tables: String =
        own.map(|(name, _)| format!("DROP TABLE {quoted}.{name} RESTRICT;\n")).collect();
    database.run_together(&format!("{tables}DROP SCHEMA {quoted} RESTRICT;\n")).await
}

/// Makes a schema for a rebuild, under a name that is free, with empty tables without keys.
pub(super) async fn create_staging(database: &Database, schema: &str) -> Result<String, SinkFault> {
    let question = "SELECT n.nspname::text FROM pg_catalog.pg_namespace n";
    let rows = database.query(question, &[]).await?;
    let taken: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let first = format!("{schema}_rebuild");
    let others = (2..=1000).map(|number| format!("{first}_{number}"));
    let free = std::iter::once(first.clone()).chain(others).find(|name| !taken.contains(name));
    let Some(name) = free else {
        return Err(SinkFault::Lasting(format!("every name from `{first}` on is taken")));
    };
    let tables: String = TABLES.iter().map(|table| table.create(&name)).collect();
    database.run_together(&(create_schema(&name, &staging_mark(schema)) + &tables)).await?;
    Ok(name)
}
