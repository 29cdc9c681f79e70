//! How often the provider is asked: never more than needed.

use std::collections::BTreeMap;

use borealis_tests::{harness::TestMachine, sandbox::BastionAction};

use super::client::Client;

/// The calls since the last time that were counted, by method and the end of the path.
struct Counter<'a> {
    machine: &'a TestMachine,
    seen: BTreeMap<String, u64>,
}

const GRANT: &str = "heroku POST /oauth/authorizations";
const NO_GRANT: &str = "heroku DELETE /oauth/authorizations/*";
const KEY: &str = "borealis POST personal-ssh-users";
const PASSWORD: &str = "borealis POST personal-db-users";
const ADDONS: &str = "heroku GET /apps/sushi/addons";
const ATTACHMENTS: &str = "heroku GET /addons/*/addon-attachments";

// === impl Counter ===

impl Counter<'_> {
    #[track_caller]
    fn expect(&mut self, what: &str, expected: &[&str]) {
        // A grant is removed behind everybody's back.
        let removed = |stats: &borealis_tests::sandbox::Stats| stats.grants.outstanding == 0;
        let waiting = self
            .machine
            .sandbox
            .wait_for(borealis_tests::harness::PATIENCE, removed);
        let stats = self.machine.sandbox.block_on(waiting).unwrap();
        let mut calls = Vec::new();
        for (name, count) in &stats.requests {
            let before = self.seen.get(name).copied().unwrap_or_default();
            calls.extend((before..*count).map(|_| short(name)));
        }
        calls.sort();
        println!("{what}: {calls:?}");
        let mut expected: Vec<_> = expected.iter().map(|&name| name.to_owned()).collect();
        expected.sort();
        assert_eq!(calls, expected, "{what}");
        self.seen = stats.requests;
    }
}

/// Without ids, and without the add-on's name.
fn short(name: &str) -> String {
    let (call, path) = name.rsplit_once(' ').unwrap();
    let path = match path.strip_prefix("/heroku/resources/") {
        Some(rest) => rest.split_once('/').map_or(rest, |(_, end)| end).to_owned(),
        None => {
            let segments = path.split('/').enumerate().map(|(at, segment)| {
                let id =
                    segment.len() >= 32 || segment.starts_with("borealis-pg-") || segment == "…";
                if id && at > 1 { "*" } else { segment }
            });
            segments.collect::<Vec<_>>().join("/")
        }
    };
    format!("{call} {path}")
}

#[test]
fn the_provider_is_asked_for_no_more_than_is_needed() {
    let mut machine = TestMachine::new();
    let mut counter = Counter {
        machine: &machine,
        seen: BTreeMap::new(),
    };
    counter.expect("a daemon without sessions", &[]);
    let url = machine.open(&["sushi"]);
    counter.expect(
        "an open",
        &[ADDONS, ATTACHMENTS, GRANT, KEY, PASSWORD, NO_GRANT],
    );
    machine.open(&["sushi"]);
    // Whether it still leads there.
    counter.expect("an open of the same", &[ADDONS]);
    for _ in 0..20 {
        Client::connect(&url).slowest(5);
    }
    counter.expect("twenty clients", &[]);
    for _ in 0..3 {
        let faults = machine.sandbox.faults();
        machine
            .sandbox
            .block_on(faults.bastion(BastionAction::Cut))
            .unwrap();
        Client::connect(&url).slowest(1);
    }
    counter.expect("three reconnects", &[ADDONS; 3]);
    machine.ctl_ok(&["rotate", "sushi"]);
    counter.expect(
        "a rotation, of which a day has three",
        &[ADDONS, GRANT, KEY, PASSWORD, NO_GRANT],
    );
    machine.open(&["sushi", "-w"]);
    counter.expect(
        "another access to the same add-on",
        &[ADDONS, ATTACHMENTS, GRANT, PASSWORD, NO_GRANT],
    );
    machine.ctl_ok(&["close", "sushi-rw"]);
    counter.expect("a close", &[]);
    machine.open(&["sushi", "-w"]);
    counter.expect("an open of what was closed", &[ADDONS, ATTACHMENTS]);
    machine.ctl_ok(&["close", "sushi-rw"]);
    counter.expect("another close", &[]);
    let seen = counter.seen;
    assert_eq!(machine.stop_daemon(), Some(0));
    machine.start_daemon();
    Client::connect(&url).slowest(1);
    let mut counter = Counter {
        machine: &machine,
        seen,
    };
    counter.expect("a restart", &[ADDONS, GRANT, KEY, PASSWORD, NO_GRANT]);
    machine.leave();
}
