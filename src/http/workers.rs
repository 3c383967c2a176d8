//! The threads that serve the connections of some addresses.

use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_http::error::DispatchError;
use actix_http::{ConnectionType, HttpService, KeepAlive};
use actix_server::GracefulShutdownSignal;
use actix_service::{
    IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config,
};
use actix_web::dev::{AppConfig, Extensions, Server, Service, ServiceRequest, ServiceResponse};
use actix_web::rt::net::{TcpStream, UnixStream};
use actix_web::{App, Error, web};
use tokio::io::{AsyncRead, AsyncWrite};

use super::listen::{Bound, SocketFile};
use super::too_many_large_answers;
use super::wire::answer::ANSWER_WITHIN;
use super::wire::connections::{Connection, Connections, Place, place_of};
use super::wire::large;

/// The time after which a connection that asks for nothing is closed.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// The longest wait for the other side while a connection is closed.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// The time after which a reader that does not acknowledge what it was sent is cut off, in
/// milliseconds.
const UNREAD_MS_MAX: u32 = 30_000;

/// The descriptors that are kept for files, for what the server asks of others, and for the address
/// for monitors and operators.
const FILES: usize = 96 + CONNECTIONS_MIN;

/// The most connections, whatever the limit of descriptors is.
const CONNECTIONS_MAX: usize = 16_384;

/// The fewest connections.
pub(super) const CONNECTIONS_MIN: usize = 64;

/// The part of all connections that is accepted beyond the places: see [`Connections`].
const SPARE_PART: usize = 8;
const SPARE_MAX: usize = 256;

/// Returns the number of connections that may be open. It stays below the limit of descriptors.
pub(super) fn connections_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    limit.saturating_sub(FILES).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX)
}

/// Returns the number of places if some connections may be open.
fn places(connections_max: usize) -> usize {
    connections_max - (connections_max / SPARE_PART).min(SPARE_MAX)
}

/// A number of threads, and the connections that they share.
pub(super) struct Workers {
    count: usize,
    connections_max: usize,
    pub(super) connections: Arc<Connections>,
}

/// What the service of a connection is made of.
#[derive(Clone)]
struct Serving<F> {
    configure: F,
    connections: Arc<Connections>,
    stops: GracefulShutdownSignal,
}

impl Workers {
    /// Shares some connections among a number of threads.
    pub(super) fn new(count: usize, connections_max: usize) -> Workers {
        let connections = Connections::with_places(places(connections_max));
        Workers { count, connections_max, connections }
    }

    /// Makes a server of the addresses. The files of their sockets are added to `sockets`.
    pub(super) fn serve(
        self,
        bound: Vec<Bound>,
        configure: impl Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
        sockets: &mut Vec<SocketFile>,
    ) -> io::Result<Server> {
        let Workers { count, connections_max, connections } = self;
        let builder = Server::build()
            .workers(count)
            .max_concurrent_connections(connections_max.div_ceil(count))
            .shutdown_timeout(ANSWER_WITHIN.as_secs())
            .disable_signals();
        let serving = Serving { configure, connections, stops: builder.graceful_shutdown_signal() };
        let listening = bound.into_iter().try_fold(builder, |builder, bound| {
            let serving = serving.clone();
            match bound {
                Bound::Tcp(listener, _) => builder.listen("tcp", listener, move || {
                    serve_connections(serving.clone(), prepare_tcp)
                }),
                Bound::Unix(listener, file) => {
                    sockets.push(file);
                    builder.listen_uds("unix", listener, move || {
                        serve_connections(serving.clone(), |_: &UnixStream| {})
                    })
                }
            }
        });
        Ok(listening?.run())
    }
}

/// Makes the service of connections: each gets a place and speaks HTTP/1.1.
fn serve_connections<S, F>(
    serving: Serving<F>,
    prepare: fn(&S),
) -> impl ServiceFactory<S, Config = (), Response = (), Error = DispatchError, InitError = ()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Fn(&mut web::ServiceConfig) + 'static,
{
    let Serving { configure, connections, stops } = serving;
    let app = App::new().wrap_fn(answer).configure(configure);
    let app = app.into_factory().map_err(|error: Error| error.error_response());
    let stopping = move || {
        let stops = stops.clone();
        async move { stops.notified().await }
    };
    let http = HttpService::build()
        .graceful_shutdown_signal(stopping)
        .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
        .client_request_timeout(ANSWER_WITHIN)
        .client_disconnect_timeout(CLOSE_WITHIN)
        // A long poll must end with its connection.
        .h1_allow_half_closed(false)
        .on_connect_ext(|connection: &Connection<S>, data: &mut Extensions| {
            data.insert(connection.place().clone());
        })
        .h1(map_config(app, |()| AppConfig::default()));
    let enter = move |stream: S| {
        prepare(&stream);
        ready(Ok((connections.enter(stream), None::<SocketAddr>)))
    };
    fn_service(enter).and_then(http)
}

/// Answers a request. Its connection counts as being answered until the answer is written.
fn answer<S>(
    request: ServiceRequest,
    service: &S,
) -> impl Future<Output = Result<ServiceResponse, Error>> + use<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse, Error = Error>,
{
    let place = place_of(request.request()).cloned();
    let answering = place.as_ref().map(Place::answering);
    let answer = service.call(request);
    async move {
        let mut response = large::bounded(answer.await?, too_many_large_answers);
        if place.is_some_and(|place| place.ends_after_answer()) {
            response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
        }
        Ok(match answering {
            Some(answering) => large::kept(response, answering),
            None => response,
        })
    }
}

/// Has the system send at once what is written, and close a connection whose other side does not
/// take it.
fn prepare_tcp(stream: &TcpStream) {
    // Otherwise the end of an answer waits up to 40 ms for the acknowledgement of what was sent.
    let _ = stream.set_nodelay(true);
    // Without it the connection stays open for as long as the other side answers at all.
    let _ = rustix::net::sockopt::set_tcp_user_timeout(stream, UNREAD_MS_MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_connections_are_accepted_beyond_the_places() {
        for (connections, expected) in [(64, 56), (96, 84), (864, 756), (16_384, 16_128)] {
            assert_eq!(places(connections), expected);
        }
    }
}
