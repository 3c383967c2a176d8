//! The calls, one file a resource, and the table of contents: `calls!` below has one line for each
//! path. The calls use the plumbing and not each other.

pub(crate) mod backup;
pub(crate) mod changes;
pub(crate) mod deprovisionings;
pub(crate) mod diff;
pub(crate) mod directories;
pub(crate) mod document;
pub(crate) mod endpoints;
pub(crate) mod events;
pub(crate) mod groups;
pub(crate) mod health;
pub(crate) mod history;
pub(crate) mod hosted;
pub(crate) mod import;
pub(crate) mod ingest;
pub(crate) mod last_heard;
pub(crate) mod links;
pub(crate) mod metrics;
pub(crate) mod names;
pub(crate) mod periods;
pub(crate) mod policy;
pub(crate) mod projections;
pub(crate) mod proofs;
pub(crate) mod quarantine;
pub(crate) mod reconciliations;
pub(crate) mod role_mapping;
pub(crate) mod roles;
pub(crate) mod scim;
pub(crate) mod scim_requests;
pub(crate) mod sink;
pub(crate) mod sources;
pub(crate) mod stats;
pub(crate) mod users;

use std::sync::Arc;

use actix_web::web;

use crate::http::wire::access_log::Noting;
use crate::http::wire::answer::Problem;
use crate::http::wire::api::Operation;
use crate::http::wire::metrics::{Counting, RequestMetrics};

/// The routes of a path, by the method of their calls. actix's own guards of methods note on each
/// request what they take, for an answer that no path here gives.
pub(super) mod methods {
    use actix_web::Route;
    use actix_web::guard::fn_guard;
    use actix_web::http::Method;
    use actix_web::web::route;

    /// Takes HEAD as GET. The server writes no body then, and the same headers
    /// (<https://www.rfc-editor.org/rfc/rfc9110#section-9.3.2>).
    pub(super) fn get() -> Route {
        taking(|method| method == Method::GET || method == Method::HEAD)
    }

    pub(in crate::http) fn post() -> Route {
        taking(|method| method == Method::POST)
    }

    pub(super) fn put() -> Route {
        taking(|method| method == Method::PUT)
    }

    pub(super) fn delete() -> Route {
        taking(|method| method == Method::DELETE)
    }

    fn taking(takes: fn(&Method) -> bool) -> Route {
        route().guard(fn_guard(move |context| takes(&context.head().method)))
    }
}

/// Registers each call, those of one path together, and lists it for `/openapi.json`.
macro_rules! calls {
    ($($($method:ident $operation:path => $handler:path),+;)*) => {
        /// Every call but webhooks.
        pub(crate) const OPERATIONS: &[&Operation] = &[$($(&$operation,)+)*];

        $($(const _: () = $operation.check();)+)*

        /// Registers every call but webhooks.
        pub(crate) fn resources(config: &mut web::ServiceConfig, requests: &Arc<RequestMetrics>) {
            $(
                let operations = [$(&$operation),+];
                let [first, ..] = operations;
                let allowed = operations.map(|operation| operation.method.allowed()).join(", ");
                let other = move || {
                    let allowed = allowed.clone();
                    async move { Problem::method_not_allowed(&allowed) }
                };
                let resource = web::resource(first.path)
                    $(.route(methods::$method().to($handler)))+
                    .default_service(web::to(other));
                let counting = Counting::of(first.path, requests).noting(Noting::of(&operations));
                config.service(resource.wrap(counting));
            )*
        }
    };
}

// A request is compared with one path after the other, so those of logins come first.
calls! {
    get users::LIST => users::list;
    get users::ITEM => users::item;
    get directories::LIST => directories::list;
    get directories::ITEM => directories::item, delete directories::DELETION => directories::delete;
    get groups::LIST => groups::list;
    get groups::ITEM => groups::item;
    get events::LIST => events::list;
    post hosted::CREATION => hosted::create;
    get hosted::TOKENS => hosted::tokens, post hosted::TOKEN_CREATION => hosted::create_token;
    delete hosted::TOKEN_DELETION => hosted::delete_token;
    get scim_requests::LIST => scim_requests::list;
    get scim_requests::ITEM => scim_requests::item;
    get policy::SHOW => policy::show, put policy::SET => policy::set;
    get role_mapping::SHOW => role_mapping::show, put role_mapping::SET => role_mapping::set;
    get role_mapping::VERSIONS => role_mapping::versions;
    post role_mapping::PREVIEW => role_mapping::preview;
    get roles::ASSIGNMENTS => roles::assignments;
    get users::WITH_EMAIL => users::with_email;
    get names::NAMES => names::names;
    get periods::ACCESS => periods::access;
    get periods::ROLES => periods::roles;
    get periods::GROUPS => periods::groups;
    get periods::MEMBERS => periods::members;
    get last_heard::OF_USER => last_heard::of_user;
    get deprovisionings::LIST => deprovisionings::list;
    get links::LIST => links::list, put links::SET => links::set,
        delete links::REMOVAL => links::remove;
    get changes::LIST => changes::list;
    get history::OF_USER => history::of_user;
    get history::OF_GROUP => history::of_group;
    get diff::DIFF => diff::diff;
    get quarantine::QUARANTINE => quarantine::quarantine;
    get projections::PROJECTIONS => projections::projections;
    get projections::LAST_REBUILD => projections::last_rebuild,
        post projections::REBUILD => projections::rebuild;
    get reconciliations::LIST => reconciliations::list,
        post reconciliations::BEGIN => reconciliations::begin;
    get reconciliations::ITEM => reconciliations::item;
    get proofs::CHECKPOINT => proofs::checkpoint;
    get proofs::ENTRY => proofs::entry;
    get proofs::INCLUSION => proofs::inclusion;
    get proofs::CONSISTENCY => proofs::consistency;
    get proofs::KEY => proofs::key, post proofs::CHANGE_KEY => proofs::change_key;
    get sources::LIST => sources::list;
    post sources::PULL => sources::pull;
    get endpoints::LIST => endpoints::list;
    post endpoints::RETRY => endpoints::retry;
    post endpoints::SKIP => endpoints::skip;
    post endpoints::REPLAY => endpoints::replay;
    post endpoints::TEST => endpoints::test;
    get sink::SHOW => sink::show;
    post sink::REBUILD => sink::rebuild;
    get stats::STATS => stats::stats;
    post backup::BACKUP => backup::backup;
    post import::IMPORT => import::import;
    get health::ALIVE => health::alive;
    get health::READY => health::ready;
    get metrics::METRICS => metrics::show;
    get document::SHOW => document::show;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::wire::api::{Logged, Method};

    /// The calls that tell histories of people, or find them across organizations.
    const ALWAYS: [&str; 21] = [
        "/events",
        "/rollcall/v1/changes",
        "/rollcall/v1/deprovisionings",
        "/rollcall/v1/diff",
        "/rollcall/v1/groups/{id}/history",
        "/rollcall/v1/groups/{id}/members",
        "/rollcall/v1/links",
        "/rollcall/v1/log/entries/{seq}",
        "/rollcall/v1/names",
        "/rollcall/v1/quarantine",
        "/rollcall/v1/reconciliations",
        "/rollcall/v1/reconciliations/{id}",
        "/rollcall/v1/role_assignments",
        "/rollcall/v1/scim_requests",
        "/rollcall/v1/scim_requests/{id}",
        "/rollcall/v1/users",
        "/rollcall/v1/users/{id}/access",
        "/rollcall/v1/users/{id}/groups",
        "/rollcall/v1/users/{id}/history",
        "/rollcall/v1/users/{id}/last_heard",
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
    const NEVER: [&str; 15] = [
        "/metrics",
        "/rollcall/v1/directories/{id}/tokens",
        "/rollcall/v1/endpoints",
        "/rollcall/v1/log/checkpoint",
        "/rollcall/v1/log/key",
        "/rollcall/v1/log/proof/consistency",
        "/rollcall/v1/log/proof/inclusion",
        "/rollcall/v1/policy",
        "/rollcall/v1/projections",
        "/rollcall/v1/projections/rebuild",
        "/rollcall/v1/role_mapping",
        "/rollcall/v1/role_mapping/versions",
        "/rollcall/v1/sink",
        "/rollcall/v1/sources",
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
