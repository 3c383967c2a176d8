//! Rule 34: what the source says when it is asked, and what becomes of it. Each answer is checked
//! against the naive model as well.

use serde_json::{Value, json};

use crate::kit::case::{Case, LATEST, at, known, ms, second};
use crate::kit::model::Cut;
use crate::kit::model::observations::{Expected, Thing};

use Expected::{DeletedHere, NewerEvent, Recorded, Unchanged, UnknownUser};

/// Returns a user of directory D as the source has it, last changed at a second.
fn changed(id: &str, at: u32) -> Option<Value> {
    Some(json!({
        "object": "directory_user", "id": id, "directory_id": "D", "email": format!("{id}@x.example"),
        "state": "active", "groups": [{ "id": "G" }], "updated_at": second(at),
    }))
}

fn named(id: &str) -> Option<Value> {
    Some(json!({ "object": "directory", "id": id, "name": "d", "state": "active" }))
}

fn recorded(at: u32) -> Expected {
    Expected::Recorded(ms(at))
}

/// Returns the periods of U's access: beginning, end, reason, if it was observed, and the last
/// moment at which U was shown.
fn access(case: &Case) -> Vec<String> {
    let second = |value: &Value| value.as_str().map_or("-", |text| &text[17..19]).to_owned();
    let line = |period: &Value| {
        let mut line = format!("{}..{}", second(&period["from"]), second(&period["until"]));
        line += period["reason"].as_str().map_or("", |_| " ");
        line += period["reason"].as_str().unwrap_or_default();
        if period["observed"] == true {
            line += &format!(" observed {}", second(&period["not_before"]));
        }
        line
    };
    case.access_periods("U", LATEST).unwrap_or_default().iter().map(line).collect()
}

#[test]
fn a_present_thing_was_so_when_it_was_changed_unless_something_later_is_known() {
    let mut case = Case::default();
    case.directory("activated", 1);
    // Nothing is known of it: it was so since its last change.
    assert_eq!(case.observe_user("U", changed("U", 20), 50), recorded(20));
    // Not after the moment of the question, and not at the moment of what is known.
    assert_eq!(case.observe_user("V", changed("V", 51), 50), recorded(50));
    assert_eq!(case.observe_user("W", changed("W", 50), 50), recorded(50));
    case.user("created", 5, "X").user("updated", 20, "X");
    assert_eq!(case.observe_user("X", changed("X", 20), 50), recorded(50));
    case.user("created", 5, "Y").user("deleted", 30, "Y");
    assert_eq!(case.observe_user("Y", changed("Y", 29), 50), recorded(50));
    case.user("deleted", 30, "Z");
    assert_eq!(case.observe_user("Z", changed("Z", 31), 50), recorded(31));
    // Without a time of its own.
    let timeless = Some(json!({ "id": "T", "directory_id": "D", "updated_at": 5 }));
    assert_eq!(case.observe_user("T", timeless, 50), recorded(50));
    // A snapshot in a membership does not count.
    case.member("added", 40);
    let group = Thing::Group("G".to_owned(), "D".to_owned());
    let said = json!({ "id": "G", "directory_id": "D", "name": "g", "updated_at": second(30) });
    assert_eq!(case.observe(&group, Some(said), 50), recorded(30));
    // Memberships and directories have no other time than that of the question.
    assert_eq!(case.observe_directory("E", named("E"), 51), recorded(51));
}

#[test]
fn a_thing_in_a_directory_that_is_off_or_was_deleted_is_not_dated_back() {
    let mut case = Case::default();
    case.directory("activated", 1).directory("deactivated", 10);
    assert_eq!(case.observe_user("U", changed("U", 20), 50), recorded(50));
    let mut case = Case::default();
    case.directory("deleted", 30).directory("activated", 31);
    assert_eq!(case.observe_user("U", changed("U", 30), 50), recorded(50));
    assert_eq!(case.observe_user("V", changed("V", 31), 50), recorded(31));
    // The deletion of its directory at or after the question ends what was found.
    assert_eq!(case.observe_user("W", changed("W", 20), 30), NewerEvent);
    case.directory("deleted", 40);
    assert_eq!(case.observe_user("X", changed("X", 20), 50), NewerEvent);
    // A directory that nothing names is as good as an active one.
    let elsewhere = Thing::User("Y".to_owned(), "E".to_owned());
    let said = json!({ "id": "Y", "directory_id": "E", "updated_at": second(20) });
    assert_eq!(case.observe(&elsewhere, Some(said), 50), recorded(20));
}

#[test]
fn nothing_is_recorded_that_changes_nothing_or_against_what_is_newer() {
    let mut case = Case::default();
    case.directory("activated", 1).user("created", 5, "U").group("created", 5, "G");
    assert_eq!(case.observe_user("V", None, 50), Unchanged);
    assert_eq!(case.observe_directory("E", None, 50), Unchanged);
    assert_eq!(case.observe_member(false, 50), Unchanged);
    assert_eq!(case.observe_member(true, 50), recorded(50));
    assert_eq!(case.observe_member(true, 55), Unchanged);
    // The user is in a group at 50: it was there.
    assert_eq!(case.observe_user("U", None, 45), NewerEvent);
    assert_eq!(case.observe_member(false, 50), NewerEvent);
    case.user("updated", 52, "U");
    for asked in [51, 52] {
        assert_eq!(case.observe_user("U", None, asked), NewerEvent);
        assert_eq!(case.observe_user("U", changed("U", 51), asked), NewerEvent);
    }
    assert_eq!(case.observe_user("U", None, 53), recorded(53));
    assert_eq!(case.observe_user("U", None, 54), Unchanged);
    // What its end took is not observed again.
    assert_eq!(case.observe_member(false, 56), Unchanged);
    assert_eq!(case.observe_member(true, 56), UnknownUser);
    // It is there again, but the group ended later than the question.
    assert_eq!(case.observe_user("U", changed("U", 54), 55), recorded(54));
    case.group("deleted", 57, "G").group("created", 58, "G");
    assert_eq!(case.observe_member(true, 57), NewerEvent);
    assert_eq!(case.observe_member(true, 58), recorded(58));
}

#[test]
fn an_observation_that_was_asked_later_is_newer_however_early_it_occurs() {
    let mut case = Case::default();
    case.directory("activated", 1);
    assert_eq!(case.observe_user("U", changed("U", 20), 50), recorded(20));
    assert_eq!(case.observe_user("U", None, 40), NewerEvent);
    assert_eq!(case.observe_user("U", None, 50), NewerEvent);
    assert_eq!(case.observe_user("U", None, 51), recorded(51));
    assert_eq!(access(&case), ["20..51 user_absent observed 50"]);
}

#[test]
fn an_end_by_an_observation_lies_after_the_last_moment_at_which_the_user_was_shown() {
    let mut case = Case::default();
    case.directory("activated", 1).user("created", 5, "U").group("created", 5, "G");
    case.member("added", 9);
    case.compare(12, &["D"]);
    case.compare(14, &["E"]);
    assert_eq!(case.observe_user("U", None, 30), recorded(30));
    // The record of the comparison occurs when it is written, which is long after.
    assert_eq!(access(&case), ["05..30 user_absent observed 12"]);
    let end = &case.access_periods("U", at(40)).unwrap()[0];
    assert_eq!(end["not_before"], second(9));
    assert_eq!(case.deprovisionings(&[], at(40))[0]["not_before"], second(9));
    let lost = &case.deprovisionings(&[], LATEST)[0];
    assert_eq!((&lost["observed"], &lost["not_before"]), (&json!(true), &json!(second(12))));
    assert_eq!(lost["groups"], json!([{ "id": "G", "name": "" }]));
    // The real event comes late, and the end moves to it.
    case.user("deleted", 20, "U");
    assert_eq!(access(&case), ["05..20 user_deleted"]);
    case.all_changes();
    assert_eq!(case.reasons(), []);
}

/// Tells that a user has the id `x` at the identity provider.
fn provisioned(case: &mut Case, event: &str, at: u32, id: &str) {
    let data = json!({ "id": id, "directory_id": "D", "idp_id": "x" });
    case.tell(&format!("dsync.user.{event}"), at, data);
}

/// Returns the later and the earlier user who are the same person, each as `ID SECOND`: every
/// period of access names the same two.
fn same_person(case: &Case, user: &str, cut: Cut) -> [String; 2] {
    let periods = case.access_periods(user, cut).unwrap();
    let named = |field: &str, moment: &str| {
        let other = &periods[0][field];
        assert!(periods.iter().all(|period| period[field] == *other), "{periods:?}");
        match (other["user_id"].as_str(), other[moment].as_str()) {
            (Some(id), Some(at)) => format!("{id} {}", &at[17..19]),
            _ => String::new(),
        }
    };
    [named("succeeded_by", "since"), named("preceded_by", "until")]
}

#[test]
fn a_successor_may_be_there_before_a_comparison_finds_the_end_of_the_earlier_user() {
    let mut case = Case::default();
    case.directory("activated", 1);
    provisioned(&mut case, "created", 10, "U");
    provisioned(&mut case, "created", 15, "V");
    let absent = case.head() + 1;
    assert_eq!(case.observe_user("U", None, 50), recorded(50));
    // U was last shown by its own event, and V came between that and the comparison.
    assert_eq!(same_person(&case, "U", LATEST), ["V 15", ""]);
    assert_eq!(same_person(&case, "V", LATEST), ["", "U 50"]);
    assert_eq!(same_person(&case, "U", at(49)), ["", ""]);
    assert_eq!(same_person(&case, "U", known(absent - 1)), ["", ""]);
    assert_eq!(case.deprovisionings(&[], LATEST)[0]["succeeded_by"]["user_id"], "V");
    // The comparison that found the absence did not show U.
    case.compare(45, &["D"]);
    assert_eq!(same_person(&case, "U", LATEST), ["V 15", ""]);
    assert_eq!(access(&case), ["10..50 user_absent observed 10"]);
}

#[test]
fn one_who_came_while_the_source_showed_the_earlier_user_is_not_its_successor() {
    let mut case = Case::default();
    case.directory("activated", 1);
    provisioned(&mut case, "created", 10, "U");
    provisioned(&mut case, "created", 15, "V");
    case.compare(20, &["D"]);
    let compared = case.head();
    assert_eq!(case.observe_user("U", None, 50), recorded(50));
    assert_eq!(access(&case), ["10..50 user_absent observed 20"]);
    assert_eq!(same_person(&case, "U", LATEST), ["", ""]);
    assert_eq!(same_person(&case, "V", LATEST), ["", ""]);
    assert_eq!(same_person(&case, "U", at(50)), ["V 15", ""], "its record comes later");
    assert_eq!(same_person(&case, "U", known(compared)), ["", ""], "U is there");
    provisioned(&mut case, "created", 20, "W");
    assert_eq!(same_person(&case, "U", LATEST), ["", ""], "U was there when W came");
    provisioned(&mut case, "created", 21, "X");
    assert_eq!(same_person(&case, "U", LATEST), ["X 21", ""]);
    // The real event comes late, and bounds what comes after it.
    provisioned(&mut case, "deleted", 40, "U");
    assert_eq!(same_person(&case, "U", LATEST), ["", ""]);
    assert_eq!(same_person(&case, "X", LATEST), ["", ""]);
    provisioned(&mut case, "created", 41, "Y");
    assert_eq!(same_person(&case, "U", LATEST), ["Y 41", ""]);
    assert_eq!(same_person(&case, "Y", LATEST), ["", "U 40"]);
}

#[test]
fn the_last_end_of_a_user_names_its_successor_for_every_period() {
    let mut case = Case::default();
    case.directory("activated", 1);
    provisioned(&mut case, "created", 10, "U");
    provisioned(&mut case, "deleted", 15, "U");
    provisioned(&mut case, "created", 18, "V");
    provisioned(&mut case, "updated", 20, "U");
    assert_eq!(same_person(&case, "U", at(19)), ["V 18", ""], "U was not there then");
    assert_eq!(same_person(&case, "U", LATEST), ["", ""], "U came back");
    case.observe_user("U", None, 50);
    assert_eq!(same_person(&case, "U", LATEST), ["", ""], "V came while U was there");
    provisioned(&mut case, "created", 30, "W");
    assert_eq!(access(&case), ["10..15 user_deleted", "20..50 user_absent observed 20"]);
    assert_eq!(same_person(&case, "U", LATEST), ["W 30", ""]);
    assert_eq!(same_person(&case, "W", LATEST), ["", "U 50"]);
    let losses = case.deprovisionings(&[("user".into(), "U".into())], LATEST);
    let named: Vec<&Value> = losses.iter().map(|loss| &loss["succeeded_by"]["user_id"]).collect();
    assert_eq!(named, ["W", "W"]);
}

#[test]
fn a_user_of_whom_nothing_is_shown_before_an_observed_end_has_no_last_moment() {
    let mut case = Case::default();
    case.observe_directory("D", named("D"), 1);
    let mut user = changed("U", 20);
    user.as_mut().unwrap()["idp_id"] = json!("x");
    // U was so since 20, but the source showed it later than it was asked about the directory.
    assert_eq!(case.observe_user("U", user, 55), recorded(20));
    assert_eq!(case.observe_directory("D", None, 50), recorded(50));
    let period = &case.access_periods("U", LATEST).unwrap()[0];
    let end = ["observed", "not_before", "reason"].map(|field| period[field].clone());
    assert_eq!(end, [json!(true), Value::Null, json!("directory_absent")]);
    // Without that moment the last version of U bounds what comes after it.
    provisioned(&mut case, "created", 21, "W");
    assert_eq!(same_person(&case, "U", LATEST), ["W 21", ""]);
    assert_eq!(same_person(&case, "W", LATEST), ["", "U 50"]);
    // V ended with the directory as well, was last shown before U came, and was there before W.
    provisioned(&mut case, "created", 19, "V");
    assert_eq!(same_person(&case, "U", LATEST), ["W 21", "V 50"]);
    assert_eq!(same_person(&case, "V", LATEST), ["U 20", ""]);
}

#[test]
fn late_events_take_their_places_around_observations() {
    let mut case = Case::default();
    case.directory("activated", 1).user("created", 10, "U");
    case.observe_user("U", None, 50);
    let before = case.head();
    case.user("updated", 30, "U");
    assert_eq!(access(&case), ["10..50 user_absent observed 30"]);
    case.observe_user("U", changed("U", 20), 55);
    assert_eq!(access(&case), ["10..50 user_absent observed 30", "55..- observed -"]);
    // An observation outvotes a deletion that comes late.
    case.user("deleted", 40, "U");
    assert_eq!(case.reasons(), [(before + 3, "overtaken".to_owned())]);
    assert_eq!(access(&case), ["10..40 user_deleted", "55..- observed -"]);
    for seq in 1..=case.head() {
        case.access_periods("U", known(seq));
        case.changes(seq);
        case.history("user", "U", known(seq));
    }
}

#[test]
fn a_backdated_observation_can_be_overtaken_by_what_comes_late() {
    let mut case = Case::default();
    case.directory("activated", 1);
    case.observe_user("U", changed("U", 20), 55);
    case.user("deleted", 50, "U");
    assert_eq!(access(&case), ["20..50 user_deleted observed -"]);
    assert!(!case.has("/directory_users/U", LATEST));
}

#[test]
fn memberships_that_are_observed_hold_between_what_events_say() {
    let mut case = Case::default();
    case.directory("activated", 1).user("created", 1, "U").group("created", 1, "G");
    case.observe_member(true, 50);
    case.member("removed", 40);
    assert!(case.is_member(LATEST) && !case.is_member(at(45)));
    case.member("added", 20);
    let line = |period: &Value| {
        let second = |value: &Value| value.as_str().map_or("-", |text| &text[17..19]).to_owned();
        format!("{}..{} {}", second(&period["from"]), second(&period["until"]), period["observed"])
    };
    let periods = case.groups_over_time("U", LATEST).unwrap();
    assert_eq!(periods.iter().map(line).collect::<Vec<_>>(), ["20..40 false", "50..- true"]);
    assert_eq!(case.members_over_time("G", LATEST).unwrap(), periods);
    case.observe_member(false, 55);
    assert!(!case.is_member(LATEST) && case.is_member(at(54)));
    case.all_changes();
}

#[test]
fn directories_that_are_observed_begin_pause_and_end() {
    let with = |state: &str| Some(json!({ "id": "D", "name": "d", "state": state }));
    for (state, shown, reason) in [
        ("unlinked", "unlinked", Some("directory_deactivated")),
        ("inactive", "unlinked", Some("directory_deactivated")),
        ("active", "linked", None),
    ] {
        let mut case = Case::default();
        case.directory("activated", 1).user("created", 5, "U");
        assert_eq!(case.observe_directory("D", with(state), 30), recorded(30));
        assert_eq!(case.item("/directories/D", LATEST).unwrap()["state"], shown, "{state}");
        let expected = match reason {
            Some(reason) => format!("05..30 {reason} observed 05"),
            None => "05..-".to_owned(),
        };
        assert_eq!(access(&case), [expected], "{state}");
        assert_eq!(case.observe_directory("D", None, 40), recorded(40));
        assert!(!case.has("/directories/D", LATEST) && !case.has("/directory_users/U", LATEST));
        let expected = match reason {
            Some(reason) => format!("05..30 {reason} observed 05"),
            None => "05..40 directory_absent observed 05".to_owned(),
        };
        assert_eq!(access(&case), [expected], "{state}");
        // It is there again, in use or not.
        assert_eq!(case.observe_directory("D", with("inactive"), 47), recorded(47));
        assert_eq!(case.item("/directories/D", LATEST).unwrap()["state"], "unlinked");
        // What it took is not observed again, and only a later version brings anything back.
        assert_eq!(case.observe_user("U", None, 45), Unchanged);
        assert_eq!(case.observe_directory("D", with("active"), 50), recorded(50));
        assert!(!case.has("/directory_users/U", LATEST));
        assert_eq!(case.observe_user("U", changed("U", 51), 52), recorded(51));
        assert!(case.has("/directory_users/U", LATEST));
        case.all_changes();
    }
}

#[test]
fn nothing_of_a_directory_that_an_operator_deleted_is_recorded_until_an_event_activates_it() {
    let mut case = Case::default();
    case.directory("activated", 1).user("created", 5, "U").group("created", 5, "G");
    let deleted = case.delete_directory("D");
    let directory = Thing::Directory("D".to_owned());
    let user = |id: &str, directory: &str| Thing::User(id.to_owned(), directory.to_owned());
    let group = Thing::Group("G".to_owned(), "D".to_owned());
    let pair = Thing::Membership("U".to_owned(), "G".to_owned(), "D".to_owned());
    let shown = |thing: &Thing| match thing {
        Thing::Membership(..) => Some(json!(true)),
        Thing::Directory(_) => named("D"),
        Thing::User(id, _) | Thing::Group(id, _) => {
            Some(json!({ "id": id, "directory_id": "D", "updated_at": second(50) }))
        }
    };
    let all = [directory.clone(), user("U", "D"), user("V", "D"), group, pair];
    let is_held = |case: &mut Case, asked: i64| {
        for thing in &all {
            assert_eq!(case.observe_at(thing, shown(thing), asked), DeletedHere, "{thing:?}");
            assert_eq!(case.observe_at(thing, None, asked), DeletedHere, "{thing:?}");
        }
    };
    is_held(&mut case, deleted + 1);
    // Neither a deactivation ends that, nor an activation of before that comes late.
    case.directory("activated", 40);
    let later = |case: &mut Case, id: &str, event: &str, at: i64| {
        let at_text = crate::kit::model::rfc3339(at);
        let data = json!({ "id": "D", "name": "d" });
        let body = json!({ "id": id, "event": event, "created_at": at_text, "data": data });
        case.deliver_bytes(body.to_string().as_bytes(), at);
    };
    later(&mut case, "later1", "dsync.deactivated", deleted + 2);
    is_held(&mut case, deleted + 10);
    // Another directory is observed all the while.
    let elsewhere = json!({ "id": "W", "directory_id": "E", "updated_at": second(20) });
    assert_eq!(case.observe_at(&user("W", "E"), Some(elsewhere), deleted + 10), recorded(20));
    later(&mut case, "later2", "dsync.activated", deleted + 20);
    let asked = deleted + 30;
    assert_eq!(case.observe_at(&directory, named("D"), asked), Recorded(asked));
    let said = shown(&user("U", "D"));
    assert_eq!(case.observe_at(&user("U", "D"), said, asked), Recorded(asked));
    // The latest deletion is the source's own now.
    assert_eq!(case.observe_at(&directory, None, asked + 10), Recorded(asked + 10));
    assert_eq!(case.observe_at(&directory, named("D"), asked + 20), Recorded(asked + 20));
}
