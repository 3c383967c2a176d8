//! `rollcall serve` as an operator runs it: permissions, settings, signals and log lines.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::kit::server::{SECRET, Server, agent, binary, now_ms, post, signature, user};

/// A server whose log goes into a file.
struct Logged {
    server: Server,
    log: PathBuf,
}

impl Logged {
    /// Starts a server over `folder/data`, after `umask UMASK`.
    fn start(folder: &Path, umask: &str, arguments: &[&str]) -> Logged {
        let log = folder.join("log");
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"umask "$UMASK"; exec env ROLLCALL_LOG=info "$0" "$@" 2>>"$LOG""#])
            .arg(binary())
            .env("UMASK", umask)
            .env("LOG", &log);
        let server = Server::start_command(command, &folder.join("data"), arguments);
        Logged { server, log }
    }

    /// Returns the lines so far that contain `text`.
    fn lines(&self, text: &str) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

/// Returns each path below `folder`, itself included, with its mode.
fn modes(folder: &Path) -> Vec<(PathBuf, u32)> {
    let mode = fs::symlink_metadata(folder).unwrap().permissions().mode() & 0o7777;
    let mut found = vec![(folder.to_owned(), mode)];
    if folder.is_dir() {
        for entry in fs::read_dir(folder).unwrap() {
            found.extend(modes(&entry.unwrap().path()));
        }
    }
    found
}

fn assert_private(data: &Path) {
    let found = modes(data);
    assert!(found.iter().any(|(path, _)| path.ends_with("store/db")), "{found:?}");
    assert!(found.iter().any(|(path, _)| path.ends_with("checkpoint-key.pub")), "{found:?}");
    for (path, mode) in found {
        let expected = if path.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode, expected, "{}: {mode:o}", path.display());
    }
}

#[test]
fn a_data_folder_is_its_owners_alone_under_any_umask() {
    for umask in ["0000", "0022", "0277"] {
        let folder = tempfile::tempdir().unwrap();
        let logged = Logged::start(folder.path(), umask, &[]);
        logged.server.deliver(&user("u", "d", "ana", "2026-01-01T00:00:00Z", "e", "x.y"));
        assert_private(&folder.path().join("data"));
        assert_eq!(logged.lines("700"), [""; 0], "a new folder needs no change: {umask}");
        assert_eq!(logged.server.stop(), 0);
        assert_private(&folder.path().join("data"));
    }
}

#[test]
fn a_folder_that_others_can_read_is_tightened_with_one_line_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    assert_eq!(Logged::start(folder.path(), "0022", &[]).server.stop(), 0);
    for (path, mode) in modes(&data) {
        let lax = if path.is_dir() { mode | 0o055 } else { mode | 0o044 };
        fs::set_permissions(&path, Permissions::from_mode(lax)).unwrap();
    }
    let logged = Logged::start(folder.path(), "0022", &[]);
    assert_private(&data);
    assert_eq!(logged.lines("mode 700").len(), 1);
    assert_eq!(logged.server.stop(), 0);
    let logged = Logged::start(folder.path(), "0022", &[]);
    assert_eq!(logged.lines("mode 700").len(), 1, "the next start finds nothing to change");
}

#[test]
fn published_checkpoints_are_readable_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    fs::create_dir(&out).unwrap();
    let publish = ["--publish-checkpoints", out.to_str().unwrap()];
    let logged = Logged::start(folder.path(), "0077", &publish);
    logged.server.deliver(&user("u", "d", "ana", "2026-01-01T00:00:00Z", "e", "x.y"));
    assert_eq!(logged.server.stop(), 0);
    let files: Vec<u32> = modes(&out).into_iter().skip(1).map(|(_, mode)| mode).collect();
    assert!(!files.is_empty() && files.iter().all(|mode| *mode == 0o644), "{files:?}");
}

#[test]
fn refused_webhooks_are_counted_by_code_and_warned_of_once_a_minute() {
    let folder = tempfile::tempdir().unwrap();
    let Logged { server, log } = Logged::start(folder.path(), "0022", &["--body-bytes-max", "99"]);
    let url = |path: &str| format!("{}{path}", server.url);
    let now = now_ms().to_string();
    let wrong = signature("whsec_wrong", &now, b"{}");
    for _ in 0..3 {
        assert_eq!(server.post(&[b' '; 100]).status, 413);
        assert_eq!(server.post_with(b"{}", &[("WorkOS-Signature", &wrong)]).status, 401);
    }
    let good = signature(SECRET, &now, b"{}");
    for path in ["/webhook", "/webhooks/workos/2?secret=1"] {
        let answer = post(&agent(), &url(path), b"{}", &[("WorkOS-Signature", &good)]).unwrap();
        assert_eq!(answer.status, 404);
    }
    assert_eq!(server.get("/webhook").status, 404, "a question is not a webhook");
    let refused = json!({
        "signature_missing": 0, "signature_malformed": 0, "signature_mismatch": 3,
        "timestamp_outside_tolerance": 0, "body_too_large": 3, "unsupported_encoding": 0,
        "not_found": 2,
    });
    assert_eq!(server.get("/rollcall/v1/stats").json()["refused_webhooks"], refused);
    let warnings = fs::read_to_string(log).unwrap();
    let of = |text: &str| warnings.lines().filter(|line| line.contains(text)).count();
    for reason in ["body_too_large", "signature_mismatch", "\"/webhook\""] {
        assert_eq!(of(reason), 1, "{reason}: {warnings}");
    }
    assert_eq!(of("count=1"), 3, "{warnings}");
    assert_eq!(of("secret"), 0, "{warnings}");
}
