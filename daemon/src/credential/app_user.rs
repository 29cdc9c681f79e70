//! The app's own database user, as the add-on puts it into a config variable of the app:
//! `KEY:=value` items joined by `|`, a literal `\n` in a value being a line break.

use std::collections::HashMap;

use secrecy::SecretString;

use crate::model::{Access, DatabaseCredential, HostPort};

const POSTGRES_PORT: u16 = 5432;

/// The variables that may hold it, the current name first.
pub(super) fn variables(attachment: &str) -> [String; 2] {
    [
        format!("{attachment}_TUNNEL_BPG_CONN_INFO"),
        format!("{attachment}_SSH_TUNNEL_BPG_CONNECTION_INFO"),
    ]
}

/// Reads a variable's value; `None` where it is malformed or an item is missing.
pub(super) fn parse(value: &str, access: Access) -> Option<DatabaseCredential> {
    let items = value
        .split('|')
        .map(|item| item.split_once(":="))
        .collect::<Option<HashMap<_, _>>>()?;
    let item = |key: &str| {
        items
            .get(key)
            .filter(|value| !value.is_empty())
            .map(|value| value.replace("\\n", "\n"))
    };
    let side = match access {
        Access::ReadOnly => "READER",
        Access::ReadWrite => "WRITER",
    };
    let port = match items.get("POSTGRES_PORT") {
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
        None => POSTGRES_PORT,
    };
    Some(DatabaseCredential {
        server: HostPort {
            host: item(&format!("POSTGRES_{side}_HOST"))?,
            port,
        },
        database: item("POSTGRES_DB_NAME")?,
        username: item(&format!("POSTGRES_{side}_USERNAME"))?,
        password: SecretString::from(item(&format!("POSTGRES_{side}_PASSWORD"))?),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret as _;

    use super::*;

    const VALUE: &str = "POSTGRES_WRITER_HOST:=w.x|POSTGRES_READER_HOST:=r.x|POSTGRES_PORT:=5433|POSTGRES_DB_NAME:=d4f0|\
        POSTGRES_WRITER_USERNAME:=app_rw|POSTGRES_WRITER_PASSWORD:=p:=w\\n=|POSTGRES_READER_USERNAME:=app_ro|POSTGRES_READER_PASSWORD:=pr|\
        SSH_HOST:=s|SSH_PORT:=22|SSH_USER_PRIVATE_KEY:=-----BEGIN\\nx";

    #[test]
    fn writer_and_reader_items() {
        let writer = parse(VALUE, Access::ReadWrite).unwrap();
        assert_eq!(writer.server.to_string(), "w.x:5433");
        assert_eq!(
            (writer.database.as_str(), writer.username.as_str()),
            ("d4f0", "app_rw")
        );
        assert_eq!(writer.password.expose_secret(), "p:=w\n=");
        let reader = parse(VALUE, Access::ReadOnly).unwrap();
        assert_eq!(reader.server.to_string(), "r.x:5433");
        assert_eq!(reader.username, "app_ro");
        let no_port = VALUE.replace("POSTGRES_PORT:=5433|", "");
        assert_eq!(parse(&no_port, Access::ReadOnly).unwrap().server.port, 5432);
    }

    #[test]
    fn what_was_edited_by_hand_is_refused() {
        for bad in [
            String::new(),
            "postgres://x".into(),
            VALUE.replace("POSTGRES_READER_PASSWORD:=pr", "POSTGRES_READER_PASSWORD:="),
            VALUE.replace("POSTGRES_DB_NAME", "DB"),
            VALUE.replace("5433", "65536"),
            VALUE.replace("5433", "0"),
            VALUE.replace("SSH_PORT:=22", "SSH_PORT"),
        ] {
            assert!(parse(&bad, Access::ReadOnly).is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_value_ends_without_panic(value in "(POSTGRES_[A-Z_]{1,20}|:=|\\||\\\\n|\\PC){0,40}") {
            let _ = parse(&value, Access::ReadWrite);
        }
    }
}
