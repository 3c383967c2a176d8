//! nginx and Caddy in front of a server, with the files of packaging/: TLS, and bodies that pass
//! byte for byte. Only `tests/long proxies` runs these: they need both programs.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::kit::server::{
    API_KEY, Answer, SECRET, Server, binary, get, now_ms, post, signature, user,
};
use crate::packages::files::packaged;

/// A proxy that ends TLS. Killed when dropped.
struct Proxy {
    child: Child,
    url: String,
    agent: ureq::Agent,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns a port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Makes a certificate for `localhost` in `folder`: `crt.pem` and `key.pem`.
fn make_certificate(folder: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-keyout", "key.pem", "-out", "crt.pem", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .current_dir(folder)
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
}

/// Replaces a part of a file that must be there.
fn with(text: &str, part: &str, other: &str) -> String {
    assert!(text.contains(part), "`{part}` is missing");
    text.replace(part, other)
}

impl Proxy {
    fn start(mut command: Command, folder: &Path, port: u16) -> Proxy {
        let certificate = fs::read(folder.join("crt.pem")).unwrap();
        let root = Certificate::from_pem(&certificate).unwrap();
        let roots = RootCerts::new_with_certs(&[root]);
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .timeout_global(Some(Duration::from_secs(60)));
        let log = fs::File::create(folder.join("log")).unwrap();
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let (url, agent) = (format!("https://localhost:{port}"), config.build().into());
        let mut proxy = Proxy { child, url, agent };
        for _ in 0..3000 {
            let ended = proxy.child.try_wait().unwrap();
            let log = || fs::read_to_string(folder.join("log")).unwrap();
            assert!(ended.is_none(), "the proxy ended: {}", log());
            if proxy.agent.get(format!("{}/healthz", proxy.url)).call().is_ok() {
                return proxy;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the proxy does not answer")
    }

    /// nginx with the packaged file, which is changed only in ports and paths.
    fn nginx(folder: &Path, upstream: &str) -> Proxy {
        let port = free_port();
        let text = packaged("nginx/rollcall.conf");
        let text = with(&text, "server 127.0.0.1:8080;", &format!("server {upstream};"));
        let text = with(&text, "listen 443 ssl;", &format!("listen 127.0.0.1:{port} ssl;"));
        let text = with(&text, "listen [::]:443 ssl;", "");
        let text = with(&text, "/etc/nginx/tls/rollcall.crt", "crt.pem");
        let text = with(&text, "/etc/nginx/tls/rollcall.key", "key.pem");
        let text = with(&text, "/var/log/nginx/rollcall.log", "access.log");
        fs::write(folder.join("rollcall.conf"), text).unwrap();
        let main = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr; events {{}}\n\
             http {{ client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f;\n\
             uwsgi_temp_path u; scgi_temp_path s; include {}/rollcall.conf; }}",
            folder.display()
        );
        fs::write(folder.join("nginx.conf"), main).unwrap();
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(folder)
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .args(["-e", "stderr"]);
        Proxy::start(command, folder, port)
    }

    /// Caddy with the packaged file, and the certificate of the test.
    fn caddy(folder: &Path, upstream: &str) -> Proxy {
        let port = free_port();
        let text = packaged("caddy/Caddyfile");
        let name = "{$ROLLCALL_NAME:rollcall.example.com} {";
        let tls = format!("{name}\n\ttls {0}/crt.pem {0}/key.pem", folder.display());
        let text = with(&text, name, &tls);
        let text = format!("{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{text}");
        fs::write(folder.join("Caddyfile"), text).unwrap();
        let mut command = Command::new("caddy");
        command.args(["run", "--adapter", "caddyfile", "--config"]).arg(folder.join("Caddyfile"));
        command.env("ROLLCALL_NAME", format!("https://localhost:{port}"));
        command.env("ROLLCALL_UPSTREAM", upstream);
        command.env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder).env("HOME", folder);
        Proxy::start(command, folder, port)
    }

    /// Signs a body and posts it through the proxy, with more headers.
    fn post(&self, body: &[u8], headers: &[(&str, &str)]) -> Answer {
        let signature = signature(SECRET, &now_ms().to_string(), body);
        let headers = [&[("WorkOS-Signature", signature.as_str())], headers].concat();
        post(&self.agent, &format!("{}/webhooks/workos", self.url), body, &headers).unwrap()
    }

    fn get(&self, path: &str) -> Answer {
        get(&self.agent, &self.url, path, &[("Authorization", &format!("Bearer {API_KEY}"))])
    }
}

/// Bodies that a proxy which parses, trims or transcodes would change.
fn odd_bodies() -> Vec<Vec<u8>> {
    let event = |id: &str, name: &str| {
        user("user_1", "directory_1", name, "2026-01-01T00:00:00.000Z", id, "dsync.user.updated")
    };
    let large = "x".repeat(1_900_000);
    vec![
        event("event_plain", "ana").into_bytes(),
        format!(" \r\n\t{}\r\n\r\n", event("event_space", "ana")).into_bytes(),
        event("event_letters", "Ana Ünïcödé \u{1f600} \u{202e}").into_bytes(),
        event("event_escapes", "a").replace("\"a\"", r#""\u0041\/\u00e9""#).into_bytes(),
        event("event_form", "a=1&b=%20+c").into_bytes(),
        event("event_large", &large).into_bytes(),
    ]
}

fn check(proxy: &Proxy, server: &Server) {
    for (at, body) in odd_bodies().iter().enumerate() {
        let answer = proxy.post(body, &[]);
        assert_eq!(answer.status, 200, "{at}: {}", String::from_utf8_lossy(&answer.body));
        let seq = answer.json()["seq"].as_u64().unwrap();
        let entry = server.get(&format!("/rollcall/v1/log/entries/{seq}")).json();
        let kept = STANDARD.decode(entry["body"].as_str().unwrap()).unwrap();
        assert!(kept == *body, "body {at} was changed on its way");
    }
    // A wrong signature is refused by the server, with its own body.
    let url = format!("{}/webhooks/workos", proxy.url);
    let wrong = signature("whsec_other", &now_ms().to_string(), b"{}");
    let refused = post(&proxy.agent, &url, b"{}", &[("WorkOS-Signature", &wrong)]).unwrap();
    assert_eq!((refused.status, refused.code().as_str()), (401, "signature_mismatch"));
    // A compressed body reaches the server compressed: it is refused, and not unpacked on its way.
    let compressed = proxy.post(b"\x1f\x8b\x08\0", &[("Content-Encoding", "gzip")]);
    assert_eq!((compressed.status, compressed.code().as_str()), (415, "unsupported_encoding"));
    // One byte more than the limit. Caddy before 2.7 has 502 for it.
    let too_large = proxy.post(&vec![b' '; (4 << 20) + 1], &[]).status;
    assert!(too_large == 413 || too_large == 502, "{too_large}");
    // Questions of this machine pass, and metrics do not.
    assert_eq!(proxy.get("/directory_users?directory=directory_1").ids(), ["user_1"]);
    assert_eq!(proxy.get("/metrics").status, 404);
    // A connection that was idle for longer than the server keeps one costs no webhook.
    std::thread::sleep(Duration::from_millis(5_200));
    let late = user("user_2", "directory_1", "bo", "2026-01-02T00:00:00.000Z", "event_late", "x.y");
    assert_eq!(proxy.post(late.as_bytes(), &[]).status, 200);
}

/// Sends the history of 50 people through the proxy with `rollcall send`.
fn send_many(proxy: &Proxy, folder: &Path) {
    let generated = Command::new(binary()).args(["generate", "--people", "50"]).output().unwrap();
    let events = folder.join("events.jsonl");
    fs::write(&events, generated.stdout).unwrap();
    let mut send = Command::new(binary());
    send.args(["send", "--secret", SECRET, "--url"]).arg(format!("{}/webhooks/workos", proxy.url));
    send.arg("--ca-cert").arg(folder.join("crt.pem")).arg(&events);
    let output = send.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn signed_webhooks_pass_nginx_and_caddy_byte_for_byte() {
    if std::env::var_os("ROLLCALL_PROXIES").is_none() {
        return;
    }
    for start in [Proxy::nginx, Proxy::caddy] {
        let folder = tempfile::tempdir().unwrap();
        make_certificate(folder.path());
        let server = Server::start(&folder.path().join("data"));
        let upstream = server.url.strip_prefix("http://").unwrap();
        let proxy = start(folder.path(), upstream);
        check(&proxy, &server);
        send_many(&proxy, folder.path());
    }
}
