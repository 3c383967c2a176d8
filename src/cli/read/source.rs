//! The source of answers: a running server, or a data folder whose server is stopped.

use std::path::{Path, PathBuf};

use clap::Args;
use rollcall_projections::Seq;

use super::super::Failure;
use super::super::client::Client;
use super::super::running::{Caches, FolderCondition, Running, StartError};
use super::super::secrets::{first_secret, variable};
use super::super::table::harmless;
use super::super::verify::repair;
use super::print::counted;
use crate::http::Settings;
use crate::keys::ApiKeys;
use crate::log::{Damage, OpenError, is_data_folder, seq_ranges, seqs_in};
use crate::verify::Keyring;

const URL: &str = "http://127.0.0.1:8080";

/// The caches of one command over a folder, in bytes.
const CACHES: Caches = Caches { documents: 64 << 20, store: 256 << 20 };

/// The arguments that choose a running server.
#[derive(Args)]
#[command(next_help_heading = "Server")]
pub(in super::super) struct ServerArgs {
    /// The server's URL [env: ROLLCALL_URL] [default: http://127.0.0.1:8080]
    // Not read from the environment by clap: a variable that is set must not conflict with
    // `--data`.
    #[arg(long, value_parser = http_url)]
    url: Option<String>,
    /// A key that the server accepts [env: ROLLCALL_API_KEY, or a file in ROLLCALL_API_KEY_FILE]
    // Not read by clap, which would not know the file.
    #[arg(long)]
    api_key: Option<String>,
    /// Trust the authorities of this PEM file over https, instead of the system's or those of
    /// SSL_CERT_FILE
    #[arg(long, value_name = "FILE")]
    ca_cert: Option<PathBuf>,
}

/// The arguments that choose a running server or a data folder.
#[derive(Args)]
#[command(next_help_heading = "Server")]
pub(in super::super) struct SourceArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Read this data folder instead; its server must be stopped
    #[arg(long, conflicts_with = "url")]
    data: Option<PathBuf>,
}

impl SourceArgs {
    /// Runs `work` with a client of the server, or of the folder while it is open.
    ///
    /// # Errors
    /// Those of `work`, and those of opening the folder or choosing the server.
    pub(in super::super) fn ask<T, W>(self, work: W) -> Result<T, Failure>
    where
        T: Send + 'static,
        W: FnOnce(&Client) -> Result<T, Failure> + Send + 'static,
    {
        match &self.data {
            Some(folder) => over_folder(folder, work),
            None => work(&self.server.client()?.or_folder()),
        }
    }

    /// Returns a client of a running server, for commands that a folder cannot answer; `because`
    /// says why it cannot.
    ///
    /// # Errors
    /// The caller's, for a folder, or for a URL or a key that cannot be used.
    pub(in super::super) fn server(self, because: &str) -> Result<Client, Failure> {
        if self.data.is_some() {
            return Err(Failure::Caller(format!("{because}: ask a server with --url")));
        }
        self.server.client()
    }
}

impl ServerArgs {
    /// Returns a client of the server.
    ///
    /// # Errors
    /// The caller's, for a URL or a key that cannot be used.
    pub(in super::super) fn client(self) -> Result<Client, Failure> {
        let url = match self.url {
            Some(url) => url,
            None => url_of_environment()?,
        };
        let given = self.api_key.filter(|key| !key.is_empty());
        let api_key = match given {
            Some(key) => Some(key),
            None => first_secret(&["ROLLCALL_API_KEY"])?,
        };
        let api_key = api_key.ok_or_else(|| {
            Failure::Caller(
                "no API key is given: set ROLLCALL_API_KEY, or give --api-key, \
                 to one of the server's keys"
                    .into(),
            )
        })?;
        if !api_key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::Caller(
                "the API key has a character that is not allowed in keys".into(),
            ));
        }
        Client::new(&url, &api_key, self.ca_cert.as_deref())
    }
}

/// Returns the server's URL by `ROLLCALL_URL`, or the default.
///
/// # Errors
/// The caller's, if the variable holds something else than an http or https URL.
pub(in super::super) fn url_of_environment() -> Result<String, Failure> {
    match variable("ROLLCALL_URL")? {
        Some(url) => http_url(&url)
            .map_err(|error| Failure::Caller(format!("ROLLCALL_URL is set to `{url}`: {error}"))),
        None => Ok(URL.to_owned()),
    }
}

/// Reads a URL of a server.
///
/// # Errors
/// A sentence that says what it must be.
pub(in super::super) fn http_url(text: &str) -> Result<String, String> {
    let url = text
        .parse::<ureq::http::Uri>()
        .ok()
        .filter(|url| matches!(url.scheme_str(), Some("http" | "https")));
    match url {
        Some(url) if url.query().is_none() => Ok(text.to_owned()),
        _ => Err("it must be an http or https URL, such as http://127.0.0.1:8080".into()),
    }
}

/// Opens the folder as a server does, runs `work`, and closes it. No other client can ask, since
/// the key is random and stays in this process.
fn over_folder<T, W>(folder: &Path, work: W) -> Result<T, Failure>
where
    T: Send + 'static,
    W: FnOnce(&Client) -> Result<T, Failure> + Send + 'static,
{
    must_be_data_folder(folder)?;
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(Failure::ours)?;
    let key = hex::encode(key);
    let settings = Settings {
        keyring: Keyring::new([], 0),
        api_keys: ApiKeys::unrestricted([key.as_str()]),
        webhook_paths: Vec::new(),
        body_bytes_max: 0,
        source: None,
        public_url: None,
        deliveries: Default::default(),
        sink: None,
    };
    let running =
        Running::start(folder, settings, CACHES).map_err(|error| unopened(folder, error))?;
    let condition = running.condition();
    let done = running.run_with(&key, false, work);
    let FolderCondition { damage, lost, remarks } = condition.get().cloned().unwrap_or_default();
    for warning in lost_records(&lost, folder).into_iter().chain(remarks) {
        eprintln!("{}", harmless(&format!("rollcall: {warning}")));
    }
    match &damage {
        None => done,
        Some(damage) => Err(damaged(done.err(), damage, folder)),
    }
}

/// Warns that an answer lacks what records said without which the log was once restored.
fn lost_records(lost: &[(Seq, Seq)], folder: &Path) -> Option<String> {
    let count = seqs_in(lost);
    (count > 0).then(|| {
        format!(
            "the log in `{folder}` was restored without {} ({}), and the answer lacks what {}; \
             `rollcall salvage --data {folder} --from COPY --out NEW` takes out all of it, with \
             what a copy still has of them",
            counted(count, "record", "records"),
            seq_ranges(lost),
            if count == 1 { "it said" } else { "they said" },
            folder = folder.display()
        )
    })
}

/// Says after the answer what may be missing in it. `failed` is why there is none, or not all of it.
fn damaged(failed: Option<Failure>, damage: &Damage, folder: &Path) -> Failure {
    let folder = folder.display();
    let says = if damage.is_of_files() {
        let helps = repair(&damage.files, damage.end_is_unknown, &folder.to_string());
        format!("files in `{folder}` are damaged: {damage}; {helps}")
    } else {
        let lacks = match seqs_in(&damage.missing) {
            0 => String::new(),
            1 => "the answer lacks what it said; ".to_owned(),
            count => format!("the answer lacks what these {count} records said; "),
        };
        format!(
            "the log in `{folder}` is damaged: {damage}; {lacks}`rollcall verify --data {folder}` \
             names all that is wrong, and `rollcall salvage --data {folder} --out NEW` takes out \
             what can be read"
        )
    };
    match failed {
        None | Some(Failure::Unread) => Failure::Ours(says),
        Some(Failure::Caller(failed) | Failure::Ours(failed)) => {
            Failure::Ours(format!("{failed}; {says}"))
        }
        Some(interrupted @ Failure::Interrupted(_)) => interrupted,
    }
}

/// Refuses any other folder, in which opening would create an empty log.
fn must_be_data_folder(folder: &Path) -> Result<(), Failure> {
    let folder_name = folder.display();
    match is_data_folder(folder) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::Caller(format!("`{folder_name}` is not a Rollcall data folder"))),
        Err(error) => Err(Failure::Ours(format!("cannot look into `{folder_name}`: {error}"))),
    }
}

fn unopened(folder: &Path, error: StartError) -> Failure {
    match error {
        StartError::Open(OpenError::InUse(_)) => Failure::Caller(format!(
            "the data folder `{}` is in use by another process: stop the server, \
             or ask it with --url",
            folder.display()
        )),
        error => error.into(),
    }
}
