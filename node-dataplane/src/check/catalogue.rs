//! By what other networks are known, and how they are taken away.

/// Another network's traces.
#[derive(Debug)]
pub(super) struct Network {
    /// What it is called.
    pub(super) name: &'static str,
    /// Beginnings of its devices' names; a `#` at the end stands for hexadecimal digits only.
    pub(super) links: &'static [&'static str],
    /// Beginnings of its chains' names, in tables of iptables.
    pub(super) chains: &'static [&'static str],
    /// Beginnings of its own tables' names in nftables.
    pub(super) nft_tables: &'static [&'static str],
    /// Routing tables that are its own, with the rules that lead there.
    pub(super) tables: &'static [u32],
    /// Who made its routes in other tables, if that is a number of its own.
    pub(super) route_protocol: Option<u8>,
    /// Beginnings of the names of its programs.
    pub(super) programs: &'static [&'static str],
    /// Its folders or files below `/sys/fs/bpf`, a star at the end for any that begins so.
    pub(super) pins: &'static [&'static str],
    /// Types of its CNI plugins.
    pub(super) plugins: &'static [&'static str],
    /// Where it listens as long as it runs, if it may run beside us: then it left nothing.
    pub(super) beside: Option<u16>,
    /// It still judges or sends packets its way when it is gone.
    pub(super) acts: bool,
    /// What takes it away.
    pub(super) removal: &'static str,
}

const NONE: Network = Network {
    name: "",
    links: &[],
    chains: &[],
    nft_tables: &[],
    tables: &[],
    route_protocol: None,
    programs: &[],
    pins: &[],
    plugins: &[],
    beside: None,
    acts: false,
    removal: "",
};

pub(super) const NETWORKS: &[Network] = &[
    Network {
        name: "Cilium",
        links: &["cilium_", "lxc#", "lxc_health"],
        chains: &["CILIUM_", "OLD_CILIUM_"],
        // To and from its proxy.
        tables: &[2004, 2005],
        programs: &["cil_"],
        pins: &["cilium", "tc/globals/cilium_*"],
        plugins: &["cilium-cni"],
        acts: true,
        removal: "uninstall Cilium (helm uninstall cilium -n kube-system), then clean the node with \
                  \"cilium-dbg post-uninstall-cleanup -f\" or restart it",
        ..NONE
    },
    Network {
        name: "flannel",
        links: &["flannel.", "flannel-v6."],
        chains: &["FLANNEL-"],
        nft_tables: &["flannel-"],
        plugins: &["flannel"],
        removal: "delete flannel's DaemonSet, then its devices and chains",
        ..NONE
    },
    Network {
        name: "Calico",
        links: &[
            "cali#",
            "vxlan.calico",
            "vxlan-v6.calico",
            "wireguard.cali",
            "wg-v6.cali",
            "bpfin.cali",
            "bpfout.cali",
        ],
        chains: &["cali-"],
        nft_tables: &["calico"],
        route_protocol: Some(80),
        programs: &["cali_", "calico_"],
        pins: &["calico", "tc/globals/cali_*"],
        plugins: &["calico", "calico-ipam"],
        acts: true,
        removal: "delete Calico's DaemonSet, then its devices and chains, or restart the node",
        ..NONE
    },
    Network {
        name: "a bridge network",
        links: &["cni0", "cbr0", "kube-bridge"],
        chains: &["CNI-", "KUBE-ROUTER-"],
        nft_tables: &["cni_"],
        plugins: &["bridge", "ptp"],
        removal: "pods behind it keep their addresses until they are made anew: drain the node, then delete what is left",
        ..NONE
    },
    Network {
        name: "kube-proxy",
        links: &["kube-ipvs0"],
        // Not those that kubelets make, too.
        chains: &[
            "KUBE-SERVICES",
            "KUBE-EXTERNAL-SERVICES",
            "KUBE-NODEPORTS",
            "KUBE-NODE-PORT",
            "KUBE-PROXY-",
            "KUBE-FORWARD",
            "KUBE-SVC-",
            "KUBE-SVL-",
            "KUBE-SEP-",
            "KUBE-EXT-",
            "KUBE-FW-",
            "KUBE-XLB-",
            "KUBE-LOAD-BALANCER",
            "KUBE-IPVS-",
        ],
        nft_tables: &["kube-proxy"],
        beside: Some(10_256),
        removal: "it does not run here (nobody listens on 10256/tcp) and its rules still send to the endpoints of then: start it \
                  again, or delete its DaemonSet and run \"kube-proxy --cleanup\" on the node",
        ..NONE
    },
];

impl Network {
    /// Whether a device is one of its, by its name.
    pub(super) fn has_link(&self, name: &str) -> bool {
        self.links.iter().any(|link| match link.strip_suffix('#') {
            Some(beginning) => name
                .strip_prefix(beginning)
                .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit())),
            None => name.starts_with(link),
        })
    }
}
