use serde_json::Value;

use super::*;

const PROGRAMS: [ProgramArg; 8] = [
    ProgramArg::Url,
    ProgramArg::Dotenv,
    ProgramArg::Jdbc,
    ProgramArg::Pgadmin,
    ProgramArg::Dbeaver,
    ProgramArg::Datagrip,
    ProgramArg::Vscode,
    ProgramArg::Compose,
];

const PASSWORD: &str = "s3cret & <word>";

fn opened(mode: v1::Mode, reveal: bool) -> Opened {
    let session = v1::Session {
        name: "sushi-rw".into(),
        access: v1::Access::ReadWrite.into(),
        mode: mode.into(),
        host: "127.0.0.1".into(),
        port: 15432,
        socket_dir: "/run/me $HOME/pg/sushi-rw".into(),
        database: "d/4&f0".into(),
        user: "sushi-rw".into(),
        ..v1::Session::default()
    };
    let secrets = v1::Secrets {
        password: PASSWORD.into(),
        url: "postgresql://sushi-rw:s3cret%20%26%20%3Cword%3E@127.0.0.1:15432/d%2F4%26f0".into(),
    };
    Opened {
        session,
        secrets: if reveal {
            secrets
        } else {
            v1::Secrets::default()
        },
    }
}

fn shown(mode: v1::Mode, reveal: bool, program: ProgramArg) -> String {
    import(&opened(mode, reveal), program).unwrap().content
}

fn json_of(program: ProgramArg, reveal: bool) -> Value {
    serde_json::from_str(&shown(v1::Mode::Managed, reveal, program)).unwrap()
}

#[test]
fn the_password_is_there_only_where_it_is_revealed_and_needed() {
    for program in PROGRAMS {
        for mode in [v1::Mode::Managed, v1::Mode::Passthrough] {
            let hidden = shown(mode, false, program);
            assert!(!hidden.contains("s3cret"), "{program:?}: {hidden}");
            assert!(hidden.contains("sushi-rw"), "{program:?}: {hidden}");
            let revealed = shown(mode, true, program);
            let holds = match program {
                ProgramArg::Pgadmin => false,
                ProgramArg::Compose => mode == v1::Mode::Passthrough,
                _ => true,
            };
            assert_eq!(
                revealed.contains("s3cret"),
                holds,
                "{program:?}: {revealed}"
            );
            let told = lacks_password(&opened(mode, true), program);
            assert_eq!(told, !holds && mode == v1::Mode::Passthrough, "{program:?}");
        }
    }
    assert!(lacks_password(
        &opened(v1::Mode::Managed, false),
        ProgramArg::Jdbc
    ));
    assert!(!lacks_password(
        &opened(v1::Mode::Managed, false),
        ProgramArg::Url
    ));
}

#[test]
fn urls() {
    let managed = |program, reveal| shown(v1::Mode::Managed, reveal, program);
    assert_eq!(
        managed(ProgramArg::Url, false),
        "postgresql:///d%2F4%26f0?host=/run/me%20%24HOME/pg/sushi-rw&port=5432\n"
    );
    let full = "postgresql://sushi-rw:s3cret%20%26%20%3Cword%3E@127.0.0.1:15432/d%2F4%26f0\n";
    assert_eq!(managed(ProgramArg::Url, true), full);
    assert_eq!(
        shown(v1::Mode::Passthrough, false, ProgramArg::Url),
        "postgresql://sushi-rw@127.0.0.1:15432/d%2F4%26f0\n"
    );
    let jdbc = "jdbc:postgresql://127.0.0.1:15432/d%2F4%26f0?user=sushi-rw";
    assert_eq!(managed(ProgramArg::Jdbc, false), format!("{jdbc}\n"));
    assert_eq!(
        managed(ProgramArg::Jdbc, true),
        format!("{jdbc}&password=s3cret%20%26%20%3Cword%3E\n")
    );
}

#[test]
fn variables_of_a_file() {
    assert_eq!(
        shown(v1::Mode::Managed, false, ProgramArg::Dotenv),
        "PGHOST='/run/me $HOME/pg/sushi-rw'\nPGPORT=5432\nPGDATABASE=d/4&f0\nPGUSER=sushi-rw\n\
         DATABASE_URL=postgresql:///d%2F4%26f0?host=/run/me%20%24HOME/pg/sushi-rw&port=5432\n"
    );
    let revealed = shown(v1::Mode::Managed, true, ProgramArg::Dotenv);
    assert!(
        revealed.starts_with("PGHOST=127.0.0.1\nPGPORT=15432\n"),
        "{revealed}"
    );
    assert!(
        revealed.contains("PGPASSWORD='s3cret & <word>'\n"),
        "{revealed}"
    );
    assert_eq!(dotenv_value("it's"), None);
    assert_eq!(dotenv_value("a\nb"), None);
}

#[test]
fn files_of_programs_with_windows() {
    let pgadmin = json_of(ProgramArg::Pgadmin, false);
    let server = &pgadmin["Servers"]["1"];
    assert_eq!(server["Host"], "/run/me $HOME/pg/sushi-rw");
    assert_eq!(
        (&server["Port"], &server["MaintenanceDB"]),
        (&json!(5432), &json!("d/4&f0"))
    );

    let dbeaver = json_of(ProgramArg::Dbeaver, true);
    let connection = &dbeaver["connections"]["postgres-jdbc-borealis-sushi-rw"];
    assert_eq!(connection["configuration"]["port"], "15432");
    assert_eq!(connection["configuration"]["password"], PASSWORD);
    assert_eq!(connection["read-only"], false);

    let sqltools = &json_of(ProgramArg::Vscode, false)["sqltools.connections"][0];
    assert_eq!(
        (&sqltools["port"], &sqltools["askForPassword"]),
        (&json!(15432), &json!(true))
    );

    let datagrip = shown(v1::Mode::Managed, true, ProgramArg::Datagrip);
    let url = "<jdbc-url>jdbc:postgresql://127.0.0.1:15432/d%2F4%26f0?user=sushi-rw&amp;password=s3cret%20%26%20%3Cword%3E</jdbc-url>";
    assert!(datagrip.contains(url), "{datagrip}");
    assert_eq!(uuid("sushi"), uuid("sushi"));
    assert_ne!(uuid("sushi"), uuid("ramen"));
    assert_eq!(uuid("sushi").len(), 36);
}

#[test]
fn a_compose_file_mounts_the_socket_and_expands_nothing() {
    let text = shown(v1::Mode::Managed, true, ProgramArg::Compose);
    let read: Value = serde_saphyr::from_str(&text).unwrap();
    let app = &read["services"]["app"];
    let dir = "/run/me $$HOME/pg/sushi-rw";
    assert_eq!(app["volumes"][0]["source"], dir);
    assert_eq!(app["volumes"][0]["target"], dir);
    assert_eq!(app["environment"]["PGHOST"], dir);
    assert_eq!(app["environment"]["PGPORT"], "5432");
    assert_eq!(app["environment"]["PGPASSWORD"], Value::Null);
}
