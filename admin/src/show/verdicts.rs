//! What became of single flows, as text.

use crate::table::{Cell, Table, Tone};
use crate::verdict::{End, Outcome, Verdict};

/// The columns of verdicts.
pub const VERDICT_COLUMNS: [&str; 8] = ["TIME", "NODE", "VERDICT", "WAY", "FROM", "TO", "BECAUSE OF", "RULE"];

/// Adds what a node tells to a table of [`VERDICT_COLUMNS`].
pub fn verdicts<'a>(table: &mut Table, node: &str, verdicts: impl IntoIterator<Item = &'a Verdict>) {
    for verdict in verdicts {
        let tone = match verdict.outcome {
            Outcome::Dropped => Tone::Bad,
            Outcome::Audited => Tone::Warning,
            Outcome::Allowed => Tone::Good,
        };
        let way = if verdict.reply { format!("{} (answer)", verdict.direction) } else { verdict.direction.clone() };
        let policy = verdict.policy.as_ref();
        let isolates = || if verdict.reason.is_empty() { "" } else { "isolates, and no rule allows it" }.to_owned();
        let rule = policy.map(|policy| policy.rule.clone().unwrap_or_else(isolates));
        let log = policy.and_then(|policy| policy.log.as_ref()).map(|log| format!(" ({log})"));
        table.row([
            verdict.time.as_str().into(),
            node.into(),
            Cell::new(verdict.outcome.to_string(), tone),
            way.into(),
            end(&verdict.source).into(),
            format!("{} {}", end(&verdict.destination), verdict.protocol).into(),
            policy.map_or_else(|| verdict.reason.clone(), ToString::to_string).into(),
            format!("{}{}", rule.or_else(|| nobody(verdict)).unwrap_or_default(), log.unwrap_or_default()).into(),
        ]);
    }
}

/// Policy dropped a packet, and no policy is to blame.
fn nobody(verdict: &Verdict) -> Option<String> {
    let text = "policyEnforcementMode is always, or the pod's policies are not known yet";
    verdict.reason.starts_with("Policy denied").then(|| text.to_owned())
}

fn end(end: &End) -> String {
    let address = match (&end.pod, &end.node) {
        (Some(pod), _) => pod.clone(),
        (None, Some(node)) => format!("node/{node}"),
        (None, None) if end.port != 0 && end.address.contains(':') => format!("[{}]", end.address),
        (None, None) => end.address.clone(),
    };
    if end.port == 0 { address } else { format!("{address}:{}", end.port) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Policy;

    #[test]
    fn verdicts_name_what_decided() {
        let end = |address: &str, port, pod: Option<&str>| End {
            address: address.into(),
            port,
            pod: pod.map(str::to_owned),
            ..End::default()
        };
        let dropped = Verdict {
            time: "T1".into(),
            reason: "Policy denied".into(),
            direction: "ingress".into(),
            protocol: "TCP".into(),
            source: end("fd00::7", 40_000, None),
            destination: end("10.0.1.7", 5432, Some("shop/db")),
            policy: Some(Policy::named("networkpolicy:shop/db")),
            ..Verdict::default()
        };
        let rule = Policy {
            rule: Some("spec.ingressDeny[0]".into()),
            log: Some("team a".into()),
            ..Policy::named("ciliumnetworkpolicy:shop/web")
        };
        let audited = Verdict { outcome: Outcome::Audited, policy: Some(rule), reply: true, ..dropped.clone() };
        let nobody = Verdict { policy: None, ..dropped.clone() };
        let host = End { node: Some("n1".into()), ..end("192.0.2.1", 22, None) };
        let other = Verdict { reason: "Invalid packet".into(), policy: None, destination: host, ..dropped.clone() };
        let mut table = Table::new(&VERDICT_COLUMNS);
        verdicts(&mut table, "n1", &[dropped, audited, nobody, other]);
        assert_eq!(
            table.render(false),
            "\
TIME  NODE  VERDICT  WAY               FROM             TO                BECAUSE OF                    RULE
T1    n1    dropped  ingress           [fd00::7]:40000  shop/db:5432 TCP  networkpolicy:shop/db         isolates, and no rule allows it
T1    n1    audited  ingress (answer)  [fd00::7]:40000  shop/db:5432 TCP  ciliumnetworkpolicy:shop/web  spec.ingressDeny[0] (team a)
T1    n1    dropped  ingress           [fd00::7]:40000  shop/db:5432 TCP  Policy denied                 policyEnforcementMode is always, or the pod's policies are not known yet
T1    n1    dropped  ingress           [fd00::7]:40000  node/n1:22 TCP    Invalid packet                -
"
        );
    }
}
