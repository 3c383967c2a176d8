use super::*;

const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

fn a_user() -> Document {
    user(&format!(
        "{{'userName':'a','externalId':'e','name':{{'givenName':'x','familyName':'y','odd':1}},
        'favourite':'kept','emails':[{{'type':'work','value':'1','primary':true}},{{'value':'2'}}],
        '{ENTERPRISE}':{{'department':'d','manager':{{'value':'M'}}}},'urn:x:2.0:User':{{'Tag':1.0}}}}"
    ))
    .document
}

fn render(attributes: Option<&str>, excluded: Option<&str>) -> String {
    let related = Memberships {
        groups: vec![GroupOf { id: "G".into(), display: Some("g".into()) }],
        ..Memberships::default()
    };
    let projection = Projection::parse(attributes, excluded).unwrap();
    shown(Kind::User, &a_user(), &related).render(&projection)
}

/// Returns the names of what is shown.
fn names(json: &str) -> Vec<String> {
    let Some(Value::Object(object)) = Value::parse(json) else { panic!("{json}") };
    object.0.into_iter().map(|(name, _)| name).collect()
}

#[test]
fn a_user_is_shown_with_its_groups_and_meta_and_without_unknown_attributes() {
    let id = "0198aaaa-0000-7000-8000-000000000001";
    let expected = format!(
        "{{'schemas':['urn:ietf:params:scim:schemas:core:2.0:User','{ENTERPRISE}','urn:x:2.0:User'],
        'id':'{id}','userName':'a','externalId':'e',
        'name':{{'givenName':'x','familyName':'y'}},
        'emails':[{{'type':'work','value':'1','primary':true}},{{'value':'2'}}],
        '{ENTERPRISE}':{{'department':'d','manager':{{'value':'M','$ref':'{BASE}/Users/M'}}}},
        'urn:x:2.0:User':{{'Tag':1.0}},'active':true,
        'groups':[{{'value':'G','$ref':'{BASE}/Groups/G','display':'g','type':'direct'}}],
        'meta':{{'resourceType':'User','created':'2025-11-30T10:53:20.000Z',
        'lastModified':'2025-11-30T10:54:20.500Z','location':'{BASE}/Users/{id}',
        'version':'W/\\'17\\''}}}}"
    );
    let expected = quoted(&expected.replace("\\'", "\\\"")).replace("\n        ", "");
    assert_eq!(render(None, None), expected);
}

#[test]
fn a_group_is_shown_with_its_members() {
    let member = |id: &str, kind| MemberOf { id: id.into(), kind, display: None };
    let related = Memberships {
        members: vec![member("U", Kind::User), member("H", Kind::Group)],
        ..Memberships::default()
    };
    let document = group("{'displayName':'g'}").document;
    let group = shown(Kind::Group, &document, &related);
    let all = group.render(&Projection::default());
    let expected = format!(
        "[{{'value':'U','$ref':'{BASE}/Users/U','type':'User'}},
          {{'value':'H','$ref':'{BASE}/Groups/H','type':'Group'}}]"
    );
    assert_eq!(at(&all, "members"), quoted(&expected).replace("\n          ", ""));
    assert_eq!(at(&all, "schemas/0"), quoted("'urn:ietf:params:scim:schemas:core:2.0:Group'"));
    let without = Projection::parse(None, Some("members")).unwrap();
    assert!(!without.shows(Kind::Group, "members") && !without.is_whole());
    assert_eq!(names(&group.render(&without)), ["schemas", "id", "displayName", "meta"]);
}

#[test]
fn only_the_attributes_that_are_asked_for_are_shown() {
    let only = |names_asked: &str| names(&render(Some(names_asked), None));
    assert_eq!(only("userName"), ["schemas", "id", "userName"]);
    assert_eq!(only(" USERNAME , emails"), ["schemas", "id", "userName", "emails"]);
    assert_eq!(only("id"), ["schemas", "id"]);
    assert_eq!(only("meta.location,groups"), ["schemas", "id", "groups", "meta"]);
    assert_eq!(only(ENTERPRISE), ["schemas", "id", ENTERPRISE]);
    assert_eq!(only("nothing, ,a b,favourite"), ["schemas", "id"]);
    let core = "urn:ietf:params:scim:schemas:core:2.0:User";
    assert_eq!(only(&format!("{core}:userName")), ["schemas", "id", "userName"]);
    assert_eq!(only("emails[type eq \"work\"]"), ["schemas", "id", "emails"]);
    let parts = render(Some("name.GIVENNAME,emails.value,department"), None);
    assert_eq!(at(&parts, "name"), quoted("{'givenName':'x'}"));
    assert_eq!(at(&parts, "emails"), quoted("[{'value':'1'},{'value':'2'}]"));
    assert_eq!(at(&parts, ENTERPRISE), quoted("{'department':'d'}"));
    assert!(!Projection::parse(Some("userName"), None).unwrap().is_whole());
    assert!(Projection::parse(Some(" "), Some("")).unwrap().is_whole());
}

#[test]
fn excluded_attributes_are_left_out_but_for_id_and_schemas() {
    let but = |excluded: &str| names(&render(None, Some(excluded)));
    assert_eq!(
        but("groups,ID,schemas,emails,name,meta,externalId,active,urn:x:2.0:User"),
        ["schemas", "id", "userName", ENTERPRISE]
    );
    let parts = render(None, Some(&format!("emails.type,name.familyName,{ENTERPRISE}:manager")));
    assert_eq!(at(&parts, "emails/0"), quoted("{'value':'1','primary':true}"));
    assert_eq!(at(&parts, "name"), quoted("{'givenName':'x'}"));
    assert_eq!(at(&parts, ENTERPRISE), quoted("{'department':'d'}"));
}

#[test]
fn lists_are_sorted_by_the_primary_value_and_missing_ones_are_last() {
    let related = Memberships::default();
    let key = |by: &str, document: &Document| {
        SortBy::parse(by).unwrap().key(&shown(Kind::User, document, &related))
    };
    let text = |text: &str| SortKey::Text(text.into());
    let document = user(
        "{'userName':'BJ','externalId':'Ab','emails':[{'value':'z'},{'value':'A','primary':true}],
        'roles':['r1','r2'],'name':{'familyName':'Y'}}",
    )
    .document;
    assert_eq!(key("userName", &document), text("bj"));
    assert_eq!(key("externalId", &document), text("Ab"));
    assert_eq!(key("emails", &document), text("a"));
    assert_eq!(key("emails.value", &document), text("a"));
    assert_eq!(key("roles", &document), text("r1"));
    assert_eq!(key("name.familyName", &document), text("y"));
    assert_eq!(key("meta.created", &document), SortKey::Time(1_764_500_000_000));
    for by in ["title", "unknown", "name", "emails.type"] {
        assert_eq!(key(by, &document), SortKey::Missing, "{by}");
    }
    assert!(text("zz") < SortKey::Missing && SortKey::Time(i64::MAX) < SortKey::Missing);
    assert_eq!(SortBy::parse("a b").unwrap_err().scim_type, Some("invalidPath"));
}

#[test]
fn an_error_has_the_shape_of_the_rfc() {
    let refusal = Refusal::filter("it is odd");
    let expected = "{'schemas':['urn:ietf:params:scim:api:messages:2.0:Error'],'status':'400',
                    'scimType':'invalidFilter','detail':'it is odd'}";
    assert_eq!(refusal.body(), quoted(expected).replace("\n                    ", ""));
    assert_eq!(at(&Refusal::new(404, "x").body(), "status"), "\"404\"");
    assert_eq!(at(&Refusal::new(404, "x").body(), "scimType"), "");
}

#[test]
fn only_a_value_that_can_be_an_id_becomes_a_reference() {
    let document = user("{'userName':'a','manager':'boss@x'}").document;
    let related = Memberships::default();
    let json = shown(Kind::User, &document, &related).render(&Projection::default());
    assert_eq!(at(&json, &format!("{ENTERPRISE}/manager")), quoted("{'value':'boss@x'}"));
}
