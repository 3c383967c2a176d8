//! From the order in which things happened to the order in which they are delivered.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;

use rollcall_projections::Millis;

use super::dice::Dice;

/// The histories of several companies as one, in order of `created_at`.
pub(super) struct Merged<H> {
    histories: Vec<H>,
    /// The next event of each.
    next: BinaryHeap<Reverse<(Millis, usize, String)>>,
}

impl<H: Iterator<Item = (Millis, String)>> Merged<H> {
    pub(super) fn new(mut histories: Vec<H>) -> Merged<H> {
        let first = |(number, history): (usize, &mut H)| {
            history.next().map(|(at, body)| Reverse((at, number, body)))
        };
        let next = histories.iter_mut().enumerate().filter_map(first).collect();
        Merged { histories, next }
    }
}

impl<H: Iterator<Item = (Millis, String)>> Iterator for Merged<H> {
    type Item = (Millis, String);

    fn next(&mut self) -> Option<(Millis, String)> {
        let Reverse((at, number, body)) = self.next.pop()?;
        if let Some((at, body)) = self.histories.get_mut(number).and_then(Iterator::next) {
            self.next.push(Reverse((at, number, body)));
        }
        Some((at, body))
    }
}

/// Bodies in order of delivery. Of a late event the first attempt failed: it comes a minute to
/// almost three days after what happened with it. A duplicate comes a second time, within a quarter
/// of an hour. In memory is what is on its way.
pub(super) struct Delivery<H: Iterator<Item = (Millis, String)>> {
    history: Peekable<H>,
    dice: Dice,
    late: f64,
    duplicates: f64,
    /// What waits, by the moment of its delivery and the order in which it was delayed.
    waiting: BinaryHeap<Reverse<(Millis, u64, String)>>,
    delayed: u64,
}

impl<H: Iterator<Item = (Millis, String)>> Delivery<H> {
    pub(super) fn new(history: H, dice: Dice, late: f64, duplicates: f64) -> Delivery<H> {
        Delivery {
            history: history.peekable(),
            dice,
            late,
            duplicates,
            waiting: BinaryHeap::new(),
            delayed: 0,
        }
    }

    fn delay(&mut self, until: Millis, body: String) {
        self.delayed += 1;
        self.waiting.push(Reverse((until, self.delayed, body)));
    }
}

impl<H: Iterator<Item = (Millis, String)>> Iterator for Delivery<H> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            let due = self.waiting.peek().map(|Reverse((until, _, _))| *until);
            let upcoming = self.history.peek().map(|(at, _)| *at);
            if due.is_some_and(|due| upcoming.is_none_or(|at| due <= at)) {
                return self.waiting.pop().map(|Reverse((_, _, body))| body);
            }
            let (at, body) = self.history.next()?;
            // Each further attempt waits twice as long.
            let pause_ms = 60_000 << self.dice.below(12);
            let is_late = self.dice.chance(self.late);
            let arrives =
                if is_late { at + (pause_ms + self.dice.below(pause_ms)) as Millis } else { at };
            if self.dice.chance(self.duplicates) {
                let again = arrives + 1000 + self.dice.below(900_000) as Millis;
                self.delay(again, body.clone());
            }
            if !is_late {
                return Some(body);
            }
            self.delay(arrives, body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_second(count: Millis) -> impl Iterator<Item = (Millis, String)> {
        (0..count).map(|n| (n * 1000, n.to_string()))
    }

    fn delivered(late: f64, duplicates: f64) -> Vec<usize> {
        Delivery::new(every_second(10_000), Dice::new(1, 0), late, duplicates)
            .map(|body| body.parse().unwrap())
            .collect()
    }

    #[test]
    fn without_delays_the_order_of_delivery_is_that_of_what_happened() {
        assert!(delivered(0.0, 0.0).into_iter().eq(0..10_000));
    }

    #[test]
    fn so_many_come_late_and_so_many_twice_and_none_is_missing() {
        let order = delivered(0.05, 0.02);
        // Whatever comes for the first time after something that happened later is late.
        let (mut latest, mut late, mut seen) = (0, 0, vec![0; 10_000]);
        for number in order {
            late += usize::from(seen[number] == 0 && number < latest);
            seen[number] += 1;
            latest = latest.max(number);
        }
        // The last few have nothing after them.
        assert!((430..=570).contains(&late), "{late}");
        let twice = seen.iter().filter(|times| **times == 2).count();
        assert!((160..=240).contains(&twice), "{twice}");
        assert_eq!(seen.iter().filter(|times| **times == 1).count(), 10_000 - twice);
    }

    #[test]
    fn all_can_be_late_and_all_can_come_twice() {
        let mut order = delivered(1.0, 1.0);
        assert!(!order.is_sorted());
        order.sort();
        assert!(order.into_iter().eq((0..10_000).flat_map(|number| [number, number])));
    }

    #[test]
    fn histories_are_merged_by_their_moments() {
        let history = |name: &'static str, moments: &'static [Millis]| {
            moments.iter().map(move |at| (*at, name.to_owned()))
        };
        let merged: Vec<_> = Merged::new(vec![
            history("a", &[1, 4, 4]),
            history("b", &[]),
            history("c", &[2, 4, 5]),
        ])
        .collect();
        let expected = [(1, "a"), (2, "c"), (4, "a"), (4, "a"), (4, "c"), (5, "c")];
        assert_eq!(merged, expected.map(|(at, name)| (at, name.to_owned())));
    }
}
