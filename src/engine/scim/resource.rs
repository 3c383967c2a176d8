//! A user or group as SCIM knows it: what the views keep of it, and its document from the log.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rollcall_projections::{Millis, ObservedThing, ScimId, ScimKind, ScimResource, Seq, Views};

use super::{ScimError, ScimShowing, ScimShown, not_found, version};
use crate::documents::snapshot;
use crate::engine::Engine;
use crate::json;
use crate::log::ReadError;
use crate::scim::{Document, Filter, GroupOf, Kind, MemberOf, Related, Shown, Snapshot};

/// The most bytes of documents that are kept in memory, about.
const CACHE_BYTES_MAX: u64 = 32 << 20;

/// The members that are looked at under one lock.
pub(super) const MEMBERS_STEP: usize = 2048;

/// The tries to show a resource that changes meanwhile.
const TRIES: usize = 4;

/// The most members of a group that is shown after each change, if nothing is asked for.
const SHOWN_MEMBERS_MAX: usize = 1000;

/// The documents of requests, by the seq of their records.
pub(in crate::engine) struct ScimDocuments {
    cache: Cache<Seq, Arc<Document>, ByBytes>,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<Seq, Arc<Document>> for ByBytes {
    fn weight(&self, _: &Seq, document: &Arc<Document>) -> u64 {
        // A parsed document takes several times its text.
        4 * document.text().len() as u64 + 256
    }
}

impl Default for ScimDocuments {
    fn default() -> ScimDocuments {
        ScimDocuments { cache: Cache::with_weighter(8192, CACHE_BYTES_MAX, ByBytes) }
    }
}

/// The views to decide over: of all that is folded, or of the records before one. The engine is
/// hidden here, so that a decision can ask no other views.
#[derive(Clone, Copy)]
pub(super) struct Known<'a> {
    engine: &'a Engine,
    /// The views before a record; `None` for those that serve.
    before: Option<&'a Views>,
}

impl<'a> Known<'a> {
    /// Knows all that is folded.
    pub(super) fn now(engine: &'a Engine) -> Known<'a> {
        Known { engine, before: None }
    }

    /// Knows only the records that some views hold.
    pub(super) fn before(engine: &'a Engine, views: &'a Views) -> Known<'a> {
        Known { engine, before: Some(views) }
    }

    /// Reads the bodies of records, in the order asked for.
    ///
    /// # Errors
    /// If one cannot be read.
    pub(super) fn bodies(&self, seqs: &[Seq]) -> Result<Vec<Bytes>, ReadError> {
        self.engine.log.bodies(seqs)
    }

    /// Asks the views, under a lock that must be short.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&Views) -> T) -> T {
        match self.before {
            Some(views) => question(views),
            None => question(&self.engine.views()),
        }
    }

    /// Returns a resource with its document, if it is there.
    pub(super) fn held(
        &self,
        directory: &str,
        kind: Kind,
        id: &str,
    ) -> Result<Option<Held>, ReadError> {
        let found = self.ask(|views| {
            let scim = views.scim();
            scim.resource(directory, scim_kind(kind), id).map(|found| Held::of(views, found))
        });
        let Some(mut held) = found else { return Ok(None) };
        held.document = self.engine.scim_document(held.seq)?;
        Ok(Some(held))
    }

    /// Returns the last snapshot of a living directory user or group.
    pub(super) fn snapshot(
        &self,
        directory: &str,
        kind: Kind,
        object: &str,
    ) -> Result<Option<Snapshot>, ReadError> {
        let seq = self.ask(|views| described_by(views, directory, kind, object));
        let bodies = self.bodies(&Vec::from_iter(seq))?;
        Ok(bodies.first().and_then(snapshot_of))
    }
}

/// Returns the record with the last snapshot of a living directory user or group.
pub(super) fn described_by(
    views: &Views,
    directory: &str,
    kind: Kind,
    object: &str,
) -> Option<Seq> {
    views.described_by(match kind {
        Kind::User => ObservedThing::User(object, directory),
        Kind::Group => ObservedThing::Group(object, directory),
    })
}

/// Reads the snapshot in the body of an event that created or changed a user or group.
pub(super) fn snapshot_of(body: &Bytes) -> Option<Snapshot> {
    Snapshot::of_data(snapshot(body, rollcall_projections::Part::Data))
}

/// A resource that is there.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) id: ScimId,
    pub(super) kind: Kind,
    /// The record with its document.
    pub(super) seq: Seq,
    /// The record that its ETag names.
    pub(super) etag_seq: Seq,
    pub(super) created_at: Millis,
    pub(super) modified_at: Millis,
    pub(super) active: bool,
    /// The living directory user or group that it is.
    pub(super) object: Option<String>,
    pub(super) member_count: usize,
    pub(super) document: Arc<Document>,
}

impl Held {
    /// Reads what the views keep, without the document.
    pub(super) fn of(views: &Views, found: &ScimResource) -> Held {
        Held {
            id: found.id,
            kind: kind_of(found.kind),
            seq: found.seq,
            etag_seq: found.etag_seq,
            created_at: found.created_at,
            modified_at: found.modified_at,
            active: found.active,
            object: views.scim().object_of(found).map(str::to_owned),
            member_count: found.member_count(),
            document: Arc::default(),
        }
    }

    pub(super) fn version(&self) -> String {
        version(self.etag_seq)
    }
}

pub(super) fn scim_kind(kind: Kind) -> ScimKind {
    match kind {
        Kind::User => ScimKind::User,
        Kind::Group => ScimKind::Group,
    }
}

/// Reads the id by which a filter names a member or a group: it is compared without case.
pub(super) fn id_in_any_case(id: &str) -> Option<ScimId> {
    ScimId::parse(&id.to_ascii_lowercase())
}

pub(super) fn kind_of(kind: ScimKind) -> Kind {
    match kind {
        ScimKind::User => Kind::User,
        ScimKind::Group => Kind::Group,
    }
}

/// The memberships of a resource, looked up when they are needed. Locks are short.
pub(super) struct RelatedTo<'a> {
    pub(super) known: Known<'a>,
    pub(super) id: ScimId,
}

/// A member of a group.
struct Added {
    id: ScimId,
    /// The record that added it.
    seq: Seq,
    member: MemberOf,
}

impl RelatedTo<'_> {
    fn ask<T: Default>(&self, question: impl FnOnce(&Views, &ScimResource) -> T) -> T {
        self.known.ask(|views| {
            let found = views.scim().resource_by_id(self.id).filter(|found| !found.deleted);
            found.map(|found| question(views, found)).unwrap_or_default()
        })
    }

    /// Returns some members after one.
    fn members_after(&self, after: Option<ScimId>) -> Vec<Added> {
        self.ask(|views, group| {
            let scim = views.scim();
            let after = after.and_then(|id| scim.resource_by_id(id));
            let members = scim.members(group, after).take(MEMBERS_STEP);
            let member = |member: rollcall_projections::ScimMember<'_>| {
                let (id, kind) = (member.resource.id, kind_of(member.resource.kind));
                let member_of = MemberOf { id: id.to_string(), kind, display: None };
                Added { id, seq: member.added_seq, member: member_of }
            };
            members.map(member).collect()
        })
    }

    /// Returns the ids of the members that the filter of a path finds. It looks at every member.
    ///
    /// # Errors
    /// If the log cannot be read: some members might be missing then.
    pub(super) fn members_found_by(&self, filter: &Filter) -> Result<Vec<ScimId>, ReadError> {
        let mut found = Vec::new();
        self.each_member(
            |step| self.known.engine.scim_displays(step),
            |id, member| {
                if filter.matches_member(&member) {
                    found.push(id);
                }
            },
        )?;
        Ok(found)
    }

    /// Walks over all members, in steps, with the names that `displays` returns for them.
    fn each_member<E>(
        &self,
        displays: impl Fn(&[Added]) -> Result<Vec<Option<String>>, E>,
        mut each: impl FnMut(ScimId, MemberOf),
    ) -> Result<(), E> {
        let mut after = None;
        loop {
            let step = self.members_after(after);
            let is_last = step.len() < MEMBERS_STEP;
            after = step.last().map(|added| added.id);
            let displays = displays(&step)?;
            let shown = step.into_iter().zip(displays);
            shown.for_each(|(added, display)| each(added.id, MemberOf { display, ..added.member }));
            if is_last {
                return Ok(());
            }
        }
    }
}

impl Related for RelatedTo<'_> {
    fn members(&self) -> Vec<MemberOf> {
        let mut all = Vec::new();
        // Names are for people: without them the members are shown all the same.
        let displays = |step: &[Added]| {
            let displays = self.known.engine.scim_displays(step);
            Ok::<_, Infallible>(displays.unwrap_or_else(|_| vec![None; step.len()]))
        };
        let Ok(()) = self.each_member(displays, |_, member| all.push(member));
        all
    }

    fn is_member(&self, id: &str) -> bool {
        self.ask(|views, group| {
            let scim = views.scim();
            let member = id_in_any_case(id).and_then(|id| scim.resource_by_id(id));
            member.is_some_and(|member| scim.is_member(group, member))
        })
    }

    fn groups(&self) -> Vec<GroupOf> {
        let groups: Vec<(ScimId, Seq)> = self.ask(|views, member| {
            views.scim().groups_of(member).map(|group| (group.id, group.seq)).collect()
        });
        let group = |(id, seq): (ScimId, Seq)| {
            let document = self.known.engine.scim_document(seq).ok();
            let display = document.and_then(|text| text.display_name().map(str::to_owned));
            GroupOf { id: id.to_string(), display }
        };
        groups.into_iter().map(group).collect()
    }

    fn is_in(&self, id: &str) -> bool {
        self.ask(|views, member| {
            let scim = views.scim();
            let group = id_in_any_case(id).and_then(|id| scim.resource_by_id(id));
            group.is_some_and(|group| scim.is_member(group, member))
        })
    }
}

impl Engine {
    /// Returns the document in the record of a request, from memory or the log.
    pub(super) fn scim_document(&self, seq: Seq) -> Result<Arc<Document>, ReadError> {
        if let Some(document) = self.scim_documents.cache.get(&seq) {
            return Ok(document);
        }
        let bodies = self.log.bodies(&[seq])?;
        Ok(self.keep_scim_document(seq, bodies.first()))
    }

    /// Reads the documents of some records, each frame of the log once.
    pub(super) fn scim_documents(&self, seqs: &[Seq]) -> Result<Vec<Arc<Document>>, ReadError> {
        let found: Vec<_> = seqs.iter().map(|seq| self.scim_documents.cache.get(seq)).collect();
        let mut missing: Vec<Seq> = seqs
            .iter()
            .zip(&found)
            .filter(|(_, document)| document.is_none())
            .map(|(seq, _)| *seq)
            .collect();
        missing.sort_unstable();
        missing.dedup();
        let bodies = self.log.bodies(&missing)?;
        let read: HashMap<Seq, Arc<Document>> = missing
            .iter()
            .zip(&bodies)
            .map(|(seq, body)| (*seq, self.keep_scim_document(*seq, Some(body))))
            .collect();
        let one = |(seq, document): (&Seq, Option<Arc<Document>>)| {
            document.or_else(|| read.get(seq).cloned()).unwrap_or_default()
        };
        Ok(seqs.iter().zip(found).map(one).collect())
    }

    fn keep_scim_document(&self, seq: Seq, body: Option<&Bytes>) -> Arc<Document> {
        let document = Arc::new(body.and_then(|body| document_in(body)).unwrap_or_default());
        self.scim_documents.cache.insert(seq, document.clone());
        document
    }

    /// Returns the names that clients gave to members, from the records that added them.
    fn scim_displays(&self, members: &[Added]) -> Result<Vec<Option<String>>, ReadError> {
        let mut seqs: Vec<Seq> = members.iter().map(|added| added.seq).collect();
        seqs.sort_unstable();
        seqs.dedup();
        // A record may also name members whom a later one added again.
        let mut names = HashMap::new();
        for step in seqs.chunks(256) {
            for (seq, body) in step.iter().zip(self.log.bodies(step)?) {
                let named = displays_in(&body).into_iter();
                names.extend(named.map(|(id, display)| ((*seq, id), display)));
            }
        }
        let name = |added: &Added| names.remove(&(added.seq, added.id));
        Ok(members.iter().map(name).collect())
    }

    /// Returns a resource as it is shown; without its body if its version is not wanted.
    ///
    /// # Errors
    /// 404 if there is none; if the log cannot be read.
    pub(super) fn shown_resource(
        &self,
        directory: &str,
        kind: Kind,
        id: &str,
        showing: &ScimShowing,
        is_wanted: &dyn Fn(&str) -> bool,
    ) -> Result<ScimShown, ScimError> {
        let known = Known::now(self);
        let held = || known.held(directory, kind, id)?.ok_or(ScimError::from(not_found(kind)));
        let mut one = held()?;
        for _ in 0..TRIES {
            if !is_wanted(&one.version()) {
                return Ok(self.shown_bare(&one, showing));
            }
            let shown = self.show(&one, showing);
            // A change meanwhile would show its members under the version before.
            let again = held()?;
            if again.etag_seq == one.etag_seq {
                return Ok(shown);
            }
            one = again;
        }
        Ok(self.show(&one, showing))
    }

    /// Shows a resource.
    pub(super) fn show(&self, held: &Held, showing: &ScimShowing) -> ScimShown {
        self.with_shown(held, &showing.base, |shown| ScimShown {
            version: shown.etag(),
            location: shown.location(),
            body: Some(shown.render(&showing.projection)),
        })
    }

    /// Shows a resource after a PATCH: a large group without its body, unless attributes are asked
    /// for.
    pub(super) fn shown_after_patch(&self, held: &Held, showing: &ScimShowing) -> ScimShown {
        if !is_too_large_to_show(held.member_count) || showing.projection.names_attributes() {
            return self.show(held, showing);
        }
        self.shown_bare(held, showing)
    }

    /// Shows the version of a resource without its body.
    fn shown_bare(&self, held: &Held, showing: &ScimShowing) -> ScimShown {
        self.with_shown(held, &showing.base, |shown| ScimShown {
            version: shown.etag(),
            location: shown.location(),
            body: None,
        })
    }

    /// Hands a resource with all that an answer needs to a function.
    pub(super) fn with_shown<T>(
        &self,
        held: &Held,
        base: &str,
        work: impl FnOnce(&Shown<'_>) -> T,
    ) -> T {
        let related = RelatedTo { known: Known::now(self), id: held.id };
        let id = held.id.to_string();
        work(&Shown {
            kind: held.kind,
            id: &id,
            document: &held.document,
            created: held.created_at,
            last_modified: held.modified_at,
            version: held.etag_seq,
            base,
            related: &related,
        })
    }
}

/// Returns true for a group with so many members that it is not shown after each change.
pub(super) fn is_too_large_to_show(members: usize) -> bool {
    members > SHOWN_MEMBERS_MAX
}

/// Reads the document in the body of a request's record.
fn document_in(body: &[u8]) -> Option<Document> {
    let [data] = json::fields(std::str::from_utf8(body).ok()?, ["data"])?;
    let [resource] = json::fields_of(data, ["resource"])?;
    let [document] = json::fields_of(resource, ["document"])?;
    Document::parse(document?.get())
}

/// Reads the names of the members that came in a record of members.
fn displays_in(body: &[u8]) -> Vec<(ScimId, String)> {
    // Most clients give none: a large group is shown without parsing its records.
    if memchr::memmem::find(body, b"\"display\":").is_none() {
        return Vec::new();
    }
    let read = || {
        let [data] = json::fields(std::str::from_utf8(body).ok()?, ["data"])?;
        let [added] = json::fields_of(data, ["added"])?;
        let member = |member: &serde_json::value::RawValue| {
            let [value, display] = json::fields_of(Some(member), ["value", "display"])?;
            Some((ScimId::parse(&json::string(value)?)?, json::string(display)?.into_owned()))
        };
        Some(json::array(added)?.into_iter().filter_map(member).collect())
    };
    read().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_names_a_member_in_any_case() {
        let id = "0198aaaa-0000-7000-8000-00000000000f";
        let found = id_in_any_case(&id.to_uppercase()).map(|found| found.to_string());
        assert_eq!(found.as_deref(), Some(id));
        assert_eq!(id_in_any_case("bjensen"), None);
    }
}
