//! Services, as pods and nodes of the cluster reach them.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use axoneme_e2e::kubectl::run;
use axoneme_e2e::outside::Outside;
use axoneme_e2e::reach::{self, Outcome};
use axoneme_e2e::workload::Workload;
use serde_json::{Value, json};

use crate::lab::{HTTP, Lab, UDP, eventually, of_family};

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
        let target = SocketAddr::new(ip, 80);
        eventually(&format!("node {index} reaches the service"), || {
            node_asks(&lab, index, target).is_some_and(|name| name == "web")
        });
    }
}

/// A Service over the pods with the label `app=many`, whose specification also says `more`.
fn service_of_many(lab: &Lab, workload: &Workload<'_>, mut more: Value) -> Value {
    more["selector"] = json!({"app": "many"});
    more["ports"] = json!([{"port": 80, "targetPort": HTTP}]);
    let object = json!({"metadata": {"name": "many"}, "spec": more});
    lab.api.create(&workload.path("", "services"), &object).unwrap()
}

/// Starts pods of that service, on these nodes.
fn join_many(lab: &Lab, workload: &Workload<'_>, pods: &[(&str, usize)]) {
    lab.servers(workload, pods);
    for (name, _) in pods {
        // Pods of this lab carry their own name.
        let path = format!("{}/{name}", workload.path("", "pods"));
        lab.api.patch(&path, &json!({"metadata": {"labels": {"app": "many"}}})).unwrap();
    }
}

fn cluster_ip(service: &Value) -> SocketAddr {
    SocketAddr::new(service["spec"]["clusterIP"].as_str().unwrap().parse().unwrap(), 80)
}

/// What a process of a node is told by a server, which is its name. Its sockets are those of its node's cgroup.
fn node_asks(lab: &Lab, node: u8, target: SocketAddr) -> Option<String> {
    let mut bash = lab.cluster.node_command(node, "timeout").unwrap();
    let (ip, port) = (target.ip(), target.port());
    let script = format!("exec 3<>/dev/tcp/{ip}/{port}; printf 'GET /hostname HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3");
    let answer = run(bash.args(["2", "bash", "-c", &script])).ok()?;
    answer.lines().last().map(str::to_owned)
}

#[test]
fn pods_and_nodes_find_a_service_at_external_addresses_and_at_nodes() {
    let lab = Lab::open();
    let workload = lab.workload("services-others");
    let clients = lab.servers(&workload, &[("client-0", 0), ("client-1", 1)]);
    // No address of this network; nobody but the cluster could answer there.
    let external = if lab.node_ips(0)[0].is_ipv4() { "192.0.2.10" } else { "2001:db8::10" };
    join_many(&lab, &workload, &[("one", 0), ("two", 1)]);
    let service = service_of_many(&lab, &workload, json!({"type": "NodePort", "externalIPs": [external]}));
    let node_port = u16::try_from(service["spec"]["ports"][0]["nodePort"].as_u64().unwrap()).unwrap();
    let at_nodes = [0, 1].map(|n| SocketAddr::new(lab.node_ips(n)[0], node_port));
    let all = [SocketAddr::new(external.parse().unwrap(), 80), at_nodes[0], at_nodes[1], cluster_ip(&service)];
    let both: BTreeSet<String> = ["one", "two"].map(str::to_owned).into();
    for target in all {
        for client in &clients {
            let seen = || (0..8).filter_map(|_| name(client.ask(target))).collect::<BTreeSet<_>>();
            eventually(&format!("{} reaches both pods at {target}", client.name), || seen() == both);
        }
        for node in [0, 1].map(|n| lab.index(n)) {
            let seen = || (0..8).filter_map(|_| node_asks(&lab, node, target)).collect::<BTreeSet<_>>();
            eventually(&format!("node {node} reaches both pods at {target}"), || seen() == both);
        }
    }

    // Who asks stays who it is.
    assert_eq!(reach::seen_as(&clients[0].network, at_nodes[1]).unwrap(), clients[0].ip);

    lab.api.delete(&format!("{}/many", workload.path("", "services"))).unwrap();
    eventually("it is gone", || all.iter().all(|target| !clients[0].ask(*target).reached()));
}

#[test]
fn a_client_stays_with_the_pod_that_it_had() {
    let lab = Lab::open();
    let workload = lab.workload("services-affinity");
    let clients = lab.servers(&workload, &[("client-0", 0), ("client-1", 1)]);
    join_many(&lab, &workload, &[("one", 0), ("two", 1), ("three", 2)]);
    let service = service_of_many(&lab, &workload, json!({"sessionAffinity": "ClientIP"}));
    let target = cluster_ip(&service);
    for client in &clients {
        eventually("the service is there", || client.ask(target).reached());
        let first = client.ask(target);
        assert!((0..12).all(|_| client.ask(target) == first), "{} stays with its pod", client.name);
    }
    let node = lab.index(0);
    let first = node_asks(&lab, node, target);
    assert!(first.is_some() && (0..12).all(|_| node_asks(&lab, node, target) == first), "so does a node");

    let had = name(clients[0].ask(target)).unwrap();
    lab.api.delete(&format!("{}/{had}", workload.path("", "pods"))).unwrap();
    eventually("it gets another pod", || name(clients[0].ask(target)).is_some_and(|now| now != had));

    let path = format!("{}/many", workload.path("", "services"));
    lab.api.patch(&path, &json!({"spec": {"sessionAffinity": "None"}})).unwrap();
    let seen = || (0..20).filter_map(|_| name(clients[0].ask(target))).collect::<BTreeSet<_>>().len();
    eventually("and both pods that are left, when it need not stay", || seen() == 2);
}

#[test]
fn a_service_may_lead_to_pods_of_the_same_node_only() {
    let lab = Lab::open();
    let workload = lab.workload("services-local");
    let clients = lab.servers(&workload, &[("client-0", 0), ("client-1", 1), ("client-2", 2)]);
    join_many(&lab, &workload, &[("one", 0), ("two", 1)]);
    let target = cluster_ip(&service_of_many(&lab, &workload, json!({"internalTrafficPolicy": "Local"})));
    let seen = |n: usize| (0..20).filter_map(|_| name(clients[n].ask(target))).collect::<BTreeSet<_>>();
    for (n, own) in ["one", "two"].into_iter().enumerate() {
        eventually(&format!("{} is served by {own}", clients[n].name), || seen(n) == BTreeSet::from([own.to_owned()]));
    }
    assert!(seen(2).is_empty(), "nobody serves on the third node");
}

#[test]
fn clients_outside_reach_services_at_nodes_and_at_load_balancers() {
    let lab = Lab::open();
    let workload = lab.workload("services-outside");
    let outside = Outside::start(&lab.cluster).unwrap();
    let network = outside.network().unwrap();
    let world = outside.addresses[0];
    let node_ips = [0, 1, 2].map(|n| of_family(&lab.node_ips(n), world).unwrap());
    let vip: IpAddr = if world.is_ipv4() { "192.0.2.20" } else { "2001:db8::20" }.parse().unwrap();
    outside.ip(&format!("route replace {vip} via {}", node_ips[0])).unwrap();
    join_many(&lab, &workload, &[("one", 0), ("two", 1)]);
    let service = service_of_many(&lab, &workload, json!({"type": "LoadBalancer"}));
    let path = format!("{}/many", workload.path("", "services"));
    let node_port = u16::try_from(service["spec"]["ports"][0]["nodePort"].as_u64().unwrap()).unwrap();
    lab.api.patch(&format!("{path}/status"), &json!({"status": {"loadBalancer": {"ingress": [{"ip": vip}]}}})).unwrap();
    let at_nodes = node_ips.map(|ip| SocketAddr::new(ip, node_port));
    let balanced = SocketAddr::new(vip, 80);
    let ask = |target| reach::probe(&network, target).unwrap();
    let seen = |target| (0..12).filter_map(|_| name(ask(target))).collect::<BTreeSet<_>>();
    let both: BTreeSet<String> = ["one", "two"].map(str::to_owned).into();
    for target in [at_nodes[0], at_nodes[1], at_nodes[2], balanced] {
        eventually(&format!("both pods are reached at {target}"), || seen(target) == both);
    }
    // Pods of the node see who asks, pods of others the node.
    let known = |target| (0..12).filter_map(|_| reach::seen_as(&network, target).ok()).collect::<BTreeSet<_>>();
    assert_eq!(known(at_nodes[0]), BTreeSet::from([world, node_ips[0]]));
    assert_eq!(known(at_nodes[2]), BTreeSet::from([node_ips[2]]));

    lab.api.patch(&path, &json!({"spec": {"externalTrafficPolicy": "Local"}})).unwrap();
    for (target, own) in [(at_nodes[0], "one"), (at_nodes[1], "two"), (balanced, "one")] {
        eventually(&format!("{own} alone is reached at {target}"), || seen(target) == BTreeSet::from([own.to_owned()]));
        assert_eq!(known(target), BTreeSet::from([world]));
    }
    assert_eq!(ask(at_nodes[2]), Outcome::Silent, "nobody serves on the third node");

    lab.api.patch(&path, &json!({"spec": {"selector": {"app": "nobody"}}})).unwrap();
    let refused = |target| matches!(ask(target), Outcome::Failed(why) if why.contains("refused"));
    eventually("who asks is refused at once when nobody serves", || refused(at_nodes[2]) && refused(balanced));
}

#[test]
fn connections_are_spread_over_all_ready_pods_and_follow_changes() {
    let lab = Lab::open();
    let workload = lab.workload("services-spread");
    let client = lab.servers(&workload, &[("client", 0)]).remove(0);
    let ip = service(&lab, &workload, "many");
    let target = SocketAddr::new(ip, 80);
    let refused = |outcome| matches!(outcome, Outcome::Failed(why) if why.contains("refused"));
    eventually("a service without pods refuses at once", || {
        let udp = reach::probe_udp(&client.network, SocketAddr::new(ip, 53)).unwrap();
        refused(client.ask(target)) && refused(udp)
    });

    let path = workload.path("", "pods");
    join_many(&lab, &workload, &[("one", 0), ("two", 1)]);
    let seen = || (0..8).filter_map(|_| name(client.ask(target))).collect::<BTreeSet<_>>();
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
