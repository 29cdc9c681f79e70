//! Listeners outlive the daemon that made them.

use std::{
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStderr},
};

use borealis_tests::{
    harness::{Manager, TestMachine},
    sandbox::Options,
};
use rustix::process::Signal;

fn managed() -> (TestMachine, Manager) {
    let machine = TestMachine::without_daemon(Options::default());
    let manager = Manager::new(&machine.path(""));
    (machine, manager)
}

/// Each transaction is a connection of its own; a refused one would end its client.
#[test]
fn a_restart_refuses_no_connection() {
    let (mut machine, manager) = managed();
    machine.start_daemon_under(&manager);
    let url = machine.open(&["sushi"]);
    let script = machine.path("one.sql");
    std::fs::write(&script, "select 1;\n").unwrap();
    let script = script.display().to_string();
    let session = machine.json(&["show", "sushi"]);
    let word = |key: &str| session[key].as_str().unwrap().to_owned();
    let sockets = format!("host={} dbname={}", word("socket_dir"), word("database"));
    let port = session["port"].to_string();
    let mut clients = [url.clone(), sockets].map(|place| {
        // It tells of each query that it sends.
        let args = ["-d", "-n", "-C", "-f", &script, "-t", "100", &place];
        Telling::new(machine.run("pgbench").args(&args).start())
    });
    for _ in 0..2 {
        for client in &mut clients {
            client.await_queries(10);
        }
        assert_eq!(machine.stop_daemon(), Some(0));
        assert_eq!(
            manager.stored(),
            [format!("tcp-{port}"), "unix-sushi".into()]
        );
        machine.start_daemon_under(&manager);
    }
    for mut client in clients {
        client.await_queries(70);
        let (success, said) = client.end();
        assert!(success, "{said}\n{}", machine.tail());
        assert!(
            said.contains("100/100") && !said.contains("aborted"),
            "{said}"
        );
    }
    assert_eq!(machine.open(&["sushi"]), url);
    machine.leave();
}

/// A pgbench whose words are followed.
struct Telling {
    child: Child,
    words: Lines<BufReader<ChildStderr>>,
    said: Vec<String>,
}

impl Telling {
    fn new(mut child: Child) -> Self {
        let words = BufReader::new(child.stderr.take().unwrap()).lines();
        Self {
            child,
            words,
            said: Vec::new(),
        }
    }

    fn await_queries(&mut self, count: usize) {
        let mut seen = 0;
        while seen < count {
            let line = self
                .words
                .next()
                .unwrap_or_else(|| panic!("{:#?}", self.said))
                .unwrap();
            seen += usize::from(line.contains("sending"));
            self.said.push(line);
        }
    }

    /// Whether it succeeded, and all that it said.
    fn end(mut self) -> (bool, String) {
        self.said.extend(self.words.by_ref().map(Result::unwrap));
        let ended = self.child.wait_with_output().unwrap();
        self.said
            .push(String::from_utf8_lossy(&ended.stdout).into_owned());
        (ended.status.success(), self.said.join("\n"))
    }
}

#[test]
fn a_crash_keeps_the_clients_that_come_waiting() {
    let (mut machine, manager) = managed();
    machine.start_daemon_under(&manager);
    let url = machine.open(&["sushi"]);
    machine.kill_daemon();
    let client = machine
        .run("psql")
        .args(&["-XAtqc", "select 6 * 7", &url])
        .start();
    machine.start_daemon_under(&manager);
    let ended = client.wait_with_output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&ended.stdout),
        "42\n",
        "{}",
        machine.tail()
    );
    machine.leave();
}

/// Else clients would wait for ever where nobody will come.
#[test]
fn what_is_closed_is_taken_out_of_the_store_before_it_is_said_to_be_closed() {
    let (mut machine, manager) = managed();
    machine.start_daemon_under(&manager);
    for _ in 0..5 {
        let url = machine.open(&["sushi"]);
        assert_eq!(manager.stored().len(), 2);
        machine.ctl_ok(&["close", "sushi"]);
        assert_eq!(manager.stored(), <[&str; 0]>::default());
        // The port is free at once.
        let again = machine.open(&["sushi"]);
        assert_eq!(url, again);
        machine.ctl_ok(&["close", "sushi"]);
    }
    machine.leave();
}

/// A session for one command doesn't come back, so neither may its listeners.
#[test]
fn listeners_without_a_session_are_given_back() {
    let (mut machine, manager) = managed();
    machine.start_daemon_under(&manager);
    let mut running = machine
        .run(machine.binary("borealisctl"))
        .args(&["run", "sushi", "-e", "sleep 5"])
        .start();
    machine.wait_for("sushi-app", |session| {
        session.state() == borealis_proto::v1::State::Up
    });
    assert_eq!(manager.stored().len(), 2);
    machine.kill_daemon();
    running.kill().unwrap();
    running.wait().unwrap();
    machine.start_daemon_under(&manager);
    manager.wait_for("FDSTOREREMOVE=1", 2);
    assert_eq!(manager.stored(), <[&str; 0]>::default());
    assert!(!machine.socket_dir("sushi-app").exists());
    machine.leave();
}

/// A socket unit makes the control socket, and who speaks to it waits for the daemon.
#[test]
fn the_control_socket_may_be_a_socket_units() {
    let (mut machine, mut manager) = managed();
    let socket = machine.path("run/borealis/control.sock");
    manager.listen(&socket);
    let asking = machine
        .run(machine.binary("borealisctl"))
        .args(&["list", "--format", "json"])
        .start();
    machine.start_daemon_under(&manager);
    let answer = asking.wait_with_output().unwrap();
    assert!(answer.status.success(), "{answer:?}");
    assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "[]");
    machine.daemon().signal(Signal::TERM);
    assert_eq!(machine.await_daemon(), Some(0));
    assert!(socket.exists(), "it is the unit's to remove");
    machine.start_daemon_under(&manager);
    machine.ctl_ok(&["list"]);
    machine.leave();
}
