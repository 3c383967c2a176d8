//! Who a user is, or was last, and who had an email.

use std::collections::BTreeSet;

use percent_encoding::utf8_percent_encode;
use serde_json::value::RawValue;

use super::super::super::Failure;
use super::super::super::client::Client;
use super::super::listing::{ENCODED, Kind, List, Query, refused};
use super::super::print::texts;
use super::super::users::name;
use super::timeline::{Step, What};
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
    pub(super) fn find(client: &Client, id: &str, moment: &Query, steps: &[Step]) -> Result<Person, Failure> {
        let ended = steps.iter().rev().find(|step| step.whats.iter().any(ends));
        let before = ended.and_then(|step| Some(time::format(time::parse(&step.at)?.checked_sub(1)?)));
        let known_at = moment.value("known_at").map(str::to_owned);
        let before = before.map(|as_of| Query::default().with("as_of", Some(as_of)).with("known_at", known_at));
        for moment in [Some(moment.clone()), before].into_iter().flatten() {
            let Some(user) = one(client, "/directory_users", id, &moment)? else { continue };
            let [email, directory, organization] = texts(&user, ["email", "directory_id", "organization_id"]);
            let shown = if directory.is_empty() { None } else { one(client, "/directories", &directory, &moment)? };
            let directory_name = shown.map(|directory| texts(&directory, ["name"]).concat()).unwrap_or_default();
            return Ok(Person { id: id.to_owned(), name: name(&user), email, directory, directory_name, organization });
        }
        Ok(Person { id: id.to_owned(), ..Person::default() })
    }
}

fn ends(what: &What) -> bool {
    matches!(what, What::AccessEnded(_)) || matches!(what, What::Version { change, .. } if change == "deleted")
}

/// One object by its id; `None` if there is none at that moment.
fn one(client: &Client, path: &str, id: &str, moment: &Query) -> Result<Option<Box<RawValue>>, Failure> {
    let answer = client.get(&moment.at(&format!("{path}/{}", utf8_percent_encode(id, ENCODED))))?;
    match answer.status {
        200 => Ok(Some(answer.json::<&RawValue>()?.to_owned())),
        404 => Ok(None),
        _ => Err(refused(&answer, client, "")),
    }
}

const HOLDERS: Kind = Kind { path: "/rollcall/v1/users", nouns: ["user", "users"], scope: "", columns: &[], row: |_| Vec::new() };

/// The ids of the users who show an email at a moment, or showed it at any before; and that moment.
///
/// # Errors
/// The caller's, if there is nobody.
pub(super) fn with_email(client: &Client, email: &str, moment: &Query) -> Result<(BTreeSet<String>, Query), Failure> {
    let filters = Query::default().with("email", Some(email)).with("order", Some("asc"));
    let list = List { kind: &HOLDERS, filters, first: moment.clone(), limit: None };
    let (holders, moment) = list.collect(client, HOLDERS.path)?;
    let ids: BTreeSet<String> = holders.iter().map(|holder| texts(holder, ["user_id"]).concat()).collect();
    if ids.is_empty() {
        return Err(Failure::Caller(format!("nobody shows the email `{email}`, and nobody ever did")));
    }
    Ok((ids, moment))
}
