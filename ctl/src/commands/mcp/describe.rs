//! The tool `describe`: what there is in a database, within a size that a model can take.
//!
//! Where all of it has no room, the least useful goes first; what was left out is said.

use std::ops::ControlFlow;

use serde_json::{Map, Value, json};

use super::{
    answer::{DescribeArguments, Description},
    call::Work,
};
use crate::query::{
    Trouble,
    reader::{Reader, Statement},
};

/// Bytes of JSON that a description may have; less than 32 KiB, for notes beside it.
const ROOM: usize = 31 * 1024;
/// The whole answer of the catalogue, before it is brought to size.
const LONGEST: usize = 8 * 1024 * 1024;
const OVERVIEW: &str = include_str!("describe/overview.sql");
const TABLE: &str = include_str!("describe/table.sql");

/// What is asked for.
pub(super) struct Describe {
    schema: Option<String>,
    table: Option<String>,
}

// === impl Describe ===

impl Describe {
    pub(super) fn of(arguments: DescribeArguments) -> Self {
        let DescribeArguments { schema, table, .. } = arguments;
        match (schema, table) {
            (None, Some(table)) => match table.split_once('.') {
                Some((schema, table)) => Self {
                    schema: Some(schema.to_owned()),
                    table: Some(table.to_owned()),
                },
                None => Self {
                    schema: None,
                    table: Some(table),
                },
            },
            (schema, table) => Self { schema, table },
        }
    }

    fn sql(&self) -> String {
        let text = if self.table.is_some() {
            TABLE
        } else {
            OVERVIEW
        };
        // The comments in front end where the query begins.
        let query = text.find("with ").map_or(text, |at| &text[at..]);
        let table = literal(self.table.as_deref());
        // In one pass: no name is searched for the other's place.
        let parts = query
            .split("$schema$")
            .map(|part| part.replace("$table$", &table));
        parts
            .collect::<Vec<_>>()
            .join(&literal(self.schema.as_deref()))
    }
}

impl Work for Describe {
    /// `None` where there is no such table.
    type Result = Option<Description>;

    async fn run(&self, reader: &mut Reader) -> Result<Self::Result, Trouble> {
        reader.prepare(Statement::Query(&self.sql())).await?;
        let mut told = None;
        reader
            .fetch(1, LONGEST, |fields| {
                told = fields.into_iter().flatten().next();
                ControlFlow::Continue(())
            })
            .await?;
        let told = told.and_then(|field| serde_json::from_slice::<Value>(&field.bytes).ok());
        Ok(told.map(|told| {
            if self.table.is_some() {
                table(told)
            } else {
                overview(told)
            }
        }))
    }
}

/// A text as SQL has it, where `standard_conforming_strings` is on.
fn literal(text: Option<&str>) -> String {
    match text {
        // A null character can't be sent, and is in no name.
        Some(text) => format!("'{}'", text.replace('\'', "''").replace('\0', "")),
        None => "null".into(),
    }
}

fn has_room(description: &Description) -> bool {
    serde_json::to_string(description).is_ok_and(|json| json.len() <= ROOM)
}

// --- an overview ---

/// The fullest of these that there is room for.
fn overview(told: Value) -> Description {
    let database = told.get("database").cloned();
    let total = told.get("total").and_then(Value::as_u64).unwrap_or(0);
    let schemas = told.get("schemas").and_then(Value::as_array);
    let schemas = schemas.map_or(&[][..], Vec::as_slice);
    let described = |schemas: Value, left_out: Option<String>| Description {
        database: database.clone(),
        schemas: Some(schemas),
        left_out,
        ..Description::default()
    };
    const MORE: &str = "ask for one `schema`, or for one `table`, to see more";
    let listed: usize = schemas.iter().map(|schema| tables(schema).len()).sum();
    let all_listed = u64::try_from(listed).is_ok_and(|listed| listed >= total);
    if all_listed {
        let full = described(Value::Array(schemas.to_vec()), None);
        if has_room(&full) {
            return full;
        }
        let without = schemas.iter().map(without_comments).collect();
        let told = described(without, Some(format!("comments; {MORE}")));
        if has_room(&told) {
            return told;
        }
        let counts = schemas
            .iter()
            .map(|schema| names(schema, usize::MAX, true))
            .collect();
        let told = described(
            counts,
            Some(format!(
                "comments, kinds and sizes; the numbers are estimated rows; {MORE}"
            )),
        );
        if has_room(&told) {
            return told;
        }
        let only = schemas
            .iter()
            .map(|schema| names(schema, usize::MAX, false))
            .collect();
        let told = described(only, Some(format!("all but names; {MORE}")));
        if has_room(&told) {
            return told;
        }
    }
    // Fewer names of each schema, until there is room.
    let mut most = 512;
    loop {
        let some: Vec<_> = schemas
            .iter()
            .map(|schema| names(schema, most, false))
            .collect();
        let shown: usize = schemas
            .iter()
            .map(|schema| tables(schema).len().min(most))
            .sum();
        let left_out = format!("all but names, and {shown} of {total} tables are named; {MORE}");
        let told = described(Value::Array(some), Some(left_out));
        if has_room(&told) {
            return told;
        }
        if most == 0 {
            break;
        }
        most /= 2;
    }
    // So many schemas that not even their names have room.
    described(
        json!([]),
        Some(format!(
            "all of {} schemas with {total} tables; {MORE}",
            schemas.len()
        )),
    )
}

fn tables(schema: &Value) -> &[Value] {
    schema["tables"].as_array().map_or(&[], Vec::as_slice)
}

fn without_comments(schema: &Value) -> Value {
    let mut schema = schema.clone();
    if let Some(tables) = schema["tables"].as_array_mut() {
        for table in tables.iter_mut().filter_map(Value::as_object_mut) {
            table.remove("comment");
        }
    }
    schema
}

/// A schema with its tables' names, and their estimated rows where asked for.
fn names(schema: &Value, most: usize, rows: bool) -> Value {
    let tables = tables(schema).iter().take(most);
    let named: Value = if rows {
        let pairs = tables.map(|table| {
            let name = table["name"].as_str().unwrap_or_default().to_owned();
            (name, table["rows"].clone())
        });
        Value::Object(pairs.collect::<Map<_, _>>())
    } else {
        tables.map(|table| table["name"].clone()).collect()
    };
    json!({"schema": schema["schema"], "tables": named})
}

// --- a table ---

/// What of a table can be left out, in this order.
const EXPENDABLE: [(&str, &str); 6] = [
    ("definition", "the definition"),
    ("comment", "comments"),
    ("default", "defaults"),
    ("values", "values of enumerations"),
    ("constraints", "constraints"),
    ("referenced_by", "what refers to it"),
];

fn table(mut told: Value) -> Description {
    let described = |table: &Value, left_out: &[String]| Description {
        table: Some(table.clone()),
        left_out: (!left_out.is_empty())
            .then(|| format!("{}; query pg_catalog to see it", left_out.join(", "))),
        ..Description::default()
    };
    let mut left_out = Vec::new();
    for (key, what) in EXPENDABLE {
        let description = described(&told, &left_out);
        if has_room(&description) {
            return description;
        }
        if removed(&mut told, key) {
            left_out.push(what.to_owned());
        }
    }
    // The lists that are longest lose their ends.
    loop {
        let description = described(&told, &left_out);
        if has_room(&description) {
            return description;
        }
        let lists = ["columns", "indexes", "foreign_keys"];
        let longest = lists
            .iter()
            .max_by_key(|list| told[**list].to_string().len());
        let Some(list) =
            longest.and_then(|list| told[*list].as_array_mut().map(|all| (*list, all)))
        else {
            return described(&json!({}), &["all of it".into()]);
        };
        let (name, all) = list;
        all.truncate(all.len() / 2);
        let what = format!("{name} after {}", all.len());
        left_out.retain(|known| !known.starts_with(name));
        left_out.push(what);
    }
}

/// Whether something of that name was there, in the table, its columns or its indexes.
fn removed(table: &mut Value, key: &str) -> bool {
    let mut found = table
        .as_object_mut()
        .is_some_and(|table| table.remove(key).is_some());
    for list in ["columns", "indexes"] {
        let Some(items) = table.get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            // An index without its definition tells nothing.
            if key != "definition" {
                found |= item.remove(key).is_some();
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(schemas: usize, tables: usize, comment: &str) -> Value {
        let table = |number: usize| json!({"name": format!("a_table_of_some_length_{number}"), "rows": 123_456, "bytes": 987_654_321, "comment": comment});
        let schema = |number: usize| json!({"schema": format!("s{number}"), "tables": (0..tables).map(table).collect::<Vec<_>>()});
        json!({
            "total": schemas * tables,
            "database": {"name": "d"},
            "schemas": (0..schemas).map(schema).collect::<Vec<_>>(),
        })
    }

    fn size(description: &Description) -> usize {
        serde_json::to_string(description).unwrap().len()
    }

    #[test]
    fn an_overview_keeps_as_much_as_there_is_room_for() {
        let small = overview(told(1, 3, "c"));
        assert_eq!(small.left_out, None);
        let schemas = small.schemas.unwrap();
        assert_eq!(schemas[0]["tables"][0]["comment"], "c");
        let expected = [
            (300, "comments; "),
            (500, "comments, kinds and sizes; "),
            (900, "all but names; "),
            (5000, "all but names, and 512 of 5000 tables are named; "),
        ];
        for (tables, left_out) in expected {
            let description = overview(told(1, tables, &"c".repeat(100)));
            assert!(size(&description) <= 32 * 1024);
            let said = description.left_out.unwrap();
            assert!(said.starts_with(left_out), "{tables}: {said}");
        }
        let description = overview(told(1, 500, ""));
        let schemas = description.schemas.unwrap();
        assert_eq!(schemas[0]["tables"].as_object().unwrap().len(), 500);
        for (schemas, tables) in [(3000, 1), (5000, 0), (100, 300)] {
            assert!(size(&overview(told(schemas, tables, "c"))) <= 32 * 1024);
        }
    }

    #[test]
    fn a_table_loses_the_least_useful_first() {
        let column = |number: usize| json!({"name": format!("column_{number}"), "type": "text", "comment": "c".repeat(100), "default": "''"});
        let wide = |columns: usize| json!({"name": "t", "comment": "of the table", "columns": (0..columns).map(column).collect::<Vec<_>>()});
        assert_eq!(table(wide(10)).left_out, None);
        let description = table(wide(400));
        assert!(size(&description) <= 32 * 1024);
        assert_eq!(
            description.left_out.unwrap(),
            "comments; query pg_catalog to see it"
        );
        let description = table(wide(1600));
        assert!(size(&description) <= 32 * 1024);
        let said = description.left_out.unwrap();
        assert!(said.contains("columns after 800"), "{said}");
    }

    #[test]
    fn names_are_quoted() {
        let describe = Describe::of(DescribeArguments {
            table: Some("a'b.c\\'; drop".into()),
            ..DescribeArguments::default()
        });
        let sql = describe.sql();
        assert!(sql.starts_with("with "), "{sql}");
        assert!(sql.contains("c.relname = 'c\\''; drop'"), "{sql}");
        assert!(sql.contains("n.nspname = 'a''b'"), "{sql}");
        let describe = Describe::of(DescribeArguments {
            schema: Some("$table$".into()),
            table: Some("$schema$".into()),
            ..DescribeArguments::default()
        });
        let sql = describe.sql();
        assert!(sql.contains("c.relname = '$schema$'"), "{sql}");
        assert!(sql.contains("n.nspname = '$table$'"), "{sql}");
    }
}
