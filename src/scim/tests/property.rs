//! Random documents, operations, and sequences of changes with a naive consumer of their events.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const NAMES: [&str; 8] =
    ["title", "nickName", "displayName", "externalId", "department", "manager", "odd", "userType"];
const TEXTS: [&str; 5] = ["a", "b", "é", "x@y", "7"];

fn random_body(random: &mut Random, user_name: &str) -> String {
    let mut body = format!("{{\"userName\":\"{user_name}\"");
    for name in NAMES {
        if random.below(2) == 0 {
            body.push_str(&format!(",\"{name}\":\"{}\"", random.of(&TEXTS)));
        }
    }
    if random.below(2) == 0 {
        let emails: Vec<String> = (0..random.below(3))
            .map(|at| format!("{{\"type\":\"work\",\"value\":\"{}{at}\"}}", random.of(&TEXTS)))
            .collect();
        body.push_str(&format!(",\"emails\":[{}]", emails.join(",")));
    }
    match random.below(4) {
        0 => body.push_str(",\"active\":false"),
        1 => body.push_str(",\"active\":\"True\""),
        _ => {}
    }
    body.push('}');
    body
}

fn random_operation(random: &mut Random) -> String {
    let (name, text) = (*random.of(&NAMES), *random.of(&TEXTS));
    match random.below(9) {
        0 => format!("{{'op':'remove','path':'{name}'}}"),
        1 => format!("{{'op':'add','path':'emails','value':[{{'type':'work','value':'{text}'}}]}}"),
        2 => format!("{{'op':'remove','path':'emails','value':[{{'value':'{text}'}}]}}"),
        3 => "{'op':'replace','path':'active','value':'False'}".into(),
        4 => "{'op':'replace','value':{'active':true}}".into(),
        5 => format!("{{'op':'replace','path':'emails[type eq home].value','value':'{text}'}}"),
        6 => format!("{{'op':'replace','path':'name.givenName','value':'{text}'}}"),
        7 => format!("{{'op':'add','value':{{'{name}':'{text}','name.familyName':'{text}'}}}}"),
        _ => format!("{{'op':'replace','path':'{name}','value':'{text}'}}"),
    }
}

#[test]
fn what_is_shown_and_sent_back_changes_nothing() {
    let mut random = Random(3);
    for _ in 0..300 {
        let before = create(Kind::User, &random_body(&mut random, "u")).unwrap().document;
        let related = Memberships::default();
        let shown = shown(Kind::User, &before, &related).render(&Projection::default());
        // Unknown attributes are not shown: who sends them again sends them as they were.
        let odd = before.0.get("odd").map(Value::to_json);
        let sent = match odd {
            Some(odd) => shown.replacen('{', &format!("{{\"odd\":{odd},"), 1),
            None => shown,
        };
        let draft = replace(Kind::User, &before, &sent).unwrap();
        assert_eq!(draft.document.text(), before.text());
        let value = before.text();
        let body = format!("{{\"Operations\":[{{\"op\":\"replace\",\"value\":{value}}}]}}");
        assert_eq!(patch(Kind::User, &before, &body).unwrap().document.text(), before.text());
        assert_eq!(Document::parse(&before.text()).unwrap().text(), before.text());
    }
}

#[test]
fn a_patch_is_its_operations_one_after_another_or_nothing() {
    let mut random = Random(5);
    for _ in 0..300 {
        let before = create(Kind::User, &random_body(&mut random, "u")).unwrap().document;
        let operations: Vec<String> =
            (0..1 + random.below(5)).map(|_| random_operation(&mut random)).collect();
        let whole = patched(&before, &operations.join(",")).unwrap();
        let mut single = before.clone();
        for operation in &operations {
            single = patched(&single, operation).unwrap().document;
        }
        assert_eq!(whole.document, single, "{operations:?}");
        let bad = format!("{},{{'op':'remove','path':'userName'}}", operations.join(","));
        assert_eq!(error(patched(&before, &bad)), (400, Some("invalidValue")));
        // Again, it changes nothing: the operations set and remove, they do not count.
        let again = patched(&whole.document, &operations.join(",")).unwrap();
        let settled = patched(&again.document, &operations.join(",")).unwrap();
        assert_eq!(settled.document.text(), again.document.text(), "{operations:?}");
    }
}

/// A SCIM user in the model.
struct ModelUser {
    scim_id: String,
    document: Document,
    active: bool,
    snapshot: Option<Snapshot>,
}

/// A group in the model.
struct ModelGroup {
    document: Document,
    snapshot: Snapshot,
    members: BTreeSet<usize>,
}

/// A directory, and a consumer that sees its events only.
struct Model {
    deactivation: Deactivation,
    users: BTreeMap<usize, ModelUser>,
    groups: BTreeMap<usize, ModelGroup>,
    requests: usize,
    consumer: Consumer,
}

/// What a naive consumer makes of the events.
#[derive(Default)]
struct Consumer {
    users: BTreeMap<String, Value>,
    groups: BTreeMap<String, Value>,
    pairs: BTreeSet<(String, String)>,
    ids: BTreeSet<String>,
    gone: BTreeSet<String>,
}

fn field(value: &Value, name: &str) -> Value {
    value.object().and_then(|it| it.exactly(name)).cloned().unwrap_or(Value::Null)
}

fn text_field(value: &Value, name: &str) -> String {
    field(value, name).text().unwrap_or_default().to_owned()
}

impl Consumer {
    fn see(&mut self, event: &Consequence) {
        let body = Value::parse(&event.body).unwrap();
        assert!(self.ids.insert(event.id.clone()), "{} came twice", event.id);
        let data = field(&body, "data");
        let id = text_field(&data, "id");
        let kept = if event.event_type.starts_with("dsync.user.") {
            &mut self.users
        } else {
            &mut self.groups
        };
        match event.event_type {
            "dsync.user.created" | "dsync.group.created" => {
                assert!(!self.gone.contains(&id), "{id} was used before");
                assert!(kept.insert(id.clone(), data).is_none(), "{id} was created twice");
            }
            "dsync.user.updated" | "dsync.group.updated" => {
                let Value::Object(mut data) = data else { panic!("{}", event.body) };
                let previous = data.take("previous_attributes").unwrap();
                let old = kept.insert(id, Value::Object(data)).expect("it exists");
                assert!(!previous.is_unassigned(), "{}", event.body);
                for (name, was) in &previous.object().unwrap().0 {
                    if name == "custom_attributes" {
                        let custom = field(&old, name);
                        for (name, was) in &was.object().unwrap().0 {
                            assert_eq!(*was, field(&custom, name), "{}", event.body);
                        }
                    } else {
                        assert_eq!(*was, field(&old, name), "{}", event.body);
                    }
                }
            }
            "dsync.user.deleted" | "dsync.group.deleted" => {
                kept.remove(&id).expect("it exists");
                self.pairs.retain(|(user, group)| *user != id && *group != id);
                self.gone.insert(id);
            }
            _ => {
                let (user, group) = (field(&data, "user"), field(&data, "group"));
                let pair = (text_field(&user, "id"), text_field(&group, "id"));
                // The snapshots are those that the consumer has.
                assert_eq!(self.users.get(&pair.0), Some(&user));
                assert_eq!(self.groups.get(&pair.1), Some(&group));
                let changed = if event.event_type.ends_with("added") {
                    self.pairs.insert(pair)
                } else {
                    self.pairs.remove(&pair)
                };
                assert!(changed, "{}", event.body);
            }
        }
    }
}

impl Model {
    fn request(&mut self, make: impl FnOnce(&mut Model, &mut EventMaker<'_>) -> Vec<Consequence>) {
        self.requests += 1;
        let request_id = format!("op_{}", self.requests);
        let mut maker = EventMaker {
            request_id: &request_id,
            occurred_at: 1_764_500_000_000 + self.requests as i64,
            directory_id: "directory_1",
            organization_id: "org_1",
            deactivation: self.deactivation,
            made: 0,
        };
        for event in make(self, &mut maker) {
            self.consumer.see(&event);
        }
    }

    fn write_user(&mut self, key: usize, draft: Draft) {
        self.request(|model, maker| {
            let scim_id = format!("scim-{key}");
            let before = model.users.remove(&key);
            let was_active = before.as_ref().is_some_and(|user| user.active);
            let active = draft.active.unwrap_or(was_active);
            let snapshot = before.and_then(|user| user.snapshot);
            let named = draft.document.manager().map(str::to_owned);
            let manager = model.users.values().find(|user| Some(&user.scim_id) == named.as_ref());
            let after = UserAfter {
                scim_id: &scim_id,
                document: &draft.document,
                active,
                manager: manager.map(|user| &user.document),
            };
            let groups = model.groups.values().filter(|group| group.members.contains(&key));
            let groups: Vec<Snapshot> = groups.map(|group| group.snapshot.clone()).collect();
            let written = maker.user_written(snapshot.as_ref(), after, &groups);
            let snapshot = written.snapshot;
            let user = ModelUser { scim_id, document: draft.document, active, snapshot };
            model.users.insert(key, user);
            written.events
        });
    }

    fn delete_user(&mut self, key: usize) {
        self.request(|model, maker| {
            let user = model.users.remove(&key).unwrap();
            model.groups.values_mut().for_each(|group| {
                group.members.remove(&key);
            });
            maker.user_deleted(user.snapshot.as_ref()).into_iter().collect()
        });
    }

    fn write_group(&mut self, key: usize, name: &str, members: BTreeSet<usize>) {
        self.request(|model, maker| {
            let document = create(Kind::Group, &format!("{{\"displayName\":\"{name}\"}}"));
            let document = document.unwrap().document;
            let before = model.groups.remove(&key);
            let old = before.as_ref().map(|group| &group.snapshot);
            let written = maker.group_written(old, GroupAfter { document: &document });
            let (snapshot, mut events) = (written.snapshot.unwrap(), written.events);
            let had = before.map(|group| group.members).unwrap_or_default();
            let living = |key: &usize| model.users.get(key).and_then(|it| it.snapshot.as_ref());
            for user in had.difference(&members).filter_map(living) {
                events.push(maker.member_left(user, &snapshot));
            }
            for user in members.difference(&had).filter_map(living) {
                events.push(maker.member_came(user, &snapshot));
            }
            model.groups.insert(key, ModelGroup { document, snapshot, members });
            events
        });
    }

    fn delete_group(&mut self, key: usize) {
        self.request(|model, maker| {
            let group = model.groups.remove(&key).unwrap();
            vec![maker.group_deleted(&group.snapshot)]
        });
    }

    /// Compares what SCIM shows with what the consumer has.
    fn check(&self) {
        let shows = |user: &&ModelUser| user.active || self.deactivation == Deactivation::Update;
        let users = self.users.values().filter(shows).map(|user| {
            let state = if user.active { "active" } else { "inactive" };
            (user.document.user_name().unwrap().to_owned(), state.to_owned())
        });
        let seen = self.consumer.users.values().map(|user| {
            let custom = field(user, "custom_attributes");
            (text_field(&custom, "username"), text_field(user, "state"))
        });
        assert_eq!(users.collect::<BTreeSet<_>>(), seen.collect::<BTreeSet<_>>());
        let groups = self.groups.values().map(|group| group.document.display_name().unwrap());
        let seen = self.consumer.groups.values().map(|group| text_field(group, "name"));
        assert_eq!(groups.map(str::to_owned).collect::<BTreeSet<_>>(), seen.collect());
        let mut pairs = BTreeSet::new();
        for group in self.groups.values() {
            let members = group.members.iter().filter_map(|key| self.users.get(key));
            for user in members.filter(shows) {
                let user = user.snapshot.as_ref().unwrap().id().unwrap();
                pairs.insert((user, group.snapshot.id().unwrap()));
            }
        }
        assert_eq!(pairs, self.consumer.pairs);
    }
}

#[test]
fn a_naive_consumer_of_the_events_has_what_scim_shows() {
    for (seed, deactivation) in (0..12).flat_map(|seed| Deactivation::ALL.map(|it| (seed, it))) {
        let mut random = Random(seed);
        let mut model = Model {
            deactivation,
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
            requests: 0,
            consumer: Consumer::default(),
        };
        for _ in 0..200 {
            let key = random.below(6);
            match random.below(8) {
                0..=3 => {
                    let name = format!("user{key}");
                    let draft = match model.users.get(&key) {
                        None => create(Kind::User, &random_body(&mut random, &name)),
                        Some(user) if random.below(2) == 0 => {
                            replace(Kind::User, &user.document, &random_body(&mut random, &name))
                        }
                        Some(user) => patched(&user.document, &random_operation(&mut random)),
                    };
                    model.write_user(key, draft.unwrap());
                }
                4 if model.users.contains_key(&key) => model.delete_user(key),
                5 if model.groups.contains_key(&key) && random.below(3) == 0 => {
                    model.delete_group(key);
                }
                _ => {
                    let users: Vec<usize> = model.users.keys().copied().collect();
                    let members = users.into_iter().filter(|_| random.below(2) == 0).collect();
                    let name = format!("group{key}{}", random.below(2));
                    model.write_group(key, &name, members);
                }
            }
            model.check();
        }
        assert!(model.consumer.ids.len() > 50, "{}", model.consumer.ids.len());
    }
}
