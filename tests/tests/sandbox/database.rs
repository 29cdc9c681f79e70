//! The roles in the database: what they may do, and when they stop working.

use std::{process::Command, time::Duration};

use borealis_tests::sandbox::{Access, AddonState, Options, PostgresAction};
use reqwest::Method;

use crate::machine::{Machine, SUSHI, sandbox, sqlstate};

#[tokio::test]
async fn readers_read_and_writers_write() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let reader = machine.db_user(SUSHI, false).await;
    let writer = machine.db_user(SUSHI, true).await;
    assert_ne!(reader.username, writer.username);
    let (reader, writer) = (
        reader.connect().await.unwrap(),
        writer.connect().await.unwrap(),
    );
    let create = "create table mine (id int)";
    assert_eq!(sqlstate(reader.batch_execute(create).await), "25006");
    reader
        .batch_execute("set default_transaction_read_only = off")
        .await
        .unwrap();
    assert_eq!(sqlstate(reader.batch_execute(create).await), "42501");
    assert_eq!(
        sqlstate(reader.batch_execute("delete from rolls").await),
        "42501"
    );
    writer
        .batch_execute("create table mine (id int); insert into mine values (1)")
        .await
        .unwrap();
    let seen = reader.query_one("select id from mine", &[]).await.unwrap();
    assert_eq!(seen.get::<_, i32>(0), 1);
    writer
        .batch_execute("alter table rolls add spicy boolean")
        .await
        .unwrap();
}

#[tokio::test]
async fn roles_are_confined_to_their_database() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let ours = machine.db_user(SUSHI, true).await;
    let theirs = machine.db_user("borealis-pg-oval-23456", true).await;
    for other in [theirs.name.as_str(), "postgres", "template1"] {
        let mut wrong = ours.clone();
        wrong.name = other.to_owned();
        assert_eq!(sqlstate(wrong.connect().await), "42501", "{other}");
    }
}

#[tokio::test]
async fn a_new_password_ends_the_old_for_new_connections_only() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let old = machine.db_user(SUSHI, false).await;
    let open = old.connect().await.unwrap();
    let new = machine.db_user(SUSHI, false).await;
    assert_eq!(old.username, new.username);
    assert_eq!(sqlstate(old.connect().await), "28P01");
    new.connect().await.unwrap();
    open.simple_query("select 1").await.unwrap();

    let roles = sandbox
        .faults()
        .rotate_password_elsewhere("sushi", Some(Access::ReadOnly))
        .await
        .unwrap();
    assert_eq!(roles, std::slice::from_ref(&new.username));
    assert_eq!(sqlstate(new.connect().await), "28P01");

    let someone = sandbox.add_user("else@example.com");
    let other = Machine::with_token(&sandbox, &someone);
    assert_ne!(other.db_user(SUSHI, false).await.username, old.username);
}

#[tokio::test]
async fn a_reset_disables_until_the_next_request() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let writer = machine.db_user(SUSHI, true).await;
    let open = writer.connect().await.unwrap();
    open.batch_execute("create table mine (id int)")
        .await
        .unwrap();
    let users = async || {
        let list = machine
            .borealis(Method::GET, SUSHI, "/db-users", None)
            .await;
        list.body["users"].clone()
    };
    let before = users().await;
    let reset = machine
        .borealis(Method::DELETE, SUSHI, "/db-users/credentials", None)
        .await;
    assert_eq!(reset.status, 200);
    assert!(open.simple_query("select 1").await.is_err(), "was cut");
    assert!(writer.connect().await.is_err());
    let after = users().await;
    assert_ne!(before[0], after[0], "the app has new users");
    assert_eq!(before[1], after[1], "persons keep their names");
    let again = machine.db_user(SUSHI, true).await;
    assert_eq!(again.username, writer.username);
    again
        .connect()
        .await
        .unwrap()
        .batch_execute("drop table mine")
        .await
        .unwrap();
}

#[tokio::test]
async fn revoking_cuts_personal_users_off() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let reader = machine.db_user(SUSHI, false).await;
    let open = reader.connect().await.unwrap();
    let faults = sandbox.faults();
    faults
        .set_state("sushi", AddonState::Revoked)
        .await
        .unwrap();
    assert!(open.simple_query("select 1").await.is_err());
    assert!(reader.connect().await.is_err());
    faults
        .set_state("sushi", AddonState::Available)
        .await
        .unwrap();
    machine.db_user(SUSHI, false).await.connect().await.unwrap();
}

#[tokio::test]
async fn postgres_stops_and_comes_back_with_its_data() {
    let sandbox = sandbox(Options::default()).await;
    let machine = Machine::new(&sandbox);
    let reader = machine.db_user(SUSHI, false).await;
    for end in [PostgresAction::Stop, PostgresAction::Crash] {
        let open = reader.connect().await.unwrap();
        sandbox.faults().postgres(end).await.unwrap();
        assert!(open.simple_query("select 1").await.is_err());
        assert!(reader.connect().await.is_err());
        sandbox
            .faults()
            .postgres(PostgresAction::Start)
            .await
            .unwrap();
        reader.connect().await.unwrap();
    }
    let open = reader.connect().await.unwrap();
    let terminated = sandbox.faults().terminate_connections(Some("sushi")).await;
    assert!(terminated.unwrap() >= 1);
    assert!(open.simple_query("select 1").await.is_err());
}

#[tokio::test]
async fn the_certificate_is_the_authoritys() {
    let sandbox = sandbox(Options::default()).await;
    let reader = Machine::new(&sandbox).db_user(SUSHI, false).await;
    let output = tokio::task::spawn_blocking({
        let authority = sandbox.database_authority().to_owned();
        move || {
            Command::new("psql")
                .env_clear()
                .env("PATH", std::env::var_os("PATH").unwrap())
                .env("PGPASSWORD", &reader.password)
                .env("PGSSLMODE", "verify-full")
                .env("PGSSLROOTCERT", authority)
                .args(["-h", "127.0.0.1", "-p", &reader.port.to_string()])
                .args(["-U", &reader.username, "-d", &reader.name, "-XAtc"])
                .arg("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
                .output()
                .unwrap()
        }
    })
    .await
    .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "t",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn sandboxes_run_side_by_side() {
    let (first, second) = tokio::join!(sandbox(Options::default()), sandbox(Options::default()));
    let wrong = Machine::with_token(&first, &second.token());
    assert_eq!(
        wrong.heroku(Method::GET, "/account", None).await.status,
        401
    );
    let (a, b) = (Machine::new(&first), Machine::new(&second));
    a.db_user(SUSHI, false).await.connect().await.unwrap();
    drop(first);
    b.db_user(SUSHI, false).await.connect().await.unwrap();
    second
        .wait_for(Duration::from_secs(5), |stats| {
            stats.grants.outstanding == 0
        })
        .await
        .unwrap();
}
