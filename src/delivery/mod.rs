//! Webhooks that go out: the log is the outbox, and each endpoint has a position in it.
//!
//! Every endpoint has threads of its own, so that none waits for another. What is owed is read from
//! the log when it is sent, and only the position is kept.

mod address;
mod canonical;
mod client;
mod endpoint;
mod lane;
mod message;
mod position;
mod queue;
mod reach;
mod state;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rollcall_projections::{SYNC_PREFIX, Seq, glob_fits};
use tokio::runtime::Builder;
use ureq::http::Uri;
use ureq::tls::RootCerts;

pub use address::not_public;
pub(crate) use endpoint::Endpoint;
pub use endpoint::{CommandError, EndpointReport};
pub use message::{Format, Signer};
pub use reach::reach;
pub use state::{EndpointState, PausedBy};

use crate::engine::{CONSEQUENCES, Engine, Selection};
use crate::trust::{TrustError, authorities};

/// The longest that a stop waits for webhooks in flight. Those that take longer are sent again.
const FINISH_WITHIN: Duration = Duration::from_secs(2);
const FINISH_PAUSE: Duration = Duration::from_millis(2);

/// The place at which a new endpoint begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Behind the newest record.
    Now,
    /// With the first record.
    Start,
    /// With this record.
    Seq(Seq),
}

impl fmt::Display for Beginning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Beginning::Now => formatter.write_str("now"),
            Beginning::Start => formatter.write_str("start"),
            Beginning::Seq(seq) => seq.fmt(formatter),
        }
    }
}

/// The events and consequences that an endpoint gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Globs of types.
    pub events: Vec<String>,
    /// The organizations; `None` for all, and what is of none.
    pub organizations: Option<Vec<String>>,
}

impl Wanted {
    /// Tells if a glob fits any type that may be sent.
    pub fn fits_any(glob: &str) -> bool {
        let plain = glob.split('*').next().unwrap_or_default();
        let may_fit_sync = plain.starts_with(SYNC_PREFIX)
            || plain.len() < glob.len() && SYNC_PREFIX.starts_with(plain);
        may_fit_sync || CONSEQUENCES.iter().any(|name| fits(glob, name))
    }
}

impl Selection for Wanted {
    fn wants(&self, event_type: &str) -> bool {
        let may_leave = event_type.starts_with(SYNC_PREFIX) || CONSEQUENCES.contains(&event_type);
        may_leave && self.events.iter().any(|glob| fits(glob, event_type))
    }

    fn wants_organization(&self, organization: &str) -> bool {
        let Some(organizations) = &self.organizations else { return true };
        !organization.is_empty() && organizations.iter().any(|id| id == organization)
    }
}

fn fits(glob: &str, event_type: &str) -> bool {
    glob_fits(glob, event_type, &mut 0)
}

/// An endpoint as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSettings {
    /// Its name, by which its position is kept.
    pub name: String,
    /// The URL to which webhooks are posted.
    pub url: Uri,
    /// What signs them.
    pub signer: Signer,
    /// What it gets.
    pub wanted: Wanted,
    /// Where it begins if it has no position yet.
    pub from: Beginning,
    /// The webhooks that may be in flight; 1 if all are sent in order.
    pub max_in_flight: usize,
    /// True if every webhook waits for the one before.
    pub ordered: bool,
    /// True if it may be at an address that is not of the internet.
    pub allow_private: bool,
}

impl EndpointSettings {
    /// Tells if it is reached over https.
    pub fn is_https(&self) -> bool {
        self.url.scheme_str() == Some("https")
    }

    /// Returns its URL without user information and query, which may be secret.
    pub fn plain_url(&self) -> String {
        let host = self.url.authority().map_or("", |authority| authority.as_str());
        let host = host.rsplit('@').next().unwrap_or_default();
        let (scheme, path) = (self.url.scheme_str().unwrap_or_default(), self.url.path());
        format!("{scheme}://{host}{path}")
    }
}

/// All endpoints, and the threads that send.
#[derive(Default)]
pub struct Deliveries {
    data: PathBuf,
    all: Mutex<All>,
    /// Told when there are endpoints where there were none, and when they are stopped.
    begun: Condvar,
    /// Held while endpoints are replaced.
    replacing: Mutex<()>,
}

/// The endpoints, in the order of the configuration, and what runs for them.
#[derive(Default)]
struct All {
    endpoints: Vec<Arc<Endpoint>>,
    threads: Vec<JoinHandle<()>>,
    /// Set once it has begun to send.
    engine: Weak<Engine>,
    is_stopped: bool,
}

/// Returns the certificate authorities that some endpoints need.
fn roots(settings: &[EndpointSettings]) -> Result<RootCerts, TrustError> {
    let is_https = settings.iter().any(EndpointSettings::is_https);
    if is_https { authorities(None) } else { Ok(RootCerts::WebPki) }
}

impl Deliveries {
    /// Makes the endpoints of the log in the folder `data`, and sends nothing yet.
    ///
    /// # Errors
    /// If a certificate is missing.
    pub fn new(settings: Vec<EndpointSettings>, data: &Path) -> Result<Deliveries, TrustError> {
        let roots = roots(&settings)?;
        let endpoint = |one| Arc::new(Endpoint::new(one, data, roots.clone()));
        let endpoints = settings.into_iter().map(endpoint).collect();
        let all = Mutex::new(All { endpoints, ..All::default() });
        let (begun, replacing) = (Condvar::new(), Mutex::default());
        Ok(Deliveries { data: data.to_owned(), all, begun, replacing })
    }

    /// Begins to send, on threads that do not keep the engine from being closed.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(self: &Arc<Deliveries>, engine: &Arc<Engine>) -> std::io::Result<()> {
        let _alone = self.replacing.lock();
        let mut all = self.all.lock();
        all.engine = Arc::downgrade(engine);
        for endpoint in all.endpoints.clone() {
            all.threads.extend(begin(&endpoint, engine)?);
        }
        let (deliveries, mut heads) = (self.clone(), engine.folded_heads());
        // It needs no timers: it only waits for records.
        let runtime = Builder::new_current_thread().build()?;
        let wake = move || {
            runtime.block_on(async {
                while deliveries.wait_for_one() {
                    let head = *heads.borrow_and_update();
                    if !deliveries.wake(head) || heads.changed().await.is_err() {
                        return;
                    }
                }
            });
        };
        all.threads.push(thread::Builder::new().name("outbox".into()).spawn(wake)?);
        Ok(())
    }

    /// Waits until there is an endpoint: without one no record need wake a thread. Returns false once
    /// they are stopped.
    fn wait_for_one(&self) -> bool {
        let mut all = self.all.lock();
        self.begun.wait_while(&mut all, |all| all.endpoints.is_empty() && !all.is_stopped);
        !all.is_stopped
    }

    /// Tells all endpoints the newest record. Returns false once they are stopped.
    fn wake(&self, head: Seq) -> bool {
        let all = self.all.lock();
        all.endpoints.iter().for_each(|endpoint| endpoint.wake(head));
        !all.is_stopped
    }

    /// Puts other endpoints in the place of these. One whose settings are the same goes on; the
    /// others end, and begin anew at their positions once what was in flight is answered: that may
    /// take 10 seconds.
    ///
    /// # Errors
    /// If a certificate is missing: then all stays as it was. If no thread can be started: then some
    /// endpoints do not send.
    pub fn replace(&self, settings: Vec<EndpointSettings>) -> Result<(), ReplaceError> {
        let _alone = self.replacing.lock();
        let roots = roots(&settings)?;
        let (former, engine) = {
            let all = self.all.lock();
            if all.is_stopped {
                return Ok(());
            }
            (all.endpoints.clone(), all.engine.clone())
        };
        let kept = |one: &EndpointSettings| former.iter().find(|other| other.has(one)).cloned();
        let endpoints: Vec<(Arc<Endpoint>, bool)> = settings
            .into_iter()
            .map(|one| match kept(&one) {
                Some(endpoint) => (endpoint, false),
                None => (Arc::new(Endpoint::new(one, &self.data, roots.clone())), true),
            })
            .collect();
        let ended = former
            .iter()
            .filter(|other| !endpoints.iter().any(|(endpoint, _)| Arc::ptr_eq(endpoint, other)));
        ended.clone().for_each(|endpoint| endpoint.stop());
        ended.for_each(|endpoint| endpoint.retire());
        // Not before: a stop waits until the engine is released.
        let Some(engine) = engine.upgrade() else {
            self.all.lock().endpoints = endpoints.into_iter().map(|(one, _)| one).collect();
            return Ok(());
        };
        for (endpoint, _) in endpoints.iter().filter(|(_, is_new)| *is_new) {
            let threads = begin(endpoint, &engine)?;
            self.all.lock().threads.extend(threads);
        }
        let mut all = self.all.lock();
        all.endpoints = endpoints.into_iter().map(|(endpoint, _)| endpoint).collect();
        all.threads.retain(|thread| !thread.is_finished());
        let head = engine.folded_head();
        all.endpoints.iter().for_each(|endpoint| endpoint.wake(head));
        if all.is_stopped {
            all.endpoints.iter().for_each(|endpoint| endpoint.stop());
        }
        self.begun.notify_all();
        Ok(())
    }

    /// Begins no further request.
    pub fn stop(&self) {
        let mut all = self.all.lock();
        all.is_stopped = true;
        all.endpoints.iter().for_each(|endpoint| endpoint.stop());
        self.begun.notify_all();
    }

    /// Waits a moment for the requests in flight, and syncs the positions. Must be called after
    /// [`Deliveries::stop`].
    pub fn finish(&self) {
        let begun = Instant::now();
        let threads = std::mem::take(&mut self.all.lock().threads);
        for thread in threads {
            while !thread.is_finished() && begun.elapsed() < FINISH_WITHIN {
                thread::sleep(FINISH_PAUSE);
            }
        }
        self.all.lock().endpoints.iter().for_each(|endpoint| endpoint.sync());
    }

    /// Returns the state of every endpoint, in the order of the configuration.
    pub fn reports(&self, head: Seq) -> Vec<EndpointReport> {
        let endpoints = self.all.lock().endpoints.clone();
        endpoints.iter().map(|endpoint| endpoint.report(head)).collect()
    }

    /// Returns an endpoint by its name.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Endpoint>> {
        self.all.lock().endpoints.iter().find(|endpoint| endpoint.name() == name).cloned()
    }
}

/// Finds the position of an endpoint, and starts its threads.
fn begin(endpoint: &Arc<Endpoint>, engine: &Arc<Engine>) -> std::io::Result<Vec<JoinHandle<()>>> {
    endpoint.begin(engine);
    endpoint.start()
}

/// Why endpoints could not be replaced.
#[derive(Debug, thiserror::Error)]
pub enum ReplaceError {
    /// A certificate is missing.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// No thread can be started.
    #[error("no thread can be started: {0}")]
    Thread(#[from] std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_of_directory_sync_and_consequences_are_sent() {
        let wanted = |globs: &[&str], event_type: &str| {
            let events = globs.iter().map(|glob| (*glob).to_owned()).collect();
            Wanted { events, organizations: None }.wants(event_type)
        };
        for (globs, event_type, expected) in [
            (&["*"][..], "dsync.user.created", true),
            (&["*"], "rollcall.access.ended", true),
            (&["*"], "rollcall.history.changed", true),
            (&["*"], "rollcall.policy.set", false),
            (&["rollcall.*"], "rollcall.user.observed", false),
            (&["*"], "user.created", false),
            (&["dsync.user.*"], "dsync.group.created", false),
            (&["dsync.user.*", "*.lost"], "rollcall.role.lost", true),
            (&["dsync.user.created"], "dsync.user.created", true),
        ] {
            assert_eq!(wanted(globs, event_type), expected, "{globs:?} {event_type}");
        }
        for (glob, expected) in [
            ("*", true),
            ("d*", true),
            ("dsync.new.*", true),
            ("dsync.*", true),
            ("rollcall.*", true),
            ("*.ended", true),
            ("rollcall.role.lost", true),
            ("rollcall.policy.set", false),
            ("user.*", false),
            ("dsync", false),
            ("", false),
        ] {
            assert_eq!(Wanted::fits_any(glob), expected, "{glob}");
        }
    }

    #[test]
    fn a_url_is_shown_without_what_may_be_secret() {
        for (url, expected) in [
            ("https://app.example.com/", "https://app.example.com/"),
            ("https://app.example.com:8443/in/?t=hidden", "https://app.example.com:8443/in/"),
            ("https://me:hidden@app.example.com/in", "https://app.example.com/in"),
        ] {
            let settings = EndpointSettings {
                name: "app".into(),
                url: url.parse().unwrap(),
                signer: Signer::new(Format::Workos, "secret").unwrap(),
                wanted: Wanted { events: Vec::new(), organizations: None },
                from: Beginning::Now,
                max_in_flight: 1,
                ordered: true,
                allow_private: false,
            };
            assert_eq!(settings.plain_url(), expected);
        }
    }

    #[test]
    fn what_is_of_no_organization_is_not_sent_to_one_with_organizations() {
        let all = Wanted { events: Vec::new(), organizations: None };
        let one =
            Wanted { organizations: Some(vec!["org_1".into(), String::new()]), ..all.clone() };
        assert!(all.wants_organization("") && all.wants_organization("org_2"));
        assert!(one.wants_organization("org_1"));
        assert!(!one.wants_organization("") && !one.wants_organization("org_2"));
    }
}
