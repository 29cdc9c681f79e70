//! Signing in, from end to end: each place where the Heroku token may be, in its order, a
//! real keyring among them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that meets the unexpected has failed"
)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
};

use borealis_tests::{
    harness::{Outcome, TestMachine},
    sandbox::{Action, Fault, Options},
};
use serde_json::{Value, json};

/// A machine whose daemon has no token yet; and the token.
fn machine() -> (TestMachine, String) {
    let mut machine = TestMachine::without_daemon(Options::default());
    machine.unset("HEROKU_API_KEY");
    let token = machine.sandbox.token();
    (machine, token)
}

fn log_in(machine: &TestMachine, token: &str, flags: &[&str]) -> Outcome {
    machine
        .run(machine.binary("borealisctl"))
        .args(&[&["login", "--token-stdin"], flags].concat())
        .input(token)
        .outcome()
}

/// Whose token is used, by which place; and the places with a token that aren't used.
fn who(machine: &TestMachine) -> (Value, Value, Vec<String>) {
    let who = machine.json(&["whoami"]);
    let shadowed = who["places"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|place| place["state"] == "shadowed")
        .map(|place| place["place"].as_str().unwrap().to_owned())
        .collect();
    (who["account"].clone(), who["source"].clone(), shadowed)
}

fn write_netrc(machine: &TestMachine, text: &str, mode: u32) {
    let file = machine.path(".netrc");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn login_brings_up_what_waits_for_a_token() {
    let (mut machine, token) = machine();
    machine.write_config("[[session]]\ntarget = \"sushi\"\n");
    machine.start_daemon();
    machine.wait_for("sushi", |session| {
        session
            .last_error
            .as_ref()
            .is_some_and(|why| why.code == "not-logged-in")
    });
    machine
        .ctl(&["open", "ramen"])
        .expect_failure(4, &["not logged in to Heroku", "borealisctl login"]);
    machine
        .ctl(&["whoami"])
        .expect_failure(4, &["not logged in"]);
    assert_eq!(machine.json(&["status"])["health"], "failing");

    let said = log_in(&machine, &token, &["--file"]).expect_success();
    assert!(
        said.starts_with("logged in as chef@example.com; the token is kept in "),
        "{said}"
    );
    machine.wait_for("sushi", |session| {
        session.last_error.is_none() && session.state == 2
    });
    assert_eq!(who(&machine).1, "borealisctl login");
    assert_eq!(
        machine.json(&["status"])["token_source"],
        "borealisctl login"
    );

    // The token is kept for the next daemon.
    assert_eq!(machine.stop_daemon(), Some(0));
    machine.start_daemon();
    assert_eq!(who(&machine).0, "chef@example.com");
    let file = machine.path("state/borealis/login.json");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let said = machine.ctl_ok(&["logout"]);
    assert_eq!(
        said,
        "logged out chef@example.com; borealisd has no other token"
    );
    assert!(!file.exists());
    machine.ctl(&["whoami"]).expect_failure(4, &[]);
    assert_eq!(
        machine.ctl_ok(&["logout"]),
        "no login was kept; borealisd has no other token"
    );
    machine.leave();
}

#[test]
fn what_heroku_refuses_is_not_kept() {
    let (mut machine, token) = machine();
    machine.start_daemon();
    log_in(&machine, "HRKU-not-one", &[]).expect_failure(4, &["Heroku refused the API token"]);
    log_in(&machine, "", &[]).expect_failure(2, &["no token was given", "heroku auth:token"]);
    log_in(&machine, "two words", &[]).expect_failure(2, &["no Heroku token"]);
    machine
        .ctl(&["login"])
        .expect_failure(2, &["no terminal", "--token-stdin"]);

    let body = json!({ "id": "two_factor", "message": "A second factor is required." });
    let action = Action::Status {
        status: 403,
        headers: Default::default(),
        body: Some(body.to_string()),
    };
    let fault = machine.sandbox.faults().add(Fault::on("/account", action));
    log_in(&machine, &token, &[]).expect_failure(4, &["two-factor code", "heroku login"]);
    assert!(machine.sandbox.faults().remove(fault));
    assert!(!machine.path("state/borealis/login.json").exists());
    machine.leave();
}

/// An account whose token is good, but not without a second factor.
#[test]
fn two_factor_accounts_are_told_the_way_out() {
    let (mut machine, token) = machine();
    write_netrc(
        &machine,
        &format!("machine 127.0.0.1 password {token}\n"),
        0o600,
    );
    machine.start_daemon();
    let body = json!({ "id": "two_factor", "message": "A second factor is required." });
    let action = Action::status(403).body(&body.to_string());
    let fault = Fault::on("/oauth/authorizations", action).method("POST");
    let fault = machine.sandbox.faults().add(fault);
    for command in [&["open", "sushi"][..], &["info", "sushi"]] {
        machine
            .ctl(command)
            .expect_failure(4, &["two-factor code", "hint: ", "`borealisctl login`"]);
    }
    assert!(machine.sandbox.faults().remove(fault));
    machine.ctl_ok(&["info", "sushi"]);
    machine.leave();
}

/// What a place holds is looked at again where it matters, not only at the start.
#[test]
fn a_token_that_changes_in_a_file_or_a_command_is_noticed() {
    let (mut machine, token) = machine();
    let other = machine.sandbox.add_user("sous@example.com");
    let file = machine.path("token").display().to_string();
    fs::write(&file, &token).unwrap();
    machine.write_config(&format!("token_command = \"cat {file}\"\n"));
    machine.start_daemon();
    assert_eq!(who(&machine).0, "chef@example.com");
    fs::write(&file, &other).unwrap();
    machine.ctl_ok(&["reload"]);
    assert_eq!(who(&machine).0, "sous@example.com");
    // Refused, it is asked for again without anybody's asking for it.
    machine.sandbox.faults().revoke_token();
    fs::write(&file, &token).unwrap();
    machine.ctl_ok(&["reload"]);
    machine
        .ctl(&["info", "sushi"])
        .expect_failure(4, &["from token_command", "hint: "]);
    fs::write(&file, &other).unwrap();
    machine.ctl_ok(&["info", "sushi"]);
    fs::remove_file(&file).unwrap();
    machine.ctl_ok(&["reload"]);
    machine
        .ctl(&["info", "sushi"])
        .expect_failure(4, &["token_command", "hint: "]);
    assert_eq!(machine.stop_daemon(), Some(0));

    let credentials = machine.path("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("heroku-api-key"), &other).unwrap();
    machine.set("CREDENTIALS_DIRECTORY", &credentials.display().to_string());
    machine.start_daemon();
    assert_eq!(who(&machine).0, "sous@example.com");
    machine.sandbox.faults().restore_token();
    fs::write(credentials.join("heroku-api-key"), &token).unwrap();
    assert_eq!(who(&machine).0, "chef@example.com");
    machine.leave();
}

#[test]
fn a_token_that_ends_is_told_and_replaced_without_a_restart() {
    let (mut machine, token) = machine();
    write_netrc(
        &machine,
        &format!("machine 127.0.0.1 password {token}\n"),
        0o600,
    );
    machine.start_daemon();
    assert_eq!(who(&machine).0, "chef@example.com");
    machine.sandbox.faults().revoke_token();
    machine.ctl(&["open", "sushi"]).expect_failure(
        4,
        &["Heroku refused the API token from", ".netrc", "hint: "],
    );
    let other = machine.sandbox.add_user("sous@example.com");
    write_netrc(
        &machine,
        &format!("machine 127.0.0.1 password {other}\n"),
        0o600,
    );
    assert_eq!(who(&machine).0, "sous@example.com");
    machine.open(&["sushi"]);
    machine.leave();
}

/// `status` says what is true now, and not what was when the token was last used.
#[test]
fn status_asks_whether_the_token_is_good() {
    let (mut machine, token) = machine();
    machine.start_daemon();
    let shown = machine.ctl_ok(&["status"]);
    assert!(
        shown.contains("none; `borealisctl login` asks for one"),
        "{shown}"
    );

    write_netrc(
        &machine,
        &format!("machine 127.0.0.1 password {token}\n"),
        0o600,
    );
    let shown = machine.ctl_ok(&["status"]);
    assert!(
        shown.contains(".netrc") && !shown.contains("none;"),
        "{shown}"
    );

    // Refused for a while, and good ever since: nobody has used it again.
    machine.sandbox.faults().revoke_token();
    machine
        .ctl(&["whoami"])
        .expect_failure(4, &["Heroku refused the API token"]);
    assert_eq!(machine.json(&["status"])["health"], "warning");
    machine.sandbox.faults().restore_token();
    let status = machine.json(&["status"]);
    assert_eq!(status["health"], "ok", "{status}");
    assert!(status["token_source"].as_str().unwrap().contains(".netrc"));
    machine.leave();
}

#[test]
fn netrc_files_as_people_have_them() {
    let (mut machine, token) = machine();
    machine.start_daemon();
    let good = format!(
        "# mine\nmachine example.com login a password no # yes\n\
         machine 127.0.0.1\n  login chef@example.com\n  password {token}\ndefault login x password no\n"
    );
    write_netrc(&machine, &good, 0o600);
    assert_eq!(who(&machine).0, "chef@example.com");
    write_netrc(&machine, &good, 0o644);
    let places = machine.json(&["whoami"])["places"].clone();
    let netrc = places.as_array().unwrap().last().unwrap();
    assert_eq!(netrc["state"], "used");
    assert!(
        netrc["problem"].as_str().unwrap().contains("chmod 600"),
        "{netrc}"
    );

    write_netrc(&machine, "default login x password no\n", 0o600);
    machine
        .ctl(&["whoami"])
        .expect_failure(4, &["not logged in"]);
    write_netrc(
        &machine,
        "machine 127.0.0.1 login chef@example.com\n",
        0o600,
    );
    machine
        .ctl(&["whoami"])
        .expect_failure(4, &["has no password for machine 127.0.0.1"]);
    machine.leave();
}

/// Each place beats those after it, and says which they are.
#[test]
fn the_order_of_the_places() {
    let (mut machine, token) = machine();
    let netrc = machine.path(".netrc").display().to_string();
    write_netrc(
        &machine,
        &format!("machine 127.0.0.1 password {token}\n"),
        0o600,
    );
    machine.start_daemon();
    assert_eq!(
        who(&machine),
        (json!("chef@example.com"), json!(netrc), vec![])
    );

    fs::write(machine.path("token"), &token).unwrap();
    let file = machine.path("token").display().to_string();
    machine.write_config(&format!("token_command = \"cat {file}\"\n"));
    machine.ctl_ok(&["reload"]);
    assert_eq!(who(&machine).1, "token_command");
    assert_eq!(who(&machine).2, [netrc.as_str()]);

    log_in(&machine, &token, &["--file"]).expect_success();
    assert_eq!(who(&machine).1, "borealisctl login");
    assert_eq!(who(&machine).2, ["token_command", netrc.as_str()]);
    assert_eq!(machine.stop_daemon(), Some(0));

    let credentials = machine.path("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("heroku-api-key"), &token).unwrap();
    machine.set("CREDENTIALS_DIRECTORY", &credentials.display().to_string());
    machine.start_daemon();
    let credential = credentials.join("heroku-api-key").display().to_string();
    assert_eq!(who(&machine).1, credential);
    assert_eq!(who(&machine).2.len(), 3);
    let said = log_in(&machine, &token, &["--file"]);
    assert!(said.stderr.contains("which wins over this one"), "{said:?}");
    assert_eq!(machine.stop_daemon(), Some(0));

    machine.set("HEROKU_API_KEY", &token);
    machine.start_daemon();
    assert_eq!(who(&machine).1, "HEROKU_API_KEY");
    assert_eq!(who(&machine).2.len(), 4);
    machine.leave();
}

#[test]
fn a_variable_with_the_wrong_name_gets_a_hint() {
    let (mut machine, token) = machine();
    machine.set("HEROKU_API_TOKEN", &token);
    machine.start_daemon();
    machine.ctl(&["open", "sushi"]).expect_failure(
        4,
        &["HEROKU_API_TOKEN is set", "did you mean HEROKU_API_KEY?"],
    );
    machine.leave();
}

// --- a real keyring ---

/// A session bus with GNOME's keyring on it, unlocked, until it is dropped.
struct Keyring {
    bus: Child,
    keyring: Child,
    address: String,
}

impl Keyring {
    /// `None`, having said so, where the programs aren't installed.
    fn start(home: &Path) -> Option<Self> {
        for program in ["dbus-daemon", "gnome-keyring-daemon", "secret-tool"] {
            let found = std::env::split_paths(&std::env::var_os("PATH").unwrap())
                .any(|dir| dir.join(program).exists());
            if !found {
                eprintln!(
                    "NOT TESTED: there is no {program} here; tests/scripts/setup installs it"
                );
                return None;
            }
        }
        let mut bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address=1"])
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut address = String::new();
        let stdout = bus.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut address).unwrap();
        let mut keyring = Command::new("gnome-keyring-daemon")
            .args(["--foreground", "--unlock", "--components=secrets"])
            .env("DBUS_SESSION_BUS_ADDRESS", address.trim())
            .env("HOME", home)
            .env("XDG_DATA_HOME", home.join("data"))
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        keyring.stdin.take().unwrap().write_all(b"secret").unwrap();
        // It prints its variables once it is unlocked and on the bus.
        let stdout = keyring.stdout.take().unwrap();
        BufReader::new(stdout)
            .read_line(&mut String::new())
            .unwrap();
        Some(Self {
            bus,
            keyring,
            address: address.trim().to_owned(),
        })
    }
}

impl Drop for Keyring {
    fn drop(&mut self) {
        for child in [&mut self.keyring, &mut self.bus] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn the_keychain_of_the_heroku_cli_and_our_own() {
    let (mut machine, token) = machine();
    fs::create_dir_all(machine.path("data/heroku")).unwrap();
    let Some(keyring) = Keyring::start(&machine.path("")) else {
        return;
    };
    machine.set("DBUS_SESSION_BUS_ADDRESS", &keyring.address);
    machine.start_daemon();
    machine
        .ctl(&["whoami"])
        .expect_failure(4, &["not logged in"]);

    // As `heroku login` from 11.8 on leaves it.
    let store = [
        "store",
        "--label=Heroku CLI",
        "service",
        "heroku-cli",
        "account",
        "chef@example.com",
    ];
    machine
        .run("secret-tool")
        .args(&store)
        .input(token.clone())
        .outcome()
        .expect_success();
    let state = machine.path("data/heroku/login.json");
    fs::write(&state, "{\"account\":\"chef@example.com\"}\n").unwrap();
    assert_eq!(who(&machine).0, "chef@example.com");
    assert_eq!(who(&machine).1, "the Heroku CLI's keychain entry");
    assert!(state.exists(), "it is the Heroku CLI's to delete");
    machine.open(&["sushi"]);

    let other = machine.sandbox.add_user("sous@example.com");
    let said = log_in(&machine, &other, &[]).expect_success();
    assert_eq!(
        said,
        "logged in as sous@example.com; the token is kept in the keychain"
    );
    let kept = fs::read_to_string(machine.path("state/borealis/login.json")).unwrap();
    assert!(!kept.contains(&other));
    assert_eq!(who(&machine).0, "sous@example.com");
    assert_eq!(who(&machine).2, ["the Heroku CLI's keychain entry"]);
    machine.ctl_ok(&["logout"]);
    assert_eq!(who(&machine).0, "chef@example.com");
    let ours = [
        "lookup",
        "service",
        "borealis-tunnels",
        "account",
        "127.0.0.1",
    ];
    assert_eq!(machine.run("secret-tool").args(&ours).outcome().stdout, "");
    assert_eq!(machine.stop_daemon(), Some(0));

    machine.set("HEROKU_NETRC_WRITE", "true");
    machine.start_daemon();
    machine
        .ctl(&["whoami"])
        .expect_failure(4, &["not logged in"]);
    machine.leave();
}

#[test]
fn a_keychain_that_is_gone_is_told() {
    let (mut machine, _) = machine();
    fs::create_dir_all(machine.path("data/heroku")).unwrap();
    fs::write(
        machine.path("data/heroku/login.json"),
        "{\"account\":\"chef@example.com\"}\n",
    )
    .unwrap();
    machine.start_daemon();
    machine.ctl(&["open", "sushi"]).expect_failure(
        4,
        &[
            "the Heroku CLI's keychain entry for chef@example.com can't be read",
            "no keychain",
            "borealisctl login",
        ],
    );
    machine.leave();
}
