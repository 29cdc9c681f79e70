//! `show --as`: what is printed leads to the database.

use std::fs;

use borealis_tests::harness::TestMachine;
use serde_json::Value;

const ASKED: &str = "select current_database()";

#[test]
fn what_other_programs_import_leads_to_the_database() {
    let machine = TestMachine::new();
    machine.open(&["sushi"]);
    let shown = |format: &str, more: &[&str]| {
        machine.ctl_ok(&[&["show", "sushi", "--as", format], more].concat())
    };
    for more in [&[][..], &["--reveal"]] {
        assert_eq!(machine.query(&shown("url", more), ASKED), "d4f0");
        let file = machine.path("sushi.env");
        fs::write(&file, shown("dotenv", more)).unwrap();
        let by_file = machine
            .run("sh")
            .args(&[
                "-c",
                "set -a; . \"$1\"; psql -XAtqc \"$2\" && psql \"$DATABASE_URL\" -XAtqc \"$2\"",
                "sh",
            ])
            .args(&[file.to_str().unwrap(), ASKED])
            .outcome();
        assert_eq!(by_file.expect_success(), "d4f0\nd4f0", "{more:?}");
    }

    let read = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let conninfo = |parts: &[(&str, &Value)]| {
        let parts = parts.iter().map(|(key, value)| {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            format!("{key}='{value}'")
        });
        parts.collect::<Vec<_>>().join(" ")
    };
    let pgadmin = &read(shown("pgadmin", &[]))["Servers"]["1"];
    let server = conninfo(&[
        ("host", &pgadmin["Host"]),
        ("port", &pgadmin["Port"]),
        ("dbname", &pgadmin["MaintenanceDB"]),
        ("user", &pgadmin["Username"]),
        ("sslmode", &pgadmin["ConnectionParameters"]["sslmode"]),
    ]);
    assert_eq!(machine.query(&server, ASKED), "d4f0");

    let dbeaver = read(shown("dbeaver", &["--reveal"]));
    let connections = dbeaver["connections"].as_object().unwrap();
    let configuration = &connections.values().next().unwrap()["configuration"];
    let sqltools = &read(shown("vscode", &["--reveal"]))["sqltools.connections"][0];
    for (of, host, user) in [
        (configuration, "host", "user"),
        (sqltools, "server", "username"),
    ] {
        let server = conninfo(&[
            ("host", &of[host]),
            ("port", &of["port"]),
            ("dbname", &of["database"]),
            ("user", &of[user]),
            ("password", &of["password"]),
        ]);
        assert_eq!(machine.query(&server, ASKED), "d4f0");
    }
    machine.leave();
}
