//! The messages that a service manager, such as systemd, gets of a server.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::kit::server::{API_KEY, SECRET, agent, binary, get, signal};

/// A service manager that waits for messages.
struct Manager {
    socket: UnixDatagram,
    /// The value of `NOTIFY_SOCKET`.
    address: String,
}

impl Manager {
    fn at_path(folder: &Path) -> Manager {
        let path = folder.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager::of(socket, path.to_str().unwrap().to_owned())
    }

    fn at_abstract_name(folder: &Path) -> Manager {
        let name = folder.to_str().unwrap();
        let address = SocketAddr::from_abstract_name(name).unwrap();
        Manager::of(UnixDatagram::bind_addr(&address).unwrap(), format!("@{name}"))
    }

    fn of(socket: UnixDatagram, address: String) -> Manager {
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Manager { socket, address }
    }

    /// Waits for the next message, and returns its lines.
    fn next(&self) -> Vec<String> {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).unwrap();
        let text = std::str::from_utf8(&message[..length]).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// Returns the messages that are there already.
    fn rest(&self) -> Vec<Vec<String>> {
        self.socket.set_nonblocking(true).unwrap();
        let mut all = Vec::new();
        let mut message = [0; 4096];
        loop {
            match self.socket.recv(&mut message) {
                Ok(length) => {
                    let text = std::str::from_utf8(&message[..length]).unwrap();
                    all.push(text.lines().map(str::to_owned).collect());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return all,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// A process that is killed when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    /// Runs `rollcall serve` under a service manager.
    fn serve(manager: &Manager, data: &Path, arguments: &[&str]) -> Process {
        let mut command = Command::new(binary());
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).args(arguments);
        command.env("NOTIFY_SOCKET", &manager.address).env("ROLLCALL_LOG", "off");
        command.env("ROLLCALL_WEBHOOK_SECRETS", SECRET).env("ROLLCALL_API_KEYS", API_KEY);
        Process(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Returns the first line that it prints.
    fn url(&mut self) -> String {
        let mut line = String::new();
        BufReader::new(self.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        line.trim().to_owned()
    }

    fn wait(&mut self) -> Option<i32> {
        self.0.wait().unwrap().code()
    }
}

fn folder() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    (folder, data)
}

const STARTING: &str = "STATUS=checking and folding the log";

#[test]
fn a_service_manager_hears_when_the_server_is_ready_reloads_and_stops() {
    for managers in [Manager::at_path, Manager::at_abstract_name] {
        let (folder, data) = folder();
        let manager = managers(folder.path());
        let mut server = Process::serve(&manager, &data, &[]);
        let url = server.url();
        assert_eq!(manager.next(), [STARTING]);
        assert_eq!(manager.next(), ["READY=1", "STATUS=serving, started with 0 records"]);
        // It is ready when it says so, and not soon after.
        assert_eq!(get(&agent(), &url, "/readyz", &[]).status, 200);

        signal(server.0.id(), "HUP");
        let reloading = manager.next();
        assert_eq!(reloading[0], "RELOADING=1");
        // systemd 253 and newer also ask for the time since the machine was started.
        let monotonic = reloading[1].strip_prefix("MONOTONIC_USEC=").unwrap();
        assert!(monotonic.parse::<u64>().unwrap() > 0);
        let status = "STATUS=serving, with the configuration of the last reload";
        assert_eq!(manager.next(), ["READY=1", status]);

        signal(server.0.id(), "TERM");
        assert_eq!(manager.next()[0], "STOPPING=1");
        assert_eq!(server.wait(), Some(0));
        assert_eq!(manager.rest(), [[""; 0]; 0]);
    }
}

#[test]
fn a_reload_that_is_refused_says_so_and_the_server_stays_ready() {
    let (folder, data) = folder();
    let config = folder.path().join("rollcall.toml");
    fs::write(&config, "tolerance = \"10s\"\n").unwrap();
    let manager = Manager::at_path(folder.path());
    let mut server = Process::serve(&manager, &data, &["--config", config.to_str().unwrap()]);
    server.url();
    assert_eq!(manager.next(), [STARTING]);
    assert_eq!(manager.next()[0], "READY=1");
    fs::write(&config, "tolerance = \"soon\"\n").unwrap();
    signal(server.0.id(), "HUP");
    assert_eq!(manager.next()[0], "RELOADING=1");
    let ready = manager.next();
    assert_eq!(ready[0], "READY=1");
    assert!(ready[1].contains("refused: see the log"), "{ready:?}");
}

#[test]
fn a_start_that_fails_is_never_ready() {
    let (folder, data) = folder();
    let manager = Manager::at_path(folder.path());
    fs::create_dir(&data).unwrap();
    fs::write(data.join("checkpoint-key"), "not a key").unwrap();
    let mut server = Process::serve(&manager, &data, &[]);
    assert_eq!(server.wait(), Some(2));
    assert_eq!(manager.rest(), [[STARTING]]);
}

#[test]
fn a_command_over_a_stopped_server_tells_the_service_manager_nothing() {
    let (folder, data) = folder();
    let manager = Manager::at_path(folder.path());
    let mut server = Process::serve(&manager, &data, &[]);
    assert_eq!(manager.next(), [STARTING]);
    assert_eq!(manager.next()[0], "READY=1");
    signal(server.0.id(), "TERM");
    assert_eq!(manager.next()[0], "STOPPING=1");
    assert_eq!(server.wait(), Some(0));
    let mut command = Command::new(binary());
    command.args(["directories", "--data"]).arg(&data).env("NOTIFY_SOCKET", &manager.address);
    assert!(command.output().unwrap().status.success());
    assert_eq!(manager.rest(), [[""; 0]; 0]);
}
