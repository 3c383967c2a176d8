//! A source with a past: things came, changed and went, some of it before the events that are still
//! listed, and some events were lost.

use serde_json::Value;

use super::objects::{directory, event, group, membership, user};
use super::stand_in::{Contents, StandIn};
use crate::kit::server::now_ms;

const DAY_MS: i64 = 86_400_000;

/// The days ago on which each third of the past began. Events are listed for 90 days.
const BEGAN_DAYS_AGO: [i64; 3] = [120, 60, 10];

/// What is there at the end.
#[derive(Clone, Copy)]
pub struct Ending {
    pub directories: usize,
    pub users: usize,
    pub memberships: usize,
    /// Of a hundred events, those that never arrive.
    pub lost: usize,
}

/// The past as it is written.
struct Past<'a> {
    contents: &'a mut Contents,
    lost: usize,
    random: u64,
    at_ms: i64,
    count: u64,
    /// The ids of all users that ever were, each with its directory.
    users: Vec<(String, usize)>,
}

/// The groups of a directory.
const GROUPS: usize = 10;

/// Gives a stand-in a past, of which a third is older than 90 days.
pub fn write(source: &StandIn, ending: Ending, seed: u64) {
    let mut contents = source.contents();
    let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let (contents, lost) = (&mut *contents, ending.lost);
    let mut past = Past { contents, lost, random, at_ms: 0, count: 0, users: Vec::new() };
    for (third, days) in BEGAN_DAYS_AGO.into_iter().enumerate() {
        past.at_ms = now_ms() - days * DAY_MS;
        if third == 0 {
            (0..ending.directories).for_each(|number| past.connect(number));
        }
        past.hire(ending.users * (third + 1) / 3, ending.directories);
        past.join(ending.memberships * (third + 1) / 3);
    }
}

impl Past<'_> {
    fn next(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        ((self.random >> 11) % below as u64) as usize
    }

    /// Something happens at the source. Its event may be lost.
    fn happen(&mut self, kind: &str, data: &Value) {
        self.count += 1;
        self.at_ms += 10;
        let text = event(&format!("event_{:08}", self.count), kind, self.at_ms, data);
        if self.next(100) < self.lost {
            self.contents.apply(&text);
        } else {
            self.contents.happen(&text);
        }
    }

    fn connect(&mut self, number: usize) {
        let id = format!("directory_{number:02}");
        self.happen("dsync.activated", &directory(&id, "Halden", self.at_ms));
        for crew in 0..GROUPS {
            let crew = group(&group_id(number, crew), &id, &format!("Crew {crew}"), self.at_ms);
            self.happen("dsync.group.created", &crew);
        }
    }

    /// Users come until there are this many. Meanwhile some change, and some go.
    fn hire(&mut self, until: usize, directories: usize) {
        while self.contents.users.len() < until {
            let number = self.next(directories);
            let id = format!("directory_user_{:06}", self.users.len());
            let new = user(&id, &format!("directory_{number:02}"), "Ada", self.at_ms);
            self.happen("dsync.user.created", &new);
            self.users.push((id, number));
            match self.next(40) {
                0 => self.change("dsync.user.deleted", "state", "inactive"),
                1 => self.change("dsync.user.updated", "state", "inactive"),
                2 | 3 => self.change("dsync.user.updated", "email", "new@foo.example"),
                4 => self.rename(number),
                _ => {}
            }
        }
    }

    /// One of the users changes or goes.
    fn change(&mut self, kind: &str, field: &str, value: &str) {
        let (id, _) = self.any_user();
        let Some(mut user) = self.contents.users.get(&id).cloned() else { return };
        user[field] = value.into();
        user["updated_at"] = super::objects::moment(self.at_ms).into();
        self.happen(kind, &user);
    }

    fn any_user(&mut self) -> (String, usize) {
        let at = self.next(self.users.len());
        self.users[at].clone()
    }

    fn rename(&mut self, directory: usize) {
        let id = group_id(directory, self.next(GROUPS));
        let mut crew = self.contents.groups[&id].clone();
        crew["name"] = format!("Crew of {}", self.at_ms).into();
        crew["updated_at"] = super::objects::moment(self.at_ms).into();
        self.happen("dsync.group.updated", &crew);
    }

    /// Users join groups of their directories until there are this many memberships. Meanwhile
    /// some leave.
    fn join(&mut self, until: usize) {
        while self.contents.members.len() < until {
            let (id, directory) = self.any_user();
            let pair = (group_id(directory, self.next(GROUPS)), id);
            let leaves = self.contents.members.contains(&pair);
            let kind = if leaves { "dsync.group.user_removed" } else { "dsync.group.user_added" };
            // Of those who are members already, few leave.
            if leaves && self.next(10) > 0 {
                continue;
            }
            let Some(user) = self.contents.users.get(&pair.1) else { continue };
            let data = membership(&self.contents.groups[&pair.0], user);
            self.happen(kind, &data);
        }
    }
}

fn group_id(directory: usize, crew: usize) -> String {
    format!("directory_group_{directory:02}_{crew}")
}
