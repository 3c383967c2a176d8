//! Each call over a short and a long log: its median at one connection, for answers of one size.

use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::Options;
use crate::history::{
    BUSY_HISTORY_GROUP, COMEBACK_USER, Known, QUIET_DIRECTORY, QUIET_ORGANIZATION, build,
    busy_user, group_of_seats,
};
use crate::kit::{DIRECTORY, ORGANIZATION, email, group_id, user_id};
use crate::load::{Plan, Work};
use crate::server::{Server, built};

const RECORDS: [u64; 3] = [10_000, 100_000, 1_000_000];
const QUICK_RECORDS: [u64; 2] = [10_000, 12_000];

/// The time for one call, in milliseconds.
const CALL_MS: u64 = 400;
const QUICK_CALL_MS: u64 = 50;

/// The calls that are not measured: they change something, or need a source.
const LEFT_OUT: [&str; 3] = [
    "/rollcall/v1/projections/rebuild",
    "/rollcall/v1/reconciliations/{id}",
    "/rollcall/v1/log/key",
];

/// A call: its name, and the paths that are asked in turns.
struct Call {
    name: String,
    paths: Vec<String>,
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
    let ms = if options.quick { QUICK_CALL_MS } else { CALL_MS };
    let mut measured: Vec<Measured> = Vec::new();
    for records in sizes {
        let log = folder.join(records.to_string());
        let known = build(&log, records);
        let calls = calls(&known);
        let calls: Vec<Call> =
            calls.into_iter().filter(|call| call.name.contains(&options.only)).collect();
        for (server, binary) in binaries.iter().enumerate() {
            measure_log(binary, &log, &known, &calls, server, ms, &mut measured);
        }
    }
    for row in &mut measured {
        let (first, last) = (row.at.first().unwrap().1, row.at.last().unwrap().1);
        row.growth = last / first;
    }
    print(&measured, options);
}

fn measure_log(
    binary: &Path,
    log: &Path,
    known: &Known,
    calls: &[Call],
    server: usize,
    ms: u64,
    measured: &mut Vec<Measured>,
) {
    // One log is served once at a time, and two servers are asked one after the other.
    let running = Server::start(binary, log, &[]);
    check_covered(&running, calls);
    for call in calls {
        let plan = Plan {
            address: running.address,
            connections: 1,
            ms,
            work: Work::Get(call.paths.clone()),
        };
        let outcome = plan.run();
        let statuses: Vec<u16> = outcome.statuses.keys().copied().collect();
        assert_eq!(statuses, [200], "{}: {:?}", call.name, call.paths.first());
        let at = (known.records, outcome.p50_us, outcome.bytes);
        let same = |row: &&mut Measured| row.call == call.name && row.server == server;
        match measured.iter_mut().find(same) {
            Some(row) => row.at.push(at),
            None => {
                let call = call.name.clone();
                measured.push(Measured { call, server, at: vec![at], growth: 1.0 });
            }
        }
    }
    running.stop();
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
        println!("{:>7.2}  {} {:<48} {}", row.growth, row.server, row.call, at.join("  "));
    }
}

/// Returns every call, with the parameters that give answers of one size.
fn calls(known: &Known) -> Vec<Call> {
    let own = |path: &str| format!("/rollcall/v1/{path}");
    let each = |path: &dyn Fn(String) -> String| -> Vec<String> {
        known.people.iter().map(|person| path(user_id(*person))).collect()
    };
    let Known { records, middle, .. } = known;
    let (half, group, seats) = (records / 2, group_id(7), group_of_seats());
    let (busy, comeback) = (busy_user(), user_id(COMEBACK_USER));
    let mut calls: Vec<Call> = Vec::new();
    let mut add =
        |name: &str, paths: Vec<String>| calls.push(Call { name: name.to_owned(), paths });
    for (name, path) in [
        ("directories", "/directories".to_owned()),
        ("directory", format!("/directories/{DIRECTORY}")),
        ("users of a directory", format!("/directory_users?directory={DIRECTORY}&limit=100")),
        (
            "users of a directory, past",
            format!("/directory_users?directory={DIRECTORY}&limit=100&as_of={middle}"),
        ),
        (
            "users of an organization",
            format!("/directory_users?organization_id={ORGANIZATION}&limit=100"),
        ),
        ("members of a group", format!("/directory_users?group={group}&limit=100")),
        (
            "members of a group, past",
            format!("/directory_users?group={group}&limit=100&as_of={middle}"),
        ),
        (
            "members of a group with former ones",
            format!("/directory_users?group={seats}&limit=100"),
        ),
        (
            "users of a role",
            format!("/directory_users?directory={DIRECTORY}&role=role-3&limit=100"),
        ),
        (
            "users of a state",
            format!("/directory_users?directory={DIRECTORY}&state=inactive&limit=100"),
        ),
        ("user with many versions", format!("/directory_users/{busy}")),
        ("groups of a directory", format!("/directory_groups?directory={DIRECTORY}&limit=100")),
        ("group", format!("/directory_groups/{group}")),
        ("group with members", format!("/directory_groups/{group}?members=true")),
        ("events from the start", "/events?events=dsync.user.updated&limit=100".to_owned()),
        (
            "events from the middle",
            format!("/events?events=dsync.user.updated&limit=100&range_start={middle}"),
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
        ("policy", own("policy")),
        ("role mapping", own("role_mapping")),
        ("role mapping versions", own("role_mapping/versions")),
        ("assignments of all", own("role_assignments?limit=100")),
        ("assignments of a group", own(&format!("role_assignments?group={group}&limit=100"))),
        ("assignments of a role", own("role_assignments?role=role-3&limit=100")),
        (
            "assignments of a quiet directory",
            own(&format!("role_assignments?directory={QUIET_DIRECTORY}&limit=100")),
        ),
        (
            "assignments of a group, past",
            own(&format!("role_assignments?group={group}&limit=100&as_of={middle}")),
        ),
        ("names", own("names?kind=group&text=Group%203")),
        ("periods of a group's members", own(&format!("groups/{group}/members?limit=20"))),
        (
            "periods of a quiet group, limit 1",
            own(&format!("groups/{}/members?limit=1", group_id(BUSY_HISTORY_GROUP))),
        ),
        (
            "history of a group, limit 1",
            own(&format!("groups/{}/history?limit=1", group_id(BUSY_HISTORY_GROUP))),
        ),
        (
            "history of a group, limit 1 desc",
            own(&format!("groups/{}/history?limit=1&order=desc", group_id(BUSY_HISTORY_GROUP))),
        ),
        ("deprovisionings", own("deprovisionings?limit=20")),
        ("deprovisionings since", own(&format!("deprovisionings?since={middle}&limit=20"))),
        (
            "deprovisionings of a quiet directory",
            own(&format!("deprovisionings?directory={QUIET_DIRECTORY}&limit=20")),
        ),
        (
            "deprovisionings of a quiet organization",
            own(&format!("deprovisionings?organization_id={QUIET_ORGANIZATION}&limit=20")),
        ),
        ("links", own("links")),
        ("changes from the start", own("changes?limit=100&wait=0")),
        ("changes from the middle", own(&format!("changes?limit=20&wait=0&after={half}"))),
        ("changes at the end", own(&format!("changes?limit=100&wait=0&after={}", records - 50))),
        (
            "diff of 50 records",
            own(&format!("diff?from=latest&from_known_at={}&limit=100", records - 50)),
        ),
        (
            "diff of two moments, quiet",
            own(&format!("diff?from={middle}&directory={QUIET_DIRECTORY}&limit=100")),
        ),
        ("quarantine", own("quarantine?limit=20")),
        ("projections", own("projections")),
        ("reconciliations", own("reconciliations")),
        ("checkpoint", own("log/checkpoint")),
        ("entry", own(&format!("log/entries/{half}"))),
        ("proof of inclusion", own(&format!("log/proof/inclusion?seq=4000&size={records}"))),
        ("proof of consistency", own(&format!("log/proof/consistency?from=4000&to={records}"))),
        ("sources", own("sources")),
        ("stats", own("stats")),
    ] {
        add(name, vec![path]);
    }
    for (name, id) in [("many versions", &busy), ("many returns", &comeback)] {
        let mut add =
            |call: &str, path: String| add(&format!("{call} of one with {name}"), vec![own(&path)]);
        for call in ["access", "roles", "groups", "history"] {
            add(call, format!("users/{id}/{call}?limit=1"));
        }
        add("last heard", format!("users/{id}/last_heard"));
        add("assignments", format!("role_assignments?user={id}"));
    }
    add(
        "deprovisionings of one with many returns",
        vec![own(&format!("deprovisionings?user={comeback}&limit=1"))],
    );
    add("user", each(&|id| format!("/directory_users/{id}")));
    add("user, past", vec![format!("/directory_users/{busy}?as_of={middle}")]);
    add("user, known before", vec![format!("/directory_users/{busy}?known_at={half}")]);
    let emails = known.people.iter().map(|person| email(*person));
    add(
        "login",
        emails
            .map(|email| format!("/directory_users?organization_id={ORGANIZATION}&email={email}"))
            .collect(),
    );
    add("access of a user", each(&|id| own(&format!("users/{id}/access"))));
    add("roles of a user", each(&|id| own(&format!("users/{id}/roles"))));
    add("groups of a user", each(&|id| own(&format!("users/{id}/groups"))));
    add("history of a user, limit 1", each(&|id| own(&format!("users/{id}/history?limit=1"))));
    add("last heard of a user", each(&|id| own(&format!("users/{id}/last_heard"))));
    add("assignments of a user", each(&|id| own(&format!("role_assignments?user={id}"))));
    add("deprovisionings of a user", each(&|id| own(&format!("deprovisionings?user={id}"))));
    let emails = known.people.iter().map(|person| email(*person));
    add("users with an email", emails.map(|email| own(&format!("users?email={email}"))).collect());
    calls
}
