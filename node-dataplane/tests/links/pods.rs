//! Pods' devices.

use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use axoneme_node::link::device::Device;
use axoneme_node::link::filter::Direction;
use axoneme_node::link::pod::{self, PodSpec};
use axoneme_node::link::route::Owner;
use axoneme_node::link::veth::VethSpec;
use axoneme_node::link::worker::Worker;
use axoneme_node::link::{Links, sysctl};
use axoneme_node::programs::attach::PodProgramFds;

use crate::common::{Pod, ip, pin_trivial_programs};
use crate::{run, veth, with_links};

/// A pod that is connected to its node.
struct Wired {
    pod: Pod,
    spec: VethSpec,
    addresses: Vec<IpAddr>,
    device: Device,
}

impl Wired {
    async fn new(links: &Links, programs: &PodProgramFds) -> Self {
        let pod = Pod::new();
        let (spec, addresses) = (veth("axo0123456789a"), vec![ip("10.9.0.5"), ip("fd09::5")]);
        let device = links.create_veth(&spec, &pod.namespace()).await.unwrap();
        pod::configure(&pod.namespace(), inside(&spec, &addresses, spec.mtu)).await.unwrap();
        links.configure_host_side(&device, &spec, &addresses, programs.as_programs()).await.unwrap();
        Self { pod, spec, addresses, device }
    }
}

fn inside(spec: &VethSpec, addresses: &[IpAddr], mtu: u32) -> PodSpec {
    PodSpec { device: "eth0".into(), addresses: addresses.to_vec(), gateway_mac: spec.host_mac, mtu }
}

#[test]
fn a_pod_is_made_and_answers_the_host() {
    with_links("a_pod_is_made_and_answers_the_host", async |links, paths| {
        let programs = PodProgramFds::open(&paths).unwrap();
        let Wired { pod, spec, addresses, device } = Wired::new(&links, &programs).await;
        let inside = inside(&spec, &addresses, spec.mtu);

        assert_eq!(pod::examine(&pod.namespace(), inside.clone()).await.unwrap(), Vec::<String>::new());
        let (from_pod, to_pod) = programs.ids().unwrap();
        assert_eq!(links.filter(device.index, Direction::Ingress).await.unwrap(), Some(from_pod));
        assert_eq!(links.filter(device.index, Direction::Egress).await.unwrap(), Some(to_pod));
        assert_eq!(sysctl::get(&["ipv4", "conf", &device.name, "rp_filter"]).as_deref(), Some("0"));
        let addresses_of_host_side = run("ip", &["-o", "-6", "address", "show", "dev", &device.name]);
        assert_eq!(addresses_of_host_side, "", "nobody is to learn it, nor the daemon to look at its network again");

        // Any address of the host does for the pod: everything goes to the gateway.
        run("ip", &["link", "set", "lo", "up"]);
        run("ip", &["address", "add", "10.9.0.1/32", "dev", "lo"]);
        run("ip", &["address", "add", "fd09::1/128", "dev", "lo"]);
        for &address in &addresses {
            let listener = pod.inside(move || TcpListener::bind((address, 80)).unwrap());
            TcpStream::connect_timeout(&(address, 80).into(), Duration::from_secs(2)).unwrap();
            drop(listener);
        }
        assert_eq!(
            pod.inside(|| run("ip", &["-o", "route", "show", "default"])).trim(),
            "default via 169.254.1.1 dev eth0 proto 202 onlink mtu 1400"
        );

        // Another version of the program takes the place of the first one.
        pin_trivial_programs(&paths);
        let newer = PodProgramFds::open(&paths).unwrap();
        links.set_filter(device.index, Direction::Ingress, "from_pod", newer.as_programs().from_pod).await.unwrap();
        let current = links.filter(device.index, Direction::Ingress).await.unwrap();
        assert_eq!(current, Some(newer.ids().unwrap().0));
        assert_ne!(current, Some(from_pod));
        let filters = run("tc", &["filter", "show", "dev", &device.name, "ingress"]);
        assert_eq!(filters.matches("handle 0x1").count(), 1, "{filters}");

        pod.inside(|| run("ip", &["address", "flush", "dev", "eth0"]));
        let missing = pod::examine(&pod.namespace(), inside).await.unwrap();
        assert!(missing.contains(&"device eth0 lacks address 10.9.0.5".to_owned()), "{missing:?}");

        links.delete_device(device.index).await.unwrap();
        links.delete_device(device.index).await.unwrap();
        assert_eq!(links.routes(Owner::Pod).await.unwrap(), vec![]);
    });
}

#[test]
fn a_pods_mtu_is_changed_at_both_ends() {
    with_links("a_pods_mtu_is_changed_at_both_ends", async |links, paths| {
        let programs = PodProgramFds::open(&paths).unwrap();
        let Wired { pod, spec, addresses, device } = Wired::new(&links, &programs).await;
        let inside = |mtu| inside(&spec, &addresses, mtu);
        for mtu in [1300, 1500] {
            pod::set_mtu(&pod.namespace(), inside(mtu), spec.pod_mac).await.unwrap();
            assert_eq!(pod::examine(&pod.namespace(), inside(mtu)).await.unwrap(), Vec::<String>::new());
            let link = pod.inside(|| run("ip", &["link", "show", "eth0"]));
            assert!(link.contains(&format!("mtu {mtu}")), "{link}");
        }
        let error = pod::set_mtu(&pod.namespace(), inside(1300), spec.host_mac).await.unwrap_err();
        assert!(error.to_string().starts_with("there is no device eth0 with address"), "{error}");

        // The host says from which address it sends, once that is known; a start that does not know it leaves that.
        run("ip", &["link", "set", "lo", "up"]);
        run("ip", &["address", "add", "192.0.2.1/32", "dev", "lo"]);
        links.set_sources(vec![ip("192.0.2.1")]);
        links.set_pod_routes(device.index, spec.pod_mac, &addresses).await.unwrap();
        let route = "10.9.0.5 dev axo0123456789a proto 202 scope link src 192.0.2.1";
        assert!(run("ip", &["route"]).contains(route));
        Links::connect().unwrap().set_pod_routes(device.index, spec.pod_mac, &addresses).await.unwrap();
        assert!(run("ip", &["route"]).contains(route));
    });
}

/// Has all of these devices removed at once; each must be gone when that is told.
async fn remove_together(links: &Links, removed: &[&str]) {
    let worker = Worker::new(links.clone());
    // While it is at work, it is asked for all of them.
    let busy = worker.run(async |_| {
        std::thread::sleep(Duration::from_millis(50));
        Ok(())
    });
    let removals = removed.iter().map(|name| worker.remove_device(name));
    let (busy, results) = tokio::join!(busy, futures::future::join_all(removals));
    busy.unwrap();
    results.into_iter().for_each(Result::unwrap);
    for name in removed {
        assert_eq!(links.device(name).await.unwrap(), None, "{name} is told to be gone");
    }
}

#[test]
fn devices_are_removed_together_and_no_other_is() {
    with_links("devices_are_removed_together_and_no_other_is", async |links, _| {
        let pod = Pod::new();
        let make = async |name: &str| {
            let spec = VethSpec { pod_name: name.replace("axo", "pod"), ..veth(name) };
            links.create_veth(&spec, &pod.namespace()).await.unwrap();
        };
        let devices = async || links.devices().await.unwrap().into_iter().map(|one| one.name).collect::<Vec<_>>();
        for name in ["axo1", "axo2", "axo3", "axo4", "axo5", "bystander"] {
            make(name).await;
        }
        remove_together(&links, &["axo1", "axo2", "never-there", "axo3"]).await;
        assert_eq!(devices().await, ["lo", "axo4", "axo5", "bystander"]);

        // Left behind by a daemon that died before the kernel was asked to remove it.
        run("ip", &["link", "set", "axo4", "group", &0x6178_6f01.to_string()]);
        for name in ["axo6", "axo7"] {
            make(name).await;
        }
        remove_together(&links, &["axo6", "axo7"]).await;
        assert_eq!(devices().await, ["lo", "axo5", "bystander"]);

        // Somebody has put into the group what cannot be removed.
        run("ip", &["link", "set", "lo", "group", &0x6178_6f01.to_string()]);
        for name in ["axo8", "axo9"] {
            make(name).await;
        }
        remove_together(&links, &["axo8", "axo9", "axo5"]).await;
        assert_eq!(devices().await, ["lo", "bystander"]);
    });
}
