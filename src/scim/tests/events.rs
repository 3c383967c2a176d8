use super::*;

const SCIM_ID: &str = "0198aaaa-0000-7000-8000-000000000001";

fn maker(request_id: &str, occurred_at: i64, deactivation: Deactivation) -> EventMaker<'_> {
    EventMaker {
        request_id,
        occurred_at,
        directory_id: "directory_1",
        organization_id: "org_1",
        deactivation,
        made: 0,
    }
}

fn after(document: &Document, active: bool) -> UserAfter<'_> {
    UserAfter { scim_id: SCIM_ID, document, active, manager: None }
}

fn types(events: &[Consequence]) -> Vec<&str> {
    events.iter().map(|event| event.event_type).collect()
}

fn data(event: &Consequence) -> String {
    at(&event.body, "data")
}

/// Creates a directory user at second 1, in the mode of custom workflows.
fn created(body: &str) -> Snapshot {
    let document = user(body).document;
    let mut maker = maker("op_1", 1000, Deactivation::Update);
    maker.user_written(None, after(&document, true), &[]).snapshot.unwrap()
}

#[test]
fn a_user_that_is_created_has_every_attribute_of_the_table() {
    let enterprise = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";
    let document = user(&format!(
        "{{'userName':'bj@x','externalId':'e1','title':'VP','userType':'Employee','nickName':'n',
        'name':{{'givenName':'Barbara','familyName':'Jensen'}},
        'emails':[{{'type':'home','value':'b@home'}},
                  {{'type':'work','value':'b@work','primary':true,'display':'d'}}],
        'addresses':[{{'type':'work','streetAddress':'1 Road','locality':'Town','country':'US',
                       'postalCode':'7'}},{{'type':'home','formatted':'Home\\nHere','primary':true}}],
        '{enterprise}':{{'employeeNumber':'7','department':'Sales','division':'d','costCenter':'c',
        'organization':'o','manager':{{'value':'boss@x'}}}}}}"
    ))
    .document;
    let written = maker("op_1", 1_764_500_000_000, Deactivation::Delete).user_written(
        None,
        after(&document, true),
        &[],
    );
    assert_eq!(types(&written.events), ["dsync.user.created"]);
    let event = &written.events[0].body;
    assert_eq!(at(event, "object"), "\"event\"");
    assert_eq!(at(event, "created_at"), "\"2025-11-30T10:53:20.000Z\"");
    assert_eq!(at(event, "context"), "{\"scim\":{\"request_id\":\"op_1\"}}");
    assert_eq!(at(event, "id"), format!("\"{}\"", written.events[0].id));
    let user_id = written.snapshot.as_ref().unwrap().id().unwrap();
    assert!(user_id.starts_with("directory_user_") && user_id.len() == 15 + 26);
    let expected = format!(
        "{{'object':'directory_user','id':'{user_id}','directory_id':'directory_1',
        'organization_id':'org_1','idp_id':'e1','email':'b@work','first_name':'Barbara',
        'last_name':'Jensen','name':'Barbara Jensen','emails':[],'job_title':null,'username':null,
        'state':'active','raw_attributes':{{}},'custom_attributes':{{'username':'bj@x',
        'job_title':'VP','employee_type':'Employee',
        'emails':[{{'type':'home','value':'b@home'}},{{'type':'work','value':'b@work','primary':true}}],
        'employee_number':'7','department_name':'Sales','division_name':'d','cost_center_name':'c',
        'organization':'o','manager_email':'boss@x',
        'addresses':[{{'type':'work','street_address':'1 Road','locality':'Town','postal_code':'7',
        'country':'US','raw_address':'1 Road, Town, 7, US'}},
        {{'type':'home','primary':true,'raw_address':'Home\\nHere'}}]}},
        'created_at':'2025-11-30T10:53:20.000Z','updated_at':'2025-11-30T10:53:20.000Z'}}"
    );
    let expected = Value::parse(&quoted(&expected)).unwrap();
    assert_eq!(Value::parse(&at(event, "data")).unwrap(), expected, "{event}");
}

#[test]
fn names_and_emails_fall_back_as_the_table_says() {
    for (body, name, email) in [
        ("{'userName':'a','displayName':'D','name':{'formatted':'F'}}", "\"D\"", "null"),
        ("{'userName':'a@b','name':{'formatted':'F','givenName':'G'}}", "\"F\"", "\"a@b\""),
        ("{'userName':'a','name':{'givenName':'G'},'emails':'x@y'}", "\"G\"", "\"x@y\""),
        ("{'userName':'a','name':{'familyName':'L'}}", "\"L\"", "null"),
        (
            "{'userName':'a','emails':[{'display':'d','primary':true},{'value':'2'}]}",
            "null",
            "null",
        ),
        (
            "{'userName':'a','emails':[{'value':'1'},{'display':'d','primary':true}]}",
            "null",
            "\"1\"",
        ),
    ] {
        let snapshot = created(body);
        assert_eq!(at(snapshot.text(), "name"), name, "{body}");
        assert_eq!(at(snapshot.text(), "email"), email, "{body}");
        assert_eq!(at(snapshot.text(), "idp_id"), format!("\"{SCIM_ID}\""));
    }
}

#[test]
fn the_email_of_the_manager_is_looked_up_at_the_users_own_write() {
    let document = user("{'userName':'a@b','manager':'M'}").document;
    let manager = user("{'userName':'m','emails':'m@x'}").document;
    let email = |after: UserAfter<'_>| {
        let written = maker("op_1", 1000, Deactivation::Delete).user_written(None, after, &[]);
        at(written.snapshot.unwrap().text(), "custom_attributes/manager_email")
    };
    assert_eq!(email(UserAfter { manager: Some(&manager), ..after(&document, true) }), "\"m@x\"");
    assert_eq!(email(after(&document, true)), "");
    let own = UserAfter { scim_id: "M", ..after(&document, true) };
    assert_eq!(email(own), "\"a@b\"");
}

#[test]
fn previous_attributes_are_the_old_values_of_root_and_custom_attributes() {
    let before = created(
        "{'userName':'a','title':'old','userType':'t','name':{'givenName':'G'},
        'emails':[{'value':'1'}]}",
    );
    let document = user(
        "{'userName':'a','title':'new','name':{'givenName':'H'},'nickName':'n','department':'d',
        'emails':[{'value':'1'}]}",
    )
    .document;
    let written = maker("op_2", 2000, Deactivation::Delete).user_written(
        Some(&before),
        after(&document, true),
        &[],
    );
    assert_eq!(types(&written.events), ["dsync.user.updated"]);
    let expected = "{'first_name':'G','name':'G','custom_attributes':
        {'job_title':'old','employee_type':'t','department_name':null}}";
    assert_eq!(
        at(&data(&written.events[0]), "previous_attributes"),
        quoted(expected).replace("\n        ", "")
    );
    let snapshot = written.snapshot.unwrap();
    assert_eq!(Snapshot::of_data(&data(&written.events[0])), Some(snapshot.clone()));
    assert_eq!(snapshot.id(), before.id());
    assert_eq!(at(snapshot.text(), "created_at"), "\"1970-01-01T00:00:01.000Z\"");
    assert_eq!(at(snapshot.text(), "updated_at"), "\"1970-01-01T00:00:02.000Z\"");
}

#[test]
fn what_is_not_in_the_table_gives_no_event() {
    let before = created("{'userName':'a'}");
    let document = user(
        "{'userName':'a','nickName':'n','phoneNumbers':['1'],'roles':['r'],'unknown':1,
        'urn:x:2.0:User':{'a':1}}",
    )
    .document;
    let written = maker("op_2", 2000, Deactivation::Delete).user_written(
        Some(&before),
        after(&document, true),
        &[],
    );
    assert_eq!(written, Written { snapshot: Some(before), events: Vec::new() });
}

#[test]
fn a_user_who_becomes_inactive_is_deleted_or_updated() {
    let before = created("{'userName':'a'}");
    let document = user("{'userName':'b','active':false}").document;
    let written = maker("op_2", 2000, Deactivation::Delete).user_written(
        Some(&before),
        after(&document, false),
        &[],
    );
    assert_eq!(types(&written.events), ["dsync.user.deleted"]);
    assert_eq!(written.snapshot, None);
    let deleted = data(&written.events[0]);
    assert_eq!(at(&deleted, "state"), "\"inactive\"");
    assert_eq!(at(&deleted, "custom_attributes/username"), "\"b\"");
    assert_eq!(at(&deleted, "previous_attributes"), "");

    let written = maker("op_2", 2000, Deactivation::Update).user_written(
        Some(&before),
        after(&document, false),
        &[],
    );
    assert_eq!(types(&written.events), ["dsync.user.updated"]);
    let previous = "{'state':'active','custom_attributes':{'username':'a'}}";
    assert_eq!(at(&data(&written.events[0]), "previous_attributes"), quoted(previous));
}

#[test]
fn a_user_who_is_active_again_is_another_one_in_each_of_its_groups() {
    let first = created("{'userName':'a','externalId':'e'}");
    let document = user("{'userName':'a','externalId':'e'}").document;
    let group_document = group("{'displayName':'g'}").document;
    let group = maker("op_0", 500, Deactivation::Delete)
        .group_written(None, GroupAfter { document: &group_document });
    let groups = [group.snapshot.unwrap()];
    let written = maker("op_3", 3000, Deactivation::Delete).user_written(
        None,
        after(&document, true),
        &groups,
    );
    assert_eq!(types(&written.events), ["dsync.user.created", "dsync.group.user_added"]);
    let user = written.snapshot.unwrap();
    assert_ne!(user.id(), first.id());
    assert_eq!(at(user.text(), "idp_id"), "\"e\"");
    let added = data(&written.events[1]);
    assert_eq!(at(&added, "directory_id"), "\"directory_1\"");
    assert_eq!(
        (at(&added, "user"), at(&added, "group")),
        (user.text().into(), groups[0].text().into())
    );
}

#[test]
fn while_inactive_a_user_has_no_events_or_those_of_others() {
    let document = user("{'userName':'a','active':false}").document;
    let delete =
        maker("op_1", 1000, Deactivation::Delete).user_written(None, after(&document, false), &[]);
    assert_eq!(delete, Written::default());
    let update =
        maker("op_1", 1000, Deactivation::Update).user_written(None, after(&document, false), &[]);
    assert_eq!(types(&update.events), ["dsync.user.created"]);
    assert_eq!(at(&data(&update.events[0]), "state"), "\"inactive\"");
}

#[test]
fn a_deletion_has_the_last_snapshot() {
    let before = created("{'userName':'a'}");
    let mut maker = maker("op_2", 2000, Deactivation::Delete);
    let deleted = maker.user_deleted(Some(&before)).unwrap();
    assert_eq!((deleted.event_type, data(&deleted)), ("dsync.user.deleted", before.text().into()));
    assert_eq!(maker.user_deleted(None), None);
}

#[test]
fn a_group_is_updated_only_if_its_name_or_id_at_the_provider_differs() {
    let written = |before: Option<&Snapshot>, body: &str| {
        let document = group(body).document;
        maker("op_1", 1000, Deactivation::Delete)
            .group_written(before, GroupAfter { document: &document })
    };
    let created = written(None, "{'displayName':'g'}");
    assert_eq!(types(&created.events), ["dsync.group.created"]);
    let before = created.snapshot.unwrap();
    let expected = format!(
        "{{'object':'directory_group','id':'{}','directory_id':'directory_1',
        'organization_id':'org_1','idp_id':'g','name':'g','raw_attributes':{{}},
        'created_at':'1970-01-01T00:00:01.000Z','updated_at':'1970-01-01T00:00:01.000Z'}}",
        before.id().unwrap()
    );
    assert_eq!(before.text(), quoted(&expected).replace("\n        ", ""));
    assert_eq!(types(&written(Some(&before), "{'displayName':'g','x':1}").events), [""; 0]);
    let renamed = written(Some(&before), "{'displayName':'h'}");
    assert_eq!(types(&renamed.events), ["dsync.group.updated"]);
    let previous = quoted("{'idp_id':'g','name':'g'}");
    assert_eq!(at(&data(&renamed.events[0]), "previous_attributes"), previous);
    let known = written(Some(&before), "{'displayName':'g','externalId':'e'}");
    assert_eq!(at(&data(&known.events[0]), "previous_attributes"), quoted("{'idp_id':'g'}"));
}

#[test]
fn ids_rise_within_a_request_and_are_the_same_when_it_is_done_again() {
    let user = created("{'userName':'a'}");
    let make = || -> Vec<Consequence> {
        let mut maker = maker("op_7", 5000, Deactivation::Delete);
        (0..300).map(|_| maker.user_deleted(Some(&user)).unwrap()).collect()
    };
    let events = make();
    assert_eq!(events, make());
    let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    assert!(ids.is_sorted() && ids.windows(2).all(|pair| pair[0] != pair[1]));
    // 5000 ms in 48 bits are 0000000 04W8 in Crockford's digits: 4 * 1024 + 28 * 32 + 8.
    assert!(ids.iter().all(|id| id.starts_with("event_00000004W8") && id.len() == 32), "{ids:?}");
    let other = maker("op_8", 5000, Deactivation::Delete).user_deleted(Some(&user)).unwrap();
    assert!(!ids.contains(&other.id.as_str()));
}
