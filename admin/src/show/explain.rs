//! Why a flow passes or not, as text.

use crate::explain::{End, Enforced, Explanation, Side, Way};
use crate::table::{Cell, Table, Tone};

/// All ways that a flow may take, each with what decides it.
#[must_use]
pub fn explanation(explanation: &Explanation, colours: bool) -> String {
    let mut out = String::new();
    for way in &explanation.ways {
        out.push_str(&self::way(way, colours));
        out.push('\n');
    }
    for note in &explanation.notes {
        out.push_str(&format!("{} {note}\n", Tone::Warning.paint("note:", colours)));
    }
    out.push_str(&format!("as of revision {}\n", explanation.revision));
    out
}

fn verdict(allowed: bool, colours: bool) -> String {
    if allowed { Tone::Good.paint("allowed", colours) } else { Tone::Bad.paint("denied", colours) }
}

fn way(way: &Way, colours: bool) -> String {
    let port = if way.port == 0 { way.protocol.clone() } else { format!("{}/{}", way.port, way.protocol) };
    let mut out = format!("{} -> {}, {port}: {}\n", end(&way.from), end(&way.to), verdict(way.allowed, colours));
    for (name, subject, side) in [("egress of", &way.from, &way.egress), ("ingress of", &way.to, &way.ingress)] {
        match side {
            Some(side) => out.push_str(&self::side(name, subject, side, colours)),
            None if subject.kind != "pod" => {
                out.push_str(&format!("\n{name} {}: no policy is about it\n", subject.name));
            }
            None => {}
        }
    }
    out
}

fn end(end: &End) -> String {
    let identity = end.identity.map(|identity| format!("identity {identity}"));
    let address = end.address.clone().filter(|address| *address != end.name);
    let node = end.node.as_ref().filter(|node| **node != end.name).map(|node| format!("on {node}"));
    let facts: Vec<String> = [address, identity, node].into_iter().flatten().collect();
    if facts.is_empty() {
        return end.name.clone();
    }
    format!("{} ({})", end.name, facts.join(", "))
}

fn side(name: &str, subject: &End, side: &Side, colours: bool) -> String {
    let mut out = format!("\n{name} {}: {}, {}\n", subject.name, verdict(side.allowed, colours), side.because);
    if !side.rules.is_empty() {
        let mut table = Table::new(&["TIER", "ORDER", "POLICY", "RULE", "SAYS", "COUNTS"]);
        for rule in &side.rules {
            table.row([
                rule.tier.as_str().into(),
                rule.order.to_string().into(),
                rule.policy.as_str().into(),
                rule.field.as_str().into(),
                rule.action.as_str().into(),
                if rule.decides { Cell::new("decides", Tone::Strong) } else { "".into() },
            ]);
        }
        out.push_str(&table.render(colours));
    }
    if let Some(why) = &side.audited {
        out.push_str(&format!(
            "{} {why}, if that were not only audited\n",
            Tone::Warning.paint("would be denied:", colours)
        ));
    }
    out.push_str(&enforced(&side.enforced, colours));
    out
}

fn enforced(enforced: &Enforced, colours: bool) -> String {
    let Enforced { node, revision, applied, in_force } = enforced;
    let state = match applied {
        _ if *in_force => Tone::Good.paint("enforces this", colours),
        Some(applied) => {
            Tone::Warning.paint(&format!("does not enforce this yet: it has applied revision {applied}"), colours)
        }
        None => Tone::Bad.paint("says nothing, so it is not known whether it enforces this", colours),
    };
    format!("node {node} {state} (decided by revision {revision})\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::Rule;

    #[test]
    fn what_decides_stands_out() {
        let world =
            End { kind: "world".into(), name: "192.0.2.7".into(), address: Some("192.0.2.7".into()), ..End::default() };
        let pod = End {
            kind: "pod".into(),
            name: "shop/db".into(),
            address: Some("10.0.1.7".into()),
            identity: Some(300),
            labels: vec!["k8s:app=db".into()],
            node: Some("n1".into()),
        };
        let rule = |field: &str, action: &str, decides| Rule {
            tier: "normal".into(),
            order: 0,
            policy: "networkpolicy:shop/db".into(),
            field: field.into(),
            action: action.into(),
            decides,
        };
        let ingress = Side {
            because: "spec.ingressDeny[0] of networkpolicy:shop/db denies it".into(),
            rules: vec![rule("spec.ingressDeny[0]", "deny", true), rule("spec.ingress[0]", "allow", false)],
            enforced: Enforced { node: "n1".into(), revision: 7, applied: Some(6), in_force: false },
            ..Side::default()
        };
        let protocol = "TCP".into();
        let way =
            Way { from: world, to: pod, protocol, port: 5432, allowed: false, egress: None, ingress: Some(ingress) };
        let whole = Explanation { allowed: false, revision: 9, ways: vec![way], notes: vec!["so it is".into()] };
        assert_eq!(
            explanation(&whole, false),
            "\
192.0.2.7 -> shop/db (10.0.1.7, identity 300, on n1), 5432/TCP: denied

egress of 192.0.2.7: no policy is about it

ingress of shop/db: denied, spec.ingressDeny[0] of networkpolicy:shop/db denies it
TIER    ORDER  POLICY                 RULE                 SAYS   COUNTS
normal  0      networkpolicy:shop/db  spec.ingressDeny[0]  deny   decides
normal  0      networkpolicy:shop/db  spec.ingress[0]      allow  -
node n1 does not enforce this yet: it has applied revision 6 (decided by revision 7)

note: so it is
as of revision 9
"
        );
    }
}
