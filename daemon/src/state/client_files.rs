//! `pg_service.conf` and `pgpass` in the runtime directory: how libpq finds the sessions by
//! name (`PGSERVICEFILE=… psql service=sushi`). Written from the list of sessions at every
//! change; nothing is read back.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret, SecretString};

use super::{disk, writer::Writer};
use crate::model::{Cause, SessionName};

/// Where sessions listen on TCP.
const HOST: &str = "127.0.0.1";
/// The port that is part of a session's socket's name.
const SOCKET_PORT: u16 = 5432;

/// What libpq is told of a session.
#[derive(Debug, Clone)]
pub struct ClientEntry {
    /// The session, and the service's name.
    pub name: SessionName,
    /// How a service's client reaches it.
    pub way: Way,
    /// Its local TCP port.
    pub port: u16,
    /// The database; `None` where it isn't known yet.
    pub database: Option<String>,
    /// The user that a client logs in as; `None` where it isn't known yet.
    pub user: Option<String>,
    /// Its password; `None` where it isn't known yet.
    pub password: Option<SecretString>,
}

/// How a client that names the service reaches the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// By its Unix socket in this directory, where the kernel says who the client is: there is
    /// no password that somebody else on the port could be given.
    Socket(PathBuf),
    /// By its TCP port.
    Tcp,
}

/// Keeps both files. Dropping it waits for the last write.
#[derive(Debug)]
pub struct ClientFiles {
    service_file: PathBuf,
    password_file: PathBuf,
    writer: Writer<Vec<ClientEntry>>,
}

// === impl ClientEntry ===

impl PartialEq for ClientEntry {
    fn eq(&self, other: &Self) -> bool {
        let exposed = |entry: &Self| {
            let password = entry.password.as_ref();
            password.map(|password| password.expose_secret().to_owned())
        };
        (&self.name, &self.way, self.port) == (&other.name, &other.way, other.port)
            && (&self.database, &self.user) == (&other.database, &other.user)
            && exposed(self) == exposed(other)
    }
}

// === impl ClientFiles ===

impl ClientFiles {
    /// For a runtime directory that is there already.
    pub fn new(runtime_dir: &Path) -> Self {
        let service_file = runtime_dir.join("pg_service.conf");
        let password_file = runtime_dir.join("pgpass");
        let (services, passwords) = (service_file.clone(), password_file.clone());
        let write = move |entries: &Vec<ClientEntry>| {
            // Passwords first: no service is there before its password.
            disk::replace(&passwords, password_lines(entries).as_bytes())?;
            disk::replace(&services, service_sections(entries, &passwords).as_bytes())
        };
        Self {
            service_file,
            password_file,
            writer: Writer::new("client-files", write),
        }
    }

    /// Replaces what both files say, at once and without blocking. The future ends when
    /// this list, or a later one, is on the disk; dropping it takes nothing back.
    ///
    /// # Errors
    /// [`Cause::StateUnwritable`]; each file then still has what it had before.
    pub fn write(
        &self,
        entries: Vec<ClientEntry>,
    ) -> impl Future<Output = Result<(), Cause>> + Send + use<> {
        let written = self.writer.put(entries);
        async move {
            written.await.unwrap_or_else(|_| {
                Err(Cause::Internal {
                    detail: "the thread that writes pg_service.conf has ended".to_owned(),
                })
            })
        }
    }

    /// For `PGSERVICEFILE`.
    pub fn service_file(&self) -> &Path {
        &self.service_file
    }

    /// For `PGPASSFILE`.
    pub fn password_file(&self) -> &Path {
        &self.password_file
    }
}

/// libpq reads `key=value` to the line's end, with no quotes and no escapes, and trims
/// white space at both ends (fe-connect.c, parseServiceFile). A value that can't be written
/// so is left out, for the client to give.
fn service_sections(entries: &[ClientEntry], password_file: &Path) -> String {
    let mut text = String::from(
        "# Written by borealisd at every change; what is changed here is lost.\n\
         # Use: PGSERVICEFILE=<this file> psql service=<name>\n",
    );
    let password_file = password_file.to_str();
    for entry in entries {
        let (host, port, password_file) = match &entry.way {
            Way::Socket(dir) => (dir.to_str(), SOCKET_PORT, None),
            Way::Tcp => (Some(HOST), entry.port, password_file),
        };
        let port = port.to_string();
        let keys = [
            ("host", host),
            ("port", Some(port.as_str())),
            ("dbname", entry.database.as_deref()),
            ("user", entry.user.as_deref()),
            ("passfile", password_file),
        ];
        // Writing to a String can't fail.
        let _ = writeln!(text, "\n[{}]", entry.name);
        for (key, value) in keys {
            match value {
                Some(value) if value.trim() == value && !value.contains(char::is_control) => {
                    let _ = writeln!(text, "{key}={value}");
                }
                _ => {}
            }
        }
    }
    text
}

/// `host:port:database:user:password`, with `\` before `:` and `\` (PostgreSQL's
/// documentation, "The Password File"). A session is known by its port, so any database
/// will do, and what a client writes for the loopback host is covered in both ways.
fn password_lines(entries: &[ClientEntry]) -> String {
    let mut text =
        String::from("# Written by borealisd at every change; what is changed here is lost.\n");
    for entry in entries {
        let (Some(user), Some(password)) = (&entry.user, &entry.password) else {
            continue;
        };
        let password = password.expose_secret();
        // A line break would begin another line, and can't be escaped.
        if [user, password]
            .iter()
            .any(|field| field.contains(['\n', '\r', '\0']))
        {
            continue;
        }
        for host in [HOST, "localhost"] {
            let _ = writeln!(
                text,
                "{}:{}:*:{}:{}",
                escape(host),
                entry.port,
                escape(user),
                escape(password)
            );
        }
    }
    text
}

fn escape(field: &str) -> String {
    field.replace('\\', r"\\").replace(':', r"\:")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn entry(user: &str, password: &str) -> ClientEntry {
        ClientEntry {
            name: SessionName::parse("sushi").unwrap(),
            way: Way::Tcp,
            port: 15432,
            database: Some("d4f0".into()),
            user: Some(user.into()),
            password: Some(password.into()),
        }
    }

    #[tokio::test]
    async fn both_files_follow_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let files = ClientFiles::new(dir.path());
        files.write(vec![entry("sushi", r"a:b\c")]).await.unwrap();
        let services = fs::read_to_string(files.service_file()).unwrap();
        let passfile = files.password_file().display();
        assert!(services.ends_with(&format!(
            "\n[sushi]\nhost=127.0.0.1\nport=15432\ndbname=d4f0\nuser=sushi\npassfile={passfile}\n"
        )));
        let passwords = fs::read_to_string(files.password_file()).unwrap();
        let lines: Vec<_> = passwords.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                r"127.0.0.1:15432:*:sushi:a\:b\\c",
                r"localhost:15432:*:sushi:a\:b\\c",
            ]
        );
        files.write(vec![]).await.unwrap();
        assert!(
            !fs::read_to_string(files.service_file())
                .unwrap()
                .contains("sushi")
        );
        assert!(
            !fs::read_to_string(files.password_file())
                .unwrap()
                .contains("sushi")
        );
    }

    #[test]
    fn a_service_with_a_socket_needs_no_password() {
        let by_socket = ClientEntry {
            way: Way::Socket("/run/borealis/pg/sushi".into()),
            ..entry("sushi", "secret")
        };
        let services = service_sections(&[by_socket], Path::new("/p"));
        assert!(services.ends_with(
            "\n[sushi]\nhost=/run/borealis/pg/sushi\nport=5432\ndbname=d4f0\nuser=sushi\n"
        ));
    }

    #[test]
    fn entries_differ_by_their_passwords_too() {
        assert_eq!(entry("sushi", "a"), entry("sushi", "a"));
        assert_ne!(entry("sushi", "a"), entry("sushi", "b"));
    }

    #[test]
    fn what_is_not_known_yet_is_left_out() {
        let unknown = ClientEntry {
            database: None,
            user: None,
            password: None,
            ..entry("", "")
        };
        let services = service_sections(std::slice::from_ref(&unknown), Path::new("/p"));
        assert!(services.ends_with("\n[sushi]\nhost=127.0.0.1\nport=15432\npassfile=/p\n"));
        assert_eq!(password_lines(&[unknown]).lines().count(), 1);
    }

    #[test]
    fn a_line_break_can_not_smuggle_a_line() {
        let hostile = entry("sushi\n*:*:*:*:x", "p");
        assert_eq!(
            password_lines(std::slice::from_ref(&hostile))
                .lines()
                .count(),
            1
        );
        assert!(!service_sections(&[hostile], Path::new("/p")).contains("*:*"));
    }

    /// A pgpass line as libpq reads it (fe-connect.c, passwordFromFile).
    fn fields(line: &str) -> Vec<String> {
        let mut fields = vec![String::new()];
        let mut characters = line.chars();
        while let Some(character) = characters.next() {
            let last = fields.last_mut().unwrap();
            match character {
                '\\' => last.extend(characters.next()),
                ':' => fields.push(String::new()),
                other => last.push(other),
            }
        }
        fields
    }

    proptest! {
        #[test]
        fn libpq_reads_the_password_that_was_written(user in "[^\n\r\0]{1,20}", password in "[^\n\r\0]{1,40}") {
            let text = password_lines(&[entry(&user, &password)]);
            let line = text.split('\n').nth(1).unwrap();
            prop_assert_eq!(fields(line), ["127.0.0.1", "15432", "*", &user, &password]);
        }
    }
}
