//! Commands about add-ons: confirmations on a terminal, waits, and what is printed.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    pin::Pin,
    process::Stdio,
    sync::{Arc, Mutex},
};

use borealis_proto::v1::{
    self,
    addon_service_server::{AddonService, AddonServiceServer},
};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use tempfile::TempDir;
use tokio::{net::UnixListener, sync::mpsc};
use tokio_stream::{
    Stream,
    wrappers::{ReceiverStream, UnixListenerStream},
};
use tonic::{Request, Response, Status, transport::Server};

use crate::daemon::{Ran, command, sushi};

/// A daemon that knows one add-on, and writes down what it is told to change.
struct Provider {
    dir: TempDir,
    changed: Arc<Mutex<Vec<String>>>,
    serving: tokio::task::JoinHandle<()>,
}

struct Service(Arc<Mutex<Vec<String>>>);

type Reply<T> = Result<Response<T>, Status>;
type Replies<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

// === impl Provider ===

impl Provider {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let changed = Arc::default();
        let service = AddonServiceServer::new(Service(Arc::clone(&changed)));
        let serving = tokio::spawn(async move {
            Server::builder()
                .add_service(service)
                .serve_with_incoming(UnixListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self {
            dir,
            changed,
            serving,
        }
    }

    fn command(&self, words: &[&str]) -> tokio::process::Command {
        let mut command = command(self.dir.path(), words);
        command
            .env("BOREALIS_SOCKET", self.dir.path().join("control.sock"))
            .env("TZ", "Europe/Berlin");
        command
    }

    async fn run(&self, words: &[&str]) -> Ran {
        Ran::of(self.command(words).output().await.unwrap())
    }

    /// Runs it on a terminal of its own where `typed` is typed; what the terminal shows.
    async fn on_a_terminal(&self, words: &[&str], typed: &str) -> (Option<i32>, String) {
        let (mut user, [stdin, stderr]) = terminal();
        let mut child = self
            .command(words)
            .stdin(Stdio::from(stdin))
            .stderr(Stdio::from(stderr))
            .env("TERM", "dumb")
            .spawn()
            .unwrap();
        let typed = typed.to_owned();
        let shown = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            let mut part = [0; 1024];
            // What is typed before the question's end is echoed into the midst of it. An error
            // means that nobody has the terminal open.
            while !bytes.ends_with(b": ") {
                match user.read(&mut part) {
                    Ok(length) if length > 0 => bytes.extend_from_slice(&part[..length]),
                    _ => break,
                }
            }
            user.write_all(typed.as_bytes()).unwrap();
            let _ = user.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        });
        let status = child.wait().await.unwrap();
        (status.code(), shown.await.unwrap())
    }

    fn changed(&self) -> Vec<String> {
        self.changed.lock().unwrap().clone()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The user's side of a new terminal, and twice the program's.
fn terminal() -> (File, [OwnedFd; 2]) {
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&user).unwrap();
    unlockpt(&user).unwrap();
    let path = ptsname(&user, Vec::new()).unwrap().into_string().unwrap();
    let open = || {
        let file = File::options().read(true).write(true).open(&path).unwrap();
        OwnedFd::from(file)
    };
    (File::from(user), [open(), open()])
}

fn addon() -> Option<v1::Addon> {
    Some(v1::Addon {
        name: "borealis-pg-hex-12345".into(),
        app: "sushi".into(),
        attachment: "DATABASE".into(),
    })
}

fn at(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds, nanos: 0 })
}

impl Service {
    fn changed(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }
}

#[tonic::async_trait]
impl AddonService for Service {
    type WaitForAddonStream = Replies<v1::WaitForAddonResponse>;
    type InstallExtensionStream = Replies<v1::InstallExtensionResponse>;

    async fn find_addon(&self, _: Request<v1::FindAddonRequest>) -> Reply<v1::FindAddonResponse> {
        Ok(Response::new(v1::FindAddonResponse {
            addon: addon(),
            sessions: vec![sushi()],
        }))
    }

    async fn get_addon(&self, _: Request<v1::GetAddonRequest>) -> Reply<v1::GetAddonResponse> {
        Ok(Response::new(v1::GetAddonResponse {
            addon: addon(),
            info: Some(v1::AddonInfo {
                status: "maintenance-plan-change".into(),
                region: "eu-central-1".into(),
                plan_name: "x2-s100".into(),
                db_tenancy_type: "shared".into(),
                db_storage_max_bytes: Some(107_374_182_400),
                db_storage_usage_bytes: Some(53_687_091_200),
                created_at: at(1_795_356_900),
                storage_compliance_status: "proximity-warning".into(),
                ..v1::AddonInfo::default()
            }),
        }))
    }

    async fn wait_for_addon(
        &self,
        _: Request<v1::WaitForAddonRequest>,
    ) -> Reply<Self::WaitForAddonStream> {
        let (sender, receiver) = mpsc::channel(1);
        let news = |status: &str| v1::WaitForAddonResponse {
            addon: addon(),
            state: "provisioning".into(),
            status: status.into(),
            ..v1::WaitForAddonResponse::default()
        };
        tokio::spawn(async move {
            let _ = sender.send(Ok(news(""))).await;
            let trouble = v1::Failure {
                message: "the provider is away".into(),
                ..v1::Failure::default()
            };
            let troubled = v1::WaitForAddonResponse {
                trouble: Some(trouble),
                ..news("configuring")
            };
            let _ = sender.send(Ok(troubled)).await;
            let _ = sender.send(Ok(news("something-new"))).await;
            // It is never done.
            sender.closed().await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn list_extensions(
        &self,
        _: Request<v1::ListExtensionsRequest>,
    ) -> Reply<v1::ListExtensionsResponse> {
        Ok(Response::new(v1::ListExtensionsResponse::default()))
    }

    async fn install_extension(
        &self,
        request: Request<v1::InstallExtensionRequest>,
    ) -> Reply<Self::InstallExtensionStream> {
        let step = |step: v1::InstallStep, name: &str| {
            Ok(v1::InstallExtensionResponse {
                addon: addon(),
                step: step.into(),
                extension: Some(v1::Extension {
                    name: name.into(),
                    version: "1.0".into(),
                    schema: name.into(),
                }),
            })
        };
        let name = request.into_inner().extension;
        let steps = [
            step(v1::InstallStep::Started, &name),
            step(v1::InstallStep::Present, "there"),
            step(v1::InstallStep::Installed, "first"),
            Err(Status::aborted("the rest failed")),
        ];
        Ok(Response::new(Box::pin(tokio_stream::iter(steps))))
    }

    async fn remove_extension(
        &self,
        request: Request<v1::RemoveExtensionRequest>,
    ) -> Reply<v1::RemoveExtensionResponse> {
        self.changed(format!("removed {}", request.into_inner().extension));
        Ok(Response::new(v1::RemoveExtensionResponse {
            addon: addon(),
        }))
    }

    async fn list_users(&self, _: Request<v1::ListUsersRequest>) -> Reply<v1::ListUsersResponse> {
        Ok(Response::new(v1::ListUsersResponse::default()))
    }

    async fn reset_users(
        &self,
        request: Request<v1::ResetUsersRequest>,
    ) -> Reply<v1::ResetUsersResponse> {
        let target = request.into_inner().target.unwrap();
        self.changed(format!("reset {}::{}", target.app, target.addon));
        Ok(Response::new(v1::ResetUsersResponse {
            addon: addon(),
            sessions: vec![sushi()],
        }))
    }

    async fn list_integrations(
        &self,
        _: Request<v1::ListIntegrationsRequest>,
    ) -> Reply<v1::ListIntegrationsResponse> {
        Err(Status::unimplemented(""))
    }

    async fn register_integration(
        &self,
        _: Request<v1::RegisterIntegrationRequest>,
    ) -> Reply<v1::RegisterIntegrationResponse> {
        Err(Status::unimplemented(""))
    }

    async fn remove_integration(
        &self,
        _: Request<v1::RemoveIntegrationRequest>,
    ) -> Reply<v1::RemoveIntegrationResponse> {
        Err(Status::unimplemented(""))
    }

    async fn get_restore_capabilities(
        &self,
        _: Request<v1::GetRestoreCapabilitiesRequest>,
    ) -> Reply<v1::GetRestoreCapabilitiesResponse> {
        Ok(Response::new(v1::GetRestoreCapabilitiesResponse {
            addon: addon(),
            clone_supported: Some(true),
            restore_supported: None,
            earliest_restorable_time: at(1_795_356_900),
            latest_restorable_time: None,
        }))
    }

    async fn execute_restore(
        &self,
        request: Request<v1::ExecuteRestoreRequest>,
    ) -> Reply<v1::ExecuteRestoreResponse> {
        let request = request.into_inner();
        Ok(Response::new(v1::ExecuteRestoreResponse {
            source: addon(),
            addon: Some(v1::Addon {
                name: "borealis-pg-new-2".into(),
                app: "ramen".into(),
                attachment: String::new(),
            }),
            plan: "borealis-pg:x2".into(),
            restore_to: request.restore_to,
            state: "provisioning".into(),
            created: !request.join,
        }))
    }

    async fn get_upgrade(
        &self,
        _: Request<v1::GetUpgradeRequest>,
    ) -> Reply<v1::GetUpgradeResponse> {
        Err(Status::unimplemented(""))
    }

    async fn execute_upgrade(
        &self,
        _: Request<v1::ExecuteUpgradeRequest>,
    ) -> Reply<v1::ExecuteUpgradeResponse> {
        Err(Status::unimplemented(""))
    }

    async fn cancel_upgrade(
        &self,
        _: Request<v1::CancelUpgradeRequest>,
    ) -> Reply<v1::CancelUpgradeResponse> {
        Err(Status::unimplemented(""))
    }
}

#[tokio::test]
async fn info_is_worded_as_the_provider_does() {
    let provider = Provider::start();
    provider.run(&["info", "sushi"]).await.assert(
        0,
        "  Add-on Name                  borealis-pg-hex-12345
  App                          sushi
  Status                       Changing add-on plan
  Region                       Frankfurt
  Plan Name                    x2-s100
  Environment                  Multi-tenant
  PostgreSQL Version           N/A
  Maximum Storage              100 GiB
  Storage Used                 50 GiB (50 %)
  Read-only Replicas           N/A
  App DB Name                  (pending)
  Created At                   2026-11-22 15:15:00 CET
  Restored/Cloned From Add-on  N/A
  Storage Compliance Status    Proximity Warning
  Storage Compliance Deadline  N/A
",
        "",
    );
    provider.run(&["info", "sushi", "-f", "csv"]).await.assert(
        0,
        "addon,app,attachment,status,region,plan_name,db_tenancy_type,postgres_version,db_storage_max_bytes,db_storage_usage_bytes,replica_quantity,app_db_name,created_at,restore_source_addon_name,storage_compliance_status,storage_compliance_deadline
borealis-pg-hex-12345,sushi,DATABASE,maintenance-plan-change,eu-central-1,x2-s100,shared,,107374182400,53687091200,,,2026-11-22T14:15:00Z,,proximity-warning,
",
        "",
    );
    let yaml = provider.run(&["restore", "capabilities", "sushi", "-f", "yaml"]);
    assert!(yaml.await.stdout.contains("restore_supported: null\n"));
}

#[tokio::test]
async fn a_confirmation_is_typed_on_a_terminal() {
    let provider = Provider::start();
    let remove = ["extensions", "remove", "sushi", "postgis"];
    let (code, shown) = provider.on_a_terminal(&remove, "postgi\n").await;
    assert_eq!(code, Some(1), "{shown}");
    assert!(
        shown.contains("Enter the name of the extension to confirm its removal: "),
        "{shown}"
    );
    assert!(
        shown.contains("invalid confirmation provided: expected postgis"),
        "{shown}"
    );
    assert!(provider.changed().is_empty());

    // Ctrl-D
    let (code, shown) = provider.on_a_terminal(&remove, "\u{4}").await;
    assert_eq!(code, Some(1), "{shown}");
    assert!(provider.changed().is_empty());

    let (code, shown) = provider.on_a_terminal(&remove, " postgis\n").await;
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(provider.changed(), ["removed postgis"]);
}

#[tokio::test]
async fn before_a_reset_its_effect_on_open_sessions_is_told() {
    let provider = Provider::start();
    let reset = ["users", "reset", "borealis-pg-hex-12345"];
    let (code, shown) = provider.on_a_terminal(&reset, "sushi\n").await;
    assert_eq!(code, Some(0), "{shown}");
    let told = shown
        .find("Open session sushi: its connections are cut")
        .unwrap();
    let asked = shown
        .find("Enter the name of the app (sushi) to confirm: ")
        .unwrap();
    assert!(told < asked, "{shown}");
    assert_eq!(provider.changed(), ["reset sushi::borealis-pg-hex-12345"]);
    provider.run(&["users", "reset", "sushi", "-c", "sushi"]).await.assert(
        0,
        "reset the database users of add-on borealis-pg-hex-12345 (app sushi)
Open session sushi: its connections are cut; it gets new credentials by itself when a client next connects.
",
        "",
    );
}

#[tokio::test]
async fn without_a_terminal_nothing_is_asked_or_done() {
    let provider = Provider::start();
    for words in [
        &["extensions", "remove", "sushi", "postgis"] as &[&str],
        &["users", "reset", "sushi"],
        &["integrations", "remove", "sushi", "-n", "etl"],
    ] {
        let ran = provider.run(words).await;
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:?}");
        assert!(
            ran.stderr.contains("hint: confirm it with --confirm "),
            "{ran:?}"
        );
    }
    assert!(provider.changed().is_empty());
}

#[tokio::test]
async fn what_was_installed_before_a_failure_is_told() {
    let provider = Provider::start();
    let install = ["extensions", "install", "sushi", "postgis", "-r"];
    provider.run(&install).await.assert(
        1,
        "EXTENSION  VERSION  SCHEMA\nfirst      1.0      first\n",
        "error: the rest failed\n",
    );
}

#[tokio::test]
async fn a_wait_tells_each_change_and_how_to_go_on() {
    use tokio::io::{AsyncBufReadExt as _, BufReader};

    let provider = Provider::start();
    let words = ["restore", "execute", "sushi", "--wait"];
    let mut child = provider.command(&words).spawn().unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap()).lines();
    for line in [
        "borealis-pg-new-2: Provisioning",
        "borealis-pg-new-2: the provider is away; trying again",
        "borealis-pg-new-2: something-new",
    ] {
        assert_eq!(told.next_line().await.unwrap().as_deref(), Some(line));
    }
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    for line in [
        "error: stopped waiting for borealis-pg-new-2, which goes on being created",
        "hint: go on waiting with `borealisctl info borealis-pg-new-2 --wait`",
    ] {
        assert_eq!(told.next_line().await.unwrap().as_deref(), Some(line));
    }
    let ended = child.wait_with_output().await.unwrap();
    assert_eq!(ended.status.code(), Some(130));
    assert_eq!(
        String::from_utf8_lossy(&ended.stdout),
        "borealis-pg-new-2 was asked for before and is not started again: on app ramen, a clone of borealis-pg-hex-12345\n"
    );
}
