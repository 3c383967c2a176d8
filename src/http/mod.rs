//! The HTTP server: the WorkOS API and Rollcall's own calls. `calls/mod.rs` is the table of
//! contents; a call is one file in `calls/`, and the plumbing is in `wire/`.

mod calls;
mod listen;
mod wire;
mod workers;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::thread::available_parallelism;

use actix_web::dev::ServerHandle;
use actix_web::guard::fn_guard;
use actix_web::http::Method;
use actix_web::{HttpRequest, HttpResponse, Responder, web};
use tokio::sync::Semaphore;

use crate::engine::Engine;
use crate::time;
pub(crate) use calls::scim::is_scim;
use calls::{OPERATIONS, ingest, methods, resources, scim};
pub use listen::ListenOn;
use listen::{Bound, SocketFile};
use wire::answer::{Code, Problem};
use wire::connections::Connections;
use wire::metrics::{Counting, OTHER, RequestMetrics};
use wire::state::{Addresses, LONG_POLL_PART, MetricsAccess, SplitSettings, State};
pub use wire::state::{BODY_BYTES_LIMIT, BODY_BYTES_MAX, KeySet, Keys, Settings, WEBHOOK_PATH};
use workers::{CONNECTIONS_MIN, Workers, connections_max};

/// The first segments of the server's own paths, also of future ones. A webhook path that begins
/// with one would hide a call.
pub const OWN_PATHS: [&str; 11] = [
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
    "scim",
];

/// A server that is listening. Its sockets in the file system are removed when it is dropped.
pub struct Server {
    /// The URL of each address that it listens on, in the order given: `http://127.0.0.1:8080`, or
    /// `unix:/path/to.sock`.
    pub urls: Vec<String>,
    /// The URL of the address for monitors and operators.
    pub admin_url: Option<String>,
    /// The secrets and limits of the server.
    pub keys: Keys,
    /// Stops the server.
    pub handle: Handle,
    servers: Vec<actix_web::dev::Server>,
    sockets: Vec<SocketFile>,
}

/// Stops a server.
#[derive(Clone)]
pub struct Handle(Vec<ServerHandle>);

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on `{listen}`: {error}")]
pub struct ListenError {
    listen: String,
    error: io::Error,
}

impl Handle {
    /// Stops the server, also if the result is not awaited. With `graceful`, requests in flight
    /// are finished.
    pub fn stop(&self, graceful: bool) -> impl Future<Output = ()> + use<> {
        let stops: Vec<_> = self.0.iter().map(|handle| handle.stop(graceful)).collect();
        async move {
            for stop in stops {
                stop.await;
            }
        }
    }
}

impl Server {
    /// Returns the first of its addresses that is not a socket in the file system.
    pub fn address(&self) -> Option<SocketAddr> {
        self.urls.iter().find_map(|url| url.strip_prefix("http://")?.parse().ok())
    }

    /// Serves to the end.
    ///
    /// # Errors
    /// Those of actix.
    pub async fn run(self) -> io::Result<()> {
        let mut servers = self.servers.into_iter();
        let (first, second) = (servers.next(), servers.next());
        // If one fails, the other must not go on alone.
        let served = tokio::try_join!(ended(first), ended(second));
        drop(self.sockets);
        served.map(|_| ())
    }
}

async fn ended(server: Option<actix_web::dev::Server>) -> io::Result<()> {
    match server {
        Some(server) => server.await,
        None => Ok(()),
    }
}

/// Listens and serves. Until `engine` is set, reads are answered with 503 `not_ready`.
///
/// The address for monitors and operators has threads of its own, so that it answers while the
/// others are busy. It takes every call but webhooks, and `/metrics` without a key; the others have
/// no `/metrics` then.
///
/// # Errors
/// If an address cannot be bound. Then none is.
pub fn serve(
    listen: &[ListenOn],
    admin_listen: Option<&ListenOn>,
    settings: Settings,
    engine: Arc<OnceLock<Arc<Engine>>>,
) -> Result<Server, ListenError> {
    let bound: Vec<Bound> = listen.iter().map(bind).collect::<Result<_, _>>()?;
    let admin = admin_listen.map(bind).transpose()?;
    let urls = bound.iter().map(Bound::url).collect();
    let admin_url = admin.as_ref().map(Bound::url);
    let SplitSettings { keys, webhook_paths, addresses } = settings.split();
    let main = Workers::new(available_parallelism().map_or(2, usize::from), connections_max());
    let state = state(keys.clone(), addresses, engine, main.connections.clone());
    let (mut servers, mut sockets) = (Vec::new(), Vec::new());
    let metrics = if admin.is_some() { MetricsAccess::Elsewhere } else { MetricsAccess::Keyed };
    let configure_main = configure(state.clone(), webhook_paths, metrics);
    let main = main.serve(bound, configure_main, &mut sockets);
    servers.push(main.map_err(|error| listen_error(listen.first(), error))?);
    if let Some(admin) = admin {
        let configure = configure(state, Vec::new(), MetricsAccess::Open);
        let few = Workers::new(1, CONNECTIONS_MIN);
        let server = few.serve(vec![admin], configure, &mut sockets);
        servers.push(server.map_err(|error| listen_error(admin_listen, error))?);
    }
    let handle = Handle(servers.iter().map(actix_web::dev::Server::handle).collect());
    Ok(Server { urls, admin_url, keys, handle, servers, sockets })
}

fn bind(listen: &ListenOn) -> Result<Bound, ListenError> {
    listen.bind().map_err(|error| listen_error(Some(listen), error))
}

fn listen_error(listen: Option<&ListenOn>, error: io::Error) -> ListenError {
    ListenError { listen: listen.map(ListenOn::to_string).unwrap_or_default(), error }
}

/// The connections that wait to be accepted, at most.
pub(super) const BACKLOG: i32 = 1024;

/// Configures every route of the server, over an engine that may still be catching up.
pub fn app(
    settings: Settings,
    engine: Arc<OnceLock<Arc<Engine>>>,
) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    let SplitSettings { keys, webhook_paths, addresses } = settings.split();
    let connections = Workers::new(1, CONNECTIONS_MIN).connections;
    configure(state(keys, addresses, engine, connections), webhook_paths, MetricsAccess::Keyed)
}

fn state(
    keys: Keys,
    addresses: Addresses,
    engine: Arc<OnceLock<Arc<Engine>>>,
    connections: Arc<Connections>,
) -> web::Data<State> {
    web::Data::new(State {
        keys,
        engine,
        source: addresses.source,
        sink: addresses.sink,
        public_url: addresses.public_url,
        deliveries: addresses.deliveries,
        started_at: time::now_ms(),
        operations: OPERATIONS,
        describe_more: scim::add_to,
        refusals: Default::default(),
        bodies: Default::default(),
        operator_bodies: Default::default(),
        scim_bodies: Default::default(),
        requests: Default::default(),
        turns: Default::default(),
        backups: Default::default(),
        large_answers: Default::default(),
        long_polls: Semaphore::new(connections.places().div_ceil(LONG_POLL_PART)),
        connections,
        stats: Default::default(),
    })
}

fn configure(
    state: web::Data<State>,
    webhook_paths: Vec<String>,
    metrics: MetricsAccess,
) -> impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static {
    move |config| {
        config.app_data(state.clone()).app_data(web::Data::new(metrics));
        let counting = Counting::of(OTHER, &state.requests);
        config.default_service(web::to(not_found).wrap(counting));
        routes(config, &webhook_paths, &state.requests);
    }
}

fn routes(
    config: &mut web::ServiceConfig,
    webhook_paths: &[String],
    requests: &Arc<RequestMetrics>,
) {
    for path in webhook_paths {
        // A slash at the end is easily added, or left out, where the endpoint's URL is entered.
        let path = path.trim_end_matches('/');
        let counting = Counting::of(path, requests);
        // One resource for both would be a set of regular expressions.
        for path in [path.to_owned(), format!("{path}/")] {
            config.service(
                web::resource(path)
                    .route(methods::post().to(ingest::webhook))
                    .default_service(web::to(post_only))
                    .wrap(counting.clone()),
            );
        }
    }
    resources(config, requests);
    let of_scim = fn_guard(|context| is_scim(context.head().uri.path()));
    let all = web::resource("/{path}*").guard(of_scim).default_service(web::to(scim::serve));
    config.service(all.wrap(Counting::of(scim::ROUTE, requests)));
}

async fn not_found(request: HttpRequest, state: web::Data<State>) -> impl Responder {
    if request.method() == Method::POST {
        state.refusals.refuse_path(request.path());
    }
    Problem::from(Code::NotFound).response()
}

/// Refuses a large answer while too many others are being read, in the shape that its path has.
fn too_many_large_answers(request: &HttpRequest) -> HttpResponse {
    let problem = Problem::too_many_large_answers();
    match is_scim(request.path()) {
        true => scim::refused(request, &problem),
        false => problem.response(),
    }
}

async fn post_only() -> impl Responder {
    Problem::method_not_allowed("POST")
}
