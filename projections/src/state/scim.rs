//! The state of SCIM: directories that identity providers push into, their tokens, and the users
//! and groups as SCIM knows them. It is a fold of Rollcall's own records in order of seq, and of
//! nothing else, so that nothing that another source sends changes it.

use core::ops::{Range, RangeInclusive};
use std::collections::{BTreeMap, BTreeSet};

use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;
use smallvec::SmallVec;

use crate::ground::fact::{
    Deactivation, Fingerprint, ScimId, ScimKeys, ScimKind, ScimRequestData, TokenData,
};
use crate::ground::memory;
use crate::ground::order::{Millis, Seq, Seq32, seq32};
use crate::ground::pack::{Pack, Packer, Unpacker, pack_fields, pack_variants};
use crate::ground::seqs::Seqs;
use crate::ground::symbols::{NO_SYM, Sym, Symbols};

/// The absence of a number.
const NONE: u32 = u32::MAX;

/// The state of SCIM in all directories that were ever created for it.
#[derive(Default)]
pub struct Scim {
    /// The ids of directories; a directory's symbol is its number.
    directory_ids: Symbols,
    directories: Vec<ScimDirectory>,
    /// The ids of directory users and directory groups.
    object_ids: Symbols,
    /// The resource that each of them is or was. The symbol is the position.
    resource_of_object: Vec<u32>,
    resources: Vec<ScimResource>,
    numbers: HashMap<ScimId, u32, FxBuildHasher>,
    /// By directory, index and fingerprint: the resources that are there.
    found_by: HashMap<(u32, ScimIndex, Fingerprint), SmallVec<[u32; 1]>, FxBuildHasher>,
    /// Each group with each of its members, and the record that added it.
    members: BTreeMap<(u32, u32), Seq32>,
    /// The same pairs, the member first.
    groups: BTreeSet<(u32, u32)>,
    /// In order of seq.
    requests: Vec<ScimRequest>,
    /// By resource: the numbers of its requests.
    requests_of: Vec<SmallVec<[u32; 2]>>,
    /// Every record of SCIM, in order of seq, with a hash of what it states.
    records: Vec<ScimRecord>,
}

/// A record of SCIM, for comparing two folds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ScimRecord {
    pub(crate) seq: Seq32,
    /// A hash of its statement and of the state that it changed.
    pub(crate) hash: u64,
}

/// A directory that identity providers push into.
#[derive(Default)]
pub struct ScimDirectory {
    /// The treatment of users whom the identity provider makes inactive.
    pub deactivation: Deactivation,
    /// The record that created it.
    pub created_seq: Seq,
    /// The record that deleted it; `None` while it is there.
    pub deleted_seq: Option<Seq>,
    /// The latest moment at which a record of SCIM, or an event of it, occurred in the directory.
    pub last_at: Millis,
    /// Its tokens, in the order in which they were created.
    pub tokens: Vec<ScimToken>,
    /// The numbers of the users and groups that are there, in order of creation.
    listed: [Vec<u32>; 2],
    /// The numbers of its requests.
    requests: Vec<u32>,
    /// The records of its dsync events that identity providers caused.
    events: Seqs,
    /// The number of records, of requests' members and of events, after its last request.
    after_last: u32,
    /// The membership events that its last request must become and that are not there yet. A stop
    /// in the middle of a large change leaves some.
    owed: u32,
}

/// A bearer token of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScimToken {
    /// Its id.
    pub id: Box<str>,
    /// Its last characters.
    pub suffix: Box<str>,
    /// SHA-256 of the whole token.
    pub sha256: [u8; 32],
    /// When it was created.
    pub created_at: Millis,
    /// The record that created it.
    pub created_seq: Seq,
    /// The moment from which on it is no longer taken.
    pub expires_at: Option<Millis>,
    /// When it was revoked, or its directory deleted.
    pub revoked_at: Option<Millis>,
}

/// A user or group as SCIM knows it.
#[derive(Clone, Debug)]
pub struct ScimResource {
    /// Its id in SCIM.
    pub id: ScimId,
    /// The kind of thing.
    pub kind: ScimKind,
    /// False for a user who is inactive.
    pub active: bool,
    /// True once it is deleted.
    pub deleted: bool,
    /// The newest request that changed it, which has its document.
    pub seq: Seq,
    /// The request that its ETag names: the newest that changed it, or that deleted a member of the
    /// group.
    pub etag_seq: Seq,
    /// When the request of the ETag occurred.
    pub modified_at: Millis,
    /// The request that created it.
    pub created_seq: Seq,
    /// When that request occurred.
    pub created_at: Millis,
    /// When the request occurred that made its present directory user or group.
    pub object_since: Millis,
    /// Fingerprint of a user's `userName` in lower case.
    pub user_name: Option<Fingerprint>,
    /// Fingerprint of the `displayName` in lower case.
    pub display_name: Option<Fingerprint>,
    /// Fingerprint of the `externalId`.
    pub external_id: Option<Fingerprint>,
    /// Fingerprints of the values of `emails` in lower case.
    emails: SmallVec<[Fingerprint; 1]>,
    number: u32,
    directory: u32,
    /// The directory user or group that it is.
    object: Sym,
    /// The number of members of a group.
    member_count: u32,
}

/// An index over the resources of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ScimIndex {
    /// By `userName` in lower case.
    UserName,
    /// By a user's `displayName` in lower case.
    UserDisplayName,
    /// By a group's `displayName` in lower case.
    GroupDisplayName,
    /// By a user's `externalId`.
    UserExternalId,
    /// By a group's `externalId`.
    GroupExternalId,
    /// By a value of `emails` in lower case.
    Email,
}

/// A member of a group.
#[derive(Clone, Copy, Debug)]
pub struct ScimMember<'a> {
    /// The user or group.
    pub resource: &'a ScimResource,
    /// The record of members that added it.
    pub added_seq: Seq,
}

/// A request that changed a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScimRequest {
    /// Its record.
    pub seq: Seq,
    directory: u32,
    resource: u32,
    /// The directory user or group that the resource was before the request.
    object_before: Sym,
    /// The directory user or group that the resource is after the request.
    object: Sym,
    /// The number of events of the directory before the request.
    events_before: u32,
}

/// Returns at most `count_max` requests of a list, which is in order of seq: those among the
/// records `seqs`, beginning with the first, or with the last if `descending`.
fn part_of_requests<T>(
    list: &[T],
    request: impl Fn(&T) -> Option<ScimRequest>,
    seqs: RangeInclusive<Seq>,
    descending: bool,
    count_max: usize,
) -> Vec<ScimRequest> {
    let place =
        |first: Seq| list.partition_point(|item| request(item).is_some_and(|one| one.seq < first));
    let (from, until) = (place(*seqs.start()), place(seqs.end().saturating_add(1)));
    let part = list.get(from..until).unwrap_or(&[]).iter().filter_map(&request);
    if descending { part.rev().take(count_max).collect() } else { part.take(count_max).collect() }
}

/// The place of a record of SCIM in both clocks.
#[derive(Clone, Copy)]
pub(crate) struct ScimPlace {
    pub(crate) seq: Seq,
    pub(crate) occurred_at: Millis,
}

fn position(kind: ScimKind) -> usize {
    match kind {
        ScimKind::User => 0,
        ScimKind::Group => 1,
    }
}

impl Scim {
    /// Returns true if any directory was ever created for identity providers.
    pub fn is_used(&self) -> bool {
        !self.directories.is_empty()
    }

    fn directory_number(&self, id: &str) -> Option<u32> {
        self.directory_ids.find(id)
    }

    /// Returns a directory, also if it is deleted.
    pub fn directory(&self, id: &str) -> Option<&ScimDirectory> {
        self.directories.get(self.directory_number(id)? as usize)
    }

    /// Iterates over the directories with their ids, in order of creation, deleted ones too.
    pub fn directories(&self) -> impl Iterator<Item = (&str, &ScimDirectory)> {
        (0..).map(|number| self.directory_ids.text(number)).zip(&self.directories)
    }

    /// Returns the live token of a directory with this SHA-256 at `now`. Compares with all of its
    /// tokens in a time that does not depend on the bytes.
    pub fn live_token(
        &self,
        directory: &str,
        sha256: &[u8; 32],
        now: Millis,
    ) -> Option<&ScimToken> {
        let directory = self.directory(directory).filter(|one| one.is_there())?;
        let mut found = None;
        for token in &directory.tokens {
            let difference = token.sha256.iter().zip(sha256).fold(0, |sum, (a, b)| sum | (a ^ b));
            if core::hint::black_box(difference) == 0 {
                found = Some(token);
            }
        }
        found.filter(|token| token.is_live(now))
    }

    /// Returns a user or group that is there.
    pub fn resource(&self, directory: &str, kind: ScimKind, id: &str) -> Option<&ScimResource> {
        let directory = self.directory_number(directory)?;
        let resource = self.resource_by_id(ScimId::parse(id)?)?;
        let fits = resource.directory == directory && resource.kind == kind;
        (fits && !resource.deleted).then_some(resource)
    }

    /// Returns a user or group of any directory, also if it is deleted.
    pub fn resource_by_id(&self, id: ScimId) -> Option<&ScimResource> {
        self.by_number(*self.numbers.get(&id)?)
    }

    /// Returns the resource that a directory user or directory group is, or was last.
    pub fn resource_of_object(&self, object: &str) -> Option<&ScimResource> {
        let object = self.object_ids.find(object)?;
        self.by_number(*self.resource_of_object.get(object as usize)?)
    }

    /// Iterates over the resources that are there and have a fingerprint, in no order.
    pub fn find(
        &self,
        directory: &str,
        index: ScimIndex,
        fingerprint: Fingerprint,
    ) -> impl Iterator<Item = &ScimResource> {
        let directory = self.directory_number(directory).unwrap_or(NONE);
        let found = self.found_by.get(&(directory, index, fingerprint));
        found.into_iter().flatten().filter_map(|number| self.by_number(*number))
    }

    /// Returns the number of users or groups that are there.
    pub fn count(&self, directory: &str, kind: ScimKind) -> usize {
        self.listed(directory, kind).len()
    }

    /// Iterates over the users or groups that are there, in order of creation, from number `first`
    /// on, counted from 0.
    pub fn list(
        &self,
        directory: &str,
        kind: ScimKind,
        first: usize,
    ) -> impl Iterator<Item = &ScimResource> {
        let rest = self.listed(directory, kind).get(first..).unwrap_or(&[]);
        rest.iter().filter_map(|number| self.by_number(*number))
    }

    /// Iterates over the users or groups that are there and were created after record `after`, in
    /// order of creation. Finds the first in O(log n), whatever left the list meanwhile.
    pub fn list_after(
        &self,
        directory: &str,
        kind: ScimKind,
        after: Seq,
    ) -> impl Iterator<Item = &ScimResource> {
        let listed = self.listed(directory, kind);
        let is_before =
            |number: &u32| self.by_number(*number).is_some_and(|one| one.created_seq <= after);
        let rest = listed.get(listed.partition_point(is_before)..).unwrap_or(&[]);
        rest.iter().filter_map(|number| self.by_number(*number))
    }

    fn listed(&self, directory: &str, kind: ScimKind) -> &[u32] {
        let listed = self.directory(directory).and_then(|one| one.listed.get(position(kind)));
        listed.map_or(&[], Vec::as_slice)
    }

    /// Iterates over the members of a group, in order of their creation, those created after
    /// `after` if that is given.
    pub fn members<'a>(
        &'a self,
        group: &ScimResource,
        after: Option<&ScimResource>,
    ) -> impl Iterator<Item = ScimMember<'a>> {
        let first = after.map_or(0, |member| member.number.saturating_add(1));
        let members = self.members.range((group.number, first)..=(group.number, NONE));
        members.filter_map(|((_, member), seq)| {
            let resource = self.by_number(*member)?;
            Some(ScimMember { resource, added_seq: Seq::from(*seq) })
        })
    }

    /// Iterates over the groups that a user or group is in, in order of their creation.
    pub fn groups_of<'a>(
        &'a self,
        member: &ScimResource,
    ) -> impl Iterator<Item = &'a ScimResource> {
        let groups = self.groups.range((member.number, 0)..=(member.number, NONE));
        groups.filter_map(|(_, group)| self.by_number(*group))
    }

    /// Returns true if a user or group is a member of a group. O(log n).
    pub fn is_member(&self, group: &ScimResource, member: &ScimResource) -> bool {
        self.members.contains_key(&(group.number, member.number))
    }

    /// Returns the living directory user or directory group that a resource is, if it is one.
    pub fn object_of(&self, resource: &ScimResource) -> Option<&str> {
        self.object_text(resource.object)
    }

    fn object_text(&self, object: Sym) -> Option<&str> {
        (object != NO_SYM).then(|| self.object_ids.text(object))
    }

    /// Returns the id of a resource's directory.
    pub fn directory_of(&self, resource: &ScimResource) -> &str {
        self.directory_ids.text(resource.directory)
    }

    /// Returns the newest request of a directory, and the number of records that SCIM wrote in the
    /// directory after it.
    pub fn last_request(&self, directory: &str) -> Option<(Seq, u32)> {
        let directory = self.directory(directory)?;
        let request = self.requests.get(*directory.requests.last()? as usize)?;
        Some((request.seq, directory.after_last))
    }

    /// Returns true while membership events of a directory's newest request are missing.
    pub fn owes_events(&self, directory: &str) -> bool {
        self.directory(directory).is_some_and(|directory| directory.owed > 0)
    }

    /// Returns the request that is this record.
    pub fn request(&self, seq: Seq) -> Option<&ScimRequest> {
        let at = self.requests.binary_search_by_key(&seq, |request| request.seq).ok()?;
        self.requests.get(at)
    }

    /// Returns requests in order of seq, or in the reverse order: those of a resource, else those
    /// of a directory, else all. Takes the first `count_max` of those among the records `seqs`.
    /// O(log n), plus the requests returned.
    pub fn requests(
        &self,
        directory: Option<&str>,
        resource: Option<&ScimResource>,
        seqs: RangeInclusive<Seq>,
        descending: bool,
        count_max: usize,
    ) -> Vec<ScimRequest> {
        let get = |number: &u32| self.requests.get(*number as usize).copied();
        if let Some(resource) = resource {
            let numbers = self.requests_of.get(resource.number as usize);
            let numbers = numbers.map_or(&[][..], |numbers| numbers);
            return part_of_requests(numbers, get, seqs, descending, count_max);
        }
        let Some(directory) = directory else {
            let all = &self.requests;
            return part_of_requests(all, |one| Some(*one), seqs, descending, count_max);
        };
        let numbers = self.directory(directory).map_or(&[][..], |one| &one.requests);
        part_of_requests(numbers, get, seqs, descending, count_max)
    }

    /// Returns the id of the directory of a request.
    pub fn directory_of_request(&self, request: &ScimRequest) -> &str {
        self.directory_ids.text(request.directory)
    }

    /// Returns the resource that a request changed.
    pub fn resource_of_request(&self, request: &ScimRequest) -> Option<&ScimResource> {
        self.by_number(request.resource)
    }

    /// Returns the directory user or group that the resource of a request was before it or is after
    /// it: the living one, if there is one.
    pub fn object_of_request(&self, request: &ScimRequest) -> Option<&str> {
        self.object_text(request.object).or_else(|| self.object_text(request.object_before))
    }

    /// Returns the number of events that a request became, and the records of the first
    /// `count_max` of them.
    pub fn events_of_request(&self, request: &ScimRequest, count_max: usize) -> (usize, Vec<Seq>) {
        let numbers = self.events_range(request);
        let directory = self.directories.get(request.directory as usize);
        let seq = |number| directory.and_then(|directory| directory.events.get(number));
        let first = numbers.clone().take(count_max).filter_map(seq).map(Seq::from).collect();
        (numbers.len(), first)
    }

    fn events_range(&self, request: &ScimRequest) -> Range<usize> {
        let Some(directory) = self.directories.get(request.directory as usize) else { return 0..0 };
        let place = directory
            .requests
            .binary_search_by_key(&request.seq, |number| {
                self.requests.get(*number as usize).map_or(0, |request| request.seq)
            })
            .unwrap_or(usize::MAX);
        let next = directory.requests.get(place.saturating_add(1));
        let next = next.and_then(|number| self.requests.get(*number as usize));
        let until = next.map_or(directory.events.len(), |next| next.events_before as usize);
        request.events_before as usize..until
    }

    fn by_number(&self, number: u32) -> Option<&ScimResource> {
        self.resources.get(number as usize)
    }

    /// Returns every record of SCIM, in order of seq.
    pub(crate) fn records(&self) -> &[ScimRecord] {
        &self.records
    }

    /// Returns about the bytes of memory that it takes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let lists = self.directories.iter().map(|directory| {
            directory.listed.iter().map(memory::of_vec).sum::<usize>()
                + memory::of_vec(&directory.requests)
                + memory::of_vec(&directory.tokens)
                + directory.events.heap_bytes()
        });
        let emails = self.resources.iter().map(|resource| memory::of_small_vec(&resource.emails));
        let found = self.found_by.values().map(memory::of_small_vec);
        self.directory_ids.heap_bytes()
            + self.object_ids.heap_bytes()
            + memory::of_vec(&self.directories)
            + memory::of_vec(&self.resource_of_object)
            + memory::of_vec(&self.resources)
            + memory::of_vec(&self.requests)
            + memory::of_vec(&self.requests_of)
            + self.requests_of.iter().map(memory::of_small_vec).sum::<usize>()
            + memory::of_vec(&self.records)
            + memory::of_allocation(self.numbers.capacity() * (size_of::<(ScimId, u32)>() + 1))
            + memory::of_allocation(
                self.found_by.capacity()
                    * (size_of::<((u32, ScimIndex, Fingerprint), SmallVec<[u32; 1]>)>() + 1),
            )
            + memory::of_set(&self.groups)
            + self.members.len().div_ceil(7)
                * memory::of_allocation(11 * size_of::<((u32, u32), Seq32)>() + 12)
            + lists.sum::<usize>()
            + emails.sum::<usize>()
            + found.sum::<usize>()
    }
}

impl ScimToken {
    /// Returns true if it is taken at `now`.
    pub fn is_live(&self, now: Millis) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

impl ScimDirectory {
    /// Returns true while the directory is there.
    pub fn is_there(&self) -> bool {
        self.deleted_seq.is_none()
    }

    /// Returns the token with an id.
    pub fn token(&self, id: &str) -> Option<&ScimToken> {
        self.tokens.iter().find(|token| &*token.id == id)
    }
}

impl ScimResource {
    /// Returns the number of members of a group.
    pub fn member_count(&self) -> usize {
        self.member_count as usize
    }

    /// Returns the fingerprints by which it is found, each with its index.
    fn keys(&self) -> impl Iterator<Item = (ScimIndex, Fingerprint)> {
        let (display_name, external_id) = match self.kind {
            ScimKind::User => (ScimIndex::UserDisplayName, ScimIndex::UserExternalId),
            ScimKind::Group => (ScimIndex::GroupDisplayName, ScimIndex::GroupExternalId),
        };
        let single = [
            (ScimIndex::UserName, self.user_name),
            (display_name, self.display_name),
            (external_id, self.external_id),
        ];
        let single = single.into_iter().filter_map(|(index, key)| Some((index, key?)));
        single.chain(self.emails.iter().map(|email| (ScimIndex::Email, *email)))
    }

    fn set_keys(&mut self, keys: ScimKeys<'_>) {
        let ScimKeys { user_name, display_name, external_id, emails } = keys;
        self.user_name = user_name;
        self.display_name = display_name;
        self.external_id = external_id;
        self.emails = emails.iter().copied().map(Fingerprint).collect();
        self.emails.sort_unstable();
        self.emails.dedup();
    }
}

/// The changes; only the fold makes them.
impl Scim {
    /// Creates a directory. One that is there already stays as it is.
    pub(crate) fn create_directory(
        &mut self,
        place: ScimPlace,
        id: &str,
        deactivation: Deactivation,
    ) {
        if self.directory_number(id).is_none() {
            self.directory_ids.intern(id);
            self.directories.push(ScimDirectory {
                deactivation,
                created_seq: place.seq,
                last_at: place.occurred_at,
                ..ScimDirectory::default()
            });
        }
        self.record(place, &[id.as_bytes(), deactivation.word().as_bytes()]);
    }

    /// Deletes a directory, if it is one of SCIM, and ends its tokens.
    pub(crate) fn delete_directory(&mut self, place: ScimPlace, id: &str) {
        let Some(number) = self.directory_number(id) else { return };
        let Some(directory) = self.directories.get_mut(number as usize) else { return };
        directory.deleted_seq.get_or_insert(place.seq);
        directory.last_at = directory.last_at.max(place.occurred_at);
        for token in &mut directory.tokens {
            token.revoked_at.get_or_insert(place.occurred_at);
        }
        self.record(place, &[id.as_bytes(), b"deleted"]);
    }

    /// Creates a token of a directory, or revokes it for good.
    pub(crate) fn set_token(
        &mut self,
        place: ScimPlace,
        directory: &str,
        id: &str,
        created: Option<&TokenData<'_>>,
    ) {
        let Some(number) = self.directory_number(directory) else { return };
        let Some(known) = self.directories.get_mut(number as usize) else { return };
        let token = known.tokens.iter_mut().find(|token| &*token.id == id);
        match (created, token) {
            (None, Some(token)) => _ = token.revoked_at.get_or_insert(place.occurred_at),
            (Some(TokenData { suffix, sha256, expires_at }), None) => {
                known.tokens.push(ScimToken {
                    id: id.into(),
                    suffix: (*suffix).into(),
                    sha256: *sha256,
                    created_at: place.occurred_at,
                    created_seq: place.seq,
                    expires_at: *expires_at,
                    revoked_at: None,
                });
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        let sha256 = created.map_or(&[][..], |token| &token.sha256);
        let expires_at = created.and_then(|token| token.expires_at).unwrap_or(0).to_be_bytes();
        self.record(place, &[directory.as_bytes(), id.as_bytes(), sha256, &expires_at]);
    }

    /// Notes an event that an identity provider caused.
    pub(crate) fn note_event(&mut self, place: ScimPlace, directory: &str, is_membership: bool) {
        let Some(number) = self.directory_number(directory) else { return };
        let Some(directory) = self.directories.get_mut(number as usize) else { return };
        directory.events.push(seq32(place.seq));
        directory.after_last = directory.after_last.saturating_add(1);
        directory.owed = directory.owed.saturating_sub(u32::from(is_membership));
        directory.last_at = directory.last_at.max(place.occurred_at);
    }

    /// Takes the state of a resource after a request. Returns false if there is no such directory,
    /// or if the id is that of another thing.
    pub(crate) fn apply_request(&mut self, place: ScimPlace, data: &ScimRequestData<'_>) -> bool {
        let Some(directory) = self.directory_number(data.directory) else { return false };
        let number = match self.numbers.get(&data.id) {
            Some(number) => *number,
            None => self.new_resource(place, directory, data),
        };
        let fits = |one: &ScimResource| one.directory == directory && one.kind == data.kind;
        if !self.by_number(number).is_some_and(fits) {
            return false;
        }
        self.forget_keys(number);
        let object = data.object.map_or(NO_SYM, |object| self.intern_object(object, number));
        let request = self.requests.len() as u32;
        let events_before =
            self.directories.get(directory as usize).map_or(0, |one| one.events.len() as u32);
        let Some(resource) = self.resources.get_mut(number as usize) else { return false };
        self.requests.push(ScimRequest {
            seq: place.seq,
            directory,
            resource: number,
            object_before: resource.object,
            object,
            events_before,
        });
        if let Some(requests) = self.requests_of.get_mut(number as usize) {
            requests.push(request);
        }
        let is_back = object != NO_SYM && resource.object == NO_SYM;
        if object != NO_SYM && object != resource.object {
            resource.object_since = place.occurred_at;
        }
        resource.object = object;
        resource.active = data.active;
        resource.seq = place.seq;
        resource.etag_seq = place.seq;
        resource.modified_at = place.occurred_at;
        if let Some(keys) = data.keys {
            resource.set_keys(keys);
            self.hold_keys(number);
        } else {
            self.delete_resource(place, number);
        }
        // A new directory user comes into the groups that the user is in.
        let groups = self.groups.range((number, 0)..=(number, NONE));
        let owed = if is_back { groups.count() } else { 0 };
        if let Some(directory) = self.directories.get_mut(directory as usize) {
            directory.requests.push(request);
            directory.after_last = 0;
            directory.owed = owed as u32;
            directory.last_at = directory.last_at.max(place.occurred_at);
        }
        self.record_request(place, data);
        true
    }

    fn new_resource(
        &mut self,
        place: ScimPlace,
        directory: u32,
        data: &ScimRequestData<'_>,
    ) -> u32 {
        let number = self.resources.len() as u32;
        self.numbers.insert(data.id, number);
        self.resources.push(ScimResource {
            id: data.id,
            kind: data.kind,
            active: data.active,
            deleted: false,
            seq: place.seq,
            etag_seq: place.seq,
            modified_at: place.occurred_at,
            created_seq: place.seq,
            created_at: place.occurred_at,
            object_since: place.occurred_at,
            user_name: None,
            display_name: None,
            external_id: None,
            emails: SmallVec::new(),
            number,
            directory,
            object: NO_SYM,
            member_count: 0,
        });
        self.requests_of.push(SmallVec::new());
        let directory = self.directories.get_mut(directory as usize);
        let listed = directory.and_then(|one| one.listed.get_mut(position(data.kind)));
        if let Some(listed) = listed {
            listed.push(number);
        }
        number
    }

    fn intern_object(&mut self, object: &str, number: u32) -> Sym {
        let sym = self.object_ids.intern(object);
        match self.resource_of_object.get_mut(sym as usize) {
            Some(resource) => *resource = number,
            None => self.resource_of_object.push(number),
        }
        sym
    }

    fn hold_keys(&mut self, number: u32) {
        let Some(resource) = self.resources.get(number as usize) else { return };
        for (index, key) in resource.keys() {
            self.found_by.entry((resource.directory, index, key)).or_default().push(number);
        }
    }

    fn forget_keys(&mut self, number: u32) {
        let Some(resource) = self.resources.get(number as usize) else { return };
        for (index, key) in resource.keys() {
            let place = (resource.directory, index, key);
            let is_empty = self.found_by.get_mut(&place).is_some_and(|held| {
                held.retain(|other| *other != number);
                held.is_empty()
            });
            if is_empty {
                self.found_by.remove(&place);
            }
        }
    }

    /// Deletes a resource: it leaves the lists and all groups, and a group loses its members.
    fn delete_resource(&mut self, place: ScimPlace, number: u32) {
        let Some(resource) = self.resources.get_mut(number as usize) else { return };
        resource.deleted = true;
        resource.set_keys(ScimKeys {
            user_name: None,
            display_name: None,
            external_id: None,
            emails: &[],
        });
        let (kind, directory) = (resource.kind, resource.directory);
        let directory = self.directories.get_mut(directory as usize);
        if let Some(listed) = directory.and_then(|one| one.listed.get_mut(position(kind)))
            && let Ok(at) = listed.binary_search(&number)
        {
            listed.remove(at);
        }
        let groups: Vec<u32> =
            self.groups.range((number, 0)..=(number, NONE)).map(|(_, group)| *group).collect();
        for group in groups {
            self.remove_member(group, number);
            if let Some(group) = self.resources.get_mut(group as usize) {
                group.etag_seq = place.seq;
                group.modified_at = place.occurred_at;
            }
        }
        let members: Vec<u32> =
            self.members.range((number, 0)..=(number, NONE)).map(|((_, one), _)| *one).collect();
        for member in members {
            self.remove_member(number, member);
        }
    }

    /// Changes the members of a group. Members that are not known are passed over.
    pub(crate) fn change_members(
        &mut self,
        place: ScimPlace,
        group: ScimId,
        added: &[u128],
        removed: &[u128],
    ) {
        let Some(number) = self.numbers.get(&group).copied() else { return };
        let Some(resource) = self.by_number(number) else { return };
        let directory = resource.directory;
        let mut owed = 0;
        for id in removed {
            if let Some(member) = self.numbers.get(&ScimId(*id)).copied() {
                owed += self.owed_for(member);
                self.remove_member(number, member);
            }
        }
        for id in added {
            let Some(member) = self.numbers.get(&ScimId(*id)).copied() else { continue };
            let fits = |one: &ScimResource| one.directory == directory && !one.deleted;
            if self.by_number(member).is_some_and(fits) {
                owed += self.owed_for(member);
                self.add_member(place, number, member);
            }
        }
        if let Some(directory) = self.directories.get_mut(directory as usize) {
            directory.after_last = directory.after_last.saturating_add(1);
            directory.owed = directory.owed.saturating_add(owed);
        }
        let bytes = |ids: &[u128]| ids.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<u8>>();
        let group = group.0.to_be_bytes();
        self.record(place, &[&group, &bytes(added), b"-", &bytes(removed)]);
    }

    /// Returns the number of events that follow when a member comes or leaves: one for a user who is
    /// a living directory user.
    fn owed_for(&self, member: u32) -> u32 {
        let is_living = |one: &ScimResource| one.kind == ScimKind::User && one.object != NO_SYM;
        u32::from(self.by_number(member).is_some_and(is_living))
    }

    fn add_member(&mut self, place: ScimPlace, group: u32, member: u32) {
        if self.groups.insert((member, group)) {
            self.members.insert((group, member), seq32(place.seq));
            if let Some(group) = self.resources.get_mut(group as usize) {
                group.member_count += 1;
            }
        }
    }

    fn remove_member(&mut self, group: u32, member: u32) {
        if self.groups.remove(&(member, group)) {
            self.members.remove(&(group, member));
            if let Some(group) = self.resources.get_mut(group as usize) {
                group.member_count = group.member_count.saturating_sub(1);
            }
        }
    }

    fn record_request(&mut self, place: ScimPlace, data: &ScimRequestData<'_>) {
        let ScimRequestData { directory, organization: _, kind, id, object, active, keys } = data;
        let mut parts = Vec::new();
        for key in
            keys.iter().flat_map(|keys| [keys.user_name, keys.display_name, keys.external_id])
        {
            parts.push(key.map_or([0; 16], |key| key.0));
        }
        parts.extend(keys.iter().flat_map(|keys| keys.emails.iter().copied()));
        let parts = parts.concat();
        let flags = [u8::from(*active), u8::from(keys.is_some())];
        let (id, object) = (id.0.to_be_bytes(), object.unwrap_or(""));
        let (directory, kind) = (directory.as_bytes(), kind.name().as_bytes());
        self.record(place, &[directory, kind, object.as_bytes(), &id, &flags, &parts]);
    }

    /// Notes a record with a hash of its statement: FNV-1a over its parts, each after its length.
    fn record(&mut self, place: ScimPlace, parts: &[&[u8]]) {
        const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0000_0100_0000_01b3;
        let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
        let moment = place.occurred_at.to_be_bytes();
        let hash = parts.iter().chain([&&moment[..]]).fold(BASIS, |hash, part| {
            let length = (part.len() as u64).to_be_bytes();
            length.iter().chain(*part).fold(hash, add)
        });
        self.records.push(ScimRecord { seq: seq32(place.seq), hash });
    }
}

impl Pack for Scim {
    fn pack(&self, to: &mut Packer<'_>) {
        let Scim {
            directory_ids,
            directories,
            object_ids,
            resource_of_object,
            resources,
            numbers,
            found_by,
            members,
            groups,
            requests,
            // Made anew from the requests.
            requests_of: _,
            records,
        } = self;
        directory_ids.pack(to);
        directories.pack(to);
        object_ids.pack(to);
        resource_of_object.pack(to);
        resources.pack(to);
        numbers.pack(to);
        found_by.pack(to);
        members.pack(to);
        groups.pack(to);
        requests.pack(to);
        records.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        let mut scim = Scim {
            directory_ids: Pack::unpack(from)?,
            directories: Pack::unpack(from)?,
            object_ids: Pack::unpack(from)?,
            resource_of_object: Pack::unpack(from)?,
            resources: Pack::unpack(from)?,
            numbers: Pack::unpack(from)?,
            found_by: Pack::unpack(from)?,
            members: Pack::unpack(from)?,
            groups: Pack::unpack(from)?,
            requests: Pack::unpack(from)?,
            requests_of: Vec::new(),
            records: Pack::unpack(from)?,
        };
        scim.requests_of = vec![SmallVec::new(); scim.resources.len()];
        for (number, request) in (0..).zip(&scim.requests) {
            scim.requests_of.get_mut(request.resource as usize)?.push(number);
        }
        Some(scim)
    }
}

pack_fields!(ScimRecord { seq, hash });
pack_fields!(ScimToken { id, suffix, sha256, created_at, created_seq, expires_at, revoked_at });
pack_fields!(ScimRequest { seq, directory, resource, object_before, object, events_before });
pack_variants!(ScimIndex {
    UserName = 0,
    UserDisplayName = 1,
    GroupDisplayName = 2,
    UserExternalId = 3,
    GroupExternalId = 4,
    Email = 5,
});
pack_fields!(ScimResource {
    id,
    kind,
    active,
    deleted,
    seq,
    etag_seq,
    modified_at,
    created_seq,
    created_at,
    object_since,
    user_name,
    display_name,
    external_id,
    emails,
    number,
    directory,
    object,
    member_count,
});

impl Pack for ScimDirectory {
    fn pack(&self, to: &mut Packer<'_>) {
        let ScimDirectory {
            deactivation,
            created_seq,
            deleted_seq,
            last_at,
            tokens,
            listed: [users, groups],
            requests,
            events,
            after_last,
            owed,
        } = self;
        deactivation.pack(to);
        created_seq.pack(to);
        deleted_seq.pack(to);
        last_at.pack(to);
        tokens.pack(to);
        users.pack(to);
        groups.pack(to);
        requests.pack(to);
        events.pack(to);
        after_last.pack(to);
        owed.pack(to);
    }

    fn unpack(from: &mut Unpacker<'_>) -> Option<Self> {
        Some(ScimDirectory {
            deactivation: Pack::unpack(from)?,
            created_seq: Pack::unpack(from)?,
            deleted_seq: Pack::unpack(from)?,
            last_at: Pack::unpack(from)?,
            tokens: Pack::unpack(from)?,
            listed: [Pack::unpack(from)?, Pack::unpack(from)?],
            requests: Pack::unpack(from)?,
            events: Pack::unpack(from)?,
            after_last: Pack::unpack(from)?,
            owed: Pack::unpack(from)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ground::pack::tests::{packed, unpacked};

    /// Requests of three users in turns that have nothing to do with each other.
    fn resource_of(seq: Seq) -> u128 {
        u128::from(seq * 7919 % 11 % 3)
    }

    fn scim(requests: Seq) -> Scim {
        let mut scim = Scim::default();
        let place = |seq: Seq| ScimPlace { seq, occurred_at: seq as Millis };
        scim.create_directory(place(1), "D", Deactivation::default());
        for seq in 2..2 + requests {
            let data = ScimRequestData {
                directory: "D",
                organization: None,
                kind: ScimKind::User,
                id: ScimId(resource_of(seq)),
                object: None,
                active: true,
                keys: Some(ScimKeys {
                    user_name: None,
                    display_name: None,
                    external_id: None,
                    emails: &[],
                }),
            };
            assert!(scim.apply_request(place(seq), &data));
        }
        scim
    }

    #[test]
    fn the_requests_of_a_resource_equal_a_scan_also_when_read_from_bytes() {
        let folded = scim(200);
        let read: Scim = unpacked(&packed(&folded)).unwrap();
        for scim in [&folded, &read] {
            for id in 0..3 {
                let resource = scim.resource_by_id(ScimId(id));
                for seqs in [0..=Seq::MAX, 1..=9, 50..=150, 199..=201, 300..=400] {
                    for (limit, descending) in [(1, false), (1, true), (7, true), (999, false)] {
                        let found = scim.requests(None, resource, seqs.clone(), descending, limit);
                        let found: Vec<Seq> = found.iter().map(|request| request.seq).collect();
                        let of_user = |seq: &Seq| seqs.contains(seq) && resource_of(*seq) == id;
                        let mut wanted: Vec<Seq> = (2..=201).filter(of_user).collect();
                        if descending {
                            wanted.reverse();
                        }
                        wanted.truncate(limit);
                        assert_eq!(found, wanted, "{id} {seqs:?} {descending}");
                    }
                }
            }
        }
    }
}
