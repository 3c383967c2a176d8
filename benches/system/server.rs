//! The real server, as a process.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kit::SECRET;
use crate::load::Request;

pub(crate) const API_KEY: &str = "sk_bench_bench_bench_bench_bench";

/// The server of this build.
pub(crate) fn built() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_rollcall"))
}

/// A process, which is killed when it is dropped.
pub(crate) struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Starts a process. Returns it, and the first line that it prints.
    pub(crate) fn start(command: &mut Command) -> (Process, String) {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (process, mut line) = (Process(child), String::new());
        BufReader::new(stdout).read_line(&mut line).unwrap();
        (process, line.trim().to_owned())
    }

    /// Returns the process as what is asked at an address.
    pub(crate) fn target(&self, address: SocketAddr) -> Target {
        Target { address, pid: self.0.id() }
    }
}

/// What is asked: an address, and the process behind it.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pid: u32,
}

impl Target {
    /// Returns the CPU time that the process has taken, in microseconds; it is counted in hundredths
    /// of a second.
    pub(crate) fn cpu_us(self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap();
        // The name of the process may have blanks.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        ticks as f64 * 1e4
    }
}

/// A running `rollcall serve`.
pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
    /// The time from its start until it answered.
    pub(crate) start: Duration,
}

impl Server {
    /// Starts the server, and waits until it is ready. Made records may be far behind the clock.
    pub(crate) fn start(binary: &Path, data: &Path, options: &[&str]) -> Server {
        let begun = Instant::now();
        let mut command = Command::new(binary);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--accept-clock", "--data"])
            .arg(data)
            .args(options);
        command.env("ROLLCALL_WEBHOOK_SECRETS", SECRET).env("ROLLCALL_API_KEYS", API_KEY);
        let (process, url) = Process::start(command.stderr(Stdio::null()));
        let address = url.trim_start_matches("http://").parse();
        let address = address.unwrap_or_else(|_| panic!("the server did not start: `{url}`"));
        let mut server = Server { process, address, start: Duration::ZERO };
        while ureq::get(server.url("/readyz")).call().is_err() {
            let ended = server.process.0.try_wait().unwrap();
            assert!(ended.is_none(), "the server did not start: {ended:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        server.start = begun.elapsed();
        server
    }

    pub(crate) fn target(&self) -> Target {
        self.process.target(self.address)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let request = ureq::get(self.url(path)).header("Authorization", authorization());
        let answer = request
            .call()
            .map(|mut answer| answer.body_mut().with_config().limit(64 << 20).read_json());
        answer.unwrap_or_else(|error| panic!("{path}: {error}")).unwrap()
    }

    /// Sends a body with a bearer token, and returns the answer.
    pub(crate) fn send(&self, method: &str, path: &str, token: &str, body: &Value) -> Value {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(self.url(path))
            .header("Authorization", format!("Bearer {token}"))
            .header("Content-Type", "application/json")
            .body(body.to_string());
        let answer = ureq::run(request.unwrap()).map(|mut answer| answer.body_mut().read_json());
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}")).unwrap()
    }

    /// Sets a role mapping from a moment on.
    pub(crate) fn map(&self, mapping: &Value, effective_from: &str) {
        let body = json!({ "mapping": mapping, "effective_from": effective_from });
        self.send("PUT", "/rollcall/v1/role_mapping", API_KEY, &body);
    }

    /// Returns the resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Stops it as an operator does, and waits for its end.
    pub(crate) fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.process.0);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.process.0.wait().unwrap().success(), "the server did not stop cleanly");
    }
}

/// Sends a request, and expects that it is done. Returns the time that it took, and the answer.
pub(crate) fn send(address: SocketAddr, request: &Request) -> (Duration, String) {
    let Request { method, path, token, body } = request;
    let built = ureq::http::Request::builder()
        .method(method.as_str())
        .uri(format!("http://{address}{path}"))
        .header("Authorization", format!("Bearer {token}"))
        .header("Content-Type", "application/json");
    let begun = Instant::now();
    let answer = match body {
        Some(body) => ureq::agent().run(built.body(body.as_str()).unwrap()),
        None => ureq::agent().run(built.body(()).unwrap()),
    };
    let mut answer = answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
    let text = answer.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
    (begun.elapsed(), text)
}

fn authorization() -> String {
    format!("Bearer {API_KEY}")
}
