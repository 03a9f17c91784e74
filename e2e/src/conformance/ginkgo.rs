//! What Kubernetes' e2e.test prints.

use std::time::Duration;

use super::{Ended, Outcome};

/// Its lines so far.
#[derive(Default)]
pub(super) struct Output {
    current: String,
}

impl Output {
    /// The spec that ends with this line, if one does.
    pub(super) fn line(&mut self, line: &str) -> Option<Ended> {
        if line.starts_with("[sig-") {
            self.current = spec_name(line);
        }
        // Ginkgo ends a spec with a line like "• [12.345 seconds]" or "• [FAILED] [12.345 seconds]".
        let rest = line.strip_prefix("• ")?;
        let took = rest.rsplit('[').next().and_then(|t| t.split(' ').next()).and_then(|t| t.parse().ok());
        let failed = ["[FAILED]", "[PANICKED]", "[TIMEDOUT]"].iter().any(|word| rest.contains(word));
        let outcome = if failed { Outcome::Failed } else { Outcome::Passed };
        Some(Ended { name: self.current.clone(), outcome, took: Duration::from_secs_f64(took.unwrap_or_default()) })
    }
}

/// The part of a spec's name that tells it from its neighbours.
fn spec_name(line: &str) -> String {
    let name = line.split("] ").last().unwrap_or(line);
    let name = name.split_once(" should ").map_or(name.to_owned(), |(_, rest)| format!("should {rest}"));
    let name = name.split(" [Feature:").next().unwrap_or_default();
    let name = name.split("\u{1b}").next().unwrap_or_default();
    name.chars().take(110).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short() {
        let line = "[sig-network] Netpol NetworkPolicy between server and client should enforce policy to allow X [Feature:NetworkPolicy]";
        assert_eq!(spec_name(line), "should enforce policy to allow X");
    }
}
