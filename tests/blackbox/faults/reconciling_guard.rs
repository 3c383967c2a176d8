//! The guard of a reconciliation: what counts as an end, and which ends count together.

use std::ops::Range;

use serde_json::{Value, json};

use super::reconciling::{D, MINUTE_MS, add_directory, imported, source_with_users, user_id};
use crate::kit::server::{Server, now_ms};
use crate::kit::source::faulty::{Fault, Faulty};
use crate::kit::source::objects::{directory, event, membership, moment};
use crate::kit::source::pulling::pull;
use crate::kit::source::reconciling::{assert_in_step, differences, reconcile, whole};
use crate::kit::source::stand_in::{SOURCE_KEY, StandIn};

const CREW: &str = "directory_group_directory_1";

fn move_users(source: &StandIn, users: usize, to: &str) {
    let mut contents = source.contents();
    for number in 0..users {
        contents.users.get_mut(&user_id(number)).unwrap()["directory_id"] = to.into();
    }
}

fn set_state(source: &StandIn, id: &str, state: &str) {
    source.contents().directories.get_mut(id).unwrap()["state"] = state.into();
}

fn deprovisionings(server: &Server) -> Value {
    server.get("/rollcall/v1/deprovisionings?limit=100").json()["data"].clone()
}

#[test]
fn a_move_to_an_active_directory_ends_nothing() {
    let (source, data) = (source_with_users(20), tempfile::tempdir().unwrap());
    add_directory(&source, "directory_2", 0);
    let server = imported(data.path(), &source.url);
    // All users of a directory, who stay in its group.
    move_users(&source, 20, "directory_2");
    let run = reconcile(&server, &whole());
    let expected: Vec<String> = (0..20)
        .map(|number| format!("user differs {} [directory_id] recorded", user_id(number)))
        .collect();
    assert_eq!((&run["state"], differences(&run)), (&json!("completed"), expected));
    assert_eq!(deprovisionings(&server), json!([]));
    assert_in_step(&server, &source.url, SOURCE_KEY);
    // Then the group, with all its memberships.
    source.contents().groups.get_mut(CREW).unwrap()["directory_id"] = "directory_2".into();
    let run = reconcile(&server, &whole());
    assert_eq!(differences(&run), [format!("group differs {CREW} [directory_id] recorded")]);
    assert_in_step(&server, &source.url, SOURCE_KEY);
    // The directory that they have left may end: it is empty.
    source.contents().remove_directory(D);
    let run = reconcile(&server, &whole());
    assert_eq!(differences(&run), ["directory missing_there directory_1 [] recorded"]);
    // It takes the memberships that began in it, and the next run finds them again.
    assert_eq!(reconcile(&server, &whole())["recorded"], 20);
    assert_in_step(&server, &source.url, SOURCE_KEY);
    assert_eq!(differences(&reconcile(&server, &whole())), [""; 0]);
}

#[test]
fn users_may_leave_a_directory_in_the_run_in_which_it_ends() {
    for state in [None, Some("unlinked")] {
        let (source, data) = (source_with_users(20), tempfile::tempdir().unwrap());
        add_directory(&source, "directory_2", 0);
        let server = imported(data.path(), &source.url);
        move_users(&source, 20, "directory_2");
        source.contents().groups.get_mut(CREW).unwrap()["directory_id"] = "directory_2".into();
        match state {
            Some(state) => set_state(&source, D, state),
            None => source.contents().remove_directory(D),
        }
        let run = reconcile(&server, &whole());
        assert_eq!((&run["state"], &run["held"]), (&json!("completed"), &json!(0)), "{run}");
        // What the end of the directory took is found again: the memberships.
        reconcile(&server, &whole());
        assert_in_step(&server, &source.url, SOURCE_KEY);
    }
}

#[test]
fn a_move_to_a_directory_that_the_source_does_not_have_is_an_end() {
    let (source, data) = (source_with_users(20), tempfile::tempdir().unwrap());
    let server = imported(data.path(), &source.url);
    move_users(&source, 20, "directory_9");
    let run = reconcile(&server, &whole());
    assert_eq!((&run["state"], &run["recorded"]), (&json!("held"), &json!(0)), "{run}");
    let lines = differences(&run);
    assert_eq!(lines.len(), 20);
    assert!(lines.iter().all(|line| line.ends_with(" [directory_id] guard")), "{lines:?}");
    assert_eq!(deprovisionings(&server), json!([]));
}

#[test]
fn directories_that_earlier_runs_ended_count_also_those_without_active_users() {
    let (source, data) = (source_with_users(2), tempfile::tempdir().unwrap());
    for number in 2..8 {
        add_directory(&source, &format!("directory_{number}"), number % 2 * 2);
    }
    let server = imported(data.path(), &source.url);
    // Two of seven may end: one that is gone, and one that becomes inactive and has no users.
    source.contents().remove_directory("directory_3");
    set_state(&source, "directory_4", "unlinked");
    let run = reconcile(&server, &whole());
    assert_eq!((&run["state"], &run["recorded"]), (&json!("completed"), &json!(2)), "{run}");
    set_state(&source, "directory_5", "unlinked");
    let run = reconcile(&server, &whole());
    assert_eq!(differences(&run), ["directory differs directory_5 [state] guard"]);
    let ends = server.get("/events?events=rollcall.reconciliation.completed").json();
    let ended: Vec<&Value> =
        ends["data"].as_array().unwrap().iter().map(|end| &end["data"]["ended"]).collect();
    assert_eq!(ended[1], &json!({ "directories": 2, "users": 2 }));
}

#[test]
fn a_run_of_one_directory_is_judged_by_the_users_of_all() {
    let (source, data) = (source_with_users(20), tempfile::tempdir().unwrap());
    add_directory(&source, "directory_2", 100);
    let server = imported(data.path(), &source.url);
    let remove =
        |users: Range<usize>| users.for_each(|n| source.contents().remove_user(&user_id(n)));
    remove(0..10);
    assert_eq!(reconcile(&server, &whole())["recorded"], 10);
    // A tenth of the 120 that there were may end, and two more are twelve.
    remove(10..12);
    let run = reconcile(&server, &json!({ "directory": D }));
    assert_eq!((&run["state"], &run["recorded"]), (&json!("completed"), &json!(2)), "{run}");
    remove(12..13);
    let run = reconcile(&server, &json!({ "directory": D }));
    let exceeds = "13 of 120 active users of all directories would end, 12 may; 12 of these ended \
                   in the last 7 days";
    assert_eq!(run["directories"][0]["exceeds"], exceeds, "{run}");
}

/// Gives all users of a directory this version.
fn set_updated(source: &StandIn, days_ago: i64) {
    let at = moment(now_ms() - days_ago * 24 * 60 * MINUTE_MS);
    let mut contents = source.contents();
    let both = contents.users.values_mut();
    both.for_each(|user| user["updated_at"] = at.as_str().into());
}

#[test]
fn ends_of_a_run_without_a_record_of_its_own_count_as_well() {
    let (source, data) = (source_with_users(40), tempfile::tempdir().unwrap());
    let faulty = Faulty::before(&source.url);
    set_updated(&source, 30);
    let server = imported(data.path(), &faulty.url);
    // The only directory is undecided, so that the run has no record. Ten end in it all the same,
    // as of weeks ago.
    set_updated(&source, 20);
    {
        let mut contents = source.contents();
        for number in 0..10 {
            contents.users.get_mut(&user_id(number)).unwrap()["state"] = "inactive".into();
        }
        contents.users.get_mut(&user_id(39)).unwrap()["email"] = "new@foo.example".into();
    }
    faulty.fail(&format!("/directory_users/{}", user_id(39)), u32::MAX, Fault::Status(422));
    let run = reconcile(&server, &whole());
    assert_eq!((&run["state"], &run["recorded"]), (&json!("failed"), &json!(10)), "{run}");
    let runs = || server.get("/events?events=rollcall.reconciliation.completed").json();
    assert_eq!(runs()["data"].as_array().unwrap().len(), 1, "only the import has a record");
    faulty.heal();
    source.contents().users.get_mut(&user_id(10)).unwrap()["state"] = "inactive".into();
    let expected = [
        format!("user differs {} [state] guard", user_id(10)),
        format!("user differs {} [email] recorded", user_id(39)),
    ];
    let run = reconcile(&server, &whole());
    assert_eq!(differences(&run), expected);
    // The next record tells of them, and the run after it counts them by that.
    let run = reconcile(&server, &whole());
    assert_eq!(differences(&run), expected[..1]);
    assert_eq!(deprovisionings(&server).as_array().unwrap().len(), 10);
}

#[test]
fn memberships_that_only_the_second_look_ends_are_judged() {
    let (source, data) = (source_with_users(20), tempfile::tempdir().unwrap());
    let faulty = Faulty::before(&source.url);
    let server = imported(data.path(), &faulty.url);
    let (crew, at) = (source.contents().groups[CREW].clone(), now_ms());
    let change = |kind: &str, number: usize, at: i64| {
        let user = source.contents().users[&user_id(number)].clone();
        let name = format!("event_{kind}_{number}");
        event(&name, &format!("dsync.group.{kind}"), at, &membership(&crew, &user))
    };
    // The log is told that twelve have left, which the first list denies. Then an event comes that
    // agrees with the list, and the second list shows them gone.
    let removed: Vec<String> = (0..12).map(|number| change("user_removed", number, at)).collect();
    let added: Vec<String> = (0..12).map(|number| change("user_added", number, at + 1)).collect();
    for text in &removed {
        source.contents().list_event(text);
    }
    pull(&server);
    let shared = source.shared();
    let mut added = Some(added);
    let goes = Fault::Before(Box::new(move || {
        let mut contents = shared.lock().unwrap();
        for text in added.take().into_iter().flatten() {
            contents.list_event(&text);
        }
        contents.members.retain(|(_, user)| *user >= user_id(12));
    }));
    faulty.fail_later("/directory_users?group=", 1, 1, goes);
    let run = reconcile(&server, &whole());
    let expected: Vec<String> = (0..12)
        .map(|number| format!("membership missing_there {CREW}+{} [] guard", user_id(number)))
        .collect();
    assert_eq!((differences(&run), &run["recorded"]), (expected, &json!(0)));
    assert_eq!(server.get(&format!("/directory_users?group={CREW}&limit=100")).ids().len(), 20);
}

#[test]
fn an_older_object_of_a_directory_is_held_unless_the_guard_is_off() {
    let (source, data) = (source_with_users(3), tempfile::tempdir().unwrap());
    let server = imported(data.path(), &source.url);
    // A directory was observed when the source was asked: the event must be later.
    let at = now_ms();
    let renamed = event("event_newer", "dsync.activated", at, &directory(D, "Renamed", at));
    source.contents().list_event(&renamed);
    pull(&server);
    let run = reconcile(&server, &whole());
    assert_eq!(differences(&run), ["directory differs directory_1 [name] source_older"]);
    assert_eq!(run["state"], "held");
    let off = reconcile(&server, &json!({ "guard": "off" }));
    assert_eq!(differences(&off), ["directory differs directory_1 [name] recorded"]);
    assert_in_step(&server, &source.url, SOURCE_KEY);
    // The same version is not older.
    source.contents().directories.get_mut(D).unwrap()["name"] = "Again".into();
    let run = reconcile(&server, &whole());
    assert_eq!(differences(&run), ["directory differs directory_1 [name] recorded"]);
}
