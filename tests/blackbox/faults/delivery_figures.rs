//! Figures of webhooks that go out, next to the same receiver driven by a load generator. Run by
//! `tests/long sending`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::kit::receiver::{Receiver, endpoint, start_sending, wait_until_delivered};
use crate::kit::server::{API_KEY, Server, user};

/// The variable that turns them on.
const FIGURES: &str = "ROLLCALL_DELIVERY_FIGURES";

/// The webhooks of a measurement.
const COUNT: usize = 30_000;

fn import(server: &Server, count: usize) {
    let at = "2026-01-01T00:00:00.000Z";
    let line = |number: usize| {
        let id = format!("u{number}");
        user(&id, "d", &id, at, &format!("event_{number}"), "dsync.user.created")
    };
    let numbers: Vec<usize> = (0..count).collect();
    for some in numbers.chunks(500) {
        let lines: Vec<String> = some.iter().map(|number| line(*number)).collect();
        let url = format!("{}/rollcall/v1/import", server.url);
        assert_eq!(server.send("post", &url, API_KEY, &lines.join("\n")).status, 200);
    }
}

/// Posts the same bytes again and again over some connections, one request at a time on each.
fn drive(address: &str, body: &[u8], connections: usize, count: usize) -> Duration {
    let head = format!(
        "POST /webhooks HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
         Rollcall-Seq: 0\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let request = [head.as_bytes(), body].concat();
    let (sent, begun) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while sent.fetch_add(1, Ordering::Relaxed) < count {
                    stream.write_all(&request).unwrap();
                    let mut line = String::new();
                    while line != "\r\n" {
                        line.clear();
                        reader.read_line(&mut line).unwrap();
                    }
                }
            });
        }
    });
    begun.elapsed()
}

#[test]
fn webhooks_a_second_in_order_and_with_many_in_flight() {
    if std::env::var_os(FIGURES).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = start_sending(folder.path(), &[]);
    import(&server, COUNT);
    assert_eq!(server.stop(), 0);
    for (name, in_flight, more) in
        [("in order", 1, ""), ("16 in flight", 16, "ordered = false\nmax_in_flight = 16\n")]
    {
        let app = Receiver::start();
        let name_of_endpoint = format!("app{in_flight}");
        let more = format!("{more}events = [\"dsync.*\"]\nfrom = \"start\"");
        let endpoints = [endpoint(&name_of_endpoint, &app.address, &more)];
        let server = start_sending(folder.path(), &endpoints);
        wait_until_delivered(&server, &name_of_endpoint);
        let got = app.got();
        let (first, last) = (&got[0], got.iter().max_by_key(|one| one.at).unwrap());
        let rate = got.len() as f64 / (last.at - first.at).as_secs_f64();
        drop(server);
        let other = Receiver::start();
        let took = drive(&other.address, &first.body, in_flight, COUNT);
        let driven = COUNT as f64 / took.as_secs_f64();
        println!(
            "{name}: {rate:.0} webhooks a second of {} bytes; a load generator {driven:.0}, {:.0} %",
            first.body.len(),
            100.0 * rate / driven
        );
    }
}
