//! `rollcall config example`: every setting with its meaning, in a file that can be used.

use super::settings::{Holds, SETTINGS, Setting};

/// The widest line of a comment, in characters.
const WIDTH: usize = 96;

const HEAD: &str = "\
# The configuration of `rollcall serve`: `rollcall serve --config rollcall.toml`, or the variable
# ROLLCALL_CONFIG. An option or a variable of the same meaning goes before a value here. Remove
# the `# ` in front of a key to set it. `rollcall config check` finds every mistake. `kill -HUP`
# makes a running server read the file again; it takes what is marked with `reload`.
";

const KEYS: &str = "
# Keys with limited rights, one table each (reload). `rollcall key new` makes a key and prints its
# table. `scopes` lists some of read (the present), audit (the past, histories, proofs, events),
# operate (every act) and ingest (import). The other keys may be left out: `organizations` binds the
# key to organizations, `expires_at` is the time from which it is refused, and `rate_limit` the
# number of requests in a minute.
# [[keys]]
# name = \"login\"
# sha256 = \"0b6e5c4f6d7a3f1f7f0c52d9a5c3a84c3e9d7b1c2a4f5e6d7c8b9a0f1e2d3c4b\"
# scopes = [\"read\"]
# organizations = [\"org_01K33SRHPWWZ1Q313AXTSCGDJ0\"]
# expires_at = \"2027-01-01T00:00:00Z\"
# rate_limit = 6000
";

const ENDPOINTS: &str = "
# Receivers of webhooks, one table each (reload). `name` and `url` are needed, and the secret that
# signs, in a file or a variable. The other keys may be left out: `format` is workos or standard,
# `events` are globs, `organizations` bounds what is sent, `from` is now, start or the number of a
# record and counts once, `ordered = false` sends up to `max_in_flight` at once, in order for each
# user, and `allow_private` lets the receiver be in your own network, also over http.
# [[endpoints]]
# name = \"app\"
# url = \"https://app.example.com/webhooks\"
# secret_file = \"/etc/rollcall/app-secret\"
# format = \"workos\"
# events = [\"dsync.*\", \"rollcall.access.*\", \"rollcall.role.*\"]
# organizations = [\"org_01K33SRHPWWZ1Q313AXTSCGDJ0\"]
# from = \"now\"
# ordered = true
# max_in_flight = 16
# allow_private = false
";

/// Returns the example.
pub(super) fn text() -> String {
    let mut text = HEAD.to_owned();
    SETTINGS.iter().for_each(|setting| text.push_str(&lines(setting)));
    text + KEYS + ENDPOINTS
}

/// Returns the lines of a setting. Each begins with `#`, so that the example changes nothing.
fn lines(setting: &Setting) -> String {
    let mut about = format!("{}.", setting.about);
    if !setting.default.is_empty() && setting.default != "false" {
        about.push_str(&format!(" Default: {}.", setting.default));
    }
    if setting.reloads {
        about.push_str(" (reload)");
    }
    let mut lines = format!("\n{}", wrapped(&about));
    match setting.holds {
        Holds::Secrets(variables) => {
            let name = setting.name;
            lines.push_str(&format!("# {name}_file = {}\n", setting.example));
            lines.push_str("# or, in place of the file, the name of a variable that holds them:\n");
            let variable = variables.first().copied().unwrap_or_default();
            lines.push_str(&format!("# {name}_env = \"{variable}\"\n"));
        }
        _ => lines.push_str(&format!("# {} = {}\n", setting.name, setting.example)),
    }
    lines
}

/// Wraps a text into comments.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::from("#")];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("# {word}")),
        }
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::{Args, Command, FromArgMatches};

    use super::super::document::{Fields, Mistakes, Source};
    use super::super::given::Flags;
    use super::*;

    /// Returns the mistakes of form and type in a file.
    fn mistakes(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rollcall.toml");
        std::fs::write(&file, text).unwrap();
        let command = Flags::augment_args(Command::new("serve"));
        let arguments = ["serve".into(), "--config".into(), OsString::from(&file)];
        let flags = Flags::from_arg_matches(&command.get_matches_from(arguments)).unwrap();
        let mut mistakes = Mistakes::default();
        let given = flags.gather(&mut mistakes);
        mistakes.extend(&given.endpoint_mistakes);
        let faults = given.resolved.iter().flat_map(|resolved| {
            // A folder or a file of this machine is not part of the form.
            let held = |text: &str| resolved.setting.holds.fault(text);
            resolved.values.iter().filter_map(move |spot| held(spot.value.to_str().unwrap()))
        });
        let faults: Vec<String> = faults.collect();
        let form = mistakes.sentences().iter();
        let form =
            form.filter(|says| !says.contains("cannot be read") && !says.contains("not set"));
        form.cloned().chain(faults).collect()
    }

    fn uncommented(line: &str) -> String {
        line.strip_prefix("# ").unwrap_or(line).to_owned()
    }

    /// Returns true for a comment that is a key or a table.
    fn is_toml(line: &str) -> bool {
        let word =
            |text: &str| text.chars().all(|c| c.is_ascii_lowercase() || "_.0123456789".contains(c));
        let line = uncommented(line);
        ["[[keys]]", "[[endpoints]]"].contains(&&*line)
            || line.split_once(" = ").is_some_and(|(key, _)| word(key))
    }

    #[test]
    fn every_line_of_the_example_can_be_read() {
        let example = text();
        assert_eq!(mistakes(&example), [""; 0], "as it is, it changes nothing");
        let mut keys = Vec::new();
        for line in example.lines().filter(|line| is_toml(line)) {
            let alone = uncommented(line);
            keys.push(alone.split(" = ").next().unwrap_or_default().to_owned());
            let in_keys = example.find("[[keys]]") < example.find(line);
            if !in_keys {
                assert_eq!(mistakes(&alone), [""; 0], "{alone}");
            }
        }
        for setting in SETTINGS {
            for key in setting.file_keys() {
                assert!(keys.contains(&key), "the example lacks {key}");
            }
        }
        for (begin, lines) in [("# [[keys]]", 7), ("# [[endpoints]]", 11)] {
            let table: String = example
                .lines()
                .skip_while(|line| *line != begin)
                .take_while(|line| !line.is_empty())
                .map(|line| uncommented(line) + "\n")
                .collect();
            assert_eq!(mistakes(&table), [""; 0], "{table}");
            assert_eq!(table.lines().count(), lines);
        }
    }

    #[test]
    fn the_whole_example_without_its_marks_is_one_configuration() {
        let whole: String = text()
            .lines()
            .filter(|line| !line.contains("_env = "))
            .map(|line| if is_toml(line) { uncommented(line) } else { line.to_owned() } + "\n")
            .collect();
        assert_eq!(mistakes(&whole), [""; 0]);
        let source = Source::of("x".into(), whole);
        let table = source.parse(&mut Mistakes::default()).unwrap();
        let fields = Fields { source: &source, table: &table };
        let dotted = SETTINGS.iter().filter(|setting| setting.name.contains('.')).count();
        let tables = "archive pull postgres keys endpoints".split(' ').count();
        assert_eq!(fields.table.len(), SETTINGS.len() - dotted + tables);
    }

    #[test]
    fn no_line_of_the_example_is_wider_than_a_page() {
        for line in text().lines() {
            assert!(line.chars().count() <= 100, "{line}");
        }
    }

    /// Returns the rows of docs/configuration.md.
    fn docs_rows() -> String {
        let code = |texts: &[String]| -> String {
            let texts: Vec<String> = texts.iter().map(|text| format!("`{text}`")).collect();
            texts.join(", ")
        };
        let row = |setting: &Setting| {
            let flag = setting.flag.map(|flag| format!("--{flag}"));
            let default = Some(setting.default.to_owned()).filter(|default| !default.is_empty());
            format!(
                "| {} | {} | {} | {} | {} | {}. |\n",
                code(&setting.file_keys()),
                code(flag.as_slice()),
                code(&setting.variables()),
                code(default.as_slice()),
                if setting.reloads { "yes" } else { "" },
                setting.about.replace('|', "\\|"),
            )
        };
        SETTINGS.iter().map(row).collect()
    }

    #[test]
    fn the_docs_have_every_setting() {
        let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/configuration.md");
        let rows = docs_rows();
        assert!(
            std::fs::read_to_string(docs).unwrap().contains(&rows),
            "the table must be:\n{rows}"
        );
    }
}
