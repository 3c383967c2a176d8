//! What a reconciliation finds and holds, compared with a naive judgement: random changes of a
//! random source, of which a dry run must tell exactly what the rules say.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use super::reconciling::{MINUTE_MS, imported};
use crate::kit::scale::scale;
use crate::kit::server::{Server, now_ms};
use crate::kit::source::objects::{directory, group, user};
use crate::kit::source::reconciling::{assert_in_step, differences, reconcile};
use crate::kit::source::stand_in::{Contents, SOURCE_KEY, StandIn};

/// Seeds in a run at scale 1, each with some rounds.
const SEEDS: u64 = 3;
const ROUNDS: usize = 4;

#[derive(Clone, Debug, PartialEq)]
struct User {
    directory: String,
    active: bool,
    email: String,
}

#[derive(Clone, Debug, PartialEq)]
struct Group {
    directory: String,
    name: String,
}

/// All that a source has.
#[derive(Clone, Debug, Default)]
struct World {
    /// Each with true if it is active.
    directories: BTreeMap<String, bool>,
    users: BTreeMap<String, User>,
    groups: BTreeMap<String, Group>,
    members: BTreeSet<(String, String)>,
    /// The things that ever were: no id comes twice.
    count: usize,
}

// --- A random source ---

impl World {
    fn next_id(&mut self, kind: &str) -> String {
        self.count += 1;
        format!("{kind}_{:05}", self.count)
    }

    fn add_directory(&mut self, rng: &mut StdRng) {
        let id = self.next_id("directory");
        self.directories.insert(id.clone(), rng.random_ratio(9, 10));
        for _ in 0..rng.random_range(0..25) {
            self.add_user(rng, &id);
        }
        for _ in 0..rng.random_range(0..5) {
            let group = self.next_id("directory_group");
            self.groups.insert(group, Group { directory: id.clone(), name: "Crew".into() });
        }
    }

    fn add_user(&mut self, rng: &mut StdRng, directory: &str) {
        let id = self.next_id("directory_user");
        let (directory, active) = (directory.to_owned(), rng.random_ratio(9, 10));
        let email = format!("{id}@foo.example");
        self.users.insert(id, User { directory, active, email });
    }

    /// Adds memberships, also of users of other directories.
    fn join(&mut self, rng: &mut StdRng, times: usize) {
        for _ in 0..times {
            let (Some(group), Some(user)) =
                (self.groups.keys().choose(rng), self.users.keys().choose(rng))
            else {
                return;
            };
            self.members.insert((group.clone(), user.clone()));
        }
    }

    /// Changes this and that; in some directories much ends.
    fn change(&mut self, rng: &mut StdRng) {
        let directories: Vec<String> = self.directories.keys().cloned().collect();
        for id in &directories {
            match rng.random_range(0..20) {
                0 => drop(self.directories.remove(id)),
                1 | 2 => *self.directories.get_mut(id).unwrap() ^= true,
                _ => {}
            }
            let share = *[0, 0, 5, 20, 70, 100].iter().choose(rng).unwrap();
            let kind = rng.random_range(0..4);
            self.change_in(rng, id, share, kind);
        }
        if rng.random_bool(0.5) {
            self.add_directory(rng);
        }
        self.drop_what_is_in_nothing();
        self.join(rng, 10);
    }

    /// Changes a share of a directory, in percent: of its users, groups or memberships.
    fn change_in(&mut self, rng: &mut StdRng, id: &str, share: u32, kind: u32) {
        let targets: Vec<String> = self.directories.keys().cloned().collect();
        let users: Vec<String> = self.users.keys().cloned().collect();
        for user in users {
            let is_in_it = self.users[&user].directory == id;
            if !is_in_it || kind > 2 || !rng.random_ratio(share, 100) {
                continue;
            }
            let found = self.users.get_mut(&user).unwrap();
            match (kind, rng.random_range(0..4)) {
                (0, _) | (2, 0) => drop(self.users.remove(&user)),
                (1, _) | (2, 1) => found.active ^= true,
                (_, 2) => found.email = format!("{}@new.example", self.count),
                _ => {
                    let to = targets.iter().choose(rng);
                    found.directory = to.cloned().unwrap_or_else(|| id.to_owned());
                }
            }
        }
        let groups: Vec<String> = self.groups.keys().cloned().collect();
        for group in groups {
            if self.groups[&group].directory != id {
                continue;
            }
            if rng.random_ratio(share.min(40), 100) {
                self.groups.get_mut(&group).unwrap().name = format!("Crew {share}");
            }
            if kind == 3 && rng.random_ratio(share, 300) {
                self.groups.remove(&group);
            }
        }
        let groups = self.groups.clone();
        self.members.retain(|(group, _)| {
            groups.get(group).is_none_or(|group| group.directory != id)
                || kind != 3
                || !rng.random_ratio(share, 100)
        });
    }

    fn drop_what_is_in_nothing(&mut self) {
        let World { directories, users, groups, members, .. } = self;
        users.retain(|_, user| directories.contains_key(&user.directory));
        groups.retain(|_, group| directories.contains_key(&group.directory));
        members.retain(|(group, user)| groups.contains_key(group) && users.contains_key(user));
    }

    fn write(&self, contents: &mut Contents, at: i64) {
        contents.directories.clear();
        contents.users.clear();
        contents.groups.clear();
        for (id, active) in &self.directories {
            let mut object = directory(id, "Halden", at);
            object["state"] = if *active { "linked" } else { "unlinked" }.into();
            contents.put_directory(object);
        }
        for (id, found) in &self.users {
            let mut object = user(id, &found.directory, "Ada", at);
            object["state"] = if found.active { "active" } else { "inactive" }.into();
            object["email"] = found.email.as_str().into();
            contents.put_user(object);
        }
        for (id, found) in &self.groups {
            contents.put_group(group(id, &found.directory, &found.name, at));
        }
        contents.members = self.members.clone();
    }
}

// --- The naive judgement ---

/// How many there are, and how many of them end.
type Share = (usize, usize);

/// What the rules say of a source, and of a log that is as the source was before.
struct Judgement<'a> {
    ours: &'a World,
    theirs: &'a World,
    /// The directories in which nothing ends.
    guarded: BTreeSet<&'a str>,
    /// The active users and the directories that end.
    ended: (usize, usize),
}

/// More than ten, and more than ten in a hundred; `free` instead of ten for directories.
fn is_too_much((there, ending): Share, free: usize) -> bool {
    10 * ending > usize::max(10 * free, there)
}

fn is_all((there, ending): Share) -> bool {
    ending >= 3 && ending == there
}

fn share(ends: impl Iterator<Item = bool>) -> Share {
    ends.fold((0, 0), |(there, ending), ends| (there + 1, ending + usize::from(ends)))
}

impl<'a> Judgement<'a> {
    /// Judges with what ended in earlier runs: active users and directories.
    fn new(ours: &'a World, theirs: &'a World, earlier: (usize, usize)) -> Judgement<'a> {
        let guarded = BTreeSet::new();
        let mut judgement = Judgement { ours, theirs, guarded, ended: (0, 0) };
        let directories = share(ours.directories.keys().map(|id| judgement.directory_ends(id)));
        let shares: Vec<(&'a String, [Share; 3])> =
            ours.directories.keys().map(|id| (id, judgement.shares(id))).collect();
        let users =
            shares.iter().fold((0, 0), |sum, (_, [users, ..])| (sum.0 + users.0, sum.1 + users.1));
        judgement.ended = (users.1, directories.1);
        let with = |(there, ending): Share, before| (there + before, ending + before);
        let all = (users.1 > 0 && is_too_much(with(users, earlier.0), 10))
            || (directories.1 > 0 && is_too_much(with(directories, earlier.1), 2));
        let is_held = |shares: &[Share; 3]| {
            shares.iter().any(|share| is_too_much(*share, 10) || is_all(*share))
        };
        let held = shares.into_iter().filter(|(_, shares)| all || is_held(shares));
        judgement.guarded = held.map(|(id, _)| id.as_str()).collect();
        judgement
    }

    fn is_gone(&self, directory: &str) -> bool {
        !self.theirs.directories.contains_key(directory)
    }

    fn directory_ends(&self, directory: &str) -> bool {
        let theirs = self.theirs.directories.get(directory);
        theirs.is_none_or(|active| self.ours.directories[directory] && !active)
    }

    /// Tells if an active user ends: gone, inactive, in a directory that ends, or moved to one that
    /// is not active.
    fn user_ends(&self, id: &str) -> bool {
        let our = &self.ours.users[id];
        self.theirs.users.get(id).is_none_or(|their| {
            let stays = their.directory == our.directory;
            !their.active
                || (stays && self.directory_ends(&our.directory))
                || (!stays && !self.theirs.directories[&their.directory])
        })
    }

    /// The users, groups and memberships of a directory.
    fn shares(&self, id: &str) -> [Share; 3] {
        let World { users, groups, members, .. } = self.ours;
        let of = |group: &String| groups[group].directory == id;
        let users = users.iter().filter(|(_, user)| user.directory == id && user.active);
        let in_it = groups.keys().filter(|group| of(group));
        let members = members.iter().filter(|(group, _)| of(group));
        [
            share(users.map(|(user, _)| self.user_ends(user))),
            share(in_it.map(|group| !self.theirs.groups.contains_key(group))),
            share(members.map(|pair| !self.theirs.members.contains(pair))),
        ]
    }

    fn outcome(&self, ends: bool, directory: &str) -> &'static str {
        if ends && self.guarded.contains(directory) { "guard" } else { "open" }
    }

    /// What a dry run tells, in any order.
    fn lines(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        self.directories(&mut lines);
        self.groups(&mut lines);
        self.users(&mut lines);
        self.members(&mut lines);
        lines
    }

    fn directories(&self, lines: &mut BTreeSet<String>) {
        for (id, active) in &self.ours.directories {
            let outcome = self.outcome(self.directory_ends(id), id);
            match self.theirs.directories.get(id) {
                None => drop(lines.insert(format!("directory missing_there {id} [] {outcome}"))),
                Some(their) if their != active => {
                    lines.insert(format!("directory differs {id} [state] {outcome}"));
                }
                Some(_) => {}
            }
        }
        let new = self.theirs.directories.keys();
        let new = new.filter(|id| !self.ours.directories.contains_key(*id));
        lines.extend(new.map(|id| format!("directory missing_here {id} [] open")));
    }

    fn groups(&self, lines: &mut BTreeSet<String>) {
        for (id, our) in &self.ours.groups {
            match self.theirs.groups.get(id) {
                None if !self.is_gone(&our.directory) => {
                    let outcome = self.outcome(true, &our.directory);
                    lines.insert(format!("group missing_there {id} [] {outcome}"));
                }
                Some(their) if their != our => {
                    lines.insert(format!("group differs {id} [name] open"));
                }
                _ => {}
            }
        }
        let new = self.theirs.groups.keys().filter(|id| !self.ours.groups.contains_key(*id));
        lines.extend(new.map(|id| format!("group missing_here {id} [] open")));
    }

    fn users(&self, lines: &mut BTreeSet<String>) {
        for (id, our) in &self.ours.users {
            match self.theirs.users.get(id) {
                None if !self.is_gone(&our.directory) => {
                    let outcome = self.outcome(true, &our.directory);
                    lines.insert(format!("user missing_there {id} [] {outcome}"));
                }
                Some(their) if their != our => {
                    let fields = [
                        (their.directory != our.directory).then_some("directory_id"),
                        (their.email != our.email).then_some("email"),
                        (their.active != our.active).then_some("state"),
                    ];
                    let fields = fields.into_iter().flatten().collect::<Vec<_>>().join(" ");
                    // What ends with its directory is not said of the user.
                    let moves = their.directory != our.directory;
                    let to_active = self.theirs.directories[&their.directory];
                    let ends = our.active && (!their.active || (moves && !to_active));
                    let outcome = self.outcome(ends, &our.directory);
                    lines.insert(format!("user differs {id} [{fields}] {outcome}"));
                }
                _ => {}
            }
        }
        let new = self.theirs.users.keys().filter(|id| !self.ours.users.contains_key(*id));
        lines.extend(new.map(|id| format!("user missing_here {id} [] open")));
    }

    fn members(&self, lines: &mut BTreeSet<String>) {
        for pair in self.ours.members.difference(&self.theirs.members) {
            let (group, user) = pair;
            let home = &self.ours.groups[group].directory;
            // A user who goes takes its memberships along, unless that is held.
            let of = &self.ours.users[user].directory;
            let goes = !self.theirs.users.contains_key(user) && !self.guarded.contains(of.as_str());
            if self.theirs.groups.contains_key(group) && !goes {
                let outcome = self.outcome(true, home);
                lines.insert(format!("membership missing_there {group}+{user} [] {outcome}"));
            }
        }
        for (group, user) in self.theirs.members.difference(&self.ours.members) {
            lines.insert(format!("membership missing_here {group}+{user} [] open"));
        }
    }
}

fn run(seed: u64) -> usize {
    let mut rng = StdRng::seed_from_u64(seed);
    let (source, data) = (StandIn::start(), tempfile::tempdir().unwrap());
    let at = now_ms() - 30 * MINUTE_MS;
    let mut theirs = World::default();
    for _ in 0..4 {
        theirs.add_directory(&mut rng);
    }
    theirs.join(&mut rng, 60);
    theirs.write(&mut source.contents(), at);
    let server = imported(data.path(), &source.url);
    let (mut earlier, mut guarded) = ((0, 0), 0);
    for round in 0..ROUNDS {
        let ours = theirs.clone();
        theirs.change(&mut rng);
        theirs.write(&mut source.contents(), at);
        let judgement = Judgement::new(&ours, &theirs, earlier);
        let dry = reconcile(&server, &json!({ "dry_run": true }));
        let told: BTreeSet<String> = all_lines(&server, &dry);
        let expected = judgement.lines();
        let (more, less): (Vec<_>, Vec<_>) =
            (told.difference(&expected).collect(), expected.difference(&told).collect());
        assert!(
            more.is_empty() && less.is_empty(),
            "seed {seed}, round {round}: told {more:#?}, expected {less:#?}"
        );
        guarded += judgement.guarded.len();
        let off = json!({ "guard": "off" });
        reconcile(&server, &off);
        // An end of a directory may take what is there again.
        reconcile(&server, &off);
        assert_in_step(&server, &source.url, SOURCE_KEY);
        earlier = (earlier.0 + judgement.ended.0, earlier.1 + judgement.ended.1);
    }
    guarded
}

fn all_lines(server: &Server, run: &serde_json::Value) -> BTreeSet<String> {
    let path = format!("/rollcall/v1/reconciliations/{}", run["id"].as_str().unwrap());
    let mut lines: BTreeSet<String> = differences(run).into_iter().collect();
    let mut after = run["differences"]["list_metadata"]["after"].clone();
    while let Some(cursor) = after.as_str() {
        let page = server.get(&format!("{path}?after={cursor}")).json();
        lines.extend(differences(&page));
        after = page["differences"]["list_metadata"]["after"].clone();
    }
    lines
}

#[test]
fn a_comparison_tells_and_holds_what_a_naive_judgement_does() {
    let seeds = 1..=SEEDS * scale();
    let guarded: usize = seeds.clone().map(run).sum();
    println!("guarded directories: {guarded}");
    assert!(guarded as u64 >= seeds.end() * 2, "{guarded}");
}
