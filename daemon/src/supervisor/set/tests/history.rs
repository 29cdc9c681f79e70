//! Random histories.

use proptest::prelude::*;

use super::*;

/// Few ports, so that they run out.
const PORTS: u16 = 4;
const APPS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone)]
enum Step {
    Open {
        app: usize,
        write: bool,
        kept: bool,
        port: Option<u16>,
        brief: bool,
    },
    Close(usize),
    Bind(usize),
    End(usize),
    Leave(usize),
    /// An event of a session that may have gone long ago.
    Late(usize),
    Foreign(u16),
    Retry,
    Pass,
    Declare(Vec<(usize, bool)>),
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let app = 0..APPS.len();
    let port = prop_oneof![
        6 => Just(None),
        1 => (0..PORTS).prop_map(|n| Some(FIRST_PORT + n)),
    ];
    prop_oneof![
        8 => (app.clone(), any::<bool>(), any::<bool>(), port, prop::bool::weighted(0.1))
            .prop_map(|(app, write, kept, port, brief)| Step::Open { app, write, kept, port, brief }),
        4 => app.clone().prop_map(Step::Close),
        8 => any::<usize>().prop_map(Step::Bind),
        5 => any::<usize>().prop_map(Step::End),
        4 => any::<usize>().prop_map(Step::Leave),
        2 => any::<usize>().prop_map(Step::Late),
        1 => (0..PORTS).prop_map(|n| Step::Foreign(FIRST_PORT + n)),
        1 => Just(Step::Retry),
        1 => Just(Step::Pass),
        1 => prop::collection::vec((app, any::<bool>()), 0..3).prop_map(Step::Declare),
        1 => Just(Step::Restart),
    ]
}

/// What has been answered, and to what wish.
#[derive(Default)]
struct Record {
    opens: BTreeMap<Ticket, (SessionName, Wish)>,
    closes: Vec<Ticket>,
    ids: Vec<SessionId>,
    users: Vec<(SessionId, Ticket)>,
    declared: BTreeMap<SessionName, DeclaredSession>,
}

fn run(steps: Vec<Step>) {
    let mut world = World::new(PORTS);
    let mut record = Record::default();
    for step in steps {
        world.now += Duration::from_secs(1);
        let before = world.set.saved();
        let told = world.told.len();
        take(&mut world, &mut record, step);
        look(&world, &mut record);
        remembers(&world, &before, &world.told[told..]);
    }
    // In the end everybody has an answer.
    while !world.binding.is_empty() || !world.ending.is_empty() {
        world.bind_all();
        world.end_all();
    }
    let waiting = record.opens.keys().chain(&record.closes);
    for ticket in waiting {
        assert!(
            world.answers.contains_key(ticket),
            "{ticket:?} has no answer"
        );
    }
}

fn take(world: &mut World, record: &mut Record, step: Step) {
    match step {
        Step::Open {
            app,
            write,
            kept,
            port,
            brief,
        } => {
            let access = if write {
                Access::ReadWrite
            } else {
                Access::ReadOnly
            };
            // Half of the names are derived, half belong to either access.
            let name = name(APPS[app]);
            let expiry = brief.then(|| Expiry {
                at: world.now + Duration::from_secs(5),
                grace: Expiry::GRACE,
            });
            let wish = Wish {
                port,
                expiry,
                ..wish(APPS[app], access, kept)
            };
            let ticket = world.open(&name, wish.clone());
            record.opens.insert(ticket, (name, wish));
        }
        Step::Close(app) => {
            let name = name(APPS[app]);
            if let Some(ticket) = world.close(&name) {
                record.closes.push(ticket);
                assert!(
                    !is_open(world.saved(&name).as_ref()),
                    "{name} is closed by wish"
                );
            }
        }
        Step::Bind(which) => {
            world.bind_one(which);
        }
        Step::End(which) => {
            world.end_one(which);
        }
        Step::Leave(which) => {
            if !record.users.is_empty() {
                let (id, user) = record.users[which % record.users.len()];
                let actions = world.set.left(id, user, world.now);
                world.perform(actions);
            }
        }
        Step::Late(which) => {
            if !record.ids.is_empty() {
                let id = record.ids[which % record.ids.len()];
                if world.set.get(id).is_none() {
                    let before = world.set.saved();
                    assert_eq!(world.set.ended(id, world.now), []);
                    assert_eq!(world.set.bound(id, Ok(1), world.now), []);
                    assert_eq!(world.set.saved(), before);
                }
            }
        }
        Step::Foreign(port) => {
            if world.is_free(port) {
                world.foreign.push(port);
            } else {
                world.foreign.retain(|foreign| *foreign != port);
            }
        }
        Step::Retry => {
            let actions = world.set.retry(world.now);
            world.perform(actions);
        }
        Step::Pass => {
            world.now += Duration::from_secs(10);
            let actions = world.set.expire(world.now);
            world.perform(actions);
        }
        Step::Declare(sessions) => {
            let access = |write| {
                if write {
                    Access::ReadWrite
                } else {
                    Access::ReadOnly
                }
            };
            let sessions = sessions.into_iter();
            let before = std::mem::take(&mut record.declared);
            record.declared = sessions
                .map(|(app, write)| (name(APPS[app]), declared(APPS[app], access(write), None)))
                .collect();
            let (_, actions) = world.set.redeclare(record.declared.clone(), world.now);
            world.perform(actions);
            let declared = record.declared.iter();
            for (name, declared) in declared.filter(|(name, is)| before.get(*name) != Some(*is)) {
                let entry = world.set.by_name(name);
                let is_so = entry.is_some_and(|entry| {
                    entry.is_closing() || entry.spec.access == declared.access
                });
                assert!(is_so, "{name} is what is declared, or on its way there");
            }
        }
        Step::Restart => {
            let open: Vec<_> = world.set.saved().into_iter().collect();
            world.restart(PORTS, record.declared.clone());
            for saved in open {
                let entry = world.set.by_name(&saved.name);
                let is_declared = record.declared.contains_key(&saved.name);
                let expired = saved.expiry.is_some_and(|expiry| expiry.at <= world.now);
                let was_users =
                    saved.openness == Openness::Open && saved.origin == Origin::User && !expired;
                assert_eq!(entry.is_some(), is_declared || was_users, "{saved:?}");
            }
            // Nobody waits for a daemon that has gone.
            record.opens.clear();
            record.closes.clear();
            record.users.clear();
            record.ids.clear();
        }
    }
}

/// What holds at any time.
fn look(world: &World, record: &mut Record) {
    let entries: Vec<_> = world.set.entries().collect();
    for pair in entries.windows(2) {
        assert!(
            pair[0].spec.name < pair[1].spec.name,
            "a name has one session"
        );
    }
    let saved = world.set.saved();
    let mut ports: Vec<_> = saved.iter().map(|saved| saved.port).collect();
    ports.sort_unstable();
    let count = ports.len();
    ports.dedup();
    assert_eq!(ports.len(), count, "a port is one session's: {saved:?}");
    let mut used: Vec<_> = world.running.values().collect();
    used.sort_unstable();
    used.dedup();
    assert_eq!(
        used.len(),
        world.running.len(),
        "nobody listens where another does"
    );
    for entry in &entries {
        record.ids.push(entry.id);
        let is_running = world.running.contains_key(&entry.id);
        assert_eq!(is_running, entry.actual == Actual::Running, "{entry:?}");
        if let Keeping::Transient(users) = &entry.keeping {
            assert!(
                !users.is_empty() || entry.is_closing(),
                "nobody uses {entry:?}"
            );
        }
    }
    let opens = std::mem::take(&mut record.opens);
    for (ticket, (name, wish)) in opens {
        match world.answers.get(&ticket) {
            None => drop(record.opens.insert(ticket, (name, wish))),
            Some(Answer::Opened(id, _)) => {
                record.users.push((*id, ticket));
                // It may have ended in the same step, but was never another.
                if let Some(entry) = world.set.get(*id) {
                    assert_eq!(entry.spec.name, name);
                    assert_eq!(entry.spec.access, wish.access);
                    assert!(wish.port.is_none_or(|port| entry.port == Some(port)));
                }
            }
            Some(_) => {}
        }
    }
}

/// A port that was remembered still is, unless somebody named another for the session, or it is
/// told that another session has it.
fn remembers(world: &World, before: &[SavedSession], told: &[(SessionName, Kind)]) {
    for saved in before {
        let lost = told.contains(&(saved.name.clone(), Kind::PortReused));
        let has = world.saved(&saved.name).map(|saved| saved.port);
        let named = world.set.by_name(&saved.name);
        let named = named.and_then(|entry| entry.fixed_port);
        assert!(
            lost || has == Some(saved.port) || has.is_some() && has == named,
            "{} has {has:?} in place of {}",
            saved.name,
            saved.port
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_set_is_right_after_every_history(steps in prop::collection::vec(step(), 1..60)) {
        run(steps);
    }
}
