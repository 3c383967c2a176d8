//! The ids and names that commands take. Each is asked of the server before the question itself, so
//! that one that was misspelt is an error and not an empty answer.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::client::{Answer, Client};
use super::super::table::{self, Column, harmless};
use super::listing::{Query, ask, path_of};
use super::objects::person_name;
use super::print::texts;

const PATH: &str = "/rollcall/v1/names";
const SCIM_REQUESTS: &str = "/rollcall/v1/scim_requests";

/// A kind of thing that has an id or a name.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    User,
    Group,
    Directory,
    Organization,
    Role,
    EventType,
}

impl Kind {
    /// Returns the word for programs, the word for people, and the plural of the latter.
    fn words(self) -> [&'static str; 3] {
        match self {
            Kind::User => ["user", "user", "users"],
            Kind::Group => ["group", "group", "groups"],
            Kind::Directory => ["directory", "directory", "directories"],
            Kind::Organization => ["organization", "organization", "organizations"],
            Kind::Role => ["role", "role", "roles"],
            Kind::EventType => ["event_type", "event type", "event types"],
        }
    }

    /// Returns true if the id says everything.
    fn is_bare(self) -> bool {
        matches!(self, Kind::Organization | Kind::Role | Kind::EventType)
    }
}

/// The filters of a question that take ids, as they were given: ids, names or emails.
#[derive(Clone, Default)]
pub(in super::super) struct Names {
    pub(in super::super) organization: Option<String>,
    pub(in super::super) directory: Option<String>,
    pub(in super::super) group: Option<String>,
    pub(in super::super) user: Option<String>,
    pub(in super::super) role: Option<String>,
    /// The question is about the past: all that ever had a name count, and not only what has it.
    pub(in super::super) ever: bool,
    /// The question is about requests of SCIM: directory users and groups that one resource of SCIM
    /// was in turn are one thing.
    pub(in super::super) of_scim: bool,
}

impl Names {
    /// Replaces names by ids. A name of several things is that of the one in the given directory or
    /// organization.
    ///
    /// # Errors
    /// The caller's, for a name of nothing that was ever seen, of several things, or of something
    /// that was never in the given directory or organization.
    pub(in super::super) fn resolve(
        self,
        client: &Client,
        moment: &Query,
    ) -> Result<Names, Failure> {
        let find = |kind, text: Option<String>, scope: &Names| {
            text.map(|text| find_id(client, kind, &text, scope, moment)).transpose()
        };
        let mut found = Names { ever: self.ever, of_scim: self.of_scim, ..Names::default() };
        found.organization = find(Kind::Organization, self.organization, &found)?;
        found.directory = find(Kind::Directory, self.directory, &found)?;
        found.group = find(Kind::Group, self.group, &found)?;
        found.user = find(Kind::User, self.user, &found)?;
        found.role = find(Kind::Role, self.role, &found)?;
        Ok(found)
    }

    /// Returns the filters as parameters.
    pub(in super::super) fn query(&self) -> Query {
        Query::default()
            .with("directory", self.directory.clone())
            .with("group", self.group.clone())
            .with("user", self.user.clone())
            .with("role", self.role.clone())
            .with("organization_id", self.organization.clone())
    }
}

#[derive(Deserialize)]
struct ApiNames {
    named_by: Option<String>,
    total: u64,
    data: Vec<ApiNamesake>,
    near: Vec<ApiNamesake>,
}

#[derive(Deserialize)]
struct ApiNamesake {
    id: String,
    name: Option<String>,
    directory_id: Option<String>,
    organization_id: Option<String>,
}

/// The things that a text names, and the moment at which it was asked.
struct Found {
    names: ApiNames,
    moment: Query,
    /// True if all that ever had the name count.
    ever: bool,
}

/// Returns the id of the only thing that `text` names. `scope` decides between several.
///
/// # Errors
/// The caller's, if it names nothing that was ever seen, several things, or something that was
/// never in `scope`.
pub(in super::super) fn find_id(
    client: &Client,
    kind: Kind,
    text: &str,
    scope: &Names,
    moment: &Query,
) -> Result<String, Failure> {
    // The filter itself says what is wrong with an empty value.
    if text.is_empty() {
        return Ok(String::new());
    }
    let mut found = Found::ask(client, kind, text, scope, moment)?;
    if let Some(within) = scope.directory.as_ref().or(scope.organization.as_ref())
        && found.names.data.is_empty()
    {
        let everywhere = Names { ever: scope.ever, ..Names::default() };
        found = Found::ask(client, kind, text, &everywhere, moment)?;
        if found.is_elsewhere() {
            return Err(found.out_of_scope(client, kind, text, within));
        }
    }
    match &found.names.data[..] {
        [] => Err(found.unknown(client, kind, text)),
        [one] => Ok(one.id.clone()),
        _ if scope.of_scim => {
            let latest = found.latest_of_one(client, kind)?;
            latest.ok_or_else(|| found.ambiguous(client, kind, text))
        }
        _ => Err(found.ambiguous(client, kind, text)),
    }
}

/// Returns the id of the only thing that `text` names; `None` if nothing has that name or id, or the
/// key may not look names up.
///
/// # Errors
/// The caller's, if it names several things.
pub(in super::super) fn id_if_known(
    client: &Client,
    kind: Kind,
    text: &str,
) -> Result<Option<String>, Failure> {
    let (everywhere, moment) = (Names::default(), Query::default());
    let answer = client.get(&Found::question(kind, text, &everywhere, &moment))?;
    if answer.status != 200 {
        return Ok(None);
    }
    let found = Found::of(&answer, &everywhere, &moment)?;
    match &found.names.data[..] {
        [] => Ok(None),
        [one] => Ok(Some(one.id.clone())),
        _ => Err(found.ambiguous(client, kind, text)),
    }
}

/// Says that nothing of this id was ever seen; `None` if something was.
///
/// # Errors
/// If the server does not answer.
pub(in super::super) fn never_seen(
    client: &Client,
    kind: Kind,
    text: &str,
    moment: &Query,
) -> Result<Option<Failure>, Failure> {
    let found = Found::ask(client, kind, text, &Names::default(), moment)?;
    let unknown = found.names.data.is_empty();
    Ok(unknown.then(|| found.unknown(client, kind, text)))
}

/// Returns true if a text is neither like an email nor like an id: it has no `@`, and it is several
/// words or has neither an underscore nor a digit.
fn is_like_a_name(text: &str) -> bool {
    let is_mark = |c: char| c == '_' || c.is_ascii_digit();
    !text.contains('@') && (text.contains(char::is_whitespace) || !text.contains(is_mark))
}

/// Returns the latest id, if the resources of all are known and the same. Ids rise with time.
fn latest(items: &[ApiNamesake], resources: &[Option<String>]) -> Option<String> {
    let first = resources.first()?.as_ref()?;
    let is_one = resources.iter().all(|resource| resource.as_ref() == Some(first));
    items.iter().map(|item| &item.id).max().filter(|_| is_one).cloned()
}

impl Found {
    fn ask(
        client: &Client,
        kind: Kind,
        text: &str,
        scope: &Names,
        moment: &Query,
    ) -> Result<Found, Failure> {
        let answer = ask(client, &Found::question(kind, text, scope, moment), "")?;
        Found::of(&answer, scope, moment)
    }

    /// Returns the path of the question what a text names.
    fn question(kind: Kind, text: &str, scope: &Names, moment: &Query) -> String {
        let [word, ..] = kind.words();
        let mut question = Query::default().with("kind", Some(word)).with("text", Some(text));
        if !kind.is_bare() {
            question = question
                .with("directory", scope.directory.clone().filter(|_| kind != Kind::Directory))
                .with("organization_id", scope.organization.clone())
                .with("ever", scope.ever.then_some("true"));
        }
        question.and(moment).at(PATH)
    }

    fn of(answer: &Answer, scope: &Names, moment: &Query) -> Result<Found, Failure> {
        let Answer { as_of, known_at, .. } = answer;
        let moment = Query::moment(
            as_of.clone(),
            known_at.clone().filter(|_| moment.value("known_at").is_some()),
        );
        Ok(Found { names: answer.json()?, moment, ever: scope.ever })
    }

    /// Returns the latest id, if all these things were one resource of SCIM in turn.
    ///
    /// # Errors
    /// If the server does not answer.
    fn latest_of_one(&self, client: &Client, kind: Kind) -> Result<Option<String>, Failure> {
        if self.names.total != self.names.data.len() as u64 {
            return Ok(None);
        }
        let [word, ..] = kind.words();
        let mut resources = Vec::with_capacity(self.names.data.len());
        for item in &self.names.data {
            let question = Query::default().with(word, Some(&item.id)).with("limit", Some("1"));
            let answer = client.get(&question.at(SCIM_REQUESTS))?;
            let requests: Value = match answer.status {
                200 => answer.json()?,
                _ => return Ok(None),
            };
            let resource = requests.pointer("/data/0/resource/id").and_then(Value::as_str);
            resources.push(resource.map(str::to_owned));
        }
        Ok(latest(&self.names.data, &resources))
    }

    /// Returns true if the directory or organization of all these things is known.
    fn is_elsewhere(&self) -> bool {
        let is_placed =
            |item: &ApiNamesake| item.directory_id.is_some() || item.organization_id.is_some();
        !self.names.data.is_empty() && self.names.data.iter().all(is_placed)
    }

    fn out_of_scope(&self, client: &Client, kind: Kind, text: &str, within: &str) -> Failure {
        let [_, one, _] = kind.words();
        let listed = self.listed(client, kind, &self.names.data);
        let (within, text) = (harmless(within), harmless(text));
        Failure::Caller(format!("`{within}` has no {one} `{text}`; seen in:{listed}"))
    }

    fn unknown(&self, client: &Client, kind: Kind, text: &str) -> Failure {
        let [_, one, _] = kind.words();
        let known_at = self.moment.value("known_at");
        let known_at = known_at.map(|seq| format!(" up to record {seq}")).unwrap_or_default();
        let near = match &self.names.near[..] {
            [] => String::new(),
            near => format!("; near matches:{}", self.listed(client, kind, near)),
        };
        let advice = if kind == Kind::User && is_like_a_name(text) {
            ": users are found by id or email, not by name"
        } else {
            ""
        };
        let text = harmless(text);
        Failure::Caller(format!("no {one} `{text}` was ever seen{known_at}{advice}{near}"))
    }

    fn ambiguous(&self, client: &Client, kind: Kind, text: &str) -> Failure {
        let [_, _, many] = kind.words();
        let ApiNames { named_by, total, data, .. } = &self.names;
        let by = named_by.as_deref().unwrap_or("name");
        let have = if self.ever { "have or had" } else { "have" };
        let listed = self.listed(client, kind, data);
        let left = total.saturating_sub(data.len() as u64);
        let left = if left > 0 { format!("\n  and {left} more") } else { String::new() };
        Failure::Caller(format!(
            "{total} {many} {have} the {by} `{}`: give the id of one{listed}{left}",
            harmless(text)
        ))
    }

    /// Returns things in words that follow a colon: each with its id, name, directory and
    /// organization, or the ids alone where they say everything.
    fn listed(&self, client: &Client, kind: Kind, items: &[ApiNamesake]) -> String {
        if kind.is_bare() {
            let ids: Vec<String> =
                items.iter().map(|item| format!("`{}`", harmless(&item.id))).collect();
            return format!(" {}", ids.join(", "));
        }
        let rows: Vec<Vec<String>> =
            items.iter().map(|item| self.row(client, kind, item)).collect();
        let directory = kind != Kind::Directory;
        let names = ["id", "name", "directory", "organization"];
        let columns: Vec<Column> = names
            .into_iter()
            .filter(|name| directory || *name != "directory")
            .map(Column::new)
            .collect();
        let drawn = table::draw_within(None, &columns, true, &rows);
        drawn.lines().map(|line| format!("\n  {line}")).collect()
    }

    fn row(&self, client: &Client, kind: Kind, item: &ApiNamesake) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let name = match kind {
            Kind::User => self.user_name(client, &item.id),
            _ => text(&item.name),
        };
        let mut row = vec![item.id.clone(), name];
        if kind != Kind::Directory {
            row.push(text(&item.directory_id));
        }
        row.push(text(&item.organization_id));
        row
    }

    /// Returns a user's name, or else the email; empty if the user does not exist at the moment, or
    /// the server does not answer: the id says enough.
    fn user_name(&self, client: &Client, id: &str) -> String {
        let answer = client.get(&self.moment.at(&path_of("/directory_users", id)));
        let Ok(answer) = answer else { return String::new() };
        let Some(user) = answer.json::<&RawValue>().ok().filter(|_| answer.status == 200) else {
            return String::new();
        };
        let name = person_name(user);
        if name.is_empty() { texts(user, ["email"]).concat() } else { name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namesakes_are_one_if_they_were_one_resource() {
        let items = ["directory_user_01B", "directory_user_01C", "directory_user_01A"].map(|id| {
            let id = id.to_owned();
            ApiNamesake { id, name: None, directory_id: None, organization_id: None }
        });
        let of = |resources: [Option<&str>; 3]| {
            latest(&items, &resources.map(|resource| resource.map(str::to_owned)))
        };
        assert_eq!(of([Some("r"); 3]).as_deref(), Some("directory_user_01C"));
        assert_eq!(of([Some("r"), Some("r"), Some("s")]), None);
        assert_eq!(of([Some("r"), None, Some("r")]), None);
        assert_eq!(of([None; 3]), None);
    }
}
