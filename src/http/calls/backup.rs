//! `POST /rollcall/v1/backup`: a consistent copy of the log, as one stream.

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName};
use actix_web::{HttpRequest, HttpResponse, web};

use crate::archive::{BackupExtent, write_backup};
use crate::http::wire::answer::{Code, Problem, respond};
use crate::http::wire::api::{
    Access, AnswerHeader, Bound, Gives, Logged, Operation, Parameter, Takes,
};
use crate::http::wire::question::Question;
use crate::http::wire::state::State;
use crate::http::wire::stream::BodyWriter;
use crate::http::wire::threads;
use crate::keys::Scope;

const MEDIA_TYPE: &str = "application/x-tar";

const BACKUP_RECORDS: AnswerHeader = AnswerHeader {
    name: "Rollcall-Backup-Records",
    about: "The number of records in the backup, lost ones included.",
    pattern: "^[0-9]+$",
};

const AFTER_SEQ: Parameter = Parameter::new(
    "after_seq",
    Takes::Seq,
    "7",
    "The last record that is there already from a backup that was cut off: no segment has it or one \
        before it, and `backup.json` lists only the files that are sent",
);

/// `POST /rollcall/v1/backup`
pub(crate) const BACKUP: Operation = Operation {
    path: "/rollcall/v1/backup",
    name: "makeBackup",
    about: "Every record that is durable now, as a tar file of archive segments, the public keys and \
        `backup.json`, which is the last file: without it the answer was cut off. Events are \
        recorded meanwhile. Two may be made at once.",
    parameters: &[AFTER_SEQ],
    access: Access::keyed(Scope::Operate, Bound::Refused),
    needs_also: Some(Scope::Audit),
    logged: Logged::Always,
    gives: Gives::File { media_type: MEDIA_TYPE },
    answer_headers: &[BACKUP_RECORDS],
    problems: &[Code::LogEmpty, Code::TooManyRequests],
    ..Operation::POST
};

/// Answers [`BACKUP`].
pub(crate) async fn backup(
    request: HttpRequest,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let mut question = Question::of(&request, &state, &BACKUP)?;
    let (operator, seq) = (question.operator.clone(), question.engine.head());
    let after = question.take_seq("after_seq").unwrap_or(0);
    question.need_recorded("after_seq", after, seq);
    let engine = question.finish()?;
    let keys = state.keys.clone();
    if seq == 0 {
        return Err(Code::LogEmpty.into());
    }
    let turn = state.backups.begin()?;
    let (mut writer, body) = BodyWriter::new();
    threads::begin(move || {
        let by = operator.key().name();
        let goes_on = || !engine.is_shutting_down() && keys.hold(&operator);
        tracing::info!(after, seq, by, "a backup was begun");
        match write_backup(&mut writer, &engine, BackupExtent { after, seq }, &goes_on) {
            Ok(()) => tracing::info!(seq, by, "a backup was made"),
            Err(error) => {
                tracing::warn!(seq, by, %error, "a backup was broken off");
                writer.break_off();
            }
        }
        drop(turn);
    });
    let mut response = respond(StatusCode::OK);
    response.insert_header((CONTENT_TYPE, MEDIA_TYPE));
    response.insert_header((HeaderName::from_static("rollcall-backup-records"), seq.to_string()));
    Ok(response.body(body))
}
