//! Values of a result set in YAML, one row at a time: JSON's scalars, which YAML 1.2 takes
//! as they are, but for texts and keys that need no quotes.

use std::{borrow::Cow, fmt::Write as _};

use super::json;

/// `value` as a YAML scalar, or as a flow collection where it is JSON.
pub(crate) fn value(kind: json::Kind, value: Option<&[u8]>) -> Cow<'_, str> {
    match (kind, value) {
        (json::Kind::Text, Some(bytes)) => text(&String::from_utf8_lossy(bytes)).into(),
        _ => {
            let json = json::value(kind, value);
            if json.chars().any(is_unprintable) {
                escaped(&json).into()
            } else {
                json
            }
        }
    }
}

/// `text` as a scalar, plain where no version of YAML takes it for anything else.
pub(crate) fn text(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else {
        escaped(&json::string(text))
    }
}

fn is_plain(text: &str) -> bool {
    const OTHER_MEANING: [&str; 9] = ["null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte))
        && !OTHER_MEANING.contains(&text.to_ascii_lowercase().as_str())
}

/// Escapes what JSON allows in a text and YAML doesn't.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unprintable(c) {
            // Writing to memory can't fail.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out
}

/// Outside YAML's `c-printable` (all are of the basic plane), or taken for a line break by it.
fn is_unprintable(c: char) -> bool {
    matches!(
        c,
        '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_texts_go_without_quotes() {
        for plain in ["sushi", "read-only", "a.b/c", "NaN"] {
            assert_eq!(text(plain), plain);
        }
        for (quoted, shown) in [
            ("", "\"\""),
            ("null", "\"null\""),
            ("No", "\"No\""),
            ("2026-11-22", "\"2026-11-22\""),
            ("12:30", "\"12:30\""),
            ("a: b", "\"a: b\""),
            ("two\nlines", "\"two\\nlines\""),
            ("\u{7f}", "\"\\u007f\""),
        ] {
            assert_eq!(text(quoted), shown);
        }
        assert_eq!(value(json::Kind::Number, Some(b"1.50")), "1.50");
        assert_eq!(
            value(json::Kind::Json, Some(b"{\"a\": [1]}")),
            "{\"a\":[1]}"
        );
        assert_eq!(value(json::Kind::Text, None), "null");
    }
}
