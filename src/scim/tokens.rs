//! Filters as providers write them, brought into the grammar of RFC 7644.

use std::ops::Range;

/// A piece of a filter.
#[derive(Clone, Debug, PartialEq)]
enum Token<'a> {
    /// A name, an operator or a value without quotes.
    Word(&'a str),
    /// A text with its quotes.
    Quoted(&'a str),
    /// A parenthesis or bracket.
    Mark(char),
}

/// Rewrites a filter for the grammar: values without quotes become texts, `a[f].s op v` becomes
/// `a[(f) and s op v]`, and blanks are where the grammar wants them. `None` for a text that has no
/// end or brackets that do not fit.
pub(super) fn regular(filter: &str) -> Option<String> {
    let tokens = tokens(filter)?;
    let mut pieces: Vec<String> = Vec::with_capacity(tokens.len());
    // Where the filter in each open bracket begins.
    let mut open: Vec<usize> = Vec::new();
    // A bracket that is closed when the comparison behind it has ended.
    let mut pending = false;
    let mut after_operator = false;
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let is_value = std::mem::take(&mut after_operator);
        match token {
            Token::Quoted(text) => pieces.push(text.to_owned()),
            Token::Word(word) if is_value => pieces.push(value(word)),
            Token::Word(word) => {
                after_operator = is_operator(word);
                let spaced = after_operator || is_joint(word) || word.eq_ignore_ascii_case("pr");
                pieces.push(if spaced { format!(" {word} ") } else { word.to_owned() });
                if pending && word.eq_ignore_ascii_case("pr") {
                    pieces.push("]".to_owned());
                    pending = false;
                }
                continue;
            }
            Token::Mark('[') => {
                pieces.push("[".to_owned());
                open.push(pieces.len());
            }
            Token::Mark(']') => {
                let begin = open.pop()?;
                match tokens.peek() {
                    Some(Token::Word(sub)) if sub.starts_with('.') => {
                        pieces.insert(begin, "(".to_owned());
                        pieces.push(format!(") and {}", sub.get(1..)?));
                        tokens.next();
                        pending = true;
                        continue;
                    }
                    _ => pieces.push("]".to_owned()),
                }
            }
            Token::Mark(mark) => pieces.push(mark.to_string()),
        }
        if is_value && std::mem::take(&mut pending) {
            pieces.push("]".to_owned());
        }
    }
    (open.is_empty() && !pending).then(|| pieces.concat())
}

/// Returns the places of the values that a filter, or a path with one, compares with a name that is
/// secret. Empty for a text that has no end.
pub(super) fn secret_values(filter: &str, is_secret: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let tokens = tokens(filter).unwrap_or_default();
    let place = |text: &str| {
        let start = text.as_ptr() as usize - filter.as_ptr() as usize;
        start..start + text.len()
    };
    let value = |step: &[Token<'_>]| match step {
        [Token::Word(name), Token::Word(operator), Token::Word(value) | Token::Quoted(value)]
            if is_operator(operator) && is_secret(name) =>
        {
            Some(place(value))
        }
        _ => None,
    };
    tokens.windows(3).filter_map(value).collect()
}

fn is_operator(word: &str) -> bool {
    let operators = ["eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"];
    operators.iter().any(|operator| word.eq_ignore_ascii_case(operator))
}

fn is_joint(word: &str) -> bool {
    ["and", "or", "not"].iter().any(|joint| word.eq_ignore_ascii_case(joint))
}

/// Writes a value without quotes as the grammar has it.
fn value(word: &str) -> String {
    let constants = ["true", "false", "null"];
    match constants.iter().find(|constant| word.eq_ignore_ascii_case(constant)) {
        Some(constant) => (*constant).to_owned(),
        None => serde_json::to_string(word).unwrap_or_default(),
    }
}

fn tokens(filter: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let mut rest = filter.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '(' | ')' | '[' | ']' => {
                tokens.push(Token::Mark(first));
                1
            }
            '"' => {
                let length = quoted_bytes(rest)?;
                tokens.push(Token::Quoted(rest.get(..length)?));
                length
            }
            _ => {
                let ends = |c: char| c.is_whitespace() || "()[]\"".contains(c);
                let length = rest.find(ends).unwrap_or(rest.len());
                tokens.push(Token::Word(rest.get(..length)?));
                length
            }
        };
        rest = rest.get(length..)?.trim_start();
    }
    Some(tokens)
}

/// Returns the length of the text with its quotes that `rest` begins with.
fn quoted_bytes(rest: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}
