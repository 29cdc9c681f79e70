//! Calls against a server that behaves as the APIs do on their bad days.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use secrecy::SecretString;
use serde_json::json;

use super::{
    Api, Endpoints, Failure, Provider, Waiting,
    testing::{Reply, Request, Server, limits},
};
use crate::model::{Access, cause::TlsProblem};

const ENOUGH: Duration = Duration::from_secs(10);

/// Answers the requests one after the other, the last reply again and again.
async fn scripted(replies: Vec<Reply>) -> Server {
    let next = AtomicUsize::new(0);
    Server::start(move |_: Request| {
        let at = next.fetch_add(1, Ordering::SeqCst).min(replies.len() - 1);
        std::future::ready(replies[at].clone())
    })
    .await
}

fn account() -> Reply {
    Reply::json(200, &json!({ "email": "me@x.test", "unknown": [1] }))
}

async fn ask(server: &Server, attempt: Duration) -> Result<String, Failure> {
    let token = SecretString::from("HRKU-secret");
    let provider = server.provider(limits(attempt));
    let heroku = provider.heroku(&token, Waiting::Somebody);
    heroku.account().await.map(|account| account.email)
}

async fn outcome(replies: Vec<Reply>, attempt: Duration) -> (Result<String, Failure>, usize) {
    let server = scripted(replies).await;
    let outcome = ask(&server, attempt).await;
    (outcome, server.seen().len())
}

fn detail(outcome: Result<String, Failure>) -> String {
    match outcome {
        Err(Failure::Unavailable {
            api: Api::Heroku,
            detail,
        }) => {
            assert!(!detail.contains("secret"), "{detail}");
            detail
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_passes_is_tried_again() {
    for bad in [
        Reply::status(500),
        Reply::status(503).with("retry-after", 0),
        Reply::status(429),
        Reply::status(429).with("retry-after", 0),
        Reply::Drop,
        Reply::Cut("{\"email\":".into()),
        Reply::json(200, &json!("secret")),
        Reply::json(200, &json!({ "email": "" })),
        Reply::json(200, &json!({ "mail": "x" })),
    ] {
        let (reply, asked) = outcome(vec![bad.clone(), bad.clone(), account()], ENOUGH).await;
        assert_eq!((reply, asked), (Ok("me@x.test".into()), 3), "{bad:?}");
        let (reply, asked) = outcome(vec![bad.clone()], ENOUGH).await;
        assert!(reply.is_err(), "{bad:?}");
        assert_eq!(asked, 3, "{bad:?}");
    }
}

#[tokio::test]
async fn a_refusal_is_final_and_shown_as_it_came() {
    for status in [400, 401, 402, 403, 404, 409, 410, 422, 423, 451] {
        let reply = Reply::status(status).with("request-id", "r-1");
        let (reply, asked) = outcome(vec![reply, account()], ENOUGH).await;
        let Err(Failure::Refused(refusal)) = reply else {
            panic!("{status}: {reply:?}");
        };
        assert_eq!(asked, 1);
        assert_eq!(refusal.status, status);
        assert_eq!(refusal.message.raw(), "words");
        assert_eq!(refusal.request_id.as_deref(), Some("r-1"));
    }
}

fn page(status: u16) -> Reply {
    Reply::Answer {
        status,
        headers: vec![("content-type", "text/html; charset=utf-8".into())],
        body: "<html>Welcome to the airport</html>".into(),
    }
}

fn intercepted(outcome: Result<String, Failure>) -> String {
    let Err(failure) = outcome else {
        panic!("{outcome:?}");
    };
    let cause = failure.heroku_cause("~/.netrc");
    assert_eq!(cause.kind().code, "intercepted", "{cause:?}");
    assert!(cause.words().hint.contains("browser"));
    cause.to_string()
}

#[tokio::test]
async fn a_redirect_gets_no_token() {
    let elsewhere = scripted(vec![account()]).await;
    let location = format!("http://127.0.0.1:{}/base/account", elsewhere.port);
    let redirect = Reply::status(302).with("location", &location);
    let (reply, asked) = outcome(vec![redirect], ENOUGH).await;
    let told = intercepted(reply);
    assert!(told.contains(&location) && told.contains("302"), "{told}");
    assert_eq!((asked, elsewhere.seen().len()), (1, 0));
}

/// A network that wants its user to sign in, or a company's proxy.
#[tokio::test]
async fn an_answer_that_is_not_the_apis_own_is_told_as_such() {
    let unlabelled = Reply::Answer {
        status: 200,
        headers: Vec::new(),
        body: "\n<!DOCTYPE html><title>Sign in</title>".into(),
    };
    for reply in [
        page(200),
        page(401),
        page(403),
        page(404),
        page(511),
        Reply::status(407),
        Reply::status(511),
        unlabelled,
    ] {
        let (got, asked) = outcome(vec![reply.clone()], ENOUGH).await;
        intercepted(got);
        assert_eq!(asked, 1, "{reply:?}");
    }
    // Heroku's router has pages of its own for its own failures.
    let (got, asked) = outcome(vec![page(503)], ENOUGH).await;
    assert!(detail(got).contains("503"));
    assert_eq!(asked, 3);
}

/// Whatever field of an answer holds what a terminal obeys, nothing of it gets further.
#[tokio::test]
async fn no_text_of_an_answer_steers_a_terminal() {
    let evil = "a\u{1b}[2J\u{7}\0\u{7f}\u{9b}\u{202e}\u{2028}\nforged".to_owned();
    let long = evil.clone() + &"x".repeat(10_000);
    for text in [evil, long] {
        for body in [
            json!({ "id": text, "message": "words" }),
            json!({ "id": "x", "message": text }),
            json!({ "id": "x", "reason": text }),
        ] {
            let (reply, _) = outcome(vec![Reply::json(400, &body)], ENOUGH).await;
            let failure = reply.unwrap_err();
            let shown = [failure.to_string(), format!("{failure:?}")];
            let cause = failure.heroku_cause("~/.netrc");
            let journal = crate::journal::Journal::new();
            journal.failure(None, crate::journal::Kind::RequestRefused, &cause);
            let event = journal.follow().recent[0].sentence();
            let words = cause.words();
            for shown in shown.into_iter().chain([words.sentence, words.hint, event]) {
                assert!(!shown.contains(crate::model::text::is_unsafe), "{shown}");
                assert!(shown.len() < 10_000, "{}", shown.len());
            }
        }
    }
}

#[tokio::test]
async fn a_wait_that_is_too_long_is_left_to_the_caller() {
    let limited = Reply::status(429).with("retry-after", 3600);
    let (reply, asked) = outcome(vec![limited, account()], ENOUGH).await;
    let expected = Failure::RateLimited {
        api: Api::Heroku,
        retry_after: Some(Duration::from_secs(3600)),
    };
    assert_eq!((reply, asked), (Err(expected), 1));
}

#[tokio::test]
async fn a_wait_that_the_server_asks_for_is_kept() {
    let limited = Reply::status(429).with("retry-after", 1);
    let start = Instant::now();
    let (reply, asked) = outcome(vec![limited, account()], ENOUGH).await;
    assert_eq!((reply, asked), (Ok("me@x.test".into()), 2));
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_server_that_hangs_has_its_limit() {
    let (reply, asked) = outcome(vec![Reply::Hang], Duration::from_millis(100)).await;
    assert!(detail(reply).contains("no answer from 127.0.0.1:"));
    assert_eq!(asked, 3);
}

#[tokio::test]
async fn nobody_there() {
    let mut gone = scripted(vec![account()]).await;
    gone.port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let detail = detail(ask(&gone, ENOUGH).await);
    assert!(
        detail.contains("can't connect") && detail.contains("refused"),
        "{detail}"
    );
}

#[tokio::test]
async fn a_list_is_read_to_its_last_page() {
    let addon = |n: usize| json!([{ "id": format!("i{n}"), "name": format!("n{n}"), "addon_service": { "name": "s" } }]);
    let page = move |n: usize| {
        Reply::json(206, &addon(n)).with("next-range", format!("id ]i{n}..; max=1"))
    };
    let replies = vec![page(0), page(1), Reply::json(200, &addon(2))];
    let server = scripted(replies).await;
    let token = SecretString::from("t");
    let provider = server.provider(limits(ENOUGH));
    let heroku = provider.heroku(&token, Waiting::Somebody);
    let names: Vec<_> = heroku.app_addons("sushi").await.unwrap();
    let names: Vec<_> = names.into_iter().map(|addon| addon.name).collect();
    assert_eq!(names, ["n0", "n1", "n2"]);
    let seen = server.seen();
    let ranges: Vec<_> = seen.iter().map(|r| r.header("range")).collect();
    assert_eq!(
        ranges,
        [None, Some("id ]i0..; max=1"), Some("id ]i1..; max=1")]
    );

    let endless = scripted(vec![page(0)]).await;
    let provider = endless.provider(limits(ENOUGH));
    let heroku = provider.heroku(&token, Waiting::Somebody);
    assert!(heroku.app_addons("sushi").await.is_err());
}

#[tokio::test]
async fn what_is_on_the_wire() {
    let server = scripted(vec![Reply::json(
        200,
        &json!({ "dbHost": "h", "dbPort": null, "dbName": "d", "dbUsername": "u", "dbPassword": "p@/" }),
    )])
    .await;
    let provider = server.provider(limits(ENOUGH));
    let token = SecretString::from("tok");
    let borealis = provider.borealis(&token, "a/../b c", Waiting::Somebody);
    let user = borealis
        .personal_database_user(Access::ReadWrite)
        .await
        .unwrap();
    assert_eq!(user.server.to_string(), "h:5432");
    assert!(!format!("{user:?}").contains("p@/"));
    let _ = provider
        .heroku(&token, Waiting::Somebody)
        .resolve_attachments("MAROON", Some("ramen"))
        .await;
    let seen = server.seen();
    assert_eq!(
        seen[0].line,
        "POST /heroku/resources/a%2F..%2Fb%20c/personal-db-users"
    );
    assert_eq!(seen[0].body, json!({ "enableWriteAccess": true }));
    assert_eq!(seen[0].header("authorization"), Some("Bearer tok"));
    let agent = seen[0].header("user-agent").unwrap();
    assert!(agent.starts_with("borealisd/"), "{agent}");
    assert_eq!(
        seen[1].header("accept"),
        Some("application/vnd.heroku+json; version=3")
    );
    assert_eq!(
        seen[1].body,
        json!({ "addon_attachment": "MAROON", "app": "ramen" })
    );
}

#[tokio::test]
async fn a_server_that_the_system_does_not_know_gets_no_token() {
    super::install_crypto();
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            key.signing_key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let trusted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&trusted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let accepted = acceptor.accept(stream).await;
            count.fetch_add(usize::from(accepted.is_ok()), Ordering::SeqCst);
        }
    });
    let endpoints = Endpoints::from_variables(|name| name.contains("API").then(|| url.clone()));
    // A system without any root certificate has no provider at all.
    let Ok(provider) = Provider::new(endpoints.unwrap(), limits(ENOUGH)) else {
        return;
    };
    let token = SecretString::from("t");
    let reply = provider.heroku(&token, Waiting::Somebody).account().await;
    let Err(Failure::Tls { problem, .. }) = reply else {
        panic!("{:?}", reply.map(|account| account.email));
    };
    assert!(
        matches!(problem, TlsProblem::UnknownIssuer { .. }),
        "{problem}"
    );
    assert_eq!(trusted.load(Ordering::SeqCst), 0);
}
