//! `GET /metrics`: counts and states for a Prometheus.

use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpRequest, HttpResponse, web};

use crate::delivery::{EndpointReport, EndpointState};
use crate::http::wire::answer::{Code, Problem, respond};
use crate::http::wire::api::{Access, Bound, Gives, Operation};
use crate::http::wire::question::Question;
use crate::http::wire::state::{MetricsAccess, State};
use crate::keys::Scope;
use crate::metrics::{self, Family, Sample, counter, gauge};
use crate::sink::{SinkReport, SinkState};
use crate::sources::Source;
use crate::{stderr, time};

/// `GET /metrics`
pub(crate) const METRICS: Operation = Operation {
    path: "/metrics",
    name: "getMetrics",
    about: "Counts since the start, and states, in the text format 0.0.4 of Prometheus. With \
        `--admin-listen` it is only there, and needs no key. Until the log is folded it has only \
        what concerns requests and the process.",
    access: Access::keyed(Scope::Operate, Bound::Refused),
    gives: Gives::Text { media_type: metrics::MEDIA_TYPE, example: EXAMPLE },
    ..Operation::GET
};

const EXAMPLE: &str = "# HELP rollcall_log_seq The newest record.\n\
    # TYPE rollcall_log_seq gauge\n\
    rollcall_log_seq 30\n";

/// Answers [`METRICS`].
pub(crate) async fn show(
    request: HttpRequest,
    state: web::Data<State>,
    access: web::Data<MetricsAccess>,
) -> Result<HttpResponse, Problem> {
    match **access {
        MetricsAccess::Open => {}
        MetricsAccess::Elsewhere => return Err(Code::NotFound.into()),
        MetricsAccess::Keyed => judge(&request, &state)?,
    }
    let mut response = respond(StatusCode::OK);
    response.insert_header((CONTENT_TYPE, metrics::MEDIA_TYPE));
    Ok(response.body(metrics::text(families(&state))))
}

/// Judges the rights of the key, also while the log is folded.
fn judge(request: &HttpRequest, state: &web::Data<State>) -> Result<(), Problem> {
    match Question::of(request, state, &METRICS) {
        Err(problem) if problem.code() == Code::NotReady => Ok(()),
        question => question?.finish().map(drop),
    }
}

fn families(state: &State) -> Vec<Family> {
    let mut families = state.requests.families();
    families.extend(refusals(state));
    families.extend(process());
    families.extend(state.source.iter().map(|source| lag(source, state)));
    if let Some(engine) = state.engine.get() {
        let head = engine.folded_head();
        families.extend(deliveries(&state.deliveries.reports(head)));
        families.extend(state.sink.iter().flat_map(|sink| tables(&sink.report(head))));
        families.extend(engine.metric_families());
    }
    families
}

fn refusals(state: &State) -> [Family; 2] {
    let refused = state
        .refusals
        .all()
        .map(|(code, count)| Sample::new([("reason", code.name())], count as f64));
    let unauthorized = Sample::alone(state.refusals.unauthorized() as f64);
    [
        counter("rollcall_ingest_refused_total", "Webhooks that were refused, by reason.", refused),
        counter(
            "rollcall_unauthorized_total",
            "Requests that were refused for want of a valid key.",
            [unauthorized],
        ),
    ]
}

fn deliveries(reports: &[EndpointReport]) -> [Family; 4] {
    let of = |value: fn(&EndpointReport) -> f64| {
        reports.iter().map(move |one| Sample::new([("endpoint", &*one.name)], value(one)))
    };
    let states = reports.iter().flat_map(|one| {
        EndpointState::ALL.map(|state| {
            let holds = f64::from(u8::from(one.state == state));
            Sample::new([("endpoint", &*one.name), ("state", state.word())], holds)
        })
    });
    [
        gauge(
            "rollcall_delivery_lag_records",
            "Records up to which what an endpoint is owed is not delivered.",
            of(|one| one.lag as f64),
        ),
        gauge(
            "rollcall_delivery_state",
            "1 for the state of an endpoint, 0 for the others.",
            states,
        ),
        counter(
            "rollcall_deliveries_total",
            "Webhooks that an endpoint has answered with 2xx.",
            of(|one| one.delivered as f64),
        ),
        counter(
            "rollcall_delivery_failures_total",
            "Requests to an endpoint that failed.",
            of(|one| one.failures as f64),
        ),
    ]
}

fn process() -> Vec<Family> {
    let labels = [("version", env!("CARGO_PKG_VERSION")), ("commit", env!("ROLLCALL_COMMIT"))];
    let dropped = Sample::alone(stderr::dropped() as f64);
    let memory = resident_bytes().map(|bytes| Sample::alone(bytes as f64));
    vec![
        gauge(
            "rollcall_build_info",
            "1; the labels say what was built.",
            [Sample::new(labels, 1.0)],
        ),
        counter(
            "rollcall_log_lines_dropped_total",
            "Lines of the log that the reader of standard error did not take in time.",
            [dropped],
        ),
        gauge("process_resident_memory_bytes", "Memory that the process holds.", memory),
    ]
}

/// Returns the memory that the process holds; `None` where the system does not say.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1024)
}

/// Returns how far the tables in PostgreSQL are behind, and if they go on.
fn tables(report: &SinkReport) -> [Family; 4] {
    let states = SinkState::ALL.into_iter().filter(|state| *state != SinkState::Off);
    let states = states.map(|state| {
        let is_it = f64::from(u8::from(state == report.state));
        Sample::new([("state", state.word())], is_it)
    });
    [
        gauge(
            "rollcall_sink_lag_records",
            "Records that the tables in PostgreSQL do not hold.",
            [Sample::alone(report.lag_records as f64)],
        ),
        gauge(
            "rollcall_sink_lag_seconds",
            "Time for which the tables in PostgreSQL have been behind.",
            [Sample::alone(report.lag_ms as f64 / 1000.0)],
        ),
        gauge("rollcall_sink_state", "1 for the state of the PostgreSQL sink.", states),
        counter(
            "rollcall_sink_failures_total",
            "Tries to bring the tables in PostgreSQL up to date that failed.",
            [Sample::alone(report.failures as f64)],
        ),
    ]
}

/// Returns how old what was pulled is: the time since the start of the last pull that reached the
/// end, or before the first, since the server's start.
fn lag(source: &Source, state: &State) -> Family {
    let caught_up_at = source.status().moments().caught_up_at.unwrap_or(state.started_at);
    let lag_ms = (time::now_ms() - caught_up_at).max(0);
    let lag = Sample::new([("source", source.url())], lag_ms as f64 / 1000.0);
    gauge("rollcall_source_lag_seconds", "Time since all events of a source were pulled.", [lag])
}
