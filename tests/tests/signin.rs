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
    harness::{Desk, Outcome},
    sandbox::{Action, Fault, Options},
};
use serde_json::{Value, json};

/// A desk whose daemon has no token yet; and the token.
fn desk() -> (Desk, String) {
    let mut desk = Desk::without_daemon(Options::default());
    desk.unset("HEROKU_API_KEY");
    let token = desk.sandbox.token();
    (desk, token)
}

fn log_in(desk: &Desk, token: &str, flags: &[&str]) -> Outcome {
    desk.run(desk.binary("borealisctl"))
        .args(&[&["login", "--token-stdin"], flags].concat())
        .input(token)
        .outcome()
}

/// Whose token is used, by which place; and the places with a token that aren't used.
fn who(desk: &Desk) -> (Value, Value, Vec<String>) {
    let who = desk.json(&["whoami"]);
    let shadowed = who["places"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|place| place["state"] == "shadowed")
        .map(|place| place["place"].as_str().unwrap().to_owned())
        .collect();
    (who["account"].clone(), who["source"].clone(), shadowed)
}

fn write_netrc(desk: &Desk, text: &str, mode: u32) {
    let file = desk.path(".netrc");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn login_brings_up_what_waits_for_a_token() {
    let (mut desk, token) = desk();
    desk.write_config("[[session]]\ntarget = \"sushi\"\n");
    desk.start_daemon();
    desk.wait_for("sushi", |session| {
        session
            .last_error
            .as_ref()
            .is_some_and(|why| why.code == "not-logged-in")
    });
    desk.ctl(&["open", "ramen"])
        .expect_failure(4, &["not logged in to Heroku", "borealisctl login"]);
    desk.ctl(&["whoami"]).expect_failure(4, &["not logged in"]);
    assert_eq!(desk.json(&["status"])["health"], "failing");

    let said = log_in(&desk, &token, &["--file"]).expect_success();
    assert!(
        said.starts_with("logged in as chef@example.com; the token is kept in "),
        "{said}"
    );
    desk.wait_for("sushi", |session| {
        session.last_error.is_none() && session.state == 2
    });
    assert_eq!(who(&desk).1, "borealisctl login");
    assert_eq!(desk.json(&["status"])["token_source"], "borealisctl login");

    // The token is kept for the next daemon.
    assert_eq!(desk.stop_daemon(), Some(0));
    desk.start_daemon();
    assert_eq!(who(&desk).0, "chef@example.com");
    let file = desk.path("state/borealis/login.json");
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let said = desk.ctl_ok(&["logout"]);
    assert_eq!(
        said,
        "logged out chef@example.com; borealisd has no other token"
    );
    assert!(!file.exists());
    desk.ctl(&["whoami"]).expect_failure(4, &[]);
    assert_eq!(
        desk.ctl_ok(&["logout"]),
        "no login was kept; borealisd has no other token"
    );
    desk.leave();
}

#[test]
fn what_heroku_refuses_is_not_kept() {
    let (mut desk, token) = desk();
    desk.start_daemon();
    log_in(&desk, "HRKU-not-one", &[]).expect_failure(4, &["Heroku refused the API token"]);
    log_in(&desk, "", &[]).expect_failure(2, &["no token was given", "heroku auth:token"]);
    log_in(&desk, "two words", &[]).expect_failure(2, &["no Heroku token"]);
    desk.ctl(&["login"])
        .expect_failure(2, &["no terminal", "--token-stdin"]);

    let body = json!({ "id": "two_factor", "message": "A second factor is required." });
    let action = Action::Status {
        status: 403,
        headers: Default::default(),
        body: Some(body.to_string()),
    };
    let fault = desk.sandbox.faults().add(Fault::on("/account", action));
    log_in(&desk, &token, &[]).expect_failure(4, &["two-factor code", "heroku login"]);
    assert!(desk.sandbox.faults().remove(fault));
    assert!(!desk.path("state/borealis/login.json").exists());
    desk.leave();
}

/// An account whose token is good, but not without a second factor.
#[test]
fn two_factor_accounts_are_told_the_way_out() {
    let (mut desk, token) = desk();
    write_netrc(
        &desk,
        &format!("machine 127.0.0.1 password {token}\n"),
        0o600,
    );
    desk.start_daemon();
    let body = json!({ "id": "two_factor", "message": "A second factor is required." });
    let action = Action::status(403).body(&body.to_string());
    let fault = Fault::on("/oauth/authorizations", action).method("POST");
    let fault = desk.sandbox.faults().add(fault);
    for command in [&["open", "sushi"][..], &["info", "sushi"]] {
        desk.ctl(command)
            .expect_failure(4, &["two-factor code", "hint: ", "`borealisctl login`"]);
    }
    assert!(desk.sandbox.faults().remove(fault));
    desk.ctl_ok(&["info", "sushi"]);
    desk.leave();
}

/// What a place holds is looked at again where it matters, not only at the start.
#[test]
fn a_token_that_changes_in_a_file_or_a_command_is_noticed() {
    let (mut desk, token) = desk();
    let other = desk.sandbox.add_user("sous@example.com");
    let file = desk.path("token").display().to_string();
    fs::write(&file, &token).unwrap();
    desk.write_config(&format!("token_command = \"cat {file}\"\n"));
    desk.start_daemon();
    assert_eq!(who(&desk).0, "chef@example.com");
    fs::write(&file, &other).unwrap();
    desk.ctl_ok(&["reload"]);
    assert_eq!(who(&desk).0, "sous@example.com");
    // Refused, it is asked for again without anybody's asking for it.
    desk.sandbox.faults().revoke_token();
    fs::write(&file, &token).unwrap();
    desk.ctl_ok(&["reload"]);
    desk.ctl(&["info", "sushi"])
        .expect_failure(4, &["from token_command", "hint: "]);
    fs::write(&file, &other).unwrap();
    desk.ctl_ok(&["info", "sushi"]);
    fs::remove_file(&file).unwrap();
    desk.ctl_ok(&["reload"]);
    desk.ctl(&["info", "sushi"])
        .expect_failure(4, &["token_command", "hint: "]);
    assert_eq!(desk.stop_daemon(), Some(0));

    let credentials = desk.path("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("heroku-api-key"), &other).unwrap();
    desk.set("CREDENTIALS_DIRECTORY", &credentials.display().to_string());
    desk.start_daemon();
    assert_eq!(who(&desk).0, "sous@example.com");
    desk.sandbox.faults().restore_token();
    fs::write(credentials.join("heroku-api-key"), &token).unwrap();
    assert_eq!(who(&desk).0, "chef@example.com");
    desk.leave();
}

#[test]
fn a_token_that_ends_is_told_and_replaced_without_a_restart() {
    let (mut desk, token) = desk();
    write_netrc(
        &desk,
        &format!("machine 127.0.0.1 password {token}\n"),
        0o600,
    );
    desk.start_daemon();
    assert_eq!(who(&desk).0, "chef@example.com");
    desk.sandbox.faults().revoke_token();
    desk.ctl(&["open", "sushi"]).expect_failure(
        4,
        &["Heroku refused the API token from", ".netrc", "hint: "],
    );
    let other = desk.sandbox.add_user("sous@example.com");
    write_netrc(
        &desk,
        &format!("machine 127.0.0.1 password {other}\n"),
        0o600,
    );
    assert_eq!(who(&desk).0, "sous@example.com");
    desk.open(&["sushi"]);
    desk.leave();
}

#[test]
fn netrc_files_as_people_have_them() {
    let (mut desk, token) = desk();
    desk.start_daemon();
    let good = format!(
        "# mine\nmachine example.com login a password no # yes\n\
         machine 127.0.0.1\n  login chef@example.com\n  password {token}\ndefault login x password no\n"
    );
    write_netrc(&desk, &good, 0o600);
    assert_eq!(who(&desk).0, "chef@example.com");
    write_netrc(&desk, &good, 0o644);
    let places = desk.json(&["whoami"])["places"].clone();
    let netrc = places.as_array().unwrap().last().unwrap();
    assert_eq!(netrc["state"], "used");
    assert!(
        netrc["problem"].as_str().unwrap().contains("chmod 600"),
        "{netrc}"
    );

    write_netrc(&desk, "default login x password no\n", 0o600);
    desk.ctl(&["whoami"]).expect_failure(4, &["not logged in"]);
    write_netrc(&desk, "machine 127.0.0.1 login chef@example.com\n", 0o600);
    desk.ctl(&["whoami"])
        .expect_failure(4, &["has no password for machine 127.0.0.1"]);
    desk.leave();
}

/// Each place beats those after it, and says which they are.
#[test]
fn the_order_of_the_places() {
    let (mut desk, token) = desk();
    let netrc = desk.path(".netrc").display().to_string();
    write_netrc(
        &desk,
        &format!("machine 127.0.0.1 password {token}\n"),
        0o600,
    );
    desk.start_daemon();
    assert_eq!(
        who(&desk),
        (json!("chef@example.com"), json!(netrc), vec![])
    );

    fs::write(desk.path("token"), &token).unwrap();
    let file = desk.path("token").display().to_string();
    desk.write_config(&format!("token_command = \"cat {file}\"\n"));
    desk.ctl_ok(&["reload"]);
    assert_eq!(who(&desk).1, "token_command");
    assert_eq!(who(&desk).2, [netrc.as_str()]);

    log_in(&desk, &token, &["--file"]).expect_success();
    assert_eq!(who(&desk).1, "borealisctl login");
    assert_eq!(who(&desk).2, ["token_command", netrc.as_str()]);
    assert_eq!(desk.stop_daemon(), Some(0));

    let credentials = desk.path("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("heroku-api-key"), &token).unwrap();
    desk.set("CREDENTIALS_DIRECTORY", &credentials.display().to_string());
    desk.start_daemon();
    let credential = credentials.join("heroku-api-key").display().to_string();
    assert_eq!(who(&desk).1, credential);
    assert_eq!(who(&desk).2.len(), 3);
    let said = log_in(&desk, &token, &["--file"]);
    assert!(said.stderr.contains("which wins over this one"), "{said:?}");
    assert_eq!(desk.stop_daemon(), Some(0));

    desk.set("HEROKU_API_KEY", &token);
    desk.start_daemon();
    assert_eq!(who(&desk).1, "HEROKU_API_KEY");
    assert_eq!(who(&desk).2.len(), 4);
    desk.leave();
}

#[test]
fn a_variable_with_the_wrong_name_gets_a_hint() {
    let (mut desk, token) = desk();
    desk.set("HEROKU_API_TOKEN", &token);
    desk.start_daemon();
    desk.ctl(&["open", "sushi"]).expect_failure(
        4,
        &["HEROKU_API_TOKEN is set", "did you mean HEROKU_API_KEY?"],
    );
    desk.leave();
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
    let (mut desk, token) = desk();
    fs::create_dir_all(desk.path("data/heroku")).unwrap();
    let Some(keyring) = Keyring::start(&desk.path("")) else {
        return;
    };
    desk.set("DBUS_SESSION_BUS_ADDRESS", &keyring.address);
    desk.start_daemon();
    desk.ctl(&["whoami"]).expect_failure(4, &["not logged in"]);

    // As `heroku login` from 11.8 on leaves it.
    let store = [
        "store",
        "--label=Heroku CLI",
        "service",
        "heroku-cli",
        "account",
        "chef@example.com",
    ];
    desk.run("secret-tool")
        .args(&store)
        .input(token.clone())
        .outcome()
        .expect_success();
    let state = desk.path("data/heroku/login.json");
    fs::write(&state, "{\"account\":\"chef@example.com\"}\n").unwrap();
    assert_eq!(who(&desk).0, "chef@example.com");
    assert_eq!(who(&desk).1, "the Heroku CLI's keychain entry");
    assert!(state.exists(), "it is the Heroku CLI's to delete");
    desk.open(&["sushi"]);

    let other = desk.sandbox.add_user("sous@example.com");
    let said = log_in(&desk, &other, &[]).expect_success();
    assert_eq!(
        said,
        "logged in as sous@example.com; the token is kept in the keychain"
    );
    let kept = fs::read_to_string(desk.path("state/borealis/login.json")).unwrap();
    assert!(!kept.contains(&other));
    assert_eq!(who(&desk).0, "sous@example.com");
    assert_eq!(who(&desk).2, ["the Heroku CLI's keychain entry"]);
    desk.ctl_ok(&["logout"]);
    assert_eq!(who(&desk).0, "chef@example.com");
    let ours = [
        "lookup",
        "service",
        "borealis-tunnels",
        "account",
        "127.0.0.1",
    ];
    assert_eq!(desk.run("secret-tool").args(&ours).outcome().stdout, "");
    assert_eq!(desk.stop_daemon(), Some(0));

    desk.set("HEROKU_NETRC_WRITE", "true");
    desk.start_daemon();
    desk.ctl(&["whoami"]).expect_failure(4, &["not logged in"]);
    desk.leave();
}

#[test]
fn a_keychain_that_is_gone_is_told() {
    let (mut desk, _) = desk();
    fs::create_dir_all(desk.path("data/heroku")).unwrap();
    fs::write(
        desk.path("data/heroku/login.json"),
        "{\"account\":\"chef@example.com\"}\n",
    )
    .unwrap();
    desk.start_daemon();
    desk.ctl(&["open", "sushi"]).expect_failure(
        4,
        &[
            "the Heroku CLI's keychain entry for chef@example.com can't be read",
            "no keychain",
            "borealisctl login",
        ],
    );
    desk.leave();
}
