//! A strict reader of the text format 0.0.4 of Prometheus
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>). It panics at the first line
//! that breaks a rule, and knows nothing of how the server writes.

use std::collections::{BTreeMap, BTreeSet};

pub type Labels = BTreeMap<String, String>;

/// One family of metrics.
#[derive(Debug)]
pub struct Family {
    pub kind: String,
    pub help: String,
    /// The values, by the name on the line and the labels.
    pub samples: BTreeMap<(String, Labels), f64>,
}

/// A scrape: each family by its name.
pub struct Scrape(pub BTreeMap<String, Family>);

impl Scrape {
    pub fn read(text: &str) -> Scrape {
        assert!(text.ends_with('\n') && !text.contains('\r'), "lines end with a line feed");
        let mut families: BTreeMap<String, Family> = BTreeMap::new();
        let (mut order, mut help) = (Vec::<String>::new(), None);
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, said) = rest.split_once(' ').unwrap();
                assert!(help.is_none() && !said.is_empty(), "{line}");
                unescaped(said, false);
                help = Some((name.to_owned(), said.to_owned()));
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                let (of, said) = help.take().unwrap_or_else(|| panic!("no HELP before {line}"));
                assert!(of == name && is_metric_name(name), "{line}");
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                let family = Family { kind: kind.to_owned(), help: said, samples: BTreeMap::new() };
                assert!(families.insert(name.to_owned(), family).is_none(), "twice: {line}");
                order.push(name.to_owned());
            } else {
                let last = order.last().unwrap_or_else(|| panic!("no TYPE before {line}"));
                let family = families.get_mut(last).unwrap();
                let (name, labels, value) = sample(line);
                assert!(is_of(&name, last, &family.kind), "{line} is under the TYPE of {last}");
                let key = (name, labels);
                assert!(family.samples.insert(key, value).is_none(), "twice: {line}");
            }
        }
        assert!(help.is_none(), "HELP without TYPE");
        for (name, family) in &families {
            family.check(name);
        }
        Scrape(families)
    }

    /// The value of a counter or a gauge; `None` if it is not there.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let family = self.0.iter().rev().find(|(family, _)| name.starts_with(family.as_str()))?.1;
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        family.samples.get(&(name.to_owned(), labels.collect())).copied()
    }

    /// The sum of all values of a family whose labels include these.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |of: &Labels| {
            labels.iter().all(|(name, value)| of.get(*name).is_some_and(|other| other == value))
        };
        let samples = self.0.get(name).map(|family| &family.samples).into_iter().flatten();
        samples.filter(|((_, of), _)| fits(of)).map(|(_, value)| value).sum()
    }

    /// The names of the labels of a family, without the bounds of buckets.
    pub fn labels(&self, name: &str) -> BTreeSet<String> {
        let labels = self.0[name].samples.keys().flat_map(|(_, labels)| labels.keys());
        labels.filter(|label| *label != "le").cloned().collect()
    }
}

impl Family {
    fn check(&self, name: &str) {
        assert!(!self.samples.is_empty(), "{name} has no value");
        assert!(!self.help.is_empty(), "{name} has no help");
        match self.kind.as_str() {
            "counter" => {
                assert!(name.ends_with("_total"), "{name} is a counter");
                assert!(self.samples.values().all(|value| *value >= 0.0), "{name}");
            }
            "gauge" => assert!(!name.ends_with("_total"), "{name} is a gauge"),
            _ => self.check_histogram(name),
        }
    }

    fn check_histogram(&self, name: &str) {
        let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for ((line, labels), value) in &self.samples {
            let mut labels = labels.clone();
            match labels.remove("le") {
                Some(bound) => {
                    assert_eq!(line, &format!("{name}_bucket"));
                    series.entry(labels).or_default().push((number(&bound), *value));
                }
                None => assert!(!line.ends_with("_bucket"), "{line} has no bound"),
            }
        }
        assert!(!series.is_empty(), "{name} has no bucket");
        for (labels, mut buckets) in series {
            buckets.sort_by(|one, other| one.partial_cmp(other).unwrap());
            assert!(buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1), "{name} {labels:?}");
            let (bound, all) = *buckets.last().unwrap();
            assert_eq!(bound, f64::INFINITY, "{name} {labels:?}");
            let of = |end: &str| self.samples.get(&(format!("{name}_{end}"), labels.clone()));
            assert_eq!(of("count"), Some(&all), "{name} {labels:?}");
            assert!(of("sum").is_some(), "{name} {labels:?}");
        }
    }
}

fn is_of(line: &str, family: &str, kind: &str) -> bool {
    let end = line.strip_prefix(family);
    if kind == "histogram" {
        matches!(end, Some("_bucket" | "_sum" | "_count"))
    } else {
        end == Some("")
    }
}

fn is_metric_name(name: &str) -> bool {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(is_first) && name.chars().all(|c| is_first(c) || c.is_ascii_digit())
}

fn is_label_name(name: &str) -> bool {
    is_metric_name(name) && !name.contains(':') && !name.starts_with("__")
}

/// Reads a line with a value. This server gives no times.
fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("{line}"));
    let (name, rest) = line.split_at(end);
    assert!(is_metric_name(name), "{line}");
    let mut labels = Labels::new();
    let mut rest = rest;
    if let Some(mut inside) = rest.strip_prefix('{') {
        loop {
            let (label, value) = inside.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
            assert!(is_label_name(label), "{line}");
            let end = closing_quote(value).unwrap_or_else(|| panic!("{line}"));
            let value_of = unescaped(&value[..end], true);
            assert!(labels.insert(label.to_owned(), value_of).is_none(), "{line}");
            inside = &value[end + 1..];
            match inside.strip_prefix(',') {
                Some(next) => inside = next,
                None => break,
            }
        }
        rest = inside.strip_prefix('}').unwrap_or_else(|| panic!("{line}"));
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("{line}"));
    (name.to_owned(), labels, number(value))
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.char_indices().find_map(|(at, c)| {
        let closes = c == '"' && !is_escaped;
        is_escaped = c == '\\' && !is_escaped;
        closes.then_some(at)
    })
}

/// Reads `\\` and `\n`, and in labels `\"`.
fn unescaped(text: &str, in_label: bool) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('\\')) => out.push('\\'),
            ('\\', Some('n')) => out.push('\n'),
            ('\\', Some('"')) if in_label => out.push('"'),
            ('\\', other) => panic!("`\\{other:?}` in {text}"),
            (other, _) => out.push(other),
        }
    }
    out
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        text => {
            let is_plain = |c: char| c.is_ascii_digit() || "+-.eE".contains(c);
            assert!(text.chars().all(is_plain), "{text}");
            text.parse().unwrap_or_else(|error| panic!("{error}: {text}"))
        }
    }
}

#[test]
#[should_panic(expected = "twice")]
fn a_series_that_is_there_twice_is_refused() {
    Scrape::read("# HELP a A.\n# TYPE a gauge\na{x=\"1\"} 1\na{x=\"1\"} 2\n");
}

#[test]
#[should_panic(expected = "is under the TYPE of b")]
fn a_line_of_another_family_is_refused() {
    Scrape::read("# HELP a A.\n# TYPE a gauge\na 1\n# HELP b B.\n# TYPE b gauge\nb 1\na 2\n");
}

#[test]
#[should_panic(expected = "in a\\tb")]
fn an_escape_that_the_format_does_not_have_is_refused() {
    Scrape::read("# HELP a A.\n# TYPE a gauge\na{x=\"a\\tb\"} 1\n");
}

#[test]
#[should_panic(expected = "h {}")]
fn buckets_that_fall_are_refused() {
    Scrape::read(
        "# HELP h H.\n# TYPE h histogram\nh_bucket{le=\"1\"} 2\nh_bucket{le=\"+Inf\"} 1\n\
         h_sum 1\nh_count 1\n",
    );
}
