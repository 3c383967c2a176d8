//! A server of S3 in this process, as much of it as an archive needs, which fails when it is told
//! to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A way to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Each request is answered with 500.
    Error,
    /// Each connection is closed without an answer.
    CutOff,
    /// As `CutOff`, but what is to be written is written.
    WrittenButCutOff,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Vec<u8>>,
    fault: Option<Fault>,
    writes: Vec<bool>,
}

/// A running server.
pub struct Bucket {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Bucket {
    pub fn start() -> Bucket {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state: Arc<Mutex<State>> = Arc::default();
        let serving = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = serving.clone();
                // A client that leaves is no concern of the server.
                std::thread::spawn(move || {
                    let _ = serve(&stream, &state);
                });
            }
        });
        Bucket { url, state }
    }

    pub fn fail(&self, fault: Fault) {
        self.state.lock().unwrap().fault = Some(fault);
    }

    /// Replaces an object, as only its owner can.
    pub fn put(&self, name: &str, bytes: &[u8]) {
        self.state.lock().unwrap().objects.insert(name.to_owned(), bytes.to_vec());
    }

    pub fn mend(&self) {
        self.state.lock().unwrap().fault = None;
    }

    /// Every object by its bucket and key.
    pub fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        self.state.lock().unwrap().objects.clone()
    }

    /// For each request to write whether it must not overwrite.
    pub fn writes(&self) -> Vec<bool> {
        self.state.lock().unwrap().writes.clone()
    }
}

struct Request {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    creates_only: bool,
    body: Vec<u8>,
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let (mut length, mut creates_only, mut expects) = (0, false, false);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim().split_once(':') else { break };
        match (name.to_lowercase().as_str(), value.trim()) {
            ("content-length", value) => length = value.parse().ok()?,
            ("if-none-match", "*") => creates_only = true,
            ("expect", _) => expects = true,
            _ => {}
        }
    }
    if expects {
        (&mut &*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n").ok()?;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path: path.trim_start_matches('/').to_owned(),
        query,
        creates_only,
        body,
    })
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let request = read(stream)?;
    let mut state = state.lock().unwrap();
    let fault = state.fault;
    let (status, body) = match fault {
        Some(Fault::Error) => ("500 Internal Server Error", code("InternalError")),
        Some(Fault::CutOff) => return None,
        _ => answer(&request, &mut state),
    };
    drop(state);
    if fault == Some(Fault::WrittenButCutOff) {
        return None;
    }
    let head =
        format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut stream = stream;
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(&body).ok()
}

fn code(code: &str) -> Vec<u8> {
    format!("<Error><Code>{code}</Code></Error>").into_bytes()
}

fn answer(request: &Request, state: &mut State) -> (&'static str, Vec<u8>) {
    let Request { method, path, query, creates_only, body } = request;
    // Each request is signed.
    if !query.contains_key("X-Amz-Signature") {
        return ("403 Forbidden", code("AccessDenied"));
    }
    match method.as_str() {
        "PUT" => {
            state.writes.push(*creates_only);
            if *creates_only && state.objects.contains_key(path) {
                return ("412 Precondition Failed", code("PreconditionFailed"));
            }
            state.objects.insert(path.clone(), body.clone());
            ("200 OK", Vec::new())
        }
        "GET" if query.contains_key("list-type") => ("200 OK", list(path, query, state)),
        "GET" => match state.objects.get(path) {
            Some(bytes) => ("200 OK", bytes.clone()),
            None => ("404 Not Found", code("NoSuchKey")),
        },
        _ => ("405 Method Not Allowed", Vec::new()),
    }
}

/// The names of a page: few, so that there are several.
const PAGE: usize = 3;

fn list(bucket: &str, query: &BTreeMap<String, String>, state: &State) -> Vec<u8> {
    let bucket = bucket.trim_end_matches('/');
    let prefix = query.get("prefix").map_or("", String::as_str);
    let after = query.get("continuation-token").map_or("", String::as_str);
    let mut names: Vec<String> = Vec::new();
    for path in state.objects.keys() {
        let Some(key) = path.strip_prefix(&format!("{bucket}/")) else { continue };
        let Some(rest) = key.strip_prefix(prefix) else { continue };
        // What is behind the next slash is one folder.
        let name =
            rest.split_once('/').map_or(key.to_owned(), |(folder, _)| format!("{prefix}{folder}/"));
        if name.as_str() > after && !names.contains(&name) {
            names.push(name);
        }
    }
    names.sort();
    let is_truncated = names.len() > PAGE;
    names.truncate(PAGE);
    let items: String = names
        .iter()
        .map(|name| match name.ends_with('/') {
            true => format!("<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"),
            false => {
                let bytes = state.objects.get(&format!("{bucket}/{name}")).map_or(0, Vec::len);
                format!("<Contents><Key>{name}</Key><Size>{bytes}</Size></Contents>")
            }
        })
        .collect();
    let token = match names.last().filter(|_| is_truncated) {
        Some(last) => format!("<NextContinuationToken>{last}</NextContinuationToken>"),
        None => String::new(),
    };
    format!(
        "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <IsTruncated>{is_truncated}</IsTruncated>{items}{token}</ListBucketResult>"
    )
    .into_bytes()
}
