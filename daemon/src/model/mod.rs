//! Pure values that every other module speaks in. Nothing here does IO, knows a wire
//! format or is serialised as it stands.

pub mod backoff;
pub mod cause;
pub mod credential;
pub mod name;
pub mod session;
pub mod target;
pub mod text;

pub use backoff::Backoff;
pub use cause::{Cause, Class, Refusal, Retry};
pub use credential::{DatabaseCredential, Generation, HostPort, Lease, SshCredential};
pub use name::{NameError, SessionName};
pub use session::{Access, Expiry, Mode, Role};
pub use target::{Resolved, Target};
pub use text::Foreign;
