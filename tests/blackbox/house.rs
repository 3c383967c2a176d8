//! The rules of the source tree: which part may depend on which, and where an event type is named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rollcall_generator::{EventPlan, ForgeError};
use rollcall_projections::{EventSubject, EventType};

use crate::kit::histories::EVENT_TYPES;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// Every Rust source below `folder`, with its path from the root.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found
}

/// The sources, comments left out, that hold one of `words`.
fn naming(words: &[&str]) -> Vec<String> {
    let folders = ["src", "projections/src", "generator/src"];
    let mut named: Vec<String> = folders
        .into_iter()
        .flat_map(|folder| sources(&root().join(folder)))
        .filter(|(_, text)| {
            text.lines()
                .filter(|line| !line.trim_start().starts_with("//"))
                .any(|line| words.iter().any(|word| line.contains(word)))
        })
        .map(|(name, _)| name)
        .collect();
    named.sort();
    named
}

#[test]
fn only_the_store_names_sled() {
    assert_eq!(naming(&["sled::"]), ["src/log/store.rs", "src/log/store/threads.rs"]);
}

#[test]
fn only_http_names_actix_web_and_the_command_that_runs_it_its_runtime() {
    let mut named = naming(&["actix_web::", "actix_web;"]);
    named.retain(|name| !name.starts_with("src/http/"));
    assert_eq!(named, ["src/cli/running.rs"]);
    let running = fs::read_to_string(root().join("src/cli/running.rs")).unwrap();
    let other = running
        .lines()
        .filter(|line| line.contains("actix_web") && !line.contains("actix_web::rt::"))
        .count();
    assert_eq!(other, 0);
}

#[test]
fn only_the_edges_know_the_engine_and_none_knows_the_store() {
    let mut named = naming(&["engine::", "Engine"]);
    named.retain(|name| {
        ![
            "src/archive/",
            "src/delivery/",
            "src/http/",
            "src/cli/",
            "src/engine/",
            "src/sink/",
            "src/sources/",
            "generator/",
        ]
        .iter()
        .any(|folder| name.starts_with(folder))
    });
    assert_eq!(named, [""; 0]);
    assert_eq!(
        naming(&["log::store", "SledLog"]),
        [
            "src/log/deferred.rs",
            "src/log/disk_log.rs",
            "src/log/mod.rs",
            "src/log/open.rs",
            "src/log/scrub.rs",
            "src/log/sled_log.rs"
        ]
    );
}

#[test]
fn one_place_reads_the_clock() {
    assert_eq!(naming(&["Utc::now", "SystemTime", "Local::now", "clock_gettime"]), ["src/time.rs"]);
}

#[test]
fn the_fold_can_name_no_clock_file_socket_or_chance() {
    for (name, text) in sources(&root().join("projections/src")) {
        let forbidden = [
            "std::fs",
            "std::net",
            "std::time",
            "std::thread",
            "std::env",
            "std::io",
            "std::process",
            "std::sync",
            "RandomState",
            "unsafe",
        ];
        for word in forbidden {
            assert!(!text.contains(word), "{name} names {word}");
        }
    }
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--package",
            "rollcall-projections",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let mut crates: Vec<String> = String::from_utf8(tree.stdout)
        .unwrap()
        .lines()
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    crates.sort();
    crates.dedup();
    assert_eq!(crates, ["hashbrown", "rollcall-projections", "rustc-hash", "smallvec"]);
}

#[test]
fn a_log_takes_nothing_but_what_was_verified() {
    // Each proof has a constructor of its own; an observation and the end of a run share one.
    let origins = ["mod", "operator", "origin", "scim"].map(|name| format!("src/verify/{name}.rs"));
    let constructors = [1, 2, 3, 1];
    for (file, count) in origins.iter().zip(constructors) {
        let verify = fs::read_to_string(root().join(file)).unwrap();
        assert_eq!(verify.matches("Verified::proven(").count(), count, "{file}");
    }
    assert_eq!(naming(&["Verified::proven("]), origins);
    assert_eq!(naming(&["Verified { source"]), ["src/verify/mod.rs"]);
    // A log has taken these records before: those of a restore, what is left of a damaged store, and,
    // in a test, the first records of another log.
    let recorded = ["src/engine/scim/unfinished.rs", "src/log/filling.rs", "src/log/remaining.rs"];
    assert_eq!(naming(&["Verified::recorded("]), recorded);
}

/// The layers of the projections, lowest first. Those of one layer do not know each other.
const LAYERS: [&[&str]; 6] =
    [&["ground"], &["state"], &["views"], &["judge"], &["sight"], &["fold", "ask"]];

/// Returns the number of a module's layer.
fn layer(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|modules| modules.contains(&module))
        .unwrap_or_else(|| panic!("no layer has the module `{module}`"))
}

/// Returns the names that follow `prefix` in a source, comments left out.
fn names_after<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .flat_map(|line| line.split(prefix).skip(1))
        .map(|rest| {
            rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default()
        })
        .collect()
}

#[test]
fn each_layer_of_the_projections_knows_only_those_below_it() {
    for (name, text) in sources(&root().join("projections/src")) {
        let path = name.strip_prefix("projections/src/").unwrap();
        let module = path.split(['/', '.']).next().unwrap();
        if module == "lib" {
            continue;
        }
        for other in names_after(&text, "crate::") {
            assert!(
                other == module || layer(other) < layer(module),
                "{name} uses `{other}`, which is not below `{module}`"
            );
        }
    }
}

#[test]
fn the_plumbing_of_http_knows_no_call_and_no_call_knows_another() {
    for (name, text) in sources(&root().join("src/http/wire")) {
        assert!(!text.contains("calls::"), "{name} names a call");
    }
    let calls = sources(&root().join("src/http/calls"));
    // A call of several files has a folder.
    let module = |name: &'_ str| -> String {
        let name = name.strip_prefix("src/http/calls/").unwrap();
        name.split(['/', '.']).next().unwrap().to_owned()
    };
    let modules: Vec<String> = calls.iter().map(|(name, _)| module(name)).collect();
    for ((name, text), own) in calls.iter().zip(&modules).filter(|(_, own)| *own != "mod") {
        assert!(!text.contains("calls::"), "{name} names the calls by their module");
        let is_whole = name.matches('/').count() == 3;
        for other in names_after(text, "super::").into_iter().filter(|_| is_whole) {
            let is_call = modules.iter().any(|module| module == other);
            assert!(other == own || !is_call, "{name} uses the call `{other}`");
        }
    }
}

/// Returns true if the schema of an event has a shape for the data of this type.
fn has_schema(schema: &serde_json::Value, name: &str) -> bool {
    schema["allOf"].as_array().unwrap().iter().any(|case| {
        let event = &case["if"]["properties"]["event"];
        let is_token = event["pattern"] == "^dsync\\.token\\." && name.starts_with("dsync.token.");
        event["const"] == name || is_token
    })
}

#[test]
fn each_event_type_is_known_everywhere() {
    let semantics = read("docs/semantics.md");
    let schema = serde_json::from_str(&read("tests/schemas/event.json")).unwrap();
    let model = read("tests/blackbox/kit/model/mod.rs");
    let story = read("fixtures/0002-every-event-type/events.jsonl");
    for event_type in EventType::ALL {
        let name = event_type.name();
        assert!(semantics.contains(&format!("`{name}`")), "docs/semantics.md lacks `{name}`");
        assert!(EVENT_TYPES.contains(&name), "kit/histories.rs: EVENT_TYPES lacks `{name}`");
        if event_type.is_own() {
            continue;
        }
        assert!(has_schema(&schema, name), "tests/schemas/event.json lacks `{name}`");
        let plan = EventPlan { event: name.to_owned(), ..EventPlan::default() };
        assert!(
            matches!(plan.forge(0, 0), Err(ForgeError::Missing { .. })),
            "generator/src/forge.rs knows no field of `{name}`"
        );
        let line = format!("\"event\":\"{name}\"");
        assert!(story.contains(&line), "fixtures/0002-every-event-type lacks `{name}`");
        if event_type.subject() != EventSubject::Token {
            assert!(model.contains(&format!("\"{name}\"")), "kit/model/mod.rs lacks `{name}`");
        }
    }
}
