//! Things by their names: those that a text names, or else those that it nearly names.

use std::collections::BTreeSet;

use crate::ask::lookups::Named;
use crate::ground::event_type::EventType;
use crate::ground::fact::Fingerprint;
use crate::ground::likeness::{id_distance, name_distance};
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::sight::Seen;
use crate::state::directories::{DirectoryState, DirectoryVersion};
use crate::state::entities::{Entity, EntityKind, EntityVersion};

/// At most this many things of one name are returned.
const MATCHES_MAX: usize = 20;

/// At most this many things of nearly the name are returned.
const NEAR_MAX: usize = 5;

/// The kind of thing that a text names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedKind {
    /// Users, by id or email.
    User,
    /// Groups, by id or name.
    Group,
    /// Directories, by id or name.
    Directory,
    /// Organizations, by id.
    Organization,
    /// Roles of mappings, by name.
    Role,
    /// Types of events, by name: those that Rollcall knows, and those of recorded events.
    EventType,
}

/// A question about the things that a text names.
#[derive(Clone, Copy, Debug)]
pub struct NameQuestion<'a> {
    /// The kind of things.
    pub kind: NamedKind,
    /// The id or name, as it was asked for.
    pub text: &'a str,
    /// The name as names are compared.
    pub compared: &'a str,
    /// Returns the name of a directory as names are compared.
    pub compare: fn(&str) -> String,
    /// The fingerprint of the text, if it may be an email.
    pub email: Option<Fingerprint>,
    /// Only users and groups that were ever in this directory.
    pub directory: Option<&'a str>,
    /// Only what ever belonged to this organization.
    pub organization: Option<&'a str>,
    /// Names at this cut come before earlier and later ones. Records after it do not count.
    pub cut: Cut,
    /// Earlier and later names count as those at the cut do.
    pub ever: bool,
}

/// Something that a text names, or nearly names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namesake {
    /// Its id; the name of a role or a type of events.
    pub id: String,
    /// The latest known name of a group or directory; empty for other kinds.
    pub name: String,
    /// The directory of a user or group; empty while unknown.
    pub directory: String,
    /// The organization of a user, group or directory; empty while unknown.
    pub organization: String,
    /// The application user that a user is linked to at the cut.
    pub app_user: Option<String>,
}

/// The way in which a text names something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamedBy {
    /// By its id.
    Id,
    /// By its name.
    Name,
    /// By its email.
    Email,
}

/// The things that a text names, or else those that it nearly names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamesFound {
    /// The way in which it names them; `None` if it names nothing.
    pub by: Option<NamedBy>,
    /// The things of that name, by id, at most 20.
    pub matches: Vec<Namesake>,
    /// The number of all things of that name.
    pub total: usize,
    /// If there are none, things of nearly that name, the nearest first, at most 5.
    pub near: Vec<Namesake>,
}

/// A search that goes through all candidates, some at a time. The first search is for the name
/// itself; only if nothing has it, the costlier one for near names follows.
#[derive(Default)]
pub struct NameSearch {
    /// True in the search for near names.
    is_near: bool,
    /// The next candidate.
    next: Sym,
    /// The names of groups that are compared as the text is; `None` before the first step.
    names: Option<Vec<Sym>>,
    /// The candidates that have the name at the cut.
    now: Lowest,
    /// The candidates that had the name at some other time.
    ever: Lowest,
    /// The ids of the nearest candidates, with their distances.
    near: Vec<(u32, String)>,
    /// The roles that were compared: most mappings repeat those of the one before.
    roles: BTreeSet<String>,
}

/// The number of some things, and those with the lowest ids.
#[derive(Default)]
struct Lowest {
    syms: Vec<Sym>,
    total: usize,
}

/// A name at the cut, or at another time.
enum Likeness {
    Now,
    Ever,
}

impl Seen<'_> {
    /// Returns what an id names. `None` if all candidates must be searched for a name.
    pub fn named_at_once(&self, question: &NameQuestion<'_>) -> Option<NamesFound> {
        if !self.is_id(question) {
            return None;
        }
        let sym = self.sym_of(question.kind, question.text);
        let in_scope = sym.is_none_or(|sym| self.is_in_scope(question, sym));
        let item = self.namesake_of_id(question, question.text);
        in_scope.then(|| NamesFound::of(NamedBy::Id, vec![item]))
    }

    /// Goes through the next candidates, at a cost of about `step`. Returns false at the end of the
    /// search.
    pub fn search_names(
        &self,
        question: &NameQuestion<'_>,
        search: &mut NameSearch,
        step: usize,
    ) -> bool {
        let asked = question.compared.to_lowercase();
        let mut cost = 0;
        while cost < step {
            let Some(candidate) = self.candidate(question, search) else {
                return search.begin_near();
            };
            search.next = candidate + 1;
            cost += match (search.is_near, question.kind) {
                (true, NamedKind::Role) => self.note_near_roles(question, candidate, search),
                (true, NamedKind::EventType) => self.note_near_types(question, search),
                (true, _) => self.note_near(question, &asked, candidate, search),
                (false, _) => self.note_named(question, candidate, search),
            };
        }
        true
    }

    /// Returns what a search to the end has found.
    pub fn names_found(&self, question: &NameQuestion<'_>, search: &NameSearch) -> NamesFound {
        let Lowest { syms, total } = if search.now.total == 0 { &search.ever } else { &search.now };
        if *total == 0 {
            let near = search.near.iter().map(|(_, id)| self.namesake_of_id(question, id));
            return NamesFound { near: near.collect(), ..NamesFound::default() };
        }
        let by = if question.kind == NamedKind::User { NamedBy::Email } else { NamedBy::Name };
        let matches = syms.iter().map(|sym| self.namesake(question, *sym)).collect();
        NamesFound { total: *total, ..NamesFound::of(by, matches) }
    }

    /// Returns the next candidate: a thing, or for near names also a mapping with its roles, or the
    /// list of the types of events.
    fn candidate(&self, question: &NameQuestion<'_>, search: &NameSearch) -> Option<Sym> {
        let next = search.next;
        let end = match (question.kind, search.is_near) {
            (NamedKind::User, false) => {
                return self.emails.holders_from(self.emails.find(question.email?)?, next).next();
            }
            (NamedKind::User, true) => self.users.len(),
            (NamedKind::Group, _) => self.groups.len(),
            (NamedKind::Directory, _) => self.directories.len(),
            (NamedKind::Organization, true) => self.texts.len(),
            (NamedKind::Role, true) => self.roles.iter().len(),
            (NamedKind::EventType, true) => 1,
            (NamedKind::Organization | NamedKind::Role | NamedKind::EventType, false) => 0,
        };
        ((next as usize) < end).then_some(next)
    }

    /// Notes a candidate that has the name, and returns the cost of the comparison.
    fn note_named(&self, question: &NameQuestion<'_>, sym: Sym, search: &mut NameSearch) -> usize {
        let likeness = match question.kind {
            NamedKind::User => self.email_likeness(question, sym),
            NamedKind::Directory => self.directory_likeness(question, sym),
            NamedKind::Group => {
                let names = search.names.get_or_insert_with(|| self.names_alike(question));
                self.group_likeness(question, names, sym)
            }
            NamedKind::Organization | NamedKind::Role | NamedKind::EventType => None,
        };
        let found = match likeness.filter(|_| self.is_wanted(question, sym)) {
            Some(Likeness::Now) if !question.ever => &mut search.now,
            Some(Likeness::Now | Likeness::Ever) => &mut search.ever,
            None => return 1,
        };
        let id = |sym: Sym| self.id_of(question.kind, sym);
        found.note(sym, |a, b| id(a).cmp(id(b)));
        1
    }

    /// Notes a candidate that nearly has the name, and returns the cost of the comparison.
    fn note_near(
        &self,
        question: &NameQuestion<'_>,
        asked: &str,
        sym: Sym,
        search: &mut NameSearch,
    ) -> usize {
        let near = self.nearness(question, asked, sym);
        if let Some(distance) = near.filter(|_| self.is_wanted(question, sym)) {
            search.note_near(distance, self.id_of(question.kind, sym));
        }
        1
    }

    /// Notes the roles of a mapping that nearly have the name, and returns the cost of comparing
    /// them.
    fn note_near_roles(
        &self,
        question: &NameQuestion<'_>,
        number: Sym,
        search: &mut NameSearch,
    ) -> usize {
        let asked = question.text.to_lowercase();
        let mapping = self.roles.iter().nth(number as usize);
        let mapping = mapping.filter(|mapping| mapping.seq <= question.cut.known_at);
        let mut cost = 1;
        for role in mapping.into_iter().flat_map(|mapping| mapping.all_roles()) {
            cost += 1;
            if !search.roles.contains(role) {
                search.roles.insert(role.to_owned());
                if let Some(distance) = name_distance(&asked, role) {
                    search.note_near(distance, role);
                }
            }
        }
        cost
    }

    /// Notes the types of events that nearly have the name, and returns the cost of comparing them.
    fn note_near_types(&self, question: &NameQuestion<'_>, search: &mut NameSearch) -> usize {
        let asked = question.text.to_lowercase();
        let mut cost = 0;
        for name in self.event_types(question.cut.known_at) {
            cost += 1;
            if let Some(distance) = name_distance(&asked, name) {
                search.note_near(distance, name);
            }
        }
        cost
    }

    fn is_id(&self, question: &NameQuestion<'_>) -> bool {
        let text = question.text;
        let named = match question.kind {
            NamedKind::User => Named::User(text),
            NamedKind::Group => Named::Group(text),
            NamedKind::Directory => Named::Directory(text),
            NamedKind::Organization => Named::Organization(text),
            NamedKind::Role => Named::Role(text),
            NamedKind::EventType => {
                return self.event_types(question.cut.known_at).any(|name| name == text);
            }
        };
        self.ever_named(named, question.cut)
    }

    /// Iterates over the types that Rollcall knows, and then those of recorded events, which only
    /// those see who see all.
    fn event_types(&self, known_at: Seq) -> impl Iterator<Item = &str> {
        let known = EventType::ALL.iter().map(|event_type| event_type.name());
        let recorded = self.own().is_none().then(|| self.events.types_recorded(known_at));
        known.chain(recorded.into_iter().flatten())
    }

    /// Tells if something is seen, and was ever in the directory and the organization that are
    /// asked for.
    fn is_wanted(&self, question: &NameQuestion<'_>, sym: Sym) -> bool {
        self.is_seen(question, sym) && self.is_in_scope(question, sym)
    }

    fn is_seen(&self, question: &NameQuestion<'_>, sym: Sym) -> bool {
        let entity = |kind| self.sees_entity(kind, sym, question.cut);
        match question.kind {
            NamedKind::User => entity(EntityKind::User),
            NamedKind::Group => entity(EntityKind::Group),
            NamedKind::Directory => self.sees(sym, question.cut),
            NamedKind::Organization => self.owns(sym),
            NamedKind::Role | NamedKind::EventType => true,
        }
    }

    fn email_likeness(&self, question: &NameQuestion<'_>, user: Sym) -> Option<Likeness> {
        let email = self.emails.find(question.email?)?;
        if !self.ever_showed(user, email, question.known()) {
            return None;
        }
        let now = self.alive(EntityKind::User, user, question.cut);
        let shows = now.is_some_and(|version| version.email == email);
        Some(if shows { Likeness::Now } else { Likeness::Ever })
    }

    /// Returns the distance of a candidate from the name; `asked` is the name in lower case.
    fn nearness(&self, question: &NameQuestion<'_>, asked: &str, sym: Sym) -> Option<u32> {
        let known = question.known();
        let name = match question.kind {
            NamedKind::Directory => {
                self.directories.get(sym)?.named().at(known)?;
                self.directory_name(sym, known)
            }
            NamedKind::Group => {
                let group = self.groups.get(sym)?;
                group.first_seen(known)?;
                self.group_name(group, known)
            }
            NamedKind::Organization => {
                let first = *self.organizations_named.get(&sym)?;
                let seen = Seq::from(first) <= question.cut.known_at;
                return id_distance(question.text, self.texts.text(sym)).filter(|_| seen);
            }
            _ => {
                self.users.get(sym)?.first_seen(known)?;
                ""
            }
        };
        let by_id = id_distance(question.text, self.id_of(question.kind, sym));
        name_distance(asked, name).into_iter().chain(by_id).min()
    }

    /// Returns the names of groups that are compared as the text of a question is.
    fn names_alike(&self, question: &NameQuestion<'_>) -> Vec<Sym> {
        let names = self.roles.group_names(0).iter();
        let alike = names.filter(|name| *name.compared == *question.compared);
        alike.map(|name| name.name).filter(|name| *name != NO_SYM).collect()
    }

    /// Judges a group by its names; `names` are those that are compared as the text is.
    fn group_likeness(
        &self,
        question: &NameQuestion<'_>,
        names: &[Sym],
        sym: Sym,
    ) -> Option<Likeness> {
        let has_name = |version: &EntityVersion| names.contains(&version.label);
        let known = |version: &&EntityVersion| {
            question.known().sees(version.place) && self.sees(version.directory, question.cut)
        };
        // Every name that it ever had is that of a turn.
        if !self.groups.get(sym)?.turning().filter(known).any(has_name) {
            return None;
        }
        let now = self.alive(EntityKind::Group, sym, question.cut);
        Some(if now.is_some_and(has_name) { Likeness::Now } else { Likeness::Ever })
    }

    fn directory_likeness(&self, question: &NameQuestion<'_>, sym: Sym) -> Option<Likeness> {
        let directory = self.directories.get(sym)?;
        let has_name = |version: &DirectoryVersion| {
            (question.compare)(self.texts.text(version.name)) == question.compared
        };
        let known = |version: &&DirectoryVersion| question.known().sees(version.place);
        if !directory.events().iter().filter(known).any(has_name) {
            return None;
        }
        let now = match directory.state(question.cut) {
            DirectoryState::Live(version) => has_name(&version),
            DirectoryState::Absent | DirectoryState::Stub => false,
        };
        Some(if now { Likeness::Now } else { Likeness::Ever })
    }

    fn group_name(&self, group: &Entity, known: Cut) -> &str {
        group.version(known).map_or("", |version| self.texts.text(version.label))
    }

    fn directory_name(&self, sym: Sym, known: Cut) -> &str {
        let version = self.directories.get(sym).and_then(|found| found.events().latest(known));
        version.map_or("", |version| self.texts.text(version.name))
    }

    fn id_of(&self, kind: NamedKind, sym: Sym) -> &str {
        match kind {
            NamedKind::User => self.users.id(sym),
            NamedKind::Group => self.groups.id(sym),
            NamedKind::Directory => self.directories.id(sym),
            NamedKind::Organization => self.texts.text(sym),
            NamedKind::Role | NamedKind::EventType => "",
        }
    }

    /// Returns the symbol of an id, for the kinds that belong to a directory or an organization.
    fn sym_of(&self, kind: NamedKind, id: &str) -> Option<Sym> {
        match kind {
            NamedKind::User => self.users.find(id),
            NamedKind::Group => self.groups.find(id),
            NamedKind::Directory => self.directories.find(id),
            NamedKind::Organization | NamedKind::Role | NamedKind::EventType => None,
        }
    }

    fn namesake_of_id(&self, question: &NameQuestion<'_>, id: &str) -> Namesake {
        let sym = self.sym_of(question.kind, id);
        sym.map_or_else(|| Namesake::of(id), |sym| self.namesake(question, sym))
    }

    /// Tells if something was ever in the directory and the organization that are asked for: who
    /// moved since is asked about as well.
    fn is_in_scope(&self, question: &NameQuestion<'_>, sym: Sym) -> bool {
        let NameQuestion { directory, organization, .. } = *question;
        if directory.is_none() && organization.is_none() {
            return true;
        }
        let known = question.known();
        let has_organization =
            |sym: Sym| organization.is_none_or(|organization| self.texts.text(sym) == organization);
        let entity = match question.kind {
            NamedKind::User => self.users.get(sym),
            NamedKind::Group => self.groups.get(sym),
            NamedKind::Directory => return has_organization(self.organization_of(sym, known)),
            NamedKind::Organization | NamedKind::Role | NamedKind::EventType => return true,
        };
        let mut versions = entity.into_iter().flat_map(Entity::versions);
        versions.any(|version| {
            known.sees(version.place)
                && directory
                    .is_none_or(|directory| self.directories.id(version.directory) == directory)
                && has_organization(self.shown_organization(version, known))
        })
    }

    /// Describes something by all that is known of it. Where later facts may be of another
    /// organization than those that are seen, by what is known of it at the cut.
    fn namesake(&self, question: &NameQuestion<'_>, sym: Sym) -> Namesake {
        let NameQuestion { kind, cut, .. } = *question;
        let is_there = |kind| self.home(kind, sym, cut).is_some();
        let at_cut = self.own().is_some()
            && match kind {
                NamedKind::User => is_there(EntityKind::User),
                NamedKind::Group => is_there(EntityKind::Group),
                _ => true,
            };
        let known = if at_cut { cut } else { question.known() };
        let organization = |sym: Sym| self.texts.text(sym).to_owned();
        let named = Namesake::of(self.id_of(kind, sym));
        let entity_kind = match kind {
            NamedKind::User => EntityKind::User,
            NamedKind::Group => EntityKind::Group,
            NamedKind::Directory => {
                let organization = organization(self.organization_of(sym, known));
                return Namesake {
                    name: self.directory_name(sym, known).to_owned(),
                    organization,
                    ..named
                };
            }
            NamedKind::Organization | NamedKind::Role | NamedKind::EventType => return named,
        };
        let name = match (kind, self.groups.get(sym)) {
            (NamedKind::Group, Some(group)) => self.group_name(group, known),
            _ => "",
        };
        // A deletion may leave out the directory.
        let placed = self.placed_version(entity_kind, sym, known);
        Namesake {
            name: name.to_owned(),
            directory: placed.map_or("", |version| self.directories.id(version.directory)).into(),
            organization: placed.map_or_else(String::new, |version| {
                organization(self.shown_or_own(version, known, cut))
            }),
            app_user: self
                .app_user(&named.id, cut)
                .filter(|_| kind == NamedKind::User)
                .map(Into::into),
            ..named
        }
    }
}

impl NameQuestion<'_> {
    /// Returns the cut that sees all that is known, whenever it happened.
    fn known(&self) -> Cut {
        Cut { as_of: Millis::MAX, ..self.cut }
    }
}

impl Namesake {
    fn of(id: &str) -> Namesake {
        let empty = String::new;
        Namesake {
            id: id.into(),
            name: empty(),
            directory: empty(),
            organization: empty(),
            app_user: None,
        }
    }
}

impl NamesFound {
    fn of(by: NamedBy, matches: Vec<Namesake>) -> NamesFound {
        NamesFound { by: Some(by), total: matches.len(), matches, near: Vec::new() }
    }
}

impl Lowest {
    /// Counts a thing, and keeps it if its id is one of the lowest; `order` is that of ids.
    fn note(&mut self, sym: Sym, order: impl Fn(Sym, Sym) -> core::cmp::Ordering) {
        self.total += 1;
        let at = self.syms.partition_point(|other| order(*other, sym).is_lt());
        if at < MATCHES_MAX {
            self.syms.insert(at, sym);
            self.syms.truncate(MATCHES_MAX);
        }
    }
}

impl NameSearch {
    /// Begins the search for near names if nothing has the name. Returns false if nothing is left
    /// to be searched.
    fn begin_near(&mut self) -> bool {
        if self.is_near || self.now.total + self.ever.total > 0 {
            return false;
        }
        (self.is_near, self.next) = (true, 0);
        true
    }

    /// Keeps an id if it is one of the nearest.
    fn note_near(&mut self, distance: u32, id: &str) {
        let at = self
            .near
            .partition_point(|(other, other_id)| (*other, other_id.as_str()) < (distance, id));
        let is_known = self.near.get(at).is_some_and(|(_, other)| other == id);
        if at < NEAR_MAX && !is_known {
            self.near.insert(at, (distance, id.to_owned()));
            self.near.truncate(NEAR_MAX);
        }
    }
}
