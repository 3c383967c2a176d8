//! The user whose timeline is shown, and the users who ever had an email.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::super::Failure;
use super::super::super::client::Client;
use super::super::super::table::harmless;
use super::super::listing::{List, Query, path_of, refused};
use super::super::objects::{EventCause, parse, person_name};
use super::super::print::texts;
use super::USERS_PATH;
use super::timeline::{Step, UserChange};
use crate::time;

/// The most ends of a user that are looked at, the newest first.
const ENDINGS_MAX: usize = 32;

/// A user's last known fields. A text is empty if nothing is known.
#[derive(Default)]
pub(super) struct UserProfile {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) email: String,
    pub(super) directory: String,
    pub(super) directory_name: String,
    pub(super) organization: String,
}

impl UserProfile {
    /// Asks for the user at `moment`, and if the user had ended by then, one millisecond before the
    /// end. A user who is deleted several times without coming back was not there before the last
    /// of these deletions, so that this asks about the one before, up to [`ENDINGS_MAX`] of them.
    ///
    /// # Errors
    /// If the server does not answer.
    pub(super) fn find(
        client: &Client,
        id: &str,
        moment: &Query,
        steps: &[Step],
    ) -> Result<UserProfile, Failure> {
        if let Some(profile) = UserProfile::at(client, id, moment)? {
            return Ok(profile);
        }
        let endings = steps.iter().rev().filter(|step| step.changes.iter().any(ends_user));
        let befores = endings.filter_map(|step| millisecond_before(&step.at));
        let known_at = moment.value("known_at").map(str::to_owned);
        for before in befores.take(ENDINGS_MAX) {
            let before = Query::moment(Some(before), known_at.clone());
            if let Some(profile) = UserProfile::at(client, id, &before)? {
                return Ok(profile);
            }
        }
        Ok(UserProfile { id: id.to_owned(), ..UserProfile::default() })
    }

    fn at(client: &Client, id: &str, moment: &Query) -> Result<Option<UserProfile>, Failure> {
        let Some(user) = find_object(client, "/directory_users", id, moment)? else {
            return Ok(None);
        };
        let [email, directory, organization] =
            texts(&user, ["email", "directory_id", "organization_id"]);
        Ok(Some(UserProfile {
            id: id.to_owned(),
            name: person_name(&user),
            email,
            directory_name: directory_name(client, &directory, moment)?,
            directory,
            organization,
        }))
    }
}

fn ends_user(change: &UserChange) -> bool {
    match change {
        UserChange::AccessEnded { .. } => true,
        UserChange::Version { change, .. } => change == "deleted",
        _ => false,
    }
}

/// Returns the last millisecond before a moment of the API.
pub(super) fn millisecond_before(moment: &str) -> Option<String> {
    Some(time::format(time::parse(moment)?.checked_sub(1)?))
}

/// Asks for a directory's name at a moment; empty if it did not exist then.
///
/// # Errors
/// If the server does not answer.
pub(super) fn directory_name(
    client: &Client,
    directory: &str,
    moment: &Query,
) -> Result<String, Failure> {
    if directory.is_empty() {
        return Ok(String::new());
    }
    let found = find_object(client, "/directories", directory, moment)?;
    Ok(found.map(|directory| texts(&directory, ["name"]).concat()).unwrap_or_default())
}

/// Asks for an object by its id; `None` if it does not exist at that moment.
///
/// # Errors
/// If the server does not answer, or refuses for another reason.
pub(super) fn find_object(
    client: &Client,
    path: &str,
    id: &str,
    moment: &Query,
) -> Result<Option<Box<RawValue>>, Failure> {
    let answer = client.get(&moment.at(&path_of(path, id)))?;
    match answer.status {
        200 => Ok(Some(answer.json::<&RawValue>()?.to_owned())),
        404 => Ok(None),
        // Access may end ahead of the server's clock, and then the server does not yet answer about
        // the moment before.
        422 if answer.code() == "as_of_in_future" => Ok(None),
        _ => Err(refused(&answer, client, "")),
    }
}

/// The users who had an email at a moment or before, or else later, and that moment.
pub(super) struct EmailHolders {
    pub(super) ids: BTreeSet<String>,
    pub(super) moment: Query,
}

impl EmailHolders {
    /// Asks for the users who had an email.
    ///
    /// # Errors
    /// The caller's, if there are none; it says whether there are some at a later moment.
    pub(super) fn find(
        client: &Client,
        email: &str,
        moment: &Query,
    ) -> Result<EmailHolders, Failure> {
        let holders = EmailHolders::at(client, email, moment)?;
        if !holders.ids.is_empty() {
            return Ok(holders);
        }
        // Users who got it later have pages without an event, as they have if asked for by id.
        let ever = EmailHolders::at(client, email, &known_at(&holders.moment))?;
        if !ever.ids.is_empty() {
            return Ok(EmailHolders { moment: holders.moment, ..ever });
        }
        if is_cut(moment) {
            let later = EmailHolders::at(client, email, &Query::default())?;
            if let Some(failure) = not_yet_known(client, email, &later.ids, &holders.moment)? {
                return Err(failure);
            }
        }
        Err(Failure::Caller(format!("no user has or had the email `{email}`")))
    }

    fn at(client: &Client, email: &str, moment: &Query) -> Result<EmailHolders, Failure> {
        let filters = Query::default().with("email", Some(email)).with("order", Some("asc"));
        let list = List { filters, ..List::all(USERS_PATH, moment.clone()) };
        let holders = list.collect(client)?;
        let ids = holders.objects.iter().map(|holder| texts(holder, ["user_id"]).concat());
        Ok(EmailHolders { ids: ids.collect(), moment: holders.listed.moment() })
    }
}

/// Returns true if the question is about a moment that may leave out some records.
fn is_cut(moment: &Query) -> bool {
    moment.value("as_of").or(moment.value("known_at")).is_some()
}

/// Explains why there is no user of this id, if there is one at a later moment.
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
    let answer = client.get(&moment.at(&history_path(id)))?;
    if answer.status != 404 {
        return Ok(None);
    }
    let then = Query::moment(answer.as_of, answer.known_at);
    not_yet_known(client, id, &BTreeSet::from([id.to_owned()]), &then)
}

/// Asks for the first record about a user that is known at `moment`, whenever it happened.
///
/// # Errors
/// If the server does not answer.
pub(super) fn first_record(
    client: &Client,
    id: &str,
    moment: &Query,
) -> Result<Option<EventCause>, Failure> {
    Ok(history_causes(client, id, &known_at(moment))?.into_iter().min_by_key(|cause| cause.seq))
}

/// Returns the moment that sees all that is known at another one, whenever it happened.
fn known_at(moment: &Query) -> Query {
    Query::moment(None, moment.value("known_at").map(str::to_owned))
}

fn history_path(id: &str) -> String {
    format!("{}/history", path_of(USERS_PATH, id))
}

/// Explains that `subject` was not known yet at `then`, by the first record about one of `users`;
/// `None` if there is no such record.
fn not_yet_known(
    client: &Client,
    subject: &str,
    users: &BTreeSet<String>,
    then: &Query,
) -> Result<Option<Failure>, Failure> {
    let mut first: Option<EventCause> = None;
    for id in users {
        let causes = history_causes(client, id, &Query::default())?;
        first = first.into_iter().chain(causes).min_by_key(|cause| cause.seq);
    }
    let moment = |name: &str| then.value(name).unwrap_or("latest").to_owned();
    Ok(first.map(|cause| {
        Failure::Caller(harmless(&format!(
            "nothing was known of `{subject}` as of {}, known at record {}: \
             the first record about it is {}, of what happened on {}",
            moment("as_of"),
            moment("known_at"),
            cause.seq,
            cause.occurred_at
        )))
    }))
}

/// Asks for the events of a user's history; none if the id was never in any record.
fn history_causes(client: &Client, id: &str, moment: &Query) -> Result<Vec<EventCause>, Failure> {
    #[derive(Deserialize)]
    struct HistoryEvent {
        cause: EventCause,
    }
    if client.get(&moment.at(&history_path(id)))?.status == 404 {
        return Ok(Vec::new());
    }
    let versions = List::all(history_path(id), moment.clone()).collect(client)?.objects;
    versions
        .iter()
        .map(|version| parse::<HistoryEvent>(version).map(|version| version.cause))
        .collect()
}
