//! Events that are pulled from a source, which is well or not.

use std::process::Command;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::kit::server::{API_KEY, Server, binary, now_ms};
use crate::kit::source::faulty::{Fault, Faulty};
use crate::kit::source::objects::{directory, event, group, membership, user};
use crate::kit::source::pulling::{Puller, pull, source_of, until};
use crate::kit::source::reconciling::{reconcile, whole};
use crate::kit::source::stand_in::{Arrived, SOURCE_KEY, StandIn};

const DAY_MS: i64 = 86_400_000;
/// Events of this age are not left to their signed copy.
const SETTLED_MS: i64 = 60_000;

/// A stand-in with a directory that was activated `age_ms` ago.
fn source_with_directory(age_ms: i64) -> StandIn {
    let source = StandIn::start();
    let at = now_ms() - age_ms;
    let activated =
        event("event_0", "dsync.activated", at, &directory("directory_1", "Halden", at));
    source.contents().happen(&activated);
    source
}

/// The event that creates a user.
fn created(number: usize, age_ms: i64) -> String {
    let (id, at) = (format!("directory_user_{number:04}"), now_ms() - age_ms);
    let data = user(&id, "directory_1", "Ada", at);
    event(&format!("event_{number}"), "dsync.user.created", at, &data)
}

fn add_users(source: &StandIn, numbers: std::ops::Range<usize>) {
    let mut contents = source.contents();
    numbers.for_each(|number| contents.happen(&created(number, SETTLED_MS)));
}

const EVENTS: &str = "/events?limit=100&events=dsync.activated,dsync.user.created,\
                      dsync.user.updated,dsync.group.created,dsync.group.user_added";

fn event_ids(server: &Server) -> Vec<String> {
    server.get(EVENTS).ids()
}

fn user_ids(server: &Server) -> Vec<String> {
    server.get("/directory_users?directory=directory_1&limit=100&order=asc").ids()
}

/// The parameter of a request.
fn parameter(request: &Arrived, name: &str) -> Option<String> {
    let (_, query) = request.target.split_once('?')?;
    let mut parameters = form_urlencoded::parse(query.as_bytes());
    parameters.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn event_requests(source: &StandIn) -> Vec<Arrived> {
    let requests = source.requests().into_iter();
    requests.filter(|request| request.target.starts_with("/events?")).collect()
}

fn range_ms(request: &Arrived) -> Option<(i64, i64)> {
    let read = |name| rollcall::time::parse(&parameter(request, name)?);
    Some((read("range_start")?, read("range_end")?))
}

#[test]
fn the_first_pull_asks_in_windows_of_30_days_and_then_only_by_the_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(95 * DAY_MS);
    let ages = [80 * DAY_MS, 40 * DAY_MS, SETTLED_MS];
    for (number, age_ms) in ages.into_iter().enumerate() {
        source.contents().happen(&created(number + 1, age_ms));
    }
    let server = Puller::of(folder.path(), &source.url).start();
    let told = pull(&server);
    assert_eq!(event_ids(&server), ["event_1", "event_2", "event_3"], "the first is gone");
    assert_eq!(
        (&told["new"], &told["pulled"], &told["differs"]),
        (&3.into(), &3.into(), &0.into())
    );
    assert_eq!((&told["cursor"], &told["last_error"]), (&"event_3".into(), &Value::Null));
    let requests = event_requests(&source);
    let (from, to) = range_ms(&requests[0]).unwrap();
    let back = now_ms() - 90 * DAY_MS - from;
    assert!((0..60_000).contains(&back), "{back}");
    assert_eq!(to - from, 30 * DAY_MS);
    assert_eq!(parameter(&requests[0], "limit").unwrap(), "100");
    assert_eq!(parameter(&requests[0], "events").unwrap().split(',').count(), 10);
    assert_eq!(parameter(&requests[1], "after").as_deref(), Some("event_1"));
    assert!(
        requests.iter().all(|request| range_ms(request).is_none() || request.at == requests[0].at)
    );
    for request in &requests[2..] {
        assert_eq!(parameter(request, "after").as_deref(), Some("event_3"), "{}", request.target);
    }
}

#[test]
fn empty_windows_overlap_by_a_second_and_reach_to_now() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    let server = Puller::of(folder.path(), &source.url).start();
    pull(&server);
    let ranges: Vec<(i64, i64)> = event_requests(&source).iter().filter_map(range_ms).collect();
    assert_eq!(ranges.len(), 3, "{ranges:?}");
    for pair in ranges.windows(2) {
        assert_eq!(pair[1].0, pair[0].1 - 1000);
        assert!(pair[0].1 - pair[0].0 <= 30 * DAY_MS);
    }
    assert!(now_ms() - ranges[2].1 < 60_000);
    assert_eq!(event_ids(&server), ["event_0"]);
}

#[test]
fn a_source_without_events_is_asked_only_about_the_last_day_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = StandIn::start();
    let server = Puller::of(folder.path(), &source.url).start();
    pull(&server);
    let before = event_requests(&source).len();
    pull(&server);
    let later = &event_requests(&source)[before..];
    let (from, _) = range_ms(&later[0]).unwrap();
    assert!((0..60_000).contains(&(now_ms() - DAY_MS - from)), "{}", later[0].target);
    let at = now_ms() - SETTLED_MS;
    source.contents().happen(&event("event_0", "dsync.activated", at, &directory("d", "D", at)));
    pull(&server);
    assert_eq!(event_ids(&server), ["event_0"]);
}

#[test]
fn a_pulled_record_has_the_exact_bytes_of_the_item_and_names_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    let text = created(1, SETTLED_MS).replace("\"context\":{}", "\"context\": {\n} ,\"n\":1.00");
    source.contents().list_event(&text);
    let address = source.url.trim_start_matches("http://");
    let url = format!("http://me:hidden@{address}/?token=hidden");
    let server = Puller::of(folder.path(), &url).start();
    pull(&server);
    let entry = server.get("/rollcall/v1/log/entries/2").json();
    let bytes = |name: &str| BASE64_STANDARD.decode(entry[name].as_str().unwrap()).unwrap();
    assert_eq!(String::from_utf8(bytes("body")).unwrap(), text);
    let receipt = String::from_utf8_lossy(&bytes("receipt")).into_owned();
    assert!(receipt.contains(&source.url), "{receipt}");
    assert_eq!(source_of(&server)["url"], *source.url);
    let all = format!("{receipt}{}{}", source_of(&server), server.stop_and_say());
    assert!(!all.contains("hidden") && !all.contains(SOURCE_KEY), "{all}");
}

#[test]
fn the_end_is_a_page_that_says_so_and_never_a_short_one() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    source.contents().page_max = 7;
    add_users(&source, 1..31);
    let server = Puller::of(folder.path(), &source.url).start();
    let told = pull(&server);
    assert_eq!((&told["new"], &told["duplicates"]), (&31.into(), &0.into()));
    assert_eq!(user_ids(&server).len(), 30);
}

#[test]
fn a_tail_heals_a_lost_webhook_and_the_first_content_counts() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    let puller = Puller { takes_webhooks: true, ..Puller::of(folder.path(), &source.url) };
    let server = puller.start();
    pull(&server);
    // The webhook of event 1 comes, that of event 2 is lost. The list renders event 1 differently.
    let (first, second) = (created(1, SETTLED_MS), created(2, SETTLED_MS));
    server.deliver(&first);
    let other = first.replace("\"Ada\"", "\"Eve\"");
    source.contents().list_event(&other);
    source.contents().happen(&second);
    let told = pull(&server);
    assert_eq!((&told["new"], &told["duplicates"]), (&2.into(), &1.into()));
    assert_eq!(told["differs"], 1);
    assert_eq!(user_ids(&server), ["directory_user_0001", "directory_user_0002"]);
    assert_eq!(server.get("/directory_users/directory_user_0001").json()["first_name"], "Ada");
    assert_eq!(server.get("/rollcall/v1/quarantine").ids().len(), 0);
    // A webhook after its pulled copy is a duplicate.
    let answer = server.post(second.as_bytes());
    assert_eq!(answer.status, 200);
    assert_eq!(source_of(&server)["new"], 2);
    assert_eq!(server.get("/rollcall/v1/stats").json()["differs"], 1);
    // One that says something else is counted where operators look: no conflict, not recorded.
    let other = second.replace("\"Ada\"", "\"Eve\"");
    assert_eq!(server.post(other.as_bytes()).json()["conflict"], false);
    assert_eq!(server.get("/rollcall/v1/stats").json()["differs"], 2);
}

#[test]
fn young_events_are_left_to_their_webhooks_where_there_are_any() {
    for (takes_webhooks, expected) in
        [(true, &["event_0"][..]), (false, &["event_0", "event_1", "event_2"])]
    {
        let folder = tempfile::tempdir().unwrap();
        let source = source_with_directory(SETTLED_MS);
        source.contents().happen(&created(1, 1_000));
        // The order of the list is kept: nothing behind a young event is taken.
        source.contents().happen(&created(2, 30_000));
        let server = Puller { takes_webhooks, ..Puller::of(folder.path(), &source.url) }.start();
        let told = pull(&server);
        assert_eq!(event_ids(&server), expected);
        // What is behind the young one is left with it.
        assert_eq!(told["left_to_webhooks"], if takes_webhooks { 2 } else { 0 });
        assert_eq!(told["last_error"], Value::Null);
        assert_eq!(server.get("/readyz").json()["parts"]["source"]["state"], "answering");
        let webhook = server.post(created(1, 0).as_bytes());
        assert_eq!(webhook.status, if takes_webhooks { 200 } else { 404 });
        assert_eq!(server.get("/readyz").status, 200);
    }
}

#[test]
fn pulling_goes_on_at_its_cursor_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    let puller = Puller::of(folder.path(), &source.url);
    let server = puller.start();
    pull(&server);
    assert_eq!(server.stop(), 0);
    add_users(&source, 1..3);
    let before = event_requests(&source).len();
    let server = puller.start();
    let told = pull(&server);
    assert_eq!((&told["new"], &told["duplicates"]), (&2.into(), &0.into()));
    let first = &event_requests(&source)[before];
    assert_eq!(parameter(first, "after").as_deref(), Some("event_0"), "{}", first.target);
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(folder.path().join("pull-cursor")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_lost_cursor_costs_a_day_of_duplicates() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(10 * DAY_MS);
    for number in 1..4 {
        source.contents().happen(&created(number, (4 - number as i64) * DAY_MS * 3 / 4));
    }
    let puller = Puller::of(folder.path(), &source.url);
    let server = puller.start();
    pull(&server);
    assert_eq!(server.stop(), 0);
    std::fs::remove_file(folder.path().join("pull-cursor")).unwrap();
    let before = event_requests(&source).len();
    let server = puller.start();
    let told = pull(&server);
    // The newest is 18 hours old, and one more is less than 24 hours older.
    assert_eq!((&told["new"], &told["duplicates"]), (&0.into(), &2.into()));
    let (from, _) = range_ms(&event_requests(&source)[before]).unwrap();
    let back = now_ms() - DAY_MS * 7 / 4 - from;
    assert!((0..60_000).contains(&back), "{back}");
}

#[test]
fn a_lost_cursor_of_another_server_goes_back_from_the_newest_event_and_not_the_last() {
    let [folder, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let upstream = Server::start(other.path());
    // It learnt last of what happened first.
    for (number, age_ms) in [10 * DAY_MS, DAY_MS / 8, 50 * DAY_MS].iter().enumerate() {
        upstream.deliver(&created(number, *age_ms));
    }
    let puller = Puller { key: API_KEY, ..Puller::of(folder.path(), &upstream.url) };
    let server = puller.start();
    assert_eq!(pull(&server)["new"], 3);
    assert_eq!(server.stop(), 0);
    std::fs::remove_file(folder.path().join("pull-cursor")).unwrap();
    let server = puller.start();
    let told = pull(&server);
    // The one of the last day, and what was learnt after it.
    assert_eq!((&told["new"], &told["duplicates"]), (&0.into(), &2.into()), "{told}");
    assert_eq!(told["cursor"], "event_2");
}

#[test]
fn a_cursor_that_the_source_no_longer_knows_is_a_lost_one() {
    for status in [400, 404, 410, 422] {
        let folder = tempfile::tempdir().unwrap();
        let source = source_with_directory(SETTLED_MS);
        add_users(&source, 1..4);
        let server = Puller::of(folder.path(), &source.url).start();
        pull(&server);
        {
            let mut contents = source.contents();
            contents.unknown_cursor_status = status;
            contents.events.pop();
            let text = created(9, SETTLED_MS);
            contents.happen(&text);
        }
        let told = pull(&server);
        assert_eq!((&told["new"], &told["last_error"]), (&5.into(), &Value::Null), "{status}");
        assert_eq!(told["cursor"], "event_9");
        // If the request that follows is refused as well, that is an error.
        source.contents().has_events = false;
        let told = until(&server, |source| !source["last_error"].is_null());
        assert_eq!(told["last_error"]["code"], "not_found");
        let ready = server.get("/readyz");
        let part = ready.json()["parts"]["source"].clone();
        assert_eq!((ready.status, &part["state"]), (200, &"failing".into()));
        // The next try fails as well, and the state is as old as the first failure.
        let at = told["last_error"]["at"].clone();
        until(&server, |source| source["last_error"]["at"] != at);
        assert_eq!(server.get("/readyz").json()["parts"]["source"], part);
    }
}

#[test]
fn another_environment_is_not_pulled() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    let server = Server::start(folder.path());
    let at = now_ms() - SETTLED_MS;
    let other = directory("directory_other", "Other", at);
    server.deliver(&event("event_other", "dsync.activated", at, &other));
    assert_eq!(server.stop(), 0);
    let puller = Puller { takes_webhooks: true, ..Puller::of(folder.path(), &source.url) };
    let server = puller.start();
    let told = until(&server, |source| !source["last_error"].is_null());
    assert_eq!(told["last_error"]["code"], "source_mismatch");
    assert_eq!(event_ids(&server), ["event_other"]);
    // Only the newest event of the log is looked for in the list.
    let looked = range_ms(&event_requests(&source)[0]).unwrap();
    assert_eq!(looked, (at - 1, at + 1));
    assert_eq!(server.get("/readyz").status, 200);
    let stats = server.get("/rollcall/v1/stats").json();
    assert_eq!(stats["sources"][0]["last_error"]["code"], "source_mismatch");
    // The key of the right environment, or what it lists, ends it.
    source.contents().put_directory(other);
    let told = pull(&server);
    assert_eq!((&told["last_error"], &told["new"]), (&Value::Null, &1.into()));
    assert!(server.stop_and_say().contains("source_mismatch"));
}

#[test]
fn requests_keep_their_rate_after_a_burst_of_four() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    source.contents().page_max = 1;
    add_users(&source, 1..16);
    let options = ["--pull-rate", "10", "--pull-every", "60s"];
    let server = Puller { options: &options, ..Puller::of(folder.path(), &source.url) }.start();
    until(&server, |source| !source["caught_up_at"].is_null());
    let times: Vec<Instant> = source.requests().iter().map(|request| request.at).collect();
    for (at, time) in times.iter().enumerate().skip(4) {
        let least = Duration::from_millis(100 * (at as u64 - 3) - 20);
        assert!(*time - times[0] >= least, "{at}: {:?}", *time - times[0]);
    }
    assert!(times[3] - times[0] < Duration::from_millis(900), "the burst is not spread");
}

#[test]
fn a_source_that_asks_for_a_pause_gets_it() {
    let date = |ms: i64| {
        chrono::DateTime::from_timestamp_millis(ms).unwrap().format("%a, %d %b %Y %H:%M:%S GMT")
    };
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    let proxy = Faulty::before(&source.url);
    proxy.fail("/events", 1, Fault::TooMany("1".into()));
    // A date has whole seconds: this one is between one and two seconds ahead.
    let until_date = date(now_ms() + 4_000).to_string();
    proxy.fail("/events", 1, Fault::TooMany(until_date));
    let begun = Instant::now();
    let server = Puller::of(folder.path(), &proxy.url).start();
    let told = until(&server, |source| !source["last_error"].is_null());
    assert_eq!(told["last_error"]["code"], "rate_limited");
    pull(&server);
    let times: Vec<Instant> = proxy.requests().iter().map(|request| request.at).collect();
    assert!(times[1] - times[0] >= Duration::from_secs(1));
    assert!(times[2] - begun >= Duration::from_millis(2_900), "{:?}", times[2] - begun);
    assert_eq!(event_ids(&server), ["event_0"]);
}

#[test]
fn nothing_of_a_bad_page_is_recorded_and_a_good_one_follows() {
    let bad_end = r#"{"object":"list","data":[{"id":"event_x","event":"dsync.user.created"}"#;
    let bodies =
        [format!("{bad_end}]}}"), bad_end.to_owned(), "x".repeat((16 << 20) + 1), "null".into()];
    let bodies = bodies.map(|body| Fault::Body(body.into_bytes()));
    let faults = [
        Fault::Status(500),
        Fault::Status(503),
        Fault::CutOff,
        Fault::NotJson,
        Fault::Redirect("http://127.0.0.1:9/".into()),
    ];
    let runs: Vec<_> = faults
        .into_iter()
        .chain(bodies)
        .map(|fault| {
            std::thread::spawn(move || {
                let folder = tempfile::tempdir().unwrap();
                let source = source_with_directory(SETTLED_MS);
                let proxy = Faulty::before(&source.url);
                proxy.fail("/events", 2, fault);
                let server = Puller::of(folder.path(), &proxy.url).start();
                let told = until(&server, |source| !source["caught_up_at"].is_null());
                assert_eq!((&told["new"], &told["last_error"]), (&1.into(), &Value::Null));
                assert_eq!(server.get("/rollcall/v1/stats").json()["seq"], 1);
                let times: Vec<Instant> =
                    proxy.requests().iter().map(|request| request.at).collect();
                assert!(times[1] - times[0] >= Duration::from_millis(250));
                assert!(times[2] - times[1] >= Duration::from_millis(500));
            })
        })
        .collect();
    runs.into_iter().for_each(|run| run.join().unwrap());
}

#[test]
fn a_refused_key_is_told_and_not_tried_again_until_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    let server = Puller { key: "sk_wrong", ..Puller::of(folder.path(), &source.url) }.start();
    let told = until(&server, |source| !source["last_error"].is_null());
    assert_eq!(told["last_error"]["code"], "unauthorized");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(source.requests().len(), 1);
    assert_eq!(server.get("/readyz").status, 200);
    let failed = rollcall(&server, &["pull"]);
    assert_eq!(failed.status.code(), Some(2));
    let message = String::from_utf8(failed.stderr).unwrap();
    assert!(message.contains("does not take the key"), "{message}");
    assert_eq!(source.requests().len(), 2);
    source.contents().key = "sk_wrong".into();
    assert_eq!(pull(&server)["last_error"], Value::Null);
    let said = server.stop_and_say();
    assert!(said.contains("WORKOS_API_KEY") && !said.contains("sk_wrong"), "{said}");
}

#[test]
fn a_stop_does_not_wait_for_a_source() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    let proxy = Faulty::before(&source.url);
    proxy.fail("/events", 1, Fault::Late(Duration::from_secs(30)));
    let server = Puller::of(folder.path(), &proxy.url).start();
    while proxy.requests().is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let begun = Instant::now();
    assert_eq!(server.stop(), 0);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    assert!(!folder.path().join("unclean").exists(), "the log was closed");
}

fn rollcall(server: &Server, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(binary());
    command.args(arguments).args(["--url", &server.url]);
    command.env("ROLLCALL_API_KEY", API_KEY).output().unwrap()
}

#[test]
fn the_command_pulls_to_the_end_and_says_what_came() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    let options = ["--pull-every", "1h"];
    let server = Puller { options: &options, ..Puller::of(folder.path(), &source.url) }.start();
    until(&server, |source| !source["caught_up_at"].is_null());
    add_users(&source, 1..4);
    let told = rollcall(&server, &["pull"]);
    let text = String::from_utf8(told.stdout).unwrap();
    assert_eq!(
        text,
        format!("pulled every event that `{}` has: 3 new events, 0 duplicates\n", source.url)
    );
    let told = rollcall(&server, &["pull", "--json"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!((&told["object"], &told["pulled"]), (&json!("source"), &json!(4)));
    let status = rollcall(&server, &["status"]);
    let status = String::from_utf8(status.stdout).unwrap();
    assert!(
        status.contains(&format!("{}: wait: nothing is reconciled yet", source.url)),
        "{status}"
    );
    assert!(status.contains("since the start 4 new and 0 known already"), "{status}");
    assert_eq!(server.stop(), 0);

    let without = Server::start(folder.path());
    let refused = rollcall(&without, &["pull"]);
    assert_eq!(refused.status.code(), Some(1));
    let message = String::from_utf8(refused.stderr).unwrap();
    assert!(message.contains("--pull"), "{message}");
    assert_eq!(without.act("post", "/rollcall/v1/pull", None).code(), "no_source");
    assert_eq!(without.get("/rollcall/v1/sources").json()["data"], json!([]));
    assert_eq!(without.get("/rollcall/v1/stats").json()["sources"], json!([]));
}

#[test]
fn a_start_with_an_unusable_source_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (key, arguments, expected) in [
        ("", &["--pull", "https://api.workos.com"][..], "WORKOS_API_KEY"),
        ("sk", &["--pull", "http://api.workos.com"], "use https"),
        ("sk", &["--pull", "api.workos.com"], "https://api.workos.com"),
        ("sk", &["--pull", "https://api.workos.com", "--guard", "110%"], "0% to 100%"),
        ("sk", &["--pull", "https://api.workos.com", "--pull-rate", "0"], "from 1"),
        ("sk,sk2", &["--pull", "https://api.workos.com"], "one key"),
        (
            "sk",
            &["--pull", "http://localhost:9999", "--listen", "0.0.0.0:9999"],
            "this server itself",
        ),
        ("sk", &["--pull", "https://h.example/", "--public-url", "https://h.example"], "itself"),
    ] {
        for subcommand in [&["serve"][..], &["config", "check"]] {
            let mut command = Command::new(binary());
            command.args(subcommand).args(arguments).arg("--data").arg(folder.path());
            command.env("ROLLCALL_API_KEYS", API_KEY).env("WORKOS_API_KEY", key);
            let output = command.env_remove("ROLLCALL_WEBHOOK_SECRETS").output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
            assert!(said.contains(expected), "{arguments:?}: {said}");
        }
    }
}

#[test]
fn a_check_asks_the_source_for_a_directory_and_an_event() {
    let (folder, source) = (tempfile::tempdir().unwrap(), StandIn::start());
    for (key, line) in [
        (SOURCE_KEY, "it answers and takes the key"),
        ("sk_wrong", "the source does not take the key"),
    ] {
        let mut command = Command::new(binary());
        command.args(["config", "check", "--probe", "--listen", "127.0.0.1:0", "--pull"]);
        command.arg(&source.url).arg("--data").arg(folder.path().join("data"));
        command.env("ROLLCALL_API_KEYS", API_KEY).env("WORKOS_API_KEY", key);
        let output = command.env_remove("ROLLCALL_WEBHOOK_SECRETS").output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.contains(&format!("pull {}: {line}", source.url)), "{told}");
        assert_eq!(output.status.code(), Some(i32::from(key != SOURCE_KEY)), "{told}");
    }
    let asked: Vec<String> = source.requests().into_iter().map(|asked| asked.target).collect();
    let events = "/events?events=dsync.user.created&limit=1";
    assert_eq!(asked, ["/directories?limit=1", events, "/directories?limit=1"]);
}

#[test]
fn the_source_may_be_configured_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = (folder.path().join("rollcall.toml"), folder.path().join("key"));
    std::fs::write(&key, "sk_of_file\n").unwrap();
    let text = format!(
        "[pull]\nurl = \"https://me:hidden@api.workos.com\"\nkey_file = \"{}\"\nevery = \"1m\"\n\
         rate = 2\nreconcile_every = 0\nguard = \"off\"\n",
        key.display()
    );
    let show = |text: &str, subcommand: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(binary());
        command.args(["config", subcommand, "--config"]).arg(&file);
        command.env_remove("WORKOS_API_KEY").env("ROLLCALL_API_KEYS", API_KEY);
        command.output().unwrap()
    };
    let shown = show(&text, "show");
    let table = String::from_utf8(shown.stdout).unwrap();
    for value in ["https://api.workos.com ", "1m ", "rollcall.toml:5", "off "] {
        assert!(table.contains(value), "{value}: {table}");
    }
    assert!(!table.contains("hidden") && !table.contains("sk_of_file"), "{table}");
    assert_eq!(show(&text, "check").status.code(), Some(0));
    let wrong = show(&text.replace("every = \"1m\"", "evry = \"1m\"\nkey = \"sk_x\""), "check");
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.contains("rollcall.toml:4: unknown key `pull.evry`"), "{said}");
    assert!(said.contains("did you mean `pull.every`?"), "{said}");
    assert!(said.contains("name its file with `pull.key_file`"), "{said}");
}

#[test]
fn an_event_that_another_server_learnt_early_and_that_happened_late_is_pulled_too() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let upstream = Server::start(other.path());
    for (number, age_ms) in
        [DAY_MS, 80 * DAY_MS, 50 * DAY_MS, SETTLED_MS, 95 * DAY_MS, 85 * DAY_MS].iter().enumerate()
    {
        upstream.deliver(&created(number, *age_ms));
    }
    let server = Puller { key: API_KEY, ..Puller::of(folder.path(), &upstream.url) }.start();
    pull(&server);
    assert_eq!(event_ids(&server), event_ids(&upstream));
    assert_eq!(server.stop(), 0);
    // What is older than 90 days and first in the list is left out.
    let other = tempfile::tempdir().unwrap();
    let upstream = Server::start(other.path());
    for (number, age_ms) in [95 * DAY_MS, DAY_MS, 80 * DAY_MS].iter().enumerate() {
        upstream.deliver(&created(number, *age_ms));
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Puller { key: API_KEY, ..Puller::of(folder.path(), &upstream.url) }.start();
    pull(&server);
    assert_eq!(event_ids(&server), ["event_1", "event_2"]);
}

#[test]
fn a_server_that_pulls_from_another_has_the_same_events_and_users() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let upstream = Server::start(other.path());
    let at = now_ms() - SETTLED_MS;
    let crew = group("directory_group_1", "directory_1", "Crew", at);
    upstream.deliver(&event(
        "event_0",
        "dsync.activated",
        at,
        &directory("directory_1", "Halden", at),
    ));
    upstream.deliver(&event("event_g", "dsync.group.created", at, &crew));
    for number in 1..30 {
        upstream.deliver(&created(number, SETTLED_MS));
        let id = format!("directory_user_{number:04}");
        let data = membership(&crew, &user(&id, "directory_1", "Ada", at));
        upstream.deliver(&event(&format!("event_m{number}"), "dsync.group.user_added", at, &data));
    }
    let proxy = Faulty::before(&upstream.url);
    proxy.fail_later("/events", 1, 1, Fault::CutOff);
    let server = Puller { key: API_KEY, ..Puller::of(folder.path(), &proxy.url) }.start();
    pull(&server);
    assert_eq!(event_ids(&server), event_ids(&upstream));
    assert_eq!(user_ids(&server), user_ids(&upstream));
    let members = "/directory_users?group=directory_group_1&limit=100";
    assert_eq!(server.get(members).json()["data"], upstream.get(members).json()["data"]);
}

/// Begins a reconciliation of one directory, and returns its status, and how long that took.
fn ask_for_run(server: &Server, directory: &str) -> (u16, Duration) {
    let begun = Instant::now();
    let body = json!({ "directory": directory });
    let answer = server.act("post", "/rollcall/v1/reconciliations", Some(&body));
    (answer.status, begun.elapsed())
}

/// Waits for the end of the newest reconciliation, and returns it.
fn ended_run(server: &Server) -> Value {
    let begun = Instant::now();
    loop {
        let run = server.get("/rollcall/v1/reconciliations").json()["data"][0].clone();
        if run["state"] != "running" {
            return run;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{run}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn no_caller_waits_long_for_the_source_and_no_question_waits_at_all() {
    for fault in [Fault::TooMany("300".into()), Fault::Late(Duration::from_secs(20))] {
        let folder = tempfile::tempdir().unwrap();
        let source = source_with_directory(SETTLED_MS);
        let proxy = Faulty::before(&source.url);
        let options = ["--pull-every", "1h"];
        let server = Puller { options: &options, ..Puller::of(folder.path(), &proxy.url) }.start();
        until(&server, |source| !source["caught_up_at"].is_null());
        proxy.fail("/directories/", 1000, fault);
        std::thread::scope(|scope| {
            let asking: Vec<_> = (0..24)
                .map(|number| {
                    let directory = format!("directory_unknown_{number}");
                    let server = &server;
                    scope.spawn(move || ask_for_run(server, &directory))
                })
                .collect();
            for _ in 0..20 {
                let begun = Instant::now();
                assert_eq!(server.get("/directories").ids(), ["directory_1"]);
                assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
                std::thread::sleep(Duration::from_millis(10));
            }
            for asked in asking {
                let (status, time) = asked.join().unwrap();
                assert!([202, 409].contains(&status), "{status}");
                assert!(time < Duration::from_secs(8), "{time:?}");
            }
        });
        assert_eq!(ask_for_run(&server, "directory_1").0, 409, "the run waits for the source");
    }
}

#[test]
fn a_run_of_a_directory_that_is_found_to_be_unknown_later_fails_with_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    let proxy = Faulty::before(&source.url);
    let server = Puller::of(folder.path(), &proxy.url).start();
    pull(&server);
    assert_eq!(ask_for_run(&server, "directory_x").0, 404);
    proxy.fail("/directories/directory_x", 1, Fault::Status(503));
    assert_eq!(ask_for_run(&server, "directory_x").0, 202);
    let run = ended_run(&server);
    assert_eq!((&run["state"], &run["directories"]), (&json!("failed"), &json!([])));
    let error = run["error"].as_str().unwrap();
    assert_eq!(error, "neither the log nor the source has `directory_x`");
}

/// A page with these items that leads to another one.
fn page(items: &str, after: &str) -> Vec<u8> {
    format!(r#"{{"object":"list","data":[{items}],"list_metadata":{{"after":"{after}"}}}}"#).into()
}

#[test]
fn a_list_of_events_that_goes_round_in_a_circle_is_an_error_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    let proxy = Faulty::before(&source.url);
    for (place, next) in [("event_0", 1), ("event_1", 2), ("event_2", 1)] {
        let body = page(&created(next, SETTLED_MS), &format!("event_{next}"));
        proxy.fail(&format!("after={place}"), 100_000, Fault::Body(body));
    }
    let server = Puller::of(folder.path(), &proxy.url).start();
    let told = until(&server, |source| !source["last_error"].is_null());
    assert_eq!(told["last_error"]["code"], "endless_list");
    assert!(proxy.requests().len() < 100, "{}", proxy.requests().len());
    // It is still so with the next pull, which does not forget the error under way.
    let before = proxy.requests().len();
    while proxy.requests().len() < before + 8 {
        assert_eq!(source_of(&server)["last_error"]["code"], "endless_list");
    }
    assert_eq!(server.get("/rollcall/v1/stats").json()["seq"], 3);
    add_users(&source, 1..4);
    proxy.heal();
    let told = pull(&server);
    assert_eq!((&told["last_error"], &told["new"]), (&Value::Null, &4.into()));
}

#[test]
fn a_list_of_users_that_goes_round_in_a_circle_fails_its_directory() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    add_users(&source, 1..3);
    let proxy = Faulty::before(&source.url);
    let shown = |id: &str| user(id, "directory_1", "Ada", now_ms() - SETTLED_MS).to_string();
    for (place, next) in [("after=a", "b"), ("after=b", "a"), ("/directory_users?directory", "a")] {
        proxy.fail(place, 100_000, Fault::Body(page(&shown("directory_user_0001"), next)));
    }
    let server = Puller::of(folder.path(), &proxy.url).start();
    pull(&server);
    assert_eq!(ask_for_run(&server, "directory_1").0, 202);
    let run = ended_run(&server);
    let directory = &run["directories"][0];
    assert_eq!((&run["state"], &directory["state"]), (&json!("failed"), &json!("failed")));
    let error = directory["error"].as_str().unwrap();
    assert!(error.contains("round in a circle"), "{error}");
    assert_eq!(user_ids(&server), ["directory_user_0001", "directory_user_0002"]);
}

#[test]
fn another_key_is_looked_at_again_and_may_be_of_another_environment() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    let server = Puller::of(folder.path(), &source.url).start();
    pull(&server);
    assert_eq!(server.stop(), 0);
    {
        let mut contents = source.contents();
        contents.key = "sk_other".into();
        contents.events.clear();
        contents.remove_directory("directory_1");
        contents.put_directory(directory("directory_z", "Other", now_ms()));
    }
    let server = Puller { key: "sk_other", ..Puller::of(folder.path(), &source.url) }.start();
    let told = until(&server, |source| !source["last_error"].is_null());
    assert_eq!(told["last_error"]["code"], "source_mismatch");
    assert_eq!(event_ids(&server), ["event_0"]);
}

#[test]
fn a_source_whose_last_directory_was_deleted_is_known_by_its_events() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    let at = now_ms() - SETTLED_MS;
    let server = Server::start(folder.path());
    let listed = source.contents().events[0].text.clone();
    server.deliver(&listed);
    assert_eq!(server.stop(), 0);
    source.contents().happen(&event(
        "event_d",
        "dsync.deleted",
        at + 1000,
        &directory("directory_1", "Halden", at),
    ));
    let puller = Puller { takes_webhooks: true, ..Puller::of(folder.path(), &source.url) };
    let server = puller.start();
    let told = pull(&server);
    assert_eq!((&told["last_error"], &told["new"]), (&Value::Null, &1.into()));
    assert_eq!(server.get("/directories").ids().len(), 0);
}

/// The reasons of what is listed in the quarantine, in the order of the log.
fn reasons(server: &Server) -> Vec<(u64, String)> {
    let listed = server.get("/rollcall/v1/quarantine?limit=1000").json();
    let reason = |entry: &Value| {
        (entry["seq"].as_u64().unwrap(), entry["reason"].as_str().unwrap().to_owned())
    };
    listed["data"].as_array().unwrap().iter().map(reason).collect()
}

#[test]
fn an_item_without_a_usable_id_is_kept_without_effect_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    source.contents().list_event(&created(3, SETTLED_MS));
    let proxy = Faulty::before(&source.url);
    let without = created(1, SETTLED_MS).replace("\"event_1\"", "null");
    let long = created(2, SETTLED_MS).replace("event_2", &"e".repeat(256));
    let odd = [without.as_str(), "7", "null", "[{}]", "\"text\"", &long];
    let items = format!("{},{},{}", odd[..3].join(","), created(3, SETTLED_MS), odd[3..].join(","));
    proxy.fail("after=event_0", 1, Fault::Body(page(&items, "event_3")));
    // What follows is of no use either, and stays for a while at the end of the list.
    let rest = r#"{"object":"list","data":[true],"list_metadata":{"after":null}}"#;
    proxy.fail("after=event_3", 3, Fault::Body(rest.into()));
    let server = Puller::of(folder.path(), &proxy.url).start();
    while proxy.requests().iter().filter(|asked| asked.target.contains("event_3")).count() < 4 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let told = pull(&server);
    assert_eq!((&told["cursor"], &told["last_error"]), (&"event_3".into(), &Value::Null));
    // Two events, and seven items that are none: the last of them came three times.
    assert_eq!((&told["new"], &told["duplicates"]), (&9.into(), &2.into()), "{told}");
    let listed: Vec<(u64, String)> =
        [2, 3, 4, 6, 7, 8, 9].map(|seq| (seq, "not_an_event".to_owned())).into();
    assert_eq!(reasons(&server), listed);
    assert_eq!(user_ids(&server), ["directory_user_0003"], "no user of an item without an id");
    assert_eq!(server.body_of(3), b"7");
    // New events are pulled as ever.
    proxy.heal();
    add_users(&source, 4..6);
    assert_eq!(pull(&server)["cursor"], "event_5");
    assert_eq!(user_ids(&server).len(), 3);
    assert!(server.stop_and_say().contains("not an event"));
}

#[test]
fn a_page_without_any_usable_id_is_passed_by_its_own_cursor_and_never_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    add_users(&source, 1..3);
    let proxy = Faulty::before(&source.url);
    // The first window, and a page behind the first event.
    proxy.fail("range_start", 1, Fault::Body(page("1,2", "event_0")));
    proxy.fail("after=event_0", 1, Fault::Body(page("3", "event_1")));
    let server = Puller::of(folder.path(), &proxy.url).start();
    let told = pull(&server);
    // Three that are not events, and what follows event 1.
    assert_eq!((&told["new"], &told["cursor"]), (&4.into(), &"event_2".into()));
    assert_eq!(reasons(&server).len(), 3);
    // One that leads back to its own place is a bad page: it is asked for again.
    let bad = || proxy.requests().iter().filter(|asked| asked.target.contains("event_2")).count();
    let before = bad();
    proxy.fail("after=event_2", 2, Fault::Body(page("4", "event_2")));
    let told = pull(&server);
    assert_eq!((&told["new"], &told["last_error"]), (&4.into(), &Value::Null));
    assert!(bad() >= before + 3);
    assert_eq!(reasons(&server).len(), 3, "nothing of it is recorded");
}

#[test]
fn two_webhooks_that_differ_conflict_whatever_was_pulled_between() {
    let folder = tempfile::tempdir().unwrap();
    let source = source_with_directory(SETTLED_MS);
    let puller = Puller { takes_webhooks: true, ..Puller::of(folder.path(), &source.url) };
    let server = puller.start();
    let named = |number: usize, name: &str| {
        created(number, SETTLED_MS).replace("\"Ada\"", &format!("\"{name}\""))
    };
    let post = |text: &str| {
        let answer = server.post(text.as_bytes()).json();
        (answer["seq"].clone(), answer["duplicate"].clone(), answer["conflict"].clone())
    };
    let pull_also = |text: &str| {
        source.contents().list_event(text);
        pull(&server)
    };
    pull(&server);
    // A webhook, a pulled copy that differs, another webhook: the webhooks conflict.
    let [a, p, b] = ["A", "P", "B"].map(|name| named(1, name));
    assert_eq!(post(&a), (json!(2), json!(false), json!(false)));
    assert_eq!(pull_also(&p)["differs"], 1);
    assert_eq!(post(&b), (json!(3), json!(false), json!(true)));
    assert_eq!(post(&b), (json!(3), json!(true), json!(true)));
    // A pulled copy first: neither webhook is kept, so that they have nothing to conflict with.
    let [a, p, b] = ["A", "P", "B"].map(|name| named(2, name));
    let told = pull_also(&p);
    assert_eq!((&told["new"], &told["differs"]), (&2.into(), &1.into()));
    for webhook in [&a, &b, &a] {
        assert_eq!(post(webhook), (json!(4), json!(true), json!(false)));
    }
    // Each of the three is a copy that differs; one that is the same is none.
    assert_eq!(post(&p), (json!(4), json!(true), json!(false)));
    let sources = server.get("/rollcall/v1/sources").json();
    assert_eq!(sources["data"][0]["differs"], 4);
    assert_eq!(server.get("/rollcall/v1/stats").json()["differs"], 4);
    assert_eq!(server.get("/directory_users/directory_user_0002").json()["first_name"], "P");
    // A first content that cannot be used counts all the same: its pulled copy is dropped.
    let unusable = created(3, SETTLED_MS).replace("\"id\":\"directory_user_0003\",", "");
    assert_eq!(post(&unusable), (json!(5), json!(false), json!(false)));
    let told = pull_also(&created(3, SETTLED_MS));
    assert_eq!((&told["new"], &told["cursor"]), (&2.into(), &"event_3".into()));
    assert_eq!(server.get("/directory_users/directory_user_0003").status, 404);
    let listed = [(3, "conflict"), (5, "missing_field")];
    assert_eq!(reasons(&server), listed.map(|(seq, reason)| (seq, reason.to_owned())));
    assert_eq!(server.get("/rollcall/v1/stats").json()["seq"], 5);
}

fn import(server: &Server, text: &str) {
    let url = format!("{}/rollcall/v1/import", server.url);
    assert_eq!(server.send("post", &url, API_KEY, text).json()["new"], 1);
}

#[test]
fn directories_that_were_only_imported_or_observed_are_of_no_environment() {
    let source = source_with_directory(SETTLED_MS);
    let at = now_ms() - SETTLED_MS;
    let activated = |id: &str| {
        event(&format!("event_{id}"), "dsync.activated", at, &directory(id, "Other", at))
    };
    // Imported.
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    import(&server, &activated("directory_other"));
    assert_eq!(server.stop(), 0);
    let server = Puller::of(folder.path(), &source.url).start();
    let told = pull(&server);
    assert_eq!((&told["last_error"], &told["new"]), (&Value::Null, &1.into()));
    // Observed at another source.
    let (folder, other) = (tempfile::tempdir().unwrap(), StandIn::start());
    other.contents().put_directory(directory("directory_other", "Other", at));
    let server = Puller::of(folder.path(), &other.url).start();
    assert_eq!(reconcile(&server, &whole())["recorded"], 1);
    assert_eq!(server.stop(), 0);
    let server = Puller::of(folder.path(), &source.url).start();
    let told = pull(&server);
    assert_eq!((&told["last_error"], &told["new"]), (&Value::Null, &1.into()));
    // They do not help either, where there are directories by webhook, and none of those is listed.
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    server.deliver(&activated("directory_other"));
    import(&server, &activated("directory_1"));
    assert_eq!(server.stop(), 0);
    let puller = Puller { takes_webhooks: true, ..Puller::of(folder.path(), &source.url) };
    let server = puller.start();
    let told = until(&server, |source| !source["last_error"].is_null());
    assert_eq!((&told["last_error"]["code"], &told["new"]), (&json!("source_mismatch"), &0.into()));
    let run = reconcile(&server, &whole());
    assert_eq!((&run["state"], &run["recorded"]), (&json!("failed"), &json!(0)), "{run}");
    assert!(run["error"].as_str().unwrap().contains("another environment"), "{run}");
}
