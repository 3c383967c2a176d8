//! Tables that hold the answers at one cut, and the rows in which they differ from those at an
//! earlier one.
//!
//! A record says which things it may change, conservatively: their rows are computed with the
//! knowledge before and after, and compared. Nothing is stored for this.

use std::collections::{BTreeMap, BTreeSet};

use crate::ask::access::{AccessLoss, AccessPeriod};
use crate::ask::assignments::AssignmentFilter;
use crate::ask::causes::RolePeriod;
use crate::ask::lists::{DirectoryRow, EntityRow};
use crate::ask::membership_periods::MembershipPeriod;
use crate::ask::runs::PeriodsWindow;
use crate::ground::fact::{Entry, Fact, RecordStatus};
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::roster::Roster;
use crate::ground::symbols::Sym;
use crate::sight::{Seen, Sight};
use crate::state::entities::EntityKind;
use crate::state::memberships::Pair;
use crate::views::Views;

/// The things that some records may change, as the records name them.
#[derive(Clone, Debug, Default)]
pub struct Touches {
    /// Directories whose own rows may change.
    directories: BTreeSet<String>,
    /// Directories that may change with everything in them.
    whole_directories: BTreeSet<String>,
    /// Groups that may change with all their members.
    groups: BTreeSet<String>,
    /// Users that may change with all their memberships.
    users: BTreeSet<String>,
    /// Pairs of a user and a group.
    pairs: BTreeSet<(String, String)>,
    /// Directories, each with a record that may be the first to say whose it is.
    named: BTreeSet<(String, Seq)>,
    /// Users and groups with the moment and the record of a snapshot that may count for them.
    stand_ins: BTreeSet<StandIn>,
    /// True if the roles of all users may change.
    all_roles: bool,
    /// True if everything about all users may change.
    all_users: bool,
}

/// A snapshot in a membership event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct StandIn {
    is_user: bool,
    id: String,
    moment: Millis,
    seq: Seq,
}

impl Touches {
    /// Notes what a record may change. Records come in any order.
    pub fn note(&mut self, entry: &Entry<'_>) {
        if entry.status != RecordStatus::Counts {
            return;
        }
        match &entry.fact {
            Fact::Directory { id, .. } => {
                self.directories.insert((*id).to_owned());
                self.whole_directories.insert((*id).to_owned());
            }
            Fact::User(_, user) => {
                self.name(user.directory, entry.seq);
                self.users.insert(user.id.to_owned());
            }
            Fact::Group(_, group) => {
                self.name(group.directory, entry.seq);
                self.groups.insert(group.id.to_owned());
            }
            Fact::Membership(data) => {
                for directory in [Some(data.directory), data.user.directory, data.group.directory] {
                    self.name(directory, entry.seq);
                }
                self.stand_in(true, data.user.id, entry);
                self.stand_in(false, data.group.id, entry);
                self.pairs.insert((data.user.id.to_owned(), data.group.id.to_owned()));
            }
            Fact::ObservedMembership { directory, user, group, .. } => {
                self.name(Some(directory), entry.seq);
                self.pairs.insert(((*user).to_owned(), (*group).to_owned()));
            }
            Fact::HostedDirectory { id, .. } => self.name(Some(id), entry.seq),
            Fact::Mapping { .. } => self.all_roles = true,
            Fact::Policy { .. } => self.all_users = true,
            Fact::DirectoryToken { .. }
            | Fact::ScimRequest(_)
            | Fact::ScimMembers { .. }
            | Fact::Reconciled { .. }
            | Fact::Link { .. }
            | Fact::Unrelated { .. }
            | Fact::Unusable(_) => {}
        }
    }

    fn name(&mut self, directory: Option<&str>, seq: Seq) {
        if let Some(directory) = directory {
            self.directories.insert(directory.to_owned());
            self.named.insert((directory.to_owned(), seq));
        }
    }

    fn stand_in(&mut self, is_user: bool, id: &str, entry: &Entry<'_>) {
        let Entry { occurred_at: moment, seq, .. } = *entry;
        self.stand_ins.insert(StandIn { is_user, id: id.to_owned(), moment, seq });
    }
}

/// The rows that may differ between two cuts, by the things that they are about: four bytes for
/// each.
#[derive(Clone, Debug, Default)]
pub struct TouchedRows {
    directories: Vec<Sym>,
    groups: Vec<Sym>,
    /// Users whose own rows, and whose times of access, may differ.
    users: Vec<Sym>,
    /// Users whose roles may differ.
    holders: Vec<Sym>,
    /// Numbers of pairs of a user and a group.
    pairs: Vec<u32>,
}

impl TouchedRows {
    /// Returns true if there are no more.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of things.
    pub fn len(&self) -> usize {
        let TouchedRows { directories, groups, users, holders, pairs } = self;
        let entities = directories.len() + groups.len() + users.len();
        entities + holders.len() + pairs.len()
    }

    /// Takes out at most `count` of them.
    pub fn take(&mut self, count: usize) -> TouchedRows {
        let mut room = count;
        let mut take = |items: &mut Vec<u32>| {
            let taken = items.split_off(items.len().saturating_sub(room));
            room -= taken.len();
            taken
        };
        TouchedRows {
            directories: take(&mut self.directories),
            groups: take(&mut self.groups),
            users: take(&mut self.users),
            holders: take(&mut self.holders),
            pairs: take(&mut self.pairs),
        }
    }

    fn sort(&mut self) {
        let TouchedRows { directories, groups, users, holders, pairs } = self;
        for items in [directories, groups, users, holders, pairs] {
            items.sort_unstable();
            items.dedup();
        }
    }

    fn add_group(&mut self, views: &Views, group: Sym) {
        self.groups.push(group);
        let roster = views.memberships.of_group(group).into_iter();
        for number in roster.flat_map(Roster::items) {
            self.add_pair(views, number);
        }
    }

    fn add_user(&mut self, views: &Views, user: Sym) {
        self.users.push(user);
        self.holders.push(user);
        self.pairs.extend(views.memberships.of_user(user));
    }

    fn add_pair(&mut self, views: &Views, number: u32) {
        self.pairs.push(number);
        self.holders.extend(views.memberships.get(number).map(|pair| pair.user));
    }

    fn add_directory(&mut self, views: &Views, directory: Sym) {
        self.directories.push(directory);
        for user in views.users.roster(directory).into_iter().flat_map(Roster::items) {
            self.add_user(views, user);
        }
        for group in views.groups.roster(directory).into_iter().flat_map(Roster::items) {
            self.add_group(views, group);
        }
        for number in views.memberships.granted_from(directory) {
            self.add_pair(views, number);
        }
    }
}

/// A row of a table, with a key that no other row has with which it is compared.
trait Row: Eq {
    type Key: Ord;

    fn key(&self) -> Self::Key;
}

/// The rows of one table in which it differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed<R> {
    /// Rows that were there, and no other has their key now.
    pub gone: Vec<R>,
    /// Rows that are new, or say something else than before.
    pub set: Vec<R>,
}

impl<R> Default for Changed<R> {
    fn default() -> Self {
        Changed { gone: Vec::new(), set: Vec::new() }
    }
}

/// Compares the rows about one thing, and adds those that differ.
fn compare<R: Row>(changed: &mut Changed<R>, before: Vec<R>, now: Vec<R>) {
    if before == now {
        return;
    }
    let mut before: BTreeMap<R::Key, R> = before.into_iter().map(|row| (row.key(), row)).collect();
    for row in now {
        if before.remove(&row.key()).as_ref() != Some(&row) {
            changed.set.push(row);
        }
    }
    changed.gone.extend(before.into_values());
}

/// A membership that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipRow {
    /// The group.
    pub group: String,
    /// The member.
    pub user: String,
}

/// A role that a user has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignmentRow {
    /// The user.
    pub user: String,
    /// The role.
    pub role: String,
    /// The user's directory.
    pub directory: String,
    /// That directory's organization; empty while unknown.
    pub organization: String,
    /// Since when it is held without a break.
    pub since: Millis,
}

/// A time without a break, and the records that began and ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeriodRow {
    /// Its first moment.
    pub from: Millis,
    /// The first moment after it; `None` while it lasts.
    pub until: Option<Millis>,
    /// The record that began it.
    pub start: Seq,
    /// The record that ended it.
    pub end: Option<Seq>,
}

/// A time in which a user had access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessPeriodRow {
    /// The user.
    pub user: String,
    /// The time.
    pub period: PeriodRow,
    /// The reason for the end.
    pub reason: Option<AccessLoss>,
}

/// A time in which a user was in a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipPeriodRow {
    /// The group.
    pub group: String,
    /// The member.
    pub user: String,
    /// The time.
    pub period: PeriodRow,
}

/// A time in which a user had a role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolePeriodRow {
    /// The user.
    pub user: String,
    /// The role.
    pub role: String,
    /// The time.
    pub period: PeriodRow,
}

impl Row for DirectoryRow {
    type Key = String;

    fn key(&self) -> String {
        self.id.clone()
    }
}

impl Row for EntityRow {
    type Key = String;

    fn key(&self) -> String {
        self.id.clone()
    }
}

impl Row for MembershipRow {
    type Key = (String, String);

    fn key(&self) -> (String, String) {
        (self.group.clone(), self.user.clone())
    }
}

impl Row for AssignmentRow {
    type Key = (String, String);

    fn key(&self) -> (String, String) {
        (self.user.clone(), self.role.clone())
    }
}

impl Row for AccessPeriodRow {
    type Key = (String, Millis);

    fn key(&self) -> (String, Millis) {
        (self.user.clone(), self.period.from)
    }
}

impl Row for MembershipPeriodRow {
    type Key = Millis;

    // They are compared pair by pair.
    fn key(&self) -> Millis {
        self.period.from
    }
}

impl Row for RolePeriodRow {
    type Key = (String, Millis);

    // They are compared user by user.
    fn key(&self) -> (String, Millis) {
        (self.role.clone(), self.period.from)
    }
}

/// The rows in which the tables differ. A row of a directory, a user or a group is the same while
/// the record that describes it is, and what the row says besides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableChanges {
    /// Directories that exist.
    pub directories: Changed<DirectoryRow>,
    /// Groups that are alive.
    pub groups: Changed<EntityRow>,
    /// Users who are alive, without their roles.
    pub users: Changed<EntityRow>,
    /// Memberships that hold.
    pub memberships: Changed<MembershipRow>,
    /// Roles that are held.
    pub assignments: Changed<AssignmentRow>,
    /// Times of access.
    pub access_periods: Changed<AccessPeriodRow>,
    /// Times of memberships.
    pub membership_periods: Changed<MembershipPeriodRow>,
    /// Times of roles.
    pub role_periods: Changed<RolePeriodRow>,
}

impl Views {
    /// Returns the rows that some records, which are folded, may have changed. Costs a look-up for
    /// each thing, and a walk over the members of groups and over what was ever in a directory that
    /// changed.
    pub fn touched_rows(&self, touches: &Touches) -> TouchedRows {
        let mut rows = TouchedRows::default();
        let directory = |id: &String| self.directories.find(id);
        rows.directories.extend(touches.directories.iter().filter_map(directory));
        let is_first = |(id, seq): &(String, Seq)| {
            let item = directory(id).and_then(|sym| self.directories.get(sym));
            item.is_some_and(|item| item.named_with().has(*seq))
        };
        let named = touches.named.iter().filter(|named| is_first(named)).map(|(id, _)| id);
        let whole: BTreeSet<Sym> =
            touches.whole_directories.iter().chain(named).filter_map(directory).collect();
        whole.into_iter().for_each(|sym| rows.add_directory(self, sym));
        for group in touches.groups.iter().filter_map(|id| self.groups.find(id)) {
            rows.add_group(self, group);
        }
        if touches.all_users {
            rows.users.extend(all(self.users.len()));
            rows.holders.extend(all(self.users.len()));
            rows.pairs.extend(all(self.memberships.len()));
        } else if touches.all_roles {
            rows.holders.extend(all(self.users.len()));
        }
        for user in touches.users.iter().filter_map(|id| self.users.find(id)) {
            rows.add_user(self, user);
        }
        for stand_in in &touches.stand_ins {
            self.touch_stand_in(stand_in, &mut rows);
        }
        for (user, group) in &touches.pairs {
            let found = self.users.find(user).zip(self.groups.find(group));
            let number = found.and_then(|(user, group)| self.memberships.number(user, group));
            number.into_iter().for_each(|number| rows.add_pair(self, number));
        }
        // Without a mapping there is no role.
        if self.roles.iter().next().is_none() {
            rows.holders.clear();
        }
        rows.sort();
        rows
    }

    /// Adds the user or group of a snapshot in a membership event, if the snapshot may count for it.
    fn touch_stand_in(&self, stand_in: &StandIn, rows: &mut TouchedRows) {
        let StandIn { is_user, id, moment, seq } = stand_in;
        let kind = if *is_user { EntityKind::User } else { EntityKind::Group };
        let Some(sym) = self.find(kind, id) else { return };
        let Some(entity) = self.entity(kind, sym) else { return };
        if !entity.stand_ins().at(*moment).any(|version| Seq::from(version.place.seq) == *seq) {
            return;
        }
        match kind {
            EntityKind::User => rows.add_user(self, sym),
            EntityKind::Group => rows.add_group(self, sym),
        }
    }

    /// Returns every row.
    pub fn all_rows(&self) -> TouchedRows {
        let users: Vec<Sym> = all(self.users.len()).collect();
        let has_roles = self.roles.iter().next().is_some();
        TouchedRows {
            directories: all(self.directories.len()).collect(),
            groups: all(self.groups.len()).collect(),
            holders: if has_roles { users.clone() } else { Vec::new() },
            users,
            pairs: all(self.memberships.len()).collect(),
        }
    }

    /// Compares rows as they are known at one record with those of an earlier one, or with empty
    /// tables. Everything that is known counts, whenever it happened.
    ///
    /// Costs twice what the answers about these things cost.
    pub fn table_changes(&self, rows: &TouchedRows, before: Option<Seq>, now: Seq) -> TableChanges {
        let seen = self.seen_by(&Sight::All);
        let tables = Tables { seen: &seen };
        let now = Cut { as_of: Millis::MAX, known_at: now };
        let before = before.map(|known_at| Cut { as_of: Millis::MAX, known_at });
        let mut changes = TableChanges::default();
        for sym in &rows.directories {
            let row = |cut| seen.directory(self.directories.id(*sym), cut).into_iter().collect();
            compare(&mut changes.directories, before.map(row).unwrap_or_default(), row(now));
        }
        for sym in &rows.groups {
            let row = |cut| tables.entity(EntityKind::Group, *sym, cut);
            compare(&mut changes.groups, before.map(row).unwrap_or_default(), row(now));
        }
        for sym in &rows.users {
            let row = |cut| tables.entity(EntityKind::User, *sym, cut);
            compare(&mut changes.users, before.map(row).unwrap_or_default(), row(now));
            let periods = |cut| tables.access(*sym, cut);
            compare(
                &mut changes.access_periods,
                before.map(periods).unwrap_or_default(),
                periods(now),
            );
        }
        for sym in &rows.holders {
            let roles = |cut| tables.assignments(*sym, cut);
            compare(&mut changes.assignments, before.map(roles).unwrap_or_default(), roles(now));
            let periods = |cut| tables.role_periods(*sym, cut);
            compare(
                &mut changes.role_periods,
                before.map(periods).unwrap_or_default(),
                periods(now),
            );
        }
        for pair in rows.pairs.iter().filter_map(|number| self.memberships.get(*number)) {
            let holds = |cut| tables.membership(pair, cut);
            compare(&mut changes.memberships, before.map(holds).unwrap_or_default(), holds(now));
            let periods = |cut| tables.membership_periods(pair, cut);
            compare(
                &mut changes.membership_periods,
                before.map(periods).unwrap_or_default(),
                periods(now),
            );
        }
        changes
    }
}

/// Returns the symbols of a list of so many things.
fn all(count: usize) -> impl Iterator<Item = u32> {
    0..u32::try_from(count).unwrap_or(u32::MAX)
}

/// The rows about one thing at a cut.
struct Tables<'v> {
    seen: &'v Seen<'v>,
}

impl Tables<'_> {
    fn entity(&self, kind: EntityKind, sym: Sym, cut: Cut) -> Vec<EntityRow> {
        let version = self.seen.alive(kind, sym, cut);
        version.map(|version| self.seen.row(kind, sym, version, cut)).into_iter().collect()
    }

    fn access(&self, user: Sym, cut: Cut) -> Vec<AccessPeriodRow> {
        let row = |AccessPeriod { from, start, end }: AccessPeriod| AccessPeriodRow {
            user: self.seen.users.id(user).to_owned(),
            period: PeriodRow {
                from,
                until: end.as_ref().map(|end| end.at),
                start: start.seq,
                end: end.as_ref().map(|end| end.cause.seq),
            },
            reason: end.map(|end| end.reason),
        };
        let window = PeriodsWindow::ALL.beginnings("");
        self.seen.periods_of_access(user, cut, window).map(row).collect()
    }

    fn assignments(&self, user: Sym, cut: Cut) -> Vec<AssignmentRow> {
        let id = self.seen.users.id(user);
        let filter = AssignmentFilter { user: Some(id), ..AssignmentFilter::default() };
        let (found, _) = self.seen.assignments(&filter, cut, None, false, usize::MAX);
        let rows = found.into_iter().map(|found| AssignmentRow {
            user: found.user,
            role: found.role,
            directory: found.directory,
            organization: found.organization,
            since: found.since,
        });
        rows.collect()
    }

    fn role_periods(&self, user: Sym, cut: Cut) -> Vec<RolePeriodRow> {
        let id = self.seen.users.id(user);
        let row = |period: RolePeriod| RolePeriodRow {
            user: id.to_owned(),
            role: period.role,
            period: PeriodRow {
                from: period.from,
                until: period.until,
                start: period.start.seq,
                end: period.end.map(|end| end.seq),
            },
        };
        let periods = self.seen.role_periods_on(user, cut, PeriodsWindow::ALL);
        periods.into_iter().map(row).collect()
    }

    fn membership(&self, pair: &Pair, cut: Cut) -> Vec<MembershipRow> {
        let holds = self.seen.membership_basis(pair, cut).holds();
        let row = || MembershipRow {
            group: self.seen.groups.id(pair.group).to_owned(),
            user: self.seen.users.id(pair.user).to_owned(),
        };
        holds.then(row).into_iter().collect()
    }

    fn membership_periods(&self, pair: &Pair, cut: Cut) -> Vec<MembershipPeriodRow> {
        let row = |period: MembershipPeriod| MembershipPeriodRow {
            group: period.group,
            user: period.user,
            period: PeriodRow {
                from: period.from,
                until: period.until,
                start: period.start.seq,
                end: period.end.map(|end| end.seq),
            },
        };
        let window = PeriodsWindow::ALL.beginnings("");
        self.seen.periods_of_pair(pair, cut, window).map(row).collect()
    }
}
