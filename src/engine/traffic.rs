//! The counts of recent traffic, kept between questions: a question costs what came and what became
//! old since the one before it.

use parking_lot::Mutex;
use rollcall_projections::{Living, Millis, Seq, Sight, Traffic, Views};

use super::Engine;
use crate::time;

/// The number of records that are counted under one lock.
const STEP: usize = 16_384;

/// The most callers with sights of their own whose counts are kept.
const SIGHTS_MAX: usize = 8;

/// The counts that are kept, those that were asked for last at the end.
#[derive(Default)]
pub(super) struct KeptTraffic(Mutex<Vec<(Sight, Traffic)>>);

impl KeptTraffic {
    /// Forgets all counts: those of other views would not go on.
    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }
}

/// The counts at one moment and one record.
pub struct TrafficNow<'t> {
    /// The moment.
    pub now: Millis,
    /// The newest record.
    pub seq: Seq,
    /// The counts.
    pub traffic: &'t Traffic,
    /// What exists in each directory at this record.
    pub living: Living,
}

impl KeptTraffic {
    /// Takes the counts of a caller out, or begins new ones.
    fn take(
        kept: &mut Vec<(Sight, Traffic)>,
        sight: &Sight,
        begin: impl FnOnce() -> Traffic,
    ) -> Traffic {
        let known = kept.iter().position(|(of, _)| of == sight);
        known.map_or_else(begin, |at| kept.remove(at).1)
    }

    fn put(kept: &mut Vec<(Sight, Traffic)>, sight: &Sight, traffic: Traffic) {
        if kept.len() >= SIGHTS_MAX {
            kept.remove(0);
        }
        kept.push((sight.clone(), traffic));
    }
}

impl Engine {
    /// Counts the traffic that a caller sees up to now, and lets `read` read the counts. Blocks
    /// other questions for them meanwhile; the views are locked in short steps.
    pub fn with_traffic<T>(&self, sight: &Sight, read: impl FnOnce(&TrafficNow<'_>) -> T) -> T {
        let mut kept = self.traffic.0.lock();
        let now = time::now_ms();
        let mut traffic = KeptTraffic::take(&mut kept, sight, || self.views().traffic(now));
        let (seq, living) =
            self.count_on(&mut traffic, sight, now, |views| (views.head(), views.living()));
        let answer = read(&TrafficNow { now, seq, traffic: &traffic, living });
        KeptTraffic::put(&mut kept, sight, traffic);
        answer
    }

    /// Counts what came and went for those who see everything, so that the next question finds it
    /// counted.
    pub(super) fn count_traffic_on(&self) {
        let (mut kept, now) = (self.traffic.0.lock(), time::now_ms());
        let mut traffic = KeptTraffic::take(&mut kept, &Sight::All, || self.views().traffic(now));
        self.count_on(&mut traffic, &Sight::All, now, |_| ());
        KeptTraffic::put(&mut kept, &Sight::All, traffic);
    }

    /// Moves counts on to `now` and to the newest record, in short locks. `read` sees the views at
    /// this record, under the last of them.
    fn count_on<T>(
        &self,
        traffic: &mut Traffic,
        sight: &Sight,
        now: Millis,
        read: impl FnOnce(&Views) -> T,
    ) -> T {
        while self.views().seen_by(sight).move_traffic(traffic, now, STEP) {}
        loop {
            let views = self.views();
            if !views.seen_by(sight).count_traffic(traffic, views.head(), STEP) {
                return read(&views);
            }
        }
    }
}
