//! The outside: HTTP in the shapes of the WorkOS API, and Rollcall's own calls beside them. One
//! file a resource.

mod access_log;
mod answer;
mod api;
mod body;
mod changes;
mod deprovisionings;
mod diff;
mod directories;
mod events;
mod groups;
mod health;
mod history;
mod ingest;
mod log;
mod openapi;
mod periods;
mod places;
mod policy;
mod question;
mod role_mapping;
mod roles;
mod rollcall;
mod stats;
mod users;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::guard::fn_guard;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, Responder, web};

use crate::engine::Engine;
use crate::verify::{ApiKeys, Keyring};
use answer::{Code, Problem};
use api::Operation;

/// At most so many bytes in a webhook's body.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// Every request is answered within this time; how long a stop waits for requests in flight.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The path of webhooks, unless others are set.
pub const WEBHOOK_PATH: &str = "/webhooks/workos";

/// First segments of the server's own paths, those to come included: a webhook path among them
/// would hide a call.
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
    api_keys: ApiKeys,
    /// Set once the log is folded.
    engine: Arc<OnceLock<Arc<Engine>>>,
    /// Webhooks refused since the start, by the codes of [`Code::SIGNATURES`].
    rejections: [AtomicU64; Code::SIGNATURES.len()],
    /// Only one answer about traffic is computed at a time: each walks over a month.
    stats: tokio::sync::Mutex<()>,
}

impl State {
    /// The engine, once it has caught up.
    fn engine(&self) -> Result<&Arc<Engine>, Problem> {
        self.engine.get().ok_or(Code::NotReady.into())
    }

    fn count_rejection(&self, code: Code) -> Code {
        for (counter, _) in
            self.rejections.iter().zip(Code::SIGNATURES).filter(|(_, other)| *other == code)
        {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        code
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

/// Listens at `listen` and serves: reads as soon as `engine` is set, and until then 503
/// `not_ready`.
///
/// # Errors
/// If the address cannot be had.
pub fn serve(
    listen: impl std::net::ToSocketAddrs,
    settings: Settings,
    engine: Arc<OnceLock<Arc<Engine>>>,
) -> std::io::Result<Server> {
    let listener = TcpListener::bind(listen)?;
    let address = listener.local_addr()?;
    let configure = app(settings, engine);
    let running = HttpServer::new(move || App::new().configure(&configure))
        .shutdown_timeout(ANSWER_WITHIN.as_secs())
        .client_request_timeout(ANSWER_WITHIN)
        // Whoever has left waits for nothing: a long poll ends with its connection.
        .h1_allow_half_closed(false)
        .disable_signals()
        .listen(listener)?
        .run();
    Ok(Server { address, handle: running.handle(), running })
}

/// Every route of the server, over an engine that may still be catching up.
pub fn app(
    settings: Settings,
    engine: Arc<OnceLock<Arc<Engine>>>,
) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let Settings { keyring, api_keys, webhook_paths } = settings;
    let api_keys = ApiKeys::new(api_keys.iter().map(String::as_str));
    let state = web::Data::new(State {
        keyring,
        api_keys,
        engine,
        rejections: Default::default(),
        stats: Default::default(),
    });
    move |config| {
        config.app_data(state.clone()).default_service(web::to(not_found));
        routes(config, &webhook_paths);
    }
}

fn routes(config: &mut web::ServiceConfig, webhook_paths: &[String]) {
    for path in webhook_paths {
        config.service(
            web::resource(path)
                .route(web::post().to(ingest::webhook))
                .default_service(web::to(post_only)),
        );
    }
    resources(config);
}

/// Registers each call, those of one path together, and lists it for the document that describes
/// them.
macro_rules! calls {
    ($($($method:ident $operation:path => $handler:path),+;)*) => {
        /// Every call but webhooks.
        const OPERATIONS: &[&Operation] = &[$($(&$operation,)+)*];

        fn resources(config: &mut web::ServiceConfig) {
            $(
                let operations = [$(&$operation),+];
                let allowed = operations.map(|operation| operation.method.name()).join(", ");
                let other = move || {
                    let allowed = allowed.clone();
                    async move { Problem::method_not_allowed(&allowed) }
                };
                let [first, ..] = operations;
                let resource = web::resource(first.path)$(.route(web::$method().to($handler)))+;
                let resource = resource.default_service(web::to(other.clone()));
                // Only there: what is asked at each login pays nothing for it.
                if operations.iter().any(|operation| operation.sensitive) {
                    config.service(resource.wrap(from_fn(access_log::note)));
                } else {
                    if access_log::tells_of_the_past(first) {
                        let past = web::resource(first.path)$(.route(web::$method().to($handler)))+.default_service(web::to(other));
                        let asked = fn_guard(|context| access_log::asks_about_the_past(context.head().uri.query()));
                        config.service(past.guard(asked).wrap(from_fn(access_log::note)));
                    }
                    config.service(resource);
                }
            )*
        }
    };
}

calls! {
    get directories::LIST => directories::list;
    get directories::ITEM => directories::item, delete directories::DELETION => directories::delete;
    get users::LIST => users::list;
    get users::ITEM => users::item;
    get groups::LIST => groups::list;
    get groups::ITEM => groups::item;
    get events::LIST => events::list;
    get policy::SHOW => policy::show, put policy::SET => policy::set;
    get role_mapping::SHOW => role_mapping::show, put role_mapping::SET => role_mapping::set;
    get role_mapping::VERSIONS => role_mapping::versions;
    post role_mapping::PREVIEW => role_mapping::preview;
    get roles::ASSIGNMENTS => roles::assignments;
    get users::WITH_EMAIL => users::with_email;
    get periods::ACCESS => periods::access;
    get periods::ROLES => periods::roles;
    get periods::GROUPS => periods::groups;
    get periods::MEMBERS => periods::members;
    get deprovisionings::LIST => deprovisionings::list;
    get changes::LIST => changes::list;
    get history::OF_USER => history::of_user;
    get history::OF_GROUP => history::of_group;
    get diff::DIFF => diff::diff;
    get rollcall::QUARANTINE => rollcall::quarantine;
    get rollcall::PROJECTIONS => rollcall::projections;
    get rollcall::LAST_REBUILD => rollcall::last_rebuild, post rollcall::REBUILD => rollcall::rebuild;
    get log::CHECKPOINT => log::checkpoint;
    get log::ENTRY => log::entry;
    get log::INCLUSION => log::inclusion;
    get log::CONSISTENCY => log::consistency;
    get log::KEY => log::key, post log::CHANGE_KEY => log::change_key;
    get stats::STATS => stats::stats;
    get health::ALIVE => health::alive;
    get health::READY => health::ready;
    get openapi::DOCUMENT => openapi::document;
}

async fn not_found() -> impl Responder {
    Problem::from(Code::NotFound).response()
}

async fn post_only() -> impl Responder {
    Problem::method_not_allowed("POST")
}
