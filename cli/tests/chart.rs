//! The chart in `charts/axoneme`: what it renders, what it refuses, and that both programs understand their settings.
//!
//! `charts/tests/` holds what is rendered from the defaults and from `everything.values.yaml`; read the difference as a
//! user's cluster would. Written anew by `UPDATE_GOLDEN=1 cargo test -p axoneme-cli --test chart`.

#![allow(clippy::unwrap_used)] // helpers of tests

mod helm;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use serde_yaml::Value;

use helm::{Helm, chart};

/// The oldest and the newest Kubernetes that the chart is rendered for.
const KUBERNETES: [&str; 2] = ["1.30.0", "1.36.3"];

/// Kinds that the operator writes.
const DECIDED: [&str; 3] = ["ciliumendpoints", "ciliumidentities", "ciliumnodes"];

/// Kinds that users write and the operator reads. With the rest it does nothing but say so.
const READ: [&str; 5] = [
    "ciliumcidrgroups",
    "ciliumclusterwidenetworkpolicies",
    "ciliumnetworkpolicies",
    "ciliumnodeconfigs",
    "ciliumpodippools",
];

/// Of those, kinds with a condition that the operator writes.
const ANSWERED: [&str; 2] = ["ciliumclusterwidenetworkpolicies", "ciliumnetworkpolicies"];

/// Cases with a golden file, and the arguments that make them.
const CASES: &[(&str, &[&str])] = &[
    ("default", &[]),
    ("everything", &["--values", concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/tests/everything.values.yaml")]),
];

#[test]
fn it_renders_what_was_agreed() {
    let Some(helm) = Helm::find() else { return };
    for (name, arguments) in CASES {
        let rendered = helm.render(KUBERNETES[1], arguments).unwrap();
        let file = tests().join(format!("{name}.golden.yaml"));
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&file, &rendered).unwrap();
        }
        let golden = fs::read_to_string(&file).unwrap_or_default();
        let first = rendered.lines().zip(golden.lines()).position(|(new, old)| new != old);
        assert!(
            rendered == golden,
            "{} differs from what the chart renders, first in line {}; if that is right: UPDATE_GOLDEN=1",
            file.display(),
            first.unwrap_or_else(|| rendered.lines().count().min(golden.lines().count())) + 1
        );
        assert_eq!(helm.render(KUBERNETES[0], arguments).unwrap(), rendered, "depends on the version of Kubernetes");
    }
}

#[test]
fn it_is_clean() {
    let Some(helm) = Helm::find() else { return };
    let output = helm.run(&["lint", "--strict", "--quiet", "--kube-version", KUBERNETES[1]], &[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_case_of_everything_has_every_value_and_leaves_no_default() {
    let read = |file: &Path| -> Value { serde_yaml::from_str(&fs::read_to_string(file).unwrap()).unwrap() };
    let mut wrong = Vec::new();
    compare(&read(&chart().join("values.yaml")), &read(&tests().join("everything.values.yaml")), "", &mut wrong);
    // These have one value so far, must not be off with the rest, or do not go with it.
    let only = ["tunnelProtocol", "ipv4.enabled", "enableIPv4Masquerade", "cni.chainingMode", "cni.chainingTarget"];
    wrong.retain(|path| !only.contains(&path.as_str()));
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn values_that_make_no_sense_are_refused() {
    let Some(helm) = Helm::find() else { return };
    for (set, expected) in [
        ("routingmode=native", "additional properties 'routingmode' not allowed"),
        ("operator.replica=1", "additional properties 'replica' not allowed"),
        ("routingMode=geneve", "value must be one of 'tunnel', 'native'"),
        ("ipam.mode=eni", "/ipam/mode"),
        ("cluster.id=256", "/cluster/id"),
        ("cluster.name=Not_A_Label", "/cluster/name"),
        ("MTU=100", "/MTU"),
        ("ipam.operator.clusterPoolIPv4MaskSize=30", "/ipam/operator/clusterPoolIPv4MaskSize"),
        ("ipam.operator.clusterPoolIPv4PodCIDRList={10.0.0.0}", "/ipam/operator/clusterPoolIPv4PodCIDRList/0"),
        ("ipam.operator.clusterPoolIPv4PodCIDRList=null", "clusterPoolIPv4PodCIDRList is empty although"),
        ("ipv4.enabled=false", "ipv4.enabled and ipv6.enabled are both false"),
        ("ipv4.enabled=false,ipv6.enabled=true", "underlayProtocol is ipv4 although ipv4.enabled is false"),
        ("underlayProtocol=ipv6", "underlayProtocol is ipv6 although ipv6.enabled is false"),
        ("underlayProtocol=auto", "/underlayProtocol"),
        ("autoDirectNodeRoutes=true", "autoDirectNodeRoutes is true, which needs routingMode native"),
        ("routingMode=native,directRoutingSkipUnreachable=true", "directRoutingSkipUnreachable is true, which has no"),
        ("hostFirewall.emergencyPorts={0}", "/hostFirewall/emergencyPorts/0"),
        ("ipv4NativeRoutingCIDR=10.0.0.0", "/ipv4NativeRoutingCIDR"),
        ("ipv6NativeRoutingCIDR=fd00::/64", "ipv6NativeRoutingCIDR is set although ipv6.enabled is false"),
        ("ipMasqAgent.enabled=true,enableIPv4Masquerade=false", "ipMasqAgent.enabled is true although nothing is"),
        ("ipMasqAgent.config.masqLinkLocal=true", "ipMasqAgent.config is set although ipMasqAgent.enabled is false"),
        ("ipMasqAgent.config.nonMasqueradeCIDRs={a}", "/ipMasqAgent/config/nonMasqueradeCIDRs/0"),
        ("k8s.requireIPv4PodCIDR=true", "need ipam.mode kubernetes"),
        ("ipam.mode=kubernetes,k8s.requireIPv6PodCIDR=true", "need their family"),
        ("devices={eth+0}", "/devices/0"),
        ("cni.chainingMode=portmap", "/cni/chainingMode"),
        (
            "cni.chainingMode=generic-veth",
            "cni.chainingMode generic-veth and ipam.mode delegated-plugin need each other",
        ),
        ("ipam.mode=delegated-plugin", "cni.chainingMode generic-veth and ipam.mode delegated-plugin need each other"),
        ("ipam.mode=delegated-plugin,cni.chainingMode=generic-veth", "generic-veth needs routingMode native"),
        ("cni.chainingTarget=bridge", "cni.chainingTarget needs cni.chainingMode generic-veth"),
        ("k8sServiceHost=10.0.0.1", "k8sServiceHost is set without k8sServicePort"),
        ("operator.port=9879", "must differ"),
        ("ipam.multiPoolPreAllocation=8", "/ipam/multiPoolPreAllocation"),
        (
            "ipam.operator.autoCreateCiliumPodIPPools.default.ipv4.maskSize=33",
            "/autoCreateCiliumPodIPPools/default/ipv4",
        ),
        ("operator.identityGCInterval=15", "/operator/identityGCInterval"),
        ("fixedIdentityMapping.127=a", "/fixedIdentityMapping"),
        ("operator.nodeCertificateSeconds=60", "/operator/nodeCertificateSeconds"),
        ("image.digest=sha256:12", "/image/digest"),
        ("cgroup.hostRoot=cgroup", "/cgroup/hostRoot"),
    ] {
        let error = helm.render(KUBERNETES[1], &["--set", set]).expect_err(set);
        assert!(error.contains(expected), "{set}: {error}");
    }
}

#[test]
fn one_ready_replica_is_enough_for_an_installation() {
    let Some(helm) = Helm::find() else { return };
    for (replicas, unavailable) in [(1, 1), (2, 1), (3, 2)] {
        let deployment = helm.object("Deployment", &["--set", &format!("operator.replicas={replicas}")]);
        assert_eq!(deployment["spec"]["replicas"], replicas);
        assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"], unavailable);
    }
}

#[test]
fn nodes_have_no_access_to_the_api_server() {
    let Some(helm) = Helm::find() else { return };
    for object in helm.objects(&[]) {
        for subject in object["subjects"].as_sequence().into_iter().flatten() {
            assert_eq!(subject["name"], "axoneme-operator", "{object:?}");
        }
    }
    let pod = &helm.object("DaemonSet", &[])["spec"]["template"]["spec"];
    assert_eq!(pod["serviceAccountName"], "axoneme-node");
    assert_eq!(pod["automountServiceAccountToken"], false);
    let volumes = pod["volumes"].as_sequence().unwrap();
    let projected: Vec<&Value> = volumes.iter().filter(|volume| !volume["projected"].is_null()).collect();
    let [token] = projected.as_slice() else { panic!("one token expected: {projected:?}") };
    let sources = token["projected"]["sources"].as_sequence().unwrap();
    assert_eq!((sources.len(), &sources[0]["serviceAccountToken"]["audience"]), (1, &Value::from("axoneme-operator")));
}

#[test]
fn the_operator_can_decide_about_the_kinds_that_are_defined() {
    let Some(helm) = Helm::find() else { return };
    let role = helm.object("ClusterRole", &[]);
    let rules = role["rules"].as_sequence().unwrap();
    let lists = |rule: &Value, field: &str, name: &str| {
        rule[field].as_sequence().into_iter().flatten().any(|entry| entry == name)
    };
    let may = |verb: &str, field: &str, name: &str| {
        rules.iter().any(|rule| lists(rule, "verbs", verb) && lists(rule, field, name))
    };
    let unimplemented = axoneme_operator::status::unimplemented::unimplemented();
    for crd in axoneme_crds::all() {
        let plural = &crd.spec.names.plural;
        let decided = DECIDED.contains(&plural.as_str());
        let read = decided || READ.contains(&plural.as_str());
        let told = unimplemented.iter().find(|kind| kind.resource.plural == *plural);
        for (verb, expected) in [
            ("get", read),
            ("list", read || told.is_some()),
            ("watch", read || told.is_some()),
            ("update", decided),
            ("delete", decided),
        ] {
            assert_eq!(may(verb, "resources", plural), expected, "{verb} {plural}");
        }
        let conditions = told.is_some_and(|kind| kind.conditions);
        let name = crd.metadata.name.unwrap();
        assert!(may("update", "resourceNames", &name), "update the definition {name}");
        let answered = decided || ANSWERED.contains(&plural.as_str());
        let subresource = answered && crd.spec.versions[0].subresources.is_some();
        let status = format!("{plural}/status");
        assert_eq!(may("update", "resources", &status), subresource, "update {status}");
        assert_eq!(may("patch", "resources", &status), subresource || conditions, "patch {status}");
    }
}

#[test]
fn the_operator_understands_its_settings() {
    let Some(helm) = Helm::find() else { return };
    let read = |arguments| {
        helm.settings("operator.yaml", arguments, |file| axoneme_operator::config::ConfigFile::read(file).unwrap())
    };
    assert_eq!(read(CASES[0].1), Default::default(), "the chart's defaults are the program's");
    let everything = read(CASES[1].1);
    assert_eq!(everything.unknown, Vec::<String>::new());
    assert_eq!((everything.cluster.name.as_str(), everything.cluster.id), ("north", 7));
    assert_eq!(everything.ipam.operator.ipv4_cidrs.len(), 2);
    assert_eq!((everything.tunnel_port, everything.mtu, everything.operator.port), (4789, 1400, 14246));
    assert!(everything.ipv6.enabled && everything.masquerade_ipv4 && !everything.masquerade_ipv6);
    assert!(everything.auto_direct_node_routes && everything.direct_routing_skip_unreachable);
    assert_eq!(everything.ipv4_native_routing_cidr.map(|cidr| cidr.to_string()).as_deref(), Some("10.0.0.0/8"));
    assert_eq!(everything.ipv6_native_routing_cidr.map(|cidr| cidr.to_string()).as_deref(), Some("fd00::/8"));
    assert_eq!(everything.fixed_identity_mapping.get(&128).map(String::as_str), Some("kv-store"));
    assert_eq!(everything.operator.identity_heartbeat_timeout.as_secs(), 5_400);
    let pool = &everything.ipam.operator.auto_create["default"];
    assert_eq!((pool.allow_first_ip, pool.ipv4.as_ref().map(|ipv4| ipv4.mask_size)), (true, Some(27)));
    assert_eq!(everything.ipam.pre_allocation.get("blue"), Some(&2));
    assert!(everything.well_known_identities.enabled);
    assert!(everything.ip_masq_agent.enabled && everything.bandwidth_manager.enabled);
    assert!(everything.k8s.require_ipv4_pod_cidr && everything.k8s.require_ipv6_pod_cidr);
    let operator = &everything.operator;
    let marks = [operator.remove_node_taints, operator.set_node_taints, operator.set_node_network_status];
    assert_eq!(
        (everything.agent_not_ready_taint_key.as_str(), marks),
        ("example.org/no-network", [false, true, false])
    );
    assert_eq!(everything.underlay_protocol, axoneme_operator::config::UnderlayProtocol::Ipv6);
}

#[test]
fn a_chained_plugin_and_a_cluster_without_ipv4_can_be_asked_for() {
    let Some(helm) = Helm::find() else { return };
    let chained = ["--set", "routingMode=native,ipam.mode=delegated-plugin,cni.chainingMode=generic-veth"];
    let config =
        helm.settings("operator.yaml", &chained, |file| axoneme_operator::config::ConfigFile::read(file).unwrap());
    assert_eq!(config.ipam.mode, axoneme_operator::config::IpamMode::DelegatedPlugin);
    let node = helm.settings("node.yaml", &chained, |file| axoneme_node::config::Config::read(file).unwrap());
    assert_eq!((config.unknown.len(), node.unknown.len()), (0, 0));
    assert_eq!(node.cni.chaining_mode, axoneme_node::config::ChainingMode::GenericVeth);
    let ipv6 = ["--set", "ipv4.enabled=false,ipv6.enabled=true,underlayProtocol=ipv6"];
    helm.settings("operator.yaml", &ipv6, |file| axoneme_operator::config::ConfigFile::read(file).unwrap());
}

#[test]
fn the_node_understands_its_settings_and_finds_what_they_name() {
    let Some(helm) = Helm::find() else { return };
    let read =
        |arguments| helm.settings("node.yaml", arguments, |file| axoneme_node::config::Config::read(file).unwrap());
    let everything = read(CASES[1].1);
    assert_eq!(everything.unknown, Vec::<String>::new());
    assert_eq!((everything.health_port, everything.metrics_port), (19879, 19962));
    assert_eq!(everything.devices, ["eth0", "bond+"]);
    assert!(!everything.cni.exclusive && everything.cni.custom_conf);
    let sizes = everything.sizes;
    let sizes = [sizes.ct_tcp, sizes.ct_any, sizes.nat, sizes.sock_reverse];
    assert_eq!(sizes, [Some(524_288), Some(262_144), Some(131_072), Some(65_536)]);

    for (_, arguments) in CASES {
        let config = read(arguments);
        let mounts =
            helm.object("DaemonSet", arguments)["spec"]["template"]["spec"]["containers"][0]["volumeMounts"].clone();
        let mounts: Vec<&str> =
            mounts.as_sequence().unwrap().iter().map(|mount| mount["mountPath"].as_str().unwrap()).collect();
        for used in [
            &config.cgroup_root,
            &config.sysctl_root.join("net"),
            &config.bpf_root,
            &config.state_directory,
            &config.run_directory,
            &config.operators_directory,
            &config.token_file,
            &config.cni.bin_directory,
            &config.cni.conf_directory,
        ] {
            assert!(
                mounts.iter().any(|mount| used.starts_with(mount)),
                "{} is not mounted: {mounts:?}",
                used.display()
            );
        }
    }
}

#[test]
fn nothing_but_an_uninstallation_cleans_nodes() {
    let Some(helm) = Helm::find() else { return };
    let is_hook = |object: &Value| !object["metadata"]["annotations"]["helm.sh/hook"].is_null();
    for object in helm.everything(&[]) {
        let named = object["metadata"]["name"] == "axoneme-uninstall";
        assert_eq!(is_hook(&object), named, "{object:?}");
        if named {
            assert_eq!(object["metadata"]["annotations"]["helm.sh/hook"], "pre-delete");
        }
        let text = serde_yaml::to_string(&object).unwrap();
        assert_eq!(text.contains("- uninstall\n"), object["kind"] == "Job", "{text}");
        assert!(!text.contains("- cleanup\n"), "{text}");
    }
    let pod = &helm.object("DaemonSet", &[])["spec"]["template"]["spec"];
    assert!(pod["containers"][0]["lifecycle"].is_null() && pod["initContainers"].is_null());
}

#[test]
fn a_budget_keeps_replicas_when_nodes_are_drained() {
    let Some(helm) = Helm::find() else { return };
    let budget = |arguments: &[&str]| helm.object("PodDisruptionBudget", arguments)["spec"].clone();
    assert_eq!(budget(&[])["maxUnavailable"], 1);
    let minimum = budget(&["--set", "operator.podDisruptionBudget.minAvailable=1"]);
    assert_eq!((&minimum["minAvailable"], minimum["maxUnavailable"].is_null()), (&Value::from(1), true));
    let labels = &helm.object("Deployment", &[])["spec"]["template"]["metadata"]["labels"];
    for (name, value) in minimum["selector"]["matchLabels"].as_mapping().unwrap() {
        assert_eq!(&labels[name], value);
    }
}

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/tests")
}

/// Paths at which `other` lacks a value of `defaults` or has the same.
fn compare(defaults: &Value, other: &Value, path: &str, wrong: &mut Vec<String>) {
    // What is free in form is compared as a whole.
    let free = path.ends_with("resources") || path.ends_with("odeSelector");
    match defaults {
        Value::Mapping(fields) if !fields.is_empty() && !free => {
            for (name, value) in fields {
                let name = name.as_str().unwrap();
                let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
                compare(value, other.get(name).unwrap_or(&Value::Null), &path, wrong);
            }
        }
        _ if other.is_null() || other == defaults => wrong.push(path.to_owned()),
        _ => {}
    }
}
