//! What a request asks to be shown: from the query, or from the body of a search.

use serde_json::Value;

use crate::engine::ScimPage;
use crate::scim::{Filter, Projection, Refusal, SortBy};

/// The resources of a page, if nothing else is asked for, and at most.
const COUNT: usize = 100;
const COUNT_MAX: usize = 1000;

/// The parameters of a request. Unknown ones are passed over.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) attributes: Option<String>,
    pub(super) excluded: Option<String>,
    pub(super) filter: Option<String>,
    pub(super) sort_by: Option<String>,
    pub(super) sort_order: Option<String>,
    pub(super) start_index: Option<String>,
    pub(super) count: Option<String>,
}

impl Query {
    /// Reads the query of an address. Of a parameter that is given twice the last counts.
    pub(super) fn of(query: &str) -> Query {
        let mut read = Query::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            if let Some(place) = read.place(&name) {
                *place = Some(value.into_owned());
            }
        }
        read
    }

    /// Reads the body of a search.
    ///
    /// # Errors
    /// 400 if it is not a JSON object, or a field has another type than it must.
    pub(super) fn of_search(body: &[u8]) -> Result<Query, Refusal> {
        let parsed = serde_json::from_slice(body);
        let Ok(Value::Object(fields)) = parsed else {
            return Err(Refusal::syntax("the body of a search must be a JSON object"));
        };
        let mut read = Query::default();
        for (name, value) in fields {
            let Some(place) = read.place(&name) else { continue };
            *place = match value {
                Value::Null => None,
                Value::String(text) => Some(text),
                Value::Number(number) => Some(number.to_string()),
                Value::Array(names) => {
                    Some(names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","))
                }
                Value::Bool(_) | Value::Object(_) => {
                    return Err(Refusal::value("a field of the search has another type"));
                }
            };
        }
        Ok(read)
    }

    fn place(&mut self, name: &str) -> Option<&mut Option<String>> {
        match name.to_ascii_lowercase().as_str() {
            "attributes" => Some(&mut self.attributes),
            "excludedattributes" => Some(&mut self.excluded),
            "filter" => Some(&mut self.filter),
            "sortby" => Some(&mut self.sort_by),
            "sortorder" => Some(&mut self.sort_order),
            "startindex" => Some(&mut self.start_index),
            "count" => Some(&mut self.count),
            _ => None,
        }
    }

    pub(super) fn projection(&self) -> Result<Projection, Refusal> {
        Projection::parse(self.attributes.as_deref(), self.excluded.as_deref())
    }

    pub(super) fn filter(&self) -> Result<Option<Filter>, Refusal> {
        self.filter.as_deref().map(Filter::parse).transpose()
    }

    /// Returns the page that is asked for.
    pub(super) fn page(&self) -> Result<ScimPage, Refusal> {
        let start = number("startIndex", self.start_index.as_deref())?;
        let count = number("count", self.count.as_deref())?;
        let sort_by = self.sort_by.as_deref().filter(|name| !name.trim().is_empty());
        Ok(ScimPage {
            start: start.unwrap_or(1).max(1),
            count: count.map_or(COUNT, |count| count.min(COUNT_MAX)),
            sort_by: sort_by.map(SortBy::parse).transpose()?,
            descending: self.sort_order.as_deref().is_some_and(is_descending),
        })
    }
}

fn is_descending(order: &str) -> bool {
    order.trim().eq_ignore_ascii_case("descending")
}

/// Reads a whole number; one below 0 is 0, and one that is too large the largest.
fn number(name: &str, text: Option<&str>) -> Result<Option<usize>, Refusal> {
    let Some(text) = text.map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Refusal::value(format!("`{name}` must be a whole number")));
    }
    Ok(Some(if is_negative { 0 } else { digits.parse().unwrap_or(usize::MAX) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(query: &str) -> (usize, usize) {
        let page = Query::of(query).page().unwrap();
        (page.start, page.count)
    }

    #[test]
    fn a_page_begins_at_one_and_is_bounded() {
        for (query, expected) in [
            ("", (1, 100)),
            ("startIndex=0&count=-3", (1, 0)),
            ("startIndex=-5", (1, 100)),
            ("STARTINDEX=3&Count=2", (3, 2)),
            ("count=0", (1, 0)),
            ("count=1001", (1, 1000)),
            ("count=99999999999999999999999", (1, 1000)),
            ("aadOptscim062020", (1, 100)),
            ("startIndex=&count=", (1, 100)),
        ] {
            assert_eq!(page(query), expected, "{query}");
        }
        for query in ["startIndex=a", "count=1.5", "count=-"] {
            let refusal = Query::of(query).page().unwrap_err();
            assert_eq!((refusal.status, refusal.scim_type), (400, Some("invalidValue")), "{query}");
        }
    }

    #[test]
    fn a_search_says_the_same_as_a_query() {
        let searched = Query::of_search(
            br#"{"schemas":["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
            "attributes":["userName","name.givenName"],"filter":"userName pr","sortBy":null,
            "startIndex":2,"count":5,"sortOrder":"descending","other":{}}"#,
        );
        let query = "attributes=userName,name.givenName&filter=userName+pr&startIndex=2&count=5\
            &sortOrder=descending";
        assert_eq!(searched.unwrap(), Query::of(query));
        assert!(Query::of(query).page().unwrap().descending);
        assert_eq!(Query::of_search(b"[]").unwrap_err().scim_type, Some("invalidSyntax"));
        assert_eq!(Query::of_search(br#"{"count":true}"#).unwrap_err().status, 400);
    }
}
