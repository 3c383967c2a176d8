//! What each call takes and gives. Requests are judged by these tables, and `/openapi.json` is
//! written from them: of a call that needs a key, a parameter that is not declared here is refused,
//! and one that is declared and not read is refused as well.

use super::answer::Code;

/// A call.
pub(crate) struct Operation {
    pub(crate) method: Method,
    /// Its path; `{id}` or `{seq}` stands for one segment.
    pub(crate) path: &'static str,
    /// Its name, unique.
    pub(crate) name: &'static str,
    /// What it answers, in a sentence.
    pub(crate) about: &'static str,
    /// Its query parameters.
    pub(crate) parameters: &'static [Parameter],
    /// Whether it reads state at a cut, and so takes `as_of` and `known_at`.
    pub(crate) cut: bool,
    /// Whether it needs an API key.
    pub(crate) keyed: bool,
    /// Whether it tells what was kept about people over time, or finds them across organizations:
    /// who asks it is logged.
    pub(crate) sensitive: bool,
    /// The shape of its body, if it takes one.
    pub(crate) takes: Option<&'static str>,
    /// What it gives.
    pub(crate) gives: Gives,
    /// Errors beside those that follow from the rest.
    pub(crate) problems: &'static [Code],
}

impl Operation {
    /// Its parameters, those of the cut included.
    pub(crate) fn all_parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter().chain(CUT.iter().filter(|_| self.cut))
    }

    pub(crate) fn declares(&self, name: &str) -> bool {
        self.all_parameters().any(|parameter| parameter.name == name)
    }

    /// The headers that say at which cut its answers hold, and the parameter that takes each back.
    pub(crate) fn pins(&self) -> &'static [(&'static str, &'static str)] {
        if self.cut {
            &[("Rollcall-As-Of", "as_of"), ("Rollcall-Known-At", "known_at")]
        } else if self.declares(FROM_KNOWN_AT.name) {
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

/// What a call does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Get,
    Put,
    Post,
    Delete,
}

impl Method {
    /// Its name in a request.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Put => "PUT",
            Method::Post => "POST",
            Method::Delete => "DELETE",
        }
    }
}

/// The shape of an answer, named as in the document's schemas.
#[derive(Clone, Copy)]
pub(crate) enum Gives {
    /// One object.
    One(&'static str),
    /// A list's page.
    List(&'static str),
    /// Text of a kind, and an example of it.
    Text(&'static str, &'static str),
    /// JSON of another kind: the document itself.
    Document,
    /// 202 and a word of text.
    Accepted,
    /// 202 and one object: it goes on.
    Begun(&'static str),
}

/// A query parameter.
#[derive(Clone, Copy)]
pub(crate) struct Parameter {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) takes: Takes,
    pub(crate) example: &'static str,
}

/// What a parameter may be.
#[derive(Clone, Copy)]
pub(crate) enum Takes {
    /// Any text of 1 to 1024 bytes.
    Text,
    /// Such a text, which must be there.
    NeededText,
    /// One of some words.
    Words(&'static [&'static str]),
    /// A whole number from 1, with its default.
    Number { default: usize, max: usize },
    /// A whole number from 0, with its default.
    Count { default: usize, max: usize },
    /// A record's number, or how many records: 1 to 2^32 - 1. Whether it must be given.
    Seq { needed: bool },
    /// An RFC 3339 time.
    Moment,
    /// Texts, separated by commas.
    Texts,
}

const fn parameter(
    name: &'static str,
    takes: Takes,
    example: &'static str,
    about: &'static str,
) -> Parameter {
    Parameter { name, about, takes, example }
}

const USER: &str = "directory_user_01K424MJ3048WHJA7G74J4MK1K";
const GROUP: &str = "directory_group_01K424MK3GKPZXHV3GKC42YPT6";
const DIRECTORY: &str = "directory_01K424MH00XFE6WM17PR9ASN2Y";
const ORGANIZATION: &str = "org_01K33SRHPWWZ1Q313AXTSCGDJ0";
const EVENT: &str = "event_01K424MMDFVDHHRK8PS2BM523M";

/// Every call takes these at a cut.
pub(crate) const CUT: [Parameter; 2] = [
    parameter(
        "as_of",
        Takes::Text,
        "2026-03-02T09:00:00.000Z",
        "What was true then: an RFC 3339 time, included, or `latest`",
    ),
    parameter(
        "known_at",
        Takes::Text,
        "12",
        "What had been received by then: a record's number or an RFC 3339 time, included",
    ),
];

pub(crate) const LIMIT: Parameter =
    parameter("limit", Takes::Number { default: 10, max: 100 }, "25", "How many items a page has");
pub(crate) const LIMIT_OWN: Parameter = parameter(
    "limit",
    Takes::Number { default: 100, max: 1000 },
    "25",
    "How many items a page has",
);
const ORDERS: Takes = Takes::Words(&["desc", "asc", "normal"]);
pub(crate) const ORDER: Parameter = parameter(
    "order",
    ORDERS,
    "asc",
    "By id; without it `desc`. `normal` is descending with the meaning of the two cursors exchanged",
);
pub(crate) const ORDER_OWN: Parameter = parameter(
    "order",
    ORDERS,
    "asc",
    "Without it `asc`. `normal` is descending with the meaning of the two cursors exchanged",
);
pub(crate) const ORDER_IGNORED: Parameter =
    parameter("order", ORDERS, "desc", "Taken and ignored: events are listed oldest first");
pub(crate) const AFTER: Parameter = parameter(
    "after",
    Takes::Text,
    "directory",
    "Only what follows this id in the list; it need not exist",
);
pub(crate) const BEFORE: Parameter = parameter(
    "before",
    Takes::Text,
    "zzz",
    "Only what stands before this id in the list, next to it",
);
pub(crate) const AFTER_OWN: Parameter =
    parameter("after", Takes::Text, "1", "The cursor `after` of another page");
pub(crate) const BEFORE_OWN: Parameter =
    parameter("before", Takes::Text, "1", "The cursor `before` of another page");
pub(crate) const AFTER_EVENT: Parameter = parameter(
    "after",
    Takes::Text,
    EVENT,
    "Only what was recorded after this event. Not with `range_start` or `range_end`",
);
pub(crate) const BEFORE_EVENT: Parameter = parameter(
    "before",
    Takes::Text,
    EVENT,
    "Only what was recorded directly before this event, or, with `latest`, the last of all. Not with `range_start` or `range_end`",
);

pub(crate) const OF_DIRECTORY: Parameter =
    parameter("directory", Takes::Text, DIRECTORY, "In this directory");
pub(crate) const OF_GROUP: Parameter =
    parameter("group", Takes::Text, GROUP, "Member of this group");
pub(crate) const OF_USER: Parameter = parameter("user", Takes::Text, USER, "With this member");
pub(crate) const OF_ORGANIZATION: Parameter =
    parameter("organization_id", Takes::Text, ORGANIZATION, "Of this organization");
pub(crate) const OF_ORGANIZATION_ALIAS: Parameter =
    parameter("organization", Takes::Text, ORGANIZATION, "Another name of `organization_id`");
pub(crate) const EMAIL: Parameter = parameter(
    "email",
    Takes::Text,
    "mcastellanos@halden-robotics.example",
    "With this email, whatever the case",
);
pub(crate) const NEEDED_EMAIL: Parameter = Parameter { takes: Takes::NeededText, ..EMAIL };
pub(crate) const ORDER_HOLDERS: Parameter =
    parameter("order", Takes::Words(&["asc", "desc"]), "desc", "By id; without it `asc`");
pub(crate) const AFTER_HOLDER: Parameter =
    parameter("after", Takes::Text, "dXNlcl8x.", "The cursor `after` of another page");
pub(crate) const BEFORE_HOLDER: Parameter =
    parameter("before", Takes::Text, "dXNlcl8x.", "The cursor `before` of another page");
pub(crate) const IDP_ID: Parameter = parameter(
    "idp_id",
    Takes::Text,
    "00gb7Clu3RY9lmy4bgF8",
    "With this id at the identity provider",
);
pub(crate) const STATE: Parameter =
    parameter("state", Takes::Words(&["active", "inactive"]), "active", "In this state");
pub(crate) const ORDER_PLAIN: Parameter = parameter(
    "order",
    Takes::Words(&["asc", "desc"]),
    "desc",
    "By user and role; without it `asc`",
);
pub(crate) const AFTER_ASSIGNMENT: Parameter =
    parameter("after", Takes::Text, "dXNlcl8x.bWVtYmVy", "The cursor `after` of another page");
pub(crate) const BEFORE_ASSIGNMENT: Parameter =
    parameter("before", Takes::Text, "dXNlcl8x.bWVtYmVy", "The cursor `before` of another page");
pub(crate) const ORDER_TIME: Parameter =
    parameter("order", Takes::Words(&["asc", "desc"]), "desc", "Without it `asc`");
pub(crate) const AFTER_PLACE: Parameter =
    parameter("after", Takes::Text, "1772442000000.dXNlcl8x", "The cursor `after` of another page");
pub(crate) const BEFORE_PLACE: Parameter = parameter(
    "before",
    Takes::Text,
    "1772442000000.dXNlcl8x",
    "The cursor `before` of another page",
);
pub(crate) const AFTER_MEMBER: Parameter =
    parameter("after", Takes::Text, "dXNlcl8x.1772442000000", "The cursor `after` of another page");
pub(crate) const BEFORE_MEMBER: Parameter = parameter(
    "before",
    Takes::Text,
    "dXNlcl8x.1772442000000",
    "The cursor `before` of another page",
);
pub(crate) const AFTER_CHANGE: Parameter = parameter(
    "after",
    Takes::Text,
    "12.1",
    "Only what follows: the `id` of a change, the cursor `after`, or the number of a record that is done with",
);
/// How long a feed waits for something to come, in seconds: without a word about it, and at most.
pub(crate) const WAIT_DEFAULT_S: usize = 5;
pub(crate) const WAIT_MAX_S: usize = 30;
pub(crate) const WAIT: Parameter = parameter(
    "wait",
    Takes::Count { default: WAIT_DEFAULT_S, max: WAIT_MAX_S },
    "0",
    "How many seconds to wait for something to come, if there is nothing yet",
);
pub(crate) const SINCE: Parameter = parameter(
    "since",
    Takes::Moment,
    "2026-01-01T00:00:00Z",
    "Only what happened at this time or later",
);
pub(crate) const UNTIL: Parameter = parameter(
    "until",
    Takes::Moment,
    "2026-04-01T00:00:00Z",
    "Only what happened at this time or earlier",
);
pub(crate) const SHOWED_EMAIL: Parameter = parameter(
    "email",
    Takes::Text,
    "mcastellanos@halden-robotics.example",
    "Of users who showed this email then, whatever the case",
);
pub(crate) const FROM_DIRECTORY: Parameter =
    parameter("directory", Takes::Text, DIRECTORY, "Of users who were in this directory");
pub(crate) const AFTER_USER: Parameter =
    parameter("after", Takes::Text, USER, "Only what follows this user");
pub(crate) const OF_ROLE: Parameter = parameter("role", Takes::Text, "developer", "Of this role");
pub(crate) const FOR_USER: Parameter = parameter("user", Takes::Text, USER, "Of this user");
pub(crate) const THROUGH_GROUP: Parameter =
    parameter("group", Takes::Text, GROUP, "For which this group is a reason");
pub(crate) const AFTER_VERSION: Parameter = parameter(
    "after",
    Takes::Text,
    "1768478400000.0..ZXZlbnRfMQ",
    "The cursor `after` of another page",
);
pub(crate) const BEFORE_VERSION: Parameter = parameter(
    "before",
    Takes::Text,
    "1768478400000.0..ZXZlbnRfMQ",
    "The cursor `before` of another page",
);
pub(crate) const ORDER_HISTORY: Parameter = parameter(
    "order",
    Takes::Words(&["asc", "desc"]),
    "desc",
    "By when it happened; without it `asc`",
);
pub(crate) const FROM: Parameter = parameter(
    "from",
    Takes::NeededText,
    "2026-03-02T09:00:00.000Z",
    "The first moment: an RFC 3339 time, included, or `latest`",
);
pub(crate) const TO: Parameter = parameter(
    "to",
    Takes::Text,
    "latest",
    "The second moment: an RFC 3339 time, included, or `latest`, as without it",
);
pub(crate) const FROM_KNOWN_AT: Parameter = parameter(
    "from_known_at",
    Takes::Text,
    "12",
    "What had been received by then counts at the first moment: a record's number or an RFC 3339 time",
);
pub(crate) const TO_KNOWN_AT: Parameter = parameter(
    "to_known_at",
    Takes::Text,
    "12",
    "What had been received by then counts at the second moment: a record's number or an RFC 3339 time",
);
pub(crate) const AFTER_DIFFERENCE: Parameter =
    parameter("after", Takes::Text, "user.dXNlcl8x.", "The cursor `after` of another page");
pub(crate) const ROLE: Parameter = parameter(
    "role",
    Takes::Text,
    "developer",
    "With this role: by the mapping in force, before the first as the source says",
);
pub(crate) const GROUPS: Parameter = parameter(
    "groups",
    Takes::Words(&["true", "false"]),
    "true",
    "Changes nothing: groups are always there",
);
pub(crate) const MEMBERS: Parameter = parameter(
    "members",
    Takes::Words(&["true", "false"]),
    "true",
    "Whether each group holds its members, at most 1000",
);
pub(crate) const SEARCH: Parameter =
    parameter("search", Takes::Text, "robotics", "With this text in its name, whatever the case");
pub(crate) const DOMAIN: Parameter =
    parameter("domain", Takes::Text, "halden-robotics.example", "With this domain");
pub(crate) const EVENTS: Parameter = parameter(
    "events",
    Takes::Texts,
    "dsync.user.created,dsync.user.deleted",
    "Needed: the types wanted, at most 64. Also as `events=a&events=b`, `events[]=a` and `events[0]=a`",
);
pub(crate) const CHECKPOINT_SIZE: Parameter = parameter(
    "size",
    Takes::Seq { needed: false },
    "12",
    "Of so many records; without it of all that are durable",
);
pub(crate) const RECORD: Parameter =
    parameter("seq", Takes::Seq { needed: true }, "7", "Which record");
pub(crate) const TREE_SIZE: Parameter = parameter(
    "size",
    Takes::Seq { needed: false },
    "12",
    "In the tree of so many records; without it of all that are durable",
);
pub(crate) const FROM_SIZE: Parameter =
    parameter("from", Takes::Seq { needed: true }, "7", "The older checkpoint's size");
pub(crate) const TO_SIZE: Parameter = parameter(
    "to",
    Takes::Seq { needed: false },
    "12",
    "The newer checkpoint's size; without it that of all that are durable",
);
pub(crate) const RANGE_START: Parameter = parameter(
    "range_start",
    Takes::Moment,
    "2026-01-01T00:00:00Z",
    "Only what happened at this time or later",
);
pub(crate) const RANGE_END: Parameter = parameter(
    "range_end",
    Takes::Moment,
    "2026-04-01T00:00:00Z",
    "Only what happened at this time or earlier",
);
