//! A small SSH server inside the sandbox: public keys only, and nothing but `direct-tcpip`
//! channels to the one database.

use std::{
    collections::HashMap,
    net::{Ipv4Addr, SocketAddrV4},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::BytesMut;
use russh::{
    Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf, MethodKind,
    MethodSet,
    keys::{PrivateKey, PublicKey},
    server::{
        Auth, ChannelOpenHandle, Config, Handle as ClientHandle, Handler, Msg, PublicKeyOffer,
        Session, VerifiedPublicKey,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp},
    sync::{Notify, watch},
    task::JoinHandle,
};

use super::{
    super::{SandboxError, port, pulse::Pulse},
    BastionAction, BastionStats,
    keyring::KeyRing,
    line::{Cut, Lines},
};

/// As much as one SSH packet may carry, twice.
const BUFFER: usize = 64 * 1024;

/// The running server.
#[derive(Debug)]
pub(super) struct EmbeddedBastion {
    address: Ipv4Addr,
    port: u16,
    shared: Arc<Shared>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    config: Mutex<Arc<Config>>,
    keys: KeyRing,
    lines: Lines,
    clients: Mutex<HashMap<u64, ClientHandle>>,
    database: SocketAddrV4,
    counts: Counts,
    /// Whether requests for a channel are left unanswered.
    holds_channels: watch::Sender<bool>,
    pulse: Pulse,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    open_connections: AtomicU64,
    logins: AtomicU64,
    refused_keys: AtomicU64,
    channels: AtomicU64,
    open_channels: AtomicU64,
    refused_channels: AtomicU64,
    taken_by_clients: AtomicU64,
    refused_by_clients: AtomicU64,
}

/// One connection's view of the server.
struct Visitor(Arc<Shared>);

// === impl EmbeddedBastion ===

impl EmbeddedBastion {
    pub(super) async fn start(
        host_key: PrivateKey,
        keys: KeyRing,
        address: Ipv4Addr,
        database_port: u16,
        pulse: Pulse,
    ) -> Result<Self, SandboxError> {
        let server = Self {
            address,
            port: port::free()?,
            shared: Arc::new(Shared {
                config: Mutex::new(config(host_key)),
                keys,
                lines: Lines::default(),
                clients: Mutex::default(),
                database: SocketAddrV4::new(Ipv4Addr::LOCALHOST, database_port),
                counts: Counts::default(),
                holds_channels: watch::Sender::new(false),
                pulse,
            }),
            listener: Mutex::new(None),
        };
        server.listen().await?;
        Ok(server)
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Shows another host key to connections that come from now on.
    pub(super) fn show(&self, host_key: PrivateKey) {
        *lock(&self.shared.config) = config(host_key);
    }

    pub(super) async fn act(&self, action: BastionAction) -> Result<(), SandboxError> {
        let lines = &self.shared.lines;
        match action {
            BastionAction::Stop => {
                let listener = lock(&self.listener).take();
                if let Some(listener) = listener {
                    listener.abort();
                    // The socket is closed when the task is gone, not before.
                    let _ = listener.await;
                }
                lines.cut(Cut::Close);
            }
            BastionAction::Start => self.listen().await?,
            BastionAction::Cut => lines.cut(Cut::Close),
            BastionAction::Reset => lines.cut(Cut::Reset),
            BastionAction::Freeze => lines.freeze(),
            BastionAction::FreezeConnections => lines.freeze_those_there(),
            BastionAction::Thaw => lines.thaw(),
            BastionAction::OpenChannels => self.shared.open_channels().await,
            BastionAction::HoldChannels => drop(self.shared.holds_channels.send_replace(true)),
            BastionAction::ReleaseChannels => drop(self.shared.holds_channels.send_replace(false)),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn lengthen(&self, round_trip: Duration) {
        self.shared.lines.lengthen(round_trip);
    }

    pub(super) fn stats(&self) -> BastionStats {
        let counts = &self.shared.counts;
        BastionStats {
            dropped: 0,
            key_exchanges: 0,
            connections: counts.connections.load(Relaxed),
            open_connections: Some(counts.open_connections.load(Relaxed)),
            logins: counts.logins.load(Relaxed),
            refused_keys: Some(counts.refused_keys.load(Relaxed)),
            channels: Some(counts.channels.load(Relaxed)),
            open_channels: Some(counts.open_channels.load(Relaxed)),
            refused_channels: Some(counts.refused_channels.load(Relaxed)),
            taken_by_clients: Some(counts.taken_by_clients.load(Relaxed)),
            refused_by_clients: Some(counts.refused_by_clients.load(Relaxed)),
        }
    }

    pub(super) fn end(&self) {
        if let Some(listener) = lock(&self.listener).take() {
            listener.abort();
        }
        self.shared.lines.cut(Cut::Close);
    }

    async fn listen(&self) -> Result<(), SandboxError> {
        if lock(&self.listener).is_some() {
            return Ok(());
        }
        let listener =
            TcpListener::bind((self.address, self.port))
                .await
                .map_err(SandboxError::io(format!(
                    "listening on the bastion's port {}",
                    self.port
                )))?;
        let task = tokio::spawn(accept(listener, Arc::clone(&self.shared)));
        *lock(&self.listener) = Some(task);
        Ok(())
    }
}

fn config(host_key: PrivateKey) -> Arc<Config> {
    Arc::new(Config {
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        auth_rejection_time: Duration::from_millis(20),
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key],
        inactivity_timeout: None,
        nodelay: true,
        ..Config::default()
    })
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
            // Out of file descriptors, or the client is gone already.
            Err(error) => {
                tracing::warn!(%error, "the bastion could not accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let counts = &shared.counts;
    let number = counts.connections.fetch_add(1, Relaxed);
    counts.open_connections.fetch_add(1, Relaxed);
    shared.pulse.beat();
    let config = Arc::clone(&lock(&shared.config));
    let line = shared.lines.control(stream);
    let visitor = Visitor(Arc::clone(&shared));
    let ended = match russh::server::run_stream(config, line, visitor).await {
        Ok(session) => {
            lock(&shared.clients).insert(number, session.handle());
            let ended = session.await;
            lock(&shared.clients).remove(&number);
            ended
        }
        Err(error) => Err(error),
    };
    tracing::debug!(?ended, "a bastion connection ended");
    counts.open_connections.fetch_sub(1, Relaxed);
    shared.pulse.beat();
}

// === impl Shared ===

impl Shared {
    /// Opens channels of every kind to each client, and waits for the answers.
    async fn open_channels(&self) {
        let clients: Vec<_> = lock(&self.clients).values().cloned().collect();
        for client in clients {
            let answers = [
                client.channel_open_session().await,
                client.channel_open_agent().await,
                client.channel_open_x11("127.0.0.1", 6000).await,
                client
                    .channel_open_forwarded_tcpip("127.0.0.1", 5432, "127.0.0.1", 1)
                    .await,
                client.channel_open_forwarded_streamlocal("/tmp/s").await,
                client
                    .channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1)
                    .await,
                client.channel_open_direct_streamlocal("/tmp/s").await,
            ];
            for answer in answers {
                let count = match answer {
                    Ok(_) => &self.counts.taken_by_clients,
                    Err(russh::Error::ChannelOpenFailure(_)) => &self.counts.refused_by_clients,
                    // The client has gone.
                    Err(_) => continue,
                };
                count.fetch_add(1, Relaxed);
            }
        }
        self.pulse.beat();
    }
}

// === impl Visitor ===

impl Visitor {
    fn check(&self, user: &str, key: &PublicKey) -> Auth {
        if self.0.keys.accepts(user, key) {
            Auth::Accept
        } else {
            self.0.counts.refused_keys.fetch_add(1, Relaxed);
            self.0.pulse.beat();
            Auth::reject()
        }
    }

    async fn refuse(&self, reply: ChannelOpenHandle) {
        self.0.counts.refused_channels.fetch_add(1, Relaxed);
        self.0.pulse.beat();
        reply
            .reject(ChannelOpenFailure::AdministrativelyProhibited)
            .await;
    }
}

impl Handler for Visitor {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.check(user, offer.public_key))
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        Ok(self.check(user, key.public_key))
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), Self::Error> {
        self.0.counts.logins.fetch_add(1, Relaxed);
        self.0.pulse.beat();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(reply).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse(reply).await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        let database = self.0.database;
        if host == database.ip().to_string() && port == u32::from(database.port()) {
            // Not awaited here: the connection's other channels go on meanwhile.
            tokio::spawn(forward(channel, reply, Arc::clone(&self.0)));
        } else {
            self.refuse(reply).await;
        }
        Ok(())
    }
}

/// Carries one channel to the database and back, each direction closed on its own.
async fn forward(channel: Channel<Msg>, reply: ChannelOpenHandle, shared: Arc<Shared>) {
    // What keeps the sender, this task has.
    let _ = shared
        .holds_channels
        .subscribe()
        .wait_for(|holds| !holds)
        .await;
    let stream = match TcpStream::connect(shared.database).await {
        Ok(stream) => stream,
        Err(_) => {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
            return;
        }
    };
    let _ = stream.set_nodelay(true);
    reply.accept().await;
    shared.counts.channels.fetch_add(1, Relaxed);
    shared.counts.open_channels.fetch_add(1, Relaxed);
    shared.pulse.beat();

    let (mut from_client, to_client) = channel.split();
    let (mut from_database, mut to_database) = stream.into_split();
    let client_done = Notify::new();
    let down = async {
        download(&mut from_database, &to_client).await;
        client_done.notified().await;
    };
    tokio::select! {
        () = upload(&mut from_client, &mut to_database, &client_done) => {}
        () = down => {}
    }
    let _ = to_client.close().await;

    shared.counts.open_channels.fetch_sub(1, Relaxed);
    shared.pulse.beat();
}

/// Ends when the channel is closed or the database takes no more. The client's
/// end of data is passed on, and noted in `client_done`.
async fn upload(from: &mut ChannelReadHalf, to: &mut tcp::OwnedWriteHalf, client_done: &Notify) {
    while let Some(message) = from.wait().await {
        match message {
            ChannelMsg::Data { data } => match to.write_all(&data).await {
                Ok(()) => {}
                Err(_) => return,
            },
            ChannelMsg::Eof => {
                let _ = to.shutdown().await;
                client_done.notify_one();
            }
            ChannelMsg::Close => return,
            _ => {}
        }
    }
}

/// Ends when the database has sent everything and the client was told so.
async fn download(from: &mut tcp::OwnedReadHalf, to: &ChannelWriteHalf<Msg>) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(BUFFER);
        match from.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {
                if to.data_bytes(buffer.split().freeze()).await.is_err() {
                    return;
                }
            }
        }
    }
    let _ = to.eof().await;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
