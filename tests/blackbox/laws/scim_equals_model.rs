//! Rules 32 and 33: the state of SCIM is a fold of its own records in order of seq, and equals the
//! naive model, whatever else arrives between them.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rollcall::hashes::fingerprint;
use rollcall::keys::ApiKeys;
use rollcall::log::{Log, MemoryLog};
use rollcall::scim::folded;
use rollcall::verify::{
    Act, HostedDirectory, HostedToken, ScimCredential, Told, Verified, token_sha256,
};
use rollcall_projections::{
    Cut, Deactivation, EventFilter, Reason, ScimIndex, ScimKind, Sight, Start, View, Views,
};
use serde_json::{Value, json};

use crate::kit::compare::{Tally, check_histories, count};
use crate::kit::model::rfc3339;
use crate::kit::model::scim::{After, Record, Said, Scim};
use crate::kit::road::{imported, pulled_at, verified_at};
use crate::kit::server::API_KEY;
use crate::laws::packed_views::{packed, unpacked};

/// Histories in a run at scale 1.
const HISTORIES: u64 = 48;

/// The steps of a history.
const STEPS: usize = 60;

const START_MS: i64 = 1_767_225_600_000;
const DIRECTORIES: [&str; 2] = ["directory_A", "directory_B"];

/// Draws a history: the records of identity providers, of operators and of other sources.
struct Teller {
    rng: StdRng,
    now: i64,
    made: u64,
}

impl Teller {
    fn id(&mut self, prefix: &str) -> String {
        self.made += 1;
        format!("{prefix}{:08x}-0000-7000-8000-000000000000", self.made)
    }

    fn said(&mut self, said: Said, event: Verified) -> Step {
        Step { said: Some(said), event }
    }

    /// Makes an operator's act.
    fn act(&self, act: &Act) -> Verified {
        let operator = ApiKeys::unrestricted([API_KEY]).identify(API_KEY).unwrap();
        Verified::operator(&operator, act, None, self.now).unwrap()
    }

    fn scim(&mut self, event: &str, id: String, data: Value, context: Value) -> Verified {
        let body = json!({ "object": "event", "id": id, "event": event, "data": data,
            "created_at": rfc3339(self.now), "context": context });
        Verified::scim(&ScimCredential::of("scim_secret"), body.to_string().into_bytes().into())
    }

    fn directory(&mut self, id: &str) -> Vec<Step> {
        let update = self.rng.random_bool(0.5);
        let deactivation = if update { Deactivation::Update } else { Deactivation::Delete };
        let directory = HostedDirectory {
            id: id.to_owned(),
            name: id.to_owned(),
            organization: "org_1".to_owned(),
            directory_type: "okta scim v2.0".to_owned(),
            deactivation,
            created_at: None,
        };
        let said = Said::Directory { id: id.to_owned(), update };
        let created = self.act(&Act::DirectoryCreated(directory.clone()));
        let told = self.act(&Act::Told(Told::Activated(directory)));
        vec![self.said(said, created), Step { said: None, event: told }]
    }

    /// Draws something that an identity provider or an operator does.
    fn draw(&mut self, model: &Scim) -> Vec<Step> {
        let directory = (*DIRECTORIES.choose(&mut self.rng).unwrap()).to_owned();
        if model.is_deleted(&directory) {
            return Vec::new();
        }
        match self.rng.random_range(0..20) {
            0 => self.token(directory),
            1 => self.revocation(directory, model),
            2 if self.rng.random_bool(0.1) => self.deletion(directory),
            2..11 => self.request(directory, false, model),
            11..15 => self.request(directory, true, model),
            _ => self.members(directory, model),
        }
    }

    fn token(&mut self, directory: String) -> Vec<Step> {
        let id = self.id("directory_token_");
        let expires = self.rng.random_bool(0.3);
        let expires_at = expires.then(|| START_MS + 1000 * self.rng.random_range(0..100));
        let sha256 = token_sha256(&id);
        let token = HostedToken {
            id: id.clone(),
            directory: directory.clone(),
            organization: "org_1".to_owned(),
            suffix: "wxyz".to_owned(),
            sha256,
            expires_at,
            created_at: None,
        };
        let event = self.act(&Act::TokenCreated(token));
        vec![self.said(Said::Token { directory, id, sha256, expires_at }, event)]
    }

    fn revocation(&mut self, directory: String, model: &Scim) -> Vec<Step> {
        let live = model.live_tokens(&directory, 0);
        let Some(id) =
            live.iter().collect::<Vec<_>>().choose(&mut self.rng).map(|id| (**id).to_owned())
        else {
            return Vec::new();
        };
        let token = HostedToken {
            id: id.clone(),
            directory: directory.clone(),
            organization: "org_1".to_owned(),
            suffix: "wxyz".to_owned(),
            sha256: [0; 32],
            expires_at: None,
            created_at: Some(START_MS),
        };
        let event = self.act(&Act::TokenRevoked(token));
        vec![self.said(Said::TokenRevoked { directory, id }, event)]
    }

    fn deletion(&mut self, directory: String) -> Vec<Step> {
        let act = Act::DirectoryDeleted { id: directory.clone(), not_before: self.now };
        let event = self.act(&act);
        vec![self.said(Said::DirectoryDeleted { id: directory }, event)]
    }

    /// Draws a request that creates, changes or deletes a user or group, with its events.
    fn request(&mut self, directory: String, group: bool, model: &Scim) -> Vec<Step> {
        let known = model.list(&directory, group);
        let known = known.choose(&mut self.rng).filter(|_| self.rng.random_bool(0.6));
        let id = known.map_or_else(|| self.id(""), |resource| resource.id.clone());
        let before = known.and_then(|resource| resource.after.object.clone());
        let kind = if group { "group" } else { "user" };
        let deletes = known.is_some() && self.rng.random_bool(0.2);
        let new_object = || format!("directory_{kind}_");
        let object = match self.rng.random_range(0..4) {
            _ if deletes => None,
            0 => None,
            1 if before.is_some() => before.clone(),
            _ => Some(before.clone().unwrap_or_else(|| self.id(&new_object()))),
        };
        let document = (!deletes).then(|| self.document(group));
        let active = group || self.rng.random_bool(0.7);
        let request = self.id("op_");
        let object_field = format!("directory_{kind}_id");
        let mut resource = json!({ "type": if group { "Group" } else { "User" }, "id": id,
            "state": if active { "active" } else { "inactive" }, "document": document });
        resource[object_field] = json!(object);
        let data = json!({ "directory_id": directory, "organization_id": "org_1",
            "token_id": "directory_token_1", "method": "PATCH", "path": "/Users/x",
            "user_agent": null, "status": 200, "body": { "x": 1 }, "redacted": [],
            "resource": resource });
        let event = self.scim("rollcall.scim.request", request.clone(), data, json!({}));
        let after = After { object, active, document };
        let said = Said::Request { directory: directory.clone(), group, id, after };
        let mut steps = vec![self.said(said, event)];
        for _ in 0..self.rng.random_range(0..3) {
            let event_id = format!("event_{}", self.id("x"));
            let data = json!({ "id": self.id("directory_user_"), "directory_id": directory,
                "state": "active" });
            let context = json!({ "scim": { "request_id": request } });
            let event = self.scim("dsync.user.created", event_id, data, context);
            steps.push(self.said(Said::Event { directory: directory.clone() }, event));
        }
        steps
    }

    fn document(&mut self, group: bool) -> Value {
        let mut text = |words: &[&str]| json!(words.choose(&mut self.rng).unwrap());
        let names = ["Ana", "ana", "ANA", "Bo", "cy"];
        let mut document = json!({ "externalId": text(&["7", "x7", "X7"]) });
        document["displayName"] = text(&names);
        if !group {
            document["userName"] = text(&names);
            document["emails"] =
                json!([{ "value": text(&["a@x", "A@X"]) }, { "value": text(&["b@x"]) }]);
        }
        document
    }

    /// Draws a change of the members of a group.
    fn members(&mut self, directory: String, model: &Scim) -> Vec<Step> {
        let groups = model.list(&directory, true);
        let Some(group) = groups.choose(&mut self.rng).map(|group| group.id.clone()) else {
            return Vec::new();
        };
        // Users, groups, and ids that are not known or were deleted.
        let mut ids: Vec<String> = [false, true]
            .into_iter()
            .flat_map(|group| model.list(&directory, group))
            .map(|resource| resource.id)
            .collect();
        ids.push(self.id(""));
        ids.extend(model.records.iter().filter_map(|record| match &record.said {
            Said::Request { directory: own, id, .. } if *own == directory => Some(id.clone()),
            _ => None,
        }));
        let mut some = |at_most: usize| -> Vec<String> {
            let count = self.rng.random_range(0..=at_most);
            ids.sample(&mut self.rng, count).cloned().collect()
        };
        let (added, removed) = (some(4), some(2));
        let removed: Vec<String> = removed.into_iter().filter(|id| !added.contains(id)).collect();
        let values: Vec<Value> = added.iter().map(|id| json!({ "value": id })).collect();
        let data = json!({ "directory_id": directory, "organization_id": "org_1",
            "request_id": "op_1", "group": group, "added": values, "removed": removed });
        let id = self.id("op_");
        let event = self.scim("rollcall.scim.members", id, data, json!({}));
        vec![self.said(Said::Members { group, added, removed }, event)]
    }

    /// Draws an event of another source. Returns it, and true if it is about a directory of an
    /// identity provider.
    fn foreign(&mut self, objects: &[String]) -> (Verified, bool) {
        let hosted = self.rng.random_bool(0.5);
        let own = *DIRECTORIES.choose(&mut self.rng).unwrap();
        let directory = if hosted { own } else { "directory_elsewhere" };
        let known = objects.choose(&mut self.rng).filter(|_| hosted);
        let user = known.cloned().unwrap_or_else(|| self.id("directory_user_"));
        let user_data = json!({ "id": user, "directory_id": directory, "state": "active" });
        let (event, data) = match self.rng.random_range(0..5) {
            0 => ("dsync.user.updated", user_data),
            // It names no directory: the user's own counts.
            1 if known.is_some() => ("dsync.user.deleted", json!({ "id": user })),
            2 => ("dsync.deleted", json!({ "id": directory })),
            3 => (
                "dsync.group.user_removed",
                json!({ "directory_id": directory,
                "user": user_data, "group": { "id": "directory_group_x" } }),
            ),
            _ => (
                "dsync.group.created",
                json!({ "id": self.id("directory_group_"),
                "directory_id": directory, "name": "x" }),
            ),
        };
        let body = json!({ "object": "event", "id": format!("wh_{}", self.id("")),
            "event": event, "data": data, "created_at": rfc3339(self.now), "context": {} });
        let body = body.to_string();
        let event = match self.rng.random_range(0..3) {
            0 => verified_at(body.as_bytes(), self.now),
            1 => pulled_at(body.as_bytes(), self.now),
            _ => imported(body.as_bytes()),
        };
        (event, hosted)
    }
}

/// A record, and what it says of SCIM.
struct Step {
    said: Option<Said>,
    event: Verified,
}

/// A log with its views, both grown record by record.
struct Folded {
    log: MemoryLog,
    views: Views,
}

impl Folded {
    fn new() -> Folded {
        Folded { log: MemoryLog::new([7; 16]), views: Views::new() }
    }

    /// Returns the record's seq.
    fn add(&mut self, event: Verified, at: i64) -> u64 {
        self.log.append(vec![event], at).unwrap();
        let views = &mut self.views;
        self.log.entries(views.head(), 1, &mut |entry| views.apply(entry)).unwrap();
        self.views.head()
    }
}

#[test]
fn what_scim_shows_is_a_fold_of_its_own_records() {
    let tally = Tally::default();
    let histories = check_histories(HISTORIES, |seed| check(seed, &tally));
    let tally = tally.into_inner().unwrap();
    println!("compared, and not empty: {tally:?}");
    for kind in ["users", "groups", "members", "events", "tokens", "foreign"] {
        let [_, full] = tally.get(kind).copied().unwrap_or_default();
        assert!(full >= histories, "{kind}: {tally:?}");
    }
}

fn check(seed: u64, tally: &Tally) {
    let mut teller = Teller { rng: StdRng::seed_from_u64(seed), now: START_MS, made: 0 };
    let (mut folded, mut alone, mut model) = (Folded::new(), Folded::new(), Scim::default());
    let mut foreign = BTreeSet::new();
    let mut steps = Vec::new();
    for step in 0..STEPS {
        teller.now += teller.rng.random_range(0..2000);
        steps.extend(match DIRECTORIES.get(step) {
            Some(directory) => teller.directory(directory),
            None => teller.draw(&model),
        });
        for Step { said, event } in std::mem::take(&mut steps) {
            alone.add(event.clone(), teller.now);
            let seq = folded.add(event, teller.now);
            model.records.extend(said.map(|said| Record { seq, at: teller.now, said }));
        }
        if step > DIRECTORIES.len() && teller.rng.random_bool(0.4) {
            let objects = users_of(&folded.views);
            let (event, is_foreign) = teller.foreign(&objects);
            let seq = folded.add(event, teller.now);
            foreign.extend(is_foreign.then_some(seq));
        }
        if step == STEPS / 2 {
            // What is folded after a snapshot meets the same state.
            folded.views = unpacked(&packed(&folded.views)).unwrap();
        }
        if step.is_multiple_of(7) || step + 1 == STEPS {
            let about = format!("history {seed}, step {step}");
            check_state(&folded.views, &model, teller.now, &about, tally);
        }
    }
    let listed = folded.views.quarantine().iter();
    let listed: BTreeSet<u64> = listed
        .filter(|entry| entry.reason == Reason::ForeignDirectory)
        .map(|entry| entry.seq)
        .collect();
    assert_eq!(listed, foreign, "history {seed}");
    count(tally, "foreign", !foreign.is_empty());
    check_untouched(&folded.views, &alone.views, seed);
}

/// Returns the users of the directories of identity providers.
fn users_of(views: &Views) -> Vec<String> {
    let seen = views.seen_by(&Sight::All);
    let mut ids = Vec::new();
    let mut text = String::new();
    views.dump(View::Users, views.head(), 0, usize::MAX, &mut text).unwrap();
    for line in text.lines().filter(|line| line.starts_with("user ")) {
        let id = line.split('"').nth(1).unwrap().to_owned();
        let directory = seen.last_directory_of_user(&id).unwrap_or_default();
        if DIRECTORIES.contains(&directory) {
            ids.push(id);
        }
    }
    ids
}

/// Checks that the events of other sources changed nothing in the directories of identity
/// providers: the users there are those of a log without such events.
fn check_untouched(with: &Views, without: &Views, seed: u64) {
    let own = users_of(without);
    assert_eq!(users_of(with), own, "history {seed}");
    let is_there =
        |views: &Views, id: &str| views.seen_by(&Sight::All).user(id, Cut::LATEST).is_some();
    for id in own {
        assert_eq!(is_there(with, &id), is_there(without, &id), "history {seed}, {id}");
    }
    let states = [with, without].map(|views| {
        let of = |id: &&str| {
            let scim = views.scim();
            let resources = |kind| {
                let list = scim.list(id, kind, 0);
                list.map(|one| (one.id, one.active, one.modified_at)).collect::<Vec<_>>()
            };
            (resources(ScimKind::User), resources(ScimKind::Group))
        };
        DIRECTORIES.iter().map(of).collect::<Vec<_>>()
    });
    assert_eq!(states[0], states[1], "history {seed}");
}

fn check_state(views: &Views, model: &Scim, now: i64, about: &str, tally: &Tally) {
    let scim = views.scim();
    for directory in DIRECTORIES {
        if !model.hosts(directory) {
            assert!(scim.directory(directory).is_none(), "{about}");
            continue;
        }
        for (kind, group) in [(ScimKind::User, false), (ScimKind::Group, true)] {
            check_list(views, model, directory, kind, group, about);
            count(tally, if group { "groups" } else { "users" }, scim.count(directory, kind) > 0);
        }
        check_members(views, model, directory, about, tally);
        check_requests(views, model, directory, about, tally);
        let live = model.live_tokens(directory, now);
        for token in &scim.directory(directory).unwrap().tokens {
            let found = scim.live_token(directory, &token_sha256(&token.id), now);
            assert_eq!(found.is_some(), live.contains(&*token.id), "{about}: {}", token.id);
        }
        assert!(scim.live_token(directory, &token_sha256("another"), now).is_none(), "{about}");
        count(tally, "tokens", !live.is_empty());
    }
}

fn check_list(
    views: &Views,
    model: &Scim,
    directory: &str,
    kind: ScimKind,
    group: bool,
    about: &str,
) {
    let scim = views.scim();
    let expected = model.list(directory, group);
    let found: Vec<String> =
        scim.list(directory, kind, 0).map(|resource| resource.id.to_string()).collect();
    let ids: Vec<&String> = expected.iter().map(|resource| &resource.id).collect();
    assert_eq!(found.iter().collect::<Vec<_>>(), ids, "{about}, {directory}");
    assert_eq!(scim.count(directory, kind), ids.len(), "{about}");
    for wanted in &expected {
        let about = format!("{about}, {}", wanted.id);
        let found = scim.resource(directory, kind, &wanted.id).unwrap();
        let seqs = (found.seq, found.etag_seq, found.modified_at, found.created_at);
        let wanted_seqs = (wanted.seq, wanted.etag_seq, wanted.modified_at, wanted.created_at);
        assert_eq!(seqs, wanted_seqs, "{about}");
        assert_eq!(scim.object_of(found), wanted.after.object.as_deref(), "{about}");
        assert_eq!(found.active, wanted.after.active, "{about}");
        if let Some(since) = wanted.object_since {
            assert_eq!(found.object_since, since, "{about}");
        }
        // It is not found in the other directory, nor as the other kind.
        let other = if kind == ScimKind::User { ScimKind::Group } else { ScimKind::User };
        assert!(scim.resource(directory, other, &wanted.id).is_none(), "{about}");
    }
    let display = if group { ScimIndex::GroupDisplayName } else { ScimIndex::UserDisplayName };
    let external = if group { ScimIndex::GroupExternalId } else { ScimIndex::UserExternalId };
    for text in ["Ana", "bo", "CY", "7", "x7", "X7", "a@x", "b@x", "none"] {
        for (index, name) in [
            (ScimIndex::UserName, "userName"),
            (display, "displayName"),
            (external, "externalId"),
            (ScimIndex::Email, "emails"),
        ] {
            if group && [ScimIndex::UserName, ScimIndex::Email].contains(&index) {
                continue;
            }
            let exact = name == "externalId";
            let form = |text: &str| if exact { text.to_owned() } else { folded(text) };
            let has = |value: &Value| value.as_str().is_some_and(|own| form(own) == form(text));
            let fits = |document: &Value| match name {
                "emails" => document[name]
                    .as_array()
                    .is_some_and(|all| all.iter().any(|one| has(&one["value"]))),
                _ => has(&document[name]),
            };
            let wanted: BTreeSet<&String> = expected
                .iter()
                .filter(|one| one.after.document.as_ref().is_some_and(fits))
                .map(|one| &one.id)
                .collect();
            let found = scim.find(directory, index, fingerprint(&form(text)));
            let found: Vec<String> = found.map(|one| one.id.to_string()).collect();
            assert_eq!(found.iter().collect::<BTreeSet<_>>(), wanted, "{about}: {name} {text}");
            assert_eq!(found.len(), wanted.len(), "{about}: {name} {text}");
        }
    }
}

fn check_members(views: &Views, model: &Scim, directory: &str, about: &str, tally: &Tally) {
    let scim = views.scim();
    let all: Vec<String> = [false, true]
        .into_iter()
        .flat_map(|group| model.list(directory, group))
        .map(|resource| resource.id)
        .collect();
    for group in model.list(directory, true) {
        let wanted = model.members(&group.id);
        let own = scim.resource(directory, ScimKind::Group, &group.id).unwrap();
        let found: Vec<String> =
            scim.members(own, None).map(|member| member.resource.id.to_string()).collect();
        assert_eq!(found.iter().cloned().collect::<BTreeSet<_>>(), wanted, "{about}, {}", group.id);
        assert_eq!((found.len(), own.member_count()), (wanted.len(), wanted.len()), "{about}");
        count(tally, "members", !wanted.is_empty());
        for id in &all {
            let of_any = |kind| scim.resource(directory, kind, id);
            let member = of_any(ScimKind::User).or_else(|| of_any(ScimKind::Group)).unwrap();
            let is_in = wanted.contains(id);
            assert_eq!(scim.is_member(own, member), is_in, "{about}, {id}");
            let groups: Vec<String> =
                scim.groups_of(member).map(|group| group.id.to_string()).collect();
            assert_eq!(groups.contains(&group.id), is_in, "{about}, {id}");
        }
    }
}

fn check_requests(views: &Views, model: &Scim, directory: &str, about: &str, tally: &Tally) {
    let scim = views.scim();
    let wanted = model.requests(directory);
    let found = scim.requests(Some(directory), None, 1..=u64::MAX, false, usize::MAX);
    let described: Vec<(u64, Vec<u64>)> = found
        .iter()
        .map(|request| (request.seq, scim.events_of_request(request, usize::MAX).1))
        .collect();
    assert_eq!(described, wanted, "{about}, {directory}");
    count(tally, "events", wanted.iter().any(|(_, events)| events.len() > 1));
    let mut reversed = scim.requests(Some(directory), None, 1..=u64::MAX, true, usize::MAX);
    reversed.reverse();
    assert_eq!(reversed, found, "{about}");
    for resource in [false, true].into_iter().flat_map(|group| model.list(directory, group)) {
        let kinds = [ScimKind::User, ScimKind::Group];
        let own = kinds.into_iter().find_map(|kind| scim.resource(directory, kind, &resource.id));
        let of = scim.requests(None, own, 1..=u64::MAX, false, usize::MAX);
        let all: Vec<u64> = of.iter().map(|request| request.seq).collect();
        let wanted: Vec<u64> = model
            .records
            .iter()
            .filter(|record| matches!(&record.said, Said::Request { id, .. } if *id == resource.id))
            .map(|record| record.seq)
            .collect();
        assert_eq!(all, wanted, "{about}, {}", resource.id);
        // A part of them, from both ends.
        if let [first, .., last] = all.as_slice() {
            let part = scim.requests(None, own, first + 1..=last - 1, true, usize::MAX);
            assert_eq!(part.len(), all.len() - 2, "{about}");
        }
    }
    // What identity providers sent is listed only by name.
    let types = ["rollcall.scim.request".to_owned()];
    let filter = EventFilter { event_types: &types, organization: None, from: None, until: None };
    let step = views.seen_by(&Sight::All).events_step(&filter, Cut::LATEST, Start::After(0), 1);
    assert_eq!(
        step.items.is_empty(),
        model.requests("directory_A").is_empty() && model.requests("directory_B").is_empty(),
        "{about}"
    );
}
