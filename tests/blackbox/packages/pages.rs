//! docs/operations.md: its alarms are those of docs/alerts.yml, and its refusals those of the
//! sources.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::packages::files::{read, root};

/// Returns every Rust source below `folder` in one text, with each literal that goes on over lines
/// on one line.
fn sources(folder: &Path) -> String {
    let mut all = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.push_str(&sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.push_str(&on_one_line(&fs::read_to_string(&path).unwrap()));
        }
    }
    all
}

fn on_one_line(source: &str) -> String {
    let mut parts = source.split("\\\n");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.trim_start())
}

/// Returns the part of the page below a heading, up to the next of its level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let below = page.split_once(&format!("\n{heading}\n")).unwrap().1;
    let level = heading.split(' ').next().unwrap();
    below.split(&format!("\n{level} ")).next().unwrap()
}

/// Returns the messages in the first column of the tables, each by its parts: between them is
/// something that varies.
fn messages(page: &str) -> Vec<Vec<String>> {
    let rows = section(page, "## Refusals to start").lines();
    let cells = rows.filter_map(|line| Some(line.strip_prefix("| `")?.split_once("` |")?.0));
    cells.map(parts).collect()
}

fn parts(message: &str) -> Vec<String> {
    let parts = message.split('…').map(|part| part.trim().to_owned());
    parts.filter(|part| !part.is_empty()).collect()
}

#[test]
fn each_refusal_of_the_page_is_a_message_of_the_sources() {
    let page = read("docs/operations.md");
    let sources = sources(&root().join("src"));
    let messages = messages(&page);
    assert!(messages.len() >= 30, "{} messages were found", messages.len());
    for part in messages.iter().flatten() {
        assert!(sources.contains(part.as_str()), "no message has `{part}`");
    }
}

/// Returns the literals that follow `mark` in a source.
fn literals<'a>(source: &'a str, mark: &str) -> Vec<&'a str> {
    source.split(mark).skip(1).filter_map(literal).collect()
}

/// Returns the literal with which a text begins. The declaration of an error, or of a mistake,
/// begins with its message.
fn literal(text: &str) -> Option<&str> {
    let text = text.trim_start().trim_start_matches("format!(").trim_start();
    text.strip_prefix('"')?.split('"').next()
}

/// Returns what does not vary in a message.
fn fixed(message: &str) -> String {
    message.split('{').map(|part| part.rsplit('}').next().unwrap_or_default()).collect()
}

#[test]
fn each_reason_not_to_open_a_folder_or_key_and_not_to_take_settings_is_on_the_page() {
    let page = read("docs/operations.md");
    let messages = messages(&page);
    let mut count = 0;
    for (file, mark) in [
        ("src/log/open.rs", "#[error("),
        ("src/notary/key.rs", "#[error("),
        ("src/log/fork.rs", "#[error("),
        ("src/trust.rs", "#[error("),
        ("src/http/mod.rs", "#[error("),
        ("src/http/listen.rs", "Err("),
        ("src/keys/mod.rs", "#[error("),
        ("src/cli/running.rs", "Failure::Ours("),
        ("src/cli/secrets.rs", "format!("),
        ("src/cli/secrets.rs", "Err("),
        ("src/cli/config/judge.rs", "add_whole("),
        ("src/cli/config/judge.rs", "format!("),
        ("src/cli/config/judge.rs", "format_args!("),
        ("src/cli/config/document.rs", "format!("),
        ("src/cli/config/document.rs", "format_args!("),
        ("src/cli/config/given.rs", "format!("),
        ("src/cli/config/given.rs", "Err("),
        ("src/cli/config/keys.rs", "format_args!("),
        ("src/cli/config/keys.rs", "format!("),
    ] {
        let source = on_one_line(&read(file));
        let source = source.split("#[cfg(test)]\nmod").next().unwrap();
        for message in literals(source, mark) {
            // Texts that only put others together, and ends of others, say nothing of themselves.
            let letters = fixed(message).chars().filter(|c| c.is_alphabetic()).count();
            let is_end = message.starts_with("did you mean") || message == "the command panicked";
            let is_shown = |parts: &Vec<String>| parts.iter().all(|part| message.contains(part));
            assert!(
                letters < 10 || is_end || messages.iter().any(is_shown),
                "docs/operations.md lacks the refusal of {file}: {message}"
            );
            count += 1;
        }
    }
    assert!(count >= 60, "{count} messages were found");
}

#[test]
fn each_alarm_has_a_section_and_each_section_an_alarm() {
    let rules = read("docs/alerts.yml");
    let alarms = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let alarms: BTreeSet<&str> = alarms.collect();
    let page = read("docs/operations.md");
    let sections = section(&page, "## Alarms").lines();
    let sections: BTreeSet<&str> = sections.filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(sections, alarms);
}
