//! The commands that read: each asks a server over HTTP, one that runs or one of its own over a
//! data folder, so that both answer alike.

mod audit;
mod changes;
mod deprovisioned;
mod diff;
mod directories;
mod events;
mod groups;
pub(super) mod listing;
pub(super) mod print;
mod roles;
pub(super) mod source;
mod status;
mod users;
mod values;

pub(super) use audit::Audit;
pub(super) use changes::Changes;
pub(super) use deprovisioned::Deprovisioned;
pub(super) use diff::Diff;
pub(super) use directories::Directories;
pub(super) use events::Events;
pub(super) use groups::Groups;
pub(super) use roles::{ASSIGNMENTS_PATH, Roles, told as assignments_told};
pub(super) use status::Status;
pub(super) use users::Users;
