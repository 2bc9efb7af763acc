//! Numbers as people read them: as many figures as mean something.

use crate::statistics::Summary;

/// Three significant figures, thousands apart: `104,000`, `43.1`, `0.132`.
pub(super) fn number(value: f64) -> String {
    significant(value, 3)
}

/// So many significant figures.
pub(super) fn significant(value: f64, figures: i32) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".into();
    }
    let magnitude = |value: f64| value.abs().log10().floor() as i32;
    let rounded = |digits: i32| {
        let unit = 10_f64.powi(-digits);
        (value / unit).round() * unit
    };
    // Rounding may make it a figure longer: 99.96 is 100.
    let digits = figures - 1 - magnitude(rounded(figures - 1 - magnitude(value)));
    let text = format!("{:.*}", digits.max(0) as usize, rounded(digits));
    let (whole, fraction) = text.split_once('.').map_or((&*text, None), |(whole, rest)| (whole, Some(rest)));
    let whole = thousands(whole);
    fraction.map_or(whole.clone(), |fraction| format!("{whole}.{fraction}"))
}

fn thousands(whole: &str) -> String {
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    format!("{sign}{text}")
}

/// A median with its deviation, times `unit`.
pub(super) fn spread(summary: &Summary, unit: f64) -> String {
    let median = number(summary.median * unit);
    if summary.rounds < 2 {
        return median;
    }
    format!("{median} ±{:.0}%", summary.relative_deviation() * 100.0)
}

/// A number of bytes in KiB, whole ones exactly: 4,096 KiB.
pub(super) fn kibibytes(bytes: u64) -> String {
    let whole = thousands(&(bytes / 1024).to_string());
    match bytes % 1024 {
        0 => format!("{whole} KiB"),
        rest => format!("{whole}.{} KiB", rest * 10 / 1024),
    }
}

/// A size of payloads.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        1_048_576.. => format!("{} MB", bytes / 1_048_576),
        1_024.. => format!("{} KB", bytes / 1_024),
        _ => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_significant_figures() {
        let cases = [
            (104_321.0, "104,000"),
            (1_000_000.0, "1,000,000"),
            (1_659.7, "1,660"),
            (999.6, "1,000"),
            (256.4, "256"),
            (99.96, "100"),
            (43.123, "43.1"),
            (7.0, "7.00"),
            (0.132_4, "0.132"),
            (0.020_04, "0.0200"),
            (-1_234.0, "-1,230"),
            (0.0, "0"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text, "{value}");
        }
    }

    #[test]
    fn buffers_are_said_exactly() {
        let cases = [(8 << 20, "8,192 KiB"), (212_992, "208 KiB"), (1_536, "1.5 KiB"), (0, "0 KiB")];
        for (bytes, text) in cases {
            assert_eq!(kibibytes(bytes), text);
        }
    }

    #[test]
    fn one_round_has_no_spread() {
        assert_eq!(spread(&Summary::of(&[2_000.0]).unwrap(), 1e-3), "2.00");
        assert_eq!(spread(&Summary::of(&[90.0, 100.0, 120.0]).unwrap(), 1.0), "100 ±10%");
    }

    #[test]
    fn sizes_are_said_with_their_unit() {
        assert_eq!([256, 1_024, 102_400, 1_048_576].map(size), ["256 B", "1 KB", "100 KB", "1 MB"]);
    }
}
