//! Tests that a page costs the same however long the history behind it is.

use alloc::sync::Arc;

use crate::ask::assignments::AssignmentFilter;
use crate::ask::runs::PeriodsWindow;
use crate::ask::touched::TouchedUsers;
use crate::ground::fact::{
    Change, DirectoryChange, Entry, Fact, GroupData, InactiveUsers, MembershipData, Provenance,
    RecordStatus, UserData,
};
use crate::ground::looks;
use crate::ground::mapping::{GroupPattern, Mapping, Matches, Mode, NameText, Rule};
use crate::ground::order::{Cut, Millis, Seq};
use crate::sight::{Seen, Sight};
use crate::state::name_matches::NameMatches;
use crate::views::Views;

/// The turns of a history, and of one that is a hundred times as long.
const TURNS: u64 = 50;
const MANY_TURNS: u64 = 5000;

/// The records of a turn.
const RECORDS_A_TURN: u64 = 6;

/// What the longer history may cost more: a few look-ups in one more block of 64 versions.
const LOOKS_MORE: usize = 400;

/// A user who is in one group all the time and joins and leaves another; it is in a third one, too,
/// which has another name each time. Its own versions say nothing new.
const JOINER: &str = "joiner";
/// A user who is inactive, and out of one of its two groups, each second time.
const RETURNING: &str = "returning";
/// A user who is in one group all the time and joins and leaves another that gives the same role.
const COVERED: &str = "covered";

/// A history, and what each of its records touched.
#[derive(Default)]
struct History {
    views: Views,
    touched: Vec<TouchedUsers>,
}

impl History {
    /// Folds some turns, and then the events after which all those users are there.
    fn of(turns: u64) -> History {
        let mut history = History::default();
        history.fold(directory());
        let inactive_users = InactiveUsers::Retain;
        history.fold(Fact::Policy { inactive_users, effective_from: 0 });
        history.fold(mapping());
        for id in ["steady", "joined", "renamed", "left", "same"] {
            history.fold(Fact::Group(Change::Set, group(id, id)));
        }
        for id in [JOINER, RETURNING, COVERED] {
            history.fold(Fact::User(Change::Set, user(id, true)));
        }
        history.fold(member(true, JOINER, "renamed"));
        history.fold(member(true, RETURNING, "left"));
        for user in [JOINER, RETURNING, COVERED] {
            history.fold(member(true, user, "steady"));
        }
        (0..turns).for_each(|turn| history.turn(turn));
        history
    }

    /// Folds a turn: with an odd number those users come, and else they go.
    fn turn(&mut self, turn: u64) {
        let comes = !turn.is_multiple_of(2);
        self.fold(Fact::Group(Change::Set, group("renamed", &format!("Team {}", turn % 50))));
        self.fold(Fact::User(Change::Set, user(RETURNING, comes)));
        self.fold(member(comes, RETURNING, "left"));
        self.fold(Fact::User(Change::Set, user(JOINER, true)));
        self.fold(member(comes, JOINER, "joined"));
        self.fold(member(comes, COVERED, "same"));
    }

    /// Folds what comes before a history with a mapping: a directory with a user and its groups.
    fn with(mapping: Mapping, groups: &[&str]) -> History {
        let mut history = History::default();
        history.fold(directory());
        history.fold(Fact::Mapping { mapping, effective_from: 0 });
        for id in groups {
            history.fold(Fact::Group(Change::Set, group(id, id)));
        }
        history.fold(Fact::User(Change::Set, user(JOINER, true)));
        history
    }

    /// Folds that the joiner joins and leaves a group some times.
    fn join_and_leave(&mut self, group: &str, times: u64) {
        for _ in 0..times {
            self.fold(member(true, JOINER, group));
            self.fold(member(false, JOINER, group));
        }
    }

    /// Folds an event that happens after all others.
    fn fold(&mut self, fact: Fact<'_>) {
        let seq = self.views.head() + 1;
        let entry = Entry {
            unusable_at_first: None,
            seq,
            recorded_at: 1000 * seq as Millis,
            occurred_at: 1000 * seq as Millis,
            claimed_at: None,
            updated_at: None,
            observed_at: None,
            event_id: &format!("event_{seq:08}"),
            event_type: "",
            status: RecordStatus::Counts,
            former_directories: &[],
            former_organizations: &[],
            provenance: Provenance::Source,
            fact,
        };
        self.touched.push(TouchedUsers::by(&entry));
        self.views.apply(&entry);
    }

    fn seen(&self) -> Seen<'_> {
        self.views.seen_by(&Sight::All)
    }

    /// Returns the last record of a turn, about in the middle, at which those users came.
    fn middle(&self) -> Seq {
        let turns = self.views.head() / RECORDS_A_TURN;
        self.views.head() - RECORDS_A_TURN * (turns / 4 * 2)
    }

    /// Returns the records of the last two turns up to a record.
    fn two_turns(&self, last: Seq) -> &[TouchedUsers] {
        let first = (last - 2 * RECORDS_A_TURN) as usize;
        &self.touched[first..last as usize]
    }
}

fn directory() -> Fact<'static> {
    let change = DirectoryChange::Activated;
    Fact::Directory { change, id: "d", organization: Some("o"), name: "", domain: None }
}

/// Returns a mapping by which one group gives no role, whatever its name.
fn mapping() -> Fact<'static> {
    let rules = [("steady", "editor"), ("same", "editor"), ("joined", "guest"), ("left", "guest")];
    Fact::Mapping { mapping: mapping_of(&rules, "member"), effective_from: 0 }
}

/// Returns a mapping by which groups of some names give roles, with a default role.
fn mapping_of(rules: &[(&str, &str)], default_role: &str) -> Mapping {
    let rule = |(group, role): &(&str, &str)| {
        let group = GroupPattern::Name(NameText::new(group, group));
        let matches = Matches::Group { group, roles: vec![(*role).to_owned()] };
        Arc::new(Rule { matches, directory: None, organization: None })
    };
    let rules = rules.iter().map(rule).collect();
    Mapping { rules, default_roles: [default_role.to_owned()].into(), ..Mapping::default() }
}

fn user(id: &str, active: bool) -> UserData<'_> {
    let directory = Some("d");
    UserData { id, directory, organization: None, active, roles: "", email: None, idp_id: None }
}

fn group<'a>(id: &'a str, name: &'a str) -> GroupData<'a> {
    GroupData { id, name, compared_name: None, directory: Some("d"), organization: None }
}

fn member<'a>(added: bool, of: &'a str, id: &'a str) -> Fact<'a> {
    // What the event says of the two is no news: both are known by events of their own.
    let (user, group) = (user(of, true), group(id, id));
    Fact::Membership(MembershipData { added, directory: "d", organization: None, user, group })
}

/// Checks that a question, which returns the size of its answer, costs about as much in both
/// histories, and has an answer of that size.
fn check(name: &str, size: usize, histories: &[History; 2], ask: impl Fn(&History) -> usize) {
    check_within(name, size, histories, 1, ask);
}

/// Does the same for one that may cost some times as much.
fn check_within(
    name: &str,
    size: usize,
    histories: &[History; 2],
    times: usize,
    ask: impl Fn(&History) -> usize,
) {
    let [short, long] = histories.each_ref().map(|history| {
        let (found, looks) = looks::during(|| ask(history));
        assert_eq!(found, size, "{name}");
        looks
    });
    assert!(long <= times * short + LOOKS_MORE, "{name}: {short} looks, then {long}");
}

fn histories() -> [History; 2] {
    [TURNS, MANY_TURNS].map(History::of)
}

/// Returns the first page of one period from either end.
fn pages() -> [PeriodsWindow<'static>; 2] {
    [false, true].map(|descending| PeriodsWindow { descending, limit: 1, ..PeriodsWindow::ALL })
}

#[test]
fn the_first_page_of_a_user_with_a_steady_group_costs_the_same_however_long_its_history_is() {
    let histories = histories();
    let latest = Cut::LATEST;
    for user in [JOINER, RETURNING, COVERED] {
        for page in pages() {
            let name = |call: &str| format!("{call} of {user}, back: {}", page.descending);
            check(&name("access"), 1, &histories, |history| {
                history.seen().access_periods_in(user, latest, page).unwrap().len()
            });
            check(&name("groups"), 1, &histories, |history| {
                history.seen().membership_periods_in(user, latest, page).unwrap().len()
            });
            // A walk back from the newest role goes through all that gives the same one.
            if !(user == COVERED && page.descending) {
                check(&name("roles"), 1, &histories, |history| {
                    history.seen().role_periods_in(user, latest, page).unwrap().len()
                });
            }
        }
    }
}

#[test]
fn role_assignments_cost_the_same_however_often_the_user_joined_another_group() {
    let histories = histories();
    // Two of them have the roles of two groups while they are in both.
    for (user, roles) in [(JOINER, 2), (RETURNING, 2), (COVERED, 1)] {
        let filter = AssignmentFilter { user: Some(user), ..AssignmentFilter::default() };
        let found = |history: &History, as_of: Millis| {
            let cut = Cut { as_of, ..Cut::LATEST };
            history.seen().assignments(&filter, cut, None, false, 100).0.len()
        };
        check(user, roles, &histories, |history| found(history, Millis::MAX));
        check(&format!("{user}, past"), roles, &histories, |history| {
            found(history, 1000 * history.middle() as Millis)
        });
    }
}

/// Returns the number of changes by the records of two turns that may change something.
fn changes_up_to(history: &History, last: Seq) -> usize {
    let turning: Vec<Seq> =
        history.views.turning_between(last - 2 * RECORDS_A_TURN, last).collect();
    let touched = history.two_turns(last).iter().filter(|record| turning.contains(&record.seq));
    let changes = |record| history.seen().access_changes(record, None, usize::MAX).found.len();
    touched.map(changes).sum()
}

#[test]
fn the_changes_by_some_records_cost_the_same_however_many_there_were_before() {
    let histories = histories();
    // When they go, the returning user loses access and two roles, and the joiner a role. When they
    // come, the former has access and a role, then the other one, and the joiner's is back.
    let size = 4 + 4;
    check("changes at the end", size, &histories, |history| {
        changes_up_to(history, history.views.head())
    });
    // Each look-up in the past goes through a part of one block.
    check_within("changes in the middle", size, &histories, 3, |history| {
        changes_up_to(history, history.middle())
    });
}

#[test]
fn the_differences_by_the_last_records_cost_the_same_however_many_there_were_before() {
    // A group has another name, and two users are described anew. Who left is back.
    check("differences", 3, &histories(), |history| {
        let head = history.views.head();
        let before = Cut { known_at: head - 2 * RECORDS_A_TURN, ..Cut::LATEST };
        let (seen, cuts) = (history.seen(), [before, Cut::LATEST]);
        let among = seen.diff_candidates(cuts, history.two_turns(head));
        seen.differences(None, Some(&among.unwrap()), cuts, None, 100).0.len()
    });
}

#[test]
fn a_turn_is_folded_at_the_same_cost_however_many_there_were_before() {
    let [short, long] = [TURNS, MANY_TURNS].map(|turns| {
        let mut history = History::of(turns);
        looks::during(|| history.turn(turns)).1
    });
    assert!(long <= short + LOOKS_MORE, "{short} looks, then {long}");
}

#[test]
fn a_new_pattern_costs_the_same_however_often_a_group_was_renamed() {
    for is_prepared in [false, true] {
        let [short, long] = [TURNS, MANY_TURNS].map(|turns| {
            let mut history = History::with(mapping_of(&[], "member"), &[]);
            for turn in 0..turns {
                let name = if turn.is_multiple_of(2) { "former" } else { "present" };
                history.fold(Fact::Group(Change::Set, group("renamed", name)));
            }
            let mut looks = 0;
            for (name, gives) in [("other", false), ("former", true)] {
                let mapping = mapping_of(&[(name, "editor")], "member");
                if is_prepared {
                    let mut matches = NameMatches::default();
                    matches.add(&mapping, history.views.roles.group_names(0));
                    history.views.roles.expect(mapping.clone(), matches);
                }
                let fact = Fact::Mapping { mapping, effective_from: 0 };
                looks += looks::during(|| history.fold(fact)).1;
                let newest = history.views.roles.iter().next_back().unwrap();
                let renamed = history.views.groups.find("renamed").unwrap();
                assert_eq!(history.views.gives_roles(renamed, &[newest]), gives, "{name}");
            }
            looks
        });
        assert!(long <= short + LOOKS_MORE, "{short} looks, then {long}");
    }
}

/// Returns how many roles the joiner has now.
fn roles_of_joiner(history: &History) -> usize {
    let filter = AssignmentFilter { user: Some(JOINER), ..AssignmentFilter::default() };
    history.seen().assignments(&filter, Cut::LATEST, None, false, 100).0.len()
}

/// Returns the length of a page of times in which the joiner had a role.
fn periods_of_joiner(history: &History, page: PeriodsWindow<'_>) -> usize {
    history.seen().role_periods_in(JOINER, Cut::LATEST, page).unwrap().len()
}

#[test]
fn a_role_held_by_default_and_by_a_group_in_turn_costs_no_more_than_one_walk() {
    let [on, back] = pages();
    for mode in [Mode::All, Mode::HighestPriority] {
        let [short, long] = [TURNS, MANY_TURNS].map(|turns| {
            let mapping = Mapping { mode, ..mapping_of(&[("joined", "editor")], "editor") };
            let mut history = History::with(mapping, &["joined"]);
            history.join_and_leave("joined", turns);
            // It has the one role all the time: this is a walk over every moment.
            let (found, walk) = looks::during(|| periods_of_joiner(&history, back));
            assert_eq!(found, 1);
            let asked = [
                looks::during(|| roles_of_joiner(&history)),
                looks::during(|| periods_of_joiner(&history, on)),
            ];
            for (found, looks) in asked {
                assert_eq!(found, 1);
                assert!(looks <= walk + LOOKS_MORE, "{mode:?}: {looks} looks, {walk} of a walk");
            }
            walk
        });
        let times = (MANY_TURNS / TURNS) as usize;
        assert!(long <= times * short + LOOKS_MORE, "{mode:?}: {short} looks, then {long}");
    }
}

#[test]
fn a_role_held_by_default_once_costs_the_same_however_often_the_user_joined_another_group() {
    let histories = [TURNS, MANY_TURNS].map(|turns| {
        let rules = [("steady", "editor"), ("joined", "guest")];
        let mut history = History::with(mapping_of(&rules, "editor"), &["steady", "joined"]);
        history.fold(member(true, JOINER, "steady"));
        history.join_and_leave("joined", turns);
        history.fold(member(false, JOINER, "steady"));
        history.fold(member(true, JOINER, "steady"));
        history.join_and_leave("joined", turns);
        history
    });
    let [on, _] = pages();
    check("assignments", 1, &histories, roles_of_joiner);
    check("roles", 1, &histories, |history| periods_of_joiner(history, on));
}
