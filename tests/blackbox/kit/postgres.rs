//! A real PostgreSQL: one for all tests of a process, and a database for each.

use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};

/// Where Debian keeps the programs of the version that is tested.
const BIN: &str = "/usr/lib/postgresql/15/bin";

/// The longest that the server may take to start or stop, in steps of 20 ms.
const TRIES_MAX: u32 = 1500;

/// The server that runs while a test has it.
static RUNNING: Mutex<Weak<Postgres>> = Mutex::new(Weak::new());

/// A server in a temporary folder, which listens on a port of this machine.
pub struct Postgres {
    folder: TempDir,
    pub port: u16,
    /// The number of the next database.
    next: Mutex<u32>,
    /// Its first process, while it runs.
    process: Mutex<Option<Child>>,
}

/// A database of its own.
pub struct TestDatabase {
    pub server: Arc<Postgres>,
    pub name: String,
}

/// A connection.
pub struct Session {
    runtime: Runtime,
    client: Client,
}

/// Returns a program that runs as a user who is not root: PostgreSQL refuses root.
fn program(name: &str) -> Command {
    let path = Path::new(BIN).join(name);
    if !rustix::process::geteuid().is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]).arg(path);
    command
}

fn is_installed() -> bool {
    Path::new(BIN).join("initdb").exists()
}

/// Makes an empty database, on the server that runs or on a new one. Returns nothing where
/// PostgreSQL is not installed, unless it must be.
pub fn database() -> Option<TestDatabase> {
    if !is_installed() {
        let required = std::env::var_os("ROLLCALL_CLIENTS_REQUIRED").is_some();
        assert!(!required, "PostgreSQL 15 is missing: apt-get install postgresql");
        eprintln!("ignored: PostgreSQL 15 is not installed");
        return None;
    }
    let mut running = RUNNING.lock().unwrap();
    let server = running.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Postgres::begin());
        *running = Arc::downgrade(&server);
        server
    });
    drop(running);
    Some(server.database())
}

/// Makes a database on a server that no other test has, so that it can be killed.
pub fn database_alone() -> Option<TestDatabase> {
    is_installed().then(|| Arc::new(Postgres::begin()).database())
}

impl Postgres {
    fn begin() -> Postgres {
        let folder = tempfile::Builder::new().prefix("rollcall-pg").tempdir().unwrap();
        if rustix::process::geteuid().is_root() {
            let user = Command::new("id").args(["-u", "postgres"]).output().unwrap();
            let user = String::from_utf8(user.stdout).unwrap().trim().parse().unwrap();
            chown(folder.path(), Some(user), None).unwrap();
        }
        let made = program("initdb")
            .args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8"])
            .arg("--pgdata")
            .arg(folder.path().join("data"))
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        // A port that was free a moment ago.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let server = Postgres { folder, port, next: Mutex::new(0), process: Mutex::new(None) };
        server.start();
        server
    }

    /// Returns the folder that it may write to.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Starts it, and waits until it takes connections. One that was killed leaves processes behind
    /// for a moment, with which another does not start.
    pub fn start(&self) {
        let mut child = self.spawn();
        for _ in 0..TRIES_MAX {
            if Session::try_open(&self.url("postgres")).is_ok() {
                *self.process.lock().unwrap() = Some(child);
                return;
            }
            if child.try_wait().unwrap().is_some() {
                child = self.spawn();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("PostgreSQL does not start");
    }

    fn spawn(&self) -> Child {
        program("postgres")
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()])
            .arg("-k")
            .arg(self.folder.path())
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "max_connections=60"])
            .args(["-c", "shared_buffers=32MB", "-c", "log_min_messages=fatal"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Sends a signal to its first process, and waits until that has ended. Its children follow.
    pub fn end(&self, signal: &str) {
        let mut child = self.process.lock().unwrap().take().unwrap();
        crate::kit::server::signal(child.id(), signal);
        child.wait().unwrap();
    }

    fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    fn database(self: Arc<Self>) -> TestDatabase {
        let mut next = self.next.lock().unwrap();
        *next += 1;
        let name = format!("test_{}", *next);
        Session::open(&self.url("postgres")).run(&format!("CREATE DATABASE {name}"));
        drop(next);
        TestDatabase { server: self, name }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.process.lock().unwrap().is_some() {
            self.end("INT");
        }
    }
}

impl TestDatabase {
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    pub fn session(&self) -> Session {
        Session::open(&self.url())
    }
}

impl Session {
    fn try_open(url: &str) -> Result<Session, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let connected = runtime.block_on(tokio_postgres::connect(url, NoTls));
        let (client, connection) = connected.map_err(|error| error.to_string())?;
        runtime.spawn(connection);
        Ok(Session { runtime, client })
    }

    pub fn open(url: &str) -> Session {
        Session::try_open(url).unwrap_or_else(|error| panic!("{error}: {url}"))
    }

    pub fn run(&self, statements: &str) {
        let ran = self.runtime.block_on(self.client.batch_execute(statements));
        ran.unwrap_or_else(|error| panic!("{error:?}: {statements}"));
    }

    /// Returns the first column of each row.
    pub fn texts(&self, question: &str, parameters: &[&(dyn ToSql + Sync)]) -> Vec<String> {
        let rows = self.runtime.block_on(self.client.query(question, parameters));
        let rows = rows.unwrap_or_else(|error| panic!("{error:?}: {question}"));
        rows.iter().map(|row| row.get::<_, Option<String>>(0).unwrap_or_default()).collect()
    }

    pub fn text(&self, question: &str) -> String {
        self.texts(question, &[]).concat()
    }

    /// Returns rows as JSON: the statement must give one column of it.
    pub fn json(&self, question: &str) -> Vec<Value> {
        let rows = self.texts(&format!("SELECT to_jsonb(q)::text FROM ({question}) AS q"), &[]);
        rows.iter().map(|row| serde_json::from_str(row).unwrap()).collect()
    }
}
