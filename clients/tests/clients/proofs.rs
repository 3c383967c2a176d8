//! Proofs checked by programs that share nothing with Rollcall: one in Python, written from
//! docs/proofs.md alone, and one in Go over golang.org/x/mod/sumdb. Both must believe what is
//! whole, and nothing of which one byte was changed. And the examples of the documents, run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use ed25519_dalek::{Signer, SigningKey};
use serde_json::{Value, json};

use super::kit::{self, Server, fixtures, rollcall};
use super::libraries::{go_program, python, sources};
use super::{Case, Needs};

const WITHIN: Duration = Duration::from_secs(180);

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "proofs::python_believes_whole_bundles_and_no_changed_one",
            Needs::Python,
            || {
                judges(|| {
                    let mut script = python();
                    script.arg(sources().join("python/proofs.py"));
                    script
                });
            },
        ),
        Case::new("proofs::go_believes_whole_bundles_and_no_changed_one", Needs::Go, || {
            judges(|| Command::new(go_program("proofs")))
        }),
        Case::new("proofs::the_examples_of_the_documents_run", Needs::Python, documents),
        Case::new("proofs::openssl_reads_the_key", Needs::Openssl, openssl),
    ]
}

/// A command of Rollcall that asks the server; what it printed.
fn asked(server: &Server, arguments: &[&str]) -> String {
    let mut command = rollcall(arguments);
    command.env("ROLLCALL_URL", &server.url).env("ROLLCALL_API_KEY", kit::API_KEY);
    kit::finished(command, WITHIN).unwrap_or_else(|said| panic!("{arguments:?}: {said}"))
}

/// The public keys that the server's log has had, and the checkpoint of now in a file.
fn keys(server: &Server) -> Vec<String> {
    let key: Value = serde_json::from_str(&asked(server, &["log-key", "show", "--json"])).unwrap();
    let former = key["former"].as_array().unwrap().iter();
    former.chain([&key]).map(|key| key["key"].as_str().unwrap().to_owned()).collect()
}

fn bundle(server: &Server, record: &str, checkpoints: &[&Path]) -> Value {
    let mut arguments = vec!["prove", record];
    for checkpoint in checkpoints {
        arguments.extend(["--checkpoint", checkpoint.to_str().unwrap()]);
    }
    serde_json::from_str(&asked(server, &arguments)).unwrap()
}

/// Has a program judge bundles of a real server: whole ones, and one of them with each single byte
/// changed.
fn judges(program: impl Fn() -> Command) {
    let server = Server::start();
    let events = kit::lines(&fixtures().join("0001-reorganisation/events.jsonl"));
    server.send_lines(events[..11].iter().map(String::as_str));
    let older =
        server.file("older", bundle(&server, "1", &[])["checkpoint"].as_str().unwrap().as_bytes());
    // The handover, signed by two keys, is of 12 records.
    let handover =
        server.file("handover", asked(&server, &["log-key", "rotate", "--yes"]).as_bytes());
    server.send_lines(events[11..].iter().map(String::as_str));
    let imported = server.file(
        "imported",
        events[0].replace("\"id\":\"event_", "\"id\":\"event_imported_").as_bytes(),
    );
    asked(&server, &["import", imported.to_str().unwrap()]);
    let (keys, size) = (keys(&server), events.len() + 2);
    let (some, none): ([&Path; 2], [&Path; 0]) = ([&older, &handover], []);
    let prove = |seq: usize| {
        bundle(&server, &seq.to_string(), if seq.is_multiple_of(3) { &some } else { &none })
    };
    let mut whole: Vec<Value> = (1..=size).map(prove).collect();
    whole.extend([bundle(&server, "5", &[&older]), bundle(&server, "31", &[&handover])]);
    let changed = changes(&bundle(&server, "8", &[&older, &handover]));
    assert!(changed.len() > 1500, "{}", changed.len());
    let questions = whole.iter().chain(changed.iter().map(|(_, bundle)| bundle));
    let questions: Vec<String> =
        questions.map(|bundle| json!({ "keys": keys, "bundle": bundle }).to_string()).collect();
    let answers = answers(program(), &server.file("questions", questions.join("\n").as_bytes()));
    assert_eq!(answers.len(), questions.len());
    let (believed, refused) = answers.split_at(whole.len());
    for (seq, answer) in believed.iter().enumerate() {
        assert_eq!(answer, "proven", "bundle {seq}");
    }
    for ((place, _), answer) in changed.iter().zip(refused) {
        assert!(answer.starts_with("refused: "), "{place} was changed: {answer}");
    }
    holds(&program, &server, &keys, [&older, &handover]);
}

/// Has a program tie a bundle to checkpoints that are held, by lines and by files: its own and its
/// older ones, one that nothing ties to it, and one of another history, signed by the same key.
fn holds(
    program: &impl Fn() -> Command,
    server: &Server,
    keys: &[String],
    [older, handover]: [&Path; 2],
) {
    let tied = bundle(server, "8", &[older, handover]);
    let untied = bundle(server, "8", &[]);
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    let own = tied["checkpoint"].as_str().unwrap().to_owned();
    // Of the document's log everybody has the private key, and can write another history.
    let [example, example_key] = ["json", "vkey"].map(|kind| blocks("proofs.md", kind).concat());
    let (example, example_key): (Value, _) =
        (serde_json::from_str(&example).unwrap(), example_key.trim().to_owned());
    let forked = forked(example["checkpoint"].as_str().unwrap());
    let foreign = example["checkpoint"].as_str().unwrap();
    let all = [keys, std::slice::from_ref(&example_key)].concat();
    let cases = [
        (&tied, vec![own.clone()], "proven"),
        (&tied, vec![text(older), text(handover), own.clone()], "proven"),
        (&untied, vec![own.clone()], "proven"),
        (&untied, vec![own, text(older)], "refused: nothing ties it"),
        (&tied, vec![foreign.to_owned()], "refused: nothing ties it"),
        (&tied, vec![text(older).replace("\n11\n", "\n10\n")], "refused: "),
        (&example, vec![foreign.to_owned()], "proven"),
        (&example, vec![forked], "refused: two histories"),
    ];
    let keys_file = server.file("log.pub", all.join("\n").as_bytes());
    for (at, (bundle, held, expected)) in cases.into_iter().enumerate() {
        let question = json!({ "keys": all, "bundle": bundle, "held": held }).to_string();
        let answer = answers(program(), &server.file("question", question.as_bytes())).concat();
        assert!(answer.starts_with(expected), "case {at}: {answer}");
        let mut command = program();
        command.arg(server.file("proof.json", bundle.to_string().as_bytes())).arg(&keys_file);
        for (number, note) in held.iter().enumerate() {
            command.arg(server.file(&format!("held-{number}"), note.as_bytes()));
        }
        let output = command.output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim_end(), answer, "case {at}");
        assert_eq!(output.status.code(), Some(i32::from(expected != "proven")), "case {at}");
    }
}

/// A checkpoint of the same size as the example's and another root, signed by its key, whose
/// private half the document gives.
fn forked(note: &str) -> String {
    let key = SigningKey::from_bytes(&[1; 32]);
    let lines: Vec<&str> = note.lines().collect();
    let text = format!("{}\n{}\n{}\n", lines[0], lines[1], BASE64_STANDARD.encode([7; 32]));
    let (name, signature) = lines[4].rsplit_once(' ').unwrap();
    let hash = &BASE64_STANDARD.decode(signature).unwrap()[..4];
    format!(
        "{text}\n{name} {}\n",
        BASE64_STANDARD.encode([hash, &key.sign(text.as_bytes()).to_bytes()].concat())
    )
}

/// Returns the lines with which a program answers those of a file.
fn answers(mut program: Command, questions: &Path) -> Vec<String> {
    program.stdin(File::open(questions).unwrap()).stdout(Stdio::piped());
    let output = program.output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// The bundle with each single byte changed that its fields stand for, and where.
fn changes(bundle: &Value) -> Vec<(String, Value)> {
    let mut changes = Vec::new();
    let mut change = |place: String, value: Value| {
        let mut changed = bundle.clone();
        *changed.pointer_mut(place.split(' ').next().unwrap()).unwrap() = value;
        changes.push((place, changed));
    };
    let hashes = |place: &str| {
        (0..bundle.pointer(place).unwrap().as_array().unwrap().len())
            .map(|at| format!("{place}/{at}"))
            .collect()
    };
    let lists: Vec<Vec<String>> =
        ["/inclusion", "/older/0/consistency", "/older/1/consistency"].map(hashes).into();
    for place in ["/receipt", "/salt", "/body"]
        .map(str::to_owned)
        .into_iter()
        .chain(lists.into_iter().flatten())
    {
        let bytes =
            BASE64_STANDARD.decode(bundle.pointer(&place).unwrap().as_str().unwrap()).unwrap();
        for at in 0..bytes.len() {
            change(
                format!("{place} byte {at}"),
                json!(BASE64_STANDARD.encode(flipped(&bytes, at))),
            );
        }
    }
    for place in ["/checkpoint", "/older/0/checkpoint", "/older/1/checkpoint"] {
        let note = bundle.pointer(place).unwrap().as_str().unwrap();
        let (text, lines) = note.split_once("\n\n").unwrap();
        for at in 0..text.len() {
            let changed = String::from_utf8(flipped(text.as_bytes(), at)).unwrap();
            change(format!("{place} text {at}"), json!(format!("{changed}\n\n{lines}")));
        }
        // A second signature would still hold: only where there is one must its change be noticed,
        // and where there are two a wrong one as well.
        for line in lines.lines() {
            let (name, signature) = line.rsplit_once(' ').unwrap();
            let bytes = BASE64_STANDARD.decode(signature).unwrap();
            // From the fifth byte on: before stands the key's hash, and an unknown key's signature
            // is passed over.
            for at in 4..bytes.len() {
                let changed = format!("{name} {}", BASE64_STANDARD.encode(flipped(&bytes, at)));
                change(format!("{place} signature {at}"), json!(note.replace(line, &changed)));
            }
        }
    }
    for seq in [0, 7, 9] {
        change("/seq".to_owned(), json!(seq));
    }
    changes
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

// --- Documents ---

/// The blocks of a document that are fenced with this word.
fn blocks(document: &str, kind: &str) -> Vec<String> {
    let text = fs::read_to_string(sources().join("../docs").join(document)).unwrap();
    let (mut blocks, mut inside) = (Vec::new(), false);
    for line in text.lines() {
        match (inside, line.strip_prefix("```")) {
            (false, Some(fence)) if fence == kind => {
                blocks.push(String::new());
                inside = true;
            }
            (true, Some(_)) => inside = false,
            (true, None) => blocks.last_mut().unwrap().extend([line, "\n"]),
            _ => {}
        }
    }
    blocks
}

/// Runs a script of a document in a folder; what it printed, or all it said if it failed.
fn run(script: &str, folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let path = folder.join("script.py");
    fs::write(&path, script).unwrap();
    let mut command = python();
    command.arg(&path).args(arguments).current_dir(folder).env_remove("PYTHONOPTIMIZE");
    kit::finished(command, WITHIN)
}

fn documents() {
    let folder = tempfile::tempdir().unwrap();
    let leaf = blocks("format.md", "python");
    assert_eq!(leaf.len(), 1);
    run(&leaf[0], folder.path(), &[]).unwrap();
    run(&leaf[0].replace("salt salt", "salt Salt"), folder.path(), &[]).unwrap_err();

    let [bundle, key, script] = ["json", "vkey", "python"].map(|kind| {
        let blocks = blocks("proofs.md", kind);
        assert_eq!(blocks.len(), 1, "{kind}");
        blocks[0].clone()
    });
    fs::write(folder.path().join("key.txt"), &key).unwrap();
    let file = folder.path().join("proof.json");
    fs::write(&file, &bundle).unwrap();
    let whole: Value = serde_json::from_str(&bundle).unwrap();
    let proven = "record 7 of 7 is proven\n";
    assert_eq!(run(&script, folder.path(), &[]).unwrap(), proven);
    let (own, older) =
        (whole["checkpoint"].as_str().unwrap(), whole["older"][0]["checkpoint"].as_str().unwrap());
    fs::write(folder.path().join("own"), own).unwrap();
    fs::write(folder.path().join("older"), older).unwrap();
    fs::write(folder.path().join("forked"), forked(own)).unwrap();
    assert_eq!(run(&script, folder.path(), &["older", "own"]).unwrap(), proven);
    run(&script, folder.path(), &["forked"]).unwrap_err();
    let mut untied = whole.clone();
    untied.as_object_mut().unwrap().remove("older");
    fs::write(&file, untied.to_string()).unwrap();
    assert_eq!(run(&script, folder.path(), &["own"]).unwrap(), proven);
    run(&script, folder.path(), &["own", "older"]).unwrap_err();
    fs::write(&file, &bundle).unwrap();
    let check = |file: &Path| {
        kit::finished(rollcall(&["check", file.to_str().unwrap(), "--key", key.trim()]), WITHIN)
    };
    assert!(check(&file).unwrap().contains("event_01"));
    // A sample of changes: the script is the document's, and believes none of them.
    let changes = changes_of_the_example(&whole);
    for (place, changed) in changes {
        fs::write(&file, changed.to_string()).unwrap();
        run(&script, folder.path(), &[]).expect_err(&place);
        check(&file).expect_err(&place);
    }
}

fn changes_of_the_example(bundle: &Value) -> Vec<(String, Value)> {
    [
        "/checkpoint",
        "/receipt",
        "/salt",
        "/body",
        "/inclusion/0",
        "/older/0/checkpoint",
        "/older/0/consistency/0",
    ]
    .map(|place| {
        let mut changed = bundle.clone();
        let text = bundle.pointer(place).unwrap().as_str().unwrap();
        let other = if text.starts_with('A') { "B" } else { "A" };
        *changed.pointer_mut(place).unwrap() = json!(format!("{other}{}", &text[1..]));
        (place.to_owned(), changed)
    })
    .into()
}

fn openssl() {
    // `send` waits until the server is ready.
    let server = Server::with(&fixtures().join("0001-reorganisation/events.jsonl"));
    let keys = keys(&server);
    let file: PathBuf = server.data().join("checkpoint-key");
    let mut command = Command::new("openssl");
    command.args(["pkey", "-in", file.to_str().unwrap(), "-pubout"]);
    let pem = kit::finished(command, WITHIN).unwrap();
    let public: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let (public, key) = (
        BASE64_STANDARD.decode(public).unwrap(),
        keys[0].splitn(3, '+').nth(2).unwrap().to_owned(),
    );
    // In base64 there may be a plus as well. Both end with the 32 bytes of the key.
    let key = BASE64_STANDARD.decode(key).unwrap();
    assert_eq!(public[public.len() - 32..], key[1..]);
}
