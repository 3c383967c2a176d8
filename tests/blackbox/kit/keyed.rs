//! A server in this process, over a log in memory, whose keys a test chooses.

use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use actix_web::dev::ServerHandle;
use rollcall::engine::Engine;
use rollcall::http::{Keys, Settings, serve};
use rollcall::keys::{ApiKey, ApiKeys, KeyEntry};
use rollcall_projections::Millis;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::kit::road::{engine, memory_log, settings};
use crate::kit::server::{API_KEY, Answer, agent, ask};

/// A running server. It also takes [`API_KEY`], with every right.
pub struct Keyed {
    pub url: String,
    pub keys: Keys,
    engine: Arc<Engine>,
    handle: ServerHandle,
    running: Option<thread::JoinHandle<()>>,
    agent: ureq::Agent,
}

/// An entry for the key `sk_NAME`.
pub fn entry(name: &str, scopes: &[&str]) -> KeyEntry {
    KeyEntry {
        name: name.into(),
        sha256: hex::encode(Sha256::digest(format!("sk_{name}"))),
        scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        organizations: None,
        expires_at: None,
        rate_limit: None,
    }
}

/// The keys of these entries, and [`API_KEY`].
pub fn keys_of(entries: &[KeyEntry]) -> ApiKeys {
    let named = entries.iter().map(|entry| entry.read().unwrap());
    ApiKeys::new(named.chain([ApiKey::unrestricted(API_KEY)])).unwrap()
}

impl Keyed {
    /// Starts over records, each with its time.
    pub fn start(entries: &[KeyEntry], records: &[(Millis, String)]) -> Keyed {
        let log = memory_log([]);
        for (recorded_at, body) in records {
            let event = crate::kit::road::verified_at(body.as_bytes(), *recorded_at);
            rollcall::log::Log::append(&*log, vec![event], *recorded_at).unwrap();
        }
        let engine = engine(log);
        let slot: Arc<OnceLock<Arc<Engine>>> = Arc::default();
        slot.set(engine.clone()).ok().unwrap();
        let settings = Settings { api_keys: keys_of(entries), ..settings() };
        let (send, started) = mpsc::channel();
        let running = thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let server = serve("127.0.0.1:0", settings, slot).unwrap();
                send.send((server.address, server.keys, server.handle)).unwrap();
                server.running.await.unwrap();
            });
        });
        let (address, keys, handle) = started.recv().unwrap();
        let url = format!("http://{address}");
        Keyed { url, keys, engine, handle, running: Some(running), agent: agent() }
    }

    /// Asks with the key `sk_NAME`.
    pub fn ask(&self, name: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
        self.ask_as(&format!("sk_{name}"), method, path, body)
    }

    /// Asks with a whole key.
    pub fn ask_as(&self, key: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string).unwrap_or_default();
        ask(&self.agent, method, &format!("{}{path}", self.url), key, &body)
    }

    pub fn get(&self, name: &str, path: &str) -> Answer {
        self.ask(name, "get", path, None)
    }
}

impl Drop for Keyed {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
        self.running.take().unwrap().join().unwrap();
        self.engine.close();
    }
}
