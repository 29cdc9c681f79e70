//! README's table of the reference's commands, line by line: every line has an entry here,
//! every flag of it is used, every status in it becomes the exit code that it says.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader},
    time::Duration,
};

use borealis_tests::{
    harness::{Outcome, TestMachine},
    sandbox::{Action, Api, Fault, Options},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::free_port;

/// A line of the table.
struct Line {
    /// The reference's command, such as `extensions:install`.
    command: &'static str,
    /// Runs that succeed, together with every flag. `PORT` stands for a free port.
    works: &'static [&'static str],
    /// The run that meets the statuses.
    fails: &'static str,
    /// Which call of the provider's answers with them.
    call: (&'static str, &'static str),
    /// What is said: for the statuses of its own, with the body that the provider sends.
    says: &'static [(u16, &'static str, &'static str)],
}

const KEY: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHJeBDUC7x5UkuAT5Mn6GvWI65nZI0t1ifJJ6Pu5GRMV";

/// What is said of statuses that mean the same everywhere.
const EVERYWHERE: [(u16, &str); 5] = [
    (401, "Heroku refused the API token"),
    (404, "is not a Borealis Isolated Postgres add-on"),
    (422, "is not finished provisioning"),
    (423, "is undergoing a PostgreSQL major version upgrade"),
    (503, "is temporarily unavailable"),
];

/// In an order in which the runs can follow each other.
const LINES: [Line; 17] = [
    Line {
        command: "info",
        works: &[
            "info -a sushi",
            "info --app sushi",
            "info -o borealis-pg-hex-12345",
            "info --addon DATABASE -a sushi",
        ],
        fails: "info -a sushi",
        call: ("GET", "/heroku/resources/*"),
        says: &[],
    },
    Line {
        command: "extensions",
        works: &["extensions -a sushi"],
        fails: "extensions -a sushi",
        call: ("GET", "pg-extensions"),
        says: &[],
    },
    Line {
        command: "extensions:install",
        works: &[
            "extensions:install -a sushi cube",
            "extensions:install -a sushi cube -s",
            "extensions:install cube -a sushi --suppress-conflict",
            "extensions:install -a sushi earthdistance -r",
            "extensions:install -a sushi citext --recursive",
        ],
        fails: "extensions:install -a sushi hstore",
        call: ("POST", "pg-extensions"),
        says: &[
            (
                400,
                r#"{"dependencies": ["cube"]}"#,
                "must be installed: cube",
            ),
            (409, r#"{"reason": "exists"}"#, "is already installed"),
        ],
    },
    Line {
        command: "extensions:remove",
        works: &[
            "extensions:remove -a sushi -c earthdistance earthdistance",
            "extensions:remove -a sushi --confirm cube cube",
            "extensions:remove -a sushi -c cube cube -s",
            "extensions:remove -a sushi -c cube cube --suppress-missing",
        ],
        fails: "extensions:remove -a sushi -c cube cube",
        call: ("DELETE", "pg-extensions/*"),
        says: &[
            (
                400,
                r#"{"reason": "dependents"}"#,
                "has dependent extensions",
            ),
            (
                404,
                r#"{"resourceType": "addon"}"#,
                "is not a Borealis Isolated Postgres add-on",
            ),
        ],
    },
    Line {
        command: "tunnel",
        works: &[
            "tunnel -a sushi -w -p PORT",
            "tunnel --app sushi --write-access --port PORT",
        ],
        fails: "tunnel -a sushi",
        call: ("POST", "personal-db-users"),
        says: &[(403, "{}", "has been temporarily revoked for personal users")],
    },
    Line {
        command: "psql",
        works: &[
            "psql -a sushi -w -p PORT -b PSQL",
            "psql -a sushi --write-access --port PORT --binary-path PSQL",
        ],
        fails: "psql -a sushi",
        call: ("POST", "personal-db-users"),
        says: &[(403, "{}", "has been temporarily revoked for personal users")],
    },
    Line {
        command: "run",
        works: &[
            "run -a sushi -d table(orders) -f json -p PORT",
            "run -a sushi --db-cmd table(orders) --format yaml --port PORT",
            "run -a sushi -i empty.sql -u -w",
            "run -a sushi --db-cmd-file empty.sql --personal-user --write-access",
            "run -a sushi -e true",
            "run -a sushi --shell-cmd true",
        ],
        fails: "run -a sushi -u -e true",
        call: ("POST", "personal-db-users"),
        says: &[(403, "{}", "has been temporarily revoked for personal users")],
    },
    Line {
        command: "users",
        works: &["users -a sushi"],
        fails: "users -a sushi",
        call: ("GET", "db-users"),
        says: &[],
    },
    Line {
        command: "users:reset",
        works: &["users:reset -a sushi --confirm sushi"],
        fails: "users:reset -a sushi --confirm sushi",
        call: ("DELETE", "db-users/credentials"),
        says: &[
            (
                400,
                r#"{"reason": "maintenance"}"#,
                "is currently undergoing maintenance",
            ),
            (403, "{}", "revoked"),
        ],
    },
    Line {
        command: "integrations",
        works: &["integrations -a sushi"],
        fails: "integrations -a sushi",
        call: ("GET", "data-integrations"),
        says: &[],
    },
    Line {
        command: "integrations:register",
        works: &[
            "integrations:register -a sushi -n etl_1 -w KEY",
            "integrations:register -a sushi --name etl_2 --write-access KEY",
        ],
        fails: "integrations:register -a sushi -n etl_3 KEY",
        call: ("POST", "data-integrations"),
        says: &[
            (400, r#"{"reason": "Bad key!"}"#, "Bad key!"),
            (409, "{}", "is already registered"),
        ],
    },
    Line {
        command: "integrations:remove",
        works: &[
            "integrations:remove -a sushi -n etl_1 -c etl_1",
            "integrations:deregister -a sushi --name etl_2 --confirm etl_2",
        ],
        fails: "integrations:remove -a sushi -n etl_3 -c etl_3",
        call: ("DELETE", "data-integrations/*"),
        says: &[(404, "{}", "has no data integration named etl_3")],
    },
    Line {
        command: "restore:capabilities",
        works: &["restore:capabilities -a sushi", "restore:info -a sushi"],
        fails: "restore:capabilities -a sushi",
        call: ("GET", "restore-capabilities"),
        says: &[],
    },
    Line {
        command: "restore:execute",
        works: &[
            "restore:execute -a sushi --as COPY -d udon -n x1-s5 --wait",
            "restore:execute -a sushi --destination-app udon --new-plan x1-s5 -t 2026-11-22T12:00:00Z",
            "restore:execute -a sushi -d udon --restore-to-time 2026-11-22T12:00:00+01:00",
        ],
        fails: "restore:execute -a sushi",
        call: ("POST", "restore-tokens"),
        says: &[(400, r#"{"reason": "Not this plan!"}"#, "Not this plan!")],
    },
    Line {
        command: "upgrade:info",
        works: &["upgrade:info -a sushi"],
        fails: "upgrade:info -a sushi",
        call: ("GET", "pg-version-upgrades"),
        says: &[],
    },
    Line {
        command: "upgrade:execute",
        works: &["upgrade:execute -a sushi"],
        fails: "upgrade:execute -a sushi",
        call: ("POST", "pg-version-upgrades"),
        says: &[
            (400, r#"{"reason": "It is too old!"}"#, "It is too old!"),
            (403, "{}", "revoked"),
            (409, "{}", "is currently undergoing maintenance"),
        ],
    },
    Line {
        command: "upgrade:cancel",
        works: &["upgrade:cancel -a sushi"],
        fails: "upgrade:cancel -a sushi",
        call: ("DELETE", "pg-version-upgrades/current"),
        says: &[(
            400,
            "{}",
            "there is no PostgreSQL version upgrade in progress",
        )],
    },
];

/// A line as README has it.
struct Told {
    command: String,
    flags: BTreeSet<String>,
    /// Status and exit code.
    becomes: Vec<(u16, i32)>,
}

fn readme() -> Vec<Told> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let (_, text) = text.split_once("### Coming from").unwrap();
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with("| ---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'));
    lines.map(told).collect()
}

fn told(line: &str) -> Told {
    // A bar within a cell is written \|.
    let line = line.replace("\\|", "/");
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [command, _, statuses] = cells[..] else {
        panic!("three cells in {line}")
    };
    let words = command.split([' ', '/', '`']);
    let flags = words
        .filter(|word| word.starts_with('-'))
        .map(str::to_owned);
    let becomes = statuses
        .split(", ")
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (status, code) = pair.split_once(" → ").expect("STATUS → CODE");
            (status.parse().unwrap(), code.parse().unwrap())
        });
    Told {
        command: command
            .trim_start_matches('`')
            .split([' ', '`'])
            .next()
            .unwrap()
            .to_owned(),
        flags: flags.collect(),
        becomes: becomes.collect(),
    }
}

fn entry(command: &str) -> &'static Line {
    LINES
        .iter()
        .find(|line| line.command == command)
        .unwrap_or_else(|| panic!("README's line for {command} has no test"))
}

fn machine() -> TestMachine {
    let mut machine = TestMachine::before(Options {
        provisioning_time: Duration::ZERO,
        ..Options::default()
    });
    machine.set("HOME", &machine.path("").display().to_string());
    fs::write(machine.path("empty.sql"), "-- nothing\n").unwrap();
    machine
}

/// Runs it as typed, the placeholders replaced; `tunnel` until it is up.
fn run(machine: &TestMachine, typed: &str) -> Outcome {
    let port = free_port();
    let words: Vec<&str> = typed
        .split(' ')
        .map(|word| match word {
            "PORT" => &port,
            "KEY" => KEY,
            "PSQL" => "/usr/bin/env",
            "table(orders)" => "table orders",
            word => word,
        })
        .collect();
    let run = machine.run(machine.binary("borealisctl")).args(&words);
    if words[0] != "tunnel" {
        return run.outcome();
    }
    let mut child = run.start();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut shown = String::new();
    while !shown.contains("URL: ") && stdout.read_line(&mut shown).unwrap() > 0 {}
    // It may have failed, and be gone.
    let _ = kill_process(Pid::from_child(&child), Signal::INT);
    let ended = child.wait_with_output().unwrap();
    Outcome {
        code: ended.status.code(),
        signal: None,
        stdout: shown,
        stderr: String::from_utf8(ended.stderr).unwrap(),
    }
}

#[test]
fn every_line_and_every_flag_works() {
    let told = readme();
    let known: BTreeSet<&str> = LINES.iter().map(|line| line.command).collect();
    let listed: BTreeSet<&str> = told
        .iter()
        .skip(1)
        .map(|line| line.command.as_str())
        .collect();
    assert_eq!(told[0].command, "every");
    assert_eq!(listed, known);
    let info: BTreeSet<&str> = entry("info")
        .works
        .iter()
        .flat_map(|run| run.split(' '))
        .collect();
    for flag in &told[0].flags {
        assert!(info.contains(flag.as_str()), "no run of info has {flag}");
    }
    let machine = machine();
    for line in &LINES {
        let told = told
            .iter()
            .find(|told| told.command == line.command)
            .unwrap();
        let mut unused = told.flags.clone();
        for typed in line.works {
            let ran = run(&machine, typed);
            assert_eq!(ran.code, Some(0), "{typed}: {ran:#?}");
            for word in typed.split(' ') {
                unused.remove(word);
            }
        }
        assert!(unused.is_empty(), "{}: no run has {unused:?}", line.command);
    }
    machine.leave();
}

#[test]
fn every_status_becomes_its_sentence_and_exit_code() {
    let told = readme();
    let mut machine = machine();
    for own in &told[1..] {
        let line = entry(&own.command);
        let everywhere = told[0].becomes.iter();
        let mut becomes = own.becomes.clone();
        becomes.extend(
            everywhere.filter(|(status, _)| own.becomes.iter().all(|(own, _)| own != status)),
        );
        // What passes in the end comes last: the daemon keeps the credentials that it got.
        becomes.sort_by_key(|(_, code)| *code == 0);
        for (status, ..) in line.says {
            let is_told = becomes.iter().any(|(told, _)| told == status);
            assert!(is_told, "README's line for {} lacks {status}", own.command);
        }
        for (status, code) in becomes {
            meet(&machine, line, status, code);
            if code == 0 {
                machine.leave();
                machine = self::machine();
            }
        }
    }
    machine.leave();
}

fn meet(machine: &TestMachine, line: &Line, status: u16, code: i32) {
    let own = line.says.iter().find(|(own, ..)| *own == status);
    let action = match own {
        Some((_, body, _)) => Action::status(status).body(body),
        None => Action::status(status),
    };
    let (method, path) = line.call;
    let mut fault = Fault::on(path, action).api(Api::Borealis).method(method);
    if code == 0 {
        // It passes.
        fault = fault.times(2);
    }
    let faults = machine.sandbox.faults();
    if status == 401 {
        // With a token that is refused, no grant could be removed either.
        while machine.sandbox.stats().grants.outstanding > 0 {
            std::thread::yield_now();
        }
        faults.revoke_token();
    } else {
        faults.add(fault);
    }
    let ran = run(machine, line.fails);
    faults.restore_token();
    machine.sandbox.block_on(faults.clear()).unwrap();
    let what = format!("{} at {status}: {ran:#?}", line.fails);
    assert_eq!(ran.code, Some(code), "{what}");
    if code == 0 {
        return;
    }
    let words = match own {
        Some((.., words)) => words,
        // What changes something may have been done.
        None if status == 503
            && method != "GET"
            && ran.stderr.contains("it is not known whether") =>
        {
            "answered 503"
        }
        None => {
            EVERYWHERE
                .iter()
                .find(|(known, _)| *known == status)
                .expect("a sentence")
                .1
        }
    };
    assert!(ran.stderr.contains(words), "{words:?} is not said: {what}");
    assert!(ran.stderr.contains("\nhint: "), "no hint: {what}");
    assert_eq!(
        ran.stderr.lines().count(),
        2,
        "more than a line and a hint: {what}"
    );
}

/// The reference's variables, beside those that `run` sets.
#[test]
fn the_environment_means_the_same() {
    let mut machine = machine();
    machine.set("HEROKU_APP", "sushi");
    assert_eq!(machine.json(&["info"])["app"], "sushi");
    assert_eq!(
        machine.json(&["info", "--addon", "DATABASE"])["app"],
        "sushi"
    );
    // What is typed wins.
    machine.ctl(&["info", "udon"]).expect_failure(5, &["udon"]);
    machine
        .ctl(&["info", "--app", "udon"])
        .expect_failure(5, &["udon"]);
    machine
        .ctl(&["close"])
        .expect_failure(2, &["no session was named"]);
    // The daemon's own are read at its start: another service's add-ons are then ours.
    assert_eq!(machine.stop_daemon(), Some(0));
    machine.set("BOREALIS_PG_ADDON_SERVICE_NAME", "papertrail");
    machine.start_daemon();
    machine
        .ctl(&["info", "--app", "sushi"])
        .expect_failure(5, &["no Borealis Isolated Postgres add-on"]);
    machine.leave();
}
