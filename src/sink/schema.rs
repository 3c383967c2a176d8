//! The schema: made at the first start, changed by versions, and never another's.

use uuid::Uuid;

use super::database::{Database, SinkFault};
use super::tables::{
    Key, MARK, TABLES, Table, VERSION, create_position, position_mark, quoted, version_in,
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
    /// `None` before the first fill.
    pub(super) position: Option<Position>,
    /// The tables that are missing or have other columns or keys than the sink's.
    pub(super) misshapen: Vec<&'static Table>,
}

/// Steps from one version of the tables to the next: the first leads from version 1 to 2.
const MIGRATIONS: [fn(&str) -> String; (VERSION - 1) as usize] = [add_basis];

fn add_basis(schema: &str) -> String {
    format!("ALTER TABLE {}.position ADD COLUMN IF NOT EXISTS basis bytea;\n", quoted(schema))
}

/// Makes the schema and what is missing in it, and brings tables of an older version up to date.
///
/// # Errors
/// A lasting one, if something there is not the sink's, or is a newer version's.
pub(super) async fn prepare(database: &Database, schema: &str) -> Result<Found, SinkFault> {
    let made = "SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = $1";
    if database.query(made, &[&schema]).await?.is_empty() {
        database.run_together(&create_schema(schema)).await?;
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
        None => make_missing(database, schema, &tables).await?,
        Some(version) if version > VERSION => {
            return Err(SinkFault::Lasting(format!(
                "the tables in the schema `{schema}` are of version {version}, which a newer \
                 Rollcall has made, and this one knows {VERSION}: upgrade, or name another schema"
            )));
        }
        Some(version) => migrate(database, schema, version).await?,
    }
    Ok(Found {
        position: read_position(database, schema).await?,
        misshapen: misshapen(database, schema).await?,
    })
}

/// Returns the statements that make a schema of the sink.
fn create_schema(schema: &str) -> String {
    let quoted = quoted(schema);
    format!("CREATE SCHEMA {quoted};\nCOMMENT ON SCHEMA {quoted} IS '{MARK}';\n")
}

/// Returns the tables in a schema that have names of the sink's, with their comments.
async fn comments(database: &Database, schema: &str) -> Result<Vec<(String, String)>, SinkFault> {
    let names: Vec<&str> = TABLES.iter().map(|table| table.name).chain(["position"]).collect();
    let question = "SELECT c.relname::text, \
        coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), '') \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = $1 AND c.relname = ANY ($2) ORDER BY 1";
    let rows = database.query(question, &[&schema, &names]).await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Makes the tables that are missing, and `position` last: with it the tables are whole.
async fn make_missing(
    database: &Database,
    schema: &str,
    there: &[(String, String)],
) -> Result<(), SinkFault> {
    let is_missing = |table: &&&Table| there.iter().all(|(name, _)| name != table.name);
    let missing = TABLES.iter().filter(is_missing);
    let make = |table: &&Table| table.create(schema) + &table.create_indexes(schema);
    let statements: String = missing.map(make).collect();
    database.run_together(&(statements + &create_position(schema))).await
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
    let position = rows.first().map(|row| {
        let log_id: String = row.get(0);
        Position {
            log_id: Uuid::parse_str(&log_id).map_or([0; 16], Uuid::into_bytes),
            seq: row.get::<_, i64>(1).unsigned_abs(),
            digest: row.get(2),
            basis: row.get(3),
        }
    });
    Ok(position)
}

/// Returns the tables that are missing, or have other columns or another key than the sink made.
/// Columns that were added do not count.
pub(super) async fn misshapen(
    database: &Database,
    schema: &str,
) -> Result<Vec<&'static Table>, SinkFault> {
    let question = "SELECT c.relname::text, a.attname::text, \
        pg_catalog.format_type(a.atttypid, a.atttypmod) \
        FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        WHERE n.nspname = $1 AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped";
    let columns: Vec<[String; 3]> = database
        .query(question, &[&schema])
        .await?
        .iter()
        .map(|row| [row.get(0), row.get(1), row.get(2)])
        .collect();
    let question = "SELECT t.relname::text, i.relname::text \
        FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class i ON i.oid = x.indexrelid \
        JOIN pg_catalog.pg_class t ON t.oid = x.indrelid \
        JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace \
        WHERE n.nspname = $1 AND x.indisunique AND x.indisvalid AND x.indpred IS NULL";
    let unique: Vec<[String; 2]> = database
        .query(question, &[&schema])
        .await?
        .iter()
        .map(|row| [row.get(0), row.get(1)])
        .collect();
    let is_whole = |table: &&&'static Table| {
        let has_key = unique.iter().any(|[of, name]| of == table.name && *name == key_name(table));
        let mut wanted = table.columns.iter();
        has_key
            && wanted.all(|wanted| {
                columns.iter().any(|[of, name, kind]| {
                    of == table.name && name == wanted.name && kind == sql_name(wanted.kind)
                })
            })
    };
    Ok(TABLES.iter().filter(|table| !is_whole(table)).copied().collect())
}

/// Returns the name of the index of a table's key.
fn key_name(table: &Table) -> String {
    match table.key {
        Key::Columns(_) => format!("{}_pkey", table.name),
        Key::AndBeginning(_) => format!("{}_key", table.name),
    }
}

/// Returns the name by which the catalogue calls a type.
fn sql_name(kind: &str) -> &str {
    if kind == "timestamptz" { "timestamp with time zone" } else { kind }
}

/// Returns the statements that give the rights on a table again to the one in its place.
pub(super) async fn grants_of(
    database: &Database,
    schema: &str,
    table: &Table,
) -> Result<String, SinkFault> {
    let question = "SELECT pg_catalog.quote_ident(coalesce(r.rolname, '')), a.privilege_type, \
        a.is_grantable, NULL::text FROM pg_catalog.pg_class c \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a \
        LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee \
        WHERE n.nspname = $1 AND c.relname = $2 AND a.grantee <> c.relowner \
        UNION ALL SELECT pg_catalog.quote_ident(coalesce(r.rolname, '')), a.privilege_type, \
        a.is_grantable, pg_catalog.quote_ident(t.attname) FROM pg_catalog.pg_class c \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        JOIN pg_catalog.pg_attribute t ON t.attrelid = c.oid AND NOT t.attisdropped \
        CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) a \
        LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee \
        WHERE n.nspname = $1 AND c.relname = $2";
    let rows = database.query(question, &[&schema, &table.name]).await?;
    let known = |column: &str| table.columns.iter().any(|own| own.name == column.trim_matches('"'));
    let mut statements = String::new();
    for row in &rows {
        let (role, right): (String, String) = (row.get(0), row.get(1));
        let (passes_on, column): (bool, Option<String>) = (row.get(2), row.get(3));
        if column.as_deref().is_some_and(|column| !known(column)) {
            continue;
        }
        let column = column.map(|column| format!(" ({column})")).unwrap_or_default();
        let role = if role == "\"\"" { "PUBLIC" } else { &role };
        let option = if passes_on { " WITH GRANT OPTION" } else { "" };
        statements.push_str(&format!(
            "GRANT {right}{column} ON {}.{} TO {role}{option};\n",
            quoted(schema),
            table.name
        ));
    }
    Ok(statements)
}

/// Drops the schemas of rebuilds that did not end. Only what the sink made is dropped; a schema in
/// which something else is, or on which something else depends, stays.
pub(super) async fn drop_unfinished(database: &Database, schema: &str) -> Result<(), SinkFault> {
    let question = "SELECT n.nspname::text FROM pg_catalog.pg_namespace n \
        WHERE pg_catalog.obj_description(n.oid, 'pg_namespace') = $1 \
        AND pg_catalog.starts_with(n.nspname::text, $2) ORDER BY 1";
    let prefix = format!("{schema}_rebuild");
    for row in database.query(question, &[&MARK, &prefix]).await? {
        let name: String = row.get(0);
        let own = name.strip_prefix(&prefix).is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix('_').is_some_and(|n| n.parse::<u32>().is_ok())
        });
        if own && let Err(fault) = drop_made(database, &name).await {
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

/// Makes an empty schema for a rebuild, under a name that is free.
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
    database.run_together(&(create_schema(&name) + &tables)).await?;
    Ok(name)
}
