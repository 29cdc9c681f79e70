//! The loop, where what it needs takes its time.

use std::{path::Path, sync::Arc, sync::mpsc, thread, time::Duration};

use tokio::{sync::watch, time::Instant};

use super::*;
use crate::{
    config::DeclaredSession,
    credential::{Broker, BrokerSettings, TokenSources},
    journal::Journal,
    model::{Access, Mode, Role},
    platform::clock,
    postgres::{LocalTls, UpstreamTls, UpstreamTlsMode},
    provider::{Endpoints, Limits, Provider},
    service_manager::activation::Inherited,
    session::Environment,
    state::{ClientFiles, Passwords, State},
    tunnels::Pools,
};

/// What nobody waits for any more.
const HANGS_AT_MOST: Duration = Duration::from_secs(10);

/// A supervisor in a directory of its own, without a provider within reach.
struct Scene {
    handle: Handle,
    passwords: Passwords,
    _network: watch::Sender<u64>,
}

impl Scene {
    async fn new(dir: &Path) -> Self {
        let config = Config::default();
        let state = State::open(&dir.join("state"), clock::timestamp()).unwrap();
        let nowhere = |name: &str| {
            name.ends_with("_URL")
                .then(|| "http://127.0.0.1:1".to_owned())
        };
        let provider = Provider::new(
            Endpoints::from_variables(nowhere).unwrap(),
            Limits::default(),
        )
        .unwrap();
        let settings = BrokerSettings {
            tokens: TokenSources::from_places(Vec::new()),
            rotation: Duration::from_secs(3600).into(),
        };
        let broker = Broker::new(provider, settings);
        let live = LiveSettings::new(&config);
        let network = watch::Sender::new(0);
        let upstream = UpstreamTls::new(UpstreamTlsMode::Prefer).unwrap();
        let tls = state.tls.clone();
        let environment = Environment {
            pools: Pools::new(Arc::clone(&broker), live.keepalive()),
            broker,
            journal: Journal::new(),
            limits: live.limits(),
            network: network.subscribe(),
            upstream_tls: watch::Sender::new(upstream).subscribe(),
            local_tls: Arc::new(move || {
                let identity = tls.identity(clock::timestamp());
                LocalTls::from_config(Arc::clone(&identity.server_config), &identity.certificate)
            }),
        };
        let passwords = state.passwords.clone();
        let handle = spawn(Setup {
            config,
            environment,
            live,
            saved: state.saved,
            store: state.sessions,
            passwords: state.passwords,
            client_files: ClientFiles::new(&dir.join("run")),
            runtime_dir: dir.join("run"),
            inherited: Inherited::default(),
        })
        .await;
        Self {
            handle,
            passwords,
            _network: network,
        }
    }
}

fn with_sushi() -> Config {
    let sushi = DeclaredSession {
        target: Target::Word("sushi".into()),
        access: Access::ReadOnly,
        role: Role::Personal,
        mode: Mode::Managed,
        name: None,
        port: None,
    };
    Config {
        sessions: vec![sushi],
        ..Config::default()
    }
}

/// On one thread: whatever blocks it keeps everything from going on.
#[tokio::test]
async fn the_loop_answers_while_the_disk_hangs() {
    let dir = tempfile::tempdir().unwrap();
    let scene = Scene::new(dir.path()).await;
    let (release, released) = mpsc::channel::<()>();
    let (holds, held) = mpsc::channel();
    let disk = thread::spawn({
        let passwords = scene.passwords.clone();
        move || {
            let _disk = passwords.hold();
            holds.send(()).unwrap();
            released.recv_timeout(HANGS_AT_MOST).is_ok()
        }
    });
    held.recv().unwrap();

    let reloaded = scene.handle.reload(with_sushi()).await.unwrap();
    assert_eq!(reloaded.opened, ["sushi"]);
    // By now the session's listeners are being made.
    for _ in 0..10 {
        scene.handle.ping().await.unwrap();
        tokio::task::yield_now().await;
    }
    let sushi = Target::Word("sushi".into());
    let found = scene.handle.find(sushi).await.unwrap();
    // Where everything has stood still, nobody was there to say so.
    let _ = release.send(());
    assert!(disk.join().unwrap(), "the loop has waited for the disk");
    assert_eq!(found.address, None);
    let mut snapshot = scene.handle.watch();
    let has_address =
        |snapshot: &Snapshot| snapshot.sessions.iter().all(|view| view.address.is_some());
    snapshot.wait_for(has_address).await.unwrap();
    scene.handle.stop(Instant::now()).await;
}
