//! Each call over a short and a long log: its median at one connection, for answers of one size.

use std::path::PathBuf;

use serde::Serialize;

use crate::Options;
use crate::chart::{Bar, GROWTH_MAX, draw};
use crate::history::{
    BUSY_HISTORY_GROUP, COMEBACK_USER, JOINER, Known, QUIET_DIRECTORY, QUIET_ORGANIZATION,
    REBORN_USER, RENAMED_GROUP, build, busy_user, group_of_seats, quiet_user,
};
use crate::kit::{DIRECTORY, ORGANIZATION, REVOLVING_GROUP, email, group_id, user_id};
use crate::load::{Outcome, Plan, Work};
use crate::pushed::Pushed;
use crate::server::{Server, built};

const RECORDS: [u64; 3] = [10_000, 100_000, 1_000_000];
const QUICK_RECORDS: [u64; 2] = [10_000, 12_000];

/// The form of the logs. Those of other forms that were kept are not used.
const LOG_FORM: u32 = 2;

/// The time for one call, in milliseconds, and how often it is measured: the least median counts.
const CALL_MS: u64 = 400;
const QUICK_CALL_MS: u64 = 50;
const ROUNDS: usize = 2;
const QUICK_ROUNDS: usize = 1;

/// The calls that are not measured: there is no rebuild and no reconciliation to tell of, and `/Me`
/// is always refused.
const LEFT_OUT: [&str; 3] = [
    "/rollcall/v1/projections/rebuild",
    "/rollcall/v1/reconciliations/{id}",
    "/scim/v2/{directory_id}/Me",
];

/// Two answers have one size if the larger is no more than this many times the other, or this many
/// bytes larger.
const SAME_SIZE: f64 = 1.2;
const SAME_BYTES: usize = 64;

/// A call: its name, and the paths that are asked in turns.
struct Call {
    name: String,
    paths: Vec<String>,
    /// The bearer token, if it is not the operator's key.
    token: Option<String>,
}

/// The medians of one call by one server.
#[derive(Serialize)]
struct Measured {
    call: String,
    server: usize,
    /// The records of each log, the median in microseconds, and the bytes of the answer.
    at: Vec<(u64, f64, usize)>,
    /// The last median in parts of the first.
    growth: f64,
    /// False if the answers differ in size, so that the growth is not of the log alone.
    has_one_size: bool,
}

impl Measured {
    /// Notes a median, and keeps the least over one log.
    fn note(&mut self, at: (u64, f64, usize)) {
        match self.at.iter_mut().find(|(records, ..)| *records == at.0) {
            Some(known) if known.1 <= at.1 => {}
            Some(known) => *known = at,
            None => self.at.push(at),
        }
    }

    fn compare(&mut self) {
        let (first, last) = (self.at.first().unwrap().1, self.at.last().unwrap().1);
        self.growth = last / first;
        let bytes = self.at.iter().map(|(.., bytes)| *bytes);
        let (least, most) = (bytes.clone().min().unwrap(), bytes.max().unwrap());
        self.has_one_size = most - least <= SAME_BYTES || most as f64 <= least as f64 * SAME_SIZE;
    }
}

/// Measures each call and prints the medians.
pub(crate) fn measure(options: &Options) {
    let temporary = tempfile::tempdir().unwrap();
    let folder = options.logs.as_deref().unwrap_or(temporary.path());
    let sizes: Vec<u64> = match &options.records[..] {
        [] if options.quick => QUICK_RECORDS.to_vec(),
        [] => RECORDS.to_vec(),
        given => given.to_vec(),
    };
    let binaries: Vec<PathBuf> = match &options.binary[..] {
        [] => vec![built().to_owned()],
        given => given.to_vec(),
    };
    let (ms, rounds) =
        if options.quick { (QUICK_CALL_MS, QUICK_ROUNDS) } else { (CALL_MS, ROUNDS) };
    let mut measured: Vec<Measured> = Vec::new();
    for records in sizes {
        let log = folder.join(format!("{records}-{LOG_FORM}"));
        let known = build(&log, records);
        let calls = calls(&known);
        let calls: Vec<Call> =
            calls.into_iter().filter(|call| call.name.contains(&options.only)).collect();
        for (server, binary) in binaries.iter().enumerate() {
            // One log is served once at a time, and two servers are asked one after the other.
            let running = Server::start(binary, &log, &[]);
            check_covered(&running, &calls);
            for call in calls.iter().cycle().take(rounds * calls.len()) {
                let outcome = measure_call(&running, call, ms);
                let at = (known.records, outcome.p50_us, outcome.bytes);
                note(&mut measured, call, server, at);
            }
            running.stop();
        }
    }
    measured.iter_mut().for_each(Measured::compare);
    print(&measured, options);
    if let Some(file) = &options.svg {
        std::fs::write(file, chart(&measured)).unwrap();
    }
}

fn measure_call(running: &Server, call: &Call, ms: u64) -> Outcome {
    let work = match &call.token {
        None => Work::Get(call.paths.clone()),
        Some(token) => Work::GetAs(token.clone(), call.paths.clone()),
    };
    let outcome = Plan { address: running.address, connections: 1, ms, work }.run();
    let statuses: Vec<u16> = outcome.statuses.keys().copied().collect();
    assert_eq!(statuses, [200], "{}: {:?}", call.name, call.paths.first());
    outcome
}

fn note(measured: &mut Vec<Measured>, call: &Call, server: usize, at: (u64, f64, usize)) {
    let same = |row: &&mut Measured| row.call == call.name && row.server == server;
    if let Some(row) = measured.iter_mut().find(same) {
        return row.note(at);
    }
    let call = call.name.clone();
    measured.push(Measured { call, server, at: vec![at], growth: 1.0, has_one_size: true });
}

/// Draws the calls of the first server.
fn chart(measured: &[Measured]) -> String {
    let rows = measured.iter().filter(|row| row.server == 0);
    let end = |row: &Measured| (*row.at.first().unwrap(), *row.at.last().unwrap());
    let sizes = rows.clone().map(end).next();
    let records = sizes.map_or([0, 0], |(first, last)| [first.0, last.0]);
    let bar = |row: &Measured| {
        let (first, last) = end(row);
        let other = if row.has_one_size { "" } else { " (other size)" };
        let call = format!("{}{other}", row.call);
        Bar { call, first_us: first.1, last_us: last.1 }
    };
    draw(records, rows.map(bar).collect())
}

/// Checks that each call that only reads is measured.
fn check_covered(server: &Server, calls: &[Call]) {
    if calls.len() < 20 {
        return;
    }
    let described = server.get("/openapi.json");
    let paths = described["paths"].as_object().unwrap();
    let reading = paths.iter().filter(|(_, methods)| methods.get("get").is_some());
    for (path, _) in reading.filter(|(path, _)| !LEFT_OUT.contains(&path.as_str())) {
        let is_asked = |asked: &String| fits(path, asked.split('?').next().unwrap());
        let asked = calls.iter().any(|call| call.paths.iter().any(is_asked));
        assert!(asked, "no call asks `{path}`");
    }
}

/// Tells if a path is one of a template with parts in braces.
fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) =
        (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(&path).all(|(part, other)| part.starts_with('{') || part == other)
}

fn print(measured: &[Measured], options: &Options) {
    if options.json {
        println!("{}", serde_json::to_string_pretty(measured).unwrap());
        return;
    }
    let mut rows: Vec<&Measured> = measured.iter().collect();
    rows.sort_by(|a, b| b.growth.total_cmp(&a.growth).then(a.server.cmp(&b.server)));
    for row in rows {
        let at =
            |(records, us, bytes): &(u64, f64, usize)| format!("{records}: {us:.0} µs {bytes} B");
        let at: Vec<String> = row.at.iter().map(at).collect();
        let other = if row.has_one_size { "" } else { "  (answers of other sizes)" };
        let (growth, server, call) = (row.growth, row.server, &row.call);
        println!("{growth:>7.2}  {server} {call:<48} {}{other}", at.join("  "));
    }
    let grown = measured.iter().filter(|row| row.growth > GROWTH_MAX && row.has_one_size);
    println!("{} of {} grow more than {GROWTH_MAX}", grown.count(), measured.len());
}

/// Returns every call, with the parameters that give answers of one size.
fn calls(known: &Known) -> Vec<Call> {
    let mut calls = lists(known);
    calls.extend(own_calls(known));
    calls.extend(of_people(known));
    for (name, id) in [
        ("many versions", busy_user()),
        ("many returns", user_id(COMEBACK_USER)),
        ("a steady group", user_id(JOINER)),
        ("many lives", user_id(REBORN_USER)),
    ] {
        calls.extend(of_long_history(name, &id, known));
    }
    calls.extend(of_pushed(&known.pushed));
    calls
}

fn named(name: &str, paths: Vec<String>) -> Call {
    Call { name: name.to_owned(), paths, token: None }
}

/// Returns calls that ask one path each.
fn each_alone<const N: usize>(of: [(&str, String); N]) -> Vec<Call> {
    of.into_iter().map(|(name, path)| named(name, vec![path])).collect()
}

/// Returns the path of one of Rollcall's own calls.
fn own(path: &str) -> String {
    format!("/rollcall/v1/{path}")
}

/// Returns the calls of the contract, but those about single people.
fn lists(known: &Known) -> Vec<Call> {
    let Known { early, middle, after_middle, .. } = known;
    let users = |filter: &str| format!("/directory_users?{filter}&limit=100");
    let in_directory = |filter: &str| users(&format!("directory={DIRECTORY}{filter}"));
    let in_group = |group: &str| users(&format!("group={group}"));
    let (group, revolving) = (group_id(7), group_id(REVOLVING_GROUP));
    let cursor = user_id(known.people[known.people.len() / 2]);
    let events = |filter: &str| format!("/events?events=dsync.user.updated&limit=100{filter}");
    each_alone([
        ("directories", "/directories".to_owned()),
        ("directory", format!("/directories/{DIRECTORY}")),
        ("users of a directory", in_directory("")),
        ("users of a directory, past", in_directory(&format!("&as_of={middle}"))),
        ("users of a directory, far past", in_directory(&format!("&as_of={early}"))),
        ("users of a directory, after a cursor", in_directory(&format!("&after={cursor}"))),
        ("users of a directory, before a cursor", in_directory(&format!("&before={cursor}"))),
        ("users of an organization", users(&format!("organization_id={ORGANIZATION}"))),
        ("members of a group", in_group(&group)),
        ("members of a group, past", in_group(&format!("{group}&as_of={middle}"))),
        ("members of a group with former ones", in_group(&group_of_seats())),
        ("members of a group whose people change", in_group(&revolving)),
        (
            "members of a group whose people change, past",
            in_group(&format!("{revolving}&as_of={middle}")),
        ),
        ("users of a role", in_directory("&role=role-3")),
        ("users of a state", in_directory("&state=inactive")),
        ("groups of a directory", format!("/directory_groups?directory={DIRECTORY}&limit=100")),
        ("group", format!("/directory_groups/{group}")),
        ("group that is renamed", format!("/directory_groups/{}", group_id(RENAMED_GROUP))),
        ("group with members", format!("/directory_groups/{group}?members=true")),
        ("events from the start", events("")),
        ("events from the middle", events(&format!("&range_start={middle}"))),
        (
            "events of a short time",
            events(&format!("&range_start={middle}&range_end={after_middle}")),
        ),
        ("events of a rare type", "/events?events=dsync.activated".to_owned()),
        (
            "events of an organization",
            format!("/events?events=dsync.user.created&organization_id={QUIET_ORGANIZATION}"),
        ),
        ("openapi", "/openapi.json".to_owned()),
        ("healthz", "/healthz".to_owned()),
        ("readyz", "/readyz".to_owned()),
        ("metrics", "/metrics".to_owned()),
    ])
}

/// Returns Rollcall's own calls, but those about single people.
fn own_calls(known: &Known) -> Vec<Call> {
    let mut calls = of_roles_and_groups(known);
    calls.extend(of_losses_and_changes(known));
    calls.extend(of_the_log(known));
    calls
}

fn of_roles_and_groups(known: &Known) -> Vec<Call> {
    let middle = &known.middle;
    let assignments = |filter: &str| own(&format!("role_assignments?{filter}&limit=100"));
    let of_group = |call: &str, number: u64| own(&format!("groups/{}/{call}", group_id(number)));
    let group = group_id(7);
    each_alone([
        ("policy", own("policy")),
        ("role mapping", own("role_mapping")),
        ("role mapping versions", own("role_mapping/versions")),
        ("assignments of all", own("role_assignments?limit=100")),
        ("assignments of a group", assignments(&format!("group={group}"))),
        ("assignments of a group, past", assignments(&format!("group={group}&as_of={middle}"))),
        ("assignments of a role", assignments("role=role-3")),
        ("assignments of a quiet directory", assignments(&format!("directory={QUIET_DIRECTORY}"))),
        ("names", own("names?kind=group&text=Group%203")),
        ("periods of a group's members", of_group("members?limit=20", 7)),
        ("periods of a group's members desc", of_group("members?limit=20&order=desc", 7)),
        (
            "periods of a group with versions, limit 1",
            of_group("members?limit=1", BUSY_HISTORY_GROUP),
        ),
        (
            "periods of a group whose people change, limit 1",
            of_group("members?limit=1", REVOLVING_GROUP),
        ),
        (
            "periods of a group whose people change, limit 1 desc",
            of_group("members?limit=1&order=desc", REVOLVING_GROUP),
        ),
        ("periods of a renamed group, limit 1", of_group("members?limit=1", RENAMED_GROUP)),
        ("history of a group, limit 1", of_group("history?limit=1", BUSY_HISTORY_GROUP)),
        (
            "history of a group, limit 1 desc",
            of_group("history?limit=1&order=desc", BUSY_HISTORY_GROUP),
        ),
        ("history of a renamed group, limit 1", of_group("history?limit=1", RENAMED_GROUP)),
        (
            "history of a renamed group, limit 1 desc",
            of_group("history?limit=1&order=desc", RENAMED_GROUP),
        ),
    ])
}

fn of_losses_and_changes(known: &Known) -> Vec<Call> {
    let Known { records, middle, after_middle, .. } = known;
    let losses = |filter: &str| own(&format!("deprovisionings?limit=20{filter}"));
    let changes = |after: u64| own(&format!("changes?limit=100&wait=0&after={after}"));
    let diff = |filter: &str| own(&format!("diff?limit=100&{filter}"));
    each_alone([
        ("deprovisionings", losses("")),
        ("deprovisionings desc", losses("&order=desc")),
        ("deprovisionings since", losses(&format!("&since={middle}"))),
        ("deprovisionings of a quiet directory", losses(&format!("&directory={QUIET_DIRECTORY}"))),
        (
            "deprovisionings of a quiet organization",
            losses(&format!("&organization_id={QUIET_ORGANIZATION}")),
        ),
        ("links", own("links?limit=20")),
        ("changes from the start", changes(0)),
        ("changes from the middle", changes(records / 2)),
        ("changes at the end", changes(records - 50)),
        ("diff of 50 records", diff(&format!("from=latest&from_known_at={}", records - 50))),
        ("diff of two moments", diff(&format!("from={middle}&to={after_middle}"))),
        ("diff of two moments, quiet", diff(&format!("from={middle}&directory={QUIET_DIRECTORY}"))),
    ])
}

fn of_the_log(known: &Known) -> Vec<Call> {
    let (records, half) = (known.records, known.records / 2);
    each_alone([
        ("quarantine", own("quarantine?limit=20")),
        ("projections", own("projections")),
        ("reconciliations", own("reconciliations")),
        ("checkpoint", own("log/checkpoint")),
        ("key", own("log/key")),
        ("entry", own(&format!("log/entries/{half}"))),
        ("proof of inclusion", own(&format!("log/proof/inclusion?seq=4000&size={records}"))),
        ("proof of consistency", own(&format!("log/proof/consistency?from=4000&to={records}"))),
        ("sources", own("sources")),
        ("endpoints", own("endpoints")),
        ("sink", own("sink")),
        ("stats", own("stats")),
    ])
}

/// Returns the calls about single people, each asked about several in turns.
fn of_people(known: &Known) -> Vec<Call> {
    let (busy, middle, half) = (busy_user(), &known.middle, known.records / 2);
    let each = |name: &str, path: &dyn Fn(u64) -> String| {
        named(name, known.people.iter().map(|person| path(*person)).collect())
    };
    let in_organization =
        |filter: &str| format!("/directory_users?organization_id={ORGANIZATION}&{filter}");
    let of_user = |call: &str, person: u64| own(&format!("users/{}/{call}", user_id(person)));
    let mut calls = vec![
        each("user", &|person| format!("/directory_users/{}", user_id(person))),
        each("login", &|person| in_organization(&format!("email={}", email(person)))),
        each("user with an id of the provider", &|person| {
            in_organization(&format!("idp_id=00u{person:017}"))
        }),
        each("groups of one user", &|person| format!("/directory_groups?user={}", user_id(person))),
        each("access of a user", &|person| of_user("access", person)),
        each("roles of a user", &|person| of_user("roles", person)),
        each("groups of a user", &|person| of_user("groups", person)),
        each("history of a user, limit 1", &|person| of_user("history?limit=1", person)),
        each("last heard of a user", &|person| of_user("last_heard", person)),
        each("assignments of a user", &|person| {
            own(&format!("role_assignments?user={}", user_id(person)))
        }),
        each("deprovisionings of a user", &|person| {
            own(&format!("deprovisionings?user={}", user_id(person)))
        }),
        each("deprovisionings of an email", &|person| {
            own(&format!("deprovisionings?email={}", email(person)))
        }),
        each("users with an email", &|person| own(&format!("users?email={}", email(person)))),
        each("names of an email", &|person| {
            own(&format!("names?kind=user&text={}", email(person)))
        }),
    ];
    calls.extend(each_alone([
        ("user with many versions", format!("/directory_users/{busy}")),
        ("user, past", format!("/directory_users/{busy}?as_of={middle}")),
        ("user, known before", format!("/directory_users/{busy}?known_at={half}")),
        (
            "history known before, limit 1 desc",
            own(&format!("users/{busy}/history?limit=1&order=desc&known_at={half}")),
        ),
        ("last heard, past", own(&format!("users/{busy}/last_heard?as_of={middle}"))),
        ("last heard, known before", own(&format!("users/{busy}/last_heard?known_at={half}"))),
        ("last heard of a quiet directory", own(&format!("users/{}/last_heard", quiet_user()))),
    ]));
    calls
}

/// Returns the calls about a user with a hundred times the history, one item each.
fn of_long_history(name: &str, id: &str, known: &Known) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut add = |call: &str, path: String| {
        calls.push(named(&format!("{call} of one with {name}"), vec![path]));
    };
    for call in ["access", "roles", "groups", "history"] {
        let path = own(&format!("users/{id}/{call}?limit=1"));
        add(call, path.clone());
        add(&format!("{call}, desc,"), format!("{path}&order=desc"));
    }
    add("last heard", own(&format!("users/{id}/last_heard")));
    add("assignments", own(&format!("role_assignments?user={id}")));
    let past = format!("role_assignments?user={id}&as_of={}", known.middle);
    add("assignments, past,", own(&past));
    add("deprovisionings", own(&format!("deprovisionings?user={id}&limit=1")));
    add("deprovisionings, desc,", own(&format!("deprovisionings?user={id}&limit=1&order=desc")));
    calls
}

/// Returns the calls about a directory into which an identity provider pushes, and those of the
/// provider.
fn of_pushed(pushed: &Pushed) -> Vec<Call> {
    let Pushed { directory, token, user, user_name, group, request } = pushed;
    let mut calls = each_alone([
        ("tokens", own(&format!("directories/{directory}/tokens"))),
        ("SCIM requests", own("scim_requests?limit=20")),
        ("SCIM requests of a user, limit 1", own(&format!("scim_requests?user={user}&limit=1"))),
        (
            "SCIM requests of a user, limit 1 desc",
            own(&format!("scim_requests?user={user}&limit=1&order=desc")),
        ),
        ("SCIM request", own(&format!("scim_requests/{request}"))),
    ]);
    for (name, path) in [
        ("SCIM: users", "Users?startIndex=1&count=20".to_owned()),
        ("SCIM: user", format!("Users/{user}")),
        ("SCIM: user of a name", format!("Users?filter=userName%20eq%20%22{user_name}%22")),
        ("SCIM: groups", "Groups?startIndex=1&count=20".to_owned()),
        ("SCIM: group", format!("Groups/{group}")),
        ("SCIM: configuration", "ServiceProviderConfig".to_owned()),
        ("SCIM: types", "ResourceTypes".to_owned()),
        ("SCIM: a type", "ResourceTypes/User".to_owned()),
        ("SCIM: schemas", "Schemas".to_owned()),
        ("SCIM: a schema", "Schemas/urn:ietf:params:scim:schemas:core:2.0:User".to_owned()),
    ] {
        let paths = vec![format!("/scim/v2/{directory}/{path}")];
        calls.push(Call { token: Some(token.clone()), ..named(name, paths) });
    }
    calls
}
