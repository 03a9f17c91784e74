//! Hosts as folders.

use std::collections::BTreeMap;

use super::*;
use crate::programs::kernel::Unsupported;

#[derive(Default)]
struct Fake {
    filesystems: BTreeMap<&'static str, Filesystem>,
    chains: Vec<Chain>,
    legacy: Vec<&'static str>,
    rules: BTreeSet<Rule>,
    routes: BTreeSet<Route>,
    attached: Vec<Attached>,
    old_kernel: bool,
    root: PathBuf,
}

impl Probe for Fake {
    fn filesystem(&self, path: &Path) -> Option<Filesystem> {
        let path = path.strip_prefix(&self.root).unwrap();
        Some(self.filesystems.get(path.to_str().unwrap()).copied().unwrap_or(Filesystem::Other))
    }

    fn chains(&self) -> io::Result<Vec<Chain>> {
        Ok(self.chains.clone())
    }

    fn legacy_chains(&self, family: Family, table: &str) -> io::Result<Vec<String>> {
        assert_eq!(table, "nat", "only tables that exist are asked for");
        match family {
            Family::V4 => Ok(self.legacy.iter().map(|name| (*name).to_owned()).collect()),
            Family::V6 => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    fn rules(&self) -> io::Result<BTreeSet<Rule>> {
        Ok(self.rules.clone())
    }

    fn routes(&self) -> io::Result<BTreeSet<Route>> {
        Ok(self.routes.clone())
    }

    fn attached(&self, _: &Path) -> io::Result<Vec<Attached>> {
        Ok(self.attached.clone())
    }

    fn kernel(&self) -> Result<(), KernelError> {
        let missing = crate::programs::kernel::REQUIREMENTS[..1].to_vec();
        if self.old_kernel { Err(Unsupported { kernel: "4.4".into(), missing }.into()) } else { Ok(()) }
    }
}

/// A host with these files, a modern one otherwise.
fn host(files: &[(&str, &str)], change: impl FnOnce(&mut Host<Fake>)) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let usual = [
        ("proc/sys/kernel/osrelease", "6.18.0\n"),
        ("proc/sys/kernel/hostname", "n1\n"),
        ("sys/kernel/btf/vmlinux", ""),
        ("sys/class/net/eth0/type", "1"),
    ];
    for (path, text) in usual.iter().chain(files) {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    let filesystems = [("sys/fs/cgroup", Filesystem::Cgroup2), ("sys/fs/bpf", Filesystem::Bpf)].into();
    let probe = Fake { filesystems, root: folder.path().to_owned(), ..Fake::default() };
    let mut host = Host { root: folder.path().to_owned(), config: Config::default(), installed: false, probe };
    change(&mut host);
    host.look()
}

/// What somebody has to look at.
fn wrong(report: &Report) -> Vec<(Level, String)> {
    let wrong = report.findings.iter().filter(|finding| finding.level > Level::Good);
    wrong
        .map(|finding| (finding.level, format!("{}: {} -> {}", finding.check, finding.found, finding.advice)))
        .collect()
}

#[track_caller]
fn only(report: &Report, level: Level, texts: &[&str]) {
    let wrong = wrong(report);
    let [(found, text)] = &wrong[..] else { panic!("{wrong:#?}") };
    assert_eq!(*found, level, "{text}");
    texts.iter().for_each(|part| assert!(text.contains(part), "{part} is not in {text}"));
}

#[test]
fn a_host_that_is_fit() {
    let report = host(&[], |_| {});
    assert_eq!((report.host.as_str(), report.level()), ("n1", Level::Good), "{report:#?}");
    let checks: Vec<&str> = report.findings.iter().map(|finding| &*finding.check).collect();
    assert_eq!(checks, ["kernel", "BTF", "cgroup", "bpffs", "ports", "CNI configuration", "other networks"]);
}

#[test]
fn kernels_and_mounts() {
    let report = host(&[], |host| host.probe.old_kernel = true);
    only(&report, Level::Bad, &["kernel: this node's kernel (4.4) lacks LPM trie maps", "run Linux 5.18 or later"]);
    let report = host(&[], |host| _ = host.probe.filesystems.remove("sys/fs/bpf"));
    only(&report, Level::Bad, &["no BPF file system at /sys/fs/bpf", "mount -t bpf bpf /sys/fs/bpf"]);
    let report = host(&[], |host| _ = host.probe.filesystems.remove("sys/fs/cgroup"));
    only(&report, Level::Bad, &["cgroup: version 2 is mounted nowhere"]);
    let report = host(&[], |host| {
        host.probe.filesystems.remove("sys/fs/cgroup");
        host.probe.filesystems.insert("sys/fs/cgroup/unified", Filesystem::Cgroup2);
    });
    assert_eq!(report.level(), Level::Good, "the loader finds it there");
    let report = host(&[], |host| {
        host.probe.filesystems.remove("sys/fs/cgroup");
        host.probe.filesystems.insert("run/cgroupv2", Filesystem::Cgroup2);
    });
    only(&report, Level::Warning, &["version 2 is at /run/cgroupv2", "--set cgroup.hostRoot=/run/cgroupv2"]);
    let report = host(&[], |host| host.config.cgroup_root = "/elsewhere".into());
    only(&report, Level::Bad, &["/elsewhere is not of version 2", "as it is by default"]);
}

#[test]
fn ports_in_use() {
    let header = "  sl  local_address rem_address   st\n";
    // 9879 listens, 9962 is only spoken with.
    let tcp = format!("{header}   0: 00000000:2697 00000000:0000 0A\n   1: 0100007F:26EA 0100007F:C000 01\n");
    let udp = format!("{header}   0: 00000000:2118 00000000:0000 07\n");
    only(&host(&[("proc/net/tcp", &tcp)], |_| {}), Level::Bad, &["9879/tcp, for the daemon's health", "ss -lntup"]);
    assert_eq!(
        host(&[("proc/net/tcp", &tcp)], |host| {
            host.installed = true;
            conflist(host)
        })
        .level(),
        Level::Good
    );
    let free = &[("proc/net/udp6", &*udp), ("sys/class/net/axoneme_vxlan/type", "1")];
    assert_eq!(host(free, |_| {}).level(), Level::Good);
    only(&host(&[("proc/net/udp6", &udp)], |_| {}), Level::Bad, &["8472/udp, for the tunnel, is in use", "tunnelPort"]);
}

fn conflist(host: &Host<Fake>) {
    let folder = host.root.join("etc/cni/net.d");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(crate::endpoint::conflist::FILE_NAME), "{}").unwrap();
}

#[test]
fn a_bridge_network_was_here() {
    let files = [
        ("etc/cni/net.d/10-bridge.conflist", r#"{"plugins": [{"type": "bridge"}, {"type": "portmap"}]}"#),
        ("sys/class/net/cni0/type", "1"),
    ];
    let report = host(&files, |host| {
        host.probe.chains = vec![Chain { tool: Tool::Iptables, table: "nat".into(), name: "CNI-HOSTPORT-DNAT".into() }];
    });
    let wrong = wrong(&report);
    assert!(wrong.iter().all(|(level, _)| *level == Level::Warning), "{wrong:#?}");
    let text = wrong.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n");
    for part in [
        "/etc/cni/net.d/10-bridge.conflist is of a bridge network -> nothing: it is put aside as 10-bridge.conflist.axoneme_bak",
        "devices: left by a bridge network: cni0",
        "ip link delete cni0",
        "firewall chains: left by a bridge network in iptables: CNI-HOSTPORT-DNAT",
        "iptables-nft-save | grep -vE '[: ](CNI-|KUBE-ROUTER-)' | iptables-nft-restore",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn cilium_was_here() {
    let files = [
        ("etc/cni/net.d/05-cilium.conflist", r#"{"plugins": [{"type": "cilium-cni"}]}"#),
        ("sys/class/net/cilium_host/type", "1"),
        ("sys/class/net/cilium_net/type", "1"),
        ("sys/class/net/cilium_vxlan/type", "1"),
        ("sys/class/net/lxc12ab34cd56ef/type", "1"),
        ("sys/class/net/lxc_health/type", "1"),
        ("sys/fs/bpf/tc/globals/cilium_ipcache_v2", ""),
        ("sys/fs/bpf/cilium/socketlb/links", ""),
    ];
    let report = host(&files, |host| {
        let chain = |name: &str| Chain { tool: Tool::Iptables, table: "filter".into(), name: name.into() };
        host.probe.chains = vec![chain("CILIUM_INPUT"), chain("KUBE-SERVICES")];
    });
    assert_eq!(report.level(), Level::Bad);
    let text = wrong(&report).into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n");
    for part in [
        "05-cilium.conflist is of Cilium",
        "left by Cilium: cilium_host, cilium_net, cilium_vxlan, lxc12ab34cd56ef and 1 more",
        "helm uninstall cilium",
        "/sys/fs/bpf/cilium, /sys/fs/bpf/tc/globals/cilium_ipcache_v2",
        "firewall chains: left by Cilium in iptables: CILIUM_INPUT ->",
    ] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
}

#[test]
fn a_bridge_of_any_name_is_known_by_its_configuration_with_what_hangs_on_it() {
    let files = [
        ("etc/cni/net.d/10-mine.conf.axoneme_bak", r#"{"type": "bridge", "bridge": "mynet0"}"#),
        ("sys/class/net/mynet0/brif/veth1/path_cost", "2"),
        ("sys/class/net/veth1/type", "1"),
        ("sys/class/net/lxcbr0/type", "1"),
        ("sys/class/net/calico-is-not-here/type", "1"),
    ];
    only(&host(&files, |_| {}), Level::Warning, &["devices: left by a bridge network: mynet0, veth1 ->"]);
}

#[test]
fn chains_of_the_older_iptables_are_told_by_name() {
    let tables = [("proc/net/ip_tables_names", "nat\n")];
    let report =
        host(&tables, |host| host.probe.legacy = vec!["PREROUTING-OF-MINE", "CILIUM_PRE_nat", "KUBE-MARK-MASQ"]);
    only(
        &report,
        Level::Bad,
        &[
            "left by Cilium in iptables-legacy: CILIUM_PRE_nat ->",
            "iptables-legacy-save | grep -vE '[: ](CILIUM_|OLD_CILIUM_)' | iptables-legacy-restore",
        ],
    );
    assert_eq!(host(&tables, |host| host.probe.legacy = vec!["KUBE-KUBELET-CANARY"]).level(), Level::Good);
    let report = host(&[("proc/net/ip6_tables_names", "nat")], |_| {});
    only(&report, Level::Warning, &["table nat of ip6tables-legacy cannot be listed", "privileged"]);
}

#[test]
fn kube_proxy_has_left_nothing_while_it_runs() {
    let legacy = |host: &mut Host<Fake>| {
        host.probe.legacy =
            vec!["KUBE-SERVICES", "KUBE-SVC-A", "KUBE-SVC-B", "KUBE-SEP-C", "KUBE-SEP-D", "KUBE-MARK-MASQ"];
    };
    let tables = ("proc/net/ip_tables_names", "nat\n");
    let report = host(&[tables], legacy);
    only(
        &report,
        Level::Warning,
        &["left by kube-proxy in iptables-legacy: KUBE-SEP-C, KUBE-SEP-D, KUBE-SERVICES, KUBE-SVC-A and 1 more"],
    );
    assert_eq!(report.findings.iter().find(|finding| finding.level > Level::Good).unwrap().names.len(), 5);
    let listens = ("proc/net/tcp6", "header\n 0: 00000000000000000000000000000000:2810 0:0 0A\n");
    assert_eq!(host(&[tables, listens], legacy).level(), Level::Good);

    let report = host(&[], |host| {
        let chain = |name: &str| Chain { tool: Tool::Nft("ip"), table: "kube-proxy".into(), name: name.into() };
        host.probe.chains = vec![chain("services"), chain("nat-prerouting")];
    });
    only(&report, Level::Warning, &["in nftables: table ip kube-proxy ->", "nft delete table ip kube-proxy"]);
}

#[test]
fn rules_routes_and_programs_that_outlive_their_network() {
    let usual = |family, priority, table| Rule { family, priority, table };
    let report = host(&[], |host| {
        host.probe.rules =
            [usual(Family::V4, 0, 255), usual(Family::V4, 9, 2004), usual(Family::V4, 32766, 254)].into();
        host.probe.routes = [Route { family: Family::V4, table: 2004, protocol: 2 }].into();
    });
    only(
        &report,
        Level::Bad,
        &[
            "left by Cilium: ip rule 9 to table 2004, ip routes in table 2004 ->",
            "ip rule delete pref 9 table 2004; ip route flush table 2004",
        ],
    );
    let report = host(&[], |host| {
        host.probe.routes = [Route { family: Family::V6, table: 254, protocol: 80 }].into();
    });
    only(&report, Level::Bad, &["left by Calico: ip -6 routes of protocol 80", "ip -6 route flush table all proto 80"]);
    let report = host(&[], |host| host.probe.rules = [usual(Family::V4, 100, 255)].into());
    only(
        &report,
        Level::Warning,
        &["in this order: ip rule add pref 0 table local && ip rule delete pref 100 table local"],
    );
    let report = host(&[], |host| {
        let attached = |program: &str| Attached {
            program: program.into(),
            place: "eth0 ingress (tc)".into(),
            removal: "tc filter delete dev eth0 ingress".into(),
        };
        host.probe.attached = vec![attached("cil_from_netdev"), attached("from_uplink")];
    });
    only(
        &report,
        Level::Bad,
        &["programs: left by Cilium: cil_from_netdev at eth0 ingress (tc) ->", "tc filter delete dev eth0 ingress"],
    );
}

#[test]
fn after_an_install_the_runtime_must_read_ours() {
    let other = ("etc/cni/net.d/00-other.conf", r#"{"type": "flannel"}"#);
    let report = host(&[other], |host| {
        host.installed = true;
        conflist(host)
    });
    only(&report, Level::Bad, &["00-other.conf is of flannel", "pods are still attached by it"]);
    let report = host(&[], |host| host.installed = true);
    only(&report, Level::Bad, &["05-axoneme.conflist is missing", "axoneme status"]);
}

#[test]
fn chains_of_this_machine_can_be_listed() {
    // Also where there are none; who may not list them is told so.
    match Kernel.chains() {
        Ok(chains) => assert!(chains.iter().all(|chain| !chain.table.is_empty() && !chain.name.is_empty())),
        Err(error) => {
            assert!(matches!(error.raw_os_error(), Some(libc::EPERM | libc::EPROTONOSUPPORT | libc::EINVAL)), "{error}")
        }
    }
}
