//! Why a connection couldn't be made or ended, in the user's words.

use std::io;

use crate::model::{Cause, HostPort};

/// Why a handshake or a log-in ended.
#[derive(Debug)]
pub(super) enum Failure {
    HostKeyDiffers,
    KeyRefused,
    /// Before the two sides had agreed on keys.
    Handshake(russh::Error),
    Ssh(russh::Error),
}

// === impl Failure ===

impl From<russh::Error> for Failure {
    fn from(error: russh::Error) -> Self {
        Self::Ssh(error)
    }
}

impl Failure {
    /// The same failure, where the server's key had not been seen yet.
    pub(super) fn in_handshake(self) -> Self {
        match self {
            Self::Ssh(error) => Self::Handshake(error),
            other => other,
        }
    }

    /// As a cause; `said` is the server's own text.
    pub(super) fn cause(self, bastion: &HostPort, said: Option<String>) -> Cause {
        let bastion = bastion.clone();
        match self {
            Self::HostKeyDiffers => Cause::HostKeyDiffers { bastion },
            Self::KeyRefused => Cause::BastionRefusedKey { bastion },
            // Only the pinned key's algorithm is offered: a server without it has another key.
            Self::Handshake(russh::Error::NoCommonAlgo {
                kind: russh::AlgorithmKind::Key,
                ..
            }) => Cause::HostKeyDiffers { bastion },
            Self::Handshake(error) if is_end(&error) && !is_http(said.as_deref()) => {
                Cause::BastionBusy { bastion, said }
            }
            Self::Handshake(_) if is_http(said.as_deref()) => Cause::BastionUnreachable {
                bastion,
                detail: with_words(describe(&russh::Error::Version), said),
            },
            Self::Handshake(error) | Self::Ssh(error) => Cause::BastionUnreachable {
                bastion,
                detail: with_words(describe(&error), said),
            },
        }
    }
}

/// What happened, and what the server said.
pub(super) fn with_words(detail: String, said: Option<String>) -> String {
    match said {
        Some(said) => format!("{detail}; it said: {said}"),
        None => detail,
    }
}

/// A web server, or a proxy, in the bastion's place.
fn is_http(said: Option<&str>) -> bool {
    said.is_some_and(|said| said.starts_with("HTTP/"))
}

/// Whether the server ended the connection, rather than saying something that isn't SSH.
fn is_end(error: &russh::Error) -> bool {
    use io::ErrorKind as K;
    match error {
        russh::Error::Disconnect | russh::Error::HUP => true,
        russh::Error::IO(error) => matches!(
            error.kind(),
            K::UnexpectedEof | K::ConnectionReset | K::ConnectionAborted | K::BrokenPipe
        ),
        _ => false,
    }
}

/// What an SSH error means, in the user's words.
pub(super) fn describe(error: &russh::Error) -> String {
    match error {
        russh::Error::IO(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "the server closed the connection".into()
        }
        russh::Error::IO(error) => plain(error),
        russh::Error::Disconnect | russh::Error::HUP => "the server closed the connection".into(),
        russh::Error::KeepaliveTimeout => "the line went silent".into(),
        russh::Error::Version => "what answers there is no SSH server".into(),
        other => other.to_string(),
    }
}

/// What an I/O error says, without Rust's "(os error 111)".
pub(super) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((plain, _)) => plain.to_lowercase(),
        None => text,
    }
}
