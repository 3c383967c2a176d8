//! Backups of a running server, and what is restored of them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::faults::archives::{deliver, event, restore, root, run, said, text, write_until};
use crate::faults::damage::contents;
use crate::faults::kills::copy;
use crate::kit::keyed::{Keyed, entry};
use crate::kit::scale::scale;
use crate::kit::server::{API_KEY, Server, binary};

const PATH: &str = "/rollcall/v1/backup";

pub fn backup(server: &Server, out: &str, json: bool) -> Output {
    let mut command = Command::new(binary());
    command.args(["backup", "--out", out]).env("ROLLCALL_URL", &server.url);
    command.args(json.then_some("--json")).env("ROLLCALL_API_KEY", API_KEY);
    command.output().unwrap()
}

#[test]
fn a_backup_under_load_is_a_prefix_of_the_log_and_restores_to_the_same_root() {
    let around = tempfile::tempdir().unwrap();
    let server = Server::start(&around.path().join("data"));
    deliver(&server, 0..300 * scale());
    for n in 0..4 {
        // Too large for one segment of a backup together.
        server.deliver(&event(1_000_000 + n, &"x".repeat(2_000_000)));
    }
    let change = server.act("post", "/rollcall/v1/log/key", Some(&json!({})));
    assert_eq!(change.status, 200);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| write_until(&server, 2_000_000, &stop));
        for round in 0..3 {
            let (out, new) = (format!("backup{round}"), format!("new{round}"));
            let (out, new) = (around.path().join(out), around.path().join(new));
            let (code, copied, told) = said(&backup(&server, text(&out), true));
            assert_eq!(code, 0, "{told}");
            let seq = copied["seq"].as_u64().unwrap();
            assert_eq!(copied["root"], root(&server, seq), "a prefix of the log");
            assert!(seq >= 305);
            let (code, restored, told) = restore(text(&out), &new);
            assert_eq!((code, &restored), (0, &copied), "{told}");
            assert!(new.join("checkpoint-key.pub").exists());
            assert!(new.join("checkpoint-key.handovers").is_dir());
            assert!(!out.join("checkpoint-key").exists(), "no private key");
        }
        stop.store(true, Ordering::SeqCst);
        assert!(writing.join().unwrap() > 2_000_000, "the writer went on");
    });
}

#[test]
fn a_backup_goes_to_a_new_folder_only_or_to_standard_output() {
    use std::os::unix::fs::PermissionsExt;
    let around = tempfile::tempdir().unwrap();
    let at = |name: &str| around.path().join(name);
    let server = Server::start(&at("data"));
    let (code, _, told) = said(&backup(&server, text(&at("none")), true));
    assert!(code == 1 && told.contains("no records") && !at("none").exists(), "{code} {told}");
    deliver(&server, 0..20);
    let whole = json!({ "seq": 20, "root": root(&server, 20) });
    let (code, copied, told) = said(&backup(&server, text(&at("copy")), true));
    assert_eq!((code, &copied), (0, &whole), "{told}");
    assert_eq!(fs::metadata(at("copy")).unwrap().permissions().mode() & 0o777, 0o700);
    let before = fs::read_dir(at("copy")).unwrap().count();
    let (code, _, told) = said(&backup(&server, text(&at("copy")), true));
    assert!(code == 1 && told.contains("is there already"), "{code} {told}");
    assert_eq!(fs::read_dir(at("copy")).unwrap().count(), before);
    // One file, through a pipe and back.
    let output = backup(&server, "-", false);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    fs::write(at("backup.tar"), &output.stdout).unwrap();
    assert_eq!(restore(text(&at("backup.tar")), &at("from-file")).1, whole);
    for name in ["store", "store/db", "tree", "tree/0"] {
        let mode = fs::metadata(at("from-file").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name} is for its owner only");
    }
    assert_eq!(restore_piped(&output.stdout, &at("from-pipe")).1, whole);
    // Other tools read it as well.
    let listed = Command::new("tar").arg("tf").arg(at("backup.tar")).output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.lines().next_back(), Some("backup.json"), "{listed}");
    // Packed anew by tar, which writes `./` and folders, and the files in another order.
    let packed = Command::new("tar").arg("-cC").arg(at("copy")).arg(".").output().unwrap();
    assert!(packed.status.success());
    assert_eq!(restore_piped(&packed.stdout, &at("from-packed")).1, whole);
    // Cut off, it is refused, and nothing is made.
    for kept in
        [0, 700, output.stdout.len() / 2, output.stdout.len() - 2000, output.stdout.len() - 1]
    {
        let new = at("cut");
        let (code, _, told) = restore_piped(&output.stdout[..kept], &new);
        assert!(code == 2 && !new.exists(), "{kept}: {code} {told}");
        assert!(told.contains("standard input"), "{kept}: {told}");
    }
    let (code, _, told) = restore_piped(&output.stdout.repeat(2), &at("twice"));
    assert!(code == 2 && !at("twice").exists(), "{code} {told}");
    assert!(told.contains("standard input goes on after its end"), "{told}");
    let mut damaged = output.stdout.clone();
    let middle = listed.lines().position(|name| name.ends_with(".zst")).unwrap();
    assert_eq!(middle, 1, "the first segment follows the key");
    damaged[3 * 512 + 100] ^= 4;
    let (code, _, told) = restore_piped(&damaged, &at("damaged"));
    assert!(code == 2 && !at("damaged").exists(), "{told}");
    assert!(told.contains(".ndjson.zst` in standard input is damaged"), "{told}");
    assert!(told.contains("another copy of the backup") && !told.contains(".from"), "{told}");
    fs::write(at("backup.tar"), &damaged).unwrap();
    let (code, _, told) = restore(text(&at("backup.tar")), &at("damaged"));
    let named = format!(".ndjson.zst` in `{}` is damaged", text(&at("backup.tar")));
    assert!(code == 2 && told.contains(&named), "{code} {told}");
    // A folder that lacks a file.
    let segment = fs::read_dir(at("copy")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segment.into_iter().find(|path| text(path).ends_with(".zst")).unwrap();
    fs::remove_file(segment).unwrap();
    let (code, _, told) = restore(text(&at("copy")), &at("lacking"));
    assert!(matches!(code, 1 | 2) && told.contains("copy") && !at("lacking").exists(), "{told}");
    assert_eq!(fs::read_dir(around.path()).unwrap().count(), 6, "nothing is left over");
}

#[test]
fn a_backup_that_was_copied_only_in_part_or_is_damaged_is_refused_and_the_file_named() {
    let around = tempfile::tempdir().unwrap();
    let at = |name: &str| around.path().join(name);
    let server = Server::start(&at("data"));
    deliver(&server, 0..5);
    let change = server.act("post", "/rollcall/v1/log/key", Some(&json!({})));
    assert_eq!(change.status, 200);
    let whole = json!({ "seq": 6, "root": root(&server, 6) });
    assert_eq!(said(&backup(&server, text(&at("copy")), false)).0, 0);
    assert_eq!(server.stop(), 0);
    let files = contents(&at("copy")).into_iter().filter(|(_, hash)| hash != "a folder");
    let files: Vec<String> = files.map(|(name, _)| name).collect();
    let segment = "00000000000000000001-00000000000000000006.ndjson.zst";
    let handover = "checkpoint-key.handovers/00000000000000000006.checkpoint";
    assert_eq!(files, [segment, "backup.json", handover, "checkpoint-key.pub"]);
    for name in &files {
        copy(&at("copy"), &at("part"));
        let path = at("part").join(name);
        let mut bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let (code, _, told) = restore(text(&at("part")), &at("new"));
        assert!(matches!(code, 1 | 2) && !at("new").exists(), "{name} is missing: {code} {told}");
        assert!(told.contains(name), "{name} is missing: {told}");
        if name == segment {
            let (data, part, out) = (at("data"), at("part"), at("salvaged"));
            let (data, part, out) = (text(&data), text(&part), text(&out));
            let output = run(&["salvage", "--data", data, "--from", part, "--out", out]);
            let (code, _, told) = said(&output);
            assert!(code == 2 && told.contains(name) && !at("salvaged").exists(), "{told}");
        }
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (code, _, told) = restore(text(&at("part")), &at("new"));
        assert!(code == 2 && !at("new").exists(), "{name} is damaged: {code} {told}");
        // A damaged list may name another file.
        let named = if name == "backup.json" { "part/" } else { name };
        assert!(told.contains(named), "{name} is damaged: {told}");
        fs::remove_dir_all(at("part")).unwrap();
    }
    let (code, restored, told) = restore(text(&at("copy")), &at("new"));
    assert_eq!((code, restored), (0, whole), "{told}");
}

#[test]
fn a_damaged_segment_is_named_and_salvage_takes_its_records_that_fit_their_leaves() {
    let around = tempfile::tempdir().unwrap();
    let at = |name: &str| around.path().join(name);
    let server = Server::start(&at("data"));
    deliver(&server, 0..5);
    for n in 5..8 {
        // Too large for one segment of a backup together.
        server.deliver(&event(n, &"x".repeat(2_000_000)));
    }
    let whole = root(&server, 8);
    assert_eq!(said(&backup(&server, text(&at("copy")), false)).0, 0);
    assert_eq!(server.stop(), 0);
    let names = contents(&at("copy")).into_keys();
    let names: Vec<String> = names.filter(|name| name.ends_with(".ndjson.zst")).collect();
    assert!(names.len() > 1, "{names:?}");
    let segment = names[0].as_str();
    let path = at("copy").join(segment);
    // Only the checksum at the end differs: every line can still be read.
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    fs::remove_dir_all(at("data/store")).unwrap();
    let (data, copied) = (at("data"), at("copy"));
    let salvaged = |out: &Path| {
        let from = ["salvage", "--json", "--data", text(&data), "--from", text(&copied), "--out"];
        said(&run(&[&from[..], &[text(out)]].concat()))
    };
    let (code, printed, told) = salvaged(&at("salvaged"));
    assert_eq!(
        (code, &printed["recovered"], &printed["root"]),
        (0, &json!(8), &json!(whole)),
        "{told}"
    );
    assert!(told.contains(segment) && told.contains("is damaged"), "{told}");
    assert_eq!(restore(text(&at("salvaged")), &at("new")).1, json!({ "seq": 8, "root": whole }));
    // A restore has no leaves to compare the lines with, but the root proves all of them together.
    let [all, rest] = ["all", "rest"].map(at);
    let (code, _, told) = restore(text(&copied), &all);
    assert!(code == 2 && told.contains(segment) && !all.exists(), "{code} {told}");
    let accepting = ["restore", "--accept-missing", "--json", "--from", text(&copied), "--data"];
    let (code, printed, told) = said(&run(&[&accepting[..], &[text(&rest)]].concat()));
    let expected = json!({ "seq": 8, "root": whole, "lost": [], "new_log_id": null });
    assert_eq!((code, &printed), (0, &expected), "{told}");
    assert!(told.contains(segment) && told.contains("is damaged"), "{told}");
    // Neither a data folder nor standard output is an archive.
    let (code, _, told) = restore(text(&at("rest")), &all);
    assert!(code == 1 && told.contains("`rollcall salvage --data") && !all.exists(), "{told}");
    let (code, _, told) = said(&run(&["salvage", "--data", text(&data), "--out", "-"]));
    assert!(code == 1 && told.contains("--out -") && !Path::new("-").exists(), "{told}");
    // Without leaves nothing says what the lines were.
    fs::remove_dir_all(at("data/tree")).unwrap();
    let (code, _, told) = salvaged(&at("none"));
    assert!(code == 2 && told.contains(segment), "{code} {told}");
}

#[test]
fn a_backup_whose_reader_leaves_has_failed() {
    let around = tempfile::tempdir().unwrap();
    let server = Server::start(&around.path().join("data"));
    // More than a pipe holds, and not compressible.
    let name: String =
        (0..100_000_u32).map(|n| format!("{:08x}", n.wrapping_mul(2_654_435_761))).collect();
    server.deliver(&event(1, &name));
    let mut command = Command::new(binary());
    command.args(["backup", "--out", "-"]).env("ROLLCALL_URL", &server.url);
    command.env("ROLLCALL_API_KEY", API_KEY).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let (code, _, told) = said(&child.wait_with_output().unwrap());
    assert!(code == 2 && told.contains("has left before the end"), "{code} {told}");
}

/// Restores from standard input.
fn restore_piped(bytes: &[u8], data: &Path) -> (i32, Value, String) {
    let mut command = Command::new(binary());
    command.args(["restore", "--json", "--from", "-", "--data"]).arg(data);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A refusal closes the pipe.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    said(&child.wait_with_output().unwrap())
}

#[test]
fn a_restore_that_was_killed_is_cleaned_up_by_the_next() {
    let around = tempfile::tempdir().unwrap();
    let at = |name: &str| around.path().join(name);
    let server = Server::start(&at("data"));
    deliver(&server, 0..5);
    assert_eq!(said(&backup(&server, text(&at("copy")), false)).0, 0);
    // As a kill leaves it.
    fs::create_dir(at("new.unfinished")).unwrap();
    fs::write(at("new.unfinished/half"), "x").unwrap();
    let (code, restored, told) = restore(text(&at("copy")), &at("new"));
    assert_eq!((code, &restored["seq"]), (0, &json!(5)), "{told}");
    assert!(!at("new.unfinished").exists() && !at("new/half").exists());
    assert_eq!(run(&["verify", "--data", text(&at("new"))]).status.code(), Some(0));
}

#[test]
fn a_backup_needs_both_scopes_and_a_key_for_all_organizations() {
    let mut bound = entry("bound", &["operate", "audit"]);
    bound.organizations = Some(vec!["org_1".into()]);
    let entries = [
        entry("both", &["operate", "audit"]),
        entry("operator", &["operate", "read", "ingest"]),
        entry("auditor", &["audit", "read", "ingest"]),
        bound,
    ];
    let server = Keyed::start(&entries, &[]);
    for (name, missing) in [("operator", "`audit`"), ("auditor", "`operate`"), ("bound", "organ")] {
        let answer = server.ask(name, "post", PATH, None);
        assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{name}");
        assert!(answer.json()["message"].as_str().unwrap().contains(missing), "{name}");
    }
    let answer = server.ask("both", "post", PATH, None);
    assert_eq!((answer.status, answer.code().as_str()), (409, "log_empty"));
    let server = Keyed::start(&entries, &[(1_760_000_000_000, event(1, "x"))]);
    let answer = server.ask("both", "post", PATH, None);
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("rollcall-backup-records"), Some("1"));
    // Behind the last record there is nothing but the list.
    let behind = server.ask("both", "post", &format!("{PATH}?after_seq=1"), None);
    assert_eq!((behind.status, behind.header("rollcall-backup-records")), (200, Some("1")));
    assert!(behind.body.windows(11).any(|bytes| bytes == b"backup.json"));
    assert!(!behind.body.windows(10).any(|bytes| bytes == b"ndjson.zst"));
    let beyond = server.ask("both", "post", &format!("{PATH}?after_seq=2"), None);
    assert_eq!(beyond.status, 422);
    assert_eq!(answer.header("content-type"), Some("application/x-tar"));
    assert_eq!(server.ask("both", "post", &format!("{PATH}?x=1"), None).status, 422);
}
