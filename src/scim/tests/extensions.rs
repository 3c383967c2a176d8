//! Extensions of any URN: none is guessed where the resource or the body says it.

use super::*;

/// URNs with a version at the end, within, in another form, and without one.
const URNS: [&str; 8] = [
    "urn:scim:schemas:extension:custom:1.0",
    "urn:okta:custom:user:1.0",
    "urn:okta:onprem_app:1.0:user:custom",
    "urn:acme:hr:employee",
    "urn:ietf:params:scim:schemas:extension:acme:v2:User",
    "urn:ietf:params:scim:schemas:extension:acme:2.0:User",
    "urn:acme",
    "urn:acme:hr/employee",
];

fn after(before: &Document, operations: &str) -> Document {
    patched(before, operations).unwrap().document
}

/// Returns a user with an extension.
fn with(urn: &str, extension: &str) -> Document {
    document(&format!("{{'userName':'u','{urn}':{extension},'active':true}}"))
}

#[test]
fn an_object_under_any_urn_is_an_extension_of_that_name() {
    for urn in URNS {
        let expected = with(urn, "{'badge':'1'}");
        let body = format!("{{'userName':'u','{urn}':{{'badge':'1'}}}}");
        assert_eq!(user(&body).document, expected, "{urn}");
        let put = replace(Kind::User, &document("{'userName':'x','active':true}"), &quoted(&body));
        assert_eq!(put.unwrap().document, expected, "{urn}");
        let bare = document("{'userName':'u','active':true}");
        let operations = [
            format!("{{'op':'add','value':{{'{urn}':{{'badge':'1'}}}}}}"),
            format!("{{'op':'add','path':'{urn}','value':{{'badge':'1'}}}}"),
        ];
        for operation in operations {
            assert_eq!(after(&bare, &operation), expected, "{operation}");
        }
        let memberships = Memberships::default();
        let json = shown(Kind::User, &expected, &memberships).render(&Projection::default());
        assert!(at(&json, "schemas").contains(&format!("\"{urn}\"")), "{urn}");
    }
}

#[test]
fn a_path_goes_into_the_extension_that_the_resource_has() {
    for urn in URNS {
        let before = with(urn, "{'badge':'1','list':[{'type':'a','n':'1'}]}");
        let changed = with(urn, "{'badge':'2','list':[{'type':'a','n':'1'}]}");
        let other_case = urn.to_uppercase();
        for urn in [urn, &other_case] {
            for operation in [
                format!("{{'op':'replace','path':'{urn}:Badge','value':'2'}}"),
                format!("{{'op':'replace','value':{{'{urn}:badge':'2'}}}}"),
                format!("{{'op':'add','path':'{urn}','value':{{'badge':'2'}}}}"),
                format!("{{'op':'add','value':{{'{urn}':{{'badge':'2'}}}}}}"),
            ] {
                assert_eq!(after(&before, &operation), changed, "{operation}");
            }
        }
        let remove = |path: &str| after(&before, &format!("{{'op':'remove','path':'{path}'}}"));
        assert_eq!(
            remove(&format!("{urn}:badge")),
            with(urn, "{'list':[{'type':'a','n':'1'}]}"),
            "{urn}"
        );
        assert_eq!(remove(urn), document("{'userName':'u','active':true}"), "{urn}");
        let path = format!(r#"{urn}:list[type eq \"a\"].n"#);
        let operation = quoted(&format!("{{'op':'replace','path':'{path}','value':'2'}}"));
        let found = with(urn, "{'badge':'1','list':[{'type':'a','n':'2'}]}");
        assert_eq!(after(&before, &operation), found, "{urn}");
        let whole = format!(r#"{{'op':'add','path':'{urn}[type eq \"a\"]','value':{{'n':'2'}}}}"#);
        assert_eq!(error(patched(&before, &whole)), (400, Some("invalidPath")), "{urn}");
    }
}

#[test]
fn filters_and_projections_find_the_extension_of_each_resource() {
    let memberships = Memberships::default();
    for urn in URNS {
        let document = with(urn, "{'badge':'1','level':7}");
        let resource = shown(Kind::User, &document, &memberships);
        let shows = |attributes: Option<&str>, excluded: Option<&str>| {
            let json = resource.render(&Projection::parse(attributes, excluded).unwrap());
            let Some(Value::Object(shown)) = Value::parse(&json) else { panic!("no object") };
            shown.exactly(urn).map(Value::to_json).unwrap_or_default()
        };
        let badge = format!("{urn}:BADGE");
        assert_eq!(shows(Some(&badge), None), quoted("{'badge':'1'}"), "{urn}");
        assert_eq!(shows(None, Some(&badge)), quoted("{'level':7}"), "{urn}");
        assert_eq!(shows(Some(urn), None), quoted("{'badge':'1','level':7}"), "{urn}");
        assert_eq!(shows(None, Some(urn)), "", "{urn}");
        let key = SortBy::parse(&badge).unwrap().key(&resource);
        assert_eq!(key, SortKey::Text("1".into()), "{urn}");
        // The grammar of filters has no slash in a name.
        if !urn.contains('/') {
            let finds = |filter: &str| Filter::parse(&quoted(filter)).unwrap().matches(&resource);
            assert!(finds(&format!("{urn}:badge eq '1'")), "{urn}");
            assert!(!finds(&format!("{urn}:badge eq '2'")), "{urn}");
            assert!(finds(&format!("{urn}:level gt '6' and {urn}:badge pr")), "{urn}");
        }
    }
}

#[test]
fn the_longest_extension_has_the_attribute() {
    let both = "{'userName':'u','urn:acme':{'a':'1'},'urn:acme:hr':{'a':'1'}}";
    let before = user(both).document;
    assert_eq!(
        before,
        document("{'userName':'u','urn:acme':{'a':'1'},'urn:acme:hr':{'a':'1'},'active':true}")
    );
    let changed = after(&before, "{'op':'replace','path':'urn:acme:hr:a','value':'2'}");
    assert_eq!(at(&changed.text(), "urn:acme:hr/a"), "\"2\"");
    assert_eq!(at(&changed.text(), "urn:acme/a"), "\"1\"");
    // What has a colon is not the name of an attribute.
    let before = with("urn:acme", "{'a':'1'}");
    let changed = after(&before, "{'op':'add','path':'urn:acme:it:laptop:serial','value':'2'}");
    assert_eq!(at(&changed.text(), "urn:acme:it:laptop/serial"), "\"2\"");
    assert_eq!(at(&changed.text(), "urn:acme"), quoted("{'a':'1'}"));
    // An object is an attribute of the extension that the resource has.
    let changed = after(&before, "{'op':'add','value':{'urn:acme:boss':{'value':'m'}}}");
    assert_eq!(at(&changed.text(), "urn:acme/boss/value"), "\"m\"");
}

#[test]
fn the_schemas_of_a_body_name_its_extensions() {
    for urn in URNS {
        let body = format!("{{'schemas':['{urn}'],'{urn}:badge':'1','userName':'u'}}");
        assert_eq!(user(&body).document, with(urn, "{'badge':'1'}"), "{urn}");
        // So does an object of the same body, before or after.
        let body = format!("{{'{urn}:badge':'1','userName':'u','{urn}':{{'level':'7'}}}}");
        assert_eq!(user(&body).document, with(urn, "{'badge':'1','level':'7'}"), "{urn}");
    }
    // Without both the last segment is the attribute, unless it belongs to a version.
    let text = "{'userName':'u','urn:a:2.0:User:x':'1','urn:a:1.0:b:c:x':'2','urn:a:b:x':'3'}";
    let document = user(text).document.text();
    assert_eq!(at(&document, "urn:a:2.0:User/x"), "\"1\"");
    assert_eq!(at(&document, "urn:a:1.0:b:c/x"), "\"2\"");
    assert_eq!(at(&document, "urn:a:b/x"), "\"3\"");
}

#[test]
fn an_attribute_behind_a_version_makes_the_extension_of_a_user_without_it() {
    let bare = document("{'userName':'u','active':true}");
    for urn in URNS {
        let expected = with(urn, "{'color':'red'}");
        for operation in [
            format!("{{'op':'add','path':'{urn}:color','value':'red'}}"),
            format!("{{'op':'replace','value':{{'{urn}:color':'red'}}}}"),
        ] {
            assert_eq!(after(&bare, &operation), expected, "{operation}");
        }
        assert_eq!(user(&format!("{{'userName':'u','{urn}:color':'red'}}")).document, expected);
        let path = format!(r#"{urn}:l[type eq \"a\"].value"#);
        let made = after(&bare, &format!("{{'op':'add','path':'{path}','value':'x'}}"));
        assert_eq!(made, with(urn, "{'l':[{'type':'a','value':'x'}]}"), "{urn}");
        let related = Memberships::default();
        let json = shown(Kind::User, &expected, &related).render(&Projection::default());
        assert!(at(&json, "schemas").contains(&format!("\"{urn}\"")), "{urn}");
        assert!(json.contains(&quoted(&format!("'{urn}':{{'color':'red'}}"))), "{urn}");
    }
    // A version is not an attribute, nor is a resource type behind one.
    for urn in ["urn:okta:custom:user:1.0", "urn:acme:2.0:User", "urn:acme:2.0:group"] {
        let kept = after(&bare, &format!("{{'op':'add','path':'{urn}','value':'x'}}"));
        assert_eq!(at(&kept.text(), urn), "\"x\"");
    }
}

#[test]
fn no_extension_keeps_a_password() {
    for urn in URNS {
        let body = format!("{{'schemas':['{urn}'],'{urn}:password':'x','userName':'u'}}");
        assert!(!user(&body).document.text().contains("password"), "{urn}");
        let body = format!("{{'{urn}:password':'x','userName':'u'}}");
        assert!(!user(&body).document.text().contains("password"), "{urn}");
    }
}
