//! The tools `query` and `explain`: rows within their bounds, and plans.

use std::ops::ControlFlow;

use serde_json::Value;

use super::{
    answer::{ColumnShown, Cut, Plan, Rows, Shortened},
    call::Work,
    statement::Kind,
    value::{self, Shown},
};
use crate::query::{
    Trouble,
    reader::{Column, Field, Reader, Statement},
};

/// How much is passed on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) rows: u32,
    pub(super) bytes: usize,
}

/// A statement whose rows are wanted.
pub(super) struct Query<'a> {
    pub(super) sql: &'a str,
    pub(super) kind: Kind,
    pub(super) bounds: Bounds,
}

/// A statement whose plan is wanted.
pub(super) struct Explain<'a> {
    pub(super) sql: &'a str,
    pub(super) analyze: bool,
    pub(super) bounds: Bounds,
}

/// Rows as they come.
struct Collector<'a> {
    columns: &'a [Column],
    bounds: Bounds,
    rows: Vec<Vec<Value>>,
    shortened: Vec<Shortened>,
    bytes: usize,
    /// Rows that have come, shown or not.
    seen: usize,
}

// === impl Query ===

impl Work for Query<'_> {
    type Result = Rows;

    async fn run(&self, reader: &mut Reader) -> Result<Rows, Trouble> {
        let statement = match self.kind {
            Kind::Query => Statement::Query(self.sql),
            Kind::Show => Statement::Show(self.sql),
        };
        let columns = reader.prepare(statement).await?;
        let mut collector = Collector::new(&columns, self.bounds);
        // One more than is shown: so it is known whether there are more.
        let most = self.bounds.rows.saturating_add(1);
        reader
            .fetch(most, value::WIDEST, |fields| collector.take(fields))
            .await?;
        Ok(collector.finish())
    }
}

// === impl Explain ===

impl Work for Explain<'_> {
    type Result = Plan;

    async fn run(&self, reader: &mut Reader) -> Result<Plan, Trouble> {
        let statement = if self.analyze {
            Statement::Measured(self.sql)
        } else {
            Statement::Plan(self.sql)
        };
        reader.prepare(statement).await?;
        let mut plan = String::new();
        let mut cut = false;
        reader
            .fetch(u32::MAX, value::WIDEST, |fields| {
                let line = fields.into_iter().flatten().next();
                let line = line.map(|field| String::from_utf8_lossy(&field.bytes).into_owned());
                let line = line.unwrap_or_default();
                cut = plan.len() + line.len() >= self.bounds.bytes;
                if cut {
                    return ControlFlow::Break(());
                }
                plan += &line;
                plan.push('\n');
                ControlFlow::Continue(())
            })
            .await?;
        Ok(Plan {
            plan,
            analyzed: self.analyze,
            cut,
            notes: Vec::new(),
        })
    }
}

// === impl Collector ===

impl<'a> Collector<'a> {
    fn new(columns: &'a [Column], bounds: Bounds) -> Self {
        Self {
            columns,
            bounds,
            rows: Vec::new(),
            shortened: Vec::new(),
            bytes: 0,
            seen: 0,
        }
    }

    fn take(&mut self, fields: Vec<Option<Field>>) -> ControlFlow<()> {
        self.seen += 1;
        if self.rows.len() >= self.bounds.rows as usize {
            return ControlFlow::Break(());
        }
        let mut values = Vec::with_capacity(fields.len());
        let mut shortened = Vec::new();
        for (column, field) in self.columns.iter().zip(fields) {
            let Shown {
                value,
                shortened_from,
            } = value::shown(column, field);
            values.push(value);
            shortened.extend(shortened_from.map(|bytes| Shortened {
                row: self.rows.len(),
                column: column.name.clone(),
                bytes,
            }));
        }
        // A list of values can always be written as JSON.
        let bytes = serde_json::to_string(&values).map_or(0, |json| json.len() + 1);
        if self.bytes + bytes > self.bounds.bytes {
            return ControlFlow::Break(());
        }
        self.bytes += bytes;
        self.rows.push(values);
        self.shortened.append(&mut shortened);
        ControlFlow::Continue(())
    }

    fn finish(self) -> Rows {
        let after = self.rows.len();
        let cut = (self.seen > after).then(|| {
            let because = if after >= self.bounds.rows as usize {
                format!("cut after {after} of at least {} rows: add LIMIT, WHERE or an aggregate", self.seen)
            } else {
                format!(
                    "cut after {after} of at least {} rows, at {} bytes: ask for fewer columns, or parts of them",
                    self.seen, self.bounds.bytes
                )
            };
            Cut {
                after,
                of_at_least: self.seen,
                because,
            }
        });
        let column = |column: &Column| ColumnShown {
            name: column.name.clone(),
            type_name: column.type_name.clone(),
        };
        Rows {
            columns: self.columns.iter().map(column).collect(),
            row_count: after,
            rows: self.rows,
            cut,
            shortened: self.shortened,
            notes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn columns() -> [Column; 1] {
        [Column {
            name: "t".into(),
            type_name: "text".into(),
            type_oid: 25,
            element_oid: None,
        }]
    }

    fn row(text: &str, length: usize) -> Vec<Option<Field>> {
        vec![Some(Field {
            bytes: text.into(),
            length,
        })]
    }

    #[test]
    fn rows_are_cut_by_number_and_by_size() {
        let columns = columns();
        let collect = |bounds, texts: &[&str]| {
            let mut collector = Collector::new(&columns, bounds);
            for text in texts {
                if collector.take(row(text, text.len())).is_break() {
                    break;
                }
            }
            collector.finish()
        };
        let all = collect(
            Bounds {
                rows: 2,
                bytes: 1000,
            },
            &["a", "b"],
        );
        assert_eq!(all.rows, [[json!("a")], [json!("b")]]);
        assert!(all.cut.is_none());
        let cut = collect(
            Bounds {
                rows: 2,
                bytes: 1000,
            },
            &["a", "b", "c"],
        )
        .cut
        .unwrap();
        assert_eq!((cut.after, cut.of_at_least), (2, 3));
        assert!(cut.because.starts_with("cut after 2 of at least 3 rows"));
        let cut = collect(Bounds { rows: 9, bytes: 14 }, &["aaa", "bbb", "c"]);
        assert_eq!(cut.row_count, 1);
        assert!(cut.cut.unwrap().because.contains("at 14 bytes"));
    }

    #[test]
    fn only_rows_that_are_shown_tell_what_was_shortened() {
        let columns = columns();
        let mut collector = Collector::new(
            &columns,
            Bounds {
                rows: 1,
                bytes: 1000,
            },
        );
        assert!(collector.take(row("ab", 5000)).is_continue());
        assert!(collector.take(row("cd", 6000)).is_break());
        let rows = collector.finish();
        assert_eq!(rows.rows, [[json!("ab…")]]);
        let [shortened] = rows.shortened.as_slice() else {
            panic!("not one");
        };
        assert_eq!((shortened.row, shortened.bytes), (0, 5000));
    }
}
