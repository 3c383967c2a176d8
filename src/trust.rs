//! The certificate authorities that are trusted over https, by the commands and by the server when
//! it posts checkpoints.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

/// The variables that replace the system's authorities.
const VARIABLES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// The reason why there are no authorities.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read.
    #[error("cannot read `{file}`: {error}")]
    Io {
        /// The file.
        file: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The file holds no certificate.
    #[error(
        "`{0}` has no certificate in PEM; give the certificate of the authority that signed the \
         server's"
    )]
    NoCertificate(PathBuf),
    /// Neither variable leads to a certificate, although one is set.
    #[error(
        "no certificate in PEM can be read from {set}{reason}; set it to the certificate of the \
         authority that signed the server's, or unset it to trust those of the system"
    )]
    Environment {
        /// The variables that are set, each with its path.
        set: String,
        /// The first error, after a colon; empty if all could be read.
        reason: String,
    },
}

/// Returns the authorities of the PEM file, or else those of the system.
///
/// The system's are those of SSL_CERT_FILE and SSL_CERT_DIR if one is set. On a system without any,
/// those that are built in are trusted.
///
/// # Errors
/// If the file has no certificate, or a variable is set and neither leads to one. Other
/// authorities would then be trusted than those that were chosen.
pub fn authorities(file: Option<&Path>) -> Result<RootCerts, TrustError> {
    match file {
        Some(file) => of_file(file),
        None => of_system(),
    }
}

/// Returns the authorities of the PEM file, or else those of the system, as [`authorities`] does,
/// for a connection that is not HTTP.
///
/// # Errors
/// Those of [`authorities`].
pub(crate) fn root_store(file: Option<&Path>) -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    match authorities(file)? {
        RootCerts::Specific(certificates) => {
            let der = |certificate: &Certificate<'_>| {
                CertificateDer::from(certificate.der()).into_owned()
            };
            roots.add_parsable_certificates(certificates.iter().map(der));
        }
        _ => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
    }
    Ok(roots)
}

fn of_file(file: &Path) -> Result<RootCerts, TrustError> {
    let pem =
        std::fs::read(file).map_err(|error| TrustError::Io { file: file.to_owned(), error })?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(TrustError::NoCertificate(file.to_owned()));
    }
    Ok(certificates.into())
}

fn of_system() -> Result<RootCerts, TrustError> {
    let set: Vec<String> = VARIABLES
        .iter()
        .filter_map(|name| Some(format!("{name} (`{}`)", env::var_os(name)?.display())))
        .collect();
    if !set.is_empty() && !names_a_path() {
        return Err(TrustError::Environment { set: set.join(" or "), reason: String::new() });
    }
    let found = rustls_native_certs::load_native_certs();
    if !found.certs.is_empty() {
        let owned = |der: &[u8]| Certificate::from_der(der).to_owned();
        return Ok(found.certs.iter().map(|certificate| owned(certificate)).into());
    }
    if set.is_empty() {
        return Ok(RootCerts::WebPki);
    }
    let reason = found.errors.first().map_or(String::new(), |error| format!(": {error}"));
    Err(TrustError::Environment { set: set.join(" or "), reason })
}

/// Returns true if a variable names a path. The system's authorities would be read otherwise.
fn names_a_path() -> bool {
    let [file, dirs] = VARIABLES.map(env::var_os);
    let has_dir = |dirs| env::split_paths(&dirs).any(|dir| !dir.as_os_str().is_empty());
    file.is_some() || dirs.is_some_and(has_dir)
}
