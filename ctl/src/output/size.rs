//! Sizes as people read them.

/// In the largest binary unit that leaves a whole number, with one digit more below ten.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // Tenths of the unit, rounded half up, in 128 bits so that nothing overflows.
    let mut unit = 0;
    let tenths = loop {
        let one = 1024_u128.pow(unit + 1);
        let tenths = (u128::from(bytes) * 10 + one / 2) / one;
        if tenths < 10240 || unit == 5 {
            break tenths;
        }
        unit += 1;
    };
    let name = UNITS.get(unit as usize).copied().unwrap_or("EiB");
    if tenths % 10 == 0 || tenths >= 1000 {
        format!("{} {name}", (tenths + 5) / 10)
    } else {
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

/// How much of `whole` is used, in whole per cent; `None` where there is nothing to use.
pub(super) fn per_cent(used: u64, whole: u64) -> Option<u64> {
    let used = u128::from(used) * 100;
    u64::try_from(used.checked_div(u128::from(whole))?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1 MiB"),
            (5_368_709_120, "5 GiB"),
            (107_374_182_400, "100 GiB"),
            (8_123_456, "7.7 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(size(bytes), text, "{bytes}");
        }
        assert_eq!(per_cent(1, 3), Some(33));
        assert_eq!(per_cent(6, 3), Some(200));
        assert_eq!(per_cent(1, 0), None);
    }

    proptest! {
        #[test]
        fn no_size_is_wrong_by_more_than_a_twentieth(bytes in 1024_u64..) {
            let text = size(bytes);
            let (number, unit) = text.split_once(' ').unwrap();
            let power = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].iter().position(|u| *u == unit).unwrap();
            let shown = number.parse::<f64>().unwrap() * 1024_f64.powi(i32::try_from(power).unwrap() + 1);
            prop_assert!((shown / bytes as f64 - 1.0).abs() < 0.05, "{bytes}: {text}");
        }
    }
}
