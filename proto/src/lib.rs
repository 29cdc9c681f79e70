//! The control API of `borealisd`, and what both ends of it must agree on:
//! the generated types, where the socket is, how to connect to it, whom to trust there,
//! who has a port, how a file of settings is read and refused, and which characters are never
//! shown.

pub mod connect;
pub mod paths;
pub mod port_holder;
pub mod presence;
mod redacted;
pub mod settings_file;
pub mod socket_path;
pub mod text;
pub mod trust;

/// The gRPC package `borealis.control.v1`.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated; the .proto file holds the documentation"
)]
pub mod v1 {
    tonic::include_proto!("borealis.control.v1");
}

/// The encoded `FileDescriptorSet` of the API, for the reflection service.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Version of the API spoken by this build, `MAJOR.MINOR`. Clients and daemons
/// with the same major version work together.
pub const API_VERSION: &str = "1.0";

/// The process's environment variable that names the control socket.
pub const SOCKET_VARIABLE: &str = "BOREALIS_SOCKET";
