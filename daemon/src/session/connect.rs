//! One attempt to bring a session up: look-up, leases, SSH, and a log-in that proves the
//! whole way to the database, where that isn't left for afterwards.

use std::{sync::Arc, time::Duration};

use tokio::{io::AsyncWriteExt as _, sync::watch, time::timeout};

use super::{
    Spec,
    under_way::{AbortOnDrop, joined},
};
use crate::{
    credential::{Broker, DatabaseKey},
    machine::Renew,
    model::{Access, Cause, DatabaseCredential, Lease, Resolved, Role, Target},
    network,
    postgres::{self, LoginError, StartupParameters, UpstreamTls},
    ssh::{self, ChannelStream, Keepalive, Tunnel},
};

/// Limit for the log-in that proves the way.
const LOGIN_LIMIT: Duration = Duration::from_secs(15);

/// What an attempt needs to know of its session.
pub(super) struct Attempt {
    pub(super) broker: Arc<Broker>,
    pub(super) spec: Spec,
    pub(super) keepalive: Keepalive,
    pub(super) upstream_tls: UpstreamTls,
    /// Whether a lease that the database has let in before needs no proof before the session
    /// is up.
    pub(super) trusts: bool,
    /// What was begun before the target was known.
    pub(super) ahead: Option<Ahead>,
    /// Tells the user what it is at.
    pub(super) step: watch::Sender<String>,
}

/// What a successful attempt found.
pub(super) struct Found {
    pub(super) tunnel: Tunnel,
    pub(super) resolved: Resolved,
    pub(super) lease: Arc<Lease<DatabaseCredential>>,
    /// Whether the log-in that proves the way was left for later.
    pub(super) owes_proof: bool,
}

/// A tunnel that is dialled to where a target was last time, while that is looked up again.
/// Dropped, it is given up.
pub(crate) struct Ahead {
    addon: String,
    dialling: AbortOnDrop<Result<Tunnel, Cause>>,
}

/// Dials further tunnels of a session with the key that is held.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) broker: Arc<Broker>,
    pub(super) keepalive: Keepalive,
    /// Known once the session has been up.
    pub(super) addon: watch::Receiver<Option<String>>,
}

/// Key of the database lease of a session.
pub(crate) fn database_key(spec: &Spec, resolved: &Resolved) -> DatabaseKey {
    key_of(spec.role, spec.access, resolved)
}

/// Key of the database lease for a role and an access.
pub(crate) fn key_of(role: Role, access: Access, resolved: &Resolved) -> DatabaseKey {
    match role {
        Role::Personal => DatabaseKey::Personal {
            addon: resolved.addon.clone(),
            access,
        },
        Role::App => DatabaseKey::App {
            app: resolved.app.clone(),
            attachment: resolved.attachment.clone(),
            access,
        },
    }
}

// === impl Ahead ===

impl Ahead {
    /// Begins where the provider need not be asked for any credential; else there is nothing
    /// to be gained.
    pub(crate) fn begin(
        broker: &Broker,
        target: &Target,
        role: Role,
        access: Access,
        keepalive: Keepalive,
    ) -> Option<Self> {
        let resolved = broker.last_resolved(target)?;
        broker.current_database(&key_of(role, access, &resolved))?;
        let lease = broker.current_ssh(&resolved.addon)?;
        let dialling = tokio::spawn(async move { ssh::dial(&lease, keepalive, 0).await });
        Some(Self {
            addon: resolved.addon,
            dialling: AbortOnDrop(dialling),
        })
    }

    async fn dialled(mut self) -> Result<Tunnel, Cause> {
        joined((&mut self.dialling.0).await)
    }
}

// === impl Attempt ===

impl Attempt {
    /// Runs it to its end. Dropping the future abandons it; requests to the provider that
    /// are under way end by themselves, and their answers are kept.
    ///
    /// # Errors
    /// The cause of the first step that failed; `NoNetwork`, with nothing tried, where there
    /// is none.
    pub(super) async fn run(mut self, renew: Renew) -> Result<Found, Cause> {
        if let Some(host) = self.first_host()
            && !network::leads_to(&host).await
        {
            return Err(Cause::NoNetwork);
        }
        let resolved = match self.spec.resolved.clone() {
            Some(resolved) => resolved,
            None => {
                self.at("looking up the add-on");
                self.broker.resolve(&self.spec.target).await?
            }
        };
        let key = database_key(&self.spec, &resolved);
        let held_ssh = self
            .broker
            .current_ssh(&resolved.addon)
            .map(|lease| lease.generation);
        let held_database = self
            .broker
            .current_database(&key)
            .map(|lease| lease.generation);
        let (ssh_after, database_after) = match renew {
            Renew::Nothing => (None, None),
            Renew::SshKey => (held_ssh, None),
            Renew::Password => (None, held_database),
            Renew::Everything => (held_ssh, held_database),
        };

        self.at("asking for credentials");
        // Side by side: the bastion is dialled while the database user is still being asked for.
        let ahead = self.ahead.take();
        let ahead = ahead.filter(|ahead| ahead.addon == resolved.addon && ssh_after.is_none());
        let tunnel = async {
            if let Some(ahead) = ahead {
                self.at("connecting to the bastion");
                return ahead.dialled().await;
            }
            let lease = self.broker.ssh(&resolved.addon, ssh_after).await?;
            self.at(&format!("connecting to {}", lease.credential.bastion));
            ssh::dial(&lease, self.keepalive, 0).await
        };
        let lease = self.broker.database(&key, database_after);
        let (tunnel, lease) = tokio::try_join!(tunnel, lease)?;

        let owes_proof =
            self.trusts && ssh_after.is_none() && self.broker.is_proven(&key, lease.generation);
        if !owes_proof {
            self.at("logging in to the database");
            match probe(&tunnel, &lease, &self.upstream_tls).await {
                // The lease is an old one: an admin has reset it, or another machine renewed
                // it. A client that connects asks for the next, the clock does not.
                Err(Cause::DatabaseRefusedLogin { .. })
                    if held_database == Some(lease.generation) => {}
                Err(cause) => return Err(cause),
                Ok(()) => self.broker.database_took(&key, lease.generation),
            }
        }
        Ok(Found {
            tunnel,
            resolved,
            lease,
            owes_proof,
        })
    }

    /// Whom it needs first: the bastion, where the key to it is held. Nobody, where a proxy
    /// stands before the API.
    fn first_host(&self) -> Option<String> {
        let held = self.spec.resolved.as_ref();
        let held = held.and_then(|resolved| self.broker.current_ssh(&resolved.addon));
        match held {
            Some(lease) => Some(lease.credential.bastion.host.clone()),
            None if network::has_proxy() => None,
            None => {
                let api = self.broker.provider().endpoints().heroku();
                api.host_str().map(str::to_owned)
            }
        }
    }

    fn at(&self, step: &str) {
        self.step.send_replace(step.to_owned());
    }
}

/// Logs in once and hangs up: proof that the whole way works.
pub(super) async fn probe(
    tunnel: &Tunnel,
    lease: &Lease<DatabaseCredential>,
    upstream_tls: &UpstreamTls,
) -> Result<(), Cause> {
    let server = &lease.credential.server;
    let channel = tunnel.reserve().open(server).await?;
    match timeout(LOGIN_LIMIT, prove(channel, upstream_tls, &lease.credential)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error @ LoginError::Refused(_))) => Err(error.cause(server)),
        // The channel broke: the tunnel's own reason says more, if it has one.
        _ if tunnel.is_closed() => Err(tunnel.loss()),
        Ok(Err(error)) => Err(error.cause(server)),
        Err(_) => Err(Cause::DatabaseUnreachable {
            server: server.clone(),
            detail: format!("no log-in within {} s", LOGIN_LIMIT.as_secs()),
        }),
    }
}

/// Logs in through a channel and hangs up.
///
/// # Errors
/// As a client's log-in.
pub(super) async fn prove(
    channel: ChannelStream,
    upstream_tls: &UpstreamTls,
    credential: &DatabaseCredential,
) -> Result<(), LoginError> {
    let startup =
        StartupParameters::new([("user", "borealisd"), ("application_name", "borealisd")])
            .map_err(|error| LoginError::Protocol(error.to_string()))?;
    let mut logged_in = postgres::log_in(channel, upstream_tls, credential, &startup).await?;
    // A Terminate message, so that the server's log doesn't speak of a lost client.
    let _ = logged_in.stream.write_all(b"X\0\0\0\x04").await;
    let _ = logged_in.stream.shutdown().await;
    Ok(())
}

// === impl Dialer ===

impl Dialer {
    /// Dials with the key that is held; asks the provider for none where one is. The session
    /// has `others` already.
    pub(super) async fn dial(&self, others: usize) -> Result<Tunnel, Cause> {
        let Some(addon) = self.addon.borrow().clone() else {
            return Err(Cause::Internal {
                detail: "a tunnel was wanted before the session was up".into(),
            });
        };
        let lease = self.broker.ssh(&addon, None).await?;
        ssh::dial(&lease, self.keepalive, others).await
    }
}
