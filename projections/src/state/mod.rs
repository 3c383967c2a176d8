//! The state that the fold keeps: what was said of each thing, and the indexes over it.

pub(crate) mod directories;
pub(crate) mod entities;
pub(crate) mod events;
pub(crate) mod memberships;
pub(crate) mod policies;
pub(crate) mod roles;
