//! The conversation: one simple query, and what comes back of it.
//!
//! Every statement's results are printed, in their order and as they arrive, but for a table,
//! whose columns' widths the last row may change: it is spooled.

use std::{io::Write as _, path::Path, sync::OnceLock};

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::{
    backend::{CommandCompleteBody, Message, RowDescriptionBody},
    frontend,
};

use super::{
    Job, complaint,
    connection::{CancelKey, Connection},
    copy,
    login::{self, Login},
    spool::{Spool, fields},
};
use crate::{
    failure::Failure,
    output::{
        Format, Output, Text, json,
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
    let login = Login {
        user: &job.user,
        database: &job.database,
        password: &job.password,
        settings: &[("application_name", "borealisctl")],
    };
    let notice = |body: &_| complaint::notice(body).map(|text| output.notice(&text));
    let version = login::log_in(&mut connection, &login, key, notice)
        .await
        .map_err(|trouble| trouble.failure("", job.access))?;
    let settings = settings(version);
    connection
        .send(|out| {
            // In one go, so that the settings cost no round trip.
            for text in settings.into_iter().chain([job.sql.as_str()]) {
                frontend::query(text, out)?;
            }
            Ok(())
        })
        .await?;
    if settings.is_some() {
        skip(&mut connection, job).await?;
    }
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

/// Has the server look, while it executes a statement, whether this end is still there:
/// SIGKILL, or a machine that is switched off, leaves no time for a cancel request.
/// PostgreSQL can do that from version 14 on.
fn settings(version: u32) -> Option<&'static str> {
    (version >= 14).then_some("set client_connection_check_interval = '1s'")
}

/// Passes over what comes back of the settings. A server that can't have them goes without.
async fn skip(connection: &mut Connection, job: &Job) -> Result<(), Failure> {
    loop {
        match connection.incoming.next().await? {
            Message::ReadyForQuery(_) => return Ok(()),
            Message::ErrorResponse(body) => {
                let failure = complaint::failure(body.fields(), "", job.access)?;
                // A fatal one, such as the end of the session, is followed by no more.
                if failure.message.ends_with("(SQLSTATE 57P01)") {
                    return Err(failure);
                }
            }
            _ => {}
        }
    }
}

/// What has come back so far.
struct Collector<'a> {
    job: &'a Job,
    output: &'a Output,
    stdout: Results,
    current: Option<Sink>,
    shown: Shown,
    failure: Option<Failure>,
}

/// What standard output has so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// No statement has ended yet.
    Nothing,
    /// Statements have ended, and none had anything to show in this format.
    NoRows,
    /// The data of a `COPY … TO STDOUT`, whose tag would be taken for a part of it.
    Copied,
    /// A result set.
    Results,
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
            current: None,
            shown: Shown::Nothing,
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
            Message::CopyOutResponse(_) => self.shown = Shown::Copied,
            Message::CopyData(body) => self
                .stdout
                .write_all(&self.output.as_data(body.data()))
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
        if self.shown == Shown::Results {
            self.output
                .text(&Text::lines(self.output.between_results()))?;
        }
        self.shown = Shown::Results;
        self.current = Some(if self.output.format == Format::Table {
            Sink::Spool(Spool::new(columns))
        } else {
            let out = self.output.results()?;
            let mut writer = self.output.result_set(&columns, Widths::new(&columns), out);
            writer.begin().map_err(|error| Failure::output(&error))?;
            Sink::Stdout(writer)
        });
        Ok(())
    }

    fn complete(&mut self, body: &CommandCompleteBody) -> Result<(), Failure> {
        match self.current.take() {
            Some(Sink::Spool(spool)) => spool.print(self.output, &mut self.stdout),
            Some(Sink::Stdout(mut writer)) => writer.end().map_err(|error| Failure::output(&error)),
            None => self.tag(body.tag().unwrap_or_default()),
        }
    }

    /// A statement without rows: what it did, to a person.
    fn tag(&mut self, tag: &str) -> Result<(), Failure> {
        if self.shown == Shown::Copied {
            return Ok(());
        }
        if self.shown == Shown::Nothing {
            self.shown = Shown::NoRows;
        }
        match self.output.format {
            Format::Table => self.output.text(&Text::lines(tag).then("\n")),
            _ => Ok(()),
        }
    }

    /// Hands on what was printed, before a wait.
    fn flush(&mut self) -> Result<(), Failure> {
        match &mut self.current {
            Some(Sink::Stdout(writer)) => writer.flush(),
            _ => self.stdout.flush(),
        }
        .map_err(|error| Failure::output(&error))
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.flush()?;
        match self.failure {
            Some(failure) => Err(failure),
            None if self.shown == Shown::NoRows => {
                self.output.text(&Text::lines(self.output.without_rows()))
            }
            None => Ok(()),
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
