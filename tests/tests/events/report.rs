//! The report of a bug: what is in it, and what never is.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use borealis_tests::{harness::TestMachine, sandbox::Options};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

const PARTS: [&str; 7] = [
    "versions",
    "config",
    "status",
    "doctor",
    "sessions",
    "events",
    "log of the last hour",
];

/// A part's text.
#[track_caller]
fn part<'a>(report: &'a str, name: &str) -> &'a str {
    let head = format!("\n===== {name} =====\n\n");
    let (_, rest) = report
        .split_once(&head)
        .unwrap_or_else(|| panic!("no {name} in {report}"));
    rest.split_once("\n===== ").map_or(rest, |(part, _)| part)
}

fn log_file(machine: &TestMachine) -> String {
    machine.path("daemon.log").display().to_string()
}

#[test]
fn no_secret_and_no_sql_is_in_it() {
    let mut machine = TestMachine::without_daemon(Options::default());
    let token = machine.sandbox.token();
    machine.set("PGPASSWORD", "kanari-1-variable");
    machine.write_config(
        "# kanari-2-comment\ntoken_command = \"echo kanari-3-argument 'kanari-4-quoted words'\"\n[[session]]\ntarget = \"wasabi\"\n",
    );
    machine.start_daemon();
    let url = machine.open(&["sushi"]);
    let passthrough = machine.open(&["ramen::BOREALIS_PG_NAVY", "--passthrough"]);
    // Statements that fail, in every way in which one can be brought.
    let failing = "select 'kanari-5-sql'::int -- kanari-5-sql";
    for database in [&url, &passthrough] {
        assert_ne!(machine.psql(database, failing).code, Some(0));
    }
    assert_ne!(machine.ctl(&["run", "sushi", "-d", failing]).code, Some(0));
    assert_ne!(
        machine.ctl(&["run", "sushi", "-u", "-d", failing]).code,
        Some(0)
    );
    let psql = machine.ctl(&["psql", "sushi", "--", "-c", failing]);
    assert_ne!(psql.code, Some(0));
    // Log-ins with a wrong password, user and database.
    for wrong in [
        url.replacen("sushi:", "sushi:kanari-6-password", 1),
        format!("{url}?options=-c%20work_mem%3Dkanari-5-sql"),
    ] {
        assert_ne!(machine.psql(&wrong, "select 1").code, Some(0));
    }
    machine.ctl_ok(&["rotate", "sushi"]);
    // What the daemon doesn't know yet.
    let mut config = fs::read_to_string(machine.path("config/borealis/config.toml")).unwrap();
    config.insert_str(
        0,
        "api_key = \"kanari-7-key\"\nmax_connections = \"many\"\n",
    );
    fs::write(machine.path("config/borealis/config.toml"), config).unwrap();

    let secrets: Vec<String> = {
        let files = fs::read_dir(machine.path("state/borealis/passwords")).unwrap();
        let local = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
        let issued = machine
            .sandbox
            .secrets()
            .into_iter()
            .map(|secret| secret.value);
        local.chain(issued).chain([token]).collect()
    };
    assert!(secrets.len() > 5, "{}", secrets.len());
    let report = machine
        .run(machine.binary("borealisctl"))
        .args(&["bugreport", "-", "--log", &log_file(&machine)])
        .outcome()
        .expect_success();
    for name in PARTS {
        assert!(
            part(&report, name).lines().count() > 1,
            "{name} in {report}"
        );
    }
    assert!(part(&report, "sessions").contains("sushi"), "{report}");
    assert!(
        part(&report, "config").contains("token_command: echo"),
        "{report}"
    );
    assert!(part(&report, "log of the last hour").contains("borealisd is ready"));
    // Its own part says that the key is there, the doctor that the number is none.
    assert!(
        part(&report, "config").contains("api_key: a value that is not shown"),
        "{report}"
    );
    assert!(part(&report, "doctor").contains("api_key"), "{report}");
    let told: Vec<_> = report
        .lines()
        .filter(|line| line.contains("kanari"))
        .collect();
    assert!(told.is_empty(), "{told:#?}");
    // Nothing had to be taken out of what was chosen.
    assert!(!report.contains("[removed]"), "{report}");
    for secret in &secrets {
        assert!(!report.contains(secret.trim()), "{secret} is in the report");
    }

    // What another program wrote into the log isn't chosen.
    let leaky = machine.path("leaky.log");
    let time = jiff::Timestamp::try_from(SystemTime::now()).unwrap();
    let mut text = format!("{time}  INFO it begins\n");
    for secret in &secrets {
        text.push_str(&format!("said {}\n", secret.trim()));
    }
    text.push_str("kanari-3-argument kanari-7-key kanari-1-variable\nit ends\n");
    fs::write(&leaky, text).unwrap();
    let leaky = leaky.display().to_string();
    let report = machine.ctl_ok(&["bugreport", "-", "--log", &leaky]);
    let log = part(&report, "log of the last hour");
    assert!(
        log.contains("it begins") && log.ends_with("it ends"),
        "{log}"
    );
    assert!(!log.contains("kanari"), "{log}");
    // The provider's personal credentials are the daemon's alone: borealisctl doesn't know them.
    let files = fs::read_dir(machine.path("state/borealis/passwords")).unwrap();
    let local = files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap());
    for secret in local.chain([machine.sandbox.token()]) {
        assert!(!log.contains(secret.trim()), "{secret} is in {log}");
    }
    machine.leave();
}

#[test]
fn it_is_a_file_of_the_users_own_that_replaces_none() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let log = log_file(&machine);
    let file = machine.path("report.txt");
    let name = file.display().to_string();
    let ran = machine.ctl(&["bugreport", &name, "--log", &log]);
    for word in [PARTS[0], PARTS[6], "read it before you pass it on", &name] {
        assert!(ran.stderr.contains(word), "{word}: {ran:?}");
    }
    assert_eq!(ran.expect_success(), format!("wrote {name}"));
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let report = fs::read_to_string(&file).unwrap();
    let versions = part(&report, "versions");
    assert!(
        versions.contains("borealisd    ") && versions.contains("Linux"),
        "{versions}"
    );
    assert!(versions.contains("OpenSSH"), "{versions}");
    assert!(
        part(&report, "doctor").contains("Everything is as it should be."),
        "{report}"
    );
    assert!(
        part(&report, "events").contains("borealisd started"),
        "{report}"
    );

    fs::write(&file, "mine").unwrap();
    for flags in [&[][..], &["--yes"]] {
        let args = [&["bugreport", &name, "--log", &log], flags].concat();
        machine
            .ctl(&args)
            .expect_failure(1, &["is there already", "--force"]);
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }
    let written = machine.json(&["bugreport", &name, "--force", "--log", &log]);
    assert_eq!(written["file"], Value::from(name.as_str()));
    assert!(fs::read_to_string(&file).unwrap().starts_with("A report"));
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A device is never replaced, and nothing is left of what wasn't written.
    let full = machine.path("link");
    std::os::unix::fs::symlink("/dev/null", &full).unwrap();
    let full = full.display().to_string();
    machine
        .ctl(&["bugreport", &full, "--force"])
        .expect_failure(1, &["not a regular file"]);
    assert!(Path::new("/dev/null").exists());
    machine
        .ctl(&["bugreport", "/nowhere/report.txt", "--log", &log])
        .expect_failure(1, &["can't write /nowhere/report.txt"]);
    machine.leave();
}

/// Runs `borealisctl bugreport` on a terminal, where this is typed; what is shown.
fn on_terminal(machine: &TestMachine, args: &[&str], typed: &str) -> (Option<i32>, String) {
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&user).unwrap();
    unlockpt(&user).unwrap();
    let path = ptsname(&user, Vec::new()).unwrap().into_string().unwrap();
    let program = File::options().read(true).write(true).open(path).unwrap();
    let mut child = machine
        .run(machine.binary("borealisctl"))
        .args(&[&["bugreport"], args].concat())
        .start_on(&program);
    drop(program);
    let mut user = File::from(user);
    user.write_all(typed.as_bytes()).unwrap();
    let mut shown = Vec::new();
    // Ends with an error once nobody has the terminal open.
    let _ = user.read_to_end(&mut shown);
    let status = child.wait().unwrap();
    let shown = String::from_utf8_lossy(&shown).into_owned();
    (status.code(), shown)
}

#[test]
fn on_a_terminal_it_asks_before_it_writes() {
    let machine = TestMachine::without_daemon(Options::default());
    let written = || -> Vec<PathBuf> {
        let files = fs::read_dir(machine.path("")).unwrap();
        let files = files.map(|file| file.unwrap().path());
        files
            .filter(|file| file.extension().is_some_and(|end| end == "txt"))
            .collect()
    };
    let (code, shown) = on_terminal(&machine, &[], "n\n");
    assert_eq!(code, Some(1), "{shown}");
    let told = shown.find("read it before you pass it on");
    assert!(
        told.unwrap() < shown.find("Write it? [y/N]").unwrap(),
        "{shown}"
    );
    assert!(shown.contains("nothing was written"), "{shown}");
    assert_eq!(written(), [] as [PathBuf; 0]);

    let (code, shown) = on_terminal(&machine, &[], "y\n");
    assert_eq!(code, Some(0), "{shown}");
    let [file] = &written()[..] else {
        panic!("{:?}: {shown}", written());
    };
    let name = file.file_name().unwrap().to_str().unwrap().to_owned();
    assert!(name.starts_with("borealis-bugreport-20"), "{name}");
    assert!(shown.contains(&name), "{shown}");
    fs::write(file, "mine").unwrap();
    let (code, shown) = on_terminal(&machine, &[&name], "n\n");
    assert_eq!(code, Some(1), "{shown}");
    assert!(shown.contains("Replace it? [y/N]"), "{shown}");
    assert_eq!(fs::read_to_string(file).unwrap(), "mine");
    let (code, shown) = on_terminal(&machine, &[&name], "y\ny\n");
    assert_eq!(code, Some(0), "{shown}");
    assert!(fs::read_to_string(file).unwrap().starts_with("A report"));
    fs::remove_file(file).unwrap();
    let (code, shown) = on_terminal(&machine, &["--yes"], "");
    assert_eq!((code, written().len()), (Some(0), 1), "{shown}");
    machine.leave();
}

#[test]
fn it_works_without_a_daemon() {
    let machine = TestMachine::without_daemon(Options::default());
    machine.write_bare_config("token_command = CANARY\n");
    let log = machine.path("old.log");
    let mut lines = File::create(&log).unwrap();
    writeln!(lines, "2020-01-01T00:00:00.000000Z  INFO borealisd: old").unwrap();
    let log = log.display().to_string();
    let ran = machine.ctl(&["bugreport", "--log", &log]);
    let report = ran.expect_success();
    for name in PARTS {
        part(&report, name);
    }
    for name in ["versions", "status", "sessions", "events"] {
        assert!(
            part(&report, name).contains("borealisd is not running"),
            "{report}"
        );
    }
    assert!(
        part(&report, "config").contains("no valid TOML"),
        "{report}"
    );
    assert!(
        part(&report, "log of the last hour").contains("nothing within the last hour"),
        "{report}"
    );
    assert!(!report.contains("CANARY"), "{report}");
    let ran = machine.ctl(&["bugreport"]);
    let report = ran.expect_success();
    assert!(
        part(&report, "log of the last hour").contains("--log"),
        "{report}"
    );
    machine.leave();
}
