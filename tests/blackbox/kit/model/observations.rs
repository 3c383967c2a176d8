//! Observations: what the source said of one thing when it was asked (rule 34).

use serde_json::Value;

use super::{
    Cut, DirectoryChange, End, Event, Fact, Kind, Object, Record, Standing, View, World, entity_id,
    moment, text,
};

/// A comparison with the source that ended.
pub struct Comparison {
    seq: u64,
    /// When its record occurred.
    at: i64,
    started_ms: i64,
    /// The directories that it compared without a doubt.
    clean: Vec<String>,
}

impl World {
    /// Takes the body of a record that the server wrote about what the source said. Returns its
    /// seq.
    pub fn observe(&mut self, body: &[u8]) -> u64 {
        let parsed: Object = serde_json::from_slice(body).expect("the server writes JSON");
        let [id, event] = ["id", "event"].map(|key| text(&parsed, key).expect(key).to_owned());
        let at = moment(&parsed, "created_at").expect("created_at");
        let data = parsed["data"].as_object().expect("data").clone();
        let seq = self.append(Record {
            body: body.to_vec(),
            event_id: Some(id.clone()),
            event: Some(event.clone()),
            standing: Standing::First,
            listed: Vec::new(),
            is_copy: false,
            content: ["event", "data", "created_at"].map(|key| parsed.get(key).cloned()),
        });
        if event == "rollcall.reconciliation.completed" {
            let clean = data["clean_directories"].as_array().expect("a list").iter();
            let clean = clean.map(|id| id.as_str().expect("an id").to_owned()).collect();
            let started_ms = moment(&data, "started_at").expect("started_at");
            self.comparisons.push(Comparison { seq, at, started_ms, clean });
            return seq;
        }
        let (fact, closing) = observed(&event, &data);
        let updated_at = match data.get("object").and_then(Value::as_object) {
            Some(object) => moment(object, "updated_at"),
            None => None,
        };
        let asked_ms = Some(moment(&data, "observed_at").expect("observed_at"));
        self.events.push(Event { seq, at, closing, updated_at, id, asked_ms, fact });
        self.events.sort_by(|a, b| a.order().cmp(&b.order()));
        seq
    }

    /// The latest moment before the end of a user's access at which the source showed the user, if
    /// that end was observed.
    pub(super) fn not_before(&self, user: &str, end: i64, cause: &Event, cut: Cut) -> Option<i64> {
        cause.asked_ms?;
        let shows = |event: &&&Event| match &event.fact {
            Fact::Entity { kind: Kind::User, id, tombstone, .. } => id == user && !tombstone,
            Fact::Membership { user: end, described, added, .. } => {
                end.id == user && (*described || *added)
            }
            _ => false,
        };
        let view = self.view(cut);
        let events = view.events.iter().filter(shows);
        let events = events.map(|event| event.asked_ms.unwrap_or(event.at));
        let runs = self.comparisons.iter().filter(|run| self.shows(run, user, end, cut));
        let runs = runs.map(|run| run.started_ms);
        events.chain(runs).filter(|moment| *moment < end).max()
    }

    /// Whether a comparison found a user in the directory in which its access ended, as it was: there
    /// when the comparison began and when it ended, with access at both or at none, by what was known
    /// with its record.
    fn shows(&self, run: &Comparison, user: &str, end: i64, cut: Cut) -> bool {
        let is_seen = cut.as_of_ms.is_none_or(|as_of| run.at <= as_of)
            && cut.known_at.is_none_or(|known_at| run.seq <= known_at);
        let before = self.view(Cut { as_of_ms: Some(end - 1), ..cut });
        let Some(last) = before.newest_version(Kind::User, user) else { return false };
        let found = |moment: i64| {
            let then = self.view(Cut { as_of_ms: Some(moment), known_at: Some(run.seq) });
            let found = then.there(Kind::User, user)?;
            (found.directory == last.directory).then(|| then.access(user).is_some())
        };
        is_seen
            && run.clean.iter().any(|id| id == last.directory)
            && found(run.started_ms).is_some()
            && found(run.started_ms) == found(run.at)
    }
}

/// What an observation says, and whether it ends something.
fn observed(event: &str, data: &Object) -> (Fact, bool) {
    let present = data["present"] == true;
    let object = data.get("object").and_then(Value::as_object).cloned().unwrap_or_default();
    let id = |key: &str| entity_id(data, key).expect(key);
    match event {
        "rollcall.directory.observed" => {
            let is_off =
                matches!(text(&object, "state"), Some("unlinked" | "inactive" | "deleting"));
            let change = match (present, is_off) {
                (false, _) => DirectoryChange::Deleted,
                (true, true) => DirectoryChange::Deactivated,
                (true, false) => DirectoryChange::Activated,
            };
            (Fact::Directory { id: id("id"), change, data: object }, !present || is_off)
        }
        "rollcall.membership.observed" => {
            let end = |key| End { id: id(key), directory: None, data: Object::new() };
            let fact = Fact::Membership {
                added: present,
                described: false,
                directory: id("directory_id"),
                organization: None,
                group: end("group_id"),
                user: end("user_id"),
            };
            (fact, !present)
        }
        _ => {
            let kind = if event == "rollcall.user.observed" { Kind::User } else { Kind::Group };
            let directory = Some(id("directory_id"));
            let fact =
                Fact::Entity { kind, id: id("id"), directory, tombstone: !present, data: object };
            (fact, !present)
        }
    }
}

// --- Rules O1 and O6, and what is held: the decision before it is recorded ---

/// The thing about which the source is asked.
#[derive(Clone, Debug)]
pub enum Thing {
    Directory(String),
    /// With the directory of the object, or the one in which it was sought.
    User(String, String),
    Group(String, String),
    /// A user, a group, and the group's directory.
    Membership(String, String, String),
}

/// What becomes of an answer of the source that differs from what is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is recorded, and occurs at this moment.
    Recorded(i64),
    Unchanged,
    NewerEvent,
    UnknownUser,
    /// An operator deleted its directory here.
    DeletedHere,
}

impl World {
    /// What becomes of the answer that a thing is there, with its `updated_at`, or is not there.
    pub fn expected(
        &self,
        thing: &Thing,
        present: bool,
        said: Option<i64>,
        asked: i64,
    ) -> Expected {
        let view = self.view(Cut::default());
        let (Thing::Directory(home)
        | Thing::User(_, home)
        | Thing::Group(_, home)
        | Thing::Membership(_, _, home)) = thing;
        if view.is_deleted_here(home) {
            return Expected::DeletedHere;
        }
        let own = |event: &&&Event| match (&event.fact, thing) {
            (Fact::Directory { id, .. }, Thing::Directory(wanted)) => id == wanted,
            (Fact::Entity { kind: Kind::User, id, .. }, Thing::User(wanted, _)) => id == wanted,
            (Fact::Entity { kind: Kind::Group, id, .. }, Thing::Group(wanted, _)) => id == wanted,
            (Fact::Membership { user, group, .. }, Thing::Membership(of, into, _)) => {
                user.id == *of && group.id == *into
            }
            _ => false,
        };
        let is_newer = |event: &&Event| event.at >= asked || event.asked_ms >= Some(asked);
        if view.events.iter().filter(own).any(&is_newer) {
            return Expected::NewerEvent;
        }
        let is_there = match thing {
            Thing::Directory(id) => view.directory(id).is_some(),
            Thing::User(id, _) => view.there(Kind::User, id).is_some(),
            Thing::Group(id, _) => view.there(Kind::Group, id).is_some(),
            Thing::Membership(user, group, _) => {
                view.is_granted(group, user)
                    && view.there(Kind::User, user).is_some()
                    && view.there(Kind::Group, group).is_some()
            }
        };
        let shown_later = |event: &&&Event| {
            let of_user = |end: &End| matches!(thing, Thing::User(id, _) if end.id == *id);
            matches!(&event.fact, Fact::Membership { added: true, user, .. } if of_user(user))
        };
        match (present, is_there, thing) {
            (false, false, _) | (true, true, Thing::Membership(..)) => Expected::Unchanged,
            (false, true, _) => {
                let mut later = view.events.iter().filter(shown_later);
                match later.any(is_newer) {
                    true => Expected::NewerEvent,
                    false => Expected::Recorded(asked),
                }
            }
            (true, false, Thing::Membership(user, group, directory)) => {
                if view.there(Kind::User, user).is_none() {
                    return Expected::UnknownUser;
                }
                let ends = |event: &&&Event| match &event.fact {
                    Fact::Entity { kind, id, tombstone, .. } => {
                        let end = if *kind == Kind::User { user } else { group };
                        *tombstone && id == end
                    }
                    Fact::Directory { id, change, .. } => {
                        id == directory && *change == DirectoryChange::Deleted
                    }
                    Fact::Membership { .. } => false,
                };
                let is_ended = view.events.iter().filter(ends).any(|end| end.at >= asked);
                match is_ended || view.there(Kind::Group, group).is_none() {
                    true => Expected::NewerEvent,
                    false => Expected::Recorded(asked),
                }
            }
            (true, _, Thing::Directory(_)) => Expected::Recorded(asked),
            (true, _, Thing::User(_, directory) | Thing::Group(_, directory)) => {
                let deletion = view.latest_deletion(directory);
                if view.is_deleted(directory) || deletion.is_some_and(|end| end.at >= asked) {
                    return Expected::NewerEvent;
                }
                let is_named = view.events.iter().any(|event| event.names(directory));
                let is_active = !is_named || view.is_active_directory(directory);
                let is_after_all = |said: &i64| {
                    let mut own = view.events.iter().filter(own).chain(&deletion);
                    *said <= asked && own.all(|event| event.at < *said)
                };
                Expected::Recorded(said.filter(|_| is_active).filter(is_after_all).unwrap_or(asked))
            }
        }
    }
}

impl View<'_> {
    /// Tells if the latest deletion of a directory is an operator's, and no event has activated it
    /// since.
    fn is_deleted_here(&self, directory: &str) -> bool {
        let activation = self.latest(|fact| {
            matches!(fact,
            Fact::Directory { id, change: DirectoryChange::Activated, .. } if id == directory)
        });
        self.latest_deletion(directory).is_some_and(|deletion| {
            deletion.id.starts_with("op_")
                && activation.is_none_or(|activation| deletion.is_later_than(activation))
        })
    }
}
