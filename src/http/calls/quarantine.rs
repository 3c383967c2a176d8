//! `GET /rollcall/v1/quarantine`.

use std::collections::BTreeSet;

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{Cut, Fingerprint, Quarantined, Reason, Seq};
use serde_json::json;
use serde_json::value::RawValue;

use crate::engine::Engine;
use crate::http::wire::answer::{Code, Problem, list_in_pieces};
use crate::http::wire::api::{
    Access, Bound, DIRECTORY_ID, Gives, KNOWN_AT, LIMIT_OWN, Logged, ORDER_OWN, Operation,
    Parameter, Switch, Takes, USER_ID, Word, after, before, email,
};
use crate::http::wire::bodies::{BODIES_AT_ONCE, Bodies};
use crate::http::wire::paging::ItemNumber;
use crate::http::wire::question::{Question, fix};
use crate::http::wire::state::State;
use crate::http::wire::threads::blocking;
use crate::json;
use crate::keys::Scope;
use crate::log::ReadError;
use crate::time;
use crate::verify::email_fingerprint;

const SHAPES: &str = include_str!("quarantine.schema.json");

const OF_USER: Parameter = Parameter::text(
    "user",
    USER_ID,
    "About this user: as `data.id` or `data.user.id`, or, where a record names no id of a user, by \
    an email that this user ever had",
);
const OF_DIRECTORY: Parameter = Parameter::text(
    "directory",
    DIRECTORY_ID,
    "About this directory itself: as `data.id`; and all that is listed as `foreign_directory` \
     and names this directory, or a user or group in it",
);
const RESOLVED: Parameter = Parameter::new(
    "resolved",
    Takes::Words(Switch::WORDS),
    "true",
    "Instead, the records that could not be used when they were recorded, and can now",
);
const OF_EMAIL: Parameter = email(
    "About a user with this email, also where an id is missing; with `user`, only where it is \
    missing",
);

/// `GET /rollcall/v1/quarantine`
pub(crate) const QUARANTINE: Operation = Operation {
    path: "/rollcall/v1/quarantine",
    name: "listQuarantine",
    about: "Records that could not be used, or were used with a remark, in order of seq. Of \
        `user`, `directory` and `email` one that fits suffices; then a page may have fewer \
        records than its limit, and `after` says whether it is the last. With `known_at` it lists \
        the records up to that one, and uses the emails that were known by then. With `resolved` \
        it lists those that an older version could not use and this one uses: they have their full \
        effect, and stay out of `/events` and `/rollcall/v1/changes`.",
    parameters: &[
        after::<ItemNumber>("1"),
        before::<ItemNumber>("1"),
        LIMIT_OWN,
        ORDER_OWN,
        OF_USER,
        OF_DIRECTORY,
        OF_EMAIL,
        RESOLVED,
        KNOWN_AT,
    ],
    access: Access::keyed(Scope::Audit, Bound::Own),
    logged: Logged::Always,
    gives: Gives::List("QuarantineEntry"),
    shapes: SHAPES,
    problems: &[Code::CursorInvalid, Code::KnownAtOutOfRange],
    ..Operation::GET
};

/// Answers [`QUARANTINE`].
pub(crate) async fn quarantine(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &QUARANTINE)?;
    let paging = question.take_paging();
    let sight = question.sight();
    let (user, directory) = (question.take("user"), question.take("directory"));
    let email = question.take("email").map(|email| email_fingerprint(&email));
    let resolved = question.take_word("resolved") == Some(Switch::On);
    let known_at = question.take_known_at("known_at");
    let engine = question.finish()?;
    let Cut { known_at, .. } = fix(&engine, None, known_at).await?;
    let body = blocking(move || {
        let (subject, page, entries) = {
            let views = engine.views();
            let views = views.seen_by(&sight);
            let emails = user.as_ref().map(|user| views.emails_of_user(user, known_at));
            let emails = emails.into_iter().flatten().chain(email).collect();
            let subject = Subject { user, directory, emails };
            let all = if resolved { views.resolved() } else { views.quarantine() };
            let known = all.partition_point(|entry| entry.seq <= known_at);
            let all = all.get(..known).unwrap_or_default();
            let page = paging.numbers(all.len())?;
            let entries: Vec<Quarantined> =
                page.items.iter().filter_map(|number| all.get(number - 1)).copied().collect();
            (subject, page, entries)
        };
        let entries = subject.only_about(&engine, entries)?.into_iter();
        let items = entries.map(|entry| describe(&engine, entry, resolved));
        let items = items.collect::<Result<Vec<_>, Problem>>()?;
        Ok::<_, Problem>(list_in_pieces(items, paging.cursors(&page, usize::to_string)))
    });
    Ok(body.await??.response())
}

/// The things that the records are about.
struct Subject {
    user: Option<String>,
    directory: Option<String>,
    /// With a user, these are matched only where a record names no id.
    emails: BTreeSet<Fingerprint>,
}

impl Subject {
    /// Keeps the records about them; all records if nothing is asked for. Blocks while it reads the
    /// log.
    ///
    /// # Errors
    /// If the log cannot be read.
    fn only_about(
        &self,
        engine: &Engine,
        entries: Vec<Quarantined>,
    ) -> Result<Vec<Quarantined>, Problem> {
        if self.user.is_none() && self.directory.is_none() && self.emails.is_empty() {
            return Ok(entries);
        }
        let mut kept = Vec::new();
        for entries in entries.chunks(BODIES_AT_ONCE) {
            // Nothing says what a lost record was about.
            let readable = entries.iter().filter(|entry| entry.reason != Reason::Lost);
            let seqs: BTreeSet<Seq> = readable.map(|entry| entry.seq).collect();
            let bodies = Bodies::of(engine, seqs)?;
            let foreign = self.foreign_among(engine, entries)?;
            for entry in entries {
                if self.is_of(bodies.get(entry.seq)) || foreign.contains(&entry.seq) {
                    kept.push(*entry);
                }
            }
        }
        Ok(kept)
    }

    /// Returns which entries are events of another source about the directory, which is one of an
    /// identity provider. Blocks while it reads the log, each block once.
    ///
    /// # Errors
    /// If the log cannot be read.
    fn foreign_among(
        &self,
        engine: &Engine,
        entries: &[Quarantined],
    ) -> Result<BTreeSet<Seq>, ReadError> {
        let mut found = BTreeSet::new();
        let Some(directory) = &self.directory else { return Ok(found) };
        let foreign = entries.iter().filter(|entry| entry.reason == Reason::ForeignDirectory);
        let seqs: BTreeSet<Seq> = foreign.map(|entry| entry.seq).collect();
        let mut last = 0;
        for seq in &seqs {
            if *seq <= last {
                continue;
            }
            // Shows all further records of the block.
            last = engine.log().entries(seq - 1, 1, &mut |read| {
                let is_asked = seqs.contains(&read.seq);
                if is_asked && engine.views().is_about_directory(&read.fact, read.seq, directory) {
                    found.insert(read.seq);
                }
            })?;
        }
        Ok(found)
    }

    /// Tells if a body is about one of them. A body that is not JSON is about nothing.
    fn is_of(&self, body: &[u8]) -> bool {
        let text = String::from_utf8_lossy(body);
        let Some([Some(data)]) = json::fields(&text, ["data"]) else { return false };
        let user = json::fields_of(Some(data), ["user"]).and_then(|[user]| user);
        [Some(data), user].into_iter().flatten().any(|object| self.is_object(object))
    }

    fn is_object(&self, object: &RawValue) -> bool {
        let [id, email, emails] =
            json::fields(object.get(), ["id", "email", "emails"]).unwrap_or_default();
        let id = json::name(id);
        let ids = [&self.user, &self.directory].into_iter().flatten();
        if id.as_ref().is_some_and(|id| ids.clone().any(|other| *other == *id)) {
            return true;
        }
        // With an id, it is about another user.
        if self.user.is_some() && id.is_some() {
            return false;
        }
        let all = json::array(emails).unwrap_or_default();
        let values = all.into_iter().filter_map(|item| json::fields(item.get(), ["value"])?[0]);
        let has_email = |value: Option<&RawValue>| {
            json::string(value)
                .is_some_and(|email| self.emails.contains(&email_fingerprint(&email)))
        };
        has_email(email) || values.map(Some).any(has_email)
    }
}

/// Describes an entry. `resolved` is true if the reason is that of an older version.
fn describe(engine: &Engine, entry: Quarantined, resolved: bool) -> Result<Vec<u8>, Problem> {
    let record = match entry.reason {
        Reason::Lost => None,
        _ => Some(engine.record(entry.seq)?),
    };
    let record = record.as_ref();
    let mut detail = entry.reason.detail(time::format);
    if resolved {
        detail.insert_str(0, "it is used now; the version that recorded it said: ");
    }
    let entry = json!({
        "object": "quarantine_entry",
        "seq": entry.seq,
        "event_id": record.and_then(|record| record.event_id.as_deref()),
        "event": record.and_then(|record| record.event_type.as_deref()),
        "reason": entry.reason.code(),
        "detail": detail,
        "recorded_at": record.map(|record| time::format(record.recorded_at)),
    });
    Ok(entry.to_string().into_bytes())
}
