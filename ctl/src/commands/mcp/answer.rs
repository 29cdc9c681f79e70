//! What the tools take and give, with their JSON schemas.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Arguments of `list_databases`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListArguments {}

/// Arguments of `describe`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DescribeArguments {
    /// A name that list_databases gives; may be left out where there is only one.
    #[serde(default)]
    pub(super) database: Option<String>,
    /// Only this schema.
    #[serde(default)]
    pub(super) schema: Option<String>,
    /// One table or view in full: `orders` or `shop.orders`, without quotes.
    #[serde(default)]
    pub(super) table: Option<String>,
}

/// Arguments of `query`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QueryArguments {
    /// A name that list_databases gives; may be left out where there is only one.
    #[serde(default)]
    pub(super) database: Option<String>,
    /// One SELECT, VALUES, TABLE, WITH or SHOW statement in PostgreSQL's SQL.
    pub(super) sql: String,
}

/// Arguments of `explain`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainArguments {
    /// A name that list_databases gives; may be left out where there is only one.
    #[serde(default)]
    pub(super) database: Option<String>,
    /// One statement, without EXPLAIN in front. It isn't executed unless `analyze` is true.
    pub(super) sql: String,
    /// Execute the query and measure it. Queries only: nothing that writes.
    #[serde(default)]
    pub(super) analyze: bool,
}

/// What `list_databases` gives.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Databases {
    /// The databases that the other tools take.
    pub(super) databases: Vec<Database>,
    /// What to do where something is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) hint: Option<String>,
}

/// A database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Database {
    /// What to pass as `database`.
    pub(super) database: String,
    /// The Heroku app, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) app: Option<String>,
    /// The add-on, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) addon: Option<String>,
    /// The session's state: up, opening, reconnecting, …, or closed: then it is opened when it is
    /// needed.
    pub(super) state: String,
}

/// What `query` gives.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Rows {
    /// The columns, in their order.
    pub(super) columns: Vec<ColumnShown>,
    /// The rows, each with a value for each column. Numbers with more digits than JSON keeps are
    /// strings; bytea is base64.
    pub(super) rows: Vec<Vec<Value>>,
    /// How many rows these are.
    pub(super) row_count: usize,
    /// Present where there are more rows than these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cut: Option<Cut>,
    /// Values of which only the beginning is shown, which ends with "…".
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) shortened: Vec<Shortened>,
    /// What the call had to wait for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
}

/// A column.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ColumnShown {
    /// Its name.
    pub(super) name: String,
    /// Its type, as PostgreSQL writes it.
    #[serde(rename = "type")]
    pub(super) type_name: String,
}

/// That there are more rows.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Cut {
    /// Rows that are shown.
    pub(super) after: usize,
    /// Rows that there are at least.
    pub(super) of_at_least: usize,
    /// Which limit it was, and what to do.
    pub(super) because: String,
}

/// A value that is shown in part.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Shortened {
    /// The row's number, from 0.
    pub(super) row: usize,
    /// The column's name.
    pub(super) column: String,
    /// Bytes that the whole value has.
    pub(super) bytes: usize,
}

/// What `explain` gives.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Plan {
    /// PostgreSQL's plan, as text.
    pub(super) plan: String,
    /// Whether the query was executed for it.
    pub(super) analyzed: bool,
    /// Present and true where the plan is longer than this.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) cut: bool,
    /// What the call had to wait for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
}

/// What `describe` gives: an overview, or one table.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Description {
    /// The database's name and version, its size in bytes and its extensions. Of an overview.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) database: Option<Value>,
    /// By schema: each table as an object, or only its name where there is no room for more. Of an
    /// overview.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) schemas: Option<Value>,
    /// Columns, keys, foreign keys both ways, indexes, checks, comments, estimated rows, sizes in
    /// bytes. Of one table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) table: Option<Value>,
    /// What was left out for lack of room, and how to get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) left_out: Option<String>,
    /// What the call had to wait for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
}
