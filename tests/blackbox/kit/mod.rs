//! The tests' kits: a server to speak to, the naive model, histories to play, and ways to compare.

pub mod case;
pub mod compare;
pub mod histories;
pub mod model;
pub mod play;
pub mod road;
pub mod scale;
pub mod server;
pub mod shrink;
pub mod stage;
