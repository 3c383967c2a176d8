//! Matching of globs in time that grows with the length of the text, whatever the glob is.

use std::collections::HashMap;

/// The bits of one word of a [`Wildcards`] search.
const BITS: usize = 64;

/// Tells if a text fits a glob: `*` matches any run of characters, `?` matches one, and any other
/// character matches itself. Adds to `work` about the nanoseconds that it takes.
///
/// The runs between stars are found one after another, each at its first place: a later place
/// leaves less of the text to the runs behind it, so that no place is tried twice.
pub fn glob_fits(glob: &str, text: &str, work: &mut u64) -> bool {
    *work += 1;
    let Some((first, rest)) = glob.split_once('*') else {
        return prefix(glob, text, work).is_some_and(str::is_empty);
    };
    let Some(mut text) = prefix(first, text, work) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for run in middle.split('*').filter(|run| !run.is_empty()) {
        match behind_first(run, text, work) {
            Some(behind) => text = behind,
            None => return false,
        }
    }
    let begins = last.chars().count();
    *work += begins as u64;
    let suffix_at = match begins.checked_sub(1) {
        None => return true,
        Some(before) => text.char_indices().rev().nth(before).map(|(at, _)| at),
    };
    let suffix = suffix_at.and_then(|at| text.get(at..));
    suffix.is_some_and(|suffix| prefix(last, suffix, work).is_some_and(str::is_empty))
}

/// Returns what follows in `text` behind a run at its beginning.
fn prefix<'t>(run: &str, text: &'t str, work: &mut u64) -> Option<&'t str> {
    let mut text = text.chars();
    for wanted in run.chars() {
        *work += 1;
        let found = text.next()?;
        if wanted != '?' && wanted != found {
            return None;
        }
    }
    Some(text.as_str())
}

/// Returns what follows in `text` behind the first place of a run that has no star.
fn behind_first<'t>(run: &str, text: &'t str, work: &mut u64) -> Option<&'t str> {
    let end = if run.contains('?') {
        Wildcards::of(run, work).end_of_first(text, work)
    } else {
        let found = text.find(run).map(|at| at + run.len());
        *work += (2 * run.len() + found.unwrap_or(text.len())) as u64;
        found
    };
    end.and_then(|end| text.get(end..))
}

/// A run with question marks, as bits: one for each character, so that all places at which it may
/// begin are followed at once (the shift-and search of Baeza-Yates and Gonnet).
struct Wildcards {
    /// By character: the bits of the places in the run that match it.
    places: HashMap<char, Vec<u64>>,
    /// The bits of the question marks, which are the places of every other character.
    any: Vec<u64>,
    last: usize,
}

impl Wildcards {
    fn of(run: &str, work: &mut u64) -> Wildcards {
        let length = run.chars().count();
        *work += 64 * length as u64;
        let mut any = vec![0; length.div_ceil(BITS)];
        for (at, _) in run.chars().enumerate().filter(|(_, wanted)| *wanted == '?') {
            set(&mut any, at);
        }
        let mut places: HashMap<char, Vec<u64>> = HashMap::new();
        for (at, wanted) in run.chars().enumerate().filter(|(_, wanted)| *wanted != '?') {
            set(places.entry(wanted).or_insert_with(|| any.clone()), at);
        }
        Wildcards { places, any, last: length - 1 }
    }

    /// Returns the end of the first place at which the run matches.
    fn end_of_first(&self, text: &str, work: &mut u64) -> Option<usize> {
        let mut begun = vec![0_u64; self.any.len()];
        for (at, found) in text.char_indices() {
            *work += 16 + 2 * begun.len() as u64;
            let places = self.places.get(&found).unwrap_or(&self.any);
            let mut carry = 1;
            for (word, places) in begun.iter_mut().zip(places) {
                let next = *word >> (BITS - 1);
                *word = (*word << 1 | carry) & places;
                carry = next;
            }
            if begun.last().is_some_and(|word| word >> (self.last % BITS) & 1 == 1) {
                return Some(at + found.len_utf8());
            }
        }
        None
    }
}

fn set(bits: &mut [u64], at: usize) {
    if let Some(word) = bits.get_mut(at / BITS) {
        *word |= 1 << (at % BITS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fits(glob: &str, text: &str) -> bool {
        glob_fits(glob, text, &mut 0)
    }

    #[test]
    fn only_star_and_question_mark_are_special_in_a_glob() {
        let table = [
            ("Plat*", "Platform", true),
            ("Plat*", "Plat", true),
            ("Plat*", "plat", false),
            ("*", "", true),
            ("?", "", false),
            ("?", "é", true),
            ("a*b*c", "a--b--b-c", true),
            ("a*b*c", "a--b--b-", false),
            ("*form", "Platform", true),
            ("*form", "Platforms", false),
            ("**", "x", true),
            ("a?c*", "abcdef", true),
            ("a*a", "a", false),
            ("a*?", "a", false),
            ("*?b*", "ab", true),
            ("*?b*", "b", false),
            ("[a-z]", "b", false),
            ("[a-z]", "[a-z]", true),
            ("a.c", "abc", false),
            ("\\*", "*", false),
            ("\\*", "\\anything", true),
            ("", "", true),
            ("", "x", false),
            ("*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ];
        for (glob, text, expected) in table {
            assert_eq!(fits(glob, text), expected, "{glob} {text}");
        }
    }

    /// Decides by the definition of a glob, and by trying every place.
    fn fits_naively(glob: &[char], text: &[char]) -> bool {
        match (glob, text) {
            ([], text) => text.is_empty(),
            (['*', rest @ ..], text) => {
                (0..=text.len()).any(|skipped| fits_naively(rest, &text[skipped..]))
            }
            (['?', rest @ ..], [_, text @ ..]) => fits_naively(rest, text),
            ([wanted, rest @ ..], [found, text @ ..]) => {
                wanted == found && fits_naively(rest, text)
            }
            (_, []) => false,
        }
    }

    #[test]
    fn every_short_glob_fits_what_the_naive_matcher_says() {
        let all = |letters: &[char], longest: usize| {
            let mut all = vec![String::new()];
            let mut from = 0;
            for _ in 0..longest {
                let shorter = all[from..].to_vec();
                from = all.len();
                for text in shorter {
                    all.extend(letters.iter().map(|letter| format!("{text}{letter}")));
                }
            }
            all
        };
        let texts = all(&['a', 'é'], 5);
        for glob in all(&['a', 'é', '*', '?'], 5) {
            let pattern: Vec<char> = glob.chars().collect();
            for text in &texts {
                let expected = fits_naively(&pattern, &text.chars().collect::<Vec<_>>());
                assert_eq!(fits(&glob, text), expected, "{glob} {text}");
            }
        }
    }

    #[test]
    fn long_runs_with_question_marks_are_found_over_the_bounds_of_words() {
        for length in [63, 64, 65, 127, 128, 129, 200] {
            let run = format!("{}?z", "a".repeat(length - 2));
            let here = format!("{}bz", "a".repeat(length - 2));
            for before in [0, 1, 70] {
                let text = format!("{}{here}tail", "a".repeat(before));
                assert!(fits(&format!("*{run}*"), &text), "{length} {before}");
                assert!(fits(&format!("*{run}tail"), &text), "{length} {before}");
                assert!(!fits(&format!("*{run}x*"), &text), "{length} {before}");
            }
            assert!(!fits(&format!("*{run}*"), &here[1..]), "{length}");
        }
    }

    #[test]
    fn the_work_grows_with_the_text_and_not_with_its_square() {
        for glob in ["*a?a?b*", "*aaaa*aaab*", "a*a*a*a*a*a*b", "*?*?*?*b*", "*ab*a?b*"] {
            let work = |length: usize| {
                let mut work = 0;
                assert!(!glob_fits(glob, &"a".repeat(length), &mut work));
                work
            };
            let (short, long) = (work(1000), work(10_000));
            assert!(long <= 12 * short, "{glob}: {short} and {long}");
            assert!(long <= 100 * 10_000, "{glob}: {long}");
        }
    }
}
