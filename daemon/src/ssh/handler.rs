//! Answers russh's callbacks for one connection.

use std::{collections::HashMap, sync::Arc};

use russh::{
    Channel, ChannelId, ChannelOpenFailure,
    client::{self, ChannelOpenHandle, DisconnectReason, Msg, Session},
    keys::PublicKeyOrCertificate,
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{
    HostKey,
    failure::{Failure, describe},
    greeting::shown,
    intake::{Intake, Waiting},
    loss::Loss,
};

/// What is kept of a connection for its callbacks.
pub(super) struct Handler {
    host_key: HostKey,
    loss: Loss,
    intake: Arc<Intake>,
    /// What waits for each channel's reader.
    waiting: HashMap<ChannelId, Arc<Waiting>>,
    /// Whether it was said that the server opens channels.
    has_warned: bool,
    /// Told when russh ends the connection, however it ends: the handler goes with it.
    _closed: DropGuard,
}

// === impl Handler ===

impl Handler {
    /// `loss` is told why the connection ended, `closed` that it did, `intake` what comes.
    pub(super) fn new(
        host_key: HostKey,
        loss: Loss,
        closed: CancellationToken,
        intake: Arc<Intake>,
    ) -> Self {
        Self {
            host_key,
            loss,
            intake,
            waiting: HashMap::new(),
            has_warned: false,
            _closed: closed.drop_guard(),
        }
    }

    /// Counts a message that russh has put into a channel's queue.
    fn arrived(&self, channel: ChannelId, bytes: usize) {
        if let Some(waiting) = self.waiting.get(&channel) {
            self.intake.arrived(waiting, bytes);
        }
    }

    /// Nothing is ever forwarded from there to here, and russh's own answer is yes.
    async fn refuse(&mut self, kind: &str, reply: ChannelOpenHandle) -> Result<(), Failure> {
        self.warn(kind);
        reply
            .reject(ChannelOpenFailure::AdministrativelyProhibited)
            .await;
        Ok(())
    }

    /// Once for each connection: a server may try it thousands of times.
    fn warn(&mut self, kind: &str) {
        if !std::mem::replace(&mut self.has_warned, true) {
            let kind = shown(kind).unwrap_or_default();
            tracing::warn!(
                kind,
                "the bastion tried to open a channel to this machine; all of them are refused"
            );
        }
    }
}

impl client::Handler for Handler {
    type Error = Failure;

    async fn check_server_key(&mut self, key: &PublicKeyOrCertificate) -> Result<bool, Failure> {
        match key {
            PublicKeyOrCertificate::PublicKey { key, .. } if self.host_key.matches(key) => Ok(true),
            _ => Err(Failure::HostKeyDiffers),
        }
    }

    async fn auth_banner(&mut self, banner: &str, _: &mut Session) -> Result<(), Failure> {
        if let Some(banner) = shown(banner) {
            tracing::debug!(banner, "the bastion's banner");
        }
        Ok(())
    }

    async fn channel_open_confirmation(
        &mut self,
        channel: ChannelId,
        _: u32,
        _: u32,
        _: &mut Session,
    ) -> Result<(), Failure> {
        self.waiting.retain(|_, waiting| !waiting.is_closed());
        self.waiting.insert(channel, self.intake.waiting(channel));
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _: &mut Session) -> Result<(), Failure> {
        self.arrived(id, data.len());
        Ok(())
    }

    async fn extended_data(
        &mut self,
        id: ChannelId,
        _: u32,
        data: &[u8],
        _: &mut Session,
    ) -> Result<(), Failure> {
        self.arrived(id, data.len());
        Ok(())
    }

    async fn window_adjusted(
        &mut self,
        id: ChannelId,
        _: u32,
        _: &mut Session,
    ) -> Result<(), Failure> {
        self.arrived(id, 0);
        Ok(())
    }

    async fn disconnected(&mut self, reason: DisconnectReason<Failure>) -> Result<(), Failure> {
        match reason {
            DisconnectReason::ReceivedDisconnect(info) => {
                self.loss.note_farewell(shown(&info.message));
                Ok(())
            }
            DisconnectReason::Error(failure) => {
                if let Failure::Ssh(error) = &failure {
                    self.loss.note(describe(error));
                }
                Err(failure)
            }
        }
    }

    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Failure> {
        self.refuse("session", reply).await
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Failure> {
        self.refuse("forwarded-tcpip", reply).await
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Failure> {
        self.refuse("forwarded-streamlocal", reply).await
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Failure> {
        self.refuse("direct-tcpip", reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Failure> {
        self.refuse("direct-streamlocal", reply).await
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Failure> {
        self.refuse("auth-agent", reply).await
    }

    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Failure> {
        self.refuse("x11", reply).await
    }

    async fn should_accept_unknown_server_channel(&mut self, _: ChannelId, kind: &str) -> bool {
        self.warn(kind);
        false
    }
}
