//! Durations as Go and so Cilium write them: `15m0s`, `1h30m`, `250ms`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// The duration that `text` stands for.
fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut sum = Duration::ZERO;
    let mut rest = text;
    loop {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, behind) = rest.split_at(digits);
        let end = behind.find(|c: char| c.is_ascii_digit()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        let part = Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?;
        sum = sum.checked_add(part)?;
        if behind.is_empty() {
            return Some(sum);
        }
        rest = behind;
    }
}

/// For `#[serde(deserialize_with)]`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse(&text).ok_or_else(|| de::Error::custom(format!("{text:?} is no duration like 15m0s")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_go_writes_them() {
        let all = [("15m0s", 900_000), ("1h30m", 5_400_000), ("0s", 0), ("0", 0), ("1.5s", 1_500), ("250ms", 250)];
        for (text, millis) in all {
            assert_eq!(parse(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "15", "m", "5x", "1h ", "-5s", "1m30"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
