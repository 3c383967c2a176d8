//! What the server says of itself: RFC 7643, sections 5 to 7.

use scim_v2::models::scim_schema::get_schemas;

use super::Kind;
use super::names::{ENTERPRISE, GROUP, core_urn};
use super::value::{Object, Value};

/// The schemas of RFC 7643, section 8.7.2, which describe the discovery itself.
const OF_DISCOVERY: [&str; 3] = [
    include_str!("schemas/resource_type.json"),
    include_str!("schemas/schema.json"),
    include_str!("schemas/service_provider_config.json"),
];

const SCHEMA: &str = "urn:ietf:params:scim:schemas:core:2.0:Schema";
const RESOURCE_TYPE: &str = "urn:ietf:params:scim:schemas:core:2.0:ResourceType";
const SERVICE_PROVIDER_CONFIG: &str = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig";
const LIST_RESPONSE: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";

/// Returns the ServiceProviderConfig as JSON, with the directory's URL.
pub fn service_provider_config(base: &str) -> String {
    let supported = |supported| object([("supported", Value::Bool(supported))]);
    let bulk = object([
        ("supported", Value::Bool(false)),
        ("maxOperations", number(0)),
        ("maxPayloadSize", number(0)),
    ]);
    let filter = object([("supported", Value::Bool(true)), ("maxResults", number(1000))]);
    let scheme = object([
        ("type", "oauthbearertoken".into()),
        ("name", "OAuth Bearer Token".into()),
        ("description", "The token that was shown when it was made for this directory".into()),
        ("specUri", "https://www.rfc-editor.org/rfc/rfc6750".into()),
        ("primary", Value::Bool(true)),
    ]);
    let config = object([
        ("schemas", list([SERVICE_PROVIDER_CONFIG.into()])),
        ("patch", supported(true)),
        ("bulk", bulk),
        ("filter", filter),
        ("changePassword", supported(false)),
        ("sort", supported(true)),
        ("etag", supported(true)),
        ("authenticationSchemes", list([scheme])),
        ("meta", meta("ServiceProviderConfig", format!("{base}/ServiceProviderConfig"))),
    ]);
    config.to_json()
}

/// Returns the ListResponse of all resource types as JSON, with the directory's URL.
pub fn resource_types(base: &str) -> String {
    response([Kind::User, Kind::Group].map(|kind| resource_type_of(base, kind)).into())
}

/// Returns one resource type as JSON; `None` if there is none of this name, in any case.
pub fn resource_type(base: &str, name: &str) -> Option<String> {
    Some(resource_type_of(base, Kind::parse(name)?).to_json())
}

/// Returns the ListResponse of the schemas of resources as JSON, with the directory's URL. Those of
/// the discovery itself are not listed: clients would take them for resources.
pub fn schemas(base: &str) -> String {
    response(resource_schemas(base))
}

/// Returns one schema as JSON; `None` if there is none of this URN, in any case.
pub fn schema(base: &str, urn: &str) -> Option<String> {
    let has_urn = |schema: &&Value| {
        let id = schema.object().and_then(|schema| schema.text("id"));
        id.is_some_and(|id| id.eq_ignore_ascii_case(urn))
    };
    let of_discovery = OF_DISCOVERY.into_iter().filter_map(Value::parse);
    let of_discovery = of_discovery.map(|schema| published(base, schema));
    let mut all = resource_schemas(base).into_iter().chain(of_discovery);
    all.find(|schema| has_urn(&schema)).map(|schema| schema.to_json())
}

fn resource_type_of(base: &str, kind: Kind) -> Value {
    let extension = object([("schema", ENTERPRISE.into()), ("required", Value::Bool(false))]);
    let (description, extensions) = match kind {
        Kind::User => ("User Account", vec![extension]),
        Kind::Group => ("Group", Vec::new()),
    };
    object([
        ("schemas", list([RESOURCE_TYPE.into()])),
        ("id", kind.name().into()),
        ("name", kind.name().into()),
        ("endpoint", Value::Text(format!("/{}", kind.route()))),
        ("description", description.into()),
        ("schema", core_urn(kind).into()),
        ("schemaExtensions", Value::List(extensions)),
        ("meta", meta("ResourceType", format!("{base}/ResourceTypes/{}", kind.name()))),
    ])
}

/// Returns the schemas of resources, as RFC 7643 prints them but for the name of a group: it is
/// required.
fn resource_schemas(base: &str) -> Vec<Value> {
    let schemas = get_schemas(vec!["user", "group", "enterprise_user"]).unwrap_or_default();
    let texts = schemas.iter().filter_map(|schema| serde_json::to_string(schema).ok());
    texts.filter_map(|text| Value::parse(&text)).map(|schema| published(base, schema)).collect()
}

fn published(base: &str, mut schema: Value) -> Value {
    let Value::Object(fields) = &mut schema else { return schema };
    let urn = fields.text("id").unwrap_or_default().to_owned();
    if urn == GROUP
        && let Some(Value::List(attributes)) = fields.get_mut("attributes")
    {
        for attribute in attributes {
            if let Value::Object(attribute) = attribute
                && attribute.text("name") == Some("displayName")
            {
                attribute.set("required", Value::Bool(true));
            }
        }
    }
    fields.take("schemas");
    fields.0.insert(0, ("schemas".to_owned(), list([SCHEMA.into()])));
    fields.set("meta", meta("Schema", format!("{base}/Schemas/{urn}")));
    schema
}

fn response(resources: Vec<Value>) -> String {
    let count = number(resources.len());
    let response = object([
        ("schemas", list([LIST_RESPONSE.into()])),
        ("totalResults", count.clone()),
        ("startIndex", number(1)),
        ("itemsPerPage", count),
        ("Resources", Value::List(resources)),
    ]);
    response.to_json()
}

fn meta(resource_type: &str, location: String) -> Value {
    object([("resourceType", resource_type.into()), ("location", Value::Text(location))])
}

fn number(number: usize) -> Value {
    Value::Number(number.to_string())
}

fn list<const N: usize>(values: [Value; N]) -> Value {
    Value::List(values.into())
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Value {
    Value::Object(Object(members.map(|(key, value)| (key.to_owned(), value)).into()))
}
