//! The rates of SCIM: a directory with a large group, which an identity provider asks and changes.

use std::path::Path;

use rollcall::scim::{Deactivation, EventMaker, Kind, Snapshot, UserAfter, create};
use rollcall::verify::{ScimCredential, Verified};
use serde_json::{Value, json};

use crate::kit::{ORGANIZATION, open};
use crate::load::{Outcome, Request, Work};
use crate::report::Row;
use crate::server::{API_KEY, Server, built, send};
use crate::table::Table;

/// The members of the group, and the users who come and go.
const MEMBERS: usize = 100_000;
const OTHERS: usize = 4_000;
const QUICK_MEMBERS: usize = 300;
const QUICK_OTHERS: usize = 40;

/// The users of one batch of the log: each is two records.
const USERS_AT_ONCE: usize = 200;

/// The time in which nearly every request should be answered.
const SOON: &str = "p99 200 ms";

/// The rate at which a large provider sends for hours.
const CYCLE: &str = "25/s, p99 200 ms";

/// The time for which a provider waits for an answer.
const PATIENCE: &str = "60000";

/// A directory and its token.
struct Directory {
    id: String,
    token_id: String,
    token: String,
}

/// A measurement of one directory.
struct Scim<'a> {
    table: &'a mut Table,
    server: &'a Server,
    directory: &'a Directory,
    members: usize,
    others: usize,
    /// The path of the group.
    group: String,
}

/// Measures the requests of an identity provider.
pub(crate) fn measure(table: &mut Table, data: &Path, is_quick: bool) {
    let (members, others) = match is_quick {
        true => (QUICK_MEMBERS, QUICK_OTHERS),
        false => (MEMBERS, OTHERS),
    };
    let directory = Directory::make(data, members + others);
    let server = Server::start(built(), data, &[]);
    let (server, directory, group) = (&server, &directory, String::new());
    let mut scim = Scim { table, server, directory, members, others, group };
    scim.push();
    scim.members();
    scim.lookups();
    scim.cycle();
    scim.whole();
}

impl Directory {
    /// Has an operator create a directory, and writes users into its log as the server would: one
    /// after the other they would take as long as all that is measured.
    fn make(data: &Path, users: usize) -> Directory {
        std::fs::create_dir(data).unwrap();
        let server = Server::start(built(), data, &[]);
        let body = json!({ "name": "Bench", "organization_id": ORGANIZATION });
        let request = Request::new("POST", "/rollcall/v1/directories", API_KEY, Some(&body));
        let made: Value = serde_json::from_str(&send(server.address, &request).1).unwrap();
        server.stop();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let token = &made["scim"]["token"];
        let directory = Directory {
            id: text(&made["id"]),
            token_id: text(&token["id"]),
            token: text(&token["token"]),
        };
        let (log, mut numbers) = (open(data), 0..users);
        while !numbers.is_empty() {
            let some = numbers.by_ref().take(USERS_AT_ONCE);
            let records = some.flat_map(|number| directory.user_records(number)).collect();
            if let Err(error) = log.append(records, rollcall::time::now_ms()) {
                panic!("{error}");
            }
        }
        directory
    }

    /// Returns the records that a created user becomes.
    fn user_records(&self, number: usize) -> [Verified; 2] {
        let (id, now) = (scim_id(number), rollcall::time::now_ms());
        let request_id = format!("op_01980000-0000-7000-9000-{number:012x}");
        let body = user(number);
        let draft = create(Kind::User, &body.to_string()).unwrap();
        let mut maker = EventMaker {
            request_id: &request_id,
            occurred_at: now,
            directory_id: &self.id,
            organization_id: ORGANIZATION,
            deactivation: Deactivation::Delete,
            made: 0,
        };
        let document = &draft.document;
        let after = UserAfter { scim_id: &id, document, active: true, manager: None };
        let written = maker.user_written(None, after, &[]);
        let document: Value = serde_json::from_str(&document.text()).unwrap();
        let at = rollcall::time::format(now);
        let resource = json!({
            "type": "User", "id": id, "state": "active", "created_at": at, "document": document,
            "directory_user_id": written.snapshot.as_ref().and_then(Snapshot::id),
        });
        let data = json!({
            "directory_id": self.id, "organization_id": ORGANIZATION, "token_id": self.token_id,
            "method": "POST", "path": "/Users", "user_agent": "bench", "status": 201,
            "body": body, "redacted": [], "resource": resource,
        });
        let request = json!({
            "object": "event", "id": request_id, "event": "rollcall.scim.request",
            "created_at": at, "context": {}, "data": data,
        });
        let credential = ScimCredential::of(&self.token);
        let verified = |body: String| Verified::scim(&credential, body.into());
        [verified(request.to_string()), verified(written.events[0].body.clone())]
    }

    fn path(&self, below: &str) -> String {
        format!("/scim/v2/{}{below}", self.id)
    }

    fn request(&self, method: &str, below: &str, body: Option<&Value>) -> Request {
        Request::new(method, &self.path(below), &self.token, body)
    }

    /// Asks for the resources that a filter finds.
    fn found(&self, route: &str, filter: &str, more: &str) -> Request {
        let filter: String = form_urlencoded::byte_serialize(filter.as_bytes()).collect();
        self.request("GET", &format!("/{route}?filter={filter}{more}"), None)
    }
}

fn scim_id(number: usize) -> String {
    format!("01980000-0000-7000-8000-{number:012x}")
}

fn user(number: usize) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "externalId": format!("00u{number:017}"),
        "userName": format!("person.{number}@corp.test"),
        "name": { "givenName": format!("Given {number}"), "familyName": "Family" },
        "displayName": format!("Given Family {number}"),
        "emails": [
            { "primary": true, "type": "work", "value": format!("person.{number}@corp.test") },
        ],
        "active": true,
    })
}

fn patch(operation: &Value) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": [operation],
    })
}

fn values(numbers: impl Iterator<Item = usize>) -> Vec<Value> {
    numbers.map(|number| json!({ "value": scim_id(number) })).collect()
}

impl Scim<'_> {
    /// Creates the group with all members in one request.
    fn push(&mut self) {
        let members = values(0..self.members);
        let body = json!({ "displayName": "Everyone", "members": members });
        let request = self.directory.request("POST", "/Groups", Some(&body));
        let answer = self.once("create the group", &request);
        let made: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(made["members"].as_array().unwrap().len(), self.members);
        self.group = format!("/Groups/{}", made["id"].as_str().unwrap());
    }

    /// Measures one member more, one less, and the question if one is there.
    fn members(&mut self) {
        let others = self.members..self.members + self.others;
        let changes = |operation: &dyn Fn(usize) -> Value, numbers: std::ops::Range<usize>| {
            let one = |number| {
                let body = patch(&operation(number));
                self.directory.request("PATCH", &self.group, Some(&body))
            };
            numbers.map(one).collect::<Vec<Request>>()
        };
        let added = |number| {
            let value = values(std::iter::once(number));
            json!({ "op": "add", "path": "members", "value": value })
        };
        let removed = |number| json!({ "op": "remove", "path": format!("members[value eq \"{}\"]", scim_id(number)) });
        let (adding, removing) = (changes(&added, others.clone()), changes(&removed, others));
        let id = self.group.trim_start_matches("/Groups/");
        let probe = |number: usize| {
            let filter = format!("id eq \"{id}\" and members eq \"{}\"", scim_id(number));
            self.directory.found("Groups", &filter, "&excludedAttributes=members")
        };
        let probing = (0..self.members).step_by(7).take(64).map(probe).collect();
        let answered = self.writes("add a member", SOON, 1, adding).statuses.values().sum::<u64>();
        // Those who did not come cannot leave.
        let removing = removing.into_iter().take(answered as usize).collect();
        self.writes("remove a member", SOON, 1, removing);
        self.reads("is one a member", SOON, probing);
    }

    /// Measures the look-ups for which there is an index.
    fn lookups(&mut self) {
        for (name, filter) in [
            ("id", scim_id as fn(usize) -> String),
            ("userName", |number| format!("PERSON.{number}@corp.test")),
            ("externalId", |number| format!("00u{number:017}")),
            ("displayName", |number| format!("Given Family {number}")),
            ("emails.value", |number| format!("person.{number}@corp.test")),
        ] {
            // Of as many digits each, so that the answers have one size.
            let numbers = (self.members / 10 * 2..self.members).step_by(11).take(64);
            let one = |number| {
                let filter = format!("{name} eq \"{}\"", filter(number));
                self.directory.found("Users", &filter, "")
            };
            let requests = numbers.map(one).collect();
            self.reads(&format!("find by {name}"), SOON, requests);
        }
    }

    /// Measures what a provider sends for each user: it looks, creates, looks again and changes.
    fn cycle(&mut self) {
        let directory = self.directory;
        let requests = (0..self.others).flat_map(|at| {
            let (new, old) = (self.members + self.others + at, at % self.members);
            let title = json!({ "op": "replace", "path": "title", "value": format!("T{at}") });
            let path = format!("/Users/{}", scim_id(old));
            [
                directory.found("Users", &format!("userName eq \"person.{new}@corp.test\""), ""),
                directory.request("POST", "/Users", Some(&user(new))),
                directory.found("Users", &format!("externalId eq \"00u{new:017}\""), ""),
                directory.request("PATCH", &path, Some(&patch(&title))),
            ]
        });
        let requests = requests.collect();
        self.writes("look, create, look, change", CYCLE, 8, requests);
    }

    /// Measures what is about all members.
    fn whole(&mut self) {
        let group = self.directory.request("GET", &self.group, None);
        self.reads("show the group", "", vec![group]);
        let members = values(1..self.members);
        let body = json!({ "displayName": "Everyone", "members": members });
        let request = self.directory.request("PUT", &self.group, Some(&body));
        self.once("replace all members by all but one", &request);
        let request = self.directory.request("DELETE", &self.group, None);
        self.once("delete the group", &request);
    }

    /// Returns the name of a row.
    fn named(&self, work: &str) -> String {
        format!("scim, {work}, {} members", self.members)
    }

    /// Measures one large request, next to an empty handler that takes the same. Returns the answer.
    fn once(&mut self, work: &str, request: &Request) -> String {
        let (took, answer) = send(self.server.address, request);
        let (least, _) = send(self.table.limits.address, request);
        let (value, limit) = (took.as_secs_f64() * 1e3, least.as_secs_f64() * 1e3);
        let row = Row::of_value(&self.named(work), value, "ms", PATIENCE);
        let ratio = Some(limit / value);
        self.table.rows.push(Row { limit: Some(limit), limited_by: "empty handler", ratio, ..row });
        answer
    }

    /// Measures changes, each sent once, next to an empty handler that takes the same.
    fn writes(
        &mut self,
        work: &str,
        goal: &str,
        connections: usize,
        requests: Vec<Request>,
    ) -> Outcome {
        let some = requests.iter().take(64).cloned().collect();
        let (ours, none) = (self.server.address, self.table.limits.address);
        let ours = self.table.run(ours, connections, Work::Send { requests, once: true });
        let accepted = |status: &u16| (200..300).contains(status);
        assert!(ours.statuses.keys().all(accepted), "{work}: {:?}", ours.statuses);
        let empty = self.table.run(none, connections, Work::Send { requests: some, once: false });
        self.row(work, goal, &ours, ("empty handler", empty.per_s));
        ours
    }

    /// Measures questions, asked in turns, next to a fixed body of the same size.
    fn reads(&mut self, work: &str, goal: &str, requests: Vec<Request>) {
        let asking = Work::Send { requests, once: false };
        let ours = self.table.best(self.server.address, 1, asking);
        let fixed = Work::Get(vec![format!("/fixed/{}", ours.bytes)]);
        let limit = self.table.best(self.table.limits.address, 1, fixed);
        self.row(work, goal, &ours, ("fixed body of that size", limit.per_s));
    }

    fn row(&mut self, work: &str, goal: &str, outcome: &Outcome, limit: (&'static str, f64)) {
        let row = Row::of_load(self.named(work), outcome, limit, 0.0);
        self.table.rows.push(Row { goal: goal.to_owned(), ..row });
    }
}
