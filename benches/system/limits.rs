//! The limits of the machine: a server that does nothing, in a process of its own, and a file to
//! which is appended.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};

use crate::server::{Process, Target};

/// The longest body that the server has at hand, or takes.
const BODY_BYTES_MAX: usize = 32 << 20;

/// A server whose handlers are empty, or answer with a fixed body.
pub(crate) struct Limits {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Limits {
    pub(crate) fn start() -> Limits {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let (process, address) = Process::start(command.arg("--as-limits"));
        Limits { process, address: address.parse().unwrap() }
    }

    pub(crate) fn target(&self) -> Target {
        self.process.target(self.address)
    }
}

/// Works as the server that does nothing.
pub(crate) fn serve() {
    let body = web::Bytes::from(vec![b'x'; BODY_BYTES_MAX]);
    let fixed = async |bytes: web::Path<usize>, body: web::Data<web::Bytes>| {
        HttpResponse::Ok().body(body.slice(..*bytes))
    };
    actix_web::rt::System::new().block_on(async move {
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::new(body.clone()))
                .app_data(web::PayloadConfig::new(BODY_BYTES_MAX))
                .route("/fixed/{bytes}", web::get().to(fixed))
                .default_service(web::to(async |_body: web::Bytes| HttpResponse::Ok().body("{}")))
        });
        let server = server.bind("127.0.0.1:0").unwrap();
        println!("{}", server.addrs()[0]);
        server.run().await.unwrap();
    });
}

/// Returns how often in a second some bytes are appended to a file and synced.
pub(crate) fn appends_per_s(folder: &Path, bytes: usize, time: Duration) -> f64 {
    let path = folder.join("appended");
    let (mut file, body) = (File::create(&path).unwrap(), vec![b'x'; bytes]);
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < time {
        file.write_all(&body).unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    let per_s = f64::from(count) / begun.elapsed().as_secs_f64();
    std::fs::remove_file(&path).unwrap();
    per_s
}

/// The bytes that an event takes in a value of the store, when few are stored at once.
const STORED_BYTES: usize = 900;

/// Returns how often in a second sled, with the server's settings, stores some events as one value,
/// flushes it and syncs its file: no server that stores its log so commits more often.
pub(crate) fn sled_commits_per_s(folder: &Path, events: usize, time: Duration) -> f64 {
    let path = folder.join("sled");
    let config = sled::Config::new().path(&path).mode(sled::Mode::HighThroughput);
    let db = config.segment_size(8 << 20).flush_every_ms(None).open().unwrap();
    let (file, value) = (File::open(path.join("db")).unwrap(), vec![b'x'; STORED_BYTES * events]);
    let (begun, mut count) = (Instant::now(), 0_u64);
    while begun.elapsed() < time {
        db.insert(count.to_be_bytes(), &value[..]).unwrap();
        db.flush().unwrap();
        file.sync_data().unwrap();
        count += 1;
    }
    let per_s = count as f64 / begun.elapsed().as_secs_f64();
    drop(db);
    std::fs::remove_dir_all(&path).unwrap();
    per_s
}

/// Returns how often in a second one thread wakes another, which wakes it in turn.
pub(crate) fn handovers_per_s(time: Duration) -> f64 {
    let (there, asked) = std::sync::mpsc::sync_channel::<()>(1);
    let (back, answered) = std::sync::mpsc::sync_channel::<()>(1);
    let other = std::thread::spawn(move || asked.iter().all(|()| back.send(()).is_ok()));
    let (begun, mut count) = (Instant::now(), 0);
    while begun.elapsed() < time {
        there.send(()).unwrap();
        answered.recv().unwrap();
        count += 1;
    }
    let per_s = f64::from(count) / begun.elapsed().as_secs_f64();
    drop(there);
    other.join().unwrap();
    per_s
}
