//! Whether this node does its work, and what keeps it from it.
//!
//! Ready means that something desired, be it from a checkpoint, was tried in the kernel, and that pods can be attached. It never
//! means "connected": losing the operator changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// What is known now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The node's network works.
    pub ready: bool,
    /// What is wrong, by who found it.
    pub problems: BTreeMap<&'static str, Vec<String>>,
}

impl Report {
    /// All problems, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.problems.iter().flat_map(|(who, lines)| lines.iter().map(move |line| format!("{who}: {line}"))).collect()
    }
}

/// Where parts of the daemon say how they are. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Health {
    report: Arc<watch::Sender<Report>>,
}

impl Health {
    /// What `who` finds wrong now; nothing: all is well.
    pub fn problems(&self, who: &'static str, lines: Vec<String>) {
        self.report.send_if_modified(|report| {
            let before = report.problems.get(who);
            if lines.is_empty() {
                return report.problems.remove(who).is_some();
            }
            if before == Some(&lines) {
                return false;
            }
            report.problems.insert(who, lines);
            true
        });
    }

    /// The node's network works from here on.
    pub fn ready(&self) {
        self.report.send_if_modified(|report| !std::mem::replace(&mut report.ready, true));
    }

    /// Now, and whenever that changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Report> {
        self.report.subscribe()
    }
}
