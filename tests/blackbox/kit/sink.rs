//! A server that keeps tables in PostgreSQL, and the tables that the answers over HTTP describe.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::kit::histories::percent_encoded;
use crate::kit::model::Ids;
use crate::kit::postgres::{Session, TestDatabase};
use crate::kit::server::{Server, binary};

/// The longest that the tables may take to reach the head: only a fault takes so long.
const REACHED_WITHIN: Duration = Duration::from_secs(60);

pub fn server_at(data: &Path, url: &str) -> Server {
    let mut command = Command::new(binary());
    command.env("ROLLCALL_POSTGRES_URL", url);
    Server::start_command(command, data, &[])
}

pub fn server(data: &Path, database: &TestDatabase) -> Server {
    server_at(data, &database.url())
}

/// Returns the state of the sink.
pub fn status(server: &Server) -> Value {
    let answer = server.get("/rollcall/v1/sink");
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

/// Waits until a condition holds for the state of the sink, and returns that.
pub fn wait_until(server: &Server, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let status = status(server);
        if holds(&status) {
            return status;
        }
        assert!(begun.elapsed() < REACHED_WITHIN, "{what}: {status}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the tables are at the head, and returns that record.
pub fn wait_for_head(server: &Server) -> u64 {
    let head = server.head();
    let reached = |status: &Value| status["position"].as_u64().is_some_and(|seq| seq >= head);
    wait_until(server, "the tables reach the head", reached)["position"].as_u64().unwrap()
}

/// The rows that the answers give for a table. `fields` are those of the answers with their types,
/// and `select` names the columns that are compared.
struct Expected {
    table: &'static str,
    fields: &'static str,
    select: &'static str,
    rows: Vec<Value>,
}

/// Returns a value as PostgreSQL can store it: without the character U+0000.
fn storable(value: &Value) -> Value {
    let text = |text: &String| text.replace('\0', "\u{fffd}");
    match value {
        Value::String(string) => text(string).into(),
        Value::Array(items) => items.iter().map(storable).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (text(key), storable(value))).collect()
        }
        other => other.clone(),
    }
}

/// Returns an id or a role as a key: with U+0000, or if it looks like such a key, it ends with the
/// first 16 digits of its SHA-256.
pub fn storable_key(key: &str) -> String {
    let looks_like_one = key.contains('\u{fffd}') && {
        let end: Vec<char> = key.chars().rev().take(16).collect();
        end.len() == 16 && end.iter().all(|digit| "0123456789abcdef".contains(*digit))
    };
    match looks_like_one || key.contains('\0') {
        true => {
            let digits = hex::encode(Sha256::digest(key));
            format!("{}{}", key.replace('\0', "\u{fffd}"), &digits[..16])
        }
        false => key.to_owned(),
    }
}

/// Returns a row as PostgreSQL can store it.
fn storable_row(row: &Value) -> Value {
    let mut stored = storable(row);
    for name in ["id", "directory_id", "user_id", "group_id", "role"] {
        if let Some(key) = row[name].as_str() {
            stored[name] = storable_key(key).into();
        }
    }
    stored
}

const PERIOD: &str = "tstzrange(\"from\", until)";

/// Asks for each object that `ids` name, and compares the answers with the tables, row by row.
pub fn compare(server: &Server, session: &Session, ids: &Ids, known_at: u64, what: &str) -> usize {
    let mut compared = 0;
    for Expected { table, fields, select, rows } in expected(server, ids, known_at) {
        compared += rows.len();
        let columns = select.replace("PERIOD", PERIOD).replace("REASON", "reason");
        let wanted =
            format!("SELECT {columns} FROM jsonb_to_recordset($1::text::jsonb) AS x ({fields})");
        let columns = select.replace("PERIOD", "period").replace("REASON", "end_reason");
        let stored = format!("SELECT {columns} FROM rollcall.{table}");
        let given = rows.iter().map(storable_row).collect::<Value>().to_string();
        for (first, second, says) in
            [(&wanted, &stored, "missing in"), (&stored, &wanted, "too much in")]
        {
            let question = format!(
                "SELECT to_jsonb(d)::text FROM (({first}) EXCEPT ALL ({second})) AS d \
                 WHERE $1::text IS NOT NULL"
            );
            let rows = session.texts(&question, &[&given]);
            let other = session.json(&format!("SELECT * FROM rollcall.{table} LIMIT 40"));
            assert!(
                rows.is_empty(),
                "{what}: at record {known_at} {says} {table}: {rows:#?}\nit has {other:?}"
            );
        }
    }
    compared
}

/// Returns the item at a path, if it is there.
fn item(server: &Server, path: &str, id: &str, known_at: u64) -> Option<Value> {
    let answer = server.get(&format!("{path}/{}?known_at={known_at}", percent_encoded(id)));
    (answer.status == 200).then(|| answer.json())
}

/// Returns every item of a list. Its path has a query.
fn list(server: &Server, path: &str) -> Vec<Value> {
    let (mut items, mut after) = (Vec::new(), String::new());
    loop {
        let url = format!("{path}{after}");
        let answer = server.get(&url);
        if answer.status == 404 {
            return items;
        }
        let page = answer.json();
        items.extend(page["data"].as_array().unwrap_or_else(|| panic!("{url}: {page}")).clone());
        match page["list_metadata"]["after"].as_str() {
            Some(cursor) => after = format!("&after={}", percent_encoded(cursor)),
            None => return items,
        }
    }
}

fn expected(server: &Server, ids: &Ids, known_at: u64) -> [Expected; 8] {
    let all = |path: &str, ids: &[String]| -> Vec<Value> {
        ids.iter().filter_map(|id| item(server, path, id, known_at)).collect()
    };
    let users = all("/directory_users", &ids.users);
    let mut memberships = Vec::new();
    for group in all("/directory_groups", &ids.groups) {
        let id = percent_encoded(id_of(&group));
        let query = format!("group={id}&limit=100&known_at={known_at}&order=asc");
        let members = list(server, &format!("/directory_users?{query}"));
        memberships.extend(
            members.iter().map(|user| json!({"group_id": group["id"], "user_id": user["id"]})),
        );
    }
    let periods = |what: &str| -> Vec<Value> {
        let of_user = |user: &String| {
            let path = format!("users/{}/{what}", percent_encoded(user));
            list_own(server, &path, known_at)
        };
        ids.users.iter().flat_map(of_user).map(with_seqs).collect()
    };
    let roles = list_own(server, "role_assignments", known_at);
    [
        Expected {
            table: "directories",
            fields: "id text, organization_id text, name text, state text, type text, \
                     external_key text, created_at timestamptz, updated_at timestamptz",
            select: "id, organization_id, name, state, type, external_key, created_at, updated_at",
            rows: all("/directories", &ids.directories),
        },
        Expected {
            table: "directory_users",
            fields: "id text, directory_id text, organization_id text, idp_id text, email text, \
                     first_name text, last_name text, username text, job_title text, state text, \
                     custom_attributes jsonb, raw_attributes jsonb, created_at timestamptz, \
                     updated_at timestamptz",
            select: "id, directory_id, organization_id, idp_id, email, first_name, last_name, \
                     username, job_title, state, custom_attributes, raw_attributes, created_at, \
                     updated_at",
            rows: users,
        },
        Expected {
            table: "directory_groups",
            fields: "id text, directory_id text, organization_id text, idp_id text, name text, \
                     raw_attributes jsonb, created_at timestamptz, updated_at timestamptz",
            select: "id, directory_id, organization_id, idp_id, name, raw_attributes, created_at, \
                     updated_at",
            rows: all("/directory_groups", &ids.groups),
        },
        Expected {
            table: "directory_group_memberships",
            fields: "group_id text, user_id text",
            select: "group_id, user_id",
            rows: memberships,
        },
        Expected {
            table: "role_assignments",
            fields: "user_id text, role text, directory_id text, organization_id text, \
                     since timestamptz",
            select: "user_id, role, directory_id, organization_id, since",
            rows: roles,
        },
        Expected {
            table: "access_periods",
            fields: "user_id text, \"from\" timestamptz, until timestamptz, start_seq bigint, \
                     end_seq bigint, reason text",
            select: "user_id, PERIOD, start_seq, end_seq, REASON",
            rows: periods("access"),
        },
        Expected {
            table: "membership_periods",
            fields: "group_id text, user_id text, \"from\" timestamptz, until timestamptz, \
                     start_seq bigint, end_seq bigint",
            select: "group_id, user_id, PERIOD, start_seq, end_seq",
            rows: periods("groups"),
        },
        Expected {
            table: "role_periods",
            fields: "user_id text, role text, \"from\" timestamptz, until timestamptz, \
                     start_seq bigint, end_seq bigint",
            select: "user_id, role, PERIOD, start_seq, end_seq",
            rows: periods("roles"),
        },
    ]
}

fn id_of(object: &Value) -> &str {
    object["id"].as_str().unwrap()
}

/// Returns every item of one of Rollcall's own lists.
fn list_own(server: &Server, path: &str, known_at: u64) -> Vec<Value> {
    list(server, &format!("/rollcall/v1/{path}?limit=1000&known_at={known_at}"))
}

fn with_seqs(mut period: Value) -> Value {
    period["start_seq"] = period["start"]["seq"].clone();
    period["end_seq"] = period["end"]["seq"].clone();
    period
}
