//! By what other networks are known, and how they are taken away.

/// Another network's traces.
#[derive(Debug)]
pub(super) struct Network {
    /// What it is called.
    pub(super) name: &'static str,
    /// Beginnings of its devices' names; those that end in a dot or digit are whole.
    pub(super) links: &'static [&'static str],
    /// Beginnings of its chains' names.
    pub(super) chains: &'static [&'static str],
    /// Its folders or files below `/sys/fs/bpf`, a star at the end for any that begins so.
    pub(super) pins: &'static [&'static str],
    /// Types of its CNI plugins.
    pub(super) plugins: &'static [&'static str],
    /// Its programs still judge packets when it is gone.
    pub(super) acts: bool,
    /// What takes it away.
    pub(super) removal: &'static str,
}

pub(super) const NETWORKS: &[Network] = &[
    Network {
        name: "Cilium",
        links: &["cilium_", "lxc"],
        chains: &["CILIUM_", "OLD_CILIUM_"],
        pins: &["cilium", "tc/globals/cilium_*"],
        plugins: &["cilium-cni"],
        acts: true,
        removal: "uninstall Cilium (helm uninstall cilium -n kube-system), then clean the node with \
                  \"cilium-dbg post-uninstall-cleanup -f\" or restart it",
    },
    Network {
        name: "flannel",
        links: &["flannel.", "flannel-v6."],
        chains: &["FLANNEL-"],
        pins: &[],
        plugins: &["flannel"],
        acts: false,
        removal: "delete flannel's DaemonSet, then its devices and chains",
    },
    Network {
        name: "Calico",
        links: &["cali", "vxlan.calico", "vxlan-v6.calico", "wireguard.cali"],
        chains: &["cali-"],
        pins: &["calico", "tc/globals/cali_*"],
        plugins: &["calico", "calico-ipam"],
        acts: true,
        removal: "delete Calico's DaemonSet, then its devices and chains, or restart the node",
    },
    Network {
        name: "a bridge network",
        links: &["cni0", "cbr0", "kube-bridge"],
        chains: &["CNI-", "KUBE-ROUTER-"],
        pins: &[],
        plugins: &["bridge", "ptp"],
        acts: false,
        removal: "pods behind it keep their addresses until they are made anew: drain the node, then delete what is left",
    },
];
