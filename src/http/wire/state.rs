//! The state that every request sees, and the settings it is made of.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::answer::{Code, Problem};
use super::api::Operation;
use crate::engine::Engine;
use crate::verify::{ApiKeys, Keyring};

/// The path of webhooks, unless others are set.
pub const WEBHOOK_PATH: &str = "/webhooks/workos";

/// What a server is set up with.
pub struct Settings {
    /// Verifies webhooks.
    pub keyring: Keyring,
    /// Keys that may read.
    pub api_keys: Vec<String>,
    /// Where webhooks arrive.
    pub webhook_paths: Vec<String>,
}

/// What every request sees.
pub(crate) struct State {
    pub(crate) keyring: Keyring,
    pub(crate) api_keys: ApiKeys,
    /// Set once the log is folded.
    pub(crate) engine: Arc<OnceLock<Arc<Engine>>>,
    /// Every declared call.
    pub(crate) operations: &'static [&'static Operation],
    /// Webhooks refused since the start, by the codes of [`Code::SIGNATURES`].
    pub(crate) rejections: [AtomicU64; Code::SIGNATURES.len()],
    /// Only one answer about traffic is computed at a time: each walks over a month.
    pub(crate) stats: tokio::sync::Mutex<()>,
}

impl State {
    /// The engine, once it has caught up.
    pub(crate) fn engine(&self) -> Result<&Arc<Engine>, Problem> {
        self.engine.get().ok_or(Code::NotReady.into())
    }

    pub(crate) fn count_rejection(&self, code: Code) -> Code {
        for (counter, _) in
            self.rejections.iter().zip(Code::SIGNATURES).filter(|(_, other)| *other == code)
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        code
    }
}
