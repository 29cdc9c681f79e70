//! Add-ons: the provider's words as its own client shows them, and what one is like.

use anstyle::AnsiColor;
use borealis_proto::v1;

use super::{
    Output,
    record::Record,
    size::{per_cent, size},
    table::{self, Cell},
    time::local,
};
use crate::failure::Failure;

/// Shown where the provider says nothing.
pub(super) const NOTHING: &str = "N/A";

// === impl Output ===

impl Output {
    /// Prints what an add-on is like.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn addon(&self, answer: &v1::GetAddonResponse) -> Result<(), Failure> {
        let info = answer.info.clone().unwrap_or_default();
        let addon = answer.addon.clone().unwrap_or_default();
        self.record(&record(&addon, &info), || {
            table::labelled(&lines(&addon, &info), self.results)
        })
    }
}

/// An add-on as sentences name it.
pub(crate) fn named(addon: &v1::Addon) -> String {
    format!("add-on {} (app {})", addon.name, addon.app)
}

/// A status as the provider's own client shows it; an unknown one as it came.
pub(crate) fn status(value: &str) -> &str {
    match value {
        "available" => "Available",
        "awaiting" | "configuring" | "provisioning" => "Provisioning",
        "requested" => "Requested",
        "maintenance" => "Undergoing maintenance",
        "maintenance-db-credentials-full-reset" => "Resetting DB credentials",
        "maintenance-postgresql-major-version-upgrade" => "Upgrading PostgreSQL major version",
        "maintenance-plan-change" => "Changing add-on plan",
        "maintenance-restore-db-write-access" => "Restoring DB write access",
        "maintenance-revoke-db-write-access" => "Revoking DB write access",
        other => other,
    }
}

fn region(value: &str) -> &str {
    match value {
        "us-east-1" => "N. Virginia (United States)",
        "eu-west-1" => "Ireland (Europe)",
        "eu-central-1" => "Frankfurt",
        "ap-northeast-1" => "Tokyo",
        "ap-southeast-2" => "Sydney",
        "us-west-2" => "Oregon",
        other => other,
    }
}

fn tenancy(value: &str) -> &str {
    match value {
        "isolated" => "Single Tenant",
        "shared" => "Multi-tenant",
        other => other,
    }
}

fn compliance(value: &str) -> &str {
    match value {
        "ok" => "OK",
        "proximity-warning" => "Proximity Warning",
        "restricted" => "Restricted",
        "violating" => "Violating",
        other => other,
    }
}

fn record(addon: &v1::Addon, info: &v1::AddonInfo) -> Record {
    Record::about(
        Some(addon),
        [
            ("status", (&info.status).into()),
            ("region", (&info.region).into()),
            ("plan_name", (&info.plan_name).into()),
            ("db_tenancy_type", (&info.db_tenancy_type).into()),
            ("postgres_version", (&info.postgres_version).into()),
            ("db_storage_max_bytes", info.db_storage_max_bytes.into()),
            ("db_storage_usage_bytes", info.db_storage_usage_bytes.into()),
            ("replica_quantity", info.replica_quantity.into()),
            ("app_db_name", (&info.app_db_name).into()),
            ("created_at", info.created_at.as_ref().into()),
            (
                "restore_source_addon_name",
                (&info.restore_source_addon_name).into(),
            ),
            (
                "storage_compliance_status",
                (&info.storage_compliance_status).into(),
            ),
            (
                "storage_compliance_deadline",
                info.storage_compliance_deadline.as_ref().into(),
            ),
        ],
    )
}

fn lines(addon: &v1::Addon, info: &v1::AddonInfo) -> Vec<(&'static str, Cell)> {
    let or =
        |text: &str, otherwise: &str| Cell::new(if text.is_empty() { otherwise } else { text });
    let text = |text: &str| or(text, NOTHING);
    let time = |time: Option<&prost_types::Timestamp>| text(&local(time).unwrap_or_default());
    let used = info.db_storage_usage_bytes.map(|used| {
        let share = info
            .db_storage_max_bytes
            .and_then(|max| per_cent(used, max));
        match share {
            Some(share) => format!("{} ({share} %)", size(used)),
            None => size(used),
        }
    });
    vec![
        ("Add-on Name", text(&addon.name)),
        ("App", text(&addon.app)),
        ("Status", coloured(&info.status, status, "available")),
        ("Region", text(region(&info.region))),
        ("Plan Name", text(&info.plan_name)),
        ("Environment", text(tenancy(&info.db_tenancy_type))),
        ("PostgreSQL Version", text(&info.postgres_version)),
        (
            "Maximum Storage",
            text(&info.db_storage_max_bytes.map(size).unwrap_or_default()),
        ),
        ("Storage Used", text(&used.unwrap_or_default())),
        (
            "Read-only Replicas",
            text(
                &info
                    .replica_quantity
                    .map(|n| n.to_string())
                    .unwrap_or_default(),
            ),
        ),
        ("App DB Name", or(&info.app_db_name, "(pending)")),
        ("Created At", time(info.created_at.as_ref())),
        (
            "Restored/Cloned From Add-on",
            text(&info.restore_source_addon_name),
        ),
        (
            "Storage Compliance Status",
            coloured(&info.storage_compliance_status, compliance, "ok"),
        ),
        (
            "Storage Compliance Deadline",
            time(info.storage_compliance_deadline.as_ref()),
        ),
    ]
}

/// Green for the one value that is as it should be.
fn coloured(value: &str, name: fn(&str) -> &str, good: &str) -> Cell {
    match name(value) {
        "" => Cell::new(NOTHING),
        shown if value == good => Cell::coloured(shown, AnsiColor::Green),
        shown => Cell::coloured(shown, AnsiColor::Yellow),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_providers_and_unknown_ones_stay() {
        assert_eq!(status("configuring"), "Provisioning");
        assert_eq!(status("maintenance-plan-change"), "Changing add-on plan");
        assert_eq!(region("eu-central-1"), "Frankfurt");
        assert_eq!(tenancy("shared"), "Multi-tenant");
        assert_eq!(compliance("proximity-warning"), "Proximity Warning");
        for name in [status, region, tenancy, compliance] {
            assert_eq!(name("something-new"), "something-new");
        }
    }
}
