//! A bastion that wants new keys again and again, far away and over a bad line.

use std::{process::Child, time::Duration};

use borealis_tests::{
    harness::{Admin, PATIENCE, TestMachine},
    sandbox::{BastionKind, Options, SshdSettings},
};

use super::{
    client::Client,
    line::{Line, Quality},
};

/// Of these some share a tunnel: an add-on has eight.
const EACH_WAY: usize = 4;

/// Six megabytes each, which is as many new keys.
const ROWS: usize = 6000;

const CHECKSUM: &str = "select md5(string_agg(n || E'\\t' || line || E'\\n', '' order by n)) from ";

/// A shell's command beside others.
fn begin(machine: &TestMachine, command: &str) -> Child {
    machine.run("sh").args(&["-c", command]).start()
}

#[track_caller]
fn end(command: Child) -> String {
    let output = command.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn nothing_is_lost_while_keys_are_changed() {
    let line = Line::on_loopback();
    let settings = SshdSettings::strict()
        .and("RekeyLimit", "1M 3s")
        .and("LogLevel", "DEBUG1");
    let mut machine = TestMachine::without_daemon(Options {
        bastion: BastionKind::Sshd,
        sshd: settings,
        bastion_seen_at: Some(line.address()),
        ..Options::default()
    });
    line.lead_to(machine.sandbox.bastion_port());
    machine.set("BOREALIS_LOG", "borealisd=debug");
    machine.start_daemon();
    let url = machine.open(&["sushi", "-w"]);
    let admin = Admin::new(&machine);
    let tables = (0..EACH_WAY).map(|number| format!("copied{number}"));
    let tables: Vec<_> = tables.collect();
    let made = format!(
        "create table source as select n, repeat(md5(n::text) || md5((n * 7)::text), 16) as line
         from generate_series(1, {ROWS}) n"
    );
    machine.query(&url, &made);
    for table in &tables {
        machine.query(&url, &format!("create table {table} (like source)"));
    }
    let copy = format!("psql -XAtqc 'copy (select * from source order by n) to stdout' '{url}'");
    let file = machine.path("source").display().to_string();
    end(begin(&machine, &format!("{copy} > {file}")));
    line.set_quality(Quality {
        delay: Duration::from_millis(40),
        loss: 2,
    });

    let asking = Client::connect(&url);
    let downloads: Vec<_> = (0..EACH_WAY)
        .map(|_| begin(&machine, &format!("{copy} | md5sum")))
        .collect();
    let uploads: Vec<_> = tables
        .iter()
        .map(|table| {
            let copy = format!("psql -XAtqc 'copy {table} from stdin' '{url}' < {file}");
            begin(&machine, &copy)
        })
        .collect();
    let mut transfers: Vec<_> = downloads.into_iter().chain(uploads).collect();
    let mut answers = 0;
    while transfers
        .iter_mut()
        .any(|it| it.try_wait().unwrap().is_none())
    {
        asking.ask(PATIENCE).expect("an answer");
        answers += 1;
    }
    let stats = machine.sandbox.stats().bastion;
    println!("{answers} answers beside the transfers; {stats:?}");
    assert!(stats.key_exchanges > stats.connections + 30, "{stats:?}");
    let expected = admin.ask(&format!("{CHECKSUM} source"), &machine);
    for download in transfers.drain(..EACH_WAY) {
        assert_eq!(end(download).split(' ').next(), Some(&*expected));
    }
    transfers.into_iter().for_each(|upload| drop(end(upload)));
    for table in &tables {
        let found = admin.ask(&format!("{CHECKSUM} {table}"), &machine);
        assert_eq!(found, expected, "{table}");
    }
    drop(asking);
    machine.leave();
}
