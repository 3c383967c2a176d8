//! Random numbers that are the same on every machine: only integers and exact fractions are drawn,
//! and the seed alone decides them.

use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng;

/// A seeded source of random numbers.
pub(super) struct Dice(Pcg64);

impl Dice {
    /// Each `stream` of a seed is an independent sequence.
    pub(super) fn new(seed: u64, stream: u64) -> Dice {
        // The stream is part of the state as well: sequences that differ only in the increment
        // begin alike.
        let state = u128::from(seed) << 64 | u128::from(stream.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Dice(Pcg64::new(state, u128::from(stream)))
    }

    /// Returns 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Returns the random part of a ULID.
    pub(super) fn entropy(&mut self) -> u128 {
        u128::from(self.bits()) << 64 | u128::from(self.bits())
    }

    /// Returns a number from 0 to `bound` - 1; 0 for a bound of 0. Uniform to within `bound` /
    /// 2^64.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// Returns an index into a list of this length; 0 for an empty one.
    pub(super) fn index(&mut self, length: usize) -> usize {
        self.below(length as u64) as usize
    }

    /// Returns true with this probability.
    pub(super) fn chance(&mut self, probability: f64) -> bool {
        ((self.bits() >> 11) as f64) < probability * (1u64 << 53) as f64
    }

    /// Returns how often something happens to `count` people today that happens to `per_10000` of
    /// 10,000 people each day.
    pub(super) fn times(&mut self, count: u64, per_10000: u64) -> u64 {
        let expected = count * per_10000;
        expected / 10_000 + u64::from(self.below(10_000) < expected % 10_000)
    }

    /// Returns an element of the list; the default for an empty one.
    pub(super) fn pick<T: Copy + Default>(&mut self, list: &[T]) -> T {
        list.get(self.index(list.len())).copied().unwrap_or_default()
    }

    pub(super) fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            list.swap(end, self.index(end + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_within_their_bounds_and_spread() {
        let mut dice = Dice::new(1, 0);
        let mut seen = [0; 6];
        (0..6000).for_each(|_| seen[dice.index(6)] += 1);
        assert!(seen.iter().all(|count| (900..1100).contains(count)), "{seen:?}");
        assert_eq!((dice.below(0), dice.below(1)), (0, 0));
        assert!((0..100).all(|_| dice.chance(1.0)) && !(0..100).any(|_| dice.chance(0.0)));
        assert_eq!((0..1000).map(|_| dice.times(30, 1000)).sum::<u64>(), 3000);
        let mut list: Vec<u8> = (0..50).collect();
        dice.shuffle(&mut list);
        assert!(!list.is_sorted());
        list.sort();
        assert!(list.into_iter().eq(0..50));
    }
}
