//! From a credential to an authenticated connection.

use std::{borrow::Cow, io, sync::Arc, time::Duration};

use russh::{
    Preferred, cipher,
    client::{self, AuthResult, DisconnectReason},
    keys::{HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate},
};
use secrecy::ExposeSecret as _;
use socket2::SockRef;
use tokio::{
    io::BufReader,
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{HostKey, Tunnel, line::Line, tunnel::Loss};
use crate::model::{Cause, HostPort, Lease, SshCredential};

/// How soon a silent line counts as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// How often a silent line is probed.
    pub interval: Duration,
    /// How long a probe may go unanswered.
    pub timeout: Duration,
}

/// Limit for TCP and for the SSH handshake with log-in, each. sshd's own limit for a
/// log-in is 120 s; a user waits less.
const STEP_LIMIT: Duration = Duration::from_secs(15);

/// A download over a long line is only as fast as its window: 16 MiB carry 1 Gbit/s over
/// 80 ms, since russh gives it back by halves. Below it TCP's own window grows with what the
/// line carries; more than this made several downloads at once slower.
const WINDOW: u32 = 16 * 1024 * 1024;

/// russh reads each packet's length, and then the packet: from a buffer, not from the kernel.
const READ_AHEAD: usize = 64 * 1024;

/// Ciphers where the processor has instructions for AES.
const WITH_AES: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
    cipher::AES_192_CTR,
    cipher::AES_128_CTR,
];

/// Connects to the bastion and logs in.
///
/// # Errors
/// The cause, classified: unreachable, host key differs, key refused. Dropping the future
/// closes the connection.
pub async fn dial(lease: &Lease<SshCredential>, keepalive: Keepalive) -> Result<Tunnel, Cause> {
    let credential = &lease.credential;
    let bastion = &credential.bastion;
    let host_key =
        HostKey::parse(&credential.host_key).map_err(|detail| Cause::ProviderUnavailable {
            api: "Borealis API",
            detail,
        })?;
    let key = russh::keys::decode_secret_key(credential.private_key.expose_secret(), None)
        .map_err(|error| Cause::ProviderUnavailable {
            api: "Borealis API",
            detail: format!("the personal SSH key it gave can't be read: {error}"),
        })?;

    let began = Instant::now();
    let (line, gauge) = Line::new(connect(bastion, keepalive).await?);
    let config = Arc::new(config(&host_key, keepalive));
    let closed = CancellationToken::new();
    let loss = Loss::default();
    let handler = Handler {
        host_key,
        loss: loss.clone(),
        _closed: closed.clone().drop_guard(),
    };
    let log_in = async {
        let buffered = BufReader::with_capacity(READ_AHEAD, line);
        let mut handle = client::connect_stream(config, buffered, handler).await?;
        let hash = match key.algorithm() {
            russh::keys::Algorithm::Rsa { .. } => handle
                .best_supported_rsa_hash()
                .await?
                .unwrap_or(Some(HashAlg::Sha256)),
            _ => None,
        };
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
        let answer = handle
            .authenticate_publickey(credential.username.as_str(), key)
            .await?;
        Ok::<_, Failure>((handle, answer))
    };
    match timeout(STEP_LIMIT, log_in).await {
        Ok(Ok((handle, AuthResult::Success))) => Ok(Tunnel::new(
            handle,
            bastion.clone(),
            lease.generation,
            closed,
            loss,
            gauge,
            began.elapsed(),
        )),
        Ok(Ok((_, AuthResult::Failure { .. }))) => Err(Cause::BastionRefusedKey {
            bastion: bastion.clone(),
        }),
        Ok(Err(failure)) => Err(failure.cause(bastion)),
        Err(_) => Err(Cause::BastionUnreachable {
            bastion: bastion.clone(),
            detail: format!("no SSH log-in within {} s", STEP_LIMIT.as_secs()),
        }),
    }
}

async fn connect(bastion: &HostPort, keepalive: Keepalive) -> Result<TcpStream, Cause> {
    let unreachable = |detail: String| Cause::BastionUnreachable {
        bastion: bastion.clone(),
        detail,
    };
    let socket = timeout(
        STEP_LIMIT,
        TcpStream::connect((bastion.host.as_str(), bastion.port)),
    )
    .await
    .map_err(|_| unreachable(format!("no answer within {} s", STEP_LIMIT.as_secs())))?
    .map_err(|error| unreachable(plain(&error)))?;
    // Without it each small packet of a query waits for the one before to be acknowledged.
    socket
        .set_nodelay(true)
        .map_err(|error| unreachable(plain(&error)))?;
    // russh can't time out while data is stuck in the socket; the kernel can.
    #[cfg(target_os = "linux")]
    if let Err(error) =
        SockRef::from(&socket).set_tcp_user_timeout(Some(keepalive.interval + keepalive.timeout))
    {
        tracing::debug!(%error, "TCP_USER_TIMEOUT is not available");
    }
    Ok(socket)
}

fn config(host_key: &HostKey, keepalive: Keepalive) -> client::Config {
    // russh counts probes instead of timing them: a line is given up after
    // interval × (max + 1).
    let probes = keepalive.timeout.as_secs_f64() / keepalive.interval.as_secs_f64().max(0.001);
    client::Config {
        window_size: WINDOW,
        preferred: Preferred {
            key: host_key.algorithms().into(),
            cipher: ciphers(),
            ..Preferred::DEFAULT
        },
        keepalive_interval: Some(keepalive.interval),
        keepalive_max: (probes.ceil() as usize).max(1),
        nodelay: true,
        ..client::Config::default()
    }
}

/// The fastest first: AES where the processor does it, else what russh prefers.
fn ciphers() -> Cow<'static, [cipher::Name]> {
    #[cfg(target_arch = "x86_64")]
    let has_aes = std::arch::is_x86_feature_detected!("aes");
    #[cfg(target_arch = "aarch64")]
    let has_aes = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let has_aes = false;
    if has_aes {
        WITH_AES.into()
    } else {
        Preferred::DEFAULT.cipher
    }
}

/// What an I/O error says, without Rust's "(os error 111)".
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((plain, _)) => plain.to_lowercase(),
        None => text,
    }
}

/// Answers russh's callbacks for one connection.
pub(super) struct Handler {
    host_key: HostKey,
    loss: Loss,
    /// Told when russh ends the connection, however it ends: the handler goes with it.
    _closed: DropGuard,
}

/// Why a handshake ended.
#[derive(Debug)]
pub(super) enum Failure {
    HostKeyDiffers,
    Ssh(russh::Error),
}

// === impl Failure ===

impl From<russh::Error> for Failure {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

impl Failure {
    fn cause(self, bastion: &HostPort) -> Cause {
        let bastion = bastion.clone();
        match self {
            Self::HostKeyDiffers => Cause::HostKeyDiffers { bastion },
            // Only the pinned key's algorithm is offered: a server without it has another key.
            Self::Ssh(russh::Error::NoCommonAlgo {
                kind: russh::AlgorithmKind::Key,
                ..
            }) => Cause::HostKeyDiffers { bastion },
            Self::Ssh(error) => Cause::BastionUnreachable {
                bastion,
                detail: describe(&error),
            },
        }
    }
}

/// What an SSH error means, in the user's words.
pub(super) fn describe(error: &russh::Error) -> String {
    match error {
        russh::Error::IO(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the server closed the connection".into()
        }
        russh::Error::IO(error) => plain(error),
        russh::Error::Disconnect | russh::Error::HUP => "the server closed the connection".into(),
        russh::Error::KeepaliveTimeout => "the line went silent".into(),
        russh::Error::Version => "what answers there is no SSH server".into(),
        other => other.to_string(),
    }
}

// === impl Handler ===

impl client::Handler for Handler {
    type Error = Failure;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Failure> {
        match key {
            PublicKeyOrCertificate::PublicKey { key, .. } if self.host_key.matches(key) => Ok(true),
            _ => Err(Failure::HostKeyDiffers),
        }
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Failure>) -> Result<(), Failure> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                self.loss
                    .note(format!("the server ended it: {}", info.message.trim()));
                Ok(())
            }
            DisconnectReason::Error(failure) => {
                if let Failure::Ssh(error) = &failure {
                    self.loss.note(describe(error));
                }
                Err(failure)
            }
        }
    }
}
