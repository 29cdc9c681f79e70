use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;

use super::*;
use crate::tunnels::policy::{MAX_TUNNELS, PROMPT, SPARE_FOR};

/// What the dials of a test's bastion come to, each in its turn; the last one for ever.
#[derive(Clone)]
enum Answer {
    /// A tunnel, after so long.
    Tunnel(Duration),
    /// Nothing, for ever.
    Silence,
    /// A refusal, after so long.
    Refusal(Duration, Cause),
}

/// A bastion: what dials of it come to, and what it has seen.
#[derive(Clone)]
struct Bastion(Arc<Seen>);

struct Seen {
    answers: Mutex<Vec<Answer>>,
    dials: AtomicUsize,
    under_way: AtomicUsize,
    generation: AtomicUsize,
    /// Channels are opened as long as it has permits.
    opens: Semaphore,
}

/// A tunnel to it.
#[derive(Clone)]
struct FakeLink(Arc<Line>);

struct Line {
    number: usize,
    generation: Generation,
    channels: AtomicUsize,
    closed: CancellationToken,
    silent: bool,
    bastion: Bastion,
}

/// A channel, counted while it lives.
struct FakeChannel(FakeLink);

/// Counts dials under way.
struct UnderWay(Bastion);

const HANDSHAKE: Duration = Duration::from_millis(300);
const SECOND: Duration = Duration::from_secs(1);

// === impl Bastion ===

impl Bastion {
    fn new(answers: &[Answer]) -> Self {
        Self(Arc::new(Seen {
            answers: Mutex::new(answers.to_vec()),
            dials: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            generation: AtomicUsize::new(1),
            opens: Semaphore::new(Semaphore::MAX_PERMITS),
        }))
    }

    fn answers(&self, answers: &[Answer]) {
        *self
            .0
            .answers
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = answers.to_vec();
    }

    fn dials(&self) -> usize {
        self.0.dials.load(Ordering::SeqCst)
    }

    fn under_way(&self) -> usize {
        self.0.under_way.load(Ordering::SeqCst)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Dial for Bastion {
    type Link = FakeLink;

    async fn dial(&self, _which: Dialled) -> Result<(FakeLink, Duration), Cause> {
        let answer = {
            let mut answers = self
                .0
                .answers
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let next = answers[0].clone();
            if answers.len() > 1 {
                answers.remove(0);
            }
            next
        };
        let number = self.0.dials.fetch_add(1, Ordering::SeqCst);
        let generation = Generation(self.0.generation.load(Ordering::SeqCst) as u64);
        self.0.under_way.fetch_add(1, Ordering::SeqCst);
        let _under_way = UnderWay(self.clone());
        match answer {
            Answer::Tunnel(after) => {
                sleep(after).await;
                let line = Line {
                    number,
                    generation,
                    channels: AtomicUsize::new(0),
                    closed: CancellationToken::new(),
                    silent: false,
                    bastion: self.clone(),
                };
                Ok((FakeLink(Arc::new(line)), after))
            }
            Answer::Silence => std::future::pending().await,
            Answer::Refusal(after, cause) => {
                sleep(after).await;
                Err(cause)
            }
        }
    }
}

// === impl FakeLink ===

impl Link for FakeLink {
    type Reserved = FakeChannel;
    type Channel = FakeChannel;
    type Closing = usize;

    fn generation(&self) -> Generation {
        self.0.generation
    }

    fn round_trip(&self) -> Duration {
        Duration::from_millis(1)
    }

    fn shift(&self) -> u32 {
        0
    }

    fn channels(&self) -> usize {
        self.0.channels.load(Ordering::SeqCst)
    }

    fn is_closed(&self) -> bool {
        self.0.closed.is_cancelled()
    }

    fn is_jammed(&self) -> bool {
        false
    }

    fn is_busy(&self) -> bool {
        false
    }

    fn loss(&self) -> Cause {
        lost()
    }

    fn reserve(&self) -> FakeChannel {
        self.0.channels.fetch_add(1, Ordering::SeqCst);
        FakeChannel(self.clone())
    }

    async fn open(reserved: FakeChannel, _server: &HostPort) -> Result<FakeChannel, Cause> {
        let line = &reserved.0.0;
        tokio::select! {
            permit = line.bastion.0.opens.acquire() => drop(permit),
            () = line.closed.cancelled() => return Err(lost()),
        }
        if line.closed.is_cancelled() || line.silent {
            return Err(lost());
        }
        Ok(reserved)
    }

    fn ended(&self) -> impl Future<Output = Cause> + Send + 'static {
        let closed = self.0.closed.clone();
        async move {
            closed.cancelled().await;
            lost()
        }
    }

    async fn probe(&self, _limit: Duration) -> Liveness {
        if self.is_closed() {
            Liveness::Silent
        } else {
            Liveness::Alive
        }
    }

    fn cut(&self, _detail: &str) {
        self.0.closed.cancel();
    }

    fn carries(&self, closing: &usize) -> bool {
        self.0.number == *closing
    }
}

impl Drop for FakeChannel {
    fn drop(&mut self) {
        self.0.0.channels.fetch_sub(1, Ordering::SeqCst);
    }
}

// === helpers ===

fn lost() -> Cause {
    Cause::TunnelLost {
        detail: "the line went silent".into(),
    }
}

fn server() -> HostPort {
    HostPort {
        host: "db".into(),
        port: 5432,
    }
}

fn closed_by_bastion() -> Cause {
    Cause::BastionBusy {
        bastion: server(),
        said: None,
    }
}

fn unreachable() -> Cause {
    Cause::BastionUnreachable {
        bastion: server(),
        detail: "no answer within 15 s".into(),
    }
}

const FAST: Answer = Answer::Tunnel(HANDSHAKE);

/// A pool that is up, with `count` connections, each on a tunnel of its own.
async fn in_use(bastion: &Bastion, count: usize) -> (Pool<Bastion>, Vec<FakeChannel>) {
    let pool = Pool::new(bastion.clone());
    pool.connect(None).await.unwrap();
    let mut channels = Vec::new();
    for _ in 0..count {
        channels.push(pool.channel(&server()).await.unwrap());
    }
    (pool, channels)
}

/// Lets everything that can happen without time passing happen.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_that_want_a_first_tunnel_share_one_dial() {
    let bastion = Bastion::new(&[FAST]);
    let pool = Pool::new(bastion.clone());
    let waiting = futures_util::future::join_all((0..25).map(|_| pool.connect(None)));
    assert!(waiting.await.into_iter().all(|outcome| outcome.is_ok()));
    assert_eq!(bastion.dials(), 1);
    assert_eq!(*pool.level().borrow(), Level::Up);
    pool.connect(None).await.unwrap();
    assert_eq!(bastion.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_first_dial_ends_with_the_last_who_waits_for_it() {
    let bastion = Bastion::new(&[Answer::Silence]);
    let pool = Pool::new(bastion.clone());
    let (mut one, mut other) = (Box::pin(pool.connect(None)), Box::pin(pool.connect(None)));
    assert!(futures_util::poll!(&mut one).is_pending());
    assert!(futures_util::poll!(&mut other).is_pending());
    drop(one);
    assert_eq!((bastion.dials(), bastion.under_way()), (1, 1));
    drop(other);
    assert_eq!(bastion.under_way(), 0);
}

#[tokio::test(start_paused = true)]
async fn after_a_change_of_the_network_nobody_joins_a_dial_to_the_old_one() {
    let bastion = Bastion::new(&[Answer::Silence, FAST]);
    let pool = Pool::new(bastion.clone());
    let mut old = Box::pin(pool.connect(None));
    assert!(futures_util::poll!(&mut old).is_pending());
    sleep(PROMPT).await;
    // As long as nothing has changed it is waited for.
    let mut patient = Box::pin(pool.connect(None));
    assert!(futures_util::poll!(&mut patient).is_pending());
    assert_eq!(bastion.dials(), 1);
    pool.network_changed(1);
    pool.connect(None).await.unwrap();
    assert_eq!(bastion.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_loss_of_a_tunnel_is_none_while_there_is_another() {
    let bastion = Bastion::new(&[FAST]);
    let (pool, channels) = in_use(&bastion, 2).await;
    let mut level = pool.level();
    level.mark_unchanged();
    channels[0].0.cut("");
    settle().await;
    assert_eq!(*pool.level().borrow(), Level::Up);
    pool.channel(&server()).await.unwrap();
    for link in pool.inner.state.links() {
        link.cut("");
    }
    settle().await;
    assert_eq!(*level.borrow_and_update(), Level::Down(Some(lost())));
    pool.connect(None).await.unwrap();
    assert_eq!(*level.borrow_and_update(), Level::Up);
}

#[tokio::test(start_paused = true)]
async fn each_connection_has_a_tunnel_of_its_own_up_to_eight() {
    let bastion = Bastion::new(&[FAST]);
    let (pool, mut channels) = in_use(&bastion, 0).await;
    for _ in 0..12 {
        channels.push(pool.channel(&server()).await.unwrap());
        // The one that is to be ready for the next.
        sleep(HANDSHAKE * 2).await;
    }
    let mut tunnels: Vec<_> = channels.iter().map(|channel| channel.0.0.number).collect();
    tunnels[..MAX_TUNNELS].sort_unstable();
    assert_eq!(tunnels[..MAX_TUNNELS], [0, 1, 2, 3, 4, 5, 6, 7]);
    sleep(HANDSHAKE * 2).await;
    assert_eq!((bastion.dials(), pool.inner.state.links().len()), (8, 8));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_long_for_a_tunnel_of_its_own() {
    let bastion = Bastion::new(&[FAST]);
    let (pool, mut channels) = in_use(&bastion, 1).await;
    sleep(HANDSHAKE).await;
    channels.push(pool.channel(&server()).await.unwrap());
    settle().await;
    // From now on new connections get no answer, those that are up work.
    bastion.answers(&[Answer::Silence]);
    sleep(HANDSHAKE).await;
    let mut waits = Vec::new();
    for _ in 0..6 {
        let began = Instant::now();
        channels.push(pool.channel(&server()).await.unwrap());
        waits.push(began.elapsed());
    }
    // The one that was on its way, and then the first who finds out; the others don't wait.
    assert!(waits[0] <= HANDSHAKE, "{waits:?}");
    assert!(
        waits.iter().all(|waited| *waited <= HANDSHAKE * 2),
        "{waits:?}"
    );
    assert_eq!(waits[3..], [Duration::ZERO; 3]);
    assert!(bastion.under_way() <= 2, "{}", bastion.under_way());
}

#[tokio::test(start_paused = true)]
async fn a_dial_that_nobody_waits_for_any_more_makes_the_tunnel_all_the_same() {
    let bastion = Bastion::new(&[FAST]);
    let (pool, _channels) = in_use(&bastion, 1).await;
    sleep(HANDSHAKE * 2).await;
    bastion.answers(&[Answer::Tunnel(HANDSHAKE * 10)]);
    let second = pool.channel(&server()).await.unwrap();
    let database = server();
    let mut gone = Box::pin(pool.channel(&database));
    assert!(futures_util::poll!(&mut gone).is_pending());
    drop(gone);
    sleep(HANDSHAKE * 11).await;
    let third = pool.channel(&server()).await.unwrap();
    assert_ne!(third.0.0.number, second.0.0.number);
}

#[tokio::test(start_paused = true)]
async fn only_a_bastion_that_answers_and_refuses_is_full() {
    for (cause, dials_again) in [(closed_by_bastion(), false), (unreachable(), true)] {
        let bastion = Bastion::new(&[FAST]);
        let pool = Pool::new(bastion.clone());
        pool.connect(None).await.unwrap();
        bastion.answers(&[Answer::Refusal(HANDSHAKE, cause.clone()), Answer::Silence]);
        let _first = pool.channel(&server()).await.unwrap();
        sleep(HANDSHAKE * 2).await;
        assert_eq!(bastion.dials(), 2);
        let _second = pool.channel(&server()).await.unwrap();
        assert_eq!(bastion.dials() > 2, dials_again, "{cause}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_from_before_the_line_was_lost_is_forgotten() {
    let late = Answer::Refusal(Duration::from_secs(15), closed_by_bastion());
    let bastion = Bastion::new(&[FAST, late, FAST]);
    let (pool, channels) = in_use(&bastion, 1).await;
    settle().await;
    assert_eq!(bastion.under_way(), 1, "the one that is to be ready");
    channels[0].0.cut("");
    settle().await;
    // It goes the way of the tunnels beside which it was begun.
    assert_eq!(bastion.under_way(), 0);
    pool.connect(None).await.unwrap();
    sleep(Duration::from_secs(20)).await;
    let _one = pool.channel(&server()).await.unwrap();
    sleep(HANDSHAKE * 2).await;
    assert_eq!(pool.inner.state.links().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cancel_request_takes_its_connections_tunnel_and_never_dials() {
    let bastion = Bastion::new(&[FAST]);
    let (pool, channels) = in_use(&bastion, 3).await;
    sleep(HANDSHAKE * 2).await;
    bastion.answers(&[Answer::Silence]);
    let before = bastion.dials();
    let end = channels[1].0.0.number;
    for _ in 0..10 {
        let cancel = pool
            .channel_for_cancel(&server(), Some(&end))
            .await
            .unwrap();
        assert_eq!(cancel.0.0.number, end);
    }
    channels[1].0.cut("");
    let cancel = pool
        .channel_for_cancel(&server(), Some(&end))
        .await
        .unwrap();
    assert_ne!(cancel.0.0.number, end);
    assert_eq!(bastion.dials(), before);
    for link in pool.inner.state.links() {
        link.cut("");
    }
    let none = pool.channel_for_cancel(&server(), None).await.err();
    assert!(matches!(none, Some(Cause::TunnelLost { .. })), "{none:?}");
}

#[tokio::test(start_paused = true)]
async fn a_new_key_makes_a_tunnel_before_the_old_ones_retire() {
    let bastion = Bastion::new(&[FAST]);
    let (pool, channels) = in_use(&bastion, 2).await;
    sleep(HANDSHAKE * 2).await;
    bastion.0.generation.store(2, Ordering::SeqCst);
    let mut connecting = Box::pin(pool.connect(Some(Generation(2))));
    assert!(futures_util::poll!(&mut connecting).is_pending());
    assert_eq!(pool.inner.state.links()[0].generation(), Generation(1));
    let link = connecting.await.unwrap();
    assert_eq!(link.generation(), Generation(2));
    let generations: Vec<_> = pool
        .inner
        .state
        .links()
        .iter()
        .map(Link::generation)
        .collect();
    assert_eq!(generations, [Generation(2)]);
    // Connections keep the tunnels that they are on.
    assert!(channels.iter().all(|channel| !channel.0.is_closed()));
    assert_eq!(*pool.level().borrow(), Level::Up);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_opens_no_channels_is_given_up_and_not_asked_for_ever() {
    let bastion = Bastion::new(&[FAST]);
    let pool = Pool::new(bastion.clone());
    let link = pool.connect(None).await.unwrap();
    bastion.0.opens.close();
    let line = Arc::clone(&link.0);
    drop(link);
    line.closed.cancel();
    let outcome = pool.channel(&server()).await;
    assert!(matches!(outcome, Err(Cause::TunnelLost { .. })));
    settle().await;
    assert_eq!(*pool.level().borrow(), Level::Down(Some(lost())));
}

#[tokio::test(start_paused = true)]
async fn tunnels_that_nobody_uses_end_but_one() {
    let bastion = Bastion::new(&[FAST]);
    let (pool, channels) = in_use(&bastion, 5).await;
    sleep(HANDSHAKE * 2).await;
    assert_eq!(pool.inner.state.links().len(), 6);
    drop(channels);
    let left = || pool.inner.state.links().len();
    pool.prune(MAX_TUNNELS);
    sleep(SPARE_FOR - SECOND).await;
    pool.prune(MAX_TUNNELS);
    assert_eq!(left(), 6);
    sleep(SECOND).await;
    pool.prune(MAX_TUNNELS);
    assert_eq!(left(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_there_are_many_pools_none_keeps_spare_tunnels_for_long() {
    let bastion = Bastion::new(&[FAST]);
    let (pool, mut channels) = in_use(&bastion, 5).await;
    sleep(HANDSHAKE * 2).await;
    let left = || pool.inner.state.links().len();
    channels.truncate(2);
    // What was in use a moment ago may be wanted again.
    pool.prune(1);
    assert_eq!(left(), 6);
    sleep(SECOND).await;
    pool.prune(2);
    assert_eq!(left(), 4);
    pool.prune(1);
    assert_eq!(left(), 3, "two in use, one ready");
    assert!(channels.iter().all(|channel| !channel.0.is_closed()));
}

#[tokio::test(start_paused = true)]
async fn a_pool_ends_with_its_last_session_and_what_it_began_with_it() {
    let bastion = Bastion::new(&[FAST, Answer::Silence]);
    let (pool, channels) = in_use(&bastion, 1).await;
    settle().await;
    assert_eq!(bastion.under_way(), 1);
    drop(pool);
    settle().await;
    assert_eq!(bastion.under_way(), 0);
    assert!(!channels[0].0.is_closed());
    assert_eq!(
        Arc::strong_count(&channels[0].0.0),
        1,
        "only the connection has it"
    );
}
