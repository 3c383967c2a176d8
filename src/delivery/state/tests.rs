use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::delivery::message::test_event;
use crate::delivery::position::Anchor;
use crate::delivery::queue::{ORDER, Ready};
use crate::delivery::{Format, Signer};
use crate::engine::OwedReader;
use crate::hashes::Hash;

fn message(place: FeedPlace, subjects: &[u64]) -> (FeedPlace, Message) {
    let signer = Signer::new(Format::Workos, "secret").unwrap();
    let event = test_event(&place.to_string(), 0);
    (place, Message::new(&signer, Some(place), &event, Some(subjects.to_vec())).unwrap())
}

fn owed(through: FeedPlace, leaves: BTreeMap<Seq, Hash>) -> Owed {
    Owed { items: Vec::new(), through, leaves }
}

fn state_with(kept: Kept, ordered: bool, limits: Limits) -> State {
    // Nothing is written there.
    let mut state = State::new(PositionFile::of(Path::new("unused"), "app"));
    state.queue = Queue::at(&kept, ordered, limits);
    state.kept = kept;
    state
}

/// What is owed for records 5 and 6: the event of 5 with two consequences, and that of 6.
fn state_of_two_records() -> State {
    let kept = Kept::at("ab".into(), FeedPlace::after(2), Some(Anchor::new(2, &[2; 32])));
    let mut state = state_with(kept, true, Limits::SERVER);
    let places = [(5, 0), (5, 1), (5, 2), (6, 0)];
    let messages =
        places.map(|(seq, item)| message(FeedPlace { seq, item }, &[ORDER])).into_iter().collect();
    let leaves: BTreeMap<Seq, Hash> = (4..=6).map(|seq| (seq, [seq as u8; 32])).collect();
    let reading = state.queue.begin_read(6, &state.kept).unwrap();
    let State { queue, kept, .. } = &mut state;
    let lines = queue.fill(reading, owed(FeedPlace::after(6), leaves), messages, kept);
    assert!(lines.is_empty());
    state
}

/// Delivers the webhook at a place, which must be the next one.
fn deliver(state: &mut State, place: FeedPlace) {
    let next = state.queue.take_ready(Instant::now());
    assert_eq!(next.map(|ready| ready.place), Some(place));
    assert!(state.queue.succeed(place, &mut state.kept).is_none());
}

fn anchor_after(state: &mut State) -> Option<Anchor> {
    state.settle();
    state.kept.anchor.clone()
}

#[test]
fn the_anchor_is_the_last_record_of_which_anything_is_delivered_or_passed_over() {
    let mut state = state_of_two_records();
    // Records 3 and 4 are not owed.
    assert_eq!(anchor_after(&mut state), Some(Anchor::new(4, &[4; 32])));
    for (seq, item, anchor) in [(5, 0, 5), (5, 1, 5), (5, 2, 5), (6, 0, 6)] {
        let place = FeedPlace { seq, item };
        deliver(&mut state, place);
        let expected = Anchor::new(anchor, &[anchor as u8; 32]);
        assert_eq!(anchor_after(&mut state), Some(expected), "after {place}");
    }
    assert_eq!(state.kept.place, FeedPlace::after(6));
}

#[test]
fn the_anchor_goes_ahead_of_the_position_and_never_back() {
    let mut state = state_of_two_records();
    state.settle();
    let reached = state.reach(6);
    let six = Anchor::new(6, &[6; 32]);
    assert!(matches!(reached, Some(Line::Reached(anchor)) if anchor == six));
    assert!(state.reach(6).is_none() && state.reach(5).is_none());
    let first = FeedPlace { seq: 5, item: 0 };
    deliver(&mut state, first);
    assert_eq!(anchor_after(&mut state), Some(six));
    assert_eq!(state.kept.place, first);
}

/// Limits that are reached at once.
const SMALL: Limits = Limits {
    waiting: 4,
    bytes: 1 << 20,
    ahead: 1000,
    ahead_soft: 6,
    parked: 1000,
    down_after: 1000,
    stuck_after: Duration::from_secs(1),
};

/// The most webhooks that are read at once: those of two records.
const READ_MAX: usize = 6;

const IN_FLIGHT_MAX: usize = 4;

/// An endpoint and its receiver, which does not take some webhooks.
struct Play {
    rng: StdRng,
    ordered: bool,
    limits: Limits,
    /// What is owed in all, with its subjects.
    log: Vec<(FeedPlace, Vec<u64>)>,
    head: Seq,
    state: State,
    /// What the lines of the file say, which a kill leaves.
    written: Kept,
    now: Instant,
    /// What the receiver does not take now.
    refused: BTreeSet<FeedPlace>,
    readings: Vec<Reading>,
    in_flight: BTreeSet<FeedPlace>,
    taken: BTreeSet<FeedPlace>,
    /// What was in flight at a kill, and may come twice.
    uncertain: BTreeSet<FeedPlace>,
}

impl Play {
    fn new(seed: u64, limits: Limits) -> Play {
        let mut rng = StdRng::seed_from_u64(seed);
        let ordered = rng.random_ratio(1, 6);
        let subjects = rng.random_range(2..9);
        let mut log = Vec::new();
        for seq in 1..=rng.random_range(10..50) {
            for item in 0..rng.random_range(0..4) {
                let mut about = BTreeSet::from([rng.random_range(1..=subjects)]);
                if rng.random_ratio(1, 3) {
                    about.insert(rng.random_range(1..=subjects));
                }
                let about = if ordered { vec![ORDER] } else { about.into_iter().collect() };
                log.push((FeedPlace { seq, item }, about));
            }
        }
        let kept = Kept::at("ab".into(), FeedPlace::after(0), None);
        Play {
            rng,
            ordered,
            limits,
            log,
            head: 0,
            state: state_with(kept.clone(), ordered, limits),
            written: kept,
            now: Instant::now(),
            refused: BTreeSet::new(),
            readings: Vec::new(),
            in_flight: BTreeSet::new(),
            taken: BTreeSet::new(),
            uncertain: BTreeSet::new(),
        }
    }

    fn write(&mut self, lines: Vec<Line>) {
        lines.into_iter().for_each(|line| self.written.take(line));
    }

    fn tidy(&mut self) {
        let lines = self.state.tidy(self.head, self.now);
        self.write(lines);
    }

    fn begin_read(&mut self) -> bool {
        self.tidy();
        let reading = self.state.queue.begin_read(self.head, &self.state.kept);
        let is_begun = reading.is_some();
        self.readings.extend(reading);
        is_begun
    }

    /// Ends a reading with what is owed in at most two records, perhaps in the middle of one.
    fn end_read(&mut self) -> bool {
        if self.readings.is_empty() {
            return false;
        }
        let mut reading = self.readings.swap_remove(self.rng.random_range(0..self.readings.len()));
        let after = reading.reader.through();
        let all = FeedPlace::after(self.head.min(after.seq + 2));
        let found = self.log.iter().filter(|(place, _)| *place > after && *place <= all);
        let found: Vec<&(FeedPlace, Vec<u64>)> = found.collect();
        let through = match found.len() {
            0 => all,
            count if self.rng.random_ratio(1, 4) => found[self.rng.random_range(0..count)].0,
            _ => all,
        };
        let found = found.into_iter().filter(|(place, _)| *place <= through);
        let messages = found.map(|(place, about)| message(*place, about)).collect();
        reading.reader = OwedReader::behind(through);
        let lines = self.state.fill(reading, owed(through, BTreeMap::new()), messages);
        self.write(lines);
        true
    }

    fn about(&self, place: FeedPlace) -> &[u64] {
        &self.log.iter().find(|(other, _)| *other == place).unwrap().1
    }

    /// Sends a webhook, which must not come before an earlier one about the same.
    fn send(&mut self) -> bool {
        if self.in_flight.len() >= IN_FLIGHT_MAX {
            return false;
        }
        self.tidy();
        let Some(Ready { place, message }) = self.state.queue.take_ready(self.now) else {
            return false;
        };
        assert!(message.is_some() || self.state.kept.failing.contains_key(&place));
        assert!(!self.taken.contains(&place) || self.uncertain.contains(&place), "{place} again");
        assert!(self.in_flight.insert(place), "{place} is in flight");
        let about = self.about(place);
        let earlier = self.log.iter().filter(|(other, other_about)| {
            *other < place && other_about.iter().any(|one| about.contains(one))
        });
        for (other, _) in earlier {
            assert!(self.taken.contains(other), "{place} before {other}");
            assert!(!self.in_flight.contains(other), "{place} with {other}");
        }
        true
    }

    fn answer(&mut self) -> bool {
        if self.in_flight.is_empty() {
            return false;
        }
        let number = self.rng.random_range(0..self.in_flight.len());
        let place = *self.in_flight.iter().nth(number).unwrap();
        self.in_flight.remove(&place);
        assert!(self.state.counts(place, 0));
        let lines = if self.refused.contains(&place) {
            let pause = Duration::from_millis(self.rng.random_range(1..1000));
            self.state.fail(place, self.now + pause, 0)
        } else {
            self.taken.insert(place);
            self.uncertain.remove(&place);
            self.state.succeed(place)
        };
        self.write(lines);
        true
    }

    fn kill(&mut self) {
        self.readings.clear();
        for place in std::mem::take(&mut self.in_flight) {
            self.uncertain.insert(place);
            if !self.refused.contains(&place) && self.rng.random() {
                self.taken.insert(place);
            }
        }
        self.state = state_with(self.written.clone(), self.ordered, self.limits);
    }

    fn refuse_some(&mut self) {
        let share = self.rng.random_range(1..6);
        let places: Vec<FeedPlace> = self.log.iter().map(|(place, _)| *place).collect();
        let chosen = places.into_iter().filter(|_| self.rng.random_ratio(1, 4 * share));
        self.refused = chosen.collect();
    }

    fn step(&mut self) {
        match self.rng.random_range(0..60) {
            0..8 => self.head = self.log.last().map_or(0, |last| last.0.seq).min(self.head + 2),
            8..16 => drop(self.begin_read()),
            16..24 => drop(self.end_read()),
            24..38 => drop(self.send()),
            38..52 => drop(self.answer()),
            52..57 => self.now += Duration::from_millis(self.rng.random_range(0..1500)),
            57..58 => self.kill(),
            _ => self.refuse_some(),
        }
        self.check();
    }

    fn check(&self) {
        for kept in [&self.state.kept, &self.written] {
            let delivered = kept.delivered();
            let mut passed = self.log.iter().filter(|(place, _)| *place <= delivered);
            assert!(passed.all(|(place, _)| self.taken.contains(place)), "{delivered}");
        }
        assert!(self.state.queue.held() <= 2 * (self.limits.waiting + READ_MAX));
    }

    /// Goes on until nothing more is taken.
    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < 4 {
            let before = self.taken.len();
            self.now += Duration::from_secs(2);
            // What fails is not due again at this moment.
            let bound = 100 * (self.log.len() + 10);
            let is_over = (0..bound).any(|_| {
                let did = [self.send(), self.answer(), self.begin_read(), self.end_read()];
                self.check();
                did == [false; 4]
            });
            assert!(is_over, "it goes on for ever");
            quiet = if self.taken.len() > before { 0 } else { quiet + 1 };
        }
    }

    /// Returns what must be taken while some is refused: all that neither is refused nor comes
    /// after such a one about the same.
    fn takeable(&self) -> BTreeSet<FeedPlace> {
        let mut waiting: BTreeSet<u64> = BTreeSet::new();
        let mut takeable = BTreeSet::new();
        for (place, about) in self.log.iter().filter(|(place, _)| place.seq <= self.head) {
            let waits = about.iter().any(|one| waiting.contains(one));
            let is_refused = self.refused.contains(place);
            let is_free = !waits && !is_refused;
            let is_taken = self.taken.contains(place);
            if is_taken || is_free {
                takeable.insert(*place);
            }
            // One that was taken at a kill comes again, and may be refused then.
            let is_over = is_taken && !(is_refused && self.uncertain.contains(place));
            if !is_over && !is_free {
                waiting.extend(about);
            }
        }
        takeable
    }

    fn run(mut self) {
        for _ in 0..400 {
            self.step();
        }
        let expected = self.takeable();
        self.settle();
        assert_eq!(self.taken, expected, "others wait for what is refused");
        self.refused.clear();
        self.head = self.log.last().map_or(0, |(place, _)| place.seq);
        self.settle();
        assert_eq!(self.taken.len(), self.log.len());
        for kept in [&self.state.kept, &self.written] {
            assert_eq!((kept.seq(), kept.parked.len(), kept.failing.len()), (self.head, 0, 0));
        }
    }
}

#[test]
fn what_is_refused_delays_only_what_is_about_the_same_and_nothing_is_lost() {
    for seed in 0..200 {
        println!("seed {seed}");
        Play::new(seed, SMALL).run();
    }
}

#[test]
fn with_as_many_parked_as_may_be_nothing_is_lost_either() {
    for seed in 0..50 {
        println!("seed {seed}");
        let limits = Limits { parked: 2, down_after: 3, ..SMALL };
        let mut play = Play::new(seed, limits);
        (0..400).for_each(|_| play.step());
        play.refused.clear();
        play.head = play.log.last().map_or(0, |(place, _)| place.seq);
        play.settle();
        assert_eq!(play.taken.len(), play.log.len());
        assert_eq!(play.written.seq(), play.head);
    }
}
