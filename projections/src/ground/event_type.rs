//! The types of the events that count: one table, from which every other place takes them.

/// Declares the enum, its names and its list from one table.
macro_rules! event_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $subject:ident;)+) => {
        /// The type of an event that Rollcall understands.
        ///
        /// Code that treats types differently matches on this enum without a wildcard arm, so that
        /// a new type does not compile until each such place has an answer for it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventType {
            $($(#[$doc])* $variant,)+
        }

        impl EventType {
            /// Every type, in the order of the table.
            pub const ALL: &[EventType] = &[$(EventType::$variant,)+];

            /// Returns the type's name in the field `event`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(EventType::$variant => $name,)+
                }
            }

            /// Returns the type with this name; `None` for one that Rollcall does not know.
            pub fn parse(name: &str) -> Option<EventType> {
                match name {
                    $($name => Some(EventType::$variant),)+
                    _ => None,
                }
            }

            /// Returns the kind of thing that the type speaks of.
            pub const fn subject(self) -> EventSubject {
                match self {
                    $(EventType::$variant => EventSubject::$subject,)+
                }
            }
        }
    };
}

/// The kind of thing that a type of event speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventSubject {
    /// A directory.
    Directory,
    /// A user.
    User,
    /// A group.
    Group,
    /// A user's membership of a group.
    Membership,
    /// A directory's bearer token: kept and counted, without effect.
    Token,
    /// An act of one of Rollcall's operators.
    Operator,
}

event_types! {
    /// A directory was connected.
    DirectoryActivated = "dsync.activated", Directory;
    /// A directory was disconnected, and may come back.
    DirectoryDeactivated = "dsync.deactivated", Directory;
    /// A directory was deleted, with everything in it.
    DirectoryDeleted = "dsync.deleted", Directory;
    /// A user was created.
    UserCreated = "dsync.user.created", User;
    /// A user was updated.
    UserUpdated = "dsync.user.updated", User;
    /// A user was deleted.
    UserDeleted = "dsync.user.deleted", User;
    /// A group was created.
    GroupCreated = "dsync.group.created", Group;
    /// A group was updated.
    GroupUpdated = "dsync.group.updated", Group;
    /// A group was deleted.
    GroupDeleted = "dsync.group.deleted", Group;
    /// A user was added to a group.
    MemberAdded = "dsync.group.user_added", Membership;
    /// A user was removed from a group.
    MemberRemoved = "dsync.group.user_removed", Membership;
    /// A directory's token was created.
    TokenCreated = "dsync.token.created", Token;
    /// A directory's token was revoked.
    TokenRevoked = "dsync.token.revoked", Token;
    /// An operator set a role mapping.
    MappingSet = "rollcall.mapping.set", Operator;
    /// An operator set the treatment of inactive users.
    PolicySet = "rollcall.policy.set", Operator;
    /// An operator deleted a directory.
    OperatorDirectoryDeleted = "rollcall.directory.deleted", Operator;
    /// The key that signs checkpoints changed.
    CheckpointKeyChanged = "rollcall.checkpoint_key.changed", Operator;
}
