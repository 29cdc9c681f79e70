//! What a start meets: files that are not what they should be, other daemons, other users,
//! long paths, an environment without what a log-in sets; and a stop amid a reload.

use std::{
    fs::{self, Permissions},
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::UnixListener,
        process::CommandExt as _,
    },
    path::Path,
    process::{Child, Command, Stdio},
};

use borealis_tests::{
    harness::{Manager, Outcome, TestMachine},
    sandbox::Options,
};
use rustix::process::Signal;

fn machine() -> TestMachine {
    TestMachine::without_daemon(Options::default())
}

/// A start that must fail.
fn start(machine: &TestMachine, args: &[&str]) -> Outcome {
    machine
        .run(machine.binary("borealisd"))
        .args(args)
        .outcome()
}

// --- stopping ---

/// The command runs longer than anything here waits: only one that is given up lets go.
#[test]
fn a_signal_is_heard_during_a_reload() {
    for by_signal in [true, false] {
        let mut machine = machine();
        machine.unset("HEROKU_API_KEY");
        let manager = Manager::new(&machine.path(""));
        machine.start_daemon_under(&manager);
        machine.write_config("token_command = \"sleep 1000\"\n");
        machine.daemon().signal(Signal::HUP);
        manager.wait_for("RELOADING=1", 1);
        if by_signal {
            machine.daemon().signal(Signal::TERM);
        } else {
            machine.ctl_ok(&["shutdown"]);
        }
        assert_eq!(machine.await_daemon(), Some(0));
        let log = machine.log();
        assert!(!log.contains("printed no token within"), "{log}");
    }
}

// --- the control socket ---

#[test]
fn nothing_but_a_stale_socket_of_ours_is_removed() {
    let machine = machine();
    let at = |name: &str| machine.path(name);
    fs::write(at("file"), "precious").unwrap();
    fs::create_dir(at("directory")).unwrap();
    std::os::unix::fs::symlink("file", at("link")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), 0o600.into()).unwrap();
    drop(UnixListener::bind(at("stale.sock")).unwrap());
    let _live = UnixListener::bind(at("live.sock")).unwrap();
    for (name, what) in [
        ("file", "a file"),
        ("directory", "a directory"),
        ("link", "a symbolic link"),
        ("pipe", "a named pipe"),
        ("stale.sock", "nobody answers"),
        ("live.sock", "the socket of"),
    ] {
        let path = at(name).display().to_string();
        start(&machine, &["--socket", &path]).expect_failure(2, &[what, &path]);
        let by_variable = machine
            .run(machine.binary("borealisd"))
            .env("BOREALIS_SOCKET", &path);
        by_variable.outcome().expect_failure(2, &[what]);
        assert!(fs::symlink_metadata(at(name)).is_ok(), "{name} is gone");
    }
    assert_eq!(fs::read(at("file")).unwrap(), b"precious");
    assert!(
        fs::metadata(at("live.sock"))
            .unwrap()
            .file_type()
            .is_socket()
    );
}

/// Under a name of the user's own, too.
#[test]
fn what_a_crash_left_is_taken_over() {
    let mut machine = machine();
    let socket = machine.path("own.sock").display().to_string();
    machine.set("BOREALIS_SOCKET", &socket);
    for _ in 0..2 {
        machine.start_daemon();
        machine.ctl_ok(&["status"]);
        machine.kill_daemon();
        assert!(Path::new(&socket).exists());
    }
}

#[test]
fn a_directory_that_others_may_write_is_refused_by_both_sides() {
    let machine = machine();
    let open = machine.path("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    let socket = open.join("borealis/control.sock").display().to_string();
    start(&machine, &["--socket", &socket]).expect_failure(2, &["chmod o-w"]);
    let runtime = open.display().to_string();
    let started = machine
        .run(machine.binary("borealisd"))
        .env("XDG_RUNTIME_DIR", &runtime)
        .outcome();
    started.expect_failure(2, &["chmod o-w"]);
    fs::create_dir_all(open.join("borealis")).unwrap();
    let _live = UnixListener::bind(&socket).unwrap();
    let asked = machine.ctl(&["--socket", &socket, "list"]);
    asked.expect_failure(3, &["every user may write", "chmod o-w"]);
}

/// Needs root, who alone can run a process as somebody else.
#[test]
fn nothing_is_sent_to_another_users_daemon() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let machine = machine();
    let home = tempfile::Builder::new()
        .prefix("bd")
        .tempdir_in("/tmp")
        .unwrap();
    let nobody = 65_534;
    std::os::unix::fs::chown(home.path(), Some(nobody), Some(nobody)).unwrap();
    // Where that user can run it.
    let program = home.path().join("borealisd");
    fs::copy(machine.binary("borealisd"), &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let socket = home.path().join("control.sock");
    let daemon = Command::new(&program)
        .arg("--socket")
        .arg(&socket)
        .env_clear()
        .env("HOME", home.path())
        .uid(nobody)
        .gid(nobody)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let daemon = Ready::wait(daemon);
    let socket = socket.display().to_string();
    let login = machine
        .run(machine.binary("borealisctl"))
        .args(&["--socket", &socket, "login", "--token-stdin"])
        .input("HRKU-precious\n")
        .outcome();
    login.expect_failure(3, &["another user", "65534", "nothing was sent"]);
    drop(daemon);
}

/// A daemon that has said that it is ready; ended when dropped.
struct Ready(Child);

impl Ready {
    fn wait(mut child: Child) -> Self {
        use std::io::BufRead as _;
        let log = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut seen = Vec::new();
        for line in log.lines() {
            seen.push(line.unwrap());
            if seen.last().unwrap().contains("is ready") {
                return Self(child);
            }
        }
        panic!("it ended: {seen:#?}");
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

// --- the config file ---

#[test]
fn a_config_that_others_decide_over_is_refused() {
    let mut machine = machine();
    machine.write_config("token_command = \"false\"\n");
    let config = machine.path("config/borealis/config.toml");
    for mode in [0o666, 0o664, 0o646] {
        fs::set_permissions(&config, Permissions::from_mode(mode)).unwrap();
        start(&machine, &[]).expect_failure(2, &["config.toml", "chmod go-w"]);
        start(&machine, &["--check-config"]).expect_failure(2, &["chmod go-w"]);
    }
    fs::set_permissions(&config, Permissions::from_mode(0o644)).unwrap();
    machine.write_config("");
    machine.start_daemon();
    // Nor at a reload; what was in force stays so.
    fs::set_permissions(&config, Permissions::from_mode(0o666)).unwrap();
    machine
        .ctl(&["reload"])
        .expect_failure(1, &["config.toml", "chmod go-w"]);
    fs::set_permissions(&config, Permissions::from_mode(0o644)).unwrap();
    machine.ctl_ok(&["reload"]);
    machine.leave();
}

#[test]
fn a_config_that_is_no_file_is_refused_at_once() {
    let machine = machine();
    let config = machine.path("config/borealis/config.toml");
    fs::remove_file(&config).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &config, 0o600.into()).unwrap();
    start(&machine, &[]).expect_failure(2, &["config.toml", "a named pipe"]);
    start(&machine, &["--check-config"]).expect_failure(2, &["a named pipe"]);
    for (path, what) in [("/dev/zero", "a device"), ("/", "a directory")] {
        start(&machine, &["--config", path]).expect_failure(2, &[what]);
    }
    let ca = machine.path("ca.pem");
    rustix::fs::mkfifoat(rustix::fs::CWD, &ca, 0o600.into()).unwrap();
    fs::remove_file(&config).unwrap();
    machine.write_config(&format!(
        "upstream_tls = \"verify-ca\"\nupstream_ca = \"{}\"\n",
        ca.display()
    ));
    start(&machine, &[]).expect_failure(2, &["upstream_ca", "a named pipe"]);
}

#[test]
fn what_a_config_holds_does_not_steer_the_terminal() {
    let machine = machine();
    machine.write_config("\"a\\u001b[2J\\u202e\" = 1\n");
    let started = start(&machine, &[]);
    started.expect_failure(2, &["config.toml"]);
    let evil = ['\u{1b}', '\u{202e}'];
    assert!(!started.stderr.contains(evil), "{:?}", started.stderr);
}

// --- finding each other ---

/// As under cron, su or `docker exec`.
#[test]
fn a_client_without_a_runtime_directory_finds_the_daemon() {
    let mut machine = machine();
    machine.start_daemon();
    let run = machine.path("run").display().to_string();
    machine.unset("XDG_RUNTIME_DIR");
    machine.ctl_ok(&["status"]);
    let second = start(&machine, &[]);
    let pid = format!("pid {}", machine.daemon().pid());
    second.expect_failure(1, &["running already", &pid, "control.sock"]);
    // Once it has ended, it isn't looked for where it was.
    machine.stop_daemon();
    machine
        .ctl(&["status"])
        .expect_failure(3, &["not running", "XDG_RUNTIME_DIR", "--socket"]);
    machine.set("XDG_RUNTIME_DIR", &run);
}

#[test]
fn a_long_runtime_directory_serves_the_client() {
    let mut machine = machine();
    let long = machine.path(&"r".repeat(100));
    fs::create_dir(&long).unwrap();
    fs::set_permissions(&long, Permissions::from_mode(0o700)).unwrap();
    machine.set("XDG_RUNTIME_DIR", &long.display().to_string());
    machine.start_daemon();
    machine.ctl_ok(&["status"]);
    // No libpq could use the session's socket there.
    machine
        .ctl(&["open", "sushi"])
        .expect_failure(1, &["bytes longer", "XDG_RUNTIME_DIR"]);
    machine.ctl_ok(&["shutdown"]);
    assert_eq!(machine.await_daemon(), Some(0));
    assert!(!long.join("borealis/control.sock").exists());
}
