//! Policies: the treatment of inactive users, as operators set it.

use crate::ground::fact::InactiveUsers;
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::pack::pack_fields;

/// A policy as it was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The number of policies set up to it: the first is 1.
    pub version: usize,
    /// The record that sets it.
    pub seq: Seq,
    /// When it was set.
    pub set_at: Millis,
    /// From when on it counts.
    pub effective_from: Millis,
    /// The treatment of users whose state is not active.
    pub inactive_users: InactiveUsers,
}

/// Every policy, in order of seq.
#[derive(Default)]
pub(crate) struct Policies(Vec<Policy>);

impl Policies {
    pub(crate) fn set(
        &mut self,
        seq: Seq,
        set_at: Millis,
        effective_from: Millis,
        inactive_users: InactiveUsers,
    ) {
        self.0.push(Policy {
            version: self.0.len() + 1,
            seq,
            set_at,
            effective_from,
            inactive_users,
        });
    }

    /// Returns the policy in force: the newest of those that are effective and known. Setting one
    /// overrides all before it from its moment on.
    pub(crate) fn in_force(&self, cut: Cut) -> Option<&Policy> {
        self.0
            .iter()
            .rev()
            .find(|policy| policy.seq <= cut.known_at && policy.effective_from <= cut.as_of)
    }

    /// Returns the policy that a record set.
    pub(crate) fn set_by(&self, seq: Seq) -> Option<&Policy> {
        self.0.iter().rev().find(|policy| policy.seq == seq)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Policy> {
        self.0.iter()
    }
}

pack_fields!(Policy { version, seq, set_at, effective_from, inactive_users });

pack_fields!(Policies(policies));
