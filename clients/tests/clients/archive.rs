//! An archive in a bucket of a server of S3 that others wrote, which checks each signature.

use std::io::BufReader;
use std::process::{Child, ChildStdout, Command};
use std::time::Duration;

use serde_json::Value;

use super::kit::{self, API_KEY, Server, rollcall, started};
use super::libraries;
use super::{Case, Needs};

const ID: &str = "AKIAEXAMPLE";
const SECRET: &str = "a/secret+of-this test";
const TOKEN: &str = "a/session+token=of this test==";
const REGION: &str = "eu-north-1";

/// Time for a command, and for the archive to catch up: only a hang runs into it.
const WITHIN: Duration = Duration::from_secs(60);

pub fn cases() -> Vec<Case> {
    vec![Case::new("an_archive_in_a_bucket_of_others_is_restored", Needs::Python, archives)]
}

/// The server of S3. Killed when dropped.
struct Bucket {
    child: Child,
    _output: BufReader<ChildStdout>,
    url: String,
}

impl Bucket {
    fn start() -> Bucket {
        let mut command = libraries::moto();
        command.arg(libraries::sources().join("python/s3.py"));
        with_key(&mut command, "");
        let (child, output, url) = started(command);
        Bucket { child, _output: output, url }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn with_key(command: &mut Command, url: &str) {
    command.env("AWS_ACCESS_KEY_ID", ID).env("AWS_SECRET_ACCESS_KEY", SECRET);
    command.env("AWS_SESSION_TOKEN", TOKEN);
    command.env("AWS_REGION", REGION).env("AWS_ENDPOINT_URL", url);
}

fn archives() {
    let bucket = Bucket::start();
    let to = "s3://backups/all of them/rollcall";
    let server = Server::start_as(|command| {
        with_key(command, &bucket.url);
        command.args(["--archive", to, "--archive-records", "3"]);
    });
    server.send(&kit::story("events.jsonl"));
    let count = kit::lines(&kit::story("events.jsonl")).len();
    let began = std::time::Instant::now();
    let stats = loop {
        let stats = stats(&server);
        let archive = &stats["archive"];
        if archive["seq"] == stats["seq"] && archive["lag_records"] == 0 {
            break stats;
        }
        assert!(began.elapsed() < WITHIN, "{archive}");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(stats["archive"]["failures"], 0, "{stats}");
    assert_eq!(stats["archive"]["place"], to);
    assert!(stats["archive"]["segments"].as_u64().unwrap() as usize >= count / 10);
    let new = server.folder().join("new");
    let mut command = rollcall(&["restore", "--json", "--from", to, "--data"]);
    command.arg(&new);
    with_key(&mut command, &bucket.url);
    let printed = kit::finished(command, WITHIN).unwrap_or_else(|said| panic!("restore: {said}"));
    let restored: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(restored["seq"], stats["seq"]);
    // Another key or session is refused, and the reason shown, without more.
    for variable in ["AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"] {
        let mut command = rollcall(&["restore", "--from", to, "--data"]);
        command.arg(server.folder().join("other"));
        with_key(&mut command, &bucket.url);
        command.env(variable, "another");
        let said = kit::finished(command, WITHIN).unwrap_err();
        assert!(said.contains("403 SignatureDoesNotMatch") && !said.contains("X-Amz"), "{said}");
    }
}

fn stats(server: &Server) -> Value {
    let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
    let request = agent.get(format!("{}/rollcall/v1/stats", server.url));
    let answer = request.header("Authorization", format!("Bearer {API_KEY}")).call();
    let text = answer.unwrap().body_mut().read_to_string().unwrap();
    serde_json::from_str(&text).unwrap()
}
