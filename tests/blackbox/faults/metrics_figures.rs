//! The time of a scrape over a large log. Only `tests/long metrics` measures it: other tests must
//! not depend on how fast a machine is.

use std::time::Instant;

use crate::faults::full_disk::wait_until;
use crate::kit::exposition::Scrape;
use crate::kit::scale::scale;
use crate::kit::server::{API_KEY, Server, agent, get, user};

/// The records of a run at scale 1, and the directories that they are of: as many as are named.
const RECORDS: u64 = 100_000;
const DIRECTORIES: u64 = 500;

/// The most lines of one import.
const LINES: u64 = 512;

const SCRAPES: usize = 500;

fn created(number: u64) -> String {
    let (id, directory) = (format!("u{number}"), format!("directory_{}", number % DIRECTORIES));
    let time = "2026-01-01T00:00:00.000Z";
    user(&id, &directory, &id, time, &format!("event_{number}"), "dsync.user.created")
}

#[test]
fn a_scrape_costs_the_same_however_long_the_log_is() {
    if std::env::var_os("ROLLCALL_METRICS_FIGURES").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(folder.path(), &["--admin-listen", "127.0.0.1:0"]);
    let (admin, agent) = (server.admin_url.clone().unwrap(), agent());
    let scrape = || get(&agent, &admin, "/metrics", &[]);
    for records in [RECORDS * scale() / 100, RECORDS * scale()] {
        let head = server.get("/readyz").json()["seq"].as_u64().unwrap();
        for first in (head..records).step_by(LINES as usize) {
            let lines: Vec<String> = (first..records.min(first + LINES)).map(created).collect();
            let url = format!("{}/rollcall/v1/import", server.url);
            assert_eq!(server.send("post", &url, API_KEY, &lines.join("\n")).status, 200);
        }
        wait_until("every directory is named", || {
            let read = Scrape::read(std::str::from_utf8(&scrape().body).unwrap());
            read.sum("rollcall_directory_state", &[]) == DIRECTORIES as f64
        });
        let mut times_ms: Vec<f64> = (0..SCRAPES)
            .map(|_| {
                let begun = Instant::now();
                assert_eq!(scrape().status, 200);
                begun.elapsed().as_secs_f64() * 1000.0
            })
            .collect();
        times_ms.sort_by(f64::total_cmp);
        let [p50, p99] = [SCRAPES / 2, SCRAPES * 99 / 100].map(|at| times_ms[at]);
        let kib = scrape().body.len() / 1024;
        println!("{records} records, {kib} KiB: p50 {p50:.1} ms, p99 {p99:.1} ms");
        assert!(p99 < 20.0, "{p99} ms");
    }
}
