//! Tests that change the files of a log without the log. A start and an audit must notice, and name
//! the records.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use rollcall_projections::{
    Cut, EventFilter, Fact, Millis, Quarantined, Reason, RecordStatus, Seq, Sight, Start, Views,
};
use tempfile::TempDir;

use super::acknowledgement::{Acknowledgement, AcknowledgementFile};
use super::archive::ArchivedRecord;
use super::block::{Parts, RecordParts, encode_lost};
use super::filling::Filling;
use super::store::{part_key, rewrite};
use super::{
    Acknowledged, Audit, DeferredStep, DeferredVerdict, DiskLog, Finding, History, Kept, KeptBytes,
    Log, LogId, LogPart, OpenError, Outcome, Prefix, ReadError, ScrubFinding, StoppedFolder,
    Unrecovered, Unsigned, salvage,
};
use crate::keys::ApiKeys;
use crate::verify::{Act, FACTS_VERSION, Keyring, Observation, Observed, Origin, Proof, Verified};
use rollcall_generator::sign;

const NOW: Millis = 1_760_000_000_000;
const CACHE_BYTES: u64 = 16 << 20;

fn keyring() -> Keyring {
    Keyring::new(["s"], 0)
}

fn event(id: &str, name: &str) -> Verified {
    let body = format!(
        concat!(
            r#"{{"id":"{id}","event":"dsync.user.created","data":{{"id":"u","#,
            r#""directory_id":"d","state":"active","first_name":"{name}"}},"#,
            r#""created_at":"2025-01-01T00:00:00Z"}}"#,
        ),
        id = id,
        name = name
    );
    webhook(body)
}

fn webhook(body: String) -> Verified {
    let header = sign("s", NOW, body.as_bytes());
    Verified::webhook(&keyring(), Some(header.as_bytes()), body.into(), NOW).unwrap()
}

fn act() -> Verified {
    let operator = ApiKeys::unrestricted(["sk"]).identify("sk").unwrap();
    Verified::operator(
        &operator,
        &Act::DirectoryDeleted { id: "d2".into(), not_before: NOW },
        None,
        NOW,
    )
    .unwrap()
}

fn origin() -> Origin {
    Origin::new("https://source.example", "sk_source")
}

/// Returns the event that becomes record `n`: most are webhooks.
fn event_of(n: Seq) -> Verified {
    let body = |id: &str| event(id, "x").body().clone();
    match n {
        PULLED => Verified::pulled(&origin(), NOW, body("pulled")),
        IMPORTED => {
            let operator = ApiKeys::unrestricted(["sk"]).identify("sk").unwrap();
            Verified::imported(&operator, body("imported"))
        }
        OBSERVED => {
            let observation = Observation {
                observed: Observed::User { id: "u".into(), directory: "d".into(), object: None },
                observed_at: NOW - 1,
                run: "run_1".into(),
            };
            Verified::observed(&origin(), &observation, NOW - 1, NOW).unwrap()
        }
        n => event(&format!("e{n}"), "x"),
    }
}

const PULLED: Seq = 20;
const IMPORTED: Seq = 21;
const OBSERVED: Seq = 22;

/// The number of records without a signature.
const UNSIGNED: Seq = 4;

/// The number of records in the log of these tests. Record 5 is a conflict, 3 has no id, 6 is an
/// operator's, and 20 to 22 are pulled, imported and observed. They are in blocks of 1, 2, 4 and 20, the last in two frames.
const HEAD: Seq = 27;
const BLOCKS: [(Seq, Seq); 4] = [(1, 1), (2, 3), (4, 7), (8, 27)];

fn open(folder: &Path) -> Result<impl Log + use<>, OpenError> {
    Unrecovered::open(folder, CACHE_BYTES)?.recover(&|_| {})
}

fn audit(folder: &Path) -> Audit {
    StoppedFolder::open(folder).unwrap().audit(&keyring(), &|_| {})
}

/// What a snapshot of the first records of a log knows of them.
struct Covered {
    log_id: LogId,
    root: [u8; 32],
    recorded_at: Millis,
    kept: KeptBytes,
}

impl Covered {
    fn of(log: &impl Log, recorded_at: Millis) -> Covered {
        let kept = log.keep().unwrap();
        let (log_id, root) = (log.identity().log_id, log.root(kept.seq).unwrap());
        Covered { log_id, root, recorded_at, kept }
    }

    fn prefix(&self) -> Prefix {
        let Covered { log_id, root, recorded_at, ref kept } = *self;
        let kept = Kept::decode(kept.seq, &kept.bytes).unwrap();
        Prefix { log_id, root, recorded_at, key_changes: Vec::new(), kept }
    }
}

/// Fills a log. Returns what snapshots cover that were made before the last batch, and after it.
fn filled(folder: &Path) -> [Covered; 2] {
    let log = open(folder).unwrap();
    let mut covered = Vec::new();
    let batches = [
        vec![event("a", "x")],
        vec![event("b", "x"), webhook("not json".into())],
        vec![event("c", "x"), event("a", "another"), act(), event("d", "x")],
        (8..=HEAD).map(event_of).collect(),
    ];
    for (batch, stamp) in batches.into_iter().zip(NOW..) {
        log.append(batch, stamp).unwrap();
        covered.push(Covered::of(&log, stamp));
    }
    assert_eq!(log.head(), HEAD);
    let [.., old, current]: [Covered; 4] = covered.try_into().ok().unwrap();
    [old, current]
}

/// Returns whether `ROLLCALL_TEST_SCALE` asks for more than the usual: then every place is damaged,
/// not some of them.
fn asks_for_more() -> bool {
    std::env::var("ROLLCALL_TEST_SCALE").is_ok_and(|scale| scale != "1")
}

/// A folder to copy from, with what an old snapshot of it covers and a current one.
struct Folder(Vec<FolderFile>, [Covered; 2]);

struct FolderFile {
    path: String,
    /// Its bytes up to the zeros at the end.
    bytes: Vec<u8>,
    length: u64,
}

impl Folder {
    fn of(folder: &Path, covered: [Covered; 2]) -> Folder {
        let mut found = Vec::new();
        for sub in ["", "store", "tree"] {
            for entry in fs::read_dir(folder.join(sub))
                .unwrap()
                .map(Result::unwrap)
                .filter(|entry| entry.path().is_file())
            {
                let path = Path::new(sub).join(entry.file_name()).to_string_lossy().into_owned();
                let mut bytes = fs::read(entry.path()).unwrap();
                let length = bytes.len() as u64;
                bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1));
                found.push(FolderFile { path, bytes, length });
            }
        }
        Folder(found, covered)
    }

    fn copied(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        ["store/blobs", "tree"]
            .iter()
            .for_each(|sub| fs::create_dir_all(folder.path().join(sub)).unwrap());
        for FolderFile { path, bytes, length } in &self.0 {
            put(&folder.path().join(path), bytes, *length);
        }
        folder
    }
}

/// Writes a file and extends it with zeros up to `length`.
fn put(path: &Path, bytes: &[u8], length: u64) {
    let mut file = fs::File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    file.set_len(length).unwrap();
}

fn sound() -> Folder {
    let folder = tempfile::tempdir().unwrap();
    let covered = filled(folder.path());
    Folder::of(folder.path(), covered)
}

fn block_of(seq: Seq) -> (Seq, Seq) {
    *BLOCKS.iter().find(|(first, last)| (*first..=*last).contains(&seq)).unwrap()
}

/// Changes the block that holds a record, with valid checksums.
fn edit(folder: &Path, seq: Seq, change: impl FnOnce(&mut Parts)) {
    let (first, _) = block_of(seq);
    rewrite(folder, |blocks| {
        let bytes = blocks.get_mut(&part_key(first, 0)[..]).unwrap();
        let mut parts = Parts::of(bytes);
        change(&mut parts);
        *bytes = parts.put_together(first);
    });
}

/// Returns the records among which a start without a snapshot finds the first damage. Starts with a
/// current snapshot, and with an old one, must find it as well, or the check behind them.
fn refused(original: &Folder, folder: &Path) -> Option<(Seq, Seq)> {
    let found = judged(open(folder).map(|_| None));
    for covered in &original.1 {
        let late = judged(found_deferred(folder, covered.prefix()));
        let first = |found: Option<(Seq, Seq)>| found.map(|(first, _)| first);
        assert_eq!(first(late), first(found), "a snapshot of {} records", covered.kept.seq);
    }
    found
}

fn judged(started: Result<Option<(Seq, Seq)>, OpenError>) -> Option<(Seq, Seq)> {
    match started {
        Ok(found) => found,
        Err(OpenError::Diverged { seq, last, .. }) => Some((seq, last)),
        Err(other) => panic!("{other}"),
    }
}

/// Opens a log from a snapshot, and takes every step of the deferred check.
fn checked_deferred(
    folder: &Path,
    prefix: Prefix,
) -> Result<(DiskLog, DeferredVerdict), OpenError> {
    let unrecovered = Unrecovered::open(folder, CACHE_BYTES)?;
    let log = DiskLog::open(unrecovered.check_after(Some(prefix), &|_| {})?, 0)?;
    loop {
        if let DeferredStep::Ended(verdict) = log.check_deferred().unwrap() {
            return Ok((log, verdict));
        }
    }
}

/// Starts from a snapshot. Returns the first records that the check behind the start finds damaged,
/// none of which can be read any more.
fn found_deferred(folder: &Path, prefix: Prefix) -> Result<Option<(Seq, Seq)>, OpenError> {
    let (log, verdict) = checked_deferred(folder, prefix)?;
    if verdict != DeferredVerdict::Damaged {
        return Ok(None);
    }
    let findings = log.scrub().unwrap().findings;
    for ScrubFinding { first, last, .. } in &findings {
        for seq in *first..=*last {
            let is_refused =
                |error: ReadError| matches!(error, ReadError::Damaged { seq: of, .. } if of == seq);
            assert!(log.bodies(&[seq]).is_err_and(is_refused), "{seq}");
            assert!(log.read(seq - 1, 1, usize::MAX).is_err_and(is_refused), "{seq}");
            let folded = log.entries(seq - 1, 1, &mut |_| {});
            assert!(folded.is_err_and(is_refused), "{seq}");
        }
    }
    Ok(findings.first().map(|finding| (finding.first, finding.last)))
}

fn about(audit: &Audit) -> Vec<(Seq, Seq, LogPart)> {
    audit.findings.iter().map(|Finding { first, last, part, .. }| (*first, *last, *part)).collect()
}

#[test]
fn a_sound_log_is_found_sound_and_all_of_it_is_checked() {
    let folder = sound().copied();
    let log = open(folder.path()).unwrap();
    let roots: Vec<_> = (0..=HEAD).map(|size| log.root(size).unwrap()).collect();
    drop(log);
    let audit = audit(folder.path());
    assert_eq!(about(&audit), []);
    let unsigned = Unsigned { acts: 1, pulled: 1, observed: 1, imported: 1, scim: 0 };
    assert_eq!(
        (audit.findings_count, audit.records, audit.unsigned, audit.size()),
        (0, HEAD, unsigned, HEAD)
    );
    assert_eq!(
        (audit.signatures.verified, audit.signatures.key_not_at_hand, audit.signatures.wrong),
        (HEAD - UNSIGNED, 0, 0)
    );
    assert_eq!((audit.acknowledged, audit.tiles_complete), (Acknowledged::Same(HEAD), true));
    assert_eq!((0..=HEAD).map(|size| audit.root(size).unwrap()).collect::<Vec<_>>(), roots);
    assert_eq!(audit.root(HEAD + 1), None);
    // An audit leaves no trace: the next start does not assume that the last stop was unclean.
    assert!(!folder.path().join("unclean").exists());
    let without =
        StoppedFolder::open(folder.path()).unwrap().audit(&Keyring::new(["t"], 0), &|_| {});
    assert_eq!(
        (without.findings_count, without.signatures.verified, without.signatures.key_not_at_hand),
        (0, 0, HEAD - UNSIGNED)
    );
}

#[test]
fn a_start_from_a_snapshot_of_a_sound_log_is_the_same_and_the_check_behind_it_finds_nothing() {
    let original = sound();
    let whole = original.copied();
    let whole = open(whole.path()).unwrap();
    for covered in &original.1 {
        let folder = original.copied();
        let (log, verdict) = checked_deferred(folder.path(), covered.prefix()).unwrap();
        assert_eq!(verdict, DeferredVerdict::Sound);
        let late = log.scrub().unwrap().deferred.unwrap();
        assert_eq!((late.position, late.until), (covered.kept.seq, covered.kept.seq));
        assert!(late.finished_at.is_some());
        assert_eq!(log.root(HEAD).unwrap(), whole.root(HEAD).unwrap());
        let read = |log: &dyn Log| log.read(0, 99, usize::MAX).unwrap();
        assert!(read(&log) == read(&whole));
        // What is there is known, in the prefix and behind it, with an id and without one.
        let again = vec![event("a", "x"), webhook("not json".into()), event("e27", "x")];
        let duplicate = |seq| Outcome::Duplicate { seq, differs: false };
        let outcomes = log.append(again, NOW + 9).unwrap();
        assert_eq!(outcomes, [duplicate(1), duplicate(3), duplicate(HEAD)]);
        assert_eq!(log.append(vec![event("new", "x")], NOW + 9), Ok(vec![Outcome::New(HEAD + 1)]));
        drop(log);
        assert_eq!(about(&audit(folder.path())), []);
    }
}

#[test]
fn a_snapshot_that_lies_about_its_log_spares_no_check() {
    let original = sound();
    let [_, current] = &original.1;
    let lies: [fn(&mut Prefix); 6] = [
        |prefix| prefix.recorded_at += 1,
        |prefix| prefix.log_id[0] ^= 1,
        |prefix| prefix.root[0] ^= 1,
        |prefix| prefix.kept.metadata[0] ^= 1,
        |prefix| prefix.kept.lost = vec![(2, 2)],
        // Record 2 changes no key.
        |prefix| prefix.key_changes = vec![2],
    ];
    for (at, lie) in lies.into_iter().enumerate() {
        let folder = original.copied();
        let mut prefix = current.prefix();
        lie(&mut prefix);
        let (log, verdict) = checked_deferred(folder.path(), prefix).unwrap();
        // All was checked before.
        assert_eq!(
            (verdict, log.scrub(), log.head()),
            (DeferredVerdict::Sound, None, HEAD),
            "{at}"
        );
    }
    // Nor does one without an acknowledgement, or without tiles.
    for gone in ["checkpoint", "tree/0"] {
        let folder = original.copied();
        fs::remove_file(folder.path().join(gone)).unwrap();
        let (log, _) = checked_deferred(folder.path(), current.prefix()).unwrap();
        assert_eq!((log.scrub(), log.head()), (None, HEAD), "{gone}");
    }
}

#[test]
fn an_index_that_a_snapshot_had_wrong_is_put_right_behind_the_start() {
    let original = sound();
    let folder = original.copied();
    let Covered { log_id, root, recorded_at, kept } = &original.1[1];
    let mut bytes = kept.bytes.clone();
    // The fingerprint of the last record is the last in the bytes.
    *bytes.last_mut().unwrap() ^= 1;
    let is_index = |bytes: &[u8]| {
        let log = StoppedFolder::open(folder.path()).unwrap().recover(&|_| {}).unwrap();
        Kept::decode(HEAD, bytes).unwrap().is_index_of(&log)
    };
    assert_eq!((is_index(&kept.bytes), is_index(&bytes)), (Ok(true), Ok(false)));
    let kept = Kept::decode(HEAD, &bytes).unwrap();
    let (log_id, root, recorded_at) = (*log_id, *root, *recorded_at);
    let prefix = Prefix { log_id, root, recorded_at, key_changes: Vec::new(), kept };
    let (log, verdict) = checked_deferred(folder.path(), prefix).unwrap();
    assert_eq!(verdict, DeferredVerdict::OtherIndex);
    let duplicate = Outcome::Duplicate { seq: HEAD, differs: false };
    assert_eq!(log.append(vec![event("e27", "x")], NOW + 9), Ok(vec![duplicate]));
}

/// Replaces the records of a block by their leaves, with the stamp of their batch.
fn lose(folder: &Path, (first, last): (Seq, Seq)) {
    let log = open(folder).unwrap();
    let records = log.read(first - 1, (last - first + 1) as usize, usize::MAX).unwrap();
    drop(log);
    let leaves: Vec<_> = records.iter().map(|record| record.leaf()).collect();
    assert_eq!((records[0].seq, records.last().unwrap().seq), (first, last));
    let mut blocks =
        encode_lost(records[0].log_id, first, records[0].recorded_at, &leaves).unwrap();
    let (at, lost) = blocks.remove(0);
    assert_eq!((at, blocks.len()), (first, 0));
    rewrite(folder, |blocks| drop(blocks.insert(part_key(first, 0).to_vec(), lost)));
}

#[test]
fn records_that_are_lost_since_they_were_acknowledged_refuse_a_start_and_are_found_by_an_audit() {
    let original = sound();
    for (first, last) in BLOCKS {
        let folder = original.copied();
        lose(folder.path(), (first, last));
        assert_eq!(refused(&original, folder.path()), Some((first, last)));
        let audit = audit(folder.path());
        let expected = (first, last, LogPart::Acknowledgement);
        assert!(about(&audit).contains(&expected), "{:?}", audit.findings);
        assert_eq!((audit.first_bad(), audit.lost), (Some(first), vec![]));
        // What is left of the log can be read, and the others count as missing.
        let stopped = StoppedFolder::open(folder.path()).unwrap();
        let (log, damage) = stopped.recover_remaining(&|_| {}).unwrap();
        assert_eq!(damage.unwrap().missing, [(first, last)]);
        assert_eq!((log.once_lost(), log.head()), (vec![], HEAD));
        let place = tempfile::tempdir().unwrap();
        let salvaged = salvage(folder.path(), &[], &place.path().join("new"), &|_| {}).unwrap();
        assert_eq!((salvaged.missing, salvaged.lost), (vec![(first, last)], vec![]));
    }
}

/// Makes the folder of a log that was restored without the records of a block.
fn restored_without(original: &Folder, (first, last): (Seq, Seq)) -> TempDir {
    let folder = original.copied();
    let log = open(folder.path()).unwrap();
    let (records, log_id) = (log.read(0, 99, usize::MAX).unwrap(), log.identity().log_id);
    drop(log);
    let restored = tempfile::tempdir().unwrap();
    let mut filling = Filling::begin(restored.path(), log_id, NOW).unwrap();
    for record in &records {
        match (first..=last).contains(&record.seq) {
            true => filling.put_lost(record.leaf()).unwrap(),
            false => filling.put(ArchivedRecord::from(record)).unwrap(),
        }
    }
    filling.write().unwrap();
    filling.finish(restored.path()).unwrap();
    restored
}

#[test]
fn records_without_which_a_log_was_restored_are_not_blamed_for_one_that_was_changed_later() {
    let original = sound();
    let lost = (4, 7);
    let edits: [RecordEdit; 3] = [
        |record| record.occurred_at = Some(1),
        |record| record.status = RecordStatus::Conflict { first: 1 },
        |record| (record.salt, record.occurred_at) = ([1; 16], Some(1)),
    ];
    for (at, change) in edits.into_iter().enumerate() {
        let folder = restored_without(&original, lost);
        let sound = audit(folder.path());
        assert_eq!((about(&sound), &sound.lost[..]), (vec![], &[lost][..]));
        edit(folder.path(), 9, |parts| change(&mut parts.records[1]));
        assert_eq!(judged(open(folder.path()).map(|_| None)), Some((9, 9)), "{at}");
        let audit = audit(folder.path());
        assert_eq!((audit.first_bad(), &audit.lost[..]), (Some(9), &[lost][..]), "{at}");
        let stopped = StoppedFolder::open(folder.path()).unwrap();
        let (log, damage) = stopped.recover_remaining(&|_| {}).unwrap();
        assert!(damage.unwrap().missing.iter().all(|missing| *missing == (9, 9)), "{at}");
        assert_eq!(log.once_lost(), [lost], "{at}");
        drop(log);
        let place = tempfile::tempdir().unwrap();
        let salvaged = salvage(folder.path(), &[], &place.path().join("new"), &|_| {}).unwrap();
        assert_eq!(salvaged.lost, [lost], "{at}");
    }
}

#[test]
fn records_that_a_forged_snapshot_has_as_lost_are_found_behind_the_start() {
    let original = sound();
    for (first, last) in BLOCKS {
        let folder = original.copied();
        lose(folder.path(), (first, last));
        let mut prefix = original.1[1].prefix();
        prefix.kept.lost = vec![(first, last)];
        let (log, verdict) = checked_deferred(folder.path(), prefix).unwrap();
        assert_eq!(verdict, DeferredVerdict::Damaged);
        // Record 5 is a conflict with record 1, which its leaf alone does not show.
        let conflict = (first == 1).then_some((5, 5));
        let expected: Vec<_> = [(first, last)].into_iter().chain(conflict).collect();
        assert_eq!(found_by(&log), expected);
    }
}

#[test]
fn a_record_that_is_said_since_it_was_acknowledged_not_to_have_been_usable_is_found() {
    let original = sound();
    let unknown = webhook(r#"{"id":"q","event":"dsync.unheard_of","data":{}}"#.into());
    for seq in [1, 9, HEAD] {
        let folder = original.copied();
        edit(folder.path(), seq, |parts| {
            let record = &mut parts.records[(seq - block_of(seq).0) as usize];
            record.unusable_at_first = unknown.unusable_at_first();
        });
        assert_eq!(about(&audit(folder.path())), [(seq, seq, LogPart::Acknowledgement)]);
        assert_eq!(refused(&original, folder.path()), Some((seq, seq)));
    }
}

#[test]
fn records_that_were_replaced_by_their_leaves_are_damage_and_refuse_no_other_event() {
    let original = sound();
    let folder = original.copied();
    let Covered { log_id, root, recorded_at, kept } = &original.1[1];
    lose(folder.path(), (4, 7));
    // The index of the snapshot also misses record 27.
    let mut bytes = kept.bytes.clone();
    *bytes.last_mut().unwrap() ^= 1;
    let kept = Kept::decode(HEAD, &bytes).unwrap();
    let (log_id, root, recorded_at) = (*log_id, *root, *recorded_at);
    let prefix = Prefix { log_id, root, recorded_at, key_changes: Vec::new(), kept };
    let (log, verdict) = checked_deferred(folder.path(), prefix).unwrap();
    assert_eq!(verdict, DeferredVerdict::Damaged);
    let found: Vec<_> =
        log.scrub().unwrap().findings.iter().map(|found| (found.first, found.last)).collect();
    assert_eq!(found, [(4, 7)]);
    // What is lost is appended again, and the index over the sound records is right.
    let batch = vec![event("c", "x"), event("e27", "x"), event("b", "x"), event("new", "x")];
    let duplicate = |seq| Outcome::Duplicate { seq, differs: false };
    let expected =
        vec![Outcome::New(HEAD + 1), duplicate(HEAD), duplicate(2), Outcome::New(HEAD + 2)];
    assert_eq!(log.append(batch, NOW + 9), Ok(expected));
}

#[test]
fn an_event_that_comes_again_is_compared_with_no_damaged_record_whether_or_not_it_is_found_yet() {
    let original = sound();
    for is_found in [false, true] {
        let folder = original.copied();
        edit(folder.path(), 2, |parts| {
            let body = String::from_utf8(parts.records[0].body.clone()).unwrap();
            parts.records[0].body = body.replace(r#""x""#, r#""y""#).into_bytes();
        });
        // The same body, which another record than the acknowledged one has.
        edit(folder.path(), 9, |parts| parts.records[1].salt = [1; 16]);
        let unrecovered = Unrecovered::open(folder.path(), CACHE_BYTES).unwrap();
        let checked = unrecovered.check_after(Some(original.1[1].prefix()), &|_| {}).unwrap();
        let log = DiskLog::open(checked, 0).unwrap();
        let end = || while log.check_deferred() == Ok(DeferredStep::GoesOn) {};
        if is_found {
            end();
        }
        // It is not said that there is no such event.
        for (id, seq) in [("b", 2), ("e9", 9)] {
            let found = log.find(id);
            assert!(matches!(found, Err(ReadError::Damaged { seq: of, .. }) if of == seq), "{id}");
        }
        let (changed, same) = (event("b", "x"), event("e9", "x"));
        assert_eq!(log.repeats(&changed, &[2]), Ok(None));
        assert_eq!(log.repeats(&same, &[9]), Ok(None));
        let batch = || vec![changed.clone(), same.clone(), event("e10", "x")];
        let duplicate = |seq| Outcome::Duplicate { seq, differs: false };
        let new = vec![Outcome::New(HEAD + 1), Outcome::New(HEAD + 2), duplicate(10)];
        assert_eq!(log.append(batch(), NOW + 9), Ok(new), "{is_found}");
        end();
        let again = vec![duplicate(HEAD + 1), duplicate(HEAD + 2), duplicate(10)];
        assert_eq!(log.append(batch(), NOW + 9), Ok(again), "{is_found}");
        assert_eq!((log.find("b"), log.find("e9")), (Ok(Some(HEAD + 1)), Ok(Some(HEAD + 2))));
        assert_eq!(log.find("none"), Ok(None));
        let findings = log.scrub().unwrap().findings;
        let found: Vec<_> = findings.iter().map(|found| (found.first, found.last)).collect();
        assert_eq!(found, [(2, 2), (9, 9)]);
        drop(log);
        assert_eq!(judged(open(folder.path()).map(|_| None)), Some((2, 2)));
    }
}

#[test]
fn an_event_that_comes_again_is_known_although_the_tree_cannot_be_read() {
    let original = sound();
    for tiles in [vec![], vec![7; 32 * HEAD as usize]] {
        let folder = original.copied();
        let unrecovered = Unrecovered::open(folder.path(), CACHE_BYTES).unwrap();
        let checked = unrecovered.check_after(Some(original.1[1].prefix()), &|_| {}).unwrap();
        let log = DiskLog::open(checked, 0).unwrap();
        put(&folder.path().join("tree/0"), &tiles, tiles.len() as u64);
        let batch = vec![event("a", "x"), event("e9", "x"), event("new", "x")];
        let duplicate = |seq| Outcome::Duplicate { seq, differs: false };
        let expected = vec![duplicate(1), duplicate(9), Outcome::New(HEAD + 1)];
        assert_eq!(log.append(batch, NOW + 9), Ok(expected));
        assert_eq!(log.find("a"), Ok(Some(1)));
    }
}

#[test]
fn an_error_of_the_operating_system_is_no_damage_unless_the_disk_reports_it_again_and_again() {
    let original = sound();
    let [interrupted, input_output, too_many_files] = [4, 5, 24];
    let folder = original.copied();
    let start = || {
        let unrecovered = Unrecovered::open(folder.path(), CACHE_BYTES).unwrap();
        let checked = unrecovered.check_after(Some(original.1[1].prefix()), &|_| {}).unwrap();
        DiskLog::open(checked, 0).unwrap()
    };
    let log = start();
    // The last comes first.
    let passing = [vec![input_output; 4], vec![too_many_files; 9], vec![interrupted; 9]].concat();
    log.fail_reads(passing.clone());
    for code in passing.into_iter().rev() {
        assert_eq!(log.check_deferred(), Err(ReadError::Disk { code }));
    }
    let end = |log: &DiskLog| loop {
        if let DeferredStep::Ended(verdict) = log.check_deferred().unwrap() {
            return verdict;
        }
    };
    assert_eq!(end(&log), DeferredVerdict::Sound);
    assert_eq!(log.scrub().unwrap().findings, []);
    drop(log);
    let log = start();
    log.fail_reads(vec![input_output; 5]);
    for _ in 0..4 {
        assert_eq!(log.check_deferred(), Err(ReadError::Disk { code: input_output }));
    }
    assert_eq!(end(&log), DeferredVerdict::Damaged);
    let findings = log.scrub().unwrap().findings;
    let [ScrubFinding { first: 1, last: 1, what, in_memory: false }] = &findings[..] else {
        panic!("{findings:?}");
    };
    assert_eq!(
        what,
        "the store cannot be read: Input/output error (os error 5), at each of 5 tries"
    );
    // The record may be sound: its event is known as before.
    let duplicate = Outcome::Duplicate { seq: 1, differs: false };
    assert_eq!(log.append(vec![event("a", "x")], NOW + 9), Ok(vec![duplicate]));
}

/// Starts from a current snapshot.
fn started(original: &Folder, folder: &Path) -> DiskLog {
    let unrecovered = Unrecovered::open(folder, CACHE_BYTES).unwrap();
    let checked = unrecovered.check_after(Some(original.1[1].prefix()), &|_| {}).unwrap();
    DiskLog::open(checked, 0).unwrap()
}

/// Takes every step of the deferred check. Returns how many of them the disk let fail.
fn failed_steps(log: &DiskLog) -> usize {
    let mut failed = 0;
    loop {
        match log.check_deferred() {
            Ok(DeferredStep::Ended(_)) => return failed,
            Ok(DeferredStep::GoesOn) => {}
            Err(ReadError::Disk { .. }) => failed += 1,
            Err(other) => panic!("{other}"),
        }
    }
}

fn found_by(log: &DiskLog) -> Vec<(Seq, Seq)> {
    let findings = log.scrub().unwrap().findings;
    findings.iter().map(|finding| (finding.first, finding.last)).collect()
}

#[test]
fn the_events_of_a_block_that_the_disk_could_not_read_for_a_while_stay_known() {
    let original = sound();
    let duplicate = |seq| Outcome::Duplicate { seq, differs: false };
    let conflict = Outcome::Conflict { seq: 5, first: 1, duplicate: true };
    // The disk reads some blocks, fails, and is well again. Of the six errors at the last block the
    // first comes at the end of the step that reads the blocks before it.
    for (read, errors, block) in [(2, 5, (4, 7)), (3, 6, (8, HEAD))] {
        let folder = original.copied();
        let log = started(&original, folder.path());
        log.fail_reads([vec![5; errors], vec![0; read]].concat());
        failed_steps(&log);
        assert_eq!(found_by(&log), [block]);
        let what = &log.scrub().unwrap().findings[0].what;
        assert!(what.ends_with("at each of 5 tries"), "{what}");
        let batch =
            vec![event("c", "x"), event("a", "another"), event("d", "x"), event("e27", "x")];
        let known = vec![duplicate(4), conflict, duplicate(7), duplicate(HEAD)];
        assert_eq!(log.append(batch, NOW + 9), Ok(known), "{block:?}");
        drop(log);
        assert_eq!(judged(open(folder.path()).map(|_| None)), None);
    }
}

#[test]
fn each_record_of_a_block_that_the_disk_cannot_read_is_not_tried_as_often_as_the_first() {
    let original = sound();
    let folder = original.copied();
    let log = started(&original, folder.path());
    // Five tries at record 4, and one at each of the others of its block, in the same step.
    log.fail_reads([vec![5; 8], vec![0; 2]].concat());
    assert_eq!(failed_steps(&log), 5);
    assert_eq!(found_by(&log), [(4, 7)]);
}

#[test]
fn a_conflict_whose_first_record_the_disk_cannot_read_does_not_hold_up_the_deferred_check() {
    let original = sound();
    let folder = original.copied();
    // Conflicts are compared only if the metadata differs.
    edit(folder.path(), 9, |parts| parts.records[1].occurred_at = Some(1));
    let log = started(&original, folder.path());
    let [input_output, too_many_files] = [5, 24];
    log.fail_comparisons([vec![input_output; 5], vec![too_many_files; 9]].concat());
    assert_eq!(failed_steps(&log), 9 + 4);
    assert_eq!(found_by(&log), [(5, 5), (9, 9)]);
    let what = &log.scrub().unwrap().findings[0].what;
    assert!(what.ends_with("at each of 5 tries"), "{what}");
    let conflict = Outcome::Conflict { seq: 5, first: 1, duplicate: true };
    assert_eq!(log.append(vec![event("a", "another")], NOW + 9), Ok(vec![conflict]));
}

#[test]
fn the_event_of_a_record_that_only_has_other_facts_stays_known() {
    let original = sound();
    let unknown = webhook(r#"{"id":"q","event":"dsync.unheard_of","data":{}}"#.into());
    let changes: [&dyn Fn(&mut RecordParts); 2] =
        [&|record| record.occurred_at = Some(1), &|record| {
            record.unusable_at_first = unknown.unusable_at_first();
        }];
    for change in changes {
        let folder = original.copied();
        edit(folder.path(), 9, |parts| change(&mut parts.records[1]));
        let log = started(&original, folder.path());
        assert_eq!(failed_steps(&log), 0);
        assert_eq!(found_by(&log), [(9, 9)]);
        assert!(matches!(log.bodies(&[9]), Err(ReadError::Damaged { seq: 9, .. })));
        // Its leaf proves its body, with which it is compared.
        let duplicate = Outcome::Duplicate { seq: 9, differs: false };
        assert_eq!(log.repeats(&event("e9", "x"), &[9]), Ok(Some(duplicate)));
        assert_eq!(log.append(vec![event("e9", "x")], NOW + 9), Ok(vec![duplicate]));
    }
}

#[test]
fn what_a_step_of_the_deferred_check_finds_is_known_before_the_check_ends() {
    let original = sound();
    let folder = original.copied();
    edit(folder.path(), 2, |parts| parts.records[0].body.push(b' '));
    let unrecovered = Unrecovered::open(folder.path(), CACHE_BYTES).unwrap();
    let checked = unrecovered.check_after(Some(original.1[1].prefix()), &|_| {}).unwrap();
    let log = DiskLog::open(checked, 0).unwrap();
    let deferred = || log.scrub().unwrap().deferred.unwrap();
    assert_eq!((deferred().position, deferred().has_found), (0, false));
    // A step ends with the block in which it has read 4 records.
    assert_eq!(log.check_deferred(), Ok(DeferredStep::GoesOn));
    let known = deferred();
    assert_eq!((known.position, known.has_found, known.finished_at), (7, true, None));
    let refused = log.bodies(&[2]);
    assert!(matches!(refused, Err(ReadError::Damaged { seq: 2, .. })), "{refused:?}");
}

type RecordEdit = fn(&mut RecordParts);

/// Edits of one record by an attacker who recomputes the checksums, and the part in which each is
/// found.
const EDITS: [(&str, RecordEdit, LogPart); 13] = [
    ("a byte of the body", |record| *record.body.last_mut().unwrap() ^= 1, LogPart::Leaf),
    ("the body's length", |record| record.body.push(b' '), LogPart::Leaf),
    ("the salt", |record| record.salt[0] ^= 1, LogPart::Leaf),
    (
        "the signature",
        |record| {
            if let Proof::Webhook { v1, .. } = &mut record.proof {
                v1[31] ^= 1
            } else {
                record.salt[0] ^= 1
            }
        },
        LogPart::Leaf,
    ),
    (
        "the signature's time",
        |record| {
            if let Proof::Webhook { t, .. } = &mut record.proof {
                *t += 1
            } else {
                record.salt[0] ^= 1
            }
        },
        LogPart::Leaf,
    ),
    (
        "the proof's kind",
        |record| {
            record.proof = match record.proof {
                Proof::Webhook { key_id, .. }
                | Proof::Imported { key_id }
                | Proof::Scim { key_id }
                | Proof::Pulled { key_id, .. } => Proof::Operator { key_id },
                Proof::Operator { key_id } | Proof::Observed { key_id, .. } => {
                    Proof::Webhook { t: NOW, v1: [0; 32], key_id }
                }
            }
        },
        LogPart::Proof,
    ),
    (
        "the key's name",
        |record| match &mut record.proof {
            Proof::Webhook { key_id, .. }
            | Proof::Operator { key_id }
            | Proof::Imported { key_id }
            | Proof::Pulled { key_id, .. }
            | Proof::Scim { key_id }
            | Proof::Observed { key_id, .. } => key_id[0] ^= 1,
        },
        LogPart::Leaf,
    ),
    ("the source", |record| record.source ^= 3, LogPart::Proof),
    ("the id", |record| record.event_id = Some("other".into()), LogPart::Index),
    ("the type", |record| record.event_type = Some("other".into()), LogPart::Index),
    (
        "whether it counts",
        |record| {
            record.status = match record.status {
                RecordStatus::Counts => RecordStatus::Conflict { first: 1 },
                _ => RecordStatus::Counts,
            }
        },
        LogPart::Status,
    ),
    (
        "whether it is a repeat",
        |record| record.status = RecordStatus::Repeat { of: 1 },
        LogPart::Status,
    ),
    ("a time among the facts", |record| record.occurred_at = Some(1), LogPart::Facts),
];

#[test]
fn an_edit_of_any_record_with_valid_checksums_is_named() {
    let original = sound();
    // The first eight records get every edit if asked for, the others only some: each edit opens a
    // store.
    let each_way = if asks_for_more() { 8 } else { 0 };
    for (turn, (what, change, part)) in (0..).zip(EDITS) {
        for seq in (1..=HEAD).filter(|seq| *seq <= each_way || seq % EDITS.len() as Seq == turn) {
            let folder = original.copied();
            edit(folder.path(), seq, |parts| {
                change(&mut parts.records[(seq - block_of(seq).0) as usize])
            });
            let audit = audit(folder.path());
            let parts: Vec<LogPart> = audit.findings.iter().map(|finding| finding.part).collect();
            assert_eq!(
                (audit.first_bad(), parts.contains(&part)),
                (Some(seq), true),
                "{what} of {seq}: {:?}",
                audit.findings
            );
            assert_eq!(refused(&original, folder.path()), Some((seq, seq)), "{what} of {seq}");
        }
    }
}

#[test]
fn dropped_and_swapped_records_are_named_from_the_first_on() {
    let original = sound();
    for seq in 1..=HEAD {
        let (first, last) = block_of(seq);
        let folder = original.copied();
        match first == last {
            true => rewrite(folder.path(), |blocks| drop(blocks.remove(&part_key(first, 0)[..]))),
            false => {
                edit(folder.path(), seq, |parts| drop(parts.records.remove((seq - first) as usize)))
            }
        }
        assert_eq!(audit(folder.path()).first_bad(), Some(seq), "{seq} dropped");
        assert_eq!(refused(&original, folder.path()).unwrap().0, seq, "{seq} dropped");
        if seq > first {
            let folder = original.copied();
            edit(folder.path(), seq, |parts| {
                parts.records.swap((seq - first) as usize - 1, (seq - first) as usize)
            });
            assert_eq!(audit(folder.path()).first_bad(), Some(seq - 1), "{seq} swapped");
            assert_eq!(
                refused(&original, folder.path()),
                Some((seq - 1, seq - 1)),
                "{seq} swapped"
            );
        }
    }
}

#[test]
fn dropped_truncated_and_swapped_blocks_are_named_with_their_range() {
    let original = sound();
    for (first, last) in BLOCKS {
        let folder = original.copied();
        rewrite(folder.path(), |blocks| drop(blocks.remove(&part_key(first, 0)[..])));
        let audit_of = |folder: &TempDir| {
            audit(folder.path())
                .findings
                .into_iter()
                .map(|finding| (finding.first, finding.last))
                .next()
        };
        assert_eq!(audit_of(&folder), Some((first, last)), "dropped");
        assert_eq!(refused(&original, folder.path()).unwrap().0, first, "dropped");
        for cut in [1, 40] {
            let folder = original.copied();
            rewrite(folder.path(), |blocks| {
                let bytes = blocks.get_mut(&part_key(first, 0)[..]).unwrap();
                bytes.truncate(bytes.len() / cut - 1);
            });
            assert_eq!(audit_of(&folder), Some((first, last)), "cut off");
            assert_eq!(refused(&original, folder.path()).unwrap().0, first, "cut off");
        }
        let folder = original.copied();
        let (elsewhere, _) =
            BLOCKS[(BLOCKS.iter().position(|block| block.0 == first).unwrap() + 1) % BLOCKS.len()];
        rewrite(folder.path(), |blocks| {
            let [one, other] =
                [first, elsewhere].map(|first| blocks[&part_key(first, 0)[..]].clone());
            blocks.insert(part_key(first, 0).to_vec(), other);
            blocks.insert(part_key(elsewhere, 0).to_vec(), one);
        });
        let first_of_both = first.min(elsewhere);
        assert_eq!(
            (audit(folder.path()).first_bad(), refused(&original, folder.path()).unwrap().0),
            (Some(first_of_both), first_of_both),
            "elsewhere"
        );
    }
}

#[test]
fn changed_stamps_are_named_from_the_first_record_that_has_one() {
    let original = sound();
    for (first, _) in BLOCKS {
        for by in [1, -100] {
            let folder = original.copied();
            edit(folder.path(), first, |parts| parts.recorded_at += by);
            assert_eq!(audit(folder.path()).first_bad(), Some(first), "{first} {by}");
            assert_eq!(refused(&original, folder.path()).unwrap().0, first, "{first} {by}");
        }
    }
}

#[test]
fn a_flipped_byte_is_named_with_the_records_of_its_frame_or_block() {
    let original = sound();
    let step = if asks_for_more() { 13 } else { 67 };
    for (first, last) in BLOCKS {
        let mut length = 0;
        rewrite(original.copied().path(), |blocks| length = blocks[&part_key(first, 0)[..]].len());
        let mut frames = Vec::new();
        for at in (0..length).step_by(step) {
            let folder = original.copied();
            rewrite(folder.path(), |blocks| {
                blocks.get_mut(&part_key(first, 0)[..]).unwrap()[at] ^= 0x10
            });
            let audit = audit(folder.path());
            let range = (audit.findings[0].first, audit.findings[0].last);
            frames.push(range);
            assert!(
                [(first, last), (8, 23), (24, 27)].contains(&range),
                "byte {at}: {:?}",
                audit.findings
            );
            assert_eq!(refused(&original, folder.path()).unwrap().0, range.0, "byte {at}");
        }
        assert!(
            last < 27
                || (frames.contains(&(8, 23))
                    && frames.contains(&(24, 27))
                    && frames.contains(&(8, 27)))
        );
    }
}

#[test]
fn an_audit_goes_on_after_the_first_damage_and_keeps_the_first_findings() {
    let folder = sound().copied();
    for seq in [1, 6, 9, 26] {
        edit(folder.path(), seq, |parts| {
            parts.records[(seq - block_of(seq).0) as usize].occurred_at = Some(1)
        });
    }
    rewrite(folder.path(), |blocks| blocks.get_mut(&part_key(2, 0)[..]).unwrap()[3] ^= 1);
    assert_eq!(
        about(&audit(folder.path())),
        [
            (1, 1, LogPart::Facts),
            (2, 3, LogPart::Block),
            (6, 6, LogPart::Facts),
            (9, 9, LogPart::Facts),
            (26, 26, LogPart::Facts)
        ]
    );
    let folder = sound().copied();
    edit(folder.path(), 8, |parts| {
        parts
            .records
            .iter_mut()
            .for_each(|record| (record.salt, record.occurred_at) = ([1; 16], Some(1)))
    });
    let audit = audit(folder.path());
    assert_eq!((audit.findings.len(), audit.findings_count, audit.first_bad()), (20, 40, Some(8)));
}

#[test]
fn a_start_names_the_first_of_several_damages_of_every_kind() {
    // Facts, a leaf, a byte: each before and after each other, in one block and in several.
    let damages: [fn(&Path, Seq); 3] = [
        |folder, seq| {
            edit(folder, seq, |parts| {
                parts.records[(seq - block_of(seq).0) as usize].occurred_at = Some(1)
            })
        },
        |folder, seq| {
            edit(folder, seq, |parts| {
                parts.records[(seq - block_of(seq).0) as usize].salt = [1; 16]
            })
        },
        |folder, seq| {
            rewrite(folder, |blocks| {
                *blocks.get_mut(&part_key(block_of(seq).0, 0)[..]).unwrap().last_mut().unwrap() ^= 1
            })
        },
    ];
    let original = sound();
    for (one, first) in damages.iter().enumerate() {
        for (other, second) in damages.iter().enumerate() {
            // A flipped byte damages a whole frame, so it gets a block of its own.
            let (early, late) = if one == 2 {
                (1, 9)
            } else if other == 2 {
                (4, 27)
            } else {
                (9, 12)
            };
            let folder = original.copied();
            first(folder.path(), early);
            second(folder.path(), late);
            assert_eq!(refused(&original, folder.path()).unwrap().0, early, "{one} {other}");
            assert_eq!(audit(folder.path()).first_bad(), Some(early), "{one} {other}");
        }
    }
}

#[test]
fn the_same_event_twice_is_found_although_all_checksums_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    // Record 9 becomes a copy of 8: the id is there twice.
    edit(folder.path(), 8, |parts| parts.records[1] = parts.records[0].clone());
    let about = about(&audit(folder.path()));
    assert!(
        about.contains(&(9, 9, LogPart::Status)) && about.contains(&(9, 9, LogPart::Leaf)),
        "{about:?}"
    );
}

fn acknowledgement(folder: &Path) -> (AcknowledgementFile, Acknowledgement) {
    let (file, slots) = AcknowledgementFile::open(&folder.join("checkpoint")).unwrap();
    (file, slots.newest.unwrap())
}

#[test]
fn another_root_without_matching_tiles_is_reported_with_the_range_that_it_covers() {
    let original = sound();
    let folder = original.copied();
    let (mut file, old) = acknowledgement(folder.path());
    file.write(&Acknowledgement { root: Some([7; 32]), ..old }).unwrap();
    let audit = audit(folder.path());
    assert_eq!(
        (about(&audit), audit.acknowledged),
        (vec![(1, HEAD, LogPart::Acknowledgement)], Acknowledged::Different)
    );
    assert_eq!(refused(&original, folder.path()), Some((1, HEAD)));
}

#[test]
fn records_missing_from_the_end_are_reported_although_nothing_else_is_wrong() {
    let original = sound();
    let folder = original.copied();
    edit(folder.path(), HEAD, |parts| parts.records.truncate(18));
    assert_eq!(about(&audit(folder.path())), [(26, 27, LogPart::Acknowledgement)]);
    assert_eq!(refused(&original, folder.path()), Some((26, 26)));
}

#[test]
fn a_store_ahead_of_its_acknowledgement_opens_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).unwrap();
    log.append(vec![event("a", "x")], NOW).unwrap();
    drop(log);
    let earlier = fs::read(folder.path().join("checkpoint")).unwrap();
    let log = open(folder.path()).unwrap();
    log.append(vec![event("b", "x")], NOW).unwrap();
    let root = log.root(2).unwrap();
    drop(log);
    fs::write(folder.path().join("checkpoint"), earlier).unwrap();
    let audit = audit(folder.path());
    assert_eq!((about(&audit), audit.acknowledged), (vec![], Acknowledged::Same(1)));
    let log = open(folder.path()).unwrap();
    assert_eq!((log.head(), log.root(2)), (2, Ok(root)));
}

#[test]
fn a_folder_from_before_the_tree_opens_and_has_a_tree_from_then_on() {
    let folder = sound().copied();
    cover(folder.path());
    let before = audit(folder.path());
    assert_eq!(
        (about(&before), before.acknowledged, before.tiles_complete),
        (vec![], Acknowledged::SameLast(HEAD), false)
    );
    let log = open(folder.path()).unwrap();
    assert_eq!(log.root(HEAD).unwrap(), before.root(HEAD).unwrap());
    log.append(vec![event("new", "x")], NOW + 9).unwrap();
    let root = log.root(HEAD + 1).unwrap();
    drop(log);
    assert_eq!(acknowledgement(folder.path()).1.root, Some(root));
    assert_eq!(audit(folder.path()).acknowledged, Acknowledged::Same(HEAD + 1));
}

/// Covers an edit: removes the tiles and writes an acknowledgement without a root.
fn cover(folder: &Path) {
    fs::remove_dir_all(folder.join("tree")).unwrap();
    let (mut file, old) = acknowledgement(folder);
    file.write(&Acknowledgement { root: None, metadata: None, ..old }).unwrap();
}

#[test]
fn an_edit_that_is_covered_in_tiles_and_checkpoint_is_found_by_a_root_that_an_auditor_holds() {
    let folder = sound().copied();
    let held = open(folder.path()).unwrap().root(HEAD).unwrap();
    // Only the leaf covers the salt, so new tiles and a new acknowledgement leave no trace of the
    // edit in the folder.
    edit(folder.path(), 6, |parts| parts.records[2].salt = [0; 16]);
    cover(folder.path());
    drop(open(folder.path()).unwrap());
    let audit = audit(folder.path());
    assert_eq!(about(&audit), []);
    assert_ne!(audit.root(HEAD), Some(held));
}

#[test]
fn a_body_that_was_never_signed_is_found_with_the_secret_and_another_author_without_it() {
    let folder = sound().copied();
    edit(folder.path(), 2, |parts| {
        let body = String::from_utf8(parts.records[0].body.clone()).unwrap();
        parts.records[0].body =
            body.replace(r#""first_name":"x""#, r#""first_name":"y""#).into_bytes();
    });
    edit(folder.path(), 6, |parts| {
        parts.records[2].proof = Proof::Operator { key_id: *b"somebody" }
    });
    cover(folder.path());
    let found = audit(folder.path());
    assert_eq!(
        (about(&found), found.signatures.wrong),
        (vec![(2, 2, LogPart::Proof), (6, 6, LogPart::Proof)], 1)
    );
    let without = StoppedFolder::open(folder.path()).unwrap().audit(&Keyring::new([], 0), &|_| {});
    assert_eq!((about(&without), without.signatures.wrong), (vec![(6, 6, LogPart::Proof)], 0));
}

#[test]
fn an_observation_of_another_source_moment_or_run_than_its_body_says_is_found() {
    let original = sound();
    let edits: [fn(&mut Proof); 3] = [
        |proof| {
            if let Proof::Observed { url, .. } = proof {
                *url = "https://other".into()
            }
        },
        |proof| {
            if let Proof::Observed { observed_at, .. } = proof {
                *observed_at += 1
            }
        },
        |proof| {
            if let Proof::Observed { run, .. } = proof {
                *run = "run_2".into()
            }
        },
    ];
    for change in edits {
        let folder = original.copied();
        edit(folder.path(), OBSERVED, |parts| {
            change(&mut parts.records[(OBSERVED - block_of(OBSERVED).0) as usize].proof);
        });
        cover(folder.path());
        assert_eq!(about(&audit(folder.path())), [(OBSERVED, OBSERVED, LogPart::Proof)]);
    }
}

type Unvouch = (&'static str, fn(&Path));

/// The ways to make an acknowledgement vouch for nothing.
const UNVOUCHED: [Unvouch; 4] = [
    ("no root", |folder| {
        let (mut file, old) = acknowledgement(folder);
        file.write(&Acknowledgement { root: None, metadata: None, ..old }).unwrap();
    }),
    ("no file", |folder| fs::remove_file(folder.join("checkpoint")).unwrap()),
    ("two zeroed slots", |folder| put(&folder.join("checkpoint"), &[], 8192)),
    ("two flipped slots", |folder| [0, 1].into_iter().for_each(|slot| flip_slot(folder, slot))),
];

/// Flips a bit of a slot's root.
fn flip_slot(folder: &Path, slot: usize) {
    let mut bytes = fs::read(folder.join("checkpoint")).unwrap();
    bytes[slot * 4096 + 80] ^= 1;
    fs::write(folder.join("checkpoint"), bytes).unwrap();
}

/// Returns the number of the slot that was written last. The generation is in the 8 bytes after the
/// magic.
fn newest_slot(folder: &Path) -> usize {
    let bytes = fs::read(folder.join("checkpoint")).unwrap();
    let generation =
        |slot: usize| u64::from_le_bytes(*bytes[slot * 4096 + 8..].first_chunk().unwrap());
    usize::from(generation(1) > generation(0))
}

/// Returns the record from which on a start says that tiles and records differ, and its message.
fn disputed(folder: &Path) -> Option<(Seq, String)> {
    match open(folder) {
        Ok(_) => None,
        Err(OpenError::Disputed { seq, what }) => Some((seq, what)),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn tiles_that_contradict_an_edit_without_an_acknowledged_root_refuse_the_start_and_stay_unchanged()
{
    let original = sound();
    for (how, unvouch) in UNVOUCHED {
        // The last record's leaf is in the slot itself.
        for seq in [1, 6, HEAD - 1] {
            let folder = original.copied();
            unvouch(folder.path());
            edit(folder.path(), seq, |parts| {
                parts.records[(seq - block_of(seq).0) as usize].salt = [0; 16]
            });
            let tiles = fs::read(folder.path().join("tree/0")).unwrap();
            for _ in 0..2 {
                let (first, what) = disputed(folder.path()).unwrap();
                assert_eq!(first, seq, "{how}");
                assert!(
                    what.ends_with(&format!(
                        "from record {seq} on, and no acknowledged root says which is right"
                    )),
                    "{what}"
                );
                assert_eq!(fs::read(folder.path().join("tree/0")).unwrap(), tiles, "{how}");
            }
            assert!(about(&audit(folder.path())).contains(&(seq, seq, LogPart::Tiles)), "{how}");
            // An operator who trusts the records removes the tiles.
            fs::remove_dir_all(folder.path().join("tree")).unwrap();
            assert_eq!(disputed(folder.path()), None, "{how}");
            assert!(
                !about(&audit(folder.path())).iter().any(|(_, _, part)| *part == LogPart::Tiles),
                "{how}"
            );
        }
        // Tiles that match contradict nothing, and neither do leaves that a power cut left
        // unwritten.
        let folder = original.copied();
        unvouch(folder.path());
        assert_eq!(disputed(folder.path()), None, "{how}");
        let mut tiles = fs::read(folder.path().join("tree/0")).unwrap();
        tiles[20 * 32..].fill(0);
        fs::write(folder.path().join("tree/0"), tiles).unwrap();
        assert_eq!(disputed(folder.path()), None, "{how}");
    }
}

#[test]
fn a_record_after_the_surviving_slot_is_compared_with_its_leaf_unless_a_power_cut_may_explain_it() {
    let original = sound();
    // The slot before covers 7 records, the damaged one all.
    let damaged = original.copied();
    edit(damaged.path(), 9, |parts| parts.records[1].salt = [0; 16]);
    flip_slot(damaged.path(), newest_slot(damaged.path()));
    assert_eq!(
        about(&audit(damaged.path())),
        [(9, 9, LogPart::Tiles), (0, 0, LogPart::Acknowledgement)]
    );
    for unclean in [false, true] {
        if unclean {
            fs::write(damaged.path().join("unclean"), []).unwrap();
        }
        assert_eq!(disputed(damaged.path()).unwrap().0, 9);
    }
    // A power cut may leave both slots intact and, after them, tiles that were never synced.
    let cut = original.copied();
    let before = acknowledgement(cut.path()).1;
    rewrite(cut.path(), |blocks| drop(blocks.remove(&part_key(8, 0)[..])));
    fs::remove_file(cut.path().join("checkpoint")).unwrap();
    fs::remove_dir_all(cut.path().join("tree")).unwrap();
    let log = open(cut.path()).unwrap();
    assert_eq!(log.head(), 7);
    log.append(vec![event("later", "x")], NOW + 9).unwrap();
    drop(log);
    assert_ne!(before, acknowledgement(cut.path()).1);
    let acknowledged = fs::read(cut.path().join("checkpoint")).unwrap();
    let log = open(cut.path()).unwrap();
    log.append(vec![event("last", "x")], NOW + 10).unwrap();
    drop(log);
    fs::write(cut.path().join("checkpoint"), &acknowledged).unwrap();
    let mut tiles = fs::read(cut.path().join("tree/0")).unwrap();
    tiles[8 * 32..].fill(7);
    fs::write(cut.path().join("tree/0"), &tiles).unwrap();
    for again in [false, true] {
        assert_eq!(disputed(cut.path()).unwrap().0, 9, "closed in order; again: {again}");
    }
    fs::write(cut.path().join("unclean"), []).unwrap();
    assert_eq!(disputed(cut.path()), None);
}

#[test]
fn a_damaged_slot_is_reported_and_with_a_lost_record_the_log_does_not_start() {
    let original = sound();
    for slot in [0, 1] {
        let folder = original.copied();
        flip_slot(folder.path(), slot);
        let found = audit(folder.path());
        assert_eq!(
            (about(&found), found.tiles_complete),
            (vec![(0, 0, LogPart::Acknowledgement)], true)
        );
        assert!(
            found.findings[0]
                .what
                .contains(&format!("slot {slot} of the file `checkpoint` is damaged")),
            "{:?}",
            found.findings
        );
        // Nothing is missing: it starts, and writes both slots again.
        drop(open(folder.path()).unwrap());
        let found = audit(folder.path());
        assert_eq!((about(&found), found.size()), (vec![], HEAD));
    }
    for unclean in [false, true] {
        let folder = original.copied();
        flip_slot(folder.path(), newest_slot(folder.path()));
        edit(folder.path(), HEAD, |parts| drop(parts.records.pop()));
        if unclean {
            fs::write(folder.path().join("unclean"), []).unwrap();
        }
        let found = audit(folder.path());
        assert_eq!(about(&found), [(HEAD, HEAD, LogPart::Tiles), (0, 0, LogPart::Acknowledgement)]);
        assert_eq!(
            (found.findings[0].what.as_str(), found.tiles_complete),
            ("they know 27 records and 26 are left", true)
        );
        let (seq, what) = disputed(folder.path()).unwrap();
        assert_eq!(
            (seq, what.as_str()),
            (
                27,
                "the tree's tiles know 27 records and 26 are left; the first missing record is 27"
            )
        );
        assert_eq!(
            fs::metadata(folder.path().join("tree/0")).unwrap().len(),
            HEAD * 32,
            "the tiles keep the leaf of the lost record"
        );
    }
}

#[test]
fn a_tile_file_that_is_a_link_is_replaced_and_not_followed() {
    let folder = sound().copied();
    let elsewhere = folder.path().join("elsewhere");
    fs::write(&elsewhere, "another's").unwrap();
    fs::remove_file(folder.path().join("tree/0")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, folder.path().join("tree/0")).unwrap();
    drop(open(folder.path()).unwrap());
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "another's");
    assert!(fs::symlink_metadata(folder.path().join("tree/0")).unwrap().is_file());
    assert_eq!(about(&audit(folder.path())), []);
}

/// Returns many ways to spoil a file: other bytes and another length, or `None` to delete it.
fn spoiled(bytes: &[u8], length: u64) -> Vec<Option<(Vec<u8>, u64)>> {
    let mut ways = vec![
        None,
        Some((Vec::new(), 0)),
        Some((Vec::new(), length)),
        Some((bytes.to_vec(), length / 2)),
    ];
    let parts = if asks_for_more() { 8 } else { 2 };
    for at in (0..parts).map(|part| bytes.len() * part / parts) {
        ways.push(Some((bytes[..at].to_vec(), at as u64)));
        for count in [1, 64, 4096] {
            let changed = |change: fn(&mut u8)| {
                let mut changed = bytes.to_vec();
                changed[at..].iter_mut().take(count).for_each(change);
                Some((changed, length))
            };
            ways.push(changed(|byte| *byte ^= 0x5a));
            ways.push(changed(|byte| *byte = 0));
        }
    }
    ways.retain(|way| way.as_ref().is_none_or(|way| way != &(bytes.to_vec(), length)));
    ways
}

#[test]
fn a_spoiled_file_is_reported_or_repaired_and_never_found_sound_while_a_record_differs() {
    let original = sound();
    let log = original.copied();
    let log = open(log.path()).unwrap();
    let (records, root) = (log.read(0, 99, usize::MAX).unwrap(), log.root(HEAD).unwrap());
    drop(log);
    let (mut told, mut right) = (BTreeMap::new(), BTreeMap::new());
    for FolderFile { path, bytes, length } in original.0.iter().filter(|file| file.path != "lock") {
        for (way, change) in spoiled(bytes, *length).into_iter().enumerate() {
            let [folder, started] = [(); 2].map(|()| {
                let folder = original.copied();
                match &change {
                    Some((bytes, length)) => put(&folder.path().join(path), bytes, *length),
                    None => fs::remove_file(folder.path().join(path)).unwrap(),
                }
                folder
            });
            let found =
                StoppedFolder::open(folder.path()).map(|log| log.audit(&keyring(), &|_| {}));
            let is_sound = found.as_ref().is_ok_and(|audit| audit.findings_count == 0);
            match open(started.path()) {
                Ok(log) => {
                    // A log that starts has the same records, root and proofs as before.
                    assert_eq!(
                        (log.root(HEAD), log.read(0, 99, usize::MAX).as_ref()),
                        (Ok(root), Ok(&records)),
                        "{path} {way}"
                    );
                    assert!(
                        log.inclusion(3, HEAD).is_ok() && log.consistency(3, HEAD).is_ok(),
                        "{path} {way}"
                    );
                    *right.entry(path.as_str()).or_insert(0) += 1;
                }
                Err(error) => {
                    assert!(!is_sound, "{path} {way}: {error}");
                    *told.entry(path.as_str()).or_insert(0) += 1;
                }
            }
            if is_sound {
                assert_eq!(found.unwrap().root(HEAD), Some(root), "{path} {way}");
            }
        }
    }
    // A spoiled store was reported, and derived files were rebuilt.
    assert!(told["store/db"] > 5, "{told:?}");
    assert!(
        right["tree/0"] > 5 && right["checkpoint"] > 5 && !told.contains_key("tree/0"),
        "{told:?} {right:?}"
    );
}

#[test]
fn what_another_version_could_not_use_is_used_and_stays_out_of_the_list_of_events() {
    let folder = sound().copied();
    let unknown = webhook(r#"{"id":"q","event":"dsync.unheard_of","data":{}}"#.into());
    let (first, _) = block_of(9);
    edit(folder.path(), 9, |parts| {
        parts.facts_version = FACTS_VERSION + 1;
        let record = &mut parts.records[9 - first as usize];
        record.unusable_at_first = unknown.unusable_at_first();
    });
    // It was written so, and not changed since.
    cover(folder.path());
    assert_eq!(about(&audit(folder.path())), []);
    let log = open(folder.path()).unwrap();
    let mut views = Views::new();
    let mut fold = |entry: &rollcall_projections::Entry<'_>| {
        assert!(entry.seq != 9 || matches!(entry.fact, Fact::User(..)), "it is understood now");
        views.apply(entry);
    };
    log.entries(0, HEAD as usize, &mut fold).unwrap();
    let seen = views.seen_by(&Sight::All);
    let resolved = [Quarantined { seq: 9, reason: Reason::UnknownType }];
    assert_eq!(*seen.resolved(), resolved);
    assert!(seen.quarantine().iter().all(|entry| entry.seq != 9));
    let event_types = ["dsync.user.created".to_owned()];
    let filter =
        EventFilter { event_types: &event_types, organization: None, from: None, until: None };
    let step = seen.events_step(&filter, Cut::LATEST, Start::After(7), 3);
    let listed: Vec<Seq> = step.items.iter().map(|row| row.seq).collect();
    assert_eq!(listed, [8, 10, 11]);
    // It comes along when the log is copied.
    let records = log.read(8, 1, 0).unwrap();
    assert_eq!(records[0].unusable_at_first, unknown.unusable_at_first());
}
