//! A session bus of a test's own, and the notification service on it.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use borealis_tests::harness::PATIENCE;
use tokio::runtime::Runtime;
use zbus::{connection, interface, zvariant::OwnedValue};

/// What the desktop is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To show something.
    Shown {
        number: u32,
        summary: String,
        body: String,
    },
    /// To take it away.
    Closed(u32),
}

/// A bus until it is dropped.
pub(crate) struct Bus {
    child: Child,
    pub(crate) address: String,
}

/// The notification service on a bus.
pub(crate) struct Desktop {
    asked: mpsc::Receiver<Asked>,
    _runtime: Runtime,
}

/// How the service behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    Markup,
    Plain,
    /// It takes what it is asked, and never answers.
    Silent,
}

struct Service {
    manner: Manner,
    asked: mpsc::SyncSender<Asked>,
    last: u32,
}

#[interface(name = "org.freedesktop.Notifications")]
impl Service {
    #[zbus(name = "GetCapabilities")]
    async fn capabilities(&self) -> Vec<String> {
        match self.manner {
            Manner::Markup => vec!["body".into(), "body-markup".into()],
            Manner::Plain | Manner::Silent => vec!["body".into()],
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the specification's")]
    async fn notify(
        &mut self,
        app_name: String,
        replaces: u32,
        _icon: String,
        summary: String,
        body: String,
        actions: Vec<String>,
        _hints: std::collections::HashMap<String, OwnedValue>,
        _expires: i32,
    ) -> u32 {
        assert_eq!(
            (app_name.as_str(), replaces, actions.len()),
            ("borealisd", 0, 0)
        );
        self.last += 1;
        let number = self.last;
        let _ = self.asked.send(Asked::Shown {
            number,
            summary,
            body,
        });
        if self.manner == Manner::Silent {
            std::future::pending::<()>().await;
        }
        number
    }

    async fn close_notification(&mut self, number: u32) {
        let _ = self.asked.send(Asked::Closed(number));
    }
}

// === impl Bus ===

impl Bus {
    pub(crate) fn start(home: &Path) -> Self {
        let mut child = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address=1"])
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon, which tests/scripts/setup installs");
        let mut address = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        Self { child, address }
    }

    /// Puts the service on it.
    pub(crate) fn desktop(&self, manner: Manner) -> Desktop {
        let (sender, asked) = mpsc::sync_channel(100);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let service = Service {
            manner,
            asked: sender,
            last: 0,
        };
        let connection = runtime.block_on(async {
            connection::Builder::address(self.address.as_str())
                .unwrap()
                .name("org.freedesktop.Notifications")
                .unwrap()
                .serve_at("/org/freedesktop/Notifications", service)
                .unwrap()
                .build()
                .await
                .unwrap()
        });
        // It serves until the runtime ends.
        runtime.spawn(async move {
            let _connection = connection;
            std::future::pending::<()>().await;
        });
        Desktop {
            asked,
            _runtime: runtime,
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === impl Desktop ===

impl Desktop {
    /// The next thing that it is asked for.
    #[track_caller]
    pub(crate) fn next(&self) -> Asked {
        let next = self.asked.recv_timeout(PATIENCE);
        next.expect("the desktop is asked for something")
    }

    /// The next thing that it is to show.
    #[track_caller]
    pub(crate) fn next_shown(&self) -> (u32, String, String) {
        match self.next() {
            Asked::Shown {
                number,
                summary,
                body,
            } => (number, summary, body),
            other => panic!("nothing is shown, but {other:?}"),
        }
    }

    /// What it was asked for meanwhile.
    pub(crate) fn all(&self) -> Vec<Asked> {
        self.asked.try_iter().collect()
    }
}
