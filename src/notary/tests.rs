use std::fs;
use std::path::Path;

use super::*;

const LOG: [u8; 16] = [7; 16];

fn files(folder: &Path) -> KeyFiles {
    KeyFiles::of(folder, None)
}

fn open(folder: &Path, changed_to: Option<&str>) -> Result<Notary, KeyError> {
    Notary::open(files(folder), LOG, changed_to)
}

fn key_of(notary: &Notary) -> String {
    notary.verifier().to_string()
}

#[test]
fn the_first_key_is_made_once_and_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let first = key_of(&open(folder.path(), None).unwrap());
    assert!(first.starts_with("rollcall/07070707-0707-0707-0707-070707070707+"), "{first}");
    assert_eq!(fs::read_to_string(folder.path().join("checkpoint-key.pub")).unwrap(), format!("{first}\n"));
    assert_eq!(key_of(&open(folder.path(), None).unwrap()), first);
    // A crash between the two files leaves the private key alone: it counts.
    fs::remove_file(folder.path().join("checkpoint-key.pub")).unwrap();
    assert_eq!(key_of(&open(folder.path(), None).unwrap()), first);
    assert!(folder.path().join("checkpoint-key.pub").exists());
}

#[test]
fn a_lost_and_an_exchanged_key_are_noticed() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = key_of(&open(folder.path(), None).unwrap());
    let second = key_of(&open(other.path(), None).unwrap());
    let private = folder.path().join("checkpoint-key");
    fs::copy(other.path().join("checkpoint-key"), &private).unwrap();
    match open(folder.path(), None).err().unwrap() {
        KeyError::Exchanged { found, expected, .. } => assert_eq!((found, expected), (second, first.clone())),
        error => panic!("{error}"),
    }
    fs::remove_file(&private).unwrap();
    let error = open(folder.path(), None).err().unwrap();
    assert!(matches!(&error, KeyError::Lost { expected, .. } if *expected == first), "{error}");
    assert!(error.to_string().contains("--replace-checkpoint-key"), "{error}");
    assert!(!private.exists(), "nothing is made in its place");
    fs::write(&private, "x").unwrap();
    assert!(matches!(open(folder.path(), None), Err(KeyError::Malformed(_))));
    // The files of another log.
    assert!(matches!(Notary::open(files(other.path()), [8; 16], None), Err(KeyError::Public { .. })));
}

#[test]
fn a_change_is_finished_or_taken_back_wherever_it_broke_off() {
    let folder = tempfile::tempdir().unwrap();
    let (private, next) = (folder.path().join("checkpoint-key"), folder.path().join("checkpoint-key.next"));
    let notary = open(folder.path(), None).unwrap();
    let first = key_of(&notary);
    let change = notary.change().unwrap();
    let (from, to) = (change.from.clone(), change.to.clone());
    assert_eq!(from, first);
    // Broken off before the log has the event: forgotten.
    let kept = fs::read(&next).unwrap();
    drop(change);
    assert_eq!(key_of(&open(folder.path(), None).unwrap()), first);
    assert!(!next.exists());
    // Half a key, which was never put in its place.
    fs::write(&next, &kept[..40]).unwrap();
    fs::write(folder.path().join("checkpoint-key.next.part"), &kept[..40]).unwrap();
    assert_eq!(key_of(&open(folder.path(), None).unwrap()), first);
    assert!(!folder.path().join("checkpoint-key.next.part").exists(), "nor is half a private key left about");
    // Broken off after the log has it: it counts, and so it does for who only looks.
    fs::write(&next, &kept).unwrap();
    assert_eq!(key_of(&Notary::look(files(folder.path()), LOG, Some(&to)).unwrap()), to);
    assert!(next.exists());
    assert_eq!(key_of(&open(folder.path(), Some(&to)).unwrap()), to);
    assert!(!next.exists() && private.exists());
    assert_eq!(key_of(&open(folder.path(), Some(&to)).unwrap()), to);
    // The log's word counts more than the first public key.
    assert!(matches!(open(folder.path(), None), Err(KeyError::Exchanged { .. })));
}

#[test]
fn the_checkpoint_of_a_change_is_signed_by_both_keys() {
    let folder = tempfile::tempdir().unwrap();
    let notary = open(folder.path(), None).unwrap();
    let root = |byte: u8| move || Ok::<_, ()>([byte; 32]);
    let note = notary.checkpoint(3, root(3)).unwrap();
    assert_eq!(notary.checkpoint(3, || Err(())), Ok(note), "it is signed once");
    let change = notary.change().unwrap();
    let (from, to) = (Verifier::parse(&change.from).unwrap(), Verifier::parse(&change.to).unwrap());
    let handover = Note::parse(change.adopt(4, [4; 32]).as_bytes()).unwrap();
    let later = Note::parse(notary.checkpoint(5, root(5)).unwrap().as_bytes()).unwrap();
    for key in [&from, &to] {
        assert_eq!(handover.open(std::slice::from_ref(key)).unwrap().size, 4);
    }
    assert!(later.open(&[from]).is_err());
    assert_eq!(later.open(std::slice::from_ref(&to)).unwrap().root, [5; 32]);
    assert_eq!(key_of(&open(folder.path(), Some(&to.to_string())).unwrap()), to.to_string());
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
fn a_key_is_replaced_only_once_it_is_recorded() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path(), None).unwrap();
    let private = folder.path().join("checkpoint-key");
    fs::remove_file(&private).unwrap();
    assert!(matches!(replace_key(&files(folder.path()), LOG, |_| false), Err(KeyError::Unrecorded)));
    assert!(matches!(open(folder.path(), None), Err(KeyError::Lost { .. })));
    let mut recorded = String::new();
    let to = replace_key(&files(folder.path()), LOG, |to| {
        recorded = to.to_owned();
        true
    });
    assert_eq!(to.unwrap(), recorded);
    assert_eq!(key_of(&open(folder.path(), Some(&recorded)).unwrap()), recorded);
}

#[test]
fn who_only_looks_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Notary::look(files(folder.path()), LOG, None).is_none());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let first = key_of(&open(folder.path(), None).unwrap());
    assert_eq!(key_of(&Notary::look(files(folder.path()), LOG, None).unwrap()), first);
    fs::remove_file(folder.path().join("checkpoint-key")).unwrap();
    assert!(Notary::look(files(folder.path()), LOG, None).is_none());
}
