//! Questions: one resource, a page of them, a search, and what the server can do.

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderMap, HeaderName, IF_MATCH, IF_NONE_MATCH};
use actix_web::web;

use super::answer::Reply;
use super::query::Query;
use super::routes::Route;
use super::{BODY_BYTES_MAX, Call};
use crate::engine::{ScimError, ScimSearch, ScimShown};
use crate::http::wire::answer::Code;
use crate::http::wire::threads::blocking;
use crate::http::wire::turns::walk_while_asked;
use crate::scim::{Kind, Refusal, discovery};

/// The versions that a precondition names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Versions {
    /// Any version, as long as the resource is there.
    Any,
    /// One of these.
    These(Vec<String>),
}

impl Versions {
    /// Reads a precondition; `None` if there is none.
    pub(super) fn of(headers: &HeaderMap, name: HeaderName) -> Option<Versions> {
        let values: Vec<String> = headers
            .get_all(name)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        if values.is_empty() {
            return None;
        }
        let tags: Vec<String> = values
            .iter()
            .flat_map(|value| value.split(','))
            .map(|tag| tag_of(tag).into())
            .collect();
        Some(if tags.iter().any(|tag| tag == "*") { Versions::Any } else { Versions::These(tags) })
    }

    pub(super) fn hold(&self, version: &str) -> bool {
        match self {
            Versions::Any => true,
            Versions::These(tags) => tags.iter().any(|tag| tag == tag_of(version)),
        }
    }
}

/// Returns what is between the quotes of a version: all are weak, and are compared so.
fn tag_of(tag: &str) -> &str {
    let tag = tag.trim();
    tag.strip_prefix("W/").or(tag.strip_prefix("w/")).unwrap_or(tag).trim_matches('"')
}

impl Call<'_> {
    /// Reads the query of the address.
    pub(super) fn query(&self) -> Query {
        Query::of(self.request.query_string())
    }

    /// Answers what the server can do. It depends on nothing that is kept.
    pub(super) fn discover(&self, route: &Route) -> Result<Reply, Reply> {
        if self.query().filter.is_some() {
            return Err(Refusal::new(403, "there is no filter for what the server can do").into());
        }
        let base = self.base();
        let found = match route {
            Route::Config => Some(discovery::service_provider_config(&base)),
            Route::ResourceTypes(None) => Some(discovery::resource_types(&base)),
            Route::ResourceTypes(Some(name)) => discovery::resource_type(&base, name),
            Route::Schemas(None) => Some(discovery::schemas(&base)),
            Route::Schemas(Some(id)) => discovery::schema(&base, id),
            _ => None,
        };
        Ok(Reply::ok(found.ok_or_else(|| Refusal::new(404, "there is nothing of that name"))?))
    }

    /// Answers with one resource.
    pub(super) async fn item(self, kind: Kind, id: String) -> Result<Reply, Reply> {
        let showing = self.showing(&self.query())?;
        let known = Versions::of(self.request.headers(), IF_NONE_MATCH);
        let expected = Versions::of(self.request.headers(), IF_MATCH);
        let (engine, caller) = (self.engine.clone(), self.caller.clone());
        let shown = blocking(move || {
            let is_expected = |version: &str| expected.as_ref().is_none_or(|one| one.hold(version));
            let is_known = |version: &str| known.as_ref().is_some_and(|one| one.hold(version));
            let is_wanted = |version: &str| is_expected(version) && !is_known(version);
            let shown = engine.scim_item(&caller, kind, &id, &showing, &is_wanted)?;
            if !is_expected(&shown.version) {
                return Err(Refusal::new(412, "the resource has another version").into());
            }
            Ok::<_, ScimError>((is_known(&shown.version), shown))
        });
        let (is_known, shown) = shown.await.map_err(|_| Code::Internal)??;
        if is_known {
            return Ok(Reply::empty(StatusCode::NOT_MODIFIED).with_version(&shown.version));
        }
        Ok(of_shown(StatusCode::OK, shown))
    }

    /// Answers with a page of resources of a kind, or of both.
    pub(super) async fn list(self, kind: Option<Kind>) -> Result<Reply, Reply> {
        let query = self.query();
        self.find(kind, query).await
    }

    /// Answers with a page that the body asks for.
    pub(super) async fn search(
        self,
        kind: Option<Kind>,
        payload: web::Payload,
    ) -> Result<Reply, Reply> {
        let mut body = self.body(payload, BODY_BYTES_MAX).await?;
        let query = Query::of_search(&body.take())?;
        self.find(kind, query).await
    }

    async fn find(self, kind: Option<Kind>, query: Query) -> Result<Reply, Reply> {
        let search = ScimSearch { kind, filter: query.filter()?, page: query.page()? };
        let showing = self.showing(&query)?;
        let (engine, caller) = (self.engine.clone(), self.caller.clone());
        let found = walk_while_asked(self.engine, move |asker| {
            engine.scim_list(&caller, &search, &showing, &|| asker.waits())
        });
        Ok(Reply::ok(found.await.map_err(|problem| problem.code())??))
    }
}

/// Answers with a resource.
pub(super) fn of_shown(status: StatusCode, shown: ScimShown) -> Reply {
    let ScimShown { version, location, body, .. } = shown;
    let reply = match body {
        Some(body) => Reply::new(status, body),
        None => Reply::empty(StatusCode::NO_CONTENT),
    };
    reply.with_version(&version).with_location(&location)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[test]
    fn versions_are_compared_as_weak_ones() {
        for (header, version, holds) in [
            (r#"W/"5""#, r#"W/"5""#, true),
            (r#""5""#, r#"W/"5""#, true),
            ("5", r#"W/"5""#, true),
            (r#"W/"4", W/"5""#, r#"W/"5""#, true),
            ("*", r#"W/"5""#, true),
            (r#"W/"55""#, r#"W/"5""#, false),
            ("", r#"W/"5""#, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(IF_MATCH, HeaderValue::from_static(header));
            let versions = Versions::of(&headers, IF_MATCH).unwrap();
            assert_eq!(versions.hold(version), holds, "{header}");
            assert_eq!(Versions::of(&headers, IF_NONE_MATCH), None);
        }
    }
}
