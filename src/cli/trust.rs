//! The certificate authorities that the commands trust.

use std::path::Path;

use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

use super::Failure;

/// Returns the authorities of the PEM file, or else those of the system.
///
/// The system's are those of SSL_CERT_FILE and SSL_CERT_DIR if one is set. On a system without any,
/// those that are built in are trusted.
///
/// # Errors
/// The caller's, if the file, or that of SSL_CERT_FILE, has no certificate.
pub(super) fn authorities(file: Option<&Path>) -> Result<RootCerts, Failure> {
    match file {
        Some(file) => of_file(file),
        None => of_system(),
    }
}

fn of_file(file: &Path) -> Result<RootCerts, Failure> {
    let shown = file.display();
    let pem = std::fs::read(file)
        .map_err(|error| Failure::Caller(format!("cannot read `{shown}`: {error}")))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(Failure::Caller(format!(
            "`{shown}` has no certificate in PEM; give the certificate of the authority that \
             signed the server's"
        )));
    }
    Ok(certificates.into())
}

fn of_system() -> Result<RootCerts, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let is_set = |name: &str| std::env::var_os(name).is_some();
    if !found.certs.is_empty() {
        let owned = |der: &[u8]| Certificate::from_der(der).to_owned();
        return Ok(found.certs.iter().map(|certificate| owned(certificate)).into());
    }
    match found.errors.first() {
        Some(error) if is_set("SSL_CERT_FILE") || is_set("SSL_CERT_DIR") => Err(Failure::Caller(
            format!("SSL_CERT_FILE or SSL_CERT_DIR has no certificate that can be read: {error}"),
        )),
        _ => Ok(RootCerts::WebPki),
    }
}
