//! A terminal with somebody before it: a pseudo-terminal and what a terminal emulator makes of
//! what a program writes there.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    num::NonZeroU16,
    os::unix::fs::OpenOptionsExt as _,
    process::{Child, ExitStatus},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use rustix::{
    process::{Pid, Signal, kill_process},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcgetattr, tcsetwinsize},
};

use super::{PATIENCE, TestMachine, run};

/// A program on a terminal of its own.
pub struct Terminal {
    user: File,
    /// Keeps the terminal there after the program's end, to be looked at.
    program: File,
    child: Child,
    before: String,
    shown: Arc<Shown>,
}

/// What was written, and what is seen of it.
struct Shown {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    emulator: vt100::Parser,
    bytes: Vec<u8>,
}

fn size(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).expect("a size")
}

// === impl TestMachine ===

impl TestMachine {
    /// Runs `borealisctl` on a terminal of so many columns and rows.
    pub fn on_terminal(
        &self,
        (columns, rows): (u16, u16),
        args: &[&str],
        variables: &[(&str, &str)],
    ) -> Terminal {
        let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&user).expect("a pseudo-terminal");
        unlockpt(&user).expect("a pseudo-terminal");
        let path = ptsname(&user, Vec::new()).expect("its name");
        let path = path.into_string().expect("its name");
        let program = File::options()
            .read(true)
            .write(true)
            .custom_flags(NO_CONTROLLING_TERMINAL)
            .open(path)
            .expect("the program's side");
        let user = File::from(user);
        set_size(&user, columns, rows);
        let before = modes(&program);
        // A session of its own, for which this is the terminal that sends it signals.
        let ctl = self.binary("borealisctl").display().to_string();
        let words = [&["--ctty", &ctl], args].concat();
        let mut run = self
            .run("setsid")
            .args(&words)
            .env("TERM", "xterm-256color");
        for (name, value) in variables {
            run = run.env(name, value);
        }
        let child = run.start_on(&program);
        let shown = Arc::new(Shown {
            state: Mutex::new(State {
                emulator: vt100::Parser::new(size(rows), size(columns), 0),
                bytes: Vec::new(),
            }),
            changed: Condvar::new(),
        });
        read(user.try_clone().expect("a descriptor"), Arc::clone(&shown));
        Terminal {
            user,
            program,
            child,
            before,
            shown,
        }
    }
}

// === impl Terminal ===

impl Terminal {
    /// Types.
    pub fn type_text(&mut self, keys: &str) {
        self.user.write_all(keys.as_bytes()).expect("typing");
    }

    /// Waits until the screen is as wanted, and answers it line by line.
    #[track_caller]
    pub fn wait_for(&self, wanted: impl Fn(&str) -> bool) -> String {
        let state = self.shown.state.lock();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let (state, waited) = self
            .shown
            .changed
            .wait_timeout_while(state, PATIENCE, |state| {
                !wanted(&state.emulator.screen().contents())
            })
            .unwrap_or_else(PoisonError::into_inner);
        let contents = state.emulator.screen().contents();
        assert!(
            !waited.timed_out(),
            "this is not what was wanted:\n{contents}"
        );
        contents
    }

    /// The same, for these words.
    #[track_caller]
    pub fn wait_for_words(&self, words: &[&str]) -> String {
        self.wait_for(|screen| words.iter().all(|word| screen.contains(word)))
    }

    /// What the emulator knows of the screen.
    pub fn screen(&self) -> vt100::Screen {
        self.state().emulator.screen().clone()
    }

    /// All that was written so far.
    pub fn written(&self) -> Vec<u8> {
        self.state().bytes.clone()
    }

    /// Makes it another size, as who drags its corner.
    pub fn resize(&self, (columns, rows): (u16, u16)) {
        self.state().emulator.set_size(size(rows), size(columns));
        set_size(&self.user, columns, rows);
    }

    /// The program's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends the program a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("a process");
    }

    /// Waits for the program's end, and checks that the terminal is as before it.
    #[track_caller]
    pub fn ended(mut self) -> (ExitStatus, String) {
        let Some(status) = run::wait(&mut self.child) else {
            panic!("it did not end:\n{}", self.screen().contents());
        };
        // What it wrote last may still be on its way.
        let state = self.shown.state.lock();
        let state = state.unwrap_or_else(PoisonError::into_inner);
        let (state, _) = self
            .shown
            .changed
            .wait_timeout_while(state, PATIENCE, |state| {
                let screen = state.emulator.screen();
                screen.alternate_screen() || screen.hide_cursor()
            })
            .unwrap_or_else(PoisonError::into_inner);
        let screen = state.emulator.screen();
        let contents = screen.contents();
        assert!(!screen.alternate_screen(), "the other screen:\n{contents}");
        assert!(!screen.hide_cursor(), "no cursor:\n{contents}");
        assert!(!screen.bracketed_paste() && !screen.application_cursor());
        assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
        assert_eq!(modes(&self.program), self.before, "the terminal's modes");
        (status, contents)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.shown.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

/// O_NOCTTY, by its value on Linux: the test itself must not get the terminal.
const NO_CONTROLLING_TERMINAL: i32 = 0o400;

fn set_size(terminal: &File, columns: u16, rows: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).expect("a size");
}

fn modes(terminal: &File) -> String {
    let modes = tcgetattr(terminal).expect("modes");
    format!(
        "{:?} {:?} {:?} {:?}",
        modes.input_modes, modes.output_modes, modes.control_modes, modes.local_modes
    )
}

/// Shows all that is written until nobody can write any more.
fn read(mut user: File, shown: Arc<Shown>) {
    thread::spawn(move || {
        let mut part = [0; 4096];
        while let Ok(length @ 1..) = user.read(&mut part) {
            let mut state = shown.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.emulator.process(&part[..length]);
            state.bytes.extend_from_slice(&part[..length]);
            shown.changed.notify_all();
        }
    });
}
