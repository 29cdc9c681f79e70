//! YAML: values for programs as documents, and the values of a result set one row at a time.
//! Scalars are JSON's, which YAML 1.2 takes as they are, but for texts and keys that need no
//! quotes. serde's YAML crates can't write a number with the digits that PostgreSQL sent, so
//! rows need a writer of scalars; documents use the same one.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, SeqAccess, Visitor},
};

use super::json;

/// `value` as a document, with the keys in their order.
///
/// # Errors
/// Those of its serialisation.
pub(crate) fn document(value: &impl Serialize) -> serde_json::Result<String> {
    let node: Node = serde_json::from_str(&serde_json::to_string(value)?)?;
    let mut out = String::new();
    match &node {
        Node::List(_) | Node::Map(_) if !node.is_empty() => node.write(&mut out, 0),
        _ => {
            out.push_str(&node.scalar());
            out.push('\n');
        }
    }
    Ok(out)
}

/// `value` as a YAML scalar, or as a flow collection where it is JSON.
pub(crate) fn value(kind: json::Kind, value: Option<&[u8]>) -> Cow<'_, str> {
    match (kind, value) {
        (json::Kind::Text, Some(bytes)) => text(&String::from_utf8_lossy(bytes)).into(),
        _ => json::value(kind, value),
    }
}

/// `text` as a scalar, plain where no version of YAML takes it for anything else.
pub(crate) fn text(text: &str) -> String {
    if is_plain(text) {
        text.to_owned()
    } else {
        json::string(text)
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

/// What JSON can hold, with the keys of an object in their order.
enum Node {
    /// As it is written in JSON and in YAML.
    Literal(String),
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

// === impl Node ===

impl Node {
    fn is_empty(&self) -> bool {
        match self {
            Self::Literal(_) | Self::Text(_) => true,
            Self::List(items) => items.is_empty(),
            Self::Map(entries) => entries.is_empty(),
        }
    }

    /// What fits behind a key or a dash.
    fn scalar(&self) -> Cow<'_, str> {
        match self {
            Self::Literal(literal) => literal.as_str().into(),
            Self::Text(content) => text(content).into(),
            Self::List(_) => "[]".into(),
            Self::Map(_) => "{}".into(),
        }
    }

    /// The lines of a collection that isn't empty, the first one behind what `out` ends with.
    fn write(&self, out: &mut String, indent: usize) {
        let blanks = " ".repeat(indent);
        match self {
            Self::Literal(_) | Self::Text(_) => {}
            Self::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { &blanks });
                    out.push_str("- ");
                    item.write_behind(out, indent + 2, false);
                }
            }
            Self::Map(entries) => {
                for (index, (key, value)) in entries.iter().enumerate() {
                    out.push_str(if index == 0 { "" } else { &blanks });
                    out.push_str(&text(key));
                    out.push(':');
                    value.write_behind(out, indent + 2, true);
                }
            }
        }
    }

    /// Behind a dash, which a collection goes on from, or behind a key, which it goes below.
    fn write_behind(&self, out: &mut String, indent: usize, key: bool) {
        match (self.is_empty(), key) {
            (true, _) => {
                out.push_str(if key { " " } else { "" });
                out.push_str(&self.scalar());
                out.push('\n');
            }
            (false, true) => {
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                self.write(out, indent);
            }
            (false, false) => self.write(out, indent),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Nodes;

        impl<'de> Visitor<'de> for Nodes {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }

            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Literal("null".into()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Literal(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Literal(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Literal(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                Ok(Node::Literal(serde_json::json!(value).to_string()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Text(value.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Node::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                Ok(Node::Map(map))
            }
        }

        deserializer.deserialize_any(Nodes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

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
            ("\u{7f}\u{9b}\u{202e}", "\"\\u007f\\u009b\\u202e\""),
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

    #[test]
    fn collections_are_indented_and_keys_keep_their_order() {
        #[derive(Serialize)]
        struct Session {
            name: &'static str,
            connections: Connections,
            places: Vec<&'static str>,
            none: [u8; 0],
            lists: Vec<Vec<u8>>,
        }
        #[derive(Serialize)]
        struct Connections {
            total: u8,
            active: Option<u8>,
        }
        let session = || Session {
            name: "sushi",
            connections: Connections {
                total: 40,
                active: None,
            },
            places: vec!["a b", "c"],
            none: [],
            lists: vec![vec![1, 2], vec![]],
        };
        let one = "name: sushi\nconnections:\n  total: 40\n  active: null\nplaces:\n  - \"a b\"\n  - c\n\
                   none: []\nlists:\n  - - 1\n    - 2\n  - []\n";
        assert_eq!(document(&session()).unwrap(), one);
        let indented = one.trim_end().replace('\n', "\n  ");
        let two = format!("- {indented}\n- {indented}\n");
        assert_eq!(document(&[session(), session()]).unwrap(), two);
        assert_eq!(document(&json!([])).unwrap(), "[]\n");
        assert_eq!(document(&json!({})).unwrap(), "{}\n");
        assert_eq!(document(&json!("x y")).unwrap(), "\"x y\"\n");
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let scalar = prop_oneof![
            any::<String>().prop_map(|text| json!(text)),
            any::<i32>().prop_map(|number| json!(number)),
            any::<bool>().prop_map(|value| json!(value)),
            Just(json!(null)),
        ];
        scalar.prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(|list| json!(list)),
                proptest::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_yaml_reader_gets_back_what_was_written(value in any_json()) {
            let yaml = document(&value).unwrap();
            let read: serde_json::Value = serde_saphyr::from_str(&yaml)
                .map_err(|error| TestCaseError::fail(format!("{error}: {yaml}")))?;
            prop_assert_eq!(read, value, "{}", yaml);
        }
    }
}
