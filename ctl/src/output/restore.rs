//! Restores and clones.

use borealis_proto::v1;

use super::{
    Format, Output, Text,
    addon::{NOTHING, status},
    record::Record,
    table::{self, Cell},
    time::local,
};
use crate::failure::Failure;

// === impl Output ===

impl Output {
    /// Prints whether and to which times an add-on can be restored.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn capabilities(
        &self,
        answer: &v1::GetRestoreCapabilitiesResponse,
    ) -> Result<(), Failure> {
        let record = Record::about(
            answer.addon.as_ref(),
            [
                ("clone_supported", answer.clone_supported.into()),
                ("restore_supported", answer.restore_supported.into()),
                (
                    "earliest_restorable_time",
                    answer.earliest_restorable_time.as_ref().into(),
                ),
                (
                    "latest_restorable_time",
                    answer.latest_restorable_time.as_ref().into(),
                ),
            ],
        );
        self.record(&record, || {
            let yes_or_no = |value| match value {
                Some(true) => Cell::new("Yes"),
                Some(false) => Cell::new("No"),
                None => Cell::new(NOTHING),
            };
            let time = |time: Option<&prost_types::Timestamp>| {
                Cell::new(local(time).unwrap_or_else(|| NOTHING.to_owned()))
            };
            let lines = [
                ("Clone Supported", yes_or_no(answer.clone_supported)),
                (
                    "Point-in-time Restore Supported",
                    yes_or_no(answer.restore_supported),
                ),
                (
                    "Earliest Restorable Time",
                    time(answer.earliest_restorable_time.as_ref()),
                ),
                (
                    "Latest Restorable Time",
                    time(answer.latest_restorable_time.as_ref()),
                ),
            ];
            table::labelled(&lines, self.results)
        })
    }

    /// Prints the add-on that a restore or clone makes, as it was started.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn restore_started(
        &self,
        answer: &v1::ExecuteRestoreResponse,
    ) -> Result<(), Failure> {
        self.record(&record(answer, None), || Text::sentence(&started(answer)))
    }

    /// Tells that a restore or clone has begun, before its end is waited for: a person gets
    /// it as the first line of the result, a program's result comes at the end.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn restore_begun(&self, answer: &v1::ExecuteRestoreResponse) -> Result<(), Failure> {
        let text = started(answer);
        if self.format == Format::Table {
            self.text(&Text::sentence(&text))
        } else {
            self.note(&text);
            Ok(())
        }
    }

    /// Prints the add-on that was waited for.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn restore_done(
        &self,
        answer: &v1::ExecuteRestoreResponse,
        end: &v1::WaitForAddonResponse,
    ) -> Result<(), Failure> {
        self.record(&record(answer, Some(end)), || {
            let addon = answer.addon.clone().unwrap_or_default();
            Text::sentence(&format!("{}: {}", addon.name, status(&end.status)))
        })
    }
}

fn record(answer: &v1::ExecuteRestoreResponse, end: Option<&v1::WaitForAddonResponse>) -> Record {
    let state = end.map_or(&answer.state, |end| &end.state);
    Record::about(
        answer.addon.as_ref(),
        [
            ("plan", (&answer.plan).into()),
            (
                "source_addon",
                answer.source.as_ref().map(|source| &source.name).into(),
            ),
            ("restore_to_time", answer.restore_to.as_ref().into()),
            ("created", answer.created.into()),
            ("state", state.into()),
            ("status", end.map(|end| &end.status).into()),
        ],
    )
}

fn started(answer: &v1::ExecuteRestoreResponse) -> String {
    let addon = answer.addon.clone().unwrap_or_default();
    let source = answer.source.clone().unwrap_or_default();
    let what = match local(answer.restore_to.as_ref()) {
        Some(time) => format!("{} as it was on {time}", source.name),
        None => format!("a clone of {}", source.name),
    };
    let (name, app) = (addon.name, addon.app);
    if answer.created {
        format!("{name} is being created on app {app}: {what}")
    } else {
        format!("{name} was asked for before and is not started again: on app {app}, {what}")
    }
}
