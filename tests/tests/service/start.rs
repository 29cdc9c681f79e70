//! Has systemd start the daemon, where its unit is installed.

use std::{fs, os::unix::fs::PermissionsExt as _};

use borealis_tests::{
    harness::{Desk, PATIENCE},
    sandbox::Options,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

/// A desk with the unit, and a `systemctl` that does what a user manager would.
fn with_unit(systemctl: &str) -> Desk {
    let mut desk = Desk::without_daemon(Options::default());
    let units = desk.path("config/systemd/user");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("borealisd.service"), "").unwrap();
    fs::create_dir_all(desk.path("run/systemd/private")).unwrap();
    let programs = desk.path("bin");
    fs::create_dir(&programs).unwrap();
    let program = programs.join("systemctl");
    fs::write(&program, format!("#!/bin/sh\n{systemctl}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap();
    desk.set("PATH", &format!("{}:{path}", programs.display()));
    desk
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
    let mut desk = with_unit(
        "[ \"$*\" = '--user start borealisd.service' ] || exit 64
         \"$DAEMON\" >/dev/null 2>\"$HOME/daemon.log\" & echo $! >\"$HOME/pid\"
         until [ -S \"$XDG_RUNTIME_DIR/borealis/control.sock\" ]; do sleep 0.05; done",
    );
    let daemon = desk.binary("borealisd").display().to_string();
    desk.set("DAEMON", &daemon);
    let asked = desk.ctl(&["status"]);
    asked.expect_failure(3, &["start it with `systemctl --user start borealisd`"]);
    let url = desk.open(&["sushi"]);
    assert_eq!(desk.query(&url, "select 1"), "1");
    desk.ctl_ok(&["status"]);
    let pid = fs::read_to_string(desk.path("pid")).unwrap();
    let pid = Pid::from_raw(pid.trim().parse().unwrap()).unwrap();
    end(pid);
    desk.leave();
}

#[test]
fn what_systemd_says_is_passed_on() {
    let desk = with_unit("echo 'Job for borealisd.service failed.' >&2; exit 1");
    let asked = desk.ctl(&["list"]);
    asked.expect_failure(
        3,
        &[
            "error: borealisd is not running, and can't be started: Job for borealisd.service failed.\n",
            "hint: see why with `journalctl --user -u borealisd -n 20`",
        ],
    );
    // Another socket that was named isn't that service's.
    let asked = desk.ctl(&["list", "--socket", "/tmp/no-such.sock"]);
    asked.expect_failure(3, &["there is no socket /tmp/no-such.sock"]);
}
