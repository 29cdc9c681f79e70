//! Opening a channel in a tunnel.

use russh::ChannelOpenFailure;

use super::{
    super::{Tunnel, tunnel::Counted},
    stream::ChannelStream,
};
use crate::model::{Cause, HostPort};

/// A channel of a tunnel that is about to be opened.
pub struct Reserved(Counted);

impl Tunnel {
    /// Counts a channel that is about to be opened, so that nobody else takes the tunnel for
    /// an idle one.
    pub fn reserve(&self) -> Reserved {
        Reserved(Counted::new(self))
    }

    fn open_failure(&self, error: &russh::Error, server: HostPort) -> Cause {
        let detail = match error {
            russh::Error::ChannelOpenFailure(ChannelOpenFailure::ConnectFailed) => {
                "connection refused"
            }
            russh::Error::ChannelOpenFailure(ChannelOpenFailure::AdministrativelyProhibited) => {
                "forwarding there is not allowed"
            }
            russh::Error::ChannelOpenFailure(ChannelOpenFailure::ResourceShortage) => {
                "it has no resources left"
            }
            russh::Error::ChannelOpenFailure(_) => "the channel was refused",
            _ => return self.loss(),
        };
        Cause::DatabaseUnreachable {
            server,
            detail: detail.to_owned(),
        }
    }
}

// === impl Reserved ===

impl Reserved {
    /// The tunnel that it will be in.
    pub fn tunnel(&self) -> &Tunnel {
        self.0.tunnel()
    }

    /// Opens a channel to a server behind the bastion.
    ///
    /// # Errors
    /// `DatabaseUnreachable` where the bastion says no, `TunnelLost` where the connection has
    /// ended. Dropping the future abandons the channel; the bastion is told.
    pub async fn open(self, server: &HostPort) -> Result<ChannelStream, Cause> {
        let count = self.0;
        let server = server.clone();
        // On a task of its own: russh has no way to give up a channel that is being opened,
        // so one whose user has gone is closed as soon as it is there.
        let opening = tokio::spawn(async move {
            let tunnel = count.tunnel();
            let opened = tunnel
                .parts()
                .handle
                .channel_open_direct_tcpip(
                    server.host.as_str(),
                    u32::from(server.port),
                    "127.0.0.1",
                    0,
                )
                .await;
            match opened {
                Ok(channel) => Ok(ChannelStream::new(channel, count)),
                Err(error) => Err(count.tunnel().open_failure(&error, server)),
            }
        });
        opening.await.unwrap_or_else(|error| {
            Err(Cause::Internal {
                detail: error.to_string(),
            })
        })
    }
}
