//! The loader, with the built object, a private BPF file system and a cgroup of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on shall say where")]

mod common;

use std::fs;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axoneme_bpf::address::{Address, AddressKey};
use axoneme_bpf::conntrack::Ct;
use axoneme_bpf::inet::{Direction as FlowDirection, Tuple};
use axoneme_bpf::maps;
use axoneme_bpf::policy::Policy;
use axoneme_bpf::programs::{ALL, FROM_UPLINK, SOCK_CONNECT4};
use axoneme_node::endpoint::attachment::{AttachmentKey, PodSandbox};
use axoneme_node::endpoint::metrics::Metrics;
use axoneme_node::endpoint::store::Store;
use axoneme_node::endpoint::{AddRequest, EndpointMaps, Endpoints, Parts};
use axoneme_node::link::Links;
use axoneme_node::link::filter::Direction;
use axoneme_node::maps::per_cpu::Counters;
use axoneme_node::maps::pressure::Pressure;
use axoneme_node::maps::{KernelMap, OpenError, Pinned, bpf};
use axoneme_node::programs::attach::{Attacher, UPLINK};
use axoneme_node::programs::sizes::Sizes;
use axoneme_node::programs::{LoadConfig, LoadError, Paths, is_loaded, load, syscall};
use axoneme_node::reconcile::ops::{MapError, MapOps};
use common::host::Cgroup;
use common::{Bottle, FakePods, FakeReports, Pod, SharedPods, block_on, ip, names, on_node, privileged};

fn with_loaded(test: &'static str, scenario: fn(&Bottle, LoadConfig)) {
    if !privileged(test) {
        return;
    }
    on_node(move |bottle| {
        let cgroup = Cgroup::new(test);
        let config = LoadConfig {
            root: bottle.paths().root().to_owned(),
            cgroup_root: cgroup.0.clone(),
            ..LoadConfig::default()
        };
        let report = load(&config).unwrap();
        assert_eq!((report.maps_created.len(), report.programs_replaced.len()), (maps::ALL.len(), ALL.len()));
        assert!(report.maps_replaced.is_empty());
        scenario(bottle, config);
    });
}

fn program_id(paths: &Paths, name: &str) -> u32 {
    syscall::program_info(bpf::open_pinned(&paths.programs().join(name)).unwrap().as_fd()).unwrap().id
}

fn map_id(paths: &Paths, name: &str) -> u32 {
    bpf::map_info(bpf::open_pinned(&paths.maps().join(name)).unwrap().as_fd()).unwrap().id
}

#[test]
fn a_second_load_changes_nothing() {
    with_loaded("a_second_load_changes_nothing", |bottle, config| {
        let paths = bottle.paths();
        let all = |directory: PathBuf| names(&directory);
        let before = (all(paths.maps()), all(paths.programs()), all(paths.links()), program_id(&paths, FROM_UPLINK));
        let mut pinned: Vec<_> = maps::ALL.iter().map(|name| (*name).to_owned()).collect();
        pinned.sort();
        assert_eq!(before.0, pinned);
        let again = load(&config).unwrap();
        assert!(again.maps_created.is_empty() && again.maps_replaced.is_empty(), "{again:?}");
        assert!(again.programs_replaced.is_empty() && again.links_changed == 0 && again.pods_changed == 0, "{again:?}");
        assert_eq!(
            (all(paths.maps()), all(paths.programs()), all(paths.links()), program_id(&paths, FROM_UPLINK)),
            before
        );
        assert_eq!(all(paths.staging()), Vec::<String>::new());

        // A daemon that starts need not even ask for it, unless another build, other sizes or other hands were at work.
        assert!(is_loaded(&config));
        let sizes = Sizes { nat: Some(20_000), ..config.sizes };
        assert!(!is_loaded(&LoadConfig { sizes, ..config.clone() }));
        let other = bpf::open_pinned(&paths.programs().join("to_uplink")).unwrap();
        fs::remove_file(paths.programs().join(FROM_UPLINK)).unwrap();
        assert!(!is_loaded(&config));
        bpf::pin(other.as_fd(), &paths.programs().join(FROM_UPLINK)).unwrap();
        assert!(!is_loaded(&config));
    });
}

#[test]
fn another_version_of_a_program_takes_over_where_the_old_one_ran() {
    with_loaded("another_version_of_a_program_takes_over", |bottle, config| {
        let paths = bottle.paths();
        let device = block_on(async {
            let links = Links::connect().unwrap();
            let lo = links.device("lo").await.unwrap().unwrap();
            Attacher::new(paths.clone(), links).unwrap().attach(&lo, &UPLINK).await.unwrap();
            lo.index
        });
        // As if an older version had pinned and attached other programs.
        let (kept_link, old) = (paths.links().join(format!("{FROM_UPLINK}_{device}")), program_id(&paths, FROM_UPLINK));
        let link_id = |path: &PathBuf| syscall::link_info(bpf::open_pinned(path).unwrap().as_fd()).unwrap();
        let id = link_id(&kept_link).id;
        let other = bpf::open_pinned(&paths.programs().join("to_uplink")).unwrap();
        for name in [FROM_UPLINK, "obsolete"] {
            let _ = fs::remove_file(paths.programs().join(name));
            bpf::pin(other.as_fd(), &paths.programs().join(name)).unwrap();
        }
        let map = bpf::open_pinned(&paths.maps().join(maps::METRICS)).unwrap();
        bpf::pin(map.as_fd(), &paths.maps().join("obsolete")).unwrap();
        syscall::update(bpf::open_pinned(&kept_link).unwrap().as_fd(), other.as_fd()).unwrap();

        let report = load(&config).unwrap();
        assert_eq!((report.programs_replaced, report.links_changed), (vec![FROM_UPLINK.to_owned()], 1));
        let now = link_id(&kept_link);
        assert_eq!((now.id, now.program), (id, program_id(&paths, FROM_UPLINK)));
        assert_ne!(now.program, old);
        assert!(!paths.programs().join("obsolete").exists() && !paths.maps().join("obsolete").exists());
    });
}

#[test]
fn a_map_of_another_definition_is_replaced_and_keeps_what_still_means_the_same() {
    with_loaded("a_map_of_another_definition_is_replaced", |bottle, mut config| {
        let paths = bottle.paths();
        let flow = Tuple::new(FlowDirection::EGRESS, 6, (ip("10.0.0.5"), 40_000), (ip("10.1.0.5"), 80));
        let ct = Ct { expires: 7, ..Ct::default() };
        KernelMap::open(&paths.maps(), maps::CT_TCP).unwrap().update(&flow, &ct).unwrap();
        let endpoints = map_id(&paths, maps::ENDPOINTS);
        // Made by a version with other keys.
        fs::remove_file(paths.maps().join(maps::ENDPOINTS)).unwrap();
        let other = bpf::open_pinned(&paths.maps().join(maps::SERVICES)).unwrap();
        bpf::pin(other.as_fd(), &paths.maps().join(maps::ENDPOINTS)).unwrap();
        match KernelMap::<u32, axoneme_bpf::endpoint::Endpoint>::open(&paths.maps(), maps::ENDPOINTS) {
            Err(OpenError::Layout { found_key, key, .. }) => assert_eq!((found_key, key), (20, 4)),
            other => panic!("opened: {other:?}"),
        }
        // And a person wants more connections.
        config.sizes.ct_tcp = Some(50_000);

        let report = load(&config).unwrap();
        assert_eq!(
            report.maps_replaced.into_iter().collect::<Vec<_>>(),
            [("ax_ct_tcp".into(), Some(1)), ("ax_endpoints".into(), None)]
        );
        let replaced: KernelMap<Tuple, Ct> = KernelMap::open(&paths.maps(), maps::CT_TCP).unwrap();
        assert_eq!((replaced.capacity(), replaced.get(&flow).unwrap()), (50_000, Some(ct)));
        assert_ne!(map_id(&paths, maps::ENDPOINTS), endpoints);
        Pinned::open(&paths.maps()).unwrap();
        let programs_use_it = load(&config).unwrap();
        assert!(programs_use_it.programs_replaced.is_empty(), "{programs_use_it:?}");
    });
}

#[test]
fn what_is_missing_is_told_before_anything_is_touched() {
    if !privileged("what_is_missing_is_told_before_anything_is_touched") {
        return;
    }
    on_node(|bottle| {
        let config =
            LoadConfig { root: bottle.path("bpf/axoneme"), cgroup_root: "/tmp".into(), ..LoadConfig::default() };
        let error = load(&config).unwrap_err();
        assert_eq!(
            error.to_string(),
            "/tmp is no cgroup v2 hierarchy, nor is unified/ in it: set cgroup.hostRoot to where the host has it mounted"
        );
        assert!(!config.root.exists());

        let cgroup = Cgroup::new("missing");
        let nowhere = LoadConfig { root: bottle.path("nowhere/axoneme"), cgroup_root: cgroup.0.clone(), ..config };
        assert!(matches!(load(&nowhere), Err(LoadError::Bpffs(_))));

        // A host with both versions of cgroups.
        let hybrid = bottle.path("cgroup");
        fs::create_dir_all(hybrid.join("unified")).unwrap();
        let bind = nix::mount::MsFlags::MS_BIND;
        nix::mount::mount(Some(&cgroup.0), &hybrid.join("unified"), None::<&str>, bind, None::<&str>).unwrap();
        let nowhere = LoadConfig { cgroup_root: hybrid.clone(), ..nowhere };

        // Where no BPF file system is, one is mounted.
        fs::create_dir(bottle.path("fresh")).unwrap();
        let fresh = LoadConfig { root: bottle.path("fresh/axoneme"), ..nowhere };
        load(&fresh).unwrap();
        assert!(fresh.root.join("maps").join(maps::CONFIG).exists());
        nix::mount::umount(&bottle.path("fresh")).unwrap();
        nix::mount::umount(&hybrid.join("unified")).unwrap();
    });
}

#[test]
fn kernel_maps_do_what_the_reconcilers_need() {
    with_loaded("kernel_maps_do_what_the_reconcilers_need", |bottle, _| {
        let pinned = Pinned::open(&bottle.paths().maps()).unwrap();
        let mut addresses = pinned.addresses;
        let key = |i: u32| AddressKey::from(std::net::IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + i)));
        for i in 0..10_000 {
            addresses.update(&key(i), &Address::endpoint(i + 1)).unwrap();
        }
        let mut seen = 0_u64;
        addresses.dump(&mut |_, value| seen += u64::from(value.ifindex)).unwrap();
        assert_eq!(seen, 10_000 * 10_001 / 2);
        assert_eq!(Pressure::of(&addresses).unwrap(), Pressure { entries: 10_000, capacity: 131_072 });
        addresses.delete(&key(5)).unwrap();
        addresses.delete(&key(5)).unwrap();
        assert_eq!(addresses.get(&key(5)).unwrap(), None);
        assert_eq!(addresses.get(&key(6)).unwrap(), Some(Address::endpoint(7)));

        // An array has all its entries always.
        let mut policies = pinned.policies;
        let policy = Policy { slot: 3, generation: 9, ..Policy::default() };
        policies.update(&7, &policy).unwrap();
        let mut written = Vec::new();
        let mut all = 0;
        policies
            .dump(&mut |index, value| {
                all += 1;
                if value != Policy::default() {
                    written.push((index, value));
                }
            })
            .unwrap();
        assert_eq!((all, written), (policies.capacity(), vec![(7, policy)]));
        policies.delete(&7).unwrap();
        assert_eq!(policies.get(&7).unwrap(), Some(Policy::default()));

        // A trie.
        let mut cidrs = pinned.cidrs;
        for i in 0..100_u8 {
            let key = axoneme_bpf::address::CidrKey::new(std::net::IpAddr::from([10, i, 0, 0]), 16);
            cidrs.update(&key, &Address::pod(0, ip("192.0.2.1"))).unwrap();
        }
        assert_eq!(Pressure::of(&cidrs).unwrap().entries, 100);

        let mut endpoints = pinned.endpoints;
        let full = (0..5000).find_map(|i| endpoints.update(&i, &Default::default()).err()).unwrap();
        assert!(matches!(full, MapError::Capacity { map: "ax_endpoints", capacity: 4096 }), "{full:?}");
        assert_eq!(Counters::open(&bottle.paths().maps()).unwrap().read().unwrap(), vec![]);
    });
}

#[test]
fn fifty_pods_are_attached_quickly_and_get_new_programs() {
    with_loaded("fifty_pods_are_attached_quickly", |bottle, config| {
        const PODS: u8 = 50;
        let paths = bottle.paths();
        let pinned = Pinned::open(&paths.maps()).unwrap();
        let fake = FakePods::connected();
        let (pods, took): (Vec<Pod>, Vec<Duration>) = block_on(async {
            let endpoints = Endpoints::new(Parts {
                links: Links::connect().unwrap(),
                paths: paths.clone(),
                store: Store::open(bottle.path("attachments")).unwrap(),
                maps: EndpointMaps {
                    endpoints: Box::new(pinned.endpoints),
                    addresses: Box::new(pinned.addresses),
                    bandwidth: Box::new(pinned.bandwidth),
                },
                pods: Arc::new(SharedPods(fake.clone())),
                reports: Arc::new(FakeReports::default()),
                deferred: bottle.path("deferred"),
                metrics: Metrics::default(),
                wait: Duration::from_secs(1),
            });
            let (mut pods, mut took) = (Vec::new(), Vec::new());
            for i in 0..PODS {
                let (uid, address) = (format!("u{i}"), format!("10.0.0.{i}"));
                fake.set(&uid, 1000 + u32::from(i), 1, &[address.as_str()]);
                let pod = Pod::new();
                let add = AddRequest {
                    key: AttachmentKey { container_id: format!("c{i}"), interface: "eth0".into() },
                    pod: PodSandbox { uid, namespace: "shop".into(), name: format!("web-{i}") },
                    netns: "test".into(),
                    network: "axoneme".into(),
                    chained: None,
                };
                let started = Instant::now();
                endpoints.add(&add, &pod.namespace()).await.unwrap();
                took.push(started.elapsed());
                pods.push(pod);
            }
            (pods, took)
        });
        let mut sorted = took;
        sorted.sort();
        eprintln!("ADD of {PODS} pods: median {:?}, longest {:?}", sorted[sorted.len() / 2], sorted[sorted.len() - 1]);

        // Other programs than the pods run: they are replaced on all of them.
        let other = bpf::open_pinned(&paths.programs().join(FROM_UPLINK)).unwrap();
        fs::remove_file(paths.programs().join("from_pod")).unwrap();
        bpf::pin(other.as_fd(), &paths.programs().join("from_pod")).unwrap();
        let report = load(&config).unwrap();
        assert_eq!((report.programs_replaced, report.pods_changed), (vec!["from_pod".to_owned()], usize::from(PODS)));
        block_on(async {
            let links = Links::connect().unwrap();
            let id = program_id(&paths, "from_pod");
            for device in links.devices().await.unwrap().into_iter().filter(|device| device.name.starts_with("axo")) {
                assert_eq!(links.filter(device.index, Direction::Ingress).await.unwrap(), Some(id));
            }
        });
        drop(pods);
    });
}

#[test]
fn without_the_cgroups_link_a_load_makes_it_again() {
    with_loaded("without_the_cgroups_link_a_load_makes_it_again", |bottle, mut config| {
        let link = bottle.paths().links().join(SOCK_CONNECT4);
        fs::remove_file(&link).unwrap();
        assert_eq!(load(&config).unwrap().links_changed, 1);
        assert!(link.exists());
        // Another cgroup is configured: all links move there.
        let other = Cgroup::new("other");
        config.cgroup_root = other.0.clone();
        assert_eq!(load(&config).unwrap().links_changed, 8);
        let info = syscall::link_info(bpf::open_pinned(&link).unwrap().as_fd()).unwrap();
        let id = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&other.0).unwrap());
        assert_eq!(u64::from(info.target), id & 0xffff_ffff);
    });
}
