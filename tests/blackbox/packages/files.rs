//! The files of packaging/, and the commands that they and the pages for operators name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::kit::server::{SECRET, Server, bare_command, binary};

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Reads a file of packaging/.
pub fn packaged(name: &str) -> String {
    read(&format!("packaging/{name}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Returns the values of a key in a unit, in their order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    let value = |line: &'a str| line.strip_prefix(key)?.strip_prefix('=');
    unit.lines().filter_map(value).collect()
}

/// Returns the variables that a text sets by lines with `prefix`, also in comments.
fn variables<'a>(text: &'a str, prefix: &str) -> BTreeMap<&'a str, &'a str> {
    let lines = text.lines().map(|line| line.trim_start_matches('#').trim());
    lines.filter_map(|line| line.strip_prefix(prefix)?.split_once('=')).collect()
}

fn assert_documented<'a>(names: impl IntoIterator<Item = &'a str>) {
    let configuration = read("docs/configuration.md");
    for name in names {
        let quoted = format!("`{name}`");
        let is_known = configuration.contains(&quoted) || name == "ROLLCALL_CONFIG";
        assert!(is_known || name == "ROLLCALL_URL", "docs/configuration.md lacks {quoted}");
    }
}

#[test]
fn the_unit_runs_a_server_that_starts() {
    let unit = packaged("systemd/rollcall.service");
    assert_documented(variables(&unit, "Environment=").into_keys());
    let start = values(&unit, "ExecStart");
    let arguments: Vec<&str> = start[0].split(' ').collect();
    assert_eq!((start.len(), arguments[0]), (1, "/usr/bin/rollcall"));

    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("webhook-secrets"), SECRET).unwrap();
    let key = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let entry = format!("[[keys]]\nname = \"a\"\nsha256 = \"{key}\"\nscopes = [\"read\"]\n");
    fs::write(path("rollcall.toml"), entry).unwrap();
    fs::create_dir(path("rollcall-key")).unwrap();
    // `config check` takes the options and variables of `serve`, and judges them as a start does.
    let mut command = bare_command(&["config", "check"]);
    command.args(&arguments[2..]);
    assert_eq!(arguments[1], "serve");
    for setting in values(&unit, "Environment") {
        let (name, value) = setting.split_once('=').unwrap();
        let value = value.replace("/etc/rollcall", &path(""));
        command.env(name, value.replace("%S", &path("")).replace("%d", &path("")));
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn systemd_finds_no_mistake_in_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rollcall.service");
    let unit = packaged("systemd/rollcall.service");
    let binary = binary();
    fs::write(&file, unit.replace("/usr/bin/rollcall", binary.to_str().unwrap())).unwrap();
    let analyze = |arguments: &[&str]| {
        let mut command = Command::new("systemd-analyze");
        command.args(arguments).arg(&file).env("SYSTEMD_LOG_LEVEL", "notice");
        command.stdin(Stdio::null()).output()
    };
    let Ok(verified) = analyze(&["verify", "--man=no"]) else {
        println!("skipped: systemd-analyze is missing");
        return;
    };
    assert!(verified.status.success(), "{}", said(&verified));
    // Of other units of the machine it may say anything; of this one nothing.
    assert!(!said(&verified).contains("rollcall.service:"), "{}", said(&verified));
    // 20 is an exposure of 2.0 of 10.
    let secured = analyze(&["security", "--offline=true", "--threshold=20", "--no-pager"]).unwrap();
    assert!(secured.status.success(), "{}", said(&secured));
}

#[test]
fn the_image_runs_commands_that_exist() {
    let file = packaged("container/Dockerfile");
    let lines: Vec<&str> = file.lines().map(|line| line.trim().trim_end_matches(" \\")).collect();
    let environment = lines.iter().map(|line| line.strip_prefix("ENV ").unwrap_or(line));
    let names = environment.filter_map(|line| Some(line.split_once('=')?.0));
    let names: Vec<&str> =
        names.filter(|name| name.starts_with("ROLLCALL_") && *name != "ROLLCALL_COMMIT").collect();
    assert!(names.len() >= 4, "{names:?}");
    assert_documented(names);
    assert_documented(
        packaged("container/compose.yaml")
            .lines()
            .filter_map(|line| line.trim().split_once(": "))
            .map(|(name, _)| name)
            .filter(|name| name.starts_with("ROLLCALL_"))
            .filter(|name| !["ROLLCALL_NAME", "ROLLCALL_UPSTREAM"].contains(name)),
    );
    let user = lines.iter().filter(|line| line.starts_with("USER ")).collect::<Vec<_>>();
    assert_eq!(user, [&"USER 65532:65532"]);

    // The check of health, as the container runs it.
    let check = lines.iter().find_map(|line| line.strip_prefix("CMD [\"/usr/bin/rollcall\", "));
    let words = check.unwrap().trim_end_matches(']').split(", ");
    let arguments: Vec<&str> = words.map(|word| word.trim_matches('"')).collect();
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let url = server.url.clone();
    let health = || bare_command(&arguments).env("ROLLCALL_URL", &url).output().unwrap();
    assert!(health().status.success(), "{}", said(&health()));
    assert_eq!(server.stop(), 0);
    assert_eq!(health().status.code(), Some(1), "{}", said(&health()));
}

/// Returns the parts of a Markdown text that are code: fenced blocks line by line, with lines that
/// end in a backslash joined, and inline code.
fn code(markdown: &str) -> Vec<String> {
    let (mut found, mut inside, mut begun) = (Vec::new(), false, String::new());
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if inside {
            match line.strip_suffix('\\') {
                Some(part) => begun.push_str(part),
                None => found.push(std::mem::take(&mut begun) + line),
            }
        } else {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// Returns the commands of Rollcall in a text, each with its options: `rollcall log-key show
/// --vkey` is `["log-key", "show", "--vkey"]`. Names in capitals, texts and paths are left out.
fn commands(markdown: &str) -> Vec<Vec<String>> {
    let is_word = |word: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !word.is_empty() && word.chars().all(plain)
    };
    let mut all = Vec::new();
    for line in code(markdown) {
        for part in line.split(['|', ';', '&', '(', ')', '>', '<']) {
            let words: Vec<&str> = part.split_whitespace().collect();
            let Some(at) =
                words.iter().position(|word| *word == "rollcall" || word.ends_with("/rollcall"))
            else {
                continue;
            };
            // `systemctl reload rollcall` and `chown rollcall` are no commands of Rollcall.
            let comes_first = words[..at]
                .iter()
                .all(|word| word.contains('=') || *word == "$" || *word == "sudo");
            let options = words[at + 1..].iter().map(|word| word.trim_end_matches(['.', ',']));
            let command: Vec<String> = options
                .map(|word| word.split('=').next().unwrap_or_default())
                .filter(|word| is_word(word))
                .map(str::to_owned)
                .collect();
            if comes_first && !command.is_empty() && !command[0].starts_with('-') {
                all.push(command);
            }
        }
    }
    all
}

/// Returns the help of the command that the words begin with, and the number of words that name it.
fn help_of(words: &[String]) -> Option<(String, usize)> {
    let help = |count: usize| {
        let output = bare_command(&[]).args(&words[..count]).arg("--help").output().unwrap();
        output.status.success().then(|| said(&output))
    };
    let first = help(1)?;
    let second = words.get(1).filter(|word| !word.starts_with('-'));
    let is_group = second.is_some_and(|word| first.contains(&format!("\n  {word} ")));
    if is_group { help(2).map(|text| (text, 2)) } else { Some((first, 1)) }
}

/// The pages for operators.
const PAGES: [&str; 5] = [
    "docs/backup.md",
    "docs/metrics.md",
    "docs/operations.md",
    "docs/privacy.md",
    "packaging/README.md",
];

#[test]
fn the_pages_for_operators_name_commands_and_options_that_exist() {
    let mut count = 0;
    for page in PAGES {
        for words in commands(&read(page)) {
            let (help, named) = help_of(&words)
                .unwrap_or_else(|| panic!("{page}: there is no command `rollcall {}`", words[0]));
            for option in words[named..].iter().filter(|word| word.starts_with("--")) {
                let exists = help.split([' ', ',', '\n', '[', ']']).any(|word| word == option);
                assert!(exists, "{page}: `rollcall {}` has no {option}", words[0]);
            }
            count += 1;
        }
    }
    assert!(count >= 20, "{count} commands were found");
}

#[test]
fn commands_are_found_in_code_with_their_options() {
    let page = "Run `rollcall config check --probe`, not rollcall nothing.\n\
        ```sh\nsudo -u rollcall true\nA=b rollcall backup --out=/x \\\n  --json | rollcall restore --from -\n\
        systemctl reload rollcall\n```\n";
    let expected = [
        &["config", "check", "--probe"][..],
        &["backup", "--out", "--json"],
        &["restore", "--from", "-"],
    ];
    assert_eq!(commands(page), expected);
}

/// Files that the pages name, such as `packaging/nginx/rollcall.conf`, must be there.
#[test]
fn the_pages_for_operators_name_files_that_exist() {
    for page in PAGES {
        let folder = Path::new(page).parent().unwrap();
        let text = read(page);
        for link in text.split("](").skip(1).map(|rest| rest.split([')', '#']).next().unwrap()) {
            let is_file = !link.is_empty() && !link.contains("://");
            assert!(!is_file || root().join(folder).join(link).exists(), "{page}: {link}");
        }
    }
}
