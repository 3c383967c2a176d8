//! Rollcall's fold: from events to timelines, and from timelines to answers at any `(as_of,
//! known_at)`.
//!
//! The crate is pure. It has no clock, file, network, randomness or store, and no parser: the
//! caller extracts an [`Entry`] from each record, hands the entries to [`Views::apply`] in order of
//! seq, and asks through a [`Sight`] with a [`Cut`]. Folding cannot fail: it lists what it cannot
//! use in the quarantine.
//!
//! Two rules carry everything else:
//! - **The end of anything is derived.** A timeline holds the events and nothing more. Whether a
//!   user is alive or a membership holds is computed from timelines at the question, so that a late
//!   event takes its place in the past and corrects every answer.
//! - **An index only proposes.** The lists behind filters hold candidates with a conservative span
//!   (see `ground/roster.rs`); each candidate is then judged by the timelines. An index that is too
//!   wide costs time and never changes an answer.
//!
//! The modules are in layers, and each imports only those before it: `ground` (clocks, facts,
//! containers), `state` (the timelines and indexes), `views` (the state of one log), `judge` (what
//! holds at a cut), `sight` (the part that a caller sees), then `fold` (the only code that writes)
//! and `ask` (the questions).

extern crate alloc;

mod ask;
mod fold;
mod ground;
mod judge;
mod sight;
mod state;
mod views;

pub use ask::access::{AccessEnd, AccessLoss, AccessPeriod};
pub use ask::assignments::{Assignment, AssignmentFilter, Assignments, Because, Ground};
pub use ask::causes::{Cause, RolePeriod};
pub use ask::changes::{AccessChange, AccessChanges, Effect};
pub use ask::deprovisionings::{Deprovisioning, DeprovisioningFilter, Deprovisionings};
pub use ask::diff::{
    DiffCandidates, Difference, DifferenceKind, DifferencePlace, Differences, Subject,
};
pub use ask::dump::View;
pub use ask::history::{EventPlace, VersionKind, VersionRef, VersionRow, Versions};
pub use ask::holdings::{HeldDirectory, HeldKind, Holding, HoldingsStep};
pub use ask::last_heard::{LastHeard, LastHeardStep};
pub use ask::links::{Link, LinkFilter};
pub use ask::lists::{
    DirectoryFilter, DirectoryRow, EntityRow, GroupFilter, ListStep, MembersStep, NESTED_MAX,
    Nested, UserFilter, UserRow,
};
pub use ask::lookups::Named;
pub use ask::mappings::MappingSet;
pub use ask::membership_periods::{MembershipPeriod, MembershipPeriods};
pub use ask::memory::MemoryPart;
pub use ask::names::{NameQuestion, NameSearch, NamedBy, NamedKind, NamesFound, Namesake};
pub use ask::observations::{Finding, ObservedThing, Verdict};
pub use ask::preview::{Comparison, ComparisonStep, Proposal, RoleChange, RoleCounts};
pub use ask::runs::PeriodsWindow;
pub use ask::same_person::{OtherUser, SamePerson};
pub use ask::tables::{
    AccessPeriodRow, AssignmentRow, Changed, MembershipPeriodRow, MembershipRow, PeriodRow,
    RolePeriodRow, TableChanges, TouchedRows, Touches,
};
pub use ask::touched::TouchedUsers;
pub use ask::traffic::{
    Counted, Counts, DELIVERY_MS_MAX, Delays, ReasonCounts, Traffic, WINDOWS, WINDOWS_MS,
};
pub use ask::unmatched::{
    Judged, RuleWarning, Unmatched, UnmatchedGroup, UnmatchedSearch, WarningReason,
};
pub use ground::event_type::{
    EventEffect, EventSubject, EventType, OWN_PREFIX, SYNC_PREFIX, TOKEN_PREFIX,
};
pub use ground::fact::{
    Change, Deactivation, DirectoryChange, Entry, Fact, Fingerprint, GroupData, InactiveUsers,
    MembershipData, Provenance, RecordStatus, ScimId, ScimKeys, ScimKind, ScimRequestData,
    TokenData, UserData,
};
pub use ground::glob::glob_fits;
pub use ground::mapping::{GroupPattern, Mapping, Matches, Mode, NameText, RoleNames, Rule};
pub use ground::order::{CLOCK_AHEAD_MS, Cut, Millis, Seq};
pub use ground::page::{Page, Step, Window, page_in_steps};
pub use ground::quarantine::{Field, Quarantined, Reason};
pub use sight::{Seen, Sight};
pub use state::attributes::{AttributePath, Attributes};
pub use state::entities::{Part, SnapshotRef};
pub use state::events::{EventFilter, EventRow, EventsStep, Start, events_in_steps};
pub use state::intake::{INITIAL_SYNC_PAUSE_MS, InitialSync, Intake};
pub use state::living::Living;
pub use state::name_matches::{GroupName, NameMatches};
pub use state::policies::Policy;
pub use state::scim::{
    Scim, ScimDirectory, ScimIndex, ScimMember, ScimRequest, ScimResource, ScimToken,
};
pub use views::{FOLD_VERSION, VIEWS_LAYOUT, Views};
