//! Why there is no daemon: exit code 3, and how to start one.

use std::os::unix::net::UnixListener;

use crate::daemon::{Canned, Daemon, Ran, command, sushi};

async fn list(home: &std::path::Path, socket: &str) -> Ran {
    let mut command = command(home, &["list"]);
    command.env("BOREALIS_SOCKET", socket);
    Ran::of(command.output().await.unwrap())
}

#[tokio::test]
async fn no_socket() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("control.sock");
    let shown = socket.display().to_string();
    list(home.path(), &shown).await.assert(
        3,
        "",
        &format!(
            "error: borealisd is not running: there is no socket {shown}\n\
             hint: start it with `borealisd --socket {shown}`, or check --socket and BOREALIS_SOCKET\n"
        ),
    );
}

#[tokio::test]
async fn the_default_socket_is_in_the_runtime_directory() {
    let home = tempfile::tempdir().unwrap();
    let mut command = command(home.path(), &["list"]);
    command.env("XDG_RUNTIME_DIR", home.path());
    let socket = home.path().join("borealis/control.sock");
    Ran::of(command.output().await.unwrap()).assert(
        3,
        "",
        &format!(
            "error: borealisd is not running: there is no socket {}\n\
             hint: start it with `borealisd` in another terminal\n",
            socket.display()
        ),
    );
}

#[tokio::test]
async fn systemd_is_named_where_its_unit_is_installed() {
    let home = tempfile::tempdir().unwrap();
    let units = home.path().join(".config/systemd/user");
    std::fs::create_dir_all(&units).unwrap();
    std::fs::write(units.join("borealisd.service"), "").unwrap();
    std::fs::create_dir_all(home.path().join("systemd/private")).unwrap();
    let mut command = command(home.path(), &["status"]);
    command.env("XDG_RUNTIME_DIR", home.path());
    let ran = Ran::of(command.output().await.unwrap());
    assert!(
        ran.stderr
            .ends_with("hint: start it with `systemctl --user start borealisd`\n"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_stale_socket() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("control.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let shown = socket.display().to_string();
    let ran = list(home.path(), &shown).await;
    assert_eq!(ran.code, Some(3));
    assert!(
        ran.stderr.starts_with(&format!(
            "error: borealisd is not running: nobody listens on {shown}, left behind by an earlier one\nhint: "
        )),
        "{ran:?}"
    );
}

#[tokio::test]
async fn something_that_is_no_socket() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    let shown = file.display().to_string();
    list(home.path(), &shown).await.assert(
        3,
        "",
        &format!("error: {shown} is not a socket\nhint: check --socket and BOREALIS_SOCKET\n"),
    );
}

#[tokio::test]
async fn a_daemon_that_goes_away() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("control.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let closer = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let ran = list(home.path(), &socket.display().to_string()).await;
    closer.join().unwrap();
    ran.assert(
        3,
        "",
        "error: the connection to borealisd was lost before it answered\n\
         hint: see `borealisctl status`, and what borealisd wrote on the terminal, or in the file, that it was started with\n",
    );
}

#[tokio::test]
async fn a_daemon_of_another_major_version() {
    let mut canned = Canned::with(sushi());
    canned.info.api_version = "2.3".into();
    Daemon::start(canned).run(&["open", "sushi"]).await.assert(
        1,
        "",
        "error: borealisd 9.8.7 speaks version 2.3 of the control API, and this borealisctl 1.0\n\
         hint: restart borealisd after an upgrade, or use the borealisctl that came with it\n",
    );
}
