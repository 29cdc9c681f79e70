//! A project's `borealis.toml`: `up`, `down`, `trust`, and commands that name nothing.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use borealis_proto::v1::{self, Access, Role, Target};
use serde_json::json;
use tempfile::TempDir;

use crate::daemon::{Canned, Daemon, Ran, sushi};

const MODEST: &str = "[[session]]\ntarget = \"sushi\"\ndefault = true\n\n[[session]]\ntarget = \"ramen::BOREALIS_PG_MAROON\"\n";
const GREEDY: &str = "[[session]]\ntarget = \"sushi\"\naccess = \"read-write\"\n\n[[session]]\ntarget = \"ramen\"\nrole = \"app\"\nport = 15499\n";

/// A directory with a project file, and a daemon with the session of the contract's example.
struct Place {
    dir: TempDir,
    daemon: Daemon,
}

impl Place {
    fn with(text: &str) -> Self {
        Self::before(text, Canned::with(sushi()))
    }

    fn before(text: &str, canned: Canned) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("project/deep/below")).unwrap();
        let place = Self {
            dir,
            daemon: Daemon::start(canned),
        };
        place.write(text);
        place
    }

    fn project(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    /// As commands name it.
    fn file(&self) -> String {
        let dir = self.project().canonicalize().unwrap();
        dir.join("borealis.toml").display().to_string()
    }

    fn write(&self, text: &str) {
        fs::write(self.project().join("borealis.toml"), text).unwrap();
    }

    async fn run(&self, words: &[&str]) -> Ran {
        self.run_in(&self.project(), words).await
    }

    async fn run_in(&self, dir: &Path, words: &[&str]) -> Ran {
        let mut command = self.daemon.command(words);
        Ran::of(command.current_dir(dir).output().await.unwrap())
    }

    async fn good(&self, words: &[&str]) -> Ran {
        let ran = self.run(words).await;
        assert_eq!(ran.code, Some(0), "{words:?}: {ran:?}");
        ran
    }
}

fn named(name: &str) -> Option<Target> {
    Some(Target {
        name: name.into(),
        ..Target::default()
    })
}

#[tokio::test]
async fn up_opens_what_is_listed_and_says_how_to_connect() {
    let place = Place::with(MODEST);
    let deep = place.project().join("deep/below");
    for dir in [&place.project(), &deep] {
        let shown = place.run_in(dir, &["up", "-f", "json"]).await.json();
        assert_eq!(shown.as_array().unwrap().len(), 2);
        assert_eq!(shown[0]["password"], "s3cret word");
    }
    let ran = place.good(&["up"]).await;
    assert_eq!(ran.stdout.matches("127.0.0.1:15432").count(), 2, "{ran:?}");
    assert!(!ran.stdout.contains("s3cret"), "{ran:?}");
    let asked = place.daemon.asked().open;
    assert_eq!(asked.len(), 6);
    for target in ["sushi", "ramen::BOREALIS_PG_MAROON"] {
        let of_target: Vec<_> = asked
            .iter()
            .filter(|request| request.target == named(target))
            .collect();
        assert_eq!(of_target.len(), 3, "{target}");
        for request in of_target {
            assert_eq!(request.access(), Access::ReadOnly);
            assert_eq!(request.role(), Role::Personal);
            assert_eq!(request.mode(), v1::Mode::Managed);
            assert_eq!((request.port, request.name.as_str()), (0, ""));
        }
    }
}

#[tokio::test]
async fn what_a_file_asks_for_is_refused_until_it_is_trusted_and_again_once_it_changed() {
    let place = Place::with(GREEDY);
    let file = place.file();
    let asks = "write access to sushi, the app's database user of ramen, the port 15499 for ramen";
    let hint = format!(
        "hint: read it, then say `borealisctl trust {file}`; a command that names its target doesn't need the file\n"
    );
    let untrusted = format!("error: {file} is not trusted, and asks for {asks}\n{hint}");
    for words in [
        &["up"][..],
        &["up", &file],
        &["down"],
        &["open"],
        &["psql", "-b", "/bin/true"],
        &["run", "--", "true"],
        &["env"],
        &["mcp"],
    ] {
        place.run(words).await.assert(1, "", &untrusted);
    }
    place.good(&["open", "sushi"]).await;
    assert_eq!(place.daemon.asked().open.len(), 1, "only what was named");

    let trusted = place.good(&["trust", "-f", "json"]).await.json();
    let list = [
        "write access to sushi",
        "the app's database user of ramen",
        "the port 15499 for ramen",
    ];
    assert_eq!(trusted, json!({"file": file, "asks": list}));
    place.good(&["up"]).await;
    let mut asked = place.daemon.asked().open.split_off(1);
    asked.sort_by_key(|request| request.port);
    assert_eq!(asked[0].access(), Access::ReadWrite);
    assert_eq!((asked[1].role(), asked[1].port), (Role::App, 15499));

    place.write(&format!("{GREEDY}# changed\n"));
    let changed =
        format!("error: {file} has changed since it was trusted, and asks for {asks}\n{hint}");
    place.run(&["up"]).await.assert(1, "", &changed);
    place.write(GREEDY);
    place.good(&["up"]).await;

    // The same content elsewhere, and a link from elsewhere, are not what was trusted.
    let other = place.dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let copy = other.join("borealis.toml");
    fs::write(&copy, GREEDY).unwrap();
    assert_eq!(place.run_in(&other, &["up"]).await.code, Some(1));
    fs::remove_file(&copy).unwrap();
    std::os::unix::fs::symlink(&file, &copy).unwrap();
    assert_eq!(place.run_in(&other, &["up"]).await.code, Some(1));
}

#[tokio::test]
async fn what_is_trusted_is_kept_where_nobody_else_can_say_it() {
    let place = Place::with(GREEDY);
    let state = place.dir.path().join("state");
    let run = async |words: &[&str]| {
        let mut command = place.daemon.command(words);
        let command = command.current_dir(place.project());
        command.env("XDG_STATE_HOME", &state);
        Ran::of(command.output().await.unwrap())
    };
    assert_eq!(run(&["trust"]).await.code, Some(0));
    let dir = state.join("borealis/trust");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let records: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert_eq!(records.len(), 1);
    assert_eq!((mode(&dir), mode(&records[0])), (0o700, 0o600));
    fs::set_permissions(&records[0], Permissions::from_mode(0o620)).unwrap();
    let ran = run(&["up"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.stderr.contains("can't read what is trusted"), "{ran:?}");
    assert!(place.daemon.asked().open.is_empty());
}

#[tokio::test]
async fn a_file_that_somebody_else_can_write_needs_trust_whatever_it_says() {
    let place = Place::with(MODEST);
    let file = place.project().join("borealis.toml");
    // As umask 002 makes it, which many a system has.
    fs::set_permissions(&file, Permissions::from_mode(0o664)).unwrap();
    place.good(&["up"]).await;
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    let ran = place.run(&["up"]).await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(
        ran.stderr.contains("since every user can write it"),
        "{ran:?}"
    );
    place.good(&["trust"]).await;
    place.good(&["up"]).await;
    let somebody = rustix::fs::Uid::from_raw(54_321);
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    fs::write(&file, format!("{MODEST}# of somebody\n")).unwrap();
    if rustix::fs::chown(&file, Some(somebody), None).is_ok() {
        let ran = place.run(&["up"]).await;
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(
            ran.stderr.contains("belongs to another user (uid 54321)"),
            "{ran:?}"
        );
    }
}

/// Without a limit of time: a wait would be for ever.
#[tokio::test]
async fn what_is_no_project_file_is_told() {
    let place = Place::with("[[session]]\ntarget = \"sushi\"\nacces = \"read-only\"\n");
    let file = place.file();
    let told = format!(
        "error: {file}:3:1: there is no key session.acces (did you mean access?); accepted in [session]: \
         target, default, name, access, role, port\n"
    );
    place.run(&["up"]).await.assert(2, "", &told);
    place.run(&["trust"]).await.assert(2, "", &told);
    place.run(&["psql"]).await.assert(2, "", &told);
    fs::remove_file(&file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, 0o600.into()).unwrap();
    let pipe = format!("error: {file} is no regular file\n");
    place.run(&["open"]).await.assert(1, "", &pipe);
    fs::remove_file(&file).unwrap();
    let ran = place.run(&["up"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(
        ran.stderr
            .starts_with("error: there is no borealis.toml in"),
        "{ran:?}"
    );
    let ran = place.run(&["up", "missing.toml"]).await;
    let missing = "error: missing.toml can't be read: no such file or directory\n";
    ran.assert(1, "", missing);
    assert!(place.daemon.asked().open.is_empty());
}

#[tokio::test]
async fn commands_without_a_target_mean_the_default_session() {
    let place = Place::with(MODEST);
    for words in [
        &["show"][..],
        &["url"],
        &["env"],
        &["psql", "-b", "/bin/true"],
        &["run", "--", "true"],
        &["open"],
    ] {
        place.good(words).await;
    }
    let direnv = place.good(&["env", "--shell", "direnv"]).await;
    assert_eq!(direnv.stdout, "eval \"$(borealisctl env)\"\n");
    let asked = place.daemon.asked();
    for request in &asked.get {
        assert_eq!(request.target, named("sushi"));
    }
    let [psql, run] = asked.hold.as_slice() else {
        panic!("{:?}", asked.hold);
    };
    assert_eq!(psql.target, named("sushi"));
    assert_eq!(
        (psql.access(), psql.role()),
        (Access::ReadOnly, Role::Personal)
    );
    // As ever: read-only, and the app's database user.
    assert_eq!(run.target, named("sushi"));
    assert_eq!((run.access(), run.role()), (Access::ReadOnly, Role::App));
    assert_eq!(asked.open[0].target, named("sushi"));
    assert_eq!(asked.open[0].access(), Access::ReadOnly);
}

#[tokio::test]
async fn a_trusted_default_is_opened_as_it_is_listed_unless_more_is_said() {
    let text =
        "[[session]]\ntarget = \"ramen\"\nname = \"db\"\naccess = \"read-write\"\nport = 15499\n";
    let place = Place::with(text);
    place.good(&["trust"]).await;
    place.good(&["open"]).await;
    place.good(&["open", "--role", "app"]).await;
    place.good(&["psql", "-b", "/bin/true"]).await;
    place.good(&["run", "--", "true"]).await;
    let ran = place.run(&["show"]).await;
    ran.assert(
        5,
        "",
        "error: the project's session db is not open\nhint: open it with `borealisctl up`\n",
    );
    let asked = place.daemon.asked();
    let open: Vec<_> = asked
        .open
        .iter()
        .map(|request| {
            (
                request.access(),
                request.role(),
                request.port,
                request.name.as_str(),
            )
        })
        .collect();
    assert_eq!(
        open,
        [
            (Access::ReadWrite, Role::Personal, 15499, "db"),
            (Access::ReadWrite, Role::App, 0, ""),
        ]
    );
    let held: Vec<_> = asked
        .hold
        .iter()
        .map(|request| (request.access(), request.role(), request.port))
        .collect();
    // What `run` may do is said with `run`.
    assert_eq!(
        held,
        [
            (Access::ReadWrite, Role::Personal, 15499),
            (Access::ReadOnly, Role::App, 0),
        ]
    );
}

#[tokio::test]
async fn without_a_default_the_git_repository_is_next() {
    let two = "[[session]]\ntarget = \"udon\"\n[[session]]\ntarget = \"ramen\"\n";
    let place = Place::with(two);
    let ran = place.run(&["open"]).await;
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let hint = format!(
        "hint: name one, or mark one of those in {} with `default = true`\n",
        place.file()
    );
    assert!(ran.stderr.ends_with(&hint), "{ran:?}");
    for words in [
        &["init", "--quiet"][..],
        &["remote", "add", "heroku", "https://git.heroku.com/soba.git"],
    ] {
        let git = std::process::Command::new("git")
            .args(words)
            .current_dir(place.project())
            .status();
        assert!(git.unwrap().success());
    }
    place.good(&["open"]).await;
    assert_eq!(
        place.daemon.asked().open[0].target.as_ref().unwrap().app,
        "soba"
    );
    place.write("[[session]]\ntarget = \"udon\"\n");
    place.good(&["open"]).await;
    assert_eq!(place.daemon.asked().open[1].target, named("udon"));
}

#[tokio::test]
async fn down_closes_what_is_listed_and_nothing_else() {
    let of = |name: &str, app: &str, access: Access| v1::Session {
        name: name.into(),
        app: app.into(),
        addon: format!("borealis-pg-{app}"),
        access: access.into(),
        ..sushi()
    };
    let canned = |sessions: &[v1::Session]| Canned {
        sessions: sessions.to_vec(),
        ..Canned::default()
    };
    let all = [
        of("sushi", "sushi", Access::ReadOnly),
        of("sushi-rw", "sushi", Access::ReadWrite),
        of("udon", "udon", Access::ReadOnly),
        // Another project's.
        of("db", "ramen", Access::ReadOnly),
    ];
    let text = "[[session]]\ntarget = \"sushi\"\n[[session]]\ntarget = \"soba\"\nname = \"db\"\n";
    let place = Place::before(text, canned(&all));
    let ran = place.good(&["down"]).await;
    assert_eq!(
        ran.stderr,
        "warning: db is open and not what the project lists, so it stays open: see `borealisctl show db`\n"
    );
    let close = &place.daemon.asked().close;
    assert_eq!(close.len(), 1);
    assert_eq!(close[0].targets, [named("sushi").unwrap()]);
    assert!(!close[0].all);

    let declared = v1::Session {
        declared: true,
        ..of("sushi", "sushi", Access::ReadOnly)
    };
    for open in [vec![], vec![declared]] {
        let place = Place::before("[[session]]\ntarget = \"sushi\"\n", canned(&open));
        let ran = place.good(&["down"]).await;
        assert!(
            ran.stderr.contains("nothing of the project was open"),
            "{ran:?}"
        );
        assert!(place.daemon.asked().close.is_empty());
    }
}

#[tokio::test]
async fn agents_get_the_projects_read_only_sessions() {
    use std::process::Stdio;

    use tokio::io::AsyncWriteExt as _;

    let text = format!("{MODEST}[[session]]\ntarget = \"udon\"\naccess = \"read-write\"\n");
    let place = Place::with(&text);
    place.good(&["trust"]).await;
    let mut command = place.daemon.command(&["mcp"]);
    let mut server = command
        .current_dir(place.project())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let greeting = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let greeted = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let ask = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": "list_databases", "arguments": {}}});
    let mut stdin = server.stdin.take().unwrap();
    let said = format!("{greeting}\n{greeted}\n{ask}\n");
    stdin.write_all(said.as_bytes()).await.unwrap();
    drop(stdin);
    let ran = Ran::of(server.wait_with_output().await.unwrap());
    let answers = ran.stdout.lines();
    let answers = answers.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let answer = answers
        .into_iter()
        .find(|answer| answer["id"] == 1)
        .unwrap();
    let databases = &answer["result"]["structuredContent"]["databases"];
    let names: Vec<_> = databases
        .as_array()
        .unwrap_or_else(|| panic!("{answer}"))
        .iter()
        .map(|database| database["database"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["sushi", "ramen::BOREALIS_PG_MAROON"]);
}
