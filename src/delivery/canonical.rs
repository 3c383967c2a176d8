//! JSON as JavaScript writes it: the text of `JSON.stringify(JSON.parse(text))`.
//!
//! The official library for Node parses the body of a webhook and checks the signature of what it
//! writes of it again. Only a body that comes out of that unchanged can be verified there. What
//! changes: blanks go; numbers become those of 64 bits, `1.0` is `1`, `1e2` is `100` and `1e400` is
//! `null`; the keys of an object that are whole numbers come first, in ascending order; of a key that
//! comes twice only the last value stays, at the first place.

use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;

/// Returns the text that JavaScript writes of a JSON text; `None` if it is not JSON.
pub(super) fn as_javascript(text: &str) -> Option<Vec<u8>> {
    let mut writer = Writer { text, at: 0, out: Vec::with_capacity(text.len()), open: Vec::new() };
    writer.write()?;
    Some(writer.out)
}

/// An array or object whose end is not written yet.
enum Open {
    Array,
    Object(Vec<Member>),
}

/// A member of an object in what is written.
struct Member {
    key: Range<usize>,
    /// From the key to the end of the value.
    whole: Range<usize>,
}

struct Writer<'a> {
    text: &'a str,
    at: usize,
    out: Vec<u8>,
    open: Vec<Open>,
}

impl Writer<'_> {
    fn peek(&mut self) -> Option<u8> {
        let rest = self.text.as_bytes().get(self.at..)?;
        self.at += rest.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.text.as_bytes().get(self.at).copied()
    }

    fn take(&mut self, wanted: u8) -> Option<()> {
        (self.peek()? == wanted).then(|| self.at += 1)
    }

    /// Writes one value. It keeps a stack of its own, since values may be nested deeply.
    fn write(&mut self) -> Option<()> {
        loop {
            if self.begin_value()? {
                continue;
            }
            // A value is complete: those around it may be as well.
            loop {
                let Some(around) = self.open.last_mut() else {
                    return self.peek().is_none().then_some(());
                };
                let end = self.out.len();
                if let Open::Object(members) = around
                    && let Some(member) = members.last_mut()
                {
                    member.whole.end = end;
                }
                let closes = if matches!(around, Open::Array) { b']' } else { b'}' };
                match self.peek()? {
                    b',' => {
                        self.at += 1;
                        self.out.push(b',');
                        if closes == b'}' {
                            self.key()?;
                        }
                        break;
                    }
                    byte if byte == closes => {
                        self.at += 1;
                        self.close(closes);
                    }
                    _ => return None,
                }
            }
        }
    }

    /// Writes a value, or the beginning of one that holds others. Returns true if another value
    /// must follow.
    fn begin_value(&mut self) -> Option<bool> {
        match self.peek()? {
            b'[' => {
                self.at += 1;
                self.out.push(b'[');
                self.open.push(Open::Array);
                if self.peek()? != b']' {
                    return Some(true);
                }
                self.at += 1;
                self.close(b']');
                Some(false)
            }
            b'{' => {
                self.at += 1;
                self.out.push(b'{');
                self.open.push(Open::Object(Vec::new()));
                if self.peek()? != b'}' {
                    self.key()?;
                    return Some(true);
                }
                self.at += 1;
                self.close(b'}');
                Some(false)
            }
            b'"' => self.string().map(|()| false),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number().map(|()| false),
        }
    }

    fn word(&mut self, word: &str) -> Option<bool> {
        self.text.get(self.at..)?.starts_with(word).then(|| {
            self.at += word.len();
            self.out.extend(word.bytes());
            false
        })
    }

    fn key(&mut self) -> Option<()> {
        (self.peek()? == b'"').then_some(())?;
        let start = self.out.len();
        self.string()?;
        let key = start..self.out.len();
        self.take(b':')?;
        self.out.push(b':');
        if let Some(Open::Object(members)) = self.open.last_mut() {
            members.push(Member { whole: key.clone(), key });
        }
        Some(())
    }

    fn close(&mut self, closes: u8) {
        if let Some(Open::Object(members)) = self.open.pop() {
            self.put_in_order(&members);
        }
        self.out.push(closes);
    }

    /// Puts the members that were written last into the order in which JavaScript has them.
    fn put_in_order(&mut self, members: &[Member]) {
        let Some(begin) = members.first().map(|member| member.whole.start) else { return };
        let written = self.out.get(begin..).unwrap_or_default();
        let part = |range: &Range<usize>| {
            written.get(range.start - begin..range.end - begin).unwrap_or_default()
        };
        let mut places: HashMap<&[u8], usize> = HashMap::with_capacity(members.len());
        let (mut kept, mut is_in_order): (Vec<&Member>, bool) = (Vec::new(), true);
        for member in members {
            match places.entry(part(&member.key)) {
                Entry::Occupied(place) => {
                    is_in_order = false;
                    if let Some(earlier) = kept.get_mut(*place.get()) {
                        *earlier = member;
                    }
                }
                Entry::Vacant(place) => {
                    place.insert(kept.len());
                    kept.push(member);
                }
            }
        }
        // Those that are not whole numbers stay in their order behind the others.
        let rank = |member: &&Member| index(part(&member.key)).map_or(u64::MAX, u64::from);
        if is_in_order && kept.is_sorted_by_key(rank) {
            return;
        }
        kept.sort_by_key(rank);
        let ordered: Vec<&[u8]> = kept.iter().map(|member| part(&member.whole)).collect();
        let ordered = ordered.join(&b',');
        self.out.truncate(begin);
        self.out.extend(ordered);
    }

    fn string(&mut self) -> Option<()> {
        self.at += 1;
        self.out.push(b'"');
        loop {
            let rest = self.text.as_bytes().get(self.at..)?;
            let plain = memchr::memchr2(b'"', b'\\', rest)?;
            self.out.extend(rest.get(..plain)?);
            self.at += plain + 1;
            if rest.get(plain) == Some(&b'"') {
                self.out.push(b'"');
                return Some(());
            }
            self.escape()?;
        }
    }

    fn escape(&mut self) -> Option<()> {
        let kind = *self.text.as_bytes().get(self.at)?;
        self.at += 1;
        match kind {
            b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't' => self.out.extend([b'\\', kind]),
            b'/' => self.out.push(b'/'),
            b'u' => {
                let unit = self.unit()?;
                self.push_unit(unit)?;
            }
            _ => return None,
        }
        Some(())
    }

    /// Reads the four digits of an escaped unit of UTF-16.
    fn unit(&mut self) -> Option<u16> {
        let digits = self.text.get(self.at..self.at + 4)?;
        self.at += 4;
        u16::from_str_radix(digits, 16).ok()
    }

    fn push_unit(&mut self, unit: u16) -> Option<()> {
        let before = self.at;
        if (0xd800..0xdc00).contains(&unit) && self.text.get(before..)?.starts_with("\\u") {
            self.at += 2;
            let second = self.unit()?;
            if let Some(Ok(c)) = char::decode_utf16([unit, second]).next() {
                self.push_char(c);
                return Some(());
            }
            self.at = before;
        }
        match char::from_u32(unit.into()) {
            Some(c) => self.push_char(c),
            None => self.out.extend(format!("\\u{unit:04x}").bytes()),
        }
        Some(())
    }

    fn push_char(&mut self, c: char) {
        let escaped: Cow<'_, str> = match c {
            '"' => "\\\"".into(),
            '\\' => "\\\\".into(),
            '\u{8}' => "\\b".into(),
            '\u{c}' => "\\f".into(),
            '\n' => "\\n".into(),
            '\r' => "\\r".into(),
            '\t' => "\\t".into(),
            c if c < ' ' => format!("\\u{:04x}", u32::from(c)).into(),
            c => String::from(c).into(),
        };
        self.out.extend(escaped.bytes());
    }

    fn number(&mut self) -> Option<()> {
        let rest = self.text.get(self.at..)?;
        let end = rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'));
        let text = rest.get(..end.unwrap_or(rest.len()))?;
        self.at += text.len();
        let written = number_as_javascript(text)?;
        self.out.extend(written.bytes());
        Some(())
    }
}

/// Returns the whole number that a key in quotes is, if JavaScript puts it before the others.
fn index(key: &[u8]) -> Option<u32> {
    let digits = key.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    let is_plain = matches!(digits, [b'0'] | [b'1'..=b'9', ..]) && digits.len() <= 10;
    let is_plain = is_plain && digits.iter().all(u8::is_ascii_digit);
    let number = is_plain.then(|| std::str::from_utf8(digits).ok()?.parse::<u32>().ok())?;
    number.filter(|number| *number < u32::MAX)
}

/// The digits of a whole number that a number of 64 bits holds for certain.
const DIGITS_EXACT: usize = 15;

/// Writes a number as `Number::toString` of ECMAScript does.
fn number_as_javascript(text: &str) -> Option<Cow<'_, str>> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_whole = digits.len() <= DIGITS_EXACT && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_whole && !matches!(digits, "" | "0") {
        return Some(text.into());
    }
    let number: f64 = text.parse().ok()?;
    if number.is_infinite() {
        return Some("null".into());
    }
    if number == 0.0 {
        return Some("0".into());
    }
    let sign = if number < 0.0 { "-" } else { "" };
    let scientific = format!("{:e}", number.abs());
    let (mantissa, exponent) = scientific.split_once('e')?;
    let digits = mantissa.replace('.', "");
    let (count, point) = (i32::try_from(digits.len()).ok()?, exponent.parse::<i32>().ok()? + 1);
    let zeros = |count: i32| "0".repeat(usize::try_from(count).unwrap_or_default());
    let written = match point {
        1..=21 if count <= point => format!("{digits}{}", zeros(point - count)),
        1..=21 => {
            let (whole, rest) = digits.split_at_checked(usize::try_from(point).ok()?)?;
            format!("{whole}.{rest}")
        }
        -5..=0 => format!("0.{}{digits}", zeros(-point)),
        _ => {
            let plus = if point > 0 { "+" } else { "" };
            format!("{mantissa}e{plus}{}", point - 1)
        }
    };
    Some(format!("{sign}{written}").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> String {
        String::from_utf8(as_javascript(text).unwrap()).unwrap()
    }

    #[test]
    fn numbers_are_written_as_javascript_writes_them() {
        for (text, expected) in [
            ("0", "0"),
            ("-0", "0"),
            ("1", "1"),
            ("-17", "-17"),
            ("1.0", "1"),
            ("1e2", "100"),
            ("1E+2", "100"),
            ("100.50", "100.5"),
            ("1e21", "1e+21"),
            ("1e20", "100000000000000000000"),
            ("123456789012345678", "123456789012345680"),
            ("12345678901234567890123", "1.2345678901234568e+22"),
            ("0.000001", "0.000001"),
            ("0.0000001", "1e-7"),
            ("-1.5e-9", "-1.5e-9"),
            ("5e-324", "5e-324"),
            ("1e400", "null"),
            ("1e-400", "0"),
            ("9007199254740993", "9007199254740992"),
            ("999999999999999", "999999999999999"),
        ] {
            assert_eq!(written(text), expected, "{text}");
        }
    }

    #[test]
    fn texts_are_written_as_javascript_writes_them() {
        for (text, expected) in [
            (r#""a\/b""#, r#""a/b""#),
            (r#""\u00e9\u0041""#, "\"éA\""),
            (r#""\u0007\u000A\u0008\u000c""#, r#""\u0007\n\b\f""#),
            (r#""\ud83d\ude00""#, "\"😀\""),
            (r#""\uD800""#, r#""\ud800""#),
            (r#""\uDC00\ud83d\ude00""#, "\"\\udc00😀\""),
            (r#""\ud800\u0041""#, r#""\ud800A""#),
            (r#""\ud800\ud83d\ude00""#, "\"\\ud800😀\""),
            (r#""\u0022\u005c\u007f\u2028""#, "\"\\\"\\\\\u{7f}\u{2028}\""),
        ] {
            assert_eq!(written(text), expected, "{text}");
        }
    }

    #[test]
    fn keys_are_in_the_order_of_javascript() {
        for (text, expected) in [
            (" { } ", "{}"),
            ("[ 1 , [ ] , { \"a\" : null } ]", r#"[1,[],{"a":null}]"#),
            (r#"{"b":1,"a":2}"#, r#"{"b":1,"a":2}"#),
            (r#"{"b":1,"10":2,"9":3,"a":4}"#, r#"{"9":3,"10":2,"b":1,"a":4}"#),
            (r#"{"01":1,"1":2,"-1":3,"1.0":4}"#, r#"{"1":2,"01":1,"-1":3,"1.0":4}"#),
            (r#"{"4294967295":1,"4294967294":2}"#, r#"{"4294967294":2,"4294967295":1}"#),
            (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
            (r#"{"a":1,"\u0061":{"2":1,"1":2}}"#, r#"{"a":{"1":2,"2":1}}"#),
            (r#"{"x":[{"2":0,"1":0}],"0":true}"#, r#"{"0":true,"x":[{"1":0,"2":0}]}"#),
            (r#"{"a":[],"1":{}}"#, r#"{"1":{},"a":[]}"#),
        ] {
            assert_eq!(written(text), expected, "{text}");
            assert_eq!(written(expected), expected, "writing it again changes nothing");
        }
    }

    #[test]
    fn deep_nesting_takes_no_stack_and_what_is_not_json_is_nothing() {
        let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(written(&deep), deep);
        for text in ["", "{", "[1", "[1,", "{\"a\"}", "{\"a\":}", "\"\\x\"", "nul", "1 2", "{1:2}"]
        {
            assert_eq!(as_javascript(text), None, "{text}");
        }
    }
}
