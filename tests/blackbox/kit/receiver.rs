//! A receiver of webhooks, which keeps what it got, and a server that sends to some.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::server::{Server, binary, mac, now_ms};

/// The secret of every endpoint with the format `workos`.
pub const OUT_SECRET: &str = "out-secret";
/// The secret of every endpoint with the format `standard`.
pub const STANDARD_SECRET: &str = "whsec_c3RhbmRhcmQtc2VjcmV0LW9mLXRlc3Rz";

/// The longest that a test waits for a webhook: only a hang takes so long.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A webhook that came.
#[derive(Clone, Debug)]
pub struct Received {
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// When its last byte was there.
    pub at: Instant,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The record, and the number of the consequence.
    pub fn place(&self) -> &str {
        self.header("rollcall-seq")
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub fn seq(&self) -> u64 {
        self.place().split('.').next().unwrap().parse().unwrap()
    }

    /// Checks the signature as the receiver's library would.
    pub fn check(&self) {
        let signed = self.header("workos-signature");
        if !signed.is_empty() {
            let (t, v1) = signed.split_once(", v1=").unwrap();
            let t = t.strip_prefix("t=").unwrap();
            assert_eq!(v1, mac(OUT_SECRET, t, &self.body));
            assert!((now_ms() - t.parse::<i64>().unwrap()).abs() < 180_000, "signed at {t}");
            return;
        }
        let (id, t) = (self.header("webhook-id"), self.header("webhook-timestamp"));
        let key = BASE64.decode(STANDARD_SECRET.strip_prefix("whsec_").unwrap()).unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(format!("{id}.{t}.").as_bytes());
        mac.update(&self.body);
        let v1 = BASE64.encode(mac.finalize().into_bytes());
        assert_eq!(self.header("webhook-signature"), format!("v1,{v1}"));
        assert!((now_ms() / 1000 - t.parse::<i64>().unwrap()).abs() < 180, "signed at {t}");
    }
}

/// What a receiver does with a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    Answer(u16),
    /// Answers after this time.
    Late(u16, Duration),
    /// Closes the connection without an answer.
    Close,
    /// Closes the connection within the answer's head.
    CloseWithin,
    /// Never answers.
    Hang,
    /// Redirects to another path.
    Redirect,
}

type React = Box<dyn Fn(&Received) -> Reaction + Send>;

struct Shared {
    got: Mutex<Vec<Received>>,
    came: Condvar,
    react: Mutex<React>,
    stopped: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

/// A receiver on a port of this machine. It ends when it is dropped, with all its connections.
pub struct Receiver {
    pub address: String,
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Receiver {
    /// Answers everything with 200.
    pub fn start() -> Receiver {
        Receiver::reacting(|_| Reaction::Answer(200))
    }

    pub fn reacting(react: impl Fn(&Received) -> Reaction + Send + 'static) -> Receiver {
        Receiver::at("127.0.0.1:0", react)
    }

    /// Listens at an address, perhaps that of one that has ended.
    pub fn at(address: &str, react: impl Fn(&Received) -> Reaction + Send + 'static) -> Receiver {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            got: Mutex::default(),
            came: Condvar::new(),
            react: Mutex::new(Box::new(react)),
            stopped: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let all = shared.clone();
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if all.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                all.connections.lock().unwrap().push(stream.try_clone().unwrap());
                let all = all.clone();
                thread::spawn(move || serve(&stream, &all));
            }
        });
        Receiver { address, shared, thread: Some(thread) }
    }

    pub fn react_by(&self, react: impl Fn(&Received) -> Reaction + Send + 'static) {
        *self.shared.react.lock().unwrap() = Box::new(react);
    }

    pub fn got(&self) -> Vec<Received> {
        self.shared.got.lock().unwrap().clone()
    }

    pub fn places(&self) -> Vec<String> {
        self.got().iter().map(|one| one.place().to_owned()).collect()
    }

    /// Waits until what came fits.
    pub fn wait_until(&self, what: &str, is_enough: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let begun = Instant::now();
        let mut got = self.shared.got.lock().unwrap();
        while !is_enough(&got) {
            let left = WAIT_MAX.checked_sub(begun.elapsed());
            let places: Vec<&str> = got.iter().map(Received::place).collect();
            let left = left.unwrap_or_else(|| panic!("{what} did not come, but {places:?}"));
            got = self.shared.came.wait_timeout(got, left).unwrap().0;
        }
        got.clone()
    }

    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        self.wait_until(&format!("{count} webhooks"), |got| got.len() >= count)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // The listener is waiting: one more connection wakes it.
        let _ = TcpStream::connect(&self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        for connection in self.shared.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn serve(mut stream: &TcpStream, shared: &Shared) {
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    while let Some(received) = read(&mut reader) {
        if shared.stopped.load(Ordering::SeqCst) {
            break;
        }
        let reaction = (shared.react.lock().unwrap())(&received);
        shared.got.lock().unwrap().push(received);
        shared.came.notify_all();
        let reply = |status: u16| format!("HTTP/1.1 {status} Status\r\nContent-Length: 0\r\n\r\n");
        let text = match reaction {
            Reaction::Answer(status) => reply(status),
            Reaction::Late(status, time) => {
                thread::sleep(time);
                reply(status)
            }
            Reaction::Redirect => {
                "HTTP/1.1 307 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".into()
            }
            Reaction::CloseWithin => "HTTP/1.1 200 O".into(),
            Reaction::Close => String::new(),
            Reaction::Hang => {
                // Until the other side leaves.
                let _ = reader.read(&mut [0]);
                break;
            }
        };
        let is_over = matches!(reaction, Reaction::Close | Reaction::CloseWithin);
        if stream.write_all(text.as_bytes()).is_err() || is_over {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn read(reader: &mut BufReader<&TcpStream>) -> Option<Received> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    assert!(first.starts_with("POST /"), "{first}");
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut received = Received { headers, body: Vec::new(), at: Instant::now() };
    received.body.resize(received.header("content-length").parse().unwrap(), 0);
    reader.read_exact(&mut received.body).ok()?;
    received.at = Instant::now();
    Some(received)
}

/// The table of an endpoint of this machine, with more lines.
pub fn endpoint(name: &str, address: &str, more: &str) -> String {
    let secret = match more.contains("standard") {
        true => "TEST_STANDARD_SECRET",
        false => "TEST_OUT_SECRET",
    };
    format!(
        "[[endpoints]]\nname = \"{name}\"\nurl = \"http://{address}/webhooks\"\n\
         secret_env = \"{secret}\"\nallow_private = true\n{more}\n"
    )
}

/// Writes a configuration with endpoints.
pub fn config_with(folder: &Path, endpoints: &[String]) -> PathBuf {
    let file = folder.join("rollcall.toml");
    std::fs::write(&file, endpoints.concat()).unwrap();
    file
}

/// A command that knows the secrets of the endpoints.
pub fn sending_command() -> Command {
    let mut command = Command::new(binary());
    command.env("TEST_OUT_SECRET", OUT_SECRET).env("TEST_STANDARD_SECRET", STANDARD_SECRET);
    command
}

/// Starts a server with endpoints over `folder/data`.
pub fn start_sending(folder: &Path, endpoints: &[String]) -> Server {
    let config = config_with(folder, endpoints);
    let arguments = ["--config", config.to_str().unwrap()];
    Server::start_command(sending_command(), &folder.join("data"), &arguments)
}

/// The state of an endpoint.
pub fn state_of(server: &Server, name: &str) -> Value {
    let answer = server.get("/rollcall/v1/endpoints");
    assert_eq!(answer.status, 200);
    let all = answer.json()["data"].as_array().unwrap().clone();
    all.into_iter().find(|one| one["name"] == name).unwrap()
}

/// Waits until the state of an endpoint fits.
pub fn wait_for_state(server: &Server, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let state = state_of(server, name);
        if fits(&state) {
            return state;
        }
        assert!(begun.elapsed() < WAIT_MAX, "{state}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until everything is delivered.
pub fn wait_until_delivered(server: &Server, name: &str) -> Value {
    let head = server.head();
    wait_for_state(server, name, |state| state["position"].as_u64().unwrap() >= head)
}

/// Asks for something to be done to an endpoint.
pub fn command(server: &Server, name: &str, command: &str, body: Option<&Value>) -> (u16, Value) {
    let answer = server.act("POST", &format!("/rollcall/v1/endpoints/{name}/{command}"), body);
    (answer.status, answer.json())
}
