//! Takes a channel's messages in its reader's place, until the reader has caught up.

use std::{future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use russh::ChannelMsg;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

use super::{budget::TunnelBudget, spill::SpillBuffer};

/// Where there is no room left for what a client doesn't take, the line waits for it, and so do
/// the others on it; unless it has taken nothing for this long, which ends its connection.
const STALLED: Duration = Duration::from_secs(3);

const CUT_OFF: &str =
    "a client that had stopped reading kept others from their results, and was cut off";
const LOST: &str = "what was put aside for a client that read slowly is lost";

/// What stands between a queue and a reader that doesn't keep up.
pub(super) struct Pump<Q> {
    queue: Q,
    reader: mpsc::Sender<Bytes>,
    backlog: SpillBuffer,
    /// How many channels share the line.
    channels: watch::Receiver<usize>,
    /// Once it is known how the channel ended.
    end: Option<End>,
    last_taken: Instant,
    /// Since when there has been no room.
    full_since: Option<Instant>,
    has_begun: bool,
}

/// How a channel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The server said so.
    Proper,
    /// With its tunnel.
    Broken,
}

/// What a pump has to do next.
enum Next {
    Message(Option<ChannelMsg>),
    /// The reader takes another message.
    Room,
    /// Nobody reads any more.
    Gone,
    Overdue,
}

// === impl Pump ===

impl<Q: Stream<Item = ChannelMsg> + Unpin> Pump<Q> {
    pub(super) fn new(
        queue: Q,
        reader: mpsc::Sender<Bytes>,
        budget: &Arc<TunnelBudget>,
        channels: watch::Receiver<usize>,
    ) -> Self {
        Self {
            queue,
            reader,
            backlog: SpillBuffer::new(Arc::clone(budget)),
            channels,
            end: None,
            last_taken: Instant::now(),
            full_since: None,
            has_begun: false,
        }
    }

    /// Works until the reader has taken all that came, and nothing is on its way to it. Gives
    /// the queue back then, unless the channel has ended or nobody reads it any more.
    ///
    /// # Errors
    /// Why it gives the channel up.
    pub(super) async fn run(mut self) -> Result<Option<Q>, &'static str> {
        loop {
            if let (Some(end), true) = (self.end, self.backlog.is_empty()) {
                self.pass_on(end).await;
                return Ok(None);
            }
            self.full_since = match self.full_since {
                _ if !self.backlog.is_full() => None,
                None => Some(Instant::now()),
                since => since,
            };
            let may_take = self.end.is_none() && self.full_since.is_none();
            let overdue = overdue(self.full_since, self.last_taken, self.channels.clone());
            let next = tokio::select! {
                message = self.queue.next(), if may_take => Next::Message(message),
                room = self.reader.reserve(), if self.has_begun => match room {
                    Ok(_) => Next::Room,
                    Err(_) => Next::Gone,
                },
                () = self.reader.closed() => Next::Gone,
                () = overdue => Next::Overdue,
            };
            match next {
                Next::Message(message) => self.on_message(message).await,
                // The reader has taken the last that there was.
                Next::Room if self.backlog.is_empty() => return Ok(Some(self.queue)),
                Next::Room => self.on_room().await?,
                Next::Gone => return Ok(None),
                Next::Overdue => return Err(CUT_OFF),
            }
        }
    }

    async fn on_message(&mut self, message: Option<ChannelMsg>) {
        match message {
            Some(ChannelMsg::Data { data }) if data.is_empty() => {}
            Some(ChannelMsg::Data { data }) => {
                self.has_begun = true;
                self.backlog.push(data).await;
            }
            Some(ChannelMsg::Eof | ChannelMsg::Close) => self.end = Some(End::Proper),
            Some(_) => {}
            None => self.end = Some(End::Broken),
        }
    }

    /// Hands on the oldest of what is kept.
    async fn on_room(&mut self) -> Result<(), &'static str> {
        let oldest = self.backlog.pop().await.map_err(|error| {
            tracing::error!(%error, "can't read back what was put aside for a client");
            LOST
        })?;
        if let Some(bytes) = oldest {
            // Nobody else could have taken the room.
            let _ = self.reader.try_send(bytes);
        }
        self.last_taken = Instant::now();
        Ok(())
    }

    async fn pass_on(&self, end: End) {
        if end == End::Proper {
            // Who doesn't take it has gone.
            let _ = self.reader.send(Bytes::new()).await;
        }
    }
}

/// Completes when a client has taken nothing for too long while there was no room and others
/// shared the line. Alone it may wait as long as it likes.
async fn overdue(
    full_since: Option<Instant>,
    last_taken: Instant,
    mut channels: watch::Receiver<usize>,
) {
    let Some(full_since) = full_since else {
        return pending().await;
    };
    let mut begins = full_since.max(last_taken);
    loop {
        if *channels.borrow_and_update() <= 1 {
            if channels.wait_for(|channels| *channels > 1).await.is_err() {
                return pending().await;
            }
            begins = Instant::now();
        }
        sleep_until(begins + STALLED).await;
        if *channels.borrow() > 1 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};
    use tokio_stream::wrappers::ReceiverStream;

    use super::{
        super::{budget::ProcessBudget, spill::BLOCK},
        *,
    };

    struct Bench {
        server: mpsc::Sender<ChannelMsg>,
        client: mpsc::Receiver<Bytes>,
        channels: watch::Sender<usize>,
        running: tokio::task::JoinHandle<Result<Option<ReceiverStream<ChannelMsg>>, &'static str>>,
    }

    fn data(length: usize) -> ChannelMsg {
        ChannelMsg::Data {
            data: vec![7; length].into(),
        }
    }

    /// With no room on disk and hardly any in memory.
    fn bench(channels: usize) -> Bench {
        let (server, queue) = mpsc::channel(1000);
        let (reader, client) = mpsc::channel(1);
        let channels = watch::Sender::new(channels);
        let budget = ProcessBudget::new(4 * BLOCK, 0).for_tunnel();
        let pump = Pump::new(
            ReceiverStream::new(queue),
            reader,
            &budget,
            channels.subscribe(),
        );
        Bench {
            server,
            client,
            channels,
            running: tokio::spawn(pump.run()),
        }
    }

    impl Bench {
        async fn send(&self, pieces: usize) {
            for _ in 0..pieces {
                self.server.send(data(32 * 1024)).await.unwrap();
            }
        }

        /// Waits until the pump has taken all that was sent.
        async fn all_is_taken(&self) {
            let room = self.server.max_capacity();
            drop(self.server.reserve_many(room).await.unwrap());
        }

        /// Whether it is given up within this time, and not at once.
        async fn is_cut_off_within(&mut self, limit: Duration) -> bool {
            match timeout(limit, &mut self.running).await {
                Ok(ended) => ended.unwrap().err() == Some(CUT_OFF),
                Err(_) => false,
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_catches_up_gets_the_queue_back() {
        let mut bench = bench(2);
        bench.send(3).await;
        bench.all_is_taken().await;
        for _ in 0..3 {
            assert_eq!(bench.client.recv().await.unwrap().len(), 32 * 1024);
        }
        assert_eq!(bench.client.recv().await, None);
        let queue = bench.running.await.unwrap().unwrap();
        bench.server.send(data(1)).await.unwrap();
        assert!(queue.unwrap().next().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_does_not_get_it_back() {
        // Which of two ready things is done first is drawn.
        for _ in 0..32 {
            let mut bench = bench(2);
            bench.send(5).await;
            let taken = timeout(STALLED / 2, bench.all_is_taken()).await;
            assert!(taken.is_ok(), "something is left in the queue");
            assert!(!bench.running.is_finished());
            assert!(bench.client.try_recv().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_nothing_is_cut_off_after_its_time_and_not_before() {
        let mut bench = bench(2);
        // It had kept up for long, or had nothing to take.
        advance(Duration::from_secs(300)).await;
        bench.send(100).await;
        let almost = STALLED - Duration::from_millis(1);
        assert!(!bench.is_cut_off_within(almost).await);
        // One message is a sign of life.
        assert!(bench.client.recv().await.is_some());
        assert!(!bench.is_cut_off_within(almost).await);
        assert!(bench.is_cut_off_within(Duration::from_millis(2)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn alone_it_may_wait_and_with_company_it_still_has_its_time() {
        let mut bench = bench(1);
        bench.send(100).await;
        assert!(!bench.is_cut_off_within(Duration::from_secs(3600)).await);
        bench.channels.send_replace(2);
        assert!(!bench.is_cut_off_within(STALLED / 2).await);
        bench.channels.send_replace(1);
        assert!(!bench.is_cut_off_within(Duration::from_secs(3600)).await);
        bench.channels.send_replace(2);
        assert!(bench.is_cut_off_within(2 * STALLED).await);
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_came_is_passed_on_before_the_end() {
        let mut bench = bench(1);
        bench.send(10).await;
        bench.server.send(ChannelMsg::Eof).await.unwrap();
        bench.all_is_taken().await;
        let mut received = 0;
        loop {
            match bench.client.recv().await {
                Some(bytes) if bytes.is_empty() => break,
                Some(bytes) => received += bytes.len(),
                None => panic!("no end"),
            }
        }
        assert_eq!(received, 10 * 32 * 1024);
        assert!(bench.running.await.unwrap().unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_reader_it_ends() {
        let bench = bench(2);
        bench.send(5).await;
        drop(bench.client);
        assert!(bench.running.await.unwrap().unwrap().is_none());
    }
}
