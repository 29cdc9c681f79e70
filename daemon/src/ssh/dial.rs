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
    net::{TcpStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{HostKey, Tunnel, metered_stream::MeteredStream, tunnel::Loss};
use crate::model::{Cause, HostPort, Lease, SshCredential};

/// How soon a silent line counts as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// How often a silent line is probed.
    pub interval: Duration,
    /// How long a probe may go unanswered.
    pub timeout: Duration,
}

/// What decides how much the server may send at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReceiveWindow {
    /// How long the server took to answer when the connection was begun.
    pub(super) round_trip: Duration,
    /// How often the window was halved from what fills the line alone.
    pub(super) shift: u32,
}

/// Limit for TCP and for the SSH handshake with log-in, each. sshd's own limit for a
/// log-in is 120 s; a user waits less.
const STEP_LIMIT: Duration = Duration::from_secs(15);

/// What a line carries in each millisecond of its round trip, twice: 1 Gbit/s, and russh gives
/// a window back by halves.
const WINDOW_FOR_MILLISECOND: u32 = 200 * 1024;
/// OpenSSH's own; enough for a line within a town.
const LEAST_WINDOW: u32 = 2 * 1024 * 1024;
/// Carries 1 Gbit/s over 80 ms.
const MOST_WINDOW: u32 = 16 * 1024 * 1024;

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

/// Connects to the bastion and logs in. How many `others` its session has already decides how
/// much of the line the tunnel is to fill alone.
///
/// # Errors
/// The cause, classified: unreachable, host key differs, key refused. Dropping the future
/// closes the connection.
pub async fn dial(
    lease: &Lease<SshCredential>,
    keepalive: Keepalive,
    others: usize,
) -> Result<Tunnel, Cause> {
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

    let (socket, round_trip) = connect(bastion, keepalive).await?;
    let (line, stats) = MeteredStream::new(socket);
    let window = ReceiveWindow::new(round_trip, others);
    let config = Arc::new(config(&host_key, keepalive, window.window()));
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
            stats,
            window,
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

/// A connection, and how long the bastion took to answer.
async fn connect(bastion: &HostPort, keepalive: Keepalive) -> Result<(TcpStream, Duration), Cause> {
    let unreachable = |detail: String| Cause::BastionUnreachable {
        bastion: bastion.clone(),
        detail,
    };
    let connecting = async {
        let addresses: Vec<_> = lookup_host((bastion.host.as_str(), bastion.port))
            .await?
            .collect();
        let asked = Instant::now();
        let socket = TcpStream::connect(addresses.as_slice()).await?;
        Ok((socket, asked.elapsed()))
    };
    let (socket, round_trip) = timeout(STEP_LIMIT, connecting)
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
    Ok((socket, round_trip))
}

fn config(host_key: &HostKey, keepalive: Keepalive, window: u32) -> client::Config {
    // russh counts probes instead of timing them: a line is given up after
    // interval × (max + 1).
    let probes = keepalive.timeout.as_secs_f64() / keepalive.interval.as_secs_f64().max(0.001);
    client::Config {
        window_size: window,
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
            // It answered, and wants none of us: `MaxStartups`, or a penalty.
            Self::Ssh(error) if is_closed(&error) => Cause::BastionClosed {
                bastion,
                detail: describe(&error),
            },
            Self::Ssh(error) => Cause::BastionUnreachable {
                bastion,
                detail: describe(&error),
            },
        }
    }
}

/// Whether the server ended the connection, by whatever word.
fn is_closed(error: &russh::Error) -> bool {
    match error {
        russh::Error::IO(error) => matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
        ),
        russh::Error::Disconnect | russh::Error::HUP => true,
        _ => false,
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

// === impl ReceiveWindow ===

impl ReceiveWindow {
    /// A tunnel may fill the line alone, and so may the one that stands ready beside it; what
    /// comes after those shares it with `others`.
    fn new(round_trip: Duration, others: usize) -> Self {
        Self {
            round_trip,
            shift: others.max(1).ilog2(),
        }
    }

    /// What the server may send on a channel before it hears that it may send more: a download
    /// gets at most this much for each round trip.
    ///
    /// More than the line takes is dear: sshd fetches all of it from the database at once, into a
    /// buffer that it copies to make room for every 32 KiB (OpenSSH 9.2, `channels.c`,
    /// `sshbuf.c`). For 16 MiB that comes to 4 GiB, and three seconds of its processor.
    fn window(self) -> u32 {
        let milliseconds = u32::try_from(self.round_trip.as_millis()).unwrap_or(u32::MAX);
        let whole = WINDOW_FOR_MILLISECOND
            .saturating_mul(milliseconds)
            .min(MOST_WINDOW);
        whole.checked_shr(self.shift).unwrap_or(0).max(LEAST_WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_fits_the_line() {
        let window =
            |ms, others| ReceiveWindow::new(Duration::from_millis(ms), others).window() / 1024;
        let alone = |ms| window(ms, 0);
        assert_eq!(alone(0), 2048);
        assert_eq!(alone(20), 4000);
        assert_eq!(alone(80), 16_000);
        assert_eq!(alone(1000), 16 * 1024);
        assert_eq!(alone(u64::MAX), 16 * 1024);
        let with_others = |others| window(80, others);
        assert_eq!(
            [1, 2, 3, 4, 7, 8].map(with_others),
            [16_000, 8000, 8000, 4000, 4000, 2048]
        );
        assert_eq!(with_others(usize::MAX), 2048);
    }
}
