//! The drill of docs/operations.md: a backup of a running server is restored and verified.

use std::process::{Command, Output};

use crate::kit::server::{API_KEY, Server, binary, user};
use crate::packages::files::root;

/// Runs the drill into `work`; `None` without curl.
fn drill(server: &Server, key: &str, work: &std::path::Path) -> Option<Output> {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: curl is missing");
        return None;
    }
    let programs = std::env::var("PATH").unwrap_or_default();
    let ours = binary().parent().unwrap().display().to_string();
    let mut command = Command::new("sh");
    command.arg(root().join("packaging/backup-drill")).arg(work);
    command.env("PATH", format!("{ours}:{programs}")).env("no_proxy", "*");
    command.env("ROLLCALL_URL", &server.url).env("ROLLCALL_API_KEY", key);
    Some(command.output().unwrap())
}

#[test]
fn the_drill_restores_what_a_running_server_has_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    for number in 1..=3 {
        let (id, event) = (format!("user_{number}"), format!("event_{number}"));
        server.deliver(&user(&id, "d", "ana", "2026-01-01T00:00:00Z", &event, "x.y"));
    }
    let work = folder.path().join("drill");
    let Some(output) = drill(&server, API_KEY, &work) else { return };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("the backup can be restored\n"), "{said}");
    assert!(said.contains("3 records"), "{said}");
    assert!(!work.exists());
    assert_eq!(server.get("/readyz").status, 200);
}

#[test]
fn a_drill_that_fails_says_so_and_keeps_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let work = folder.path().join("drill");
    let Some(output) = drill(&server, "sk_of_another_server", &work) else { return };
    assert!(!output.status.success());
    assert!(!String::from_utf8_lossy(&output.stdout).contains("can be restored"));
    assert!(work.exists());
}
