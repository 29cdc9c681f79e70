//! `info` and `upgrade`.

use borealis_tests::{
    harness::TestMachine,
    sandbox::{Action, AddonState, Fault},
};
use serde_json::{Value, json};

#[test]
fn info_shows_what_the_provider_tells() {
    let machine = TestMachine::new();
    let info = machine.json(&["info", "--app", "sushi"]);
    assert_eq!(info["addon"], "borealis-pg-hex-12345");
    assert_eq!(
        (&info["app"], &info["attachment"]),
        (&json!("sushi"), &json!("DATABASE"))
    );
    assert_eq!(
        (&info["status"], &info["region"]),
        (&json!("available"), &json!("us-east-1"))
    );
    assert_eq!(info["db_storage_max_bytes"], 1 << 30);
    assert!(
        info["db_storage_usage_bytes"].as_u64().unwrap() > 0,
        "{info}"
    );
    assert_eq!(info["storage_compliance_deadline"], Value::Null);
    assert!(
        info["created_at"].as_str().unwrap().ends_with('Z'),
        "{info}"
    );

    let table = machine.ctl_ok(&["info", "sushi"]);
    for line in [
        "Add-on Name  borealis-pg-hex-12345",
        "Status  Available",
        "Region  N. Virginia (United States)",
        "Environment  Single Tenant",
        "Maximum Storage  1 GiB",
        "App DB Name  d4f0",
        "Storage Compliance Status  OK",
        "Storage Compliance Deadline  N/A",
    ] {
        let shown: Vec<_> = table
            .lines()
            .map(|l| {
                l.split("  ")
                    .map(str::trim)
                    .filter(|p| !p.is_empty())
                    .collect::<Vec<_>>()
                    .join("  ")
            })
            .collect();
        assert!(shown.iter().any(|l| l == line), "{line:?} in {shown:#?}");
    }
    machine.leave();
}

#[test]
fn what_is_new_to_us_does_no_harm() {
    let machine = TestMachine::new();
    let body = json!({"status": "maintenance-moving-house", "region": "mars-north-1", "dbTenancyType": "timeshare",
        "dbStorageMaxBytes": null, "createdAt": "2026-11-22T14:15:00Z", "storageComplianceDeadline": "2026-12-01T00:00:00Z", "moons": 2});
    let fault = Fault::on(
        "/heroku/resources/borealis-pg-hex-12345",
        Action::status(200).body(&body.to_string()),
    );
    machine.sandbox.faults().add(fault);
    let info = machine.json(&["info", "sushi"]);
    assert_eq!(info["status"], "maintenance-moving-house");
    assert_eq!(info["db_storage_max_bytes"], Value::Null);
    let kolkata = machine
        .run(machine.binary("borealisctl"))
        .args(&["info", "sushi"])
        .env("TZ", "Asia/Kolkata");
    let table = kolkata.outcome().expect_success();
    assert!(table.contains("maintenance-moving-house"), "{table}");
    assert!(
        table.contains("mars-north-1") && table.contains("timeshare"),
        "{table}"
    );
    // Times are the user's own.
    assert!(table.contains("2026-11-22 19:45:00 IST"), "{table}");
    machine.leave();
}

#[test]
fn an_upgrade_is_started_and_cancelled() {
    let machine = TestMachine::new();
    let info = machine.json(&["upgrade", "info", "sushi"]);
    assert_eq!(info["upgrade_status"], "available");
    let current: u32 = info["current_pg_major_version"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    machine
        .ctl(&["upgrade", "cancel", "sushi"])
        .expect_failure(1, &["there is no PostgreSQL version upgrade in progress"]);
    let started = machine.json(&["upgrade:execute", "--app", "sushi"]);
    assert_eq!(
        started["target_pg_major_version"],
        (current + 1).to_string()
    );
    assert_eq!(
        machine.json(&["upgrade", "info", "sushi"])["upgrade_status"],
        "upgrading"
    );
    machine
        .ctl(&["upgrade", "execute", "sushi"])
        .expect_failure(6, &["major version upgrade", "borealisctl upgrade cancel"]);
    machine.ctl_ok(&["upgrade", "cancel", "sushi"]);
    assert_eq!(
        machine.json(&["upgrade", "info", "sushi"])["upgrade_status"],
        "available"
    );

    let faults = machine.sandbox.faults();
    let state = faults.set_state("sushi", AddonState::Maintenance);
    machine.sandbox.block_on(state).unwrap();
    machine
        .ctl(&["upgrade", "execute", "sushi"])
        .expect_failure(1, &["currently undergoing maintenance"]);
    let state = faults.set_state("sushi", AddonState::Available);
    machine.sandbox.block_on(state).unwrap();
    let refused = Action::status(400).body(r#"{"reason": "It is too old!"}"#);
    faults.add(
        Fault::on("pg-version-upgrades", refused)
            .method("POST")
            .times(1),
    );
    machine
        .ctl(&["upgrade", "execute", "sushi"])
        .expect_failure(1, &["is in a state that prevents upgrades: It is too old!"]);
    faults.add(
        Fault::on("pg-version-upgrades", Action::status(403))
            .method("POST")
            .times(1),
    );
    machine
        .ctl(&["upgrade", "execute", "sushi"])
        .expect_failure(6, &["write access", "revoked"]);
    machine.leave();
}
