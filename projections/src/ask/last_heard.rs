//! The newest records: the last of a user, and the last of its directory.

use crate::ask::causes::Cause;
use crate::ground::event_type::EventType;
use crate::ground::order::{Cut, Place, Seq};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::ground::timeline::Placed;
use crate::sight::Seen;
use crate::state::entities::EntityKind;
use crate::state::events::LastOfDirectory;

/// The newest records about a user and about its directory, of those that the caller sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastHeard {
    /// The newest record that names the user: a version, a deletion, or a membership. `None` if all
    /// happened after the cut.
    pub user: Option<Cause>,
    /// The user's last directory; empty if no record names one.
    pub directory: String,
    /// The newest record of anything in that directory, or of the directory itself, that is no
    /// operator's act.
    pub of_directory: Option<Cause>,
}

/// A step of the search for the newest records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastHeardStep {
    /// The search has ended.
    Found(LastHeard),
    /// It goes on before this record.
    Before(Seq),
}

impl Seen<'_> {
    /// Returns the newest records about a user and its directory, by seq. `None` if no known record
    /// names the user, whenever it happened.
    ///
    /// Costs a look-up for the user and for each group that it was ever in, and one for each
    /// thousand records back to the newest of the directory. The latter is done in steps: each goes
    /// on `before` the record that the one before it returned. For a caller who sees some
    /// organizations only it may cost a pass over the user's events.
    pub fn last_heard(&self, id: &str, cut: Cut, before: Option<Seq>) -> Option<LastHeardStep> {
        let user = self.known_sym(EntityKind::User, id, cut)?;
        let placed = self.placed_version(EntityKind::User, user, cut);
        let placed = placed.filter(|version| self.sees(version.directory, cut));
        let directory = placed.map_or(NO_SYM, |version| version.directory);
        // What an operator did hides the silence of the source.
        let is_told = |seq| !self.known_type(seq).is_some_and(EventType::is_operator_act);
        let sees = |seq| self.sees_event(seq) && is_told(seq);
        let of_directory = match self.events.last_of_directory(directory, cut, before, sees) {
            LastOfDirectory::Before(seq) => return Some(LastHeardStep::Before(seq)),
            LastOfDirectory::Found(found) => found,
        };
        let last = self.last_place_of_user(user, cut).map(|place| Seq::from(place.seq));
        Some(LastHeardStep::Found(LastHeard {
            user: last.map(|seq| self.cause_of_record(seq)),
            directory: self.directories.id(directory).to_owned(),
            of_directory: of_directory.map(|seq| self.cause_of_record(seq)),
        }))
    }

    fn last_place_of_user(&self, user: Sym, cut: Cut) -> Option<Place> {
        if self.own().is_none() {
            let entity = self.users.get(user);
            let of_versions = entity.into_iter().flat_map(|entity| {
                [entity.explicit().newest_record(cut), entity.stand_ins().newest_record(cut)]
            });
            let of_pairs = self.pairs_of(user).map(|pair| pair.grants().newest_record(cut));
            return newest_record(of_versions.chain(of_pairs).flatten());
        }
        let is_seen = |place: &Place| cut.sees(*place) && self.sees_event(Seq::from(place.seq));
        let of_versions = self.users.get(user).and_then(|entity| {
            let last = entity.last_added().map(Placed::place).filter(is_seen);
            last.or_else(|| newest_record(entity.versions().map(Placed::place).filter(is_seen)))
        });
        let pairs = self.memberships.of_user(user).iter();
        let of_pairs =
            pairs.filter_map(|number| self.memberships.get(*number)).filter_map(|pair| {
                let last = pair.last_added().map(Placed::place).filter(is_seen);
                last.or_else(|| {
                    newest_record(pair.grants().iter().map(Placed::place).filter(is_seen))
                })
            });
        newest_record(of_pairs.chain(of_versions))
    }
}

fn newest_record(places: impl Iterator<Item = Place>) -> Option<Place> {
    places.max_by_key(|place| place.seq)
}
