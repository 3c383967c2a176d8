//! Declarations of calls. A declaration is the only place for each fact about its call: requests
//! are judged by it, `/openapi.json` is written from it, and it says who asks is logged.
//!
//! A parameter that is not declared cannot be read, so it is refused as unknown. One that is
//! declared and never read is refused in the same way.

use super::answer::Code;
use super::paging::CursorPlace;
use crate::keys::Scope;
use crate::time;

/// The longest value of a parameter, in characters.
pub(crate) const TEXT_CHARS_MAX: usize = 1024;

/// A call. A declaration states what differs from [`Operation::GET`] or one of its siblings.
pub(crate) struct Operation {
    pub(crate) method: Method,
    /// The path, in which `{id}` or `{seq}` matches one segment.
    pub(crate) path: &'static str,
    /// The call's unique name.
    pub(crate) name: &'static str,
    /// A sentence that says what it answers or does.
    pub(crate) about: &'static str,
    /// The query parameters, without those of the cut.
    pub(crate) parameters: &'static [Parameter],
    /// Parameters of which a request gives at least one, if there are any.
    pub(crate) needs_one_of: &'static [&'static str],
    /// The headers of a request that it judges.
    pub(crate) headers: &'static [Parameter],
    pub(crate) reads: Reads,
    pub(crate) access: Access,
    /// A second scope that a key needs.
    pub(crate) needs_also: Option<Scope>,
    pub(crate) logged: Logged,
    pub(crate) cost: Cost,
    /// The name of its body's shape, if it takes a body.
    pub(crate) takes: Option<&'static str>,
    /// The media type of that body.
    pub(crate) takes_as: &'static str,
    /// False if that body may be left out.
    pub(crate) needs_body: bool,
    pub(crate) gives: Gives,
    /// The headers of its answer, without those that follow from the rest.
    pub(crate) answer_headers: &'static [AnswerHeader],
    /// The shapes that it adds to the document: a JSON object of schemas by name.
    pub(crate) shapes: &'static str,
    /// Its errors, without those that follow from the rest.
    pub(crate) problems: &'static [Code],
}

/// The state that a call reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// The newest state only.
    Latest,
    /// The state at a cut; the call takes `as_of` and `known_at`.
    AtCut,
}

/// The callers that a call answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// The declaration does not say so yet, and does not compile.
    Undeclared,
    /// Any caller.
    Open,
    /// Holders of an API key with a scope.
    Keyed {
        /// The scope.
        scope: Scope,
        /// The part of it for a key that is bound to organizations.
        bound: Bound,
    },
}

impl Access {
    pub(crate) const fn keyed(scope: Scope, bound: Bound) -> Access {
        Access::Keyed { scope, bound }
    }
}

/// The part of a call for a key that is bound to organizations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// What is of its organizations. What is of others is as unknown. The call takes
    /// [`super::question::Question::sight`], or such a key is refused.
    Own,
    /// The same as for any key: nothing in it is of an organization.
    All,
    /// None: it is about all organizations.
    Refused,
}

/// The questions that leave a line in the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Logged {
    /// None: the call tells of no person.
    Never,
    /// Those with `as_of` or `known_at`; applications ask about now at each login.
    AboutThePast,
    /// All: the call tells people's histories, or finds people across organizations.
    Always,
}

/// The work that a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cost {
    /// Bounded by the size of its answer.
    Low,
    /// Bounded by the size of its answer and what its filters refuse: it ends when the asker leaves
    /// or the server stops.
    Walk,
    /// It may look at everything that is kept: such calls take turns.
    High,
}

impl Operation {
    /// A read of the newest state that is not logged. It leaves open who is answered.
    pub(crate) const GET: Operation = Operation {
        method: Method::Get,
        path: "",
        name: "",
        about: "",
        parameters: &[],
        needs_one_of: &[],
        headers: &[],
        reads: Reads::Latest,
        access: Access::Undeclared,
        needs_also: None,
        logged: Logged::Never,
        cost: Cost::Low,
        takes: None,
        takes_as: "application/json",
        needs_body: true,
        gives: Gives::One(""),
        answer_headers: &[],
        shapes: "{}",
        problems: &[],
    };
    pub(crate) const PUT: Operation = Operation { method: Method::Put, ..Operation::GET };
    pub(crate) const POST: Operation = Operation { method: Method::Post, ..Operation::GET };
    pub(crate) const DELETE: Operation = Operation { method: Method::Delete, ..Operation::GET };

    /// Fails the build if a declaration leaves out what has no default.
    pub(crate) const fn check(&self) {
        assert!(!self.path.is_empty() && !self.name.is_empty() && !self.about.is_empty());
        assert!(!matches!(self.access, Access::Undeclared));
        if let Gives::One(shape) = self.gives {
            assert!(!shape.is_empty());
        }
    }

    /// Returns the parameters, those of the cut included.
    pub(crate) fn all_parameters(&self) -> impl Iterator<Item = &'static Parameter> {
        let cut: &'static [Parameter] = if self.reads == Reads::AtCut { &CUT } else { &[] };
        self.parameters.iter().chain(cut)
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&'static Parameter> {
        self.all_parameters().find(|parameter| parameter.name == name)
    }

    pub(crate) fn is_keyed(&self) -> bool {
        self.scope().is_some()
    }

    /// Returns the scope that a key needs; `None` if the call is open to all.
    pub(crate) fn scope(&self) -> Option<Scope> {
        match self.access {
            Access::Keyed { scope, .. } => Some(scope),
            Access::Open | Access::Undeclared => None,
        }
    }

    /// Returns every scope that a key needs.
    pub(crate) fn scopes(&self) -> impl Iterator<Item = Scope> {
        self.scope().into_iter().chain(self.needs_also)
    }

    /// Returns the part of it for a key that is bound to organizations.
    pub(crate) fn bound(&self) -> Bound {
        match self.access {
            Access::Keyed { bound, .. } => bound,
            Access::Open => Bound::All,
            Access::Undeclared => Bound::Refused,
        }
    }

    /// Returns whether it is one of Rollcall's own calls, and not one of the WorkOS API.
    pub(crate) fn is_own(&self) -> bool {
        self.path.starts_with("/rollcall/")
    }

    /// Returns the headers that say at which cut an answer holds, each with the parameter that
    /// takes its value back.
    pub(crate) fn pins(&self) -> &'static [(&'static str, &'static str)] {
        if self.reads == Reads::AtCut {
            &[("Rollcall-As-Of", "as_of"), ("Rollcall-Known-At", "known_at")]
        } else if self.parameter("from_known_at").is_some() {
            &[
                ("Rollcall-As-Of", "to"),
                ("Rollcall-Known-At", "to_known_at"),
                ("Rollcall-From-As-Of", "from"),
                ("Rollcall-From-Known-At", "from_known_at"),
            ]
        } else {
            &[]
        }
    }
}

/// The method of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Put,
    Post,
    Delete,
}

impl Method {
    /// Returns its name in a request.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }

    /// Returns the methods of requests that it answers, as `Allow` has them.
    pub(crate) fn allowed(self) -> &'static str {
        if self == Method::Get { "GET, HEAD" } else { self.name() }
    }
}

/// The answer of a call that succeeds. Shapes go by their names in the document.
#[derive(Clone, Copy)]
pub(crate) enum Gives {
    /// One object.
    One(&'static str),
    /// A page of a list of such objects.
    List(&'static str),
    /// One object; or, if the request accepts `application/x-ndjson`, such objects, one a line.
    OneOrLines { one: &'static str, lines: &'static str },
    /// Text.
    Text { media_type: &'static str, example: &'static str },
    /// A file of bytes.
    File { media_type: &'static str },
    /// The OpenAPI document.
    Document,
    /// 202 and the text `Accepted`.
    Accepted,
    /// 202 and one object that describes work which goes on.
    Begun(&'static str),
    /// 201 and one object that was created.
    Created(&'static str),
    /// 204 and no body.
    Nothing,
}

/// A header of an answer.
#[derive(Clone, Copy)]
pub(crate) struct AnswerHeader {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// The regular expression of its values.
    pub(crate) pattern: &'static str,
}

pub(crate) const MAPPING_VERSION: AnswerHeader = AnswerHeader {
    name: "Rollcall-Mapping-Version",
    about: "The version of the role mapping in force; 0 before the first.",
    pattern: "^[0-9]+$",
};

/// A query parameter, or a header.
#[derive(Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) takes: Takes,
    pub(crate) example: &'static str,
    /// Without it the call is refused.
    pub(crate) required: bool,
    /// Another parameter does the same.
    pub(crate) deprecated: bool,
    pub(crate) not_with: Option<NotWith>,
}

/// The parameters with which a parameter cannot be combined.
#[derive(Clone, Copy)]
pub(crate) struct NotWith {
    pub(crate) names: &'static [&'static str],
    /// The sentence in the error.
    pub(crate) message: &'static str,
}

/// The values that a parameter takes.
#[derive(Clone, Copy)]
pub(crate) enum Takes {
    /// Any text of 1 to [`TEXT_CHARS_MAX`] characters.
    Text,
    /// A text that matches a regular expression.
    Form(&'static str),
    /// One word, or a text that matches a regular expression.
    WordOrForm(&'static str, &'static str),
    /// A cursor: parts separated by dots, each the regular expression of one.
    Cursor(&'static [&'static str]),
    /// One of some words, those of a [`Word`].
    Words(&'static [&'static str]),
    /// The order of a list that pages by [`super::paging::Paging`], and the one without it.
    Order(Order),
    /// A whole number, and the one without it.
    Number { min: usize, max: usize, default: usize },
    /// A record's number, or a number of records: 1 to 2^32 - 1.
    Seq,
    /// An RFC 3339 time.
    Moment,
    /// An RFC 3339 time or `latest`.
    AsOf,
    /// A record's number, from 0, or an RFC 3339 time.
    KnownAt,
    /// At most `max` texts, separated by commas.
    Texts { max: usize },
}

/// An enumeration whose variants are the words of a parameter. [`words!`] makes one.
pub(crate) trait Word: Copy + 'static {
    /// The words, in the order of [`Word::ALL`].
    const WORDS: &'static [&'static str];
    const ALL: &'static [Self];
}

/// Declares an enumeration together with its words, so that neither can lack one of the other's.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum $name {
            $($variant,)+
        }

        impl $crate::http::wire::api::Word for $name {
            const WORDS: &'static [&'static str] = &[$($word),+];
            const ALL: &'static [$name] = &[$($name::$variant),+];
        }
    };
}
pub(crate) use words;

words! {
    /// The order of a list, in the words of the contract. `Normal` is descending, with the meaning
    /// of the two cursors exchanged.
    Order { Asc = "asc", Desc = "desc", Normal = "normal" }
}

words! {
    /// The order of a list whose cursors are places.
    Direction { Asc = "asc", Desc = "desc" }
}

words! {
    /// A switch.
    Switch { On = "true", Off = "false" }
}

impl Parameter {
    /// Declares a parameter that may be left out.
    pub(crate) const fn new(
        name: &'static str,
        takes: Takes,
        example: &'static str,
        about: &'static str,
    ) -> Parameter {
        Parameter {
            name,
            about,
            takes,
            example,
            required: false,
            deprecated: false,
            not_with: None,
        }
    }

    /// Declares a text that may be left out.
    pub(crate) const fn text(
        name: &'static str,
        example: &'static str,
        about: &'static str,
    ) -> Parameter {
        Parameter::new(name, Takes::Text, example, about)
    }

    /// Declares the same parameter as one that must be given.
    pub(crate) const fn required(self) -> Parameter {
        Parameter { required: true, ..self }
    }

    /// Declares the same parameter as one that cannot be combined with others.
    pub(crate) const fn not_with(
        self,
        names: &'static [&'static str],
        message: &'static str,
    ) -> Parameter {
        Parameter { not_with: Some(NotWith { names, message }), ..self }
    }
}

pub(crate) const USER_ID: &str = "directory_user_01K424MJ3048WHJA7G74J4MK1K";
pub(crate) const GROUP_ID: &str = "directory_group_01K424MK3GKPZXHV3GKC42YPT6";
pub(crate) const DIRECTORY_ID: &str = "directory_01K424MH00XFE6WM17PR9ASN2Y";
const ORGANIZATION_ID: &str = "org_01K33SRHPWWZ1Q313AXTSCGDJ0";

/// Moments as a query has them. A `+` that was not percent-encoded arrives as a space.
pub(crate) const MOMENT_PATTERN: &str = time::pattern!("", "[+ -]");

/// Moments as a query has them, or `latest`.
pub(crate) const AS_OF_PATTERN: &str = time::pattern!("latest|", "[+ -]");

/// The parameters of every call that reads at a cut.
const CUT: [Parameter; 2] = [
    Parameter::new(
        "as_of",
        Takes::AsOf,
        "2026-03-02T09:00:00.000Z",
        "What was true then: an RFC 3339 time, included and not in the future, or `latest`",
    ),
    KNOWN_AT,
];

/// The end of what is known, for a call that has no other clock.
pub(crate) const KNOWN_AT: Parameter = Parameter::new(
    "known_at",
    Takes::KnownAt,
    "12",
    "What had been received by then: a record's number, at most that of the last one, or an \
    RFC 3339 time, included and not in the future",
);

const fn limit(default: usize, max: usize) -> Parameter {
    Parameter::new(
        "limit",
        Takes::Number { min: 1, max, default },
        "25",
        "How many items a page has",
    )
}

/// The page of a call of the WorkOS API.
pub(crate) const LIMIT: Parameter = limit(10, 100);
/// The page of one of Rollcall's own calls.
pub(crate) const LIMIT_OWN: Parameter = limit(100, 1000);

pub(crate) const ORDER: Parameter = Parameter::new(
    "order",
    Takes::Order(Order::Desc),
    "asc",
    "By id; without it `desc`. `normal` is descending, with the meaning of the two cursors \
    exchanged",
);
pub(crate) const ORDER_OWN: Parameter = Parameter::new(
    "order",
    Takes::Order(Order::Asc),
    "asc",
    "Without it `asc`. `normal` is descending with the meaning of the two cursors exchanged",
);

/// Declares the order of a list whose cursors are places; it is ascending without one.
pub(crate) const fn direction(about: &'static str) -> Parameter {
    Parameter::new("order", Takes::Words(Direction::WORDS), "desc", about)
}

pub(crate) const AFTER: Parameter = Parameter::text(
    "after",
    "directory",
    "Only what follows this id in the list; it need not exist",
);
pub(crate) const BEFORE: Parameter = Parameter::text(
    "before",
    "zzz",
    "Only what precedes this id in the list, next to it. Not with `after`",
)
.not_with(&["after"], NOT_BOTH);

/// Refuses two cursors.
pub(crate) const NOT_BOTH: &str = "give `before` or `after`, not both";

/// Declares the cursor `after` of a list whose cursors are places.
pub(crate) const fn after<P: CursorPlace>(example: &'static str) -> Parameter {
    let about = "The cursor `after` of another page";
    Parameter::new("after", Takes::Cursor(P::PATTERNS), example, about)
}

/// Declares the cursor `before` of a list whose cursors are places.
pub(crate) const fn before<P: CursorPlace>(example: &'static str) -> Parameter {
    let about = "The cursor `before` of another page. Not with `after`";
    Parameter::new("before", Takes::Cursor(P::PATTERNS), example, about)
        .not_with(&["after"], NOT_BOTH)
}

pub(crate) const IN_DIRECTORY: Parameter =
    Parameter::text("directory", DIRECTORY_ID, "In this directory");
pub(crate) const OF_ORGANIZATION: Parameter =
    Parameter::text("organization_id", ORGANIZATION_ID, "Of this organization");
pub(crate) const OF_ORGANIZATION_ALIAS: Parameter = Parameter {
    deprecated: true,
    ..Parameter::text(
        "organization",
        ORGANIZATION_ID,
        "Another name of `organization_id`, which cannot be combined with it",
    )
    .not_with(&["organization_id"], "it is another name of `organization_id`: give one of them")
};
pub(crate) const OF_USER: Parameter = Parameter::text("user", USER_ID, "Of this user");

/// Declares a search for an email.
pub(crate) const fn email(about: &'static str) -> Parameter {
    Parameter::text("email", "mcastellanos@halden-robotics.example", about)
}

/// Declares the bound of a time in which something happened.
pub(crate) const fn since(name: &'static str) -> Parameter {
    Parameter::new(
        name,
        Takes::Moment,
        "2026-01-01T00:00:00Z",
        "Only what happened at this time or later",
    )
}

/// Declares the other bound.
pub(crate) const fn until(name: &'static str) -> Parameter {
    Parameter::new(
        name,
        Takes::Moment,
        "2026-04-01T00:00:00Z",
        "Only what happened at this time or earlier",
    )
}
