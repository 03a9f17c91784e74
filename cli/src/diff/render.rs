//! What a change would do, for people and programs.

use axoneme_admin::table::{Cell, Table, Tone};
use axoneme_operator::diff::{Difference, Flip, Party};
use serde::Serialize;

/// More pods, nodes or peers are counted.
const NAMED: usize = 3;

/// What a change would do.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Flows that would be judged otherwise.
    pub flips: Vec<Row>,
    /// What could not be understood, and what of the change would not hold.
    pub notes: Vec<String>,
}

/// Flows that would be judged otherwise.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Who opens them.
    pub from: End,
    /// To whom.
    pub to: End,
    /// To which ports, like `80/TCP, 1000-2000/UDP`, `all` or `all but 80/TCP`.
    pub ports: String,
    /// They would pass, and do not now; or the other way.
    pub allowed: bool,
}

/// One end of flows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct End {
    /// In words.
    pub name: String,
    /// The pods, where it is some.
    pub pods: Vec<String>,
}

impl Report {
    /// Of what a change would do.
    #[must_use]
    pub fn new(difference: Difference, mut notes: Vec<String>) -> Self {
        let told = difference.diagnostics.iter();
        notes
            .extend(told.map(|(object, diagnostic)| format!("{object}: {}: {}", diagnostic.field, diagnostic.message)));
        Self { flips: difference.flips.iter().map(row).collect(), notes }
    }
}

fn row(flip: &Flip) -> Row {
    Row { from: end(&flip.from), to: end(&flip.to), ports: flip.ports.to_string(), allowed: flip.allowed }
}

fn end(party: &Party) -> End {
    let (name, pods) = match party {
        Party::Pods { namespace, labels, pods } => {
            let labels = if labels.is_empty() { "(no labels)" } else { labels };
            (format!("{namespace}: {labels}"), pods.iter().map(ToString::to_string).collect())
        }
        Party::Nodes(names) => (format!("nodes {}", some(names)), Vec::new()),
        Party::OwnNode => ("the pod's node".to_owned(), Vec::new()),
        Party::World(Some(net)) => (net.to_string(), Vec::new()),
        Party::World(None) => ("world".to_owned(), Vec::new()),
    };
    End { name, pods }
}

fn some(names: &[impl AsRef<str>]) -> String {
    let mut told: Vec<String> = names.iter().take(NAMED).map(|name| name.as_ref().to_owned()).collect();
    if names.len() > NAMED {
        told.push(format!("{} more", names.len() - NAMED));
    }
    told.join(", ")
}

/// As text.
#[must_use]
pub fn render(report: &Report, colours: bool) -> String {
    let mut table = Table::new(&["FROM", "TO", "PORTS", "BECOMES"]);
    for row in &report.flips {
        let becomes = if row.allowed { Cell::new("allowed", Tone::Good) } else { Cell::new("denied", Tone::Bad) };
        table.row([row.from.name.as_str().into(), row.to.name.as_str().into(), row.ports.as_str().into(), becomes]);
    }
    let mut out = if report.flips.is_empty() { String::new() } else { table.render(colours) + "\n" };
    for note in &report.notes {
        out.push_str(&format!("{} {note}\n", Tone::Warning.paint("note:", colours)));
    }
    let becoming = |allowed| report.flips.iter().filter(|row| row.allowed == allowed).count();
    let flows = |count| if count == 1 { "1 flow".to_owned() } else { format!("{count} flows") };
    let pass = |count| if count == 1 { "passes" } else { "pass" };
    let are = |count| if count == 1 { "is" } else { "are" };
    out.push_str(&match (becoming(true), becoming(false)) {
        (0, 0) => "no flow would be judged otherwise than now\n".to_owned(),
        (0, denied) => format!("{} would be denied that {} now\n", flows(denied), pass(denied)),
        (allowed, 0) => format!("{} would pass that {} denied now\n", flows(allowed), are(allowed)),
        (allowed, denied) => {
            format!("{} would be denied that {} now, and {allowed} the other way\n", flows(denied), pass(denied))
        }
    });
    out
}
