//! A thing with named values, in the formats for programs: an object of JSON and YAML, a
//! line of CSV below its keys.

use borealis_proto::v1;
use serde::{Serialize, Serializer};

use super::{Format, Output, Text, csv, time::rfc3339};
use crate::failure::Failure;

/// Named values in the order in which they are printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record(Vec<(&'static str, Value)>);

/// A value of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Number(u64),
    Text(String),
    List(Vec<String>),
}

// === impl Record ===

impl Record {
    pub(super) fn new(values: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        Self(values.into_iter().collect())
    }

    /// Begins with which add-on it is about.
    pub(super) fn about(
        addon: Option<&v1::Addon>,
        values: impl IntoIterator<Item = (&'static str, Value)>,
    ) -> Self {
        let part = |part: fn(&v1::Addon) -> &String| addon.map(part).into();
        let mut all = vec![
            ("addon", part(|addon| &addon.name)),
            ("app", part(|addon| &addon.app)),
            ("attachment", part(|addon| &addon.attachment)),
        ];
        all.extend(values);
        Self(all)
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

// === impl Value ===

impl Value {
    fn field(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Bool(value) => Some(value.to_string()),
            Self::Number(value) => Some(value.to_string()),
            Self::Text(text) => Some(text.clone()),
            Self::List(list) => Some(list.join(" ")),
        }
    }
}

/// Empty means that it isn't known.
impl From<&String> for Value {
    fn from(text: &String) -> Self {
        if text.is_empty() {
            Self::Null
        } else {
            Self::Text(text.clone())
        }
    }
}

impl From<Option<&String>> for Value {
    fn from(text: Option<&String>) -> Self {
        text.map_or(Self::Null, Self::from)
    }
}

impl From<Option<u64>> for Value {
    fn from(number: Option<u64>) -> Self {
        number.map_or(Self::Null, Self::Number)
    }
}

impl From<Option<bool>> for Value {
    fn from(value: Option<bool>) -> Self {
        value.map_or(Self::Null, Self::Bool)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<Option<&prost_types::Timestamp>> for Value {
    fn from(time: Option<&prost_types::Timestamp>) -> Self {
        rfc3339(time).map_or(Self::Null, Self::Text)
    }
}

// === impl Output ===

impl Output {
    /// Prints one thing; `table` is what a person gets.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(super) fn record(
        &self,
        record: &Record,
        table: impl FnOnce() -> Text,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table => self.text(&table()),
            Format::Csv => {
                let keys: Vec<_> = record.0.iter().map(|(key, _)| *key).collect();
                self.data(&csv_of(&keys, std::slice::from_ref(record)))
            }
            Format::Json | Format::Yaml => self.value(record),
        }
    }

    /// Prints any number of things with the same keys.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(super) fn records(
        &self,
        keys: &[&str],
        records: &[Record],
        table: impl FnOnce() -> Text,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Table if records.is_empty() => Ok(()),
            Format::Table => self.text(&table()),
            Format::Csv => self.data(&csv_of(keys, records)),
            Format::Json | Format::Yaml => self.value(&records),
        }
    }
}

fn csv_of(keys: &[&str], records: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    // Writing to memory can't fail.
    let _ = csv::line(&mut out, keys.iter().map(|key| Some(key.as_bytes())));
    for record in records {
        let fields: Vec<_> = record.0.iter().map(|(_, value)| value.field()).collect();
        let fields = fields
            .iter()
            .map(|field| field.as_deref().map(str::as_bytes));
        let _ = csv::line(&mut out, fields);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_null_and_an_empty_field() {
        let record = Record::about(
            None,
            [
                ("size", Some(7).into()),
                ("write", true.into()),
                ("list", Value::List(vec!["a".into(), "b".into()])),
            ],
        );
        assert_eq!(
            serde_json::to_string(&record).unwrap(),
            r#"{"addon":null,"app":null,"attachment":null,"size":7,"write":true,"list":["a","b"]}"#
        );
        assert_eq!(
            csv_of(
                &["addon", "app", "attachment", "size", "write", "list"],
                &[record]
            ),
            b"addon,app,attachment,size,write,list\n,,,7,true,a b\n"
        );
    }
}
