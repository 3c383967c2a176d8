//! Answers in the shapes of RFC 7644. `detail` of an error names no personal attribute.

use crate::engine::ScimError;
use crate::http::wire::answer::{CHALLENGE, Code, RETRY_AFTER_S, respond};
use crate::scim::Refusal;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ACCEPT, ALLOW, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER,
    WWW_AUTHENTICATE,
};

/// The media types of bodies.
pub(super) const SCIM_JSON: &str = "application/scim+json";
pub(super) const JSON: &str = "application/json";

/// An answer that is not written yet.
pub(super) struct Reply {
    status: StatusCode,
    body: Option<String>,
    headers: Vec<(HeaderName, String)>,
}

impl Reply {
    pub(super) fn new(status: StatusCode, body: String) -> Reply {
        Reply { status, body: Some(body), headers: Vec::new() }
    }

    pub(super) fn ok(body: String) -> Reply {
        Reply::new(StatusCode::OK, body)
    }

    /// Makes an answer without a body.
    pub(super) fn empty(status: StatusCode) -> Reply {
        Reply { status, body: None, headers: Vec::new() }
    }

    pub(super) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Reply {
        self.headers.push((name, value.into()));
        self
    }

    /// Adds the version of the resource that the answer shows.
    pub(super) fn with_version(self, version: &str) -> Reply {
        self.with(ETAG, version)
    }

    pub(super) fn with_location(self, location: &str) -> Reply {
        self.with(LOCATION, location)
    }

    /// Makes an answer of a refusal.
    pub(super) fn refused(refusal: &Refusal) -> Reply {
        let status_code = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::BAD_REQUEST);
        let reply = Reply::new(status_code, refusal.body());
        match status_code {
            StatusCode::UNAUTHORIZED => reply.with(WWW_AUTHENTICATE, CHALLENGE),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                reply.with(RETRY_AFTER, RETRY_AFTER_S.to_string())
            }
            _ => reply,
        }
    }

    pub(super) fn not_allowed(allowed: &str) -> Reply {
        let detail = format!("this path takes {allowed}");
        Reply::refused(&Refusal::new(405, detail)).with(ALLOW, allowed)
    }

    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Writes the answer in the media type that was asked for.
    pub(super) fn into_response(self, media_type: &'static str) -> HttpResponse {
        let mut response = respond(self.status);
        for (name, value) in self.headers {
            response.insert_header((name, value));
        }
        match self.body {
            Some(body) => {
                response.insert_header((CONTENT_TYPE, media_type));
                response.body(body)
            }
            None => {
                let mut response = response.finish();
                response.headers_mut().remove(CONTENT_TYPE);
                response
            }
        }
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Reply {
        Reply::refused(&refusal)
    }
}

impl From<Code> for Reply {
    fn from(code: Code) -> Reply {
        let detail = match code {
            Code::BodyTooLarge => "the body is larger than 12,000,000 bytes",
            Code::BodyTimeout => "the body did not arrive in time",
            Code::UnsupportedEncoding | Code::NotReady | Code::LogUnavailable => code.message(),
            Code::QueueFull => "too many requests are being read: send it again",
            Code::Stopping => "the server is stopping: send it again once it runs",
            _ => "internal error",
        };
        Reply::refused(&Refusal::new(code.status().as_u16(), detail))
    }
}

impl From<ScimError> for Reply {
    fn from(error: ScimError) -> Reply {
        match error {
            ScimError::Refused(refusal) => Reply::refused(&refusal),
            ScimError::Unauthorized => unauthorized(),
            ScimError::TooManyWait => Reply::refused(&Refusal::new(
                429,
                "too many changes of this directory wait: send it again in a second",
            )),
            ScimError::Unavailable => Code::LogUnavailable.into(),
            ScimError::Read(error) => {
                tracing::error!(%error, "the log could not be read");
                Code::Internal.into()
            }
        }
    }
}

/// Refuses a request without a token that opens the directory. It is the same answer for each
/// reason, so that it does not tell which directories exist.
pub(super) fn unauthorized() -> Reply {
    Reply::refused(&Refusal::new(401, "a live token of this directory is needed"))
}

/// Returns the media type of the answer: that of SCIM, unless only plain JSON is accepted.
pub(super) fn media_type(headers: &HeaderMap) -> &'static str {
    let accepted: Vec<String> = headers
        .get_all(ACCEPT)
        .filter_map(|value: &HeaderValue| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter(|accepted| !is_excluded(accepted))
        .map(essence)
        .collect();
    let accepts = |media_type: &str| accepted.iter().any(|accepted| accepted == media_type);
    let is_plain = accepts(JSON) && !accepts(SCIM_JSON) && !accepts("*/*");
    if is_plain { JSON } else { SCIM_JSON }
}

/// Reports if a media type has the weight 0: it is not accepted.
fn is_excluded(media_type: &str) -> bool {
    media_type.split(';').skip(1).any(|parameter| {
        let weight = parameter.split_once('=').filter(|(name, _)| is_q(name));
        weight.and_then(|(_, weight)| weight.trim().parse().ok()) == Some(0.0)
    })
}

fn is_q(name: &str) -> bool {
    name.trim().eq_ignore_ascii_case("q")
}

/// Returns a media type without its parameters, in lower case.
pub(super) fn essence(media_type: &str) -> String {
    media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn an_error_has_its_status_as_text() {
        let reply = Reply::refused(&Refusal::uniqueness("it is taken"));
        let body: Value = serde_json::from_str(reply.body.as_deref().unwrap()).unwrap();
        let expected = json!({
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"], "status": "409", "scimType": "uniqueness", "detail": "it is taken",
        });
        assert_eq!((reply.status.as_u16(), body), (409, expected));
    }

    #[test]
    fn plain_json_is_answered_if_only_that_is_accepted() {
        for (accept, expected) in [
            (None, SCIM_JSON),
            (Some("*/*"), SCIM_JSON),
            (Some("application/scim+json"), SCIM_JSON),
            (Some("application/json"), JSON),
            (Some("Application/JSON; charset=utf-8"), JSON),
            (Some("application/json, application/scim+json"), SCIM_JSON),
            (Some("application/json, */*;q=0.1"), SCIM_JSON),
            (Some("application/scim+json;q=0, application/json"), JSON),
            (Some("application/scim+json; Q=0.000, application/json"), JSON),
            (Some("application/scim+json;q=0.1, application/json"), SCIM_JSON),
            (Some("text/html"), SCIM_JSON),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(media_type(&headers), expected, "{accept:?}");
        }
    }
}
