//! What the database says: errors with SQLSTATE, position, detail and hint, and notices.

use std::io;

use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{ErrorFields, NoticeResponseBody};
use unicode_width::UnicodeWidthStr as _;

use super::Access;
use crate::failure::Failure;

/// The fields of an ErrorResponse or NoticeResponse that are shown.
#[derive(Debug, Default)]
pub(crate) struct Complaint {
    severity: String,
    /// Five characters that say what kind of error it is.
    pub(crate) sqlstate: String,
    /// One sentence.
    pub(crate) message: String,
    /// More of it; mostly empty.
    pub(crate) detail: String,
    /// What the database would have one do; mostly empty.
    pub(crate) hint: String,
    context: String,
    /// In characters from 1, within the SQL that was sent.
    pub(crate) position: Option<usize>,
    /// The same, within a query that the server made itself.
    internal_position: Option<usize>,
    internal_query: String,
}

/// An error of the database as the command's failure.
pub(super) fn failure(
    fields: ErrorFields<'_>,
    sql: &str,
    access: Access,
) -> Result<Failure, Failure> {
    Ok(Complaint::read(fields)?.failure(sql, access))
}

/// A notice, in psql's words.
pub(super) fn notice(body: &NoticeResponseBody) -> Result<String, Failure> {
    let mut complaint = Complaint::read(body.fields())?;
    // As psql does: of interest only where something failed.
    complaint.context.clear();
    let mut text = format!("{}:  {}", complaint.severity, complaint.message);
    for line in complaint.details("") {
        text.push('\n');
        text.push_str(&line);
    }
    Ok(text)
}

/// What borealisctl knows about an error beyond what the database says.
fn hint(sqlstate: &str, sql: &str, access: Access) -> Option<&'static str> {
    let psql_syntax = || sql.lines().any(|line| line.trim_start().starts_with('\\'));
    match sqlstate {
        "25006" | "42501" if access == Access::ReadOnly => {
            Some("this session is read-only: add --write-access (-w)")
        }
        "42601" if psql_syntax() => Some(
            "lines that begin with a backslash are psql's own: run them with `borealisctl psql TARGET -- -f FILE`",
        ),
        _ => None,
    }
}

// === impl Complaint ===

impl Complaint {
    /// As the command's failure; `sql` is what was sent.
    pub(super) fn failure(&self, sql: &str, access: Access) -> Failure {
        let mut failure = Failure::failed(format!("{} (SQLSTATE {})", self.message, self.sqlstate));
        failure.details = self.details(sql);
        failure.hint = hint(&self.sqlstate, sql, access).map(str::to_owned);
        failure
    }

    pub(super) fn read(mut fields: ErrorFields<'_>) -> Result<Self, Failure> {
        let broken = |error: io::Error| {
            Failure::failed(format!("the database's message can't be read: {error}"))
        };
        let mut complaint = Self::default();
        // Without a localised severity (V) the older one (S) has to do.
        while let Some(field) = fields.next().map_err(broken)? {
            let value = String::from_utf8_lossy(field.value_bytes()).into_owned();
            match field.type_() {
                b'S' if complaint.severity.is_empty() => complaint.severity = value,
                b'V' => complaint.severity = value,
                b'C' => complaint.sqlstate = value,
                b'M' => complaint.message = value,
                b'D' => complaint.detail = value,
                b'H' => complaint.hint = value,
                b'W' => complaint.context = value,
                b'P' => complaint.position = value.parse().ok(),
                b'p' => complaint.internal_position = value.parse().ok(),
                b'q' => complaint.internal_query = value,
                _ => {}
            }
        }
        Ok(complaint)
    }

    /// Position, detail, hint and context, in psql's form and order.
    fn details(&self, sql: &str) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        if let Some(position) = self.position {
            lines.extend(point_at(sql, position).into_iter().flatten());
        } else if let Some(position) = self.internal_position {
            lines.extend(
                point_at(&self.internal_query, position)
                    .into_iter()
                    .flatten(),
            );
        }
        for (label, text) in [
            ("DETAIL", &self.detail),
            ("HINT", &self.hint),
            ("QUERY", &self.internal_query),
            ("CONTEXT", &self.context),
        ] {
            if !text.is_empty() {
                lines.push(format!("{label}:  {text}"));
            }
        }
        lines
    }
}

/// The line that holds the character at `position` (from 1), and a caret below it.
fn point_at(sql: &str, position: usize) -> Option<[String; 2]> {
    /// Columns of a long line that are shown before the position, and after it.
    const BEFORE: usize = 40;
    const AFTER: usize = 24;

    let offset = position.checked_sub(1)?;
    let at = match sql.char_indices().nth(offset) {
        Some((at, _)) => at,
        // "syntax error at end of input" points behind the last character.
        None if sql.chars().count() == offset => sql.len(),
        None => return None,
    };
    let start = sql[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let end = sql[at..].find('\n').map_or(sql.len(), |length| at + length);
    let number = sql[..at].matches('\n').count() + 1;
    let flat = |text: &str| text.replace(|c: char| c.is_control(), " ");
    let (before, after) = (flat(&sql[start..at]), flat(&sql[at..end]));

    let skipped = before.chars().count().saturating_sub(BEFORE);
    let (lead, before) = match before.char_indices().nth(skipped) {
        Some((from, _)) if skipped > 0 => ("...", &before[from..]),
        _ => ("", before.as_str()),
    };
    let (after, trail) = match after.char_indices().nth(AFTER) {
        Some((to, _)) => (&after[..to], "..."),
        None => (after.as_str(), ""),
    };
    let label = format!("LINE {number}: {lead}");
    Some([
        format!("{label}{before}{after}{trail}"),
        format!("{}^", " ".repeat(label.width() + before.width())),
    ])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_caret_is_below_the_character() {
        assert_eq!(
            point_at("select 1;\nselect *\tfrom nope", 25).unwrap(),
            ["LINE 2: select * from nope", "                      ^"]
        );
        assert_eq!(
            point_at("select 'é寿', x", 14).unwrap(),
            ["LINE 1: select 'é寿', x", "                      ^"]
        );
        assert_eq!(
            point_at("select", 7).unwrap(),
            ["LINE 1: select", "              ^"]
        );
        assert_eq!(point_at("select", 8), None);
        assert_eq!(point_at("", 0), None);
    }

    #[test]
    fn long_lines_are_cut_around_the_position() {
        let sql = format!("{}X{}", "a".repeat(100), "b".repeat(100));
        let [line, caret] = point_at(&sql, 101).unwrap();
        assert!(line.len() < 80, "{line}");
        assert_eq!(line.as_bytes()[caret.len() - 1], b'X');
    }

    proptest! {
        #[test]
        fn no_position_is_too_far(sql in "[aé寿\n\t ]{0,120}", position in 0_usize..140) {
            if let Some([line, caret]) = point_at(&sql, position) {
                prop_assert!(caret.width() <= line.width() + 1);
            }
        }
    }
}
