//! The figures of floods: how long cheap questions and webhooks take while expensive ones and
//! unproven bodies come in far greater numbers than the server can take. Only `tests/long floods`
//! measures them: other tests must not depend on how fast a machine is.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::faults::connections::come_back_at_once;
use crate::faults::floods::{
    DIRECTORY, TIME, group, large_mapping, membership, raise_own_limit, slow_globs,
};
use crate::kit::server::{
    API_KEY, SECRET, Server, agent, binary, get, now_ms, post, signature, user,
};

const FLOOD: Duration = Duration::from_secs(20);

/// The variable that names the server to the process that floods it.
const FLOODED: &str = "ROLLCALL_FLOODED";

/// The times that something took, in milliseconds.
#[derive(Default)]
struct Times(Vec<f64>);

impl Times {
    fn take<T>(&mut self, act: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = act();
        self.0.push(begun.elapsed().as_secs_f64() * 1000.0);
        done
    }

    fn at(&self, part: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[((sorted.len() - 1) as f64 * part) as usize]
    }

    fn show(&self, name: &str) {
        let [p50, p99, max] = [0.5, 0.99, 1.0].map(|part| self.at(part));
        println!(
            "{name:<28} n={:<6} p50 {p50:.1} ms, p99 {p99:.1} ms, max {max:.1} ms",
            self.0.len()
        );
    }
}

fn rss_mib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Asks `/healthz` and sends webhooks until `until`, and returns how long each took.
fn measure(server: &Server, round: &str, until: &(dyn Fn() -> bool + Sync)) -> [Times; 2] {
    thread::scope(|scope| {
        let healthy = scope.spawn(|| {
            let (agent, mut times) = (agent(), Times::default());
            while !until() {
                let answer = times.take(|| get(&agent, &server.url, "/healthz", &[]));
                assert_eq!(answer.status, 200);
                thread::sleep(Duration::from_millis(5));
            }
            times
        });
        let mut times = Times::default();
        let mut sent = 0;
        while !until() {
            let id = format!("{round}_{sent}");
            let body = user(&id, DIRECTORY, &id, TIME, &id, "dsync.user.created");
            times.take(|| server.deliver(&body));
            sent += 1;
            thread::sleep(Duration::from_millis(20));
        }
        [healthy.join().unwrap(), times]
    })
}

fn fill(server: &Server) {
    for number in 0..200 {
        server.deliver(&group(&format!("odd_{number}"), &"a".repeat(4000 + number)));
    }
    thread::scope(|scope| {
        for part in 0..8 {
            scope.spawn(move || {
                let agent = agent();
                for number in (part..6000).step_by(8) {
                    let body = membership(&format!("g{:02}", number / 300), number % 300, 4000);
                    let header = signature(SECRET, &now_ms().to_string(), body.as_bytes());
                    let url = format!("{}/webhooks/workos", server.url);
                    let answer =
                        post(&agent, &url, body.as_bytes(), &[("WorkOS-Signature", &header)]);
                    assert_eq!(answer.unwrap().status, 200);
                }
            });
        }
    });
}

/// The flood, in a process of its own that only runs when nothing else does: it comes from other
/// machines, and its 180 threads must not take the server's time.
struct Flood(Child);

impl Flood {
    fn begin(server: &Server) -> Flood {
        let mut process = Command::new("chrt");
        process.args(["--idle", "0"]).arg(std::env::current_exe().unwrap());
        process.args(["--exact", "faults::flood_figures::the_flood"]);
        Flood(process.env(FLOODED, &server.url).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Floods the server that the environment names.
#[test]
fn the_flood() {
    if let Ok(url) = std::env::var(FLOODED) {
        let until = Instant::now() + FLOOD * 2;
        flood(&url, &|| Instant::now() > until);
    }
}

fn flood(url: &str, done: &(dyn Fn() -> bool + Sync)) {
    let preview = json!({ "mapping": slow_globs() }).to_string();
    let list = format!("/directory_groups?directory={DIRECTORY}&members=true&limit=100");
    let wrong = signature("whsec_wrong", &now_ms().to_string(), b"");
    let large = vec![b' '; 1 << 20];
    let key = format!("Bearer {API_KEY}");
    let (preview, list, wrong, large, key) = (&preview, &list, &wrong, &large, &key);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(move || {
                let agent = agent();
                let path = format!("{url}/rollcall/v1/role_mapping/preview");
                while !done() {
                    let headers = [("Authorization", key.as_str())];
                    let status = post(&agent, &path, preview.as_bytes(), &headers).unwrap().status;
                    assert!([200, 422, 429].contains(&status), "{status}");
                }
            });
            scope.spawn(move || {
                let agent = agent();
                while !done() {
                    get(&agent, url, list, &[("Authorization", key)]);
                }
            });
        }
        for _ in 0..150 {
            scope.spawn(move || {
                let agent = agent();
                let url = format!("{url}/webhooks/workos");
                while !done() {
                    // Refused in the middle, or as not authentic.
                    drop(post(&agent, &url, large, &[("WorkOS-Signature", wrong)]));
                }
            });
        }
        scope.spawn(move || {
            let address = url.strip_prefix("http://").unwrap();
            while !done() {
                let mut idle: Vec<TcpStream> =
                    (0..300).filter_map(|_| TcpStream::connect(address).ok()).collect();
                for _ in 0..20 {
                    idle.iter_mut().for_each(|stream| drop(stream.write_all(b"G")));
                    thread::sleep(Duration::from_millis(100));
                }
            }
        });
    });
}

#[test]
fn a_flood_leaves_cheap_questions_and_webhooks_fast() {
    if std::env::var_os("ROLLCALL_FLOOD_FIGURES").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    fill(&server);
    let for_a_while = |length: Duration| {
        let until = Instant::now() + length;
        move || Instant::now() >= until
    };
    let before = measure(&server, "before", &for_a_while(Duration::from_secs(5)));
    let idle_mib = rss_mib(&server);
    let (over, peak) = (AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
    let during = thread::scope(|scope| {
        let flood = Flood::begin(&server);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                peak.fetch_max(rss_mib(&server), Ordering::Relaxed);
                thread::sleep(Duration::from_millis(50));
            }
        });
        let during = measure(&server, "during", &for_a_while(FLOOD));
        over.store(true, Ordering::Relaxed);
        drop(flood);
        during
    });
    thread::sleep(Duration::from_secs(6));
    let after = measure(&server, "after", &for_a_while(Duration::from_secs(5)));
    for (name, [healthz, webhooks]) in [("before", &before), ("during", &during), ("after", &after)]
    {
        healthz.show(&format!("/healthz {name}"));
        webhooks.show(&format!("webhooks {name}"));
    }
    let peak = peak.into_inner();
    println!(
        "resident memory: {idle_mib} MiB idle, {peak} MiB at most, {} MiB after",
        rss_mib(&server)
    );
    let stats = server.get("/rollcall/v1/stats").json();
    println!(
        "refused: {} questions; webhooks {}",
        stats["refused_questions"], stats["refused_webhooks"]
    );
    assert!(during[0].at(0.99) < 100.0 && after[0].at(0.99) < 100.0);
    assert!(during[1].at(1.0) < 1000.0 && after[1].at(1.0) < 1000.0);
    assert!(peak < idle_mib + 1024);
    assert_eq!(server.stop(), 0);
}

/// Returns the number of connections that a server has.
fn sockets(server: &Server) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let targets = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

#[test]
fn a_reader_that_does_not_read_is_cut_off_after_30_seconds() {
    if std::env::var_os("ROLLCALL_FLOOD_FIGURES").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for member in 0..40 {
        server.deliver(&membership("g", member, 200_000));
    }
    // The connection by which the events came is idle, and closed by then.
    thread::sleep(Duration::from_secs(8));
    let before = sockets(&server);
    let mut readers: Vec<TcpStream> = (0..8)
        .map(|_| {
            let address = server.url.strip_prefix("http://").unwrap();
            let mut reader = TcpStream::connect(address).unwrap();
            let ask = format!(
                "GET /directory_users?directory={DIRECTORY}&limit=100 HTTP/1.1\r\nHost: x\r\n\
                 Authorization: Bearer {API_KEY}\r\n\r\n"
            );
            // More answers than the buffers of a connection hold.
            reader.write_all(ask.repeat(8).as_bytes()).unwrap();
            reader
        })
        .collect();
    let begun = Instant::now();
    thread::sleep(Duration::from_secs(20));
    assert!(sockets(&server) >= before + readers.len(), "slow readers are waited for");
    while sockets(&server) > before && begun.elapsed() < Duration::from_secs(60) {
        thread::sleep(Duration::from_millis(500));
    }
    println!("readers that do not read are cut off after {:?}", begun.elapsed());
    assert!(sockets(&server) <= before, "{} connections are left", sockets(&server));
    for reader in &mut readers {
        let mut answer = Vec::new();
        let ended = reader.read_to_end(&mut answer);
        assert!(ended.is_err() || answer.len() < 8 * 4_000_000, "not all answers arrive");
    }
    assert_eq!(server.stop(), 0);
}

#[test]
fn readers_that_do_not_read_large_pages_take_bounded_memory() {
    if std::env::var_os("ROLLCALL_FLOOD_FIGURES").is_none() {
        return;
    }
    raise_own_limit();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for member in 0..19 {
        server.deliver(&membership("g", member, 200_000));
    }
    let idle_mib = rss_mib(&server);
    let address = server.url.strip_prefix("http://").unwrap();
    let ask = format!(
        "GET /directory_users?directory={DIRECTORY}&limit=100 HTTP/1.1\r\nHost: x\r\n\
         Authorization: Bearer {API_KEY}\r\n\r\n"
    );
    let readers: Vec<TcpStream> = (0..800)
        .map(|_| {
            let mut reader = TcpStream::connect(address).unwrap();
            reader.write_all(ask.repeat(8).as_bytes()).unwrap();
            reader
        })
        .collect();
    let until = Instant::now() + FLOOD;
    let peak = std::sync::atomic::AtomicU64::new(0);
    let [healthz, webhooks] = measure(&server, "unread", &|| {
        peak.fetch_max(rss_mib(&server), Ordering::Relaxed);
        Instant::now() >= until
    });
    healthz.show("/healthz, 800 slow readers");
    webhooks.show("webhooks, 800 slow readers");
    let peak = peak.into_inner();
    let refused = server.get("/rollcall/v1/stats").json()["refused_questions"].clone();
    println!("resident memory: {idle_mib} MiB idle, {peak} MiB at most; {refused} pages refused");
    assert!(healthz.at(0.99) < 100.0 && webhooks.at(1.0) < 1000.0);
    assert!(peak < idle_mib + 1024);
    drop(readers);
    assert_eq!(server.stop(), 0);
}

#[test]
fn a_new_connection_gets_its_turn_among_those_that_come_back_at_once() {
    if std::env::var_os("ROLLCALL_FLOOD_FIGURES").is_none() {
        return;
    }
    raise_own_limit();
    for (descriptors, idle) in [(256, 1000), (1024, 3000)] {
        let folder = tempfile::tempdir().unwrap();
        let mut limited = Command::new("bash");
        let script = format!("ulimit -n {descriptors}; exec \"$0\" \"$@\"");
        limited.args(["-c", &script]).arg(binary());
        let server = Server::start_command(limited, folder.path(), &[]);
        let over = AtomicBool::new(false);
        let mut turns = Times::default();
        thread::scope(|scope| {
            scope.spawn(|| come_back_at_once(&server, idle, &over));
            let until = Instant::now() + FLOOD;
            while Instant::now() < until {
                let answer = turns.take(|| get(&agent(), &server.url, "/healthz", &[]));
                assert_eq!(answer.status, 200);
                thread::sleep(Duration::from_millis(50));
            }
            over.store(true, Ordering::Relaxed);
        });
        turns.show(&format!("new, of {descriptors} descriptors"));
        assert!(turns.at(1.0) < 10_000.0);
        assert_eq!(server.stop(), 0);
    }
}

/// Sets 300 mappings, or as many as the server takes, and returns by how many MiB memory grew, after
/// a restart.
fn mib_of_mappings(differing: usize) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let idle_mib = rss_mib(&server);
    let mut set = 0;
    for number in 1..=300 {
        let body = json!({ "mapping": large_mapping(number, differing) });
        let answer = server.put("/rollcall/v1/role_mapping", &body);
        if answer.status != 200 {
            assert_eq!((answer.status, answer.code().as_str()), (422, "mapping_invalid"));
            break;
        }
        set = number;
    }
    let set_mib = rss_mib(&server).saturating_sub(idle_mib);
    assert_eq!(server.stop(), 0);
    let server = Server::start(folder.path());
    let grown_mib = rss_mib(&server).saturating_sub(idle_mib);
    assert_eq!(server.stop(), 0);
    println!(
        "{set} mappings, {differing} of 1,000 rules differ: {set_mib} MiB more memory while they \
         were set, {grown_mib} MiB after a restart"
    );
    set_mib.max(grown_mib)
}

#[test]
fn mappings_take_no_more_memory_than_was_set() {
    if std::env::var_os("ROLLCALL_FLOOD_FIGURES").is_none() {
        return;
    }
    assert!(mib_of_mappings(1) < 100);
    // 256 MiB unless it is set, about.
    assert!(mib_of_mappings(1000) < 350);
}
