//! Has systemd start the daemon, where its unit is installed.

use std::{fs, os::unix::fs::PermissionsExt as _};

use borealis_tests::{
    harness::{PATIENCE, TestMachine},
    sandbox::Options,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// A machine with the unit, and a `systemctl` that does what a user manager would.
fn with_unit(systemctl: &str) -> TestMachine {
    let mut machine = TestMachine::without_daemon(Options::default());
    let units = machine.path("config/systemd/user");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("borealisd.service"), "").unwrap();
    fs::create_dir_all(machine.path("run/systemd/private")).unwrap();
    let programs = machine.path("bin");
    fs::create_dir(&programs).unwrap();
    let program = programs.join("systemctl");
    fs::write(&program, format!("#!/bin/sh\n{systemctl}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    machine.set("PATH", &format!("{}:{path}", programs.display()));
    machine
}

/// Ends a process that isn't a child, and waits for it.
fn end(pid: Pid) {
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    pidfd_send_signal(&process, Signal::TERM).unwrap();
    let mut ended = [PollFd::new(&process, PollFlags::IN)];
    let patience = PATIENCE.try_into().unwrap();
    assert_eq!(poll(&mut ended, Some(&patience)).unwrap(), 1, "it goes on");
}

#[test]
fn a_command_that_needs_the_daemon_starts_it() {
    let mut machine = with_unit(
        "[ \"$*\" = '--user start borealisd.service' ] || exit 64
         \"$DAEMON\" >/dev/null 2>\"$HOME/daemon.log\" & echo $! >\"$HOME/pid\"
         until [ -S \"$XDG_RUNTIME_DIR/borealis/control.sock\" ]; do sleep 0.05; done",
    );
    let daemon = machine.binary("borealisd").display().to_string();
    machine.set("DAEMON", &daemon);
    let asked = machine.ctl(&["status"]);
    asked.expect_failure(3, &["start it with `systemctl --user start borealisd`"]);
    let url = machine.open(&["sushi"]);
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.ctl_ok(&["status"]);
    let pid = fs::read_to_string(machine.path("pid")).unwrap();
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    end(pid);
    machine.leave();
}

#[test]
fn what_systemd_says_is_passed_on() {
    let machine = with_unit("echo 'Job for borealisd.service failed.' >&2; exit 1");
    let asked = machine.ctl(&["list"]);
    asked.expect_failure(
        3,
        &[
            "error: borealisd is not running, and can't be started: Job for borealisd.service failed.\n",
            "hint: see why with `journalctl --user -u borealisd -n 20`",
        ],
    );
    // Another socket that was named isn't that service's.
    let asked = machine.ctl(&["list", "--socket", "/tmp/no-such.sock"]);
    asked.expect_failure(3, &["there is no socket /tmp/no-such.sock"]);
}
