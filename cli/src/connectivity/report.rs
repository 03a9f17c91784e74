//! What came of the check.

use axoneme_admin::table::{Cell, Table, Tone};
use serde::Serialize;

/// One question and its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// What is checked.
    pub check: String,
    /// Who asked, on which node.
    pub from: String,
    /// Who was asked, and where.
    pub to: String,
    /// It was to be answered.
    pub expected: bool,
    /// As it was to be.
    pub passed: bool,
    /// The answer, or why there was none.
    pub answer: String,
    /// Until it was as it was to be.
    pub milliseconds: u64,
}

/// All of them.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Everything was as it was to be.
    pub passed: bool,
    /// Each of it.
    pub checks: Vec<Row>,
    /// What was not checked, and why.
    pub skipped: Vec<String>,
}

/// As text.
#[must_use]
pub fn render(report: &Report, colours: bool) -> String {
    let mut table = Table::new(&["CHECK", "FROM", "TO", "EXPECTED", "RESULT", "TIME"]);
    for row in &report.checks {
        let result = match (row.passed, row.expected) {
            (true, true) => Cell::new("reached", Tone::Good),
            (true, false) => Cell::new("dropped", Tone::Good),
            (false, true) => Cell::new(format!("FAILED: {}", row.answer), Tone::Bad),
            (false, false) => Cell::new(format!("FAILED: reached {}", row.answer), Tone::Bad),
        };
        table.row([
            row.check.as_str().into(),
            row.from.as_str().into(),
            row.to.as_str().into(),
            if row.expected { "reached" } else { "dropped" }.into(),
            result,
            format!("{} ms", row.milliseconds).into(),
        ]);
    }
    let mut out = table.render(colours);
    for skipped in &report.skipped {
        out.push_str(&format!("{} {skipped}\n", Tone::Warning.paint("not checked:", colours)));
    }
    let failed = report.checks.iter().filter(|row| !row.passed).count();
    let verdict = if failed == 0 {
        Tone::Good.paint(&format!("all {} checks pass", report.checks.len()), colours)
    } else {
        let hint = "see \"axoneme status\", \"axoneme check\", and cilium_drop_count_total of the nodes' metrics for the reason";
        format!("{}; {hint}", Tone::Bad.paint(&format!("{failed} of {} checks fail", report.checks.len()), colours))
    };
    out.push_str(&format!("\n{verdict}\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_stand_out() {
        let row = |expected, passed, answer: &str| Row {
            check: "pod to pod".into(),
            from: "client@n1".into(),
            to: "server@n2 10.0.0.2:8080".into(),
            expected,
            passed,
            answer: answer.into(),
            milliseconds: 4,
        };
        let mut report = Report { passed: true, checks: vec![row(true, true, "server")], skipped: vec!["n2".into()] };
        assert_eq!(
            render(&report, false),
            "\
CHECK       FROM       TO                       EXPECTED  RESULT   TIME
pod to pod  client@n1  server@n2 10.0.0.2:8080  reached   reached  4 ms
not checked: n2

all 1 checks pass
"
        );
        report.checks.extend([row(true, false, "timed out"), row(false, false, "server"), row(false, true, "")]);
        let text = render(&report, false);
        for part in ["FAILED: timed out", "FAILED: reached server", "dropped   dropped", "2 of 4 checks fail"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
