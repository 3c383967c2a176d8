//! `rollcall.toml` as values with their lines, and mistakes with the places where they are.

use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::suggest::closest;
use crate::keys::may_be_secret;

/// The longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The place that a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Origin {
    /// An option of the command line.
    Flag(&'static str),
    /// A variable of the environment.
    Variable(String),
    /// A line of the file.
    Line(Arc<str>, usize),
    /// The value that holds if none is given.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(flag) => write!(formatter, "--{flag}"),
            Origin::Variable(name) => formatter.write_str(name),
            Origin::Line(file, line) => write!(formatter, "{file}:{line}"),
            Origin::Default => formatter.write_str("default"),
        }
    }
}

/// Mistakes in the configuration, in the order in which they were found.
#[derive(Debug, Default)]
pub(in crate::cli) struct Mistakes(Vec<String>);

impl Mistakes {
    pub(super) fn add(&mut self, place: &Origin, says: impl fmt::Display) {
        self.0.push(format!("{place}: {says}"));
    }

    /// Adds a mistake that has no single place.
    pub(super) fn add_whole(&mut self, says: impl Into<String>) {
        self.0.push(says.into());
    }

    /// Adds those of another part.
    pub(super) fn extend(&mut self, others: &Mistakes) {
        self.0.extend_from_slice(&others.0);
    }

    /// Returns the sentences, one for each mistake.
    pub(in crate::cli) fn sentences(&self) -> &[String] {
        &self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = &*self.0 {
            return formatter.write_str(only);
        }
        write!(formatter, "{} mistakes in the configuration:", self.0.len())?;
        self.0.iter().try_for_each(|mistake| write!(formatter, "\n  {mistake}"))
    }
}

/// A value of the file with its line.
#[derive(Clone, Debug)]
pub(super) struct Spot<T> {
    pub(super) value: T,
    pub(super) at: Origin,
}

/// The text of a file and its name, from which places are made.
pub(super) struct Source {
    name: Arc<str>,
    text: String,
}

impl Source {
    /// Reads a file.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub(super) fn read(path: &Path) -> Result<Source, String> {
        let name: Arc<str> = path.display().to_string().into();
        let failed = |error: std::io::Error| format!("cannot read `{}`: {error}", path.display());
        // Another kind of file may have no end, or block until it is written.
        if !std::fs::metadata(path).map_err(failed)?.is_file() {
            return Err(format!("`{name}` is not a regular file"));
        }
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(failed)?;
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("`{name}` is larger than 1 MiB: it must be a configuration"));
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| format!("`{name}` is not UTF-8: it must be a configuration"))?;
        Ok(Source::of(name, text))
    }

    pub(super) fn of(name: Arc<str>, text: String) -> Source {
        let text = text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text);
        Source { name, text }
    }

    /// Parses the file. Returns nothing if it is not TOML.
    pub(super) fn parse(&self, mistakes: &mut Mistakes) -> Option<DeTable<'_>> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        for error in &errors {
            let at = self.at(error.span().map_or(0, |span| span.start));
            // The library's message may have several lines.
            let message = error.message().lines().collect::<Vec<_>>().join(", ");
            mistakes.add(&at, format_args!("not valid TOML: {message}"));
        }
        errors.is_empty().then(|| table.into_inner())
    }

    /// Returns the place of an offset in bytes.
    pub(super) fn at(&self, offset: usize) -> Origin {
        let before = self.text.as_bytes().get(..offset).unwrap_or(self.text.as_bytes());
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        Origin::Line(self.name.clone(), line)
    }
}

/// The keys of one table. Each is read by its name; a wrong type is a mistake.
pub(super) struct Fields<'a> {
    pub(super) source: &'a Source,
    pub(super) table: &'a DeTable<'a>,
}

impl Fields<'_> {
    fn value(&self, name: &str) -> Option<Spot<&DeValue<'_>>> {
        let value = self.found(name)?;
        Some(Spot { value: value.get_ref(), at: self.source.at(value.span().start) })
    }

    /// Returns the value of a key. One with a dot is in the table of the name before the dot.
    fn found(&self, name: &str) -> Option<&Spanned<DeValue<'_>>> {
        match name.split_once('.') {
            Some((table, key)) => self.table.get(table)?.get_ref().as_table()?.get(key),
            None => self.table.get(name),
        }
    }

    /// Returns every key with its place. Those of a table of which a key is known have its name and
    /// a dot in front.
    fn keys(&self, known: &[String]) -> Vec<(String, usize)> {
        let mut keys = Vec::new();
        for (key, value) in self.table {
            let name = key.get_ref();
            let prefix = format!("{name}.");
            match value.get_ref().as_table() {
                Some(table) if known.iter().any(|name| name.starts_with(&prefix)) => {
                    let inner = table.keys();
                    keys.extend(
                        inner.map(|key| (format!("{prefix}{}", key.get_ref()), key.span().start)),
                    );
                }
                _ => keys.push((name.to_string(), key.span().start)),
            }
        }
        keys.sort_by_key(|(_, start)| *start);
        keys
    }

    /// Adds a mistake for each key that is not one of `known`. `elsewhere` says more about a key
    /// than a suggestion would.
    pub(super) fn refuse_unknown(
        &self,
        known: &[String],
        elsewhere: impl Fn(&str) -> Option<String>,
        mistakes: &mut Mistakes,
    ) {
        for (name, start) in self.keys(known) {
            if known.contains(&name) {
                continue;
            }
            let advice = elsewhere(&name).unwrap_or_else(|| {
                match closest(&name, known.iter().map(|name| &**name)) {
                    Some(word) => format!("did you mean `{word}`?"),
                    None => "`rollcall config example` shows every key".into(),
                }
            });
            let shown = if is_key(&name) { format!(" `{name}`") } else { String::new() };
            mistakes.add(&self.source.at(start), format_args!("unknown key{shown}; {advice}"));
        }
    }

    /// Returns a text.
    pub(super) fn text(&self, name: &str, mistakes: &mut Mistakes) -> Option<Spot<String>> {
        let Spot { value, at } = self.value(name)?;
        match value.as_str() {
            Some(text) => Some(Spot { value: text.to_owned(), at }),
            None => wrong_type(name, &at, "a text in quotes", value, mistakes),
        }
    }

    /// Returns a time: a text, or a time of TOML.
    pub(super) fn moment(&self, name: &str, mistakes: &mut Mistakes) -> Option<Spot<String>> {
        let Spot { value, at } = self.value(name)?;
        match value.as_datetime() {
            Some(moment) => Some(Spot { value: moment.to_string(), at }),
            None => self.text(name, mistakes),
        }
    }

    /// Returns a whole number, as text.
    pub(super) fn number(&self, name: &str, mistakes: &mut Mistakes) -> Option<Spot<String>> {
        let Spot { value, at } = self.value(name)?;
        match value {
            DeValue::Integer(number) if number.radix() == 10 => {
                Some(Spot { value: number.as_str().replace('_', ""), at })
            }
            _ => wrong_type(name, &at, "a whole number without quotes", value, mistakes),
        }
    }

    /// Returns a number or a text, as text.
    pub(super) fn period(&self, name: &str, mistakes: &mut Mistakes) -> Option<Spot<String>> {
        let is_number = self.value(name)?.value.is_integer();
        if is_number { self.number(name, mistakes) } else { self.text(name, mistakes) }
    }

    /// Returns yes or no, as text.
    pub(super) fn switch(&self, name: &str, mistakes: &mut Mistakes) -> Option<Spot<String>> {
        let Spot { value, at } = self.value(name)?;
        match value.as_bool() {
            Some(yes) => Some(Spot { value: yes.to_string(), at }),
            None => wrong_type(name, &at, "true or false, without quotes", value, mistakes),
        }
    }

    /// Returns the texts of a list, or the only one.
    pub(super) fn texts(&self, name: &str, mistakes: &mut Mistakes) -> Option<Vec<Spot<String>>> {
        let wanted = "a list of texts in quotes";
        let Spot { value, at } = self.value(name)?;
        if let Some(text) = value.as_str() {
            return Some(vec![Spot { value: text.to_owned(), at }]);
        }
        let Some(items) = value.as_array() else {
            return wrong_type(name, &at, wanted, value, mistakes);
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            let at = self.source.at(item.span().start);
            match item.get_ref().as_str() {
                Some(text) => texts.push(Spot { value: text.to_owned(), at }),
                None => wrong_type(name, &at, wanted, item.get_ref(), mistakes).unwrap_or(()),
            }
        }
        Some(texts)
    }

    /// Returns the tables of a list of tables, each with its line.
    pub(super) fn tables(&self, name: &str, mistakes: &mut Mistakes) -> Vec<Spot<Fields<'_>>> {
        let Some(Spot { value, at }) = self.value(name) else { return Vec::new() };
        let wanted = format!("tables: begin each with [[{name}]]");
        let Some(items) = value.as_array() else {
            return wrong_type(name, &at, &wanted, value, mistakes).unwrap_or_default();
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            let at = self.source.at(item.span().start);
            match item.get_ref().as_table() {
                Some(table) => {
                    tables.push(Spot { value: Fields { source: self.source, table }, at });
                }
                None => wrong_type(name, &at, &wanted, item.get_ref(), mistakes).unwrap_or(()),
            }
        }
        tables
    }

    /// Returns the place of a key's value.
    pub(super) fn at(&self, name: &str) -> Origin {
        self.source.at(self.found(name).map_or(0, |value| value.span().start))
    }
}

/// Returns true if a key may be shown: it has the form of one, and not of a secret.
fn is_key(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphabetic() || b"_-.".contains(&byte);
    name.bytes().all(plain) && !may_be_secret(name)
}

/// Adds a mistake, and returns nothing.
fn wrong_type<T>(
    name: &str,
    at: &Origin,
    wanted: &str,
    value: &DeValue<'_>,
    mistakes: &mut Mistakes,
) -> Option<T> {
    let found = match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    };
    mistakes.add(at, format_args!("`{name}` must be {wanted}, and is {found}"));
    None
}
