//! Finished answers, kept whole.
//!
//! A question at a cut has one answer for ever: what is recorded later is beyond its cut, and the
//! same question asked afterwards has another cut. So what is kept is never out of date. It is
//! forgotten only where views are replaced, and where records turn out to be damaged.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use rollcall_projections::{Cut, Sight};

use super::Engine;

/// The part of the memory for documents that answers take.
pub(super) const ANSWERS_PART: u64 = 4;

/// The part of that memory that one answer may take: small caches keep no pages, which would push
/// out everything else.
const ANSWER_PART: u64 = 64;

/// The number of questions that are remembered as asked once.
const ASKED_ONCE: usize = 4096;

/// A question at a cut, by those who see the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AnswerKey(Vec<u8>);

/// An answer that is kept.
#[derive(Clone, Debug)]
pub struct KeptAnswer {
    /// The whole body.
    pub body: Bytes,
    /// The version of the role mapping by which it is true.
    pub mapping_version: usize,
}

/// The answers that are kept, bounded in bytes.
pub(super) struct Answers {
    cache: Cache<AnswerKey, KeptAnswer, ByBytes>,
    bytes_max: u64,
    /// Counts how often all were forgotten. It is a part of each key, so that what was worked out
    /// before is not found if it is kept afterwards.
    generation: AtomicU64,
    /// The hashes of questions that were asked once: only what is asked again is kept, so that
    /// answers which nothing asks for twice cost no copy.
    asked_once: Box<[AtomicU64]>,
    hasher: RandomState,
}

#[derive(Clone)]
struct ByBytes;

impl Weighter<AnswerKey, KeptAnswer> for ByBytes {
    fn weight(&self, key: &AnswerKey, answer: &KeptAnswer) -> u64 {
        // The bytes, and about the overhead of an entry in the cache.
        (key.0.len() + answer.body.len()) as u64 + 192
    }
}

impl Answers {
    /// Makes an empty cache of at most `bytes_max`.
    pub(super) fn new(bytes_max: u64) -> Answers {
        let items = (bytes_max / 4096).max(16) as usize;
        Answers {
            cache: Cache::with_weighter(items, bytes_max, ByBytes),
            bytes_max,
            generation: AtomicU64::new(0),
            asked_once: (0..ASKED_ONCE).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Makes the key of a question, as [`Engine::answer_key`] says.
    fn key(&self, question: &str, sight: &Sight, cut: Cut) -> AnswerKey {
        const NUMBERS_BYTES: usize = 3 * size_of::<u64>() + 1;
        let mut key = Vec::with_capacity(NUMBERS_BYTES + question.len());
        key.extend_from_slice(&self.generation.load(Ordering::Acquire).to_le_bytes());
        key.extend_from_slice(&cut.as_of.to_le_bytes());
        key.extend_from_slice(&cut.known_at.to_le_bytes());
        match sight {
            Sight::All => key.push(0),
            Sight::Of(organizations) => {
                key.push(1);
                key.extend_from_slice(&(organizations.len() as u64).to_le_bytes());
                for organization in organizations {
                    key.extend_from_slice(&(organization.len() as u64).to_le_bytes());
                    key.extend_from_slice(organization.as_bytes());
                }
            }
        }
        key.extend_from_slice(question.as_bytes());
        AnswerKey(key)
    }

    /// Keeps an answer that is asked for the second time, if it is not too large.
    fn keep(&self, key: AnswerKey, mapping_version: usize, body: &Bytes) {
        let bytes = (key.0.len() + body.len()) as u64;
        if bytes <= self.bytes_max / ANSWER_PART && self.is_asked_again(&key) {
            // A copy, because the body may be a part of a larger piece of memory.
            let body = Bytes::copy_from_slice(body);
            self.cache.insert(key, KeptAnswer { body, mapping_version });
        }
    }

    /// Tells if a question was asked before, and remembers it.
    fn is_asked_again(&self, key: &AnswerKey) -> bool {
        let hash = self.hasher.hash_one(key);
        let place = self.asked_once.get(hash as usize % ASKED_ONCE);
        place.is_some_and(|place| place.swap(hash, Ordering::Relaxed) == hash)
    }

    /// Forgets all, also those that are being worked out.
    pub(super) fn forget(&self) {
        self.generation.fetch_add(1, Ordering::Release);
        self.cache.clear();
    }

    /// Returns the memory that they take, in bytes, about.
    pub(super) fn weight(&self) -> u64 {
        self.cache.weight()
    }
}

impl Engine {
    /// Makes the key of a question, which must be done before it is worked out. `question` is how
    /// the caller words it: equal words at the same cut and with the same sight must have the same
    /// answer.
    pub fn answer_key(&self, question: &str, sight: &Sight, cut: Cut) -> AnswerKey {
        self.answers.key(question, sight, cut)
    }

    /// Returns the answer to a question, if it is kept.
    pub fn kept_answer(&self, key: &AnswerKey) -> Option<KeptAnswer> {
        self.answers.cache.get(key)
    }

    /// Keeps the answer to a question that is asked for the second time, unless it is too large for
    /// the cache.
    pub fn keep_answer(&self, key: AnswerKey, mapping_version: usize, body: &Bytes) {
        self.answers.keep(key, mapping_version, body);
    }

    /// Forgets all documents and answers that are kept.
    pub(super) fn forget_documents(&self) {
        self.documents.clear();
        self.answers.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: Cut = Cut { as_of: 5, known_at: 7 };

    fn keep_twice(answers: &Answers, key: &AnswerKey, body: &Bytes) {
        answers.keep(key.clone(), 1, body);
        answers.keep(key.clone(), 1, body);
    }

    #[test]
    fn an_answer_is_kept_once_it_is_asked_for_again_and_found_only_by_its_own_question() {
        let answers = Answers::new(1 << 20);
        let body = Bytes::from_static(b"{}");
        let sight = |ids: &[&str]| Sight::Of(ids.iter().map(|id| (*id).to_owned()).collect());
        let key = answers.key("/a?b", &Sight::All, CUT);
        answers.keep(key.clone(), 1, &body);
        assert!(answers.cache.get(&key).is_none(), "it was asked for once");
        answers.keep(key.clone(), 1, &body);
        assert_eq!(answers.cache.get(&key).unwrap().body, body);
        for other in [
            answers.key("/a?c", &Sight::All, CUT),
            answers.key("/a?b", &Sight::All, Cut { as_of: 6, ..CUT }),
            answers.key("/a?b", &Sight::All, Cut { known_at: 8, ..CUT }),
            answers.key("/a?b", &sight(&[]), CUT),
            answers.key("/a?b", &sight(&["o"]), CUT),
        ] {
            assert!(answers.cache.get(&other).is_none(), "{other:?}");
        }
        // No list of organizations reads like another, nor like the words of a question.
        let keys = [
            answers.key("/a", &sight(&["ab", "c"]), CUT),
            answers.key("/a", &sight(&["a", "bc"]), CUT),
            answers.key("/a", &sight(&["abc"]), CUT),
            answers.key("c/a", &sight(&["ab"]), CUT),
        ];
        for (at, key) in keys.iter().enumerate() {
            assert!(keys.iter().skip(at + 1).all(|other| other != key), "{key:?}");
        }
    }

    #[test]
    fn what_was_worked_out_before_all_was_forgotten_is_not_found_afterwards() {
        let answers = Answers::new(1 << 20);
        let (early, kept) = ("/early", answers.key("/kept", &Sight::All, CUT));
        let body = Bytes::from_static(b"{}");
        keep_twice(&answers, &kept, &body);
        let before = answers.key(early, &Sight::All, CUT);
        answers.forget();
        keep_twice(&answers, &before, &body);
        assert!(answers.cache.get(&answers.key("/kept", &Sight::All, CUT)).is_none());
        assert!(answers.cache.get(&answers.key(early, &Sight::All, CUT)).is_none());
    }

    #[test]
    fn a_small_cache_keeps_no_large_answer_and_no_cache_takes_more_than_it_may() {
        let answers = Answers::new(64 << 10);
        let large = answers.key("/large", &Sight::All, CUT);
        keep_twice(&answers, &large, &Bytes::from(vec![b'x'; 1024]));
        assert!(answers.cache.get(&large).is_none());
        for number in 0..1000 {
            let key = answers.key(&format!("/{number}"), &Sight::All, CUT);
            keep_twice(&answers, &key, &Bytes::from(vec![b'x'; 512]));
        }
        assert!(answers.weight() > 0 && answers.weight() <= 64 << 10, "{}", answers.weight());
    }
}
