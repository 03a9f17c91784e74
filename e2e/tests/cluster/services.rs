//! ClusterIP services.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use axoneme_e2e::kubectl::run;
use axoneme_e2e::reach::{self, Outcome};
use axoneme_e2e::workload::Workload;
use serde_json::json;

use crate::lab::{HTTP, Lab, UDP, eventually};

/// A Service over the pods with the label `app=NAME` of the given name, on ports 80 (HTTP) and 53 (UDP).
fn service(lab: &Lab, workload: &Workload<'_>, name: &str) -> IpAddr {
    let object = json!({
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [
            {"name": "http", "port": 80, "targetPort": HTTP},
            {"name": "udp", "port": 53, "targetPort": UDP, "protocol": "UDP"},
        ]},
    });
    let created = lab.api.create(&workload.path("", "services"), &object).unwrap();
    created["spec"]["clusterIP"].as_str().unwrap().parse().unwrap()
}

#[test]
fn a_service_leads_to_its_pods_by_tcp_and_udp() {
    let lab = Lab::open();
    let workload = lab.workload("services-all");
    let servers = lab.servers(&workload, &[("web", 0), ("client", 1)]);
    let ip = service(&lab, &workload, "web");
    for from in &servers {
        eventually(&format!("{} reaches the service", from.name), || {
            from.ask(SocketAddr::new(ip, 80)) == Outcome::Reached("web".to_owned())
        });
        let udp = reach::probe_udp(&from.network, SocketAddr::new(ip, 53)).unwrap();
        assert_eq!(udp, Outcome::Reached("web".to_owned()), "{} by UDP", from.name);
    }
}

#[test]
fn a_service_is_reached_in_every_family_of_the_cluster() {
    let lab = Lab::open();
    let workload = lab.workload("services-dual");
    let servers = lab.servers(&workload, &[("web", 0), ("client", 1)]);
    let object = json!({
        "metadata": {"name": "web"},
        "spec": {
            "selector": {"app": "web"},
            "ipFamilyPolicy": "PreferDualStack",
            "ports": [{"port": 80, "targetPort": HTTP}],
        },
    });
    let created = lab.api.create(&workload.path("", "services"), &object).unwrap();
    let ips = created["spec"]["clusterIPs"].as_array().unwrap();
    assert_eq!(ips.len(), lab.state().addresses().services().len());
    for ip in ips {
        let target = SocketAddr::new(ip.as_str().unwrap().parse().unwrap(), 80);
        for from in &servers {
            eventually(&format!("{} reaches {target}", from.name), || {
                from.ask(target) == Outcome::Reached("web".to_owned())
            });
        }
    }
}

#[test]
fn nodes_reach_services_too() {
    let lab = Lab::open();
    let workload = lab.workload("services-nodes");
    lab.servers(&workload, &[("web", 1)]);
    let ip = service(&lab, &workload, "web");
    for index in lab.cluster.nodes().unwrap() {
        // A process of the node, because services of hosts are translated for the sockets of its cgroup.
        let ask = || {
            let mut bash = lab.cluster.node_command(index, "timeout").unwrap();
            let script = format!("exec 3<>/dev/tcp/{ip}/80; printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
            run(bash.args(["2", "bash", "-c", &script]))
        };
        eventually(&format!("node {index} reaches the service"), || ask().is_ok_and(|answer| answer.ends_with("web")));
    }
}

#[test]
fn connections_are_spread_over_all_ready_pods_and_follow_changes() {
    let lab = Lab::open();
    let workload = lab.workload("services-spread");
    let client = lab.servers(&workload, &[("client", 0)]).remove(0);
    let ip = service(&lab, &workload, "many");
    let target = SocketAddr::new(ip, 80);
    assert!(!client.ask(target).reached(), "a service without pods answers");

    let path = workload.path("", "pods");
    let start = |name: &str, node| {
        lab.servers(&workload, &[(name, node)]);
        // Pods of this lab carry their own name; this one joins the service.
        lab.api.patch(&format!("{path}/{name}"), &json!({"metadata": {"labels": {"app": "many"}}})).unwrap();
    };
    start("one", 0);
    start("two", 1);
    let seen = || (0..20).filter_map(|_| name(client.ask(target))).collect::<BTreeSet<_>>();
    let both: BTreeSet<_> = ["one", "two"].map(str::to_owned).into();
    eventually("both pods serve", || seen() == both);

    lab.api.delete(&format!("{path}/one")).unwrap();
    eventually("only the other pod serves", || seen() == BTreeSet::from(["two".to_owned()]));
}

fn name(outcome: Outcome) -> Option<String> {
    match outcome {
        Outcome::Reached(name) => Some(name),
        _ => None,
    }
}
