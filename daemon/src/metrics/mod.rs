//! Counters and gauges in Prometheus' text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Everything is counted where it happens; here it is only gathered and written down. No
//! label is a secret, and none grows without bound: names of sessions, phases, statuses.

mod bounded;
mod server;
mod text;

use std::fs;

use jiff::Timestamp;
use rustix::process::{Resource, getrlimit};
use tokio::runtime::Handle;

pub use server::serve;

use self::text::{Metric, Text};
use crate::{
    credential::{Broker, Renewals},
    session::machine::Phase,
    supervisor::{SessionSnapshot, Snapshot},
};

/// Everything as text.
pub fn gather(snapshot: &Snapshot, broker: &Broker, started_at: Timestamp) -> String {
    let mut text = Text::default();
    of_sessions(&mut text, &snapshot.sessions);
    of_broker(&mut text, broker);
    of_process(&mut text, started_at);
    text.finish()
}

const PHASES: [(Phase, &str); 5] = [
    (Phase::Opening, "opening"),
    (Phase::Up, "up"),
    (Phase::Reconnecting, "reconnecting"),
    (Phase::Failed, "failed"),
    (Phase::Closing, "closing"),
];

fn of_sessions(text: &mut Text, views: &[SessionSnapshot]) {
    text.metric(Metric::gauge(
        "borealis_sessions",
        "Open sessions by state.",
    ));
    for (phase, name) in PHASES {
        let count = views.iter().filter(|v| v.status.phase == phase).count();
        text.sample(&[("state", name)], count as u64);
    }
    let mut each = |metric, value: &dyn Fn(&SessionSnapshot) -> u64| {
        text.metric(metric);
        for view in views {
            text.sample(&[("session", view.name.as_str())], value(view));
        }
    };
    each(
        Metric::gauge("borealis_session_up", "Whether the session is up."),
        &|view| u64::from(view.status.phase == Phase::Up),
    );
    each(
        Metric::gauge(
            "borealis_session_connections",
            "Connections of clients now.",
        ),
        &|view| view.counters.active(),
    );
    each(
        Metric::counter(
            "borealis_session_connections_total",
            "Connections of clients since the session was opened.",
        ),
        &|view| view.counters.total(),
    );
    each(
        Metric::counter(
            "borealis_session_sent_bytes_total",
            "Bytes from clients to the database.",
        ),
        &|view| view.counters.sent(),
    );
    each(
        Metric::counter(
            "borealis_session_received_bytes_total",
            "Bytes from the database to clients.",
        ),
        &|view| view.counters.received(),
    );
    each(
        Metric::gauge(
            "borealis_session_tunnels",
            "SSH connections now; sessions of one add-on share them.",
        ),
        &|view| view.counters.tunnels(),
    );
    text.metric(Metric::counter(
        "borealis_session_attempts_total",
        "Attempts to connect, or to renew the credentials, by outcome.",
    ));
    for view in views {
        let name = view.name.as_str();
        let counters = &view.counters;
        for (outcome, count) in [
            ("succeeded", counters.successful_attempts()),
            ("failed", counters.failed_attempts()),
        ] {
            text.sample(&[("session", name), ("outcome", outcome)], count);
        }
    }
}

fn of_broker(text: &mut Text, broker: &Broker) {
    text.metric(Metric::counter(
        "borealis_credentials_total",
        "Credentials asked of the provider, by kind and outcome.",
    ));
    let (ssh, database) = broker.renewals();
    for (kind, Renewals { done, failed }) in [("ssh", ssh), ("database", database)] {
        text.sample(&[("kind", kind), ("outcome", "succeeded")], done);
        text.sample(&[("kind", kind), ("outcome", "failed")], failed);
    }
    text.metric(Metric::gauge(
        "borealis_grants_outstanding",
        "Short-lived authorizations that exist at Heroku.",
    ));
    text.sample(&[], broker.grants_outstanding() as u64);
    text.metric(Metric::counter(
        "borealis_provider_calls_total",
        "Attempted calls of the provider's APIs by the status of the answer; none is no answer.",
    ));
    for (api, answers) in broker.provider().answers() {
        for (status, count) in answers {
            let status = status.map_or_else(|| "none".to_owned(), |status| status.to_string());
            text.sample(&[("api", api.label()), ("status", &status)], count);
        }
    }
}

fn of_process(text: &mut Text, started_at: Timestamp) {
    text.metric(Metric::gauge(
        "borealis_build_info",
        "Always 1; the label is the version of borealisd.",
    ));
    text.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.metric(Metric::gauge(
        "process_start_time_seconds",
        "When borealisd started, in seconds since 1970.",
    ));
    text.sample(
        &[],
        u64::try_from(started_at.as_second()).unwrap_or_default(),
    );
    if let Ok(runtime) = Handle::try_current() {
        text.metric(Metric::gauge(
            "borealis_tasks",
            "Asynchronous tasks that have not ended.",
        ));
        text.sample(&[], runtime.metrics().num_alive_tasks() as u64);
    }
    // Linux only; elsewhere the metric is left out.
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        text.metric(Metric::gauge("process_open_fds", "Open file descriptors."));
        text.sample(&[], open.count() as u64);
    }
    if let Some(limit) = getrlimit(Resource::Nofile).current {
        text.metric(Metric::gauge(
            "process_max_fds",
            "How many file descriptors may be open.",
        ));
        text.sample(&[], limit);
    }
}
