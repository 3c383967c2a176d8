//! Rollcall's fold: from events to timelines, and from timelines to answers at any `(as_of,
//! known_at)`.
//!
//! The crate is pure. It has no clock, file, network, randomness or store, and no parser: the
//! caller extracts an [`Entry`] from each record, hands the entries to [`Views::apply`] in order of
//! seq, and asks with a [`Cut`]. Folding cannot fail: what it cannot use it lists in the
//! quarantine.
//!
//! Two rules carry everything else:
//! - **The end of anything is derived.** A timeline holds what was said and nothing more; whether a
//!   user is alive or a membership holds is computed from timelines at the question, so a late
//!   event takes its place in the past and corrects every answer.
//! - **An index only proposes.** The lists behind filters hold candidates with a conservative span
//!   (see `roster.rs`); each candidate is then judged by the timelines. An index that is too wide
//!   costs time and never changes an answer.

mod access;
mod assignments;
mod causes;
mod changes;
mod deprovisionings;
mod diff;
mod directories;
mod dump;
mod entities;
mod event_type;
mod events;
mod fact;
mod history;
mod holders;
mod mapping;
mod membership_periods;
mod memberships;
mod names;
mod order;
mod page;
mod policies;
mod preview;
mod quarantine;
mod roles;
mod roster;
mod timeline;
mod traffic;
mod views;
mod walks;

pub use access::{AccessEnd, AccessLoss, AccessPeriod};
pub use assignments::{Assignment, AssignmentFilter, Assignments, Because, Ground};
pub use causes::{Cause, RolePeriod};
pub use changes::{AccessChange, AccessChanges, Became, Touched};
pub use deprovisionings::{Deprovisioning, DeprovisioningFilter, Deprovisionings};
pub use diff::{Difference, DifferencePlace, Differences, Differs, Subject};
pub use directories::DirectoryRow;
pub use dump::View;
pub use entities::{Part, Row};
pub use event_type::{EventSubject, EventType};
pub use events::{EventFilter, EventRow, INITIAL_SYNC_PAUSE_MS, InitialSync, Intake, Start};
pub use fact::{
    Change, DirectoryChange, Entry, Fact, Fingerprint, GroupData, InactiveUsers, MembershipData,
    RecordStatus, UserData,
};
pub use history::{EventPlace, VersionKind, VersionRef, VersionRow, Versions};
pub use mapping::{GroupPattern, Mapping, Matches, Mode, Rule};
pub use membership_periods::{MembershipPeriod, MembershipPeriods};
pub use order::{Cut, Millis, Seq};
pub use page::{Page, Window};
pub use policies::Policy;
pub use preview::{Comparison, MappingSet, Proposal, RoleChange};
pub use quarantine::{Field, Quarantined, Reason};
pub use roles::{AttributePath, Attributes};
pub use traffic::{Counted, Counts, Delays, Traffic, WINDOWS, WINDOWS_MS};
pub use views::{DirectoryFilter, GroupFilter, GroupRow, UserFilter, UserRow, Views};
