//! A channel to the database as a stream of bytes.
//!
//! Its reader takes messages from russh's queue, [directly](reader::ReadMode::Direct), at no
//! cost. One that lets too much wait on a line that others share is decoupled: a pump takes what
//! comes, keeps what the client doesn't take yet in memory and then on disk, and hands the queue
//! back once the client has taken all of it.

mod budget;
mod open;
mod pump;
mod reader;
mod spill;
mod stream;

pub(super) use budget::{ProcessBudget, QUEUE, TunnelBudget};
pub use open::Reserved;
pub use stream::ChannelStream;
