//! Descriptors, disk, and files that are not what they should be.

use std::{
    ffi::CString,
    fs,
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use borealis_tests::{
    harness::{TestMachine, eventually},
    sandbox::Options,
};
use rustix::mount::{MountFlags, mount};

use super::{apart::apart, scene::Scene};

/// Descriptors that the daemon gets: more than it needs with a few clients.
const FEW: u64 = 110;

#[test]
fn descriptors_run_out() {
    let scene = Scene::new(Options::default());
    let pid = scene.machine.daemon().pid().to_string();
    let limit = |limit: &str| {
        let status = Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={limit}:")])
            .status();
        assert!(status.is_ok_and(|status| status.success()), "prlimit");
    };
    limit(&FEW.to_string());
    let (_, place) = scene.url.rsplit_once('@').unwrap();
    let (address, _) = place.split_once('/').unwrap();
    // They say nothing, and there are more of them than of descriptors: they give way to who
    // does, and leave some for everything else.
    let crowd: Vec<_> = (0..2 * FEW)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    scene.answers_within(Duration::from_secs(15), Instant::now());
    scene.machine.open(&["ramen::BOREALIS_PG_NAVY"]);
    scene.machine.ctl_ok(&["close", "ramen.borealis_pg_navy"]);
    let log = scene.machine.log();
    assert!(
        !log.contains("can't accept connections"),
        "{}",
        scene.machine.tail()
    );
    drop(crowd);
    // None at all is left.
    limit("3");
    await_log(&scene.machine, "can't accept connections");
    limit(&FEW.to_string());
    scene.answers_within(Duration::from_secs(15), Instant::now());
    await_log(&scene.machine, "connections are accepted again");
    scene.load.stop();
    scene.machine.leave();
}

#[test]
fn the_limit_on_descriptors_is_raised() {
    let machine = TestMachine::new();
    let limits = fs::read_to_string(format!("/proc/{}/limits", machine.daemon().pid())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let fields: Vec<_> = line.unwrap().split_whitespace().collect();
    assert_eq!(fields[3], fields[4], "{limits}");
    machine.leave();
}

#[test]
fn the_disk_is_full() {
    apart("limits::the_disk_is_full", || {
        let machine = TestMachine::without_daemon(Options::default());
        let state = machine.path("state");
        fs::create_dir(&state).unwrap();
        small_disk(&state, 512);
        let mut machine = machine;
        machine.set("BOREALIS_LOG", "borealisd=debug");
        machine.start_daemon();
        let scene = Scene::at(machine);
        let file = scene.machine.path("state/borealis/state.json");
        scene.machine.open(&["ramen::BOREALIS_PG_NAVY"]);
        // All that is left.
        let filler = scene.machine.path("state/filler");
        let filling = fs::write(&filler, vec![0; 512 * 1024]);
        assert!(filling.is_err());
        // Only now: what a session learns as it comes up is saved after it was opened.
        let before = fs::read(&file).unwrap();
        // What would not survive a restart is not begun.
        scene
            .machine
            .ctl(&["open", "sushi", "-w"])
            .expect_failure(1, &["No space left", "hint: ", "free some space"]);
        // What is over is over, and told.
        scene.machine.ctl(&["close", "ramen.borealis_pg_navy"]);
        await_log(&scene.machine, "not saved");
        await_status(&scene.machine, |said| said.contains("state.json"));
        assert_eq!(fs::read(&file).unwrap(), before, "half written");
        // A last page may have room for a few events.
        eventually(|| {
            scene.machine.ctl_ok(&["reload"]);
            match scene.machine.ctl_ok(&["status"]) {
                said if said.contains("events.jsonl") => Ok(()),
                said => Err(said),
            }
        });
        // It goes on.
        scene.load.await_answers(20);
        fs::remove_file(&filler).unwrap();
        // It is written by itself once there is room.
        eventually(|| match fs::read(&file).unwrap() == before {
            true => Err("not saved later".to_owned()),
            false => Ok(()),
        });
        serde_json::from_slice::<serde_json::Value>(&fs::read(&file).unwrap()).unwrap();
        await_status(&scene.machine, |said| {
            !said.contains("state.json") && !said.contains("events.jsonl")
        });
        let written = scene.machine.path("state/borealis/events.jsonl");
        let written = fs::read_to_string(written).unwrap();
        for line in written.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        assert!(written.contains("\"reloaded\""), "{written}");
        scene.machine.open(&["sushi", "-w"]);
        scene.load.stop();
        scene.machine.leave();
    });
}

#[test]
fn unreadable_state_is_set_aside_and_named() {
    let mut machine = TestMachine::new();
    machine.open(&["sushi"]);
    machine.kill_daemon();
    let dir = machine.path("state/borealis");
    let garbage = "{\"version\": 1, \"sessions\": [";
    fs::write(dir.join("state.json"), garbage).unwrap();
    machine.start_daemon();
    let aside = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| {
            path.display()
                .to_string()
                .contains("state.json.unreadable-")
        })
        .expect("what was there is kept");
    assert_eq!(fs::read_to_string(&aside).unwrap(), garbage);
    let status = machine.ctl(&["status"]);
    let said = format!("{}{}", status.stdout, status.stderr);
    assert!(said.contains(&aside.display().to_string()), "{said}");
    assert!(machine.log().contains("could not be read"));
    machine.open(&["sushi"]);
    machine.leave();
}

#[test]
fn a_config_that_cannot_be_read_changes_nothing() {
    let machine = TestMachine::without_daemon(Options::default());
    let good = "max_connections = 7\n";
    machine.write_config(good);
    let mut machine = machine;
    machine.start_daemon();
    let url = machine.open(&["sushi"]);
    for bad in [
        "max_connections = \"seven\"\n",
        "max_connections = = 7\n",
        "\u{0}",
    ] {
        machine.write_bare_config(bad);
        let refused = machine.ctl(&["reload"]);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains("config.toml"), "{refused:?}");
        assert_eq!(machine.query(&url, "select 1"), "1");
        let file = machine.path("config/borealis/config.toml");
        assert_eq!(fs::read_to_string(&file).unwrap(), bad);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o111, 0);
    }
    // The daemon that starts with it says where it is wrong, and leaves it alone.
    assert_eq!(machine.stop_daemon(), Some(0));
    let refused = machine.run(machine.binary("borealisd")).outcome();
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("config.toml"), "{refused:?}");
    machine.leave();
}

#[test]
fn more_connections_than_are_allowed() {
    let machine = TestMachine::without_daemon(Options::default());
    machine.write_config("max_connections = 3\n");
    let mut machine = machine;
    machine.start_daemon();
    let url = machine.open(&["sushi"]);
    let mut clients: Vec<_> = (0..3)
        .map(|_| super::client::Client::connect(&url))
        .collect();
    for client in &clients {
        client.slowest(1);
    }
    machine
        .psql(&url, "select 1")
        .expect_failure(2, &["has its 3 connections already", "max_connections"]);
    clients.pop();
    // Its place is free as soon as its end is seen.
    eventually(|| match machine.psql(&url, "select 1") {
        outcome if outcome.code == Some(0) => Ok(()),
        outcome => Err(outcome.stderr),
    });
    drop(clients);
    machine.leave();
}

#[test]
fn clients_that_say_nothing_keep_nobody_out() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let (_, place) = url.rsplit_once('@').unwrap();
    let (address, _) = place.split_once('/').unwrap();
    // More than may wait to log in.
    let crowd: Vec<_> = (0..150)
        .map(|_| TcpStream::connect(address).unwrap())
        .collect();
    assert_eq!(machine.query(&url, "select 1"), "1");
    drop(crowd);
    machine.leave();
}

#[track_caller]
fn await_status(machine: &TestMachine, wanted: impl Fn(&str) -> bool) {
    eventually(|| {
        let status = machine.ctl(&["status"]);
        let said = format!("{}{}", status.stdout, status.stderr);
        if wanted(&said) { Ok(()) } else { Err(said) }
    });
}

#[track_caller]
fn await_log(machine: &TestMachine, words: &str) {
    eventually(|| match machine.log().contains(words) {
        true => Ok(()),
        false => Err(format!("{words:?} is not in the log")),
    });
}

/// An empty file system in memory with room for so much.
#[track_caller]
fn small_disk(place: &Path, kibibytes: u32) {
    let size = CString::new(format!("size={kibibytes}k")).unwrap();
    mount(
        "none",
        place,
        "tmpfs",
        MountFlags::empty(),
        Some(size.as_c_str()),
    )
    .unwrap();
}
