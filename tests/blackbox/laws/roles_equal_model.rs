//! The naive model and the server agree about roles: random histories in which operators act
//! between the deliveries, and random questions.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::kit::compare::{Tally, check_histories, count, cut_query, draw_cut, rebuild, restart};
use crate::kit::histories::{Question, history_of_roles, percent_encoded, question};
use crate::kit::model::{Cut, rfc3339};
use crate::kit::play::{Act, ROLES, Step, draw_mapping, effective_from, perform, pick};
use crate::kit::server::{Server, holds, now_ms};
use crate::kit::stage::Stage;
use crate::laws::directories_equal_model::first_difference;

/// Histories in a run at scale 1. `ROLLCALL_MODEL_SHRINK=7` looks for the smallest part of history
/// 7 in which the two differ.
const HISTORIES: u64 = 20;

/// In each history: questions of each kind.
const QUESTIONS: usize = 12;
const ASSIGNMENT_LISTS: usize = 8;
const USERS: usize = 6;
const MAPPINGS: usize = 4;
const PREVIEWS: usize = 4;

#[test]
fn roles_at_any_cut_after_any_acts_are_as_the_model_says() {
    if let Ok(seed) = std::env::var("ROLLCALL_MODEL_SHRINK") {
        panic!("{}", crate::kit::shrink::smallest_of_roles(seed.parse().unwrap()));
    }
    let tally = Tally::default();
    let histories = check_histories(HISTORIES, |seed| check(seed, &tally));
    let tally = tally.into_inner().unwrap();
    println!("answers, and those with something in them: {tally:?}");
    let expected =
        ["acts", "assignments", "mappings", "other questions", "periods", "previews", "repeated"];
    assert_eq!(tally.keys().copied().collect::<Vec<_>>(), expected);
    assert!(tally.values().all(|[all, full]| full * 4 >= *all && *full >= histories), "{tally:?}");
}

fn check(seed: u64, tally: &Tally) {
    let folder = tempfile::tempdir().unwrap();
    let mut rng = StdRng::seed_from_u64(seed ^ 0x201e5);
    let mut stage = Stage::new(Some(Server::start(folder.path())));
    let mut kept: Vec<(String, Vec<u8>)> = Vec::new();
    perform(seed, history_of_roles(seed), &mut stage, |stage, step| match step {
        Step::Deliver(delivery) => {
            stage.deliver(&delivery.body, now_ms() + delivery.shift_ms);
            match rng.random_range(0..100) {
                0..6 => kept.extend(ask_to_repeat(&mut rng, stage)),
                // It runs beside what comes next.
                6..9 => rebuild(stage.server()),
                9 => restart(stage, folder.path()),
                _ => {}
            }
        }
        Step::Act(act) => {
            let head = stage.world.head();
            match act {
                Act::Policy(inactive_users, from) => stage.set_policy(inactive_users, from),
                Act::Mapping(mapping, from, note) => set_mapping(stage, seed, &mapping, from, note),
                Act::Deletion(directory) => stage.delete_directory(&directory),
                Act::Link(app_user, user) => stage.set_link(&app_user, &user),
                Act::Unlink(user) => stage.remove_link(&user),
            }
            count(tally, "acts", stage.world.head() > head);
        }
    });
    if rng.random_bool(0.3) {
        restart(&mut stage, folder.path());
    }
    for (url, body) in kept {
        let now = stage.server().get(&url).body;
        count(tally, "repeated", !String::from_utf8_lossy(&body).contains(r#""data":[]"#));
        let [then, now] = [body, now].map(|body| serde_json::from_slice::<Value>(&body).unwrap());
        assert!(
            then == now,
            "history {seed}: the answer to {url} has changed\n now {now}\n then {then}\n {}",
            first_difference(&now, &then)
        );
    }
    let asking = Asking { seed, stage: &stage, tally };
    (0..QUESTIONS).for_each(|_| asking.other_question(&mut rng));
    (0..ASSIGNMENT_LISTS).for_each(|_| asking.assignments(&mut rng));
    (0..USERS).for_each(|_| asking.periods(&mut rng));
    (0..MAPPINGS).for_each(|_| asking.mapping(&mut rng));
    (0..PREVIEWS).for_each(|_| asking.preview(&mut rng));
    asking.versions();
}

/// Previews a mapping, sets it, and checks that it changed what the preview said.
fn set_mapping(stage: &mut Stage, seed: u64, mapping: &Value, from: Option<i64>, note: Value) {
    let cut = Cut { as_of_ms: None, known_at: Some(stage.world.head()) };
    let body = json!({ "mapping": mapping, "effective_from": from.map(rfc3339) });
    let preview = stage
        .server()
        .ask_with(
            &format!("/rollcall/v1/role_mapping/preview?limit=1000{}", cut_query(cut)),
            &body,
            &[],
        )
        .json();
    let before = held(stage.server(), cut);
    let warnings = stage.world.warnings(mapping);
    let set = stage.set_mapping(mapping, from, note).unwrap();
    assert_eq!(set["warnings"], json!(warnings), "history {seed}: {mapping}");
    let after = held(stage.server(), Cut { as_of_ms: None, known_at: Some(stage.world.head()) });
    let (mut gained, mut lost) = (Vec::new(), Vec::new());
    for change in preview["changes"]["data"].as_array().unwrap() {
        for (key, roles) in [("gained", &mut gained), ("lost", &mut lost)] {
            let user = change["user_id"].as_str().unwrap();
            roles.extend(
                change[key]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|role| (user.to_owned(), role["role"].as_str().unwrap().to_owned())),
            );
        }
    }
    let missing =
        |from: &[(String, String)], other: &[(String, String)]| -> Vec<(String, String)> {
            let mut missing: Vec<_> =
                from.iter().filter(|held| !other.contains(held)).cloned().collect();
            missing.sort();
            missing
        };
    gained.sort();
    lost.sort();
    assert_eq!(
        gained,
        missing(&after, &before),
        "history {seed}: gained by record {}, {mapping}",
        stage.world.head()
    );
    assert_eq!(
        lost,
        missing(&before, &after),
        "history {seed}: lost by record {}, {mapping}",
        stage.world.head()
    );
}

/// Every user's roles as assignments list them.
fn held(server: &Server, cut: Cut) -> Vec<(String, String)> {
    let body =
        server.get(&format!("/rollcall/v1/role_assignments?limit=1000{}", cut_query(cut))).json();
    let pair = |item: &Value| {
        (item["user_id"].as_str().unwrap().to_owned(), item["role"].as_str().unwrap().to_owned())
    };
    body["data"].as_array().unwrap().iter().map(pair).collect()
}

// --- Questions ---

/// Asks for answers that must never change later.
fn ask_to_repeat(rng: &mut StdRng, stage: &Stage) -> Vec<(String, Vec<u8>)> {
    let known_at = Some(stage.world.head());
    let cut = cut_query(Cut { known_at, ..draw_cut(rng, &stage.world) });
    let mut urls = vec![
        format!("/rollcall/v1/role_assignments?limit=1000{cut}"),
        format!("/rollcall/v1/role_mapping?{}", &cut[1..]),
    ];
    let users = stage.world.ids().users;
    if let Some(user) = users.choose(rng) {
        urls.push(format!("/rollcall/v1/users/{}/roles?limit=1000{cut}", percent_encoded(user)));
        urls.push(format!("/directory_users/{}?{}", percent_encoded(user), &cut[1..]));
    }
    let body = |url: &String| stage.server().get(url).body;
    urls.into_iter().map(|url| (url.clone(), body(&url))).collect()
}

struct Asking<'a> {
    seed: u64,
    stage: &'a Stage,
    tally: &'a Tally,
}

impl Asking<'_> {
    fn same(&self, kind: &'static str, asked: &str, server: &Value, model: &Value) {
        let difference = first_difference(server, model);
        assert!(
            server == model,
            "history {}: {asked}\n server {server}\n model  {model}\n {difference}",
            self.seed
        );
        let empty = [json!([]), Value::Null].contains(model)
            || model["data"] == json!([])
            || model["code"] == "entity_not_found";
        count(self.tally, kind, !empty);
    }

    /// Checks users, groups and directories: the policy, deletions and roles have effects on them.
    fn other_question(&self, rng: &mut StdRng) {
        let world = &self.stage.world;
        let mut asked = question(rng, world);
        // The model lists no act; other events stay as they were, whatever operators do.
        while asked.query.iter().any(|(_, value)| value.contains("rollcall.")) {
            asked = question(rng, world);
        }
        asked.cut = draw_cut(rng, world);
        if asked.path == "/directory_users" && rng.random_bool(0.5) {
            asked.query.push(("role".to_owned(), ROLES.choose(rng).unwrap().to_string()));
        }
        let (status, model) = world.get(&asked.path, &asked.query, asked.cut);
        let answer = self.stage.server().get(&asked.url());
        assert_eq!(answer.status, status, "history {}: {}", self.seed, asked.url());
        if status == 422 || status == 400 {
            assert!(holds(&model, &answer.json()), "history {}: {}", self.seed, asked.url());
        } else {
            self.same("other questions", &asked.url(), &answer.json(), &model);
        }
        self.check_version(&asked, &answer);
    }

    fn check_version(&self, asked: &Question, answer: &crate::kit::server::Answer) {
        if asked.path.starts_with("/directory_users") && answer.status == 200 {
            let version = self.stage.world.role_mapping(asked.cut)["version"].to_string();
            assert_eq!(
                answer.header("rollcall-mapping-version"),
                Some(version.as_str()),
                "history {}: {}",
                self.seed,
                asked.url()
            );
        }
    }

    /// All pages of a list.
    fn walk(&self, url: &str) -> Value {
        let (mut items, mut after) = (Vec::new(), String::new());
        loop {
            let answer = self.stage.server().get(&format!("{url}{after}"));
            assert_eq!(
                answer.status,
                200,
                "history {}: {url}{after}: {}",
                self.seed,
                answer.json()
            );
            let body = answer.json();
            let data = body["data"].as_array().unwrap();
            items.extend(data.iter().cloned());
            let Some(cursor) = body["list_metadata"]["after"].as_str() else { break };
            assert!(!data.is_empty(), "history {}: {url}{after}", self.seed);
            after = format!("&after={}", percent_encoded(cursor));
        }
        self.stage.without_recorded_at(json!(items))
    }

    /// Filters and a cut by which, more often than not, something is found.
    fn draw_list(&self, rng: &mut StdRng) -> (Vec<(String, String)>, Cut, Vec<Value>) {
        let (world, ids) = (&self.stage.world, self.stage.world.ids());
        loop {
            let cut = draw_cut(rng, world);
            let mut query: Vec<(String, String)> = Vec::new();
            let mut ask = |key: &str, value: String| query.push((key.to_owned(), value));
            if rng.random_bool(0.2) {
                ask("user", pick(rng, &ids.users, "user_nowhere"));
            }
            if rng.random_bool(0.25) {
                ask("role", ROLES.choose(rng).unwrap().to_string());
            }
            if rng.random_bool(0.2) {
                ask("group", pick(rng, &ids.groups, "group_nowhere"));
            }
            if rng.random_bool(0.15) {
                ask("directory", pick(rng, &ids.directories, "directory_nowhere"));
            }
            if rng.random_bool(0.15) {
                ask("organization", pick(rng, &ids.organizations, "org_nowhere"));
            }
            let model = world.role_assignments(&query, cut);
            if !model.is_empty() || rng.random_bool(0.35) {
                return (query, cut, model);
            }
        }
    }

    fn assignments(&self, rng: &mut StdRng) {
        let (query, cut, mut model) = self.draw_list(rng);
        let mut url =
            format!("/rollcall/v1/role_assignments?limit={}", [1, 2, 5, 1000].choose(rng).unwrap());
        match rng.random_range(0..4) {
            0 => url += "&order=asc",
            1 => {
                model.reverse();
                url += "&order=desc";
            }
            _ => {}
        }
        url += &query
            .iter()
            .map(|(key, value)| format!("&{key}={}", percent_encoded(value)))
            .collect::<String>();
        url += &cut_query(cut);
        if !self.stage.world.has_heard_of_all(&query, cut) {
            let answer = self.stage.server().get(&url);
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (404, "entity_not_found"),
                "history {}: {url}",
                self.seed
            );
            return;
        }
        self.same("assignments", &url, &self.walk(&url), &json!(model));
    }

    fn periods(&self, rng: &mut StdRng) {
        let (world, ids) = (&self.stage.world, self.stage.world.ids());
        let draw = |rng: &mut StdRng| (pick(rng, &ids.users, "user_nowhere"), draw_cut(rng, world));
        let (mut user, mut cut) = draw(rng);
        if world.role_periods(&user, cut).is_none_or(|periods| periods.is_empty()) {
            (user, cut) = draw(rng);
        }
        let url = format!(
            "/rollcall/v1/users/{}/roles?limit={}{}",
            percent_encoded(&user),
            [1, 3, 1000].choose(rng).unwrap(),
            cut_query(cut)
        );
        match world.role_periods(&user, cut) {
            Some(model) => self.same("periods", &url, &self.walk(&url), &json!(model)),
            None => {
                let answer = self.stage.server().get(&url);
                assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (404, "entity_not_found"),
                    "history {}: {url}",
                    self.seed
                );
            }
        }
    }

    fn mapping(&self, rng: &mut StdRng) {
        let cut = draw_cut(rng, &self.stage.world);
        let url = format!("/rollcall/v1/role_mapping?{}", cut_query(cut).trim_start_matches('&'));
        let answer = self.stage.server().get(url.trim_end_matches('?'));
        let (mut server, model) = (answer.json(), self.stage.world.role_mapping(cut));
        assert_eq!(
            answer.header("etag"),
            Some(format!("\"{}\"", model["version"]).as_str()),
            "history {}: {url}",
            self.seed
        );
        server.as_object_mut().unwrap().remove("set_by");
        self.same("mappings", &url, &server, &model);
    }

    fn versions(&self) {
        let url = "/rollcall/v1/role_mapping/versions?limit=2";
        let mut server = self.walk(url);
        server
            .as_array_mut()
            .unwrap()
            .iter_mut()
            .for_each(|set| drop(set.as_object_mut().unwrap().remove("set_by")));
        self.same("mappings", url, &server, &json!(self.stage.world.role_mappings()));
    }

    fn preview(&self, rng: &mut StdRng) {
        let world = &self.stage.world;
        let (cut, mapping) = (draw_cut(rng, world), draw_mapping(rng, world));
        let from = if rng.random_bool(0.5) { None } else { effective_from(rng, world) };
        let body = json!({ "mapping": mapping, "effective_from": from.map(rfc3339) });
        let limit = *[1, 2, 1000].choose(rng).unwrap();
        let url = format!("/rollcall/v1/role_mapping/preview?limit={limit}{}", cut_query(cut));
        let (mut whole, mut changes, mut after) = (None, Vec::new(), String::new());
        loop {
            let answer = self.stage.server().ask_with(&format!("{url}{after}"), &body, &[]);
            assert_eq!(
                answer.status,
                200,
                "history {}: {url} {body}: {}",
                self.seed,
                answer.json()
            );
            let mut page = answer.json();
            let part = page["changes"].take();
            changes.extend(part["data"].as_array().unwrap().iter().cloned());
            let seen = whole.get_or_insert(page.clone());
            assert_eq!(
                *seen, page,
                "history {}: {url}: all pages say the same of the whole",
                self.seed
            );
            let Some(user) = part["list_metadata"]["after"].as_str() else { break };
            after = format!("&after={}", percent_encoded(user));
        }
        let lines = &[("Accept", "application/x-ndjson")];
        assert_eq!(
            self.stage.server().ask_with(&url, &body, lines).status,
            422,
            "lines are all of it, never a part"
        );
        let all =
            format!("/rollcall/v1/role_mapping/preview?{}", cut_query(cut).trim_start_matches('&'));
        let lines = self.stage.server().ask_with(&all, &body, lines);
        let version = whole.as_ref().unwrap()["base_version"].to_string();
        assert_eq!(lines.header("Rollcall-Mapping-Version"), Some(version.as_str()));
        let text = String::from_utf8(lines.body).unwrap();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines, changes, "history {}: {url} {body}", self.seed);
        let (mut server, mut model) = (whole.unwrap(), world.preview(&mapping, from, cut));
        server["changes"] = json!(changes);
        for preview in [&mut server, &mut model] {
            // Roles that nobody has are not told of.
            preview["roles"]
                .as_array_mut()
                .unwrap()
                .retain(|row| row["before"] != 0 || row["after"] != 0);
        }
        let full = model["changes"] != json!([]);
        let asked = format!("{url} {body}");
        let difference = first_difference(&server, &model);
        assert!(
            server == model,
            "history {}: {asked}\n server {server}\n model  {model}\n {difference}",
            self.seed
        );
        count(self.tally, "previews", full);
    }
}
