//! The life of a session: when to try, when to wait, when to give up.
//!
//! An *attempt* is everything from a lease to a tunnel that may be used; there is at most one at a
//! time. What an attempt does is the driver's; whether and when there is one is decided
//! here, by the cause of the last failure.

use std::time::Duration;

use crate::{
    model::{Backoff, Cause, Class, Retry},
    platform::clock::BootInstant,
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
    /// The last tunnel is gone, or the database behind it doesn't let anybody in.
    WayLost(Cause),
    /// A reason not to wait any longer.
    Nudged(RetryTrigger),
    /// The user closes the session, or the daemon stops.
    Close,
    /// Time has passed.
    Tick,
}

/// Who says that an attempt may be worth it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryTrigger {
    /// A client has connected.
    Client,
    /// The user has asked for the session again.
    User,
    /// The network has changed, or the machine has woken up.
    Network,
    /// The Heroku token has changed.
    Token,
    /// Another session of the add-on has made a tunnel.
    Tunnel,
}

/// What the driver has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Begin an attempt; its end comes back as an event. It takes the place of one that is
    /// under way.
    Attempt,
}

/// Decides over one session.
#[derive(Debug, Clone)]
pub struct SessionStateMachine {
    phase: Phase,
    since: BootInstant,
    backoff: Backoff,
    last_error: Option<Cause>,
    attempting: bool,
    attempt_began: BootInstant,
    /// A new lease was tried already for the refusal at hand.
    renewed: bool,
    retry_at: Option<BootInstant>,
    /// When the network last changed, or the machine woke up.
    network_changed: Option<BootInstant>,
    last_attempt_ended: BootInstant,
    was_up: bool,
}

// === impl SessionStateMachine ===

impl SessionStateMachine {
    /// A tunnel that lived this long was no flapper: the next loss starts with short waits.
    pub const STABLE_AFTER: Duration = Duration::from_secs(30);
    /// Wait after a refusal that the provider needs minutes to lift (403, 422, 423).
    pub const SLOW: Duration = Duration::from_secs(120);
    /// How often it is looked whether there is a network again, where nothing tells.
    pub const NO_NETWORK_PAUSE: Duration = Duration::from_secs(10);
    /// A tunnel that is lost so soon after a change of the network is lost by it: the new
    /// way is tried within [`SPREAD`](Self::SPREAD).
    pub const BLAMES_NETWORK: Duration = Duration::from_secs(15);
    /// Sessions that lose their tunnels together begin within this time, and not all at once:
    /// a machine that wakes up has all of them call the same bastion.
    pub const SPREAD: Duration = Duration::from_millis(250);
    /// An attempt older than this when the network changes may be waiting for an answer that
    /// went to the old address. A younger one gets this much: networks change in bursts.
    pub const PROMPT: Duration = Duration::from_secs(3);
    /// A client cuts a short wait no shorter than this after the attempt before.
    pub const CLIENT_PAUSE: Duration = Duration::from_secs(1);
    /// The same for slow waits: a connection pool in a retry loop must not hammer the API.
    pub const SLOW_CLIENT_PAUSE: Duration = Duration::from_secs(10);

    /// A session that begins now, with its first action.
    pub fn begin(now: BootInstant) -> (Self, Action) {
        let life = Self {
            phase: Phase::Opening,
            since: now,
            backoff: Backoff::new(),
            last_error: None,
            attempting: true,
            attempt_began: now,
            renewed: false,
            retry_at: None,
            network_changed: None,
            last_attempt_ended: now,
            was_up: false,
        };
        (life, Action::Attempt)
    }

    /// Takes an event; answers what to do. `jitter` is uniform in `0.0..1.0`.
    pub fn handle(&mut self, event: Event, now: BootInstant, jitter: f64) -> Option<Action> {
        if self.phase == Phase::Closing {
            return None;
        }
        match event {
            Event::AttemptSucceeded => {
                self.succeeded(now);
                None
            }
            Event::AttemptFailed(cause) => self.failed(cause, now, jitter),
            Event::WayLost(cause) => self.lost(cause, now, jitter),
            Event::Nudged(nudge) => self.nudged(nudge, now),
            Event::Close => {
                self.enter(Phase::Closing, now);
                self.retry_at = None;
                None
            }
            Event::Tick if self.retry_at.is_some_and(|at| at <= now) => Some(self.attempt(now)),
            Event::Tick => None,
        }
    }

    /// What the user sees.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When it entered the phase.
    pub fn since(&self) -> BootInstant {
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
    pub fn retry_at(&self) -> Option<BootInstant> {
        self.retry_at
    }

    fn succeeded(&mut self, now: BootInstant) {
        self.end_attempt(now);
        self.last_error = None;
        self.renewed = false;
        self.was_up = true;
        if self.phase != Phase::Up {
            self.enter(Phase::Up, now);
        }
    }

    fn failed(&mut self, cause: Cause, now: BootInstant, jitter: f64) -> Option<Action> {
        self.end_attempt(now);
        let retry = self.retry(&cause);
        self.last_error = Some(cause);
        if retry == Retry::NewLease && !self.renewed {
            self.renewed = true;
            return Some(self.attempt(now));
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

    fn lost(&mut self, cause: Cause, now: BootInstant, jitter: f64) -> Option<Action> {
        if self.phase != Phase::Up {
            return None;
        }
        if now.since(self.since) >= Self::STABLE_AFTER {
            self.backoff.reset();
        }
        let is_moved = matches!(cause, Cause::TargetMoved { .. });
        self.last_error = Some(cause);
        self.enter(Phase::Reconnecting, now);
        if is_moved {
            // One that is under way leads to where the target led before.
            return Some(self.attempt(now));
        }
        if self.attempting {
            return None;
        }
        let blames_network = self
            .network_changed
            .is_some_and(|at| now.since(at) <= Self::BLAMES_NETWORK);
        let wait = if blames_network {
            Self::SPREAD.mul_f64(jitter)
        } else {
            self.backoff.next(jitter)
        };
        self.retry_at = Some(now + wait);
        None
    }

    fn nudged(&mut self, nudge: RetryTrigger, now: BootInstant) -> Option<Action> {
        if nudge == RetryTrigger::Network {
            self.network_changed = Some(now);
            self.backoff.reset();
        }
        if self.phase == Phase::Up {
            return None;
        }
        if self.attempting {
            if nudge == RetryTrigger::Network {
                self.hasten(self.attempt_began + Self::PROMPT);
            }
            return self.handle(Event::Tick, now, 0.0);
        }
        let retry = self
            .last_error
            .as_ref()
            .map_or(Retry::Backoff, |cause| self.retry(cause));
        let rested = now.since(self.last_attempt_ended);
        let now_worth_it = match (nudge, retry) {
            (RetryTrigger::User, _) => true,
            (RetryTrigger::Token, _) => matches!(retry, Retry::WhenTokenChanges | Retry::Slowly),
            (RetryTrigger::Tunnel, _) => self.last_error.as_ref().is_some_and(lacks_a_tunnel),
            (RetryTrigger::Network, Retry::WithNetwork) => true,
            (RetryTrigger::Network, Retry::Backoff | Retry::NewLease) => {
                self.hasten(self.last_attempt_ended + Self::CLIENT_PAUSE);
                rested >= Self::CLIENT_PAUSE
            }
            (RetryTrigger::Network, _) => false,
            (RetryTrigger::Client, Retry::Backoff | Retry::NewLease | Retry::WithNetwork) => {
                rested >= Self::CLIENT_PAUSE
            }
            (RetryTrigger::Client, Retry::Slowly) => rested >= Self::SLOW_CLIENT_PAUSE,
            (RetryTrigger::Client, Retry::Never | Retry::WhenTokenChanges) => false,
        };
        if !now_worth_it {
            return None;
        }
        Some(self.attempt(now))
    }

    /// Brings the next attempt forward.
    fn hasten(&mut self, at: BootInstant) {
        self.retry_at = Some(self.retry_at.map_or(at, |planned| planned.min(at)));
    }

    fn attempt(&mut self, now: BootInstant) -> Action {
        if self.phase == Phase::Failed {
            self.enter(self.trying(), now);
        }
        self.attempting = true;
        self.attempt_began = now;
        self.retry_at = None;
        Action::Attempt
    }

    fn end_attempt(&mut self, now: BootInstant) {
        self.attempting = false;
        self.retry_at = None;
        self.last_attempt_ended = now;
    }

    /// What is to be done about a cause. A session that was up goes on looking for a target
    /// that isn't found any more: an attachment that is moved is gone for a moment.
    fn retry(&self, cause: &Cause) -> Retry {
        match cause.kind() {
            kind if kind.class == Class::NotFound && self.was_up => Retry::Slowly,
            kind => kind.retry,
        }
    }

    fn wait(&mut self, duration: Duration, now: BootInstant) {
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

    fn enter(&mut self, phase: Phase, now: BootInstant) {
        self.phase = phase;
        self.since = now;
    }
}

/// Whether a session with that cause needs a tunnel, and no more.
fn lacks_a_tunnel(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::NoNetwork
            | Cause::BastionUnreachable { .. }
            | Cause::BastionBusy { .. }
            | Cause::BastionRefusedKey { .. }
            | Cause::TunnelLost { .. }
    )
}

#[cfg(test)]
mod tests;
