//! The life of a company after the initial sync.

use rollcall_projections::{EventType, Millis};

use super::{
    Company, DAY_MS, Employee, Employment, LAG_MS, Phase, Project, Slot, namesakes, words,
};
use crate::webhook::previous_attributes;

/// The part of a day in which things happen.
const WORKDAY_MS: u64 = 36_000_000;

#[derive(Clone, Copy)]
pub(super) enum Happening {
    Hire,
    Leave,
    Return(usize),
    Move,
    Change,
    /// A person joins or leaves a group that cuts across departments.
    Drift,
    ProjectStarts,
    ProjectEnds,
    Rename,
    /// A whole department is regrouped within a second.
    Storm,
    Regroup(usize, Slot),
}

impl Company {
    pub(super) fn plan_day(&mut self, day: u64) {
        let morning = self.life_start + (day as Millis - 1) * DAY_MS;
        // The epoch was a Thursday.
        let weekend = (morning / DAY_MS + 3).rem_euclid(7) >= 5;
        let hands = if weekend { self.here / 12 } else { self.here };
        let units = if weekend { 0 } else { 1 + (self.here / 500).min(20) };
        let rates = [
            (Happening::Hire, hands, 12),
            (Happening::Leave, hands, 10),
            (Happening::Move, hands, 20),
            (Happening::Change, hands, 60),
            (Happening::Drift, hands, 40),
            (Happening::ProjectStarts, units, 1500),
            (Happening::ProjectEnds, units, 1200),
            (Happening::Rename, units.min(3), 800),
            (Happening::Storm, units.min(1), 300),
        ];
        let mut today = Vec::new();
        for (happening, count, per_10000) in rates {
            let times = self.dice.times(count, per_10000);
            today.extend((0..times).map(|_| happening));
        }
        // Even the shortest history has one storm.
        if day == self.plan.days.div_ceil(2) {
            today.push(Happening::Storm);
        }
        let (back, away): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.away).into_iter().partition(|(from, _)| *from <= day);
        self.away = away;
        today.extend(back.into_iter().map(|(_, who)| Happening::Return(who)));
        self.dice.shuffle(&mut today);
        let share = WORKDAY_MS / (today.len() as u64).max(1);
        for (at, happening) in (0..).zip(today) {
            let at = morning + (at * share + self.dice.below(share / 2 + 1)) as Millis;
            self.agenda.push_back((at, happening));
        }
    }

    pub(super) fn happen(&mut self, at: Millis, happening: Happening) {
        let instant = matches!(happening, Happening::Regroup(..));
        self.clock = at.max(self.clock + Millis::from(!instant));
        match happening {
            Happening::Hire => {
                let who = self.hire(0);
                self.join_all(who, 400);
            }
            Happening::Leave => self.leave(),
            Happening::Return(who) => self.come_back(who),
            Happening::Move => self.change_department(),
            Happening::Change => self.change(),
            Happening::Drift => self.drift(),
            Happening::ProjectStarts => self.start_project(),
            Happening::ProjectEnds => self.end_project(),
            Happening::Rename => self.rename(),
            Happening::Storm => self.storm(),
            Happening::Regroup(who, team) => self.change_team(who, team, 0),
        }
    }

    fn drift(&mut self) {
        let (Some(who), circle) = (self.active_person(), self.dice.pick(&self.circles)) else {
            return;
        };
        let is_in = self.people.get(who).is_some_and(|person| person.groups.contains(&circle));
        if is_in { self.part(who, circle) } else { self.join(who, circle) }
    }

    fn leave(&mut self) {
        let Some(who) = self.active_person() else { return };
        if self.plan.secure {
            let Some(person) = self.people.get_mut(who) else { return };
            person.employment = Employment::Gone;
            person.updated_at = self.clock - LAG_MS;
            let person = person.clone();
            // Memberships end with their user, without events of their own.
            self.emit(EventType::UserDeleted, self.user(&person));
        } else {
            self.update(who, |person| person.employment = Employment::Inactive);
        }
        self.here -= 1;
        if self.dice.chance(0.25)
            && let Phase::Life(day) = self.phase
        {
            self.away.push((day + 3 + self.dice.below(20), who));
        }
    }

    fn come_back(&mut self, who: usize) {
        self.here += 1;
        if !self.plan.secure {
            return self.update(who, |person| person.employment = Employment::Active);
        }
        let (at, entropy) = (self.clock - LAG_MS, self.dice.entropy());
        let Some(person) = self.people.get(who).cloned() else { return };
        let groups = self.usual_groups(&person);
        let person = Employee {
            employment: Employment::Active,
            groups,
            entropy,
            created_at: at,
            updated_at: at,
            ..person
        };
        self.emit(EventType::UserCreated, self.user(&person));
        if let Some(place) = self.people.get_mut(who) {
            *place = person;
        }
        self.join_all(who, 400);
    }

    fn change_department(&mut self) {
        let (Some(who), department) = (self.active_person(), self.some_department()) else {
            return;
        };
        let (Some(person), Some(new)) =
            (self.people.get(who), self.departments.get(department).cloned())
        else {
            return;
        };
        let before = person.department;
        if before != department {
            let old = self.departments.get(before).map(|old| old.group);
            self.update(who, |person| {
                person.department = department;
                person.title = new.words.titles.first().copied().unwrap_or_default();
            });
            if let Some(old) = old {
                self.tick(400);
                self.part(who, old);
            }
            self.tick(400);
            self.join(who, new.group);
            self.tick(400);
        }
        let team = self.dice.pick(&new.teams);
        self.change_team(who, team, 400);
    }

    fn change_team(&mut self, who: usize, team: Slot, pause_ms: u64) {
        let Some(person) = self.people.get_mut(who).filter(|person| person.team != team) else {
            return;
        };
        let old = std::mem::replace(&mut person.team, team);
        self.part(who, old);
        self.tick(pause_ms);
        self.join(who, team);
    }

    /// Changes a person: a promotion, another name, another office, a permanent contract, or just
    /// another desk.
    fn change(&mut self) {
        let Some(who) = self.active_person() else { return };
        let Some(person) = self.people.get(who).cloned() else { return };
        let titles = self
            .departments
            .get(person.department)
            .map(|department| department.words.titles)
            .unwrap_or_default();
        match self.dice.below(6) {
            0 if let Some(next) =
                titles.into_iter().skip_while(|title| *title != person.title).nth(1) =>
            {
                self.update(who, |person| person.title = next);
            }
            1 => {
                let last = self.dice.pick(&words::LAST_NAMES);
                if last == person.last {
                    return;
                }
                let namesakes = namesakes(&mut self.namesakes, person.first, last);
                self.update(who, |person| (person.last, person.namesakes) = (last, namesakes));
            }
            2 if person.contractor => self.update(who, |person| person.contractor = false),
            3 if self.offices.len() > 1 => self.change_office(who, person.office),
            _ => {
                // Sets, changes or removes the desk, so that an attribute comes and goes.
                let desk = if person.desk.is_some() && self.dice.chance(0.5) {
                    None
                } else {
                    Some(1000 + self.dice.below(9000))
                };
                self.update(who, |person| person.desk = desk);
            }
        }
    }

    fn change_office(&mut self, who: usize, old: usize) {
        let new = (old + 1 + self.dice.index(self.offices.len() - 1)) % self.offices.len();
        self.update(who, |person| person.office = new);
        let (Some(old), Some(new)) =
            (self.offices.get(old).copied(), self.offices.get(new).copied())
        else {
            return;
        };
        self.tick(400);
        self.part(who, old);
        self.tick(400);
        self.join(who, new);
    }

    fn start_project(&mut self) {
        let group = self.found(project_name(self.projects_made));
        self.projects_made += 1;
        self.announce(group);
        let mut members = Vec::new();
        for _ in 0..3 + self.dice.below(12) {
            if let Some(who) = self.active_person().filter(|who| !members.contains(who)) {
                self.tick(400);
                self.join(who, group);
                members.push(who);
            }
        }
        self.projects.push(Project { group, members });
    }

    fn end_project(&mut self) {
        if self.projects.is_empty() {
            return;
        }
        let Project { group, members } =
            self.projects.swap_remove(self.dice.index(self.projects.len()));
        if let Some(profile) = self.groups.get_mut(group as usize) {
            profile.updated_at = self.clock - LAG_MS;
        }
        self.emit(EventType::GroupDeleted, self.group(group));
        for who in members {
            if let Some(person) = self.people.get_mut(who) {
                person.groups.retain(|slot| *slot != group);
            }
        }
    }

    /// Renames a team, unless the name is taken.
    fn rename(&mut self) {
        let Some(department) = self.departments.get(self.dice.index(self.departments.len())) else {
            return;
        };
        let (team, bird) = (self.dice.pick(&department.teams), self.dice.pick(&words::TEAMS));
        let name = format!("{} {bird}", department.words.name);
        if self.groups.iter().any(|profile| profile.name == name) {
            return;
        }
        let before = self.group(team);
        if let Some(profile) = self.groups.get_mut(team as usize) {
            profile.name = name;
            profile.updated_at = self.clock - LAG_MS;
        }
        let mut after = self.group(team);
        after.previous_attributes = Some(previous_attributes(&before, &after));
        self.emit(EventType::GroupUpdated, after);
    }

    fn storm(&mut self) {
        let stirred = self.some_department();
        let Some(teams) = self.departments.get(stirred).map(|department| department.teams.clone())
        else {
            return;
        };
        let here = |person: &Employee| {
            person.department == stirred && person.employment == Employment::Active
        };
        let members: Vec<usize> = (0..)
            .zip(&self.people)
            .filter(|(_, person)| here(person))
            .map(|(who, _)| who)
            .collect();
        // The moves go before the rest of the agenda: they are pushed in reverse.
        for (at, who) in members.iter().enumerate().rev() {
            let after_ms = (at * 1000 / members.len()) as Millis;
            self.agenda.push_front((
                self.clock + after_ms,
                Happening::Regroup(*who, self.dice.pick(&teams)),
            ));
        }
    }

    /// Picks an active person; `None` if 20 draws find none.
    fn active_person(&mut self) -> Option<usize> {
        let Company { dice, people, .. } = self;
        (0..20).map(|_| dice.index(people.len())).find(|who| {
            people.get(*who).is_some_and(|person| person.employment == Employment::Active)
        })
    }

    fn update(&mut self, who: usize, change: impl FnOnce(&mut Employee)) {
        let Some(before) = self.people.get(who).map(|person| self.user(person)) else { return };
        let Some(person) = self.people.get_mut(who) else { return };
        change(person);
        person.updated_at = self.clock - LAG_MS;
        let person = person.clone();
        let mut after = self.user(&person);
        after.previous_attributes = Some(previous_attributes(&before, &after));
        self.emit(EventType::UserUpdated, after);
    }

    fn join(&mut self, who: usize, slot: Slot) {
        if let Some(person) =
            self.people.get_mut(who).filter(|person| !person.groups.contains(&slot))
        {
            person.groups.push(slot);
            self.emit_membership(EventType::MemberAdded, who, slot);
        }
    }

    fn part(&mut self, who: usize, slot: Slot) {
        if let Some(person) =
            self.people.get_mut(who).filter(|person| person.groups.contains(&slot))
        {
            person.groups.retain(|other| *other != slot);
            self.emit_membership(EventType::MemberRemoved, who, slot);
        }
    }
}

/// Returns the name of a project by the number of those before it. Names that return get a number.
fn project_name(made: usize) -> String {
    let word = words::PROJECTS.get(made % words::PROJECTS.len()).copied().unwrap_or_default();
    match made / words::PROJECTS.len() {
        0 => format!("Project {word}"),
        round => format!("Project {word} {}", round + 1),
    }
}
