//! `rollcall events` and `rollcall status`, against a server and over a folder.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::cli::read::{ask, ask_folder, cells, err, lines, out, reorganised, rollcall};
use crate::kit::server::{API_KEY, Server, binary, user};
use crate::laws::stories::stories;

const DIRECTORY: &str = "directory_01K424MH00XFE6WM17PR9ASN2Y";

/// The types that `events` lists by default.
const ALL: &str = "dsync.activated,dsync.deactivated,dsync.deleted,dsync.user.created,\
                   dsync.user.updated,dsync.user.deleted,dsync.group.created,dsync.group.updated,\
                   dsync.group.deleted,dsync.group.user_added,dsync.group.user_removed";

/// The ids of the first story's events in the order of delivery, which is that of the records.
fn delivered() -> Vec<String> {
    stories()[0].events.iter().map(|event| id(event)).collect()
}

fn id(event: &str) -> String {
    serde_json::from_str::<Value>(event).unwrap()["id"].as_str().unwrap().to_owned()
}

fn ids(json_lines: &str) -> Vec<String> {
    json_lines.lines().map(id).collect()
}

/// An event about one of many users; each at a second of its own order.
fn told(number: u32) -> String {
    let second = number * 7 % 235;
    let moment = format!("2025-01-01T00:{:02}:{:02}.000Z", second / 60, second % 60);
    user(&format!("u{number}"), "d", "ana", &moment, &format!("e{number:03}"), "dsync.user.created")
}

/// `rollcall events --follow` as a child, its output read as it comes.
struct Follower {
    child: Child,
    out: BufReader<ChildStdout>,
    err: BufReader<ChildStderr>,
}

impl Follower {
    fn start(server: &Server, arguments: &[&str]) -> Follower {
        let mut command = rollcall(&[
            "events",
            "--follow",
            "--interval",
            "20ms",
            "--url",
            &server.url,
            "--api-key",
            API_KEY,
        ]);
        let mut child =
            command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Follower { child, out: BufReader::new(out), err: BufReader::new(err) }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.out.read_line(&mut line).unwrap() > 0, "it ended");
        line.trim_end().to_owned()
    }

    fn id(&mut self) -> String {
        id(&self.line())
    }

    fn id_in_table(&mut self) -> String {
        self.line().split_whitespace().nth(2).unwrap().to_owned()
    }

    fn complaint(&mut self) -> String {
        let mut line = String::new();
        self.err.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Stops reading, and returns the exit code.
    fn leave(mut self) -> Option<i32> {
        drop(self.out);
        self.child.wait().unwrap().code()
    }
}

#[test]
fn events_come_in_the_order_of_the_records_as_the_api_sends_them() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(folder.path());
    let all = out(&ask(&server, &["events", "--json"]));
    assert_eq!(ids(&all), delivered());
    assert_eq!(all, lines(&server, &format!("/events?events={ALL}&limit=100")));
    let output = ask(&server, &["events"]);
    let mei_lin = "directory_user_01K424MJCC415DRWZYEMQRTB2Z mcastellanos@halden-robotics.example";
    let platform = "directory_group_01K424MK3GKPZXHV3GKC42YPT6 Platform";
    let last = [
        "2026-02-16T11:05:00.000Z",
        "dsync.group.user_removed",
        "event_01KHK200V3K49Q5SQ2HPBHT9CM",
        &format!("{mei_lin}, {platform}"),
    ];
    let table = cells(&out(&output));
    assert_eq!(table.last().unwrap(), &last);
    assert_eq!(
        table[0][1..],
        ["dsync.activated", &delivered()[0], &format!("{DIRECTORY} Halden Robotics")]
    );
    assert_eq!(
        (table.len(), err(&output)),
        (30, "30 events, as of latest, known at record 30\n".into())
    );
    let of =
        |arguments: &[&str]| ids(&out(&ask(&server, &[&["events", "--json"], arguments].concat())));
    let some =
        of(&["--type", "dsync.user.deleted,dsync.group.updated", "--type", "dsync.activated"]);
    assert_eq!(
        some,
        [&delivered()[0], "event_01KJPWD6M38NP1Q9KGP9BZ1FRJ", "event_01KM64QZE3SR1SND1AN215B4JQ"]
    );
    assert_eq!(of(&["--type", "dsync.token.revoked"]), [""; 0]);
    assert_eq!(of(&["--after", &delivered()[27]]), delivered()[28..]);
    assert_eq!(of(&["--after", &delivered()[7], "--limit", "3"]), delivered()[8..11]);
    assert_eq!(of(&["--known-at", "29"]), delivered()[..29]);
    assert_eq!(of(&["--as-of", "2025-09-01T08:00:00Z"]), delivered()[..1]);
    assert_eq!(of(&["--organization", "org_01K33SRHPWWZ1Q313AXTSCGDJ0"]), delivered());
}

#[test]
fn a_list_of_events_cut_by_time_goes_on_past_its_first_page() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    for number in 0..235 {
        server.deliver(&told(number));
    }
    let of =
        |arguments: &[&str]| ids(&out(&ask(&server, &[&["events", "--json"], arguments].concat())));
    let expected = |seconds: std::ops::RangeInclusive<u32>| -> Vec<String> {
        (0..235)
            .filter(|number| seconds.contains(&(number * 7 % 235)))
            .map(|number| format!("e{number:03}"))
            .collect()
    };
    assert_eq!(of(&[]).len(), 235);
    // 181 of them, so that bounds and cursors must go together.
    assert_eq!(
        of(&["--from", "2025-01-01T00:00:20Z", "--to", "2025-01-01T00:03:20Z"]),
        expected(20..=200)
    );
    assert_eq!(of(&["--from", "2025-01-01T01:00:20+01:00"]), expected(20..=234));
    assert_eq!(of(&["--to", "2025-01-01T00:03:20Z", "--limit", "150"]), expected(0..=200)[..150]);
}

#[test]
fn whoever_follows_sees_the_last_events_and_then_each_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    // Once the head of its table is there it has begun: from the empty log on.
    let mut first = Follower::start(&server, &[]);
    assert!(first.line().starts_with("occurred"));
    for number in 0..235 {
        server.deliver(&told(number));
    }
    let all: Vec<String> = (0..235).map(|number| format!("e{number:03}")).collect();
    assert_eq!((0..235).map(|_| first.id_in_table()).collect::<Vec<_>>(), all);
    let mut many = Follower::start(&server, &["--json", "--limit", "150"]);
    assert_eq!((0..150).map(|_| many.id()).collect::<Vec<_>>(), all[85..]);
    let mut after = Follower::start(&server, &["--json", "--after", "e100"]);
    assert_eq!((0..134).map(|_| after.id()).collect::<Vec<_>>(), all[101..]);
    let mut ten = Follower::start(&server, &[]);
    let head = ten.line();
    let shown: Vec<String> = (0..10).map(|_| ten.line()).collect();
    assert!(
        shown.iter().zip(&all[225..]).all(|(line, id)| line.contains(id.as_str())),
        "{shown:?}"
    );
    let mut new = Follower::start(&server, &["--limit", "0", "--type", "dsync.user.created"]);
    assert_eq!(new.line(), head);
    server.deliver(&told(235));
    assert_eq!([first.id_in_table(), many.id(), after.id(), new.id_in_table()], ["e235"; 4]);
    let line = ten.line();
    assert_eq!(
        (line.find("e235"), head.find("id ")),
        (shown[0].find("e225"), shown[0].find("e225")),
        "rows stand under those before"
    );
    for follower in [first, many, after, ten, new] {
        // No event comes any more, and yet it ends.
        assert_eq!(follower.leave(), Some(0));
    }
}

#[test]
fn following_survives_a_restart_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(folder.path());
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    let mut follower = Follower::start(&server, &["--json", "--limit", "2"]);
    assert_eq!([follower.id(), follower.id()], delivered()[28..]);
    assert_eq!(server.stop(), 0);
    assert!(follower.complaint().ends_with("trying again until it answers"));
    let server = Server::start_listening(Command::new(binary()), &address, folder.path(), &[]);
    server.deliver(&told(7));
    assert_eq!(follower.id(), "e007");
    // It said so once, however often it tried.
    assert_eq!(follower.complaint(), "rollcall: the server answers again");
    assert_eq!(follower.leave(), Some(0));
    drop(server);
    let output = rollcall(&[
        "events",
        "--follow",
        "--url",
        &format!("http://{address}"),
        "--api-key",
        API_KEY,
    ])
    .output()
    .unwrap();
    assert_eq!(output.status.code(), Some(2), "nothing to follow: {}", err(&output));
}

#[test]
fn a_mistake_about_events_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(folder.path());
    for (arguments, wanted) in [
        (&["events", "--after", "nowhere"][..], "--after: "),
        (
            &["events", "--from", "2026-01-02T00:00:00Z", "--to", "2026-01-01T00:00:00Z"],
            "rollcall: --",
        ),
        (&["events", "--after", "x", "--from", "2026-01-02T00:00:00Z"], "cannot be used with"),
        (&["events", "--follow", "--as-of", "latest"], "cannot be used with"),
        (&["events", "--follow", "--after", "x", "--limit", "3"], "leave it out"),
        (&["events", "--follow", "--interval", "1ms"], "at least 10 ms"),
        (&["events", "--interval", "1s"], "--follow"),
        (&["events", "--follow", "--after", "nowhere"], "--after: "),
    ] {
        let output = ask(&server, arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(wanted), "{arguments:?}: {}", err(&output));
    }
    let output = ask_folder(folder.path(), &["events", "--follow"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("ask a server with --url"), "{}", err(&output));
}

#[test]
fn a_folder_gives_the_events_that_its_server_gave() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(folder.path());
    let questions = [
        &["events"][..],
        &["events", "--json"],
        &["events", "--known-at", "12", "--limit", "5"],
        &["events", "--after", "nowhere"],
    ];
    let told = questions.map(|arguments| ask(&server, arguments));
    assert_eq!(server.stop(), 0);
    for (arguments, told) in questions.into_iter().zip(told) {
        assert_eq!(ask_folder(folder.path(), arguments), told, "{arguments:?}");
    }
}

#[test]
fn status_tells_the_whole_and_each_directory() {
    let folder = tempfile::tempdir().unwrap();
    let server = reorganised(folder.path());
    let seen = |text: &str, first: &str| {
        text.lines()
            .find(|line| line.starts_with(first))
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let check = |text: &str| {
        assert_eq!(seen(text, "records").as_deref(), Some("records 30"), "{text}");
        let events = seen(text, "events").unwrap();
        assert!(
            events.contains("30 in the last hour, 30 in the last day, 30 in the last 30 days"),
            "{text}"
        );
        // Five people and three groups are left, and all thirty events were recorded just now.
        let row = seen(text, DIRECTORY).unwrap();
        assert!(
            row.starts_with(&format!("{DIRECTORY} Halden Robotics linked 5 0 3 30 30 30 ")),
            "{row}"
        );
    };
    let output = ask(&server, &["status"]);
    check(&out(&output));
    assert!(err(&output).starts_with("1 directory, at 20"), "{}", err(&output));
    let answer = server.get("/rollcall/v1/stats?limit=100").json();
    let object: Value = serde_json::from_str(&out(&ask(&server, &["status", "--json"]))).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(
        (keys(&object), &object["seq"], &object["started_at"]),
        (keys(&answer), &answer["seq"], &answer["started_at"])
    );
    assert_eq!(server.stop(), 0);
    check(&out(&ask_folder(folder.path(), &["status"])));
}

#[test]
fn status_pages_through_all_directories() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let activated = |number: u32| {
        let data = json!({"object": "directory", "id": format!("d{number:03}"),
            "organization_id": format!("o{}", number % 2), "name": "D"});
        json!({"id": format!("e{number}"), "event": "dsync.activated",
            "created_at": "2025-01-01T00:00:00Z", "data": data})
        .to_string()
    };
    (0..235).for_each(|number| {
        server.deliver(&activated(number));
    });
    let of = |arguments: &[&str]| -> Vec<String> {
        let object: Value =
            serde_json::from_str(&out(&ask(&server, &[&["status", "--json"], arguments].concat())))
                .unwrap();
        assert_eq!(object["directories"]["list_metadata"], json!({"before": null, "after": null}));
        object["directories"]["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|directory| directory["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(of(&[]), (0..235).map(|number| format!("d{number:03}")).collect::<Vec<_>>());
    assert_eq!(of(&["--directory", "d007"]), ["d007"]);
    assert_eq!(of(&["--organization", "o1"]).len(), 117);
    let output = ask(&server, &["status"]);
    assert!(err(&output).starts_with("235 directories, at "), "{}", err(&output));
    assert!(out(&output).contains("d234"));
}
