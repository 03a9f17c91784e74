//! What a network leaves on nodes and in the API: taken before and after, the difference is what stayed.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::api::Api;
use crate::cluster::Cluster;
use crate::kubectl::run;
use crate::node::CGROUP_ROOT;
use crate::sandbox::Namespaces;

/// What shows a node's devices, routes, rules and programs. What the kernel counts or lets expire is not asked for.
const COMMANDS: [&[&str]; 12] = [
    &["ip", "-br", "link"],
    &["ip", "route", "show", "table", "all"],
    &["ip", "-6", "route", "show", "table", "all"],
    &["ip", "rule"],
    &["ip", "-6", "rule"],
    &["ip", "neighbour", "show", "nud", "permanent"],
    &["ip", "neighbour", "show", "proto", "201"],
    &["tc", "qdisc", "show"],
    &["nft", "--stateless", "list", "ruleset"],
    &["bpftool", "net", "show"],
    &["bpftool", "cgroup", "show", CGROUP_ROOT],
    // Files, and objects that are pinned; configurations with what they hold.
    &["find", "/etc/cni/net.d", "/opt/cni/bin", "/var/lib/axoneme", "/run/axoneme", "/sys/fs/bpf", "-mindepth", "1"],
];

/// Folders whose files' content counts.
const CONFIGURATIONS: &str = "/etc/cni/net.d";

/// Folders of which nothing but the folder itself may stay: a container cannot remove what it has mounted.
const MOUNTED: [&str; 2] = ["/var/lib/axoneme", "/run/axoneme"];

/// Of nodes, set by this project's operator.
const CONDITION: &str = "NetworkUnavailable";

/// Where maps are pinned.
const MAPS: &str = "/sys/fs/bpf/axoneme/maps/";

/// Kinds of which this project has objects.
const KINDS: &str = "deployments,daemonsets,jobs,pods,configmaps,secrets,serviceaccounts,roles,rolebindings,clusterroles,\
    clusterrolebindings,poddisruptionbudgets,leases";

/// An object of the kernel: "prog" or "map", and its id, which is never given twice.
pub type Id = (String, u64);

/// What was seen at one time.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    lines: BTreeSet<String>,
    /// What is pinned by this project on the cluster's nodes.
    pub pinned: BTreeSet<Id>,
}

impl Traces {
    /// Looks at all nodes and at the API.
    pub fn take(cluster: &Cluster, api: &Api) -> Result<Self> {
        let mut traces = Self::default();
        for (index, node) in cluster.folder.expect()?.nodes {
            let name = cluster.folder.node_name(index);
            let namespaces = Namespaces::of(node.init)?;
            for command in COMMANDS {
                let text = inside(&namespaces, command).with_context(|| format!("on {name}"))?;
                let lines = text.lines().map(steady).filter(|line| !line.is_empty());
                traces.lines.extend(lines.map(|line| format!("{name}: {}: {line}", command[..2].join(" "))));
            }
            let content = inside(&namespaces, &["grep", "-rs", "", CONFIGURATIONS]);
            traces.lines.extend(content.unwrap_or_default().lines().map(|line| format!("{name}: {line}")));
            traces.pinned.extend(pinned(&namespaces)?);
        }
        traces.lines.extend(marks(api)?);
        let mut kubectl = cluster.kubectl()?;
        kubectl.args(["get", KINDS, "--all-namespaces", "--output=name"]);
        let ours = |line: &&str| line.contains("axoneme");
        traces.lines.extend(run(&mut kubectl)?.lines().filter(ours).map(|line| format!("API: {}", lasting(line))));
        Ok(traces)
    }

    /// These, with what of `other` a version that does not know it cannot take away: nodes' conditions, rules of nftables, and maps (the
    /// version before leaves those that it does not know), which stay until this project is uninstalled.
    pub fn and_lasting(&self, other: &Self) -> Self {
        let lasts = |line: &&String| line.contains(CONDITION) || line.contains(": nft ") || line.contains(MAPS);
        let lasting = other.lines.iter().filter(lasts).cloned();
        Self { lines: self.lines.iter().cloned().chain(lasting).collect(), pinned: self.pinned.clone() }
    }

    /// What is here and was not `before`.
    pub fn since(&self, before: &Self) -> Vec<String> {
        self.lines.difference(&before.lines).cloned().collect()
    }
}

/// An object's name without what another revision has instead.
fn lasting(object: &str) -> &str {
    const PODS: [&str; 3] = ["pod/axoneme-operator", "pod/axoneme-uninstall", "pod/axoneme"];
    let release = object.rsplit_once(".v").filter(|_| object.starts_with("secret/sh.helm.release"));
    let pod = PODS.into_iter().find(|pod| object.starts_with(pod));
    pod.or(release.map(|(release, _)| release)).unwrap_or(object)
}

/// Without what changes by itself.
fn steady(line: &str) -> String {
    let mut words = Vec::new();
    let mut all = line.split_whitespace().peekable();
    // A program's number.
    all.next_if(|word| word.bytes().all(|byte| byte.is_ascii_digit()));
    while let Some(word) = all.next() {
        match word {
            // How long a route or an address lives on; which number a program got; where a neighbour is found.
            "expires" | "id" | "prog_id" | "link_id" | "lladdr" => drop(all.next()),
            "offload" | "linkdown" => {}
            // How a neighbour is just now.
            "INCOMPLETE" | "REACHABLE" | "STALE" | "DELAY" | "PROBE" | "FAILED" | "router" => {}
            _ => words.push(word),
        }
    }
    let line = words.join(" ");
    // A device's number, and how it is just now.
    let line = line.split_once(" UP ").map_or(line.clone(), |(name, _)| name.to_owned());
    // A device's link-local address counts once nobody else was found to have it.
    if line.starts_with("local fe80::") || line.starts_with("anycast fe80::") {
        return String::new();
    }
    if MOUNTED.contains(&line.as_str()) { String::new() } else { line }
}

/// Taints and conditions of nodes that this project sets.
fn marks(api: &Api) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for node in api.list("/api/v1/nodes")? {
        let name = node["metadata"]["name"].as_str().unwrap_or_default();
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let taints = list(&node["spec"]["taints"]).into_iter().filter_map(|t| Some(t["key"].as_str()?.to_owned()));
        // Those of Kubernetes say how the node is.
        found.extend(taints.filter(|key| !key.contains("kubernetes.io")).map(|key| format!("{name}: taint {key}")));
        let unavailable = |c: &Value| c["type"] == CONDITION;
        found.extend(
            list(&node["status"]["conditions"])
                .into_iter()
                .filter(unavailable)
                .map(|c| format!("{name}: {CONDITION}={} ({})", c["status"], c["reason"])),
        );
    }
    Ok(found)
}

/// The objects that are pinned below this project's folder.
fn pinned(namespaces: &Namespaces) -> Result<BTreeSet<Id>> {
    let mut found = BTreeSet::new();
    for kind in ["prog", "map"] {
        let text = inside(namespaces, &["bpftool", "--json", "--bpffs", kind, "show"])?;
        let all: Vec<Value> = serde_json::from_str(&text).with_context(|| format!("bpftool {kind} show: {text}"))?;
        let ours = |object: &&Value| {
            let pins = object["pinned"].as_array();
            pins.is_some_and(|pins| {
                pins.iter().any(|pin| pin.as_str().is_some_and(|pin| pin.starts_with("/sys/fs/bpf/axoneme/")))
            })
        };
        found.extend(all.iter().filter(ours).filter_map(|object| Some((kind.to_owned(), object["id"].as_u64()?))));
    }
    Ok(found)
}

/// Those of `objects` that the kernel still has.
pub fn alive(objects: &BTreeSet<Id>) -> Result<Vec<Id>> {
    let mut found = Vec::new();
    for kind in ["prog", "map"] {
        let text = run(Command::new("bpftool").args(["--json", kind, "show"]))?;
        let all: Vec<Value> = serde_json::from_str(&text).context("bpftool's JSON")?;
        let ids = all.iter().filter_map(|object| Some((kind.to_owned(), object["id"].as_u64()?)));
        found.extend(ids.filter(|id| objects.contains(id)));
    }
    Ok(found)
}

/// What a command says; folders that are not there are as good as empty.
fn inside(namespaces: &Namespaces, command: &[&str]) -> Result<String> {
    let output = namespaces.command(command[0])?.args(&command[1..]).output();
    let output = output.with_context(|| format!("cannot run {}", command[0]))?;
    anyhow::ensure!(
        output.status.success() || ["find", "grep", "bpftool"].contains(&command[0]),
        "{}: {}",
        command.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_by_itself_does_not_count() {
        for (line, expected) in [
            ("eth0@if7  UP  02:42:00:00:00:01 <BROADCAST,MULTICAST,UP>", "eth0@if7"),
            (
                "default via fe80::1 dev eth0 proto ra metric 1024 expires 1799sec",
                "default via fe80::1 dev eth0 proto ra metric 1024",
            ),
            (
                "fd30::66 dev eth0 lladdr 02:42:00:00:00:02 router managed extern_learn DELAY proto 201",
                "fd30::66 dev eth0 managed extern_learn proto 201",
            ),
            ("eth0(2) tcx/ingress from_uplink prog_id 771 link_id 40", "eth0(2) tcx/ingress from_uplink"),
            ("771 cgroup_inet4_connect multi sock_connect4", "cgroup_inet4_connect multi sock_connect4"),
            ("local fe80::1 dev axo694dc839abc table local proto kernel metric 0 pref medium", ""),
            ("/run/axoneme", ""),
            ("/run/axoneme/cni.sock", "/run/axoneme/cni.sock"),
        ] {
            assert_eq!(steady(line), expected, "{line}");
        }
    }

    #[test]
    fn objects_are_the_same_in_each_revision() {
        for (object, expected) in [
            ("pod/axoneme-operator-7bfbf5447f-4pl2c", "pod/axoneme-operator"),
            ("pod/axoneme-x4x5c", "pod/axoneme"),
            ("secret/sh.helm.release.v1.axoneme.v12", "secret/sh.helm.release.v1.axoneme"),
            ("secret/axoneme-ca", "secret/axoneme-ca"),
        ] {
            assert_eq!(lasting(object), expected);
        }
    }

    #[test]
    fn only_what_is_new_is_told() {
        let traces =
            |lines: &[&str]| Traces { lines: lines.iter().map(|l| (*l).to_owned()).collect(), ..Traces::default() };
        assert_eq!(traces(&["a", "c"]).since(&traces(&["a", "b"])), ["c"]);
    }
}
