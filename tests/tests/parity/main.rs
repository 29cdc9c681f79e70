//! Everything that the reference tool (borealis-pg-cli 1.7.1) does, and nothing that it does
//! wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that can't go on fails"
)]

mod mistakes;
mod provider;
mod psql;
mod run;
mod script;
mod table;
mod texts;
mod tunnel;

/// A port that was free a moment ago, which is free enough: nothing asks for it by number.
fn free_port() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}
