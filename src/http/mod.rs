//! The outside: HTTP in the shapes of the WorkOS API, and Rollcall's own calls beside them. One file a resource.

mod answer;
mod directories;
mod groups;
mod health;
mod ingest;
mod question;
mod rollcall;
mod users;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, Responder, web};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::engine::Engine;
use crate::verify::Keyring;
use answer::Problem;

/// At most so many bytes in a webhook's body.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Every request is answered within this time; how long a stop waits for requests in flight.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The path of webhooks, unless others are set.
pub const WEBHOOK_PATH: &str = "/webhooks/workos";

/// First segments of the server's own paths, those to come included: a webhook path among them would hide a call.
pub const OWN_PATHS: [&str; 10] =
    ["", "directories", "directory_users", "directory_groups", "events", "rollcall", "healthz", "readyz", "metrics", "openapi.json"];

/// What a server is set up with.
pub struct Settings {
    /// Verifies webhooks.
    pub keyring: Keyring,
    /// Keys that may read.
    pub api_keys: Vec<String>,
    /// Where webhooks arrive.
    pub webhook_paths: Vec<String>,
}

/// What every request sees.
struct State {
    keyring: Keyring,
    /// Digests, so that comparing takes the same time whatever the key's length.
    api_keys: Vec<[u8; 32]>,
    /// Set once the log is folded.
    engine: Arc<OnceLock<Arc<Engine>>>,
}

impl State {
    /// The engine, once it has caught up.
    fn engine(&self) -> Result<&Arc<Engine>, Problem> {
        self.engine.get().ok_or_else(Problem::not_ready)
    }

    fn knows(&self, key: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(key).into();
        self.api_keys.iter().fold(false, |known, other| known | bool::from(other.ct_eq(&digest)))
    }
}

/// A server that is listening.
pub struct Server {
    /// Where.
    pub address: SocketAddr,
    /// Stops it.
    pub handle: ServerHandle,
    /// Runs it to its end.
    pub running: actix_web::dev::Server,
}

/// Listens at `listen` and serves: reads as soon as `engine` is set, and until then 503 `not_ready`.
///
/// # Errors
/// If the address cannot be had.
pub fn serve(listen: impl std::net::ToSocketAddrs, settings: Settings, engine: Arc<OnceLock<Arc<Engine>>>) -> std::io::Result<Server> {
    let listener = TcpListener::bind(listen)?;
    let address = listener.local_addr()?;
    let configure = app(settings, engine);
    let running = HttpServer::new(move || App::new().configure(&configure))
        .shutdown_timeout(ANSWER_WITHIN.as_secs())
        .client_request_timeout(ANSWER_WITHIN)
        .disable_signals()
        .listen(listener)?
        .run();
    Ok(Server { address, handle: running.handle(), running })
}

/// Every route of the server, over an engine that may still be catching up.
pub fn app(settings: Settings, engine: Arc<OnceLock<Arc<Engine>>>) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let Settings { keyring, api_keys, webhook_paths } = settings;
    let api_keys = api_keys.iter().map(|key| Sha256::digest(key).into()).collect();
    let state = web::Data::new(State { keyring, api_keys, engine });
    move |config| {
        config.app_data(state.clone()).default_service(web::to(not_found));
        routes(config, &webhook_paths);
    }
}

fn routes(config: &mut web::ServiceConfig, webhook_paths: &[String]) {
    for path in webhook_paths {
        config.service(web::resource(path).route(web::post().to(ingest::webhook)).default_service(web::to(post_only)));
    }
    macro_rules! get {
        ($($path:literal => $handler:path,)*) => {
            $(config.service(web::resource($path).route(web::get().to($handler)).default_service(web::to(get_only)));)*
        };
    }
    get! {
        "/directories" => directories::list,
        "/directories/{id}" => directories::item,
        "/directory_users" => users::list,
        "/directory_users/{id}" => users::item,
        "/directory_groups" => groups::list,
        "/directory_groups/{id}" => groups::item,
        "/rollcall/v1/quarantine" => rollcall::quarantine,
        "/rollcall/v1/projections" => rollcall::projections,
        "/healthz" => health::alive,
        "/readyz" => health::ready,
    }
}

async fn not_found() -> impl Responder {
    Problem::not_found().response()
}

async fn get_only() -> impl Responder {
    Problem::method_not_allowed("GET")
}

async fn post_only() -> impl Responder {
    Problem::method_not_allowed("POST")
}
