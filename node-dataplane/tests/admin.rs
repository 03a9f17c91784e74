//! What people ask the daemon that runs: its own binary's answers, before and after somebody has spoilt the kernel's maps.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on shall say where")]

mod common;
#[path = "common/daemon.rs"]
mod daemon;

use std::path::Path;

use axoneme_admin::node::{Endpoint, Identity, Node, Policy, Service, Status, Sync};
use axoneme_bpf::address::AddressKey;
use axoneme_bpf::policy::{Policy as Entry, PolicyFlags};
use axoneme_bpf::service::ServiceKey;
use axoneme_node::maps::Pinned;
use axoneme_node::reconcile::ops::MapOps;
use common::host::Cgroup;
use common::{Bottle, Pod, block_on, ip, on_node, privileged};
use daemon::operator::{Authority, Behaviour, Network};
use daemon::{Daemon, OPERATOR, everything, prepare};
use serde::de::DeserializeOwned;

async fn run(folder: &Path, arguments: &str) -> (bool, String) {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_axoneme-node"));
    command.args(arguments.split_whitespace()).arg("--socket").arg(folder.join("run/admin.sock"));
    let output = command.output().await.unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

async fn ask<T: DeserializeOwned>(folder: &Path, subject: &str) -> T {
    let (success, text) = run(folder, &format!("{subject} -o json")).await;
    assert!(success, "{subject}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|err| panic!("{subject}: {err}: {text}"))
}

async fn all_is_as_desired(folder: &Path) {
    let status: Status = ask(folder, "status").await;
    assert_eq!((status.node.as_str(), status.ready, &*status.problems), ("n1", true, &[][..]));
    assert_eq!((status.stream.connected, status.stream.operator.as_str()), (true, OPERATOR));
    assert_eq!((status.progress.received, status.progress.attempted, status.progress.failing), (9, 9, 0));
    assert_eq!((status.counts.endpoints, status.counts.nodes, status.counts.frontends), (1, 2, 1));

    let endpoints: Vec<Endpoint> = ask(folder, "endpoint list").await;
    let [endpoint] = &endpoints[..] else { panic!("{endpoints:?}") };
    assert_eq!((endpoint.name.as_str(), endpoint.sync, endpoint.endpoint_id), ("pod", Sync::AsDesired, 1));
    let state = endpoint.programmed.as_ref().unwrap();
    assert_eq!((state.identity, &*state.addresses), (100, &["10.1.0.5".to_owned()][..]));
    assert_eq!(endpoint.desired.as_ref(), Some(state));

    let policies: Vec<Policy> = ask(folder, "policy list").await;
    let [policy] = &policies[..] else { panic!("{policies:?}") };
    assert_eq!((policy.identity, policy.sync, policy.endpoints), (100, Sync::AsDesired, 1));
    assert_eq!(policy.policies, ["networkpolicy:shop/deny"]);
    assert!(policy.programmed.as_ref().unwrap().ingress_enforced);

    let nodes: Vec<Node> = ask(folder, "node list").await;
    assert_eq!(
        nodes.iter().map(|node| (&*node.name, node.sync)).collect::<Vec<_>>(),
        [("n1", Sync::AsDesired), ("n2", Sync::AsDesired)]
    );
    let identities: Vec<Identity> = ask(folder, "identity list").await;
    let counts = |identity: &Identity| (identity.identity, identity.endpoints, identity.programmed_addresses);
    assert_eq!(identities.iter().map(counts).collect::<Vec<_>>(), [(100, 1, 0), (200, 0, 1)]);
    let services: Vec<Service> = ask(folder, "service list").await;
    let [service] = &services[..] else { panic!("{services:?}") };
    assert_eq!((&*service.name, service.sync), ("web", Sync::AsDesired));
    assert_eq!(service.frontends[0].frontend, "10.96.0.10:80/tcp");
}

/// Changes entries behind the daemon's back: it compares by itself every few minutes only.
async fn what_others_spoil_is_seen(folder: &Path, bottle: &Bottle) {
    let mut maps = Pinned::open(&bottle.paths().maps()).unwrap();
    let ifindex = maps.addresses.get(&AddressKey::from(ip("10.1.0.5"))).unwrap().unwrap().ifindex;
    let entry = maps.endpoints.get(&ifindex).unwrap().unwrap();
    maps.endpoints.update(&ifindex, &axoneme_bpf::endpoint::Endpoint { identity: 7, ..entry }).unwrap();
    maps.addresses.delete(&AddressKey::from(ip("10.2.0.5"))).unwrap();
    maps.addresses.delete(&AddressKey::from(ip("192.0.2.2"))).unwrap();
    maps.policies
        .update(&entry.policy, &Entry { generation: 1, flags: PolicyFlags::default(), ..Entry::default() })
        .unwrap();
    let frontend = ServiceKey::new(ip("10.96.0.10"), 80, 6);
    let service = maps.services.get(&frontend).unwrap().unwrap();
    maps.services.delete(&frontend).unwrap();
    maps.services.update(&ServiceKey::new(ip("10.96.0.99"), 1, 17), &service).unwrap();

    let endpoints: Vec<Endpoint> = ask(folder, "endpoint").await;
    assert_eq!((endpoints[0].sync, endpoints[0].programmed.as_ref().unwrap().identity), (Sync::Differs, 7));
    let nodes: Vec<Node> = ask(folder, "node").await;
    assert_eq!((nodes[1].sync, &*nodes[1].differing), (Sync::Missing, &["192.0.2.2".to_owned()][..]));
    let identities: Vec<Identity> = ask(folder, "identity").await;
    assert_eq!((identities[1].sync, &*identities[1].differing), (Sync::Missing, &["10.2.0.5".to_owned()][..]));
    let policies: Vec<Policy> = ask(folder, "policy").await;
    assert_eq!((policies[0].sync, policies[0].programmed.as_ref().unwrap().ingress_enforced), (Sync::Differs, false));
    let services: Vec<Service> = ask(folder, "service").await;
    let seen = services.iter().map(|s| (&*s.name, s.frontends[0].frontend.as_str(), s.sync)).collect::<Vec<_>>();
    assert_eq!(seen, [("web", "10.96.0.10:80/tcp", Sync::Missing), ("", "10.96.0.99:1/udp", Sync::Leftover)]);
    let (_, table) = run(folder, "endpoint list").await;
    assert!(table.contains("IDENTITY DESIRED") && table.contains("differs"), "{table}");
}

#[test]
fn people_see_what_is_desired_next_to_what_the_kernel_has() {
    if !privileged("admin") {
        return;
    }
    on_node(|bottle| {
        let (cgroup, authority) = (Cgroup::new("admin"), Authority::new());
        let folder = prepare(bottle, &cgroup, &authority);
        block_on(async {
            let network = Network::default();
            let mut operator = network.operator(OPERATOR, Behaviour::good(&authority));
            let _reachable = network.listen(OPERATOR).await;
            let (success, text) = run(&folder, "status").await;
            assert!(!success && text.contains("nobody answers at"), "{text}");
            let pod = Pod::new();
            let mut daemon = Daemon::start(folder.clone());
            let mut session = operator.sessions.recv().await.unwrap();
            session.welcome(1, false).await;
            session.delta(everything()).await;
            while session.ack().await.attempted < 9 {}
            daemon.ready().await;
            daemon.plugin("ADD", "pod", &pod.path()).await.unwrap();
            all_is_as_desired(&folder).await;
            what_others_spoil_is_seen(&folder, bottle).await;
        });
    });
}
