//! Text that a terminal may have. Names, messages and values come from the provider, from the
//! database and from other programs; none of them may move the cursor, ring, set colours,
//! turn the writing direction, or begin a line that looks like one of ours.
//!
//! Everything that is printed for people is a [`Text`], and a `Text` can't hold a character
//! that a terminal obeys, except the styles and cursor movements that this program puts there.
//! Formats for programs use [`escape_in_quotes`] instead, which keeps the data exact.

use std::{borrow::Cow, fmt::Write as _};

use anstyle::Style;
use borealis_proto::text::is_unsafe;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use super::Paint;

/// What may be written to a terminal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Text(String);

/// The most columns of one value from outside that are shown to a person. Sentences with a
/// path or a URL fit; ten kilobytes of anything don't. Formats for programs have it whole.
pub(crate) const LONGEST: usize = 1000;
/// The same where something stands behind it: a name in a sentence, a cell that isn't a line's
/// last. Names that PostgreSQL, Heroku and the provider accept are shorter.
pub(crate) const LONGEST_NAME: usize = 80;

// === impl Text ===

impl Text {
    /// Nothing yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Lines: line breaks and tabs stay. Values from outside that have to stay on their line
    /// go through [`line`] before they become part of `text`.
    pub(crate) fn lines(text: impl AsRef<str>) -> Self {
        Self::new().then(text)
    }

    /// One line of a sentence, cut where it is longer than anybody reads.
    pub(crate) fn sentence(text: &str) -> Self {
        Self::lines(cut(&line(text), LONGEST)).then("\n")
    }

    /// Adds lines, as [`Text::lines`] makes them.
    #[must_use]
    pub(crate) fn then(mut self, text: impl AsRef<str>) -> Self {
        self.push(text);
        self
    }

    /// Adds lines, as [`Text::lines`] makes them.
    pub(crate) fn push(&mut self, text: impl AsRef<str>) {
        self.0.push_str(&block(text.as_ref()));
    }

    /// Adds one line's text in a style, where the stream takes it.
    #[must_use]
    pub(crate) fn styled(mut self, paint: Paint, style: Style, text: &str) -> Self {
        let text = line(text);
        match paint {
            Paint::Coloured => {
                // Writing to memory can't fail.
                let _ = write!(self.0, "{style}{text}{style:#}");
            }
            Paint::Plain => self.0.push_str(&text),
        }
        self
    }

    /// Adds what is safe already.
    pub(crate) fn append(&mut self, text: &Self) {
        self.0.push_str(&text.0);
    }

    /// The first lines.
    pub(super) fn first_lines(&self, count: usize) -> Self {
        Self(self.0.split_inclusive('\n').take(count).collect())
    }

    /// Adds a control sequence of this program's own.
    pub(super) fn push_control(&mut self, sequence: &str) {
        self.0.push_str(sequence);
    }

    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromIterator<Text> for Text {
    fn from_iter<I: IntoIterator<Item = Text>>(texts: I) -> Self {
        Self(texts.into_iter().map(|text| text.0).collect())
    }
}

/// `text` on one line: white space becomes a blank, what a terminal would obey is escaped
/// (`\x1B`, `\u202E`).
pub(crate) fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' | '\r' => out.push(' '),
            c => push_shown(&mut out, c),
        }
    }
    Cow::Owned(out)
}

/// A name from outside within a sentence.
pub(crate) fn name(text: &str) -> String {
    cut(&line(text), LONGEST_NAME).into_owned()
}

/// `text` with its line breaks and tabs; what else a terminal would obey is escaped.
pub(crate) fn block(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| is_unsafe(c) && c != '\n' && c != '\t') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' | '\t' => out.push(c),
            // A line break of Windows.
            '\r' if chars.peek() == Some(&'\n') => {}
            c => push_shown(&mut out, c),
        }
    }
    Cow::Owned(out)
}

/// `text` in at most `width` columns, an ellipsis telling of what is missing.
pub(crate) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    let mut left = width.saturating_sub(1);
    let mut kept: String = text
        .chars()
        .take_while(|c| {
            let columns = c.width().unwrap_or(0);
            let fits = columns <= left;
            left = left.saturating_sub(columns);
            fits
        })
        .collect();
    if width > 0 {
        kept.push('…');
    }
    Cow::Owned(kept)
}

/// Adds a character as it is shown.
pub(super) fn push_shown(out: &mut String, c: char) {
    let code = u32::from(c);
    // Writing to memory can't fail.
    let _ = match c {
        c if !is_unsafe(c) => out.write_char(c),
        '\r' => out.write_str("\\r"),
        _ if code <= 0xff => write!(out, "\\x{code:02X}"),
        _ => write!(out, "\\u{code:04X}"),
    };
}

/// Escapes, in a document of JSON or of YAML's quoted style, what would be obeyed or can't be
/// seen. Such characters can only stand inside of quotes there, so the data stays the same.
pub(crate) fn escape_in_quotes(document: &str) -> Cow<'_, str> {
    let escapes = |c| is_unsafe(c) && c != '\n';
    if !document.contains(escapes) {
        return Cow::Borrowed(document);
    }
    let mut out = String::with_capacity(document.len());
    for c in document.chars() {
        if escapes(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to memory can't fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use anstyle::AnsiColor;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_shown_and_not_obeyed() {
        let hostile = "a\u{1b}[2J\u{7}\u{9b}31m\u{202e}\u{2066}\0\u{7f}\r\u{feff}z";
        let shown = "a\\x1B[2J\\x07\\x9B31m\\u202E\\u2066\\x00\\x7F\\r\\uFEFFz";
        assert_eq!(block(hostile), shown);
        assert_eq!(line(hostile), shown.replace("\\r", " "));
        assert_eq!(block("two\r\nlines\tand"), "two\nlines\tand");
        assert_eq!(line("two\r\nlines\tand"), "two  lines and");
        assert_eq!(line("寿司 é 👩‍💻"), "寿司 é 👩‍💻");
        let style = AnsiColor::Red.on_default();
        let text = Text::lines("x\n").styled(Paint::Coloured, style, "\u{1b}]0;t\u{7}\nerror: y");
        assert_eq!(
            text.as_str(),
            "x\n\u{1b}[31m\\x1B]0;t\\x07 error: y\u{1b}[0m"
        );
    }

    #[test]
    fn long_values_are_cut_by_columns() {
        assert_eq!(cut("sushi", 5), "sushi");
        assert_eq!(cut("sushis", 5), "sush…");
        assert_eq!(cut("寿司寿司", 5), "寿司…");
        assert_eq!(cut("x", 0), "");
    }

    proptest! {
        #[test]
        fn no_text_has_what_a_terminal_obeys(text in any::<String>()) {
            prop_assert!(!line(&text).contains(is_unsafe));
            let block = block(&text);
            prop_assert!(!block.contains(|c| is_unsafe(c) && c != '\n' && c != '\t'));
        }

        #[test]
        fn json_keeps_its_data(text in any::<String>()) {
            let json = serde_json::to_string_pretty(&[&text]).unwrap();
            let escaped = escape_in_quotes(&json);
            prop_assert!(!escaped.contains(|c| is_unsafe(c) && c != '\n'));
            let read: [String; 1] = serde_json::from_str(&escaped).unwrap();
            prop_assert_eq!(&read[0], &text);
        }
    }
}
