//! The way to a database: add-on, credentials, DNS, bastion, host key, SSH, channel, TLS,
//! log-in. Goes it once, with the parts that sessions are made of.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpStream, lookup_host},
    time::timeout,
};

use super::{Doctor, Report};
use crate::{
    credential::{DatabaseKey, DatabaseLease, SshLease},
    model::{Access, Cause, HostPort, Resolved, Role, Target},
    postgres::{self, LoginError, MaybeTls, StartupParameters},
    provider::Waiting,
    session::key_of,
    session::machine::Phase,
    ssh::{self, ChannelStream, Route, Tunnel},
    supervisor::SessionSnapshot,
};

/// For each step of the way.
const LIMIT: Duration = Duration::from_secs(10);
/// The steps after the add-on, in their order.
const STEPS: [&str; 9] = [
    "addon-state",
    "credentials",
    "dns",
    "bastion",
    "host-key",
    "ssh",
    "channel",
    "tls",
    "database",
];

// === impl Doctor ===

impl Doctor {
    /// The way as an open session goes it.
    pub(super) async fn way_of_session(&self, report: &Report, view: &SessionSnapshot) {
        let status = &view.status;
        match (&status.last_error, status.phase) {
            (_, Phase::Up) => {
                let found = format!("up; {} connections", view.counters.active());
                report.ok("session", found).await;
            }
            (Some(cause), _) => report.fail_for("session", cause).await,
            (None, _) => {
                let found = match status.step.as_str() {
                    "" => "is not up yet".to_owned(),
                    step => format!("is not up yet: {step}"),
                };
                report
                    .warn("session", found, "wait a moment, then look again")
                    .await;
            }
        }
        let resolved = match self.broker.resolve(&view.target).await {
            Ok(resolved) => {
                match &status.resolved {
                    Some(before) if before.addon != resolved.addon => {
                        let found = format!(
                            "{} leads to {} now, the session to {} still",
                            view.target, resolved.addon, before.addon
                        );
                        let hint = format!("`borealisctl open {}` takes it there", view.target);
                        report.warn("addon", found, &hint).await;
                    }
                    _ => report.ok("addon", described(&resolved)).await,
                }
                resolved
            }
            Err(cause) => {
                report.fail_for("addon", &cause).await;
                match &status.resolved {
                    // The session goes on with what it knows.
                    Some(resolved) => resolved.clone(),
                    None => return report.skip(&STEPS, "the add-on is not known").await,
                }
            }
        };
        let key = key_of(view.role, view.access, &resolved);
        self.way(report, &resolved, &key).await;
    }

    /// The way as a session would go it that is opened without further flags.
    pub(super) async fn way_to_target(&self, report: &Report, target: &Target) {
        let resolved = match self.broker.resolve(target).await {
            Ok(resolved) => resolved,
            Err(cause) => {
                report.fail_for("addon", &cause).await;
                return report.skip(&STEPS, "the add-on is not known").await;
            }
        };
        report.ok("addon", described(&resolved)).await;
        let key = key_of(Role::Personal, Access::ReadOnly, &resolved);
        self.way(report, &resolved, &key).await;
    }

    async fn way(&self, report: &Report, resolved: &Resolved, key: &DatabaseKey) {
        // Each step has told what it found; those that it leaves out are told here.
        if let Err((done, because)) = self.steps(report, resolved, key).await {
            let next = STEPS.iter().position(|step| *step == done);
            let rest = next.map_or(&STEPS[..], |done| &STEPS[done + 1..]);
            report.skip(rest, because).await;
        }
    }

    /// # Errors
    /// The step that failed, and why those after it are left out.
    async fn steps(
        &self,
        report: &Report,
        resolved: &Resolved,
        key: &DatabaseKey,
    ) -> Result<(), (&'static str, &'static str)> {
        self.addon_state(report, resolved).await;
        let (ssh, database) = self.credentials(report, resolved, key).await?;
        let bastion = &ssh.credential.bastion;
        let addresses = look_up(report, bastion).await?;
        reach(report, bastion, &addresses).await?;
        let tunnel = self.dial(report, &ssh).await?;
        let channel = open(report, &tunnel, &database).await?;
        self.log_in(report, channel, &database).await;
        Ok(())
    }

    async fn addon_state(&self, report: &Report, resolved: &Resolved) {
        let addon = &resolved.addon;
        let info = self
            .broker
            .with_grant(
                async |grant| {
                    let provider = self.broker.provider();
                    let borealis = provider.borealis(grant.bearer(), addon, Waiting::Somebody);
                    borealis.info().await
                },
                |failure| failure.addon_cause(addon),
            )
            .await;
        match info {
            Ok(info) => match info.status.as_deref() {
                Some("available") => report.ok("addon-state", "available").await,
                status => {
                    let found = status.unwrap_or("its status is not known");
                    let hint =
                        "it may not take connections until that is over: see `borealisctl info`";
                    report.warn("addon-state", found, hint).await;
                }
            },
            Err(cause) => report.fail_for("addon-state", &cause).await,
        }
    }

    async fn credentials(
        &self,
        report: &Report,
        resolved: &Resolved,
        key: &DatabaseKey,
    ) -> Result<(SshLease, DatabaseLease), (&'static str, &'static str)> {
        let id = "credentials";
        let leases = tokio::try_join!(
            self.broker.ssh(&resolved.addon, None),
            self.broker.database(key, None)
        );
        match leases {
            Ok((ssh, database)) => {
                let found = format!(
                    "SSH user issued {}, database user {}",
                    age(ssh.issued_at),
                    age(database.issued_at)
                );
                report.ok(id, found).await;
                Ok((ssh, database))
            }
            Err(cause) => {
                report.fail_for(id, &cause).await;
                Err((id, "there are no credentials"))
            }
        }
    }

    async fn dial(
        &self,
        report: &Report,
        lease: &SshLease,
    ) -> Result<Tunnel, (&'static str, &'static str)> {
        let began = Instant::now();
        let keepalive = *self.keepalive.borrow();
        match ssh::dial(lease, keepalive, 0, Route::default()).await {
            Ok(tunnel) => {
                report
                    .ok("host-key", "is the one that the add-on's API gave")
                    .await;
                let found = format!("logged in within {} ms", began.elapsed().as_millis());
                report.ok("ssh", found).await;
                Ok(tunnel)
            }
            Err(cause @ Cause::HostKeyDiffers { .. }) => {
                report.fail_for("host-key", &cause).await;
                Err(("host-key", "the host key differs"))
            }
            Err(cause @ Cause::BastionRefusedKey { .. }) => {
                report
                    .ok("host-key", "is the one that the add-on's API gave")
                    .await;
                report.fail_for("ssh", &cause).await;
                Err(("ssh", "there is no SSH connection"))
            }
            Err(cause) => {
                report
                    .skip(&["host-key"], "there is no SSH connection")
                    .await;
                report.fail_for("ssh", &cause).await;
                Err(("ssh", "there is no SSH connection"))
            }
        }
    }

    async fn log_in(&self, report: &Report, channel: ChannelStream, lease: &DatabaseLease) {
        let credential = &lease.credential;
        let server = &credential.server;
        let startup = match StartupParameters::new([
            ("user", ""),
            ("application_name", "borealisctl doctor"),
        ]) {
            Ok(startup) => startup,
            Err(error) => return report.fail("database", error.to_string(), "").await,
        };
        let upstream_tls = self.upstream_tls.borrow().clone();
        let logging_in = postgres::log_in(channel, &upstream_tls, credential, &startup);
        match timeout(LIMIT, logging_in).await {
            Ok(Ok(mut logged_in)) => {
                match &logged_in.stream {
                    MaybeTls::Tls(_) => report.ok("tls", "the database server has TLS").await,
                    MaybeTls::Plain(_) => {
                        let found = "the database server was spoken with in plain text, inside the SSH connection";
                        let hint = "upstream_tls in config.toml can be \"require\"";
                        report.warn("tls", found, hint).await;
                    }
                }
                let found = format!(
                    "logged in as {} to {}",
                    credential.username, credential.database
                );
                report.ok("database", found).await;
                // A Terminate message, so that the server's log doesn't speak of a lost client.
                let _ = logged_in.stream.write_all(b"X\0\0\0\x04").await;
                let _ = logged_in.stream.shutdown().await;
            }
            Ok(Err(error @ LoginError::Tls(_))) => {
                report.fail_for("tls", &error.cause(server)).await;
                report.skip(&["database"], "there is no TLS").await;
            }
            Ok(Err(error)) => {
                report.skip(&["tls"], "the log-in failed").await;
                report.fail_for("database", &error.cause(server)).await;
            }
            Err(_) => {
                report.skip(&["tls"], "the log-in failed").await;
                let found = format!("{server} let nobody in within {} s", LIMIT.as_secs());
                report
                    .fail(
                        "database",
                        found,
                        "the database may be overloaded: try again",
                    )
                    .await;
            }
        }
    }
}

fn described(resolved: &Resolved) -> String {
    format!(
        "{} of app {}, attached as {}",
        resolved.addon, resolved.app, resolved.attachment
    )
}

async fn look_up(
    report: &Report,
    bastion: &HostPort,
) -> Result<Vec<SocketAddr>, (&'static str, &'static str)> {
    let id = "dns";
    let hint = "check the network and its DNS server: `resolvectl query` beside the name shows what it says";
    let found = timeout(LIMIT, lookup_host((bastion.host.as_str(), bastion.port))).await;
    let addresses: Vec<_> = match found {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            let found = format!("the name {} can't be resolved: {error}", bastion.host);
            report.fail(id, found, hint).await;
            return Err((id, "the SSH server's address is not known"));
        }
        Err(_) => {
            let found = format!(
                "the name {} had no answer within {} s",
                bastion.host,
                LIMIT.as_secs()
            );
            report.fail(id, found, hint).await;
            return Err((id, "the SSH server's address is not known"));
        }
    };
    if addresses.is_empty() {
        let found = format!("the name {} has no address", bastion.host);
        report.fail(id, found, hint).await;
        return Err((id, "the SSH server's address is not known"));
    }
    let shown: Vec<_> = addresses.iter().map(|a| a.ip().to_string()).collect();
    let found = format!("{} is {}", bastion.host, shown.join(", "));
    report.ok(id, found).await;
    Ok(addresses)
}

async fn reach(
    report: &Report,
    bastion: &HostPort,
    addresses: &[SocketAddr],
) -> Result<(), (&'static str, &'static str)> {
    let id = "bastion";
    let began = Instant::now();
    let problem = match timeout(LIMIT, TcpStream::connect(addresses)).await {
        Ok(Ok(_)) => {
            let took = began.elapsed().as_millis();
            report
                .ok(id, format!("{bastion} answered in {took} ms"))
                .await;
            return Ok(());
        }
        Ok(Err(error)) => format!("{bastion} can't be reached: {error}"),
        Err(_) => format!("{bastion} did not answer within {} s", LIMIT.as_secs()),
    };
    let hint = "check the network, and whether a firewall lets SSH out";
    report.fail(id, problem, hint).await;
    Err((id, "the SSH server can't be reached"))
}

async fn open(
    report: &Report,
    tunnel: &Tunnel,
    lease: &DatabaseLease,
) -> Result<ChannelStream, (&'static str, &'static str)> {
    let id = "channel";
    let server = &lease.credential.server;
    let cause = match timeout(LIMIT, tunnel.reserve().open(server)).await {
        Ok(Ok(channel)) => {
            report
                .ok(id, format!("the SSH server reaches {server}"))
                .await;
            return Ok(channel);
        }
        Ok(Err(cause)) => cause,
        Err(_) => Cause::DatabaseUnreachable {
            server: server.clone(),
            detail: format!("no answer within {} s", LIMIT.as_secs()),
        },
    };
    report.fail_for(id, &cause).await;
    Err((id, "the database can't be reached"))
}

/// How long ago, in its largest unit: the reader's zone isn't known here.
fn age(moment: Timestamp) -> String {
    let seconds = Timestamp::now().duration_since(moment).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        _ => format!("{} h ago", seconds / 3600),
    }
}
