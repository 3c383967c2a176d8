//! What the engine counts as it works, and what it knows, for those who operate the server.

use std::borrow::Cow;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rollcall_projections::{AccessLoss, EventSubject, EventType, Millis, Reason, View};

use super::Engine;
use super::snapshots::{SnapshotComparison, SnapshotState};
use super::tally::{DIRECTORY_STATES, DirectoryTally};
use crate::archive::ArchiveReport;
use crate::log::{Outcome, ScrubState};
use crate::metrics::{Counters, Family, Histograms, Registry, Sample, counter, gauge};
use crate::personal::{WITHHELD, may_be_personal};
use crate::verify::Verified;

/// The type of events that this version does not know, and of webhooks that call themselves one of
/// Rollcall's own.
const OTHER: &str = "other";

/// The outcomes of an event.
const NEW: &str = "new";
const DUPLICATE: &str = "duplicate";
const CONFLICT: &str = "conflict";

/// The ways in which events of a source come, by [`Proof::word`](crate::verify::Proof::word).
const DELIVERED: [&str; 3] = ["webhook", "pulled", "imported"];

/// The outcomes of requests of identity providers.
const SCIM_OUTCOMES: [&str; 4] = ["read", "written", "refused", "failed"];

/// The ways in which Rollcall's own records come.
const OWN: [&str; 3] = ["operator", "observed", "scim"];

/// The events that tell of operators' acts on directories that Rollcall hosts.
const TOLD: [EventType; 4] = [
    EventType::DirectoryActivated,
    EventType::DirectoryDeleted,
    EventType::TokenCreated,
    EventType::TokenRevoked,
];

/// The upper bounds of the buckets, in seconds or in events.
const COMMIT_SECONDS: [f64; 13] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
const COMMIT_EVENTS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 512.0];
const DELAY_SECONDS: [f64; 13] =
    [0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 21_600.0, 86_400.0];

/// What is counted since the start.
pub(super) struct EngineMetrics {
    registry: Registry,
    ingest: Counters,
    commit_duration: Histograms,
    commit_events: Histograms,
    event_delay: Histograms,
    deprovisionings: Counters,
    scim: Counters,
}

/// The labels of an event in the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IngestKind {
    source: &'static str,
    event_type: &'static str,
}

impl IngestKind {
    pub(super) fn of(event: &Verified) -> IngestKind {
        let known = event.event_type().and_then(EventType::parse);
        let source = event.proof().word();
        let known = known.filter(|known| may_come(source, *known));
        IngestKind { source, event_type: known.map_or(OTHER, EventType::name) }
    }

    /// Returns every combination that an event may have.
    fn all() -> impl Iterator<Item = IngestKind> {
        let others = DELIVERED.map(|source| IngestKind { source, event_type: OTHER });
        let sources = DELIVERED.into_iter().chain(OWN);
        let known = sources.flat_map(|source| {
            let kinds = EventType::ALL.iter().filter(move |kind| may_come(source, **kind));
            kinds.map(move |kind| IngestKind { source, event_type: kind.name() })
        });
        known.chain(others)
    }
}

/// Returns true if events of a type may come in a way, by [`Proof::word`](crate::verify::Proof::word).
fn may_come(source: &str, event_type: EventType) -> bool {
    match source {
        "operator" => event_type.is_operator_act() || TOLD.contains(&event_type),
        "observed" => event_type.is_own() && !event_type.is_operator_act() && !event_type.is_scim(),
        "scim" => match event_type.subject() {
            EventSubject::User | EventSubject::Group | EventSubject::Membership => {
                !event_type.is_own()
            }
            _ => event_type.is_scim(),
        },
        _ => !event_type.is_own(),
    }
}

impl EngineMetrics {
    pub(super) fn new() -> EngineMetrics {
        let registry = Registry::default();
        let metrics = EngineMetrics {
            ingest: registry.counters(
                "rollcall_ingest_total",
                "Events received, by how they came, type and outcome.",
                &["source", "type", "result"],
            ),
            commit_duration: registry.histograms(
                "rollcall_commit_duration_seconds",
                "Time until a batch of events is durable.",
                &[],
                &COMMIT_SECONDS,
            ),
            commit_events: registry.histograms(
                "rollcall_commit_events",
                "Events in a batch.",
                &[],
                &COMMIT_EVENTS,
            ),
            event_delay: registry.histograms(
                "rollcall_event_delay_seconds",
                "Time from an event to its record; what is recorded after three days is left out.",
                &[],
                &DELAY_SECONDS,
            ),
            deprovisionings: registry.counters(
                "rollcall_deprovisionings_total",
                "Users who lost access, by reason.",
                &["reason"],
            ),
            scim: registry.counters(
                "rollcall_scim_requests_total",
                "Requests of identity providers whose token was known, by outcome.",
                &["outcome"],
            ),
            registry,
        };
        metrics.begin();
        metrics
    }

    /// Begins all that has a known set of labels, at 0.
    fn begin(&self) {
        for IngestKind { source, event_type } in IngestKind::all() {
            let results: &[&str] =
                if DELIVERED.contains(&source) { &[NEW, DUPLICATE, CONFLICT] } else { &[NEW] };
            results.iter().for_each(|result| self.ingest.begin(&[source, event_type, result]));
        }
        [&self.commit_duration, &self.commit_events, &self.event_delay]
            .into_iter()
            .for_each(|histogram| histogram.begin(&[]));
        AccessLoss::ALL.iter().for_each(|loss| self.deprovisionings.begin(&[loss.word()]));
        SCIM_OUTCOMES.iter().for_each(|outcome| self.scim.begin(&[outcome]));
    }

    /// Counts a batch that is durable.
    pub(super) fn count_batch(&self, took: Duration, kinds: &[IngestKind], outcomes: &[Outcome]) {
        self.commit_duration.observe(&[], took.as_secs_f64());
        self.commit_events.observe(&[], kinds.len() as f64);
        kinds.iter().zip(outcomes).for_each(|(kind, outcome)| self.count(kind, outcome));
    }

    /// Counts an event by its outcome.
    pub(super) fn count(&self, kind: &IngestKind, outcome: &Outcome) {
        let result = match outcome {
            Outcome::New(_) => NEW,
            Outcome::Duplicate { .. } | Outcome::Conflict { duplicate: true, .. } => DUPLICATE,
            Outcome::Conflict { duplicate: false, .. } => CONFLICT,
        };
        self.ingest.count(&[kind.source, kind.event_type, result]);
    }

    /// Counts the delay of a delivered event. A source whose clock is ahead delays nothing.
    pub(super) fn count_delay(&self, delay_ms: Millis) {
        self.event_delay.observe(&[], seconds(delay_ms.max(0)));
    }

    /// Counts a request of an identity provider.
    pub(super) fn count_scim(&self, outcome: &'static str) {
        self.scim.count(&[outcome]);
    }

    pub(super) fn count_loss(&self, loss: AccessLoss) {
        self.deprovisionings.count(&[loss.word()]);
    }
}

impl Engine {
    /// Returns the families of all that the engine counts and knows. Takes short locks only, and
    /// costs the same however long the log is.
    pub fn metric_families(&self) -> Vec<Family> {
        let mut families = self.metrics.registry.families();
        families.extend(self.sizes());
        families.extend(self.states());
        families.extend(self.consequences());
        families.extend(self.archive().into_iter().flat_map(lags));
        families.extend(self.scrub().into_iter().flat_map(|state| checks(&state)));
        families.extend(self.snapshot().into_iter().flat_map(|state| snapshots(&state)));
        families
    }

    fn sizes(&self) -> [Family; 4] {
        let views = {
            let views = self.views();
            View::ALL.map(|view| (view.name(), views.size(view)))
        };
        let views = views.map(|(name, items)| Sample::new([("view", name)], items as f64));
        let documents = (self.documents.weight() + self.answers.weight()) as f64;
        [
            gauge("rollcall_log_seq", "The newest record.", [whole(self.folded_head())]),
            gauge("rollcall_view_items", "Items of a view, whenever they were there.", views),
            gauge(
                "rollcall_queue_events",
                "Events that wait to be written.",
                [whole(self.queued_events.load(Ordering::Relaxed) as u64)],
            ),
            gauge(
                "rollcall_cache_bytes",
                "Memory that a cache takes.",
                [Sample::new([("cache", "documents")], documents)],
            ),
        ]
    }

    fn states(&self) -> [Family; 3] {
        let rebuilds = self.last_rebuild().is_some_and(|last| last.finished_at().is_none());
        let age = self.clock.now_ms() - self.checkpointed_at.load(Ordering::Relaxed);
        [
            gauge(
                "rollcall_rebuild_running",
                "1 while the views are folded anew.",
                [whole(u64::from(rebuilds))],
            ),
            gauge(
                "rollcall_checkpoint_age_seconds",
                "Time since a checkpoint of all records was last given out; before the first, \
                 since the start.",
                [Sample::alone(seconds(age.max(0)))],
            ),
            gauge(
                "rollcall_clock_offset_seconds",
                "How far the clock was set ahead since the start; negative if it was set back.",
                [Sample::alone(seconds(self.clock.offset_ms()))],
            ),
        ]
    }

    fn consequences(&self) -> [Family; 4] {
        let tally = self.tally.lock();
        let labels = labels_of(&tally.directories);
        let quarantine = Reason::CODES
            .iter()
            .zip(tally.quarantine)
            .map(|(code, count)| Sample::new([("reason", *code)], count as f64));
        let in_state = |directory: &'_ DirectoryTally| {
            DIRECTORY_STATES.map(|state| (state, u64::from(directory.state == Some(state))))
        };
        let directories = tally.directories.iter().zip(&labels);
        let listed = directories.clone().filter(|(directory, _)| directory.state.is_some());
        let states = listed.flat_map(|(directory, label)| {
            let label: &str = label;
            in_state(directory).map(|(state, holds)| {
                Sample::new([("directory", label), ("state", state)], holds as f64)
            })
        });
        let mass = directories.map(|(directory, label)| {
            let label: &str = label;
            let value = f64::from(u8::from(directory.is_mass_deprovisioned));
            Sample::new([("directory", label)], value)
        });
        [
            gauge(
                "rollcall_quarantine_records",
                "Records that could not be used, or were used with a remark, by reason.",
                quarantine,
            ),
            gauge(
                "rollcall_directory_state",
                "1 for the state of a directory, 0 for the others.",
                states,
            ),
            gauge(
                "rollcall_directories_left_out",
                "Directories whose state is not named, because there are too many.",
                [whole(tally.directories_left_out)],
            ),
            gauge(
                "rollcall_mass_deprovisioning",
                "1 if losses of access by more than 10 users and 10 % of a directory were recorded \
                 within an hour, at most a day after they happened.",
                mass,
            ),
        ]
    }
}

/// Returns the labels of directories, in their order. An id that may be an email or a name is
/// replaced by a number, since two directories must not have the same labels.
fn labels_of(directories: &[DirectoryTally]) -> Vec<Cow<'_, str>> {
    let mut withheld = 0;
    let mut labels = Vec::with_capacity(directories.len());
    for DirectoryTally { id, .. } in directories {
        let is_withheld = may_be_personal(id) || id.starts_with(WITHHELD);
        withheld += usize::from(is_withheld);
        labels.push(if is_withheld {
            Cow::Owned(format!("{WITHHELD}_{withheld}"))
        } else {
            Cow::Borrowed(id.as_str())
        });
    }
    labels
}

/// Returns how far the archive is behind.
fn lags(ArchiveReport { lag_records, lag_ms, .. }: ArchiveReport) -> [Family; 2] {
    [
        gauge(
            "rollcall_archive_lag_records",
            "Records that are not in the archive.",
            [whole(lag_records)],
        ),
        gauge(
            "rollcall_archive_lag_seconds",
            "Time for which the oldest of them is in the log.",
            [Sample::alone(seconds(lag_ms))],
        ),
    ]
}

/// Returns what the standing scrub has read and found.
fn checks(state: &ScrubState) -> [Family; 4] {
    let unchecked = state.deferred.map_or(0, |deferred| deferred.until - deferred.position);
    [
        counter(
            "rollcall_scrub_records_total",
            "Records on the disk that were found as they were written, once for each pass.",
            [whole(state.records)],
        ),
        gauge(
            "rollcall_scrub_damaged_records",
            "Records that are damaged on the disk or cannot be read, by the last pass that found any.",
            [whole(state.damaged)],
        ),
        gauge(
            "rollcall_scrub_damaged_places",
            "Places of the store's file that the last pass found damaged.",
            [whole(state.doubtful)],
        ),
        gauge(
            "rollcall_deferred_check_records",
            "Records that the start took from the snapshot and that are not yet checked.",
            [whole(unchecked)],
        ),
    ]
}

/// Returns what is known of the snapshot of the views.
fn snapshots(state: &SnapshotState) -> [Family; 2] {
    let is_different = state.comparison == SnapshotComparison::Different;
    [
        gauge(
            "rollcall_snapshot_seq",
            "The newest record that the snapshot on the disk covers; 0 without one.",
            [whole(state.seq)],
        ),
        gauge(
            "rollcall_snapshot_different",
            "1 if the snapshot of the start was not what the log folds to, and was dropped.",
            [whole(u64::from(is_different))],
        ),
    ]
}

fn whole(number: u64) -> Sample<'static> {
    Sample::alone(number as f64)
}

fn seconds(ms: Millis) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_may_be_an_email_is_no_label() {
        let ids = ["directory_1", "ana@example.com", "withheld_1", "eva%40example.com"];
        let directories = ids.map(|id| DirectoryTally {
            id: id.to_owned(),
            state: None,
            is_mass_deprovisioned: false,
        });
        let expected = ["directory_1", "withheld_1", "withheld_2", "withheld_3"];
        assert_eq!(labels_of(&directories), expected);
    }

    #[test]
    fn each_type_has_one_source_of_its_own_or_all_that_deliver() {
        let all: Vec<IngestKind> = IngestKind::all().collect();
        let sources = |name: &str| -> Vec<&str> {
            let fits = all.iter().filter(|kind| kind.event_type == name);
            fits.map(|kind| kind.source).collect()
        };
        assert_eq!(sources("dsync.user.created"), [&DELIVERED[..], &["scim"]].concat());
        assert_eq!(sources("dsync.activated"), [&DELIVERED[..], &["operator"]].concat());
        assert_eq!(sources("dsync.deactivated"), DELIVERED);
        assert_eq!(sources("rollcall.scim.request"), ["scim"]);
        assert_eq!(sources("rollcall.directory.created"), ["operator"]);
        assert_eq!(sources("other"), DELIVERED);
        assert_eq!(sources("rollcall.policy.set"), ["operator"]);
        assert_eq!(sources("rollcall.user.observed"), ["observed"]);
        assert_eq!(sources("rollcall.reconciliation.completed"), ["observed"]);
    }
}
