//! Likeness of texts: how near a text that was asked for is to one that exists.

/// The longest text, in characters, whose spelling is compared letter by letter.
const SPELLED_CHARS_MAX: usize = 64;

/// The least length of a text that counts as near because another one contains it, in bytes.
const CONTAINED_BYTES_MIN: usize = 3;

/// The most bytes in a row in which two ids differ and are near.
const ID_SLIP_BYTES_MAX: usize = 2;

/// Returns the distance of a name from the one that was asked for, the nearest first; `None` if
/// they are not near. `asked` is in lower case.
pub(crate) fn name_distance(asked: &str, name: &str) -> Option<u32> {
    if asked.is_empty() || name.is_empty() {
        return None;
    }
    let name = name.to_lowercase();
    if name == asked {
        return Some(0);
    }
    let contains = |long: &str, short: &str| {
        short.len() >= CONTAINED_BYTES_MIN && long.len() > short.len() && long.contains(short)
    };
    if contains(&name, asked) || contains(asked, &name) {
        return Some(1);
    }
    let (asked, name): (Vec<char>, Vec<char>) = (asked.chars().collect(), name.chars().collect());
    let longest = asked.len().max(name.len());
    if longest > SPELLED_CHARS_MAX || asked.len().abs_diff(name.len()) > longest.div_ceil(3) {
        return None;
    }
    let edits = edits(&asked, &name);
    (edits <= longest.div_ceil(3)).then(|| u32::try_from(edits).map_or(u32::MAX, |edits| 1 + edits))
}

/// Returns the distance of an id from the one that was asked for. Ids of one kind begin alike, so
/// that only beginnings of each other and slips in one place are near.
pub(crate) fn id_distance(asked: &str, id: &str) -> Option<u32> {
    if asked.is_empty() || id.is_empty() {
        return None;
    }
    if id.starts_with(asked) || asked.starts_with(id) {
        return Some(1);
    }
    let (asked, id) = (asked.as_bytes(), id.as_bytes());
    let (longest, shortest) = (asked.len().max(id.len()), asked.len().min(id.len()));
    let begin = asked.iter().zip(id).take_while(|(a, b)| a == b).count();
    let end = asked.iter().rev().zip(id.iter().rev()).take_while(|(a, b)| a == b).count();
    let alike = (begin + end).min(shortest);
    (alike > 2 * ID_SLIP_BYTES_MAX && longest - alike <= ID_SLIP_BYTES_MAX).then_some(2)
}

/// Counts the characters that must be inserted, left out or replaced to make one text of the other.
fn edits(one: &[char], other: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, a) in one.iter().enumerate() {
        let mut diagonal = at;
        let mut left = at + 1;
        for (b, above) in other.iter().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(a != b);
            diagonal = *above;
            left = replaced.min(left + 1).min(*above + 1);
            *above = left;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        for (asked, name, distance) in [
            ("platform", "PLATFORM", Some(0)),
            ("platform", "Platform Team", Some(1)),
            ("platform team", "Platform", Some(1)),
            ("platfrom", "Platform", Some(3)),
            ("platfom", "Platform", Some(2)),
            ("salse", "Sales", Some(3)),
            ("sales", "Platform", None),
            ("hr", "Chrome", None),
            ("it", "HR", None),
            ("\u{e9}quipe", "\u{c9}quipe", Some(0)),
            ("", "a", None),
            ("a", "", None),
        ] {
            assert_eq!(name_distance(asked, name), distance, "{asked} {name}");
        }
    }

    #[test]
    fn only_a_beginning_or_one_slip_is_near_an_id() {
        let id = "directory_user_01K424MJ3048WHJA7G74J4MK1K";
        for (asked, distance) in [
            ("directory_user_01K424MJ30", Some(1)),
            ("directory_user_01K424MJ3048WHJA7G74J4MK1K_", Some(1)),
            ("directory_user_01K424MJ3048WHJA7G74J4MK1L", Some(2)),
            ("directory_user_01K424MJ3084WHJA7G74J4MK1K", Some(2)),
            ("directory_user_01K424MJ048WHJA7G74J4MK1K", Some(2)),
            ("directory_user_01K424MHZW4ARSCHD1SQVX7DNM", None),
            ("nobody", None),
            ("", None),
        ] {
            assert_eq!(id_distance(asked, id), distance, "{asked}");
        }
        assert_eq!(id_distance("u1", "u2"), None);
    }
}
