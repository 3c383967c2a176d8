//! The naive model and the server agree about the audit calls: random histories in which operators
//! act between the deliveries, random cuts and pages. What was answered once is answered again.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::kit::compare::{Tally, check_histories, count, cut_query, draw_cut, rebuild, restart};
use crate::kit::histories::{history_of_audit, percent_encoded};
use crate::kit::model::audit::{change_key, exact};
use crate::kit::model::links::Link;
use crate::kit::model::{Cut, World, read_time, rfc3339};
use crate::kit::play::{APP_USERS, Act, Step, perform, pick};
use crate::kit::server::{Server, now_ms};
use crate::kit::stage::Stage;
use crate::laws::directories_equal_model::first_difference;

/// Histories in a run at scale 1.
const HISTORIES: u64 = 20;

/// Questions of each kind, in each history.
const QUESTIONS: usize = 6;

#[test]
fn every_audit_call_at_any_cut_after_any_acts_answers_as_the_model_says() {
    if let Ok(seed) = std::env::var("ROLLCALL_MODEL_SHRINK") {
        let seed = seed.parse().unwrap();
        panic!("{}", crate::kit::shrink::smallest(seed, history_of_audit(seed), difference));
    }
    let tally = Tally::default();
    let histories = check_histories(HISTORIES, |seed| check(seed, &tally));
    let tally = tally.into_inner().unwrap();
    println!("answers, and those with something in them: {tally:?}");
    let answers = [
        "access",
        "acts",
        "deprovisionings",
        "differences",
        "groups",
        "histories of groups",
        "histories of users",
        "members",
        "repeated",
    ];
    for kind in answers {
        assert!(
            tally[kind][1] * 4 >= tally[kind][0] && tally[kind][1] >= histories,
            "{kind}: {tally:?}"
        );
    }
    // What an item may say, and how often it must have been said.
    let said = [
        "change access_ended",
        "change access_granted",
        "change access_restored",
        "change history_changed",
        "change role_gained",
        "change role_lost",
        "reason directory_deactivated",
        "reason directory_deleted",
        "reason user_deleted",
        "reason user_inactive",
        "a role lost with access",
        "a group lost with access",
        "somebody restored",
        "a user of the application",
        "a successor",
        "a predecessor",
        "a late version",
        "a missed update",
        "a snapshot",
        "a policy as a cause",
        "a kind changed",
        "a kind added",
        "a kind removed",
    ];
    for kind in said {
        assert!(
            tally.get(kind).is_some_and(|[said, _]| *said * 8 >= histories),
            "{kind}: {tally:?}"
        );
    }
}

fn check(seed: u64, tally: &Tally) {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(seed ^ 0xa0d17);
    let mut stage = Stage::new(Some(Server::start(folder.path())));
    let mut kept: Vec<(String, Value)> = Vec::new();
    let mut follower = Follower::default();
    perform(seed, history_of_audit(seed), &mut stage, |stage, step| {
        match step {
            Step::Deliver(delivery) => stage.deliver(&delivery.body, now_ms() + delivery.shift_ms),
            Step::Act(act) => {
                let head = stage.world.head();
                match act {
                    Act::Policy(inactive_users, from) => stage.set_policy(inactive_users, from),
                    Act::Mapping(mapping, from, note) => {
                        drop(stage.set_mapping(&mapping, from, note))
                    }
                    Act::Deletion(directory) => stage.delete_directory(&directory),
                    Act::Link(app_user, user) => stage.set_link(&app_user, &user),
                    Act::Unlink(user) => stage.remove_link(&user),
                }
                count(tally, "acts", stage.world.head() > head);
            }
        }
        match rng.random_range(0..100) {
            0..8 => kept.extend(ask_to_repeat(&mut rng, stage)),
            // It runs beside what comes next.
            8..11 => rebuild(stage.server()),
            11 => restart(stage, folder.path()),
            _ => {}
        }
        if rng.random_bool(0.7) {
            follower.go_on(stage.server(), rng.random_range(1..=5));
        }
    });
    if rng.random_bool(0.3) {
        restart(&mut stage, folder.path());
    }
    for (url, then) in kept {
        let now = stage.server().get(&url).json();
        count(tally, "repeated", then["data"] != json!([]));
        assert!(
            then == now,
            "history {seed}: {url}\n now {now}\n then {then}\n {}",
            first_difference(&now, &then)
        );
    }
    follower.check(seed, &stage, &mut rng, tally);
    for _ in 0..QUESTIONS {
        for question in draw_questions(&mut rng, &stage.world) {
            let paging = Paging::draw(&mut rng, &question);
            if let Some(difference) = question.difference(&stage, &paging) {
                panic!("history {seed}: {difference}");
            }
            question.count(tally);
        }
    }
}

/// Asks for answers that must never change later.
fn ask_to_repeat(rng: &mut StdRng, stage: &Stage) -> Vec<(String, Value)> {
    let known_at = Some(stage.world.head());
    let (cut, from) =
        (Cut { known_at, ..draw_cut(rng, &stage.world) }, draw_cut(rng, &stage.world));
    let ids = stage.world.ids();
    let (user, group) =
        (pick(rng, &ids.users, "user_nowhere"), pick(rng, &ids.groups, "group_nowhere"));
    let from = Cut { known_at: from.known_at.or(known_at), ..from };
    let questions = [
        Question::of_user("access", &user, cut, &stage.world),
        Question::of_user("groups", &user, cut, &stage.world),
        Question::of_user("history", &user, cut, &stage.world),
        Question::of_group("members", &group, cut, &stage.world),
        Question::of_group("history", &group, cut, &stage.world),
        Question::of_deprovisionings(&[], cut, &stage.world),
        Question::of_diff(from, cut, None, &stage.world),
    ];
    questions
        .into_iter()
        .map(|question| {
            (question.page(1000, ""), stage.server().get(&question.page(1000, "")).json())
        })
        .collect()
}

// --- Questions ---

/// A call, and the whole list that its pages are, or nothing for a 404.
struct Question {
    kind: &'static str,
    /// Without limit, order and cursor.
    url: String,
    model: Option<Vec<Value>>,
}

impl Question {
    fn new(kind: &'static str, path: &str, cut: &str, model: Option<Vec<Value>>) -> Question {
        Question {
            kind,
            url: format!("/rollcall/v1/{path}?{}", cut.trim_start_matches('&')),
            model,
        }
    }

    fn of_user(what: &str, user: &str, cut: Cut, world: &World) -> Question {
        let (kind, model) = match what {
            "access" => ("access", world.access_periods(user, cut)),
            "groups" => ("groups", world.groups_over_time(user, cut)),
            _ => ("histories of users", world.history("user", user, cut)),
        };
        Question::new(
            kind,
            &format!("users/{}/{what}", percent_encoded(user)),
            &cut_query(cut),
            model,
        )
    }

    fn of_group(what: &str, group: &str, cut: Cut, world: &World) -> Question {
        let (kind, model) = match what {
            "members" => ("members", world.members_over_time(group, cut)),
            _ => ("histories of groups", world.history("group", group, cut)),
        };
        Question::new(
            kind,
            &format!("groups/{}/{what}", percent_encoded(group)),
            &cut_query(cut),
            model,
        )
    }

    fn of_deprovisionings(query: &[(String, String)], cut: Cut, world: &World) -> Question {
        let asked: String =
            query.iter().map(|(key, value)| format!("&{key}={}", percent_encoded(value))).collect();
        Question::new(
            "deprovisionings",
            "deprovisionings",
            &(cut_query(cut) + &asked),
            world.has_heard_of_all(query, cut).then(|| world.deprovisionings(query, cut)),
        )
    }

    /// The links, or those of one user of the application or of a directory.
    fn of_links(query: &[(&str, String)], cut: Cut, world: &World) -> Question {
        let asked: String =
            query.iter().map(|(key, value)| format!("&{key}={}", percent_encoded(value))).collect();
        let is_asked_for = |link: &Link| {
            query.iter().all(|(key, wanted)| match *key {
                "app_user_id" => link.app_user == *wanted,
                "directory_user_id" => link.user == *wanted,
                _ => link.directory == *wanted,
            })
        };
        let heard = query.iter().all(|(key, value)| match *key {
            "app_user_id" => true,
            "directory_user_id" => world.has_heard_of_all(&[("user".into(), value.clone())], cut),
            _ => world.has_heard_of_all(&[("directory".into(), value.clone())], cut),
        });
        let links = world.links(cut).into_iter().filter(is_asked_for);
        let model = heard.then(|| links.map(|link| link.shape()).collect());
        Question::new("links", "links", &(cut_query(cut) + &asked), model)
    }

    fn of_diff(from: Cut, to: Cut, directory: Option<&str>, world: &World) -> Question {
        let moment = |cut: Cut| cut.as_of_ms.map_or("latest".to_owned(), rfc3339);
        let known = |name: &str, cut: Cut| {
            cut.known_at.map(|seq| format!("&{name}_known_at={seq}")).unwrap_or_default()
        };
        let mut query = format!("from={}{}{}", moment(from), known("from", from), known("to", to));
        if to.as_of_ms.is_some() || to.known_at.is_some() {
            query += &format!("&to={}", moment(to));
        }
        query += &directory
            .map(|directory| format!("&directory={}", percent_encoded(directory)))
            .unwrap_or_default();
        let heard = world.has_heard_of_directory(directory, [from, to]);
        let model = heard.then(|| world.diff(from, to, directory));
        Question::new("differences", "diff", &query, model)
    }

    fn page(&self, limit: usize, rest: &str) -> String {
        format!("{}{}limit={limit}{rest}", self.url, if self.url.ends_with('?') { "" } else { "&" })
    }

    fn is_empty(&self) -> bool {
        self.model.as_ref().is_none_or(Vec::is_empty)
    }

    /// Returns the difference between the server's answer and the model's, if there is one.
    fn difference(&self, stage: &Stage, paging: &Paging) -> Option<String> {
        let Some(model) = &self.model else {
            let answer = stage.server().get(&self.page(paging.limit, ""));
            let refused = (answer.status, answer.code().as_str()) == (404, "entity_not_found");
            return (!refused).then(|| {
                format!(
                    "{}: {} {}, the model knows nothing of it",
                    self.url,
                    answer.status,
                    answer.json()
                )
            });
        };
        let mut model = model.clone();
        if paging.order == "&order=desc" {
            model.reverse();
        }
        let server = paging.walk(self, stage);
        let (server, model) = (json!(server), json!(model));
        let url = self.page(paging.limit, paging.order);
        (server != model).then(|| {
            format!(
                "{url}\n server {server}\n model  {model}\n {}",
                first_difference(&server, &model)
            )
        })
    }

    fn count(&self, tally: &Tally) {
        count(tally, self.kind, !self.is_empty());
        for item in self.model.iter().flatten() {
            let said = |kind: &'static str, is_so: bool| {
                (0..u64::from(is_so)).for_each(|_| count(tally, kind, true))
            };
            said("a user of the application", item["app_user_id"].is_string());
            said("a successor", item["succeeded_by"].is_object());
            said("a predecessor", item["preceded_by"].is_object());
            match item["object"].as_str().unwrap() {
                "deprovisioning" => {
                    for (reason, kind) in [
                        ("user_deleted", "reason user_deleted"),
                        ("user_inactive", "reason user_inactive"),
                        ("directory_deactivated", "reason directory_deactivated"),
                        ("directory_deleted", "reason directory_deleted"),
                    ] {
                        said(kind, item["reason"] == reason);
                    }
                    said("a role lost with access", item["roles"] != json!([]));
                    said("a group lost with access", item["groups"] != json!([]));
                    said("somebody restored", !item["restored_at"].is_null());
                }
                "user_version" | "group_version" => {
                    said("a late version", item["late"] == true);
                    said("a missed update", !item["missed"].is_null());
                    said("a snapshot", item["change"] == "snapshot");
                }
                "membership_period" => {
                    said(
                        "a policy as a cause",
                        [&item["start"], &item["end"]]
                            .iter()
                            .any(|cause| cause["event"] == "rollcall.policy.set"),
                    );
                }
                "difference" => {
                    said("a kind changed", item["change"] == "changed");
                    said("a kind added", item["change"] == "added");
                    said("a kind removed", item["change"] == "removed");
                }
                _ => {}
            }
        }
    }
}

/// Draws one question of each kind, and a second one where the first has an empty answer.
fn draw_questions(rng: &mut StdRng, world: &World) -> Vec<Question> {
    let kinds: [fn(&mut StdRng, &World) -> Question; 8] = [
        |rng, world| {
            Question::of_user("access", &draw_user(rng, world), draw_cut(rng, world), world)
        },
        |rng, world| {
            Question::of_user("groups", &draw_user(rng, world), draw_cut(rng, world), world)
        },
        |rng, world| {
            Question::of_user("history", &draw_user(rng, world), draw_cut(rng, world), world)
        },
        |rng, world| {
            Question::of_group("members", &draw_group(rng, world), draw_cut(rng, world), world)
        },
        |rng, world| {
            Question::of_group("history", &draw_group(rng, world), draw_cut(rng, world), world)
        },
        |rng, world| {
            Question::of_deprovisionings(&draw_filters(rng, world), draw_cut(rng, world), world)
        },
        draw_diff,
        draw_links,
    ];
    let mut draw = |kind: fn(&mut StdRng, &World) -> Question| {
        let question = kind(rng, world);
        if question.is_empty() { kind(rng, world) } else { question }
    };
    kinds.into_iter().map(&mut draw).collect()
}

fn draw_user(rng: &mut StdRng, world: &World) -> String {
    pick(rng, &world.ids().users, "user_nowhere")
}

fn draw_group(rng: &mut StdRng, world: &World) -> String {
    pick(rng, &world.ids().groups, "group_nowhere")
}

fn draw_links(rng: &mut StdRng, world: &World) -> Question {
    let query = match rng.random_range(0..8) {
        0 => vec![("app_user_id", (*APP_USERS.choose(rng).unwrap()).to_owned())],
        1 => vec![("directory_user_id", draw_user(rng, world))],
        2 => vec![("directory", pick(rng, &world.ids().directories, "directory_nowhere"))],
        _ => Vec::new(),
    };
    // Links are set as the test runs, which is later than all that happened.
    let as_of_ms = if rng.random_bool(0.8) { None } else { draw_cut(rng, world).as_of_ms };
    Question::of_links(&query, Cut { as_of_ms, ..draw_cut(rng, world) }, world)
}

fn draw_diff(rng: &mut StdRng, world: &World) -> Question {
    let directory =
        rng.random_bool(0.4).then(|| pick(rng, &world.ids().directories, "directory_nowhere"));
    let to = if rng.random_bool(0.3) { Cut::default() } else { draw_cut(rng, world) };
    Question::of_diff(draw_cut(rng, world), to, directory.as_deref(), world)
}

fn draw_filters(rng: &mut StdRng, world: &World) -> Vec<(String, String)> {
    let (ids, moments) = (world.ids(), world.turning_points(Cut::default()));
    let mut query = Vec::new();
    let mut ask = |key: &str, value: String| query.push((key.to_owned(), value));
    if rng.random_bool(0.15) {
        ask("user", pick(rng, &ids.users, "user_nowhere"));
    }
    if rng.random_bool(0.1) {
        let email = pick(rng, &ids.emails, "nobody@a.example");
        ask("email", if rng.random_bool(0.5) { email.to_uppercase() } else { email });
    }
    if rng.random_bool(0.15) {
        ask("directory", pick(rng, &ids.directories, "directory_nowhere"));
    }
    if rng.random_bool(0.15) {
        let key = *["organization", "organization_id"].choose(rng).unwrap();
        ask(key, pick(rng, &ids.organizations, "org_nowhere"));
    }
    for key in ["since", "until"] {
        if let (Some(moment), true) = (moments.choose(rng), rng.random_bool(0.15)) {
            ask(key, rfc3339(moment + rng.random_range(-1..=1)));
        }
    }
    query
}

/// A way to walk a list.
struct Paging {
    limit: usize,
    order: &'static str,
    /// From the last page back to the first, too.
    back: bool,
}

impl Paging {
    fn draw(rng: &mut StdRng, question: &Question) -> Paging {
        let limit = if rng.random_bool(0.6) { rng.random_range(1..=6) } else { 1000 };
        if question.kind == "differences" {
            return Paging { limit, order: "", back: false };
        }
        Paging {
            limit,
            order: ["", "&order=asc", "&order=desc"].choose(rng).unwrap(),
            back: rng.random_bool(0.5),
        }
    }

    /// All items, by the cursors of each page.
    fn walk(&self, question: &Question, stage: &Stage) -> Vec<Value> {
        let (mut items, mut cursor, mut last) = (Vec::new(), String::new(), None);
        loop {
            let url = question.page(self.limit, &format!("{}{cursor}", self.order));
            let (page, before, after) = read_page(stage, &url);
            assert!(page.len() <= self.limit, "{url}");
            if question.kind != "differences" {
                assert_eq!(
                    before.is_some(),
                    !items.is_empty(),
                    "{url}: there is something before all pages but the first"
                );
            }
            let Some(after) = after else {
                items.extend(page);
                break;
            };
            assert_eq!(page.len(), self.limit, "{url}: only the last page may be short");
            items.extend(page);
            last = Some(items.len());
            cursor = format!("&after={}", percent_encoded(&after));
        }
        if let (Some(end), true) = (last, self.back) {
            self.walk_back(question, stage, &cursor, &items[..end]);
        }
        items
    }

    /// The pages before the last one are the same when walked from their end.
    fn walk_back(&self, question: &Question, stage: &Stage, last: &str, items: &[Value]) {
        let (_, mut before, _) =
            read_page(stage, &question.page(self.limit, &format!("{}{last}", self.order)));
        let mut end = items.len();
        while let Some(cursor) = before {
            let url = question
                .page(self.limit, &format!("{}&before={}", self.order, percent_encoded(&cursor)));
            let (page, earlier, after) = read_page(stage, &url);
            assert!(after.is_some(), "{url}: what was before has something after it");
            let start = end.saturating_sub(self.limit);
            assert_eq!(json!(page), json!(items[start..end]), "{url}");
            (before, end) = (earlier, start);
        }
        assert_eq!(end, 0, "{}: walked back to the first", question.url);
    }
}

/// A page's items as they are compared, with its cursors.
fn read_page(stage: &Stage, url: &str) -> (Vec<Value>, Option<String>, Option<String>) {
    let answer = stage.server().get(url);
    assert_eq!(answer.status, 200, "{url}: {}", answer.json());
    let body: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(&answer.body).unwrap();
    let items: Vec<Box<RawValue>> = serde_json::from_str(body["data"].get()).unwrap();
    let cursors = answer.json()["list_metadata"].clone();
    assert_eq!(answer.json()["object"], "list", "{url}");
    let cursor = |key: &str| cursors[key].as_str().map(str::to_owned);
    (items.iter().map(|item| comparable(stage, item)).collect(), cursor("before"), cursor("after"))
}

/// Returns an item with the source's numbers as text. Checks, then removes what the model cannot
/// know.
fn comparable(stage: &Stage, raw: &RawValue) -> Value {
    let mut item: Value = serde_json::from_str(raw.get()).unwrap();
    let exactly = exact(raw);
    for key in ["changed", "missed"] {
        if item.get(key).is_some() {
            item[key] = exactly[key].clone();
        }
    }
    if item.get("recorded_at").is_some() {
        assert_eq!(item["recorded_at"], item["cause"]["recorded_at"], "{item}");
        let moment = |value: &Value| read_time(value.as_str().unwrap()).unwrap();
        if item.get("delay_ms").is_some() {
            assert_eq!(
                item["delay_ms"],
                moment(&item["recorded_at"]) - moment(&item["occurred_at"]),
                "{item}"
            );
            item["delay_ms"] = Value::Null;
        }
        item["recorded_at"] = Value::Null;
    }
    stage.without_recorded_at(item)
}

// --- Changes ---

/// A reader of `changes` that goes on where it stopped.
#[derive(Default)]
struct Follower {
    after: String,
    items: Vec<Value>,
}

impl Follower {
    /// Everything up to the head, in pages of `limit`.
    fn go_on(&mut self, server: &Server, limit: usize) {
        loop {
            let answer =
                server.get(&format!("/rollcall/v1/changes?wait=0&limit={limit}{}", self.after));
            assert_eq!(answer.status, 200, "{}", answer.json());
            let body = answer.json();
            let page = body["data"].as_array().unwrap();
            assert!(page.len() <= limit && body["list_metadata"]["before"].is_null(), "{body}");
            self.items.extend(page.iter().cloned());
            // Nothing to go on from: nothing is known yet.
            let Some(after) = body["list_metadata"]["after"].as_str() else {
                return assert!(page.is_empty(), "{body}");
            };
            // An empty page may have moved on all the same, on a busy machine.
            let before =
                std::mem::replace(&mut self.after, format!("&after={}", percent_encoded(after)));
            if page.is_empty() && self.after == before {
                return;
            }
        }
    }

    /// Checks that changes read bit by bit equal those read at once, and those of the model.
    fn check(mut self, seed: u64, stage: &Stage, rng: &mut StdRng, tally: &Tally) {
        self.go_on(stage.server(), rng.random_range(1..=1000));
        let mut again = Follower::default();
        again.go_on(stage.server(), *[1, 3, 1000].choose(rng).unwrap());
        assert!(
            again.items == self.items,
            "history {seed}: {}",
            first_difference(&json!(again.items), &json!(self.items))
        );
        let done = rng.random_range(0..=stage.world.head());
        let mut rest = Follower { after: format!("&after={done}"), ..Follower::default() };
        rest.go_on(stage.server(), 1000);
        let later = self.items.iter().filter(|item| item["seq"].as_u64().unwrap() > done);
        assert!(rest.items.iter().eq(later), "history {seed}: changes after record {done}");
        if let Some(difference) = changes_differ(stage, self.items, tally) {
            panic!("history {seed}: changes {difference}");
        }
    }
}

fn changes_differ(stage: &Stage, items: Vec<Value>, tally: &Tally) -> Option<String> {
    let mut places = Vec::new();
    let mut server = Vec::new();
    for item in items {
        let mut item = comparable(stage, &serde_json::value::to_raw_value(&item).unwrap());
        let id = item.as_object_mut().unwrap().remove("id").unwrap();
        let (seq, number) = id.as_str().unwrap().split_once('.').unwrap();
        let place: (u64, u64) = (seq.parse().unwrap(), number.parse().unwrap());
        assert_eq!(item["seq"], place.0, "{item}");
        places.push(place);
        server.push(item);
    }
    // The changes of a record are numbered from 1, by user id and kind.
    for record in places.chunk_by(|(one, _), (other, _)| one == other) {
        assert!(record.iter().map(|(_, number)| *number).eq(1..=record.len() as u64), "{places:?}");
    }
    assert!(places.is_sorted() && server.is_sorted_by_key(change_key), "{}", json!(server));
    let model = stage.world.all_changes();
    for change in &model {
        let kind = match change["change"].as_str().unwrap() {
            "access_ended" => "change access_ended",
            "access_granted" => "change access_granted",
            "access_restored" => "change access_restored",
            "history_changed" => "change history_changed",
            "role_gained" => "change role_gained",
            _ => "change role_lost",
        };
        count(tally, kind, true);
    }
    let only = |these: &[Value], those: &[Value]| {
        these.iter().filter(|item| !those.contains(item)).cloned().collect::<Vec<Value>>()
    };
    let (of_server, of_model) = (only(&server, &model), only(&model, &server));
    (server != model).then(|| {
        format!("\n only the server {}\n only the model  {}", json!(of_server), json!(of_model))
    })
}

// --- For whoever looks for the reason of a difference ---

/// Returns the first answer that differs, of every call for every user and group, at every moment,
/// as known at every record.
fn difference(stage: &Stage) -> Option<String> {
    let (world, now) = (&stage.world, now_ms());
    let paging = Paging { limit: 1000, order: "", back: false };
    let mut follower = Follower::default();
    follower.go_on(stage.server(), 1000);
    if let Some(difference) = changes_differ(stage, follower.items, &Tally::default()) {
        return Some(format!("changes {difference}"));
    }
    let ids = world.ids();
    (0..=world.head()).rev().find_map(|known_at| {
        let cut = Cut { as_of_ms: None, known_at: Some(known_at) };
        let moments =
            world.turning_points(cut).into_iter().filter(|moment| *moment < now).map(Some);
        let mut cuts = [None].into_iter().chain(moments).map(|as_of_ms| Cut { as_of_ms, ..cut });
        cuts.find_map(|cut| {
            let mut questions = vec![
                Question::of_deprovisionings(&[], cut, world),
                Question::of_diff(cut, Cut::default(), None, world),
            ];
            for user in &ids.users {
                questions.extend(
                    ["access", "groups", "history"]
                        .map(|what| Question::of_user(what, user, cut, world)),
                );
            }
            for group in &ids.groups {
                questions.extend(
                    ["members", "history"].map(|what| Question::of_group(what, group, cut, world)),
                );
            }
            questions.iter().find_map(|question| question.difference(stage, &paging))
        })
    })
}
