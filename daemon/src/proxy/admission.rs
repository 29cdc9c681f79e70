//! Lets clients in: the log-in to the session.

use std::sync::Arc;

use tokio::sync::watch;

use super::record::PeerProcess;
use crate::{
    journal::{Journal, Kind},
    model::SessionName,
    postgres::{
        self, Authenticated, CancelRequest, ClientError, Greeting, LocalAuth, LocalTls, MaybeTls,
        RefusalPace, ScramVerifier, Stream, TlsOffer, refusal,
    },
    tunnels::Gate,
};

/// How `pg_isready` names itself, unless it is told otherwise.
const PROBE: &[u8] = b"pg_isready";

/// What clients of a managed session are let in by.
pub(crate) struct Admission {
    pub(crate) name: SessionName,
    pub(crate) verifier: ScramVerifier,
    /// Asked for at each connection.
    pub(crate) local_tls: Arc<dyn Fn() -> LocalTls + Send + Sync>,
    pub(crate) gate: watch::Receiver<Gate>,
    pub(crate) journal: Journal,
    pub(crate) refusal_pace: Arc<RefusalPace>,
}

/// Who a client is, by the listener that it came through.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Peer {
    /// Anybody on this machine, from a port to the session's.
    Tcp { client: u16, session: u16 },
    /// The user and the process that the kernel says, and whether that user may come in.
    Unix { uid: u32, pid: u32, trusted: bool },
}

/// What a client came for.
pub(crate) enum Admitted<S: Stream> {
    /// The database; it has logged in.
    Client(Authenticated<S>),
    /// To have a query cancelled. It takes the end of the stream for "done".
    Cancel(CancelRequest, MaybeTls<S>),
    /// What it has got.
    Done,
}

// === impl Peer ===

impl Peer {
    /// By what its process is found.
    pub(crate) fn process(self) -> PeerProcess {
        match self {
            Self::Tcp { client, session } => PeerProcess::Tcp { client, session },
            Self::Unix { pid, .. } => PeerProcess::Unix { pid },
        }
    }
}

// === impl Admission ===

impl Admission {
    /// Lets a client in, or finds out what else it came for.
    ///
    /// # Errors
    /// Where it isn't let in; it has been told.
    pub(crate) async fn admit<S: Stream>(
        &self,
        stream: S,
        peer: Peer,
    ) -> Result<Admitted<S>, ClientError> {
        // Clients of a Unix socket don't ask for TLS; the kernel keeps others out.
        let (offer, auth) = match peer {
            Peer::Tcp { .. } => (
                TlsOffer::Offered((self.local_tls)()),
                LocalAuth::Password(&self.verifier),
            ),
            Peer::Unix { trusted: true, .. } => (TlsOffer::Declined, LocalAuth::SameUser),
            Peer::Unix { uid, .. } => (TlsOffer::Declined, LocalAuth::OtherUser { uid }),
        };
        match postgres::greet(stream, &offer).await? {
            // It asks for no more than an answer, and takes a question for "yes".
            Greeting::Startup(client)
                if client.startup().get("application_name") == Some(PROBE)
                    && *self.gate.borrow() != Gate::Open =>
            {
                client.refuse_with(&refusal::not_ready(&self.name)).await;
                Ok(Admitted::Done)
            }
            Greeting::Startup(client) => {
                let client = client.paced(&self.refusal_pace);
                let admitted = client.authenticate(&self.name, auth).await;
                if let Err(ClientError::Refused { message, .. }) = &admitted {
                    self.journal
                        .counted(&self.name, Kind::PasswordRefused, message.clone());
                }
                admitted.map(Admitted::Client)
            }
            Greeting::Cancel(request, until_done) => Ok(Admitted::Cancel(request, until_done)),
            Greeting::Gone => Ok(Admitted::Done),
        }
    }
}
