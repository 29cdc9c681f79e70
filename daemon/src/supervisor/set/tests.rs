//! Random histories of commands and events against what must always hold, and the cases that
//! once went wrong, one by one.

mod history;

use std::collections::BTreeMap;

use super::*;
use crate::{
    config::DeclaredSession,
    model::{Access, Expiry, Mode, Role, Target},
    state::{Openness, Origin},
};

/// A set, and the part of the actor that its actions need: ports, drivers, answers.
struct World {
    set: Set,
    now: Timestamp,
    next: u64,
    /// Ports that other programs have.
    foreign: Vec<u16>,
    binding: Vec<(SessionId, PortWish)>,
    running: BTreeMap<SessionId, u16>,
    ending: Vec<SessionId>,
    answers: BTreeMap<Ticket, Answer>,
    told: Vec<(SessionName, Kind)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Opened(SessionId, bool),
    Refused(Cause),
    Again,
    Closed,
}

const FIRST_PORT: u16 = 20_000;

fn name(text: &str) -> SessionName {
    SessionName::parse(text).unwrap()
}

fn range(count: u16) -> PortRange {
    PortRange::new(FIRST_PORT, FIRST_PORT + count - 1).unwrap()
}

fn wish(target: &str, access: Access, is_kept: bool) -> Wish {
    Wish {
        target: Target::Word(target.into()),
        role: Role::Personal,
        access,
        mode: Mode::Managed,
        port: None,
        expiry: None,
        is_kept,
    }
}

fn kept(target: &str) -> Wish {
    wish(target, Access::ReadOnly, true)
}

fn transient(target: &str) -> Wish {
    wish(target, Access::ReadOnly, false)
}

fn declared(target: &str, access: Access, port: Option<u16>) -> DeclaredSession {
    DeclaredSession {
        target: Target::Word(target.into()),
        access,
        role: Role::Personal,
        mode: Mode::Managed,
        name: None,
        port,
    }
}

fn resolved(app: &str) -> Resolved {
    Resolved {
        addon_id: format!("id-of-{app}"),
        addon: format!("borealis-pg-{app}"),
        app: app.into(),
        attachment: "DATABASE".into(),
        ambiguous_in_app: false,
    }
}

impl World {
    fn new(count: u16) -> Self {
        Self {
            set: Set::new(range(count), order(range(count), 0)),
            now: "2026-11-29T10:00:00Z".parse().unwrap(),
            next: 0,
            foreign: Vec::new(),
            binding: Vec::new(),
            running: BTreeMap::new(),
            ending: Vec::new(),
            answers: BTreeMap::new(),
            told: Vec::new(),
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    fn perform(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Bind { id, wish, .. } => self.binding.push((id, wish)),
                Action::End(id, _) => self.ending.push(id),
                Action::Discard(id) => {
                    self.running.remove(&id);
                    self.ending.retain(|ending| *ending != id);
                }
                Action::Opened(ticket, id, created) => {
                    self.answer(ticket, Answer::Opened(id, created));
                }
                Action::Refused(ticket, cause) => self.answer(ticket, Answer::Refused(cause)),
                Action::Reopen(ticket) => self.answer(ticket, Answer::Again),
                Action::Closed(ticket) => self.answer(ticket, Answer::Closed),
                Action::Tell(name, kind, _) => self.told.push((name, kind)),
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        let before = self.answers.insert(ticket, answer);
        assert_eq!(before, None, "{ticket:?} was answered twice");
    }

    fn open(&mut self, name: &SessionName, wish: Wish) -> Ticket {
        let ticket = self.ticket();
        let resolved = resolved(name.as_str().trim_end_matches("-rw"));
        let actions = self.set.open(ticket, name, wish, Some(resolved), self.now);
        self.perform(actions);
        ticket
    }

    fn close(&mut self, name: &SessionName) -> Option<Ticket> {
        let id = self.set.by_name(name)?.id;
        let ticket = self.ticket();
        let request = closing(Duration::from_secs(60));
        let actions = self.set.close(id, request, Some(ticket), self.now);
        self.perform(actions);
        Some(ticket)
    }

    fn is_free(&self, port: u16) -> bool {
        !self.foreign.contains(&port) && !self.running.values().any(|used| *used == port)
    }

    /// One session's listeners are made, or can't be.
    fn bind_one(&mut self, which: usize) {
        if self.binding.is_empty() {
            return;
        }
        let (id, wish) = self.binding.remove(which % self.binding.len());
        let outcome = match wish {
            PortWish::Exactly(port) if self.is_free(port) => Ok(port),
            PortWish::Exactly(port) => Err(Cause::PortInUse { port, holder: None }),
            PortWish::FirstFree { candidates, range } => candidates
                .into_iter()
                .find(|port| self.is_free(*port))
                .ok_or(Cause::PortRangeUsedUp { range }),
        };
        if let Ok(port) = outcome
            && self.set.accepts(id, port)
        {
            self.running.insert(id, port);
        }
        let actions = self.set.bound(id, outcome, self.now);
        self.perform(actions);
    }

    fn bind_all(&mut self) {
        while !self.binding.is_empty() {
            self.bind_one(0);
        }
    }

    fn end_one(&mut self, which: usize) {
        if self.ending.is_empty() {
            return;
        }
        let id = self.ending.remove(which % self.ending.len());
        self.running.remove(&id);
        let actions = self.set.ended(id, self.now);
        self.perform(actions);
    }

    fn end_all(&mut self) {
        while !self.ending.is_empty() {
            self.end_one(0);
        }
    }

    fn opened(&mut self, name: &SessionName, wish: Wish) -> SessionId {
        let ticket = self.open(name, wish);
        self.bind_all();
        match self.answers.get(&ticket) {
            Some(Answer::Opened(id, _)) => *id,
            other => panic!("{name} was not opened: {other:?}"),
        }
    }

    fn saved(&self, name: &SessionName) -> Option<SavedSession> {
        let saved = self.set.saved();
        saved.into_iter().find(|saved| saved.name == *name)
    }

    /// The daemon stops or crashes, and starts again.
    fn restart(&mut self, count: u16, declared: BTreeMap<SessionName, DeclaredSession>) {
        let saved = self.set.saved();
        self.set = Set::new(range(count), order(range(count), 0));
        (self.running, self.binding, self.ending) = Default::default();
        let actions = self.set.restore(saved, declared, self.now);
        self.perform(actions);
    }
}

fn none() -> BTreeMap<SessionName, DeclaredSession> {
    BTreeMap::new()
}

fn is_open(saved: Option<&SavedSession>) -> bool {
    saved.is_some_and(|saved| saved.openness == Openness::Open)
}

#[test]
fn a_late_leaver_of_an_earlier_session_closes_no_later_one() {
    let mut world = World::new(5);
    let sushi = name("sushi");
    let first = world.opened(&sushi, transient("sushi"));
    let user = *world.answers.keys().next().unwrap();
    world.close(&sushi);
    world.end_all();
    let second = world.opened(&sushi, transient("sushi"));
    assert_ne!(first, second);
    assert_eq!(world.set.left(first, user, world.now), []);
    assert_eq!(world.set.left(second, user, world.now), []);
    assert_eq!(world.set.ended(first, world.now), []);
    assert!(!world.set.get(second).unwrap().is_closing());
}

#[test]
fn a_close_is_saved_before_its_grace_begins_and_survives_a_crash() {
    let mut world = World::new(5);
    let sushi = name("sushi");
    world.opened(&sushi, kept("sushi"));
    assert!(is_open(world.saved(&sushi).as_ref()));
    world.close(&sushi);
    assert!(!is_open(world.saved(&sushi).as_ref()));
    world.restart(5, none());
    world.bind_all();
    assert!(world.set.by_name(&sushi).is_none());
    assert_eq!(world.saved(&sushi).unwrap().port, FIRST_PORT);
}

#[test]
fn an_open_during_the_end_follows_it_and_the_close_is_answered_first() {
    let mut world = World::new(5);
    let sushi = name("sushi");
    world.opened(&sushi, kept("sushi"));
    let close = world.close(&sushi).unwrap();
    let open = world.open(&sushi, kept("sushi"));
    assert_eq!(world.answers.get(&open), None);
    world.end_all();
    assert_eq!(world.answers.get(&close), Some(&Answer::Closed));
    assert_eq!(world.answers.get(&open), Some(&Answer::Again));
}

#[test]
fn a_session_that_is_declared_otherwise_is_closed_and_opened() {
    let mut world = World::new(5);
    let sushi = name("sushi");
    world.opened(&sushi, wish("sushi", Access::ReadWrite, true));
    let now = BTreeMap::from([(sushi.clone(), declared("sushi", Access::ReadOnly, None))]);
    let (difference, actions) = world.set.redeclare(now.clone(), world.now);
    world.perform(actions);
    assert_eq!(difference.opened, std::slice::from_ref(&sushi));
    assert!(world.set.by_name(&sushi).unwrap().is_closing());
    world.end_all();
    world.bind_all();
    let entry = world.set.by_name(&sushi).unwrap();
    assert_eq!(entry.spec.access, Access::ReadOnly);
    // Its port is its own all the same.
    assert_eq!(entry.port, Some(FIRST_PORT));
    // And after a restart that no reload went before.
    let mut other = World::new(5);
    other.opened(&sushi, wish("sushi", Access::ReadWrite, true));
    other.restart(5, now);
    let entry = other.set.by_name(&sushi).unwrap();
    assert_eq!(
        (entry.spec.access, entry.declared),
        (Access::ReadOnly, true)
    );
}

#[test]
fn another_port_in_the_declaration_closes_and_opens() {
    let mut world = World::new(5);
    let sushi = name("sushi");
    let at = |port| BTreeMap::from([(name("sushi"), declared("sushi", Access::ReadOnly, port))]);
    let (_, actions) = world.set.redeclare(at(None), world.now);
    world.perform(actions);
    world.bind_all();
    let (difference, actions) = world.set.redeclare(at(Some(30_000)), world.now);
    world.perform(actions);
    assert_eq!(difference.changed, std::slice::from_ref(&sushi));
    world.end_all();
    world.bind_all();
    assert_eq!(world.set.by_name(&sushi).unwrap().port, Some(30_000));
}

#[test]
fn a_close_by_hand_undoes_that_a_declaration_opens_it_again() {
    let mut world = World::new(5);
    let sushi = name("sushi");
    let with = |access| BTreeMap::from([(name("sushi"), declared("sushi", access, None))]);
    for access in [Access::ReadOnly, Access::ReadWrite] {
        let (_, actions) = world.set.redeclare(with(access), world.now);
        world.perform(actions);
        world.bind_all();
    }
    world.close(&sushi);
    world.end_all();
    assert!(world.set.by_name(&sushi).is_none());
}

#[test]
fn a_port_in_use_is_refused_by_name_and_stays_the_sessions() {
    let mut world = World::new(5);
    let sushi = name("sushi");
    world.opened(&sushi, kept("sushi"));
    world.close(&sushi);
    world.end_all();
    world.foreign.push(FIRST_PORT);
    let open = world.open(&sushi, kept("sushi"));
    world.bind_all();
    let in_use = Cause::PortInUse {
        port: FIRST_PORT,
        holder: None,
    };
    assert_eq!(world.answers.get(&open), Some(&Answer::Refused(in_use)));
    assert!(world.set.by_name(&sushi).is_none());
    assert_eq!(world.saved(&sushi).unwrap().port, FIRST_PORT);
    // Who uses it for a moment takes another, for that time only.
    let id = world.opened(&sushi, transient("sushi"));
    assert_eq!(world.set.get(id).unwrap().port, Some(FIRST_PORT + 1));
    assert!(world.told.contains(&(sushi.clone(), Kind::PortReplaced)));
    world.close(&sushi);
    world.end_all();
    world.foreign.clear();
    world.opened(&sushi, kept("sushi"));
    assert_eq!(world.set.by_name(&sushi).unwrap().port, Some(FIRST_PORT));
}

#[test]
fn a_session_that_can_not_have_its_port_is_moved_by_an_open_with_another() {
    let mut world = World::new(5);
    let sushi = name("sushi");
    world.opened(&sushi, kept("sushi"));
    world.foreign.push(FIRST_PORT);
    world.restart(5, none());
    world.bind_all();
    assert!(world.set.has_unbound());
    let moved = Wish {
        port: Some(30_000),
        ..kept("sushi")
    };
    let id = world.opened(&sushi, moved.clone());
    assert_eq!(world.set.get(id).unwrap().port, Some(30_000));
    assert_eq!(world.saved(&sushi).unwrap().port, 30_000);
    // One that has its port is not moved; it is said how to.
    let elsewhere = Wish {
        port: Some(30_001),
        ..moved
    };
    let open = world.open(&sushi, elsewhere);
    let differs = Cause::PortDiffers {
        name: sushi,
        port: 30_000,
    };
    assert_eq!(world.answers.get(&open), Some(&Answer::Refused(differs)));
}

#[test]
fn ports_of_the_longest_closed_are_taken_last_and_that_is_told() {
    let mut world = World::new(2);
    for app in ["a", "b"] {
        world.opened(&name(app), kept(app));
    }
    for app in ["b", "a"] {
        world.now += Duration::from_secs(60);
        world.close(&name(app));
        world.end_all();
    }
    world.opened(&name("c"), kept("c"));
    assert_eq!(world.saved(&name("c")).unwrap().port, FIRST_PORT + 1);
    assert!(world.told.contains(&(name("b"), Kind::PortReused)));
    assert!(world.saved(&name("b")).is_none());
    assert_eq!(world.saved(&name("a")).unwrap().port, FIRST_PORT);
    // Open sessions' ports are nobody else's.
    world.opened(&name("a"), kept("a"));
    let open = world.open(&name("d"), kept("d"));
    world.bind_all();
    assert!(matches!(
        world.answers.get(&open),
        Some(Answer::Refused(Cause::PortRangeUsedUp { .. }))
    ));
}

#[test]
fn a_transient_session_forgets_nothing_of_the_kept_one_of_its_name() {
    let mut world = World::new(5);
    let sushi = name("sushi");
    world.opened(&sushi, kept("sushi"));
    world.close(&sushi);
    world.end_all();
    let before = world.set.saved();
    let id = world.opened(&sushi, transient("sushi"));
    assert_eq!(world.set.saved(), before);
    let user = *world.answers.keys().last().unwrap();
    let actions = world.set.left(id, user, world.now);
    world.perform(actions);
    world.end_all();
    assert_eq!(world.set.saved(), before);
}

#[test]
fn a_target_that_leads_elsewhere_by_now_is_the_same_session() {
    let mut world = World::new(5);
    let sushi = name("sushi");
    let id = world.opened(&sushi, kept("sushi"));
    let elsewhere = Resolved {
        addon: "borealis-pg-other".into(),
        ..resolved("sushi")
    };
    let mut ask = |target: &str| {
        let ticket = world.ticket();
        let (wish, resolved) = (kept(target), Some(elsewhere.clone()));
        let actions = world.set.open(ticket, &sushi, wish, resolved, world.now);
        world.perform(actions);
        world.answers[&ticket].clone()
    };
    assert_eq!(ask("sushi"), Answer::Opened(id, false));
    let other = ask("borealis-pg-other");
    assert!(
        matches!(other, Answer::Refused(Cause::NameTaken { .. })),
        "{other:?}"
    );
}

#[test]
fn two_users_of_a_machine_begin_apart() {
    let of = |uid| order(PortRange::DEFAULT, uid)[0];
    assert_eq!(of(1000), 15_432);
    let firsts: std::collections::BTreeSet<u16> = (1000..1100).map(of).collect();
    assert_eq!(firsts.len(), 100);
    assert!(of(1001).abs_diff(of(1000)) > 30);
    let mut all = order(PortRange::DEFAULT, 1234);
    all.sort_unstable();
    assert!(all.into_iter().eq(PortRange::DEFAULT.ports()));
}

mod names {
    use super::*;

    /// Opens `name` for `target` with a choice of access, and asks what words mean.
    fn named(session: &str, target: &str, access: Access, word: &str, choices: Choices) -> Named {
        let mut world = World::new(5);
        let ticket = world.ticket();
        let wish = wish(target, access, true);
        let resolved = Some(resolved(target));
        let actions = world
            .set
            .open(ticket, &name(session), wish, resolved, world.now);
        world.perform(actions);
        world.bind_all();
        world.set.named(&Target::Word(word.into()), choices)
    }

    const WRITE: Choices = Choices {
        role: None,
        access: Some(Access::ReadWrite),
        mode: None,
    };

    #[test]
    fn a_name_that_was_given_is_never_answered_with_another_access() {
        let differs = named("prod", "sushi", Access::ReadOnly, "prod", WRITE);
        assert!(
            matches!(&differs, Named::Differs(Cause::SessionDiffers { is, .. }) if is.contains("read-only")),
            "{differs:?}"
        );
        let found = named(
            "prod",
            "sushi",
            Access::ReadOnly,
            "prod",
            Choices::default(),
        );
        assert!(matches!(found, Named::Session(_)));
        // What was not said is the session's.
        let found = named(
            "prod",
            "sushi",
            Access::ReadWrite,
            "prod",
            Choices::default(),
        );
        assert!(matches!(found, Named::Session(_)));
    }

    #[test]
    fn a_derived_name_leads_to_the_one_beside() {
        let beside = named(
            "sushi-rw",
            "sushi",
            Access::ReadWrite,
            "sushi-rw",
            Choices {
                access: Some(Access::ReadOnly),
                ..Choices::default()
            },
        );
        let expected = Choices::of(Role::Personal, Access::ReadOnly, Mode::Managed);
        assert_eq!(
            beside,
            Named::Beside(Target::Word("sushi".into()), expected)
        );
    }

    #[test]
    fn an_apps_name_alone_means_read_only() {
        let of = |choices| named("sushi", "sushi", Access::ReadOnly, "sushi", choices);
        assert!(matches!(of(Choices::default()), Named::Session(_)));
        assert_eq!(of(WRITE), Named::Nothing);
        let write = named(
            "sushi",
            "sushi",
            Access::ReadWrite,
            "sushi",
            Choices::default(),
        );
        assert_eq!(write, Named::Nothing);
    }
}
