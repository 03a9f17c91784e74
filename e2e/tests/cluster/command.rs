//! The `axoneme` command, as a user of the cluster runs it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use axoneme_e2e::paths::Paths;
use serde_json::{Value, json};

use crate::lab::{HTTP, Lab, eventually};

/// Builds the command of this tree, as it is now: once, and before anything waits for what it says.
pub(crate) fn built() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let paths = Paths::from_environment().unwrap();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        // As a test that needs it: so it has the features with which `cargo test` has built all else.
        cargo.args(["test", "--quiet", "--locked", "--workspace", "--no-run", "--test", "chart"]);
        cargo.current_dir(&paths.repository).env("CARGO_TARGET_DIR", &paths.target);
        assert!(cargo.status().unwrap().success(), "the command does not build");
        paths.target.join("debug/axoneme")
    })
}

fn axoneme(lab: &Lab) -> Command {
    let mut command = Command::new(built());
    command.env("KUBECONFIG", lab.cluster.folder.kubeconfig());
    command
}

pub(crate) fn run(lab: &Lab, line: &str) -> Output {
    axoneme(lab).args(line.split_whitespace()).output().unwrap()
}

/// What it says, when it succeeds.
#[track_caller]
pub(crate) fn good(lab: &Lab, line: &str) -> String {
    let output = run(lab, line);
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "axoneme {line}\n{out}{err}");
    out
}

pub(crate) fn json(lab: &Lab, line: &str) -> Value {
    serde_json::from_str(&good(lab, &format!("{line} -o json"))).unwrap()
}

/// Whether some of the rows have this value in this field, and all that have are as desired.
fn desired(list: &Value, field: &str, value: &Value) -> bool {
    let rows: Vec<&Value> = list["items"].as_array().unwrap().iter().filter(|row| row[field] == *value).collect();
    !rows.is_empty() && rows.iter().all(|row| row["sync"] == "as-desired")
}

#[test]
fn status_waits_until_all_is_well_and_versions_agree() {
    let lab = Lab::open();
    let text = good(&lab, "status --wait --wait-duration 60s");
    assert!(text.starts_with("Axoneme    healthy\n"), "{text}");
    let status = json(&lab, "status");
    let nodes = lab.cluster.nodes().unwrap().len();
    assert_eq!((status["healthy"].as_bool(), status["nodes"].as_array().unwrap().len()), (Some(true), nodes));
    let leader = status["leader"].as_str().unwrap();
    assert!(leader.starts_with("axoneme-operator-"), "{leader}");
    let versions = json(&lab, "version");
    assert_eq!(versions["nodes"], json!({ (versions["client"].as_str().unwrap()): nodes }));
    let elsewhere = run(&lab, "status --namespace default");
    assert_eq!(elsewhere.status.code(), Some(1));
    assert!(String::from_utf8(elsewhere.stdout).unwrap().contains("not installed in namespace default"));
}

#[test]
fn lists_show_what_is_desired_next_to_what_is_programmed() {
    let lab = Lab::open();
    let workload = lab.workload("command-lists");
    lab.servers(&workload, &[("server", 0), ("friend", 1)]);
    workload.friends_policy().unwrap();
    let service =
        json!({"metadata": {"name": "server"}, "spec": {"selector": {"app": "server"}, "ports": [{"port": 80}]}});
    lab.api.create(&workload.path("", "services"), &service).unwrap();

    eventually("endpoints are as desired", || {
        let list = json(&lab, "endpoint list command-lists");
        list["items"].as_array().unwrap().len() == 2 && desired(&list, "namespace", &"command-lists".into())
    });
    let list = json(&lab, "endpoint list command-lists/server");
    let row = &list["items"][0];
    assert_eq!((&row["seenOn"], &row["desired"]), (&lab.node(0).into(), &row["programmed"]));
    let identity = row["programmed"]["identity"].clone();

    eventually("the policy is as desired", || {
        let list = json(&lab, "policy list command-lists/friends");
        desired(&list, "identity", &identity) && list["items"][0]["programmed"]["ingressEnforced"] == true
    });
    eventually("the service is as desired on every node", || {
        let list = json(&lab, "service list command-lists");
        let nodes = lab.cluster.nodes().unwrap().len();
        desired(&list, "name", &"server".into()) && list["items"][0]["nodes"].as_array().unwrap().len() == nodes
    });
    let identities = good(&lab, &format!("identity list {identity}"));
    assert!(identities.contains("app=server"), "{identities}");
    let nodes = json(&lab, "node list");
    assert!(desired(&nodes, "name", &lab.node(1).into()), "{nodes}");
    assert!(good(&lab, "endpoint list --differing command-lists").lines().count() == 1, "a header only");
}

#[test]
fn a_verdict_is_explained_with_the_rules_that_decide_it() {
    let lab = Lab::open();
    let workload = lab.workload("explained");
    let pods = lab.servers(&workload, &[("server", 0), ("friend", 1), ("stranger", 1)]);
    let [server, friend, stranger] = pods.as_slice() else { panic!("three pods") };
    workload.friends_policy().unwrap();
    let service = json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": HTTP}]}});
    lab.api.create(&workload.path("", "services"), &service).unwrap();
    let ask = |line: &str| json(&lab, &format!("policy explain {line}"));
    let to_server = |from: &str| ask(&format!("--from explained/{from} --to explained/server --port {HTTP}"));

    eventually("the stranger is kept out, and the node enforces it", || {
        let told = to_server("stranger");
        let ingress = &told["ways"][0]["ingress"];
        told["allowed"] == false
            && ingress["policy"] == "networkpolicy:explained/friends"
            && ingress["rules"] == json!([])
            && ingress["enforced"]["node"] == lab.node(0)
            && ingress["enforced"]["inForce"] == true
    });
    assert!(!stranger.ask(server.http()).reached(), "as it is told");
    let told = to_server("friend");
    assert_eq!(told["allowed"], true, "{told}");
    assert_eq!(told["ways"][0]["ingress"]["rule"], "spec.ingress[0]", "{told}");
    assert!(friend.ask(server.http()).reached(), "as it is told");

    eventually("a service is explained by what is behind it", || {
        let told = ask("--from explained/stranger --to service/explained/web --port 80");
        let way = &told["ways"][0];
        way["to"]["name"] == "explained/server" && way["port"] == HTTP && told["allowed"] == false
    });
    let told = ask(&format!("--from host --to explained/server --port {HTTP}"));
    assert_eq!(told["allowed"], true, "{told}");
    let text = good(&lab, &format!("policy explain --from explained/stranger --to {} --port {HTTP}", server.ip));
    assert!(text.contains("networkpolicy:explained/friends isolates the pod, and no rule allows it"), "{text}");
    let wrong = run(&lab, "policy explain --from explained/nobody --to world --port 80");
    let wrong = String::from_utf8(wrong.stderr).unwrap();
    assert!(wrong.contains("--from: there is no pod explained/nobody"), "{wrong}");
}

#[test]
fn what_a_policy_would_deny_is_told_before_it_is_applied() {
    let lab = Lab::open();
    let workload = lab.workload("foretold");
    let pods = lab.servers(&workload, &[("server", 0), ("friend", 1), ("stranger", 1)]);
    let [server, friend, stranger] = pods.as_slice() else { panic!("three pods") };
    let spec = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}], "ports": [{"port": HTTP}]}],
    });
    let manifest =
        json!({"kind": "NetworkPolicy", "metadata": {"name": "friends", "namespace": "foretold"}, "spec": spec});
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("new.yaml"), manifest.to_string()).unwrap();
    let line = format!("policy diff -f {} -o json", folder.path().display());
    let told = || -> Vec<(String, String, bool)> {
        let output = run(&lab, &line);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let flips = report["flips"].as_array().unwrap();
        assert_eq!(output.status.success(), flips.is_empty(), "the exit code says whether something changes");
        let about = flips.iter().filter(|flip| flip["to"]["pods"][0] == "foretold/server");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        about.map(|flip| (text(&flip["from"]["name"]), text(&flip["ports"]), flip["allowed"] == true)).collect()
    };
    let flips = told();
    let flip = |from: &str, ports: &str| (from.to_owned(), ports.to_owned(), false);
    assert!(flips.contains(&flip("foretold: app=stranger", "all")), "{flips:?}");
    assert!(flips.contains(&flip("foretold: app=friend", &format!("all but {HTTP}/TCP"))), "{flips:?}");
    assert!(flips.contains(&flip("world", "all")), "{flips:?}");
    assert!(!flips.iter().any(|(from, ..)| from == "the pod's node"), "{flips:?}");

    workload.policy("friends", &spec).unwrap();
    eventually("the stranger is kept out, as was told", || !stranger.ask(server.http()).reached());
    assert!(friend.ask(server.http()).reached(), "as was told");
    eventually("nothing would change any more", || told().is_empty());
}

#[test]
fn what_is_wrong_with_policies_is_found() {
    let lab = Lab::open();
    let workload = lab.workload("linted");
    let _pods = lab.servers(&workload, &[("server", 0), ("friend", 1)]);
    workload.friends_policy().unwrap();
    let found = || -> Vec<(String, String)> {
        let output = run(&lab, "policy lint linted -o json");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let findings = report["findings"].as_array().unwrap();
        assert_eq!(output.status.success(), findings.is_empty(), "the exit code says whether something is found");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        findings.iter().map(|finding| (text(&finding["finding"]), text(&finding["field"]))).collect()
    };
    assert_eq!(found(), [], "the friend is there");
    let peer = |app: &str| json!({"podSelector": {"matchLabels": {"app": app}}});
    let spec = json!({
        "podSelector": {"matchLabels": {"app": "server"}},
        "ingress": [{"from": [peer("nobody")]}, {"from": [peer("friend")], "ports": [{"port": HTTP}]}],
    });
    workload.policy("other", &spec).unwrap();
    let finding = |code: &str, field: &str| (code.to_owned(), field.to_owned());
    assert_eq!(found(), [finding("never-matches", "spec.ingress[0]"), finding("redundant", "spec.ingress[1]")]);
}

#[test]
fn leftovers_of_other_networks_are_found_with_what_to_do() {
    let lab = Lab::open();
    let before = good(&lab, "check --all");
    assert!(before.contains("kernel: Linux") && before.contains("BTF"), "{before}");
    assert!(!before.contains("cannot be listed"), "{before}");
    lab.on_node(0, "ip link add cni0 type bridge");
    lab.on_node(1, "ip link add cilium_net type veth peer name cilium_host");
    lab.on_node(1, "iptables-legacy -t mangle -N CILIUM_PRE_mangle");
    lab.on_node(1, "ip rule add fwmark 0x200/0xf00 pref 9 table 2004");
    let output = run(&lab, "check");
    lab.on_node(0, "ip link delete cni0");
    lab.on_node(1, "ip link delete cilium_net");
    lab.on_node(1, "iptables-legacy -t mangle -X CILIUM_PRE_mangle");
    lab.on_node(1, "ip rule delete pref 9");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "left by a bridge network: cni0",
        "ip link delete cni0",
        "left by Cilium: cilium_host, cilium_net",
        "helm uninstall cilium",
        "left by Cilium in iptables-legacy: CILIUM_PRE_mangle",
        "left by Cilium: ip rule 9 to table 2004",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn connectivity_is_checked_end_to_end_and_leaves_nothing() {
    let lab = Lab::open();
    let report = json(&lab, "connectivity");
    assert_eq!(report["passed"], true, "{report:#}");
    let checks: Vec<&str> =
        report["checks"].as_array().unwrap().iter().map(|row| row["check"].as_str().unwrap()).collect();
    for check in [
        "pod to pod, other node, UDP",
        "pod to service, TCP",
        "host to pod, other node",
        "policy applied: stranger, other node",
    ] {
        assert!(checks.contains(&check), "{check} is not in {checks:?}");
    }
    let skipped = report["skipped"].as_array().unwrap();
    assert!(skipped.contains(&"cluster DNS: no DNS service kube-system/kube-dns".into()), "{skipped:?}");
    eventually("its namespace is gone", || {
        lab.api
            .find("/api/v1/namespaces/axoneme-connectivity")
            .unwrap()
            .is_none_or(|it| it["status"]["phase"] == "Terminating")
    });
}

/// A cluster's DNS, removed when dropped.
struct Dns<'a>(&'a Lab);

const DNS_POD: &str = "/api/v1/namespaces/kube-system/pods/coredns";

impl Dns<'_> {
    fn paths() -> [(&'static str, &'static str); 5] {
        [
            ("/api/v1/namespaces/kube-system/serviceaccounts", "coredns"),
            ("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", "coredns"),
            ("/api/v1/namespaces/kube-system/configmaps", "coredns"),
            ("/api/v1/namespaces/kube-system/services", "kube-dns"),
            ("/api/v1/namespaces/kube-system/pods", "coredns"),
        ]
    }

    /// CoreDNS as installers have it, but for one pod instead of a Deployment.
    fn start(lab: &Lab) -> Dns<'_> {
        let archive = axoneme_e2e::images::dns_image(&lab.cluster.paths).unwrap();
        lab.cluster.load(&[archive]).unwrap();
        let corefile = ".:53 {\n errors\n ready\n kubernetes cluster.local in-addr.arpa ip6.arpa\n}\n";
        let objects = [
            json!({"metadata": {"name": "coredns"}}),
            json!({
                "metadata": {"name": "coredns"},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
                "subjects": [{"kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system"}],
            }),
            json!({"metadata": {"name": "coredns"}, "data": {"Corefile": corefile}}),
            json!({
                "metadata": {"name": "kube-dns"},
                "spec": {
                    "selector": {"k8s-app": "kube-dns"},
                    "clusterIP": lab.state().addresses().dns_service().to_string(),
                    "ports": [{"name": "dns", "protocol": "UDP", "port": 53}, {"name": "dns-tcp", "protocol": "TCP", "port": 53}],
                },
            }),
            json!({
                "metadata": {"name": "coredns", "labels": {"k8s-app": "kube-dns"}},
                "spec": {
                    "nodeName": lab.node(1),
                    "serviceAccountName": "coredns",
                    "dnsPolicy": "Default",
                    "terminationGracePeriodSeconds": 0,
                    "containers": [{
                        "name": "coredns",
                        "image": axoneme_e2e::images::DNS,
                        "args": ["-conf", "/etc/coredns/Corefile"],
                        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8181}, "periodSeconds": 1},
                        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns"}],
                    }],
                    "volumes": [{"name": "config", "configMap": {"name": "coredns"}}],
                },
            }),
        ];
        let dns = Dns(lab);
        for ((path, _), object) in Self::paths().iter().zip(&objects) {
            lab.api.create(path, object).unwrap();
        }
        eventually("the DNS is ready", || {
            let pod = lab.api.get(DNS_POD).unwrap();
            axoneme_e2e::workload::condition(&pod, "Ready")
        });
        dns
    }
}

impl Drop for Dns<'_> {
    fn drop(&mut self) {
        for (path, name) in Self::paths() {
            // What was not made is not there to be deleted.
            self.0.api.delete(&format!("{path}/{name}")).ok();
        }
    }
}

#[test]
fn connectivity_finds_services_by_name_where_the_cluster_has_a_dns() {
    let lab = Lab::open();
    let _dns = Dns::start(&lab);
    let report = json(&lab, "connectivity");
    assert_eq!(report["passed"], true, "{report:#}");
    let of_names = |row: &&Value| row["check"] == "pod resolves a service's name";
    let names: Vec<&Value> = report["checks"].as_array().unwrap().iter().filter(of_names).collect();
    let asked: Vec<&str> = names.iter().map(|row| row["to"].as_str().unwrap()).collect();
    assert_eq!(asked, ["kubernetes.default.svc", "server.axoneme-connectivity.svc"]);
    let kubernetes = lab.api.get("/api/v1/namespaces/default/services/kubernetes").unwrap();
    assert_eq!(names[0]["answer"], kubernetes["spec"]["clusterIP"], "{report:#}");
}
