//! What daemons tell, as text for people.

mod explain;
mod verdicts;

pub use explain::explanation;
pub use verdicts::{VERDICT_COLUMNS, verdicts};

use crate::check::{Level, Report};
use crate::node::{Endpoint, EndpointState, Frontend, Identity, Node, Policy, PolicyState, Service, Status, Sync};
use crate::operator;
use crate::table::{Cell, Table, Tone};

/// How a comparison is shown.
#[must_use]
pub fn sync(sync: Sync, problem: &str) -> Cell {
    let tone = match sync {
        Sync::AsDesired => Tone::Good,
        Sync::Pending | Sync::Leftover => Tone::Warning,
        Sync::Missing | Sync::Differs | Sync::Failing => Tone::Bad,
    };
    let text = if problem.is_empty() { sync.to_string() } else { format!("{sync}: {problem}") };
    Cell::new(text, tone)
}

/// A time as people say it, with its two largest units.
#[must_use]
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

fn mark(good: bool, yes: &str, no: &str) -> Cell {
    if good { Cell::new(yes, Tone::Good) } else { Cell::new(no, Tone::Bad) }
}

/// A daemon's state, in a few lines.
#[must_use]
pub fn status(status: &Status, colours: bool) -> String {
    let paint = |tone: Tone, text: &str| tone.paint(text, colours);
    let ready = if status.ready { paint(Tone::Good, "ready") } else { paint(Tone::Bad, "not ready") };
    let mut out = format!(
        "Node       {} ({ready}, axoneme-node {}, Linux {}, up {})\n",
        status.node,
        status.version,
        status.kernel,
        duration(status.uptime_seconds)
    );
    out.push_str(&format!("Operator   {}\n", stream(status, colours)));
    let progress = &status.progress;
    let failing = if progress.failing == 0 {
        paint(Tone::Good, "nothing is failing")
    } else {
        paint(Tone::Bad, &format!("{} entries are not as desired", progress.failing))
    };
    out.push_str(&format!(
        "Rows       {} held, received to revision {}, tried to {}; {failing}\n",
        status.counts.rows, progress.received, progress.attempted
    ));
    let counts = &status.counts;
    out.push_str(&format!(
        "Kernel     {} endpoints ({} waiting), {} policies, {} frontends, {} nodes\n",
        counts.endpoints, counts.endpoints_waiting, counts.policies, counts.frontends, counts.nodes
    ));
    let full = status.maps.iter().filter(|map| map.entries > 0).max_by_key(|map| per_mille(map.entries, map.capacity));
    if let Some(map) = full {
        let share = per_mille(map.entries, map.capacity);
        let tone = if share >= 900 { Tone::Bad } else { Tone::Plain };
        let line = format!("fullest is {} with {} of {} entries", map.name, map.entries, map.capacity);
        out.push_str(&format!("Maps       {}\n", paint(tone, &line)));
    }
    for problem in &status.problems {
        out.push_str(&format!("Problem    {}\n", paint(Tone::Bad, problem)));
    }
    for failure in &status.failures {
        let what = format!("{} {} {}", failure.scope, failure.table, failure.key);
        out.push_str(&format!("Failing    {} ({}): {}\n", what, failure.code, failure.message));
    }
    out
}

fn stream(status: &Status, colours: bool) -> String {
    let (stream, since) = (&status.stream, duration(status.stream.since_seconds));
    if stream.connected {
        return format!("{} {} for {since}", Tone::Good.paint("follows", colours), stream.operator);
    }
    let last =
        if stream.operator.is_empty() { "never connected".to_owned() } else { format!("last {}", stream.operator) };
    let alone = Tone::Warning.paint("not connected", colours);
    format!("{alone} for {since} ({last}): what runs goes on. {}", stream.error)
}

fn per_mille(part: u32, whole: u32) -> u64 {
    u64::from(part) * 1000 / u64::from(whole).max(1)
}

/// What the operator says of itself.
#[must_use]
pub fn operator(status: &operator::Status, colours: bool) -> String {
    let phase = if status.ready { Tone::Good } else { Tone::Bad }.paint(&status.phase, colours);
    let mut out = format!(
        "Operator   {} on {} (axoneme-operator {}, up {}): {phase}\n",
        status.pod,
        status.node,
        status.version,
        duration(status.uptime_seconds)
    );
    let complete = if status.inputs_complete { "complete" } else { "not complete yet" };
    out.push_str(&format!("Rows       {}, revision {}; inputs {complete}\n", status.rows, status.revision));
    if !status.nodes.is_empty() {
        let mut table = Table::new(&["NODE", "STREAM", "RECEIVED", "APPLIED", "RETRIES FROM", "HEARD"]);
        for node in &status.nodes {
            let retry =
                if node.retry_low_watermark == 0 { String::new() } else { node.retry_low_watermark.to_string() };
            table.row([
                node.node.as_str().into(),
                mark(node.connected, "connected", "none"),
                node.received.to_string().into(),
                node.applied.to_string().into(),
                Cell::new(retry, Tone::Bad),
                format!("{} ago", duration(node.heard_seconds)).into(),
            ]);
        }
        out.push('\n');
        out.push_str(&table.render(colours));
    }
    out
}

/// Both sides of something, as one text where they are the same.
fn both<T: PartialEq>(desired: Option<&T>, programmed: Option<&T>, text: impl Fn(&T) -> String) -> [Cell; 2] {
    let tone = if desired == programmed { Tone::Plain } else { Tone::Bad };
    [desired, programmed].map(|side| Cell::new(side.map(&text).unwrap_or_default(), tone))
}

fn identity_of(state: &EndpointState) -> String {
    state.identity.to_string()
}

/// Adds a node's endpoints to a table of [`ENDPOINT_COLUMNS`].
pub fn endpoints<'a>(table: &mut Table, node: &str, endpoints: impl IntoIterator<Item = &'a Endpoint>) {
    for endpoint in endpoints {
        let [desired, programmed] = both(endpoint.desired.as_ref(), endpoint.programmed.as_ref(), identity_of);
        let state = endpoint.programmed.as_ref().or(endpoint.desired.as_ref());
        let id = if endpoint.endpoint_id == 0 { String::new() } else { endpoint.endpoint_id.to_string() };
        table.row([
            endpoint.namespace.as_str().into(),
            endpoint.name.as_str().into(),
            node.into(),
            id.into(),
            state.map(|state| state.addresses.join(" ")).unwrap_or_default().into(),
            desired,
            programmed,
            sync(endpoint.sync, &endpoint.problem),
        ]);
    }
}

/// The columns of endpoints.
pub const ENDPOINT_COLUMNS: [&str; 8] =
    ["NAMESPACE", "POD", "NODE", "ID", "ADDRESSES", "IDENTITY DESIRED", "PROGRAMMED", "STATE"];

/// Adds a node's identities to a table of [`IDENTITY_COLUMNS`]. `labels` tells what an identity stands for.
pub fn identities<'a>(
    table: &mut Table,
    node: &str,
    identities: impl IntoIterator<Item = &'a Identity>,
    labels: impl Fn(u32) -> String,
) {
    for identity in identities {
        let tone = if identity.desired_addresses == identity.programmed_addresses { Tone::Plain } else { Tone::Bad };
        let problem = if identity.differing.is_empty() { String::new() } else { identity.differing.join(" ") };
        table.row([
            identity.identity.to_string().into(),
            node.into(),
            identity.endpoints.to_string().into(),
            Cell::new(identity.desired_addresses.to_string(), tone),
            Cell::new(identity.programmed_addresses.to_string(), tone),
            if identity.policy { "yes" } else { "no" }.into(),
            sync(identity.sync, &problem),
            labels(identity.identity).into(),
        ]);
    }
}

/// The columns of identities.
pub const IDENTITY_COLUMNS: [&str; 8] =
    ["IDENTITY", "NODE", "LOCAL PODS", "PEERS DESIRED", "PROGRAMMED", "POLICY", "STATE", "LABELS"];

/// Adds the nodes that a node knows to a table of [`NODE_COLUMNS`].
pub fn nodes<'a>(table: &mut Table, on: &str, nodes: impl IntoIterator<Item = &'a Node>) {
    for node in nodes {
        table.row([
            node.name.as_str().into(),
            on.into(),
            node.addresses.join(" ").into(),
            node.overlay_addresses.join(" ").into(),
            node.pod_cidrs.join(" ").into(),
            sync(node.sync, &node.differing.join(" ")),
        ]);
    }
}

/// The columns of nodes.
pub const NODE_COLUMNS: [&str; 6] = ["NODE", "SEEN ON", "ADDRESSES", "OVERLAY", "POD CIDRS", "STATE"];

fn policy_state(state: &PolicyState) -> String {
    let enforced = match (state.ingress_enforced, state.egress_enforced) {
        (true, true) => "in+out",
        (true, false) => "in",
        (false, true) => "out",
        (false, false) => "open",
    };
    let audits = if state.audits { " audit" } else { "" };
    format!("{enforced}{audits} {}r {}c", state.rules, state.classes)
}

/// Adds a node's policies to a table of [`POLICY_COLUMNS`].
pub fn policies<'a>(table: &mut Table, node: &str, policies: impl IntoIterator<Item = &'a Policy>) {
    for policy in policies {
        let [desired, programmed] = both(policy.desired.as_ref(), policy.programmed.as_ref(), policy_state);
        table.row([
            policy.identity.to_string().into(),
            node.into(),
            policy.endpoints.to_string().into(),
            desired,
            programmed,
            sync(policy.sync, &policy.problem),
            policy.policies.join(" ").into(),
        ]);
    }
}

/// The columns of policies: what is enforced, with how many rules and classes of CIDRs.
pub const POLICY_COLUMNS: [&str; 7] = ["SUBJECT", "NODE", "PODS", "DESIRED", "PROGRAMMED", "STATE", "POLICIES"];

/// Adds a node's services to a table of [`SERVICE_COLUMNS`].
pub fn services<'a>(table: &mut Table, node: &str, services: impl IntoIterator<Item = &'a Service>) {
    for service in services {
        for Frontend { frontend, sync: state, desired, programmed } in &service.frontends {
            let tone = if desired == programmed { Tone::Plain } else { Tone::Bad };
            table.row([
                service.namespace.as_str().into(),
                service.name.as_str().into(),
                node.into(),
                frontend.as_str().into(),
                Cell::new(desired.join(" "), tone),
                if desired == programmed {
                    Cell::new("the same", Tone::Faint)
                } else {
                    Cell::new(programmed.join(" "), tone)
                },
                sync(*state, &service.problem),
            ]);
        }
    }
}

/// The columns of services.
pub const SERVICE_COLUMNS: [&str; 7] =
    ["NAMESPACE", "SERVICE", "NODE", "FRONTEND", "BACKENDS DESIRED", "PROGRAMMED", "STATE"];

/// What was found on a node; what is as it should be only if `all`.
#[must_use]
pub fn report(report: &Report, all: bool, colours: bool) -> String {
    let mut out = String::new();
    for finding in report.findings.iter().filter(|finding| all || finding.level > Level::Good) {
        let (tone, sign) = match finding.level {
            Level::Good => (Tone::Good, "ok  "),
            Level::Warning => (Tone::Warning, "warn"),
            Level::Bad => (Tone::Bad, "bad "),
        };
        out.push_str(&format!("{}  {}: {}\n", tone.paint(sign, colours), finding.check, finding.found));
        if all && finding.names.iter().any(|name| !finding.found.contains(name)) {
            out.push_str(&format!("      all: {}\n", finding.names.join(", ")));
        }
        if !finding.advice.is_empty() {
            out.push_str(&format!("      -> {}\n", finding.advice));
        }
    }
    out
}

#[cfg(test)]
mod tests;
