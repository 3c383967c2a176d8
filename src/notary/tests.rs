use std::fs;
use std::path::Path;

use super::*;

const LOG: [u8; 16] = [7; 16];

fn files(folder: &Path) -> KeyFiles {
    KeyFiles::of(folder, None)
}

/// Returns the history of a log whose fourth record is the given change of the key, if any.
fn history(change: Option<(&str, &str)>) -> KeyHistory {
    let event =
        change.map(|(from, to)| KeyEvent { size: 4, from: from.to_owned(), to: to.to_owned() });
    KeyHistory { events: event.into_iter().collect(), root: [4; 32] }
}

fn open(folder: &Path, change: Option<(&str, &str)>) -> Result<Notary, KeyError> {
    Notary::open(files(folder), LOG, &history(change))
}

fn root(byte: u8) -> impl FnOnce() -> Result<[u8; 32], ()> {
    move || Ok([byte; 32])
}

/// Returns whether the note has this size and root and each of the keys has signed it.
fn is_signed_by(note: &str, size: Seq, root: [u8; 32], keys: &[&str]) -> bool {
    let note = Note::parse(note.as_bytes()).unwrap();
    let signed = |key: &&str| note.open(&[Verifier::parse(key).unwrap()]).is_ok();
    keys.iter().all(signed) && (note.claims().size, note.claims().root) == (size, root)
}

fn handover_file(folder: &Path) -> std::path::PathBuf {
    folder.join("checkpoint-key.handovers/00000000000000000004.checkpoint")
}

fn key_of(notary: &Notary) -> String {
    notary.verifier().to_string()
}

#[test]
fn the_first_key_is_made_once_and_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let first = key_of(&open(folder.path(), None).unwrap());
    assert!(first.starts_with("rollcall/07070707-0707-0707-0707-070707070707+"), "{first}");
    assert_eq!(
        fs::read_to_string(folder.path().join("checkpoint-key.pub")).unwrap(),
        format!("{first}\n")
    );
    assert_eq!(key_of(&open(folder.path(), None).unwrap()), first);
    // A crash between the two files leaves the private key alone: it counts.
    fs::remove_file(folder.path().join("checkpoint-key.pub")).unwrap();
    assert_eq!(key_of(&open(folder.path(), None).unwrap()), first);
    assert!(folder.path().join("checkpoint-key.pub").exists());
}

#[test]
fn a_damaged_public_key_is_written_anew_from_the_private_one_and_never_replaces_a_lost_one() {
    let folder = tempfile::tempdir().unwrap();
    let first = key_of(&open(folder.path(), None).unwrap());
    let [public, private] =
        ["checkpoint-key.pub", "checkpoint-key"].map(|name| folder.path().join(name));
    let whole = fs::read(&public).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() - 9] ^= 1;
    for damaged in [flipped, vec![0; whole.len()], Vec::new(), whole[..20].to_vec()] {
        fs::write(&public, &damaged).unwrap();
        assert_eq!(key_of(&open(folder.path(), None).unwrap()), first);
        assert!(fs::read(&public).unwrap() == whole, "{damaged:?}");
    }
    fs::write(&public, "x").unwrap();
    fs::remove_file(&private).unwrap();
    assert!(matches!(open(folder.path(), None), Err(KeyError::Public { .. })));
    assert!(!private.exists() && fs::read(&public).unwrap() == b"x", "nothing is changed");
}

#[test]
fn a_lost_key_and_an_exchanged_key_are_refused() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = key_of(&open(folder.path(), None).unwrap());
    let second = key_of(&open(other.path(), None).unwrap());
    let private = folder.path().join("checkpoint-key");
    fs::copy(other.path().join("checkpoint-key"), &private).unwrap();
    match open(folder.path(), None).err().unwrap() {
        KeyError::Exchanged { found, expected, .. } => {
            assert_eq!((found, expected), (second, first.clone()))
        }
        error => panic!("{error}"),
    }
    fs::remove_file(&private).unwrap();
    let error = open(folder.path(), None).err().unwrap();
    assert!(matches!(&error, KeyError::Lost { expected, .. } if *expected == first), "{error}");
    assert!(error.to_string().contains("--replace-checkpoint-key"), "{error}");
    assert!(!private.exists(), "no new key is made in its place");
    fs::write(&private, "x").unwrap();
    assert!(matches!(open(folder.path(), None), Err(KeyError::Malformed(_))));
    // These files are of another log.
    assert!(matches!(
        Notary::open(files(other.path()), [8; 16], &history(None)),
        Err(KeyError::Public { .. })
    ));
}

#[test]
fn a_change_is_finished_or_taken_back_wherever_it_broke_off() {
    let folder = tempfile::tempdir().unwrap();
    let (private, next) =
        (folder.path().join("checkpoint-key"), folder.path().join("checkpoint-key.next"));
    let notary = open(folder.path(), None).unwrap();
    let first = key_of(&notary);
    let change = notary.change().unwrap();
    let (from, to) = (change.from.clone(), change.to.clone());
    assert_eq!(from, first);
    // Broken off before the log has the event, it is taken back.
    let kept = fs::read(&next).unwrap();
    drop(change);
    assert_eq!(key_of(&open(folder.path(), None).unwrap()), first);
    assert!(!next.exists());
    // A partial key was never renamed into place.
    fs::write(&next, &kept[..40]).unwrap();
    fs::write(folder.path().join("checkpoint-key.next.part"), &kept[..40]).unwrap();
    assert_eq!(key_of(&open(folder.path(), None).unwrap()), first);
    assert!(
        !folder.path().join("checkpoint-key.next.part").exists(),
        "no partial private key is left"
    );
    // Broken off after the log has it, the new key counts, also when the files are only read.
    fs::write(&next, &kept).unwrap();
    assert_eq!(
        key_of(
            &Notary::open_read_only(files(folder.path()), LOG, &history(Some((&from, &to))))
                .unwrap()
        ),
        to
    );
    assert!(next.exists() && !handover_file(folder.path()).exists());
    assert_eq!(key_of(&open(folder.path(), Some((&from, &to))).unwrap()), to);
    assert!(!next.exists() && private.exists());
    assert_eq!(key_of(&open(folder.path(), Some((&from, &to))).unwrap()), to);
    // The log's last event overrides the file of the public key.
    assert!(matches!(open(folder.path(), None), Err(KeyError::Exchanged { .. })));
}

#[test]
fn the_checkpoint_of_a_change_is_signed_by_both_keys() {
    let folder = tempfile::tempdir().unwrap();
    let notary = open(folder.path(), None).unwrap();
    let note = notary.checkpoint(3, root(3)).unwrap();
    assert_eq!(notary.checkpoint(3, || Err(())), Ok(note), "it is signed only once");
    let change = notary.change().unwrap();
    let (from, to) = (Verifier::parse(&change.from).unwrap(), Verifier::parse(&change.to).unwrap());
    let handover = Note::parse(change.adopt(4, [4; 32]).as_bytes()).unwrap();
    let later = Note::parse(notary.checkpoint(5, root(5)).unwrap().as_bytes()).unwrap();
    for key in [&from, &to] {
        assert_eq!(handover.open(std::slice::from_ref(key)).unwrap().size, 4);
    }
    assert!(later.open(std::slice::from_ref(&from)).is_err());
    assert_eq!(later.open(std::slice::from_ref(&to)).unwrap().root, [5; 32]);
    let (from, to) = (from.to_string(), to.to_string());
    assert_eq!(key_of(&open(folder.path(), Some((&from, &to))).unwrap()), to);
}

#[test]
fn a_change_that_the_log_refused_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let notary = open(folder.path(), None).unwrap();
    let first = key_of(&notary);
    notary.change().unwrap().take_back();
    assert!(!folder.path().join("checkpoint-key.next").exists());
    assert_eq!(key_of(&notary), first);
}

#[test]
fn a_change_with_an_unknown_outcome_keeps_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let notary = open(folder.path(), None).unwrap();
    let from = key_of(&notary);
    let to = notary.change().unwrap().to.clone();
    assert!(matches!(notary.change(), Err(KeyError::Pending(_))));
    // The log turns out to name it.
    assert_eq!(key_of(&open(folder.path(), Some((&from, &to))).unwrap()), to);
}

#[test]
fn a_key_is_replaced_only_once_it_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let from = key_of(&open(folder.path(), None).unwrap());
    let private = folder.path().join("checkpoint-key");
    fs::remove_file(&private).unwrap();
    assert!(matches!(
        replace_key(&files(folder.path()), LOG, |_| false),
        Err(KeyError::Unrecorded)
    ));
    assert!(matches!(open(folder.path(), None), Err(KeyError::Lost { .. })));
    let mut recorded = String::new();
    let to = replace_key(&files(folder.path()), LOG, |to| {
        recorded = to.to_owned();
        true
    });
    assert_eq!(to.unwrap(), recorded);
    let notary = open(folder.path(), Some((&from, &recorded))).unwrap();
    assert_eq!(key_of(&notary), recorded);
    // A lost key cannot sign.
    assert!(!handover_file(folder.path()).exists() && notary.handovers(0, 9).is_empty());
}

#[test]
fn opening_for_reading_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Notary::open_read_only(files(folder.path()), LOG, &history(None)).is_none());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let first = key_of(&open(folder.path(), None).unwrap());
    assert_eq!(
        key_of(&Notary::open_read_only(files(folder.path()), LOG, &history(None)).unwrap()),
        first
    );
    fs::remove_file(folder.path().join("checkpoint-key")).unwrap();
    assert!(Notary::open_read_only(files(folder.path()), LOG, &history(None)).is_none());
}

#[test]
fn the_checkpoint_of_a_change_is_never_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let notary = open(folder.path(), None).unwrap();
    let change = notary.change().unwrap();
    let (from, to) = (change.from.clone(), change.to.clone());
    let note = change.adopt(4, [4; 32]);
    assert!(is_signed_by(&note, 4, [4; 32], &[&from, &to]));
    // These are many more than the cache holds.
    for size in 5..=200 {
        notary.checkpoint(size, root(9)).unwrap();
    }
    assert_eq!(notary.checkpoint(4, || Err(())), Ok(note.clone()));
    assert_eq!(notary.handovers(3, 4), [(4, note.clone())]);
    assert!(notary.handovers(4, 9).is_empty() && notary.handovers(0, 3).is_empty());
    assert_eq!(fs::read_to_string(handover_file(folder.path())).unwrap(), note);
    for opened in [
        open(folder.path(), Some((&from, &to))).unwrap(),
        Notary::open_read_only(files(folder.path()), LOG, &history(Some((&from, &to)))).unwrap(),
    ] {
        assert_eq!(opened.checkpoint(4, || Err(())), Ok(note.clone()));
        assert_eq!(opened.handovers(0, 9), [(4, note.clone())]);
    }
}

#[test]
fn a_crash_after_the_event_leaves_both_keys_so_both_can_sign() {
    let folder = tempfile::tempdir().unwrap();
    let notary = open(folder.path(), None).unwrap();
    let change = notary.change().unwrap();
    let (from, to) = (change.from.clone(), change.to.clone());
    drop(change);
    // Opening for reading finds it as well, and writes nothing.
    let looked =
        Notary::open_read_only(files(folder.path()), LOG, &history(Some((&from, &to)))).unwrap();
    let note = looked.checkpoint(4, || Err(())).unwrap();
    assert!(
        is_signed_by(&note, 4, [4; 32], &[&from, &to]) && !handover_file(folder.path()).exists()
    );
    let opened = open(folder.path(), Some((&from, &to))).unwrap();
    assert_eq!((key_of(&opened), opened.checkpoint(4, || Err(()))), (to, Ok(note.clone())));
    assert_eq!(fs::read_to_string(handover_file(folder.path())).unwrap(), note);
}

#[test]
fn no_key_is_renamed_into_place_before_both_signatures_are_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let (private, next) =
        (folder.path().join("checkpoint-key"), folder.path().join("checkpoint-key.next"));
    let blocked = folder.path().join("checkpoint-key.handovers");
    let notary = open(folder.path(), None).unwrap();
    let old = fs::read(&private).unwrap();
    fs::write(&blocked, "a file where the folder should be").unwrap();
    let change = notary.change().unwrap();
    let (from, to) = (change.from.clone(), change.to.clone());
    let note = change.adopt(4, [4; 32]);
    assert!(is_signed_by(&note, 4, [4; 32], &[&from, &to]));
    assert_eq!(
        (fs::read(&private).unwrap(), next.exists(), key_of(&notary)),
        (old, true, to.clone())
    );
    // Another change would overwrite the key that signs.
    let waiting = fs::read(&next).unwrap();
    assert!(matches!(notary.change().err(), Some(KeyError::Io { .. })));
    assert_eq!(fs::read(&next).unwrap(), waiting);
    fs::remove_file(&blocked).unwrap();
    notary.change().unwrap().take_back();
    assert_eq!(
        (fs::read(&private).unwrap(), fs::read_to_string(handover_file(folder.path())).unwrap()),
        (waiting, note)
    );
}

#[test]
fn a_file_that_is_not_a_handover_of_this_log_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let notary = open(folder.path(), None).unwrap();
    let change = notary.change().unwrap();
    let (from, to) = (change.from.clone(), change.to.clone());
    let note = change.adopt(4, [4; 32]);
    let handovers = folder.path().join("checkpoint-key.handovers");
    let alone = notary.checkpoint(5, root(5)).unwrap();
    fs::write(handovers.join("00000000000000000005.checkpoint"), &alone).unwrap();
    fs::write(handovers.join("00000000000000000006.checkpoint"), &note).unwrap();
    fs::write(handovers.join("00000000000000000007.checkpoint"), "x").unwrap();
    fs::write(handovers.join("README"), &note).unwrap();
    fs::create_dir(handovers.join("00000000000000000008.checkpoint")).unwrap();
    assert_eq!(
        open(folder.path(), Some((&from, &to))).unwrap().handovers(0, 99),
        [(4, note.clone())]
    );
    // A checkpoint that only the new key has signed is not a handover.
    let lines: Vec<&str> = note.lines().collect();
    fs::write(handover_file(folder.path()), format!("{}\n\n{}\n", lines[..3].join("\n"), lines[5]))
        .unwrap();
    assert!(open(folder.path(), Some((&from, &to))).unwrap().handovers(0, 99).is_empty());
}

#[test]
fn a_key_behind_a_link_stays_at_the_target_of_the_link() {
    let (folder, secure) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (link, target) = (folder.path().join("checkpoint-key"), secure.path().join("key"));
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let notary = open(folder.path(), None).unwrap();
    assert!(link.is_symlink() && target.is_file(), "it is made at the target");
    let old = fs::read(&target).unwrap();
    let change = notary.change().unwrap();
    assert!(secure.path().join("key.next").exists());
    let (from, to) = (change.from.clone(), change.to.clone());
    change.adopt(4, [4; 32]);
    assert!(link.is_symlink() && fs::read(&target).unwrap() != old);
    assert_eq!(key_of(&open(folder.path(), Some((&from, &to))).unwrap()), to);
}
