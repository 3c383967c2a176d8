//! The paths of SCIM. Names match in any case, and doubled slashes and those at the end are passed
//! over: administrators paste addresses with them.

use actix_web::http::Method;

use crate::scim::Kind;

/// The first segment of every path of SCIM.
pub(crate) const SCIM: &str = "scim";

/// The version of the protocol, the second segment.
const V2: &str = "v2";

/// Methods, as `Allow` has them.
const READ: &str = "GET, HEAD";
const COLLECTION: &str = "GET, HEAD, POST";
const ITEM: &str = "GET, HEAD, PUT, PATCH, DELETE";
const SEARCH: &str = "POST";

/// A path, cut into its parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// The directory that it names, if it has the form of a SCIM address.
    pub(super) directory: Option<String>,
    /// The thing below the directory; `None` if there is none of that name.
    pub(super) route: Option<Route>,
}

/// A thing below the address of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Config,
    ResourceTypes(Option<String>),
    Schemas(Option<String>),
    Collection(Kind),
    Item(Kind, String),
    /// A search by POST, over one kind or both.
    Search(Option<Kind>),
    /// Something that the standard has and this server has not.
    Unsupported,
}

/// Returns true for a path of SCIM.
pub(crate) fn is_scim(path: &str) -> bool {
    segments(path).next().is_some_and(|first| first.eq_ignore_ascii_case(SCIM))
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

impl Address {
    /// Reads a path that begins with `scim`.
    pub(super) fn of(path: &str) -> Address {
        let mut segments = segments(path).skip(1).map(decoded);
        let is_v2 = segments.next().is_some_and(|version| version.eq_ignore_ascii_case(V2));
        let directory = segments.next().filter(|_| is_v2);
        let rest: Vec<String> = segments.take(4).collect();
        Address { route: directory.as_ref().and_then(|_| Route::of(&rest)), directory }
    }
}

/// Undoes percent-encoding. What is not UTF-8 names nothing.
fn decoded(segment: &str) -> String {
    percent_encoding::percent_decode_str(segment).decode_utf8_lossy().into_owned()
}

impl Route {
    fn of(segments: &[String]) -> Option<Route> {
        let (first, rest) = segments.split_first()?;
        let second = rest.first();
        match (first.to_ascii_lowercase().as_str(), second, rest.get(1)) {
            ("serviceproviderconfig", None, None) => Some(Route::Config),
            ("resourcetypes", name, None) => Some(Route::ResourceTypes(name.cloned())),
            ("schemas", name, None) => Some(Route::Schemas(name.cloned())),
            ("bulk" | "me", ..) => Some(Route::Unsupported),
            (".search", None, None) => Some(Route::Search(None)),
            ("users", id, None) => Some(Route::below(Kind::User, id)),
            ("groups", id, None) => Some(Route::below(Kind::Group, id)),
            _ => None,
        }
    }

    fn below(kind: Kind, id: Option<&String>) -> Route {
        match id {
            None => Route::Collection(kind),
            Some(id) if id.eq_ignore_ascii_case(".search") => Route::Search(Some(kind)),
            Some(id) => Route::Item(kind, id.clone()),
        }
    }

    /// Returns the methods that it takes, as `Allow` has them; empty if it takes none at all.
    pub(super) fn allowed(&self) -> &'static str {
        match self {
            Route::Config | Route::ResourceTypes(_) | Route::Schemas(_) => READ,
            Route::Collection(_) => COLLECTION,
            Route::Item(..) => ITEM,
            Route::Search(_) => SEARCH,
            Route::Unsupported => "",
        }
    }

    pub(super) fn allows(&self, method: &Method) -> bool {
        self.allowed().split(", ").any(|allowed| allowed == method.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: &str) -> Option<Route> {
        Address::of(path).route
    }

    #[test]
    fn a_path_is_read_in_any_case_and_with_too_many_slashes() {
        let item = |id: &str| Some(Route::Item(Kind::User, id.into()));
        for (path, expected) in [
            ("/scim/v2/d/Users", Some(Route::Collection(Kind::User))),
            ("/scim/v2/d/users/", Some(Route::Collection(Kind::User))),
            ("//SCIM/V2//d//GROUPS", Some(Route::Collection(Kind::Group))),
            ("/scim/v2/d/Users/Ab", item("Ab")),
            ("/scim/v2/d//Users//Ab//", item("Ab")),
            ("/scim/v2/d/Users/a%40b", item("a@b")),
            ("/scim/v2/d/Users/a/b", None),
            ("/scim/v2/d/.search", Some(Route::Search(None))),
            ("/scim/v2/d/Groups/.Search", Some(Route::Search(Some(Kind::Group)))),
            ("/scim/v2/d/serviceproviderconfig", Some(Route::Config)),
            ("/scim/v2/d/ServiceProviderConfig/x", None),
            ("/scim/v2/d/ResourceTypes", Some(Route::ResourceTypes(None))),
            ("/scim/v2/d/ResourceTypes/User", Some(Route::ResourceTypes(Some("User".into())))),
            ("/scim/v2/d/Schemas/urn:a", Some(Route::Schemas(Some("urn:a".into())))),
            ("/scim/v2/d/Bulk", Some(Route::Unsupported)),
            ("/scim/v2/d/Me/x", Some(Route::Unsupported)),
            ("/scim/v2/d", None),
            ("/scim/v2/d/Devices", None),
        ] {
            assert_eq!(route(path), expected, "{path}");
            assert_eq!(Address::of(path).directory.as_deref(), Some("d"), "{path}");
        }
        for path in ["/scim", "/scim/v2", "/scim/v1/d/Users", "/scim/d"] {
            assert_eq!(Address::of(path), Address { directory: None, route: None }, "{path}");
        }
        assert!(is_scim("/scim") && is_scim("//Scim/") && is_scim("/scim/v2/d"));
        assert!(!is_scim("/") && !is_scim("/scimitar") && !is_scim("/users/scim"));
    }

    #[test]
    fn each_path_takes_its_methods() {
        let item = Route::Item(Kind::Group, "g".into());
        assert!(item.allows(&Method::PATCH) && !item.allows(&Method::POST));
        assert!(Route::Collection(Kind::User).allows(&Method::POST));
        assert!(!Route::Collection(Kind::User).allows(&Method::PUT));
        assert!(Route::Config.allows(&Method::HEAD) && !Route::Config.allows(&Method::POST));
        assert!(!Route::Search(None).allows(&Method::GET));
    }
}
