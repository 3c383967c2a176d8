use super::*;
use crate::scim::names::{self, Attribute, Form};

#[test]
fn what_is_supported_is_said_honestly() {
    let config = discovery::service_provider_config(BASE);
    for (place, expected) in [
        ("patch/supported", "true"),
        ("bulk/supported", "false"),
        ("filter", r#"{"supported":true,"maxResults":1000}"#),
        ("changePassword/supported", "false"),
        ("sort/supported", "true"),
        ("etag/supported", "true"),
        ("authenticationSchemes/0/type", "\"oauthbearertoken\""),
        ("meta/resourceType", "\"ServiceProviderConfig\""),
    ] {
        assert_eq!(at(&config, place), expected, "{place}");
    }
    assert_eq!(at(&config, "meta/location"), format!("\"{BASE}/ServiceProviderConfig\""));
}

#[test]
fn resource_types_are_users_and_groups() {
    let types = discovery::resource_types(BASE);
    assert_eq!(at(&types, "totalResults"), "2");
    assert_eq!(at(&types, "Resources/0/endpoint"), "\"/Users\"");
    assert_eq!(at(&types, "Resources/1/schemaExtensions"), "[]");
    let user = discovery::resource_type(BASE, "USER").unwrap();
    assert_eq!(user, at(&types, "Resources/0"));
    let extension = r#"{"schema":"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User","required":false}"#;
    assert_eq!(at(&user, "schemaExtensions/0"), extension);
    assert_eq!(at(&user, "meta/location"), format!("\"{BASE}/ResourceTypes/User\""));
    assert!(discovery::resource_type(BASE, "Device").is_none());
}

#[test]
fn the_schemas_of_resources_are_listed_and_the_name_of_a_group_is_required() {
    let schemas = discovery::schemas(BASE);
    assert_eq!(at(&schemas, "totalResults"), "3");
    for (place, urn) in [(0, names::USER), (1, names::GROUP), (2, names::ENTERPRISE)] {
        let listed = at(&schemas, &format!("Resources/{place}"));
        assert_eq!(at(&listed, "id"), format!("\"{urn}\""));
        assert_eq!(discovery::schema(BASE, urn), Some(listed));
    }
    for name in ["ResourceType", "Schema", "ServiceProviderConfig"] {
        let urn = format!("urn:ietf:params:scim:schemas:core:2.0:{name}");
        let schema = discovery::schema(BASE, &urn).unwrap();
        assert_eq!(at(&schema, "id"), format!("\"{urn}\""));
    }
    let group = discovery::schema(BASE, &names::GROUP.to_uppercase()).unwrap();
    assert_eq!(at(&group, "attributes/0/name"), "\"displayName\"");
    assert_eq!(at(&group, "attributes/0/required"), "true");
    assert_eq!(at(&group, "schemas/0"), "\"urn:ietf:params:scim:schemas:core:2.0:Schema\"");
    assert_eq!(at(&group, "meta/location"), format!("\"{BASE}/Schemas/{}\"", names::GROUP));
    assert!(discovery::schema(BASE, "urn:x").is_none());
}

#[test]
fn the_attributes_that_have_rules_are_those_that_are_published() {
    for (urn, find) in [
        (names::USER, (|name| names::core(Kind::User, name)) as fn(&str) -> _),
        (names::GROUP, |name| names::core(Kind::Group, name)),
        (names::ENTERPRISE, names::enterprise),
    ] {
        let schema = discovery::schema(BASE, urn).unwrap();
        let published = Value::parse(&at(&schema, "attributes")).unwrap();
        assert!(!published.elements().is_empty());
        for attribute in published.elements() {
            let attribute = attribute.object().unwrap();
            let known: Option<&'static Attribute> = find(attribute.text("name").unwrap());
            let known = known.unwrap_or_else(|| panic!("{attribute:?}"));
            assert_eq!(Some(known.name), attribute.text("name"));
            let is_multi = attribute.get("multiValued") == Some(&Value::Bool(true));
            assert_eq!(known.is_multi(), is_multi, "{}", known.name);
            let is_boolean = attribute.text("type") == Some("boolean");
            assert_eq!(known.form == Form::Boolean, is_boolean, "{}", known.name);
            let parts = attribute.get("subAttributes").map(Value::elements).unwrap_or_default();
            for part in parts.iter().filter_map(Value::object) {
                let name = part.text("name").unwrap();
                assert_eq!(known.part(name).map(|part| part.name), Some(name), "{}", known.name);
                if let (Form::Multi { types }, "type", Some(canonical)) =
                    (known.form, name, part.get("canonicalValues"))
                    && known.name != "groups"
                    && known.name != "members"
                {
                    let canonical: Vec<&str> =
                        canonical.elements().iter().filter_map(Value::text).collect();
                    assert_eq!(types, canonical, "{}", known.name);
                }
            }
        }
    }
}
