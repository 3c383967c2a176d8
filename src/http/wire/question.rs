//! The reading side of a request: the operator, the parameters, and the cut.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use actix_web::http::header::AUTHORIZATION;
use actix_web::{HttpRequest, web};
use rollcall_projections::{Cut, Millis, Seq, Sight};

use super::answer::{ANSWER_WITHIN, Code, FieldError, Problem};
use super::api::{
    Bound, Direction, NotWith, Operation, Order, Parameter, TEXT_CHARS_MAX, Takes, Word,
};
use super::connections::place_of;
use super::paging::{Paging, Places};
use super::state::State;
use super::{access_log, limits};
use crate::engine::{CutError, Engine, KnownAt};
use crate::keys::{Operator, Scope, Scopes};
use crate::time;
use crate::verify::FieldCode;

/// How long what was known counts as the present, in milliseconds.
const PRESENT_MS: Millis = 60 * 60 * 1000;

/// At most this many unknown parameters are named in an error.
const UNKNOWN_NAMED_MAX: usize = 16;

/// At most this many characters of an unknown parameter's name are repeated in an error.
const UNKNOWN_CHARS_MAX: usize = 64;

/// The parameters of a request, taken one by one. What is left at the end is unknown and refused:
/// a filter that is silently ignored would return more than was asked for.
pub(crate) struct Question {
    pub(crate) engine: Arc<Engine>,
    /// The holder of the API key.
    pub(crate) operator: Operator,
    /// Set once the call has taken the sight of the operator.
    sight_taken: bool,
    operation: &'static Operation,
    parameters: Vec<(String, String)>,
    errors: Vec<FieldError>,
}

impl Question {
    /// Identifies the operator, judges its rights and reads the parameters.
    ///
    /// # Errors
    /// 401 without a known key, 429 above its limit, 403 without the call's scope, 503 before the
    /// log is folded.
    pub(crate) fn of(
        request: &HttpRequest,
        state: &web::Data<State>,
        operation: &'static Operation,
    ) -> Result<Question, Problem> {
        let operator = identify(request, state, operation)?;
        access_log::asked(request, operator.clone(), operation);
        limits::count(request, &operator)?;
        permit(&operator, operation)?;
        let parameters: Vec<(String, String)> =
            form_urlencoded::parse(request.query_string().as_bytes()).into_owned().collect();
        let errors = combination_errors(operation, &parameters);
        Ok(Question {
            engine: state.engine()?.clone(),
            operator,
            sight_taken: false,
            operation,
            parameters,
            errors,
        })
    }

    /// Returns the part of the views that the operator sees. A call that is declared with
    /// [`Bound::Own`] must take it before it takes the engine.
    pub(crate) fn sight(&mut self) -> Sight {
        self.sight_taken = true;
        let organizations = self.operator.key().organizations.as_deref();
        organizations.map_or(Sight::All, |own| Sight::Of(own.to_vec()))
    }

    pub(crate) fn error(
        &mut self,
        field: &str,
        code: FieldCode,
        message: impl Into<Cow<'static, str>>,
    ) {
        self.errors.push(FieldError::new(field, code, message));
    }

    /// Takes a parameter as text. Missing though required, given twice, empty, or too long it is an
    /// error.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let parameter = self.declared(name)?;
        self.take_text(parameter)
    }

    /// Finds a parameter in the declaration. One that is not there stays untaken, and so is refused
    /// in the end.
    fn declared(&self, name: &str) -> Option<&'static Parameter> {
        let parameter = self.operation.parameter(name);
        debug_assert!(parameter.is_some(), "{name} is not declared");
        parameter
    }

    fn take_text(&mut self, parameter: &Parameter) -> Option<String> {
        let name = parameter.name;
        let mut values = self.take_all(|key| key == name);
        let Some(value) = values.pop() else {
            if parameter.required {
                self.error(name, FieldCode::Required, "it is required");
            }
            return None;
        };
        if !values.is_empty() {
            self.error(name, FieldCode::Invalid, "it is given more than once");
        } else if value.is_empty() {
            self.error(name, FieldCode::Invalid, "it is empty");
        } else if value.chars().count() > TEXT_CHARS_MAX {
            self.error(name, FieldCode::TooLong, too_long());
        } else {
            return Some(value);
        }
        None
    }

    fn take_all(&mut self, is_name: impl Fn(&str) -> bool) -> Vec<String> {
        self.parameters.extract_if(.., |(key, _)| is_name(key)).map(|(_, value)| value).collect()
    }

    /// Takes a parameter that goes by two names.
    pub(crate) fn take_either(&mut self, name: &str, alias: &str) -> Option<String> {
        let (value, alias) = (self.take(name), self.take(alias));
        value.or(alias)
    }

    /// Takes a parameter that is one of the words of `W`.
    pub(crate) fn take_word<W: Word>(&mut self, name: &str) -> Option<W> {
        let parameter = self.declared(name)?;
        debug_assert!(
            matches!(parameter.takes, Takes::Words(words) if words == W::WORDS),
            "{name} is declared with other words"
        );
        self.take_one_of(parameter)
    }

    fn take_one_of<W: Word>(&mut self, parameter: &Parameter) -> Option<W> {
        let value = self.take_text(parameter)?;
        let found = W::WORDS.iter().zip(W::ALL).find(|(word, _)| **word == value);
        if found.is_none() {
            self.errors.push(FieldError::not_one_of(parameter.name, W::WORDS));
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// Takes a whole number, or else its default.
    pub(crate) fn take_number(&mut self, name: &str) -> usize {
        let Some(parameter) = self.declared(name) else { return 0 };
        let Takes::Number { min, max, default } = parameter.takes else {
            debug_assert!(false, "{name} is not declared as a number");
            return 0;
        };
        let Some(text) = self.take_text(parameter) else { return default };
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|number| plain && (min..=max).contains(number));
        number.unwrap_or_else(|| {
            let message = format!("it must be a whole number from {min} to {max}");
            self.error(name, form_or_range(&text), message);
            default
        })
    }

    /// Takes the number of items of a page.
    pub(crate) fn take_limit(&mut self) -> usize {
        self.take_number("limit")
    }

    /// Takes the limit, order and cursors of a list.
    pub(crate) fn take_paging(&mut self) -> Paging {
        let limit = self.take_limit();
        let order = self.take_order();
        let (before, after) = self.take_cursors();
        Paging { limit, order, before, after }
    }

    fn take_order(&mut self) -> Order {
        let Some(parameter) = self.declared("order") else { return Order::Asc };
        let Takes::Order(default) = parameter.takes else {
            debug_assert!(false, "`order` is not declared as an order");
            return Order::Asc;
        };
        self.take_one_of(parameter).unwrap_or(default)
    }

    /// Takes the limit, order and cursors of a list whose cursors are places in it.
    pub(crate) fn take_places(&mut self) -> Places {
        let limit = self.take_limit();
        let (before, after) = self.take_cursors();
        let descending = self.take_word("order") == Some(Direction::Desc);
        Places { limit, descending, before, after }
    }

    fn take_cursors(&mut self) -> (Option<String>, Option<String>) {
        (self.take("before"), self.take("after"))
    }

    /// Takes the moment of a cut in world time: a time, or none for `latest`.
    pub(crate) fn take_as_of(&mut self, name: &str) -> Option<Millis> {
        let text = self.take(name).filter(|text| text != "latest")?;
        let moment = parse_moment(&text);
        if moment.is_none() {
            self.error(name, FieldCode::Invalid, "it must be an RFC 3339 time or `latest`");
        }
        moment
    }

    /// Takes the end of what a cut knows.
    pub(crate) fn take_known_at(&mut self, name: &str) -> Option<KnownAt> {
        let text = self.take(name)?;
        let seq = text
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then(|| KnownAt::Seq(text.parse().unwrap_or(u64::MAX)));
        let known_at = seq.or_else(|| parse_moment(&text).map(KnownAt::Time));
        if known_at.is_none() {
            let message = "it must be a record's number or an RFC 3339 time";
            self.error(name, FieldCode::Invalid, message);
        }
        known_at
    }

    /// Takes a list of texts, each once, in every encoding that client libraries use: separated by
    /// commas, the parameter repeated, `name[]`, `name[0]`.
    pub(crate) fn take_texts(&mut self, name: &str) -> Vec<String> {
        let Some(Takes::Texts { max }) = self.declared(name).map(|parameter| parameter.takes)
        else {
            debug_assert!(false, "{name} is not declared as texts");
            return Vec::new();
        };
        let values = self.take_all(|key| key == name || without_index(key) == Some(name));
        let texts = values
            .iter()
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|text| !text.is_empty());
        let texts: Vec<String> = texts.map(str::to_owned).collect();
        if texts.len() > max {
            self.error(name, FieldCode::TooLong, format!("at most {max} may be given"));
        } else if texts.iter().any(|text| text.chars().count() > TEXT_CHARS_MAX) {
            self.error(name, FieldCode::TooLong, too_long());
        }
        texts.into_iter().collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// Takes a time.
    pub(crate) fn take_moment(&mut self, name: &str) -> Option<Millis> {
        let text = self.take(name)?;
        let moment = parse_moment(&text);
        if moment.is_none() {
            self.error(name, FieldCode::Invalid, "it must be an RFC 3339 time");
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
            let message = format!("it must be a whole number from 1 to {}", u32::MAX);
            self.error(name, form_or_range(&text), message);
        }
        seq
    }

    /// Refuses a size that is larger than the log.
    pub(crate) fn need_recorded(&mut self, name: &str, size: Seq, head: Seq) {
        if size > head {
            let message = format!("it is beyond the last record, {head}");
            self.error(name, FieldCode::OutOfRange, message);
        }
    }

    /// Takes `as_of` and `known_at`, refuses what is left, and fixes the cut.
    ///
    /// # Errors
    /// 422 for anything wrong so far, or a cut ahead of what is known.
    pub(crate) async fn cut(mut self) -> Result<(Arc<Engine>, Cut), Problem> {
        let (as_of, known_at) = (self.take_as_of("as_of"), self.take_known_at("known_at"));
        let (operation, operator) = (self.operation, self.operator.clone());
        let engine = self.finish()?;
        let cut = fix(&engine, as_of, known_at)
            .await
            .map_err(|error| Problem::from(error).in_words_of(operation))?;
        let needs_audit = !operator.key().scopes.has(Scope::Audit);
        if needs_audit && is_past(&engine, cut, known_at) {
            return Err(Problem::scope_missing(Scope::Audit, "it is about the past"));
        }
        Ok((engine, cut))
    }

    /// Refuses what is left.
    ///
    /// # Errors
    /// 422 for anything wrong so far.
    pub(crate) fn finish(mut self) -> Result<Arc<Engine>, Problem> {
        let is_bound = self.operator.key().organizations.is_some();
        if is_bound && self.operation.bound() == Bound::Own && !self.sight_taken {
            return Err(Problem::bound_to_organizations());
        }
        let left: BTreeSet<String> = self
            .parameters
            .drain(..)
            .map(|(name, _)| name.chars().take(UNKNOWN_CHARS_MAX).collect())
            .collect();
        for name in left.iter().take(UNKNOWN_NAMED_MAX) {
            self.error(name, FieldCode::UnknownParameter, "unknown parameter");
        }
        if self.errors.is_empty() {
            return Ok(self.engine);
        }
        Err(Problem::validation(self.errors).in_words_of(self.operation))
    }
}

/// Judges which parameters are given together.
fn combination_errors(operation: &Operation, parameters: &[(String, String)]) -> Vec<FieldError> {
    let given = |name: &str| parameters.iter().any(|(key, _)| key == name);
    let mut errors: Vec<FieldError> = operation
        .parameters
        .iter()
        .filter(|parameter| given(parameter.name))
        .filter_map(|parameter| {
            let NotWith { names, message } = parameter.not_with?;
            let together = names.iter().any(|name| given(name));
            together.then(|| FieldError::new(parameter.name, FieldCode::Exclusive, message))
        })
        .collect();
    // The first two are named, in the words of the contract.
    if let [first, second, ..] = operation.needs_one_of
        && !operation.needs_one_of.iter().any(|name| given(name))
    {
        let message = format!("Please provide either \"{first}\" or \"{second}\" parameters.");
        errors.push(FieldError::new(first, FieldCode::Required, message.clone()));
        errors.push(FieldError::new(second, FieldCode::Required, message));
    }
    errors
}

/// Identifies the holder of the key in a request.
///
/// # Errors
/// 401 without a known key, or after its time.
fn identify(
    request: &HttpRequest,
    state: &State,
    operation: &'static Operation,
) -> Result<Operator, Problem> {
    let header = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let key = header
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let operator = key.and_then(|(_, key)| state.keys.now().api_keys.identify(key.trim()));
    let problem = match operator {
        Some(operator) if !operator.key().has_expired(time::now_ms()) => {
            place_of(request).iter().for_each(|place| place.prove());
            return Ok(operator);
        }
        Some(operator) => {
            access_log::asked(request, operator.clone(), operation);
            Problem::key_expired(operator.key())
        }
        None => Code::Unauthorized.into(),
    };
    state.refusals.refuse_key(operation.path);
    Err(problem)
}

/// Judges whether the operator may make a call.
///
/// # Errors
/// 403 without its scope, or for a call about all organizations with a key bound to some.
fn permit(operator: &Operator, operation: &'static Operation) -> Result<(), Problem> {
    let key = operator.key();
    let missing = operation.scopes().find(|scope| !key.scopes.has(*scope));
    if let Some(scope) = missing {
        return Err(Problem::scope_missing(scope, "this call needs it"));
    }
    if key.organizations.is_some() && operation.bound() == Bound::Refused {
        return Err(Problem::bound_to_organizations());
    }
    Ok(())
}

/// Returns true if an operator may read what was known at a moment, as at a cut of that time.
pub(crate) fn may_read_known_at(operator: &Operator, moment: Millis) -> bool {
    may_read(operator.key().scopes, moment, time::now_ms())
}

fn may_read(scopes: Scopes, known_at: Millis, now: Millis) -> bool {
    let is_recent = known_at >= now - PRESENT_MS;
    scopes.has(Scope::Audit) || (is_recent && scopes.has(Scope::Read))
}

/// Returns true if a cut is not one of the present. What was known at some time of the last hour
/// is the present, so that the pages of a list can be asked for at the cut of the first.
fn is_past(engine: &Engine, cut: Cut, known_at: Option<KnownAt>) -> bool {
    let recent_from = || time::now_ms() - PRESENT_MS;
    let is_old = match known_at {
        None => false,
        Some(KnownAt::Time(moment)) => moment < recent_from(),
        Some(KnownAt::Seq(seq)) => seq < engine.views().known_at(recent_from()),
    };
    is_old || cut.as_of != Millis::MAX
}

fn too_long() -> String {
    format!("it is longer than {TEXT_CHARS_MAX} characters")
}

/// Returns the code of a text that is not a number of a range.
fn form_or_range(text: &str) -> FieldCode {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let whole = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole { FieldCode::OutOfRange } else { FieldCode::Invalid }
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
    if !matches!(known_at, Some(KnownAt::Time(_))) {
        return engine.cut(as_of, known_at).await;
    }
    // A `known_at` in time may have to wait for a write in progress.
    tokio::time::timeout(ANSWER_WITHIN, engine.cut(as_of, known_at))
        .await
        .unwrap_or(Err(CutError::Unsettled))
}

/// Returns the name in `name[]` or `name[0]`.
fn without_index(name: &str) -> Option<&str> {
    let (name, index) = name.strip_suffix(']')?.rsplit_once('[')?;
    index.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
}

/// Reads a time. A `+` that was not percent-encoded arrives as a space.
pub(super) fn parse_moment(text: &str) -> Option<Millis> {
    time::parse_bound(text).or_else(|| {
        let (moment, offset) = text.rsplit_once(' ')?;
        time::parse_bound(&format!("{moment}+{offset}"))
    })
}

/// Decodes the id within the path; `None` if it is not UTF-8.
pub(crate) fn id_within_path(request: &HttpRequest) -> Option<String> {
    decoded(request.match_info().get("id")?)
}

/// Decodes the id in the last segment of the path; `None` if it is not UTF-8.
pub(crate) fn id_in_path(request: &HttpRequest) -> Option<String> {
    let (_, segment) = request.uri().path().rsplit_once('/')?;
    decoded(segment)
}

fn decoded(segment: &str) -> Option<String> {
    percent_encoding::percent_decode_str(segment).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_known_an_hour_ago_needs_the_scope_audit() {
        let now = 10 * PRESENT_MS;
        for (scope, recent, old) in [
            (Scope::Ingest, false, false),
            (Scope::Operate, false, false),
            (Scope::Read, true, false),
            (Scope::Audit, true, true),
        ] {
            let scopes = Scopes::of([scope]);
            assert_eq!(may_read(scopes, now - PRESENT_MS, now), recent, "{scope:?}");
            assert_eq!(may_read(scopes, now - PRESENT_MS - 1, now), old, "{scope:?}");
        }
    }
}
