//! Connections that are kept ready: nobody sees a difference but speed, and none is kept
//! that a log-in of the moment would differ from.

use std::thread;

use borealis_tests::{
    harness::{
        Admin, PATIENCE, TestMachine, eventually,
        wire::{self, Message, Wire},
    },
    sandbox::{BastionAction, Options, Stats},
};

/// Waits until `show` says that so many connections are kept ready.
#[track_caller]
pub(crate) fn wait_for_ready(session: &str, ready: u32, machine: &TestMachine) {
    let wanted = format!(", {ready} kept ready");
    eventually(|| {
        let shown = machine.ctl_ok(&["show", session]);
        let as_wanted = match ready {
            0 => !shown.contains("kept ready"),
            _ => shown.contains(&wanted),
        };
        if as_wanted { Ok(()) } else { Err(shown) }
    });
}

/// All that a connection can find out of itself, but its process and its times.
const EVERYTHING: &str = "select to_jsonb(a) - '{pid,client_port,backend_start,xact_start,query_start,state_change,backend_xmin}'::text[]
      || (select jsonb_object_agg(name, to_jsonb(s) - 'name') from pg_settings s)
      || (select to_jsonb(t) - 'pid' from pg_stat_ssl t where t.pid = a.pid)
      || jsonb_build_object('user', user, 'session user', session_user, 'database', current_database(),
          'locks', (select count(*) from pg_locks where pid = a.pid and locktype <> 'virtualxid'),
          'prepared', (select count(*) from pg_prepared_statements),
          'cursors', (select count(*) from pg_cursors),
          'channels', (select count(*) from pg_listening_channels()))
    from pg_stat_activity a where pid = pg_backend_pid()";

/// What stands in a greeting but the key, and the key.
fn without_key(greeting: Vec<Message>) -> (Vec<Message>, Vec<u8>) {
    let key = greeting.iter().find(|message| message.tag == b'K');
    let key = key.expect("a key").body.clone();
    let rest = greeting.into_iter().filter(|message| message.tag != b'K');
    (rest.collect(), key)
}

#[test]
fn a_client_sees_no_difference_but_speed() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let dir = machine.socket_dir("sushi");
    let admin = Admin::new(&machine);
    let user = ("user", "sushi");
    for parameters in [
        vec![user],
        vec![user, ("application_name", "a report"), ("database", "d4f0")],
        vec![
            user,
            (
                "options",
                "-c work_mem=123kB -c search_path=elsewhere -c geqo=off",
            ),
        ],
        vec![
            user,
            ("client_encoding", "LATIN1"),
            ("DateStyle", "German"),
            ("TimeZone", "Asia/Tokyo"),
            ("extra_float_digits", "1"),
            ("statement_timeout", "40s"),
        ],
    ] {
        let (mut cold, cold_greeting) = Wire::log_in(&dir, &parameters);
        let cold_sees = cold.ask(EVERYTHING);
        let (mut warm, warm_greeting, warm_sees) =
            one_that_was_ready(&machine, &admin, &parameters);
        let (cold_says, cold_key) = without_key(cold_greeting);
        let (warm_says, warm_key) = without_key(warm_greeting);
        assert_eq!(cold_says, warm_says);
        assert_eq!(cold_sees, warm_sees, "{parameters:?}");
        assert_ne!(cold_key, warm_key);

        // It is used once, and its key is its own.
        warm.send(&wire::query("select pg_sleep(600)")).unwrap();
        admin_waits_for_sleep(&admin, &machine);
        Wire::connect(&dir).send(&wire::cancel(&warm_key)).unwrap();
        let told = warm.until(b'Z').unwrap();
        let error = told.iter().find(|message| message.tag == b'E').unwrap();
        assert_eq!(error.field(b'C').as_deref(), Some("57014"));
    }
    machine.leave();
}

/// A client that got the connection that was ready, its greeting, and what it sees. On a busy
/// machine one may not answer the daemon's check in time, and is replaced.
fn one_that_was_ready(
    machine: &TestMachine,
    admin: &Admin,
    parameters: &[(&str, &str)],
) -> (Wire, Vec<Message>, String) {
    for _ in 0..5 {
        wait_for_ready("sushi", 1, machine);
        let before = admin.ask("select clock_timestamp()", machine);
        let (mut warm, greeting) = Wire::log_in(&machine.socket_dir("sushi"), parameters);
        let sees = warm.ask(EVERYTHING);
        let was_ready = format!(
            "select backend_start < '{before}' from pg_stat_activity where pid = pg_backend_pid()"
        );
        if warm.ask(&was_ready) == "t" {
            return (warm, greeting, sees);
        }
    }
    panic!("no client got what was ready: {parameters:?}");
}

fn admin_waits_for_sleep(admin: &Admin, machine: &TestMachine) {
    let sleeping = "select count(*) from pg_stat_activity where query = 'select pg_sleep(600)' and state = 'active'";
    eventually(|| match admin.ask(sleeping, machine).as_str() {
        "0" => Err("nobody sleeps".to_owned()),
        _ => Ok(()),
    });
}

/// A client that has a connection that was ready, once it is.
fn begin(machine: &TestMachine, parameters: &[(&str, &str)]) -> Wire {
    wait_for_ready("sushi-rw", 1, machine);
    let (wire, greeting) = Wire::log_in(&machine.socket_dir("sushi-rw"), parameters);
    assert_eq!(greeting.last().unwrap().tag, b'Z');
    wire
}

#[test]
fn whatever_a_client_begins_with_is_answered_as_ever() {
    let machine = TestMachine::new();
    machine.open(&["sushi", "-w"]);
    let dir = machine.socket_dir("sushi-rw");
    let parameters = [("user", "sushi-rw")];
    let (mut cold, _) = Wire::log_in(&dir, &parameters);
    cold.send(&wire::query("create table copied (a int)"))
        .unwrap();
    cold.until(b'Z').unwrap();

    let tags = |messages: &[Message]| -> String {
        messages
            .iter()
            .map(|message| char::from(message.tag))
            .collect()
    };
    let extended = |sql: &str| {
        [
            wire::message(b'P', &[b"\0", sql.as_bytes(), b"\0\0\0"].concat()),
            wire::message(b'B', &[0; 8]),
            wire::message(b'E', &[0; 5]),
        ]
        .concat()
    };
    let sync = wire::message(b'S', b"");
    let copy = [
        wire::query("copy copied from stdin"),
        wire::message(b'd', b"7\n"),
        wire::message(b'c', b""),
    ]
    .concat();
    let pipeline = [
        extended("select 1"),
        sync.clone(),
        extended("select nonsense"),
        extended("select 2"),
        sync.clone(),
        wire::query("select 3; select 4"),
    ]
    .concat();
    // Sync alone, a pipeline with an error in it, rows to be copied, and without a pause
    // after the packet that logs in.
    for (asked, answer) in [
        (sync, vec!["Z"]),
        (wire::query(""), vec!["IZ"]),
        (copy, vec!["GCZ"]),
        (pipeline, vec!["12DCZ", "1EZ", "TDCTDCZ"]),
    ] {
        let answer: Vec<_> = answer
            .into_iter()
            .map(|tags| tags.replace("1EZ", "EZ"))
            .collect();
        let mut client = begin(&machine, &parameters);
        client.send(&asked).unwrap();
        for wanted in &answer {
            assert_eq!(&tags(&client.until(b'Z').unwrap()), wanted);
        }
        assert_eq!(client.ask("select 'more'"), "more");

        wait_for_ready("sushi-rw", 1, &machine);
        let mut hasty = Wire::connect(&dir);
        hasty
            .send(&[wire::startup(&parameters), asked].concat())
            .unwrap();
        hasty.until(b'Z').unwrap();
        for wanted in &answer {
            assert_eq!(&tags(&hasty.until(b'Z').unwrap()), wanted);
        }
    }
    assert_eq!(cold.ask("select count(*) from copied"), "2");

    // Who leaves at once, with a word and without.
    let mut polite = begin(&machine, &parameters);
    polite.send(&wire::message(b'X', b"")).unwrap();
    assert_eq!(polite.rest(), []);
    drop(begin(&machine, &parameters));
    machine.leave();
}

#[test]
fn what_is_kept_ready_goes_where_a_log_in_would_differ() {
    let machine = TestMachine::new();
    machine.open(&["sushi", "-w"]);
    let dir = machine.socket_dir("sushi-rw");
    let admin = Admin::new(&machine);
    let parameters = [("user", "sushi-rw")];
    let (mut client, _) = Wire::log_in(&dir, &parameters);
    let role = client.ask("select user");
    let own = client.ask("select pg_backend_pid()");
    let kept = || {
        wait_for_ready("sushi-rw", 1, &machine);
        // One that has just been left may take its time to end.
        admin.wait_for(&role, &machine, |pids| pids.split(' ').count() == 2);
        let pids = admin.connections(&role, &machine);
        let mut others = pids.split(' ').filter(|pid| *pid != own);
        others
            .next()
            .expect("one beside the client's own")
            .to_owned()
    };
    // A rotation.
    let before = kept();
    machine.ctl_ok(&["rotate", "sushi-rw"]);
    admin.wait_for(&role, &machine, |pids| !pids.contains(&before));
    wait_for_ready("sushi-rw", 0, &machine);

    // A setting that log-ins begin with, once its transaction has ended.
    drop(Wire::log_in(&dir, &parameters));
    wait_for_ready("sushi-rw", 1, &machine);
    for sql in ["begin", "alter role current_user set work_mem = '77kB'"] {
        client.send(&wire::query(sql)).unwrap();
        client.until(b'Z').unwrap();
    }
    wait_for_ready("sushi-rw", 1, &machine);
    client.send(&wire::query("commit")).unwrap();
    client.until(b'Z').unwrap();
    let (mut next, _) = Wire::log_in(&dir, &parameters);
    assert_eq!(next.ask("show work_mem"), "77kB");
    drop(next);

    // An end by the database.
    let before = kept();
    admin.ask(&format!("select pg_terminate_backend({before})"), &machine);
    wait_for_ready("sushi-rw", 0, &machine);

    // Too few connections: no client is refused for the sake of one that is kept ready.
    drop(Wire::log_in(&dir, &parameters));
    kept();
    admin.ask(&format!("alter role {role} connection limit 2"), &machine);
    let other = [("user", "sushi-rw"), ("application_name", "other")];
    let (mut second, _) = Wire::log_in(&dir, &other);
    assert_eq!(second.ask("select 1"), "1");
    wait_for_ready("sushi-rw", 0, &machine);

    // An admin's reset, after which new credentials are asked for by the next client.
    machine
        .sandbox
        .block_on(machine.sandbox.faults().reset_users("sushi"))
        .unwrap();
    admin.wait_for(&role, &machine, str::is_empty);

    // Nothing is left after the end.
    drop(Wire::log_in(&dir, &parameters));
    machine.ctl_ok(&["close", "sushi-rw"]);
    admin.wait_for(&role, &machine, str::is_empty);
    machine.leave();
}

#[test]
fn one_that_had_ended_is_replaced_unseen_and_nothing_is_done_twice() {
    let machine = TestMachine::new();
    machine.open(&["sushi", "-w"]);
    let dir = machine.socket_dir("sushi-rw");
    let admin = Admin::new(&machine);
    let parameters = [("user", "sushi-rw")];
    let (mut cold, _) = Wire::log_in(&dir, &parameters);
    cold.send(&wire::query("create table once (a int)"))
        .unwrap();
    cold.until(b'Z').unwrap();
    let own = cold.ask("select pg_backend_pid()");
    let role = cold.ask("select user");
    wait_for_ready("sushi-rw", 1, &machine);
    let act = |action| {
        machine
            .sandbox
            .block_on(machine.sandbox.faults().bastion(action))
            .unwrap();
    };

    // Nobody hears that it has ended before the line speaks again.
    act(BastionAction::Freeze);
    admin.ask(
        &format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{role}' and pid <> {own}"),
        &machine,
    );
    let (mut client, greeting) = Wire::log_in(&dir, &parameters);
    let (_, key) = without_key(greeting);
    client
        .send(&wire::query("insert into once values (1) returning a"))
        .unwrap();
    act(BastionAction::Thaw);
    let said = client.until(b'Z').unwrap();
    let tags: String = said.iter().map(|message| char::from(message.tag)).collect();
    assert_eq!(tags, "TDCZ", "{said:?}");
    assert_eq!(cold.ask("select count(*) from once"), "1");
    // Its key is another one's, and cancels all the same.
    client.send(&wire::query("select pg_sleep(600)")).unwrap();
    admin_waits_for_sleep(&admin, &machine);
    Wire::connect(&dir).send(&wire::cancel(&key)).unwrap();
    let told = client.until(b'Z').unwrap();
    let error = told.iter().find(|message| message.tag == b'E').unwrap();
    assert_eq!(error.field(b'C').as_deref(), Some("57014"));

    // A line that breaks may have carried the question: that is said, and it isn't asked
    // again.
    wait_for_ready("sushi-rw", 1, &machine);
    act(BastionAction::Freeze);
    let (mut client, _) = Wire::log_in(&dir, &parameters);
    client
        .send(&wire::query("insert into once values (2)"))
        .unwrap();
    // Meanwhile it is on its way, as a rule.
    machine.ctl_ok(&["show", "sushi-rw"]);
    act(BastionAction::Cut);
    act(BastionAction::Thaw);
    let told = client.read().unwrap();
    let done = || admin.ask("select count(*) from once where a = 2", &machine);
    match told.tag {
        b'C' => assert_eq!(done(), "1", "it was asked on another line"),
        _ => {
            assert_eq!(told.field(b'C').as_deref(), Some("57P01"), "{told:?}");
            assert_eq!(client.rest(), []);
            assert!(["0", "1"].contains(&done().as_str()));
        }
    }
    machine.leave();
}

/// The line is good, the bastion too: the database's process is stopped, as where its host is.
#[test]
fn one_that_hangs_is_replaced_at_once() {
    use rustix::process::{Pid, Signal, kill_process};
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let admin = Admin::new(&machine);
    let role = machine.query(&url, "select user");
    wait_for_ready("sushi", 1, &machine);
    admin.wait_for(&role, &machine, |pids| {
        !pids.is_empty() && !pids.contains(' ')
    });
    let pid = admin.connections(&role, &machine).parse().unwrap();
    let kept = Pid::from_raw(pid).unwrap();
    kill_process(kept, Signal::STOP).unwrap();
    let served_by = machine.query(&url, "select pg_backend_pid()");
    kill_process(kept, Signal::CONT).unwrap();
    assert_ne!(served_by, pid.to_string());
    machine.leave();
}

#[test]
fn none_is_kept_where_none_is_wanted() {
    let mut machine = TestMachine::without_daemon(Options::default());
    machine.write_config("warm_connections = 0\n");
    machine.start_daemon();
    machine.open(&["sushi"]);
    let admin = Admin::new(&machine);
    let (mut client, _) = Wire::log_in(&machine.socket_dir("sushi"), &[("user", "sushi")]);
    let role = client.ask("select user");
    let own = client.ask("select pg_backend_pid()");
    for _ in 0..3 {
        let (mut other, _) = Wire::log_in(&machine.socket_dir("sushi"), &[("user", "sushi")]);
        assert_eq!(other.ask("select 1"), "1");
        other.send(&wire::message(b'X', b"")).unwrap();
        other.rest();
        admin.wait_for(&role, &machine, |pids| pids == own);
    }
    assert!(!machine.ctl_ok(&["show", "sushi"]).contains("kept ready"));
    machine.leave();
}

/// As many clients as the role may have connections, while one is being made ahead of need:
/// it has its place at the server before that is known here, and no client gives way to it.
#[test]
fn clients_at_the_servers_limit_are_all_served() {
    const LIMIT: usize = 5;
    let machine = TestMachine::new();
    let url = machine.open(&["sushi"]);
    let role = machine.query(&url, "select user");
    let admin = Admin::new(&machine);
    machine.ctl_ok(&["close", "sushi"]);
    admin.wait_for(&role, &machine, str::is_empty);
    let sql = format!("alter role \"{role}\" connection limit {LIMIT}");
    admin.ask(&sql, &machine);
    // So long has a log-in its place before the server says so.
    admin.ask("alter system set post_auth_delay = '1s'", &machine);
    admin.ask("select pg_reload_conf()", &machine);
    let channels = || machine.sandbox.stats().bastion.channels.unwrap();
    let mut refused = Vec::new();
    // A session that has met the limit keeps none ready for a minute, a new one does.
    for _ in 0..3 {
        machine.open(&["sushi"]);
        let dir = machine.socket_dir("sushi");
        let log_in = || Wire::log_in(&dir, &[("user", "sushi")]);
        let before = channels();
        let first = log_in();
        // Its own, and that of the one that is made ahead.
        let wanted = |stats: &Stats| stats.bastion.channels >= Some(before + 2);
        let opened = machine.sandbox.wait_for(PATIENCE, wanted);
        machine.sandbox.block_on(opened).unwrap();
        thread::scope(|scope| {
            let others: Vec<_> = (1..LIMIT).map(|_| scope.spawn(log_in)).collect();
            let others = others.into_iter().map(|client| client.join().unwrap());
            let all: Vec<_> = std::iter::once(first).chain(others).collect();
            for (mut client, greeting) in all {
                match greeting.iter().find(|message| message.tag == b'E') {
                    Some(error) => refused.push(error.field(b'M')),
                    None => assert_eq!(client.ask("select 1"), "1"),
                }
            }
        });
        machine.ctl_ok(&["close", "sushi"]);
        admin.wait_for(&role, &machine, str::is_empty);
    }
    assert_eq!(refused, []);
    machine.leave();
}
