//! The tables in PostgreSQL: what is in them, and how they come there.

mod altered;
mod equal_answers;
mod figures;
mod operating;
mod queries;
mod refused;

use std::path::Path;

use crate::kit::model::Ids;
use crate::kit::postgres::{Session, TestDatabase};
use crate::kit::server::{API_KEY, Server, bare_command, user};
use crate::kit::sink::{server, wait_for_head};

pub const AT: &str = "2026-01-01T00:00:00.000Z";

pub fn created(id: &str) -> String {
    user(id, "d", id, AT, &format!("event_{id}"), "dsync.user.created")
}

pub fn deleted(id: &str) -> String {
    let at = "2026-02-01T00:00:00.000Z";
    user(id, "d", id, at, &format!("event_deleted_{id}"), "dsync.user.deleted")
}

pub fn ids(users: impl IntoIterator<Item = String>) -> Ids {
    Ids { users: users.into_iter().collect(), directories: vec!["d".into()], ..Ids::default() }
}

/// Runs `rollcall sink`, and returns its exit code and what it said.
pub fn sink(server: &Server, arguments: &[&str]) -> (i32, String, String) {
    let mut command = bare_command(&["sink"]);
    command.args(arguments).args(["--url", &server.url]).env("ROLLCALL_API_KEY", API_KEY);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Starts a server whose tables hold three users.
pub fn with_three(folder: &Path, database: &TestDatabase) -> (Server, Session) {
    let server = server(folder, database);
    for id in ["u1", "u2", "u3"] {
        server.deliver(&created(id));
    }
    wait_for_head(&server);
    (server, database.session())
}

pub fn names(session: &Session) -> String {
    session.texts("SELECT id FROM rollcall.directory_users ORDER BY id", &[]).join(" ")
}
