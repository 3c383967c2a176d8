//! The state that every request sees, and the settings it is made of.

use std::sync::{Arc, OnceLock};

use actix_web::HttpRequest;
use actix_web::http::header::HOST;
use rollcall_projections::Millis;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::answer::{Code, Problem};
use super::api::Operation;
use super::body::BodiesInFlight;
use super::connections::Connections;
use super::large::LargeAnswers;
use super::metrics::RequestMetrics;
use super::refusals::Refusals;
use super::turns::Turns;
use crate::delivery::Deliveries;
use crate::engine::Engine;
use crate::keys::{ApiKeys, Expiries, Operator};
use crate::sink::Sink;
use crate::sources::Source;
use crate::time;
use crate::verify::Keyring;

/// The path of webhooks by default.
pub const WEBHOOK_PATH: &str = "/webhooks/workos";

/// The largest body of a webhook by default, in bytes.
pub const BODY_BYTES_MAX: usize = 4 << 20;

/// The largest limit of a webhook's body, in bytes: the record's proof, which holds the body in
/// Base64, stays under the 16 MiB of a bundle.
pub const BODY_BYTES_LIMIT: usize = 12_000_000;

/// One of so many connections may wait for a change: the others stay free for questions that are
/// answered at once.
pub(crate) const LONG_POLL_PART: usize = 4;

/// The settings of a server.
pub struct Settings {
    /// Verifies webhooks.
    pub keyring: Keyring,
    /// The keys of those who ask and act.
    pub api_keys: ApiKeys,
    /// The paths that receive webhooks.
    pub webhook_paths: Vec<String>,
    /// The largest body of a webhook, in bytes; at most [`BODY_BYTES_LIMIT`].
    pub body_bytes_max: usize,
    /// The source to pull from.
    pub source: Option<Arc<Source>>,
    /// The URL at which others reach this server, if it is known.
    pub public_url: Option<String>,
    /// The receivers of webhooks.
    pub deliveries: Arc<Deliveries>,
    /// The tables to keep in PostgreSQL.
    pub sink: Option<Arc<Sink>>,
}

impl Settings {
    /// Makes the settings of a server that takes webhooks at [`WEBHOOK_PATH`] and answers questions,
    /// and that asks and sends to no other.
    pub fn new(keyring: Keyring, api_keys: ApiKeys) -> Settings {
        Settings {
            keyring,
            api_keys,
            webhook_paths: vec![WEBHOOK_PATH.into()],
            body_bytes_max: BODY_BYTES_MAX,
            source: None,
            public_url: None,
            deliveries: Arc::default(),
            sink: None,
        }
    }
}

/// The settings of a server, apart by their use.
pub(crate) struct SplitSettings {
    /// What can be replaced while the server serves.
    pub(crate) keys: Keys,
    pub(crate) webhook_paths: Vec<String>,
    pub(crate) addresses: Addresses,
}

/// This server and others, as the settings name them.
pub(crate) struct Addresses {
    /// The source to pull from.
    pub(crate) source: Option<Arc<Source>>,
    /// The URL at which others reach this server.
    pub(crate) public_url: Option<String>,
    /// The receivers of webhooks.
    pub(crate) deliveries: Arc<Deliveries>,
    /// The tables to keep in PostgreSQL.
    pub(crate) sink: Option<Arc<Sink>>,
}

impl Settings {
    /// Splits off what can be replaced while the server serves.
    pub(crate) fn split(self) -> SplitSettings {
        let Settings { keyring, api_keys, webhook_paths, body_bytes_max, .. } = self;
        let public_url = self.public_url.map(|url| url.trim_end_matches('/').to_owned());
        let addresses = Addresses {
            source: self.source,
            sink: self.sink,
            public_url,
            deliveries: self.deliveries,
        };
        let body_bytes_max = body_bytes_max.min(BODY_BYTES_LIMIT);
        let keys = Keys::new(KeySet { keyring, api_keys, body_bytes_max });
        SplitSettings { keys, webhook_paths, addresses }
    }
}

/// The secrets and limits of a running server, which can be replaced while it serves.
#[derive(Clone)]
pub struct Keys(Arc<watch::Sender<Arc<KeySet>>>);

/// The secrets and limits that hold at one moment.
pub struct KeySet {
    /// Verifies webhooks.
    pub keyring: Keyring,
    /// The keys of those who ask and act.
    pub api_keys: ApiKeys,
    /// The largest body of a webhook, in bytes; at most [`BODY_BYTES_LIMIT`].
    pub body_bytes_max: usize,
}

/// The end of an operator's rights to a request that waits.
pub(crate) enum Revoked {
    /// The key is not known any more.
    Removed,
    /// The key has other rights.
    Changed,
}

impl Keys {
    pub(crate) fn new(set: KeySet) -> Keys {
        Keys(Arc::new(watch::Sender::new(Arc::new(set))))
    }

    /// Replaces all of them in one step, for the requests that begin from now on. Requests that
    /// wait end if their key has changed.
    pub fn replace(&self, set: KeySet) {
        self.0.send_modify(|keys| {
            let api_keys = set.api_keys.continuing(&keys.api_keys);
            *keys = Arc::new(KeySet { api_keys, ..set });
        });
    }

    /// Warns of the keys whose time ends.
    pub fn warn_of_expiries(&self, expiries: &mut Expiries) {
        expiries.warn(&self.now().api_keys, time::now_ms());
    }

    /// Tells if the operator's key still has the rights that it had.
    pub(crate) fn hold(&self, operator: &Operator) -> bool {
        self.now().api_keys.present(operator).as_ref() == Some(operator)
    }

    /// Tells if some key has a limit on its requests now.
    pub(crate) fn have_limits(&self) -> bool {
        self.0.borrow().api_keys.have_limits()
    }

    pub(crate) fn now(&self) -> Arc<KeySet> {
        self.0.borrow().clone()
    }

    /// Waits until the operator's key is removed or has other rights.
    pub(crate) async fn revoked(&self, operator: &Operator) -> Revoked {
        let mut changes = self.0.subscribe();
        loop {
            let found = changes.borrow_and_update().api_keys.present(operator);
            match found {
                None => return Revoked::Removed,
                Some(found) if found != *operator => return Revoked::Changed,
                Some(_) => {}
            }
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Who may ask an address for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MetricsAccess {
    /// Those who reach it: it is the address for monitors and operators.
    Open,
    /// Holders of a key.
    Keyed,
    /// None, because another address answers.
    Elsewhere,
}

/// The backups that are written at once.
const BACKUPS_MAX: usize = 2;

/// The turns of backups, each of which may take hours.
pub(crate) struct Backups(Arc<Semaphore>);

impl Default for Backups {
    fn default() -> Backups {
        Backups(Arc::new(Semaphore::new(BACKUPS_MAX)))
    }
}

impl Backups {
    /// Takes a turn, which ends when it is dropped.
    ///
    /// # Errors
    /// 429 if there is none.
    pub(crate) fn begin(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.0.clone().try_acquire_owned().map_err(|_| Code::TooManyRequests.into())
    }
}

/// The state that every request sees.
pub(crate) struct State {
    pub(crate) keys: Keys,
    /// Set once the log is folded.
    pub(crate) engine: Arc<OnceLock<Arc<Engine>>>,
    /// The source to pull from.
    pub(crate) source: Option<Arc<Source>>,
    /// The URL at which others reach this server, without a slash at its end, if it is known.
    pub(crate) public_url: Option<String>,
    /// The receivers of webhooks.
    pub(crate) deliveries: Arc<Deliveries>,
    /// The tables that are kept in PostgreSQL.
    pub(crate) sink: Option<Arc<Sink>>,
    /// The moment at which the server began to listen.
    pub(crate) started_at: Millis,
    /// Every declared call.
    pub(crate) operations: &'static [&'static Operation],
    /// Adds the calls that are declared elsewhere to `/openapi.json`.
    pub(crate) describe_more: fn(&mut serde_json::Value),
    /// The webhooks refused since the start.
    pub(crate) refusals: Refusals,
    /// The bytes of the webhooks' bodies that are being read.
    pub(crate) bodies: BodiesInFlight,
    /// Those of operators' bodies, whose key is known before: webhooks that are not authentic keep
    /// none of them out.
    pub(crate) operator_bodies: BodiesInFlight,
    /// Those of identity providers' bodies, whose token is known before.
    pub(crate) scim_bodies: BodiesInFlight,
    /// The requests that were answered since the start.
    pub(crate) requests: Arc<RequestMetrics>,
    /// The turns of expensive calls.
    pub(crate) turns: Turns,
    /// The turns of backups.
    pub(crate) backups: Backups,
    /// The bytes of large answers that are being written.
    pub(crate) large_answers: LargeAnswers,
    /// The connections, but those to the address for monitors and operators.
    pub(crate) connections: Arc<Connections>,
    /// The questions that may wait for a change: a part of the connections.
    pub(crate) long_polls: Semaphore,
    /// Held while an answer about traffic is computed: each walks over a month.
    pub(crate) stats: tokio::sync::Mutex<()>,
}

impl State {
    /// Returns the URL at which the sender of a request reaches this server: the configured one,
    /// else the host that the request names. What a sender says of proxies counts for nothing.
    pub(crate) fn base_url(&self, request: &HttpRequest) -> String {
        self.public_url.clone().unwrap_or_else(|| format!("http://{}", host_of(request)))
    }

    /// Returns the URL at which an identity provider reaches a directory.
    pub(crate) fn scim_url(&self, request: &HttpRequest, directory: &str) -> String {
        format!("{}/scim/v2/{directory}", self.base_url(request))
    }

    /// Returns the engine.
    ///
    /// # Errors
    /// 503 until it has caught up.
    pub(crate) fn engine(&self) -> Result<&Arc<Engine>, Problem> {
        self.engine.get().ok_or(Code::NotReady.into())
    }
}

/// Returns the host that a request names, else that of the server.
fn host_of(request: &HttpRequest) -> String {
    let header = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let header = header.map(str::trim).filter(|host| !host.is_empty());
    let named = header.or_else(|| request.uri().authority().map(|authority| authority.as_str()));
    named.unwrap_or(request.app_config().host()).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::ResponseError;
    use actix_web::test::TestRequest;

    #[test]
    fn the_host_of_a_request_is_what_its_host_header_names_alone() {
        let forwarded = TestRequest::get()
            .insert_header(("Host", "rollcall.example:8080"))
            .insert_header(("X-Forwarded-Host", "evil.example"))
            .insert_header(("Forwarded", "host=evil.example"));
        assert_eq!(host_of(&forwarded.to_http_request()), "rollcall.example:8080");
        let absolute = TestRequest::with_uri("http://other.example/scim")
            .insert_header(("X-Forwarded-Host", "evil.example"));
        assert_eq!(host_of(&absolute.to_http_request()), "other.example");
    }

    #[test]
    fn two_backups_have_a_turn_and_a_third_gets_429_until_one_has_ended() {
        let backups = Backups::default();
        let (one, _other) = (backups.begin().unwrap(), backups.begin().unwrap());
        let refused = backups.begin().unwrap_err();
        assert_eq!((refused.status_code().as_u16(), refused.code()), (429, Code::TooManyRequests));
        drop(one);
        let again = backups.begin();
        assert!(again.is_ok() && backups.begin().is_err());
    }
}
