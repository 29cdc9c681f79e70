//! Everything that the reference tool (borealis-pg-cli 1.7.1) does, and nothing that it does
//! wrong. What it does is README's table, which [`table`] holds to the truth; what it does
//! wrong was measured, and each of it has a test:
//!
//! | the reference | test |
//! | --- | --- |
//! | a second `psql`, `tunnel`, `run -u` makes a running tunnel's password invalid | `tunnel::nobodys_password_is_taken_away` |
//! | so does a second `tunnel` whose port is taken | the same |
//! | sshd closes, or a connection is reset: the tunnel stays or crashes | `sessions::life::cut_connections_come_back_by_themselves` |
//! | a silent line: it hangs, without a keep-alive | `tunnel::a_silent_line_is_noticed_and_its_clients_are_served_in_the_end` |
//! | PostgreSQL is down when a client connects: crash | `sessions::life::a_restart_of_postgresql_fails_no_new_connection` |
//! | a client connects before SSH is up: crash | `sessions::life::a_client_that_comes_while_the_bastion_is_away_is_held` |
//! | `users:reset` while it runs: no client gets in | `addons::users::sessions_come_back_after_a_reset_when_a_client_connects` |
//! | SIGTERM: no clean-up | `tunnel::whoever_ends_it_nothing_stays` |
//! | every round trip takes 44 ms | `tunnel::a_round_trip_waits_for_nobody` |
//! | output of `run -e` is cut | `sessions::run::commands_get_the_connection_and_give_their_exit_code` |
//! | line breaks are added, other bytes than UTF-8 changed | `run::a_commands_output_is_its_own` |
//! | a child killed by a signal: exit 0 | `sessions::run::commands_get_the_connection_and_give_their_exit_code` |
//! | `-d` shows the last result only | `run::the_results_of_all_statements_are_shown` |
//! | NULL looks like an empty string; json values are all strings; a `date` shifts; microseconds are dropped; arrays, json and bytea are cut | `run::values_are_what_they_are_in_every_zone` |
//! | COPY output and notices are lost | `run::a_commands_output_is_its_own`, `sessions::run::copy_both_ways` |
//! | `-d ''` crashes | `run::the_results_of_all_statements_are_shown` |
//! | Ctrl-C leaves the query running | `run::a_query_ends_with_its_command` |
//! | a look-up that fails leaves the authorization alive | `provider::no_look_up_that_fails_leaves_a_grant`, and [`TestMachine::leave`] after every test |
//! | if removing it fails, so does the command | `provider::a_grant_that_can_not_be_removed_stops_nothing` |
//! | no status is retried, not 429 nor 503 | `addons::extensions::what_passes_is_waited_out_and_what_may_have_been_done_is_not_done_twice`, `sessions::wrong::the_provider_in_trouble` |
//! | lost connections are, POSTs included: up to 6 new passwords | `provider::a_lost_answer_makes_no_row_of_passwords` |
//! | a truncated body: exit 0, nothing done, nothing said | `provider::an_answer_that_is_cut_is_said_and_not_taken_for_done` |
//! | a call that hangs: 60 s | `provider::a_call_that_hangs_can_be_left`; its limits are the provider module's unit tests |
//! | URLs are not percent-encoded | `tunnel::urls_are_percent_encoded` |
//! | 0.65 s to load, 1.17 s for a query | `run::a_query_takes_less_than_the_reference_needs_to_load` |
//! | 6 requests in 5 sequential steps | `provider::few_calls_stand_before_a_session`, `sessions::api::open_asks_the_provider_for_no_more_than_it_needs` |
//!
//! [`TestMachine::leave`]: borealis_tests::harness::TestMachine::leave

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

/// A port that was free a moment ago, below those that the system gives to connections and
/// the daemon to sessions: nobody takes it meanwhile.
fn free_port() -> String {
    use std::{
        net::TcpListener,
        process,
        sync::atomic::{AtomicU32, Ordering},
    };
    static TRIED: AtomicU32 = AtomicU32::new(0);
    loop {
        let number = process::id() * 50 + TRIED.fetch_add(1, Ordering::Relaxed);
        let port = 10_000 + number % 5_000;
        let port = u16::try_from(port).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port.to_string();
        }
    }
}
