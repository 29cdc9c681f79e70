//! A file of SQL as a user has it.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use crate::failure::{Failure, reason};

/// A file that was read.
pub(crate) struct SqlFile {
    /// As it was named; `-` is standard input.
    pub(crate) path: PathBuf,
    /// Its text, without a byte order mark.
    pub(crate) text: String,
}

/// Reads a file, or standard input where it is named `-`. Blocks.
///
/// # Errors
/// That it can't be read, or is no UTF-8 text.
pub(crate) fn read(file: &Path) -> Result<SqlFile, Failure> {
    let (name, bytes) = if is_stdin(file) {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut bytes);
        ("standard input".to_owned(), read.map(|_| bytes))
    } else {
        (file.display().to_string(), std::fs::read(file))
    };
    let bytes =
        bytes.map_err(|error| Failure::failed(format!("can't read {name}: {}", reason(&error))))?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
        let hint = if before.is_empty() && error.as_bytes().starts_with(b"PGDMP") {
            "it is a dump in pg_dump's own format: `borealisctl run TARGET -w -e 'pg_restore --no-owner --no-acl -d \"$PGDATABASE\" FILE'`"
        } else {
            "convert it with iconv"
        };
        Failure::failed(format!("{name} is not UTF-8 text (line {line})")).with_hint(hint)
    })?;
    // Editors on Windows begin files with a byte order mark, which is no SQL.
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(SqlFile {
        path: file.to_path_buf(),
        text,
    })
}

fn is_stdin(file: &Path) -> bool {
    file.as_os_str() == "-"
}

// === impl SqlFile ===

impl SqlFile {
    /// Whether it came on standard input.
    pub(crate) fn is_stdin(&self) -> bool {
        is_stdin(&self.path)
    }

    /// Whether a line begins as psql's own commands do: `\restrict` and `\connect` of a dump,
    /// the `\.` below the data of a COPY. A text of SQL may have such a line within quotes,
    /// which psql knows as well as the server does.
    pub(crate) fn has_psql_commands(&self) -> bool {
        self.text.lines().any(|line| {
            let Some(rest) = line.strip_prefix('\\') else {
                return false;
            };
            rest.trim_end() == "."
                || rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '!')
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dumps_are_psqls() {
        let has = |text: &str| {
            let path = "x.sql".into();
            let text = text.to_owned();
            SqlFile { path, text }.has_psql_commands()
        };
        assert!(has("--\n-- dump\n--\n\n\\restrict abc\n"));
        assert!(has("copy t from stdin;\n1\t\\N\n\\.\n"));
        assert!(has("copy t from stdin;\r\n1\r\n\\.\r\n"));
        assert!(has("\\connect other\n"));
        assert!(!has("select '\\restrict';\nselect E'a\\\nb';"));
        assert!(!has("select 1;\n"));
    }
}
