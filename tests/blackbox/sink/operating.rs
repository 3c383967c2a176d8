//! Outages, kills, rebuilds, and tables that are not the sink's.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use super::{AT, created, deleted, ids, names, sink, with_three};
use crate::faults::snapshots::forge;
use crate::kit::postgres::{Session, TestDatabase, database, database_alone};
use crate::kit::scale::scale;
use crate::kit::server::{
    API_KEY, SECRET, Server, agent, bare_command, now_ms, post, signal, signature, user,
};
use crate::kit::sink::{compare, server, server_at, status, wait_for_head, wait_until};

/// Rounds of kills in a run at scale 1.
const ROUNDS: u64 = 5;

#[test]
fn the_position_goes_to_the_head_with_the_digest_of_the_log() {
    let Some(database) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (server, session) = with_three(folder.path(), &database);
    // It changes nothing.
    let unrelated = json!({"object": "event", "id": "event_x", "event": "user.created",
        "created_at": AT, "data": {"id": "x"}});
    let head = server.deliver(&unrelated.to_string());
    assert_eq!(wait_for_head(&server), head);
    let position = session
        .json("SELECT log_id, seq, encode(digest, 'base64') AS digest FROM rollcall.position");
    let checkpoint = String::from_utf8(server.get("/rollcall/v1/log/checkpoint").body).unwrap();
    let lines: Vec<&str> = checkpoint.lines().collect();
    assert_eq!(position.len(), 1);
    assert_eq!((&position[0]["seq"], &position[0]["digest"]), (&json!(head), &json!(lines[2])));
    let (code, out, _) = sink(&server, &["status", "--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    let expected = json!({"state": "following", "position": head, "lag": 0, "last_error": null});
    assert!(crate::kit::server::holds(&expected, &told), "{told}");
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.contains("rollcall_sink_lag_records 0\n"), "{metrics}");
}

#[test]
fn a_rebuild_keeps_grants_and_what_depends_on_the_tables() {
    let Some(database) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (server, session) = with_three(folder.path(), &database);
    let reader = format!("reader_of_{}", database.name);
    session.run(&format!(
        "CREATE ROLE {reader} LOGIN; GRANT USAGE ON SCHEMA rollcall TO {reader}; \
         GRANT SELECT ON ALL TABLES IN SCHEMA rollcall TO {reader}; \
         CREATE VIEW public.active AS SELECT id FROM rollcall.directory_users; \
         CREATE TABLE public.account (user_id text REFERENCES rollcall.directory_users ON DELETE \
         CASCADE); INSERT INTO public.account VALUES ('u1'), ('u2'); \
         CREATE SCHEMA rollcall_rebuild; CREATE TABLE rollcall_rebuild.mine (); \
         UPDATE rollcall.directory_users SET email = 'changed' WHERE id = 'u1'; \
         ALTER TABLE rollcall.directory_users DISABLE TRIGGER ALL; \
         DELETE FROM rollcall.directory_users WHERE id = 'u3'; \
         ALTER TABLE rollcall.directory_users ENABLE TRIGGER ALL; \
         DROP TABLE rollcall.role_periods; \
         ALTER TABLE rollcall.directories DROP COLUMN name"
    ));
    let (code, _, says) = sink(&server, &["rebuild"]);
    assert_eq!((code, says.as_str()), (0, ""));
    assert_eq!(names(&session), "u1 u2 u3");
    assert_eq!(session.texts("SELECT id FROM public.active ORDER BY 1", &[]).len(), 3);
    assert_eq!(session.text("SELECT count(*)::text FROM public.account"), "2");
    assert_eq!(session.text("SELECT count(*)::text FROM rollcall_rebuild.mine"), "0");
    let left = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'rollcall%' ORDER BY 1";
    assert_eq!(session.texts(left, &[]), ["rollcall", "rollcall_rebuild"]);
    let may = |table: &str| {
        session.text(&format!(
            "SELECT has_table_privilege('{reader}', 'rollcall.{table}', 'SELECT')::text"
        ))
    };
    // The rights to a table that was dropped are gone with it.
    assert_eq!(["directory_users", "directories", "access_periods"].map(may), ["true"; 3]);
    let users = ["u1", "u2", "u3"].map(str::to_owned);
    compare(&server, &session, &ids(users), wait_for_head(&server), "rebuilt");
    session.run(&format!("DROP OWNED BY {reader}; DROP ROLE {reader}"));
}

#[test]
fn tables_of_another_log_are_replaced_by_a_rebuild_alone() {
    let Some(database) = database() else { return };
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (server_of_first, session) = with_three(first.path(), &database);
    assert_eq!(server_of_first.stop(), 0);
    let position = session.text("SELECT log_id::text || seq FROM rollcall.position");
    let other = server(second.path(), &database);
    other.deliver(&created("other"));
    let refused = wait_until(&other, "it refuses", |status| status["state"] == "refused");
    let message = refused["last_error"]["message"].as_str().unwrap();
    assert!(message.contains("rollcall sink rebuild"), "{message}");
    assert_eq!(session.text("SELECT log_id::text || seq FROM rollcall.position"), position);
    assert_eq!(names(&session), "u1 u2 u3");
    assert_eq!(sink(&other, &["rebuild"]).0, 0);
    assert_eq!(names(&session), "other");
    compare(&other, &session, &ids(["other".to_owned()]), wait_for_head(&other), "replaced");
    // The first log is now the other one.
    assert_eq!(other.stop(), 0);
    let first = server(first.path(), &database);
    wait_until(&first, "it refuses", |status| status["state"] == "refused");
    assert_eq!(names(&session), "other");
}

/// Starts the server again after the tables were changed, and returns the users that they have then.
fn after_restart(server: Server, folder: &Path, database: &TestDatabase, sql: &str) -> String {
    assert_eq!(server.stop(), 0);
    let session = database.session();
    session.run(sql);
    let server = self::server(folder, database);
    let is_known = "SELECT (basis IS NOT NULL)::text FROM rollcall.position";
    wait_until(&server, "it follows", |status| {
        status["state"] == "following" && session.text(is_known) == "true"
    });
    let names = names(&session);
    assert_eq!(server.stop(), 0);
    names
}

#[test]
fn tables_of_another_basis_are_rebuilt_before_they_are_kept() {
    let Some(database) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (server, session) = with_three(folder.path(), &database);
    wait_until(&server, "it follows", |status| status["state"] == "following");
    let basis = || session.text("SELECT encode(basis, 'hex') FROM rollcall.position");
    let sound = basis();
    assert_eq!(sound.len(), 64);
    let add = "INSERT INTO rollcall.directory_users (id) VALUES ('lost');";
    let restarted = |server, sql: &str| {
        after_restart(server, folder.path(), &database, &format!("{add} {sql}"))
    };
    let of_other = restarted(server, "UPDATE rollcall.position SET basis = sha256('')");
    assert_eq!((of_other.as_str(), basis()), ("u1 u2 u3", sound.clone()));
    // With the same basis the rows are taken as they are.
    let again = || self::server(folder.path(), &database);
    assert_eq!(restarted(again(), ""), "lost u1 u2 u3");
    // Tables of the version before have none.
    let old = "ALTER TABLE rollcall.position DROP COLUMN basis; COMMENT ON TABLE \
        rollcall.position IS 'Made and kept by the PostgreSQL sink of Rollcall. Version 1'";
    session.run("DELETE FROM rollcall.directory_users WHERE id = 'lost'");
    assert_eq!(restarted(again(), old), "u1 u2 u3");
    assert_eq!(basis(), sound);
}

#[test]
fn tables_are_rebuilt_after_a_snapshot_that_was_forged() {
    let Some(database) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (server, session) = with_three(folder.path(), &database);
    assert_eq!(server.stop(), 0);
    forge(&folder.path().join("snapshot"), |content| {
        let at = content.windows(2).position(|bytes| bytes == b"u1").unwrap();
        content[at + 1] = b'9';
    });
    // The basis is as before: only the comparison says that the row may be invented.
    session.run("INSERT INTO rollcall.directory_users (id) VALUES ('invented')");
    let server = self::server(folder.path(), &database);
    let known = "SELECT id FROM rollcall.directory_users UNION ALL \
        SELECT 'known' FROM rollcall.position WHERE basis IS NOT NULL ORDER BY 1";
    wait_until(&server, "the rows are those of the log", |_| {
        session.texts(known, &[]) == ["known", "u1", "u2", "u3"]
    });
    assert_eq!(server.get("/rollcall/v1/stats").json()["snapshot"]["comparison"], "different");
    let users = ["u1", "u2", "u3"].map(str::to_owned);
    compare(&server, &session, &ids(users), wait_for_head(&server), "rebuilt");
}

#[test]
fn a_schema_of_another_is_left_alone() {
    let Some(database) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let session = database.session();
    session.run("CREATE SCHEMA rollcall; CREATE TABLE rollcall.directories (mine text)");
    let server = server(folder.path(), &database);
    server.deliver(&created("u1"));
    wait_until(&server, "it refuses", |status| status["state"] == "refused");
    let (code, _, says) = sink(&server, &["rebuild"]);
    assert_eq!(code, 2, "{says}");
    let tables = "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace = \
        'rollcall'::regnamespace";
    assert_eq!(session.texts(tables, &[]), ["directories"]);
    // Once it is gone, the sink goes on by itself.
    session.run("DROP TABLE rollcall.directories");
    wait_for_head(&server);
    assert_eq!(names(&session), "u1");
}

#[test]
fn values_that_the_database_cannot_store_do_not_stop_it() {
    let Some(database) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path(), &database);
    let odd = created("u1")
        .replace(r#""raw_attributes":{}"#, r#""raw_attributes":{"a":"x\u0000\ud800y","n":1e99999}"#)
        .replace(r#""first_name":"u1""#, r#""first_name":"A\u0000\\N\tB""#);
    server.deliver(&odd);
    server.deliver(&created("u2"));
    wait_for_head(&server);
    let rows = database
        .session()
        .json("SELECT first_name, raw_attributes FROM rollcall.directory_users ORDER BY id");
    assert_eq!(rows[0]["first_name"], "A\u{fffd}\\N\tB");
    assert_eq!(rows[0]["raw_attributes"], json!({"a": "x\u{fffd}\u{fffd}y", "n": "1e99999"}));
    assert_eq!(rows.len(), 2);
}

/// `initdb` without a locale makes such databases.
#[test]
fn a_database_without_an_encoding_takes_escapes_of_characters() {
    let Some(database) = database() else { return };
    let ascii = TestDatabase {
        server: database.server.clone(),
        name: format!("{}_without_encoding", database.name),
    };
    database.session().run(&format!(
        "CREATE DATABASE {} TEMPLATE template0 ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'",
        ascii.name
    ));
    let folder = tempfile::tempdir().unwrap();
    let server = server(folder.path(), &ascii);
    let attributes = r#""raw_attributes":{"\u00e9":"\ud83d\ude00"}"#;
    server.deliver(&created("u1").replace(r#""raw_attributes":{}"#, attributes));
    wait_for_head(&server);
    let rows = ascii.session().json("SELECT raw_attributes FROM rollcall.directory_users");
    assert_eq!(rows, [json!({"raw_attributes": {"\u{e9}": "\u{1f600}"}})]);
}

#[test]
fn ids_that_differ_in_a_character_that_is_not_stored_are_two_rows() {
    let Some(database) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    // Both are in the first fill.
    let server = Server::start(folder.path());
    let both = ["x\0", "x\u{fffd}"];
    let body = |id: &str, number: usize| {
        user(id, "d", id, AT, &format!("event_{number}"), "dsync.user.created")
    };
    for (number, id) in both.iter().enumerate() {
        server.deliver(&body(id, number));
    }
    assert_eq!(server.stop(), 0);
    let server = self::server(folder.path(), &database);
    let known_at = wait_for_head(&server);
    let session = database.session();
    compare(&server, &session, &ids(both.map(str::to_owned)), known_at, "filled");
    assert_eq!(session.text("SELECT count(*)::text FROM rollcall.directory_users"), "2");
    // And these are in one batch: the database is away until then.
    let later = ["y\0", "y\u{fffd}"];
    session.run("BEGIN; LOCK TABLE rollcall.position");
    for (number, id) in later.iter().enumerate() {
        server.deliver(&body(id, number + both.len()));
    }
    session.run("COMMIT");
    let known_at = wait_for_head(&server);
    compare(
        &server,
        &session,
        &ids([both, later].concat().into_iter().map(str::to_owned)),
        known_at,
        "followed",
    );
}

#[test]
fn without_a_url_there_is_no_sink_and_a_wrong_one_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let (code, _, says) = sink(&server, &["status"]);
    assert!(code == 1 && says.contains("ROLLCALL_POSTGRES_URL"), "{code} {says}");
    let mut command = bare_command(&["config", "check"]);
    command.envs([("ROLLCALL_WEBHOOK_SECRETS", SECRET), ("ROLLCALL_API_KEYS", API_KEY)]);
    command.env("ROLLCALL_POSTGRES_URL", "postgres://u:hidden@db/x?sslmode=odd");
    let output = command.output().unwrap();
    let says = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(says.contains("sslmode must be") && !says.contains("hidden"), "{says}");
}

#[test]
fn the_certificate_is_verified_as_sslmode_says() {
    let Some(database) = database_alone() else { return };
    let session = database.session();
    let folder = database.server.folder().display().to_string();
    session.run(&format!(
        "COPY (SELECT 1) TO PROGRAM 'openssl req -x509 -newkey rsa:2048 -nodes -days 30 \
         -keyout {folder}/key.pem -out {folder}/cert.pem -subj /CN=localhost \
         -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
         2> /dev/null'"
    ));
    session.run(&format!("ALTER SYSTEM SET ssl_cert_file = '{folder}/cert.pem'"));
    session.run(&format!("ALTER SYSTEM SET ssl_key_file = '{folder}/key.pem'"));
    session.run("ALTER SYSTEM SET ssl = on");
    database.server.end("INT");
    database.server.start();
    let session = database.session();
    let own = format!("&sslrootcert={folder}/cert.pem");
    let data = tempfile::tempdir().unwrap();
    for (host, mode, authority, works) in [
        ("localhost", "verify-full", own.as_str(), true),
        ("127.0.0.1", "verify-full", &own, false),
        ("127.0.0.1", "verify-ca", &own, true),
        ("localhost", "verify-ca", "", false),
        ("localhost", "require", "", true),
    ] {
        let (port, name) = (database.server.port, &database.name);
        let url = format!("postgresql://postgres@{host}:{port}/{name}?sslmode={mode}{authority}");
        let server = server_at(data.path(), &url);
        let wanted = if works { "following" } else { "retrying" };
        let what = format!("{mode} of {host}");
        let told = wait_until(&server, &what, |status| status["state"] == wanted);
        assert_eq!(told["last_error"].is_null(), works, "{what}: {told}");
        assert_eq!(sink(&server, &["rebuild"]).0, if works { 0 } else { 2 }, "{what}");
        let encrypted = "SELECT bool_and(s.ssl)::text FROM pg_stat_ssl s JOIN pg_stat_activity a \
            USING (pid) WHERE a.application_name = 'rollcall'";
        assert!(!works || session.text(encrypted) == "true", "{what}");
        assert_eq!(server.stop(), 0);
    }
}

/// Users who are created and deleted by several threads, until it ends.
struct Load {
    next: AtomicU64,
    ended: AtomicBool,
}

impl Load {
    fn deliver(&self, url: &str) {
        let agent = agent();
        while !self.ended.load(Ordering::SeqCst) {
            let number = self.next.fetch_add(1, Ordering::SeqCst);
            for body in [created(&format!("u{number}")), deleted(&format!("u{}", number / 3))] {
                let header = signature(SECRET, &now_ms().to_string(), body.as_bytes());
                let answer = post(&agent, url, body.as_bytes(), &[("WorkOS-Signature", &header)]);
                // While the database is away, webhooks are taken.
                assert!(answer.is_none_or(|answer| answer.status == 200));
            }
        }
    }
}

#[test]
fn kills_of_server_and_database_under_load_leave_the_tables_exact() {
    let Some(database) = database_alone() else { return };
    let folder = tempfile::tempdir().unwrap();
    let load = Load { next: AtomicU64::new(0), ended: AtomicBool::new(false) };
    for round in 0..ROUNDS * scale() {
        load.ended.store(false, Ordering::SeqCst);
        let served = server(folder.path(), &database);
        let url = format!("{}/webhooks/workos", served.url);
        let enough = load.next.load(Ordering::SeqCst) + 40 + round * 37 % 90;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| load.deliver(&url));
            }
            while load.next.load(Ordering::SeqCst) < enough {
                std::thread::yield_now();
            }
            if round % 2 == 0 {
                signal(served.pid(), "KILL");
            } else {
                database.server.end("KILL");
                let more = enough + 30;
                while load.next.load(Ordering::SeqCst) < more {
                    std::thread::yield_now();
                }
                wait_until(&served, "it tries again", |status| status["state"] == "retrying");
                database.server.start();
            }
            load.ended.store(true, Ordering::SeqCst);
        });
        drop(served);
        let served = server(folder.path(), &database);
        let known_at = wait_for_head(&served);
        let last = load.next.load(Ordering::SeqCst);
        // Those of the last rounds; the older ones were compared then.
        let users = (last.saturating_sub(150)..last).map(|number| format!("u{number}"));
        let what = format!("round {round}");
        check_users(&served, &database.session(), users, known_at, &what);
        assert_eq!(status(&served)["last_error"], Value::Null);
        assert_eq!(served.stop(), 0);
    }
}

/// Compares some users, and the counts of all rows.
fn check_users(
    server: &Server,
    session: &Session,
    users: impl Iterator<Item = String>,
    known_at: u64,
    what: &str,
) {
    for user in users {
        let path = format!("/directory_users/{user}?known_at={known_at}");
        let is_there = server.get(&path).status == 200;
        let question = "SELECT count(*)::text FROM rollcall.directory_users WHERE id = $1";
        let stored = session.texts(question, &[&user]).concat();
        assert_eq!(stored, u64::from(is_there).to_string(), "{what}: {user}");
        check_periods(server, session, &user, known_at, what);
    }
    let twice = "SELECT count(*)::text FROM (SELECT 1 FROM rollcall.access_periods a \
        JOIN rollcall.access_periods b ON a.user_id = b.user_id AND a.ctid <> b.ctid \
        AND a.period && b.period) AS overlapping";
    assert_eq!(session.text(twice), "0", "{what}");
}

/// Compares the times of access of a user.
fn check_periods(server: &Server, session: &Session, user: &str, known_at: u64, what: &str) {
    let answer = server.get(&format!("/rollcall/v1/users/{user}/access?known_at={known_at}"));
    let periods = match answer.status {
        200 => answer.json()["data"].as_array().unwrap().clone(),
        _ => Vec::new(),
    };
    let count = "SELECT count(*)::text FROM rollcall.access_periods WHERE user_id = $1";
    let stored = session.texts(count, &[&user]).concat();
    assert_eq!(stored, periods.len().to_string(), "{what}: periods of {user}");
    let question = format!(
        "{count} AND lower(period) = $2::text::timestamptz \
         AND upper(period) IS NOT DISTINCT FROM $3::text::timestamptz \
         AND start_seq::text = $4 AND end_seq::text IS NOT DISTINCT FROM $5::text"
    );
    for period in periods {
        let (from, until) = (period["from"].as_str(), period["until"].as_str());
        let [start, end] =
            ["start", "end"].map(|cause| period[cause]["seq"].as_u64().map(|seq| seq.to_string()));
        let stored = session.texts(&question, &[&user, &from, &until, &start, &end]).concat();
        assert_eq!(stored, "1", "{what}: {user} {period}");
    }
}
