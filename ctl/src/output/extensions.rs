//! PostgreSQL extensions.

use borealis_proto::v1;

use super::{
    Output,
    record::Record,
    table::{self, Cell},
};
use crate::failure::Failure;

// === impl Output ===

impl Output {
    /// Prints extensions.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn extensions(&self, extensions: &[v1::Extension]) -> Result<(), Failure> {
        let record = |extension: &v1::Extension| {
            Record::new([
                ("name", (&extension.name).into()),
                ("version", (&extension.version).into()),
                ("schema", (&extension.schema).into()),
            ])
        };
        let records: Vec<_> = extensions.iter().map(record).collect();
        self.records(&["name", "version", "schema"], &records, || {
            let row = |extension: &v1::Extension| {
                vec![
                    Cell::new(&extension.name),
                    Cell::new(&extension.version),
                    Cell::new(&extension.schema),
                ]
            };
            let rows: Vec<_> = extensions.iter().map(row).collect();
            table::columns(
                &["EXTENSION", "VERSION", "SCHEMA"],
                &rows,
                self.results,
                None,
            )
        })
    }
}
