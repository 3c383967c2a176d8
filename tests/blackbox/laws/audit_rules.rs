//! Answers to small histories, each worked out by hand. Events are e01, e02 … in the order in which
//! they came, so that `e02` is record 2.

use serde_json::{Value, json};

use crate::kit::case::{Case, LATEST, at, known, ms, second};
use crate::kit::model::Cut;

/// `12` for the twelfth second, `12.345` where it is not a whole one; `-` for none.
fn short(time: &Value) -> String {
    let Some(time) = time.as_str() else { return "-".to_owned() };
    let seconds =
        time.trim_start_matches("2026-03-02T00:00:").trim_end_matches('Z').trim_start_matches('0');
    seconds.trim_end_matches(".000").to_owned()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

/// The event of a cause; that of record 4 is `op_4` where an operator acted.
fn event_of(cause: &Value) -> String {
    let id = word(&cause["event_id"]);
    if id.starts_with("op_") { format!("op_{}", cause["seq"]) } else { id.to_owned() }
}

/// From, until, what started it, what ended it, and the reason where there is one.
fn lines(periods: Option<Vec<Value>>) -> Vec<String> {
    let line = |period: Value| {
        let (start, end) = (event_of(&period["start"]), event_of(&period["end"]));
        let line = format!("{}..{} {start} {end}", short(&period["from"]), short(&period["until"]));
        period["reason"].as_str().map_or(line.clone(), |reason| format!("{line} {reason}"))
    };
    periods.expect("somebody known").into_iter().map(line).collect()
}

fn access(case: &Case, cut: Cut) -> Vec<String> {
    lines(case.access_periods("U", cut))
}

/// Asks for the membership from both sides.
fn membership(case: &Case, cut: Cut) -> Vec<String> {
    let of_user = lines(case.groups_over_time("U", cut));
    assert_eq!(of_user, lines(case.members_over_time("G", cut)));
    of_user
}

/// Kind of change, user, role, reason and when it took effect.
fn changes(case: &Case, seq: u64) -> Vec<String> {
    let line = |change: Value| {
        assert_eq!((&change["seq"], &change["cause"]["seq"]), (&json!(seq), &json!(seq)));
        let [what, user, role, reason] =
            ["change", "user_id", "role", "reason"].map(|key| word(&change[key]).to_owned());
        format!("{what} {user} {role} {reason} {}", short(&change["occurred_at"]))
    };
    case.changes(seq).into_iter().map(line).collect()
}

impl Case {
    fn in_state(&mut self, at: u32, state: &str) -> &mut Case {
        self.tell(
            "dsync.user.updated",
            at,
            json!({ "id": "U", "directory_id": "D", "state": state }),
        )
    }

    fn moved(&mut self, at: u32, directory: &str) -> &mut Case {
        self.tell("dsync.user.updated", at, json!({ "id": "U", "directory_id": directory }))
    }

    fn another_directory(&mut self, event: &str, at: u32, id: &str) -> &mut Case {
        self.tell(&format!("dsync.{event}"), at, json!({ "id": id }))
    }
}

fn cut(as_of: u32, known_at: u64) -> Cut {
    Cut { as_of_ms: Some(ms(as_of)), known_at: Some(known_at) }
}

// --- Rule 20 ---

#[test]
fn rule_20_periods_are_cut_in_both_clocks() {
    let mut case = Case::default();
    case.user("created", 2, "U").user("deleted", 5, "U");
    assert_eq!(access(&case, at(5)), ["2..5 e01 e02 user_deleted"]);
    assert_eq!(access(&case, Cut { as_of_ms: Some(ms(5) - 1), known_at: None }), ["2..- e01 -"]);
    assert_eq!(access(&case, known(1)), ["2..- e01 -"]);
    assert_eq!(access(&case, cut(1, 1)), [""; 0]);
    assert!(case.access_periods("U", known(0)).is_none());
    assert!(case.access_periods("V", LATEST).is_none());
}

#[test]
fn rule_20_of_several_events_in_a_millisecond_only_the_outcome_counts() {
    let version = |state: &str, updated: u32| {
        json!({ "id": "U", "directory_id": "D", "state": state,
        "updated_at": second(updated) })
    };
    let mut case = Case::default();
    case.user("created", 1, "U");
    // Inactive and active again, by the order of `updated_at`, not of delivery.
    case.tell("dsync.user.updated", 3, version("active", 2)).tell(
        "dsync.user.updated",
        3,
        version("inactive", 1),
    );
    assert_eq!(access(&case, LATEST), ["1..- e01 -"]);
    // The directory off and on in one millisecond: the end wins.
    case.directory("deactivated", 4).directory("activated", 4);
    assert_eq!(access(&case, LATEST), ["1..4 e01 e04 directory_deactivated"]);
}

#[test]
fn rule_20_of_several_ends_in_a_millisecond_the_last_in_order_is_the_cause() {
    for (deletion, tombstone, expected) in
        [("z", "a", "1..5 e01 z directory_deleted"), ("a", "z", "1..5 e01 z user_deleted")]
    {
        let mut case = Case::default();
        case.user("created", 1, "U");
        case.tell_as(deletion, "dsync.deleted", 5, json!({ "id": "D" })).tell_as(
            tombstone,
            "dsync.user.deleted",
            5,
            json!({ "id": "U" }),
        );
        assert_eq!(access(&case, LATEST), [expected]);
    }
    // An inactive version sorts before a deactivation, which closes.
    let mut case = Case::default();
    case.user("created", 1, "U").directory("deactivated", 5).in_state(5, "inactive");
    assert_eq!(access(&case, LATEST), ["1..5 e01 e02 directory_deactivated"]);
    // The version that comes with the deactivation did not turn the user off: only the directory
    // did.
    let mut case = Case::default();
    case.user("created", 1, "U").directory("deactivated", 5).user("updated", 5, "U");
    assert_eq!(access(&case, LATEST), ["1..5 e01 e02 directory_deactivated"]);
}

#[test]
fn rule_20_a_move_has_the_new_directorys_reason() {
    for (event, expected) in
        [("deactivated", "directory_deactivated"), ("deleted", "directory_deleted")]
    {
        let mut case = Case::default();
        case.another_directory("activated", 1, "E")
            .another_directory(event, 2, "E")
            .user("created", 3, "U")
            .moved(5, "E")
            .moved(7, "D");
        assert_eq!(
            access(&case, LATEST),
            [format!("3..5 e03 e04 {expected}"), "7..- e05 -".to_owned()]
        );
    }
    // A move to a directory that stands changes nothing.
    let mut case = Case::default();
    case.user("created", 3, "U").moved(5, "E").another_directory("deactivated", 6, "D");
    assert_eq!(access(&case, LATEST), ["3..- e01 -"]);
    // Moved and turned inactive at once: the directory's reason goes before.
    let mut case = Case::default();
    case.another_directory("deactivated", 1, "E").user("created", 3, "U");
    case.tell(
        "dsync.user.updated",
        5,
        json!({ "id": "U", "directory_id": "E", "state": "inactive" }),
    );
    assert_eq!(access(&case, LATEST), ["3..5 e02 e03 directory_deactivated"]);
    // Moved in the millisecond in which the new directory goes: the last in order.
    let mut case = Case::default();
    case.user("created", 3, "U").another_directory("deactivated", 5, "E").moved(5, "E");
    assert_eq!(access(&case, LATEST), ["3..5 e01 e02 directory_deactivated"]);
}

#[test]
fn rule_20_a_deletion_moves_nobody_whatever_directory_it_names() {
    let of = |directory: &str| json!({ "id": "U", "directory_id": directory });
    // E goes off in the millisecond of the deletion that names it, but U was in D.
    let mut case = Case::default();
    case.user("created", 1, "U").tell("dsync.user.deleted", 5, of("E")).another_directory(
        "deactivated",
        5,
        "E",
    );
    assert_eq!(access(&case, LATEST), ["1..5 e01 e02 user_deleted"]);
    // D goes off then, and that is the last of what ends it.
    let mut case = Case::default();
    case.user("created", 1, "U").tell("dsync.user.deleted", 5, of("E")).another_directory(
        "deactivated",
        5,
        "D",
    );
    assert_eq!(access(&case, LATEST), ["1..5 e01 e03 directory_deactivated"]);
}

#[test]
fn rule_20_a_directory_off_and_deleted_ends_access_once_and_an_activation_alone_restores_nobody() {
    let mut case = Case::default();
    case.directory("activated", 1)
        .user("created", 2, "U")
        .directory("deactivated", 3)
        .directory("activated", 4);
    assert_eq!(access(&case, LATEST), ["2..3 e02 e03 directory_deactivated", "4..- e04 -"]);
    case.directory("deactivated", 5).directory("deleted", 6).directory("activated", 7);
    let so_far = ["2..3 e02 e03 directory_deactivated", "4..5 e04 e05 directory_deactivated"];
    assert_eq!(access(&case, LATEST), so_far);
    case.user("updated", 9, "U");
    assert_eq!(access(&case, LATEST), [so_far[0], so_far[1], "9..- e08 -"]);
    // Whoever came while the directory was gone has access with it.
    let mut case = Case::default();
    case.directory("deleted", 1)
        .user("created", 2, "U")
        .directory("activated", 4)
        .user("updated", 4, "U");
    assert_eq!(access(&case, LATEST), ["4..- e03 -"]);
}

#[test]
fn rule_20_deleted_and_created_again_are_two_periods() {
    let mut case = Case::default();
    case.user("created", 1, "U")
        .user("deleted", 3, "U")
        .user("created", 5, "U")
        .directory("deleted", 7);
    assert_eq!(
        access(&case, LATEST),
        ["1..3 e01 e02 user_deleted", "5..7 e03 e04 directory_deleted"]
    );
}

#[test]
fn rule_20_a_snapshot_gives_access_until_the_source_speaks() {
    let mut case = Case::default();
    case.member("added", 2).user("deleted", 5, "U");
    assert_eq!(access(&case, LATEST), ["2..5 e01 e02 user_deleted"]);
    let mut case = Case::default();
    let pair = |state: &str| {
        json!({ "directory_id": "D", "user": { "id": "U", "state": state },
        "group": { "id": "G" } })
    };
    case.tell("dsync.group.user_added", 1, pair("active")).tell(
        "dsync.group.user_removed",
        3,
        pair("inactive"),
    );
    assert_eq!(access(&case, LATEST), ["1..3 e01 e02 user_inactive"]);
    case.user("created", 4, "U");
    assert_eq!(access(&case, LATEST), ["1..3 e01 e02 user_inactive", "4..- e03 -"]);
}

#[test]
fn rule_20_a_late_event_takes_its_place_in_the_past() {
    let mut case = Case::default();
    case.user("created", 1, "U").user("deleted", 9, "U").in_state(4, "inactive");
    assert_eq!(access(&case, known(2)), ["1..9 e01 e02 user_deleted"]);
    assert_eq!(access(&case, LATEST), ["1..4 e01 e03 user_inactive"]);
    assert_eq!(access(&case, cut(9, 1)), ["1..- e01 -"]);
}

#[test]
fn rules_18_and_20_no_policy_changes_access() {
    let mut case = Case::default();
    case.user("created", 1, "U").in_state(3, "inactive");
    case.policy("delete", 2);
    assert_eq!(access(&case, LATEST), ["1..3 e01 e02 user_inactive"]);
}

// --- Rule 19 ---

#[test]
fn rule_19_a_membership_ends_with_its_removal_or_either_end_or_its_directory() {
    let ends: [fn(&mut Case) -> &mut Case; 4] = [
        |case| case.member("removed", 5),
        |case| case.user("deleted", 5, "U"),
        |case| case.group("deleted", 5, "G"),
        |case| case.directory("deleted", 5),
    ];
    for end in ends {
        let mut case = Case::default();
        case.user("created", 1, "U").group("created", 2, "G").member("added", 3);
        // What comes later finds it ended.
        end(&mut case).directory("deleted", 7);
        assert_eq!(membership(&case, LATEST), ["3..5 e03 e04"]);
        assert_eq!(membership(&case, at(4)), ["3..- e03 -"]);
    }
}

#[test]
fn rule_19_a_deactivation_ends_no_membership_and_a_return_brings_none_back() {
    let mut case = Case::default();
    case.user("created", 1, "U").member("added", 3).directory("deactivated", 4);
    assert_eq!(membership(&case, LATEST), ["3..- e02 -"]);
    case.user("deleted", 5, "U").user("created", 6, "U");
    assert_eq!(membership(&case, LATEST), ["3..5 e02 e04"]);
    case.member("added", 8);
    assert_eq!(membership(&case, LATEST), ["3..5 e02 e04", "8..- e06 -"]);
}

#[test]
fn rule_19_a_membership_that_waits_begins_with_its_end() {
    let mut case = Case::default();
    case.group("created", 1, "G")
        .user("deleted", 2, "U")
        .member("added", 3)
        .user("created", 4, "U");
    assert_eq!(membership(&case, LATEST), ["4..- e04 -"]);
    // And with its directory's return, where the ends came while it was gone.
    let mut case = Case::default();
    case.directory("deleted", 1)
        .user("created", 2, "U")
        .group("created", 2, "G")
        .member("added", 3)
        .directory("activated", 5);
    assert_eq!(membership(&case, LATEST), ["5..- e05 -"]);
}

#[test]
fn rule_19_of_several_ends_in_a_millisecond_the_last_in_order_is_the_cause() {
    let mut case = Case::default();
    case.user("created", 1, "U").member("added", 3);
    case.tell_as(
        "z",
        "dsync.group.user_removed",
        5,
        json!({ "directory_id": "D", "user": { "id": "U" }, "group": { "id": "G" } }),
    );
    // It has an `updated_at`, which a removal never has: it stands later.
    case.tell_as("a", "dsync.user.deleted", 5, json!({ "id": "U", "updated_at": second(5) }));
    assert_eq!(membership(&case, LATEST), ["3..5 e02 a"]);
}

#[test]
fn rules_18_and_19_the_policy_ends_memberships_of_the_inactive_until_they_are_active() {
    let mut case = Case::default();
    case.user("created", 1, "U").member("added", 2).in_state(5, "inactive");
    assert_eq!(membership(&case, LATEST), ["2..- e02 -"]);
    case.policy("delete", 7);
    assert_eq!(membership(&case, LATEST), ["2..7 e02 op_4"]);
    case.in_state(9, "active");
    assert_eq!(membership(&case, LATEST), ["2..7 e02 op_4", "9..- e04 -"]);
    // From before the turn it is the version that ends it; and `retain` brings it back.
    let mut case = Case::default();
    case.user("created", 1, "U").member("added", 2).in_state(5, "inactive");
    case.policy("delete", 4);
    case.policy("retain", 8);
    assert_eq!(membership(&case, LATEST), ["2..5 e02 e03", "8..- op_5 -"]);
    // The directory's activation ends nothing, though it stands last in the moment.
    let mut case = Case::default();
    case.user("created", 1, "U")
        .member("added", 2)
        .in_state(5, "inactive")
        .directory("activated", 5);
    case.policy("delete", 4);
    assert_eq!(membership(&case, LATEST), ["2..5 e02 e03"]);
    // A setting stands after all events of its moment.
    let mut case = Case::default();
    case.user("created", 1, "U").member("added", 2).in_state(5, "inactive");
    case.policy("delete", 5);
    assert_eq!(membership(&case, LATEST), ["2..5 e02 op_4"]);
    assert_eq!(membership(&case, known(3)), ["2..- e02 -"]);
}

#[test]
fn a_membership_has_the_last_name_of_its_group() {
    let mut case = Case::default();
    let group = |name: &str| json!({ "id": "G", "directory_id": "D", "name": name });
    case.user("created", 1, "U").tell("dsync.group.created", 1, group("first")).member("added", 2);
    case.tell("dsync.group.updated", 4, group("second")).member("removed", 6).tell(
        "dsync.group.updated",
        8,
        group("third"),
    );
    let name = |cut: Cut| {
        case.groups_over_time("U", cut).expect("somebody known")[0]["group_name"].clone()
    };
    assert_eq!(name(LATEST), "second");
    assert_eq!(name(at(3)), "first");
    // Renamed in the millisecond of its end: it was never a member of the second.
    case.tell("dsync.group.updated", 6, group("fourth"));
    assert_eq!(case.members_over_time("G", LATEST).expect("a group")[0]["group_name"], "second");
}

// --- Deprovisionings ---

#[test]
fn a_deprovisioning_tells_what_was_held_the_millisecond_before() {
    let mut case = Case::default();
    let user = json!({
        "id": "U", "directory_id": "D", "organization_id": "O", "email": "U@x.example",
        "role": { "slug": "b" }, "roles": [{ "slug": "a" }, { "slug": "b" }, { "slug": "c" }],
    });
    case.tell("dsync.user.created", 1, user).tell(
        "dsync.group.created",
        1,
        json!({ "id": "G", "directory_id": "D", "name": "g" }),
    );
    case.member("added", 2)
        .member("removed", 5)
        .directory("deactivated", 5)
        .directory("activated", 8);
    let item = json!({
        "object": "deprovisioning", "user_id": "U", "email": "U@x.example", "directory_id": "D",
        "organization_id": "O",
        "reason": "directory_deactivated", "occurred_at": second(5), "recorded_at": null,
        "delay_ms": null,
        "cause": { "event_id": "e05", "event": "dsync.deactivated", "occurred_at": second(5),
        "recorded_at": null, "seq": 5 },
        "roles": ["b", "a", "c"], "groups": [{ "id": "G", "name": "g" }], "restored_at": second(8),
        "observed": false, "not_before": null, "app_user_id": null, "succeeded_by": null,
        "preceded_by": null, "proof": "/rollcall/v1/log/proof/inclusion?seq=5",
    });
    assert_eq!(case.deprovisionings(&[], LATEST), [item]);
    assert_eq!(case.deprovisionings(&[], at(7))[0]["restored_at"], Value::Null);
    assert!(case.deprovisionings(&[], at(4)).is_empty());
    let found = |key: &str, value: &str| {
        case.deprovisionings(&[(key.to_owned(), value.to_owned())], LATEST).len()
    };
    let asked = [
        ("user", "U"),
        ("email", "u@X.EXAMPLE"),
        ("directory", "D"),
        ("organization", "O"),
        ("organization_id", "O"),
    ];
    assert!(asked.iter().all(|(key, value)| found(key, value) == 1));
    assert!(asked.iter().all(|(key, _)| found(key, "?") == 0));
    assert_eq!(
        [("since", 5), ("since", 6), ("until", 5), ("until", 4)]
            .map(|(key, at)| found(key, &second(at))),
        [1, 0, 1, 0]
    );
}

#[test]
fn deprovisionings_have_the_roles_of_the_mapping_then_in_force() {
    let mut case = Case::default();
    case.tell(
        "dsync.user.created",
        1,
        json!({ "id": "U", "directory_id": "D", "role": { "slug": "source" } }),
    );
    case.member("added", 2).user("deleted", 5, "U").user("created", 6, "U").user("deleted", 8, "U");
    case.mapping(json!([{ "group": { "id": "G" }, "roles": ["dev"] }]), 4);
    let roles = |cut: Cut| {
        case.deprovisionings(&[], cut)
            .into_iter()
            .map(|item| item["roles"].clone())
            .collect::<Vec<Value>>()
    };
    // The membership did not come back with the user.
    assert_eq!(roles(LATEST), [json!(["dev"]), json!([])]);
    assert_eq!(roles(known(5)), [json!(["source"]), json!([])]);
}

#[test]
fn deprovisionings_are_ordered_by_moment_and_user() {
    let mut case = Case::default();
    case.user("created", 1, "b").user("created", 1, "a").user("created", 1, "c");
    case.user("deleted", 4, "c").directory("deleted", 5);
    let items = case.deprovisionings(&[], LATEST);
    let order: Vec<_> = items
        .iter()
        .map(|item| format!("{} {}", word(&item["user_id"]), word(&item["reason"])))
        .collect();
    assert_eq!(order, ["c user_deleted", "a directory_deleted", "b directory_deleted"]);
}

// --- Changes ---

#[test]
fn each_record_says_what_it_changed_for_whom() {
    let mut case = Case::default();
    case.tell(
        "dsync.user.created",
        2,
        json!({ "id": "U", "directory_id": "D", "role": { "slug": "r" } }),
    )
    .user("created", 3, "V");
    case.directory("deactivated", 5).directory("activated", 7).user("deleted", 9, "U");
    assert_eq!(changes(&case, 1), ["access_granted U - - 2", "role_gained U r - 2"]);
    assert_eq!(changes(&case, 2), ["access_granted V - - 3"]);
    let reason = "directory_deactivated";
    let expected = [
        format!("access_ended U - {reason} 5"),
        "role_lost U r - 5".to_owned(),
        format!("access_ended V - {reason} 5"),
    ];
    assert_eq!(changes(&case, 3), expected);
    assert_eq!(
        changes(&case, 4),
        ["access_restored U - - 7", "role_gained U r - 7", "access_restored V - - 7"]
    );
    assert_eq!(changes(&case, 5), ["access_ended U - user_deleted 9", "role_lost U r - 9"]);
    assert_eq!(case.all_changes().len(), 11);
    // The deletion says no directory; it is the one she was in.
    assert_eq!(case.changes(5)[0]["directory_id"], "D");
}

#[test]
fn a_late_event_changes_the_past_alone_or_what_holds_too() {
    let mut case = Case::default();
    case.user("created", 1, "U").in_state(5, "active").in_state(3, "inactive");
    assert_eq!(changes(&case, 2), [""; 0]);
    assert_eq!(changes(&case, 3), ["history_changed U - - 3"]);
    assert_eq!(access(&case, LATEST), ["1..3 e01 e03 user_inactive", "5..- e02 -"]);
    // A deletion learnt late ends what lasts, when it happened.
    let mut case = Case::default();
    case.user("created", 1, "U").group("created", 8, "G").user("deleted", 3, "U");
    assert_eq!(changes(&case, 3), ["access_ended U - user_deleted 3"]);
    // And one that came after the return changes the past alone.
    let mut case = Case::default();
    case.user("created", 1, "U").user("updated", 5, "U").user("deleted", 3, "U");
    assert_eq!(changes(&case, 3), ["history_changed U - - 3"]);
}

#[test]
fn a_change_has_the_directory_and_organization_that_the_users_object_shows() {
    let mut case = Case::default();
    case.tell("dsync.activated", 1, json!({ "id": "D", "organization_id": "of the directory" }));
    case.tell(
        "dsync.user.created",
        2,
        json!({ "id": "U", "directory_id": "D", "organization_id": "its own" }),
    )
    .user("created", 2, "V");
    let place = |seq: u64| {
        let change = case.changes(seq)[0].clone();
        [change["directory_id"].clone(), change["organization_id"].clone()]
    };
    assert_eq!([place(2), place(3)], [["D", "its own"], ["D", "of the directory"]]);
    // Of somebody known by a snapshot alone, and then deleted.
    let mut case = Case::default();
    case.member("added", 1).user("deleted", 2, "nobody").tell(
        "dsync.user.deleted",
        3,
        json!({ "id": "U" }),
    );
    assert_eq!(case.changes(3)[0]["directory_id"], "D");
}

#[test]
fn a_mapping_set_back_in_time_changes_roles_from_then_on() {
    let mut case = Case::default();
    case.member("added", 2).user("created", 4, "U");
    let seq = case.mapping(json!([{ "group": { "id": "G" }, "roles": ["dev", "ops"] }]), 3);
    assert_eq!(changes(&case, seq), ["role_gained U dev - 3", "role_gained U ops - 3"]);
    let change = &case.changes(seq)[0];
    assert_eq!(change["cause"]["event"], "rollcall.mapping.set");
    // The second takes `ops` from 6 on; the third lets it end at 5 and so changes the past alone.
    let rules = json!([{ "group": { "id": "G" }, "roles": ["dev"] }]);
    let seq = case.mapping(rules.clone(), 6);
    assert_eq!(changes(&case, seq), ["role_lost U ops - 6"]);
    let seq = case.mapping(rules, 5);
    assert_eq!(changes(&case, seq), ["history_changed U - - 5"]);
    let seq = case.policy("delete", 1);
    assert_eq!(changes(&case, seq), [""; 0]);
}

#[test]
fn what_was_never_so_ends_where_the_two_stories_part() {
    let mut case = Case::default();
    case.tell(
        "dsync.user.created",
        5,
        json!({ "id": "U", "directory_id": "D", "role": { "slug": "r" } }),
    )
    .user("deleted", 5, "U");
    assert_eq!(access(&case, LATEST), [""; 0]);
    assert_eq!(changes(&case, 2), ["access_ended U - user_deleted 5", "role_lost U r - 5"]);
}

// --- History ---

/// Event, kind of change and lateness of each version.
fn versions(case: &Case, cut: Cut) -> Vec<String> {
    let items = case.history("user", "U", cut).expect("somebody known");
    let line = |item: &Value| {
        let late = if item["late"] == true { " late" } else { "" };
        format!("{} {}{late}", word(&item["cause"]["event_id"]), word(&item["change"]))
    };
    items.iter().map(line).collect()
}

#[test]
fn a_history_holds_every_version_and_the_snapshots_before_the_first() {
    let mut case = Case::default();
    case.member("added", 5)
        .user("updated", 4, "U")
        .member("removed", 2)
        .user("created", 3, "U")
        .user("deleted", 9, "U")
        .member("added", 1);
    // The one of 5 came first, but never stood in.
    assert_eq!(
        versions(&case, LATEST),
        [
            "e06 snapshot late",
            "e03 snapshot late",
            "e04 created late",
            "e02 updated",
            "e05 deleted"
        ]
    );
    assert_eq!(
        versions(&case, at(4)),
        ["e06 snapshot late", "e03 snapshot late", "e04 created late", "e02 updated"]
    );
    assert_eq!(versions(&case, known(3)), ["e03 snapshot late", "e02 updated"]);
    assert_eq!(versions(&case, known(1)), ["e01 snapshot"]);
    assert_eq!(versions(&case, cut(4, 1)), [""; 0]);
    assert!(case.history("user", "U", known(0)).is_none());
    assert!(case.history("group", "U", LATEST).is_none());
}

fn fields(case: &Case, key: &str) -> Vec<Value> {
    case.history("user", "U", LATEST)
        .expect("somebody known")
        .into_iter()
        .map(|mut item| item[key].take())
        .collect()
}

#[test]
fn a_version_is_compared_field_by_field_with_the_one_before() {
    let mut case = Case::default();
    let told = |event: &str, at: u32, more: Value| {
        let mut data =
            json!({ "id": "U", "object": "directory_user", "directory_id": "D", "groups": [] });
        data["created_at"] = json!(second(1));
        data["updated_at"] = json!(second(at));
        data.as_object_mut()
            .expect("an object")
            .extend(more.as_object().expect("an object").clone());
        (format!("dsync.user.{event}"), at, data)
    };
    for (event, at, data) in [
        told(
            "created",
            1,
            json!({ "name": "a", "email": null, "custom_attributes": { "x": 1, "y": null },
                "raw_attributes": [] }),
        ),
        told(
            "updated",
            2,
            json!({ "name": "a", "custom_attributes": { "x": 2, "z": { "b": 1 } },
                "raw_attributes": { "k": true } }),
        ),
        told(
            "updated",
            3,
            json!({ "first_name": "f",
                "custom_attributes": { "x": 2, "z": { "b": 1, "c": null } } }),
        ),
        told("deleted", 4, json!({ "name": "ignored" })),
        told("created", 5, json!({})),
    ] {
        case.tell(&event, at, data);
    }
    let side = |from: Value, to: Value| json!({ "from": from, "to": to });
    let none = Value::Null;
    let expected = [
        json!({
            "directory_id": side(none.clone(), json!("D")), "name": side(none.clone(), json!("a")),
            "custom_attributes.x": side(none.clone(), json!("#1")),
            "raw_attributes": side(none.clone(), json!([])),
        }),
        json!({
            "custom_attributes.x": side(json!("#1"), json!("#2")),
            "custom_attributes.z": side(none.clone(), json!({ "b": "#1" })),
            "raw_attributes": side(json!([]), json!({ "k": true })),
        }),
        json!({
            "name": side(json!("a"), none.clone()), "first_name": side(none.clone(), json!("f")),
            "custom_attributes.z": side(json!({ "b": "#1" }), json!({ "b": "#1", "c": null })),
            "raw_attributes.k": side(json!(true), none.clone()),
        }),
        json!({}),
        json!({ "directory_id": side(none, json!("D")) }),
    ];
    assert_eq!(fields(&case, "changed"), expected);
}

#[test]
fn numbers_are_compared_by_their_text() {
    let mut case = Case::default();
    for (second_of, number) in [
        (1, "1.0"),
        (2, "1.00"),
        (3, "1.00"),
        (4, "12345678901234567890"),
        (5, "12345678901234567891"),
    ] {
        let id = format!("n{second_of}");
        let (at, data) =
            (second(second_of), format!(r#"{{"id":"U","directory_id":"D","x":{number}}}"#));
        let body = format!(
            r#"{{"id":"{id}","event":"dsync.user.updated","created_at":"{at}","data":{data}}}"#
        );
        case.deliver_bytes(body.as_bytes(), ms(59));
    }
    let changed: Vec<Value> =
        fields(&case, "changed").into_iter().map(|changed| changed["x"]["to"].clone()).collect();
    assert_eq!(
        changed,
        [
            json!("#1.0"),
            json!("#1.00"),
            Value::Null,
            json!("#12345678901234567890"),
            json!("#12345678901234567891")
        ]
    );
}

#[test]
fn an_update_that_was_missed_shows_in_what_the_next_one_says_was_before() {
    let mut case = Case::default();
    let version = |name: &str, previous: Value| {
        let attributes = json!({ "a": 1, "b": 2 });
        json!({ "id": "U", "directory_id": "D", "name": name, "custom_attributes": attributes,
            "previous_attributes": previous })
    };
    case.tell("dsync.user.created", 1, version("first", json!({ "name": "said of nobody known" })));
    case.tell(
        "dsync.user.updated",
        2,
        version(
            "second",
            json!({ "name": "first", "updated_at": "x",
                "custom_attributes": { "a": 1, "c": null } }),
        ),
    );
    case.tell(
        "dsync.user.updated",
        3,
        version(
            "fourth",
            json!({ "name": "third", "email": "e", "custom_attributes": { "a": 7 } }),
        ),
    );
    case.tell("dsync.user.updated", 4, version("fifth", json!("no object")));
    case.user("deleted", 5, "U").tell(
        "dsync.user.created",
        6,
        version("sixth", json!({ "name": "x" })),
    );
    let missed = json!({
        "name": { "known": "second", "said": "third" }, "email": { "known": null, "said": "e" },
        "custom_attributes.a": { "known": "#1", "said": "#7" },
    });
    let nothing = || Value::Null;
    assert_eq!(
        fields(&case, "missed"),
        [nothing(), nothing(), missed.clone(), nothing(), nothing(), nothing()]
    );
    // Learnt late, it is missed no more.
    case.tell("dsync.user.updated", 2, version("third", json!({ "name": "second" })));
    assert_eq!(fields(&case, "missed")[3]["name"], Value::Null);
    // In the context it counts where `data` has none; after a snapshot nothing can be said.
    for (first, expected) in [
        ("dsync.user.created", json!({ "name": { "known": null, "said": "b" } })),
        ("dsync.group.user_added", Value::Null),
    ] {
        let mut case = Case::default();
        let user = json!({ "id": "U", "directory_id": "D" });
        let pair = json!({ "directory_id": "D", "user": user.clone(), "group": { "id": "G" } });
        case.tell(first, 1, if first.contains("group") { pair } else { user.clone() });
        let context = json!({ "previous_attributes": { "name": "b" } });
        case.deliver(json!({ "id": "u", "event": "dsync.user.updated", "created_at": second(2),
            "data": user, "context": context }));
        assert_eq!(fields(&case, "missed"), [Value::Null, expected]);
    }
}

// --- Diff ---

fn differences(case: &Case, from: Cut, to: Cut, directory: Option<&str>) -> Vec<String> {
    let line = |item: Value| {
        let [kind, change, user, group, role] = ["kind", "change", "user_id", "group_id", "role"]
            .map(|key| word(&item[key]).to_owned());
        let changed: Vec<&String> = item["changed"].as_object().expect("fields").keys().collect();
        format!("{kind} {change} {user} {group} {role} {changed:?}")
    };
    case.diff(from, to, directory).into_iter().map(line).collect()
}

#[test]
fn a_diff_tells_what_is_there_and_what_is_gone() {
    let mut case = Case::default();
    let user = |name: &str| {
        json!({ "id": "U", "directory_id": "D", "name": name,
        "role": { "slug": name } })
    };
    case.tell("dsync.user.created", 1, user("a"))
        .group("created", 1, "G")
        .member("added", 2)
        .user("created", 3, "V");
    case.tell("dsync.user.updated", 5, user("b"))
        .user("updated", 5, "V")
        .member("removed", 6)
        .group("deleted", 7, "G");
    case.tell("dsync.group.created", 7, json!({ "id": "H", "directory_id": "D" }));
    let expected = [
        r#"user changed U - - ["name", "role"]"#,
        "group removed - G - []",
        "group added - H - []",
        "membership removed U G - []",
        "role removed U - a []",
        "role added U - b []",
    ];
    // V has another record that says the same, and G and H are not one.
    assert_eq!(differences(&case, at(4), LATEST, None), expected);
    assert_eq!(differences(&case, LATEST, LATEST, None), [""; 0]);
    let before: Vec<String> = differences(&case, at(2), at(4), None);
    assert_eq!(before, ["user added V - - []"]);
    // In the clock of knowledge, at one moment.
    let (then, now) = (cut(9, 7), at(9));
    assert_eq!(
        differences(&case, then, now, None),
        ["group removed - G - []", "group added - H - []"]
    );
}

#[test]
fn a_diff_of_a_directory_follows_its_users_out() {
    let mut case = Case::default();
    case.user("created", 1, "U").member("added", 2).moved(4, "E");
    let expected = ["user removed U - - []", "membership removed U G - []"];
    assert_eq!(differences(&case, at(3), at(5), Some("D")), expected);
    assert_eq!(
        differences(&case, at(3), at(5), Some("E")),
        ["user added U - - []", "membership added U G - []"]
    );
    assert_eq!(differences(&case, at(3), at(5), None), [r#"user changed U - - ["directory_id"]"#]);
}

#[test]
fn an_inactive_user_is_there_without_roles_until_the_policy_takes_it() {
    let mut case = Case::default();
    let user = |state: &str| {
        json!({ "id": "U", "directory_id": "D", "role": { "slug": "r" },
        "state": state })
    };
    case.tell("dsync.user.created", 1, user("active")).tell(
        "dsync.user.updated",
        3,
        user("inactive"),
    );
    case.policy("delete", 5);
    assert_eq!(
        differences(&case, at(2), at(4), None),
        [r#"user changed U - - ["state"]"#, "role removed U - r []"]
    );
    assert_eq!(differences(&case, at(4), at(6), None), ["user removed U - - []"]);
}
