//! Kits that the tests share: a running server, the naive model, histories, and comparisons.

pub mod bucket;
pub mod case;
pub mod compare;
pub mod exposition;
pub mod histories;
pub mod keyed;
pub mod machine;
pub mod model;
pub mod play;
pub mod postgres;
pub mod power;
pub mod receiver;
pub mod road;
pub mod scale;
pub mod scim;
pub mod server;
pub mod shrink;
pub mod sink;
pub mod small_disk;
pub mod source;
pub mod stage;
pub mod tamper;
