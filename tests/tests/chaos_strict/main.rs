//! The chaos suite once more where the bastion matters, before a strict one: it counts clients that
//! say nothing as gone, lets few log in at once and each open few channels, changes its keys often
//! and, where OpenSSH knows how to, punishes addresses that fail.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that meets the unexpected has failed; its figures are for who runs it with --nocapture"
)]

#[path = "../chaos/apart.rs"]
mod apart;
#[path = "../chaos/bastion.rs"]
mod bastion;
#[path = "../chaos/client.rs"]
mod client;
#[path = "../chaos/crowd.rs"]
mod crowd;
#[path = "../chaos/daemon.rs"]
mod daemon;
#[path = "../chaos/held.rs"]
mod held;
#[path = "../chaos/line.rs"]
mod line;
#[path = "../chaos/load.rs"]
mod load;
#[path = "../chaos/provider.rs"]
mod provider;
mod rekeying;
#[path = "../chaos/scene.rs"]
mod scene;
#[path = "../chaos/stalled_reader.rs"]
mod stalled_reader;

const STRICT: bool = true;
