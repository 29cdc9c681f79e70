//! The program behind a connection. The daemon's unit may not look into other processes, so
//! borealisctl looks with the user's own rights: over the Unix socket by the process that the
//! kernel named, over TCP by the socket whose ports the connection has.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, SystemTime},
};

use borealis_proto::v1;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use other as system;

/// How often a program that was not found is looked for again, for a list that is watched.
const LOOKS: u8 = 3;

/// A process, as far as this user may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// As its user knows it: `psql`.
    pub(crate) name: Option<String>,
    /// Its process id.
    pub(crate) pid: u32,
    /// Its command line, with passwords masked.
    pub(crate) command: Option<String>,
    /// Where it works.
    pub(crate) cwd: Option<String>,
    /// The systemd service that it is part of.
    pub(crate) unit: Option<String>,
    /// The container that it is in: the first twelve digits of its id, or its name.
    pub(crate) container: Option<String>,
}

/// The programs of connections, each looked for once.
#[derive(Debug, Default)]
pub(crate) struct Programs(HashMap<u64, Entry>);

#[derive(Debug, Default)]
struct Entry {
    found: Option<Program>,
    looks: u8,
}

/// How a connection came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Tcp { client: u16, session: u16 },
    Unix { pid: u32 },
}

// === impl Programs ===

impl Programs {
    /// Looks for the programs of connections that are new, and forgets those that have gone.
    ///
    /// Blocks: on Linux it reads `/proc` of every process, where somebody came over TCP.
    pub(crate) fn look(&mut self, connections: &[v1::Connection]) {
        let mut entries = std::mem::take(&mut self.0);
        self.0 = connections
            .iter()
            .map(|c| (c.id, entries.remove(&c.id).unwrap_or_default()))
            .collect();
        let mut missing: Vec<_> = connections
            .iter()
            .filter(|c| self.is_missing(c.id))
            .filter_map(|c| Some((c, way(c)?)))
            .collect();
        // A table of sockets that changes while it is read may lack one.
        while !missing.is_empty() {
            let ways: Vec<_> = missing.iter().map(|(_, way)| *way).collect();
            let pids = system::pids(&ways);
            for ((connection, _), pid) in missing.iter().zip(pids) {
                let program = pid.and_then(|pid| system::program(pid, age(connection)));
                if let Some(entry) = self.0.get_mut(&connection.id) {
                    entry.found = program;
                    entry.looks += 1;
                }
            }
            missing.retain(|(connection, _)| self.is_missing(connection.id));
        }
    }

    /// The program of a connection that was looked for; `None` where it can't be known.
    pub(crate) fn of(&self, id: u64) -> Option<&Program> {
        self.0.get(&id)?.found.as_ref()
    }

    fn is_missing(&self, id: u64) -> bool {
        let entry = self.0.get(&id);
        entry.is_some_and(|entry| entry.found.is_none() && entry.looks < LOOKS)
    }
}

fn way(connection: &v1::Connection) -> Option<Way> {
    let port = |port| u16::try_from(port).ok().filter(|port| *port != 0);
    match connection.via() {
        v1::Via::Tcp => Some(Way::Tcp {
            client: port(connection.peer_port)?,
            session: port(connection.local_port)?,
        }),
        v1::Via::UnixSocket => {
            let pid = connection.peer_pid;
            (pid != 0).then_some(Way::Unix { pid })
        }
        v1::Via::Unspecified => None,
    }
}

/// How long a connection has been there.
fn age(connection: &v1::Connection) -> Duration {
    let began = connection
        .since
        .and_then(|at| SystemTime::try_from(at).ok());
    let age = began.and_then(|began| SystemTime::now().duration_since(began).ok());
    age.unwrap_or_default()
}

/// What a process is called. A name that is neither in its command line nor its executable's is
/// one of its threads' (`MainThread`). Linux cuts it at 15 bytes.
fn name(comm: &str, command: &[String], executable: Option<&Path>) -> Option<String> {
    const CUT: usize = 15;
    let executable = executable
        .and_then(Path::file_name)
        .map(|file| file.to_string_lossy().into_owned());
    let files = command
        .iter()
        .filter_map(|word| Path::new(word).file_name()?.to_str());
    let known = executable.as_deref().into_iter().chain(files);
    let mut fitting = known.filter(|file| file.starts_with(comm));
    let own = (!comm.is_empty()).then_some(comm);
    match fitting.next() {
        Some(file) if comm.len() >= CUT => Some(file.to_owned()),
        Some(_) => own.map(str::to_owned),
        None => executable.or_else(|| own.map(str::to_owned)),
    }
}

/// The words of a command, without the password of a URL or of a connection string.
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "told by /proc alone")
)]
fn shown(command: &[String]) -> Option<String> {
    let words: Vec<_> = command.iter().map(|word| masked(word)).collect();
    let line = words.join(" ");
    (!line.is_empty()).then_some(line)
}

#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "told by /proc alone")
)]
fn masked(word: &str) -> String {
    const MASK: &str = "********";
    if let Some((scheme, rest)) = word.split_once("://")
        && let Some((login, place)) = rest.rsplit_once('@')
        && let Some((user, _)) = login.split_once(':')
    {
        return format!("{scheme}://{user}:{MASK}@{place}");
    }
    let Some(at) = word.find("password=") else {
        return word.to_owned();
    };
    let value = at + "password=".len();
    let rest = &word[value..];
    let end = match rest.strip_prefix('\'') {
        Some(quoted) => quoted.find('\'').map_or(rest.len(), |end| end + 2),
        None => rest.find([' ', '&']).unwrap_or(rest.len()),
    };
    format!("{}{MASK}{}", &word[..value], &rest[end..])
}

/// Systemd's service and the container that a control group's path tells of.
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "told by /proc alone")
)]
fn unit_and_container(path: &str) -> (Option<String>, Option<String>) {
    let mut unit = None;
    let mut container = None;
    for part in path.split('/') {
        if let Some(id) = container_id(part) {
            container = Some(id);
        } else if part.ends_with(".service") && !part.starts_with("user@") {
            // The innermost one is the program's own.
            unit = Some(part.to_owned());
        } else if let Some(name) = part.strip_prefix("lxc.payload.") {
            container = Some(name.to_owned());
        }
    }
    (unit, container)
}

/// `docker-0123….scope`, `libpod-….scope`, `cri-containerd-….scope`, or the id alone.
#[cfg_attr(
    not(target_os = "linux"),
    allow(dead_code, reason = "told by /proc alone")
)]
fn container_id(part: &str) -> Option<String> {
    const DIGITS: usize = 64;
    let part = part.strip_suffix(".scope").unwrap_or(part);
    let id = part.rsplit('-').next()?;
    let is_id = id.len() == DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| id[..12].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_called_as_its_user_knows_it() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (comm, command, executable, called) in [
            (
                "psql",
                "psql service=sushi",
                "/usr/lib/postgresql/15/bin/psql",
                "psql",
            ),
            (
                "python3",
                "python3 load.py",
                "/usr/bin/python3.11",
                "python3",
            ),
            // A script with a first line of its own.
            (
                "pgadmin4",
                "/usr/bin/python3 /usr/bin/pgadmin4",
                "/usr/bin/python3.11",
                "pgadmin4",
            ),
            ("MainThread", "node app.js", "/usr/bin/node", "node"),
            (
                "a-very-long-nam",
                "a-very-long-name-here",
                "/x/a-very-long-name-here",
                "a-very-long-name-here",
            ),
        ] {
            let found = name(comm, &words(command), Some(Path::new(executable)));
            assert_eq!(found.as_deref(), Some(called));
        }
        assert_eq!(name("psql", &[], None).as_deref(), Some("psql"));
        assert_eq!(name("", &[], None), None);
    }

    #[test]
    fn no_password_of_a_command_is_shown() {
        for (word, shown) in [
            (
                "postgresql://sushi:s3cret@127.0.0.1/d",
                "postgresql://sushi:********@127.0.0.1/d",
            ),
            (
                "postgresql://sushi:s3@cret@[::1]/d",
                "postgresql://sushi:********@[::1]/d",
            ),
            (
                "postgresql://sushi@127.0.0.1/d",
                "postgresql://sushi@127.0.0.1/d",
            ),
            (
                "host=a password=s3cret user=b",
                "host=a password=******** user=b",
            ),
            ("password='s3 cret' user=b", "password=******** user=b"),
            ("--password=s3cret", "--password=********"),
            (
                "postgresql:///d?password=s3cret&host=a",
                "postgresql:///d?password=********&host=a",
            ),
            ("select 1", "select 1"),
        ] {
            assert_eq!(masked(word), shown);
        }
        assert_eq!(super::shown(&[]), None);
    }

    #[test]
    fn units_and_containers_are_told_by_the_control_group() {
        let id = "0123456789abcdef".repeat(4);
        for (path, unit, container) in [
            (
                "/user.slice/user-1000.slice/session-2.scope".to_owned(),
                None,
                None,
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/etl.service".to_owned(),
                Some("etl.service"),
                None,
            ),
            (
                "/user.slice/user-1000.slice/user@1000.service/app.slice/app-code-1.scope"
                    .to_owned(),
                None,
                None,
            ),
            (
                format!("/system.slice/docker-{id}.scope"),
                None,
                Some("0123456789ab"),
            ),
            (format!("/docker/{id}"), None, Some("0123456789ab")),
            (
                format!("/user.slice/user@1000.service/user.slice/libpod-{id}.scope/container"),
                None,
                Some("0123456789ab"),
            ),
            (
                format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
                None,
                Some("0123456789ab"),
            ),
            (
                "/lxc.payload.box/system.slice/cron.service".to_owned(),
                Some("cron.service"),
                Some("box"),
            ),
            ("/".to_owned(), None, None),
        ] {
            let expected = (unit.map(str::to_owned), container.map(str::to_owned));
            assert_eq!(unit_and_container(&path), expected, "{path}");
        }
    }

    #[test]
    fn a_process_is_found_by_its_socket_and_by_its_number() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (client, session) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
        let now = Some(prost_types::Timestamp::from(SystemTime::now()));
        let tcp = v1::Connection {
            id: 1,
            via: v1::Via::Tcp.into(),
            peer_port: client.port().into(),
            local_port: session.port().into(),
            since: now,
            ..v1::Connection::default()
        };
        let unix = v1::Connection {
            id: 2,
            via: v1::Via::UnixSocket.into(),
            peer_pid: std::process::id(),
            since: now,
            ..v1::Connection::default()
        };
        // The other end of the connection is no client.
        let other = v1::Connection {
            id: 3,
            peer_port: tcp.local_port,
            local_port: 1,
            ..tcp.clone()
        };
        // That process came after the connection: it is another one of the same number.
        let earlier = v1::Connection {
            id: 4,
            since: Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 0,
            }),
            ..unix.clone()
        };
        let mut programs = Programs::default();
        programs.look(&[tcp.clone(), unix, other, earlier]);
        for id in [1, 2] {
            let found = programs.of(id).unwrap();
            assert_eq!(found.pid, std::process::id());
            assert!(
                found.name.as_ref().unwrap().starts_with("borealisctl"),
                "{found:?}"
            );
            #[cfg(target_os = "linux")]
            {
                let here = std::env::current_dir().unwrap();
                assert_eq!(found.cwd.as_deref(), here.to_str());
            }
        }
        assert_eq!((programs.of(3), programs.of(4)), (None, None));
        // Who has gone is forgotten.
        programs.look(&[tcp]);
        assert_eq!(programs.of(2), None);
        assert!(programs.of(1).is_some());
    }
}
