//! Notes the commit that is built, for `rollcall --version`.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=ROLLCALL_COMMIT");
    let commit = std::env::var("ROLLCALL_COMMIT").ok().or_else(commit);
    println!("cargo::rustc-env=ROLLCALL_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

/// Returns the commit of this repository; `None` without git, or in a copy without its history.
fn commit() -> Option<String> {
    // A copy inside another repository has not that one's commit.
    let root = git(&["rev-parse", "--show-toplevel"])?;
    let here = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    if Path::new(&root).canonicalize().ok()? != Path::new(&here).canonicalize().ok()? {
        return None;
    }
    // The file grows with each commit and checkout.
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"])?;
    if Path::new(&log).exists() {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["rev-parse", "--short=7", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
