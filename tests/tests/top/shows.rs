//! What it shows of a session that is up, one that reconnects, and one that may write with an idle
//! transaction; at each size, and while the size changes.

use std::{fs, path::Path};

use borealis_proto::v1::State;
use borealis_tests::{
    harness::{Terminal, TestMachine, wake_ups},
    picture,
    sandbox::{Action, BastionAction, Fault},
};

use super::Psql;

const RAMEN: &str = "ramen.borealis_pg_maroon";
const RAMEN_ADDON: &str = "borealis-pg-oval-23456";
/// Where README's pictures are, which `make pictures` has written anew.
const PICTURES: &str = "BOREALIS_WRITE_PICTURES";

/// The size of the pictures.
const PICTURE: (u16, u16) = (100, 19);

/// The machine and the clients of its sessions.
struct Scene {
    machine: TestMachine,
    clients: Vec<Psql>,
}

// === impl Scene ===

impl Scene {
    fn new() -> Self {
        let machine = TestMachine::new();
        let read = machine.open(&["sushi"]);
        let write = machine.open(&["sushi", "-w", "--for", "30m"]);
        machine.open(&["ramen::BOREALIS_PG_MAROON"]);

        // Another machine has taken this add-on's key away, and the provider gives no other. All
        // lines are cut: the others come back.
        let faults = machine.sandbox.faults();
        faults.add(Fault::on(&format!("{RAMEN_ADDON}/**"), Action::status(503)));
        let take_away = async {
            faults.rotate_key_elsewhere(RAMEN_ADDON, 20).await?;
            faults.bastion(BastionAction::Cut).await
        };
        machine.sandbox.block_on(take_away).unwrap();
        machine.wait_for(RAMEN, |session| session.state() == State::Reconnecting);
        for name in ["sushi", "sushi-rw"] {
            machine.wait_for(name, |session| session.state() == State::Up);
        }

        let mut busy = Psql::start(&machine, &read);
        busy.say("\\o /dev/null");
        busy.say("select repeat('x', (random() * 90000)::int) \\watch 0.5");
        let mut idle = Psql::start(&machine, &write);
        assert_eq!(idle.asks("select 1;"), "1");
        let mut in_transaction = Psql::start(&machine, &write);
        assert_eq!(in_transaction.asks("begin; select 1;"), "1");
        Self {
            machine,
            clients: vec![busy, idle, in_transaction],
        }
    }

    fn end(self) {
        for mut client in self.clients {
            // psql that asks again and again hears nothing else.
            client.child.kill().unwrap();
            client.child.wait().unwrap();
        }
        self.machine.leave();
    }
}

#[track_caller]
fn line_of<'a>(screen: &'a str, name: &str) -> &'a str {
    let mut lines = screen.lines();
    let found = lines.find(|line| line.trim_start_matches(['>', ' ']).starts_with(name));
    found.unwrap_or_else(|| panic!("no line of {name}:\n{screen}"))
}

fn all_are_there(screen: &str) -> bool {
    ["reconnecting", "up", "WRITE"]
        .iter()
        .all(|word| screen.contains(word))
}

/// How many cells of the screen have a colour.
fn colours(top: &Terminal) -> usize {
    let screen = top.screen();
    let (rows, columns) = screen.size();
    let cells = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
    let cells = cells.filter_map(|(row, column)| screen.cell(row, column));
    let plain = vt100::Color::Default;
    cells
        .filter(|cell| cell.fgcolor() != plain || cell.bgcolor() != plain)
        .count()
}

/// Keeps a picture where that is asked for.
fn keep(top: &Terminal, name: &str, title: &str) {
    let picture = picture::svg(&top.screen(), title);
    assert!(picture.starts_with("<svg ") && picture.contains("sushi-rw"));
    if std::env::var_os(PICTURES).is_some() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("pictures");
        fs::write(dir.join(name), picture).unwrap();
    }
}

#[test]
fn each_kind_of_session_is_told_apart_at_each_size() {
    let scene = Scene::new();
    let mut top = scene.machine.on_terminal((80, 24), &["top"], &[]);

    top.wait_for(all_are_there);
    // The chosen one: the session with the transaction.
    top.type_text("G");
    let screen = top.wait_for(|screen| {
        screen.contains("a transaction has been idle for")
            && !screen.contains("idle for 0s")
            && line_of(screen, "sushi ").contains(['▇', '█'])
    });
    println!("{screen}");
    assert!(colours(&top) > 0);
    assert!(line_of(&screen, "sushi ").contains("read-only"));
    assert!(line_of(&screen, "sushi-rw").contains("READ-WRITE"));
    assert!(line_of(&screen, "ramen").contains("reconnecting"));
    assert!(screen.contains("connections"), "{screen}");
    top.resize(PICTURE);
    top.wait_for_words(&["y copy URL", "READ-WRITE", "look "]);
    keep(
        &top,
        "top-sessions.svg",
        "borealisctl top: sessions, and what is known of the chosen one",
    );

    top.resize((120, 40));
    let screen = top.wait_for_words(&["CREDENTIAL", "READ-WRITE", "reconnecting"]);
    println!("{screen}");
    assert!(line_of(&screen, "sushi ").contains("#1"), "{screen}");

    top.resize((40, 10));
    let screen = top.wait_for(|screen| {
        !screen.contains("CREDENTIAL") && screen.contains("WRITE") && screen.contains("? help")
    });
    println!("{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 40));
    assert!(line_of(&screen, "sushi-rw").contains("WRITE"));
    assert!(line_of(&screen, "sushi ").contains("read"));

    // On to a session's connections and their programs, and its events.
    top.resize((80, 24));
    top.type_text("\r");
    let screen = top.wait_for_words(&["connections of sushi-rw", "idle in transaction", "psql"]);
    println!("{screen}");
    top.resize(PICTURE);
    top.wait_for(|screen| {
        let mut lines = screen.lines();
        let is_wide = lines.any(|line| line.starts_with("──") && line.chars().count() > 80);
        is_wide && screen.contains("Esc back") && screen.matches("psql").count() == 2
    });
    keep(
        &top,
        "top-connections.svg",
        "borealisctl top: the connections of a session, with their programs",
    );
    top.type_text("\r");
    top.wait_for_words(&["events of sushi-rw", "EVENT"]);
    top.type_text("\u{1b}");
    top.wait_for_words(&["connections of sushi-rw"]);
    top.type_text("q");
    assert_eq!(top.ended().0.code(), Some(0));
    let mut top = scene
        .machine
        .on_terminal((80, 24), &["top"], &[("NO_COLOR", "1")]);
    let screen = top.wait_for(all_are_there);
    println!("{screen}");
    assert!(line_of(&screen, "sushi-rw").contains("READ-WRITE"));
    let colours = colours(&top);
    assert_eq!(colours, 0, "{screen}");
    top.type_text("q");
    assert_eq!(top.ended().0.code(), Some(0));
    scene.end();
}

#[test]
fn it_rests_while_nothing_changes() {
    let machine = TestMachine::new();
    let mut top = machine.on_terminal((80, 24), &["top"], &[]);
    top.wait_for_words(&["no sessions are open", "health ok", "0 of 0 up"]);
    let so_far = || {
        let woken: u64 = wake_ups(top.pid()).values().sum();
        (woken, top.written().len())
    };
    // What is told at the beginning may still be on its way.
    let rests = (0..5).any(|_| {
        let before = so_far();
        for _ in 0..20 {
            machine.ctl_ok(&["status"]);
        }
        let after = so_far();
        println!("woken and written before and after 20 other commands: {before:?}, {after:?}");
        before == after
    });
    assert!(rests, "it is woken, or draws, while nothing changes");
    top.type_text("q");
    assert_eq!(top.ended().0.code(), Some(0));
    machine.leave();
}
