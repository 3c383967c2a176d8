//! A tiny HTTP/1.1 server over threads, for GET requests only.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A request without a body.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The query as it was sent, without its `?`.
    pub query: String,
    pub headers: Vec<(String, String)>,
}

/// An answer, and the number of bytes of its body after which the connection is cut.
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub cut_after: Option<usize>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The path and query, as in the request line.
    pub fn target(&self) -> String {
        let mark = if self.query.is_empty() { "" } else { "?" };
        format!("{}{mark}{}", self.path, self.query)
    }

    /// The decoded parameters of the query.
    pub fn parameters(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(self.query.as_bytes()).into_owned().collect()
    }

    /// The decoded value of a parameter.
    pub fn parameter(&self, name: &str) -> Option<String> {
        self.parameters().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }
}

impl Reply {
    pub fn json(status: u16, body: impl Into<Vec<u8>>) -> Reply {
        let headers = vec![("Content-Type".into(), "application/json; charset=utf-8".into())];
        Reply { status, headers, body: body.into(), cut_after: None }
    }

    pub fn with(mut self, name: &str, value: &str) -> Reply {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// A server on a free port of this machine. It takes no more connections once it is dropped.
pub struct Listening {
    pub url: String,
    stopped: Arc<AtomicBool>,
}

impl Listening {
    /// Answers every request with `answer`, each connection on a thread of its own.
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (stopped, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(answer));
        let stop = stopped.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                // A client that has left already must not end the server.
                let Ok(stream) = stream else { continue };
                let (stop, answer) = (stop.clone(), answer.clone());
                thread::spawn(move || serve(&stream, &stop, &*answer));
            }
        });
        Listening { url, stopped }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // The listener is waiting: one more connection wakes it.
        let _ = TcpStream::connect(self.url.trim_start_matches("http://"));
    }
}

fn serve(stream: &TcpStream, stopped: &AtomicBool, answer: &dyn Fn(&Request) -> Reply) {
    let _ = stream.set_nodelay(true);
    let mut lines = BufReader::new(stream);
    while let Some(request) = read(&mut lines) {
        let reply = answer(&request);
        if stopped.load(Ordering::SeqCst) || !write(stream, &reply) {
            break;
        }
    }
    let _ = stream.shutdown(std::net::Shutdown::Both);
}

fn read(lines: &mut impl BufRead) -> Option<Request> {
    let mut first = String::new();
    lines.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut parts = first.split_whitespace();
    let (method, target) = (parts.next()?.to_owned(), parts.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        lines.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Some(Request { method, path, query, headers })
}

/// Writes a reply. Returns false if the connection is to end.
fn write(mut stream: &TcpStream, reply: &Reply) -> bool {
    let mut head = format!("HTTP/1.1 {} Status\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", reply.body.len());
    let body = &reply.body[..reply.cut_after.unwrap_or(reply.body.len()).min(reply.body.len())];
    let written = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    written.is_ok() && reply.cut_after.is_none()
}
