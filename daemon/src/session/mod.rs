//! The control plane of one session: the machine that decides when to try, the attempts it
//! asks for, and the driver that joins both. The bytes are [`proxy`](crate::proxy)'s; which
//! sessions exist is the supervisor's.

mod connect;
mod driver;
pub mod machine;
mod status;
mod under_way;

pub(crate) use connect::{EarlyDial, database_key, key_of};
pub(crate) use driver::spawn;
pub use driver::{CloseRequest, Command, END_LIMIT, Environment, Session};
pub use status::{CredentialStatus, Spec, Status};
