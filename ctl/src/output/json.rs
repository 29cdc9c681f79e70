//! Values of a result set in JSON, typed by their column and with every digit that
//! PostgreSQL sent.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::text::escape_in_quotes;

/// What JSON has for a column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A number, but for NaN and the infinities, which JSON doesn't have.
    Number,
    /// `t` and `f`.
    Bool,
    /// JSON itself.
    Json,
    /// Everything else, as the text that PostgreSQL sent.
    Text,
}

// === impl Kind ===

impl Kind {
    /// By the type's object identifier (PostgreSQL's `pg_type.dat`).
    pub(crate) fn of_type(oid: u32) -> Self {
        match oid {
            16 => Self::Bool,
            // int8, int2, int4, oid, float4, float8, numeric
            20 | 21 | 23 | 26 | 700 | 701 | 1700 => Self::Number,
            114 | 3802 => Self::Json,
            _ => Self::Text,
        }
    }
}

/// `value` as JSON on one line.
pub(crate) fn value(kind: Kind, value: Option<&[u8]>) -> Cow<'_, str> {
    let Some(bytes) = value else {
        return Cow::Borrowed("null");
    };
    let text = String::from_utf8_lossy(bytes);
    match kind {
        Kind::Bool if text == "t" => Cow::Borrowed("true"),
        Kind::Bool if text == "f" => Cow::Borrowed("false"),
        Kind::Number if is_number(&text) => text,
        Kind::Json if serde_json::from_str::<&RawValue>(&text).is_ok() => {
            escape_in_quotes(&compact(&text)).into_owned().into()
        }
        _ => string(&text).into(),
    }
}

/// `text` as a JSON string, with escapes for all that a terminal would obey.
pub(crate) fn string(text: &str) -> String {
    // A text can always be written as JSON.
    let quoted = serde_json::to_string(text).unwrap_or_default();
    escape_in_quotes(&quoted).into_owned()
}

/// Whether `text` is a number by JSON's grammar (RFC 8259, section 6).
fn is_number(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let text = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole.len() == 1 || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

/// Valid JSON without the white space between its tokens; nothing else changes, not even
/// keys that come twice.
fn compact(json: &str) -> String {
    let mut inside = false;
    let mut escaped = false;
    json.chars()
        .filter(|&c| {
            let keep = inside || !c.is_ascii_whitespace();
            match c {
                _ if escaped => escaped = false,
                '\\' if inside => escaped = true,
                '"' => inside = !inside,
                _ => {}
            }
            keep
        })
        .collect()
}

/// Column names for objects: one that comes again gets `_2`, `_3` … appended.
pub(crate) fn unique_names(names: &[String]) -> Vec<String> {
    let mut unique: Vec<String> = Vec::with_capacity(names.len());
    for name in names {
        let taken = |candidate: &String| {
            unique.contains(candidate) || (candidate != name && names.contains(candidate))
        };
        let mut candidate = name.clone();
        let mut number = 2;
        while taken(&candidate) {
            candidate = format!("{name}_{number}");
            number += 1;
        }
        unique.push(candidate);
    }
    unique
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(kind: Kind, text: &str) -> String {
        value(kind, Some(text.as_bytes())).into_owned()
    }

    #[test]
    fn numbers_keep_every_digit() {
        for exact in [
            "0",
            "-1",
            "12345678901234567890.1230",
            "1e+20",
            "1.5e-07",
            "9223372036854775807",
        ] {
            assert_eq!(shown(Kind::Number, exact), exact);
        }
        for no_number in [
            "NaN",
            "Infinity",
            "-Infinity",
            "01",
            ".5",
            "5.",
            "",
            "-",
            "1e",
        ] {
            assert_eq!(shown(Kind::Number, no_number), format!("\"{no_number}\""));
        }
    }

    #[test]
    fn other_kinds() {
        assert_eq!(value(Kind::Text, None), "null");
        assert_eq!(shown(Kind::Bool, "t"), "true");
        assert_eq!(shown(Kind::Bool, "f"), "false");
        assert_eq!(shown(Kind::Text, "t"), "\"t\"");
        assert_eq!(shown(Kind::Text, "a\"b\n\u{1}"), r#""a\"b\n\u0001""#);
        assert_eq!(
            shown(
                Kind::Json,
                "{ \"a b\" : [1,\n 2.50],  \"a b\" : \"\\\" x\" }"
            ),
            r#"{"a b":[1,2.50],"a b":"\" x"}"#
        );
        assert_eq!(shown(Kind::Json, "{broken"), "\"{broken\"");
    }

    #[test]
    fn no_column_is_lost_to_another_of_its_name() {
        let names = |names: &[&str]| {
            unique_names(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(names(&["a", "a", "a"]), ["a", "a_2", "a_3"]);
        assert_eq!(names(&["a", "a", "a_2"]), ["a", "a_3", "a_2"]);
        assert_eq!(names(&["a_2", "a", "a"]), ["a_2", "a", "a_3"]);
    }

    proptest! {
        #[test]
        fn whatever_the_value_it_is_valid_json_on_one_line(
            bytes in proptest::collection::vec(any::<u8>(), 0..40), kind in 0..4,
        ) {
            let kind = [Kind::Number, Kind::Bool, Kind::Json, Kind::Text][usize::try_from(kind).unwrap()];
            let text = value(kind, Some(&bytes));
            prop_assert!(serde_json::from_str::<&RawValue>(&text).is_ok(), "{}", text);
            prop_assert!(!text.contains(borealis_proto::text::is_unsafe), "{}", text);
        }

        #[test]
        fn compacting_changes_no_meaning(value in "[a-z \\\\\"\n]{0,20}", number: i32) {
            let json = serde_json::json!({ "k": [value, number, null, true], "o": { "x": 1.5 } });
            let pretty = serde_json::to_string_pretty(&json).unwrap();
            prop_assert_eq!(compact(&pretty), json.to_string());
        }
    }
}
