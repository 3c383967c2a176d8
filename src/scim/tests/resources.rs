use super::*;

#[test]
fn a_user_is_stored_as_sent_under_the_names_of_the_rfc() {
    let draft = user(
        r"{'schemas':['urn:ietf:params:scim:schemas:core:2.0:User'],'ID':'mine','meta':{'x':1},
        'groups':[],'USERNAME':' Bjensen ','Active':'True','password':'redacted',
        'emails':[{'Primary':'true','TYPE':'work','Value':'B@x'}],'x_level':1.0,
        'name':{'GivenName':'Barbara','familyname':'Jensen'},
        'urn:x:2.0:User':{'Tag':007}}"
            .replace("007", "7.10")
            .as_str(),
    );
    let expected = r"{'userName':' Bjensen ','active':true,
        'emails':[{'primary':true,'type':'work','value':'B@x'}],'x_level':1.0,
        'name':{'givenName':'Barbara','familyName':'Jensen'},'urn:x:2.0:User':{'Tag':7.10}}";
    let expected: String = quoted(expected).split("\n        ").collect();
    assert_eq!(draft.document.text(), expected);
    assert_eq!(draft.active, Some(true));
}

#[test]
fn a_new_user_is_active_unless_the_body_says_otherwise() {
    for (active, expected) in [
        ("", true),
        (",'active':null", true),
        (",'active':true", true),
        (",'active':'TRUE'", true),
        (",'active':false", false),
        (",'active':'False'", false),
    ] {
        let draft = user(&format!("{{'userName':'a'{active}}}"));
        assert_eq!(draft.active, Some(expected), "{active}");
        assert_eq!(at(&draft.document.text(), "active"), expected.to_string());
    }
    for active in ["1", "'yes'", "' true '", "{}", "[true]", "0"] {
        let body = quoted(&format!("{{'userName':'a','active':{active}}}"));
        assert_eq!(error(create(Kind::User, &body)), (400, Some("invalidValue")), "{active}");
    }
}

#[test]
fn a_resource_without_a_name_is_refused() {
    for (kind, body) in [
        (Kind::User, "{}"),
        (Kind::User, "{'userName':''}"),
        (Kind::User, "{'userName':null,'displayName':'a'}"),
        (Kind::User, "{'userName':1}"),
        (Kind::User, "{'userName':['a','b']}"),
        (Kind::Group, "{'userName':'a'}"),
        (Kind::Group, "{'displayName':''}"),
    ] {
        assert_eq!(error(create(kind, &quoted(body))), (400, Some("invalidValue")), "{body}");
    }
    for body in ["[]", "1", "", "{"] {
        assert_eq!(error(create(Kind::User, body)), (400, Some("invalidSyntax")), "{body}");
    }
}

#[test]
fn null_and_empty_values_are_unassigned() {
    let draft = user(
        "{'userName':'a','title':null,'addresses':[],'name':{},'emails':null,'roles':[null],
        'phoneNumbers':[{'type':'work','value':''}],'nickName':'','manager':null,'department':null}",
    );
    assert_eq!(draft.document, document("{'userName':'a','active':true}"));
}

#[test]
fn bare_names_of_the_enterprise_extension_mean_the_extension() {
    let draft = user(
        "{'userName':'a','department':'Sales','employeeNumber':'7','costCenter':'c',
        'organization':'o','DIVISION':'d','manager':'M'}",
    );
    let enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
    assert_eq!(
        draft.document,
        document(&format!(
            "{{'userName':'a','active':true,'{enterprise}':{{'department':'Sales','employeeNumber':
            '7','costCenter':'c','organization':'o','division':'d','manager':{{'value':'M'}}}}}}"
        ))
    );
    assert_eq!(draft.document.manager(), Some("M"));
    // A group has no such extension: there the name is unknown.
    let group = group("{'displayName':'g','department':'Sales'}");
    assert_eq!(group.document.text(), quoted("{'displayName':'g','department':'Sales'}"));
}

#[test]
fn a_list_may_be_one_object_or_a_bare_text_and_has_each_type_and_value_once() {
    let emails = |emails: &str| {
        let draft = user(&format!("{{'userName':'a','emails':{emails}}}"));
        at(&draft.document.text(), "emails")
    };
    assert_eq!(emails("{'value':'a@b'}"), quoted("[{'value':'a@b'}]"));
    assert_eq!(emails("'a@b'"), quoted("[{'value':'a@b'}]"));
    assert_eq!(emails("['a@b','c@d']"), quoted("[{'value':'a@b'},{'value':'c@d'}]"));
    assert_eq!(
        emails("[{'type':'work','value':'a'},{'type':'Work','value':'a'},{'value':'a'}]"),
        quoted("[{'type':'work','value':'a'},{'value':'a'}]")
    );
    let body =
        "{'userName':'a','emails':[{'value':'a','primary':true},{'value':'b','primary':true}]}";
    assert_eq!(error(create(Kind::User, &quoted(body))), (400, Some("invalidValue")));
    let body = "{'userName':'a','emails':[{'value':'a','primary':'maybe'}]}";
    assert_eq!(error(create(Kind::User, &quoted(body))), (400, Some("invalidValue")));
}

#[test]
fn the_first_of_two_doubles_stays_and_is_primary_if_one_of_them_is() {
    let (home, work) = ("{'value':'x@q','type':'home'}", "{'value':'a@q','type':'work'}");
    let primary = "{'value':'a@q','type':'work','primary':true}";
    let draft = user(&format!("{{'userName':'u','emails':[{home},{work},{primary}]}}"));
    let expected = format!("{{'userName':'u','emails':[{home},{primary}],'active':true}}");
    assert_eq!(draft.document, document(&expected));
    assert_eq!(draft.document.email(), Some("a@q"));
    // Another primary value makes two of them.
    let other = home.replace('}', ",'primary':true}");
    let body = quoted(&format!("{{'userName':'u','emails':[{other},{work},{primary}]}}"));
    assert_eq!(error(create(Kind::User, &body)), (400, Some("invalidValue")));
    // The same holds for two values that a change of one makes alike.
    let before = format!("{{'userName':'u','emails':[{work},{}]}}", primary.replace("a@q", "b@q"));
    let operation = "{'op':'replace','path':'emails[primary eq true].value','value':'a@q'}";
    let after = patched(&document(&before), operation).unwrap().document;
    assert_eq!(after, document(&format!("{{'userName':'u','emails':[{primary}]}}")));
}

#[test]
fn put_keeps_external_id_and_active_only_where_the_body_lacks_them() {
    let before = user("{'userName':'a','externalId':'e','active':false,'title':'t'}").document;
    let put = |body: &str| replace(Kind::User, &before, &quoted(body)).unwrap();
    let draft = put("{'userName':'a'}");
    assert_eq!(draft.document, document("{'userName':'a','externalId':'e','active':false}"));
    assert_eq!(draft.active, None);
    let draft = put("{'userName':'a','externalId':'f','active':'true'}");
    assert_eq!(draft.document, document("{'userName':'a','externalId':'f','active':true}"));
    assert_eq!(draft.active, Some(true));
    for unassigned in ["null", "''", "[]"] {
        let draft = put(&format!("{{'userName':'a','externalId':{unassigned}}}"));
        assert_eq!(draft.document.external_id(), Some("e"), "{unassigned}");
    }
    let draft = put("{'userName':'a','active':null}");
    assert_eq!(draft.document, document("{'userName':'a','externalId':'e'}"));
    assert_eq!(draft.active, None);
}

#[test]
fn a_put_that_says_the_same_leaves_the_document_byte_for_byte() {
    let before = user("{'userName':'a','name':{'givenName':'x','familyName':'y'},'title':'t'}");
    let body = quoted(
        "{'schemas':[],'id':'1','title':'t','NAME':{'familyName':'y','givenName':'x'},
        'userName':'a','active':'True','emails':[]}",
    );
    let draft = replace(Kind::User, &before.document, &body).unwrap();
    assert_eq!(draft.document.text(), before.document.text());
}

#[test]
fn put_of_a_group_without_members_empties_it() {
    let before = document("{'displayName':'g'}");
    let put = |body: &str| replace(Kind::Group, &before, &quoted(body)).unwrap().members;
    assert_eq!(put("{'displayName':'g'}"), [MemberChange::Clear]);
    assert_eq!(put("{'displayName':'g','members':[]}"), [MemberChange::Clear]);
    assert_eq!(put("{'displayName':'g','members':null}"), [MemberChange::Clear]);
    let named = put("{'displayName':'g','Members':[{'value':'U1','display':'u','type':'user'}]}");
    let member = Member { value: "U1".into(), kind: Some(Kind::User), display: Some("u".into()) };
    assert_eq!(named, [MemberChange::Replace(vec![member])]);
}

#[test]
fn members_of_a_new_group_are_no_part_of_its_document() {
    let draft = group(
        "{'displayName':'g','members':[{'value':'U','$ref':'http://h/scim/v2/d/Users/U'},
        {'value':'G','$ref':'../Groups/G'},'bare',{'display':'no id'},{'value':''},null]}",
    );
    assert_eq!(draft.document.text(), quoted("{'displayName':'g'}"));
    let [MemberChange::Add(members)] = draft.members.as_slice() else { panic!("{draft:?}") };
    assert_eq!(ids(members), ["U", "G", "bare"]);
    let kinds: Vec<Option<Kind>> = members.iter().map(|member| member.kind).collect();
    assert_eq!(kinds, [Some(Kind::User), Some(Kind::Group), None]);
    assert!(group("{'displayName':'g','members':[]}").members.is_empty());
}

#[test]
fn keys_are_those_by_which_a_resource_is_found() {
    let draft = user(
        "{'userName':'BJensen','externalId':'Ab','displayName':'Ünal',
        'emails':['A@x',{'value':'b@X'},{'display':'none'}]}",
    );
    let keys = draft.document.keys();
    assert_eq!(keys.user_name.as_deref(), Some("bjensen"));
    assert_eq!(keys.external_id.as_deref(), Some("Ab"));
    assert_eq!(keys.display_name.as_deref(), Some("ünal"));
    assert_eq!(keys.emails, ["a@x", "b@x"]);
}

#[test]
fn a_resource_that_is_too_large_is_refused_before_work_is_spent_on_it() {
    let large = "x".repeat(DOCUMENT_BYTES_MAX);
    let many_keys: Vec<String> = (0..3000).map(|at| format!("'k{at}':1")).collect();
    let many_values = vec!["{'value':'a@b'}"; 20_000].join(",");
    for body in [
        format!("{{'userName':'a','title':'{large}'}}"),
        format!("{{'userName':'a',{}}}", many_keys.join(",")),
        format!("{{'userName':'a','emails':[{many_values}]}}").replace("a@b", &"x".repeat(50)),
    ] {
        assert_eq!(error(create(Kind::User, &quoted(&body))).0, 413, "{}", &body[..60]);
    }
}
