//! Rollcall as the official client libraries see it: the real server, fed with signed webhooks,
//! read by the libraries as applications use them. And its proofs as programs see them that share
//! nothing with it.
//!
//! This binary is the server as well: with `ROLLCALL_CLIENTS_AS_ROLLCALL=1` it is the command line
//! of Rollcall. So nothing needs to know where a built server lies.

#![allow(unreachable_pub, reason = "the modules of a test binary are its own")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod archive;
mod deliver;
mod generated;
mod kit;
mod libraries;
mod proofs;
mod rust;
mod schema;
mod scim;
mod scripts;
mod sessions;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

/// A requirement of a case that a machine may lack.
#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    Node,
    Python,
    NodeAndPython,
    Curl,
    Go,
    Openssl,
}

/// A case: its name is a sentence, it fails by panicking.
struct Case {
    name: String,
    needs: Needs,
    run: Box<dyn FnOnce() + Send>,
}

impl Case {
    fn new(name: impl Into<String>, needs: Needs, run: impl FnOnce() + Send + 'static) -> Case {
        Case { name: name.into(), needs, run: Box::new(run) }
    }
}

fn main() -> ExitCode {
    if std::env::var_os(kit::AS_ROLLCALL).is_some_and(|value| value == "1") {
        return rollcall::cli::run();
    }
    let arguments = Arguments::from_args();
    let required = std::env::var_os("ROLLCALL_CLIENTS_REQUIRED").is_some_and(|value| value == "1");
    let missing = libraries::Missing::here();
    let cases = [
        scripts::cases(),
        rust::cases(),
        generated::cases(),
        sessions::cases(),
        proofs::cases(),
        schema::cases(),
        scim::cases(),
        archive::cases(),
        deliver::cases(),
    ]
    .into_iter()
    .flatten();
    let trials = cases.map(|case| {
        let lacking = missing.of(case.needs);
        let ignored = lacking.is_some() && !required;
        let run = case.run;
        let trial = Trial::test(case.name, move || match lacking {
            Some(lacking) => Err(format!("{lacking} is missing here").into()),
            None => {
                run();
                Ok(())
            }
        });
        trial.with_ignored_flag(ignored)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
