//! The connection to PostgreSQL: every statement goes through it, within a time.

use std::collections::HashMap;
use std::error::Error as _;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};

use super::rows::{RowSet, Value};
use super::tables::Table;
use super::tls::connector;
use super::url::PostgresUrl;
use crate::log::ReadError;

/// The longest that a connection, one statement about some rows, and one about whole tables may
/// take.
const CONNECT_WITHIN: Duration = Duration::from_secs(12);
const STATEMENT_WITHIN: Duration = Duration::from_secs(60);
const WHOLE_WITHIN: Duration = Duration::from_secs(2 * 3600);

/// The settings of each connection. Rows are found by their keys: without statistics the planner
/// would read whole tables. That makes the one row of `position` seem dear to read, and the server
/// would compile machine code for each statement about it.
const SETTINGS: &str = "SET client_min_messages = warning; SET timezone = 'UTC'; \
    SET datestyle = 'ISO, YMD'; SET statement_timeout = 0; SET lock_timeout = '10s'; \
    SET idle_in_transaction_session_timeout = '120s'; SET enable_seqscan = off; \
    SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off";

/// The reason why the tables cannot be kept.
#[derive(Debug)]
pub(super) enum SinkFault {
    /// The database does not answer, or is not ready: it may go away by itself.
    Passing(String),
    /// The database answers, and refuses until something is changed there or in the URL. It is
    /// tried again, and a rebuild fails.
    Refusing(String),
    /// The tables are another's, or were changed: an operator has to do something.
    Lasting(String),
}

impl From<tokio_postgres::Error> for SinkFault {
    fn from(error: tokio_postgres::Error) -> SinkFault {
        let message = described(&error);
        if is_refusal(&error) { SinkFault::Refusing(message) } else { SinkFault::Passing(message) }
    }
}

impl From<ReadError> for SinkFault {
    fn from(error: ReadError) -> SinkFault {
        SinkFault::Passing(format!("the log cannot be read: {error}"))
    }
}

impl SinkFault {
    pub(super) fn message(self) -> String {
        match self {
            SinkFault::Passing(message)
            | SinkFault::Refusing(message)
            | SinkFault::Lasting(message) => message,
        }
    }

    /// Returns the message unless the fault may go away by itself.
    pub(super) fn refusal(&self) -> Option<&str> {
        match self {
            SinkFault::Passing(_) => None,
            SinkFault::Refusing(message) | SinkFault::Lasting(message) => Some(message),
        }
    }
}

/// Returns true if the server has answered, and would answer the same the next time.
fn is_refusal(error: &tokio_postgres::Error) -> bool {
    if let Some(said) = error.as_db_error() {
        return is_refused(said.code().code());
    }
    // TLS reports a certificate that it does not accept as invalid data.
    let is_unreached = |cause: &io::Error| {
        !matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput)
    };
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    let is_away = causes.any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is_unreached));
    !is_away && !error.is_closed()
}

/// Returns true for an SQLSTATE that the same statement gives again, whenever it is tried.
fn is_refused(code: &str) -> bool {
    // Lost connections, conflicts of transactions, missing resources and locks, a server that
    // starts or stops, and its own failures.
    let passing = ["08", "25P", "40", "53", "55006", "55P", "57", "58", "XX"];
    !passing.iter().any(|start| code.starts_with(start))
}

/// Describes an error without values of rows: those are in the details that PostgreSQL adds, and
/// may be in messages about data and in those that triggers make.
fn described(error: &tokio_postgres::Error) -> String {
    let Some(said) = error.as_db_error() else {
        let causes = std::iter::successors(error.source(), |&cause| cause.source());
        let causes = causes.map(|cause| format!(": {cause}"));
        return format!("PostgreSQL: {error}{}", causes.collect::<String>());
    };
    let code = said.code().code();
    if *said.code() == SqlState::UNTRANSLATABLE_CHARACTER {
        return format!(
            "PostgreSQL cannot store a character ({code}): use a database of the encoding UTF8"
        );
    }
    if code.starts_with("22") || code.starts_with("P0") {
        let table = said.table().unwrap_or("a table");
        return format!(
            "PostgreSQL refused rows of {table} ({code}): its own log has the message, which may \
             hold data"
        );
    }
    format!("PostgreSQL: {} ({code}){}", said.message(), advice(said.code()))
}

/// Returns what to do about an answer, to add to its message.
fn advice(code: &SqlState) -> &'static str {
    match *code {
        SqlState::INSUFFICIENT_PRIVILEGE => {
            "; grant the role of the URL what docs/sink.md lists, or give it the tables"
        }
        SqlState::INVALID_CATALOG_NAME => "; create the database, or name another in the URL",
        SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
            "; correct user and password in the URL, or the role and pg_hba.conf of the server"
        }
        SqlState::READ_ONLY_SQL_TRANSACTION => "; name the server that takes writes in the URL",
        SqlState::DEPENDENT_OBJECTS_STILL_EXIST | SqlState::FEATURE_NOT_SUPPORTED => {
            "; drop what depends on the table, and make it again after the rebuild"
        }
        SqlState::NOT_NULL_VIOLATION => "; give columns of your own a default, or drop them",
        SqlState::FOREIGN_KEY_VIOLATION => {
            "; foreign keys to these tables need ON DELETE CASCADE or ON DELETE SET NULL"
        }
        SqlState::LOCK_NOT_AVAILABLE => {
            "; end the transaction that locks the tables, or wait for the rebuild of another server"
        }
        _ => "",
    }
}

/// A connection.
pub(super) struct Database {
    client: Client,
    connection: JoinHandle<()>,
    statements: HashMap<String, Statement>,
}

impl Drop for Database {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Database {
    /// Connects.
    ///
    /// # Errors
    /// If the server cannot be reached or refuses the connection.
    pub(super) async fn connect(url: &PostgresUrl) -> Result<Database, SinkFault> {
        // The connector of TLS refuses a socket, which has no host name.
        let (client, connection) = if url.config.get_ssl_mode() == SslMode::Disable {
            let connecting = url.config.connect(NoTls);
            let (client, connection) = within(CONNECT_WITHIN, connecting).await?;
            (client, tokio::spawn(served(connection)))
        } else {
            let tls = connector(url).map_err(SinkFault::Refusing)?;
            let connecting = url.config.connect(tls);
            let (client, connection) = within(CONNECT_WITHIN, connecting).await?;
            (client, tokio::spawn(served(connection)))
        };
        let database = Database { client, connection, statements: HashMap::new() };
        database.run(SETTINGS).await?;
        Ok(database)
    }

    /// Returns true once the connection has ended.
    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Asks if the connection goes on after an error: its last message comes before its end.
    pub(super) async fn is_alive(&self) -> bool {
        self.run("SELECT 1").await.is_ok()
    }

    /// Runs statements without parameters.
    pub(super) async fn run(&self, statements: &str) -> Result<(), SinkFault> {
        within(STATEMENT_WITHIN, self.client.batch_execute(statements)).await
    }

    /// Runs statements over whole tables.
    pub(super) async fn run_whole(&self, statements: &str) -> Result<(), SinkFault> {
        within(WHOLE_WITHIN, self.client.batch_execute(statements)).await
    }

    /// Runs statements in a transaction. With an error nothing is changed.
    pub(super) async fn run_together(&self, statements: &str) -> Result<(), SinkFault> {
        self.run("BEGIN").await?;
        let outcome = self.run_whole(statements).await;
        self.end_transaction(outcome).await
    }

    /// Commits the transaction if all in it was done, and rolls it back otherwise. Returns the
    /// outcome, or the error of the commit.
    pub(super) async fn end_transaction<T>(
        &self,
        outcome: Result<T, SinkFault>,
    ) -> Result<T, SinkFault> {
        match outcome {
            Ok(done) => {
                self.run("COMMIT").await?;
                Ok(done)
            }
            Err(fault) => {
                let _ = self.run("ROLLBACK").await;
                Err(fault)
            }
        }
    }

    /// Asks for rows.
    pub(super) async fn query(
        &self,
        statement: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, SinkFault> {
        within(STATEMENT_WITHIN, self.client.query(statement, parameters)).await
    }

    /// Runs a statement that is prepared once. Returns the number of rows that it changed.
    pub(super) async fn execute(
        &mut self,
        statement: String,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, SinkFault> {
        let prepared = match self.statements.get(&statement) {
            Some(prepared) => prepared.clone(),
            None => {
                let preparing = self.client.prepare(&statement);
                let prepared = within(STATEMENT_WITHIN, preparing).await?;
                self.statements.insert(statement, prepared.clone());
                prepared
            }
        };
        within(STATEMENT_WITHIN, self.client.execute(&prepared, parameters)).await
    }

    /// Deletes and sets rows by their keys.
    pub(super) async fn apply(&mut self, schema: &str, rows: &RowSet) -> Result<(), SinkFault> {
        if rows.gone_count() > 0 {
            self.execute(rows.table.delete(schema), &parameters(&rows.gone)).await?;
        }
        if rows.set_count() > 0 {
            self.execute(rows.table.upsert(schema), &parameters(&rows.set)).await?;
        }
        Ok(())
    }

    /// Adds rows, in the text form of COPY.
    pub(super) async fn copy(
        &self,
        schema: &str,
        table: &Table,
        rows: Vec<u8>,
    ) -> Result<(), SinkFault> {
        let copy = table.copy(schema);
        let copying = async {
            let mut sink = pin!(self.client.copy_in(&copy).await?);
            sink.send(Bytes::from(rows)).await?;
            sink.finish().await
        };
        within(STATEMENT_WITHIN, copying).await.map(drop)
    }
}

/// Serves a connection until it ends, which shows in the next statement.
async fn served<T>(connection: impl Future<Output = T>) {
    drop(connection.await);
}

fn parameters(lists: &[Vec<Value>]) -> Vec<&(dyn ToSql + Sync)> {
    lists.iter().map(|list| list as &(dyn ToSql + Sync)).collect()
}

/// Waits for an answer of the server, but no longer than `time`.
async fn within<T>(
    time: Duration,
    answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, SinkFault> {
    match tokio::time::timeout(time, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            Err(SinkFault::Passing(format!("PostgreSQL has not answered for {} s", time.as_secs())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_stays_the_same_is_a_refusal() {
        for code in ["28P01", "28000", "3D000", "42501", "42703", "25006", "2BP01", "0A000"] {
            assert!(is_refused(code), "{code}");
        }
        for code in ["08006", "40P01", "53300", "53100", "55P03", "57P01", "57P03", "58030"] {
            assert!(!is_refused(code), "{code}");
        }
    }
}
