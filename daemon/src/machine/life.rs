//! The life of a session: when to try, when to wait, when to give up.
//!
//! An *attempt* is everything from a lease to a proven tunnel; there is at most one at a
//! time. What an attempt does is the driver's; whether and when there is one is decided
//! here, by the cause of the last failure.

use std::time::Duration;

use super::Backoff;
use crate::{
    clock::Moment,
    model::{Cause, Retry},
};

/// What the session is, as the user sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not up yet since it began.
    Opening,
    /// At least one tunnel is up.
    Up,
    /// Was up; is trying to be again.
    Reconnecting,
    /// Waits for the user.
    Failed,
    /// No new connections; ends when the last one has.
    Closing,
}

/// What can happen to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The attempt under way ended with a tunnel.
    AttemptSucceeded,
    /// The attempt under way ended without one.
    AttemptFailed(Cause),
    /// The last tunnel is gone.
    TunnelsLost(Cause),
    /// A reason not to wait any longer.
    Nudged(Nudge),
    /// New credentials are due, or asked for.
    RotationDue,
    /// The user closes the session, or the daemon stops.
    Close,
    /// Time has passed.
    Tick,
}

/// Who says that an attempt may be worth it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nudge {
    /// A client has connected.
    Client,
    /// The user has asked for the session again.
    User,
    /// The network has changed, or the machine has woken up.
    Network,
    /// The Heroku token has changed.
    Token,
}

/// Which credentials an attempt asks the provider for anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renew {
    /// None: those held will do.
    Nothing,
    /// The SSH key: the bastion refused it.
    SshKey,
    /// The database password: the database refused it.
    Password,
    /// Both: a rotation.
    Everything,
}

/// What the driver has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Begin an attempt; its end comes back as an event. It takes the place of one that is
    /// under way.
    Attempt(Renew),
}

/// Decides over one session.
#[derive(Debug, Clone)]
pub struct Life {
    phase: Phase,
    since: Moment,
    backoff: Backoff,
    last_error: Option<Cause>,
    attempting: bool,
    attempt_began: Moment,
    /// What the attempt under way, or the last one, asks for anew.
    renewing: Renew,
    /// A rotation that arrived during an attempt.
    rotation_pending: bool,
    /// A new lease was tried already for the refusal at hand.
    renewed: bool,
    retry_at: Option<Moment>,
    /// When the network last changed, or the machine woke up.
    network_changed: Option<Moment>,
    last_attempt_ended: Moment,
    was_up: bool,
}

// === impl Life ===

impl Life {
    /// A tunnel that lived this long was no flapper: the next loss starts with short waits.
    pub const STABLE_AFTER: Duration = Duration::from_secs(30);
    /// Wait after a refusal that the provider needs minutes to lift (403, 422, 423).
    pub const SLOW: Duration = Duration::from_secs(120);
    /// How often it is looked whether there is a network again, where nothing tells.
    pub const NO_NETWORK_PAUSE: Duration = Duration::from_secs(10);
    /// A tunnel that is lost so soon after a change of the network is lost by it: the new
    /// way is tried at once.
    pub const BLAMES_NETWORK: Duration = Duration::from_secs(15);
    /// An attempt older than this when the network changes may be waiting for an answer that
    /// went to the old address. A younger one gets this much: networks change in bursts.
    pub const PROMPT: Duration = Duration::from_secs(3);
    /// A client cuts a short wait no shorter than this after the attempt before.
    pub const CLIENT_PAUSE: Duration = Duration::from_secs(1);
    /// The same for slow waits: a connection pool in a retry loop must not hammer the API.
    pub const SLOW_CLIENT_PAUSE: Duration = Duration::from_secs(10);

    /// A session that begins now, with its first action.
    pub fn begin(now: Moment) -> (Self, Action) {
        let life = Self {
            phase: Phase::Opening,
            since: now,
            backoff: Backoff::new(),
            last_error: None,
            attempting: true,
            attempt_began: now,
            renewing: Renew::Nothing,
            rotation_pending: false,
            renewed: false,
            retry_at: None,
            network_changed: None,
            last_attempt_ended: now,
            was_up: false,
        };
        (life, Action::Attempt(Renew::Nothing))
    }

    /// Takes an event; answers what to do. `jitter` is uniform in `0.0..1.0`.
    pub fn handle(&mut self, event: Event, now: Moment, jitter: f64) -> Option<Action> {
        if self.phase == Phase::Closing {
            return None;
        }
        match event {
            Event::AttemptSucceeded => self.succeeded(now),
            Event::AttemptFailed(cause) => self.failed(cause, now, jitter),
            Event::TunnelsLost(cause) => self.lost(cause, now, jitter),
            Event::Nudged(nudge) => self.nudged(nudge, now),
            Event::RotationDue if self.attempting => {
                self.rotation_pending = true;
                None
            }
            Event::RotationDue => Some(self.attempt(Renew::Everything, now)),
            Event::Close => {
                self.enter(Phase::Closing, now);
                self.retry_at = None;
                None
            }
            Event::Tick if self.retry_at.is_some_and(|at| at <= now) => {
                Some(self.attempt(Renew::Nothing, now))
            }
            Event::Tick => None,
        }
    }

    /// What the user sees.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When it entered the phase.
    pub fn since(&self) -> Moment {
        self.since
    }

    /// Why it is not up, or what last went wrong.
    pub fn last_error(&self) -> Option<&Cause> {
        self.last_error.as_ref()
    }

    /// Whether an attempt is under way.
    pub fn is_attempting(&self) -> bool {
        self.attempting
    }

    /// When the next attempt begins by itself, in the place of one under way where there is
    /// one.
    pub fn retry_at(&self) -> Option<Moment> {
        self.retry_at
    }

    fn succeeded(&mut self, now: Moment) -> Option<Action> {
        self.end_attempt(now);
        self.last_error = None;
        self.renewed = false;
        self.was_up = true;
        if self.phase != Phase::Up {
            self.enter(Phase::Up, now);
        }
        self.pending_rotation(now)
    }

    fn failed(&mut self, cause: Cause, now: Moment, jitter: f64) -> Option<Action> {
        self.end_attempt(now);
        let retry = cause.retry();
        let renew = match cause {
            Cause::BastionRefusedKey { .. } => Renew::SshKey,
            _ => Renew::Password,
        };
        self.last_error = Some(cause);
        if retry == Retry::NewLease && !self.renewed {
            self.renewed = true;
            return Some(self.attempt(renew, now));
        }
        // A rotation that failed leaves the tunnels that are up as they were.
        if self.phase == Phase::Up {
            return self.pending_rotation(now);
        }
        match retry {
            Retry::Never | Retry::WhenTokenChanges => self.enter(Phase::Failed, now),
            Retry::NewLease | Retry::Backoff => {
                let took = now.since(self.attempt_began);
                let pause = self.backoff.after(took, jitter);
                self.wait(pause, now);
            }
            Retry::Slowly => self.wait(Self::SLOW.mul_f64(0.75 + jitter / 2.0), now),
            Retry::WithNetwork => self.wait(Self::NO_NETWORK_PAUSE, now),
        }
        None
    }

    fn lost(&mut self, cause: Cause, now: Moment, jitter: f64) -> Option<Action> {
        if self.phase != Phase::Up {
            return None;
        }
        if now.since(self.since) >= Self::STABLE_AFTER {
            self.backoff.reset();
        }
        self.last_error = Some(cause);
        self.enter(Phase::Reconnecting, now);
        if self.attempting {
            return None;
        }
        let blames_network = self
            .network_changed
            .is_some_and(|at| now.since(at) <= Self::BLAMES_NETWORK);
        if blames_network {
            return Some(self.attempt(Renew::Nothing, now));
        }
        let wait = self.backoff.next(jitter);
        self.retry_at = Some(now + wait);
        None
    }

    fn nudged(&mut self, nudge: Nudge, now: Moment) -> Option<Action> {
        if nudge == Nudge::Network {
            self.network_changed = Some(now);
            self.backoff.reset();
        }
        if self.phase == Phase::Up {
            return None;
        }
        if self.attempting {
            if nudge == Nudge::Network && self.renewing == Renew::Nothing {
                self.hasten(self.attempt_began + Self::PROMPT);
            }
            return self.handle(Event::Tick, now, 0.0);
        }
        let retry = self
            .last_error
            .as_ref()
            .map_or(Retry::Backoff, Cause::retry);
        let rested = now.since(self.last_attempt_ended);
        let now_worth_it = match (nudge, retry) {
            (Nudge::User, _) => true,
            (Nudge::Token, _) => matches!(retry, Retry::WhenTokenChanges | Retry::Slowly),
            (Nudge::Network, Retry::WithNetwork) => true,
            (Nudge::Network, Retry::Backoff | Retry::NewLease) => {
                self.hasten(self.last_attempt_ended + Self::CLIENT_PAUSE);
                rested >= Self::CLIENT_PAUSE
            }
            (Nudge::Network, _) => false,
            (Nudge::Client, Retry::Backoff | Retry::NewLease | Retry::WithNetwork) => {
                rested >= Self::CLIENT_PAUSE
            }
            (Nudge::Client, Retry::Slowly) => rested >= Self::SLOW_CLIENT_PAUSE,
            (Nudge::Client, Retry::Never | Retry::WhenTokenChanges) => false,
        };
        if !now_worth_it {
            return None;
        }
        Some(self.attempt(Renew::Nothing, now))
    }

    /// Brings the next attempt forward.
    fn hasten(&mut self, at: Moment) {
        self.retry_at = Some(self.retry_at.map_or(at, |planned| planned.min(at)));
    }

    fn attempt(&mut self, renew: Renew, now: Moment) -> Action {
        if self.phase == Phase::Failed {
            self.enter(self.trying(), now);
        }
        self.attempting = true;
        self.attempt_began = now;
        self.renewing = renew;
        self.retry_at = None;
        if renew == Renew::Everything {
            self.rotation_pending = false;
        }
        Action::Attempt(renew)
    }

    fn end_attempt(&mut self, now: Moment) {
        self.attempting = false;
        self.retry_at = None;
        self.last_attempt_ended = now;
    }

    fn pending_rotation(&mut self, now: Moment) -> Option<Action> {
        std::mem::take(&mut self.rotation_pending).then(|| self.attempt(Renew::Everything, now))
    }

    fn wait(&mut self, duration: Duration, now: Moment) {
        self.retry_at = Some(now + duration);
        if self.phase != self.trying() {
            self.enter(self.trying(), now);
        }
    }

    /// The phase of a session that is not up and goes on trying.
    fn trying(&self) -> Phase {
        if self.was_up {
            Phase::Reconnecting
        } else {
            Phase::Opening
        }
    }

    fn enter(&mut self, phase: Phase, now: Moment) {
        self.phase = phase;
        self.since = now;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::HostPort;

    fn at(seconds: u64) -> Moment {
        Moment::since_boot(Duration::from_secs(1_000_000 + seconds))
    }

    fn lost() -> Cause {
        Cause::TunnelLost {
            detail: "the line went silent".into(),
        }
    }

    fn bastion() -> HostPort {
        HostPort {
            host: "bastion".into(),
            port: 22,
        }
    }

    fn up() -> Life {
        let (mut life, first) = Life::begin(at(0));
        assert_eq!(first, Action::Attempt(Renew::Nothing));
        assert_eq!(life.handle(Event::AttemptSucceeded, at(1), 0.5), None);
        assert_eq!(life.phase(), Phase::Up);
        life
    }

    #[test]
    fn a_lost_line_is_tried_for_within_a_second() {
        let mut life = up();
        assert_eq!(
            life.handle(Event::TunnelsLost(lost()), at(100), 0.999),
            None
        );
        assert_eq!(life.phase(), Phase::Reconnecting);
        let retry = life.retry_at().unwrap();
        assert!(retry.since(at(100)) <= Duration::from_secs(1));
        assert_eq!(
            life.handle(Event::Tick, at(101), 0.0),
            Some(Action::Attempt(Renew::Nothing))
        );
        assert_eq!(life.handle(Event::AttemptSucceeded, at(102), 0.0), None);
        assert_eq!(life.phase(), Phase::Up);
        assert_eq!(life.last_error(), None);
    }

    #[test]
    fn a_flapping_line_is_tried_ever_more_rarely() {
        let mut life = up();
        let mut now = 2;
        let mut waits = Vec::new();
        for _ in 0..8 {
            life.handle(Event::TunnelsLost(lost()), at(now), 1.0);
            waits.push(life.retry_at().unwrap().since(at(now)).as_secs());
            now += 60;
            life.handle(Event::Tick, at(now), 1.0);
            life.handle(Event::AttemptSucceeded, at(now), 1.0);
            // Up for less than STABLE_AFTER.
            now += 10;
        }
        assert_eq!(waits, [0, 1, 2, 4, 8, 16, 30, 30]);
        now += 100;
        life.handle(Event::TunnelsLost(lost()), at(now), 1.0);
        assert_eq!(life.retry_at().unwrap().since(at(now)).as_millis(), 500);
    }

    #[test]
    fn a_tunnel_that_a_new_network_breaks_is_tried_for_at_once() {
        let mut life = up();
        assert_eq!(
            life.handle(Event::Nudged(Nudge::Network), at(100), 0.9),
            None
        );
        let retry = life.handle(Event::TunnelsLost(lost()), at(103), 0.9);
        assert_eq!(retry, Some(Action::Attempt(Renew::Nothing)));
    }

    #[test]
    fn an_attempt_on_the_old_network_gives_way_to_one_on_the_new() {
        let mut life = up();
        life.handle(Event::TunnelsLost(lost()), at(100), 0.5);
        life.handle(Event::Tick, at(101), 0.5);
        assert!(life.is_attempting());
        let again = life.handle(Event::Nudged(Nudge::Network), at(105), 0.5);
        assert_eq!(again, Some(Action::Attempt(Renew::Nothing)));
        assert!(life.is_attempting());
        // A network that changes all the time lets an attempt come to its end.
        for change in [105, 106, 107] {
            let again = life.handle(Event::Nudged(Nudge::Network), at(change), 0.5);
            assert_eq!(again, None);
        }
        let again = life.handle(Event::Tick, at(108), 0.5);
        assert_eq!(again, Some(Action::Attempt(Renew::Nothing)));
        life.handle(Event::AttemptSucceeded, at(109), 0.5);
        assert_eq!((life.phase(), life.retry_at()), (Phase::Up, None));
    }

    #[test]
    fn a_network_that_changes_all_the_time_does_not_hammer_a_dead_bastion() {
        let (mut life, _) = Life::begin(at(0));
        let unreachable = || Cause::BastionUnreachable {
            bastion: bastion(),
            detail: "connection refused".into(),
        };
        life.handle(Event::AttemptFailed(unreachable()), at(0), 0.9);
        let mut attempts = 0;
        for tenth in 1..=100 {
            let now = at(0) + Duration::from_millis(100 * tenth);
            if life
                .handle(Event::Nudged(Nudge::Network), now, 0.9)
                .is_some()
            {
                attempts += 1;
                life.handle(Event::AttemptFailed(unreachable()), now, 0.9);
            }
        }
        assert_eq!(attempts, 10);
    }

    #[test]
    fn without_a_network_it_looks_for_one_and_never_more_rarely() {
        let mut life = up();
        life.handle(Event::TunnelsLost(lost()), at(100), 0.5);
        let mut now = 101;
        for _ in 0..20 {
            assert!(life.handle(Event::Tick, at(now), 0.5).is_some());
            life.handle(Event::AttemptFailed(Cause::NoNetwork), at(now), 0.5);
            let pause = life.retry_at().unwrap().since(at(now));
            assert_eq!(pause, Life::NO_NETWORK_PAUSE);
            now += pause.as_secs();
        }
        let back = life.handle(Event::Nudged(Nudge::Network), at(now), 0.5);
        assert_eq!(back, Some(Action::Attempt(Renew::Nothing)));
    }

    #[test]
    fn a_refused_key_is_renewed_once_and_then_waited_for() {
        let (mut life, _) = Life::begin(at(0));
        let refused = || Event::AttemptFailed(Cause::BastionRefusedKey { bastion: bastion() });
        assert_eq!(
            life.handle(refused(), at(1), 0.5),
            Some(Action::Attempt(Renew::SshKey))
        );
        assert_eq!(life.handle(refused(), at(2), 0.5), None);
        assert_eq!(life.phase(), Phase::Opening);
        assert!(life.retry_at().is_some());
    }

    #[test]
    fn what_only_the_user_can_mend_is_not_tried_again() {
        let (mut life, _) = Life::begin(at(0));
        let differs = Cause::HostKeyDiffers { bastion: bastion() };
        life.handle(Event::AttemptFailed(differs), at(1), 0.5);
        assert_eq!(life.phase(), Phase::Failed);
        for seconds in [10, 1000, 100_000] {
            assert_eq!(life.handle(Event::Tick, at(seconds), 0.5), None);
            assert_eq!(
                life.handle(Event::Nudged(Nudge::Client), at(seconds), 0.5),
                None
            );
            assert_eq!(
                life.handle(Event::Nudged(Nudge::Network), at(seconds), 0.5),
                None
            );
        }
        let retry = life.handle(Event::Nudged(Nudge::User), at(200_000), 0.5);
        assert_eq!(retry, Some(Action::Attempt(Renew::Nothing)));
        assert_eq!(life.phase(), Phase::Opening);
    }

    #[test]
    fn a_new_token_wakes_a_session_that_waits_for_one() {
        let (mut life, _) = Life::begin(at(0));
        life.handle(Event::AttemptFailed(Cause::NotLoggedIn), at(1), 0.5);
        assert_eq!(life.phase(), Phase::Failed);
        let retry = life.handle(Event::Nudged(Nudge::Token), at(2), 0.5);
        assert_eq!(retry, Some(Action::Attempt(Renew::Nothing)));
    }

    #[test]
    fn a_connection_pool_does_not_hammer_an_add_on_that_is_not_ready() {
        let (mut life, _) = Life::begin(at(0));
        let provisioning = || Cause::Provisioning {
            addon: "borealis-pg-hex-1".into(),
        };
        life.handle(Event::AttemptFailed(provisioning()), at(0), 0.5);
        let mut attempts = 0;
        for second in 0..60 {
            if life
                .handle(Event::Nudged(Nudge::Client), at(second), 0.5)
                .is_some()
            {
                attempts += 1;
                life.handle(Event::AttemptFailed(provisioning()), at(second), 0.5);
            }
        }
        assert_eq!(attempts, 5);
    }

    #[test]
    fn a_rotation_that_fails_leaves_the_session_up() {
        let mut life = up();
        let rotate = life.handle(Event::RotationDue, at(10), 0.5);
        assert_eq!(rotate, Some(Action::Attempt(Renew::Everything)));
        let unavailable = Cause::ProviderUnavailable {
            api: "Borealis API",
            detail: "503".into(),
        };
        assert_eq!(
            life.handle(Event::AttemptFailed(unavailable.clone()), at(11), 0.5),
            None
        );
        assert_eq!(life.phase(), Phase::Up);
        assert_eq!(life.last_error(), Some(&unavailable));
    }

    #[test]
    fn a_rotation_asked_for_during_an_attempt_follows_it() {
        let (mut life, _) = Life::begin(at(0));
        assert_eq!(life.handle(Event::RotationDue, at(1), 0.5), None);
        let next = life.handle(Event::AttemptSucceeded, at(2), 0.5);
        assert_eq!(next, Some(Action::Attempt(Renew::Everything)));
    }

    fn cause() -> impl Strategy<Value = Cause> {
        prop_oneof![
            Just(lost()),
            Just(Cause::NotLoggedIn),
            Just(Cause::NoNetwork),
            Just(Cause::AccessRevoked { addon: "a".into() }),
            Just(Cause::HostKeyDiffers { bastion: bastion() }),
            Just(Cause::BastionRefusedKey { bastion: bastion() }),
            Just(Cause::DatabaseRefusedLogin {
                sqlstate: "28P01".into(),
                message: String::new()
            }),
        ]
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            Just(Event::AttemptSucceeded),
            cause().prop_map(Event::AttemptFailed),
            Just(Event::TunnelsLost(lost())),
            prop_oneof![
                Just(Nudge::Client),
                Just(Nudge::User),
                Just(Nudge::Network),
                Just(Nudge::Token)
            ]
            .prop_map(Event::Nudged),
            Just(Event::RotationDue),
            Just(Event::Tick),
            Just(Event::Tick),
        ]
    }

    /// The rules once more, in the simplest words: which attempts there are, and what the
    /// user sees, without when.
    #[derive(Debug, Default)]
    struct Model {
        trying: bool,
        up: bool,
        was_up: bool,
        gave_up: bool,
        closed: bool,
        renewed: bool,
        rotate_next: bool,
    }

    impl Model {
        fn phase(&self) -> Phase {
            match self {
                Self { closed: true, .. } => Phase::Closing,
                Self { up: true, .. } => Phase::Up,
                Self { gave_up: true, .. } => Phase::Failed,
                Self { was_up: true, .. } => Phase::Reconnecting,
                _ => Phase::Opening,
            }
        }

        /// What an event must lead to; where it depends on the time, `may` is what happened.
        fn expect(&mut self, event: &Event, may: Option<Renew>) -> Option<Renew> {
            if self.closed {
                return None;
            }
            let begun = match event {
                Event::AttemptSucceeded => {
                    (self.trying, self.renewed) = (false, false);
                    (self.up, self.was_up, self.gave_up) = (true, true, false);
                    std::mem::take(&mut self.rotate_next).then_some(Renew::Everything)
                }
                Event::AttemptFailed(cause) => {
                    self.trying = false;
                    match cause.retry() {
                        Retry::NewLease if !self.renewed => {
                            self.renewed = true;
                            let is_key = matches!(cause, Cause::BastionRefusedKey { .. });
                            Some(if is_key {
                                Renew::SshKey
                            } else {
                                Renew::Password
                            })
                        }
                        _ if self.up => {
                            std::mem::take(&mut self.rotate_next).then_some(Renew::Everything)
                        }
                        retry => {
                            self.gave_up = matches!(retry, Retry::Never | Retry::WhenTokenChanges);
                            None
                        }
                    }
                }
                Event::TunnelsLost(_) => {
                    let was_up = std::mem::take(&mut self.up);
                    // At once only where the network has just changed.
                    if was_up && !self.trying { may } else { None }
                }
                Event::RotationDue if self.trying => {
                    self.rotate_next = true;
                    None
                }
                Event::RotationDue => Some(Renew::Everything),
                Event::Close => {
                    self.closed = true;
                    None
                }
                Event::Nudged(Nudge::User) if !self.up && !self.trying => Some(Renew::Nothing),
                // Whether it is time is what the other tests are about.
                Event::Nudged(_) | Event::Tick if !self.up => may,
                Event::Nudged(_) | Event::Tick => None,
            };
            if let Some(renew) = begun {
                self.trying = true;
                self.gave_up = false;
                if renew == Renew::Everything {
                    self.rotate_next = false;
                }
            }
            begun
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        /// Over any history it does what the model does, and waits no longer than it may.
        #[test]
        fn it_lives_as_the_model_does(
            history in proptest::collection::vec((event(), 0_u64..60, 0.0..1.0_f64), 0..40),
            close in proptest::option::of(0_usize..200)
        ) {
            let (mut life, _) = Life::begin(at(0));
            let mut model = Model { trying: true, ..Model::default() };
            let mut now = 0;
            for (number, (event, passed, jitter)) in history.into_iter().enumerate() {
                now += passed;
                let event = if close == Some(number) { Event::Close } else { event };
                let ends = matches!(event, Event::AttemptSucceeded | Event::AttemptFailed(_));
                if ends && !model.trying {
                    continue;
                }
                let did = life.handle(event.clone(), at(now), jitter);
                let did = did.map(|Action::Attempt(renew)| renew);
                prop_assert_eq!(did, model.expect(&event, did), "{:?} at {}", event, now);
                prop_assert_eq!(life.phase(), model.phase(), "{:?} at {}", event, now);
                prop_assert!(model.closed || life.is_attempting() == model.trying);
                if let Some(retry_at) = life.retry_at() {
                    let longest = Life::SLOW.mul_f64(1.25).max(Backoff::CAP);
                    prop_assert!(retry_at.since(at(now)) <= longest);
                }
            }
        }

    }

    proptest! {
        /// Over any history: at most one attempt at a time, and a session that is not up, not
        /// closing and not waiting for the user always has a next step.
        #[test]
        fn it_never_gets_stuck(
            history in proptest::collection::vec((event(), 0_u64..200, 0.0..1.0_f64), 0..200)
        ) {
            let (mut life, _) = Life::begin(at(0));
            let mut attempting = true;
            let mut now = 0;
            for (event, passed, jitter) in history {
                now += passed;
                let ends = matches!(event, Event::AttemptSucceeded | Event::AttemptFailed(_));
                if ends && !attempting {
                    continue;
                }
                attempting &= !ends;
                let replaces = life.retry_at().is_some() || event == Event::Nudged(Nudge::Network);
                if let Some(Action::Attempt(_)) = life.handle(event, at(now), jitter) {
                    prop_assert!(!attempting || replaces, "a second attempt at a time");
                    attempting = true;
                }
                prop_assert_eq!(life.is_attempting(), attempting);
                if matches!(life.phase(), Phase::Opening | Phase::Reconnecting) {
                    prop_assert!(attempting || life.retry_at().is_some(), "stuck");
                }
            }
        }
    }
}
