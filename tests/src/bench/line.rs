//! The line between this machine and the bastion.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A round trip time, a loss and a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Line {
    /// Milliseconds there and back.
    pub(crate) round_trip: u32,
    /// Percent of packets lost, in each direction.
    pub(crate) loss: u32,
    /// Mbit/s, where it has a delay.
    pub(crate) rate: u32,
}

/// 1 Gbit/s.
const USUAL_RATE: u32 = 1000;

impl Line {
    pub(crate) const LOOPBACK: Self = Self::new(0, 0, USUAL_RATE);
    pub(crate) const FAR: Self = Self::new(80, 0, USUAL_RATE);
    /// At home rather than in an office: one bulk transfer fills it.
    pub(crate) const FAR_AND_NARROW: Self = Self::new(80, 0, 100);
    pub(crate) const FAR_AND_LOSSY: Self = Self::new(80, 1, USUAL_RATE);
    pub(crate) const ALL: [Self; 6] = [
        Self::LOOPBACK,
        Self::FAR,
        Self::FAR_AND_NARROW,
        Self::new(20, 0, USUAL_RATE),
        Self::new(20, 1, USUAL_RATE),
        Self::FAR_AND_LOSSY,
    ];

    /// Those that decide: they are measured in each run, the others in the first.
    pub(crate) const MAIN: [Self; 3] = [Self::LOOPBACK, Self::FAR, Self::FAR_AND_NARROW];

    const fn new(round_trip: u32, loss: u32, rate: u32) -> Self {
        Self {
            round_trip,
            loss,
            rate,
        }
    }

    /// What a reader calls it.
    pub(crate) fn title(self) -> String {
        if self == Self::LOOPBACK {
            return "Loopback".into();
        }
        let mut title = format!("{} ms, {} % loss", self.round_trip, self.loss);
        if self.is_narrow() {
            title += &format!(", {} Mbit/s", self.rate);
        }
        title
    }

    /// Whether a bulk transfer fills it, however it goes.
    pub(crate) fn is_narrow(self) -> bool {
        self.rate < USUAL_RATE
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.round_trip, self.loss)?;
        if self.rate != USUAL_RATE {
            write!(f, "/{}", self.rate)?;
        }
        Ok(())
    }
}

impl FromStr for Line {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
        let numbers: Vec<u32> = text.split('/').map(number).collect::<Result<_, _>>()?;
        match *numbers {
            [round_trip] => Ok(Self::new(round_trip, 0, USUAL_RATE)),
            [round_trip, loss] => Ok(Self::new(round_trip, loss, USUAL_RATE)),
            [round_trip, loss, rate] if rate > 0 => Ok(Self::new(round_trip, loss, rate)),
            _ => Err("a line is a round trip, a loss and a rate, as in 80/0/100".into()),
        }
    }
}
