//! From a credential to an authenticated connection.

use std::{borrow::Cow, sync::Arc, time::Duration};

use russh::{
    Limits, Preferred, cipher,
    client::{self, AuthResult, Handle},
    keys::{Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg},
};
use secrecy::ExposeSecret as _;
use socket2::SockRef;
use tokio::{io::BufReader, net::TcpStream, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    HostKey, Tunnel,
    channel::ProcessBudget,
    connect::{Connected, connect},
    failure::{Failure, plain, with_words},
    handler::Handler,
    intake::{Intake, MESSAGES},
    keepalive::Keepalive,
    loss::Loss,
    metered_stream::MeteredStream,
    receive_window::ReceiveWindow,
    route::Route,
    tunnel::{Parts, next_number},
};
use crate::model::{Cause, Lease, SshCredential};

/// Limit for TCP and for the SSH handshake with log-in, each. sshd's own limit for a
/// log-in is 120 s; a user waits less.
const STEP_LIMIT: Duration = Duration::from_secs(15);

/// russh reads each packet's length, and then the packet: from a buffer, not from the kernel.
const READ_AHEAD: usize = 64 * 1024;

/// Bytes each way after which new keys are made, should the server not have asked before. The
/// server does: OpenSSH after 64 GiB (1 GiB with ChaCha20) or as its `RekeyLimit` says, others
/// after 1 GiB or an hour. One that asks sends nothing until it is done. Where russh asks, what
/// all channels have on the way by then must fit in twice one channel's window, or it ends the
/// connection (0.65.1, `client/mod.rs`, `Error::Pending`).
const REKEY_AFTER: u64 = 128 << 30;

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
/// much of the line the tunnel is to fill alone; `route` is what all tunnels to the bastion have
/// in common.
///
/// # Errors
/// The cause, classified: unreachable, refused before SSH began (busy), host key differs, key
/// refused. Dropping the future closes the connection.
pub async fn dial(
    lease: &Lease<SshCredential>,
    keepalive: Keepalive,
    others: usize,
    route: Route,
) -> Result<Tunnel, Cause> {
    let credential = &lease.credential;
    let bastion = &credential.bastion;
    let unusable = |detail| Cause::ProviderUnavailable {
        api: "Borealis API",
        detail,
    };
    let host_key = HostKey::parse(&credential.host_key).map_err(unusable)?;
    let key = russh::keys::decode_secret_key(credential.private_key.expose_secret(), None)
        .map_err(|error| {
            unusable(format!(
                "the personal SSH key it gave can't be read: {error}"
            ))
        })?;

    let unreachable = |detail| Cause::BastionUnreachable {
        bastion: bastion.clone(),
        detail,
    };
    let Connected { socket, round_trip } = connect(bastion, STEP_LIMIT).await?;
    prepare(&socket, keepalive).map_err(|error| unreachable(plain(&error)))?;
    let intake = Intake::new(ProcessBudget::shared().for_tunnel());
    let (line, stats) = MeteredStream::new(socket, Arc::clone(&intake));
    let window = ReceiveWindow::new(round_trip, others);
    let config = config(&host_key, window);
    let closed = CancellationToken::new();
    let loss = Loss::default();
    let handler = Handler::new(host_key, loss.clone(), closed.clone(), Arc::clone(&intake));
    let logging_in = log_in(line, config, handler, &credential.username, key);
    match timeout(STEP_LIMIT, logging_in).await {
        Ok(Ok(handle)) => {
            let parts = Parts {
                handle: Arc::new(handle),
                bastion: bastion.clone(),
                generation: lease.generation,
                closed,
                number: next_number(),
                loss,
                stats,
                intake,
                window,
            };
            Ok(Tunnel::new(parts, keepalive, route))
        }
        Ok(Err(failure)) => Err(failure.cause(bastion, stats.greeting().or(loss.farewell()))),
        Err(_) => Err(unreachable(with_words(
            format!("no SSH log-in within {} s", STEP_LIMIT.as_secs()),
            stats.greeting(),
        ))),
    }
}

/// The SSH handshake and the log-in.
async fn log_in(
    line: MeteredStream,
    config: client::Config,
    handler: Handler,
    username: &str,
    key: PrivateKey,
) -> Result<Handle<Handler>, Failure> {
    let buffered = BufReader::with_capacity(READ_AHEAD, line);
    let mut handle = client::connect_stream(Arc::new(config), buffered, handler)
        .await
        .map_err(Failure::in_handshake)?;
    let hash = match key.algorithm() {
        Algorithm::Rsa { .. } => handle
            .best_supported_rsa_hash()
            .await?
            .unwrap_or(Some(HashAlg::Sha256)),
        _ => None,
    };
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    match handle.authenticate_publickey(username, key).await? {
        AuthResult::Success => Ok(handle),
        AuthResult::Failure { .. } => Err(Failure::KeyRefused),
    }
}

fn prepare(socket: &TcpStream, keepalive: Keepalive) -> std::io::Result<()> {
    // Without it each small packet of a query waits for the one before to be acknowledged.
    socket.set_nodelay(true)?;
    // russh can't time out while data is stuck in the socket; the kernel can.
    #[cfg(target_os = "linux")]
    if let Err(error) =
        SockRef::from(socket).set_tcp_user_timeout(Some(keepalive.interval + keepalive.timeout))
    {
        tracing::debug!(%error, "TCP_USER_TIMEOUT is not available");
    }
    Ok(())
}

fn config(host_key: &HostKey, window: ReceiveWindow) -> client::Config {
    let rekey_after = usize::try_from(REKEY_AFTER).unwrap_or(usize::MAX);
    client::Config {
        window_size: window.bytes(),
        preferred: Preferred {
            key: host_key.algorithms().into(),
            cipher: ciphers(),
            ..Preferred::DEFAULT
        },
        limits: Limits {
            rekey_write_limit: rekey_after,
            rekey_read_limit: rekey_after,
            rekey_time_limit: Duration::MAX,
        },
        channel_buffer_size: MESSAGES,
        // Its own would take a line for dead that isn't read for a while.
        keepalive_interval: None,
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
