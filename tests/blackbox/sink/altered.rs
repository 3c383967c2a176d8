//! Tables that others have altered, with views on them: a rebuild mends them and drops nothing.

use std::process::Command;

use super::{created, deleted, ids, names, sink, with_three};
use crate::kit::postgres::{Session, database};
use crate::kit::server::Server;
use crate::kit::sink::{compare, server, wait_for_head, wait_until};

/// Compares the rows of some users with the answers.
fn check(server: &Server, session: &Session, users: &[&str], what: &str) {
    let users = users.iter().map(|&user| user.to_owned());
    let rows = compare(server, session, &ids(users), wait_for_head(server), what);
    assert!(rows > 0, "{what}");
}

/// Returns the type of a column.
fn kind(session: &Session, table: &str, column: &str) -> String {
    session.text(&format!(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute \
         WHERE attrelid = 'rollcall.{table}'::regclass AND attname = '{column}'"
    ))
}

#[test]
fn a_rebuild_mends_altered_tables_and_keeps_what_others_put_on_them() {
    let Some(database) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (server, session) = with_three(folder.path(), &database);
    let reader = format!("column_reader_of_{}", database.name);
    session.run(&format!(
        "CREATE VIEW public.known AS SELECT id, email FROM rollcall.directory_users; \
         CREATE VIEW public.reached AS SELECT seq FROM rollcall.position; \
         CREATE VIEW public.times AS SELECT user_id, period FROM rollcall.access_periods; \
         ALTER TABLE rollcall.directory_users ADD COLUMN mine text DEFAULT 'kept', \
         ENABLE ROW LEVEL SECURITY; \
         CREATE INDEX mine ON rollcall.directory_users (mine); \
         CREATE ROLE {reader}; GRANT SELECT (job_title) ON rollcall.directory_users TO {reader}"
    ));
    session.run(
        "ALTER TABLE rollcall.directory_users DROP CONSTRAINT directory_users_pkey, \
         DROP COLUMN custom_attributes, DROP COLUMN updated_at, \
         ALTER COLUMN job_title TYPE varchar(9), ALTER COLUMN raw_attributes TYPE text; \
         INSERT INTO rollcall.directory_users (id) VALUES ('u1'), ('no one'); \
         ALTER TABLE rollcall.access_periods DROP COLUMN start_seq, \
         ALTER COLUMN end_seq TYPE integer; \
         DROP INDEX rollcall.access_periods_user_id_lower_idx; \
         INSERT INTO rollcall.access_periods SELECT * FROM rollcall.access_periods; \
         ALTER TABLE rollcall.position DROP COLUMN basis, ALTER COLUMN digest TYPE text",
    );
    let (code, _, says) = sink(&server, &["rebuild"]);
    assert_eq!((code, says.as_str()), (0, ""));
    check(&server, &session, &["u1", "u2", "u3"], "mended");
    assert_eq!(session.texts("SELECT id FROM public.known ORDER BY 1", &[]), ["u1", "u2", "u3"]);
    assert_eq!(session.text("SELECT seq::text FROM public.reached"), server.head().to_string());
    assert_eq!(session.text("SELECT count(*)::text FROM public.times"), "3");
    let kept = format!(
        "SELECT concat_ws(' ', min(mine), (SELECT relrowsecurity FROM pg_class \
         WHERE oid = 'rollcall.directory_users'::regclass), to_regclass('rollcall.mine'), \
         has_column_privilege('{reader}', 'rollcall.directory_users', 'job_title', 'SELECT')) \
         FROM rollcall.directory_users"
    );
    assert_eq!(session.text(&kept), "kept t rollcall.mine t");
    for (table, column, expected) in [
        ("directory_users", "job_title", "text"),
        ("directory_users", "raw_attributes", "jsonb"),
        ("access_periods", "end_seq", "bigint"),
        ("position", "digest", "bytea"),
        ("position", "basis", "bytea"),
    ] {
        assert_eq!(kind(&session, table, column), expected, "{table}.{column}");
    }
    assert_eq!(session.text("SELECT (basis IS NOT NULL)::text FROM rollcall.position"), "true");
    // Rows are found by the keys again.
    server.deliver(&created("u4"));
    server.deliver(&deleted("u2"));
    check(&server, &session, &["u1", "u2", "u3", "u4"], "followed");
    session.run(&format!("DROP OWNED BY {reader}; DROP ROLE {reader}"));
}

#[test]
fn a_position_that_was_altered_is_refused_by_a_start_and_mended_by_a_rebuild() {
    let Some(database) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (first, session) = with_three(folder.path(), &database);
    assert_eq!(first.stop(), 0);
    session
        .run("ALTER TABLE rollcall.position DROP COLUMN digest, ALTER COLUMN seq TYPE varchar(9)");
    // What a rebuild has left that was killed, and a schema of another.
    session.run(
        "CREATE SCHEMA rollcall_rebuild_2; CREATE TABLE rollcall_rebuild_2.directories (id text); \
         COMMENT ON SCHEMA rollcall_rebuild_2 IS 'Made and kept by the PostgreSQL sink of \
         Rollcall. For a rebuild of rollcall.'; \
         COMMENT ON TABLE rollcall_rebuild_2.directories IS 'Made and kept by the PostgreSQL sink \
         of Rollcall.'; CREATE SCHEMA rollcall_rebuild",
    );
    let server = server(folder.path(), &database);
    let refused = wait_until(&server, "it refuses", |status| status["state"] == "refused");
    let message = refused["last_error"]["message"].as_str().unwrap();
    assert!(message.contains("altered: position; `rollcall sink rebuild`"), "{message}");
    let schemas =
        "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'rollcall%' ORDER BY 1";
    assert_eq!(session.texts(schemas, &[]), ["rollcall", "rollcall_rebuild"]);
    assert_eq!(sink(&server, &["rebuild"]).0, 0);
    assert_eq!(kind(&session, "position", "seq"), "bigint");
    assert_eq!(session.text("SELECT count(digest)::text FROM rollcall.position"), "1");
    check(&server, &session, &["u1", "u2", "u3"], "mended");
}

#[test]
fn a_view_that_holds_a_column_of_another_type_is_named_and_ends_the_rebuild() {
    let Some(database) = database() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (server, session) = with_three(folder.path(), &database);
    session.run(
        "ALTER TABLE rollcall.directories ALTER COLUMN name TYPE varchar(100); \
         CREATE VIEW public.named AS SELECT id, name FROM rollcall.directories; \
         UPDATE rollcall.directory_users SET email = 'changed'",
    );
    let (code, _, says) = sink(&server, &["rebuild"]);
    assert_eq!(code, 2, "{says}");
    for part in ["`name`", "rollcall.directories", "character varying(100)", "view public.named"] {
        assert!(says.contains(part), "{says}");
    }
    assert_eq!(session.text("SELECT count(*)::text FROM public.named"), "1");
    let changed = "SELECT count(*)::text FROM rollcall.directory_users WHERE email = 'changed'";
    assert_eq!(session.text(changed), "3");
    let left = "SELECT nspname::text FROM pg_namespace WHERE nspname LIKE 'rollcall%'";
    assert_eq!(session.texts(left, &[]), ["rollcall"]);
    session.run("DROP VIEW public.named");
    assert_eq!(sink(&server, &["rebuild"]).0, 0);
    assert_eq!(kind(&session, "directories", "name"), "text");
    check(&server, &session, &["u1", "u2", "u3"], "mended");
}

#[test]
fn tables_of_a_copy_of_the_log_that_went_another_way_are_left_alone() {
    let Some(database) = database() else { return };
    let [first, second] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let (server_of_first, session) = with_three(first.path(), &database);
    assert_eq!(server_of_first.stop(), 0);
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(first.path().join(".")).arg(second.path());
    assert!(copy.status().unwrap().success());
    let server_of_first = server(first.path(), &database);
    server_of_first.deliver(&created("a4"));
    wait_for_head(&server_of_first);
    assert_eq!(server_of_first.stop(), 0);

    let refused = |server: &Server, reason: &str| {
        let status = wait_until(server, "it refuses", |status| status["state"] == "refused");
        let message = status["last_error"]["message"].as_str().unwrap();
        assert!(message.contains(reason), "{message}");
        assert_eq!(names(&session), "a4 u1 u2 u3");
    };
    let shorter = server(second.path(), &database);
    refused(&shorter, "the log ends with 3");
    shorter.deliver(&created("b4"));
    assert_eq!(shorter.stop(), 0);
    let other = server(second.path(), &database);
    refused(&other, "other records up to 4");
    assert_eq!(sink(&other, &["rebuild"]).0, 0);
    assert_eq!(names(&session), "b4 u1 u2 u3");
}
