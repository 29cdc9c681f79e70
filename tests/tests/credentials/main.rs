//! Credentials that change behind a session, and connections that end with one, as its
//! clients see them: nothing, or a sentence.

mod client;
mod endings;
mod load;
mod rotation;
