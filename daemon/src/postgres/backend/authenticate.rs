//! Proving to the server who the daemon is, by whatever the server asks for.

use bytes::{Bytes, BytesMut};
use postgres_protocol::{
    authentication::{
        md5_hash,
        sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256},
    },
    message::frontend,
};
use secrecy::ExposeSecret;

use super::{Failure, LoginError, next};
use crate::{
    model::DatabaseCredential,
    postgres::{MaybeTls, Stream, wire},
};

/// The server's questions, by the code in an Authentication message.
mod code {
    pub(super) const OK: u32 = 0;
    pub(super) const CLEAR_TEXT: u32 = 3;
    pub(super) const MD5: u32 = 5;
    pub(super) const SASL: u32 = 10;
    pub(super) const SASL_CONTINUE: u32 = 11;
    pub(super) const SASL_FINAL: u32 = 12;
}

/// A question, and what comes with it.
struct Question {
    code: u32,
    data: Bytes,
}

/// Answers the server until it says that the daemon is in. `end_point` is the hash of the
/// server's certificate, where there is TLS and the certificate has one; without
/// `may_say_password` the password isn't said as it is.
pub(super) async fn authenticate<S: Stream>(
    stream: &mut MaybeTls<S>,
    credential: &DatabaseCredential,
    end_point: Option<Vec<u8>>,
    may_say_password: bool,
) -> Result<(), Failure> {
    let password = credential.password.expose_secret();
    let question = ask(stream).await?;
    match question.code {
        code::OK => return Ok(()),
        code::CLEAR_TEXT if !may_say_password => {
            return Err(Failure::Broken(LoginError::Tls(
                "the server had TLS before; now it has none and asks for the password in clear text"
                    .into(),
            )));
        }
        code::CLEAR_TEXT => say_password(stream, password.as_bytes()).await?,
        code::MD5 => {
            let salt = question.data[..]
                .try_into()
                .map_err(|_| Failure::protocol("an MD5 question without its salt"))?;
            let user = credential.username.as_bytes();
            let hash = md5_hash(user, password.as_bytes(), salt);
            say_password(stream, hash.as_bytes()).await?;
        }
        code::SASL => scram(stream, &question.data, password, end_point).await?,
        other => return Err(unsupported(other)),
    }
    match ask(stream).await?.code {
        code::OK => Ok(()),
        _ => Err(Failure::protocol("a second question after the answer")),
    }
}

async fn scram<S: Stream>(
    stream: &mut MaybeTls<S>,
    offered: &Bytes,
    password: &str,
    end_point: Option<Vec<u8>>,
) -> Result<(), Failure> {
    let (mechanism, binding) = choose(offered, end_point)?;
    let mut scram = ScramSha256::new(password.as_bytes(), binding);
    let mut message = BytesMut::new();
    frontend::sasl_initial_response(mechanism, scram.message(), &mut message)?;
    wire::send(stream, &message).await?;

    let challenge = expect(stream, code::SASL_CONTINUE).await?;
    // 4096 rounds of hashing, or what the server asks for: too long for an async thread.
    // At most 100,000, which the crate sees to.
    let mut scram = tokio::task::spawn_blocking(move || scram.update(&challenge).map(|()| scram))
        .await
        .map_err(|error| Failure::protocol(format!("SCRAM: {error}")))?
        .map_err(|error| Failure::protocol(format!("SCRAM: {error}")))?;
    message.clear();
    frontend::sasl_response(scram.message(), &mut message)?;
    wire::send(stream, &message).await?;

    // Proves that the server has the secret too.
    let proof = expect(stream, code::SASL_FINAL).await?;
    scram
        .finish(&proof)
        .map_err(|error| Failure::protocol(format!("SCRAM: {error}")))
}

/// Picks a mechanism as libpq does: with channel binding wherever both sides can.
fn choose(
    offered: &Bytes,
    end_point: Option<Vec<u8>>,
) -> Result<(&'static str, ChannelBinding), Failure> {
    let mut rest = offered.clone();
    let mut plus = false;
    let mut plain = false;
    while let Some(name) = wire::take_text(&mut rest).filter(|name| !name.is_empty()) {
        plus |= name == SCRAM_SHA_256_PLUS.as_bytes();
        plain |= name == SCRAM_SHA_256.as_bytes();
    }
    match (end_point, plus, plain) {
        (Some(hash), true, _) => Ok((
            SCRAM_SHA_256_PLUS,
            ChannelBinding::tls_server_end_point(hash),
        )),
        (Some(_), false, true) => Ok((SCRAM_SHA_256, ChannelBinding::unrequested())),
        (None, _, true) => Ok((SCRAM_SHA_256, ChannelBinding::unsupported())),
        _ => Err(Failure::protocol(
            "the server asks for a SASL mechanism other than SCRAM-SHA-256, which isn't supported",
        )),
    }
}

async fn say_password<S: Stream>(stream: &mut MaybeTls<S>, password: &[u8]) -> Result<(), Failure> {
    let mut message = BytesMut::new();
    frontend::password_message(password, &mut message)?;
    wire::send(stream, &message).await?;
    Ok(())
}

async fn expect<S: Stream>(stream: &mut MaybeTls<S>, code: u32) -> Result<Bytes, Failure> {
    let question = ask(stream).await?;
    if question.code != code {
        return Err(Failure::protocol("SCRAM's messages come out of order"));
    }
    Ok(question.data)
}

/// The server's next question. Notices and NegotiateProtocolVersion may come before it, and
/// have nothing to say to a client of 3.0 or 3.2 (see [`log_in`](super::log_in)).
async fn ask<S: Stream>(stream: &mut MaybeTls<S>) -> Result<Question, Failure> {
    loop {
        let message = next(stream).await?;
        match message.tag() {
            b'R' => {
                let mut data = message.body();
                let code = wire::take_u32(&mut data)
                    .ok_or_else(|| Failure::protocol("an authentication message without a code"))?;
                return Ok(Question { code, data });
            }
            b'v' | b'N' => {}
            tag => {
                return Err(Failure::protocol(format!(
                    "a message of type {} where the server should ask who is there",
                    tag.escape_ascii()
                )));
            }
        }
    }
}

fn unsupported(code: u32) -> Failure {
    let method = match code {
        2 => "Kerberos V5",
        7 => "GSSAPI",
        9 => "SSPI",
        6 => "SCM credentials",
        _ => "an unknown way of",
    };
    Failure::Broken(LoginError::Protocol(format!(
        "the server asks for {method} authentication, which isn't supported"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(offered: &'static [u8], end_point: Option<&[u8]>) -> Option<&'static str> {
        let end_point = end_point.map(<[u8]>::to_vec);
        choose(&Bytes::from_static(offered), end_point)
            .ok()
            .map(|(mechanism, _)| mechanism)
    }

    #[test]
    fn channel_binding_is_taken_wherever_both_sides_can() {
        let both = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        assert_eq!(chosen(both, Some(b"hash")), Some(SCRAM_SHA_256_PLUS));
        assert_eq!(chosen(both, None), Some(SCRAM_SHA_256));
        let plain = b"SCRAM-SHA-256\0\0";
        assert_eq!(chosen(plain, Some(b"hash")), Some(SCRAM_SHA_256));
        assert_eq!(chosen(b"SCRAM-SHA-256-PLUS\0\0", None), None);
        assert_eq!(chosen(b"OAUTHBEARER\0\0", Some(b"hash")), None);
        assert_eq!(chosen(b"", None), None);
    }
}
