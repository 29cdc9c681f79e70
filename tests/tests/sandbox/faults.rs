//! Faults of the HTTP APIs.

use std::time::Duration;

use borealis_tests::sandbox::{Action, Api, Fault, Options};
use reqwest::Method;
use serde_json::json;

use crate::machine::{Machine, SUSHI, sandbox};

#[tokio::test]
async fn a_status_so_many_times() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let limit = Action::status(429).header("Retry-After", "7");
    sandbox
        .faults()
        .add(Fault::on("/account", limit).api(Api::Heroku).times(2));
    for _ in 0..2 {
        let answer = machine.heroku(Method::GET, "/account", None).await;
        assert_eq!(answer.status, 429);
        assert_eq!(answer.headers["retry-after"], "7");
        assert_eq!(answer.body["id"], "rate_limit");
    }
    assert_eq!(
        machine.heroku(Method::GET, "/account", None).await.status,
        200
    );

    sandbox.faults().add(Fault::on(
        "personal-ssh-users",
        Action::status(400).body("{\"reason\":\"x\"}"),
    ));
    for _ in 0..3 {
        let answer = machine
            .borealis(Method::POST, SUSHI, "/personal-ssh-users", None)
            .await;
        assert_eq!(
            (answer.status.as_u16(), answer.body),
            (400, json!({"reason": "x"}))
        );
    }
    sandbox.faults().clear().await.unwrap();
    machine.ssh_user(SUSHI).await;
    assert_eq!(sandbox.stats().requests_for("/personal-ssh-users"), 4);
    assert_eq!(sandbox.stats().addons[SUSHI].keys_issued, 1);
}

#[tokio::test]
async fn broken_answers() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    for action in [Action::Drop, Action::Garbage] {
        sandbox
            .faults()
            .add(Fault::on("/account", action.clone()).times(1));
        let answer = machine.heroku_request(Method::GET, "/account").send().await;
        assert!(answer.is_err(), "{action:?}: {answer:?}");
        let unanswered = sandbox.requests().pop().unwrap();
        assert_eq!(
            (unanswered.path.as_str(), unanswered.status),
            ("/account", None)
        );
        assert_eq!(
            machine.heroku(Method::GET, "/account", None).await.status,
            200
        );
    }
    sandbox
        .faults()
        .add(Fault::on("/account", Action::Truncate).times(1));
    let answer = machine.heroku_request(Method::GET, "/account").send().await;
    let answer = answer.expect("the head arrives");
    assert_eq!(answer.status(), 200);
    answer.text().await.expect_err("the body doesn't");
    assert_eq!(
        machine.heroku(Method::GET, "/account", None).await.status,
        200
    );
}

#[tokio::test]
async fn hanging_ends_with_the_fault() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let fault = sandbox.faults().add(Fault::on("/account", Action::Hang));
    let request = machine.heroku(Method::GET, "/account", None);
    tokio::pin!(request);
    tokio::select! {
        answer = &mut request => panic!("answered: {answer:?}"),
        seen = sandbox.wait_for(Duration::from_secs(10), |s| s.requests_for("/account") == 1) => {
            seen.unwrap();
        }
    }
    assert_eq!(sandbox.requests().pop().unwrap().status, None);
    assert!(sandbox.faults().remove(fault));
    assert_eq!(request.await.status, 200);
}

#[tokio::test]
async fn done_but_unanswered() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let first = machine.db_user(SUSHI, false).await;
    sandbox.faults().add(
        Fault::on("personal-db-users", Action::status(502))
            .after()
            .times(1),
    );
    let body = json!({"enableWriteAccess": false});
    let answer = machine
        .borealis(Method::POST, SUSHI, "/personal-db-users", Some(body))
        .await;
    assert_eq!(answer.status, 502);
    assert!(first.connect().await.is_err(), "there is a new password");
}

#[tokio::test]
async fn a_delay_comes_before_the_true_answer() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let pause = Duration::from_millis(120);
    sandbox
        .faults()
        .add(Fault::on("/account", Action::delay(pause)).times(1));
    assert_eq!(
        machine.heroku(Method::GET, "/account", None).await.status,
        200
    );
    let logged = sandbox.requests().pop().unwrap();
    assert!(logged.milliseconds.unwrap() >= 120, "{logged:?}");
}

#[tokio::test]
async fn secrets_are_listed() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let database = machine.db_user(SUSHI, false).await;
    let ssh = machine.ssh_user(SUSHI).await;
    let secrets = sandbox.secrets();
    let has = |value: &str| secrets.iter().any(|secret| secret.value == value);
    assert!(has(&sandbox.token()) && has(&database.password));
    let in_key = ssh.private_key.lines().filter(|line| has(line)).count();
    assert!(in_key >= 3, "{in_key}");
    assert!(!has(&ssh.username) && !has(&database.username));
}
