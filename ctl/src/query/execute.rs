//! The conversation: one simple query, and what comes back of it.
//!
//! Of several statements only the last result set is printed, and which is the last shows
//! only when the next one hasn't come, so result sets are spooled. A single statement's rows
//! are printed as they arrive, but for a table, whose columns' widths the last row may change.

use std::{io::Write as _, path::Path, sync::OnceLock};

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::{
    backend::{CommandCompleteBody, Message, RowDescriptionBody},
    frontend,
};

use super::{
    Job, complaint,
    connection::{CancelKey, Connection},
    copy, login,
    spool::{Spool, fields},
};
use crate::{
    args::Format,
    failure::Failure,
    output::{
        Output, json,
        result_set::{Column, Results, Widths, Writer},
    },
};

/// Executes a job and prints its results.
pub(super) async fn execute(
    job: &Job,
    output: &Output,
    key: &OnceLock<CancelKey>,
) -> Result<(), Failure> {
    let mut connection = Connection::open(Path::new(&job.socket)).await?;
    login::log_in(&mut connection, job, output, key).await?;
    connection
        .send(|out| frontend::query(&job.sql, out))
        .await?;
    let mut results = Collector::new(job, output)?;
    loop {
        let message = match connection.incoming.buffered()? {
            Some(message) => message,
            None => {
                results.flush()?;
                match connection.incoming.next().await {
                    Ok(message) => message,
                    // A fatal error closes the connection, and says more than its end.
                    Err(lost) => return Err(results.failure.unwrap_or(lost)),
                }
            }
        };
        let message = match message {
            Message::CopyInResponse(_) => {
                match copy::send(&mut connection, job.copy_from, output).await? {
                    Some(message) => message,
                    None => continue,
                }
            }
            other => other,
        };
        if let Message::ReadyForQuery(_) = message {
            break;
        }
        results.take(message)?;
    }
    results.finish()?;
    // Politeness: the session would see the end of the stream anyway.
    let _ = connection
        .send(|out| {
            frontend::terminate(out);
            Ok(())
        })
        .await;
    Ok(())
}

/// What has come back so far.
struct Collector<'a> {
    job: &'a Job,
    output: &'a Output,
    stdout: Results,
    streams: bool,
    current: Option<Sink>,
    last: Option<Spool>,
    printed: bool,
    tag: Option<String>,
    failure: Option<Failure>,
}

/// Where the rows of the current result set go.
enum Sink {
    Stdout(Writer<Results>),
    Spool(Spool),
}

// === impl Collector ===

impl<'a> Collector<'a> {
    fn new(job: &'a Job, output: &'a Output) -> Result<Self, Failure> {
        Ok(Self {
            job,
            output,
            stdout: output.results()?,
            streams: output.format != Format::Table && is_one_statement(&job.sql),
            current: None,
            last: None,
            printed: false,
            tag: None,
            failure: None,
        })
    }

    fn take(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::RowDescription(body) => self.begin(columns(&body)?)?,
            Message::DataRow(body) => match &mut self.current {
                Some(Sink::Spool(spool)) => spool.push(body.buffer())?,
                Some(Sink::Stdout(writer)) => writer
                    .row(&fields(body.buffer())?)
                    .map_err(|error| Failure::output(&error))?,
                None => {}
            },
            Message::CommandComplete(body) => self.complete(&body)?,
            Message::CopyOutResponse(_) => self.printed = true,
            Message::CopyData(body) => self
                .stdout
                .write_all(body.data())
                .map_err(|error| Failure::output(&error))?,
            Message::CopyDone => {
                self.stdout
                    .flush()
                    .map_err(|error| Failure::output(&error))?;
            }
            Message::NoticeResponse(body) => {
                self.flush()?;
                self.output.notice(&complaint::notice(&body)?);
            }
            Message::ErrorResponse(body) => {
                self.current = None;
                self.failure = Some(complaint::failure(
                    body.fields(),
                    &self.job.sql,
                    self.job.access,
                )?);
            }
            // Nothing to show: an empty query, parameters, notifications.
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, columns: Vec<Column>) -> Result<(), Failure> {
        // The one before wasn't the last.
        self.last = None;
        self.current = Some(if self.streams {
            let out = self.output.results()?;
            let mut writer = self.output.result_set(&columns, Widths::new(&columns), out);
            writer.begin().map_err(|error| Failure::output(&error))?;
            self.printed = true;
            Sink::Stdout(writer)
        } else {
            Sink::Spool(Spool::new(columns))
        });
        Ok(())
    }

    fn complete(&mut self, body: &CommandCompleteBody) -> Result<(), Failure> {
        match self.current.take() {
            Some(Sink::Spool(spool)) => self.last = Some(spool),
            Some(Sink::Stdout(mut writer)) => {
                writer.end().map_err(|error| Failure::output(&error))?;
            }
            None => self.tag = body.tag().ok().map(str::to_owned),
        }
        Ok(())
    }

    /// Hands on what was printed, before a wait.
    fn flush(&mut self) -> Result<(), Failure> {
        match &mut self.current {
            Some(Sink::Stdout(writer)) => writer.flush(),
            _ => self.stdout.flush(),
        }
        .map_err(|error| Failure::output(&error))
    }

    /// Prints what had to wait until all was done.
    fn finish(mut self) -> Result<(), Failure> {
        self.flush()?;
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        match (self.last, self.tag) {
            (Some(spool), _) => spool.print(self.output, self.stdout),
            (None, Some(tag)) if !self.printed => self.output.text(&self.output.without_rows(&tag)),
            _ => Ok(()),
        }
    }
}

fn columns(body: &RowDescriptionBody) -> Result<Vec<Column>, Failure> {
    body.fields()
        .map(|field| {
            Ok(Column {
                name: field.name().to_owned(),
                kind: json::Kind::of_type(field.type_oid()),
            })
        })
        .collect()
        .map_err(|error| Failure::failed(format!("the database's columns can't be read: {error}")))
}

/// Whether `sql` is certainly one statement: without a semicolon, but for those at its end.
fn is_one_statement(sql: &str) -> bool {
    let end = |c: char| c == ';' || c.is_whitespace();
    !sql.trim_end_matches(end).contains(';')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_statement_is_one_for_certain() {
        assert!(is_one_statement("select 1"));
        assert!(is_one_statement("select 1 ; \n;"));
        assert!(!is_one_statement("select 1; select 2"));
        // It may be one, but only PostgreSQL's parser knows.
        assert!(!is_one_statement("select ';'"));
    }
}
