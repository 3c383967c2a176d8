//! The tables, and the statements that change their rows. Every name in a statement has its schema.

/// A column and its type.
pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    /// True if it is never NULL.
    pub(super) is_needed: bool,
}

impl Column {
    const fn new(name: &'static str, kind: &'static str) -> Column {
        Column { name, kind, is_needed: false }
    }

    const fn needed(self) -> Column {
        Column { is_needed: true, ..self }
    }
}

/// The key by which the rows of a table are found.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// These columns.
    Columns(&'static [&'static str]),
    /// These columns, and the beginning of the period.
    AndBeginning(&'static [&'static str]),
    /// Nothing: the table has one row.
    OneRow,
}

/// A table.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [Column],
    pub(super) key: Key,
    /// Further indexes: the end of a name, and the method with the columns.
    pub(super) indexes: &'static [(&'static str, &'static str)],
}

const fn text(name: &'static str) -> Column {
    Column::new(name, "text")
}

const fn time(name: &'static str) -> Column {
    Column::new(name, "timestamptz")
}

const fn json(name: &'static str) -> Column {
    Column::new(name, "jsonb")
}

const fn seq(name: &'static str) -> Column {
    Column::new(name, "bigint")
}

const PERIOD: Column = Column::new("period", "tstzrange").needed();

// Texts of any length are in hash indexes: a B-tree refuses long ones.
pub(super) const DIRECTORIES: Table = Table {
    name: "directories",
    columns: &[
        text("id").needed(),
        text("organization_id"),
        text("name"),
        text("state"),
        text("type"),
        text("external_key"),
        time("created_at"),
        time("updated_at"),
    ],
    key: Key::Columns(&["id"]),
    indexes: &[("organization", "USING hash (organization_id)")],
};

pub(super) const USERS: Table = Table {
    name: "directory_users",
    columns: &[
        text("id").needed(),
        text("directory_id"),
        text("organization_id"),
        text("idp_id"),
        text("email"),
        text("first_name"),
        text("last_name"),
        text("username"),
        text("job_title"),
        text("state"),
        json("custom_attributes"),
        json("raw_attributes"),
        time("created_at"),
        time("updated_at"),
    ],
    key: Key::Columns(&["id"]),
    indexes: &[
        ("directory", "(directory_id)"),
        ("organization", "USING hash (organization_id)"),
        ("email", "USING hash (email)"),
        ("idp", "USING hash (idp_id)"),
    ],
};

pub(super) const GROUPS: Table = Table {
    name: "directory_groups",
    columns: &[
        text("id").needed(),
        text("directory_id"),
        text("organization_id"),
        text("idp_id"),
        text("name"),
        json("raw_attributes"),
        time("created_at"),
        time("updated_at"),
    ],
    key: Key::Columns(&["id"]),
    indexes: &[
        ("directory", "(directory_id)"),
        ("organization", "USING hash (organization_id)"),
        ("name", "USING hash (name)"),
    ],
};

pub(super) const MEMBERSHIPS: Table = Table {
    name: "directory_group_memberships",
    columns: &[text("group_id").needed(), text("user_id").needed()],
    key: Key::Columns(&["group_id", "user_id"]),
    indexes: &[("user", "(user_id)")],
};

pub(super) const ASSIGNMENTS: Table = Table {
    name: "role_assignments",
    columns: &[
        text("user_id").needed(),
        text("role").needed(),
        text("directory_id"),
        text("organization_id"),
        time("since").needed(),
    ],
    key: Key::Columns(&["user_id", "role"]),
    indexes: &[("role", "(role)"), ("directory", "(directory_id)")],
};

pub(super) const ACCESS_PERIODS: Table = Table {
    name: "access_periods",
    columns: &[
        text("user_id").needed(),
        PERIOD,
        seq("start_seq").needed(),
        seq("end_seq"),
        text("end_reason"),
    ],
    key: Key::AndBeginning(&["user_id"]),
    indexes: &[("period", "USING gist (period)")],
};

pub(super) const MEMBERSHIP_PERIODS: Table = Table {
    name: "membership_periods",
    columns: &[
        text("group_id").needed(),
        text("user_id").needed(),
        PERIOD,
        seq("start_seq").needed(),
        seq("end_seq"),
    ],
    key: Key::AndBeginning(&["group_id", "user_id"]),
    indexes: &[("user", "(user_id)"), ("period", "USING gist (period)")],
};

pub(super) const ROLE_PERIODS: Table = Table {
    name: "role_periods",
    columns: &[
        text("user_id").needed(),
        text("role").needed(),
        PERIOD,
        seq("start_seq").needed(),
        seq("end_seq"),
    ],
    key: Key::AndBeginning(&["user_id", "role"]),
    indexes: &[("role", "(role)"), ("period", "USING gist (period)")],
};

/// The record at which the tables are. Its comment ends with their version.
pub(super) const POSITION: Table = Table {
    name: "position",
    columns: &[
        Column::new("log_id", "uuid").needed(),
        seq("seq").needed(),
        Column::new("digest", "bytea").needed(),
        Column::new("basis", "bytea"),
    ],
    key: Key::OneRow,
    indexes: &[],
};

/// Every table but `position`.
pub(super) const TABLES: [&Table; 8] = [
    &DIRECTORIES,
    &USERS,
    &GROUPS,
    &MEMBERSHIPS,
    &ASSIGNMENTS,
    &ACCESS_PERIODS,
    &MEMBERSHIP_PERIODS,
    &ROLE_PERIODS,
];

/// The comment on the schema and on each table but `position`. What has another one is not the
/// sink's, and is never dropped.
pub(super) const MARK: &str = "Made and kept by the PostgreSQL sink of Rollcall.";

/// The version of the tables, which the comment on `position` ends with.
pub(super) const VERSION: u32 = 2;

/// Quotes a name.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns the comment on `position`.
pub(super) fn position_mark() -> String {
    format!("{MARK} Version {VERSION}")
}

/// Returns the comment on a schema in which the tables of another one are made again.
pub(super) fn staging_mark(schema: &str) -> String {
    format!("{MARK} For a rebuild of {schema}.")
}

/// Returns the version that a comment on `position` says; `None` if it is another's.
pub(super) fn version_in(comment: &str) -> Option<u32> {
    comment.strip_prefix(MARK)?.strip_prefix(" Version ")?.parse().ok()
}

impl Key {
    fn columns(self) -> &'static [&'static str] {
        match self {
            Key::Columns(columns) | Key::AndBeginning(columns) => columns,
            Key::OneRow => &[],
        }
    }

    /// Returns the expressions of a unique index.
    pub(super) fn expressions(self) -> Vec<&'static str> {
        let mut expressions = self.columns().to_vec();
        match self {
            Key::Columns(_) => {}
            Key::AndBeginning(_) => expressions.push("lower(period)"),
            Key::OneRow => expressions.push("(true)"),
        }
        expressions
    }

    /// Returns the number of values that name a row.
    pub(super) fn width(self) -> usize {
        match self {
            Key::Columns(columns) => columns.len(),
            Key::AndBeginning(columns) => columns.len() + 1,
            Key::OneRow => 0,
        }
    }

    /// Returns the condition that rows of `a` and `b`, which are tables, have the same key.
    pub(super) fn same(self, a: &str, b: &str) -> String {
        let mut same: Vec<String> =
            self.columns().iter().map(|name| format!("{a}.{name} = {b}.{name}")).collect();
        if let Key::AndBeginning(_) = self {
            same.push(format!("lower({a}.period) = lower({b}.period)"));
        }
        same.join(" AND ")
    }
}

impl Table {
    /// Returns the statements that make the table. Rows come in faster before it has a key.
    pub(super) fn create(&self, schema: &str) -> String {
        let (place, mark) = (self.place(schema), self.mark());
        let column = |Column { name, kind, is_needed }: &Column| {
            format!("  {name} {kind}{}", if *is_needed { " NOT NULL" } else { "" })
        };
        let columns: Vec<String> = self.columns.iter().map(column).collect();
        format!(
            "CREATE TABLE {place} (\n{}\n);\nCOMMENT ON TABLE {place} IS '{mark}';\n",
            columns.join(",\n")
        )
    }

    /// Returns the statement that makes the key: a primary key where it can be one, unless the
    /// table has another.
    pub(super) fn create_key(&self, schema: &str, has_primary: bool) -> String {
        let (place, keys) = (self.place(schema), self.key.expressions().join(", "));
        match self.key {
            Key::Columns(_) if !has_primary => {
                format!("ALTER TABLE {place} ADD PRIMARY KEY ({keys});\n")
            }
            _ => format!("CREATE UNIQUE INDEX ON {place} ({keys});\n"),
        }
    }

    /// Returns its name with the schema.
    pub(super) fn place(&self, schema: &str) -> String {
        format!("{}.{}", quoted(schema), self.name)
    }

    /// Returns the comment that says that the sink has made it.
    fn mark(&self) -> String {
        if self.key == Key::OneRow { position_mark() } else { MARK.to_owned() }
    }

    /// Returns the statements that make the other indexes.
    pub(super) fn create_indexes(&self, schema: &str) -> String {
        let (place, name) = (self.place(schema), self.name);
        let index = |(end, on): &(&str, &str)| {
            format!("CREATE INDEX IF NOT EXISTS {name}_{end} ON {place} {on};\n")
        };
        self.indexes.iter().map(index).collect()
    }

    fn names(&self) -> String {
        self.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", ")
    }

    /// Returns the statement that takes rows as text.
    pub(super) fn copy(&self, schema: &str) -> String {
        format!("COPY {} ({}) FROM STDIN", self.place(schema), self.names())
    }

    /// Returns the columns that are not in the key. A period is one of them, because the key has
    /// only its beginning.
    fn others(&self) -> impl Iterator<Item = &'static str> {
        let keys = self.key.columns();
        let names = self.columns.iter().map(|column| column.name);
        names.filter(move |name| !keys.contains(name))
    }

    /// Returns the statement that sets rows: a list of texts for each column.
    pub(super) fn upsert(&self, schema: &str) -> String {
        let lists = (1..=self.columns.len()).map(|at| format!("${at}::text[]"));
        let cast = |column: &Column| format!("v.{}::{}", column.name, column.kind);
        let casts: Vec<String> = self.columns.iter().map(cast).collect();
        let set: Vec<String> =
            self.others().map(|name| format!("{name} = EXCLUDED.{name}")).collect();
        let conflict = match set.is_empty() {
            true => "DO NOTHING".to_owned(),
            false => format!("DO UPDATE SET {}", set.join(", ")),
        };
        format!(
            "INSERT INTO {} ({names}) SELECT {} FROM unnest({}) AS v ({names}) \
             ON CONFLICT ({}) {conflict}",
            self.place(schema),
            casts.join(", "),
            lists.collect::<Vec<_>>().join(", "),
            self.key.expressions().join(", "),
            names = self.names(),
        )
    }

    /// Returns the statement that deletes rows: a list of texts for each part of their keys.
    pub(super) fn delete(&self, schema: &str) -> String {
        let lists = (1..=self.key.width()).map(|at| format!("${at}::text[]"));
        let names = (1..=self.key.width()).map(|at| format!("k{at}"));
        let mut same: Vec<String> =
            (1..).zip(self.key.columns()).map(|(at, name)| format!("t.{name} = v.k{at}")).collect();
        if let Key::AndBeginning(_) = self.key {
            same.push(format!("lower(t.period) = v.k{}::timestamptz", self.key.width()));
        }
        format!(
            "DELETE FROM {} AS t USING unnest({}) AS v ({}) WHERE {}",
            self.place(schema),
            lists.collect::<Vec<_>>().join(", "),
            names.collect::<Vec<_>>().join(", "),
            same.join(" AND ")
        )
    }

    /// Returns the statements that make the rows of a table those of the same table in another
    /// schema. A row that is the same is not touched.
    pub(super) fn exchange(&self, schema: &str, from: &str) -> [String; 3] {
        let (table, other) = (self.place(schema), self.place(from));
        let (same, names) = (self.key.same("t", "n"), self.names());
        let others: Vec<&str> = self.others().collect();
        let listed = |alias: &str| -> String {
            others.iter().map(|name| format!("{alias}.{name}")).collect::<Vec<_>>().join(", ")
        };
        let set: Vec<String> = others.iter().map(|name| format!("{name} = n.{name}")).collect();
        let update = match others.is_empty() {
            true => "SELECT 1".to_owned(),
            false => format!(
                "UPDATE {table} AS t SET {} FROM {other} AS n WHERE {same} AND \
                 ROW({}) IS DISTINCT FROM ROW({})",
                set.join(", "),
                listed("t"),
                listed("n"),
            ),
        };
        [
            format!(
                "DELETE FROM {table} AS t WHERE NOT EXISTS (SELECT FROM {other} AS n WHERE {same})"
            ),
            update,
            format!(
                "INSERT INTO {table} ({names}) SELECT {names} FROM {other} AS n WHERE NOT EXISTS \
                 (SELECT FROM {table} AS t WHERE {same})"
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_set_and_deleted_by_their_keys() {
        assert_eq!(
            MEMBERSHIPS.upsert("s"),
            "INSERT INTO \"s\".directory_group_memberships (group_id, user_id) \
             SELECT v.group_id::text, v.user_id::text FROM unnest($1::text[], $2::text[]) \
             AS v (group_id, user_id) ON CONFLICT (group_id, user_id) DO NOTHING"
        );
        assert_eq!(
            ACCESS_PERIODS.delete("s"),
            "DELETE FROM \"s\".access_periods AS t USING unnest($1::text[], $2::text[]) \
             AS v (k1, k2) WHERE t.user_id = v.k1 AND lower(t.period) = v.k2::timestamptz"
        );
    }

    #[test]
    fn only_a_comment_of_the_sink_has_a_version() {
        assert_eq!(version_in(&position_mark()), Some(VERSION));
        for other in ["", "position", MARK, "Made by another. Version 1"] {
            assert_eq!(version_in(other), None, "{other}");
        }
    }
}
