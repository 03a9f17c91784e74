//! An overview as text.

use axoneme_admin::check::Level;
use axoneme_admin::show::duration;
use axoneme_admin::table::{Cell, Table, Tone};

use super::{NodeState, Overview};

/// An overview for people.
#[must_use]
pub fn render(overview: &Overview, colours: bool) -> String {
    let (sign, tone) = if overview.healthy { ("healthy", Tone::Good) } else { ("not healthy", Tone::Bad) };
    let mut out = format!("Axoneme    {}\n", tone.paint(sign, colours));
    if !overview.operators.is_empty() || !overview.nodes.is_empty() {
        out.push_str(&counts(overview));
        out.push('\n');
        out.push_str(&nodes(&overview.nodes).render(colours));
    }
    if !overview.problems.is_empty() {
        out.push('\n');
    }
    for problem in &overview.problems {
        let (tone, sign) = if problem.level == Level::Bad { (Tone::Bad, "bad ") } else { (Tone::Warning, "warn") };
        out.push_str(&format!("{}  {}\n      -> {}\n", tone.paint(sign, colours), problem.what, problem.advice));
    }
    out
}

fn counts(overview: &Overview) -> String {
    let (nodes, operators) = (&overview.nodes, &overview.operators);
    let said = || nodes.iter().filter_map(|node| node.status.as_ref());
    let ready = operators.iter().filter(|operator| operator.ready).count();
    let leader = overview.leader.as_deref().map_or_else(|| "nobody leads".to_owned(), |pod| format!("{pod} leads"));
    let daemons = said().filter(|status| status.ready).count();
    let follow = said().filter(|status| status.stream.connected).count();
    let endpoints: usize = said().map(|status| status.counts.endpoints).sum();
    let waiting: usize = said().map(|status| status.counts.endpoints_waiting).sum();
    let failing: u64 = said().map(|status| status.progress.failing).sum();
    format!(
        "Operators  {ready} of {} ready, {leader}\n\
         Nodes      {daemons} of {} ready, {follow} follow the operator\n\
         Endpoints  {endpoints} attached, {waiting} waiting for their policy\n\
         Entries    {failing} not as desired\n",
        operators.len(),
        nodes.len()
    )
}

fn nodes(nodes: &[NodeState]) -> Table {
    let mut table = Table::new(&["NODE", "DAEMON", "STREAM", "REVISION", "ENDPOINTS", "FAILING", "UP", "RESTARTS"]);
    for node in nodes {
        let Some(status) = &node.status else {
            let none = || Cell::from("");
            let unknown = Cell::new("no answer", Tone::Bad);
            let restarts = node.restarts.to_string().into();
            table.row([node.node.as_str().into(), unknown, none(), none(), none(), none(), none(), restarts]);
            continue;
        };
        let yes = |good: bool, yes: &str, no: &str| {
            Cell::new(if good { yes } else { no }, if good { Tone::Good } else { Tone::Bad })
        };
        let failing = status.progress.failing;
        table.row([
            node.node.as_str().into(),
            yes(status.ready, "ready", "not ready"),
            yes(status.stream.connected, "connected", "none"),
            status.progress.attempted.to_string().into(),
            status.counts.endpoints.to_string().into(),
            Cell::new(failing.to_string(), if failing == 0 { Tone::Plain } else { Tone::Bad }),
            duration(status.uptime_seconds).into(),
            node.restarts.to_string().into(),
        ]);
    }
    table
}
