//! The HTTP server: the WorkOS API and Rollcall's own calls. `calls/mod.rs` is the table of
//! contents; a call is one file in `calls/`, and the plumbing is in `wire/`.

mod calls;
mod wire;

use std::any::Any;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;

use actix_web::dev::{Extensions, ServerHandle};
use actix_web::http::Method;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpRequest, HttpServer, Responder, web};

use crate::engine::Engine;
use calls::{OPERATIONS, ingest, resources};
use wire::answer::{ANSWER_WITHIN, Code, Problem};
use wire::state::State;
pub use wire::state::{BODY_BYTES_LIMIT, BODY_BYTES_MAX, Keys, Settings, WEBHOOK_PATH};

/// The first segments of the server's own paths, also of future ones. A webhook path that begins
/// with one would hide a call.
pub const OWN_PATHS: [&str; 10] = [
    "",
    "directories",
    "directory_users",
    "directory_groups",
    "events",
    "rollcall",
    "healthz",
    "readyz",
    "metrics",
    "openapi.json",
];

/// A server that is listening.
pub struct Server {
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The secrets of the server.
    pub keys: Keys,
    /// Stops the server.
    pub handle: ServerHandle,
    /// Runs the server to its end.
    pub running: actix_web::dev::Server,
}

/// Listens at `listen` and serves. Until `engine` is set, reads are answered with 503 `not_ready`.
///
/// # Errors
/// If the address cannot be bound.
pub fn serve(
    listen: impl std::net::ToSocketAddrs,
    settings: Settings,
    engine: Arc<OnceLock<Arc<Engine>>>,
) -> std::io::Result<Server> {
    let listener = TcpListener::bind(listen)?;
    rustix::net::listen(&listener, BACKLOG)?;
    let address = listener.local_addr()?;
    let keys = Keys::new(settings.keyring, &settings.api_keys);
    let configure =
        configure(keys.clone(), settings.webhook_paths, settings.body_bytes_max, engine);
    let workers = available_parallelism().map_or(2, usize::from);
    let running = HttpServer::new(move || App::new().configure(&configure))
        .workers(workers)
        .max_connections(connections_max().div_ceil(workers))
        .on_connect(bound_writes)
        .shutdown_timeout(ANSWER_WITHIN.as_secs())
        .client_request_timeout(ANSWER_WITHIN)
        // A long poll must end with its connection.
        .h1_allow_half_closed(false)
        .disable_signals()
        .listen(listener)?
        .run();
    Ok(Server { address, keys, handle: running.handle(), running })
}

/// The connections that wait to be accepted, at most.
const BACKLOG: i32 = 1024;

/// The descriptors that are kept for files and for what the server asks of others.
const FILES: usize = 128;

/// The most connections, whatever the limit of descriptors is.
const CONNECTIONS_MAX: usize = 16_384;

/// The fewest connections.
const CONNECTIONS_MIN: usize = 64;

/// The time after which a reader that does not read is cut off, in milliseconds.
const UNREAD_MS_MAX: u32 = 30_000;

/// Returns the number of connections that may be open. It stays below the limit of descriptors: one
/// more waits until another is closed, which an idle one is after five seconds.
fn connections_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    limit.saturating_sub(FILES).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}

/// Has the system close a connection whose other side does not take what was written.
fn bound_writes(connection: &dyn Any, _: &mut Extensions) {
    if let Some(stream) = connection.downcast_ref::<TcpStream>() {
        // Without it the connection stays open for as long as the other side answers at all.
        let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, UNREAD_MS_MAX);
    }
}

/// Configures every route of the server, over an engine that may still be catching up.
pub fn app(
    settings: Settings,
    engine: Arc<OnceLock<Arc<Engine>>>,
) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let keys = Keys::new(settings.keyring, &settings.api_keys);
    configure(keys, settings.webhook_paths, settings.body_bytes_max, engine)
}

fn configure(
    keys: Keys,
    webhook_paths: Vec<String>,
    body_bytes_max: usize,
    engine: Arc<OnceLock<Arc<Engine>>>,
) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let state = web::Data::new(State {
        keys,
        engine,
        operations: OPERATIONS,
        body_bytes_max: body_bytes_max.min(BODY_BYTES_LIMIT),
        refusals: Default::default(),
        bodies: Default::default(),
        operator_bodies: Default::default(),
        turns: Default::default(),
        stats: Default::default(),
    });
    move |config| {
        config.app_data(state.clone()).default_service(web::to(not_found));
        routes(config, &webhook_paths);
    }
}

fn routes(config: &mut web::ServiceConfig, webhook_paths: &[String]) {
    for path in webhook_paths {
        // A slash at the end is easily added, or left out, where the endpoint's URL is entered.
        let path = path.trim_end_matches('/');
        let both = [path.to_owned(), format!("{path}/")];
        config.service(
            web::resource(both)
                .route(web::post().to(ingest::webhook))
                .default_service(web::to(post_only)),
        );
    }
    resources(config);
}

async fn not_found(request: HttpRequest, state: web::Data<State>) -> impl Responder {
    if request.method() == Method::POST {
        state.refusals.refuse_path(request.path());
    }
    Problem::from(Code::NotFound).response()
}

async fn post_only() -> impl Responder {
    Problem::method_not_allowed("POST")
}
