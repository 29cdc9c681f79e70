use std::future::Future;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

const QUERY: &[u8] = b"Q\0\0\0\x0dselect 1\0";
const READY: &[u8] = b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
const IN_TRANSACTION: &[u8] = b"C\0\0\0\x0aBEGIN\0Z\0\0\0\x05T";
const GOODBYE: &[u8] = b"E\0\0\0\x0fSFATAL\0..\0\0";

/// A relay with its far ends.
struct Ends {
    client: DuplexStream,
    database: DuplexStream,
}

/// Runs `splicing` on a relay while `talking` is at its far ends.
async fn with<T, S, F>(
    tracker: Option<ProtocolTracker>,
    splicing: impl AsyncFnOnce(Relay<'_, DuplexStream, DuplexStream>) -> S,
    talking: impl FnOnce(Ends) -> F,
) -> (S, T)
where
    F: Future<Output = T>,
{
    let (client, mut near_client) = duplex(1024);
    let (near_database, database) = duplex(1024);
    let (counters, live) = (Counters::default(), Live::default());
    let observer = RelayObserver {
        counters: &counters,
        live: &live,
        on_changed_log_ins: &|| {},
    };
    let relay = Relay::new(&mut near_client, near_database, tracker, observer);
    tokio::join!(splicing(relay), talking(Ends { client, database }))
}

async fn read(stream: &mut DuplexStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn rest(mut stream: DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

#[tokio::test]
async fn bytes_pass_both_ways_and_the_client_ends_it() {
    let big: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (stopped, ()) = with(
        None,
        async |mut relay| {
            let stopped = relay.run().await;
            relay.close().await;
            stopped
        },
        async |Ends { client, database }| {
            let (mut from_client, mut to_client) = tokio::io::split(client);
            let (mut from_database, mut to_database) = tokio::io::split(database);
            let send = async {
                to_client.write_all(&big).await.unwrap();
                to_client.shutdown().await.unwrap();
            };
            let echo = async {
                tokio::io::copy(&mut from_database, &mut to_database)
                    .await
                    .unwrap();
                to_database.shutdown().await.unwrap();
            };
            let mut heard = Vec::new();
            let hear = from_client.read_to_end(&mut heard);
            let _ = tokio::join!(send, echo, async { hear.await.unwrap() });
            assert!(heard == big, "{} bytes", heard.len());
        },
    )
    .await;
    assert!(matches!(stopped, Stopped::Client(None)), "{stopped:?}");
}

#[tokio::test]
async fn what_the_database_said_last_is_passed_on_before_its_end() {
    let (stopped, heard) = with(
        Some(ProtocolTracker::new()),
        async |mut relay| {
            let stopped = relay.run().await;
            relay.close().await;
            stopped
        },
        async |Ends {
                   client,
                   mut database,
               }| {
            database.write_all(GOODBYE).await.unwrap();
            drop(database);
            rest(client).await
        },
    )
    .await;
    assert!(matches!(stopped, Stopped::Database(None)), "{stopped:?}");
    assert_eq!(heard, GOODBYE);
}

#[tokio::test]
async fn an_idle_connection_is_told_and_the_database_too() {
    let ((), (client, database)) = with(
        Some(ProtocolTracker::new()),
        async |mut relay| {
            assert!(matches!(relay.run_until_idle().await, Stopped::Idle));
            relay.close_with_error(GOODBYE).await;
        },
        async |Ends { client, database }| tokio::join!(rest(client), rest(database)),
    )
    .await;
    assert_eq!(client, GOODBYE);
    assert_eq!(database, last_words::TERMINATE);
}

#[tokio::test]
async fn a_transaction_ends_before_its_connection_does() {
    let ((), heard) = with(
        Some(ProtocolTracker::new()),
        async |mut relay| {
            // Something is asked already when the end is near.
            let first = timeout(Duration::from_millis(50), relay.run()).await;
            assert!(first.is_err());
            assert!(matches!(relay.run_until_idle().await, Stopped::Idle));
            relay.close_with_error(GOODBYE).await;
        },
        async |Ends {
                   mut client,
                   mut database,
               }| {
            client.write_all(QUERY).await.unwrap();
            read(&mut database, QUERY.len()).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            database.write_all(IN_TRANSACTION).await.unwrap();
            read(&mut client, IN_TRANSACTION.len()).await;
            client.write_all(QUERY).await.unwrap();
            read(&mut database, QUERY.len()).await;
            database.write_all(READY).await.unwrap();
            rest(client).await
        },
    )
    .await;
    assert_eq!(heard, [READY, GOODBYE].concat());
}

#[tokio::test]
async fn within_a_message_nothing_is_said() {
    for (sent, told) in [(&b"D\0\0\0\x08ab"[..], false), (b"D\0\0\0\x08abcd", true)] {
        let ((), heard) = with(
            Some(ProtocolTracker::new()),
            async |mut relay| {
                relay.run().await;
                relay.close_with_error(GOODBYE).await;
            },
            async |Ends {
                       client,
                       mut database,
                   }| {
                database.write_all(sent).await.unwrap();
                drop(database);
                rest(client).await
            },
        )
        .await;
        let wanted = if told {
            [sent, GOODBYE].concat()
        } else {
            sent.to_vec()
        };
        assert_eq!(heard, wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_reads_nothing_is_not_waited_for() {
    let relaying = with(
        Some(ProtocolTracker::new()),
        async |mut relay| {
            let stuck = timeout(Duration::from_secs(1), relay.run()).await;
            assert!(stuck.is_err(), "it waits for the client: {stuck:?}");
            relay.close_with_error(GOODBYE).await;
        },
        async |Ends {
                   client,
                   mut database,
               }| {
            let taken = timeout(Duration::from_secs(5), database.write_all(&[0; 500_000])).await;
            // Both stay open: nothing but a limit of its own ends the relay.
            (client, taken.is_ok_and(|written| written.is_ok()))
        },
    );
    let ended = timeout(Duration::from_secs(60), relaying).await;
    let ((), (client, all_was_taken)) = ended.expect("the relay ends by itself");
    assert!(!all_was_taken);
    // The error can't be said within what the client has not read.
    assert!(!rest(client).await.ends_with(GOODBYE));
}

/// A client whose connection breaks once it has said all, as TLS without close_notify and a
/// reset do, and which takes nothing once it `is_gone`.
struct Breaking {
    says: &'static [u8],
    is_gone: bool,
    heard: Vec<u8>,
}

impl AsyncRead for Breaking {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.says.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let (now, later) = self.says.split_at(self.says.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.says = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Breaking {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_gone {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.heard.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Joins a client to a database that takes a few bytes at a time.
async fn with_client<C, T>(
    mut client: C,
    talking: impl AsyncFnOnce(DuplexStream) -> T,
) -> (C, Stopped, T)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let (near_database, database) = duplex(64);
    let (counters, live) = (Counters::default(), Live::default());
    let observer = RelayObserver {
        counters: &counters,
        live: &live,
        on_changed_log_ins: &|| {},
    };
    let tracker = Some(ProtocolTracker::new());
    let running = async {
        let mut relay = Relay::new(&mut client, near_database, tracker, observer);
        let stopped = relay.run().await;
        relay.close().await;
        stopped
    };
    let (stopped, heard) = tokio::join!(running, talking(database));
    (client, stopped, heard)
}

static LONG: [u8; 300_000] = [7; 300_000];

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_a_connection_broke_arrives_and_is_answered() {
    for says in [QUERY, &LONG] {
        for is_gone in [false, true] {
            let client = Breaking {
                says,
                is_gone,
                heard: Vec::new(),
            };
            let (client, stopped, heard) = with_client(client, async |mut database| {
                // A word in between must not end it, whether or not anybody takes it.
                database.write_all(&READY[..5]).await.unwrap();
                let mut heard = Vec::new();
                database.read_to_end(&mut heard).await.unwrap();
                database.write_all(&READY[5..]).await.unwrap();
                heard
            })
            .await;
            assert!(heard == says, "{} of {} bytes", heard.len(), says.len());
            assert!(matches!(stopped, Stopped::Client(Some(_))), "{stopped:?}");
            assert_eq!(client.heard, if is_gone { b"" } else { READY });
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_database_at_work_for_nobody_is_not_waited_for_without_end() {
    let client = Breaking {
        says: QUERY,
        is_gone: true,
        heard: Vec::new(),
    };
    let began = tokio::time::Instant::now();
    let (_, stopped, ()) = with_client(client, async |mut database| {
        let mut heard = Vec::new();
        database.read_to_end(&mut heard).await.unwrap();
        // It still works when its channel is closed.
        while database.write_all(READY).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await;
    assert!(matches!(stopped, Stopped::Client(_)), "{stopped:?}");
    assert_eq!(began.elapsed().as_secs(), GONE_LIMIT.as_secs());
}

/// Both sides of a connection on which the client always has more to say and the database
/// always takes it.
struct Uploading {
    said: usize,
    heard: usize,
}

impl AsyncRead for Uploading {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // The test's own end, should nobody else ever have a turn.
        if self.heard > 0 || self.said > 1_000_000_000 {
            return Poll::Ready(Ok(()));
        }
        self.said += buffer.remaining();
        let more = buffer.initialize_unfilled().len();
        buffer.advance(more);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Uploading {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.heard += bytes.len();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn an_upload_does_not_starve_the_other_direction() {
    let mut client = Uploading { said: 0, heard: 0 };
    // It says one word and takes everything.
    let database = tokio::io::join(READY, tokio::io::sink());
    let (counters, live) = (Counters::default(), Live::default());
    let observer = RelayObserver {
        counters: &counters,
        live: &live,
        on_changed_log_ins: &|| {},
    };
    let mut relay = Relay::new(&mut client, database, None, observer);
    let _ = relay.run().await;
    assert_eq!(client.heard, READY.len());
    assert!(
        client.said <= 2 * ROUNDS * UP,
        "{} bytes before",
        client.said
    );
}

#[tokio::test]
async fn state_and_bytes_of_the_connection_are_noted_as_they_change() {
    let (mut client, mut near_client) = duplex(1024);
    let (near_database, mut database) = duplex(1024);
    let (counters, live) = (Counters::default(), Live::default());
    let observer = RelayObserver {
        counters: &counters,
        live: &live,
        on_changed_log_ins: &|| {},
    };
    let tracker = Some(ProtocolTracker::new());
    let mut relay = Relay::new(&mut near_client, near_database, tracker, observer);
    let talking = async {
        assert_eq!(live.state().0, State::Idle);
        client.write_all(QUERY).await.unwrap();
        read(&mut database, QUERY.len()).await;
        assert_eq!(live.state().0, State::Active);
        database.write_all(IN_TRANSACTION).await.unwrap();
        read(&mut client, IN_TRANSACTION.len()).await;
        assert_eq!(live.state().0, State::IdleInTransaction);
        let since = live.state().1;
        // What the server says unasked is no change.
        let notice = b"N\0\0\0\x05\0";
        database.write_all(notice).await.unwrap();
        read(&mut client, notice.len()).await;
        assert_eq!(live.state(), (State::IdleInTransaction, since));
        drop((client, database));
    };
    let (_, ()) = tokio::join!(relay.run(), talking);
    let received = IN_TRANSACTION.len() as u64 + 6;
    assert_eq!(live.bytes(), (QUERY.len() as u64, received));
    // Of bytes that aren't looked at nothing is known.
    let _ = Relay::new(&mut near_client, tokio::io::empty(), None, observer);
    assert_eq!(live.state().0, State::Passthrough);
}
