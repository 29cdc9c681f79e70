//! Flags of the commands that look at the daemon, and of the manual.

use std::path::PathBuf;

use clap::Args;
use jiff::{Timestamp, Zoned, civil, tz::TimeZone};

use super::TargetArgs;
use crate::output::now;

/// `doctor`
#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    /// What to check the way to.
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// `events`
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only what happened to this session
    #[arg(value_name = "NAME", add = crate::complete::sessions())]
    pub(crate) session: Option<String>,
    /// Only what happened since then: a time (2026-11-22T14:15:00Z, "2026-11-22 15:15",
    /// yesterday) or for so long (10m, 2h, 1d)
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<Timestamp>,
    /// Go on with what happens from now on, until interrupted
    #[arg(long)]
    pub(crate) follow: bool,
}

/// `bugreport`
#[derive(Debug, Args)]
pub(crate) struct BugreportArgs {
    /// Where it goes; `-` is standard output [default: a file in this directory; standard output
    /// where that is no terminal]
    #[arg(value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) file: Option<PathBuf>,
    /// The daemon's log, where it is not found by itself
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    pub(crate) log: Option<PathBuf>,
    /// Write it without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Replace a file that is there
    #[arg(long)]
    pub(crate) force: bool,
}

/// `man`
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where the pages go
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

fn since(text: &str) -> Result<Timestamp, String> {
    time_before(text, &now().to_zoned(TimeZone::system())).ok_or_else(|| {
        "not a time like 2026-11-22T14:15:00Z or yesterday, nor 10m, 2h or 1d".into()
    })
}

/// A time, in the zone of `now` where it names none; or the time so long before `now`.
fn time_before(text: &str, now: &Zoned) -> Option<Timestamp> {
    let midnight = match text.trim() {
        "today" => Some(now.start_of_day()),
        "yesterday" => Some(now.yesterday().and_then(|day| day.start_of_day())),
        _ => None,
    };
    if let Some(midnight) = midnight {
        return Some(midnight.ok()?.timestamp());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Some(time);
    }
    if let Ok(time) = text.parse::<civil::DateTime>() {
        return Some(time.to_zoned(now.time_zone().clone()).ok()?.timestamp());
    }
    let span: jiff::Span = text.parse().ok()?;
    Some(now.checked_sub(span.abs()).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_as_people_and_programs_write_them() {
        let now: Zoned = "2026-11-22T15:15:00+01:00[Europe/Berlin]".parse().unwrap();
        for (text, expected) in [
            ("2026-11-22T14:00:00Z", Some("2026-11-22T14:00:00Z")),
            (
                "2026-11-22T15:00:00.5+01:00",
                Some("2026-11-22T14:00:00.5Z"),
            ),
            ("2026-11-22 15:00", Some("2026-11-22T14:00:00Z")),
            ("2026-11-22", Some("2026-11-21T23:00:00Z")),
            ("today", Some("2026-11-21T23:00:00Z")),
            ("yesterday", Some("2026-11-20T23:00:00Z")),
            ("10m", Some("2026-11-22T14:05:00Z")),
            ("2h30m", Some("2026-11-22T11:45:00Z")),
            ("1d", Some("2026-11-21T14:15:00Z")),
            ("2 hours ago", Some("2026-11-22T12:15:00Z")),
            ("", None),
            ("10", None),
            ("soon", None),
            ("99999999999d", None),
        ] {
            let expected = expected.map(|time| time.parse().unwrap());
            assert_eq!(time_before(text, &now), expected, "{text}");
        }
    }
}
