//! The limit on the requests of a key: 429 above it, and the headers that say how many are left.

use std::time::{Duration, Instant};

use actix_web::dev::ServiceRequest;
use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::{HttpMessage, HttpRequest, web};

use super::answer::{Code, Problem};
use super::state::State;
use crate::keys::{Allowance, Operator};
use crate::time;

/// Counts a request against the limit of its key, and keeps the outcome for [`note`].
///
/// # Errors
/// 429 if no more may be made now.
pub(crate) fn count(request: &HttpRequest, operator: &Operator) -> Result<(), Problem> {
    let Some(allowance) = operator.count(Instant::now()) else { return Ok(()) };
    request.extensions_mut().insert(allowance);
    match allowance.refused_for {
        None => Ok(()),
        Some(wait) => Err(Problem::after(Code::RateLimited, seconds(wait))),
    }
}

/// Returns true if some key has a limit, so that answers may need headers.
pub(crate) fn are_set(request: &ServiceRequest) -> bool {
    let state = request.app_data::<web::Data<State>>();
    state.is_some_and(|state| state.keys.have_limits())
}

/// Adds the headers that say how many requests are left.
pub(crate) fn note(request: &HttpRequest, headers: &mut HeaderMap) {
    let Some(allowance) = request.extensions_mut().remove::<Allowance>() else { return };
    let Allowance { limit, remaining, full_in, .. } = allowance;
    let full_at_s = time::now_ms().div_euclid(1000).unsigned_abs() + seconds(full_in);
    for (name, value) in [
        ("x-ratelimit-limit", u64::from(limit)),
        ("x-ratelimit-remaining", u64::from(remaining)),
        ("x-ratelimit-reset", full_at_s),
    ] {
        headers.insert(HeaderName::from_static(name), value.into());
    }
}

/// Returns whole seconds, rounded up.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}
