//! What was found when a node was looked at: whether this network can run there, and what would be in its way.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a finding counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    #[default]
    Good,
    /// It works, and somebody should look at it.
    Warning,
    /// It does not work like this.
    Bad,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Bad => "bad",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Finding {
    /// What was looked at, in a word or two: the same on every node.
    pub check: String,
    /// How it counts.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// What to do about it; empty: nothing.
    pub advice: String,
    /// Where it is of several things: all of them, of which `found` names only the first.
    pub names: Vec<String>,
}

impl Finding {
    /// As it should be.
    pub fn good(check: &str, found: impl Into<String>) -> Self {
        Self { check: check.to_owned(), level: Level::Good, found: found.into(), ..Self::default() }
    }

    /// It works, and somebody should look at it.
    pub fn warning(check: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            level: Level::Warning,
            found: found.into(),
            advice: advice.into(),
            ..Self::default()
        }
    }

    /// It does not work like this.
    pub fn bad(check: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            check: check.to_owned(),
            level: Level::Bad,
            found: found.into(),
            advice: advice.into(),
            ..Self::default()
        }
    }

    /// The same, with the names of all that it is about.
    #[must_use]
    pub fn of(self, names: Vec<String>) -> Self {
        Self { names, ..self }
    }
}

/// All that was found on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Report {
    /// Name of the node, as it calls itself.
    pub host: String,
    /// A daemon of this network runs there.
    pub installed: bool,
    /// Everything that was looked at.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The worst of it.
    #[must_use]
    pub fn level(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or_default()
    }
}
