//! One company: its people, its groups, and their history, which is generated event by event in
//! order of `created_at`.

mod life;

use std::collections::{HashMap, VecDeque};

use rollcall_projections::{EventType, Millis};
use serde_json::{Map, Value};

use self::life::Happening;
use super::dice::Dice;
use super::words::{self, DepartmentWords};
use crate::timestamp;
use crate::webhook::{self, Directory, Domain, Email, Empty, Group, Membership, User};

pub(super) const DAY_MS: Millis = 86_400_000;
/// The time from a change to its event.
const LAG_MS: Millis = 40;
/// The group of all people.
const EVERYONE: Slot = 0;

/// A group, by its index among the company's groups.
type Slot = u32;

/// The settings of a company.
pub(super) struct CompanyPlan {
    /// The number of people in the initial sync.
    pub(super) people: u64,
    /// The number of days after it.
    pub(super) days: u64,
    pub(super) start: Millis,
    pub(super) name: String,
    /// True if leavers are deleted, and return with a new id; false if they become inactive.
    pub(super) secure: bool,
}

#[derive(Clone)]
struct Department {
    words: &'static DepartmentWords,
    group: Slot,
    teams: Vec<Slot>,
}

#[derive(Clone)]
struct Employee {
    number: u64,
    idp: u64,
    first: &'static str,
    last: &'static str,
    /// The number of people who had the same name before.
    namesakes: u32,
    department: usize,
    title: &'static str,
    team: Slot,
    office: usize,
    contractor: bool,
    desk: Option<u64>,
    employment: Employment,
    groups: Vec<Slot>,
    employed_at: Millis,
    entropy: u128,
    created_at: Millis,
    updated_at: Millis,
}

#[derive(Clone, Copy, PartialEq)]
enum Employment {
    Active,
    Inactive,
    Gone,
}

/// A group without its members.
struct Profile {
    name: String,
    idp: u64,
    entropy: u128,
    created_at: Millis,
    updated_at: Millis,
}

/// A temporary group, with those who joined at its start.
struct Project {
    group: Slot,
    members: Vec<usize>,
}

/// The next step of a history.
enum Phase {
    Connecting,
    Users(u64),
    Groups(Slot),
    Memberships(usize),
    /// The number of days of life that are planned.
    Life(u64),
}

pub(super) struct Company {
    plan: CompanyPlan,
    dice: Dice,
    directory_id: String,
    organization_id: String,
    domain: String,
    departments: Vec<Department>,
    offices: Vec<Slot>,
    /// Groups that cut across departments.
    circles: Vec<Slot>,
    projects: Vec<Project>,
    projects_made: usize,
    groups: Vec<Profile>,
    people: Vec<Employee>,
    /// The number of them who are active.
    here: u64,
    /// The number of people who ever had a name.
    namesakes: HashMap<(&'static str, &'static str), u32>,
    /// People who return, each with the first day on which they may.
    away: Vec<(u64, usize)>,
    clock: Millis,
    phase: Phase,
    life_start: Millis,
    /// The rest of today's happenings.
    agenda: VecDeque<(Millis, Happening)>,
    /// Events that are generated but not yet yielded.
    ready: VecDeque<(Millis, String)>,
}

impl Iterator for Company {
    type Item = (Millis, String);

    /// Returns the time and the body of the next event. Times never decrease, and only the
    /// memberships of a storm may have equal times.
    fn next(&mut self) -> Option<(Millis, String)> {
        while self.ready.is_empty() && self.proceed() {}
        self.ready.pop_front()
    }
}

impl Company {
    pub(super) fn new(plan: CompanyPlan, mut dice: Dice) -> Company {
        let founded = plan.start - 30 * DAY_MS;
        let domain: String = plan.name.to_lowercase().replace(' ', "-") + ".example";
        let mut company = Company {
            directory_id: webhook::id("directory", plan.start - LAG_MS, dice.entropy()),
            organization_id: webhook::id("org", founded, dice.entropy()),
            domain,
            departments: Vec::new(),
            offices: Vec::new(),
            circles: Vec::new(),
            projects: Vec::new(),
            projects_made: 0,
            groups: Vec::new(),
            people: Vec::new(),
            here: 0,
            namesakes: HashMap::new(),
            away: Vec::new(),
            clock: plan.start,
            phase: Phase::Connecting,
            life_start: plan.start,
            agenda: VecDeque::new(),
            ready: VecDeque::new(),
            plan,
            dice,
        };
        company.set_up();
        company
    }

    /// Founds the groups of the first day. Small companies have few.
    fn set_up(&mut self) {
        let people = self.plan.people as usize;
        self.found("Everyone".into());
        for words in words::DEPARTMENTS.iter().take((people / 8).clamp(1, words::DEPARTMENTS.len()))
        {
            let group = self.found(words.name.into());
            let teams = (people * words.weight as usize / 100 / 8).clamp(2, words::TEAMS.len());
            let first = self.dice.index(words::TEAMS.len());
            let birds = words::TEAMS.iter().cycle().skip(first).take(teams);
            let teams = birds.map(|bird| self.found(format!("{} {bird}", words.name))).collect();
            self.departments.push(Department { words, group, teams });
        }
        let offices = words::OFFICES.iter().take((people / 40).clamp(1, words::OFFICES.len()));
        self.offices = offices.map(|office| self.found(format!("{office} Office"))).collect();
        let circles = words::CIRCLES.iter().take((people / 30).clamp(2, words::CIRCLES.len()));
        self.circles = circles.map(|circle| self.found((*circle).into())).collect();
    }

    /// Adds a group without an event.
    fn found(&mut self, name: String) -> Slot {
        let (idp, entropy) = (self.dice.bits(), self.dice.entropy());
        self.groups.push(Profile { name, idp, entropy, created_at: 0, updated_at: 0 });
        self.groups.len() as Slot - 1
    }

    /// Generates the next step; false when the history is over.
    fn proceed(&mut self) -> bool {
        match self.phase {
            Phase::Connecting => {
                self.connect();
                self.phase = Phase::Users(0);
            }
            Phase::Users(count) if count < self.plan.people => {
                self.tick(7);
                let long_ago = self.dice.below(3000) as Millis;
                self.hire(long_ago);
                self.phase = Phase::Users(count + 1);
            }
            Phase::Users(_) => self.phase = Phase::Groups(0),
            Phase::Groups(slot) if (slot as usize) < self.groups.len() => {
                self.tick(7);
                self.announce(slot);
                self.phase = Phase::Groups(slot + 1);
            }
            Phase::Groups(_) => self.phase = Phase::Memberships(0),
            Phase::Memberships(who) if who < self.people.len() => {
                self.join_all(who, 7);
                self.phase = Phase::Memberships(who + 1);
            }
            Phase::Memberships(_) => {
                self.life_start = self.clock;
                self.phase = Phase::Life(0);
            }
            Phase::Life(day) => match self.agenda.pop_front() {
                Some((at, happening)) => self.happen(at, happening),
                None if day < self.plan.days => {
                    self.plan_day(day + 1);
                    self.phase = Phase::Life(day + 1);
                }
                None => return false,
            },
        }
        true
    }

    /// Advances the clock by 1 to `pause_ms`, and not at all for a pause of 0.
    fn tick(&mut self, pause_ms: u64) {
        self.clock += (self.dice.below(pause_ms) + u64::from(pause_ms > 0)) as Millis;
    }

    fn emit(&mut self, event: EventType, data: impl serde::Serialize) {
        let id = webhook::id("event", self.clock, self.dice.entropy());
        self.ready.push_back((self.clock, webhook::body(&id, event.name(), self.clock, data)));
    }

    fn connect(&mut self) {
        let (organization_id, at) = (self.organization_id.clone(), timestamp(self.clock - LAG_MS));
        let domain = Domain {
            object: "organization_domain",
            id: webhook::id("org_domain", self.plan.start - 30 * DAY_MS, self.dice.entropy()),
            organization_id: organization_id.clone(),
            domain: self.domain.clone(),
        };
        let directory = Directory {
            object: "directory",
            id: self.directory_id.clone(),
            organization_id,
            external_key: Some(format!("{:016x}", self.dice.bits())),
            kind: self.dice.pick(&words::DIRECTORY_TYPES).into(),
            state: "active".into(),
            name: self.plan.name.clone(),
            created_at: at.clone(),
            updated_at: at,
            domains: Some(vec![domain]),
        };
        self.emit(EventType::DirectoryActivated, directory);
    }

    /// Hires a person. Emits the user, but not yet the memberships.
    fn hire(&mut self, days_ago: Millis) -> usize {
        let at = self.clock - LAG_MS;
        let (first, last) =
            (self.dice.pick(&words::FIRST_NAMES), self.dice.pick(&words::LAST_NAMES));
        let department = self.some_department();
        let step = self.dice.index(5).saturating_sub(self.dice.index(4)).min(3);
        let (title, teams) = match self.departments.get(department) {
            Some(Department { words, teams, .. }) => {
                (words.titles.get(step).copied().unwrap_or_default(), teams.as_slice())
            }
            None => ("", [].as_slice()),
        };
        let mut person = Employee {
            number: self.people.len() as u64 + 1,
            idp: self.dice.bits(),
            first,
            last,
            namesakes: namesakes(&mut self.namesakes, first, last),
            department,
            title,
            team: self.dice.pick(teams),
            office: self.dice.index(self.offices.len()).min(self.dice.index(self.offices.len())),
            contractor: self.dice.chance(0.1),
            desk: self.dice.chance(0.5).then(|| 100 + self.dice.below(900)),
            employment: Employment::Active,
            groups: Vec::new(),
            employed_at: (at / DAY_MS - days_ago) * DAY_MS,
            entropy: self.dice.entropy(),
            created_at: at,
            updated_at: at,
        };
        person.groups = self.usual_groups(&person);
        if self.dice.chance(0.4) {
            person.groups.push(self.dice.pick(&self.circles));
        }
        self.emit(EventType::UserCreated, self.user(&person));
        self.here += 1;
        self.people.push(person);
        self.people.len() - 1
    }

    /// Picks a department, the larger ones more often.
    fn some_department(&mut self) -> usize {
        let total = self.departments.iter().map(|department| department.words.weight).sum();
        let mut left = self.dice.below(total);
        let falls_here = |department: &Department| {
            let here = left < department.words.weight;
            left = left.saturating_sub(department.words.weight);
            here
        };
        self.departments.iter().position(falls_here).unwrap_or_default()
    }

    fn usual_groups(&self, person: &Employee) -> Vec<Slot> {
        let department = self.departments.get(person.department).map(|department| department.group);
        let office = self.offices.get(person.office).copied();
        [Some(EVERYONE), department, Some(person.team), office].into_iter().flatten().collect()
    }

    fn announce(&mut self, slot: Slot) {
        let at = self.clock - LAG_MS;
        if let Some(profile) = self.groups.get_mut(slot as usize) {
            (profile.created_at, profile.updated_at) = (at, at);
        }
        self.emit(EventType::GroupCreated, self.group(slot));
    }

    /// Emits all memberships of a person.
    fn join_all(&mut self, who: usize, pause_ms: u64) {
        for slot in self.people.get(who).map(|person| person.groups.clone()).unwrap_or_default() {
            self.tick(pause_ms);
            self.emit_membership(EventType::MemberAdded, who, slot);
        }
    }

    fn emit_membership(&mut self, event: EventType, who: usize, slot: Slot) {
        let Some(person) = self.people.get(who) else { return };
        let membership = Membership {
            directory_id: self.directory_id.clone(),
            user: self.user(person),
            group: self.group(slot),
        };
        self.emit(event, membership);
    }

    fn user(&self, person: &Employee) -> User {
        let local =
            format!("{}.{}", words::in_address(person.first), words::in_address(person.last));
        let username =
            if person.namesakes > 0 { format!("{local}{}", person.namesakes + 1) } else { local };
        let email = format!("{username}@{}", self.domain);
        User {
            object: "directory_user",
            id: webhook::id("directory_user", person.created_at, person.entropy),
            directory_id: self.directory_id.clone(),
            organization_id: self.organization_id.clone(),
            idp_id: format!("00u{:016x}", person.idp),
            emails: Email::work(&email),
            email: Some(email),
            first_name: Some(person.first.into()),
            last_name: Some(person.last.into()),
            name: Some(format!("{} {}", person.first, person.last)),
            job_title: Some(person.title.into()),
            username: Some(username),
            state: if person.employment == Employment::Active { "active" } else { "inactive" }
                .into(),
            raw_attributes: Empty {},
            custom_attributes: self.attributes(person),
            created_at: timestamp(person.created_at),
            updated_at: timestamp(person.updated_at),
            previous_attributes: None,
        }
    }

    fn attributes(&self, person: &Employee) -> Map<String, Value> {
        let department = self.departments.get(person.department).map(|department| department.words);
        let kind = if person.contractor { "Contractor" } else { "Employee" };
        let office = words::OFFICES.get(person.office).copied().unwrap_or_default();
        let texts = [
            ("department_name", department.map_or("", |words| words.name).to_owned()),
            ("cost_center_name", department.map_or("", |words| words.cost_center).to_owned()),
            ("employee_number", format!("E{:07}", person.number)),
            ("employee_type", kind.to_owned()),
            ("employment_start_date", timestamp(person.employed_at)),
            ("job_title", person.title.to_owned()),
            ("office", office.to_owned()),
        ];
        let desk = person.desk.map(|desk| ("desk".to_owned(), desk.into()));
        texts.into_iter().map(|(name, text)| (name.to_owned(), text.into())).chain(desk).collect()
    }

    fn group(&self, slot: Slot) -> Group {
        let none =
            Profile { name: String::new(), idp: 0, entropy: 0, created_at: 0, updated_at: 0 };
        let profile = self.groups.get(slot as usize).unwrap_or(&none);
        Group {
            object: "directory_group",
            id: webhook::id("directory_group", profile.created_at, profile.entropy),
            idp_id: format!("00g{:016x}", profile.idp),
            directory_id: self.directory_id.clone(),
            organization_id: self.organization_id.clone(),
            name: profile.name.clone(),
            raw_attributes: Empty {},
            created_at: timestamp(profile.created_at),
            updated_at: timestamp(profile.updated_at),
            previous_attributes: None,
        }
    }
}

/// Counts one more person with this name, and returns how many had it before.
fn namesakes(
    all: &mut HashMap<(&'static str, &'static str), u32>,
    first: &'static str,
    last: &'static str,
) -> u32 {
    let count = all.entry((first, last)).or_default();
    *count += 1;
    *count - 1
}
