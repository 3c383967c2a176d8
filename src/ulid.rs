//! ULIDs (<https://github.com/ulid/spec>): ids that begin with their moment.

use rollcall_projections::Millis;

const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// Returns the ULID of a moment, after 1970, and 80 further bits.
pub fn of(at: Millis, bits: [u8; 10]) -> String {
    let millis = u128::from(at.max(0).unsigned_abs() & ((1 << 48) - 1));
    let value = bits.iter().fold(millis, |value, byte| value << 8 | u128::from(*byte));
    let digit = |place: u32| DIGITS.get((value >> (5 * place)) as usize & 31).copied();
    (0..26).rev().filter_map(digit).map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ulid_has_its_moment_in_front_and_the_bits_behind() {
        // python3: 2026-01-15T12:00:00Z = 1768478400000 ms; digits of n = ms << 80 | bits in base 32.
        assert_eq!(of(1_768_478_400_000, [0; 10]), "01KF0RDQG00000000000000000");
        assert_eq!(of(0, [0xff; 10]), "0000000000ZZZZZZZZZZZZZZZZ");
        assert_eq!(of(-1, [0; 10]), "0".repeat(26));
    }
}
