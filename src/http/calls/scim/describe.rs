//! The calls of SCIM in `/openapi.json`.

use serde_json::{Value, json};

use super::answer::SCIM_JSON;
use crate::json;

/// A call, as the document describes it.
struct Described {
    method: &'static str,
    /// The path below the address of a directory.
    path: &'static str,
    name: &'static str,
    about: &'static str,
    status: &'static str,
}

const fn call(
    method: &'static str,
    path: &'static str,
    name: &'static str,
    about: &'static str,
    status: &'static str,
) -> Described {
    Described { method, path, name, about, status }
}

/// The status of what the standard has and this server has not.
const UNSUPPORTED: &str = "501";

const CALLS: [Described; 22] = [
    call(
        "get",
        "/Users",
        "listScimUsers",
        "Users: a page, perhaps of those that a filter finds.",
        "200",
    ),
    call("post", "/Users", "createScimUser", "Creates a user.", "201"),
    call("post", "/Users/.search", "searchScimUsers", "Users, as the body asks.", "200"),
    call("get", "/Users/{id}", "getScimUser", "One user.", "200"),
    call("put", "/Users/{id}", "replaceScimUser", "Replaces a user.", "200"),
    call(
        "patch",
        "/Users/{id}",
        "patchScimUser",
        "Changes a user by operations, all or none.",
        "200",
    ),
    call("delete", "/Users/{id}", "deleteScimUser", "Deletes a user.", "204"),
    call(
        "get",
        "/Groups",
        "listScimGroups",
        "Groups: a page, perhaps of those that a filter finds.",
        "200",
    ),
    call("post", "/Groups", "createScimGroup", "Creates a group.", "201"),
    call("post", "/Groups/.search", "searchScimGroups", "Groups, as the body asks.", "200"),
    call("get", "/Groups/{id}", "getScimGroup", "One group.", "200"),
    call("put", "/Groups/{id}", "replaceScimGroup", "Replaces a group and its members.", "200"),
    call(
        "patch",
        "/Groups/{id}",
        "patchScimGroup",
        "Changes a group by operations, all or none; 204 without a body for one of more than 1000 members, unless `attributes` are asked for.",
        "200",
    ),
    call("delete", "/Groups/{id}", "deleteScimGroup", "Deletes a group.", "204"),
    call("post", "/.search", "searchScim", "Users and groups, as the body asks.", "200"),
    call(
        "get",
        "/ServiceProviderConfig",
        "getScimConfig",
        "What of the standard is supported.",
        "200",
    ),
    call("get", "/ResourceTypes", "listScimResourceTypes", "The kinds of resources.", "200"),
    call("get", "/ResourceTypes/{id}", "getScimResourceType", "One kind of resources.", "200"),
    call("get", "/Schemas", "listScimSchemas", "The attributes of resources.", "200"),
    call("get", "/Schemas/{id}", "getScimSchema", "The attributes of one schema.", "200"),
    call("post", "/Bulk", "bulkScim", "Several requests in one: not supported.", UNSUPPORTED),
    call("get", "/Me", "getScimMe", "The user of the token: not supported.", UNSUPPORTED),
];

/// The parameters of lists and of answers with a resource.
const QUERY: [(&str, &str); 7] = [
    ("filter", "A filter of RFC 7644, section 3.4.2.2."),
    ("startIndex", "The number of the first resource, from 1."),
    ("count", "The most resources of a page: 100 unless it is given, at most 1000."),
    ("sortBy", "The attribute by which they are sorted; by creation without it."),
    ("sortOrder", "`ascending` or `descending`."),
    ("attributes", "The attributes that are shown, separated by commas."),
    ("excludedAttributes", "The attributes that are not shown, separated by commas."),
];

/// Adds the calls to the document.
pub(crate) fn add_to(document: &mut Value) {
    let token = json!({
        "type": "http", "scheme": "bearer",
        "description": "A live token of the directory. API keys do not open these paths.",
    });
    if let Some(schemes) = document.pointer_mut("/components/securitySchemes") {
        json::set(schemes, "scimToken", token);
    }
    if let Some(schemas) = document.pointer_mut("/components/schemas") {
        json::set(schemas, "ScimError", error_schema());
    }
    let Some(paths) = document.pointer_mut("/paths").and_then(Value::as_object_mut) else { return };
    for described in &CALLS {
        let path = format!("/scim/v2/{{directory_id}}{}", described.path);
        let methods = paths.entry(path).or_insert_with(|| json!({}));
        json::set(methods, described.method, describe(described));
    }
}

fn error_schema() -> Value {
    json!({
        "type": "object",
        "description": "An error of RFC 7644, section 3.12. `detail` names no personal attribute.",
        "required": ["schemas", "status", "detail"],
        "properties": {
            "schemas": { "type": "array", "items": { "type": "string" } },
            "status": { "type": "string", "pattern": "^[1-5][0-9][0-9]$" },
            "scimType": { "type": "string" },
            "detail": { "type": "string" },
        },
    })
}

fn describe(call: &Described) -> Value {
    let in_path = ["directory_id", "id"]
        .into_iter()
        .filter(|name| *name == "directory_id" || call.path.contains("{id}"));
    let in_path = in_path.map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
    });
    let is_resource = call.path.starts_with("/Users") || call.path.starts_with("/Groups");
    let is_list = call.method == "get" && !call.path.contains('{');
    let shown = |name: &str| name.contains("ttributes") || is_list;
    let in_query = QUERY.iter().filter(|(name, _)| is_resource && shown(name));
    let in_query = in_query.map(|(name, about)| {
        let schema = json!({ "type": "string" });
        json!({ "name": name, "in": "query", "description": about, "schema": schema })
    });
    let object = json!({ SCIM_JSON: { "schema": { "type": "object" } } });
    let error = json!({ "$ref": "#/components/schemas/ScimError" });
    let error = json!({ SCIM_JSON: { "schema": error } });
    let mut answer = json!({ "description": call.about });
    match call.status {
        "204" => {}
        UNSUPPORTED => json::set(&mut answer, "content", error.clone()),
        _ => json::set(&mut answer, "content", object.clone()),
    }
    let refused = json!({ "description": "An error, in the shape of SCIM.", "content": error });
    let mut described = json!({
        "operationId": call.name,
        "summary": call.about,
        "security": [{ "scimToken": [] }],
        "parameters": in_path.chain(in_query).collect::<Vec<Value>>(),
        "responses": { call.status: answer, "default": refused },
    });
    if ["post", "put", "patch"].contains(&call.method) {
        let body = json!({ "required": true, "content": object });
        json::set(&mut described, "requestBody", body);
    }
    described
}

#[cfg(test)]
mod tests {
    use super::super::routes::{Address, Route};
    use super::*;
    use actix_web::http::Method;

    #[test]
    fn what_is_not_supported_is_described_as_that() {
        let mut document = json!({ "paths": {}, "components": { "schemas": {} } });
        add_to(&mut document);
        for (path, method) in [("Bulk", "post"), ("Me", "get")] {
            let call = &document["paths"][format!("/scim/v2/{{directory_id}}/{path}")][method];
            let answers = &call["responses"];
            let schema = &answers["501"]["content"][SCIM_JSON]["schema"];
            assert_eq!(schema["$ref"], "#/components/schemas/ScimError", "{path}");
            assert!(answers["200"].is_null(), "{path}");
        }
    }

    #[test]
    fn each_call_that_is_described_is_taken() {
        let mut document = json!({ "paths": {}, "components": { "schemas": {} } });
        add_to(&mut document);
        for (path, methods) in document["paths"].as_object().unwrap() {
            let path = path.replace("{directory_id}", "d").replace("{id}", "User");
            let route = Address::of(&path).route.unwrap();
            let described: Vec<String> =
                methods.as_object().unwrap().keys().map(|name| name.to_uppercase()).collect();
            if route == Route::Unsupported {
                let mut calls = methods.as_object().unwrap().values();
                assert!(calls.all(|call| call["responses"]["501"].is_object()), "{path}");
                continue;
            }
            let is_taken = |name: &String| route.allows(&name.parse::<Method>().unwrap());
            assert!(described.iter().all(is_taken), "{path}");
            let taken = route.allowed().split(", ").filter(|name| *name != "HEAD").count();
            assert_eq!(taken, described.len(), "{path}");
        }
    }
}
