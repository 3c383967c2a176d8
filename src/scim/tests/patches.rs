use super::*;

const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

/// Applies operations to a user, and compares with the document that must come of it.
fn check(before: &str, operations: &str, after: &str) {
    let before = document(before);
    let draft = patched(&before, operations).unwrap_or_else(|refusal| {
        panic!("{operations}: {refusal:?}");
    });
    let expected = document(after);
    assert_eq!(draft.document, expected, "{operations}: {}", draft.document.text());
    if expected == before {
        assert_eq!(draft.document.text(), before.text(), "{operations}");
    }
}

fn refused(before: &str, operations: &str) -> (u16, Option<&'static str>) {
    error(patched(&document(before), operations))
}

#[test]
fn op_and_path_and_the_list_itself_may_be_in_any_case() {
    let before = document("{'userName':'a'}");
    for body in [
        "{'schemas':['urn:ietf:params:scim:api:messages:2.0:PatchOp'],
          'Operations':[{'op':'rEpLaCe','path':'TITLE','value':'t'}]}",
        "{'operations':[{'OP':'add','PATH':'title','VALUE':'t'}]}",
        "{'Operations':{'op':'Add','path':'urn:ietf:params:scim:schemas:core:2.0:User:title','value':'t'}}",
        "{'Operations':[{'op':'add','path':'','value':{'Title':'t'}}]}",
        "{'Operations':[{'op':'add','path':null,'value':{'title':'t'}}]}",
    ] {
        let draft = patch(Kind::User, &before, &quoted(body)).unwrap();
        assert_eq!(draft.document, document("{'userName':'a','title':'t'}"), "{body}");
    }
    for (body, expected) in [
        ("{}", "invalidSyntax"),
        ("{'Operations':1}", "invalidSyntax"),
        ("{'Operations':[1]}", "invalidSyntax"),
        ("{'Operations':[{'path':'title','value':'t'}]}", "invalidSyntax"),
        ("{'Operations':[{'op':'move','path':'title','value':'t'}]}", "invalidSyntax"),
        ("{'Operations':[{'op':'remove'}]}", "noTarget"),
        ("{'Operations':[{'op':'remove','value':{'title':'t'}}]}", "noTarget"),
        ("{'Operations':[{'op':'add','value':'t'}]}", "invalidSyntax"),
        ("{'Operations':[{'op':'add','path':7,'value':'t'}]}", "invalidPath"),
        ("{'Operations':[{'op':'add','path':'title'}]}", "invalidValue"),
        ("{'Operations':[{'op':'add','path':'a b','value':1}]}", "invalidPath"),
        ("{'Operations':[{'op':'add','path':'emails[','value':1}]}", "invalidPath"),
        ("{'Operations':[{'op':'add','path':'emails[type eq]','value':1}]}", "invalidFilter"),
        ("{'Operations':[{'op':'add','path':'title[a eq 1]','value':1}]}", "invalidPath"),
        ("{'Operations':[{'op':'replace','path':'id','value':'x'}]}", "mutability"),
        ("{'Operations':[{'op':'remove','path':'id'}]}", "mutability"),
    ] {
        let result = patch(Kind::User, &before, &quoted(body));
        assert_eq!(error(result), (400, Some(expected)), "{body}");
    }
}

#[test]
fn an_empty_list_of_operations_changes_nothing() {
    check("{'userName':'a'}", "", "{'userName':'a'}");
}

#[test]
fn without_a_path_keys_may_be_names_dotted_names_and_urns() {
    check(
        "{'userName':'a','name':{'givenName':'x','middleName':'m'}}",
        &format!(
            "{{'op':'replace','value':{{'id':'other','schemas':['x'],'displayName':'D',
            'name.givenName':'y','{ENTERPRISE}:employeeNumber':'7','department':'Sales',
            '{ENTERPRISE}':{{'division':'d'}},'urn:x:2.0:User:tag':'t',
            'emails[type eq \\'work\\'].value':'a@b'}}}}"
        )
        .replace("\\'", "\\\""),
        &format!(
            "{{'userName':'a','name':{{'givenName':'y','middleName':'m'}},'displayName':'D',
            '{ENTERPRISE}':{{'employeeNumber':'7','department':'Sales','division':'d'}},
            'urn:x:2.0:User':{{'tag':'t'}},'emails':[{{'type':'work','value':'a@b'}}]}}"
        ),
    );
}

#[test]
fn a_complex_attribute_merges_and_a_list_is_replaced() {
    check(
        "{'userName':'a','name':{'givenName':'x','familyName':'y'},'emails':[{'value':'1'}]}",
        "{'op':'replace','path':'name','value':{'givenName':'z','formatted':''}},
         {'op':'replace','path':'emails','value':[{'value':'2'},{'value':'3'}]}",
        "{'userName':'a','name':{'givenName':'z','familyName':'y'},
          'emails':[{'value':'2'},{'value':'3'}]}",
    );
    assert_eq!(
        refused("{'userName':'a'}", "{'op':'replace','path':'name','value':'x'}"),
        (400, Some("invalidValue"))
    );
}

#[test]
fn an_empty_text_or_null_removes_an_attribute() {
    for (value, operations) in
        [("''", &["add", "replace"][..]), ("null", &["add", "replace"]), ("[]", &["replace"])]
    {
        for operation in operations {
            check(
                "{'userName':'a','title':'t','name':{'givenName':'x'},'emails':[{'value':'1'}]}",
                &format!(
                    "{{'op':'{operation}','path':'title','value':{value}}},
                     {{'op':'{operation}','path':'name.givenName','value':{value}}},
                     {{'op':'{operation}','path':'emails','value':{value}}},
                     {{'op':'{operation}','path':'nickName','value':{value}}}"
                ),
                "{'userName':'a'}",
            );
        }
    }
}

#[test]
fn an_empty_list_adds_nothing() {
    let before = "{'userName':'a','emails':[{'value':'1'}]}";
    check(before, "{'op':'add','path':'emails','value':[]}", before);
    check(before, "{'op':'add','value':{'emails':[],'roles':[]}}", before);
}

#[test]
fn merging_or_adding_an_empty_object_changes_nothing() {
    let before = format!(
        "{{'userName':'a','name':{{'givenName':'x'}},'emails':[{{'type':'work','value':'1'}}],
        'odd':{{'a':1}},'{ENTERPRISE}':{{'manager':{{'value':'M'}}}}}}"
    );
    for operation in [
        "{'op':'replace','path':'name','value':{}}",
        "{'op':'add','path':'name','value':{}}",
        "{'op':'replace','value':{'name':{},'manager':{},'odd':{}}}",
        "{'op':'add','path':'manager','value':[{}]}",
        "{'op':'add','path':'emails','value':{}}",
        "{'op':'add','path':'emails','value':[{}]}",
        "{'op':'add','path':'emails[type eq work]','value':{}}",
        "{'op':'add','path':'emails[type eq work]','value':[]}",
        "{'op':'add','path':'emails[type eq home]','value':{}}",
        "{'op':'add','value':{'emails':{},'odd':{},'roles':{},'odder':{}}}",
    ] {
        check(&before, operation, &before);
    }
    // What is replaced by nothing is removed.
    let removed = before.replace("'emails':[{'type':'work','value':'1'}],", "");
    check(&before, "{'op':'replace','path':'emails','value':{}}", &removed);
}

#[test]
fn add_appends_what_is_not_there_by_value_and_type() {
    let before = "{'userName':'a','emails':[{'type':'work','value':'1','primary':true}]}";
    check(
        before,
        "{'op':'add','path':'emails','value':[{'type':'WORK','value':'1'}]}",
        "{'userName':'a','emails':[{'type':'WORK','value':'1','primary':true}]}",
    );
    check(before, "{'op':'add','path':'emails','value':{'type':'work','value':'1'}}", before);
    check(
        before,
        "{'op':'add','path':'emails','value':[{'type':'home','value':'1'},{'value':'2'}]}",
        "{'userName':'a','emails':[{'type':'work','value':'1','primary':true},
          {'type':'home','value':'1'},{'value':'2'}]}",
    );
}

#[test]
fn one_primary_clears_the_others_and_two_in_one_value_are_refused() {
    let before =
        "{'userName':'a','emails':[{'value':'1','primary':true},{'type':'home','value':'2'}]}";
    let after = "{'userName':'a','emails':[{'value':'1','primary':false},
                  {'type':'home','value':'2','primary':true}]}";
    check(
        before,
        "{'op':'add','path':'emails','value':[{'type':'home','value':'2','primary':'True'}]}",
        after,
    );
    check(
        before,
        r"{'op':'replace','path':'emails[type eq \'home\'].primary','value':true}"
            .replace("\\'", "\\\"")
            .as_str(),
        after,
    );
    let two = "[{'value':'1','primary':true},{'value':'2','primary':true}]";
    for operation in ["add", "replace"] {
        let operation = format!("{{'op':'{operation}','path':'emails','value':{two}}}");
        assert_eq!(refused(before, &operation), (400, Some("invalidValue")));
    }
    assert_eq!(
        refused(before, "{'op':'replace','path':'emails.primary','value':true}"),
        (400, Some("invalidValue"))
    );
}

#[test]
fn remove_takes_all_or_those_that_are_listed_or_found() {
    let before =
        "{'userName':'a','emails':[{'type':'work','value':'1'},{'type':'home','value':'2'},
                   {'value':'3'}]}";
    check(before, "{'op':'remove','path':'emails'}", "{'userName':'a'}");
    check(before, "{'op':'remove','path':'emails','value':null}", "{'userName':'a'}");
    check(before, "{'op':'remove','path':'emails','value':''}", "{'userName':'a'}");
    check(before, "{'op':'remove','path':'emails','value':[]}", before);
    check(
        before,
        "{'op':'remove','path':'emails','value':[{'value':'1'},{'type':'work','value':'2'}]}",
        "{'userName':'a','emails':[{'type':'home','value':'2'},{'value':'3'}]}",
    );
    check(
        before,
        "{'op':'remove','path':'emails','value':'3'}",
        "{'userName':'a','emails':[{'type':'work','value':'1'},{'type':'home','value':'2'}]}",
    );
    let filter = |filter: &str| format!("{{'op':'remove','path':'emails[{filter}]'}}");
    check(before, &filter("type eq \\\"fax\\\""), before);
    check(
        before,
        &filter("type eq work or value eq 3"),
        "{'userName':'a','emails':[{'type':'home','value':'2'}]}",
    );
    check(before, "{'op':'remove','path':'title'}", before);
    check(before, "{'op':'remove','path':'name.givenName'}", before);
    check(before, "{'op':'remove','path':'department'}", before);
}

#[test]
fn several_removals_by_filter_do_not_shift_each_other() {
    check(
        "{'userName':'a','roles':[{'value':'1'},{'value':'2'},{'value':'3'},{'value':'4'}]}",
        "{'op':'remove','path':'roles[value eq 1]'},{'op':'remove','path':'roles[value eq 2]'},
         {'op':'remove','path':'roles[value eq 3]'}",
        "{'userName':'a','roles':[{'value':'4'}]}",
    );
}

#[test]
fn an_element_left_with_nothing_but_what_its_filter_says_is_removed() {
    let before = "{'userName':'a','phoneNumbers':[{'type':'work','value':'1'},
                   {'type':'mobile','value':'2','display':'d'}]}";
    let operation = |op: &str, kind: &str, value: &str| {
        format!("{{'op':'{op}','path':'phoneNumbers[type eq {kind}].value'{value}}}")
    };
    for removal in [
        operation("remove", "work", ""),
        operation("replace", "work", ",'value':''"),
        operation("add", "work", ",'value':null"),
    ] {
        check(
            before,
            &removal,
            "{'userName':'a','phoneNumbers':[{'type':'mobile','value':'2','display':'d'}]}",
        );
    }
    check(
        before,
        &operation("remove", "mobile", ""),
        "{'userName':'a','phoneNumbers':[{'type':'work','value':'1'},
          {'type':'mobile','display':'d'}]}",
    );
}

#[test]
fn replace_where_nothing_fits_makes_a_value_only_if_the_filter_describes_one() {
    let before = "{'userName':'a','emails':[{'type':'work','value':'1'}]}";
    let replace = |path: &str| format!("{{'op':'replace','path':'{path}','value':'x'}}");
    let made =
        |list: &str| format!("{{'userName':'a','emails':[{{'type':'work','value':'1'}}],{list}}}");
    check(
        before,
        &replace("phoneNumbers[type eq \\\"mobile\\\"].value"),
        &made("'phoneNumbers':[{'type':'mobile','value':'x'}]"),
    );
    check(
        before,
        &replace("phoneNumbers[type eq mobile and primary eq true].value"),
        &made("'phoneNumbers':[{'type':'mobile','primary':true,'value':'x'}]"),
    );
    check(
        before,
        &replace("roles[primary eq \\\"True\\\"].value"),
        &made("'roles':[{'primary':true,'value':'x'}]"),
    );
    check(
        before,
        &replace("addresses[type eq work].streetAddress"),
        &made("'addresses':[{'type':'work','streetAddress':'x'}]"),
    );
    for path in [
        "phoneNumbers[type eq mobile]",
        "phoneNumbers[type eq car].value",
        "phoneNumbers[type ne mobile].value",
        "phoneNumbers[type eq mobile or primary eq true].value",
        "phoneNumbers[value eq 7].display",
        "roles[type eq work].value",
        "emails[type eq home and value eq 2 and not (display pr)].value",
        "unknown[type eq work].value",
    ] {
        assert_eq!(refused(before, &replace(path)), (400, Some("noTarget")), "{path}");
    }
    // What adds always finds a place.
    check(
        before,
        "{'op':'add','path':'phoneNumbers[type eq car].value','value':'x'}",
        &made("'phoneNumbers':[{'type':'car','value':'x'}]"),
    );
    check(
        before,
        "{'op':'add','path':'phoneNumbers[type eq mobile]','value':{'value':'x','display':'d'}}",
        &made("'phoneNumbers':[{'type':'mobile','value':'x','display':'d'}]"),
    );
}

#[test]
fn a_value_that_a_filter_finds_is_replaced_as_a_whole() {
    let with = |list: &str| format!("{{'userName':'a','addresses':[{list}]}}");
    let other = "{'type':'other','locality':'O'}";
    let work = "{'type':'work','primary':true,'locality':'L','country':'DE'}";
    let before = &with(&format!("{work},{other}"));
    let operation = |op: &str, path: &str, value: &str| {
        format!("{{'op':'{op}','path':'addresses[{path}]','value':{value}}}")
    };
    for (path, value, after) in [
        ("type eq work", "{'type':'home','region':'R'}", "{'type':'home','region':'R'}"),
        ("type eq work", "[{'region':'R'}]", "{'type':'work','region':'R'}"),
        ("primary eq true", "{'region':'R'}", "{'primary':true,'region':'R'}"),
        ("country eq DE", "{'region':'R'}", "{'region':'R'}"),
        (
            "type eq work or type eq home and primary pr",
            "{'region':'R','primary':false}",
            "{'type':'work','primary':false,'region':'R'}",
        ),
    ] {
        let after = with(&format!("{after},{other}"));
        check(before, &operation("replace", path, value), &after);
    }
    // A part, and what is added, leave the others as they were.
    let merged = "{'type':'work','primary':true,'locality':'L','country':'DE','region':'R'}";
    let merged = &with(&format!("{merged},{other}"));
    check(before, &operation("add", "type eq work", "{'region':'R'}"), merged);
    let part = "{'op':'replace','path':'addresses[type eq work].region','value':'R'}";
    check(before, part, merged);
}

#[test]
fn a_part_of_a_list_without_a_filter_is_that_of_each_value() {
    check(
        "{'userName':'a','emails':[{'type':'work','value':'1'},{'value':'2'}]}",
        "{'op':'replace','path':'emails.display','value':'d'}",
        "{'userName':'a','emails':[{'type':'work','value':'1','display':'d'},
          {'value':'2','display':'d'}]}",
    );
    check(
        "{'userName':'a'}",
        "{'op':'add','path':'emails.value','value':'1'}",
        "{'userName':'a','emails':[{'value':'1'}]}",
    );
}

#[test]
fn manager_may_be_an_object_a_list_of_one_or_a_bare_id() {
    let with = |manager: &str| format!("{{'userName':'a','{ENTERPRISE}':{{'manager':{manager}}}}}");
    let before = with("{'value':'L','displayName':'Old'}");
    let after = with("{'value':'M'}");
    for value in [
        "'M'",
        "{'value':'M'}",
        "[{'value':'M'}]",
        "['M']",
        "{'$ref':'http://h/Users/M','value':'M'}",
        "[{'$ref':'http://h/Users/M','VALUE':'M'}]",
    ] {
        for path in ["manager".to_owned(), format!("{ENTERPRISE}:manager")] {
            let operation = format!("{{'op':'Add','path':'{path}','value':{value}}}");
            check(&before, &operation, &after);
            check("{'userName':'a'}", &operation, &after);
        }
    }
    for operation in [
        "{'op':'replace','path':'manager','value':{'value':''}}",
        "{'op':'replace','path':'manager','value':{'value':null,'displayName':'x'}}",
        "{'op':'replace','path':'manager','value':''}",
        "{'op':'replace','path':'manager','value':[]}",
        "{'op':'replace','path':'manager.value','value':''}",
        "{'op':'remove','path':'manager'}",
        "{'op':'remove','path':'manager.value'}",
    ] {
        check(&before, operation, "{'userName':'a'}");
    }
    check(
        &before,
        "{'op':'replace','path':'manager.value','value':'M'}",
        &with("{'value':'M','displayName':'Old'}"),
    );
}

#[test]
fn only_a_plain_true_makes_a_user_active() {
    let before = "{'userName':'a','active':false}";
    let active = |operation: &str| {
        let draft = patched(&document(before), operation).unwrap();
        (draft.active, at(&draft.document.text(), "active"))
    };
    let text = |text: &str| text.to_owned();
    for value in ["true", "'True'", "'true'"] {
        let operation = format!("{{'op':'Replace','path':'active','value':{value}}}");
        assert_eq!(active(&operation), (Some(true), text("true")));
    }
    assert_eq!(active("{'op':'replace','value':{'active':'False'}}"), (Some(false), text("false")));
    for operation in [
        "{'op':'remove','path':'active'}",
        "{'op':'replace','path':'active','value':null}",
        "{'op':'replace','path':'active','value':''}",
        "{'op':'replace','value':{'active':null}}",
    ] {
        assert_eq!(active(operation), (None, String::new()), "{operation}");
    }
    assert_eq!(active("{'op':'add','path':'title','value':'t'}"), (None, text("false")));
    for value in ["1", "'1'", "'yes'", "{}", "[true]"] {
        let operation = format!("{{'op':'replace','path':'active','value':{value}}}");
        assert_eq!(refused(before, &operation), (400, Some("invalidValue")), "{value}");
    }
}

#[test]
fn a_single_value_may_be_wrapped_in_a_list_of_one() {
    check(
        "{'userName':'a','emails':[{'type':'work','value':'1'}]}",
        "{'op':'Add','path':'displayName','value':[{'$ref':null,'value':'D'}]},
         {'op':'Add','path':'name.givenName','value':['G']},
         {'op':'Replace','path':'emails[type eq work].value','value':[{'value':'2'}]},
         {'op':'Add','path':'department','value':[{'$ref':null,'value':'Sales'}]}",
        &format!(
            "{{'userName':'a','emails':[{{'type':'work','value':'2'}}],'displayName':'D',
            'name':{{'givenName':'G'}},'{ENTERPRISE}':{{'department':'Sales'}}}}"
        ),
    );
}

#[test]
fn two_values_that_become_the_same_are_one() {
    check(
        "{'userName':'a','emails':[{'type':'work','value':'1'},{'type':'home','value':'1'}]}",
        "{'op':'replace','path':'emails[type eq home].type','value':'work'}",
        "{'userName':'a','emails':[{'type':'work','value':'1'}]}",
    );
}

#[test]
fn user_name_cannot_be_removed() {
    for operation in [
        "{'op':'remove','path':'userName'}",
        "{'op':'replace','path':'userName','value':''}",
        "{'op':'replace','value':{'userName':null}}",
    ] {
        assert_eq!(refused("{'userName':'a'}", operation), (400, Some("invalidValue")));
    }
}

#[test]
fn unknown_attributes_are_kept_and_never_refused() {
    check(
        "{'userName':'a'}",
        "{'op':'add','path':'__proto__','value':{'admin':true}},
         {'op':'add','path':'constructor.prototype','value':'x'},
         {'op':'replace','path':'favourites','value':[1.0,2]},
         {'op':'add','value':{'a.b.c':1,'odd key':2,'x[y':3,'urn:x:2.0:User':'text'}}",
        "{'userName':'a','__proto__':{'admin':true},'constructor':{'prototype':'x'},
          'favourites':[1.0,2],'a.b.c':1,'odd key':2,'x[y':3,'urn:x:2.0:User':'text'}",
    );
}

#[test]
fn what_no_client_writes_is_passed_over() {
    let before = "{'userName':'a'}";
    check(
        before,
        "{'op':'add','path':'groups','value':[{'value':'g'}]},
         {'op':'replace','path':'meta.created','value':'x'},
         {'op':'replace','path':'schemas','value':['x']},
         {'op':'replace','path':'password','value':'redacted'},
         {'op':'replace','value':{'password':'redacted','meta':{},'groups':[]}},
         {'op':'remove','path':'groups'},{'op':'remove','path':'password'}",
        before,
    );
}

#[test]
fn a_whole_extension_is_merged_or_removed_by_its_urn() {
    let before = format!("{{'userName':'a','{ENTERPRISE}':{{'department':'d','division':'v'}}}}");
    check(
        &before,
        &format!("{{'op':'replace','path':'{ENTERPRISE}','value':{{'Department':'e'}}}}"),
        &format!("{{'userName':'a','{ENTERPRISE}':{{'department':'e','division':'v'}}}}"),
    );
    let lower = ENTERPRISE.to_lowercase();
    check(&before, &format!("{{'op':'remove','path':'{lower}'}}"), "{'userName':'a'}");
    check(
        &before,
        "{'op':'remove','path':'department'},{'op':'remove','path':'division'}",
        "{'userName':'a'}",
    );
}

#[test]
fn all_or_nothing() {
    let before = document("{'userName':'a'}");
    let result = patched(
        &before,
        "{'op':'replace','path':'title','value':'t'},{'op':'replace','path':'id','value':'x'}",
    );
    assert_eq!(error(result), (400, Some("mutability")));
    assert_eq!(before.text(), quoted("{'userName':'a'}"));
}

#[test]
fn more_than_a_thousand_operations_are_refused() {
    let operations = |count| vec!["{'op':'add','path':'title','value':'t'}"; count].join(",");
    let before = document("{'userName':'a'}");
    assert!(patched(&before, &operations(1000)).is_ok());
    assert_eq!(error(patched(&before, &operations(1001))).0, 413);
}

#[test]
fn a_long_path_is_refused_and_deep_brackets_cost_little() {
    let before = document("{'userName':'a'}");
    let long = format!("{{'op':'add','path':'{}','value':1}}", "x".repeat(FILTER_BYTES_MAX + 1));
    assert_eq!(error(patched(&before, &long)), (400, Some("invalidPath")));
    let nested = format!("emails[{}value eq 1{}]", "(".repeat(3000), ")".repeat(3000));
    let nested = format!("{{'op':'add','path':'{nested}','value':1}}");
    assert_eq!(error(patched(&before, &nested)), (400, Some("invalidFilter")));
}

#[test]
fn filters_that_compare_too_much_are_refused() {
    let group = document("{'displayName':'g'}");
    let operation = "{'op':'remove','path':'members[type eq Group]'}";
    assert!(patched_group(&group, &[operation; 40].join(",")).is_ok());
    assert_eq!(error(patched_group(&group, &[operation; 41].join(","))).0, 413);
    let by_value = "{'op':'remove','path':'members[value eq U]'}";
    assert!(patched_group(&group, &[by_value; 1000].join(",")).is_ok());
}

#[test]
fn operations_on_members_become_changes_in_their_order() {
    let before = document("{'displayName':'g','externalId':'e'}");
    let changes = |operations: &str| {
        let draft = patched_group(&before, operations).unwrap();
        assert_eq!(draft.document.text(), before.text(), "{operations}");
        draft.members
    };
    let remove = |ids: &[&str]| MemberChange::Remove(ids.iter().map(|id| (*id).into()).collect());
    let bare = |id: &str| Member { value: id.into(), kind: None, display: None };
    for (operations, expected) in [
        ("{'op':'remove','path':'members'}", vec![MemberChange::Clear]),
        ("{'op':'remove','path':'members','value':null}", vec![MemberChange::Clear]),
        ("{'op':'remove','path':'members','value':[]}", vec![]),
        (
            "{'op':'remove','path':'members','value':[{'$ref':null,'value':'U'},{'value':'V'}]}",
            vec![remove(&["U", "V"])],
        ),
        ("{'op':'remove','path':'members[value eq \\\"U\\\"]'}", vec![remove(&["U"])]),
        ("{'op':'remove','path':'members[value eq U or value eq V]'}", vec![remove(&["U", "V"])]),
        ("{'op':'add','path':'members','value':'U'}", vec![MemberChange::Add(vec![bare("U")])]),
        ("{'op':'add','path':'members','value':[]}", vec![]),
        ("{'op':'remove','path':'members','value':''}", vec![]),
        (
            "{'op':' Remove ','path':'members','value':[{'$ref':'https://x.test/v2/Users/U'}]}",
            vec![remove(&["U"])],
        ),
        (
            "{'op':'add','path':'members[value eq U]','value':{'display':'u'}}",
            vec![MemberChange::Add(vec![bare("U")])],
        ),
        ("{'op':'replace','path':'members','value':[]}", vec![MemberChange::Clear]),
        ("{'op':'replace','path':'members','value':''}", vec![MemberChange::Clear]),
        (
            "{'op':'replace','value':{'id':'G','displayName':'g','members':[{'value':'U'}]}}",
            vec![MemberChange::Replace(vec![bare("U")])],
        ),
        (
            "{'op':'remove','path':'members[value eq U]'},{'op':'add','path':'members','value':'U'}",
            vec![remove(&["U"]), MemberChange::Add(vec![bare("U")])],
        ),
        ("{'op':'replace','path':'displayName','value':'g'}", vec![]),
    ] {
        assert_eq!(changes(operations), expected, "{operations}");
    }
    let found = changes("{'op':'remove','path':'members[type eq Group]'}");
    let [MemberChange::RemoveWhere(filter)] = found.as_slice() else { panic!("{found:?}") };
    // Nothing takes the place of a member whose name is given, or no member at all.
    for (operation, others) in [
        ("{'op':'replace','path':'members[value eq U]','value':{'value':'V'}}", Some("V")),
        ("{'op':'replace','path':'members[value eq U].value','value':'V'}", Some("V")),
        ("{'op':'replace','path':'members[value eq U].display','value':'u'}", None),
        ("{'op':'replace','path':'members[value eq U]','value':{'display':'u'}}", None),
    ] {
        let replaced = changes(operation);
        let [MemberChange::ReplaceWhere(filter, given)] = &replaced[..] else {
            panic!("{operation}: {replaced:?}")
        };
        assert_eq!(filter.values(), Some(vec!["U".into()]), "{operation}");
        assert_eq!(*given, others.map(|id| vec![bare(id)]), "{operation}");
    }
    for value in ["null", "''", "[]"] {
        let replaced = format!("{{'op':'replace','path':'members[value eq U]','value':{value}}}");
        assert_eq!(changes(&replaced), [remove(&["U"])], "{value}");
    }
    let member = |kind| MemberOf { id: "x".into(), kind, display: None };
    assert!(filter.matches_member(&member(Kind::Group)));
    assert!(!filter.matches_member(&member(Kind::User)));
}

#[test]
fn replacing_the_name_of_a_group_leaves_its_members() {
    let before = document("{'displayName':'g'}");
    let draft =
        patched_group(&before, "{'op':'replace','value':{'id':'G','displayName':'h'}}").unwrap();
    assert_eq!((draft.document.text(), draft.members), (quoted("{'displayName':'h'}"), vec![]));
    let removal = patched_group(&before, "{'op':'remove','path':'displayName'}");
    assert_eq!(error(removal), (400, Some("invalidValue")));
}
