//! What comes in with a read: who asks, which parameters, at which cut, which part of a list.

use actix_web::http::header::AUTHORIZATION;
use actix_web::{HttpRequest, web};
use rollcall_projections::{Cut, Millis, Seq};
use std::collections::BTreeSet;
use std::sync::Arc;

use super::access_log;
use super::answer::{ANSWER_WITHIN, Code, FieldError, Problem};
use super::api::Operation;
use super::paging::{Paging, Places};
use super::state::State;
use crate::engine::{CutError, Engine, KnownAt};
use crate::time;
use crate::verify::Operator;

/// Of so many unknown parameters an answer tells.
const UNKNOWN_TOLD_MAX: usize = 16;

/// Longest value that a parameter may have, in bytes.
const VALUE_BYTES_MAX: usize = 1024;

/// The parameters of a request. What is not taken by the end is unknown, and refused: a filter that
/// is silently ignored would return more than was asked for.
pub(crate) struct Question {
    pub(crate) engine: Arc<Engine>,
    /// Who asks.
    pub(crate) operator: Operator,
    operation: &'static Operation,
    parameters: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl Question {
    /// Sees who asks and reads the parameters.
    ///
    /// # Errors
    /// 401 without a known key; 503 before the log is folded.
    pub(crate) fn of(
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

    pub(crate) fn error(&mut self, field: &str, code: impl Into<String>) {
        self.errors.push(FieldError::new(field, code));
    }

    /// Whether a parameter is given and not taken yet.
    pub(crate) fn has(&self, name: &str) -> bool {
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
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.parameters.iter().any(|(key, _)| key == name)
    }

    /// Takes a parameter. Given twice, empty, or too long it is an error.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
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
    pub(crate) fn take_either(&mut self, name: &str, alias: &str) -> Option<String> {
        match (self.take(name), self.take(alias)) {
            (Some(_), Some(_)) => {
                self.error(alias, format!("it is another name of `{name}`: give one of them"));
                None
            }
            (value, alias) => value.or(alias),
        }
    }

    /// Takes a parameter that is one of some words.
    pub(crate) fn take_word<T: Copy>(&mut self, name: &str, words: &[(&str, T)]) -> Option<T> {
        let value = self.take(name)?;
        let found = words.iter().find(|(word, _)| *word == value).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words: Vec<String> = words.iter().map(|(word, _)| format!("`{word}`")).collect();
            self.error(name, format!("it must be {}", words.join(" or ")));
        }
        found
    }

    /// Refuses a list without a scope, in the words of the contract.
    pub(crate) fn need_scope(&mut self, given: bool, first: &str, second: &str) {
        if !given {
            let code = format!("Please provide either \"{first}\" or \"{second}\" parameters.");
            self.error(first, code.clone());
            self.error(second, code);
        }
    }

    /// Takes how many items a page has.
    pub(crate) fn take_limit(&mut self, limit_default: usize, limit_max: usize) -> usize {
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
    pub(crate) fn take_paging(
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
    pub(crate) async fn cut(mut self) -> Result<(Arc<Engine>, Cut), Problem> {
        let (as_of, known_at) = (self.take_as_of("as_of"), self.take_known_at("known_at"));
        let engine = self.finish()?;
        let cut = fix(&engine, as_of, known_at).await?;
        Ok((engine, cut))
    }

    /// Takes a cut by when things happened: a time, or none for `latest`.
    pub(crate) fn take_as_of(&mut self, name: &str) -> Option<Millis> {
        let text = self.take(name).filter(|text| text != "latest")?;
        let moment = parse_moment(&text);
        if moment.is_none() {
            self.error(name, "it must be an RFC 3339 time or `latest`");
        }
        moment
    }

    /// Takes a cut by when things became known.
    pub(crate) fn take_known_at(&mut self, name: &str) -> Option<KnownAt> {
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
    pub(crate) fn take_places(&mut self, limit_default: usize, limit_max: usize) -> Places {
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
    pub(crate) fn take_texts(&mut self, name: &str, max: usize) -> Vec<String> {
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
    pub(crate) fn take_moment(&mut self, name: &str) -> Option<Millis> {
        let text = self.take(name)?;
        let moment = parse_moment(&text);
        if moment.is_none() {
            self.error(name, "it must be an RFC 3339 time");
        }
        moment
    }

    /// Takes a record's number or a log's size.
    pub(crate) fn take_seq(&mut self, name: &str) -> Option<Seq> {
        let text = self.take(name)?;
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let seq =
            text.parse::<Seq>().ok().filter(|seq| plain && (1..=Seq::from(u32::MAX)).contains(seq));
        if seq.is_none() {
            self.error(name, format!("it must be a whole number from 1 to {}", u32::MAX));
        }
        seq
    }

    /// The same, where there is no default. Whatever comes back after an error is not used.
    pub(crate) fn take_needed_seq(&mut self, name: &str) -> Seq {
        let is_given = self.has(name);
        let seq = self.take_seq(name);
        if !is_given {
            self.error(name, "it is needed");
        }
        seq.unwrap_or(1)
    }

    pub(crate) fn need_recorded(&mut self, name: &str, size: Seq, head: Seq) {
        if size > head {
            self.error(name, format!("it is beyond the last record, {head}"));
        }
    }

    /// Refuses what is left.
    ///
    /// # Errors
    /// 422 for anything wrong so far.
    pub(crate) fn finish(mut self) -> Result<Arc<Engine>, Problem> {
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
pub(crate) async fn fix(
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

/// The id in the path, decoded. `None` where it is no text.
pub(crate) fn id_within_path(request: &HttpRequest) -> Option<String> {
    percent_encoding::percent_decode_str(request.match_info().get("id")?)
        .decode_utf8()
        .ok()
        .map(Into::into)
}

/// The id in the last segment of the path, decoded. `None` where it is no text.
pub(crate) fn id_in_path(request: &HttpRequest) -> Option<String> {
    let (_, segment) = request.uri().path().rsplit_once('/')?;
    percent_encoding::percent_decode_str(segment).decode_utf8().ok().map(Into::into)
}
