//! Whole frames, kept as text files beside this one. `BOREALIS_WRITE_TEXTS=1` writes them anew.

use std::{fs, path::Path};

use ratatui::crossterm::event::KeyCode;

use super::{Happened, Scene, connection, session, start};
use crate::{failure::Failure, output::Paint};
use borealis_proto::v1;

/// Compares a frame with the one that is kept.
#[track_caller]
fn assert_frame(name: &str, frame: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/output/top/tests/frames")
        .join(format!("{name}.txt"));
    if std::env::var_os("BOREALIS_WRITE_TEXTS").is_some() {
        fs::write(&path, frame).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(frame, kept, "not as {}:\n{frame}", path.display());
}

const SIZES: [(u16, u16); 3] = [(80, 24), (120, 40), (40, 10)];

#[test]
fn sessions() {
    for (width, height) in SIZES {
        let mut scene = Scene::new();
        scene.press(KeyCode::Down);
        assert_frame(
            &format!("sessions-{width}x{height}"),
            &scene.frame(width, height),
        );
    }
}

#[test]
fn a_sessions_connections() {
    for (width, height) in SIZES {
        let mut scene = Scene::new();
        scene.press(KeyCode::End);
        scene.press(KeyCode::Enter);
        assert_frame(
            &format!("connections-{width}x{height}"),
            &scene.frame(width, height),
        );
    }
}

#[test]
fn events() {
    for (width, height) in SIZES {
        let mut scene = Scene::new();
        scene.keys("v");
        assert_frame(
            &format!("events-{width}x{height}"),
            &scene.frame(width, height),
        );
    }
}

#[test]
fn help_and_questions() {
    for (width, height) in SIZES {
        let mut scene = Scene::new();
        scene.keys("?");
        assert_frame(
            &format!("help-{width}x{height}"),
            &scene.frame(width, height),
        );
        scene.press(KeyCode::Esc);
        scene.press(KeyCode::Down);
        scene.keys("x");
        let frame = scene.frame(width, height);
        assert_frame(&format!("question-{width}x{height}"), &frame);
    }
}

#[test]
fn the_daemon_is_away() {
    let mut scene = Scene::new();
    scene.tell(Happened::Lost(Failure::connection_lost()));
    scene.after(12);
    assert_frame("away-80x24", &scene.frame(80, 24));
    assert_frame("away-40x10", &scene.frame(40, 10));
}

#[test]
fn nothing_is_told_by_colour_alone() {
    let mut scene = Scene::new();
    scene.press(KeyCode::End);
    for (width, height) in SIZES {
        let (coloured, colours) = scene.painted(width, height, Paint::Coloured);
        let (plain, none) = scene.painted(width, height, Paint::Plain);
        assert_eq!(coloured, plain);
        assert!(colours > 0 && none == 0, "{colours} {none}");
    }
    // In capitals in any width: the others stand in small letters.
    assert!(scene.frame(80, 24).contains("READ-WRITE 29m"));
    assert!(scene.frame(40, 10).contains("WRITE"));
}

#[test]
fn any_size_can_be_drawn() {
    let mut scene = Scene::new();
    for key in ["", "?", "/x", "\u{1b}", "\u{1b}", "o-w sushi"] {
        for c in key.chars() {
            scene.press(if c == '\u{1b}' {
                KeyCode::Esc
            } else {
                KeyCode::Char(c)
            });
        }
        for page in 0..3 {
            for width in (0..14).chain([39, 69, 70, 109, 110, 300]) {
                for height in (0..20).chain([100]) {
                    scene.frame(width, height);
                }
            }
            if page < 2 && key.is_empty() {
                scene.press(KeyCode::Enter);
            }
        }
        if key.is_empty() {
            scene.press(KeyCode::Esc);
            scene.press(KeyCode::Esc);
        }
    }
}

#[test]
fn text_from_outside_draws_nothing_of_its_own() {
    let hostile = "\u{1b}[2J\u{202e}evil\n";
    let mut scene = Scene::empty();
    let of = |text: &str| v1::Session {
        step: text.into(),
        addon: text.into(),
        ..session(text, v1::State::Opening)
    };
    scene.tell(Happened::Sessions(vec![of(hostile)]));
    let mut client = connection(1, hostile, v1::ConnectionState::Idle, 1);
    client.connection.application_name = hostile.into();
    client.connection.database = hostile.into();
    client.connection.held_for = hostile.into();
    scene.tell(Happened::Connections(vec![client]));
    scene.tell(Happened::Event(Box::new(v1::Event {
        session: hostile.into(),
        message: hostile.into(),
        ..v1::Event::default()
    })));
    for keys in ["", "x", "\u{1b}", "\r", "e", "\u{1b}", "\r"] {
        for c in keys.chars() {
            scene.press(match c {
                '\u{1b}' => KeyCode::Char('n'),
                '\r' => KeyCode::Enter,
                c => KeyCode::Char(c),
            });
        }
        let frame = scene.frame(120, 40);
        assert!(frame.contains("\\x1B[2J"), "{frame}");
        let unsafe_ones = |c| borealis_proto::text::is_unsafe(c) && c != '\n';
        assert!(!frame.contains(unsafe_ones), "{frame:?}");
    }
    assert_eq!(scene.model.now, start());
}
