//! What keys and messages do.

use std::time::Duration;

use borealis_proto::v1;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{
    super::model::{Command, Copied, Happened, Mode, Notice, Page},
    Scene, clients, session, sessions,
};
use crate::failure::Failure;

fn said(scene: &Scene) -> &str {
    match &scene.model.notice {
        Some(Notice::Said(text) | Notice::Failed(text)) => text,
        None => "",
    }
}

#[test]
fn from_sessions_to_connections_to_events_and_back() {
    let mut scene = Scene::new();
    scene.press(KeyCode::Down);
    scene.press(KeyCode::Enter);
    assert_eq!(scene.model.page, Page::Connections);
    let ids = |scene: &Scene| scene.model.client_keys();
    assert_eq!(ids(&scene), [3, 7]);
    scene.press(KeyCode::Enter);
    assert_eq!(scene.model.page, Page::Events { all: false });
    assert_eq!(scene.model.event_keys(), [3, 1]);
    scene.press(KeyCode::Esc);
    assert_eq!(scene.model.page, Page::Connections);
    scene.press(KeyCode::Esc);
    assert_eq!(scene.model.page, Page::Sessions);
    assert_eq!(scene.model.session.on().unwrap(), "sushi");
    scene.keys("v");
    assert_eq!(scene.model.event_keys(), [3, 2, 1]);
    scene.press(KeyCode::Esc);
    assert_eq!(scene.model.page, Page::Sessions);
}

#[test]
fn what_can_not_be_undone_is_asked_first() {
    let mut scene = Scene::new();
    scene.press(KeyCode::End);
    let close = Command::Close("sushi-rw".into());
    assert_eq!(scene.keys("x"), []);
    assert!(
        matches!(&scene.model.mode, Mode::Ask(question) if question.text
        == "Close sushi-rw? Its connection is ended.")
    );
    assert_eq!(scene.keys("n"), []);
    assert_eq!(scene.keys("x"), []);
    assert_eq!(scene.press(KeyCode::Enter), []);
    assert_eq!(scene.keys("xy"), [close]);
    scene.tell(Happened::Answered(Ok("closed sushi-rw".into())));
    assert_eq!(said(&scene), "closed sushi-rw");

    // On the page of sessions there is no connection to end.
    assert_eq!(scene.keys("e"), []);
    assert_eq!(scene.model.mode, Mode::Browse);
    scene.press(KeyCode::Enter);
    assert_eq!(scene.keys("e"), []);
    assert!(
        matches!(&scene.model.mode, Mode::Ask(question) if question.text
        == "End connection 9 (psql)? Its transaction is rolled back.")
    );
    assert_eq!(scene.keys("y"), [Command::End(9)]);
    assert_eq!(scene.keys("cy"), [Command::Cancel(9)]);
}

#[test]
fn a_question_is_about_what_was_chosen_when_it_was_asked() {
    let mut scene = Scene::new();
    scene.press(KeyCode::Down);
    scene.keys("x");
    // The chosen session goes meanwhile, and another stands in its place.
    let mut left = sessions(0);
    left.remove(1);
    scene.tell(Happened::Sessions(left));
    assert_eq!(scene.keys("y"), [Command::Close("sushi".into())]);
}

#[test]
fn rotation_asks_nothing_and_waits_for_its_answer() {
    let mut scene = Scene::new();
    scene.press(KeyCode::Down);
    assert_eq!(scene.keys("r"), [Command::Rotate("sushi".into())]);
    assert!(said(&scene).contains("new credentials for sushi"));
    let failure = Failure::failed("the token was refused").with_hint("sign in");
    scene.tell(Happened::Answered(Err(failure)));
    assert_eq!(said(&scene), "the token was refused (hint: sign in)");
    // It is read until the next key.
    scene.after(60);
    assert!(!said(&scene).is_empty());
    scene.press(KeyCode::Down);
    assert_eq!(said(&scene), "");
}

#[test]
fn a_target_is_typed_and_write_access_is_asked_for_by_a_word() {
    let typed = |text: &str| {
        let mut scene = Scene::new();
        scene.keys("o");
        scene.keys(text);
        let commands = scene.press(KeyCode::Enter);
        assert_eq!(scene.model.mode, Mode::Browse);
        (commands, said(&scene).to_owned())
    };
    let open = |target: &str, write| Command::Open {
        target: target.into(),
        write,
    };
    assert_eq!(typed("sushi").0, [open("sushi", false)]);
    assert_eq!(typed(" q::DATABASE -w").0, [open("q::DATABASE", true)]);
    assert_eq!(typed("").0, []);
    for wrong in ["sushi ramen", "sushi --force", "-w sushi -x"] {
        let (commands, said) = typed(wrong);
        assert_eq!(commands, [], "{wrong}");
        assert!(said.contains("one target"), "{said}");
    }
    // What was typed can be taken back.
    let mut scene = Scene::new();
    scene.keys("osushi");
    scene.press(KeyCode::Backspace);
    scene.tell(Happened::Key(KeyEvent::new(
        KeyCode::Char('u'),
        KeyModifiers::CONTROL,
    )));
    assert_eq!(scene.press(KeyCode::Esc), []);
    assert_eq!(scene.press(KeyCode::Enter), []);
}

#[test]
fn a_filter_leaves_what_has_it() {
    let mut scene = Scene::new();
    scene.keys("/READ-W");
    assert_eq!(scene.model.session_keys(), ["sushi-rw"]);
    assert_eq!(scene.model.session.on().unwrap(), "sushi-rw");
    // Letters are the filter's, not commands.
    scene.keys("q");
    assert_eq!(scene.model.session_keys(), [] as [&str; 0]);
    scene.press(KeyCode::Esc);
    assert_eq!(scene.model.session_keys().len(), 3);
    scene.keys("/reconnecting");
    scene.press(KeyCode::Enter);
    assert_eq!(scene.model.session_keys(), ["ramen.borealis_pg_maroon"]);
    scene.press(KeyCode::Esc);
    assert_eq!(scene.model.session_keys().len(), 3);
}

#[test]
fn the_url_has_no_password_unless_that_is_asked_for_and_confirmed() {
    let mut scene = Scene::new();
    scene.press(KeyCode::Down);
    let url = "postgresql:///d4f0?host=/run/user/1000/borealis/pg/sushi&port=5432";
    assert_eq!(scene.keys("y"), [Command::Copy(url.into())]);
    assert!(said(&scene).contains("without a password"));
    assert_eq!(scene.keys("Yn"), []);
    assert_eq!(scene.keys("Yy"), [Command::Reveal("sushi".into())]);
    let copied = Copied {
        session: "sushi".into(),
        url: "postgresql://sushi:secret@127.0.0.1/d4f0".into(),
        with_password: true,
    };
    assert!(!format!("{copied:?}").contains("secret"));
    let commands = scene.tell(Happened::Copied(copied));
    let url = "postgresql://sushi:secret@127.0.0.1/d4f0".into();
    assert_eq!(commands, [Command::Copy(url)]);
    assert!(said(&scene).contains("with its password") && !said(&scene).contains("secret"));
    assert!(!scene.frame(120, 40).contains("secret"));

    let mut unknown = session("new", v1::State::Opening);
    unknown.database.clear();
    scene.tell(Happened::Sessions(vec![unknown]));
    assert_eq!(scene.keys("y"), []);
    assert!(said(&scene).contains("never been up"));
}

#[test]
fn it_ends_with_q_ctrl_c_and_signals() {
    let mut scene = Scene::new();
    assert_eq!(scene.keys("q"), [Command::Quit]);
    let ctrl = |c| KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL);
    for mode in ["", "/", "o", "x", "?"] {
        scene.keys(mode);
        let commands = scene.tell(Happened::Key(ctrl('c')));
        assert_eq!(commands, [Command::Interrupted(2)], "{mode}");
        scene.press(KeyCode::Esc);
    }
    assert_eq!(scene.tell(Happened::Signal(15)), [Command::Interrupted(15)]);
    assert_eq!(scene.tell(Happened::Key(ctrl('l'))), [Command::Redraw]);
    assert_eq!(scene.tell(Happened::Resized), [Command::Redraw]);
}

#[test]
fn a_daemon_that_is_away_is_waited_for() {
    let mut scene = Scene::new();
    scene.press(KeyCode::Down);
    scene.tell(Happened::Lost(Failure::connection_lost()));
    scene.after(3);
    scene.tell(Happened::Lost(Failure::failed("there is no socket")));
    assert!(
        scene
            .frame(80, 24)
            .starts_with(" borealisd is away (3s), waiting for it: there is")
    );
    // Nothing is asked of it, and what was known can still be looked at.
    assert_eq!(scene.keys("r"), []);
    assert_eq!(scene.keys("xy"), []);
    assert!(said(&scene).contains("away"));
    scene.press(KeyCode::Enter);
    assert_eq!(scene.model.client_keys(), [3, 7]);
    // Its connections are not those of before; events that are told again are not doubled.
    assert_eq!(scene.tell(Happened::Back), [Command::AskInfo]);
    assert_eq!(said(&scene), "borealisd is back");
    assert_eq!(scene.model.client_keys(), [] as [u64; 0]);
    let again = scene.model.events[0].clone();
    scene.tell(Happened::Event(Box::new(again)));
    assert_eq!(scene.model.events.len(), 3);
}

#[test]
fn an_older_daemon_tells_no_connections() {
    let mut scene = Scene::new();
    scene.tell(Happened::NoConnections);
    scene.press(KeyCode::Down);
    scene.press(KeyCode::Enter);
    assert!(scene.frame(120, 40).contains("can't tell its connections"));
    assert_eq!(scene.keys("e"), []);
    assert_eq!(scene.model.mode, Mode::Browse);
}

#[test]
fn a_page_of_a_session_that_goes_is_left() {
    let mut scene = Scene::new();
    scene.press(KeyCode::Down);
    scene.press(KeyCode::Enter);
    let mut left = sessions(0);
    left.remove(1);
    scene.tell(Happened::Sessions(left));
    assert_eq!(scene.model.page, Page::Sessions);
    assert_eq!(scene.model.session.on().unwrap(), "sushi-rw");
}

#[test]
fn health_is_asked_for_when_a_session_is_another() {
    let mut scene = Scene::new();
    assert_eq!(scene.tell(Happened::Sessions(sessions(500))), []);
    let mut changed = sessions(500);
    changed[0].state = v1::State::Up.into();
    assert_eq!(scene.tell(Happened::Sessions(changed)), [Command::AskInfo]);
}

#[test]
fn all_of_the_help_can_be_read_on_a_small_screen() {
    let mut scene = Scene::new();
    scene.keys("?");
    let mut read = String::new();
    for _ in 0..4 {
        read.push_str(&scene.frame(40, 10));
        scene.press(KeyCode::Down);
    }
    for (key, _) in super::super::keys::KEYS.iter().skip(1) {
        assert!(read.contains(&format!(" {key}")), "{key}: {read}");
    }
    // A key that closes the help does nothing else.
    assert_eq!(scene.keys("q"), []);
    assert_eq!(scene.model.mode, Mode::Browse);
}

#[test]
fn nothing_is_drawn_before_something_changes() {
    let mut scene = Scene::empty();
    assert_eq!(scene.model.next_tick(), None);
    // Traffic is in sight: the bars move.
    let mut scene2 = Scene::new();
    assert_eq!(scene2.model.next_tick(), Some(Duration::from_secs(1)));
    scene2.after(super::super::traffic::WINDOW);
    let next = scene2.model.next_tick().unwrap();
    assert!(next > Duration::from_secs(1), "{next:?}");

    // Only ages in minutes.
    scene.tell(Happened::Sessions(vec![session("sushi", v1::State::Up)]));
    assert_eq!(scene.model.next_tick(), Some(Duration::from_secs(60)));
    scene.tell(Happened::Connections(clients()));
    assert_eq!(scene.model.next_tick(), Some(Duration::from_secs(60)));
    // A connection that has been active for four seconds is in sight.
    scene.press(KeyCode::Enter);
    assert_eq!(scene.model.next_tick(), Some(Duration::from_secs(1)));
    // The frame really is the same until then.
    scene.press(KeyCode::Esc);
    let before = scene.frame(120, 40);
    scene.after(59);
    assert_eq!(scene.frame(120, 40), before);
    scene.after(1);
    assert_ne!(scene.frame(120, 40), before);
}
