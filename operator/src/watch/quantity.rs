//! Quantities as Kubernetes writes them.

/// Suffixes and what they multiply by. Fractions of one are rounded up, as Kubernetes does.
const SUFFIXES: [(&str, f64); 15] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

/// The whole number that `text` means, rounded up; none if it is no quantity, negative or too large. Numbers that a double
/// cannot hold (above 2^53, without a suffix) keep their sixteen leading digits.
pub(super) fn quantity(text: &str) -> Option<u64> {
    if let Ok(plain) = text.parse::<u64>() {
        return Some(plain);
    }
    let (number, factor) = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| text.strip_suffix(suffix).map(|number| (number, *factor)))
        .unwrap_or((text, 1.0));
    // "1e3" is a quantity, "inf", "nan" and "1e3k" are none.
    let exponent = factor == 1.0;
    let valid = |c: char| c.is_ascii_digit() || matches!(c, '.' | '+' | '-') || (exponent && matches!(c, 'e' | 'E'));
    if !number.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '+')) || !number.chars().all(valid) {
        return None;
    }
    let value = (number.parse::<f64>().ok()? * factor).ceil();
    (value < u64::MAX as f64).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::quantity;

    #[test]
    fn quantities() {
        for (text, value) in [
            ("0", 0),
            ("110", 110),
            ("1k", 1_000),
            ("10M", 10_000_000),
            ("1.5G", 1_500_000_000),
            ("2Mi", 2_097_152),
            ("1e6", 1_000_000),
            ("+1E3", 1_000),
            ("1E", 1_000_000_000_000_000_000),
            ("100m", 1),
        ] {
            assert_eq!(quantity(text), Some(value), "{text}");
        }
        for text in ["", "x", "-1", "-1M", "10 M", "10Mbit", "1e", "1e3k", "inf", "nan", "0x10", "1e30"] {
            assert_eq!(quantity(text), None, "{text:?}");
        }
    }
}
