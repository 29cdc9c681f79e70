//! Against a real GNOME Keyring on a bus of its own. A process has one session bus for its
//! whole life, so each outer test runs an inner one in a process apart.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use secrecy::ExposeSecret as _;
use tempfile::TempDir;

use super::*;
use crate::credential::{LookupResult, TokenSource};

const ME: &str = "me@example.com";
const OURS: Key<'static> = Key {
    service: "borealis-tunnels",
    account: "api.heroku.com",
};
/// Starts the keyring, unlocked, on the bus that the script is run on, and ends it after.
const WITH_KEYRING: &str = r#"
printf secret | gnome-keyring-daemon --foreground --unlock --components=secrets >"$HOME/log" 2>&1 &
keyring=$!
trap 'kill $keyring; wait $keyring 2>/dev/null' EXIT
turns=200
until [ -e "$XDG_DATA_HOME/keyrings/login.keyring" ] && secret-tool search service nothing 2>/dev/null; do
    turns=$((turns - 1))
    [ $turns -gt 0 ] || { cat "$HOME/log" >&2; exit 1; }
    sleep 0.05
done
"$@"
"#;

/// Directories that are nobody else's, the account's own keyring least of all.
fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    for dir in ["data", "run"] {
        fs::create_dir(home.path().join(dir)).unwrap();
    }
    home
}

fn inner(mut command: Command, home: &Path, test: &str) -> Command {
    command
        .arg(std::env::current_exe().unwrap())
        .args([
            &format!("credential::token::keychain::tests::{test}"),
            "--exact",
        ])
        .args(["--ignored", "--nocapture", "--test-threads=1"])
        .env("HOME", home)
        .env("XDG_DATA_HOME", home.join("data"))
        .env("XDG_RUNTIME_DIR", home.join("run"))
        .env_remove("DBUS_SESSION_BUS_ADDRESS");
    command
}

fn passed(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Runs an inner test on a private bus with a keyring. Answers `None`, having said so, where
/// the programs aren't installed.
fn on_a_bus(test: &str) -> Option<()> {
    let programs = ["dbus-run-session", "gnome-keyring-daemon", "secret-tool"];
    for program in programs {
        if Command::new("which")
            .arg(program)
            .output()
            .is_ok_and(|o| !o.status.success())
        {
            eprintln!("NOT TESTED: there is no {program} here; tests/scripts/setup installs it");
            return None;
        }
    }
    let home = home();
    let mut command = Command::new("dbus-run-session");
    command.args(["--", "sh", "-c", WITH_KEYRING, "sh"]);
    passed(&inner(command, home.path(), test).output().unwrap());
    Some(())
}

fn without_a_bus(test: &str, address: &str) {
    let home = home();
    let mut command = Command::new("env");
    command.arg(format!("DBUS_SESSION_BUS_ADDRESS={address}"));
    passed(&inner(command, home.path(), test).output().unwrap());
}

fn run(program: &str, args: &[&str], input: &str) {
    use std::io::Write as _;
    let mut child = Command::new(program)
        .args(args)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success(), "{program} {args:?}");
}

/// As the Heroku CLI from 11.8 on keeps a login.
fn heroku_login(token: &str) {
    let store = [
        "store",
        "--label=Heroku CLI",
        "service",
        "heroku-cli",
        "account",
        ME,
    ];
    run("secret-tool", &store, token);
}

async fn lock() {
    let service = connect().await.unwrap();
    let keyring = service.get_default_collection().await.unwrap();
    keyring.lock().await.unwrap();
}

async fn read_cli(home: &Path) -> LookupResult {
    let state = home.join("login.json");
    fs::write(&state, format!("{{\"account\":\"{ME}\"}}\n")).unwrap();
    let reading = TokenSource::HerokuCli {
        state: state.clone(),
    }
    .read()
    .await;
    assert!(state.exists(), "it is the Heroku CLI's to delete");
    reading
}

fn token(reading: &LookupResult) -> Option<&str> {
    reading
        .token
        .as_ref()
        .map(|token| token.value.expose_secret())
}

#[test]
fn the_heroku_cli_s_login_is_read() {
    on_a_bus("inner_heroku_cli");
}

#[tokio::test]
#[ignore = "run by the_heroku_cli_s_login_is_read on a bus of its own"]
async fn inner_heroku_cli() {
    let dir = tempfile::tempdir().unwrap();
    let none = TokenSource::HerokuCli {
        state: dir.path().join("login.json"),
    }
    .read()
    .await;
    assert!(none.token.is_none() && none.problem.is_none());
    let gone = read_cli(dir.path()).await;
    assert!(gone.token.is_none());
    assert!(
        gone.problem
            .unwrap()
            .contains("for me@example.com isn't there any more")
    );

    heroku_login("HRKU-1");
    let reading = read_cli(dir.path()).await;
    assert_eq!(token(&reading), Some("HRKU-1"), "{reading:?}");
    assert!(reading.since.is_some());
    assert_eq!(reading.problem, None);
    heroku_login("HRKU-2");
    assert_eq!(token(&read_cli(dir.path()).await), Some("HRKU-2"));

    lock().await;
    let began = std::time::Instant::now();
    let locked = read_cli(dir.path()).await;
    assert!(locked.token.is_none());
    assert!(locked.problem.unwrap().contains("the keychain is locked"));
    assert!(began.elapsed() < LIMIT, "nothing prompts");
}

#[test]
fn our_own_login_is_kept_replaced_and_removed() {
    on_a_bus("inner_own");
}

#[tokio::test]
#[ignore = "run by our_own_login_is_kept_replaced_and_removed on a bus of its own"]
async fn inner_own() {
    heroku_login("HRKU-theirs");
    assert!(look_up(OURS).await.unwrap().is_none());
    for token in ["HRKU-1", "HRKU-2"] {
        store(OURS, "a label", &SecretString::from(token))
            .await
            .unwrap();
        let held = look_up(OURS).await.unwrap().unwrap();
        assert_eq!(held.secret.expose_secret(), token);
    }
    // As a person would look it up.
    let seen = Command::new("secret-tool")
        .args(["lookup", "service", OURS.service, "account", OURS.account])
        .output()
        .unwrap();
    assert_eq!(seen.stdout, b"HRKU-2");
    remove(OURS).await.unwrap();
    remove(OURS).await.unwrap();
    assert!(look_up(OURS).await.unwrap().is_none());
    let theirs = Key {
        service: "heroku-cli",
        account: ME,
    };
    assert_eq!(
        look_up(theirs)
            .await
            .unwrap()
            .unwrap()
            .secret
            .expose_secret(),
        "HRKU-theirs"
    );

    lock().await;
    let refused = store(OURS, "a label", &SecretString::from("x")).await;
    assert!(matches!(refused, Err(KeychainError::Locked)), "{refused:?}");
}

#[test]
fn a_machine_without_a_keychain_is_told_so() {
    without_a_bus("inner_absent", "unix:path=/nowhere/at/all");
}

#[tokio::test]
#[ignore = "run by a_machine_without_a_keychain_is_told_so without a bus"]
async fn inner_absent() {
    let absent = look_up(OURS).await.unwrap_err();
    assert_eq!(
        absent.to_string(),
        "there is no keychain: borealisd can't reach a session bus"
    );
}

#[test]
fn a_bus_that_never_answers_is_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bus");
    // Accepts into its backlog and says nothing.
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    without_a_bus("inner_silent", &format!("unix:path={}", path.display()));
}

#[tokio::test(start_paused = true)]
#[ignore = "run by a_bus_that_never_answers_is_not_waited_for with such a bus"]
async fn inner_silent() {
    let silent = look_up(OURS).await;
    assert!(matches!(silent, Err(KeychainError::Silent)), "{silent:?}");
}
