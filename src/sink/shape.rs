//! The form of the tables in the database, compared with the one that the sink gives them, and the
//! statements that mend it. A table is altered in place: its grants, its rules of access, and what
//! depends on it stay.

use super::database::{Database, SinkFault};
use super::tables::{Column, Key, POSITION, TABLES, Table};

/// A table that is missing, or has other columns or another key than the sink gives it. Columns
/// that were added do not count.
pub(super) struct Altered {
    pub(super) table: &'static Table,
    pub(super) is_missing: bool,
    /// The columns that it lacks.
    lacking: Vec<&'static Column>,
    /// The columns of another type.
    retyped: Vec<Retyped>,
    lacks_key: bool,
    /// True if it has a primary key, which may be another.
    has_primary: bool,
}

struct Retyped {
    column: &'static Column,
    /// Its number in the table.
    number: i32,
    /// The type that it has.
    kind: String,
}

/// A column in the database, or a table without any.
struct FoundColumn {
    table: String,
    name: Option<String>,
    kind: Option<String>,
    number: Option<i32>,
}

struct FoundKey {
    table: String,
    is_primary: bool,
    /// True if a row can be found by it: it is unique, valid, immediate, and for all rows.
    is_usable: bool,
    expressions: Vec<String>,
}

/// Returns the tables of a schema that have another form than the sink gives them.
pub(super) async fn altered(database: &Database, schema: &str) -> Result<Vec<Altered>, SinkFault> {
    let (columns, keys) = (columns(database, schema).await?, keys(database, schema).await?);
    let tables = TABLES.iter().copied().chain([&POSITION]);
    Ok(tables.filter_map(|table| compare(table, &columns, &keys)).collect())
}

async fn columns(database: &Database, schema: &str) -> Result<Vec<FoundColumn>, SinkFault> {
    let question = "SELECT c.relname::text, a.attname::text, \
        pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnum::integer \
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        LEFT JOIN pg_catalog.pg_attribute a \
        ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
        WHERE n.nspname = $1 AND c.relkind = 'r'";
    let rows = database.query(question, &[&schema]).await?;
    let column = |row: &tokio_postgres::Row| {
        Ok(FoundColumn {
            table: row.try_get(0)?,
            name: row.try_get(1)?,
            kind: row.try_get(2)?,
            number: row.try_get(3)?,
        })
    };
    rows.iter().map(column).collect()
}

async fn keys(database: &Database, schema: &str) -> Result<Vec<FoundKey>, SinkFault> {
    let question = "SELECT t.relname::text, x.indisprimary, \
        x.indisunique AND x.indisvalid AND x.indimmediate AND x.indpred IS NULL, \
        ARRAY(SELECT pg_catalog.pg_get_indexdef(x.indexrelid, k, true) \
        FROM pg_catalog.generate_series(1, x.indnkeyatts::integer) AS k) \
        FROM pg_catalog.pg_index x JOIN pg_catalog.pg_class t ON t.oid = x.indrelid \
        JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace WHERE n.nspname = $1";
    let rows = database.query(question, &[&schema]).await?;
    let key = |row: &tokio_postgres::Row| {
        Ok(FoundKey {
            table: row.try_get(0)?,
            is_primary: row.try_get(1)?,
            is_usable: row.try_get(2)?,
            expressions: row.try_get(3)?,
        })
    };
    rows.iter().map(key).collect()
}

/// Returns the differences of one table; `None` if there are none.
fn compare(table: &'static Table, columns: &[FoundColumn], keys: &[FoundKey]) -> Option<Altered> {
    let own: Vec<&FoundColumn> = columns.iter().filter(|found| found.table == table.name).collect();
    let (mut lacking, mut retyped) = (Vec::new(), Vec::new());
    for column in table.columns {
        match own.iter().find(|found| found.name.as_deref() == Some(column.name)) {
            None => lacking.push(column),
            Some(FoundColumn { kind: Some(kind), number: Some(number), .. })
                if kind != sql_name(column.kind) =>
            {
                retyped.push(Retyped { column, number: *number, kind: kind.clone() });
            }
            Some(_) => {}
        }
    }
    let mut own_keys = keys.iter().filter(|found| found.table == table.name);
    let wanted = plain(table.key.expressions());
    let lacks_key = !own_keys.clone().any(|found| {
        found.is_usable && plain(found.expressions.iter().map(String::as_str)) == wanted
    });
    let has_primary = own_keys.any(|found| found.is_primary);
    let is_missing = own.is_empty();
    let is_altered = is_missing || lacks_key || !lacking.is_empty() || !retyped.is_empty();
    is_altered.then_some(Altered { table, is_missing, lacking, retyped, lacks_key, has_primary })
}

/// Returns the expressions of an index without quotes and outer parentheses, in one order.
fn plain<'a>(expressions: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let outer = ['(', ')', '"'];
    let mut plain: Vec<&str> =
        expressions.into_iter().map(|expression| expression.trim_matches(outer)).collect();
    plain.sort_unstable();
    plain
}

/// Returns the name by which the catalogue calls a type.
fn sql_name(kind: &str) -> &str {
    if kind == "timestamptz" { "timestamp with time zone" } else { kind }
}

impl Altered {
    /// Returns the statements that make it take rows. They come before rows are exchanged.
    pub(super) fn prepare(&self, schema: &str) -> String {
        if self.is_missing {
            return self.table.create(schema);
        }
        let place = self.table.place(schema);
        let add = |column: &&Column| {
            format!("ALTER TABLE {place} ADD COLUMN {} {};\n", column.name, column.kind)
        };
        let retype = |retyped: &Retyped| retype(&place, retyped.column);
        let mut statements: String =
            self.lacking.iter().map(add).chain(self.retyped.iter().map(retype)).collect();
        if self.lacks_key && self.table.key != Key::OneRow {
            let same = self.table.key.same("a", "b");
            statements.push_str(&format!(
                "DELETE FROM {place} AS a USING {place} AS b WHERE {same} AND a.ctid > b.ctid;\n"
            ));
        }
        statements
    }

    /// Returns the statements that come once the rows are as they must be.
    pub(super) fn complete(&self, schema: &str) -> String {
        let place = self.table.place(schema);
        let retyped = self.retyped.iter().map(|retyped| retyped.column);
        let changed = self.lacking.iter().copied().chain(retyped);
        let mut statements = String::new();
        for column in changed.filter(|column| column.is_needed && !self.is_missing) {
            let name = column.name;
            statements
                .push_str(&format!("ALTER TABLE {place} ALTER COLUMN {name} SET NOT NULL;\n"));
        }
        if self.lacks_key {
            statements.push_str(&self.table.create_key(schema, self.has_primary));
        }
        statements
    }
}

/// Returns the statements that give a column its type. Texts are kept, because rows are found by
/// them; other values come with the rows.
fn retype(place: &str, Column { name, kind, .. }: &Column) -> String {
    let column = format!("ALTER TABLE {place} ALTER COLUMN {name}");
    if *kind == "text" {
        return format!("{column} DROP DEFAULT;\n{column} TYPE text USING {name}::text;\n");
    }
    format!(
        "{column} DROP DEFAULT;\n{column} DROP NOT NULL;\n\
         {column} TYPE {kind} USING NULL::{kind};\n"
    )
}

/// Refuses columns of another type on which views or the like depend: PostgreSQL cannot change
/// their type, and the sink drops nothing that it has not made.
pub(super) async fn refuse_dependents(
    database: &Database,
    schema: &str,
    altered: &[Altered],
) -> Result<(), SinkFault> {
    let question = "SELECT DISTINCT CASE WHEN v.oid IS NULL \
        THEN pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) \
        ELSE pg_catalog.format('view %I.%I', vn.nspname, v.relname) END \
        FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = d.refobjid \
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
        LEFT JOIN pg_catalog.pg_rewrite r \
        ON r.oid = d.objid AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
        LEFT JOIN pg_catalog.pg_class v ON v.oid = r.ev_class \
        LEFT JOIN pg_catalog.pg_namespace vn ON vn.oid = v.relnamespace \
        WHERE d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
        AND n.nspname = $1 AND c.relname = $2 AND d.refobjsubid = $3 AND d.deptype = 'n' \
        AND d.classid IN ('pg_catalog.pg_rewrite'::pg_catalog.regclass, \
        'pg_catalog.pg_policy'::pg_catalog.regclass, 'pg_catalog.pg_proc'::pg_catalog.regclass, \
        'pg_catalog.pg_trigger'::pg_catalog.regclass) ORDER BY 1";
    for Altered { table, retyped, .. } in altered {
        for Retyped { column, number, kind } in retyped {
            let rows = database.query(question, &[&schema, &table.name, number]).await?;
            let names =
                rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
            if !names.is_empty() {
                return Err(SinkFault::Refusing(format!(
                    "the column `{}` of `{schema}.{}` has the type {kind}, must have {}, and \
                     cannot get it while this depends on it: {}; drop that, run `rollcall sink \
                     rebuild`, and make it again",
                    column.name,
                    table.name,
                    column.kind,
                    names.join(", ")
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::tables::{ACCESS_PERIODS, MEMBERSHIPS};

    fn found(table: &Table, without: &str, retyped: &str) -> Vec<FoundColumn> {
        let there = table.columns.iter().filter(|column| column.name != without);
        let column = |(number, column): (i32, &Column)| FoundColumn {
            table: table.name.to_owned(),
            name: Some(column.name.to_owned()),
            kind: Some(
                if column.name == retyped { "character varying" } else { sql_name(column.kind) }
                    .to_owned(),
            ),
            number: Some(number),
        };
        (1..).zip(there).map(column).collect()
    }

    fn key(table: &Table, is_primary: bool, expressions: &[&str]) -> FoundKey {
        let expressions = expressions.iter().map(|&expression| expression.to_owned()).collect();
        FoundKey { table: table.name.to_owned(), is_primary, is_usable: true, expressions }
    }

    /// Returns the statements before and after the rows, on one line each.
    fn mended(
        table: &'static Table,
        columns: &[FoundColumn],
        keys: &[FoundKey],
    ) -> Option<[String; 2]> {
        let altered = compare(table, columns, keys)?;
        Some([altered.prepare("s"), altered.complete("s")].map(|text| text.replace('\n', " ")))
    }

    #[test]
    fn a_table_of_the_sinks_form_is_left_alone() {
        let own = [key(&ACCESS_PERIODS, false, &["user_id", "lower(period)"])];
        assert_eq!(mended(&ACCESS_PERIODS, &found(&ACCESS_PERIODS, "", ""), &own), None);
        let own = [key(&POSITION, false, &["(true)"])];
        assert_eq!(mended(&POSITION, &found(&POSITION, "", ""), &own), None);
        // The order of the columns of a key does not count.
        let own = [key(&MEMBERSHIPS, true, &["user_id", "group_id"])];
        assert_eq!(mended(&MEMBERSHIPS, &found(&MEMBERSHIPS, "", ""), &own), None);
    }

    #[test]
    fn columns_and_keys_are_added_in_place() {
        let place = "\"s\".access_periods";
        let own = [key(&ACCESS_PERIODS, false, &["user_id", "lower(period)"])];
        let columns = found(&ACCESS_PERIODS, "end_reason", "");
        let [before, after] = mended(&ACCESS_PERIODS, &columns, &own).unwrap();
        assert_eq!(before, format!("ALTER TABLE {place} ADD COLUMN end_reason text; "));
        assert_eq!(after, "");
        let columns = found(&ACCESS_PERIODS, "", "start_seq");
        let [before, after] = mended(&ACCESS_PERIODS, &columns, &own).unwrap();
        let column = format!("ALTER TABLE {place} ALTER COLUMN start_seq");
        let expected = format!(
            "{column} DROP DEFAULT; {column} DROP NOT NULL; {column} TYPE bigint USING \
             NULL::bigint; "
        );
        assert_eq!((before, after), (expected, format!("{column} SET NOT NULL; ")));
        let other = [key(&MEMBERSHIPS, true, &["group_id"])];
        let columns = found(&MEMBERSHIPS, "", "");
        for (keys, made) in [
            (&[][..], "ALTER TABLE \"s\".directory_group_memberships ADD PRIMARY KEY"),
            (&other[..], "CREATE UNIQUE INDEX ON \"s\".directory_group_memberships"),
        ] {
            let [before, after] = mended(&MEMBERSHIPS, &columns, keys).unwrap();
            assert!(before.starts_with("DELETE FROM ") && before.contains("a.ctid > b.ctid"));
            assert_eq!(after, format!("{made} (group_id, user_id); "));
        }
    }

    #[test]
    fn a_table_that_is_missing_is_made_with_its_key() {
        let [before, after] = mended(&MEMBERSHIPS, &[], &[]).unwrap();
        assert!(before.starts_with("CREATE TABLE \"s\".directory_group_memberships ("));
        let made = "ALTER TABLE \"s\".directory_group_memberships ADD PRIMARY KEY";
        assert_eq!(after, format!("{made} (group_id, user_id); "));
    }
}
