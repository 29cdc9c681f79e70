//! What its keys do to sessions and connections.

use borealis_proto::v1::State;
use borealis_tests::harness::TestMachine;

use super::Psql;

const SIZE: (u16, u16) = (120, 40);

#[test]
fn one_connection_is_ended_and_the_others_never_notice() {
    let machine = TestMachine::new();
    let url = machine.open(&["sushi", "-w"]);
    let mut clients = [(); 3].map(|()| Psql::start(&machine, &url));
    let backends = clients.each_mut().map(|client| {
        client.say("begin;");
        client.asks("select pg_backend_pid();")
    });
    let mut top = machine.on_terminal(SIZE, &["top"], &[]);
    top.wait_for_words(&["READ-WRITE"]);
    top.type_text("\r");
    let screen = top.wait_for(|screen| backends.iter().all(|backend| screen.contains(backend)));
    println!("{screen}");
    // Which line is whose: the connections stand in the order in which they came.
    let lines: Vec<_> = screen.lines().collect();
    let of = |backend: &str| {
        let is_its = |line: &&str| line.split_whitespace().any(|word| word == backend);
        lines.iter().position(is_its).unwrap()
    };
    let first_line = backends.iter().map(|backend| of(backend)).min().unwrap();
    let victim = backends[1].as_str();
    let line = lines[of(victim)].trim_start_matches(['>', ' ']);
    let id = line.split_whitespace().next().unwrap();
    top.type_text("g");
    for _ in first_line..of(victim) {
        top.type_text("j");
    }
    top.type_text("e");
    let question = format!("End connection {id} (psql)?");
    top.wait_for_words(&[&question, "rolled back", "y: yes"]);
    // Any other key than y is a no.
    top.type_text("n");
    top.wait_for(|screen| !screen.contains("y: yes"));
    top.type_text("ey");
    let ended = format!("ended connection {id}");
    top.wait_for(|screen| screen.contains(&ended) && !screen.contains(victim));
    let [mut first, mut second, mut third] = clients;
    second.say("select 2;");
    assert_eq!(second.line(), "", "no answer");
    let said = second.end();
    assert!(said.contains("borealisctl top"), "{said}");
    for client in [&mut first, &mut third] {
        assert_eq!(client.asks("select 3;"), "3");
    }

    // A query is cancelled, and its connection goes on.
    first.say("rollback; select pg_sleep(600);");
    top.wait_for_words(&["active"]);
    top.type_text("/active\r");
    top.wait_for(|screen| screen.matches("psql").count() == 1);
    top.type_text("cy");
    top.wait_for_words(&["asked the server to cancel"]);
    assert_eq!(first.asks("select 4;"), "4");
    let said = first.end();
    assert!(said.contains("canceling statement"), "{said}");

    top.type_text("q");
    assert_eq!(top.ended().0.code(), Some(0));
    third.end();
    machine.leave();
}

#[test]
fn sessions_are_opened_rotated_copied_and_closed() {
    let machine = TestMachine::new();
    let mut top = machine.on_terminal(SIZE, &["top"], &[]);
    top.wait_for_words(&["no sessions are open; o opens one"]);
    top.type_text("osushi -w\r");
    top.wait_for_words(&["sushi-rw is up", "READ-WRITE"]);
    top.type_text("onosuchapp\r");
    top.wait_for_words(&["error:", "nosuchapp"]);
    top.type_text("r");
    top.wait_for_words(&["rotated sushi-rw: new connections use credential 2"]);

    let shown = machine.json(&["show", "sushi-rw", "--reveal"]);
    let password = shown["password"].as_str().unwrap();
    let copied = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        let (_, after) = text.rsplit_once("\u{1b}]52;c;").expect("OSC 52");
        let encoded = after.split('\u{7}').next().unwrap().to_owned();
        machine
            .run("base64")
            .args(&["-d"])
            .input(encoded)
            .outcome()
            .expect_success()
    };
    top.type_text("y");
    top.wait_for_words(&["the URL without a password is in the clipboard"]);
    let url = copied(&top.written());
    assert!(!url.contains(password), "{url}");
    assert_eq!(machine.query(&url, "select 1"), "1");
    top.type_text("Y");
    top.wait_for_words(&["with its password into the clipboard?"]);
    top.type_text("y");
    top.wait_for_words(&["the URL with its password is in the clipboard"]);
    let url = copied(&top.written());
    assert_eq!(url, shown["url"].as_str().unwrap());
    // It was never on the screen.
    assert!(!String::from_utf8_lossy(&top.written()).contains(password));

    top.type_text("x");
    top.wait_for_words(&["Close sushi-rw?"]);
    top.type_text("n");
    top.wait_for(|screen| !screen.contains("Close sushi-rw?"));
    machine.wait_for("sushi-rw", |session| session.state() == State::Up);
    top.type_text("xy");
    top.wait_for_words(&["closed sushi-rw", "no sessions are open"]);
    top.type_text("q");
    assert_eq!(top.ended().0.code(), Some(0));
    machine.leave();
}
