//! The `rollcall` command.

fn main() -> std::process::ExitCode {
    rollcall::cli::run()
}
