use super::value::Value;
use super::*;

mod discovered;
mod events;
mod extensions;
mod filters;
mod patches;
mod property;
mod providers;
mod redaction;
mod resources;
mod shapes;

const BASE: &str = "https://rollcall.example/scim/v2/directory_1";

/// Memberships that a test names.
#[derive(Default)]
struct Memberships {
    members: Vec<MemberOf>,
    groups: Vec<GroupOf>,
}

impl Related for Memberships {
    fn members(&self) -> Vec<MemberOf> {
        self.members.clone()
    }

    fn is_member(&self, id: &str) -> bool {
        self.members.iter().any(|member| member.id == id)
    }

    fn groups(&self) -> Vec<GroupOf> {
        self.groups.clone()
    }

    fn is_in(&self, id: &str) -> bool {
        self.groups.iter().any(|group| group.id == id)
    }
}

fn shown<'a>(kind: Kind, document: &'a Document, related: &'a Memberships) -> Shown<'a> {
    Shown {
        kind,
        id: "0198aaaa-0000-7000-8000-000000000001",
        document,
        created: 1_764_500_000_000,
        last_modified: 1_764_500_060_500,
        version: 17,
        base: BASE,
        related,
    }
}

/// Returns the document that a POST of a user makes, with single quotes for double ones.
fn user(body: &str) -> Draft {
    create(Kind::User, &quoted(body)).unwrap()
}

fn group(body: &str) -> Draft {
    create(Kind::Group, &quoted(body)).unwrap()
}

/// Applies operations to a user.
fn patched(before: &Document, operations: &str) -> Result<Draft, Refusal> {
    patch(Kind::User, before, &quoted(&format!("{{'Operations':[{operations}]}}")))
}

fn patched_group(before: &Document, operations: &str) -> Result<Draft, Refusal> {
    patch(Kind::Group, before, &quoted(&format!("{{'Operations':[{operations}]}}")))
}

fn quoted(text: &str) -> String {
    text.replace('\'', "\"")
}

fn document(text: &str) -> Document {
    Document::parse(&quoted(text)).unwrap()
}

fn error(result: Result<Draft, Refusal>) -> (u16, Option<&'static str>) {
    let refusal = result.unwrap_err();
    (refusal.status, refusal.scim_type)
}

fn ids(members: &[Member]) -> Vec<&str> {
    members.iter().map(|member| member.value.as_str()).collect()
}

/// Returns the value at a dotted place of JSON, as JSON; empty if there is none.
fn at(json: &str, place: &str) -> String {
    let mut value = Value::parse(json).unwrap();
    for step in place.split('/') {
        let next = match (&value, step.parse::<usize>()) {
            (Value::List(elements), Ok(at)) => elements.get(at).cloned(),
            (Value::Object(object), _) => object.exactly(step).cloned(),
            _ => None,
        };
        let Some(next) = next else { return String::new() };
        value = next;
    }
    value.to_json()
}

/// Numbers that look random and repeat.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % bound
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }
}
