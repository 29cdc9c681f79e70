//! Words for shells: quoted where they need it, and only there.

use std::borrow::Cow;

/// `text` as one word of sh, bash, zsh or an `.envrc`. No shell can have a NUL in a word.
pub(crate) fn sh(text: &str) -> Cow<'_, str> {
    shlex::try_quote(text).unwrap_or(Cow::Borrowed("''"))
}

/// `text` as one word of fish, where a backslash counts inside quotes.
pub(crate) fn fish(text: &str) -> String {
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_it_is_quoted() {
        assert_eq!(
            sh("postgresql://u:p@127.0.0.1:15432/d"),
            "postgresql://u:p@127.0.0.1:15432/d"
        );
        assert_eq!(sh(""), "''");
        assert_eq!(sh("$HOME"), "'$HOME'");
        assert_eq!(fish(r"a'b\c"), r"'a\'b\\c'");
    }
}
