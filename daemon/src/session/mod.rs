//! The control plane of one session: the machine that decides when to try, the attempts it
//! asks for, and the driver that joins both. The bytes are [`proxy`](crate::proxy)'s; which
//! sessions exist is the supervisor's.

mod connect;
mod driver;
mod handle;
pub mod machine;
mod status;
mod under_way;

pub(crate) use connect::{EarlyDial, database_key, key_of};
pub(crate) use driver::spawn;
pub use driver::{END_LIMIT, Environment};
pub use handle::{CloseRequest, Command, Session};
pub use status::{CredentialStatus, Spec, Status};
