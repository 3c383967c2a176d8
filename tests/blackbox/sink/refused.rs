//! Databases that refuse, or do not answer: the sink goes on to try, and a rebuild ends or waits.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::{created, names, sink, with_three};
use crate::kit::postgres::{TestDatabase, database, database_alone};
use crate::kit::server::{API_KEY, Server, bare_command, binary};
use crate::kit::sink::{server_at, wait_for_head, wait_until};

/// Asks for a rebuild that the database refuses.
fn rebuild_refused(server: &Server, code: &str, advice: &str) {
    wait_until(server, "it tries again", |status| status["state"] == "retrying");
    let (exit, _, says) = sink(server, &["rebuild"]);
    assert_eq!(exit, 2, "{says}");
    assert!(says.contains(code) && says.contains(advice), "{says}");
}

#[test]
fn a_rebuild_ends_where_a_role_is_refused_and_the_sink_goes_on_to_try() {
    let Some(database) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let session = database.session();
    let role = format!("weak_of_{}", database.name);
    session.run(&format!("CREATE ROLE {role} LOGIN"));
    let url = database.url().replace("//postgres@", &format!("//{role}@"));
    let server = server_at(folder.path(), &url);
    server.deliver(&created("u1"));
    rebuild_refused(&server, "42501", "docs/sink.md");
    session.run(&format!("GRANT CREATE ON DATABASE {} TO {role}", database.name));
    wait_for_head(&server);
    assert_eq!(names(&session), "u1");

    session.run(&format!("ALTER ROLE {role} NOLOGIN"));
    session.run(&format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{role}'"
    ));
    rebuild_refused(&server, "28000", "pg_hba.conf");
    server.deliver(&created("u2"));
    session.run(&format!("ALTER ROLE {role} LOGIN"));
    wait_for_head(&server);
    assert_eq!(names(&session), "u1 u2");
    assert_eq!(server.stop(), 0);
    session.run(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

#[test]
fn a_rebuild_ends_where_the_database_is_gone_and_a_new_one_is_filled() {
    let Some(database) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (server, session) = with_three(folder.path(), &database);
    drop(session);
    let name = &database.name;
    let other = TestDatabase { server: database.server.clone(), name: "postgres".into() };
    let other = other.session();
    other.run(&format!("DROP DATABASE {name} WITH (FORCE)"));
    server.deliver(&created("u4"));
    rebuild_refused(&server, "3D000", "create the database");
    other.run(&format!("CREATE DATABASE {name}"));
    wait_for_head(&server);
    assert_eq!(names(&database.session()), "u1 u2 u3 u4");
}

/// The schema has the longest name, and the database is connected to by its socket.
#[test]
fn a_rebuild_waits_for_a_database_that_does_not_answer() {
    let Some(database) = database_alone() else { return };
    let data = tempfile::tempdir().unwrap();
    let schema = "x".repeat(41);
    let (socket, port) = (database.server.folder().display(), database.server.port);
    let url = format!("postgresql:///{}?host={socket}&port={port}&user=postgres", database.name);
    let mut command = Command::new(binary());
    command.envs([("ROLLCALL_POSTGRES_URL", &url), ("ROLLCALL_POSTGRES_SCHEMA", &schema)]);
    let server = Server::start_command(command, data.path(), &[]);
    server.deliver(&created("u1"));
    wait_for_head(&server);

    database.server.end("INT");
    server.deliver(&created("u2"));
    let mut command = bare_command(&["sink", "rebuild", "--url", &server.url]);
    command.env("ROLLCALL_API_KEY", API_KEY).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut rebuild = command.spawn().unwrap();
    let mut says = BufReader::new(rebuild.stderr.take().unwrap()).lines();
    let line = says.next().unwrap().unwrap();
    assert!(line.contains("the rebuild begins once the database answers"), "{line}");
    assert!(rebuild.try_wait().unwrap().is_none());
    database.server.start();
    assert_eq!(rebuild.wait().unwrap().code(), Some(0));
    let session = database.session();
    let users = format!("SELECT id FROM {schema}.directory_users ORDER BY id");
    assert_eq!(session.texts(&users, &[]), ["u1", "u2"]);
    let schemas = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'xx%'";
    assert_eq!(session.texts(schemas, &[]), [schema]);
}
