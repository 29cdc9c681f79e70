//! `borealisctl psql` on a terminal: as if psql had been started by hand.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    process::Child,
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

use borealis_tests::harness::{PATIENCE, TestMachine};
use rustix::{
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

/// A terminal with a program on it.
struct Terminal {
    user: File,
    shown: Arc<(Mutex<String>, Condvar)>,
    /// How much of it has been waited for.
    seen: usize,
    child: Child,
}

// === impl Terminal ===

impl Terminal {
    /// Starts a program on a new terminal, in a session of its own.
    fn start(machine: &TestMachine, words: &[&str], environment: &[(&str, &str)]) -> Self {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let path = ptsname(&user, Vec::new()).unwrap().into_string().unwrap();
        let programs = File::options().read(true).write(true).open(path).unwrap();
        let user = File::from(user);
        let mut run = machine
            .run("setsid")
            .args(&["--ctty"])
            .args(words)
            .env("TERM", "xterm")
            .env("PAGER", "cat");
        for (name, value) in environment {
            run = run.env(name, value);
        }
        let child = run.start_on(&programs);
        let shown: Arc<(Mutex<String>, Condvar)> = Arc::default();
        let mut reader = user.try_clone().unwrap();
        let writer = Arc::clone(&shown);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Ends with an error once nobody has the terminal open.
            while let Ok(length @ 1..) = reader.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                writer.0.lock().unwrap().push_str(&text);
                writer.1.notify_all();
            }
        });
        let mut terminal = Self {
            user,
            shown,
            seen: 0,
            child,
        };
        terminal.resize(24, 80);
        terminal
    }

    fn psql(machine: &TestMachine, words: &[&str], environment: &[(&str, &str)]) -> Self {
        let ctl = machine.binary("borealisctl").display().to_string();
        Self::start(machine, &[&[&ctl, "psql"], words].concat(), environment)
    }

    fn resize(&mut self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.user, size).unwrap();
    }

    fn type_in(&mut self, keys: &str) {
        self.user.write_all(keys.as_bytes()).unwrap();
    }

    /// Whether this is shown in time, behind all that was waited for before.
    fn shows(&mut self, text: &str, within: Duration) -> bool {
        let (shown, changed) = &*self.shown;
        let seen = self.seen;
        let lacks = |shown: &mut String| !shown[seen..].contains(text);
        let waiting = changed.wait_timeout_while(shown.lock().unwrap(), within, lacks);
        !waiting.unwrap().1.timed_out()
    }

    /// Waits until this is shown, behind all that was waited for before.
    #[track_caller]
    fn expect(&mut self, text: &str) {
        let (shown, changed) = &*self.shown;
        let seen = self.seen;
        let waiting = changed.wait_timeout_while(shown.lock().unwrap(), PATIENCE, |shown| {
            !shown[seen..].contains(text)
        });
        let (shown, late) = waiting.unwrap();
        assert!(
            !late.timed_out(),
            "{text:?} isn't shown:\n{}",
            &shown[seen..]
        );
        self.seen = seen + shown[seen..].find(text).unwrap() + text.len();
    }

    fn ended(mut self) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        (code, self.shown.0.lock().unwrap().clone())
    }
}

const CTRL_C: &str = "\u{3}";
const CTRL_D: &str = "\u{4}";
const CTRL_Z: &str = "\u{1a}";

#[test]
fn ctrl_c_cancels_the_query_and_not_psql() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let mut psql = Terminal::psql(&machine, &["sushi"], &[]);
    psql.expect("sushi is read-only; with --write-access (-w) it can be written to");
    psql.expect("=> ");
    psql.type_in("select pg_sleep(602);\n");
    let asleep = "select count(*) from pg_stat_activity where query like 'select pg_sleep(602)%'";
    while machine.query(&url, asleep) != "1" {}
    psql.type_in(CTRL_C);
    psql.expect("canceling statement due to user request");
    psql.expect("=> ");
    psql.type_in("select 'still ' || 'here';\n");
    psql.expect("still here");
    psql.expect("=> ");
    psql.type_in(CTRL_D);
    assert_eq!(psql.ended().0, Some(0));
    // The session was open before, and stays.
    assert_eq!(machine.query(&url, "select 1"), "1");
    machine.leave();
}

/// What a user has in the environment and at home for another database.
const FOR_ANOTHER_DATABASE: [(&str, &str); 21] = [
    ("PGHOST", "192.0.2.1"),
    ("PGHOSTADDR", "192.0.2.1"),
    ("PGPORT", "1"),
    ("PGPASSFILE", "/nowhere"),
    ("PGSERVICE", "elsewhere"),
    ("PGSERVICEFILE", "/nowhere"),
    ("PGTARGETSESSIONATTRS", "read-write"),
    ("PGOPTIONS", "-c role=another"),
    ("PGMINPROTOCOLVERSION", "3.2"),
    ("PGREQUIREAUTH", "md5"),
    ("PGREQUIREPEER", "another"),
    ("PGCHANNELBINDING", "require"),
    ("PGGSSENCMODE", "require"),
    ("PGSSLMODE", "verify-full"),
    ("PGSSLNEGOTIATION", "direct"),
    ("PGSSLCERT", "/nowhere"),
    ("PGSSLKEY", "/nowhere"),
    ("PGSSLROOTCERT", "/nowhere"),
    ("PGSSLCRL", "/nowhere"),
    ("PGSSLMAXPROTOCOLVERSION", "TLSv1.1"),
    ("PGAPPNAME", "mine"),
];

#[test]
fn settings_for_another_database_lead_nobody_astray() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let ctl = machine.binary("borealisctl");
    let connects = |environment: &[(&str, &str)]| {
        for words in [
            &["psql", "sushi", "--", "-XAtc", "show is_superuser"] as &[_],
            &[
                "run",
                "sushi",
                "-u",
                "--",
                "psql",
                "-XAtc",
                "show is_superuser",
            ],
        ] {
            let mut run = machine.run(&ctl).args(words);
            for (name, value) in environment {
                run = run.env(name, value);
            }
            let ran = run.outcome();
            assert_eq!(
                (ran.code, ran.stdout.as_str(), ran.stderr.as_str()),
                (Some(0), "off\n", ""),
                "{environment:?} {words:?}"
            );
        }
    };
    connects(&[]);
    for variable in FOR_ANOTHER_DATABASE {
        connects(&[variable]);
    }
    connects(&FOR_ANOTHER_DATABASE);
    // What is the user's taste, or patience, stays.
    let own = machine
        .run(&ctl)
        .args(&["psql", "sushi", "--", "-XAtc", "show application_name"])
        .env("PGAPPNAME", "mine");
    assert_eq!(own.outcome().expect_success(), "mine");
    // A certificate authority at home is believed by default, and knows no session.
    std::fs::create_dir(machine.path(".postgresql")).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let authority = rcgen::CertificateParams::new(["another".to_owned()]).unwrap();
    let authority = authority.self_signed(&key).unwrap().pem();
    for certificate in [authority.as_str(), "no certificate\n"] {
        std::fs::write(machine.path(".postgresql/root.crt"), certificate).unwrap();
        connects(&[]);
    }
    machine.leave();
}

#[test]
fn the_users_own_settings_window_and_history_are_used() {
    let machine = TestMachine::new();
    let [settings, history] =
        ["settings.psql", "history"].map(|name| machine.path(name).display().to_string());
    std::fs::write(
        &settings,
        "\\echo settings are read\n\\set PROMPT1 'ready> '\n",
    )
    .unwrap();
    let environment = [("PSQLRC", settings.as_str()), ("PSQL_HISTORY", &history)];
    let mut psql = Terminal::psql(&machine, &["sushi", "-w"], &environment);
    psql.expect("settings are read");
    psql.expect("ready> ");
    psql.resize(40, 132);
    psql.type_in("\\! stty size\n");
    psql.expect("40 132");
    psql.expect("ready> ");
    psql.type_in("select 'remember' as this;\n");
    psql.expect("(1 row)");
    psql.type_in("\\q\n");
    let (code, shown) = psql.ended();
    assert_eq!(code, Some(0));
    assert!(!shown.contains("is read-only"), "{shown}");
    let history = std::fs::read_to_string(history).unwrap();
    assert!(history.contains("remember"), "{history}");
    machine
        .daemon()
        .wait_until_gone("sushi-rw", &machine.sandbox);
    machine.leave();
}

#[test]
fn a_shells_job_control_works() {
    let machine = TestMachine::new();
    let mut shell = Terminal::start(&machine, &["bash", "--norc", "-i"], &[("PS1", "shell> ")]);
    shell.expect("shell> ");
    let ctl = machine.binary("borealisctl").display().to_string();
    shell.type_in(&format!("{ctl} psql sushi\n"));
    shell.expect("=> ");
    shell.type_in(CTRL_Z);
    shell.expect("Stopped");
    shell.expect("shell> ");
    shell.type_in("fg\n");
    shell.expect(&format!("{ctl} psql sushi"));
    // What is typed while psql takes the terminal back may be lost.
    for _ in 0..PATIENCE.as_secs() {
        shell.type_in("\n");
        if shell.shows("=> ", Duration::from_secs(1)) {
            break;
        }
    }
    shell.type_in("select 'back ' || 'again';\n");
    shell.expect("back again");
    shell.type_in("\\q\n");
    shell.expect("shell> ");
    shell.type_in("exit 3\n");
    assert_eq!(shell.ended().0, Some(3));
    machine.daemon().wait_until_gone("sushi", &machine.sandbox);
    machine.leave();
}

#[test]
fn its_exit_code_is_psqls() {
    let machine = TestMachine::new();
    for (words, code) in [
        (&["-c", "select nope"][..], 1),
        (&["-v", "ON_ERROR_STOP=1", "-f", "bad.sql"], 3),
        (&["-c", "select 1"], 0),
        (&["--no-such-flag"], 1),
    ] {
        std::fs::write(machine.path("bad.sql"), "select nope;\n").unwrap();
        let ran = machine.ctl(&[&["psql", "sushi", "--", "-X"], words].concat());
        assert_eq!(ran.code, Some(code), "{ran:#?}");
    }
    // Its input may be a script.
    let script = machine
        .run(machine.binary("borealisctl"))
        .args(&["psql", "sushi", "--", "-XAtq"]);
    assert_eq!(
        script
            .input("select 1;\nselect 2;\n")
            .outcome()
            .expect_success(),
        "1\n2"
    );
    // --binary-path names another one.
    let other =
        machine
            .run(machine.binary("borealisctl"))
            .args(&["psql", "sushi", "-b", "/bin/false"]);
    assert_eq!(other.outcome().code, Some(1));
    machine.leave();
}

/// Ctrl-C on a command's own terminal reaches it once, and it decides what it means.
#[test]
fn ctrl_c_reaches_what_run_started() {
    let machine = TestMachine::new();
    let ctl = machine.binary("borealisctl").display().to_string();
    let script = "trap 'echo cleaned up; exit 44' INT; echo started; while :; do :; done";
    let mut command = Terminal::start(&machine, &[&ctl, "run", "sushi", "-u", "-e", script], &[]);
    command.expect("started");
    command.type_in(CTRL_C);
    command.expect("cleaned up");
    assert_eq!(command.ended().0, Some(44));
    machine.daemon().wait_until_gone("sushi", &machine.sandbox);
    machine.leave();
}
