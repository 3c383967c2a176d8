//! The state that every request sees, and the settings it is made of.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::answer::{Code, Problem};
use super::api::Operation;
use crate::engine::Engine;
use crate::verify::{ApiKeys, Keyring};

/// The path of webhooks by default.
pub const WEBHOOK_PATH: &str = "/webhooks/workos";

/// The settings of a server.
pub struct Settings {
    /// Verifies webhooks.
    pub keyring: Keyring,
    /// Keys that may read.
    pub api_keys: Vec<String>,
    /// The paths that receive webhooks.
    pub webhook_paths: Vec<String>,
}

/// The state that every request sees.
pub(crate) struct State {
    pub(crate) keyring: Keyring,
    pub(crate) api_keys: ApiKeys,
    /// Set once the log is folded.
    pub(crate) engine: Arc<OnceLock<Arc<Engine>>>,
    /// Every declared call.
    pub(crate) operations: &'static [&'static Operation],
    /// The webhooks refused since the start, in the order of [`Code::SIGNATURES`].
    pub(crate) rejections: [AtomicU64; Code::SIGNATURES.len()],
    /// Held while an answer about traffic is computed: each walks over a month.
    pub(crate) stats: tokio::sync::Mutex<()>,
}

impl State {
    /// Returns the engine.
    ///
    /// # Errors
    /// 503 until it has caught up.
    pub(crate) fn engine(&self) -> Result<&Arc<Engine>, Problem> {
        self.engine.get().ok_or(Code::NotReady.into())
    }

    /// Counts a refused webhook.
    pub(crate) fn count_rejection(&self, code: Code) -> Code {
        for (counter, _) in
            self.rejections.iter().zip(Code::SIGNATURES).filter(|(_, other)| *other == code)
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        code
    }
}
