//! The limits of the machine: a server that does nothing, in a process of its own, and a file to
//! which is appended.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use actix_web::{App, HttpResponse, HttpServer, web};

use crate::server::Process;

/// The longest body that the server has at hand, or takes.
const BODY_BYTES_MAX: usize = 32 << 20;

/// A server whose handlers are empty, or answer with a fixed body.
pub(crate) struct Limits {
    _process: Process,
    pub(crate) address: SocketAddr,
}

impl Limits {
    pub(crate) fn start() -> Limits {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let (process, address) = Process::start(command.arg("--as-limits"));
        Limits { _process: process, address: address.parse().unwrap() }
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
