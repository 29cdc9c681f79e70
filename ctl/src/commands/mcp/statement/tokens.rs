//! SQL's tokens as PostgreSQL's scanner finds them (`src/backend/parser/scan.l`), as far as it
//! matters here: words, symbols, and where strings and comments end. What could be read in two
//! ways is refused, never guessed at.

use std::borrow::Cow;

use super::{Refusal, refused};

/// A part of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A keyword or name in lower case, or a quoted name as it stands.
    Word(Cow<'a, str>),
    /// Any other character.
    Symbol(char),
    /// A string, whatever its kind.
    Text,
}

/// What is still to be read.
struct Scanner<'a> {
    rest: &'a str,
    tokens: Vec<Token<'a>>,
}

/// All tokens. `standard_conforming_strings` is on in the sessions this is for.
pub(super) fn tokens(sql: &str) -> Result<Vec<Token<'_>>, Refusal> {
    if sql.contains('\0') {
        return Err(refused(
            "the statement has a null character in it",
            "leave it out",
        ));
    }
    let mut scanner = Scanner {
        rest: sql,
        tokens: Vec::new(),
    };
    while let Some(c) = scanner.rest.chars().next() {
        scanner.token(c)?;
    }
    Ok(scanner.tokens)
}

fn begins_word(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

fn continues_word(c: char) -> bool {
    begins_word(c) || c.is_ascii_digit() || c == '$'
}

fn unclosed(what: &str) -> Refusal {
    refused(
        format!("a {what} in the statement isn't closed"),
        "close it",
    )
}

// === impl Scanner ===

impl<'a> Scanner<'a> {
    fn token(&mut self, c: char) -> Result<(), Refusal> {
        match c {
            _ if c.is_ascii_whitespace() || c == '\u{b}' => self.advance(1),
            '-' if self.rest.starts_with("--") => self.line_comment(),
            '/' if self.rest.starts_with("/*") => return self.block_comment(),
            '\'' => return self.string(false),
            '"' => return self.quoted_name(),
            '$' => return self.dollar(),
            c if begins_word(c) => return self.word(),
            c => {
                self.advance(c.len_utf8());
                self.tokens.push(Token::Symbol(c));
            }
        }
        Ok(())
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn line_comment(&mut self) {
        let end = self.rest.find(['\n', '\r']).unwrap_or(self.rest.len());
        self.advance(end);
    }

    fn block_comment(&mut self) -> Result<(), Refusal> {
        let mut depth = 0_usize;
        loop {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.advance(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.advance(2);
                if depth == 0 {
                    return Ok(());
                }
            } else {
                let next = self.rest.chars().next();
                self.advance(next.ok_or_else(|| unclosed("comment"))?.len_utf8());
            }
        }
    }

    /// A string in single quotes; with `escapes` a backslash takes the next character's meaning.
    fn string(&mut self, escapes: bool) -> Result<(), Refusal> {
        self.advance(1);
        loop {
            let special = |c| c == '\'' || (escapes && c == '\\');
            let at = self.rest.find(special).ok_or_else(|| unclosed("string"))?;
            self.advance(at);
            if self.rest.starts_with('\\') {
                let escaped = self.rest.chars().nth(1);
                self.advance(1 + escaped.ok_or_else(|| unclosed("string"))?.len_utf8());
            } else if self.rest.starts_with("''") {
                self.advance(2);
            } else {
                self.advance(1);
                break;
            }
        }
        self.tokens.push(Token::Text);
        if escapes {
            self.refuse_continued()?;
        }
        Ok(())
    }

    /// `E'a'`, a line break, `'b'` is one string, with escapes in all of it.
    fn refuse_continued(&mut self) -> Result<(), Refusal> {
        let mut ahead = Scanner {
            rest: self.rest,
            tokens: Vec::new(),
        };
        loop {
            match ahead.rest.chars().next() {
                Some(c) if c.is_ascii_whitespace() || c == '\u{b}' => ahead.advance(1),
                Some('-') if ahead.rest.starts_with("--") => ahead.line_comment(),
                Some('\'') => {
                    return Err(refused(
                        "a string with escapes goes on on another line",
                        "write it in one piece",
                    ));
                }
                _ => return Ok(()),
            }
        }
    }

    fn quoted_name(&mut self) -> Result<(), Refusal> {
        self.advance(1);
        let mut name = String::new();
        loop {
            let at = self.rest.find('"').ok_or_else(|| unclosed("quoted name"))?;
            name.push_str(&self.rest[..at]);
            self.advance(at + 1);
            if !self.rest.starts_with('"') {
                break;
            }
            name.push('"');
            self.advance(1);
        }
        self.tokens.push(Token::Word(name.into()));
        Ok(())
    }

    /// A string between `$tag$`s, or a parameter.
    fn dollar(&mut self) -> Result<(), Refusal> {
        let after = &self.rest[1..];
        let tag = after
            .find(|c| !(begins_word(c) || char::is_ascii_digit(&c)))
            .unwrap_or(after.len());
        let is_tag =
            after[tag..].starts_with('$') && !after.starts_with(|c: char| c.is_ascii_digit());
        if !is_tag {
            self.advance(1);
            self.tokens.push(Token::Symbol('$'));
            return Ok(());
        }
        let delimiter = &self.rest[..tag + 2];
        self.advance(delimiter.len());
        let end = self
            .rest
            .find(delimiter)
            .ok_or_else(|| unclosed("string"))?;
        self.advance(end + delimiter.len());
        self.tokens.push(Token::Text);
        Ok(())
    }

    fn word(&mut self) -> Result<(), Refusal> {
        let end = self
            .rest
            .find(|c| !continues_word(c))
            .unwrap_or(self.rest.len());
        let word = &self.rest[..end];
        self.advance(end);
        if word.eq_ignore_ascii_case("e") && self.rest.starts_with('\'') {
            return self.string(true);
        }
        if word.eq_ignore_ascii_case("u") && self.rest.starts_with("&\"") {
            return Err(refused(
                "a name is written with U&\"\"",
                "write the name itself, in double quotes where it needs them",
            ));
        }
        let lower = word.to_ascii_lowercase();
        self.tokens.push(Token::Word(if lower == word {
            word.into()
        } else {
            lower.into()
        }));
        Ok(())
    }
}
