//! The command line: one file a command.

mod check;
mod client;
mod demo;
mod forge;
mod generate;
mod log_key;
mod mapping;
mod moment;
mod policy;
mod prove;
mod publish;
mod read;
mod rebuild;
mod send;
mod serve;
mod table;
mod verify;
mod webhook;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Who was in which group, now or at any past moment.
///
/// Rollcall receives directory-sync webhooks, proves each one authentic, keeps it for ever, and
/// answers over HTTP as of any past moment.
///
/// Exit codes: 0 for success, 1 for a mistake in what was asked, 2 for a failure of Rollcall or its
/// disk.
#[derive(Parser)]
#[command(version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Demo(demo::Demo),
    Generate(generate::Generate),
    Send(Box<send::Send>),
    Users(read::UsersArgs),
    Groups(read::GroupsArgs),
    Directories(read::DirectoriesArgs),
    Roles(read::RolesArgs),
    Diff(read::DiffArgs),
    Audit(read::AuditArgs),
    Deprovisioned(read::DeprovisionedArgs),
    Mapping(mapping::MappingArgs),
    Policy(policy::Policy),
    Events(read::EventsArgs),
    Changes(read::ChangesArgs),
    Status(read::StatusArgs),
    Rebuild(rebuild::Rebuild),
    LogKey(log_key::LogKey),
    Prove(prove::Prove),
    Check(check::Check),
    Verify(verify::Verify),
}

/// Why a command failed, and whose fault it is.
#[derive(Debug)]
pub enum Failure {
    /// What was asked is wrong: exit code 1.
    Caller(String),
    /// Rollcall, its disk or its network failed: exit code 2.
    Ours(String),
    /// Nobody reads standard output any more: nothing is left to do, and nothing is wrong. Exit
    /// code 0.
    Unread,
}

impl Failure {
    /// Blames ourselves for an error.
    pub fn ours(error: impl std::fmt::Display) -> Failure {
        Failure::Ours(error.to_string())
    }

    /// Reports an answer that a Rollcall server would not give.
    fn unexpected_answer() -> Failure {
        Failure::Ours("the server's answer is not one that Rollcall gives".into())
    }
}

/// Prints, and sees that it left.
///
/// # Errors
/// Ours, or that nobody reads: standard output may be a pipe whose other end is gone.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| unwritten(&error))
}

/// Says why a write failed. A reader that has left is no failure.
fn unwritten(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::Unread,
        _ => Failure::Ours(format!("cannot print: {error}")),
    }
}

/// Parses the command line and runs it.
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 1 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let result = match cli.command {
        Command::Serve(serve) => serve.run(),
        Command::Demo(demo) => demo.run(),
        Command::Generate(generate) => generate.run(),
        Command::Send(send) => send.run(),
        Command::Users(users) => users.run(),
        Command::Groups(groups) => groups.run(),
        Command::Directories(directories) => directories.run(),
        Command::Roles(roles) => roles.run(),
        Command::Diff(diff) => diff.run(),
        Command::Audit(audit) => audit.run(),
        Command::Deprovisioned(deprovisioned) => deprovisioned.run(),
        Command::Mapping(mapping) => mapping.run(),
        Command::Policy(policy) => policy.run(),
        Command::Events(events) => events.run(),
        Command::Changes(changes) => changes.run(),
        Command::Status(status) => status.run(),
        Command::Rebuild(rebuild) => rebuild.run(),
        Command::LogKey(log_key) => log_key.run(),
        Command::Prove(prove) => prove.run(),
        Command::Check(check) => check.run(),
        Command::Verify(verify) => verify.run(),
    };
    let (code, message) = match result {
        Ok(()) | Err(Failure::Unread) => return ExitCode::SUCCESS,
        Err(Failure::Caller(message)) => (1, message),
        Err(Failure::Ours(message)) => (2, message),
    };
    // Standard error may be gone; the code says it as well.
    let _ = writeln!(io::stderr(), "rollcall: {message}");
    ExitCode::from(code)
}
