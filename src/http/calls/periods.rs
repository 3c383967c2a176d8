//! The periods of access, roles and memberships: `GET /rollcall/v1/users/{id}/access`, `/roles`,
//! `/groups`, and `/rollcall/v1/groups/{id}/members`.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{
    AccessPeriod, Cause, Cut, MembershipPeriod, Millis, PeriodsWindow, RolePeriod, SamePerson,
    Seen, Sight,
};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::http::wire::answer::{Code, Problem, pinned, pinned_with_roles};
use crate::http::wire::api::{
    Access, Bound, Cost, Gives, LIMIT_OWN, Logged, MAPPING_VERSION, Operation, Reads, after,
    before, direction,
};
use crate::http::wire::describe::{describe_cause, describe_predecessor, describe_successor};
use crate::http::wire::paging::{AT_ONCE, Places, in_steps};
use crate::http::wire::pieces::Pieces;
use crate::http::wire::question::{Question, id_within_path};
use crate::http::wire::state::State;
use crate::http::wire::threads::blocking;
use crate::http::wire::turns::walk_in_turn;
use crate::keys::Scope;
use crate::time;

/// The number of a group's periods that are computed under one lock.
const STEP: usize = 64;

const PERIODS: Operation = Operation {
    parameters: &[
        after::<(Millis, String)>("1772442000000.dXNlcl8x"),
        before::<(Millis, String)>("1772442000000.dXNlcl8x"),
        LIMIT_OWN,
        direction("Without it `asc`"),
    ],
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Audit, Bound::Own),
    logged: Logged::Always,
    shapes: include_str!("periods.schema.json"),
    problems: &[Code::EntityNotFound, Code::CursorInvalid],
    ..Operation::GET
};

/// `GET /rollcall/v1/users/{id}/access`
pub(crate) const ACCESS: Operation = Operation {
    path: "/rollcall/v1/users/{id}/access",
    name: "listUserAccess",
    about: "Every period in which a user had access, the events that began and ended it, and the \
        reason for the end; by beginning.",
    gives: Gives::List("AccessPeriod"),
    ..PERIODS
};

/// `GET /rollcall/v1/users/{id}/roles`
pub(crate) const ROLES: Operation = Operation {
    path: "/rollcall/v1/users/{id}/roles",
    name: "listUserRoles",
    about: "Every period in which a user had a role, and the events that began and ended it; by \
        beginning and role.",
    gives: Gives::List("RolePeriod"),
    answer_headers: &[MAPPING_VERSION],
    ..PERIODS
};

/// `GET /rollcall/v1/users/{id}/groups`
pub(crate) const GROUPS: Operation = Operation {
    path: "/rollcall/v1/users/{id}/groups",
    name: "listUserGroups",
    about: "Every period in which a user was in a group, and the events that began and ended it; \
        by beginning and group.",
    gives: Gives::List("MembershipPeriod"),
    ..PERIODS
};

/// `GET /rollcall/v1/groups/{id}/members`
pub(crate) const MEMBERS: Operation = Operation {
    path: "/rollcall/v1/groups/{id}/members",
    name: "listGroupMembers",
    about: "Every period in which a user was in a group, and the events that began and ended it; \
        by member and beginning.",
    parameters: &[
        after::<(String, Millis)>("dXNlcl8x.1772442000000"),
        before::<(String, Millis)>("dXNlcl8x.1772442000000"),
        LIMIT_OWN,
        direction("Without it `asc`"),
    ],
    cost: Cost::High,
    gives: Gives::List("MembershipPeriod"),
    ..PERIODS
};

/// A question about one user or group, at a fixed cut.
struct PeriodsQuestion {
    id: String,
    places: Places,
    engine: Arc<Engine>,
    sight: Sight,
    cut: Cut,
}

impl PeriodsQuestion {
    async fn of(
        request: &HttpRequest,
        state: &web::Data<State>,
        operation: &'static Operation,
    ) -> Result<PeriodsQuestion, Problem> {
        let mut question = Question::of(request, state, operation)?;
        let places = question.take_places();
        let id = id_within_path(request).ok_or(Code::NotFound)?;
        let sight = question.sight();
        let (engine, cut) = question.cut().await?;
        Ok(PeriodsQuestion { id, places, engine, sight, cut })
    }

    /// Writes a page of one user's periods. `list` returns those of a part of the list.
    fn page<T>(
        self,
        list: impl Fn(&Seen<'_>, &str, PeriodsWindow<'_>) -> Option<Vec<T>>,
        place: impl Fn(&T) -> UserPeriodPlace,
        describe: impl Fn(&str, &T) -> Value,
    ) -> Result<Pieces, Problem> {
        if !self.engine.views().seen_by(&self.sight).knows_user(&self.id, self.cut) {
            return Err(Problem::entity_not_found("Directory User", &self.id));
        }
        let walk = |start: Option<UserPeriodPlace>, descending: bool, limit: usize| {
            let start = start.as_ref().map(|(from, name)| (*from, name.as_str()));
            // One more than wanted shows if there are more.
            let window = PeriodsWindow { start, descending, limit: limit.saturating_add(1) };
            let views = self.engine.views();
            let mut found = list(&views.seen_by(&self.sight), &self.id, window).unwrap_or_default();
            let more = found.len() > limit;
            found.truncate(limit);
            (found, more)
        };
        self.places.write(&place, walk, AT_ONCE, |periods| {
            Ok(write(periods, |period| describe(&self.id, period)))
        })
    }
}

/// A place in a list of periods of one user.
type UserPeriodPlace = (Millis, String);

fn write<T>(items: &[T], describe: impl Fn(&T) -> Value) -> Vec<Vec<u8>> {
    items.iter().map(|item| describe(item).to_string().into_bytes()).collect()
}

/// Answers [`ACCESS`].
pub(crate) async fn access(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let asked = PeriodsQuestion::of(&request, &state, &ACCESS).await?;
    let cut = asked.cut;
    let found = blocking(move || {
        let holder = {
            let views = asked.engine.views();
            let views = views.seen_by(&asked.sight);
            Holder {
                app_user: views.app_user(&asked.id, cut).map(str::to_owned),
                same_person: views.same_person(&asked.id, cut),
            }
        };
        asked.page(
            |views, user, window| views.access_periods_in(user, cut, window),
            |period| (period.from, String::new()),
            |user, period| describe_access(user, &holder, period),
        )
    });
    Ok(pinned(cut, found.await?))
}

/// Answers [`ROLES`].
pub(crate) async fn roles(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let asked = PeriodsQuestion::of(&request, &state, &ROLES).await?;
    let cut = asked.cut;
    let found = blocking(move || {
        let version = asked.engine.views().mapping_version(cut);
        let page = asked.page(
            |views, user, window| views.role_periods_in(user, cut, window),
            |period| (period.from, period.role.clone()),
            describe_role,
        );
        (version, page)
    });
    let (version, body) = found.await?;
    Ok(pinned_with_roles(cut, version, body))
}

/// Answers [`GROUPS`].
pub(crate) async fn groups(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let asked = PeriodsQuestion::of(&request, &state, &GROUPS).await?;
    let cut = asked.cut;
    let found = blocking(move || {
        asked.page(
            |views, user, window| views.membership_periods_in(user, cut, window),
            |period| (period.from, period.group.clone()),
            |_, period| describe_membership(period),
        )
    });
    Ok(pinned(cut, found.await?))
}

/// Answers [`MEMBERS`].
pub(crate) async fn members(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let PeriodsQuestion { id, places, engine, sight, cut } =
        PeriodsQuestion::of(&request, &state, &MEMBERS).await?;
    let asking = engine.clone();
    let found = walk_in_turn(&state.turns, &asking, &MEMBERS, move |turn| {
        if !engine.views().seen_by(&sight).knows_group(&id, cut) {
            return Err(Problem::entity_not_found("Directory Group", &id));
        }
        let walk = |start: Option<(String, Millis)>, descending: bool, limit: usize| {
            in_steps(turn, start, limit, |start, limit| {
                let start = start.map(|(user, from)| (user.as_str(), *from));
                let views = engine.views();
                let views = views.seen_by(&sight);
                views
                    .membership_periods_of_group(&id, cut, start, descending, limit.min(STEP))
                    .unwrap_or_default()
            })
        };
        let place = |period: &MembershipPeriod| (period.user.clone(), period.from);
        places.write(place, walk, AT_ONCE, |periods| Ok(write(periods, describe_membership)))
    });
    Ok(pinned(cut, found.await?))
}

/// Tells if the beginning or the end of a period was observed.
fn is_observed(start: &Cause, end: Option<&Cause>) -> bool {
    start.is_observation() || end.is_some_and(Cause::is_observation)
}

/// The user of a page of periods, as it is known at the cut of the question.
struct Holder {
    app_user: Option<String>,
    same_person: SamePerson,
}

fn describe_access(user: &str, holder: &Holder, period: &AccessPeriod) -> Value {
    let end = period.end.as_ref();
    json!({
        "object": "access_period",
        "user_id": user,
        "from": time::format(period.from),
        "until": end.map(|end| time::format(end.at)),
        "reason": end.map(|end| end.reason.word()),
        "start": describe_cause(&period.start),
        "end": end.map(|end| describe_cause(&end.cause)),
        "observed": is_observed(&period.start, end.map(|end| &end.cause)),
        "not_before": end.and_then(|end| end.not_before).map(time::format),
        "app_user_id": holder.app_user,
        "succeeded_by": describe_successor(&holder.same_person),
        "preceded_by": describe_predecessor(&holder.same_person),
    })
}

fn describe_role(user: &str, period: &RolePeriod) -> Value {
    json!({
        "object": "role_period",
        "user_id": user,
        "role": period.role,
        "from": time::format(period.from),
        "until": period.until.map(time::format),
        "start": describe_cause(&period.start),
        "end": period.end.as_ref().map(describe_cause),
        "observed": is_observed(&period.start, period.end.as_ref()),
    })
}

fn describe_membership(period: &MembershipPeriod) -> Value {
    json!({
        "object": "membership_period",
        "user_id": period.user,
        "group_id": period.group,
        "group_name": period.group_name,
        "from": time::format(period.from),
        "until": period.until.map(time::format),
        "start": describe_cause(&period.start),
        "end": period.end.as_ref().map(describe_cause),
        "observed": is_observed(&period.start, period.end.as_ref()),
    })
}
