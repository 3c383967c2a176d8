//! How fresh a timeline is: the newest records about the user and its directory, and what lies
//! about them in the quarantine.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::super::Failure;
use super::super::super::client::Client;
use super::super::listing::{ListPage, Query, ask, path_of};
use super::super::objects::{EventCause, parse};
use super::USERS_PATH;
use super::profile::UserProfile;

const QUARANTINE_PATH: &str = "/rollcall/v1/quarantine";

/// The number of records of the quarantine that the server looks at for one page.
const PAGE_RECORDS: u64 = 1000;

/// The most records in the quarantine that are kept for one user: the newest.
const ENTRIES_MAX: usize = 100;

/// The newest records about a user and its directory, and those in the quarantine.
#[derive(Default)]
pub(super) struct Freshness {
    pub(super) user: Option<EventCause>,
    pub(super) directory: Option<EventCause>,
    /// The newest first.
    pub(super) quarantine: Vec<QuarantineEntry>,
    /// The call that lists all, if the quarantine has more than the limit allowed.
    pub(super) all_quarantined: Option<String>,
}

/// A record that could not be used, or was used with a remark.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct QuarantineEntry {
    pub(super) seq: u64,
    pub(super) event_id: Option<String>,
    pub(super) event: Option<String>,
    pub(super) reason: String,
    pub(super) detail: String,
    pub(super) recorded_at: String,
}

impl Freshness {
    /// Asks for the newest records and the quarantine at a moment.
    ///
    /// # Errors
    /// If the server does not answer.
    pub(super) fn find(
        client: &Client,
        profile: &UserProfile,
        moment: &Query,
    ) -> Result<Freshness, Failure> {
        #[derive(Deserialize)]
        struct ApiLastHeard {
            user: Option<EventCause>,
            directory_id: Option<String>,
            directory: Option<EventCause>,
        }
        let path = format!("{}/last_heard", path_of(USERS_PATH, &profile.id));
        let heard: ApiLastHeard = ask(client, &moment.at(&path), "")?.json()?;
        let mut freshness =
            Freshness { user: heard.user, directory: heard.directory, ..Freshness::default() };
        // The server knows every email that the user had by then.
        let filters = Query::default()
            .with("user", Some(&profile.id))
            .with("directory", heard.directory_id)
            .with("known_at", moment.value("known_at"))
            .with("order", Some("desc"));
        freshness.read_quarantine(client, &filters)?;
        Ok(freshness)
    }

    fn read_quarantine(&mut self, client: &Client, filters: &Query) -> Result<(), Failure> {
        let mut after: Option<String> = None;
        loop {
            let question = filters.clone().with("limit", Some(PAGE_RECORDS.to_string()));
            let question = question.with("after", after);
            let answer = ask(client, &question.at(QUARANTINE_PATH), "")?;
            let page: ListPage = answer.json()?;
            for entry in &page.data {
                if self.quarantine.len() == ENTRIES_MAX {
                    self.all_quarantined = Some(filters.at(QUARANTINE_PATH));
                    return Ok(());
                }
                self.quarantine.push(parse(entry)?);
            }
            after = page.next().map(str::to_owned);
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// Returns the newest records, for programs.
    pub(super) fn last_heard(&self) -> Value {
        json!({
            "user": self.user.as_ref().map(cause),
            "directory": self.directory.as_ref().map(cause),
        })
    }

    /// Returns the records in the quarantine, for programs.
    pub(super) fn entries(&self) -> Value {
        let entry = |entry: &QuarantineEntry| {
            json!({
                "seq": entry.seq,
                "event_id": entry.event_id,
                "event": entry.event,
                "reason": entry.reason,
                "detail": entry.detail,
                "recorded_at": entry.recorded_at,
            })
        };
        self.quarantine.iter().map(entry).collect()
    }
}

fn cause(cause: &EventCause) -> Value {
    json!({
        "event_id": cause.event_id,
        "event": cause.event,
        "occurred_at": cause.occurred_at,
        "recorded_at": cause.recorded_at,
        "seq": cause.seq,
    })
}
