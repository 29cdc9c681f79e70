//! The password that a netrc file holds for a machine.
//!
//! Reads what curl and the Heroku CLI read: tokens apart by white space, quoted values,
//! comments, macros. `default` is never used: its password was not meant for Heroku, and the
//! Heroku CLI doesn't send it either. The crates there are either unmaintained for years or
//! refuse a whole file for one word that they don't know.

use secrecy::SecretString;

/// What a netrc file says of a machine.
#[derive(Debug)]
pub(in crate::credential) enum Lookup {
    /// It has a password.
    Found(SecretString),
    /// It is there, but without a password.
    NoPassword,
    /// It isn't there.
    NoMachine,
}

/// Looks `machine` up; of several entries the first with a password holds.
pub(in crate::credential) fn look_up(text: &str, machine: &str) -> Lookup {
    let mut words = Words { rest: text };
    let mut ours = false;
    let mut seen = false;
    while let Some(word) = words.next_key() {
        match word {
            "machine" => {
                let name = words.next_value().unwrap_or_default();
                ours = name.eq_ignore_ascii_case(machine);
                seen |= ours;
            }
            "default" => ours = false,
            "macdef" => words.skip_macro(),
            "login" | "account" => {
                words.next_value();
            }
            "password" => {
                let value = words.next_value().unwrap_or_default();
                if ours && !value.is_empty() {
                    return Lookup::Found(SecretString::from(value));
                }
            }
            _ => {}
        }
    }
    if seen {
        Lookup::NoPassword
    } else {
        Lookup::NoMachine
    }
}

struct Words<'a> {
    rest: &'a str,
}

// === impl Words ===

impl<'a> Words<'a> {
    /// The next word where a keyword can stand; there a `#` begins a comment.
    fn next_key(&mut self) -> Option<&'a str> {
        loop {
            self.rest = self.rest.trim_start();
            if self.rest.is_empty() {
                return None;
            }
            if self.rest.starts_with('#') {
                self.skip_line();
                continue;
            }
            return Some(self.plain());
        }
    }

    /// The next word where a value stands; it may begin with `#` and be quoted.
    fn next_value(&mut self) -> Option<String> {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix('"') {
            _ if self.rest.is_empty() => None,
            Some(quoted) => Some(self.quoted(quoted)),
            None => Some(self.plain().to_owned()),
        }
    }

    fn plain(&mut self) -> &'a str {
        let end = self
            .rest
            .find(char::is_whitespace)
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn quoted(&mut self, text: &'a str) -> String {
        let mut value = String::new();
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &text[at + 1..];
                    return value;
                }
                '\\' => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, 'r')) => value.push('\r'),
                    Some((_, 't')) => value.push('\t'),
                    Some((_, other)) => value.push(other),
                    None => {}
                },
                other => value.push(other),
            }
        }
        // The quote is never closed: nothing can be told apart from here on.
        self.rest = "";
        String::new()
    }

    /// A macro ends with an empty line.
    fn skip_macro(&mut self) {
        self.skip_line();
        while !self.rest.is_empty() {
            let line = self.rest.lines().next().unwrap_or_default();
            let empty = line.trim().is_empty();
            self.skip_line();
            if empty {
                return;
            }
        }
    }

    fn skip_line(&mut self) {
        self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    const MACHINE: &str = "api.heroku.com";

    fn password(text: &str) -> Option<String> {
        match look_up(text, MACHINE) {
            Lookup::Found(secret) => Some(secret.expose_secret().to_owned()),
            Lookup::NoPassword | Lookup::NoMachine => None,
        }
    }

    fn found(text: &str, expected: &str) {
        assert_eq!(password(text).as_deref(), Some(expected), "{text}");
    }

    #[test]
    fn as_the_heroku_cli_writes_it() {
        found(
            "machine api.heroku.com\n  login me@x.test\n  password HRKU-1\nmachine git.heroku.com\n  login me@x.test\n  password HRKU-2\n",
            "HRKU-1",
        );
    }

    #[test]
    fn other_ways_to_write_it() {
        found("machine api.heroku.com login a password b", "b");
        found("machine\tAPI.heroku.com\r\npassword b\r\nlogin a\r\n", "b");
        found(
            "# machine api.heroku.com password no\nmachine api.heroku.com # ours\n login a # me\n password #b # yes\n",
            "#b",
        );
        found(
            r#"machine "api.heroku.com" password "a \"b\\ c""#,
            r#"a "b\ c"#,
        );
        found(
            "macdef init\nmachine api.heroku.com password no\n\nmachine api.heroku.com password b",
            "b",
        );
        found(
            "machine x login machine password machine\nmachine api.heroku.com password b",
            "b",
        );
        found(
            "machine api.heroku.com login a\nmachine api.heroku.com password b",
            "b",
        );
        found("machine api.heroku.com protocol https password b", "b");
    }

    #[test]
    fn what_is_not_for_us() {
        assert!(matches!(look_up("", MACHINE), Lookup::NoMachine));
        assert!(matches!(
            look_up("default password a", MACHINE),
            Lookup::NoMachine
        ));
        assert!(matches!(
            look_up("machine api.heroku.com login a default password b", MACHINE),
            Lookup::NoPassword
        ));
        assert!(matches!(
            look_up("machine api.heroku.com.evil.test password a", MACHINE),
            Lookup::NoMachine
        ));
        assert!(matches!(
            look_up("machine api.heroku.com password \"open", MACHINE),
            Lookup::NoPassword
        ));
        assert!(matches!(look_up("machine", MACHINE), Lookup::NoMachine));
    }

    proptest! {
        #[test]
        fn any_text_ends_without_panic(text in "(machine|default|macdef|password|login|\"|\\\\|#|\n| |api.heroku.com|\\PC)*") {
            let _ = look_up(&text, MACHINE);
        }

        #[test]
        fn a_quoted_password_comes_back(secret in "[ -~]{1,40}", before in "[a-z]{1,8}") {
            let quoted = secret.replace('\\', "\\\\").replace('"', "\\\"");
            let text = format!("machine {before} password x\nmachine {MACHINE}\n\tpassword \"{quoted}\"\n");
            prop_assert_eq!(password(&text), Some(secret));
        }
    }
}
