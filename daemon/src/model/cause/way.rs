//! The way to the database.

use std::time::Duration;

use super::Words;
use crate::model::{Foreign, HostPort};

pub(super) fn no_network() -> Words {
    Words::new(
        "this machine has no network",
        "the session comes back by itself with the network",
    )
}

pub(super) fn bastion_unreachable(bastion: &HostPort, detail: &str) -> Words {
    Words::new(
        format!("can't reach the SSH server {bastion}: {detail}"),
        "check the network, and whether a firewall lets SSH out",
    )
}

pub(super) fn bastion_busy(bastion: &HostPort, said: Option<&str>) -> Words {
    Words::new(
        match said {
            Some(said) => {
                format!("the SSH server {bastion} lets nobody in for the moment; it said: {said}")
            }
            None => format!("the SSH server {bastion} closed the connection at once"),
        },
        "it may have too many connections, or too many from this network; borealisd tries again by itself",
    )
}

pub(super) fn bastion_refused_key(bastion: &HostPort) -> Words {
    Words::new(
        format!("the SSH server {bastion} refused the personal SSH key"),
        "`borealisctl rotate` asks for a new one",
    )
}

pub(super) fn host_key_differs(bastion: &HostPort) -> Words {
    Words::new(
        format!(
            "the host key of the SSH server {bastion} is not the one that the add-on's API gave; someone may be intercepting the connection"
        ),
        "nothing was sent to that server; try from another network, and tell Borealis support if it stays so",
    )
}

pub(super) fn tunnel_lost(detail: &str) -> Words {
    Words::new(
        format!("the SSH connection was lost: {detail}"),
        "the session reconnects by itself",
    )
}

pub(super) fn database_unreachable(server: &HostPort, detail: &str) -> Words {
    Words::new(
        format!("the SSH server can't reach the database server {server}: {detail}"),
        "the database may be restarting; the session tries again by itself",
    )
}

pub(super) fn upstream_tls(server: &HostPort, detail: &str) -> Words {
    Words::new(
        format!("TLS with the database server {server} failed: {detail}"),
        "see upstream_tls and upstream_ca in config.toml",
    )
}

pub(super) fn database_refused_login(sqlstate: &str, message: &Foreign) -> Words {
    Words::new(
        format!(
            "the database refused the credentials that the provider issued ({sqlstate}: {message})"
        ),
        "the session asks for new ones by itself",
    )
}

pub(super) fn fresh_credentials_refused(sqlstate: &str, message: &Foreign) -> Words {
    Words::new(
        format!(
            "the database refuses every new credential that the provider issues ({sqlstate}: {message})"
        ),
        "the fault is the database's or the provider's: see `borealisctl doctor`, and tell Borealis support if it stays so; the session tries again by itself, every two minutes at the least",
    )
}

pub(super) fn credentials_contested(addon: &str, times: usize, within: Duration) -> Words {
    Words::new(
        format!(
            "the personal credentials of add-on {addon} were replaced from elsewhere {times} times within {} minutes; another machine of yours seems to use it too, and each takes the other's password away",
            within.as_secs() / 60
        ),
        "both go on working, but log-ins wait for each other; close the session on one of them, or open it with `--role app`, whose password they share",
    )
}

pub(super) fn database_refused(sqlstate: &str, message: &Foreign) -> Words {
    Words::new(
        format!("the database refused the connection ({sqlstate}: {message})"),
        "",
    )
}
