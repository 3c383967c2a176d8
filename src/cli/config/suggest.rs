//! Suggestions for words that were mistyped.

/// The most edits between a word and the one that is suggested for it.
const EDITS_MAX: usize = 2;

/// The least characters of a beginning for which the whole word is suggested.
const BEGINNING_MIN: usize = 4;

/// Returns the word that is closest to `text`, if it is close enough to be meant, or else one that
/// begins with it.
pub(in crate::cli) fn closest<'a>(
    text: &str,
    words: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    // `publish-every` is meant as `publish_every`.
    let text = text.replace('-', "_").to_lowercase();
    let chars = text.chars().count();
    let words: Vec<&str> = words.collect();
    let nearest = words.iter().map(|word| (edits(&text, word), *word)).min();
    let nearest = nearest.filter(|(edits, _)| *edits <= EDITS_MAX.min(chars / 2));
    let beginning = || words.iter().find(|word| word.starts_with(&text)).copied();
    nearest.map(|(_, word)| word).or_else(|| beginning().filter(|_| chars >= BEGINNING_MIN))
}

/// Returns how many characters must be put in, taken out or replaced, or neighbours exchanged.
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, a) in from.iter().enumerate() {
        let mut next = vec![row + 1];
        for (column, b) in to.iter().enumerate() {
            let at = |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX);
            let replaced = at(&last, column) + usize::from(a != b);
            let mut least = replaced.min(at(&last, column + 1) + 1).min(at(&next, column) + 1);
            let crossed = row > 0
                && column > 0
                && from.get(row - 1) == Some(b)
                && to.get(column - 1) == Some(a);
            if crossed {
                least = least.min(at(&before, column - 1) + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut last, next);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_suggested_only_if_it_is_close() {
        let words = ["listen", "log", "log_format", "publish_every"];
        for (text, expected) in [
            ("lisen", Some("listen")),
            ("lsiten", Some("listen")),
            ("Listen", Some("listen")),
            ("publish-every", Some("publish_every")),
            ("log_fromat", Some("log_format")),
            ("lob", Some("log")),
            ("publish", Some("publish_every")),
            ("pub", None),
            ("x", None),
            ("", None),
            ("something", None),
        ] {
            assert_eq!(closest(text, words.into_iter()), expected, "{text}");
        }
    }

    #[test]
    fn edits_are_counted() {
        for (from, to, expected) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("ab", "ba", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(edits(from, to), expected, "{from} {to}");
        }
    }
}
