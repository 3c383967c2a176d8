//! Answers to small histories, each worked out by hand. Events are e01, e02 … in the order in which
//! they came, so that `e02` is record 2.

use serde_json::{Value, json};

use super::super::Cut;
use super::super::roles::Act;
use super::super::tests::{LATEST, Story, at, known, ms, second};

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

/// From, until, what started it, what ended it, and the reason where there is one.
fn lines(periods: Option<Vec<Value>>) -> Vec<String> {
    let line = |period: Value| {
        let (start, end) = (
            word(&period["start"]["event_id"]).to_owned(),
            word(&period["end"]["event_id"]).to_owned(),
        );
        let line = format!("{}..{} {start} {end}", short(&period["from"]), short(&period["until"]));
        period["reason"].as_str().map_or(line.clone(), |reason| format!("{line} {reason}"))
    };
    periods.expect("somebody known").into_iter().map(line).collect()
}

fn access(story: &Story, cut: Cut) -> Vec<String> {
    lines(story.world.access_periods("U", cut))
}

/// The same from both sides.
fn membership(story: &Story, cut: Cut) -> Vec<String> {
    let of_user = lines(story.world.groups_over_time("U", cut));
    assert_eq!(of_user, lines(story.world.members_over_time("G", cut)));
    of_user
}

/// Kind of change, user, role, reason and when it took effect.
fn changes(story: &Story, seq: u64) -> Vec<String> {
    let line = |change: Value| {
        assert_eq!((&change["seq"], &change["cause"]["seq"]), (&json!(seq), &json!(seq)));
        let [what, user, role, reason] =
            ["change", "user_id", "role", "reason"].map(|key| word(&change[key]).to_owned());
        format!("{what} {user} {role} {reason} {}", short(&change["occurred_at"]))
    };
    story.world.changes(seq).into_iter().map(line).collect()
}

impl Story {
    fn in_state(&mut self, at: u32, state: &str) -> &mut Story {
        self.tell(
            "dsync.user.updated",
            at,
            json!({ "id": "U", "directory_id": "D", "state": state }),
        )
    }

    fn moved(&mut self, at: u32, directory: &str) -> &mut Story {
        self.tell("dsync.user.updated", at, json!({ "id": "U", "directory_id": directory }))
    }

    fn another_directory(&mut self, event: &str, at: u32, id: &str) -> &mut Story {
        self.tell(&format!("dsync.{event}"), at, json!({ "id": id }))
    }

    fn policy(&mut self, inactive_users: &str, from: u32) -> u64 {
        let act = Act { event_id: format!("op_{}", self.world.head() + 1), recorded_at_ms: ms(50) };
        self.world.set_policy(act, inactive_users, ms(from), Value::Null)
    }

    fn mapping(&mut self, rules: Value, from: u32) -> u64 {
        let act = Act { event_id: format!("op_{}", self.world.head() + 1), recorded_at_ms: ms(50) };
        let mapping = json!({ "mode": "all", "default_roles": [], "priority": [], "rules": rules });
        self.world.set_mapping(act, mapping, ms(from), Value::Null)
    }
}

fn cut(as_of: u32, known_at: u64) -> Cut {
    Cut { as_of_ms: Some(ms(as_of)), known_at: Some(known_at) }
}

// --- Rule 20 ---

#[test]
fn rule_20_inactive_then_deleted_is_one_end_at_the_first() {
    let mut story = Story::default();
    story.user("created", 1, "U").in_state(3, "inactive").user("deleted", 5, "U");
    assert_eq!(access(&story, LATEST), ["1..3 e01 e02 user_inactive"]);
    let whole = story.world.access_periods("U", LATEST).expect("somebody known");
    let cause = |id: &str, event: &str, at: u32, seq: u64| json!({ "event_id": id, "event": event, "occurred_at": second(at), "recorded_at": null, "seq": seq });
    let expected = json!([{
        "object": "access_period", "user_id": "U", "from": second(1), "until": second(3), "reason": "user_inactive",
        "start": cause("e01", "dsync.user.created", 1, 1), "end": cause("e02", "dsync.user.updated", 3, 2),
    }]);
    assert_eq!(json!(whole), expected);
}

#[test]
fn rule_20_periods_are_cut_in_both_clocks() {
    let mut story = Story::default();
    story.user("created", 2, "U").user("deleted", 5, "U");
    assert_eq!(access(&story, at(5)), ["2..5 e01 e02 user_deleted"]);
    assert_eq!(access(&story, Cut { as_of_ms: Some(ms(5) - 1), known_at: None }), ["2..- e01 -"]);
    assert_eq!(access(&story, known(1)), ["2..- e01 -"]);
    assert_eq!(access(&story, cut(1, 1)), [""; 0]);
    assert!(story.world.access_periods("U", known(0)).is_none());
    assert!(story.world.access_periods("V", LATEST).is_none());
}

#[test]
fn rule_20_of_several_events_in_a_millisecond_only_the_outcome_counts() {
    let version = |state: &str, updated: u32| json!({ "id": "U", "directory_id": "D", "state": state, "updated_at": second(updated) });
    let mut story = Story::default();
    story.user("created", 1, "U");
    // Inactive and active again, by the order of `updated_at`, not of delivery.
    story.tell("dsync.user.updated", 3, version("active", 2)).tell(
        "dsync.user.updated",
        3,
        version("inactive", 1),
    );
    assert_eq!(access(&story, LATEST), ["1..- e01 -"]);
    // The directory off and on in one millisecond: the end wins.
    story.directory("deactivated", 4).directory("activated", 4);
    assert_eq!(access(&story, LATEST), ["1..4 e01 e04 directory_deactivated"]);
}

#[test]
fn rule_20_of_several_ends_in_a_millisecond_the_last_in_order_is_the_cause() {
    for (deletion, tombstone, expected) in
        [("z", "a", "1..5 e01 z directory_deleted"), ("a", "z", "1..5 e01 z user_deleted")]
    {
        let mut story = Story::default();
        story.user("created", 1, "U");
        story.tell_as(deletion, "dsync.deleted", 5, json!({ "id": "D" })).tell_as(
            tombstone,
            "dsync.user.deleted",
            5,
            json!({ "id": "U" }),
        );
        assert_eq!(access(&story, LATEST), [expected]);
    }
    // An inactive version sorts before a deactivation, which closes.
    let mut story = Story::default();
    story.user("created", 1, "U").directory("deactivated", 5).in_state(5, "inactive");
    assert_eq!(access(&story, LATEST), ["1..5 e01 e02 directory_deactivated"]);
    // The version that comes with the deactivation did not turn the user off: only the directory
    // did.
    let mut story = Story::default();
    story.user("created", 1, "U").directory("deactivated", 5).user("updated", 5, "U");
    assert_eq!(access(&story, LATEST), ["1..5 e01 e02 directory_deactivated"]);
}

#[test]
fn rule_20_a_move_has_the_new_directorys_reason() {
    for (event, expected) in
        [("deactivated", "directory_deactivated"), ("deleted", "directory_deleted")]
    {
        let mut story = Story::default();
        story
            .another_directory("activated", 1, "E")
            .another_directory(event, 2, "E")
            .user("created", 3, "U")
            .moved(5, "E")
            .moved(7, "D");
        assert_eq!(
            access(&story, LATEST),
            [format!("3..5 e03 e04 {expected}"), "7..- e05 -".to_owned()]
        );
    }
    // A move to a directory that stands changes nothing.
    let mut story = Story::default();
    story.user("created", 3, "U").moved(5, "E").another_directory("deactivated", 6, "D");
    assert_eq!(access(&story, LATEST), ["3..- e01 -"]);
    // Moved and turned inactive at once: the directory's reason goes before.
    let mut story = Story::default();
    story.another_directory("deactivated", 1, "E").user("created", 3, "U");
    story.tell(
        "dsync.user.updated",
        5,
        json!({ "id": "U", "directory_id": "E", "state": "inactive" }),
    );
    assert_eq!(access(&story, LATEST), ["3..5 e02 e03 directory_deactivated"]);
    // Moved in the millisecond in which the new directory goes: the last in order.
    let mut story = Story::default();
    story.user("created", 3, "U").another_directory("deactivated", 5, "E").moved(5, "E");
    assert_eq!(access(&story, LATEST), ["3..5 e01 e02 directory_deactivated"]);
}

#[test]
fn rule_20_a_deletion_moves_nobody_whatever_directory_it_names() {
    let of = |directory: &str| json!({ "id": "U", "directory_id": directory });
    // E goes off in the millisecond of the deletion that names it, but U was in D.
    let mut story = Story::default();
    story.user("created", 1, "U").tell("dsync.user.deleted", 5, of("E")).another_directory(
        "deactivated",
        5,
        "E",
    );
    assert_eq!(access(&story, LATEST), ["1..5 e01 e02 user_deleted"]);
    // D goes off then, and that is the last of what ends it.
    let mut story = Story::default();
    story.user("created", 1, "U").tell("dsync.user.deleted", 5, of("E")).another_directory(
        "deactivated",
        5,
        "D",
    );
    assert_eq!(access(&story, LATEST), ["1..5 e01 e03 directory_deactivated"]);
}

#[test]
fn rule_20_a_directory_off_and_deleted_ends_access_once_and_an_activation_alone_restores_nobody() {
    let mut story = Story::default();
    story
        .directory("activated", 1)
        .user("created", 2, "U")
        .directory("deactivated", 3)
        .directory("activated", 4);
    assert_eq!(access(&story, LATEST), ["2..3 e02 e03 directory_deactivated", "4..- e04 -"]);
    story.directory("deactivated", 5).directory("deleted", 6).directory("activated", 7);
    let so_far = ["2..3 e02 e03 directory_deactivated", "4..5 e04 e05 directory_deactivated"];
    assert_eq!(access(&story, LATEST), so_far);
    story.user("updated", 9, "U");
    assert_eq!(access(&story, LATEST), [so_far[0], so_far[1], "9..- e08 -"]);
    // Whoever came while the directory was gone has access with it.
    let mut story = Story::default();
    story
        .directory("deleted", 1)
        .user("created", 2, "U")
        .directory("activated", 4)
        .user("updated", 4, "U");
    assert_eq!(access(&story, LATEST), ["4..- e03 -"]);
}

#[test]
fn rule_20_deleted_and_created_again_are_two_periods() {
    let mut story = Story::default();
    story
        .user("created", 1, "U")
        .user("deleted", 3, "U")
        .user("created", 5, "U")
        .directory("deleted", 7);
    assert_eq!(
        access(&story, LATEST),
        ["1..3 e01 e02 user_deleted", "5..7 e03 e04 directory_deleted"]
    );
}

#[test]
fn rule_20_a_snapshot_gives_access_until_the_source_speaks() {
    let mut story = Story::default();
    story.member("added", 2).user("deleted", 5, "U");
    assert_eq!(access(&story, LATEST), ["2..5 e01 e02 user_deleted"]);
    let mut story = Story::default();
    let pair = |state: &str| json!({ "directory_id": "D", "user": { "id": "U", "state": state }, "group": { "id": "G" } });
    story.tell("dsync.group.user_added", 1, pair("active")).tell(
        "dsync.group.user_removed",
        3,
        pair("inactive"),
    );
    assert_eq!(access(&story, LATEST), ["1..3 e01 e02 user_inactive"]);
    story.user("created", 4, "U");
    assert_eq!(access(&story, LATEST), ["1..3 e01 e02 user_inactive", "4..- e03 -"]);
}

#[test]
fn rule_20_a_late_event_takes_its_place_in_the_past() {
    let mut story = Story::default();
    story.user("created", 1, "U").user("deleted", 9, "U").in_state(4, "inactive");
    assert_eq!(access(&story, known(2)), ["1..9 e01 e02 user_deleted"]);
    assert_eq!(access(&story, LATEST), ["1..4 e01 e03 user_inactive"]);
    assert_eq!(access(&story, cut(9, 1)), ["1..- e01 -"]);
}

#[test]
fn rules_18_and_20_no_policy_changes_access() {
    let mut story = Story::default();
    story.user("created", 1, "U").in_state(3, "inactive");
    story.policy("delete", 2);
    assert_eq!(access(&story, LATEST), ["1..3 e01 e02 user_inactive"]);
}

// --- Rule 19 ---

#[test]
fn rule_19_a_membership_ends_with_its_removal_or_either_end_or_its_directory() {
    let ends: [fn(&mut Story) -> &mut Story; 4] = [
        |story| story.member("removed", 5),
        |story| story.user("deleted", 5, "U"),
        |story| story.group("deleted", 5, "G"),
        |story| story.directory("deleted", 5),
    ];
    for end in ends {
        let mut story = Story::default();
        story.user("created", 1, "U").group("created", 2, "G").member("added", 3);
        // What comes later finds it ended.
        end(&mut story).directory("deleted", 7);
        assert_eq!(membership(&story, LATEST), ["3..5 e03 e04"]);
        assert_eq!(membership(&story, at(4)), ["3..- e03 -"]);
    }
}

#[test]
fn rule_19_a_deactivation_ends_no_membership_and_a_return_brings_none_back() {
    let mut story = Story::default();
    story.user("created", 1, "U").member("added", 3).directory("deactivated", 4);
    assert_eq!(membership(&story, LATEST), ["3..- e02 -"]);
    story.user("deleted", 5, "U").user("created", 6, "U");
    assert_eq!(membership(&story, LATEST), ["3..5 e02 e04"]);
    story.member("added", 8);
    assert_eq!(membership(&story, LATEST), ["3..5 e02 e04", "8..- e06 -"]);
}

#[test]
fn rule_19_a_membership_that_waits_begins_with_its_end() {
    let mut story = Story::default();
    story
        .group("created", 1, "G")
        .user("deleted", 2, "U")
        .member("added", 3)
        .user("created", 4, "U");
    assert_eq!(membership(&story, LATEST), ["4..- e04 -"]);
    // And with its directory's return, where the ends came while it was gone.
    let mut story = Story::default();
    story
        .directory("deleted", 1)
        .user("created", 2, "U")
        .group("created", 2, "G")
        .member("added", 3)
        .directory("activated", 5);
    assert_eq!(membership(&story, LATEST), ["5..- e05 -"]);
}

#[test]
fn rule_19_of_several_ends_in_a_millisecond_the_last_in_order_is_the_cause() {
    let mut story = Story::default();
    story.user("created", 1, "U").member("added", 3);
    story.tell_as(
        "z",
        "dsync.group.user_removed",
        5,
        json!({ "directory_id": "D", "user": { "id": "U" }, "group": { "id": "G" } }),
    );
    // It has an `updated_at`, which a removal never has: it stands later.
    story.tell_as("a", "dsync.user.deleted", 5, json!({ "id": "U", "updated_at": second(5) }));
    assert_eq!(membership(&story, LATEST), ["3..5 e02 a"]);
}

#[test]
fn rules_18_and_19_the_policy_ends_memberships_of_the_inactive_until_they_are_active() {
    let mut story = Story::default();
    story.user("created", 1, "U").member("added", 2).in_state(5, "inactive");
    assert_eq!(membership(&story, LATEST), ["2..- e02 -"]);
    story.policy("delete", 7);
    assert_eq!(membership(&story, LATEST), ["2..7 e02 op_4"]);
    story.in_state(9, "active");
    assert_eq!(membership(&story, LATEST), ["2..7 e02 op_4", "9..- e04 -"]);
    // From before the turn it is the version that ends it; and `retain` brings it back.
    let mut story = Story::default();
    story.user("created", 1, "U").member("added", 2).in_state(5, "inactive");
    story.policy("delete", 4);
    story.policy("retain", 8);
    assert_eq!(membership(&story, LATEST), ["2..5 e02 e03", "8..- op_5 -"]);
    // The directory's activation ends nothing, though it stands last in the moment.
    let mut story = Story::default();
    story
        .user("created", 1, "U")
        .member("added", 2)
        .in_state(5, "inactive")
        .directory("activated", 5);
    story.policy("delete", 4);
    assert_eq!(membership(&story, LATEST), ["2..5 e02 e03"]);
    // A setting stands after all events of its moment.
    let mut story = Story::default();
    story.user("created", 1, "U").member("added", 2).in_state(5, "inactive");
    story.policy("delete", 5);
    assert_eq!(membership(&story, LATEST), ["2..5 e02 op_4"]);
    assert_eq!(membership(&story, known(3)), ["2..- e02 -"]);
}

#[test]
fn a_membership_has_the_last_name_of_its_group() {
    let mut story = Story::default();
    let group = |name: &str| json!({ "id": "G", "directory_id": "D", "name": name });
    story.user("created", 1, "U").tell("dsync.group.created", 1, group("first")).member("added", 2);
    story.tell("dsync.group.updated", 4, group("second")).member("removed", 6).tell(
        "dsync.group.updated",
        8,
        group("third"),
    );
    let name = |cut: Cut| {
        story.world.groups_over_time("U", cut).expect("somebody known")[0]["group_name"].clone()
    };
    assert_eq!(name(LATEST), "second");
    assert_eq!(name(at(3)), "first");
    // Renamed in the millisecond of its end: it was never a member of the second.
    story.tell("dsync.group.updated", 6, group("fourth"));
    assert_eq!(
        story.world.members_over_time("G", LATEST).expect("a group")[0]["group_name"],
        "second"
    );
}

// --- Deprovisionings ---

#[test]
fn a_deprovisioning_tells_what_was_held_the_millisecond_before() {
    let mut story = Story::default();
    let user = json!({
        "id": "U", "directory_id": "D", "organization_id": "O", "email": "U@x.example",
        "role": { "slug": "b" }, "roles": [{ "slug": "a" }, { "slug": "b" }, { "slug": "c" }],
    });
    story.tell("dsync.user.created", 1, user).tell(
        "dsync.group.created",
        1,
        json!({ "id": "G", "directory_id": "D", "name": "g" }),
    );
    story
        .member("added", 2)
        .member("removed", 5)
        .directory("deactivated", 5)
        .directory("activated", 8);
    let item = json!({
        "object": "deprovisioning", "user_id": "U", "email": "U@x.example", "directory_id": "D", "organization_id": "O",
        "reason": "directory_deactivated", "occurred_at": second(5), "recorded_at": null, "delay_ms": null,
        "cause": { "event_id": "e05", "event": "dsync.deactivated", "occurred_at": second(5), "recorded_at": null, "seq": 5 },
        "roles": ["b", "a", "c"], "groups": [{ "id": "G", "name": "g" }], "restored_at": second(8),
        "proof": "/rollcall/v1/log/proof/inclusion?seq=5",
    });
    assert_eq!(story.world.deprovisionings(&[], LATEST), [item]);
    assert_eq!(story.world.deprovisionings(&[], at(7))[0]["restored_at"], Value::Null);
    assert!(story.world.deprovisionings(&[], at(4)).is_empty());
    let found = |key: &str, value: &str| {
        story.world.deprovisionings(&[(key.to_owned(), value.to_owned())], LATEST).len()
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
    let mut story = Story::default();
    story.tell(
        "dsync.user.created",
        1,
        json!({ "id": "U", "directory_id": "D", "role": { "slug": "source" } }),
    );
    story
        .member("added", 2)
        .user("deleted", 5, "U")
        .user("created", 6, "U")
        .user("deleted", 8, "U");
    story.mapping(json!([{ "group": { "id": "G" }, "roles": ["dev"] }]), 4);
    let roles = |cut: Cut| {
        story
            .world
            .deprovisionings(&[], cut)
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
    let mut story = Story::default();
    story.user("created", 1, "b").user("created", 1, "a").user("created", 1, "c");
    story.user("deleted", 4, "c").directory("deleted", 5);
    let items = story.world.deprovisionings(&[], LATEST);
    let order: Vec<_> = items
        .iter()
        .map(|item| format!("{} {}", word(&item["user_id"]), word(&item["reason"])))
        .collect();
    assert_eq!(order, ["c user_deleted", "a directory_deleted", "b directory_deleted"]);
}

// --- Changes ---

#[test]
fn each_record_says_what_it_changed_for_whom() {
    let mut story = Story::default();
    story
        .tell(
            "dsync.user.created",
            2,
            json!({ "id": "U", "directory_id": "D", "role": { "slug": "r" } }),
        )
        .user("created", 3, "V");
    story.directory("deactivated", 5).directory("activated", 7).user("deleted", 9, "U");
    assert_eq!(changes(&story, 1), ["access_granted U - - 2", "role_gained U r - 2"]);
    assert_eq!(changes(&story, 2), ["access_granted V - - 3"]);
    let reason = "directory_deactivated";
    let expected = [
        format!("access_ended U - {reason} 5"),
        "role_lost U r - 5".to_owned(),
        format!("access_ended V - {reason} 5"),
    ];
    assert_eq!(changes(&story, 3), expected);
    assert_eq!(
        changes(&story, 4),
        ["access_restored U - - 7", "role_gained U r - 7", "access_restored V - - 7"]
    );
    assert_eq!(changes(&story, 5), ["access_ended U - user_deleted 9", "role_lost U r - 9"]);
    assert_eq!(story.world.all_changes().len(), 11);
    // The deletion says no directory; it is the one she was in.
    assert_eq!(story.world.changes(5)[0]["directory_id"], "D");
}

#[test]
fn a_late_event_changes_the_past_alone_or_what_holds_too() {
    let mut story = Story::default();
    story.user("created", 1, "U").in_state(5, "active").in_state(3, "inactive");
    assert_eq!(changes(&story, 2), [""; 0]);
    assert_eq!(changes(&story, 3), ["history_changed U - - 3"]);
    assert_eq!(access(&story, LATEST), ["1..3 e01 e03 user_inactive", "5..- e02 -"]);
    // A deletion learnt late ends what lasts, when it happened.
    let mut story = Story::default();
    story.user("created", 1, "U").group("created", 8, "G").user("deleted", 3, "U");
    assert_eq!(changes(&story, 3), ["access_ended U - user_deleted 3"]);
    // And one that came after the return changes the past alone.
    let mut story = Story::default();
    story.user("created", 1, "U").user("updated", 5, "U").user("deleted", 3, "U");
    assert_eq!(changes(&story, 3), ["history_changed U - - 3"]);
}

#[test]
fn a_change_has_the_directory_and_organization_that_the_users_object_shows() {
    let mut story = Story::default();
    story.tell("dsync.activated", 1, json!({ "id": "D", "organization_id": "of the directory" }));
    story
        .tell(
            "dsync.user.created",
            2,
            json!({ "id": "U", "directory_id": "D", "organization_id": "its own" }),
        )
        .user("created", 2, "V");
    let place = |seq: u64| {
        let change = story.world.changes(seq)[0].clone();
        [change["directory_id"].clone(), change["organization_id"].clone()]
    };
    assert_eq!([place(2), place(3)], [["D", "its own"], ["D", "of the directory"]]);
    // Of somebody known by a snapshot alone, and then deleted.
    let mut story = Story::default();
    story.member("added", 1).user("deleted", 2, "nobody").tell(
        "dsync.user.deleted",
        3,
        json!({ "id": "U" }),
    );
    assert_eq!(story.world.changes(3)[0]["directory_id"], "D");
}

#[test]
fn a_mapping_set_back_in_time_changes_roles_from_then_on() {
    let mut story = Story::default();
    story.member("added", 2).user("created", 4, "U");
    let seq = story.mapping(json!([{ "group": { "id": "G" }, "roles": ["dev", "ops"] }]), 3);
    assert_eq!(changes(&story, seq), ["role_gained U dev - 3", "role_gained U ops - 3"]);
    let change = &story.world.changes(seq)[0];
    assert_eq!(
        (&change["cause"]["event"], &change["cause"]["occurred_at"]),
        (&json!("rollcall.mapping.set"), &json!(second(50)))
    );
    // The second takes `ops` from 6 on; the third lets it end at 5 and so changes the past alone.
    let rules = json!([{ "group": { "id": "G" }, "roles": ["dev"] }]);
    let seq = story.mapping(rules.clone(), 6);
    assert_eq!(changes(&story, seq), ["role_lost U ops - 6"]);
    let seq = story.mapping(rules, 5);
    assert_eq!(changes(&story, seq), ["history_changed U - - 5"]);
    let seq = story.policy("delete", 1);
    assert_eq!(changes(&story, seq), [""; 0]);
}

#[test]
fn what_was_never_so_ends_where_the_two_stories_part() {
    let mut story = Story::default();
    story
        .tell(
            "dsync.user.created",
            5,
            json!({ "id": "U", "directory_id": "D", "role": { "slug": "r" } }),
        )
        .user("deleted", 5, "U");
    assert_eq!(access(&story, LATEST), [""; 0]);
    assert_eq!(changes(&story, 2), ["access_ended U - user_deleted 5", "role_lost U r - 5"]);
}

// --- History ---

/// What each item is: its event, kind of change and whether it was late.
fn versions(story: &Story, cut: Cut) -> Vec<String> {
    let items = story.world.history("user", "U", cut).expect("somebody known");
    let line = |item: &Value| {
        let late = if item["late"] == true { " late" } else { "" };
        format!("{} {}{late}", word(&item["cause"]["event_id"]), word(&item["change"]))
    };
    items.iter().map(line).collect()
}

#[test]
fn a_history_holds_every_version_and_the_snapshots_before_the_first() {
    let mut story = Story::default();
    story
        .member("added", 5)
        .user("updated", 4, "U")
        .member("removed", 2)
        .user("created", 3, "U")
        .user("deleted", 9, "U")
        .member("added", 1);
    // The one of 5 came first, but never stood in.
    assert_eq!(
        versions(&story, LATEST),
        [
            "e06 snapshot late",
            "e03 snapshot late",
            "e04 created late",
            "e02 updated",
            "e05 deleted"
        ]
    );
    assert_eq!(
        versions(&story, at(4)),
        ["e06 snapshot late", "e03 snapshot late", "e04 created late", "e02 updated"]
    );
    assert_eq!(versions(&story, known(3)), ["e03 snapshot late", "e02 updated"]);
    assert_eq!(versions(&story, known(1)), ["e01 snapshot"]);
    assert_eq!(versions(&story, cut(4, 1)), [""; 0]);
    assert!(story.world.history("user", "U", known(0)).is_none());
    assert!(story.world.history("group", "U", LATEST).is_none());
}

fn fields(story: &Story, key: &str) -> Vec<Value> {
    story
        .world
        .history("user", "U", LATEST)
        .expect("somebody known")
        .into_iter()
        .map(|mut item| item[key].take())
        .collect()
}

#[test]
fn a_version_is_compared_field_by_field_with_the_one_before() {
    let mut story = Story::default();
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
            json!({ "name": "a", "email": null, "custom_attributes": { "x": 1, "y": null }, "raw_attributes": [] }),
        ),
        told(
            "updated",
            2,
            json!({ "name": "a", "custom_attributes": { "x": 2, "z": { "b": 1 } }, "raw_attributes": { "k": true } }),
        ),
        told(
            "updated",
            3,
            json!({ "first_name": "f", "custom_attributes": { "x": 2, "z": { "b": 1, "c": null } } }),
        ),
        told("deleted", 4, json!({ "name": "ignored" })),
        told("created", 5, json!({})),
    ] {
        story.tell(&event, at, data);
    }
    let side = |from: Value, to: Value| json!({ "from": from, "to": to });
    let none = Value::Null;
    let expected = [
        json!({
            "directory_id": side(none.clone(), json!("D")), "name": side(none.clone(), json!("a")),
            "custom_attributes.x": side(none.clone(), json!("#1")), "raw_attributes": side(none.clone(), json!([])),
        }),
        json!({
            "custom_attributes.x": side(json!("#1"), json!("#2")), "custom_attributes.z": side(none.clone(), json!({ "b": "#1" })),
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
    assert_eq!(fields(&story, "changed"), expected);
}

#[test]
fn numbers_are_compared_by_their_text() {
    let mut story = Story::default();
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
        story.world.deliver(body.as_bytes(), ms(59));
    }
    let changed: Vec<Value> =
        fields(&story, "changed").into_iter().map(|changed| changed["x"]["to"].clone()).collect();
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
    let mut story = Story::default();
    let version = |name: &str, previous: Value| {
        let attributes = json!({ "a": 1, "b": 2 });
        json!({ "id": "U", "directory_id": "D", "name": name, "custom_attributes": attributes, "previous_attributes": previous })
    };
    story.tell(
        "dsync.user.created",
        1,
        version("first", json!({ "name": "said of nobody known" })),
    );
    story.tell(
        "dsync.user.updated",
        2,
        version("second", json!({ "name": "first", "updated_at": "x", "custom_attributes": { "a": 1, "c": null } })),
    );
    story.tell(
        "dsync.user.updated",
        3,
        version(
            "fourth",
            json!({ "name": "third", "email": "e", "custom_attributes": { "a": 7 } }),
        ),
    );
    story.tell("dsync.user.updated", 4, version("fifth", json!("no object")));
    story.user("deleted", 5, "U").tell(
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
        fields(&story, "missed"),
        [nothing(), nothing(), missed.clone(), nothing(), nothing(), nothing()]
    );
    // Learnt late, it is missed no more.
    story.tell("dsync.user.updated", 2, version("third", json!({ "name": "second" })));
    assert_eq!(fields(&story, "missed")[3]["name"], Value::Null);
    // In the context it counts where `data` has none; after a snapshot nothing can be said.
    for (first, expected) in [
        ("dsync.user.created", json!({ "name": { "known": null, "said": "b" } })),
        ("dsync.group.user_added", Value::Null),
    ] {
        let mut story = Story::default();
        let user = json!({ "id": "U", "directory_id": "D" });
        let pair = json!({ "directory_id": "D", "user": user.clone(), "group": { "id": "G" } });
        story.tell(first, 1, if first.contains("group") { pair } else { user.clone() });
        let context = json!({ "previous_attributes": { "name": "b" } });
        story.deliver(json!({ "id": "u", "event": "dsync.user.updated", "created_at": second(2), "data": user, "context": context }));
        assert_eq!(fields(&story, "missed"), [Value::Null, expected]);
    }
}

// --- Diff ---

fn differences(story: &Story, from: Cut, to: Cut, directory: Option<&str>) -> Vec<String> {
    let line = |item: Value| {
        let [kind, change, user, group, role] = ["kind", "change", "user_id", "group_id", "role"]
            .map(|key| word(&item[key]).to_owned());
        let changed: Vec<&String> = item["changed"].as_object().expect("fields").keys().collect();
        format!("{kind} {change} {user} {group} {role} {changed:?}")
    };
    story.world.diff(from, to, directory).into_iter().map(line).collect()
}

#[test]
fn a_diff_tells_what_is_there_and_what_is_gone() {
    let mut story = Story::default();
    let user = |name: &str| json!({ "id": "U", "directory_id": "D", "name": name, "role": { "slug": name } });
    story
        .tell("dsync.user.created", 1, user("a"))
        .group("created", 1, "G")
        .member("added", 2)
        .user("created", 3, "V");
    story
        .tell("dsync.user.updated", 5, user("b"))
        .user("updated", 5, "V")
        .member("removed", 6)
        .group("deleted", 7, "G");
    story.tell("dsync.group.created", 7, json!({ "id": "H", "directory_id": "D" }));
    let expected = [
        r#"user changed U - - ["name", "role"]"#,
        "group removed - G - []",
        "group added - H - []",
        "membership removed U G - []",
        "role removed U - a []",
        "role added U - b []",
    ];
    // V has another record that says the same, and G and H are not one.
    assert_eq!(differences(&story, at(4), LATEST, None), expected);
    assert_eq!(differences(&story, LATEST, LATEST, None), [""; 0]);
    let before: Vec<String> = differences(&story, at(2), at(4), None);
    assert_eq!(before, ["user added V - - []"]);
    // In the clock of knowledge, at one moment.
    let (then, now) = (cut(9, 7), at(9));
    assert_eq!(
        differences(&story, then, now, None),
        ["group removed - G - []", "group added - H - []"]
    );
}

#[test]
fn a_diff_of_a_directory_follows_its_users_out() {
    let mut story = Story::default();
    story.user("created", 1, "U").member("added", 2).moved(4, "E");
    let expected = ["user removed U - - []", "membership removed U G - []"];
    assert_eq!(differences(&story, at(3), at(5), Some("D")), expected);
    assert_eq!(
        differences(&story, at(3), at(5), Some("E")),
        ["user added U - - []", "membership added U G - []"]
    );
    assert_eq!(differences(&story, at(3), at(5), None), [r#"user changed U - - ["directory_id"]"#]);
}

#[test]
fn an_inactive_user_is_there_without_roles_until_the_policy_takes_it() {
    let mut story = Story::default();
    let user = |state: &str| json!({ "id": "U", "directory_id": "D", "role": { "slug": "r" }, "state": state });
    story.tell("dsync.user.created", 1, user("active")).tell(
        "dsync.user.updated",
        3,
        user("inactive"),
    );
    story.policy("delete", 5);
    assert_eq!(
        differences(&story, at(2), at(4), None),
        [r#"user changed U - - ["state"]"#, "role removed U - r []"]
    );
    assert_eq!(differences(&story, at(4), at(6), None), ["user removed U - - []"]);
}
