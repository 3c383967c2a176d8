//! Views that were written as bytes and read again answer like those that were folded, and go on
//! like them; and neither the rules of the fold nor the bytes change without their version.

use std::borrow::Cow;
use std::fmt::Write;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rollcall::verify::{Source, extract};
use rollcall_projections::{
    Attributes, Entry, FOLD_VERSION, Fact, InactiveUsers, Mapping, Matches, Millis, Provenance,
    RecordStatus, Rule, VIEWS_LAYOUT, View, Views,
};
use sha2::{Digest, Sha256};

use crate::kit::histories::{history, history_of_roles};
use crate::kit::scale::{check_each, histories};
use crate::laws::stories::all_stories;

/// Histories in a run at scale 1.
const HISTORIES: u64 = 60;

const RECORDED_AT: Millis = 1_790_000_000_000;

/// The version of the fold, and the digest of the dumps of all fixtures by it.
///
/// If the digest has changed because a rule was changed: raise `FOLD_VERSION` and set both here. If
/// only fixtures were added or changed, set the digest alone.
const FOLD: (u32, &str) = (1, "f19899c9c76d0a17");

/// The version of the packed form, and the digest of the same views in it.
///
/// If this digest has changed and the one above has not: raise `VIEWS_LAYOUT` and set both here. If
/// both have changed, the packed form may be as before: set the digest alone.
const LAYOUT: (u32, &str) = (2, "38fb4e54581c39b6");

/// A step of a fold.
enum Step {
    Body(Vec<u8>),
    Policy,
    Mapping,
    Link(&'static str),
}

/// Folds the next record.
fn apply(views: &mut Views, step: &Step) {
    let seq = views.head() + 1;
    let recorded_at = RECORDED_AT + 10 * seq as Millis;
    let effective_from = RECORDED_AT - 1000 * seq as Millis;
    let own = |fact| Entry {
        seq,
        recorded_at,
        occurred_at: recorded_at,
        claimed_at: None,
        updated_at: None,
        observed_at: None,
        event_id: "act_1",
        event_type: "rollcall.act",
        status: RecordStatus::Counts,
        former_directories: &[],
        former_organizations: &[],
        unusable_at_first: None,
        provenance: Provenance::Operator,
        fact,
    };
    match step {
        Step::Body(body) => {
            let extracted = extract(body, Some(recorded_at));
            let names = [extracted.event_id.as_deref(), extracted.event_type.as_deref()];
            let (source, status) = (Source::Workos, RecordStatus::Counts);
            views.apply(&extracted.facts.entry(seq, recorded_at, source, names, status));
        }
        Step::Policy => {
            let inactive_users = InactiveUsers::Delete;
            views.apply(&own(Fact::Policy { inactive_users, effective_from }));
        }
        Step::Mapping => {
            let mapping = mapping(seq);
            views.apply(&own(Fact::Mapping { mapping, effective_from }));
        }
        Step::Link(app_user) => {
            let (user, directory) = ("directory_user_01", "directory_01");
            views.apply(&own(Fact::Link { user, directory, app_user: Some(app_user) }));
        }
    }
}

/// Returns a mapping with every kind of rule, which differs a little from record to record.
fn mapping(seq: u64) -> Mapping {
    use rollcall_projections::{GroupPattern, NameText};
    let group = |group| Matches::Group { group, roles: vec![format!("role {}", seq % 3)] };
    let text = |text: &str| NameText::new(text, text);
    let shared: rollcall_projections::RoleNames = vec!["admin".to_owned()].into();
    let values = ["admin", "7", "true"].map(|value| (value.to_owned(), shared.clone()));
    let matches = [
        group(GroupPattern::Id("directory_group_01".into())),
        group(GroupPattern::Name(text("Engineering"))),
        group(GroupPattern::Glob(NameText::new("E*\u{301}", "É*"))),
        group(GroupPattern::Glob(text(if seq.is_multiple_of(2) { "*" } else { "?ng*" }))),
        Matches::Attribute { path: "custom_attributes.role".into(), values: values.to_vec() },
    ];
    let directory = seq.is_multiple_of(2).then(|| "directory_01".to_owned());
    let rule = |matches| Rule { matches, directory: directory.clone(), organization: None };
    Mapping {
        default_roles: vec!["member".to_owned()].into(),
        rules: matches.map(|matches| rule(matches).into()).to_vec(),
        ..Mapping::default()
    }
}

/// Returns what the deliveries of a history and some acts become.
fn steps(seed: u64) -> Vec<Step> {
    let mut rng = StdRng::seed_from_u64(seed);
    let told = if seed.is_multiple_of(2) { history(seed) } else { history_of_roles(seed) };
    let mut steps: Vec<Step> =
        told.deliveries.into_iter().map(|delivery| Step::Body(delivery.body)).collect();
    for act in [Step::Mapping, Step::Policy, Step::Link("a"), Step::Mapping, Step::Link("b")] {
        let at = rng.random_range(0..=steps.len());
        steps.insert(at, act);
    }
    steps
}

/// Writes views as bytes.
pub fn packed(views: &Views) -> Vec<u8> {
    let mut bytes = Vec::new();
    views.pack(&mut |piece| bytes.extend_from_slice(piece));
    bytes
}

/// Reads views from bytes.
pub fn unpacked(bytes: &[u8]) -> Option<Views> {
    let mut pieces = bytes.chunks(1000);
    Views::unpack(&mut |into| pieces.next().map(|piece| into.extend_from_slice(piece)).is_some())
}

fn dumped(views: &Views) -> String {
    let mut text = String::new();
    for view in View::ALL {
        writeln!(text, "{}", view.name()).unwrap();
        views.dump(view, u64::MAX, 0, usize::MAX, &mut text).unwrap();
    }
    text
}

/// Notes that some versions of users have some of the values that mappings name.
fn note_values(views: &mut Views) {
    let mut snapshots = Vec::new();
    let mut next = Some(0);
    while let Some(first) = next {
        next = views.all_snapshots_step(0, u64::MAX, first, &mut snapshots);
    }
    let mut attributes: Attributes = views.attributes_wanted();
    let count: usize = attributes.paths().iter().map(|path| path.keys.len()).sum();
    for (seq, part, user) in snapshots {
        if count > 0 && seq % 3 == 0 {
            attributes.note(seq, part, user, &[(seq % count as u64) as u32]);
        }
    }
    views.install_attributes(attributes);
}

#[test]
fn views_that_were_packed_go_on_like_those_that_were_not() {
    check_each(histories(HISTORIES), 2, |seed| {
        let steps = steps(seed);
        let mut rng = StdRng::seed_from_u64(seed ^ 0x9acc);
        let places: Vec<usize> = (0..3).map(|_| rng.random_range(0..=steps.len())).collect();
        let (mut folded, mut reread) = (Views::new(), Views::new());
        for (at, step) in steps.iter().enumerate() {
            if places.contains(&at) {
                note_values(&mut folded);
                note_values(&mut reread);
                reread = unpacked(&packed(&reread)).unwrap();
                assert_eq!(packed(&reread), packed(&folded), "history {seed} at {at}");
            }
            apply(&mut folded, step);
            apply(&mut reread, step);
        }
        note_values(&mut folded);
        note_values(&mut reread);
        assert_eq!(dumped(&reread), dumped(&folded), "history {seed}");
        assert_eq!(packed(&reread), packed(&folded), "history {seed}");
        let memory = |views: &Views| views.memory().iter().map(|part| part.bytes).sum::<usize>();
        let reread = unpacked(&packed(&folded)).unwrap();
        assert!(memory(&reread) <= memory(&folded) * 11 / 10, "history {seed}");
        assert_eq!(reread.mappings_bytes(), folded.mappings_bytes(), "history {seed}");
    });
}

#[test]
fn bytes_that_are_not_views_are_refused_or_read_as_others_without_a_panic() {
    for seed in 0..4 {
        let mut views = Views::new();
        steps(seed).iter().for_each(|step| apply(&mut views, step));
        note_values(&mut views);
        let bytes = packed(&views);
        let stride = (bytes.len() / 400).max(1);
        for end in (0..bytes.len()).step_by(stride) {
            assert!(unpacked(&bytes[..end]).is_none(), "history {seed}, {end} bytes");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(unpacked(&longer).is_none());
        for at in (seed as usize..bytes.len()).step_by(stride) {
            let mut other = bytes.clone();
            other[at] ^= 1 << (at % 8);
            drop(unpacked(&other));
        }
    }
}

/// Returns the views of every fixture, and of the same acts in each.
fn examples() -> Vec<Views> {
    let stories = all_stories().into_iter().map(|story| {
        let mut views = Views::new();
        for event in story.events {
            apply(&mut views, &Step::Body(event.into_bytes()));
        }
        for act in [Step::Mapping, Step::Policy, Step::Link("a"), Step::Mapping] {
            apply(&mut views, &act);
        }
        note_values(&mut views);
        views
    });
    stories.collect()
}

fn digest<'a>(parts: impl Iterator<Item = Cow<'a, [u8]>>) -> String {
    let mut hasher = Sha256::new();
    parts.for_each(|part| hasher.update(&part));
    hex::encode(&hasher.finalize()[..8])
}

#[test]
fn neither_a_rule_nor_the_packed_form_changes_without_its_version() {
    let examples = examples();
    let dumps = digest(examples.iter().map(|views| dumped(views).into_bytes().into()));
    let forms = digest(examples.iter().map(|views| packed(views).into()));
    let is_debug = cfg!(debug_assertions);
    assert_eq!(VIEWS_LAYOUT >> 31 == 1, is_debug, "builds that note more turns have a form apart");
    // Optimized builds note fewer of the versions of users, and are not compared.
    let forms = if is_debug { &forms } else { LAYOUT.1 };
    assert_eq!(
        [(FOLD_VERSION, dumps.as_str()), (VIEWS_LAYOUT & 0x7fff_ffff, forms)],
        [FOLD, LAYOUT],
        "the fold gives other views, or the views have another form: raise the version, and set \
         what is left in FOLD and LAYOUT of this file"
    );
}
