//! Two nodes with real devices: what needs a redirect, a tunnel key or segmentation offload.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test panics")]

mod common;

use axoneme_bpf::address::Address;
use axoneme_bpf::endpoint::Endpoint;
use axoneme_bpf::inet::{Direction, Tuple};
use axoneme_bpf::metrics::Reason;
use axoneme_bpf::policy::{Action, RulePeer};
use common::cluster::{Cluster, Routing, remote_endpoint};
use common::node::{self, Net, at, isolating, normal, port_rule, rule};
use common::packet::{TCP, UDP};
use common::traffic::{datagrams, tcp, udp};

const MEGABYTE: usize = 1 << 20;
const INGRESS: Direction = Direction::INGRESS;

privileged! {
    fn pods_of_one_node_talk() {
        let mut cluster = Cluster::new();
        for net in Net::BOTH {
            let (client, server) = (&cluster.client.netns, &cluster.server.netns);
            let seen = udp(client, server, 53, at(net.server(), 53)).expect("UDP");
            assert_eq!((seen.client.ip(), seen.server), (net.client(), at(net.server(), 53)));
            let seen = tcp(client, server, 80, at(net.server(), 80), MEGABYTE).expect("TCP");
            assert_eq!((seen.client.ip(), seen.server), (net.client(), at(net.server(), 80)));
        }
        assert_eq!(cluster.here.kernel.drops(), []);
    }
}

privileged! {
    fn pods_of_two_nodes_talk_and_the_identity_travels_along() {
        let mut cluster = Cluster::new();
        for net in Net::BOTH {
            // Nobody at the other node knows the client's address.
            cluster.there.kernel.address(net.client(), Address::pod(0, net.host()));
            let seen = udp(&cluster.client.netns, &cluster.remote.netns, 53, at(net.remote(), 53)).expect("UDP");
            assert_eq!((seen.client.ip(), seen.server), (net.client(), at(net.remote(), 53)));
            let flow = Tuple::new(INGRESS, UDP, (seen.client.ip(), seen.client.port()), (net.remote(), 53));
            let ct = cluster.there.kernel.ct(flow).expect("an entry at the other node");
            assert_eq!(ct.peer_identity, node::CLIENT_IDENTITY);

            let seen = tcp(&cluster.client.netns, &cluster.remote.netns, 80, at(net.remote(), 80), MEGABYTE).expect("TCP");
            assert_eq!(seen.client.ip(), net.client());
        }
        assert_eq!((cluster.here.kernel.drops(), cluster.there.kernel.drops()), (vec![], vec![]));
    }
}

privileged! {
    fn nodes_that_are_no_neighbours_are_tunnelled_to_by_the_hosts_routes() {
        let mut cluster = Cluster::routed(Routing::VxlanRouted);
        for net in Net::BOTH {
            let (client, remote) = (&cluster.client.netns, &cluster.remote.netns);
            assert!(datagrams(client, remote, 53, at(net.remote(), 53), 5000).is_some());
            assert!(tcp(client, remote, 80, at(net.remote(), 80), MEGABYTE).is_some());
        }
        assert_eq!((cluster.here.kernel.drops(), cluster.there.kernel.drops()), (vec![], vec![]));
    }
}

privileged! {
    fn tunnel_packets_leave_with_the_address_by_which_nodes_know_each_other() {
        for routing in [Routing::Vxlan, Routing::VxlanRouted] {
            let mut cluster = Cluster::routed(routing);
            for (net, other, bits) in [(Net::V4, "192.0.2.77", 24), (Net::V6, "2001:db8::77", 64)] {
                let (here, remote) = (&cluster.here.netns, &cluster.remote.netns);
                here.ip(&format!("addr add {other}/{bits} dev uplink0 nodad"));
                here.ip(&format!("route replace {}/{} dev uplink0 src {other}", net.node(), net.bits()));
                let seen = datagrams(here, &cluster.there.netns, 53, at(net.node(), 53), 4).expect("the other node");
                assert_eq!(seen.client.ip(), other.parse::<std::net::IpAddr>().unwrap(), "what the kernel chooses");

                let seen = datagrams(&cluster.client.netns, remote, 53, at(net.remote(), 53), 4).expect("from a pod");
                assert_eq!(seen.client.ip(), net.client());
                let seen = datagrams(here, remote, 53, at(net.remote(), 53), 4).expect("from the host");
                assert_eq!(seen.client.ip(), net.host_overlay());
            }
            assert_eq!((cluster.here.kernel.drops(), cluster.there.kernel.drops()), (vec![], vec![]));
        }
    }
}

privileged! {
    fn large_datagrams_travel_in_fragments_everywhere() {
        let mut cluster = Cluster::new();
        for net in Net::BOTH {
            let frontend = at(net.cluster_ip(), 53);
            cluster.here.kernel.service(frontend, UDP, 5, 1, &[at(net.remote(), 5353)]);
            let (client, remote, there) = (&cluster.client.netns, &cluster.remote.netns, &cluster.there.netns);
            let seen = datagrams(client, &cluster.server.netns, 53, at(net.server(), 53), 5000).expect("a pod of the node");
            assert_eq!(seen.client.ip(), net.client());
            let seen = datagrams(client, remote, 53, at(net.remote(), 53), 5000).expect("a pod of the other node");
            assert_eq!(seen.client.ip(), net.client());
            let seen = datagrams(client, remote, 5353, frontend, 5000).expect("a service");
            assert_eq!(seen.server, frontend);
            let seen = datagrams(client, there, 53, at(net.node(), 53), 5000).expect("the other node");
            assert_eq!(seen.client.ip(), net.host(), "masqueraded");
            let seen = datagrams(client, &cluster.here.netns, 53, at(net.host(), 53), 5000).expect("the host");
            assert_eq!(seen.client.ip(), net.client());
            datagrams(&cluster.here.netns, remote, 53, at(net.remote(), 53), 5000).expect("from the host");
        }
        assert_eq!((cluster.here.kernel.drops(), cluster.there.kernel.drops()), (vec![], vec![]));
    }
}

privileged! {
    fn pods_find_their_gateway_by_asking() {
        let mut cluster = Cluster::new();
        for (net, gateway) in [(Net::V4, "169.254.1.1"), (Net::V6, "fe80::1")] {
            cluster.client.netns.ip(&format!("neigh del {gateway} dev eth0"));
            // The first packet waits for the answer, and on a busy machine not long enough.
            let seen = datagrams(&cluster.client.netns, &cluster.remote.netns, 53, at(net.remote(), 53), 4);
            assert!(seen.is_some(), "{gateway}: {:?}", cluster.here.kernel.drops());
        }
        assert_eq!(cluster.here.kernel.drops(), []);
    }
}

privileged! {
    fn tcp_learns_what_fits_through_the_tunnel() {
        let mut cluster = Cluster::new();
        for (node, device, pod) in
            [(&cluster.here, "axclient", &cluster.client), (&cluster.there, "axremote", &cluster.remote)]
        {
            node.netns.ip(&format!("link set {device} mtu 1500"));
            pod.netns.ip("link set eth0 mtu 1500");
        }
        for net in Net::BOTH {
            let frontend = at(net.cluster_ip(), 80);
            cluster.here.kernel.service(frontend, TCP, 5, 1, &[at(net.remote(), 8080)]);
            tcp(&cluster.client.netns, &cluster.remote.netns, 80, at(net.remote(), 80), MEGABYTE).expect("directly");
            // Nothing was learnt about this address yet, and the host's complaint quotes the backend.
            tcp(&cluster.client.netns, &cluster.remote.netns, 8080, frontend, MEGABYTE).expect("through a service");
        }
        assert_eq!((cluster.here.kernel.drops(), cluster.there.kernel.drops()), (vec![], vec![]));
    }
}

privileged! {
    fn the_other_nodes_policy_judges_by_the_identity_in_the_tunnel() {
        let mut cluster = Cluster::new();
        cluster.there.kernel.policy(3, isolating(3, 5));
        cluster.there.kernel.rule(
            port_rule(3, RulePeer::identity(node::CLIENT_IDENTITY), INGRESS, TCP, 80),
            normal(Action::ALLOW, 1),
        );
        for net in Net::BOTH {
            let (client, server, remote) = (&cluster.client.netns, &cluster.server.netns, &cluster.remote.netns);
            assert!(tcp(client, remote, 80, at(net.remote(), 80), 10).is_some());
            assert!(tcp(client, remote, 81, at(net.remote(), 81), 10).is_none());
            assert!(tcp(server, remote, 80, at(net.remote(), 80), 10).is_none());
            let event = *cluster.there.kernel.events().last().expect("an event");
            assert_eq!((event.reason, event.source_identity), (Reason::POLICY_DEFAULT_DENY, node::SERVER_IDENTITY));
            assert_eq!(event.cookie, 100);
        }
    }
}

privileged! {
    fn vni_from_unknown_node_is_dropped() {
        let mut cluster = Cluster::new();
        // Some pod's address instead of a node's, and the source is another node's.
        cluster.there.kernel.address(Net::V4.host(), Address::pod(0, Net::V4.host()));
        cluster.there.kernel.address(Net::V4.client(), Address::pod(node::CLIENT_IDENTITY, Net::V4.node()));
        let reached = udp(&cluster.client.netns, &cluster.remote.netns, 53, at(Net::V4.remote(), 53));
        assert_eq!(reached, None);
        assert_eq!(cluster.there.kernel.drops(), [(Reason::UNKNOWN_SENDER, INGRESS, 1)]);
    }
}

privileged! {
    fn identities_that_mean_something_on_one_node_only_are_refused_on_the_wire() {
        for identity in [1, 2] {
            let mut cluster = Cluster::new();
            cluster.here.kernel.endpoint(cluster.client.ifindex, Endpoint { identity, ..cluster.client.endpoint });
            let reached = udp(&cluster.client.netns, &cluster.remote.netns, 53, at(Net::V4.remote(), 53));
            assert_eq!(reached, None, "identity {identity}");
            assert_eq!(cluster.there.kernel.drops(), [(Reason::INVALID_IDENTITY, INGRESS, 1)]);
        }
    }
}

privileged! {
    fn a_vni_that_contradicts_a_listed_address_is_dropped() {
        let mut cluster = Cluster::new();
        for net in Net::BOTH {
            cluster.there.kernel.address(net.client(), Address::pod(node::CLIENT_IDENTITY + 1, net.host()));
            assert_eq!(udp(&cluster.client.netns, &cluster.remote.netns, 53, at(net.remote(), 53)), None);
        }
        assert_eq!(cluster.there.kernel.drops(), [(Reason::INVALID_IDENTITY, INGRESS, 2)]);
    }
}

privileged! {
    fn a_tunnelled_packet_from_one_of_the_receivers_own_addresses_is_dropped() {
        let mut cluster = Cluster::new();
        cluster.there.kernel.address(Net::V4.client(), Address::host());
        assert_eq!(udp(&cluster.client.netns, &cluster.remote.netns, 53, at(Net::V4.remote(), 53)), None);
        assert_eq!(cluster.there.kernel.drops(), [(Reason::INVALID_SOURCE_IP, INGRESS, 1)]);
    }
}

privileged! {
    fn a_tunnelled_packet_for_nobody_is_dropped() {
        let mut cluster = Cluster::new();
        for net in Net::BOTH {
            cluster.here.kernel.address(net.unlisted(), Address::pod(0, net.node()));
            assert_eq!(udp(&cluster.client.netns, &cluster.remote.netns, 53, at(net.unlisted(), 53)), None);
        }
        assert_eq!(cluster.there.kernel.drops(), [(Reason::NO_ENDPOINT, INGRESS, 2)]);
    }
}

privileged! {
    fn the_host_reaches_its_own_isolated_pods() {
        let mut cluster = Cluster::new();
        cluster.here.kernel.policy(node::SERVER_POLICY, isolating(node::SERVER_POLICY, 9));
        for net in Net::BOTH {
            let seen = tcp(&cluster.here.netns, &cluster.server.netns, 80, at(net.server(), 80), MEGABYTE).expect("a probe");
            assert!([net.host(), net.host_overlay()].contains(&seen.client.ip()), "{}", seen.client);
        }
        assert_eq!(cluster.here.kernel.drops(), []);
    }
}

privileged! {
    fn the_host_reaches_other_nodes_pods_as_remote_node_from_its_overlay_address() {
        let mut cluster = Cluster::new();
        cluster.there.kernel.policy(3, isolating(3, 5));
        for net in Net::BOTH {
            let (host, remote) = (&cluster.here.netns, &cluster.remote.netns);
            assert!(udp(host, remote, 53, at(net.remote(), 53)).is_none(), "another node's host has no privilege");
        }
        cluster.there.kernel.rule(rule(3, RulePeer::ANY_NODE, INGRESS), normal(Action::ALLOW, 1));
        for net in Net::BOTH {
            let seen = tcp(&cluster.here.netns, &cluster.remote.netns, 80, at(net.remote(), 80), MEGABYTE).expect("TCP");
            assert_eq!(seen.client.ip(), net.host_overlay());
        }
        assert_eq!(cluster.here.kernel.drops(), []);
    }
}

privileged! {
    fn a_pod_reaches_its_own_host_with_its_own_address() {
        let mut cluster = Cluster::new();
        for net in Net::BOTH {
            for host in [net.host(), net.host_overlay()] {
                let seen = tcp(&cluster.client.netns, &cluster.here.netns, 80, at(host, 80), MEGABYTE).expect("TCP");
                assert_eq!(seen.client.ip(), net.client());
            }
        }
        assert_eq!(cluster.here.kernel.drops(), []);
    }
}

privileged! {
    fn a_pod_reaches_another_node_with_its_hosts_address() {
        let mut cluster = Cluster::new();
        for net in Net::BOTH {
            let (pod, there) = (&cluster.client.netns, &cluster.there.netns);
            let seen = tcp(pod, there, 80, at(net.node(), 80), MEGABYTE).expect("TCP");
            assert_eq!((seen.client.ip(), seen.server), (net.host(), at(net.node(), 80)));
            let seen = udp(pod, there, 53, at(net.node(), 53)).expect("UDP");
            assert_eq!(seen.client.ip(), net.host());
        }
        assert_eq!(cluster.here.kernel.drops(), []);
    }
}

privileged! {
    fn a_pod_reaches_another_nodes_overlay_address_through_the_tunnel() {
        let mut cluster = Cluster::new();
        for net in Net::BOTH {
            let (pod, there) = (&cluster.client.netns, &cluster.there.netns);
            let seen = tcp(pod, there, 80, at(net.node_overlay(), 80), MEGABYTE).expect("TCP");
            assert_eq!(seen.client.ip(), net.client());
        }
        assert_eq!((cluster.here.kernel.drops(), cluster.there.kernel.drops()), (vec![], vec![]));
    }
}

privileged! {
    fn the_host_and_its_pods_share_the_way_out() {
        let cluster = Cluster::new();
        for net in Net::BOTH {
            for client in [&cluster.here.netns, &cluster.client.netns, &cluster.server.netns] {
                let seen = tcp(client, &cluster.there.netns, 80, at(net.node(), 80), MEGABYTE).expect("TCP");
                assert_eq!(seen.client.ip(), net.host());
            }
        }
    }
}

privileged! {
    fn a_cluster_ip_reaches_backends_everywhere() {
        for net in Net::BOTH {
            let mut cluster = Cluster::new();
            let frontend = at(net.cluster_ip(), 80);
            let backends = [
                (at(net.server(), 8080), &cluster.server.netns),
                (at(net.remote(), 8080), &cluster.remote.netns),
                (at(net.host(), 8080), &cluster.here.netns),
                (at(net.node(), 8080), &cluster.there.netns),
            ];
            for (revision, (backend, netns)) in (1..).zip(backends) {
                for protocol in [TCP, UDP] {
                    cluster.here.kernel.service(frontend, protocol, u32::from(protocol), revision, &[backend]);
                }
                let client = &cluster.client.netns;
                let seen = tcp(client, netns, 8080, frontend, MEGABYTE).unwrap_or_else(|| panic!("TCP to {backend}"));
                assert_eq!(seen.server, frontend);
                let seen = udp(client, netns, 8080, frontend).unwrap_or_else(|| panic!("UDP to {backend}"));
                assert_eq!(seen.server, frontend, "the answer comes from the service");
            }
            assert_eq!(cluster.here.kernel.drops(), []);
        }
    }
}

privileged! {
    fn a_pod_reaches_itself_through_a_service() {
        for net in Net::BOTH {
            let mut cluster = Cluster::new();
            let frontend = at(net.cluster_ip(), 80);
            for protocol in [TCP, UDP] {
                cluster.here.kernel.service(frontend, protocol, u32::from(protocol), 1, &[at(net.client(), 8080)]);
            }
            let pod = &cluster.client.netns;
            let seen = tcp(pod, pod, 8080, frontend, MEGABYTE).expect("TCP");
            assert_eq!(seen.client.ip(), net.hairpin());
            let seen = udp(pod, pod, 8080, frontend).expect("UDP");
            assert_eq!(seen.server, frontend);
            assert_eq!(cluster.here.kernel.drops(), []);
        }
    }
}

privileged! {
    fn an_established_connection_is_cut_when_its_policy_changes_at_the_other_node() {
        use std::io::{Read, Write};
        for net in Net::BOTH {
            let mut cluster = Cluster::new();
            let listener = cluster.remote.netns.run(|| std::net::TcpListener::bind(at(net.remote(), 80)).unwrap());
            let mut stream = cluster.client.netns.run(|| std::net::TcpStream::connect(at(net.remote(), 80)).unwrap());
            let (mut accepted, _) = listener.accept().unwrap();
            let patience = std::time::Duration::from_millis(300);
            accepted.set_read_timeout(Some(patience)).unwrap();
            let mut byte = [0];
            stream.write_all(b"1").unwrap();
            accepted.read_exact(&mut byte).unwrap();

            cluster.there.kernel.policy(remote_endpoint().policy, isolating(3, 50));
            stream.write_all(b"2").unwrap();
            assert!(accepted.read_exact(&mut byte).is_err(), "the policy holds for what is open already");
            assert!(cluster.there.kernel.count(Reason::POLICY_DEFAULT_DENY, INGRESS) > 0);

            cluster.there.kernel.policy(remote_endpoint().policy, node::open(3, 51));
            accepted.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            accepted.read_exact(&mut byte).expect("retransmitted");
        }
    }
}
