//! The condition of the server, for those who operate it.

use serde_json::{Map, Value, json};

use super::refusals::Refusals;
use crate::engine::{Engine, MappingMemory};
use crate::log::DiskSpace;
use crate::time;

/// Describes what an operator must know of: the disk, the memory of mappings, and when webhooks
/// were last refused.
pub(crate) fn describe_condition(engine: &Engine, refusals: &Refusals) -> Map<String, Value> {
    let disk = engine.disk_space().map(|space| {
        let DiskSpace { free, reserve } = space;
        json!({ "free_bytes": free, "reserve_bytes": reserve, "is_low": space.is_low() })
    });
    let MappingMemory { taken, max } = engine.mapping_memory();
    let last_refused: Map<String, Value> = refusals
        .last_at()
        .map(|(code, at)| (code.name().to_owned(), at.map(time::format).into()))
        .collect();
    [
        ("disk".to_owned(), disk.into()),
        ("mappings".to_owned(), json!({ "bytes": taken, "bytes_max": max })),
        ("last_refused_at".to_owned(), last_refused.into()),
        ("mass_deprovisionings".to_owned(), engine.mass_deprovisionings().into()),
    ]
    .into_iter()
    .collect()
}
