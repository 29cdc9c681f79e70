//! Where there is no `/proc`: as far as the crate that names listeners goes.

use std::{path::Path, time::Duration};

use listeners::{Listener, Protocol, SocketState};

use super::{Program, Way, name};

/// The processes at the clients' ends, one for each way. The other side's port isn't told.
pub(super) fn pids(ways: &[Way]) -> Vec<Option<u32>> {
    let all = listeners::get_all().unwrap_or_default();
    ways.iter()
        .map(|way| match *way {
            Way::Unix { pid } => Some(pid),
            Way::Tcp { client, .. } => all
                .iter()
                .filter(|listener| is_client(listener, client))
                .map(|listener| listener.process.pid)
                .min(),
        })
        .collect()
}

/// What may be known of a process.
pub(super) fn program(pid: u32, _at_least: Duration) -> Option<Program> {
    let all = listeners::get_all().unwrap_or_default();
    let process = all
        .into_iter()
        .map(|listener| listener.process)
        .find(|process| process.pid == pid);
    Some(Program {
        name: process.and_then(|process| name(&process.name, &[], Some(Path::new(&process.path)))),
        pid,
        command: None,
        cwd: None,
        unit: None,
        container: None,
    })
}

fn is_client(listener: &Listener, port: u16) -> bool {
    listener.protocol == Protocol::TCP
        && listener.state == SocketState::Established
        && listener.socket.port() == port
}
