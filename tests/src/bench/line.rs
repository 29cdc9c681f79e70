//! The line between this machine and the bastion.

use std::{fmt, process::Command, str::FromStr};

use serde::{Deserialize, Serialize};

/// A round trip time and a loss. Its rate is 1 Gbit/s where it has a delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Milliseconds there and back.
    pub(crate) round_trip: u32,
    /// Percent of packets lost, in each direction.
    pub(crate) loss: u32,
}

impl Line {
    pub(crate) const LOOPBACK: Self = Self {
        round_trip: 0,
        loss: 0,
    };
    pub(crate) const ALL: [Self; 5] = [
        Self::LOOPBACK,
        Self {
            round_trip: 20,
            loss: 0,
        },
        Self {
            round_trip: 20,
            loss: 1,
        },
        Self {
            round_trip: 80,
            loss: 0,
        },
        Self {
            round_trip: 80,
            loss: 1,
        },
    ];

    /// Delays and loses what passes a port of the loopback interface, in both directions.
    pub(crate) fn impose(self, port: u16) {
        if self == Self::LOOPBACK {
            return;
        }
        let delay = format!("{}us", self.round_trip * 500);
        let mut netem = vec!["delay", &delay, "rate", "1gbit", "limit", "200000"];
        let loss = format!("{}%", self.loss);
        if self.loss > 0 {
            netem.extend(["loss", &loss]);
        }
        let port = port.to_string();
        tc(
            "qdisc add dev lo root handle 1: prio bands 4 priomap 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0",
            &[],
        );
        tc("qdisc add dev lo parent 1:4 handle 40: netem", &netem);
        for side in ["sport", "dport"] {
            tc(
                "filter add dev lo parent 1: protocol ip u32 match ip",
                &[side, &port, "0xffff", "flowid", "1:4"],
            );
        }
    }
}

/// A new network namespace has no interface that is up.
pub(crate) fn bring_up() {
    let status = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(status.expect("ip, of iproute2").success());
}

fn tc(words: &str, more: &[&str]) {
    let status = Command::new("tc")
        .args(words.split(' '))
        .args(more)
        .status();
    assert!(
        status.expect("tc, of iproute2").success(),
        "tc {words} {more:?}"
    );
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.round_trip, self.loss)
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (round_trip, loss) = text.split_once('/').unwrap_or((text, "0"));
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
        Ok(Self {
            round_trip: number(round_trip)?,
            loss: number(loss)?,
        })
    }
}
