//! Policies of nodes.

use super::*;

/// What is told of clusterwide policies of nodes that have labels like these, where such policies hold.
fn of_nodes(rules: &[(&str, &str)]) -> Vec<String> {
    let policy =
        |(labels, content): &(&str, &str)| format!("{{nodeSelector: {{matchLabels: {{{labels}}}}}, {content}}}");
    let specs: Vec<String> = rules.iter().map(policy).collect();
    let policy =
        format!("{{kind: CiliumClusterwideNetworkPolicy, metadata: {{name: p}}, specs: [{}]}}", specs.join(", "));
    told_by(&state(&[PODS, &policy]), Some(Emergency { ports: [22, 10250].into(), nodesync: 4246, server: None }))
}

#[test]
fn policies_that_select_no_node() {
    let rule = "ingress: [{fromEndpoints: [{matchLabels: {app: web}}]}]";
    assert_eq!(of_nodes(&[("zone: b", rule)]), ["p specs[0].nodeSelector: selects-nothing: no node has zone=b"]);
    assert_eq!(of_nodes(&[("zone: a", rule)]), [""; 0]);
    assert_eq!(of_nodes(&[("", rule)]), [""; 0]);
    let policy = format!(
        "{{kind: CiliumClusterwideNetworkPolicy, metadata: {{name: p}}, spec: {{nodeSelector: {{matchLabels: {{zone: b}}}}, {rule}}}}}"
    );
    let open = || Some(Emergency { ports: [22].into(), nodesync: 4246, server: None });
    let node = "{kind: Node, metadata: {name: n1, labels: {zone: a}}}";
    assert_eq!(told_by(&state(&[&policy]), open()), [""; 0], "of nodes that nobody has told of nothing is known");
    assert_eq!(told_by(&state(&[node, &policy]), open()).len(), 1, "nor need there be pods to know nodes");
}

#[test]
fn rules_about_nodes_are_judged_as_those_about_pods() {
    let web = "{fromEndpoints: [{matchLabels: {app: web}}]}";
    let port = "{fromEndpoints: [{matchLabels: {app: web}}], toPorts: [{ports: [{port: '9100', protocol: TCP}]}]}";
    assert_eq!(
        of_nodes(&[("zone: a", &format!("ingress: [{port}], ingressDeny: [{web}]"))]),
        ["p specs[0].ingress[0]: shadowed: specs[0].ingressDeny[0] goes before it in all that it is about"]
    );
    assert_eq!(
        of_nodes(&[("zone: a", &format!("ingress: [{port}]")), ("", &format!("ingress: [{web}]"))]),
        ["p specs[0].ingress[0]: redundant: specs[1].ingress[0] says the same of all that it is about"]
    );
    let gone = "ingress: [{fromEndpoints: [{matchLabels: {app: gone}}]}]";
    assert_eq!(of_nodes(&[("", gone)]), ["p specs[0].ingress[0]: never-matches: is about nobody: no pod has app=gone"]);
    assert_eq!(
        of_nodes(&[("", "ingress: [{fromEntities: [host]}]")]),
        [
            "p specs[0].ingress[0]: never-matches: is about nobody: to a node the host is itself, and what it sends itself is not judged"
        ]
    );
    assert_eq!(of_nodes(&[("", "ingress: [{fromEntities: [remote-node]}]")]), [""; 0]);
    let pods = cilium("q", &format!("ingressDeny: [{web}]"));
    assert_eq!(told(&pods), [""; 0], "rules about pods and rules about nodes do not meet");
}

#[test]
fn no_rule_closes_a_way_that_stays_open() {
    let to = |ports: &str| format!("ingressDeny: [{{fromEntities: [world], toPorts: [{{ports: [{ports}]}}]}}]");
    let (ssh, kubelet) = ("{port: '22', protocol: TCP}", "{port: '10250', protocol: TCP}");
    let open = "shadowed: has no effect: what it is about stays open whatever policies say";
    assert_eq!(of_nodes(&[("", &to(ssh))]), [format!("p specs[0].ingressDeny[0]: {open} (ssh)")]);
    let both = of_nodes(&[("", &to(&format!("{ssh}, {kubelet}")))]);
    assert_eq!(both, [format!("p specs[0].ingressDeny[0]: {open} (kubelet, ssh)")]);
    assert_eq!(of_nodes(&[("", &to("{port: '22'}"))]), [""; 0], "UDP is left");
    assert_eq!(of_nodes(&[("", &to(&format!("{ssh}, {{port: '80', protocol: TCP}}")))]), [""; 0]);
    let allow = to(ssh).replace("ingressDeny", "ingress");
    assert_eq!(of_nodes(&[("", &allow)]), [""; 0], "it may not stay open always");
}
