//! The standing scrub: while a server runs, the file of its store is read again and again, from the
//! disk and not from the kernel's cache, and every block in it is compared with its leaves.
//!
//! sled writes to the file meanwhile, and what it has replaced may stay in it. What looks damaged is
//! therefore read again. If it stays as it is, the whole file is read a second time, to see which
//! records need the damaged bytes: sled may have them in its cache, which cannot be passed by through
//! sled, but will not after its end. All records are then also read through sled.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rollcall_projections::{Millis, Seq};
use rustix::fs::Advice;

use super::block::Block;
use super::deferred::DeferredProgress;
use super::disk::read_again;
use super::disk_log::DiskLog;
use super::merkle::Nodes;
use super::ranges::Ranges;
use super::raw::{
    DamagedPlace, LiveHarm, LivePages, Placed, SEGMENT_BYTES, Segments, look_at_segment,
};
use super::sled_log::SledLog;
use super::store::Blocks;
use super::{History, ReadError, Record};
use crate::{files, time};

/// The number of bytes that are read at once.
const CHUNK_BYTES: usize = 256 << 10;

/// How often bytes that look damaged are read again, and the pause before.
const READ_AGAIN: u32 = 3;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// The pause before a file with damage is read a second time.
const READ_FILE_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// How often the segments are read that were begun meanwhile, if there are any.
const CATCH_UPS_MAX: usize = 5;

/// The number of records that are read through the log at once.
const THROUGH_LOG_AT_ONCE: Seq = 256;

/// The number of findings that are kept.
pub(super) const FINDINGS_MAX: usize = 20;

/// The most places of damage that the state names.
const PLACES_MAX: usize = 20;

/// The priority of the scrub's thread, as `nice` counts it: everything else comes first.
const NICENESS: i32 = 19;

/// How fast and how often the log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubPace {
    /// The most bytes a second.
    pub bytes_per_second: u64,
    /// The time from the beginning of a pass to that of the next.
    pub every: Duration,
}

/// Records that are damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScrubFinding {
    /// The first.
    pub first: Seq,
    /// The last.
    pub last: Seq,
    /// A description of the damage.
    pub what: String,
    /// True if only their bytes on the disk are damaged, and the server still has them.
    pub in_memory: bool,
}

/// A pass over the whole file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubPass {
    /// The moment at which it began.
    pub started_at: Millis,
    /// The moment at which it ended.
    pub finished_at: Millis,
    /// The number of bytes that it read.
    pub bytes: u64,
    /// The number of blocks in them that were compared with their leaves.
    pub blocks: u64,
}

/// The state of the scrub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScrubState {
    /// The number of bytes of the file that the present pass has read.
    pub position: u64,
    /// The length of the file.
    pub bytes: u64,
    /// The number of finished passes since the start.
    pub passes: u64,
    /// The last of them.
    pub last_pass: Option<ScrubPass>,
    /// The number of records since the start that were as their leaves say.
    pub records: u64,
    /// The number of places of the file that the last pass found damaged, whether or not a record
    /// needs them.
    pub doubtful: u64,
    /// The first bytes of the first of these places, counted from the beginning of the file, in
    /// order.
    pub doubtful_at: Vec<u64>,
    /// The number of records that are damaged, by the last pass that found any.
    pub damaged: u64,
    /// The first findings of the last pass that had any.
    pub findings: Vec<ScrubFinding>,
    /// The moment of these findings.
    pub found_at: Option<Millis>,
    /// The check of the records that the start took from a snapshot; `None` if it checked all.
    pub deferred: Option<DeferredProgress>,
}

/// Ends the waits of the thread.
#[derive(Default)]
struct Stop {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Waits; returns true if the scrub is to end.
    fn wait(&self, time: Duration) -> bool {
        let (mut is_set, until) = (self.is_set.lock(), Instant::now() + time);
        while !*is_set && !self.changed.wait_until(&mut is_set, until).timed_out() {}
        *is_set
    }
}

/// The thread that scrubs a log. It ends when this is dropped.
pub struct Scrub {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Scrub {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there can be no further thread.
    pub fn start(log: &Arc<DiskLog>, pace: ScrubPace) -> io::Result<Scrub> {
        log.keep_scrub_state(|_| {});
        let stop = Arc::new(Stop::default());
        let worker = Worker { log: Arc::downgrade(log), stop: stop.clone(), pace };
        let work = move || {
            // Without a process the calling thread is meant. A refusal only costs the order.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            worker.run();
        };
        let thread = thread::Builder::new().name("scrub".into()).spawn(work)?;
        Ok(Scrub { stop, thread: Some(thread) })
    }
}

impl Drop for Scrub {
    fn drop(&mut self) {
        *self.stop.is_set.lock() = true;
        self.stop.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Why a pass ended before its end.
enum Ended {
    /// The scrub is to end.
    Stopped,
    /// The file cannot be read.
    Failed(io::Error),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Ended {
        Ended::Failed(error)
    }
}

struct Worker {
    log: Weak<DiskLog>,
    stop: Arc<Stop>,
    pace: ScrubPace,
}

/// A place of the file that is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Spot {
    /// The place of its segment in the file, and the segment's number in the order of writes.
    segment: u64,
    number: Option<u64>,
    place: DamagedPlace,
}

/// What reading the file found.
#[derive(Default)]
struct Found {
    bytes: u64,
    blocks: u64,
    spots: BTreeSet<Spot>,
    /// The records that are not what their leaves say.
    changed: Ranges,
    harm: LiveHarm,
}

impl Found {
    fn note(&mut self, segment: u64, looked: Looked) {
        let Looked { number, damaged, changed, .. } = looked;
        self.spots.extend(damaged.into_iter().map(|place| Spot { segment, number, place }));
        changed.into_iter().for_each(|(first, last)| self.changed.add(first, last));
    }

    fn is_sound(&self) -> bool {
        self.spots.is_empty() && self.changed.is_empty() && self.harm.missing.is_empty()
    }

    /// Returns the first bytes of the first places in the file that are damaged, in order.
    fn places(&self) -> Vec<u64> {
        let at = |spot: &Spot| spot.segment + spot.place.at as u64;
        let places: BTreeSet<u64> = self.spots.iter().map(at).collect();
        places.into_iter().take(PLACES_MAX).collect()
    }

    /// The pages whose messages are damaged.
    fn pages(&self) -> BTreeSet<u64> {
        self.spots.iter().filter_map(|spot| spot.place.page).collect()
    }

    /// Keeps what a second look at the file found as well, with the pages of this one.
    fn keep_what_is_in(&mut self, second: Found) {
        self.spots.retain(|spot| second.spots.contains(spot));
        self.changed = self.changed.both(&second.changed);
        self.harm.missing = self.harm.missing.both(&second.harm.missing);
        self.harm.torn = second.harm.torn;
    }

    /// Returns the records whose bytes on the disk are damaged.
    fn damaged(&self) -> Ranges {
        let LiveHarm { torn, missing } = &self.harm;
        self.changed.iter().chain(torn.iter()).chain(missing.iter()).collect()
    }
}

impl Worker {
    fn run(&self) {
        loop {
            let begun = Instant::now();
            match self.pass() {
                Err(Ended::Stopped) => return,
                Err(Ended::Failed(error)) => {
                    tracing::warn!(%error, "the scrub could not read the store");
                }
                Ok(()) => {}
            }
            if self.stop.wait(self.pace.every.saturating_sub(begun.elapsed())) {
                return;
            }
        }
    }

    fn log(&self) -> Result<Arc<DiskLog>, Ended> {
        self.log.upgrade().ok_or(Ended::Stopped)
    }

    /// Waits as long as reading `bytes` may take.
    fn pace(&self, bytes: usize) -> Result<(), Ended> {
        let seconds = bytes as f64 / self.pace.bytes_per_second.max(1) as f64;
        match self.stop.wait(Duration::from_secs_f64(seconds)) {
            true => Err(Ended::Stopped),
            false => Ok(()),
        }
    }

    /// Reads the whole file once; twice, and the log as well, if anything in the file is damaged.
    fn pass(&self) -> Result<(), Ended> {
        let started_at = time::now_ms();
        let path = self.log()?.store_file();
        let file = files::open(&path)?;
        let mut found = self.read_file(&file, BTreeSet::new())?;
        let mut findings = Vec::new();
        if !found.is_sound() {
            if self.stop.wait(READ_FILE_AGAIN_AFTER) {
                return Err(Ended::Stopped);
            }
            let second = self.read_file(&file, found.pages())?;
            found.keep_what_is_in(second);
        }
        if !found.is_sound() {
            findings = with_damaged(self.read_through_log()?, &found.damaged());
        }
        let log = self.log()?;
        let doubtful = found.spots.len() as u64;
        let doubtful_at = found.places();
        log.report(&findings, doubtful, &doubtful_at);
        log.keep_scrub_state(|state| {
            let Found { bytes, blocks, .. } = found;
            let finished_at = time::now_ms();
            state.passes += 1;
            state.last_pass = Some(ScrubPass { started_at, finished_at, bytes, blocks });
            (state.doubtful, state.doubtful_at) = (doubtful, doubtful_at);
            if !findings.is_empty() {
                state.found_at = Some(finished_at);
                state.damaged = findings.iter().map(|one| one.last - one.first + 1).sum();
                state.findings = findings.into_iter().take(FINDINGS_MAX).collect();
            }
        });
        Ok(())
    }

    /// Reads the whole file, segment after segment in the order of their writes. Says of records in
    /// the `watched` pages whether they need damaged bytes.
    fn read_file(&self, file: &File, watched: BTreeSet<u64>) -> Result<Found, Ended> {
        let (mut found, log) = (Found::default(), self.log()?);
        // Later records may be in the middle of being written.
        let (head, mut pages) = (log.head(), LivePages::new(watched, log.blobs()));
        drop(log);
        let mut segments = Segments::by_heads(file)?;
        for at in &segments.lost {
            self.read_into(&mut found, &mut pages, file, (*at, None), &segments)?;
        }
        let mut first = 0;
        for _ in 0..CATCH_UPS_MAX {
            let in_order = segments.in_order.iter().filter(|placed| placed.number >= first);
            for Placed { at, number, .. } in in_order {
                self.read_into(&mut found, &mut pages, file, (*at, Some(*number)), &segments)?;
            }
            // What was moved out of a segment before it was read is in one that was begun since.
            let now = Segments::by_heads(file)?;
            if now.newest() == segments.newest() {
                break;
            }
            (first, segments) = (segments.newest(), now);
        }
        let bytes = file.metadata()?.len();
        self.log()?.keep_scrub_state(|state| (state.position, state.bytes) = (bytes, bytes));
        Ok(Found { harm: pages.harm(head), ..found })
    }

    /// Reads a segment, whose place and number are given.
    fn read_into(
        &self,
        found: &mut Found,
        pages: &mut LivePages,
        file: &File,
        (at, number): (u64, Option<u64>),
        segments: &Segments,
    ) -> Result<(), Ended> {
        let (bytes, mut segment) = (file.metadata()?.len(), Vec::new());
        self.log()?.keep_scrub_state(|state| (state.position, state.bytes) = (found.bytes, bytes));
        self.read_segment(file, at, &mut segment)?;
        found.bytes += segment.len() as u64;
        let looked = self.log()?.look_at(&segment, segments.newest());
        found.blocks += looked.blocks;
        self.log()?.keep_scrub_state(|state| state.records += looked.records);
        if !looked.is_sound() && self.is_damaged(file, at, &mut segment, &looked)? {
            found.note(at, looked);
        }
        if let Some(number) = number.or_else(|| segments.number_of(&segment)) {
            pages.take(&segment, number);
        }
        Ok(())
    }

    /// Reads a segment from the disk, at the pace of the scrub.
    fn read_segment(&self, file: &File, at: u64, segment: &mut Vec<u8>) -> Result<(), Ended> {
        // A refusal only means that the kernel's cache is read.
        let length = std::num::NonZero::new(SEGMENT_BYTES as u64);
        let _ = rustix::fs::fadvise(file, at, length, Advice::DontNeed);
        segment.resize(SEGMENT_BYTES, 0);
        let mut read = 0;
        while let Some(rest) = segment.get_mut(read..).filter(|rest| !rest.is_empty()) {
            let length = rest.len().min(CHUNK_BYTES);
            let chunk = rest.get_mut(..length).unwrap_or_default();
            match file.read_at(chunk, at + read as u64) {
                Ok(0) => break,
                Ok(bytes) => {
                    read += bytes;
                    self.pace(bytes)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        segment.truncate(read);
        Ok(())
    }

    /// Reads a segment again that does not look sound. Returns whether it stays as it is.
    fn is_damaged(
        &self,
        file: &File,
        at: u64,
        segment: &mut Vec<u8>,
        first: &Looked,
    ) -> Result<bool, Ended> {
        for _ in 0..READ_AGAIN {
            if self.stop.wait(READ_AGAIN_AFTER) {
                return Err(Ended::Stopped);
            }
            self.read_segment(file, at, segment)?;
            let again = self.log()?.look_at(segment, first.newest);
            if !again.shows_the_same_damage(first) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads every record through the log. Returns those that cannot be read.
    fn read_through_log(&self) -> Result<Vec<ScrubFinding>, Ended> {
        let (mut findings, mut after): (Vec<ScrubFinding>, Seq) = (Vec::new(), 0);
        loop {
            let read = self.log()?.read_through(after);
            for finding in read.findings {
                match findings.last_mut() {
                    Some(last) if last.last + 1 == finding.first => last.last = finding.last,
                    _ => findings.push(finding),
                }
            }
            if read.is_for_want {
                // What the process lacks says nothing about the record.
                if self.stop.wait(READ_FILE_AGAIN_AFTER) {
                    return Err(Ended::Stopped);
                }
            } else if read.last <= after {
                return Ok(findings);
            }
            after = read.last;
            self.pace(read.bytes)?;
        }
    }
}

/// Adds the records whose bytes on the disk are `damaged` to those that cannot be read.
fn with_damaged(unreadable: Vec<ScrubFinding>, damaged: &Ranges) -> Vec<ScrubFinding> {
    let named: Ranges = unreadable.iter().map(|finding| (finding.first, finding.last)).collect();
    let left = damaged.without(&named);
    let in_memory = left.iter().map(|(first, last)| {
        let what = "damaged on the disk, and still in the memory of the server";
        ScrubFinding { first, last, what: what.into(), in_memory: true }
    });
    unreadable.into_iter().chain(in_memory).collect()
}

/// What is in a segment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// The number of the newest segment when it was looked at.
    newest: u64,
    number: Option<u64>,
    /// The number of blocks that are as they were written, and of the records in them.
    blocks: u64,
    records: u64,
    damaged: Vec<DamagedPlace>,
    /// The first and last records of blocks that are not what their leaves say.
    changed: Vec<(Seq, Seq)>,
}

impl Looked {
    fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.changed.is_empty()
    }

    fn shows_the_same_damage(&self, other: &Looked) -> bool {
        let (damaged, changed) = (&other.damaged, &other.changed);
        self.number == other.number
            && (self.damaged.iter().any(|at| damaged.contains(at))
                || self.changed.iter().any(|block| changed.contains(block)))
    }
}

/// Some records, read through the log.
#[derive(Default)]
pub(super) struct ReadThrough {
    /// The last record that was looked at.
    last: Seq,
    bytes: usize,
    findings: Vec<ScrubFinding>,
    /// True if the process lacked something in order to read the next one.
    is_for_want: bool,
}

impl SledLog {
    /// Compares every block in a segment of the store's file with its leaves.
    pub(super) fn look_at(&self, segment: &[u8], newest: u64) -> Looked {
        let (head, nodes) = (self.durable_head(), self.nodes());
        let (mut blocks, mut records, mut changed) = (0, 0, Vec::new());
        let live = look_at_segment(segment, newest, |value| {
            // A part of a large block does not begin like a block.
            let Ok(block) = Block::parse(value) else { return };
            if block.log_id() != self.store().log_id || block.last_seq() > head {
                return;
            }
            match compare(&block, &nodes) {
                Ok(()) => {
                    blocks += 1;
                    records += block.last_seq() - block.first_seq() + 1;
                }
                Err(_) => changed.push((block.first_seq(), block.last_seq())),
            }
        });
        Looked { newest, number: live.number, blocks, records, damaged: live.damaged, changed }
    }

    /// Reads the next records after `after`, and compares them with their leaves.
    pub(super) fn read_through(&self, after: Seq) -> ReadThrough {
        let (head, nodes) = (self.durable_head(), self.nodes());
        let until = head.min(after + THROUGH_LOG_AT_ONCE);
        let mut read = ReadThrough { last: after, ..ReadThrough::default() };
        while read.last < until {
            let seq = read.last + 1;
            let one = || {
                #[cfg(test)]
                self.take_read_fault()?;
                self.store().with_any_block(seq, |block| {
                    compare(block, &nodes)?;
                    Ok((block.last_seq(), block.stored_bytes()))
                })
            };
            // sled may panic when it reads a damaged store.
            let found = catch_unwind(AssertUnwindSafe(|| read_again(one)))
                .unwrap_or_else(|_| Err(ReadError::Store("it panicked while it was read".into())));
            match found {
                Ok((last, bytes)) => {
                    read.last = last.max(seq);
                    read.bytes += bytes;
                }
                Err(error) if error.is_for_want() => {
                    read.is_for_want = true;
                    break;
                }
                Err(error) => {
                    let what = error.to_string();
                    let finding = ScrubFinding { first: seq, last: seq, what, in_memory: false };
                    read.findings.push(finding);
                    read.last = seq;
                }
            }
        }
        read
    }
}

/// Compares the records of a block with their leaves in the tree.
fn compare(block: &Block<'_>, nodes: &impl Nodes) -> Result<(), String> {
    block.stored_facts(|_, _| {})?;
    let leaves = match block.lost_leaves()? {
        Some(leaves) => leaves,
        None => block.records()?.iter().map(Record::leaf).collect(),
    };
    for (seq, leaf) in (block.first_seq()..).zip(leaves) {
        let known = nodes.node(0, seq - 1).map_err(|error| error.to_string())?;
        if known != leaf {
            return Err(format!("record {seq} is not the one whose leaf is in the tree"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{Log, Unrecovered};
    use crate::verify::{Keyring, Verified};
    use rollcall_generator::sign;

    #[test]
    fn a_record_is_not_called_damaged_because_the_process_lacks_something() {
        let folder = tempfile::tempdir().unwrap();
        let log = Unrecovered::open(folder.path(), 16 << 20).unwrap().recover(&|_| {}).unwrap();
        for (at, body) in (0..).zip(["a", "b", "c"]) {
            let header = sign("s", at, body.as_bytes());
            let keyring = Keyring::new(["s"], 0);
            let event =
                Verified::webhook(&keyring, Some(header.as_bytes()), body.into(), at).unwrap();
            log.append(vec![event], at).unwrap();
        }
        let [input_output, no_memory, too_many_files] = [5, 12, 24];
        for code in [no_memory, too_many_files] {
            *log.read_faults.lock() = vec![code; 3];
            let read = log.read_through(1);
            assert_eq!((read.last, read.is_for_want, read.findings), (1, true, vec![]));
            let read = log.read_through(1);
            assert_eq!((read.last, read.is_for_want, read.findings), (3, false, vec![]));
        }
        *log.read_faults.lock() = vec![input_output; 3];
        let read = log.read_through(1);
        let found: Vec<_> = read.findings.iter().map(|found| (found.first, found.last)).collect();
        assert_eq!((read.last, read.is_for_want, found), (3, false, vec![(2, 2)]));
    }
}
