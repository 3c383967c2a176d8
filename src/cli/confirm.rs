//! Confirmation of an act that stays on record.

use std::io::{self, BufRead, IsTerminal, Write};

use clap::Args;

use super::{Failure, unwritten};

/// The argument that answers the question beforehand.
#[derive(Args)]
pub(super) struct ConfirmArgs {
    /// Do not ask for confirmation; required without a terminal
    #[arg(long)]
    yes: bool,
}

impl ConfirmArgs {
    /// Asks the question on the terminal, unless it was answered beforehand. `nothing` says that
    /// nothing was done.
    ///
    /// # Errors
    /// The caller's, without a terminal or for any answer except yes.
    pub(super) fn confirm(&self, question: &str, nothing: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            let message = format!("{nothing}: there is no terminal to ask on; confirm with --yes");
            return Err(Failure::Caller(message));
        }
        if is_confirmed(question)? { Ok(()) } else { Err(Failure::Caller(nothing.to_owned())) }
    }
}

fn is_confirmed(question: &str) -> Result<bool, Failure> {
    let mut terminal = io::stderr().lock();
    write!(terminal, "{question} [y/N] ")
        .and_then(|()| terminal.flush())
        .map_err(|error| unwritten(&error))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).map_err(Failure::ours)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
