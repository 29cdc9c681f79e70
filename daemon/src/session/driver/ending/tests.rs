use std::sync::Arc;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    time::{Instant, timeout},
};

use super::*;
use crate::proxy::testing::{FakeDatabase, World, until};

const HOUR: Duration = Duration::from_secs(3600);

/// A client's first packet.
const STARTUP: &[u8] = b"\0\0\0\x14\0\x03\0\0user\0sushi\0\0";

/// A session that ends, with clients.
struct Ending {
    world: World,
    gateway: Arc<Gateway<FakeDatabase>>,
    commands: mpsc::Sender<Command>,
    inbox: mpsc::Receiver<Command>,
}

impl Ending {
    fn new() -> Self {
        let world = World::new(0);
        let (commands, inbox) = mpsc::channel(4);
        Self {
            gateway: Arc::new(world.gateway()),
            world,
            commands,
            inbox,
        }
    }

    /// A client that has its connection and has asked nothing.
    async fn client(&self) -> DuplexStream {
        let (mut client, ours) = duplex(1024);
        self.gateway.begin(ours);
        client.write_all(STARTUP).await.unwrap();
        let mut greeted = Vec::new();
        while !greeted.ends_with(b"Z\0\0\0\x05I") {
            greeted.push(client.read_u8().await.unwrap());
        }
        client
    }

    /// One that waits for an answer that doesn't come.
    async fn client_at_work(&self) -> DuplexStream {
        let mut client = self.client().await;
        let backend = self.world.database.backends().len() - 1;
        self.world.database.hang(backend);
        client.write_all(b"Q\0\0\0\x06?\0").await.unwrap();
        client
    }

    async fn close_within(&self, grace: Duration, cause: Cause) {
        let request = CloseRequest::within(grace, cause);
        self.commands.send(Command::Close(request)).await.unwrap();
    }

    /// Drains with a grace; answers why those that are left are ended.
    async fn drain(&mut self, grace: Duration, cause: Cause) -> Cause {
        let request = CloseRequest::within(grace, cause);
        let draining = drain(&self.gateway, request, &mut self.inbox);
        timeout(HOUR * 2, draining).await.unwrap()
    }
}

/// The SQLSTATE of the last words that a client hears.
async fn last_words(client: &mut DuplexStream) -> String {
    let mut heard = Vec::new();
    let reading = timeout(HOUR, client.read_to_end(&mut heard));
    reading.await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&heard).into_owned();
    let sqlstate = text.split('\0').find_map(|field| field.strip_prefix('C'));
    sqlstate.unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_nothing_ends_long_before_the_deadline() {
    let mut ending = Ending::new();
    let mut client = ending.client().await;
    let began = Instant::now();
    let reading = tokio::spawn(async move { last_words(&mut client).await });
    assert_eq!(
        ending.drain(HOUR, Cause::SessionClosing).await,
        Cause::SessionClosing
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(reading.await.unwrap(), "57P01");
}

#[tokio::test(start_paused = true)]
async fn a_client_at_work_has_until_the_deadline_and_is_told() {
    let mut ending = Ending::new();
    let mut client = ending.client_at_work().await;
    let began = Instant::now();
    let cause = ending.drain(HOUR, Cause::SessionExpired).await;
    assert_eq!(began.elapsed(), HOUR);
    let reading = tokio::spawn(async move { last_words(&mut client).await });
    timeout(END_LIMIT, cut(&ending.gateway, cause))
        .await
        .unwrap();
    assert_eq!(reading.await.unwrap(), "57P01");
    until(|| ending.world.database.connections() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn whoever_is_in_a_greater_hurry_shortens_the_grace() {
    let mut ending = Ending::new();
    let _client = ending.client_at_work().await;
    let soon = Duration::from_secs(5);
    ending.close_within(soon, Cause::DaemonStopping).await;
    // One with more time than that changes nothing.
    ending.close_within(HOUR * 2, Cause::SessionExpired).await;
    let began = Instant::now();
    assert_eq!(
        ending.drain(HOUR, Cause::SessionClosing).await,
        Cause::DaemonStopping
    );
    assert_eq!(began.elapsed(), soon);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_keeps_no_session_beyond_its_limit() {
    let mut ending = Ending::new();
    // Room for the first answer of its log-in, and not for the greeting.
    let (mut client, ours) = duplex(16);
    ending.gateway.begin(ours);
    client.write_all(STARTUP).await.unwrap();
    let is_in = || {
        let backends = ending.world.database.backends();
        backends.first().is_some_and(|first| first.is_logged_in)
    };
    until(is_in).await;
    let cause = ending.drain(Duration::ZERO, Cause::DaemonStopping).await;
    timeout(END_LIMIT, cut(&ending.gateway, cause))
        .await
        .unwrap();
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ends_rotates_nothing() {
    let mut ending = Ending::new();
    let _client = ending.client_at_work().await;
    let (reply, answer) = tokio::sync::oneshot::channel();
    let asked = crate::platform::clock::Clock::now();
    let rotate = Command::Rotate { asked, reply };
    ending.commands.send(rotate).await.unwrap();
    ending.drain(HOUR, Cause::SessionClosing).await;
    assert_eq!(answer.await, Ok(Err(Cause::SessionClosing)));
}
