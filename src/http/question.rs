//! What comes in with a read: who asks, which parameters, at which cut, which part of a list.

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HeaderName};
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{Cut, Millis, Page, Window};
use std::collections::BTreeSet;
use std::sync::Arc;

use super::access_log;
use super::answer::{Code, FieldError, Problem, json, pin};
use super::api::Operation;
use super::{ANSWER_WITHIN, State};
use crate::documents::{Document, DocumentKey};
use crate::engine::{ActError, CutError, Engine, KnownAt};
use crate::time;
use crate::verify::Operator;

/// Of so many unknown parameters an answer tells.
const UNKNOWN_TOLD_MAX: usize = 16;

/// Longest value that a parameter may have, in bytes.
const VALUE_BYTES_MAX: usize = 1024;

/// The parameters of a request. What is not taken by the end is unknown, and refused: a filter that
/// is silently ignored would return more than was asked for.
pub(super) struct Question {
    pub(super) engine: Arc<Engine>,
    /// Who asks.
    pub(super) operator: Operator,
    operation: &'static Operation,
    parameters: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

/// Which part of a list is wanted, in the words of the contract.
pub(super) struct Paging {
    pub(super) limit: usize,
    descending: bool,
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
    /// `order=normal`: descending, with the meaning of the cursors reversed.
    reversed: bool,
}

/// Which part of a list is wanted whose cursors are places in it: what stands at a place need not
/// be there (any more).
pub(super) struct Places {
    limit: usize,
    descending: bool,
    after: Option<String>,
    before: Option<String>,
}

/// A place in a list, by which its cursors can be compared whatever is in it.
pub(super) trait Place: Sized {
    /// The place that a cursor names; `None` if it is no cursor of this list.
    fn read(cursor: &str) -> Option<Self>;
    /// Its cursor.
    fn write(&self) -> String;
}

impl Places {
    /// One page, in the list's order, and its cursors. `walk` gives at most so many items behind a
    /// place, or without one from the list's end on, in ascending order or in descending, and
    /// whether there are more; `place` tells an item's.
    ///
    /// # Errors
    /// 422 for a cursor that is none of this list.
    pub(super) fn page<T, P: Place>(
        self,
        place: impl Fn(&T) -> P,
        mut walk: impl FnMut(Option<P>, bool, usize) -> (Vec<T>, bool),
    ) -> Result<(Vec<T>, [Option<String>; 2]), Problem> {
        let Places { limit, descending, after, before } = self;
        let read = |field: &str, cursor: Option<String>| {
            cursor
                .map(|cursor| P::read(&cursor).ok_or_else(|| Problem::cursor_invalid(field)))
                .transpose()
        };
        let (after, before) = (read("after", after)?, read("before", before)?);
        let (backward, has_cursor) = (before.is_some(), before.is_some() || after.is_some());
        let (mut items, more) = walk(before.or(after), descending != backward, limit);
        // On the side that the walk came from there can only be something if it did not start at
        // the list's end.
        let behind = items.first().filter(|_| has_cursor).map(&place);
        let more_behind =
            behind.is_some_and(|first| !walk(Some(first), descending == backward, 1).0.is_empty());
        let (more_before, more_after) =
            if backward { (more, more_behind) } else { (more_behind, more) };
        if backward {
            items.reverse();
        }
        let cursor =
            |item: Option<&T>, more: bool| item.filter(|_| more).map(|item| place(item).write());
        let cursors = [cursor(items.first(), more_before), cursor(items.last(), more_after)];
        Ok((items, cursors))
    }
}

impl Question {
    /// Sees who asks and reads the parameters.
    ///
    /// # Errors
    /// 401 without a known key; 503 before the log is folded.
    pub(super) fn of(
        request: &HttpRequest,
        state: &web::Data<State>,
        operation: &'static Operation,
    ) -> Result<Question, Problem> {
        let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let key = header
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let operator = key
            .and_then(|(_, key)| state.api_keys.identify(key.trim()))
            .ok_or(Code::Unauthorized)?;
        access_log::asked(request, operator, operation);
        let parameters =
            form_urlencoded::parse(request.query_string().as_bytes()).into_owned().collect();
        Ok(Question {
            engine: state.engine()?.clone(),
            operator,
            operation,
            parameters,
            errors: Vec::new(),
        })
    }

    pub(super) fn error(&mut self, field: &str, code: impl Into<String>) {
        self.errors.push(FieldError::new(field, code));
    }

    /// Whether a parameter is given and not taken yet.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parameters.iter().any(|(key, _)| key == name)
    }

    /// Takes every value of a parameter. One that the call does not declare is left, and so refused
    /// in the end.
    fn take_all(&mut self, name: &str, is_name: impl Fn(&str) -> bool) -> Vec<String> {
        if !self.operation.declares(name) {
            return Vec::new();
        }
        self.parameters.extract_if(.., |(key, _)| is_name(key)).map(|(_, value)| value).collect()
    }

    /// Whether a parameter is there, whatever it says.
    pub(super) fn is_given(&self, name: &str) -> bool {
        self.parameters.iter().any(|(key, _)| key == name)
    }

    /// Takes a parameter. Given twice, empty, or too long it is an error.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let mut values = self.take_all(name, |key| key == name);
        let value = values.pop()?;
        if !values.is_empty() {
            self.error(name, "it is given more than once");
        } else if value.is_empty() {
            self.error(name, "it is empty");
        } else if value.len() > VALUE_BYTES_MAX {
            self.error(name, "it is too long");
        } else {
            return Some(value);
        }
        None
    }

    /// Takes a parameter that goes by two names.
    pub(super) fn take_either(&mut self, name: &str, alias: &str) -> Option<String> {
        match (self.take(name), self.take(alias)) {
            (Some(_), Some(_)) => {
                self.error(alias, format!("it is another name of `{name}`: give one of them"));
                None
            }
            (value, alias) => value.or(alias),
        }
    }

    /// Takes a parameter that is one of some words.
    pub(super) fn take_word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let value = self.take(name)?;
        let found = words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            self.error(name, format!("it must be {}", words.join(" or ")));
        }
        found
    }

    /// Refuses a list without a scope, in the words of the contract.
    pub(super) fn need_scope(&mut self, given: bool, first: &str, second: &str) {
        if !given {
            let code = format!("Please provide either \"{first}\" or \"{second}\" parameters.");
            self.error(first, code.clone());
            self.error(second, code);
        }
    }

    /// Takes how many items a page has.
    pub(super) fn take_limit(&mut self, limit_default: usize, limit_max: usize) -> usize {
        match self
            .take("limit")
            .map(|text| text.parse::<usize>().ok().filter(|limit| (1..=limit_max).contains(limit)))
        {
            None => limit_default,
            Some(Some(limit)) => limit,
            Some(None) => {
                self.error("limit", format!("it must be a whole number from 1 to {limit_max}"));
                limit_default
            }
        }
    }

    /// Takes the cursors, order and limit of a list.
    pub(super) fn take_paging(
        &mut self,
        limit_default: usize,
        limit_max: usize,
        descending: bool,
    ) -> Paging {
        let limit = self.take_limit(limit_default, limit_max);
        let order = self.take_word(
            "order",
            &[("asc", (false, false)), ("desc", (true, false)), ("normal", (true, true))],
        );
        let (descending, reversed) = order.unwrap_or((descending, false));
        let (before, after) = (self.take("before"), self.take("after"));
        if before.is_some() && after.is_some() {
            self.error("before", "give `before` or `after`, not both");
        }
        Paging { limit, descending, before, after, reversed }
    }

    /// Takes `as_of` and `known_at`, refuses what is left, and fixes the cut.
    ///
    /// # Errors
    /// 422 for anything wrong so far, or a cut ahead of what is known.
    pub(super) async fn cut(mut self) -> Result<(Arc<Engine>, Cut), Problem> {
        let (as_of, known_at) = (self.take_as_of("as_of"), self.take_known_at("known_at"));
        let engine = self.finish()?;
        let cut = fix(&engine, as_of, known_at).await?;
        Ok((engine, cut))
    }

    /// Takes a cut by when things happened: a time, or none for `latest`.
    pub(super) fn take_as_of(&mut self, name: &str) -> Option<Millis> {
        let text = self.take(name).filter(|text| text != "latest")?;
        let moment = parse_moment(&text);
        if moment.is_none() {
            self.error(name, "it must be an RFC 3339 time or `latest`");
        }
        moment
    }

    /// Takes a cut by when things became known.
    pub(super) fn take_known_at(&mut self, name: &str) -> Option<KnownAt> {
        let text = self.take(name)?;
        let seq = text
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| KnownAt::Seq(text.parse().unwrap_or(u64::MAX)));
        let known_at = seq.or_else(|| parse_moment(&text).map(KnownAt::Time));
        if known_at.is_none() {
            self.error(name, "it must be a record's number or an RFC 3339 time");
        }
        known_at
    }

    /// Takes the cursors, order and limit of a list whose cursors are places in it.
    pub(super) fn take_places(&mut self, limit_default: usize, limit_max: usize) -> Places {
        let limit = self.take_limit(limit_default, limit_max);
        let (after, before) = (self.take("after"), self.take("before"));
        if after.is_some() && before.is_some() {
            self.error("before", "give `before` or `after`, not both");
        }
        let descending =
            self.take_word("order", &[("asc", false), ("desc", true)]).unwrap_or(false);
        Places { limit, descending, after, before }
    }

    /// Takes a list of texts, each once, in every encoding that client libraries use: separated by
    /// commas, the parameter repeated, `name[]`, `name[0]`.
    pub(super) fn take_texts(&mut self, name: &str, max: usize) -> Vec<String> {
        let values = self.take_all(name, |key| key == name || without_index(key) == Some(name));
        let texts = values
            .iter()
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|text| !text.is_empty());
        let texts: Vec<String> =
            texts.map(str::to_owned).collect::<BTreeSet<String>>().into_iter().collect();
        if texts.len() > max {
            self.error(name, format!("at most {max} may be given"));
        } else if texts.iter().any(|text| text.len() > VALUE_BYTES_MAX) {
            self.error(name, "one of them is too long");
        }
        texts
    }

    /// Takes a time.
    pub(super) fn take_moment(&mut self, name: &str) -> Option<Millis> {
        let text = self.take(name)?;
        let moment = parse_moment(&text);
        if moment.is_none() {
            self.error(name, "it must be an RFC 3339 time");
        }
        moment
    }

    /// Refuses what is left.
    ///
    /// # Errors
    /// 422 for anything wrong so far.
    pub(super) fn finish(mut self) -> Result<Arc<Engine>, Problem> {
        let left: BTreeSet<String> =
            self.parameters.drain(..).map(|(name, _)| name.chars().take(64).collect()).collect();
        for name in left.iter().take(UNKNOWN_TOLD_MAX) {
            self.error(name, "there is no such parameter here");
        }
        if self.errors.is_empty() { Ok(self.engine) } else { Err(Problem::validation(self.errors)) }
    }
}

/// Fixes a cut.
///
/// # Errors
/// If it is ahead of what is known, or cannot be repeated yet.
pub(super) async fn fix(
    engine: &Engine,
    as_of: Option<Millis>,
    known_at: Option<KnownAt>,
) -> Result<Cut, CutError> {
    // A `known_at` in time may wait for what is being written, but not for ever.
    tokio::time::timeout(ANSWER_WITHIN, engine.cut(as_of, known_at))
        .await
        .unwrap_or(Err(CutError::Unsettled))
}

/// The name of which `name[]` or `name[0]` gives one value.
fn without_index(name: &str) -> Option<&str> {
    let (name, index) = name.strip_suffix(']')?.rsplit_once('[')?;
    index.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
}

/// A time in a parameter. A `+` that was not encoded arrives as a space.
fn parse_moment(text: &str) -> Option<Millis> {
    time::parse(text).or_else(|| {
        let (moment, offset) = text.rsplit_once(' ')?;
        time::parse(&format!("{moment}+{offset}"))
    })
}

impl Paging {
    /// The window into the list.
    pub(super) fn window(&self) -> Window<'_> {
        let (before, after) = (self.before.as_deref(), self.after.as_deref());
        let (before, after) = if self.reversed { (after, before) } else { (before, after) };
        Window { descending: self.descending, after, before, limit: self.limit }
    }

    /// Of a list in which nothing is ever taken out, and whose cursors are its items' numbers from
    /// 1: which of `all` are wanted, in the list's order, and whether there are more before and
    /// after. A cursor's item need not exist yet.
    ///
    /// # Errors
    /// 422 for a cursor that is no number.
    pub(super) fn numbers(
        &self,
        all: usize,
    ) -> Result<(impl Iterator<Item = usize>, bool, bool), Problem> {
        let window = self.window();
        let number = |field: &str, cursor: Option<&str>| match cursor
            .map(|cursor| cursor.parse::<usize>())
        {
            None => Ok(None),
            Some(Ok(number @ 1..)) => Ok(Some(number)),
            Some(_) => Err(Problem::cursor_invalid(field)),
        };
        let (after, before) = (number("after", window.after)?, number("before", window.before)?);
        // Places count from 0 in the list's own order: item n stands at n - 1, or in descending
        // order at the length less n.
        let descending = window.descending;
        let at = |number: usize| {
            if descending { all.saturating_sub(number) } else { (number - 1).min(all) }
        };
        let behind = |number: usize| {
            if descending { (all + 1).saturating_sub(number) } else { number.min(all) }
        };
        let (start, end) = match (after.map(behind), before.map(at)) {
            (None, Some(end)) => (end.saturating_sub(window.limit), end),
            (start, _) => (start.unwrap_or(0), (start.unwrap_or(0) + window.limit).min(all)),
        };
        Ok((
            (start..end).map(move |place| if descending { all - place } else { place + 1 }),
            start > 0,
            end < all,
        ))
    }

    /// The cursors of a page, `before` and `after`; `id` names an item.
    pub(super) fn cursors<T>(
        &self,
        page: &Page<T>,
        id: impl Fn(&T) -> &str,
    ) -> [Option<String>; 2] {
        let cursor =
            |item: Option<&T>, more: bool| item.filter(|_| more).map(|item| id(item).to_owned());
        let (before, after) = (
            cursor(page.items.first(), page.more_before),
            cursor(page.items.last(), page.more_after),
        );
        if self.reversed { [after, before] } else { [before, after] }
    }
}

/// The id in the path, decoded. `None` where it is no text.
pub(super) fn id_within_path(request: &HttpRequest) -> Option<String> {
    percent_encoding::percent_decode_str(request.match_info().get("id")?)
        .decode_utf8()
        .ok()
        .map(Into::into)
}

/// The id in the last segment of the path, decoded. `None` where it is no text.
pub(super) fn id_in_path(request: &HttpRequest) -> Option<String> {
    let (_, segment) = request.uri().path().rsplit_once('/')?;
    percent_encoding::percent_decode_str(segment).decode_utf8().ok().map(Into::into)
}

/// What became of an act, or, if it takes too long, that nobody knows.
pub(super) async fn done_in_time<T>(
    act: impl Future<Output = Result<T, ActError>>,
) -> Result<T, ActError> {
    tokio::time::timeout(ANSWER_WITHIN, act).await.unwrap_or(Err(ActError::Unavailable))
}

/// Fetches documents and writes them out: at once if all are cached, else where reading the log may
/// block.
pub(super) async fn with_documents<T: Send + 'static>(
    engine: Arc<Engine>,
    keys: Vec<DocumentKey>,
    write: impl FnOnce(&[Document]) -> T + Send + 'static,
) -> Result<T, Problem> {
    if let Some(documents) = engine.cached_documents(&keys) {
        return Ok(write(&documents));
    }
    let loaded =
        web::block(move || engine.load_documents(&keys).map(|documents| write(&documents))).await;
    Ok(loaded.map_err(|_| Code::Internal)??)
}

/// As [`pinned`], for what shows roles: also by which version of the mapping they are; 0 before the
/// first.
pub(super) fn pinned_with_roles(
    cut: Cut,
    mapping_version: usize,
    body: Result<Vec<u8>, Problem>,
) -> HttpResponse {
    let mut response = pinned(cut, body);
    response
        .headers_mut()
        .insert(HeaderName::from_static("rollcall-mapping-version"), mapping_version.into());
    response
}

/// The answer to a question of state: its body, or what is wrong, with the cut in the headers.
pub(super) fn pinned(cut: Cut, body: Result<Vec<u8>, Problem>) -> HttpResponse {
    let mut response = match body {
        Ok(body) => json(StatusCode::OK).body(body),
        Err(problem) => problem.response(),
    };
    pin(&mut response, cut);
    response
}
