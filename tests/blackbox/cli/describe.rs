//! The version, the completions, the manual pages and the list of commands.

use super::read::{out, rollcall};

#[test]
fn the_version_has_the_commit_and_the_format() {
    let told = out(&rollcall(&["--version"]).output().unwrap());
    let rest = told.strip_prefix("rollcall ").unwrap().strip_suffix(", format 1)\n").unwrap();
    let (version, commit) = rest.split_once(" (commit ").unwrap();
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    let is_hash = commit.len() >= 7 && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(is_hash || commit == "unknown", "{told}");
}

#[test]
fn completions_and_manual_pages_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let script = out(&rollcall(&["completions", shell]).output().unwrap());
        assert!(script.contains("deprovisioned") && script.contains("effective-from"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("share/man1");
    out(&rollcall(&["man", "--out", pages.to_str().unwrap()]).output().unwrap());
    for page in ["rollcall.1", "rollcall-serve.1", "rollcall-mapping-set.1"] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
}

#[test]
fn the_help_lists_the_commands_in_groups() {
    for arguments in [&["--help"][..], &["-h"], &["help"]] {
        let help = out(&rollcall(arguments).output().unwrap());
        for part in ["Run a server:\n  serve ", "Audit:\n  audit ", "Options:", "Moments are"] {
            assert!(help.contains(part), "{arguments:?}: {part} is missing from: {help}");
        }
    }
    let help = out(&rollcall(&["users", "--help"]).output().unwrap());
    assert!(help.contains("--directory") && !help.contains("Run a server:"), "{help}");
}
