use super::*;

fn redacted(body: &str) -> (String, Vec<String>) {
    let redacted = redact(body.as_bytes()).unwrap();
    (redacted.body, redacted.places)
}

/// Each body has one password, `$`.
const DISGUISES: [(&str, &str); 22] = [
    (r#"{"userName":"a","password":"$"}"#, "/password"),
    (r#"{"p\u0061ssw\u006frd" : "$"}"#, "/password"),
    (r#"{"PassWord":"$"}"#, "/PassWord"),
    (r#"{" password\t":"$"}"#, "/ password\t"),
    (
        r#"{"urn:ietf:params:scim:schemas:core:2.0:User:password":"$"}"#,
        "/urn:ietf:params:scim:schemas:core:2.0:User:password",
    ),
    (r#"{"Operations":[{"op":"replace","path":"password","value":"$"}]}"#, "/Operations/0/value"),
    (
        r#"{"Operations":[{"VALUE":"$","op":"Add","Path":" urn:x:User:PASSWORD "}]}"#,
        "/Operations/0/VALUE",
    ),
    (
        r#"{"Operations":[{"op":"add","value":{"active":true,"password":"$"}}]}"#,
        "/Operations/0/value/password",
    ),
    (r#"{"Operations":[{"path":"p\u0061ssword","value":["$"]}]}"#, "/Operations/0/value"),
    (r#"{"a":[[{"b/c":{"~":[1,{"password":{"x":"$"}}]}}]]}"#, "/a/0/0/b~1c/~0/1/password"),
    (r#"{"Operations":[{"path":"password[type eq \"x\"]","value":"$"}]}"#, "/Operations/0/value"),
    (r#"{"Operations":[{"path":"x:password.value","value":"$"}]}"#, "/Operations/0/value"),
    (r#"{"path":"title","path":"password","value":"$"}"#, "/value"),
    (r#"{"urn:x:2.0:User":{"Password":"$"}}"#, "/urn:x:2.0:User/Password"),
    (r#"{"credentials.password":"$"}"#, "/credentials.password"),
    (r#"{"password.value":"$"}"#, "/password.value"),
    (r#"{"Password .x":{"y":"$"}}"#, "/Password .x"),
    (r#"{"urn:x:2.0:User:password.value":"$"}"#, "/urn:x:2.0:User:password.value"),
    (r#"{"password[x eq 1]":"$"}"#, "/password[x eq 1]"),
    (r#"{"Operations":[{"path":"a.password[x eq 1].b","value":"$"}]}"#, "/Operations/0/value"),
    (r#"{"Operations":[{"path":"x:login.Password","value":"$"}]}"#, "/Operations/0/value"),
    (r#"{"Operations":[{"path":"logins[id eq 1].password","value":"$"}]}"#, "/Operations/0/value"),
];

#[test]
fn a_password_is_taken_out_however_it_is_disguised_and_every_other_byte_stays() {
    for (body, place) in DISGUISES {
        let sent = body.replace('$', "1mz050nq");
        let (kept, places) = redacted(&sent);
        assert!(!kept.contains("1mz050nq"), "{kept}");
        assert_eq!(places, [place], "{body}");
        let (head, tail) = kept.split_once("\"redacted\"").unwrap();
        assert!(sent.starts_with(head) && sent.ends_with(tail), "{sent} {kept}");
        // What was redacted is redacted already.
        assert_eq!(redacted(&kept), (kept, places));
    }
}

#[test]
fn a_password_in_the_filter_of_a_path_or_key_is_taken_out_of_it() {
    for (body, place) in [
        (r#"{"path":"a[password eq \"$\"].b","value":1}"#, "/path"),
        (r#"{"path":"a[b eq 1 and (x.Password sw $)]","value":1}"#, "/path"),
        (r#"{"x":1,"a[password eq \"$\"].b" : 2}"#, r#"/a[password eq "redacted"].b"#),
    ] {
        let (kept, places) = redacted(&body.replace('$', "S3cr3t"));
        let whole = r#"\"redacted\""#;
        let expected = body.replace(r#"\"$\""#, whole).replace('$', whole);
        assert_eq!((kept.as_str(), places), (expected.as_str(), vec![place.to_owned()]));
        assert_eq!(redacted(&kept), (kept, vec![]));
    }
    let operation = "{'op':'add','path':'a[type eq x and password eq redacted].b','value':1}";
    let draft = patched(&document("{'userName':'u'}"), operation).unwrap();
    assert_eq!(draft.document, document("{'userName':'u','a':[{'type':'x','b':1}]}"));
}

#[test]
fn each_of_a_repeated_key_is_taken_out() {
    let sent = r#"{"password":"one","a":1.0,"password":null,"PASSWORD":2}"#;
    let expected = r#"{"password":"redacted","a":1.0,"password":"redacted","PASSWORD":"redacted"}"#;
    assert_eq!(redacted(sent), (expected.into(), vec!["/password".into(), "/PASSWORD".into()]));
}

#[test]
fn what_is_not_a_password_stays() {
    for body in [
        r#"{"passwordHint":"a","mypassword":"b","password2":{"value":"c"},"age":{"password2":1}}"#,
        r#"{"Operations":[{"op":"replace","path":"title","value":"password"}]}"#,
        r#"{"note":"password: x","a" : [ 1.0 , 1e5 ],"b":"\u00e9\/"}"#,
        r#"{"path":["password"],"value":"x"}"#,
    ] {
        assert_eq!(redacted(body), (body.to_owned(), Vec::new()));
    }
}

#[test]
fn blanks_and_a_byte_order_mark_around_the_body_are_dropped() {
    assert_eq!(redacted("\u{feff} \r\n{ \"a\":1 }\t"), ("{ \"a\":1 }".into(), Vec::new()));
}

#[test]
fn a_body_that_is_not_an_object_of_bounded_depth_is_refused() {
    let deep = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
    assert!(redact(deep(64).as_bytes()).is_ok());
    let bodies: [&[u8]; 7] =
        [b"", b"[]", b"1", b"{", b"{}{}", b"{\"a\":\"\xff\"}", b"{\"a\":\"\n\"}"];
    for body in bodies.into_iter().chain([deep(65).as_bytes(), "[".repeat(1 << 20).as_bytes()]) {
        let refusal = redact(body).unwrap_err();
        assert_eq!((refusal.status, refusal.scim_type), (400, Some("invalidSyntax")));
    }
}

#[test]
fn what_no_request_can_change_is_refused_before_it_is_read() {
    let refused = |body: String| redact(body.as_bytes()).map(|_| ()).unwrap_err().status;
    let passwords = |count: usize| {
        let each: Vec<String> = (0..count).map(|at| format!("{{\"password\":{at}}}")).collect();
        format!("{{\"a\":[{}]}}", each.join(","))
    };
    assert_eq!(redact(passwords(1000).as_bytes()).unwrap().places.len(), 1000);
    assert_eq!(refused(passwords(1001)), 413);
    let nested = |levels: usize, width: usize| {
        let digits = vec!["1"; width].join(",");
        format!("{{\"a\":{}{digits}{}}}", "[".repeat(levels - 1), "]".repeat(levels - 1))
    };
    assert!(redact(nested(8, 600_000).as_bytes()).is_ok());
    assert!(redact(nested(64, 50_000).as_bytes()).is_ok());
    assert_eq!(refused(nested(9, 600_000)), 413);
    assert_eq!(refused(nested(2, 2_000_002)), 413);
}

#[test]
fn passwords_at_random_places_never_pass_and_other_bytes_always_do() {
    let keys = ["a", "passwords", "path", "value", "b", "schemas"];
    let secrets = ["password", "PASSWORD", "pass\\u0077ord", "urn:x:password", " Password "];
    let mut random = Random(11);
    for _ in 0..500 {
        let mut expected = String::new();
        let sent = random_object(&mut random, 0, &keys, &secrets, &mut expected);
        let (kept, _) = redacted(&sent);
        assert!(!kept.contains("s3cret"), "{sent} {kept}");
        assert_eq!(kept, expected, "{sent}");
    }
}

/// Writes a random object, and the same without passwords. No `path` is of a password here: the
/// disguises above have those.
fn random_object(
    random: &mut Random,
    depth: usize,
    keys: &[&str],
    secrets: &[&str],
    expected: &mut String,
) -> String {
    let mut sent = "{".to_owned();
    expected.push('{');
    for at in 0..random.below(5) {
        let gap = *random.of(&["", " ", "\n"]);
        let comma = if at > 0 { "," } else { "" };
        let is_secret = random.below(4) == 0;
        let key = if is_secret { *random.of(secrets) } else { *random.of(keys) };
        let head = format!("{comma}{gap}\"{key}\":{gap}");
        sent.push_str(&head);
        expected.push_str(&head);
        if is_secret {
            let values = ["\"s3cret\"", "[\"s3cret\"]", "{\"x\":\"s3cret\"}", "null"];
            sent.push_str(random.of::<&str>(&values));
            expected.push_str("\"redacted\"");
        } else if depth < 6 && random.below(3) == 0 {
            sent.push('[');
            expected.push('[');
            sent.push_str(&random_object(random, depth + 1, keys, secrets, expected));
            sent.push(']');
            expected.push(']');
        } else {
            let value = random.of::<&str>(&["1.0", "\"\\u00e9\"", "null", "[ true, -0 ]"]);
            sent.push_str(value);
            expected.push_str(value);
        }
    }
    sent.push('}');
    expected.push('}');
    sent
}
