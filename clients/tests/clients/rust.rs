//! The official library for Rust, asked in this process.

use futures_util::TryStreamExt;
use serde::Serialize;
use serde_json::Value;
use workos::directory_sync::{ListDirectoriesParams, ListGroupsParams, ListUsersParams};
use workos::events::ListEventsParams;
use workos::{Client, Error, WebhookVerifier};

use super::kit::{API_KEY, SECRET, Server, lines, story};
use super::scripts::{self, ODD, listed};
use super::{Case, Needs};

pub fn cases() -> Vec<Case> {
    let cases: [(&str, fn()); 12] = [
        ("lists_and_gets_directories", || reads("directories.jsonl")),
        ("lists_and_gets_users", || reads("users.jsonl")),
        ("lists_and_gets_groups", || reads("groups.jsonl")),
        ("lists_events", || reads("listed-events.jsonl")),
        ("pages_through_all_users_once", pages),
        ("pages_through_all_events_once", pages_events),
        ("meets_each_error_as_its_own_exception", errors),
        ("meets_each_error_of_events_as_its_own_exception", event_errors),
        ("reads_ids_with_slash_space_and_per_cent", odd_ids),
        ("verifies_what_send_signs", verifies),
        ("tails_events_without_missing_or_repeating_one", tails),
        ("reads_the_events_of_every_story", reads_every_story),
    ];
    cases
        .into_iter()
        .map(|(name, run)| Case::new(format!("rust_3::{name}"), Needs::Nothing, run))
        .collect()
}

fn client(server: &Server, api_key: &str) -> Client {
    Client::builder().api_key(api_key).base_url(&server.url).build()
}

/// Runs what the library does to its end.
fn done<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// A page as the library handed it out, in the API's words again.
struct Seen {
    items: Vec<Value>,
    after: Option<String>,
}

fn seen<T: Serialize>(data: &[T], after: Option<String>) -> Seen {
    Seen { items: data.iter().map(|item| serde_json::to_value(item).unwrap()).collect(), after }
}

fn text(with: &Value, name: &str) -> Option<String> {
    with[name].as_str().map(str::to_owned)
}

#[allow(deprecated, reason = "`domain` is still sent")]
async fn list(client: &Client, kind: &str, with: &Value) -> Result<Seen, Error> {
    let (before, after, limit) =
        (text(with, "before"), text(with, "after"), with["limit"].as_i64().or(Some(10)));
    let order = text(with, "order").map(Into::into);
    let sync = client.directory_sync();
    match kind {
        "directories" => {
            let (organization_id, search, domain) =
                (text(with, "organization_id"), text(with, "search"), text(with, "domain"));
            let params = ListDirectoriesParams {
                before,
                after,
                limit,
                order,
                organization_id,
                search,
                domain,
            };
            sync.list_directories(params)
                .await
                .map(|page| seen(&page.data, page.list_metadata.after))
        }
        "users" => {
            let (directory, group) = (text(with, "directory"), text(with, "group"));
            let (idp_id, email) = (text(with, "idp_id"), text(with, "email"));
            let params =
                ListUsersParams { before, after, limit, order, directory, group, idp_id, email };
            sync.list_users(params).await.map(|page| seen(&page.data, page.list_metadata.after))
        }
        "groups" => {
            let params = ListGroupsParams {
                before,
                after,
                limit,
                order,
                directory: text(with, "directory"),
                user: text(with, "user"),
            };
            sync.list_groups(params).await.map(|page| seen(&page.data, page.list_metadata.after))
        }
        "events" => {
            let names = with["events"]
                .as_array()
                .unwrap()
                .iter()
                .map(|name| name.as_str().unwrap().to_owned())
                .collect();
            let (range_start, range_end) = (text(with, "range_start"), text(with, "range_end"));
            let organization_id = text(with, "organization_id");
            // The library asks for the newest first unless told otherwise; the server's order is
            // the log's.
            let params = ListEventsParams {
                before,
                after,
                limit,
                range_start,
                range_end,
                organization_id,
                ..ListEventsParams::new(names)
            };
            client
                .events()
                .list_events(params)
                .await
                .map(|page| seen(&page.data, page.list_metadata.after))
        }
        _ => panic!("no list of {kind}"),
    }
}

async fn get(client: &Client, kind: &str, id: &str) -> Result<Value, Error> {
    let sync = client.directory_sync();
    let value = match kind {
        "directory" => serde_json::to_value(sync.get_directory(id).await?),
        "user" => serde_json::to_value(sync.get_user(id).await?),
        "group" => serde_json::to_value(sync.get_group(id).await?),
        _ => panic!("no {kind}"),
    };
    Ok(value.unwrap())
}

/// Returns the part of `seen` under the keys of `expected`; the library leaves out what is null.
fn part(seen: &Value, expected: &Value) -> Value {
    match (seen, expected) {
        (Value::Array(seen), Value::Array(expected)) if seen.len() == expected.len() => {
            seen.iter().zip(expected).map(|(seen, expected)| part(seen, expected)).collect()
        }
        (Value::Object(seen), Value::Object(expected)) => expected
            .iter()
            .map(|(name, value)| {
                (name.clone(), part(seen.get(name).unwrap_or(&Value::Null), value))
            })
            .collect(),
        _ => seen.clone(),
    }
}

fn reads(table: &str) {
    let server = scripts::fed();
    let client = client(&server, API_KEY);
    for question in scripts::table(table) {
        if let Some(kind) = question["get"].as_str() {
            let seen = done(get(&client, kind, question["id"].as_str().unwrap())).unwrap();
            assert_eq!(part(&seen, &question["is"]), question["is"], "{}", question["because"]);
            continue;
        }
        let page =
            done(list(&client, question["list"].as_str().unwrap(), &question["with"])).unwrap();
        let ids: Vec<&Value> = page.items.iter().map(|item| &item["id"]).collect();
        assert_eq!(
            ids,
            question["ids"].as_array().unwrap().iter().collect::<Vec<_>>(),
            "{question}"
        );
        if let Some(after) = question.get("after") {
            assert_eq!(page.after.as_deref(), after.as_str(), "{question}");
        }
        for (item, expected) in
            page.items.iter().zip(question["is"].as_array().into_iter().flatten())
        {
            assert_eq!(&part(item, expected), expected, "{question}");
        }
    }
}

fn pages() {
    let server = Server::start();
    let (directory, mut ids) = scripts::crowd(&server);
    let client = client(&server, API_KEY);
    for order in ["asc", "desc"] {
        let params = ListUsersParams {
            directory: Some(directory.clone()),
            order: Some(order.into()),
            ..Default::default()
        };
        let users: Vec<_> =
            done(client.directory_sync().list_users_auto_paging(params).try_collect()).unwrap();
        assert_eq!(users.iter().map(|user| user.id.clone()).collect::<Vec<_>>(), ids, "{order}");
        ids.reverse();
    }
}

fn pages_events() {
    let server = Server::start();
    scripts::crowd(&server);
    let client = client(&server, API_KEY);
    let params = ListEventsParams::new(vec!["dsync.user.created".into()]);
    let events: Vec<_> =
        done(client.events().list_events_auto_paging(params).try_collect()).unwrap();
    let expected: Vec<String> =
        (0..scripts::MANY).map(|at| format!("event_01JC{at:022}")).collect();
    assert_eq!(events.iter().map(|event| event.id.clone()).collect::<Vec<_>>(), expected);
}

#[track_caller]
fn refused<T>(result: Result<T, Error>, status: u16, code: &str, message: &str) -> Error {
    let error = result.err().unwrap();
    let api = error.api().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(
        (api.status, api.code.as_deref(), api.message.as_str()),
        (status, Some(code), message)
    );
    let id = api.request_id.as_deref().unwrap();
    assert!(
        id.strip_prefix("req_")
            .is_some_and(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())),
        "{id}"
    );
    error
}

fn errors() {
    let server = scripts::fed();
    let stranger = client(&server, "sk_wrong");
    let unauthorized = done(stranger.directory_sync().list_directories(Default::default()));
    assert!(refused(unauthorized, 401, "unauthorized", "Unauthorized").is_unauthorized());
    let client = client(&server, API_KEY);
    for (kind, called) in
        [("directory", "Directory"), ("user", "Directory User"), ("group", "Directory Group")]
    {
        let error = refused(
            done(get(&client, kind, "nobody")),
            404,
            "entity_not_found",
            &format!("{called} not found: 'nobody'."),
        );
        assert!(error.is_not_found());
    }
    refused(
        done(client.directory_sync().list_users(Default::default())),
        422,
        "validation_failed",
        "Validation failed",
    );
    refused(
        done(client.directory_sync().list_groups(Default::default())),
        422,
        "validation_failed",
        "Validation failed",
    );
}

fn event_errors() {
    let server = scripts::fed();
    let client = client(&server, API_KEY);
    let message = "One or more event names (e.g. dsync.user.created) must be provided using the \
                   events parameter.";
    refused(
        done(client.events().list_events(ListEventsParams::new(vec![]))),
        400,
        "invalid_events_request",
        message,
    );
    let params = || ListEventsParams::new(vec!["dsync.user.created".into()]);
    let unknown = ListEventsParams { after: Some("event_unheard_of".into()), ..params() };
    refused(done(client.events().list_events(unknown)), 422, "cursor_invalid", "Validation failed");
    let (range_start, range_end) =
        (Some("2026-02-01T00:00:00Z".into()), Some("2026-01-01T00:00:00Z".into()));
    let backwards = ListEventsParams { range_start, range_end, ..params() };
    refused(
        done(client.events().list_events(backwards)),
        422,
        "validation_failed",
        "Validation failed",
    );
}

fn odd_ids() {
    let server = Server::with(&story("odd.jsonl"));
    let client = client(&server, API_KEY);
    let [directory, user, group] = ODD;
    for (kind, id) in [("directory", directory), ("user", user), ("group", group)] {
        assert_eq!(done(get(&client, kind, id)).unwrap()["id"], id);
    }
    for (kind, with, id) in
        [("users", "directory", user), ("users", "group", user), ("groups", "user", group)]
    {
        let value = ODD
            .into_iter()
            .find(|odd| odd.starts_with(&format!("directory_{with}_")) || with == "directory")
            .unwrap();
        let page = done(list(&client, kind, &serde_json::json!({with: value}))).unwrap();
        assert_eq!(page.items.iter().map(|item| &item["id"]).collect::<Vec<_>>(), [id]);
    }
}

fn verifies() {
    let (deliveries, stale) = scripts::deliveries();
    let verifier = WebhookVerifier::new(SECRET);
    let refused = |header: &str, body: &str, why: &str| match verifier.construct_event(header, body)
    {
        Err(Error::Webhook(message)) => assert_eq!(message, why),
        other => panic!("{other:?}"),
    };
    for delivery in &deliveries {
        let event = verifier.construct_event(&delivery.header, &delivery.body).unwrap();
        let sent: Value = serde_json::from_str(&delivery.body).unwrap();
        assert_eq!(
            (event.id.as_str(), event.event.as_str()),
            (sent["id"].as_str().unwrap(), sent["event"].as_str().unwrap())
        );
        refused(
            &delivery.header,
            &delivery.body.replacen("2026", "2027", 1),
            "no valid signature found",
        );
    }
    refused(&stale.header, &stale.body, "timestamp outside tolerance");
}

/// Reads on after an event, to the end.
fn tail(server: &Server, names: &[&str], after: Option<&str>) -> Vec<(String, String)> {
    let client = client(server, API_KEY);
    let mut after = after.map(str::to_owned);
    let mut read = Vec::new();
    loop {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let params = ListEventsParams {
            after: after.clone(),
            limit: Some(7),
            ..ListEventsParams::new(names)
        };
        let page = done(client.events().list_events(params)).unwrap();
        read.extend(page.data.into_iter().map(|event| (event.id, event.event)));
        after = read.last().map(|(id, _)| id.clone()).or(after);
        if page.list_metadata.after.is_none() {
            return read;
        }
    }
}

fn tails() {
    let mut events = lines(&story("events.jsonl"));
    events.reverse();
    let names = scripts::TEN_TYPES;
    let read = scripts::tailed(&events, |server, after| tail(server, &names, after));
    assert_eq!(read, listed(&events, &names));
}

fn reads_every_story() {
    let events = scripts::all_stories();
    let also = [
        "dsync.deactivated",
        "dsync.token.created",
        "dsync.token.revoked",
        "connection.activated",
        "organization.updated",
        "session.created",
    ];
    let names: Vec<&str> = scripts::TEN_TYPES.into_iter().chain(also).collect();
    let read = scripts::tailed(&events, |server, after| tail(server, &names, after));
    assert_eq!(read, listed(&events, &names));
}
