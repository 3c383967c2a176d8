//! Acts that stay on record: without a terminal they need `--yes`.

use super::read::{ask, err, out};
use super::roles::OnTerminal;
use crate::kit::server::Server;

#[test]
fn without_a_terminal_an_act_needs_yes_and_records_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    let file = folder.path().join("mapping.toml");
    std::fs::write(&file, "default_roles = [\"member\"]").unwrap();
    let head = || server.get("/readyz").json()["seq"].as_u64().unwrap();
    let acts = [
        vec!["mapping", "set", file.to_str().unwrap()],
        vec!["policy", "--inactive-users", "delete"],
        vec!["log-key", "rotate"],
    ];
    for (done, act) in acts.iter().enumerate() {
        let before = head();
        assert_eq!(before, done as u64);
        let output = ask(&server, act);
        assert_eq!(output.status.code(), Some(1), "{act:?}: {}", err(&output));
        assert!(err(&output).contains("confirm with --yes"), "{act:?}: {}", err(&output));
        assert_eq!(head(), before, "{act:?}");
        out(&ask(&server, &[&act[..], &["--yes"]].concat()));
        assert_eq!(head(), before + 1, "{act:?}");
    }
}

#[test]
fn on_a_terminal_the_policy_and_the_key_are_asked_about() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let policy = "Set the policy `--inactive-users delete`, in force from now on? [y/N]";
    for (act, asked) in
        [(&["policy", "--inactive-users", "delete"][..], policy), (&["log-key", "rotate"], "[y/N]")]
    {
        for (answer, code, records) in [("n", 1, 0), ("y", 0, 1)] {
            let before = server.get("/readyz").json()["seq"].as_u64().unwrap();
            let mut terminal = OnTerminal::start(&server, act, &[]);
            terminal.answer(asked, answer);
            let (told, ended) = terminal.end();
            assert_eq!(ended, Some(code), "{act:?}: {told:?}");
            assert_eq!(server.get("/readyz").json()["seq"], before + records, "{act:?}: {told:?}");
        }
    }
}
