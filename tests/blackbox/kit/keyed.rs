//! A server in this process, over a log in memory, whose keys a test chooses.

use std::sync::{Arc, OnceLock, mpsc};
use std::thread;

use rollcall::engine::Engine;
use rollcall::http::{BODY_BYTES_MAX, Handle, KeySet, Keys, ListenOn, Settings, serve};
use rollcall::keys::{ApiKey, ApiKeys, KeyEntry};
use rollcall::verify::Keyring;
use rollcall_projections::Millis;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::kit::road::{engine, memory_log, settings};
use crate::kit::server::{API_KEY, Answer, agent, ask};

/// A running server. It also takes [`API_KEY`], with every right.
pub struct Keyed {
    pub url: String,
    keys: Keys,
    engine: Arc<Engine>,
    handle: Handle,
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
fn keys_of(entries: &[KeyEntry]) -> ApiKeys {
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
                let listen = [ListenOn::Tcp("127.0.0.1:0".into())];
                let server = serve(&listen, None, settings, slot).unwrap();
                let url = server.urls[0].clone();
                send.send((url, server.keys.clone(), server.handle.clone())).unwrap();
                server.run().await.unwrap();
            });
        });
        let (url, keys, handle) = started.recv().unwrap();
        Keyed { url, keys, engine, handle, running: Some(running), agent: agent() }
    }

    /// Replaces the secrets of webhooks and the keys.
    pub fn replace(&self, keyring: Keyring, entries: &[KeyEntry]) {
        let api_keys = keys_of(entries);
        self.keys.replace(KeySet { keyring, api_keys, body_bytes_max: BODY_BYTES_MAX });
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
