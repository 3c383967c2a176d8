//! The whole server over loopback, beside an empty handler in the same run with the same client.

#![allow(clippy::panic, clippy::indexing_slicing, reason = "a benchmark that cannot go on stops")]

mod kit;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};
use kit::{Company, PEOPLE, SECRET, receive, user_id, verified};
use rollcall::engine::Engine;
use rollcall::http::{BODY_BYTES_MAX, ListenOn, Settings, WEBHOOK_PATH, serve};
use rollcall::keys::ApiKeys;
use rollcall::log::{Log, Unrecovered};
use rollcall::verify::Keyring;
use rollcall_generator::sign;

const TURN: Duration = Duration::from_millis(1500);
const TURNS: usize = 4;

/// Requests a second over `connections` kept-alive connections; `request` writes the next one.
fn load(
    address: SocketAddr,
    connections: usize,
    request: &(impl Fn(u64, &mut Vec<u8>) + Sync),
) -> f64 {
    let (stop, done, next) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| {
                let Ok(mut stream) = TcpStream::connect(address) else { panic!("no connection") };
                let _ = stream.set_nodelay(true);
                let (mut out, mut answer) = (Vec::new(), vec![0; 1 << 20]);
                while !stop.load(Ordering::Relaxed) {
                    out.clear();
                    request(next.fetch_add(1, Ordering::Relaxed), &mut out);
                    if stream.write_all(&out).is_err() {
                        panic!("the connection broke");
                    }
                    receive(&mut stream, &mut answer);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(TURN);
        stop.store(true, Ordering::Relaxed);
    });
    done.into_inner() as f64 / started.elapsed().as_secs_f64()
}

fn main() {
    let Ok(folder) = tempfile::tempdir() else { panic!("no temporary folder") };
    let log: Arc<dyn Log> =
        match Unrecovered::open(folder.path(), 512 << 20).and_then(|log| log.recover(&|_| {})) {
            Ok(log) => Arc::new(log),
            Err(error) => panic!("{error}"),
        };
    let keyring = Keyring::new([SECRET], u64::MAX);
    let mut company = Company::new();
    let mut bodies = company.sync();
    while bodies.len() < 20_000 {
        bodies.extend(company.happen());
    }
    for chunk in bodies.chunks(512) {
        if let Err(error) = log
            .append(chunk.iter().map(|body| verified(&keyring, body.clone())).collect(), kit::NOW)
        {
            panic!("{error}");
        }
    }
    let Ok(engine) = Engine::start(log, 256 << 20, rollcall::time::now_ms, |_| {}) else {
        panic!("the log does not fold")
    };
    let slot: Arc<OnceLock<Arc<Engine>>> = Arc::default();
    let _ = slot.set(engine.clone());
    let settings = Settings {
        keyring,
        api_keys: ApiKeys::unrestricted(["k"]),
        webhook_paths: vec![WEBHOOK_PATH.into()],
        body_bytes_max: BODY_BYTES_MAX,
        source: None,
    };
    let (sent, addresses) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let listen = [ListenOn::Tcp("127.0.0.1:0".into())];
            let Ok(server) = serve(&listen, None, settings, slot) else { panic!("no address") };
            let Some(address) = server.address() else { panic!("no address") };
            let empty = HttpServer::new(|| {
                App::new().route(
                    "/{any:.*}",
                    web::to(async |_body: web::Bytes| HttpResponse::Ok().body("{}")),
                )
            });
            let Ok(empty) = empty.bind("127.0.0.1:0") else { panic!("no address") };
            let _ = sent.send((address, empty.addrs()[0]));
            let _ = tokio::join!(server.run(), empty.run());
        });
    });
    let Ok((address, empty)) = addresses.recv() else { panic!("no server") };

    let present: Vec<String> = company.present.iter().map(|person| user_id(*person)).collect();
    let get = |n: u64, out: &mut Vec<u8>| {
        let id = &present[(n.wrapping_mul(7919) % PEOPLE) as usize];
        let _ = write!(
            out,
            "GET /directory_users/{id} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n\r\n"
        );
    };
    let login = |n: u64, out: &mut Vec<u8>| {
        let person = company.present[(n.wrapping_mul(7919) % PEOPLE) as usize];
        let query = format!(
            "organization_id={}&email={}",
            kit::ORGANIZATION,
            kit::email(person).to_uppercase()
        );
        let _ = write!(
            out,
            "GET /directory_users?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n\r\n"
        );
    };
    let ids: Vec<String> = bodies.iter().step_by(97).filter_map(|body| event_id(body)).collect();
    let events = |n: u64, out: &mut Vec<u8>| {
        let after = &ids[(n as usize).wrapping_mul(7919) % ids.len()];
        let query = format!(
            "events=dsync.user.created,dsync.user.updated,dsync.group.user_added&limit=100\
             &after={after}"
        );
        let _ = write!(
            out,
            "GET /events?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n\r\n"
        );
    };
    let template = String::from_utf8_lossy(&kit::event(
        1,
        "dsync.user.updated",
        kit::START,
        &kit::user(1, kit::START),
    ))
    .into_owned();
    let post = |n: u64, out: &mut Vec<u8>| {
        let body = template.replacen(
            "event_",
            &format!("event_{n}_{:?}_", std::thread::current().id()),
            1,
        );
        let header = sign(SECRET, kit::NOW, body.as_bytes());
        let _ = write!(
            out,
            "POST {WEBHOOK_PATH} HTTP/1.1\r\nHost: x\r\nWorkOS-Signature: {header}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
    };
    println!("{:<34} {:>12} {:>16} {:>8}", "", "requests/s", "empty handler", "ratio");
    for connections in [1, 8, 64] {
        compare("user by id", connections, [(address, &get), (empty, &get)]);
    }
    for connections in [8, 64] {
        compare("login: organization and email", connections, [(address, &login), (empty, &login)]);
    }
    compare("100 events", 8, [(address, &events), (empty, &events)]);
    for connections in [1, 8, 64] {
        compare("durable webhook", connections, [(address, &post), (empty, &post)]);
    }
    engine.close();
}

fn event_id(body: &[u8]) -> Option<String> {
    let event: serde_json::Value = serde_json::from_slice(body).ok()?;
    event["id"].as_str().map(str::to_owned)
}

/// Both in turns; the medians and their ratio.
fn compare(
    what: &str,
    connections: usize,
    works: [(SocketAddr, &(impl Fn(u64, &mut Vec<u8>) + Sync)); 2],
) {
    let mut rates = [Vec::new(), Vec::new()];
    for turn in 0..=TURNS {
        for ((address, request), rates) in works.iter().zip(&mut rates) {
            let rate = load(*address, connections, *request);
            if turn > 0 {
                rates.push(rate);
            }
        }
    }
    let [ours, empty] = rates.map(|mut rates| {
        rates.sort_by(f64::total_cmp);
        rates[rates.len() / 2]
    });
    println!(
        "{:<34} {ours:>12.0} {empty:>16.0} {:>8.2}",
        format!("{what}, {connections} connections"),
        ours / empty
    );
}
