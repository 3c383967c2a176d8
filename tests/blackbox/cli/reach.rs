//! The way to a server: what a command says if it cannot reach one, and the authorities it trusts.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::read::{err, out, rollcall};
use crate::kit::server::{SECRET, Server, binary, user};

#[test]
fn a_refused_connection_names_the_server_and_where_to_find_another() {
    // A port on which nothing listens any more.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    for (arguments, may_read_a_folder) in [
        (&["users", "--directory", "d"][..], true),
        (&["status"], true),
        (&["mapping", "show"], true),
        (&["changes"], true),
        (&["log-key", "show"], true),
        (&["pull"], false),
        (&["reconcile", "--directory", "d"], false),
        (&["rebuild"], false),
    ] {
        let mut command = rollcall(arguments);
        let output = command.args(["--url", &url, "--api-key", "k"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", err(&output));
        for part in [&url[..], "`rollcall serve`", "ROLLCALL_URL"] {
            assert!(err(&output).contains(part), "{arguments:?}: {}", err(&output));
        }
        let names_folders = err(&output).contains("--data");
        assert_eq!(names_folders, may_read_a_folder, "{arguments:?}: {}", err(&output));
    }
    let send = ["send", "--url", &url, "--secret", SECRET, "--forge", "x"];
    let output = rollcall(&send).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    for part in ["`rollcall serve`", "ROLLCALL_WEBHOOK_URL"] {
        assert!(err(&output).contains(part), "{}", err(&output));
    }
}

/// Serves one answer of so many bytes, and returns its URL and a thread that returns how many of
/// them were taken.
fn endless(length: usize) -> (String, std::thread::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).unwrap();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let (piece, mut taken) = (vec![b' '; 1 << 20], 0);
        while taken < length && stream.write_all(&piece[..piece.len().min(length - taken)]).is_ok()
        {
            taken += piece.len();
        }
        taken
    });
    (url, serving)
}

#[test]
fn a_command_keeps_at_most_64_mebibytes_of_an_answer() {
    for (arguments, length) in [(&["status"][..], 1 << 30), (&["changes"], 1 << 30)] {
        let (url, serving) = endless(length);
        let mut command = rollcall(arguments);
        let output = command.args(["--url", &url, "--api-key", "k"]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains("64 MiB"), "{arguments:?}: {}", err(&output));
        let taken = serving.join().unwrap();
        // What lies in the buffers of the connection counts as taken.
        assert!((64 << 20..96 << 20).contains(&taken), "{arguments:?}: {taken}");
    }
}

#[test]
fn https_to_a_plain_port_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let url = server.url.replace("http://", "https://");
    let output = rollcall(&["status", "--url", &url, "--api-key", "k"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    let told = format!("speaks plain HTTP: use {}", server.url);
    assert!(err(&output).contains(&told), "{}", err(&output));
}

#[test]
fn bytes_that_are_no_request_leave_no_error_in_the_log() {
    let folder = tempfile::tempdir().unwrap();
    for log in ["", "info", "error"] {
        let mut command = Command::new(binary());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path().join("d"));
        command.env("ROLLCALL_WEBHOOK_SECRETS", SECRET).env("ROLLCALL_API_KEYS", "k");
        command.env("ROLLCALL_LOG", log).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        let address = url.trim().strip_prefix("http://").unwrap().to_owned();
        for bytes in [&b"\x16\x03\x01\x02\0\x01"[..], b"GET / HTTP/9.9\r\n\r\n", b"\0\xff\r\n\r\n"]
        {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(bytes).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 400"), "{bytes:?}");
        }
        crate::kit::server::signal(child.id(), "TERM");
        let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
        assert!(!said.contains("ERROR"), "ROLLCALL_LOG={log}: {said}");
    }
}

/// An HTTPS server with a certificate of its own, which answers one question.
struct Secured {
    child: Child,
    url: String,
}

impl Secured {
    /// Starts it in a folder, where `ca.pem` is its certificate. Returns `None` without OpenSSL.
    fn start(folder: &Path) -> Option<Secured> {
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            command.args(arguments.split(' ')).current_dir(folder);
            command.stderr(Stdio::null()).stdin(Stdio::null());
            command
        };
        let made = openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout key.pem \
             -out ca.pem -days 2 -subj /CN=rollcall-test -addext subjectAltName=IP:127.0.0.1 \
             -addext basicConstraints=critical,CA:FALSE",
        );
        let made = { made }.stdout(Stdio::null()).status().ok()?;
        assert!(made.success());
        let policy = r#"{"object":"policy","version":0,"inactive_users":"retain"}"#;
        let head = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n";
        std::fs::create_dir_all(folder.join("rollcall/v1")).unwrap();
        std::fs::write(folder.join("rollcall/v1/policy"), format!("{head}{policy}")).unwrap();
        let mut child = openssl("s_server -accept 127.0.0.1:0 -cert ca.pem -key key.pem -HTTP")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let port = lines.find_map(|line| Some(line.ok()?.strip_prefix("ACCEPT ")?.to_owned()));
        let port = port.unwrap().rsplit(':').next().unwrap().to_owned();
        // The rest is read, so that the server never waits for it.
        std::thread::spawn(move || lines.count());
        Some(Secured { child, url: format!("https://127.0.0.1:{port}") })
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn authorities_are_those_of_the_option_or_of_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let Some(secured) = Secured::start(folder.path()) else {
        assert!(std::env::var_os("ROLLCALL_CLIENTS_REQUIRED").is_none(), "openssl is missing");
        return;
    };
    let ca = folder.path().join("ca.pem").to_str().unwrap().to_owned();
    let key = folder.path().join("key.pem").to_str().unwrap().to_owned();
    let policy = ["policy", "--api-key", "k", "--url", &secured.url];
    let ask = |more: &[&str], file: Option<&str>| {
        let mut command = rollcall(&[&policy, more].concat());
        command.env_remove("SSL_CERT_DIR").env_remove("SSL_CERT_FILE");
        command.envs(file.map(|file| ("SSL_CERT_FILE", file))).output().unwrap()
    };
    assert!(out(&ask(&["--ca-cert", &ca], None)).contains("retain"));
    assert!(out(&ask(&[], Some(&ca))).contains("retain"));
    let output = ask(&[], None);
    assert_eq!(output.status.code(), Some(2), "{}", err(&output));
    assert!(err(&output).contains("invalid peer certificate"), "{}", err(&output));
    assert!(err(&output).contains("--ca-cert"), "{}", err(&output));
    for (more, file, told) in [
        (&["--ca-cert", &key][..], None, "has no certificate"),
        (&["--ca-cert", "/no/such/file"], None, "cannot read `/no/such/file`"),
        (&[], Some("/no/such/file"), "SSL_CERT_FILE"),
    ] {
        let output = ask(more, file);
        assert_eq!(output.status.code(), Some(1), "{}", err(&output));
        assert!(err(&output).contains(told), "{}", err(&output));
    }
}

#[test]
fn a_variable_that_leads_to_no_certificate_never_means_to_trust_the_public_authorities() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let pem = |kind: &str| format!("-----BEGIN {kind}-----\nMAA=\n-----END {kind}-----\n");
    std::fs::write(path("key.pem"), pem("PRIVATE KEY")).unwrap();
    std::fs::write(path("ca.der"), b"\x30\x82\x01\x0a\x30\x82").unwrap();
    std::fs::create_dir(path("empty")).unwrap();
    let run = |arguments: &[&str], variable: &str, value: &str| {
        let mut command = rollcall(arguments);
        command.env_remove("SSL_CERT_DIR").env_remove("SSL_CERT_FILE").env(variable, value);
        command.env("ROLLCALL_WEBHOOK_SECRETS", SECRET).env("ROLLCALL_API_KEYS", "k");
        command.output().unwrap()
    };
    let data = path("data");
    let url = "https://127.0.0.1:9";
    for (variable, value) in [
        ("SSL_CERT_FILE", "/dev/null".to_owned()),
        ("SSL_CERT_FILE", path("key.pem")),
        ("SSL_CERT_FILE", path("ca.der")),
        ("SSL_CERT_FILE", String::new()),
        ("SSL_CERT_DIR", path("empty")),
        ("SSL_CERT_DIR", path("missing")),
        ("SSL_CERT_DIR", ":".to_owned()),
    ] {
        for arguments in [
            &["policy", "--api-key", "k", "--url", url][..],
            &["policy", "--api-key", "k", "--url", "HTTPS://127.0.0.1:9"],
            &["serve", "--listen", "127.0.0.1:0", "--data", &data, "--publish-checkpoints", url],
        ] {
            let output = run(arguments, variable, &value);
            let said = err(&output);
            assert_eq!(output.status.code(), Some(1), "{variable}={value}: {said}");
            assert!(said.contains(&format!("{variable} (`{value}`)")), "{said}");
        }
    }
}

#[test]
fn checkpoints_are_posted_to_receivers_whose_authority_the_environment_names() {
    let folder = tempfile::tempdir().unwrap();
    let Some(secured) = Secured::start(folder.path()) else {
        assert!(std::env::var_os("ROLLCALL_CLIENTS_REQUIRED").is_none(), "openssl is missing");
        return;
    };
    let ca = folder.path().join("ca.pem");
    for (data, file, refused) in [("a", None, true), ("b", Some(&ca), false)] {
        let log = folder.path().join(format!("{data}.log"));
        let mut command = Command::new(binary());
        command.env_remove("SSL_CERT_DIR").env_remove("SSL_CERT_FILE");
        command.envs(file.map(|file| ("SSL_CERT_FILE", file)));
        command.stderr(std::fs::File::create(&log).unwrap());
        let publish = ["--publish-checkpoints", &secured.url];
        let server = Server::start_command(command, &folder.path().join(data), &publish);
        server.deliver(&user("u", "d", "ana", "2026-01-01T00:00:00Z", "e", "x.y"));
        assert_eq!(server.stop(), 0);
        // OpenSSL's server takes no posts, so only the error differs.
        let said = std::fs::read_to_string(log).unwrap();
        assert!(said.contains("could not be published"), "{said}");
        assert_eq!(said.contains("invalid peer certificate"), refused, "{said}");
    }
}

#[test]
fn the_certificate_of_a_source_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let Some(secured) = Secured::start(folder.path()) else {
        assert!(std::env::var_os("ROLLCALL_CLIENTS_REQUIRED").is_none(), "openssl is missing");
        return;
    };
    let head = "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n";
    let list = r#"{"object":"list","data":[],"list_metadata":{"before":null,"after":null}}"#;
    for page in ["directories?limit=1", "events?events=dsync.user.created&limit=1"] {
        std::fs::write(folder.path().join(page), format!("{head}{list}")).unwrap();
    }
    let ca = folder.path().join("ca.pem");
    for (file, code, expected) in
        [(None, 1, "invalid peer certificate"), (Some(&ca), 0, "it answers and takes the key")]
    {
        let mut command = Command::new(binary());
        command.args(["config", "check", "--probe", "--listen", "127.0.0.1:0", "--pull"]);
        command.arg(&secured.url).arg("--data").arg(folder.path().join("data"));
        command.env_remove("SSL_CERT_DIR").env_remove("SSL_CERT_FILE");
        command.env_remove("ROLLCALL_WEBHOOK_SECRETS").envs(file.map(|ca| ("SSL_CERT_FILE", ca)));
        command.env("ROLLCALL_API_KEYS", "k").env("WORKOS_API_KEY", "k");
        let output = command.output().unwrap();
        let told = String::from_utf8(output.stdout.clone()).unwrap();
        assert!(told.contains(expected), "{told}");
        assert_eq!(output.status.code(), Some(code), "{told}{}", err(&output));
    }
}
