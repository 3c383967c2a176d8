//! Folders in buckets of S3: requests are signed by `rusty_s3` and sent by `ureq`.
//!
//! No error and no log line has a signature or more of an answer than its code.

use std::fmt;
use std::time::Duration;

use rusty_s3::actions::{GetObject, ListObjectsV2, PutObject, S3Action};
use rusty_s3::{Bucket, Credentials, UrlStyle};
use ureq::tls::TlsConfig;

use super::place::{FILE_BYTES_MAX, ListedFile};
use crate::trust::authorities;

/// The beginning of the texts that name a bucket.
pub(super) const S3_SCHEME: &str = "s3://";

/// The region if none is given: servers other than Amazon's mostly have none.
const REGION: &str = "us-east-1";

/// How long a signature holds.
const SIGNED_FOR: Duration = Duration::from_secs(300);

/// The longest that a request takes, that a server may take until it begins to answer, and that a
/// connection takes.
const DONE_WITHIN: Duration = Duration::from_secs(60);
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// The most bytes of a list, or of an error, that are read.
const TEXT_BYTES_MAX: u64 = 8 << 20;

/// The most pages of a list, of 1000 names each.
const PAGES_MAX: usize = 20_000;

/// What it takes to ask for a bucket.
#[derive(Clone, Default)]
pub struct S3Access {
    /// The id of the access key.
    pub access_key_id: Option<String>,
    /// The secret of the access key.
    pub secret_access_key: Option<String>,
    /// The session token, if the access key is one for a while only.
    pub session_token: Option<String>,
    /// The URL of the server; `None` for Amazon's.
    pub endpoint_url: Option<String>,
    /// The region.
    pub region: Option<String>,
}

/// A folder in a bucket: the objects whose names begin with a prefix.
#[derive(Clone)]
pub struct S3Folder {
    bucket: Bucket,
    credentials: Credentials,
    agent: ureq::Agent,
    /// Empty, or ends with a slash.
    prefix: String,
}

/// The names in a folder.
#[derive(Default)]
pub(super) struct Listed {
    pub(super) files: Vec<ListedFile>,
    pub(super) folders: Vec<String>,
}

impl S3Folder {
    /// Splits `bucket/prefix`.
    ///
    /// # Errors
    /// The end of a sentence that begins with the text.
    pub(super) fn split(text: &str) -> Result<(&str, &str), &'static str> {
        let (name, prefix) = text.split_once('/').unwrap_or((text, ""));
        let prefix = prefix.trim_end_matches('/');
        let is_plain = |part: &str| !matches!(part, "" | "." | "..");
        match !name.is_empty() && (prefix.is_empty() || prefix.split('/').all(is_plain)) {
            true => Ok((name, prefix)),
            false => Err("must be s3://BUCKET or s3://BUCKET/PREFIX"),
        }
    }

    /// Reads `bucket/prefix`.
    ///
    /// # Errors
    /// The end of a sentence that begins with the text: what it must be, or what is missing.
    pub(super) fn parse(text: &str, access: &S3Access) -> Result<S3Folder, String> {
        let (name, prefix) = S3Folder::split(text)?;
        let needed = |given: &Option<String>, variable: &str| {
            given.clone().ok_or_else(|| {
                format!("needs {variable}, or {variable}_FILE with the name of its file")
            })
        };
        let id = needed(&access.access_key_id, "AWS_ACCESS_KEY_ID")?;
        let secret = needed(&access.secret_access_key, "AWS_SECRET_ACCESS_KEY")?;
        let region = access.region.clone().unwrap_or_else(|| REGION.into());
        // Servers of others are mostly reached by addresses to which no bucket can be put in front.
        let (endpoint, style) = match &access.endpoint_url {
            Some(url) => (url.clone(), UrlStyle::Path),
            None => (format!("https://s3.{region}.amazonaws.com"), UrlStyle::VirtualHost),
        };
        let unusable = || {
            "cannot be reached: AWS_ENDPOINT_URL must be a URL such as https://s3.example.com, and \
             the bucket's name must fit into it"
        };
        let endpoint = endpoint.parse().map_err(|_| unusable())?;
        let bucket = Bucket::new(endpoint, style, name.to_owned(), region);
        let bucket = bucket.map_err(|_| unusable())?;
        let agent = agent(bucket.base_url().as_str())?;
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let credentials = match &access.session_token {
            Some(token) => Credentials::new_with_token(id, secret, token.clone()),
            None => Credentials::new(id, secret),
        };
        Ok(S3Folder { bucket, credentials, agent, prefix })
    }

    pub(super) fn within(&self, name: &str) -> S3Folder {
        S3Folder { prefix: format!("{}{name}/", self.prefix), ..self.clone() }
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    pub(super) fn list(&self) -> Result<Listed, S3Error> {
        let (mut listed, mut token) = (Listed::default(), None::<String>);
        for _ in 0..PAGES_MAX {
            let mut action = ListObjectsV2::new(&self.bucket, Some(&self.credentials));
            action.with_prefix(self.prefix.as_str());
            action.with_delimiter("/");
            if let Some(token) = &token {
                action.with_continuation_token(token.as_str());
            }
            let answer = self.agent.get(action.sign(SIGNED_FOR).as_str()).call()?;
            let page = ListObjectsV2::parse_response(&good(answer)?.text()?)
                .map_err(|_| S3Error::Unreadable)?;
            let name = |key: &str| key.strip_prefix(self.prefix.as_str()).map(str::to_owned);
            let files = page.contents.iter();
            let files = files.filter_map(|object| Some((name(&object.key)?, object.size)));
            listed.files.extend(files);
            let folders = page.common_prefixes.iter();
            let folders = folders.filter_map(|folder| name(folder.prefix.trim_end_matches('/')));
            listed.folders.extend(folders);
            token = page.next_continuation_token;
            if token.is_none() {
                return Ok(listed);
            }
        }
        Err(S3Error::TooLarge)
    }

    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, S3Error> {
        let key = self.key(name);
        let action = GetObject::new(&self.bucket, Some(&self.credentials), &key);
        match good(self.agent.get(action.sign(SIGNED_FOR).as_str()).call()?) {
            Ok(answer) => answer.bytes(FILE_BYTES_MAX).map(Some),
            Err(S3Error::Refused { code, .. }) if code == "NoSuchKey" => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Returns false if there is an object of that name.
    pub(super) fn create(&self, name: &str, bytes: &[u8]) -> Result<bool, S3Error> {
        let key = self.key(name);
        let mut action = PutObject::new(&self.bucket, Some(&self.credentials), &key);
        action.headers_mut().insert("if-none-match", "*");
        let request = self.agent.put(action.sign(SIGNED_FOR).as_str());
        let request = request.header("If-None-Match", "*");
        let request = request.header("Content-Type", "application/octet-stream");
        match good(request.send(bytes)?) {
            Ok(_) => Ok(true),
            Err(S3Error::Refused { status: 412, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Shows the bucket and the prefix.
impl fmt::Display for S3Folder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = format!("{S3_SCHEME}{}/{}", self.bucket.name(), self.prefix);
        write!(formatter, "{}", whole.trim_end_matches('/'))
    }
}

fn agent(url: &str) -> Result<ureq::Agent, String> {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(CONNECT_WITHIN))
        .timeout_recv_response(Some(ANSWER_WITHIN))
        .timeout_global(Some(DONE_WITHIN));
    if url.starts_with("http:") {
        return Ok(config.build().into());
    }
    let trusted = authorities(None).map_err(|error| error.to_string())?;
    let tls = TlsConfig::builder().root_certs(trusted).build();
    Ok(config.tls_config(tls).build().into())
}

/// Why a server of S3 did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum S3Error {
    #[error("{}", reason(.0))]
    Unreachable(#[from] ureq::Error),
    #[error("the server answers {status} {code}")]
    Refused { status: u16, code: String },
    #[error("the server's answer is not one of S3")]
    Unreadable,
    #[error("the server's answer is larger than any of an archive")]
    TooLarge,
}

/// Says why a request failed. A URL is not shown, since it has a signature.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::Timeout(_) => "the server does not answer in time".into(),
        ureq::Error::HostNotFound => "there is no such host; check AWS_ENDPOINT_URL".into(),
        ureq::Error::ConnectionFailed => "no connection".into(),
        _ => "the server cannot be asked, or its answer breaks off".into(),
    }
}

/// An answer with a good status.
struct Answer(ureq::http::Response<ureq::Body>);

/// Refuses an answer with a bad status.
fn good(answer: ureq::http::Response<ureq::Body>) -> Result<Answer, S3Error> {
    let status = answer.status().as_u16();
    if (200..300).contains(&status) {
        return Ok(Answer(answer));
    }
    let text = Answer(answer).text().unwrap_or_default();
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let is_plain = |code: &&str| code.len() < 64 && code.bytes().all(|b| b.is_ascii_alphanumeric());
    let code = code.map(|(code, _)| code).filter(is_plain).unwrap_or_default().to_owned();
    Err(S3Error::Refused { status, code })
}

impl Answer {
    fn bytes(mut self, bytes_max: u64) -> Result<Vec<u8>, S3Error> {
        let body = self.0.body_mut().with_config().limit(bytes_max).read_to_vec();
        body.map_err(|error| match error {
            ureq::Error::BodyExceedsLimit(_) => S3Error::TooLarge,
            error => error.into(),
        })
    }

    fn text(self) -> Result<String, S3Error> {
        let bytes = self.bytes(TEXT_BYTES_MAX)?;
        String::from_utf8(bytes).map_err(|_| S3Error::Unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(endpoint_url: Option<&str>) -> S3Access {
        S3Access {
            access_key_id: Some("id".into()),
            secret_access_key: Some("secret".into()),
            session_token: None,
            endpoint_url: endpoint_url.map(str::to_owned),
            region: None,
        }
    }

    #[test]
    fn a_bucket_and_its_prefix_are_read_and_shown_without_secrets() {
        let local = access(Some("http://127.0.0.1:1"));
        for (text, shown, url) in [
            ("b", "s3://b", "http://127.0.0.1:1/b/"),
            ("b/", "s3://b", "http://127.0.0.1:1/b/"),
            ("b/a/c/", "s3://b/a/c", "http://127.0.0.1:1/b/"),
        ] {
            let folder = S3Folder::parse(text, &local).unwrap();
            assert_eq!(
                (folder.to_string().as_str(), folder.bucket.base_url().as_str()),
                (shown, url)
            );
        }
        let folder = S3Folder::parse("b/a", &local).unwrap().within("x");
        assert_eq!((folder.key("y"), folder.to_string()), ("a/x/y".into(), "s3://b/a/x".into()));
        let amazon = S3Folder::parse("b", &access(None)).unwrap();
        assert_eq!(amazon.bucket.base_url().as_str(), "https://b.s3.us-east-1.amazonaws.com/");
    }

    #[test]
    fn a_session_token_goes_along_with_each_request_and_is_signed() {
        let signed = |session_token: Option<&str>| {
            let session_token = session_token.map(str::to_owned);
            let access = S3Access { session_token, ..access(Some("http://127.0.0.1:1")) };
            let folder = S3Folder::parse("b", &access).unwrap();
            let action = GetObject::new(&folder.bucket, Some(&folder.credentials), "x");
            // The same second for all, so that only the token differs.
            let url = action.sign_with_time(SIGNED_FOR, &"2025-01-01T00:00:00Z".parse().unwrap());
            let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
            let value = |name: &str| Some(pairs.iter().find(|(key, _)| key == name)?.1.clone());
            (value("X-Amz-Security-Token"), value("X-Amz-Signature").unwrap())
        };
        let (none, plain) = signed(None);
        let (one, with_one) = signed(Some("a/+=b"));
        let (two, with_two) = signed(Some("another"));
        assert_eq!((none, one, two), (None, Some("a/+=b".into()), Some("another".into())));
        assert!(plain != with_one && with_one != with_two && plain != with_two);
    }

    #[test]
    fn what_cannot_be_asked_for_is_refused_with_what_it_needs() {
        let local = access(Some("http://127.0.0.1:1"));
        for text in ["", "/x", "b//x", "b/../x", "b/./x"] {
            let refused = S3Folder::parse(text, &local).err().unwrap();
            assert!(refused.contains("s3://BUCKET/PREFIX"), "{text}: {refused}");
        }
        for (missing, variable) in [
            (S3Access { access_key_id: None, ..local.clone() }, "AWS_ACCESS_KEY_ID"),
            (S3Access { secret_access_key: None, ..local.clone() }, "AWS_SECRET_ACCESS_KEY"),
            (access(Some("nowhere")), "AWS_ENDPOINT_URL"),
            (access(Some("ftp://127.0.0.1")), "AWS_ENDPOINT_URL"),
        ] {
            let refused = S3Folder::parse("b", &missing).err().unwrap();
            assert!(refused.contains(variable), "{refused}");
        }
    }

    #[test]
    fn no_server_is_an_error_without_the_url() {
        // The port of a listener that is gone refuses.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let folder = S3Folder::parse("b", &access(Some(&format!("http://127.0.0.1:{port}"))));
        let error = folder.unwrap().create("x", b"x").unwrap_err().to_string();
        assert!(!error.contains("Signature") && !error.contains("http"), "{error}");
    }
}
