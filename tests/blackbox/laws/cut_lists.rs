//! Members of a group and groups of a user that are too many for one object.

use serde_json::{Value, json};

use crate::kit::case::{Case, LATEST};

/// A case with a membership of each of `count` users in one group, or of one user in as many
/// groups. The only group or user has the id `one & all`.
fn with_members(kind: &str, count: usize) -> Case {
    let mut case = Case::default();
    for number in 0..count {
        let many = json!({ "id": format!("m{number:04}"), "directory_id": "D" });
        let one = json!({ "id": "one & all", "directory_id": "D" });
        let (user, group) = if kind == "members" { (many, one) } else { (one, many) };
        let data = json!({ "directory_id": "D", "user": user, "group": group });
        case.tell("dsync.group.user_added", 1, data);
    }
    case
}

/// The three fields that are there only where something was cut.
fn sign(object: &Value, name: &str) -> [Option<Value>; 3] {
    ["truncated", "total", "url"].map(|field| object.get(format!("{name}_{field}")).cloned())
}

#[test]
fn a_cut_list_says_so_with_its_length_and_the_call_that_has_all() {
    for (name, path, url) in [
        ("members", "/directory_groups", "/directory_users?group=one%20%26%20all"),
        ("groups", "/directory_users", "/directory_groups?user=one%20%26%20all"),
    ] {
        let query: &[(&str, &str)] = if name == "members" { &[("members", "true")] } else { &[] };
        let case = with_members(name, 1001);
        let item = format!("{path}/one & all");
        let (_, object) = case.ask(&item, query, LATEST);
        assert_eq!(object[name].as_array().unwrap().len(), 1000);
        let cut = [json!(true), json!(1001), json!(url)].map(Some);
        assert_eq!(sign(&object, name), cut, "{item}");
        // A thousand are whole, and so is what was known before the last.
        let thousand = crate::kit::case::known(1000);
        let (_, object) = case.ask(&item, query, thousand);
        assert_eq!(object[name].as_array().unwrap().len(), 1000);
        assert_eq!(sign(&object, name), [None, None, None], "{item}");
    }
}
