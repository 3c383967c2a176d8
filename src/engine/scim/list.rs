//! Lists of resources: by an index where a filter allows it, else in bounded steps over all.

use rollcall_projections::{ScimId, Seq, Views};

use super::plan::index_of;
use super::resource::{Held, id_in_any_case, scim_kind};
use super::{ScimCaller, ScimError, ScimShowing};
use crate::engine::Engine;
use crate::hashes::fingerprint;
use crate::scim::{Filter, Kind, Probe, ProbeKey, SortBy, SortKey};

/// The resources that are looked at under one lock.
const STEP: usize = 256;

/// The bytes from which on a page has no more resources: groups may have many members each.
const PAGE_BYTES_MAX: usize = 32 << 20;

/// The schema of lists.
const LIST: &str = "urn:ietf:params:scim:api:messages:2.0:ListResponse";

/// The page of a list that is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct ScimPage {
    /// The number of the first resource, from 1.
    pub start: usize,
    /// The most resources.
    pub count: usize,
    /// The attribute by which they are sorted; by creation if there is none.
    pub sort_by: Option<SortBy>,
    /// True for the reverse order.
    pub descending: bool,
}

/// A search.
#[derive(Clone, Debug, PartialEq)]
pub struct ScimSearch {
    /// The kind of resources; `None` for all.
    pub kind: Option<Kind>,
    /// The resources that are wanted.
    pub filter: Option<Filter>,
    /// The page that is wanted.
    pub page: ScimPage,
}

/// The resources of a page, as they are shown.
#[derive(Default)]
struct ShownPage {
    count: usize,
    resources: String,
}

impl ShownPage {
    /// Returns true once it has so many bytes that the others come with the next page.
    fn is_full(&self) -> bool {
        self.resources.len() >= PAGE_BYTES_MAX
    }

    fn push(&mut self, resource: &str) {
        if self.count > 0 {
            self.resources.push(',');
        }
        self.resources.push_str(resource);
        self.count += 1;
    }

    /// Writes the list.
    fn written(self, total: usize, start: usize) -> String {
        let ShownPage { count, resources } = self;
        format!(
            "{{\"schemas\":[\"{LIST}\"],\"totalResults\":{total},\"startIndex\":{start},\
             \"itemsPerPage\":{count},\"Resources\":[{resources}]}}"
        )
    }
}

/// A resource that was found, in the order in which it is shown.
struct Found {
    key: Option<SortKey>,
    id: ScimId,
}

impl Engine {
    /// Returns a page of resources as JSON. Blocks while it reads the log; a walk ends when
    /// `goes_on` says so, and its answer is not whole then.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub fn scim_list(
        &self,
        caller: &ScimCaller,
        search: &ScimSearch,
        showing: &ScimShowing,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<String, ScimError> {
        let ScimSearch { kind, filter, page } = search;
        let kinds = kind.map_or(vec![Kind::User, Kind::Group], |kind| vec![kind]);
        let directory = caller.directory.as_str();
        let (total, ids) = if filter.is_none() && page.sort_by.is_none() {
            self.plain_page(directory, &kinds, page)
        } else {
            self.searched_page(directory, &kinds, search, showing, goes_on)?
        };
        let mut shown = ShownPage::default();
        'page: for step in ids.chunks(STEP) {
            for held in self.held_with_documents(directory, step)? {
                if shown.is_full() || !goes_on() {
                    break 'page;
                }
                shown.push(&self.show(&held, showing).body.unwrap_or_default());
            }
        }
        Ok(shown.written(total, page.start))
    }

    /// Returns a page in order of creation, without a look at what is before it.
    fn plain_page(&self, directory: &str, kinds: &[Kind], page: &ScimPage) -> (usize, Vec<ScimId>) {
        let views = self.views();
        let scim = views.scim();
        let total = kinds.iter().map(|kind| scim.count(directory, scim_kind(*kind))).sum();
        let (mut skipped, mut ids) = (page.start - 1, Vec::new());
        for kind in kinds.iter().map(|kind| scim_kind(*kind)) {
            let count = scim.count(directory, kind);
            let wanted = page.count - ids.len();
            ids.extend(scim.list(directory, kind, skipped).take(wanted).map(|one| one.id));
            skipped = skipped.saturating_sub(count);
        }
        (total, ids)
    }

    /// Returns a page of those that a filter finds, or in another order.
    fn searched_page(
        &self,
        directory: &str,
        kinds: &[Kind],
        search: &ScimSearch,
        showing: &ScimShowing,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<(usize, Vec<ScimId>), ScimError> {
        let ScimSearch { filter, page, .. } = search;
        let mut found = Vec::new();
        for kind in kinds {
            let probed = filter.as_ref().and_then(Filter::probe);
            let candidates = probed.and_then(|probe| self.candidates(directory, *kind, &probe));
            if let Some(candidates) = candidates {
                self.match_all(directory, &candidates, search, showing, goes_on, &mut found)?;
                continue;
            }
            let mut after = 0;
            while goes_on() {
                let step: Vec<(ScimId, Seq)> = {
                    let views = self.views();
                    let list = views.scim().list_after(directory, scim_kind(*kind), after);
                    list.take(STEP).map(|one| (one.id, one.created_seq)).collect()
                };
                let Some((_, last)) = step.last() else { break };
                after = *last;
                let ids: Vec<ScimId> = step.into_iter().map(|(id, _)| id).collect();
                self.match_all(directory, &ids, search, showing, goes_on, &mut found)?;
            }
        }
        if page.sort_by.is_some() {
            // Stable: those that are alike stay in order of creation.
            match page.descending {
                true => found.sort_by(|a, b| b.key.cmp(&a.key)),
                false => found.sort_by(|a, b| a.key.cmp(&b.key)),
            }
        }
        let total = found.len();
        let ids = found.into_iter().skip(page.start - 1).take(page.count).map(|found| found.id);
        Ok((total, ids.collect()))
    }

    /// Returns those that an index proposes, in order of creation; `None` without such an index.
    fn candidates(&self, directory: &str, kind: Kind, probe: &Probe) -> Option<Vec<ScimId>> {
        let views = self.views();
        let scim = views.scim();
        match probe.key {
            ProbeKey::Id => {
                let found = scim.resource(directory, scim_kind(kind), &probe.text);
                Some(found.map(|found| found.id).into_iter().collect())
            }
            ProbeKey::Member => {
                let member = id_in_any_case(&probe.text).and_then(|id| scim.resource_by_id(id));
                let member = member.filter(|one| scim.directory_of(one) == directory);
                let groups = member.into_iter().flat_map(|member| scim.groups_of(member));
                let is_group = kind == Kind::Group;
                Some(groups.filter(|_| is_group).map(|group| group.id).collect())
            }
            key => {
                let index = index_of(key, kind)?;
                let found = scim.find(directory, index, fingerprint(&probe.text));
                let mut found: Vec<_> = found.map(|one| (one.created_seq, one.id)).collect();
                found.sort_unstable();
                Some(found.into_iter().map(|(_, id)| id).collect())
            }
        }
    }

    /// Adds those that the filter finds.
    fn match_all(
        &self,
        directory: &str,
        ids: &[ScimId],
        search: &ScimSearch,
        showing: &ScimShowing,
        goes_on: &dyn Fn() -> bool,
        found: &mut Vec<Found>,
    ) -> Result<(), ScimError> {
        for step in ids.chunks(STEP) {
            for held in self.held_with_documents(directory, step)? {
                // One group alone may have many members to look at.
                if !goes_on() {
                    return Ok(());
                }
                let judged = self.with_shown(&held, &showing.base, |shown| {
                    let filter = search.filter.as_ref();
                    let matches = filter.is_none_or(|filter| filter.matches(shown));
                    let sort_by = search.page.sort_by.as_ref();
                    matches.then(|| sort_by.map(|sort_by| sort_by.key(shown)))
                });
                found.extend(judged.map(|key| Found { key, id: held.id }));
            }
        }
        Ok(())
    }

    /// Returns resources with their documents, without those that have gone.
    fn held_with_documents(&self, directory: &str, ids: &[ScimId]) -> Result<Vec<Held>, ScimError> {
        let mut held: Vec<Held> = {
            let views = self.views();
            let of = |views: &Views, id: &ScimId| {
                let found = views.scim().resource_by_id(*id).filter(|one| !one.deleted)?;
                let is_own = views.scim().directory_of(found) == directory;
                is_own.then(|| Held::of(views, found))
            };
            ids.iter().filter_map(|id| of(&views, id)).collect()
        };
        let seqs: Vec<Seq> = held.iter().map(|held| held.seq).collect();
        let documents = self.scim_documents(&seqs)?;
        held.iter_mut().zip(documents).for_each(|(held, document)| held.document = document);
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_once_it_has_many_bytes_and_says_how_many_it_has() {
        let half = format!("\"{}\"", "x".repeat(PAGE_BYTES_MAX / 2));
        let mut page = ShownPage::default();
        assert!(!page.is_full());
        page.push(&half);
        assert!(!page.is_full());
        page.push(&half);
        assert!(page.is_full());
        let written: serde_json::Value = serde_json::from_str(&page.written(7, 3)).unwrap();
        assert_eq!(written["Resources"].as_array().unwrap().len(), 2);
        let numbers = ["totalResults", "startIndex", "itemsPerPage"].map(|name| &written[name]);
        assert_eq!(numbers.map(serde_json::Value::as_u64), [Some(7), Some(3), Some(2)]);
        assert_eq!(ShownPage::default().written(0, 1), {
            let head = r#"{"schemas":["urn:ietf:params:scim:api:messages:2.0:ListResponse"],"#;
            format!(r#"{head}"totalResults":0,"startIndex":1,"itemsPerPage":0,"Resources":[]}}"#)
        });
    }
}
