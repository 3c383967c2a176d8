//! Passwords are kept nowhere: not in the folder, not in the archive, not in what the server says.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::kit::scim::{Directory, Request, user};
use crate::kit::server::{Server, binary};

const SECRET: &str = "Tr0ub4dor-and-three";

/// Every file below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Bodies of POST to /Users, and of PATCH, that hold a password in some disguise.
fn disguised(kind: &str) -> Vec<String> {
    let core = "urn:ietf:params:scim:schemas:core:2.0:User";
    let operations = |operation: String| format!(r#"{{"Operations":[{operation}]}}"#);
    match kind {
        "POST" => vec![
            format!(r#"{{"userName":"p0","password":"{SECRET}"}}"#),
            format!(r#"{{"userName":"p1","PassWord":"{SECRET}"}}"#),
            format!(r#"{{"userName":"p2","p\u0061ssword":"{SECRET}"}}"#),
            format!(r#"{{"userName":"p3","{core}:password":"{SECRET}"}}"#),
            format!(r#"{{"userName":"p4","password":"x","password":"{SECRET}"}}"#),
            format!(
                r#"{{"userName":"p5","urn:own:1.0:User":{{"deep":[{{"password":["{SECRET}"]}}]}}}}"#
            ),
            format!(
                r#"{{"userName":"p6","urn:own:1.0:User":{{" Password ":{{"a":"{SECRET}"}}}}}}"#
            ),
        ],
        _ => vec![
            operations(format!(r#"{{"op":"replace","path":"password","value":"{SECRET}"}}"#)),
            operations(format!(
                r#"{{"op":"add","path":"credentials.password","value":"{SECRET}"}}"#
            )),
            operations(format!(r#"{{"op":"Add","value":{{"password":"{SECRET}","title":"a"}}}}"#)),
            operations(format!(r#"{{"value":"{SECRET}","path":" {core}:Password ","op":"add"}}"#)),
            operations(format!(
                r#"{{"op":"replace","p\u0061th":"passw\u006frd","v\u0061lue":"{SECRET}"}}"#
            )),
            operations(format!(
                r#"{{"op":"replace","value":{{"{core}:password":"{SECRET}"}}}},{{"op":"replace","path":"title","value":"b"}}"#
            )),
        ],
    }
}

#[test]
fn no_password_is_kept_in_any_disguise() {
    let folder = tempfile::tempdir().unwrap();
    let (data, archive) = (folder.path().join("data"), folder.path().join("archive"));
    fs::create_dir(&archive).unwrap();
    let mut command = Command::new(binary());
    command.env("ROLLCALL_LOG", "debug").stderr(Stdio::piped());
    let archive_to = archive.to_str().unwrap().to_owned();
    let arguments = ["--archive", &archive_to, "--archive-every", "1s"];
    let server = Server::start_command(command, &data, &arguments).keep_stderr();
    let directory = Directory::create(&server, "org_a", "update");
    let person = directory.post("/Users", &user("ana"));
    let send = |method: &str, path: &str, body: String| {
        let headers = vec![("Content-Type", "application/scim+json")];
        directory.send(&Request { method, path, headers, body: Some(body) })
    };
    let path = format!("/Users/{person}");
    let mut answers = Vec::new();
    for body in disguised("POST") {
        let answer = send("POST", "/Users", body.clone());
        assert_eq!(answer.status, 201, "{body}: {}", String::from_utf8_lossy(&answer.body));
        answers.push(answer);
    }
    for body in disguised("PATCH") {
        let answer = send("PATCH", &path, body.clone());
        assert_eq!(answer.status, 200, "{body}: {}", String::from_utf8_lossy(&answer.body));
        answers.push(answer);
    }
    // One that is refused, and one that names a password in a filter.
    answers.push(send("POST", "/Users", format!(r#"{{"password":"{SECRET}"}}"#)));
    answers.push(directory.call(
        "GET",
        &format!("/Users?filter=password%20eq%20%22{SECRET}%22"),
        None,
    ));
    answers.push(directory.call("GET", "/Users", None));
    assert!(answers.iter().all(|answer| !holds(&answer.body, SECRET)));
    let mut redacted = 0;
    for seq in 1..=server.head() {
        let body = server.body_of(seq);
        assert!(!holds(&body, SECRET), "record {seq}");
        redacted += usize::from(holds(&body, r#""redacted":["/"#));
    }
    assert!(redacted >= disguised("POST").len(), "the records say what was replaced: {redacted}");
    let said = server.stop_and_say();
    assert!(!said.contains(SECRET) && !said.contains("userName"), "{said}");
    let kept = files(folder.path());
    assert!(kept.iter().any(|path| path.starts_with(&archive)), "the archive is there");
    for path in kept {
        assert!(!holds(&fs::read(&path).unwrap(), SECRET), "{}", path.display());
    }
}
