//! The state that every request sees, and the settings it is made of.

use std::sync::{Arc, OnceLock};

use parking_lot::RwLock;

use super::answer::{Code, Problem};
use super::api::Operation;
use super::body::BodiesInFlight;
use super::refusals::Refusals;
use super::turns::Turns;
use crate::engine::Engine;
use crate::verify::{ApiKeys, Keyring};

/// The path of webhooks by default.
pub const WEBHOOK_PATH: &str = "/webhooks/workos";

/// The largest body of a webhook by default, in bytes.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// The largest limit of a webhook's body, in bytes: the record's proof, which holds the body in
/// Base64, stays under the 16 MiB of a bundle.
pub const BODY_BYTES_LIMIT: usize = 12_000_000;

/// The settings of a server.
pub struct Settings {
    /// Verifies webhooks.
    pub keyring: Keyring,
    /// Keys that may read.
    pub api_keys: Vec<String>,
    /// The paths that receive webhooks.
    pub webhook_paths: Vec<String>,
    /// The largest body of a webhook, in bytes; at most [`BODY_BYTES_LIMIT`].
    pub body_bytes_max: usize,
}

/// The secrets of a running server, which can be replaced while it serves.
#[derive(Clone)]
pub struct Keys(Arc<RwLock<Arc<KeySet>>>);

/// The secrets that hold at one moment.
pub(crate) struct KeySet {
    pub(crate) keyring: Keyring,
    pub(crate) api_keys: ApiKeys,
}

impl KeySet {
    fn new(keyring: Keyring, api_keys: &[String]) -> Arc<KeySet> {
        Arc::new(KeySet { keyring, api_keys: ApiKeys::new(api_keys.iter().map(String::as_str)) })
    }
}

impl Keys {
    pub(crate) fn new(keyring: Keyring, api_keys: &[String]) -> Keys {
        Keys(Arc::new(RwLock::new(KeySet::new(keyring, api_keys))))
    }

    /// Replaces all of them in one step, for the requests that begin from now on.
    pub fn replace(&self, keyring: Keyring, api_keys: &[String]) {
        *self.0.write() = KeySet::new(keyring, api_keys);
    }

    pub(crate) fn now(&self) -> Arc<KeySet> {
        self.0.read().clone()
    }
}

/// The state that every request sees.
pub(crate) struct State {
    pub(crate) keys: Keys,
    /// Set once the log is folded.
    pub(crate) engine: Arc<OnceLock<Arc<Engine>>>,
    /// Every declared call.
    pub(crate) operations: &'static [&'static Operation],
    /// The largest body of a webhook, in bytes.
    pub(crate) body_bytes_max: usize,
    /// The webhooks refused since the start.
    pub(crate) refusals: Refusals,
    /// The bytes of the webhooks' bodies that are being read.
    pub(crate) bodies: BodiesInFlight,
    /// Those of operators' bodies, whose key is known before: webhooks that are not authentic keep
    /// none of them out.
    pub(crate) operator_bodies: BodiesInFlight,
    /// The turns of expensive calls.
    pub(crate) turns: Turns,
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
}
