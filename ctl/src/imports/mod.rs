//! A session as other programs import it: the text of `show --as`.
//!
//! A program that knows Unix sockets gets the session's, where a managed session asks for no
//! password. The others get the loopback address, and the password only where it is revealed.

#[cfg(test)]
mod tests;

use borealis_proto::v1;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    args::ProgramArg,
    client::Opened,
    failure::Failure,
    libpq::{self, SOCKET_PORT, Way, encoded},
    output::yaml,
};

/// What a program imports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Import {
    /// Its format's name, as it is typed.
    pub(crate) format: &'static str,
    /// The text.
    pub(crate) content: String,
    /// Where it goes, and what it lacks.
    pub(crate) note: String,
}

/// The session in a program's format. The password is in it where `opened` has it.
///
/// # Errors
/// Where the format can't hold the session.
pub(crate) fn import(opened: &Opened, program: ProgramArg) -> Result<Import, Failure> {
    let name = &opened.session.name;
    let (format, content, note) = match program {
        ProgramArg::Url => ("url", url(opened) + "\n", String::new()),
        ProgramArg::Dotenv => ("dotenv", dotenv(opened)?, String::new()),
        ProgramArg::Jdbc => ("jdbc", jdbc(opened) + "\n", String::new()),
        ProgramArg::Pgadmin => (
            "pgadmin",
            document(&pgadmin(opened)),
            "a servers.json: Tools, Import/Export Servers in pgAdmin 4".to_owned(),
        ),
        ProgramArg::Dbeaver => (
            "dbeaver",
            document(&dbeaver(opened)),
            "a data-sources.json: into the directory .dbeaver of a project; merge it with one that is there".to_owned(),
        ),
        ProgramArg::Datagrip => (
            "datagrip",
            datagrip(opened),
            "a dataSources.xml: into the directory .idea of a project; merge it with one that is there".to_owned(),
        ),
        ProgramArg::Vscode => (
            "vscode",
            document(&sqltools(opened)),
            "for settings.json of Visual Studio Code with the extension SQLTools and its PostgreSQL driver".to_owned(),
        ),
        ProgramArg::Compose => (
            "compose",
            compose(opened)?,
            format!("the service has to run as your own user; {name} has to be open before it starts"),
        ),
    };
    Ok(Import {
        format,
        content,
        note,
    })
}

/// What goes over TCP needs a password, which may not be shown.
pub(crate) fn lacks_password(opened: &Opened, program: ProgramArg) -> bool {
    let by_socket = match program {
        ProgramArg::Url | ProgramArg::Dotenv | ProgramArg::Pgadmin | ProgramArg::Compose => {
            Way::safest(&opened.session) == Way::Socket
        }
        ProgramArg::Jdbc | ProgramArg::Dbeaver | ProgramArg::Datagrip | ProgramArg::Vscode => false,
    };
    // pgAdmin's import knows no password.
    !by_socket && (password(opened).is_none() || program == ProgramArg::Pgadmin)
}

fn password(opened: &Opened) -> Option<&str> {
    Some(opened.secrets.password.as_str()).filter(|password| !password.is_empty())
}

/// The address that an address's port follows, as URLs have it.
fn authority(session: &v1::Session) -> String {
    if session.host.contains(':') {
        format!("[{}]:{}", session.host, session.port)
    } else {
        format!("{}:{}", session.host, session.port)
    }
}

fn is_read_only(session: &v1::Session) -> bool {
    session.access() != v1::Access::ReadWrite
}

fn document(value: &Value) -> String {
    // Made of texts and numbers: it can always be written.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

// --- URLs and variables ---

/// Over TCP with its password where that is revealed, over the socket where none is needed.
fn url(opened: &Opened) -> String {
    let session = &opened.session;
    if password(opened).is_some() {
        return opened.secrets.url.clone();
    }
    if Way::safest(session) == Way::Socket {
        return libpq::socket_url(session);
    }
    format!(
        "postgresql://{}@{}/{}",
        encoded(&session.user),
        authority(session),
        encoded(&session.database)
    )
}

fn dotenv(opened: &Opened) -> Result<String, Failure> {
    let way = match password(opened) {
        Some(_) => Way::Tcp,
        None => Way::safest(&opened.session),
    };
    let mut variables = libpq::variables(opened, way);
    variables.retain(|(_, value)| !value.is_empty());
    variables.push(("DATABASE_URL", url(opened)));
    let mut lines = String::new();
    for (name, value) in variables {
        let value = dotenv_value(&value).ok_or_else(|| {
            Failure::failed(format!(
                "{name} has a quote or a line break, which a .env file can't hold"
            ))
        })?;
        lines.push_str(&format!("{name}={value}\n"));
    }
    Ok(lines)
}

/// Readers of such files differ in all but this: what is in single quotes stands for itself.
fn dotenv_value(value: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~/:@%?=&".contains(c);
    if value.chars().all(is_plain) {
        Some(value.to_owned())
    } else {
        let is_held = !value.contains(['\'', '\n', '\r']);
        is_held.then(|| format!("'{value}'"))
    }
}

/// As the driver's documentation has it ("Connecting to the Database").
fn jdbc(opened: &Opened) -> String {
    let session = &opened.session;
    let password = password(opened).map_or_else(String::new, |password| {
        format!("&password={}", encoded(password))
    });
    format!(
        "{}?user={}{password}",
        jdbc_address(session),
        encoded(&session.user)
    )
}

fn jdbc_address(session: &v1::Session) -> String {
    format!(
        "jdbc:postgresql://{}/{}",
        authority(session),
        encoded(&session.database)
    )
}

// --- programs with windows ---

/// <https://www.pgadmin.org/docs/pgadmin4/latest/import_export_servers.html>
fn pgadmin(opened: &Opened) -> Value {
    let session = &opened.session;
    let (host, port) = match Way::safest(session) {
        Way::Socket => (session.socket_dir.as_str(), json!(5432)),
        Way::Tcp => (session.host.as_str(), json!(session.port)),
    };
    let mut server = json!({
        "Name": session.name,
        "Group": "Borealis",
        "Host": host,
        "Port": port,
        "MaintenanceDB": session.database,
        "Username": session.user,
        "ConnectionParameters": {"sslmode": "prefer", "connect_timeout": 60},
    });
    if !is_read_only(session) {
        server["BGColor"] = json!("#f8d7da");
        server["FGColor"] = json!("#000000");
    }
    json!({"Servers": {"1": server}})
}

/// As DBeaver writes it; user and password in the configuration are read too.
fn dbeaver(opened: &Opened) -> Value {
    let session = &opened.session;
    let mut configuration = json!({
        "host": session.host,
        "port": session.port.to_string(),
        "database": session.database,
        "url": jdbc_address(session),
        "configurationType": "MANUAL",
        "type": if is_read_only(session) { "dev" } else { "prod" },
        "auth-model": "native",
        "user": session.user,
    });
    if let Some(password) = password(opened) {
        configuration["password"] = json!(password);
    }
    let connection = json!({
        "provider": "postgresql",
        "driver": "postgres-jdbc",
        "name": session.name,
        "save-password": true,
        "read-only": is_read_only(session),
        "folder": "Borealis",
        "configuration": configuration,
    });
    let mut connections = Map::new();
    connections.insert(
        format!("postgres-jdbc-borealis-{}", session.name),
        connection,
    );
    json!({"folders": {"Borealis": {}}, "connections": connections})
}

/// The user stands in the URL: the file for it is the IDE's own.
fn datagrip(opened: &Opened) -> String {
    let session = &opened.session;
    let read_only = if is_read_only(session) {
        "      <read-only>true</read-only>\n"
    } else {
        ""
    };
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<project version="4">
  <component name="DataSourceManagerImpl" format="xml" multifile-model="true">
    <data-source source="LOCAL" name="{name}" uuid="{uuid}">
      <driver-ref>postgresql</driver-ref>
      <synchronize>true</synchronize>
{read_only}      <jdbc-driver>org.postgresql.Driver</jdbc-driver>
      <jdbc-url>{url}</jdbc-url>
      <working-dir>$ProjectFileDir$</working-dir>
    </data-source>
  </component>
</project>
"#,
        name = in_xml(&session.name),
        uuid = uuid(&session.name),
        url = in_xml(&jdbc(opened)),
    )
}

/// The same for the same session, so that a second import changes the first one's.
fn uuid(name: &str) -> String {
    let digest = Sha256::digest(format!("borealis session {name}"));
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    // Version 8, "made in one's own way", of the usual variant (RFC 9562).
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let parts = [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ];
    parts.join("-")
}

fn in_xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The settings of the extension's PostgreSQL driver
/// (<https://vscode-sqltools.mteixeira.dev/en/drivers/postgre-sql>).
fn sqltools(opened: &Opened) -> Value {
    let session = &opened.session;
    let mut connection = json!({
        "name": session.name,
        "group": "Borealis",
        "driver": "PostgreSQL",
        "server": session.host,
        "port": session.port,
        "database": session.database,
        "username": session.user,
        "connectionTimeout": 60,
        "previewLimit": 50,
    });
    match password(opened) {
        Some(password) => connection["password"] = json!(password),
        None => connection["askForPassword"] = json!(true),
    }
    json!({"sqltools.connections": [connection]})
}

// --- containers ---

/// A service that finds the session's directory where it is outside, as libpq names it. Compose
/// takes `$` for the beginning of a variable.
fn compose(opened: &Opened) -> Result<String, Failure> {
    let session = &opened.session;
    if session.socket_dir.is_empty() {
        return Err(Failure::failed(format!(
            "{} has no Unix socket that could be mounted",
            session.name
        )));
    }
    let plain = |text: &str| text.replace('$', "$$");
    let mut environment = Map::new();
    let mut set = |name: &str, value: &str| {
        environment.insert(name.to_owned(), json!(plain(value)));
    };
    set("PGHOST", &session.socket_dir);
    set("PGPORT", SOCKET_PORT);
    set("PGDATABASE", &session.database);
    set("PGUSER", &session.user);
    set("DATABASE_URL", &libpq::socket_url(session));
    if Way::safest(session) == Way::Tcp
        && let Some(password) = password(opened)
    {
        set("PGPASSWORD", password);
    }
    let dir = plain(&session.socket_dir);
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let service = json!({
        "user": format!("{}:{}", uid.as_raw(), gid.as_raw()),
        "environment": environment,
        "volumes": [{"type": "bind", "source": dir, "target": dir}],
    });
    yaml::document(&json!({"services": {"app": service}}))
        .map_err(|error| Failure::failed(format!("can't write the snippet: {error}")))
}
