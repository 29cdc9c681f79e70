//! What the daemon asks of the operating system: time that counts suspend, changes of the
//! network, holders of ports, open files.

pub mod clock;
pub mod descriptors;
pub mod network;
pub mod port;
