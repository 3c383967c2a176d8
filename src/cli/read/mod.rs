//! The commands that read. Each asks a server over HTTP: one that runs, or one that it starts
//! itself over a data folder, so that both give the same answers.

mod attention;
mod audit;
mod changes;
pub(super) mod csv_table;
mod deprovisioned;
mod diff;
mod directories;
mod events;
mod following;
mod groups;
pub(super) mod listing;
pub(super) mod names;
mod objects;
pub(super) mod print;
mod quarantine;
mod roles;
pub(super) mod source;
mod source_status;
mod status;
mod users;

pub(super) use audit::AuditArgs;
pub(super) use changes::ChangesArgs;
pub(super) use deprovisioned::DeprovisionedArgs;
pub(super) use diff::DiffArgs;
pub(super) use directories::DirectoriesArgs;
pub(super) use events::EventsArgs;
pub(super) use groups::GroupsArgs;
pub(super) use quarantine::QuarantineArgs;
pub(super) use roles::{ASSIGNMENTS_PATH, RolesArgs, assignments_text};
pub(super) use status::StatusArgs;
pub(super) use users::UsersArgs;
