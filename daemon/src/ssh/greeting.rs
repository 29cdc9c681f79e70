//! What a server says before SSH begins: a server that lets nobody in says why in a line of
//! text (RFC 4253, section 4.2), and what is no SSH server says something else.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much of it is kept.
const KEPT: usize = 1024;

/// How much of a server's text is shown.
const SHOWN: usize = 160;

/// The first bytes of a connection, up to the line with which SSH begins.
#[derive(Clone, Default)]
pub(super) struct Greeting(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    bytes: Vec<u8>,
    is_over: bool,
}

// === impl Greeting ===

impl Greeting {
    /// Hears more; answers whether still more is wanted.
    pub(super) fn hear(&self, bytes: &[u8]) -> bool {
        let mut heard = self.heard();
        let room = KEPT - heard.bytes.len();
        let bytes = &bytes[..bytes.len().min(room)];
        heard.bytes.extend_from_slice(bytes);
        heard.is_over = heard.bytes.len() == KEPT || heard.ssh_begins().is_some();
        !heard.is_over
    }

    /// The server's text, fit to be shown.
    pub(super) fn said(&self) -> Option<String> {
        let heard = self.heard();
        let end = heard.ssh_begins().unwrap_or(heard.bytes.len());
        shown(&String::from_utf8_lossy(&heard.bytes[..end]))
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Heard ===

impl Heard {
    /// Where the line is that begins SSH.
    fn ssh_begins(&self) -> Option<usize> {
        let bytes = &self.bytes;
        let is_line = |at: usize| at == 0 || bytes[at - 1] == b'\n';
        let mut places = bytes.windows(4).enumerate();
        places
            .find(|(at, window)| *window == b"SSH-" && is_line(*at))
            .map(|(at, _)| at)
    }
}

/// A server's text as one short line of letters, digits, punctuation and spaces; `None` where
/// nothing is left.
pub(super) fn shown(text: &str) -> Option<String> {
    let is_plain = |c: char| c.is_alphanumeric() || c.is_ascii_punctuation();
    let plain: String = text
        .chars()
        .map(|c| if is_plain(c) { c } else { ' ' })
        .collect();
    let mut line = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((cut, _)) = line.char_indices().nth(SHOWN) {
        line.truncate(cut);
        line.push('…');
    }
    (!line.is_empty()).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(pieces: &[&[u8]]) -> (Option<String>, bool) {
        let greeting = Greeting::default();
        let mut wants_more = true;
        for piece in pieces {
            wants_more = greeting.hear(piece);
        }
        (greeting.said(), wants_more)
    }

    #[test]
    fn text_before_ssh_is_kept_and_ssh_is_not() {
        let refused = Some("Exceeded MaxStartups".to_owned());
        assert_eq!(said(&[b"Exceeded Max", b"Startups\r\n"]), (refused, true));
        assert_eq!(said(&[b"SSH-2.0-OpenSSH_9.2\r\n"]), (None, false));
        let notice = Some("Closed at six. See SSH-2".to_owned());
        let pieces: [&[u8]; 2] = [b"Closed at six.\r\nSee SSH-2\r\nSS", b"H-2.0-x\r\n\0\0"];
        assert_eq!(said(&pieces), (notice, false));
        assert_eq!(said(&[]), (None, true));
    }

    #[test]
    fn what_could_harm_a_terminal_is_not_shown() {
        let text = shown("\x1b[31mred\u{202e}\u{9b}2J\r\n  ümlaut\0 ");
        assert_eq!(text.as_deref(), Some("[31mred 2J ümlaut"));
        assert_eq!(shown(" \r\n\u{7}"), None);
        let long = shown(&"ä".repeat(5000)).unwrap();
        assert_eq!(long.chars().count(), SHOWN + 1);
        let (_, wants_more) = said(&[&[b'x'; 4096]]);
        assert!(!wants_more);
    }
}
