//! The libraries for Node and Python: what is missing to run them, and their installation, once for
//! each lockfile.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::Needs;
use super::kit::{self, Server};

/// Time for an installation: it may load some megabytes over a slow line.
const INSTALL_WITHIN: Duration = Duration::from_secs(600);
/// Time for a script: only a hang runs into it.
const SCRIPT_WITHIN: Duration = Duration::from_secs(180);

/// A library that is used through scripts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// The official library for Node, by its major version.
    Node(u32),
    /// The official library for Python, by its major version.
    Python(u32),
}

pub const ALL: [Library; 5] = [
    Library::Node(11),
    Library::Node(10),
    Library::Node(7),
    Library::Python(10),
    Library::Python(5),
];

impl Library {
    pub fn name(self) -> String {
        match self {
            Library::Node(version) => format!("node_{version}"),
            Library::Python(version) => format!("python_{version}"),
        }
    }

    pub fn needs(self) -> Needs {
        match self {
            Library::Node(_) => Needs::Node,
            Library::Python(_) => Needs::Python,
        }
    }

    /// The command that runs a script with this library against `server`; installs the library
    /// first where it is not.
    pub fn script(self, topic: &str, server: &Server) -> Command {
        let mut command = match self {
            Library::Node(version) => {
                let mut command = Command::new("node");
                command.arg(sources().join("node").join(format!("{topic}.mjs")));
                command
                    .env("LIBRARY", format!("workos-{version}"))
                    .env("LIBRARIES", node_modules());
                command
            }
            Library::Python(version) => {
                let mut command = isolated(&workos_venv(version).join("bin/python"));
                command
                    .arg(sources().join("python").join(format!("{}.py", topic.replace('-', "_"))));
                command.env("LIBRARY", version.to_string());
                command
            }
        };
        for name in ["WORKOS_API_KEY", "WORKOS_CLIENT_ID", "WORKOS_BASE_URL", "NODE_OPTIONS"] {
            command.env_remove(name);
        }
        for name in ["http_proxy", "https_proxy", "all_proxy"] {
            command.env_remove(name).env_remove(name.to_uppercase());
        }
        command.env("ROLLCALL_URL", &server.url).env("ROLLCALL_API_KEY", kit::API_KEY);
        command
    }

    /// Runs a script to its end; what it printed.
    pub fn run(self, topic: &str, server: &Server, arguments: &[&str]) -> String {
        let mut command = self.script(topic, server);
        command.args(arguments);
        kit::finished(command, SCRIPT_WITHIN)
            .unwrap_or_else(|said| panic!("{} {topic}: {said}", self.name()))
    }
}

/// Where Debian puts the sources of Go's packages.
const GOPATH: &str = "/usr/share/gocode";

/// A program in Python, which finds no other packages and writes nothing next to its sources.
fn isolated(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("PYTHONPATH");
    command
}

/// A Python with `cryptography`: that of the newest library, which needs it too.
pub fn python() -> Command {
    isolated(&workos_venv(10).join("bin/python"))
}

/// The command of schemathesis.
pub fn schemathesis() -> Command {
    isolated(&venv("schemathesis", "schemathesis").join("bin/schemathesis"))
}

/// The command of scim2-tester.
pub fn scim2_tester() -> Command {
    isolated(&venv("scim2-tester", "scim2-tester").join("bin/scim2"))
}

/// The command of scim-sanity.
pub fn scim_sanity() -> Command {
    isolated(&venv("scim-sanity", "scim-sanity").join("bin/scim-sanity"))
}

/// A Python with moto, a server of S3.
pub fn moto() -> Command {
    isolated(&venv("moto", "moto").join("bin/python"))
}

/// A Python with the library of Standard Webhooks.
pub fn standardwebhooks() -> Command {
    isolated(&venv("standardwebhooks", "standardwebhooks").join("bin/python"))
}

/// The file that a script for Node imports as a version of the official library.
pub fn node_library(version: u32) -> String {
    let folder = node_modules().join(format!("node_modules/workos-{version}"));
    let files = ["lib/index.mjs", "lib/index.js"].map(|name| folder.join(name));
    files.into_iter().find(|file| file.is_file()).unwrap().display().to_string()
}

/// A program of `go/`, compiled without a network.
pub fn go_program(name: &str) -> PathBuf {
    let source = sources().join(format!("go/{name}.go"));
    let version = Command::new("go").arg("version").output().unwrap().stdout;
    let folder =
        installed(&format!("go-{name}"), std::slice::from_ref(&source), &version, |folder| {
            let mut go = Command::new("go");
            go.args(["build", "-o"]).arg(folder.join(name)).arg(&source).current_dir(folder);
            go.env("GOPATH", GOPATH)
                .env("GO111MODULE", "off")
                .env("GOFLAGS", "")
                .env("GOTOOLCHAIN", "local")
                .env("GOCACHE", folder.join("cache"));
            vec![go]
        });
    folder.join(name)
}

/// This crate's folder.
pub fn sources() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Which programs are missing on this machine.
pub struct Missing {
    node: bool,
    python: bool,
    curl: bool,
    go: bool,
    openssl: bool,
}

impl Missing {
    pub fn here() -> Missing {
        let succeeds = |program: &str, arguments: &[&str]| {
            let status = Command::new(program)
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            status.is_ok_and(|status| status.success())
        };
        let on_path = |program: &str| {
            std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
                .any(|dir| dir.join(program).is_file())
        };
        Missing {
            // Before 20 Node has no `crypto` of its own, which the library calls.
            node: !succeeds(
                "node",
                &["-e", "process.exit(parseInt(process.versions.node) >= 20 ? 0 : 1)"],
            ) || !on_path("npm"),
            // Debian ships Python without what makes a virtual environment.
            python: !succeeds(
                "python3",
                &["-c", "import sys, venv, ensurepip; assert sys.version_info >= (3, 11)"],
            ),
            curl: !on_path("curl"),
            go: !succeeds("go", &["version"])
                || !Path::new(GOPATH).join("src/golang.org/x/mod/sumdb/tlog").is_dir(),
            openssl: !succeeds("openssl", &["version"]),
        }
    }

    /// Returns the name of the thing in `needs` that this machine lacks.
    pub fn of(&self, needs: Needs) -> Option<&'static str> {
        let lacking = |missing: bool, name: &'static str| missing.then_some(name);
        let (node, python) = (
            lacking(self.node, "Node 20 or newer with npm"),
            lacking(self.python, "Python 3.11 or newer with venv"),
        );
        match needs {
            Needs::Nothing => None,
            Needs::Node => node,
            Needs::Python => python,
            Needs::NodeAndPython => node.or(python),
            Needs::Curl => lacking(self.curl, "curl"),
            Needs::Go => lacking(
                self.go,
                "Go with golang.org/x/mod, such as Debian's golang-go and golang-golang-x-mod-dev,",
            ),
            Needs::Openssl => lacking(self.openssl, "openssl"),
        }
    }
}

/// The folder with the versions of the library for Node, below `node_modules`.
fn node_modules() -> PathBuf {
    let from = sources().join("node");
    installed("node", &[from.join("package.json"), from.join("package-lock.json")], &[], |folder| {
        for name in ["package.json", "package-lock.json"] {
            fs::copy(from.join(name), folder.join(name)).unwrap();
        }
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(folder);
        vec![npm]
    })
}

/// The virtual environment of one version of the library for Python.
fn workos_venv(version: u32) -> PathBuf {
    venv(&format!("python-{version}"), &format!("workos-{version}"))
}

/// The virtual environment of one file of requirements.
fn venv(name: &str, requirements: &str) -> PathBuf {
    let requirements = sources().join(format!("python/{requirements}.txt"));
    let interpreter = Command::new("python3").arg("--version").output().unwrap().stdout;
    installed(name, std::slice::from_ref(&requirements), &interpreter, |folder| {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(folder);
        let mut pip = Command::new(folder.join("bin/python"));
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--require-hashes",
            "-r",
        ])
        .arg(&requirements);
        vec![venv, pip]
    })
}

/// The folder of an installation that belongs to exactly these lockfiles. The commands of `how` run
/// unless it is complete already. A lock keeps other processes waiting meanwhile, and the mark is
/// written last: what was broken off is begun anew.
fn installed(
    name: &str,
    lockfiles: &[PathBuf],
    also: &[u8],
    how: impl FnOnce(&Path) -> Vec<Command>,
) -> PathBuf {
    let mut digest = Sha256::new();
    for file in lockfiles {
        digest.update(fs::read(file).unwrap());
    }
    digest.update(also);
    // CARGO_TARGET_TMPDIR lies in the target folder, wherever that is.
    let clients = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("clients");
    let folder = clients.join(format!("{name}-{}", &hex::encode(digest.finalize())[..16]));
    let complete = folder.join(".complete");
    fs::create_dir_all(&clients).unwrap();
    let lock = File::create(clients.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if !complete.exists() {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        for command in how(&folder) {
            kit::finished(command, INSTALL_WITHIN)
                .unwrap_or_else(|said| panic!("cannot install {name}: {said}"));
        }
        File::create(&complete).unwrap();
    }
    folder
}
