//! Things by their names: those that a text names, or else those that it nearly names.

use crate::ask::lookups::Named;
use crate::ground::event_type::EventType;
use crate::ground::fact::Fingerprint;
use crate::ground::likeness::{id_distance, name_distance};
use crate::ground::order::{Cut, Millis, Seq};
use crate::ground::symbols::{NO_SYM, Sym};
use crate::state::directories::{DirectoryState, DirectoryVersion};
use crate::state::entities::{Entity, EntityKind, EntityVersion};
use crate::views::Views;

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
    /// Only users and groups of this directory.
    pub directory: Option<&'a str>,
    /// Only what belongs to this organization.
    pub organization: Option<&'a str>,
    /// Names at this cut come before earlier and later ones. Records after it do not count.
    pub cut: Cut,
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
    /// The candidates that have the name at the cut.
    now: Vec<Sym>,
    /// The candidates that had the name at some other time.
    ever: Vec<Sym>,
    /// The nearest candidates with their distances.
    near: Vec<(u32, Sym)>,
}

/// A name at the cut, at another time, or nearly.
enum Likeness {
    Now,
    Ever,
    Near(u32),
}

impl Views {
    /// Returns what an id names, or an email, or the name of a role. `None` if all candidates must
    /// be searched for a name.
    pub fn named_at_once(&self, question: &NameQuestion<'_>) -> Option<NamesFound> {
        if self.is_id(question) {
            let item = self.namesake_of_id(question.kind, question.text, question.known());
            if question.is_in_scope(&item) {
                return Some(NamesFound::of(NamedBy::Id, vec![item]));
            }
        }
        match question.kind {
            NamedKind::User => self.users_with_email(question),
            NamedKind::Organization => Some(NamesFound::near(self.near_organizations(question))),
            NamedKind::Role => Some(NamesFound::near(self.near_roles(question))),
            NamedKind::EventType => Some(NamesFound::near(self.near_event_types(question))),
            NamedKind::Group | NamedKind::Directory => None,
        }
    }

    /// Goes through the next `step` candidates. Returns false at the end of the search.
    pub fn search_names(
        &self,
        question: &NameQuestion<'_>,
        search: &mut NameSearch,
        step: usize,
    ) -> bool {
        let end = match question.kind {
            NamedKind::User => self.users.len(),
            NamedKind::Group => self.groups.len(),
            NamedKind::Directory => self.directories.len(),
            NamedKind::Organization | NamedKind::Role | NamedKind::EventType => 0,
        };
        let asked = question.compared.to_lowercase();
        for _ in 0..step {
            let sym = search.next;
            if sym as usize >= end {
                return search.begin_near();
            }
            search.next += 1;
            let near = search.is_near.then_some(asked.as_str());
            match self.likeness(question, near, sym) {
                Some(Likeness::Now) => search.now.push(sym),
                Some(Likeness::Ever) => search.ever.push(sym),
                Some(Likeness::Near(distance)) => {
                    let id = |sym: Sym| self.id_of(question.kind, sym);
                    search.note_near(distance, sym, |a, b| id(a).cmp(id(b)));
                }
                None => {}
            }
        }
        true
    }

    /// Returns what a search to the end has found.
    pub fn names_found(&self, question: &NameQuestion<'_>, search: &NameSearch) -> NamesFound {
        let kind = question.kind;
        let describe = |sym: Sym| self.namesake(kind, sym, question.known());
        let syms = if search.now.is_empty() { &search.ever } else { &search.now };
        if syms.is_empty() {
            return NamesFound::near(search.near.iter().map(|(_, sym)| describe(*sym)).collect());
        }
        let mut syms = syms.clone();
        syms.sort_by(|a, b| self.id_of(kind, *a).cmp(self.id_of(kind, *b)));
        let matches = syms.iter().take(MATCHES_MAX).map(|sym| describe(*sym)).collect();
        NamesFound { total: syms.len(), ..NamesFound::of(NamedBy::Name, matches) }
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
        self.ever_named(named, question.cut.known_at)
    }

    /// Iterates over the types that Rollcall knows, and then those of recorded events.
    fn event_types(&self, known_at: Seq) -> impl Iterator<Item = &str> {
        let known = EventType::ALL.iter().map(|event_type| event_type.name());
        known.chain(self.events.types_recorded(known_at))
    }

    fn users_with_email(&self, question: &NameQuestion<'_>) -> Option<NamesFound> {
        let holders = self.email_holders(question.email?, question.cut);
        let ever = self.email_holders(question.email?, question.known());
        let showing: Vec<&String> =
            holders.iter().filter(|(_, shows)| *shows).map(|(id, _)| id).collect();
        let ids =
            if showing.is_empty() { ever.iter().map(|(id, _)| id).collect() } else { showing };
        let users: Vec<Namesake> = ids
            .into_iter()
            .map(|id| self.namesake_of_id(NamedKind::User, id, question.known()))
            .filter(|user| question.is_in_scope(user))
            .collect();
        (!users.is_empty()).then(|| NamesFound {
            total: users.len(),
            ..NamesFound::of(NamedBy::Email, users.into_iter().take(MATCHES_MAX).collect())
        })
    }

    fn near_organizations(&self, question: &NameQuestion<'_>) -> Vec<Namesake> {
        let known = self.organizations_named.iter();
        let known = known.filter(|(_, first)| Seq::from(**first) <= question.cut.known_at);
        nearest(known.map(|(organization, _)| self.texts.text(*organization)), |id| {
            id_distance(question.text, id)
        })
    }

    fn near_roles(&self, question: &NameQuestion<'_>) -> Vec<Namesake> {
        let asked = question.text.to_lowercase();
        let roles = self.roles.known(question.cut.known_at).flat_map(|mapping| mapping.all_roles());
        nearest(roles, |role| name_distance(&asked, role))
    }

    fn near_event_types(&self, question: &NameQuestion<'_>) -> Vec<Namesake> {
        let asked = question.text.to_lowercase();
        nearest(self.event_types(question.cut.known_at), |name| name_distance(&asked, name))
    }

    /// Compares a candidate with the name, or, with `near` in lower case, for nearness.
    fn likeness(
        &self,
        question: &NameQuestion<'_>,
        near: Option<&str>,
        sym: Sym,
    ) -> Option<Likeness> {
        let found = match (question.kind, near) {
            (NamedKind::Directory, None) => self.directory_likeness(question, sym),
            (NamedKind::Group, None) => self.group_likeness(question, sym),
            (_, None) => None,
            (_, Some(asked)) => self.nearness(question, asked, sym),
        };
        let in_scope = || {
            let scoped = question.directory.is_some() || question.organization.is_some();
            !scoped || question.is_in_scope(&self.namesake(question.kind, sym, question.known()))
        };
        found.filter(|_| in_scope())
    }

    fn nearness(&self, question: &NameQuestion<'_>, asked: &str, sym: Sym) -> Option<Likeness> {
        let known = question.known();
        let name = match question.kind {
            NamedKind::Directory => {
                self.directories.get(sym)?.named().at(known)?;
                self.directory_name(sym, known)
            }
            NamedKind::Group => {
                let group = self.groups.get(sym)?;
                group.seen().at(known)?;
                self.group_name(group, known)
            }
            _ => {
                self.users.get(sym)?.seen().at(known)?;
                ""
            }
        };
        let by_id = id_distance(question.text, self.id_of(question.kind, sym));
        name_distance(asked, name).into_iter().chain(by_id).min().map(Likeness::Near)
    }

    fn group_likeness(&self, question: &NameQuestion<'_>, sym: Sym) -> Option<Likeness> {
        let has_name = |version: &EntityVersion| {
            version.label != NO_SYM && self.roles.compared_name(version.label) == question.compared
        };
        let known = |version: &&EntityVersion| question.known().sees(version.place);
        if !self.groups.get(sym)?.versions().filter(known).any(has_name) {
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
            NamedKind::Organization | NamedKind::Role | NamedKind::EventType => "",
        }
    }

    fn namesake_of_id(&self, kind: NamedKind, id: &str, known: Cut) -> Namesake {
        let sym = match kind {
            NamedKind::User => self.users.find(id),
            NamedKind::Group => self.groups.find(id),
            NamedKind::Directory => self.directories.find(id),
            NamedKind::Organization | NamedKind::Role | NamedKind::EventType => None,
        };
        sym.map_or_else(|| Namesake::of(id), |sym| self.namesake(kind, sym, known))
    }

    fn namesake(&self, kind: NamedKind, sym: Sym, known: Cut) -> Namesake {
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
                organization(self.shown_organization(version, known))
            }),
            ..named
        }
    }
}

impl NameQuestion<'_> {
    /// Returns the cut that sees all that is known, whenever it happened.
    fn known(&self) -> Cut {
        Cut { as_of: Millis::MAX, ..self.cut }
    }

    fn is_in_scope(&self, item: &Namesake) -> bool {
        self.directory.is_none_or(|directory| item.directory == directory)
            && self.organization.is_none_or(|organization| item.organization == organization)
    }
}

impl Namesake {
    fn of(id: &str) -> Namesake {
        let empty = String::new;
        Namesake { id: id.into(), name: empty(), directory: empty(), organization: empty() }
    }
}

impl NamesFound {
    fn of(by: NamedBy, matches: Vec<Namesake>) -> NamesFound {
        NamesFound { by: Some(by), total: matches.len(), matches, near: Vec::new() }
    }

    fn near(near: Vec<Namesake>) -> NamesFound {
        NamesFound { near, ..NamesFound::default() }
    }
}

impl NameSearch {
    /// Begins the search for near names if nothing has the name. Returns false if nothing is left
    /// to be searched.
    fn begin_near(&mut self) -> bool {
        if self.is_near || !(self.now.is_empty() && self.ever.is_empty()) {
            return false;
        }
        (self.is_near, self.next) = (true, 0);
        true
    }

    /// Keeps a candidate if it is one of the nearest; `order` is that of ids.
    fn note_near(
        &mut self,
        distance: u32,
        sym: Sym,
        order: impl Fn(Sym, Sym) -> core::cmp::Ordering,
    ) {
        let at = self.near.partition_point(|(other_distance, other)| {
            other_distance.cmp(&distance).then_with(|| order(*other, sym)).is_lt()
        });
        if at < NEAR_MAX {
            self.near.insert(at, (distance, sym));
            self.near.truncate(NEAR_MAX);
        }
    }
}

/// Returns the nearest of some ids or names, each once.
fn nearest<'v>(
    all: impl Iterator<Item = &'v str>,
    distance: impl Fn(&str) -> Option<u32>,
) -> Vec<Namesake> {
    let mut near: Vec<(u32, &str)> = all.filter_map(|id| Some((distance(id)?, id))).collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(NEAR_MAX).map(|(_, id)| Namesake::of(id)).collect()
}
