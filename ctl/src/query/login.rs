//! Logging in: with nothing where the daemon knows the OS user, else with a password, as the
//! database itself asks for it on a session that passes it through.

use std::{io, sync::OnceLock};

use bytes::BytesMut;
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256},
    },
    message::{
        backend::{Message, NoticeResponseBody},
        frontend,
    },
};

use super::{
    Trouble,
    complaint::Complaint,
    connection::{CancelKey, Connection},
};
use crate::failure::Failure;

/// Who logs in, to what.
pub(super) struct Login<'a> {
    pub(super) user: &'a str,
    pub(super) database: &'a str,
    pub(super) password: &'a str,
    /// Settings of the new session, its `application_name` among them.
    pub(super) settings: &'a [(&'a str, &'a str)],
}

/// Logs in; leaves the connection ready for a query. Answers the server's major version, 0
/// where it doesn't say.
pub(super) async fn log_in(
    connection: &mut Connection,
    login: &Login<'_>,
    key: &OnceLock<CancelKey>,
    mut notice: impl FnMut(&NoticeResponseBody) -> Result<(), Failure>,
) -> Result<u32, Trouble> {
    let mut version = 0;
    let own = [
        ("user", login.user),
        ("database", login.database),
        ("client_encoding", "UTF8"),
    ];
    let parameters = own.into_iter().chain(login.settings.iter().copied());
    connection
        .send(|out| frontend::startup_message(parameters, out))
        .await?;
    loop {
        match connection.incoming.next().await? {
            Message::AuthenticationCleartextPassword => {
                send_password(connection, login.password.as_bytes()).await?;
            }
            Message::AuthenticationMd5Password(body) => {
                let hash = md5_hash(
                    login.user.as_bytes(),
                    login.password.as_bytes(),
                    body.salt(),
                );
                send_password(connection, hash.as_bytes()).await?;
            }
            Message::AuthenticationSasl(body) => {
                let offered = body
                    .mechanisms()
                    .any(|mechanism| Ok(mechanism == SCRAM_SHA_256))
                    .map_err(|error| broken(&error))?;
                if !offered {
                    return Err(unsupported().into());
                }
                scram(connection, login.password).await?;
            }
            Message::ParameterStatus(body) => {
                if body.name().is_ok_and(|name| name == "server_version") {
                    version = major(body.value().unwrap_or_default());
                }
            }
            Message::AuthenticationOk => {}
            Message::BackendKeyData(body) => {
                // Set once for each connection, and there is one.
                let _ = key.set(CancelKey {
                    process: body.process_id(),
                    secret: body.secret_key(),
                });
            }
            Message::NoticeResponse(body) => notice(&body)?,
            Message::ErrorResponse(body) => {
                return Err(Trouble::told(Complaint::read(body.fields())?));
            }
            Message::ReadyForQuery(_) => return Ok(version),
            _ => return Err(unsupported().into()),
        }
    }
}

/// Of `15.14 (Debian 15.14-0+deb12u1)` and `17devel`.
fn major(version: &str) -> u32 {
    let digits = version.bytes().take_while(u8::is_ascii_digit).count();
    version[..digits].parse().unwrap_or(0)
}

async fn send_password(connection: &mut Connection, password: &[u8]) -> Result<(), Failure> {
    connection
        .send(|out| frontend::password_message(password, out))
        .await
}

async fn scram(connection: &mut Connection, password: &str) -> Result<(), Trouble> {
    let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
    let first =
        |out: &mut BytesMut| frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), out);
    connection.send(first).await?;
    loop {
        match connection.incoming.next().await? {
            Message::AuthenticationSaslContinue(body) => {
                scram.update(body.data()).map_err(|error| broken(&error))?;
                connection
                    .send(|out| frontend::sasl_response(scram.message(), out))
                    .await?;
            }
            Message::AuthenticationSaslFinal(body) => {
                return scram
                    .finish(body.data())
                    .map_err(|error| broken(&error).into());
            }
            Message::ErrorResponse(body) => {
                return Err(Trouble::told(Complaint::read(body.fields())?));
            }
            _ => return Err(unsupported().into()),
        }
    }
}

fn broken(error: &io::Error) -> Failure {
    Failure::failed(format!("logging in to the database went wrong: {error}"))
}

fn unsupported() -> Failure {
    Failure::failed("the database asks for a way of logging in that borealisctl doesn't know")
        .with_hint("use a session without --passthrough: borealisd then logs in for you")
}
