//! One attempt to bring a session up: look-up, leases, SSH, and a log-in that proves the
//! whole way to the database, where that isn't left for afterwards.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::{Spec, under_way::joined};
use crate::{
    credential::{Broker, DatabaseKey},
    model::{Access, Cause, DatabaseCredential, Lease, Resolved, Role, Target},
    platform::network,
    postgres::UpstreamTls,
    proxy,
    session::machine::RenewalScope,
    ssh::{self, Keepalive, Tunnel},
};

/// What an attempt needs to know of its session.
pub(super) struct Attempt {
    pub(super) broker: Arc<Broker>,
    pub(super) spec: Spec,
    pub(super) keepalive: Keepalive,
    pub(super) upstream_tls: UpstreamTls,
    /// Whether a lease that the database has let in before needs no proof before the session
    /// is up.
    pub(super) skip_verification: bool,
    /// What was begun before the target was known.
    pub(super) early_dial: Option<EarlyDial>,
    /// Tells the user what it is at.
    pub(super) step: watch::Sender<String>,
}

/// What a successful attempt found.
pub(super) struct Found {
    pub(super) tunnel: Tunnel,
    pub(super) resolved: Resolved,
    pub(super) lease: Arc<Lease<DatabaseCredential>>,
    /// Whether the log-in that proves the way was left for later.
    pub(super) needs_verification: bool,
}

/// A tunnel that is dialled to where a target was last time, while that is looked up again.
/// Dropped, it is given up.
pub(crate) struct EarlyDial {
    addon: String,
    dialling: AbortOnDropHandle<Result<Tunnel, Cause>>,
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

// === impl EarlyDial ===

impl EarlyDial {
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
            dialling: AbortOnDropHandle::new(dialling),
        })
    }

    async fn dialled(mut self) -> Result<Tunnel, Cause> {
        joined((&mut self.dialling).await)
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
    pub(super) async fn run(mut self, renew: RenewalScope) -> Result<Found, Cause> {
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
            RenewalScope::Nothing => (None, None),
            RenewalScope::SshKey => (held_ssh, None),
            RenewalScope::Password => (None, held_database),
            RenewalScope::Everything => (held_ssh, held_database),
        };

        self.at("asking for credentials");
        // Side by side: the bastion is dialled while the database user is still being asked for.
        let early_dial = self.early_dial.take();
        let early_dial =
            early_dial.filter(|early| early.addon == resolved.addon && ssh_after.is_none());
        let tunnel = async {
            if let Some(early_dial) = early_dial {
                self.at("connecting to the bastion");
                return early_dial.dialled().await;
            }
            let lease = self.broker.ssh(&resolved.addon, ssh_after).await?;
            self.at(&format!("connecting to {}", lease.credential.bastion));
            ssh::dial(&lease, self.keepalive, 0).await
        };
        let lease = self.broker.database(&key, database_after);
        let (tunnel, lease) = tokio::try_join!(tunnel, lease)?;

        let needs_verification = self.skip_verification
            && ssh_after.is_none()
            && self.broker.is_proven(&key, lease.generation);
        if !needs_verification {
            self.at("logging in to the database");
            match proxy::probe(&tunnel, &lease, &self.upstream_tls).await {
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
            needs_verification,
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
