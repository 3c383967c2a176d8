//! The URL of a PostgreSQL server: what of it is taken, and how its certificate is verified.

use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// The form of the URL, for messages: the URL itself is secret.
const FORM: &str = "it must be a URL such as \
    postgresql://USER:PASSWORD@HOST:5432/DATABASE?sslmode=verify-full, with special characters \
    percent-encoded, and one host";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(20);

/// What is verified of the server's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verified {
    /// Nothing.
    Nothing,
    /// That a trusted authority signed it.
    Authority,
    /// Also that it is that of the host.
    AuthorityAndHost,
}

/// A PostgreSQL server and the way to it. Its password is never shown.
#[derive(Clone)]
pub struct PostgresUrl {
    pub(super) config: Config,
    pub(super) verified: Verified,
    /// The file of the authorities; without it those of the system.
    pub(super) authorities: Option<PathBuf>,
}

/// The parameters that are read here, because the library knows only some values of the first and
/// none of the second.
#[derive(Default)]
struct Tls {
    mode: Option<String>,
    authorities: Option<PathBuf>,
}

impl PostgresUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// A sentence that says what it must be, without the URL.
    pub fn parse(text: &str) -> Result<PostgresUrl, String> {
        if !text.starts_with("postgresql://") && !text.starts_with("postgres://") {
            return Err(FORM.into());
        }
        let (plain, tls) = split(text);
        let mut config: Config = plain.parse().map_err(|_| FORM.to_owned())?;
        let has_host = config.get_hosts().len() == 1 && config.get_hostaddrs().is_empty();
        if !has_host || text.contains(',') {
            return Err(FORM.into());
        }
        let (mode, verified) = mode(tls.mode.as_deref(), tls.authorities.is_some())?;
        let is_socket = config.get_hosts().iter().any(|host| matches!(host, Host::Unix(_)));
        // A connection within the machine has no TLS.
        config.ssl_mode(if is_socket { SslMode::Disable } else { mode });
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_application_name().is_none() {
            config.application_name("rollcall");
        }
        config.keepalives_idle(KEEPALIVE_IDLE).tcp_user_timeout(TCP_USER_TIMEOUT);
        Ok(PostgresUrl { config, verified, authorities: tls.authorities })
    }

    /// Returns the host, the port and the database.
    pub fn place(&self) -> String {
        let host = match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name.clone(),
            Some(Host::Unix(path)) => path.display().to_string(),
            None => String::new(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        let user = self.config.get_user().unwrap_or_default();
        format!("{host}:{port}/{}", self.config.get_dbname().unwrap_or(user))
    }

    /// Returns true if the password may go over the network to another server than is meant.
    pub fn is_unverified(&self) -> bool {
        let is_here = |host: &Host| match host {
            Host::Unix(_) => true,
            Host::Tcp(name) => {
                let name = name.trim_matches(['[', ']']);
                let address = name.parse::<std::net::IpAddr>();
                name == "localhost" || address.is_ok_and(|address| address.is_loopback())
            }
        };
        let is_remote = !self.config.get_hosts().iter().all(is_here);
        is_remote && self.verified == Verified::Nothing
    }
}

/// Takes the parameters about TLS out of a URL.
fn split(text: &str) -> (String, Tls) {
    let (base, query) = text.split_once('?').unwrap_or((text, ""));
    let (mut tls, mut rest) = (Tls::default(), Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
        match key {
            "sslmode" => tls.mode = Some(value.into_owned()),
            "sslrootcert" => tls.authorities = Some(PathBuf::from(value.as_ref())),
            _ => rest.push(pair),
        }
    }
    let mark = if rest.is_empty() { "" } else { "?" };
    (format!("{base}{mark}{}", rest.join("&")), tls)
}

/// Reads `sslmode` as libpq does: `require` verifies the authority if its file is named.
fn mode(text: Option<&str>, names_file: bool) -> Result<(SslMode, Verified), String> {
    let by_file = if names_file { Verified::Authority } else { Verified::Nothing };
    Ok(match text {
        Some("disable") => (SslMode::Disable, Verified::Nothing),
        None | Some("prefer" | "allow") => (SslMode::Prefer, Verified::Nothing),
        Some("require") => (SslMode::Require, by_file),
        Some("verify-ca") => (SslMode::Require, Verified::Authority),
        Some("verify-full") => (SslMode::Require, Verified::AuthorityAndHost),
        Some(_) => {
            return Err(
                "its sslmode must be disable, prefer, require, verify-ca or verify-full".into()
            );
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_how_the_certificate_is_verified() {
        for (query, mode, verified) in [
            ("", SslMode::Prefer, Verified::Nothing),
            ("?sslmode=disable", SslMode::Disable, Verified::Nothing),
            ("?sslmode=require", SslMode::Require, Verified::Nothing),
            ("?sslmode=require&sslrootcert=/a%20b.pem", SslMode::Require, Verified::Authority),
            ("?sslmode=verify-ca", SslMode::Require, Verified::Authority),
            (
                "?application_name=x&sslmode=verify-full",
                SslMode::Require,
                Verified::AuthorityAndHost,
            ),
        ] {
            let url = PostgresUrl::parse(&format!("postgres://u:p%40@db.example:99/d{query}"));
            let url = url.unwrap();
            assert_eq!((url.config.get_ssl_mode(), url.verified), (mode, verified), "{query}");
            assert_eq!(url.place(), "db.example:99/d");
            assert_eq!(url.is_unverified(), verified == Verified::Nothing, "{query}");
        }
        let socket = PostgresUrl::parse("postgresql:///d?host=/run/pg&sslmode=require").unwrap();
        assert_eq!(socket.config.get_ssl_mode(), SslMode::Disable);
        assert!(!socket.is_unverified());
    }

    #[test]
    fn a_url_that_cannot_be_used_is_not_repeated() {
        for text in [
            "host=db password=secret",
            "mysql://u:secret@db/d",
            "postgres://u:secret@a,b/d",
            "postgres://u:secret@db/d?sslmode=secret",
            "postgres://u:secret@db/d?sslcert=secret",
            "postgres:///secret",
            "postgres:///secret?hostaddr=127.0.0.1",
        ] {
            let refused = PostgresUrl::parse(text).err().unwrap();
            assert!(!refused.contains("secret") && refused.starts_with("it"), "{refused}");
        }
    }
}
