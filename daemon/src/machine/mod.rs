//! Pure decisions: no IO, no clock, no randomness of their own. The moment and a random
//! number are passed in, so that a week of broken lines is tested in milliseconds.

mod backoff;
mod life;

pub use backoff::Backoff;
pub use life::{Action, Event, Life, Nudge, Phase, Renew};
