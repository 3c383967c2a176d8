//! Rules 32 and 33 as plain as possible: the state of SCIM, worked out again from the list of its
//! records at each question.

use std::collections::BTreeSet;

use serde_json::Value;

/// Records that an identity provider or an operator caused, in order of seq.
#[derive(Default)]
pub struct Scim {
    pub records: Vec<Record>,
}

pub struct Record {
    pub seq: u64,
    pub at: i64,
    pub said: Said,
}

pub enum Said {
    Directory {
        id: String,
        update: bool,
    },
    DirectoryDeleted {
        id: String,
    },
    Token {
        directory: String,
        id: String,
        sha256: [u8; 32],
        expires_at: Option<i64>,
    },
    TokenRevoked {
        directory: String,
        id: String,
    },
    Request {
        directory: String,
        group: bool,
        id: String,
        after: After,
    },
    Members {
        group: String,
        added: Vec<String>,
        removed: Vec<String>,
    },
    /// An event of directory sync that a request became.
    Event {
        directory: String,
    },
}

/// A user or group after a request; without a document it is deleted.
#[derive(Clone, PartialEq, Debug)]
pub struct After {
    pub object: Option<String>,
    pub active: bool,
    pub document: Option<Value>,
}

/// A user or group as it is now.
#[derive(PartialEq, Debug)]
pub struct Resource {
    pub id: String,
    pub seq: u64,
    pub etag_seq: u64,
    pub modified_at: i64,
    pub created_at: i64,
    pub object_since: Option<i64>,
    pub after: After,
}

impl Scim {
    /// The requests that changed a resource.
    fn requests_of(&self, id: &str) -> Vec<(&Record, &After)> {
        let mut requests = Vec::new();
        for record in &self.records {
            if let Said::Request { id: other, after, .. } = &record.said
                && other == id
            {
                requests.push((record, after));
            }
        }
        requests
    }

    /// The users or groups that are there, in order of creation.
    pub fn list(&self, directory: &str, group: bool) -> Vec<Resource> {
        let mut ids = Vec::new();
        for record in &self.records {
            if let Said::Request { directory: own, group: is_group, id, .. } = &record.said
                && own == directory
                && *is_group == group
                && !ids.contains(&id)
            {
                ids.push(id);
            }
        }
        ids.into_iter().filter_map(|id| self.resource(id)).collect()
    }

    pub fn resource(&self, id: &str) -> Option<Resource> {
        let requests = self.requests_of(id);
        let ((first, _), (last, after)) = (requests.first()?, requests.last()?);
        after.document.as_ref()?;
        // The last request that changed it, or deleted a member of it.
        let touches = |record: &&Record| match &record.said {
            Said::Request { id: other, after: After { document: None, .. }, .. } => {
                other == id || self.members_at(id, record.seq - 1).contains(other)
            }
            Said::Request { id: other, .. } => other == id,
            _ => false,
        };
        let touched = self.records.iter().rfind(touches)?;
        let mut since = None;
        let mut before = &None;
        for (record, after) in &requests {
            if after.object.is_some() && after.object != *before {
                since = Some(record.at);
            }
            before = &after.object;
        }
        Some(Resource {
            id: id.to_owned(),
            seq: last.seq,
            etag_seq: touched.seq,
            modified_at: touched.at,
            created_at: first.at,
            object_since: since.filter(|_| after.object.is_some()),
            after: (*after).clone(),
        })
    }

    /// The members of a group at a record.
    fn members_at(&self, group: &str, known_at: u64) -> BTreeSet<String> {
        let mut members = BTreeSet::new();
        let mut there = BTreeSet::new();
        for record in self.records.iter().take_while(|record| record.seq <= known_at) {
            match &record.said {
                Said::Request { id, after, .. } if after.document.is_some() => {
                    there.insert(id);
                }
                Said::Request { id, .. } => {
                    there.remove(id);
                    members.remove(id);
                    if id == group {
                        members.clear();
                    }
                }
                Said::Members { group: own, added, removed } if own == group => {
                    members.retain(|id| !removed.contains(id));
                    members.extend(added.iter().filter(|id| there.contains(id)).cloned());
                }
                _ => {}
            }
        }
        members
    }

    pub fn members(&self, group: &str) -> BTreeSet<String> {
        self.members_at(group, u64::MAX)
    }

    /// The records of the requests of a directory, each with those of its events.
    pub fn requests(&self, directory: &str) -> Vec<(u64, Vec<u64>)> {
        let mut requests: Vec<(u64, Vec<u64>)> = Vec::new();
        for record in &self.records {
            match &record.said {
                Said::Request { directory: own, .. } if own == directory => {
                    requests.push((record.seq, Vec::new()));
                }
                Said::Event { directory: own } if own == directory => {
                    requests.last_mut().unwrap().1.push(record.seq);
                }
                _ => {}
            }
        }
        requests
    }

    /// The ids of the tokens of a directory that are live.
    pub fn live_tokens(&self, directory: &str, now: i64) -> BTreeSet<&str> {
        let mut live = BTreeSet::new();
        for record in &self.records {
            match &record.said {
                Said::Token { directory: own, id, expires_at, .. }
                    if own == directory && expires_at.is_none_or(|end| now < end) =>
                {
                    live.insert(id.as_str());
                }
                Said::TokenRevoked { directory: own, id } if own == directory => {
                    live.remove(id.as_str());
                }
                Said::DirectoryDeleted { id } if id == directory => live.clear(),
                _ => {}
            }
        }
        live
    }

    pub fn is_deleted(&self, directory: &str) -> bool {
        self.records
            .iter()
            .any(|record| matches!(&record.said, Said::DirectoryDeleted { id } if id == directory))
    }

    /// True if a directory was made for an identity provider.
    pub fn hosts(&self, directory: &str) -> bool {
        self.records
            .iter()
            .any(|record| matches!(&record.said, Said::Directory { id, .. } if id == directory))
    }
}
