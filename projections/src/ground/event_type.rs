//! The types of the events that count: one table, from which every other place takes them.

/// Declares the enum, its names and its list from one table.
macro_rules! event_types {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $subject:ident, $effect:ident;)+) => {
        /// The type of an event that Rollcall understands.
        ///
        /// Code that treats types differently asks for the subject and the effect, and matches on
        /// them without a wildcard arm. Only code that reads or writes a type's data matches on
        /// this enum itself, so that a new type does not compile until such code has an answer.
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

            /// Returns the effect on that thing.
            pub const fn effect(self) -> EventEffect {
                match self {
                    $(EventType::$variant => EventEffect::$effect,)+
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
    /// A role mapping.
    Mapping,
    /// The treatment of inactive users.
    Policy,
    /// The key that signs checkpoints.
    CheckpointKey,
    /// The link from a user of a directory to one of the application.
    Link,
    /// A comparison with the source.
    Reconciliation,
    /// A user or group of a directory that identity providers push into.
    ScimResource,
}

/// The effect of a type of event on its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventEffect {
    /// The subject exists from then on.
    Begins,
    /// The subject has other properties.
    Changes,
    /// The subject is out of use, and may come back.
    Suspends,
    /// The subject exists no longer.
    Ends,
    /// The subject exists from then on, has other properties or exists no longer: the event's data
    /// says which.
    Observes,
    /// The event is kept and counted only.
    None,
}

/// The prefix of the types of directory sync.
pub const SYNC_PREFIX: &str = "dsync.";

/// The prefix of the types of directory sync that speak of a token. One that Rollcall does not know
/// is treated like those that it knows.
pub const TOKEN_PREFIX: &str = "dsync.token.";

/// The prefix of the types that only Rollcall writes: acts of its operators, observations, completed
/// reconciliations and requests of identity providers.
pub const OWN_PREFIX: &str = "rollcall.";

/// Matches every type that only Rollcall writes, in code that treats all of them alike and others
/// one by one. [`EventType`] must be in scope.
#[macro_export]
macro_rules! own_event_type {
    () => {
        EventType::MappingSet
            | EventType::PolicySet
            | EventType::OperatorDirectoryDeleted
            | EventType::CheckpointKeyChanged
            | EventType::LinkSet
            | EventType::LinkRemoved
            | EventType::DirectoryObserved
            | EventType::UserObserved
            | EventType::GroupObserved
            | EventType::MembershipObserved
            | EventType::ReconciliationCompleted
            | EventType::OperatorDirectoryCreated
            | EventType::OperatorTokenCreated
            | EventType::OperatorTokenRevoked
            | EventType::ScimRequested
            | EventType::ScimMembersChanged
    };
}

impl EventType {
    /// Returns true for a type that only Rollcall writes.
    pub fn is_own(self) -> bool {
        self.name().starts_with(OWN_PREFIX)
    }

    /// Returns true for an act of one of Rollcall's operators.
    pub fn is_operator_act(self) -> bool {
        self.is_own()
            && !self.is_observation()
            && !self.is_scim()
            && self.subject() != EventSubject::Reconciliation
    }

    /// Returns true for a record of what an identity provider sent.
    pub fn is_scim(self) -> bool {
        self.subject() == EventSubject::ScimResource
    }

    /// Returns true for what the source said of one thing when it was asked.
    pub fn is_observation(self) -> bool {
        self.effect() == EventEffect::Observes
    }
}

event_types! {
    /// A directory was connected.
    DirectoryActivated = "dsync.activated", Directory, Begins;
    /// A directory was disconnected, and may come back.
    DirectoryDeactivated = "dsync.deactivated", Directory, Suspends;
    /// A directory was deleted, with everything in it.
    DirectoryDeleted = "dsync.deleted", Directory, Ends;
    /// A user was created.
    UserCreated = "dsync.user.created", User, Begins;
    /// A user was updated.
    UserUpdated = "dsync.user.updated", User, Changes;
    /// A user was deleted.
    UserDeleted = "dsync.user.deleted", User, Ends;
    /// A group was created.
    GroupCreated = "dsync.group.created", Group, Begins;
    /// A group was updated.
    GroupUpdated = "dsync.group.updated", Group, Changes;
    /// A group was deleted.
    GroupDeleted = "dsync.group.deleted", Group, Ends;
    /// A user was added to a group.
    MemberAdded = "dsync.group.user_added", Membership, Begins;
    /// A user was removed from a group.
    MemberRemoved = "dsync.group.user_removed", Membership, Ends;
    /// A directory's token was created.
    TokenCreated = "dsync.token.created", Token, None;
    /// A directory's token was revoked.
    TokenRevoked = "dsync.token.revoked", Token, None;
    /// An operator set a role mapping.
    MappingSet = "rollcall.mapping.set", Mapping, Changes;
    /// An operator set the treatment of inactive users.
    PolicySet = "rollcall.policy.set", Policy, Changes;
    /// An operator deleted a directory.
    OperatorDirectoryDeleted = "rollcall.directory.deleted", Directory, Ends;
    /// The key that signs checkpoints changed.
    CheckpointKeyChanged = "rollcall.checkpoint_key.changed", CheckpointKey, Changes;
    /// An operator linked a user of a directory to one of the application.
    LinkSet = "rollcall.link.set", Link, Begins;
    /// An operator removed such a link.
    LinkRemoved = "rollcall.link.removed", Link, Ends;
    /// The source was asked about a directory.
    DirectoryObserved = "rollcall.directory.observed", Directory, Observes;
    /// The source was asked about a user.
    UserObserved = "rollcall.user.observed", User, Observes;
    /// The source was asked about a group.
    GroupObserved = "rollcall.group.observed", Group, Observes;
    /// The source was asked about a user's membership of a group.
    MembershipObserved = "rollcall.membership.observed", Membership, Observes;
    /// A comparison with the source ended.
    ReconciliationCompleted = "rollcall.reconciliation.completed", Reconciliation, None;
    /// An operator created a directory that identity providers push into.
    OperatorDirectoryCreated = "rollcall.directory.created", Directory, Begins;
    /// An operator created a token of such a directory.
    OperatorTokenCreated = "rollcall.directory_token.created", Token, None;
    /// An operator revoked a token of such a directory.
    OperatorTokenRevoked = "rollcall.directory_token.revoked", Token, None;
    /// An identity provider changed a user or group.
    ScimRequested = "rollcall.scim.request", ScimResource, Changes;
    /// An identity provider changed the members of a group.
    ScimMembersChanged = "rollcall.scim.members", ScimResource, Changes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_of_our_own_types_matches_these_and_no_other() {
        for event_type in EventType::ALL {
            let is_matched = matches!(event_type, own_event_type!());
            assert_eq!(is_matched, event_type.is_own(), "{}", event_type.name());
        }
    }
}
