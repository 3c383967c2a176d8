//! `[[keys]]`: keys with scopes, with the line of each mistake.

use super::document::{Fields, Mistakes, Origin, Spot};
use super::settings;
use crate::keys::{ApiKey, EntryFault, KeyEntry};

/// The words of a key's table.
const WORDS: [&str; 6] = ["name", "sha256", "scopes", "organizations", "expires_at", "rate_limit"];

/// A key with the place of its table.
#[derive(Clone)]
pub(in crate::cli) struct KeySpot {
    pub(in crate::cli) key: ApiKey,
    pub(super) at: Origin,
}

/// Reads every table of keys.
pub(super) fn read(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Vec<KeySpot> {
    let mut keys: Vec<KeySpot> = Vec::new();
    for Spot { value, at } in fields.tables("keys", mistakes) {
        let Some(key) = read_one(&value, &at, mistakes) else { continue };
        let same = |word, is_same: &dyn Fn(&ApiKey) -> bool| {
            keys.iter().find(|other| is_same(&other.key)).map(|other| (word, other.at.clone()))
        };
        let twice = same("name", &|other| other.name == key.name)
            .or_else(|| same("sha256", &|other| other.sha256 == key.sha256));
        match twice {
            Some((word, other)) => mistakes.add(
                &at,
                format_args!("the key at {other} has the same `{word}`: give each its own"),
            ),
            None => keys.push(KeySpot { key, at }),
        }
    }
    keys
}

fn read_one(fields: &Fields<'_>, at: &Origin, mistakes: &mut Mistakes) -> Option<ApiKey> {
    let said_so_far = mistakes.sentences().len();
    let mut known = WORDS.map(str::to_owned).to_vec();
    for name in settings::file_keys().filter(|name| fields.table.contains_key(name.as_str())) {
        mistakes
            .add(&fields.at(&name), format_args!("`{name}` belongs above the first `[[keys]]`"));
        known.push(name);
    }
    fields.refuse_unknown(&known, whole_key, mistakes);
    for word in ["name", "sha256", "scopes"] {
        if !fields.table.contains_key(word) {
            let says = format!("this key has no `{word}`; `rollcall key new` prints an entry");
            mistakes.add(at, says);
        }
    }
    let mut entry = entry(fields, mistakes);
    // A field with a mistake is replaced by a sound one, so that the next mistake shows as well.
    for _ in WORDS {
        match entry.read() {
            Ok(key) => return (mistakes.sentences().len() == said_so_far).then_some(key),
            Err(fault) => mend(&mut entry, &fault, fields, mistakes),
        }
    }
    None
}

/// Reads the words of a table. One that is missing or of a wrong type is replaced by a sound one.
fn entry(fields: &Fields<'_>, mistakes: &mut Mistakes) -> KeyEntry {
    let text = |name, mistakes: &mut Mistakes| fields.text(name, mistakes).map(|spot| spot.value);
    let texts = |name, mistakes: &mut Mistakes| -> Option<Vec<String>> {
        let found = fields.texts(name, mistakes)?;
        Some(found.into_iter().map(|spot| spot.value).collect())
    };
    let good = sound();
    KeyEntry {
        name: text("name", mistakes).unwrap_or(good.name),
        sha256: text("sha256", mistakes).unwrap_or(good.sha256),
        scopes: texts("scopes", mistakes).unwrap_or(good.scopes),
        organizations: texts("organizations", mistakes),
        expires_at: fields.moment("expires_at", mistakes).map(|spot| spot.value),
        rate_limit: rate_limit(fields, mistakes),
    }
}

/// Says what to do with a key that is written into the file whole.
fn whole_key(name: &str) -> Option<String> {
    (name == "key").then(|| {
        "the file holds only the key's SHA-256: `rollcall key new` makes a key and its entry".into()
    })
}

fn rate_limit(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Option<u32> {
    let spot = fields.number("rate_limit", mistakes)?;
    let limit = spot.value.parse().ok();
    if limit.is_none() {
        mistakes.add(&spot.at, "`rate_limit` must be a whole number of requests in a minute");
    }
    limit
}

/// Returns an entry without a mistake.
fn sound() -> KeyEntry {
    KeyEntry {
        name: "sound".into(),
        sha256: "0".repeat(64),
        scopes: vec!["read".into()],
        organizations: None,
        expires_at: None,
        rate_limit: None,
    }
}

/// Adds a mistake, and replaces its field by a sound one.
fn mend(entry: &mut KeyEntry, fault: &EntryFault, fields: &Fields<'_>, mistakes: &mut Mistakes) {
    mistakes.add(&fields.at(fault.field), fault);
    let good = sound();
    match fault.field {
        "name" => entry.name = good.name,
        "sha256" => entry.sha256 = good.sha256,
        "scopes" => entry.scopes = good.scopes,
        "organizations" => entry.organizations = None,
        "expires_at" => entry.expires_at = None,
        _ => entry.rate_limit = None,
    }
}
