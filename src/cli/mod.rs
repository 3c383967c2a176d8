//! The command line: one file for each command.

mod archives;
mod auditor;
mod backup;
mod check;
mod client;
mod config;
mod confirm;
mod copies;
mod deliveries;
mod demo;
mod describe;
mod directory;
mod forge;
mod generate;
mod health;
mod import;
mod input;
mod key;
mod link;
mod log_key;
mod logging;
mod mapping;
mod moment;
mod policy;
mod prove;
mod publish;
mod pull;
mod read;
mod rebuild;
mod reconcile;
mod restore;
mod running;
mod salvage;
mod scim;
mod secrets;
mod send;
mod serve;
mod service_manager;
mod signals;
mod sink;
mod source_state;
mod table;
mod verify;
mod waiting;

use std::ffi::OsStr;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::error::ErrorKind;
use clap::{FromArgMatches, Parser, Subcommand};

/// Answers who was in which group, now or at any past moment.
///
/// Rollcall receives directory-sync webhooks, authenticates each one, keeps it for ever, and
/// answers over HTTP as of any past moment.
///
/// Exit codes: 0 for success; 1 for a mistake in the request; 2 for a failure of Rollcall, its disk
/// or its network. `check` exits with 1 if something is not proven, `send` with 1 if an event was
/// refused, `reconcile` with 1 if a difference is held and with 2 if a directory could not be
/// compared, `pull` with 2 if the source refuses, `verify` with 2 if the log is damaged, `salvage`
/// and `restore` with 2 if records are missing, `backup` with 2 if it broke off.
#[derive(Parser)]
#[command(version = VERSION.as_str(), max_term_width = 110, after_help = moment::FORMS)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Config(config::ConfigArgs),
    Demo(demo::DemoArgs),
    Generate(generate::GenerateArgs),
    Send(Box<send::SendArgs>),
    Import(import::ImportArgs),
    Users(read::UsersArgs),
    Groups(read::GroupsArgs),
    Directories(read::DirectoriesArgs),
    Roles(read::RolesArgs),
    Diff(read::DiffArgs),
    Audit(read::AuditArgs),
    Deprovisioned(read::DeprovisionedArgs),
    Mapping(mapping::MappingArgs),
    Link(link::LinkArgs),
    Directory(directory::DirectoryArgs),
    Scim(scim::ScimArgs),
    Policy(policy::PolicyArgs),
    Events(read::EventsArgs),
    Changes(read::ChangesArgs),
    Quarantine(read::QuarantineArgs),
    Status(read::StatusArgs),
    Deliveries(deliveries::DeliveriesArgs),
    Health(health::HealthArgs),
    Pull(pull::PullArgs),
    Reconcile(reconcile::ReconcileArgs),
    Rebuild(rebuild::RebuildArgs),
    Sink(sink::SinkArgs),
    Key(key::KeyArgs),
    LogKey(log_key::LogKeyArgs),
    Prove(prove::ProveArgs),
    Check(check::CheckArgs),
    Verify(verify::VerifyArgs),
    Backup(backup::BackupArgs),
    Salvage(salvage::SalvageArgs),
    Restore(restore::RestoreArgs),
    Completions(describe::CompletionsArgs),
    Man(describe::ManArgs),
}

/// The version, the commit that was built, and the format of the log.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let (version, commit) = (env!("CARGO_PKG_VERSION"), env!("ROLLCALL_COMMIT"));
    format!("{version} (commit {commit}, format {})", crate::log::FORMAT)
});

/// The reason why a command failed, by who must act on it.
#[derive(Debug)]
pub enum Failure {
    /// The request is wrong: exit code 1.
    Caller(String),
    /// Rollcall, its disk or its network failed: exit code 2.
    Ours(String),
    /// The user interrupted the command: exit code 130.
    Interrupted(String),
    /// The reader of standard output has closed it: the rest is not needed. Exit code 0.
    Unread,
}

impl Failure {
    /// Reports an error as a failure of Rollcall.
    pub fn ours(error: impl std::fmt::Display) -> Failure {
        Failure::Ours(error.to_string())
    }

    /// Adds something to the message of an error.
    fn with(self, more: &str) -> Failure {
        match self {
            Failure::Caller(message) => Failure::Caller(format!("{message}; {more}")),
            Failure::Ours(message) => Failure::Ours(format!("{message}; {more}")),
            other @ (Failure::Interrupted(_) | Failure::Unread) => other,
        }
    }

    /// Reports an answer that a Rollcall server would not give.
    fn unexpected_answer() -> Failure {
        Failure::Ours("unexpected answer: is this a Rollcall server?".into())
    }
}

/// The exit code after an interrupt: 128 and the number of SIGINT, as shells count.
const INTERRUPTED: u8 = 130;

/// Prints and flushes.
///
/// # Errors
/// Ours, or [`Failure::Unread`] if standard output is a pipe whose reader has left.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| unwritten(&error))
}

/// Returns the failure of a write. A reader that has left is not an error.
fn unwritten(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::Ours(format!("cannot print: {error}")),
    }
}

/// Parses the command line and runs it.
pub fn run() -> ExitCode {
    let parsed = describe::described().try_get_matches();
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) if error.kind() == ErrorKind::InvalidUtf8 => return report(not_text(&error)),
        Err(error) => {
            let code = if error.use_stderr() { 1 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let result = match cli.command {
        Command::Serve(serve) => serve.run(),
        Command::Config(config) => config.run(),
        Command::Demo(demo) => demo.run(),
        Command::Generate(generate) => generate.run(),
        Command::Send(send) => send.run(),
        Command::Import(import) => import.run(),
        Command::Users(users) => users.run(),
        Command::Groups(groups) => groups.run(),
        Command::Directories(directories) => directories.run(),
        Command::Roles(roles) => roles.run(),
        Command::Diff(diff) => diff.run(),
        Command::Audit(audit) => audit.run(),
        Command::Deprovisioned(deprovisioned) => deprovisioned.run(),
        Command::Mapping(mapping) => mapping.run(),
        Command::Link(link) => link.run(),
        Command::Directory(directory) => directory.run(),
        Command::Scim(scim) => scim.run(),
        Command::Policy(policy) => policy.run(),
        Command::Events(events) => events.run(),
        Command::Changes(changes) => changes.run(),
        Command::Quarantine(quarantine) => quarantine.run(),
        Command::Status(status) => status.run(),
        Command::Deliveries(deliveries) => deliveries.run(),
        Command::Health(health) => health.run(),
        Command::Pull(pull) => pull.run(),
        Command::Reconcile(reconcile) => reconcile.run(),
        Command::Rebuild(rebuild) => rebuild.run(),
        Command::Sink(sink) => sink.run(),
        Command::Key(key) => key.run(),
        Command::LogKey(log_key) => log_key.run(),
        Command::Prove(prove) => prove.run(),
        Command::Check(check) => check.run(),
        Command::Verify(verify) => verify.run(),
        Command::Backup(backup) => backup.run(),
        Command::Salvage(salvage) => salvage.run(),
        Command::Restore(restore) => restore.run(),
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => report(failure),
    }
}

/// Says which value is not text: clap does not name the variable that holds it.
fn not_text(error: &clap::Error) -> Failure {
    let names = describe::variables();
    match names.iter().find(|name| std::env::var_os(name).is_some_and(|text| !is_text(&text))) {
        Some(name) => Failure::Caller(secrets::not_text(name)),
        None => Failure::Caller(error.to_string().trim_start_matches("error: ").trim().to_owned()),
    }
}

fn is_text(text: &OsStr) -> bool {
    text.to_str().is_some()
}

/// Prints the reason of a failure, and returns its exit code.
fn report(failure: Failure) -> ExitCode {
    let (code, message) = match failure {
        Failure::Unread => return ExitCode::SUCCESS,
        Failure::Caller(message) => (1, message),
        Failure::Ours(message) => (2, message),
        Failure::Interrupted(message) => (INTERRUPTED, message),
    };
    // Standard error may be closed; the exit code is enough then.
    let _ = writeln!(io::stderr(), "rollcall: {message}");
    ExitCode::from(code)
}
