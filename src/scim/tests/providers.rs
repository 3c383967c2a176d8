//! The requests that identity providers send.

use super::*;

const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

fn entra_user() -> Draft {
    user(&format!(
        "{{'schemas':['urn:ietf:params:scim:schemas:core:2.0:User','{ENTERPRISE}'],
        'externalId':'0a21f0f2','userName':'Test_User@x','active':true,'addresses':null,
        'displayName':null,'emails':[{{'primary':true,'type':'work','value':'t@x'}}],
        'meta':{{'resourceType':'User'}},'name':{{'formatted':'g f','familyName':'f',
        'givenName':'g'}},'phoneNumbers':null,'preferredLanguage':null,'title':null,
        'department':null,'manager':null,'roles':[]}}"
    ))
}

#[test]
fn entra_creates_a_user() {
    let draft = entra_user();
    let expected = "{'externalId':'0a21f0f2','userName':'Test_User@x','active':true,
        'emails':[{'primary':true,'type':'work','value':'t@x'}],
        'name':{'formatted':'g f','familyName':'f','givenName':'g'}}";
    assert_eq!(draft.document.text(), quoted(expected).replace("\n        ", ""));
    assert_eq!(draft.active, Some(true));
}

#[test]
fn entra_changes_a_user_with_its_own_dialect() {
    let before = entra_user().document;
    let draft = patched(
        &before,
        &format!(
            "{{'op':'Replace','path':'emails[type eq \\\"work\\\"].value','value':'x@y'}},
            {{'op':'Add','path':'{ENTERPRISE}:department','value':'Sales'}},
            {{'op':'Replace','path':'active','value':'False'}},
            {{'op':'Add','path':'manager','value':[{{'$ref':'http://h/Users/M','value':'M'}}]}},
            {{'op':'Add','path':'phoneNumbers[type eq \\\"mobile\\\"].value','value':'+1'}},
            {{'op':'Add','path':'roles[primary eq \\\"True\\\"].value','value':'{{\\\"id\\\":7}}'}},
            {{'op':'Replace','path':'name.familyName','value':'New'}}"
        ),
    )
    .unwrap();
    let expected = document(&format!(
        "{{'externalId':'0a21f0f2','userName':'Test_User@x','active':false,
        'emails':[{{'primary':true,'type':'work','value':'x@y'}}],
        'name':{{'formatted':'g f','familyName':'New','givenName':'g'}},
        '{ENTERPRISE}':{{'department':'Sales','manager':{{'value':'M'}}}},
        'phoneNumbers':[{{'type':'mobile','value':'+1'}}],
        'roles':[{{'primary':true,'value':'{{\\\"id\\\":7}}'}}]}}"
    ));
    assert_eq!(draft.document, expected, "{}", draft.document.text());
    assert_eq!(draft.active, Some(false));
}

#[test]
fn entra_changes_a_user_with_the_flag_of_the_standard() {
    let before = entra_user().document;
    let draft = patched(
        &before,
        &format!(
            "{{'op':'replace','value':{{'displayName':'D','name.givenName':'h','active':false,
            '{ENTERPRISE}:employeeNumber':'7','{ENTERPRISE}:manager':'M'}}}},
            {{'op':'remove','path':'emails[type eq \\\"work\\\"]'}}"
        ),
    )
    .unwrap();
    let expected = document(&format!(
        "{{'externalId':'0a21f0f2','userName':'Test_User@x','active':false,'displayName':'D',
        'name':{{'formatted':'g f','familyName':'f','givenName':'h'}},
        '{ENTERPRISE}':{{'employeeNumber':'7','manager':{{'value':'M'}}}}}}"
    ));
    assert_eq!((draft.document, draft.active), (expected, Some(false)));
}

#[test]
fn entra_creates_a_group_without_members_and_adds_and_removes_one() {
    let draft = group(
        "{'schemas':['urn:ietf:params:scim:schemas:core:2.0:Group',
        'http://schemas.microsoft.com/2006/11/ResourceManagement/ADSCIM/2.0/Group'],
        'externalId':'8aa1','displayName':'Group1','meta':{'resourceType':'Group'}}",
    );
    assert_eq!(draft.document.text(), quoted("{'externalId':'8aa1','displayName':'Group1'}"));
    let operation = |op: &str| {
        format!("{{'op':'{op}','path':'members','value':[{{'$ref':null,'value':'U'}}]}}")
    };
    let member = Member { value: "U".into(), kind: None, display: None };
    let added = patched_group(&draft.document, &operation("Add")).unwrap();
    assert_eq!(added.members, [MemberChange::Add(vec![member])]);
    let removed = patched_group(&draft.document, &operation("Remove")).unwrap();
    assert_eq!(removed.members, [MemberChange::Remove(vec!["U".into()])]);
    assert_eq!(removed.document, draft.document);
}

#[test]
fn okta_creates_deactivates_and_replaces_a_user() {
    let body = quoted(
        "{'schemas':['urn:ietf:params:scim:schemas:core:2.0:User'],'userName':'t@okta.local',
        'name':{'givenName':'T','familyName':'U'},'emails':[{'primary':true,'value':'t@okta.local',
        'type':'work'}],'displayName':'T U','locale':'en-US','externalId':'00ujl29u0le5T6Aj10h7',
        'groups':[],'password':'1mz050nq','active':true}",
    );
    let redacted = redact(body.as_bytes()).unwrap();
    assert_eq!(redacted.places, ["/password"]);
    let created = create(Kind::User, &redacted.body).unwrap();
    assert!(!created.document.text().contains("password"));
    let inactive = patched(&created.document, "{'op':'replace','value':{'active':false}}").unwrap();
    assert_eq!(inactive.active, Some(false));
    // GET, then PUT of the whole with one change.
    let related = Memberships::default();
    let got = shown(Kind::User, &created.document, &related).render(&Projection::default());
    let sent = got.replace("\"active\":true", "\"active\":false");
    let replaced = replace(Kind::User, &created.document, &sent).unwrap();
    assert_eq!((replaced.document, replaced.active), (inactive.document, Some(false)));
    // The same again changes nothing.
    let again = replace(Kind::User, &created.document, &got).unwrap();
    assert_eq!(again.document.text(), created.document.text());
}

#[test]
fn okta_repeats_the_name_of_a_group_and_changes_its_members() {
    let before = group("{'schemas':[],'displayName':'Test','members':[]}").document;
    let draft = patched_group(
        &before,
        "{'op':'replace','value':{'id':'G','displayName':'Test'}},
        {'op':'remove','path':'members[value eq \\\"U1\\\"]'},
        {'op':'add','path':'members','value':[{'value':'U2','display':'u2@x'}]}",
    )
    .unwrap();
    assert_eq!(draft.document.text(), before.text());
    let added = Member { value: "U2".into(), kind: None, display: Some("u2@x".into()) };
    let expected = [MemberChange::Remove(vec!["U1".into()]), MemberChange::Add(vec![added])];
    assert_eq!(draft.members, expected);
    let all = patched_group(&before, "{'op':'replace','path':'members','value':['U1','U2']}");
    assert!(matches!(&all.unwrap().members[..], [MemberChange::Replace(all)] if all.len() == 2));
    let emptied = "{'op':'replace','value':{'id':'G','displayName':'Test','members':[]}}";
    assert_eq!(patched_group(&before, emptied).unwrap().members, [MemberChange::Clear]);
}

#[test]
fn others_send_single_objects_nulls_phones_and_lists_of_values_to_remove() {
    let one_login =
        user("{'userName':'o','emails':{'value':'o@x','type':'work'},'externalId':null}");
    let expected = "{'userName':'o','emails':[{'value':'o@x','type':'work'}],'active':true}";
    assert_eq!(one_login.document.text(), quoted(expected));
    let jump_cloud = user(
        "{'userName':'j','emails':null,'addresses':[],'externalId':'5f3e',
        'phoneNumbers':[{'type':'work','value':'tel:+1-201-555-0123'}]}",
    );
    let phone = quoted("[{'type':'work','value':'tel:+1-201-555-0123'}]");
    assert_eq!(at(&jump_cloud.document.text(), "phoneNumbers"), phone);
    let members = document("{'displayName':'g'}");
    let removed =
        patched_group(&members, "{'op':'remove','path':'members','value':[{'value':'U'}]}");
    assert_eq!(removed.unwrap().members, [MemberChange::Remove(vec!["U".into()])]);
    let ping = user("{'userName':'not an address','externalId':'cn=p,ou=x'}").document;
    assert_eq!((ping.external_id(), ping.email()), (Some("cn=p,ou=x"), None));
    assert_eq!(
        patched(&jump_cloud.document, "{'op':'replace','path':'phoneNumbers','value':[]}")
            .unwrap()
            .document
            .text(),
        quoted("{'userName':'j','externalId':'5f3e','active':true}")
    );
    let google = patched(&ping, "{'op':'replace','value':{'active':false}}").unwrap();
    assert_eq!(google.active, Some(false));
}
