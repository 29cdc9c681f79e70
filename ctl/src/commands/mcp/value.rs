//! What PostgreSQL wrote, as JSON that a model can use: typed, arrays as arrays, bytea as base64,
//! wide values shortened.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{
    output::json::Kind,
    query::reader::{Column, Field},
};

/// Bytes kept of a value.
pub(super) const WIDEST: usize = 4096;
const BYTEA: u32 = 17;
/// Digits that any reader of JSON keeps of a number.
const DIGITS: usize = 15;

/// A value as it is shown.
#[derive(Debug, PartialEq)]
pub(super) struct Shown {
    pub(super) value: Value,
    /// How many bytes it has, where not all are shown.
    pub(super) shortened_from: Option<usize>,
}

/// A column's value.
pub(super) fn shown(column: &Column, field: Option<Field>) -> Shown {
    let whole = |value| Shown {
        value,
        shortened_from: None,
    };
    let Some(field) = field else {
        return whole(Value::Null);
    };
    if column.type_oid == BYTEA {
        return bytea(&field);
    }
    if field.length > field.bytes.len() {
        return Shown {
            value: format!("{}…", beginning(&field.bytes)).into(),
            shortened_from: Some(field.length),
        };
    }
    let text = String::from_utf8_lossy(&field.bytes);
    whole(match column.element_oid {
        Some(element) => array(&text, element).unwrap_or_else(|| text.into()),
        None => scalar(&text, column.type_oid),
    })
}

/// Of bytes that were cut off anywhere, the characters that are whole.
fn beginning(bytes: &[u8]) -> &str {
    match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
    }
}

fn scalar(text: &str, oid: u32) -> Value {
    match (Kind::of_type(oid), text) {
        (Kind::Bool, "t") => true.into(),
        (Kind::Bool, "f") => false.into(),
        (Kind::Number, _) => number(text).unwrap_or_else(|| text.into()),
        (Kind::Json, _) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        _ => text.into(),
    }
}

/// A number, where JSON's readers keep all of its digits.
fn number(text: &str) -> Option<Value> {
    if let Ok(whole) = text.parse::<i64>() {
        return Some(whole.into());
    }
    let mantissa = text.split(['e', 'E']).next().unwrap_or(text);
    let digits = mantissa.trim_start_matches(['-', '0', '.']);
    let digits = digits.bytes().filter(u8::is_ascii_digit).count();
    let float: f64 = text.parse().ok()?;
    // Beyond those digits only what was such a float in the database too.
    let exact = digits <= DIGITS || format!("{float:?}") == text || format!("{float:e}") == text;
    exact.then(|| serde_json::Number::from_f64(float).map(Value::Number))?
}

fn bytea(field: &Field) -> Shown {
    let digits = field.bytes.strip_prefix(b"\\x").unwrap_or_default();
    let bytes: Vec<u8> = digits.as_chunks().0.iter().filter_map(hex).collect();
    Shown {
        value: STANDARD.encode(bytes).into(),
        shortened_from: (field.length > field.bytes.len()).then(|| (field.length - 2) / 2),
    }
}

fn hex(pair: &[u8; 2]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()
}

/// `{1,NULL,"a \"b\""}` and `{{1},{2}}`. What isn't of this form stays a text.
fn array(text: &str, element: u32) -> Option<Value> {
    // Bounds that don't begin at 1 stand in front: `[0:1]={7,8}`.
    let body = match text.strip_prefix('[') {
        Some(bounds) => bounds.split_once('=')?.1,
        None => text,
    };
    let mut rest = body.strip_prefix('{')?;
    let mut open: Vec<Vec<Value>> = vec![Vec::new()];
    loop {
        let c = rest.chars().next()?;
        match c {
            '{' => open.push(Vec::new()),
            ',' => {}
            '}' => {
                let list = Value::Array(open.pop()?);
                let Some(outer) = open.last_mut() else {
                    return (rest == "}").then_some(list);
                };
                outer.push(list);
            }
            _ => {
                let (value, after) = item(rest, element)?;
                open.last_mut()?.push(value);
                rest = after;
                continue;
            }
        }
        rest = &rest[c.len_utf8()..];
    }
}

/// The element in front, and what follows it.
fn item(text: &str, element: u32) -> Option<(Value, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let (bare, after) = text.split_at(text.find([',', '}'])?);
        let is_null = bare.eq_ignore_ascii_case("null");
        let value = if is_null {
            Value::Null
        } else {
            scalar(bare, element)
        };
        return Some((value, after));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    loop {
        match chars.next()? {
            (_, '\\') => value.push(chars.next()?.1),
            (at, '"') => return Some((scalar(&value, element), &quoted[at + 1..])),
            (_, c) => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn column(type_oid: u32, element_oid: Option<u32>) -> Column {
        Column {
            name: "c".into(),
            type_name: String::new(),
            type_oid,
            element_oid,
        }
    }

    fn field(text: &[u8]) -> Option<Field> {
        Some(Field {
            bytes: text.to_vec(),
            length: text.len(),
        })
    }

    fn value(type_oid: u32, text: &str) -> Value {
        let shown = shown(&column(type_oid, None), field(text.as_bytes()));
        assert_eq!(shown.shortened_from, None);
        shown.value
    }

    #[test]
    fn values_have_their_types() {
        assert_eq!(shown(&column(25, None), None).value, Value::Null);
        assert_eq!(value(16, "t"), json!(true));
        assert_eq!(
            value(20, "9223372036854775807"),
            json!(9_223_372_036_854_775_807_i64)
        );
        assert_eq!(value(1700, "12.50"), json!(12.5));
        assert_eq!(value(701, "0.1"), json!(0.1));
        assert_eq!(value(701, "1e+100"), json!(1e100));
        assert_eq!(
            value(701, "0.30000000000000004"),
            json!(0.300_000_000_000_000_04)
        );
        assert_eq!(value(701, "NaN"), json!("NaN"));
        assert_eq!(value(3802, r#"{"a": [1, null]}"#), json!({"a": [1, null]}));
        assert_eq!(
            value(1184, "2026-11-29 12:00:00+00"),
            json!("2026-11-29 12:00:00+00")
        );
        assert_eq!(value(25, "t"), json!("t"));
    }

    #[test]
    fn no_digit_is_lost() {
        for text in [
            "123456789012345678901234567890",
            "0.12345678901234567890",
            "1.00000000000000001",
        ] {
            assert_eq!(value(1700, text), json!(text));
        }
    }

    #[test]
    fn bytes_are_base64() {
        assert_eq!(value(17, "\\x00ff10"), json!("AP8Q"));
        assert_eq!(value(17, "\\x"), json!(""));
        let cut = Field {
            bytes: b"\\x0102".to_vec(),
            length: 2 + 2 * 5000,
        };
        let shown = shown(&column(17, None), Some(cut));
        assert_eq!(
            (shown.value, shown.shortened_from),
            (json!("AQI="), Some(5000))
        );
    }

    #[test]
    fn arrays_are_arrays() {
        let array =
            |element, text: &str| shown(&column(1009, Some(element)), field(text.as_bytes())).value;
        assert_eq!(array(23, "{}"), json!([]));
        assert_eq!(array(23, "{1,NULL,3}"), json!([1, null, 3]));
        assert_eq!(array(23, "{{1,2},{3,4}}"), json!([[1, 2], [3, 4]]));
        assert_eq!(array(23, "[0:1]={7,8}"), json!([7, 8]));
        assert_eq!(
            array(25, r#"{a,"b,\"c}","NULL",""}"#),
            json!(["a", "b,\"c}", "NULL", ""])
        );
        assert_eq!(array(16, "{t,f}"), json!([true, false]));
        assert_eq!(array(114, r#"{"{\"a\": 1}"}"#), json!([{"a": 1}]));
        assert_eq!(array(21, "1 2 3"), json!("1 2 3"));
        assert_eq!(array(23, "{1"), json!("{1"));
    }

    #[test]
    fn wide_values_tell_their_length() {
        let wide = Field {
            bytes: "aé".as_bytes()[..2].to_vec(),
            length: 9000,
        };
        let shown = shown(&column(25, None), Some(wide));
        assert_eq!(
            (shown.value, shown.shortened_from),
            (json!("a…"), Some(9000))
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(oid in 0_u32..3900, element in proptest::option::of(0_u32..3900),
                bytes in proptest::collection::vec(any::<u8>(), 0..40), more in 0_usize..9) {
            let length = bytes.len() + more;
            shown(&column(oid, element), Some(Field { bytes, length }));
        }

        #[test]
        fn texts_come_back_out_of_arrays(items in proptest::collection::vec(any::<String>(), 0..5)) {
            let quoted = items.iter().map(|item| {
                format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\""))
            });
            let text = format!("{{{}}}", quoted.collect::<Vec<_>>().join(","));
            prop_assert_eq!(array(&text, 25), Some(json!(items)));
        }
    }
}
