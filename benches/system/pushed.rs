//! The part of the logs of `--calls` that comes over HTTP: a directory into which an identity
//! provider pushes, and links.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kit::user_id;
use crate::server::{API_KEY, Server};

/// The users whom the provider pushes, and the users with a link.
const USERS: u64 = 20;
const LINKED: u64 = 20;

/// A directory into which an identity provider pushes.
#[derive(Serialize, Deserialize)]
pub(crate) struct Pushed {
    pub(crate) directory: String,
    pub(crate) token: String,
    /// A user whom the provider has changed many times, by its id in SCIM and by its name.
    pub(crate) user: String,
    pub(crate) user_name: String,
    /// The group of all users.
    pub(crate) group: String,
    /// The provider's last request.
    pub(crate) request: String,
}

/// Creates the directory, pushes its users and their group, and changes the first user a number of
/// times.
pub(crate) fn push(server: &Server, changes: u64) -> Pushed {
    let new = json!({ "name": "Pushed", "organization_id": "org_01PVSHED" });
    let made = server.send("POST", "/rollcall/v1/directories", API_KEY, &new);
    let directory = text(&made["id"]);
    let token = text(&made["scim"]["token"]["token"]);
    let base = format!("/scim/v2/{directory}");
    let post = |path: &str, body: &Value| {
        let made = server.send("POST", &format!("{base}/{path}"), &token, body);
        text(&made["id"])
    };
    let users: Vec<String> = (0..USERS).map(|number| post("Users", &user(number))).collect();
    let members: Vec<Value> = users.iter().map(|id| json!({ "value": id })).collect();
    let schemas = ["urn:ietf:params:scim:schemas:core:2.0:Group"];
    let group = json!({ "schemas": schemas, "displayName": "All", "members": members });
    let group = post("Groups", &group);
    let first = users[0].clone();
    for change in 0..changes {
        let schemas = ["urn:ietf:params:scim:api:messages:2.0:PatchOp"];
        let title = json!({ "op": "replace", "path": "title", "value": format!("No. {change}") });
        let patch = json!({ "schemas": schemas, "Operations": [title] });
        server.send("PATCH", &format!("{base}/Users/{first}"), &token, &patch);
    }
    let requests = server.get("/rollcall/v1/scim_requests?limit=1&order=desc");
    let request = text(&requests["data"][0]["request_id"]);
    Pushed { directory, token, user: first, user_name: user_name(0), group, request }
}

/// Links some users.
pub(crate) fn link(server: &Server) {
    let link = |number: u64| {
        let app_user = format!("app_{number}");
        json!({ "app_user_id": app_user, "directory_user_id": user_id(number) })
    };
    let links: Vec<Value> = (0..LINKED).map(link).collect();
    let set = server.send("PUT", "/rollcall/v1/links", API_KEY, &json!({ "links": links }));
    assert_eq!(set["set"], LINKED, "{set}");
}

fn user(number: u64) -> Value {
    json!({
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": user_name(number),
        "externalId": format!("external-{number}"),
        "name": { "givenName": format!("First{number}"), "familyName": "Last" },
        "emails": [{ "value": user_name(number), "primary": true, "type": "work" }],
        "active": true,
    })
}

fn user_name(number: u64) -> String {
    format!("pushed{number}@bench.example")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}")).to_owned()
}
