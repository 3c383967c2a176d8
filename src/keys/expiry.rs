//! Warnings of keys whose time ends: a week before, and when it is over.

use std::collections::BTreeMap;

use rollcall_projections::Millis;

use super::{ApiKey, ApiKeys};
use crate::hashes::Hash;
use crate::time;

/// How long before its end a key is warned of, in milliseconds.
const SOON_MS: Millis = 7 * 24 * 60 * 60 * 1000;

/// The place of a key in its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Good,
    EndsSoon,
    Over,
}

impl Stage {
    fn of(key: &ApiKey, now: Millis) -> Stage {
        if key.has_expired(now) {
            Stage::Over
        } else if key.has_expired(now.saturating_add(SOON_MS)) {
            Stage::EndsSoon
        } else {
            Stage::Good
        }
    }
}

/// The warnings that were given.
#[derive(Default)]
pub struct Expiries {
    warned: BTreeMap<Hash, Stage>,
}

impl Expiries {
    /// Warns of each key that ends within a week or has ended, once for each of the two.
    pub fn warn(&mut self, keys: &ApiKeys, now: Millis) {
        for (key, stage) in self.due(keys, now) {
            let (name, fingerprint) = (key.name(), key.fingerprint());
            let expires_at = key.expires_at.map(time::format);
            if stage == Stage::Over {
                tracing::warn!(
                    name,
                    fingerprint,
                    expires_at,
                    "an API key has expired and is refused: remove its entry"
                );
            } else {
                tracing::warn!(
                    name,
                    fingerprint,
                    expires_at,
                    "an API key expires soon: make its successor with `rollcall key new`"
                );
            }
        }
    }

    /// Returns the keys to warn of, and notes that they were.
    fn due<'a>(&mut self, keys: &'a ApiKeys, now: Millis) -> Vec<(&'a ApiKey, Stage)> {
        let stages: Vec<(&ApiKey, Stage)> =
            keys.iter().map(|key| (key, Stage::of(key, now))).collect();
        let before = std::mem::take(&mut self.warned);
        self.warned = stages.iter().map(|(key, stage)| (key.sha256, *stage)).collect();
        let is_new = |(key, stage): &(&ApiKey, Stage)| {
            *stage > before.get(&key.sha256).copied().unwrap_or(Stage::Good)
        };
        stages.into_iter().filter(is_new).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_warned_of_once_a_week_before_its_end_and_once_when_it_is_over() {
        let end = 100 * SOON_MS;
        let key = |expires_at| ApiKey { expires_at, ..ApiKey::unrestricted("k") };
        let keys = ApiKeys::new([key(Some(end)), ApiKey::unrestricted("for ever")]).unwrap();
        let mut expiries = Expiries::default();
        let mut due = |keys: &ApiKeys, now| -> Vec<Stage> {
            expiries.due(keys, now).into_iter().map(|(_, stage)| stage).collect()
        };
        assert_eq!(due(&keys, end - SOON_MS - 1), []);
        assert_eq!(due(&keys, end - SOON_MS), [Stage::EndsSoon]);
        assert_eq!(due(&keys, end - 1), []);
        assert_eq!(due(&keys, end), [Stage::Over]);
        assert_eq!(due(&keys, end + 1), []);
        let later = ApiKeys::new([key(Some(end + 2))]).unwrap();
        assert_eq!(due(&later, end + 1), [], "a clock set back or a later end is not news");
        assert_eq!(due(&later, end + 2), [Stage::Over]);
        assert_eq!(Expiries::default().due(&keys, end + 1).len(), 1, "at a start as well");
    }
}
