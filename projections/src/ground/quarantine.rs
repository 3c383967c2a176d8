//! The records that the fold could not use, or used with a remark.

use crate::ground::order::{Millis, Seq};
use crate::ground::pack::{pack_fields, pack_variants};

/// The reason for which a record is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The body is not a JSON object with a usable `id` and `event`.
    NotAnEvent,
    /// A webhook calls itself `rollcall.*`, a type reserved for operator events.
    ReservedType,
    /// A directory-sync type that this version does not know.
    UnknownType,
    /// A required id is missing, or is not a string of 1 to 255 bytes; or the object that holds it
    /// is missing. Names the field.
    MissingField(Field),
    /// An `object` or the prefix of an id names another kind than the event does. Names the
    /// field.
    KindMismatch(Field),
    /// The body is nested over 128 levels deep, which many readers of JSON refuse.
    TooDeep,
    /// Another content came first under the same event id.
    Conflict {
        /// The record that counts.
        first: Seq,
    },
    /// Dated more than three minutes ahead of the moment it was recorded. Listed as a remark: it
    /// has full effect, from the moment it was recorded.
    ClockAhead {
        /// The time that the source states.
        claimed_at: Millis,
    },
    /// A deletion, or a version that makes a user inactive, without effect on anyone's access now:
    /// something that is dated later was known already. Listed as a remark: it has full effect at
    /// its own time.
    Overtaken {
        /// The record that is dated later.
        later: Seq,
    },
    /// Its body is nowhere any more: only its leaf is known.
    Lost,
    /// The same event as an earlier record, which was lost when this one came, and is there again.
    Repeated {
        /// The earlier record.
        of: Seq,
    },
    /// It names a directory that only identity providers write into, or a user or group of one.
    ForeignDirectory,
}

/// A place in an event's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is the path of the same name")]
pub enum Field {
    Data,
    DataId,
    DataDirectoryId,
    DataUser,
    DataUserId,
    DataUserDirectoryId,
    DataGroup,
    DataGroupId,
    DataGroupDirectoryId,
}

impl Field {
    /// Every field, in a fixed order: a field's position is its stored code.
    pub const ALL: [Field; 9] = [
        Field::Data,
        Field::DataId,
        Field::DataDirectoryId,
        Field::DataUser,
        Field::DataUserId,
        Field::DataUserDirectoryId,
        Field::DataGroup,
        Field::DataGroupId,
        Field::DataGroupDirectoryId,
    ];

    /// Returns the field's path in the body.
    pub fn path(self) -> &'static str {
        match self {
            Field::Data => "data",
            Field::DataId => "data.id",
            Field::DataDirectoryId => "data.directory_id",
            Field::DataUser => "data.user",
            Field::DataUserId => "data.user.id",
            Field::DataUserDirectoryId => "data.user.directory_id",
            Field::DataGroup => "data.group",
            Field::DataGroupId => "data.group.id",
            Field::DataGroupDirectoryId => "data.group.directory_id",
        }
    }
}

impl Reason {
    /// Every code.
    pub const CODES: [&str; 12] = [
        "not_an_event",
        "reserved_type",
        "unknown_type",
        "missing_field",
        "kind_mismatch",
        "too_deep",
        "conflict",
        "clock_ahead",
        "overtaken",
        "lost",
        "repeated",
        "foreign_directory",
    ];

    /// Returns the stable code.
    pub fn code(self) -> &'static str {
        match self {
            Reason::NotAnEvent => "not_an_event",
            Reason::ReservedType => "reserved_type",
            Reason::UnknownType => "unknown_type",
            Reason::MissingField(_) => "missing_field",
            Reason::KindMismatch(_) => "kind_mismatch",
            Reason::TooDeep => "too_deep",
            Reason::Conflict { .. } => "conflict",
            Reason::ClockAhead { .. } => "clock_ahead",
            Reason::Overtaken { .. } => "overtaken",
            Reason::Lost => "lost",
            Reason::Repeated { .. } => "repeated",
            Reason::ForeignDirectory => "foreign_directory",
        }
    }

    /// Returns a sentence for people, in which `format` writes moments. Names fields, seqs and the
    /// time that the source claims, never another value from the body.
    pub fn detail(self, format: impl Fn(Millis) -> String) -> String {
        match self {
            Reason::NotAnEvent => {
                "the body is not a JSON object with a usable `id` and a non-empty `event`".into()
            }
            Reason::ReservedType => {
                "types that begin with `rollcall.` are reserved for operator events".into()
            }
            Reason::UnknownType => "this version does not know the event's type".into(),
            Reason::MissingField(field @ (Field::Data | Field::DataUser | Field::DataGroup)) => {
                format!("`{}` is missing or not an object", field.path())
            }
            Reason::MissingField(field) => {
                format!("`{}` is missing or not a string of 1 to 255 bytes", field.path())
            }
            Reason::KindMismatch(field) => {
                format!("`{}` belongs to another kind of object", field.path())
            }
            Reason::TooDeep => "the body is nested over 128 levels deep".into(),
            Reason::Conflict { first } => {
                format!("record {first} has the same event id and another content, and came first")
            }
            Reason::ClockAhead { claimed_at } => format!(
                "dated {}, more than 3 minutes after it was recorded; \
                 it counts from the moment it was recorded",
                format(claimed_at)
            ),
            Reason::Overtaken { later } => format!(
                "ended no access when it was recorded, because record {later} is dated later and was \
                 known already; check that the access is right"
            ),
            Reason::Lost => {
                "the log was restored without this record: nothing but its leaf is known".into()
            }
            Reason::Repeated { of } => format!(
                "the same event as record {of}, which counts: it came again while the log was \
                 without that record"
            ),
            Reason::ForeignDirectory => {
                "it names a directory that takes changes over SCIM only, or a user or group of one"
                    .into()
            }
        }
    }
}

/// One line of the quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// The record.
    pub seq: Seq,
    /// The reason.
    pub reason: Reason,
}

pack_fields!(Quarantined { seq, reason });

pack_variants!(Field {
    Data = 0,
    DataId = 1,
    DataDirectoryId = 2,
    DataUser = 3,
    DataUserId = 4,
    DataUserDirectoryId = 5,
    DataGroup = 6,
    DataGroupId = 7,
    DataGroupDirectoryId = 8,
});

pack_variants!(Reason {
    NotAnEvent = 0,
    ReservedType = 1,
    UnknownType = 2,
    MissingField(field) = 3,
    KindMismatch(field) = 4,
    TooDeep = 5,
    Conflict { first } = 6,
    ClockAhead { claimed_at } = 7,
    Overtaken { later } = 8,
    Lost = 9,
    Repeated { of } = 10,
    ForeignDirectory = 11,
});
