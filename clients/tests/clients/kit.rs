//! The parts that the cases share: the server in a process of its own, feeding it, running a
//! command to its end, catching webhooks.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;

/// With this in its environment this binary is the command line of Rollcall.
pub const AS_ROLLCALL: &str = "ROLLCALL_CLIENTS_AS_ROLLCALL";
pub const SECRET: &str = "whsec_example";
pub const API_KEY: &str = "sk_example";

/// Time for `rollcall send`, and for a server to start: only a hang runs into it.
const WITHIN: Duration = Duration::from_secs(120);

/// A command of Rollcall, with an environment of its own.
pub fn rollcall(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    for (name, _) in
        std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROLLCALL_"))
    {
        command.env_remove(name);
    }
    command
        .env_remove("WORKOS_WEBHOOK_SECRET")
        .env(AS_ROLLCALL, "1")
        .env("ROLLCALL_LOG", "error")
        .args(arguments);
    command
}

/// A running server with a folder of its own. Killed when dropped.
pub struct Server {
    child: Child,
    // Held for the server's life: a pipe that is closed would break what it prints.
    _output: BufReader<ChildStdout>,
    pub url: String,
    folder: tempfile::TempDir,
}

impl Server {
    /// A server whose log is empty.
    pub fn start() -> Server {
        Server::start_as(|_| {})
    }

    /// A server whose log is empty, with more arguments.
    pub fn start_as(add: impl FnOnce(&mut Command)) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let mut command = rollcall(&["serve", "--listen", "127.0.0.1:0", "--data"]);
        command
            .arg(folder.path().join("data"))
            .env("ROLLCALL_WEBHOOK_SECRETS", SECRET)
            .env("ROLLCALL_API_KEYS", API_KEY);
        add(&mut command);
        let (child, output, url) = started(command);
        Server { child, _output: output, url, folder }
    }

    /// A server that has received the webhooks of a file, one after the other.
    pub fn with(events: &Path) -> Server {
        let server = Server::start();
        server.send(events);
        server
    }

    /// Delivers each line of a file as a webhook, in their order, also lines that are not events:
    /// `rollcall send` would refuse those.
    pub fn send(&self, events: &Path) {
        let text = std::fs::read_to_string(events).unwrap();
        text.lines().for_each(|line| self.deliver(line));
    }

    /// Delivers one body. Tries again while the log is not open yet.
    fn deliver(&self, body: &str) {
        let agent: ureq::Agent =
            ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let began = Instant::now();
        loop {
            let header =
                rollcall_generator::sign(SECRET, rollcall::time::now_ms(), body.as_bytes());
            let request = agent
                .post(format!("{}/webhooks/workos", self.url))
                .header("WorkOS-Signature", header)
                .content_type("application/json");
            let status = request.send(body).unwrap().status().as_u16();
            if status == 200 {
                return;
            }
            assert!(status == 503 && began.elapsed() < WITHIN, "{status}: {body}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the log is folded, and the server answers questions.
    pub fn wait_until_ready(&self) {
        let began = Instant::now();
        while ureq::get(format!("{}/readyz", self.url)).call().is_err() {
            assert!(began.elapsed() < WITHIN, "the server is not ready");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Delivers many webhooks, several at a time: in which order they arrive is left to chance.
    pub fn send_at_once(&self, lines: &[String]) {
        send(
            &format!("{}/webhooks/workos", self.url),
            &self.file("many.jsonl", lines.join("\n").as_bytes()),
            16,
        );
    }

    /// Delivers webhooks in their order.
    pub fn send_lines<'a>(&self, lines: impl IntoIterator<Item = &'a str>) {
        self.send(
            &self.file("events.jsonl", lines.into_iter().collect::<Vec<_>>().join("\n").as_bytes()),
        );
    }

    /// The server's data folder.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A folder for files of a test, which is removed with the server.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file for a script beside the server's data.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts a program that prints its URL first.
pub fn started(mut command: Command) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert!(line.starts_with("http://127.0.0.1:"), "the first line is `{line}`");
    (child, output, line.trim().to_owned())
}

/// `rollcall send` of a file to a URL, so many at a time.
pub fn send(url: &str, events: &Path, at_once: usize) {
    let command = sending(url, events, at_once);
    finished(command, WITHIN).unwrap_or_else(|said| panic!("rollcall send: {said}"));
}

/// `rollcall send` of a file to a receiver that is not Rollcall and answers 200 to everything.
pub fn send_to_receiver(url: &str, events: &Path) {
    let said = finished(sending(url, events, 1), WITHIN).unwrap_err();
    let count = std::fs::read_to_string(events).unwrap().lines().count();
    // No event failed or was refused, and none counts as recorded.
    let told = format!("{count} events were answered with 2xx by a program that does not say");
    assert!(said.starts_with("exit status: 2\n") && said.contains(&told), "{said}");
}

fn sending(url: &str, events: &Path, at_once: usize) -> Command {
    let mut command = rollcall(&[
        "send",
        "--url",
        url,
        "--secret",
        SECRET,
        "--concurrency",
        &at_once.to_string(),
    ]);
    command.arg(events);
    command
}

/// Runs a command to its end; what it printed.
///
/// # Errors
/// All it said, if it failed or did not end in time.
pub fn finished(mut command: Command, within: Duration) -> Result<String, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{command:?}: {error}"))?;
    let (done, ended) = mpsc::channel();
    let read = |mut stream: Box<dyn Read + Send>| {
        let done = done.clone();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stream.read_to_end(&mut bytes);
            let _ = done.send(());
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let output = read(Box::new(child.stdout.take().unwrap()));
    let errors = read(Box::new(child.stderr.take().unwrap()));
    // Both streams end when the program does.
    let in_time = (0..2).all(|_| ended.recv_timeout(within).is_ok());
    if !in_time {
        let _ = child.kill();
    }
    let status = child.wait().unwrap();
    let (output, errors) = (output.join().unwrap(), errors.join().unwrap());
    match (in_time, status.success()) {
        (true, true) => Ok(output),
        (true, false) => Err(format!("{status}\n{output}{errors}")),
        (false, _) => Err(format!("it did not end within {within:?}\n{output}{errors}")),
    }
}

/// A webhook as it came over the wire.
#[derive(Clone, Serialize)]
pub struct Delivery {
    pub header: String,
    pub body: String,
}

/// Runs `rollcall send` of a file to a receiver that answers 200 to everything; what came.
pub fn caught(events: &Path) -> Vec<Delivery> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (delivered, deliveries) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            receive(stream.unwrap(), &delivered);
        }
    });
    send_to_receiver(&format!("http://{address}/"), events);
    deliveries.try_iter().collect()
}

/// Receives the webhooks of one connection.
fn receive(stream: TcpStream, delivered: &mpsc::Sender<Delivery>) {
    let mut reader = BufReader::new(&stream);
    loop {
        let (mut header, mut body_bytes) = (None, 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                if line.trim_end().is_empty() {
                    break;
                }
                continue;
            };
            match name.to_ascii_lowercase().as_str() {
                "workos-signature" => header = Some(value.to_owned()),
                "content-length" => body_bytes = value.parse().unwrap(),
                _ => {}
            }
        }
        let mut body = vec![0; body_bytes];
        reader.read_exact(&mut body).unwrap();
        delivered
            .send(Delivery { header: header.unwrap(), body: String::from_utf8(body).unwrap() })
            .unwrap();
        (&stream)
            .write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
            )
            .unwrap();
    }
}

/// GET over a connection of its own; the body, which must be JSON.
pub fn get_json(url: &str) -> Value {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET / HTTP/1.0\r\nHost: {address}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    serde_json::from_str(body).unwrap()
}

/// The path of a file of the small story that the tables ask about.
pub fn story(name: &str) -> PathBuf {
    super::libraries::sources().join("story").join(name)
}

/// The folder of the stories that all tests share.
pub fn fixtures() -> PathBuf {
    super::libraries::sources().join("../fixtures")
}

/// The folders of all stories, in their order.
pub fn stories() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixtures()).unwrap();
    let mut folders: Vec<PathBuf> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("events.jsonl").is_file())
        .collect();
    folders.sort_unstable();
    folders
}

pub fn lines(path: &Path) -> Vec<String> {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

pub fn json_lines(path: &Path) -> Vec<Value> {
    lines(path).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}
