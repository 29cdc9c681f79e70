//! By `/proc`.

use std::{collections::HashMap, path::Path, time::Duration};

use procfs::{
    net::TcpState,
    process::{FDTarget, Process, all_processes},
};

use super::{Program, Way, name, shown, unit_and_container};

/// A process may be this much younger than its connection seems: its start is told in
/// hundredths of a second, and the connection's by another clock.
const SLACK: Duration = Duration::from_secs(2);

/// The processes at the clients' ends, one for each way.
pub(super) fn pids(ways: &[Way]) -> Vec<Option<u32>> {
    let inodes: Vec<Option<u64>> = if ways.iter().any(|way| matches!(way, Way::Tcp { .. })) {
        let sockets = sockets();
        let inode = |way: &Way| match *way {
            Way::Tcp { client, session } => sockets.get(&(client, session)).copied(),
            Way::Unix { .. } => None,
        };
        ways.iter().map(inode).collect()
    } else {
        vec![None; ways.len()]
    };
    let owners = owners(&inodes.iter().flatten().copied().collect::<Vec<_>>());
    ways.iter()
        .zip(inodes)
        .map(|(way, inode)| match *way {
            Way::Unix { pid } => Some(pid),
            Way::Tcp { .. } => owners.get(&inode?).copied(),
        })
        .collect()
}

/// What may be known of a process that is at least that old.
pub(super) fn program(pid: u32, at_least: Duration) -> Option<Program> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    let stat = process.stat().ok()?;
    let started = stat.starttime / procfs::ticks_per_second();
    let running = uptime().saturating_sub(Duration::from_secs(started));
    if running + SLACK < at_least {
        // The one that connected has ended, and its number is another's now.
        return None;
    }
    let command = process.cmdline().unwrap_or_default();
    let executable = process.exe().ok();
    let groups = process.cgroups().map(|groups| groups.0).unwrap_or_default();
    let (mut unit, mut container) = (None, None);
    // Of version 1 there is one for each controller; systemd's own has no number to go by.
    for group in groups {
        let found = unit_and_container(&group.pathname);
        (unit, container) = (unit.or(found.0), container.or(found.1));
    }
    let path = |path: &Path| path.to_string_lossy().into_owned();
    Some(Program {
        name: name(&stat.comm, &command, executable.as_deref()),
        pid,
        command: shown(&command),
        cwd: process.cwd().ok().map(|cwd| path(&cwd)),
        unit,
        container,
    })
}

/// The sockets of TCP connections, by their own port and the other side's.
fn sockets() -> HashMap<(u16, u16), u64> {
    let of_both = [procfs::net::tcp(), procfs::net::tcp6()];
    of_both
        .into_iter()
        .flatten()
        .flatten()
        .filter(|socket| socket.state != TcpState::Listen && socket.inode != 0)
        .map(|socket| {
            let ports = (socket.local_address.port(), socket.remote_address.port());
            (ports, socket.inode)
        })
        .collect()
}

/// The processes that have these sockets.
fn owners(inodes: &[u64]) -> HashMap<u64, u32> {
    let mut owners = HashMap::new();
    if inodes.is_empty() {
        return owners;
    }
    // Processes of others, and those that end meanwhile, can't be looked into.
    for process in all_processes().into_iter().flatten().flatten() {
        let Ok(pid) = u32::try_from(process.pid()) else {
            continue;
        };
        for descriptor in process.fd().into_iter().flatten().flatten() {
            if let FDTarget::Socket(inode) = descriptor.target
                && inodes.contains(&inode)
            {
                // A process and the children it forked share the socket; the parent is the
                // older one.
                let owner = owners.entry(inode).or_insert(pid);
                *owner = pid.min(*owner);
            }
        }
    }
    owners
}

/// Time since boot, as processes' starts are told.
fn uptime() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::from_secs(u64::try_from(now.tv_sec).unwrap_or_default())
}
