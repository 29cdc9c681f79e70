//! Says who holds a local TCP port, for the sentence of a refusal. Reads only; the
//! answer may be out of date when it is given.

use std::{net::IpAddr, path::Path};

use listeners::{Listener, Protocol, SocketState};

/// `PROGRAM (pid)` of the process that listens on a port of the loopback interface. `None`
/// where there is none, or where it belongs to another user and this one may not know.
///
/// Blocks: on Linux it reads `/proc` of every process.
pub fn of(port: u16) -> Option<String> {
    let all = listeners::get_all().ok()?;
    let on_port = |listener: &&Listener| {
        listener.protocol == Protocol::TCP
            && listener.socket.port() == port
            && listener.state == SocketState::Listen
            && takes_loopback(listener.socket.ip())
    };
    // A process and the children it forked share the socket; the parent is the older one.
    let holder = all.iter().filter(on_port).min_by_key(|l| l.process.pid)?;
    let program = program(&holder.process.name, &holder.process.path);
    Some(format!("{program} ({})", holder.process.pid))
}

fn takes_loopback(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// Linux cuts a process's name at 15 bytes; its executable's name is whole. A process may
/// choose its name, so it is kept from steering the terminal.
fn program(name: &str, path: &str) -> String {
    const CUT: usize = 15;
    let file = Path::new(path)
        .file_name()
        .map(|file| file.to_string_lossy())
        .unwrap_or_default();
    let whole = if name.is_empty() || (name.len() >= CUT && file.starts_with(name)) {
        file.as_ref()
    } else {
        name
    };
    whole.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that can't go on fails")]

    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_of_ours_is_found() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                continue; // no IPv6 here
            };
            let port = listener.local_addr().unwrap().port();
            let holder = of(port).unwrap();
            assert!(
                holder.ends_with(&format!(" ({})", std::process::id())),
                "{holder}"
            );
            assert!(holder.starts_with("borealis_proto"), "{holder}");
        }
    }

    #[test]
    fn an_outgoing_connection_on_the_port_is_no_holder() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(of(stream.local_addr().unwrap().port()), None);
    }

    #[test]
    fn nobody_on_a_free_port() {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        assert_eq!(of(port), None);
    }

    #[test]
    fn long_and_odd_names() {
        assert_eq!(
            program("a-very-long-nam", "/usr/bin/a-very-long-name-here"),
            "a-very-long-name-here"
        );
        assert_eq!(
            program("postgres", "/usr/lib/postgresql/15/bin/postgres"),
            "postgres"
        );
        assert_eq!(program("", "/bin/x"), "x");
        assert_eq!(program("evil\u{1b}[2J", ""), "evil\\u{1b}[2J");
    }
}
