//! `GET /rollcall/v1/stats`: the traffic of webhooks and their delays.

use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, web};
use rollcall_projections::{
    Counted, Counts, Cut, Delays, DirectoryFilter, DirectoryRow, Intake, ListStep, Millis, Named,
    Page, Reason, ReasonCounts, Sight,
};
use serde_json::{Map, Value, json};

use crate::archive::ArchiveReport;
use crate::engine::{ClockState, Engine, LastScimRequest, ScimCounts, SnapshotState, TrafficNow};
use crate::http::wire::answer::{Code, Cursors, Problem, respond};
use crate::http::wire::api::{
    AFTER, Access, BEFORE, Bound, Cost, Gives, IN_DIRECTORY, LIMIT_OWN, OF_ORGANIZATION,
    OF_ORGANIZATION_ALIAS, ORDER_OWN, Operation,
};
use crate::http::wire::condition::describe_condition;
use crate::http::wire::connections::Connections;
use crate::http::wire::describe::{describe_endpoint, describe_source};
use crate::http::wire::entity::must_be_named;
use crate::http::wire::paging::Paging;
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::http::wire::turns::{Turn, in_turn};
use crate::keys::Scope;
use crate::log::{DeferredProgress, ReadError, ScrubFinding, ScrubPass, ScrubState};
use crate::{stderr, time};

/// The windows of time. Directories show all but the first.
const WINDOW_NAMES: [&str; 4] = ["last_minute", "last_hour", "last_day", "last_30_days"];
const HOUR: usize = 1;
const DAY: usize = 2;

const SHAPES: &str = include_str!("stats.schema.json");

/// `GET /rollcall/v1/stats`
pub(crate) const STATS: Operation = Operation {
    path: "/rollcall/v1/stats",
    name: "getStats",
    about: "Recent traffic and its delays, by the server's clock; the size of each directory; \
        refused webhooks.",
    parameters: &[
        AFTER,
        BEFORE,
        LIMIT_OWN,
        ORDER_OWN,
        IN_DIRECTORY,
        OF_ORGANIZATION,
        OF_ORGANIZATION_ALIAS,
    ],
    access: Access::keyed(Scope::Read, Bound::Own),
    cost: Cost::High,
    gives: Gives::One("Stats"),
    shapes: SHAPES,
    problems: &[Code::EntityNotFound],
    ..Operation::GET
};

/// Answers [`STATS`].
pub(crate) async fn stats(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &STATS)?;
    let paging = question.take_paging();
    let (directory, organization) =
        (question.take("directory"), question.take_either("organization_id", "organization"));
    let sight = question.sight();
    let engine = question.finish()?;
    let cut = Cut { known_at: engine.folded_head(), ..Cut::LATEST };
    let filters = [
        directory.as_deref().map(Named::Directory),
        organization.as_deref().map(Named::Organization),
    ];
    must_be_named(&engine, &sight, cut, filters)?;
    if request.method() == Method::HEAD {
        // Without a length: only the walk over a month would tell it.
        return Ok(respond(StatusCode::OK).body(actix_web::body::None::new()));
    }
    // Refused requests and duplicates are of no organization.
    let shown = |count: u64| if sight == Sight::All { count } else { 0 };
    let refusals: Vec<(Code, u64)> =
        state.refusals.counts().map(|(code, count)| (code, shown(count))).collect();
    let described = (sight == Sight::All).then(|| state.clone());
    let refused = RefusedQuestions {
        unauthorized: shown(state.refusals.unauthorized()),
        busy: shown(state.turns.refused()),
    };
    let repeated =
        Repeated { duplicates: shown(engine.duplicates()), differs: shown(engine.differing()) };
    let archive = engine.archive().filter(|_| sight == Sight::All);
    let archive = archive.as_ref().map_or(Value::Null, describe_archive);
    let shown_source = state.source.as_ref().filter(|_| sight == Sight::All);
    let sources: Vec<Value> =
        shown_source.map(|source| describe_source(source, &engine)).into_iter().collect();
    let endpoints = match sight {
        Sight::All => state.deliveries.reports(engine.folded_head()),
        Sight::Of(_) => Vec::new(),
    };
    let endpoints: Vec<Value> = endpoints.iter().map(describe_endpoint).collect();
    let scrub = engine.scrub().filter(|_| sight == Sight::All);
    let scrub = scrub.as_ref().map(describe_scrub);
    let snapshot = engine.snapshot().filter(|_| sight == Sight::All);
    let snapshot = snapshot.as_ref().map(describe_snapshot);
    let _alone = state.stats.lock().await;
    let asking = engine.clone();
    let connections = connections(&state.connections, shown);
    let answer = in_turn(&state.turns, &engine, &STATS, move |turn| {
        let filter = StatsFilter { sight, directory, organization };
        let mut measured = measure(&asking, &filter, repeated, &paging, turn)?;
        let recent = std::mem::take(&mut measured.quarantine_day);
        let condition = described.map(|state| {
            // It asks the disk, which may not answer.
            let mut parts = describe_condition(&asking, &state.refusals);
            parts.insert("quarantine_last_day".into(), recent.into());
            parts
        });
        let mut stats = describe(&asking, measured, &refusals, &refused);
        if let Some(stats) = stats.as_object_mut() {
            stats.insert("condition".into(), condition.into());
            stats.insert("sources".into(), sources.into());
            stats.insert("endpoints".into(), endpoints.into());
            stats.insert("archive".into(), archive);
            stats.insert("connections".into(), connections);
            stats.insert("scrub".into(), scrub.into());
            stats.insert("snapshot".into(), snapshot.into());
        }
        Ok::<_, Problem>(stats.to_string())
    });
    Ok(respond(StatusCode::OK).body(answer.await??))
}

fn describe_archive(report: &ArchiveReport) -> Value {
    let ArchiveReport { place, seq, lag_records, lag_ms, segments, failures, .. } = report;
    let ArchiveReport { last_error, damaged, .. } = report;
    json!({
        "place": place,
        "seq": seq,
        "lag_records": lag_records,
        "lag_ms": lag_ms,
        "segments": segments,
        "failures": failures,
        "last_error": last_error.as_ref().map(|error| json!({
            "at": time::format(error.at),
            "message": error.message,
        })),
        "damaged": damaged,
    })
}

/// Who asks, and the directories that are wanted.
struct StatsFilter {
    sight: Sight,
    directory: Option<String>,
    organization: Option<String>,
}

/// The counts, all at one record and one moment, except that a directory's last event may be later.
struct Measured {
    now: Millis,
    seq: u64,
    repeated: Repeated,
    events: Counts,
    backfilled: Counts,
    /// Of the last hour and the last day.
    delays: [Option<Delays>; 2],
    quarantine: Map<String, Value>,
    /// Of the last 24 hours.
    quarantine_day: Map<String, Value>,
    directories: Vec<DirectoryStats>,
    cursors: Cursors,
}

struct DirectoryStats {
    row: DirectoryRow,
    state: String,
    users: Counted,
    groups: Counted,
    event_types: Vec<(String, Counts)>,
    /// `None` for a directory that nothing belongs to and others only name.
    intake: Option<Intake>,
    /// The requests since the start, of a directory that an identity provider pushes into.
    scim: Option<ScimCounts>,
}

/// Blocks while it reads the documents of directories that were observed.
fn measure(
    engine: &Engine,
    filter: &StatsFilter,
    repeated: Repeated,
    paging: &Paging,
    turn: &Turn,
) -> Result<Measured, ReadError> {
    engine.with_traffic(&filter.sight, |counted| {
        let TrafficNow { now, seq, traffic, .. } = *counted;
        let cut = Cut { known_at: seq, ..Cut::LATEST };
        let page = directories(engine, cut, filter, paging, turn);
        let cursors = paging.cursors(&page, |row| row.id.clone());
        let states = engine.directory_states(&page.items)?;
        let rows = page.items.into_iter().zip(states);
        let described = rows.map(|(row, state)| {
            let views = engine.views();
            let [users, groups] = views.living_in(&counted.living, &row.id);
            let event_types = views.traffic_of(traffic, &row.id);
            let intake = views.seen_by(&filter.sight).intake(&row.id, cut);
            let is_hosted = views.scim().directory(&row.id).is_some();
            drop(views);
            let scim = is_hosted.then(|| engine.scim_counts(&row.id));
            DirectoryStats { row, state, users, groups, event_types, intake, scim }
        });
        Ok(Measured {
            now,
            seq,
            repeated,
            events: traffic.totals(),
            backfilled: traffic.backfilled(),
            delays: [HOUR, DAY].map(|window| traffic.delays(window)),
            quarantine: by_reason(traffic.quarantine()),
            quarantine_day: by_reason(traffic.quarantine_of_day()),
            directories: described.collect(),
            cursors,
        })
    })
}

fn directories(
    engine: &Engine,
    cut: Cut,
    filter: &StatsFilter,
    paging: &Paging,
    turn: &Turn,
) -> Page<DirectoryRow> {
    let organization = filter.organization.as_deref();
    match filter.directory.as_deref() {
        None => {
            let wanted = DirectoryFilter { organization, ..DirectoryFilter::default() };
            let step = |step: ListStep<'_>| {
                engine.views().seen_by(&filter.sight).directories_step(&wanted, cut, step)
            };
            paging.walk(turn.asker(), step, |row| &row.id)
        }
        Some(id) => {
            let row = engine.views().seen_by(&filter.sight).directory(id, cut).filter(|row| {
                organization.is_none_or(|organization| row.organization == organization)
            });
            Page { items: row.into_iter().collect(), ..Page::empty() }
        }
    }
}

fn by_reason(counts: ReasonCounts) -> Map<String, Value> {
    Reason::CODES
        .iter()
        .zip(counts)
        .map(|(code, count)| ((*code).to_owned(), count.into()))
        .collect()
}

/// The deliveries since the start of events that were in the log already.
struct Repeated {
    duplicates: u64,
    /// Those among them whose content is another one.
    differs: u64,
}

/// The questions refused since the start.
struct RefusedQuestions {
    /// Those without a known key.
    unauthorized: u64,
    /// Those for which there was no turn.
    busy: u64,
}

fn describe(
    engine: &Engine,
    measured: Measured,
    refusals: &[(Code, u64)],
    refused: &RefusedQuestions,
) -> Value {
    let counts = |wanted: &dyn Fn(Code) -> bool| -> Map<String, Value> {
        let wanted = refusals.iter().filter(|(code, _)| wanted(*code));
        wanted.map(|(code, count)| (code.name().to_owned(), (*count).into())).collect()
    };
    let Measured { now, seq, repeated, quarantine, directories, cursors, .. } = measured;
    let [minute, hour, ..] = measured.events;
    let [_, backfilled_hour, backfilled_day, _] = measured.backfilled;
    let [delays_hour, delays_day] = measured.delays;
    let directories: Vec<Value> =
        directories.iter().map(|directory| describe_directory(directory, now)).collect();
    let delays = json!({
        "last_hour": delays(delays_hour),
        "last_day": delays(delays_day),
    });
    json!({
        "object": "stats",
        "at": time::format(now),
        "seq": seq,
        "started_at": time::format(engine.started_at()),
        "clock": clock(engine),
        "events": windows(measured.events),
        "rate_per_s": { "last_minute": rate(minute, 60), "last_hour": rate(hour, 3600) },
        "delay_ms": delays,
        "backfilled": { "last_hour": backfilled_hour, "last_day": backfilled_day },
        "duplicates": repeated.duplicates,
        "differs": repeated.differs,
        "signature_failures": counts(&|code| Code::SIGNATURES.contains(&code)),
        "refused_webhooks": counts(&|_| true),
        "unauthorized": refused.unauthorized,
        "refused_questions": refused.busy,
        "dropped_log_lines": stderr::dropped(),
        "conflicts": quarantine.get("conflict"),
        "quarantine": quarantine,
        "directories": {
            "object": "list",
            "data": directories,
            "list_metadata": { "before": cursors.before, "after": cursors.after },
        },
    })
}

fn connections(connections: &Connections, shown: impl Fn(u64) -> u64) -> Value {
    json!({
        "open": shown(connections.open() as u64),
        "places": connections.places(),
        "closed": shown(connections.closed()),
    })
}

fn clock(engine: &Engine) -> Value {
    let ClockState { offset_ms, stamps_ahead_ms, is_believed } = engine.clock_state();
    json!({
        "offset_ms": offset_ms,
        "stamps_ahead_ms": stamps_ahead_ms,
        "is_believed": is_believed,
    })
}

fn describe_scrub(state: &ScrubState) -> Value {
    let ScrubState {
        position,
        bytes,
        passes,
        last_pass,
        doubtful,
        doubtful_at,
        damaged,
        findings,
        found_at,
        deferred,
        ..
    } = state;
    let pass = |pass: &ScrubPass| {
        json!({
            "started_at": time::format(pass.started_at),
            "finished_at": time::format(pass.finished_at),
            "bytes": pass.bytes,
            "blocks": pass.blocks,
        })
    };
    let deferred_check = |deferred: &DeferredProgress| {
        json!({
            "position": deferred.position,
            "until": deferred.until,
            "finished_at": deferred.finished_at.map(time::format),
        })
    };
    let finding = |ScrubFinding { first, last, what, in_memory }: &ScrubFinding| json!({ "first": first, "last": last, "what": what, "in_memory": in_memory });
    json!({
        "position": position,
        "bytes": bytes,
        "passes": passes,
        "last_pass": last_pass.as_ref().map(pass),
        "doubtful": doubtful,
        "doubtful_at": doubtful_at,
        "damaged": damaged,
        "findings": findings.iter().map(finding).collect::<Vec<Value>>(),
        "found_at": found_at.map(time::format),
        "deferred_check": deferred.as_ref().map(deferred_check),
    })
}

fn describe_snapshot(state: &SnapshotState) -> Value {
    let SnapshotState { seq, bytes, written_at, started_from, comparison, compared_at, .. } = state;
    json!({
        "seq": seq,
        "bytes": bytes,
        "written_at": written_at.map(time::format),
        "started_from": started_from,
        "comparison": comparison.word(),
        "compared_at": compared_at.map(time::format),
    })
}

fn describe_directory(stats: &DirectoryStats, now: Millis) -> Value {
    let DirectoryStats { row, state, users, groups, event_types, intake, scim } = stats;
    let of_window = |window: usize| -> Map<String, Value> {
        let counts = event_types
            .iter()
            .filter_map(|(event_type, counts)| Some((event_type.clone(), *counts.get(window)?)));
        counts
            .filter(|(_, count)| *count > 0)
            .map(|(event_type, count)| (event_type, count.into()))
            .collect()
    };
    let windows: Map<String, Value> = WINDOW_NAMES
        .iter()
        .enumerate()
        .skip(HOUR)
        .map(|(window, name)| ((*name).to_owned(), of_window(window).into()))
        .collect();
    json!({
        "object": "directory_stats",
        "id": row.id,
        "name": row.name,
        "organization_id": row.organization,
        "state": state,
        "users": { "active": users.active, "inactive": users.inactive },
        "groups": groups.active,
        "events": windows,
        "last_event_at": intake.map(|intake| time::format(intake.last_recorded_at)),
        "silent_ms": intake.map(|intake| (now - intake.last_recorded_at).max(0)),
        "initial_sync": intake.and_then(|intake| intake.initial_sync).map(|sync| json!({
            "state": if sync.is_in_progress(now) { "in_progress" } else { "done" },
            "started_at": time::format(sync.started_at),
            "last_at": time::format(sync.last_at),
            "users": sync.users,
            "groups": sync.groups,
            "memberships": sync.memberships,
        })),
        "scim": scim.as_ref().map(describe_scim),
    })
}

fn describe_scim(counts: &ScimCounts) -> Value {
    let request = |request: &LastScimRequest| {
        json!({
            "at": time::format(request.at),
            "method": request.method,
            "status": request.status,
            "user_agent": request.user_agent,
        })
    };
    let ScimCounts { reads, writes, unchanged, refused, failed, last, last_refused } = counts;
    json!({
        "reads": reads,
        "writes": writes,
        "unchanged": unchanged,
        "refused": refused,
        "failed": failed,
        "last_request": last.as_ref().map(request),
        "last_refused": last_refused.as_ref().map(request),
    })
}

fn windows(counts: Counts) -> Map<String, Value> {
    WINDOW_NAMES
        .iter()
        .zip(counts)
        .map(|(name, count)| ((*name).to_owned(), count.into()))
        .collect()
}

/// Returns events per second, rounded to two digits.
fn rate(count: u64, seconds: u32) -> f64 {
    (count as f64 / f64::from(seconds) * 100.0).round() / 100.0
}

fn delays(delays: Option<Delays>) -> Value {
    delays.map_or(
        Value::Null,
        |Delays { p50, p99, max }| json!({ "p50": p50, "p99": p99, "max": max }),
    )
}
