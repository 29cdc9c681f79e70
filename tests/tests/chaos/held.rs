//! Clients and lines that are silent, without load beside them.

use std::{
    io::Read as _,
    net::TcpStream,
    time::{Duration, Instant},
};

use borealis_proto::v1::State;
use borealis_tests::{
    harness::{PATIENCE, TestMachine},
    sandbox::{BastionAction, BastionKind, Options},
};

use super::{
    line::{Line, last},
    scene::{before, metric},
};

fn tasks(machine: &TestMachine) -> u64 {
    metric(machine, "borealis_tasks ")
}

fn address(url: &str) -> &str {
    let (_, place) = url.rsplit_once('@').unwrap();
    place.split_once('/').unwrap().0
}

#[test]
fn clients_that_stop_waiting_are_forgotten() {
    let machine = TestMachine::before(before(BastionKind::Embedded));
    let managed = machine.open(&["sushi"]);
    let raw = machine.open(&["sushi", "--passthrough", "--name", "raw"]);
    let faults = machine.sandbox.faults();
    machine
        .sandbox
        .block_on(faults.bastion(BastionAction::Stop))
        .unwrap();
    for session in ["sushi", "raw"] {
        machine.wait_for(session, |session| session.state() != State::Up);
    }
    let before = tasks(&machine);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let waiting: Vec<_> = [&managed, &raw]
        .into_iter()
        .flat_map(|url| std::iter::repeat_n(url, 20))
        .map(|url| {
            let url = url.clone();
            runtime.spawn(async move {
                let connecting = tokio_postgres::connect(&url, tokio_postgres::NoTls);
                connecting.await.map(drop)
            })
        })
        .collect();
    let began = Instant::now();
    // One for each, and a few of an attempt come and go.
    while tasks(&machine) < before + 30 {
        assert!(began.elapsed() < PATIENCE, "{before}, {}", tasks(&machine));
        last(Duration::from_millis(20));
    }
    for client in waiting {
        client.abort();
    }
    drop(runtime);
    let left = Instant::now();
    while tasks(&machine) > before + 4 {
        // Far below the 30 s after which they would be refused.
        assert!(
            left.elapsed() < Duration::from_secs(15),
            "{}",
            tasks(&machine)
        );
        last(Duration::from_millis(20));
    }
    machine
        .sandbox
        .block_on(faults.bastion(BastionAction::Start))
        .unwrap();
    assert_eq!(machine.query(&managed, "select 1"), "1");
    machine.leave();
}

/// How long it takes until a line that nobody uses is known to be dead.
fn found_dead(keepalive: &str) -> Duration {
    let line = Line::on_loopback();
    let machine = TestMachine::without_daemon(Options {
        bastion_seen_at: Some(line.address()),
        ..before(BastionKind::Embedded)
    });
    line.lead_to(machine.sandbox.bastion_port());
    machine.write_config(keepalive);
    let mut machine = machine;
    machine.start_daemon();
    machine.open(&["sushi"]);
    let began = Instant::now();
    line.mute();
    machine.wait_for("sushi", |session| session.state() != State::Up);
    let took = began.elapsed();
    machine.wait_for("sushi", |session| session.state() == State::Up);
    machine.leave();
    took
}

#[test]
fn a_line_that_nobody_uses_is_found_dead() {
    let took = found_dead("");
    println!("dead after {took:?}");
    // 5 s of silence, 5 s without an answer, and the time to see it.
    assert!(took < Duration::from_secs(12), "{took:?}");
}

#[test]
fn how_soon_is_configurable() {
    let took = found_dead("[keepalive]\ninterval = \"1s\"\ntimeout = \"1s\"\n");
    println!("dead after {took:?}");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_client_that_never_says_who_it_is_is_closed() {
    let machine = TestMachine::before(before(BastionKind::Embedded));
    let url = machine.open(&["sushi"]);
    let mut silent = TcpStream::connect(address(&url)).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let began = Instant::now();
    assert_eq!(silent.read(&mut [0]).unwrap(), 0);
    assert!(began.elapsed() > Duration::from_secs(29));
    machine.leave();
}
