//! `borealis-sandbox` as a program.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

struct Up {
    child: Child,
    environment: HashMap<String, String>,
    directory: TempDir,
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_borealis-sandbox"));
    command
        .env("BOREALIS_SANDBOX_CACHE", env!("CARGO_TARGET_TMPDIR"))
        .env_remove("BOREALIS_SANDBOX_CONTROL")
        .kill_on_drop(true);
    command
}

/// A directory that PostgreSQL's user can enter.
fn open_directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

async fn up() -> Up {
    let directory = open_directory();
    let ready = directory.path().join("ready");
    let mut child = program()
        .args(["up", "--dir"])
        .arg(directory.path())
        .arg("--ready-file")
        .arg(&ready)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut environment = HashMap::new();
    for _ in 0..5 {
        let line = lines.next_line().await.unwrap().expect("ended early");
        let (name, value) = line
            .strip_prefix("export ")
            .and_then(|line| line.split_once('='))
            .expect("no export");
        environment.insert(name.to_owned(), value.trim_matches('\'').to_owned());
    }
    let mode = ready.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let ready = fs::read_to_string(ready).unwrap();
    assert!(ready.contains(&environment["HEROKU_API_KEY"]));
    Up {
        child,
        environment,
        directory,
    }
}

impl Up {
    fn homes(&self) -> Vec<PathBuf> {
        fs::read_dir(self.directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect()
    }

    fn postgres(&self) -> Pid {
        let home = self.homes().remove(0);
        let pid_file = fs::read_to_string(home.join("postgres/data/postmaster.pid")).unwrap();
        Pid::from_raw(pid_file.lines().next().unwrap().parse().unwrap()).unwrap()
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    async fn fault(&self, arguments: &[&str]) -> (bool, String) {
        let output = program()
            .arg("fault")
            .args(arguments)
            .envs(&self.environment)
            .output()
            .await
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    }
}

async fn wait_for_end(pid: Pid) {
    let ended = async {
        let mut pause = tokio::time::interval(Duration::from_millis(20));
        while test_kill_process(pid).is_ok() && !is_zombie(pid) {
            pause.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended)
        .await
        .expect("PostgreSQL was left behind");
}

/// One that init has not reaped is gone all the same.
fn is_zombie(pid: Pid) -> bool {
    let stat = Path::new("/proc")
        .join(pid.as_raw_nonzero().to_string())
        .join("stat");
    fs::read_to_string(stat).is_ok_and(|stat| stat.contains(") Z "))
}

#[tokio::test]
async fn both_signals_end_it_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut up = up().await;
        let postgres = up.postgres();
        up.signal(signal);
        assert!(up.child.wait().await.unwrap().success());
        assert!(
            test_kill_process(postgres).is_err(),
            "PostgreSQL was left behind"
        );
        assert!(up.homes().is_empty(), "left {:?}", up.homes());
        assert!(!up.directory.path().join("ready").exists());
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn nothing_outlives_a_sandbox_that_was_killed() {
    let mut up = up().await;
    let postgres = up.postgres();
    up.signal(Signal::KILL);
    up.child.wait().await.unwrap();
    wait_for_end(postgres).await;
}

#[tokio::test]
async fn faults_from_the_command_line() {
    let up = up().await;
    for arguments in [
        &["cut-bastion"][..],
        &["stop-bastion"],
        &["start-bastion"],
        &["change-host-key"],
        &["set-state", "sushi", "upgrading"],
        &["rotate-elsewhere", "ramen::BOREALIS_PG_NAVY"],
        &["rotate-elsewhere", "sushi", "--kind", "ssh", "--times", "2"],
        &["reset-users", "sushi"],
        &["terminate", "sushi"],
        &["revoke-token"],
        &[
            "api",
            "/account",
            "--status",
            "503",
            "--retry-after",
            "1",
            "--times",
            "1",
        ],
        &["list"],
        &["clear"],
        &["requests"],
    ] {
        let (ok, said) = up.fault(arguments).await;
        assert!(ok, "{arguments:?}: {said}");
    }
    let (_, stats) = up.fault(&["stats"]).await;
    let stats: Value = serde_json::from_str(&stats).unwrap();
    let sushi = &stats["addons"]["borealis-pg-hex-12345"];
    assert_eq!(sushi["state"], "upgrading");
    assert_eq!(sushi["keys_issued"], 2);
    assert_eq!(sushi["resets"], 1);
    let navy = &stats["addons"]["borealis-pg-cube-34567"];
    assert_eq!(navy["passwords_issued"], 2);
    let (_, secrets) = up.fault(&["secrets"]).await;
    assert!(secrets.contains(&up.environment["HEROKU_API_KEY"]));

    let (ok, said) = up.fault(&["reset-users", "nosuch"]).await;
    assert!(!ok && said.contains("nosuch"), "{said}");
    let (ok, said) = up.fault(&["reset-users", "ramen"]).await;
    assert!(!ok && said.contains("ramen::BOREALIS_PG_MAROON"), "{said}");
}

#[tokio::test]
async fn runs_a_command_with_its_exit_code() {
    let output = program()
        .args([
            "run",
            "--",
            "sh",
            "-c",
            "echo $BOREALIS_PG_API_BASE_URL; exit 7",
        ])
        .output()
        .await
        .unwrap();
    assert_eq!(output.status.code(), Some(7));
    assert!(output.stdout.starts_with(b"http://127.0.0.1:"));
}

#[tokio::test]
async fn a_missing_server_is_named() {
    let output = program()
        .arg("up")
        .env("PG_BINDIR", "/nonexistent")
        .output()
        .await
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("apt-get install postgresql"), "{said}");
}

#[tokio::test]
async fn no_sandbox_to_control_is_said() {
    let output = program().args(["fault", "stats"]).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("BOREALIS_SANDBOX_CONTROL"), "{said}");
}
