//! A look at the receiver of an endpoint that sends no webhook.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::EndpointSettings;
use super::client::{allowed, said};
use crate::trust::root_store;

/// Resolves and judges the address of an endpoint, and connects to it; over https it verifies the
/// certificate. Blocks for at most `within` at each step.
///
/// # Errors
/// A text that says what fails. It holds nothing that may be secret.
pub fn reach(settings: &EndpointSettings, within: Duration) -> Result<SocketAddr, String> {
    let is_https = settings.is_https();
    let host = settings.url.host().unwrap_or_default().trim_matches(['[', ']']);
    let port = settings.url.port_u16().unwrap_or(if is_https { 443 } else { 80 });
    let found = (host, port).to_socket_addrs().map_err(|_| "no such host")?;
    let allowed = allowed(&found.collect::<Vec<_>>(), settings.allow_private)?;
    let (address, stream) = connect(&allowed, within)?;
    if is_https {
        shake_hands(host, stream, within)?;
    }
    Ok(address)
}

fn connect(addresses: &[SocketAddr], within: Duration) -> Result<(SocketAddr, TcpStream), String> {
    let mut fault = "no such host".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(address, within) {
            Ok(stream) => return Ok((*address, stream)),
            Err(error) => fault = said(&error),
        }
    }
    Err(fault)
}

fn shake_hands(host: &str, mut stream: TcpStream, within: Duration) -> Result<(), String> {
    let roots = root_store(None).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let mut connection =
        ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    exchange(&mut connection, &mut stream, within).map_err(|error| said(&error))
}

fn exchange(
    connection: &mut ClientConnection,
    stream: &mut TcpStream,
    within: Duration,
) -> io::Result<()> {
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(within))?;
    while connection.is_handshaking() {
        connection.complete_io(stream)?;
    }
    connection.send_close_notify();
    connection.write_tls(stream).map(|_| ())
}
