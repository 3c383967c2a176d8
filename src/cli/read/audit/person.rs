//! Who a user is, or was last, and who had an email.

use std::collections::BTreeSet;

use percent_encoding::utf8_percent_encode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::super::Failure;
use super::super::super::client::Client;
use super::super::super::table::harmless;
use super::super::listing::{ENCODED, Kind, List, Query, refused};
use super::super::print::texts;
use super::super::users::name;
use super::timeline::{Cause, Step, What, read};
use crate::time;

/// A user as it was shown last. A text is empty where nothing is known.
#[derive(Default)]
pub(super) struct Person {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) email: String,
    pub(super) directory: String,
    pub(super) directory_name: String,
    pub(super) organization: String,
}

impl Person {
    /// The user as shown at `moment`, else in the last millisecond before it ended.
    ///
    /// # Errors
    /// If the server does not answer.
    pub(super) fn find(
        client: &Client,
        id: &str,
        moment: &Query,
        steps: &[Step],
    ) -> Result<Person, Failure> {
        let ended = steps.iter().rev().find(|step| step.whats.iter().any(ends));
        let before =
            ended.and_then(|step| Some(time::format(time::parse(&step.at)?.checked_sub(1)?)));
        let known_at = moment.value("known_at").map(str::to_owned);
        let before = before
            .map(|as_of| Query::default().with("as_of", Some(as_of)).with("known_at", known_at));
        for moment in [Some(moment.clone()), before].into_iter().flatten() {
            let Some(user) = one(client, "/directory_users", id, &moment)? else { continue };
            let [email, directory, organization] =
                texts(&user, ["email", "directory_id", "organization_id"]);
            let directory_name = named(client, &directory, &moment)?;
            return Ok(Person {
                id: id.to_owned(),
                name: name(&user),
                email,
                directory,
                directory_name,
                organization,
            });
        }
        Ok(Person { id: id.to_owned(), ..Person::default() })
    }
}

fn ends(what: &What) -> bool {
    matches!(what, What::AccessEnded(_))
        || matches!(what, What::Version { change, .. } if change == "deleted")
}

/// What a directory was called at a moment; empty if there was none.
///
/// # Errors
/// If the server does not answer.
pub(super) fn named(client: &Client, directory: &str, moment: &Query) -> Result<String, Failure> {
    let shown =
        if directory.is_empty() { None } else { one(client, "/directories", directory, moment)? };
    Ok(shown.map(|directory| texts(&directory, ["name"]).concat()).unwrap_or_default())
}

/// One object by its id; `None` if there is none at that moment.
///
/// # Errors
/// If the server does not answer, or refuses for another reason.
pub(super) fn one(
    client: &Client,
    path: &str,
    id: &str,
    moment: &Query,
) -> Result<Option<Box<RawValue>>, Failure> {
    let answer = client.get(&moment.at(&format!("{path}/{}", utf8_percent_encode(id, ENCODED))))?;
    match answer.status {
        200 => Ok(Some(answer.json::<&RawValue>()?.to_owned())),
        404 => Ok(None),
        // Access may have ended ahead of the server's clock: of the moment before it nothing can be
        // asked yet.
        422 if answer.code() == "as_of_in_future" => Ok(None),
        _ => Err(refused(&answer, client, "")),
    }
}

const HOLDERS: Kind = Kind {
    path: "/rollcall/v1/users",
    nouns: ["user", "users"],
    scope: "",
    columns: &[],
    row: |_| Vec::new(),
};

/// The ids of the users who show an email at a moment, or showed it at any before; and that moment.
///
/// # Errors
/// The caller's, if there is nobody: it says whether that is because of the moment.
pub(super) fn with_email(
    client: &Client,
    email: &str,
    moment: &Query,
) -> Result<(BTreeSet<String>, Query), Failure> {
    let holders = |moment: &Query| {
        let filters = Query::default().with("email", Some(email)).with("order", Some("asc"));
        let (holders, moment) =
            List { kind: &HOLDERS, filters, first: moment.clone(), limit: None }
                .collect(client, HOLDERS.path)?;
        let ids: BTreeSet<String> =
            holders.iter().map(|holder| texts(holder, ["user_id"]).concat()).collect();
        Ok::<_, Failure>((ids, moment))
    };
    let (ids, then) = holders(moment)?;
    if !ids.is_empty() {
        return Ok((ids, then));
    }
    if is_cut(moment) {
        let (later, _) = holders(&Query::default())?;
        if let Some(failure) = not_yet(client, email, &later, &then)? {
            return Err(failure);
        }
    }
    Err(Failure::Caller(format!("nobody shows the email `{email}`, and nobody ever did")))
}

/// Whether a moment is asked for that may be before all that is known.
fn is_cut(moment: &Query) -> bool {
    moment.value("as_of").or(moment.value("known_at")).is_some()
}

/// Why nothing is told of a user of this id, if it is that nothing was known of it at `moment`, and
/// something is now.
///
/// # Errors
/// If the server does not answer.
pub(super) fn unknown_then(
    client: &Client,
    id: &str,
    moment: &Query,
) -> Result<Option<Failure>, Failure> {
    if !is_cut(moment) {
        return Ok(None);
    }
    let answer = client.get(&moment.at(&history(id)))?;
    if answer.status != 404 {
        return Ok(None);
    }
    let then = Query::default().with("as_of", answer.as_of).with("known_at", answer.known_at);
    not_yet(client, id, &BTreeSet::from([id.to_owned()]), &then)
}

fn history(id: &str) -> String {
    format!("{}/{}/history", HOLDERS.path, utf8_percent_encode(id, ENCODED))
}

/// That nothing was known of `subject` at `then`, with the first record about one of `users`;
/// `None` if there is none to this day.
fn not_yet(
    client: &Client,
    subject: &str,
    users: &BTreeSet<String>,
    then: &Query,
) -> Result<Option<Failure>, Failure> {
    let mut first: Option<(u64, String)> = None;
    for id in users {
        // Of an id that nobody ever spoke of there is no history.
        if client.get(&history(id))?.status == 404 {
            continue;
        }
        let list = List {
            kind: &HOLDERS,
            filters: Query::default(),
            first: Query::default(),
            limit: None,
        };
        let (versions, _) = list.collect(client, &history(id))?;
        for version in &versions {
            let Told { cause } = read(version)?;
            if first.as_ref().is_none_or(|(seq, _)| cause.seq < *seq) {
                first = Some((cause.seq, cause.occurred_at));
            }
        }
    }
    let told = |name: &str| then.value(name).unwrap_or("latest").to_owned();
    let sentence = |(seq, occurred_at): (u64, String)| {
        Failure::Caller(harmless(&format!(
            "nothing was known of `{subject}` as of {}, known at record {}: the first record about it is {seq}, of what happened on {occurred_at}",
            told("as_of"),
            told("known_at")
        )))
    };
    Ok(first.map(sentence))
}

/// What a version says of its event.
#[derive(Deserialize)]
struct Told {
    cause: Cause,
}
