//! `GET /events`.

use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{Cut, EventFilter, EventsStep, Seq, Sight, Start, events_in_steps};

use crate::documents::ShownEvent;
use crate::engine::Engine;
use crate::http::wire::answer::{Code, Cursors, Problem, list_in_pieces, pinned};
use crate::http::wire::api::{
    Access, Bound, Cost, Gives, LIMIT, Logged, NOT_BOTH, OF_ORGANIZATION, OF_ORGANIZATION_ALIAS,
    Operation, Order, Parameter, Reads, Takes, since, until,
};
use crate::http::wire::paging::{Fitted, Paging, fit};
use crate::http::wire::pieces::Pieces;
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::http::wire::turns::{Asker, walk_for};
use crate::keys::Scope;
use crate::verify::FieldCode;

const SHAPES: &str = include_str!("events.schema.json");

const EVENT_ID: &str = "event_01K424MMDFVDHHRK8PS2BM523M";

const EVENTS: Parameter = Parameter::new(
    "events",
    Takes::Texts { max: 64 },
    "dsync.user.created,dsync.user.deleted",
    "The types wanted, at most 64. Also as `events=a&events=b`, `events[]=a` and `events[0]=a`",
)
.required();
const AFTER_EVENT: Parameter = Parameter::text(
    "after",
    EVENT_ID,
    "Only what was recorded after this event. Not with `range_start` or `range_end`",
);
const BEFORE_EVENT: Parameter = Parameter::text(
    "before",
    EVENT_ID,
    "Only what was recorded directly before this event, or, with `latest`, the last of all. Not \
    with `after`, `range_start` or `range_end`",
)
.not_with(&["after"], NOT_BOTH);
const ORDER_IGNORED: Parameter = Parameter::new(
    "order",
    Takes::Order(Order::Asc),
    "desc",
    "Taken and ignored: events are listed oldest first",
);

/// The number of events that are read at once.
const EVENTS_AT_ONCE: usize = 8;

/// Refuses a range with a cursor.
const RANGE_OR_CURSOR: &str = "give a range or a cursor, not both";

/// `GET /events`
pub(crate) const LIST: Operation = Operation {
    path: "/events",
    name: "listEvents",
    about: "Events of some types, in the order in which they were recorded, back to the first.",
    parameters: &[
        EVENTS,
        AFTER_EVENT,
        BEFORE_EVENT,
        LIMIT,
        ORDER_IGNORED,
        OF_ORGANIZATION,
        OF_ORGANIZATION_ALIAS,
        since("range_start").not_with(&["after", "before"], RANGE_OR_CURSOR),
        until("range_end").not_with(&["after", "before"], RANGE_OR_CURSOR),
    ],
    reads: Reads::AtCut,
    access: Access::keyed(Scope::Audit, Bound::Own),
    logged: Logged::Always,
    cost: Cost::Walk,
    gives: Gives::List("Event"),
    shapes: SHAPES,
    problems: &[Code::InvalidEventsRequest, Code::CursorInvalid],
    ..Operation::GET
};

/// The filters of a list of events, who asks, and the part of it that is wanted.
struct Wanted {
    sight: Sight,
    event_types: Vec<String>,
    organization: Option<String>,
    from: Option<i64>,
    until: Option<i64>,
    paging: Paging,
}

/// Answers [`LIST`].
pub(crate) async fn list(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &LIST)?;
    let event_types = question.take_texts("events");
    if event_types.is_empty() {
        return Err(Code::InvalidEventsRequest.into());
    }
    let paging = question.take_paging();
    let organization = question.take_either("organization_id", "organization");
    let (from, until) = (question.take_moment("range_start"), question.take_moment("range_end"));
    if from.zip(until).is_some_and(|(from, until)| until < from) {
        question.error("range_end", FieldCode::OutOfRange, "it is before `range_start`");
    }
    let sight = question.sight();
    let (engine, cut) = question.cut().await?;
    let wanted = Wanted { sight, event_types, organization, from, until, paging };
    let asking = engine.clone();
    let body =
        walk_for(&engine, &LIST, move |asker| read(&asking, cut, &wanted, asker)).await.flatten();
    Ok(pinned(cut, body.map_err(|problem| problem.in_words_of(&LIST))))
}

/// Reads a page of events. Blocks while it reads the log.
fn read(engine: &Engine, cut: Cut, wanted: &Wanted, asker: &Asker) -> Result<Pieces, Problem> {
    let Wanted { sight, event_types, organization, from, until, paging } = wanted;
    let start = match (&paging.after, &paging.before) {
        (None, Some(id)) => match engine.find_event(sight, id)? {
            Some(seq) => Start::Before(seq),
            // `latest` is the end of the list, unless an event has that id.
            None if id == "latest" => Start::Before(Seq::MAX),
            None => return Err(Problem::cursor_invalid("before")),
        },
        (Some(id), _) => Start::After(
            engine.find_event(sight, id)?.ok_or_else(|| Problem::cursor_invalid("after"))?,
        ),
        (None, None) => Start::After(0),
    };
    let filter = EventFilter {
        event_types,
        organization: organization.as_deref(),
        from: *from,
        until: *until,
    };
    let step = |start, limit| match asker.waits() {
        true => engine.views().seen_by(sight).events_step(&filter, cut, start, limit),
        false => EventsStep { items: Vec::new(), next: None },
    };
    let page = events_in_steps(start, paging.limit, step);
    let backward = matches!(start, Start::Before(_));
    let bytes = |event: &ShownEvent| event.json.len();
    let Fitted { written, kept } =
        fit(&page.items, backward, EVENTS_AT_ONCE, bytes, |rows| Ok(engine.load_events(rows)?))?;
    let more_after = page.more_after || kept.end < page.items.len();
    let after = written.last().filter(|_| more_after).map(|event| event.id.clone());
    let items: Vec<Vec<u8>> = written.into_iter().map(|event| event.json).collect();
    Ok(list_in_pieces(items, Cursors { before: None, after }))
}
