//! Words for shells: quoted where they need it, and only there.

/// `text` as one word of sh, bash, zsh or an `.envrc`.
pub(crate) fn sh(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// `text` as one word of fish, where a backslash counts inside quotes.
pub(crate) fn fish(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
    }
}

/// Whether no shell sees anything in `text` but letters.
fn is_plain(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@_+:,./-".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_needs_it_is_quoted() {
        assert_eq!(
            sh("postgres://u:p@127.0.0.1:15432/d"),
            "postgres://u:p@127.0.0.1:15432/d"
        );
        assert_eq!(sh(""), "''");
        assert_eq!(sh("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(fish(r"a'b\c"), r"'a\'b\\c'");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn a_real_shell_reads_back_what_was_quoted(text in "[^\0]{0,40}") {
            let output = std::process::Command::new("/bin/sh")
                .arg("-c")
                .arg(format!("printf %s {}", sh(&text)))
                .output()
                .unwrap();
            prop_assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }
}
