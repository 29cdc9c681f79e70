//! What the daemon asks of the operating system: connections of clients, time that counts
//! suspend, changes of the network, holders of ports, open files, and files that it believes.

pub mod accept;
pub mod clock;
pub mod descriptors;
pub mod file;
pub mod memory;
pub mod network;
pub mod port;
