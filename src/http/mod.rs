//! The HTTP server: the WorkOS API and Rollcall's own calls. `calls!` below is the table of
//! contents; a call is one file in `calls/`, and the plumbing is in `wire/`.

mod calls;
mod wire;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};

use actix_web::dev::ServerHandle;
use actix_web::guard::fn_guard;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, Responder, web};

use crate::engine::Engine;
use crate::verify::ApiKeys;
use calls::*;
use wire::access_log;
use wire::answer::{ANSWER_WITHIN, Code, Problem};
use wire::api::{Logged, Operation};
use wire::state::State;
pub use wire::state::{Settings, WEBHOOK_PATH};

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
    let address = listener.local_addr()?;
    let configure = app(settings, engine);
    let running = HttpServer::new(move || App::new().configure(&configure))
        .shutdown_timeout(ANSWER_WITHIN.as_secs())
        .client_request_timeout(ANSWER_WITHIN)
        // A long poll must end with its connection.
        .h1_allow_half_closed(false)
        .disable_signals()
        .listen(listener)?
        .run();
    Ok(Server { address, handle: running.handle(), running })
}

/// Configures every route of the server, over an engine that may still be catching up.
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
        operations: OPERATIONS,
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

/// Registers each call, those of one path together, and lists it for `/openapi.json`.
macro_rules! calls {
    ($($($method:ident $operation:path => $handler:path),+;)*) => {
        /// Every call but webhooks.
        const OPERATIONS: &[&Operation] = &[$($(&$operation,)+)*];

        $($(const _: () = $operation.check();)+)*

        fn resources(config: &mut web::ServiceConfig) {
            $(
                let operations = [$(&$operation),+];
                let [first, ..] = operations;
                let allowed = operations.map(|operation| operation.method.name()).join(", ");
                let resource = || {
                    let allowed = allowed.clone();
                    let other = move || {
                        let allowed = allowed.clone();
                        async move { Problem::method_not_allowed(&allowed) }
                    };
                    web::resource(first.path)$(.route(web::$method().to($handler)))+
                        .default_service(web::to(other))
                };
                // Only questions to be logged pass the middleware: those of a login do not pay.
                let logged = operations.map(|operation| operation.logged);
                if logged.contains(&Logged::Always) {
                    config.service(resource().wrap(from_fn(access_log::note)));
                } else {
                    if logged.contains(&Logged::AboutThePast) {
                        let past = resource().guard(fn_guard(|context| {
                            access_log::asks_about_the_past(context.head().uri.query())
                        }));
                        config.service(past.wrap(from_fn(access_log::note)));
                    }
                    config.service(resource());
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
    get quarantine::QUARANTINE => quarantine::quarantine;
    get projections::PROJECTIONS => projections::projections;
    get projections::LAST_REBUILD => projections::last_rebuild,
        post projections::REBUILD => projections::rebuild;
    get proofs::CHECKPOINT => proofs::checkpoint;
    get proofs::ENTRY => proofs::entry;
    get proofs::INCLUSION => proofs::inclusion;
    get proofs::CONSISTENCY => proofs::consistency;
    get proofs::KEY => proofs::key, post proofs::CHANGE_KEY => proofs::change_key;
    get stats::STATS => stats::stats;
    get health::ALIVE => health::alive;
    get health::READY => health::ready;
    get document::SHOW => document::show;
}

async fn not_found() -> impl Responder {
    Problem::from(Code::NotFound).response()
}

async fn post_only() -> impl Responder {
    Problem::method_not_allowed("POST")
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::api::Method;

    /// The calls that tell histories of people, or find them across organizations.
    const ALWAYS: [&str; 14] = [
        "/events",
        "/rollcall/v1/changes",
        "/rollcall/v1/deprovisionings",
        "/rollcall/v1/diff",
        "/rollcall/v1/groups/{id}/history",
        "/rollcall/v1/groups/{id}/members",
        "/rollcall/v1/log/entries/{seq}",
        "/rollcall/v1/quarantine",
        "/rollcall/v1/role_assignments",
        "/rollcall/v1/users",
        "/rollcall/v1/users/{id}/access",
        "/rollcall/v1/users/{id}/groups",
        "/rollcall/v1/users/{id}/history",
        "/rollcall/v1/users/{id}/roles",
    ];

    /// The calls that applications make as they work.
    const ABOUT_THE_PAST: [&str; 6] = [
        "/directories",
        "/directories/{id}",
        "/directory_groups",
        "/directory_groups/{id}",
        "/directory_users",
        "/directory_users/{id}",
    ];

    /// The calls that tell of no person.
    const NEVER: [&str; 10] = [
        "/rollcall/v1/log/checkpoint",
        "/rollcall/v1/log/key",
        "/rollcall/v1/log/proof/consistency",
        "/rollcall/v1/log/proof/inclusion",
        "/rollcall/v1/policy",
        "/rollcall/v1/projections",
        "/rollcall/v1/projections/rebuild",
        "/rollcall/v1/role_mapping",
        "/rollcall/v1/role_mapping/versions",
        "/rollcall/v1/stats",
    ];

    #[test]
    fn each_call_that_reads_is_logged_or_known_not_to_be() {
        let reads = |logged: &[Logged]| -> Vec<&str> {
            let reads = OPERATIONS
                .iter()
                .filter(|operation| operation.is_keyed() && operation.method == Method::Get);
            let mut paths: Vec<&str> = reads
                .filter(|operation| logged.contains(&operation.logged))
                .map(|operation| operation.path)
                .collect();
            paths.sort_unstable();
            paths
        };
        assert_eq!(reads(&[Logged::Always]), ALWAYS, "a call that tells histories is logged");
        assert_eq!(reads(&[Logged::AboutThePast]), ABOUT_THE_PAST, "the contract's reads");
        assert_eq!(reads(&[Logged::Never]), NEVER, "a new call is put into one of the lists");
    }
}
