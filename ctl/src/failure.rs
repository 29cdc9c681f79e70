//! Why a command didn't do what was asked: the one line, its hint, the exit code.
//! Printing it is [`crate::output`]'s.

use std::{fmt, io};

use borealis_proto::v1;
use prost::Message as _;

use crate::{ports, service};

/// What the process ends with, by the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The operation failed.
    Failed,
    /// The request makes no sense.
    Usage,
    /// There is no daemon to ask.
    NoDaemon,
    /// Not logged in to Heroku, or the token was refused.
    Login,
    /// No such app, add-on or session, or more than one fits.
    NotFound,
    /// The add-on can't be used now.
    Unavailable,
    /// There is no such command to run.
    NoCommand,
    /// The command to run is no program, or may not be run.
    NotExecutable,
    /// The user, or whoever sent the signal of this number, ended it.
    Interrupted(u8),
    /// Whoever read the results has gone away (`… | head`): nobody is left to tell.
    ReaderGone,
}

/// Why a command didn't do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What the process ends with.
    pub(crate) exit: Exit,
    /// The daemon's machine-readable word for it; empty where it isn't the daemon's.
    pub(crate) code: String,
    /// One sentence: what failed, and for what.
    pub(crate) message: String,
    /// Further lines of the database, printed below the sentence.
    pub(crate) details: Vec<String>,
    /// What to do next.
    pub(crate) hint: Option<String>,
}

// === impl Exit ===

impl Exit {
    /// The process's exit code.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoDaemon => 3,
            Self::Login => 4,
            Self::NotFound => 5,
            Self::Unavailable => 6,
            Self::NotExecutable => 126,
            Self::NoCommand => 127,
            Self::Interrupted(signal) => 128_u8.saturating_add(signal),
            Self::ReaderGone => 0,
        }
    }

    fn of_class(class: v1::FailureClass) -> Self {
        match class {
            v1::FailureClass::Unspecified | v1::FailureClass::Operation => Self::Failed,
            v1::FailureClass::Usage => Self::Usage,
            v1::FailureClass::Login => Self::Login,
            v1::FailureClass::NotFound => Self::NotFound,
            v1::FailureClass::Unavailable => Self::Unavailable,
        }
    }

    /// What a status without details of ours comes closest to.
    fn of_code(code: tonic::Code) -> Self {
        match code {
            tonic::Code::InvalidArgument => Self::Usage,
            tonic::Code::Unauthenticated => Self::Login,
            tonic::Code::NotFound => Self::NotFound,
            _ => Self::Failed,
        }
    }
}

// === impl Failure ===

impl Failure {
    /// A failure without a hint.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            code: String::new(),
            message: message.into(),
            details: Vec::new(),
            hint: None,
        }
    }

    /// The operation failed.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// The request makes no sense.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds what to do next.
    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A signal ended the command; there is nothing to say about it.
    pub(crate) fn interrupted(signal: u8) -> Self {
        Self::new(Exit::Interrupted(signal), "")
    }

    /// Results could not be written.
    pub(crate) fn output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::reader_gone()
        } else {
            Self::failed(format!("can't write the results: {}", reason(error)))
        }
    }

    /// Nobody reads the results any more.
    pub(crate) fn reader_gone() -> Self {
        Self::new(Exit::ReaderGone, "")
    }

    /// What the daemon answered instead of a result.
    pub(crate) fn from_status(status: &tonic::Status) -> Self {
        if let Some(told) = told_by_daemon(status) {
            return Self::from(told);
        }
        // Only errors of the transport have a source: the daemon's own never do.
        if std::error::Error::source(status).is_some() {
            return Self::connection_lost();
        }
        match status.code() {
            tonic::Code::Unimplemented => Self::failed(
                "the running borealisd doesn't know this command: its version differs from borealisctl's",
            )
            .with_hint("restart borealisd; `borealisctl status` shows its version"),
            code => {
                let message = one_line(status.message());
                Self::new(
                    Exit::of_code(code),
                    if message.is_empty() {
                        format!("borealisd gave no reason ({})", code.description().to_lowercase())
                    } else {
                        message
                    },
                )
            }
        }
    }

    /// The daemon went away while it was asked.
    pub(crate) fn connection_lost() -> Self {
        Self::new(
            Exit::NoDaemon,
            "the connection to borealisd was lost before it answered",
        )
        .with_hint(service::log_hint())
    }
}

impl From<v1::Failure> for Failure {
    fn from(told: v1::Failure) -> Self {
        let class = told.class();
        let (mut message, hint) = (one_line(&told.message), one_line(&told.hint));
        ports::complete(&mut message);
        Self {
            exit: Exit::of_class(class),
            message: if message.is_empty() {
                told.code.clone()
            } else {
                message
            },
            code: told.code,
            details: Vec::new(),
            hint: (!hint.is_empty()).then_some(hint),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// The system's reason without Rust's `(os error 2)`, which means nothing to a user.
pub(crate) fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let bare = text.split(" (os error").next().unwrap_or(&text).trim();
    let mut chars = bare.chars();
    match chars.next() {
        // "No such file …" in the middle of a sentence; an acronym stays as it is.
        Some(first) if chars.clone().next().is_some_and(char::is_lowercase) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => bare.to_owned(),
    }
}

/// Joins lines, since an error is one line.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn told_by_daemon(status: &tonic::Status) -> Option<v1::Failure> {
    const TYPE: &str = "/borealis.control.v1.Failure";
    tonic_types::pb::Status::decode(status.details())
        .ok()?
        .details
        .iter()
        .find(|detail| detail.type_url.ends_with(TYPE))
        .and_then(|detail| v1::Failure::decode(detail.value.as_slice()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: tonic::Code, failure: Option<v1::Failure>) -> tonic::Status {
        let details = failure.map_or_else(Vec::new, |failure| {
            vec![prost_types::Any {
                type_url: "type.googleapis.com/borealis.control.v1.Failure".into(),
                value: failure.encode_to_vec(),
            }]
        });
        let status = tonic_types::pb::Status {
            code: code as i32,
            message: "said by gRPC".into(),
            details,
        };
        tonic::Status::with_details(code, "said by gRPC", status.encode_to_vec().into())
    }

    #[test]
    fn the_class_of_the_details_decides_over_the_code() {
        for (class, code) in [
            (v1::FailureClass::Operation, 1),
            (v1::FailureClass::Usage, 2),
            (v1::FailureClass::Login, 4),
            (v1::FailureClass::NotFound, 5),
            (v1::FailureClass::Unavailable, 6),
            (v1::FailureClass::Unspecified, 1),
        ] {
            let failure = Failure::from_status(&status(
                tonic::Code::Internal,
                Some(v1::Failure {
                    code: "x".into(),
                    class: class.into(),
                    message: "no\nsuch app".into(),
                    hint: String::new(),
                }),
            ));
            assert_eq!(failure.exit.code(), code, "{class:?}");
            assert_eq!(failure.message, "no such app");
            assert_eq!(failure.hint, None);
        }
    }

    #[test]
    fn without_details_the_code_decides() {
        for (code, exit) in [
            (tonic::Code::InvalidArgument, 2),
            (tonic::Code::Unauthenticated, 4),
            (tonic::Code::NotFound, 5),
            (tonic::Code::Internal, 1),
            (tonic::Code::Unimplemented, 1),
        ] {
            assert_eq!(
                Failure::from_status(&status(code, None)).exit.code(),
                exit,
                "{code:?}"
            );
        }
        let silent = Failure::from_status(&tonic::Status::new(tonic::Code::Aborted, ""));
        assert_eq!(
            silent.message,
            "borealisd gave no reason (the operation was aborted)"
        );
    }

    #[test]
    fn reasons_lose_what_is_only_for_programmers() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(reason(&error), "no such file or directory");
    }
}
