//! PostgreSQL major versions.

use borealis_proto::v1;

use super::{
    Output, Text,
    addon::{NOTHING, named},
    record::Record,
    table::{self, Cell},
};
use crate::failure::Failure;

// === impl Output ===

impl Output {
    /// Prints whether a newer major version can be had.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn upgrade(&self, answer: &v1::GetUpgradeResponse) -> Result<(), Failure> {
        let (current, next) = (
            &answer.current_pg_major_version,
            &answer.next_pg_major_version,
        );
        let record = Record::about(
            answer.addon.as_ref(),
            [
                ("current_pg_major_version", current.into()),
                ("next_pg_major_version", next.into()),
                ("upgrade_status", (&answer.upgrade_status).into()),
            ],
        );
        self.record(&record, || {
            let text = |text: &str| Cell::new(if text.is_empty() { NOTHING } else { text });
            let lines = [
                ("Current PostgreSQL major version", text(current)),
                ("Next PostgreSQL major version", text(next)),
                ("Upgrade Status", text(&answer.upgrade_status)),
            ];
            table::labelled(&lines, self.results)
        })
    }

    /// Prints that an upgrade is under way.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn upgrade_started(
        &self,
        answer: &v1::ExecuteUpgradeResponse,
    ) -> Result<(), Failure> {
        let (current, to) = (
            &answer.current_pg_major_version,
            &answer.target_pg_major_version,
        );
        let record = Record::about(
            answer.addon.as_ref(),
            [
                ("current_pg_major_version", current.into()),
                ("target_pg_major_version", to.into()),
            ],
        );
        self.record(&record, || {
            let addon = answer.addon.clone().unwrap_or_default();
            Text::sentence(&format!(
                "{} is being upgraded from PostgreSQL {current} to {to} in the background",
                addon.name
            ))
        })
    }

    /// Prints what was done with an add-on, where the add-on is all there is to tell.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn done_with(&self, addon: Option<&v1::Addon>, done: &str) -> Result<(), Failure> {
        self.record(&Record::about(addon, []), || {
            let addon = addon.cloned().unwrap_or_default();
            Text::sentence(&format!("{done} {}", named(&addon)))
        })
    }
}
