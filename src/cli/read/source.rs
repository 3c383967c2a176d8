//! Where the answers come from: a server, or a data folder whose server is stopped.

use std::path::{Path, PathBuf};

use clap::Args;

use super::super::Failure;
use super::super::client::Client;
use super::super::running::{Caches, Running, StartError};
use crate::http::Settings;
use crate::log::{OpenError, is_data_folder};
use crate::verify::Keyring;

const URL: &str = "http://127.0.0.1:8080";

/// Memory for one command over a folder, in bytes.
const CACHES: Caches = Caches { documents: 64 << 20, store: 256 << 20 };

/// A running server.
#[derive(Args)]
#[command(next_help_heading = "Whom to ask")]
pub(in super::super) struct Server {
    /// The server's URL [env: ROLLCALL_URL] [default: http://127.0.0.1:8080]
    // Read from the environment by hand: a variable that is set must not stand in the way of
    // `--data`.
    #[arg(long, value_parser = http_url)]
    url: Option<String>,
    /// The key that the server takes, one of its ROLLCALL_API_KEYS
    #[arg(long, env = "ROLLCALL_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
}

/// Whom to ask.
#[derive(Args)]
#[command(next_help_heading = "Whom to ask")]
pub(in super::super) struct Source {
    #[command(flatten)]
    server: Server,
    /// Read this data folder instead, its server being stopped
    #[arg(long, conflicts_with = "url")]
    data: Option<PathBuf>,
}

impl Source {
    /// Runs `work` with a client of the server, or of the folder while it is open.
    ///
    /// # Errors
    /// Those of `work`, or if there is nobody to ask.
    pub(in super::super) fn ask<T, W>(self, work: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce(&Client) -> Result<T, Failure> + Send + 'static,
    {
        if let Some(folder) = &self.data {
            return over_folder(folder, work);
        }
        work(&self.server.client()?)
    }

    /// A client of a running server, for what a folder cannot do; `because` says why not.
    ///
    /// # Errors
    /// The caller's, for a URL or a key that cannot be used, or a folder instead of a server.
    pub(in super::super) fn server(self, because: &str) -> Result<Client, Failure> {
        if self.data.is_some() {
            return Err(Failure::Caller(format!("{because}: ask a server with --url")));
        }
        self.server.client()
    }
}

impl Server {
    /// A client of it.
    ///
    /// # Errors
    /// The caller's, for a URL or a key that cannot be used.
    pub(in super::super) fn client(self) -> Result<Client, Failure> {
        let from_environment = || std::env::var("ROLLCALL_URL").ok().filter(|url| !url.is_empty());
        let url = match self.url {
            Some(url) => url,
            None => match from_environment() {
                Some(url) => http_url(&url).map_err(|error| {
                    Failure::Caller(format!("ROLLCALL_URL is set to `{url}`: {error}"))
                })?,
                None => URL.to_owned(),
            },
        };
        let api_key = self.api_key.filter(|key| !key.is_empty()).ok_or_else(|| {
            Failure::Caller("no API key is given: set ROLLCALL_API_KEY, or give --api-key, to a key that the server takes".into())
        })?;
        if !api_key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::Caller("the API key holds a character that no key has".into()));
        }
        Ok(Client::new(&url, &api_key))
    }
}

fn http_url(text: &str) -> Result<String, String> {
    let url = text
        .parse::<ureq::http::Uri>()
        .ok()
        .filter(|url| matches!(url.scheme_str(), Some("http" | "https")));
    match url {
        Some(url) if url.query().is_none() => Ok(text.to_owned()),
        _ => Err("it must be an http or https URL, such as http://127.0.0.1:8080".into()),
    }
}

/// Opens the folder as a server does, asks it, and closes it. Nobody else can ask: its key is
/// random and told to nobody.
fn over_folder<T, W>(folder: &Path, work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce(&Client) -> Result<T, Failure> + Send + 'static,
{
    // Opening would make an empty log of a folder that is none.
    match is_data_folder(folder) {
        Ok(true) => {}
        Ok(false) => {
            return Err(Failure::Caller(format!(
                "`{}` is no data folder of Rollcall",
                folder.display()
            )));
        }
        Err(error) => {
            return Err(Failure::Ours(format!("cannot look into `{}`: {error}", folder.display())));
        }
    }
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(Failure::ours)?;
    let key = hex::encode(key);
    let settings = Settings {
        keyring: Keyring::new([], 0),
        api_keys: vec![key.clone()],
        webhook_paths: Vec::new(),
    };
    let running = Running::start("127.0.0.1:0", folder, settings, CACHES).map_err(|error| match error {
        StartError::Open(OpenError::InUse(_)) => Failure::Caller(format!(
            "the data folder `{}` is in use by another process: stop the server, or ask it with --url",
            folder.display()
        )),
        error => error.into(),
    })?;
    running.beside(&key, false, work)
}
