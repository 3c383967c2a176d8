//! Lists: filters, pages, order, and what is shown.

use serde_json::{Value, json};

use crate::kit::scim::{Directory, user};
use crate::kit::server::Server;

fn names(page: &Value) -> Vec<&str> {
    let resources = page["Resources"].as_array().unwrap();
    resources.iter().map(|one| one["userName"].as_str().unwrap()).collect()
}

/// Writes the parameter of a filter.
fn filter_of(filter: &str) -> String {
    form_urlencoded::Serializer::new(String::new()).append_pair("filter", filter).finish()
}

#[test]
fn lists_are_filtered_paged_and_sorted() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let directory = Directory::create(&server, "org_a", "delete");
    let made = ["dora", "Bo", "ana", "cy"].map(|name| {
        let mut body = user(name);
        body["externalId"] = json!(format!("X-{name}"));
        if name != "cy" {
            body["nickName"] = json!(name.to_uppercase());
        }
        directory.post("/Users", &body)
    });
    let staff = directory.group("Staff", &[&made[0], &made[2]]);
    directory.group("Others", &[]);
    let by_creation = ["dora", "Bo", "ana", "cy"];
    let id = &made[1];
    let filters: Vec<(String, Vec<&str>)> = vec![
        (r#"userName eq "BO""#.into(), vec!["Bo"]),
        (r#"USERNAME Eq "bo""#.into(), vec!["Bo"]),
        (r#"externalId eq "X-ana""#.into(), vec!["ana"]),
        (r#"externalId eq "x-ana""#.into(), vec![]),
        (r#"emails.value eq "CY@acme.test""#.into(), vec!["cy"]),
        (r#"emails[type eq "work"].value eq "cy@acme.test""#.into(), vec!["cy"]),
        (format!(r#"id eq "{id}""#), vec!["Bo"]),
        (format!(r#"id eq "{id}" and userName eq "ana""#), vec![]),
        (r#"nickName pr"#.into(), vec!["dora", "Bo", "ana"]),
        (r#"not (nickName pr)"#.into(), vec!["cy"]),
        (r#"userName sw "d" or userName co "N""#.into(), vec!["dora", "ana"]),
        (r#"active eq true and userName ne "ana""#.into(), vec!["dora", "Bo", "cy"]),
        (r#"userName gt "bo""#.into(), vec!["dora", "cy"]),
        (r#"nothing eq "x""#.into(), vec![]),
    ];
    for (filter, expected) in &filters {
        let page = directory.get(&format!("/Users?{}", filter_of(filter)));
        assert_eq!(names(&page), *expected, "{filter}");
        assert_eq!(page["totalResults"], expected.len(), "{filter}");
        assert_eq!(page["itemsPerPage"], expected.len(), "{filter}");
        let schemas = ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"];
        let search = json!({ "schemas": schemas, "filter": filter });
        let searched = directory.call("POST", "/Users/.search", Some(&search)).json();
        assert_eq!(searched["Resources"], page["Resources"], "{filter}");
    }
    for (query, start, expected) in [
        ("", 1, &by_creation[..]),
        ("startIndex=2&count=2", 2, &by_creation[1..3]),
        ("startIndex=0&count=1", 1, &by_creation[..1]),
        ("startIndex=-3&count=1", 1, &by_creation[..1]),
        ("startIndex=4&count=10", 4, &by_creation[3..]),
        ("startIndex=5", 5, &[]),
        ("count=0", 1, &[]),
        ("count=-1", 1, &[]),
        ("sortBy=userName", 1, &["ana", "Bo", "cy", "dora"]),
        ("sortBy=userName&sortOrder=descending", 1, &["dora", "cy", "Bo", "ana"]),
        ("sortBy=nickName", 1, &["ana", "Bo", "dora", "cy"]),
        ("sortBy=nickName&sortOrder=descending", 1, &["cy", "dora", "Bo", "ana"]),
        ("sortBy=userName&startIndex=2&count=2", 2, &["Bo", "cy"]),
    ] {
        let page = directory.get(&format!("/Users?{query}"));
        assert_eq!(names(&page), expected, "{query}");
        assert_eq!(page["totalResults"], 4, "{query}");
        assert_eq!(
            (&page["startIndex"], &page["itemsPerPage"]),
            (&json!(start), &json!(expected.len())),
            "{query}"
        );
    }
    for filter in ["userName", "userName xx \"a\"", "(userName pr", "active gt true", ""] {
        let answer = directory.call("GET", &format!("/Users?{}", filter_of(filter)), None);
        assert_eq!(answer.status, 400, "{filter}");
        assert_eq!(answer.json()["scimType"], "invalidFilter", "{filter}");
    }
    // Is a user a member, without the members.
    let probe = |group: &str, user: &str| {
        let filter = format!(r#"id eq "{group}" and members eq "{user}""#);
        let page =
            directory.get(&format!("/Groups?excludedAttributes=members&{}", filter_of(&filter)));
        let shown = page["Resources"].as_array().unwrap().first().cloned();
        assert!(shown.is_none_or(|group| group.get("members").is_none()));
        page["totalResults"].as_u64().unwrap()
    };
    assert_eq!(
        [probe(&staff, &made[0]), probe(&staff, &made[1]), probe("none", &made[0])],
        [1, 0, 0]
    );
    let both = directory.call("POST", "/.search", Some(&json!({ "count": 10 }))).json();
    assert_eq!(both["totalResults"], 6);
    for path in ["/ServiceProviderConfig", "/ResourceTypes", "/Schemas"] {
        assert_eq!(directory.call("GET", &format!("{path}?filter=id%20pr"), None).status, 403);
        assert_eq!(
            directory.call("GET", &format!("{path}?startIndex=1&sortBy=id"), None).status,
            200
        );
    }
}

#[test]
fn only_the_attributes_that_are_asked_for_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let directory = Directory::create(&server, "org_a", "delete");
    let ana = directory.user("ana");
    let keys = |value: &Value| -> Vec<String> {
        let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    let path = format!("/Users/{ana}");
    let only = directory.get(&format!("{path}?attributes=userName"));
    assert_eq!(keys(&only), ["id", "schemas", "userName"]);
    let only = directory.get(&format!(
        "{path}?attributes=urn:ietf:params:scim:schemas:core:2.0:User:NAME.givenname"
    ));
    assert_eq!(only["name"], json!({ "givenName": "Ana" }));
    let without = directory.get(&format!("{path}?excludedAttributes=emails,name"));
    assert!(without.get("emails").is_none() && without.get("name").is_none());
    assert_eq!(without["userName"], "ana");
    let listed = directory.get("/Users?attributes=id");
    assert_eq!(keys(&listed["Resources"][0]), ["id", "schemas"]);
    let created = directory.call("POST", "/Users?attributes=id", Some(&user("bo")));
    assert_eq!(keys(&created.json()), ["id", "schemas"]);
}
