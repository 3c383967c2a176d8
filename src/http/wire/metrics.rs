//! The metrics of requests: how many, by route, method and status, and how long they took.

use std::cell::RefCell;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use actix_web::Error;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::{Method, StatusCode};

use super::access_log::{self, Noting};
use crate::metrics::{Counters, Family, Histograms, OneCounter, OneHistogram, Registry};

/// The route of requests for a path that does not exist. No label has what a request chose.
pub(crate) const OTHER: &str = "other";

/// The upper bounds of the buckets, in seconds.
const SECONDS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

/// The requests since the start.
pub(crate) struct RequestMetrics {
    registry: Registry,
    requests: Counters,
    durations: Histograms,
}

impl Default for RequestMetrics {
    fn default() -> RequestMetrics {
        let registry = Registry::default();
        RequestMetrics {
            requests: registry.counters(
                "rollcall_http_requests_total",
                "Requests that were answered, by route, method and status.",
                &["route", "method", "status"],
            ),
            durations: registry.histograms(
                "rollcall_http_request_duration_seconds",
                "Time until an answer begins, by route; that of a long poll is part of it.",
                &["route"],
                &SECONDS,
            ),
            registry,
        }
    }
}

impl RequestMetrics {
    pub(crate) fn families(&self) -> Vec<Family> {
        self.registry.families()
    }
}

/// Returns a method in a bounded set of words.
fn method_label(method: &Method) -> &str {
    let known =
        [&Method::GET, &Method::HEAD, &Method::POST, &Method::PUT, &Method::PATCH, &Method::DELETE];
    if known.contains(&method) { method.as_str() } else { OTHER }
}

/// Counts the requests of a route, and logs those that must be.
#[derive(Clone)]
pub(crate) struct Counting {
    route: Arc<str>,
    metrics: Arc<RequestMetrics>,
    durations: OneHistogram,
    /// The questions whose answers pass [`access_log::note`]; `None` if none does.
    noting: Option<Noting>,
}

impl Counting {
    /// Counts the requests of a route, whose durations are written from now on.
    pub(crate) fn of(route: &str, metrics: &Arc<RequestMetrics>) -> Counting {
        let durations = metrics.durations.one(&[route]);
        Counting { route: route.into(), metrics: metrics.clone(), durations, noting: None }
    }

    /// Logs the questions that must be, and adds the headers of limits.
    pub(crate) fn noting(self, noting: Noting) -> Counting {
        Counting { noting: Some(noting), ..self }
    }
}

/// The counting of a route on one thread.
struct CountingHere {
    counting: Counting,
    /// The counter of the last answer, which most often is that of the next one too.
    last: RefCell<Option<Last>>,
}

/// A counter, and the answers that it counts.
struct Last {
    method: Method,
    status: StatusCode,
    counter: OneCounter,
}

impl CountingHere {
    /// Counts an answer.
    fn count(&self, method: Method, status: StatusCode, took: Duration) {
        let Counting { route, metrics, durations, .. } = &self.counting;
        durations.observe(took.as_secs_f64());
        let mut last = self.last.borrow_mut();
        let same = last.take().filter(|last| last.method == method && last.status == status);
        let last = last.insert(same.unwrap_or_else(|| {
            let labels = [route, method_label(&method), status.as_str()];
            Last { counter: metrics.requests.one(&labels), method, status }
        }));
        last.counter.count();
    }
}

impl<S> Transform<S, ServiceRequest> for Counting
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = Error>,
    S::Future: 'static,
{
    type Response = ServiceResponse;
    type Error = Error;
    type Transform = CountingService<S>;
    type InitError = ();
    type Future = Ready<Result<CountingService<S>, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let counting = Rc::new(CountingHere { counting: self.clone(), last: RefCell::default() });
        ready(Ok(CountingService { service, counting }))
    }
}

/// A route whose requests are counted.
pub(crate) struct CountingService<S> {
    service: S,
    counting: Rc<CountingHere>,
}

impl<S> Service<ServiceRequest> for CountingService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = Error>,
    S::Future: 'static,
{
    type Response = ServiceResponse;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<ServiceResponse, Error>>>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.service.poll_ready(context)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let (begun, method) = (Instant::now(), request.method().clone());
        let counting = self.counting.clone();
        let is_noted = counting.counting.noting.is_some_and(|noting| noting.is_of(&request));
        let answer = self.service.call(request);
        Box::pin(async move {
            let mut answer = answer.await;
            if is_noted && let Ok(response) = answer {
                answer = access_log::note(begun, response).await;
            }
            let status = match &answer {
                Ok(response) => response.status(),
                Err(error) => error.as_response_error().status_code(),
            };
            counting.count(method, status, begun.elapsed());
            answer
        })
    }
}
