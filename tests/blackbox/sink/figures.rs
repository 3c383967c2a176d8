//! The rates and delays of the sink, next to those of COPY and of plain INSERTs in the same
//! database. Only `tests/long sink-figures` measures them: other tests must not depend on how fast a
//! machine is.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::kit::postgres::{Session, database_alone};
use crate::kit::scale::scale;
use crate::kit::server::{API_KEY, Server, binary, user};
use crate::kit::sink::{server, status, wait_for_head};

/// The people of the history of a run at scale 1.
const PEOPLE: u64 = 3000;

/// The part of the history that comes while the tables are kept: one in so many events.
const LIVE_PART: usize = 5;

/// The webhooks whose delay is measured, and the pause between two.
const DELAYS: usize = 400;
const PAUSE: Duration = Duration::from_millis(10);

/// The rows that are inserted one by one.
const INSERTS: usize = 2000;

const TABLES: [&str; 8] = [
    "directories",
    "directory_users",
    "directory_groups",
    "directory_group_memberships",
    "role_assignments",
    "access_periods",
    "membership_periods",
    "role_periods",
];

fn history() -> Vec<String> {
    let people = (PEOPLE * scale()).to_string();
    let made = Command::new(binary())
        .args(["generate", "--people", &people])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(made.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn import(server: &Server, events: &[String]) {
    let url = format!("{}/rollcall/v1/import", server.url);
    for lines in events.chunks(512) {
        assert_eq!(server.send("post", &url, API_KEY, &lines.join("\n")).status, 200);
    }
}

/// Copies the rows out, and measures how long it takes to copy them into tables of the same form.
fn copy_seconds(session: &Session, folder: &Path) -> (u64, f64) {
    let (mut rows, mut took) = (0, 0.0);
    for table in TABLES {
        let file = folder.join(table).display().to_string();
        session.run(&format!(
            "CREATE TABLE public.{table} (LIKE rollcall.{table} INCLUDING ALL); \
             COPY rollcall.{table} TO '{file}'"
        ));
        let begun = Instant::now();
        session.run(&format!("COPY public.{table} FROM '{file}'"));
        took += begun.elapsed().as_secs_f64();
        let count = session.text(&format!("SELECT count(*)::text FROM public.{table}"));
        rows += count.parse::<u64>().unwrap();
    }
    (rows, took)
}

/// Measures how long it takes to insert rows one by one, each in a transaction of its own.
fn insert_seconds(session: &Session) -> f64 {
    session.run("CREATE TABLE public.plain (LIKE rollcall.access_periods INCLUDING ALL)");
    let begun = Instant::now();
    for number in 0..INSERTS {
        session.run(&format!(
            "INSERT INTO public.plain VALUES ('u{number}', '[2026-01-01,)', 1, NULL, NULL)"
        ));
    }
    begun.elapsed().as_secs_f64()
}

/// Measures the time from the answer to a webhook until its position is in the table.
fn delays_ms(server: &Server, session: &Session) -> Vec<f64> {
    let delay = |number: usize| {
        std::thread::sleep(PAUSE);
        let (id, at) = (format!("delayed_{number}"), "2026-01-01T00:00:00.000Z");
        let event = format!("event_delayed_{number}");
        let seq = server.deliver(&user(&id, "d", &id, at, &event, "dsync.user.created"));
        let begun = Instant::now();
        let reached = || session.text("SELECT seq::text FROM rollcall.position").parse::<u64>();
        while reached().unwrap() < seq {}
        begun.elapsed().as_secs_f64() * 1000.0
    };
    let mut delays: Vec<f64> = (0..DELAYS).map(delay).collect();
    delays.sort_by(f64::total_cmp);
    delays
}

#[test]
fn rates_and_delays_of_the_sink() {
    if std::env::var_os("ROLLCALL_SINK_FIGURES").is_none() {
        return;
    }
    let database = database_alone().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let events = history();
    let (before, live) = events.split_at(events.len() - events.len() / LIVE_PART);
    let plain = Server::start(folder.path());
    import(&plain, before);
    assert_eq!(plain.stop(), 0);

    let served = server(folder.path(), &database);
    let begun = Instant::now();
    let head = wait_for_head(&served);
    let fill = head as f64 / begun.elapsed().as_secs_f64();
    let session = database.session();
    let (rows, took) = copy_seconds(&session, database.server.folder());
    let copy = rows as f64 / took;
    let filled_rows = rows as f64 / (head as f64 / fill);
    println!(
        "first fill: {head} records, {rows} rows, {fill:.0} records/s, {filled_rows:.0} rows/s: \
         {:.0} % of COPY ({copy:.0} rows/s)",
        100.0 * filled_rows / copy
    );

    let begun = Instant::now();
    import(&served, live);
    let imported = begun.elapsed().as_secs_f64();
    wait_for_head(&served);
    let took = begun.elapsed().as_secs_f64();
    let rate = live.len() as f64 / took;
    let inserts = INSERTS as f64 / insert_seconds(&session);
    println!(
        "live: {} records in {took:.1} s (recorded in {imported:.1} s), {rate:.0} records/s: {:.1} \
         times plain INSERTs ({inserts:.0} rows/s)",
        live.len(),
        rate / inserts
    );

    let delays = delays_ms(&served, &session);
    let [p50, p99] = [DELAYS / 2, DELAYS * 99 / 100].map(|at| delays[at]);
    println!("delay: p50 {p50:.1} ms, p99 {p99:.1} ms; {}", status(&served));
    assert!(fill > 20_000.0 && rate > 3000.0 && p50 < 200.0);
}
