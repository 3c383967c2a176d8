//! More connections than a server has places for, and answers that are not read: new connections
//! get their turn, and memory stays bounded.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::faults::floods::{DIRECTORY, TIME, membership, raise_own_limit};
use crate::faults::full_disk::wait_until;
use crate::kit::server::{API_KEY, Answer, Server, agent, binary, get, user};

/// The descriptors of the servers here, and the places that they have then: seven eighths of what
/// is left over by 160.
const DESCRIPTORS: usize = 256;
const PLACES: usize = 84;

/// The longest that a new connection may wait for its turn.
const TURN: Duration = Duration::from_secs(10);

fn limited(folder: &std::path::Path) -> Server {
    let mut limited = Command::new("bash");
    let script = format!("ulimit -n {DESCRIPTORS}; exec \"$0\" \"$@\"");
    limited.args(["-c", &script]).arg(binary());
    Server::start_command(limited, folder, &[])
}

fn connect(server: &Server) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect(server.url.strip_prefix("http://").unwrap())?;
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    Ok(stream)
}

/// Sets a flag when it is dropped, also by a check that fails.
struct AtTheEnd<'a>(&'a AtomicBool);

impl Drop for AtTheEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Asks on new connections, one after the other, each of which must get its turn.
fn ask_on_new_connections(server: &Server) {
    for _ in 0..3 {
        let begun = Instant::now();
        let key = format!("Bearer {API_KEY}");
        let answer = get(&agent(), &server.url, "/directory_users/u", &[("Authorization", &key)]);
        assert_eq!(answer.status, 200);
        assert!(begun.elapsed() < TURN, "{:?}", begun.elapsed());
    }
}

/// Returns the number of connections that were closed because places were lacking.
fn closed(server: &Server) -> u64 {
    let connections = server.get("/rollcall/v1/stats").json()["connections"].clone();
    assert_eq!(connections["places"], PLACES);
    connections["closed"].as_u64().unwrap()
}

fn with_a_user() -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().unwrap();
    let server = limited(folder.path());
    server.deliver(&user("u", DIRECTORY, "u", TIME, "e", "dsync.user.created"));
    (folder, server)
}

/// Keeps some connections that ask for nothing: each that is closed comes back at once.
pub fn come_back_at_once(server: &Server, count: usize, over: &AtomicBool) {
    let address: SocketAddr = server.url.strip_prefix("http://").unwrap().parse().unwrap();
    let connect = || {
        let stream = TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(stream)
    };
    let mut idle: Vec<Option<TcpStream>> = (0..count).map(|_| None).collect();
    while !over.load(Ordering::Relaxed) {
        for slot in &mut idle {
            let is_open = slot.as_mut().is_some_and(|stream| {
                let read = stream.read(&mut [0; 16]);
                read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
            });
            if !is_open && !over.load(Ordering::Relaxed) {
                *slot = connect();
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn connections_that_ask_for_nothing_and_come_back_at_once_keep_no_new_one_out() {
    raise_own_limit();
    let (_folder, server) = with_a_user();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let _end = AtTheEnd(&over);
        scope.spawn(|| come_back_at_once(&server, 8 * PLACES, &over));
        wait_until("they have come", || closed(&server) > PLACES as u64);
        ask_on_new_connections(&server);
    });
    assert_eq!(server.stop(), 0);
}

#[test]
fn kept_connections_that_ask_for_little_give_way_to_new_ones() {
    let (_folder, server) = with_a_user();
    let (over, asking) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _end = AtTheEnd(&over);
        for _ in 0..2 * PLACES {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let Ok(mut kept) = connect(&server) else { continue };
                    let mut answers = 0;
                    // The connection stays as long as it is served.
                    while kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").is_ok() {
                        let mut answer = [0; 1024];
                        while !over.load(Ordering::SeqCst) {
                            match kept.read(&mut answer) {
                                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                                read => {
                                    answers += usize::from(read.is_ok_and(|read| read > 0));
                                    break;
                                }
                            }
                        }
                        if answers == 1 {
                            asking.fetch_add(1, Ordering::SeqCst);
                        }
                        if answers == 0 || over.load(Ordering::SeqCst) {
                            break;
                        }
                        thread::sleep(Duration::from_millis(700));
                    }
                }
            });
        }
        wait_until("all places are taken", || asking.load(Ordering::SeqCst) >= PLACES);
        ask_on_new_connections(&server);
        assert!(closed(&server) > 0);
    });
    assert_eq!(server.stop(), 0);
}

/// Reads an answer to its last byte, whatever parts it comes in.
fn read_answer(connection: &mut TcpStream) -> String {
    let (mut answer, mut part) = (Vec::new(), [0; 8192]);
    loop {
        let read = connection.read(&mut part).unwrap();
        assert!(read > 0, "it ends in the middle: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let head = head.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if body.len() >= length.parse::<usize>().unwrap() {
            return text;
        }
    }
}

#[test]
fn a_connection_that_has_sent_a_key_outlives_those_that_have_not() {
    let (_folder, server) = with_a_user();
    // It has sent an event, and is the oldest.
    let mut kept = connect(&server).unwrap();
    let ask = format!(
        "GET /directory_users/u HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n\r\n"
    );
    kept.write_all(ask.as_bytes()).unwrap();
    read_answer(&mut kept);
    let idle: Vec<TcpStream> = (0..2 * PLACES).map(|_| connect(&server).unwrap()).collect();
    wait_until("some are closed", || closed(&server) >= PLACES as u64);
    kept.set_read_timeout(Some(TURN)).unwrap();
    kept.write_all(ask.as_bytes()).unwrap();
    let answer = read_answer(&mut kept);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "it is served: {answer}");
    drop(idle);
    assert_eq!(server.stop(), 0);
}

#[test]
fn questions_that_wait_for_a_change_take_a_part_of_the_places() {
    let (_folder, server) = with_a_user();
    let waiting_max = PLACES / 4;
    let (refused, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..waiting_max + 9 {
            scope.spawn(|| {
                let key = format!("Bearer {API_KEY}");
                let path = "/rollcall/v1/changes?after=1&wait=30";
                let answer = get(&agent(), &server.url, path, &[("Authorization", &key)]);
                if answer.status == 429 {
                    assert_eq!(answer.code(), "too_many_requests");
                    assert_eq!(answer.header("Retry-After"), Some("1"));
                    refused.fetch_add(1, Ordering::SeqCst);
                } else {
                    assert_eq!(answer.status, 200);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        wait_until("the others are refused", || refused.load(Ordering::SeqCst) == 9);
        assert_eq!(answered.load(Ordering::SeqCst), 0);
        // What need not wait is answered.
        assert_eq!(server.get("/rollcall/v1/changes?after=0&wait=30").ids().len(), 1);
        assert_eq!(server.get("/rollcall/v1/changes?after=1&wait=0").ids().len(), 0);
        server.deliver(&user("v", DIRECTORY, "v", TIME, "f", "dsync.user.created"));
    });
    assert_eq!(answered.load(Ordering::SeqCst), waiting_max);
    assert_eq!(server.stop(), 0);
}

/// Returns the memory of a server, in MiB.
fn rss_mib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

#[test]
fn answers_that_are_not_read_have_a_budget() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for member in 0..19 {
        server.deliver(&membership("g", member, 200_000));
    }
    let page = format!("/directory_users?directory={DIRECTORY}&limit=100");
    let length = server.get(&page).body.len();
    assert!(length > 3_800_000, "{length}");
    let idle_mib = rss_mib(&server);
    let ask = format!("GET {page} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {API_KEY}\r\n\r\n");
    // The buffers of the system hold a few answers: the next one waits in the server.
    let readers: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut reader = connect(&server).unwrap();
            reader.write_all(ask.repeat(6).as_bytes()).unwrap();
            reader
        })
        .collect();
    let refused = |answer: &Answer| answer.status == 429;
    wait_until("the budget is used up", || refused(&server.get(&page)));
    let answer = server.get(&page);
    assert_eq!(
        (answer.code().as_str(), answer.header("Retry-After")),
        ("too_many_requests", Some("1"))
    );
    // A small answer takes none of it.
    assert_eq!(server.get("/directories").status, 200);
    assert_eq!(server.get("/healthz").status, 200);
    let grown_mib = rss_mib(&server).saturating_sub(idle_mib);
    assert!(grown_mib < 700, "{grown_mib} MiB");
    drop(readers);
    wait_until("there is room again", || server.get(&page).status == 200);
    assert_eq!(server.get(&page).body.len(), length);
    assert_eq!(server.stop(), 0);
}
