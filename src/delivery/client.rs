//! The HTTP client of an endpoint. It follows no redirect, takes no proxy from the environment, and
//! judges the address of every connection after the name is resolved.

use std::io::{self, ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ureq::config::Config;
use ureq::http::{HeaderName, HeaderValue, Uri};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, NextTimeout, RustlsConnector, TcpConnector, Transport,
};

use super::address::not_public;

/// The time within which a receiver must answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The bytes of an answer that are read, so that its connection can be used again.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// The longest that a connection is kept without a request. Receivers close theirs, those in Node
/// after 5 seconds: a request that comes at that moment would fail.
const IDLE_MAX: Duration = Duration::from_secs(4);

/// The status by which a receiver says that it wants no more.
const GONE: u16 = 410;

/// Why a request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// What happened, without secrets.
    pub(super) says: String,
    /// True if the receiver wants no more.
    pub(super) is_gone: bool,
}

impl Fault {
    pub(super) fn new(says: impl Into<String>) -> Fault {
        Fault { says: says.into(), is_gone: false }
    }
}

/// The client of one endpoint. It keeps connections that can be used again.
#[derive(Debug)]
pub(super) struct Client {
    agent: ureq::Agent,
    uri: Uri,
}

impl Client {
    /// Makes the client of a URL that was judged, and connects to nothing. `authorities` are trusted
    /// over https.
    pub(super) fn new(
        uri: Uri,
        allow_private: bool,
        connections_max: usize,
        authorities: RootCerts,
    ) -> Client {
        let resolver = Arc::new(DefaultResolver::default());
        Client::resolving_by(resolver, uri, allow_private, connections_max, authorities)
    }

    fn resolving_by(
        names: Arc<dyn Resolver>,
        uri: Uri,
        allow_private: bool,
        connections_max: usize,
        authorities: RootCerts,
    ) -> Client {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .timeout_global(Some(ANSWER_WITHIN))
            .max_idle_age(IDLE_MAX)
            .max_idle_connections(connections_max)
            .max_idle_connections_per_host(connections_max)
            .user_agent(concat!("rollcall/", env!("CARGO_PKG_VERSION")))
            .tls_config(TlsConfig::builder().root_certs(authorities).build())
            .build();
        let connector = Judging { names, allow_private, tcp: TcpConnector::default() };
        let connector = connector.chain(RustlsConnector::default());
        Client { agent: ureq::Agent::with_parts(config, connector, Late), uri }
    }

    /// Posts a body. Blocks until the answer is there, for at most 10 seconds.
    ///
    /// # Errors
    /// If no answer comes, or one that is not 2xx.
    pub(super) fn post(
        &self,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: &[u8],
    ) -> Result<(), Fault> {
        let mut request = self.agent.post(self.uri.clone());
        if let Some(all) = request.headers_mut() {
            all.extend(headers.into_iter().map(|(name, value)| (Some(name), value)));
        }
        let answer = request.send(body).map_err(|error| fault(&error))?;
        let status = answer.status();
        // The rest only has to leave the connection, and its end changes nothing.
        let mut rest = answer.into_body().into_reader().take(ANSWER_BYTES_MAX);
        let _ = io::copy(&mut rest, &mut io::sink());
        match status.as_u16() {
            200..=299 => Ok(()),
            code => Err(Fault { says: format!("status {code}"), is_gone: code == GONE }),
        }
    }
}

/// Says what happened without what may be secret: the URL.
fn fault(error: &ureq::Error) -> Fault {
    Fault::new(match error {
        ureq::Error::Timeout(_) => "timeout after 10 s".to_owned(),
        ureq::Error::HostNotFound => "no such host".into(),
        ureq::Error::Io(error) => said(error),
        ureq::Error::ConnectionFailed => "connection failed".into(),
        ureq::Error::Rustls(error) => error.to_string(),
        ureq::Error::Protocol(_) => "the answer is not HTTP".into(),
        _ => "the request failed".into(),
    })
}

/// Says what happened to a connection.
pub(super) fn said(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection refused".into(),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => "connection closed".into(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "no answer in time".into(),
        _ => error.to_string(),
    }
}

/// Returns those of some addresses to which webhooks may go.
///
/// # Errors
/// The first refused one and its kind, if no other is left.
pub(super) fn allowed(
    found: &[SocketAddr],
    allow_private: bool,
) -> Result<Vec<SocketAddr>, String> {
    let (mut allowed, mut refused) = (Vec::new(), None);
    for address in found {
        match not_public(address.ip()).filter(|_| !allow_private) {
            None => allowed.push(*address),
            Some(what) => refused = refused.or(Some((address.ip(), what))),
        }
    }
    match refused.filter(|_| allowed.is_empty()) {
        None => Ok(allowed),
        Some((ip, what)) => Err(format!("{ip} is {what}, which needs `allow_private`")),
    }
}

/// A resolver that leaves names to the connector: only a new connection needs one.
#[derive(Debug)]
struct Late;

impl Resolver for Late {
    fn resolve(
        &self,
        _: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        Ok(self.empty())
    }
}

/// Resolves the name of a new connection, and connects only to addresses that are allowed.
#[derive(Debug)]
struct Judging {
    names: Arc<dyn Resolver>,
    allow_private: bool,
    tcp: TcpConnector,
}

impl Judging {
    fn allowed(&self, found: &[SocketAddr]) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let allowed = allowed(found, self.allow_private);
        let allowed = allowed.map_err(|says| io::Error::new(ErrorKind::PermissionDenied, says))?;
        let mut addresses = Late.empty();
        allowed.into_iter().for_each(|address| addresses.push(address));
        Ok(addresses)
    }
}

impl Connector<()> for Judging {
    type Out = Gathered<<TcpConnector as Connector<()>>::Out>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<()>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let found = self.names.resolve(details.uri, details.config, details.timeout)?;
        let judged = ConnectionDetails {
            uri: details.uri,
            addrs: self.allowed(&found)?,
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: details.now,
            timeout: details.timeout,
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        let connected = self.tcp.connect(&judged, chained)?;
        Ok(connected.map(|inner| Gathered { inner, output: Vec::new() }))
    }
}

/// The number of gathered bytes from which on they are written without waiting for more.
const GATHERED_MAX: usize = 64 << 10;

/// A connection that writes the head of a request together with its body. In two packets the
/// receiver would wake twice.
#[derive(Debug)]
struct Gathered<T> {
    inner: T,
    output: Vec<u8>,
}

impl<T: Transport> Gathered<T> {
    /// Writes what was gathered, in as few pieces as the connection takes.
    fn flush(&mut self, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let mut rest = self.output.as_slice();
        while !rest.is_empty() {
            let buffer = self.inner.buffers().output();
            let amount = rest.len().min(buffer.len());
            let (now, later) = rest.split_at(amount);
            match buffer.get_mut(..amount) {
                Some(buffer) if amount > 0 => buffer.copy_from_slice(now),
                _ => return Err(ureq::Error::ConnectionFailed),
            }
            self.inner.transmit_output(amount, timeout)?;
            rest = later;
        }
        self.output.clear();
        Ok(())
    }
}

impl<T: Transport> Transport for Gathered<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        let output = self.inner.buffers().output().get(..amount).unwrap_or_default();
        self.output.extend_from_slice(output);
        if self.output.len() < GATHERED_MAX { Ok(()) } else { self.flush(timeout) }
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.flush(timeout)?;
        self.inner.await_input(timeout)
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A resolver whose answer is another one each time.
    #[derive(Debug)]
    struct Turning {
        answers: Vec<Vec<SocketAddr>>,
        asked: AtomicUsize,
    }

    impl Resolver for Turning {
        fn resolve(
            &self,
            _: &Uri,
            _: &Config,
            _: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, ureq::Error> {
            let mut found = self.empty();
            let turn = self.asked.fetch_add(1, Ordering::SeqCst) % self.answers.len();
            self.answers[turn].iter().for_each(|address| found.push(*address));
            Ok(found)
        }
    }

    fn client(answers: &[&[&str]], allow_private: bool) -> Client {
        let parse = |text: &&str| text.parse::<SocketAddr>().unwrap();
        let answers = answers.iter().map(|some| some.iter().map(parse).collect()).collect();
        let names = Arc::new(Turning { answers, asked: AtomicUsize::new(0) });
        let uri = "http://app.example.com/webhooks".parse().unwrap();
        Client::resolving_by(names, uri, allow_private, 1, RootCerts::WebPki)
    }

    /// Answers one request on each connection with 200, and closes it.
    fn receiver() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 4096]);
                let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(head.as_bytes());
            }
        });
        address
    }

    #[test]
    fn the_address_of_each_connection_is_judged_after_the_name_is_resolved() {
        for address in ["127.0.0.1:9", "10.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            let fault = client(&[&[address]], false).post(Vec::new(), b"{}").unwrap_err();
            assert!(fault.says.contains("allow_private"), "{address}: {fault:?}");
        }
        // With leave it is connected to.
        let here = receiver();
        assert_eq!(client(&[&[&here]], true).post(Vec::new(), b"{}"), Ok(()));
        // Of several only those that are allowed count: none of these is tried.
        let found = ["127.0.0.1:9", "8.8.8.8:443", "192.168.0.1:1"].map(|one| one.parse().unwrap());
        assert_eq!(allowed(&found, false).unwrap(), [found[1]]);
    }

    #[test]
    fn a_name_that_leads_elsewhere_the_second_time_is_judged_again() {
        let here = receiver();
        // Both are of this machine; the second one has nothing that listens.
        let turning = client(&[&[&here], &["127.0.0.1:9"]], true);
        assert_eq!(turning.post(Vec::new(), b"{}"), Ok(()));
        assert_eq!(turning.post(Vec::new(), b"{}").unwrap_err().says, "connection refused");
        // The receiver closes each connection, so that each request resolves the name.
        assert_eq!(turning.post(Vec::new(), b"{}"), Ok(()));
    }
}
