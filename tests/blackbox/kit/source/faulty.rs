//! A proxy before a source, which answers as a test tells it: too often asked, broken, late, cut
//! off, empty, or only after something has changed.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::http::{Listening, Reply, Request};
use super::stand_in::Arrived;
use crate::kit::server::{agent, get};

/// Done instead of, or before, an answer of the source.
pub enum Fault {
    /// This status, with a JSON message.
    Status(u16),
    /// 429 with this `Retry-After`.
    TooMany(String),
    /// The source's answer, this much later.
    Late(Duration),
    /// The source's answer, cut off in the middle.
    CutOff,
    /// 200 with a body that is not JSON.
    NotJson,
    /// 200 with this body.
    Body(Vec<u8>),
    /// 302 to this URL.
    Redirect(String),
    /// A list that is empty and complete.
    EmptyList,
    /// Another answer made of the source's own.
    Rewrite(Box<dyn FnMut(Reply) -> Reply + Send>),
    /// Something is done first, then the source answers.
    Before(Box<dyn FnMut() + Send>),
}

/// A fault for some of the requests.
pub struct Rule {
    /// A text that the path and query contain.
    wanted: String,
    /// Requests that pass first.
    skip: u32,
    /// Requests that meet the fault then.
    times: u32,
    /// Several requests may meet it at once.
    fault: Arc<Mutex<Fault>>,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    requests: Vec<Arrived>,
    /// Random faults for all requests.
    random: Option<Random>,
}

/// Faults by chance. They depend on the seed, the request, and how often it came, so that a run is
/// like any other of its seed, in whatever order its requests arrive.
struct Random {
    seed: u64,
    /// Of a hundred requests, those that fail.
    share: u64,
    /// How often each request came.
    came: HashMap<String, u64>,
}

/// A request that failed so often in a row is answered, so that no test depends on its luck.
const FAILURES_IN_A_ROW: u64 = 3;

impl Random {
    fn fault(&mut self, target: &str) -> Option<Fault> {
        let came = self.came.entry(target.to_owned()).or_default();
        *came += 1;
        let mut hash = DefaultHasher::new();
        (self.seed, target, *came).hash(&mut hash);
        let drawn = hash.finish();
        if came.is_multiple_of(FAILURES_IN_A_ROW + 1) || drawn % 100 >= self.share {
            return None;
        }
        Some(match drawn / 100 % 4 {
            0 => Fault::TooMany("0".into()),
            1 => Fault::Status(500),
            2 => Fault::CutOff,
            _ => Fault::Late(Duration::from_millis(50)),
        })
    }
}

/// A running proxy. The first rule that fits a request decides.
pub struct Faulty {
    pub url: String,
    state: Arc<Mutex<State>>,
    _listening: Listening,
}

impl Faulty {
    /// Starts one before the source at `upstream`.
    pub fn before(upstream: &str) -> Faulty {
        let state: Arc<Mutex<State>> = Arc::default();
        let (upstream, agent) = (upstream.to_owned(), agent());
        let shared = state.clone();
        let listening = Listening::start(move |request| {
            let arrived = Arrived { at: Instant::now(), target: request.target() };
            let mut state = lock(&shared);
            state.requests.push(arrived);
            let rule = state.rules.iter().position(|rule| rule.meets(request));
            let Some(at) = rule else {
                let fault = state.random.as_mut().and_then(|all| all.fault(&request.target()));
                drop(state);
                let forward = || forward(&agent, &upstream, request);
                return match fault {
                    Some(mut fault) => fault.answer(forward),
                    None => forward(),
                };
            };
            let rule = &mut state.rules[at];
            if rule.skip > 0 {
                rule.skip -= 1;
                drop(state);
                return forward(&agent, &upstream, request);
            }
            rule.times -= 1;
            let fault = rule.fault.clone();
            drop(state);
            lock(&fault).answer(|| forward(&agent, &upstream, request))
        });
        Faulty { url: listening.url.clone(), state, _listening: listening }
    }

    /// Meets the next `times` requests that contain `wanted` with a fault.
    pub fn fail(&self, wanted: &str, times: u32, fault: Fault) {
        self.fail_later(wanted, 0, times, fault);
    }

    /// Lets `skip` requests pass first.
    pub fn fail_later(&self, wanted: &str, skip: u32, times: u32, fault: Fault) {
        let wanted = wanted.to_owned();
        let fault = Arc::new(Mutex::new(fault));
        lock(&self.state).rules.push(Rule { wanted, skip, times, fault });
    }

    /// Meets a share of all requests, in percent, with a fault by chance: 429, 500, cut off, late.
    pub fn fail_by_chance(&self, seed: u64, share: u64) {
        lock(&self.state).random = Some(Random { seed, share, came: HashMap::new() });
    }

    /// Lets everything pass again.
    pub fn heal(&self) {
        let mut state = lock(&self.state);
        state.rules.clear();
        state.random = None;
    }

    /// The requests that arrived so far.
    pub fn requests(&self) -> Vec<Arrived> {
        lock(&self.state).requests.clone()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rule {
    fn meets(&self, request: &Request) -> bool {
        self.times > 0 && request.target().contains(&self.wanted)
    }
}

impl Fault {
    fn answer(&mut self, forward: impl FnOnce() -> Reply) -> Reply {
        match self {
            Fault::Status(status) => Reply::json(*status, r#"{"message":"a fault of the proxy"}"#),
            Fault::TooMany(after) => {
                Reply::json(429, r#"{"message":"Ratelimited"}"#).with("Retry-After", after)
            }
            Fault::Late(delay) => {
                thread::sleep(*delay);
                forward()
            }
            Fault::CutOff => {
                let reply = forward();
                Reply { cut_after: Some(reply.body.len() / 2), ..reply }
            }
            Fault::NotJson => Reply::json(200, "<html>a page of a gateway</html>"),
            Fault::Body(body) => Reply::json(200, body.clone()),
            Fault::Redirect(url) => Reply::json(302, "{}").with("Location", url),
            Fault::EmptyList => Reply::json(
                200,
                r#"{"object":"list","data":[],"list_metadata":{"before":null,"after":null}}"#,
            ),
            Fault::Rewrite(rewrite) => rewrite(forward()),
            Fault::Before(act) => {
                act();
                forward()
            }
        }
    }
}

fn forward(agent: &ureq::Agent, upstream: &str, request: &Request) -> Reply {
    let authorization = request.header("Authorization").unwrap_or_default();
    let answer = get(agent, upstream, &request.target(), &[("Authorization", authorization)]);
    let kept = |name: &&(String, String)| {
        let name = name.0.to_lowercase();
        ["content-type", "retry-after"].contains(&&*name) || name.starts_with("rollcall-")
    };
    let headers = answer.headers.iter().filter(kept).cloned().collect();
    Reply { status: answer.status, headers, body: answer.body, cut_after: None }
}
