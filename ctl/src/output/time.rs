//! Times, as programs and as people read them.

use jiff::{
    SignedDuration, Span, Timestamp,
    fmt::friendly::{Designator, Spacing, SpanPrinter},
    tz::TimeZone,
};

/// The time of day; the last that there is where the clock says more.
pub(crate) fn now() -> Timestamp {
    Timestamp::try_from(std::time::SystemTime::now()).unwrap_or(Timestamp::MAX)
}

/// RFC 3339 in UTC, to the second. `None` where the daemon sent no time, or none that exists.
pub(crate) fn rfc3339(time: Option<&prost_types::Timestamp>) -> Option<String> {
    let time = timestamp(time?)?;
    Some(time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// To the second, in the user's time zone.
pub(crate) fn stamp(time: Option<&prost_types::Timestamp>) -> Option<String> {
    stamp_in(time, &TimeZone::system())
}

/// The same in a time zone.
pub(crate) fn stamp_in(time: Option<&prost_types::Timestamp>, zone: &TimeZone) -> Option<String> {
    let time = timestamp(time?)?.to_zoned(zone.clone());
    Some(time.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// In the user's own zone: `2026-11-22 15:15:00 CET`.
pub(crate) fn local(time: Option<&prost_types::Timestamp>) -> Option<String> {
    let zoned = timestamp(time?)?.to_zoned(TimeZone::system());
    Some(zoned.strftime("%Y-%m-%d %H:%M:%S %Z").to_string())
}

/// How long ago `time` was: `12s`, `3m`, `2h5m`, `4d`.
pub(crate) fn since(time: Option<&prost_types::Timestamp>, now: Timestamp) -> Option<String> {
    Some(short(now.duration_since(timestamp(time?)?)))
}

/// How long it is until `time`, in the same form.
pub(crate) fn until(time: Option<&prost_types::Timestamp>, now: Timestamp) -> Option<String> {
    Some(short(timestamp(time?)?.duration_since(now)))
}

pub(super) fn timestamp(time: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).ok()
}

/// Whole days, or hours and minutes, or seconds: what is below is of no interest.
fn short(duration: SignedDuration) -> String {
    const PRINTER: SpanPrinter = SpanPrinter::new()
        .designator(Designator::Compact)
        .spacing(Spacing::None);
    let seconds = duration.as_secs().max(0);
    let (minutes, days) = (seconds / 60, seconds / 86400);
    match (days, minutes) {
        (0, 0) => PRINTER.duration_to_string(&SignedDuration::from_secs(seconds)),
        (0, _) => PRINTER.duration_to_string(&SignedDuration::from_mins(minutes)),
        _ => PRINTER.span_to_string(&Span::new().try_days(days).unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (59, "59s"),
            (61, "1m"),
            (3600, "1h"),
            (7500, "2h5m"),
            (400_000, "4d"),
        ] {
            assert_eq!(short(SignedDuration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn times_are_utc_to_the_second() {
        let time = prost_types::Timestamp {
            seconds: 1_795_000_000,
            nanos: 999_999_999,
        };
        assert_eq!(
            rfc3339(Some(&time)).as_deref(),
            Some("2026-11-18T11:06:40Z")
        );
        assert_eq!(rfc3339(None), None);
    }
}
