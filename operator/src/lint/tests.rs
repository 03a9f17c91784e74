//! Policies in, what is wrong with them out; and beside each what is nearly so and fine.

mod hosts;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use axoneme_proto::tables::PolicyMode;

use super::*;
use crate::compile::policy::{Emergency, Owners};

const PODS: &str = "
{kind: Namespace, metadata: {name: shop, labels: {team: a}}}
---
{kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web, tier: front}}, spec: {nodeName: n1}, status: {podIPs: [{ip: 10.0.1.1}]}}
---
{kind: Pod, metadata: {name: batch, namespace: shop, labels: {app: batch}}, spec: {nodeName: n1}, status: {podIPs: [{ip: 10.0.1.2}]}}
---
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: n1, containers: [{name: db, ports: [{name: sql, containerPort: 5432}]}]}
status: {podIPs: [{ip: 10.0.1.3}]}
---
{kind: Pod, metadata: {name: prometheus, namespace: monitoring, labels: {app: prometheus}}, spec: {nodeName: n1}, status: {podIPs: [{ip: 10.0.1.4}]}}
---
{kind: Node, metadata: {name: n1, labels: {zone: a}}, status: {addresses: [{type: InternalIP, address: 172.18.0.1}]}}
";

fn state(texts: &[&str]) -> State {
    let mut state = State::default();
    for document in texts.iter().flat_map(|text| serde_yaml::Deserializer::from_str(text)) {
        state.apply(&Value::deserialize(document).unwrap()).unwrap();
    }
    state
}

/// What is wrong with policies where pods are, as policy, field, code and message.
fn told(policies: &str) -> Vec<String> {
    told_of(&state(&[PODS, policies]))
}

fn told_of(state: &State) -> Vec<String> {
    told_by(state, None)
}

fn told_by(state: &State, host_firewall: Option<Emergency>) -> Vec<String> {
    let settings =
        Settings { cluster: "default".into(), mode: PolicyMode::Default, cidrs_of: Owners::World, host_firewall };
    let told = |finding: &Finding| {
        let Finding { policy, field, code, message, .. } = finding;
        format!("{} {field}: {}: {message}", policy.name.name, code.as_str())
    };
    lint(state, &settings).iter().map(told).collect()
}

/// A NetworkPolicy of namespace shop for `app` with these rules for ingress.
fn ingress(name: &str, app: &str, rules: &str) -> String {
    let selector = if app.is_empty() { "{}".to_owned() } else { format!("{{matchLabels: {{app: {app}}}}}") };
    format!(
        "---\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{podSelector: {selector}, ingress: {rules}}}\n"
    )
}

/// A CiliumNetworkPolicy of namespace shop for `app=db` with this content.
fn cilium(name: &str, content: &str) -> String {
    let selector = "endpointSelector: {matchLabels: {app: db}}";
    format!(
        "---\nkind: CiliumNetworkPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec: {{{selector}, {content}}}\n"
    )
}

/// A ClusterNetworkPolicy for all pods with these rules for ingress.
fn tiered(name: &str, tier: &str, priority: u32, rules: &str) -> String {
    format!(
        "---\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {{tier: {tier}, priority: {priority}, subject: {{namespaces: {{}}}}, ingress: {rules}}}\n"
    )
}

const FROM_WEB: &str = "from: [{podSelector: {matchLabels: {app: web}}}]";

#[test]
fn policies_that_select_no_pod() {
    let rules = format!("[{{{FROM_WEB}}}]");
    assert_eq!(
        told(&ingress("p", "dbb", &rules)),
        ["p spec.podSelector: selects-nothing: no pod is in namespace shop and has app=dbb"]
    );
    assert_eq!(told(&ingress("p", "db", &rules)), [""; 0]);
    assert_eq!(told(&ingress("p", "", "[]")), [""; 0], "a policy that isolates all is no mistake");
    let specs = "---
kind: CiliumClusterwideNetworkPolicy
metadata: {name: p}
specs:
- {nodeSelector: {}, ingress: [{}]}
- {endpointSelector: {matchLabels: {app: web}}, ingress: [{}]}
- {endpointSelector: {matchLabels: {app: gone}}, ingress: [{}]}
";
    assert_eq!(
        told(specs),
        [
            "p specs[0].nodeSelector: not-enforced: hostFirewall.enabled is false: this one has no effect",
            "p specs[2].endpointSelector: selects-nothing: no pod has app=gone",
        ]
    );
}

#[test]
fn without_pods_nobody_can_say_whom_policies_mean() {
    let policy = ingress("p", "db", &format!("[{{{FROM_WEB}}}, {{{FROM_WEB}}}]"));
    assert_eq!(told_of(&state(&[&policy])), [""; 0]);
}

#[test]
fn peers_that_are_nobody() {
    let table = [
        ("{from: [{podSelector: {matchLabels: {app: webb}}}]}", "is in namespace shop and has app=webb"),
        ("{from: [{namespaceSelector: {matchLabels: {team: b}}}]}", "is in a namespace with team=b"),
        ("{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: shopp}}}]}", "is in namespace shopp"),
        (
            "{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: In, values: [x, y]}]}}]}",
            "has app in (x, y)",
        ),
    ];
    for (rule, message) in table {
        let alone = told(&ingress("p", "db", &format!("[{rule}]")));
        assert_eq!(alone, [format!("p spec.ingress[0]: never-matches: is about nobody: no pod {message}")]);
        let (head, tail) = rule.split_at(rule.len() - 2);
        let beside = format!("[{head}, {{podSelector: {{matchLabels: {{app: web}}}}}}{tail}]");
        let beside = told(&ingress("p", "db", &beside));
        assert_eq!(beside, [format!("p spec.ingress[0]: peer-matches-nothing: no pod {message}")]);
    }
    let somebody = "[{from: [{namespaceSelector: {matchLabels: {team: a}}, podSelector: {matchLabels: {app: web}}}]}]";
    assert_eq!(told(&ingress("p", "db", somebody)), [""; 0]);
}

#[test]
fn addresses_groups_services_and_nodes_that_are_nobody() {
    let never = |message: &str| vec![format!("p spec.ingress[0]: never-matches: is about nobody: {message}")];
    let halves = "[{from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.0/25, 192.0.2.128/25]}}]}]";
    assert_eq!(told(&ingress("p", "db", halves)), never("its exceptions leave nothing of 192.0.2.0/24"));
    let rest = "[{from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.0/25, 192.0.2.128/26]}}]}]";
    assert_eq!(told(&ingress("p", "db", rest)), [""; 0]);
    let group = cilium("p", "ingress: [{fromCIDRSet: [{cidrGroupRef: office}]}]");
    assert_eq!(told(&group), never("no address is in CiliumCIDRGroup office"));
    let office = "---\n{kind: CiliumCIDRGroup, metadata: {name: office}, spec: {externalCIDRs: [192.0.2.0/24]}}\n";
    assert_eq!(told(&format!("{group}{office}")), [""; 0]);
    let nodes = |zone: &str| cilium("p", &format!("ingress: [{{fromNodes: [{{matchLabels: {{zone: {zone}}}}}]}}]"));
    assert_eq!(told(&nodes("b")), never("no node has zone=b"));
    assert_eq!(told(&nodes("a")), [""; 0]);
    let service = cilium("p", "egress: [{toServices: [{k8sService: {serviceName: web, namespace: shop}}]}]");
    assert_eq!(
        told(&service),
        ["p spec.egress[0]: never-matches: is about nobody: nobody is behind a Service shop/web"]
    );
    let web = "---\n{kind: Service, metadata: {name: web, namespace: shop}, spec: {selector: {app: web}}}\n";
    assert_eq!(told(&format!("{service}{web}")), [""; 0]);
    let health = cilium("p", "ingress: [{fromEntities: [health]}]");
    assert_eq!(told(&health), never("nobody here is of the entities health"));
    let host = cilium("p", "ingress: [{fromEntities: [host]}, {fromEntities: [kube-apiserver]}]");
    assert_eq!(told(&host), [""; 0], "of an API server that nobody has told of nothing is known");
}

#[test]
fn ports_that_nobody_has() {
    let named = |ports: &str| told(&ingress("p", "db", &format!("[{{ports: {ports}}}]")));
    assert_eq!(named("[{port: sql}]"), [""; 0]);
    let message = "no pod that the policy selects has a port named sqll of TCP";
    assert_eq!(named("[{port: sqll}]"), [format!("p spec.ingress[0]: never-matches: is about nobody: {message}")]);
    assert_eq!(named("[{port: sqll}, {port: 80}]"), [format!("p spec.ingress[0]: port-matches-nothing: {message}")]);
    assert_eq!(
        named("[{port: sql, protocol: UDP}]"),
        [
            "p spec.ingress[0]: never-matches: is about nobody: no pod that the policy selects has a port named sql of UDP"
        ]
    );
    let egress = |app: &str| {
        let peer = format!("toEndpoints: [{{matchLabels: {{app: {app}}}}}]");
        told(&cilium("p", &format!("egress: [{{{peer}, toPorts: [{{ports: [{{port: sql}}]}}]}}]")))
    };
    assert_eq!(egress("db"), [""; 0]);
    assert_eq!(
        egress("web"),
        ["p spec.egress[0]: never-matches: is about nobody: no pod that the rule names has a port named sql"]
    );
}

#[test]
fn icmp_of_a_family_that_peers_do_not_have() {
    let rule = |family: &str, peer: &str| {
        told(&cilium("p", &format!("ingress: [{{{peer}, icmps: [{{fields: [{{type: 128, family: {family}}}]}}]}}]")))
    };
    let pods = "fromEndpoints: [{matchLabels: {app: web}}]";
    assert_eq!(
        rule("IPv6", pods),
        [
            "p spec.ingress[0]: never-matches: is about nobody: nobody that it names has addresses of the family that it is about"
        ]
    );
    assert_eq!(rule("IPv4", pods), [""; 0]);
    assert_eq!(rule("IPv6", "fromCIDR: ['2001:db8::/32']"), [""; 0]);
    assert_eq!(rule("IPv6", "fromCIDR: ['192.0.2.0/24']").len(), 1);
}

#[test]
fn a_rule_that_only_isolates_is_no_mistake() {
    assert_eq!(told(&cilium("p", "ingress: [{}], egress: [{}]")), [""; 0]);
    assert_eq!(told(&cilium("p", "enableDefaultDeny: {ingress: true, egress: true}, ingress: [{}]")), [""; 0]);
}

#[test]
fn an_empty_list_of_peers_is_nobody_and_one_of_ports_is_all() {
    assert_eq!(
        told(&cilium("p", "ingress: [{fromEndpoints: []}]")),
        ["p spec.ingress[0].fromEndpoints: empty-list: is empty, and so about nobody"]
    );
    assert_eq!(told(&cilium("p", "ingress: [{fromEndpoints: [{}]}]")), [""; 0]);
    assert_eq!(told(&cilium("p", "ingress: [{fromEndpoints: [], fromCIDR: [192.0.2.0/24]}]")), [""; 0]);
    assert_eq!(
        told(&cilium("p", "ingress: [{fromEndpoints: [{}], toPorts: []}]")),
        ["p spec.ingress[0].toPorts: empty-list: is empty, and so about all ports"]
    );
    assert_eq!(
        told(&cilium("p", "ingress: [{fromEndpoints: [{}], toPorts: [{ports: []}]}]")),
        ["p spec.ingress[0].toPorts[0].ports: empty-list: is empty, and so about all ports"]
    );
}

#[test]
fn what_is_not_enforced_is_told_once() {
    assert_eq!(
        told(&cilium("p", "egress: [{toFQDNs: [{matchName: example.com}]}]")),
        [
            "p spec.egress[0].toFQDNs: not-enforced: policy by DNS names comes with release 0.2: until then this allows nothing"
        ]
    );
}

#[test]
fn an_allow_under_a_deny_is_shadowed() {
    let from = |app: &str, ports: &str| format!("{{fromEndpoints: [{{matchLabels: {{app: {app}}}}}]{ports}}}");
    let (web, batch) = (from("web", ""), from("batch", ""));
    let port = from("web", ", toPorts: [{ports: [{port: '22'}]}]");
    let policy = |allow: &str, deny: &str| told(&cilium("p", &format!("ingress: [{allow}], ingressDeny: [{deny}]")));
    assert_eq!(
        policy(&web, &web),
        ["p spec.ingress[0]: shadowed: spec.ingressDeny[0] goes before it in all that it is about"]
    );
    assert_eq!(
        policy(&port, &web),
        ["p spec.ingress[0]: shadowed: spec.ingressDeny[0] goes before it in all that it is about"]
    );
    assert_eq!(policy(&web, &port), [""; 0], "other ports are left");
    assert_eq!(policy(&web, &batch), [""; 0], "of others a deny says nothing else than the isolation, but would");
    let both = "{fromEndpoints: [{}]}";
    assert_eq!(policy(both, &web), [""; 0], "others of the namespace are left");
}

#[test]
fn what_two_rules_say_together_a_third_need_not() {
    let from = |app: &str| format!("{{from: [{{podSelector: {{matchLabels: {{app: {app}}}}}}}]}}");
    let all = "{from: [{podSelector: {}}]}";
    let (web, batch, db) = (from("web"), from("batch"), from("db"));
    assert_eq!(
        told(&ingress("p", "db", &format!("[{web}, {all}]"))),
        ["p spec.ingress[0]: redundant: spec.ingress[1] says the same of all that it is about"]
    );
    let either = "{from: [{podSelector: {matchExpressions: [{key: app, operator: In, values: [web, batch]}]}}, \
                  {podSelector: {matchLabels: {app: db}}}]}";
    let told_both = told(&ingress("p", "db", &format!("[{web}, {batch}, {db}, {either}]")));
    assert_eq!(told_both.len(), 3, "{told_both:?}");
    let (wide, narrow) =
        ("{ports: [{port: 80, endPort: 90}]}", "{ports: [{port: 80, endPort: 85}, {port: 86, endPort: 90}]}");
    assert_eq!(
        told(&ingress("p", "db", &format!("[{wide}, {narrow}]"))),
        ["p spec.ingress[1]: redundant: spec.ingress[0] says the same of all that it is about"]
    );
    let split =
        "[{ports: [{port: 80, endPort: 85}]}, {ports: [{port: 86, endPort: 90}]}, {ports: [{port: 82, endPort: 88}]}]";
    assert_eq!(
        told(&ingress("p", "db", split)),
        ["p spec.ingress[2]: redundant: spec.ingress[0], spec.ingress[1] say the same of all that it is about"]
    );
    let gap =
        "[{ports: [{port: 80, endPort: 85}]}, {ports: [{port: 87, endPort: 90}]}, {ports: [{port: 82, endPort: 88}]}]";
    assert_eq!(told(&ingress("p", "db", gap)), [""; 0]);
}

#[test]
fn of_two_policies_that_say_the_same_the_later_is_redundant() {
    let rules = format!("[{{{FROM_WEB}}}]");
    let (a, b) = (ingress("a", "db", &rules), ingress("b", "db", &rules));
    let redundant = "redundant: spec.ingress[0] of NetworkPolicy shop/a says the same of all that it is about";
    assert_eq!(told(&format!("{a}{b}")), [format!("b spec.ingress[0]: {redundant}")]);
    let wider = ingress("b", "", &rules);
    assert_eq!(
        told(&format!("{a}{wider}")),
        ["a spec.ingress[0]: redundant: spec.ingress[0] of NetworkPolicy shop/b says the same of all that it is about"]
    );
    let other = ingress("b", "batch", &rules);
    assert_eq!(told(&format!("{a}{other}")), [""; 0], "it is about other pods");
}

#[test]
fn addresses_do_not_stand_for_the_pods_that_have_them_now() {
    let policy = |rules: &str| told(&ingress("p", "db", rules));
    let block = "{from: [{ipBlock: {cidr: 10.0.1.1/32}}]}";
    assert_eq!(policy(&format!("[{{{FROM_WEB}}}, {block}]")), [""; 0]);
    let blocks = "[{from: [{ipBlock: {cidr: 192.0.2.0/24, except: [192.0.2.0/25]}}]}, {from: [{ipBlock: {cidr: 192.0.2.128/25}}]}]";
    assert_eq!(policy(blocks).len(), 1);
    let middle = "[{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}, {from: [{ipBlock: {cidr: 192.0.2.0/30}}, \
                  {ipBlock: {cidr: 192.0.2.252/30}}]}]";
    assert_eq!(
        policy(middle),
        ["p spec.ingress[1]: redundant: spec.ingress[0] says the same of all that it is about"],
        "the wider one is there for what is between its ends"
    );
}

#[test]
fn what_nothing_forbids_may_be_allowed_all_the_same() {
    let open = "enableDefaultDeny: {ingress: false, egress: false}, ingress: [{fromEndpoints: [{}]}]";
    assert_eq!(told(&cilium("p", open)), [""; 0]);
    let admin = tiered("a", "Admin", 1, "[{action: Accept, from: [{namespaces: {}}]}]");
    assert_eq!(told(&admin), [""; 0]);
    let guard = cilium("p", "ingress: [{}], ingressDeny: [{fromCIDR: [192.0.2.0/24]}]");
    assert_eq!(told(&guard), [""; 0], "a deny is there for what others will allow");
}

#[test]
fn tiers_go_before_each_other() {
    let accept = tiered("a", "Admin", 1, "[{action: Accept, from: [{namespaces: {}}]}]");
    let normal = ingress("p", "db", &format!("[{{{FROM_WEB}}}]"));
    assert_eq!(
        told(&format!("{accept}{normal}")),
        [
            "p spec.ingress[0]: shadowed: spec.ingress[0] of ClusterNetworkPolicy a goes before it in all that it is about"
        ]
    );
    let pass = tiered("a", "Admin", 1, "[{action: Pass, from: [{namespaces: {}}]}]");
    assert_eq!(told(&format!("{pass}{normal}")), [""; 0]);
    let deny = tiered("b", "Admin", 2, "[{action: Deny, from: [{namespaces: {matchLabels: {team: a}}}]}]");
    let shadowed = [
        "b spec.ingress[0]: shadowed: spec.ingress[0] of ClusterNetworkPolicy a goes before it in all that it is about",
    ];
    assert_eq!(told(&format!("{pass}{deny}")), shadowed);
    let narrow = tiered("a", "Admin", 1, "[{action: Pass, from: [{namespaces: {matchLabels: {team: a}}}]}]");
    let wide = tiered("b", "Admin", 2, "[{action: Deny, from: [{namespaces: {}}]}]");
    assert_eq!(told(&format!("{narrow}{wide}")), [""; 0]);
    let baseline = tiered("z", "Baseline", 1, "[{action: Deny, from: [{namespaces: {}}]}]");
    let all = ingress("p", "", "[]");
    let monitored = "---\nkind: NetworkPolicy\nmetadata: {name: q, namespace: monitoring}\nspec: {podSelector: {}}\n";
    assert_eq!(told(&format!("{all}{monitored}{baseline}")), [""; 0], "it is there for pods that nothing isolates");
}

/// What is told of a CiliumNetworkPolicy with this description and content.
fn described(description: &str, content: &str) -> Vec<String> {
    let all = told(&cilium("p", &format!("description: '{description}', {content}")));
    let prefix = "opens-more-than-described: opens ";
    let suffix = ", of which the policy's description does not speak";
    all.iter().map(|told| told.replace(prefix, "").trim_end_matches(suffix).to_owned()).collect()
}

#[test]
fn ports_beyond_those_that_are_spoken_of() {
    let web = "fromEndpoints: [{matchLabels: {app: web}}]";
    let open = format!("ingress: [{{{web}}}]");
    let ports = |ports: &str| format!("ingress: [{{{web}, toPorts: [{{ports: [{ports}]}}]}}]");
    let (sql, both) =
        (ports("{port: '5432', protocol: TCP}"), ports("{port: '5432', protocol: TCP}, {port: '22', protocol: TCP}"));
    assert_eq!(described("only 5432/tcp", &open), ["p spec.ingress[0]: ports all but 5432/TCP"]);
    assert_eq!(described("only 5432/tcp", &both), ["p spec.ingress[0]: ports 22/TCP"]);
    assert_eq!(described("port 5432", &ports("{port: '5432'}")), [""; 0]);
    assert_eq!(described("tcp/5432", &ports("{port: '5432'}")), ["p spec.ingress[0]: ports 5432/UDP, 5432/SCTP"]);
    for fine in ["only 5432/tcp", "port 5432 and more, see ticket 22", "what the database needs", "ports 5000-6000"] {
        assert_eq!(described(fine, &sql), [""; 0], "{fine}");
    }
    for silent in ["the database", "everything, also 5432/tcp", "all ports, not only port 5432", "egress to port 80"] {
        assert_eq!(described(silent, &open), [""; 0], "{silent}");
    }
    assert_eq!(described("port 5432, and ssh", &both), [""; 0]);
    let dns = "egress: [{toEndpoints: [{}], toPorts: [{ports: [{port: '53', protocol: UDP}]}]}]";
    assert_eq!(described("port 5432", dns), [""; 0], "names are needed for anything");
    let deny = format!("ingressDeny: [{{{web}}}]");
    assert_eq!(described("only 5432/tcp", &deny), [""; 0], "what denies opens nothing");
}

#[test]
fn pods_beyond_those_that_are_spoken_of() {
    let from = |selector: &str| format!("ingress: [{{fromEndpoints: [{{{selector}}}]}}]");
    let web = from("matchLabels: {app: web}");
    let prometheus = from("matchLabels: {k8s:io.kubernetes.pod.namespace: monitoring}");
    assert_eq!(described("only app=web", &web), [""; 0]);
    assert_eq!(described("only app=web", &from("")), ["p spec.ingress[0]: pods shop/batch, shop/db"]);
    assert_eq!(described("only app=web", &prometheus), ["p spec.ingress[0]: pods monitoring/prometheus"]);
    assert_eq!(described("app=web and tier=front", &web), [""; 0]);
    assert_eq!(described("from namespace monitoring", &prometheus), [""; 0]);
    assert_eq!(described("from namespace monitoring", &web), [""; 0], "the policy's own namespace goes without saying");
    let all = "ingress: [{fromEntities: [cluster]}]";
    let beyond = described("for app=web of this namespace", all);
    assert_eq!(beyond, ["p spec.ingress[0]: pods monitoring/prometheus, shop/batch, shop/db"]);
    for silent in ["app=db", "app=gone", "any namespace, as app=web", "what web needs", "the monitoring"] {
        assert_eq!(described(silent, all), [""; 0], "{silent}");
    }
}

#[test]
fn addresses_beyond_those_that_are_spoken_of() {
    let to = |peers: &str| format!("egress: [{{{peers}}}]");
    assert_eq!(described("10.0.0.0/8", &to("toCIDR: [10.1.0.0/16]")), [""; 0]);
    assert_eq!(
        described("10.0.0.0/8", &to("toCIDR: [10.1.0.0/16, 0.0.0.0/0]")),
        ["p spec.egress[0]: addresses of 0.0.0.0/0"]
    );
    assert_eq!(described("to 10.0.0.0/8", &to("toEntities: [world]")), ["p spec.egress[0]: all addresses"]);
    assert_eq!(described("to 192.0.2.1:443", &to("toCIDR: [192.0.2.0/31]")).len(), 2, "ports and addresses");
    let except = "toCIDRSet: [{cidr: 192.0.2.0/24, except: [192.0.2.128/25]}]";
    assert_eq!(described("192.0.2.0/25", &to(except)), [""; 0]);
    assert_eq!(described("the internet, for instance 192.0.2.1", &to("toEntities: [world]")), [""; 0]);
    assert_eq!(described("192.0.2.1", &to("toEndpoints: [{matchLabels: {app: web}}]")), [""; 0]);
}

#[test]
fn names_and_annotations_describe_too() {
    let named = told(&ingress("only-port-5432", "db", &format!("[{{{FROM_WEB}}}]")));
    let beyond = "only-port-5432 spec.ingress[0]: opens-more-than-described: opens ports all but 5432";
    assert_eq!(named.len(), 1);
    assert!(
        named[0].starts_with(beyond) && named[0].ends_with("of which the policy's name does not speak"),
        "{named:?}"
    );
    assert_eq!(told(&ingress("web-5432-v2", "db", &format!("[{{{FROM_WEB}}}]"))), [""; 0]);
    let policy = json!({
        "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "shop", "annotations": {"kubernetes.io/description": "5432/TCP"}},
        "spec": {"podSelector": {}, "ingress": [{}]},
    });
    let mut state = state(&[PODS]);
    state.apply(&policy).unwrap();
    let told = told_of(&state);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("opens ports all but 5432/TCP"), "{told:?}");
}

#[test]
fn codes_have_names_of_their_own() {
    let names: BTreeMap<&str, Code> = Code::ALL.into_iter().map(|code| (code.as_str(), code)).collect();
    assert_eq!(names.len(), Code::ALL.len());
}
