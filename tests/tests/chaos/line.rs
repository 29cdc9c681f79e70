//! A line between the daemon and the bastion that can go silent, or be a bad one: TCP on
//! both sides and a relay in between, which needs no rights.

use std::{
    net::{SocketAddr, TcpListener as StdListener},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::Duration,
};

use rand::RngExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Runtime,
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};

/// The relay. It ends when this is dropped.
pub(super) struct Line {
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

struct Shared {
    bastion: AtomicU16,
    /// What is connected when this changes is silent from then on.
    mutings: watch::Sender<u64>,
    quality: watch::Sender<Quality>,
}

/// How long bytes are under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quality {
    /// In each direction.
    pub(super) delay: Duration,
    /// Of a hundred segments so many are lost and sent again, perhaps several times.
    pub(super) loss: u32,
}

/// TCP's first wait before it sends again; it doubles.
const RETRANSMISSION: Duration = Duration::from_millis(200);

// === impl Line ===

impl Line {
    /// Listens on an address; leads nowhere yet.
    pub(super) fn listen(listener: StdListener) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let shared = Arc::new(Shared {
            bastion: AtomicU16::new(0),
            mutings: watch::Sender::new(0),
            quality: watch::Sender::new(Quality {
                delay: Duration::ZERO,
                loss: 0,
            }),
        });
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let serving = Arc::clone(&shared);
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(relay(stream, Arc::clone(&serving)));
            }
        });
        Self {
            address,
            shared,
            _runtime: runtime,
        }
    }

    /// Listens on a port of loopback.
    pub(super) fn on_loopback() -> Self {
        Self::listen(StdListener::bind("127.0.0.1:0").unwrap())
    }

    /// Where the daemon is to find the bastion.
    pub(super) fn address(&self) -> (String, u16) {
        (self.address.ip().to_string(), self.address.port())
    }

    /// Leads to the bastion's port on 127.0.0.1.
    pub(super) fn lead_to(&self, bastion: u16) {
        self.shared.bastion.store(bastion, Relaxed);
    }

    /// Nothing passes any more on the connections there are, and nobody is told: what a
    /// router does that has forgotten them. New ones are as good as ever.
    pub(super) fn mute(&self) {
        self.shared.mutings.send_modify(|count| *count += 1);
    }

    pub(super) fn set_quality(&self, quality: Quality) {
        self.shared.quality.send_replace(quality);
    }
}

async fn relay(near: TcpStream, shared: Arc<Shared>) {
    let bastion = ("127.0.0.1", shared.bastion.load(Relaxed));
    let Ok(far) = TcpStream::connect(bastion).await else {
        return;
    };
    let _ = near.set_nodelay(true);
    let _ = far.set_nodelay(true);
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let quality = || shared.quality.subscribe();
    let mut muted = shared.mutings.subscribe();
    let passing = async {
        tokio::select! {
            () = pass(near_read, far_write, quality()) => {}
            () = pass(far_read, near_write, quality()) => {}
        }
    };
    tokio::pin!(passing);
    tokio::select! {
        () = &mut passing => {}
        // Both sockets stay open, and nobody reads or writes them.
        _ = muted.changed() => std::future::pending().await,
    }
}

/// One direction, in order, each piece as late as the line makes it.
async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, quality: watch::Receiver<Quality>) {
    let (send, mut due) = mpsc::channel::<(Instant, Vec<u8>)>(64);
    let reading = async move {
        let mut buffer = vec![0; 32 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            let late = lateness(*quality.borrow());
            let piece = (Instant::now() + late, buffer[..length].to_vec());
            if send.send(piece).await.is_err() {
                break;
            }
        }
    };
    let writing = async {
        while let Some((at, piece)) = due.recv().await {
            sleep_until(at).await;
            if to.write_all(&piece).await.is_err() {
                break;
            }
        }
    };
    tokio::join!(reading, writing);
}

fn lateness(quality: Quality) -> Duration {
    let mut late = quality.delay;
    let mut wait = RETRANSMISSION + quality.delay * 2;
    while rand::rng().random_range(0..100) < quality.loss {
        late += wait;
        wait *= 2;
    }
    late
}

/// Lets time pass that a fault is to last.
pub(super) fn last(time: Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async { sleep(time).await });
}
