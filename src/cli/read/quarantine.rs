//! `rollcall quarantine`

use clap::Args;
use rollcall_projections::Reason;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::Failure;
use super::super::moment::seq_or_moment;
use super::super::table::{Column, harmless};
use super::listing::{Output, Query, Resource};
use super::names::Names;
use super::objects::parse;
use super::source::SourceArgs;

/// List records that could not be used, or were used with a remark, with the reason.
///
/// They are kept in the log, and `rollcall prove SEQ` shows one in full. A record is used as soon as
/// a version of Rollcall runs that understands it: then `--resolved` lists it, and it stays out of
/// `/events` and the feed of changes. Needs a key with the scope `audit`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  rollcall quarantine
  rollcall quarantine --reason overtaken --json
  rollcall quarantine --resolved
  rollcall quarantine --user ana@example.com --data ./rollcall-data")]
pub(in super::super) struct QuarantineArgs {
    /// Only about this user, by id or by an email the user ever had
    #[arg(long, value_name = "ID|EMAIL")]
    user: Option<String>,
    /// Only about this directory itself, by id or name
    #[arg(long, value_name = "ID|NAME")]
    directory: Option<String>,
    /// Only about a user with this email, also where a record names no id
    #[arg(long)]
    email: Option<String>,
    /// Only with this reason, such as unknown_type
    #[arg(long, value_name = "WORD")]
    reason: Option<String>,
    /// List instead those that could not be used when they were recorded, and are used now
    #[arg(long)]
    resolved: bool,
    /// Print at most N
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Use only what was known by then: a record's number or a moment [default: everything]
    #[arg(long, value_name = "SEQ|T", value_parser = seq_or_moment, help_heading = "Moment")]
    known_at: Option<String>,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    source: SourceArgs,
}

const QUARANTINE: Resource = Resource {
    path: "/rollcall/v1/quarantine",
    nouns: ["record", "records"],
    scope: "",
    columns: &[
        Column::whole("record"),
        Column::whole("recorded (UTC)"),
        Column::whole("reason"),
        Column::new("event"),
        Column::key("id"),
        Column::new("detail"),
    ],
    row,
};

#[derive(Deserialize)]
struct ApiEntry {
    seq: u64,
    event_id: Option<String>,
    event: Option<String>,
    reason: String,
    detail: String,
    recorded_at: Option<String>,
}

fn row(object: &RawValue) -> Vec<String> {
    let Ok(entry) = parse::<ApiEntry>(object) else { return Vec::new() };
    vec![
        entry.seq.to_string(),
        entry.recorded_at.unwrap_or_default(),
        entry.reason,
        entry.event.unwrap_or_default(),
        entry.event_id.unwrap_or_default(),
        entry.detail,
    ]
}

impl QuarantineArgs {
    pub(in super::super) fn run(self) -> Result<(), Failure> {
        let QuarantineArgs { user, directory, email, reason, resolved, limit, .. } = self;
        let QuarantineArgs { known_at, output, source, .. } = self;
        if let Some(unknown) = reason.as_deref().filter(|reason| !Reason::CODES.contains(reason)) {
            let codes = Reason::CODES.join(", ");
            let said = format!("--reason: `{unknown}` is not a reason; the reasons are {codes}");
            return Err(Failure::Caller(harmless(&said)));
        }
        let names = Names { user, directory, ever: true, ..Names::default() };
        source.ask(move |client| {
            let moment = Query::moment(None, known_at);
            let resolved = resolved.then(|| "true".to_owned());
            let filters = names.resolve(client, &moment)?.query();
            let filters = filters.with("email", email).with("resolved", resolved);
            let list = QUARANTINE.list(filters, moment, limit);
            let is_wanted = |object: &RawValue| {
                reason.is_none()
                    || parse::<ApiEntry>(object).ok().map(|entry| entry.reason) == reason
            };
            QUARANTINE.print_kept(&list, client, &output, is_wanted)
        })
    }
}
