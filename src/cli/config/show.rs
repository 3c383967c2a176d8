//! `rollcall config show`: every value and where it comes from, without secrets.

use serde_json::{Value, json};

use super::document::{Mistakes, Origin, Spot};
use super::endpoints::EndpointSpot;
use super::given::{Given, Resolved};
use super::keys::KeySpot;
use super::settings::Holds;
use crate::cli::client::without_secrets;
use crate::cli::table::{Column, draw_within};
use crate::keys::ApiKey;
use crate::time;
use crate::verify::Keyring;

/// Returns the text of the command, as a table or as one object of JSON.
pub(super) fn text(given: &Given, mistakes: &Mistakes, as_json: bool) -> String {
    if as_json {
        return format!("{:#}\n", object(given, mistakes));
    }
    let columns = [Column::key("setting"), Column::whole("value"), Column::whole("from")];
    let rows: Vec<Vec<String>> = given.resolved.iter().flat_map(rows).collect();
    let mut text = draw_within(None, &columns, true, &rows);
    if !given.keys.is_empty() {
        let columns = [
            "[[keys]]",
            "fingerprint",
            "scopes",
            "organizations",
            "expires at",
            "rate limit",
            "from",
        ];
        let rows: Vec<Vec<String>> = given.keys.iter().map(key_row).collect();
        text.push('\n');
        text.push_str(&draw_within(None, &columns.map(Column::whole), true, &rows));
    }
    if !given.endpoints.is_empty() {
        let columns =
            ["[[endpoints]]", "url", "format", "events", "organizations", "in flight", "from"];
        let rows: Vec<Vec<String>> = given.endpoints.iter().map(endpoint_row).collect();
        text.push('\n');
        text.push_str(&draw_within(None, &columns.map(Column::whole), true, &rows));
    }
    text
}

/// Returns one row for each value, or one that says that there is none.
fn rows(resolved: &Resolved) -> Vec<Vec<String>> {
    let name = resolved.setting.name.to_owned();
    if resolved.values.is_empty() {
        return vec![vec![name, "-".into(), Origin::Default.to_string()]];
    }
    let values = resolved.values.iter();
    values.map(|spot| vec![name.clone(), value(resolved, spot), spot.at.to_string()]).collect()
}

/// Returns a value as it may be shown. Of a secret that is its fingerprint.
fn value(resolved: &Resolved, spot: &Spot<std::ffi::OsString>) -> String {
    let text = spot.value.to_string_lossy();
    match (resolved.setting.holds, resolved.setting.name) {
        (Holds::Secrets(_), "api_keys") => ApiKey::unrestricted(&text).fingerprint(),
        // They are where secrets are, and say only where the bucket is.
        (Holds::Secrets(_), "archive.endpoint_url" | "archive.region") => without_secrets(&text),
        (Holds::Secrets(_), _) => secret_name(&text),
        (holds, _) => holds.shown(&text),
    }
}

/// Returns the fingerprint of a webhook secret, as records name it.
pub(super) fn secret_name(secret: &str) -> String {
    Keyring::new([secret], 0).fingerprints().concat()
}

fn key_row(spot: &KeySpot) -> Vec<String> {
    let key = &spot.key;
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.word()).collect();
    vec![
        key.name(),
        key.fingerprint(),
        scopes.join(", "),
        key.organizations.as_ref().map_or("all".into(), |ids| ids.join(", ")),
        key.expires_at.map_or("never".into(), time::format),
        key.rate_limit.map_or("none".into(), |limit| format!("{limit} a minute")),
        spot.at.to_string(),
    ]
}

fn endpoint_row(EndpointSpot { settings, at }: &EndpointSpot) -> Vec<String> {
    vec![
        settings.name.clone(),
        settings.plain_url(),
        settings.signer.format().word().into(),
        settings.wanted.events.join(", "),
        settings.wanted.organizations.as_ref().map_or("all".into(), |ids| ids.join(", ")),
        settings.max_in_flight.to_string(),
        at.to_string(),
    ]
}

fn endpoint_object(EndpointSpot { settings, at }: &EndpointSpot) -> Value {
    json!({
        "name": settings.name,
        "url": settings.plain_url(),
        "secret": settings.signer.fingerprint(),
        "format": settings.signer.format().word(),
        "events": settings.wanted.events,
        "organizations": settings.wanted.organizations,
        "begins": settings.from.to_string(),
        "ordered": settings.ordered,
        "max_in_flight": settings.max_in_flight,
        "allow_private": settings.allow_private,
        "from": at.to_string(),
    })
}

fn object(given: &Given, mistakes: &Mistakes) -> Value {
    let settings = given.resolved.iter().map(|resolved| {
        let values = resolved.values.iter();
        let values: Vec<Value> = values
            .map(|spot| json!({ "value": value(resolved, spot), "from": spot.at.to_string() }))
            .collect();
        (resolved.setting.name.to_owned(), Value::Array(values))
    });
    let keys = given.keys.iter().map(|KeySpot { key, at }| {
        json!({
            "name": key.name(),
            "fingerprint": key.fingerprint(),
            "scopes": key.scopes.iter().map(|scope| scope.word()).collect::<Vec<_>>(),
            "organizations": key.organizations,
            "expires_at": key.expires_at.map(time::format),
            "rate_limit": key.rate_limit,
            "from": at.to_string(),
        })
    });
    json!({
        "file": given.file.as_ref().map(|file| file.display().to_string()),
        "settings": settings.collect::<serde_json::Map<_, _>>(),
        "keys": keys.collect::<Vec<_>>(),
        "endpoints": given.endpoints.iter().map(endpoint_object).collect::<Vec<_>>(),
        "mistakes": mistakes.sentences(),
    })
}
