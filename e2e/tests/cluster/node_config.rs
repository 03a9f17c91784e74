//! Settings of single nodes.

use std::process::Command;

use axoneme_e2e::kubectl::run;
use axoneme_e2e::sandbox::enter_network;
use serde_json::{Value, json};

use crate::lab::{Lab, Server, eventually, steadily};

const CONFIGS: &str = "/apis/cilium.io/v2/namespaces/kube-system/ciliumnodeconfigs";
const NAME: &str = "scenario";

/// A CiliumNodeConfig; gone when dropped.
struct Config<'a>(&'a Lab);

impl<'a> Config<'a> {
    fn create(lab: &'a Lab, node: &str, defaults: &Value) -> Self {
        let config = json!({
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNodeConfig",
            "metadata": {"name": NAME},
            "spec": {"nodeSelector": {"matchLabels": {"kubernetes.io/hostname": node}}, "defaults": defaults},
        });
        lab.api.create(CONFIGS, &config).unwrap();
        Self(lab)
    }
}

impl Drop for Config<'_> {
    fn drop(&mut self) {
        let _ = self.0.api.delete(&format!("{CONFIGS}/{NAME}"));
    }
}

/// The MTU of a pod's device.
fn mtu(server: &Server) -> u64 {
    let mut ip = Command::new("ip");
    enter_network(&mut ip, server.network.try_clone().unwrap());
    let links: Value = serde_json::from_str(&run(ip.args(["-json", "link", "show", "dev", "eth0"])).unwrap()).unwrap();
    links[0]["mtu"].as_u64().unwrap()
}

#[test]
fn a_setting_of_one_node_counts_there_alone_and_for_as_long_as_it_is_there() {
    let lab = Lab::open();
    let workload = lab.workload("node-config");
    let pods = lab.servers(&workload, &[("here", 0), ("there", 1)]);
    let [here, there] = pods.as_slice() else { panic!("two pods") };
    let before = (mtu(here), mtu(there));

    let config = Config::create(&lab, &lab.node(0), &json!({"mtu": "1333", "no-such-setting": "1"}));
    eventually("pods of the node have the MTU", || mtu(here) == 1333);
    steadily("those of other nodes have theirs", || mtu(there) == before.1);
    assert!(lab.servers(&workload, &[("later", 0)]).iter().all(|pod| mtu(pod) == 1333), "new pods have it, too");
    eventually("what is no setting of single nodes is told", || {
        let said = lab.events("CiliumNodeConfig", NAME, "InvalidField");
        said.iter().any(|note| note.contains("no-such-setting"))
    });
    lab.api
        .patch(&format!("{CONFIGS}/{NAME}"), &json!({"spec": {"defaults": {"mtu": "1400", "no-such-setting": null}}}))
        .unwrap();
    eventually("a change is followed", || mtu(here) == 1400);

    drop(config);
    eventually("it is taken back", || (mtu(here), mtu(there)) == before);
    assert!(here.ask(there.http()).reached() && there.ask(here.http()).reached());
}
