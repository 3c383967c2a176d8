//! The attributes of RFC 7643 that have rules: their spelling, and what kind of value they take.

use super::Kind;

/// The URN of users.
pub(crate) const USER: &str = "urn:ietf:params:scim:schemas:core:2.0:User";
/// The URN of groups.
pub(crate) const GROUP: &str = "urn:ietf:params:scim:schemas:core:2.0:Group";
/// The URN of the enterprise extension of users.
pub(crate) const ENTERPRISE: &str = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User";

/// An attribute, or an attribute of one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Attribute {
    /// Its spelling in the RFC.
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    /// Its own attributes, if it is complex.
    pub(crate) parts: &'static [Attribute],
}

/// The kind of value that an attribute takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A text that is compared without case.
    Text,
    /// A text that is compared exactly.
    Exact,
    Boolean,
    Time,
    Complex,
    /// A list of complex values.
    Multi {
        /// The canonical values of its `type`.
        types: &'static [&'static str],
    },
}

impl Attribute {
    /// Finds one of the attribute's own attributes by its name in any case.
    pub(crate) fn part(&self, name: &str) -> Option<&'static Attribute> {
        find(self.parts, name)
    }

    /// Reports if the attribute has several values.
    pub(crate) fn is_multi(&self) -> bool {
        matches!(self.form, Form::Multi { .. })
    }
}

const fn text(name: &'static str) -> Attribute {
    Attribute { name, form: Form::Text, parts: &[] }
}

const fn boolean(name: &'static str) -> Attribute {
    Attribute { name, form: Form::Boolean, parts: &[] }
}

const fn exact(name: &'static str) -> Attribute {
    Attribute { name, form: Form::Exact, parts: &[] }
}

const fn time(name: &'static str) -> Attribute {
    Attribute { name, form: Form::Time, parts: &[] }
}

const fn complex(name: &'static str, parts: &'static [Attribute]) -> Attribute {
    Attribute { name, form: Form::Complex, parts }
}

const fn multi(name: &'static str, types: &'static [&'static str]) -> Attribute {
    Attribute { name, form: Form::Multi { types }, parts: &PLURAL }
}

/// The attributes that each value of a list may have (RFC 7643, section 2.4).
static PLURAL: [Attribute; 5] =
    [text("value"), text("display"), text("type"), boolean("primary"), text("$ref")];

static ADDRESS: [Attribute; 8] = [
    text("formatted"),
    text("streetAddress"),
    text("locality"),
    text("region"),
    text("postalCode"),
    text("country"),
    text("type"),
    boolean("primary"),
];

static NAME: [Attribute; 6] = [
    text("formatted"),
    text("familyName"),
    text("givenName"),
    text("middleName"),
    text("honorificPrefix"),
    text("honorificSuffix"),
];

static META: [Attribute; 5] = [
    text("resourceType"),
    time("created"),
    time("lastModified"),
    text("location"),
    exact("version"),
];

static REFERENCE: [Attribute; 4] = [text("value"), text("$ref"), text("type"), text("display")];

static MANAGER: [Attribute; 3] = [text("value"), text("$ref"), text("displayName")];

static USER_ATTRIBUTES: [Attribute; 25] = [
    exact("id"),
    exact("externalId"),
    complex("meta", &META),
    text("schemas"),
    text("userName"),
    complex("name", &NAME),
    text("displayName"),
    text("nickName"),
    text("profileUrl"),
    text("title"),
    text("userType"),
    text("preferredLanguage"),
    text("locale"),
    text("timezone"),
    boolean("active"),
    text("password"),
    multi("emails", &["work", "home", "other"]),
    multi("phoneNumbers", &["work", "home", "mobile", "fax", "pager", "other"]),
    multi("ims", &["aim", "gtalk", "icq", "xmpp", "msn", "skype", "qq", "yahoo"]),
    multi("photos", &["photo", "thumbnail"]),
    Attribute {
        name: "addresses",
        form: Form::Multi { types: &["work", "home", "other"] },
        parts: &ADDRESS,
    },
    Attribute { name: "groups", form: Form::Multi { types: &[] }, parts: &REFERENCE },
    multi("entitlements", &[]),
    multi("roles", &[]),
    multi("x509Certificates", &[]),
];

static GROUP_ATTRIBUTES: [Attribute; 6] = [
    exact("id"),
    exact("externalId"),
    complex("meta", &META),
    text("schemas"),
    text("displayName"),
    Attribute { name: "members", form: Form::Multi { types: &[] }, parts: &REFERENCE },
];

static ENTERPRISE_ATTRIBUTES: [Attribute; 6] = [
    text("employeeNumber"),
    text("costCenter"),
    text("organization"),
    text("division"),
    text("department"),
    complex("manager", &MANAGER),
];

fn find(attributes: &'static [Attribute], name: &str) -> Option<&'static Attribute> {
    attributes.iter().find(|attribute| attribute.name.eq_ignore_ascii_case(name))
}

/// Finds an attribute of a kind's core schema by its name in any case.
pub(crate) fn core(kind: Kind, name: &str) -> Option<&'static Attribute> {
    match kind {
        Kind::User => find(&USER_ATTRIBUTES, name),
        Kind::Group => find(&GROUP_ATTRIBUTES, name),
    }
}

/// Finds an attribute of the enterprise extension by its name in any case.
pub(crate) fn enterprise(name: &str) -> Option<&'static Attribute> {
    find(&ENTERPRISE_ATTRIBUTES, name)
}

/// Returns the URN of a kind's core schema.
pub(crate) fn core_urn(kind: Kind) -> &'static str {
    match kind {
        Kind::User => USER,
        Kind::Group => GROUP,
    }
}

/// Reports if a name is that of an extension.
pub(crate) fn is_urn(name: &str) -> bool {
    name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("urn:"))
}
