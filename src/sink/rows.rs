//! Rows as the database takes them: the fields of the answers over HTTP, as texts.

use std::borrow::Cow;

use rollcall_projections::{
    AccessPeriodRow, AssignmentRow, DirectoryRow, EntityRow, MembershipPeriodRow, MembershipRow,
    Millis, PeriodRow, RolePeriodRow, TableChanges,
};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::tables::{
    ACCESS_PERIODS, ASSIGNMENTS, DIRECTORIES, GROUPS, MEMBERSHIP_PERIODS, MEMBERSHIPS,
    ROLE_PERIODS, Table, USERS,
};
use crate::documents::{Document, DocumentKey, Shape, open_entity, push_directory};
use crate::engine::Engine;
use crate::json::{fields, present, string};
use crate::log::ReadError;
use crate::time;

/// A value of a column, or of a part of a key.
pub(super) type Value = Option<String>;

/// The rows of one table that change.
pub(super) struct RowSet {
    pub(super) table: &'static Table,
    /// By part of the key: the rows to delete.
    pub(super) gone: Vec<Vec<Value>>,
    /// By column: the rows to set.
    pub(super) set: Vec<Vec<Value>>,
}

impl RowSet {
    fn new<const K: usize, const C: usize>(
        table: &'static Table,
        gone: impl IntoIterator<Item = [Value; K]>,
        set: impl IntoIterator<Item = [Value; C]>,
    ) -> RowSet {
        debug_assert!(table.key.width() == K && table.columns.len() == C, "{}", table.name);
        RowSet { table, gone: lists(gone), set: lists(set) }
    }

    /// Adds rows of the same table.
    pub(super) fn append(&mut self, other: RowSet) {
        append(&mut self.gone, other.gone);
        append(&mut self.set, other.set);
    }

    /// Returns about the bytes of its values.
    pub(super) fn bytes(&self) -> usize {
        let of_value = |value: &Value| value.as_ref().map_or(1, String::len);
        self.gone.iter().chain(&self.set).flatten().map(of_value).sum()
    }

    /// Returns the number of rows to set.
    pub(super) fn set_count(&self) -> usize {
        self.set.first().map_or(0, Vec::len)
    }

    /// Returns the number of rows to delete.
    pub(super) fn gone_count(&self) -> usize {
        self.gone.first().map_or(0, Vec::len)
    }

    /// Writes the rows to set in the text form of COPY.
    pub(super) fn push_copy(&self, out: &mut Vec<u8>) {
        for row in 0..self.set_count() {
            for (at, column) in self.set.iter().enumerate() {
                if at > 0 {
                    out.push(b'\t');
                }
                push_copied(out, column.get(row).and_then(Option::as_deref));
            }
            out.push(b'\n');
        }
    }
}

fn append(lists: &mut [Vec<Value>], others: Vec<Vec<Value>>) {
    for (list, mut other) in lists.iter_mut().zip(others) {
        list.append(&mut other);
    }
}

/// Turns rows into a list for each column.
fn lists<const N: usize>(rows: impl IntoIterator<Item = [Value; N]>) -> Vec<Vec<Value>> {
    let mut lists: Vec<Vec<Value>> = (0..N).map(|_| Vec::new()).collect();
    for row in rows {
        for (list, value) in lists.iter_mut().zip(row) {
            list.push(value);
        }
    }
    lists
}

/// Writes a value in the text form of COPY
/// (<https://www.postgresql.org/docs/15/sql-copy.html#id-1.9.3.55.9.2>).
fn push_copied(out: &mut Vec<u8>, value: Option<&str>) {
    let Some(text) = value else { return out.extend_from_slice(b"\\N") };
    for byte in text.bytes() {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => out.push(byte),
        }
    }
}

/// Writes out the rows that change. Blocks while it reads the log.
///
/// # Errors
/// If the log cannot be read.
pub(super) fn row_sets(engine: &Engine, changes: TableChanges) -> Result<Vec<RowSet>, ReadError> {
    let TableChanges { directories, groups, users, .. } = &changes;
    let described = directory_rows(engine, &directories.set)?;
    let directories = RowSet::new(&DIRECTORIES, directories.gone.iter().map(key_of), described);
    let described = entity_rows(engine, &groups.set, Shape::Group)?;
    let described = described.iter().map(|json| values_of(json, GROUPS_FIELDS));
    let groups = RowSet::new(&GROUPS, groups.gone.iter().map(id_of), described);
    let described = entity_rows(engine, &users.set, Shape::User)?;
    let described = described.iter().map(|json| values_of(json, USERS_FIELDS));
    let users = RowSet::new(&USERS, users.gone.iter().map(id_of), described);
    let mut sets = vec![directories, groups, users];
    sets.extend(plain_sets(changes));
    sets.retain(|set| set.set_count() + set.gone_count() > 0);
    Ok(sets)
}

/// Writes out the rows that need nothing from the log.
fn plain_sets(changes: TableChanges) -> [RowSet; 5] {
    let TableChanges { memberships, assignments, access_periods, .. } = changes;
    let TableChanges { membership_periods, role_periods, .. } = changes;
    let pair = |MembershipRow { group, user }| [key_text(group), key_text(user)];
    let assigned = |row: AssignmentRow| [key_text(row.user), key_text(row.role)];
    [
        RowSet::new(
            &MEMBERSHIPS,
            memberships.gone.into_iter().map(pair),
            memberships.set.into_iter().map(pair),
        ),
        RowSet::new(
            &ASSIGNMENTS,
            assignments.gone.into_iter().map(assigned),
            assignments.set.into_iter().map(assignment_values),
        ),
        RowSet::new(
            &ACCESS_PERIODS,
            access_periods.gone.into_iter().map(|row| [key_text(row.user), begins(row.period)]),
            access_periods.set.into_iter().map(access_values),
        ),
        RowSet::new(
            &MEMBERSHIP_PERIODS,
            membership_periods.gone.into_iter().map(|row| {
                let MembershipPeriodRow { group, user, period } = row;
                [key_text(group), key_text(user), begins(period)]
            }),
            membership_periods.set.into_iter().map(membership_values),
        ),
        RowSet::new(
            &ROLE_PERIODS,
            role_periods.gone.into_iter().map(|row| {
                let RolePeriodRow { user, role, period } = row;
                [key_text(user), key_text(role), begins(period)]
            }),
            role_periods.set.into_iter().map(role_values),
        ),
    ]
}

fn key_of(row: &DirectoryRow) -> [Value; 1] {
    [key_text(row.id.clone())]
}

fn id_of(row: &EntityRow) -> [Value; 1] {
    [key_text(row.id.clone())]
}

fn assignment_values(row: AssignmentRow) -> [Value; 5] {
    let AssignmentRow { user, role, directory, organization, since } = row;
    let [user, role, directory] = [user, role, directory].map(key_text);
    [user, role, directory, text(organization), Some(moment(since))]
}

fn access_values(row: AccessPeriodRow) -> [Value; 5] {
    let AccessPeriodRow { user, period, reason } = row;
    let [range, start, end] = period_values(period);
    [key_text(user), range, start, end, reason.map(|reason| reason.word().to_owned())]
}

fn membership_values(row: MembershipPeriodRow) -> [Value; 5] {
    let MembershipPeriodRow { group, user, period } = row;
    let [range, start, end] = period_values(period);
    [key_text(group), key_text(user), range, start, end]
}

fn role_values(row: RolePeriodRow) -> [Value; 5] {
    let RolePeriodRow { user, role, period } = row;
    let [range, start, end] = period_values(period);
    [key_text(user), key_text(role), range, start, end]
}

fn period_values(period: PeriodRow) -> [Value; 3] {
    let PeriodRow { from, until, start, end } = period;
    let until = until.map(|until| format!("\"{}\"", moment(until))).unwrap_or_default();
    let range = format!("[\"{}\",{until})", moment(from));
    [Some(range), Some(start.to_string()), end.map(|end| end.to_string())]
}

fn begins(period: PeriodRow) -> Value {
    Some(moment(period.from))
}

/// Returns a text without the one character that PostgreSQL stores in none.
fn text(text: String) -> Value {
    Some(if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text })
}

/// The hexadecimal digits at the end of a key with the character U+0000.
const KEY_DIGITS: usize = 16;

/// Returns a text of a key, or of a column that names one: different texts stay different. One with
/// the character U+0000, or that looks like what becomes of those, ends with digits of its hash.
fn key_text(key: String) -> Value {
    let has_digits = |end: &[u8]| end.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let looks_like_one = key.contains('\u{fffd}')
        && key.as_bytes().last_chunk::<KEY_DIGITS>().is_some_and(|end| has_digits(end));
    if !looks_like_one && !key.contains('\0') {
        return Some(key);
    }
    let mut digits = hex::encode(Sha256::digest(&key));
    digits.truncate(KEY_DIGITS);
    Some(key.replace('\0', "\u{fffd}") + &digits)
}

/// Writes a moment for PostgreSQL, which calls the year 0000 the year 1 before Christ.
fn moment(moment: Millis) -> String {
    stamp(&time::format(moment))
}

fn stamp(text: &str) -> String {
    match text.strip_prefix("0000-") {
        Some(rest) => format!("0001-{rest} BC"),
        None => text.to_owned(),
    }
}

fn directory_rows(engine: &Engine, rows: &[DirectoryRow]) -> Result<Vec<[Value; 8]>, ReadError> {
    let key = |row: &DirectoryRow| {
        let version = row.version?;
        Some(DocumentKey { seq: version.seq, part: version.part, shape: Shape::Directory })
    };
    let keys: Vec<DocumentKey> = rows.iter().filter_map(key).collect();
    let mut documents = engine.load_documents(&keys)?.into_iter();
    let row = |row: &DirectoryRow| {
        let document = row.version.and_then(|_| documents.next());
        let mut out = Vec::with_capacity(512);
        push_directory(&mut out, document.as_ref(), row);
        values_of(&String::from_utf8_lossy(&out), DIRECTORIES_FIELDS)
    };
    Ok(rows.iter().map(row).collect())
}

/// Returns the objects of users or groups, without what is nested in them.
fn entity_rows(
    engine: &Engine,
    rows: &[EntityRow],
    shape: Shape,
) -> Result<Vec<String>, ReadError> {
    let key = |row: &EntityRow| DocumentKey { seq: row.seq, part: row.part, shape };
    let keys: Vec<DocumentKey> = rows.iter().map(key).collect();
    let documents: Vec<Document> = engine.load_documents(&keys)?;
    let write = |(row, document): (&EntityRow, &Document)| {
        let mut out = Vec::with_capacity(1024);
        open_entity(&mut out, document, row);
        out.push(b'}');
        String::from_utf8_lossy(&out).into_owned()
    };
    Ok(rows.iter().zip(&documents).map(write).collect())
}

const DIRECTORIES_FIELDS: [&str; 8] =
    ["id", "organization_id", "name", "state", "type", "external_key", "created_at", "updated_at"];

const USERS_FIELDS: [&str; 14] = [
    "id",
    "directory_id",
    "organization_id",
    "idp_id",
    "email",
    "first_name",
    "last_name",
    "username",
    "job_title",
    "state",
    "custom_attributes",
    "raw_attributes",
    "created_at",
    "updated_at",
];

const GROUPS_FIELDS: [&str; 8] = [
    "id",
    "directory_id",
    "organization_id",
    "idp_id",
    "name",
    "raw_attributes",
    "created_at",
    "updated_at",
];

/// Returns the values of the columns that are the fields `names` of an object.
fn values_of<const N: usize>(json: &str, names: [&str; N]) -> [Value; N] {
    let values = fields(json, names).unwrap_or([None; N]);
    let mut out = [const { None }; N];
    for ((slot, value), name) in out.iter_mut().zip(values).zip(names) {
        *slot = value_of(name, value);
    }
    out
}

fn value_of(name: &str, value: Option<&RawValue>) -> Value {
    match name {
        "custom_attributes" | "raw_attributes" => {
            value.map(|value| storable(value.get()).into_owned())
        }
        "created_at" | "updated_at" => time_of(value),
        "id" | "directory_id" => key_text_of(value),
        _ => text_of(value),
    }
}

fn text_of(value: Option<&RawValue>) -> Value {
    text(string(present(value))?.into_owned())
}

fn key_text_of(value: Option<&RawValue>) -> Value {
    key_text(string(present(value))?.into_owned())
}

fn time_of(value: Option<&RawValue>) -> Value {
    string(value).map(|text| stamp(&text))
}

/// The most digits, and the largest exponent, of a number that is stored as one: `jsonb` refuses
/// numbers that are far larger.
const NUMBER_MAX: usize = 4000;

/// Returns JSON that `jsonb` takes. It has no character U+0000, which becomes U+FFFD, and no number
/// with thousands of digits, which becomes a text. Characters are written out: the database of
/// encoding SQL_ASCII, which `initdb` makes without a locale, refuses their escapes.
fn storable(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    let is_exponent = |pair: &[u8]| matches!(pair, [b'0'..=b'9', b'e' | b'E']);
    let has_long = bytes.len() > NUMBER_MAX || bytes.windows(2).any(is_exponent);
    if !has_long && !json.contains("\\u") {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_length(rest),
            '-' | '0'..='9' => number_length(rest),
            other => other.len_utf8(),
        };
        let (token, behind) = rest.split_at_checked(length).unwrap_or((rest, ""));
        match first {
            '"' => push_written_out(&mut out, token),
            '-' | '0'..='9' if !is_storable(token) => {
                out.push('"');
                out.push_str(token);
                out.push('"');
            }
            _ => out.push_str(token),
        }
        rest = behind;
    }
    Cow::Owned(out)
}

/// Returns the length of the string that a text begins with, its quotes included.
fn string_length(text: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn number_length(text: &str) -> usize {
    let is_part = |byte: u8| byte.is_ascii_digit() || b"+-.eE".contains(&byte);
    text.bytes().position(|byte| !is_part(byte)).unwrap_or(text.len())
}

fn is_storable(number: &str) -> bool {
    let exponent = number.split(['e', 'E']).nth(1);
    let is_small = |exponent: &str| {
        exponent.parse::<i64>().is_ok_and(|exponent| exponent.unsigned_abs() <= NUMBER_MAX as u64)
    };
    number.len() <= NUMBER_MAX && exponent.is_none_or(is_small)
}

/// Writes a string without `\u` where it need not be, and U+FFFD in the place of each U+0000.
fn push_written_out(out: &mut String, string: &str) {
    let text = string.contains("\\u").then(|| serde_json::from_str::<String>(string).ok());
    let written = text.flatten().map(|text| serde_json::to_string(&text.replace('\0', "\u{fffd}")));
    match written {
        Some(Ok(written)) => out.push_str(&written),
        _ => out.push_str(string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_that_the_database_would_refuse_is_changed_and_no_other() {
        for same in
            [r#"{"a":"\\u0000","b":[1,-2.5e10,"e"]}"#, r#"{"text":"1e99999","é":"\"\\"}"#, "{}"]
        {
            assert_eq!(storable(same), same);
        }
        for (given, stored) in [
            (r#"{"a":"x\u0000y\\\u0000"}"#, "{\"a\":\"x\u{fffd}y\\\\\u{fffd}\"}"),
            (r#"["\u00e9\ud83d\ude00\u0001\n"]"#, "[\"é\u{1f600}\\u0001\\n\"]"),
            (r#"{"a":[1e99999,-1E-99999,1e4000]}"#, r#"{"a":["1e99999","-1E-99999",1e4000]}"#),
            (r#"{"\u0000":1e99999999999999999999}"#, "{\"\u{fffd}\":\"1e99999999999999999999\"}"),
        ] {
            assert_eq!(storable(given), stored);
        }
        let long = "1".repeat(NUMBER_MAX + 1);
        assert_eq!(storable(&long), format!("\"{long}\""));
    }

    #[test]
    fn keys_that_differ_stay_different() {
        let of_nul = key_text("a\0".into()).unwrap();
        let digits = of_nul.strip_prefix("a\u{fffd}").unwrap();
        assert!(digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let unchanged = ["a", "a\u{fffd}", "a0123456789abcdef", "a\u{fffd}0123456789abcde"];
        for key in unchanged {
            assert_eq!(key_text(key.into()).as_deref(), Some(key));
        }
        let keys = ["a\0", &of_nul, "\0a", "a\0\0", "a\0\u{fffd}", "a\u{fffd}\0"];
        let mut stored: Vec<Value> =
            keys.into_iter().chain(unchanged).map(|key| key_text(key.into())).collect();
        stored.sort();
        stored.dedup();
        assert_eq!(stored.len(), keys.len() + unchanged.len());
    }

    #[test]
    fn the_columns_are_the_fields() {
        let names = |table: &Table| -> Vec<&str> {
            table.columns.iter().map(|column| column.name).collect()
        };
        assert_eq!(names(&DIRECTORIES), DIRECTORIES_FIELDS);
        assert_eq!(names(&USERS), USERS_FIELDS);
        assert_eq!(names(&GROUPS), GROUPS_FIELDS);
    }

    #[test]
    fn a_period_that_lasts_has_no_upper_bound() {
        let lasts = PeriodRow { from: 0, until: None, start: 3, end: None };
        let [range, start, end] = period_values(lasts);
        assert_eq!(range.as_deref(), Some("[\"1970-01-01T00:00:00.000Z\",)"));
        assert_eq!((start.as_deref(), end), (Some("3"), None));
        assert_eq!(moment(-62_167_219_200_000), "0001-01-01T00:00:00.000Z BC");
        let ended = PeriodRow { from: 0, until: Some(1), start: 3, end: Some(9) };
        let [range, _, end] = period_values(ended);
        let expected = "[\"1970-01-01T00:00:00.000Z\",\"1970-01-01T00:00:00.001Z\")";
        assert_eq!((range.as_deref(), end.as_deref()), (Some(expected), Some("9")));
    }

    #[test]
    fn what_ends_a_value_or_a_row_in_a_copy_is_escaped() {
        let mut out = Vec::new();
        push_copied(&mut out, Some("a\\b\tc\nd\re"));
        push_copied(&mut out, None);
        assert_eq!(out, b"a\\\\b\\tc\\nd\\re\\N");
    }
}
