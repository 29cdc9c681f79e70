//! Between the API's messages and the daemon's values.

use std::time::Duration;

use borealis_proto::v1;
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use prost_types::Any;
use secrecy::ExposeSecret as _;
use tonic::{Code, Status};

use crate::{
    model::{Access, Cause, Class, Expiry, Mode, Role, SessionName, Target, text},
    platform::clock,
    proxy::Counters,
    session::machine::Phase,
    supervisor::{Choices, Lifetime, OpenRequest, Selection, SessionSnapshot},
};

/// The host that clients are told.
const HOST: &str = "127.0.0.1";

/// All that RFC 3986 doesn't call unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A cause as a gRPC status, with the failure as its details.
pub(super) fn status(cause: &Cause) -> Status {
    let failure = failure(cause);
    let code = match cause.kind().class {
        Class::Usage => Code::InvalidArgument,
        Class::Login => Code::Unauthenticated,
        Class::NotFound => Code::NotFound,
        Class::Unavailable => Code::FailedPrecondition,
        Class::Operation => match cause {
            Cause::NameTaken { .. } => Code::AlreadyExists,
            Cause::DaemonStopping => Code::Unavailable,
            _ => Code::Aborted,
        },
    };
    let details = tonic_types::pb::Status {
        code: code as i32,
        message: failure.message.clone(),
        details: vec![Any {
            type_url: "type.googleapis.com/borealis.control.v1.Failure".into(),
            value: prost::Message::encode_to_vec(&failure),
        }],
    };
    let details = prost::Message::encode_to_vec(&details);
    Status::with_details(code, failure.message, details.into())
}

/// The same for a request that is answered with it, which the log tells too.
pub(super) fn refused(cause: Cause) -> Status {
    tracing::info!(%cause, "a request was refused");
    status(&cause)
}

/// A cause as the API shows it.
pub(super) fn failure(cause: &Cause) -> v1::Failure {
    let (kind, words) = (cause.kind(), cause.words());
    v1::Failure {
        code: kind.code.into(),
        class: failure_class(kind.class).into(),
        message: words.sentence,
        hint: words.hint,
    }
}

/// What a class of causes is called.
pub(super) fn failure_class(class: Class) -> v1::FailureClass {
    match class {
        Class::Operation => v1::FailureClass::Operation,
        Class::Usage => v1::FailureClass::Usage,
        Class::Login => v1::FailureClass::Login,
        Class::NotFound => v1::FailureClass::NotFound,
        Class::Unavailable => v1::FailureClass::Unavailable,
    }
}

pub(super) fn target(target: Option<v1::Target>) -> Result<Target, Cause> {
    let v1::Target { name, app, addon } = target.unwrap_or_default();
    Target::from_parts(&name, &app, &addon).ok_or(Cause::TargetMissing)
}

pub(super) fn selection(targets: Vec<v1::Target>, all: bool) -> Result<Selection, Cause> {
    match (targets.is_empty(), all) {
        (true, true) => Ok(Selection::All),
        (false, false) => {
            let targets = targets.into_iter().map(|typed| target(Some(typed)));
            Ok(Selection::Targets(targets.collect::<Result<_, _>>()?))
        }
        _ => Err(Cause::InvalidRequest {
            problem: "name sessions, or say that all are meant, but not both".into(),
        }),
    }
}

pub(super) fn open_request(request: v1::OpenSessionRequest) -> Result<OpenRequest, Cause> {
    let grace = request.grace.as_ref().map(duration).transpose()?;
    let expiry = match (request.expires_in.as_ref(), grace) {
        (Some(expires_in), grace) => Some(Expiry {
            at: after(duration(expires_in)?)?,
            grace: grace.unwrap_or(Expiry::GRACE),
        }),
        (None, Some(_)) => {
            return Err(Cause::InvalidRequest {
                problem: "a grace needs a time after which the session closes".into(),
            });
        }
        (None, None) => None,
    };
    Ok(OpenRequest {
        choices: Choices {
            role: role(request.role()),
            access: access_asked(request.access()),
            mode: mode(request.mode()),
        },
        port: port(request.port)?,
        name: session_name(&request.name)?,
        target: target(request.target)?,
        expiry,
        lifetime: Lifetime::Kept,
    })
}

pub(super) fn use_request(request: v1::UseSessionRequest) -> Result<OpenRequest, Cause> {
    open_request(v1::OpenSessionRequest {
        access: request.access,
        role: request.role,
        port: request.port,
        target: request.target,
        ..Default::default()
    })
}

/// A duration that a client sent.
pub(super) fn duration(duration: &prost_types::Duration) -> Result<Duration, Cause> {
    Duration::try_from(*duration).map_err(|_| Cause::InvalidRequest {
        problem: "a duration can't be negative".into(),
    })
}

/// A time that a client named.
pub(super) fn time(time: prost_types::Timestamp) -> Result<Timestamp, Status> {
    Timestamp::new(time.seconds, time.nanos).map_err(|_| {
        status(&Cause::InvalidRequest {
            problem: "there is no such time".into(),
        })
    })
}

pub(super) fn timestamp(timestamp: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: timestamp.as_second(),
        nanos: timestamp.subsec_nanosecond(),
    }
}

pub(super) fn session(view: &SessionSnapshot) -> v1::Session {
    let status = &view.status;
    let resolved = status.resolved.clone();
    let (app, addon, attachment) = resolved
        .map(|resolved| (resolved.app, resolved.addon, resolved.attachment))
        .unwrap_or_default();
    v1::Session {
        name: view.name.to_string(),
        app,
        addon,
        attachment,
        role: match view.role {
            Role::Personal => v1::Role::Personal,
            Role::App => v1::Role::App,
        }
        .into(),
        access: match view.access {
            Access::ReadOnly => v1::Access::ReadOnly,
            Access::ReadWrite => v1::Access::ReadWrite,
        }
        .into(),
        mode: match view.mode {
            Mode::Managed => v1::Mode::Managed,
            Mode::Passthrough => v1::Mode::Passthrough,
        }
        .into(),
        state: match status.phase {
            Phase::Opening => v1::State::Opening,
            Phase::Up => v1::State::Up,
            Phase::Reconnecting => v1::State::Reconnecting,
            Phase::Failed => v1::State::Failed,
            Phase::Closing => v1::State::Closing,
        }
        .into(),
        since: Some(timestamp(status.since)),
        host: HOST.into(),
        port: view.port.into(),
        socket_dir: view.socket_dir.display().to_string(),
        database: status.database.clone().unwrap_or_default(),
        user: view.user().unwrap_or_default().to_owned(),
        connections: Some(connections(&view.counters)),
        bytes: Some(v1::ByteCounts {
            sent: view.counters.sent(),
            received: view.counters.received(),
        }),
        credential: status.credential.as_ref().map(|credential| v1::Credential {
            generation: credential.generation.0,
            issued_at: Some(timestamp(credential.issued_at)),
            rotates_at: credential.rotates_at.map(timestamp),
        }),
        expires_at: view.expires_at.map(timestamp),
        last_error: status.last_error.as_ref().map(failure),
        step: text::line(&status.step),
        declared: view.declared,
        transient: view.transient,
        warm_connections: view.counters.warm(),
        ca_file: String::new(),
        unbound: view.address.is_none() && status.last_error.is_some(),
        next_attempt_at: status.next_attempt_at.map(timestamp),
        round_trip: view
            .counters
            .round_trip()
            .and_then(|time| time.try_into().ok()),
        idle_in_transaction_since: view
            .counters
            .registry()
            .idle_in_transaction_since()
            .map(timestamp),
    }
}

pub(super) fn connections(counters: &Counters) -> v1::ConnectionCounts {
    v1::ConnectionCounts {
        active: counters.active(),
        total: counters.total(),
    }
}

/// What a client needs beside the session; empty while that isn't known.
pub(super) fn secrets(view: &SessionSnapshot) -> v1::Secrets {
    let (Some(user), Some(password)) = (view.user(), &view.password) else {
        return v1::Secrets::default();
    };
    let password = password.expose_secret();
    let encode = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    let database = view.status.database.as_deref().unwrap_or_default();
    v1::Secrets {
        password: password.to_owned(),
        url: format!(
            "postgresql://{}:{}@{HOST}:{}/{}",
            encode(user),
            encode(password),
            view.port,
            encode(database)
        ),
    }
}

fn after(time: Duration) -> Result<Timestamp, Cause> {
    clock::timestamp()
        .checked_add(time)
        .map_err(|_| Cause::InvalidRequest {
            problem: "a session can't be opened for that long".into(),
        })
}

fn role(role: v1::Role) -> Option<Role> {
    match role {
        v1::Role::App => Some(Role::App),
        v1::Role::Personal => Some(Role::Personal),
        v1::Role::Unspecified => None,
    }
}

fn access_asked(asked: v1::Access) -> Option<Access> {
    (asked != v1::Access::Unspecified).then(|| access(asked))
}

pub(super) fn access(access: v1::Access) -> Access {
    match access {
        v1::Access::ReadWrite => Access::ReadWrite,
        v1::Access::ReadOnly | v1::Access::Unspecified => Access::ReadOnly,
    }
}

fn mode(mode: v1::Mode) -> Option<Mode> {
    match mode {
        v1::Mode::Passthrough => Some(Mode::Passthrough),
        v1::Mode::Managed => Some(Mode::Managed),
        v1::Mode::Unspecified => None,
    }
}

fn port(port: u32) -> Result<Option<u16>, Cause> {
    match u16::try_from(port) {
        Ok(0) => Ok(None),
        Ok(port) => Ok(Some(port)),
        Err(_) => Err(Cause::InvalidRequest {
            problem: format!("{port} is no TCP port"),
        }),
    }
}

fn session_name(name: &str) -> Result<Option<SessionName>, Cause> {
    if name.is_empty() {
        return Ok(None);
    }
    SessionName::parse(name)
        .map(Some)
        .map_err(|error| Cause::InvalidRequest {
            problem: error.to_string(),
        })
}

#[cfg(test)]
mod tests;
