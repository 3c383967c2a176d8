//! The side of the source: what it lists, written to sorted lists.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread;

use parking_lot::Mutex;
use rollcall_projections::{HeldKind, Millis};

use super::compare::{Digest, Home, Served, usable_id};
use super::ours::{Ours, shape_of};
use super::progress::Progress;
use super::shown::{Found, Moved, Shown};
use super::sort::{Entry, TextPlace, Texts, Unsorted};
use super::trouble::Trouble;
use crate::documents::Shape;
use crate::engine::Engine;
use crate::json::{fields, string};
use crate::percent::encoded;
use crate::sources::client::ListEnd;
use crate::sources::{Breakage, SourceClient, SourceError, SourcePage, Tries};
use crate::time;

/// The tries of one request.
const TRIES: Tries = Tries::AtMost(8);

/// The items of a page.
const PAGE: &str = "limit=100&order=asc";

/// The groups whose users are listed at once. The pace of requests is that of the source's bucket.
const GROUPS_AT_ONCE: usize = 4;

/// The memberships that wait to be written.
const MEMBERS_WAITING: usize = 1024;

/// An object as the source listed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) digest: Digest,
    /// False for a user whose state is not active.
    pub(super) active: bool,
    /// False if this object, once recorded, ends the user or group that the log holds in this
    /// list's directory.
    pub(super) goes_on: bool,
    /// Just before the request was sent that showed it.
    pub(super) asked_at: Millis,
    /// Its text, where that is kept.
    pub(super) text: Option<TextPlace>,
}

impl Seen {
    /// Reads a user in the list of a group, which is kept as the moment of the request alone.
    pub(super) fn of_member(entry: &Entry) -> io::Result<Seen> {
        let bytes = entry.value.first_chunk::<8>().ok_or(io::ErrorKind::InvalidData)?;
        let asked_at = Millis::from_le_bytes(*bytes);
        Ok(Seen { digest: Digest::default(), active: true, goes_on: true, asked_at, text: None })
    }

    /// Writes it as bytes.
    pub(super) fn encode(&self) -> Vec<u8> {
        let TextPlace { at, bytes } = self.text.unwrap_or(TextPlace { at: 0, bytes: 0 });
        let mut out = self.digest.to_vec();
        out.push(u8::from(self.active) | u8::from(self.goes_on) << 1);
        out.extend_from_slice(&self.asked_at.to_le_bytes());
        out.extend_from_slice(&at.to_le_bytes());
        out.extend_from_slice(&bytes.to_le_bytes());
        out
    }

    /// Reads it; `None` if these are not the bytes of one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Seen> {
        let (digest, rest) = bytes.split_first_chunk::<16>()?;
        let (flags, rest) = rest.split_first()?;
        let (asked_at, rest) = rest.split_first_chunk::<8>()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let (length, _) = rest.split_first_chunk::<4>()?;
        let place = TextPlace { at: u64::from_le_bytes(*at), bytes: u32::from_le_bytes(*length) };
        Some(Seen {
            digest: *digest,
            active: flags & 1 != 0,
            goes_on: flags & 2 != 0,
            asked_at: Millis::from_le_bytes(*asked_at),
            text: (place.bytes > 0).then_some(place),
        })
    }
}

/// A directory as the source shows it.
#[derive(Clone, Debug)]
pub(super) struct TheirDirectory {
    pub(super) id: String,
    pub(super) object: String,
    pub(super) asked_at: Millis,
}

impl TheirDirectory {
    /// Tells if it is active.
    pub(super) fn is_active(&self) -> bool {
        Served::their_directory(&self.object).active
    }

    /// Returns its organization; empty if it has none.
    pub(super) fn organization(&self) -> String {
        let [organization] = fields(&self.object, ["organization_id"]).unwrap_or_default();
        string(organization).unwrap_or_default().into_owned()
    }
}

/// Everything that the source lists, by directory.
pub(super) struct Lists<'f> {
    pub(super) groups: Unsorted<'f>,
    pub(super) users: Unsorted<'f>,
    /// By directory, group and user.
    pub(super) members: Unsorted<'f>,
    /// The objects of things that no record names.
    pub(super) texts: Texts,
    /// What the log holds in another directory.
    pub(super) moved: Moved,
}

impl<'f> Lists<'f> {
    /// Begins with empty lists.
    ///
    /// # Errors
    /// If a file cannot be made.
    pub(super) fn new(folder: &'f Path) -> io::Result<Lists<'f>> {
        let list = || Unsorted::new(folder);
        let (texts, moved) = (Texts::new(folder)?, Moved::default());
        Ok(Lists { groups: list(), users: list(), members: list(), texts, moved })
    }
}

/// The lists of a directory: if they are clean.
#[derive(Debug, Default)]
pub(super) struct Listed {
    /// False if some group had no usable id.
    pub(super) groups_clean: bool,
    /// False if some user had no usable id.
    pub(super) users_clean: bool,
    /// The groups whose users were listed.
    pub(super) groups: HashSet<String>,
    /// Those of them whose list was not clean.
    pub(super) undecided_groups: HashSet<String>,
}

/// Returns the engine, unless the server stops.
pub(super) fn engine_of(engine: &Weak<Engine>) -> Result<Arc<Engine>, Trouble> {
    let engine = engine.upgrade().filter(|engine| !engine.is_shutting_down());
    engine.ok_or_else(|| SourceError::Stopped.into())
}

/// Asks the source, and keeps what it shows.
pub(super) struct Lister<'a> {
    pub(super) source: &'a SourceClient,
    /// Not kept alive by a request that waits.
    pub(super) engine: &'a Weak<Engine>,
    pub(super) progress: &'a Progress,
    /// The directories that the source has, once they are known.
    pub(super) shown: &'a Shown,
}

/// Returns the key of ids in a sorted list: in order of the first, then of the next.
pub(super) fn key_of(ids: &[&str]) -> Vec<u8> {
    ids.join("\0").into_bytes()
}

/// Returns the ids of a key.
pub(super) fn ids_of<const N: usize>(key: &[u8]) -> io::Result<[&str; N]> {
    let text = std::str::from_utf8(key).map_err(io::Error::other)?;
    let ids: Vec<&str> = text.split('\0').collect();
    ids.try_into().map_err(|_| io::ErrorKind::InvalidData.into())
}

impl Lister<'_> {
    /// Returns the engine, for a moment.
    pub(super) fn engine(&self) -> Result<Arc<Engine>, Trouble> {
        engine_of(self.engine)
    }

    /// Reads a list page by page; the next page is asked for while one is looked at.
    pub(super) fn pages(
        &self,
        path: &str,
        mut each: impl FnMut(&str, Millis) -> Result<(), Trouble>,
    ) -> Result<ListEnd, Trouble> {
        thread::scope(|scope| {
            let (ahead, pages) = sync_channel(0);
            let ask =
                move || self.ask_pages(path, &mut |page| ahead.send(page).map_err(|_| given_up()));
            let asking = thread::Builder::new().spawn_scoped(scope, ask)?;
            for page in pages {
                each_item(&page, &mut each)?;
            }
            ended(asking)
        })
    }

    /// Asks for the pages of a list one after the other.
    fn ask_pages(
        &self,
        path: &str,
        take: &mut dyn FnMut(SourcePage) -> Result<(), Trouble>,
    ) -> Result<ListEnd, Trouble> {
        let mark = if path.contains('?') { '&' } else { '?' };
        self.source.pages(&format!("{path}{mark}{PAGE}"), TRIES, take)
    }

    /// Lists the directories, or the one that is asked for. The later of two with one id counts.
    /// Returns false with them if the list is not clean.
    pub(super) fn directories(
        &self,
        only: Option<&str>,
    ) -> Result<(Vec<TheirDirectory>, bool), Trouble> {
        if let Some(id) = only {
            return Ok((self.directory(id)?.into_iter().collect(), true));
        }
        let (mut found, mut clean) = (BTreeMap::new(), true);
        let end = self.pages("/directories", |object, asked_at| {
            match usable_id(Shape::Directory, object) {
                Some(id) => {
                    let object = object.to_owned();
                    found.insert(id.clone(), TheirDirectory { id, object, asked_at });
                }
                None => clean = false,
            }
            Ok(())
        })?;
        match end {
            ListEnd::Ended => Ok((found.into_values().collect(), clean)),
            ListEnd::Unknown => Err(SourceError::NotFound.into()),
        }
    }

    /// Asks for one directory; `None` if the source has none with this id.
    pub(super) fn directory(&self, id: &str) -> Result<Option<TheirDirectory>, Trouble> {
        match self.look(Shape::Directory, id)? {
            Look::Present { object, asked_at } => {
                Ok(Some(TheirDirectory { id: id.to_owned(), object, asked_at }))
            }
            Look::Absent { .. } => Ok(None),
            Look::Undecided(error) => Err(error.into()),
        }
    }

    /// Asks for one thing by its id.
    pub(super) fn look(&self, shape: Shape, id: &str) -> Result<Look, Trouble> {
        let collection = match shape {
            Shape::Directory => "directories",
            Shape::User => "directory_users",
            Shape::Group => "directory_groups",
        };
        let asked_at = time::now_ms();
        let answer = match self.source.object(&format!("/{collection}/{}", encoded(id)), TRIES) {
            Ok(answer) => answer,
            Err(SourceError::NotFound) => return Ok(Look::Absent { asked_at }),
            Err(
                error @ (SourceError::Forbidden
                | SourceError::Refused(_)
                | SourceError::Unavailable(_)),
            ) => return Ok(Look::Undecided(error)),
            Err(error) => return Err(error.into()),
        };
        let object = std::str::from_utf8(&answer.body).unwrap_or_default().trim();
        Ok(match usable_id(shape, object) {
            Some(shown) if shown == id => {
                Look::Present { object: object.to_owned(), asked_at: answer.asked_at }
            }
            _ => Look::Undecided(SourceError::Unavailable(Breakage::Unreadable)),
        })
    }

    /// Lists everything of a directory: its groups, its users, and the users of each group.
    pub(super) fn list(
        &self,
        directory: &TheirDirectory,
        lists: &mut Lists<'_>,
    ) -> Result<Listed, Trouble> {
        let mut listed = Listed::default();
        listed.groups_clean = self.things(HeldKind::Group, directory, lists, &mut |id| {
            listed.groups.insert(id.to_owned());
        })?;
        listed.users_clean = self.things(HeldKind::User, directory, lists, &mut |_| {})?;
        listed.undecided_groups = self.members(&directory.id, &listed.groups, lists)?;
        Ok(listed)
    }

    /// Lists the users of groups, of some at once. Returns the groups whose list is not clean.
    fn members(
        &self,
        directory: &str,
        groups: &HashSet<String>,
        lists: &mut Lists<'_>,
    ) -> Result<HashSet<String>, Trouble> {
        let left = Mutex::new(groups.iter());
        thread::scope(|scope| {
            let (found, members) = sync_channel(MEMBERS_WAITING);
            let mut asking = Vec::new();
            for _ in 0..groups.len().min(GROUPS_AT_ONCE) {
                let (left, found) = (&left, found.clone());
                let ask = move || {
                    let next = || left.lock().next();
                    self.members_of_each(directory, std::iter::from_fn(next), &found)
                };
                asking.push(thread::Builder::new().spawn_scoped(scope, ask)?);
            }
            drop(found);
            for (key, asked_at) in members {
                lists.members.add(key, asked_at.to_le_bytes().to_vec())?;
            }
            let mut undecided = HashSet::new();
            for asking in asking {
                undecided.extend(ended(asking)?);
            }
            Ok(undecided)
        })
    }

    /// Lists the users of groups one after the other.
    fn members_of_each<'g>(
        &self,
        directory: &str,
        groups: impl Iterator<Item = &'g String>,
        found: &SyncSender<(Vec<u8>, Millis)>,
    ) -> Result<Vec<String>, Trouble> {
        let mut undecided = Vec::new();
        for group in groups {
            let clean = self.list_members(directory, group, &mut |user, asked_at| {
                self.progress.count_membership();
                let key = key_of(&[directory, group, user]);
                found.send((key, asked_at)).map_err(|_| given_up())
            })?;
            if !clean {
                undecided.push(group.clone());
            }
        }
        Ok(undecided)
    }

    /// Lists the users or groups of a directory. The text is kept of those that no record names.
    /// Returns false if the list is not clean.
    fn things(
        &self,
        kind: HeldKind,
        directory: &TheirDirectory,
        lists: &mut Lists<'_>,
        each: &mut dyn FnMut(&str),
    ) -> Result<bool, Trouble> {
        let organization = directory.organization();
        let home = Home { directory: &directory.id, organization: &organization };
        let Lists { groups, users, texts, moved, .. } = lists;
        let list = if kind == HeldKind::Group { groups } else { users };
        self.list_kind(kind, &directory.id, &mut |id, object, asked_at| {
            each(id);
            self.progress.count(kind);
            let served = Served::theirs(shape_of(kind), object, home);
            let engine = self.engine()?;
            let ours = Ours::now(&engine);
            let (is_new, holding) = {
                let views = engine.views();
                (!views.ever_held(kind, id), views.holding(kind, id, ours.cut))
            };
            let found = Found { listed_in: &directory.id, object, active: served.active };
            if let Some(holding) = holding.filter(|held| held.directory != directory.id) {
                moved.note(kind, id, self.shown.goes_on(kind, &holding.directory, &found));
            }
            let text = is_new.then(|| texts.add(object)).transpose()?;
            let goes_on = self.shown.goes_on(kind, &directory.id, &found);
            let (digest, active) = (served.digest(), served.active);
            let seen = Seen { digest, active, goes_on, asked_at, text };
            Ok(list.add(key_of(&[&directory.id, id]), seen.encode())?)
        })
    }

    /// Reads the list of a directory's users or groups. Returns false if it is not clean.
    pub(super) fn list_kind(
        &self,
        kind: HeldKind,
        directory: &str,
        each: &mut dyn FnMut(&str, &str, Millis) -> Result<(), Trouble>,
    ) -> Result<bool, Trouble> {
        let (collection, what) = match kind {
            HeldKind::Group => ("/directory_groups", "the list of its groups"),
            HeldKind::User => ("/directory_users", "the list of its users"),
        };
        let path = format!("{collection}?directory={}", encoded(directory));
        let mut clean = true;
        let end = self.pages(&path, |object, asked_at| {
            match usable_id(shape_of(kind), object) {
                Some(id) => each(&id, object, asked_at)?,
                None => clean = false,
            }
            Ok(())
        });
        if end.map_err(|error| error.about(what))? == ListEnd::Unknown {
            return Err(Trouble::from(SourceError::NotFound).about(what));
        }
        if !clean {
            self.doubt_list(directory, what);
        }
        Ok(clean)
    }

    /// Notes that a list is not clean.
    fn doubt_list(&self, directory: &str, what: &str) {
        self.progress.doubt(directory, format!("{what} has an object without a usable id"));
    }

    /// Reads the list of the users of a directory's group. Returns false if it is not clean.
    pub(super) fn list_members(
        &self,
        directory: &str,
        group: &str,
        each: &mut dyn FnMut(&str, Millis) -> Result<(), Trouble>,
    ) -> Result<bool, Trouble> {
        let path = format!("/directory_users?group={}", encoded(group));
        let mut clean = true;
        let mut each_user = |object: &str, asked_at| {
            match usable_id(Shape::User, object) {
                Some(user) => each(&user, asked_at)?,
                None => clean = false,
            }
            Ok(())
        };
        let what = format!("the list of the users of group {group}");
        let end = self.ask_pages(&path, &mut |page| each_item(&page, &mut each_user));
        let end = end.map_err(|error| error.about(&what))?;
        // A group that went under way is looked for again by its id.
        if end == ListEnd::Unknown {
            self.progress.doubt(directory, format!("{what}: {}", SourceError::NotFound));
        } else if !clean {
            self.doubt_list(directory, &what);
        }
        Ok(clean && end == ListEnd::Ended)
    }
}

fn each_item(
    page: &SourcePage,
    each: &mut impl FnMut(&str, Millis) -> Result<(), Trouble>,
) -> Result<(), Trouble> {
    for item in &page.items {
        each(std::str::from_utf8(item).unwrap_or_default(), page.asked_at)?;
    }
    Ok(())
}

/// The end of a list that is not read any further, because its reader has failed.
fn given_up() -> Trouble {
    Trouble::Run("a list was not read to its end".into())
}

/// Waits for the end of a thread.
fn ended<T>(thread: thread::ScopedJoinHandle<'_, Result<T, Trouble>>) -> Result<T, Trouble> {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The answer about one thing.
pub(super) enum Look {
    /// It is there.
    Present { object: String, asked_at: Millis },
    /// The source knows nothing of it.
    Absent { asked_at: Millis },
    /// The answer decides nothing.
    Undecided(SourceError),
}
