//! Spans of time as people write them: `"30s"`, `"1h30m"`, `"7d"`.

use std::{fmt::Write as _, time::Duration};

use jiff::{Span, SpanRelativeTo};

/// Reads a span of time with units, up to days and weeks. A day has 24 hours. `None`
/// where it has no unit, is negative, or depends on a calendar (months, years).
pub(super) fn parse(text: &str) -> Option<Duration> {
    let span: Span = text.trim().parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(duration).ok()
}

/// As [`parse`] reads it, in the fewest units. Below a millisecond nothing is shown.
pub(super) fn render(duration: Duration) -> String {
    let units = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, length) in units {
        if rest >= length {
            // Writing to a String can't fail.
            let _ = write!(text, "{}{unit}", rest / length);
            rest %= length;
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_people_write() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(parse("30s"), seconds(30));
        assert_eq!(parse(" 8h "), seconds(8 * 3600));
        assert_eq!(parse("1h30m"), seconds(5400));
        assert_eq!(parse("1h 30m"), seconds(5400));
        assert_eq!(parse("7d"), seconds(7 * 86400));
        assert_eq!(parse("2 minutes"), seconds(120));
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse("0s"), seconds(0));
        for wrong in [
            "", "30", "-5s", "5s ago", "1 month", "1y", "soon", "s", "1e3s",
        ] {
            assert_eq!(parse(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn rendered_is_read_back(millis in 0u64..1_000_000_000_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&render(duration)), Some(duration));
        }

        #[test]
        fn no_text_breaks_it(text in ".*") {
            let _ = parse(&text);
        }
    }
}
