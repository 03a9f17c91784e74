//! What other networks have left on a node: `axoneme-node check` names all of it, and doing what it says takes all of it away.
//!
//! The node is a namespace with a BPF file system of its own. What is left there is real: devices, chains in both interfaces of
//! iptables, rules, routes, maps, and programs that are attached.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on shall say where")]

mod common;

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use axoneme_node::link::filter::Direction;
use axoneme_node::maps::bpf;
use axoneme_node::programs::syscall;
use nix::mount::{MsFlags, mount};
use serde_json::{Value, json};

use common::host::{CGROUP_SOCK, Cgroup, GO_ON, SCHED_CLS, program};
use common::{Bottle, on_node, privileged};

const PINS: &str = "/sys/fs/bpf";

/// Gives the node the mounts of a host: its own devices, pins and cgroup.
fn host(bottle: &Bottle, cgroup: &Cgroup) -> PathBuf {
    let own = bottle.path("cgroup");
    fs::create_dir(&own).unwrap();
    let bind = |from: &Path, to: &Path| mount(Some(from), to, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    bind(&cgroup.0, &own);
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).unwrap();
    mount(Some("bpf"), PINS, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
    bind(&own, Path::new("/sys/fs/cgroup"));
    let conflists = bottle.path("net.d");
    fs::create_dir(&conflists).unwrap();
    let config = json!({"cni": {"confDirectory": conflists}});
    fs::write(bottle.path("node.yaml"), config.to_string()).unwrap();
    sh("ip link set lo up && ip link add eth0 type veth peer name wire0 && ip link set eth0 up");
    conflists
}

fn sh(line: &str) -> String {
    let output = Command::new("sh").args(["-ec", line]).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// What check finds of others, as it tells programs.
fn findings(bottle: &Bottle) -> Vec<Value> {
    let mut check = Command::new(env!("CARGO_BIN_EXE_axoneme-node"));
    let output = check.args(["check", "-o", "json", "--config"]).arg(bottle.path("node.yaml")).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let checks = ["CNI configuration", "devices", "programs", "firewall chains", "rules and routes", PINNED];
    let Value::Array(all) = &report["findings"] else { panic!("{report}") };
    let of_others =
        |finding: &&Value| checks.iter().any(|check| finding["check"] == *check) && finding["level"] != "good";
    all.iter().filter(of_others).cloned().collect()
}

const PINNED: &str = "pinned programs and maps";

/// Whether one finding of this kind and level is about exactly these, and says what to do.
#[track_caller]
fn names(findings: &[Value], level: &str, check: &str, whose: &str, names: &[&str]) {
    let of = |finding: &&Value| {
        finding["check"] == check && finding["found"].as_str().unwrap().starts_with(&format!("left by {whose}:"))
    };
    let found: Vec<&Value> = findings.iter().filter(of).collect();
    let [finding] = found[..] else { panic!("{check} of {whose}: {findings:#?}") };
    assert_eq!((&finding["names"], &finding["level"]), (&json!(names), &json!(level)), "{findings:#?}");
    assert!(!finding["advice"].as_str().unwrap().is_empty());
}

/// Does what the findings say, to the letter.
fn follow(findings: &[Value]) {
    for finding in findings.iter().filter(|finding| finding["check"] != "CNI configuration") {
        let advice = finding["advice"].as_str().unwrap();
        let (_, commands) = advice.split_once("for what is left: ").unwrap_or_else(|| panic!("{advice}"));
        match (finding["check"].as_str().unwrap(), commands.strip_suffix(", and so on")) {
            ("programs", _) => {
                // Those with pins go with their pins.
                let own = |command: &&str| command.starts_with("tc ") || command.starts_with("ip ");
                commands.split("; ").filter(own).for_each(|command| drop(sh(command)));
            }
            ("devices", Some(first)) => {
                assert!(first.ends_with(finding["names"][0].as_str().unwrap()), "{first}");
                for name in finding["names"].as_array().unwrap().iter().filter_map(Value::as_str) {
                    // The other end of a pair has gone with the first.
                    sh(&format!("! ip link show {name} || ip link delete {name}"));
                }
            }
            _ => drop(sh(commands)),
        }
    }
}

#[test]
fn a_node_that_had_a_bridge_network_and_cilium_is_told_of_everything_and_how_to_get_rid_of_it() {
    if !privileged("leftovers") {
        return;
    }
    // It goes when its path is that of the machine again.
    let root = Arc::new(Cgroup::new("leftovers"));
    let own = Arc::clone(&root);
    on_node(move |bottle| {
        let conflists = host(bottle, &own);
        assert_eq!(findings(bottle), Vec::<Value>::new(), "nobody was here");

        let bridge = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "pods0"}]});
        fs::write(conflists.join("10-bridge.conflist"), bridge.to_string()).unwrap();
        sh(
            "ip link add pods0 type bridge && ip link add veth5a09 type veth peer name inside && ip link set veth5a09 master pods0",
        );
        sh("iptables-nft -t nat -N CNI-5f1e && iptables-nft -t nat -A POSTROUTING -s 10.9.0.2/32 -j CNI-5f1e");
        sh("nft add table inet cni_hostport && nft add chain inet cni_hostport hostports");

        let cilium = json!({"cniVersion": "0.3.1", "name": "cilium", "plugins": [{"type": "cilium-cni"}]});
        fs::write(conflists.join("05-cilium.conflist"), cilium.to_string()).unwrap();
        sh("ip link add cilium_net type veth peer name cilium_host && ip link set cilium_host up");
        sh(
            "ip link add cilium_vxlan type vxlan external dstport 18472 && ip link add lxc5a09c0ffee42 type veth peer name pod0",
        );
        for (program, table) in [("iptables", "nat"), ("iptables", "mangle"), ("ip6tables", "filter")] {
            sh(&format!("{program}-legacy -t {table} -N CILIUM_OUTPUT_{table}"));
            sh(&format!(
                "{program}-legacy -t {table} -A OUTPUT -m comment --comment 'cilium-feeder' -j CILIUM_OUTPUT_{table}"
            ));
            sh(&format!("{program}-legacy -t {table} -A CILIUM_OUTPUT_{table} -j ACCEPT"));
        }
        sh("iptables-nft -N CILIUM_FORWARD && iptables-nft -A FORWARD -j CILIUM_FORWARD");
        sh("ip rule add fwmark 0x200/0xf00 pref 9 table 2004 && ip route add local default dev lo table 2004");
        sh("ip -6 rule add fwmark 0xa00/0xf00 pref 10 table 2005");
        sh("ip rule add pref 100 lookup local && ip rule delete pref 0 lookup local");
        sh(&format!(
            "mkdir -p {PINS}/tc/globals {PINS}/cilium/devices && bpftool map create {PINS}/tc/globals/cilium_ipcache_v2 \
             type hash key 4 value 4 entries 8 name cilium_ipcache"
        ));
        let (filter, link) = (program(SCHED_CLS, "cil_from_netdev", GO_ON), program(SCHED_CLS, "cil_to_netdev", GO_ON));
        bpf::pin(filter.as_fd(), Path::new(&format!("{PINS}/tc/globals/cilium_calls"))).unwrap();
        sh(&format!(
            "tc qdisc add dev eth0 clsact && tc filter add dev eth0 ingress bpf da pinned {PINS}/tc/globals/cilium_calls"
        ));
        let eth0 = fs::read_to_string("/sys/class/net/eth0/ifindex").unwrap().trim().parse().unwrap();
        {
            let attached = syscall::attach_tcx(link.as_fd(), eth0, Direction::Egress).unwrap();
            bpf::pin(attached.as_fd(), Path::new(&format!("{PINS}/cilium/devices/cil_to_netdev"))).unwrap();
            let sock = program(CGROUP_SOCK, "cil_sock_create", 1);
            let root = fs::File::open("/sys/fs/cgroup").unwrap();
            let attached = syscall::attach_cgroup(sock.as_fd(), root.as_fd(), 2).unwrap();
            bpf::pin(attached.as_fd(), Path::new(&format!("{PINS}/cilium/cil_sock_create"))).unwrap();
        }
        drop((filter, link));

        let found = findings(bottle);
        let told = |level, check, whose, of: &[&str]| names(&found, level, check, whose, of);
        let configurations: Vec<&str> = found
            .iter()
            .filter(|finding| finding["check"] == "CNI configuration")
            .map(|finding| finding["found"].as_str().unwrap().rsplit('/').next().unwrap())
            .collect();
        assert_eq!(configurations, ["05-cilium.conflist is of Cilium", "10-bridge.conflist is of a bridge network"]);
        told("warning", "devices", "a bridge network", &["pods0", "veth5a09"]);
        told("warning", "firewall chains", "a bridge network in iptables", &["CNI-5f1e"]);
        told("warning", "firewall chains", "a bridge network in nftables", &["table inet cni_hostport"]);
        told("bad", "devices", "Cilium", &["cilium_host", "cilium_net", "cilium_vxlan", "lxc5a09c0ffee42"]);
        told("bad", "firewall chains", "Cilium in iptables", &["CILIUM_FORWARD"]);
        told("bad", "firewall chains", "Cilium in iptables-legacy", &["CILIUM_OUTPUT_mangle", "CILIUM_OUTPUT_nat"]);
        told("bad", "firewall chains", "Cilium in ip6tables-legacy", &["CILIUM_OUTPUT_filter"]);
        let routing = ["ip rule 9 to table 2004", "ip -6 rule 10 to table 2005", "ip routes in table 2004"];
        told("bad", "rules and routes", "Cilium", &routing);
        told(
            "bad",
            "programs",
            "Cilium",
            &[
                "cil_to_netdev at eth0 egress (tcx)",
                "cil_from_netdev at eth0 ingress (tc)",
                "cil_sock_create at cgroup_inet_sock_create (root cgroup)",
            ],
        );
        let globals = ["cilium_calls", "cilium_ipcache_v2"].map(|name| format!("{PINS}/tc/globals/{name}"));
        told("bad", PINNED, "Cilium", &["/sys/fs/bpf/cilium", &globals[0], &globals[1]]);
        assert_eq!(found.len(), 13, "and of the rule for local addresses: {found:#?}");

        let (local, rest): (Vec<Value>, Vec<Value>) =
            found.into_iter().partition(|finding| finding["found"].as_str().unwrap().contains("table local"));
        sh(local[0]["advice"].as_str().unwrap().strip_prefix("in this order: ").unwrap());
        follow(&rest);
        let left = findings(bottle);
        assert!(left.iter().all(|finding| finding["check"] == "CNI configuration"), "{left:#?}");
        assert!(sh("ip rule").contains("0:\tfrom all lookup local"), "the host finds its own addresses");
        assert!(sh("iptables-legacy-save").contains("*nat"), "tables stay");
    });
}
