//! `rollcall.toml`: where values come from, mistakes, `rollcall config`, SIGHUP, and addresses.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::kit::receiver::Receiver;
use crate::kit::scale::scale;
use crate::kit::server::{agent, bare_command, get, now_ms, post, signal, signature, user};

/// What a command printed, and its exit code.
struct Said {
    code: Option<i32>,
    out: String,
    error: String,
}

/// Runs a command that ends. One that serves instead is killed.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let mut command = bare_command(arguments);
    command.envs(environment.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let pid = child.id();
    let (ended, has_ended) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let is_late = has_ended.recv_timeout(Duration::from_secs(30))
            == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if is_late {
            signal(pid, "KILL");
        }
    });
    let (mut out, mut error) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut error).unwrap();
    drop(ended);
    watch.join().unwrap();
    Said { code: child.wait().unwrap().code(), out, error }
}

/// A folder with a configuration, and the files that it names.
struct Folder(TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.put("secrets", "whsec_one\n");
        folder.put("keys", "sk_first_of_the_keys\n");
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Writes the configuration: the given lines, and the places of data and secrets.
    fn configure(&self, lines: &str) {
        let [data, secrets, keys] = ["data", "secrets", "keys"].map(|name| self.text(name));
        self.put(
            "rollcall.toml",
            &format!(
                "data = \"{data}\"\nwebhook_secrets_file = \"{secrets}\"\n\
                 api_keys_file = \"{keys}\"\n{lines}"
            ),
        );
    }

    fn file(&self) -> String {
        self.text("rollcall.toml")
    }

    fn check(&self, environment: &[(&str, &str)]) -> Said {
        run(&["config", "check", "--config", &self.file()], environment)
    }

    /// Returns what `config show` says of a setting: the values, each with its place.
    fn shown(
        &self,
        name: &str,
        options: &[&str],
        environment: &[(&str, &str)],
    ) -> Vec<[String; 2]> {
        let file = self.file();
        let arguments = [&["config", "show", "--json", "--config", &file], options].concat();
        let said = run(&arguments, environment);
        assert_eq!(said.code, Some(0), "{}", said.error);
        let shown: Value = serde_json::from_str(&said.out).unwrap();
        let values = shown["settings"][name].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        values.map(|value| [text(&value["value"]), text(&value["from"])]).collect()
    }
}

/// A running `rollcall serve` with a configuration. Killed when dropped.
struct Serving {
    child: Child,
    urls: Vec<String>,
    log: PathBuf,
}

impl Serving {
    /// Starts it, and waits until `lines` lines were printed and it is ready.
    fn start(folder: &Folder, lines: usize) -> Serving {
        Serving::start_with(folder, &["--config", &folder.file()], lines)
    }

    fn start_with(folder: &Folder, options: &[&str], lines: usize) -> Serving {
        let log = folder.path("log");
        let file = fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
        let mut command = bare_command(&["serve"]);
        let mut child = command.args(options).stdout(Stdio::piped()).stderr(file).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let urls = (0..lines).map(|_| {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            line.trim().to_owned()
        });
        let urls = urls.collect();
        let serving = Serving { child, urls, log };
        assert!(soon(|| serving.logged("ready")), "{}", serving.log());
        serving
    }

    fn url(&self) -> &str {
        &self.urls[0]
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn logged(&self, text: &str) -> bool {
        self.log().contains(text)
    }

    fn count(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Sends SIGHUP, and waits until the log has one more line with `text`.
    fn reload(&self, text: &str) {
        let before = self.count(text);
        signal(self.child.id(), "HUP");
        assert!(soon(|| self.count(text) > before), "{text}: {}", self.log());
    }

    fn asks(&self, key: &str) -> u16 {
        let header = format!("Bearer {key}");
        get(&agent(), self.url(), "/directories", &[("Authorization", &header)]).status
    }

    fn posts(&self, secret: &str, body: &[u8]) -> u16 {
        let header = signature(secret, &now_ms().to_string(), body);
        let url = format!("{}/webhooks/workos", self.url());
        post(&agent(), &url, body, &[("WorkOS-Signature", &header)]).unwrap().status
    }

    fn stop(mut self) -> Option<i32> {
        signal(self.child.id(), "TERM");
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until `condition` holds.
fn soon(condition: impl Fn() -> bool) -> bool {
    (0..1000).any(|_| {
        let holds = condition();
        if !holds {
            std::thread::sleep(Duration::from_millis(10));
        }
        holds
    })
}

/// Returns an entry of the configuration for a key.
pub fn entry(name: &str, key: &str, scopes: &str) -> String {
    let digest = hex::encode(Sha256::digest(key));
    format!("[[keys]]\nname = \"{name}\"\nsha256 = \"{digest}\"\nscopes = [{scopes}]\n")
}

const TAKEN: &str = "SIGHUP: read the configuration again";
const REFUSED: &str = "the one before stays in force";

#[test]
fn an_option_goes_before_a_variable_and_a_variable_before_the_file() {
    let folder = Folder::new();
    folder.configure("tolerance = \"7s\"\nwebhook_paths = [\"/a\",\n  \"/b\"]\n");
    let at = |line: usize| format!("{}:{line}", folder.file());
    let variable = [("ROLLCALL_TOLERANCE", "8s")];
    let option = ["--tolerance", "9s"];
    let one = |value: &str, from: &str| vec![[value.to_owned(), from.to_owned()]];
    assert_eq!(folder.shown("tolerance", &option, &variable), one("9s", "--tolerance"));
    assert_eq!(folder.shown("tolerance", &[], &variable), one("8s", "ROLLCALL_TOLERANCE"));
    assert_eq!(folder.shown("tolerance", &[], &[]), one("7s", &at(4)));
    assert_eq!(folder.shown("tolerance", &[], &[("ROLLCALL_TOLERANCE", "")]), one("7s", &at(4)));
    assert_eq!(folder.shown("publish_every", &[], &[]), one("1h", "default"));
    assert_eq!(
        folder.shown("webhook_paths", &[], &[]),
        [["/a".to_owned(), at(5)], ["/b".to_owned(), at(6)]],
        "each value has its line"
    );
    let paths = [("ROLLCALL_WEBHOOK_PATH", "/c, /d")];
    let from = "ROLLCALL_WEBHOOK_PATH".to_owned();
    assert_eq!(
        folder.shown("webhook_paths", &[], &paths),
        [["/c".to_owned(), from.clone()], ["/d".to_owned(), from]]
    );
    assert_eq!(folder.shown("webhook_paths", &["--webhook-path", "/e,f"], &paths).len(), 1);
    let switch = "replace_checkpoint_key";
    assert_eq!(folder.shown(switch, &[], &[]), one("false", "default"));
    let variable = [("ROLLCALL_REPLACE_CHECKPOINT_KEY", "off")];
    let from = "ROLLCALL_REPLACE_CHECKPOINT_KEY";
    assert_eq!(folder.shown(switch, &[], &variable), one("false", from));
    let option = ["--replace-checkpoint-key"];
    assert_eq!(folder.shown(switch, &option, &variable), one("true", "--replace-checkpoint-key"));
}

#[test]
fn secrets_of_the_environment_go_before_those_of_the_file() {
    let folder = Folder::new();
    folder.configure("");
    let of_file = folder.shown("webhook_secrets", &[], &[]);
    assert_eq!(of_file.len(), 1);
    assert_eq!(of_file[0][1], format!("{}:2", folder.file()));
    let both =
        [("ROLLCALL_WEBHOOK_SECRETS", "whsec_two,whsec_one"), ("WORKOS_WEBHOOK_SECRET", "x")];
    let of_variables = folder.shown("webhook_secrets", &[], &both);
    let from: Vec<&str> = of_variables.iter().map(|[_, from]| from.as_str()).collect();
    let expected =
        ["ROLLCALL_WEBHOOK_SECRETS", "ROLLCALL_WEBHOOK_SECRETS", "WORKOS_WEBHOOK_SECRET"];
    assert_eq!(from, expected);
    assert_eq!(of_variables[1][0], of_file[0][0], "one secret has one fingerprint");
    // The file may name a variable in place of a file.
    folder.put("rollcall.toml", "webhook_secrets_env = \"MINE\"\napi_keys_env = \"OTHERS\"\n");
    let environment = [("MINE", "a,b"), ("OTHERS", "sk_other")];
    assert_eq!(folder.check(&environment).code, Some(0));
    let said = folder.check(&environment[..1]);
    assert_eq!(said.code, Some(1));
    assert!(
        said.error.contains("rollcall.toml:2: `api_keys_env`: the variable OTHERS is not set"),
        "{}",
        said.error
    );
}

#[test]
fn show_has_every_setting_and_no_secret() {
    let folder = Folder::new();
    folder.put("secrets", "whsec_alpha,whsec_beta");
    let key = "rk_gamma_of_the_login";
    folder.configure(&format!(
        "publish_checkpoints = [\"http://me:delta@127.0.0.1:1/x?token=epsilon\"]\n{}",
        entry("login", key, "\"read\"")
    ));
    let file = folder.file();
    for form in [&["--json"][..], &[]] {
        let said = run(&[&["config", "show", "--config", &file], form].concat(), &[]);
        assert_eq!(said.code, Some(0), "{}", said.error);
        for secret in ["alpha", "beta", "gamma", "delta", "epsilon", "sk_first"] {
            assert!(!said.out.contains(secret), "{secret}: {}", said.out);
        }
        assert!(said.out.contains("127.0.0.1:1/x") && said.out.contains("login"), "{}", said.out);
        let fingerprint = &hex::encode(Sha256::digest(key))[..16];
        assert!(said.out.contains(&format!("key_{fingerprint}")), "{}", said.out);
    }
    assert_eq!(folder.shown("webhook_secrets", &[], &[]).len(), 2);
}

#[test]
fn each_kind_of_mistake_has_its_line_and_says_what_to_do() {
    let folder = Folder::new();
    let digest = "ab".repeat(32);
    let table = |fields: &str| format!("[[keys]]\n{fields}\n");
    let whole = |change: &str| {
        format!("[[keys]]\nname = \"a\"\nsha256 = \"{digest}\"\nscopes = [\"read\"]\n{change}\n")
    };
    for (lines, line, advice) in [
        ("lisen = \"127.0.0.1:0\"", 4, "unknown key `lisen`; did you mean `listen`?"),
        ("webhook_path = \"/a\"", 4, "did you mean `webhook_paths`?"),
        ("webhook-path = \"/a\"", 4, "did you mean `webhook_paths`?"),
        ("no_such_thing = 1", 4, "`rollcall config example` shows every key"),
        ("\nbody_bytes_max = 0", 5, "from 1 to 12000000"),
        ("body_bytes_max = \"1\"", 4, "must be a whole number without quotes, and is a text"),
        ("body_bytes_max = -1", 4, "from 1 to 12000000"),
        ("body_bytes_max = 1.5", 4, "must be a whole number"),
        ("tolerance = \"25h\"", 4, "it must be at most 24h"),
        ("log = \"inof\"", 4, "did you mean `info`?"),
        ("log = \"\"", 4, "it is empty"),
        ("tolerance = \"soon\"", 4, "`soon` cannot be used: the unit must be ms, s, m or h"),
        ("listen = [\"127.0.0.1:0\",\n\n\"nowhere\"]", 6, "`nowhere` cannot be used"),
        ("listen = []", 4, "is empty: leave it out for 127.0.0.1:8080"),
        ("listen = 8080", 4, "must be a list of texts in quotes, and is a number"),
        ("listen = [8080]", 4, "must be a list of texts in quotes, and is a number"),
        ("replace_checkpoint_key = \"yes\"", 4, "true or false, without quotes"),
        ("log_format = \"jsn\"", 4, "did you mean `json`?"),
        ("log = \"rollcall=loud\"", 4, "error, warn, info, debug"),
        ("publish_checkpoints = \"/no/such/folder\"", 4, "`/no/such/folder` is not a folder"),
        ("webhook_secrets = \"whsec_x\"", 4, "`webhook_secrets_file`"),
        ("webhook_secrets_env = \"X\"", 4, "leave one out"),
        ("listen = \"whsec_x\"", 4, "HOST:PORT"),
        ("whsec_x = 1", 4, "unknown key; "),
        ("listen = [\"a:1\", \"b:1\",\n\"a:1\"]", 5, "given twice"),
        ("listen = [\"a:0\", \"a:0\"]\nadmin_listen = \"x\"", 5, "HOST:PORT"),
        ("listen = \"a:1\"\nadmin_listen = \"a:1\"", 5, "given twice"),
        ("listen = [\"unix:/a\", \"unix:/a?mode=660\"]", 4, "given twice"),
        ("public_url = \"http://h:70000\"", 4, "from 1 to 65535"),
        ("keys = 1", 4, "begin each with [[keys]]"),
        ("listen = \"a:1\"\nlisten = \"b:1\"", 5, "duplicate key"),
        ("listen = ", 4, "not valid TOML"),
        (&table("name = \"a\""), 4, "this key has no `sha256`; `rollcall key new`"),
        (&whole("key = \"rk_secret\""), 8, "`rollcall key new` makes a key"),
        (&whole("expires = \"x\""), 8, "did you mean `expires_at`?"),
        (&whole("expires_at = \"tomorrow\""), 8, "write an RFC 3339 time"),
        (&whole("rate_limit = 0"), 8, "leave it out"),
        (&whole("organizations = []"), 8, "leave it out"),
        (&whole(&table("name = \"a\"")), 8, "has no `sha256`"),
        (&whole(&whole("")), 8, "has the same `name`: give each its own"),
        (&whole("").replace("read", "reed"), 7, "`reed`"),
        (&whole("").replace("[\"read\"]", "\"read,audit\""), 7, "write a list"),
        (&whole("").replace("read", "rk_7"), 7, "the scopes are"),
        (&whole("").replace("\"a\"", "\"sk_7\""), 5, "begins as secrets do"),
        (&whole("").replace("\"a\"", "\"rk_7=\""), 5, "is not a name"),
        (&whole("expires_at = \"whsec_x\""), 8, "is not a time"),
        (&whole("organizations = [\"whsec_x\"]"), 8, "not an organization's id"),
        (&whole("tolerance = \"9s\""), 8, "`tolerance` belongs above the first `[[keys]]`"),
        (&whole("").replace(&digest, "rk_a_whole_key"), 6, "64 hex digits"),
    ] {
        folder.configure(lines);
        let said = folder.check(&[]);
        let place = format!("{}:{line}: ", folder.file());
        let sentence = said.error.lines().find(|sentence| sentence.contains(&place));
        let good = sentence.is_some_and(|sentence| sentence.contains(advice));
        assert!(good && said.code == Some(1), "{lines}: {place}{advice}: {}", said.error);
        for secret in ["rk_", "whsec_", "sk_7"] {
            assert!(!said.error.contains(secret), "{}", said.error);
        }
        let serve = run(&["serve", "--config", &folder.file()], &[]);
        assert_eq!(serve.error, said.error, "the start has the same judge");
        assert_eq!(serve.code, Some(1));
        assert!(!folder.path("data").exists() && serve.out.is_empty(), "{}", serve.out);
    }
}

#[test]
fn all_mistakes_are_listed_and_those_of_options_and_variables_by_their_names() {
    let folder = Folder::new();
    folder.configure(
        "lisen = 1\ntolerance = \"soon\"\n[[keys]]\nname = \"-\"\nsha256 = \"x\"\nscopes = []\n",
    );
    let file = folder.file();
    let arguments = ["config", "check", "--json", "--config", &file, "--store-cache-mib", "1"];
    let said = run(&arguments, &[("ROLLCALL_BODY_BYTES_MAX", "0")]);
    assert_eq!(said.code, Some(1));
    let found: Value = serde_json::from_str(&said.out).unwrap();
    let mistakes: Vec<&str> =
        found["mistakes"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let places: Vec<&str> = mistakes.iter().map(|text| text.split(": ").next().unwrap()).collect();
    let at = |line: usize| format!("{file}:{line}");
    let (body, cache) = ("ROLLCALL_BODY_BYTES_MAX".to_owned(), "--store-cache-mib".to_owned());
    let mut expected = [at(4), at(5), at(7), at(8), at(9), body, cache];
    let mut places: Vec<String> = places.iter().map(|place| (*place).to_owned()).collect();
    expected.sort();
    places.sort();
    assert_eq!(places, expected, "{mistakes:#?}");
    assert!(
        said.error.starts_with("rollcall: 7 mistakes in the configuration:\n"),
        "{}",
        said.error
    );
}

#[test]
fn a_file_that_is_named_and_missing_ends_the_start() {
    let folder = Folder::new();
    let settings = [("ROLLCALL_WEBHOOK_SECRETS", "s"), ("ROLLCALL_API_KEYS", "k")];
    let data = folder.text("data");
    let missing = folder.text("missing.toml");
    let by_variable = [&settings[..], &[("ROLLCALL_CONFIG", missing.as_str())]].concat();
    for said in [
        run(&["serve", "--data", &data, "--config", &missing], &settings),
        run(&["serve", "--data", &data], &by_variable),
        run(&["config", "check"], &by_variable),
        run(&["config", "show"], &by_variable),
    ] {
        assert_eq!(said.code, Some(1), "{}", said.error);
        assert!(said.error.contains(&format!("cannot read `{missing}`")), "{}", said.error);
    }
    assert!(!folder.path("data").exists());
    // A byte order mark and line ends of Windows are no mistake.
    folder.put("bom.toml", "\u{feff}tolerance = \"1s\"\r\nlog = \"warn\"\r\n");
    let said = run(&["config", "check", "--config", &folder.text("bom.toml")], &settings);
    assert_eq!(said.code, Some(0), "{}", said.error);
}

#[test]
fn the_example_is_a_configuration_that_changes_nothing() {
    let folder = Folder::new();
    let example = run(&["config", "example"], &[]);
    assert_eq!(example.code, Some(0));
    folder.put("rollcall.toml", &example.out);
    let settings = [("ROLLCALL_WEBHOOK_SECRETS", "s"), ("ROLLCALL_API_KEYS", "k")];
    let said = folder.check(&settings);
    assert_eq!((said.code, said.error.as_str()), (Some(0), ""));
    let file = folder.file();
    let shown = run(&["config", "show", "--config", &file], &settings).out;
    assert_eq!(shown, run(&["config", "show"], &settings).out);
    // Whole, with the marks removed: only what this machine lacks is a mistake.
    let key = |line: &str| {
        let line = line.strip_prefix("# ").unwrap_or(line);
        let name = line.split(" = ").next().unwrap();
        ["[[keys]]", "[[endpoints]]"].contains(&line)
            || (line.contains(" = ") && !name.contains(' ') && !name.ends_with("_env"))
    };
    let whole = example.out.lines().map(|line| {
        let bare = line.strip_prefix("# ").unwrap_or(line);
        if key(line) { format!("{bare}\n") } else { format!("{line}\n") }
    });
    folder.put("rollcall.toml", &whole.collect::<String>());
    let said = folder.check(&settings);
    let said: Vec<&str> = said.error.lines().skip(1).collect();
    assert!(said.iter().all(|line| line.contains("cannot be read")), "{said:#?}");
}

#[test]
fn sighup_takes_keys_secrets_limits_and_the_log_and_names_what_waits() {
    let folder = Folder::new();
    folder.configure("listen = \"127.0.0.1:0\"\nlog = \"info\"\n");
    let serving = Serving::start(&folder, 1);
    assert_eq!([serving.asks("sk_first_of_the_keys"), serving.asks("rk_login")], [200, 401]);
    assert_eq!([serving.posts("whsec_one", b"x"), serving.posts("whsec_two", b"x")], [200, 401]);
    folder.put("secrets", "whsec_two");
    folder.configure(&format!(
        "listen = \"127.0.0.1:0\"\nlog = \"info\"\nbody_bytes_max = 10\npublish_every = \"3h\"\n{}",
        entry("login", "rk_login", "\"read\"")
    ));
    serving.reload(TAKEN);
    assert_eq!([serving.asks("sk_first_of_the_keys"), serving.asks("rk_login")], [200, 200]);
    assert_eq!([serving.posts("whsec_one", b"y"), serving.posts("whsec_two", b"y")], [401, 200]);
    assert_eq!(serving.posts("whsec_two", b"more than ten"), 413);
    assert!(serving.logged("`publish_every` has changed, which needs a restart"));
    assert!(!serving.logged("`listen` has changed"), "{}", serving.log());
    folder.configure("listen = \"127.0.0.1:0\"\nlog = \"error\"\n");
    signal(serving.child.id(), "HUP");
    assert!(soon(|| serving.asks("rk_login") == 401));
    assert_eq!(serving.count(TAKEN), 1, "the new filter holds before the line");
    folder.configure("listen = \"127.0.0.1:0\"\nlog = \"info\"\n");
    serving.reload(TAKEN);
    assert_eq!(serving.stop(), Some(0));
}

#[test]
fn sighup_changes_nothing_for_a_configuration_with_a_mistake() {
    let folder = Folder::new();
    let good = "listen = \"127.0.0.1:0\"\n";
    folder.configure(good);
    let serving = Serving::start(&folder, 1);
    let login = entry("login", "rk_login", "\"read\"");
    folder.configure(&format!("{good}body_bytes_max = 0\n{login}"));
    serving.reload(REFUSED);
    assert!(serving.logged(&format!("{}:5: ", folder.file())), "{}", serving.log());
    folder.put("rollcall.toml", "");
    serving.reload("no API key is set");
    folder.configure(good);
    folder.put("secrets", " ,\n");
    folder.put("keys", "sk_another_of_the_keys");
    serving.reload("no secret is there for `webhook_secrets`");
    fs::remove_file(folder.path("secrets")).unwrap();
    serving.reload("cannot be read");
    fs::remove_file(folder.path("rollcall.toml")).unwrap();
    serving.reload("cannot read `");
    // A pipe would be waited for, and no later signal would count.
    assert!(Command::new("mkfifo").arg(folder.file()).status().unwrap().success());
    serving.reload("is not a regular file");
    assert_eq!(serving.count(TAKEN), 0);
    let keys = ["sk_first_of_the_keys", "sk_another_of_the_keys", "rk_login"];
    assert_eq!(keys.map(|key| serving.asks(key)), [200, 401, 401]);
    assert_eq!(serving.posts("whsec_one", b"y"), 200);
    for secret in ["whsec_", "sk_first", "sk_another", "rk_login"] {
        assert!(!serving.logged(secret), "{secret}");
    }
}

/// Returns the lines of a configuration whose only keys are these entries.
fn only_keys(folder: &Folder, lines: &str) -> String {
    let [data, secrets] = ["data", "secrets"].map(|name| folder.text(name));
    format!("data = \"{data}\"\nwebhook_secrets_file = \"{secrets}\"\n{lines}")
}

const EXPIRED: &str = "expires_at = 2020-01-01T00:00:00Z\n";

#[test]
fn a_configuration_whose_keys_have_all_expired_is_refused() {
    let folder = Folder::new();
    let old = format!("{}{EXPIRED}", entry("old", "rk_old", "\"read\""));
    let good = format!("listen = \"127.0.0.1:0\"\n{}", entry("new", "rk_new", "\"read\""));
    folder.put("rollcall.toml", &only_keys(&folder, &old));
    for said in [folder.check(&[]), run(&["serve", "--config", &folder.file()], &[])] {
        assert_eq!(said.code, Some(1));
        assert!(said.error.contains("no API key is left that has not expired"), "{}", said.error);
        let place = format!("{}:3: the key `old` expired at 2020-01-01", folder.file());
        assert!(said.error.contains(&place), "{}", said.error);
    }
    folder.put("rollcall.toml", &only_keys(&folder, &format!("{good}{old}")));
    let said = folder.check(&[]);
    assert_eq!(said.code, Some(0), "{}", said.error);
    assert!(said.out.contains("the key `old` expired at"), "{}", said.out);
    let serving = Serving::start(&folder, 1);
    folder.put("rollcall.toml", &only_keys(&folder, &old));
    serving.reload("no API key is left that has not expired");
    assert_eq!([serving.asks("rk_new"), serving.asks("rk_old")], [200, 401]);
    assert_eq!(serving.count(TAKEN), 0);
}

#[test]
fn a_key_is_revoked_although_a_place_of_checkpoints_is_missing() {
    let folder = Folder::new();
    let out = folder.text("out");
    fs::create_dir(&out).unwrap();
    let lines = format!("listen = \"127.0.0.1:0\"\npublish_checkpoints = \"{out}\"\n");
    folder.configure(&format!("{lines}{}", entry("gone", "rk_gone", "\"read\"")));
    let serving = Serving::start(&folder, 1);
    assert_eq!(serving.asks("rk_gone"), 200);
    fs::remove_dir_all(&out).unwrap();
    folder.configure(&lines);
    serving.reload(TAKEN);
    assert_eq!(serving.asks("rk_gone"), 401);
    let line = format!("{}:5: `publish_checkpoints`", folder.file());
    assert!(soon(|| serving.logged(&line)), "{}", serving.log());
}

#[test]
fn a_secret_in_the_place_of_a_file_or_a_variable_is_not_shown() {
    let folder = Folder::new();
    for (key, value) in [
        ("webhook_secrets_file", "whsec_x.y/z"),
        ("webhook_secrets_file", "c2VjcmV0c2VjcmV0"),
        ("webhook_secrets_env", "whsec_x"),
        ("webhook_secrets_env", "sk_hidden"),
        ("webhook_secrets_env", "c2VjcmV0c2VjcmV0"),
    ] {
        folder.put("rollcall.toml", &format!("\n{key} = \"{value}\"\n"));
        let said = folder.check(&[("ROLLCALL_API_KEYS", "sk_any_of_the_keys")]);
        let place = format!("{}:2: `{key}`", folder.file());
        assert!(said.code == Some(1) && said.error.contains(&place), "{}", said.error);
        assert!(!said.error.contains(value), "{}", said.error);
    }
    let named = [("ROLLCALL_WEBHOOK_SECRETS_FILE", "whsec_x"), ("ROLLCALL_API_KEYS", "sk_any")];
    let said = run(&["config", "check"], &named);
    assert!(said.code == Some(1) && !said.error.contains("whsec_x"), "{}", said.error);
}

#[test]
fn a_new_checkpoint_key_needs_a_key_that_may_act() {
    let folder = Folder::new();
    let acts = |rest: &str| format!("{}{rest}", entry("acts", "rk_acts", "\"operate\""));
    let reads = entry("reads", "rk_reads", "\"read\"");
    for (keys, code) in [
        (reads.clone(), 1),
        (acts("organizations = [\"org_1\"]\n"), 1),
        (format!("{}{reads}", acts(EXPIRED)), 1),
        (acts(""), 0),
    ] {
        let lines = format!("replace_checkpoint_key = true\n{keys}");
        folder.put("rollcall.toml", &only_keys(&folder, &lines));
        let said = folder.check(&[]);
        assert_eq!(said.code, Some(code), "{keys}{}", said.error);
        let place = format!("{}:3: `replace_checkpoint_key`", folder.file());
        assert_eq!(said.error.contains(&place), code == 1, "{}", said.error);
    }
}

#[test]
fn no_request_is_refused_while_keys_and_secrets_are_replaced_again_and_again() {
    let rounds = 20 * scale() as usize;
    let folder = Folder::new();
    let lines = |n: usize| {
        let name = |n: usize| entry(&format!("n{n}"), &format!("rk_{n}"), "\"read\"");
        format!("listen = \"127.0.0.1:0\"\n{}{}", name(n), name(n + 1))
    };
    let secrets = |n: usize| format!("whsec_{n},whsec_{}", n + 1);
    folder.put("secrets", &secrets(0));
    folder.configure(&lines(0));
    let serving = Serving::start(&folder, 1);
    // Key and secret `shared` are in force before and after the reload of the same number.
    let (shared, stop, asked) = (AtomicUsize::new(1), AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let before = shared.load(Ordering::SeqCst);
                    let answers = [
                        serving.asks(&format!("rk_{before}")),
                        serving.posts(&format!("whsec_{before}"), b"same"),
                    ];
                    // Between the two it may have been taken out: then it says nothing.
                    if shared.load(Ordering::SeqCst) == before {
                        assert_eq!(answers, [200, 200], "{before}");
                        asked.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        for n in 1..=rounds {
            folder.put("secrets", &secrets(n));
            folder.configure(&lines(n));
            serving.reload(TAKEN);
            let enough = asked.load(Ordering::SeqCst) + 2;
            shared.store(n + 1, Ordering::SeqCst);
            assert!(soon(|| asked.load(Ordering::SeqCst) > enough));
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert_eq!(serving.count(TAKEN), rounds);
    let old = [serving.asks("rk_1"), serving.asks(&format!("rk_{rounds}"))];
    assert_eq!(old, [401, 200]);
}

/// Waits for changes with a key; returns the status, and how long it took.
fn waits(url: &str, key: &str, seconds: u32) -> (u16, Duration) {
    let path = format!("/rollcall/v1/changes?wait={seconds}");
    let began = Instant::now();
    let header = format!("Bearer {key}");
    let answer = get(&agent(), url, &path, &[("Authorization", &header)]);
    (answer.status, began.elapsed())
}

#[test]
fn a_removed_keys_long_polls_end_within_a_second_and_others_go_on() {
    let folder = Folder::new();
    let lines = |scopes: &str| {
        let [gone, stays] = ["rk_gone", "rk_stays"].map(|key| entry(key, key, "\"read\""));
        let changed = entry("changed", "rk_changed", scopes);
        ["listen = \"127.0.0.1:0\"\n".to_owned(), stays, changed, gone]
    };
    folder.configure(&lines("\"read\", \"audit\"").concat());
    let serving = Serving::start(&folder, 1);
    let url = serving.url();
    std::thread::scope(|scope| {
        let gone = scope.spawn(|| waits(url, "rk_gone", 30));
        let stays = scope.spawn(|| waits(url, "rk_stays", 4));
        let changed = scope.spawn(|| waits(url, "rk_changed", 30));
        std::thread::sleep(Duration::from_millis(1500));
        folder.configure(&lines("\"read\"")[..3].concat());
        let reloaded = Instant::now();
        serving.reload(TAKEN);
        let (status, _) = gone.join().unwrap();
        assert_eq!(status, 401);
        assert_eq!(changed.join().unwrap().0, 200, "it ends and asks again with its new rights");
        assert!(reloaded.elapsed() < Duration::from_secs(1), "{:?}", reloaded.elapsed());
        let (status, took) = stays.join().unwrap();
        assert!(status == 200 && took >= Duration::from_secs(4), "{status} {took:?}");
    });
}

/// Asks through a socket of the file system; returns the answer.
fn ask_socket(socket: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(socket).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn several_addresses_serve_the_same_and_a_socket_is_its_owners_and_leaves_nothing() {
    let folder = Folder::new();
    let [own, shared] = ["own.sock", "shared.sock"].map(|name| folder.path(name));
    folder.configure("");
    let file = folder.file();
    let sockets =
        [format!("unix:{}", own.display()), format!("unix:{}?mode=660", shared.display())];
    let options = [
        "--config",
        &file,
        "--listen",
        &sockets[0],
        "--listen",
        "127.0.0.1:0",
        "--listen",
        &sockets[1],
    ];
    drop(UnixListener::bind(&own).unwrap());
    assert!(own.exists(), "a stale socket is there");
    let serving = Serving::start_with(&folder, &options, 1);
    assert_eq!(serving.urls, [sockets[0].clone()]);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(&own), mode(&shared)], [0o600, 0o660]);
    for socket in [&own, &shared] {
        assert!(ask_socket(socket, "/readyz").starts_with("HTTP/1.1 200 "));
        assert!(ask_socket(socket, "/directories").starts_with("HTTP/1.1 401 "));
    }
    let log = serving.log();
    let line = log.lines().find(|line| line.contains("listening on http://127.0.0.1:")).unwrap();
    let url = line.split("listening on ").nth(1).unwrap();
    assert_eq!(get(&agent(), url, "/readyz", &[]).status, 200);
    // A socket of a living process is refused, and still its own.
    let data = folder.text("other");
    let other = run(&["serve", "--config", &file, "--data", &data, "--listen", &sockets[0]], &[]);
    assert_eq!(other.code, Some(1));
    assert!(other.error.contains("another process listens on this socket"), "{}", other.error);
    assert!(ask_socket(&own, "/readyz").starts_with("HTTP/1.1 200 "));
    assert_eq!(serving.stop(), Some(0));
    assert!(!own.exists() && !shared.exists());
}

#[test]
fn the_address_for_operators_takes_every_call_but_webhooks_and_all_stay_on_the_other() {
    let folder = Folder::new();
    folder.configure("listen = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n");
    let serving = Serving::start(&folder, 2);
    let [main, admin] = [0, 1].map(|at| serving.urls[at].clone());
    assert!(main.starts_with("http://127.0.0.1:") && admin.starts_with("http://127.0.0.1:"));
    assert_ne!(main, admin);
    let header = [("Authorization", "Bearer sk_first_of_the_keys")];
    for url in [&main, &admin] {
        for (path, headers, status) in [
            ("/healthz", &[][..], 200),
            ("/readyz", &[], 200),
            ("/rollcall/v1/projections", &[], 401),
            ("/rollcall/v1/projections", &header, 200),
            ("/directories", &header, 200),
        ] {
            assert_eq!(get(&agent(), url, path, headers).status, status, "{url}{path}");
        }
    }
    let body = user("u", "d", "ana", "2026-01-01T00:00:00Z", "e", "x.y");
    let header = signature("whsec_one", &now_ms().to_string(), body.as_bytes());
    let posts = |url: &str| {
        let url = format!("{url}/webhooks/workos");
        post(&agent(), &url, body.as_bytes(), &[("WorkOS-Signature", &header)]).unwrap().status
    };
    assert_eq!([posts(&admin), posts(&main)], [404, 200]);
    assert_eq!(serving.stop(), Some(0));
}

/// Returns the checks of a probe, each as its result and its subject.
fn probe(folder: &Folder, options: &[&str]) -> (Option<i32>, Vec<[String; 3]>) {
    let file = folder.file();
    let arguments =
        [&["config", "check", "--probe", "--json", "--config", &file], options].concat();
    let said = run(&arguments, &[]);
    let found: Value = serde_json::from_str(&said.out).unwrap_or_else(|_| panic!("{}", said.error));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let checks = found["checks"].as_array().unwrap().iter();
    let checks = checks
        .map(|check| [text(&check["result"]), text(&check["subject"]), text(&check["found"])]);
    (said.code, checks.collect())
}

fn result<'a>(checks: &'a [[String; 3]], subject: &str) -> [&'a str; 2] {
    let found = checks.iter().find(|[_, of, _]| of.starts_with(subject));
    let [result, _, found] = found.unwrap_or_else(|| panic!("{subject}: {checks:#?}"));
    [result, found]
}

#[test]
fn a_probe_tries_addresses_folders_and_a_webhook_and_records_nothing() {
    let folder = Folder::new();
    let out = folder.text("out");
    fs::create_dir(&out).unwrap();
    folder.configure(&format!("publish_checkpoints = \"{out}\"\nlisten = \"127.0.0.1:0\"\n"));
    let (code, checks) = probe(&folder, &[]);
    assert_eq!(code, Some(0), "{checks:#?}");
    assert_eq!(result(&checks, "listen")[0], "ok");
    assert_eq!(result(&checks, "data"), ["ok", "it will be made"]);
    assert_eq!(result(&checks, "publish_checkpoints")[0], "ok");
    assert_eq!(result(&checks, "webhook")[0], "not_tried");
    assert!(!folder.path("data").exists(), "a probe makes nothing");
    let serving = Serving::start(&folder, 1);
    let url = serving.url().to_owned();
    let address = url.strip_prefix("http://").unwrap();
    let options = ["--listen", address, "--public-url", &url];
    let (code, checks) = probe(&folder, &options);
    assert_eq!(code, Some(0), "{checks:#?}");
    assert_eq!(result(&checks, "listen"), ["ok", "a Rollcall already serves there"]);
    assert_eq!(result(&checks, "webhook")[0], "ok");
    let header = [("Authorization", "Bearer sk_first_of_the_keys")];
    let ready = get(&agent(), serving.url(), "/readyz", &header).json();
    assert_eq!(ready["seq"], 0, "nothing is recorded");
    let stats = get(&agent(), serving.url(), "/rollcall/v1/stats", &header).json();
    let code = "timestamp_outside_tolerance";
    assert_eq!(stats["refused_webhooks"][code], 1);
    let last = &stats["condition"]["last_refused_at"][code];
    assert!(last.is_null(), "a probe is no webhook that an operator must look at: {last}");
    let (code, checks) = probe(&folder, &[&options[..], &["--webhook-path", "/other"]].concat());
    let [result_of, found] = result(&checks, "webhook");
    assert!(code == Some(1) && result_of == "wrong" && found.contains("no such path"), "{found}");
    let closed = [&options[..2], &["--public-url", "http://127.0.0.1:1"]].concat();
    let (code, checks) = probe(&folder, &closed);
    let [result_of, found] = result(&checks, "webhook");
    assert!(code == Some(1) && result_of == "wrong" && found.contains("no answer"), "{found}");
    folder.put("secrets", "whsec_not_yet_known_there");
    let (code, checks) = probe(&folder, &options);
    let [result_of, found] = result(&checks, "webhook");
    assert!(code == Some(1) && result_of == "wrong" && found.contains("refused the signature"));
    assert!(checks.iter().flatten().all(|text| !text.contains("whsec_")), "{checks:#?}");
    assert_eq!(serving.stop(), Some(0));
    fs::set_permissions(folder.path("data"), fs::Permissions::from_mode(0o755)).unwrap();
    let (code, checks) = probe(&folder, &options);
    assert_eq!(code, Some(1));
    assert!(result(&checks, "data")[1].contains("mode 755"), "{checks:#?}");
    assert_eq!(result(&checks, "webhook")[0], "not_tried", "no server is there");
}

#[test]
fn a_probe_connects_to_endpoints_and_sends_them_nothing() {
    let folder = Folder::new();
    let secret = folder.text("out-secret");
    fs::write(&secret, "out").unwrap();
    let app = Receiver::start();
    let endpoint = |name: &str, url: &str, more: &str| {
        format!(
            "[[endpoints]]\nname = \"{name}\"\nurl = \"{url}\"\nsecret_file = \"{secret}\"\n{more}"
        )
    };
    let private = "allow_private = true\n";
    let here = &app.address;
    let closed = Receiver::start().address.clone();
    let hasty = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let hasty_address = hasty.local_addr().unwrap();
    std::thread::spawn(move || hasty.incoming().for_each(drop));
    let text = [
        endpoint("good", &format!("http://{here}/x?t=hidden"), private),
        endpoint("closed", &format!("http://{closed}/x"), private),
        // This one speaks no TLS.
        endpoint("plain", &format!("https://{hasty_address}/x"), private),
    ];
    folder.configure(&format!("listen = \"127.0.0.1:0\"\n{}", text.concat()));
    let (code, checks) = probe(&folder, &[]);
    assert_eq!(code, Some(1), "{checks:#?}");
    let [verdict, found] = result(&checks, "endpoint good");
    assert!(verdict == "ok" && found.contains(&format!("{here} can be connected to")), "{found}");
    assert_eq!(result(&checks, "endpoint closed"), ["wrong", "connection refused"]);
    assert_eq!(result(&checks, "endpoint plain")[0], "wrong");
    assert!(checks.iter().flatten().all(|text| !text.contains("hidden")), "{checks:#?}");
    assert!(app.got().is_empty(), "nothing was sent");
}

#[test]
fn a_probe_of_root_judges_the_folder_of_the_user_of_the_service() {
    use std::os::unix::fs::{PermissionsExt, chown};
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let folder = Folder::new();
    folder.configure("listen = \"127.0.0.1:0\"\n");
    let data = folder.path("data");
    fs::create_dir(&data).unwrap();
    let judged = |mode: u32| {
        fs::set_permissions(&data, fs::Permissions::from_mode(mode)).unwrap();
        let (_, checks) = probe(&folder, &[]);
        result(&checks, "data").map(str::to_owned)
    };
    assert_eq!(judged(0o700)[1], "it is this user's alone, and can be written");
    chown(&data, Some(12345), None).unwrap();
    let of_other = "it is that of the user with id 12345 alone, who must run the server";
    assert_eq!(judged(0o700), ["ok", of_other]);
    assert_eq!(judged(0o500), ["wrong", "its owner cannot write to it"]);
    assert_eq!(judged(0o755), ["wrong", "it has mode 755, so others may read it"]);
}

#[test]
fn a_probe_finds_an_address_that_another_program_has() {
    let folder = Folder::new();
    folder.configure("");
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let socket = folder.path("a.sock");
    let _taken = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in other.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        }
    });
    let (code, checks) = probe(&folder, &["--listen", &address]);
    assert_eq!(code, Some(1));
    assert_eq!(result(&checks, "listen"), ["wrong", "another program listens there"]);
    let (code, checks) = probe(&folder, &["--listen", "unix:/no/such/folder/a.sock"]);
    assert!(code == Some(1) && result(&checks, "listen")[0] == "wrong", "{checks:#?}");
}
