//! Puts events from the order in which they happened into the order of delivery.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::iter::Peekable;

use rollcall_projections::Millis;

use super::dice::Dice;

/// Merges the histories of several companies in order of `created_at`.
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

/// Yields bodies in order of delivery.
///
/// A late event is one whose first attempt failed: it is delivered a minute to almost three days
/// after it happened. A duplicate is delivered a second time within a quarter of an hour. Only
/// delayed bodies are held in memory.
pub(super) struct Deliveries<H: Iterator<Item = (Millis, String)>> {
    history: Peekable<H>,
    dice: Dice,
    late: f64,
    duplicates: f64,
    /// Delayed bodies by the moment of delivery and the order in which they were delayed.
    waiting: BinaryHeap<Reverse<(Millis, u64, String)>>,
    delayed: u64,
}

impl<H: Iterator<Item = (Millis, String)>> Deliveries<H> {
    pub(super) fn new(history: H, dice: Dice, late: f64, duplicates: f64) -> Deliveries<H> {
        Deliveries {
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

impl<H: Iterator<Item = (Millis, String)>> Iterator for Deliveries<H> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        loop {
            let due = self.waiting.peek().map(|Reverse((until, _, _))| *until);
            let upcoming = self.history.peek().map(|(at, _)| *at);
            if due.is_some_and(|due| upcoming.is_none_or(|at| due <= at)) {
                return self.waiting.pop().map(|Reverse((_, _, body))| body);
            }
            let (at, body) = self.history.next()?;
            // The pause doubles with each failed attempt.
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
        Deliveries::new(every_second(10_000), Dice::new(1, 0), late, duplicates)
            .map(|body| body.parse().unwrap())
            .collect()
    }

    #[test]
    fn without_delays_events_are_delivered_in_the_order_in_which_they_happened() {
        assert!(delivered(0.0, 0.0).into_iter().eq(0..10_000));
    }

    #[test]
    fn the_given_fractions_are_late_and_duplicated_and_none_is_missing() {
        let order = delivered(0.05, 0.02);
        // An event is late if one that happened after it is delivered before it.
        let (mut latest, mut late, mut seen) = (0, 0, vec![0; 10_000]);
        for number in order {
            late += usize::from(seen[number] == 0 && number < latest);
            seen[number] += 1;
            latest = latest.max(number);
        }
        // Some less than 5 %: the last few have nothing after them.
        assert!((430..=570).contains(&late), "{late}");
        let twice = seen.iter().filter(|times| **times == 2).count();
        assert!((160..=240).contains(&twice), "{twice}");
        assert_eq!(seen.iter().filter(|times| **times == 1).count(), 10_000 - twice);
    }

    #[test]
    fn all_events_can_be_late_and_duplicated() {
        let mut order = delivered(1.0, 1.0);
        assert!(!order.is_sorted());
        order.sort();
        assert!(order.into_iter().eq((0..10_000).flat_map(|number| [number, number])));
    }

    #[test]
    fn histories_are_merged_by_time() {
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
