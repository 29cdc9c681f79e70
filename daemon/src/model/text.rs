//! Text that others wrote (the provider, a database, a bastion, a client, a config file), made
//! safe to show in one place.
//!
//! A terminal obeys control characters, a log's reader takes a line break for a new entry, and
//! bidirectional controls make a name look like another. All are shown as escapes.

use std::fmt::{self, Write as _};

pub use borealis_proto::text::is_unsafe;

/// The characters that are shown of a text, unless the format says otherwise (`{:.80}`). Enough
/// for any sentence of an API; it bounds a log line and an answer.
pub const LONGEST: usize = 1000;

/// What stands for the rest of a text that is longer.
const MORE: char = '…';

/// Text from outside. It is shown escaped and cut at [`LONGEST`] characters; what it is has to
/// be asked for.
#[derive(Clone, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Foreign(String);

/// Shows a text as [`Foreign`] is shown.
#[derive(Clone, Copy)]
pub struct Escaped<'a>(pub &'a str);

/// A text as it may be shown on one line, cut at [`LONGEST`] characters.
pub fn line(text: &str) -> String {
    Escaped(text).to_string()
}

/// Writes text on to another writer with each unsafe character as its escape.
#[derive(Debug)]
pub struct Escaping<W>(pub W);

// === impl Foreign ===

impl Foreign {
    /// The text as it came: to be compared, or sent on where it is data.
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0).fmt(f)
    }
}

impl fmt::Debug for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl<T: Into<String>> From<T> for Foreign {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

// === impl Escaped ===

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = f.precision().unwrap_or(LONGEST);
        let end = self.0.char_indices().nth(longest).map(|(at, _)| at);
        Escaping(&mut *f).write_str(&self.0[..end.unwrap_or(self.0.len())])?;
        match end {
            Some(_) => f.write_char(MORE),
            None => Ok(()),
        }
    }
}

// === impl Escaping ===

impl<W: fmt::Write> fmt::Write for Escaping<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some(at) = rest.find(is_unsafe) {
            let (safe, found) = rest.split_at(at);
            self.0.write_str(safe)?;
            let mut chars = found.chars();
            for c in chars.next().into_iter().flat_map(char::escape_default) {
                self.0.write_char(c)?;
            }
            rest = chars.as_str();
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_or_a_reader_obeys_is_escaped() {
        for (given, shown) in [
            ("plain, ünïcödé 漢字 👍", "plain, ünïcödé 漢字 👍"),
            ("a\u{1b}[2Jb", r"a\u{1b}[2Jb"),
            ("\u{7}\0\u{7f}", r"\u{7}\u{0}\u{7f}"),
            ("\u{9b}31m", r"\u{9b}31m"),
            ("one\r\ntwo\tthree", r"one\r\ntwo\tthree"),
            ("\u{202e}gpj.exe\u{2066}", r"\u{202e}gpj.exe\u{2066}"),
            (
                "\u{200e}\u{200f}\u{2028}\u{2029}",
                r"\u{200e}\u{200f}\u{2028}\u{2029}",
            ),
        ] {
            assert_eq!(Foreign::from(given).to_string(), shown);
            assert_eq!(Foreign::from(given).raw(), given);
            // Escaped text stays as it is.
            assert_eq!(line(shown), shown);
        }
    }

    #[test]
    fn it_is_cut() {
        let long = Foreign::from("x".repeat(10_000));
        assert_eq!(long.to_string().chars().count(), LONGEST + 1);
        assert_eq!(format!("{long:.3}"), "xxx…");
        assert_eq!(format!("{:.3}", Foreign::from("äöü")), "äöü");
        let lossy = String::from_utf8_lossy(b"a\xff\xfeb").into_owned();
        assert_eq!(Foreign::from(lossy).to_string(), "a\u{fffd}\u{fffd}b");
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_ever_shown(text in "\\PC*|(?s).*") {
            let shown = line(&text);
            prop_assert!(!shown.contains(is_unsafe));
            let debugged = format!("{:?}", Foreign::from(text));
            prop_assert!(!debugged.contains(is_unsafe));
        }
    }
}
