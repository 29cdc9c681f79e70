//! The line between this machine and the bastion.

use std::{fmt, str::FromStr};

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
            round_trip: 80,
            loss: 0,
        },
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
            loss: 1,
        },
    ];
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
