//! Both kinds of bastion, with OpenSSH's client in front and PostgreSQL behind.

use std::time::Duration;

use borealis_tests::sandbox::{BastionAction, BastionKind, Options, Sandbox, SshdSettings};
use futures_util::StreamExt as _;
use tokio::{io::AsyncReadExt as _, net::TcpStream};

use crate::machine::{Machine, SUSHI, sandbox, sandbox_with};

macro_rules! with_both_bastions {
    ($($name:ident),+ $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::sandbox_with(super::BastionKind::Embedded).await).await;
            })+
        }
        mod sshd {
            $(#[tokio::test]
            async fn $name() {
                super::$name(super::sandbox_with(super::BastionKind::Sshd).await).await;
            })+
        }
    };
}

with_both_bastions!(
    carries_queries_and_bulk,
    allows_nothing_but_the_database,
    keeps_the_newest_keys,
    is_cut_stopped_and_started,
    freezes_and_thaws,
    shows_another_host_key,
);

async fn carries_queries_and_bulk(sandbox: Sandbox) {
    let machine = Machine::new(&sandbox);
    let ssh = machine.ssh_user(SUSHI).await;
    let database = machine.db_user(SUSHI, false).await;
    let mut tunnelled = ssh.connect(&database).await.unwrap();
    let client = &tunnelled.client;
    let row = client
        .query_one("select current_user::text, count(*) from rolls", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), database.username);
    assert_eq!(row.get::<_, i64>(1), 12);

    let rows = client
        .query_raw(
            "select id, payload from big limit 100000",
            Vec::<i32>::new(),
        )
        .await
        .unwrap();
    let bytes = rows
        .fold(0, async |sum, row| {
            sum + row.unwrap().get::<_, &str>(1).len()
        })
        .await;
    assert_eq!(bytes, 100_000 * 96);

    // The end of the client's data reaches PostgreSQL, and its end comes back.
    drop(tunnelled.client);
    let status = tokio::time::timeout(Duration::from_secs(20), tunnelled.ssh.wait()).await;
    assert!(status.unwrap().unwrap().success());
    assert_eq!(sandbox.stats().bastion.logins, 1);
}

async fn allows_nothing_but_the_database(sandbox: Sandbox) {
    let machine = Machine::new(&sandbox);
    let ssh = machine.ssh_user(SUSHI).await;
    let elsewhere = sandbox.heroku_url().replace("http://", "");
    let said = ssh.refusal(&["-W", &elsewhere, "127.0.0.1"]).await;
    assert!(said.contains("administratively prohibited"), "{said}");
    let said = ssh.refusal(&["127.0.0.1", "true"]).await;
    assert!(
        said.contains("channel") || said.contains("session"),
        "{said}"
    );

    let mut stranger = ssh.clone();
    stranger.private_key = {
        let key =
            russh::keys::PrivateKey::random(&mut rand::rng(), russh::keys::Algorithm::Ed25519);
        let text = key.unwrap().to_openssh(Default::default()).unwrap();
        text.to_string()
    };
    let said = stranger.refusal(&["-N", "127.0.0.1"]).await;
    assert!(said.contains("Permission denied"), "{said}");

    sandbox
        .faults()
        .bastion(BastionAction::RefuseKeys)
        .await
        .unwrap();
    let said = ssh.refusal(&["-N", "127.0.0.1"]).await;
    assert!(said.contains("Permission denied"), "{said}");
    sandbox
        .faults()
        .bastion(BastionAction::AcceptKeys)
        .await
        .unwrap();
    let database = machine.db_user(SUSHI, false).await;
    ssh.connect(&database).await.unwrap();
}

async fn keeps_the_newest_keys(sandbox: Sandbox) {
    let machine = Machine::new(&sandbox);
    let first = machine.ssh_user(SUSHI).await;
    let database = machine.db_user(SUSHI, false).await;
    sandbox
        .faults()
        .rotate_key_elsewhere("sushi", 1)
        .await
        .unwrap();
    first.connect(&database).await.unwrap();
    sandbox
        .faults()
        .rotate_key_elsewhere("sushi", 1)
        .await
        .unwrap();
    let said = first.refusal(&["-N", "127.0.0.1"]).await;
    assert!(said.contains("Permission denied"), "{said}");
    let newest = machine.ssh_user(SUSHI).await;
    newest.connect(&database).await.unwrap();
}

async fn is_cut_stopped_and_started(sandbox: Sandbox) {
    let machine = Machine::new(&sandbox);
    let ssh = machine.ssh_user(SUSHI).await;
    let database = machine.db_user(SUSHI, false).await;
    let faults = sandbox.faults();

    for cut in [
        BastionAction::Cut,
        BastionAction::Reset,
        BastionAction::Stop,
    ] {
        let mut tunnelled = ssh.connect(&database).await.unwrap();
        faults.bastion(cut).await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(20), tunnelled.ssh.wait()).await;
        assert!(!ended.expect("ssh lives on").unwrap().success());
        assert!(tunnelled.client.simple_query("select 1").await.is_err());
    }
    assert!(TcpStream::connect(("127.0.0.1", ssh.port)).await.is_err());
    faults.bastion(BastionAction::Start).await.unwrap();
    ssh.connect(&database).await.unwrap();
}

async fn freezes_and_thaws(sandbox: Sandbox) {
    let machine = Machine::new(&sandbox);
    let ssh = machine.ssh_user(SUSHI).await;
    let database = machine.db_user(SUSHI, false).await;
    let tunnelled = ssh.connect(&database).await.unwrap();
    let faults = sandbox.faults();
    faults.bastion(BastionAction::Freeze).await.unwrap();

    let mut silent = TcpStream::connect(("127.0.0.1", ssh.port)).await.unwrap();
    let mut greeting = [0; 4];
    let query = tunnelled.client.simple_query("select 1");
    tokio::pin!(query);
    tokio::select! {
        _ = silent.read_exact(&mut greeting) => panic!("it spoke"),
        _ = &mut query => panic!("it answered"),
        () = tokio::time::sleep(Duration::from_millis(300)) => {}
    }
    faults.bastion(BastionAction::Thaw).await.unwrap();
    silent.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"SSH-");
    query.await.unwrap();
}

async fn shows_another_host_key(sandbox: Sandbox) {
    let machine = Machine::new(&sandbox);
    let ssh = machine.ssh_user(SUSHI).await;
    let database = machine.db_user(SUSHI, false).await;
    let open = ssh.connect(&database).await.unwrap();
    let faults = sandbox.faults();

    faults.bastion(BastionAction::ChangeHostKey).await.unwrap();
    let said = ssh.refusal(&["-N", "127.0.0.1"]).await;
    assert!(said.contains("Host key verification failed"), "{said}");
    let claimed = machine.ssh_user(SUSHI).await;
    assert_eq!(claimed.host_key, ssh.host_key, "the API keeps its claim");
    open.client.simple_query("select 1").await.unwrap();

    faults.bastion(BastionAction::PublishHostKey).await.unwrap();
    let published = machine.ssh_user(SUSHI).await;
    assert_ne!(published.host_key, ssh.host_key);
    published.connect(&database).await.unwrap();

    faults.bastion(BastionAction::RestoreHostKey).await.unwrap();
    let restored = machine.ssh_user(SUSHI).await;
    assert_eq!(restored.host_key, ssh.host_key);
    let mut again = restored.connect(&database).await.unwrap();

    // Those that came before the changes can still be cut.
    faults.bastion(BastionAction::Cut).await.unwrap();
    again.ssh.wait().await.unwrap();
    assert!(open.client.simple_query("select 1").await.is_err());
}

#[tokio::test]
async fn the_embedded_bastion_counts() {
    let sandbox = sandbox_with(BastionKind::Embedded).await;
    let machine = Machine::new(&sandbox);
    let ssh = machine.ssh_user(SUSHI).await;
    let database = machine.db_user(SUSHI, false).await;
    let tunnelled = ssh.connect(&database).await.unwrap();
    let stats = sandbox.stats().bastion;
    assert_eq!(
        (stats.open_connections, stats.open_channels),
        (Some(1), Some(1))
    );
    drop(tunnelled);
    let stats = sandbox
        .wait_for(Duration::from_secs(10), |stats| {
            stats.bastion.open_connections == Some(0) && stats.bastion.open_channels == Some(0)
        })
        .await
        .unwrap();
    assert_eq!(
        (stats.bastion.connections, stats.bastion.channels),
        (1, Some(1))
    );
}

#[tokio::test]
async fn a_strict_sshd_serves_as_a_lenient_one() {
    carries_queries_and_bulk(sandbox(Options::strict_sshd()).await).await;
}

#[tokio::test]
async fn sshd_does_as_its_settings_say() {
    let sandbox = sandbox(Options {
        bastion: BastionKind::Sshd,
        sshd: SshdSettings::default().and("MaxStartups", "1:100:1"),
        ..Options::default()
    })
    .await;
    let address = ("127.0.0.1", sandbox.bastion_port());
    let mut first = TcpStream::connect(address).await.unwrap();
    // Its greeting: from now on it counts.
    first.read_u8().await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    let mut said = Vec::new();
    // It may reset the connection after these words.
    let _ = second.read_to_end(&mut said).await;
    assert_eq!(said, b"Exceeded MaxStartups\r\n");
}

#[tokio::test]
async fn a_setting_that_sshd_does_not_know_is_named() {
    let outcome = Sandbox::start(Options {
        bastion: BastionKind::Sshd,
        sshd: SshdSettings::default().and("NoSuchSetting", "1"),
        cache: Some(env!("CARGO_TARGET_TMPDIR").into()),
        ..Options::default()
    });
    let error = outcome.await.unwrap_err().to_string();
    assert!(error.contains("NoSuchSetting"), "{error}");
}
