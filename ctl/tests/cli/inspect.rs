//! Signing in, the doctor, events and metrics: what is asked, and what is printed.

use std::{pin::Pin, sync::Arc};

use borealis_proto::v1::{
    self,
    account_service_server::{AccountService, AccountServiceServer},
    daemon_service_server::{DaemonService, DaemonServiceServer},
    diagnostics_service_server::{DiagnosticsService, DiagnosticsServiceServer},
};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt as _, net::UnixListener};
use tokio_stream::{Stream, wrappers::UnixListenerStream};
use tonic::{Request, Response, Status, transport::Server};

use crate::daemon::{Ran, command};

/// What the daemon answers.
#[derive(Clone, Default)]
struct Canned {
    login: v1::LoginResponse,
    logout: v1::LogoutResponse,
    who: v1::WhoAmIResponse,
    events: Vec<v1::Event>,
    checks: Vec<v1::Check>,
    metrics: String,
    version: &'static str,
}

struct Daemon {
    dir: TempDir,
    serving: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Service(Arc<Canned>);

// === impl Daemon ===

impl Daemon {
    fn start(canned: Canned) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let service = Service(Arc::new(canned));
        let serving = tokio::spawn(async move {
            Server::builder()
                .add_service(AccountServiceServer::new(service.clone()))
                .add_service(DiagnosticsServiceServer::new(service.clone()))
                .add_service(DaemonServiceServer::new(service))
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self { dir, serving }
    }

    async fn run(&self, words: &[&str], input: &str) -> Ran {
        let mut child = command(self.dir.path(), words)
            .env("BOREALIS_SOCKET", self.dir.path().join("control.sock"))
            .env("TZ", "UTC")
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that reads nothing may have ended.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        Ran::of(child.wait_with_output().await.unwrap())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

type Reply<T> = Result<Response<T>, Status>;
type Streaming<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AccountService for Service {
    async fn login(&self, request: Request<v1::LoginRequest>) -> Reply<v1::LoginResponse> {
        assert_eq!(request.into_inner().token.trim(), "HRKU-1");
        Ok(Response::new(self.0.login.clone()))
    }

    async fn logout(&self, _: Request<v1::LogoutRequest>) -> Reply<v1::LogoutResponse> {
        Ok(Response::new(self.0.logout.clone()))
    }

    async fn who_am_i(&self, _: Request<v1::WhoAmIRequest>) -> Reply<v1::WhoAmIResponse> {
        Ok(Response::new(self.0.who.clone()))
    }
}

#[tonic::async_trait]
impl DiagnosticsService for Service {
    type WatchEventsStream = Streaming<v1::WatchEventsResponse>;
    type DiagnoseStream = Streaming<v1::DiagnoseResponse>;

    async fn watch_events(
        &self,
        _: Request<v1::WatchEventsRequest>,
    ) -> Reply<Self::WatchEventsStream> {
        let events = self.0.events.clone().into_iter();
        let events = events.map(|event| Ok(v1::WatchEventsResponse { event: Some(event) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(events))))
    }

    async fn get_metrics(
        &self,
        _: Request<v1::GetMetricsRequest>,
    ) -> Reply<v1::GetMetricsResponse> {
        let text = self.0.metrics.clone();
        Ok(Response::new(v1::GetMetricsResponse { text }))
    }

    async fn diagnose(&self, _: Request<v1::DiagnoseRequest>) -> Reply<Self::DiagnoseStream> {
        let checks = self.0.checks.clone().into_iter();
        let checks = checks.map(|check| Ok(v1::DiagnoseResponse { check: Some(check) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(checks))))
    }
}

#[tonic::async_trait]
impl DaemonService for Service {
    async fn get_info(&self, _: Request<v1::GetInfoRequest>) -> Reply<v1::GetInfoResponse> {
        Ok(Response::new(v1::GetInfoResponse {
            version: self.0.version.into(),
            api_version: "1.0".into(),
            pid: 7,
            socket: "SOCKET".into(),
            ..v1::GetInfoResponse::default()
        }))
    }

    async fn reload(&self, _: Request<v1::ReloadRequest>) -> Reply<v1::ReloadResponse> {
        Err(Status::unimplemented(""))
    }

    async fn shutdown(&self, _: Request<v1::ShutdownRequest>) -> Reply<v1::ShutdownResponse> {
        Err(Status::unimplemented(""))
    }
}

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 5 })
}

#[tokio::test]
async fn login_says_where_the_token_is_and_who_wins() {
    let login = v1::LoginResponse {
        account: "me@example.com".into(),
        kept: v1::Keep::File.into(),
        file: "/state/login.json".into(),
        because: "the keychain is locked".into(),
        shadowed_by: "HEROKU_API_KEY".into(),
    };
    let daemon = Daemon::start(Canned {
        login,
        ..Canned::default()
    });
    let words = ["login", "--token-stdin"];
    daemon.run(&words, "HRKU-1\n").await.assert(
        0,
        "logged in as me@example.com; the token is kept in /state/login.json\n",
        "warning: borealisd goes on with the token from HEROKU_API_KEY, which wins over this one\n\
         the keychain was not used: the keychain is locked\n",
    );
    let quiet = ["login", "--token-stdin", "--quiet", "-f", "json"];
    let json = daemon.run(&quiet, "HRKU-1").await.json();
    assert_eq!(
        json,
        serde_json::json!({
            "account": "me@example.com", "kept": "file", "file": "/state/login.json",
            "shadowed_by": "HEROKU_API_KEY",
        })
    );
    let none = daemon.run(&words, " \n").await;
    assert_eq!(none.code, Some(2), "{none:?}");
}

#[tokio::test]
async fn logout_says_what_is_used_from_now_on() {
    for (logout, said) in [
        (
            v1::LogoutResponse {
                was_kept: true,
                account: "me@example.com".into(),
                next: "~/.netrc".into(),
                problem: String::new(),
            },
            "logged out me@example.com; borealisd uses the token from ~/.netrc\n",
        ),
        (
            v1::LogoutResponse::default(),
            "no login was kept; borealisd has no other token\n",
        ),
    ] {
        let daemon = Daemon::start(Canned {
            logout,
            ..Canned::default()
        });
        daemon.run(&["logout"], "").await.assert(0, said, "");
    }
}

#[tokio::test]
async fn whoami_shows_the_places_also_when_none_has_a_token() {
    let place = |name: &str, state: v1::TokenPlaceState, problem: &str| v1::TokenPlace {
        place: name.into(),
        state: state.into(),
        problem: problem.into(),
        since: None,
    };
    let daemon = Daemon::start(Canned {
        who: v1::WhoAmIResponse {
            account: "me@example.com".into(),
            source: "borealisctl login".into(),
            places: vec![
                place("HEROKU_API_KEY", v1::TokenPlaceState::Empty, ""),
                place("borealisctl login", v1::TokenPlaceState::Used, ""),
                place("/home/me/.netrc", v1::TokenPlaceState::Shadowed, "is open"),
            ],
            failure: None,
        },
        ..Canned::default()
    });
    daemon.run(&["whoami"], "").await.assert(
        0,
        "me@example.com, by the token from borealisctl login\n\n\
         TOKEN FROM                   AGE\n\
         HEROKU_API_KEY     none\n\
         borealisctl login  used\n\
         /home/me/.netrc    shadowed       is open\n",
        "",
    );
    let daemon = Daemon::start(Canned {
        who: v1::WhoAmIResponse {
            places: vec![place("HEROKU_API_KEY", v1::TokenPlaceState::Empty, "")],
            failure: Some(v1::Failure {
                code: "not-logged-in".into(),
                class: v1::FailureClass::Login.into(),
                message: "not logged in".into(),
                hint: "do".into(),
            }),
            ..v1::WhoAmIResponse::default()
        },
        ..Canned::default()
    });
    daemon.run(&["whoami"], "").await.assert(
        4,
        "TOKEN FROM            AGE\nHEROKU_API_KEY  none\n",
        "error: not logged in\nhint: do\n",
    );
}

#[tokio::test]
async fn events_are_lines_objects_and_rows() {
    let lost = v1::Event {
        sequence: 8,
        at: at(1_795_356_900),
        kind: "tunnel-lost".into(),
        session: "sushi".into(),
        message: "the line went silent".into(),
        failure: Some(v1::Failure {
            code: "tunnel-lost".into(),
            hint: "wait".into(),
            ..v1::Failure::default()
        }),
        count: 3,
    };
    let reloaded = v1::Event {
        sequence: 9,
        at: at(1_795_356_901),
        kind: "reloaded".into(),
        message: "config and token were read again".into(),
        ..v1::Event::default()
    };
    let daemon = Daemon::start(Canned {
        events: vec![lost, reloaded],
        ..Canned::default()
    });
    daemon.run(&["events"], "").await.assert(
        0,
        "2026-11-22 14:15:00  sushi  the line went silent\n\
         2026-11-22 14:15:01  config and token were read again\n",
        "",
    );
    daemon.run(&["events", "-f", "csv"], "").await.assert(
        0,
        "sequence,at,kind,session,message,code,hint,count\n\
         8,2026-11-22T14:15:00Z,tunnel-lost,sushi,the line went silent,tunnel-lost,wait,3\n\
         9,2026-11-22T14:15:01Z,reloaded,,config and token were read again,,,1\n",
        "",
    );
    let json = daemon.run(&["events", "-f", "json"], "").await.json();
    assert_eq!(json[0]["code"], "tunnel-lost");
    assert_eq!(json[1]["session"], serde_json::Value::Null);
    assert_eq!(
        (&json[0]["count"], &json[1]["count"]),
        (&3.into(), &1.into())
    );
    let followed = daemon.run(&["events", "--follow", "-f", "json"], "").await;
    assert_eq!(followed.stdout.lines().count(), 2);
    assert_eq!(followed.code, Some(3), "the daemon has gone: {followed:?}");
}

#[tokio::test]
async fn metrics_are_text_or_samples() {
    let metrics = "# HELP a An a.\n# TYPE a gauge\na 1\nb{x=\"1 2\"} 3\n";
    let daemon = Daemon::start(Canned {
        metrics: metrics.into(),
        ..Canned::default()
    });
    daemon.run(&["metrics"], "").await.assert(0, metrics, "");
    let json = daemon.run(&["metrics", "-f", "json"], "").await.json();
    assert_eq!(
        json,
        serde_json::json!([{"metric": "a", "value": 1.0}, {"metric": "b{x=\"1 2\"}", "value": 3.0}])
    );
}

#[tokio::test]
async fn the_doctor_groups_what_it_left_out_and_fails_where_a_check_did() {
    let check =
        |id: &str, subject: &str, outcome: v1::CheckOutcome, found: &str, hint: &str| v1::Check {
            id: id.into(),
            subject: subject.into(),
            outcome: outcome.into(),
            found: found.into(),
            hint: hint.into(),
        };
    use v1::CheckOutcome as Is;
    let daemon = Daemon::start(Canned {
        checks: vec![
            check("token", "", Is::Ok, "from netrc", ""),
            check("dns", "sushi", Is::Fail, "no such name", "check it"),
            check("bastion", "sushi", Is::Skipped, "no address", ""),
            check("host-key", "sushi", Is::Skipped, "no address", ""),
        ],
        version: env!("CARGO_PKG_VERSION"),
        ..Canned::default()
    });
    let ran = daemon.run(&["doctor"], "").await;
    assert_eq!(ran.code, Some(1), "{ran:?}");
    let version = env!("CARGO_PKG_VERSION");
    assert!(ran.stdout.starts_with(&format!(
        "borealisd\n  ok       daemon        borealisd {version} (pid 7) answers at SOCKET\n"
    )));
    assert!(
        ran.stdout.ends_with(
            "  ok       token         from netrc\n\n\
             sushi\n\
             \x20 fail     DNS           no such name\n\
             \x20                        → check it\n\
             \x20 skipped                bastion, host key: no address\n\n\
             One check failed.\n"
        ),
        "{}",
        ran.stdout
    );
    let ran = daemon.run(&["doctor", "-f", "json"], "").await;
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    let last = json.as_array().unwrap().last().unwrap().clone();
    assert_eq!(
        last,
        serde_json::json!({
            "id": "host-key", "subject": "sushi", "outcome": "skipped", "found": "no address",
            "hint": null,
        })
    );
}

#[tokio::test]
async fn top_is_for_people() {
    let daemon = Daemon::start(Canned::default());
    let ran = daemon.run(&["top", "-f", "json"], "").await;
    assert_eq!(ran.code, Some(2));
    assert!(ran.stderr.contains("list --watch -f json"), "{ran:?}");
}

#[tokio::test]
async fn the_manual_has_a_page_for_each_command() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man");
    let words = ["man", pages.to_str().unwrap()];
    let ran = Ran::of(command(dir.path(), &words).output().await.unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for page in [
        "borealisctl.1",
        "borealisctl-open.1",
        "borealisctl-doctor.1",
    ] {
        let text = std::fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.contains(".SH NAME"), "{page}");
    }
}
