//! `rollcall serve` as an operator runs it: permissions, settings, signals and log lines.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::kit::server::{SECRET, Server, agent, binary, now_ms, post, signal, signature, user};

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
        assert_eq!(logged.lines("mode 700"), [""; 0], "a new folder needs no change: {umask}");
        assert_eq!(logged.server.stop(), 0);
        assert_private(&folder.path().join("data"));
    }
}

#[test]
fn missing_folders_around_a_data_folder_are_made_as_the_umask_says() {
    let folder = tempfile::tempdir().unwrap();
    let around = folder.path().join("around");
    let mut command = Command::new("sh");
    command.args(["-c", r#"umask 0022; exec "$0" "$@""#]).arg(binary());
    let server = Server::start_command(command, &around.join("near/data"), &[]);
    assert_eq!(server.stop(), 0);
    let mode_of = |path: &str| modes(&around.join(path))[0].1;
    assert_eq!([mode_of(""), mode_of("near"), mode_of("near/data")], [0o755, 0o755, 0o700]);
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

/// Posts a webhook whose body does not arrive whole. Returns the first line of the answer.
fn part_of_a_body(server: &Server) -> String {
    let mut stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let signature = signature(SECRET, &now_ms().to_string(), b"{}");
    let head = format!(
        "POST /webhooks/workos HTTP/1.1\r\nHost: x\r\nWorkOS-Signature: {signature}\r\n\
         Content-Length: 9\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
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
    for path in ["/webhook", "/webhooks/workos/2?secret=1", "/webhook"] {
        let answer = post(&agent(), &url(path), b"{}", &[("WorkOS-Signature", &good)]).unwrap();
        assert_eq!(answer.status, 404);
    }
    assert_eq!(server.get("/webhook").status, 404, "a question is not a webhook");
    assert!(part_of_a_body(&server).starts_with("HTTP/1.1 408 "));
    let refused = json!({
        "signature_missing": 0, "signature_malformed": 0, "signature_mismatch": 3,
        "timestamp_outside_tolerance": 0, "body_timeout": 1, "body_too_large": 3,
        "unsupported_encoding": 0, "not_found": 3,
    });
    assert_eq!(server.get("/rollcall/v1/stats").json()["refused_webhooks"], refused);
    // A line of the log may come a moment after the answer.
    let warnings = (0..500)
        .find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            let text = fs::read_to_string(&log).unwrap();
            text.contains("body_timeout").then_some(text)
        })
        .expect("the last warning comes");
    let of = |text: &str| warnings.lines().filter(|line| line.contains(text)).count();
    for reason in [
        "body_timeout",
        "body_too_large",
        "signature_mismatch",
        "\"/webhook\"",
        "\"/webhooks/workos/2\"",
    ] {
        assert_eq!(of(reason), 1, "{reason}: {warnings}");
    }
    assert_eq!(of("count=1"), 5, "{warnings}");
    assert_eq!(of("secret"), 0, "{warnings}");
}

/// Runs a command with its environment until it ends.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ROLLCALL_")) {
        command.env_remove(name);
    }
    let output = command.args(arguments).envs(environment.iter().copied()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn every_option_of_serve_has_a_variable() {
    let (code, help) = run(&["serve", "--help"], &[]);
    assert_eq!(code, Some(0));
    let options = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    let mut count = 0;
    for option in options.filter(|option| !option.starts_with("help")) {
        let name = option.split([' ', '=']).next().unwrap().to_uppercase().replace('-', "_");
        assert!(help.contains(&format!("[env: ROLLCALL_{name}")), "{name}: {help}");
        count += 1;
    }
    assert!(count >= 12, "{help}");
    let data = tempfile::tempdir().unwrap();
    for (name, value) in [
        ("ROLLCALL_LISTEN", "nowhere"),
        ("ROLLCALL_BODY_BYTES_MAX", "12000001"),
        ("ROLLCALL_TOLERANCE", "soon"),
        ("ROLLCALL_WEBHOOK_PATH", "/a,/directories"),
        ("ROLLCALL_PUBLISH_CHECKPOINTS", "/no/such/folder"),
    ] {
        let settings =
            [("ROLLCALL_WEBHOOK_SECRETS", "s"), ("ROLLCALL_API_KEYS", "k"), (name, value)];
        let folder = data.path().join("data");
        let (code, said) = run(&["serve", "--data", folder.to_str().unwrap()], &settings);
        assert_eq!(code, Some(1), "{name}: {said}");
        assert!(!folder.exists() && !said.contains("http://"), "{name}: {said}");
    }
}

#[test]
fn only_a_variable_is_split_at_commas_and_its_pieces_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let out = folder.path().join("out,a");
    fs::create_dir(&out).unwrap();
    let out = out.to_str().unwrap();
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    for (variable, option) in [
        ("ROLLCALL_PUBLISH_CHECKPOINTS", "--publish-checkpoints"),
        ("ROLLCALL_WEBHOOK_PATH", "--webhook-path"),
    ] {
        let settings = [
            ("ROLLCALL_WEBHOOK_SECRETS", "s"),
            ("ROLLCALL_API_KEYS", "k"),
            (variable, "http://127.0.0.1:1/?token=amber,cobalt"),
        ];
        let (code, said) = run(&serve, &settings);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(variable) && said.contains(option), "{said}");
        assert!(!said.contains("amber") && !said.contains("cobalt"), "{said}");
    }
    let server = Server::start_with(&data, &["--publish-checkpoints", out]);
    server.deliver(&user("u", "d", "ana", "2026-01-01T00:00:00Z", "e", "x.y"));
    assert_eq!(server.stop(), 0);
    assert!(fs::read_dir(out).unwrap().count() > 0);
}

#[test]
fn a_variable_holds_several_paths_of_webhooks_and_an_empty_one_none() {
    for (paths, expected) in [("/a,/b", [200, 200, 404]), ("", [404, 404, 200])] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", r#"exec "$0" "$@""#]).arg(binary()).env("ROLLCALL_WEBHOOK_PATH", paths);
        let server = Server::start_command(command, &folder.path().join("data"), &[]);
        let header = signature(SECRET, &now_ms().to_string(), b"x");
        let posts = ["/a", "/b", "/webhooks/workos"].map(|path| {
            let url = format!("{}{path}", server.url);
            post(&agent(), &url, b"x", &[("WorkOS-Signature", &header)]).unwrap().status
        });
        assert_eq!(posts, expected, "{paths}");
        assert_eq!(server.stop(), 0);
    }
}

#[test]
fn a_secret_that_is_set_in_both_forms_is_refused_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    fs::write(&file, "s\n").unwrap();
    let (file, data) = (file.to_str().unwrap(), folder.path().join("data"));
    let serve = ["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()];
    let send = ["send", "--url", "http://127.0.0.1:1/"];
    for (arguments, name) in [
        (&serve[..], "ROLLCALL_WEBHOOK_SECRETS"),
        (&serve, "WORKOS_WEBHOOK_SECRET"),
        (&serve, "ROLLCALL_API_KEYS"),
        (&send, "ROLLCALL_WEBHOOK_SECRET"),
        (&["users"], "ROLLCALL_API_KEY"),
    ] {
        let file_variable = format!("{name}_FILE");
        let mut settings = vec![
            ("ROLLCALL_WEBHOOK_SECRETS", "s"),
            ("ROLLCALL_API_KEYS", "k"),
            (file_variable.as_str(), file),
        ];
        settings.extend((!name.ends_with('S')).then_some((name, "s")));
        let (code, said) = run(arguments, &settings);
        assert_eq!(code, Some(1), "{name}: {said}");
        assert!(said.contains(&format!("both {name} and {file_variable} are set")), "{said}");
    }
    let missing = [("ROLLCALL_WEBHOOK_SECRETS_FILE", "/no/such/file"), ("ROLLCALL_API_KEYS", "k")];
    let (code, said) = run(&serve, &missing);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("/no/such/file") && said.contains("ROLLCALL_WEBHOOK_SECRETS_FILE"));
    assert!(!data.exists());
}

/// Asks until `condition` holds: a signal is handled a moment after it is sent.
fn soon(condition: impl Fn() -> bool) -> bool {
    (0..500).any(|_| {
        let holds = condition();
        if !holds {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        holds
    })
}

#[test]
fn sighup_reads_the_files_of_secrets_again_and_never_ends_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (secrets, keys) = (folder.path().join("secrets"), folder.path().join("keys"));
    fs::write(&secrets, " whsec_one ,whsec_two\n").unwrap();
    fs::write(&keys, "sk_key1\nsk_key2\n").unwrap();
    let log = folder.path().join("log");
    let mut command = Command::new("sh");
    let script = "unset ROLLCALL_WEBHOOK_SECRETS ROLLCALL_API_KEYS; \
        exec env ROLLCALL_LOG=info \"$0\" \"$@\" 2>>\"$LOG\"";
    command
        .args(["-c", script])
        .arg(binary())
        .env("LOG", &log)
        .env("ROLLCALL_WEBHOOK_SECRETS_FILE", &secrets)
        .env("ROLLCALL_API_KEYS_FILE", &keys);
    let server = Server::start_command(command, &folder.path().join("data"), &[]);
    let posts = |secret: &str| {
        let header = signature(secret, &now_ms().to_string(), b"x");
        server.post_with(b"x", &[("WorkOS-Signature", &header)]).status
    };
    let asks = |key: &str| {
        let header = format!("Bearer {key}");
        server.get_with("/directories", &[("Authorization", &header)]).status
    };
    assert_eq!([posts("whsec_one"), posts("whsec_two"), posts("whsec_three")], [200, 200, 401]);
    assert_eq!([asks("sk_key1"), asks("sk_key2"), asks("sk_key3")], [200, 200, 401]);
    fs::write(&secrets, "whsec_two\nwhsec_three").unwrap();
    fs::write(&keys, "sk_key3").unwrap();
    signal(server.pid(), "HUP");
    assert!(soon(|| asks("sk_key3") == 200));
    assert_eq!([posts("whsec_one"), posts("whsec_two"), posts("whsec_three")], [401, 200, 200]);
    assert_eq!([asks("sk_key1"), asks("sk_key2")], [401, 401]);
    // A file that cannot be used changes nothing.
    fs::write(&secrets, "").unwrap();
    fs::write(&keys, "sk_key4").unwrap();
    let logged = |text: &str| fs::read_to_string(&log).unwrap().contains(text);
    signal(server.pid(), "HUP");
    assert!(soon(|| logged("cannot be read again")));
    assert_eq!([posts("whsec_three"), u16::from(asks("sk_key4") == 401)], [200, 1]);
    // A pipe would be waited for, and no later signal would count.
    fs::remove_file(&secrets).unwrap();
    assert!(Command::new("mkfifo").arg(&secrets).status().unwrap().success());
    signal(server.pid(), "HUP");
    assert!(soon(|| logged("is not a regular file")));
    fs::remove_file(&secrets).unwrap();
    fs::write(&secrets, "whsec_two").unwrap();
    signal(server.pid(), "HUP");
    assert!(soon(|| asks("sk_key4") == 200));
    for secret in ["whsec_one", "whsec_two", "whsec_three", "sk_key"] {
        assert!(!logged(secret), "{secret}");
    }
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_variable_that_is_not_text_is_refused_by_its_name() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let serve = ["serve", "--data", data.to_str().unwrap()];
    let users = ["users", "--directory", "d"];
    let send = ["send", "--forge", "dsync.deleted", "--directory", "d"];
    for (arguments, name) in [
        (&serve[..], "ROLLCALL_WEBHOOK_SECRETS"),
        (&serve, "WORKOS_WEBHOOK_SECRET"),
        (&serve, "ROLLCALL_API_KEYS"),
        (&serve, "ROLLCALL_LOG"),
        (&serve, "ROLLCALL_LISTEN"),
        (&serve, "ROLLCALL_TOLERANCE"),
        (&serve, "ROLLCALL_WEBHOOK_PATH"),
        (&users, "ROLLCALL_URL"),
        (&users, "ROLLCALL_API_KEY"),
        (&send, "ROLLCALL_WEBHOOK_URL"),
        (&send, "ROLLCALL_WEBHOOK_SECRET"),
    ] {
        let mut command = Command::new(binary());
        command.args(arguments);
        let others = ["ROLLCALL_WEBHOOK_SECRETS", "ROLLCALL_API_KEYS", "ROLLCALL_API_KEY"];
        command.envs(others.map(|other| (other, "k")));
        let output = command.env(name, OsStr::from_bytes(b"a\xffb")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(&format!("{name} is not UTF-8 text")), "{name}: {said}");
        assert!(output.stdout.is_empty() && !data.exists(), "{name}");
    }
}

#[test]
fn a_start_that_cannot_listen_leaves_no_folder_and_prints_no_url() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("first"));
    let address = server.url.strip_prefix("http://").unwrap();
    let data = folder.path().join("second");
    let settings = [("ROLLCALL_WEBHOOK_SECRETS", "s"), ("ROLLCALL_API_KEYS", "k")];
    for listen in [address, "256.0.0.1:1", "127.0.0.1"] {
        let arguments = ["serve", "--listen", listen, "--data", data.to_str().unwrap()];
        let (code, said) = run(&arguments, &settings);
        assert!(matches!(code, Some(1 | 2)), "{listen}: {said}");
        assert!(!said.contains("http://") && !data.exists(), "{listen}: {said}");
    }
}

#[test]
fn the_log_says_when_the_fold_begins_and_when_it_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let logged = Logged::start(folder.path(), "0022", &[]);
    logged.server.deliver(&user("u", "d", "ana", "2026-01-01T00:00:00Z", "e", "x.y"));
    assert_eq!(logged.server.stop(), 0);
    fs::remove_file(&logged.log).unwrap();
    fs::remove_file(folder.path().join("data/snapshot")).unwrap();
    let logged = Logged::start(folder.path(), "0022", &[]);
    let lines: Vec<String> = logged.lines("");
    let at = |text: &str| lines.iter().position(|line| line.contains(text));
    let (fold, ready) = (at("folding the log").unwrap(), at("ready").unwrap());
    assert!(fold < ready, "{lines:?}");
}
