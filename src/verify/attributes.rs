//! The attributes that rules name, read from a user's snapshot in one pass.

use std::collections::HashMap;

use rollcall_projections::{AttributePath, Part};
use serde_json::value::RawValue;

use crate::json::{array, fields, fields_of, pairs, string};

/// Reads the values at given paths.
pub struct AttributeReader<'a> {
    root: Node<'a>,
}

/// A name on a path: the names below it, and the values that rules name at it.
#[derive(Default)]
struct Node<'a> {
    children: HashMap<&'a str, Node<'a>>,
    keys: Option<&'a HashMap<String, u32>>,
}

impl<'a> AttributeReader<'a> {
    /// Makes a reader of dotted paths.
    pub fn new(paths: &'a [AttributePath]) -> AttributeReader<'a> {
        let mut root = Node::default();
        // Replaced values are not attributes.
        for AttributePath { path, keys } in
            paths.iter().filter(|path| path.path.split('.').next() != Some("previous_attributes"))
        {
            path.split('.')
                .fold(&mut root, |node, name| node.children.entry(name).or_default())
                .keys = Some(keys);
        }
        AttributeReader { root }
    }

    /// Returns the numbers of the values that the snapshot in `body` has, ascending.
    pub fn read(&self, body: &[u8], part: Part) -> Vec<u32> {
        let mut found = Vec::new();
        if let Some(snapshot) = snapshot(body, part) {
            self.root.read(snapshot, &mut found);
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn snapshot(body: &[u8], part: Part) -> Option<&RawValue> {
    let [data] = fields(std::str::from_utf8(body).ok()?, ["data"])?;
    let [snapshot] = match part {
        Part::Data => [data],
        Part::User => fields_of(data, ["user"])?,
        Part::Group => fields_of(data, ["group"])?,
    };
    snapshot
}

impl Node<'_> {
    fn read(&self, value: &RawValue, found: &mut Vec<u32>) {
        if let Some(keys) = self.keys {
            match array(Some(value)) {
                Some(elements) => {
                    found.extend(elements.into_iter().filter_map(|element| key_of(keys, element)))
                }
                None => found.extend(key_of(keys, value)),
            }
        }
        if self.children.is_empty() {
            return;
        }
        let all = pairs(value.get());
        for (name, child) in &self.children {
            // The last of a repeated key counts.
            if let Some((_, value)) = all.iter().rev().find(|(key, _)| key == name) {
                child.read(value, found);
            }
        }
    }
}

/// Returns the number of a value: strings are compared as they are, numbers and booleans as they
/// are written.
fn key_of(keys: &HashMap<String, u32>, value: &RawValue) -> Option<u32> {
    let text = value.get();
    match text.as_bytes().first()? {
        b'"' => keys.get(string(Some(value))?.as_ref()).copied(),
        b't' | b'f' | b'-' | b'0'..=b'9' => keys.get(text).copied(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_where_its_path_leads() {
        let keys = |first: u32| {
            ["admin", "true", "7", "1.0", ""]
                .iter()
                .zip(first..)
                .map(|(key, number)| ((*key).to_owned(), number))
                .collect()
        };
        let path = |path: &str, first| AttributePath { path: path.to_owned(), keys: keys(first) };
        let paths = [
            path("a", 0),
            path("c.role", 10),
            path("c.role.deep", 20),
            path("previous_attributes.a", 30),
        ];
        let reader = AttributeReader::new(&paths);
        let table: [(&str, &[u32]); 14] = [
            (r#"{"a":"admin"}"#, &[0]),
            (r#"{"a":"Admin"}"#, &[]),
            (r#"{"a":true,"c":{"role":7}}"#, &[1, 12]),
            (r#"{"a":"true","c":{"role":1.0}}"#, &[1, 13]),
            (r#"{"a":7.0}"#, &[]),
            (r#"{"a":["x","admin",7,["true"],{"a":1}]}"#, &[0, 2]),
            (r#"{"a":null,"c":null}"#, &[]),
            (r#"{"a":""}"#, &[4]),
            (r#"{"a":{"a":"admin"}}"#, &[]),
            (r#"{"c":[{"role":"admin"}]}"#, &[]),
            (r#"{"c":{"role":{"deep":"admin"}}}"#, &[20]),
            (r#"{"a":"admin","a":"x"}"#, &[]),
            (r#"{"\u0061":"\u0061dmin"}"#, &[0]),
            (r#"{"previous_attributes":{"a":"admin"},"role":"admin"}"#, &[]),
        ];
        for (snapshot, found) in table {
            assert_eq!(
                reader.read(format!(r#"{{"data":{snapshot}}}"#).as_bytes(), Part::Data),
                found,
                "{snapshot}"
            );
            assert_eq!(
                reader.read(format!(r#"{{"data":{{"user":{snapshot}}}}}"#).as_bytes(), Part::User),
                found,
                "{snapshot}"
            );
        }
        for body in ["", "{}", r#"{"data":[]}"#, r#"{"data":{"user":1}}"#] {
            assert!(
                reader.read(body.as_bytes(), Part::Data).is_empty()
                    && reader.read(body.as_bytes(), Part::User).is_empty()
            );
        }
    }
}
